package org

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"orgservice/shared/auth"
)

const (
	// StaleAfter is how long an operation rests untouched before others take
	// it over. No function may run as long.
	StaleAfter = 60 * time.Second
	// leaseTime is how long whoever works on an operation may begin a step
	// of it.
	leaseTime = StaleAfter / 2
	// recoverTime is what an operation that failed may take to clean up.
	recoverTime = 2 * time.Second
	// claimAttempts bounds how often a claim is tried for while others
	// release it.
	claimAttempts = 4
)

var errBusy = refuse(Conflict, "another change of this organization is under way: try again")

// Create signs up an organization and its first admin. Its errors are
// ErrInvalid, ErrConflict when name or email is taken, and ErrUnavailable.
func (s *Service) Create(ctx context.Context, r Registration) (Organization, error) {
	name, email, fields := r.parse()
	if err := invalid(fields); err != nil {
		return Organization{}, err
	}
	now := s.now()
	op := Operation{ID: s.Store.NewID(), Kind: Creating, StartedAt: now, TouchedAt: now}
	admin := Admin{ID: s.Store.NewID(), Email: email, TokenVersion: 1, CreatedAt: now, UpdatedAt: now}
	o := Organization{
		ID:         s.Store.NewID(),
		Name:       name.Display,
		Key:        name.Slug,
		Collection: name.Collection(),
		Database:   s.Database,
		Status:     Provisioning,
		Admins:     []Member{{AdminID: admin.ID, TokenVersion: admin.TokenVersion}},
		Claims:     []string{name.Collection(), emailClaim(email)},
		Revision:   1,
		Operation:  &op,
		CreatedAt:  now,
		UpdatedAt:  now,
	}
	admin.OrganizationID = o.ID
	created, err := s.create(ctx, o, admin, r.Password)
	if err != nil {
		return s.recover(ctx, o, op, err)
	}
	return created, nil
}

func (s *Service) create(ctx context.Context, o Organization, admin Admin, password string) (Organization, error) {
	if err := s.claim(ctx, o, *o.Operation, o.Claims); err != nil {
		return o, err
	}
	// Hashing is dear: who loses the claim does not pay for it.
	var err error
	if admin.PasswordHash, err = s.Passwords.Hash(password); err != nil {
		return o, err
	}
	if err := s.lease(o.Operation); err != nil {
		return o, err
	}
	if err := s.Store.InsertOrganization(ctx, o); err != nil {
		return o, err
	}
	if err := s.Store.InsertAdmin(ctx, admin); err != nil {
		return o, err
	}
	if err := s.lease(o.Operation); err != nil {
		return o, err
	}
	err = s.Store.CreateCollection(ctx, o.Database, o.Collection)
	if errors.Is(err, ErrConflict) {
		// Nobody else has the claim, so it is a stray. An empty one serves.
		err = s.refuseUnlessEmpty(ctx, o.Database, o.Collection)
	}
	if err != nil {
		return o, err
	}
	o.Status = Active
	return o, s.commit(ctx, &o)
}

// refuseUnlessEmpty returns ErrConflict if a collection that is not yet the
// organization's holds documents.
func (s *Service) refuseUnlessEmpty(ctx context.Context, database, collection string) error {
	empty, err := s.Store.CollectionIsEmpty(ctx, database, collection)
	if err == nil && !empty {
		err = refuse(Conflict, "the name can't be used: its collection exists and holds documents")
	}
	return err
}

