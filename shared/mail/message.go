package mail

import (
	"crypto/rand"
	"errors"
	"fmt"
	"html"
	"net/mail"
	"net/url"
	"strings"
	"time"
	"unicode"

	gomail "github.com/wneessen/go-mail"
	"golang.org/x/net/idna"
	"golang.org/x/text/unicode/norm"

	"orgservice/shared/org"
)

// content is what a mail says. All of it is plain text.
type content struct {
	subject string
	why     string // the mail was sent
	action  string // what the link does
	link    string
	note    string // what else there is to know
}

// write returns the message of a mail.
func (s *Mailer) write(m org.Mail) (*gomail.Msg, error) {
	c, err := s.content(m)
	if err != nil {
		return nil, err
	}
	to, err := recipient(m.To)
	if err != nil {
		return nil, err
	}
	message := gomail.NewMsg(gomail.WithNoDefaultUserAgent())
	message.FromMailAddress(&s.from)
	message.ToMailAddress(to)
	message.Subject(c.subject)
	message.SetMessageIDWithValue(rand.Text() + "@" + domain(s.from.Address))
	// Nobody who is on holiday answers it (RFC 3834).
	message.SetGenHeader("Auto-Submitted", "auto-generated")
	message.SetBodyString(gomail.TypeTextPlain, c.text())
	message.AddAlternativeString(gomail.TypeTextHTML, c.html())
	return message, nil
}

// recipient parses the address of a mail. It takes only what is nothing but an address.
func recipient(s string) (*mail.Address, error) {
	a, err := mail.ParseAddress(s)
	if err != nil || a.Name != "" || a.Address != s {
		return nil, errors.New("the recipient is not an email address")
	}
	// In this form every server takes it, also without SMTPUTF8 (RFC 6531).
	if ascii, err := idna.Lookup.ToASCII(domain(s)); err == nil {
		a.Address = strings.TrimSuffix(s, domain(s)) + ascii
	}
	return a, nil
}

// domain returns what is behind the @ of an address.
func domain(address string) string { return address[strings.LastIndexByte(address, '@')+1:] }

func (s *Mailer) content(m org.Mail) (c content, err error) {
	if m.Ticket == "" {
		return c, errors.New("there is no ticket")
	}
	var path string
	switch m.Kind {
	case org.InvitationMail:
		path = "accept-invitation"
		name := shown(m.Organization)
		c.subject = "Invitation to " + name
		c.why = "You are invited to join the organization " + name + "."
		if m.Role != "" {
			c.why += " Your role there will be " + string(m.Role) + "."
		}
		c.action = "Accept the invitation"
	case org.SignUpMail:
		path = "finish-sign-up"
		c.subject = "Finish your sign-up"
		c.why = "Somebody asked to sign up the organization " + shown(m.Organization) + " with this email address."
		c.action = "Create it and choose the password"
	case org.ResetMail:
		path = "reset-password"
		c.subject = "Reset your password"
		c.why = "Somebody asked for a new password for the account with this email address."
		c.action = "Choose a new password"
	case org.VerificationMail:
		path = "verify-email"
		c.subject = "Confirm your email address"
		c.why = "Somebody entered this email address as that of an account."
		c.action = "Confirm that it is yours"
	default:
		return c, errors.New("there is no such kind")
	}
	link := s.app.JoinPath(path)
	link.RawQuery = "ticket=" + url.QueryEscape(m.Ticket)
	c.link = link.String()
	c.note = "The link is valid for " + duration(m.ValidFor) + ". If you did not expect this mail, ignore it."
	return c, nil
}

func (c content) text() string {
	return c.why + "\n\n" + c.action + ":\n" + c.link + "\n\n" + c.note + "\n"
}

// html does without a template, which would keep the linker from leaving out methods
// that nothing calls.
func (c content) html() string {
	e := html.EscapeString
	return `<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"><title>` + e(c.subject) + `</title></head>
<body>
<p>` + e(c.why) + `</p>
<p><a href="` + e(c.link) + `">` + e(c.action) + `</a></p>
<p>` + e(c.note) + `</p>
</body>
</html>
`
}

// duration says in words how long a link is valid: at most as long as it is.
func duration(d time.Duration) string {
	const day = 24 * time.Hour
	switch {
	case d >= 2*day:
		return fmt.Sprintf("%d days", d/day)
	case d >= 2*time.Hour:
		return fmt.Sprintf("%d hours", d/time.Hour)
	case d >= 2*time.Minute:
		return fmt.Sprintf("%d minutes", d/time.Minute)
	}
	return "a minute"
}

// maxShown is the most characters of a name in a mail, which is as long as a name may be.
const maxShown = 100

// shown returns the name of an organization in quotes, as mails show it.
//
// Anybody can make an organization and invite any address to it, so its name is a
// stranger's text in a mail that we have signed, such as "Win at http://evil.example".
// The name can't be refused, because Booking.com is one. But mail programs make a link
// of whatever looks like an address, and people trust a link in our mail. So a space
// goes behind what such an address can't do without: a dot, a colon or an @. The name
// stays readable and is no link. It is always in quotes and holds no quotation mark, so
// that it can't seem to end and go on as our text.
func shown(name string) string {
	// In NFKC there are not several kinds of dots and colons.
	runes := []rune(strings.Join(strings.FieldsFunc(norm.NFKC.String(name), func(r rune) bool {
		return unicode.IsSpace(r) || unicode.IsControl(r)
	}), " "))
	if len(runes) > maxShown {
		runes = append(runes[:maxShown], '…')
	}
	var b strings.Builder
	b.WriteByte('"')
	for i, r := range runes {
		switch {
		case unicode.Is(unicode.Bidi_Control, r):
			continue
		case unicode.Is(unicode.Quotation_Mark, r):
			r = '\''
		}
		b.WriteRune(r)
		last := i == len(runes)-1
		if strings.ContainsRune(".:@。", r) && !last && runes[i+1] != ' ' {
			b.WriteByte(' ')
		}
	}
	b.WriteByte('"')
	// A mail program would decode an encoded word, which could hold all of this.
	return strings.ReplaceAll(b.String(), "=?", "= ?")
}
