package org_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/event"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"golang.org/x/crypto/bcrypt"

	"orgservice/local/mongodbtest"
	"orgservice/shared/auth"
	"orgservice/shared/org"
)

const adminPassword = "Admin@123"

// fixture is a service with its own database.
type fixture struct {
	*org.Service
	db       mongodbtest.Database
	verifier *auth.Verifier

	mu       sync.Mutex
	costs    []int    // the costs of the bcrypt comparisons
	commands []string // the names of the commands to the database
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	return newFixtureIn(t, mongodbtest.New(t))
}

func newFixtureIn(t *testing.T, db mongodbtest.Database) *fixture {
	t.Helper()
	f := &fixture{db: db}
	store := f.db.Open(t, options.Client().SetMonitor(&event.CommandMonitor{
		Started: func(_ context.Context, e *event.CommandStartedEvent) {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.commands = append(f.commands, e.CommandName)
		},
	}))
	secret := []byte(strings.Repeat("k", auth.MinSecretBytes))
	signer, err := auth.NewSigner(secret)
	if err != nil {
		t.Fatal(err)
	}
	if f.verifier, err = auth.NewVerifier(secret); err != nil {
		t.Fatal(err)
	}
	f.Service = &org.Service{
		Store:    store,
		Database: f.db.Name,
		Passwords: auth.Passwords{Cost: bcrypt.MinCost, Compare: func(hash, password []byte) error {
			cost, err := bcrypt.Cost(hash)
			if err != nil {
				t.Errorf("compared with %q: %v", hash, err)
			}
			f.mu.Lock()
			f.costs = append(f.costs, cost)
			f.mu.Unlock()
			return bcrypt.CompareHashAndPassword(hash, password)
		}},
		Tokens:     signer,
		TokenTTL:   time.Hour,
		SessionTTL: 24 * time.Hour,
		Log:        slog.New(slog.DiscardHandler),

		RecoverTime: mongodbtest.Patience,
	}
	return f
}

// reset forgets the comparisons and commands so far.
func (f *fixture) reset() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.costs, f.commands = nil, nil
}

func (f *fixture) mustCreate(t *testing.T, name, email string) org.Organization {
	t.Helper()
	o, err := f.Create(t.Context(), org.CreateRequest{OrganizationName: name, Email: email, Password: adminPassword})
	if err != nil {
		t.Fatalf("create %q: %v", name, err)
	}
	return o
}

// mustLogin logs in and returns the caller of the access token.
func (f *fixture) mustLogin(t *testing.T, email, password string) auth.Caller {
	t.Helper()
	tokens, err := f.Login(t.Context(), org.LoginRequest{Email: email, Password: password})
	if err != nil {
		t.Fatalf("log in %q: %v", email, err)
	}
	caller, err := f.verifier.Verify(tokens.Access)
	if err != nil {
		t.Fatal(err)
	}
	return caller
}

// wantTokenValid fails the test unless the caller can rename the organization
// to the name, which is usually the one that it has.
func (f *fixture) wantTokenValid(t *testing.T, caller auth.Caller, name string) {
	t.Helper()
	if _, err := f.Update(t.Context(), caller, org.UpdateRequest{OrganizationName: &name}); err != nil {
		t.Errorf("token: %v", err)
	}
}

// wantTokenInvalid fails the test unless the caller can neither update nor
// delete, and the database stays the same.
func (f *fixture) wantTokenInvalid(t *testing.T, caller auth.Caller) {
	t.Helper()
	before := f.snapshot(t)
	if o, err := f.Update(t.Context(), caller, org.UpdateRequest{OrganizationName: new("Hijacked")}); !errors.Is(err, org.ErrUnauthenticated) {
		t.Errorf("Update = %+v, %v; want ErrUnauthenticated", o, err)
	}
	if o, err := f.Delete(t.Context(), caller, org.DeleteRequest{}); !errors.Is(err, org.ErrUnauthenticated) {
		t.Errorf("Delete = %+v, %v; want ErrUnauthenticated", o, err)
	}
	f.wantSame(t, before)
}

// insert inserts documents into a collection without the service.
func (f *fixture) insert(t *testing.T, collection string, docs ...any) {
	t.Helper()
	if _, err := f.db.Client.Database(f.db.Name).Collection(collection).InsertMany(t.Context(), docs); err != nil {
		t.Fatal(err)
	}
}

// set sets fields of a document without the service.
func (f *fixture) set(t *testing.T, collection, id string, fields bson.D) {
	t.Helper()
	oid, err := bson.ObjectIDFromHex(id)
	if err != nil {
		t.Fatal(err)
	}
	res, err := f.db.Client.Database(f.db.Name).Collection(collection).UpdateOne(t.Context(),
		bson.D{{Key: "_id", Value: oid}}, bson.D{{Key: "$set", Value: fields}})
	if err != nil || res.MatchedCount != 1 {
		t.Fatal(res, err)
	}
}

// contents are the documents and indexes of every collection of a database, by
// its name. The attempts are left out, and so are the sessions if there are
// none.
type contents map[string]collectionContents

type collectionContents struct {
	Documents []bson.D
	Indexes   []bson.D
}

