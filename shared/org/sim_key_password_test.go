package org_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"orgservice/shared/org"
)

// repeatedWith repeats the request of the operation, which has an idempotency key, with that password.
func (op *operation) repeatedWith(ctx context.Context, service *org.Service, password, address string) error {
	_, _, err := service.Once(ctx, org.RepeatableRequest{
		Key: op.key.id, Fingerprint: op.fingerprint, OrganizationID: op.organization, AdminID: op.admin, Password: password, ClientAddress: address,
	}, nil)
	return err
}

// TestScriptKeyPasswords repeats two requests of one account that set a password: with the right one,
// as often as anybody likes, and with guesses, which count as those at a login do.
func TestScriptKeyPasswords(t *testing.T) {
	runScript(t, true, func(s *sim) {
		created := s.withKey(s.createCore(), nil)
		s.mustRun(t, created)
		const right, home = "password new", "192.0.2.1"
		changed := s.withKey(s.updateOp(s.named("core"), org.UpdateRequest{Password: new(right), CurrentPassword: new(created.createRequest.Password)}), nil)
		s.mustRun(t, changed)
		unreachable := ""
		run := func(f func(ctx context.Context, service *org.Service) error) error {
			defer func() { s.problems = nil }() // that "Me" is refused for too many attempts
			return s.runHooked(&operation{kind: "Me", run: func(ctx context.Context, service *org.Service) error {
				service.MailsSent = true // where none is sent, no account is locked
				return f(ctx, service)
			}}, 0, func(c *call) bool { return c.method == unreachable && s.fail(c, unsent) })
		}
		repeat := func(op *operation, password, address string) error {
			return run(func(ctx context.Context, service *org.Service) error {
				return op.repeatedWith(ctx, service, password, address)
			})
		}
		login := func(password, address string) error {
			return run(func(ctx context.Context, service *org.Service) error {
				_, err := service.Login(ctx, org.LoginRequest{Email: "c@x.test", Password: password, ClientAddress: address})
				return err
			})
		}
		if err := login(right, home); err != nil {
			t.Fatal(err)
		}
		guess := func(n int) {
			t.Helper()
			s.trace.Reset()
			op := []*operation{created, changed}[n%2]
			if err := repeat(op, "a guess", "192.0.2.2"); reasonOf(err) != org.KeyReused || !errors.Is(err, org.ErrInvalid) {
				t.Errorf("guess %d: answered %v", n, err)
			}
			if !strings.Contains(s.trace.String(), `msg="login refused" source_ip=192.0.2.2 reason=wrong-credentials admin_id=`+firstOwner(s.named("core"))) {
				t.Errorf("guess %d is not logged", n)
			}
		}
		for _, unreachable = range []string{"Admin", "CountEvent"} {
			for _, password := range []string{right, "a guess"} {
				if err := repeat(created, password, ""); !errors.Is(err, org.ErrUnavailable) {
					t.Errorf("%s can't be reached, %q: answered %v", unreachable, password, err)
				}
			}
		}
		unreachable = ""
		for range 3 {
			guess(0)
		}
		for range 60 {
			if err := repeat(created, right, "192.0.2.2"); err != nil {
				t.Fatal(err)
			}
		}
		for n := range 17 {
			guess(n)
		}
		for _, op := range []*operation{created, changed} {
			s.trace.Reset()
			if err := repeat(op, right, ""); reasonOf(err) != org.TooManyAttempts {
				t.Errorf("after 20 guesses: answered %v", err)
			}
			if !strings.Contains(s.trace.String(), "reason=too-many-attempts") {
				t.Error("the refusal is not logged")
			}
			if err := repeat(op, right, home); err != nil {
				t.Errorf("after 20 guesses, from where the account is known: answered %v", err)
			}
		}
		if err := login(right, ""); reasonOf(err) != org.TooManyAttempts {
			t.Errorf("a login after 20 guesses: answered %v", err)
		}
		for range 4 {
			s.sleep(18 * time.Minute)
			for n := range 20 {
				guess(n)
			}
		}
		s.sleep(18 * time.Minute)
		for _, err := range []error{repeat(created, right, ""), repeat(changed, right, ""), login(right, "")} {
			if reasonOf(err) != org.TooManyAttempts {
				t.Errorf("after 100 guesses: answered %v", err)
			}
		}
		if err := repeat(created, right, home); err != nil {
			t.Errorf("after 100 guesses, from where the account is known: answered %v", err)
		}
		if err := login(right, ""); reasonOf(err) != org.TooManyAttempts {
			t.Errorf("a repetition has ended the failures: answered %v", err)
		}
		if err := login(right, home); err != nil {
			t.Errorf("a login from where the account is known: answered %v", err)
		}
	})
}

