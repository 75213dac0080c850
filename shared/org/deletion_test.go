package org_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.mongodb.org/mongo-driver/v2/bson"

	"orgservice/shared/org"
)

// restore restores the organization and returns it.
func (f *fixture) restore(t *testing.T, id string, name *string) (org.Organization, error) {
	t.Helper()
	return f.Restore(t.Context(), "olivia", id, org.RestoreRequest{Reason: "a mistake", OrganizationName: name})
}

// TestRestore deletes an organization, lets others have what is free then, and restores it.
func TestRestore(t *testing.T) {
	t.Parallel()
	f, post, owner, advance := withMail(t)
	f.DeleteGrace = time.Hour
	ctx := t.Context()
	_, acme, err := f.Me(ctx, owner)
	if err != nil {
		t.Fatal(err)
	}
	f.fillTenant(t, acme.Collection)
	f.mustInvite(t, owner, "ann@acme.test", org.RoleAdmin)
	f.mustAccept(t, post.sent[len(post.sent)-1], adminPassword)
	f.mustInvite(t, owner, "guest@acme.test", org.RoleMember)
	invitation := post.sent[len(post.sent)-1].Ticket
	if _, err := f.CreateOrganization(ctx, f.mustLogin(t, "ann@acme.test", adminPassword), org.CreateOrganizationRequest{OrganizationName: "Ann's"}); err != nil {
		t.Fatal(err)
	}
	before, err := f.Store.Organization(ctx, acme.ID)
	if err != nil {
		t.Fatal(err)
	}
	contents := f.snapshot(t)[acme.Collection]
	tokens, err := f.Login(ctx, org.LoginRequest{Email: "owner@acme.test", Password: adminPassword})
	if err != nil {
		t.Fatal(err)
	}

	if err := f.Forgot(ctx, org.ForgotRequest{Email: "owner@acme.test"}); err != nil {
		t.Fatal(err)
	}
	reset := post.sent[len(post.sent)-1].Ticket

	deleted, err := f.Delete(ctx, owner, org.DeleteRequest{})
	if err != nil || deleted.Deletion == nil || deleted.Deletion.Ends.Sub(deleted.UpdatedAt) != time.Hour || deleted.Deletion.By != owner.AdminID {
		t.Fatalf("%+v, %v", deleted.Deletion, err)
	}
	f.wantNoFindings(t)
	f.wantTokenInvalid(t, owner)
	if _, err := f.Get(ctx, "Acme Ltd"); !errors.Is(err, org.ErrNotFound) {
		t.Errorf("get: %v", err)
	}
	if _, err := f.Login(ctx, org.LoginRequest{Email: "owner@acme.test", Password: adminPassword}); !errors.Is(err, org.ErrUnauthenticated) {
		t.Errorf("login: %v", err)
	}
	if _, err := f.Login(ctx, org.LoginRequest{Email: "ann@acme.test", Password: adminPassword}); err != nil {
		t.Errorf("login to the other organization: %v", err)
	}
	if _, err := f.Accept(ctx, org.AcceptRequest{Ticket: invitation, Password: adminPassword}); reasonOf(err) != org.TicketInvalid {
		t.Errorf("accept: %v", err)
	}
	if err := f.Reset(ctx, org.ResetRequest{Ticket: reset, Password: newPassword}); reasonOf(err) != org.TicketInvalid {
		t.Errorf("reset: %v", err)
	}
	mails := len(post.sent)
	if err := f.Forgot(ctx, org.ForgotRequest{Email: "owner@acme.test"}); err != nil || len(post.sent) != mails {
		t.Errorf("forgot: %v, %d mails", err, len(post.sent)-mails)
	}

	// The name and the email are free at once.
	squatter := f.mustCreate(t, "Acme Ltd", "owner@acme.test")
	if _, err := f.restore(t, acme.ID, nil); reasonOf(err) != org.NameTaken {
		t.Errorf("to a name that is taken: %v", err)
	}
	if _, err := f.restore(t, acme.ID, new("Acme again")); reasonOf(err) != org.EmailTaken {
		t.Errorf("without an owner: %v", err)
	}
	f.wantNoFindings(t)
	newcomer := f.mustLogin(t, "owner@acme.test", adminPassword)
	if _, err := f.Update(ctx, newcomer, org.UpdateRequest{Email: new("newcomer@acme.test"), CurrentPassword: new(adminPassword)}); err != nil {
		t.Fatal(err)
	}
	for _, wrong := range []string{"-", strings.Repeat("x", 200)} {
		_, err := f.restore(t, acme.ID, &wrong)
		wantFields(t, err, "organization_name")
	}
	_, err = f.Restore(ctx, "olivia", acme.ID, org.RestoreRequest{})
	wantFields(t, err, "reason")

	restored, err := f.restore(t, acme.ID, new("Acme again"))
	if err != nil || len(restored.Invitations) > 0 {
		t.Fatal(restored.Invitations, err)
	}
	if restored.ID != acme.ID || restored.Name != "Acme again" || restored.Collection != "org_acme_again" || !restored.CreatedAt.Equal(before.CreatedAt) || restored.Deletion != nil {
		t.Errorf("%+v", restored)
	}
	if diff := cmp.Diff(before.Admins, restored.Admins); diff != "" {
		t.Errorf("members (-before +after):\n%s", diff)
	}
	if diff := cmp.Diff(contents, f.snapshot(t)[restored.Collection]); diff != "" {
		t.Errorf("collection (-before +after):\n%s", diff)
	}
	again, err := f.restore(t, acme.ID, new("Acme again"))
	if err != nil || len(again.History) != 1 || again.History[0].Kind != org.ActRestore || again.History[0].Reason != "a mistake" {
		t.Errorf("once more: %+v, %v", again.History, err)
	}
	if _, err := f.restore(t, acme.ID, new("Other")); reasonOf(err) != org.OrganizationNotFound {
		t.Errorf("once more, to another name: %v", err)
	}
	if _, err := f.restore(t, acme.ID, nil); err != nil {
		t.Errorf("once more, without the name: %v", err)
	}
	if _, err := f.Restore(ctx, "olivia", acme.ID, org.RestoreRequest{Reason: "another"}); !errors.Is(err, org.ErrNotFound) {
		t.Errorf("of what is active: %v", err)
	}
	f.wantTokenInvalid(t, owner)
	if _, err := f.Refresh(ctx, org.RefreshRequest{RefreshToken: tokens.Refresh}); !errors.Is(err, org.ErrUnauthenticated) {
		t.Errorf("a refresh token from before: %v", err)
	}
	f.wantTokenValid(t, f.mustLogin(t, "owner@acme.test", adminPassword), "Acme again")
	if o, err := f.Get(ctx, "Acme Ltd"); err != nil || o.ID != squatter.ID {
		t.Errorf("%v, %v", o.ID, err)
	}
	f.wantNoFindings(t)

	// Once the grace is over, Reconcile deletes it for good.
	ann := f.mustLogin(t, "ann@acme.test", adminPassword)
	if _, err := f.Delete(ctx, f.mustLogin(t, "owner@acme.test", adminPassword), org.DeleteRequest{}); err != nil {
		t.Fatal(err)
	}
	advance(59 * time.Minute)
	if report := f.mustReconcile(t); len(report.Purged) != 0 {
		t.Errorf("purged before: %+v", report)
	}
	advance(2 * time.Minute)
	if _, err := f.restore(t, acme.ID, nil); !errors.Is(err, org.ErrNotFound) {
		t.Errorf("when its time is over: %v", err)
	}
	if report := f.mustReconcile(t); len(report.Purged) != 1 || report.Purged[0].OrganizationID != acme.ID {
		t.Errorf("%+v", report)
	}
	f.wantPurged(t, acme.ID, "", 2, 3)
	if _, err := f.restore(t, acme.ID, nil); !errors.Is(err, org.ErrNotFound) {
		t.Errorf("restore: %v", err)
	}
	if _, _, err := f.Me(ctx, ann); err != nil {
		t.Errorf("ann: %v", err)
	}
}

