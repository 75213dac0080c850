package org_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"orgservice/shared/org"
)

// TestScriptKeyAsleep lets the process of a request sleep before it writes what begins or commits
// its change. Meanwhile the request is repeated, and refused because the login has ended. Then
// nothing may be changed any more. A creation is done by the repetition instead.
func TestScriptKeyAsleep(t *testing.T) {
	for method, request := range map[string]func(*sim) *operation{
		"ReplaceAdmin":        func(s *sim) *operation { return s.changeAcme("", "b@x.test", "") },
		"ReplaceOrganization": func(s *sim) *operation { return s.changeAcme("bolt", "", "") },
		"InsertOrganization":  func(s *sim) *operation { return s.createOp("core", "c@x.test") },
	} {
		runScript(t, true, func(s *sim) {
			s.mustCreate(t, "acme", "a@x.test")
			before := s.acme()
			op := s.withKey(request(s), nil)
			var repeated error
			err := s.runHooked(op, 0, once(method, func() {
				s.sleep(org.StaleAfter + time.Second)
				s.meanwhile(func() {
					clear(s.durable.sessions)
					repeated = s.runHooked(s.repeatOp(op.key), 0, nil)
				})
			}))
			creates := op.kind == "Create"
			if err == nil || creates != (repeated == nil) || !creates && !errors.Is(repeated, org.ErrUnauthenticated) {
				t.Errorf("%s: answered %v, and the repetition %v", method, err, repeated)
			}
			s.repairAndCheck()
			if a, o := s.durable.admins[firstOwner(before)], s.durable.organizations[before.ID]; a.Email != "a@x.test" || o.Collection != "org_acme" {
				t.Errorf("%s: the change was made: %s, %s", method, organizationText(o), a.Email)
			}
			if want := map[bool]int{true: 2, false: 1}[creates]; len(s.durable.organizations) != want {
				t.Errorf("%s: %d organizations", method, len(s.durable.organizations))
			}
		})
	}
}

// TestScriptKeyOvertaken lets an operator's request sleep before it reads the organization. Meanwhile
// it is repeated, and somebody does the opposite. Then it must not be done again.
func TestScriptKeyOvertaken(t *testing.T) {
	for _, c := range []struct{ first, request, opposite func(*sim) *operation }{
		{nil, func(s *sim) *operation { return s.actOp(s.acme().ID, false) }, func(s *sim) *operation { return s.actOp(s.acme().ID, true) }},
		{nil, func(s *sim) *operation { return s.renameByOperatorOp(s.acme().ID, "core") }, func(s *sim) *operation { return s.renameByOperatorOp(s.acme().ID, "acme") }},
		{(*sim).buryAcme, func(s *sim) *operation { return s.restoreOp(s.acme().ID, "") }, (*sim).buryAcme},
	} {
		runScript(t, true, func(s *sim) {
			s.mustCreate(t, "acme", "a@x.test")
			if c.first != nil {
				s.mustRun(t, c.first(s))
				s.sleep(2 * org.StaleAfter) // some names rest
			}
			op := s.withKey(c.request(s), nil)
			err := s.sleptAt("Organization", op, func() {
				s.sleep(2 * org.StaleAfter)
				s.mustRun(t, s.repeatOp(op.key))
				s.sleep(2 * org.StaleAfter)
				s.mustRun(t, c.opposite(s))
			})
			o, want := s.acme(), org.Active
			if c.first != nil {
				want = org.Deleted
			}
			if err == nil || o.Status != want || want == org.Active && o.Collection != "org_acme" {
				t.Errorf("%s: answered %v, and there is %s", op.kind, err, organizationText(o))
			}
			s.repairAndCheck()
		})
	}
}

// TestScriptKeyOfDeleted repeats a deletion that has crashed, while another process finishes it:
// the repetition finds neither the organization nor, at first, the outcome.
func TestScriptKeyOfDeleted(t *testing.T) {
	runScript(t, true, func(s *sim) {
		s.mustCreate(t, "acme", "a@x.test")
		op := s.withKey(s.deleteOp(s.acme()), nil)
		s.runHooked(op, 0, s.crashAt("DropCollection"))
		s.sleep(org.StaleAfter)
		again := s.repeatOp(op.key)
		err := s.runHooked(again, 0, once("Organization", func() {
			s.meanwhile(func() { s.mustRun(t, s.reconcileOp(false)) })
		}))
		if err != nil || again.outcome == nil || len(s.durable.organizations) > 0 {
			t.Errorf("answered %v", err)
		}
		s.repairAndCheck()
	})
}

