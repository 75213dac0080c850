package mongodb_test

import (
	"context"
	"slices"
	"sync"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/event"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"orgservice/local/mongodbtest"
	"orgservice/shared/mongodb"
	"orgservice/shared/org"
)

func createIndex(t *testing.T, db mongodbtest.Database, collection, field string, o *options.IndexOptionsBuilder) {
	t.Helper()
	model := mongo.IndexModel{Keys: bson.D{{Key: field, Value: 1}}, Options: o}
	if _, err := db.Client.Database(db.Name).Collection(collection).Indexes().CreateOne(t.Context(), model); err != nil {
		t.Fatal(err)
	}
}

// TestEnsureIndexesExisting starts with some indexes. One of the same key is
// kept, whatever its name is. The unique ones of the previous version are
// replaced.
func TestEnsureIndexesExisting(t *testing.T) {
	db := mongodbtest.New(t)
	store := db.Open(t)
	createIndex(t, db, "claims", "organization_id", options.Index().SetName("by_organization"))
	createIndex(t, db, "organizations", "name_key", options.Index().SetUnique(true))
	createIndex(t, db, "admins", "email", options.Index().SetUnique(true))
	for range 2 { // the second time there is nothing to do
		if failed, err := store.EnsureIndexes(t.Context()); err != nil || len(failed) > 0 {
			t.Fatal(failed, err)
		}
	}
	if missing, err := store.MissingIndexes(t.Context()); err != nil || len(missing) > 0 {
		t.Errorf("missing: %v, %v", missing, err)
	}
	for collection, want := range map[string][]string{
		"claims":        {"_id_", "admin_id_1", "by_organization"},
		"organizations": {"_id_", "claims_1", "operation.touched_at_1"},
		"admins":        {"_id_", "email_1", "organization_id_1"},
	} {
		specs, err := db.Client.Database(db.Name).Collection(collection).Indexes().ListSpecifications(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, spec := range specs {
			got = append(got, spec.Name)
			if spec.Unique != nil && *spec.Unique {
				t.Errorf("%s.%s is unique", collection, spec.Name)
			}
		}
		if slices.Sort(got); !slices.Equal(got, want) {
			t.Errorf("indexes of %s: %v; want %v", collection, got, want)
		}
	}
}

// TestExpiringIndexes checks which indexes the store asks for that delete documents at a time.
func TestExpiringIndexes(t *testing.T) {
	db := mongodbtest.New(t)
	var mu sync.Mutex
	var got []string
	store := db.Open(t, options.Client().SetMonitor(&event.CommandMonitor{Started: func(_ context.Context, e *event.CommandStartedEvent) {
		if after, ok := e.Command.Lookup("indexes", "0", "expireAfterSeconds").AsInt64OK(); ok && after == 0 {
			mu.Lock()
			defer mu.Unlock()
			got = append(got, e.Command.Lookup("createIndexes").StringValue()+"."+e.Command.Lookup("indexes", "0", "name").StringValue())
		}
	}}))
	if failed, err := store.EnsureIndexes(t.Context()); err != nil || len(failed) > 0 {
		t.Fatal(failed, err)
	}
	slices.Sort(got)
	want := []string{"attempts.expires_at_1", "idempotency_keys.expires_at_1", "sessions.expires_at_1", "tickets.expires_at_1"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q; want %q", got, want)
	}
}

// TestIndexThatFails starts with an index that has the name of another one. The
// other one can't be made, and Reconcile must report it, make all others and
// repair the database.
func TestIndexThatFails(t *testing.T) {
	db := mongodbtest.NewEmbedded(t) // some servers allow two indexes of one name
	store := db.Open(t)
	// The name is taken by an index of another key.
	createIndex(t, db, "organizations", "something", options.Index().SetName("claims_1"))
	orphan := bson.D{{Key: "_id", Value: bson.NewObjectID()}, {Key: "organization_id", Value: bson.NewObjectID()}, {Key: "email", Value: "a@x.test"}}
	if _, err := db.Client.Database(db.Name).Collection("admins").InsertOne(t.Context(), orphan); err != nil {
		t.Fatal(err)
	}
	report, err := (&org.Service{Store: store, Database: db.Name}).Reconcile(t.Context(), true)
	if err != nil {
		t.Fatal(err)
	}
	if len(report.Removed) != 1 || report.Removed[0].Kind != org.OrphanAdmin {
		t.Errorf("removed: %+v; want the admin", report.Removed)
	}
	if len(report.NeedsAttention) != 1 || report.NeedsAttention[0].Kind != org.MissingIndex || report.NeedsAttention[0].Subject != "organizations.claims_1" || report.NeedsAttention[0].Error == "" {
		t.Errorf("needs attention: %+v; want the index, with the reason", report.NeedsAttention)
	}
	if missing, err := store.MissingIndexes(t.Context()); err != nil || !slices.Equal(missing, []string{"organizations.claims_1"}) {
		t.Errorf("missing: %v, %v; want only that index", missing, err)
	}
}

// TestConcerns checks that the store reads and writes with majority, even if
// the connection string says something else.
func TestConcerns(t *testing.T) {
	db := mongodbtest.New(t)
	var mu sync.Mutex
	seen := map[string]int{}
	monitor := &event.CommandMonitor{Started: func(_ context.Context, e *event.CommandStartedEvent) {
		mu.Lock()
		defer mu.Unlock()
		seen[e.CommandName]++
		switch e.CommandName {
		case "find":
			if level, _ := e.Command.Lookup("readConcern", "level").StringValueOK(); level != "majority" {
				t.Errorf("read concern of %v; want majority", e.Command)
			}
		case "insert", "update", "delete", "findAndModify", "renameCollection", "drop", "create":
			if w, _ := e.Command.Lookup("writeConcern", "w").StringValueOK(); w != "majority" {
				t.Errorf("write concern of %v; want majority", e.Command)
			}
		}
	}}
	url := db.URL + "?readConcernLevel=available&w=1&readPreference=secondaryPreferred"
	store, err := mongodb.Open(url, db.Name, options.Client().SetMonitor(monitor))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close(context.Background()) })
	id, adminID := store.NewID(), store.NewID()
	for _, err := range []error{
		second(store.InsertClaims(t.Context(), []org.Claim{{ID: "org_acme", Owner: org.Owner{OrganizationID: id}}})),
		second(store.Claim(t.Context(), "org_acme")),
		second(store.Organizations(t.Context())),
		store.ReleaseClaims(t.Context(), org.Owner{OrganizationID: id}, 1, nil),
		store.RehashPassword(t.Context(), adminID, "old", "new"),
		store.CreateCollection(t.Context(), db.Name, "org_a"),
		store.RenameCollection(t.Context(), db.Name, org.Collection{Name: "org_a"}, "org_b"),
		store.DropCollection(t.Context(), db.Name, org.Collection{Name: "org_b"}),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, command := range []string{"find", "insert", "update", "delete", "renameCollection", "drop", "create"} {
		if seen[command] == 0 {
			t.Errorf("no %s was sent", command)
		}
	}
}

// second returns its second argument.
func second[T any](_ T, err error) error { return err }
