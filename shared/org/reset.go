package org

import (
	"context"
	"errors"
	"strings"
	"time"
)

// forgotTime is how long Forgot takes, whether there is such an admin or not. It mails
// for at most mailingTime, so that it is never late, and leaves the rest to Reconcile.
const (
	forgotTime  = 2500 * time.Millisecond
	mailingTime = 2 * time.Second
)

// ForgotRequest is the body of a request of somebody who has forgotten the password.
type ForgotRequest struct {
	Email string `json:"email"`

	// ClientAddress is the IP address of the client; empty if it is not known.
	ClientAddress string `json:"-"`
}

// Validate returns what is wrong, field by field.
func (r ForgotRequest) Validate() []FieldError {
	var fields fieldErrors
	if strings.TrimSpace(r.Email) == "" {
		fields.add("email", errors.New("is required"))
	}
	return fields
}

// Forgot mails a ticket for a new password to the email, if it is an admin's. Neither
// the result nor the time tells whether it is. Its errors are ErrInvalid, ErrThrottled
// and ErrUnavailable.
func (s *Service) Forgot(ctx context.Context, r ForgotRequest) error {
	if err := invalid(r.Validate()); err != nil {
		return err
	}
	if s.Mailer == nil {
		return errNoMailer
	}
	over := time.After(forgotTime)
	limited, cancel := context.WithTimeout(ctx, mailingTime)
	defer cancel()
	email, err := s.storedEmail(ctx, r.Email)
	if err != nil {
		return err
	}
	var a Admin
	err = concurrently(
		func() error {
			err := s.countMailOf(ctx, ResetMail, addressPrefix(r.ClientAddress), mailsPerClient)
			if err == nil {
				err = s.countMailTo(ctx, ResetMail, email)
			}
			return err
		},
		func() (err error) { a, _, err = s.adminByEmail(ctx, email); return err },
	)
	if err != nil {
		return err
	}
	if a.ID != "" {
		t, secret := s.newTicket(Ticket{Kind: ResetMail, AdminID: a.ID, TokenVersion: a.TokenVersion, Email: a.Email}, resetTTL)
		if err := s.Store.InsertTicket(limited, t); err != nil {
			s.log().ErrorContext(ctx, "no ticket for a new password", "admin_id", a.ID, "error", err)
		} else {
			s.mail(limited, t, secret, Organization{})
		}
	}
	select {
	case <-over:
	case <-ctx.Done():
	}
	return nil
}

// ResetRequest is the body of a reset of the password.
type ResetRequest struct {
	Ticket   string `json:"ticket"`
	Password string `json:"password"`

	// ClientAddress is the IP address of the client; empty if it is not known.
	ClientAddress string `json:"-"`
}

// Validate returns what is wrong, field by field.
func (r ResetRequest) Validate() []FieldError {
	var fields fieldErrors
	fields.add("ticket", checkTicketText(r.Ticket))
	fields.add("password", checkPassword(r.Password))
	return fields
}

func checkTicketText(s string) error {
	if s == "" {
		return errors.New("is required")
	}
	return nil
}

// Reset gives the admin to whom the ticket was mailed a new password, which ends all
// sessions. Its errors are ErrInvalid, ErrUnauthenticated if the ticket is not valid,
// ErrConflict if the admin changes at the same time, and ErrUnavailable.
func (s *Service) Reset(ctx context.Context, r ResetRequest) error {
	if err := invalid(r.Validate()); err != nil {
		return err
	}
	t, err := s.ticket(ctx, r.Ticket, ResetMail)
	if err != nil {
		return err
	}
	a, err := s.adminOf(ctx, t)
	var all []Organization
	if err == nil {
		all, err = s.Store.OrganizationsByID(ctx, a.Organizations)
	}
	if err == nil {
		context := []string{a.Email}
		for _, o := range all {
			context = append(context, o.names()...)
		}
		err = s.checkNewPassword(ctx, r.Password, context...)
	}
	if err == nil && a.Committed == "" {
		err = s.settleOlder(ctx, a)
	}
	if err != nil {
		return err
	}
	a.VerifiedEmail = t.Email // the mail with the ticket has arrived
	change := adminChange{id: s.Store.NewID(), at: s.now()}
	hash := func() (hash string, err error) {
		err = concurrently(
			func() (err error) { hash, err = s.Passwords.Hash(r.Password); return err },
			func() error { // the ticket proves who it is, whatever comes of the change
				s.unlock(ctx, a.Email)
				s.forgetFailures(ctx, s.failures(currentLimit, a.ID).Key)
				return nil
			},
		)
		return hash, err
	}
	if err := s.changeAdmin(ctx, a, change, hash, func() error { return nil }); err != nil {
		return err
	}
	// The new version of the tokens has made the ticket invalid.
	a.TokenVersion++
	s.forget(ctx, t, a, addressPrefix(r.ClientAddress))
	return nil
}

// forget deletes a ticket that was used for a new password, and makes the network known, so
// that others' attempts don't keep the admin out. A failure is only logged.
func (s *Service) forget(ctx context.Context, t Ticket, a Admin, network string) {
	concurrently(
		func() error {
			if err := s.Store.DeleteTicket(ctx, t.ID); err != nil {
				s.log().WarnContext(ctx, "a used ticket is left", "ticket_id", t.ID, "error", err)
			}
			return nil
		},
		func() error { s.remember(ctx, a, network); return nil },
	)
}

// settleOlder finishes the journals of older versions that change the admin: once this
// version has changed the admin, nobody can tell whether they have. Its error is errBusy
// if there is one.
func (s *Service) settleOlder(ctx context.Context, a Admin) error {
	all, err := s.Store.OrganizationsByID(ctx, a.Organizations)
	for _, o := range all {
		if o.Operation == nil || o.Operation.AdminID != a.ID {
			continue
		}
		if _, err := s.finishStale(ctx, o); err != nil && !errors.Is(err, ErrNotFound) {
			return err
		}
		return errBusy
	}
	return err
}
