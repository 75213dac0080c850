package org

import (
	"context"
	"errors"
	"time"
)

// signUpTTL is how long the link in a mail leads to a new organization.
const signUpTTL = 24 * time.Hour

// askByMail mails a ticket for a new organization of that name to the email, where emails
// must be proved first. Nothing is reserved, and nothing depends on whether there is an account
// with the email. Its errors are ErrConflict if the name is taken, which everybody can see
// anyway, ErrThrottled and ErrUnavailable.
func (s *Service) askByMail(ctx context.Context, name Name, email, clientAddress string) error {
	if s.Mailer == nil {
		return errNoMailer
	}
	err := s.checkFree(ctx, name)
	if err == nil {
		err = s.countMailOf(ctx, SignUpMail, addressPrefix(clientAddress), mailsPerClient)
	}
	if err != nil {
		return err
	}
	return s.mailSignUp(ctx, Ticket{Email: email, OrganizationName: name.Display})
}

// checkFree returns ErrConflict if there is an organization of the name.
func (s *Service) checkFree(ctx context.Context, name Name) error {
	_, err := s.Get(ctx, name.Display)
	if err == nil {
		taken, _ := takenErrors(name.Collection())
		return taken
	}
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	return err
}

// mailSignUp mails the ticket of a sign-up.
func (s *Service) mailSignUp(ctx context.Context, t Ticket) error {
	if err := s.countMailTo(ctx, SignUpMail, t.Email); err != nil {
		return err
	}
	t.Kind = SignUpMail
	t, secret := s.newTicket(t, signUpTTL)
	if err := s.Store.InsertTicket(ctx, t); err != nil {
		return err
	}
	limited, cancel := context.WithTimeout(ctx, mailingTime)
	defer cancel()
	s.mail(limited, t, secret, Organization{}) // what is left, Reconcile mails
	return nil
}

// OwnerRequest is the body of an operator's invitation to own a new organization.
type OwnerRequest struct {
	OrganizationName string `json:"organization_name"`
	Email            string `json:"email"`
}

// Validate returns what is wrong, field by field.
func (r OwnerRequest) Validate() []FieldError {
	_, _, fields := r.parse()
	return fields
}

func (r OwnerRequest) parse() (Name, string, []FieldError) {
	var fields fieldErrors
	name, err := parseNewName(r.OrganizationName)
	fields.add("organization_name", err)
	email, err := parseEmail(r.Email)
	fields.add("email", err)
	return name, email, fields
}

// InviteOwner mails the email a ticket for a new organization of that name, also where nobody
// may sign up. Nothing is reserved. Its errors are ErrInvalid, ErrConflict if the name is taken,
// ErrThrottled and ErrUnavailable.
func (s *Service) InviteOwner(ctx context.Context, operator string, r OwnerRequest) error {
	name, email, fields := r.parse()
	if err := invalid(fields); err != nil {
		return err
	}
	if s.Mailer == nil {
		return errNoMailer
	}
	err := s.checkFree(ctx, name)
	if err == nil {
		err = s.mailSignUp(ctx, Ticket{Email: email, OrganizationName: name.Display, ByOperator: true})
	}
	if err == nil {
		s.log().WarnContext(ctx, "an operator acts", "act", "invite-owner", "by", operator)
	}
	return err
}

// finishSignUp creates the organization that the ticket is for. Its owner is who has the
// ticket: the admin with the email, who proves the password, or a new one, whose password it
// is. So nobody gets an organization with a password that a stranger has chosen. It returns
// tokens. Its errors are those of Accept.
func (s *Service) finishSignUp(ctx context.Context, t Ticket, r AcceptRequest) (Tokens, error) {
	if s.SignUps.Closed && !t.ByOperator {
		return Tokens{}, errSignUpClosed
	}
	name, err := ParseName(t.OrganizationName)
	if err != nil {
		return Tokens{}, err
	}
	var a Admin
	var claim Claim
	err = concurrently(
		func() error { return s.admitOrganization(ctx) },
		func() (err error) { a, claim, err = s.adminByEmail(ctx, t.Email); return err },
	)
	var o Organization
	switch {
	case err != nil:
	case a.hasRight(claim):
		if a, err = s.prove(ctx, a, claim, r); err == nil {
			a.VerifiedEmail = t.Email // the mail with the ticket has arrived
			o, err = s.createMore(ctx, name, a)
		}
	default:
		if err = s.checkNewPassword(ctx, r.Password, t.Email, name.Display, name.Slug); err == nil {
			a = s.newAdmin(ctx, t.Email)
			a.VerifiedEmail = t.Email
			o, err = s.createFirst(ctx, name, &a, r.Password, r.ClientAddress, func() error { return nil })
		}
	}
	if errors.Is(err, errRevoked) { // the admin has changed the password meanwhile
		err = errBusy
	}
	if err != nil {
		return Tokens{}, err
	}
	return s.loginByTicket(ctx, t, a, o, r)
}
