package org_test

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"orgservice/shared/auth"
	"orgservice/shared/org"
)

// simGuests are the emails of people who are invited and have no organization, unless
// they were invited before.
var simGuests = []string{"g0@x.test", "g1@x.test", "g2@x.test"}

// mailbox is the org.Mailer of one operation. All mails are in the sim's mailbox.
type mailbox struct{ *handle }

func (m mailbox) Send(ctx context.Context, mail org.Mail) error {
	_, err := do(ctx, m.handle, "Send", write, string(mail.Kind)+" to "+mail.To, func(s *state) (any, error) {
		box := &m.sim.mails
		if mail.Kind == org.VerificationMail {
			box = &m.sim.confirmations
		} else {
			m.sim.mailTries++
		}
		if m.sim.mailErr == nil {
			*box = append(*box, mail)
		}
		return nil, m.sim.mailErr
	})
	return err
}

// memberRequest is what an operation changes of the members of its organization.
type memberRequest struct {
	email string   // of an invitation
	role  org.Role // of an invitation, or the new one
	id    string   // of the member whose role changes, or who is removed
}

// chooseMembersOp returns a random operation that has to do with members.
func (s *sim) chooseMembersOp(o org.Organization) *operation {
	var others []org.Member // but the first owner
	for _, m := range o.Admins[1:] {
		if s.people[m.AdminID] != nil {
			others = append(others, m)
		}
	}
	roles := []org.Role{org.RoleOwner, org.RoleAdmin, org.RoleMember}
	switch r := s.rng.IntN(15); {
	case r == 13 && len(s.confirmations) > 0:
		return s.verifyOp(oneOf(s, s.confirmations))
	case r == 14:
		return s.resendOp(o, s.someMember(o))
	case r == 10 && len(o.Invitations) > 0:
		return s.withdrawOp(o, s.someMember(o), oneOf(s, o.Invitations).ID)
	case r == 11:
		return s.forgotOp(s.durable.admins[oneOf(s, o.Admins).AdminID].Email, 0)
	case r == 12:
		return s.reconcileOp(s.rng.IntN(2) == 0)
	case r < 4 || r < 7 && len(others) == 0:
		emails := simGuests
		if s.rng.IntN(4) == 0 {
			emails = simEmails
		}
		return s.inviteOp(o, s.someMember(o), oneOf(s, emails), oneOf(s, roles))
	case r < 6:
		return s.removeOp(o, s.someMember(o), oneOf(s, others).AdminID)
	case r < 7:
		return s.changeRoleOp(o, s.someMember(o), oneOf(s, others).AdminID, oneOf(s, roles))
	case len(s.mails) > 0:
		m := s.mails[len(s.mails)-1]
		if s.rng.IntN(3) == 0 {
			m = oneOf(s, s.mails)
		}
		if m.Kind == org.ResetMail {
			return s.resetOp(m, fmt.Sprint("password ", len(s.ops)+1))
		}
		return s.acceptOp(m)
	}
	return s.inviteOp(o, firstOwner(o), oneOf(s, simGuests), oneOf(s, roles))
}

// someMember returns the first owner of the organization or, less often, any member.
func (s *sim) someMember(o org.Organization) string {
	m := oneOf(s, o.Admins)
	if s.rng.IntN(3) > 0 || s.people[m.AdminID] == nil {
		return firstOwner(o)
	}
	return m.AdminID
}

// membersOp returns an operation of the member.
func (s *sim) membersOp(kind string, o org.Organization, adminID string, r memberRequest, run func(context.Context, *org.Service, auth.Caller) error) *operation {
	caller := s.callerOf(o, adminID)
	return &operation{
		kind: kind, args: fmt.Sprint(o.ID, " by ", adminID, " ", r), organization: o.ID, admin: adminID, callerVersion: caller.TokenVersion, memberRequest: &r,
		run: func(ctx context.Context, service *org.Service) error { return run(ctx, service, caller) },
	}
}

func (s *sim) inviteOp(o org.Organization, by, email string, role org.Role) *operation {
	return s.membersOp("Invite", o, by, memberRequest{email: email, role: role}, func(ctx context.Context, service *org.Service, c auth.Caller) error {
		_, err := service.Invite(ctx, c, org.InviteRequest{Email: email, Role: string(role)})
		return err
	})
}

