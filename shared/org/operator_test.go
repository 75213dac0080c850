package org_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"

	"orgservice/shared/org"
)

func TestSuspend(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	o := f.mustCreate(t, "Acme", "a@example.com")
	caller := f.mustLogin(t, "a@example.com", adminPassword)
	status := func(want org.Status, history ...string) {
		t.Helper()
		o, members, err := f.Show(t.Context(), o.ID)
		if err != nil {
			t.Fatal(err)
		}
		var acts []string
		for _, a := range o.History {
			acts = append(acts, fmt.Sprint(a.Kind, " by ", a.By, ": ", a.Reason))
		}
		if o.Status != want || !slices.Equal(acts, history) || len(members) != 1 || members[0].Email != "a@example.com" {
			t.Errorf("%s, %q, %v; want %s, %q", o.Status, acts, members, want, history)
		}
	}
	suspend, reactivate := f.Suspend, f.Reactivate
	act := func(do func(context.Context, string, string, org.ActRequest) (org.Organization, error), by, reason string, want org.Status) {
		t.Helper()
		if got, err := do(t.Context(), by, o.ID, org.ActRequest{Reason: reason}); err != nil || got.Status != want {
			t.Errorf("%s, %v; want %s", got.Status, err, want)
		}
	}

	act(reactivate, "olivia", "it is active", org.Active)
	status(org.Active)
	act(suspend, "olivia", " unpaid\n", org.Suspended)
	act(suspend, "olivia", "unpaid", org.Suspended) // as after an answer that was lost
	status(org.Suspended, "suspend by olivia: unpaid")
	act(suspend, "oscar", "unpaid", org.Suspended)
	status(org.Suspended, "suspend by olivia: unpaid", "suspend by oscar: unpaid")
	if _, _, err := f.Me(t.Context(), caller); !errors.Is(err, org.ErrUnauthenticated) {
		t.Errorf("me: %v", err)
	}
	act(reactivate, "oscar", "paid", org.Active)
	act(reactivate, "oscar", "paid again", org.Active)
	status(org.Active, "suspend by olivia: unpaid", "suspend by oscar: unpaid", "reactivate by oscar: paid")
	if _, _, err := f.Me(t.Context(), caller); !errors.Is(err, org.ErrUnauthenticated) {
		t.Errorf("me with a token from before: %v", err)
	}
	if _, _, err := f.Me(t.Context(), f.mustLogin(t, "a@example.com", adminPassword)); err != nil {
		t.Error(err)
	}

	for _, reason := range []string{"", " \n", "\u200b", "\u200b \u200b", "a\nb", "a\x00b", "a\u0085b", "a\u202eb", strings.Repeat("x", 501)} {
		_, err := suspend(t.Context(), "olivia", o.ID, org.ActRequest{Reason: reason})
		wantFields(t, err, "reason")
	}

	longest := strings.Repeat("é", 500)
	act(suspend, "olivia", longest, org.Suspended)
	act(reactivate, "olivia", longest, org.Active)

	// The latest acts stay.
	for i := range 60 {
		act(suspend, "olivia", fmt.Sprint(i), org.Suspended)
		act(reactivate, "olivia", fmt.Sprint(i), org.Active)
	}
	found, _, err := f.Show(t.Context(), o.ID)
	if n := len(found.History); err != nil || n != 100 || found.History[0].Reason != "10" || found.History[n-1].Reason != "59" {
		t.Errorf("%d acts, %v", n, err)
	}

	for _, unfit := range []org.Status{org.Provisioning, org.Deleting} {
		f.set(t, "organizations", o.ID, bson.D{{Key: "status", Value: unfit}})
		for _, do := range []func(context.Context, string, string, org.ActRequest) (org.Organization, error){suspend, reactivate} {
			if _, err := do(t.Context(), "olivia", o.ID, org.ActRequest{Reason: "x"}); !errors.Is(err, org.ErrNotFound) {
				t.Errorf("%s: %v; want ErrNotFound", unfit, err)
			}
		}
	}
}

