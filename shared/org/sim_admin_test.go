package org_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"orgservice/shared/org"
)

// once returns a hook that calls f before the first call of the method.
func once(method string, f func()) func(c *call) bool {
	done := false
	return func(c *call) bool {
		if c.method == method && !done {
			done = true
			f()
		}
		return false
	}
}

// mustRun runs the operation, which must succeed.
func (s *sim) mustRun(t *testing.T, op *operation) {
	t.Helper()
	if err := s.runHooked(op, 0, nil); err != nil {
		t.Errorf("%s: %v", op.kind, err)
	}
}

// dieAt runs the operation until it calls the method, and kills it before.
func (s *sim) dieAt(t *testing.T, op *operation, method string) {
	t.Helper()
	s.runHooked(op, 0, func(c *call) bool {
		if c.method == method {
			s.kill(op)
		}
		return c.method == method
	})
	if !op.dead {
		t.Errorf("%s never calls %s", op.kind, method)
	}
}

// admin returns the record of the admin of acme.
func (s *sim) admin() org.Admin { return s.durable.admins[s.acme().Admins[0].AdminID] }

// wantClaims checks the ids of all claims.
func (s *sim) wantClaims(t *testing.T, ids ...string) {
	t.Helper()
	var got []string
	for _, c := range inOrder(s.durable.claims) {
		got = append(got, c.ID)
	}
	if want := strings.Join(ids, " "); strings.Join(got, " ") != want {
		t.Errorf("the claims are %v; want %s", got, want)
	}
}

// TestScriptRevoked changes the password, and answers that, while another request
// with the old token is under way: it has read the admin and not yet the organization,
// or is about to write. It must not change anything.
func TestScriptRevoked(t *testing.T) {
	for name, begin := range map[string]func(s *sim) *operation{
		"rename":       func(s *sim) *operation { return s.changeAcme("core", "", "") },
		"new spelling": func(s *sim) *operation { return s.changeAcme("ACME", "", "") },
		"new email":    func(s *sim) *operation { return s.changeAcme("", "c@x.test", "") },
		"everything":   (*sim).changeAll,
		"delete":       (*sim).deleteAcme,
	} {
		for at, want := range map[string]org.Reason{"Organization": org.TokenRevoked, "ReplaceOrganization": org.OrganizationBusy} {
			if name == "new email" {
				at = strings.Replace(at, "ReplaceOrganization", "ReplaceAdmin", 1)
				want = org.OrganizationBusy // its write fails
			}
			t.Run(name+" at "+at, func(t *testing.T) {
				runScript(t, true, func(s *sim) {
					s.mustCreate(t, "acme", "a@x.test")
					err := s.runHooked(begin(s), 0, once(at, func() {
						s.meanwhile(func() { s.mustRun(t, s.changeAcme("", "", "password two")) })
					}))
					if reasonOf(err) != want {
						t.Errorf("%v; want the reason %s", err, want)
					}
					if a := s.admin(); a.PasswordHash != "hash of password two" || a.TokenVersion != 2 {
						t.Errorf("the admin is %+v", a)
					}
					s.wantClaims(t, "email:a@x.test", "org_acme")
					s.repairAndCheck()
				})
			})
		}
	}
}

// TestScriptGoneAtConfirm lets the admin vanish after a request has read it.
func TestScriptGoneAtConfirm(t *testing.T) {
	for _, begin := range []func(s *sim) *operation{(*sim).deleteAcme, func(s *sim) *operation { return s.changeAcme("ACME", "", "") }} {
		runScript(t, true, func(s *sim) {
			s.mustCreate(t, "acme", "a@x.test")
			reads := 0
			err := s.runHooked(begin(s), 0, func(c *call) bool {
				if c.method == "Admin" {
					if reads++; reads == 2 {
						delete(s.durable.admins, s.admin().ID)
					}
				}
				return false
			})
			if reasonOf(err) != org.TokenRevoked {
				t.Errorf("%v; want the reason %s", err, org.TokenRevoked)
			}
		})
	}
}

