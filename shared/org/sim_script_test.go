package org_test

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"orgservice/shared/org"
)

// runScript runs a simulation in which only the script makes faults.
func runScript(t *testing.T, comparesUUIDs bool, script func(s *sim)) {
	synctest.Test(t, func(t *testing.T) {
		s := &sim{profile: profile{name: "scripted"}, rng: rand.New(rand.NewPCG(1, 2)), durable: newState(), history: newHistory(), trace: &strings.Builder{}}
		s.durable.onWrite, s.durable.onAdminWrite = s.recordWritten, s.adminWritten
		s.durable.comparesUUIDs = comparesUUIDs
		script(s)
		for _, p := range s.problems {
			t.Errorf("%s: %s", p.kind, p.text)
		}
		if t.Failed() {
			t.Log("\n" + s.trace.String())
		}
	})
}

// runHooked runs the operation on a process whose clock is ahead by clock. hook
// gets each call before it is executed, and reports whether it has handled the
// call.
func (s *sim) runHooked(op *operation, clock time.Duration, hook func(c *call) bool) error {
	op.process = &process{n: 9, clock: clock}
	s.start(op)
	for !op.ended {
		s.settle()
		s.step++
		if len(s.held) > 0 {
			h := s.held[0]
			s.held = s.held[1:]
			s.sleep(max(time.Until(h.due), 0))
			s.answer(h.call, h.reply)
			continue
		}
		if len(s.pending) == 0 { // it waits for the time
			s.sleep(10 * time.Millisecond)
			continue
		}
		c := s.pending[0]
		if hook != nil && hook(c) {
			continue
		}
		s.resolve(c)
	}
	if op.dead { // nobody gets an answer, and its goroutine may still be at work
		return nil
	}
	return op.err
}

// meanwhile runs f while the pending calls wait.
func (s *sim) meanwhile(f func()) {
	before := s.pending
	s.pending = nil
	f()
	s.pending = before
}

// deny refuses the call.
func (s *sim) deny(c *call) bool {
	s.take(c)
	s.tracef("%v %v: DENIED", c.op, c)
	s.answer(c, reply{err: errDenied})
	return true
}

// onlyOrganization returns the organization, of which there must be exactly
// one.
func (s *sim) onlyOrganization(t *testing.T) org.Organization {
	t.Helper()
	if len(s.durable.organizations) != 1 {
		t.Fatal(s.durable.organizations)
	}
	return inOrder(s.durable.organizations)[0]
}

func (s *sim) mustCreate(t *testing.T, slug, email string) {
	t.Helper()
	if err := s.runHooked(s.createOp(slug, email), 0, nil); err != nil {
		t.Fatal(err)
	}
}

func (s *sim) renameOp(o org.Organization, to string) *operation {
	return s.updateOp(o, org.UpdateRequest{OrganizationName: &to})
}

// repairAndCheck repairs the database and checks the invariants.
func (s *sim) repairAndCheck() {
	s.budget = 0
	for _, stage := range []func(){s.drainAndRepair, s.checkInvariants} {
		stage()
	}
}

// TestScriptRestoredInRename restores a backup that was made after the rename
// of a collection and before the commit.
func TestScriptRestoredInRename(t *testing.T) {
	runScript(t, true, func(s *sim) {
		s.mustCreate(t, "acme", "a@x.test")
		o := s.onlyOrganization(t)
		s.writeDocument(s.models[o.ID], o.Collection)
		op := s.renameOp(o, "bolt")
		s.runHooked(op, 0, func(c *call) bool {
			if c.method == "RenameCollection" {
				s.take(c)
				s.execute(c, false)
				s.answer(c, reply{crashed: true})
				s.kill(c.op)
				return true
			}
			return false
		})
		for name, c := range s.durable.collections {
			*s.durable.uuidCount++
			c.uuid = *s.durable.uuidCount
			s.durable.collections[name] = c
			s.models[o.ID].uuid = c.uuid
		}
		s.tracef("RESTORE")
		s.repairAndCheck()
	})
}

// TestScriptDeleteLeaves renames a misnamed collection back, as Reconcile does,
// just before a deletion drops it under its other name.
func TestScriptDeleteLeaves(t *testing.T) {
	runScript(t, true, func(s *sim) {
		s.mustCreate(t, "acme", "a@x.test")
		o := s.onlyOrganization(t)
		s.writeDocument(s.models[o.ID], o.Collection)
		// A late command has renamed it.
		s.durable.renameCollection(org.Collection{Name: "org_acme"}, "org_bolt")
		drops := 0
		err := s.runHooked(s.deleteOp(o), 0, func(c *call) bool {
			if c.method == "DropCollection" {
				if drops++; drops == 2 {
					// Reconcile has sent this command before the journal was written.
					s.durable.renameCollection(org.Collection{Name: "org_bolt"}, "org_acme")
				}
			}
			return false
		})
		s.repairAndCheck()
		if n := len(s.durable.collections); n > 0 {
			s.addProblem("documents of a deleted tenant", "Delete: %v; left: %v", err, s.durable.catalog.String())
		}
	})
}

