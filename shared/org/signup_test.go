package org_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"orgservice/shared/org"
)

// signUpByMail asks for an organization and returns the mail, the nth in all.
func (f *fixture) signUpByMail(t *testing.T, post *letters, n int, name, email string) org.Mail {
	t.Helper()
	o, err := f.Create(t.Context(), org.CreateRequest{OrganizationName: name, Email: email, Password: "Stranger@123"})
	if err != nil || o.ID != "" {
		t.Fatalf("%+v, %v; want no organization yet", o, err)
	}
	m := post.last(t, n)
	if m.Kind != org.SignUpMail || m.To != email || m.Organization != name || m.ValidFor != 24*time.Hour {
		t.Errorf("mailed %+v", m)
	}
	return m
}

// TestVerifiedSignUp signs up where an email must be proved first.
func TestVerifiedSignUp(t *testing.T) {
	t.Parallel()
	f, post, owner, ahead := withMail(t)
	f.SignUps.Verified = true
	accept := func(m org.Mail, password string) error {
		_, err := f.Accept(t.Context(), org.AcceptRequest{Ticket: m.Ticket, Password: password})
		return err
	}

	// Before the mail is answered, nothing is there and nothing is reserved.
	before := f.snapshot(t)
	first := f.signUpByMail(t, post, 1, "Bolt", "ann@example.com")
	if err := f.db.Client.Database(f.db.Name).Collection("tickets").Drop(t.Context()); err != nil {
		t.Fatal(err)
	}
	delete(before, "tickets")
	f.wantSame(t, before)
	if err := accept(first, "Ann's own 1"); reasonOf(err) != org.TicketInvalid {
		t.Errorf("without a ticket: %v", err)
	}
	first = f.signUpByMail(t, post, 2, "Bolt", "ann@example.com")
	second := f.signUpByMail(t, post, 3, "Bolt", "bob@example.com")

	// Whoever answers it chooses the password.
	if err := accept(second, "short"); reasonOf(err) != org.InvalidFields {
		t.Errorf("a short password: %v", err)
	}
	if err := accept(second, "bob@example.com"); reasonOf(err) != org.InvalidFields {
		t.Errorf("the email as password: %v", err)
	}
	if err := accept(second, "Bob's own 1"); err != nil {
		t.Fatal(err)
	}
	bob := f.mustLogin(t, "bob@example.com", "Bob's own 1")
	if a, o, err := f.Me(t.Context(), bob); err != nil || !a.Verified() || o.Name != "Bolt" || o.Role(a.ID) != org.RoleOwner {
		t.Errorf("%+v of %+v, %v", a, o, err)
	}
	if _, err := f.Login(t.Context(), org.LoginRequest{Email: "bob@example.com", Password: "Stranger@123"}); reasonOf(err) != org.WrongCredentials {
		t.Errorf("with the password of who has asked: %v", err)
	}
	if err := accept(second, "Bob's own 1"); reasonOf(err) != org.TicketInvalid {
		t.Errorf("used twice: %v", err)
	}
	// Who was slower finds the name taken, and can ask for another one.
	if err := accept(first, "Ann's own 1"); reasonOf(err) != org.NameTaken {
		t.Errorf("the name is taken: %v", err)
	}
	if _, err := f.Login(t.Context(), org.LoginRequest{Email: "ann@example.com", Password: "Ann's own 1"}); reasonOf(err) != org.WrongCredentials {
		t.Errorf("without an organization: %v", err)
	}
	if _, err := f.Create(t.Context(), org.CreateRequest{OrganizationName: "BOLT", Email: "ann@example.com", Password: "Stranger@123"}); reasonOf(err) != org.NameTaken {
		t.Errorf("asked for a name that is taken: %v", err)
	}

	// Who has an account gets the same mail and the same answer, and needs its password.
	third := f.signUpByMail(t, post, 4, "Core", "owner@acme.test")
	if err := accept(third, "Stranger@123"); reasonOf(err) != org.WrongCredentials {
		t.Errorf("with another password: %v", err)
	}
	if err := accept(third, adminPassword); err != nil {
		t.Fatal(err)
	}
	again := f.mustLogin(t, "owner@acme.test", adminPassword)
	if a, o, err := f.Me(t.Context(), again); err != nil || a.ID != owner.AdminID || !a.Verified() || o.Name != "Core" {
		t.Errorf("%+v of %+v, %v", a, o, err)
	}

	// A ticket is good for a day, as long as anybody may sign up and there is a place.
	fourth := f.signUpByMail(t, post, 5, "Dune", "cid@example.com")
	f.SignUps.MostOrganizations = 3
	if err := accept(fourth, "Cid's own 1"); reasonOf(err) != org.TooManyOrganizations {
		t.Errorf("without a place: %v", err)
	}
	f.SignUps = org.SignUps{Closed: true}
	if err := accept(fourth, "Cid's own 1"); reasonOf(err) != org.SignUpClosed {
		t.Errorf("closed meanwhile: %v", err)
	}
	f.SignUps = org.SignUps{}
	ahead(24 * time.Hour)
	if err := accept(fourth, "Cid's own 1"); reasonOf(err) != org.TicketInvalid {
		t.Errorf("a day later: %v", err)
	}
	if _, err := f.Get(t.Context(), "Dune"); !errors.Is(err, org.ErrNotFound) {
		t.Error(err)
	}
}

