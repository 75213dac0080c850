package org_test

import (
	"context"
	"errors"
	"strings"
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

// TestScriptActBesideRename renames the organization between two attempts of an act, which is not the
// first one. The database may fail in the second one.
func TestScriptActBesideRename(t *testing.T) {
	for _, fails := range []bool{false, true} {
		runScript(t, true, func(s *sim) {
			s.mustCreate(t, "acme", "a@x.test")
			id := s.acme().ID
			s.mustAct(t, id, false)
			s.mustAct(t, id, true)
			renamed := false
			err := s.runHooked(s.actOp(id, false), 0, func(c *call) bool {
				if c.method == "ReplaceOrganization" && !renamed {
					renamed = true
					s.meanwhile(func() { s.mustRun(t, s.renameByOperatorOp(id, "core")) })
				}
				return c.method == "Organization" && renamed && fails && s.fail(c, unsent)
			})
			if errors.Is(err, org.ErrUnavailable) != fails || !fails && (err != nil || s.named("core").Status != org.Suspended) {
				t.Errorf("fails %v: answered %v", fails, err)
			}
			if !fails {
				s.mustAct(t, id, true)
			}
			s.repairAndCheck()
		})
	}
}

// TestScriptActsLogged logs each act of an operator, and whether it was done before. The record has it
// once.
func TestScriptActsLogged(t *testing.T) {
	runScript(t, true, func(s *sim) {
		s.grace = time.Hour
		s.mustCreate(t, "acme", "a@x.test")
		id := s.acme().ID
		lost, losses := "", 0 // a method, and how many of its calls don't reach the database
		ask := func(act func(context.Context, *org.Service, org.ActRequest) error, reason, want string) {
			t.Helper()
			s.trace.Reset()
			err := s.runHooked(&operation{kind: "Get", run: func(ctx context.Context, service *org.Service) error {
				return act(ctx, service, org.ActRequest{Reason: reason})
			}}, 0, func(c *call) bool {
				if c.method == lost {
					losses--
				}
				return c.method == lost && losses >= 0 && s.fail(c, unsent)
			})
			_, line, logged := strings.Cut(s.trace.String(), "an operator acts\" ")
			line, _, _ = strings.Cut(line, " organization_id="+id)
			if logged != (want != "") || line != want || (err == nil) != logged {
				t.Errorf("answered %v, and logged %q; want %q", err, line, want)
			}
		}
		suspend := func(ctx context.Context, service *org.Service, r org.ActRequest) error {
			_, err := service.Suspend(ctx, "olivia", id, r)
			return err
		}
		renameTo := func(name string) func(context.Context, *org.Service, org.ActRequest) error {
			return func(ctx context.Context, service *org.Service, r org.ActRequest) error {
				_, err := service.Rename(ctx, "olivia", id, org.RenameRequest{Reason: r.Reason, OrganizationName: name})
				return err
			}
		}
		restore := func(ctx context.Context, service *org.Service, r org.ActRequest) error {
			_, err := service.Restore(ctx, "olivia", id, org.RestoreRequest{Reason: r.Reason})
			return err
		}
		purge := func(ctx context.Context, service *org.Service, r org.ActRequest) error {
			return service.Purge(ctx, "olivia", id, r)
		}
		lost, losses = "ReplaceOrganization", 100
		ask(suspend, "x", "")
		ask(renameTo("Core"), "x", "")
		lost = ""
		ask(suspend, "x", `act=suspend by=olivia reason=x repeated=false`)
		ask(suspend, "x", `act=suspend by=olivia reason=x repeated=true`)
		ask(renameTo("Core"), "x", `act=rename by=olivia reason=x repeated=false`)
		ask(renameTo("Core"), "x", `act=rename by=olivia reason=x repeated=true`)
		ask(renameTo("Core"), "y", `act=rename by=olivia reason=y repeated=false`)
		ask(suspend, "y", `act=suspend by=olivia reason=y repeated=false`)
		ask(func(ctx context.Context, service *org.Service, r org.ActRequest) error {
			_, err := service.Reactivate(ctx, "olivia", id, r)
			return err
		}, "y", `act=reactivate by=olivia reason=y repeated=false`)
		if n := len(s.durable.organizations[id].History); n != 5 {
			t.Errorf("%d acts", n)
		}
		ask(restore, "y", "")
		ask(purge, "y", "")
		s.problems = nil // of Get
		s.mustRun(t, s.deleteOp(s.named("core")))
		lost, losses = "ReplaceOrganization", 100
		ask(restore, "z", "")
		ask(purge, "z", "")
		lost = ""
		ask(restore, "z", `act=restore by=olivia reason=z repeated=false`)
		s.mustRun(t, s.deleteOp(s.named("core")))
		lost, losses = "DropCollection", 1
		ask(purge, "z", `act=purge by=olivia reason=z repeated=false`)
		ask(renameTo("Dune"), "z", "")
		s.problems = nil
	})
}

// TestScriptRenamesForget renames so often that older acts are forgotten, but not the one by which
// logins from before it are known.
func TestScriptRenamesForget(t *testing.T) {
	runScript(t, true, func(s *sim) {
		s.mustCreate(t, "acme", "a@x.test")
		id := s.acme().ID
		s.durable.onWrite = nil // for which acts are there for ever
		s.mustAct(t, id, false)
		s.mustAct(t, id, true)
		for i := range 120 {
			s.mustRun(t, s.renameByOperatorOp(id, []string{"core", "acme"}[i%2]))
		}
		history := s.durable.organizations[id].History
		if n := len(history); n != 100 || history[0].Kind != org.ActReactivate || history[1].Kind != org.ActRename {
			t.Errorf("%d acts: %+v", n, history[:2])
		}
		ids := map[string]bool{}
		for _, a := range history {
			ids[a.ID] = true
		}
		if len(ids) != 100 {
			t.Errorf("%d acts", len(ids))
		}
		s.problems = nil
	})
}

// TestScriptOperatorBusy asks for what changes an organization while another change is under way.
func TestScriptOperatorBusy(t *testing.T) {
	runScript(t, true, func(s *sim) {
		s.mustCreate(t, "acme", "a@x.test")
		id := s.acme().ID
		wantBusy := func(op *operation) {
			t.Helper()
			before := organizationText(s.durable.organizations[id])
			if err := s.runHooked(op, 0, nil); reasonOf(err) != org.OrganizationBusy {
				t.Errorf("%s: answered %v", op.kind, err)
			}
			if after := organizationText(s.durable.organizations[id]); after != before {
				t.Errorf("%s: %s; want %s", op.kind, after, before)
			}
		}
		s.runHooked(s.changeAcme("core", "", ""), 0, s.crashAt("RenameCollection"))
		wantBusy(s.renameByOperatorOp(id, "dune"))
		s.sleep(2 * org.StaleAfter)
		s.mustRun(t, s.reconcileOp(false))
		s.grace = 24 * time.Hour
		s.mustRun(t, s.deleteOp(s.durable.organizations[id]))
		s.sleep(2 * org.StaleAfter) // some names rest
		s.runHooked(s.restoreOp(id, ""), 0, s.crashAt("RenameCollection"))
		wantBusy(s.restoreOp(id, "dune"))
		wantBusy(s.purgeOp(id))
		s.sleep(2 * org.StaleAfter)
		s.mustRun(t, s.reconcileOp(false))
		s.mustRun(t, s.deleteOp(s.durable.organizations[id]))
		err := s.runHooked(s.purgeOp(id), 0, func(c *call) bool { return c.method == "DropCollection" && s.fail(c, unsent) })
		if !errors.Is(err, org.ErrUnavailable) {
			t.Errorf("the collection can't be dropped: answered %v", err)
		}
		wantBusy(s.purgeOp(id))
		s.repairAndCheck()
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
		s.mustRun(t, s.renameByOperatorOp(s.acme().ID, "acme")) // which ends nothing
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