// TestScriptRefusedButCommitted lets others finish an update, and make another
// one. Then the database refuses a command of the first.
func TestScriptRefusedButCommitted(t *testing.T) {
	runScript(t, true, func(s *sim) {
		s.mustCreate(t, "acme", "a@x.test")
		o := s.onlyOrganization(t)
		pw, cur := "password new!", s.models[o.ID].password
		op := s.updateOp(o, org.UpdateRequest{OrganizationName: new("Core"), Password: &pw, CurrentPassword: &cur})
		err := s.runHooked(op, 0, func(c *call) bool {
			if c.method != "ReplaceAdmin" {
				return false
			}
			s.meanwhile(func() {
				s.sleep(2 * time.Minute)
				s.runHooked(s.reconcileOp(false), 0, nil)
				if err := s.runHooked(s.renameOp(s.onlyOrganization(t), "Acme!"), 0, nil); err != nil {
					t.Fatal(err)
				}
			})
			return s.deny(c)
		})
		if !errors.Is(err, org.ErrUnavailable) {
			t.Errorf("answered %v; committed %v", err, op.committed)
		}
		s.repairAndCheck()
	})
}

// TestScriptStrayComesBack creates a stray collection before each attempt of a
// creation to give its collection the name. The answer must tell that the name
// can't be used.
func TestScriptStrayComesBack(t *testing.T) {
	runScript(t, true, func(s *sim) {
		err := s.runHooked(s.createOp("acme", "a@x.test"), 0, func(c *call) bool {
			if _, exists := s.durable.collections["org_acme"]; c.method == "RenameCollection" && !exists {
				s.durable.make("org_acme")
			}
			return false
		})
		var e *org.Error
		if !errors.As(err, &e) || e.Reason != org.NameUnusable {
			t.Errorf("%v; want an error of the reason %s", err, org.NameUnusable)
		}
		s.repairAndCheck()
	})
}

// TestScriptLateRename delays the rename of a collection until others have
// finished the operation, and both names are free again. Another organization has
// the old name by then. The command must not rename its collection.
func TestScriptLateRename(t *testing.T) {
	runScript(t, true, func(s *sim) {
		s.mustCreate(t, "acme", "a@x.test")
		o, delayed := s.onlyOrganization(t), false
		s.runHooked(s.renameOp(o, "Bolt"), 0, func(c *call) bool {
			if c.method != "RenameCollection" || delayed {
				return false
			}
			delayed = true
			s.meanwhile(func() {
				s.sleep(2 * time.Minute)
				s.runHooked(s.reconcileOp(false), 0, nil)
				if err := s.runHooked(s.renameOp(s.onlyOrganization(t), "Core"), 0, nil); err != nil {
					t.Fatal(err)
				}
				s.mustCreate(t, "acme", "b@x.test")
				for id, m := range s.models {
					if id != o.ID {
						s.writeDocument(m, "org_acme")
					}
				}
			})
			return false
		})
		if !delayed {
			t.Error("no rename was delayed")
		}
		if found := s.durable.catalog.collections["org_acme"]; len(found.docs) != 1 {
			t.Errorf("org_acme has %v; want the other organization's document", found.docs)
		}
		s.repairAndCheck()
	})
}

// TestScriptLateDropWithoutLease runs on a server that does not compare UUIDs.
// A drop is sent 50 s after the operation began and arrives 59 s later. The
// clocks are within MaxSkew.
func TestScriptLateDropWithoutLease(t *testing.T) {
	runScript(t, false, func(s *sim) {
		s.mustCreate(t, "acme", "a@x.test")
		o := s.onlyOrganization(t)
		began, slow := time.Now(), false
		at := func(d time.Duration) { s.sleep(d - time.Since(began)) }
		s.runHooked(s.deleteOp(o), -10*time.Second, func(c *call) bool {
			switch c.method {
			case "ReplaceOrganization":
				if !slow { // the answer to the write of the journal is slow
					slow = true
					s.take(c)
					r := s.execute(c, false)
					at(49900 * time.Millisecond)
					s.answer(c, r)
					return true
				}
			case "DropCollection":
				s.meanwhile(func() {
					at(50 * time.Second)
					s.runHooked(s.reconcileOp(false), 0, nil)
					at(100 * time.Second)
					if err := s.runHooked(s.createOp("acme", "b@x.test"), 10*time.Second, nil); err == nil {
						b := s.onlyOrganization(t)
						s.writeDocument(s.models[b.ID], b.Collection)
					}
					at(109 * time.Second)
				})
			}
			return false
		})
		s.repairAndCheck()
	})
}

