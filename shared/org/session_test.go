package org_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
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

// setUp returns a world with one organization, whose admin is
// "admin@acme.test".
func setUp(t *testing.T) (*world, *org.Service, org.Organization) {
	t.Helper()
	w := worldIn(t, mongodbtest.New(t))
	s := w.service()
	return w, s, w.create(s, "Acme", "admin@acme.test")
}

// mustLogin logs in the admin of that organization.
func mustLogin(t *testing.T, s *org.Service) org.Tokens {
	t.Helper()
	tokens, err := s.Login(t.Context(), org.LoginRequest{Email: "admin@acme.test", Password: password})
	if err != nil {
		t.Fatal(err)
	}
	return tokens
}

// callerIn returns the caller in the access token.
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

// refresh sends a refresh token.
func refresh(s *org.Service, token string) (org.Tokens, error) {
	return s.Refresh(context.Background(), org.RefreshRequest{RefreshToken: token})
}

// wantUnauthenticated fails the test unless the error is ErrUnauthenticated.
func wantUnauthenticated(t *testing.T, what string, err error) {
	t.Helper()
	if !errors.Is(err, org.ErrUnauthenticated) {
		t.Errorf("%s: %v; want ErrUnauthenticated", what, err)
	}
}

// TestSessionID makes refresh tokens of what is in an access token. They end nothing,
// since that may be known to services that must not log anybody out.
func TestSessionID(t *testing.T) {
	t.Parallel()
	_, s, _ := setUp(t)
	tokens := mustLogin(t, s)
	caller := callerIn(t, tokens)
	own, ok := auth.ParseOpaqueToken(tokens.Refresh)
	if !ok || strings.Contains(caller.SessionID, own.ID) || strings.Contains(own.ID, caller.SessionID) {
		t.Errorf("the session %s has the refresh token %s", caller.SessionID, own.ID)
	}
	for i := 0; i+len(own.ID) <= len(caller.SessionID); i += 2 {
		made := auth.NewOpaqueToken(caller.SessionID[i : i+len(own.ID)]).Text()
		_, err := refresh(s, made)
		wantUnauthenticated(t, "a refresh", err)
		if err := s.Logout(t.Context(), org.RefreshRequest{RefreshToken: made}); err != nil {
			t.Error(err)
		}
	}
	if _, _, err := s.Me(t.Context(), caller); err != nil {
		t.Error(err)
	}
	if tokens, err := refresh(s, tokens.Refresh); err != nil || callerIn(t, tokens).SessionID != caller.SessionID {
		t.Errorf("a refresh: %v", err)
	}
	// Who has had a refresh token may log out with it.
	if err := s.Logout(t.Context(), org.RefreshRequest{RefreshToken: tokens.Refresh}); err != nil {
		t.Error(err)
	}
	_, _, err := s.Me(t.Context(), caller)
	wantUnauthenticated(t, "after the logout", err)
}

// TestOlderSession uses sessions of older versions, which have the ids of their tokens.
func TestOlderSession(t *testing.T) {
	t.Parallel()
	_, s, o := setUp(t)
	begin := func() (auth.OpaqueToken, auth.Caller) {
		token := auth.NewOpaqueToken(auth.NewOpaqueID())
		session := org.Session{
			ID: token.ID, AdminID: o.Admins[0].AdminID, OrganizationID: o.ID, TokenVersion: 1, RefreshHash: token.Hash(),
			CreatedAt: time.Now(), ExpiresAt: time.Now().Add(time.Hour),
		}
		if err := s.Store.InsertSession(t.Context(), session); err != nil {
			t.Fatal(err)
		}
		return token, auth.Caller{AdminID: session.AdminID, OrganizationID: o.ID, TokenVersion: 1, SessionID: token.ID, ExpiresAt: session.ExpiresAt}
	}
	logout := func(token string) {
		t.Helper()
		if err := s.Logout(t.Context(), org.RefreshRequest{RefreshToken: token}); err != nil {
			t.Error(err)
		}
	}
	token, caller := begin()
	logout(auth.NewOpaqueToken(token.ID).Text()) // a guess ends nothing
	if _, _, err := s.Me(t.Context(), caller); err != nil {
		t.Error(err)
	}
	tokens, err := refresh(s, token.Text())
	if err != nil || callerIn(t, tokens).SessionID != token.ID {
		t.Fatalf("a refresh: %v", err)
	}
	if tokens, err = refresh(s, tokens.Refresh); err != nil {
		t.Fatal(err)
	}
	_, err = refresh(s, token.Text())
	wantUnauthenticated(t, "the used token", err)
	_, err = refresh(s, tokens.Refresh)
	wantUnauthenticated(t, "the token after it", err)
	token, caller = begin()
	logout(token.Text())
	_, _, err = s.Me(t.Context(), caller)
	wantUnauthenticated(t, "after the logout", err)
}

