package org

import (
	"cmp"
	"context"
	"errors"
	"slices"

	"orgservice/shared/auth"
)

// Update renames the caller's organization and changes the caller's email and
// password: all of it or nothing. It mails a ticket to verify a new email. Its errors are
// ErrInvalid, ErrUnauthenticated, ErrForbidden when the caller's role does not permit it or the
// current password is wrong, ErrOutdated, ErrThrottled, ErrConflict and ErrUnavailable.
func (s *Service) Update(ctx context.Context, caller auth.Caller, c UpdateRequest) (updated Organization, err error) {
	name, email, fields := c.parse()
	if err := invalid(fields); err != nil {
		return Organization{}, err
	}
	o, admin, err := s.identify(ctx, caller)
	if err == nil && c.OrganizationName != nil {
		if err = s.checkVerified(admin); err == nil {
			err = o.permit(caller.AdminID, ActionRename)
		}
	}
	if err == nil {
		err = o.checkRevision(c.Revisions)
	}
	if err == nil && o.Operation != nil {
		err = errBusy
	}
	if err != nil {
		return Organization{}, err
	}
	if c.OrganizationName != nil && name.Collection() != o.Collection {
		if err := checkNewName(name); err != nil {
			return Organization{}, invalid([]FieldError{{Field: "organization_name", Message: err.Error()}})
		}
	}
	if c.Password != nil {
		if err := s.checkNewPassword(ctx, *c.Password, append(o.names(), admin.Email)...); err != nil {
			return Organization{}, err
		}
	}
	proven := func() error { return nil }
	if c.CurrentPassword != nil {
		// With a stolen token, guessing must be no easier than at a login.
		attempt, countErr := s.countProof(ctx, admin)
		if countErr != nil {
			return Organization{}, countErr
		}
		defer func() {
			if errors.Is(err, ErrUnavailable) {
				s.takeBack(ctx, attempt.counted()...)
			}
		}()
		ok, err := s.Passwords.Verify(admin.PasswordHash, *c.CurrentPassword)
		if err != nil {
			return Organization{}, err
		}
		if !ok {
			wrong := refuse(Forbidden, WrongCurrentPassword, "current_password is wrong")
			return Organization{}, cmp.Or(s.failed(ctx, &attempt), error(wrong))
		}
		proven = func() error { s.succeeded(ctx, &attempt); return nil }
	}
	op, err := s.newOperation(ctx, Updating)
	if err != nil {
		return Organization{}, err
	}
	change := adminChange{id: op.ID, key: op.Key, at: op.StartedAt}
	if c.Email != nil && email != admin.Email {
		change.email = email
		if o, err = s.adopt(ctx, o, admin); err != nil {
			return Organization{}, err
		}
	}
	var v verification
	defer func() { s.mailVerification(ctx, v, err) }()
	prepare := func() (hash string, err error) {
		err = concurrently(
			func() (err error) {
				if c.Password != nil {
					hash, err = s.Passwords.Hash(*c.Password)
				}
				return err
			},
			func() (err error) {
				if change.email != "" {
					s.unlock(ctx, change.email)
				}
				return nil
			},
			func() (err error) {
				if change.email != "" && change.email != admin.VerifiedEmail {
					v, err = s.newVerificationUnlessTooMany(ctx, admin.ID, change.email, func() error {
						return s.countVerification(ctx, c.ClientAddress, admin.ID, change.email)
					})
				}
				return err
			},
		)
		return hash, err
	}
	changesAdmin := change.email != "" || c.Password != nil
	switch {
	case changesAdmin && c.OrganizationName == nil:
		o.Revision = 0 // it grows once or more
		return o, s.changeAdmin(ctx, admin, change, prepare, proven)
	case c.OrganizationName == nil: // the email is the same
		return o, proven()
	}
	op.Name, op.Collection, op.Claims = name.Display, name.Collection(), slices.Clone(o.Claims)
	op.replaceClaim(o.Collection, op.Collection)
	if changesAdmin {
		op.AdminID, op.Email, op.TokenVersion = admin.ID, change.email, admin.TokenVersion+1
	}
	if op.Collection == o.Collection && !changesAdmin {
		if err := s.confirm(ctx, caller); err != nil {
			return Organization{}, err
		}
		next := o
		next.Name, next.UpdatedAt = op.Name, op.StartedAt
		updated, err := s.commitAlone(ctx, o, next)
		proven()
		return updated, err
	}
	confirmed := func() error { return concurrently(func() error { return s.confirm(ctx, caller) }, proven) }
	updated, err = s.update(ctx, o, admin, op, prepare, confirmed)
	if err != nil {
		return s.afterFailure(ctx, o, op, err)
	}
	return updated, nil
}

