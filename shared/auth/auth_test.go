package auth_test

import (
	"encoding/json"
	"maps"
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"orgservice/shared/auth"
)

func TestCallerContext(t *testing.T) {
	want := newCaller()
	// A gateway passes the context on as JSON.
	encoded, err := json.Marshal(want.Context())
	if err != nil {
		t.Fatal(err)
	}
	var values map[string]any
	if err := json.Unmarshal(encoded, &values); err != nil {
		t.Fatal(err)
	}
	for key, value := range values {
		if _, ok := value.(string); !ok {
			t.Errorf("%s is %T, want a string", key, value)
		}
	}
	got, ok := auth.CallerFromContext(values)
	if !ok {
		t.Fatalf("CallerFromContext(%s) = false", encoded)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("caller (-want +got):\n%s", diff)
	}
}

func TestCallerContextOfLargeNumbers(t *testing.T) {
	want := newCaller()
	want.TokenVersion, want.ExpiresAt = math.MaxInt64, time.Unix(1<<62, 0)
	if version := want.Context()["token_version"]; version != "9223372036854775807" {
		t.Errorf("token_version = %v", version)
	}
	if got, ok := auth.CallerFromContext(want.Context()); !ok || !cmp.Equal(want, got) {
		t.Errorf("CallerFromContext(%v) = %+v, %v", want.Context(), got, ok)
	}
}

func TestCallerFromContextErr(t *testing.T) {
	if c, ok := auth.CallerFromContext(nil); ok {
		t.Errorf("CallerFromContext(nil) = %+v", c)
	}
	for key := range newCaller().Context() {
		if key == "role" { // tokens of older versions have none
			continue
		}
		for name, value := range map[string]any{
			"missing":  nil,
			"empty":    "",
			"a number": 7.0,
			"a list":   []any{"7"},
		} {
			t.Run(key+" "+name, func(t *testing.T) { wantNoCaller(t, key, value) })
		}
	}
	for _, key := range []string{"token_version", "expires_at"} {
		for _, value := range []string{"x", "1.5", "1e3", " 1", "0x1", "99999999999999999999"} {
			t.Run(key+" "+value, func(t *testing.T) { wantNoCaller(t, key, value) })
		}
	}
}

func wantNoCaller(t *testing.T, key string, value any) {
	t.Helper()
	values := maps.Clone(newCaller().Context())
	if _, ok := values[key]; !ok {
		t.Fatalf("the context has no %s", key)
	}
	values[key] = value
	if value == nil {
		delete(values, key)
	}
	if c, ok := auth.CallerFromContext(values); ok {
		t.Errorf("CallerFromContext(%v) = %+v", values, c)
	}
}

func TestCallerContextKeepsSeconds(t *testing.T) {
	c := newCaller()
	c.ExpiresAt = c.ExpiresAt.Add(900 * time.Millisecond)
	got, ok := auth.CallerFromContext(c.Context())
	if !ok || got.ExpiresAt.After(c.ExpiresAt) {
		t.Errorf("expiry %v became %v: a token must not live longer on its way", c.ExpiresAt, got.ExpiresAt)
	}
}
