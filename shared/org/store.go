package org

import (
	"context"
	"time"
)

// MostSessionsOf is how many sessions of an admin are read.
const MostSessionsOf = 1000

// Store keeps everything of the service in a database.
//
// A method that changes one document, or replaces or deletes it on a condition,
// does so in one atomic command. These methods do more, and the lifecycle relies
// on no more than what is said here:
//
//   - InsertClaims inserts the claims one by one, in their order. Each insert
//     is atomic.
//   - ReleaseClaims, RestClaims, FenceOrganizations, DeleteAdmins,
//     LeaveOrganization, DeleteSessions, DeleteSessionsSince, DeleteSessionsOf, DeleteTickets and
//     DeleteExpired change many documents, each of them atomically and on the
//     condition. They may stop halfway, and are then called again.
//   - RenameCollection and DropCollection are two commands where
//     ChecksCollections is false: one compares the UUID, the other acts. There
//     names must rest before others may have them.
//   - EnsureIndexes is many commands. Nothing relies on an index.
//
// What Store reads is durable, so that no failover takes it back, except lists
// of collections. Every method returns ErrUnavailable if it is not known whether
// the database did what was asked.
type Store interface {
	ClaimStore
	OrganizationStore
	AdminStore
	SessionStore
	TicketStore
	CountStore
	CollectionStore
	ReceiptStore
	KeyStore
	IndexStore
	MigrationStore

	// NewID returns a new unique id.
	NewID() string
	// Clock returns the time of the database's clock.
	Clock(ctx context.Context) (time.Time, error)
}

// ClaimStore keeps claims. The id of a claim is unique.
type ClaimStore interface {
	// InsertClaims inserts the claims one by one and stops at the first whose
	// id exists, which it returns. It returns an empty id if all are inserted.
	InsertClaims(ctx context.Context, claims []Claim) (taken string, err error)
	// Claim returns ErrNotFound if there is none of that id.
	Claim(ctx context.Context, id string) (Claim, error)
	// Claims returns all claims.
	Claims(ctx context.Context) ([]Claim, error)
	// ReplaceClaim replaces the claim seen by next, unless seen has changed.
	// It reports whether it did.
	ReplaceClaim(ctx context.Context, seen, next Claim) (bool, error)
	// DeleteClaim deletes the claim unless it has changed.
	DeleteClaim(ctx context.Context, seen Claim) error
	// ReleaseClaims deletes the claims that the owner made below the revision,
	// except those whose ids are in keep and those that rest.
	ReleaseClaims(ctx context.Context, owner Owner, below int64, keep []string) error
	// RestClaims makes the same claims of an organization rest from the time on,
	// instead of deleting them.
	RestClaims(ctx context.Context, organizationID string, below int64, keep []string, since time.Time) error
}

// OrganizationStore keeps the records of organizations.
type OrganizationStore interface {
	// InsertOrganization inserts the record of a new organization.
	InsertOrganization(ctx context.Context, o Organization) error
	// Organization returns ErrNotFound if there is none of that id.
	Organization(ctx context.Context, id string) (Organization, error)
	// OrganizationByClaim returns the active organization whose record has the
	// claim, or ErrNotFound.
	OrganizationByClaim(ctx context.Context, claimID string) (Organization, error)
	// OrganizationsByID returns the organizations of these ids that exist.
	OrganizationsByID(ctx context.Context, ids []string) ([]Organization, error)
	// Organizations returns all organizations.
	Organizations(ctx context.Context) ([]Organization, error)
	// CountOrganizations returns about how many there are, from the collection's metadata.
	CountOrganizations(ctx context.Context) (int64, error)
	// OrganizationsAfter returns the organizations of the status, or of any if it is empty,
	// whose ids are greater than after, and the names of whose collections, or before a
	// deletion, begin with the prefix, in the order of their ids and at most limit of them.
	OrganizationsAfter(ctx context.Context, after, prefix string, status Status, limit int) ([]Organization, error)
	// UnfinishedOrganizations returns those whose operation was last touched
	// at the time or earlier.
	UnfinishedOrganizations(ctx context.Context, before time.Time) ([]Organization, error)
	// ReplaceOrganization replaces the record that has the id, revision and
	// status of seen by next, with the revision of seen plus one. It reports
	// whether there was such a record.
	ReplaceOrganization(ctx context.Context, seen, next Organization) (bool, error)
	// FenceOrganizations adds one to the revision of each of the records, so that no
	// write that depends on an earlier read succeeds. It leaves out those that are
	// being deleted, which nothing else can follow on.
	FenceOrganizations(ctx context.Context, ids []string) error
	// DeleteOrganization deletes the record if it has that revision.
	DeleteOrganization(ctx context.Context, id string, revision int64) error
}

