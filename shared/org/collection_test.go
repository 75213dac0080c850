package org_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.mongodb.org/mongo-driver/v2/bson"

	"orgservice/local/mongodbtest"
	"orgservice/shared/org"
)

// onBoth runs the test on two servers: a modern one, which compares UUIDs and
// returns no error for the creation of a collection that exists, and one like
// MongoDB 4.4.
func onBoth(t *testing.T, test func(t *testing.T, f *fixture)) {
	t.Run("modern", func(t *testing.T) { test(t, newFixtureWithUUIDs(t)) })
	t.Run("legacy", func(t *testing.T) { test(t, newFixtureIn(t, mongodbtest.NewLegacy(t))) })
}

// newFixtureWithUUIDs is newFixture, but on an embedded database if the server
// of MONGO_URL does not report UUIDs. Every MongoDB server does.
func newFixtureWithUUIDs(t *testing.T) *fixture {
	t.Helper()
	f := newFixture(t)
	if err := f.Store.CreateCollection(t.Context(), f.db.Name, "org_probe"); err != nil {
		t.Fatal(err)
	}
	found, err := f.Store.Collections(t.Context(), f.db.Name, "org_probe")
	if err != nil || len(found) != 1 {
		t.Fatal(found, err)
	}
	if err := f.Store.DropCollection(t.Context(), f.db.Name, found[0]); err != nil {
		t.Fatal(err)
	}
	if found[0].UUID == "" {
		return newFixtureIn(t, mongodbtest.NewEmbedded(t))
	}
	return f
}

// advance sets the service's clock forward by d.
func (f *fixture) advance(d time.Duration) {
	now := f.Now
	if now == nil {
		now = time.Now
	}
	f.Now = func() time.Time { return now().Add(d) }
}

// mustReconcile does one full run of Reconcile and returns its report.
func (f *fixture) mustReconcile(t *testing.T) org.Report {
	t.Helper()
	report, err := f.Reconcile(t.Context(), true)
	if err != nil {
		t.Fatal(err)
	}
	return report
}

// rename renames a collection without the service.
func (f *fixture) rename(t *testing.T, from, to string) {
	t.Helper()
	ctx, admin := t.Context(), f.db.Client.Database("admin")
	err := admin.RunCommand(ctx, bson.D{{Key: "renameCollection", Value: f.db.Name + "." + from}, {Key: "to", Value: f.db.Name + "." + to}}).Err()
	if err != nil {
		t.Fatal(err)
	}
}

// TestHostileStrayCollection gives an organization a name for which a
// collection exists already, which may hold documents of others.
func TestHostileStrayCollection(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, f *fixture) {
		o := f.mustCreate(t, "Acme Inc", "admin@example.com")
		f.fillTenant(t, o.Collection)
		caller := f.mustLogin(t, "admin@example.com", adminPassword)
		f.fillTenant(t, "org_stray")
		if err := f.Store.CreateCollection(t.Context(), f.db.Name, "org_empty"); err != nil {
			t.Fatal(err)
		}
		before := f.snapshot(t)

		t.Run("ErrConflict on create", func(t *testing.T) {
			_, err := f.Create(t.Context(), org.CreateRequest{OrganizationName: "Stray", Email: "s@example.com", Password: adminPassword})
			if !errors.Is(err, org.ErrConflict) {
				t.Errorf("Create: %v, want ErrConflict", err)
			}
			if !f.Store.ChecksCollections() { // the names rest
				f.advance(2 * org.StaleAfter)
				f.mustReconcile(t)
				return
			}
			f.wantSame(t, before)
		})
		t.Run("ErrConflict on rename", func(t *testing.T) {
			if _, err := f.Update(t.Context(), caller, org.UpdateRequest{OrganizationName: new("Stray")}); !errors.Is(err, org.ErrConflict) {
				t.Errorf("Update: %v, want ErrConflict", err)
			}
			if f.Store.ChecksCollections() {
				f.wantSameButRevisions(t, before)
			}
			f.wantTokenValid(t, caller, "Acme Inc")
		})
		t.Run("OK when it is empty", func(t *testing.T) {
			_, err := f.Update(t.Context(), caller, org.UpdateRequest{OrganizationName: new("Empty")})
			if !f.Store.ChecksCollections() {
				if !errors.Is(err, org.ErrConflict) {
					t.Errorf("%v; want ErrConflict, because it is not safe to drop the collection", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(before[o.Collection], f.snapshot(t)["org_empty"]); diff != "" {
				t.Errorf("the tenant's collection (-before +after):\n%s", diff)
			}
		})
	})
}

// TestHostileLateDocuments renames an organization whose application still
// writes to the collection of the old name, which creates that collection. The
// next organization of the name must not get it.
func TestHostileLateDocuments(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, f *fixture) {
		o := f.mustCreate(t, "Acme", "a@example.com")
		caller := f.mustLogin(t, "a@example.com", adminPassword)
		if _, err := f.Update(t.Context(), caller, org.UpdateRequest{OrganizationName: new("Bolt")}); err != nil {
			t.Fatal(err)
		}
		f.insert(t, o.Collection, bson.D{{Key: "tenant", Value: "a"}})
		f.advance(2 * org.StaleAfter)
		b := org.CreateRequest{OrganizationName: "Acme", Email: "b@example.com", Password: adminPassword}
		if got, err := f.Create(t.Context(), b); !errors.Is(err, org.ErrConflict) {
			t.Errorf("Create = %+v, %v; want ErrConflict", got, err)
		}
		if documents := f.snapshot(t)[o.Collection].Documents; len(documents) != 1 {
			t.Errorf("%s has %v; want the late document", o.Collection, documents)
		}
	})
}