// Update renames the caller's organization and changes the caller's email and
// password: all of it or nothing. Its errors are ErrInvalid,
// ErrUnauthenticated, ErrForbidden when the current password is wrong,
// ErrThrottled, ErrConflict and ErrUnavailable.
func (s *Service) Update(ctx context.Context, caller auth.Caller, c Change) (Organization, error) {
	name, email, fields := c.parse()
	if err := invalid(fields); err != nil {
		return Organization{}, err
	}
	o, err := s.authorize(ctx, caller)
	if err != nil {
		return Organization{}, err
	}
	if o.Operation != nil {
		return Organization{}, errBusy
	}
	now := s.now()
	op := Operation{
		ID: s.Store.NewID(), Kind: Updating, StartedAt: now, TouchedAt: now, Revision: o.Revision,
		Name: o.Name, Key: o.Key, Collection: o.Collection, Claims: slices.Clone(o.Claims),
	}
	if c.OrganizationName != nil {
		op.Name = name.Display
		if name.Slug != o.Key {
			op.Key, op.Collection = name.Slug, name.Collection()
			op.exchange(o.Collection, op.Collection)
		}
	}
	if c.CurrentPassword != nil {
		admin, err := s.Store.Admin(ctx, o.ID, caller.AdminID)
		if errors.Is(err, ErrNotFound) {
			err = errRevoked
		}
		if err != nil {
			return Organization{}, err
		}
		// A stolen token must not make guessing any easier than a login.
		attempt, err := s.admit(ctx, admin.Email, "")
		if err != nil {
			return Organization{}, err
		}
		ok, err := s.Passwords.Verify(admin.PasswordHash, *c.CurrentPassword)
		if err != nil {
			return Organization{}, err
		}
		if !ok {
			return Organization{}, refuse(Forbidden, "current_password is wrong")
		}
		s.succeeded(ctx, attempt)
		if c.Email != nil && email != admin.Email {
			op.Email = email
			op.exchange(emailClaim(admin.Email), emailClaim(email))
		}
		if op.Email != "" || c.Password != nil {
			op.AdminID, op.TokenVersion = admin.ID, caller.TokenVersion+1
		}
	}
	if op.Collection == o.Collection && op.AdminID == "" {
		changed := o
		changed.Name, changed.UpdatedAt, changed.Committed = op.Name, now, op.ID
		if err := s.write(ctx, &changed); err != nil {
			return s.recover(ctx, o, op, err)
		}
		return changed, nil
	}
	updated, err := s.update(ctx, o, op, c.Password)
	if err != nil {
		return s.recover(ctx, o, op, err)
	}
	return updated, nil
}

// exchange puts one claim in the place of another in what the organization
// shall hold.
func (op *Operation) exchange(old, claim string) {
	op.Claims = append(slices.DeleteFunc(op.Claims, func(id string) bool { return id == old }), claim)
}

func (s *Service) update(ctx context.Context, o Organization, op Operation, password *string) (Organization, error) {
	err := atOnce(
		func() error { return s.claim(ctx, o, op, without(op.Claims, o.Claims)) },
		func() error {
			if op.Collection == o.Collection {
				return nil
			}
			// Whoever has the claim then, these documents are not the
			// organization's.
			return s.refuseUnlessEmpty(ctx, o.Database, op.Collection)
		},
	)
	if err != nil {
		return o, err
	}
	if password != nil {
		var err error
		if op.PasswordHash, err = s.Passwords.Hash(*password); err != nil {
			return o, err
		}
	}
	if err := s.lease(&op); err != nil {
		return o, err
	}
	o.Operation = &op
	if err := s.write(ctx, &o); err != nil {
		return o, err
	}
	return s.forward(ctx, o)
}

// forward carries out what the journal of an Updating operation says, from
// whatever point it had come to.
func (s *Service) forward(ctx context.Context, o Organization) (Organization, error) {
	op := o.Operation
	if err := s.lease(op); err != nil {
		return o, err
	}
	err := s.move(ctx, o)
	if err == nil && op.AdminID != "" {
		err = s.Store.UpdateAdmin(ctx, Admin{
			ID: op.AdminID, OrganizationID: o.ID, Email: op.Email, PasswordHash: op.PasswordHash,
			TokenVersion: op.TokenVersion, UpdatedAt: op.StartedAt,
		})
	}
	if errors.Is(err, ErrUnavailable) {
		return o, err
	}
	if err != nil {
		return s.rollBack(ctx, o, err)
	}
	old := without(o.Claims, op.Claims)
	o.Name, o.Key, o.Collection, o.Claims = op.Name, op.Key, op.Collection, op.Claims
	o.UpdatedAt = op.StartedAt
	if m := o.member(op.AdminID); m != nil {
		o.Admins = slices.Clone(o.Admins)
		o.member(op.AdminID).TokenVersion = op.TokenVersion
	}
	if err := s.commit(ctx, &o); err != nil {
		return o, err
	}
	s.releaseOld(ctx, o.ID, old, op.Revision)
	return o, nil
}

