package mongodb

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"orgservice/shared/org"
)

// The documents as they are stored.

// objectID is an id of package org, which is stored as an ObjectID. An empty one
// is left out where omitempty says so.
type objectID string

// MarshalBSONValue returns an error if the id is not the hexadecimal form of an
// ObjectID.
func (id objectID) MarshalBSONValue() (typ byte, data []byte, err error) {
	oid, err := bson.ObjectIDFromHex(string(id))
	if err != nil {
		return 0, nil, fmt.Errorf("id %q: %w", string(id), err)
	}
	return byte(bson.TypeObjectID), oid[:], nil
}

func (id *objectID) UnmarshalBSONValue(typ byte, data []byte) error {
	oid, ok := bson.RawValue{Type: bson.Type(typ), Value: data}.ObjectIDOK()
	if !ok {
		return fmt.Errorf("an id is stored as %v", bson.Type(typ))
	}
	*id = objectID(oid.Hex())
	return nil
}

type organizationDoc struct {
	ID          objectID        `bson:"_id"`
	Name        string          `bson:"organization_name"`
	Key         string          `bson:"name_key"`
	Collection  string          `bson:"collection_name"`
	UUID        string          `bson:"collection_uuid,omitempty"`
	Database    string          `bson:"database"`
	Status      org.Status      `bson:"status"`
	Admins      []memberDoc     `bson:"admins"`
	Invitations []invitationDoc `bson:"invitations,omitempty"`
	Claims      []string        `bson:"claims"`
	Revision    int64           `bson:"revision"`
	Operation   *operationDoc   `bson:"operation,omitempty"`
	Committed   objectID        `bson:"committed_operation_id,omitempty"`
	CommittedBy string          `bson:"committed_key,omitempty"`
	History     []actDoc        `bson:"history,omitempty"`
	Deletion    *deletionDoc    `bson:"deletion,omitempty"`
	CreatedAt   time.Time       `bson:"created_at"`
	UpdatedAt   time.Time       `bson:"updated_at"`
}

type actDoc struct {
	ID     objectID    `bson:"id"`
	Key    string      `bson:"key,omitempty"`
	Kind   org.ActKind `bson:"kind"`
	By     string      `bson:"by"`
	Reason string      `bson:"reason"`
	At     time.Time   `bson:"at"`
}

func newActDoc(a org.Act) actDoc {
	return actDoc{ID: objectID(a.ID), Key: a.Key, Kind: a.Kind, By: a.By, Reason: a.Reason, At: a.At}
}

func (d actDoc) act() org.Act {
	return org.Act{ID: string(d.ID), Key: d.Key, Kind: d.Kind, By: d.By, Reason: d.Reason, At: d.At.UTC()}
}

type deletionDoc struct {
	At         time.Time `bson:"at"`
	By         objectID  `bson:"admin_id,omitempty"`
	Ends       time.Time `bson:"ends_at"`
	Collection string    `bson:"collection_name"`
}

type receiptDoc struct {
	ID        objectID  `bson:"_id"`
	CreatedAt time.Time `bson:"created_at"`
	DeletedAt time.Time `bson:"deleted_at"`
	DeletedBy objectID  `bson:"deleted_by_admin_id,omitempty"`
	PurgedAt  time.Time `bson:"purged_at"`
	PurgedBy  string    `bson:"purged_by,omitempty"`
	Members   int       `bson:"members"`
	Documents int64     `bson:"documents"`
}

type memberDoc struct {
	AdminID objectID  `bson:"admin_id"`
	Role    org.Role  `bson:"role"`
	Since   time.Time `bson:"since"`
}

type invitationDoc struct {
	ID        string    `bson:"id"`
	Email     string    `bson:"email"`
	Role      org.Role  `bson:"role"`
	InvitedBy objectID  `bson:"invited_by"`
	CreatedAt time.Time `bson:"created_at"`
	ExpiresAt time.Time `bson:"expires_at"`
}

