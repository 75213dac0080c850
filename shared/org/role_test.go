package org_test

import (
	"errors"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"orgservice/shared/auth"
	"orgservice/shared/org"
)

// setRole changes the role on the record of the organization, whose revision grows.
func (f *fixture) setRole(t *testing.T, o org.Organization, role org.Role) {
	t.Helper()
	o, err := f.Store.Organization(t.Context(), o.ID)
	if err != nil {
		t.Fatal(err)
	}
	next := o
	next.Admins = []org.Member{o.Admins[0]}
	next.Admins[0].Role = role
	if ok, err := f.Store.ReplaceOrganization(t.Context(), o, next); err != nil || !ok {
		t.Fatal(ok, err)
	}
}

// TestRoles lets a member of each role do what roles permit. The role of the record
// counts, and not that of the token.
func TestRoles(t *testing.T) {
	t.Parallel()
	const none = org.Role("auditor") // of a newer version
	name, renamed := "Acme Ltd", "Acme Inc"
	current, changed := adminPassword, "Better@123"
	for action, test := range map[string]struct {
		act       func(f *fixture, c auth.Caller) error
		permitted []org.Role
	}{
		"me": {func(f *fixture, c auth.Caller) error {
			_, _, err := f.Me(t.Context(), c)
			return err
		}, []org.Role{org.RoleOwner, org.RoleAdmin, org.RoleMember, none}},
		"rename": {func(f *fixture, c auth.Caller) error {
			_, err := f.Update(t.Context(), c, org.UpdateRequest{OrganizationName: &renamed})
			return err
		}, []org.Role{org.RoleOwner, org.RoleAdmin}},
		"rename, with the password": {func(f *fixture, c auth.Caller) error {
			_, err := f.Update(t.Context(), c, org.UpdateRequest{OrganizationName: &renamed, Password: &changed, CurrentPassword: &current})
			return err
		}, []org.Role{org.RoleOwner, org.RoleAdmin}},
		"change the password": {func(f *fixture, c auth.Caller) error {
			_, err := f.Update(t.Context(), c, org.UpdateRequest{Password: &changed, CurrentPassword: &current})
			return err
		}, []org.Role{org.RoleOwner, org.RoleAdmin, org.RoleMember, none}},
		"delete": {func(f *fixture, c auth.Caller) error {
			_, err := f.Delete(t.Context(), c, org.DeleteRequest{})
			return err
		}, []org.Role{org.RoleOwner}},
		"delete, confirmed": {func(f *fixture, c auth.Caller) error {
			_, err := f.Delete(t.Context(), c, org.DeleteRequest{Confirmation: &name})
			return err
		}, []org.Role{org.RoleOwner}},
	} {
		for _, role := range []org.Role{org.RoleOwner, org.RoleAdmin, org.RoleMember, none} {
			t.Run(action+" as "+string(role), func(t *testing.T) {
				f := newFixture(t)
				o := f.mustCreate(t, name, "admin@acme.test")
				caller := f.mustLogin(t, "admin@acme.test", adminPassword)
				if caller.Role != "owner" || o.Role(caller.AdminID) != org.RoleOwner || time.Since(o.Admins[0].Since).Abs() > time.Hour {
					t.Fatalf("who has signed up: %v, and the token %v", o.Admins, caller)
				}
				f.setRole(t, o, role)
				before := f.snapshot(t)
				err := test.act(f, caller)
				permitted := false
				for _, r := range test.permitted {
					permitted = permitted || r == role
				}
				if permitted && err != nil {
					t.Fatal(err)
				}
				if e, _ := errors.AsType[*org.Error](err); !permitted && (e == nil || e.Kind != org.Forbidden || e.Reason != org.RoleForbids) {
					t.Errorf("got %v, want %s", err, org.RoleForbids)
				}
				if !permitted {
					f.wantSame(t, before)
				}
			})
		}
	}
	t.Run("in tokens", func(t *testing.T) {
		f := newFixture(t)
		o := f.mustCreate(t, name, "admin@acme.test")
		tokens, err := f.Login(t.Context(), org.LoginRequest{Email: "admin@acme.test", Password: adminPassword})
		if err != nil {
			t.Fatal(err)
		}
		f.setRole(t, o, org.RoleMember)
		if tokens, err = f.Refresh(t.Context(), org.RefreshRequest{RefreshToken: tokens.Refresh}); err != nil {
			t.Fatal(err)
		}
		if c, err := f.verifier.Verify(tokens.Access); err != nil || c.Role != "member" {
			t.Errorf("the refreshed token has the role %q, %v", c.Role, err)
		}
	})
	t.Run("of a record without roles", func(t *testing.T) {
		f := newFixture(t)
		o := f.mustCreate(t, name, "admin@acme.test")
		f.set(t, "organizations", o.ID, bson.D{{Key: "admins", Value: bson.A{bson.D{
			{Key: "admin_id", Value: mustObjectID(t, o.Admins[0].AdminID)}, {Key: "token_version", Value: int64(1)}}}}})
		old, err := f.Get(t.Context(), name)
		if err != nil || old.Role(o.Admins[0].AdminID) != org.RoleOwner || !old.Admins[0].Since.Equal(o.CreatedAt) {
			t.Errorf("the admin is %v, %v", old.Admins, err)
		}
		if old.Role("somebody") != "" {
			t.Error("who is no member has a role")
		}
		caller := f.mustLogin(t, "admin@acme.test", adminPassword)
		if _, err := f.Delete(t.Context(), caller, org.DeleteRequest{}); err != nil {
			t.Error(err)
		}
	})
}

func mustObjectID(t *testing.T, id string) bson.ObjectID {
	t.Helper()
	oid, err := bson.ObjectIDFromHex(id)
	if err != nil {
		t.Fatal(err)
	}
	return oid
}