// releaseOld releases what an operation that is committed, and began at the
// revision, has replaced. A failure changes nothing for the client: reconcile,
// or whoever wants one of the claims, releases it later.
func (s *Service) releaseOld(ctx context.Context, organizationID string, ids []string, revision int64) {
	if len(ids) == 0 {
		return
	}
	err := s.Store.ReleaseOldClaims(ctx, organizationID, ids, revision)
	if errors.Is(err, ErrUnavailable) {
		err = s.Store.ReleaseOldClaims(ctx, organizationID, ids, revision)
	}
	if err != nil {
		s.log().WarnContext(ctx, "old claims not released", "organization_id", organizationID, "error", err)
	}
}

// move renames the organization's collection unless that is done.
func (s *Service) move(ctx context.Context, o Organization) error {
	from, to := o.Collection, o.Operation.Collection
	if from == to {
		return nil
	}
	err := s.Store.RenameCollection(ctx, o.Database, from, to)
	if !errors.Is(err, ErrNotFound) && !errors.Is(err, ErrConflict) {
		return err
	}
	fromExists, err := s.Store.CollectionExists(ctx, o.Database, from)
	if err != nil {
		return err
	}
	toExists, err := s.Store.CollectionExists(ctx, o.Database, to)
	if err != nil {
		return err
	}
	switch {
	case fromExists && toExists:
		empty, err := s.Store.CollectionIsEmpty(ctx, o.Database, to)
		if err != nil {
			return err
		}
		if !empty {
			// There were no documents when the operation began, and nobody
			// else has the claim: the collection was moved, and the one of
			// the old name was made by a late write.
			s.log().ErrorContext(ctx, "collection was written to under its old name",
				"organization_id", o.ID, "collection", from)
			return nil
		}
		if err := s.lease(o.Operation); err != nil {
			return err
		}
		if err := s.Store.DropCollection(ctx, o.Database, to); err != nil {
			return err
		}
		return s.Store.RenameCollection(ctx, o.Database, from, to)
	case toExists:
		return nil
	case fromExists: // and the other one went away meanwhile
		return s.Store.RenameCollection(ctx, o.Database, from, to)
	}
	s.log().ErrorContext(ctx, "collection was missing and has been made anew",
		"organization_id", o.ID, "collection", from)
	return s.Store.CreateCollection(ctx, o.Database, to)
}

// rollBack undoes an Updating operation, and returns the cause, which is why it
// can't go forward. Once the admin is changed, nothing is undone.
func (s *Service) rollBack(ctx context.Context, o Organization, cause error) (Organization, error) {
	op := o.Operation
	if op.AdminID != "" {
		admin, err := s.Store.Admin(ctx, o.ID, op.AdminID)
		if err != nil {
			return o, err
		}
		if admin.TokenVersion >= op.TokenVersion {
			return o, cause
		}
	}
	if op.Collection != o.Collection {
		exists, err := s.Store.CollectionExists(ctx, o.Database, o.Collection)
		if err == nil {
			err = s.lease(op)
		}
		if err == nil && !exists {
			err = s.Store.RenameCollection(ctx, o.Database, op.Collection, o.Collection)
		}
		if err != nil {
			return o, err
		}
	}
	o.Operation = nil
	if err := s.write(ctx, &o); err != nil {
		return o, err
	}
	if err := s.Store.ReleaseClaimsOf(ctx, o.ID, op.ID, o.Claims); err != nil {
		return o, err
	}
	return o, cause
}

