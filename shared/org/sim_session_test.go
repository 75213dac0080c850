package org_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"orgservice/shared/auth"
	"orgservice/shared/org"
)

// runAs runs f as an operation, with the service of its process.
func (s *sim) runAs(kind string, f func(ctx context.Context, service *org.Service) error) error {
	return s.runHooked(&operation{kind: kind, run: f}, 0, nil)
}

// brokenPasswords can't hash a password, nor compare one that is "broken".
type brokenPasswords struct{}

func (brokenPasswords) Verify(hash, password string) (bool, error) {
	if password == "broken" {
		return false, errors.New("not a hash")
	}
	return plainPasswords{}.Verify(hash, password)
}

func (brokenPasswords) Hash(string) (string, error) { return "", errors.New("no entropy") }
func (brokenPasswords) Outdated(string) bool        { return true }

// TestScriptSessions checks what a session is, and what becomes of it when
// something is missing.
func TestScriptSessions(t *testing.T) {
	runScript(t, true, func(s *sim) {
		s.mustCreate(t, "acme", "a@x.test")
		o := s.onlyOrganization(t)
		if a, now := s.durable.admins[o.Admins[0].AdminID], time.Now(); !a.CreatedAt.Equal(now) || !a.UpdatedAt.Equal(now) || !o.UpdatedAt.Equal(now) {
			t.Errorf("%+v and %+v; want %v", a, o, now)
		}
		login := org.LoginRequest{Email: "a@x.test", Password: s.models[o.ID].password, ClientAddress: "192.0.2.1"}

		err := s.runAs("Login", func(ctx context.Context, service *org.Service) error {
			_, err := service.Login(ctx, login)
			return err
		})
		if err != nil || strings.Contains(s.trace.String(), "log: level=WARN") {
			t.Errorf("%v; the log is in\n%s", err, s.trace)
		}
		for _, session := range s.durable.sessions {
			if now := time.Now(); !session.CreatedAt.Equal(now) || !session.ExpiresAt.Equal(now.Add(time.Hour)) {
				t.Errorf("%+v; want one made at %v, for an hour", session, now)
			}
		}

		// A hash that can't be made must not replace the old one.
		err = s.runAs("Login", func(ctx context.Context, service *org.Service) error {
			service.Passwords = brokenPasswords{}
			if _, err := service.Login(ctx, org.LoginRequest{Email: login.Email, Password: "broken"}); err == nil || reasonOf(err) != "" {
				t.Errorf("a hash that can't be compared: %v", err)
			}
			if _, err := service.Login(ctx, login); err != nil {
				return err
			}
			service.Log = nil // it logs to the default logger
			_, err := service.Login(ctx, login)
			return err
		})
		if a := s.durable.admins[o.Admins[0].AdminID]; err != nil || a.PasswordHash != "hash of "+login.Password {
			t.Errorf("%v; the hash is %q", err, a.PasswordHash)
		}
		if !strings.Contains(s.trace.String(), "log: level=WARN msg=\"password not rehashed\"") {
			t.Errorf("it is not in the log:\n%s", s.trace)
		}

		token, session := auth.NewOpaqueToken(auth.NewOpaqueID()), s.durable.sessions[s.caller(o).SessionID]
		session.ID, session.RefreshHash, session.ExpiresAt = token.ID, token.Hash(), time.Now().Add(10*time.Minute)
		s.durable.sessions[session.ID] = session
		refresh := func(ctx context.Context, service *org.Service) error {
			tokens, err := service.Refresh(ctx, org.RefreshRequest{RefreshToken: token.Text()})
			if err == nil && tokens.ExpiresIn != 10*time.Minute {
				t.Errorf("an access token for %v; its session ends in 10 minutes", tokens.ExpiresIn)
			}
			return err
		}
		if err := s.runAs("Refresh", refresh); err != nil {
			t.Error(err)
		}
		if err := s.runAs("Refresh", refresh); reasonOf(err) != org.RefreshTokenInvalid {
			t.Errorf("a second refresh: %v", err)
		}
		if !strings.Contains(s.trace.String(), "a refresh token was used again") {
			t.Errorf("it is not in the log:\n%s", s.trace)
		}
		session.OrganizationID = "none"
		s.durable.sessions[session.ID] = session
		if err := s.runAs("Refresh", refresh); reasonOf(err) != org.RefreshTokenInvalid {
			t.Errorf("without an organization: %v", err)
		}
		s.runAs("Refresh", func(ctx context.Context, service *org.Service) error {
			if err := service.Logout(ctx, org.RefreshRequest{}); reasonOf(err) != org.InvalidFields {
				t.Errorf("a logout without a token: %v", err)
			}
			return nil
		})

		// A password that can't be hashed must change nothing.
		before := s.summary(false)
		caller, password := s.caller(o), "password new"
		err = s.runAs("Create", func(ctx context.Context, service *org.Service) error {
			service.Passwords = brokenPasswords{}
			if _, err := service.Create(ctx, org.CreateRequest{OrganizationName: "Core", Email: "c@x.test", Password: password}); err == nil {
				t.Error("created without a hash")
			}
			if _, err := service.Update(ctx, caller, org.UpdateRequest{Password: &password, CurrentPassword: &login.Password}); err == nil {
				t.Error("updated without a hash")
			}
			return errDenied
		})
		if after := s.summary(false); after != before {
			t.Errorf("%v, and now there is\n%s; want\n%s", err, after, before)
		}
		// The proof of the current password stays counted, and nothing else does.
		attempts := func() (left []string) {
			for key, c := range s.durable.counts {
				if !strings.HasPrefix(key, "current password:") && total(c) > 0 {
					left = append(left, key)
				}
			}
			return left
		}
		clear(s.durable.counts)
		if err := s.runHooked(s.updateOp(o, org.UpdateRequest{Password: &password, CurrentPassword: &login.Password}), 0, nil); err != nil || len(attempts()) > 0 {
			t.Errorf("%v; attempts %v", err, s.durable.counts)
		}
		o = s.onlyOrganization(t)
		name := "ACME"
		if err := s.runHooked(s.updateOp(o, org.UpdateRequest{OrganizationName: &name, CurrentPassword: &password}), 0, nil); err != nil || len(attempts()) > 0 {
			t.Errorf("%v; attempts %v", err, s.durable.counts)
		}

		o = s.onlyOrganization(t)
		caller = s.caller(o)
		other := caller
		other.AdminID = "nobody"
		err = s.runAs("Me", func(ctx context.Context, service *org.Service) error {
			_, _, err := service.Me(ctx, other)
			return err
		})
		if reasonOf(err) != org.TokenRevoked {
			t.Errorf("no member: %v", err)
		}
		delete(s.durable.admins, caller.AdminID)
		err = s.runAs("Me", func(ctx context.Context, service *org.Service) error {
			_, _, err := service.Me(ctx, caller)
			return err
		})
		if reasonOf(err) != org.TokenRevoked {
			t.Errorf("without an admin: %v", err)
		}
	})
}

