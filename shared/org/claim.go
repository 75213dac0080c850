package org

import (
	"context"
	"errors"
	"math"
	"slices"
	"strings"
	"time"
)

// claimAttempts bounds how often a claim is tried for while others release it.
const claimAttempts = 4

// claim takes the claims for an operation of the organization that began at
// the revision. Its error is ErrConflict if others have one of them; it is an
// undone error if none was made.
func (s *Service) claim(ctx context.Context, organizationID string, revision int64, ids []string, now time.Time) error {
	var claims []Claim
	for _, id := range ids {
		claims = append(claims, Claim{ID: id, OrganizationID: organizationID, Revision: revision, ClaimedAt: now})
	}
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
			return undone{err}
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

// resolveClaim finds out whether the holder of the claim that c wants has a
// right to it. If so, it returns ErrConflict. If not, it reports whether the
// claim is c's now; otherwise it may be tried for again.
func (s *Service) resolveClaim(ctx context.Context, c Claim) (mine bool, err error) {
	holder, err := s.Store.Claim(ctx, c.ID)
	if errors.Is(err, ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	taken := refuse(Conflict, "the organization name is taken")
	if strings.HasPrefix(c.ID, emailClaimPrefix) {
		taken = refuse(Conflict, "the email is taken")
	}
	switch {
	case holder.OrganizationID == c.OrganizationID:
		switch {
		case holder.Revision > c.Revision:
			return false, errBusy // c's operation can't write its journal any more
		case holder.Revision == c.Revision && holder.RestingSince.IsZero():
			return true, nil // whichever operation writes its journal has it
		}
		return s.Store.ReplaceClaim(ctx, holder, c)
	case !holder.RestingSince.IsZero():
		if !s.stale(holder.RestingSince) {
			resting := *taken
			resting.Message = strings.Replace(taken.Message, "taken", "given up a moment ago: it can be had in a minute", 1)
			resting.RetryAfter = StaleAfter
			return false, &resting
		}
		return s.Store.ReplaceClaim(ctx, holder, c)
	}
	owner, err := s.Store.Organization(ctx, holder.OrganizationID)
	switch {
	case err != nil && !errors.Is(err, ErrNotFound):
		return false, err
	case err == nil && owner.Operation != nil && s.stale(owner.Operation.TouchedAt):
		if _, err := s.settle(ctx, owner); !errors.Is(err, ErrNotFound) {
			return false, err
		}
		return false, nil // it was deleted
	case err == nil && owner.uses(c.ID), !s.stale(holder.ClaimedAt):
		return false, taken
	}
	return false, s.releaseUnused(ctx, holder)
}

// release gives up the claims that the organization made before it had the
// revision of the record o and that o does not use. Whoever takes one of them
// for the organization again does so at o's revision or a later one.
func (s *Service) release(ctx context.Context, o Organization) error {
	return s.releaseBelow(ctx, o.ID, o.Revision, o.claimsInUse())
}

// releaseAll gives up the claims of an organization that has no record, or
// none that can become active.
func (s *Service) releaseAll(ctx context.Context, organizationID string) error {
	return s.releaseBelow(ctx, organizationID, math.MaxInt64, nil)
}

func (s *Service) releaseBelow(ctx context.Context, organizationID string, below int64, keep []string) error {
	if s.Store.ChecksCollections() {
		return s.Store.ReleaseClaims(ctx, organizationID, below, keep)
	}
	// A late command could hit the next owner of a name.
	return s.Store.RestClaims(ctx, organizationID, below, keep, s.now())
}

// releaseUnused releases a claim if its organization has no use for it.
func (s *Service) releaseUnused(ctx context.Context, c Claim) error {
	if !c.RestingSince.IsZero() {
		return s.Store.DeleteClaim(ctx, c)
	}
	o, err := s.Store.Organization(ctx, c.OrganizationID)
	if errors.Is(err, ErrNotFound) {
		return s.releaseAll(ctx, c.OrganizationID)
	}
	if err != nil {
		return err
	}
	if c.Revision >= o.Revision {
		// The operation that took the claim may write its journal yet.
		if o, err = s.write(ctx, o, o); err != nil {
			return err
		}
	}
	return s.release(ctx, o)
}
