package org_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"orgservice/shared/org"
)

// simKey is an idempotency key of a client, and the operations that have it: the first one
// and its repetitions.
type simKey struct {
	id    string
	since time.Time
	ops   []*operation
}

// keptFor is how long the outcome of a key is kept at least, by any clock.
const keptFor = 24*time.Hour - 4*maxClockError

// withKey gives the operation an idempotency key. It has no effect on those that take none.
func (s *sim) withKey(op *operation, k *simKey) *operation {
	creates := op.kind == "Create" || op.kind == "Create another"
	if !creates && !slices.Contains([]string{"Update", "Delete", "Suspend", "Reactivate", "Restore", "Purge", "Rename", "Invite", "ChangeRole", "Remove", "Withdraw"}, op.kind) {
		return op
	}
	if k == nil {
		k = &simKey{id: fmt.Sprint("key", len(s.keys)+1), since: time.Now()}
		s.keys = append(s.keys, k)
	}
	repeated, change := *op, org.RepeatableRequest{Key: k.id, Fingerprint: op.args, OrganizationID: op.organization, AdminID: op.admin}
	if len(k.ops) > 0 {
		change.Fingerprint = k.ops[0].fingerprint
	}
	switch {
	case op.kind == "Create":
		change.Password = op.createRequest.Password
	case op.kind == "Update" && op.updateRequest.Password != nil:
		change.Password = *op.updateRequest.Password
	}
	repeated.key, repeated.setsPassword, repeated.fingerprint = k, change.Password != "", change.Fingerprint
	repeated.run = func(ctx context.Context, service *org.Service) error {
		outcome, o, err := service.Once(ctx, change, func(ctx context.Context) ([]byte, error) {
			return fmt.Append(nil, "answer to op", repeated.n), op.run(ctx, service)
		})
		if outcome != nil && err == nil {
			repeated.outcome = new(toldBy(*outcome, o))
		}
		return err
	}
	result := &repeated
	result.again = op
	k.ops = append(k.ops, result)
	return result
}

// toldBy returns the answer that a client gets or, without it, the id of the organization.
func toldBy(outcome org.Outcome, o org.Organization) string {
	if len(outcome.Answer) > 0 {
		return string(outcome.Answer)
	}
	return "organization " + o.ID
}

// repeatOp repeats the request of a key.
func (s *sim) repeatOp(k *simKey) *operation { return s.withKey(k.ops[0].again, k) }

// kept reports whether the database still must know the key.
func (k *simKey) kept() bool { return time.Since(k.since) < keptFor }

// committedOp returns the one of the operations that is committed, or nil.
func (k *simKey) committedOp() *operation {
	if k == nil {
		return nil
	}
	i := slices.IndexFunc(k.ops, func(op *operation) bool {
		return op.committed || op.adminChanged && op.updateRequest.OrganizationName == nil
	})
	if i < 0 {
		return nil
	}
	return k.ops[i]
}

// keyCommitted is called when an operation is committed: it must be the only one of its key.
func (s *sim) keyCommitted(op *operation) {
	if op.key == nil || !op.key.kept() {
		return
	}
	for _, other := range op.key.ops {
		if other != op && other.committed {
			s.addProblem("done twice", "op%d and op%d have the same key, and both are committed", other.n, op.n)
		}
	}
}

