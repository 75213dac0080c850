package org_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"orgservice/shared/org"
)

// The answer to the write that commits an operation is lost: the operation
// finds out that it is done.
func TestCommitWithoutAnswer(t *testing.T) {
	for name, test := range map[string]struct {
		at int // of the updates of the record
		do func(w *world, s *org.Service, o org.Organization) error
	}{
		"rename":  {2, update(org.UpdateRequest{OrganizationName: ptr(renamed)})},
		"display": {1, update(org.UpdateRequest{OrganizationName: ptr("ACME")})},
		"create": {1, func(w *world, s *org.Service, _ org.Organization) error {
			_, err := s.Create(t.Context(), org.CreateRequest{OrganizationName: renamed, Email: newEmail, Password: newPassword})
			return err
		}},
		"delete": {1, func(w *world, s *org.Service, o org.Organization) error {
			_, err := s.Delete(t.Context(), w.callerOf(o), nil)
			return err
		}},
	} {
		t.Run(name, func(t *testing.T) {
			w, _, o := stage(t)
			c := &crash{at: test.at, only: "update", lost: true, glitch: true}
			if err := test.do(w, w.crashing(c), o); err != nil || !c.happened() {
				t.Errorf("%v, happened: %v; want success", err, c.happened())
			}
			w.check()
		})
	}
}

// An update that is refused after its journal was written leaves nothing: not
// its claims, and no way for its change of the admin, sent by a process that
// was overtaken, to arrive.
func TestRollBack(t *testing.T) {
	f := newFixtureWithUUIDs(t)
	o := f.mustCreate(t, "Acme", "a@example.com")
	caller := f.mustLogin(t, "a@example.com", adminPassword)
	f.insert(t, "org_stray", bson.D{{Key: "x", Value: 1}})
	_, err := f.Update(t.Context(), caller, org.UpdateRequest{
		OrganizationName: new("Stray"), Email: new("b@example.com"), Password: new("Better@123"), CurrentPassword: new(adminPassword)})
	if !errors.Is(err, org.ErrConflict) {
		t.Fatalf("Update: %v; want ErrConflict", err)
	}
	claims, err := f.Store.Claims(t.Context())
	if err != nil || len(claims) != 2 {
		t.Errorf("claims: %+v, %v; want the two of the organization", claims, err)
	}
	late := org.Admin{ID: o.Admins[0].AdminID, OrganizationID: o.ID, Email: "b@example.com",
		PasswordHash: mustHash(t, "Better@123"), TokenVersion: 2, Revision: o.Revision + 1}
	if err := f.Store.UpdateAdmin(t.Context(), late); err != nil {
		t.Fatal(err)
	}
	f.wantAlive(t, caller, "Acme")
	f.mustLogin(t, "a@example.com", adminPassword)
}

// A command that came late has put an organization's collection under a name
// that another organization takes then. Empty or not, it is not dropped.
func TestHostileForeignName(t *testing.T) {
	for name, take := range map[string]func(f *fixture) error{
		"create": func(f *fixture) error {
			_, err := f.Create(t.Context(), org.CreateRequest{OrganizationName: "Core", Email: "c@example.com", Password: adminPassword})
			return err
		},
		"rename": func(f *fixture) error {
			_, err := f.Update(t.Context(), f.mustLogin(t, "b@example.com", adminPassword), org.UpdateRequest{OrganizationName: new("Core")})
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixtureWithUUIDs(t)
			victim := f.mustCreate(t, "Acme", "a@example.com")
			f.mustCreate(t, "Bolt", "b@example.com")
			f.rename(t, victim.Collection, "org_core")
			if err := take(f); !errors.Is(err, org.ErrConflict) {
				t.Errorf("%v; want ErrConflict", err)
			}
			if report := f.mustReconcile(t); len(report.Repaired) != 1 || report.Repaired[0].Kind != org.MisnamedCollection {
				t.Errorf("%+v; want the collection to be put back", report)
			}
			if err := take(f); err != nil {
				t.Errorf("afterwards: %v", err)
			}
			if findings, err := f.Inspect(t.Context()); err != nil || len(findings) > 0 {
				t.Errorf("%+v, %v", findings, err)
			}
		})
	}
}