// snapshot returns the contents of the database.
func (f *fixture) snapshot(t *testing.T) contents {
	t.Helper()
	db := f.db.Client.Database(f.db.Name)
	names, err := db.ListCollectionNames(t.Context(), bson.D{})
	if err != nil {
		t.Fatal(err)
	}
	all := contents{}
	for _, name := range names {
		var c collectionContents
		cursor, err := db.Collection(name).Find(t.Context(), bson.D{}, options.Find().SetSort(bson.D{{Key: "_id", Value: 1}}))
		if err != nil {
			t.Fatal(err)
		}
		if err := cursor.All(t.Context(), &c.Documents); err != nil {
			t.Fatal(err)
		}
		if cursor, err = db.Collection(name).Indexes().List(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := cursor.All(t.Context(), &c.Indexes); err != nil {
			t.Fatal(err)
		}
		all[name] = c
	}
	delete(all, "attempts")
	if len(all["sessions"].Documents) == 0 {
		delete(all, "sessions")
	}
	return all
}

// tenantCollections returns the names of the organizations' collections.
func (c contents) tenantCollections() []string {
	return slices.DeleteFunc(slices.Sorted(maps.Keys(c)), func(name string) bool {
		return !strings.HasPrefix(name, org.CollectionPrefix)
	})
}

// wantSame fails the test if the database has changed.
func (f *fixture) wantSame(t *testing.T, before contents, but ...cmp.Option) {
	t.Helper()
	if diff := cmp.Diff(before, f.snapshot(t), append(but, cmpopts.EquateEmpty())...); diff != "" {
		t.Errorf("the database has changed (-before +after):\n%s", diff)
	}
}

// wantSameButRevisions is wantSame without the revisions, which an operation
// increments even if it is undone.
func (f *fixture) wantSameButRevisions(t *testing.T, before contents) {
	t.Helper()
	f.wantSame(t, before, cmpopts.IgnoreSliceElements(func(e bson.E) bool { return e.Key == "revision" }))
}

// fillTenant inserts three documents with different ids and fields into a
// collection, and makes two indexes.
func (f *fixture) fillTenant(t *testing.T, collection string) {
	t.Helper()
	f.insert(t, collection,
		bson.D{{Key: "_id", Value: int32(1)}, {Key: "organization_name", Value: "mine"}, {Key: "collection_name", Value: "mine"}},
		bson.D{{Key: "_id", Value: "a string"}, {Key: "organization_id", Value: bson.NewObjectID()}, {Key: "sku", Value: "x"}},
		bson.D{{Key: "_id", Value: bson.NewObjectID()}, {Key: "nested", Value: bson.D{{Key: "sku", Value: "y"}}}, {Key: "sku", Value: "y"}},
	)
	_, err := f.db.Client.Database(f.db.Name).Collection(collection).Indexes().CreateMany(t.Context(), []mongo.IndexModel{
		{Keys: bson.D{{Key: "sku", Value: 1}, {Key: "organization_name", Value: -1}}},
		{Keys: bson.D{{Key: "organization_name", Value: 1}, {Key: "sku", Value: 1}}, Options: options.Index().SetUnique(true)},
	})
	if err != nil {
		t.Fatal(err)
	}
}

// wantFields fails the test unless the error is ErrInvalid for these fields.
func wantFields(t *testing.T, err error, want ...string) {
	t.Helper()
	var e *org.Error
	if !errors.Is(err, org.ErrInvalid) || !errors.As(err, &e) {
		t.Fatalf("error = %v, want ErrInvalid", err)
	}
	var got []string
	for _, f := range e.Fields {
		got = append(got, f.Field)
		if f.Message == "" {
			t.Errorf("no message for %s", f.Field)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("wrong fields (-want +got):\n%s", diff)
	}
}

func TestCreate(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	before := time.Now().UTC().Truncate(time.Millisecond)
	got := f.mustCreate(t, "  Akshay   Pvt Ltd ", " Admin@Example.com\u3000")

	t.Run("OK", func(t *testing.T) {
		want := org.Organization{
			Name: "Akshay Pvt Ltd", Collection: "org_akshay_pvt_ltd", Database: f.db.Name,
			Status: org.Active,
			Claims: []string{"org_akshay_pvt_ltd"},
		}
		if diff := cmp.Diff(want, got,
			cmpopts.IgnoreFields(org.Organization{}, "ID", "CollectionUUID", "Admins", "Revision", "Committed", "CreatedAt", "UpdatedAt")); diff != "" {
			t.Errorf("organization (-want +got):\n%s", diff)
		}
		if got.CreatedAt.Before(before) || got.CreatedAt.After(time.Now()) || got.CreatedAt.Location() != time.UTC {
			t.Errorf("CreatedAt = %v; want a time since the start, in UTC", got.CreatedAt)
		}
		found, err := f.Get(t.Context(), "Akshay Pvt Ltd")
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(got, found); diff != "" {
			t.Errorf("Get (-created +got):\n%s", diff)
		}
	})

	t.Run("OK in the database", func(t *testing.T) {
		all := f.snapshot(t)
		for name, want := range map[string]int{"organizations": 1, "admins": 1, "claims": 2, "org_akshay_pvt_ltd": 0} {
			if c, ok := all[name]; !ok || len(c.Documents) != want {
				t.Errorf("%s: %v, want %d documents", name, c.Documents, want)
			}
		}
		admin := make(map[string]any)
		for _, e := range all["admins"].Documents[0] {
			admin[e.Key] = e.Value
		}
		if got := admin["email"]; got != "admin@example.com" {
			t.Errorf("email = %v", got)
		}
		hash, _ := admin["password_hash"].(string)
		if err := bcrypt.CompareHashAndPassword([]byte(hash), []byte(adminPassword)); err != nil {
			t.Errorf("password_hash = %q: %v", hash, err)
		}
		for name, value := range admin {
			if s, ok := value.(string); ok && strings.Contains(s, adminPassword) {
				t.Errorf("%s = %q contains the password", name, s)
			}
		}
	})

	for _, tt := range []struct{ name, organization, email, want string }{
		{"ErrConflict same name", "Akshay Pvt Ltd", "other@example.com", "name"},
		{"ErrConflict same slug", "AKSHAY (PVT) LTD.", "other@example.com", "name"},
		{"ErrConflict same email", "Another", "admin@example.com", "email"},
		{"ErrConflict same email in another case", "Another", "ADMIN@EXAMPLE.COM", "email"},
		{"ErrConflict both", "Akshay Pvt Ltd", "admin@example.com", "name"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before := f.snapshot(t)
			o, err := f.Create(t.Context(), org.CreateRequest{OrganizationName: tt.organization, Email: tt.email, Password: adminPassword})
			if !errors.Is(err, org.ErrConflict) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Create = %+v, %v; want ErrConflict about the %s", o, err, tt.want)
			}
			f.wantSame(t, before)
		})
	}
}

func TestCreateErrInvalid(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	before := f.snapshot(t)
	for _, tt := range []struct {
		name    string
		request org.CreateRequest
		want    []string
	}{
		{"nothing", org.CreateRequest{}, []string{"organization_name", "email", "password"}},
		{"everything", org.CreateRequest{OrganizationName: "---", Email: "x", Password: "short"}, []string{"organization_name", "email", "password"}},
		{"name", org.CreateRequest{OrganizationName: "a\x00", Email: "a@example.com", Password: adminPassword}, []string{"organization_name"}},
		{"email", org.CreateRequest{OrganizationName: "Acme", Email: "A <a@example.com>", Password: adminPassword}, []string{"email"}},
		{"password", org.CreateRequest{OrganizationName: "Acme", Email: "a@example.com"}, []string{"password"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := f.Create(t.Context(), tt.request)
			wantFields(t, err, tt.want...)
		})
	}
	f.wantSame(t, before)
}

func TestPassword(t *testing.T) {
	for _, tt := range []struct {
		name, password string
		ok             bool
	}{
		{"OK", "Admin@123", true},
		{"8 characters", "Xq7-Tz2!", true},
		{"8 characters of three bytes", "पासवर्डx", true},
		{"128 characters", strings.Repeat("Xq7-Tz2!", 16), true},
		{"128 characters of three bytes", strings.Repeat("पासवर्ड", 18) + "xy", true},
		{"three characters", "abcabcabc", true},
		{"one more than the email", "a@example.com1", true},
		{"white space counts", "  a b c ", true},
		{"empty", "", false},
		{"7 characters", "Xq7-Tz2", false},
		{"7 characters of 21 bytes", strings.Repeat("क", 7), false},
		{"129 characters", strings.Repeat("Xq7-Tz2!", 16) + "x", false},
		{"129 characters of three bytes", strings.Repeat("पासवर्ड", 18) + "xyz", false},
		{"one character", "zzzzzzzzzzzz", false},
		{"two characters", "क1क1क1क1क1", false},
		{"malformed", "Xq7-Tz2!\xff", false},
		{"NUL", "Xq7-Tz2!\x00a", false},
		{"replacement character", "Xq7-Tz2!\ufffd", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := org.CreateRequest{OrganizationName: "Acme", Email: "a@example.com", Password: tt.password}
			c := org.UpdateRequest{Password: &tt.password, CurrentPassword: new(adminPassword)}
			for _, fields := range [][]org.FieldError{r.Validate(), c.Validate()} {
				if ok := len(fields) == 0; ok != tt.ok {
					t.Errorf("Validate = %v", fields)
				}
				for _, f := range fields {
					if f.Field != "password" {
						t.Errorf("Validate = %v", fields)
					}
				}
			}
		})
	}
}

