package org

import (
	"context"
	"time"
)

// Store keeps organizations, admins and claims, and the collections of the
// organizations. Every method that changes something is one command, and atomic
// for each document. What it reads is durable, so that no failover takes it
// back, except lists of collections.
//
// All return ErrUnavailable when it is not known whether the database did what
// was asked.
type Store interface {
	// NewID returns an id that nothing has.
	NewID() string
	// Clock returns what the database's clock shows.
	Clock(ctx context.Context) (time.Time, error)

	// InsertClaims makes the claims one after the other and stops at the
	// first that exists, whose id it returns; an empty id means none did.
	InsertClaims(ctx context.Context, claims []Claim) (taken string, err error)
	// Claim returns ErrNotFound when there is none of that id.
	Claim(ctx context.Context, id string) (Claim, error)
	// Claims returns all claims.
	Claims(ctx context.Context) ([]Claim, error)
	// ReplaceClaim puts next in the place of seen and reports whether seen
	// was still there, unchanged.
	ReplaceClaim(ctx context.Context, seen, next Claim) (bool, error)
	// DeleteClaim deletes the claim unless it has changed.
	DeleteClaim(ctx context.Context, seen Claim) error
	// ReleaseClaims deletes the claims that the organization made below the
	// revision, but those whose ids are in keep and those that rest.
	ReleaseClaims(ctx context.Context, organizationID string, below int64, keep []string) error
	// RestClaims marks the same claims as resting from the time on, but those
	// that rest already.
	RestClaims(ctx context.Context, organizationID string, below int64, keep []string, since time.Time) error

	// InsertOrganization makes the record of a new organization.
	InsertOrganization(ctx context.Context, o Organization) error
	// Organization returns ErrNotFound when there is none of that id.
	Organization(ctx context.Context, id string) (Organization, error)
	// OrganizationByClaim returns the active organization that holds the
	// claim, or ErrNotFound.
	OrganizationByClaim(ctx context.Context, claimID string) (Organization, error)
	// Organizations returns all organizations.
	Organizations(ctx context.Context) ([]Organization, error)
	// UnfinishedOrganizations returns those whose operation nobody has
	// touched since before.
	UnfinishedOrganizations(ctx context.Context, before time.Time) ([]Organization, error)
	// ReplaceOrganization writes next, at one more than the revision of seen,
	// over the record that has the id, revision and status of seen. It
	// reports whether there was one.
	ReplaceOrganization(ctx context.Context, seen, next Organization) (bool, error)
	// DeleteOrganization deletes the record if it has that revision.
	DeleteOrganization(ctx context.Context, id string, revision int64) error

	// InsertAdmin makes a new admin.
	InsertAdmin(ctx context.Context, a Admin) error
	// Admin returns ErrNotFound when the organization has none of that id.
	Admin(ctx context.Context, organizationID, id string) (Admin, error)
	// AdminsByEmail returns the admins that have the email. There is one,
	// but for those that a crash has left without an organization.
	AdminsByEmail(ctx context.Context, email string) ([]Admin, error)
	// Admins returns all admins.
	Admins(ctx context.Context) ([]Admin, error)
	// UpdateAdmin writes what is not empty of email, password hash and token
	// version, if the admin's revision is below a's, which it becomes.
	UpdateAdmin(ctx context.Context, a Admin) error
	// RehashPassword replaces the hash if it is still old.
	RehashPassword(ctx context.Context, adminID, old, hash string) error
	// DeleteAdmin deletes the admin of that id.
	DeleteAdmin(ctx context.Context, id string) error
	// DeleteAdmins deletes the admins of the organization.
	DeleteAdmins(ctx context.Context, organizationID string) error

	// InsertSession keeps a new session.
	InsertSession(ctx context.Context, s Session) error
	// Session returns ErrNotFound when there is none of that id.
	Session(ctx context.Context, id string) (Session, error)
	// RotateSession puts the hash in the place of old and reports whether old
	// was still there.
	RotateSession(ctx context.Context, id, old, hash string) (bool, error)
	// DeleteSession deletes the session, if there is one.
	DeleteSession(ctx context.Context, id string) error
	// DeleteSessions deletes the sessions of the organization.
	DeleteSessions(ctx context.Context, organizationID string) error
	// DeleteExpired deletes sessions and counts that ended before now.
	DeleteExpired(ctx context.Context, now time.Time) error

	// CountAttempt counts one attempt and returns the count with it. A new
	// count begins at now and may be deleted after expires.
	CountAttempt(ctx context.Context, key string, now, expires time.Time) (Attempts, error)
	// TakeBackAttempt counts one attempt less, if there is a count.
	TakeBackAttempt(ctx context.Context, key string) error
	// ForgetAttempts deletes the count.
	ForgetAttempts(ctx context.Context, key string) error

	// ChecksCollections reports whether the server itself compares the UUID
	// in a command to rename or drop a collection with the collection's, in
	// the same step. MongoDB does so from version 6.0 on. Otherwise the store
	// compares, before it sends the command.
	ChecksCollections() bool
	// Collections returns those of the named collections that exist, or,
	// without names, all with the prefix of organizations'.
	Collections(ctx context.Context, database string, names ...string) ([]Collection, error)
	// CreateCollection makes a collection. It may succeed when there is one.
	CreateCollection(ctx context.Context, database, name string) error
	// RenameCollection renames the collection c. It returns ErrNotFound when
	// there is none of that name and UUID, and ErrConflict when there is one
	// of the new name. An empty UUID is every collection's.
	RenameCollection(ctx context.Context, database string, c Collection, to string) error
	// DropCollection drops the collection c. It returns ErrNotFound when
	// there is none of that name and UUID. An empty UUID is every
	// collection's.
	DropCollection(ctx context.Context, database string, c Collection) error
	// CollectionIsEmpty reports whether the collection has no document; one
	// that does not exist has none.
	CollectionIsEmpty(ctx context.Context, database, name string) (bool, error)

	// EnsureIndexes makes the indexes that are missing. It returns those that
	// could not be made, with the reason.
	EnsureIndexes(ctx context.Context) (failed map[string]error, err error)
	// MissingIndexes names the indexes that are missing.
	MissingIndexes(ctx context.Context) ([]string, error)
}
