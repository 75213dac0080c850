package org_test

import (
	"slices"
	"testing"
	"time"

	"orgservice/shared/org"
)

// named returns the record of the organization of that name.
func (s *sim) named(slug string) org.Organization {
	for _, o := range s.durable.organizations {
		if slugOf(o) == slug {
			return o
		}
	}
	return org.Organization{}
}

// TestScriptDeleteBoth deletes both organizations of an admin at the same time. Each
// deletion finds the other one on the admin's record. The admin must be gone all the
// same, without a repair.
func TestScriptDeleteBoth(t *testing.T) {
	runScript(t, true, func(s *sim) {
		s.mustCreate(t, "acme", "a@x.test")
		s.mustRun(t, s.createAnotherOp(s.acme(), "core"))
		err := s.runHooked(s.deleteOp(s.named("acme")), 0, once("LeaveOrganization", func() {
			s.meanwhile(func() { s.mustRun(t, s.deleteOp(s.named("core"))) })
		}))
		if err != nil || len(s.durable.admins) > 0 {
			t.Errorf("%v; left: %+v", err, s.durable.admins)
		}
		s.sleep(2 * org.StaleAfter)
		s.mustCreate(t, "bolt", "a@x.test")
		s.repairAndCheck()
	})
}

// TestScriptJoinsMeanwhile lets an organization list an admin after Reconcile has found
// that it does not. The admin and its list must stay.
func TestScriptJoinsMeanwhile(t *testing.T) {
	for name, organizations := range map[string][]string{"orphan": {"acme"}, "stray": {"bolt", "acme"}} {
		t.Run(name, func(t *testing.T) {
			runScript(t, true, func(s *sim) {
				s.mustCreate(t, "acme", "a@x.test")
				s.mustCreate(t, "bolt", "b@x.test")
				a := org.Admin{ID: "9.9", OrganizationID: s.named(organizations[0]).ID, Email: "c@x.test", TokenVersion: 1, Revision: 1, UpdatedAt: time.Now()}
				list := func(slug string) {
					o := copyOf(s.named(slug))
					o.Admins = append(o.Admins, org.Member{AdminID: a.ID, Role: org.RoleMember})
					s.durable.organizations[o.ID] = o
				}
				for _, slug := range organizations {
					a.Organizations = append(a.Organizations, s.named(slug).ID)
					if slug == "bolt" {
						list(slug)
					}
				}
				s.durable.admins[a.ID] = a
				s.sleep(2 * org.StaleAfter)
				joined := false
				s.runHooked(s.reconcileOp(true), 0, once("FenceOrganizations", func() { joined = true; list("acme") }))
				if got := s.durable.admins[a.ID]; !joined || !slices.Equal(got.Organizations, a.Organizations) {
					t.Errorf("joined %v: %+v", joined, got)
				}
			})
		})
	}
}
