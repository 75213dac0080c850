package org_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"orgservice/shared/org"
)

func TestMembers(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	o := f.mustCreate(t, "Acme Ltd", "admin@acme.test")
	f.mustCreate(t, "Bolt Ltd", "admin@bolt.test")
	caller := f.mustLogin(t, "admin@acme.test", adminPassword)
	o, err := f.Store.Organization(t.Context(), o.ID)
	if err != nil {
		t.Fatal(err)
	}
	next := o
	next.Admins = slices.Clone(o.Admins)
	want := []org.ListedMember{{Member: o.Admins[0], Email: "admin@acme.test"}}
	for i := range 6 {
		a := org.Admin{
			ID: f.Store.NewID(), OrganizationID: o.ID, Organizations: []string{o.ID}, Email: fmt.Sprintf("member-%d@acme.test", i), TokenVersion: 1, Revision: 1,
			CreatedAt: o.CreatedAt, UpdatedAt: o.CreatedAt,
		}
		m := org.Member{AdminID: a.ID, Role: org.RoleMember, Since: o.CreatedAt}
		if err := f.Store.InsertAdmin(t.Context(), a); err != nil {
			t.Fatal(err)
		}
		next.Admins = slices.Insert(next.Admins, 0, m) // not in the order of ids
		want = append(want, org.ListedMember{Member: m, Email: a.Email})
	}
	next.Admins[len(next.Admins)-1].Role = org.RoleMember // which sees the members, too
	want[0].Role = org.RoleMember
	if ok, err := f.Store.ReplaceOrganization(t.Context(), o, next); err != nil || !ok {
		t.Fatal(ok, err)
	}
	for limit := 1; limit <= 8; limit++ {
		var got []org.ListedMember
		after, more := "", true
		for pages := 0; more; pages++ {
			var page []org.ListedMember
			page, more, err = f.Members(t.Context(), caller, after, limit)
			if err != nil || len(page) != min(limit, len(want)-len(got)) || pages > len(want) {
				t.Fatalf("limit %d, after %d: %v, %v, %v", limit, len(got), page, more, err)
			}
			got = append(got, page...)
			after = page[len(page)-1].AdminID
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("limit %d (-want +got):\n%s", limit, diff)
		}
	}
	if page, more, err := f.Members(t.Context(), caller, want[6].AdminID, 5); len(page) != 0 || more || err != nil {
		t.Errorf("after the last one: %v, %v, %v", page, more, err)
	}
	if _, _, err := f.Members(t.Context(), f.mustLogin(t, "admin@bolt.test", adminPassword), "", 5); err != nil {
		t.Error(err)
	}
	other := caller
	other.TokenVersion++
	if _, _, err := f.Members(t.Context(), other, "", 5); !errors.Is(err, org.ErrUnauthenticated) {
		t.Errorf("with a revoked token: %v", err)
	}
}
