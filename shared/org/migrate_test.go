package org_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.mongodb.org/mongo-driver/v2/bson"

	"orgservice/local/mongodbtest"
	"orgservice/shared/auth"
	"orgservice/shared/org"
)

// oldDump is what version 1.0.0 of the service has written: organization Acme, another
// one that was renamed, with a new email, and one each whose update, deletion and
// creation crashed. Its tokens are Acme's and never expire.
type oldDump struct {
	Access, Refresh string
	Collections     map[string][]json.RawMessage
}

// loadOld puts the dump into a fresh database of the server.
func loadOld(t *testing.T, server mongodbtest.Database) (*world, oldDump) {
	t.Helper()
	w := plainWorld(t, server.Fresh(t))
	text, err := os.ReadFile("testdata/1.0.0.json")
	if err != nil {
		t.Fatal(err)
	}
	var dump oldDump
	if err := json.Unmarshal([]byte(strings.ReplaceAll(string(text), "organization_master", w.db.Name)), &dump); err != nil {
		t.Fatal(err)
	}
	database := w.db.Client.Database(w.db.Name)
	for name, documents := range dump.Collections {
		if err := database.CreateCollection(t.Context(), name); err != nil {
			t.Fatal(err)
		}
		all := make([]bson.D, len(documents))
		for i, text := range documents {
			if err := bson.UnmarshalExtJSON(text, true, &all[i]); err != nil {
				t.Fatal(err)
			}
		}
		if len(all) == 0 {
			continue
		}
		if _, err := database.Collection(name).InsertMany(t.Context(), all); err != nil {
			t.Fatal(err)
		}
	}
	w.makeStale()
	return w, dump
}

// caller returns the caller of the dump's access token.
func (d oldDump) caller(t *testing.T) auth.Caller {
	t.Helper()
	verifier, err := auth.NewVerifier([]byte(strings.Repeat("s", auth.MinSecretBytes)))
	if err != nil {
		t.Fatal(err)
	}
	caller, err := verifier.Verify(d.Access)
	if err != nil {
		t.Fatal(err)
	}
	return caller
}

// wantCarriedForward fails the test unless the world has all that the dump had, in the
// shape of today.
func (w *world) wantCarriedForward(t *testing.T, dump oldDump) {
	t.Helper()
	s := w.service()
	for range 3 { // the first meets the migration, the second runs it, the third releases what rested
		w.advance(time.Hour)
		reconcile(t, s)
	}
	w.check()
	all, err := s.Migrations(context.Background())
	if err != nil || len(all) == 0 {
		t.Fatal(all, err)
	}
	for _, m := range all {
		if m.FinishedAt.IsZero() {
			t.Errorf("migration %d is not finished", m.Number)
		}
	}
	for _, test := range []struct{ name, email, password string }{
		{"Acme", "admin@acme.test", password}, {"After Ltd", "new@renamed.test", password}, {"Stuck Updated", "new@stuck.test", newPassword},
	} {
		o, err := s.Get(context.Background(), test.name)
		if err != nil {
			t.Errorf("%s: %v", test.name, err)
		}
		if _, err := s.Login(context.Background(), org.LoginRequest{Email: test.email, Password: test.password}); err != nil {
			t.Errorf("%s: %v", test.email, err)
		}
		if n := len(w.documents(o.Collection)); n != seedDocuments {
			t.Errorf("%s has %d documents", test.name, n)
		}
	}
	if _, err := s.Update(context.Background(), dump.caller(t), org.UpdateRequest{OrganizationName: new("Acme")}); err != nil {
		t.Errorf("the access token: %v", err)
	}
	if _, err := s.Refresh(context.Background(), org.RefreshRequest{RefreshToken: dump.Refresh}); err != nil {
		t.Errorf("the refresh token: %v", err)
	}
}