// A creation whose record came late, when its claims were somebody else's, is
// undone. What stands under the name is the other one's, although no record
// knows its UUID yet.
func TestHostileLateRecord(t *testing.T) {
	w, _, _ := stage(t)
	nap := &sleep{only: "renameCollection", at: 1, asleep: make(chan struct{}), wake: make(chan struct{})}
	sleeper := w.service(nap.client())
	finished := make(chan error, 1)
	go func() {
		_, err := sleeper.Create(t.Context(), org.CreateRequest{OrganizationName: renamed, Email: newEmail, Password: newPassword})
		finished <- err
	}()
	select {
	case err := <-finished:
		t.Fatalf("without a sleep: %v", err)
	case <-nap.asleep: // its collection has the name, its record does not know
	}
	s := w.service()
	long := w.clock().Add(-2 * org.StaleAfter)
	late := org.Organization{
		ID: s.Store.NewID(), Name: renamed, Collection: "org_bolt", Database: w.db.Name, Status: org.Provisioning, Revision: 1,
		Claims: []string{"org_bolt", "email:" + newEmail}, CreatedAt: long, UpdatedAt: long,
		Operation: &org.Operation{ID: s.Store.NewID(), Kind: org.Creating, StartedAt: long, TouchedAt: long},
	}
	if err := s.Store.InsertOrganization(t.Context(), late); err != nil {
		t.Fatal(err)
	}
	if report, err := s.Reconcile(t.Context(), false); err != nil || len(report.Undone) != 1 {
		t.Errorf("%+v, %v; want the late creation undone", report, err)
	}
	close(nap.wake)
	if err := <-finished; err != nil {
		t.Error(err)
	}
	w.check()
}

// A process that slept after its journal was written, until others have done
// what it says and more, moves nothing.
func TestHostileSleepingRename(t *testing.T) {
	w, s, o := stage(t)
	nap := &sleep{only: "update", at: 1, asleep: make(chan struct{}), wake: make(chan struct{})}
	sleeper := w.service(nap.client())
	finished := make(chan error, 1)
	go func() { finished <- rename(w, sleeper, o, renamed)() }()
	select {
	case err := <-finished:
		t.Fatalf("without a sleep: %v", err)
	case <-nap.asleep:
	}
	w.wait()
	reconcile(t, s)
	if err := rename(w, s, o, subject)(); err != nil {
		t.Fatal(err)
	}
	close(nap.wake)
	if err := <-finished; !errors.Is(err, org.ErrUnavailable) {
		t.Errorf("the sleeper: %v; want ErrUnavailable, since it was done", err)
	}
	w.check() // without anybody's repair
}

// An operation that has read an older record than another one of its
// organization does not take the claim that the other is about to need.
func TestHostileOlderClaim(t *testing.T) {
	w, s, o := stage(t)
	begin := func(nap *sleep) chan error { return nap.begin(t, rename(w, w.service(nap.client()), o, renamed)) }
	older := &sleep{only: "find", at: 2, asleep: make(chan struct{}), wake: make(chan struct{})}
	first := begin(older)
	if err := rename(w, s, o, "ACME")(); err != nil {
		t.Fatal(err)
	}
	newer := &sleep{only: "insert", at: 1, asleep: make(chan struct{}), wake: make(chan struct{})}
	second := begin(newer)
	close(older.wake)
	if err := <-first; !errors.Is(err, org.ErrConflict) {
		t.Errorf("the older: %v; want ErrConflict", err)
	}
	close(newer.wake)
	if err := <-second; err != nil {
		t.Errorf("the newer: %v", err)
	}
	w.check()
}

// A name that was taken long ago is taken, and not merely busy.
func TestTakenForLong(t *testing.T) {
	f := newFixture(t)
	f.mustCreate(t, "Acme", "a@example.com")
	f.later(2 * org.StaleAfter)
	for want, r := range map[string]org.CreateRequest{
		"name is taken":  {OrganizationName: "Acme", Email: "b@example.com", Password: adminPassword},
		"email is taken": {OrganizationName: "Bolt", Email: "a@example.com", Password: adminPassword},
	} {
		if _, err := f.Create(t.Context(), r); !errors.Is(err, org.ErrConflict) || !strings.Contains(err.Error(), want) {
			t.Errorf("%v; want %q", err, want)
		}
	}
}

// hooked is a store with which something happens at a moment that no test
// could catch otherwise.
type hooked struct {
	org.Store
	once         sync.Once
	beforeRename func()    // of a collection, the first time
	afterList    func()    // of all collections, the first time
	afterRecords func()    // were read, all of them, the second time
	records      int       // how often they were
	admin        org.Admin // if it has an id, what is read of it
}

func (h *hooked) RenameCollection(ctx context.Context, database string, c org.Collection, to string) error {
	if h.beforeRename != nil {
		h.once.Do(h.beforeRename)
	}
	return h.Store.RenameCollection(ctx, database, c, to)
}

func (h *hooked) Collections(ctx context.Context, database string, names ...string) ([]org.Collection, error) {
	found, err := h.Store.Collections(ctx, database, names...)
	if h.afterList != nil && len(names) == 0 {
		h.once.Do(h.afterList)
	}
	return found, err
}

