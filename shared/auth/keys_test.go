package auth_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"orgservice/shared/auth"
)

// TestKeys rotates the keys, and lets the look-up of them fail.
func TestKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		token := func(letter string) string {
			signer, err := auth.NewSigner([]byte(strings.Repeat(letter, auth.MinSecretBytes)))
			if err != nil {
				t.Fatal(err)
			}
			token, err := signer.Sign(auth.Caller{AdminID: "a", OrganizationID: "o", SessionID: "s", ExpiresAt: time.Now().Add(time.Hour)}, time.Now())
			if err != nil {
				t.Fatal(err)
			}
			return token
		}
		var loads []bool
		known := "1"
		var failure error
		load := func(_ context.Context, all bool) (*auth.Verifier, error) {
			if loads = append(loads, all); failure != nil {
				return nil, failure
			}
			var secrets [][]byte
			for letter := range strings.SplitSeq(known, "") {
				secrets = append(secrets, []byte(strings.Repeat(letter, auth.MinSecretBytes)))
			}
			return auth.NewVerifier(secrets...)
		}
		keys, err := auth.NewKeys(t.Context(), load)
		if err != nil {
			t.Fatal(err)
		}
		want := func(letter string, refused error, loaded int) {
			t.Helper()
			loads = nil
			if _, err := keys.Verify(t.Context(), token(letter)); !errors.Is(err, refused) || (err == nil) != (refused == nil) {
				t.Errorf("%s: %v; want %v", letter, err, refused)
			}
			if len(loads) != loaded || loaded > 0 && !loads[0] {
				t.Errorf("%s: loaded %v; want %d times all keys", letter, loads, loaded)
			}
		}
		want("1", nil, 0)
		want("2", auth.ErrUnknownKey, 1)
		known = "21"
		want("2", auth.ErrUnknownKey, 0) // within the minute
		time.Sleep(time.Minute - time.Nanosecond)
		want("2", auth.ErrUnknownKey, 0)
		time.Sleep(time.Nanosecond)
		want("2", nil, 1)
		want("1", nil, 0)
		want("9", auth.ErrUnknownKey, 0)
		time.Sleep(time.Minute)
		failure = errors.New("no network")
		want("9", failure, 1)
		want("9", failure, 0)
		want("2", nil, 0) // the keys from before stay
		time.Sleep(time.Minute)
		failure = nil
		want("9", auth.ErrUnknownKey, 1)

		failure = errors.New("no network")
		if _, err := auth.NewKeys(t.Context(), load); !errors.Is(err, failure) {
			t.Errorf("NewKeys: %v", err)
		}
	})
}
