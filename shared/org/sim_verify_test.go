package org_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"orgservice/shared/auth"
	"orgservice/shared/org"
)

// confirmationFor returns the last mail to verify the email.
func (s *sim) confirmationFor(t *testing.T, email string) org.Mail {
	t.Helper()
	for i := len(s.confirmations) - 1; i >= 0; i-- {
		if s.confirmations[i].To == email {
			return s.confirmations[i]
		}
	}
	t.Errorf("no mail to verify %s", email)
	return org.Mail{}
}

// checkLinks checks that every member whose email is not verified has got a link for that,
// unless there were too many mails.
func (s *sim) checkLinks(o org.Organization) {
	for key, a := range s.durable.counts {
		if strings.HasPrefix(key, "verification to:") && total(a) >= 5 || strings.HasPrefix(key, "verification of:") && total(a) >= 10 {
			return
		}
	}
	for _, m := range o.Admins {
		a := s.durable.admins[m.AdminID]
		signedUp := s.people[a.ID] != nil && !s.people[a.ID].inserted
		if a.Verified() || !signedUp || s.mailErr != nil {
			continue
		}
		got := false
		for _, m := range s.confirmations {
			token, _ := auth.ParseOpaqueToken(m.Ticket)
			t, left := s.durable.tickets[token.ID]
			got = got || m.To == a.Email && (!left || t.AdminID == a.ID && s.valid(m))
		}
		if !got {
			s.addProblem("mail lost", "%s has got no link to verify %s", a.ID, a.Email)
		}
	}
}

// TestScriptVerifiedByAccept accepts an invitation while something else changes the admin.
// The acceptance verifies the email.
func TestScriptVerifiedByAccept(t *testing.T) {
	for name, change := range map[string]func(t *testing.T, s *sim) *operation{
		"one more organization": func(_ *testing.T, s *sim) *operation { return s.createAnotherOp(s.named("bolt"), "dune") },
		"verified":              func(t *testing.T, s *sim) *operation { return s.verifyOp(s.confirmationFor(t, "b@x.test")) },
	} {
		t.Run(name, func(t *testing.T) {
			runScript(t, true, func(s *sim) {
				setActive(t, s)
				m := s.invited("b@x.test")
				id := s.named("bolt").Admins[0].AdminID
				err := s.runHooked(s.acceptOp(m), 0, once("ReplaceAdmin", func() {
					s.meanwhile(func() { s.mustRun(t, change(t, s)) })
				}))
				if a := s.durable.admins[id]; err != nil || !a.Verified() {
					t.Errorf("accepted: %v, and verified: %v", err, a.Verified())
				}
				s.repairAndCheck()
			})
		})
	}
}

// TestScriptVerifiedInJoin verifies the email while the admin creates one more
// organization.
func TestScriptVerifiedInJoin(t *testing.T) {
	runScript(t, true, func(s *sim) {
		setActive(t, s)
		err := s.runHooked(s.addCore(), 0, once("ReplaceAdmin", func() {
			s.meanwhile(func() { s.mustRun(t, s.verifyOp(s.confirmationFor(t, "a@x.test"))) })
		}))
		if a := s.durable.admins[s.named("acme").Admins[0].AdminID]; err != nil || !a.Verified() {
			t.Errorf("created: %v, and verified: %v", err, a.Verified())
		}
		s.repairAndCheck()
	})
}

// TestScriptVerifiedInRemoval verifies the email of a member who is being removed. Nothing
// of the person is left, not even the claim on the email.
func TestScriptVerifiedInRemoval(t *testing.T) {
	runScript(t, true, func(s *sim) {
		setActive(t, s)
		id := s.member("g0@x.test")
		email, current := "c@x.test", s.people[id].password
		s.mustRun(t, s.updateAs(s.acme(), id, org.UpdateRequest{Email: &email, CurrentPassword: &current}))
		err := s.runHooked(s.removeOp(s.acme(), s.acme().Admins[0].AdminID, id), 0, once("DeleteAdmin", func() {
			s.meanwhile(func() { s.mustRun(t, s.verifyOp(s.confirmationFor(t, email))) })
		}))
		if a, ok := s.durable.admins[id]; err != nil || ok {
			t.Errorf("removed: %v, and left: %+v", err, a)
		}
		s.mustRun(t, s.createOp("dune", email))
	})
}