// TestFreedName uses the name of a deleted organization for another one. That
// is possible at once if the server compares UUIDs, because then no late
// command can change the new collection. Otherwise the name must rest first.
func TestFreedName(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, f *fixture) {
		f.mustCreate(t, "Acme", "a@example.com")
		if _, err := f.Delete(t.Context(), f.mustLogin(t, "a@example.com", adminPassword), org.DeleteRequest{}); err != nil {
			t.Fatal(err)
		}
		_, err := f.Create(t.Context(), org.CreateRequest{OrganizationName: "Acme", Email: "b@example.com", Password: adminPassword})
		if f.Store.ChecksCollections() {
			if err != nil {
				t.Error(err)
			}
			return
		}
		if !errors.Is(err, org.ErrConflict) {
			t.Errorf("%v; want ErrConflict as long as the name rests", err)
		}
		f.advance(org.StaleAfter + time.Second)
		f.mustCreate(t, "Acme", "b@example.com")
	})
}

// TestFreedNameTakenBack renames an organization to a name that it had before.
// If the server does not compare UUIDs the name must rest first, because a late
// rename could move the organization's own collection away from it.
func TestFreedNameTakenBack(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, f *fixture) {
		f.mustCreate(t, "Acme", "a@example.com")
		caller := f.mustLogin(t, "a@example.com", adminPassword)
		for i, name := range []string{"Bolt", "Acme", "Bolt"} {
			_, err := f.Update(t.Context(), caller, org.UpdateRequest{OrganizationName: &name})
			if !f.Store.ChecksCollections() && i > 0 {
				if !errors.Is(err, org.ErrConflict) {
					t.Errorf("%v; want ErrConflict as long as the name rests", err)
				}
				f.advance(org.StaleAfter + time.Second)
				_, err = f.Update(t.Context(), caller, org.UpdateRequest{OrganizationName: &name})
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	})
}