func TestRefresh(t *testing.T) {
	t.Parallel()
	t.Run("OK", func(t *testing.T) {
		w, s, o := setUp(t)
		first := mustLogin(t, s)
		second, err := refresh(s, first.Refresh)
		if err != nil {
			t.Fatal(err)
		}
		if second.Refresh == first.Refresh || second.Access == first.Access {
			t.Error("a refresh returned the same token again")
		}
		third, err := refresh(s, second.Refresh)
		if err != nil {
			t.Fatal(err)
		}
		admin, found, err := s.Me(t.Context(), callerIn(t, third))
		if err != nil || found.ID != o.ID || admin.Email != "admin@acme.test" {
			t.Errorf("Me = %v, %v, %v", admin, found, err)
		}
		for _, d := range w.documents("sessions") {
			for _, token := range []org.Tokens{first, second, third} {
				if strings.Contains(fmt.Sprint(d), token.Refresh) {
					t.Error("the database stores a refresh token in plain text")
				}
			}
		}
	})
	t.Run("ErrUnauthenticated for a used token, and the session ends", func(t *testing.T) {
		_, s, _ := setUp(t)
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
	t.Run("at most one of many concurrent refreshes succeeds", func(t *testing.T) {
		w, s, _ := setUp(t)
		tokens := mustLogin(t, s)
		var functions []func() error
		for range 16 {
			s := w.service()
			functions = append(functions, func() error { _, err := refresh(s, tokens.Refresh); return err })
		}
		if winners := wantConflicts(t, race(functions...), org.ErrUnauthenticated); winners > 1 {
			t.Errorf("%d winners; want at most 1", winners)
		}
		for _, left := range w.documents("sessions") {
			if left["refresh_hash"] != nil {
				t.Errorf("session left after the reuse: %v", left)
			}
		}
	})
	t.Run("ErrUnauthenticated after its lifetime, even if refreshed", func(t *testing.T) {
		w, s, _ := setUp(t)
		tokens := mustLogin(t, s)
		caller := callerIn(t, tokens)
		var err error
		for range 3 {
			w.advance(s.SessionTTL / 4)
			if tokens, err = refresh(s, tokens.Refresh); err != nil {
				t.Fatal(err)
			}
		}
		w.advance(s.SessionTTL / 4)
		caller.ExpiresAt = w.clock().Add(time.Hour)
		_, _, err = s.Me(t.Context(), caller)
		wantUnauthenticated(t, "an access token that lasts longer than its session", err)
		_, err = refresh(s, tokens.Refresh)
		wantUnauthenticated(t, "an expired session", err)
	})
	t.Run("ErrUnauthenticated for an invalid token", func(t *testing.T) {
		_, s, _ := setUp(t)
		tokens := mustLogin(t, s)
		for _, token := range []string{"x", tokens.Access, tokens.Refresh + "A", tokens.Refresh[:20], strings.Repeat("A", 64)} {
			_, err := refresh(s, token)
			wantUnauthenticated(t, token, err)
		}
		if _, err := refresh(s, ""); !errors.Is(err, org.ErrInvalid) {
			t.Errorf("no token: %v; want ErrInvalid", err)
		}
		if _, err := refresh(s, tokens.Refresh); err != nil {
			t.Errorf("the session has ended: %v", err)
		}
	})
	ends := map[string]func(*testing.T, *world, *org.Service, org.Organization, auth.Caller){
		"logout": func(t *testing.T, w *world, s *org.Service, o org.Organization, c auth.Caller) {},
		"password": func(t *testing.T, w *world, s *org.Service, o org.Organization, c auth.Caller) {
			mustUpdate(t, s, c, org.UpdateRequest{Password: new(newPassword), CurrentPassword: new(password)})
		},
		"email": func(t *testing.T, w *world, s *org.Service, o org.Organization, c auth.Caller) {
			mustUpdate(t, s, c, org.UpdateRequest{Email: new("other@acme.test"), CurrentPassword: new(password)})
		},
		"delete": func(t *testing.T, w *world, s *org.Service, o org.Organization, c auth.Caller) {
			if _, err := s.Delete(t.Context(), c, org.DeleteRequest{}); err != nil {
				t.Fatal(err)
			}
			if left := w.documents("sessions"); len(left) != 0 {
				t.Errorf("sessions left: %v", left)
			}
		},
		"suspension": func(t *testing.T, w *world, s *org.Service, o org.Organization, c auth.Caller) {
			if _, err := s.Suspend(t.Context(), "olivia", o.ID, org.ActRequest{Reason: "unpaid"}); err != nil {
				t.Fatal(err)
			}
			_, err := s.Login(t.Context(), org.LoginRequest{Email: "admin@acme.test", Password: password})
			wantUnauthenticated(t, "login to a suspended organization", err)
		},
	}
	for name, end := range ends {
		t.Run("ErrUnauthenticated after "+name, func(t *testing.T) {
			w, s, o := setUp(t)
			tokens := mustLogin(t, s)
			caller := callerIn(t, tokens)
			end(t, w, s, o, caller)
			if name == "logout" {
				for range 2 { // the second logout is no error
					if err := s.Logout(t.Context(), org.RefreshRequest{RefreshToken: tokens.Refresh}); err != nil {
						t.Fatal(err)
					}
				}
			}
			_, _, err := s.Me(t.Context(), caller)
			wantUnauthenticated(t, "the access token", err)
			_, err = s.Update(t.Context(), caller, org.UpdateRequest{OrganizationName: new("Bolt")})
			wantUnauthenticated(t, "a change", err)
			_, err = refresh(s, tokens.Refresh)
			wantUnauthenticated(t, "the refresh token", err)
		})
	}
}

// mustUpdate updates the caller's organization.
func mustUpdate(t *testing.T, s *org.Service, c auth.Caller, change org.UpdateRequest) {
	t.Helper()
	if _, err := s.Update(t.Context(), c, change); err != nil {
		t.Fatal(err)
	}
}

// TestLoginPaysOneComparison counts the comparisons of a login. There must be
// one, no matter what is wrong.
func TestLoginPaysOneComparison(t *testing.T) {
	t.Parallel()
	w, s, _ := setUp(t)
	deleted := w.create(s, "Deleted", "admin@deleted.test")
	suspended := w.create(s, "Suspended", "admin@suspended.test")
	if _, err := s.Delete(t.Context(), w.callerOf(deleted), org.DeleteRequest{}); err != nil {
		t.Fatal(err)
	}
	_, err := w.db.Client.Database(w.db.Name).Collection("organizations").UpdateOne(t.Context(),
		bson.D{{Key: "organization_name", Value: suspended.Name}}, bson.D{{Key: "$set", Value: bson.D{{Key: "status", Value: "suspended"}}}})
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
		"deleted organization":   {org.LoginRequest{Email: "admin@deleted.test", Password: password}, false},
		"suspended organization": {org.LoginRequest{Email: "admin@suspended.test", Password: password}, false},
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
		t.Errorf("answers %v; want one", answers)
	}
}

// slowly tries something that often, so slowly that only the failures in a row may be too many.
func slowly(times int, advance func(time.Duration), try func()) {
	for n := range times {
		if n%20 == 0 {
			advance(20 * time.Minute)
		}
		try()
	}
	advance(20 * time.Minute)
}

func TestThrottle(t *testing.T) {
	t.Parallel()
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
	const most = 20 // in a quarter of an hour
	// wantWindow fails the test unless what has been attempted at this moment counts for a quarter
	// of an hour, and to the end of a sixth of it.
	wantWindow := func(t *testing.T, w *world, err error) {
		t.Helper()
		const part = 15 * time.Minute / 6
		left := w.clock().Truncate(part).Add(7 * part).Sub(w.clock())
		if wait := retryAfter(t, err); wait < left || wait >= left+time.Second {
			t.Errorf("wait %v; want %v", wait, left)
		}
	}

	for _, email := range []string{"admin@acme.test", "nobody@acme.test"} {
		t.Run("never more in any window for "+email, func(t *testing.T) {
			w, s, _ := setUp(t)
			seed := rand.Uint64()
			random := rand.New(rand.NewPCG(seed, 0))
			var admitted []time.Time
			for range 150 {
				w.advance(time.Duration(random.Int64N(int64(time.Minute))))
				now := w.clock()
				err := wrong(s, email, "")
				recent := 0
				for _, at := range admitted {
					if now.Sub(at) < 15*time.Minute {
						recent++
					}
				}
				if errors.Is(err, org.ErrUnauthenticated) {
					if admitted = append(admitted, now); recent >= most {
						t.Fatalf("seed %d: more than %d in a window", seed, most)
					}
					continue
				}
				wait := retryAfter(t, err)
				if wait > 15*time.Minute+150*time.Second {
					t.Fatalf("seed %d: wait %v", seed, wait)
				}
				w.advance(wait - time.Second) // it is rounded up
				retryAfter(t, wrong(s, email, ""))
				w.advance(time.Second)
				if err := wrong(s, email, ""); !errors.Is(err, org.ErrUnauthenticated) {
					t.Fatalf("seed %d: after the wait: %v", seed, err)
				}
				admitted = append(admitted, w.clock())
			}
		})
	}
	t.Run("the right password must wait, too, and frees nobody else", func(t *testing.T) {
		w, s, _ := setUp(t)
		for range most {
			wrong(s, "admin@acme.test", "")
		}
		right := org.LoginRequest{Email: "ADMIN@acme.test", Password: password}
		_, err := s.Login(t.Context(), right)
		wantWindow(t, w, err)
		w.advance(retryAfter(t, err))
		for range 2 * most { // none of these counts
			if _, err := s.Login(t.Context(), right); err != nil {
				t.Fatal(err)
			}
		}
		for i := range most {
			if _, err := s.Login(t.Context(), right); err != nil {
				t.Fatal(err)
			}
			if err := wrong(s, "admin@acme.test", ""); !errors.Is(err, org.ErrUnauthenticated) {
				t.Fatalf("attempt %d: %v", i+1, err)
			}
		}
		retryAfter(t, wrong(s, "admin@acme.test", ""))
	})
	t.Run("no comparison for a refused attempt", func(t *testing.T) {
		_, s, _ := setUp(t)
		var compared atomic.Int64
		for range 100 {
			s.Passwords = auth.Passwords{Cost: bcrypt.MinCost, Compare: func(hash, password []byte) error {
				compared.Add(1)
				return bcrypt.ErrMismatchedHashAndPassword
			}}
			wrong(s, "admin@acme.test", "")
		}
		if n := compared.Load(); n != most {
			t.Errorf("%d comparisons; want %d", n, most)
		}
	})
	t.Run("100 concurrent attempts", func(t *testing.T) {
		w, _, _ := setUp(t)
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
		if admitted.Load() != most || refused.Load() != 100-most {
			t.Errorf("%d admitted, %d refused; want %d and %d", admitted.Load(), refused.Load(), most, 100-most)
		}
	})
	t.Run("one address, many accounts", func(t *testing.T) {
		w, s, _ := setUp(t)
		right := org.LoginRequest{Email: "admin@acme.test", Password: password, ClientAddress: "2001:db8:0:1::1"}
		if _, err := s.Login(t.Context(), right); err != nil {
			t.Fatal(err)
		}
		for i := range 50 {
			if err := wrong(s, fmt.Sprintf("nobody%d@acme.test", i), fmt.Sprintf("2001:db8:0:1::%x", i+1)); !errors.Is(err, org.ErrUnauthenticated) {
				t.Fatalf("attempt %d: %v", i+1, err)
			}
		}
		wantWindow(t, w, wrong(s, "nobody@acme.test", "2001:db8:0:1::ffff"))
		w.advance(14 * time.Minute)
		retryAfter(t, wrong(s, "nobody@acme.test", "2001:db8:0:1::ffff"))
		_, err := s.Login(t.Context(), right)
		retryAfter(t, err) // although the account knows the address
		right.ClientAddress = "2001:db8:0:2::1"
		if _, err := s.Login(t.Context(), right); err != nil {
			t.Errorf("from another address: %v", err)
		}
	})
	t.Run("current_password", func(t *testing.T) {
		w, s, o := setUp(t)
		guess := func() error {
			_, err := s.Update(t.Context(), w.callerOf(o), org.UpdateRequest{Password: new(newPassword), CurrentPassword: new("wrong")})
			return err
		}
		for i := range most {
			if err := guess(); !errors.Is(err, org.ErrForbidden) {
				t.Fatalf("guess %d: %v", i+1, err)
			}
		}
		wantWindow(t, w, guess())
		if err := wrong(s, "admin@acme.test", ""); !errors.Is(err, org.ErrUnauthenticated) {
			t.Errorf("a login: %v", err) // who has a token, and who has none, can't keep each other out
		}
	})
	t.Run("changes", func(t *testing.T) {
		w, s, o := setUp(t)
		change := func() error {
			_, err := s.Update(t.Context(), w.callerOf(o), org.UpdateRequest{Password: new(password), CurrentPassword: new(password)})
			return err
		}
		for i := range most {
			if err := change(); err != nil {
				t.Fatalf("change %d: %v", i+1, err)
			}
		}
		wantWindow(t, w, change())
		w.advance(14 * time.Minute)
		retryAfter(t, change())
	})
	t.Run("a known address has attempts of its own", func(t *testing.T) {
		w, s, _ := setUp(t)
		const known, unknown = "192.0.2.1", "192.0.2.2"
		login := func(address string) error {
			_, err := s.Login(t.Context(), org.LoginRequest{Email: "admin@acme.test", Password: password, ClientAddress: address})
			return err
		}
		if err := login(known); err != nil {
			t.Fatal(err)
		}
		flood := func() {
			t.Helper()
			for range most {
				wrong(s, "admin@acme.test", "")
			}
			retryAfter(t, wrong(s, "admin@acme.test", ""))
		}
		flood()
		retryAfter(t, login(unknown))
		for i := range 10 {
			if err := wrong(s, "admin@acme.test", known); !errors.Is(err, org.ErrUnauthenticated) {
				t.Fatalf("attempt %d: %v", i+1, err)
			}
		}
		wantWindow(t, w, wrong(s, "admin@acme.test", known))
		w.advance(14 * time.Minute)
		retryAfter(t, login(known))
		if err := wrong(s, "other@acme.test", known); !errors.Is(err, org.ErrUnauthenticated) {
			t.Errorf("another account: %v", err)
		}
	})
	t.Run("the known address gets in, and the others may not try again", func(t *testing.T) {
		w, s, _ := setUp(t)
		right := org.LoginRequest{Email: "admin@acme.test", Password: password, ClientAddress: "192.0.2.1"}
		mapped := right
		mapped.ClientAddress = "::ffff:192.0.2.1"
		if _, err := s.Login(t.Context(), right); err != nil {
			t.Fatal(err)
		}
		w.advance(89 * 24 * time.Hour)
		for range most {
			wrong(s, "admin@acme.test", "")
		}
		for range 30 {
			if err := wrong(s, "admin@acme.test", ""); !errors.Is(err, org.ErrThrottled) {
				t.Fatal(err)
			}
			if _, err := s.Login(t.Context(), mapped); err != nil {
				t.Fatal(err)
			}
		}
	})
	t.Run("known for ninety days", func(t *testing.T) {
		w, s, _ := setUp(t)
		right := org.LoginRequest{Email: "admin@acme.test", Password: password, ClientAddress: "192.0.2.1"}
		if _, err := s.Login(t.Context(), right); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			w.advance(45 * 24 * time.Hour)
			for range most {
				wrong(s, "admin@acme.test", "")
			}
			wrong(s, "admin@acme.test", "192.0.2.1") // which does not prolong it
		}
		_, err := s.Login(t.Context(), right)
		retryAfter(t, err)
	})
	t.Run("known to one version of one account", func(t *testing.T) {
		w, s, o := setUp(t)
		post := &letters{}
		s.Mailer = post
		const squatted, owners = "192.0.2.1", "192.0.2.2"
		email := "admin@acme.test"
		guess := func() (compared int) {
			w.advance(20 * time.Minute)
			for range most {
				wrong(s, email, "")
			}
			for range 15 {
				if err := wrong(s, email, squatted); errors.Is(err, org.ErrUnauthenticated) {
					compared++
				}
			}
			return compared
		}
		login := func(password, address string) error {
			_, err := s.Login(t.Context(), org.LoginRequest{Email: email, Password: password, ClientAddress: address})
			return err
		}
		if err := login(password, squatted); err != nil {
			t.Fatal(err)
		}
		if n := guess(); n != 10 {
			t.Errorf("%d guesses from a known address", n)
		}
		if err := s.Forgot(t.Context(), org.ForgotRequest{Email: "admin@acme.test"}); err != nil {
			t.Fatal(err)
		}
		if err := s.Reset(t.Context(), org.ResetRequest{Ticket: post.sent[len(post.sent)-1].Ticket, Password: newPassword, ClientAddress: owners}); err != nil {
			t.Fatal(err)
		}
		if n := guess(); n != 0 {
			t.Errorf("%d guesses from an address that was known before the reset", n)
		}
		if err := login(newPassword, owners); err != nil {
			t.Errorf("from where the password was reset: %v", err)
		}
		w.advance(20 * time.Minute)
		if err := login(newPassword, squatted); err != nil {
			t.Fatal(err)
		}
		email = "other@acme.test"
		mustUpdate(t, s, w.callerOf(o), org.UpdateRequest{Email: &email, CurrentPassword: new(newPassword)})
		if n := guess(); n != 0 {
			t.Errorf("%d guesses from an address that was known before the change of the email", n)
		}
		w.advance(20 * time.Minute)
		if err := login(newPassword, squatted); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Delete(t.Context(), w.callerOf(o), org.DeleteRequest{}); err != nil {
			t.Fatal(err)
		}
		w.create(s, "Bolt", email)
		if n := guess(); n != 0 {
			t.Errorf("%d guesses from an address that was known to another account", n)
		}
	})
	for _, mailed := range []bool{true, false} {
		t.Run(fmt.Sprintf("a hundred failures in a row, mailed=%v", mailed), func(t *testing.T) {
			w, s, o := setUp(t)
			s.MailsSent = mailed
			post := &letters{}
			mailing := w.service()
			mailing.Mailer = post
			right := org.LoginRequest{Email: "admin@acme.test", Password: password}
			elsewhere := org.LoginRequest{Email: "admin@acme.test", Password: password, ClientAddress: "192.0.2.1"}
			fail := func(most int, guess func() error) (failures int) {
				for ; failures < most; failures++ {
					if failures%20 == 0 {
						w.advance(20 * time.Minute)
					}
					if err := guess(); errors.Is(err, org.ErrThrottled) {
						break
					} else if err == nil {
						t.Fatal("a guess is right")
					}
				}
				w.advance(20 * time.Minute)
				return failures
			}
			guess := func() error { return wrong(s, "admin@acme.test", "") }
			fail(99, guess)
			if _, err := s.Login(t.Context(), elsewhere); err != nil { // in time
				t.Fatal(err)
			}
			failures := fail(110, guess)
			_, err := s.Login(t.Context(), right)
			if !mailed {
				if failures != 110 || err != nil {
					t.Fatalf("after %d failures: %v", failures, err)
				}
				return
			}
			if wait := retryAfter(t, err); failures != 100 || wait != 0 || !strings.Contains(err.Error(), "/admin/forgot") {
				t.Fatalf("after %d failures: %v, wait %v", failures, err, wait)
			}
			w.advance(24 * time.Hour)
			if _, err := s.Login(t.Context(), right); !errors.Is(err, org.ErrThrottled) {
				t.Errorf("a day later: %v", err)
			}
			if _, err := s.Login(t.Context(), elsewhere); err != nil {
				t.Errorf("from a known address: %v", err)
			}
			if _, err := s.Login(t.Context(), right); err != nil {
				t.Errorf("after that login: %v", err)
			}

			// Locked both at the login and for the current password.
			c := w.callerOf(o)
			c.ExpiresAt = w.clock().Add(365 * 24 * time.Hour)
			proof := func(current string) error {
				_, err := s.Update(t.Context(), c, org.UpdateRequest{Password: new("another one"), CurrentPassword: &current})
				return err
			}
			if n := fail(110, func() error { return proof("wrong") }); n != 100 {
				t.Errorf("%d guesses of the current password", n)
			}
			if n := fail(110, guess); n != 100 {
				t.Errorf("%d guesses at the login", n)
			}
			if err := proof(password); !errors.Is(err, org.ErrThrottled) {
				t.Errorf("the right current password: %v", err)
			}
			if err := mailing.Forgot(t.Context(), org.ForgotRequest{Email: "admin@acme.test"}); err != nil {
				t.Fatal(err)
			}
			if err := s.Reset(t.Context(), org.ResetRequest{Ticket: post.sent[len(post.sent)-1].Ticket, Password: newPassword}); err != nil {
				t.Fatal(err)
			}
			if _, err := s.Login(t.Context(), org.LoginRequest{Email: "admin@acme.test", Password: newPassword}); err != nil {
				t.Errorf("with the new password: %v", err)
			}
			c.TokenVersion++
			if err := proof(newPassword); err != nil {
				t.Errorf("the new current password: %v", err)
			}
		})
	}
	t.Run("a hundred failures within a month", func(t *testing.T) {
		w, s, _ := setUp(t)
		s.MailsSent = true
		fail := func(times int) { slowly(times, w.advance, func() { wrong(s, "admin@acme.test", "") }) }
		fail(60)
		w.advance(29 * 24 * time.Hour)
		fail(40)
		_, err := s.Login(t.Context(), org.LoginRequest{Email: "admin@acme.test", Password: password})
		if wait := retryAfter(t, err); wait != 0 {
			t.Errorf("not locked, but for %v", wait)
		}
		w.advance(7 * 24 * time.Hour) // the first ones count for up to 35 days
		mustLogin(t, s)
	})
	t.Run("failures count for 30 days, and to the end of five", func(t *testing.T) {
		w, s, _ := setUp(t)
		s.MailsSent = true
		const part = 5 * 24 * time.Hour
		begins := time.Unix(0, (w.clock().UnixNano()/int64(part)+1)*int64(part))
		w.advance(begins.Sub(w.clock()))
		slowly(100, w.advance, func() { wrong(s, "admin@acme.test", "") })
		w.advance(begins.Add(7*part - time.Second).Sub(w.clock()))
		_, err := s.Login(t.Context(), org.LoginRequest{Email: "admin@acme.test", Password: password})
		if wait := retryAfter(t, err); wait != 0 {
			t.Errorf("not locked, but for %v", wait)
		}
		w.advance(time.Second)
		mustLogin(t, s)
	})
	t.Run("no lock where no mail is sent any more", func(t *testing.T) {
		w, s, _ := setUp(t)
		s.MailsSent = true
		slowly(100, w.advance, func() { wrong(s, "admin@acme.test", "") })
		_, err := s.Login(t.Context(), org.LoginRequest{Email: "admin@acme.test", Password: password})
		retryAfter(t, err)
		w.advance(20 * time.Minute)
		s.MailsSent = false
		mustLogin(t, s)
	})
	t.Run("a right password that opens nothing is a failure", func(t *testing.T) {
		w, s, o := setUp(t)
		s.MailsSent = true
		if _, err := s.Suspend(t.Context(), "olivia", o.ID, org.ActRequest{Reason: "unpaid"}); err != nil {
			t.Fatal(err)
		}
		login := func() error {
			_, err := s.Login(t.Context(), org.LoginRequest{Email: "admin@acme.test", Password: password})
			return err
		}
		slowly(100, w.advance, func() { wantUnauthenticated(t, "login to a suspended organization", login()) })
		if wait := retryAfter(t, login()); wait != 0 {
			t.Errorf("not locked, but for %v", wait)
		}
	})
	t.Run("no account is locked before it exists", func(t *testing.T) {
		w, s, o := setUp(t)
		s.MailsSent = true
		lock := func(email string) {
			t.Helper()
			slowly(100, w.advance, func() { wrong(s, email, "") })
			if err := wrong(s, email, ""); !errors.Is(err, org.ErrThrottled) || !strings.Contains(err.Error(), "/admin/forgot") {
				t.Errorf("%s: %v", email, err)
			}
		}
		lock("b@x.test")
		w.create(s, "Bolt", "b@x.test")
		lock("c@x.test")
		c := w.callerOf(o)
		c.ExpiresAt = w.clock().Add(time.Hour)
		if _, err := s.Update(t.Context(), c, org.UpdateRequest{Email: new("c@x.test"), CurrentPassword: new(password)}); err != nil {
			t.Fatal(err)
		}
		for _, email := range []string{"b@x.test", "c@x.test"} {
			if _, err := s.Login(t.Context(), org.LoginRequest{Email: email, Password: password}); err != nil {
				t.Errorf("%s: %v", email, err)
			}
		}
	})
	t.Run("no comparison for a locked account", func(t *testing.T) {
		w, s, o := setUp(t)
		s.MailsSent = true
		var compared atomic.Int64
		s.Passwords = auth.Passwords{Cost: bcrypt.MinCost, Compare: func(hash, password []byte) error {
			compared.Add(1)
			return bcrypt.CompareHashAndPassword(hash, password)
		}}
		c := w.callerOf(o)
		c.ExpiresAt = w.clock().Add(24 * time.Hour)
		proof := func(current string) error {
			_, err := s.Update(t.Context(), c, org.UpdateRequest{Email: new("b@x.test"), CurrentPassword: &current})
			return err
		}
		lock := func(guess func() error) {
			t.Helper()
			slowly(100, w.advance, func() { guess() })
			compared.Store(0)
			for range 5 {
				if wait := retryAfter(t, guess()); wait != 0 {
					t.Errorf("not locked, but for %v", wait)
				}
			}
			if n := compared.Load(); n != 0 {
				t.Errorf("%d comparisons", n)
			}
		}
		lock(func() error { return wrong(s, "admin@acme.test", "") })
		if err := proof(password); err != nil { // which ends it
			t.Fatal(err)
		}
		c.TokenVersion++
		if _, err := s.Login(t.Context(), org.LoginRequest{Email: "b@x.test", Password: password}); err != nil {
			t.Error(err)
		}
		lock(func() error { return proof("wrong") })
		if _, err := s.Login(t.Context(), org.LoginRequest{Email: "b@x.test", Password: password}); err != nil {
			t.Error(err)
		}
	})
	t.Run("parts are dropped", func(t *testing.T) {
		w, s, _ := setUp(t)
		for range 12 {
			for range 7 {
				wrong(s, "admin@acme.test", "")
				w.advance(150 * time.Second)
			}
			w.advance(25 * time.Minute)
		}
		for _, d := range w.documents("attempts") {
			if parts, ok := d["parts"].(bson.M); ok && len(parts) > 14 {
				t.Errorf("%d parts of %v", len(parts), d["_id"])
			} else if parts, ok := d["parts"].(bson.D); ok && len(parts) > 14 {
				t.Errorf("%d parts of %v", len(parts), d["_id"])
			}
		}
	})
	t.Run("what is refused leaves no failures", func(t *testing.T) {
		w, s, _ := setUp(t)
		s.MailsSent = true
		for n := range 80 {
			wrong(s, fmt.Sprintf("%d@x.test", n), "192.0.2.1")
		}
		kinds := map[string]int{}
		for _, d := range w.documents("attempts") {
			kind, _, _ := strings.Cut(fmt.Sprint(d["_id"]), ":")
			kinds[kind]++
		}
		if want := map[string]int{"account": 80, "address": 1, "failures": 50}; !maps.Equal(kinds, want) {
			t.Errorf("counts %v; want %v", kinds, want)
		}
	})
	t.Run("counts and sessions are deleted", func(t *testing.T) {
		w, s, o := setUp(t)
		mustLogin(t, s)
		if _, err := w.db.Client.Database(w.db.Name).Collection("sessions").DeleteOne(t.Context(), bson.D{{Key: "_id", Value: o.ID}}); err != nil {
			t.Fatal(err) // it would not expire in this test
		}
		wrong(s, "admin@acme.test", "192.0.2.1")
		for _, d := range w.documents("attempts") {
			if strings.Contains(fmt.Sprint(d), "acme") || strings.Contains(fmt.Sprint(d), "192.0.2.1") {
				t.Errorf("%v reveals the account or the address", d)
			}
		}
		w.advance(s.SessionTTL + time.Hour)
		reconcile(t, s)
		if left := append(w.documents("attempts"), w.documents("sessions")...); len(left) != 0 {
			t.Errorf("left: %v", left)
		}
	})
}

