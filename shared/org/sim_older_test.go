package org_test

import (
	"errors"
	"testing"

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
