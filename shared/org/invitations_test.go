package org_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.mongodb.org/mongo-driver/v2/bson"

	"orgservice/shared/auth"
	"orgservice/shared/org"
)

// letters is an [org.Mailer] that keeps the mails, or fails.
type letters struct {
	mu            sync.Mutex
	sent          []org.Mail // but for the confirmations
	confirmations []org.Mail // to verify an email
	err           error
}

func (l *letters) Send(_ context.Context, m org.Mail) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.err != nil:
	case m.Kind == org.VerificationMail:
		l.confirmations = append(l.confirmations, m)
	default:
		l.sent = append(l.sent, m)
	}
	return l.err
}

// last returns the last mail, after which there have been n in all.
func (l *letters) last(t *testing.T, n int) org.Mail {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.sent) != n {
		t.Fatalf("%d mails were sent, want %d: %v", len(l.sent), n, l.sent)
	}
	return l.sent[n-1]
}

// TestAcceptErrThrottled guesses the password of who is invited, as at a login.
func TestAcceptErrThrottled(t *testing.T) {
	t.Parallel()
	f, post, owner, ahead := withMail(t)
	f.mustCreate(t, "Bolt", "b@bolt.test")
	if _, err := f.Invite(t.Context(), owner, org.InviteRequest{Email: "b@bolt.test", Role: "member"}); err != nil {
		t.Fatal(err)
	}
	ticket := post.sent[len(post.sent)-1].Ticket
	const address = "192.0.2.1"
	for n := range 50 {
		f.Login(t.Context(), org.LoginRequest{Email: fmt.Sprintf("nobody%d@acme.test", n), Password: "wrong", ClientAddress: address})
	}
	_, err := f.Accept(t.Context(), org.AcceptRequest{Ticket: ticket, Password: adminPassword, ClientAddress: address})
	wantReason(t, "from an address that guesses", err, org.TooManyAttempts)
	for n := range 22 {
		_, err := f.Accept(t.Context(), org.AcceptRequest{Ticket: ticket, Password: "Stranger@123"})
		want := org.WrongCredentials
		if n >= 20 {
			want = org.TooManyAttempts
		}
		if reasonOf(err) != want {
			t.Errorf("attempt %d: %v; want %s", n+1, err, want)
		}
	}
	if _, err := f.Accept(t.Context(), org.AcceptRequest{Ticket: ticket, Password: adminPassword}); reasonOf(err) != org.TooManyAttempts {
		t.Errorf("with the right password: %v", err)
	}
	slowly(80, ahead, func() {
		_, err := f.Accept(t.Context(), org.AcceptRequest{Ticket: ticket, Password: "Stranger@123"})
		wantReason(t, "a slow guess", err, org.WrongCredentials)
	})
	_, err = f.Accept(t.Context(), org.AcceptRequest{Ticket: ticket, Password: adminPassword})
	var e *org.Error
	if !errors.As(err, &e) || e.Reason != org.TooManyAttempts || e.RetryAfter != 0 {
		t.Errorf("after a hundred failures: %v; want the account to be locked", err)
	}
}

// TestAcceptIsLogin accepts an invitation with the right password. As after a login, that is no
// failed attempt, and the address is known.
func TestAcceptIsLogin(t *testing.T) {
	t.Parallel()
	f, post, owner, _ := withMail(t)
	f.mustCreate(t, "Bolt", "b@bolt.test")
	f.mustInvite(t, owner, "b@bolt.test", org.RoleMember)
	const address = "192.0.2.1"
	if _, err := f.Accept(t.Context(), org.AcceptRequest{Ticket: post.last(t, 1).Ticket, Password: adminPassword, ClientAddress: address}); err != nil {
		t.Fatal(err)
	}
	for n := range 25 {
		_, err := f.Login(t.Context(), org.LoginRequest{Email: "b@bolt.test", Password: "wrong"})
		want := org.WrongCredentials
		if n >= 20 {
			want = org.TooManyAttempts
		}
		wantReason(t, fmt.Sprintf("attempt %d", n+1), err, want)
	}
	if _, err := f.Login(t.Context(), org.LoginRequest{Email: "b@bolt.test", Password: adminPassword, ClientAddress: address}); err != nil {
		t.Errorf("from where the invitation was accepted: %v", err)
	}
}