// AdminStore keeps the people who log in.
type AdminStore interface {
	// InsertAdmin inserts a new admin.
	InsertAdmin(ctx context.Context, a Admin) error
	// Admin returns ErrNotFound if there is none of that id.
	Admin(ctx context.Context, id string) (Admin, error)
	// AdminsByID returns the admins of these ids that exist.
	AdminsByID(ctx context.Context, ids []string) ([]Admin, error)
	// AdminsByEmail returns the admins who have the email: at most one, and
	// those whom a crash has left without an organization.
	AdminsByEmail(ctx context.Context, email string) ([]Admin, error)
	// Admins returns all admins.
	Admins(ctx context.Context) ([]Admin, error)
	// ReplaceAdmin replaces the record that has the id and revision of seen by
	// next, with the revision of seen plus one. It reports whether there was such
	// a record.
	ReplaceAdmin(ctx context.Context, seen, next Admin) (bool, error)
	// RehashPassword replaces the hash if it is still old.
	RehashPassword(ctx context.Context, adminID, old, hash string) error
	// DeleteAdmin deletes the admin if it has that revision.
	DeleteAdmin(ctx context.Context, id string, revision int64) error
	// DeleteAdmins deletes those of the admins who have no other organization.
	DeleteAdmins(ctx context.Context, ids []string, organizationID string) error
	// LeaveOrganization takes the organization from the records of the admins.
	LeaveOrganization(ctx context.Context, ids []string, organizationID string) error
	// UseOrganization makes the organization the one that the admin has used last.
	UseOrganization(ctx context.Context, adminID, organizationID string) error
}

// SessionStore keeps sessions.
type SessionStore interface {
	// InsertSession inserts a new session.
	InsertSession(ctx context.Context, s Session) error
	// Session returns ErrNotFound if there is none of that id.
	Session(ctx context.Context, id string) (Session, error)
	// SessionsOf returns the sessions of the admin, or MostSessionsOf of them if there are
	// more: older versions had no limit.
	SessionsOf(ctx context.Context, adminID string) ([]Session, error)
	// RotateSession replaces the hash old of the refresh token, which was used at that
	// time. It reports whether the session still had it.
	RotateSession(ctx context.Context, id, old, hash string, used time.Time) (bool, error)
	// DeleteOtherSessions deletes the sessions of the admin but those to keep.
	DeleteOtherSessions(ctx context.Context, adminID string, keep ...string) error
	// EndSessions deletes those of the sessions that there are.
	EndSessions(ctx context.Context, ids []string) error
	// DeleteSession deletes the session, if there is one.
	DeleteSession(ctx context.Context, id string) error
	// DeleteSessions deletes the sessions of the organization.
	DeleteSessions(ctx context.Context, organizationID string) error
	// DeleteSessionsSince deletes the sessions of the organization that have that LastAct.
	DeleteSessionsSince(ctx context.Context, organizationID, act string) error
	// DeleteSessionsOf deletes the sessions of the admin for the organization.
	DeleteSessionsOf(ctx context.Context, adminID, organizationID string) error
	// DeleteExpired deletes the sessions, the tickets, the counts of events and the
	// idempotency keys that have expired before now.
	DeleteExpired(ctx context.Context, now time.Time) error
}

// TicketStore keeps tickets.
type TicketStore interface {
	// InsertTicket inserts a new ticket.
	InsertTicket(ctx context.Context, t Ticket) error
	// Ticket returns ErrNotFound if there is none of that id.
	Ticket(ctx context.Context, id string) (Ticket, error)
	// ReplaceTicket replaces the ticket seen by next if it still has the same hashes.
	// It reports whether there was such a ticket.
	ReplaceTicket(ctx context.Context, seen, next Ticket) (bool, error)
	// UnmailedTickets returns the tickets made before a time that are not mailed.
	UnmailedTickets(ctx context.Context, before time.Time) ([]Ticket, error)
	// DeleteTicket deletes the ticket, if there is one.
	DeleteTicket(ctx context.Context, id string) error
	// DeleteTickets deletes the tickets of the organization.
	DeleteTickets(ctx context.Context, organizationID string) error
}

