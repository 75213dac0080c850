package org

import (
	"context"
	"errors"
)

// Create signs up an organization and its first admin. Its errors are
// ErrInvalid, ErrConflict when name or email is taken, and ErrUnavailable.
func (s *Service) Create(ctx context.Context, r CreateRequest) (Organization, error) {
	name, email, fields := r.parse()
	if err := invalid(fields); err != nil {
		return Organization{}, err
	}
	now := s.now()
	op := Operation{ID: s.Store.NewID(), Kind: Creating, StartedAt: now, TouchedAt: now}
	admin := Admin{ID: s.Store.NewID(), Email: email, TokenVersion: 1, Revision: 1, CreatedAt: now, UpdatedAt: now}
	o := Organization{
		ID:         s.Store.NewID(),
		Name:       name.Display,
		Collection: name.Collection(),
		Database:   s.Database,
		Status:     Provisioning,
		Admins:     []Member{{AdminID: admin.ID, Role: RoleOwner, Since: now}},
		Claims:     []string{name.Collection()},
		Revision:   1,
		Operation:  &op,
		CreatedAt:  now,
		UpdatedAt:  now,
	}
	admin.OrganizationID = o.ID
	created, err := s.create(ctx, o, admin, r.Password)
	if err != nil {
		return s.afterFailure(ctx, o, op, err)
	}
	return created, nil
}

// create carries out the creation of o, which is the record before the commit.
func (s *Service) create(ctx context.Context, o Organization, admin Admin, password string) (Organization, error) {
	now := o.Operation.StartedAt
	claims := []Claim{
		{ID: o.Collection, Owner: Owner{OrganizationID: o.ID}, ClaimedAt: now},
		{ID: emailClaim(admin.Email), Owner: admin.owner(), ClaimedAt: now},
	}
	if err := s.claim(ctx, claims); err != nil {
		return o, err
	}
	// Hashing is expensive, so it is done only after the claims are won.
	var err error
	if admin.PasswordHash, err = s.Passwords.Hash(password); err != nil {
		return o, err
	}
	c := Collection{Name: temporaryName(o.Operation)}
	err = concurrently(
		func() error { return s.Store.InsertOrganization(ctx, o) },
		func() error { return s.Store.CreateCollection(ctx, o.Database, c.Name) },
	)
	if err != nil {
		return o, err
	}
	err = concurrently(
		func() error { return s.Store.InsertAdmin(ctx, admin) },
		func() (err error) { c, err = s.findCollection(ctx, o.Database, c.Name); return err },
	)
	if err != nil {
		return o, err
	}
	// Until the record was there, others could take over the claims of this
	// operation without a write that stops it.
	if err := s.checkLease(o.Operation); err != nil {
		return o, err
	}
	err = s.Store.RenameCollection(ctx, o.Database, c, o.Collection)
	if errors.Is(err, ErrConflict) {
		// The claim is this organization's, so the collection is a stray.
		if err = s.clearName(ctx, o, o.Collection); err == nil {
			err = s.Store.RenameCollection(ctx, o.Database, c, o.Collection)
		}
	}
	if errors.Is(err, ErrConflict) {
		return o, errNameUnusable // somebody makes the stray again and again
	}
	if errors.Is(err, ErrNotFound) {
		return o, errOvertaken
	}
	if err != nil {
		return o, err
	}
	next := o
	next.Status, next.CollectionUUID = Active, c.UUID
	return s.commit(ctx, o, next)
}
