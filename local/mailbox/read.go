package mailbox

import (
	"bytes"
	"io"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net/mail"
	"net/textproto"
	"regexp"
	"strings"
	"unicode"
)

// Mail is a mail that has arrived. Its texts can be printed: they have no control
// characters.
type Mail struct {
	To      []string
	Subject string
	Link    string // the first one in its plain text, or ""
	Path    string // of its file
}

// String returns a line about the mail for a log.
func (m Mail) String() string {
	line := "mail to " + printable(strings.Join(m.To, ", ")) + ": " + m.Subject
	if m.Link != "" {
		line += ": " + m.Link
	}
	return line
}

var link = regexp.MustCompile(`https?://[^\s<>"]+`)

// read reads what a line about the mail says. What it can't read is missing.
func read(content []byte) Mail {
	message, err := mail.ReadMessage(bytes.NewReader(content))
	if err != nil {
		return Mail{}
	}
	subject := message.Header.Get("Subject")
	if decoded, err := new(mime.WordDecoder).DecodeHeader(subject); err == nil {
		subject = decoded
	}
	text := plainText(textproto.MIMEHeader(message.Header), message.Body)
	return Mail{Subject: printable(subject), Link: printable(link.FindString(text))}
}

// plainText returns the text of a mail, or of its first part that is plain text.
func plainText(header textproto.MIMEHeader, body io.Reader) string {
	kind, parameters, _ := mime.ParseMediaType(header.Get("Content-Type"))
	if strings.HasPrefix(kind, "multipart/") {
		for parts := multipart.NewReader(body, parameters["boundary"]); ; {
			// It decodes quoted-printable.
			part, err := parts.NextPart()
			if err != nil {
				return ""
			}
			if strings.HasPrefix(part.Header.Get("Content-Type"), "text/plain") {
				text, _ := io.ReadAll(part)
				return string(text)
			}
		}
	}
	if strings.EqualFold(header.Get("Content-Transfer-Encoding"), "quoted-printable") {
		body = quotedprintable.NewReader(body)
	}
	text, _ := io.ReadAll(body)
	return string(text)
}

// printable replaces what could control a terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return '�'
	}, s)
}