// TestList lists organizations by pages, by how their names begin and by status.
func TestList(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	var ids []string
	for _, name := range []string{"Acme", "Acme Two", "Bolt"} {
		ids = append(ids, f.mustCreate(t, name, fmt.Sprintf("a%d@example.com", len(ids))).ID)
	}
	if _, err := f.Suspend(t.Context(), "olivia", ids[2], org.ActRequest{Reason: "unpaid"}); err != nil {
		t.Fatal(err)
	}
	slices.Sort(ids)
	for _, test := range []struct {
		name   string
		filter org.OrganizationFilter
		after  string
		limit  int
		want   int
		more   bool
	}{
		{"the first", org.OrganizationFilter{}, "", 1, 1, true},
		{"two", org.OrganizationFilter{}, "", 2, 2, true},
		{"all", org.OrganizationFilter{}, "", 3, 3, false},
		{"the second page", org.OrganizationFilter{}, ids[1], 2, 1, false},
		{"by name", org.OrganizationFilter{NamePrefix: new("ACME")}, "", 9, 2, false},
		{"by more of the name", org.OrganizationFilter{NamePrefix: new("acme t")}, "", 9, 1, false},
		{"suspended", org.OrganizationFilter{Status: new(org.Suspended)}, "", 9, 1, false},
		{"active", org.OrganizationFilter{Status: new(org.Active)}, "", 9, 2, false},
		{"active of the name", org.OrganizationFilter{NamePrefix: new("bolt"), Status: new(org.Active)}, "", 9, 0, false},
		{"provisioning", org.OrganizationFilter{Status: new(org.Provisioning)}, "", 9, 0, false},
		{"deleting", org.OrganizationFilter{Status: new(org.Deleting)}, "", 9, 0, false},
		{"deleted", org.OrganizationFilter{Status: new(org.Deleted)}, "", 9, 0, false},
	} {
		got, more, err := f.List(t.Context(), test.filter, test.after, test.limit)
		sorted := slices.IsSortedFunc(got, func(a, b org.Organization) int { return strings.Compare(a.ID, b.ID) })
		if err != nil || len(got) != test.want || more != test.more || !sorted {
			t.Errorf("%s: %d, more %v, sorted %v, %v; want %d, %v", test.name, len(got), more, sorted, err, test.want, test.more)
		}
	}
	_, more, err := f.List(t.Context(), org.OrganizationFilter{NamePrefix: new("-"), Status: new(org.Status("purged"))}, "", 9)
	wantFields(t, err, "prefix", "status")
	if more {
		t.Error("there is more of nothing")
	}

	// An id has one spelling.
	for name, err := range operatorErrors(t.Context(), f.Service, strings.ToUpper(ids[0])) {
		if reasonOf(err) != org.OrganizationNotFound {
			t.Errorf("%s of an id in capitals: %v", name, err)
		}
	}
	unreachable, cancel := context.WithCancel(t.Context())
	cancel()
	_, _, err = f.List(unreachable, org.OrganizationFilter{}, "", 9)
	if !errors.Is(err, org.ErrUnavailable) {
		t.Errorf("list without a database: %v", err)
	}
	for name, err := range operatorErrors(unreachable, f.Service, ids[0]) {
		if !errors.Is(err, org.ErrUnavailable) {
			t.Errorf("%s without a database: %v", name, err)
		}
	}
}

// operatorErrors returns the answers to all that an operator may ask about an organization.
func operatorErrors(ctx context.Context, s *org.Service, id string) map[string]error {
	act := org.ActRequest{Reason: "a reason"}
	errs := map[string]error{"purge": s.Purge(ctx, "olivia", id, act)}
	_, _, errs["show"] = s.Show(ctx, id)
	_, errs["suspend"] = s.Suspend(ctx, "olivia", id, act)
	_, errs["reactivate"] = s.Reactivate(ctx, "olivia", id, act)
	_, errs["rename"] = s.Rename(ctx, "olivia", id, org.RenameRequest{Reason: "a reason", OrganizationName: "Core"})
	_, errs["restore"] = s.Restore(ctx, "olivia", id, org.RestoreRequest{Reason: "a reason"})
	_, errs["receipt"] = s.Receipt(ctx, id)
	return errs
}

// TestSuspendDuringRename suspends in the middle of a rename, which is then finished.
func TestSuspendDuringRename(t *testing.T) {
	t.Parallel()
	w, s, o := setUp(t)
	if err := rename(w, w.crashing(&crash{at: 1, lost: true, only: "renameCollection"}), o, "Bolt")(); !errors.Is(err, org.ErrUnavailable) {
		t.Fatal(err)
	}
	if _, err := s.Suspend(t.Context(), "olivia", o.ID, org.ActRequest{Reason: "unpaid"}); err != nil {
		t.Fatal(err)
	}
	w.makeStale()
	reconcile(t, s)
	got, _, err := s.Show(t.Context(), o.ID)
	if err != nil || got.Status != org.Suspended || got.Name != "Bolt" || got.Collection != "org_bolt" || got.Operation != nil {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := s.Reactivate(t.Context(), "olivia", o.ID, org.ActRequest{Reason: "paid"}); err != nil {
		t.Fatal(err)
	}
	w.check()
}

// changing is a store in which the organization changes just after it was read.
type changing struct {
	org.Store
	left int // how many times
}

func (c *changing) Organization(ctx context.Context, id string) (org.Organization, error) {
	o, err := c.Store.Organization(ctx, id)
	if c.left--; c.left >= 0 && err == nil {
		_, err = c.Store.ReplaceOrganization(ctx, o, o)
	}
	return o, err
}

// TestSuspendWhatChanges suspends an organization that its members change all the time.
func TestSuspendWhatChanges(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	o := f.mustCreate(t, "Acme", "a@example.com")
	store := &changing{f.Store, 20}
	f.Store = store
	if _, err := f.Suspend(t.Context(), "olivia", o.ID, org.ActRequest{Reason: "x"}); !errors.Is(err, org.ErrConflict) {
		t.Errorf("%v; want ErrConflict", err)
	}
	store.left = 19
	if got, err := f.Suspend(t.Context(), "olivia", o.ID, org.ActRequest{Reason: "x"}); err != nil || got.Status != org.Suspended {
		t.Errorf("%s, %v", got.Status, err)
	}
}
