package org

import (
	"context"
	"errors"
	"slices"

	"orgservice/shared/auth"
)

// Update renames the caller's organization and changes the caller's email and
// password: all of it or nothing. Its errors are ErrInvalid,
// ErrUnauthenticated, ErrForbidden when the caller's role does not permit it or the
// current password is wrong, ErrThrottled, ErrConflict and ErrUnavailable.
func (s *Service) Update(ctx context.Context, caller auth.Caller, c UpdateRequest) (Organization, error) {
	name, email, fields := c.parse()
	if err := invalid(fields); err != nil {
		return Organization{}, err
	}
	o, admin, err := s.callerAndAdmin(ctx, caller, c.CurrentPassword != nil)
	if err != nil {
		return Organization{}, err
	}
	if c.OrganizationName != nil {
		if err := o.permit(caller.AdminID, ActionRename); err != nil {
			return Organization{}, err
		}
	}
	if o.Operation != nil {
		return Organization{}, errBusy
	}
	proven := func() error { return nil }
	if c.CurrentPassword != nil {
		// With a stolen token, guessing must be no easier than at a login.
		attempt, err := s.countAttempt(ctx, admin.Email, "")
		if err != nil {
			return Organization{}, err
		}
		ok, err := s.Passwords.Verify(admin.PasswordHash, *c.CurrentPassword)
		if err != nil {
			return Organization{}, err
		}
		if !ok {
			return Organization{}, refuse(Forbidden, WrongCurrentPassword, "current_password is wrong")
		}
		proven = func() error { s.succeeded(ctx, attempt); return nil }
	}
	now := s.now()
	op := Operation{
		ID: s.Store.NewID(), Kind: Updating, StartedAt: now, TouchedAt: now,
		Name: o.Name, Collection: o.Collection, Claims: slices.Clone(o.Claims),
	}
	if c.OrganizationName != nil {
		op.Name, op.Collection = name.Display, name.Collection()
		op.replaceClaim(o.Collection, op.Collection)
	}
	if c.Email != nil && email != admin.Email {
		op.Email = email
		op.replaceClaim(emailClaim(admin.Email), emailClaim(email))
	}
	if op.Email != "" || c.Password != nil {
		op.AdminID, op.TokenVersion = admin.ID, caller.TokenVersion+1
	}
	if op.Collection == o.Collection && op.AdminID == "" {
		next := o
		next.Name, next.UpdatedAt, next.Committed = op.Name, now, op.ID
		updated, err := s.write(ctx, o, next)
		proven()
		if err != nil {
			return s.afterFailure(ctx, o, op, err)
		}
		return updated, nil
	}
	updated, err := s.update(ctx, o, op, c.Password, proven)
	if err != nil {
		return s.afterFailure(ctx, o, op, err)
	}
	return updated, nil
}

// callerAndAdmin returns the organization that the caller may act for and, if it
// is needed, the record of the caller.
func (s *Service) callerAndAdmin(ctx context.Context, caller auth.Caller, needed bool) (o Organization, admin Admin, err error) {
	err = concurrently(
		func() (err error) { o, err = s.authorize(ctx, caller); return err },
		func() (err error) {
			if needed {
				admin, err = s.Store.Admin(ctx, caller.OrganizationID, caller.AdminID)
			}
			if errors.Is(err, ErrNotFound) {
				err = errRevoked
			}
			return err
		},
	)
	if err == nil && needed && !o.mayAct(admin.ID, admin.TokenVersion) {
		err = errBusy // one of the two has changed since the other was read
	}
	return o, admin, err
}

// replaceClaim replaces a claim among those that the organization will hold.
func (op *Operation) replaceClaim(old, claim string) {
	op.Claims = append(slices.DeleteFunc(op.Claims, func(id string) bool { return id == old }), claim)
}

// update makes the new claims, writes the journal and carries it out. It calls
// proven at the same time as the database, to save a round trip.
func (s *Service) update(ctx context.Context, o Organization, op Operation, password *string, proven func() error) (Organization, error) {
	known := true
	err := concurrently(
		func() error { return s.claim(ctx, o.ID, o.Revision, without(op.Claims, o.Claims), op.StartedAt) },
		func() error {
			if op.Collection == o.Collection {
				return nil
			}
			found, err := s.Store.Collections(ctx, o.Database, o.Collection, op.Collection)
			for _, c := range found {
				known = known && (c.Name != o.Collection || c.UUID == o.CollectionUUID)
			}
			return err
		},
		proven,
	)
	if err != nil {
		return o, err
	}
	if !known {
		// Before there is a journal, the collection of the new name can't be
		// the organization's.
		seen := o.Revision
		if o, _, err = s.findOwn(ctx, o); err != nil && !errors.Is(err, errNoCollection) {
			return o, err
		}
		if o.Revision != seen {
			return s.update(ctx, o, op, password, proven)
		}
	}
	if password != nil {
		if op.PasswordHash, err = s.Passwords.Hash(*password); err != nil {
			return o, err
		}
	}
	next := o
	next.Operation = &op
	if o, err = s.write(ctx, o, next); err != nil {
		return o, err
	}
	o, err = s.forward(ctx, o)
	return o, unlessUndone(err)
}

// forward carries out the journal of an Updating operation, from any point at
// which it may have stopped. The collection comes first: if it can't be
// renamed, nothing else has been changed.
func (s *Service) forward(ctx context.Context, o Organization) (Organization, error) {
	op := o.Operation
	if op.Collection != o.Collection {
		var err error
		o, err = s.move(ctx, o)
		if r := (refusedMove{}); errors.As(err, &r) {
			return s.rollBack(ctx, o, r.cause)
		}
		if err != nil {
			return o, err
		}
	}
	next := o
	next.Name, next.Collection, next.Claims, next.UpdatedAt = op.Name, op.Collection, op.Claims, op.StartedAt
	if op.AdminID != "" {
		err := s.Store.UpdateAdmin(ctx, Admin{
			ID: op.AdminID, OrganizationID: o.ID, Email: op.Email, PasswordHash: op.PasswordHash,
			TokenVersion: op.TokenVersion, Revision: o.Revision, UpdatedAt: op.StartedAt,
		})
		if err != nil {
			return o, err
		}
		next.Admins = slices.Clone(o.Admins)
		if m := next.member(op.AdminID); m != nil {
			m.TokenVersion = op.TokenVersion
		}
	}
	o, err := s.commit(ctx, o, next)
	if err != nil {
		return o, err
	}
	s.releaseLater(ctx, o)
	return o, nil
}

// rollBack undoes an Updating operation whose collection could not be renamed,
// for the cause. A process that worked on the operation before may have sent a
// change of the admin, which must have no effect when it arrives.
func (s *Service) rollBack(ctx context.Context, o Organization, cause error) (Organization, error) {
	op := o.Operation
	if op.AdminID != "" {
		err := s.Store.UpdateAdmin(ctx, Admin{ID: op.AdminID, OrganizationID: o.ID, Revision: o.Revision, UpdatedAt: op.StartedAt})
		if err != nil {
			return o, err
		}
	}
	next := o
	next.Operation = nil
	o, err := s.rewrite(ctx, o, next)
	if err == nil {
		err = s.release(ctx, o)
	}
	if err != nil {
		return o, err
	}
	return o, undoneError{cause}
}

// without returns what of a is not in b.
func without(a, b []string) []string {
	return slices.DeleteFunc(slices.Clone(a), func(s string) bool { return slices.Contains(b, s) })
}
