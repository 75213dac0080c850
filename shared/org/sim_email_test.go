package org_test

import (
	"context"
	"errors"
	"reflect"
	"slices"
	"testing"
	"time"

	"orgservice/shared/org"
)

// TestScriptLateEmail lets a change of the email sleep when it has the claim. Others
// get the email, so that it must not change the admin when it wakes.
func TestScriptLateEmail(t *testing.T) {
	for name, begin := range map[string]func(s *sim) *operation{
		"email alone": func(s *sim) *operation { return s.changeAcme("", "c@x.test", "") },
		"everything":  (*sim).changeAll,
	} {
		for _, by := range []string{"create", "reconcile"} {
			t.Run(name+", "+by, func(t *testing.T) {
				runScript(t, true, func(s *sim) {
					s.mustCreate(t, "acme", "a@x.test")
					at, want := "ReplaceAdmin", org.OrganizationBusy
					if name == "everything" {
						at, want = "ReplaceOrganization", org.EmailTaken // of the journal
						if by == "reconcile" {
							want = org.OrganizationBusy // it has lost the claim to the name, too
						}
					}
					err := s.runHooked(begin(s), 0, once(at, func() {
						s.meanwhile(func() {
							if err := s.runHooked(s.createOp("dune", "c@x.test"), 0, nil); reasonOf(err) != org.EmailTaken {
								t.Errorf("%v; want the reason %s", err, org.EmailTaken)
							}
							s.sleep(2 * org.StaleAfter)
							if by == "reconcile" {
								s.mustRun(t, s.reconcileOp(true))
								s.wantClaims(t, "email:a@x.test", "org_acme")
							}
							s.mustCreate(t, "dune", "c@x.test")
						})
					}))
					if reasonOf(err) != want {
						t.Errorf("%v; want the reason %s", err, want)
					}
					s.wantClaims(t, "email:a@x.test", "email:c@x.test", "org_acme", "org_dune")
					if c := s.durable.collections; len(c) != 2 || c["org_acme"].uuid == 0 {
						t.Errorf("collections %v", s.durable.catalog.String())
					}
					s.repairAndCheck()
				})
			})
		}
	}
}

// TestScriptEmailLost crashes an update after its journal. Others get the email that
// it has claimed before it is finished, so that it must be undone.
func TestScriptEmailLost(t *testing.T) {
	for _, method := range []string{"ReplaceOrganization", "RenameCollection"} {
		for _, compares := range []bool{true, false} {
			runScript(t, compares, func(s *sim) {
				crashed(method, (*sim).changeAll)(t, s)
				s.mustCreate(t, "dune", "c@x.test")
				repair := s.reported(false)
				if err := s.runHooked(repair, 0, nil); err != nil || repair.args != "1 undone" {
					t.Errorf("%s, %v; want 1 undone", repair.args, err)
				}
				if o, a := s.acme(), s.admin(); o.Collection != "org_acme" || o.Operation != nil || a.Email != "a@x.test" || a.TokenVersion != 1 {
					t.Errorf("%s, and the admin is %+v", organizationText(o), a)
				}
				s.repairAndCheck()
			})
		}
	}
}

// TestScriptTakenLongAgo claims an email that an admin has had for a long time.
func TestScriptTakenLongAgo(t *testing.T) {
	runScript(t, true, func(s *sim) {
		setActive(t, s)
		s.sleep(2 * org.StaleAfter)
		for _, op := range []*operation{s.createOp("dune", "b@x.test"), s.changeAcme("", "b@x.test", ""), s.changeAcme("core", "b@x.test", "")} {
			if err := s.runHooked(op, 0, nil); reasonOf(err) != org.EmailTaken {
				t.Errorf("%s: %v; want the reason %s", op.kind, err, org.EmailTaken)
			}
		}
		s.wantClaims(t, "email:a@x.test", "email:b@x.test", "org_acme", "org_bolt")
		s.repairAndCheck()
	})
}