func (h *hooked) Organizations(ctx context.Context) ([]org.Organization, error) {
	all, err := h.Store.Organizations(ctx)
	if h.records++; h.records == 2 && h.afterRecords != nil {
		h.afterRecords()
	}
	return all, err
}

func (h *hooked) Admin(ctx context.Context, organizationID, id string) (org.Admin, error) {
	if h.admin.ID != "" {
		return h.admin, nil
	}
	return h.Store.Admin(ctx, organizationID, id)
}

// The admin was read before a change, and the record after it.
func TestHostileOlderAdmin(t *testing.T) {
	f := newFixture(t)
	o := f.mustCreate(t, "Acme", "a@example.com")
	older, err := f.Store.Admin(t.Context(), o.ID, o.Admins[0].AdminID)
	if err != nil {
		t.Fatal(err)
	}
	caller := f.mustLogin(t, "a@example.com", adminPassword)
	if _, err := f.Update(t.Context(), caller, org.UpdateRequest{Email: new("b@example.com"), CurrentPassword: new(adminPassword)}); err != nil {
		t.Fatal(err)
	}
	caller = f.mustLogin(t, "b@example.com", adminPassword)
	f.Store = &hooked{Store: f.Store, admin: older}
	got, err := f.Update(t.Context(), caller, org.UpdateRequest{Email: new("a@example.com"), CurrentPassword: new(adminPassword)})
	if !errors.Is(err, org.ErrConflict) {
		t.Errorf("Update = %+v, %v; want ErrConflict, or the email would stay what it is", got, err)
	}
}

// Somebody else moves the collection between two looks.
func TestHostileMovedMeanwhile(t *testing.T) {
	w, _, o := stage(t)
	s := w.service()
	if err := s.Store.CreateCollection(t.Context(), o.Database, "org_bolt"); err != nil {
		t.Fatal(err)
	}
	real := s.Store
	s.Store = &hooked{Store: real, afterList: func() {
		if err := real.DropCollection(t.Context(), o.Database, org.Collection{Name: "org_bolt"}); err != nil {
			t.Error(err)
		}
		if err := real.RenameCollection(t.Context(), o.Database, org.Collection{Name: o.Collection, UUID: o.CollectionUUID}, "org_bolt"); err != nil {
			t.Error(err)
		}
	}}
	if err := rename(w, s, o, renamed)(); err != nil {
		t.Error(err)
	}
	w.check()
}

// Others, whose clocks are ahead, finish the operation and rename the
// organization again. It leaves the collection where it is then.
func TestHostileOvertakenRename(t *testing.T) {
	w, others, o := stage(t)
	s := w.service()
	start := w.clock()
	s.Now = func() time.Time { return start }
	s.Store = &hooked{Store: s.Store, beforeRename: func() {
		w.wait()
		reconcile(t, others)
		if err := rename(w, others, o, "Core")(); err != nil {
			t.Error(err)
		}
	}}
	if err := rename(w, s, o, renamed)(); !errors.Is(err, org.ErrUnavailable) {
		t.Errorf("%v; want ErrUnavailable, since it was done", err)
	}
	w.check()
}

// The operation was finished by others, who have done more since, when it
// comes to its commit: that is no refusal.
func TestHostileOvertakenCommit(t *testing.T) {
	w, others, o := stage(t)
	nap := &sleep{only: "renameCollection", at: 1, asleep: make(chan struct{}), wake: make(chan struct{})}
	finished := nap.begin(t, rename(w, w.service(nap.client()), o, renamed))
	w.wait()
	reconcile(t, others)
	if err := rename(w, others, o, "Core")(); err != nil {
		t.Fatal(err)
	}
	close(nap.wake)
	if err := <-finished; !errors.Is(err, org.ErrUnavailable) {
		t.Errorf("%v; want ErrUnavailable, since it was done", err)
	}
	w.check()
}

// An operation that fails leaves it to those who have taken it over: two who
// finish it would be in each other's way.
func TestHostileTwoFinishers(t *testing.T) {
	w, _, o := stage(t)
	nap := func() *sleep {
		return &sleep{only: "update", at: 1, asleep: make(chan struct{}), wake: make(chan struct{})}
	}
	owner, other := nap(), nap()
	first := owner.begin(t, rename(w, w.service(owner.client()), o, renamed))
	w.wait()
	repairer := w.service(other.client())
	second := other.begin(t, func() error { _, err := repairer.Reconcile(t.Context(), false); return err })
	close(owner.wake)
	if err := <-first; !errors.Is(err, org.ErrUnavailable) {
		t.Errorf("the owner: %v; want ErrUnavailable as long as the other is at work", err)
	}
	close(other.wake)
	if err := <-second; err != nil {
		t.Error(err)
	}
	w.check()
}