type operationDoc struct {
	ID           objectID          `bson:"id"`
	Key          string            `bson:"key,omitempty"`
	Kind         org.OperationKind `bson:"kind"`
	StartedAt    time.Time         `bson:"started_at"`
	TouchedAt    time.Time         `bson:"touched_at"`
	Name         string            `bson:"organization_name,omitempty"`
	Collection   string            `bson:"collection_name,omitempty"`
	Claims       []string          `bson:"claims,omitempty"`
	AdminID      objectID          `bson:"admin_id,omitempty"`
	Email        string            `bson:"email,omitempty"`
	PasswordHash string            `bson:"password_hash,omitempty"`
	TokenVersion int64             `bson:"token_version,omitempty"`
	Undone       bool              `bson:"undone,omitempty"`
	Act          *actDoc           `bson:"act,omitempty"`
}

type adminDoc struct {
	ID             objectID            `bson:"_id"`
	OrganizationID objectID            `bson:"organization_id"`
	Organizations  []objectID          `bson:"organizations"` // none of older versions
	Email          string              `bson:"email"`
	VerifiedEmail  string              `bson:"verified_email,omitempty"`
	PasswordHash   string              `bson:"password_hash"`
	TokenVersion   int64               `bson:"token_version"`
	Revision       int64               `bson:"revision,omitempty"` // none of some older versions
	Committed      objectID            `bson:"committed_operation_id,omitempty"`
	CommittedBy    string              `bson:"committed_key,omitempty"`
	Journaled      map[string]objectID `bson:"journaled_operation_ids,omitempty"` // by the id of the organization
	CreatedAt      time.Time           `bson:"created_at"`
	UpdatedAt      time.Time           `bson:"updated_at"`
	Asleep         bool                `bson:"asleep,omitempty"`
}

type claimDoc struct {
	ID             string    `bson:"_id"`
	OrganizationID objectID  `bson:"organization_id,omitempty"`
	AdminID        objectID  `bson:"admin_id,omitempty"`
	Revision       int64     `bson:"revision"`
	ClaimedAt      time.Time `bson:"claimed_at"`
	RestingSince   time.Time `bson:"resting_since,omitempty"`
}

type sessionDoc struct {
	ID             string    `bson:"_id"`
	AdminID        objectID  `bson:"admin_id"`
	OrganizationID objectID  `bson:"organization_id"`
	TokenVersion   int64     `bson:"token_version"`
	RefreshHash    string    `bson:"refresh_hash"`
	CreatedAt      time.Time `bson:"created_at"`
	UsedAt         time.Time `bson:"used_at,omitempty"`
	ExpiresAt      time.Time `bson:"expires_at"`
	Address        string    `bson:"address,omitempty"`
	UserAgent      string    `bson:"user_agent,omitempty"`
	LoginID        string    `bson:"login_id,omitempty"`
	LastAct        objectID  `bson:"last_act_id,omitempty"`
}

type ticketDoc struct {
	ID             string       `bson:"_id"`
	Kind           org.MailKind `bson:"kind"`
	OrganizationID objectID     `bson:"organization_id,omitempty"`
	AdminID        objectID     `bson:"admin_id,omitempty"`
	TokenVersion   int64        `bson:"token_version,omitempty"`
	Email          string       `bson:"email"`
	Hashes         []string     `bson:"hashes"`
	Mailed         bool         `bson:"mailed"`
	CreatedAt      time.Time    `bson:"created_at"`
	ExpiresAt      time.Time    `bson:"expires_at"`

	OrganizationName string `bson:"organization_name,omitempty"`
	ByOperator       bool   `bson:"by_operator,omitempty"`
}

type keyDoc struct {
	ID          string      `bson:"_id"`
	Fingerprint string      `bson:"fingerprint"`
	Tries       []tryDoc    `bson:"tries"`
	ClaimedAt   time.Time   `bson:"claimed_at"`
	ExpiresAt   time.Time   `bson:"expires_at"`
	Outcome     *outcomeDoc `bson:"outcome,omitempty"`

	SetsPassword *bool `bson:"sets_password,omitempty"`
}

type tryDoc struct {
	Change         objectID `bson:"change_id"`
	OrganizationID objectID `bson:"organization_id"`
	AdminID        objectID `bson:"admin_id,omitempty"`
}

type outcomeDoc struct {
	OrganizationID objectID  `bson:"organization_id,omitempty"`
	Name           string    `bson:"organization_name,omitempty"`
	CreatedAt      time.Time `bson:"created_at,omitempty"`
	At             time.Time `bson:"at"`
	Answer         []byte    `bson:"answer,omitempty"`
}

