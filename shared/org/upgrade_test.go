package org_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"golang.org/x/crypto/bcrypt"

	"orgservice/shared/org"
)

// oldRecord is an organization as the previous version of the service stored
// it: a claim has the id of the operation that made it, there are no UUIDs, and
// unique indexes keep names and emails unique.
type oldRecord struct {
	id, admin, operation bson.ObjectID
	since                time.Time
	record               bson.D
}

// insertOld inserts an organization of the previous version, with its claims
// and its admin.
func (f *fixture) insertOld(t *testing.T, status, key string, operation bson.D) oldRecord {
	t.Helper()
	b := oldRecord{bson.NewObjectID(), bson.NewObjectID(), bson.NewObjectID(), time.Now().Add(-time.Hour), nil}
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
	f.insertOldClaims(t, b, "org_acme", "email:a@example.com")
	f.replaceOldAdmin(t, b, "a@example.com", adminPassword, 1)
	return b
}

// insertOldNamed inserts an organization of the previous version with another name and email.
func (f *fixture) insertOldNamed(t *testing.T, name, email string) oldRecord {
	t.Helper()
	b := f.insertOld(t, "active", "acme", nil)
	collection := mustParseName(t, name).Collection()
	claims := []string{collection, "email:" + email}
	if _, err := f.db.Client.Database(f.db.Name).Collection("claims").DeleteMany(t.Context(), bson.D{{Key: "organization_id", Value: b.id}}); err != nil {
		t.Fatal(err)
	}
	f.insertOldClaims(t, b, claims...)
	f.set(t, "organizations", b.id.Hex(), bson.D{
		{Key: "organization_name", Value: name}, {Key: "name_key", Value: strings.TrimPrefix(collection, "org_")},
		{Key: "collection_name", Value: collection}, {Key: "claims", Value: claims},
	})
	f.replaceOldAdmin(t, b, email, adminPassword, 1)
	f.fillTenant(t, collection)
	return b
}

func (f *fixture) insertOldClaims(t *testing.T, b oldRecord, ids ...string) {
	t.Helper()
	for _, id := range ids {
		f.insert(t, "claims", bson.D{{Key: "_id", Value: id}, {Key: "organization_id", Value: b.id},
			{Key: "operation_id", Value: b.operation}, {Key: "revision", Value: int64(1)}, {Key: "claimed_at", Value: b.since}})
	}
}

