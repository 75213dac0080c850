package org

import (
	"context"
	"errors"
	"time"

	"orgservice/shared/auth"
)

// Session is a login and everything that was refreshed from it.
type Session struct {
	ID             string
	AdminID        string
	OrganizationID string
	TokenVersion   int64  // the admin's at the login: another one ends the session
	RefreshHash    string // of the one refresh token that is good
	CreatedAt      time.Time
	ExpiresAt      time.Time
}

// Tokens are what a login and a refresh give.
type Tokens struct {
	Access    string
	ExpiresIn time.Duration // of Access
	Refresh   string
}

// Login returns tokens for the admin with the credentials. It answers
// ErrUnauthenticated, after the work of one comparison, whatever of them is
// wrong; after too many failures it answers ErrThrottled before that work.
// Other errors are ErrInvalid and ErrUnavailable.
func (s *Service) Login(ctx context.Context, c Credentials) (Tokens, error) {
	if err := invalid(c.Validate()); err != nil {
		return Tokens{}, err
	}
	refused := refuse(Unauthenticated, "email or password is wrong")
	email := emailKey(c.Email)
	var attempt attempt
	var admins []Admin
	var o Organization
	err := atOnce(
		func() (err error) { attempt, err = s.admit(ctx, email, c.ClientAddress); return err },
		func() (err error) { admins, err = s.Store.AdminsByEmail(ctx, email); return err },
		func() (err error) {
			if o, err = s.Store.OrganizationByClaim(ctx, emailClaim(email)); errors.Is(err, ErrNotFound) {
				err = nil // as long as anybody else is waited for
			}
			return err
		},
	)
	if err != nil {
		return Tokens{}, err
	}
	var admin Admin
	for _, a := range admins {
		// One without an organization is what a crash has left.
		if admin.ID == "" || o.member(a.ID) != nil {
			admin = a
		}
	}
	ok, err := s.Passwords.Verify(admin.PasswordHash, c.Password)
	if err != nil {
		return Tokens{}, err
	}
	if !ok {
		return Tokens{}, refused
	}
	if o.ID != admin.OrganizationID || o.Operation != nil {
		// A change of the email address may have been left halfway.
		if o, err = s.Store.Organization(ctx, admin.OrganizationID); err == nil {
			o, err = s.settle(ctx, o)
		}
		if errors.Is(err, ErrNotFound) {
			return Tokens{}, refused
		}
		if err != nil {
			return Tokens{}, err
		}
	}
	now := s.now()
	refresh := auth.NewRefreshToken(auth.NewSessionID())
	session := Session{
		ID: refresh.SessionID, AdminID: admin.ID, OrganizationID: admin.OrganizationID,
		TokenVersion: admin.TokenVersion, RefreshHash: refresh.Hash(),
		CreatedAt: now, ExpiresAt: now.Add(s.SessionTTL),
	}
	if !stands(session, o) {
		// It is being deleted, was suspended, or changes its admin. That the
		// password was right does not show.
		return Tokens{}, refused
	}
	err = atOnce(
		func() error { return s.Store.InsertSession(ctx, session) },
		func() error { s.succeeded(ctx, attempt); return nil },
	)
	if err != nil {
		return Tokens{}, err
	}
	if s.Passwords.Outdated(admin.PasswordHash) {
		s.rehash(ctx, admin, c.Password)
	}
	return s.tokens(session, refresh)
}

// stands reports whether the session's organization still knows its admin as
// it was at the login.
func stands(session Session, o Organization) bool {
	member := o.member(session.AdminID)
	return o.Status == Active && member != nil && member.TokenVersion == session.TokenVersion
}

func (s *Service) tokens(session Session, refresh auth.RefreshToken) (Tokens, error) {
	now := s.now()
	ttl := min(s.TokenTTL, session.ExpiresAt.Sub(now).Truncate(time.Second))
	access, err := s.Tokens.Sign(auth.Caller{
		AdminID:        session.AdminID,
		OrganizationID: session.OrganizationID,
		TokenVersion:   session.TokenVersion,
		SessionID:      session.ID,
		ExpiresAt:      now.Add(ttl),
	}, now)
	if err != nil {
		return Tokens{}, err
	}
	return Tokens{Access: access, ExpiresIn: ttl, Refresh: refresh.Text()}, nil
}

