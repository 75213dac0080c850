package org_test

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.mongodb.org/mongo-driver/v2/bson"

	"orgservice/local/mongodbtest"
	"orgservice/shared/org"
)

// onBoth runs the test on a server that compares UUIDs, and to which making a
// collection that exists is no error, and on one like MongoDB 4.4.
func onBoth(t *testing.T, test func(t *testing.T, f *fixture)) {
	t.Run("modern", func(t *testing.T) { test(t, newFixtureWithUUIDs(t)) })
	t.Run("legacy", func(t *testing.T) { test(t, newFixtureIn(t, mongodbtest.NewLegacy(t))) })
}

// newFixtureWithUUIDs is newFixture, but on an embedded database if the server
// of MONGO_URL is one that tells no UUIDs, as no MongoDB is.
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

// later makes the service's clock show so much more.
func (f *fixture) later(d time.Duration) {
	now := f.Now
	if now == nil {
		now = time.Now
	}
	f.Now = func() time.Time { return now().Add(d) }
}

// mustReconcile reconciles until there is nothing to repair.
func (f *fixture) mustReconcile(t *testing.T) org.Report {
	t.Helper()
	report, err := f.Reconcile(t.Context(), true)
	if err != nil {
		t.Fatal(err)
	}
	return report
}

func (f *fixture) rename(t *testing.T, from, to string) {
	t.Helper()
	ctx, admin := t.Context(), f.db.Client.Database("admin")
	err := admin.RunCommand(ctx, bson.D{{Key: "renameCollection", Value: f.db.Name + "." + from}, {Key: "to", Value: f.db.Name + "." + to}}).Err()
	if err != nil {
		t.Fatal(err)
	}
}

