package org

import (
	"context"
	"errors"
)

// logLogin logs that a session has begun.
func (s *Service) logLogin(ctx context.Context, session Session) {
	s.log().InfoContext(ctx, "logged in",
		"admin_id", session.AdminID, "organization_id", session.OrganizationID, "session_id", session.ID,
		"source_ip", session.Client.Address)
}

// logRefusal logs that an attempt to prove the password of the account with the email was
// refused, unless err is of another kind. An admin without an id stands for no account: what
// was tried may be a password in the wrong field, so the line has only its pseudonym, by which
// attempts to one account can be told from a walk through many.
func (s *Service) logRefusal(ctx context.Context, admin Admin, email, address string, err error) {
	var refusal *Error
	if !errors.As(err, &refusal) || refusal.Kind != Unauthenticated && refusal.Kind != Throttled {
		return
	}
	attrs := []any{"source_ip", address, "reason", refusal.Reason}
	if admin.ID != "" {
		attrs = append(attrs, "admin_id", admin.ID, "organization_id", admin.OrganizationID)
	} else {
		attrs = append(attrs, "email_pseudonym", s.Tokens.Pseudonym(email))
	}
	s.log().InfoContext(ctx, "login refused", attrs...)
}
