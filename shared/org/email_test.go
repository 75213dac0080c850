package org_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"orgservice/shared/org"
)

func TestEmail(t *testing.T) {
	local := strings.Repeat("a", 64)
	long := func(n int) string { // an address of n bytes
		return local + "@" + strings.Repeat("b", n-len(local)-len("@")-len(".com")) + ".com"
	}
	for _, tt := range []struct {
		name, email string
		ok          bool
	}{
		{"OK", "admin@example.com", true},
		{"upper case", "Admin@Example.COM", true},
		{"plus and dots", "first.last+tag@mail.example.co.uk", true},
		{"apostrophe", "o'brien@example.com", true},
		{"letters of other scripts", "админ@пример.рф", true},
		{"domain in ASCII", "admin@xn--e1afmkfd.xn--p1ai", true},
		{"domain that is none in ASCII", "admin@xn--a.com", false},
		{"domain with an invisible character", "admin@exam\u200bple.com", false},
		{"domain with a soft hyphen", "admin@exam\u00adple.com", false},
		{"domain with two dots once it is mapped", "admin@example。.com", false},
		{"domain that ends with a dot once it is mapped", "admin@example.com。", false},
		{"domain with a space once it is mapped", "admin@example\u00a8.com", false},
		{"invisible character", "ad\u200dmin@example.com", false},
		{"variation selector", "admin\ufe0f@example.com", false},
		{"I with a dot", "İda@example.com", false},
		{"I with a dot, decomposed", "I\u0307da@example.com", false},
		{"I with a dot in the domain, decomposed", "ida@I\u0307o.com", false},
		{"short IP address", "ida@127.1", false},
		{"hexadecimal IP address", "ida@0x7f.1", false},
		{"IP address as a number", "ida@2130706433", false},
		{"numeric top-level domain", "ida@example.123", false},
		{"top-level domain 9", "ida@example.9", false},
		{"digit in the domain", "ida@1and1.com", true},
		{"no-break space inside", "i\u00a0da@example.com", false},
		{"ideographic space inside", "i\u3000da@example.com", false},
		{"blank of Braille", "ida\u2800@example.com", false},
		{"private use", "ida\ue000@example.com", false},
		{"noncharacter", "ida\ufffe@example.com", false},
		{"so many marks that Unicode breaks them", "a" + strings.Repeat("\u0301", 35) + "@example.com", false},
		{"emoji", "i🚀da@example.com", true},
		{"I with a dot in the domain", "ida@gİthub.com", false},
		{"IPv4 literal", "admin@[127.0.0.1]", false},
		{"IPv6 literal", "admin@[IPv6:::1]", false},
		{"IP address", "admin@127.0.0.1", false},
		{"IP address once it is mapped", "admin@１２７。0。0。1", false},
		{"no dot in the domain", "admin@localhost", true},
		{"254 bytes", long(254), true},
		{"255 bytes", long(255), false},
		{"255 bytes or more once it is in letters", "a@" + strings.Repeat("xn--l8jaaa.", 22) + "com", false},
		{"empty", "", false},
		{"no @", "admin.example.com", false},
		{"no local part", "@example.com", false},
		{"no domain", "admin@", false},
		{"two @", "admin@one@example.com", false},
		{"two dots", "a..b@example.com", false},
		{"display name", "Admin <admin@example.com>", false},
		{"angle brackets", "<admin@example.com>", false},
		{"quotes without need", `"admin"@example.com`, false},
		{"comment", "admin@example.com (Admin)", false},
		{"two addresses", "admin@example.com, root@example.com", false},
		{"white space around", " \t\u00a0admin@example.com\u3000\r\n", true},
		{"254 bytes and white space", " " + long(254) + " ", true},
		{"only white space", " \u3000", false},
		{"white space inside", "ad min@example.com", false},
		{"line end", "admin@example.com\r\nBcc: all@example.com", false},
		{"NUL", "admin\x00@example.com", false},
		{"right-to-left override", "admin\u202e@example.com", false},
		{"malformed", "admin\xff@example.com", false},
		{"replacement character", "admin\ufffd@example.com", false},
		{"operator", `{"$ne": null}`, false},
		{"pattern", ".*", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := org.CreateRequest{OrganizationName: "Acme", Email: tt.email, Password: "Admin@123"}
			var fields []string
			for _, f := range r.Validate() {
				fields = append(fields, f.Field)
			}
			var want []string
			if !tt.ok {
				want = []string{"email"}
			}
			if diff := cmp.Diff(want, fields); diff != "" {
				t.Errorf("wrong fields (-want +got):\n%s", diff)
			}
		})
	}
}