// TestScriptAddresses checks which clients share a count of attempts, and what a
// client is told that must wait.
func TestScriptAddresses(t *testing.T) {
	runScript(t, true, func(s *sim) {
		login := func(address string) (err error) {
			s.runAs("Login", func(ctx context.Context, service *org.Service) error {
				_, err = service.Login(ctx, org.LoginRequest{Email: "a@x.test", Password: "wrong", ClientAddress: address})
				return nil
			})
			return err
		}
		for _, tt := range []struct {
			a, b   string
			shared bool
		}{
			{"192.0.2.1", "192.0.2.1", true},
			{"192.0.2.1", "192.0.2.2", false},
			{"::ffff:192.0.2.1", "::ffff:192.0.2.2", false},
			{"2001:db8:0:2::1", "2001:db8:0:2:8000::1", true},
			{"2001:db8:0:2::1", "2001:db8:0:3::1", false},
			{"", "", true},
		} {
			clear(s.durable.counts)
			login(tt.a)
			before := len(s.durable.counts)
			login(tt.b)
			if shared := len(s.durable.counts) == before; shared != tt.shared {
				t.Errorf("%q and %q share a count: %v; want %v", tt.a, tt.b, shared, tt.shared)
			}
		}

		clear(s.durable.counts)
		for range 20 {
			if err := login("192.0.2.1"); reasonOf(err) != org.WrongCredentials {
				t.Fatal(err)
			}
		}
		var e *org.Error
		for range 3 { // a refused attempt does not lengthen the wait
			if err := login("192.0.2.1"); !errors.As(err, &e) || e.RetryAfter <= 15*time.Minute || e.RetryAfter > 15*time.Minute+150*time.Second ||
				!strings.HasSuffix(e.Message, fmt.Sprintf(" in %d seconds", int(e.RetryAfter/time.Second))) {
				t.Fatalf("%v after %v", err, e.RetryAfter)
			}
			for key, a := range s.durable.counts {
				if total(a) > 20 {
					t.Errorf("%d attempts of %s", total(a), key)
				}
			}
		}
		s.sleep(e.RetryAfter - 2*time.Second)
		if err := login("192.0.2.1"); reasonOf(err) != org.TooManyAttempts {
			t.Errorf("before the wait is over: %v", err)
		}
		s.sleep(2 * time.Second)
		if err := login("192.0.2.1"); reasonOf(err) != org.WrongCredentials {
			t.Errorf("after the wait: %v", err)
		}
	})
}

