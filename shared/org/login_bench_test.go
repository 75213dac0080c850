package org_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"orgservice/local/mongodbtest"
	"orgservice/shared/auth"
	"orgservice/shared/org"
)

// BenchmarkRefusedLogin measures how long the refusal of a login takes, for a
// wrong password and for an unknown email in turn, at the default cost.
func BenchmarkRefusedLogin(b *testing.B) {
	w := worldIn(b, mongodbtest.New(b))
	s := w.service()
	s.Passwords = auth.Passwords{Cost: 12}
	w.create(s, "Acme", "admin@acme.test")
	var took [2][]time.Duration
	for i := 0; b.Loop(); i++ {
		w.startWindow()
		for j, email := range []string{"admin@acme.test", fmt.Sprintf("nobody%d@acme.test", i)} {
			start := time.Now()
			_, err := s.Login(b.Context(), org.LoginRequest{Email: email, Password: "wrong"})
			took[j] = append(took[j], time.Since(start))
			if !errors.Is(err, org.ErrUnauthenticated) {
				b.Fatal(err)
			}
		}
	}
	median := func(d []time.Duration) float64 {
		slices.Sort(d)
		return d[len(d)/2].Seconds() * 1000
	}
	b.ReportMetric(median(took[0]), "known-ms")
	b.ReportMetric(median(took[1]), "unknown-ms")
	b.ReportMetric(median(took[1])/median(took[0]), "unknown/known")
}