// TestScriptKeyWithPassword repeats requests with a password that had none, and the other way round,
// which are other requests, whatever became of the first one: nothing is counted, because nothing is compared.
func TestScriptKeyWithPassword(t *testing.T) {
	for name, hook := range map[string]func(*sim) func(*call) bool{
		"done":    func(s *sim) func(*call) bool { return nil },
		"crashed": func(s *sim) func(*call) bool { return s.crashAt("FinishKey") },
		"undone":  func(s *sim) func(*call) bool { return s.crashAt("RenameCollection") },
	} {
		t.Run(name, func(t *testing.T) {
			runScript(t, true, func(s *sim) {
				s.mustCreate(t, "acme", "a@x.test")
				right := s.knownPassword()
				renamed, created := s.withKey(s.changeAcme("bolt", "", ""), nil), s.withKey(s.createCore(), nil)
				for _, op := range []*operation{renamed, created} {
					s.runHooked(op, 0, hook(s))
				}
				s.sleep(org.StaleAfter + time.Second)
				repeat := func(op *operation, password string) error {
					return s.runHooked(&operation{kind: "Me", run: func(ctx context.Context, service *org.Service) error {
						return op.repeatedWith(ctx, service, password, "")
					}}, 0, nil)
				}
				for _, k := range s.durable.keys {
					if k.SetsPassword == nil || *k.SetsPassword != (k.ID == created.key.id) {
						t.Errorf("%s: %v", k.ID, k.SetsPassword)
					}
				}
				for _, err := range []error{repeat(renamed, right), repeat(renamed, "a guess"), repeat(created, "")} {
					if reasonOf(err) != org.KeyReused {
						t.Errorf("answered %v", err)
					}
				}
				for key := range s.durable.counts {
					if strings.HasPrefix(key, "account:") {
						t.Errorf("counted: %s", key)
					}
				}
				if name != "done" {
					return
				}
				for id, k := range s.durable.keys { // as an older version makes them
					k.SetsPassword = nil
					s.durable.keys[id] = k
				}
				for password, want := range map[string]org.Reason{right: "", "a guess": org.KeyReused} {
					if err := repeat(renamed, password); reasonOf(err) != want {
						t.Errorf("%q, with a key of an older version: answered %v", password, err)
					}
				}
			})
		})
	}
}

// TestScriptKeyOfSecondTry repeats a creation whose first try has crashed before it made anything: the
// password is that of the admin of the second one.
func TestScriptKeyOfSecondTry(t *testing.T) {
	runScript(t, true, func(s *sim) {
		op := s.withKey(s.createCore(), nil)
		s.runHooked(op, 0, s.crashAt("InsertClaims"))
		s.sleep(org.StaleAfter)
		s.mustRun(t, s.repeatOp(op.key))
		for password, want := range map[string]org.Reason{"a guess": org.KeyReused, op.createRequest.Password: ""} {
			err := s.runHooked(&operation{kind: "Me", run: func(ctx context.Context, service *org.Service) error {
				return op.repeatedWith(ctx, service, password, "")
			}}, 0, nil)
			if reasonOf(err) != want {
				t.Errorf("%q: answered %v", password, err)
			}
		}
		s.repairAndCheck()
	})
}

// TestScriptKeyOfNewPassword repeats a new password that has crashed after its commit, once the admin
// has set another one.
func TestScriptKeyOfNewPassword(t *testing.T) {
	runScript(t, true, func(s *sim) {
		s.mustCreate(t, "acme", "a@x.test")
		op := s.withKey(s.changeAcme("", "", "password new"), nil)
		s.runHooked(op, 0, s.crashAt("FinishKey"))
		s.mustRun(t, s.changeAcme("", "", "password newer"))
		s.sleep(org.StaleAfter)
		if err := s.runHooked(s.repeatOp(op.key), 0, nil); reasonOf(err) != org.KeyReused {
			t.Errorf("answered %v", err)
		}
		s.repairAndCheck()
	})
}

