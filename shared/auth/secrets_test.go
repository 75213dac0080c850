package auth_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"orgservice/shared/auth"
)

// TestSecrets rotates secrets, takes one away, and lets the look-up fail.
func TestSecrets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		known, loads := []string{"one", "two"}, 0
		var failure error
		load := func(context.Context) ([]string, error) {
			loads++
			return known, failure
		}
		secrets, err := auth.NewSecrets(t.Context(), load)
		if err != nil {
			t.Fatal(err)
		}
		want := func(text string, has bool, refused error, loaded int) {
			t.Helper()
			loads = 0
			if got, err := secrets.Has(t.Context(), text); got != has || !errors.Is(err, refused) || (err == nil) != (refused == nil) || loads != loaded {
				t.Errorf("%q: %v, %v after %d loads; want %v, %v, %d", text, got, err, loads, has, refused, loaded)
			}
		}
		want("one", true, nil, 0)
		want("two", true, nil, 0)
		for _, text := range []string{"", "on", "onee", "one two", "three"} {
			want(text, false, nil, 0)
		}
		if has, err := secrets.Has(t.Context(), "x", "two"); !has || err != nil {
			t.Errorf("the second of two texts: %v, %v", has, err)
		}
		if has, err := secrets.Has(t.Context()); has || err != nil {
			t.Errorf("no text: %v, %v", has, err)
		}
		known = []string{"three"}
		want("three", false, nil, 0) // within the minute
		time.Sleep(time.Minute - time.Nanosecond)
		want("three", false, nil, 0)
		time.Sleep(time.Nanosecond)
		want("one", true, nil, 0) // it is known, so nothing is loaded
		want("three", true, nil, 1)
		want("one", false, nil, 0)
		failure = errors.New("no network")
		time.Sleep(time.Minute)
		want("four", false, failure, 1)
		want("four", false, failure, 0)
		want("three", true, nil, 0)
		time.Sleep(5 * time.Minute)
		want("three", true, nil, 1) // the ones from before stay
		failure, known = nil, []string{"four"}
		time.Sleep(5 * time.Minute)
		want("three", false, nil, 1)
		want("four", true, nil, 0)

		failure = errors.New("no network")
		if _, err := auth.NewSecrets(t.Context(), load); !errors.Is(err, failure) {
			t.Errorf("NewSecrets: %v", err)
		}
	})
}