// TestScriptKeyOfUndeleted repeats a deletion whose process has crashed after it has told the key, and
// before the record was deleted. Success is not answered before that.
func TestScriptKeyOfUndeleted(t *testing.T) {
	runScript(t, true, func(s *sim) {
		s.mustCreate(t, "acme", "a@x.test")
		op := s.withKey(s.deleteOp(s.acme()), nil)
		s.runHooked(op, 0, s.crashAt("DeleteOrganization"))
		if err := s.runHooked(s.repeatOp(op.key), 0, nil); reasonOf(err) != org.KeyInUse {
			t.Errorf("at once: %v", err)
		}
		s.sleep(org.StaleAfter)
		s.mustRun(t, s.repeatOp(op.key))
		if len(s.durable.organizations) > 0 || len(s.durable.claims) > 0 {
			t.Error("it is answered before it is done")
		}
		s.repairAndCheck()
	})
}

// TestScriptKeyOfChange lets the process of a new email crash before its key knows that it is
// committed. The next change of the admin, alone or with a rename, keeps that on the key.
func TestScriptKeyOfChange(t *testing.T) {
	for _, slug := range []string{"", "core"} {
		runScript(t, true, func(s *sim) {
			s.mustCreate(t, "acme", "a@x.test")
			op := s.withKey(s.changeAcme("", "b@x.test", ""), nil)
			s.runHooked(op, 0, s.crashAt("FinishKey"))
			s.mustRun(t, s.changeAcme(slug, "", "password new"))
			s.sleep(org.StaleAfter)
			for range 2 {
				again := s.repeatOp(op.key)
				if err := s.runHooked(again, 0, nil); err != nil || again.outcome == nil {
					t.Errorf("answered %v", err)
				}
			}
			s.repairAndCheck()
		})
	}
}

// TestScriptKeyInVain repeats a request again and again while the database can't be reached: before
// it is known what became of the first try, or in each further one.
func TestScriptKeyInVain(t *testing.T) {
	for crash, lost := range map[string]string{"RenameCollection": "Organization", "": "InsertClaims"} {
		runScript(t, true, func(s *sim) {
			s.mustCreate(t, "acme", "a@x.test")
			op := s.withKey(s.changeAcme("core", "", ""), nil)
			if crash != "" {
				s.runHooked(op, 0, s.crashAt(crash))
				s.sleep(org.StaleAfter)
			}
			for range 110 {
				err := s.runHooked(s.repeatOp(op.key), 0, func(c *call) bool { return c.method == lost && s.fail(c, unsent) })
				if !errors.Is(err, org.ErrUnavailable) {
					t.Fatal(err)
				}
			}
			s.mustRun(t, s.repeatOp(op.key))
			s.repairAndCheck()
		})
	}
}

// TestScriptKeyTries repeats a request of which many tries have crashed.
func TestScriptKeyTries(t *testing.T) {
	for tries, want := range map[int]org.Reason{99: "", 100: org.KeyInUse} {
		runScript(t, true, func(s *sim) {
			s.mustCreate(t, "acme", "a@x.test")
			op := s.withKey(s.changeAcme("core", "", ""), nil)
			s.runHooked(op, 0, s.crashAt("InsertClaims"))
			s.sleep(org.StaleAfter)
			k := s.durable.keys[op.key.id]
			k.Tries = slices.Repeat(k.Tries, tries)
			s.durable.keys[op.key.id] = k
			if err := s.runHooked(s.repeatOp(op.key), 0, nil); reasonOf(err) != want {
				t.Errorf("after %d tries: answered %v", tries, err)
			}
			s.repairAndCheck()
		})
	}
}

