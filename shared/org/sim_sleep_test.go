package org_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"orgservice/shared/org"
)

// sleptBeforeSleep runs the operation, which sleeps before it puts an admin to sleep, while
// something else happens.
func (s *sim) sleptBeforeSleep(t *testing.T, op *operation, meanwhile func()) {
	t.Helper()
	slept := false
	s.runHooked(op, 0, func(c *call) bool {
		if c.method == "ReplaceAdmin" && strings.Contains(c.args, "asleep true") && !slept {
			slept = true
			s.meanwhile(meanwhile)
		}
		return false
	})
	if !slept {
		t.Errorf("%s puts nobody to sleep", op.kind)
	}
}

// wantLogin fails the test unless the first owner can log in.
func (s *sim) wantLogin(t *testing.T, id string) {
	t.Helper()
	m := s.models[id]
	if err := s.runAlone(s.loginOp(org.LoginRequest{Email: m.email, Password: m.password})); err != nil {
		t.Errorf("login: %v", err)
	}
}

// TestScriptBuriesLate lets a deletion sleep before it reads the members, while others finish
// it and an operator restores the organization.
func TestScriptBuriesLate(t *testing.T) {
	runScript(t, true, func(s *sim) {
		s.mustCreate(t, "acme", "a@x.test")
		id := s.acme().ID
		s.sleptAt("AdminsByID", s.buryAcme(), func() {
			s.sleep(2 * org.StaleAfter)
			s.mustRun(t, s.reconcileOp(true))
			s.mustRun(t, s.restoreOp(id, ""))
		})
		s.repairAndCheck()
		s.wantLogin(t, id)
	})
}

// TestScriptRestoresTwice lets a restoration that is undone sleep before it puts the owner to
// sleep again, while another one succeeds.
func TestScriptRestoresTwice(t *testing.T) {
	runScript(t, true, func(s *sim) {
		s.mustCreate(t, "acme", "a@x.test")
		id := s.acme().ID
		s.mustRun(t, s.buryAcme())
		s.fill("org_core")
		s.sleptBeforeSleep(t, s.restoreOp(id, "core"), func() { s.mustRun(t, s.restoreOp(id, "")) })
		delete(s.durable.collections, "org_core")
		s.repairAndCheck()
		s.wantLogin(t, id)
	})
}

// TestScriptBuriesWhileRestored lets a deletion sleep until others have finished it, and an operator's
// restoration has woken the owner. The deletion goes on before the restoration does.
func TestScriptBuriesWhileRestored(t *testing.T) {
	runScript(t, true, func(s *sim) {
		s.mustCreate(t, "acme", "a@x.test")
		id := s.acme().ID
		restore := s.restoreOp(id, "")
		var left []*call // of the restoration
		s.sleptAt("AdminsByID", s.buryAcme(), func() {
			s.sleep(2 * org.StaleAfter)
			s.mustRun(t, s.reconcileOp(false))
			s.runHooked(restore, 0, func(c *call) bool {
				if c.method == "RenameCollection" {
					left, s.pending, restore.ended = s.pending, nil, true // for now
					return true
				}
				return false
			})
		})
		if restore.ended, s.pending = false, left; len(left) == 0 {
			t.Fatal("the collection is not moved")
		}
		for !restore.ended {
			s.settle()
			s.step++
			s.resolve(s.pending[0])
		}
		if restore.err != nil {
			t.Errorf("answered %v", restore.err)
		}
		s.repairAndCheck()
		s.wantLogin(t, id)
	})
}

// TestScriptRestoresAtTheEnd lets a restoration crash just before the end of the grace. It is finished,
// also if Reconcile looks for what has expired first.
func TestScriptRestoresAtTheEnd(t *testing.T) {
	runScript(t, true, func(s *sim) {
		s.mustCreate(t, "acme", "a@x.test")
		id := s.acme().ID
		s.mustRun(t, s.buryAcme())
		s.sleep(24*time.Hour - time.Second)
		s.runHooked(s.restoreOp(id, ""), 0, s.crashAt("RenameCollection"))
		s.sleep(2 * time.Second)
		s.mustRun(t, s.reconcileOp(true))
		s.repairAndCheck()
		s.wantLogin(t, id)
	})
}

