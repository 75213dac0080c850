package org

import (
	"cmp"
	"context"
	"errors"
	"slices"

	"orgservice/shared/auth"
)

// InviteRequest is the body of an invitation.
type InviteRequest struct {
	Email string `json:"email"`
	Role  string `json:"role"`
}

// Validate returns what is wrong, field by field.
func (r InviteRequest) Validate() []FieldError {
	_, fields := r.parse()
	return fields
}

func (r InviteRequest) parse() (email string, _ []FieldError) {
	var fields fieldErrors
	email, err := parseEmail(r.Email)
	fields.add("email", err)
	fields.add("role", checkRole(Role(r.Role)))
	return email, fields
}

// Invite mails an invitation to the caller's organization, which replaces an open one
// to the same address. Its errors are ErrInvalid, ErrUnauthenticated, ErrForbidden when
// the caller's role does not permit it, ErrThrottled, ErrConflict and ErrUnavailable.
func (s *Service) Invite(ctx context.Context, caller auth.Caller, r InviteRequest) (Invitation, error) {
	email, fields := r.parse()
	if err := invalid(fields); err != nil {
		return Invitation{}, err
	}
	if s.Mailer == nil {
		return Invitation{}, errNoMailer
	}
	role := Role(r.Role)
	var invitation Invitation
	var ticket Ticket
	var secret auth.OpaqueToken
	var replaced []string
	o, err := s.amend(ctx, caller, func(next *Organization) error {
		if err := next.permit(caller.AdminID, inviteAs(role)); err != nil {
			return err
		}
		if ticket.ID == "" {
			ticket, secret = s.newTicket(Ticket{Kind: InvitationMail, OrganizationID: next.ID, Email: email}, invitationTTL)
			var a Admin
			err := concurrently(
				func() error { return s.countMailOf(ctx, InvitationMail, next.ID, mailsPerOrganization) },
				func() (err error) { a, _, err = s.adminByEmail(ctx, email); return err },
			)
			if err == nil && next.member(a.ID) != nil {
				err = refuse(Conflict, AlreadyMember, "the organization has a member with that email")
			}
			if err == nil {
				err = s.countMailTo(ctx, InvitationMail, email)
			}
			if err == nil {
				err = s.Store.InsertTicket(ctx, ticket)
			}
			if err != nil {
				return err
			}
		}
		invitation = Invitation{
			ID: ticket.ID, Email: email, Role: role, InvitedBy: caller.AdminID, CreatedAt: ticket.CreatedAt, ExpiresAt: ticket.ExpiresAt,
		}
		replaced = nil
		for _, i := range next.openInvitations(s.now()) {
			if i.Email != email {
				continue
			}
			replaced = append(replaced, i.ID)
			if err := next.permit(caller.AdminID, inviteAs(i.Role)); err != nil {
				return err
			}
		}
		next.Invitations = append(next.invitationsBut(s.now(), func(i Invitation) bool { return i.Email == email }), invitation)
		if len(next.Admins)+len(next.Invitations) > maxMembers {
			return refuse(Conflict, TooManyMembers, "an organization can have 1000 members and open invitations")
		}
		return nil
	})
	if err != nil {
		if ticket.ID != "" && !errors.Is(err, ErrUnavailable) {
			s.deleteTickets(ctx, []string{ticket.ID})
		}
		return Invitation{}, err
	}
	s.mail(ctx, ticket, secret, o)
	s.deleteTickets(ctx, replaced)
	return invitation, nil
}

// InvitationBy returns the invitation for which the admin has asked by the request, or nil if it is
// not there any more.
func (o *Organization) InvitationBy(adminID string, r InviteRequest) *Invitation {
	email, _ := r.parse()
	i := slices.IndexFunc(o.Invitations, func(i Invitation) bool {
		return i.InvitedBy == adminID && i.Email == email && i.Role == Role(r.Role)
	})
	if i < 0 {
		return nil
	}
	return &o.Invitations[i]
}

// deleteTickets deletes tickets that are not valid any more. A failure is only logged:
// they expire.
func (s *Service) deleteTickets(ctx context.Context, ids []string) {
	for _, id := range ids {
		if err := s.Store.DeleteTicket(ctx, id); err != nil {
			s.log().WarnContext(ctx, "a ticket is left", "ticket_id", id, "error", err)
		}
	}
}

// Invitations returns the open invitations of the caller's organization whose ids are
// greater than after, in the order of their ids and at most limit of them, and whether
// there are more. Its errors are ErrUnauthenticated and ErrUnavailable.
func (s *Service) Invitations(ctx context.Context, caller auth.Caller, after string, limit int) (page []Invitation, more bool, err error) {
	o, _, err := s.authorize(ctx, caller)
	if err != nil {
		return nil, false, err
	}
	open := o.invitationsBut(s.now(), func(i Invitation) bool { return i.ID <= after })
	slices.SortFunc(open, func(a, b Invitation) int { return cmp.Compare(a.ID, b.ID) })
	if more = len(open) > limit; more {
		open = open[:limit]
	}
	return open, more, nil
}