// resolveLast returns a hook that executes all other calls that wait before those of the method.
func (s *sim) resolveLast(method string) func(c *call) bool {
	return func(c *call) bool {
		i := slices.IndexFunc(s.pending, func(p *call) bool { return p.method != method })
		if c.method != method || i < 0 {
			return false
		}
		s.resolve(s.pending[i])
		return true
	}
}

// TestScriptMostSessions logs in once more than a person may have sessions, which are counted before
// or after the new one has begun.
func TestScriptMostSessions(t *testing.T) {
	for _, last := range []string{"InsertSession", "SessionsOf"} {
		runScript(t, true, func(s *sim) {
			s.mustCreate(t, "acme", "a@x.test")
			for n := range 53 {
				err := s.runHooked(s.login("a@x.test", s.knownPassword()), 0, s.resolveLast(last))
				if want := min(n+1, 50); err != nil || len(s.durable.sessions) != want {
					t.Errorf("%s is last, login %d: %v, %d sessions; want %d", last, n+1, err, len(s.durable.sessions), want)
				}
			}
		})
	}
}

// TestScriptSwitchedSessionsEnd logs in where sessions are left whose login has ended: they end, too, and no
// others in their place. Of so many sessions that the login may not be among those that were read, the
// oldest end.
func TestScriptSwitchedSessionsEnd(t *testing.T) {
	for others, want := range map[int]int{49: 50, org.MostSessionsOf - 1: 50} {
		runScript(t, true, func(s *sim) {
			s.mustCreate(t, "acme", "a@x.test")
			caller := s.caller(s.acme())
			base := s.durable.sessions[caller.SessionID]
			clear(s.durable.sessions)
			for n := range others {
				base.ID, base.CreatedAt = fmt.Sprintf("t%05d", n), time.Now().Add(time.Duration(n-others)*time.Minute)
				s.durable.sessions[base.ID] = base
			}
			switched := base
			switched.ID, switched.LoginID, switched.CreatedAt = "u", "gone", time.Now()
			s.durable.sessions["u"] = switched
			if err := s.runHooked(s.login("a@x.test", s.knownPassword()), 0, s.resolveLast("InsertSession")); err != nil {
				t.Fatal(err)
			}
			_, left := s.durable.sessions["u"]
			if len(s.durable.sessions) != want || left != (others > 49) {
				t.Errorf("of %d sessions %d are left; the one whose login has ended: %v", others+1, len(s.durable.sessions), left)
			}
		})
	}
}