// TestScriptKeyOfNobody guesses by the key of a sign-up whose organization is deleted, but can be restored, or is
// suspended. Nothing tells whether a guess is right, and none counts for whoever has the email now.
func TestScriptKeyOfNobody(t *testing.T) {
	for name, end := range map[string]func(*sim){
		"deleted": func(s *sim) {
			s.grace = 24 * time.Hour
			s.mustRun(t, s.deleteOp(s.named("core")))
			s.mustCreate(t, "acme", "c@x.test")
		},
		"suspended": func(s *sim) { s.mustAct(t, s.named("core").ID, false) },
	} {
		runScript(t, true, func(s *sim) {
			op := s.withKey(s.createCore(), nil)
			s.mustRun(t, op)
			core, lost := s.named("core"), ""
			end(s)
			repeat := func(password, caller string) error {
				return s.runHooked(&operation{kind: "Me", run: func(ctx context.Context, service *org.Service) error {
					_, _, err := service.Once(ctx, org.RepeatableRequest{
						Key: op.key.id, Fingerprint: op.fingerprint, Password: password, ClientAddress: "192.0.2.1", CallerOf: caller, Until: time.Now().Add(time.Hour),
					}, nil)
					return err
				}}, 0, func(c *call) bool { return c.method == lost && s.fail(c, unsent) })
			}
			for n := range 30 {
				for _, password := range []string{fmt.Sprint("guess ", n), op.createRequest.Password} {
					if err := repeat(password, ""); err != nil {
						t.Fatalf("%s, %q: answered %v", name, password, err)
					}
					if err := repeat(password, core.ID); name == "suspended" && reasonOf(err) != org.TokenRevoked {
						t.Errorf("%q with a token: answered %v", password, err)
					}
				}
			}
			for key, c := range s.durable.counts {
				if !strings.HasPrefix(key, "verification") && total(c) > 0 {
					t.Errorf("%s: counted: %s %v", name, key, c)
				}
			}
			lost = "OrganizationsByID"
			if err := repeat("a guess", ""); !errors.Is(err, org.ErrUnavailable) {
				t.Errorf("%s: it is not known: answered %v", name, err)
			}
			if name == "suspended" {
				s.mustAct(t, core.ID, true)
			}
		})
	}
}

// TestScriptKeyOfOtherRequest lets a repetition sleep once it has taken the key over. Meanwhile another one is
// refused, or the key expires, and then the key is used with another request: in that the sleeper has no part.
func TestScriptKeyOfOtherRequest(t *testing.T) {
	for name, c := range map[string]struct {
		expires  bool
		password string // of the other request
	}{
		"refused": {false, ""}, "expired": {true, ""}, "refused, then a password": {false, "password new"}, "expired, then a password": {true, "password new"},
	} {
		runScript(t, true, func(s *sim) {
			s.mustCreate(t, "acme", "a@x.test")
			o, current := s.acme(), s.knownPassword()
			request := func(name, password string) *operation {
				r := org.RepeatableRequest{Key: "a key", OrganizationID: o.ID, AdminID: firstOwner(o), Password: password, Fingerprint: name}
				u := org.UpdateRequest{OrganizationName: &name}
				if password != "" {
					u.Password, u.CurrentPassword = &password, &current
				}
				return &operation{kind: "Me", run: func(ctx context.Context, service *org.Service) error {
					_, _, err := service.Once(ctx, r, func(ctx context.Context) ([]byte, error) {
						o, err := service.Update(ctx, s.callerOf(o, firstOwner(o)), u)
						return []byte(o.Name), err
					})
					return err
				}}
			}
			s.runHooked(request("Core", ""), 0, s.crashAt("InsertClaims"))
			s.sleep(org.StaleAfter + time.Second)
			reads := 0
			err := s.runHooked(request("Core", ""), 0, func(hooked *call) bool {
				if hooked.method != "Key" {
					return false
				}
				if reads++; reads == 2 {
					s.meanwhile(func() {
						s.sleep(org.StaleAfter + time.Second)
						s.mustRun(t, s.createCore()) // so that the name is taken
						if c.expires {
							s.sleep(24 * time.Hour)
						} else {
							s.runHooked(request("Core", ""), 0, nil)
						}
						if err := s.runHooked(request("Dune", c.password), 0, nil); err != nil {
							t.Errorf("%s: the other request: answered %v", name, err)
						}
					})
				}
				return false
			})
			if reasonOf(err) != org.KeyReused {
				t.Errorf("%s: answered %v", name, err)
			}
			s.problems = nil // the model knows nothing of what "Me" changes
		})
	}
}

// TestScriptKeyOfLaterTry lets a repetition of a sign-up sleep once it has taken the key over. Meanwhile another
// one, with another password, signs up.
func TestScriptKeyOfLaterTry(t *testing.T) {
	runScript(t, true, func(s *sim) {
		op := s.withKey(s.createCore(), nil)
		s.runHooked(op, 0, s.crashAt("InsertClaims"))
		s.sleep(org.StaleAfter + time.Second)
		signUp := func(password string) *operation {
			r := *op.createRequest
			r.Password = password
			return &operation{kind: "Create", createRequest: &r, run: func(ctx context.Context, service *org.Service) error {
				_, _, err := service.Once(ctx, org.RepeatableRequest{Key: op.key.id, Fingerprint: op.fingerprint, Password: password}, func(ctx context.Context) ([]byte, error) {
					_, err := service.Create(ctx, r)
					return []byte("created"), err
				})
				return err
			}}
		}
		err := s.runHooked(signUp("password X"), 0, once("Organization", func() {
			s.meanwhile(func() {
				s.sleep(org.StaleAfter + time.Second)
				s.mustRun(t, signUp("password Y"))
			})
		}))
		if reasonOf(err) != org.KeyReused {
			t.Errorf("answered %v", err)
		}
		s.repairAndCheck()
	})
}