// TestScriptOrphanHasEmail claims an email that an admin without an organization has,
// or one whose organization does not list it.
func TestScriptOrphanHasEmail(t *testing.T) {
	for _, organization := range []string{"9.8", "acme"} {
		for _, young := range []bool{false, true} {
			runScript(t, true, func(s *sim) {
				setActive(t, s)
				orphan := org.Admin{ID: "9.9", OrganizationID: organization, Organizations: []string{organization}, Email: "c@x.test", Revision: 3, UpdatedAt: time.Now()}
				if organization == "acme" {
					orphan.OrganizationID = s.acme().ID
				}
				s.durable.admins["9.9"] = orphan
				s.durable.claims["email:c@x.test"] = org.Claim{ID: "email:c@x.test", Owner: org.Owner{AdminID: "9.9"}, Revision: 2}
				if !young {
					s.sleep(2 * org.StaleAfter)
				}
				err := s.runHooked(s.createOp("dune", "c@x.test"), 0, nil)
				if _, left := s.durable.admins["9.9"]; left != young || (reasonOf(err) == org.EmailTaken) != young || (err == nil) == young {
					t.Errorf("young: %v, the orphan is left: %v; %v", young, left, err)
				}
			})
		}
	}
}

// TestScriptClaimOfNobody claims an email that an admin without a record has claimed,
// or one that its admin does not use.
func TestScriptClaimOfNobody(t *testing.T) {
	for _, nobody := range []bool{true, false} {
		for _, young := range []bool{true, false} {
			runScript(t, true, func(s *sim) {
				setActive(t, s)
				before := s.admin()
				c := org.Claim{ID: "email:c@x.test", Owner: org.Owner{AdminID: before.ID}, Revision: before.Revision, ClaimedAt: time.Now()}
				if nobody {
					c.AdminID = "9.9"
				}
				s.durable.claims[c.ID] = c
				if !young {
					s.sleep(2 * org.StaleAfter)
				}
				err := s.runHooked(s.createOp("dune", "c@x.test"), 0, nil)
				if (reasonOf(err) == org.EmailTaken) != young || (err == nil) == young {
					t.Errorf("nobody's: %v, young: %v; %v", nobody, young, err)
				}
				if a, written := s.admin(), !nobody && !young; (a.Revision > before.Revision) != written {
					t.Errorf("nobody's: %v, young: %v; revision %d after %d", nobody, young, a.Revision, before.Revision)
				}
			})
		}
	}
}

// TestScriptAdopt changes an email of an older version, whose claim the organization
// has. A crash may have given the claim to the admin already, or it is lost.
func TestScriptAdopt(t *testing.T) {
	const id = "email:a@x.test"
	for name, change := range map[string]func(s *sim){
		"older": func(*sim) {},
		"adopted": func(s *sim) {
			c := s.durable.claims[id]
			c.Owner, c.Revision = org.Owner{AdminID: s.admin().ID}, s.admin().Revision
			s.durable.claims[id] = c
		},
		"lost": func(s *sim) { delete(s.durable.claims, id) },
	} {
		for _, slug := range []string{"", "core", "ACME"} {
			t.Run(name+" "+slug, func(t *testing.T) {
				runScript(t, true, func(s *sim) {
					s.mustCreate(t, "acme", "a@x.test")
					s.downgrade()
					change(s)
					var adopted org.Claim
					err := s.runHooked(s.changeAcme(slug, "c@x.test", ""), 0, func(c *call) bool {
						if c.method == "ReplaceAdmin" {
							adopted = s.durable.claims[id]
						}
						return false
					})
					if err != nil {
						t.Error(err)
					}
					a, o := s.admin(), s.acme()
					if adopted.Owner != (org.Owner{AdminID: a.ID}) || adopted.ClaimedAt.IsZero() {
						t.Errorf("the admin changes while the claim is %+v", adopted)
					}
					if c := s.durable.claims["email:c@x.test"]; c.AdminID != a.ID || a.Email != "c@x.test" || len(o.Claims) != 1 || o.Claims[0] != o.Collection {
						t.Errorf("%+v, and the admin is %+v, and the organization has %v", c, a, o.Claims)
					}
					s.wantClaims(t, "email:c@x.test", o.Collection)
					s.repairAndCheck()
				})
			})
		}
	}
}