// TestScriptUpgradedBoth finishes an update of the previous version, whose
// collection was renamed. An empty collection has got the old name since.
func TestScriptUpgradedBoth(t *testing.T) {
	runScript(t, true, func(s *sim) {
		s.mustCreate(t, "acme", "a@x.test")
		o := s.onlyOrganization(t)
		s.writeDocument(s.models[o.ID], o.Collection)
		s.runHooked(s.renameOp(o, "bolt"), 0, func(c *call) bool {
			if c.method == "RenameCollection" {
				s.take(c)
				s.execute(c, false)
				s.answer(c, reply{crashed: true})
				s.kill(c.op)
				return true
			}
			return false
		})
		s.downgrade()
		s.durable.make("org_acme")
		s.repairAndCheck()
	})
}

// TestScriptOneBlocksAll makes the database unreachable for the operation of
// one organization. Reconcile must still finish the operations of others.
func TestScriptOneBlocksAll(t *testing.T) {
	runScript(t, true, func(s *sim) {
		s.mustCreate(t, "acme", "a@x.test")
		s.mustCreate(t, "bolt", "b@x.test")
		for i, o := range inOrder(s.durable.organizations) {
			s.runHooked(s.renameOp(o, []string{"core", "dune"}[i]), 0, func(c *call) bool {
				if c.method == "RenameCollection" {
					s.answer(c, reply{crashed: true})
					s.kill(c.op)
					return true
				}
				return false
			})
		}
		for range 5 {
			s.sleep(5 * time.Minute)
			err := s.runHooked(s.reconcileOp(true), 0, func(c *call) bool {
				if c.method == "RenameCollection" && strings.Contains(c.args, "org_acme") {
					s.take(c)
					s.hold(c, unreachable(c))
					return true
				}
				return false
			})
			s.tracef("%v", err)
		}
		for _, o := range inOrder(s.durable.organizations) {
			if o.Collection == "org_bolt" {
				t.Error("bolt is unfinished after 25 minutes and 5 runs")
			}
		}
	})
}

// TestScriptUnknownKind leaves an operation of an unknown kind, as a later
// version may do, or one that can't be under way in that status. This version must
// not change the organization, and must report it.
func TestScriptUnknownKind(t *testing.T) {
	for _, tt := range []struct {
		kind   org.OperationKind
		status org.Status
	}{{"merge", org.Active}, {"merge", org.Deleting}, {"merge", org.Provisioning}, {org.Removing, org.Active}, {org.Creating, org.Active}, {org.Creating, org.Suspended}} {
		runScript(t, true, func(s *sim) {
			s.mustCreate(t, "acme", "a@x.test")
			o := s.onlyOrganization(t)
			o.Operation = &org.Operation{ID: "99.1", Kind: tt.kind, StartedAt: time.Now(), TouchedAt: time.Now()}
			o.Status = tt.status
			s.durable.organizations[o.ID] = o
			s.sleep(5 * time.Minute)
			op := s.reported(true)
			if err := s.runHooked(op, 0, nil); err != nil || op.args != "1 need attention" {
				t.Errorf("%s, %v; want 1 need attention", op.args, err)
			}
			if s.onlyOrganization(t).Status != tt.status || !s.durable.hasUUID(uuidText(s.models[o.ID].uuid)) {
				t.Errorf("changed to %s, collections %v", organizationText(s.onlyOrganization(t)), s.durable.catalog.String())
			}
		})
	}
}

