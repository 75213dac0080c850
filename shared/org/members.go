package org

import (
	"cmp"
	"context"
	"errors"
	"slices"

	"orgservice/shared/auth"
)

// ListedMember is a member as the members of the organization see it.
type ListedMember struct {
	Member
	Email string
}

// Members returns the members of the caller's organization whose ids are greater
// than after, in the order of their ids and at most limit of them, and whether
// there are more. Every role may see them. Its errors are ErrUnauthenticated and
// ErrUnavailable.
func (s *Service) Members(ctx context.Context, caller auth.Caller, after string, limit int) (members []ListedMember, more bool, err error) {
	o, _, err := s.authorize(ctx, caller)
	if err != nil {
		return nil, false, err
	}
	listed := slices.DeleteFunc(slices.Clone(o.Admins), func(m Member) bool { return m.AdminID <= after })
	slices.SortFunc(listed, func(a, b Member) int { return cmp.Compare(a.AdminID, b.AdminID) })
	if more = len(listed) > limit; more {
		listed = listed[:limit]
	}
	members, err = s.WithEmails(ctx, listed)
	return members, more, err
}

// WithEmails returns the members with their emails. Its error is ErrUnavailable.
func (s *Service) WithEmails(ctx context.Context, members []Member) (listed []ListedMember, err error) {
	var ids []string
	for _, m := range members {
		ids = append(ids, m.AdminID)
	}
	admins, err := s.Store.AdminsByID(ctx, ids)
	if err != nil {
		return nil, err
	}
	emails := map[string]string{}
	for _, a := range admins {
		emails[a.ID] = a.Email
	}
	for _, m := range members {
		listed = append(listed, ListedMember{m, emails[m.AdminID]})
	}
	return listed, nil
}

var errMemberNotFound = refuse(NotFound, MemberNotFound, "the organization has no member of that id")

// maxMembers is how many members and open invitations an organization may have: every
// request reads them.
const maxMembers = 1000

// amend makes a change of the caller's organization that is one write of its record. It
// calls change, which must not change what it shares with the record, again if the
// record has changed meanwhile, or if the result is errBusy. It returns the organization after the change. Its
// errors are those of change, ErrUnauthenticated, ErrConflict and ErrUnavailable.
func (s *Service) amend(ctx context.Context, caller auth.Caller, change func(next *Organization) error) (Organization, error) {
	for range recoverAttempts {
		o, _, err := s.authorize(ctx, caller)
		if err == nil && o.Operation != nil {
			err = errBusy
		}
		if err != nil {
			return Organization{}, err
		}
		next := o
		if err = change(&next); err == error(errBusy) {
			continue
		}
		if err == nil {
			next.Invitations = next.openInvitations(s.now()) // others never open again
			err = s.confirm(ctx, caller)
		}
		if err != nil {
			return Organization{}, err
		}
		if o, err = s.commitAlone(ctx, o, next); err != error(errBusy) {
			return o, err
		}
	}
	return Organization{}, errBusy
}

// RoleRequest is the body of a change of a role.
type RoleRequest struct {
	Role string `json:"role"`
}

// Validate returns what is wrong, field by field.
func (r RoleRequest) Validate() []FieldError {
	var fields fieldErrors
	fields.add("role", checkRole(Role(r.Role)))
	return fields
}

// ChangeRole gives a member of the caller's organization another role, and returns the
// member. An organization always has an owner. Its errors are ErrInvalid,
// ErrUnauthenticated, ErrForbidden when the caller's role does not permit it,
// ErrNotFound, ErrConflict and ErrUnavailable.
func (s *Service) ChangeRole(ctx context.Context, caller auth.Caller, adminID string, r RoleRequest) (ListedMember, error) {
	if err := invalid(r.Validate()); err != nil {
		return ListedMember{}, err
	}
	var changed ListedMember
	_, err := s.amend(ctx, caller, func(next *Organization) error {
		if err := next.permit(caller.AdminID, ActionChangeRole); err != nil {
			return err
		}
		next.Admins = slices.Clone(next.Admins)
		m := next.member(adminID)
		if m == nil {
			return errMemberNotFound
		}
		m.Role = Role(r.Role)
		a, err := s.memberRecord(ctx, adminID)
		if err != nil {
			return err
		}
		changed = ListedMember{*m, a.Email}
		return next.checkOwner()
	})
	return changed, err
}

// memberRecord returns the record of an admin whom the organization has listed, or
// errBusy if there is none any more.
func (s *Service) memberRecord(ctx context.Context, adminID string) (Admin, error) {
	a, err := s.Store.Admin(ctx, adminID)
	if errors.Is(err, ErrNotFound) {
		err = errBusy
	}
	return a, err
}

// checkOwner returns ErrConflict unless the organization has an owner.
func (o *Organization) checkOwner() error {
	if slices.ContainsFunc(o.Admins, func(m Member) bool { return m.Role == RoleOwner }) {
		return nil
	}
	return refuse(Conflict, LastOwner, "this is the only owner of the organization: make somebody else an owner first")
}

// RemoveMember removes a member from the caller's organization, or the caller, who may
// always leave, except that an organization always has an owner. A person who is in no
// other organization is deleted. Its errors are ErrUnauthenticated, ErrForbidden when
// the caller's role does not permit it, ErrNotFound, ErrConflict and ErrUnavailable.
func (s *Service) RemoveMember(ctx context.Context, caller auth.Caller, adminID string) error {
	o, err := s.amend(ctx, caller, func(next *Organization) error {
		admins := next.Admins
		m := next.member(adminID)
		if m == nil {
			return errMemberNotFound
		}
		action := ActionRemove
		if m.Role == RoleOwner {
			action = ActionRemoveOwner
		}
		if adminID != caller.AdminID {
			if err := next.permit(caller.AdminID, action); err != nil {
				return err
			}
		}
		next.Admins = slices.DeleteFunc(slices.Clone(next.Admins), func(m Member) bool { return m.AdminID == adminID })
		if err := next.checkOwner(); err != nil {
			return err
		}
		// An older version may have given the claim on the email to the organization.
		a, err := s.memberRecord(ctx, adminID)
		if err == nil && slices.Contains(next.Claims, emailClaim(a.Email)) {
			adopted := *next
			adopted.Admins = admins
			if _, err = s.adopt(ctx, adopted, a); err == nil {
				err = errBusy
			}
		}
		return err
	})
	if err != nil {
		return err
	}
	err = concurrently(
		func() error { return s.Store.DeleteSessionsOf(ctx, adminID, o.ID) },
		func() error { return s.leaveOrEnd(ctx, adminID, o.ID) },
	)
	if err != nil {
		s.log().WarnContext(ctx, "the record of who was removed is left to reconcile", "admin_id", adminID, "organization_id", o.ID, "error", err)
	}
	return nil
}

// leaveOrEnd takes an organization from the admin's record, or deletes the admin if it
// is the only one, unless the organization lists the admin.
func (s *Service) leaveOrEnd(ctx context.Context, adminID, organizationID string) error {
	err := error(errBusy)
	for i := 0; i < recoverAttempts && errors.Is(err, errBusy); i++ {
		var a Admin
		a, err = s.Store.Admin(ctx, adminID)
		switch {
		case errors.Is(err, ErrNotFound):
			return nil
		case err != nil:
		case len(without(a.Organizations, []string{organizationID})) == 0:
			err = s.removeOrphan(ctx, a)
		default:
			if err = s.leave(ctx, a, organizationID); err == nil {
				return s.endUnlessNeeded(ctx, adminID) // the others may be deleted
			}
		}
	}
	return err
}
