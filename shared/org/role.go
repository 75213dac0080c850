package org

import (
	"errors"
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
	ActionRename      Action = "rename the organization"
	ActionDelete      Action = "delete the organization"
	ActionInvite      Action = "invite somebody"
	ActionInviteOwner Action = "invite an owner"
	ActionRemove      Action = "remove a member"
	ActionRemoveOwner Action = "remove an owner"
	ActionChangeRole  Action = "change a role"
)

// permissions has the roles that may do an action.
var permissions = map[Action][]Role{
	ActionRename:      {RoleOwner, RoleAdmin},
	ActionDelete:      {RoleOwner},
	ActionInvite:      {RoleOwner, RoleAdmin},
	ActionInviteOwner: {RoleOwner},
	ActionRemove:      {RoleOwner, RoleAdmin},
	ActionRemoveOwner: {RoleOwner},
	ActionChangeRole:  {RoleOwner},
}

// Roles returns the roles that may do the action, in words: "owner or admin".
func (a Action) Roles() string {
	var names []string
	for _, r := range permissions[a] {
		names = append(names, string(r))
	}
	return strings.Join(names, " or ")
}

// roles are those that a member can be given.
var roles = []Role{RoleOwner, RoleAdmin, RoleMember}

// checkRole returns an error unless a member can be given the role.
func checkRole(r Role) error {
	if !slices.Contains(roles, r) {
		return errors.New("must be owner, admin or member")
	}
	return nil
}

// inviteAs returns the action of inviting somebody to the role.
func inviteAs(r Role) Action {
	if r == RoleOwner {
		return ActionInviteOwner
	}
	return ActionInvite
}

// Role returns the role of an admin in the organization, or an empty one if the
// admin is no member of it.
func (o *Organization) Role(adminID string) Role {
	if m := o.member(adminID); m != nil {
		return m.Role
	}
	return ""
}

// may reports whether the role of the admin permits the action.
func (o *Organization) may(adminID string, a Action) bool {
	return slices.Contains(permissions[a], o.Role(adminID))
}

// permit returns ErrForbidden unless the role of the admin permits the action.
func (o *Organization) permit(adminID string, a Action) error {
	if o.may(adminID, a) {
		return nil
	}
	return refuse(Forbidden, RoleForbids, "to "+string(a)+", you must be its "+a.Roles())
}