// TestReconcileSetsAside makes a collection under the name of an organization
// whose own collection a late command has renamed. If the server compares UUIDs,
// Reconcile gives the organization's collection its name back, and the other one
// a name for a person to find.
func TestReconcileSetsAside(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, f *fixture) {
		o := f.mustCreate(t, "Acme", "a@example.com")
		f.fillTenant(t, o.Collection)
		f.rename(t, o.Collection, "org_bolt")
		f.insert(t, o.Collection, bson.D{{Key: "_id", Value: "late"}})
		stray, err := f.Store.Collections(t.Context(), f.db.Name, o.Collection)
		if err != nil || len(stray) != 1 {
			t.Fatalf("%v, %v", stray, err)
		}
		before := f.snapshot(t)
		report := f.mustReconcile(t)
		after := f.snapshot(t)
		if !f.Store.ChecksCollections() {
			if !slices.ContainsFunc(report.NeedsAttention, func(f org.Finding) bool { return f.Kind == org.MisnamedCollection }) {
				t.Errorf("%+v; want the collection reported", report)
			}
			for _, name := range []string{"org_bolt", o.Collection} {
				if diff := cmp.Diff(before[name], after[name]); diff != "" {
					t.Errorf("reconcile changed %s (-before +after):\n%s", name, diff)
				}
			}
			return
		}
		if len(report.Repaired) != 1 || report.Repaired[0].Kind != org.MisnamedCollection {
			t.Errorf("%+v; want the collection renamed back", report)
		}
		aside := "org_-stray-" + stray[0].UUID
		if diff := cmp.Diff(before["org_bolt"], after[o.Collection]); diff != "" {
			t.Errorf("the organization's collection (-before +after):\n%s", diff)
		}
		if diff := cmp.Diff(before[o.Collection], after[aside]); diff != "" {
			t.Errorf("the stray (-before +after):\n%s", diff)
		}
		report = f.mustReconcile(t)
		if len(report.NeedsAttention) != 1 || report.NeedsAttention[0].Kind != org.OrphanCollection || report.NeedsAttention[0].Subject != f.db.Name+"."+aside {
			t.Errorf("%+v; want the stray reported", report)
		}
	})
}

// TestReconcileMisnamedBoth reconciles two organizations after late commands, of
// which one has moved the collection of one to the name of the other. No
// collection of an organization may be set aside.
func TestReconcileMisnamedBoth(t *testing.T) {
	t.Parallel()
	f := newFixtureWithUUIDs(t)
	a, b := f.mustCreate(t, "Acme", "a@example.com"), f.mustCreate(t, "Bolt", "b@example.com")
	f.fillTenant(t, b.Collection)
	f.rename(t, a.Collection, "org_core")
	f.rename(t, b.Collection, a.Collection)
	before := f.snapshot(t)[a.Collection]
	f.mustReconcile(t)
	if diff := cmp.Diff(before, f.snapshot(t)[b.Collection]); diff != "" {
		t.Errorf("%s (-before +after):\n%s", b.Collection, diff)
	}
	f.mustReconcile(t)
	if findings, err := f.Inspect(t.Context()); err != nil || len(findings) > 0 {
		t.Errorf("Inspect = %+v, %v; want nothing", findings, err)
	}
}

// collectionChanges change an organization's collection or its record without
// the service.
var collectionChanges = map[string]func(t *testing.T, f *fixture, o org.Organization){
	"recorded without UUID by an older version": func(t *testing.T, f *fixture, o org.Organization) {
		f.set(t, "organizations", o.ID, bson.D{{Key: "collection_uuid", Value: ""}})
	},
	"restored from a backup": func(t *testing.T, f *fixture, o org.Organization) {
		f.set(t, "organizations", o.ID, bson.D{{Key: "collection_uuid", Value: "00112233445566778899aabbccddeeff"}})
	},
	"renamed by a late command": func(t *testing.T, f *fixture, o org.Organization) {
		f.rename(t, o.Collection, "org_elsewhere")
	},
}

// TestCollectionChanged renames, deletes and reconciles after each of
// collectionChanges.
func TestCollectionChanged(t *testing.T) {
	t.Parallel()
	for name, change := range collectionChanges {
		for verb, act := range map[string]func(t *testing.T, f *fixture, o org.Organization){
			"rename": func(t *testing.T, f *fixture, o org.Organization) {
				if _, err := f.Update(t.Context(), f.mustLogin(t, "a@example.com", adminPassword), org.UpdateRequest{OrganizationName: new("Bolt")}); err != nil {
					t.Fatal(err)
				}
				if documents := f.snapshot(t)["org_bolt"].Documents; len(documents) != 3 {
					t.Errorf("org_bolt has %v; want 3 documents", documents)
				}
			},
			"delete": func(t *testing.T, f *fixture, o org.Organization) {
				if _, err := f.Delete(t.Context(), f.mustLogin(t, "a@example.com", adminPassword), org.DeleteRequest{}); err != nil {
					t.Fatal(err)
				}
			},
			"reconcile": func(t *testing.T, f *fixture, o org.Organization) {
				report := f.mustReconcile(t)
				if len(report.Repaired) != 1 || len(report.NeedsAttention) > 0 {
					t.Errorf("%+v; want one repair", report)
				}
				if documents := f.snapshot(t)[o.Collection].Documents; len(documents) != 3 {
					t.Errorf("%s has %v; want 3 documents", o.Collection, documents)
				}
			},
		} {
			t.Run(name+"/"+verb, func(t *testing.T) {
				onBoth(t, func(t *testing.T, f *fixture) {
					o := f.mustCreate(t, "Acme", "a@example.com")
					f.fillTenant(t, o.Collection)
					change(t, f, o)
					act(t, f, o)
					f.advance(2 * org.StaleAfter)
					f.mustReconcile(t)
					if report := f.mustReconcile(t); len(report.Repaired)+len(report.Removed)+len(report.NeedsAttention) > 0 {
						t.Errorf("the next run: %+v; want nothing", report)
					}
					if findings, err := f.Inspect(t.Context()); err != nil || len(findings) > 0 {
						t.Errorf("Inspect = %+v, %v; want nothing", findings, err)
					}
				})
			})
		}
	}
}

