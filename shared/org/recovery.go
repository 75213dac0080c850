package org

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"time"
)

const (
	// StaleAfter is how long an operation rests untouched before others take
	// it over. No function may run as long.
	StaleAfter = 60 * time.Second
	// leaseTime is how long after its beginning, or after it was taken over,
	// an operation may begin to name or rename its collection.
	leaseTime = StaleAfter / 2
	// MaxSkew is how far the clock of a process may be from the database's.
	// That of two processes, twice as much, is well below the time between
	// the end of a lease and StaleAfter.
	MaxSkew = 10 * time.Second
	// recoverTime is what an operation that failed may take to clean up,
	// unless the service says otherwise.
	recoverTime = 2 * time.Second
	// recoverAttempts bounds how often it begins anew because others have
	// changed the record.
	recoverAttempts = 3
)

var (
	errBusy      = refuse(Conflict, "another change of this organization is under way: try again")
	errOvertaken = &Error{Kind: Unavailable, RetryAfter: StaleAfter,
		Message: "the change took too long: it will be finished or undone by itself"}
)

// write puts next in the place of seen, if the record is as it was seen, and
// returns it with its new revision. Otherwise it returns errBusy.
func (s *Service) write(ctx context.Context, seen, next Organization) (Organization, error) {
	ok, err := s.Store.ReplaceOrganization(ctx, seen, next)
	if err == nil && !ok {
		err = errBusy
	}
	if err != nil {
		return seen, err
	}
	next.Revision = seen.Revision + 1
	return next, nil
}

// rewrite is write for whoever works on the operation on o. If others have
// taken it over, it is theirs to say what became of it: errOvertaken.
func (s *Service) rewrite(ctx context.Context, o, next Organization) (Organization, error) {
	o, err := s.write(ctx, o, next)
	if errors.Is(err, errBusy) {
		err = errOvertaken
	}
	return o, err
}

// commit writes the organization as it is after its operation.
func (s *Service) commit(ctx context.Context, o, next Organization) (Organization, error) {
	next.Operation, next.Committed = nil, o.Operation.ID
	return s.rewrite(ctx, o, next)
}

// lease tells whoever works on an operation whether it may give its collection
// a name. After the lease it may not, since others may have taken over the
// operation, or its claims.
func (s *Service) lease(op *Operation) error {
	if age := s.now().Sub(op.TouchedAt); age > leaseTime {
		return fmt.Errorf("operation %s: its lease ended %v ago: %w", op.ID, age-leaseTime, errOvertaken)
	}
	return nil
}

// stale reports whether what was last touched at t has been left by whoever
// did.
func (s *Service) stale(t time.Time) bool { return s.now().Sub(t) >= StaleAfter }

// takeOver makes the operation on o the caller's. Whoever worked on it before
// can't write the record any more.
func (s *Service) takeOver(ctx context.Context, o Organization) (Organization, error) {
	next, op := o, *o.Operation
	op.TouchedAt = s.now()
	next.Operation = &op
	return s.write(ctx, o, next)
}

// undone is the error of an operation of which nothing is left, and why that
// is so.
type undone struct{ cause error }

func (u undone) Error() string { return u.cause.Error() }

// leftOver returns the error of an operation whose journal was written: unless
// it was undone it may be finished by others, whatever the error says.
func leftOver(err error) error {
	if err == nil || errors.Is(err, ErrUnavailable) || errors.As(err, new(undone)) {
		return err
	}
	return &Error{Kind: Unavailable, Message: errOvertaken.Message, RetryAfter: StaleAfter, Err: err}
}

// finish brings an operation that the caller has to its end, from whatever
// point it had come to: an update forward, or back if that can't be, which is
// an undone error; a creation and a deletion to nothing. Any other error
// leaves the operation as it is.
func (s *Service) finish(ctx context.Context, o Organization) (Organization, error) {
	switch kind := o.Operation.Kind; {
	case kind == Updating:
		return s.forward(ctx, o)
	case kind == Removing && o.Status == Deleting, kind == Creating && o.Status != Active && o.Status != Suspended:
		return o, s.remove(ctx, o)
	}
	return o, fmt.Errorf("organization %s: an operation of kind %q can't be under way while it is %s", o.ID, o.Operation.Kind, o.Status)
}

