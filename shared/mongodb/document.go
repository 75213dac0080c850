package mongodb

import (
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"orgservice/shared/org"
)

// The documents as the database has them.

type organizationDoc struct {
	ID         bson.ObjectID `bson:"_id"`
	Name       string        `bson:"organization_name"`
	Key        string        `bson:"name_key"`
	Collection string        `bson:"collection_name"`
	UUID       string        `bson:"collection_uuid,omitempty"`
	Database   string        `bson:"database"`
	Status     org.Status    `bson:"status"`
	Admins     []memberDoc   `bson:"admins"`
	Claims     []string      `bson:"claims"`
	Revision   int64         `bson:"revision"`
	Operation  *operationDoc `bson:"operation,omitempty"`
	Committed  bson.ObjectID `bson:"committed_operation_id,omitempty"`
	CreatedAt  time.Time     `bson:"created_at"`
	UpdatedAt  time.Time     `bson:"updated_at"`
}

type memberDoc struct {
	AdminID      bson.ObjectID `bson:"admin_id"`
	TokenVersion int64         `bson:"token_version"`
}

type operationDoc struct {
	ID           bson.ObjectID     `bson:"id"`
	Kind         org.OperationKind `bson:"kind"`
	StartedAt    time.Time         `bson:"started_at"`
	TouchedAt    time.Time         `bson:"touched_at"`
	Name         string            `bson:"organization_name,omitempty"`
	Collection   string            `bson:"collection_name,omitempty"`
	Claims       []string          `bson:"claims,omitempty"`
	AdminID      bson.ObjectID     `bson:"admin_id,omitempty"`
	Email        string            `bson:"email,omitempty"`
	PasswordHash string            `bson:"password_hash,omitempty"`
	TokenVersion int64             `bson:"token_version,omitempty"`
}

type adminDoc struct {
	ID             bson.ObjectID `bson:"_id"`
	OrganizationID bson.ObjectID `bson:"organization_id"`
	Email          string        `bson:"email"`
	PasswordHash   string        `bson:"password_hash"`
	TokenVersion   int64         `bson:"token_version"`
	Revision       int64         `bson:"revision,omitempty"`
	CreatedAt      time.Time     `bson:"created_at"`
	UpdatedAt      time.Time     `bson:"updated_at"`
}

type claimDoc struct {
	ID             string        `bson:"_id"`
	OrganizationID bson.ObjectID `bson:"organization_id"`
	Revision       int64         `bson:"revision"`
	ClaimedAt      time.Time     `bson:"claimed_at"`
	RestingSince   time.Time     `bson:"resting_since,omitempty"`
}

// nameKey returns what the versions before kept in name_key, under a unique
// index, and look up: the slug of an active organization, and of every other
// something that is no slug.
func nameKey(o org.Organization) string {
	if o.Status == org.Active || o.Status == org.Suspended {
		return strings.TrimPrefix(o.Collection, org.CollectionPrefix)
	}
	return string(o.Status) + ":" + o.ID
}

func newOrganizationDoc(o org.Organization) (organizationDoc, error) {
	ids, err := objectIDs(o.ID)
	if err != nil {
		return organizationDoc{}, err
	}
	doc := organizationDoc{
		ID: ids[0], Name: o.Name, Key: nameKey(o), Collection: o.Collection, UUID: o.CollectionUUID, Database: o.Database,
		Status: o.Status, Claims: o.Claims, Revision: o.Revision,
		CreatedAt: o.CreatedAt, UpdatedAt: o.UpdatedAt,
	}
	for _, m := range o.Admins {
		ids, err := objectIDs(m.AdminID)
		if err != nil {
			return organizationDoc{}, err
		}
		doc.Admins = append(doc.Admins, memberDoc{AdminID: ids[0], TokenVersion: m.TokenVersion})
	}
	if doc.Committed, err = optionalID(o.Committed); err != nil {
		return organizationDoc{}, err
	}
	if op := o.Operation; op != nil {
		ids, err := objectIDs(op.ID)
		if err != nil {
			return organizationDoc{}, err
		}
		doc.Operation = &operationDoc{
			ID: ids[0], Kind: op.Kind, StartedAt: op.StartedAt, TouchedAt: op.TouchedAt,
			Name: op.Name, Collection: op.Collection, Claims: op.Claims,
			Email: op.Email, PasswordHash: op.PasswordHash, TokenVersion: op.TokenVersion,
		}
		if doc.Operation.AdminID, err = optionalID(op.AdminID); err != nil {
			return organizationDoc{}, err
		}
	}
	return doc, nil
}

