package org_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"orgservice/shared/auth"
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

// backwards is a store that finds the latest organization first.
type backwards struct{ org.Store }

func (s backwards) OrganizationsByID(ctx context.Context, ids []string) ([]org.Organization, error) {
	all, err := s.Store.OrganizationsByID(ctx, ids)
	slices.Reverse(all)
	return all, err
}

// wantPages checks that list, which returns a page and whether there are more, returns the ids in their
// order, in pages of each size.
func wantPages(t *testing.T, want []string, list func(after string, limit int) (ids []string, more bool, err error)) {
	t.Helper()
	for limit := 1; limit <= len(want)+1; limit++ {
		var got []string
		for after, more := "", true; more; {
			ids, isMore, err := list(after, limit)
			if err != nil || len(ids) != min(limit, len(want)-len(got)) || isMore != (len(got)+len(ids) < len(want)) {
				t.Fatalf("%d after %q: %v, %v, %v", limit, after, ids, isMore, err)
			}
			got, after, more = append(got, ids...), ids[len(ids)-1], isMore
		}
		if !slices.Equal(got, want) {
			t.Errorf("in pages of %d: %v, want %v", limit, got, want)
		}
	}
}

// TestScriptMemberships lists the organizations of an admin in pages of each size. One is suspended, and one is
// the next admin's.
func TestScriptMemberships(t *testing.T) {
	runScript(t, true, func(s *sim) {
		s.mustCreate(t, "acme", "a@x.test")
		s.mustCreate(t, "bolt", "b@x.test")
		for _, slug := range []string{"core", "dune", "eden"} {
			s.mustRun(t, s.createAnotherOp(s.named("acme"), slug))
		}
		s.mustAct(t, s.named("core").ID, false)
		var want []string
		for _, slug := range []string{"acme", "dune", "eden"} {
			want = append(want, s.named(slug).ID)
		}
		slices.Sort(want)
		caller, lost := s.caller(s.named("acme")), ""
		list := func(caller auth.Caller, after string, limit int) (ids []string, more bool, err error) {
			err = s.runHooked(&operation{kind: "Me", run: func(ctx context.Context, service *org.Service) error {
				service.Store = backwards{service.Store}
				var page []org.Membership
				page, more, err = service.Memberships(ctx, caller, after, limit)
				for _, m := range page {
					if m.Role != org.RoleOwner || m.Since.IsZero() || m.Collection != s.durable.organizations[m.ID].Collection {
						t.Errorf("%+v", m)
					}
					ids = append(ids, m.ID)
				}
				return err
			}}, 0, func(c *call) bool { return c.method == lost && s.fail(c, unsent) })
			return ids, more, err
		}
		wantPages(t, want, func(after string, limit int) ([]string, bool, error) { return list(caller, after, limit) })
		for _, lost = range []string{"Admin", "OrganizationsByID"} {
			if ids, more, err := list(caller, "", 2); !errors.Is(err, org.ErrUnavailable) || more || ids != nil {
				t.Errorf("%s can't be reached: %v, %v, %v", lost, ids, more, err)
			}
		}
		lost = ""
		caller.TokenVersion++
		if ids, more, err := list(caller, "", 2); reasonOf(err) != org.TokenRevoked || more || ids != nil {
			t.Errorf("with a revoked token: %v, %v, %v", ids, more, err)
		}
		s.mustAct(t, s.named("core").ID, true)
	})
}