func TestCommonPasswords(t *testing.T) {
	t.Parallel()
	_, s, o := setUp(t)
	for _, common := range []string{"password1", "PASSWORD1", "qwertyuiop", "123456789"} {
		_, err := s.Create(t.Context(), org.CreateRequest{OrganizationName: "Bolt", Email: "admin@bolt.test", Password: common})
		if !errors.Is(err, org.ErrInvalid) {
			t.Errorf("create with %q: %v; want ErrInvalid", common, err)
		}
		_, err = s.Update(t.Context(), auth.Caller{OrganizationID: o.ID}, org.UpdateRequest{Password: &common, CurrentPassword: new(password)})
		if !errors.Is(err, org.ErrInvalid) {
			t.Errorf("update to %q: %v; want ErrInvalid", common, err)
		}
	}
}

func TestSessionLimits(t *testing.T) {
	t.Parallel()
	w, s, o := setUp(t)
	login := func() org.Tokens {
		t.Helper()
		tokens, err := s.Login(t.Context(), org.LoginRequest{Email: "admin@acme.test", Password: password})
		if err != nil {
			t.Fatal(err)
		}
		w.advance(time.Second)
		return tokens
	}
	refresh := func(tokens org.Tokens) (org.Tokens, error) {
		return s.Refresh(t.Context(), org.RefreshRequest{RefreshToken: tokens.Refresh})
	}
	// An older version has left many.
	for i := range 300 {
		old := org.Session{
			ID: fmt.Sprint("old ", i), AdminID: o.Admins[0].AdminID, OrganizationID: o.ID, TokenVersion: 1,
			CreatedAt: w.clock().Add(-time.Hour), ExpiresAt: w.clock().Add(24 * time.Hour),
		}
		if err := s.Store.InsertSession(t.Context(), old); err != nil {
			t.Fatal(err)
		}
	}
	var all []org.Tokens
	for range 60 {
		all = append(all, login())
	}
	stored, err := s.Store.SessionsOf(t.Context(), o.Admins[0].AdminID)
	if err != nil || len(stored) != 50 {
		t.Errorf("%d sessions, %v", len(stored), err)
	}
	for i, tokens := range all {
		if _, err := refresh(tokens); (err == nil) != (i >= 10) {
			t.Errorf("session %d: %v", i, err)
		}
	}

	// Idle ones end, and those that are refreshed don't.
	s.SessionIdle = time.Hour
	used := login()
	for range 3 {
		w.advance(time.Hour - 2*time.Second)
		if used, err = refresh(used); err != nil {
			t.Fatal(err)
		}
	}
	c := w.callerOf(o)
	c.ExpiresAt = w.clock().Add(24 * time.Hour)
	own := org.Session{
		ID: c.SessionID, AdminID: c.AdminID, OrganizationID: c.OrganizationID, TokenVersion: c.TokenVersion,
		CreatedAt: w.clock(), ExpiresAt: c.ExpiresAt,
	}
	if err := s.Store.InsertSession(t.Context(), own); err != nil {
		t.Fatal(err)
	}
	sessions, _, err := s.Sessions(t.Context(), c, "", 100)
	now := w.clock().UTC().Truncate(time.Millisecond)
	if err != nil || len(sessions) != 2 || !slices.ContainsFunc(sessions, func(l org.ListedSession) bool { return !l.Current && l.UsedAt.Equal(now) }) {
		t.Errorf("sessions %+v, %v", sessions, err)
	}
	w.advance(time.Hour)
	if _, err := refresh(used); !errors.Is(err, org.ErrUnauthenticated) {
		t.Errorf("after an hour: %v", err)
	}
	s.SessionIdle = 0
	login()

	// A new password ends them all, and they are not listed any more.
	if _, err := s.Update(t.Context(), c, org.UpdateRequest{Password: new(newPassword), CurrentPassword: new(password)}); err != nil {
		t.Fatal(err)
	}
	for _, call := range []func() error{
		func() error { _, _, err := s.Sessions(t.Context(), c, "", 100); return err },
		func() error { return s.EndSession(t.Context(), c, c.SessionID) },
		func() error { return s.EndOtherSessions(t.Context(), c) },
	} {
		if err := call(); !errors.Is(err, org.ErrUnauthenticated) {
			t.Errorf("with a revoked token: %v", err)
		}
	}
	c.TokenVersion++
	if sessions, _, err := s.Sessions(t.Context(), c, "", 100); err != nil || len(sessions) > 0 {
		t.Errorf("%d sessions of the version before, %v", len(sessions), err)
	}
}