func (d organizationDoc) organization() org.Organization {
	o := org.Organization{
		ID: hexID(d.ID), Name: d.Name, Collection: d.Collection, CollectionUUID: d.UUID, Database: d.Database,
		Status: d.Status, Claims: d.Claims, Revision: d.Revision, Committed: hexID(d.Committed),
		CreatedAt: d.CreatedAt.UTC(), UpdatedAt: d.UpdatedAt.UTC(),
	}
	for _, m := range d.Admins {
		o.Admins = append(o.Admins, org.Member{AdminID: hexID(m.AdminID), TokenVersion: m.TokenVersion})
	}
	if op := d.Operation; op != nil {
		o.Operation = &org.Operation{
			ID: hexID(op.ID), Kind: op.Kind, StartedAt: op.StartedAt.UTC(), TouchedAt: op.TouchedAt.UTC(),
			Name: op.Name, Collection: op.Collection, Claims: op.Claims,
			AdminID: hexID(op.AdminID), Email: op.Email, PasswordHash: op.PasswordHash, TokenVersion: op.TokenVersion,
		}
	}
	return o
}

func newAdminDoc(a org.Admin) (adminDoc, error) {
	ids, err := objectIDs(a.ID, a.OrganizationID)
	if err != nil {
		return adminDoc{}, err
	}
	return adminDoc{
		ID: ids[0], OrganizationID: ids[1], Email: a.Email, PasswordHash: a.PasswordHash,
		TokenVersion: a.TokenVersion, Revision: a.Revision, CreatedAt: a.CreatedAt, UpdatedAt: a.UpdatedAt,
	}, nil
}

func (d adminDoc) admin() org.Admin {
	return org.Admin{
		ID: hexID(d.ID), OrganizationID: hexID(d.OrganizationID), Email: d.Email, PasswordHash: d.PasswordHash,
		TokenVersion: d.TokenVersion, Revision: d.Revision, CreatedAt: d.CreatedAt.UTC(), UpdatedAt: d.UpdatedAt.UTC(),
	}
}

func newClaimDoc(c org.Claim) (claimDoc, error) {
	ids, err := objectIDs(c.OrganizationID)
	if err != nil {
		return claimDoc{}, err
	}
	return claimDoc{
		ID: c.ID, OrganizationID: ids[0], Revision: c.Revision, ClaimedAt: c.ClaimedAt, RestingSince: c.RestingSince,
	}, nil
}

func (d claimDoc) claim() org.Claim {
	return org.Claim{
		ID: d.ID, OrganizationID: hexID(d.OrganizationID), Revision: d.Revision,
		ClaimedAt: d.ClaimedAt.UTC(), RestingSince: d.RestingSince.UTC(),
	}
}

type sessionDoc struct {
	ID             string        `bson:"_id"`
	AdminID        bson.ObjectID `bson:"admin_id"`
	OrganizationID bson.ObjectID `bson:"organization_id"`
	TokenVersion   int64         `bson:"token_version"`
	RefreshHash    string        `bson:"refresh_hash"`
	CreatedAt      time.Time     `bson:"created_at"`
	ExpiresAt      time.Time     `bson:"expires_at"`
}

type attemptsDoc struct {
	Count int64     `bson:"count"`
	Since time.Time `bson:"since"`
}

func newSessionDoc(s org.Session) (sessionDoc, error) {
	ids, err := objectIDs(s.AdminID, s.OrganizationID)
	if err != nil {
		return sessionDoc{}, err
	}
	return sessionDoc{
		ID: s.ID, AdminID: ids[0], OrganizationID: ids[1], TokenVersion: s.TokenVersion,
		RefreshHash: s.RefreshHash, CreatedAt: s.CreatedAt, ExpiresAt: s.ExpiresAt,
	}, nil
}

func (d sessionDoc) session() org.Session {
	return org.Session{
		ID: d.ID, AdminID: hexID(d.AdminID), OrganizationID: hexID(d.OrganizationID), TokenVersion: d.TokenVersion,
		RefreshHash: d.RefreshHash, CreatedAt: d.CreatedAt.UTC(), ExpiresAt: d.ExpiresAt.UTC(),
	}
}

// optionalID is nothing for an empty id.
func optionalID(id string) (bson.ObjectID, error) {
	if id == "" {
		return bson.NilObjectID, nil
	}
	return bson.ObjectIDFromHex(id)
}

func hexID(id bson.ObjectID) string {
	if id.IsZero() {
		return ""
	}
	return id.Hex()
}
