package org

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"math"
	"slices"
	"time"
)

// Admin is a person who logs in and acts for one or more organizations.
type Admin struct {
	ID             string
	OrganizationID string   // the one that a login was for last
	Organizations  []string // the ids of those that list the admin, and of some that no longer do, or will
	Email          string
	VerifiedEmail  string // the one that mails have arrived at; if it is not Email, that is not verified
	PasswordHash   string
	TokenVersion   int64             // tokens and sessions of any other version are invalid
	Revision       int64             // grows by one with every write of the record but of a new hash of the same password, and of OrganizationID
	Committed      string            // the id of the change that was committed last
	CommittedKey   string            // the id of its idempotency key; empty: it has none, or the organization's record has it
	Journaled      map[string]string // by organization, the id of the last change that its journal had
	CreatedAt      time.Time
	UpdatedAt      time.Time
	Asleep         bool // only deleted organizations list the admin, who has no claim on the email
	Outdated       bool // an older version has written the record, without all fields; the next write adds them
}

// owner returns the admin as the owner of claims.
func (a *Admin) owner() Owner { return Owner{AdminID: a.ID} }

// uses reports whether the admin has the right to the claim.
func (a *Admin) uses(claimID string) bool { return !a.Asleep && emailClaim(a.Email) == claimID }

// adminChange is a change of an admin's email or password. It ends all sessions.
type adminChange struct {
	id           string // of the change
	key          string // the id of its idempotency key, if no journal has it
	journalOf    string // the id of the organization whose operation it is a part of; may be empty
	email        string // empty: does not change
	passwordHash string // empty: does not change
	at           time.Time
}

// after returns the admin after the change.
func (c adminChange) after(a Admin) Admin {
	a.Email, a.PasswordHash = cmp.Or(c.email, a.Email), cmp.Or(c.passwordHash, a.PasswordHash)
	a.TokenVersion++
	a.Committed, a.CommittedKey, a.UpdatedAt = c.id, c.key, c.at
	if c.journalOf != "" {
		a.Journaled = maps.Clone(a.Journaled)
		maps.DeleteFunc(a.Journaled, func(id, _ string) bool { return !slices.Contains(a.Organizations, id) })
		if a.Journaled == nil {
			a.Journaled = map[string]string{}
		}
		a.Journaled[c.journalOf] = c.id
	}
	return a
}

// claims returns the claims that the change needs of the admin as it was read. As
// long as the admin has that revision, nobody else can get them.
func (c adminChange) claims(a Admin, now time.Time) []Claim {
	if c.email == "" {
		return nil
	}
	return []Claim{{ID: emailClaim(c.email), Owner: a.owner(), Revision: a.Revision, ClaimedAt: now}}
}

// changeAdmin makes the change of the admin. Once the claims are won, it calls prepare
// for the hash of the new password, which is empty if there is none. It calls proven at
// the same time as the database, to save a round trip. Its errors are ErrConflict if the email is taken or the admin has changed since it was read,
// and ErrUnavailable.
func (s *Service) changeAdmin(ctx context.Context, a Admin, c adminChange, prepare func() (passwordHash string, err error), proven func() error) error {
	err := concurrently(func() error { return s.claim(ctx, c.claims(a, c.at)) }, proven)
	if err == nil {
		c.passwordHash, err = prepare()
	}
	if err == nil {
		err = s.tellChanged(ctx, a)
	}
	if err == nil {
		var next Admin
		if next, err = s.writeAdmin(ctx, a, c.after(a)); err == nil {
			return s.afterChange(ctx, next)
		}
	}
	return s.afterAdminFailure(ctx, a, c.id, err)
}

// afterChange does what is left after a change of the admin. When it is over, no
// request that was allowed by an earlier token can change an organization any more,
// even if its process has slept since.
func (s *Service) afterChange(ctx context.Context, a Admin) error {
	err := concurrently(
		func() error { s.releaseAdminLater(ctx, a); return nil },
		func() error {
			err := s.Store.FenceOrganizations(ctx, a.Organizations)
			if errors.Is(err, ErrUnavailable) {
				err = s.Store.FenceOrganizations(ctx, a.Organizations)
			}
			return err
		},
	)
	return leftOver(unlessUndone(err))
}