// TestScriptPurgesExpired reports what is deleted for good at the end of its grace, and what can't be.
func TestScriptPurgesExpired(t *testing.T) {
	for _, lost := range []string{"", "Organizations", "ReplaceOrganization", "CountDocuments", "DropCollection"} {
		runScript(t, true, func(s *sim) {
			s.mustCreate(t, "acme", "a@x.test")
			id := s.acme().ID
			s.mustRun(t, s.buryAcme())
			buried := s.durable.organizations[id]
			s.sleep(24*time.Hour + time.Minute)
			var report org.Report
			err := s.runHooked(&operation{kind: "Reconcile", run: func(ctx context.Context, service *org.Service) (err error) {
				report, err = service.Reconcile(ctx, true)
				return err
			}}, 0, func(c *call) bool { return c.method == lost && s.fail(c, unsent) })
			if lost == "" {
				if err != nil || len(report.Purged) != 1 {
					t.Fatalf("answered %v, %+v", err, report.Purged)
				}
				if f := report.Purged[0]; f.Kind != org.ExpiredDeletion || f.OrganizationID != id || f.Subject != buried.Collection || !f.Since.Equal(buried.Deletion.At) {
					t.Errorf("%+v", f)
				}
			} else if !errors.Is(err, org.ErrUnavailable) || len(report.Purged) > 0 {
				t.Errorf("%s fails: answered %v, %+v", lost, err, report.Purged)
			}
			s.repairAndCheck()
		})
	}
}

// TestScriptRestoresBeside restores an organization while another one, with the same member, is
// deleted, or the member is removed from it.
func TestScriptRestoresBeside(t *testing.T) {
	for _, how := range []string{"deleted", "deleted for good", "removed"} {
		t.Run(how, func(t *testing.T) {
			runScript(t, true, func(s *sim) {
				setActive(t, s)
				id, a, bolt := s.acme().ID, firstOwner(s.acme()), s.named("bolt")
				s.mustRun(t, s.inviteOp(bolt, firstOwner(bolt), "a@x.test", org.RoleMember))
				s.mustRun(t, s.acceptOp(s.mails[len(s.mails)-1]))
				s.mustRun(t, s.buryAcme()) // the owner stays awake, for bolt
				op := s.deleteOp(s.named("bolt"))
				if how == "removed" {
					op = s.removeOp(s.named("bolt"), firstOwner(bolt), a)
				} else if how == "deleted for good" {
					s.grace = 0
				}
				done := false
				s.runHooked(op, 0, func(c *call) bool {
					if c.method == "ReplaceAdmin" && strings.HasPrefix(c.args, a+" ") && strings.Contains(c.args, "asleep true") && !done {
						done = true
						s.meanwhile(func() { s.mustRun(t, s.restoreOp(id, "")) })
					}
					return false
				})
				if !done {
					t.Error("the owner is not put to sleep")
				}
				s.repairAndCheck()
				s.wantLogin(t, id)
			})
		})
	}
}

// TestScriptUndoneRestorationCrashes crashes before the owner sleeps again.
func TestScriptUndoneRestorationCrashes(t *testing.T) {
	runScript(t, true, func(s *sim) {
		s.mustCreate(t, "acme", "a@x.test")
		s.mustRun(t, s.buryAcme())
		s.fill("org_core")
		op := s.restoreOp(s.acme().ID, "core")
		s.runHooked(op, 0, func(c *call) bool {
			if c.method != "ReplaceAdmin" || !strings.Contains(c.args, "asleep true") {
				return false
			}
			s.take(c)
			s.kill(op)
			s.answer(c, reply{crashed: true})
			return true
		})
		delete(s.durable.collections, "org_core")
		s.sleep(2 * org.StaleAfter)
		if err := s.runAlone(s.reconcileOp(true)); err != nil {
			t.Fatal(err)
		}
		s.checkInvariants()
		s.mustCreate(t, "bolt", "a@x.test")
	})
}

