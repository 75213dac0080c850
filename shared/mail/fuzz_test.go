package mail_test

import (
	"bytes"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"orgservice/shared/mail"
)

// linkLike is what mail programs make links of.
var linkLike = regexp.MustCompile(`(?i)://\S|[\p{L}\p{N}][.．。｡]\S|@\S|:\S`)

// FuzzMessage checks that whatever the names, ticket and address are, the message is
// valid, has the headers that it should have and one link.
func FuzzMessage(f *testing.F) {
	for _, name := range []string{"Acme", "Grüße", "a\r\nBcc: b@example.com", "=?utf-8?q?x?=", `"><a href="http://evil.example">`, "x\xff", strings.Repeat("名", 100), strings.Repeat("x ", 400)} {
		f.Add(name, "ticket", "new@example.com")
	}
	f.Add("Acme", "\r\n\r\n&<>\"", "größe@example.com")
	f.Add("Acme", "t", "\"a\r\nBcc: b\"@example.com")
	f.Fuzz(func(t *testing.T, name, ticket, to string) {
		m := testMail
		m.Organization, m.Ticket, m.To = name, ticket, to
		raw, err := mail.Write(settings(t, map[string]string{"SMTP_URL": "smtp://127.0.0.1:1"}), m)
		if err != nil {
			return // of the ticket or the address
		}
		if strings.ContainsFunc(to, func(r rune) bool { return r > '~' }) {
			raw = bytes.ReplaceAll(raw, []byte(to), []byte("new@example.com")) // SMTPUTF8 allows it
			to = "new@example.com"
		}
		got := parse(t, raw)
		want := map[string]string{}
		for header, value := range wantHeader {
			want[header] = value
		}
		want["To"] = "<" + to + ">"
		if diff := cmp.Diff(want, got.header); diff != "" {
			t.Errorf("header (-want +got):\n%s", diff)
		}
		shown, ok := strings.CutPrefix(got.subject, `Invitation to "`)
		shown, ok2 := strings.CutSuffix(shown, `"`)
		if !ok || !ok2 || strings.Contains(shown, `"`) {
			t.Fatalf("subject = %q", got.subject)
		}
		if l := linkLike.FindString(shown); l != "" {
			t.Errorf("%q in the name %q", l, shown)
		}
		checkNamed(t, got, shown)
		link := "https://app.example.org/accept-invitation?ticket=" + url.QueryEscape(ticket)
		if !strings.Contains(got.text, "\n"+link+"\n") || !strings.Contains(got.html, `<a href="`+link+`">`) {
			t.Errorf("the link %s is missing in\n%s\n%s", link, got.text, got.html)
		}
	})
}
