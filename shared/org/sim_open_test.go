package org_test

import (
	"errors"
	"testing"
	"time"

	"orgservice/shared/org"
)

// TestScriptRevokedUnfenced lets a process crash just after it has changed the
// password, before it fences the organization. The new password is used. A request
// with an old token, which sleeps meanwhile, must not delete the organization.
func TestScriptRevokedUnfenced(t *testing.T) {
	runScript(t, true, func(s *sim) {
		s.mustCreate(t, "acme", "a@x.test")
		o := s.onlyOrganization(t)
		slept := false
		op := s.deleteOp(o)
		err := s.runHooked(op, 0, func(c *call) bool {
			if c.op != op || c.method != "ReplaceOrganization" || slept {
				return false
			}
			slept = true
			s.meanwhile(func() {
				s.runHooked(s.changeAcme("", "", "password new"), 0, s.crashAt("FenceOrganization"))
				if err := s.runHooked(s.loginOp(org.LoginRequest{Email: "a@x.test", Password: "password new"}), 0, nil); err != nil {
					t.Fatal(err)
				}
				s.sleep(time.Hour)
				s.runHooked(s.reconcileOp(true), 0, nil)
			})
			return false
		})
		if !errors.Is(err, org.ErrUnauthenticated) && !errors.Is(err, org.ErrConflict) {
			t.Errorf("the deletion with the revoked token: %v; %d organizations are left", err, len(s.durable.organizations))
		}
	})
}

// TestScriptRevokedJournal lets a request write the journal of a rename and crash while
// a change of the password is under way. When the new password is answered, the token of
// the rename is revoked. Reconcile finds the journal later.
func TestScriptRevokedJournal(t *testing.T) {
	runScript(t, true, func(s *sim) {
		s.mustCreate(t, "acme", "a@x.test")
		rename, renamed := s.changeAcme("core", "", ""), false
		password := s.changeAcme("", "", "password new")
		err := s.runHooked(password, 0, func(c *call) bool {
			if c.op == password && c.method == "ReplaceAdmin" && !renamed {
				renamed = true
				s.meanwhile(func() { s.runHooked(rename, 0, s.crashAt("RenameCollection")) })
			}
			return false
		})
		if err != nil {
			t.Fatal(err)
		}
		s.sleep(time.Hour)
		s.runHooked(s.reconcileOp(false), 0, nil)
		if o := s.onlyOrganization(t); o.Collection != "org_acme" {
			t.Errorf("an hour after the new password was answered, a request with a revoked token renames to %s", o.Name)
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

// TestScriptSuspendedMeanwhile suspends the organization while an update of a
// password sleeps before its write.
func TestScriptSuspendedMeanwhile(t *testing.T) {
	runScript(t, true, func(s *sim) {
		s.mustCreate(t, "acme", "a@x.test")
		o := s.onlyOrganization(t)
		op := s.changeAcme("", "", "password new")
		err := s.runHooked(op, 0, func(c *call) bool {
			if c.method == "ReplaceAdmin" && s.durable.organizations[o.ID].Status == org.Active {
				s.toggleSuspension(o.ID)
				s.sleep(time.Hour)
			}
			return false
		})
		if err == nil {
			t.Errorf("the password is changed an hour after the suspension: %s", s.durable.admins[o.Admins[0].AdminID].PasswordHash)
		}
	})
}