// TestScriptJoinsAsleep lets an acceptance sleep before it changes the admin, who is put to
// sleep meanwhile.
func TestScriptJoinsAsleep(t *testing.T) {
	runScript(t, true, func(s *sim) {
		setActive(t, s)
		bolt := s.named("bolt")
		s.mustRun(t, s.inviteOp(bolt, firstOwner(bolt), "a@x.test", org.RoleMember))
		err := s.sleptAt("ReplaceAdmin", s.acceptOp(s.mails[len(s.mails)-1]), func() { s.mustRun(t, s.buryAcme()) })
		if reasonOf(err) != org.TicketInvalid {
			t.Errorf("accept: %v", err)
		}
		s.repairAndCheck()
	})
}

// TestScriptLoginAfterRestoration lets a deletion sleep before each command that is not bound to
// a revision, while the organization is restored and somebody logs in. The login lasts.
func TestScriptLoginAfterRestoration(t *testing.T) {
	for _, method := range []string{"DeleteSessions", "RenameCollection", "DeleteTicket", "ReleaseClaims"} {
		runScript(t, true, func(s *sim) {
			s.mustCreate(t, "acme", "a@x.test")
			s.invited("g1@x.test")
			id := s.acme().ID
			var tokens org.Tokens
			slept := false
			s.runHooked(s.buryAcme(), 0, func(c *call) bool {
				if strings.HasPrefix(c.method, method) && !slept {
					slept = true
					s.meanwhile(func() {
						s.sleep(2 * org.StaleAfter)
						s.runHooked(s.reconcileOp(true), 0, nil)
						s.mustRun(t, s.restoreOp(id, ""))
						s.mustRun(t, &operation{kind: "Login", run: func(ctx context.Context, service *org.Service) (err error) {
							tokens, err = service.Login(ctx, org.LoginRequest{Email: "a@x.test", Password: s.models[id].password})
							return err
						}})
					})
				}
				return false
			})
			if err := s.runAlone(&operation{kind: "Refresh", run: func(ctx context.Context, service *org.Service) error {
				_, err := service.Refresh(ctx, org.RefreshRequest{RefreshToken: tokens.Refresh})
				return err
			}}); err != nil || !slept {
				t.Errorf("%s: %v; it slept: %v", method, err, slept)
			}
			s.repairAndCheck()
		})
	}
}

// TestScriptBuriedStray finishes a deletion after a restore from a backup, with what the tenant's
// application has written late under the old name.
func TestScriptBuriedStray(t *testing.T) {
	runScript(t, true, func(s *sim) {
		crashed("RenameCollection", func(s *sim) *operation {
			s.writeDocument(s.models[s.acme().ID], "org_acme")
			return s.buryAcme()
		})(t, s)
		s.changeUUIDs()
		m := s.models[s.acme().ID]
		s.writeDocument(m, "org_acme")
		s.mustRun(t, s.reconcileOp(true))
		o := s.durable.organizations[m.id]
		if c := s.durable.collections[o.Collection]; o.Status != org.Deleted || o.Operation != nil || len(c.docs) != 1 || c.docs[0].id != 1 {
			t.Errorf("%s, and there are %s", organizationText(o), s.durable.catalog.String())
		}
	})
}

// TestScriptOlderTakesOver has journals that an older version has taken over, which drops what it
// does not know.
func TestScriptOlderTakesOver(t *testing.T) {
	for name, op := range map[string]func(s *sim) *operation{"restore": (*sim).restoreAcme, "bury": (*sim).buryAcme} {
		t.Run(name, func(t *testing.T) {
			runScript(t, true, func(s *sim) {
				crashed("RenameCollection", op)(t, s)
				o := copyOf(s.acme())
				o.Operation.Act, o.Deletion = org.Act{}, nil
				s.durable.organizations[o.ID] = o
				s.problems = nil
				if err := s.runAlone(s.reconcileOp(true)); err != nil {
					t.Fatal(err)
				}
				o = s.acme()
				if name == "restore" && (o.Status != org.Active || lastAct(o) == "") {
					t.Errorf("%s with %+v", organizationText(o), o.History)
				}
				if name == "bury" && (o.Status != org.Deleted || o.Deletion == nil || o.Deletion.Collection != "org_acme" || !o.Deletion.At.Equal(o.UpdatedAt) || !o.Deletion.Ends.After(o.Deletion.At)) {
					t.Errorf("%s with %+v", organizationText(o), o.Deletion)
				}
				s.problems = nil
			})
		})
	}
}
