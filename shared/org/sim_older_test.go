package org_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"orgservice/shared/org"
)

// TestScriptAcceptInJournal accepts an invitation to bolt while a journal of an older
// version, which has changed the admin, is on the record of acme. Then the claim on the
// admin's email must not be acme's, which is deleted, or changes it.
func TestScriptAcceptInJournal(t *testing.T) {
	for name, end := range map[string]func(t *testing.T, s *sim){
		"acme deleted": func(t *testing.T, s *sim) { s.mustRun(t, s.deleteOp(s.named("core"))) },
		"email changed": func(t *testing.T, s *sim) {
			email, current := "z@x.test", "password new"
			s.mustRun(t, s.updateAs(s.named("bolt"), s.named("bolt").Admins[1].AdminID, org.UpdateRequest{Email: &email, CurrentPassword: &current}))
		},
	} {
		t.Run(name, func(t *testing.T) {
			runScript(t, true, func(s *sim) {
				crashed("ReplaceAdmin", (*sim).changeAll)(t, s)
				s.downgradeInJournal()
				m := s.invitedTo("bolt", "c@x.test")
				if err := s.runHooked(s.acceptOp(m), 0, nil); reasonOf(err) != org.OrganizationBusy {
					t.Errorf("accepted: %v", err)
				}
				s.mustRun(t, s.reconcileOp(false))
				s.mustRun(t, s.acceptOp(m))
				end(t, s)
				s.repairAndCheck()
			})
		})
	}
}

// downgradeInJournal is downgrade, but the record of acme has the claim on the old
// email, and its journal the one on the new email, as the older version wrote them.
func (s *sim) downgradeInJournal() {
	s.downgrade()
	o := copyOf(s.acme())
	for i, id := range o.Claims {
		if id == "email:c@x.test" {
			o.Claims[i] = "email:a@x.test"
		}
	}
	for i, id := range o.Operation.Claims {
		if id == "email:a@x.test" {
			o.Operation.Claims[i] = "email:c@x.test"
		}
	}
	for _, email := range []string{"a@x.test", "c@x.test"} {
		c := s.durable.claims["email:"+email]
		c.Owner, c.Revision = org.Owner{OrganizationID: o.ID}, o.Revision-1
		s.durable.claims["email:"+email] = c
	}
	s.durable.organizations[o.ID] = o
}

// TestScriptResetInJournal sets a new password while a journal is on the record, whose
// process has crashed before or after it has changed the admin.
func TestScriptResetInJournal(t *testing.T) {
	for _, method := range []string{"ReplaceOrganization", "ReplaceAdmin"} {
		for name, downgrade := range map[string]func(*sim){"older": (*sim).downgradeInJournal, "current": func(*sim) {}} {
			t.Run(method+" "+name, func(t *testing.T) {
				runScript(t, true, func(s *sim) {
					crashed(method, (*sim).changeAll)(t, s)
					downgrade(s)
					s.mustRun(t, s.forgotOp(s.admin().Email, 0))
					err := s.runHooked(s.resetOp(s.mails[0], "password reset"), 0, nil)
					if err != nil && !errors.Is(err, org.ErrConflict) {
						t.Error(err)
					}
					s.repairAndCheck()
				})
			})
		}
	}
}

// TestScriptStaysOwned deletes the organization of an admin of an older version while the
// admin accepts an invitation to another one: after the deletion has released the claim,
// and before the acceptance looks for it. Nobody may be left with the email.
func TestScriptStaysOwned(t *testing.T) {
	runScript(t, true, func(s *sim) {
		setActive(t, s)
		s.downgrade()
		m := s.invitedTo("bolt", "a@x.test")
		claims := 0
		err := s.runHooked(s.acceptOp(m), 0, func(c *call) bool {
			if c.method == "Claim" {
				if claims++; claims == 2 { // that of adopt
					s.meanwhile(func() { s.mustRun(t, s.deleteOp(s.named("acme"))) })
				}
			}
			return false
		})
		if err == nil || claims < 2 {
			t.Errorf("accepted: %v, after %d looks at claims", err, claims)
		}
		s.wantClaims(t, "email:b@x.test", "org_bolt")
		s.mustRun(t, s.createOp("core", "a@x.test"))
		s.repairAndCheck()
	})
}

