package org

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Act is what an operator, who runs the service for all organizations, did to one of
// them.
type Act struct {
	ID     string
	Kind   ActKind
	By     string // the operator
	Reason string
	At     time.Time
}

// ActKind says what an operator did.
type ActKind string

// The kinds of acts.
const (
	Suspending   ActKind = "suspend"
	Reactivating ActKind = "reactivate"
)

const (
	maxReasonRunes = 500
	// maxHistory is how many acts a record keeps: the latest ones.
	maxHistory = 100
	// actAttempts is how often an act is tried again because the organization has
	// changed meanwhile. A tenant who changes it in a loop must not keep the operator
	// from suspending it.
	actAttempts = 20
)

var errUnknownID = refuse(NotFound, OrganizationNotFound, "there is no organization of that id")

// ActRequest is the body of a suspension, and of its end.
type ActRequest struct {
	Reason string `json:"reason"`
}

// Validate returns what is wrong, field by field.
func (r ActRequest) Validate() []FieldError {
	var fields fieldErrors
	switch {
	case strings.TrimSpace(r.Reason) == "":
		fields.add("reason", errors.New("is required"))
	case utf8.RuneCountInString(r.Reason) > maxReasonRunes:
		fields.add("reason", fmt.Errorf("must have at most %d characters", maxReasonRunes))
	case strings.ContainsFunc(r.Reason, func(c rune) bool { return isForbidden(c) && !unicode.IsSpace(c) }):
		fields.add("reason", errors.New("must not hold control characters or malformed text"))
	}
	return fields
}

// Suspend suspends the organization of that id: once it has returned, nothing works for its
// members, with any token, until Reactivate. Its data, its names and its invitations stay. A
// change under way is finished. It returns the organization, also if it is suspended
// already. Its errors are ErrInvalid, ErrNotFound if there is no organization of that id, or
// it is being created or deleted, ErrConflict if others change it all the time, and
// ErrUnavailable.
func (s *Service) Suspend(ctx context.Context, operator, id string, r ActRequest) (Organization, error) {
	return s.act(ctx, id, r, Act{Kind: Suspending, By: operator}, Active, Suspended)
}

// Reactivate ends a suspension. Whoever was logged in before it must log in again. It returns
// the organization, also if it is active. Its errors are those of Suspend.
func (s *Service) Reactivate(ctx context.Context, operator, id string, r ActRequest) (Organization, error) {
	return s.act(ctx, id, r, Act{Kind: Reactivating, By: operator}, Suspended, Active)
}

// act is one write of the record, which keeps a journal that is there: who works on it
// finds that the record has changed, takes the operation over and goes on.
func (s *Service) act(ctx context.Context, id string, r ActRequest, a Act, from, to Status) (Organization, error) {
	if err := invalid(r.Validate()); err != nil {
		return Organization{}, err
	}
	now := s.now()
	a.ID, a.Reason, a.At = s.Store.NewID(), strings.TrimSpace(r.Reason), now
	op := Operation{ID: a.ID, Kind: Updating, StartedAt: now, TouchedAt: now}
	for range actAttempts {
		o, err := s.Store.Organization(ctx, id)
		if errors.Is(err, ErrNotFound) || err == nil && o.Status != from && o.Status != to {
			err = errUnknownID
		}
		if err == nil && o.Status == from && to == Active {
			err = s.Store.DeleteSessions(ctx, id)
		}
		if err != nil {
			return Organization{}, err
		}
		// Also what was done before is written, because a primary that has lost its majority
		// may have been asked.
		next := o
		if o.Status == from {
			next.Status = to
			next.History = append(slices.Clone(o.History[max(0, len(o.History)+1-maxHistory):]), a)
		}
		acted, err := s.write(ctx, o, next)
		if err == error(errBusy) {
			continue
		}
		if err != nil {
			acted, err = s.afterFailure(ctx, o, op, err)
		}
		if err == nil && o.Status == from {
			s.log().WarnContext(ctx, "an operator acts", "act", a.Kind, "by", a.By, "reason", a.Reason, "organization_id", id)
		}
		return acted, err
	}
	return Organization{}, errBusy
}

// OrganizationFilter says which organizations to list.
type OrganizationFilter struct {
	NamePrefix string // how their names, or rather slugs, begin; empty: any
	Status     Status // empty: any
}

// List returns the organizations that pass the filter and whose ids are greater than after,
// in the order of their ids and at most limit of them, and whether there are more. An
// organization that changes keeps its place. Its errors are ErrInvalid and ErrUnavailable.
func (s *Service) List(ctx context.Context, f OrganizationFilter, after string, limit int) (organizations []Organization, more bool, err error) {
	collections := ""
	var fields fieldErrors
	if f.NamePrefix != "" {
		name, err := ParseName(f.NamePrefix)
		fields.add("prefix", err)
		collections = name.Collection()
	}
	if f.Status != "" && !slices.Contains([]Status{Provisioning, Active, Suspended, Deleting}, f.Status) {
		fields.add("status", errors.New("must be provisioning, active, suspended or deleting"))
	}
	if err := invalid(fields); err != nil {
		return nil, false, err
	}
	organizations, err = s.Store.OrganizationsAfter(ctx, after, collections, f.Status, limit+1)
	if more = len(organizations) > limit; more {
		organizations = organizations[:limit]
	}
	return organizations, more, err
}

// Show returns the organization of that id, whatever its status, with its members. Its errors
// are ErrNotFound and ErrUnavailable.
func (s *Service) Show(ctx context.Context, id string) (Organization, []ListedMember, error) {
	o, err := s.Store.Organization(ctx, id)
	if errors.Is(err, ErrNotFound) {
		err = errUnknownID
	}
	if err != nil {
		return Organization{}, nil, err
	}
	members, err := s.listMembers(ctx, o.Admins)
	return o, members, err
}