// wantNamesFree fails the test unless others can have the names and emails that the dump's
// organizations don't have any more.
func (w *world) wantNamesFree(t *testing.T) {
	t.Helper()
	s := w.service()
	for _, name := range []string{"Stuck Deletion", "Stuck Creation", "Before Ltd", "Stuck Update"} {
		w.create(s, name, strings.ReplaceAll(name, " ", "")+"@another.test")
	}
	for _, email := range []string{"old@renamed.test", "old@stuck.test", "a@deletion.test", "a@creation.test"} {
		w.create(s, "Of "+email, email)
	}
	w.check()
}

// TestMigrate carries a database of version 1.0.0 forward, at once, and after this version
// has used it for a while.
func TestMigrate(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		t.Run("at once", func(t *testing.T) {
			w, dump := loadOld(t, f.db)
			w.wantCarriedForward(t, dump)
			w.wantNamesFree(t)
		})
		t.Run("in use", func(t *testing.T) {
			w, dump := loadOld(t, f.db)
			s, caller := w.service(), dump.caller(t)
			if _, err := s.Update(t.Context(), caller, org.UpdateRequest{OrganizationName: new("ACME")}); err != nil {
				t.Error(err)
			}
			if _, err := s.Migrate(t.Context()); !errors.Is(err, org.ErrUnfinished) {
				t.Errorf("with operations under way: %v", err)
			}
			if _, err := s.CreateOrganization(t.Context(), caller, org.CreateOrganizationRequest{OrganizationName: "Acme Three"}); err != nil {
				t.Error(err)
			}
			if _, err := s.Update(t.Context(), caller, org.UpdateRequest{OrganizationName: new("Acme")}); err != nil {
				t.Error(err)
			}
			w.wantCarriedForward(t, dump)
			w.wantNamesFree(t)
		})
	})
}

// TestMigrateCrash crashes a migration at each of its commands, in both ways.
func TestMigrateCrash(t *testing.T) {
	t.Parallel()
	server := mongodbtest.New(t)
	for _, lost := range bothWays {
		for n := 1; ; n++ {
			c := &crash{at: n, lost: lost}
			t.Run(fmt.Sprintf("at=%d lost=%v", n, lost), func(t *testing.T) {
				w, dump := loadOld(t, server)
				_, err := w.crashing(c).Migrate(t.Context())
				if c.happened() && errors.Is(err, org.ErrUnfinished) {
					t.Errorf("the crash is not told: %v", err)
				}
				if !c.happened() && !errors.Is(err, org.ErrUnfinished) {
					t.Errorf("without a crash: %v", err)
				}
				w.wantCarriedForward(t, dump)
			})
			if !c.happened() || n == maxCommands {
				if n < 5 || n == maxCommands {
					t.Errorf("%d commands", n)
				}
				break
			}
		}
	}
}

// TestMigrateAgain runs the migrations of a database that has them, and with too little
// time.
func TestMigrateAgain(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.insertOld(t, "active", "acme", nil)
	f.fillTenant(t, "org_acme")
	short, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	before := f.snapshot(t)
	if _, err := f.Migrate(short); !errors.Is(err, org.ErrUnfinished) {
		t.Errorf("in a second: %v", err)
	}
	f.wantSame(t, before)
	all, err := f.Migrations(t.Context())
	if err != nil || len(all) != 1 || all[0].Number != 1 || all[0].Name == "" || !all[0].FinishedAt.IsZero() {
		t.Errorf("%+v, %v", all, err)
	}
	finished, err := f.Migrate(t.Context())
	if err != nil || len(finished) != 1 || finished[0].FinishedAt.IsZero() {
		t.Errorf("%+v, %v", finished, err)
	}
	f.mustReconcile(t)
	f.wantNoFindings(t)
	before = f.snapshot(t)
	f.reset()
	if finished, err := f.Migrate(t.Context()); err != nil || len(finished) > 0 {
		t.Errorf("again: %+v, %v", finished, err)
	}
	if diff := cmp.Diff([]string{"find"}, f.commands); diff != "" {
		t.Errorf("commands (-want +got):\n%s", diff)
	}
	f.wantSame(t, before)
}