// TestInviteOwner lets an operator set up organizations where nobody may sign up.
func TestInviteOwner(t *testing.T) {
	t.Parallel()
	f, post, _, _ := withMail(t)
	f.SignUps.Closed = true
	var logged bytes.Buffer
	f.Log = slog.New(slog.NewJSONHandler(&logged, nil))
	invite := func(name, email string) error {
		return f.InviteOwner(t.Context(), "olivia", org.OwnerRequest{OrganizationName: name, Email: email})
	}
	accept := func(n int, password string) error {
		_, err := f.Accept(t.Context(), org.AcceptRequest{Ticket: post.sent[n].Ticket, Password: password})
		return err
	}
	began := len(post.sent)
	for _, err := range []error{invite("Bolt", "bob@example.com"), invite("Core", "owner@acme.test")} {
		if err != nil {
			t.Fatal(err)
		}
	}
	wantFields(t, invite("-", "nobody"), "organization_name", "email")
	if n := strings.Count(logged.String(), `"act":"invite-owner","by":"olivia"`); n != 2 {
		t.Errorf("%d acts in the log: %s", n, &logged)
	}
	for _, private := range []string{"bob@", "owner@", "bolt", "core"} {
		if strings.Contains(strings.ToLower(logged.String()), private) {
			t.Errorf("the log holds %q: %s", private, &logged)
		}
	}
	if n := len(post.sent) - began; n != 2 || post.sent[began].To != "bob@example.com" || post.sent[began].Organization != "Bolt" || post.sent[began].Kind != org.SignUpMail {
		t.Fatalf("%d mails: %+v", n, post.sent[began:])
	}
	if err := accept(began, "Bob's own 1"); err != nil {
		t.Error(err)
	}
	if err := accept(began, "Bob's own 1"); reasonOf(err) != org.TicketInvalid {
		t.Errorf("used twice: %v", err)
	}
	if err := accept(began+1, "Stranger@123"); reasonOf(err) != org.WrongCredentials {
		t.Errorf("with another password than the account's: %v", err)
	}
	f.SignUps.MostOrganizations = 2
	if err := accept(began+1, adminPassword); reasonOf(err) != org.TooManyOrganizations {
		t.Errorf("without a place: %v", err)
	}
	f.SignUps.MostOrganizations = 3
	if err := accept(began+1, adminPassword); err != nil {
		t.Error(err)
	}
	for _, o := range [][2]string{{"Bolt", "bob@example.com"}, {"Core", "owner@acme.test"}} {
		a, found, err := f.Me(t.Context(), f.mustLogin(t, o[1], map[bool]string{true: adminPassword, false: "Bob's own 1"}[o[0] == "Core"]))
		if err != nil || found.Name != o[0] || found.Role(a.ID) != org.RoleOwner || !a.Verified() {
			t.Errorf("%+v of %+v, %v", a, found, err)
		}
	}
	if err := invite("BOLT", "cid@example.com"); reasonOf(err) != org.NameTaken {
		t.Errorf("a name that is taken: %v", err)
	}
	if _, err := f.Create(t.Context(), org.CreateRequest{OrganizationName: "Dune", Email: "cid@example.com", Password: "Cid's own 1"}); reasonOf(err) != org.SignUpClosed {
		t.Errorf("without an operator: %v", err)
	}
	for n := range 6 {
		if err, want := invite("Dune", "cid@example.com"), map[bool]org.Reason{true: org.TooManyMails}[n == 5]; reasonOf(err) != want {
			t.Errorf("%d: %v", n, err)
		}
	}
	f.Mailer = nil
	if err := invite("Dune", "dan@example.com"); reasonOf(err) != org.MailUnavailable {
		t.Errorf("without a mailer: %v", err)
	}
}