// TestPasswordContext refuses passwords that everybody guesses who knows the admin.
func TestPasswordContext(t *testing.T) {
	t.Parallel()
	f, post, owner, _ := withMail(t)
	const email = "first.last@acme.test"
	for _, p := range []string{email, "First.Last@ACME.test", "first.last", "acme.testacme.test", "Meyer & Sons", "meyer_sons", "MEYER_SONSmeyer_sons"} {
		r := org.CreateRequest{OrganizationName: "Meyer & Sons", Email: email, Password: p}
		if fields := r.Validate(); len(fields) != 1 || fields[0].Field != "password" {
			t.Errorf("%q at a sign-up: %v", p, fields)
		}
		name, mail := r.OrganizationName, r.Email
		c := org.UpdateRequest{OrganizationName: &name, Email: &mail, Password: &p, CurrentPassword: new(adminPassword)}
		if fields := c.Validate(); len(fields) != 1 || fields[0].Field != "password" {
			t.Errorf("%q in a change: %v", p, fields)
		}
	}
	for _, p := range []string{"owner@acme.test", "Acme Ltd", "acme_ltd"} {
		_, err := f.Update(t.Context(), owner, org.UpdateRequest{Password: &p, CurrentPassword: new(adminPassword)})
		wantFields(t, err, "password")
	}
	if err := f.Forgot(t.Context(), org.ForgotRequest{Email: "owner@acme.test"}); err != nil {
		t.Fatal(err)
	}
	ticket := post.last(t, 1).Ticket
	for _, p := range []string{"owner@acme.test", "Acme Ltd", "acme_ltd"} {
		wantFields(t, f.Reset(t.Context(), org.ResetRequest{Ticket: ticket, Password: p}), "password")
	}
	if err := f.Reset(t.Context(), org.ResetRequest{Ticket: ticket, Password: "another of them"}); err != nil {
		t.Error(err) // the ticket is still good
	}
	f.mustInvite(t, f.mustLogin(t, "owner@acme.test", "another of them"), "guest@acme.test", org.RoleMember)
	ticket = post.last(t, 2).Ticket
	var err error
	for _, p := range []string{"guest@acme.test", "Acme Ltd", "acme_ltd"} {
		_, err = f.Accept(t.Context(), org.AcceptRequest{Ticket: ticket, Password: p})
		wantFields(t, err, "password")
	}
	if _, err := f.Accept(t.Context(), org.AcceptRequest{Ticket: ticket, Password: strings.Repeat("correct horse ", 9)}); err != nil {
		t.Error(err)
	}
	f.mustLogin(t, "guest@acme.test", strings.Repeat("correct horse ", 9))
	_, err = f.Login(t.Context(), org.LoginRequest{Email: "guest@acme.test", Password: strings.Repeat("correct horse ", 9)[:120]})
	wantReason(t, "its beginning", err, org.WrongCredentials)
	if err := f.InviteOwner(t.Context(), "olivia", org.OwnerRequest{OrganizationName: "Meyer & Sons", Email: email}); err != nil {
		t.Fatal(err)
	}
	ticket = post.last(t, 3).Ticket
	for _, p := range []string{email, "Meyer & Sons", "meyer_sons"} {
		_, err = f.Accept(t.Context(), org.AcceptRequest{Ticket: ticket, Password: p})
		wantFields(t, err, "password")
	}
}

func TestGet(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	want := f.mustCreate(t, "Acme Inc", "admin@example.com")
	for _, name := range []string{"Acme Inc", "acme inc", " ACME\tINC ", "acme_inc", "(acme) inc.", "Ａｃｍｅ Inc"} {
		t.Run("OK "+name, func(t *testing.T) {
			got, err := f.Get(t.Context(), name)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("Get (-want +got):\n%s", diff)
			}
		})
	}
	for _, name := range []string{"Acme", "Acme Inc 2", "AcmeInc", "org_acme_inc", want.ID} {
		t.Run("ErrNotFound "+name, func(t *testing.T) {
			if o, err := f.Get(t.Context(), name); !errors.Is(err, org.ErrNotFound) || !hintsAtSlug(err) {
				t.Errorf("Get = %+v, %v; want ErrNotFound, with the slug", o, err)
			}
		})
	}
	for _, name := range []string{"", " ", "---", "a\x00", "a\xff", strings.Repeat("x", 101)} {
		t.Run("ErrInvalid "+name, func(t *testing.T) {
			_, err := f.Get(t.Context(), name)
			wantFields(t, err, "organization_name")
		})
	}
	for _, status := range []org.Status{org.Provisioning, org.Deleting} {
		t.Run("ErrNotFound while "+string(status), func(t *testing.T) {
			f.set(t, "organizations", want.ID, bson.D{{Key: "status", Value: status}})
			if o, err := f.Get(t.Context(), "Acme Inc"); !errors.Is(err, org.ErrNotFound) {
				t.Errorf("Get = %+v, %v; want ErrNotFound", o, err)
			}
		})
	}
}

func TestLogin(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	o := f.mustCreate(t, "Acme Inc", "admin@example.com")
	unfinished := f.mustCreate(t, "Unfinished", "unfinished@example.com")
	f.set(t, "organizations", unfinished.ID, bson.D{{Key: "status", Value: org.Provisioning}})
	deleted := f.mustCreate(t, "Deleted", "deleted@example.com")
	f.set(t, "organizations", deleted.ID, bson.D{{Key: "status", Value: org.Deleting}})
	orphan := f.mustCreate(t, "Orphan", "orphan@example.com")
	if err := f.Store.DeleteOrganization(t.Context(), orphan.ID, orphan.Revision); err != nil {
		t.Fatal(err)
	}
	removed := f.mustCreate(t, "Removed", "removed@example.com")
	f.set(t, "organizations", removed.ID, bson.D{{Key: "admins", Value: bson.A{}}})

	for _, email := range []string{"admin@example.com", "ADMIN@example.COM", " \u3000admin@example.com\u00a0\n"} {
		t.Run(fmt.Sprintf("OK %q", email), func(t *testing.T) {
			f.reset()
			before := time.Now().Truncate(time.Second)
			tokens, err := f.Login(t.Context(), org.LoginRequest{Email: email, Password: adminPassword})
			after := time.Now()
			if err != nil {
				t.Fatal(err)
			}
			if tokens.ExpiresIn != time.Hour {
				t.Errorf("ExpiresIn = %v", tokens.ExpiresIn)
			}
			got, err := f.verifier.Verify(tokens.Access)
			if err != nil {
				t.Fatal(err)
			}
			want := auth.Caller{
				AdminID: o.Admins[0].AdminID, OrganizationID: o.ID, Role: "owner", Audience: auth.Audience, TokenVersion: 1, ExpiresAt: got.ExpiresAt,
			}
			if issued := got.ExpiresAt.Add(-time.Hour); issued.Before(before) || issued.After(after) {
				t.Errorf("the token was issued at %v; want from %v to %v", issued, before, after)
			}
			if got.SessionID == "" {
				t.Error("the token has no session id")
			}
			if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(auth.Caller{}, "SessionID")); diff != "" {
				t.Errorf("caller (-want +got):\n%s", diff)
			}
			f.wantOneComparison(t)
		})
	}

	var messages []string
	for _, tt := range []struct{ name, email, password string }{
		{"wrong password", "admin@example.com", "Admin@124"},
		{"password in another case", "admin@example.com", "aDMIN@123"},
		{"password with white space", "admin@example.com", " " + adminPassword},
		{"128 characters", "admin@example.com", strings.Repeat("x", 128)},
		{"unknown email", "nobody@example.com", adminPassword},
		{"no email", "nobody", adminPassword},
		{"email with white space", "admin @example.com", adminPassword},
		{"organization unfinished", "unfinished@example.com", adminPassword},
		{"organization being deleted", "deleted@example.com", adminPassword},
		{"no organization", "orphan@example.com", adminPassword},
		{"admin removed", "removed@example.com", adminPassword},
	} {
		t.Run("ErrUnauthenticated "+tt.name, func(t *testing.T) {
			f.reset()
			tokens, err := f.Login(t.Context(), org.LoginRequest{Email: tt.email, Password: tt.password})
			if !errors.Is(err, org.ErrUnauthenticated) || tokens != (org.Tokens{}) {
				t.Fatalf("Login = %+v, %v; want ErrUnauthenticated", tokens, err)
			}
			messages = append(messages, err.Error())
			f.wantOneComparison(t)
		})
	}
	if messages = slices.Compact(messages); len(messages) != 1 {
		t.Errorf("messages differ: %q", messages)
	}

	for _, tt := range []struct {
		name    string
		request org.LoginRequest
		want    []string
	}{
		{"nothing", org.LoginRequest{}, []string{"email", "password"}},
		{"email", org.LoginRequest{Password: adminPassword}, []string{"email"}},
		{"password", org.LoginRequest{Email: "admin@example.com"}, []string{"password"}},
		{"129 characters", org.LoginRequest{Email: "admin@example.com", Password: strings.Repeat("x", 129)}, []string{"password"}},
	} {
		t.Run("ErrInvalid "+tt.name, func(t *testing.T) {
			f.reset()
			_, err := f.Login(t.Context(), tt.request)
			wantFields(t, err, tt.want...)
			if len(f.commands) != 0 || len(f.costs) != 0 {
				t.Errorf("commands %v, comparisons %v; want none", f.commands, f.costs)
			}
		})
	}
}

