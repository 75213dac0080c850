package org

import (
	"context"
	"time"
)

// Store keeps organizations, admins and claims, and the collections of the
// organizations. Every method is one command to the database, and atomic.
//
// All return ErrUnavailable when the database can't be reached in time, which
// leaves open whether a change was made.
type Store interface {
	// NewID returns an id that nothing has.
	NewID() string

	// InsertClaims makes the claims one after the other and stops at the
	// first that exists, whose id it returns; an empty id means none did.
	InsertClaims(ctx context.Context, claims []Claim) (taken string, err error)
	// Claim returns ErrNotFound when there is none of that id.
	Claim(ctx context.Context, id string) (Claim, error)
	// Claims returns all claims.
	Claims(ctx context.Context) ([]Claim, error)
	// RetakeClaim puts next in the place of seen and reports whether seen
	// was still there.
	RetakeClaim(ctx context.Context, seen, next Claim) (bool, error)
	// ReleaseClaim deletes the claim unless it was retaken meanwhile.
	ReleaseClaim(ctx context.Context, seen Claim) error
	// ReleaseOldClaims deletes those of the claims that the organization made
	// before it had the revision.
	ReleaseOldClaims(ctx context.Context, organizationID string, ids []string, revision int64) error
	// ReleaseClaimsOf deletes the claims that the operation made, but those
	// whose ids are in keep.
	ReleaseClaimsOf(ctx context.Context, organizationID, operationID string, keep []string) error
	// ReleaseAllClaims deletes the claims of the organization.
	ReleaseAllClaims(ctx context.Context, organizationID string) error

	// InsertOrganization returns ErrConflict when another has the same key.
	InsertOrganization(ctx context.Context, o Organization) error
	// Organization returns ErrNotFound when there is none of that id.
	Organization(ctx context.Context, id string) (Organization, error)
	// OrganizationByKey returns ErrNotFound when there is none of that key.
	OrganizationByKey(ctx context.Context, key string) (Organization, error)
	// OrganizationByClaim returns ErrNotFound when none holds the claim.
	OrganizationByClaim(ctx context.Context, claimID string) (Organization, error)
	// Organizations returns all organizations.
	Organizations(ctx context.Context) ([]Organization, error)
	// UnfinishedOrganizations returns those whose operation nobody has
	// touched since before.
	UnfinishedOrganizations(ctx context.Context, before time.Time) ([]Organization, error)
	// ReplaceOrganization writes o, at one more than its revision, over the
	// record of its id and revision. It reports whether there was one.
	ReplaceOrganization(ctx context.Context, o Organization) (bool, error)
	// DeleteOrganization deletes the record if it has that revision.
	DeleteOrganization(ctx context.Context, id string, revision int64) error

	// InsertAdmin returns ErrConflict when another has the same email.
	InsertAdmin(ctx context.Context, a Admin) error
	// Admin returns ErrNotFound when the organization has none of that id.
	Admin(ctx context.Context, organizationID, id string) (Admin, error)
	// AdminByEmail returns ErrNotFound when there is none.
	AdminByEmail(ctx context.Context, email string) (Admin, error)
	// Admins returns all admins.
	Admins(ctx context.Context) ([]Admin, error)
	// UpdateAdmin writes what is not empty of email and password hash, if the
	// admin's token version is below a's, which it becomes. It returns
	// ErrConflict when another has the email.
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

	// CreateCollection returns ErrConflict when there is one.
	CreateCollection(ctx context.Context, database, name string) error
	// RenameCollection returns ErrNotFound when there is none to rename and
	// ErrConflict when there is one of the new name.
	RenameCollection(ctx context.Context, database, from, to string) error
	// DropCollection succeeds, too, when there is none.
	DropCollection(ctx context.Context, database, name string) error
	// CollectionIsEmpty reports whether the collection has no document; one
	// that does not exist has none.
	CollectionIsEmpty(ctx context.Context, database, name string) (bool, error)
	// CollectionExists reports whether there is one of that name.
	CollectionExists(ctx context.Context, database, name string) (bool, error)
	// Collections returns the names, with the prefix of organizations', of
	// the collections in the database.
	Collections(ctx context.Context, database string) ([]string, error)

	// EnsureIndexes makes the indexes that are missing.
	EnsureIndexes(ctx context.Context) error
	// MissingIndexes names the indexes that are missing.
	MissingIndexes(ctx context.Context) ([]string, error)
}