type migrationDoc struct {
	Number     any       `bson:"_id"`
	Name       string    `bson:"name"`
	SeenAt     time.Time `bson:"seen_at,omitempty"`
	FinishedAt time.Time `bson:"finished_at,omitempty"`
}

type countDoc struct {
	Parts map[string]int64 `bson:"parts"`
}

func (d countDoc) count() org.Count {
	c := org.Count{}
	for part, n := range d.Parts {
		if number, err := strconv.ParseInt(part, 10, 64); err == nil {
			c[number] = n
		}
	}
	return c
}

// nameKey returns the value of name_key, which only older versions of the service
// read, under a unique index: the slug of an active organization, and for any
// other a value that is no slug.
func nameKey(o org.Organization) string {
	if o.Status == org.Active || o.Status == org.Suspended {
		return strings.TrimPrefix(o.Collection, org.CollectionPrefix)
	}
	return string(o.Status) + ":" + o.ID
}

func newOrganizationDoc(o org.Organization) organizationDoc {
	doc := organizationDoc{
		ID: objectID(o.ID), Name: o.Name, Key: nameKey(o), Collection: o.Collection, UUID: o.CollectionUUID,
		Database: o.Database, Status: o.Status, Claims: o.Claims, Revision: o.Revision,
		Committed: objectID(o.Committed), CommittedBy: o.CommittedKey, CreatedAt: o.CreatedAt, UpdatedAt: o.UpdatedAt,
	}
	for _, m := range o.Admins {
		doc.Admins = append(doc.Admins, memberDoc{AdminID: objectID(m.AdminID), Role: m.Role, Since: m.Since})
	}
	for _, i := range o.Invitations {
		doc.Invitations = append(doc.Invitations, invitationDoc{
			ID: i.ID, Email: i.Email, Role: i.Role, InvitedBy: objectID(i.InvitedBy), CreatedAt: i.CreatedAt, ExpiresAt: i.ExpiresAt,
		})
	}
	for _, a := range o.History {
		doc.History = append(doc.History, newActDoc(a))
	}
	if d := o.Deletion; d != nil {
		doc.Deletion = &deletionDoc{d.At, objectID(d.By), d.Ends, d.Collection}
	}
	if op := o.Operation; op != nil {
		doc.Operation = &operationDoc{
			ID: objectID(op.ID), Key: op.Key, Kind: op.Kind, StartedAt: op.StartedAt, TouchedAt: op.TouchedAt,
			Name: op.Name, Collection: op.Collection, Claims: op.Claims,
			AdminID: objectID(op.AdminID), Email: op.Email, PasswordHash: op.PasswordHash, TokenVersion: op.TokenVersion, Undone: op.Undone,
		}
		if op.Act.ID != "" {
			doc.Operation.Act = new(newActDoc(op.Act))
		}
	}
	return doc
}

func (d organizationDoc) organization() org.Organization {
	o := org.Organization{
		ID: string(d.ID), Name: d.Name, Collection: d.Collection, CollectionUUID: d.UUID, Database: d.Database,
		Status: d.Status, Claims: d.Claims, Revision: d.Revision, Committed: string(d.Committed), CommittedKey: d.CommittedBy,
		CreatedAt: d.CreatedAt.UTC(), UpdatedAt: d.UpdatedAt.UTC(),
	}
	for _, m := range d.Admins {
		if m.Role == "" { // older versions had one admin, and no roles
			m.Role, m.Since = org.RoleOwner, d.CreatedAt
		}
		o.Admins = append(o.Admins, org.Member{AdminID: string(m.AdminID), Role: m.Role, Since: m.Since.UTC()})
	}
	for _, i := range d.Invitations {
		o.Invitations = append(o.Invitations, org.Invitation{
			ID: i.ID, Email: i.Email, Role: i.Role, InvitedBy: string(i.InvitedBy), CreatedAt: i.CreatedAt.UTC(), ExpiresAt: i.ExpiresAt.UTC(),
		})
	}
	for _, a := range d.History {
		o.History = append(o.History, a.act())
	}
	if d := d.Deletion; d != nil {
		o.Deletion = &org.Deletion{At: d.At.UTC(), By: string(d.By), Ends: d.Ends.UTC(), Collection: d.Collection}
	}
	if op := d.Operation; op != nil {
		o.Operation = &org.Operation{
			ID: string(op.ID), Key: op.Key, Kind: op.Kind, StartedAt: op.StartedAt.UTC(), TouchedAt: op.TouchedAt.UTC(),
			Name: op.Name, Collection: op.Collection, Claims: op.Claims,
			AdminID: string(op.AdminID), Email: op.Email, PasswordHash: op.PasswordHash, TokenVersion: op.TokenVersion, Undone: op.Undone,
		}
		if op.Act != nil {
			o.Operation.Act = op.Act.act()
		}
	}
	return o
}

