package org

import (
	"slices"
	"strings"
)

// Role says what a member may do for an organization.
type Role string

// The roles. A member whose record has another one, which a newer version may have
// written, may do what RoleMember may.
const (
	RoleOwner  Role = "owner"
	RoleAdmin  Role = "admin"
	RoleMember Role = "member"
)

// Action is what not every member may do. Its text is for people.
type Action string

// The actions.
const (
	ActionRename Action = "rename the organization"
	ActionDelete Action = "delete the organization"
)

// permissions has the roles that may do an action.
var permissions = map[Action][]Role{
	ActionRename: {RoleOwner, RoleAdmin},
	ActionDelete: {RoleOwner},
}

// Roles returns the roles that may do the action, in words: "owner or admin".
func (a Action) Roles() string {
	var names []string
	for _, r := range permissions[a] {
		names = append(names, string(r))
	}
	return strings.Join(names, " or ")
}

// Role returns the role of an admin in the organization, or an empty one if the
// admin is no member of it.
func (o *Organization) Role(adminID string) Role {
	if m := o.member(adminID); m != nil {
		return m.Role
	}
	return ""
}

// permit returns ErrForbidden unless the role of the admin permits the action.
func (o *Organization) permit(adminID string, a Action) error {
	if slices.Contains(permissions[a], o.Role(adminID)) {
		return nil
	}
	return refuse(Forbidden, RoleForbids, "to "+string(a)+", you must be its "+a.Roles())
}
