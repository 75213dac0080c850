package org_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"orgservice/shared/auth"
	"orgservice/shared/org"
)

// wantInvitations checks that the organization has the invitations of those emails, and that they and
// no others have a ticket.
func (s *sim) wantInvitations(t *testing.T, emails ...string) {
	t.Helper()
	var got, tickets []string
	for _, i := range s.acme().Invitations {
		got = append(got, i.Email)
		if ticket := s.durable.tickets[i.ID]; !i.CreatedAt.Equal(ticket.CreatedAt) || !i.ExpiresAt.Equal(ticket.ExpiresAt) || i.CreatedAt.IsZero() {
			t.Errorf("%+v, and the ticket is %+v", i, ticket)
		}
	}
	for _, ticket := range s.durable.tickets {
		if ticket.Kind == org.InvitationMail {
			tickets = append(tickets, ticket.Email)
		}
	}
	for _, found := range [][]string{got, tickets} {
		slices.Sort(found)
		if !slices.Equal(found, emails) {
			t.Errorf("invited: %v, and tickets for %v; want %v", got, tickets, emails)
			return
		}
	}
}

// TestScriptInvitations invites three people, lists them in pages, withdraws one of the invitations and
// replaces another one. Each change leaves the others alone, with their tickets.
func TestScriptInvitations(t *testing.T) {
	runScript(t, true, func(s *sim) {
		s.mustCreate(t, "acme", "a@x.test")
		invite := func(email string) error {
			return s.runHooked(s.inviteOp(s.acme(), firstOwner(s.acme()), email, org.RoleMember), 0, nil)
		}
		for n := range 3 {
			s.mustRun(t, s.inviteOp(s.acme(), firstOwner(s.acme()), fmt.Sprintf("g%d@x.test", n), org.RoleMember))
		}
		s.wantInvitations(t, "g0@x.test", "g1@x.test", "g2@x.test")
		ids := map[string]string{}
		var want []string
		for _, i := range s.acme().Invitations {
			ids[i.Email], want = i.ID, append(want, i.ID)
		}
		slices.Sort(want)

		caller := s.caller(s.acme())
		list := func(caller auth.Caller, after string, limit int) (page []org.Invitation, more bool, err error) {
			err = s.runHooked(&operation{kind: "Me", run: func(ctx context.Context, service *org.Service) error {
				page, more, err = service.Invitations(ctx, caller, after, limit)
				return err
			}}, 0, nil)
			return page, more, err
		}
		wantPages(t, want, func(after string, limit int) (ids []string, more bool, err error) {
			page, more, err := list(caller, after, limit)
			for _, i := range page {
				ids = append(ids, i.ID)
			}
			return ids, more, err
		})
		revoked := caller
		revoked.TokenVersion++
		if page, more, err := list(revoked, "", 2); reasonOf(err) != org.TokenRevoked || more || page != nil {
			t.Errorf("with a revoked token: %v, %v, %v", page, more, err)
		}

		withdraw := func(id string) error {
			return s.runHooked(s.withdrawOp(s.acme(), firstOwner(s.acme()), id), 0, nil)
		}
		if err := withdraw("another"); reasonOf(err) != org.InvitationNotFound {
			t.Errorf("an id of none: answered %v", err)
		}
		failing := func(c *call) bool { return c.method == "ReplaceOrganization" && s.fail(c, unsent) }
		if err := s.runHooked(s.withdrawOp(s.acme(), firstOwner(s.acme()), ids["g0@x.test"]), 0, failing); !errors.Is(err, org.ErrUnavailable) {
			t.Errorf("it can't be written: answered %v", err)
		}
		s.wantInvitations(t, "g0@x.test", "g1@x.test", "g2@x.test")
		if err := withdraw(ids["g1@x.test"]); err != nil {
			t.Error(err)
		}
		s.wantInvitations(t, "g0@x.test", "g2@x.test")
		s.sleep(time.Minute)
		if err := invite("g0@x.test"); err != nil {
			t.Error(err)
		}
		s.wantInvitations(t, "g0@x.test", "g2@x.test")
		if s.durable.tickets[ids["g0@x.test"]].ID != "" {
			t.Error("the ticket of the replaced invitation is left")
		}
		err := s.runHooked(s.inviteOp(s.acme(), firstOwner(s.acme()), "g3@x.test", org.RoleMember), 0, once("ReplaceOrganization", func() {
			s.meanwhile(func() { s.mustRun(t, s.inviteOp(s.acme(), firstOwner(s.acme()), "g4@x.test", org.RoleMember)) })
		}))
		if err != nil {
			t.Errorf("beside another one: answered %v", err)
		}
		s.wantInvitations(t, "g0@x.test", "g2@x.test", "g3@x.test", "g4@x.test")
		s.sleep(7*24*time.Hour - time.Minute)
		if page, _, err := list(caller, "", 10); err != nil || len(page) != 3 {
			t.Errorf("once the first one has expired: %v, %v", page, err)
		}
		s.sleep(time.Minute)
		if page, _, err := list(caller, "", 10); err != nil || len(page) != 0 {
			t.Errorf("once they have expired: %v, %v", page, err)
		}
		s.repairAndCheck()
	})
}