// Withdraw withdraws an invitation. Its errors are ErrUnauthenticated, ErrForbidden
// when the caller's role does not permit it, ErrNotFound, ErrConflict and
// ErrUnavailable.
func (s *Service) Withdraw(ctx context.Context, caller auth.Caller, id string) error {
	_, err := s.amend(ctx, caller, func(next *Organization) error {
		i := next.invitation(id, s.now())
		if i == nil {
			return refuse(NotFound, InvitationNotFound, "the organization has no open invitation of that id")
		}
		next.Invitations = next.invitationsBut(s.now(), func(i Invitation) bool { return i.ID == id })
		return next.permit(caller.AdminID, inviteAs(i.Role))
	})
	if err == nil {
		s.deleteTickets(ctx, []string{id})
	}
	return err
}

// AcceptRequest is the body of the acceptance of an invitation.
type AcceptRequest struct {
	Ticket   string `json:"ticket"`
	Password string `json:"password"` // of the admin with the email, or the first one of a new admin

	// ClientAddress is the IP address of the client; empty if it is not known.
	ClientAddress string `json:"-"`
	UserAgent     string `json:"-"` // as the client calls itself
}

// Validate returns what is wrong, field by field. The rules for a new password apply
// only if there is no admin yet.
func (r AcceptRequest) Validate() []FieldError {
	var fields fieldErrors
	fields.add("ticket", checkTicketText(r.Ticket))
	fields.add("password", checkGivenPassword(r.Password))
	return fields
}

func (r AcceptRequest) client() Client { return Client{r.ClientAddress, r.UserAgent} }

// Accept makes who has the ticket of an invitation a member, or who has that of a sign-up the
// owner of a new organization, and returns tokens for the
// organization. If there is an admin with the email of the invitation, the password
// must be the admin's. Otherwise it is the password of a new one. Its errors are
// ErrInvalid, ErrUnauthenticated if the ticket is not valid or the password is wrong,
// ErrThrottled, ErrConflict and ErrUnavailable.
func (s *Service) Accept(ctx context.Context, r AcceptRequest) (Tokens, error) {
	if err := invalid(r.Validate()); err != nil {
		return Tokens{}, err
	}
	t, err := s.ticket(ctx, r.Ticket, InvitationMail, SignUpMail)
	if err != nil {
		return Tokens{}, err
	}
	if t.Kind == SignUpMail {
		return s.finishSignUp(ctx, t, r)
	}
	var a Admin
	var claim Claim
	var o Organization
	err = concurrently(
		func() (err error) { o, err = s.invited(ctx, t); return err },
		func() (err error) { a, claim, err = s.adminByEmail(ctx, t.Email); return err },
	)
	if err != nil {
		return Tokens{}, err
	}
	if a.hasRight(claim) {
		a, err = s.prove(ctx, a, claim, r)
	} else {
		a, err = s.newMember(ctx, o, t.Email, r.Password)
	}
	if err != nil {
		return Tokens{}, err
	}
	a.VerifiedEmail = t.Email // the mail with the ticket has arrived
	o, err = s.addMember(ctx, a, t)
	if err != nil {
		return Tokens{}, err
	}
	return s.loginByTicket(ctx, t, a, o, r)
}

// loginByTicket returns tokens for the organization to which the ticket has led the admin, and
// deletes the ticket.
func (s *Service) loginByTicket(ctx context.Context, t Ticket, a Admin, o Organization, r AcceptRequest) (Tokens, error) {
	tokens, err := s.begin(ctx, a, o, s.newLogin(r.client()), func() error {
		return concurrently(
			func() error { s.deleteTickets(ctx, []string{t.ID}); return nil },
			func() error { s.remember(ctx, a, addressPrefix(r.ClientAddress)); return nil },
		)
	})
	return tokens, leftOver(unlessUndone(err)) // a login is all that is missing
}

// invited returns the organization that the ticket is an invitation to, or
// errInvalidTicket.
func (s *Service) invited(ctx context.Context, t Ticket) (Organization, error) {
	o, err := s.Store.Organization(ctx, t.OrganizationID)
	if err == nil {
		o, err = s.finishStale(ctx, o)
	}
	switch {
	case errors.Is(err, ErrNotFound), err == nil && (o.Status != Active || o.invitation(t.ID, s.now()) == nil):
		err = errInvalidTicket
	case err == nil && o.Operation != nil:
		err = errBusy
	}
	return o, err
}