// TestRestoreOthers restores an organization when somebody else has a member's email.
func TestRestoreOthers(t *testing.T) {
	t.Parallel()
	f, post, owner, _ := withMail(t)
	f.DeleteGrace = time.Hour
	ctx := t.Context()
	f.mustInvite(t, owner, "ann@acme.test", org.RoleOwner)
	ann := f.mustAccept(t, post.sent[len(post.sent)-1], adminPassword)
	if _, err := f.Delete(ctx, ann, org.DeleteRequest{}); err != nil {
		t.Fatal(err)
	}
	stranger := f.mustCreate(t, "Bolt", "ann@acme.test")
	o, err := f.restore(t, owner.OrganizationID, nil)
	if err != nil || len(o.Admins) != 1 || o.Admins[0].AdminID != owner.AdminID {
		t.Fatalf("%+v, %v", o.Admins, err)
	}
	f.wantNoFindings(t)
	if _, err := f.Store.Admin(ctx, ann.AdminID); !errors.Is(err, org.ErrNotFound) {
		t.Errorf("who could not come back: %v", err)
	}
	if c := f.mustLogin(t, "ann@acme.test", adminPassword); c.OrganizationID != stranger.ID {
		t.Errorf("%+v", c)
	}
	back := f.mustLogin(t, "owner@acme.test", adminPassword)
	if err := f.RemoveMember(ctx, back, owner.AdminID); reasonOf(err) != org.LastOwner {
		t.Errorf("the last owner leaves: %v", err)
	}
}