// wantOneComparison fails the test unless one comparison was made since reset.
func (f *fixture) wantOneComparison(t *testing.T) {
	t.Helper()
	if diff := cmp.Diff([]int{bcrypt.MinCost}, f.costs); diff != "" {
		t.Errorf("costs of the comparisons (-want +got):\n%s", diff)
	}
}

// countedHashes counts the passwords that are hashed.
type countedHashes struct {
	org.Passwords
	n int
}

func (c *countedHashes) Hash(password string) (string, error) {
	c.n++
	return c.Passwords.Hash(password)
}

func TestSignUps(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	hashes := &countedHashes{Passwords: f.Passwords}
	f.Passwords = hashes
	now := time.Now().Add(-2 * time.Hour)
	f.Now, f.TokenTTL = func() time.Time { return now }, 3*time.Hour
	signUp := func(n int, address string) error {
		_, err := f.Create(t.Context(), org.CreateRequest{
			OrganizationName: fmt.Sprint("Acme ", n), Email: fmt.Sprintf("admin%d@acme.test", n), Password: adminPassword, ClientAddress: address,
		})
		return err
	}
	another := func(c auth.Caller, n int) error {
		_, err := f.CreateOrganization(t.Context(), c, org.CreateOrganizationRequest{OrganizationName: fmt.Sprint("Bolt ", n)})
		return err
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	refused := func(what string, err error, kind error, reason org.Reason) {
		t.Helper()
		if !errors.Is(err, kind) {
			t.Errorf("%s: %v; want %v", what, err, kind)
		}
		wantReason(t, what, err, reason)
	}
	f.SignUps = org.SignUps{PerHour: 3}
	for n := range 3 {
		must(signUp(n, fmt.Sprintf("2001:db8::%d", n)))
	}
	refused("the fourth of a client", signUp(3, "2001:db8::3"), org.ErrThrottled, org.TooManySignUps)
	if admins, err := f.Store.AdminsByEmail(t.Context(), "admin3@acme.test"); err != nil || len(admins) > 0 {
		t.Errorf("%v, %v", admins, err)
	}
	if hashes.n != 3 {
		t.Errorf("%d passwords were hashed; want 3", hashes.n)
	}
	must(signUp(3, "192.0.2.1"))
	must(signUp(4, ""))
	var e *org.Error
	if !errors.As(signUp(5, "2001:db8::3"), &e) || e.RetryAfter < 50*time.Minute || e.RetryAfter > 70*time.Minute {
		t.Errorf("wait %v", e.RetryAfter)
	}
	now = now.Add(e.RetryAfter)
	must(signUp(5, "2001:db8::3"))

	owner := f.mustLogin(t, "admin0@acme.test", adminPassword)
	for n := range 3 {
		must(another(owner, n))
	}
	refused("the fourth of an admin", another(owner, 3), org.ErrThrottled, org.TooManySignUps)
	must(another(f.mustLogin(t, "admin1@acme.test", adminPassword), 3))
	for n := range 3 {
		must(signUp(20+n, "198.51.100.1"))
	}
	_, err := f.CreateOrganization(t.Context(), f.mustLogin(t, "admin2@acme.test", adminPassword), org.CreateOrganizationRequest{
		OrganizationName: "Core", ClientAddress: "198.51.100.1",
	})
	refused("the fourth of a client, by an admin", err, org.ErrThrottled, org.TooManySignUps)

	f.SignUps = org.SignUps{MostOrganizations: 14}
	must(signUp(6, ""))
	refused("the twelfth", signUp(7, ""), org.ErrForbidden, org.TooManyOrganizations)
	refused("the twelfth, by an admin", another(owner, 4), org.ErrForbidden, org.TooManyOrganizations)
	if _, err := f.Delete(t.Context(), f.mustLogin(t, "admin6@acme.test", adminPassword), org.DeleteRequest{}); err != nil {
		t.Fatal(err)
	}
	must(another(owner, 4))

	f.SignUps = org.SignUps{Closed: true}
	refused("closed", signUp(8, ""), org.ErrForbidden, org.SignUpClosed)
	refused("closed, for an admin", another(owner, 5), org.ErrForbidden, org.SignUpClosed)
	f.wantNoFindings(t)
}

func TestLoginErrThrottled(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.mustCreate(t, "Acme Inc", "admin@example.com")
	for range 100 {
		_, err := f.Login(t.Context(), org.LoginRequest{Email: "admin@example.com", Password: "wrong password"})
		var e *org.Error
		if errors.Is(err, org.ErrThrottled) && errors.As(err, &e) {
			var seconds int
			if _, err := fmt.Sscanf(e.Message, "too many failed attempts: try again in %d second", &seconds); err != nil ||
				seconds < 1 || e.RetryAfter != time.Duration(seconds)*time.Second {
				t.Errorf("%q and RetryAfter %v; want the same number of seconds", e.Message, e.RetryAfter)
			}
			return
		}
		if !errors.Is(err, org.ErrUnauthenticated) {
			t.Fatal(err)
		}
	}
	t.Error("100 consecutive wrong passwords were compared; want ErrThrottled")
}

func TestLoginRehashes(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name     string
		from, to int
	}{
		{"when the cost is raised", bcrypt.MinCost, bcrypt.MinCost + 1},
		{"when the cost is lowered", bcrypt.MinCost + 1, bcrypt.MinCost},
		{"not when the cost is the same", bcrypt.MinCost, bcrypt.MinCost},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newFixture(t)
			f.Passwords = auth.Passwords{Cost: tt.from}
			f.mustCreate(t, "Acme Inc", "admin@example.com")
			before := f.mustLogin(t, "admin@example.com", adminPassword)
			old := f.hashOf(t, "admin@example.com")

			f.Passwords = auth.Passwords{Cost: tt.to}
			_, err := f.Login(t.Context(), org.LoginRequest{Email: "admin@example.com", Password: "wrong password"})
			if !errors.Is(err, org.ErrUnauthenticated) {
				t.Fatal(err)
			}
			if got := f.hashOf(t, "admin@example.com"); got != old {
				t.Error("a refused login changed the hash")
			}
			f.mustLogin(t, "admin@example.com", adminPassword)
			hash := f.hashOf(t, "admin@example.com")
			if cost, err := bcrypt.Cost([]byte(hash)); cost != tt.to || err != nil {
				t.Errorf("cost of the hash = %d, %v; want %d", cost, err, tt.to)
			}
			if changed := hash != old; changed != (tt.from != tt.to) {
				t.Errorf("hash changed: %v", changed)
			}
			f.mustLogin(t, "admin@example.com", adminPassword)
			f.wantTokenValid(t, before, "Acme Inc")
		})
	}
}

