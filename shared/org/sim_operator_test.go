package org_test

import (
	"context"
	"testing"
	"time"

	"orgservice/shared/org"
)

func (s *sim) mustAct(t *testing.T, id string, ends bool) {
	t.Helper()
	if err := s.runAlone(s.actOp(id, ends)); err != nil {
		t.Fatal(err)
	}
}

// sleptAt runs the operation, which sleeps before its first call of the method, while
// something else happens.
func (s *sim) sleptAt(method string, op *operation, meanwhile func()) error {
	slept := false
	return s.runHooked(op, 0, func(c *call) bool {
		if c.method == method && !slept {
			slept = true
			s.meanwhile(meanwhile)
		}
		return false
	})
}

// TestScriptActsLate lets an act sleep, while the operator repeats it, and then does the
// opposite.
func TestScriptActsLate(t *testing.T) {
	for _, ends := range []bool{true, false} {
		for _, method := range []string{"Organization", "ReplaceOrganization"} {
			runScript(t, true, func(s *sim) {
				s.mustCreate(t, "acme", "a@x.test")
				id := s.onlyOrganization(t).ID
				if ends {
					s.mustAct(t, id, false)
				}
				err := s.sleptAt(method, s.actOp(id, ends), func() {
					s.sleep(time.Hour)
					s.mustAct(t, id, ends)
					s.mustAct(t, id, !ends)
				})
				want := map[bool]org.Status{true: org.Suspended, false: org.Active}[ends]
				if got := s.onlyOrganization(t); got.Status != want || err == nil {
					t.Errorf("it slept before %s: %v, and the organization is %s; want %s", method, err, got.Status, want)
				}
			})
		}
	}
}

// TestScriptOtherAct lets somebody else act between two attempts of an act.
func TestScriptOtherAct(t *testing.T) {
	runScript(t, true, func(s *sim) {
		s.mustCreate(t, "acme", "a@x.test")
		id := s.onlyOrganization(t).ID
		err := s.sleptAt("ReplaceOrganization", s.actOp(id, false), func() {
			s.mustAct(t, id, false)
			s.mustAct(t, id, true)
		})
		if got := s.onlyOrganization(t); got.Status != org.Active || err == nil {
			t.Errorf("%v, and the organization is %s; want active", err, got.Status)
		}
	})
}

// TestScriptLoginBeforeSuspension lets a login sleep through a suspension.
func TestScriptLoginBeforeSuspension(t *testing.T) {
	runScript(t, true, func(s *sim) {
		s.mustCreate(t, "acme", "a@x.test")
		o := s.onlyOrganization(t)
		var tokens org.Tokens
		login := &operation{kind: "Login", run: func(ctx context.Context, service *org.Service) (err error) {
			tokens, err = service.Login(ctx, org.LoginRequest{Email: "a@x.test", Password: s.models[o.ID].password})
			return err
		}}
		if err := s.sleptAt("InsertSession", login, func() { s.mustAct(t, o.ID, false); s.mustAct(t, o.ID, true) }); err != nil {
			t.Fatal(err)
		}
		me := &operation{kind: "Me", run: func(ctx context.Context, service *org.Service) error {
			_, _, err := service.Me(ctx, callerIn(t, tokens))
			return err
		}}
		if err := s.runAlone(me); reasonOf(err) != org.TokenRevoked {
			t.Errorf("me: %v", err)
		}
		refresh := &operation{kind: "Refresh", run: func(ctx context.Context, service *org.Service) error {
			_, err := service.Refresh(ctx, org.RefreshRequest{RefreshToken: tokens.Refresh})
			return err
		}}
		if err := s.runAlone(refresh); reasonOf(err) != org.RefreshTokenInvalid {
			t.Errorf("refresh: %v", err)
		}
	})
}

// TestScriptSuspensionEndsSwitched ends what comes, by a switch, from a login to an
// organization that is suspended, and leaves other logins alone, also if it comes late.
func TestScriptSuspensionEndsSwitched(t *testing.T) {
	runScript(t, true, func(s *sim) {
		s.mustCreate(t, "acme", "a@x.test")
		acme := s.acme()
		s.runHooked(s.createAnotherOp(acme, "dune"), 0, nil)
		login := func(name string) org.Tokens {
			t.Helper()
			var tokens org.Tokens
			err := s.runAlone(&operation{kind: "Login", run: func(ctx context.Context, service *org.Service) (err error) {
				tokens, err = service.Login(ctx, org.LoginRequest{Email: "a@x.test", Password: s.models[acme.ID].password, OrganizationName: &name})
				return err
			}})
			if err != nil {
				t.Fatal(err)
			}
			return tokens
		}
		me := func(tokens org.Tokens) error {
			return s.runAlone(&operation{kind: "Me", run: func(ctx context.Context, service *org.Service) error {
				_, _, err := service.Me(ctx, callerIn(t, tokens))
				return err
			}})
		}
		var switched org.Tokens
		from := callerIn(t, login("acme"))
		if err := s.runAlone(&operation{kind: "Switch", run: func(ctx context.Context, service *org.Service) (err error) {
			switched, err = service.Switch(ctx, from, org.SwitchRequest{OrganizationName: "dune"})
			return err
		}}); err != nil {
			t.Fatal(err)
		}
		own := login("dune")
		var again org.Tokens
		if err := s.sleptAt("DeleteSessionsSince", s.actOp(acme.ID, false), func() {
			if err := me(switched); err != nil {
				t.Errorf("before: %v", err)
			}
			s.mustAct(t, acme.ID, true)
			again = login("acme")
		}); err != nil {
			t.Fatal(err)
		}
		if err := me(switched); reasonOf(err) != org.TokenRevoked {
			t.Errorf("what comes from a login before the suspension: %v", err)
		}
		if err := me(own); err != nil {
			t.Errorf("another login: %v", err)
		}
		if err := me(again); err != nil {
			t.Errorf("a login after the suspension: %v", err)
		}
	})
}
