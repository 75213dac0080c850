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

// verification is a ticket that verifies an email, with its secret. It has no id if
// nothing is mailed.
type verification struct {
	Ticket
	secret auth.OpaqueToken
}

// newVerification inserts a ticket that verifies the email, which the admin has or is
// about to get, unless no mail can be sent. It calls count before. Who changes the admin
// then mails the ticket. If that crashes, Reconcile does, once the admin has the email.
// Its errors are that of count and ErrUnavailable.
func (s *Service) newVerification(ctx context.Context, adminID, email string, count func() error) (v verification, err error) {
	if s.Mailer == nil {
		return v, nil
	}
	if err = count(); err != nil {
		return v, err
	}
	v.Ticket, v.secret = s.newTicket(Ticket{Kind: VerificationMail, AdminID: adminID, Email: email}, verificationTTL)
	return v, s.Store.InsertTicket(ctx, v.Ticket)
}

// newVerificationUnlessTooMany is newVerification for a change that does not depend on
// the mail.
func (s *Service) newVerificationUnlessTooMany(ctx context.Context, adminID, email string, count func() error) (verification, error) {
	v, err := s.newVerification(ctx, adminID, email, count)
	if errors.Is(err, ErrThrottled) {
		s.log().WarnContext(ctx, "no mail to verify an email", "admin_id", adminID, "error", err)
		err = nil
	}
	return v, err
}

// mailVerification mails the ticket after a change that has ended with the error. It
// deletes the ticket if nothing was changed. It does not wait long: Reconcile mails what
// is left.
func (s *Service) mailVerification(ctx context.Context, v verification, err error) {
	switch {
	case v.ID == "":
	case err == nil:
		ctx, cancel := context.WithTimeout(ctx, mailingTime)
		defer cancel()
		s.mail(ctx, v.Ticket, v.secret, Organization{})
	case !errors.Is(err, ErrUnavailable):
		s.deleteTickets(ctx, []string{v.ID})
	}
}

// SendVerification mails the caller another ticket to verify the email. Its errors are
// ErrUnauthenticated, ErrConflict if the email is verified, ErrThrottled and
// ErrUnavailable. clientAddress is the IP address of the client; empty if it is not known.
func (s *Service) SendVerification(ctx context.Context, caller auth.Caller, clientAddress string) error {
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
	v, err := s.newVerification(ctx, a.ID, a.Email, func() error {
		return s.countVerificationAgain(ctx, clientAddress, a.ID, a.Email)
	})
	if err == nil {
		s.mailVerification(ctx, v, nil)
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
			next.VerifiedEmail = t.Email
			_, err = s.writeAdmin(ctx, a, next)
		}
	}
	if err == nil {
		s.deleteTickets(ctx, []string{t.ID})
	}
	return leftOver(err)
}