// refusedChange is the error of forwardAdmin if it is known that the operation has
// not changed the admin and can't.
type refusedChange struct{ cause error }

func (r refusedChange) Error() string { return r.cause.Error() }

// forwardAdmin makes the change of the admin that the journal of o has, and returns
// the admin after it. claimed is as in forward.
func (s *Service) forwardAdmin(ctx context.Context, o Organization, claimed Admin) (Admin, error) {
	op, a := o.Operation, claimed
	change := op.adminChange(o.ID)
	for range recoverAttempts {
		if a.ID == "" {
			var err error
			a, err = s.Store.Admin(ctx, op.AdminID)
			switch {
			case errors.Is(err, ErrNotFound):
				return a, refusedChange{errBusy}
			case err != nil || op.changed(a, o.ID):
				return a, err
			case a.TokenVersion+1 != op.TokenVersion: // another request has changed the admin
				return a, refusedChange{errBusy}
			}
			// Whoever takes the operation over and undoes it writes the admin after that.
			// So if this process still has the operation now, the write below fails then.
			current, err := s.Store.Organization(ctx, o.ID)
			if errors.Is(err, ErrNotFound) || err == nil && current.Revision != o.Revision {
				err = errOvertaken
			}
			if err != nil {
				return a, err
			}
			if !slices.Contains(op.Claims, emailClaim(op.Email)) { // an older version has claimed it for the organization
				err = s.claim(ctx, change.claims(a, s.now()))
			}
			if u := (undoneError{}); errors.As(err, &u) {
				err = u.cause
			}
			switch {
			case errors.Is(err, errBusy):
				a = Admin{}
				continue
			case errors.Is(err, ErrConflict):
				return a, refusedChange{err}
			case err != nil:
				return a, err
			}
		}
		if err := s.tellChanged(ctx, a); err != nil {
			return a, err
		}
		next, err := s.writeAdmin(ctx, a, change.after(a))
		if !errors.Is(err, errBusy) {
			return next, err
		}
		a = Admin{}
	}
	return a, errOvertaken
}

// stopChange releases what the operation has claimed for its admin, and makes sure
// that a late command of the operation can't change the admin. It reports whether the
// operation has changed the admin already; then it does nothing.
func (s *Service) stopChange(ctx context.Context, o Organization, op Operation) (changed bool, err error) {
	a, err := s.Store.Admin(ctx, op.AdminID)
	switch {
	case errors.Is(err, ErrNotFound):
		return false, s.releaseAllOf(ctx, Owner{AdminID: op.AdminID})
	case err != nil || op.changed(a, o.ID):
		return err == nil, err
	}
	return false, s.releaseUnusedOf(ctx, a, a.Revision)
}

// writeAdmin replaces the record of an admin by next if it still has the revision
// of seen. It returns next with its new revision, or errBusy if it has changed.
func (s *Service) writeAdmin(ctx context.Context, seen, next Admin) (Admin, error) {
	ok, err := s.Store.ReplaceAdmin(ctx, seen, next)
	if err == nil && !ok {
		err = errBusy
	}
	if err != nil {
		return seen, err
	}
	next.Revision = seen.Revision + 1
	return next, nil
}

// afterAdminFailure cleans up after a change of the admin that has failed with the
// cause, as afterFailure does. Its error is nil if the change is committed.
func (s *Service) afterAdminFailure(ctx context.Context, seen Admin, changeID string, cause error) error {
	if u := (undoneError{}); errors.As(cause, &u) {
		return u.cause
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cmp.Or(s.RecoverTime, recoverTime))
	defer cancel()
	err := error(errBusy)
	for i := 0; i < recoverAttempts && errors.Is(err, errBusy); i++ {
		var current Admin
		current, err = s.Store.Admin(ctx, seen.ID)
		switch {
		case errors.Is(err, ErrNotFound):
			err = s.releaseAllOf(ctx, seen.owner())
		case err == nil && current.Committed == changeID:
			return s.afterChange(ctx, current)
		case err == nil:
			err = s.releaseUnusedOf(ctx, current, seen.Revision)
		}
	}
	if err == nil {
		return cause
	}
	s.log().WarnContext(ctx, "claims left to reconcile", "admin_id", seen.ID, "error", err)
	return leftOver(unlessUndone(cause))
}