// TestScriptVerificationLeft lets a sign-up or a change of an email sleep before its
// commit, until Reconcile has met the ticket, or crash before it mails. Somebody must get
// a good link.
func TestScriptVerificationLeft(t *testing.T) {
	for name, test := range map[string]struct {
		begin  func(s *sim) *operation
		commit string
	}{
		"create":         {(*sim).createCore, "InsertOrganization"},
		"email":          {func(s *sim) *operation { return s.changeAcme("", "c@x.test", "") }, "ReplaceAdmin"},
		"name and email": {(*sim).changeAll, "ReplaceOrganization"},
	} {
		for _, crash := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				runScript(t, true, func(s *sim) {
					setActive(t, s)
					op := test.begin(s)
					if crash {
						s.dieAt(t, op, "Send")
					} else {
						s.runHooked(op, 0, once(test.commit, func() {
							s.meanwhile(func() {
								s.sleep(70 * time.Second)
								s.mustRun(t, s.reconcileOp(false))
							})
						}))
					}
					s.repairAndCheck()
					admins := s.durable.findAdmins(func(a org.Admin) bool { return a.Email == "c@x.test" })
					if len(admins) > 0 {
						s.mustRun(t, s.verifyOp(s.confirmationFor(t, "c@x.test")))
					} else if crash || name == "email" {
						t.Error("the change is not made")
					}
				})
			})
		}
	}
}

// TestScriptRefusedMailsNothing refuses sign-ups and changes of an email. They leave no
// ticket, and mail none.
func TestScriptRefusedMailsNothing(t *testing.T) {
	for name, begin := range map[string]func(s *sim) *operation{
		"create":         func(s *sim) *operation { s.fill("org_core"); return s.createCore() },
		"email":          func(s *sim) *operation { return s.changeAcme("", "b@x.test", "") },
		"name and email": func(s *sim) *operation { s.fill("org_core"); return s.changeAll() },
		"taken email":    func(s *sim) *operation { return s.changeAcme("core", "b@x.test", "") },
	} {
		t.Run(name, func(t *testing.T) {
			runScript(t, true, func(s *sim) {
				setActive(t, s)
				tickets, mails := len(s.durable.tickets), len(s.confirmations)
				if err := s.runHooked(begin(s), 0, nil); !errors.Is(err, org.ErrConflict) {
					t.Errorf("answered %v", err)
				}
				if len(s.durable.tickets) != tickets || len(s.confirmations) != mails {
					t.Errorf("%d tickets and %d mails more", len(s.durable.tickets)-tickets, len(s.confirmations)-mails)
				}
			})
		})
	}
}

// TestScriptOneMail changes the email in a restored database, which takes a second try,
// and must mail once.
func TestScriptOneMail(t *testing.T) {
	runScript(t, true, func(s *sim) {
		setActive(t, s)
		mails := len(s.confirmations)
		s.changeUUIDs()
		s.mustRun(t, s.changeAll())
		s.repairAndCheck()
		if n := len(s.confirmations) - mails; n != 1 {
			t.Errorf("%d mails", n)
		}
	})
}

// TestScriptVerifyBusy changes the admin again and again while the email is being
// verified.
func TestScriptVerifyBusy(t *testing.T) {
	for changes, want := range []org.Reason{"", "", "", org.OrganizationBusy} {
		runScript(t, true, func(s *sim) {
			setActive(t, s)
			o, n := s.acme(), 0
			op := s.verifyOp(s.confirmations[0])
			err := s.runHooked(op, 0, func(c *call) bool {
				if c.op == op && c.method == "ReplaceAdmin" && n < changes {
					n++
					s.meanwhile(func() { s.mustRun(t, s.createAnotherOp(o, []string{"core", "dune", "eden"}[n-1])) })
				}
				return false
			})
			a := s.durable.admins[o.Admins[0].AdminID]
			if reasonOf(err) != want || a.Verified() != (want == "") {
				t.Errorf("%d changes: %v, and verified: %v", changes, err, a.Verified())
			}
		})
	}
}

// TestScriptVerificationInVain mails nothing about an email that is verified by now, and
// nothing that is not good for long.
func TestScriptVerificationInVain(t *testing.T) {
	for name, meanwhile := range map[string]func(s *sim){
		"verified": func(s *sim) {
			s.mailErr = nil
			s.mustRun(t, s.forgotOp("a@x.test", 0))
			s.mustRun(t, s.resetOp(s.mails[0], "password new"))
		},
		"late": func(s *sim) { s.sleep(24 * time.Hour) },
	} {
		runScript(t, true, func(s *sim) {
			s.mailErr = errors.New("no route to host")
			s.mustCreate(t, "acme", "a@x.test")
			meanwhile(s)
			s.mailErr = nil
			s.sleep(2 * time.Minute)
			s.mustRun(t, s.reconcileOp(false))
			if len(s.confirmations) > 0 {
				t.Errorf("%s: %d mails", name, len(s.confirmations))
			}
		})
	}
}
