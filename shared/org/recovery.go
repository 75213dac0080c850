package org

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"
)

const (
	// StaleAfter is how long after it was last touched an operation may be
	// taken over by others. No function may run as long.
	StaleAfter = 60 * time.Second
	// leaseTime is how long after it began, or was taken over, an operation
	// may still start to rename its collection.
	leaseTime = StaleAfter / 2
	// MaxSkew is the largest difference allowed between the clock of a process
	// and the database's. Two processes differ by at most twice as much, which
	// is less than the time between the end of a lease and StaleAfter.
	MaxSkew = 10 * time.Second
	// recoverTime is the default of Service.RecoverTime.
	recoverTime = 2 * time.Second
	// recoverAttempts is how often an operation starts again because others
	// have changed the record or the collection.
	recoverAttempts = 3
)

var (
	errBusy      = refuse(Conflict, OrganizationBusy, "another change of this organization is under way: try again")
	errOvertaken = &Error{Kind: Unavailable, Reason: ChangePending, RetryAfter: StaleAfter,
		Message: "the change took too long: it will be finished or undone by itself"}
)

// write replaces the record by next if it still has the revision of seen. It
// returns next with its new revision, or errBusy if the record has changed.
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

// rewrite is write for the process that works on the operation of o. Its error
// is errOvertaken if others have taken the operation over.
func (s *Service) rewrite(ctx context.Context, o, next Organization) (Organization, error) {
	o, err := s.write(ctx, o, next)
	if errors.Is(err, errBusy) {
		err = errOvertaken
	}
	return o, err
}

// commit writes the record as it is after the operation.
func (s *Service) commit(ctx context.Context, o, next Organization) (Organization, error) {
	if err := s.tellCommitted(ctx, o, next); err != nil {
		return o, err
	}
	next.Operation, next.Committed, next.CommittedKey = nil, o.Operation.ID, o.Operation.Key
	return s.rewrite(ctx, o, next)
}

// commitAlone makes a change that is one write of the record and needs no journal. Its
// errors are errBusy if the record has changed since it was seen, and ErrUnavailable.
func (s *Service) commitAlone(ctx context.Context, seen, next Organization) (Organization, error) {
	op, err := s.newOperation(ctx, Updating)
	if err == nil {
		err = s.tellCommitted(ctx, seen, next)
	}
	if err != nil {
		return seen, err
	}
	next.Committed, next.CommittedKey = op.ID, op.Key
	updated, err := s.write(ctx, seen, next)
	if err != nil {
		return s.afterFailure(ctx, seen, op, err)
	}
	return updated, nil
}

// checkLease returns errOvertaken if the lease of the operation has ended. Then
// the operation must not rename a collection, because others may have taken
// over the operation or its claims.
func (s *Service) checkLease(op *Operation) error {
	if age := s.now().Sub(op.TouchedAt); age > leaseTime {
		return fmt.Errorf("operation %s: its lease ended %v ago: %w", op.ID, age-leaseTime, errOvertaken)
	}
	return nil
}

// stale reports whether something that was last touched at t may be taken over.
func (s *Service) stale(t time.Time) bool { return s.now().Sub(t) >= StaleAfter }

// takeOver makes the operation of o the caller's. The process that worked on it
// before can't write the record any more.
func (s *Service) takeOver(ctx context.Context, o Organization) (Organization, error) {
	next, op := o, *o.Operation
	op.TouchedAt = s.now()
	next.Operation = &op
	return s.write(ctx, o, next)
}

// undoneError is the error of an operation that changed nothing, or of which
// everything was undone. It holds the cause.
type undoneError struct{ cause error }

func (u undoneError) Error() string { return u.cause.Error() }

// unlessUndone returns the error for the client of an operation whose journal
// was written. Unless the operation was undone, others may finish it, so that
// the error must be ErrUnavailable.
func unlessUndone(err error) error {
	if err == nil || errors.Is(err, ErrUnavailable) || errors.As(err, new(undoneError)) {
		return err
	}
	return &Error{Kind: Unavailable, Reason: ChangePending, Message: errOvertaken.Message, RetryAfter: StaleAfter, Err: err}
}

// finish completes an operation that the caller has taken over, from any point
// at which it may have stopped. It completes an update or a restoration, or undoes it if it
// can't be completed, which is an undoneError. It undoes a creation and completes a
// deletion. With any other error the operation stays as it is.
func (s *Service) finish(ctx context.Context, o Organization) (Organization, error) {
	switch kind := o.Operation.Kind; {
	case kind == Updating:
		return s.forward(ctx, o, Admin{})
	case kind == Burying && o.Status == Deleting:
		return s.bury(ctx, o)
	case kind == Restoring && o.Status == Deleted:
		return s.restore(ctx, o)
	case kind == Removing && o.Status == Deleting, kind == Creating && o.Status != Active && o.Status != Suspended:
		return o, s.remove(ctx, o)
	}
	return o, fmt.Errorf("organization %s: an operation of kind %q can't be under way while it is %s", o.ID, o.Operation.Kind, o.Status)
}

