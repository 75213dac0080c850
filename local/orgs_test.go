package main

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"

	"orgservice/local/mongodbtest"
	"orgservice/shared/auth"
	"orgservice/shared/org"
)

func TestOrgs(t *testing.T) {
	db := mongodbtest.New(t) // before newProject changes the folder
	newProject(t)
	service := &org.Service{Store: db.Open(t), Database: db.Name, Passwords: auth.Passwords{Cost: 4}, Log: slog.New(slog.DiscardHandler)}
	orgs := func(args ...string) (string, error) {
		return call(t, "", []string{"MONGO_URL=" + db.URL, "MASTER_DB=" + db.Name}, append([]string{"orgs"}, args...)...)
	}
	if out, err := orgs(); err != nil || out != "NAME  COLLECTION  STATUS  ADMIN  DOCUMENTS  CREATED  ID\n" {
		t.Errorf("without an organization: %s, %v", out, err)
	}

	var created []org.Organization
	for i, name := range []string{"Acme", "株式会社 東京", "Bolt & Sons"} {
		o, err := service.Create(t.Context(), org.CreateRequest{OrganizationName: name, Email: fmt.Sprintf("admin%d@x.test", i), Password: "correct horse"})
		if err != nil {
			t.Fatal(err)
		}
		created = append(created, o)
	}
	database := db.Client.Database(db.Name)
	if _, err := database.Collection("org_acme").InsertMany(t.Context(), []bson.D{{{Key: "n", Value: 1}}, {{Key: "n", Value: 2}}}); err != nil {
		t.Fatal(err)
	}
	if err := database.Collection("org_bolt_sons").Drop(t.Context()); err != nil {
		t.Fatal(err)
	}
	// What the service refuses and a person may write.
	escape := bson.D{{Key: "$set", Value: bson.D{{Key: "organization_name", Value: "Bolt\x1b[2J\u202e"}, {Key: "status", Value: org.Suspended}}}}
	if _, err := database.Collection("organizations").UpdateOne(t.Context(), bson.D{{Key: "collection_name", Value: "org_bolt_sons"}}, escape); err != nil {
		t.Fatal(err)
	}

	at := func(i int) string { return created[i].CreatedAt.UTC().Format("2006-01-02T15:04:05Z") }
	header := "NAME           COLLECTION         STATUS     ADMIN          DOCUMENTS  CREATED               ID\n"
	bolt := "Bolt�[2J�      org_bolt_sons      suspended  admin2@x.test  0          " + at(2) + "  " + created[2].ID + "\n"
	want := header + bolt +
		"株式会社 東京  org_株式会社_東京  active     admin1@x.test  0          " + at(1) + "  " + created[1].ID + "\n" +
		"Acme           org_acme           active     admin0@x.test  2          " + at(0) + "  " + created[0].ID + "\n"
	if out, err := orgs(""); err != nil || out != want {
		t.Errorf("%v\n%swant\n%s", err, out, want)
	}
	out, err := orgs("1")
	if err != nil || !strings.HasSuffix(out, "\nand 2 more: make orgs N=3 lists all\n") || strings.Count(out, "\n") != 3 || !strings.Contains(out, created[2].ID) {
		t.Errorf("%v\n%s", err, out)
	}
	for _, args := range [][]string{{"-1"}, {"many"}, {"1", "2"}} {
		if _, err := orgs(args...); err == nil {
			t.Errorf("%q is no error", args)
		}
	}
}