// TestScriptUndone changes the password just before another update writes its journal,
// and crashes before the fence. So the update finds out only when it has renamed the
// collection, and is undone. Then it crashes after each of its calls in turn, and
// Reconcile must undo it. The tenant's application may have written under the old
// name by then.
func TestScriptUndone(t *testing.T) {
	for _, compares := range []bool{true, false} {
		for _, written := range []bool{false, true} {
			for crash := 0; ; crash++ {
				ended := false
				runScript(t, compares, func(s *sim) {
					s.mustCreate(t, "acme", "a@x.test")
					s.writeDocument(s.models[s.acme().ID], "org_acme")
					calls, renamed := 0, false
					op := s.changeAll()
					before := once("ReplaceOrganization", func() {
						s.meanwhile(func() { s.dieAt(t, s.changeAcme("", "", "password two"), "FenceOrganizations") })
					})
					err := s.runHooked(op, 0, func(c *call) bool {
						before(c)
						if c.method == "RenameCollection" && !renamed {
							renamed = true
							if written {
								s.take(c)
								s.answer(c, s.execute(c, false))
								s.fill("org_acme")
							}
							return written
						}
						if !renamed || c.kind == operationEnd {
							return false
						}
						if calls++; calls != crash {
							return false
						}
						s.take(c)
						s.execute(c, false)
						s.kill(op)
						s.answer(c, reply{crashed: true})
						return true
					})
					ended = !op.dead
					if ended && reasonOf(err) != org.OrganizationBusy {
						t.Errorf("%v; want the reason %s", err, org.OrganizationBusy)
					}
					if !ended {
						s.sleep(2 * org.StaleAfter)
						s.mustRun(t, s.reconcileOp(false))
						if name := s.nameOf(1); name != "org_acme" && (compares || !written) {
							t.Errorf("its collection is %s", name)
						}
						s.mustRun(t, s.reconcileOp(true)) // releases what is left
					}
					if o := s.acme(); o.Collection != "org_acme" || o.Name == "core" || o.Operation != nil {
						t.Errorf("it is %s", organizationText(o))
					}
					if a := s.admin(); a.Email != "a@x.test" || a.PasswordHash != "hash of password two" || a.TokenVersion != 2 {
						t.Errorf("the admin is %+v", a)
					}
					if compares {
						s.wantClaims(t, "email:a@x.test", "org_acme")
						if c := s.durable.collections["org_acme"]; c.uuid != 1 || len(c.docs) != 1 {
							t.Errorf("collections %v", s.durable.catalog.String())
						}
					}
					s.repairAndCheck()
				})
				if t.Failed() {
					t.Fatalf("compares UUIDs: %v, written: %v, crash after call %d", compares, written, crash)
				}
				if crash > 0 && ended {
					break
				}
			}
		}
	}
}

// TestScriptStaysUndone crashes an update that is being undone because others have
// the email. It stays undone when the email is free again, also in a restored database.
func TestScriptStaysUndone(t *testing.T) {
	for _, restored := range []bool{false, true} {
		testStaysUndone(t, restored)
	}
}

func testStaysUndone(t *testing.T, restored bool) {
	runScript(t, true, func(s *sim) {
		crashed("RenameCollection", (*sim).changeAll)(t, s)
		s.mustCreate(t, "dune", "c@x.test")
		repair, writes := s.reconcileOp(false), 0
		s.runHooked(repair, 0, func(c *call) bool {
			if c.method != "ReplaceOrganization" {
				return false
			}
			if writes++; writes < 2 { // to take it over
				return false
			}
			s.take(c)
			s.execute(c, false)
			s.kill(repair)
			s.answer(c, reply{crashed: true})
			return true
		})
		if o := s.acme(); o.Operation == nil || !o.Operation.Undone {
			t.Fatalf("%+v; want an operation that is being undone", o)
		}
		for _, o := range s.durable.organizations {
			if o.Collection == "org_dune" {
				s.mustRun(t, s.deleteOp(o))
			}
		}
		if restored { // from a backup, so that the collection has another UUID
			c := s.durable.collections["org_core"]
			*s.durable.uuidCount++
			c.uuid = *s.durable.uuidCount
			s.durable.collections["org_core"], s.models[s.acme().ID].uuid = c, c.uuid
		}
		s.sleep(2 * org.StaleAfter)
		again := s.reported(false)
		if err := s.runHooked(again, 0, nil); err != nil || again.args != "1 undone" {
			t.Errorf("%s, %v; want 1 undone", again.args, err)
		}
		s.wantClaims(t, "email:a@x.test", "email:b@x.test", "org_acme", "org_bolt")
		if c := s.durable.collections["org_acme"]; c.uuid != s.models[s.acme().ID].uuid {
			t.Errorf("collections %v", s.durable.catalog.String())
		}
		s.repairAndCheck()
	})
}