// TestScriptHiddenUUIDs runs on a server that reports no UUIDs. An organization
// is renamed and deleted, also if its collection is gone. The collection of the
// other one, which comes first in a list, must stay.
func TestScriptHiddenUUIDs(t *testing.T) {
	for _, gone := range []bool{false, true} {
		runScript(t, false, func(s *sim) {
			s.durable.hidesUUIDs = true
			s.mustCreate(t, "acme", "a@x.test")
			other := s.onlyOrganization(t)
			s.mustCreate(t, "bolt", "b@x.test")
			find := func() org.Organization {
				for _, o := range s.durable.organizations {
					if o.ID != other.ID {
						return o
					}
				}
				t.Fatal("it is lost")
				return org.Organization{}
			}
			s.sleep(2 * org.StaleAfter)
			repair := s.reported(true)
			if err := s.runHooked(repair, 0, nil); err != nil || repair.args != "" {
				t.Errorf("%v, %s; want nothing to repair", err, repair.args)
			}
			if gone {
				delete(s.durable.collections, "org_bolt")
			}
			if err := s.runHooked(s.renameOp(find(), "core"), 0, nil); err != nil {
				t.Error(err)
			}
			if gone {
				delete(s.durable.collections, "org_core")
			}
			if err := s.runHooked(s.deleteOp(find()), 0, nil); err != nil {
				t.Error(err)
			}
			if want := (map[string]collection{"org_acme": {uuid: 1}}); !maps.EqualFunc(s.durable.collections, want, func(a, b collection) bool { return a.uuid == b.uuid }) {
				t.Errorf("collections %v; want %v", s.durable.collections, want)
			}
			s.repairAndCheck()
		})
	}
}

// TestScriptClaimLost lets another creation win the email while this one has the
// name already. It must give the name up at once.
func TestScriptClaimLost(t *testing.T) {
	runScript(t, true, func(s *sim) {
		s.runHooked(s.createOp("dune", "c@x.test"), 0, func(c *call) bool {
			if c.method == "InsertOrganization" { // the claims stay
				s.kill(c.op)
			}
			return c.method == "InsertOrganization"
		})
		s.sleep(2 * org.StaleAfter)
		inserts := 0
		err := s.runHooked(s.createOp("core", "c@x.test"), 0, func(c *call) bool {
			if c.method == "InsertClaims" {
				if inserts++; inserts == 2 {
					s.meanwhile(func() { s.mustCreate(t, "bolt", "c@x.test") })
				}
			}
			return false
		})
		if reasonOf(err) != org.EmailTaken {
			t.Errorf("%v; want the reason %s", err, org.EmailTaken)
		}
		if c, ok := s.durable.claims["org_core"]; ok {
			t.Errorf("%s is left", claimText(c))
		}
		s.repairAndCheck()
	})
}

// TestScriptRestedClaimLost claims a name that has rested, and an email that is
// taken. The name must rest again.
func TestScriptRestedClaimLost(t *testing.T) {
	runScript(t, false, func(s *sim) {
		s.mustCreate(t, "acme", "a@x.test")
		if err := s.runHooked(s.deleteOp(s.onlyOrganization(t)), 0, nil); err != nil {
			t.Fatal(err)
		}
		var e *org.Error
		if err := s.runHooked(s.createOp("acme", "a@x.test"), 0, nil); !errors.As(err, &e) || e.Reason != org.NameTaken || e.RetryAfter != org.StaleAfter {
			t.Errorf("%+v; want the reason %s and to try again after %v", err, org.NameTaken, org.StaleAfter)
		}
		s.sleep(2 * org.StaleAfter)
		s.mustCreate(t, "bolt", "b@x.test")
		if err := s.runHooked(s.createOp("acme", "b@x.test"), 0, nil); reasonOf(err) != org.EmailTaken {
			t.Errorf("%v; want the reason %s", err, org.EmailTaken)
		}
		if c, ok := s.durable.claims["org_acme"]; ok && c.RestingSince.IsZero() {
			t.Errorf("%s is left", claimText(c))
		}
		s.repairAndCheck()
	})
}

// TestScriptClaimRace gives the name to others whenever a creation claims it, and
// gives it up before the creation has looked at it. The creation must not go on
// without the claim.
func TestScriptClaimRace(t *testing.T) {
	runScript(t, true, func(s *sim) {
		err := s.runHooked(s.createOp("core", "c@x.test"), 0, func(c *call) bool {
			switch c.method {
			case "InsertClaims":
				s.durable.claims["org_core"] = org.Claim{ID: "org_core", Owner: org.Owner{OrganizationID: "9.9"}}
			case "Claim":
				delete(s.durable.claims, "org_core")
			}
			return false
		})
		if reasonOf(err) != org.OrganizationBusy {
			t.Errorf("%v; want the reason %s", err, org.OrganizationBusy)
		}
		s.repairAndCheck()
	})
}