// checkRepeated checks the answer to an operation that has a key.
func (s *sim) checkRepeated(op *operation) {
	k := op.key
	if k == nil || !k.kept() {
		return
	}
	done := k.committedOp()
	unknown := errors.Is(op.err, org.ErrUnavailable) || errors.Is(op.err, errDenied) || errors.Is(op.err, org.ErrThrottled) ||
		reasonOf(op.err) == org.KeyInUse || reasonOf(op.err) == org.KeyReused && op.setsPassword
	switch {
	case reasonOf(op.err) == org.KeyReused && !op.setsPassword:
		s.addProblem("wrong key", "op%d: %v", op.n, op.err)
	case op.err != nil && !unknown && done != nil && done != op && done.committedAt < op.beganAt:
		s.addProblem("forgotten", "op%d was answered %q, but op%d was committed before, with the same key", op.n, op.err, done.n)
	case op.err == nil && op.outcome != nil && strings.HasPrefix(*op.outcome, "organization ") && *op.outcome != "organization " && (done == nil || s.models[strings.TrimPrefix(*op.outcome, "organization ")] == nil):
		s.addProblem("wrong outcome", "op%d was answered %q, but no operation with its key is committed", op.n, *op.outcome)
	case op.err == nil && op.outcome != nil && strings.HasPrefix(*op.outcome, "answer to op"):
		var n int
		fmt.Sscanf(*op.outcome, "answer to op%d", &n)
		if answered := s.ops[n-1]; answered.key != k || done != nil && done != answered {
			s.addProblem("wrong outcome", "op%d was answered %q", op.n, *op.outcome)
		}
	}
}

// checkKeys repeats what is committed: all is answered, and nothing is done again.
func (s *sim) checkKeys() {
	for _, k := range s.keys {
		if done := k.committedOp(); done != nil && k.kept() {
			if err := s.runAlone(s.repeatOp(k)); err != nil && !errors.Is(err, org.ErrThrottled) && !(done.setsPassword && reasonOf(err) == org.KeyReused) {
				s.addProblem("forgotten", "op%d is committed, and its repetition is answered %q", done.n, err)
			}
		}
	}
}

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

// TestScriptKeyOfDeleted repeats a deletion that has crashed, while another process finishes it:
// the repetition finds neither the organization nor, at first, the outcome.
func TestScriptKeyOfDeleted(t *testing.T) {
	runScript(t, true, func(s *sim) {
		s.mustCreate(t, "acme", "a@x.test")
		op := s.withKey(s.deleteOp(s.acme()), nil)
		s.runHooked(op, 0, func(c *call) bool {
			if c.method == "DropCollection" {
				s.kill(c.op)
			}
			return c.method == "DropCollection"
		})
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

// TestScriptKeyOfChange lets the process of a new email crash before its key knows that it is
// committed. The next change of the admin, alone or with a rename, keeps that on the key.
func TestScriptKeyOfChange(t *testing.T) {
	for _, slug := range []string{"", "core"} {
		runScript(t, true, func(s *sim) {
			s.mustCreate(t, "acme", "a@x.test")
			op := s.withKey(s.changeAcme("", "b@x.test", ""), nil)
			s.runHooked(op, 0, func(c *call) bool {
				if c.method == "ReplaceKey" {
					s.kill(c.op)
				}
				return c.method == "ReplaceKey"
			})
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

// TestScriptKeyInVain repeats a request again and again while its organization can't be read.
func TestScriptKeyInVain(t *testing.T) {
	runScript(t, true, func(s *sim) {
		s.mustCreate(t, "acme", "a@x.test")
		op := s.withKey(s.changeAcme("core", "", ""), nil)
		s.runHooked(op, 0, func(c *call) bool {
			if c.method == "RenameCollection" {
				s.kill(c.op)
			}
			return c.method == "RenameCollection"
		})
		s.sleep(org.StaleAfter)
		for range 110 {
			err := s.runHooked(s.repeatOp(op.key), 0, func(c *call) bool { return c.method == "Organization" && s.fail(c, unsent) })
			if !errors.Is(err, org.ErrUnavailable) {
				t.Fatal(err)
			}
		}
		s.mustRun(t, s.repeatOp(op.key))
		s.repairAndCheck()
	})
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
		if err := s.runHooked(early, 0, nil); reasonOf(err) != org.KeyReused {
			t.Errorf("after 23 hours: %v", err)
		}
		s.sleep(time.Hour)
		s.mustRun(t, rename())
		s.repairAndCheck()
	})
}