// releaseUnusedOf releases the claims that the admin made at the revision or below,
// and does not use. A change that began at the revision fails afterwards.
func (s *Service) releaseUnusedOf(ctx context.Context, a Admin, revision int64) error {
	if a.Revision <= revision {
		var err error
		if a, err = s.writeAdmin(ctx, a, a); err != nil {
			return err
		}
	}
	return s.releaseAdmin(ctx, a)
}

// releaseAdmin gives up the claims that the admin made below its revision and does
// not use. No late command can do harm to the next owner of an email, so they need
// no rest.
func (s *Service) releaseAdmin(ctx context.Context, a Admin) error {
	keep := []string{emailClaim(a.Email)}
	if a.Asleep {
		keep = nil
	}
	return s.Store.ReleaseClaims(ctx, a.owner(), a.Revision, keep)
}

// releaseAllOf gives up all claims of admins that have no record.
func (s *Service) releaseAllOf(ctx context.Context, owners ...Owner) error {
	var releases []func() error
	for _, owner := range owners {
		releases = append(releases, func() error { return s.Store.ReleaseClaims(ctx, owner, math.MaxInt64, nil) })
	}
	return someAtOnce(releases)
}

// releaseAdminLater is releaseLater for an admin.
func (s *Service) releaseAdminLater(ctx context.Context, a Admin) {
	s.untilReleased(ctx, func() error { return s.releaseAdmin(ctx, a) })
}

// join puts the organization on the record of the admin, before the organization
// lists the admin. It changes the record even if the organization is there already,
// so that nobody removes the admin because no organization lists it. Its errors are
// errRevoked if the admin's tokens have changed since it was read, errOvertaken and
// ErrUnavailable. If the email of a is verified, the one on the record is, too.
func (s *Service) join(ctx context.Context, a Admin, organizationID string) error {
	seen := a
	for range recoverAttempts {
		next := a
		next.UpdatedAt = s.now()
		if seen.Verified() {
			next.VerifiedEmail = seen.VerifiedEmail
		}
		if !slices.Contains(a.Organizations, organizationID) {
			next.Organizations = append(slices.Clone(a.Organizations), organizationID)
		}
		_, err := s.writeAdmin(ctx, a, next)
		if !errors.Is(err, errBusy) {
			return err
		}
		a, err = s.Store.Admin(ctx, a.ID)
		if errors.Is(err, ErrNotFound) || err == nil && (a.TokenVersion != seen.TokenVersion || a.Asleep) {
			err = errRevoked
		}
		if err != nil {
			return err
		}
	}
	return errOvertaken
}

// removeOrphan removes an admin whom no organization lists, and puts to sleep one whom only
// deleted ones list, unless another one does by now. None of them can list the admin
// afterwards without a change of the admin. Its error is errBusy if the admin has changed.
func (s *Service) removeOrphan(ctx context.Context, a Admin) error {
	if err := s.Store.FenceOrganizations(ctx, a.Organizations); err != nil {
		return err
	}
	needed, listed, err := s.isListed(ctx, a)
	if err != nil || needed {
		return err
	}
	if listed {
		return s.putToSleep(ctx, a)
	}
	if err := s.Store.DeleteAdmin(ctx, a.ID, a.Revision); err != nil {
		return err
	}
	_, err = s.Store.Admin(ctx, a.ID)
	if errors.Is(err, ErrNotFound) {
		return s.releaseAllOf(ctx, a.owner())
	}
	if err == nil {
		err = errBusy
	}
	return err
}

// isListed finishes the stale operations of the admin's organizations, and reports
// whether one of them lists the admin then, and whether one does that lives.
func (s *Service) isListed(ctx context.Context, a Admin) (needed, listed bool, err error) {
	for _, id := range a.Organizations {
		o, err := s.Store.Organization(ctx, id)
		if err == nil {
			o, err = s.finishStale(ctx, o)
		}
		if err != nil && !errors.Is(err, ErrNotFound) {
			return false, false, err
		}
		if err == nil && o.member(a.ID) != nil {
			needed, listed = needed || o.lives(), true
		}
	}
	return needed, listed, nil
}

