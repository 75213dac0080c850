package org_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"orgservice/local/mongodbtest"
	"orgservice/shared/auth"
	"orgservice/shared/org"
)

// world is a database, a clock and the services that share both.
type world struct {
	t  testing.TB
	db mongodbtest.Database

	unindexed bool // its services make no indexes

	mu     sync.Mutex
	now    time.Time
	seeded map[string]bool // ids of the organizations that have documents
}

// worldIn returns a world with the database, in which it makes the indexes.
func worldIn(t testing.TB, db mongodbtest.Database) *world {
	t.Helper()
	if failed, err := db.Open(t).EnsureIndexes(t.Context()); err != nil || len(failed) > 0 {
		t.Fatal(failed, err)
	}
	return plainWorld(t, db)
}

// plainWorld is worldIn without indexes.
func plainWorld(t testing.TB, db mongodbtest.Database) *world {
	return &world{t: t, db: db, now: time.Now(), seeded: map[string]bool{}}
}

func (w *world) clock() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now
}

// makeStale advances the clock so that every operation under way is stale.
func (w *world) makeStale() { w.advance(2 * org.StaleAfter) }

func (w *world) advance(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now = w.now.Add(d)
}

// startWindow advances the clock until no attempt counts any more.
func (w *world) startWindow() { w.advance(20 * time.Minute) }

// service returns a service with its own store and connections, like a process.
func (w *world) service(more ...*options.ClientOptions) *org.Service {
	w.t.Helper()
	signer, err := auth.NewSigner([]byte(strings.Repeat("s", auth.MinSecretBytes)))
	if err != nil {
		w.t.Fatal(err)
	}
	var store org.Store = w.db.Open(w.t, more...)
	if w.unindexed {
		store = unindexed{store}
	}
	return &org.Service{
		Store:     store,
		Database:  w.db.Name,
		Passwords: auth.Passwords{Cost: 4},
		Tokens:    signer,
		TokenTTL:  time.Hour,

		SessionTTL:  12 * time.Hour,
		RecoverTime: mongodbtest.Patience,
		Now:         w.clock,
		Log:         slog.New(slog.DiscardHandler),
	}
}

// unindexed is a store that makes no indexes. They only make the service fast, and on
// the embedded database each takes as long as an insert.
type unindexed struct{ org.Store }

func (unindexed) EnsureIndexes(context.Context) (map[string]error, error) { return nil, nil }

const password = "correct horse"

// create creates an organization and seeds it.
func (w *world) create(s *org.Service, name, email string) org.Organization {
	w.t.Helper()
	o, err := s.Create(context.Background(), org.CreateRequest{OrganizationName: name, Email: email, Password: password})
	if err != nil {
		w.t.Fatalf("create %q: %v", name, err)
	}
	w.seed(o)
	return o
}

const seedDocuments = 3

// seed inserts documents and an index into the organization's collection, and a
// session of its admin.
func (w *world) seed(o org.Organization) {
	w.t.Helper()
	collection := w.db.Client.Database(o.Database).Collection(o.Collection)
	var docs []bson.D
	for i := range seedDocuments {
		docs = append(docs, bson.D{{Key: "_id", Value: fmt.Sprint(o.ID, "/", i)}, {Key: "tenant", Value: o.ID}})
	}
	if _, err := collection.InsertMany(context.Background(), docs); err != nil {
		w.t.Fatal(err)
	}
	_, err := collection.Indexes().CreateOne(context.Background(), mongo.IndexModel{Keys: bson.D{{Key: "tenant", Value: 1}}})
	if err != nil {
		w.t.Fatal(err)
	}
	w.seedSession(o)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.seeded[o.ID] = true
}

