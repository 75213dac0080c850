package org_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"orgservice/shared/auth"
	"orgservice/shared/org"
)

// confirmation returns the last mail to verify an email, after which there have been n.
func (l *letters) confirmation(t *testing.T, n int) org.Mail {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.confirmations) != n {
		t.Fatalf("%d mails to verify an email were sent, want %d: %v", len(l.confirmations), n, l.confirmations)
	}
	return l.confirmations[n-1]
}

// wantVerified fails the test unless Me and a new token say so.
func (f *fixture) wantVerified(t *testing.T, email, password string, want bool) auth.Caller {
	t.Helper()
	c := f.mustLogin(t, email, password)
	if a, _, err := f.Me(t.Context(), c); err != nil || a.Verified() != want || c.EmailVerified != want {
		t.Errorf("%s is verified: %v, and its token says %v, %v; want %v", email, a.Verified(), c.EmailVerified, err, want)
	}
	return c
}

func TestVerify(t *testing.T) {
	t.Parallel()
	f, post, owner, ahead := withMail(t)
	m := post.confirmation(t, 1)
	if m.Kind != org.VerificationMail || m.To != "owner@acme.test" || m.ValidFor.Round(time.Hour) != 24*time.Hour {
		t.Errorf("mail %+v", m)
	}
	wantFields(t, f.Verify(t.Context(), org.VerifyRequest{}), "ticket")
	for _, ticket := range []string{"x", auth.NewOpaqueToken(auth.NewOpaqueID()).Text(), m.Ticket[:40] + m.To} {
		wantReason(t, ticket, f.Verify(t.Context(), org.VerifyRequest{Ticket: ticket}), org.TicketInvalid)
	}
	wantReason(t, "reset", f.Reset(t.Context(), org.ResetRequest{Ticket: m.Ticket, Password: "Better@123"}), org.TicketInvalid)
	f.wantVerified(t, "owner@acme.test", adminPassword, false)
	if err := f.SendVerification(t.Context(), owner, ""); err != nil {
		t.Fatal(err)
	}
	again := post.confirmation(t, 2)
	if err := f.Verify(t.Context(), org.VerifyRequest{Ticket: m.Ticket}); err != nil {
		t.Fatal(err)
	}
	f.wantTokenValid(t, owner, "Acme Ltd")
	f.wantVerified(t, "owner@acme.test", adminPassword, true)
	wantReason(t, "a second use", f.Verify(t.Context(), org.VerifyRequest{Ticket: m.Ticket}), org.TicketInvalid)
	wantReason(t, "one more mail", f.SendVerification(t.Context(), owner, ""), org.AlreadyVerified)
	if err := f.Verify(t.Context(), org.VerifyRequest{Ticket: again.Ticket}); err != nil { // it shows the same
		t.Error(err)
	}

	// Another email must be verified again, whether the organization changes, too, or not.
	for i, c := range []org.UpdateRequest{{Email: new("new@acme.test")}, {Email: new("newer@acme.test"), OrganizationName: new("Acme Inc")}} {
		c.CurrentPassword = new(adminPassword)
		if _, err := f.Update(t.Context(), owner, c); err != nil {
			t.Fatal(err)
		}
		m = post.confirmation(t, 3+i)
		if m.To != *c.Email {
			t.Errorf("a mail to %s", m.To)
		}
		owner = f.wantVerified(t, *c.Email, adminPassword, false)
		if err := f.Verify(t.Context(), org.VerifyRequest{Ticket: m.Ticket}); err != nil {
			t.Fatal(err)
		}
		f.wantVerified(t, *c.Email, adminPassword, true)
	}
	if _, err := f.Update(t.Context(), owner, org.UpdateRequest{OrganizationName: new("Acme"), Password: new(adminPassword + "!"), CurrentPassword: new(adminPassword)}); err != nil {
		t.Fatal(err)
	}
	post.confirmation(t, 4) // the email is the same

	// A ticket is for one email, and for a day. The email that was verified last stays so.
	for i, email := range []string{"last@acme.test", "newer@acme.test", "later@acme.test"} {
		owner = f.mustLogin(t, []string{"newer@acme.test", "last@acme.test", "newer@acme.test"}[i], adminPassword+"!")
		if _, err := f.Update(t.Context(), owner, org.UpdateRequest{Email: &email, CurrentPassword: new(adminPassword + "!")}); err != nil {
			t.Fatal(err)
		}
		f.wantVerified(t, email, adminPassword+"!", email == "newer@acme.test")
		m = post.confirmation(t, []int{5, 5, 6}[i])
		if want := []string{"last@acme.test", "last@acme.test", "later@acme.test"}[i]; m.To != want {
			t.Errorf("a mail to %s; want %s", m.To, want)
		}
		if email == "newer@acme.test" {
			wantReason(t, "of another email", f.Verify(t.Context(), org.VerifyRequest{Ticket: m.Ticket}), org.TicketInvalid)
		}
	}
	ahead(24 * time.Hour)
	wantReason(t, "a day later", f.Verify(t.Context(), org.VerifyRequest{Ticket: m.Ticket}), org.TicketInvalid)
	f.wantNoFindings(t)
}