// TestScriptAdoptForeign changes an email of an older version whose claim another
// organization has. It must keep the claim.
func TestScriptAdoptForeign(t *testing.T) {
	runScript(t, true, func(s *sim) {
		setActive(t, s)
		s.downgrade()
		c := s.durable.claims["email:a@x.test"]
		c.OrganizationID = "9.9"
		s.durable.claims[c.ID] = c
		s.mustRun(t, s.changeAcme("", "c@x.test", ""))
		if got := s.durable.claims[c.ID]; got != c {
			t.Errorf("%+v; want %+v", got, c)
		}
	})
}

// TestScriptOrphanRemoved removes an admin without an organization, and its claims.
func TestScriptOrphanRemoved(t *testing.T) {
	runScript(t, true, func(s *sim) {
		setActive(t, s)
		s.durable.admins["9.9"] = org.Admin{ID: "9.9", OrganizationID: "9.8", Organizations: []string{"9.8"}, Email: "c@x.test", Revision: 3}
		for _, id := range []string{"email:c@x.test", "email:d@x.test"} {
			s.durable.claims[id] = org.Claim{ID: id, Owner: org.Owner{AdminID: "9.9"}, Revision: 3, ClaimedAt: time.Now()}
		}
		s.mustRun(t, s.reconcileOp(true))
		s.wantClaims(t, "email:a@x.test", "email:b@x.test", "org_acme", "org_bolt")
		s.repairAndCheck()
	})
}

// TestScriptClaimedName lets a rename sleep when it has claimed the name. For a while
// nobody else gets it. Then others do, and the rename fails.
func TestScriptClaimedName(t *testing.T) {
	runScript(t, true, func(s *sim) {
		s.mustCreate(t, "acme", "a@x.test")
		err := s.runHooked(s.changeAcme("core", "", ""), 0, once("ReplaceOrganization", func() {
			s.meanwhile(func() {
				if err := s.runHooked(s.createOp("core", "d@x.test"), 0, nil); reasonOf(err) != org.NameTaken {
					t.Errorf("%v; want the reason %s", err, org.NameTaken)
				}
				s.sleep(2 * org.StaleAfter)
				s.mustCreate(t, "core", "d@x.test")
			})
		}))
		if reasonOf(err) != org.OrganizationBusy {
			t.Errorf("%v; want the reason %s", err, org.OrganizationBusy)
		}
		s.repairAndCheck()
	})
}

// TestScriptEmailOfUnfinished claims the email of an organization whose creation or
// deletion has crashed, with another name.
func TestScriptEmailOfUnfinished(t *testing.T) {
	for email, set := range map[string]func(*testing.T, *sim){
		"c@x.test": crashed("InsertAdmin", (*sim).createCore),
		"a@x.test": crashed("ReplaceOrganization", (*sim).deleteAcme),
	} {
		runScript(t, true, func(s *sim) {
			set(t, s)
			s.mustRun(t, s.createOp("dune", email))
			s.repairAndCheck()
		})
	}
}

// TestScriptReportRelease reports the release of an email also on a server where
// names must rest.
func TestScriptReportRelease(t *testing.T) {
	for _, compares := range []bool{true, false} {
		runScript(t, compares, func(s *sim) {
			crashed("InsertClaims", func(s *sim) *operation { return s.changeAcme("", "c@x.test", "") })(t, s)
			repair := s.reported(true)
			if err := s.runHooked(repair, 0, nil); err != nil || repair.args != "1 removed" {
				t.Errorf("%s, %v; want 1 removed", repair.args, err)
			}
			s.wantClaims(t, "email:a@x.test", "email:b@x.test", "org_acme", "org_bolt")
			s.repairAndCheck()
		})
	}
}