// checkRevision returns ErrOutdated unless the record has one of the revisions, or there are none.
func (o *Organization) checkRevision(revisions []int64) error {
	if revisions == nil || slices.Contains(revisions, o.Revision) {
		return nil
	}
	return refuse(Outdated, OrganizationChanged, "the organization has changed: get it again")
}

// replaceClaim replaces a claim among those that the organization will hold.
func (op *Operation) replaceClaim(old, claim string) {
	op.Claims = append(slices.DeleteFunc(op.Claims, func(id string) bool { return id == old }), claim)
}

// update makes the new claims, writes the journal and carries it out. prepare is as in
// changeAdmin. It calls confirmed at the same time as the database, to save a round trip.
func (s *Service) update(ctx context.Context, o Organization, admin Admin, op Operation, prepare func() (string, error), confirmed func() error) (Organization, error) {
	known := true
	err := concurrently(
		func() error {
			claims := o.newClaims(without(op.Claims, o.Claims), op.StartedAt)
			return s.claim(ctx, append(claims, op.adminChange(o.ID).claims(admin, op.StartedAt)...))
		},
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
		confirmed,
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
			return s.update(ctx, o, admin, op, prepare, confirmed)
		}
	}
	if op.PasswordHash, err = prepare(); err != nil {
		return o, err
	}
	next := o
	next.Operation = &op
	if o, err = s.write(ctx, o, next); err != nil {
		return o, err
	}
	o, err = s.forward(ctx, o, admin)
	return o, unlessUndone(err)
}

// forward carries out the journal of an Updating operation, from any point at
// which it may have stopped. The collection comes first: if it can't be
// renamed, nothing else has been changed. claimed is the admin for whom this
// process has claimed what the operation needs; it has no id if there is none.
func (s *Service) forward(ctx context.Context, o Organization, claimed Admin) (Organization, error) {
	op := o.Operation
	if op.Undone {
		return s.rollBack(ctx, o, true, errBusy)
	}
	var err error
	if op.Collection != o.Collection {
		o, err = s.move(ctx, o)
		if r := (refusedMove{}); errors.As(err, &r) {
			return s.rollBack(ctx, o, false, r.cause)
		}
		if err != nil {
			return o, err
		}
	}
	var admin Admin
	if op.AdminID != "" {
		admin, err = s.forwardAdmin(ctx, o, claimed)
		if r := (refusedChange{}); errors.As(err, &r) {
			return s.rollBack(ctx, o, op.Collection != o.Collection, r.cause)
		}
		if err != nil {
			return o, err
		}
	}
	next := o
	next.Name, next.Collection, next.Claims, next.UpdatedAt = op.Name, op.Collection, op.Claims, op.StartedAt
	if op.Act.ID != "" {
		next.History = o.historyWith(op.Act)
	}
	o, err = s.commit(ctx, o, next)
	if err != nil {
		return o, err
	}
	return o, s.afterUpdate(ctx, o, *op, admin)
}

// afterUpdate does what is left after the commit of the operation op on o. admin is
// that of the operation, after it. See afterChange.
func (s *Service) afterUpdate(ctx context.Context, o Organization, op Operation, admin Admin) error {
	return concurrently(
		func() error { s.releaseLater(ctx, o); return nil },
		func() error {
			if op.Email != "" {
				s.releaseAdminLater(ctx, admin)
			}
			return nil
		},
		func() error {
			others := without(admin.Organizations, []string{o.ID}) // the commit was a fence
			if op.AdminID == "" || len(others) == 0 {
				return nil
			}
			return s.Store.FenceOrganizations(ctx, others)
		},
	)
}

// rollBack undoes an Updating operation whose collection could not be renamed, or
// whose admin could not be changed after that, for the cause.
func (s *Service) rollBack(ctx context.Context, o Organization, moved bool, cause error) (Organization, error) {
	op := *o.Operation
	if op.AdminID != "" {
		// A process that worked on the operation before may have sent a change of
		// the admin, which must have no effect when it arrives.
		changed, err := s.stopChange(ctx, o, op)
		if err == nil && changed {
			// The collection had the new name, and a late command has renamed it
			// back. The operation goes on when it is taken over again.
			if err = s.setAside(ctx, o, op.Collection); err == nil {
				err = errOvertaken
			}
		}
		if err != nil {
			return o, err
		}
	}
	if moved {
		next := o
		op.Undone = true
		next.Operation = &op
		var err error
		if o, err = s.rewrite(ctx, o, next); err == nil {
			o, err = s.moveBack(ctx, o)
		}
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