// TestSwitchedSessions checks that a session that comes from a login by a switch ends with it,
// and that such a session does not end its own login when it ends the others.
func TestSwitchedSessions(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.mustCreate(t, "Acme", "a@acme.test")
	login := func() (org.Tokens, auth.Caller) { return f.login(t, "a@acme.test") }
	switchTo := func(c auth.Caller, name string) (org.Tokens, auth.Caller) {
		t.Helper()
		tokens, err := f.Switch(t.Context(), c, org.SwitchRequest{OrganizationName: name})
		return f.verified(t, tokens, err)
	}
	wantAlive := func(what string, tokens *org.Tokens, c auth.Caller, want bool) {
		t.Helper()
		_, _, err := f.Me(t.Context(), c)
		refreshed, refreshErr := f.Refresh(t.Context(), org.RefreshRequest{RefreshToken: tokens.Refresh})
		if want {
			*tokens = refreshed
		}
		if (err == nil) != want || (refreshErr == nil) != want {
			t.Errorf("%s: access %v, refresh %v; want it to be alive: %v", what, err, refreshErr, want)
		}
	}
	first, caller := login()
	if _, err := f.CreateOrganization(t.Context(), caller, org.CreateOrganizationRequest{OrganizationName: "Bolt"}); err != nil {
		t.Fatal(err)
	}
	bolt, boltCaller := switchTo(caller, "Bolt")
	acme, acmeCaller := switchTo(boltCaller, "Acme") // from one that was switched itself
	listed, _, err := f.Sessions(t.Context(), caller, "", 10)
	if err != nil || len(listed) != 3 || !listed[0].ExpiresAt.Equal(listed[1].ExpiresAt) || !listed[0].ExpiresAt.Equal(listed[2].ExpiresAt) {
		t.Errorf("a switch prolongs the login: %+v, %v", listed, err)
	}
	other, otherCaller := login()
	wantAlive("login", &first, caller, true)
	wantAlive("switched", &bolt, boltCaller, true)
	wantAlive("switched back", &acme, acmeCaller, true)

	if err := f.EndOtherSessions(t.Context(), boltCaller); err != nil {
		t.Fatal(err)
	}
	wantAlive("its login", &first, caller, true)
	wantAlive("the one that ends others", &bolt, boltCaller, true)
	wantAlive("another one", &acme, acmeCaller, false)
	wantAlive("another login", &other, otherCaller, false)

	acme, acmeCaller = switchTo(boltCaller, "Acme")
	if err := f.Logout(t.Context(), org.RefreshRequest{RefreshToken: acme.Refresh}); err != nil {
		t.Fatal(err)
	}
	wantAlive("logged out", &acme, acmeCaller, false)
	wantAlive("its login", &first, caller, true)
	acme, acmeCaller = switchTo(boltCaller, "Acme")
	if err := f.Logout(t.Context(), org.RefreshRequest{RefreshToken: first.Refresh}); err != nil {
		t.Fatal(err)
	}
	// First of all, because whatever begins a session deletes what is of no use.
	for what, c := range map[string]auth.Caller{"from it": boltCaller, "from that": acmeCaller} {
		if _, _, err := f.Me(t.Context(), c); !errors.Is(err, org.ErrUnauthenticated) {
			t.Errorf("%s, after the logout: %v", what, err)
		}
	}
	if _, err := f.Switch(t.Context(), boltCaller, org.SwitchRequest{OrganizationName: "Acme"}); !errors.Is(err, org.ErrUnauthenticated) {
		t.Errorf("switched after the logout: %v", err)
	}
	_, err = f.Refresh(t.Context(), org.RefreshRequest{RefreshToken: acme.Refresh})
	wantUnauthenticated(t, "refreshed after the logout", err)
	_, seen := login()
	if listed, _, err := f.Sessions(t.Context(), seen, "", 10); err != nil || len(listed) != 1 {
		t.Errorf("%+v, %v", listed, err)
	}
	wantAlive("the login", &first, caller, false)
	wantAlive("from it", &bolt, boltCaller, false)
	wantAlive("from that", &acme, acmeCaller, false)
}