// putToSleep takes the email from an admin whom only deleted organizations list.
func (s *Service) putToSleep(ctx context.Context, a Admin) (err error) {
	if !a.Asleep {
		next := a
		next.Asleep, next.UpdatedAt = true, s.now()
		a, err = s.writeAdmin(ctx, a, next)
	}
	if err == nil {
		err = s.releaseAdmin(ctx, a)
	}
	return err
}

// wake gives an admin who is asleep the email again. It reports whether the admin is awake:
// not if there is no record any more, or somebody else has the email. Its errors are
// errBusy and ErrUnavailable.
func (s *Service) wake(ctx context.Context, id string) (bool, error) {
	for range recoverAttempts {
		a, err := s.Store.Admin(ctx, id)
		if errors.Is(err, ErrNotFound) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		now := s.now()
		if a.Asleep {
			err = s.claim(ctx, adminChange{email: a.Email}.claims(a, now))
		}
		if err == nil {
			// Also who is awake is written: whoever has read that and is about to put the admin to
			// sleep must fail.
			next := a
			next.Asleep, next.UpdatedAt = false, now
			_, err = s.writeAdmin(ctx, a, next)
		}
		if u := (undoneError{}); errors.As(err, &u) {
			err = u.cause
		}
		switch {
		case errors.Is(err, errBusy):
		case errors.Is(err, ErrConflict):
			return false, nil
		default:
			return err == nil, err
		}
	}
	return false, errBusy
}

// endUnlessNeeded removes the admin, or puts it to sleep, unless an organization that lives lists
// it.
func (s *Service) endUnlessNeeded(ctx context.Context, adminID string) error {
	err := error(errBusy)
	for i := 0; i < recoverAttempts && errors.Is(err, errBusy); i++ {
		var a Admin
		if a, err = s.Store.Admin(ctx, adminID); errors.Is(err, ErrNotFound) {
			return nil
		}
		var all []Organization
		if err == nil {
			all, err = s.Store.OrganizationsByID(ctx, a.Organizations)
		}
		if err != nil || slices.ContainsFunc(all, func(o Organization) bool { return o.lives() && o.member(a.ID) != nil }) {
			return err
		}
		err = s.removeOrphan(ctx, a)
	}
	return err
}

// leave takes an organization that does not list the admin from the admin's record,
// unless one of them has changed.
func (s *Service) leave(ctx context.Context, a Admin, organizationID string) error {
	if err := s.Store.FenceOrganizations(ctx, []string{organizationID}); err != nil {
		return err
	}
	o, err := s.Store.Organization(ctx, organizationID)
	if err == nil && o.member(a.ID) != nil {
		return errBusy
	}
	if err != nil && !errors.Is(err, ErrNotFound) {
		return err
	}
	next := a
	next.Organizations = slices.DeleteFunc(slices.Clone(a.Organizations), func(id string) bool { return id == organizationID })
	_, err = s.writeAdmin(ctx, a, next)
	return err
}

// adopt gives the claim to the admin's email, which an older version has given to
// the organization, to the admin. The organization has no operation under way.
func (s *Service) adopt(ctx context.Context, o Organization, a Admin) (Organization, error) {
	id := emailClaim(a.Email)
	switch {
	case !o.uses(id):
		return o, nil // it is adopted, or the admin that was read is older than o
	case o.Operation != nil:
		return o, errBusy
	}
	mine := Claim{ID: id, Owner: a.owner(), Revision: a.Revision, ClaimedAt: s.now()}
	made := false
	held, err := s.Store.Claim(ctx, id)
	switch {
	case errors.Is(err, ErrNotFound):
		var taken string
		taken, err = s.Store.InsertClaims(ctx, []Claim{mine})
		made = taken == ""
	case err == nil && held.OrganizationID == o.ID:
		made, err = s.Store.ReplaceClaim(ctx, held, mine)
	}
	if err != nil {
		return o, err
	}
	next := o
	next.Claims = without(o.Claims, []string{id})
	next, err = s.write(ctx, o, next)
	if errors.Is(err, errBusy) && made { // the admin may be gone, and the claim be made after that
		if err := s.releaseUnused(ctx, mine); err != nil {
			return o, err
		}
	}
	return next, err
}