func newAdminDoc(a org.Admin) adminDoc {
	doc := adminDoc{
		ID: objectID(a.ID), OrganizationID: objectID(a.OrganizationID), Organizations: []objectID{}, Email: a.Email, VerifiedEmail: a.VerifiedEmail, PasswordHash: a.PasswordHash,
		TokenVersion: a.TokenVersion, Revision: a.Revision, Committed: objectID(a.Committed), CommittedBy: a.CommittedKey,
		CreatedAt: a.CreatedAt, UpdatedAt: a.UpdatedAt, Asleep: a.Asleep,
	}
	for _, id := range a.Organizations {
		doc.Organizations = append(doc.Organizations, objectID(id))
	}
	if a.Journaled != nil {
		doc.Journaled = map[string]objectID{}
	}
	for organizationID, id := range a.Journaled {
		doc.Journaled[organizationID] = objectID(id)
	}
	return doc
}

func (d adminDoc) admin() org.Admin {
	a := org.Admin{
		ID: string(d.ID), OrganizationID: string(d.OrganizationID), Email: d.Email, VerifiedEmail: d.VerifiedEmail, PasswordHash: d.PasswordHash,
		TokenVersion: d.TokenVersion, Revision: d.Revision, Committed: string(d.Committed), CommittedKey: d.CommittedBy,
		CreatedAt: d.CreatedAt.UTC(), UpdatedAt: d.UpdatedAt.UTC(), Asleep: d.Asleep,
	}
	for _, id := range d.Organizations {
		a.Organizations = append(a.Organizations, string(id))
	}
	a.Outdated = d.Organizations == nil
	if a.Outdated && d.OrganizationID != "" {
		a.Organizations = []string{string(d.OrganizationID)}
	}
	if d.Journaled != nil {
		a.Journaled = map[string]string{}
	}
	for organizationID, id := range d.Journaled {
		a.Journaled[organizationID] = string(id)
	}
	return a
}

func newClaimDoc(c org.Claim) claimDoc {
	return claimDoc{
		ID: c.ID, OrganizationID: objectID(c.OrganizationID), AdminID: objectID(c.AdminID), Revision: c.Revision,
		ClaimedAt: c.ClaimedAt, RestingSince: c.RestingSince,
	}
}

func (d claimDoc) claim() org.Claim {
	return org.Claim{
		ID: d.ID, Owner: org.Owner{OrganizationID: string(d.OrganizationID), AdminID: string(d.AdminID)}, Revision: d.Revision,
		ClaimedAt: d.ClaimedAt.UTC(), RestingSince: d.RestingSince.UTC(),
	}
}

func newReceiptDoc(r org.Receipt) receiptDoc {
	return receiptDoc{objectID(r.ID), r.CreatedAt, r.DeletedAt, objectID(r.DeletedBy), r.PurgedAt, r.PurgedBy, r.Members, r.Documents}
}

func (d receiptDoc) receipt() org.Receipt {
	return org.Receipt{
		ID: string(d.ID), CreatedAt: d.CreatedAt.UTC(), DeletedAt: d.DeletedAt.UTC(), DeletedBy: string(d.DeletedBy),
		PurgedAt: d.PurgedAt.UTC(), PurgedBy: d.PurgedBy, Members: d.Members, Documents: d.Documents,
	}
}