// TestScriptInspectAdmins inspects claims to emails that an organization has, as in
// older versions, or that it has given to its admin, and an admin of another one.
func TestScriptInspectAdmins(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(s *sim, o *org.Organization, c *org.Claim, a *org.Admin)
		want   []org.FindingKind
	}{
		{"older", func(*sim, *org.Organization, *org.Claim, *org.Admin) {}, nil},
		{"adopted", func(_ *sim, _ *org.Organization, c *org.Claim, a *org.Admin) { c.Owner = org.Owner{AdminID: a.ID} }, nil},
		{"not recorded", func(_ *sim, o *org.Organization, _ *org.Claim, _ *org.Admin) { o.Claims = o.Claims[:1] },
			[]org.FindingKind{org.UnusedClaim, org.MissingClaim}},
		{"another's", func(_ *sim, _ *org.Organization, c *org.Claim, _ *org.Admin) { c.OrganizationID = "9.9" },
			[]org.FindingKind{org.UnusedClaim, org.MissingClaim}},
		{"lost", func(_ *sim, _ *org.Organization, c *org.Claim, _ *org.Admin) { c.ID = "email:" }, []org.FindingKind{org.UnusedClaim, org.MissingClaim}},
		{"admin of another", func(_ *sim, _ *org.Organization, _ *org.Claim, a *org.Admin) { a.Organizations = []string{"9.9"} },
			[]org.FindingKind{org.OrphanAdmin, org.MissingAdmin}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			runScript(t, true, func(s *sim) {
				s.mustCreate(t, "acme", "a@x.test")
				s.downgrade()
				o, c, a := s.acme(), s.durable.claims["email:a@x.test"], s.admin()
				o.CollectionUUID = "#1"
				delete(s.durable.claims, c.ID)
				tt.change(s, &o, &c, &a)
				s.durable.organizations[o.ID], s.durable.claims[c.ID], s.durable.admins[a.ID] = o, c, a
				var got []org.FindingKind
				err := s.runAs("Inspect", func(ctx context.Context, service *org.Service) error {
					findings, err := service.Inspect(ctx)
					for _, f := range findings {
						got = append(got, f.Kind)
					}
					return err
				})
				if err != nil || !slices.Equal(got, tt.want) {
					t.Errorf("%v, %v; want %v", got, err, tt.want)
				}
			})
		})
	}
}

// TestScriptLoginWithoutClaim logs in an admin whose claim is lost. Nobody else has
// the email.
func TestScriptLoginWithoutClaim(t *testing.T) {
	runScript(t, true, func(s *sim) {
		s.mustCreate(t, "acme", "a@x.test")
		delete(s.durable.claims, "email:a@x.test")
		s.mustRun(t, s.login("a@x.test", s.knownPassword()))
	})
}

// TestScriptNotWithoutClaim refuses the claim to the email of an update that is being
// finished. Its admin must not change.
func TestScriptNotWithoutClaim(t *testing.T) {
	runScript(t, true, func(s *sim) {
		crashed("RenameCollection", (*sim).changeAll)(t, s)
		s.runHooked(s.reconcileOp(false), 0, func(c *call) bool {
			if c.method == "ReplaceAdmin" {
				t.Error("it changes the admin")
			}
			return c.method == "InsertClaims" && s.deny(c)
		})
		s.repairAndCheck()
	})
}