// hashOf returns the password hash of the only admin who has the email.
func (f *fixture) hashOf(t *testing.T, email string) string {
	t.Helper()
	admins, err := f.Store.AdminsByEmail(t.Context(), email)
	if err != nil || len(admins) != 1 {
		t.Fatal(admins, err)
	}
	return admins[0].PasswordHash
}

func TestUpdate(t *testing.T) {
	t.Parallel()
	const newPassword = "Another@123"
	for _, tt := range []struct {
		name                  string
		change                org.UpdateRequest
		organization, slug    string
		email, password       string
		revoked               bool // the token
		freedName, freedEmail bool
	}{
		{
			name: "OK name", change: org.UpdateRequest{OrganizationName: new("New Name")},
			organization: "New Name", slug: "new_name", email: "admin@example.com", password: adminPassword, freedName: true,
		},
		{
			name: "OK display name", change: org.UpdateRequest{OrganizationName: new("  ACME-inc. ")},
			organization: "ACME-inc.", slug: "acme_inc", email: "admin@example.com", password: adminPassword,
		},
		{
			name: "OK same name", change: org.UpdateRequest{OrganizationName: new("Acme Inc")},
			organization: "Acme Inc", slug: "acme_inc", email: "admin@example.com", password: adminPassword,
		},
		{
			name: "OK email", change: org.UpdateRequest{Email: new("New@Example.com"), CurrentPassword: new(adminPassword)},
			organization: "Acme Inc", slug: "acme_inc", email: "new@example.com", password: adminPassword, revoked: true, freedEmail: true,
		},
		{
			name: "OK own email in another case", change: org.UpdateRequest{Email: new("ADMIN@Example.com"), CurrentPassword: new(adminPassword)},
			organization: "Acme Inc", slug: "acme_inc", email: "admin@example.com", password: adminPassword,
		},
		{
			name: "OK password", change: org.UpdateRequest{Password: new(newPassword), CurrentPassword: new(adminPassword)},
			organization: "Acme Inc", slug: "acme_inc", email: "admin@example.com", password: newPassword, revoked: true,
		},
		{
			name: "OK same password", change: org.UpdateRequest{Password: new(adminPassword), CurrentPassword: new(adminPassword)},
			organization: "Acme Inc", slug: "acme_inc", email: "admin@example.com", password: adminPassword, revoked: true,
		},
		{
			name: "OK everything", change: org.UpdateRequest{
				OrganizationName: new("New Name"), Email: new("new@example.com"), Password: new(newPassword), CurrentPassword: new(adminPassword),
			},
			organization: "New Name", slug: "new_name", email: "new@example.com", password: newPassword, revoked: true,
			freedName: true, freedEmail: true,
		},
		{
			name: "OK name with a current password", change: org.UpdateRequest{OrganizationName: new("New Name"), CurrentPassword: new(adminPassword)},
			organization: "New Name", slug: "new_name", email: "admin@example.com", password: adminPassword, freedName: true,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newFixture(t)
			created := f.mustCreate(t, "Acme Inc", "admin@example.com")
			f.fillTenant(t, created.Collection)
			documents := f.snapshot(t)[created.Collection].Documents
			caller := f.mustLogin(t, "admin@example.com", adminPassword)

			got, err := f.Update(t.Context(), caller, tt.change)
			if err != nil {
				t.Fatal(err)
			}
			want := created
			want.Name, want.Collection = tt.organization, "org_"+tt.slug
			want.Claims = []string{want.Collection}
			if diff := cmp.Diff(want, got,
				cmpopts.IgnoreFields(org.Organization{}, "Admins", "Revision", "Committed", "UpdatedAt"),
				cmpopts.SortSlices(strings.Compare)); diff != "" {
				t.Errorf("organization (-want +got):\n%s", diff)
			}
			if got.UpdatedAt.Before(created.UpdatedAt) {
				t.Errorf("updated at %v, created at %v", got.UpdatedAt, created.UpdatedAt)
			}
			found, err := f.Get(t.Context(), tt.organization)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(got.UpdatedAt, found.UpdatedAt); diff != "" {
				t.Errorf("updated at (-answered +stored):\n%s", diff)
			}

			all := f.snapshot(t)
			if diff := cmp.Diff([]string{"org_" + tt.slug}, all.tenantCollections()); diff != "" {
				t.Errorf("collections (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(documents, all["org_"+tt.slug].Documents); diff != "" {
				t.Errorf("documents (-before +after):\n%s", diff)
			}
			if n := len(all["claims"].Documents); n != 2 {
				t.Errorf("%d claims, want 2: %v", n, all["claims"].Documents)
			}

			if tt.revoked {
				f.wantTokenInvalid(t, caller)
			} else {
				f.wantTokenValid(t, caller, tt.organization)
			}
			if tt.password != adminPassword {
				if _, err := f.Login(t.Context(), org.LoginRequest{Email: tt.email, Password: adminPassword}); !errors.Is(err, org.ErrUnauthenticated) {
					t.Errorf("login with the old password: %v; want ErrUnauthenticated", err)
				}
			}
			f.wantTokenValid(t, f.mustLogin(t, tt.email, tt.password), tt.organization)

			if tt.freedName {
				f.mustCreate(t, "Acme Inc", "next1@example.com")
			}
			if tt.freedEmail {
				f.mustCreate(t, "Next 2", "admin@example.com")
			}
		})
	}
}