// TestEmailForms checks that one address has one account, whatever its spelling, and that no
// other address reaches it.
func TestEmailForms(t *testing.T) {
	t.Parallel()
	f, post, _, _ := withMail(t)
	const email = "kate@münchen.de"
	f.mustCreate(t, "Munich", "Kate@Mu\u0308nchen.de")
	caller := f.mustLogin(t, email, adminPassword)
	if a, err := f.Store.Admin(t.Context(), caller.AdminID); err != nil || a.Email != email {
		t.Errorf("stored as %q, %v", a.Email, err)
	}
	for i, spelling := range []string{
		email, "KATE@MÜNCHEN.DE", "kate@xn--mnchen-3ya.de", "kate@XN--MNCHEN-3YA.de", "\u212aate@münchen\uff0ede", "kate@ｍünchen。de",
	} {
		f.mustLogin(t, spelling, adminPassword)
		_, err := f.Create(t.Context(), org.CreateRequest{OrganizationName: fmt.Sprint("Other ", i), Email: spelling, Password: adminPassword})
		if reasonOf(err) != org.EmailTaken {
			t.Errorf("%+q signs up: %v", spelling, err)
		}
		if i < 4 {
			if err := f.Forgot(t.Context(), org.ForgotRequest{Email: spelling}); err != nil {
				t.Fatal(err)
			}
			if m := post.last(t, i+1); m.To != email {
				t.Errorf("%+q: a mail to %q", spelling, m.To)
			}
		}
	}
	// The lower case of these is not in NFC.
	for i, spellings := range [][]string{{"J\u030can@example.com", "\u01f0an@example.com"}, {"\u03aa\u0301da@example.com", "\u0390da@example.com"}} {
		f.mustCreate(t, fmt.Sprint("Forms ", i), spellings[0])
		for _, spelling := range spellings {
			caller := f.mustLogin(t, spelling, adminPassword)
			if a, err := f.Store.Admin(t.Context(), caller.AdminID); err != nil || a.Email != strings.ToLower(spellings[1]) {
				t.Errorf("stored as %+q, %v", a.Email, err)
			}
		}
		_, err := f.Create(t.Context(), org.CreateRequest{OrganizationName: "Another", Email: spellings[1], Password: adminPassword})
		if reasonOf(err) != org.EmailTaken {
			t.Errorf("%+q signs up: %v", spellings[1], err)
		}
	}
	f.mustCreate(t, "Dots", "ida@github.com")
	for _, spelling := range []string{"ıda@github.com", "ida@gıthub.com", "ida@gi\u0307thub.com", "id\u0430@github.com", "kate@munchen.de", "kate@muenchen.de"} {
		if _, err := f.Login(t.Context(), org.LoginRequest{Email: spelling, Password: adminPassword}); reasonOf(err) != org.WrongCredentials {
			t.Errorf("%+q: %v", spelling, err)
		}
	}
}

// TestUpgradeEmailForms logs in to an account whose address an older version stored with a
// domain in ASCII, and mails it a new password.
func TestUpgradeEmailForms(t *testing.T) {
	t.Parallel()
	f, post, _, _ := withMail(t)
	const older = "kate@xn--mnchen-3ya.de"
	id := f.insertOldNamed(t, "Munich", older).admin.Hex()
	for _, spelling := range []string{older, strings.ToUpper(older), "kate@münchen.de"} {
		if got := f.mustLogin(t, spelling, adminPassword).AdminID; got != id {
			t.Errorf("logged in as %s", got)
		}
		_, err := f.Create(t.Context(), org.CreateRequest{OrganizationName: "Other", Email: spelling, Password: adminPassword})
		if reasonOf(err) != org.EmailTaken {
			t.Errorf("%s signs up: %v", spelling, err)
		}
	}
	if err := f.Forgot(t.Context(), org.ForgotRequest{Email: older}); err != nil {
		t.Fatal(err)
	}
	if err := f.Reset(t.Context(), org.ResetRequest{Ticket: post.last(t, 1).Ticket, Password: "another of them"}); err != nil {
		t.Fatal(err)
	}
	f.mustLogin(t, older, "another of them")
}