// TestVerifiedSignUpTells checks that who asks sees no difference between an email with an
// account, also one of an older version, and one without, and how often one may ask.
func TestVerifiedSignUpTells(t *testing.T) {
	t.Parallel()
	f, _, _, _ := withMail(t)
	f.SignUps.Verified = true
	f.insertOldNamed(t, "Munich", "kate@xn--mnchen-3ya.de")
	var commands [][]string
	for _, email := range []string{"owner@acme.test", "nobody@acme.test", "kate@münchen.de"} {
		f.reset()
		for n := range 6 {
			_, err := f.Create(t.Context(), org.CreateRequest{OrganizationName: "Bolt", Email: email, Password: "Stranger@123", ClientAddress: "192.0.2.1"})
			if want := map[bool]org.Reason{true: org.TooManyMails}[n == 5]; reasonOf(err) != want {
				t.Errorf("%s, %d: %v", email, n, err)
			}
		}
		f.mu.Lock()
		commands = append(commands, f.commands)
		if len(f.costs) > 0 {
			t.Errorf("%s: %d passwords were compared", email, len(f.costs))
		}
		f.mu.Unlock()
	}
	if len(commands[0]) != len(commands[1]) || len(commands[2]) != len(commands[1]) {
		t.Errorf("%d and %d commands for who has an account, %d for others", len(commands[0]), len(commands[2]), len(commands[1]))
	}
	for n := range 31 { // from one address to many
		_, err := f.Create(t.Context(), org.CreateRequest{
			OrganizationName: "Bolt", Email: fmt.Sprintf("nobody%d@acme.test", n), Password: "Stranger@123", ClientAddress: "192.0.2.2",
		})
		if want := map[bool]org.Reason{true: org.TooManyMails}[n == 30]; reasonOf(err) != want {
			t.Errorf("mail %d from there: %v", n+1, err)
		}
	}
	f.Mailer = nil
	if _, err := f.Create(t.Context(), org.CreateRequest{OrganizationName: "Bolt", Email: "a@example.com", Password: "Stranger@123"}); reasonOf(err) != org.MailUnavailable {
		t.Errorf("without a mailer: %v", err)
	}
}

// TestVerifiedSignUpOfAdmins checks that an admin whose email is not confirmed can't create one
// more organization where an email must be proved first.
func TestVerifiedSignUpOfAdmins(t *testing.T) {
	f, post, owner, _ := withMail(t)
	f.SignUps.Verified = true
	add := func(name string) error {
		_, err := f.CreateOrganization(t.Context(), owner, org.CreateOrganizationRequest{OrganizationName: name})
		return err
	}
	if err := add("Bolt"); reasonOf(err) != org.EmailUnverified {
		t.Errorf("%v", err)
	}
	if err := f.Verify(t.Context(), org.VerifyRequest{Ticket: post.confirmations[0].Ticket}); err != nil {
		t.Fatal(err)
	}
	if err := add("Bolt"); err != nil {
		t.Error(err)
	}
}

