package org_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"golang.org/x/text/unicode/norm"

	"orgservice/shared/org"
)

// TestLongPassword checks that a password of the most characters, in Unicode's form NFC, can be
// given in another form, too.
func TestLongPassword(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	composed := strings.Repeat("\u1ea5\u1ec7\u1ed9\u1eed", 32)
	decomposed := norm.NFD.String(composed)
	if _, err := f.Create(t.Context(), org.CreateRequest{OrganizationName: "Acme", Email: "a@example.com", Password: decomposed}); err != nil {
		t.Fatal(err)
	}
	for _, password := range []string{composed, decomposed} {
		caller := f.mustLogin(t, "a@example.com", password)
		if _, err := f.Update(t.Context(), caller, org.UpdateRequest{Password: new(decomposed), CurrentPassword: &password}); err != nil {
			t.Error(err)
		}
	}
	for _, password := range []string{composed + "\u1ea5", norm.NFD.String(composed + "\u1ea5")} {
		if _, err := f.Login(t.Context(), org.LoginRequest{Email: "a@example.com", Password: password}); !errors.Is(err, org.ErrInvalid) {
			t.Errorf("129 characters: %v", err)
		}
	}
}

// TestPasswordRules checks that every way to set a password keeps to the rules of the
// service, and that nothing depends on an answer of the corpus.
func TestPasswordRules(t *testing.T) {
	t.Parallel()
	f, post, owner, _ := withMail(t)
	f.mustInvite(t, owner, "guest@acme.test", org.RoleMember)
	invitation := post.last(t, 1).Ticket
	if err := f.Forgot(t.Context(), org.ForgotRequest{Email: "owner@acme.test"}); err != nil {
		t.Fatal(err)
	}
	reset := post.last(t, 2).Ticket
	if err := f.InviteOwner(t.Context(), "olivia", org.OwnerRequest{OrganizationName: "Bolt", Email: "bob@example.com"}); err != nil {
		t.Fatal(err)
	}
	signUp := post.last(t, 3).Ticket
	f.PasswordRules = org.PasswordRules{MinRunes: 13, Breached: func(_ context.Context, password string) (bool, error) {
		return password != "a good password", map[string]error{"an unanswered one": errors.New("no answer")}[password]
	}}
	current := adminPassword
	ways := map[string]func(password string) error{
		"create": func(password string) error {
			_, err := f.Create(t.Context(), org.CreateRequest{OrganizationName: "New " + password, Email: "new@example.com", Password: password})
			return err
		},
		"update": func(password string) error {
			_, err := f.Update(t.Context(), owner, org.UpdateRequest{Password: &password, CurrentPassword: &current})
			return err
		},
		"accept": func(password string) error {
			_, err := f.Accept(t.Context(), org.AcceptRequest{Ticket: invitation, Password: password})
			return err
		},
		"finish the sign-up": func(password string) error {
			_, err := f.Accept(t.Context(), org.AcceptRequest{Ticket: signUp, Password: password})
			return err
		},
		"reset": func(password string) error {
			return f.Reset(t.Context(), org.ResetRequest{Ticket: reset, Password: password})
		},
	}
	for name, set := range ways {
		for password, want := range map[string]string{
			"Twelve chars":        "must have at least 13 characters",
			"Twelve cha\u0308rs":  "must have at least 13 characters", // ä is one
			"a breached password": "is known from a breach of some service: choose another one",
		} {
			var e *org.Error
			if err := set(password); !errors.As(err, &e) || e.Kind != org.Invalid || len(e.Fields) != 1 || e.Fields[0] != (org.FieldError{Field: "password", Message: want}) {
				t.Errorf("%s %q: %v; want the password to be refused, because it %s", name, password, err, want)
			}
		}
	}
	if _, err := f.Get(t.Context(), "New Twelve chars"); !errors.Is(err, org.ErrNotFound) {
		t.Errorf("a refused sign-up: %v", err)
	}
	// An update makes the ticket for a new password void.
	for _, name := range []string{"create", "accept", "finish the sign-up", "reset"} {
		if err := ways[name]("an unanswered one"); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	current = "an unanswered one"
	owner = f.mustLogin(t, "owner@acme.test", current)
	if err := ways["update"]("a good password"); err != nil {
		t.Error(err)
	}
	f.mustLogin(t, "owner@acme.test", "a good password")
}