// withMail returns a fixture whose mails are letters and whose clock can be set ahead,
// with the organization Acme Ltd and the caller of its owner.
func withMail(t *testing.T) (f *fixture, post *letters, caller auth.Caller, ahead func(time.Duration)) {
	t.Helper()
	f, post = newFixture(t), &letters{}
	var mu sync.Mutex
	var by time.Duration
	f.Mailer = post
	f.Now = func() time.Time {
		mu.Lock()
		defer mu.Unlock()
		return time.Now().Add(by)
	}
	f.SessionTTL, f.TokenTTL = 90*24*time.Hour, 60*24*time.Hour
	f.mustCreate(t, "Acme Ltd", "owner@acme.test")
	return f, post, f.mustLogin(t, "owner@acme.test", adminPassword), func(d time.Duration) {
		mu.Lock()
		defer mu.Unlock()
		by += d
	}
}

func (f *fixture) mustInvite(t *testing.T, c auth.Caller, email string, role org.Role) org.Invitation {
	t.Helper()
	i, err := f.Invite(t.Context(), c, org.InviteRequest{Email: email, Role: string(role)})
	if err != nil {
		t.Fatalf("invite %s: %v", email, err)
	}
	return i
}

// mustAccept accepts the invitation of the mail and returns the caller of the token.
func (f *fixture) mustAccept(t *testing.T, m org.Mail, password string) auth.Caller {
	t.Helper()
	tokens, err := f.Accept(t.Context(), org.AcceptRequest{Ticket: m.Ticket, Password: password})
	if err != nil {
		t.Fatalf("accept as %s: %v", m.To, err)
	}
	return f.mustVerify(t, tokens)
}

