package org_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"golang.org/x/crypto/bcrypt"

	"orgservice/local/mongodbtest"
	"orgservice/shared/auth"
	"orgservice/shared/org"
)

// stage is a world with one organization, whose admin is "admin@acme.test".
func stage(t *testing.T) (*world, *org.Service, org.Organization) {
	t.Helper()
	w := worldIn(t, mongodbtest.New(t))
	s := w.service()
	return w, s, w.create(s, "Acme", "admin@acme.test")
}

func mustLogin(t *testing.T, s *org.Service) org.Tokens {
	t.Helper()
	tokens, err := s.Login(t.Context(), org.LoginRequest{Email: "admin@acme.test", Password: password})
	if err != nil {
		t.Fatal(err)
	}
	return tokens
}

// callerIn returns the caller that the access token was signed for.
func callerIn(t *testing.T, tokens org.Tokens) auth.Caller {
	t.Helper()
	v, err := auth.NewVerifier([]byte(strings.Repeat("s", auth.MinSecretBytes)))
	if err != nil {
		t.Fatal(err)
	}
	c, err := v.Verify(tokens.Access)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func refresh(s *org.Service, token string) (org.Tokens, error) {
	return s.Refresh(context.Background(), org.RefreshRequest{RefreshToken: token})
}

func wantUnauthenticated(t *testing.T, what string, err error) {
	t.Helper()
	if !errors.Is(err, org.ErrUnauthenticated) {
		t.Errorf("%s: %v; want ErrUnauthenticated", what, err)
	}
}

func TestRefresh(t *testing.T) {
	t.Run("OK", func(t *testing.T) {
		w, s, o := stage(t)
		first := mustLogin(t, s)
		second, err := refresh(s, first.Refresh)
		if err != nil {
			t.Fatal(err)
		}
		if second.Refresh == first.Refresh || second.Access == first.Access {
			t.Error("a token was given twice")
		}
		third, err := refresh(s, second.Refresh)
		if err != nil {
			t.Fatal(err)
		}
		admin, found, err := s.Me(t.Context(), callerIn(t, third))
		if err != nil || found.ID != o.ID || admin.Email != "admin@acme.test" {
			t.Errorf("Me = %v, %v, %v", admin, found, err)
		}
		for _, d := range w.all("sessions") {
			for _, token := range []org.Tokens{first, second, third} {
				if strings.Contains(fmt.Sprint(d), token.Refresh) {
					t.Error("the database has a refresh token as it is")
				}
			}
		}
	})
	t.Run("ErrUnauthenticated when used again, and the session ends", func(t *testing.T) {
		_, s, _ := stage(t)
		first := mustLogin(t, s)
		second, err := refresh(s, first.Refresh)
		if err != nil {
			t.Fatal(err)
		}
		_, err = refresh(s, first.Refresh)
		wantUnauthenticated(t, "the used token", err)
		_, err = refresh(s, second.Refresh)
		wantUnauthenticated(t, "the token after it", err)
		_, _, err = s.Me(t.Context(), callerIn(t, second))
		wantUnauthenticated(t, "its access token", err)
	})
	t.Run("one of many at once wins at most", func(t *testing.T) {
		w, s, _ := stage(t)
		tokens := mustLogin(t, s)
		var functions []func() error
		for range 16 {
			s := w.service()
			functions = append(functions, func() error { _, err := refresh(s, tokens.Refresh); return err })
		}
		if winners := wantConflicts(t, race(functions...), org.ErrUnauthenticated); winners > 1 {
			t.Errorf("%d winners", winners)
		}
		for _, left := range w.all("sessions") {
			if left["refresh_hash"] != nil {
				t.Errorf("reuse left %v", left)
			}
		}
	})
	t.Run("ErrUnauthenticated after its lifetime, however often refreshed", func(t *testing.T) {
		w, s, _ := stage(t)
		tokens := mustLogin(t, s)
		var err error
		for range 3 {
			w.advance(s.SessionTTL / 4)
			if tokens, err = refresh(s, tokens.Refresh); err != nil {
				t.Fatal(err)
			}
		}
		w.advance(s.SessionTTL / 4)
		_, err = refresh(s, tokens.Refresh)
		wantUnauthenticated(t, "an expired session", err)
	})
	t.Run("ErrUnauthenticated for what is no token", func(t *testing.T) {
		_, s, _ := stage(t)
		tokens := mustLogin(t, s)
		for _, token := range []string{"x", tokens.Access, tokens.Refresh + "A", tokens.Refresh[:20], strings.Repeat("A", 64)} {
			_, err := refresh(s, token)
			wantUnauthenticated(t, token, err)
		}
		if _, err := refresh(s, ""); !errors.Is(err, org.ErrInvalid) {
			t.Errorf("no token: %v", err)
		}
		if _, err := refresh(s, tokens.Refresh); err != nil {
			t.Errorf("none of that ends the session, but: %v", err)
		}
	})
	ends := map[string]func(*testing.T, *world, *org.Service, org.Organization, auth.Caller){
		"logout": func(t *testing.T, w *world, s *org.Service, o org.Organization, c auth.Caller) {},
		"password": func(t *testing.T, w *world, s *org.Service, o org.Organization, c auth.Caller) {
			mustUpdate(t, s, c, org.UpdateRequest{Password: ptr(newPassword), CurrentPassword: ptr(password)})
		},
		"email": func(t *testing.T, w *world, s *org.Service, o org.Organization, c auth.Caller) {
			mustUpdate(t, s, c, org.UpdateRequest{Email: ptr("other@acme.test"), CurrentPassword: ptr(password)})
		},
		"delete": func(t *testing.T, w *world, s *org.Service, o org.Organization, c auth.Caller) {
			if _, err := s.Delete(t.Context(), c, nil); err != nil {
				t.Fatal(err)
			}
			if left := w.all("sessions"); len(left) != 0 {
				t.Errorf("sessions left: %v", left)
			}
		},
		"suspension": func(t *testing.T, w *world, s *org.Service, o org.Organization, c auth.Caller) {
			_, err := w.db.Client.Database(w.db.Name).Collection("organizations").UpdateOne(t.Context(),
				bson.D{}, bson.D{{Key: "$set", Value: bson.D{{Key: "status", Value: "suspended"}}}})
			if err != nil {
				t.Fatal(err)
			}
			_, err = s.Login(t.Context(), org.LoginRequest{Email: "admin@acme.test", Password: password})
			wantUnauthenticated(t, "login to a suspended organization", err)
		},
	}
	for name, end := range ends {
		t.Run("ErrUnauthenticated after "+name, func(t *testing.T) {
			w, s, o := stage(t)
			tokens := mustLogin(t, s)
			caller := callerIn(t, tokens)
			end(t, w, s, o, caller)
			if name == "logout" {
				for range 2 { // ending what has ended is no error
					if err := s.Logout(t.Context(), org.RefreshRequest{RefreshToken: tokens.Refresh}); err != nil {
						t.Fatal(err)
					}
				}
			}
			_, _, err := s.Me(t.Context(), caller)
			wantUnauthenticated(t, "the access token", err)
			_, err = s.Update(t.Context(), caller, org.UpdateRequest{OrganizationName: ptr("Bolt")})
			wantUnauthenticated(t, "a change", err)
			_, err = refresh(s, tokens.Refresh)
			wantUnauthenticated(t, "the refresh token", err)
		})
	}
}

func mustUpdate(t *testing.T, s *org.Service, c auth.Caller, change org.UpdateRequest) {
	t.Helper()
	if _, err := s.Update(t.Context(), c, change); err != nil {
		t.Fatal(err)
	}
}

// TestLoginPaysOneComparison counts what a login costs, whatever is wrong.
func TestLoginPaysOneComparison(t *testing.T) {
	w, s, _ := stage(t)
	gone := w.create(s, "Gone", "admin@gone.test")
	held := w.create(s, "Held", "admin@held.test")
	if _, err := s.Delete(t.Context(), w.callerOf(gone), nil); err != nil {
		t.Fatal(err)
	}
	_, err := w.db.Client.Database(w.db.Name).Collection("organizations").UpdateOne(t.Context(),
		bson.D{{Key: "organization_name", Value: held.Name}}, bson.D{{Key: "$set", Value: bson.D{{Key: "status", Value: "suspended"}}}})
	if err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct {
		c  org.LoginRequest
		ok bool
	}{
		"OK":                     {org.LoginRequest{Email: "admin@acme.test", Password: password}, true},
		"wrong password":         {org.LoginRequest{Email: "admin@acme.test", Password: "wrong"}, false},
		"unknown email":          {org.LoginRequest{Email: "nobody@acme.test", Password: password}, false},
		"deleted organization":   {org.LoginRequest{Email: "admin@gone.test", Password: password}, false},
		"suspended organization": {org.LoginRequest{Email: "admin@held.test", Password: password}, false},
	}
	answers := map[string]bool{}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			var costs []int
			s.Passwords = auth.Passwords{Cost: bcrypt.MinCost, Compare: func(hash, password []byte) error {
				cost, err := bcrypt.Cost(hash)
				if err != nil {
					t.Errorf("compared with %q: %v", hash, err)
				}
				costs = append(costs, cost)
				return bcrypt.CompareHashAndPassword(hash, password)
			}}
			_, err := s.Login(t.Context(), test.c)
			if len(costs) != 1 || costs[0] != bcrypt.MinCost {
				t.Errorf("comparisons at the costs %v; want one at %d", costs, bcrypt.MinCost)
			}
			if test.ok != (err == nil) {
				t.Errorf("login: %v", err)
			}
			if err != nil {
				answers[err.Error()] = true
			}
		})
	}
	if len(answers) != 1 {
		t.Errorf("several answers: %v", answers)
	}
}