// TestEndSessionOfAnother ends a login of somebody else, which does nothing.
func TestEndSessionOfAnother(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.mustCreate(t, "Acme", "a@acme.test")
	f.mustCreate(t, "Bolt", "b@bolt.test")
	a, b := f.mustLogin(t, "a@acme.test", adminPassword), f.mustLogin(t, "b@bolt.test", adminPassword)
	if err := f.EndSession(t.Context(), a, b.SessionID); err != nil {
		t.Error(err)
	}
	if _, _, err := f.Me(t.Context(), b); err != nil {
		t.Errorf("another's login has ended: %v", err)
	}
	if err := f.EndSession(t.Context(), b, b.SessionID); err != nil {
		t.Error(err)
	}
	if _, _, err := f.Me(t.Context(), b); !errors.Is(err, org.ErrUnauthenticated) {
		t.Errorf("the own login has not ended: %v", err)
	}
}

// verified returns the tokens, and the caller of the access token.
func (f *fixture) verified(t *testing.T, tokens org.Tokens, err error) (org.Tokens, auth.Caller) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	caller, err := f.verifier.Verify(tokens.Access)
	if err != nil {
		t.Fatal(err)
	}
	return tokens, caller
}

// TestIdleSession checks that neither an access token nor a switch outlives a login that is not
// refreshed.
func TestIdleSession(t *testing.T) {
	t.Parallel()
	f, _, _, ahead := withMail(t)
	f.SessionIdle = 10 * time.Minute
	tokens, err := f.Login(t.Context(), org.LoginRequest{Email: "owner@acme.test", Password: adminPassword})
	tokens, caller := f.verified(t, tokens, err)
	if tokens.ExpiresIn != 10*time.Minute {
		t.Errorf("the access token lasts %v", tokens.ExpiresIn)
	}
	caller.ExpiresAt = caller.ExpiresAt.Add(time.Hour) // as one of an older version
	switched, err := f.Switch(t.Context(), caller, org.SwitchRequest{OrganizationName: "Acme Ltd"})
	if err != nil {
		t.Fatal(err)
	}
	refresh := func(tokens *org.Tokens) error {
		next, err := f.Refresh(t.Context(), org.RefreshRequest{RefreshToken: tokens.Refresh})
		*tokens = next
		return err
	}
	ahead(6 * time.Minute)
	if err := refresh(&switched); err != nil {
		t.Fatal(err)
	}
	ahead(5 * time.Minute)
	// The login is idle, and what comes from it is not.
	if err := refresh(&tokens); !errors.Is(err, org.ErrUnauthenticated) {
		t.Errorf("refreshed: %v", err)
	}
	if err := refresh(&switched); err != nil {
		t.Errorf("what comes from it: %v", err)
	}
	if _, err := f.Switch(t.Context(), caller, org.SwitchRequest{OrganizationName: "Acme Ltd"}); !errors.Is(err, org.ErrUnauthenticated) {
		t.Errorf("switched: %v", err)
	}
}