// TestVerifiedByTicket verifies an email by other tickets that were mailed there.
func TestVerifiedByTicket(t *testing.T) {
	t.Parallel()
	f, post, owner, _ := withMail(t)
	f.mustCreate(t, "Bolt Ltd", "bob@bolt.test")
	f.mustInvite(t, owner, "ann@acme.test", org.RoleMember)
	f.mustAccept(t, post.last(t, 1), "Ann's own 1")
	f.wantVerified(t, "ann@acme.test", "Ann's own 1", true)
	f.mustInvite(t, owner, "bob@bolt.test", org.RoleMember)
	_, err := f.Accept(t.Context(), org.AcceptRequest{Ticket: post.last(t, 2).Ticket, Password: "wrong"})
	wantReason(t, "accept", err, org.WrongCredentials)
	f.wantVerified(t, "bob@bolt.test", adminPassword, false)
	if c := f.mustAccept(t, post.last(t, 2), adminPassword); !c.EmailVerified {
		t.Error("the token says that the email is not verified")
	}
	f.wantVerified(t, "bob@bolt.test", adminPassword, true)
	if err := f.Forgot(t.Context(), org.ForgotRequest{Email: "owner@acme.test"}); err != nil {
		t.Fatal(err)
	}
	if err := f.Reset(t.Context(), org.ResetRequest{Ticket: post.last(t, 3).Ticket, Password: "Better@123"}); err != nil {
		t.Fatal(err)
	}
	f.wantVerified(t, "owner@acme.test", "Better@123", true)
}

