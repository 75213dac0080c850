package org_test

import (
	"strings"
	"testing"
	"time"

	"orgservice/shared/org"
)

// TestCheckClock gives the service clocks that differ from the database's. More
// than MaxSkew must be an error, because Reconcile must not run with such a
// clock.
func TestCheckClock(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for _, test := range []struct {
		ahead time.Duration
		want  string
	}{
		{0, ""},
		{org.MaxSkew / 2, ""},
		{-org.MaxSkew / 2, ""},
		{time.Hour, "1h0m0s ahead of"},
		{-time.Hour, "1h0m0s behind"},
	} {
		f.Now = func() time.Time { return time.Now().Add(test.ahead) }
		err := f.CheckClock(t.Context())
		if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%v ahead: %v; want %q", test.ahead, err, test.want)
		}
	}
}
