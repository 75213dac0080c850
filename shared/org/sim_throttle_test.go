package org_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"orgservice/shared/org"
)

// TestScriptThrottleOfUntrimmed has an account whose address ends with white space, as
// older versions stored it. A login to it must not clear the failures of the account
// that has the address without it.
func TestScriptThrottleOfUntrimmed(t *testing.T) {
	runScript(t, true, func(s *sim) {
		s.mustCreate(t, "acme", "a@x.test")
		s.mustCreate(t, "bolt", "b@x.test")
		const untrimmed = "a@x.test\u00a0"
		for id, a := range s.durable.admins {
			if a.Email == "b@x.test" {
				a.Email = untrimmed
				s.durable.admins[id] = a
				delete(s.durable.claims, "email:b@x.test")
				s.durable.claims["email:"+untrimmed] = org.Claim{ID: "email:" + untrimmed, Owner: org.Owner{AdminID: id}}
			}
		}
		login := func(email, password string) error {
			return s.runHooked(s.loginOp(org.LoginRequest{Email: email, Password: password}), 0, nil)
		}
		for n := range 30 {
			err := login("a@x.test", "a guess")
			if errors.Is(err, org.ErrThrottled) {
				return
			}
			if n%5 == 4 {
				if err := login(untrimmed, "password 2"); err != nil {
					t.Fatal(err)
				}
			}
		}
		t.Error("30 guesses within a moment")
	})
}

// TestScriptThrottleTells guesses the password of an admin whose organization is
// suspended. The count of attempts must not tell that one of the guesses was right.
func TestScriptThrottleTells(t *testing.T) {
	runScript(t, true, func(s *sim) {
		s.mustCreate(t, "acme", "a@x.test")
		s.toggleSuspension(s.onlyOrganization(t).ID)
		var answers []error
		for n := range 22 {
			guess := "a guess"
			if n == 19 {
				guess = s.knownPassword()
			}
			answers = append(answers, s.runHooked(s.loginOp(org.LoginRequest{Email: "a@x.test", Password: guess}), 0, nil))
		}
		if !errors.Is(answers[19], org.ErrUnauthenticated) || !errors.Is(answers[20], org.ErrThrottled) {
			t.Errorf("the 20th guess, which is right, is answered %q, the 21st %q", answers[19], answers[20])
		}
	})
}

// TestScriptThrottleUnavailable makes each call of a login, with the right and with a
// wrong password, and of a change of the password fail. What is answered with
// ErrUnavailable does not count as an attempt, unless it tells that the password is wrong.
// Nobody gets an attempt that can't be counted.
func TestScriptThrottleUnavailable(t *testing.T) {
	operations := map[string]func(s *sim, o org.Organization, password string) *operation{
		"login": func(s *sim, o org.Organization, password string) *operation {
			return s.loginOp(org.LoginRequest{Email: "a@x.test", Password: password, ClientAddress: "192.0.2.1"})
		},
		"change": func(s *sim, o org.Organization, password string) *operation {
			next := "another password"
			return s.updateOp(o, org.UpdateRequest{Password: &next, CurrentPassword: &password})
		},
		// The claim to the email is made the admin's first.
		"email of an older version": func(s *sim, o org.Organization, password string) *operation {
			s.downgrade()
			return s.updateOp(s.durable.organizations[o.ID], org.UpdateRequest{Email: new("b@x.test"), CurrentPassword: &password})
		},
	}
	for name, op := range operations {
		limits := 1 // that it is counted under
		if name == "login" {
			limits = 2
		}
		for _, right := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s right=%v", name, right), func(t *testing.T) {
				unavailable := 0
				for n, calls := 0, 1; n < calls; n++ {
					runScript(t, true, func(s *sim) {
						s.mustCreate(t, "acme", "a@x.test")
						password := s.knownPassword()
						if !right {
							password = "a guess"
						}
						clear(s.durable.counts)
						calls = 0
						counted, late, counts := 0, false, false // late: the failing call is the one that counts a failure
						err := s.runHooked(op(s, s.onlyOrganization(t), password), 0, func(c *call) bool {
							calls++
							if c.method == "CountEvent" {
								counted++
							}
							if calls-1 != n || c.method == "compare" || c.kind == operationEnd {
								return false
							}
							late = c.method == "CountEvent" && counted == limits+1
							counts = c.method == "CountEvent" || c.method == "Count"
							s.take(c)
							s.answer(c, unreachable(c))
							return true
						})
						if !errors.Is(err, org.ErrUnavailable) {
							if counts {
								t.Errorf("call %d, which counts, fails, and the answer is %v", n, err)
							}
							return
						}
						unavailable++
						if late {
							if wrong := func(c org.Count) bool { return total(c) != 1 }; len(s.durable.counts) != limits || slices.ContainsFunc(slices.Collect(maps.Values(s.durable.counts)), wrong) {
								t.Errorf("call %d: a wrong guess is counted as %v", n, s.durable.counts)
							}
							return
						}
						for key, c := range s.durable.counts {
							if strings.HasPrefix(key, "verification ") {
								continue // of a mail
							}
							if total(c) != 0 && (!right || !strings.HasPrefix(key, "current password:")) { // which has cost two hashes
								t.Errorf("call %d: %d attempts of %s after %v", n, total(c), key, err)
							}
						}
					})
				}
				if unavailable < 3 {
					t.Errorf("%d calls led to ErrUnavailable", unavailable)
				}
			})
		}
	}
}

