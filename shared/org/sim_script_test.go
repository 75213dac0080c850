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

// scripted is a simulation in which only what the test says goes wrong.
func scripted(t *testing.T, checks bool, script func(s *sim)) {
	synctest.Test(t, func(t *testing.T) {
		s := &sim{profile: profile{name: "scripted"}, rng: rand.New(rand.NewPCG(1, 2)), durable: newState(), history: newHistory(), trace: &strings.Builder{}}
		s.durable.wrote = s.recordWritten
		s.durable.checks = checks
		script(s)
		for _, p := range s.problems {
			t.Errorf("%s: %s", p.kind, p.text)
		}
		if t.Failed() {
			t.Log("\n" + s.trace.String())
		}
	})
}

// play runs the operation on a process with that clock. hook sees each call
// before it happens, and reports whether it has dealt with it.
func (s *sim) play(op *operation, clock time.Duration, hook func(c *call) bool) error {
	op.process = &process{n: 9, clock: clock}
	s.start(op)
	for !op.ended {
		s.settled()
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
		s.happen(c)
	}
	return op.err
}

// meanwhile takes the call from the gate while f runs.
func (s *sim) meanwhile(c *call, f func()) {
	before := s.pending
	s.pending = nil
	f()
	s.pending = before
}

func (s *sim) deny(c *call) bool {
	s.take(c)
	s.tracef("%v %v: DENIED", c.op, c)
	s.answer(c, reply{err: errDenied})
	return true
}

func (s *sim) sole(t *testing.T) org.Organization {
	t.Helper()
	if len(s.durable.organizations) != 1 {
		t.Fatal(s.durable.organizations)
	}
	return inOrder(s.durable.organizations)[0]
}

func (s *sim) mustCreate(t *testing.T, slug, email string) {
	t.Helper()
	if err := s.play(s.creation(slug, email), 0, nil); err != nil {
		t.Fatal(err)
	}
}

func (s *sim) rename(o org.Organization, to string) *operation {
	return s.changing(o, org.UpdateRequest{OrganizationName: &to})
}

func (s *sim) rest() {
	s.budget = 0
	for _, stage := range []func(){s.comeToRest, s.checkRest} {
		stage()
	}
}