// TestScriptLateAdmin sends a change of the admin late, when others have undone the
// update, because the collection can't get the new name any more.
func TestScriptLateAdmin(t *testing.T) {
	runScript(t, true, func(s *sim) {
		s.mustCreate(t, "acme", "a@x.test")
		op := s.changeAll()
		s.runHooked(op, 0, func(c *call) bool {
			if c.method != "ReplaceAdmin" {
				return false
			}
			s.take(c)
			s.kill(op)
			s.durable.renameCollection(org.Collection{Name: "org_core"}, "org_acme") // a late command
			s.fill("org_core")
			s.sleep(2 * org.StaleAfter)
			repair := s.reported(false)
			if err := s.runHooked(repair, 0, nil); err != nil || repair.args != "1 undone" {
				t.Errorf("%s, %v; want 1 undone", repair.args, err)
			}
			s.wantClaims(t, "email:a@x.test", "org_acme")
			s.execute(c, false)
			s.answer(c, reply{crashed: true})
			return true
		})
		if a := s.admin(); a.Email != "a@x.test" || a.TokenVersion != 1 {
			t.Errorf("the admin is %+v", a)
		}
		s.repairAndCheck()
	})
}

// TestScriptAdminGone removes the admin of an unfinished update, which is undone.
func TestScriptAdminGone(t *testing.T) {
	runScript(t, true, func(s *sim) {
		crashed("RenameCollection", (*sim).changeAll)(t, s)
		delete(s.durable.admins, s.admin().ID)
		repair := s.reported(false)
		if err := s.runHooked(repair, 0, nil); err != nil || repair.args != "1 undone" {
			t.Errorf("%s, %v; want 1 undone", repair.args, err)
		}
		s.wantClaims(t, "email:b@x.test", "org_acme", "org_bolt")
		if c := s.durable.collections["org_acme"]; c.uuid != 1 {
			t.Errorf("collections %v", s.durable.catalog.String())
		}
	})
}

// TestScriptAdminVanishes removes the admin just before an update changes it.
func TestScriptAdminVanishes(t *testing.T) {
	runScript(t, true, func(s *sim) {
		s.mustCreate(t, "acme", "a@x.test")
		err := s.runHooked(s.changeAll(), 0, once("ReplaceAdmin", func() { delete(s.durable.admins, s.admin().ID) }))
		if reasonOf(err) != org.OrganizationBusy {
			t.Errorf("%v; want the reason %s", err, org.OrganizationBusy)
		}
		s.wantClaims(t, "org_acme")
	})
}

// TestScriptDeletedMeanwhile deletes the organization while its admin's email is
// being changed, before the new email is claimed.
func TestScriptDeletedMeanwhile(t *testing.T) {
	for name, begin := range map[string]func(s *sim) *operation{
		"email alone": func(s *sim) *operation { return s.changeAcme("", "c@x.test", "") },
		"everything":  (*sim).changeAll,
	} {
		for _, method := range []string{"InsertClaims", "ReplaceAdmin", "ReplaceOrganization", "FenceOrganizations"} {
			t.Run(name+" at "+method, func(t *testing.T) {
				runScript(t, true, func(s *sim) {
					s.mustCreate(t, "acme", "a@x.test")
					deletion, reached := s.deleteAcme(), false
					err := s.runHooked(begin(s), 0, once(method, func() {
						reached = true
						s.meanwhile(func() { s.runHooked(deletion, 0, nil) })
					}))
					if reached && deletion.err == nil {
						s.wantClaims(t)
						if method != "FenceOrganizations" && reasonOf(err) != org.OrganizationBusy {
							t.Errorf("%v; want the reason %s", err, org.OrganizationBusy)
						}
					}
					s.repairAndCheck()
				})
			})
		}
	}
}