// TestScriptThrottleTakesBackOnce makes it fail to look whether a network is known, and to count the
// attempt. The attempt must be taken back once, and no other one.
func TestScriptThrottleTakesBackOnce(t *testing.T) {
	runScript(t, true, func(s *sim) {
		s.mustCreate(t, "acme", "a@x.test")
		login := func(password, address string, hook func(c *call) bool) error {
			return s.runHooked(s.loginOp(org.LoginRequest{Email: "a@x.test", Password: password, ClientAddress: address}), 0, hook)
		}
		const home = "192.0.2.1"
		if err := login(s.knownPassword(), home, nil); err != nil {
			t.Fatal(err)
		}
		for range 20 {
			login("a guess", "", nil)
		}
		login("a guess", home, nil)
		before := fmt.Sprint(s.durable.counts)
		for n := range 4 { // whether it is known, the account's count, the address's and its own
			counted := 0
			err := login("a guess", home, func(c *call) bool {
				if c.method == "CountEvent" {
					counted++
				}
				if n == 0 && c.method != "Known" || n > 0 && (c.method != "CountEvent" || counted != n) {
					return false
				}
				s.take(c)
				s.answer(c, unreachable(c))
				return true
			})
			if !errors.Is(err, org.ErrUnavailable) {
				t.Errorf("call %d fails: answered %v", n, err)
			}
			if after := fmt.Sprint(s.durable.counts); after != before {
				t.Errorf("call %d fails: counted %s; want %s", n, after, before)
			}
		}
	})
}

// counts is a store that keeps the events that are counted.
type counts struct {
	org.Store
	events []org.Event
}

func (c *counts) CountEvent(ctx context.Context, e org.Event) (org.Count, error) {
	c.events = append(c.events, e)
	return c.Store.CountEvent(ctx, e)
}

// TestScriptWindows counts attempts in parts of a window: those of a process whose clock is ahead
// count, and no part is kept for longer than it takes.
func TestScriptWindows(t *testing.T) {
	runScript(t, true, func(s *sim) {
		s.mustCreate(t, "acme", "a@x.test")
		guess := func(ahead time.Duration) error {
			return s.runHooked(s.loginOp(org.LoginRequest{Email: "a@x.test", Password: "a guess"}), ahead, nil)
		}
		const part = 15 * time.Minute / 6
		s.sleep(time.Until(time.Now().Truncate(part).Add(part - 10*time.Second)))
		for range 20 {
			if err := guess(20 * time.Second); reasonOf(err) != org.WrongCredentials {
				t.Errorf("answered %v", err)
			}
		}
		if err := guess(0); !errors.Is(err, org.ErrThrottled) {
			t.Errorf("after 20 guesses by a clock that is ahead: answered %v", err)
		}
		for range 20 {
			s.sleep(part)
			guess(0)
		}
		for key, c := range s.durable.counts {
			if strings.HasPrefix(key, "account:") && len(c) > 7 {
				t.Errorf("%s has %d parts", key, len(c))
			}
		}
		op := s.loginOp(org.LoginRequest{Email: "a@x.test", Password: "a guess"})
		run, recorder := op.run, &counts{}
		op.run = func(ctx context.Context, service *org.Service) error {
			recorder.Store, service.Store = service.Store, recorder
			return run(ctx, service)
		}
		s.runHooked(op, 0, nil)
		if len(recorder.events) == 0 || !recorder.events[0].Expires.Equal(time.Now().Add(30*time.Minute)) {
			t.Errorf("%+v at %v", recorder.events, time.Now())
		}
	})
}