// TestScriptStrayGone lets a stray collection vanish just before a command on it.
// What it was in the way of must go on.
func TestScriptStrayGone(t *testing.T) {
	for _, method := range []string{"Collections", "DropCollection"} {
		runScript(t, true, func(s *sim) {
			s.durable.make("org_core")
			err := s.runHooked(s.createCore(), 0, func(c *call) bool {
				if c.method == method && strings.Contains(c.args, "org_core") {
					s.durable.dropCollection(org.Collection{Name: "org_core", UUID: "#1"})
				}
				return false
			})
			if err != nil {
				t.Errorf("%s: %v", method, err)
			}
			s.repairAndCheck()
		})
	}
	runScript(t, true, func(s *sim) {
		s.mustCreate(t, "acme", "a@x.test")
		s.durable.renameCollection(org.Collection{Name: "org_acme"}, "org_core")
		s.durable.make("org_acme")
		s.sleep(2 * org.StaleAfter)
		op := s.reported(true)
		err := s.runHooked(op, 0, func(c *call) bool {
			if c.method == "Collections" && strings.Contains(c.args, "org_acme") {
				s.durable.dropCollection(org.Collection{Name: "org_acme", UUID: "#2"})
			}
			return false
		})
		if err != nil || op.args != "1 repaired" {
			t.Errorf("%s, %v; want 1 repaired", op.args, err)
		}
		s.repairAndCheck()
	})
}

// TestScriptAlwaysRenamed renames the organization's collection just before each
// command that renames or drops it. The operation must not succeed.
func TestScriptAlwaysRenamed(t *testing.T) {
	for _, method := range []string{"RenameCollection", "DropCollection"} {
		runScript(t, true, func(s *sim) {
			s.mustCreate(t, "acme", "a@x.test")
			op := s.renameOp(s.onlyOrganization(t), "core")
			if method == "DropCollection" {
				op = s.deleteOp(s.onlyOrganization(t))
			}
			n := 0
			err := s.runHooked(op, 0, func(c *call) bool {
				if c.method == method {
					for name := range s.durable.collections {
						n++
						s.durable.renameCollection(org.Collection{Name: name}, fmt.Sprint("org_late", n))
						break
					}
				}
				return false
			})
			if !errors.Is(err, org.ErrUnavailable) {
				t.Errorf("%s: %v after %d renames", method, err, n)
			}
			s.repairAndCheck()
		})
	}
}

// TestScriptReportTakenOver lets another Reconcile finish the operation that one
// has just found. Only one of them reports it.
func TestScriptReportTakenOver(t *testing.T) {
	runScript(t, true, func(s *sim) {
		crashed("ReplaceOrganization", (*sim).changeAll)(t, s)
		first, second := s.reported(false), s.reported(false)
		err := s.runHooked(first, 0, func(c *call) bool {
			if c.method == "ReplaceOrganization" && !second.ended {
				s.meanwhile(func() { s.runHooked(second, 0, nil) })
			}
			return false
		})
		if err != nil || second.err != nil || first.args != "" || second.args != "1 finished" {
			t.Errorf("%q, %v, and meanwhile %q, %v", first.args, err, second.args, second.err)
		}
		s.repairAndCheck()
	})
}

// TestScriptFoundOnce changes the database between the two inspections of a
// Reconcile, so that the second one finds something else. That may be under way.
func TestScriptFoundOnce(t *testing.T) {
	orphan := func(s *sim, id string) {
		s.durable.admins[id] = org.Admin{ID: id, OrganizationID: "9.8", Organizations: []string{"9.8"}, Email: id + "@x.test"}
	}
	misname := changedActive(func(s *sim) { s.durable.renameCollection(org.Collection{Name: "org_acme"}, "org_core") })
	for name, test := range map[string]struct {
		set    func(*testing.T, *sim)
		change func(s *sim)
		report string
	}{
		"the same": {misname, func(*sim) {}, "1 repaired"},
		"another revision": {misname, func(s *sim) {
			s.meanwhile(func() { s.runHooked(s.changeAcme("ACME", "", ""), 0, nil) })
		}, ""},
		"another name": {misname, func(s *sim) { s.durable.renameCollection(org.Collection{Name: "org_core"}, "org_dune") }, ""},
		"one more":     {changedActive(func(s *sim) { orphan(s, "9.9") }), func(s *sim) { orphan(s, "9.7") }, "1 removed"},
	} {
		t.Run(name, func(t *testing.T) {
			runScript(t, true, func(s *sim) {
				test.set(t, s)
				op, inspections := s.reported(true), 0
				err := s.runHooked(op, 0, func(c *call) bool {
					if c.op == op && c.method == "Claims" {
						if inspections++; inspections == 2 {
							test.change(s)
						}
					}
					return false
				})
				if err != nil || op.args != test.report {
					t.Errorf("the report is %q, %v; want %q", op.args, err, test.report)
				}
				s.repairAndCheck()
			})
		})
	}
}
