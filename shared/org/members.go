package org

import (
	"cmp"
	"context"
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
	var ids []string
	for _, m := range listed {
		ids = append(ids, m.AdminID)
	}
	admins, err := s.Store.AdminsByID(ctx, ids)
	if err != nil {
		return nil, false, err
	}
	emails := map[string]string{}
	for _, a := range admins {
		emails[a.ID] = a.Email
	}
	for _, m := range listed {
		members = append(members, ListedMember{m, emails[m.AdminID]})
	}
	return members, more, nil
}
