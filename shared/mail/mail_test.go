package mail_test

import (
	"bytes"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	netmail "net/mail"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"orgservice/local/mailbox"
	"orgservice/shared/config"
	"orgservice/shared/mail"
	"orgservice/shared/org"
	"orgservice/shared/wire"
)

const (
	testTicket   = "t1cket+/=&?#%-of-a-test"
	testUser     = "the-user"
	testPassword = "hunter2hunter2"
)

var testMail = org.Mail{
	Kind: org.InvitationMail, To: "new@example.com", Organization: "Acme", Role: org.RoleMember,
	Ticket: testTicket, ValidFor: 7 * 24 * time.Hour,
}

// settings returns those of vars, and of an app and a sender if vars has none.
func settings(t testing.TB, vars map[string]string) config.Mail {
	t.Helper()
	env := func(name string) string {
		if value, ok := vars[name]; ok {
			return value
		}
		return map[string]string{"MAIL_FROM": "Grüße <no-reply@example.org>", "APP_URL": "https://app.example.org"}[name]
	}
	s, err := config.Env(env).Mail(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// newMailbox returns a mailbox and the mails that arrive.
func newMailbox(t testing.TB) (*mailbox.Server, <-chan mailbox.Mail) {
	t.Helper()
	arrived := make(chan mailbox.Mail, 100)
	box, err := mailbox.Start(t.TempDir(), func(m mailbox.Mail) { arrived <- m })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(box.Close)
	return box, arrived
}

// message is a mail as a mail program reads it.
type message struct {
	header  map[string]string // without those that differ each time
	subject string
	text    string
	html    string
}

var boundary = regexp.MustCompile(`^multipart/alternative; boundary=[0-9a-f]+$`)

// parse returns the message in raw, which must be one of RFC 5322 with a text and an
// HTML part.
func parse(t testing.TB, raw []byte) message {
	t.Helper()
	for line := range bytes.SplitSeq(raw, []byte("\r\n")) {
		if len(line) > 998 || bytes.ContainsAny(line, "\r\n\x00") || bytes.ContainsFunc(line, func(r rune) bool { return r > '~' }) {
			t.Errorf("the line %q is too long or not ASCII", line)
		}
	}
	received, err := netmail.ReadMessage(bytes.NewReader(raw))
	if err != nil {
		t.Fatalf("%v in %q", err, raw)
	}
	m := message{header: map[string]string{}}
	for name, values := range received.Header {
		m.header[name] = strings.Join(values, "\n")
	}
	if _, err := netmail.ParseDate(m.header["Date"]); err != nil {
		t.Errorf("date: %v", err)
	}
	if id := m.header["Message-Id"]; !regexp.MustCompile(`^<[A-Z2-7]{26}@example\.org>$`).MatchString(id) {
		t.Errorf("Message-Id = %q", id)
	}
	contentType := m.header["Content-Type"]
	if !boundary.MatchString(contentType) {
		t.Fatalf("Content-Type = %q", contentType)
	}
	for _, name := range []string{"Date", "Message-Id", "Content-Type"} {
		delete(m.header, name)
	}
	if m.subject, err = new(mime.WordDecoder).DecodeHeader(m.header["Subject"]); err != nil {
		t.Errorf("subject %q: %v", m.header["Subject"], err)
	}
	delete(m.header, "Subject")
	_, parameters, err := mime.ParseMediaType(contentType)
	if err != nil {
		t.Fatal(err)
	}
	var kinds []string
	for parts := multipart.NewReader(received.Body, parameters["boundary"]); ; {
		part, err := parts.NextPart()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(part)
		if err != nil {
			t.Fatal(err)
		}
		kinds = append(kinds, part.Header.Get("Content-Type"))
		if len(kinds) == 1 {
			m.text = strings.ReplaceAll(string(content), "\r\n", "\n")
		} else {
			m.html = strings.ReplaceAll(string(content), "\r\n", "\n")
		}
	}
	if diff := cmp.Diff([]string{"text/plain; charset=UTF-8", "text/html; charset=UTF-8"}, kinds); diff != "" {
		t.Fatalf("parts (-want +got):\n%s", diff)
	}
	return m
}

// sent sends the mail to a mailbox, by a mailer with the variables, and returns it as
// it arrives.
func sent(t testing.TB, vars map[string]string, m org.Mail) (message, mailbox.Mail) {
	t.Helper()
	box, arrived := newMailbox(t)
	all := map[string]string{"SMTP_URL": box.URL()}
	for name, value := range vars {
		all[name] = value
	}
	if err := mail.New(settings(t, all)).Send(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	got := <-arrived
	raw, err := os.ReadFile(got.Path)
	if err != nil {
		t.Fatal(err)
	}
	return parse(t, raw), got
}

func TestSend(t *testing.T) {
	const query = "?ticket=t1cket%2B%2F%3D%26%3F%23%25-of-a-test"
	for _, tt := range []struct {
		mail org.Mail
		want message
	}{
		{testMail, message{
			subject: `Invitation to "Acme"`,
			text: `You are invited to join the organization "Acme". Your role there will be member.

Accept the invitation:
https://app.example.org/accept-invitation` + query + `

The link is valid for 7 days. If you did not expect this mail, ignore it.
`,
			html: `<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"><title>Invitation to &#34;Acme&#34;</title></head>
<body>
<p>You are invited to join the organization &#34;Acme&#34;. Your role there will be member.</p>
<p><a href="https://app.example.org/accept-invitation` + query + `">Accept the invitation</a></p>
<p>The link is valid for 7 days. If you did not expect this mail, ignore it.</p>
</body>
</html>
`}},
		{org.Mail{Kind: org.ResetMail, To: "new@example.com", Ticket: testTicket, ValidFor: time.Hour}, message{
			subject: "Reset your password",
			text: `Somebody asked for a new password for the account with this email address.

Choose a new password:
https://app.example.org/reset-password` + query + `

The link is valid for 60 minutes. If you did not expect this mail, ignore it.
`,
			html: `<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"><title>Reset your password</title></head>
<body>
<p>Somebody asked for a new password for the account with this email address.</p>
<p><a href="https://app.example.org/reset-password` + query + `">Choose a new password</a></p>
<p>The link is valid for 60 minutes. If you did not expect this mail, ignore it.</p>
</body>
</html>
`}},
		{org.Mail{Kind: org.VerificationMail, To: "new@example.com", Ticket: testTicket, ValidFor: 24 * time.Hour}, message{
			subject: "Confirm your email address",
			text: `Somebody entered this email address as that of an account.

Confirm that it is yours:
https://app.example.org/verify-email` + query + `

The link is valid for 24 hours. If you did not expect this mail, ignore it.
`,
			html: `<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"><title>Confirm your email address</title></head>
<body>
<p>Somebody entered this email address as that of an account.</p>
<p><a href="https://app.example.org/verify-email` + query + `">Confirm that it is yours</a></p>
<p>The link is valid for 24 hours. If you did not expect this mail, ignore it.</p>
</body>
</html>
`}},
	} {
		t.Run(string(tt.mail.Kind), func(t *testing.T) {
			got, arrived := sent(t, nil, tt.mail)
			tt.want.header = wantHeader
			if diff := cmp.Diff(tt.want, got, cmp.AllowUnexported(message{})); diff != "" {
				t.Errorf("message (-want +got):\n%s", diff)
			}
			if !slices.Equal(arrived.To, []string{"new@example.com"}) {
				t.Errorf("it was sent to %q", arrived.To)
			}
		})
	}
}

// wantHeader are all headers of each mail, without those that parse has checked.
var wantHeader = map[string]string{
	"Auto-Submitted": "auto-generated",
	"From":           "=?utf-8?q?Gr=C3=BC=C3=9Fe?= <no-reply@example.org>",
	"Mime-Version":   "1.0",
	"To":             "<new@example.com>",
}

func TestSendManyAtOnce(t *testing.T) {
	box, arrived := newMailbox(t)
	mailer := mail.New(settings(t, map[string]string{"SMTP_URL": box.URL()}))
	const n = 20
	errs := make(chan error, n)
	want := map[string]bool{}
	for i := range n {
		m := testMail
		m.To = fmt.Sprintf("p%d@example.com", i)
		want[m.To] = true
		go func() { errs <- mailer.Send(t.Context(), m) }()
	}
	for range n {
		if err := <-errs; err != nil {
			t.Fatal(err)
		}
	}
	got := map[string]bool{}
	for range n {
		got[(<-arrived).To[0]] = true
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("recipients (-want +got):\n%s", diff)
	}
}

// Names are strangers' text.
func TestNames(t *testing.T) {
	for _, tt := range []struct{ name, want string }{
		{"Acme", "Acme"},
		{"Acme, Inc.", "Acme, Inc."},
		{"AC/DC & Söhne", "AC/DC & Söhne"},
		{"株式会社 東京", "株式会社 東京"},
		{"O'Neill’s", "O'Neill's"},
		{"Booking.com", "Booking. com"},
		{"Win at http://evil.example", "Win at http: //evil. example"},
		{"www.evil.example", "www. evil. example"},
		{"evil．example", "evil. example"},
		{"evil。example", "evil。 example"},
		{"evil․example", "evil. example"}, // a one dot leader
		{"me@evil.example", "me@ evil. example"},
		{"mailto:me", "mailto: me"},
		{`Acme" and sent by "Bank`, "Acme' and sent by 'Bank"},
		{"Acme” and „Bank", "Acme' and 'Bank"},
		{"</p><script>alert(1)</script>", "</p><script>alert(1)</script>"},
		{`"><a href="//evil">`, "'><a href='//evil'>"},
		{"Acme\r\nBcc: a@b.example\r\n\r\nbody", "Acme Bcc: a@ b. example body"},
		{"Acme\n\nYou have won\u2028\u2029\u0085\x00.", "Acme You have won ."},
		{"=?utf-8?q?=0D=0ABcc:_a?=", "= ?utf-8?q?=0D=0ABcc: _a?="},
		{"a\u202Eb\u2066c\u200Fd", "abcd"},
		{"bad \xff\xfe", "bad \ufffd\ufffd"},
		{strings.Repeat("ß", 100), strings.Repeat("ß", 100)},
		{strings.Repeat("ß", 101), strings.Repeat("ß", 100) + "…"},
		{strings.Repeat("x", 100), strings.Repeat("x", 100)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := testMail
			m.Organization = tt.name
			got, arrived := sent(t, nil, m)
			if diff := cmp.Diff(wantHeader, got.header); diff != "" {
				t.Errorf("header (-want +got):\n%s", diff)
			}
			if got.subject != `Invitation to "`+tt.want+`"` {
				t.Errorf("subject = %q, want the name %q", got.subject, tt.want)
			}
			checkNamed(t, got, tt.want)
			if link := "https://app.example.org/accept-invitation?"; !strings.HasPrefix(arrived.Link, link) {
				t.Errorf("the first link is %q", arrived.Link)
			}
			m.Kind = org.SignUpMail
			got, _ = sent(t, nil, m)
			if want := `Somebody asked to sign up the organization "` + tt.want + `" with this email address.` + "\n"; !strings.HasPrefix(got.text, want) {
				t.Errorf("the text of a sign-up begins with %.200q, want %q", got.text, want)
			}
		})
	}
}

// checkNamed checks the parts of an invitation of the organization that is shown as
// name.
func checkNamed(t testing.TB, m message, name string) {
	t.Helper()
	before, _, _ := strings.Cut(m.text, "\n\nAccept the invitation:\nhttps://app.example.org/")
	if want := `You are invited to join the organization "` + name + `". Your role there will be member.`; before != want {
		t.Errorf("text begins with %q, want %q", before, want)
	}
	if n := strings.Count(m.html, "<"); n != 18 {
		t.Errorf("%d tags in\n%s", n, m.html)
	}
	if n := strings.Count(m.html, "<a "); n != 1 {
		t.Errorf("%d links in\n%s", n, m.html)
	}
}

// TestDomains checks that the domain of a recipient is one for every mail server.
func TestDomains(t *testing.T) {
	m := testMail
	for _, m.To = range []string{"kate@münchen.de", "kate@xn--mnchen-3ya.de"} {
		got, arrived := sent(t, nil, m)
		if want := []string{"kate@xn--mnchen-3ya.de"}; !slices.Equal(arrived.To, want) || got.header["To"] != "<"+want[0]+">" {
			t.Errorf("%s: to %q, in the header %q", m.To, arrived.To, got.header["To"])
		}
	}
}

func TestLinks(t *testing.T) {
	for _, tt := range []struct{ app, want string }{
		{"https://app.example.org", "https://app.example.org/accept-invitation?ticket=x"},
		{"https://app.example.org/", "https://app.example.org/accept-invitation?ticket=x"},
		{"https://example.org/the%20app/v1/", "https://example.org/the%20app/v1/accept-invitation?ticket=x"},
		{"http://127.0.0.1:3000", "http://127.0.0.1:3000/accept-invitation?ticket=x"},
		{"http://[::1]:3000/app", "http://[::1]:3000/app/accept-invitation?ticket=x"},
	} {
		t.Run(tt.app, func(t *testing.T) {
			m := testMail
			m.Ticket = "x"
			got, arrived := sent(t, map[string]string{"APP_URL": tt.app}, m)
			if arrived.Link != tt.want {
				t.Errorf("link = %q, want %q", arrived.Link, tt.want)
			}
			if !strings.Contains(got.html, `<a href="`+tt.want+`">`) {
				t.Errorf("HTML has another link than %q:\n%s", tt.want, got.html)
			}
		})
	}
}

func TestValidFor(t *testing.T) {
	for d, want := range map[time.Duration]string{
		14 * 24 * time.Hour:          "14 days",
		3*24*time.Hour - time.Second: "2 days",
		48 * time.Hour:               "2 days",
		48*time.Hour - time.Second:   "47 hours",
		24 * time.Hour:               "24 hours",
		2 * time.Hour:                "2 hours",
		90 * time.Minute:             "90 minutes",
		2 * time.Minute:              "2 minutes",
		119 * time.Second:            "a minute",
	} {
		m := testMail
		m.ValidFor = d
		got, _ := sent(t, nil, m)
		if !strings.Contains(got.text, "\nThe link is valid for "+want+". ") {
			t.Errorf("%v: want %s in\n%s", d, want, got.text)
		}
	}
}

func TestWithoutRole(t *testing.T) {
	m := testMail
	m.Role = ""
	got, _ := sent(t, nil, m)
	if want := "You are invited to join the organization \"Acme\".\n\n"; !strings.HasPrefix(got.text, want) {
		t.Errorf("text: %q", got.text)
	}
}

func TestSendErr(t *testing.T) {
	box, arrived := newMailbox(t)
	mailer := mail.New(settings(t, map[string]string{"SMTP_URL": box.URL()}))
	for _, tt := range []struct {
		name   string
		change func(*org.Mail)
		want   string
	}{
		{"no kind", func(m *org.Mail) { m.Kind = "" }, `mail of kind "": there is no such kind`},
		{"unknown kind", func(m *org.Mail) { m.Kind = "x\n" }, `mail of kind "x\n": there is no such kind`},
		{"no ticket", func(m *org.Mail) { m.Ticket = "" }, `mail of kind "invitation": there is no ticket`},
		{"no recipient", func(m *org.Mail) { m.To = "" }, `mail of kind "invitation": the recipient is not an email address`},
		{"recipient with a name", func(m *org.Mail) { m.To = "A <a@example.com>" }, `mail of kind "invitation": the recipient is not an email address`},
		{"two recipients", func(m *org.Mail) { m.To = "a@example.com, b@example.com" }, `mail of kind "invitation": the recipient is not an email address`},
		{"line break", func(m *org.Mail) { m.To = "a@example.com\r\nBcc: b@example.com" }, `mail of kind "invitation": the recipient is not an email address`},
		{"folded", func(m *org.Mail) { m.To = "\"a\r\n b\"@example.com" }, `mail of kind "invitation": the recipient is not an email address`},
		{"smuggled", func(m *org.Mail) { m.To = `"a@example.com> b"@example.com` }, `mail of kind "invitation": the recipient is not an email address`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := testMail
			tt.change(&m)
			if err := mailer.Send(t.Context(), m); err == nil || err.Error() != tt.want {
				t.Errorf("Send: %v, want %s", err, tt.want)
			}
		})
	}
	box.Close()
	if len(arrived) > 0 {
		t.Errorf("a mail was sent: %v", <-arrived)
	}
}

func TestNeed(t *testing.T) {
	var need wire.Need = mail.Need
	vars := map[string]string{
		"MAIL_FROM": "no-reply@example.org", "APP_URL": "https://app.example.org", "SMTP_URL": "smtp://127.0.0.1:1",
	}
	read := map[string]bool{}
	env := func(name string) string {
		read[name] = true
		return vars[name]
	}
	s := &org.Service{}
	if err := need(t.Context(), env, s); err != nil || s.Mailer == nil {
		t.Fatalf("Mailer = %v, %v", s.Mailer, err)
	}
	if diff := cmp.Diff(map[string]bool{"MAIL_FROM": true, "APP_URL": true, "SMTP_URL": true}, read); diff != "" {
		t.Errorf("variables (-want +read):\n%s", diff)
	}
	vars["APP_URL"] = ""
	s = &org.Service{}
	if err := need(t.Context(), env, s); err == nil || err.Error() != "APP_URL: is not set" || s.Mailer != nil {
		t.Errorf("Mailer = %v, %v", s.Mailer, err)
	}
	vars["MAIL_FROM"] = ""
	s = &org.Service{}
	if err := need(t.Context(), env, s); err != nil || s.Mailer != nil {
		t.Errorf("without a sender: Mailer = %v, %v", s.Mailer, err)
	}
	s.VerifiedOnly = true
	if err := need(t.Context(), env, s); err == nil || !strings.HasPrefix(err.Error(), "MAIL_FROM: ") {
		t.Errorf("without a sender, where emails must be verified: %v", err)
	}
}