func TestUpdateErr(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	o := f.mustCreate(t, "Acme Inc", "admin@example.com")
	f.fillTenant(t, o.Collection)
	f.mustCreate(t, "Victim Co", "victim@example.com")
	caller := f.mustLogin(t, "admin@example.com", adminPassword)
	before := f.snapshot(t)

	for _, tt := range []struct {
		name   string
		change org.UpdateRequest
		want   []string
	}{
		{"nothing", org.UpdateRequest{}, []string{"organization_name"}},
		{"only the current password", org.UpdateRequest{CurrentPassword: new(adminPassword)}, []string{"organization_name"}},
		{"only a long current password", org.UpdateRequest{CurrentPassword: new(strings.Repeat("x", 129))}, []string{"organization_name", "current_password"}},
		{"a long current password for the name", org.UpdateRequest{OrganizationName: new("New"), CurrentPassword: new(strings.Repeat("x", 129))}, []string{"current_password"}},
		{"no current password for email", org.UpdateRequest{Email: new("new@example.com")}, []string{"current_password"}},
		{"no current password for password", org.UpdateRequest{Password: new("Another@123")}, []string{"current_password"}},
		{"empty", org.UpdateRequest{OrganizationName: new(""), Email: new(""), Password: new(""), CurrentPassword: new("")},
			[]string{"organization_name", "email", "password", "current_password"}},
		{"everything", org.UpdateRequest{OrganizationName: new("---"), Email: new("x"), Password: new("short"), CurrentPassword: new(strings.Repeat("x", 129))},
			[]string{"organization_name", "email", "password", "current_password"}},
	} {
		t.Run("ErrInvalid "+tt.name, func(t *testing.T) {
			_, err := f.Update(t.Context(), caller, tt.change)
			wantFields(t, err, tt.want...)
		})
	}

	for _, tt := range []struct {
		name   string
		change org.UpdateRequest
		want   error
	}{
		{"ErrForbidden email", org.UpdateRequest{Email: new("new@example.com"), CurrentPassword: new("wrong password")}, org.ErrForbidden},
		{"ErrForbidden password", org.UpdateRequest{Password: new("Another@123"), CurrentPassword: new("wrong password")}, org.ErrForbidden},
		{"ErrForbidden own email", org.UpdateRequest{Email: new("admin@example.com"), CurrentPassword: new("wrong password")}, org.ErrForbidden},
		{"ErrForbidden with a name", org.UpdateRequest{OrganizationName: new("New"), Email: new("new@example.com"), CurrentPassword: new("wrong password")}, org.ErrForbidden},
		{"ErrForbidden with only a name", org.UpdateRequest{OrganizationName: new("New"), CurrentPassword: new("wrong password")}, org.ErrForbidden},
		{"ErrForbidden before ErrConflict", org.UpdateRequest{Email: new("victim@example.com"), CurrentPassword: new("wrong password")}, org.ErrForbidden},
		{"ErrConflict name", org.UpdateRequest{OrganizationName: new("Victim Co")}, org.ErrConflict},
		{"ErrConflict slug", org.UpdateRequest{OrganizationName: new("VICTIM-CO")}, org.ErrConflict},
		{"ErrConflict email", org.UpdateRequest{Email: new("Victim@example.com"), CurrentPassword: new(adminPassword)}, org.ErrConflict},
		{"ErrConflict email with a password", org.UpdateRequest{Email: new("victim@example.com"), Password: new("Another@123"), CurrentPassword: new(adminPassword)}, org.ErrConflict},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if o, err := f.Update(t.Context(), caller, tt.change); !errors.Is(err, tt.want) {
				t.Errorf("Update = %+v, %v; want %v", o, err, tt.want)
			}
		})
	}
	f.wantSame(t, before)
	f.wantTokenValid(t, caller, "Acme Inc")
}

func TestUpdateErrBusy(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	o := f.mustCreate(t, "Acme Inc", "admin@example.com")
	caller := f.mustLogin(t, "admin@example.com", adminPassword)
	now := time.Now()
	f.set(t, "organizations", o.ID, bson.D{{Key: "operation", Value: bson.D{
		{Key: "id", Value: bson.NewObjectID()}, {Key: "kind", Value: org.Updating},
		{Key: "started_at", Value: now}, {Key: "touched_at", Value: now},
		{Key: "organization_name", Value: o.Name},
		{Key: "collection_name", Value: o.Collection}, {Key: "claims", Value: o.Claims},
	}}})
	before := f.snapshot(t)
	for name, change := range map[string]org.UpdateRequest{
		"display name": {OrganizationName: new("ACME INC")},
		"name":         {OrganizationName: new("Beta")},
		"password":     {Password: new("Another@123"), CurrentPassword: new(adminPassword)},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := f.Update(t.Context(), caller, change); !errors.Is(err, org.ErrConflict) {
				t.Errorf("Update: %v, want ErrConflict", err)
			}
		})
	}
	t.Run("delete", func(t *testing.T) {
		if _, err := f.Delete(t.Context(), caller, org.DeleteRequest{}); !errors.Is(err, org.ErrConflict) {
			t.Errorf("Delete: %v, want ErrConflict", err)
		}
	})
	f.wantSame(t, before)
}

func TestErrUnauthenticated(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	o := f.mustCreate(t, "Acme Inc", "admin@example.com")
	good := f.mustLogin(t, "admin@example.com", adminPassword)
	for _, tt := range []struct {
		name   string
		modify func(*auth.Caller)
	}{
		{"no caller", func(c *auth.Caller) { *c = auth.Caller{} }},
		{"expired", func(c *auth.Caller) { c.ExpiresAt = time.Now() }},
		{"without an expiry", func(c *auth.Caller) { c.ExpiresAt = time.Time{} }},
		{"of an older version", func(c *auth.Caller) { c.TokenVersion-- }},
		{"of a newer version", func(c *auth.Caller) { c.TokenVersion++ }},
		{"of another admin", func(c *auth.Caller) { c.AdminID = f.Store.NewID() }},
		{"of another organization", func(c *auth.Caller) { c.OrganizationID = f.Store.NewID() }},
		{"of another session", func(c *auth.Caller) { c.SessionID = auth.NewOpaqueID() }},
		{"of an invalid organization id", func(c *auth.Caller) { c.OrganizationID = "x" }},
		{"of an organization's name", func(c *auth.Caller) { c.OrganizationID = o.Name }},
		{"of the admin's id as the organization's", func(c *auth.Caller) { c.OrganizationID = c.AdminID }},
		{"of an invalid admin id", func(c *auth.Caller) { c.AdminID = "x" }},
		{"of an empty admin id", func(c *auth.Caller) { c.AdminID = "" }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			caller := good
			tt.modify(&caller)
			f.wantTokenInvalid(t, caller)
		})
	}
	f.wantTokenValid(t, good, "Acme Inc")
}

func TestDelete(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name         string
		confirmation *string
	}{
		{"OK", nil},
		{"OK with its name", new("Acme Inc")},
		{"OK with another name of the same slug", new(" ACME-INC! ")},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newFixture(t)
			f.mustCreate(t, "Neighbour", "neighbour@example.com")
			f.fillTenant(t, "org_neighbour")
			before := f.snapshot(t)
			created := f.mustCreate(t, "Acme Inc", "admin@example.com")
			f.fillTenant(t, created.Collection)
			caller := f.mustLogin(t, "admin@example.com", adminPassword)
			now := time.Now().Truncate(time.Millisecond)

			got, err := f.Delete(t.Context(), caller, org.DeleteRequest{Confirmation: tt.confirmation})
			if err != nil {
				t.Fatal(err)
			}
			if got.ID != created.ID || got.Name != "Acme Inc" || got.UpdatedAt.Before(now) || got.UpdatedAt.After(time.Now()) {
				t.Errorf("Delete = %+v", got)
			}
			// It is deleted completely, and the other organization is unchanged.
			f.wantSame(t, before)
			if o, err := f.Get(t.Context(), "Acme Inc"); !errors.Is(err, org.ErrNotFound) {
				t.Errorf("Get = %+v, %v; want ErrNotFound", o, err)
			}
			if _, err := f.Login(t.Context(), org.LoginRequest{Email: "admin@example.com", Password: adminPassword}); !errors.Is(err, org.ErrUnauthenticated) {
				t.Errorf("Login: %v, want ErrUnauthenticated", err)
			}
			f.wantTokenInvalid(t, caller)
			if next := f.mustCreate(t, "Acme Inc", "admin@example.com"); next.ID == created.ID {
				t.Error("the next organization has the same id")
			}
		})
	}
}