// TestScriptUpgradedAdmin finishes updates of an older version, which has changed the
// admin already, or not yet.
func TestScriptUpgradedAdmin(t *testing.T) {
	for _, method := range []string{"ReplaceOrganization", "RenameCollection", "ReplaceAdmin"} {
		runScript(t, true, func(s *sim) {
			crashed(method, (*sim).changeAll)(t, s)
			s.downgrade()
			repair := s.reported(false)
			if err := s.runHooked(repair, 0, nil); err != nil || repair.args != "1 finished" {
				t.Errorf("%s: %s, %v; want 1 finished", method, repair.args, err)
			}
			if a := s.admin(); a.Email != "c@x.test" || a.PasswordHash != "hash of password new" || a.TokenVersion != 2 {
				t.Errorf("%s: the admin is %+v", method, a)
			}
			s.repairAndCheck()
		})
	}
}

// TestScriptRefusedSessions logs in and refreshes while the organization is suspended,
// is gone, or does not list the admin. No session may be left.
func TestScriptRefusedSessions(t *testing.T) {
	for name, change := range map[string]func(s *sim){
		"suspended": func(s *sim) { s.toggleSuspension(s.acme().ID) },
		"gone":      func(s *sim) { delete(s.durable.organizations, s.acme().ID) },
		"no member": func(s *sim) {
			o := s.acme()
			o.Admins = []org.Member{{AdminID: "9.9"}}
			s.durable.organizations[o.ID] = o
		},
		"changed": func(s *sim) { a := s.admin(); a.TokenVersion++; s.durable.admins[a.ID] = a },
	} {
		t.Run(name, func(t *testing.T) {
			runScript(t, true, func(s *sim) {
				s.mustCreate(t, "acme", "a@x.test")
				password := s.knownPassword()
				login, me, refresh := s.login("a@x.test", password), s.me(func(*org.Session) {}), s.refresh(func(*org.Session) {})
				before := len(s.durable.sessions)
				change(s)
				want := org.WrongCredentials
				if name == "changed" {
					want = ""
				}
				if err := s.runHooked(login, 0, nil); reasonOf(err) != want {
					t.Errorf("login: %v; want the reason %s", err, want)
				}
				if left := len(s.durable.sessions); want != "" && left != before {
					t.Errorf("there are %d sessions; want %d", left, before)
				}
				if err := s.runHooked(me, 0, nil); reasonOf(err) != org.TokenRevoked {
					t.Errorf("me: %v; want the reason %s", err, org.TokenRevoked)
				}
				if err := s.runHooked(refresh, 0, nil); reasonOf(err) != org.RefreshTokenInvalid {
					t.Errorf("refresh: %v; want the reason %s", err, org.RefreshTokenInvalid)
				}
			})
		})
	}
}

// TestScriptLoginOfOlderVersion logs in an admin whose claim its organization has,
// while admins without an organization have the same email.
func TestScriptLoginOfOlderVersion(t *testing.T) {
	for _, older := range []bool{false, true} {
		runScript(t, true, func(s *sim) {
			s.mustCreate(t, "acme", "a@x.test")
			if older {
				s.downgrade()
			}
			for _, id := range []string{"0.1", "9.9"} {
				s.durable.admins[id] = org.Admin{ID: id, OrganizationID: "9.8", Organizations: []string{"9.8"}, Email: "a@x.test", PasswordHash: "hash of orphan"}
			}
			s.mustRun(t, s.login("a@x.test", s.knownPassword()))
			if err := s.runHooked(s.login("a@x.test", "orphan"), 0, nil); reasonOf(err) != org.WrongCredentials {
				t.Errorf("older: %v; %v", older, err)
			}
		})
	}
}

