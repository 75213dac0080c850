package org_test

import (
	"errors"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"golang.org/x/crypto/bcrypt"

	"orgservice/shared/org"
)

// before is what the version before kept of an organization: claims know the
// operation that made them, nothing knows UUIDs, and names and emails are
// unique by indexes.
type before struct {
	id, admin, operation bson.ObjectID
	since                time.Time
	record               bson.D
}

func (f *fixture) before(t *testing.T, status, key string, operation bson.D) before {
	t.Helper()
	b := before{bson.NewObjectID(), bson.NewObjectID(), bson.NewObjectID(), time.Now().Add(-time.Hour), nil}
	for collection, field := range map[string]string{"organizations": "name_key", "admins": "email"} {
		model := mongo.IndexModel{Keys: bson.D{{Key: field, Value: 1}}, Options: options.Index().SetUnique(true)}
		if _, err := f.db.Client.Database(f.db.Name).Collection(collection).Indexes().CreateOne(t.Context(), model); err != nil {
			t.Fatal(err)
		}
	}
	if key == "" {
		key = "deleting:" + b.id.Hex()
	}
	b.record = bson.D{
		{Key: "_id", Value: b.id}, {Key: "organization_name", Value: "Acme"}, {Key: "name_key", Value: key},
		{Key: "collection_name", Value: "org_acme"}, {Key: "database", Value: f.db.Name}, {Key: "status", Value: status},
		{Key: "admins", Value: bson.A{bson.D{{Key: "admin_id", Value: b.admin}, {Key: "token_version", Value: int64(1)}}}},
		{Key: "claims", Value: bson.A{"org_acme", "email:a@example.com"}}, {Key: "revision", Value: int64(2)},
		{Key: "created_at", Value: b.since}, {Key: "updated_at", Value: b.since},
	}
	if operation != nil {
		b.record = append(b.record, bson.E{Key: "operation", Value: append(bson.D{
			{Key: "id", Value: b.operation}, {Key: "started_at", Value: b.since}, {Key: "touched_at", Value: b.since},
		}, operation...)})
	}
	f.insert(t, "organizations", b.record)
	f.claimBefore(t, b, "org_acme", "email:a@example.com")
	f.adminBefore(t, b, "a@example.com", adminPassword, 1)
	return b
}

func (f *fixture) claimBefore(t *testing.T, b before, ids ...string) {
	t.Helper()
	for _, id := range ids {
		f.insert(t, "claims", bson.D{{Key: "_id", Value: id}, {Key: "organization_id", Value: b.id},
			{Key: "operation_id", Value: b.operation}, {Key: "revision", Value: int64(1)}, {Key: "claimed_at", Value: b.since}})
	}
}

func (f *fixture) adminBefore(t *testing.T, b before, email, password string, version int64) {
	t.Helper()
	admins := f.db.Client.Database(f.db.Name).Collection("admins")
	if _, err := admins.DeleteMany(t.Context(), bson.D{{Key: "_id", Value: b.admin}}); err != nil {
		t.Fatal(err)
	}
	f.insert(t, "admins", bson.D{{Key: "_id", Value: b.admin}, {Key: "organization_id", Value: b.id}, {Key: "email", Value: email},
		{Key: "password_hash", Value: mustHash(t, password)}, {Key: "token_version", Value: version},
		{Key: "created_at", Value: b.since}, {Key: "updated_at", Value: b.since}})
}

func mustHash(t *testing.T, password string) string {
	t.Helper()
	hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	return string(hash)
}

// updating is the journal of an update that changes everything.
func updating(t *testing.T, admin bson.ObjectID) bson.D {
	return bson.D{{Key: "kind", Value: "update"}, {Key: "revision", Value: int64(1)},
		{Key: "organization_name", Value: "Bolt"}, {Key: "name_key", Value: "bolt"}, {Key: "collection_name", Value: "org_bolt"},
		{Key: "claims", Value: bson.A{"org_bolt", "email:b@example.com"}}, {Key: "admin_id", Value: admin},
		{Key: "email", Value: "b@example.com"}, {Key: "password_hash", Value: mustHash(t, "Better@123")}, {Key: "token_version", Value: int64(2)}}
}