// What is merely under way while Reconcile reads the database is left alone.
func TestReconcileLooksTwice(t *testing.T) {
	w, others, o := stage(t)
	s := w.service()
	strays := w.db.Client.Database(o.Database).Collection("org_stray")
	if _, err := strays.InsertOne(t.Context(), bson.D{{Key: "x", Value: 1}}); err != nil { // so that there is a second look
		t.Fatal(err)
	}
	s.Store = &hooked{Store: s.Store, afterRecords: func() {
		if _, err := others.Create(t.Context(), org.CreateRequest{OrganizationName: renamed, Email: newEmail, Password: newPassword}); err != nil {
			t.Error(err)
		}
	}}
	if report, err := s.Reconcile(t.Context(), true); err != nil || len(report.Removed) > 0 || len(report.NeedsAttention) != 1 {
		t.Errorf("%+v, %v; want the stray alone", report, err)
	}
	if err := strays.Drop(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.check()
}

// So are claims whose operation has not come to its journal.
func TestReconcileLeavesClaims(t *testing.T) {
	w, others, o := stage(t)
	nap := &sleep{only: "insert", at: 1, asleep: make(chan struct{}), wake: make(chan struct{})}
	finished := nap.begin(t, rename(w, w.service(nap.client()), o, renamed))
	reconcile(t, others)
	close(nap.wake)
	if err := <-finished; err != nil {
		t.Error(err)
	}
	w.check()
}

// A server that does not compare UUIDs could drop what has the name by the
// time that the command arrives, so a stray is left to a person there; but not
// a collection that has waited for its name, which nobody else can have.
func TestStrays(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		for _, name := range []string{"org_stray", "org_-new-1000000000-abc"} {
			if err := f.Store.CreateCollection(t.Context(), f.db.Name, name); err != nil {
				t.Fatal(err)
			}
		}
		young := fmt.Sprintf("org_-new-%d-def", time.Now().Unix())
		if err := f.Store.CreateCollection(t.Context(), f.db.Name, young); err != nil {
			t.Fatal(err)
		}
		report := f.mustReconcile(t)
		removed, odd := 2, 0
		if !f.Store.ChecksCollections() {
			removed, odd = 1, 1
		}
		if len(report.Removed) != removed || len(report.NeedsAttention) != odd {
			t.Errorf("%+v; want %d removed and %d odd", report, removed, odd)
		}
		if found, err := f.Store.Collections(t.Context(), f.db.Name, young); err != nil || len(found) != 1 {
			t.Errorf("%v, %v; want the young one left", found, err)
		}
	})
}

// begin runs do and returns when it sleeps, and where its error will be.
func (s *sleep) begin(t *testing.T, do func() error) (finished chan error) {
	t.Helper()
	finished = make(chan error, 1)
	go func() { finished <- do() }()
	select {
	case err := <-finished:
		t.Fatalf("without a sleep: %v", err)
	case <-s.asleep:
	}
	return finished
}

// A crash has left an admin of no organization with the email of another one.
func TestLoginBesideOrphan(t *testing.T) {
	f := newFixture(t)
	for _, id := range []string{"000000000000000000000001", "ffffffffffffffffffffffff"} {
		orphan := org.Admin{ID: id, OrganizationID: f.Store.NewID(), Email: "a@example.com", PasswordHash: mustHash(t, "Orphan@123"), TokenVersion: 1}
		if err := f.Store.InsertAdmin(t.Context(), orphan); err != nil {
			t.Fatal(err)
		}
		if id[0] == '0' {
			f.mustCreate(t, "Acme", "a@example.com")
		}
	}
	f.mustLogin(t, "a@example.com", adminPassword)
	if _, err := f.Login(t.Context(), org.LoginRequest{Email: "a@example.com", Password: "Orphan@123"}); !errors.Is(err, org.ErrUnauthenticated) {
		t.Errorf("with the orphan's password: %v", err)
	}
}

// In a restored database a stray stands under the new name: which collection
// is the organization's is known as long as there is no journal.
func TestRestoredBesideStray(t *testing.T) {
	f := newFixtureWithUUIDs(t)
	o := f.mustCreate(t, "Acme", "a@example.com")
	f.fillTenant(t, o.Collection)
	f.set(t, "organizations", o.ID, bson.D{{Key: "collection_uuid", Value: "00112233445566778899aabbccddeeff"}})
	f.fillTenant(t, "org_stray")
	caller := f.mustLogin(t, "a@example.com", adminPassword)
	if _, err := f.Update(t.Context(), caller, org.UpdateRequest{OrganizationName: new("Stray")}); !errors.Is(err, org.ErrConflict) {
		t.Errorf("%v; want ErrConflict", err)
	}
	f.wantAlive(t, caller, "Acme")
}