// rehash brings the hash of a password to the cost in force. The login that
// showed the password does not fail with it.
func (s *Service) rehash(ctx context.Context, admin Admin, password string) {
	hash, err := s.Passwords.Hash(password)
	if err == nil {
		err = s.Store.RehashPassword(ctx, admin.ID, admin.PasswordHash, hash)
	}
	if err != nil {
		s.log().WarnContext(ctx, "password not rehashed", "admin_id", admin.ID, "error", err)
	}
}

// Renewal is what a session is refreshed or ended with.
type Renewal struct {
	RefreshToken string `json:"refresh_token"`
}

// Validate returns what is wrong, field by field.
func (r Renewal) Validate() []FieldError {
	var fields fieldErrors
	if r.RefreshToken == "" {
		fields.add("refresh_token", errors.New("is required"))
	}
	return fields
}

// Refresh returns new tokens for a refresh token, which is good for one use. A
// token that was used before is in two hands: it ends the session, so that
// whoever stole it, or whom it was stolen from, has to log in (RFC 9700,
// section 4.14.2). Its errors are ErrInvalid, ErrUnauthenticated and
// ErrUnavailable.
func (s *Service) Refresh(ctx context.Context, r Renewal) (Tokens, error) {
	if err := invalid(r.Validate()); err != nil {
		return Tokens{}, err
	}
	refused := refuse(Unauthenticated, "the refresh token has expired, was used or was revoked: log in again")
	given, ok := auth.ParseRefreshToken(r.RefreshToken)
	if !ok {
		return Tokens{}, refused
	}
	session, err := s.Store.Session(ctx, given.SessionID)
	if errors.Is(err, ErrNotFound) {
		return Tokens{}, refused
	}
	if err != nil {
		return Tokens{}, err
	}
	if !given.Matches(session.RefreshHash) {
		return Tokens{}, s.endReused(ctx, session, refused)
	}
	o, err := s.Store.Organization(ctx, session.OrganizationID)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return Tokens{}, err
	}
	if err != nil || !stands(session, o) || !s.now().Before(session.ExpiresAt) {
		return Tokens{}, s.end(ctx, session, refused)
	}
	next := auth.NewRefreshToken(session.ID)
	rotated, err := s.Store.RotateSession(ctx, session.ID, session.RefreshHash, next.Hash())
	if err != nil {
		return Tokens{}, err
	}
	if !rotated { // used a moment ago
		return Tokens{}, s.endReused(ctx, session, refused)
	}
	return s.tokens(session, next)
}

func (s *Service) endReused(ctx context.Context, session Session, refused error) error {
	s.log().WarnContext(ctx, "a refresh token was used again: session ended",
		"admin_id", session.AdminID, "organization_id", session.OrganizationID, "session_id", session.ID)
	return s.end(ctx, session, refused)
}

// end ends the session and returns refused.
func (s *Service) end(ctx context.Context, session Session, refused error) error {
	if err := s.Store.DeleteSession(ctx, session.ID); err != nil {
		return err
	}
	return refused
}

// Logout ends the session of a refresh token: no token of it, access tokens
// included, is good for anything afterwards. That there is no such session is
// no error. Its errors are ErrInvalid and ErrUnavailable.
func (s *Service) Logout(ctx context.Context, r Renewal) error {
	if err := invalid(r.Validate()); err != nil {
		return err
	}
	given, ok := auth.ParseRefreshToken(r.RefreshToken)
	if !ok {
		return nil
	}
	return s.Store.DeleteSession(ctx, given.SessionID)
}

// Me returns the caller and its organization. Its errors are
// ErrUnauthenticated and ErrUnavailable.
func (s *Service) Me(ctx context.Context, caller auth.Caller) (Admin, Organization, error) {
	o, err := s.authorize(ctx, caller)
	if err != nil {
		return Admin{}, Organization{}, err
	}
	admin, err := s.Store.Admin(ctx, o.ID, caller.AdminID)
	if errors.Is(err, ErrNotFound) {
		err = errRevoked
	}
	return admin, o, err
}