// prove checks the password of the admin, who has the right to the claim, and makes
// the claim the admin's own.
func (s *Service) prove(ctx context.Context, a Admin, claim Claim, r AcceptRequest) (Admin, error) {
	attempt, ok, err := s.provePassword(ctx, a, r.Password, r.ClientAddress)
	if err == nil && !ok {
		err = refuse(Unauthenticated, WrongCredentials, "there is an admin with the email that the ticket was mailed to, who has another password")
	}
	if err != nil {
		return a, err
	}
	s.succeeded(ctx, &attempt)
	if err := s.checkSettled(ctx, a); err != nil {
		return a, err
	}
	if claim.OrganizationID == "" {
		return a, nil
	}
	holder, err := s.Store.Organization(ctx, claim.OrganizationID)
	if err == nil {
		_, err = s.adopt(ctx, holder, a)
	}
	if errors.Is(err, ErrNotFound) {
		err = errBusy
	}
	return a, err
}

// checkSettled returns errBusy unless an organization lists the admin that nobody undoes. The admin of a
// creation that is not committed may be removed, and the claim on the email released, at any time.
func (s *Service) checkSettled(ctx context.Context, a Admin) error {
	all, err := s.Store.OrganizationsByID(ctx, a.Organizations)
	if err != nil {
		return err
	}
	for _, o := range all {
		if (o.Status == Active || o.Status == Suspended) && o.member(a.ID) != nil {
			return nil
		}
	}
	_, _, err = s.isListed(ctx, a) // it finishes what is stale
	return cmp.Or(err, error(errBusy))
}

// newMember makes a new admin, whom the organization does not list yet.
func (s *Service) newMember(ctx context.Context, o Organization, email, password string) (Admin, error) {
	if err := s.checkNewPassword(ctx, password, append(o.names(), email)...); err != nil {
		return Admin{}, err
	}
	a := s.newAdmin(ctx, email)
	a.OrganizationID, a.Organizations = o.ID, []string{o.ID}
	err := s.claim(ctx, []Claim{a.newClaim()})
	if err == nil {
		err = concurrently(
			func() (err error) { a.PasswordHash, err = s.Passwords.Hash(password); return err },
			func() error { s.unlock(ctx, email); return nil },
		)
	}
	if err == nil {
		err = s.Store.InsertAdmin(ctx, a)
	}
	if err == nil && s.now().Sub(a.CreatedAt) > leaseTime {
		err = errOvertaken // until the record was there, others could take the claim over
	}
	if err != nil {
		return a, s.afterAccept(ctx, a, o.ID, err)
	}
	return a, nil
}

// addMember makes the admin a member of the organization that the ticket is an
// invitation to, and uses up the invitation. It returns the organization after that.
func (s *Service) addMember(ctx context.Context, a Admin, t Ticket) (Organization, error) {
	for range recoverAttempts {
		o, err := s.invited(ctx, t)
		if err == nil {
			err = concurrently(
				// The record of the admin changes after that of the organization was read.
				// So whoever takes the organization from the admin's record notices this,
				// or makes the write below fail.
				func() error {
					err := s.join(ctx, a, o.ID)
					if errors.Is(err, errOvertaken) { // others change the admin all the time
						err = errBusy
					}
					return err
				},
				// The admin may have been a member before.
				func() error { return s.Store.DeleteSessionsOf(ctx, a.ID, o.ID) },
			)
		}
		if errors.Is(err, errRevoked) { // the admin has changed the password
			err = errInvalidTicket
		}
		if err != nil {
			return o, s.afterAccept(ctx, a, t.OrganizationID, err)
		}
		next := o
		if o.member(a.ID) == nil {
			i := slices.IndexFunc(o.Invitations, func(i Invitation) bool { return i.ID == t.ID })
			m := Member{AdminID: a.ID, Role: o.Invitations[i].Role, Since: s.now()}
			next.Admins = append(slices.Clone(o.Admins), m)
		}
		next.Invitations = o.invitationsBut(s.now(), func(i Invitation) bool { return i.ID == t.ID })
		if o, err = s.commitAlone(ctx, o, next); err == nil {
			return o, nil
		}
		if err != error(errBusy) {
			return o, s.afterAccept(ctx, a, t.OrganizationID, err)
		}
	}
	return Organization{}, s.afterAccept(ctx, a, t.OrganizationID, errBusy)
}

// afterAccept cleans up after an acceptance that has failed with the cause: the admin
// may be on no organization's record.
func (s *Service) afterAccept(ctx context.Context, a Admin, organizationID string, cause error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cmp.Or(s.RecoverTime, recoverTime))
	defer cancel()
	current, err := s.Store.Admin(ctx, a.ID)
	switch {
	case errors.Is(err, ErrNotFound):
		err = s.releaseAllOf(ctx, a.owner())
	case err == nil:
		err = s.leaveOrEnd(ctx, current.ID, organizationID)
	}
	if u := (undoneError{}); errors.As(cause, &u) {
		cause = u.cause
	}
	if err != nil && !errors.Is(err, errBusy) {
		s.log().WarnContext(ctx, "an admin is left to reconcile", "admin_id", a.ID, "error", err)
		return leftOver(unlessUndone(cause))
	}
	return cause
}