// finishStale finishes the operation of o if it is stale, and returns the record
// after that.
func (s *Service) finishStale(ctx context.Context, o Organization) (Organization, error) {
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
	if err != nil && !errors.Is(err, errBusy) && !errors.As(err, new(undoneError)) {
		s.log().ErrorContext(ctx, "operation not finished", "organization_id", o.ID, "error", err)
	}
	return s.Store.Organization(ctx, o.ID)
}

// afterFailure cleans up after an operation that has failed with the cause: it
// looks how far the operation has come, and finishes or undoes it at once. o is
// the organization before the operation, or for a creation as it would be. The
// results are those of Create, Update and Delete; the error is the cause only
// if nothing was changed and nothing is left. What afterFailure can't finish,
// Reconcile will.
func (s *Service) afterFailure(ctx context.Context, o Organization, op Operation, cause error) (Organization, error) {
	if u := (undoneError{}); errors.As(cause, &u) {
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
	if u := (undoneError{}); errors.As(err, &u) {
		return Organization{}, u.cause
	}
	s.log().WarnContext(ctx, "operation left to reconcile", "organization_id", o.ID, "operation", op.Kind, "error", err)
	return Organization{}, leftOver(unlessUndone(cause))
}

// leftOver makes the error of an unreachable database say what becomes of a change
// that may have begun.
func leftOver(err error) error {
	if e, ok := errors.AsType[*Error](err); ok && e.Reason == DatabaseUnavailable {
		left := *e
		left.Message = "the database can't be reached in time: nothing was changed, or the change will be finished or undone by itself"
		left.Err = err
		return &left
	}
	return err
}

// cleanUp finishes the operation, or returns an undoneError with the cause if
// nothing of it is left. Its error is errBusy if others have changed the record
// at the same time.
func (s *Service) cleanUp(ctx context.Context, o Organization, op Operation, cause error) (Organization, error) {
	current, err := s.Store.Organization(ctx, o.ID)
	switch {
	case errors.Is(err, ErrNotFound) && op.deletes():
		for _, id := range o.adminIDs() {
			if err := s.releaseUnused(ctx, Claim{Owner: Owner{AdminID: id}}); err != nil {
				return o, err
			}
		}
		return o, nil
	case errors.Is(err, ErrNotFound):
		err = nil
		if op.Kind == Creating {
			err = s.Store.DropCollection(ctx, o.Database, Collection{Name: temporaryName(&op)})
		}
		if err == nil || errors.Is(err, ErrNotFound) {
			// No collection can have got one of the names, so they need no rest.
			err = s.releaseAllOf(ctx, Owner{OrganizationID: o.ID})
		}
		if err == nil && op.Kind == Creating {
			err = s.releaseUnused(ctx, Claim{Owner: Owner{AdminID: o.Admins[0].AdminID}})
		}
		if err == nil && op.Email != "" {
			_, err = s.stopChange(ctx, o, op)
		}
	case err != nil:
	case current.committed(op.ID):
		var admin Admin
		if op.AdminID != "" {
			if admin, err = s.Store.Admin(ctx, op.AdminID); err != nil {
				return current, err
			}
		}
		return current, s.afterUpdate(ctx, current, op, admin)
	case current.Operation != nil && current.Operation.ID == op.ID:
		if !current.Operation.TouchedAt.Equal(op.TouchedAt) {
			return current, errOvertaken // another process works on it
		}
		if current, err = s.takeOver(ctx, current); err == nil {
			current, err = s.finish(ctx, current)
		}
		switch {
		case err == nil && op.deletes():
			return o, nil
		case err != nil || op.Kind != Creating:
			return current, err
		}
	default:
		// The operation has written no journal, or is over.
		if current.Revision == o.Revision {
			// Its last write may still be under way. After this one it fails.
			if current, err = s.write(ctx, current, current); err != nil {
				return current, err
			}
		}
		err = s.release(ctx, current)
		if err == nil && op.Email != "" {
			_, err = s.stopChange(ctx, o, op)
		}
	}
	if err == nil {
		err = undoneError{cause}
	}
	return Organization{}, err
}

// releaseLater releases the claims that a committed operation has given up. A
// failure is only logged: Reconcile, or an operation that wants one of the
// claims, releases it later.
func (s *Service) releaseLater(ctx context.Context, o Organization) {
	s.untilReleased(ctx, func() error { return s.release(ctx, o) })
}

func (s *Service) untilReleased(ctx context.Context, release func() error) {
	err := release()
	if errors.Is(err, ErrUnavailable) {
		err = release()
	}
	if err != nil {
		s.log().WarnContext(ctx, "old claims not released", "error", err)
	}
}