// A backup of the moment between the rename and its commit.
func TestScriptRestoredInRename(t *testing.T) {
	scripted(t, true, func(s *sim) {
		s.mustCreate(t, "acme", "a@x.test")
		o := s.sole(t)
		s.writeDocument(s.models[o.ID], o.Collection)
		op := s.rename(o, "bolt")
		s.play(op, 0, func(c *call) bool {
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
			*s.durable.uuids++
			c.uuid = *s.durable.uuids
			s.durable.collections[name] = c
			s.models[o.ID].home = c.uuid
		}
		s.tracef("RESTORE")
		s.rest()
	})
}

// A deletion meets Reconcile, which puts the collection back just then.
func TestScriptDeleteLeaves(t *testing.T) {
	scripted(t, true, func(s *sim) {
		s.mustCreate(t, "acme", "a@x.test")
		o := s.sole(t)
		s.writeDocument(s.models[o.ID], o.Collection)
		// A command to rename it came late.
		s.durable.renameCollection(org.Collection{Name: "org_acme"}, "org_bolt")
		drops := 0
		err := s.play(s.deletion(o), 0, func(c *call) bool {
			if c.method == "DropCollection" {
				if drops++; drops == 2 {
					// What Reconcile's RenameCollection does, sent before the journal stood there.
					s.durable.renameCollection(org.Collection{Name: "org_bolt"}, "org_acme")
				}
			}
			return false
		})
		s.rest()
		if n := len(s.durable.collections); n > 0 {
			s.complain("documents of a deleted tenant", "Delete: %v; left: %v", err, s.durable.catalog.String())
		}
	})
}

// An update is finished by others and another one follows; then the first gets
// a definite refusal.
func TestScriptRefusedButDone(t *testing.T) {
	scripted(t, true, func(s *sim) {
		s.mustCreate(t, "acme", "a@x.test")
		o := s.sole(t)
		pw, cur := "password new!", s.models[o.ID].password
		op := s.changing(o, org.UpdateRequest{Password: &pw, CurrentPassword: &cur})
		err := s.play(op, 0, func(c *call) bool {
			if c.method != "UpdateAdmin" {
				return false
			}
			s.meanwhile(c, func() {
				s.sleep(2 * time.Minute)
				s.play(s.reconcile(false), 0, nil)
				if err := s.play(s.rename(s.sole(t), "Acme!"), 0, nil); err != nil {
					t.Fatal(err)
				}
			})
			return s.deny(c)
		})
		if !errors.Is(err, org.ErrUnavailable) {
			t.Errorf("answered %v; committed %v", err, op.committed)
		}
		s.rest()
	})
}

// Where UUIDs are not compared: a drop that is sent 50 s after the operation
// began and arrives 59 s later, clocks within MaxSkew.
func TestScriptLateDropWithoutLease(t *testing.T) {
	scripted(t, false, func(s *sim) {
		s.mustCreate(t, "acme", "a@x.test")
		o := s.sole(t)
		began, slow := time.Now(), false
		at := func(d time.Duration) { s.sleep(d - time.Since(began)) }
		s.play(s.deletion(o), -10*time.Second, func(c *call) bool {
			switch c.method {
			case "ReplaceOrganization":
				if !slow { // the answer to the journal takes its time
					slow = true
					s.take(c)
					r := s.execute(c, false)
					at(49900 * time.Millisecond)
					s.answer(c, r)
					return true
				}
			case "DropCollection":
				s.meanwhile(c, func() {
					at(50 * time.Second)
					s.play(s.reconcile(false), 0, nil)
					at(100 * time.Second)
					if err := s.play(s.creation("acme", "b@x.test"), 10*time.Second, nil); err == nil {
						b := s.sole(t)
						s.writeDocument(s.models[b.ID], b.Collection)
					}
					at(109 * time.Second)
				})
			}
			return false
		})
		s.rest()
	})
}

// The journal of the version before, whose collection was moved, and an empty
// one has the old name since.
func TestScriptUpgradedBoth(t *testing.T) {
	scripted(t, true, func(s *sim) {
		s.mustCreate(t, "acme", "a@x.test")
		o := s.sole(t)
		s.writeDocument(s.models[o.ID], o.Collection)
		s.play(s.rename(o, "bolt"), 0, func(c *call) bool {
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
		s.rest()
	})
}

// The operation of one organization whose database can't be reached keeps
// Reconcile from all others.
func TestScriptOneBlocksAll(t *testing.T) {
	scripted(t, true, func(s *sim) {
		s.mustCreate(t, "acme", "a@x.test")
		s.mustCreate(t, "bolt", "b@x.test")
		for i, o := range inOrder(s.durable.organizations) {
			s.play(s.rename(o, []string{"core", "dune"}[i]), 0, func(c *call) bool {
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
			err := s.play(s.reconcile(true), 0, func(c *call) bool {
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

// An operation that a later version left there is nobody's to finish.
func TestScriptUnknownKind(t *testing.T) {
	scripted(t, true, func(s *sim) {
		s.mustCreate(t, "acme", "a@x.test")
		o := s.sole(t)
		o.Operation = &org.Operation{ID: "99.1", Kind: "merge", StartedAt: time.Now(), TouchedAt: time.Now()}
		s.durable.organizations[o.ID] = o
		s.sleep(5 * time.Minute)
		if err := s.play(s.reconcile(true), 0, nil); err != nil {
			t.Error(err)
		}
		if s.sole(t).Status != org.Active || !s.durable.has(s.models[o.ID].home) {
			t.Errorf("%s is left of it, and %v", short(s.sole(t)), s.durable.catalog.String())
		}
	})
}
