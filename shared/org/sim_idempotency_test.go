package org_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
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
	if op.admin != "" {
		change.CallerOf, change.Until = op.organization, time.Now().AddDate(1, 0, 0)
	}
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
		if op.n == 0 { // some requests have it
			op.n = repeated.n
		}
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
	if outcome.At.IsZero() {
		return "organization of no time" // which is wrong
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

// keyCommitted is called when an operation is committed: it must be the only one of its key, and
// none that began later may be refused.
func (s *sim) keyCommitted(op *operation) {
	if op.key == nil || !op.key.kept() {
		return
	}
	for _, other := range op.key.ops {
		if other != op && other.committed {
			s.addProblem("done twice", "op%d and op%d have the same key, and both are committed", other.n, op.n)
		}
		if other.beganAt > op.beganAt && other.answered && other.err != nil && !other.isUnknown() {
			s.addProblem("refused but committed", "op%d was answered %q, and then op%d is committed, with the same key", other.n, other.err, op.n)
		}
	}
}

// isUnknown reports whether the answer does not say what became of the request.
func (op *operation) isUnknown() bool {
	return errors.Is(op.err, org.ErrUnavailable) || errors.Is(op.err, errDenied) || errors.Is(op.err, org.ErrThrottled) ||
		reasonOf(op.err) == org.KeyInUse || reasonOf(op.err) == org.KeyReused && op.setsPassword
}

// wasSuspended reports whether the organization of the operation was suspended at some time since it
// began.
func (s *sim) wasSuspended(op *operation) bool {
	m := s.models[op.organization]
	return m != nil && (s.durable.organizations[m.id].Status == org.Suspended || m.left[org.Suspended] >= op.beganAt)
}

// isForgotten reports whether the operation has changed nothing but an admin, who is deleted.
func (s *sim) isForgotten(op *operation) bool {
	_, there := s.durable.admins[op.admin]
	return op.changesAdmin() && op.updateRequest.OrganizationName == nil && !there
}

// checkRepeated checks the answer to an operation that has a key.
func (s *sim) checkRepeated(op *operation) {
	k := op.key
	if k == nil || !k.kept() {
		return
	}
	done := k.committedOp()
	switch {
	case reasonOf(op.err) == org.KeyReused && !op.setsPassword:
		s.addProblem("wrong key", "op%d: %v", op.n, op.err)
	case op.err != nil && !op.isUnknown() && done != nil && done.beganAt < op.beganAt && !s.isForgotten(done) && !(errors.Is(op.err, org.ErrUnauthenticated) && s.wasSuspended(op)):
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
		if done := k.committedOp(); done != nil && k.kept() && !s.isForgotten(done) {
			if err := s.runAlone(s.repeatOp(k)); err != nil && !errors.Is(err, org.ErrThrottled) && !(done.setsPassword && reasonOf(err) == org.KeyReused) {
				s.addProblem("forgotten", "op%d is committed, and its repetition is answered %q", done.n, err)
			}
		}
	}
}
