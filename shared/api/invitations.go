package api

import (
	"net/http"
	"path"

	"orgservice/shared/org"
)

// Invite handles POST /org/invitations.
func Invite(s *org.Service) http.Handler {
	return repeatable(&inviteRoute, s, func(r request[org.InviteRequest]) (invitation, error) {
		i, err := s.Invite(r.http.Context(), r.caller, r.content)
		return newInvitation(i), err
	}, func(r request[org.InviteRequest], _ org.Outcome, o org.Organization) (invitation, error) {
		i := o.InvitationBy(r.caller.AdminID, r.content)
		if i == nil {
			return invitation{}, &org.Error{Kind: org.NotFound, Reason: org.InvitationNotFound, Message: "the invitation is not open any more"}
		}
		return newInvitation(*i), nil
	})
}

// Invitations handles GET /org/invitations.
func Invitations(s *org.Service) http.Handler {
	return handler(&invitationsRoute, func(r request[nothing]) (invitations, error) {
		limit, after, err := pageOf(r.query)
		if err != nil {
			return invitations{}, err
		}
		open, more, err := s.Invitations(r.http.Context(), r.caller, after, limit)
		page := invitations{Invitations: []invitation{}}
		for _, i := range open {
			page.Invitations = append(page.Invitations, newInvitation(i))
			if more {
				page.Next = i.ID
			}
		}
		return page, err
	})
}

// Withdraw handles DELETE /org/invitations/{id}.
func Withdraw(s *org.Service) http.Handler {
	return repeatable(&withdrawRoute, s, func(r request[nothing]) (nothing, error) {
		return nothing{}, s.Withdraw(r.http.Context(), r.caller, path.Base(r.http.URL.Path))
	}, doneAgain)
}

// Accept handles POST /invitations/accept.
func Accept(s *org.Service) http.Handler {
	return handler(&acceptRoute, func(r request[org.AcceptRequest]) (tokens, error) {
		r.content.ClientAddress, r.content.UserAgent = clientAddress(r.http), userAgent(r.http)
		tokens, err := s.Accept(r.http.Context(), r.content)
		return newTokens(tokens), err
	})
}

// Forgot handles POST /admin/forgot.
func Forgot(s *org.Service) http.Handler {
	return handler(&forgotRoute, func(r request[org.ForgotRequest]) (nothing, error) {
		r.content.ClientAddress = clientAddress(r.http)
		return nothing{}, s.Forgot(r.http.Context(), r.content)
	})
}

// Reset handles POST /admin/reset.
func Reset(s *org.Service) http.Handler {
	return handler(&resetRoute, func(r request[org.ResetRequest]) (nothing, error) {
		r.content.ClientAddress = clientAddress(r.http)
		return nothing{}, s.Reset(r.http.Context(), r.content)
	})
}

// Verify handles POST /admin/verify.
func Verify(s *org.Service) http.Handler {
	return handler(&verifyRoute, func(r request[org.VerifyRequest]) (nothing, error) {
		return nothing{}, s.Verify(r.http.Context(), r.content)
	})
}

// Resend handles POST /admin/verify/resend.
func Resend(s *org.Service) http.Handler {
	return handler(&resendRoute, func(r request[nothing]) (nothing, error) {
		return nothing{}, s.SendVerification(r.http.Context(), r.caller, clientAddress(r.http))
	})
}

func newInvitation(i org.Invitation) invitation {
	return invitation{
		ID: i.ID, Email: i.Email, Role: i.Role, InvitedBy: i.InvitedBy, CreatedAt: Time(i.CreatedAt), ExpiresAt: Time(i.ExpiresAt),
	}
}