// wantPurged fails the test unless nothing is left of the organization but the receipt.
func (f *fixture) wantPurged(t *testing.T, id, by string, members int, documents int64) {
	t.Helper()
	f.wantNoFindings(t)
	if _, err := f.Receipt(t.Context(), strings.ToUpper(id)); reasonOf(err) != org.OrganizationNotFound {
		t.Errorf("of an id in capitals: %v", err)
	}
	r, err := f.Receipt(t.Context(), id)
	if err != nil || r.ID != id || r.PurgedBy != by || r.Members != members || r.Documents != documents || r.DeletedBy == "" || r.CreatedAt.IsZero() || !r.CreatedAt.Before(r.DeletedAt) || !r.DeletedAt.Before(r.PurgedAt) {
		t.Errorf("%+v, %v", r, err)
	}
	for name, c := range f.snapshot(t) {
		for _, d := range c.Documents {
			if text := fmt.Sprint(d); name != "receipts" && strings.Contains(text, id) {
				t.Errorf("%s: %s", name, text)
			} else if name == "receipts" && (strings.Contains(text, "@") || strings.Contains(text, "$2") || strings.Contains(strings.ToLower(text), "acme")) {
				t.Errorf("the receipt has an email, a hash or a name: %s", text)
			}
		}
		if strings.HasPrefix(name, "org_-") {
			t.Errorf("the collection %s is left", name)
		}
	}
}

func TestPurge(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.DeleteGrace = time.Hour
	o := f.mustCreate(t, "Acme", "a@example.com")
	purge := func(id string) error { return f.Purge(t.Context(), "olivia", id, org.ActRequest{Reason: "asked for"}) }
	if err := purge(o.ID); !errors.Is(err, org.ErrNotFound) {
		t.Errorf("of what is active: %v", err)
	}
	if _, err := f.Delete(t.Context(), f.mustLogin(t, "a@example.com", adminPassword), org.DeleteRequest{}); err != nil {
		t.Fatal(err)
	}
	wantFields(t, f.Purge(t.Context(), "olivia", o.ID, org.ActRequest{}), "reason")
	for range 2 {
		if err := purge(o.ID); err != nil {
			t.Fatal(err)
		}
	}
	f.wantPurged(t, o.ID, "olivia", 1, 0)
	if err := purge(bson.NewObjectID().Hex()); !errors.Is(err, org.ErrNotFound) {
		t.Errorf("of nothing: %v", err)
	}
	// Without a grace, no receipt is left.
	f.DeleteGrace = 0
	other := f.mustCreate(t, "Acme", "a@example.com")
	if _, err := f.Delete(t.Context(), f.mustLogin(t, "a@example.com", adminPassword), org.DeleteRequest{}); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Receipt(t.Context(), other.ID); !errors.Is(err, org.ErrNotFound) {
		t.Errorf("receipt: %v", err)
	}
}