func (f *fixture) replaceOldAdmin(t *testing.T, b oldRecord, email, password string, version int64) {
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

// updateJournal returns the journal of an update that changes everything.
func updateJournal(t *testing.T, admin bson.ObjectID) bson.D {
	return bson.D{{Key: "kind", Value: "update"}, {Key: "revision", Value: int64(1)},
		{Key: "organization_name", Value: "Bolt"}, {Key: "name_key", Value: "bolt"}, {Key: "collection_name", Value: "org_bolt"},
		{Key: "claims", Value: bson.A{"org_bolt", "email:b@example.com"}}, {Key: "admin_id", Value: admin},
		{Key: "email", Value: "b@example.com"}, {Key: "password_hash", Value: mustHash(t, "Better@123")}, {Key: "token_version", Value: int64(2)}}
}

// TestUpgrade starts with a database of the previous version, with no operation
// under way and in the middle of every operation.
func TestUpgrade(t *testing.T) {
	t.Parallel()
	insertUpdating := func(t *testing.T, f *fixture) oldRecord {
		b := f.insertOld(t, "active", "acme", nil)
		f.insertOldClaims(t, b, "org_bolt", "email:b@example.com")
		f.set(t, "organizations", b.id.Hex(), bson.D{{Key: "operation", Value: append(bson.D{
			{Key: "id", Value: b.operation}, {Key: "started_at", Value: b.since}, {Key: "touched_at", Value: b.since},
		}, updateJournal(t, b.admin)...)}})
		return b
	}
	for name, test := range map[string]struct {
		prepare         func(t *testing.T, f *fixture)
		name            string // of the organization afterwards; empty: none
		email, password string
	}{
		"no operation": {func(t *testing.T, f *fixture) {
			f.insertOld(t, "active", "acme", nil)
			f.fillTenant(t, "org_acme")
		}, "Acme", "a@example.com", adminPassword},
		"creation": {func(t *testing.T, f *fixture) {
			f.insertOld(t, "provisioning", "acme", bson.D{{Key: "kind", Value: "create"}})
		}, "", "", ""},
		"creation, with its collection": {func(t *testing.T, f *fixture) {
			f.insertOld(t, "provisioning", "acme", bson.D{{Key: "kind", Value: "create"}})
			if err := f.Store.CreateCollection(t.Context(), f.db.Name, "org_acme"); err != nil {
				t.Fatal(err)
			}
		}, "", "", ""},
		"update": {func(t *testing.T, f *fixture) {
			insertUpdating(t, f)
			f.fillTenant(t, "org_acme")
		}, "Bolt", "b@example.com", "Better@123"},
		"update, collection renamed": {func(t *testing.T, f *fixture) {
			insertUpdating(t, f)
			f.fillTenant(t, "org_bolt")
		}, "Bolt", "b@example.com", "Better@123"},
		"update, collection renamed and admin changed": {func(t *testing.T, f *fixture) {
			b := insertUpdating(t, f)
			f.fillTenant(t, "org_bolt")
			f.replaceOldAdmin(t, b, "b@example.com", "Better@123", 2)
		}, "Bolt", "b@example.com", "Better@123"},
		"deletion": {func(t *testing.T, f *fixture) {
			f.insertOld(t, "deleting", "", bson.D{{Key: "kind", Value: "delete"}})
			f.fillTenant(t, "org_acme")
		}, "", "", ""},
		"deletion, without its collection": {func(t *testing.T, f *fixture) {
			f.insertOld(t, "deleting", "", bson.D{{Key: "kind", Value: "delete"}})
		}, "", "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			onBoth(t, func(t *testing.T, f *fixture) {
				test.prepare(t, f)
				report := f.mustReconcile(t)
				if len(report.NeedsAttention) > 0 {
					t.Errorf("%+v; want nothing that needs attention", report)
				}
				f.advance(2 * org.StaleAfter)
				f.mustReconcile(t)
				if test.name != "" {
					f.Now = nil // tokens are verified by the real clock
				}
				if findings, err := f.Inspect(t.Context()); err != nil || len(findings) > 0 {
					t.Errorf("Inspect = %+v, %v; want nothing", findings, err)
				}
				if test.name == "" {
					if _, err := f.Get(t.Context(), "Acme"); !errors.Is(err, org.ErrNotFound) {
						t.Errorf("Get: %v; want ErrNotFound", err)
					}
					f.mustCreate(t, "Acme", "a@example.com")
					return
				}
				o, err := f.Get(t.Context(), test.name)
				if err != nil {
					t.Fatal(err)
				}
				if documents := f.snapshot(t)[o.Collection].Documents; len(documents) != 3 {
					t.Errorf("%s has %v; want 3 documents", o.Collection, documents)
				}
				caller := f.mustLogin(t, test.email, test.password)
				_, err = f.Update(t.Context(), caller, org.UpdateRequest{
					OrganizationName: new("Core"), Email: new("c@example.com"), Password: new("Another@123"), CurrentPassword: &test.password})
				if err != nil {
					t.Fatal(err)
				}
				if _, err := f.Delete(t.Context(), f.mustLogin(t, "c@example.com", "Another@123"), org.DeleteRequest{}); err != nil {
					t.Fatal(err)
				}
			})
		})
	}
}

// TestUpgradeUntrimmedEmail logs in with an address that ends with white space, as
// older versions stored it, beside an account that has the address without it.
func TestUpgradeUntrimmedEmail(t *testing.T) {
	t.Parallel()
	const email, untrimmed = "a@example.com", "a@example.com\u00a0"
	f := newFixture(t)
	b := f.insertOldNamed(t, "Acme", untrimmed)
	other := f.mustCreate(t, "Other", email)
	for given, want := range map[string]string{untrimmed: b.id.Hex(), email: other.ID, email + "\u3000": other.ID} {
		if got := f.mustLogin(t, given, adminPassword).OrganizationID; got != want {
			t.Errorf("%q is of %s, want %s", given, got, want)
		}
	}
}
