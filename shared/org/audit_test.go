package org_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"orgservice/shared/org"
)

// TestLogins checks what the log says of logins and of those that are refused: who and from
// where, but nothing secret, and no email that somebody has typed.
func TestLogins(t *testing.T) {
	t.Parallel()
	f, post, caller, _ := withMail(t)
	f.mustCreate(t, "Bolt", "guest@bolt.test")
	guest := f.mustLogin(t, "guest@bolt.test", adminPassword)
	f.mustInvite(t, caller, "guest@bolt.test", org.RoleMember)
	ticket := post.last(t, 1).Ticket
	var logged bytes.Buffer
	f.Log = slog.New(slog.NewJSONHandler(&logged, nil))

	const address, typed = "192.0.2.1", "MyPassword1@acme.test"
	login := func(email, password string) func() error {
		return func() error {
			_, err := f.Login(t.Context(), org.LoginRequest{Email: email, Password: password, ClientAddress: address})
			return err
		}
	}
	accept := func(password string) func() error {
		return func() error {
			_, err := f.Accept(t.Context(), org.AcceptRequest{Ticket: ticket, Password: password, ClientAddress: address})
			return err
		}
	}
	signUp := func() error {
		_, err := f.Create(t.Context(), org.CreateRequest{OrganizationName: "New", Email: "new@acme.test", Password: adminPassword, ClientAddress: address})
		return err
	}
	pseudonym := f.Tokens.Pseudonym(strings.ToLower(typed))
	owner := map[string]any{"admin_id": caller.AdminID, "organization_id": caller.OrganizationID}
	unknown := map[string]any{"email_pseudonym": pseudonym}
	tooMany := func() error {
		for range 20 {
			if err := login(typed, "wrong password")(); err == nil {
				t.Fatal("logged in")
			}
		}
		logged.Reset()
		return login(typed, "wrong password")()
	}
	for _, tt := range []struct {
		name   string
		do     func() error
		msg    string
		reason org.Reason
		who    map[string]any
	}{
		{"sign-up", signUp, "signed up", "", nil},
		{"login", login("Owner@acme.test", adminPassword), "logged in", "", owner},
		{"wrong password", login("owner@acme.test", "wrong password"), "login refused", org.WrongCredentials, owner},
		{"unknown email", login(typed, "wrong password"), "login refused", org.WrongCredentials, unknown},
		{"too many", tooMany, "login refused", org.TooManyAttempts, unknown},
		{"acceptance with a wrong password", accept("wrong password"), "login refused", org.WrongCredentials,
			map[string]any{"admin_id": guest.AdminID, "organization_id": guest.OrganizationID}},
		{"acceptance", accept(adminPassword), "logged in", "", map[string]any{"admin_id": guest.AdminID, "organization_id": caller.OrganizationID}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			logged.Reset()
			if err := tt.do(); (err == nil) != (tt.reason == "") {
				t.Fatal(err)
			}
			var line map[string]any
			if err := json.Unmarshal(logged.Bytes(), &line); err != nil {
				t.Fatalf("%v, want one line: %s", err, &logged)
			}
			if id, _ := line["session_id"].(string); (id != "") != (tt.msg == "logged in") {
				t.Errorf("session %q", id)
			}
			if tt.msg == "signed up" { // nobody knows the ids before
				admin, err := f.Store.Admin(t.Context(), fmt.Sprint(line["admin_id"]))
				if err != nil || admin.OrganizationID != line["organization_id"] {
					t.Errorf("%s is %+v, %v", &logged, admin, err)
				}
				delete(line, "admin_id")
				delete(line, "organization_id")
			}
			want := map[string]any{"level": "INFO", "msg": tt.msg, "source_ip": address}
			for name, value := range tt.who {
				want[name] = value
			}
			if tt.reason != "" {
				want["reason"] = string(tt.reason)
			}
			delete(line, "time")
			delete(line, "session_id")
			if diff := cmp.Diff(want, line); diff != "" {
				t.Errorf("line (-want +got):\n%s", diff)
			}
			for _, secret := range []string{"owner@", "guest@", "new@", "mypassword", "wrong password", adminPassword, ticket} {
				if strings.Contains(strings.ToLower(logged.String()), strings.ToLower(secret)) {
					t.Errorf("the log holds %q: %s", secret, &logged)
				}
			}
		})
	}
}

// TestReportHoldsNoSecret checks that a report that holds records of organizations and
// admins can be printed in any way.
func TestReportHoldsNoSecret(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.mustCreate(t, "Acme", "owner@acme.test")
	admin := f.mustLogin(t, "owner@acme.test", adminPassword)
	record, err := f.Store.Admin(t.Context(), admin.AdminID)
	if err != nil {
		t.Fatal(err)
	}
	o, err := f.Store.Organization(t.Context(), admin.OrganizationID)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Store.DeleteOrganization(t.Context(), o.ID, o.Revision); err != nil {
		t.Fatal(err)
	}
	f.Now = func() time.Time { return time.Now().Add(time.Hour) }
	report, err := f.Reconcile(t.Context(), true)
	if err != nil {
		t.Fatal(err)
	}
	if len(report.Removed)+len(report.Repaired)+len(report.NeedsAttention) == 0 {
		t.Fatalf("nothing was found: %v", report)
	}
	var text, inJSON bytes.Buffer
	slog.New(slog.NewTextHandler(&text, nil)).Info("x", "report", report)
	slog.New(slog.NewJSONHandler(&inJSON, nil)).Info("x", "report", report)
	for name, printed := range map[string]string{
		"text": text.String(), "JSON": inJSON.String(),
		"%v": fmt.Sprintf("%v", report), "%+v": fmt.Sprintf("%+v", report), "%#v": fmt.Sprintf("%#v", report),
	} {
		if !strings.Contains(printed, admin.AdminID) {
			t.Errorf("%s does not hold the finding: %s", name, printed)
		}
		for _, secret := range []string{record.PasswordHash, record.Email} {
			if strings.Contains(printed, secret) {
				t.Errorf("%s holds %q: %s", name, secret, printed)
			}
		}
	}
}