// TestUnknownGrace lets a version that knows no grace end a deletion, which leaves nothing but
// the status.
func TestUnknownGrace(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.DeleteGrace = time.Hour
	f.mustCreate(t, "Acme", "a@example.com")
	f.mustCreate(t, "Core", "c@example.com") // which nobody deletes, nor changes
	deleted, err := f.Delete(t.Context(), f.mustLogin(t, "a@example.com", adminPassword), org.DeleteRequest{})
	if err != nil {
		t.Fatal(err)
	}
	f.set(t, "organizations", deleted.ID, bson.D{{Key: "deletion", Value: nil}})
	now := deleted.UpdatedAt.Add(30*24*time.Hour - time.Millisecond)
	f.Now = func() time.Time { return now }
	if report := f.mustReconcile(t); len(report.Purged) != 0 {
		t.Errorf("%+v", report)
	}
	now = now.Add(time.Millisecond)
	if report := f.mustReconcile(t); len(report.Purged) != 1 {
		t.Errorf("%+v", report)
	}
	f.Now = nil
	f.mustCreate(t, "Bolt", "b@example.com")
	if deleted, err = f.Delete(t.Context(), f.mustLogin(t, "b@example.com", adminPassword), org.DeleteRequest{}); err != nil {
		t.Fatal(err)
	}
	f.set(t, "organizations", deleted.ID, bson.D{{Key: "deletion", Value: nil}})
	if err := f.Purge(t.Context(), "olivia", deleted.ID, org.ActRequest{Reason: "at once"}); err != nil {
		t.Error(err)
	}
	if _, _, err := f.Show(t.Context(), deleted.ID); !errors.Is(err, org.ErrNotFound) {
		t.Errorf("after the purge: %v", err)
	}
	f.wantNoFindings(t)
}

// TestSleepers follows an admin of several organizations through their deletions.
func TestSleepers(t *testing.T) {
	t.Parallel()
	f, post, owner, _ := withMail(t)
	f.DeleteGrace = time.Hour
	ctx := t.Context()
	f.mustInvite(t, owner, "ann@acme.test", org.RoleMember)
	f.mustAccept(t, post.sent[len(post.sent)-1], adminPassword)
	other, err := f.CreateOrganization(ctx, f.mustLogin(t, "ann@acme.test", adminPassword), org.CreateOrganizationRequest{OrganizationName: "Ann's"})
	if err != nil {
		t.Fatal(err)
	}
	asleep := func() bool {
		t.Helper()
		f.wantNoFindings(t)
		admins, err := f.Store.AdminsByEmail(ctx, "ann@acme.test")
		if err != nil || len(admins) != 1 {
			t.Fatal(admins, err)
		}
		_, err = f.Store.Claim(ctx, "email:ann@acme.test")
		if errors.Is(err, org.ErrNotFound) != admins[0].Asleep {
			t.Errorf("asleep %v, and the claim: %v", admins[0].Asleep, err)
		}
		return admins[0].Asleep
	}
	deleteAs := func(name string) error {
		tokens, err := f.Login(ctx, org.LoginRequest{Email: "ann@acme.test", Password: adminPassword, OrganizationName: &name})
		if err != nil {
			return err
		}
		_, err = f.Delete(ctx, f.mustVerify(t, tokens), org.DeleteRequest{})
		return err
	}
	if err := deleteAs("Ann's"); err != nil || asleep() {
		t.Errorf("in one that is deleted: %v", err)
	}
	// Who leaves the last organization that lives falls asleep, and is not deleted.
	ann := f.mustLogin(t, "ann@acme.test", adminPassword)
	if err := f.RemoveMember(ctx, ann, ann.AdminID); err != nil || !asleep() {
		t.Errorf("left: %v", err)
	}
	if o, err := f.restore(t, other.ID, nil); err != nil || asleep() || !slices.ContainsFunc(o.Admins, func(m org.Member) bool { return m.AdminID == ann.AdminID }) {
		t.Errorf("%v, %v", o.Admins, err)
	}
	// Deleted for good beside one that can be restored.
	f.DeleteGrace = 0
	if _, err := f.CreateOrganization(ctx, f.mustLogin(t, "ann@acme.test", adminPassword), org.CreateOrganizationRequest{OrganizationName: "Third"}); err != nil {
		t.Fatal(err)
	}
	f.DeleteGrace = time.Hour
	if err := deleteAs("Ann's"); err != nil || asleep() {
		t.Errorf("%v", err)
	}
	f.DeleteGrace = 0
	if err := deleteAs("Third"); err != nil || !asleep() {
		t.Errorf("%v", err)
	}
	if err := f.Purge(ctx, "olivia", other.ID, org.ActRequest{Reason: "x"}); err != nil {
		t.Fatal(err)
	}
	if admins, err := f.Store.AdminsByEmail(ctx, "ann@acme.test"); err != nil || len(admins) > 0 {
		t.Errorf("%v, %v", admins, err)
	}
}