func TestThrottle(t *testing.T) {
	wrong := func(s *org.Service, email, address string) error {
		_, err := s.Login(context.Background(), org.LoginRequest{Email: email, Password: "wrong", ClientAddress: address})
		return err
	}
	retryAfter := func(t *testing.T, err error) time.Duration {
		t.Helper()
		var e *org.Error
		if !errors.As(err, &e) || e.Kind != org.Throttled {
			t.Fatalf("%v; want ErrThrottled", err)
		}
		return e.RetryAfter
	}
	const free = 10

	for _, email := range []string{"admin@acme.test", "nobody@acme.test"} {
		t.Run("growing waits for "+email, func(t *testing.T) {
			w, s, _ := stage(t)
			w.startWindow()
			for i := range free {
				if err := wrong(s, email, ""); !errors.Is(err, org.ErrUnauthenticated) {
					t.Fatalf("attempt %d: %v", i+1, err)
				}
			}
			for _, want := range []time.Duration{1, 2, 4, 8, 16, 32, 64, 120, 120} {
				for range 3 { // refused attempts make nobody wait longer
					if got := retryAfter(t, wrong(s, email, "")); got != want*time.Second {
						t.Fatalf("wait %v; want %v", got, want*time.Second)
					}
				}
				w.advance(want*time.Second - time.Millisecond)
				retryAfter(t, wrong(s, email, ""))
				w.advance(time.Millisecond)
				if err := wrong(s, email, ""); !errors.Is(err, org.ErrUnauthenticated) {
					t.Fatalf("after the wait: %v", err)
				}
			}
		})
	}
	t.Run("the right password waits as well, and clears the count", func(t *testing.T) {
		w, s, _ := stage(t)
		w.startWindow()
		for range free {
			wrong(s, "admin@acme.test", "")
		}
		right := org.LoginRequest{Email: "ADMIN@acme.test", Password: password}
		_, err := s.Login(t.Context(), right)
		w.advance(retryAfter(t, err))
		if _, err := s.Login(t.Context(), right); err != nil {
			t.Fatal(err)
		}
		for i := range free {
			if err := wrong(s, "admin@acme.test", ""); !errors.Is(err, org.ErrUnauthenticated) {
				t.Fatalf("attempt %d after the success: %v", i+1, err)
			}
		}
	})
	t.Run("no comparison is paid for a refused attempt", func(t *testing.T) {
		w, s, _ := stage(t)
		w.startWindow()
		var compared atomic.Int64
		for range 100 {
			s.Passwords = auth.Passwords{Cost: bcrypt.MinCost, Compare: func(hash, password []byte) error {
				compared.Add(1)
				return bcrypt.ErrMismatchedHashAndPassword
			}}
			wrong(s, "admin@acme.test", "")
		}
		if n := compared.Load(); n != free {
			t.Errorf("%d comparisons; want %d", n, free)
		}
	})
	t.Run("100 at once", func(t *testing.T) {
		w, _, _ := stage(t)
		w.startWindow()
		var admitted, refused atomic.Int64
		var wait sync.WaitGroup
		for range 10 {
			s := w.service()
			for range 10 {
				wait.Go(func() {
					switch err := wrong(s, "admin@acme.test", ""); {
					case errors.Is(err, org.ErrUnauthenticated):
						admitted.Add(1)
					case errors.Is(err, org.ErrThrottled):
						refused.Add(1)
					default:
						t.Error(err)
					}
				})
			}
		}
		wait.Wait()
		if admitted.Load() != free || refused.Load() != 100-free {
			t.Errorf("%d admitted, %d refused; want %d and %d", admitted.Load(), refused.Load(), free, 100-free)
		}
	})
	t.Run("by address, over many accounts", func(t *testing.T) {
		w, s, _ := stage(t)
		w.startWindow()
		for i := range 50 {
			if err := wrong(s, fmt.Sprintf("nobody%d@acme.test", i), fmt.Sprintf("2001:db8:0:1::%x", i+1)); !errors.Is(err, org.ErrUnauthenticated) {
				t.Fatalf("attempt %d: %v", i+1, err)
			}
		}
		retryAfter(t, wrong(s, "nobody@acme.test", "2001:db8:0:1::ffff"))
		_, err := s.Login(t.Context(), org.LoginRequest{Email: "admin@acme.test", Password: password, ClientAddress: "2001:db8:0:2::1"})
		if err != nil {
			t.Errorf("from another address: %v", err)
		}
	})
	t.Run("current_password", func(t *testing.T) {
		w, s, o := stage(t)
		w.startWindow()
		guess := func() error {
			_, err := s.Update(t.Context(), w.callerOf(o), org.UpdateRequest{Password: ptr(newPassword), CurrentPassword: ptr("wrong")})
			return err
		}
		for i := range free {
			if err := guess(); !errors.Is(err, org.ErrForbidden) {
				t.Fatalf("guess %d: %v", i+1, err)
			}
		}
		retryAfter(t, guess())
		retryAfter(t, wrong(s, "admin@acme.test", ""))
	})
	t.Run("counts and sessions go away", func(t *testing.T) {
		w, s, o := stage(t)
		mustLogin(t, s)
		if _, err := w.db.Client.Database(w.db.Name).Collection("sessions").DeleteOne(t.Context(), bson.D{{Key: "_id", Value: o.ID}}); err != nil {
			t.Fatal(err) // it has no end
		}
		wrong(s, "admin@acme.test", "192.0.2.1")
		for _, d := range w.all("attempts") {
			if strings.Contains(fmt.Sprint(d), "acme") || strings.Contains(fmt.Sprint(d), "192.0.2.1") {
				t.Errorf("%v tells whose count it is", d)
			}
		}
		w.advance(s.SessionTTL + time.Hour)
		reconcile(t, s)
		if left := append(w.all("attempts"), w.all("sessions")...); len(left) != 0 {
			t.Errorf("left: %v", left)
		}
	})
}

func TestCommonPasswords(t *testing.T) {
	_, s, o := stage(t)
	for _, common := range []string{"password1", "PASSWORD1", "qwertyuiop", "123456789"} {
		_, err := s.Create(t.Context(), org.CreateRequest{OrganizationName: "Bolt", Email: "admin@bolt.test", Password: common})
		if !errors.Is(err, org.ErrInvalid) {
			t.Errorf("create with %q: %v", common, err)
		}
		_, err = s.Update(t.Context(), auth.Caller{OrganizationID: o.ID}, org.UpdateRequest{Password: &common, CurrentPassword: ptr(password)})
		if !errors.Is(err, org.ErrInvalid) {
			t.Errorf("update to %q: %v", common, err)
		}
	}
}