// TestScriptOrphanStays refuses the deletion of an admin without an organization. It
// must keep its claim.
func TestScriptOrphanStays(t *testing.T) {
	for name, begin := range map[string]func(s *sim) *operation{
		"reconcile": func(s *sim) *operation { return s.reconcileOp(true) },
		"create":    func(s *sim) *operation { return s.createOp("dune", "c@x.test") },
	} {
		runScript(t, true, func(s *sim) {
			setActive(t, s)
			s.durable.admins["9.9"] = org.Admin{ID: "9.9", OrganizationID: "9.8", Organizations: []string{"9.8"}, Email: "c@x.test", Revision: 3}
			s.durable.claims["email:c@x.test"] = org.Claim{ID: "email:c@x.test", Owner: org.Owner{AdminID: "9.9"}, Revision: 2}
			s.sleep(2 * org.StaleAfter)
			err := s.runHooked(begin(s), 0, func(c *call) bool { return c.method == "DeleteAdmin" && s.deny(c) })
			if !errors.Is(err, errDenied) || s.durable.claims["email:c@x.test"].AdminID != "9.9" {
				t.Errorf("%s: %v, and the claim is %+v", name, err, s.durable.claims["email:c@x.test"])
			}
			s.repairAndCheck()
		})
	}
}

// TestScriptNoReleaseWithoutFence refuses the write that stops the owner of a claim
// before that is released. The claim must stay.
func TestScriptNoReleaseWithoutFence(t *testing.T) {
	for id, method := range map[string]string{"org_core": "ReplaceOrganization", "email:c@x.test": "ReplaceAdmin"} {
		runScript(t, true, func(s *sim) {
			s.mustCreate(t, "acme", "a@x.test")
			set := s.changeAcme("core", "", "")
			create := func() *operation { return s.createOp("core", "d@x.test") }
			if method == "ReplaceAdmin" {
				set, create = s.changeAcme("", "c@x.test", ""), func() *operation { return s.createOp("dune", "c@x.test") }
			}
			s.dieAt(t, set, method)
			s.sleep(2 * org.StaleAfter)
			err := s.runHooked(create(), 0, func(c *call) bool { return c.method == method && s.deny(c) })
			if _, ok := s.durable.claims[id]; !ok || !errors.Is(err, errDenied) {
				t.Errorf("%v, and the claims are %v", err, s.durable.claims)
			}
			s.repairAndCheck()
		})
	}
}

// TestScriptTakenByUnfinished claims the name that an unfinished rename has claimed
// long ago, while another process finishes it.
func TestScriptTakenByUnfinished(t *testing.T) {
	runScript(t, true, func(s *sim) {
		crashed("ReplaceOrganization", func(s *sim) *operation { return s.changeAcme("core", "", "") })(t, s)
		err := s.runHooked(s.reconcileOp(false), 0, once("RenameCollection", func() {
			s.meanwhile(func() {
				if err := s.runHooked(s.createOp("core", "d@x.test"), 0, nil); reasonOf(err) != org.NameTaken {
					t.Errorf("%v; want the reason %s", err, org.NameTaken)
				}
			})
		}))
		if _, ok := s.durable.claims["org_core"]; err != nil || !ok {
			t.Errorf("%v; the claims are %v", err, s.durable.claims)
		}
		s.repairAndCheck()
	})
}

// TestScriptSameEmail gives the email that the admin has already. Its sessions go on.
func TestScriptSameEmail(t *testing.T) {
	runScript(t, true, func(s *sim) {
		s.mustCreate(t, "acme", "a@x.test")
		before := s.admin()
		for _, slug := range []string{"", "ACME", "core"} {
			s.mustRun(t, s.changeAcme(slug, "a@x.test", ""))
			if a := s.admin(); !reflect.DeepEqual(a, before) {
				t.Errorf("the admin is %+v; want %+v", a, before)
			}
		}
		s.repairAndCheck()
	})
}

