package org_test

import (
	"errors"
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
		s.durable.onWrite = s.recordWritten
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
		c := s.pending[0]
		if hook != nil && hook(c) {
			continue
		}
		s.resolve(c)
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
		op := s.updateOp(o, org.UpdateRequest{Password: &pw, CurrentPassword: &cur})
		err := s.runHooked(op, 0, func(c *call) bool {
			if c.method != "UpdateAdmin" {
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
		s.forgetUUIDs()
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
// version may do. This version must not change the organization.
func TestScriptUnknownKind(t *testing.T) {
	runScript(t, true, func(s *sim) {
		s.mustCreate(t, "acme", "a@x.test")
		o := s.onlyOrganization(t)
		o.Operation = &org.Operation{ID: "99.1", Kind: "merge", StartedAt: time.Now(), TouchedAt: time.Now()}
		s.durable.organizations[o.ID] = o
		s.sleep(5 * time.Minute)
		if err := s.runHooked(s.reconcileOp(true), 0, nil); err != nil {
			t.Error(err)
		}
		if s.onlyOrganization(t).Status != org.Active || !s.durable.hasUUID(s.models[o.ID].uuid) {
			t.Errorf("changed to %s, collections %v", organizationText(s.onlyOrganization(t)), s.durable.catalog.String())
		}
	})
}