// TestScriptKeyRepeated repeats a request whose answer is on its key. Who may not do anything any more
// does not get it.
func TestScriptKeyRepeated(t *testing.T) {
	runScript(t, true, func(s *sim) {
		s.mustCreate(t, "acme", "a@x.test")
		o := s.acme()
		until, lost := time.Now().Add(time.Hour), ""
		once := func() (outcome *org.Outcome, result org.Organization, err error) {
			err = s.runHooked(&operation{kind: "Me", run: func(ctx context.Context, service *org.Service) error {
				r := org.RepeatableRequest{Key: "a key", OrganizationID: o.ID, AdminID: firstOwner(o), CallerOf: o.ID, Until: until}
				outcome, result, err = service.Once(ctx, r, func(context.Context) ([]byte, error) { return []byte("x"), nil })
				return err
			}}, 0, func(c *call) bool { return c.method == lost && s.fail(c, unsent) })
			return outcome, result, err
		}
		if outcome, _, err := once(); err != nil || outcome != nil {
			t.Fatalf("answered %v, %+v", err, outcome)
		}
		wantAnswer := func() {
			t.Helper()
			if outcome, result, err := once(); err != nil || string(outcome.Answer) != "x" || result.ID != "" {
				t.Errorf("answered %v, %+v, %+v", err, outcome, result)
			}
		}
		wantAnswer()
		lost = "Organization"
		if _, _, err := once(); !errors.Is(err, org.ErrUnavailable) {
			t.Errorf("it is not known whether the organization is suspended: answered %v", err)
		}
		lost = ""
		s.mustAct(t, o.ID, false)
		if _, _, err := once(); reasonOf(err) != org.TokenRevoked {
			t.Errorf("while suspended: answered %v", err)
		}
		s.mustAct(t, o.ID, true)
		wantAnswer()
		s.mustRun(t, s.deleteOp(s.acme()))
		wantAnswer()
		s.sleep(time.Until(until))
		if _, _, err := once(); reasonOf(err) != org.TokenRevoked {
			t.Errorf("with a token that has expired: answered %v", err)
		}
		s.repairAndCheck()
	})
}

// TestScriptKeyOfGone repeats an operator's rename that has crashed after its commit: while another
// change is under way, when the organization can be restored, and when it is deleted.
func TestScriptKeyOfGone(t *testing.T) {
	for _, then := range []string{"busy", "buried", "deleted"} {
		runScript(t, true, func(s *sim) {
			s.mustCreate(t, "acme", "a@x.test")
			id := s.acme().ID
			op := s.withKey(s.renameByOperatorOp(id, "core"), nil)
			s.runHooked(op, 0, s.crashAt("FinishKey"))
			renamed := s.named("core")
			s.sleep(org.StaleAfter)
			want := renamed
			switch then {
			case "busy":
				s.runHooked(s.renameByOperatorOp(id, "dune"), 0, s.crashAt("RenameCollection"))
			case "buried":
				s.grace = time.Hour
				s.mustRun(t, s.deleteOp(renamed))
				want = s.durable.organizations[id]
			case "deleted":
				s.mustRun(t, s.deleteOp(renamed))
			}
			var got org.Organization
			s.mustRun(t, &operation{kind: "Me", run: func(ctx context.Context, service *org.Service) (err error) {
				r := org.RepeatableRequest{Key: op.key.id, Fingerprint: op.fingerprint, OrganizationID: id}
				_, got, err = service.Once(ctx, r, nil)
				return err
			}})
			if got.ID != want.ID || got.Name != want.Name || got.Collection != want.Collection || !got.CreatedAt.Equal(want.CreatedAt) || got.UpdatedAt.Before(renamed.UpdatedAt) {
				t.Errorf("%s: %+v; want %+v", then, got, want)
			}
		})
	}
}

// TestScriptKeyContested repeats a request beside others with its key, which are refused and leave no
// key: before it can make one each time, or when it has taken the key over.
func TestScriptKeyContested(t *testing.T) {
	for _, takesOver := range []bool{false, true} {
		runScript(t, true, func(s *sim) {
			s.mustCreate(t, "acme", "a@x.test")
			op := s.withKey(s.changeAcme("core", "", ""), nil)
			if takesOver {
				s.runHooked(op, 0, s.crashAt("InsertClaims"))
				s.sleep(org.StaleAfter)
			}
			mine := false
			err := s.runHooked(s.repeatOp(op.key), 0, func(c *call) bool {
				switch {
				case c.method == "InsertKey" && !takesOver:
					s.durable.keys[op.key.id] = org.IdempotencyKey{ID: op.key.id}
				case c.method == "Key" && (mine || !takesOver):
					delete(s.durable.keys, op.key.id)
				}
				mine = mine || c.method == "ReplaceKey"
				return false
			})
			if reasonOf(err) != org.KeyInUse {
				t.Errorf("takes over %v: answered %v", takesOver, err)
			}
			s.repairAndCheck()
		})
	}
}