func (s *sim) changeRoleOp(o org.Organization, by, id string, role org.Role) *operation {
	return s.membersOp("ChangeRole", o, by, memberRequest{id: id, role: role}, func(ctx context.Context, service *org.Service, c auth.Caller) error {
		_, err := service.ChangeRole(ctx, c, id, org.RoleRequest{Role: string(role)})
		return err
	})
}

func (s *sim) removeOp(o org.Organization, by, id string) *operation {
	return s.membersOp("Remove", o, by, memberRequest{id: id}, func(ctx context.Context, service *org.Service, c auth.Caller) error {
		return service.RemoveMember(ctx, c, id)
	})
}

// acceptOp returns the acceptance of the invitation, by who has the password of the
// admin, if there is one.
func (s *sim) acceptOp(m org.Mail) *operation {
	token, _ := auth.ParseOpaqueToken(m.Ticket)
	t := s.durable.tickets[token.ID]
	password := fmt.Sprint("password ", len(s.ops)+1)
	var adminID string
	var version int64
	for _, a := range s.durable.findAdmins(func(a org.Admin) bool { return a.Email == m.To }) {
		password = strings.TrimPrefix(a.PasswordHash, "hash of ")
		adminID, version = a.ID, a.TokenVersion
	}
	return &operation{
		kind: "Accept", args: fmt.Sprint(t.OrganizationID, " by ", m.To), organization: t.OrganizationID, admin: adminID, callerVersion: version,
		memberRequest: &memberRequest{email: m.To}, ticketOf: m.To,
		run: func(ctx context.Context, service *org.Service) error {
			_, err := service.Accept(ctx, org.AcceptRequest{Ticket: m.Ticket, Password: password})
			return err
		},
	}
}

func (s *sim) withdrawOp(o org.Organization, by, id string) *operation {
	return s.membersOp("Withdraw", o, by, memberRequest{}, func(ctx context.Context, service *org.Service, c auth.Caller) error {
		return service.Withdraw(ctx, c, id)
	})
}

// resetOp sets a new password with the ticket of the mail.
func (s *sim) resetOp(m org.Mail, password string) *operation {
	admins := s.durable.findAdmins(func(a org.Admin) bool { return a.Email == m.To })
	op := &operation{kind: "Reset", args: m.To + " to " + password, ticketOf: m.To, run: func(ctx context.Context, service *org.Service) error {
		return service.Reset(ctx, org.ResetRequest{Ticket: m.Ticket, Password: password})
	}}
	if len(admins) > 0 {
		op.admin, op.organization, op.callerVersion = admins[0].ID, admins[0].OrganizationID, admins[0].TokenVersion
		op.updateRequest = &org.UpdateRequest{Password: &password, CurrentPassword: &password}
	}
	return op
}

// verifyOp verifies the email with the ticket of the mail.
func (s *sim) verifyOp(m org.Mail) *operation {
	token, _ := auth.ParseOpaqueToken(m.Ticket)
	return &operation{kind: "Verify", args: m.To, admin: s.durable.tickets[token.ID].AdminID, ticketOf: m.To, run: func(ctx context.Context, service *org.Service) error {
		return service.Verify(ctx, org.VerifyRequest{Ticket: m.Ticket})
	}}
}

// resendOp mails the member another ticket to verify the email.
func (s *sim) resendOp(o org.Organization, adminID string) *operation {
	caller := s.callerOf(o, adminID)
	return &operation{kind: "Resend", args: adminID, run: func(ctx context.Context, service *org.Service) error {
		return service.SendVerification(ctx, caller, "")
	}}
}

// invited invites somebody to acme and returns the mail.
func (s *sim) invited(email string) org.Mail {
	s.runHooked(s.inviteOp(s.acme(), s.acme().Admins[0].AdminID, email, org.RoleMember), 0, nil)
	return s.mails[len(s.mails)-1]
}

// member makes somebody a member of acme and returns the id of the admin.
func (s *sim) member(email string) string {
	s.runHooked(s.acceptOp(s.invited(email)), 0, nil)
	admins := s.acme().Admins
	return admins[len(admins)-1].AdminID
}

// forgotOp asks for a new password while mailing takes so long.
func (s *sim) forgotOp(email string, mailing time.Duration) *operation {
	return &operation{kind: "Forgot", args: email, run: func(ctx context.Context, service *org.Service) error {
		if mailing > 0 {
			service.Mailer = slowMailbox{service.Mailer.(mailbox), mailing}
		}
		return service.Forgot(ctx, org.ForgotRequest{Email: email})
	}}
}

