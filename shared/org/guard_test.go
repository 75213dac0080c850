package org_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"orgservice/shared/org"
)

// TestCommitAnswerLost loses the answer to the write that commits an operation.
// The operation must find out that it is committed.
func TestCommitAnswerLost(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		at int // the number of the update command that commits
		do func(w *world, s *org.Service, o org.Organization) error
	}{
		"rename":  {2, update(org.UpdateRequest{OrganizationName: new(renamed)})},
		"display": {1, update(org.UpdateRequest{OrganizationName: new("ACME")})},
		"create": {1, func(w *world, s *org.Service, _ org.Organization) error {
			_, err := s.Create(t.Context(), org.CreateRequest{OrganizationName: renamed, Email: newEmail, Password: newPassword})
			return err
		}},
		"delete": {1, func(w *world, s *org.Service, o org.Organization) error {
			_, err := s.Delete(t.Context(), w.callerOf(o), org.DeleteRequest{})
			return err
		}},
	} {
		t.Run(name, func(t *testing.T) {
			w, _, o := setUp(t)
			c := &crash{at: test.at, only: "update", lost: true, glitch: true}
			if err := test.do(w, w.crashing(c), o); err != nil || !c.happened() {
				t.Errorf("%v, crashed: %v; want success", err, c.happened())
			}
			w.check()
		})
	}
}

// TestRollBack undoes an update after its journal was written. Its claims must
// be released, and its change of the admin must have no effect when another
// process sends it late.
func TestRollBack(t *testing.T) {
	t.Parallel()
	f := newFixtureWithUUIDs(t)
	o := f.mustCreate(t, "Acme", "a@example.com")
	caller := f.mustLogin(t, "a@example.com", adminPassword)
	f.insert(t, "org_stray", bson.D{{Key: "x", Value: 1}})
	before, err := f.Store.Admin(t.Context(), o.Admins[0].AdminID)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.Update(t.Context(), caller, org.UpdateRequest{
		OrganizationName: new("Stray"), Email: new("b@example.com"), Password: new("Better@123"), CurrentPassword: new(adminPassword)})
	if !errors.Is(err, org.ErrConflict) {
		t.Fatalf("Update: %v; want ErrConflict", err)
	}
	claims, err := f.Store.Claims(t.Context())
	if err != nil || len(claims) != 2 {
		t.Errorf("claims: %+v, %v; want the two of the organization", claims, err)
	}
	late := before
	late.Email, late.PasswordHash, late.TokenVersion = "b@example.com", mustHash(t, "Better@123"), 2
	if changed, err := f.Store.ReplaceAdmin(t.Context(), before, late); err != nil || changed {
		t.Fatalf("the late change of the admin: %v, %v", changed, err)
	}
	f.wantTokenValid(t, caller, "Acme")
	f.mustLogin(t, "a@example.com", adminPassword)
}

// TestHostileForeignName takes a name that a late command has given to another
// organization's collection. That collection must not be dropped, even if it is
// empty.
func TestHostileForeignName(t *testing.T) {
	t.Parallel()
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
				t.Errorf("%+v; want the collection renamed back", report)
			}
			if err := take(f); err != nil {
				t.Errorf("after the repair: %v", err)
			}
			if findings, err := f.Inspect(t.Context()); err != nil || len(findings) > 0 {
				t.Errorf("Inspect = %+v, %v; want nothing", findings, err)
			}
		})
	}
}

