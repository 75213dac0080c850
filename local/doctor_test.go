package main

import (
	"encoding/json"
	"log/slog"
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"orgservice/local/mongodbtest"
	"orgservice/shared/auth"
	"orgservice/shared/org"
)

func TestDoctor(t *testing.T) {
	db := mongodbtest.New(t) // before newProject changes the folder
	newProject(t)
	store := db.Open(t)
	service := &org.Service{Store: store, Database: db.Name, Passwords: auth.Passwords{Cost: 4}, Log: slog.New(slog.DiscardHandler)}
	if failed, err := store.EnsureIndexes(t.Context()); err != nil || len(failed) > 0 {
		t.Fatal(failed, err)
	}
	for _, name := range []string{"Acme", "Bolt", "Core"} {
		_, err := service.Create(t.Context(), org.CreateRequest{OrganizationName: name, Email: name + "@x.test", Password: "correct horse"})
		if err != nil {
			t.Fatal(err)
		}
	}
	most := ""
	doctor := func(t *testing.T, args ...string) (kinds []string, summary string, err error) {
		t.Helper()
		out, err := call(t, "", []string{"MONGO_URL=" + db.URL, "MASTER_DB=" + db.Name, "MAX_ORGANIZATIONS=" + most}, append(args, "doctor")...)
		for line := range strings.Lines(out) {
			var f org.Finding
			if json.Unmarshal([]byte(line), &f) == nil {
				kinds = append(kinds, string(f.Kind))
			} else {
				summary += line
			}
		}
		return kinds, summary, err
	}

	t.Run("OK", func(t *testing.T) {
		kinds, summary, err := doctor(t, "-tier", "m10")
		if err != nil || len(kinds) > 0 || !strings.Contains(summary, "10 collections and ") || !strings.Contains(summary, "; M10 has 1500; a process of a function has 6 at most\n") || !strings.Contains(summary, "no problems") {
			t.Errorf("%v, %s, %v", kinds, summary, err)
		}
	})
	t.Run("nearly full", func(t *testing.T) {
		defer func() { most = "" }()
		for n, full := range map[string]bool{"3": true, "4": false, "0": false} {
			most = n
			_, summary, err := doctor(t)
			if (err != nil) != full || strings.Contains(summary, "3 organizations, and MAX_ORGANIZATIONS lets in "+most) != (most != "0") {
				t.Errorf("%s: %v\n%s", most, err, summary)
			}
		}
	})
	t.Run("statuses", func(t *testing.T) {
		set := func(name string, fields bson.D) {
			t.Helper()
			r, err := db.Client.Database(db.Name).Collection("organizations").UpdateOne(t.Context(), bson.D{{Key: "organization_name", Value: name}}, bson.D{{Key: "$set", Value: fields}})
			if err != nil || r.MatchedCount != 1 {
				t.Fatal(r, err)
			}
		}
		ends := time.Date(2100, 1, 2, 3, 4, 5, 0, time.UTC)
		set("Bolt", bson.D{{Key: "status", Value: "suspended"}})
		set("Core", bson.D{{Key: "status", Value: "deleted"}, {Key: "deletion", Value: bson.D{{Key: "at", Value: ends}, {Key: "admin_id", Value: bson.NewObjectID()}, {Key: "ends_at", Value: ends}, {Key: "collection_name", Value: "org_core"}}}})
		_, summary, _ := doctor(t)
		if want := "organizations: 1 active, 1 suspended, 1 deleted, the first of which can be restored until 2100-01-02T03:04:05Z\n"; !strings.Contains(summary, want) {
			t.Errorf("%s; want %s", summary, want)
		}
		set("Bolt", bson.D{{Key: "status", Value: "active"}})
		set("Core", bson.D{{Key: "status", Value: "active"}})
	})
	t.Run("unknown tier", func(t *testing.T) {
		if _, _, err := doctor(t, "-tier", "M9"); err == nil || !strings.HasPrefix(err.Error(), `unknown tier "M9"`) {
			t.Error(err)
		}
	})
	t.Run("drift", func(t *testing.T) {
		database := db.Client.Database(db.Name)
		ctx := t.Context()
		for _, err := range []error{
			database.Collection("org_acme").Drop(ctx),
			database.CreateCollection(ctx, "org_stray"),
			database.Collection("admins").Indexes().DropOne(ctx, "email_1"),
		} {
			if err != nil {
				t.Fatal(err)
			}
		}
		if _, err := database.Collection("claims").DeleteOne(ctx, bson.D{{Key: "_id", Value: "org_bolt"}}); err != nil {
			t.Fatal(err)
		}
		// Core loses its record and keeps everything else.
		if _, err := database.Collection("organizations").DeleteOne(ctx, bson.D{{Key: "name_key", Value: "core"}}); err != nil {
			t.Fatal(err)
		}
		kinds, summary, err := doctor(t)
		if err == nil || err.Error() != "7 problems" {
			t.Errorf("%v\n%s", err, summary)
		}
		count := map[string]int{}
		for _, kind := range kinds {
			count[kind]++
		}
		for kind, want := range map[org.FindingKind]int{
			org.MissingCollection: 1, // of Acme
			org.OrphanCollection:  2, // the stray and Core's
			org.MissingIndex:      1,
			org.MissingClaim:      1, // of Bolt
			org.UnusedClaim:       1, // Core's name; its admin has the email
			org.OrphanAdmin:       1, // Core's
		} {
			if count[string(kind)] != want {
				t.Errorf("%s: %d findings, want %d", kind, count[string(kind)], want)
			}
		}
	})
}