// TestScriptSignUpInMigration signs somebody up by a function of version 1.0.0 while the
// migration runs, after it has read the organizations, or after it is finished.
func TestScriptSignUpInMigration(t *testing.T) {
	for _, at := range []string{"FinishMigration", "after"} {
		t.Run(at, func(t *testing.T) {
			runScript(t, true, func(s *sim) {
				s.mustCreate(t, "acme", "a@x.test")
				s.downgrade()
				signUp := func() { s.mustCreate(t, "bolt", "b@x.test"); s.makeOld("bolt") }
				s.runHooked(s.reconcileOp(true), 0, once("FinishMigration", func() {
					if at != "after" {
						s.meanwhile(signUp)
					}
				}))
				if m := s.durable.migrations[1]; m.FinishedAt.IsZero() {
					t.Errorf("not finished: %+v", m)
				}
				if at == "after" {
					signUp()
				}
				s.repairAndCheck()
			})
		})
	}
}

// makeOld gives the record of an organization the form that version 1.0.0 writes.
func (s *sim) makeOld(slug string) {
	o := copyOf(s.named(slug))
	a := s.durable.admins[o.Admins[0].AdminID]
	id := "email:" + a.Email
	o.Claims = append(o.Claims, id)
	c := s.durable.claims[id]
	c.Owner, c.Revision = org.Owner{OrganizationID: o.ID}, o.Revision-1
	s.durable.claims[id] = c
	a.Committed, a.Journaled, a.Outdated, a.Revision = "", nil, true, 0
	s.durable.admins[a.ID] = a
	s.durable.organizations[o.ID] = o
}

// TestScriptMigratesOthers migrates while the record of one organization can't be written.
func TestScriptMigratesOthers(t *testing.T) {
	runScript(t, true, func(s *sim) {
		s.mustCreate(t, "acme", "a@x.test")
		s.mustCreate(t, "bolt", "b@x.test")
		s.downgradeTo(false)
		acme := s.named("acme").ID
		err := s.runHooked(s.reconcileOp(true), 0, func(c *call) bool {
			return c.method == "ReplaceOrganization" && strings.Contains(c.args, acme) && s.deny(c)
		})
		if !errors.Is(err, errDenied) {
			t.Errorf("reconcile: %v", err)
		}
		if o := s.named("bolt"); len(o.Claims) != 1 {
			t.Errorf("bolt has the claims %v", o.Claims)
		}
		for _, a := range s.durable.admins {
			if a.Outdated {
				t.Errorf("admin %s is outdated", a.Email)
			}
		}
		if m := s.durable.migrations[1]; !m.FinishedAt.IsZero() {
			t.Error("the migration is finished without acme")
		}
		s.repairAndCheck()
	})
}

// TestScriptMigratedTwice migrates by two processes while version 1.0.0 begins to change the
// admin. Its UpdateAdmin matches only admins whose revision is below that of its journal,
// and it doesn't look whether one matched.
func TestScriptMigratedTwice(t *testing.T) {
	runScript(t, true, func(s *sim) {
		s.mustCreate(t, "acme", "a@x.test")
		s.mustRun(t, s.changeAcme("", "", "password 2"))
		s.downgradeTo(false)
		a, o := s.admin(), s.acme()
		a.Revision = o.Revision - 1
		s.durable.admins[a.ID] = a
		var journal int64
		second := func() { // has read acme before the journal
			s.runHooked(s.reconcileOp(true), 0, once("ReplaceClaim", func() {
				o := copyOf(s.acme())
				o.Operation = &org.Operation{ID: "1.99", Kind: org.Updating, StartedAt: time.Now(), TouchedAt: time.Now(), Name: o.Name, Collection: o.Collection,
					Claims: o.Claims, AdminID: a.ID, PasswordHash: "hash of 3", TokenVersion: a.TokenVersion + 1}
				o.Revision++
				journal = o.Revision
				s.durable.organizations[o.ID] = o
			}))
		}
		s.runHooked(s.reconcileOp(true), 0, once("AdminsByID", func() { s.meanwhile(second) }))
		if now := s.admin().Revision; journal == 0 || now >= journal {
			t.Errorf("the admin's revision is %d, and the journal's %d", now, journal)
		}
	})
}
