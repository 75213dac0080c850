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

// An index of the same key serves, whatever it is called. The unique ones that
// the version before made are replaced.
func TestIndexesThatAreThere(t *testing.T) {
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
		"claims":        {"_id_", "by_organization"},
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

// An index that can't be made keeps neither the others from being made nor
// anything from being repaired, and is reported.
func TestIndexThatFails(t *testing.T) {
	db := mongodbtest.NewEmbedded(t) // there are servers that let a name be taken twice
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
		t.Errorf("odd: %+v; want the index, with the reason", report.NeedsAttention)
	}
	if missing, err := store.MissingIndexes(t.Context()); err != nil || !slices.Equal(missing, []string{"organizations.claims_1"}) {
		t.Errorf("missing: %v, %v; want the one alone", missing, err)
	}
}

// What decides is read from the primary, as the majority has it, whatever the
// connection string says; and written so that the majority has it.
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
				t.Errorf("%v", e.Command)
			}
		case "insert", "update", "delete", "findAndModify", "renameCollection", "drop", "create":
			if w, _ := e.Command.Lookup("writeConcern", "w").StringValueOK(); w != "majority" {
				t.Errorf("%v", e.Command)
			}
		}
	}}
	url := db.URL + "?readConcernLevel=available&w=1&readPreference=secondaryPreferred"
	store, err := mongodb.Open(url, db.Name, options.Client().SetMonitor(monitor))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close(context.Background()) })
	id, now := store.NewID(), store.NewID()
	for _, err := range []error{
		second(store.InsertClaims(t.Context(), []org.Claim{{ID: "org_acme", OrganizationID: id}})),
		second(store.Claim(t.Context(), "org_acme")),
		second(store.Organizations(t.Context())),
		store.ReleaseClaims(t.Context(), id, 1, nil),
		store.RehashPassword(t.Context(), now, "old", "new"),
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

func second[T any](_ T, err error) error { return err }
