package org_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"orgservice/shared/org"
)

// TestScriptInspect inspects a database in which everything is wrong.
func TestScriptInspect(t *testing.T) {
	runScript(t, true, func(s *sim) {
		ids, admins := map[string]string{}, map[string]string{}
		for i, slug := range simSlugs {
			s.mustCreate(t, slug, simEmails[i])
			for _, o := range s.durable.organizations {
				ids[slugOf(o)], admins[slugOf(o)] = o.ID, o.Admins[0].AdminID
			}
		}
		s.sleep(5 * time.Minute)
		d, ago := s.durable, func(d time.Duration) time.Time { return time.Now().Add(-d) }

		// What an organization lacks while an operation is under way is not reported.
		core := d.organizations[ids["core"]]
		core.Operation = &org.Operation{ID: "99.1", Kind: org.Updating, StartedAt: ago(time.Minute), TouchedAt: ago(30 * time.Second), Collection: "org_next"}
		d.organizations[core.ID] = core
		delete(d.claims, "org_core")
		delete(d.admins, admins["core"])
		delete(d.collections, "org_core")
		d.make("org_next")
		d.make(fmt.Sprintf("org_-new-%d-99.1", ago(time.Minute).Unix()))

		d.claims["org_free"] = org.Claim{ID: "org_free", Owner: org.Owner{OrganizationID: "9.9"}, ClaimedAt: ago(time.Minute)}
		d.claims["email:free@x.test"] = org.Claim{ID: "email:free@x.test", Owner: org.Owner{OrganizationID: ids["acme"]}, ClaimedAt: ago(3 * time.Minute), RestingSince: ago(2 * time.Minute)}
		d.claims["org_young"] = org.Claim{ID: "org_young", Owner: org.Owner{OrganizationID: ids["acme"]}, ClaimedAt: ago(3 * time.Minute), RestingSince: ago(time.Second)}
		d.admins["9.8"] = org.Admin{ID: "9.8", OrganizationID: "9.9", Organizations: []string{"9.9"}, UpdatedAt: ago(time.Hour)}
		d.admins["9.7"] = org.Admin{ID: "9.7", OrganizationID: ids["acme"], Organizations: []string{ids["acme"]}, UpdatedAt: ago(time.Hour)}
		delete(d.claims, "email:a@x.test")
		delete(d.claims, "org_bolt")
		delete(d.admins, admins["dune"])
		d.renameCollection(org.Collection{Name: "org_acme"}, "org_late")
		delete(d.collections, "org_bolt")
		dune := d.organizations[ids["dune"]]
		dune.CollectionUUID = "another"
		d.organizations[dune.ID] = dune
		d.make("org_stray")

		since := func(d time.Duration) string {
			return fmt.Sprintf("since %v (%v)", ago(d).UTC().Format(time.TimeOnly), d)
		}
		want := []string{
			"unfinished operation of " + ids["core"] + ": update " + since(30*time.Second),
			"unused claim of 9.9: org_free " + since(time.Minute),
			"unused claim of " + ids["acme"] + ": email " + since(2*time.Minute),
			"admin without organization of 9.9: 9.8 " + since(time.Hour),
			"admin without organization of " + ids["acme"] + ": 9.7 " + since(time.Hour),
			"organization without claim of " + ids["acme"] + ": email of " + admins["acme"],
			"unused claim of : email of " + admins["core"] + " " + since(5*time.Minute),
			"unused claim of : email of " + admins["dune"] + " " + since(5*time.Minute),
			"organization without claim of " + ids["bolt"] + ": org_bolt",
			"organization without admin of " + ids["dune"] + ": " + admins["dune"],
			"collection with another name than recorded of " + ids["acme"] + ": org_acme",
			"organization without collection of " + ids["bolt"] + ": org_bolt",
			"collection with another UUID than recorded of " + ids["dune"] + ": org_dune",
			"collection without organization of : db.org_stray",
			"missing index of : byEmail",
		}
		var got []string
		err := s.runHooked(&operation{kind: "Inspect", run: func(ctx context.Context, service *org.Service) error {
			findings, err := service.Inspect(ctx)
			for _, f := range findings {
				text := fmt.Sprintf("%s of %s: %s", f.Kind, f.OrganizationID, f.Subject)
				if !f.Since.IsZero() {
					age, _ := time.ParseDuration(f.Age)
					text += fmt.Sprintf(" since %v (%v)", f.Since.UTC().Format(time.TimeOnly), age)
				}
				got = append(got, text)
			}
			return err
		}}, 0, func(c *call) bool {
			if c.method != "MissingIndexes" {
				return false
			}
			s.take(c)
			s.answer(c, reply{value: []string{"byEmail"}})
			return true
		})
		slices.Sort(got)
		slices.Sort(want)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%v\n%s\nwant\n%s", err, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	})
}

// TestScriptReport checks a report without findings, and one of an index that
// can't be made. A run that is not full does not read all claims.
func TestScriptReport(t *testing.T) {
	runScript(t, true, func(s *sim) {
		s.mustCreate(t, "acme", "a@x.test")
		var r org.Report
		reconcile := func() *operation {
			return &operation{kind: "Reconcile", run: func(ctx context.Context, service *org.Service) (err error) {
				r, err = service.Reconcile(ctx, false)
				return err
			}}
		}
		err := s.runHooked(reconcile(), 0, func(c *call) bool {
			switch c.method {
			case "Claims":
				t.Error("it reads all claims")
			case "EnsureIndexes":
				s.take(c)
				s.answer(c, reply{value: map[string]error{"byEmail": errDenied}})
				return true
			}
			return false
		})
		if r.Finished == nil || r.Undone == nil || r.Repaired == nil || r.Removed == nil {
			t.Errorf("%v, %+v; want no list that is nil", err, r)
		}
		if len(r.NeedsAttention) != 1 || r.NeedsAttention[0].Kind != org.MissingIndex || r.NeedsAttention[0].Subject != "byEmail" || r.NeedsAttention[0].Error != errDenied.Error() {
			t.Errorf("%v, %+v; want the index byEmail", err, r.NeedsAttention)
		}
		if err := s.runHooked(reconcile(), 0, nil); err != nil || r.NeedsAttention == nil {
			t.Errorf("%v, %+v; want no list that is nil", err, r)
		}
	})
}

// TestScriptClock compares the clock of a process with the database's.
func TestScriptClock(t *testing.T) {
	runScript(t, true, func(s *sim) {
		for _, tt := range []struct {
			ahead time.Duration
			ok    bool
		}{{0, true}, {org.MaxSkew, true}, {org.MaxSkew + time.Millisecond, false}, {-org.MaxSkew, true}, {-org.MaxSkew - time.Millisecond, false}} {
			var err error
			s.runHooked(&operation{kind: "Clock", run: func(ctx context.Context, service *org.Service) error {
				err = service.CheckClock(ctx)
				return nil
			}}, tt.ahead, nil)
			if (err == nil) != tt.ok {
				t.Errorf("%v ahead: %v", tt.ahead, err)
			}
		}
	})
}