// Delete deletes the caller's organization with everything in it, and returns
// it as it was, with the time of the deletion as UpdatedAt. A confirmation
// that isn't nil must name the organization. Its errors are ErrInvalid,
// ErrUnauthenticated, ErrForbidden when the confirmation names another
// organization, ErrConflict and ErrUnavailable.
func (s *Service) Delete(ctx context.Context, caller auth.Caller, confirmation *string) (Organization, error) {
	var confirmed Name
	if confirmation != nil {
		var err error
		if confirmed, err = ParseName(*confirmation); err != nil {
			return Organization{}, invalid([]FieldError{{Field: "organization_name", Message: err.Error()}})
		}
	}
	o, err := s.authorize(ctx, caller)
	if err != nil {
		return Organization{}, err
	}
	if confirmation != nil && confirmed.Slug != o.Key {
		return Organization{}, refuse(Forbidden, "organization_name does not name the organization of the access token")
	}
	if o.Operation != nil {
		return Organization{}, errBusy
	}
	now := s.now()
	op := Operation{ID: s.Store.NewID(), Kind: Removing, StartedAt: now, TouchedAt: now}
	o.Operation, o.UpdatedAt = &op, now
	deleted := o
	if err := s.condemn(ctx, &o); err != nil {
		return s.recover(ctx, deleted, op, err)
	}
	if err := s.remove(ctx, o); err != nil {
		return s.recover(ctx, deleted, op, err)
	}
	return deleted, nil
}

// condemn ends an organization for everybody who looks for it. What belongs
// to it is still there, and claimed.
func (s *Service) condemn(ctx context.Context, o *Organization) error {
	o.Status = Deleting
	o.Key = "deleting:" + o.ID // no slug has a colon
	return s.write(ctx, o)
}

// remove deletes what belongs to a condemned organization, and at last its
// record.
func (s *Service) remove(ctx context.Context, o Organization) error {
	if err := s.lease(o.Operation); err != nil {
		return err
	}
	if err := s.dropCollection(ctx, o); err != nil {
		return err
	}
	if err := s.Store.DeleteAdmins(ctx, o.ID); err != nil {
		return err
	}
	if err := s.Store.DeleteSessions(ctx, o.ID); err != nil {
		return err
	}
	if err := s.Store.ReleaseAllClaims(ctx, o.ID); err != nil {
		return err
	}
	return s.Store.DeleteOrganization(ctx, o.ID, o.Revision)
}

// dropCollection drops the organization's collection, which is the one of
// that name only as long as the claim on the name is the organization's. If
// the organization never became active, nobody can have put documents there
// for it: those that are there are not its own and stay.
func (s *Service) dropCollection(ctx context.Context, o Organization) error {
	owns, err := s.owns(ctx, o.ID, o.Collection)
	if err != nil || !owns {
		return err
	}
	if o.Operation.Kind == Creating {
		empty, err := s.Store.CollectionIsEmpty(ctx, o.Database, o.Collection)
		if err != nil {
			return err
		}
		if !empty {
			s.log().ErrorContext(ctx, "collection holds documents of nobody and was left",
				"organization_id", o.ID, "collection", o.Collection)
			return nil
		}
	}
	if err := s.lease(o.Operation); err != nil {
		return err
	}
	return s.Store.DropCollection(ctx, o.Database, o.Collection)
}

// owns reports whether the organization has the claim.
func (s *Service) owns(ctx context.Context, organizationID, claimID string) (bool, error) {
	claim, err := s.Store.Claim(ctx, claimID)
	if errors.Is(err, ErrNotFound) {
		return false, nil
	}
	return claim.OrganizationID == organizationID, err
}

// write replaces the record of o, whose revision it counts up. That the
// record has another revision by now is errBusy.
func (s *Service) write(ctx context.Context, o *Organization) error {
	ok, err := s.Store.ReplaceOrganization(ctx, *o)
	if err != nil {
		return err
	}
	if !ok {
		return errBusy
	}
	o.Revision++
	return nil
}