// TestScriptKeyExpired uses a key for another request, a day later.
func TestScriptKeyExpired(t *testing.T) {
	runScript(t, true, func(s *sim) {
		s.mustCreate(t, "acme", "a@x.test")
		op := s.withKey(s.changeAcme("bolt", "", ""), nil)
		s.mustRun(t, op)
		s.sleep(23 * time.Hour)
		rename := func() *operation {
			core := s.renameOp(s.onlyOrganization(t), "core")
			return s.withKey(core, &simKey{id: op.key.id, since: time.Now()})
		}
		early := rename()
		early.setsPassword = true // to be refused is no problem
		if err := s.runHooked(early, 0, nil); reasonOf(err) != org.KeyReused || !errors.Is(err, org.ErrInvalid) {
			t.Errorf("after 23 hours: %v", err)
		}
		s.sleep(time.Hour)
		s.mustRun(t, rename())
		s.repairAndCheck()
	})
}

// TestScriptKeyTold lets the process of a request crash after its commit. Another change then
// overwrites what the record says of it: before the repetition, which finishes that change, or while it
// is at work. The request is not done again.
func TestScriptKeyTold(t *testing.T) {
	for name, c := range map[string]struct{ first, other func(*sim) *operation }{
		"rename": {func(s *sim) *operation { return s.changeAcme("core", "", "") }, func(s *sim) *operation { return s.renameOp(s.named("core"), "dune") }},
		"email":  {func(s *sim) *operation { return s.changeAcme("", "b@x.test", "") }, func(s *sim) *operation { return s.changeAcme("", "c@x.test", "") }},
		"create": {func(s *sim) *operation { return s.createAnotherOp(s.acme(), "core") }, func(s *sim) *operation { return s.renameOp(s.named("core"), "dune") }},
		"invite": {func(s *sim) *operation {
			return s.inviteOp(s.acme(), firstOwner(s.acme()), "x@x.test", org.RoleMember)
		}, func(s *sim) *operation { return s.changeAcme("dune", "", "") }},
	} {
		for _, at := range []string{"before", "Organization", "Admin", "ReplaceOrganization", "ReplaceAdmin"} {
			if at == "before" && name == "email" { // which leaves no journal
				continue
			}
			runScript(t, true, func(s *sim) {
				s.mustCreate(t, "acme", "a@x.test")
				op := s.withKey(c.first(s), nil)
				s.runHooked(op, 0, s.crashAt("FinishKey"))
				if at == "before" {
					s.runHooked(c.other(s), 0, s.crashAt("RenameCollection"))
				}
				s.sleep(org.StaleAfter)
				again, isClaimed, isDone := s.repeatOp(op.key), false, at == "before"
				err := s.runHooked(again, 0, func(call *call) bool {
					if call.method == at && isClaimed && !isDone {
						isDone = true
						s.meanwhile(func() { s.mustRun(t, c.other(s)) })
					}
					isClaimed = isClaimed || call.method == "ReplaceKey"
					return false
				})
				for reasonOf(err) == org.KeyInUse {
					again = s.repeatOp(op.key)
					err = s.runHooked(again, 0, nil)
				}
				if err != nil || again.outcome == nil {
					t.Errorf("%s, %s: answered %v", name, at, err)
				}
				s.repairAndCheck()
			})
		}
	}
}

// TestScriptKeyFences lets the process of a new password crash before the fence of the admin's other
// organizations. Once the repetition has answered, no request with an old token changes them.
func TestScriptKeyFences(t *testing.T) {
	for name, slug := range map[string]string{"alone": "", "with a rename": "core"} {
		runScript(t, true, func(s *sim) {
			s.mustCreate(t, "acme", "a@x.test")
			s.mustRun(t, s.createAnotherOp(s.acme(), "bolt"))
			bolt := s.named("bolt")
			change := org.UpdateRequest{Password: new("password new"), CurrentPassword: new(s.knownPassword())}
			if slug != "" {
				change.OrganizationName = &slug
			}
			op := s.withKey(s.updateOp(s.named("acme"), change), nil)
			old := s.inviteOp(bolt, firstOwner(bolt), "thief@x.test", org.RoleOwner)
			err := s.sleptAt("ReplaceOrganization", old, func() {
				s.runHooked(op, 0, s.crashAt("FenceOrganizations"))
				s.sleep(org.StaleAfter + time.Second)
				s.mustRun(t, s.repeatOp(op.key))
			})
			if !errors.Is(err, org.ErrUnauthenticated) || len(s.named("bolt").Invitations) > 0 {
				t.Errorf("%s: answered %v", name, err)
			}
			s.repairAndCheck()
		})
	}
}