func TestDeleteErr(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	o := f.mustCreate(t, "Acme Inc", "admin@example.com")
	f.fillTenant(t, o.Collection)
	f.mustCreate(t, "Neighbour", "neighbour@example.com")
	caller := f.mustLogin(t, "admin@example.com", adminPassword)
	before := f.snapshot(t)
	for _, name := range []string{"Neighbour", "Acme", "nobody", o.Collection, o.ID} {
		t.Run("ErrForbidden "+name, func(t *testing.T) {
			if _, err := f.Delete(t.Context(), caller, org.DeleteRequest{Confirmation: &name}); !errors.Is(err, org.ErrForbidden) || !hintsAtSlug(err) {
				t.Errorf("Delete: %v, want ErrForbidden, with the slug", err)
			}
		})
	}
	for _, name := range []string{"", " ", "---", "a\x00"} {
		t.Run("ErrInvalid "+name, func(t *testing.T) {
			_, err := f.Delete(t.Context(), caller, org.DeleteRequest{Confirmation: &name})
			wantFields(t, err, "organization_name")
		})
	}
	f.wantSame(t, before)
}

func TestHostileRenameOntoNeighbour(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	victim := f.mustCreate(t, "Victim Co", "victim@example.com")
	f.fillTenant(t, victim.Collection)
	attacker := f.mustCreate(t, "Attacker", "attacker@example.com")
	f.insert(t, attacker.Collection, bson.D{{Key: "_id", Value: int32(1)}, {Key: "evil", Value: true}})
	caller := f.mustLogin(t, "attacker@example.com", adminPassword)
	before := f.snapshot(t)
	for _, name := range []string{"Victim Co", "VICTIM CO", "victim-co", " victim_co ", "Ｖictim Co", "Vic\u200dtim Co"} {
		t.Run(name, func(t *testing.T) {
			if o, err := f.Update(t.Context(), caller, org.UpdateRequest{OrganizationName: &name}); !errors.Is(err, org.ErrConflict) {
				t.Errorf("Update = %+v, %v; want ErrConflict", o, err)
			}
			f.wantSame(t, before)
		})
	}
}

func TestHostileRenameOntoItself(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	o := f.mustCreate(t, "Acme Inc", "admin@example.com")
	f.fillTenant(t, o.Collection)
	caller := f.mustLogin(t, "admin@example.com", adminPassword)
	before := f.snapshot(t)
	for _, name := range []string{"acme inc", "Acme Inc", "ACME-INC", "ACME-INC"} {
		t.Run(name, func(t *testing.T) {
			got, err := f.Update(t.Context(), caller, org.UpdateRequest{OrganizationName: &name})
			if err != nil {
				t.Fatal(err)
			}
			if got.Name != name || got.Collection != o.Collection {
				t.Errorf("Update = %+v", got)
			}
			if found, err := f.Get(t.Context(), "acme_inc"); err != nil || found.Name != name {
				t.Errorf("Get = %+v, %v", found, err)
			}
			after := f.snapshot(t)
			delete(after, "organizations") // the display name changes
			delete(before, "organizations")
			if diff := cmp.Diff(before, after); diff != "" {
				t.Errorf("the database has changed (-before +after):\n%s", diff)
			}
		})
	}
}

func TestHostileRenameKeepsDocuments(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	o := f.mustCreate(t, "Acme Inc", "admin@example.com")
	f.fillTenant(t, o.Collection)
	caller := f.mustLogin(t, "admin@example.com", adminPassword)
	want := f.snapshot(t)[o.Collection]
	if len(want.Documents) != 3 || len(want.Indexes) != 3 {
		t.Fatalf("the tenant has %+v; want 3 documents and 3 indexes", want)
	}
	for _, name := range []string{"Beta", strings.Repeat("long ", 20), "राम", "Acme Inc"} {
		got, err := f.Update(t.Context(), caller, org.UpdateRequest{OrganizationName: &name})
		if err != nil {
			t.Fatal(err)
		}
		all := f.snapshot(t)
		if diff := cmp.Diff([]string{got.Collection}, all.tenantCollections()); diff != "" {
			t.Errorf("%s: collections (-want +got):\n%s", name, diff)
		}
		if diff := cmp.Diff(want, all[got.Collection]); diff != "" {
			t.Errorf("%s: contents (-before +after):\n%s", name, diff)
		}
	}
}

func TestHostileSlugCollision(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	o := f.mustCreate(t, "Acme Inc", "admin@example.com")
	f.fillTenant(t, o.Collection)
	long := strings.Repeat("x", 80)
	f.mustCreate(t, long, "long@example.com")
	before := f.snapshot(t)
	for _, name := range []string{"acme inc", "ACME-INC", "Acme, Inc.", "acme_inc", "Ａｃｍｅ Inc", "Ac\u200dme Inc", strings.ToUpper(long)} {
		t.Run(name, func(t *testing.T) {
			got, err := f.Create(t.Context(), org.CreateRequest{OrganizationName: name, Email: "second@example.com", Password: adminPassword})
			if !errors.Is(err, org.ErrConflict) {
				t.Errorf("Create = %+v, %v; want ErrConflict", got, err)
			}
			f.wantSame(t, before)
		})
	}
	// Others can use the email with another name.
	f.mustCreate(t, "Second", "second@example.com")
}

