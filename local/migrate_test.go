package main

import (
	"regexp"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"orgservice/local/mongodbtest"
)

func TestMigrate(t *testing.T) {
	db := mongodbtest.New(t) // before newProject changes the folder
	newProject(t)
	environ := []string{"MONGO_URL=" + db.URL, "MASTER_DB=" + db.Name, "PORT=0"}
	want := func(pattern string, args ...string) {
		t.Helper()
		out, err := call(t, "", environ, append([]string{"migrate"}, args...)...)
		if err != nil || !regexp.MustCompile(pattern).MatchString(out) {
			t.Errorf("migrate %q: %s, %v; want %s", args, out, err, pattern)
		}
	}
	want(`^NUMBER  NAME +FINISHED\n1       \S.*  no\n$`, "status")
	want(`^finished migration 1: \S.*\n$`)
	want(`^NUMBER  NAME +FINISHED\n1       \S.*  20\S+Z\n$`, "status")
	want(`^nothing to do: all migrations are finished\n$`)
	if _, err := call(t, "", environ, "migrate", "1"); err == nil || err.Error() != "usage: go run ./local migrate [status]" {
		t.Errorf("migrate 1: %v", err)
	}

	newer := bson.D{{Key: "_id", Value: 2}, {Key: "name", Value: "of tomorrow"}, {Key: "finished_at", Value: time.Now()}}
	if _, err := db.Client.Database(db.Name).Collection("migrations").InsertOne(t.Context(), newer); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{nil, {"migrate"}, {"migrate", "status"}, {"doctor"}} {
		_, err := call(t, "", environ, args...)
		if err == nil || err.Error() != "the database is of another version of the service: it has migration 2 (of tomorrow), and this version knows 1 to 1" {
			t.Errorf("%q on a newer database: %v", args, err)
		}
	}
}