// slowMailbox is a mailbox into which a mail takes some time.
type slowMailbox struct {
	mailbox
	takes time.Duration
}

func (m slowMailbox) Send(ctx context.Context, mail org.Mail) error {
	select {
	case <-time.After(m.takes):
		return m.mailbox.Send(ctx, mail)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// membersCommitted compares the members and invitations before and after a commit with
// what the operation was to change.
func (s *sim) membersCommitted(op *operation, before, after org.Organization) {
	want := copyOf(before)
	r := op.memberRequest
	permitted := func(owner bool) {
		role := before.Role(op.admin)
		if role != org.RoleOwner && (owner || role != org.RoleAdmin) {
			s.addProblem("not permitted", "op%d %s is committed on %s with the role %q", op.n, op.kind, before.ID, role)
		}
	}
	i := slices.IndexFunc(want.Admins, func(m org.Member) bool { return r != nil && m.AdminID == r.id })
	switch {
	case op.kind == "Invite":
		permitted(r.role == org.RoleOwner)
		if n := len(after.Invitations); n == 0 || after.Invitations[n-1].Email != r.email || after.Invitations[n-1].Role != r.role {
			s.addProblem("wrong state", "op%d has not invited %s: %v", op.n, r.email, after.Invitations)
		}
	case op.kind == "Remove" && i >= 0:
		if r.id != op.admin {
			permitted(want.Admins[i].Role == org.RoleOwner)
		}
		want.Admins = slices.Delete(want.Admins, i, i+1)
		m := s.models[after.ID]
		if m.mate != nil && m.mate.adminID == r.id {
			m.mate = nil
		}
	case op.kind == "ChangeRole" && i >= 0:
		permitted(true)
		want.Admins[i].Role = r.role
	case op.kind == "Accept":
		s.acceptCommitted(op, before, after)
		return
	case op.kind == "Withdraw":
		permitted(false)
	case r != nil:
		s.addProblem("wrong state", "op%d %s is committed on %s", op.n, op.kind, after.ID)
	}
	if len(after.Admins) > 0 && !reflect.DeepEqual(after.Admins, want.Admins) {
		s.addProblem("wrong members", "%s has %v after op%d %s; want %v", after.ID, after.Admins, op.n, op.kind, want.Admins)
	}
	for _, i := range after.Invitations {
		if !slices.Contains(before.Invitations, i) && op.kind != "Invite" {
			s.addProblem("wrong members", "%s has the invitation of %s after op%d %s", after.ID, i.Email, op.n, op.kind)
		}
	}
}

// acceptCommitted checks that the organization has one member more, who was invited,
// and the invitation no more.
func (s *sim) acceptCommitted(op *operation, before, after org.Organization) {
	used := slices.DeleteFunc(slices.Clone(before.Invitations), func(i org.Invitation) bool { return slices.Contains(after.Invitations, i) })
	i := slices.IndexFunc(used, func(i org.Invitation) bool { return i.Email == op.memberRequest.email })
	if i < 0 {
		s.addProblem("wrong members", "op%d of %s is committed on %s without an invitation: %v", op.n, op.memberRequest.email, after.ID, before.Invitations)
		return
	}
	n := len(before.Admins)
	if len(after.Admins) == n && reflect.DeepEqual(after.Admins, before.Admins) {
		return // a member already
	}
	if len(after.Admins) != n+1 || !reflect.DeepEqual(after.Admins[:n], before.Admins) || after.Admins[n].Role != used[i].Role {
		s.addProblem("wrong members", "%s has %v after op%d; before %v", after.ID, after.Admins, op.n, before.Admins)
		return
	}
	a, ok := s.durable.admins[after.Admins[n].AdminID]
	if !ok || a.Email != op.memberRequest.email || !slices.Contains(a.Organizations, after.ID) {
		s.addProblem("wrong members", "%s has the member %+v after op%d of %s", after.ID, a, op.n, op.memberRequest.email)
	}
	if inviter := before.Role(used[i].InvitedBy); inviter != org.RoleOwner && (inviter != org.RoleAdmin || used[i].Role == org.RoleOwner) {
		s.addProblem("not permitted", "op%d accepts an invitation by %s to %s, with the role %q", op.n, used[i].InvitedBy, after.ID, inviter)
	}
	for id, session := range s.durable.sessions {
		if session.AdminID == a.ID && session.OrganizationID == after.ID && session.CreatedAt.Before(time.Now().Add(-time.Hour)) {
			s.addProblem("old session", "%s of %s is valid again in %s", id, a.ID, after.ID)
		}
	}
	if s.people[a.ID] == nil {
		s.people[a.ID] = &personModel{adminID: a.ID, email: a.Email, password: strings.TrimPrefix(a.PasswordHash, "hash of ")}
	}
}

// checkMembers compares every member of the organization with the model.
func (s *sim) checkMembers(o org.Organization, claims map[string]bool) {
	owner := false
	for _, m := range o.Admins {
		owner = owner || m.Role == org.RoleOwner
		a, ok := s.durable.admins[m.AdminID]
		p := s.people[m.AdminID]
		if !ok || p == nil || !slices.Contains(a.Organizations, o.ID) {
			s.addProblem("admin missing", "%s of %s: %+v", m.AdminID, o.ID, a)
			continue
		}
		if a.Email != p.email || a.PasswordHash != "hash of "+p.password {
			s.addProblem("wrong state", "%s has %s and %s; want %s and %s", a.ID, a.Email, a.PasswordHash, p.email, p.password)
		}
		claim := s.durable.claims["email:"+p.email]
		if claim.AdminID != a.ID && !slices.Contains(a.Organizations, claim.OrganizationID) {
			s.addProblem("claim missing", "%s of %s is of %v", p.email, a.ID, claim.Owner)
		}
		claims[claim.ID] = true
	}
	if !owner {
		s.addProblem("no owner", "%s has %v", o.ID, o.Admins)
	}
}

// checkMemberLogins checks that the members after the first one can log in.
func (s *sim) checkMemberLogins(o org.Organization) {
	for _, m := range o.Admins[1:] {
		p := s.people[m.AdminID]
		if err := s.runAlone(s.loginOp(org.LoginRequest{Email: p.email, Password: p.password, OrganizationName: &o.Name})); err != nil {
			s.addProblem("login", "%s to %s: %v", m.AdminID, o.ID, err)
		}
	}
}

// checkMails checks that somebody has the ticket of each invitation that is open.
func (s *sim) checkMails(o org.Organization) {
	for _, i := range o.Invitations {
		sent := slices.ContainsFunc(s.mails, func(m org.Mail) bool {
			token, _ := auth.ParseOpaqueToken(m.Ticket)
			return token.ID == i.ID && s.valid(m)
		})
		if !sent && time.Now().Before(i.ExpiresAt) && s.mailErr == nil {
			s.addProblem("mail lost", "%s has invited %s, who has no ticket: %v", o.ID, i.Email, s.durable.tickets[i.ID])
		}
	}
}

// checkConfirmations checks that somebody has the ticket for each email that is to be
// verified.
func (s *sim) checkConfirmations() {
	for _, id := range s.durable.ticketOrder {
		t, ok := s.durable.tickets[id]
		a := s.durable.admins[t.AdminID]
		if !ok || t.Kind != org.VerificationMail || a.Email != t.Email || a.Asleep || a.Verified() || !time.Now().Before(t.ExpiresAt) || s.mailErr != nil {
			continue
		}
		sent := slices.ContainsFunc(s.confirmations, func(m org.Mail) bool {
			token, _ := auth.ParseOpaqueToken(m.Ticket)
			return token.ID == id && s.valid(m)
		})
		if !sent {
			s.addProblem("mail lost", "%s has no ticket for %s: %v", a.ID, a.Email, t)
		}
	}
}

// valid reports whether the stored ticket has the secret of the mail.
func (s *sim) valid(m org.Mail) bool {
	token, _ := auth.ParseOpaqueToken(m.Ticket)
	t, ok := s.durable.tickets[token.ID]
	return ok && slices.ContainsFunc(t.Hashes, token.Matches)
}

// invitedTo is invited for the organization of that name.
func (s *sim) invitedTo(slug, email string) org.Mail {
	o := s.named(slug)
	s.runHooked(s.inviteOp(o, o.Admins[0].AdminID, email, org.RoleMember), 0, nil)
	return s.mails[len(s.mails)-1]
}