// commit writes o as it is after its operation.
func (s *Service) commit(ctx context.Context, o *Organization) error {
	o.Committed = o.Operation.ID
	o.Operation = nil
	return s.write(ctx, o)
}

// lease tells whoever works on an operation whether it may go on. After the
// lease it may not, since others may have taken the operation over and the
// names in it may have become somebody else's.
func (s *Service) lease(op *Operation) error {
	if age := s.now().Sub(op.TouchedAt); age > leaseTime {
		return &Error{Kind: Unavailable, Message: "the change took too long", RetryAfter: StaleAfter,
			Err: fmt.Errorf("operation %s began %v ago", op.ID, age)}
	}
	return nil
}

// claim takes the claims for an operation of o, or returns ErrConflict.
func (s *Service) claim(ctx context.Context, o Organization, op Operation, ids []string) error {
	var claims []Claim
	for _, id := range ids {
		claims = append(claims, Claim{
			ID: id, OrganizationID: o.ID, OperationID: op.ID, Revision: o.Revision, ClaimedAt: op.StartedAt,
		})
	}
	for range claimAttempts {
		if len(claims) == 0 {
			return nil
		}
		taken, err := s.Store.InsertClaims(ctx, claims)
		if err != nil || taken == "" {
			return err
		}
		claims = claims[slices.IndexFunc(claims, func(c Claim) bool { return c.ID == taken }):]
		mine, err := s.contest(ctx, claims[0])
		if err != nil {
			return err
		}
		if mine {
			claims = claims[1:]
		}
	}
	return errBusy
}

