package org

import (
	"context"
	"errors"
	"time"

	"orgservice/shared/auth"
)

// verificationTTL is how long the link in a mail proves that somebody gets the mails to
// an address.
const verificationTTL = 24 * time.Hour

var (
	errUnverified = refuse(Forbidden, EmailUnverified, "first confirm your email, with the link that was mailed to you")
	errVerified   = refuse(Conflict, AlreadyVerified, "the email is confirmed already")
)

// Verified reports whether the admin has shown that mails to the email arrive there.
func (a *Admin) Verified() bool { return a.Email != "" && a.VerifiedEmail == a.Email }

// newVerification inserts a ticket that verifies the email, which the admin has or is
// about to get. It returns none if no mail can be sent. The mails that by asks for are
// counted, unless it is empty. Who changes the admin then mails the ticket. If that
// crashes, Reconcile does, once the admin has the email. Its errors are ErrThrottled and
// ErrUnavailable.
func (s *Service) newVerification(ctx context.Context, by, adminID, email string) (t Ticket, secret auth.OpaqueToken, err error) {
	if s.Mailer == nil {
		return t, secret, nil
	}
	err = s.countMailOf(ctx, VerificationMail, by, mailsPerAdmin)
	if err == nil {
		err = s.countMailTo(ctx, VerificationMail, email)
	}
	if err == nil {
		t, secret = s.newTicket(Ticket{Kind: VerificationMail, AdminID: adminID, Email: email}, verificationTTL)
		err = s.Store.InsertTicket(ctx, t)
	}
	return t, secret, err
}

// newVerificationUnlessTooMany is newVerification for a change that does not depend on
// the mail.
func (s *Service) newVerificationUnlessTooMany(ctx context.Context, by, adminID, email string) (Ticket, auth.OpaqueToken, error) {
	t, secret, err := s.newVerification(ctx, by, adminID, email)
	if errors.Is(err, ErrThrottled) {
		s.log().WarnContext(ctx, "no mail to verify an email", "admin_id", adminID, "error", err)
		err = nil
	}
	return t, secret, err
}

// mailVerification mails the ticket of newVerification after a change that has ended
// with the error. It deletes the ticket if nothing was changed.
func (s *Service) mailVerification(ctx context.Context, t Ticket, secret auth.OpaqueToken, err error) {
	switch {
	case t.ID == "":
	case err == nil:
		s.mail(ctx, t, secret, Organization{})
	case !errors.Is(err, ErrUnavailable):
		s.deleteTickets(ctx, []string{t.ID})
	}
}

// SendVerification mails the caller another ticket to verify the email. Its errors are
// ErrUnauthenticated, ErrConflict if the email is verified, ErrThrottled and
// ErrUnavailable.
func (s *Service) SendVerification(ctx context.Context, caller auth.Caller) error {
	_, a, err := s.identify(ctx, caller)
	if err == nil && a.Verified() {
		err = errVerified
	}
	if err == nil && s.Mailer == nil {
		err = errNoMailer
	}
	if err != nil {
		return err
	}
	t, secret, err := s.newVerification(ctx, a.ID, a.ID, a.Email)
	if err == nil {
		s.mail(ctx, t, secret, Organization{})
	}
	return err
}

// VerifyRequest is the body of the verification of an email.
type VerifyRequest struct {
	Ticket string `json:"ticket"`
}

// Validate returns what is wrong, field by field.
func (r VerifyRequest) Validate() []FieldError {
	var fields fieldErrors
	fields.add("ticket", checkTicketText(r.Ticket))
	return fields
}

// Verify notes that mails to the email of the admin to whom the ticket was mailed arrive
// there. Its errors are ErrInvalid, ErrUnauthenticated if the ticket is not valid or the
// admin has another email, ErrConflict if others change the admin at the same time, and
// ErrUnavailable.
func (s *Service) Verify(ctx context.Context, r VerifyRequest) error {
	if err := invalid(r.Validate()); err != nil {
		return err
	}
	t, err := s.ticket(ctx, r.Ticket, VerificationMail)
	if err != nil {
		return err
	}
	err = error(errBusy)
	for i := 0; i < recoverAttempts && errors.Is(err, errBusy); i++ {
		var a Admin
		a, err = s.adminOf(ctx, t)
		if err == nil && !a.Verified() {
			next := a
			next.VerifiedEmail, next.UpdatedAt = t.Email, s.now()
			_, err = s.writeAdmin(ctx, a, next)
		}
	}
	if err == nil {
		s.deleteTickets(ctx, []string{t.ID})
	}
	return leftOver(err)
}