// TestScriptOwnSessions lists a person's sessions, by pages, and ends them. The database may fail.
func TestScriptOwnSessions(t *testing.T) {
	runScript(t, true, func(s *sim) {
		s.mustCreate(t, "acme", "a@x.test")
		s.mustCreate(t, "bolt", "b@x.test")
		s.mustRun(t, s.createAnotherOp(s.named("acme"), "dune"))
		dune, bolt := s.named("dune"), s.named("bolt")
		stranger := s.durable.sessions[s.caller(bolt).SessionID]
		stranger.ID = "u1"
		clear(s.durable.sessions)
		caller := s.caller(s.named("acme"))
		s.durable.sessions[stranger.ID] = stranger
		add := func(id string, change func(*org.Session)) {
			session := s.durable.sessions[caller.SessionID]
			session.ID, session.OrganizationID = id, dune.ID
			change(&session)
			s.durable.sessions[id] = session
		}
		add("t1", func(*org.Session) {})
		add("t2", func(o *org.Session) { o.LoginID = "t1" })
		add("t3", func(o *org.Session) { o.LoginID = "gone" })
		add("t4", func(o *org.Session) { o.ExpiresAt = time.Now() })
		add("t5", func(o *org.Session) { o.TokenVersion-- })
		add("t6", func(o *org.Session) { o.OrganizationID = bolt.ID })
		var listed []string
		var more bool
		list := func(after string, limit int, fails string) error {
			return s.runHooked(&operation{kind: "Me", run: func(ctx context.Context, service *org.Service) error {
				sessions, m, err := service.Sessions(ctx, caller, after, limit)
				listed, more = nil, m
				for _, o := range sessions {
					listed = append(listed, fmt.Sprint(o.ID, " ", strings.ToLower(o.OrganizationName), " ", o.Current))
				}
				return err
			}}, 0, func(c *call) bool { return c.method == fails && s.fail(c, unsent) })
		}
		all := []string{caller.SessionID + " acme true", "t1 dune false", "t2 dune false"}
		for _, page := range []struct {
			after string
			limit int
			want  []string
			more  bool
		}{{"", 9, all, false}, {"", 3, all, false}, {"", 2, all[:2], true}, {"t1", 2, all[2:], false}, {"t2", 2, nil, false}} {
			if err := list(page.after, page.limit, ""); err != nil || !slices.Equal(listed, page.want) || more != page.more {
				t.Errorf("after %q: %v, %q, more %v; want %q, %v", page.after, err, listed, more, page.want, page.more)
			}
		}
		for _, fails := range []string{"SessionsOf", "OrganizationsByID", "Session"} {
			if err := list("", 9, fails); !errors.Is(err, org.ErrUnavailable) || len(listed) > 0 || more {
				t.Errorf("%s fails: %v, %q, more %v", fails, err, listed, more)
			}
		}
		end := func(id, fails string) error {
			reads := 0
			return s.runHooked(&operation{kind: "Me", run: func(ctx context.Context, service *org.Service) error {
				if id == "" {
					return service.EndOtherSessions(ctx, caller)
				}
				return service.EndSession(ctx, caller, id)
			}}, 0, func(c *call) bool {
				if c.method == "Session" {
					reads++
				}
				return c.method == "Session" && fmt.Sprint(reads) == fails && s.fail(c, unsent)
			})
		}
		for _, id := range []string{"t1", ""} {
			for _, fails := range []string{"1", "2"} { // that of the caller, and that of the request
				if err := end(id, fails); !errors.Is(err, org.ErrUnavailable) || len(s.durable.sessions) != 8 {
					t.Errorf("end %q, read %s fails: %v, %d sessions", id, fails, err, len(s.durable.sessions))
				}
			}
		}
		for _, id := range []string{stranger.ID, "nobody's"} {
			if err := end(id, ""); err != nil || len(s.durable.sessions) != 8 {
				t.Errorf("end %s: %v, %d sessions", id, err, len(s.durable.sessions))
			}
		}
		if err := end("t1", ""); err != nil || len(s.durable.sessions) != 7 {
			t.Errorf("end a login: %v, %d sessions", err, len(s.durable.sessions))
		}
		if err := end("", ""); err != nil || len(s.durable.sessions) != 2 {
			t.Errorf("end all others: %v, %d sessions", err, len(s.durable.sessions))
		}
		delete(s.durable.sessions, caller.SessionID)
		for _, id := range []string{"", stranger.ID} {
			if err := end(id, ""); reasonOf(err) != org.TokenRevoked || len(s.durable.sessions) != 1 {
				t.Errorf("end %q without a session: %v, %d sessions", id, err, len(s.durable.sessions))
			}
		}
		if err := list("", 9, ""); reasonOf(err) != org.TokenRevoked || more {
			t.Errorf("list without a session: %v, more %v", err, more)
		}
	})
}