// TestVerifiedOnly refuses everything to who has not verified the email, except to
// verify it, to change it, and to delete the organization.
func TestVerifiedOnly(t *testing.T) {
	t.Parallel()
	f, post, owner, _ := withMail(t)
	f.VerifiedOnly = true
	password := new(adminPassword)
	may := func(c org.UpdateRequest) error {
		_, err := f.Update(t.Context(), owner, c)
		return err
	}
	for name, do := range map[string]func() error{
		"rename": func() error { return may(org.UpdateRequest{OrganizationName: new("Bolt")}) },
		"rename and email": func() error {
			return may(org.UpdateRequest{OrganizationName: new("Bolt"), Email: new("b@x.test"), CurrentPassword: password})
		},
		"members": func() error { _, _, err := f.Members(t.Context(), owner, "", 10); return err },
		"role": func() error {
			_, err := f.ChangeRole(t.Context(), owner, owner.AdminID, org.RoleRequest{Role: "owner"})
			return err
		},
		"remove": func() error { return f.RemoveMember(t.Context(), owner, owner.AdminID) },
		"invite": func() error {
			_, err := f.Invite(t.Context(), owner, org.InviteRequest{Email: "ann@acme.test", Role: "member"})
			return err
		},
		"invitations":   func() error { _, _, err := f.Invitations(t.Context(), owner, "", 10); return err },
		"withdraw":      func() error { return f.Withdraw(t.Context(), owner, "x") },
		"organizations": func() error { _, _, err := f.Memberships(t.Context(), owner, "", 10); return err },
		"one more": func() error {
			_, err := f.CreateOrganization(t.Context(), owner, org.CreateOrganizationRequest{OrganizationName: "Bolt"})
			return err
		},
		"switch": func() error {
			_, err := f.Switch(t.Context(), owner, org.SwitchRequest{OrganizationName: "Acme Ltd"})
			return err
		},
	} {
		wantReason(t, name, do(), org.EmailUnverified)
	}
	_, _, err := f.Sessions(t.Context(), owner, "", 10)
	for name, err := range map[string]error{
		"sessions": err, "end a session": f.EndSession(t.Context(), owner, "x"), "end others": f.EndOtherSessions(t.Context(), owner),
	} {
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := may(org.UpdateRequest{Email: new("right@acme.test"), CurrentPassword: password}); err != nil {
		t.Error(err)
	}
	owner = f.wantVerified(t, "right@acme.test", adminPassword, false)
	if err := f.SendVerification(t.Context(), owner, ""); err != nil {
		t.Error(err)
	}
	if err := f.Verify(t.Context(), org.VerifyRequest{Ticket: post.confirmation(t, 3).Ticket}); err != nil {
		t.Error(err)
	}
	if err := may(org.UpdateRequest{OrganizationName: new("Bolt")}); err != nil {
		t.Error(err)
	}
	f.mustCreate(t, "Core", "core@acme.test")
	if _, err := f.Delete(t.Context(), f.wantVerified(t, "core@acme.test", adminPassword, false), org.DeleteRequest{}); err != nil {
		t.Error(err)
	}
}

// TestVerificationMails sends only so many mails to an address, for one admin and for one
// client. A sign-up and a change do not depend on them.
func TestVerificationMails(t *testing.T) {
	t.Parallel()
	f, post, owner, ahead := withMail(t)
	for range 5 {
		if err := f.SendVerification(t.Context(), owner, ""); err != nil {
			t.Error(err)
		}
	}
	wantReason(t, "the sixth one more", f.SendVerification(t.Context(), owner, ""), org.TooManyMails)
	for n := range 6 { // all to the mailbox of the owner
		f.mustCreate(t, fmt.Sprint("Owner ", n), fmt.Sprintf("Owner+%d@acme.test", n))
	}
	post.confirmation(t, 1+5+4)
	wantReason(t, "one more to a subaddress", f.SendVerification(t.Context(), f.mustLogin(t, "owner+0@acme.test", adminPassword), ""), org.TooManyMails)

	// Nobody else's sign-ups, and nothing that is refused, keeps somebody from asking.
	for n := range 6 {
		f.mustCreate(t, fmt.Sprint("Zoe ", n), fmt.Sprintf("zoe+%d@acme.test", n))
	}
	f.mustCreate(t, "Zoe Ltd", "zoe@acme.test")
	zoe := f.mustLogin(t, "zoe@acme.test", adminPassword)
	for range 6 {
		_, err := f.Update(t.Context(), owner, org.UpdateRequest{Email: new("zoe@acme.test"), CurrentPassword: new(adminPassword)})
		wantReason(t, "a taken email", err, org.EmailTaken)
		_, err = f.Update(t.Context(), owner, org.UpdateRequest{Email: new("ann@acme.test"), CurrentPassword: new(adminPassword), OrganizationName: new("Zoe Ltd")})
		wantReason(t, "a taken name", err, org.NameTaken)
	}
	if err := f.SendVerification(t.Context(), zoe, ""); err != nil {
		t.Error(err)
	}
	f.mustCreate(t, "Ann Ltd", "ann@acme.test")
	if m := post.confirmation(t, 10+5+1+1); m.To != "ann@acme.test" {
		t.Errorf("a mail to %s", m.To)
	}

	// An admin, who has asked six times, gets four more at new emails.
	email := ""
	for n := range 5 {
		email = fmt.Sprintf("%d@acme.test", n)
		if _, err := f.Update(t.Context(), owner, org.UpdateRequest{Email: &email, CurrentPassword: new(adminPassword)}); err != nil {
			t.Fatal(err)
		}
		owner = f.mustLogin(t, email, adminPassword)
	}
	if m := post.confirmation(t, 17+4); m.To != "3@acme.test" {
		t.Errorf("a mail to %s", m.To)
	}
	for n := range 32 { // of one customer
		r := org.CreateRequest{OrganizationName: fmt.Sprint("Client ", n), Email: fmt.Sprintf("client%d@acme.test", n), Password: adminPassword, ClientAddress: fmt.Sprintf("2001:db8::%x", n)}
		if _, err := f.Create(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	post.confirmation(t, 21+30)
	client := f.mustLogin(t, "client0@acme.test", adminPassword)
	wantReason(t, "from there", f.SendVerification(t.Context(), client, "2001:db8::77"), org.TooManyMails)
	if err := f.SendVerification(t.Context(), client, "192.0.2.1"); err != nil {
		t.Error(err)
	}
	if _, err := f.Update(t.Context(), client, org.UpdateRequest{Email: new("client@acme.test"), CurrentPassword: new(adminPassword), ClientAddress: "2001:db8::1"}); err != nil {
		t.Error(err)
	}
	post.confirmation(t, 52)
	ahead(70 * time.Minute)
	if err := f.SendVerification(t.Context(), owner, ""); err != nil {
		t.Error(err)
	}
	f.Mailer = nil
	if err := f.SendVerification(t.Context(), owner, ""); reasonOf(err) != org.MailUnavailable || !errors.Is(err, org.ErrUnavailable) {
		t.Error(err)
	}
	f.mustCreate(t, "Core Ltd", "core@acme.test")
	f.wantNoFindings(t)
}

// TestVerificationLeft mails what a sign-up could not mail, and nothing of one that was
// refused.
func TestVerificationLeft(t *testing.T) {
	t.Parallel()
	f, post, _, ahead := withMail(t)
	post.err = errors.New("no route to host")
	f.mustCreate(t, "Bolt Ltd", "bob@bolt.test")
	post.err = nil
	_, err := f.Create(t.Context(), org.CreateRequest{OrganizationName: "Acme Ltd", Email: "other@acme.test", Password: adminPassword})
	wantReason(t, "a taken name", err, org.NameTaken)
	post.confirmation(t, 1)
	ahead(2 * org.StaleAfter)
	f.mustReconcile(t)
	m := post.confirmation(t, 2)
	if m.To != "bob@bolt.test" {
		t.Errorf("a mail to %s", m.To)
	}
	if err := f.Verify(t.Context(), org.VerifyRequest{Ticket: m.Ticket}); err != nil {
		t.Error(err)
	}
}
