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
	Key    string // the id of the idempotency key of its request; empty: it has none, or the operation has it
	Kind   ActKind
	By     string // the operator
	Reason string
	At     time.Time
}

// ActKind says what an operator did.
type ActKind string

// The kinds of acts.
const (
	ActSuspend    ActKind = "suspend"
	ActReactivate ActKind = "reactivate"
	ActRename     ActKind = "rename"
	ActRestore    ActKind = "restore"
	ActPurge      ActKind = "purge"
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

var (
	errUnknownID = refuse(NotFound, OrganizationNotFound, "there is no organization of that id")
	errNotInUse  = refuse(NotFound, OrganizationNotFound, "no organization of that id is active or suspended")
)

// ActRequest is the body of a suspension, and of its end.
type ActRequest struct {
	Reason string `json:"reason"`
}

// Validate returns what is wrong, field by field.
func (r ActRequest) Validate() []FieldError {
	var fields fieldErrors
	switch reason := strings.TrimSpace(r.Reason); {
	case strings.TrimFunc(reason, func(c rune) bool { return isInvisible(c) || unicode.IsSpace(c) }) == "":
		fields.add("reason", errors.New("is required"))
	case utf8.RuneCountInString(reason) > maxReasonRunes:
		fields.add("reason", fmt.Errorf("must have at most %d characters", maxReasonRunes))
	case strings.ContainsFunc(reason, isForbidden):
		fields.add("reason", errors.New("must be one line, without control characters or malformed text"))
	}
	return fields
}

// Suspend suspends the organization of that id: once it has returned, no token and no login
// works for it, and nobody can join it, until Reactivate. Its data, its names and its invitations
// stay. A change under way is finished. It returns the organization, also if it is suspended
// already. Its errors are ErrInvalid, ErrNotFound if no organization of that id is active or
// suspended, ErrConflict if others change it all the time, and ErrUnavailable.
func (s *Service) Suspend(ctx context.Context, operator, id string, r ActRequest) (Organization, error) {
	o, err := s.act(ctx, operator, id, r, ActSuspend, Active, Suspended)
	if err == nil {
		if err := s.endSuspended(ctx, o); err != nil {
			s.log().WarnContext(ctx, "sessions of a suspended organization not deleted", "organization_id", id, "error", err)
		}
	}
	return o, err
}

// endSuspended deletes the sessions of a suspended organization. They are of no use, but what comes
// from them by a switch is, and must end, too.
func (s *Service) endSuspended(ctx context.Context, o Organization) error {
	return s.Store.DeleteSessionsSince(ctx, o.ID, o.actBefore(ActSuspend))
}

// Reactivate ends a suspension. Whoever was logged in before it must log in again. It returns
// the organization, also if it is active. Its errors are those of Suspend.
func (s *Service) Reactivate(ctx context.Context, operator, id string, r ActRequest) (Organization, error) {
	return s.act(ctx, operator, id, r, ActReactivate, Suspended, Active)
}

// act is one write of the record, which keeps a journal that is there: who works on it
// finds that the record has changed, takes the operation over and goes on. A process that has
// slept must not undo what another operator was told meanwhile.
func (s *Service) act(ctx context.Context, operator, id string, r ActRequest, kind ActKind, from, to Status) (Organization, error) {
	if err := invalid(r.Validate()); err != nil {
		return Organization{}, err
	}
	op, err := s.newOperation(ctx, Updating)
	if err != nil {
		return Organization{}, err
	}
	a := newAct(op.ID, kind, operator, r.Reason, op.StartedAt)
	a.Key = op.Key
	seen := ""
	for n := range actAttempts {
		o, err := s.Store.Organization(ctx, id)
		if errors.Is(err, ErrNotFound) || err == nil && (o.ID != id || o.Status != from && o.Status != to) {
			err = errNotInUse
		}
		if err == nil {
			err = s.checkLease(&op)
		}
		if err == nil && n > 0 && o.lastAct() != seen {
			err = errBusy
		}
		if err != nil {
			return Organization{}, err
		}
		seen = o.lastAct()
		// Also what was done before is written, because a primary that has lost its majority
		// may have been asked.
		next := o
		next.Status = to
		repeated := o.Status == to && (to == Active || o.repeats(a))
		if !repeated {
			next.History = o.historyWith(a)
		}
		if err := s.tellActs(ctx, o, next); err != nil {
			return Organization{}, err
		}
		acted, err := s.write(ctx, o, next)
		if err == error(errBusy) {
			continue
		}
		if err != nil {
			acted, err = s.afterFailure(ctx, o, op, err)
		}
		if err == nil {
			s.logAct(ctx, a, id, repeated)
		}
		return acted, err
	}
	return Organization{}, errBusy
}

// finishedByID returns the organization of that id, whose operation it has finished if that is
// stale. Its errors are ErrNotFound and ErrUnavailable.
func (s *Service) finishedByID(ctx context.Context, id string) (Organization, error) {
	o, err := s.Store.Organization(ctx, id)
	if err == nil && o.ID != id { // an id has one spelling
		err = ErrNotFound
	}
	if err == nil {
		o, err = s.finishStale(ctx, o)
	}
	return o, err
}

func newAct(id string, kind ActKind, operator, reason string, now time.Time) Act {
	return Act{ID: id, Kind: kind, By: operator, Reason: strings.TrimSpace(reason), At: now}
}

func (s *Service) logAct(ctx context.Context, a Act, organizationID string, repeated bool) {
	s.log().WarnContext(ctx, "an operator acts", "act", a.Kind, "by", a.By, "reason", a.Reason, "repeated", repeated, "organization_id", organizationID)
}

// latestAct returns the operators' latest act, or a zero one if there is none.
func (o *Organization) latestAct() Act {
	if len(o.History) == 0 {
		return Act{}
	}
	return o.History[len(o.History)-1]
}

// lastAct returns the id of the operators' latest act but for renames, which end no login, or an
// empty one if there is none.
func (o *Organization) lastAct() string { return o.actBefore(ActRename) }

// actBefore returns the id of the act before the latest ones of the kind, and before renames, or
// an empty one if there is none.
func (o *Organization) actBefore(kind ActKind) string {
	for _, a := range slices.Backward(o.History) {
		if a.Kind != kind && a.Kind != ActRename {
			return a.ID
		}
	}
	return ""
}

// repeats reports whether the latest act is the same, as after a retry.
func (o *Organization) repeats(a Act) bool {
	last := o.latestAct()
	return last.Kind == a.Kind && last.By == a.By && last.Reason == a.Reason
}

// OrganizationFilter says which organizations to list.
type OrganizationFilter struct {
	NamePrefix *string // how their slugs begin, of which about 55 bytes count; nil: any
	Status     *Status // nil: any
}

// List returns the organizations that pass the filter and whose ids are greater than after,
// in the order of their ids and at most limit of them, and whether there are more. An
// organization that changes keeps its place. Its errors are ErrInvalid and ErrUnavailable.
func (s *Service) List(ctx context.Context, f OrganizationFilter, after string, limit int) (organizations []Organization, more bool, err error) {
	collections, status := "", Status("")
	var fields fieldErrors
	if f.NamePrefix != nil {
		name, err := ParseName(*f.NamePrefix)
		fields.add("prefix", err)
		collections = CollectionPrefix + slugPrefix(name.Display)
	}
	if f.Status != nil {
		if status = *f.Status; !slices.Contains([]Status{Provisioning, Active, Suspended, Deleting, Deleted}, status) {
			fields.add("status", errors.New("must be provisioning, active, suspended, deleting or deleted"))
		}
	}
	if err := invalid(fields); err != nil {
		return nil, false, err
	}
	organizations, err = s.Store.OrganizationsAfter(ctx, after, collections, status, limit+1)
	if more = len(organizations) > limit; more {
		organizations = organizations[:limit]
	}
	return organizations, more, err
}

// Show returns the organization of that id, whatever its status, with its members. Its errors
// are ErrNotFound and ErrUnavailable.
func (s *Service) Show(ctx context.Context, id string) (Organization, []ListedMember, error) {
	o, err := s.Store.Organization(ctx, id)
	if errors.Is(err, ErrNotFound) || err == nil && o.ID != id {
		err = errUnknownID
	}
	if err != nil {
		return Organization{}, nil, err
	}
	members, err := s.WithEmails(ctx, o.Admins)
	return o, members, err
}

// RenameRequest is the body of a rename by an operator.
type RenameRequest struct {
	Reason           string `json:"reason"`
	OrganizationName string `json:"organization_name"`
}

// Validate returns what is wrong, field by field.
func (r RenameRequest) Validate() []FieldError {
	_, fields := r.parse()
	return fields
}

func (r RenameRequest) parse() (Name, []FieldError) {
	fields := fieldErrors(ActRequest{r.Reason}.Validate())
	name, err := parseNewName(r.OrganizationName)
	fields.add("organization_name", err)
	return name, fields
}

// Rename renames the organization of that id, whether it is suspended or not, and ends no login.
// It returns the organization, also if it was renamed by the same request before. Its errors are
// ErrInvalid, ErrNotFound if no organization of that id is active or suspended, ErrConflict if the
// name is taken or another change of the organization is under way, and ErrUnavailable.
func (s *Service) Rename(ctx context.Context, operator, id string, r RenameRequest) (Organization, error) {
	name, fields := r.parse()
	if err := invalid(fields); err != nil {
		return Organization{}, err
	}
	o, err := s.finishedByID(ctx, id)
	switch {
	case errors.Is(err, ErrNotFound), err == nil && o.Status != Active && o.Status != Suspended:
		err = errNotInUse
	case err == nil && o.Operation != nil:
		err = errBusy
	}
	if err != nil {
		return Organization{}, err
	}
	op, err := s.newOperation(ctx, Updating)
	if err != nil {
		return Organization{}, err
	}
	op.Name, op.Collection, op.Claims = name.Display, name.Collection(), slices.Clone(o.Claims)
	op.Act = newAct(op.ID, ActRename, operator, r.Reason, op.StartedAt)
	op.replaceClaim(o.Collection, op.Collection)
	repeated := o.Name == op.Name && o.repeats(op.Act)
	if repeated {
		op.Act = Act{}
	}
	nothing := func() error { return nil }
	renamed, err := s.update(ctx, o, Admin{}, op, func() (string, error) { return "", nil }, nothing)
	if err != nil {
		renamed, err = s.afterFailure(ctx, o, op, err)
	}
	if err == nil {
		s.logAct(ctx, newAct(op.ID, ActRename, operator, r.Reason, op.StartedAt), id, repeated)
	}
	return renamed, err
}