// TestScriptKeyOfAct lets the process of a suspension crash before it has ended the sessions. The
// repetition ends them; once a hundred other acts have followed, or the organization is deleted, it
// does not suspend again.
func TestScriptKeyOfAct(t *testing.T) {
	for _, then := range []string{"", "others", "deleted"} {
		runScript(t, true, func(s *sim) {
			s.mustCreate(t, "acme", "a@x.test")
			id := s.acme().ID
			s.caller(s.acme())
			op := s.withKey(s.actOp(id, false), nil)
			s.runHooked(op, 0, s.crashAt("DeleteSessionsSince"))
			if then != "" {
				s.durable.onWrite = nil // for which acts are there for ever
				for i := range map[string]int{"others": 101, "deleted": 1}[then] {
					s.mustRun(t, s.actOp(id, i%2 == 0))
				}
			}
			s.durable.onWrite = s.recordWritten
			if then == "deleted" {
				s.mustRun(t, s.deleteOp(s.acme()))
			}
			before := s.acme()
			s.sleep(org.StaleAfter)
			if then == "" {
				err := s.runHooked(s.repeatOp(op.key), 0, func(c *call) bool { return c.method == "DeleteSessionsSince" && s.fail(c, unsent) })
				if !errors.Is(err, org.ErrUnavailable) {
					t.Errorf("sessions can't be ended: answered %v", err)
				}
			}
			for range 2 {
				again := s.repeatOp(op.key)
				if err := s.runHooked(again, 0, nil); err != nil || again.outcome == nil || s.acme().Status != before.Status {
					t.Errorf("then %q: answered %v", then, err)
				}
			}
			if then == "" {
				if len(s.durable.sessions) > 0 {
					t.Error("sessions are left")
				}
				s.mustRun(t, s.actOp(id, true))
			}
			s.repairAndCheck()
		})
	}
}

// TestScriptKeyOfOldestAct forgets no act of which it can't tell the key, until that has expired by all
// clocks.
func TestScriptKeyOfOldestAct(t *testing.T) {
	for age, rename := range map[time.Duration]bool{0: false, time.Minute: true, 24*time.Hour + 2*org.MaxSkew - time.Second: false} {
		runScript(t, true, func(s *sim) {
			s.mustCreate(t, "acme", "a@x.test")
			id := s.acme().ID
			op := s.withKey(s.actOp(id, false), nil)
			s.runHooked(op, 0, s.crashAt("DeleteSessionsSince"))
			s.durable.onWrite = nil // for which acts are there for ever
			for i := range 99 {
				s.mustRun(t, s.actOp(id, i%2 == 0))
			}
			s.sleep(age)
			before, next := s.acme().History, s.actOp(id, false)
			if rename {
				next = s.renameByOperatorOp(id, "core")
			}
			err := s.runHooked(next, 0, func(c *call) bool { return c.method == "FinishKey" && s.fail(c, unsent) })
			if after := s.durable.organizations[id].History; !errors.Is(err, org.ErrUnavailable) || len(after) != 100 || after[0] != before[0] {
				t.Errorf("rename %v: answered %v, with %d acts from %+v on", rename, err, len(after), after[0])
			}
			s.problems = nil // as above
		})
	}
}

// TestScriptKeyExtended lets the first process crash, and the repetition succeed a moment before the
// key would have expired. A moment later it is repeated once more.
func TestScriptKeyExtended(t *testing.T) {
	runScript(t, true, func(s *sim) {
		s.mustCreate(t, "acme", "a@x.test")
		op := s.withKey(s.renameByOperatorOp(s.acme().ID, "core"), nil)
		s.runHooked(op, 0, s.crashAt("ReplaceOrganization"))
		s.sleep(24*time.Hour - 10*time.Second)
		s.mustRun(t, s.repeatOp(op.key))
		s.sleep(20 * time.Second)
		again := s.repeatOp(op.key)
		s.mustRun(t, again)
		if again.outcome == nil {
			t.Error("it is done again")
		}
		s.repairAndCheck()
	})
}

