package org

import (
	"slices"
	"strings"
	"time"
)

// Organization is the record of a tenant, which has a name, a collection of its
// own, and admins.
type Organization struct {
	ID             string
	Name           string // for display
	Collection     string
	CollectionUUID string // of the collection; empty: not known yet
	Database       string // that the collection is in
	Status         Status
	Admins         []Member
	Invitations    []Invitation
	Claims         []string   // the ids of the claims that it holds; of older versions also those of its admins
	Revision       int64      // grows by one with every write of the record
	Operation      *Operation // the change under way; nil: none
	Committed      string     // the id of the operation that was committed last
	CommittedKey   string     // the id of its idempotency key; empty: it has none
	History        []Act      // what operators did, the latest last
	Deletion       *Deletion  // nil unless it is being deleted, or is deleted, and can be restored
	CreatedAt      time.Time
	UpdatedAt      time.Time
}

// Status is where an organization is in its life.
type Status string

// The statuses of an organization. Only an active one exists for a client.
const (
	Provisioning Status = "provisioning"
	Active       Status = "active"
	Suspended    Status = "suspended" // by an operator
	Deleting     Status = "deleting"
	Deleted      Status = "deleted" // until its grace is over; an operator can restore it
)

// lives reports whether the organization is not deleted, nor about to be.
func (o *Organization) lives() bool { return o.Status != Deleting && o.Status != Deleted }

// Member is the entry of an admin on its organization's record.
type Member struct {
	AdminID string
	Role    Role
	Since   time.Time
}

// Invitation is an invitation to become a member.
type Invitation struct {
	ID        string // also of its ticket
	Email     string
	Role      Role
	InvitedBy string // the id of the admin
	CreatedAt time.Time
	ExpiresAt time.Time
}

// openInvitations returns the invitations that somebody may accept: they have not
// expired, and who invited may still do so.
func (o *Organization) openInvitations(now time.Time) (open []Invitation) {
	for _, i := range o.Invitations {
		if now.Before(i.ExpiresAt) && o.may(i.InvitedBy, inviteAs(i.Role)) {
			open = append(open, i)
		}
	}
	return open
}

// invitation returns the open invitation of that id, or nil.
func (o *Organization) invitation(id string, now time.Time) *Invitation {
	open := o.openInvitations(now)
	if i := slices.IndexFunc(open, func(i Invitation) bool { return i.ID == id }); i >= 0 {
		return &open[i]
	}
	return nil
}

// invitationsBut returns the open invitations that do not match.
func (o *Organization) invitationsBut(now time.Time, match func(Invitation) bool) []Invitation {
	return slices.DeleteFunc(o.openInvitations(now), match)
}

// mayAct reports whether the admin may act for the organization now with tokens of
// that version: it is active and has the admin as a member, who is awake, and the version is the
// admin's. Every token and every session is held against this.
func (o *Organization) mayAct(a Admin, tokenVersion int64) bool {
	return o.Status == Active && !a.Asleep && o.member(a.ID) != nil && a.TokenVersion == tokenVersion
}

// mayUse reports whether the session of the admin is good: the admin may act for the
// organization, which no operator has suspended since the login.
func (o *Organization) mayUse(session Session, a Admin) bool {
	return o.mayAct(a, session.TokenVersion) && session.LastAct == o.lastAct()
}

// member returns the admin of that id, or nil.
func (o *Organization) member(adminID string) *Member {
	i := slices.IndexFunc(o.Admins, func(m Member) bool { return m.AdminID == adminID })
	if i < 0 {
		return nil
	}
	return &o.Admins[i]
}

// adminIDs returns the ids of the members.
func (o *Organization) adminIDs() (ids []string) {
	for _, m := range o.Admins {
		ids = append(ids, m.AdminID)
	}
	return ids
}

// committed reports whether the record says that the operation, or the operator's act, of that
// id is committed.
func (o *Organization) committed(id string) bool {
	return o.Committed == id || slices.ContainsFunc(o.History, func(a Act) bool { return a.ID == id })
}

// claimsInUse returns the ids of the claims that the organization holds, and of
// those that it will hold after the operation under way.
func (o *Organization) claimsInUse() []string {
	if o.Operation == nil {
		return o.Claims
	}
	return slices.Concat(o.Claims, o.Operation.Claims)
}

// names returns the name of the organization and its slug, of which no member should make a
// password.
func (o *Organization) names() []string {
	return []string{o.Name, strings.TrimPrefix(o.Collection, CollectionPrefix)}
}

// uses reports whether the claim is in use by the organization.
func (o *Organization) uses(claimID string) bool {
	return slices.Contains(o.claimsInUse(), claimID)
}

// collection returns the name and the UUID of the collection on the record.
func (o *Organization) collection() Collection {
	return Collection{Name: o.Collection, UUID: o.CollectionUUID}
}

// Operation is the journal of a change. It holds what any process needs to
// finish or undo the change. See the package's documentation.
type Operation struct {
	ID        string
	Key       string // the id of the idempotency key of its request; empty: it has none
	Kind      OperationKind
	StartedAt time.Time
	TouchedAt time.Time // when the process that works on it began or took it over

	// The organization after it, unless it is Creating or Removing.
	Name       string
	Collection string
	Claims     []string

	// Of an Updating operation.
	AdminID      string // whose email or password changes; may be empty
	Email        string // empty: does not change
	PasswordHash string // empty: does not change
	TokenVersion int64  // of the admin after it
	Undone       bool   // the admin could not be changed, so the collection gets its name back

	Act Act // of an operator, whose operation it is; it has no id if it is not
}

// deletes reports whether it is a deletion, for good or not.
func (op *Operation) deletes() bool { return op.Kind == Removing || op.Kind == Burying }

// adminChange returns what the operation changes of the admin.
func (op *Operation) adminChange(organizationID string) adminChange {
	return adminChange{id: op.ID, journalOf: organizationID, email: op.Email, passwordHash: op.PasswordHash, at: op.StartedAt}
}

// changed reports whether the operation of the organization has changed its admin.
func (op *Operation) changed(a Admin, organizationID string) bool {
	if a.Committed == "" { // only older versions have changed the admin
		return a.TokenVersion == op.TokenVersion
	}
	return a.Journaled[organizationID] == op.ID
}

// OperationKind says what an operation does.
type OperationKind string

// The kinds of operations.
const (
	Creating OperationKind = "create"
	Updating OperationKind = "update"
	Removing OperationKind = "delete"
	// Burying is a deletion that can be taken back, and Restoring takes it back. Older
	// versions don't finish them.
	Burying   OperationKind = "bury"
	Restoring OperationKind = "restore"
)

// Collection identifies a collection of the database. It keeps its UUID when it
// is renamed, and no other collection ever has the same one.
type Collection struct {
	Name string
	UUID string // in hexadecimal; empty if the server does not report it
}

// Claim is the exclusive right to a collection name or an email address.
type Claim struct {
	ID string // a collection's name, or "email:" and an address
	Owner
	Revision     int64     // of the owner's record when the claim was made
	ClaimedAt    time.Time // when the operation began that made it
	RestingSince time.Time // when it was given up, on servers where names must rest
}

// Owner is who has a claim: an organization or, of an email, an admin. Older
// versions gave emails to organizations.
type Owner struct {
	OrganizationID string // empty if it is an admin
	AdminID        string // empty if it is an organization
}

const emailClaimPrefix = "email:" // no collection's name has a colon

func emailClaim(email string) string { return emailClaimPrefix + email }

func isEmailClaim(id string) bool { return strings.HasPrefix(id, emailClaimPrefix) }