// TestSwitchesKeepTheirLogin switches more often than a person may have sessions, and checks that
// what has ended with its login takes no place.
func TestSwitchesKeepTheirLogin(t *testing.T) {
	t.Parallel()
	f, _, _, ahead := withMail(t)
	ahead(-10 * time.Minute) // no token may be of the future
	_, phone := f.login(t, "owner@acme.test")
	if _, err := f.CreateOrganization(t.Context(), phone, org.CreateOrganizationRequest{OrganizationName: "Bolt"}); err != nil {
		t.Fatal(err)
	}
	ahead(time.Second)
	laptop, caller := f.login(t, "owner@acme.test")
	for n := range 55 {
		ahead(time.Second)
		tokens, err := f.Switch(t.Context(), caller, org.SwitchRequest{OrganizationName: []string{"Bolt", "Acme Ltd"}[n%2]})
		_, switched := f.verified(t, tokens, err)
		for what, c := range map[string]auth.Caller{"the login": caller, "what was switched": switched} {
			if _, _, err := f.Me(t.Context(), c); err != nil {
				t.Fatalf("%s, after %d switches: %v", what, n+1, err)
			}
		}
	}
	if _, _, err := f.Me(t.Context(), phone); !errors.Is(err, org.ErrUnauthenticated) {
		t.Errorf("the oldest login: %v", err)
	}
	if err := f.Logout(t.Context(), org.RefreshRequest{RefreshToken: laptop.Refresh}); err != nil {
		t.Fatal(err)
	}
	f.mustLogin(t, "owner@acme.test", adminPassword)
	if left, err := f.Store.SessionsOf(t.Context(), caller.AdminID); err != nil || len(left) != 2 {
		t.Errorf("%d sessions are left, %v", len(left), err)
	}
}

