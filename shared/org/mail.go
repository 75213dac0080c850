package org

import (
	"context"
	"errors"
	"time"
)

// Mail is a message to one address, with the text of a ticket.
type Mail struct {
	Kind         MailKind
	To           string
	Organization string        // its name; of an invitation and of a sign-up
	Role         Role          // of an invitation
	Ticket       string        // a secret
	ValidFor     time.Duration // of the ticket
}

// MailKind says what a mail is about.
type MailKind string

// The kinds of mails.
const (
	InvitationMail   MailKind = "invitation"
	ResetMail        MailKind = "reset"
	VerificationMail MailKind = "verification"
	SignUpMail       MailKind = "sign-up"
)

// ErrUndeliverable is the error of a mail that the server refuses for good, such as
// one to an address that does not exist.
var ErrUndeliverable = errors.New("undeliverable")

// Mailer writes and sends mail. It may be called concurrently.
type Mailer interface {
	// Send sends the mail. If it returns an error other than ErrUndeliverable, the
	// mail may have been sent even so.
	Send(ctx context.Context, m Mail) error
}