// TestScriptRefusedMails counts no mail that is refused.
func TestScriptRefusedMails(t *testing.T) {
	runScript(t, true, func(s *sim) {
		s.mustCreate(t, "acme", "a@x.test")
		sent := len(s.mails)
		for range 8 {
			s.runHooked(&operation{kind: "Forgot", run: func(ctx context.Context, service *org.Service) error {
				return service.Forgot(ctx, org.ForgotRequest{Email: "a@x.test"})
			}}, 0, nil)
		}
		for key, c := range s.durable.counts {
			if strings.HasPrefix(key, "reset to:") && total(c) != 5 {
				t.Errorf("%d mails are counted, and %d sent", total(c), len(s.mails)-sent)
			}
		}
		if n := len(s.mails) - sent; n != 5 {
			t.Errorf("%d mails", n)
		}
	})
}

// TestScriptLocked fails to log in from a known network: to an account that has had too many attempts,
// and then to one that is locked, where the network has failures and attempts of its own.
func TestScriptLocked(t *testing.T) {
	runScript(t, true, func(s *sim) {
		s.mustCreate(t, "acme", "a@x.test")
		right, unreachableAt := s.knownPassword(), 0
		login := func(password, address string) error {
			calls := 0
			op := s.loginOp(org.LoginRequest{Email: "a@x.test", Password: password, ClientAddress: address})
			run := op.run
			op.run = func(ctx context.Context, service *org.Service) error {
				service.MailsSent = true
				return run(ctx, service)
			}
			return s.runHooked(op, 0, func(c *call) bool {
				if c.method == "Count" {
					calls++
				}
				return c.method == "Count" && calls == unreachableAt && s.fail(c, unsent)
			})
		}
		failures := func() map[string]int64 {
			found := map[string]int64{}
			for key, c := range s.durable.counts {
				if strings.HasPrefix(key, "failures:") {
					found[key] = total(c)
				}
			}
			return found
		}
		const home = "192.0.2.1"
		if err := login(right, home); err != nil {
			t.Fatal(err)
		}
		for key := range s.durable.known {
			if !strings.HasPrefix(key, "known:") {
				t.Errorf("%s is not what functions of another version look for", key)
			}
		}
		for range 20 {
			login("a guess", "")
		}
		login("a guess", home)
		account := ""
		for key, n := range failures() {
			if account = key; n != 21 {
				t.Errorf("%d failures of the account; want 21", n)
			}
		}
		lock := func(key string) {
			for part := range s.durable.counts[key] {
				s.durable.counts[key][part] = 100
			}
		}
		lock(account)
		if err := login(right, ""); reasonOf(err) != org.TooManyAttempts {
			t.Errorf("to a locked account: answered %v", err)
		}
		for n := range 9 {
			if err := login("a guess", home); reasonOf(err) != org.WrongCredentials {
				t.Errorf("guess %d from the known network: answered %v", n, err)
			}
		}
		if err := login("a guess", home); !errors.Is(err, org.ErrThrottled) {
			t.Errorf("the 11th attempt from the known network: answered %v", err)
		}
		own := failures()
		if own[account] != 100 || len(own) != 2 {
			t.Errorf("failures: %v; want 100 of the account, and others of the network", own)
		}
		s.sleep(time.Hour)
		for n := range 11 {
			if err := login("a guess", home); reasonOf(err) != org.WrongCredentials {
				t.Errorf("an hour later, guess %d from the known network: answered %v", n, err)
			}
		}
		unreachableAt = 2
		if err := login(right, home); !errors.Is(err, org.ErrUnavailable) {
			t.Errorf("the failures of the network can't be read: answered %v", err)
		}
		unreachableAt = 0
		for key := range own {
			lock(key)
		}
		if err := login(right, home); reasonOf(err) != org.TooManyAttempts {
			t.Errorf("from a locked network: answered %v", err)
		}
		for key := range own {
			if key != account {
				delete(s.durable.counts, key)
			}
		}
		if err := login(right, home); err != nil || len(failures()) > 0 {
			t.Errorf("with the password: answered %v, and there are the failures %v", err, failures())
		}
	})
}

// TestScriptNoRefusal logs in while the database can't be reached, which is no refusal.
func TestScriptNoRefusal(t *testing.T) {
	runScript(t, true, func(s *sim) {
		s.mustCreate(t, "acme", "a@x.test")
		for password, refused := range map[string]bool{"nobody's password": true, s.knownPassword(): false} {
			s.trace.Reset()
			err := s.runHooked(s.login("a@x.test", password), 0, func(c *call) bool { return c.method == "InsertSession" && s.fail(c, unsent) })
			if logged := strings.Contains(s.trace.String(), "login refused"); err == nil || logged != refused {
				t.Errorf("%q: %v, logged %v", password, err, logged)
			}
		}
	})
}
