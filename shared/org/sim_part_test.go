package org_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"orgservice/shared/org"
)

// crashAt returns a hook that lets the process of the operation crash instead of
// its first call of the method.
func (s *sim) crashAt(method string) func(c *call) bool {
	return func(c *call) bool {
		if c.method != method {
			return false
		}
		s.take(c)
		s.kill(c.op)
		s.answer(c, reply{crashed: true})
		return true
	}
}

// TestScriptUndoneThenChanged lets a process sleep before it changes the admin. Another
// creation gets the email meanwhile, so that Reconcile undoes the update, and gives it
// up again. The sleeping process must not change the admin any more.
func TestScriptUndoneThenChanged(t *testing.T) {
	runScript(t, true, func(s *sim) {
		s.mustCreate(t, "acme", "a@x.test")
		o, slept := s.onlyOrganization(t), false
		op := s.changeAll()
		err := s.runHooked(op, 0, func(c *call) bool {
			if c.method != "ReplaceAdmin" || c.op != op || slept {
				return false
			}
			slept = true
			s.meanwhile(func() {
				s.sleep(2 * org.StaleAfter)
				s.mustCreate(t, "bolt", "c@x.test")
				s.runHooked(s.reconcileOp(false), 0, nil)
				for _, other := range s.active() {
					if other.ID != o.ID {
						if err := s.runHooked(s.deleteOp(other), 0, nil); err != nil {
							t.Fatal(err)
						}
					}
				}
			})
			return false
		})
		a, after := s.durable.admins[o.Admins[0].AdminID], s.onlyOrganization(t)
		if changed := a.Email != "a@x.test"; changed != (after.Collection != "org_acme") {
			t.Errorf("answered %v: the organization is %s, its admin %s with %s", err, organizationText(after), a.Email, a.PasswordHash)
		}
		s.repairAndCheck()
	})
}

// TestScriptUndoneThenStuck is the same, but the process that undoes the update
// crashes before the collection has its name back. Others must be able to go on.
func TestScriptUndoneThenStuck(t *testing.T) {
	runScript(t, true, func(s *sim) {
		s.mustCreate(t, "acme", "a@x.test")
		o, slept := s.onlyOrganization(t), false
		op := s.changeAll()
		s.runHooked(op, 0, func(c *call) bool {
			if c.method != "ReplaceAdmin" || c.op != op || slept {
				return false
			}
			slept = true
			s.meanwhile(func() {
				s.sleep(2 * org.StaleAfter)
				s.mustCreate(t, "bolt", "c@x.test")
				s.runHooked(s.reconcileOp(false), 0, func(c *call) bool {
					return strings.HasSuffix(c.args, "to org_acme") && s.crashAt("RenameCollection")(c)
				})
				for _, other := range s.active() {
					if other.ID != o.ID {
						if err := s.runHooked(s.deleteOp(other), 0, nil); err != nil {
							t.Fatal(err)
						}
					}
				}
			})
			return false
		})
		s.repairAndCheck()
	})
}

// TestScriptAdoptsAnOldRead lets a request read its admin before the journal of an
// older version is carried out, and its organization after that. The new email's
// claim must stay in use.
func TestScriptAdoptsAnOldRead(t *testing.T) {
	runScript(t, true, func(s *sim) {
		s.mustCreate(t, "acme", "a@x.test")
		o := s.onlyOrganization(t)
		old, current := s.changeAll(), s.knownPassword()
		s.runHooked(old, 0, s.crashAt("ReplaceAdmin"))
		s.downgrade()
		s.sleep(2 * org.StaleAfter)
		email := "d@x.test"
		op := s.updateOp(o, org.UpdateRequest{Email: &email, CurrentPassword: &current})
		read := map[string]bool{}
		err := s.runHooked(op, 0, func(c *call) bool {
			if c.op != op || c.method != "Organization" || read["Organization"] {
				return false
			}
			if !read["Admin"] { // the admin is read first
				for _, p := range s.pending {
					if p.op == op && p.method == "Admin" {
						read["Admin"] = true
						s.resolve(p)
						return true
					}
				}
			}
			read["Organization"] = true
			s.meanwhile(func() { s.runHooked(s.reconcileOp(false), 0, nil) })
			return false
		})
		if err == nil {
			t.Error("it has changed the admin with an old token")
		}
		if c := s.durable.claims["email:c@x.test"]; !slices.Contains(s.onlyOrganization(t).Claims, c.ID) && c.AdminID == "" {
			t.Errorf("answered %v: the claim is %s, but the record has %v", err, claimText(c), s.onlyOrganization(t).Claims)
		}
		s.repairAndCheck()
		s.checkUsable()
	})
}

