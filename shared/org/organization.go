package org

import (
	"slices"
	"time"
)

// Organization is a tenant: a name, a collection of its own, admins.
type Organization struct {
	ID             string
	Name           string // for display
	Collection     string
	CollectionUUID string // which collection that is; empty: not known yet
	Database       string // where the collection is
	Status         Status
	Admins         []Member
	Claims         []string   // the ids of the claims that it holds
	Revision       int64      // one more with every change of the record
	Operation      *Operation // the change under way; nil when there is none
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

// Member is an admin as its organization's record knows it.
type Member struct {
	AdminID      string
	TokenVersion int64 // tokens of any other version are dead
}

// member returns the admin of that id, or nil.
func (o *Organization) member(adminID string) *Member {
	i := slices.IndexFunc(o.Admins, func(m Member) bool { return m.AdminID == adminID })
	if i < 0 {
		return nil
	}
	return &o.Admins[i]
}

// claimsInUse returns the ids of the claims that the organization holds or is
// on its way to hold.
func (o *Organization) claimsInUse() []string {
	if o.Operation == nil {
		return o.Claims
	}
	return slices.Concat(o.Claims, o.Operation.Claims)
}

// uses reports whether the organization holds the claim or is on its way to.
func (o *Organization) uses(claimID string) bool {
	return slices.Contains(o.claimsInUse(), claimID)
}

// collection returns the organization's collection as the record knows it.
func (o *Organization) collection() Collection {
	return Collection{Name: o.Collection, UUID: o.CollectionUUID}
}

// Operation is the journal of a change: enough for anybody to finish it or
// undo it. See the package's documentation.
type Operation struct {
	ID        string
	Kind      OperationKind
	StartedAt time.Time
	TouchedAt time.Time // when whoever works on it took it over

	// Of an Updating operation: the organization as it shall be.
	Name         string
	Collection   string
	Claims       []string
	AdminID      string // whose email or password changes; may be empty
	Email        string // empty: as it was
	PasswordHash string // empty: as it was
	TokenVersion int64
}

// OperationKind is a sort of operation.
type OperationKind string

// The kinds of operations.
const (
	Creating OperationKind = "create"
	Updating OperationKind = "update"
	Removing OperationKind = "delete"
)

// Collection is a collection of the database: what it is called, and which one
// it is. A collection keeps its UUID when it is renamed; no other ever has it.
type Collection struct {
	Name string
	UUID string // in hexadecimal; empty where the server does not tell
}

// Admin is somebody who logs in and acts for an organization.
type Admin struct {
	ID             string
	OrganizationID string
	Email          string
	PasswordHash   string
	TokenVersion   int64 // as on the organization's record, which decides
	Revision       int64 // of the organization's record that last changed it
	CreatedAt      time.Time
	UpdatedAt      time.Time
}

// Claim is the exclusive right to a collection name or an email address.
type Claim struct {
	ID             string // a collection's name, or "email:" and an address
	OrganizationID string
	Revision       int64     // the organization's when it was made
	ClaimedAt      time.Time // when the operation began that made it
	RestingSince   time.Time // when it was given up, where names have to rest
}

const emailClaimPrefix = "email:" // no collection's name has a colon

func emailClaim(email string) string { return emailClaimPrefix + email }