func (f *fixture) mustVerify(t *testing.T, tokens org.Tokens) auth.Caller {
	t.Helper()
	c, err := f.verifier.Verify(tokens.Access)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// wantReason fails the test unless the error has the reason.
func wantReason(t *testing.T, what string, err error, want org.Reason) {
	t.Helper()
	if got := reasonOf(err); got != want {
		t.Errorf("%s: %v, which is %q; want %s", what, err, got, want)
	}
}

func TestInvite(t *testing.T) {
	t.Parallel()
	f, post, owner, _ := withMail(t)
	f.mustCreate(t, "Bolt Ltd", "bob@bolt.test")
	i := f.mustInvite(t, owner, " Ann@Acme.test", org.RoleAdmin)
	m := post.last(t, 1)
	m.ValidFor = m.ValidFor.Round(time.Hour)
	want := org.Mail{Kind: org.InvitationMail, To: "ann@acme.test", Organization: "Acme Ltd", Role: org.RoleAdmin, Ticket: m.Ticket, ValidFor: 7 * 24 * time.Hour}
	if diff := cmp.Diff(want, m); diff != "" {
		t.Errorf("mail (-want +got):\n%s", diff)
	}
	if open, more, err := f.Invitations(t.Context(), owner, "", 10); err != nil || more || !cmp.Equal(open, []org.Invitation{i}) {
		t.Errorf("open: %v, %v, %v; want %v", open, more, err, i)
	}

	// A new admin, whose password must be a good one.
	_, err := f.Accept(t.Context(), org.AcceptRequest{Ticket: m.Ticket, Password: "password"})
	wantFields(t, err, "password")
	ann := f.mustAccept(t, m, "Ann's own 1")
	if ann.Role != "admin" || ann.OrganizationID != owner.OrganizationID {
		t.Errorf("the token of the new member is %+v", ann)
	}
	f.mustLogin(t, "ann@acme.test", "Ann's own 1")
	_, err = f.Accept(t.Context(), org.AcceptRequest{Ticket: m.Ticket, Password: "Ann's own 1"})
	wantReason(t, "a second use", err, org.TicketInvalid)
	if open, _, err := f.Invitations(t.Context(), ann, "", 10); err != nil || len(open) != 0 {
		t.Errorf("open afterwards: %v, %v", open, err)
	}
	_, err = f.Invite(t.Context(), owner, org.InviteRequest{Email: "ANN@acme.test", Role: "member"})
	wantReason(t, "an invitation of a member", err, org.AlreadyMember)

	// An admin of another organization, with the own password.
	f.mustInvite(t, ann, "bob@bolt.test", org.RoleMember)
	m = post.last(t, 2)
	_, err = f.Accept(t.Context(), org.AcceptRequest{Ticket: m.Ticket, Password: "Ann's own 1"})
	wantReason(t, "with another password", err, org.WrongCredentials)
	bob := f.mustAccept(t, m, adminPassword)
	memberships, _, err := f.Memberships(t.Context(), bob, "", 10)
	if err != nil || len(memberships) != 2 {
		t.Fatalf("bob is in %v, %v", memberships, err)
	}
	if c := f.mustLogin(t, "bob@bolt.test", adminPassword); c.OrganizationID != owner.OrganizationID || c.Role != "member" {
		t.Errorf("the next login is for %+v", c)
	}
	all, _, err := f.Members(t.Context(), bob, "", 10)
	var emails []string
	for _, m := range all {
		emails = append(emails, m.Email+" "+string(m.Role))
	}
	slices.Sort(emails)
	if diff := cmp.Diff([]string{"ann@acme.test admin", "bob@bolt.test member", "owner@acme.test owner"}, emails); diff != "" || err != nil {
		t.Errorf("members, %v (-want +got):\n%s", err, diff)
	}
	f.wantNoFindings(t)
}

// wantNoFindings fails the test if Inspect finds anything but missing indexes.
func (f *fixture) wantNoFindings(t *testing.T) {
	t.Helper()
	findings, err := f.Inspect(t.Context())
	findings = slices.DeleteFunc(findings, func(g org.Finding) bool { return g.Kind == org.MissingIndex })
	if err != nil || len(findings) > 0 {
		t.Errorf("findings %+v, %v", findings, err)
	}
}

// TestInvitationEnds ends invitations in every way.
func TestInvitationEnds(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		end  func(t *testing.T, f *fixture, owner auth.Caller, inviter string, i org.Invitation)
		late time.Duration
	}{
		"withdrawn": {end: func(t *testing.T, f *fixture, owner auth.Caller, _ string, i org.Invitation) {
			if err := f.Withdraw(t.Context(), owner, i.ID); err != nil {
				t.Error(err)
			}
			wantReason(t, "again", f.Withdraw(t.Context(), owner, i.ID), org.InvitationNotFound)
		}},
		"expired": {late: 7*24*time.Hour + time.Second},
		"replaced": {end: func(t *testing.T, f *fixture, owner auth.Caller, _ string, i org.Invitation) {
			f.mustInvite(t, owner, i.Email, org.RoleMember)
		}},
		"the inviter is demoted": {end: func(t *testing.T, f *fixture, owner auth.Caller, inviter string, _ org.Invitation) {
			for _, role := range []string{"member", "admin"} { // it does not open again
				if _, err := f.ChangeRole(t.Context(), owner, inviter, org.RoleRequest{Role: role}); err != nil {
					t.Error(err)
				}
			}
		}},
		"the inviter is removed": {end: func(t *testing.T, f *fixture, owner auth.Caller, inviter string, _ org.Invitation) {
			if err := f.RemoveMember(t.Context(), owner, inviter); err != nil {
				t.Error(err)
			}
		}},
		"the organization is deleted": {end: func(t *testing.T, f *fixture, owner auth.Caller, _ string, _ org.Invitation) {
			if _, err := f.Delete(t.Context(), owner, org.DeleteRequest{}); err != nil {
				t.Error(err)
			}
			left := slices.DeleteFunc(f.snapshot(t)["tickets"].Documents, func(d bson.D) bool { return strings.Contains(d.String(), `"verification"`) })
			if len(left) > 0 { // those of people expire
				t.Errorf("tickets are left: %v", left)
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			f, post, owner, ahead := withMail(t)
			f.mustInvite(t, owner, "ann@acme.test", org.RoleAdmin)
			ann := f.mustAccept(t, post.last(t, 1), adminPassword)
			i := f.mustInvite(t, ann, "guest@acme.test", org.RoleMember)
			m := post.last(t, 2)
			if test.end != nil {
				test.end(t, f, owner, ann.AdminID, i)
			}
			ahead(test.late)
			_, err := f.Accept(t.Context(), org.AcceptRequest{Ticket: m.Ticket, Password: adminPassword})
			wantReason(t, "accept", err, org.TicketInvalid)
			if admins, err := f.Store.AdminsByEmail(t.Context(), "guest@acme.test"); err != nil || len(admins) > 0 {
				t.Errorf("there is %v, %v", admins, err)
			}
		})
	}
}

// TestInvitationOfOwnerEnds demotes an owner to an admin, who may still invite, but no owners.
func TestInvitationOfOwnerEnds(t *testing.T) {
	t.Parallel()
	f, post, owner, _ := withMail(t)
	f.mustInvite(t, owner, "ann@acme.test", org.RoleOwner)
	ann := f.mustAccept(t, post.last(t, 1), adminPassword)
	f.mustInvite(t, ann, "guest@acme.test", org.RoleOwner)
	m := post.last(t, 2)
	if _, err := f.ChangeRole(t.Context(), owner, ann.AdminID, org.RoleRequest{Role: "admin"}); err != nil {
		t.Fatal(err)
	}
	_, err := f.Accept(t.Context(), org.AcceptRequest{Ticket: m.Ticket, Password: adminPassword})
	wantReason(t, "accept", err, org.TicketInvalid)
}

// TestInvitationMails sends no more mails than are allowed, and sends again what could
// not be sent.
func TestInvitationMails(t *testing.T) {
	t.Parallel()
	f, post, owner, ahead := withMail(t)
	for range 5 {
		f.mustInvite(t, owner, "ann@acme.test", org.RoleMember)
	}
	_, err := f.Invite(t.Context(), owner, org.InviteRequest{Email: "ann+1@acme.test", Role: "member"})
	wantReason(t, "the sixth mail", err, org.TooManyMails)
	for range 6 { // of which none is mailed
		_, err := f.Invite(t.Context(), owner, org.InviteRequest{Email: "owner@acme.test", Role: "member"})
		wantReason(t, "an invitation of a member", err, org.AlreadyMember)
	}
	var e *org.Error
	if !errors.As(err, &e) || e.RetryAfter < 50*time.Minute || e.RetryAfter > 70*time.Minute {
		t.Errorf("it may be sent after %v", e.RetryAfter)
	}
	f.mustInvite(t, owner, "bob@acme.test", org.RoleMember) // to another address
	ahead(e.RetryAfter)
	post.err = errors.New("no route to host")
	i := f.mustInvite(t, owner, "ann@acme.test", org.RoleMember)
	post.err = nil
	if _, err := f.Reconcile(t.Context(), false); err != nil {
		t.Error(err)
	}
	post.last(t, 6) // the process that mails may still do it
	ahead(org.StaleAfter)
	for range 2 {
		if _, err := f.Reconcile(t.Context(), false); err != nil {
			t.Error(err)
		}
	}
	m := post.last(t, 7)
	if m.To != i.Email || m.Organization != "Acme Ltd" || m.Role != org.RoleMember {
		t.Errorf("Reconcile has mailed %+v", m)
	}
	if _, err := f.Accept(t.Context(), org.AcceptRequest{Ticket: m.Ticket, Password: adminPassword}); err != nil {
		t.Error(err)
	}

	// What is not valid any more is not mailed.
	post.err = errors.New("no route to host")
	i = f.mustInvite(t, owner, "eve@acme.test", org.RoleMember)
	if err := f.Withdraw(t.Context(), owner, i.ID); err != nil {
		t.Error(err)
	}
	f.mustInvite(t, owner, "eve@acme.test", org.RoleMember)
	if _, err := f.Delete(t.Context(), owner, org.DeleteRequest{}); err != nil {
		t.Error(err)
	}
	post.err = nil
	ahead(org.StaleAfter)
	if _, err := f.Reconcile(t.Context(), false); err != nil {
		t.Error(err)
	}
	post.last(t, 7)
}

func TestInvitationBy(t *testing.T) {
	o := org.Organization{Invitations: []org.Invitation{
		{ID: "1", InvitedBy: "ann", Email: "x@acme.test", Role: org.RoleMember},
		{ID: "2", InvitedBy: "bob", Email: "y@acme.test", Role: org.RoleAdmin},
	}}
	for _, c := range []struct{ by, email, role, want string }{
		{"ann", "x@acme.test", "member", "1"},
		{"bob", "Y@acme.test", "admin", "2"},
		{"bob", "x@acme.test", "member", ""},
		{"ann", "y@acme.test", "member", ""},
		{"ann", "x@acme.test", "admin", ""},
	} {
		got := ""
		if i := o.InvitationBy(c.by, org.InviteRequest{Email: c.email, Role: c.role}); i != nil {
			got = i.ID
		}
		if got != c.want {
			t.Errorf("%+v: got %q", c, got)
		}
	}
}

func TestInviteErr(t *testing.T) {
	t.Parallel()
	f, post, owner, _ := withMail(t)
	_, err := f.Invite(t.Context(), owner, org.InviteRequest{Email: "ann", Role: "king"})
	wantFields(t, err, "email", "role")
	f.Mailer = nil
	_, err = f.Invite(t.Context(), owner, org.InviteRequest{Email: "ann@acme.test", Role: "member"})
	wantReason(t, "without a mailer", err, org.MailUnavailable)
	wantReason(t, "without a mailer", f.Forgot(t.Context(), org.ForgotRequest{Email: "ann@acme.test"}), org.MailUnavailable)
	f.Mailer = post
	wantReason(t, "withdraw", f.Withdraw(t.Context(), owner, "x"), org.InvitationNotFound)
	_, err = f.Accept(t.Context(), org.AcceptRequest{})
	wantFields(t, err, "ticket", "password")
	f.mustInvite(t, owner, "ann@acme.test", org.RoleMember)
	m := post.last(t, 1)
	other := auth.NewOpaqueToken(auth.NewOpaqueID()).Text()
	known, _ := auth.ParseOpaqueToken(m.Ticket)
	for what, ticket := range map[string]string{
		"no ticket": "x", "an unknown one": other, "another secret": auth.NewOpaqueToken(known.ID).Text(), "cut off": m.Ticket[:63],
	} {
		_, err := f.Accept(t.Context(), org.AcceptRequest{Ticket: ticket, Password: adminPassword})
		wantReason(t, what, err, org.TicketInvalid)
		wantReason(t, what+", as a reset", f.Reset(t.Context(), org.ResetRequest{Ticket: ticket, Password: "Better@123"}), org.TicketInvalid)
	}
	wantReason(t, "the ticket of an invitation", f.Reset(t.Context(), org.ResetRequest{Ticket: m.Ticket, Password: "Better@123"}), org.TicketInvalid)

	// An admin can't replace what only an owner may withdraw.
	f.mustAccept(t, m, adminPassword)
	ann := f.mustLogin(t, "ann@acme.test", adminPassword)
	if _, err := f.ChangeRole(t.Context(), owner, ann.AdminID, org.RoleRequest{Role: "admin"}); err != nil {
		t.Fatal(err)
	}
	future := f.mustInvite(t, owner, "future@acme.test", org.RoleOwner)
	_, err = f.Invite(t.Context(), ann, org.InviteRequest{Email: "future@acme.test", Role: "member"})
	wantReason(t, "an invitation in place of an owner's", err, org.RoleForbids)
	wantReason(t, "its withdrawal", f.Withdraw(t.Context(), ann, future.ID), org.RoleForbids)

	// As many members as there can be.
	o, err := f.Store.Organization(t.Context(), owner.OrganizationID)
	if err != nil {
		t.Fatal(err)
	}
	next := o
	for n := range 997 {
		i := o.Invitations[0]
		i.ID, i.Email = fmt.Sprint(n), fmt.Sprintf("%d@acme.test", n)
		next.Invitations = append(next.Invitations, i)
	}
	if ok, err := f.Store.ReplaceOrganization(t.Context(), o, next); err != nil || !ok {
		t.Fatal(ok, err)
	}
	_, err = f.Invite(t.Context(), owner, org.InviteRequest{Email: "more@acme.test", Role: "member"})
	wantReason(t, "one more", err, org.TooManyMembers)
	f.mustInvite(t, owner, "7@acme.test", org.RoleMember) // in place of another one
	ids := map[string]bool{}
	for after, more := "", true; more; {
		var page []org.Invitation
		page, more, err = f.Invitations(t.Context(), owner, after, 100)
		if err != nil || len(page) == 0 || len(page) > 100 {
			t.Fatalf("page of %d, %v", len(page), err)
		}
		for _, i := range page {
			ids[i.ID] = true
		}
		after = page[len(page)-1].ID
	}
	if len(ids) != 998 {
		t.Errorf("the pages have %d invitations", len(ids))
	}
}

// TestMemberRoles lets each role do to each other what roles permit.
func TestMemberRoles(t *testing.T) {
	t.Parallel()
	roles := []org.Role{org.RoleOwner, org.RoleAdmin, org.RoleMember}
	f, _, owner, _ := withMail(t)
	for _, role := range roles {
		for _, of := range roles {
			o, err := f.Store.Organization(t.Context(), owner.OrganizationID)
			if err != nil {
				t.Fatal(err)
			}
			next := o
			next.Admins = []org.Member{{AdminID: owner.AdminID, Role: role}, {AdminID: f.Store.NewID(), Role: of}, {AdminID: f.Store.NewID(), Role: org.RoleOwner}}
			other := org.Admin{ID: next.Admins[1].AdminID, OrganizationID: o.ID, Organizations: []string{o.ID}, Email: other(role, of), TokenVersion: 1, Revision: 1}
			if ok, err := f.Store.ReplaceOrganization(t.Context(), o, next); err != nil || !ok {
				t.Fatal(ok, err)
			}
			if err := f.Store.InsertAdmin(t.Context(), other); err != nil {
				t.Fatal(err)
			}
			for what, do := range map[string]struct {
				act       func() error
				permitted bool
			}{
				"1 invite as": {func() error {
					i, err := f.Invite(t.Context(), owner, org.InviteRequest{Email: "x" + other.Email, Role: string(of)})
					if err == nil {
						err = f.Withdraw(t.Context(), owner, i.ID)
					}
					return err
				}, role == org.RoleOwner || role == org.RoleAdmin && of != org.RoleOwner},
				"2 change the role of": {func() error {
					m, err := f.ChangeRole(t.Context(), owner, other.ID, org.RoleRequest{Role: string(of)})
					if err == nil && (m.Role != of || m.Email != other.Email) {
						t.Errorf("the member is %+v", m)
					}
					return err
				}, role == org.RoleOwner},
			} {
				err := do.act()
				if do.permitted && err != nil || !do.permitted && reasonOf(err) != org.RoleForbids {
					t.Errorf("%s: %s %s: %v", role, what, of, err)
				}
			}
			err = f.RemoveMember(t.Context(), owner, other.ID)
			permitted := role == org.RoleOwner || role == org.RoleAdmin && of != org.RoleOwner
			if permitted && err != nil || !permitted && reasonOf(err) != org.RoleForbids {
				t.Errorf("%s: remove %s: %v", role, of, err)
			}
			if _, err := f.Store.Admin(t.Context(), other.ID); permitted != errors.Is(err, org.ErrNotFound) {
				t.Errorf("%s: remove %s, and the record: %v", role, of, err)
			}
		}
	}
}

func other(role, of org.Role) string { return string(role) + "-" + string(of) + "@acme.test" }

// TestLeave lets members leave. The last owner can't, nor become less.
func TestLeave(t *testing.T) {
	t.Parallel()
	f, post, owner, _ := withMail(t)
	wantReason(t, "the only owner leaves", f.RemoveMember(t.Context(), owner, owner.AdminID), org.LastOwner)
	_, err := f.ChangeRole(t.Context(), owner, owner.AdminID, org.RoleRequest{Role: "member"})
	wantReason(t, "the only owner becomes a member", err, org.LastOwner)
	_, err = f.ChangeRole(t.Context(), owner, owner.AdminID, org.RoleRequest{Role: "king"})
	wantFields(t, err, "role")
	_, err = f.ChangeRole(t.Context(), owner, "nobody", org.RoleRequest{Role: "member"})
	wantReason(t, "nobody becomes a member", err, org.MemberNotFound)
	wantReason(t, "nobody is removed", f.RemoveMember(t.Context(), owner, "nobody"), org.MemberNotFound)

	f.mustCreate(t, "Bolt Ltd", "bob@bolt.test")
	f.mustInvite(t, owner, "bob@bolt.test", org.RoleMember)
	m := post.last(t, 1)
	bob := f.mustAccept(t, m, adminPassword)
	if err := f.RemoveMember(t.Context(), bob, bob.AdminID); err != nil {
		t.Fatal(err)
	}
	f.wantTokenInvalid(t, bob)
	if c := f.mustLogin(t, "bob@bolt.test", adminPassword); c.OrganizationID == owner.OrganizationID {
		t.Error("who has left logs in to the organization")
	}

	// Invited again, with the token of before.
	f.mustInvite(t, owner, "bob@bolt.test", org.RoleOwner)
	again := f.mustAccept(t, post.last(t, 2), adminPassword)
	f.wantTokenInvalid(t, bob)
	if err := f.RemoveMember(t.Context(), owner, owner.AdminID); err != nil { // there is another owner now
		t.Fatal(err)
	}
	_, err = f.Login(t.Context(), org.LoginRequest{Email: "owner@acme.test", Password: adminPassword})
	wantReason(t, "who was in no other organization", err, org.WrongCredentials)
	f.mustCreate(t, "Core Ltd", "owner@acme.test") // the email is free
	f.wantTokenValid(t, again, "Acme Ltd")
	f.wantNoFindings(t)
}

// TestInvitationsOfOrganization counts the invitations of an organization, also those
// that are refused.
func TestInvitationsOfOrganization(t *testing.T) {
	t.Parallel()
	f, _, owner, _ := withMail(t)
	for n := range 101 {
		want := org.AlreadyMember
		if n == 100 {
			want = org.TooManyMails
		}
		_, err := f.Invite(t.Context(), owner, org.InviteRequest{Email: "owner@acme.test", Role: "member"})
		wantReason(t, fmt.Sprint("invitation ", n+1), err, want)
	}
}
