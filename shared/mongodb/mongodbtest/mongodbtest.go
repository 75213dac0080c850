// Package mongodbtest gives tests a real database: that of the server which
// MONGO_URL names, or the embedded one.
package mongodbtest

import (
	"context"
	"crypto/rand"
	"os"
	"strings"
	"testing"

	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"orgservice/local/embedded"
	"orgservice/shared/mongodb"
)

// Database is an empty database for one test.
type Database struct {
	URL    string // of the server
	Name   string
	Client *mongo.Client // for what a store does not do
}

// New returns a database that goes away with the test.
func New(t testing.TB) Database {
	t.Helper()
	url := os.Getenv("MONGO_URL")
	if url == "" {
		server, err := embedded.Start(t.TempDir(), "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(server.Close)
		url = server.URL()
	}
	client, err := mongo.Connect(options.Client().ApplyURI(url))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Disconnect(context.Background()) })
	return Database{URL: url, Client: client}.Fresh(t)
}

// Fresh returns another database on the same server.
func (db Database) Fresh(t testing.TB) Database {
	t.Helper()
	db.Name = "test_" + strings.ToLower(rand.Text()[:12])
	t.Cleanup(func() {
		if err := db.Client.Database(db.Name).Drop(context.Background()); err != nil {
			t.Errorf("drop database: %v", err)
		}
	})
	return db
}

// Open returns a store in the database. Options, if any, are for its client.
func (db Database) Open(t testing.TB, more ...*options.ClientOptions) *mongodb.Store {
	t.Helper()
	store, err := mongodb.Open(db.URL, db.Name, more...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close(context.Background()) })
	return store
}