// TestScriptAdminRecord checks what is written to the record of an admin.
func TestScriptAdminRecord(t *testing.T) {
	runScript(t, true, func(s *sim) {
		s.mustCreate(t, "acme", "a@x.test")
		first := s.admin()
		if first.TokenVersion != 1 || first.Revision != 1 || first.Committed != "" {
			t.Errorf("%+v", first)
		}
		s.sleep(time.Second)
		now := time.Now()
		s.mustRun(t, s.changeAcme("", "c@x.test", ""))
		second := s.admin()
		if second.Committed == "" || len(second.Journaled) != 0 || !second.UpdatedAt.Equal(now) || second.Revision != 2 || second.PasswordHash != first.PasswordHash {
			t.Errorf("%+v", second)
		}
		if c := s.durable.claims["email:c@x.test"]; c.Revision != 1 || !c.ClaimedAt.Equal(now) {
			t.Errorf("%+v", c)
		}
		s.sleep(time.Second)
		now = time.Now()
		s.mustRun(t, s.changeAcme("core", "", "password new"))
		third := s.admin()
		if third.Committed == second.Committed || !third.UpdatedAt.Equal(now) || third.Journaled[third.OrganizationID] != third.Committed || third.Email != "c@x.test" || third.TokenVersion != 3 {
			t.Errorf("%+v", third)
		}
		if o := s.acme(); o.Committed != third.Committed {
			t.Errorf("the organization has %s; want %s", o.Committed, third.Committed)
		}
		s.repairAndCheck()
	})
}

// TestScriptAlwaysChanged writes the admin's record before each command that changes
// it, as others do that release its claims. The change must not be made, and not
// without an end.
func TestScriptAlwaysChanged(t *testing.T) {
	for _, begin := range []func(s *sim) *operation{(*sim).changeAll, func(s *sim) *operation { return s.changeAcme("", "c@x.test", "") }} {
		runScript(t, true, func(s *sim) {
			s.mustCreate(t, "acme", "a@x.test")
			n := 0
			err := s.runHooked(begin(s), 0, func(c *call) bool {
				if c.method == "ReplaceAdmin" {
					n++
					a := s.admin()
					a.Revision++
					s.durable.admins[a.ID] = a
				}
				return false
			})
			if err == nil || n > 20 {
				t.Errorf("%v after %d commands", err, n)
			}
			s.repairAndCheck()
		})
	}
}

// TestScriptOtherVersion checks that a request with a token of any other version
// is refused.
func TestScriptOtherVersion(t *testing.T) {
	runScript(t, true, func(s *sim) {
		s.mustCreate(t, "acme", "a@x.test")
		caller := s.caller(s.acme())
		for _, version := range []int64{0, 2} {
			caller := caller
			caller.TokenVersion = version
			err := s.runAs("Me", func(ctx context.Context, service *org.Service) error {
				_, _, err := service.Me(ctx, caller)
				return err
			})
			if reasonOf(err) != org.TokenRevoked {
				t.Errorf("version %d: %v", version, err)
			}
		}
	})
}

// TestScriptMoveBack undoes an update whose collection is renamed by a late command
// just before, or always, or can't get its name back because another organization's
// collection has it.
func TestScriptMoveBack(t *testing.T) {
	begin := func(t *testing.T, s *sim) {
		crashed("RenameCollection", (*sim).changeAll)(t, s)
		a := s.admin()
		a.TokenVersion, a.Revision, a.Committed = a.TokenVersion+1, a.Revision+1, "9.9"
		s.durable.admins[a.ID] = a
	}
	isBack := func(t *testing.T, s *sim) {
		t.Helper()
		if o := s.acme(); o.Operation != nil || s.durable.collections["org_acme"].uuid != s.models[o.ID].uuid {
			t.Errorf("%s; collections %v", organizationText(o), s.durable.catalog.String())
		}
	}
	for _, often := range []bool{false, true} {
		runScript(t, true, func(s *sim) {
			begin(t, s)
			n, repair := 0, s.reported(false)
			err := s.runHooked(repair, 0, func(c *call) bool {
				if c.method != "RenameCollection" || !s.acme().Operation.Undone || n > 0 && !often {
					return false
				}
				if n++; n > 20 {
					t.Fatal("it does not end")
				}
				s.durable.renameCollection(org.Collection{Name: s.nameOf(1)}, fmt.Sprint("org_late", n))
				return false
			})
			if report := map[bool]string{false: "1 undone", true: ""}[often]; err != nil || repair.args != report {
				t.Errorf("%s, %v; want %s", repair.args, err, report)
			}
			if often {
				if o := s.acme(); o.Operation == nil {
					t.Errorf("it is %s, in %v", organizationText(o), s.durable.catalog.String())
				}
				s.sleep(2 * org.StaleAfter)
				s.mustRun(t, s.reconcileOp(false))
			}
			isBack(t, s)
			s.repairAndCheck()
		})
	}
	runScript(t, true, func(s *sim) {
		begin(t, s)
		s.durable.renameCollection(org.Collection{Name: "org_bolt"}, "org_acme") // a late command
		repair := s.reported(false)
		if err := s.runHooked(repair, 0, nil); err != nil || repair.args != "1 need attention" || s.acme().Operation == nil {
			t.Errorf("%s, %v; want 1 need attention", repair.args, err)
		}
		s.sleep(2 * org.StaleAfter)
		s.mustRun(t, s.reconcileOp(true)) // renames the other one back
		s.sleep(2 * org.StaleAfter)
		s.mustRun(t, s.reconcileOp(false))
		isBack(t, s)
		s.repairAndCheck()
	})
}