// TestUpgrade finds the database as the version before has left it, at rest
// and in the middle of every operation.
func TestUpgrade(t *testing.T) {
	journal := func(t *testing.T, f *fixture) before {
		b := f.before(t, "active", "acme", nil)
		f.claimBefore(t, b, "org_bolt", "email:b@example.com")
		f.set(t, "organizations", b.id.Hex(), bson.D{{Key: "operation", Value: append(bson.D{
			{Key: "id", Value: b.operation}, {Key: "started_at", Value: b.since}, {Key: "touched_at", Value: b.since},
		}, updating(t, b.admin)...)}})
		return b
	}
	for name, test := range map[string]struct {
		leave           func(t *testing.T, f *fixture)
		name            string // of the organization afterwards; empty: none
		email, password string
	}{
		"at rest": {func(t *testing.T, f *fixture) {
			f.before(t, "active", "acme", nil)
			f.fillTenant(t, "org_acme")
		}, "Acme", "a@example.com", adminPassword},
		"creation": {func(t *testing.T, f *fixture) {
			f.before(t, "provisioning", "acme", bson.D{{Key: "kind", Value: "create"}})
		}, "", "", ""},
		"creation, with its collection": {func(t *testing.T, f *fixture) {
			f.before(t, "provisioning", "acme", bson.D{{Key: "kind", Value: "create"}})
			if err := f.Store.CreateCollection(t.Context(), f.db.Name, "org_acme"); err != nil {
				t.Fatal(err)
			}
		}, "", "", ""},
		"update": {func(t *testing.T, f *fixture) {
			journal(t, f)
			f.fillTenant(t, "org_acme")
		}, "Bolt", "b@example.com", "Better@123"},
		"update, moved": {func(t *testing.T, f *fixture) {
			journal(t, f)
			f.fillTenant(t, "org_bolt")
		}, "Bolt", "b@example.com", "Better@123"},
		"update, moved, with its admin": {func(t *testing.T, f *fixture) {
			b := journal(t, f)
			f.fillTenant(t, "org_bolt")
			f.adminBefore(t, b, "b@example.com", "Better@123", 2)
		}, "Bolt", "b@example.com", "Better@123"},
		"deletion": {func(t *testing.T, f *fixture) {
			f.before(t, "deleting", "", bson.D{{Key: "kind", Value: "delete"}})
			f.fillTenant(t, "org_acme")
		}, "", "", ""},
		"deletion, without its collection": {func(t *testing.T, f *fixture) {
			f.before(t, "deleting", "", bson.D{{Key: "kind", Value: "delete"}})
		}, "", "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			onBoth(t, func(t *testing.T, f *fixture) {
				test.leave(t, f)
				report := f.mustReconcile(t)
				if len(report.NeedsAttention) > 0 {
					t.Errorf("%+v", report)
				}
				f.later(2 * org.StaleAfter)
				f.mustReconcile(t)
				if test.name != "" {
					f.Now = nil // tokens are verified by the real clock
				}
				if findings, err := f.Inspect(t.Context()); err != nil || len(findings) > 0 {
					t.Errorf("findings: %+v, %v", findings, err)
				}
				if test.name == "" {
					if _, err := f.Get(t.Context(), "Acme"); !errors.Is(err, org.ErrNotFound) {
						t.Errorf("Get: %v", err)
					}
					f.mustCreate(t, "Acme", "a@example.com")
					return
				}
				o, err := f.Get(t.Context(), test.name)
				if err != nil {
					t.Fatal(err)
				}
				if documents := f.snapshot(t)[o.Collection].Documents; len(documents) != 3 {
					t.Errorf("%s has %v", o.Collection, documents)
				}
				caller := f.mustLogin(t, test.email, test.password)
				_, err = f.Update(t.Context(), caller, org.UpdateRequest{
					OrganizationName: new("Core"), Email: new("c@example.com"), Password: new("Another@123"), CurrentPassword: &test.password})
				if err != nil {
					t.Fatal(err)
				}
				if _, err := f.Delete(t.Context(), f.mustLogin(t, "c@example.com", "Another@123"), nil); err != nil {
					t.Fatal(err)
				}
			})
		})
	}
}