// contest finds out whether somebody who holds the claim that c wants has a
// right to it. If so, it returns ErrConflict. If not, it reports whether the
// claim is c's now; otherwise it may be tried for again.
func (s *Service) contest(ctx context.Context, c Claim) (mine bool, err error) {
	holder, err := s.Store.Claim(ctx, c.ID)
	if errors.Is(err, ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	stale := s.stale(holder.ClaimedAt)
	if holder.OrganizationID == c.OrganizationID {
		switch {
		case holder.OperationID == c.OperationID:
			return true, nil
		case holder.Revision < c.Revision, holder.Revision == c.Revision && stale:
			// A claim of an operation that is over, on its way to be
			// released; or of one that did not come to its journal.
			return s.Store.RetakeClaim(ctx, holder, c)
		}
		return false, errBusy
	}
	taken := refuse(Conflict, "the organization name is taken")
	if strings.HasPrefix(c.ID, emailClaimPrefix) {
		taken = refuse(Conflict, "the email is taken")
	}
	owner, err := s.Store.Organization(ctx, holder.OrganizationID)
	if err == nil && owner.Operation != nil && s.stale(owner.Operation.TouchedAt) {
		err := s.repair(ctx, owner)
		if err == nil || errors.Is(err, ErrUnavailable) {
			return false, err
		}
		if !errors.Is(err, ErrConflict) {
			s.log().ErrorContext(ctx, "operation not repaired", "organization_id", owner.ID, "error", err)
		}
		return false, taken
	}
	if err != nil && !errors.Is(err, ErrNotFound) {
		return false, err
	}
	if stale && (err != nil || !owner.uses(c.ID)) {
		return false, s.releaseUnused(ctx, holder)
	}
	return false, taken
}

// releaseUnused releases a stale claim if its organization has no use for it.
func (s *Service) releaseUnused(ctx context.Context, c Claim) error {
	o, err := s.Store.Organization(ctx, c.OrganizationID)
	switch {
	case errors.Is(err, ErrNotFound):
	case err != nil:
		return err
	case o.Operation != nil || o.uses(c.ID):
		return nil
	default:
		// An operation that took the claim and has been asleep since must
		// find another revision when it wants to write its journal.
		if err := s.write(ctx, &o); err != nil {
			return err
		}
	}
	return s.Store.ReleaseClaim(ctx, c)
}

// stale reports whether what was last touched at t has been left by whoever
// did.
func (s *Service) stale(t time.Time) bool { return s.now().Sub(t) >= StaleAfter }

// settle finishes or undoes an operation on o that was left, and returns o as
// it is then. An operation under way stays.
func (s *Service) settle(ctx context.Context, o Organization) (Organization, error) {
	if o.Operation == nil || !s.stale(o.Operation.TouchedAt) {
		return o, nil
	}
	err := s.repair(ctx, o)
	if errors.Is(err, ErrUnavailable) {
		return o, err
	}
	if err != nil && !errors.Is(err, ErrConflict) {
		s.log().ErrorContext(ctx, "operation not repaired", "organization_id", o.ID, "error", err)
	}
	return s.Store.Organization(ctx, o.ID)
}

// repair takes a stale operation over and finishes it, or undoes the creation
// of an organization. If somebody else does, it returns errBusy.
func (s *Service) repair(ctx context.Context, o Organization) error {
	op := *o.Operation
	op.TouchedAt = s.now()
	o.Operation = &op
	if op.Kind == Updating {
		if err := s.write(ctx, &o); err != nil {
			return err
		}
		_, err := s.resume(ctx, o)
		return err
	}
	if err := s.condemn(ctx, &o); err != nil {
		return err
	}
	return s.remove(ctx, o)
}

// resume goes on with an Updating operation that may have been interrupted
// anywhere.
func (s *Service) resume(ctx context.Context, o Organization) (Organization, error) {
	for _, id := range []string{o.Collection, o.Operation.Collection} {
		owns, err := s.owns(ctx, o.ID, id)
		if err != nil {
			return o, err
		}
		if !owns {
			return o, fmt.Errorf("organization %s: operation %s: the claim on %q is not its own", o.ID, o.Operation.ID, id)
		}
	}
	return s.forward(ctx, o)
}

// recover is what an operation does about its own failure: if the database
// answers again it looks how far the operation has come and, at once, undoes
// it, or finishes it if it is past the journal. It returns what Create, Update
// and Delete do. What it can't do, reconcile will.
func (s *Service) recover(ctx context.Context, o Organization, op Operation, cause error) (Organization, error) {
	if err := s.lease(&op); err != nil {
		return Organization{}, err // others decide what became of it
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), recoverTime)
	defer cancel()
	current, err := s.Store.Organization(ctx, o.ID)
	switch {
	case errors.Is(err, ErrNotFound) && op.Kind == Removing:
		return o, nil
	case errors.Is(err, ErrNotFound):
		err = s.Store.ReleaseClaimsOf(ctx, o.ID, op.ID, nil)
	case err != nil:
	case current.Committed == op.ID:
		s.releaseOld(ctx, o.ID, without(o.Claims, current.Claims), op.Revision)
		return current, nil
	case current.Operation == nil || current.Operation.ID != op.ID:
		// Either it did not come to its journal, or it was committed and
		// another one after it.
		if op.Kind == Updating && current.Revision == op.Revision && errors.Is(cause, ErrUnavailable) {
			// Its journal may still be on the way. It must not arrive.
			if err = s.write(ctx, &current); err != nil {
				break
			}
		}
		s.releaseOld(ctx, o.ID, slices.DeleteFunc(slices.Clone(o.Claims), current.uses), op.Revision)
		err = s.Store.ReleaseClaimsOf(ctx, o.ID, op.ID, current.Claims)
	case op.Kind == Updating:
		if current, err = s.resume(ctx, current); err == nil {
			return current, nil
		}
	case op.Kind == Creating:
		if err = s.condemn(ctx, &current); err == nil {
			err = s.remove(ctx, current)
		}
	case op.Kind == Removing:
		if err = s.remove(ctx, current); err == nil {
			return o, nil
		}
	}
	if err != nil {
		s.log().WarnContext(ctx, "operation left to reconcile",
			"organization_id", o.ID, "operation", op.Kind, "error", err)
	}
	return Organization{}, cause
}

// without returns what of a is not in b.
func without(a, b []string) []string {
	return slices.DeleteFunc(slices.Clone(a), func(s string) bool { return slices.Contains(b, s) })
}
