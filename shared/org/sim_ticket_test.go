package org_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"orgservice/shared/org"
)

// TestScriptMailAgain mails what could not be mailed a few times, less and less often. If
// the mails arrive all the same, every link is good.
func TestScriptMailAgain(t *testing.T) {
	for name, test := range map[string]struct {
		err            error
		firstHour, day int
	}{
		"the server is down":    {errors.New("no route to host"), 6, 10},
		"there is no such user": {fmt.Errorf("%w: 550", org.ErrUndeliverable), 1, 1},
	} {
		t.Run(name, func(t *testing.T) {
			runScript(t, true, func(s *sim) {
				setActive(t, s)
				s.mailErr = test.err
				s.mustRun(t, s.inviteOp(s.acme(), s.acme().Admins[0].AdminID, "g0@x.test", org.RoleMember))
				for minute := range 24 * 60 {
					if minute == 60 && s.mailTries != test.firstHour {
						t.Errorf("%d tries in the first hour, want %d", s.mailTries, test.firstHour)
					}
					s.sleep(time.Minute)
					s.runAlone(s.reconcileOp(false))
				}
				if s.mailTries != test.day {
					t.Errorf("%d tries in a day, want %d", s.mailTries, test.day)
				}
			})
		})
	}
	runScript(t, true, func(s *sim) {
		setActive(t, s)
		// The server takes each mail, but nobody can note that.
		unnoted := func(c *call) bool {
			return c.method == "ReplaceTicket" && strings.Contains(c.args, "mailed") && s.deny(c)
		}
		s.runHooked(s.inviteOp(s.acme(), s.acme().Admins[0].AdminID, "g0@x.test", org.RoleMember), 0, unnoted)
		for range 3 {
			s.sleep(10 * time.Minute)
			s.runHooked(s.reconcileOp(false), 0, unnoted)
		}
		if len(s.mails) != 4 {
			t.Fatalf("%d mails", len(s.mails))
		}
		s.mustRun(t, s.acceptOp(s.mails[0]))
	})
}

// TestScriptTicketLeft lets an invitation sleep for longer than StaleAfter after it has
// inserted its ticket, or its write come late after a crash. Reconcile finds the ticket
// before the invitation is on the record. Somebody must get a good link.
func TestScriptTicketLeft(t *testing.T) {
	for _, crash := range []bool{false, true} {
		t.Run(fmt.Sprint("crash ", crash), func(t *testing.T) {
			runScript(t, true, func(s *sim) {
				setActive(t, s)
				op := s.inviteOp(s.acme(), s.acme().Admins[0].AdminID, "g0@x.test", org.RoleMember)
				late := false
				s.runHooked(op, 0, func(c *call) bool {
					if c.method != "ReplaceOrganization" || late {
						return false
					}
					late = true
					s.meanwhile(func() {
						s.sleep(2 * org.StaleAfter)
						s.mustRun(t, s.reconcileOp(false))
					})
					if crash {
						s.take(c)
						s.execute(c, false)
						s.kill(op)
						s.answer(c, reply{crashed: true})
					}
					return crash
				})
				s.repairAndCheck()
				if len(s.acme().Invitations) != 1 || len(s.mails) != 1 {
					t.Fatalf("%d invitations, %d mails", len(s.acme().Invitations), len(s.mails))
				}
				s.mustRun(t, s.acceptOp(s.mails[0]))
			})
		})
	}
}

// TestScriptTwoReconciles runs two Reconciles at the same time. The first one notes that
// it has mailed after the second one has mailed another secret. Both links are good.
func TestScriptTwoReconciles(t *testing.T) {
	runScript(t, true, func(s *sim) {
		setActive(t, s)
		s.dieAt(t, s.inviteOp(s.acme(), s.acme().Admins[0].AdminID, "g0@x.test", org.RoleMember), "Send")
		s.sleep(2 * org.StaleAfter)
		replaced := 0
		s.runHooked(s.reconcileOp(false), 0, func(c *call) bool {
			if c.method == "ReplaceTicket" {
				if replaced++; replaced == 2 { // it has mailed
					s.meanwhile(func() {
						s.sleep(5 * time.Minute)
						s.mustRun(t, s.reconcileOp(false))
					})
				}
			}
			return false
		})
		if len(s.mails) != 2 {
			t.Errorf("%d mails", len(s.mails))
		}
		for i, m := range s.mails {
			if !s.valid(m) {
				t.Errorf("the link of mail %d is not good", i+1)
			}
		}
	})
}