// TestHostileLateRecord undoes a creation whose record arrived late, when
// another creation had its claims. The collection of that name is the other
// one's, and must not be dropped, although no record has its UUID yet.
func TestHostileLateRecord(t *testing.T) {
	t.Parallel()
	w, _, _ := setUp(t)
	point := &sleepPoint{only: "renameCollection", at: 1, asleep: make(chan struct{}), wake: make(chan struct{})}
	sleeper := w.service(point.client())
	finished := make(chan error, 1)
	go func() {
		_, err := sleeper.Create(t.Context(), org.CreateRequest{OrganizationName: renamed, Email: newEmail, Password: newPassword})
		finished <- err
	}()
	select {
	case err := <-finished:
		t.Fatalf("without a sleep: %v", err)
	case <-point.asleep: // its collection has the name; its record has no UUID
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
	close(point.wake)
	if err := <-finished; err != nil {
		t.Error(err)
	}
	w.check()
}

// TestHostileSleepingRename lets a process sleep after it has written its
// journal. Others finish the rename and rename the organization back. The
// process must not rename the collection when it wakes.
func TestHostileSleepingRename(t *testing.T) {
	t.Parallel()
	w, s, o := setUp(t)
	point := &sleepPoint{only: "update", at: 1, asleep: make(chan struct{}), wake: make(chan struct{})}
	sleeper := w.service(point.client())
	finished := make(chan error, 1)
	go func() { finished <- rename(w, sleeper, o, renamed)() }()
	select {
	case err := <-finished:
		t.Fatalf("without a sleep: %v", err)
	case <-point.asleep:
	}
	w.makeStale()
	reconcile(t, s)
	if err := rename(w, s, o, subject)(); err != nil {
		t.Fatal(err)
	}
	close(point.wake)
	if err := <-finished; !errors.Is(err, org.ErrUnavailable) {
		t.Errorf("the sleeper: %v; want ErrUnavailable, because others have finished it", err)
	}
	w.check() // without a repair
}

// TestHostileOlderClaim lets two operations of an organization claim one name.
// The first has read an older record, so it must not take the claim from the
// second.
func TestHostileOlderClaim(t *testing.T) {
	t.Parallel()
	w, s, o := setUp(t)
	begin := func(point *sleepPoint) chan error {
		return point.begin(t, rename(w, w.service(point.client()), o, renamed))
	}
	older := &sleepPoint{only: "find", at: 2, asleep: make(chan struct{}), wake: make(chan struct{})}
	first := begin(older)
	if err := rename(w, s, o, "ACME")(); err != nil {
		t.Fatal(err)
	}
	newer := &sleepPoint{only: "insert", at: 1, asleep: make(chan struct{}), wake: make(chan struct{})}
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

// TestCreateErrTakenLongAgo creates organizations with a name and an email that
// have been in use for longer than StaleAfter. The error must say so.
func TestCreateErrTakenLongAgo(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.mustCreate(t, "Acme", "a@example.com")
	f.advance(2 * org.StaleAfter)
	for want, r := range map[string]org.CreateRequest{
		"the organization name is taken": {
			OrganizationName: "ACME++", Email: "b@example.com", Password: adminPassword,
		},
		"the email is taken: emails are compared without case": {
			OrganizationName: "Bolt", Email: "A@example.com", Password: adminPassword,
		},
	} {
		if _, err := f.Create(t.Context(), r); !errors.Is(err, org.ErrConflict) || err.Error() != want {
			t.Errorf("%v; want %q", err, want)
		}
	}
}

// hookedStore is a store that calls functions between its commands. A function
// that is nil is not called.
type hookedStore struct {
	org.Store
	once         sync.Once
	beforeRename func()    // called before the first rename of a collection
	afterList    func()    // called after the first list of all collections
	afterRecords func()    // called after the second read of all records
	records      int       // how many times all records were read
	admin        org.Admin // if it has an id, Admin returns it
}

func (h *hookedStore) RenameCollection(ctx context.Context, database string, c org.Collection, to string) error {
	if h.beforeRename != nil {
		h.once.Do(h.beforeRename)
	}
	return h.Store.RenameCollection(ctx, database, c, to)
}

func (h *hookedStore) Collections(ctx context.Context, database string, names ...string) ([]org.Collection, error) {
	found, err := h.Store.Collections(ctx, database, names...)
	if h.afterList != nil && len(names) == 0 {
		h.once.Do(h.afterList)
	}
	return found, err
}

func (h *hookedStore) Organizations(ctx context.Context) ([]org.Organization, error) {
	all, err := h.Store.Organizations(ctx)
	if h.records++; h.records == 2 && h.afterRecords != nil {
		h.afterRecords()
	}
	return all, err
}

func (h *hookedStore) Admin(ctx context.Context, id string) (org.Admin, error) {
	if h.admin.ID != "" {
		return h.admin, nil
	}
	return h.Store.Admin(ctx, id)
}

// TestHostileOlderAdmin lets an update read the admin as it was before a change.
func TestHostileOlderAdmin(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	o := f.mustCreate(t, "Acme", "a@example.com")
	older, err := f.Store.Admin(t.Context(), o.Admins[0].AdminID)
	if err != nil {
		t.Fatal(err)
	}
	caller := f.mustLogin(t, "a@example.com", adminPassword)
	if _, err := f.Update(t.Context(), caller, org.UpdateRequest{Email: new("b@example.com"), CurrentPassword: new(adminPassword)}); err != nil {
		t.Fatal(err)
	}
	caller = f.mustLogin(t, "b@example.com", adminPassword)
	f.Store = &hookedStore{Store: f.Store, admin: older}
	got, err := f.Update(t.Context(), caller, org.UpdateRequest{Email: new("a@example.com"), CurrentPassword: new(adminPassword)})
	if !errors.Is(err, org.ErrUnauthenticated) {
		t.Errorf("Update = %+v, %v; want ErrUnauthenticated, because otherwise the email does not change", got, err)
	}
}

// TestHostileMovedMeanwhile lets another process rename the collection after
// the update has listed all collections.
func TestHostileMovedMeanwhile(t *testing.T) {
	t.Parallel()
	w, _, o := setUp(t)
	s := w.service()
	if err := s.Store.CreateCollection(t.Context(), o.Database, "org_bolt"); err != nil {
		t.Fatal(err)
	}
	store := s.Store
	s.Store = &hookedStore{Store: store, afterList: func() {
		if err := store.DropCollection(t.Context(), o.Database, org.Collection{Name: "org_bolt"}); err != nil {
			t.Error(err)
		}
		if err := store.RenameCollection(t.Context(), o.Database, org.Collection{Name: o.Collection, UUID: o.CollectionUUID}, "org_bolt"); err != nil {
			t.Error(err)
		}
	}}
	if err := rename(w, s, o, renamed)(); err != nil {
		t.Error(err)
	}
	w.check()
}

// TestHostileOvertakenRename lets processes whose clocks are ahead finish a
// rename and rename the organization again. The first process must not rename
// the collection after that.
func TestHostileOvertakenRename(t *testing.T) {
	t.Parallel()
	w, others, o := setUp(t)
	s := w.service()
	start := w.clock()
	s.Now = func() time.Time { return start }
	s.Store = &hookedStore{Store: s.Store, beforeRename: func() {
		w.makeStale()
		reconcile(t, others)
		if err := rename(w, others, o, "Core")(); err != nil {
			t.Error(err)
		}
	}}
	if err := rename(w, s, o, renamed)(); !errors.Is(err, org.ErrUnavailable) {
		t.Errorf("%v; want ErrUnavailable, because others have finished it", err)
	}
	w.check()
}

// TestHostileOvertakenCommit lets others finish a rename, and rename the
// organization again, before the first process commits. Its error must not say
// that nothing was changed.
func TestHostileOvertakenCommit(t *testing.T) {
	t.Parallel()
	w, others, o := setUp(t)
	point := &sleepPoint{only: "renameCollection", at: 1, asleep: make(chan struct{}), wake: make(chan struct{})}
	finished := point.begin(t, rename(w, w.service(point.client()), o, renamed))
	w.makeStale()
	reconcile(t, others)
	if err := rename(w, others, o, "Core")(); err != nil {
		t.Fatal(err)
	}
	close(point.wake)
	if err := <-finished; !errors.Is(err, org.ErrUnavailable) {
		t.Errorf("%v; want ErrUnavailable, because others have finished it", err)
	}
	w.check()
}

// TestHostileTwoFinishers lets an operation fail after another process has
// taken it over. The first process must leave it to the other one.
func TestHostileTwoFinishers(t *testing.T) {
	t.Parallel()
	w, _, o := setUp(t)
	point := func() *sleepPoint {
		return &sleepPoint{only: "update", at: 1, asleep: make(chan struct{}), wake: make(chan struct{})}
	}
	owner, other := point(), point()
	first := owner.begin(t, rename(w, w.service(owner.client()), o, renamed))
	w.makeStale()
	repairer := w.service(other.client())
	second := other.begin(t, func() error { _, err := repairer.Reconcile(t.Context(), false); return err })
	close(owner.wake)
	if err := <-first; !errors.Is(err, org.ErrUnavailable) {
		t.Errorf("the owner: %v; want ErrUnavailable, because the other has not finished it", err)
	}
	close(other.wake)
	if err := <-second; err != nil {
		t.Error(err)
	}
	w.check()
}

// TestReconcileInspectsTwice creates an organization while Reconcile reads the
// database. Reconcile must not change it.
func TestReconcileInspectsTwice(t *testing.T) {
	t.Parallel()
	w, others, o := setUp(t)
	s := w.service()
	strays := w.db.Client.Database(o.Database).Collection("org_stray")
	if _, err := strays.InsertOne(t.Context(), bson.D{{Key: "x", Value: 1}}); err != nil { // so that there is a second inspection
		t.Fatal(err)
	}
	s.Store = &hookedStore{Store: s.Store, afterRecords: func() {
		if _, err := others.Create(t.Context(), org.CreateRequest{OrganizationName: renamed, Email: newEmail, Password: newPassword}); err != nil {
			t.Error(err)
		}
	}}
	if report, err := s.Reconcile(t.Context(), true); err != nil || len(report.Removed) > 0 || len(report.NeedsAttention) != 1 {
		t.Errorf("%+v, %v; want only the stray", report, err)
	}
	if err := strays.Drop(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.check()
}

// TestReconcileKeepsClaims reconciles while an operation has made claims and
// not yet written its journal. The claims must stay.
func TestReconcileKeepsClaims(t *testing.T) {
	t.Parallel()
	w, others, o := setUp(t)
	point := &sleepPoint{only: "insert", at: 1, asleep: make(chan struct{}), wake: make(chan struct{})}
	finished := point.begin(t, rename(w, w.service(point.client()), o, renamed))
	reconcile(t, others)
	close(point.wake)
	if err := <-finished; err != nil {
		t.Error(err)
	}
	w.check()
}

// TestReconcileStrays reconciles collections without an organization. On a
// server that does not compare UUIDs, a late command could drop an
// organization's collection, so Reconcile only reports them. On any server it
// drops those whose temporary name is stale, because no other collection can
// get that name.
func TestReconcileStrays(t *testing.T) {
	t.Parallel()
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
		removed, reported := 2, 0
		if !f.Store.ChecksCollections() {
			removed, reported = 1, 1
		}
		if len(report.Removed) != removed || len(report.NeedsAttention) != reported {
			t.Errorf("%+v; want %d removed and %d reported", report, removed, reported)
		}
		if found, err := f.Store.Collections(t.Context(), f.db.Name, young); err != nil || len(found) != 1 {
			t.Errorf("%v, %v; want the young one to stay", found, err)
		}
	})
}

// begin runs do and returns when it sleeps. The channel gets the error of do.
func (s *sleepPoint) begin(t *testing.T, do func() error) (finished chan error) {
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

// TestLoginOrphanOfSameEmail logs in an admin while admins without an
// organization have the same email, as after a crash.
func TestLoginOrphanOfSameEmail(t *testing.T) {
	t.Parallel()
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
		t.Errorf("login with the orphan's password: %v; want ErrUnauthenticated", err)
	}
}

// TestRestoredWithStray renames an organization in a restored database to the
// name of a stray collection. Before there is a journal, only the collection of
// the old name can be the organization's.
func TestRestoredWithStray(t *testing.T) {
	t.Parallel()
	f := newFixtureWithUUIDs(t)
	o := f.mustCreate(t, "Acme", "a@example.com")
	f.fillTenant(t, o.Collection)
	f.set(t, "organizations", o.ID, bson.D{{Key: "collection_uuid", Value: "00112233445566778899aabbccddeeff"}})
	f.fillTenant(t, "org_stray")
	caller := f.mustLogin(t, "a@example.com", adminPassword)
	if _, err := f.Update(t.Context(), caller, org.UpdateRequest{OrganizationName: new("Stray")}); !errors.Is(err, org.ErrConflict) {
		t.Errorf("%v; want ErrConflict", err)
	}
	f.wantTokenValid(t, caller, "Acme")
}