// A collection that is there before its organization may hold anybody's
// documents.
func TestHostileStrayCollection(t *testing.T) {
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
				f.later(2 * org.StaleAfter)
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
			f.wantAlive(t, caller, "Acme Inc")
		})
		t.Run("OK when it is empty", func(t *testing.T) {
			_, err := f.Update(t.Context(), caller, org.UpdateRequest{OrganizationName: new("Empty")})
			if !f.Store.ChecksCollections() {
				if !errors.Is(err, org.ErrConflict) {
					t.Errorf("%v; want ErrConflict, since to drop it is not safe", err)
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

// An application that still writes under the old name of its organization
// makes a collection there. Whoever signs up under the name does not get it.
func TestHostileLateDocuments(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		o := f.mustCreate(t, "Acme", "a@example.com")
		caller := f.mustLogin(t, "a@example.com", adminPassword)
		if _, err := f.Update(t.Context(), caller, org.UpdateRequest{OrganizationName: new("Bolt")}); err != nil {
			t.Fatal(err)
		}
		f.insert(t, o.Collection, bson.D{{Key: "tenant", Value: "a"}})
		f.later(2 * org.StaleAfter)
		b := org.CreateRequest{OrganizationName: "Acme", Email: "b@example.com", Password: adminPassword}
		if got, err := f.Create(t.Context(), b); !errors.Is(err, org.ErrConflict) {
			t.Errorf("Create = %+v, %v; want ErrConflict", got, err)
		}
		if documents := f.snapshot(t)[o.Collection].Documents; len(documents) != 1 {
			t.Errorf("%s has %v; want the late document", o.Collection, documents)
		}
	})
}

// A name that was given up is somebody else's at once where the server keeps
// late commands from hitting the next owner, and otherwise after a rest.
func TestFreedName(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		f.mustCreate(t, "Acme", "a@example.com")
		if _, err := f.Delete(t.Context(), f.mustLogin(t, "a@example.com", adminPassword), nil); err != nil {
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
		f.later(org.StaleAfter + time.Second)
		f.mustCreate(t, "Acme", "b@example.com")
	})
}

// The organization's own may take back at once what it has given up.
func TestFreedNameBack(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		f.mustCreate(t, "Acme", "a@example.com")
		caller := f.mustLogin(t, "a@example.com", adminPassword)
		for _, name := range []string{"Bolt", "Acme", "Bolt"} {
			if _, err := f.Update(t.Context(), caller, org.UpdateRequest{OrganizationName: &name}); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// collectionsThatChanged are things that happen to a collection behind the
// service's back.
var collectionsThatChanged = map[string]func(t *testing.T, f *fixture, o org.Organization){
	"the version before kept no UUID": func(t *testing.T, f *fixture, o org.Organization) {
		f.set(t, "organizations", o.ID, bson.D{{Key: "collection_uuid", Value: ""}})
	},
	"restored from a backup": func(t *testing.T, f *fixture, o org.Organization) {
		f.set(t, "organizations", o.ID, bson.D{{Key: "collection_uuid", Value: "00112233445566778899aabbccddeeff"}})
	},
	"renamed by a command that came late": func(t *testing.T, f *fixture, o org.Organization) {
		f.rename(t, o.Collection, "org_elsewhere")
	},
}

func TestCollectionThatChanged(t *testing.T) {
	for name, change := range collectionsThatChanged {
		for verb, act := range map[string]func(t *testing.T, f *fixture, o org.Organization){
			"rename": func(t *testing.T, f *fixture, o org.Organization) {
				if _, err := f.Update(t.Context(), f.mustLogin(t, "a@example.com", adminPassword), org.UpdateRequest{OrganizationName: new("Bolt")}); err != nil {
					t.Fatal(err)
				}
				if documents := f.snapshot(t)["org_bolt"].Documents; len(documents) != 3 {
					t.Errorf("org_bolt has %v", documents)
				}
			},
			"delete": func(t *testing.T, f *fixture, o org.Organization) {
				if _, err := f.Delete(t.Context(), f.mustLogin(t, "a@example.com", adminPassword), nil); err != nil {
					t.Fatal(err)
				}
			},
			"reconcile": func(t *testing.T, f *fixture, o org.Organization) {
				report := f.mustReconcile(t)
				if len(report.Repaired) != 1 || len(report.NeedsAttention) > 0 {
					t.Errorf("%+v; want one repair", report)
				}
				if documents := f.snapshot(t)[o.Collection].Documents; len(documents) != 3 {
					t.Errorf("%s has %v", o.Collection, documents)
				}
			},
		} {
			t.Run(name+"/"+verb, func(t *testing.T) {
				onBoth(t, func(t *testing.T, f *fixture) {
					o := f.mustCreate(t, "Acme", "a@example.com")
					f.fillTenant(t, o.Collection)
					change(t, f, o)
					act(t, f, o)
					f.later(2 * org.StaleAfter)
					f.mustReconcile(t)
					if report := f.mustReconcile(t); len(report.Repaired)+len(report.Removed)+len(report.NeedsAttention) > 0 {
						t.Errorf("afterwards: %+v", report)
					}
					if findings, err := f.Inspect(t.Context()); err != nil || len(findings) > 0 {
						t.Errorf("findings: %+v, %v", findings, err)
					}
				})
			})
		}
	}
}

// An application that drops its organization's collection has an organization
// without one, until it writes again or the organization is renamed.
func TestCollectionThatWasDropped(t *testing.T) {
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
		t.Errorf("%+v; want the new collection to be known", report)
	}
	if report := f.mustReconcile(t); len(report.Repaired)+len(report.NeedsAttention) > 0 {
		t.Errorf("afterwards: %+v", report)
	}
}

// Two organizations can't have one collection, even if a command that comes
// late has put the one's where the other has lost its own.
func TestHostileForeignCollection(t *testing.T) {
	for verb, act := range map[string]func(t *testing.T, f *fixture, victim org.Organization){
		"rename": func(t *testing.T, f *fixture, victim org.Organization) {
			f.Update(t.Context(), f.mustLogin(t, "b@example.com", adminPassword), org.UpdateRequest{OrganizationName: new("Core")})
		},
		"delete": func(t *testing.T, f *fixture, victim org.Organization) {
			f.Delete(t.Context(), f.mustLogin(t, "b@example.com", adminPassword), nil)
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
				t.Errorf("%s has %v", victim.Collection, documents)
			}
		})
	}
}