// nameOf returns the name of the collection that has the UUID.
func (s *sim) nameOf(uuid int) string {
	for name, c := range s.durable.collections {
		if c.uuid == uuid {
			return name
		}
	}
	return ""
}

// TestScriptNextChange lets a change of the email release what it has given up only
// when the next change has claimed another email. That claim must stay.
func TestScriptNextChange(t *testing.T) {
	runScript(t, true, func(s *sim) {
		s.mustCreate(t, "acme", "a@x.test")
		var release *call
		s.runHooked(s.changeAcme("", "c@x.test", ""), 0, func(c *call) bool {
			if c.method != "ReleaseClaims" {
				return false
			}
			s.take(c)
			s.meanwhile(func() {
				err := s.runHooked(s.changeAcme("", "d@x.test", ""), 0, once("ReplaceAdmin", func() {
					release = c
					s.execute(release, false)
					s.wantClaims(t, "email:c@x.test", "email:d@x.test", "org_acme")
				}))
				if err != nil {
					t.Error(err)
				}
			})
			s.answer(c, reply{})
			return true
		})
		if release == nil {
			t.Error("nothing is released")
		}
		s.wantClaims(t, "email:d@x.test", "org_acme")
		s.repairAndCheck()
	})
}

// TestScriptNoFence makes the organization unreachable for the fence after a change of
// the password. The change is made, but old tokens may still be at work.
func TestScriptNoFence(t *testing.T) {
	for _, denied := range []bool{false, true} {
		runScript(t, true, func(s *sim) {
			s.mustCreate(t, "acme", "a@x.test")
			n := 0
			err := s.runHooked(s.changeAcme("", "", "password new"), 0, func(c *call) bool {
				if c.method != "FenceOrganizations" {
					return false
				}
				n++
				if denied {
					return s.deny(c)
				}
				s.take(c)
				s.hold(c, unreachable(c))
				return true
			})
			if want := map[bool]int{false: 2, true: 1}[denied]; !errors.Is(err, org.ErrUnavailable) || n != want {
				t.Errorf("%v after %d commands; want %d", err, n, want)
			}
			s.repairAndCheck()
		})
	}
}

// TestScriptMoveBackFails lets the steps fail in which an update is undone. The journal
// must stay until the collection has its name back.
func TestScriptMoveBackFails(t *testing.T) {
	for name, test := range map[string]struct {
		compares bool
		written  bool // by the tenant's application, under the old name
		fails    func(s *sim, c *call) bool
	}{
		"list": {true, false, func(s *sim, c *call) bool { return c.method == "Collections" && s.deny(c) }},
		"list, to set aside": {false, true, func(s *sim, c *call) bool {
			return c.method == "Collections" && strings.Contains(c.args, "org_acme") && s.deny(c)
		}},
		"rename": {true, false, func(s *sim, c *call) bool { return c.method == "RenameCollection" && s.deny(c) }},
	} {
		t.Run(name, func(t *testing.T) {
			runScript(t, test.compares, func(s *sim) {
				crashed("RenameCollection", (*sim).changeAll)(t, s)
				a := s.admin()
				a.TokenVersion, a.Revision, a.Committed = a.TokenVersion+1, a.Revision+1, "9.9"
				s.durable.admins[a.ID] = a
				if test.written {
					s.fill("org_acme")
				}
				s.runHooked(s.reconcileOp(false), 0, func(c *call) bool {
					op := s.acme().Operation
					return op != nil && op.Undone && test.fails(s, c)
				})
				if o := s.acme(); o.Operation == nil || !o.Operation.Undone || s.nameOf(1) != "org_core" {
					t.Errorf("it is %s, and its collection is %s", organizationText(o), s.nameOf(1))
				}
				s.repairAndCheck()
			})
		})
	}
}

