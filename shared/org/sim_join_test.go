package org_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"orgservice/shared/org"
)

// TestScriptRejoins removes a member while the process crashes before it deletes the
// sessions. When the member joins again, they must not be valid again.
func TestScriptRejoins(t *testing.T) {
	runScript(t, true, func(s *sim) {
		setActive(t, s)
		id := s.member("b@x.test")
		s.durable.sessions["before"] = org.Session{ID: "before", AdminID: id, OrganizationID: s.acme().ID, TokenVersion: 1}
		s.dieAt(t, s.removeOp(s.acme(), s.acme().Admins[0].AdminID, id), "DeleteSessionsOf")
		if again := s.member("b@x.test"); again != id {
			t.Errorf("%s has joined; want %s", again, id)
		}
		if _, ok := s.durable.sessions["before"]; ok {
			t.Error("the session of before is still there")
		}
		s.repairAndCheck()
	})
}

// TestScriptJoinsTwice accepts an invitation twice at the same time. The second one
// fails and takes the organization from the record of the admin, before the first one
// reads the organization and lists the admin.
func TestScriptJoinsTwice(t *testing.T) {
	runScript(t, true, func(s *sim) {
		setActive(t, s)
		m := s.invited("b@x.test")
		reads := 0
		err := s.runHooked(s.acceptOp(m), 0, func(c *call) bool {
			if c.method == "Organization" {
				if reads++; reads == 2 {
					s.meanwhile(func() {
						second := s.runHooked(s.acceptOp(m), 0, func(c *call) bool {
							return c.method == "DeleteSessionsOf" && s.deny(c)
						})
						if second == nil {
							t.Error("the second one succeeds")
						}
					})
				}
			}
			return false
		})
		if err != nil || reads < 2 {
			t.Errorf("%v after %d reads", err, reads)
		}
		s.checkInvariants() // without a repair
	})
}

// TestScriptWithdrawnMeanwhile withdraws an invitation while it is accepted. At once,
// there must be nothing of the admin, or the admin must be as before; where the database
// fails, after a repair, and the log says that it is needed.
func TestScriptWithdrawnMeanwhile(t *testing.T) {
	for _, email := range []string{"g0@x.test", "b@x.test"} {
		for _, failing := range []string{"", "Admin", "FenceOrganizations"} {
			t.Run(email+" "+failing, func(t *testing.T) {
				runScript(t, true, func(s *sim) {
					setActive(t, s)
					m, withdrawn, failed := s.invited(email), false, false
					err := s.runHooked(s.acceptOp(m), 0, func(c *call) bool {
						switch {
						case c.method == "ReplaceAdmin" && !withdrawn: // the one of join
							withdrawn = true
							s.meanwhile(func() { s.mustRun(t, s.withdrawOp(s.acme(), s.acme().Admins[0].AdminID, s.acme().Invitations[0].ID)) })
						case c.method == failing && withdrawn && !failed:
							failed = true
							return s.fail(c, unsent)
						}
						return false
					})
					if err == nil || !failed && reasonOf(err) != org.TicketInvalid {
						t.Errorf("accepted: %v", err)
					}
					logged := strings.Contains(s.trace.String(), "left to reconcile")
					if !failed && logged || failed && failing == "FenceOrganizations" && !logged {
						t.Errorf("logged: %v", logged)
					}
					if logged {
						s.sleep(2 * org.StaleAfter)
						s.repairAndCheck()
					}
					for _, a := range s.durable.admins {
						if a.Email == "g0@x.test" || slices.Contains(a.Organizations, s.acme().ID) && a.Email != "a@x.test" {
							t.Errorf("left: %+v", a)
						}
					}
					s.wantClaims(t, "email:a@x.test", "email:b@x.test", "org_acme", "org_bolt")
					s.checkInvariants()
				})
			})
		}
	}
}

// TestScriptOldMembers removes a member, and makes another one, whose emails an older
// version has claimed for their organizations.
func TestScriptOldMembers(t *testing.T) {
	runScript(t, true, func(s *sim) {
		setActive(t, s)
		id := s.member("g0@x.test")
		s.downgrade()
		s.mustRun(t, s.removeOp(s.acme(), s.acme().Admins[0].AdminID, id))
		s.wantClaims(t, "email:a@x.test", "email:b@x.test", "org_acme", "org_bolt")
		s.member("b@x.test")
		s.mustRun(t, s.deleteOp(s.named("bolt")))
		s.wantClaims(t, "email:a@x.test", "email:b@x.test", "org_acme")
		s.repairAndCheck()
	})
}

// TestScriptLeavesWhileJoining runs Reconcile while an admin is about to be listed by an organization, which is on
// the admin's record. Reconcile leaves it there, unless the process that lists the admin has slept. Then both list
// each other in the end, or neither does, without another repair.
func TestScriptLeavesWhileJoining(t *testing.T) {
	for _, slept := range []time.Duration{0, org.StaleAfter - time.Second, 2 * org.StaleAfter} {
		runScript(t, true, func(s *sim) {
			setActive(t, s)
			acme, id, left := s.acme().ID, firstOwner(s.named("bolt")), false
			s.runHooked(s.acceptOp(s.invited("b@x.test")), 0, once("ReplaceOrganization", func() {
				s.sleep(slept)
				s.meanwhile(func() { s.mustRun(t, s.reconcileOp(true)) })
				left = !slices.Contains(s.durable.admins[id].Organizations, acme)
			}))
			a, o := s.durable.admins[id], s.acme()
			isListed := slices.ContainsFunc(o.Admins, func(m org.Member) bool { return m.AdminID == a.ID })
			if lists := slices.Contains(a.Organizations, acme); left != (slept > org.StaleAfter) || lists != isListed || !left && !lists {
				t.Errorf("slept %v: left: %v, the admin lists the organization: %v, and is listed: %v", slept, left, lists, isListed)
			}
			s.repairAndCheck()
		})
	}
}