// seedSession inserts the session of callerOf.
func (w *world) seedSession(o org.Organization) {
	w.t.Helper()
	adminID, err := bson.ObjectIDFromHex(o.Admins[0].AdminID)
	if err != nil {
		w.t.Fatal(err)
	}
	organizationID, err := bson.ObjectIDFromHex(o.ID)
	if err != nil {
		w.t.Fatal(err)
	}
	session := bson.D{
		{Key: "_id", Value: o.ID}, {Key: "admin_id", Value: adminID}, {Key: "organization_id", Value: organizationID},
		{Key: "expires_at", Value: w.clock().AddDate(1, 0, 0)},
	}
	if n := len(o.History); n > 0 {
		act, err := bson.ObjectIDFromHex(o.History[n-1].ID)
		if err != nil {
			w.t.Fatal(err)
		}
		session = append(session, bson.E{Key: "last_act_id", Value: act})
	}
	sessions := w.db.Client.Database(w.db.Name).Collection("sessions")
	if _, err = sessions.DeleteOne(context.Background(), session[:1]); err == nil {
		_, err = sessions.InsertOne(context.Background(), session)
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

// callerOf returns the caller of a token that is issued now to the
// organization's admin, in the session that seed has inserted.
func (w *world) callerOf(o org.Organization) auth.Caller {
	return auth.Caller{
		AdminID:        o.Admins[0].AdminID,
		OrganizationID: o.ID,
		TokenVersion:   w.tokenVersion(o.Admins[0].AdminID),
		SessionID:      o.ID,
		ExpiresAt:      w.clock().Add(time.Hour),
	}
}

// tokenVersion returns the version of the admin's tokens, or 0 if there is no such
// admin.
func (w *world) tokenVersion(adminID string) int64 {
	w.t.Helper()
	for _, a := range w.documents("admins") {
		if a["_id"].(bson.ObjectID).Hex() == adminID {
			return a["token_version"].(int64)
		}
	}
	return 0
}

// check fails the test if the database is not consistent while no operation is
// under way. It reads the database without the service.
func (w *world) check() {
	w.t.Helper()
	for _, p := range w.problems() {
		w.t.Error(p)
	}
}

// problems returns the inconsistencies that check reports.
func (w *world) problems() (problems []string) {
	addProblem := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	ctx := context.Background()
	database := w.db.Client.Database(w.db.Name)

	admins := map[bson.ObjectID]bson.M{}
	for _, a := range w.documents("admins") {
		admins[a["_id"].(bson.ObjectID)] = a
	}
	claims := map[string]bson.ObjectID{}
	for _, c := range w.documents("claims") {
		owner, ok := c["organization_id"].(bson.ObjectID)
		if !ok {
			owner = c["admin_id"].(bson.ObjectID)
		}
		claims[c["_id"].(string)] = owner
	}
	listed, found := map[bson.ObjectID][]bson.ObjectID{}, map[string]bool{} // admins and claims that organizations have
	collections := map[string]string{}                                      // name → UUID
	specs, err := database.ListCollectionSpecifications(ctx, bson.D{})
	if err != nil {
		w.t.Fatal(err)
	}
	for _, spec := range specs {
		if strings.HasPrefix(spec.Name, "org_") {
			collections[spec.Name] = ""
			if spec.UUID != nil { // MongoDB always reports it, some other servers don't
				collections[spec.Name] = fmt.Sprintf("%x", spec.UUID.Data)
			}
		}
	}
	for _, o := range w.documents("organizations") {
		id := o["_id"].(bson.ObjectID)
		collection := o["collection_name"].(string)
		deleted := o["status"] == "deleted"
		if o["status"] != "active" && o["status"] != "suspended" && !deleted || o["operation"] != nil {
			addProblem("organization %v is %v with operation %v", id.Hex(), o["status"], o["operation"])
			continue
		}
		if collection != "org_"+o["name_key"].(string) && !(deleted && strings.HasPrefix(collection, "org_-deleted-")) {
			addProblem("organization %v has key %v and collection %v", id.Hex(), o["name_key"], collection)
		}
		if uuid, exists := collections[collection]; !exists {
			addProblem("organization %v has no collection %v, or another one has it", id.Hex(), collection)
		} else if recorded, _ := o["collection_uuid"].(string); uuid != recorded {
			addProblem("organization %v has collection %v with UUID %v instead of %v", id.Hex(), collection, uuid, o["collection_uuid"])
		}
		delete(collections, collection)
		expected := map[string]bson.ObjectID{collection: id} // the owners of claims
		for _, m := range o["admins"].(bson.A) {
			member := map[string]any{}
			for _, field := range m.(bson.D) {
				member[field.Key] = field.Value
			}
			adminID := member["admin_id"].(bson.ObjectID)
			a := admins[adminID]
			if a == nil || !slices.Contains(a["organizations"].(bson.A), any(id)) {
				addProblem("organization %v lists admin %v, but the admin is %v", id.Hex(), member, a)
				continue
			}
			listed[adminID] = append(listed[adminID], id)
			if asleep := a["asleep"] == true; asleep != deleted { // in these tests nobody is in two organizations
				addProblem("organization %v is %v, and its admin %v is asleep: %v", id.Hex(), o["status"], adminID.Hex(), asleep)
			}
			if deleted {
				continue
			}
			expected["email:"+a["email"].(string)] = adminID
		}
		var recorded []string
		for _, c := range o["claims"].(bson.A) {
			recorded = append(recorded, c.(string))
		}
		if !slices.Equal(recorded, []string{collection}) {
			addProblem("organization %v records the claims %v instead of %v", id.Hex(), recorded, collection)
		}
		for claim, owner := range expected {
			if claims[claim] != owner {
				addProblem("organization %v or its admin does not have the claim %v", id.Hex(), claim)
			}
			found[claim] = true
		}
		if w.seeded[id.Hex()] {
			problems = append(problems, w.contentProblems(id.Hex(), collection)...)
		}
	}
	for name := range collections {
		addProblem("collection %v has no organization", name)
	}
	for id, a := range admins {
		if len(listed[id]) == 0 || len(listed[id]) != len(a["organizations"].(bson.A)) {
			addProblem("admin %v of %v is in %v", id.Hex(), a["organizations"], listed[id])
		}
	}
	for claim, id := range claims {
		if !found[claim] {
			addProblem("claim %v of %v is unused", claim, id.Hex())
		}
	}
	return problems
}

// contentProblems returns what is missing in a collection that seed has filled,
// and what does not belong there.
func (w *world) contentProblems(organizationID, name string) (problems []string) {
	collection := w.db.Client.Database(w.db.Name).Collection(name)
	docs := w.documents(name)
	if len(docs) != seedDocuments {
		problems = append(problems, fmt.Sprintf("collection %v has %d documents instead of %d", name, len(docs), seedDocuments))
	}
	for _, d := range docs {
		if d["tenant"] != organizationID {
			problems = append(problems, fmt.Sprintf("collection %v of %v has a document of %v", name, organizationID, d["tenant"]))
		}
	}
	specs, err := collection.Indexes().ListSpecifications(context.Background())
	if err != nil {
		w.t.Fatal(err)
	}
	if !slices.ContainsFunc(specs, func(s mongo.IndexSpecification) bool { return s.Name == "tenant_1" }) {
		problems = append(problems, fmt.Sprintf("collection %v has lost its index", name))
	}
	return problems
}

// documents returns all documents of a collection.
func (w *world) documents(collection string) []bson.M {
	w.t.Helper()
	cursor, err := w.db.Client.Database(w.db.Name).Collection(collection).Find(context.Background(), bson.D{})
	if err != nil {
		w.t.Fatal(err)
	}
	var docs []bson.M
	if err := cursor.All(context.Background(), &docs); err != nil {
		w.t.Fatal(err)
	}
	return docs
}

// clientState returns what clients see of an organization: its id, name and
// collection, and which of the logins succeed.
func (w *world) clientState(s *org.Service, name string, logins ...org.LoginRequest) string {
	w.t.Helper()
	succeed := ""
	for _, c := range logins { // first, because they finish what is stale, and get does not
		_, err := s.Login(context.Background(), c)
		if err != nil && !errors.Is(err, org.ErrUnauthenticated) {
			w.t.Fatalf("login %v: %v", c, err)
		}
		succeed += fmt.Sprint(" ", err == nil)
	}
	o, err := s.Get(context.Background(), name)
	if err != nil && !errors.Is(err, org.ErrNotFound) {
		w.t.Fatalf("get %q: %v", name, err)
	}
	return fmt.Sprintf("%s %s %s", o.ID, o.Name, o.Collection) + succeed
}

// withoutIDs replaces the ids in a state, because they differ in every world.
func withoutIDs(state string, o org.Organization) string {
	if o.ID != "" {
		state = strings.ReplaceAll(state, o.ID, "id")
	}
	return objectID.ReplaceAllString(state, "other")
}

var objectID = regexp.MustCompile(`\b[0-9a-f]{24}\b`)

// emailTaken reports whether an admin has the email.
func (w *world) emailTaken(email string) bool {
	return slices.ContainsFunc(w.documents("admins"), func(a bson.M) bool { return a["email"] == email })
}