// settle finishes or undoes an operation on o that was left, and returns o as
// it is then. An operation under way stays.
func (s *Service) settle(ctx context.Context, o Organization) (Organization, error) {
	if o.Operation == nil || !s.stale(o.Operation.TouchedAt) {
		return o, nil
	}
	taken, err := s.takeOver(ctx, o)
	if err == nil {
		_, err = s.finish(ctx, taken)
	}
	if errors.Is(err, ErrUnavailable) {
		return o, err
	}
	if err != nil && !errors.Is(err, errBusy) && !errors.As(err, new(undone)) {
		s.log().ErrorContext(ctx, "operation not finished", "organization_id", o.ID, "error", err)
	}
	return s.Store.Organization(ctx, o.ID)
}

// afterFailure is what an operation does about its own failure: it looks how
// far it has come and, at once, finishes or undoes it. o is the organization
// as the operation found it, or would have made it. It returns what Create,
// Update and Delete do: the cause only if nothing was changed and nothing is
// left. What it can't do, Reconcile will.
func (s *Service) afterFailure(ctx context.Context, o Organization, op Operation, cause error) (Organization, error) {
	if u := (undone{}); errors.As(cause, &u) {
		return Organization{}, u.cause
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cmp.Or(s.RecoverTime, recoverTime))
	defer cancel()
	err := error(errBusy)
	for i := 0; i < recoverAttempts && (errors.Is(err, errBusy) || errors.Is(err, errOvertaken)); i++ {
		var result Organization
		if result, err = s.cleanUp(ctx, o, op, cause); err == nil {
			return result, nil
		}
	}
	if u := (undone{}); errors.As(err, &u) {
		return Organization{}, u.cause
	}
	s.log().WarnContext(ctx, "operation left to reconcile", "organization_id", o.ID, "operation", op.Kind, "error", err)
	return Organization{}, leftOver(cause)
}

// cleanUp finishes the operation, or returns an undone error with the cause
// when nothing of it is left. That others have changed the record meanwhile is
// errBusy.
func (s *Service) cleanUp(ctx context.Context, o Organization, op Operation, cause error) (Organization, error) {
	current, err := s.Store.Organization(ctx, o.ID)
	switch {
	case errors.Is(err, ErrNotFound) && op.Kind == Removing:
		return o, nil
	case errors.Is(err, ErrNotFound):
		err = nil
		if op.Kind == Creating {
			err = s.Store.DropCollection(ctx, o.Database, Collection{Name: temporaryName(&op)})
		}
		if err == nil || errors.Is(err, ErrNotFound) {
			// No command was sent for the names: they need no rest.
			err = s.Store.ReleaseClaims(ctx, o.ID, math.MaxInt64, nil)
		}
	case err != nil:
	case current.Committed == op.ID:
		s.releaseLater(ctx, current)
		return current, nil
	case current.Operation != nil && current.Operation.ID == op.ID:
		if !current.Operation.TouchedAt.Equal(op.TouchedAt) {
			return current, errOvertaken // they are at work: two would be in each other's way
		}
		if current, err = s.takeOver(ctx, current); err == nil {
			current, err = s.finish(ctx, current)
		}
		if err != nil || op.Kind == Updating {
			return current, err
		}
		if op.Kind == Removing {
			return o, nil
		}
	default:
		// It did not come to its journal, or is over.
		if current.Revision == o.Revision {
			// What it wrote last may still be on the way. It must not arrive.
			if current, err = s.write(ctx, current, current); err != nil {
				return current, err
			}
		}
		err = s.release(ctx, current)
	}
	if err == nil {
		err = undone{cause}
	}
	return Organization{}, err
}

// releaseLater releases what an operation that is committed has replaced. A
// failure changes nothing for the client: Reconcile, or whoever wants one of
// the claims, releases it later.
func (s *Service) releaseLater(ctx context.Context, o Organization) {
	err := s.release(ctx, o)
	if errors.Is(err, ErrUnavailable) {
		err = s.release(ctx, o)
	}
	if err != nil {
		s.log().WarnContext(ctx, "old claims not released", "organization_id", o.ID, "error", err)
	}
}
