package org

import (
	"slices"
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
	Claims         []string   // the ids of the claims that it holds
	Revision       int64      // grows by one with every write of the record
	Operation      *Operation // the change under way; nil: none
	Committed      string     // the id of the operation that was committed last
	CreatedAt      time.Time
	UpdatedAt      time.Time
}

// Status is where an organization is in its life.
type Status string

// The statuses of an organization. Only an active one exists for a client.
const (
	Provisioning Status = "provisioning"
	Active       Status = "active"
	Suspended    Status = "suspended" // by an operator, in the database
	Deleting     Status = "deleting"
)

// Member is the entry of an admin on its organization's record.
type Member struct {
	AdminID      string
	Role         Role
	Since        time.Time
	TokenVersion int64 // tokens of any other version are invalid
}

// mayAct reports whether the admin may act for the organization now: it is
// active, and the admin's tokens of that version are valid. Every token and
// every session is held against this.
func (o *Organization) mayAct(adminID string, tokenVersion int64) bool {
	m := o.member(adminID)
	return o.Status == Active && m != nil && m.TokenVersion == tokenVersion
}

// member returns the admin of that id, or nil.
func (o *Organization) member(adminID string) *Member {
	i := slices.IndexFunc(o.Admins, func(m Member) bool { return m.AdminID == adminID })
	if i < 0 {
		return nil
	}
	return &o.Admins[i]
}

// claimsInUse returns the ids of the claims that the organization holds, and of
// those that it will hold after the operation under way.
func (o *Organization) claimsInUse() []string {
	if o.Operation == nil {
		return o.Claims
	}
	return slices.Concat(o.Claims, o.Operation.Claims)
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
	Kind      OperationKind
	StartedAt time.Time
	TouchedAt time.Time // when the process that works on it began or took it over

	// Of an Updating operation: the organization after it.
	Name         string
	Collection   string
	Claims       []string
	AdminID      string // whose email or password changes; may be empty
	Email        string // empty: does not change
	PasswordHash string // empty: does not change
	TokenVersion int64
}

// OperationKind says what an operation does.
type OperationKind string

// The kinds of operations.
const (
	Creating OperationKind = "create"
	Updating OperationKind = "update"
	Removing OperationKind = "delete"
)

// Collection identifies a collection of the database. It keeps its UUID when it
// is renamed, and no other collection ever has the same one.
type Collection struct {
	Name string
	UUID string // in hexadecimal; empty if the server does not report it
}

// Admin is a person who logs in and acts for an organization.
type Admin struct {
	ID             string
	OrganizationID string
	Email          string
	PasswordHash   string
	TokenVersion   int64 // a copy: the one on the organization's record decides
	Revision       int64 // of the organization's record when it last changed the admin
	CreatedAt      time.Time
	UpdatedAt      time.Time
}

// Claim is the exclusive right to a collection name or an email address.
type Claim struct {
	ID             string // a collection's name, or "email:" and an address
	OrganizationID string
	Revision       int64     // of the organization's record when the claim was made
	ClaimedAt      time.Time // when the operation began that made it
	RestingSince   time.Time // when it was given up, on servers where names must rest
}

const emailClaimPrefix = "email:" // no collection's name has a colon

func emailClaim(email string) string { return emailClaimPrefix + email }