// TestCollectionDropped drops an organization's collection, as its application
// may do. The organization has none until it is renamed or the application
// writes again.
func TestCollectionDropped(t *testing.T) {
	t.Parallel()
	f := newFixtureWithUUIDs(t)
	o := f.mustCreate(t, "Acme", "a@example.com")
	caller := f.mustLogin(t, "a@example.com", adminPassword)
	drop := func(name string) {
		t.Helper()
		if err := f.db.Client.Database(f.db.Name).Collection(name).Drop(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	drop(o.Collection)
	if report := f.mustReconcile(t); len(report.NeedsAttention) != 1 || report.NeedsAttention[0].Kind != org.MissingCollection {
		t.Errorf("%+v; want the missing collection", report)
	}
	for _, name := range []string{"Bolt", "Core"} {
		if _, err := f.Update(t.Context(), caller, org.UpdateRequest{OrganizationName: &name}); err != nil {
			t.Fatal(err)
		}
	}
	drop("org_core")
	f.fillTenant(t, "org_core")
	if report := f.mustReconcile(t); len(report.Repaired) != 1 || report.Repaired[0].Kind != org.UnknownCollection {
		t.Errorf("%+v; want the UUID of the new collection recorded", report)
	}
	if report := f.mustReconcile(t); len(report.Repaired)+len(report.NeedsAttention) > 0 {
		t.Errorf("the next run: %+v; want nothing", report)
	}
}

// TestHostileForeignCollection gives the collection of one organization the
// name of another one's, which was dropped. A late command can do so. The other
// organization must not get the collection.
func TestHostileForeignCollection(t *testing.T) {
	t.Parallel()
	for verb, act := range map[string]func(t *testing.T, f *fixture, victim org.Organization){
		"rename": func(t *testing.T, f *fixture, victim org.Organization) {
			if _, err := f.Update(t.Context(), f.mustLogin(t, "b@example.com", adminPassword), org.UpdateRequest{OrganizationName: new("Core")}); err != nil {
				t.Fatal(err)
			}
		},
		"delete": func(t *testing.T, f *fixture, victim org.Organization) {
			if _, err := f.Delete(t.Context(), f.mustLogin(t, "b@example.com", adminPassword), org.DeleteRequest{}); err != nil {
				t.Fatal(err)
			}
		},
		"reconcile": func(t *testing.T, f *fixture, victim org.Organization) { f.mustReconcile(t) },
	} {
		t.Run(verb, func(t *testing.T) {
			f := newFixtureWithUUIDs(t)
			victim := f.mustCreate(t, "Acme", "a@example.com")
			f.fillTenant(t, victim.Collection)
			b := f.mustCreate(t, "Bolt", "b@example.com")
			if err := f.db.Client.Database(f.db.Name).Collection(b.Collection).Drop(t.Context()); err != nil {
				t.Fatal(err)
			}
			f.rename(t, victim.Collection, b.Collection)
			act(t, f, victim)
			f.mustReconcile(t)
			f.mustReconcile(t)
			if documents := f.snapshot(t)[victim.Collection].Documents; len(documents) != 3 {
				t.Errorf("%s has %v; want 3 documents", victim.Collection, documents)
			}
		})
	}
}