func TestRenameByOperator(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	o := f.mustCreate(t, "Acme", "a@example.com")
	f.fillTenant(t, o.Collection)
	f.mustCreate(t, "Bolt", "b@example.com")
	caller := f.mustLogin(t, "a@example.com", adminPassword)
	rename := func(name string) (org.Organization, error) {
		return f.Rename(t.Context(), "olivia", o.ID, org.RenameRequest{Reason: "offensive", OrganizationName: name})
	}
	if _, err := rename("bolt"); reasonOf(err) != org.NameTaken {
		t.Errorf("%v", err)
	}
	_, err := rename("-")
	wantFields(t, err, "organization_name")
	for _, name := range []string{"Core", "Core", "CORE"} {
		got, err := rename(name)
		if err != nil || got.Name != name || got.Collection != "org_core" || len(f.snapshot(t)["org_core"].Documents) != 3 {
			t.Errorf("%+v, %v", got, err)
		}
	}
	if _, _, err := f.Me(t.Context(), caller); err != nil {
		t.Errorf("a rename ends a login: %v", err)
	}
	if _, err := f.Suspend(t.Context(), "olivia", o.ID, org.ActRequest{Reason: "unpaid"}); err != nil {
		t.Fatal(err)
	}
	got, err := rename("Dune")
	if err != nil || got.Status != org.Suspended || got.Name != "Dune" {
		t.Errorf("%+v, %v", got, err)
	}
	var acts []string
	for _, a := range got.History {
		acts = append(acts, string(a.Kind))
	}
	if want := []string{"rename", "rename", "suspend", "rename"}; !slices.Equal(acts, want) {
		t.Errorf("%q; want %q", acts, want)
	}
	f.wantNoFindings(t)
	// Renames don't drive out the act that ends logins.
	if _, err := f.Reactivate(t.Context(), "olivia", o.ID, org.ActRequest{Reason: "paid"}); err != nil {
		t.Fatal(err)
	}
	caller = f.mustLogin(t, "a@example.com", adminPassword)
	for i := range 100 {
		if got, err = rename([]string{"DUNE", "Dune"}[i%2]); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(got.History); n != 100 || got.History[0].Kind != org.ActReactivate || got.History[1].Kind != org.ActRename {
		t.Errorf("%d acts, the first of which are %v", n, got.History[:2])
	}
	if _, _, err := f.Me(t.Context(), caller); err != nil {
		t.Errorf("many renames end a login: %v", err)
	}
	f.set(t, "organizations", o.ID, bson.D{{Key: "status", Value: org.Provisioning}})
	if _, err := rename("Echo"); !errors.Is(err, org.ErrNotFound) {
		t.Errorf("%v", err)
	}
}