func (f *fixture) login(t *testing.T, email string) (org.Tokens, auth.Caller) {
	t.Helper()
	tokens, err := f.Login(t.Context(), org.LoginRequest{Email: email, Password: adminPassword})
	return f.verified(t, tokens, err)
}

// TestScriptEndsWhileSwitching ends the session of a switch at each call of it: no new session
// may be left.
func TestScriptEndsWhileSwitching(t *testing.T) {
	for _, loginID := range []string{"", "the login"} {
		for at, done := 1, false; !done; at++ {
			runScript(t, true, func(s *sim) {
				setActive(t, s)
				s.mustRun(t, s.createAnotherOp(s.acme(), "core"))
				clear(s.durable.sessions)
				op := s.switchOp(s.acme(), "core")
				var own org.Session
				for id, session := range s.durable.sessions {
					session.LoginID = loginID
					s.durable.sessions[id], own = session, session
				}
				s.durable.sessions["the login"] = org.Session{ID: "the login", AdminID: own.AdminID, ExpiresAt: own.ExpiresAt}
				n := 0
				err := s.runHooked(op, 0, func(c *call) bool {
					if c.kind != operationEnd {
						if n++; n == at {
							delete(s.durable.sessions, own.ID)
						}
					}
					return false
				})
				done = n < at
				if left := len(s.durable.sessions) - 1; done && (err != nil || left != 2) || !done && (!errors.Is(err, org.ErrUnauthenticated) && left > 0) {
					t.Errorf("ended at call %d, of a session from %q: %v, and %d are left", at, loginID, err, left)
				}
			})
			if at > 100 || t.Failed() {
				t.Fatal("it makes no end")
			}
		}
	}
}