// CountStore counts events, such as attempts to prove a password.
type CountStore interface {
	// CountEvent counts the event and returns the count after it.
	CountEvent(ctx context.Context, e Event) (Count, error)
	// Count returns the count of the key, which is empty if there is none.
	Count(ctx context.Context, key string) (Count, error)
	// Remember makes the key known until the event expires.
	Remember(ctx context.Context, e Event) error
	// Known reports whether the key is known at that time.
	Known(ctx context.Context, key string, at time.Time) (bool, error)
	// TakeBackEvents takes each event out of its count, if it is there, by one command.
	TakeBackEvents(ctx context.Context, events []Event) error
	// ForgetEvents deletes the count.
	ForgetEvents(ctx context.Context, key string) error
}

// CollectionStore manages the organizations' own collections.
type CollectionStore interface {
	// ChecksCollections reports whether the server compares the UUID in a
	// command to rename or drop a collection, in the same step in which it
	// does so. MongoDB does from version 6.0 on. Otherwise the store compares
	// it before it sends the command.
	ChecksCollections() bool
	// Collections returns those of the named collections that exist or,
	// without names, all that have the prefix of organizations' collections.
	Collections(ctx context.Context, database string, names ...string) ([]Collection, error)
	// CreateCollection creates a collection. It may succeed if there is one of
	// that name.
	CreateCollection(ctx context.Context, database, name string) error
	// RenameCollection renames the collection c. It returns ErrNotFound if
	// there is none of that name and UUID, and ErrConflict if there is one of
	// the new name. An empty UUID matches any collection.
	RenameCollection(ctx context.Context, database string, c Collection, to string) error
	// DropCollection drops the collection c. It returns ErrNotFound if there
	// is none of that name and UUID. An empty UUID matches any collection.
	DropCollection(ctx context.Context, database string, c Collection) error
	// CollectionIsEmpty reports whether the collection has no document, or
	// does not exist.
	CollectionIsEmpty(ctx context.Context, database, name string) (bool, error)
	// CountDocuments returns about how many documents the collection has, from its metadata.
	CountDocuments(ctx context.Context, database, name string) (int64, error)
}

// ReceiptStore keeps the receipts of organizations that were deleted for good.
type ReceiptStore interface {
	// InsertReceipt inserts a receipt, unless there is one of its organization.
	InsertReceipt(ctx context.Context, r Receipt) error
	// Receipt returns the receipt of the organization, or ErrNotFound.
	Receipt(ctx context.Context, organizationID string) (Receipt, error)
}

// KeyStore keeps idempotency keys. The id of a key is unique.
type KeyStore interface {
	// InsertKey inserts the key unless its id exists. It reports whether it did.
	InsertKey(ctx context.Context, k IdempotencyKey) (bool, error)
	// Key returns ErrNotFound if there is none of that id.
	Key(ctx context.Context, id string) (IdempotencyKey, error)
	// ReplaceKey replaces the key seen by next if it still has no outcome, or has expired, and its
	// latest try and when that began are the same. It reports whether it did.
	ReplaceKey(ctx context.Context, seen, next IdempotencyKey) (bool, error)
	// FinishKey puts the outcome on the key if it has a try with that change, and none or, if
	// this one has an answer, one without.
	FinishKey(ctx context.Context, id, change string, outcome Outcome) error
	// DeleteKey deletes the key on the condition of ReplaceKey.
	DeleteKey(ctx context.Context, seen IdempotencyKey) error
}

// IndexStore manages the indexes of the master database.
type IndexStore interface {
	// EnsureIndexes makes the indexes that are missing. It returns those that
	// could not be made, with the reason.
	EnsureIndexes(ctx context.Context) (failed map[string]error, err error)
	// MissingIndexes returns the names of the indexes that are missing.
	MissingIndexes(ctx context.Context) ([]string, error)
}

// MigrationStore keeps which migrations were met, and which are finished.
type MigrationStore interface {
	// Migrations returns all that are kept, in no order.
	Migrations(ctx context.Context) ([]Migration, error)
	// InsertMigration keeps a migration. It does nothing if it is kept already.
	InsertMigration(ctx context.Context, m Migration) error
	// FinishMigration keeps a migration as finished, whether it was kept or not.
	FinishMigration(ctx context.Context, m Migration) error
}