// TestScriptAcceptsOne accepts one of three invitations, which are for different roles. The others stay.
func TestScriptAcceptsOne(t *testing.T) {
	runScript(t, true, func(s *sim) {
		s.mustCreate(t, "acme", "a@x.test")
		roles := []org.Role{org.RoleMember, org.RoleAdmin, org.RoleOwner}
		var mails []org.Mail
		for n, role := range roles {
			s.mustRun(t, s.inviteOp(s.acme(), firstOwner(s.acme()), fmt.Sprintf("g%d@x.test", n), role))
			mails = append(mails, s.mails[len(s.mails)-1])
		}
		s.sleep(time.Minute)
		s.mustRun(t, s.acceptOp(mails[1]))
		m := s.acme().Admins[len(s.acme().Admins)-1]
		if a := s.durable.admins[m.AdminID]; a.Email != mails[1].To || m.Role != roles[1] || !m.Since.Equal(time.Now()) {
			t.Errorf("%+v, %+v", m, a)
		}
		s.wantInvitations(t, "g0@x.test", "g2@x.test")
		s.repairAndCheck()
	})
}

// TestScriptInvitationRefused refuses an invitation after its ticket is made, which is deleted, and lets another
// one fail, whose ticket stays, since the invitation may still come.
func TestScriptInvitationRefused(t *testing.T) {
	runScript(t, true, func(s *sim) {
		s.mustCreate(t, "acme", "a@x.test")
		invite := func(email string, hook func(*call) bool) error {
			return s.runHooked(s.inviteOp(s.acme(), firstOwner(s.acme()), email, org.RoleMember), 0, hook)
		}
		err := invite("g0@x.test", func(c *call) bool { return c.method == "ReplaceOrganization" && s.fail(c, unsent) })
		if !errors.Is(err, org.ErrUnavailable) || len(s.acme().Invitations) > 0 {
			t.Errorf("answered %v", err)
		}
		tickets := len(s.durable.tickets)
		if tickets != 2 { // and the one of the owner's email
			t.Errorf("%d tickets", tickets)
		}
		err = invite("g1@x.test", func(c *call) bool { return c.method == "InsertTicket" && s.fail(c, unsent) })
		if !errors.Is(err, org.ErrUnavailable) || len(s.acme().Invitations) > 0 || len(s.durable.tickets) != tickets {
			t.Errorf("without a ticket: answered %v, and there are %d tickets", err, len(s.durable.tickets))
		}
		err = invite("a@x.test", func(c *call) bool { return c.method == "AdminsByEmail" && s.fail(c, unsent) })
		if !errors.Is(err, org.ErrUnavailable) {
			t.Errorf("it is not known who has the email: answered %v", err)
		}
		o := s.acme()
		for n := range 999 {
			o.Invitations = append(o.Invitations, org.Invitation{ID: fmt.Sprint(n), Email: fmt.Sprint(n), Role: org.RoleMember, InvitedBy: firstOwner(o), ExpiresAt: time.Now().Add(time.Hour)})
		}
		s.durable.organizations[o.ID] = o
		if err := invite("g2@x.test", nil); reasonOf(err) != org.TooManyMembers || len(s.durable.tickets) != tickets {
			t.Errorf("one too many: answered %v, and there are %d tickets", err, len(s.durable.tickets))
		}
		o.Invitations = o.Invitations[1:]
		s.durable.organizations[o.ID] = o
		if err := invite("g2@x.test", nil); err != nil || len(s.durable.tickets) != tickets+1 {
			t.Errorf("the last one: answered %v, and there are %d tickets", err, len(s.durable.tickets))
		}
		s.problems = nil // the model knows nothing of those that were written here
	})
}
