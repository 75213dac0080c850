package org

import (
	"context"
	"time"
)

// Mail is a message to one address, with the text of a ticket.
type Mail struct {
	Kind         MailKind
	To           string
	Organization string        // its name; of an invitation
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
)

// Mailer writes and sends mail. It may be called concurrently.
type Mailer interface {
	Send(ctx context.Context, m Mail) error
}