// TestScriptKeyAnswered makes another change before the answer to a request is on its key, which has
// it all the same. The answer of a request that fails after its commit is never known.
func TestScriptKeyAnswered(t *testing.T) {
	runScript(t, true, func(s *sim) {
		s.mustCreate(t, "acme", "a@x.test")
		op := s.withKey(s.changeAcme("core", "", ""), nil)
		s.sleptAt("FinishKey", op, func() { s.mustRun(t, s.changeAcme("dune", "", "")) })
		again := s.repeatOp(op.key)
		s.mustRun(t, again)
		if want := "answer to op2"; again.outcome == nil || *again.outcome != want {
			t.Errorf("repeated: %v, want %s", again.outcome, want)
		}
		failing := s.renameByOperatorOp(s.acme().ID, "echo")
		rename, times := failing.run, 0
		failing.run = func(ctx context.Context, service *org.Service) error {
			times++
			return errors.Join(rename(ctx, service), errDenied)
		}
		keyed := s.withKey(failing, nil)
		if err := s.runHooked(keyed, 0, nil); !errors.Is(err, errDenied) {
			t.Errorf("answered %v", err)
		}
		s.problems = nil // it was refused, and is committed
		s.sleep(org.StaleAfter)
		if s.mustRun(t, s.repeatOp(keyed.key)); times != 1 {
			t.Errorf("done %d times", times)
		}
		s.repairAndCheck()
	})
}

// TestScriptKeyOfBuried repeats a rename that has crashed after its commit, when the organization is
// deleted and can be restored. The name of its collection is for operators.
func TestScriptKeyOfBuried(t *testing.T) {
	runScript(t, true, func(s *sim) {
		s.grace = 24 * time.Hour
		s.mustCreate(t, "acme", "a@x.test")
		op := s.withKey(s.changeAcme("core", "", ""), nil)
		s.runHooked(op, 0, s.crashAt("FinishKey"))
		s.mustRun(t, s.deleteOp(s.acme()))
		s.sleep(org.StaleAfter)
		again := &operation{kind: "Get", run: func(ctx context.Context, service *org.Service) error {
			r := org.RepeatableRequest{Key: op.key.id, Fingerprint: op.fingerprint, OrganizationID: op.organization, AdminID: op.admin}
			_, o, err := service.Once(ctx, r, nil)
			if o.Collection != "org_core" {
				t.Errorf("the collection is %s", o.Collection)
			}
			return err
		}}
		s.mustRun(t, again)
	})
}

// TestScriptAsleepWhileCreating lets the request for one more organization read the caller's
// organization. Then that is deleted, and its owner put to sleep, before the request reads the owner.
func TestScriptAsleepWhileCreating(t *testing.T) {
	runScript(t, true, func(s *sim) {
		s.grace = 24 * time.Hour
		s.mustCreate(t, "acme", "a@x.test")
		op, remove := s.createAnotherOp(s.acme(), "core"), s.deleteOp(s.acme())
		isDeleted := false
		err := s.runHooked(op, 0, func(c *call) bool {
			if c.op != op || isDeleted || c.method != "Admin" {
				return false
			}
			if i := slices.IndexFunc(s.pending, func(p *call) bool { return p.op == op && p.method != "Admin" }); i >= 0 {
				s.resolve(s.pending[i])
				return true
			}
			isDeleted = true
			s.meanwhile(func() { s.mustRun(t, remove) })
			return false
		})
		if !errors.Is(err, org.ErrUnauthenticated) {
			t.Errorf("answered %v", err)
		}
		s.repairAndCheck()
	})
}

// TestScriptKeyReleases repeats a creation at once that could neither be done nor cleaned up. The name
// and the email, which it has claimed, are not in the way.
func TestScriptKeyReleases(t *testing.T) {
	runScript(t, true, func(s *sim) {
		op := s.withKey(s.createCore(), nil)
		err := s.runHooked(op, 0, func(c *call) bool {
			return (c.method == "InsertOrganization" || c.method == "Organization") && s.fail(c, unsent)
		})
		if !errors.Is(err, org.ErrUnavailable) || len(s.durable.claims) != 2 {
			t.Fatalf("answered %v, with the claims %v", err, s.durable.claims)
		}
		s.mustRun(t, s.repeatOp(op.key))
		s.repairAndCheck()
	})
}