// TestScriptClaimedAgain claims what an earlier change has claimed that crashed, while
// the change in between has not yet released anything. The claim must stay.
func TestScriptClaimedAgain(t *testing.T) {
	for name, test := range map[string]struct {
		method string // of the commit or the journal
		claim  func(s *sim) *operation
		other  func(s *sim) *operation
		want   []string
	}{
		"name": {"ReplaceOrganization", func(s *sim) *operation { return s.changeAcme("core", "", "") },
			func(s *sim) *operation { return s.changeAcme("dune", "", "") }, []string{"email:a@x.test", "org_core"}},
		"email": {"ReplaceAdmin", func(s *sim) *operation { return s.changeAcme("", "c@x.test", "") },
			func(s *sim) *operation { return s.changeAcme("", "d@x.test", "") }, []string{"email:c@x.test", "org_acme"}},
	} {
		t.Run(name, func(t *testing.T) {
			runScript(t, true, func(s *sim) {
				s.mustCreate(t, "acme", "a@x.test")
				s.dieAt(t, test.claim(s), test.method)
				released := false
				s.runHooked(test.other(s), 0, func(c *call) bool {
					if c.method != "ReleaseClaims" {
						return false
					}
					s.take(c)
					s.meanwhile(func() {
						err := s.runHooked(test.claim(s), 0, once(test.method, func() {
							released = true
							s.execute(c, false)
						}))
						if err != nil {
							t.Error(err)
						}
					})
					s.answer(c, reply{})
					return true
				})
				if !released {
					t.Error("nothing is released")
				}
				s.wantClaims(t, test.want...)
				s.repairAndCheck()
			})
		})
	}
}

// TestScriptCreatesOfOneName lets a creation sleep when it has its claims. Nobody else
// gets the name or the email for a while.
func TestScriptCreatesOfOneName(t *testing.T) {
	runScript(t, true, func(s *sim) {
		err := s.runHooked(s.createCore(), 0, once("InsertOrganization", func() {
			s.meanwhile(func() {
				s.sleep(time.Second)
				if err := s.runHooked(s.createOp("core", "d@x.test"), 0, nil); reasonOf(err) != org.NameTaken {
					t.Errorf("%v; want the reason %s", err, org.NameTaken)
				}
				if err := s.runHooked(s.createOp("dune", "c@x.test"), 0, nil); reasonOf(err) != org.EmailTaken {
					t.Errorf("%v; want the reason %s", err, org.EmailTaken)
				}
			})
		}))
		if err != nil {
			t.Error(err)
		}
		s.wantClaims(t, "email:c@x.test", "org_core")
		s.repairAndCheck()
	})
}

// TestScriptOlderForm has an account whose address is in the form of older versions, and one with
// the same address in today's. Who writes the older form logs in to the older account, if it is
// awake, and to the other one only if it is certain that it is not.
func TestScriptOlderForm(t *testing.T) {
	runScript(t, true, func(s *sim) {
		const older = "kate@xn--mnchen-3ya.de"
		s.mustCreate(t, "acme", "kate@münchen.de")
		s.mustCreate(t, "bolt", "b@x.test")
		change := func(to func(*org.Admin)) {
			for id, a := range s.durable.admins {
				if a.Email == "b@x.test" || a.Email == older {
					to(&a)
					s.durable.admins[id] = a
				}
			}
		}
		change(func(a *org.Admin) { a.Email = older })
		login := func(password string, hook func(c *call) bool) error {
			return s.runHooked(s.login(older, password), 0, hook)
		}
		failed := false
		if err := login("password 1", func(c *call) bool {
			if failed || c.method != "AdminsByEmail" {
				return false
			}
			failed = true
			return s.fail(c, unsent)
		}); !errors.Is(err, org.ErrUnavailable) {
			t.Errorf("to today's, while the older one is not found: %v", err)
		}
		if err := login("password 2", nil); err != nil {
			t.Errorf("to the older one: %v", err)
		}
		change(func(a *org.Admin) { a.Asleep = true })
		if err := login("password 1", nil); err != nil {
			t.Errorf("to today's, while the older one is asleep: %v", err)
		}
	})
}