// TestSignUpMailLeft checks that Reconcile mails what could not be mailed.
func TestSignUpMailLeft(t *testing.T) {
	t.Parallel()
	f, post, _, ahead := withMail(t)
	f.SignUps.Verified = true
	post.err = errors.New("down")
	if _, err := f.Create(t.Context(), org.CreateRequest{OrganizationName: "Bolt", Email: "ann@example.com", Password: "Stranger@123"}); err != nil {
		t.Fatal(err)
	}
	post.err = nil
	ahead(2 * org.StaleAfter)
	if _, err := f.Reconcile(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	m := post.last(t, 1)
	if m.Kind != org.SignUpMail || m.Organization != "Bolt" {
		t.Errorf("mailed %+v", m)
	}
	if _, err := f.Accept(t.Context(), org.AcceptRequest{Ticket: m.Ticket, Password: "Ann's own 1"}); err != nil {
		t.Error(err)
	}
}

// TestScriptFinishesTwice finishes a sign-up while another process does the same, at each call
// to the database. There must be one organization with one admin, of whom nothing is lost.
func TestScriptFinishesTwice(t *testing.T) {
	for _, email := range []string{"d@x.test", "a@x.test"} {
		for at, done := 1, false; !done; at++ {
			runScript(t, true, func(s *sim) {
				setActive(t, s)
				op := s.finishSignUpOp("core", email)
				other := *op
				n := 0
				first := s.runHooked(op, 0, func(c *call) bool {
					if c.kind == operationEnd {
						return false
					}
					if n++; n == at {
						s.meanwhile(func() {
							if err := s.runHooked(&other, 0, nil); err != nil && !errors.Is(err, org.ErrConflict) && !errors.Is(err, org.ErrUnauthenticated) {
								t.Errorf("%s, at call %d: the other one: %v", email, at, err)
							}
						})
					}
					return false
				})
				if first != nil && !errors.Is(first, org.ErrConflict) && !errors.Is(first, org.ErrUnauthenticated) {
					t.Errorf("%s, at call %d: %v", email, at, first)
				}
				done = n < at
				if o := s.named("core"); o.Status != org.Active || len(o.Admins) != 1 {
					t.Errorf("%s, at call %d: %+v", email, at, o)
				}
				if found := s.durable.findAdmins(func(a org.Admin) bool { return a.Email == email }); len(found) != 1 {
					t.Errorf("%s, at call %d: %d admins", email, at, len(found))
				}
				s.repairAndCheck()
			})
			if at > 100 || t.Failed() {
				t.Fatal("it makes no end")
			}
		}
	}
}

// TestScriptInviteOwnerUnavailable makes each call of an invitation to own an organization fail until
// the ticket is there. No mail is sent then, and nothing logged that was not done.
func TestScriptInviteOwnerUnavailable(t *testing.T) {
	failed := 0
	for n, done := 1, false; !done; n++ {
		runScript(t, true, func(s *sim) {
			calls := 0
			s.trace.Reset()
			err := s.runHooked(&operation{kind: "Invite", run: func(ctx context.Context, service *org.Service) error {
				return service.InviteOwner(ctx, "olivia", org.OwnerRequest{OrganizationName: "Acme", Email: "a@x.test"})
			}}, 0, func(c *call) bool {
				calls++
				done = done || c.method == "InsertTicket" && calls == n
				return calls == n && s.fail(c, unsent)
			})
			if logged := strings.Contains(s.trace.String(), "an operator acts"); !errors.Is(err, org.ErrUnavailable) || len(s.mails) > 0 || logged {
				t.Errorf("call %d fails: answered %v, %d mails, logged %v", n, err, len(s.mails), logged)
			}
			failed++
		})
		if n > 20 {
			t.Fatal("there is no ticket")
		}
	}
	if failed < 3 {
		t.Errorf("%d calls", failed)
	}
}

// TestScriptFinishesAfterNewPassword finishes a sign-up by an admin who changes the password
// meanwhile: the proof of the old one is worth nothing then.
func TestScriptFinishesAfterNewPassword(t *testing.T) {
	runScript(t, true, func(s *sim) {
		setActive(t, s)
		err := s.runHooked(s.finishSignUpOp("core", "a@x.test"), 0, once("InsertOrganization", func() {
			s.meanwhile(func() { s.mustRun(t, s.changeAcme("", "", "password new")) })
		}))
		if reasonOf(err) != org.OrganizationBusy {
			t.Errorf("%v; want that it is busy", err)
		}
		s.repairAndCheck()
		if o := s.named("core"); o.ID != "" {
			t.Errorf("left: %+v", o)
		}
	})
}