// TestScriptRemoved removes a member who has another organization, has only one that is deleted and can be
// restored, or has none. The record and the claim on the email follow at once, without a repair; if the database
// fails, the removal is done all the same, and a repair does the rest.
func TestScriptRemoved(t *testing.T) {
	hit := map[string]bool{}
	for name, c := range map[string]struct {
		buries, isBolts bool
		want            string
	}{
		"of another":       {false, true, "lists bolt"},
		"of a deleted one": {true, true, "asleep"},
		"of none":          {false, false, "gone"},
	} {
		for _, failing := range []string{"", "Admin 1", "Admin 2", "FenceOrganizations 1", "FenceOrganizations 2", "Organization 1", "Organization 2", "OrganizationsByID 1", "ReplaceAdmin 1", "ReplaceAdmin 2", "DeleteAdmin 1", "ReleaseClaims 1"} {
			t.Run(name+" "+failing, func(t *testing.T) {
				runScript(t, true, func(s *sim) {
					setActive(t, s)
					bolt, email := s.named("bolt"), "g0@x.test"
					if c.isBolts {
						email = "b@x.test"
					}
					id := s.member(email)
					if c.buries {
						s.grace = 24 * time.Hour
						s.mustRun(t, s.deleteOp(bolt))
					}
					state := func() string {
						a, ok := s.durable.admins[id]
						_, claimed := s.durable.claims["email:"+email]
						switch {
						case !ok && !claimed:
							return "gone"
						case ok && a.Asleep && !claimed:
							return "asleep"
						case ok && !a.Asleep && claimed && slices.Equal(a.Organizations, []string{bolt.ID}):
							return "lists bolt"
						}
						return fmt.Sprintf("%+v, claimed: %v", a, claimed)
					}
					calls, written, failed := map[string]int{}, false, false
					err := s.runHooked(s.removeOp(s.acme(), firstOwner(s.acme()), id), 0, func(c *call) bool {
						if written {
							calls[c.method]++
						}
						if fmt.Sprint(c.method, " ", calls[c.method]) == failing {
							failed = true
							return s.fail(c, unsent)
						}
						written = written || c.method == "ReplaceOrganization"
						return false
					})
					hit[failing] = hit[failing] || failed
					if err != nil || slices.ContainsFunc(s.acme().Admins, func(m org.Member) bool { return m.AdminID == id }) {
						t.Fatalf("answered %v", err)
					}
					if after := state(); !failed && after != c.want {
						t.Errorf("%s; want %s", after, c.want)
					}
					if logged := strings.Contains(s.trace.String(), "left to reconcile"); logged != failed {
						t.Errorf("logged: %v; want %v", logged, failed)
					}
					s.sleep(2 * org.StaleAfter)
					s.repairAndCheck()
					if after := state(); after != c.want {
						t.Errorf("after a repair: %s; want %s", after, c.want)
					}
				})
			})
		}
	}
	for failing, ok := range hit {
		if !ok && failing != "" {
			t.Errorf("nothing makes the call %s", failing)
		}
	}
}

// TestScriptOwnersLeave lets both owners of an organization leave at the same time, or
// demote each other. One must stay.
func TestScriptOwnersLeave(t *testing.T) {
	for name, op := range map[string]func(s *sim, by, of string) *operation{
		"leave":          func(s *sim, by, _ string) *operation { return s.removeOp(s.acme(), by, by) },
		"remove":         func(s *sim, by, of string) *operation { return s.removeOp(s.acme(), by, of) },
		"demote":         func(s *sim, by, of string) *operation { return s.changeRoleOp(s.acme(), by, of, org.RoleMember) },
		"become members": func(s *sim, by, _ string) *operation { return s.changeRoleOp(s.acme(), by, by, org.RoleMember) },
	} {
		t.Run(name, func(t *testing.T) {
			runScript(t, true, func(s *sim) {
				setActive(t, s)
				first, second := s.acme().Admins[0].AdminID, s.member("b@x.test")
				s.mustRun(t, s.changeRoleOp(s.acme(), first, second, org.RoleOwner))
				err := s.runHooked(op(s, first, second), 0, once("ReplaceOrganization", func() {
					s.meanwhile(func() { s.mustRun(t, op(s, second, first)) })
				}))
				if err == nil {
					t.Error("both succeed")
				}
				if owners := s.acme().Admins; !slices.ContainsFunc(owners, func(m org.Member) bool { return m.Role == org.RoleOwner }) {
					t.Errorf("no owner among %v", owners)
				}
			})
		})
	}
}

// TestScriptSleepsBeforeInsert lets an acceptance by a new admin sleep for longer than
// StaleAfter between the claim on the email and the insertion of the admin. Meanwhile
// somebody signs up with the email, or Reconcile releases the claim.
func TestScriptSleepsBeforeInsert(t *testing.T) {
	for name, meanwhile := range map[string]func(s *sim) *operation{
		"signed up":  func(s *sim) *operation { return s.createOp("core", "g0@x.test") },
		"reconciled": func(s *sim) *operation { return s.reconcileOp(true) },
	} {
		t.Run(name, func(t *testing.T) {
			runScript(t, true, func(s *sim) {
				setActive(t, s)
				err := s.runHooked(s.acceptOp(s.invited("g0@x.test")), 0, once("InsertAdmin", func() {
					s.meanwhile(func() {
						s.sleep(2 * org.StaleAfter)
						s.mustRun(t, meanwhile(s))
					})
				}))
				if !errors.Is(err, org.ErrUnavailable) {
					t.Errorf("accepted: %v", err)
				}
				s.repairAndCheck()
			})
		})
	}
}