// TestScriptUndoneLate writes the journal of an update that is being undone, and gets
// the answer when the lease has ended. It must take the operation over before it
// renames the collection.
func TestScriptUndoneLate(t *testing.T) {
	runScript(t, true, func(s *sim) {
		s.mustCreate(t, "acme", "a@x.test")
		before := once("ReplaceOrganization", func() {
			s.meanwhile(func() { s.dieAt(t, s.changeAcme("", "", "password two"), "FenceOrganizations") })
		})
		late := false
		err := s.runHooked(s.changeAll(), 0, func(c *call) bool {
			before(c)
			switch {
			case c.method == "RenameCollection" && late && time.Since(s.acme().Operation.TouchedAt) > org.StaleAfter/2:
				t.Error("it renames the collection after its lease")
			case c.method == "ReplaceOrganization" && !late && s.nameOf(1) == "org_core" && s.acme().Operation != nil:
				late = true
				s.take(c)
				r := s.execute(c, false)
				s.sleep(org.StaleAfter/2 + time.Second)
				s.answer(c, r)
				return true
			}
			return false
		})
		if reasonOf(err) != org.OrganizationBusy || !late || s.nameOf(1) != "org_acme" {
			t.Errorf("%v; late: %v; the collection is %s", err, late, s.nameOf(1))
		}
		s.repairAndCheck()
	})
}

// TestScriptFollowed lets an update sleep before it changes the admin. Others finish
// it, and the email changes once more. It must not stop that change, nor undo it.
func TestScriptFollowed(t *testing.T) {
	runScript(t, true, func(s *sim) {
		s.mustCreate(t, "acme", "a@x.test")
		var followed org.Admin
		err := s.runHooked(s.changeAll(), 0, once("ReplaceAdmin", func() {
			s.meanwhile(func() {
				s.sleep(2 * org.StaleAfter)
				s.mustRun(t, s.reconcileOp(false))
				s.mustRun(t, s.changeAcme("", "d@x.test", ""))
				followed = s.admin()
			})
		}))
		if a := s.admin(); !errors.Is(err, org.ErrUnavailable) && err != nil || !reflect.DeepEqual(a, followed) {
			t.Errorf("%v; the admin is %+v; want %+v", err, a, followed)
		}
		s.wantClaims(t, "email:d@x.test", "org_core")
		s.repairAndCheck()
	})
}

// TestScriptSettled uses the old password and the old token while an update of the
// password is unfinished. The request finishes it, and is refused.
func TestScriptSettled(t *testing.T) {
	for want, begin := range map[org.Reason]func(s *sim) *operation{
		org.WrongCredentials: func(s *sim) *operation { return s.login("a@x.test", s.knownPassword()) },
		org.TokenRevoked:     func(s *sim) *operation { return s.me(func(*org.Session) {}) },
	} {
		runScript(t, true, func(s *sim) {
			crashed("RenameCollection", (*sim).changeAll)(t, s)
			op := begin(s)
			sessions := len(s.durable.sessions)
			if err := s.runHooked(op, 0, nil); reasonOf(err) != want {
				t.Errorf("%v; want the reason %s", err, want)
			}
			if o := s.acme(); o.Operation != nil || o.Collection != "org_core" || len(s.durable.sessions) != sessions {
				t.Errorf("it is %s, with %d sessions; want %d", organizationText(o), len(s.durable.sessions), sessions)
			}
			s.mustRun(t, s.login("c@x.test", "password new"))
			s.repairAndCheck()
		})
	}
}

