package org

import (
	"context"
	"slices"

	"orgservice/shared/auth"
)

// DeleteRequest is what a deletion depends on.
type DeleteRequest struct {
	Confirmation *string // must be the name of the organization; nil: there is none
	Revisions    []int64 // one of which the organization must have; nil: any
}

// Delete deletes the caller's organization with all that belongs to it, at once or, where
// there is a grace, so that an operator can restore it until that is over. It
// returns the organization as it was, with the time of the deletion as
// UpdatedAt, and the Deletion if it can be restored. Its errors are ErrInvalid,
// ErrUnauthenticated, ErrForbidden when the caller's role does not permit it or the
// confirmation names another organization, ErrOutdated, ErrConflict and ErrUnavailable.
func (s *Service) Delete(ctx context.Context, caller auth.Caller, r DeleteRequest) (Organization, error) {
	var confirmed Name
	if r.Confirmation != nil {
		var err error
		if confirmed, err = ParseName(*r.Confirmation); err != nil {
			return Organization{}, invalid([]FieldError{{Field: "organization_name", Message: err.Error()}})
		}
	}
	o, _, err := s.identify(ctx, caller)
	if err != nil {
		return Organization{}, err
	}
	if r.Confirmation != nil && confirmed.Collection() != o.Collection {
		return Organization{}, refuse(Forbidden, WrongConfirmation, "organization_name does not name the organization of the access token").withSlug(confirmed.Slug)
	}
	if err := o.permit(caller.AdminID, ActionDelete); err != nil {
		return Organization{}, err
	}
	if err := o.checkRevision(r.Revisions); err != nil {
		return Organization{}, err
	}
	if o.Operation != nil {
		return Organization{}, errBusy
	}
	if err := s.confirm(ctx, caller); err != nil {
		return Organization{}, err
	}
	op, err := s.newOperation(ctx, Removing)
	if err != nil {
		return Organization{}, err
	}
	now := op.StartedAt
	deleted := o
	deleted.UpdatedAt = now
	if s.DeleteGrace > 0 {
		deleted.Deletion = &Deletion{At: now, By: caller.AdminID, Ends: now.Add(s.DeleteGrace), Collection: o.Collection}
		op.Kind, op.Collection = Burying, buriedName(&op)
		op.Claims = []string{op.Collection}
		err = s.claim(ctx, o.newClaims(op.Claims, now))
	}
	next := deleted
	next.Status, next.Operation = Deleting, &op
	if err == nil {
		o, err = s.write(ctx, o, next)
	}
	if err == nil {
		_, err = s.finish(ctx, o)
		err = unlessUndone(err)
	}
	if err != nil {
		return s.afterFailure(ctx, deleted, op, err)
	}
	return deleted, nil
}

// remove deletes what belongs to an organization that is being deleted, and its
// record last. Its names stay claimed until then. Members who have other
// organizations stay.
func (s *Service) remove(ctx context.Context, o Organization) error {
	left, ids := o, o.adminIDs()
	if err := s.leaveReceipt(ctx, o); err != nil {
		return err
	}
	err := concurrently(
		func() (err error) { left, err = s.dropCollection(ctx, o); return err },
		func() error { return s.Store.DeleteAdmins(ctx, ids, o.ID) },
		func() error { return s.Store.DeleteSessions(ctx, o.ID) },
		func() error { return s.Store.DeleteTickets(ctx, o.ID) },
	)
	if err != nil {
		return err
	}
	var stay []Admin
	err = concurrently(
		func() error { return s.releaseAll(ctx, o.ID) },
		func() error { return s.Store.LeaveOrganization(ctx, ids, o.ID) },
		func() (err error) { stay, err = s.Store.AdminsByID(ctx, ids); return err },
	)
	if err != nil {
		return err
	}
	var gone []Owner
	for _, id := range ids {
		if !slices.ContainsFunc(stay, func(a Admin) bool { return a.ID == id }) {
			gone = append(gone, Owner{AdminID: id})
		}
	}
	return concurrently(
		func() error { return s.releaseAllOf(ctx, gone...) },
		func() error {
			if len(stay) == 0 {
				return nil
			}
			err := s.Store.DeleteAdmins(ctx, ids, o.ID) // all organizations may be deleted at the same time
			for _, a := range stay {
				if err == nil && !a.Asleep {
					err = s.endUnlessNeeded(ctx, a.ID) // the others may be deleted
				}
			}
			return err
		},
		func() error {
			err := s.tellCommitted(ctx, o, Organization{})
			if op := o.Operation; err == nil && op.deletes() {
				outcome := o.outcome()
				outcome.At = op.StartedAt
				err = s.tellKey(ctx, op.Key, op.ID, outcome)
			}
			if err == nil {
				err = s.Store.DeleteOrganization(ctx, o.ID, left.Revision)
			}
			return err
		},
	)
}
