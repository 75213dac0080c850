package org

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"orgservice/shared/auth"
)

// Membership is an organization as its member sees it.
type Membership struct {
	Organization
	Role  Role
	Since time.Time
}

// Memberships returns the organizations for which the caller may act, whose ids are
// greater than after, in the order of their ids and at most limit of them, and whether
// there are more. Its errors are ErrUnauthenticated and ErrUnavailable.
func (s *Service) Memberships(ctx context.Context, caller auth.Caller, after string, limit int) (memberships []Membership, more bool, err error) {
	_, admin, err := s.authorize(ctx, caller)
	if err != nil {
		return nil, false, err
	}
	all, err := s.Store.OrganizationsByID(ctx, admin.Organizations)
	if err != nil {
		return nil, false, err
	}
	slices.SortFunc(all, func(a, b Organization) int { return cmp.Compare(a.ID, b.ID) })
	for _, o := range all {
		if o.ID <= after || !o.mayAct(admin, admin.TokenVersion) {
			continue
		}
		if len(memberships) == limit {
			return memberships, true, nil
		}
		m := o.member(admin.ID)
		memberships = append(memberships, Membership{o, m.Role, m.Since})
	}
	return memberships, false, nil
}

// SwitchRequest is the body of a switch to another organization.
type SwitchRequest struct {
	OrganizationName string `json:"organization_name"`
}

// Validate returns what is wrong, field by field.
func (r SwitchRequest) Validate() []FieldError {
	_, fields := r.parse()
	return fields
}

func (r SwitchRequest) parse() (Name, []FieldError) { return parseNameField(r.OrganizationName) }

// Switch returns tokens of a new session for another organization of the caller, whose own
// session stays. The new one ends with the login that both come from. Its errors are ErrInvalid,
// ErrUnauthenticated, ErrNotFound if the caller has no organization of that name, and
// ErrUnavailable.
func (s *Service) Switch(ctx context.Context, caller auth.Caller, r SwitchRequest) (Tokens, error) {
	name, fields := r.parse()
	if err := invalid(fields); err != nil {
		return Tokens{}, err
	}
	var admin Admin
	var session Session
	var target Organization
	unknown := refuse(NotFound, OrganizationNotFound, "you have no organization of that name").withSlug(name.Slug)
	err := concurrently(
		func() (err error) { _, admin, err = s.authorize(ctx, caller); return err },
		func() (err error) {
			if session, err = s.Store.Session(ctx, caller.SessionID); errors.Is(err, ErrNotFound) || err == nil && !s.isAlive(session) {
				err = errRevoked
			}
			return err
		},
		func() (err error) {
			if target, err = s.Store.OrganizationByClaim(ctx, name.Collection()); errors.Is(err, ErrNotFound) {
				err = unknown
			}
			return err
		},
	)
	if err == nil {
		target, admin, err = s.settle(ctx, target, admin)
	}
	if errors.Is(err, ErrNotFound) || err == nil && !target.mayAct(admin, caller.TokenVersion) {
		err = unknown
	}
	if err != nil {
		return Tokens{}, err
	}
	from := Session{ExpiresAt: session.ExpiresAt, Client: session.Client, LoginID: cmp.Or(session.LoginID, session.ID)}
	tokens, err := s.begin(ctx, admin, target, from, func() error { return nil })
	if err != nil {
		return Tokens{}, err
	}
	// Who has ended the caller's session meanwhile did not see the new one.
	if _, err = s.Store.Session(ctx, caller.SessionID); errors.Is(err, ErrNotFound) {
		err = s.Logout(ctx, RefreshRequest{RefreshToken: tokens.Refresh})
		err = cmp.Or(err, error(errRevoked))
	}
	if err != nil {
		return Tokens{}, err
	}
	return tokens, nil
}
