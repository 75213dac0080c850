package org

import (
	"context"
	"errors"
	"slices"
	"time"

	"orgservice/shared/auth"
)

// Ticket is the right to do one thing once, which was mailed to an address. What it
// is for decides whether it is still valid: an invitation must be on the record of the
// organization, the tokens of an admin who has forgotten the password must have the
// version that they had, and an email that is verified must be the admin's. So it does no
// harm that a ticket is left.
type Ticket struct {
	ID             string
	Kind           MailKind
	OrganizationID string // of an invitation
	AdminID        string // of a new password and a verification
	TokenVersion   int64  // of the admin; not of a verification
	Email          string
	Hashes         []string // of the secrets that were mailed, or may have been: each is valid
	Mailed         bool     // or it will never be
	CreatedAt      time.Time
	ExpiresAt      time.Time

	OrganizationName string // of a sign-up
	ByOperator       bool   // who has asked for it
}

const (
	invitationTTL = 7 * 24 * time.Hour
	resetTTL      = time.Hour
	// unusedTicketTTL is how long Reconcile leaves the ticket of an invitation that is
	// on no record, or of an email that the admin does not have. No process sleeps longer.
	unusedTicketTTL = 24 * time.Hour
	// maxMails is how often a ticket is mailed at most. A mail may have been sent
	// although its process crashed, or gave up waiting, before it could note that.
	maxMails = 10
)

var errInvalidTicket = refuse(Unauthenticated, TicketInvalid, "the ticket has expired, was used or was withdrawn: ask for another one")

var errNoMailer = refuse(Unavailable, MailUnavailable, "the service is not set up to send mail")

// newTicket returns a ticket without an id, with a new secret.
func (s *Service) newTicket(t Ticket, ttl time.Duration) (Ticket, auth.OpaqueToken) {
	secret := auth.NewOpaqueToken(auth.NewOpaqueID())
	t.ID, t.Hashes = secret.ID, []string{secret.Hash()}
	t.CreatedAt = s.now()
	t.ExpiresAt = t.CreatedAt.Add(ttl)
	return t, secret
}

// ticket returns the ticket of the secret, which has one of the kinds, or errInvalidTicket.
func (s *Service) ticket(ctx context.Context, secret string, kinds ...MailKind) (Ticket, error) {
	given, ok := auth.ParseOpaqueToken(secret)
	if !ok {
		return Ticket{}, errInvalidTicket
	}
	t, err := s.Store.Ticket(ctx, given.ID)
	if errors.Is(err, ErrNotFound) || err == nil && (!slices.Contains(kinds, t.Kind) || !slices.ContainsFunc(t.Hashes, given.Matches) || !s.now().Before(t.ExpiresAt)) {
		err = errInvalidTicket
	}
	return t, err
}

// mail mails the secret of the ticket, and notes that. If that fails, Reconcile mails
// another one.
func (s *Service) mail(ctx context.Context, t Ticket, secret auth.OpaqueToken, o Organization) {
	m := Mail{Kind: t.Kind, To: t.Email, Ticket: secret.Text(), ValidFor: t.ExpiresAt.Sub(s.now()).Round(time.Minute), Organization: t.OrganizationName}
	if i := o.invitation(t.ID, s.now()); i != nil {
		m.Organization, m.Role = o.Name, i.Role
	}
	err := s.Mailer.Send(ctx, m)
	t.Mailed = err == nil || errors.Is(err, ErrUndeliverable) || len(t.Hashes) >= maxMails
	if err != nil {
		s.log().WarnContext(ctx, "a mail was not sent", "kind", t.Kind, "ticket_id", t.ID, "for_good", t.Mailed, "error", err)
	}
	if t.Mailed {
		// If another process has mailed another secret meanwhile, that one notes it.
		_, err = s.Store.ReplaceTicket(ctx, t, t)
		if err != nil {
			s.log().WarnContext(ctx, "a mail may be sent again", "kind", t.Kind, "ticket_id", t.ID, "error", err)
		}
	}
}

// nextMail returns when the ticket is mailed again: a minute later than before at
// first, and then each time twice as much later.
func (t Ticket) nextMail() time.Time {
	return t.CreatedAt.Add(StaleAfter<<len(t.Hashes) - StaleAfter)
}

// mailLeft mails the tickets that were not mailed. It deletes those that are not
// valid any more.
func (s *Service) mailLeft(ctx context.Context) error {
	if s.Mailer == nil {
		return nil
	}
	tickets, err := s.Store.UnmailedTickets(ctx, s.now().Add(-StaleAfter))
	if err != nil {
		return err
	}
	var errs []error
	for _, t := range tickets {
		if s.now().Before(t.nextMail()) {
			continue
		}
		o, err := s.checkTicket(ctx, t)
		switch {
		case errors.Is(err, errInvalidTicket) && t.Kind != ResetMail && s.now().Sub(t.CreatedAt) < unusedTicketTTL:
			err = nil // who inserted it may not have written the record yet
		case errors.Is(err, errInvalidTicket):
			err = s.Store.DeleteTicket(ctx, t.ID)
		case err == nil:
			secret, seen := auth.NewOpaqueToken(t.ID), t
			t.Hashes = append(slices.Clone(t.Hashes), secret.Hash())
			var mine bool
			if mine, err = s.Store.ReplaceTicket(ctx, seen, t); mine {
				s.mail(ctx, t, secret, o)
			}
		}
		if !errors.Is(err, errBusy) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// checkTicket returns errInvalidTicket if nothing can be done with the ticket any
// more, or errBusy if not now. It returns the organization of an invitation.
func (s *Service) checkTicket(ctx context.Context, t Ticket) (o Organization, err error) {
	if !s.now().Before(t.ExpiresAt) {
		return o, errInvalidTicket
	}
	switch t.Kind {
	case SignUpMail:
		return o, nil
	case InvitationMail:
		o, err = s.Store.Organization(ctx, t.OrganizationID)
		switch {
		case errors.Is(err, ErrNotFound), err == nil && o.invitation(t.ID, s.now()) == nil:
			err = errInvalidTicket
		case err == nil && o.Status != Active:
			err = errBusy
		}
		return o, err
	}
	a, err := s.adminOf(ctx, t)
	if err == nil && t.Kind == VerificationMail && a.Verified() {
		err = errInvalidTicket
	}
	return o, err
}

// adminOf returns the admin for whom the ticket is valid, or errInvalidTicket.
func (s *Service) adminOf(ctx context.Context, t Ticket) (Admin, error) {
	a, err := s.Store.Admin(ctx, t.AdminID)
	valid := a.TokenVersion == t.TokenVersion
	if t.Kind == VerificationMail {
		valid = a.Email == t.Email
	}
	if errors.Is(err, ErrNotFound) || err == nil && (!valid || a.Asleep) {
		err = errInvalidTicket
	}
	return a, err
}
