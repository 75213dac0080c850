package org

import (
	"context"
	"errors"
	"math"
	"slices"
	"strings"
	"time"
)

// claimAttempts is how often an operation tries to get a claim that others
// release at the same time.
const claimAttempts = 4

// newClaims returns claims that are to be made for an operation that begins at the
// record of the organization.
func (o *Organization) newClaims(ids []string, now time.Time) (claims []Claim) {
	for _, id := range ids {
		claims = append(claims, Claim{ID: id, Owner: Owner{OrganizationID: o.ID}, Revision: o.Revision, ClaimedAt: now})
	}
	return claims
}

// claim makes the claims. Its error is ErrConflict if others have one of them, and
// it is an undoneError if no claim was made.
func (s *Service) claim(ctx context.Context, claims []Claim) error {
	made := false
	for range claimAttempts {
		if len(claims) == 0 {
			return nil
		}
		taken, err := s.Store.InsertClaims(ctx, claims)
		if err != nil || taken == "" {
			return err
		}
		i := slices.IndexFunc(claims, func(c Claim) bool { return c.ID == taken })
		made = made || i > 0
		claims = claims[i:]
		mine, err := s.resolveClaim(ctx, claims[0])
		if err != nil && !made && !errors.Is(err, ErrUnavailable) {
			return undoneError{err}
		}
		if err != nil {
			return err
		}
		if mine {
			made = true
			claims = claims[1:]
		}
	}
	return errBusy
}

// resolveClaim looks at the claim that stands where c is to be made. It returns
// ErrConflict if its owner has a right to it. Otherwise it reports whether the
// claim is c now; if it is not, c may be tried again.
func (s *Service) resolveClaim(ctx context.Context, c Claim) (mine bool, err error) {
	holder, err := s.Store.Claim(ctx, c.ID)
	if errors.Is(err, ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	taken, given := takenErrors(c.ID)
	own, resting := holder.Owner == c.Owner, !holder.RestingSince.IsZero()
	switch {
	case own && holder.Revision > c.Revision:
		return false, errBusy // the operation of c can't write its journal any more
	case resting && !s.stale(holder.RestingSince):
		// Not even its organization may have it: a late command could rename
		// its collection once more.
		return false, given
	case own && !resting && holder.Revision == c.Revision:
		return true, nil // the first operation to write its journal gets it
	case own, resting:
		return s.Store.ReplaceClaim(ctx, holder, c)
	}
	if holder.AdminID != "" {
		return false, s.resolveClaimOfAdmin(ctx, holder, taken)
	}
	owner, err := s.Store.Organization(ctx, holder.OrganizationID)
	switch {
	case err != nil && !errors.Is(err, ErrNotFound):
		return false, err
	case err == nil && owner.Operation != nil && s.stale(owner.Operation.TouchedAt):
		if _, err := s.finishStale(ctx, owner); !errors.Is(err, ErrNotFound) {
			return false, err
		}
		return false, nil // it was deleted
	case err == nil && owner.uses(c.ID), !s.stale(holder.ClaimedAt):
		return false, taken
	}
	return false, s.releaseUnused(ctx, holder)
}

// resolveClaimOfAdmin releases a claim of an admin who has no right to it. It returns
// taken if the admin has, or may get it.
func (s *Service) resolveClaimOfAdmin(ctx context.Context, holder Claim, taken error) error {
	a, err := s.Store.Admin(ctx, holder.AdminID)
	if err == nil && a.uses(holder.ID) {
		needed, _, err := s.isListed(ctx, a)
		switch {
		case err != nil:
			return err
		case needed, !s.stale(a.UpdatedAt):
			return taken
		}
		return s.removeOrphan(ctx, a)
	}
	if err != nil && !errors.Is(err, ErrNotFound) {
		return err
	}
	if !s.stale(holder.ClaimedAt) {
		return taken
	}
	return s.releaseUnused(ctx, holder)
}

// takenErrors returns the refusals of a claim that another organization has, and
// of one that it has given up a moment ago.
func takenErrors(id string) (taken, given *Error) {
	if isEmailClaim(id) {
		taken = refuse(Conflict, EmailTaken, "the email is taken: emails are compared without case")
		given = refuse(Conflict, EmailTaken, "the email was given up a moment ago and can be had in a minute: emails are compared without case")
	} else {
		slug := strings.TrimPrefix(id, CollectionPrefix)
		taken = refuse(Conflict, NameTaken, "the organization name is taken").withSlug(slug)
		given = refuse(Conflict, NameTaken, "the organization name was given up a moment ago and can be had in a minute").withSlug(slug)
	}
	given.RetryAfter = StaleAfter
	return taken, given
}

// release gives up the claims that the organization made below the revision of
// the record o and that o does not use. An operation that claims one of them
// again does so at the revision of o or above, so its claim stays.
func (s *Service) release(ctx context.Context, o Organization) error {
	return s.releaseBelow(ctx, o.ID, o.Revision, o.claimsInUse())
}

// releaseAll gives up all claims of an organization that has no record, or whose
// record can't become active.
func (s *Service) releaseAll(ctx context.Context, organizationID string) error {
	return s.releaseBelow(ctx, organizationID, math.MaxInt64, nil)
}

func (s *Service) releaseBelow(ctx context.Context, organizationID string, below int64, keep []string) error {
	if s.Store.ChecksCollections() {
		return s.Store.ReleaseClaims(ctx, Owner{OrganizationID: organizationID}, below, keep)
	}
	// On this server a late command could change the collection of the next
	// owner of the name.
	return s.Store.RestClaims(ctx, organizationID, below, keep, s.now())
}

// releaseUnused releases a claim if its owner does not use it.
func (s *Service) releaseUnused(ctx context.Context, c Claim) error {
	if !c.RestingSince.IsZero() {
		return s.Store.DeleteClaim(ctx, c)
	}
	if c.AdminID != "" {
		a, err := s.Store.Admin(ctx, c.AdminID)
		if errors.Is(err, ErrNotFound) {
			return s.releaseAllOf(ctx, c.Owner)
		}
		if err != nil {
			return err
		}
		return s.releaseUnusedOf(ctx, a, c.Revision)
	}
	o, err := s.Store.Organization(ctx, c.OrganizationID)
	if errors.Is(err, ErrNotFound) {
		return s.releaseAll(ctx, c.OrganizationID)
	}
	if err != nil {
		return err
	}
	if c.Revision >= o.Revision {
		// The operation that made the claim may still write its journal. After
		// this write it can't.
		if o, err = s.write(ctx, o, o); err != nil {
			return err
		}
	}
	return s.release(ctx, o)
}