// TestMigrateUnusedClaim migrates an organization that has the claim on an email of nobody,
// which a person has changed, while an operation is under way and after it.
func TestMigrateUnusedClaim(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	b := f.insertOld(t, "active", "acme", nil)
	f.insertOldClaims(t, b, "email:gone@example.com")
	operation := bson.D{{Key: "id", Value: b.operation}, {Key: "kind", Value: "update"}, {Key: "started_at", Value: time.Now()}, {Key: "touched_at", Value: time.Now()},
		{Key: "organization_name", Value: "Acme"}, {Key: "collection_name", Value: "org_acme"}}
	f.set(t, "organizations", b.id.Hex(), bson.D{{Key: "claims", Value: bson.A{"org_acme", "email:gone@example.com"}}, {Key: "operation", Value: operation}})
	f.replaceOldAdmin(t, b, "b@example.com", adminPassword, 1)
	before := f.snapshot(t)
	if _, err := f.Migrate(t.Context()); !errors.Is(err, org.ErrUnfinished) {
		t.Errorf("under way: %v", err)
	}
	f.wantSame(t, before)
	f.set(t, "organizations", b.id.Hex(), bson.D{{Key: "operation", Value: nil}})
	if finished, err := f.Migrate(t.Context()); err != nil || len(finished) != 1 {
		t.Errorf("%+v, %v", finished, err)
	}
	o, err := f.Store.Organization(t.Context(), b.id.Hex())
	if diff := cmp.Diff([]string{"org_acme"}, o.Claims); err != nil || diff != "" {
		t.Errorf("%v; claims (-want +got):\n%s", err, diff)
	}
	f.mustCreate(t, "Another", "gone@example.com")
}

// TestMigrateLater reconciles a database of an older version. While functions of that
// version may still run, or come back, its records must stay as they are.
func TestMigrateLater(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.insertOld(t, "active", "acme", nil)
	f.fillTenant(t, "org_acme")
	old := func() bool {
		return strings.Contains(fmt.Sprint(f.snapshot(t)["organizations"]), "email:a@example.com")
	}
	if len(f.mustReconcile(t).Migrated) > 0 || !old() {
		t.Error("migrated at once")
	}
	f.advance(45 * time.Minute)
	if len(f.mustReconcile(t).Migrated) > 0 || !old() {
		t.Error("migrated after 45 minutes")
	}
	f.advance(14 * time.Minute)
	if len(f.mustReconcile(t).Migrated) != 1 || old() {
		t.Error("not migrated after an hour")
	}
}

// TestNewerDatabase opens a database that a newer version has carried forward. Nothing
// that works on all of it may touch it.
func TestNewerDatabase(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.insertOld(t, "deleting", "", bson.D{{Key: "kind", Value: "delete"}})
	f.fillTenant(t, "org_acme")
	for number, read := range map[any]int{7: 7, int64(1) << 40: 1 << 40, -2: -2, 0: 0, "lock": -1, 1.5: -1} {
		id := bson.D{{Key: "_id", Value: number}}
		f.insert(t, "migrations", append(id, bson.E{Key: "name", Value: "something"}))
		before := f.snapshot(t)
		want := fmt.Sprintf("the database is of another version of the service: it has migration %d (something), and this version knows 1 to 1", read)
		_, status := f.Migrations(t.Context())
		_, migrate := f.Migrate(t.Context())
		_, reconcile := f.Reconcile(t.Context(), true)
		for name, err := range map[string]error{"Migrations": status, "Migrate": migrate, "Reconcile": reconcile} {
			if err == nil || err.Error() != want {
				t.Errorf("%v, %s: %v", number, name, err)
			}
		}
		f.wantSame(t, before)
		if _, err := f.db.Client.Database(f.db.Name).Collection("migrations").DeleteOne(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
}