// TestScriptAnswersLost loses the answer to each write of an update. It must find out
// what is done, and leave no claim.
func TestScriptAnswersLost(t *testing.T) {
	for lost := 1; lost <= 3; lost++ {
		runScript(t, true, func(s *sim) {
			s.mustCreate(t, "acme", "a@x.test")
			n := 0
			err := s.runHooked(s.changeAll(), 0, func(c *call) bool {
				if c.method != "ReplaceOrganization" && c.method != "ReplaceAdmin" {
					return false
				}
				n++
				return n == lost && s.loseAnswer(c)
			})
			if err != nil {
				t.Errorf("write %d: %v", lost, err)
			}
			s.wantClaims(t, "email:c@x.test", "org_core")
			s.repairAndCheck()
		})
	}
}

// loseAnswer executes the call, and makes the caller wait for the answer in vain.
func (s *sim) loseAnswer(c *call) bool {
	s.take(c)
	s.execute(c, false)
	s.hold(c, unreachable(c))
	return true
}

// TestScriptOvertakenAdmin lets a process sleep before it changes the admin. Others
// undo the operation, because the email is taken, and then the email is free again.
// The process must not make one half of an update that was undone. It is the one that
// began the update, or one that has taken it over.
func TestScriptOvertakenAdmin(t *testing.T) {
	for name, test := range map[string]struct {
		set    func(*testing.T, *sim)
		method string
		begin  func(s *sim) *operation
	}{
		"began it":           {setActive, "ReplaceAdmin", (*sim).changeAll},
		"has taken it over":  {crashed("RenameCollection", (*sim).changeAll), "Admin", func(s *sim) *operation { return s.reconcileOp(false) }},
		"has read the admin": {crashed("RenameCollection", (*sim).changeAll), "InsertClaims", func(s *sim) *operation { return s.reconcileOp(false) }},
	} {
		t.Run(name, func(t *testing.T) {
			runScript(t, true, func(s *sim) {
				test.set(t, s)
				s.runHooked(test.begin(s), 0, once(test.method, func() {
					s.meanwhile(func() {
						s.sleep(2 * org.StaleAfter)
						s.mustCreate(t, "dune", "c@x.test")
						repair := s.reported(false)
						if err := s.runHooked(repair, 0, nil); err != nil || repair.args != "1 undone" {
							t.Errorf("%s, %v; want 1 undone", repair.args, err)
						}
						for _, o := range inOrder(s.durable.organizations) {
							if o.Collection == "org_dune" {
								s.mustRun(t, s.deleteOp(o))
							}
						}
					})
				}))
				s.sleep(2 * org.StaleAfter)
				s.mustRun(t, s.reconcileOp(true))
				for _, o := range inOrder(s.durable.organizations) {
					if a := s.durable.admins[o.Admins[0].AdminID]; o.Collection == "org_acme" && (a.Email != "a@x.test" || a.TokenVersion != 1) {
						t.Errorf("%s, but its admin has %s and the version %d", organizationText(o), a.Email, a.TokenVersion)
					}
				}
				s.repairAndCheck()
			})
		})
	}
}

// TestScriptRevokedElsewhere lets the deletion of another organization sleep while an
// admin changes name and password. When that is answered, the token of the deletion is
// revoked.
func TestScriptRevokedElsewhere(t *testing.T) {
	for _, lost := range []bool{false, true} {
		runScript(t, true, func(s *sim) {
			s.mustCreate(t, "acme", "a@x.test")
			s.mustRun(t, s.createAnotherOp(s.acme(), "bolt"))
			var bolt org.Organization
			for _, o := range s.durable.organizations {
				if o.Collection == "org_bolt" {
					bolt = o
				}
			}
			remove := s.deleteOp(bolt)
			err := s.runHooked(remove, 0, once("ReplaceOrganization", func() {
				s.meanwhile(func() {
					change := s.changeAcme("core", "", "password new")
					err := s.runHooked(change, 0, func(c *call) bool {
						if !lost || c.method != "ReplaceOrganization" || s.durable.organizations[s.acme().ID].Operation == nil {
							return false
						}
						s.take(c)
						s.execute(c, false)
						s.answer(c, unreachable(c))
						return true
					})
					if err != nil {
						t.Error(err)
					}
				})
			}))
			if err == nil {
				t.Errorf("lost %v: the organization is deleted with a token that was revoked", lost)
			}
			s.repairAndCheck()
		})
	}
}