func TestHostileForeignTenant(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	victim := f.mustCreate(t, "Victim Co", "victim@example.com")
	f.fillTenant(t, victim.Collection)
	attacker := f.mustCreate(t, "Attacker", "attacker@example.com")
	good := f.mustLogin(t, "attacker@example.com", adminPassword)

	t.Run("ErrUnauthenticated with mixed ids", func(t *testing.T) {
		mixed := good
		mixed.OrganizationID = victim.ID
		f.wantTokenInvalid(t, mixed)
		mixed = good
		mixed.AdminID = victim.Admins[0].AdminID
		f.wantTokenInvalid(t, mixed)
	})
	t.Run("ErrForbidden to delete by name", func(t *testing.T) {
		before := f.snapshot(t)
		if _, err := f.Delete(t.Context(), good, org.DeleteRequest{Confirmation: new("Victim Co")}); !errors.Is(err, org.ErrForbidden) {
			t.Errorf("Delete: %v, want ErrForbidden", err)
		}
		f.wantSame(t, before)
	})
	t.Run("OK for its own organization", func(t *testing.T) {
		want := f.snapshot(t)[victim.Collection]
		if _, err := f.Update(t.Context(), good, org.UpdateRequest{OrganizationName: new("Attackers")}); err != nil {
			t.Fatal(err)
		}
		o, err := f.Delete(t.Context(), good, org.DeleteRequest{})
		if err != nil || o.ID != attacker.ID {
			t.Fatalf("Delete = %+v, %v", o, err)
		}
		all := f.snapshot(t)
		if diff := cmp.Diff([]string{victim.Collection}, all.tenantCollections()); diff != "" {
			t.Errorf("collections (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff(want, all[victim.Collection]); diff != "" {
			t.Errorf("the victim's collection (-before +after):\n%s", diff)
		}
		got, err := f.Get(t.Context(), "Victim Co")
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(victim, got); diff != "" {
			t.Errorf("the victim (-before +after):\n%s", diff)
		}
		f.wantTokenValid(t, f.mustLogin(t, "victim@example.com", adminPassword), "Victim Co")
	})
}

func TestHostileTokenOfFreedName(t *testing.T) {
	t.Parallel()
	t.Run("deleted", func(t *testing.T) {
		f := newFixture(t)
		f.mustCreate(t, "Acme Inc", "first@example.com")
		first := f.mustLogin(t, "first@example.com", adminPassword)
		if _, err := f.Delete(t.Context(), first, org.DeleteRequest{}); err != nil {
			t.Fatal(err)
		}
		f.mustCreate(t, "Acme Inc", "second@example.com")
		f.wantTokenInvalid(t, first)
	})
	t.Run("deleted and created again by the same admin", func(t *testing.T) {
		f := newFixture(t)
		f.mustCreate(t, "Acme Inc", "first@example.com")
		first := f.mustLogin(t, "first@example.com", adminPassword)
		if _, err := f.Delete(t.Context(), first, org.DeleteRequest{}); err != nil {
			t.Fatal(err)
		}
		f.mustCreate(t, "Acme Inc", "first@example.com")
		f.wantTokenInvalid(t, first)
	})
	t.Run("renamed", func(t *testing.T) {
		f := newFixture(t)
		f.mustCreate(t, "Acme Inc", "first@example.com")
		first := f.mustLogin(t, "first@example.com", adminPassword)
		if _, err := f.Update(t.Context(), first, org.UpdateRequest{OrganizationName: new("Beta")}); err != nil {
			t.Fatal(err)
		}
		second := f.mustCreate(t, "Acme Inc", "second@example.com")
		f.fillTenant(t, second.Collection)
		before := f.snapshot(t)
		if _, err := f.Delete(t.Context(), first, org.DeleteRequest{Confirmation: new("Acme Inc")}); !errors.Is(err, org.ErrForbidden) {
			t.Errorf("Delete: %v, want ErrForbidden", err)
		}
		f.wantSame(t, before)
		if _, err := f.Delete(t.Context(), first, org.DeleteRequest{}); err != nil {
			t.Fatal(err)
		}
		after := f.snapshot(t)
		if diff := cmp.Diff(before[second.Collection], after[second.Collection]); diff != "" {
			t.Errorf("the second owner's collection (-before +after):\n%s", diff)
		}
	})
}

func TestHostileOperatorInjection(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.mustCreate(t, "Acme Inc", "admin@example.com")
	for _, name := range []string{".*", "^.*$", "*", "acme.*", "^acme i.*", `{"$regex": ".*"}`, `{"$ne": null}`, "$where", "[a]cme inc", "a?cme inc"} {
		t.Run("get "+name, func(t *testing.T) {
			o, err := f.Get(t.Context(), name)
			if !errors.Is(err, org.ErrNotFound) && !errors.Is(err, org.ErrInvalid) {
				t.Errorf("Get = %+v, %v; want ErrNotFound or ErrInvalid", o, err)
			}
		})
	}
	for _, email := range []string{".*", "^admin", `{"$ne": null}`, `{"$gt": ""}`, "admin@example.co.", "' || '1'=='1", "$email", "admin@example.com\x00"} {
		t.Run("login "+email, func(t *testing.T) {
			tokens, err := f.Login(t.Context(), org.LoginRequest{Email: email, Password: adminPassword})
			if !errors.Is(err, org.ErrUnauthenticated) {
				t.Errorf("Login = %+v, %v; want ErrUnauthenticated", tokens, err)
			}
		})
	}
}

func TestHostilePartialCommit(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		change org.UpdateRequest
	}{
		{"email taken", org.UpdateRequest{OrganizationName: new("New Name"), Email: new("victim@example.com"), Password: new("Another@123")}},
		{"name taken", org.UpdateRequest{OrganizationName: new("VICTIM CO"), Email: new("new@example.com"), Password: new("Another@123")}},
		{"both taken", org.UpdateRequest{OrganizationName: new("Victim Co"), Email: new("victim@example.com")}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newFixture(t)
			f.mustCreate(t, "Victim Co", "victim@example.com")
			o := f.mustCreate(t, "Acme Inc", "admin@example.com")
			f.fillTenant(t, o.Collection)
			caller := f.mustLogin(t, "admin@example.com", adminPassword)
			before := f.snapshot(t)
			tt.change.CurrentPassword = new(adminPassword)
			if got, err := f.Update(t.Context(), caller, tt.change); !errors.Is(err, org.ErrConflict) {
				t.Errorf("Update = %+v, %v; want ErrConflict", got, err)
			}
			f.wantSameButRevisions(t, before)
			f.wantTokenValid(t, caller, "Acme Inc")
			f.mustLogin(t, "admin@example.com", adminPassword)
			// The name and the email that it did not get are free.
			f.mustCreate(t, "New Name", "new@example.com")
		})
	}
}

func TestHostileLoserLeavesTheWinnerAlone(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	o := f.mustCreate(t, "Acme Inc", "admin@example.com")
	f.fillTenant(t, o.Collection)
	before := f.snapshot(t)
	for _, r := range []org.CreateRequest{
		{OrganizationName: "Acme Inc", Email: "loser@example.com", Password: adminPassword},
		{OrganizationName: "Loser", Email: "admin@example.com", Password: adminPassword},
		{OrganizationName: "Acme Inc", Email: "admin@example.com", Password: adminPassword},
	} {
		if got, err := f.Create(t.Context(), r); !errors.Is(err, org.ErrConflict) {
			t.Errorf("Create = %+v, %v; want ErrConflict", got, err)
		}
		f.wantSame(t, before)
	}
	f.mustCreate(t, "Loser", "loser@example.com")
}

// TestHostileWithoutIndexes checks that names and emails are unique in a
// database without indexes.
func TestHostileWithoutIndexes(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	bare := f.db.Fresh(t)
	f.Store, f.Database = bare.Open(t), bare.Name
	f.mustCreate(t, "Acme Inc", "admin@example.com")
	for _, r := range []org.CreateRequest{
		{OrganizationName: "ACME INC", Email: "other@example.com", Password: adminPassword},
		{OrganizationName: "Other", Email: "Admin@example.com", Password: adminPassword},
	} {
		if o, err := f.Create(t.Context(), r); !errors.Is(err, org.ErrConflict) {
			t.Errorf("Create = %+v, %v; want ErrConflict", o, err)
		}
	}
}

// hintsAtSlug reports whether a refusal says what the slug is, to the client and not to the log.
func hintsAtSlug(err error) bool {
	const hint = "the slug of this one is"
	var e *org.Error
	return errors.As(err, &e) && strings.Contains(e.Detail(), hint) && !strings.Contains(err.Error(), hint)
}