func newKeyDoc(k org.IdempotencyKey) keyDoc {
	doc := keyDoc{ID: k.ID, Fingerprint: k.Fingerprint, ClaimedAt: k.ClaimedAt, ExpiresAt: k.ExpiresAt, SetsPassword: k.SetsPassword}
	for _, t := range k.Tries {
		doc.Tries = append(doc.Tries, tryDoc{objectID(t.Change), objectID(t.OrganizationID), objectID(t.AdminID)})
	}
	if !k.Outcome.At.IsZero() {
		doc.Outcome = newOutcomeDoc(k.Outcome)
	}
	return doc
}

func newOutcomeDoc(o org.Outcome) *outcomeDoc {
	return &outcomeDoc{objectID(o.OrganizationID), o.Name, o.CreatedAt, o.At, o.Answer}
}

func (d keyDoc) key() org.IdempotencyKey {
	k := org.IdempotencyKey{ID: d.ID, Fingerprint: d.Fingerprint, ClaimedAt: d.ClaimedAt.UTC(), ExpiresAt: d.ExpiresAt.UTC(), SetsPassword: d.SetsPassword}
	for _, t := range d.Tries {
		k.Tries = append(k.Tries, org.Try{Change: string(t.Change), OrganizationID: string(t.OrganizationID), AdminID: string(t.AdminID)})
	}
	if o := d.Outcome; o != nil {
		k.Outcome = org.Outcome{OrganizationID: string(o.OrganizationID), Name: o.Name, CreatedAt: o.CreatedAt.UTC(), At: o.At.UTC(), Answer: o.Answer}
	}
	return k
}

func newMigrationDoc(m org.Migration) migrationDoc {
	return migrationDoc{m.Number, m.Name, m.SeenAt, m.FinishedAt}
}

// migration returns the migration. Its number is -1 if this version can't read it.
func (d migrationDoc) migration() org.Migration {
	m := org.Migration{Number: -1, Name: d.Name, SeenAt: d.SeenAt.UTC(), FinishedAt: d.FinishedAt.UTC()}
	switch n := d.Number.(type) {
	case int32:
		m.Number = int(n)
	case int64:
		m.Number = int(n)
	}
	return m
}

func newSessionDoc(s org.Session) sessionDoc {
	return sessionDoc{
		ID: s.ID, AdminID: objectID(s.AdminID), OrganizationID: objectID(s.OrganizationID), TokenVersion: s.TokenVersion,
		RefreshHash: s.RefreshHash, CreatedAt: s.CreatedAt, UsedAt: s.UsedAt, ExpiresAt: s.ExpiresAt,
		Address: s.Client.Address, UserAgent: s.Client.UserAgent, LoginID: s.LoginID, LastAct: objectID(s.LastAct),
	}
}

func (d sessionDoc) session() org.Session {
	return org.Session{
		ID: d.ID, AdminID: string(d.AdminID), OrganizationID: string(d.OrganizationID), TokenVersion: d.TokenVersion,
		RefreshHash: d.RefreshHash, CreatedAt: d.CreatedAt.UTC(), UsedAt: d.UsedAt.UTC(), ExpiresAt: d.ExpiresAt.UTC(),
		Client: org.Client{Address: d.Address, UserAgent: d.UserAgent}, LoginID: d.LoginID, LastAct: string(d.LastAct),
	}
}

func newTicketDoc(t org.Ticket) ticketDoc {
	return ticketDoc{
		ID: t.ID, Kind: t.Kind, OrganizationID: objectID(t.OrganizationID), AdminID: objectID(t.AdminID), TokenVersion: t.TokenVersion,
		Email: t.Email, Hashes: t.Hashes, Mailed: t.Mailed, CreatedAt: t.CreatedAt, ExpiresAt: t.ExpiresAt,
		OrganizationName: t.OrganizationName, ByOperator: t.ByOperator,
	}
}

func (d ticketDoc) ticket() org.Ticket {
	return org.Ticket{
		ID: d.ID, Kind: d.Kind, OrganizationID: string(d.OrganizationID), AdminID: string(d.AdminID), TokenVersion: d.TokenVersion,
		Email: d.Email, Hashes: d.Hashes, Mailed: d.Mailed, CreatedAt: d.CreatedAt.UTC(), ExpiresAt: d.ExpiresAt.UTC(),
		OrganizationName: d.OrganizationName, ByOperator: d.ByOperator,
	}
}