// TestScriptAdoptsForOne changes the email of one of two admins of an older version.
// The other one must keep the claim to its email.
func TestScriptAdoptsForOne(t *testing.T) {
	runScript(t, true, func(s *sim) {
		s.mustCreate(t, "acme", "a@x.test")
		o := s.onlyOrganization(t)
		now := time.Now()
		s.durable.admins["9.9"] = org.Admin{ID: "9.9", OrganizationID: o.ID, Organizations: []string{o.ID}, Email: "m@x.test", PasswordHash: "hash of mate's", TokenVersion: 1, CreatedAt: now, UpdatedAt: now}
		s.durable.claims["email:m@x.test"] = org.Claim{ID: "email:m@x.test", Owner: org.Owner{AdminID: "9.9"}, ClaimedAt: now}
		o.Admins = append(o.Admins, org.Member{AdminID: "9.9", Role: org.RoleAdmin, Since: now})
		s.durable.organizations[o.ID] = o
		s.downgrade()
		login := func() error {
			return s.runHooked(s.loginOp(org.LoginRequest{Email: "m@x.test", Password: "mate's"}), 0, nil)
		}
		if err := login(); err != nil {
			t.Fatal(err)
		}
		if err := s.runHooked(s.changeAcme("", "c@x.test", ""), 0, nil); err != nil {
			t.Fatal(err)
		}
		s.sleep(2 * org.StaleAfter)
		r := s.reported(true)
		s.runHooked(r, 0, nil)
		s.sleep(2 * org.StaleAfter)
		if err := s.runHooked(s.createOp("bolt", "m@x.test"), 0, nil); reasonOf(err) != org.EmailTaken {
			t.Errorf("a creation with the other admin's email: %v; claims %v; record %v; report %s", err, s.durable.claims, s.durable.organizations[o.ID].Claims, r.args)
		}
		if err := login(); err != nil {
			t.Errorf("the other admin's login: %v", err)
		}
	})
}

// TestScriptChangedThenOccupied moves the collection of an update back, as a late
// command does, after the admin was changed, and the new name gets documents. The
// organization must not stay busy for ever.
func TestScriptChangedThenOccupied(t *testing.T) {
	runScript(t, true, func(s *sim) {
		crashed("ReplaceAdmin", (*sim).changeAll)(t, s)
		s.durable.renameCollection(org.Collection{Name: "org_core"}, "org_acme")
		s.fill("org_core")
		s.repairAndCheck()
	})
}

// TestScriptUndoneWithoutCollection drops the collection of an update that is being
// undone. The organization must not stay busy for ever.
func TestScriptUndoneWithoutCollection(t *testing.T) {
	runScript(t, true, func(s *sim) {
		crashed("RenameCollection", (*sim).changeAll)(t, s)
		a := s.durable.admins[s.acme().Admins[0].AdminID]
		a.TokenVersion, a.Revision, a.Committed = a.TokenVersion+1, a.Revision+1, "9.9"
		s.durable.admins[a.ID] = a
		s.runHooked(s.reconcileOp(false), 0, func(c *call) bool {
			return c.method == "RenameCollection" && c.args == "org_core#1 to org_acme" && s.crashAt("RenameCollection")(c)
		})
		if op := s.acme().Operation; op == nil || !op.Undone {
			t.Fatal(organizationText(s.acme()))
		}
		delete(s.durable.collections, "org_core")
		for range 3 {
			s.sleep(5 * time.Minute)
			s.runHooked(s.reconcileOp(true), 0, nil)
		}
		if o := s.acme(); o.Operation != nil {
			t.Errorf("%s", organizationText(o))
		}
	})
}

// TestScriptAdminOfUnfinished lets a creation sleep before it inserts its admin, and another one with
// the same email before it releases the claims of an admin that is not there. The admin appears, and
// finishes a sign-up with the password. Whoever gets the email has the claim on it.
func TestScriptAdminOfUnfinished(t *testing.T) {
	runScript(t, true, func(s *sim) {
		first, second := s.createOp("acme", "d@x.test"), s.createOp("core", "d@x.test")
		var inserted reply
		s.runHooked(first, 0, func(c *call) bool {
			if c.op != first || c.method != "InsertAdmin" {
				return false
			}
			s.meanwhile(func() {
				s.sleep(org.StaleAfter + time.Second)
				s.runHooked(second, 0, once("ReleaseClaims", func() {
					s.meanwhile(func() {
						inserted = s.execute(c, false)
						if err := s.runHooked(s.finishSignUpOp("dune", "d@x.test"), 0, nil); !errors.Is(err, org.ErrConflict) {
							t.Errorf("answered %v", err)
						}
					})
				}))
			})
			s.take(c)
			s.answer(c, inserted)
			return true
		})
		s.repairAndCheck()
		for _, a := range s.durable.admins {
			if s.durable.claims["email:"+a.Email].AdminID != a.ID {
				t.Errorf("the admin %s of %v has no claim on %s", a.ID, a.Organizations, a.Email)
			}
		}
	})
}
