package org

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"orgservice/shared/auth"
)

// Session is a login together with all tokens that come from it.
type Session struct {
	ID             string
	AdminID        string
	OrganizationID string
	TokenVersion   int64  // of the admin at the login; any other ends the session
	LastAct        string // the id of the operators' latest act on the organization then; likewise
	RefreshHash    string // of the one refresh token that is valid
	CreatedAt      time.Time
	UsedAt         time.Time // of the last refresh; zero: never
	ExpiresAt      time.Time
	Client         Client // of the login

	// LoginID is the session of the login, if this one comes from it by a switch: it ends
	// with that.
	LoginID string
}

// Client says from where a person logs in.
type Client struct {
	Address   string // IP address; empty if it is not known
	UserAgent string // as the client calls itself, at most 200 bytes of it
}

// Tokens are the result of a login and of a refresh.
type Tokens struct {
	Access    string
	ExpiresIn time.Duration // of Access
	Refresh   string
}

var (
	errWrongCredentials = refuse(Unauthenticated, WrongCredentials, "email or password is wrong")
	errInvalidRefresh   = refuse(Unauthenticated, RefreshTokenInvalid, "the refresh token has expired, was used or was revoked: log in again")
)

// Login returns tokens for the admin who has the email and the password, for the
// organization of that name or, without one, for the one that was used last. Its
// error is ErrUnauthenticated, always after one comparison of a password,
// whether the email or the password is wrong or the organization is not
// active: neither text nor time tells which. After too many failures it is
// ErrThrottled, before any comparison. Other errors are ErrInvalid and
// ErrUnavailable.
func (s *Service) Login(ctx context.Context, c LoginRequest) (tokens Tokens, err error) {
	name, fields := c.parse()
	if err := invalid(fields); err != nil {
		return Tokens{}, err
	}
	stored, err := s.storedEmail(ctx, c.Email)
	if err != nil {
		return Tokens{}, err
	}
	var attempt attempt
	var admin Admin
	defer func() {
		if errors.Is(err, ErrUnavailable) {
			s.takeBack(ctx, attempt.counted()...)
		}
		s.logRefusal(ctx, admin, stored, c.ClientAddress, err)
	}()
	network := addressPrefix(c.ClientAddress)
	err = concurrently(
		func() (err error) { attempt, err = s.countAttempt(ctx, stored, network); return err },
		func() (err error) { admin, _, err = s.adminByEmail(ctx, stored); return err },
	)
	if err == nil {
		err = s.admit(ctx, &attempt, admin, network)
	}
	if err != nil {
		return Tokens{}, err
	}
	var ok bool
	var all []Organization
	err = concurrently(
		func() (err error) { ok, err = s.Passwords.Verify(admin.PasswordHash, c.Password); return err },
		func() (err error) { all, err = s.Store.OrganizationsByID(ctx, admin.Organizations); return err },
	)
	if err != nil {
		return Tokens{}, err
	}
	if !ok {
		return Tokens{}, cmp.Or(s.failed(ctx, &attempt), error(errWrongCredentials))
	}
	admin.sortByUse(all)
	for _, o := range all {
		if c.OrganizationName != nil && o.Collection != name.Collection() {
			continue
		}
		// A process may have crashed while it changed the admin.
		o, now, err := s.settle(ctx, o, admin)
		if err != nil && !errors.Is(err, ErrNotFound) {
			return Tokens{}, err
		}
		if err != nil || !o.mayAct(now, admin.TokenVersion) {
			continue
		}
		tokens, err := s.begin(ctx, now, o, s.newLogin(c.client()), func() error {
			return concurrently(
				func() error { s.succeeded(ctx, &attempt); return nil },
				func() error { s.remember(ctx, now, network); return nil },
			)
		})
		if err == nil && s.Passwords.Outdated(admin.PasswordHash) {
			s.rehash(ctx, admin, c.Password)
		}
		return tokens, err
	}
	// The admin's organizations are being deleted, or are suspended. Nothing must tell
	// that the password was right, not even the count of attempts.
	return Tokens{}, cmp.Or(s.failed(ctx, &attempt), error(errWrongCredentials))
}

// adminByEmail returns the admin of the email and the claim on it, or zero values if
// there are none.
func (s *Service) adminByEmail(ctx context.Context, email string) (a Admin, claim Claim, err error) {
	var admins []Admin
	err = concurrently(
		func() (err error) { admins, err = s.Store.AdminsByEmail(ctx, email); return err },
		func() (err error) {
			if claim, err = s.Store.Claim(ctx, emailClaim(email)); errors.Is(err, ErrNotFound) {
				err = nil
			}
			return err
		},
	)
	for _, found := range admins {
		// A crash may have left one without a right to the email.
		if !found.Asleep && (a.ID == "" || found.hasRight(claim)) {
			a = found
		}
	}
	return a, claim, err
}

// hasRight reports whether the claim on an email is the admin's. Older versions gave
// it to the organization.
func (a *Admin) hasRight(c Claim) bool {
	return a.ID != "" && c.Owner == a.owner() || slices.Contains(a.Organizations, c.OrganizationID)
}

// sortByUse sorts the admin's organizations: first the one that was used last, and
// then the others from the newest on.
func (a *Admin) sortByUse(organizations []Organization) {
	slices.SortFunc(organizations, func(x, y Organization) int {
		switch {
		case x.ID == a.OrganizationID:
			return -1
		case y.ID == a.OrganizationID:
			return 1
		}
		return cmp.Or(y.CreatedAt.Compare(x.CreatedAt), cmp.Compare(x.ID, y.ID))
	})
}

// newLogin returns the session of a new login, which begin completes.
func (s *Service) newLogin(from Client) Session {
	return Session{ExpiresAt: s.now().Add(s.SessionTTL), Client: from}
}

// begin begins the session for the admin, who may act for the organization, and returns
// its tokens. It ends the admin's oldest one if there are too many. It calls also at the
// same time as the database.
func (s *Service) begin(ctx context.Context, admin Admin, o Organization, session Session, also func() error) (Tokens, error) {
	refresh := auth.NewOpaqueToken(auth.NewOpaqueID())
	session.ID, session.RefreshHash, session.CreatedAt = refresh.SessionID(), refresh.Hash(), s.now()
	session.AdminID, session.OrganizationID, session.TokenVersion, session.LastAct = admin.ID, o.ID, admin.TokenVersion, o.lastAct()
	var others []Session
	err := concurrently(
		func() (err error) {
			if others, err = s.Store.SessionsOf(ctx, admin.ID); err != nil {
				s.log().WarnContext(ctx, "sessions not counted", "admin_id", admin.ID, "error", err)
			}
			return nil
		},
		func() error { return s.Store.InsertSession(ctx, session) },
		func() error {
			if o.ID == admin.OrganizationID {
				return nil
			}
			return s.Store.UseOrganization(ctx, admin.ID, o.ID)
		},
		also,
	)
	if err != nil {
		return Tokens{}, err
	}
	s.endOldest(ctx, session, others)
	s.logLogin(ctx, session)
	return s.tokens(session, admin, o, refresh)
}

// tokens returns an access token of the session, signed now, and the refresh
// token. No access token outlives its session, also if that is not refreshed. The admin is a
// member of o.
func (s *Service) tokens(session Session, admin Admin, o Organization, refresh auth.OpaqueToken) (Tokens, error) {
	now := s.now()
	ttl := min(s.TokenTTL, session.ExpiresAt.Sub(now).Truncate(time.Second))
	if s.SessionIdle > 0 {
		ttl = min(ttl, s.SessionIdle)
	}
	access, err := s.Tokens.Sign(auth.Caller{
		AdminID:        session.AdminID,
		OrganizationID: session.OrganizationID,
		Role:           string(o.Role(session.AdminID)),
		EmailVerified:  admin.Verified(),
		TokenVersion:   session.TokenVersion,
		SessionID:      session.ID,
		ExpiresAt:      now.Add(ttl),
	}, now)
	if err != nil {
		return Tokens{}, err
	}
	return Tokens{Access: access, ExpiresIn: ttl, Refresh: refresh.Text()}, nil
}

// rehash replaces the hash of a password by one at the current cost. A failure
// is logged, so that the login succeeds all the same.
func (s *Service) rehash(ctx context.Context, admin Admin, password string) {
	hash, err := s.Passwords.Hash(password)
	if err == nil {
		err = s.Store.RehashPassword(ctx, admin.ID, admin.PasswordHash, hash)
	}
	if err != nil {
		s.log().WarnContext(ctx, "password not rehashed", "admin_id", admin.ID, "error", err)
	}
}

// RefreshRequest is the body of a refresh and of a logout.
type RefreshRequest struct {
	RefreshToken string `json:"refresh_token"`
}

// Validate returns what is wrong, field by field.
func (r RefreshRequest) Validate() []FieldError {
	var fields fieldErrors
	if r.RefreshToken == "" {
		fields.add("refresh_token", errors.New("is required"))
	}
	return fields
}

// Refresh returns new tokens for a refresh token, which is valid for one use.
// If a token is used again, two parties have it: the session ends, so that both
// must log in (RFC 9700, section 4.14.2). Its errors are ErrInvalid,
// ErrUnauthenticated and ErrUnavailable.
func (s *Service) Refresh(ctx context.Context, r RefreshRequest) (Tokens, error) {
	if err := invalid(r.Validate()); err != nil {
		return Tokens{}, err
	}
	given, ok := auth.ParseOpaqueToken(r.RefreshToken)
	if !ok {
		return Tokens{}, errInvalidRefresh
	}
	session, err := s.Store.Session(ctx, given.SessionID())
	if errors.Is(err, ErrNotFound) { // older versions gave a session the id of its tokens
		session, err = s.Store.Session(ctx, given.ID)
	}
	if errors.Is(err, ErrNotFound) {
		return Tokens{}, errInvalidRefresh
	}
	if err != nil {
		return Tokens{}, err
	}
	if !given.Matches(session.RefreshHash) {
		return Tokens{}, s.endReused(ctx, session)
	}
	var o Organization
	var admin Admin
	err = concurrently(
		func() (err error) { o, err = s.Store.Organization(ctx, session.OrganizationID); return err },
		func() (err error) { admin, err = s.Store.Admin(ctx, session.AdminID); return err },
		func() error { return s.checkLogin(ctx, session) },
	)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return Tokens{}, err
	}
	if err == nil && !s.isAlive(session) && s.now().Before(session.ExpiresAt) {
		return Tokens{}, errInvalidRefresh // it is idle: what comes from it by a switch may be in use
	}
	if err != nil || !o.mayUse(session, admin) || !s.isAlive(session) {
		return Tokens{}, s.end(ctx, session)
	}
	next := auth.NewOpaqueToken(given.ID)
	rotated, err := s.Store.RotateSession(ctx, session.ID, session.RefreshHash, next.Hash(), s.now())
	if err != nil {
		return Tokens{}, err
	}
	if !rotated { // another request has just used it
		return Tokens{}, s.endReused(ctx, session)
	}
	return s.tokens(session, admin, o, next)
}

// endReused ends a session whose refresh token was used twice.
func (s *Service) endReused(ctx context.Context, session Session) error {
	s.log().WarnContext(ctx, "a refresh token was used again: session ended",
		"admin_id", session.AdminID, "organization_id", session.OrganizationID, "session_id", session.ID)
	return s.end(ctx, session)
}

// end ends the session and returns errInvalidRefresh.
func (s *Service) end(ctx context.Context, session Session) error {
	if err := s.Store.DeleteSession(ctx, session.ID); err != nil {
		return err
	}
	return errInvalidRefresh
}

// Logout ends the session of a refresh token, which may have been used. All tokens of the
// session, access tokens included, are invalid afterwards. It is no error if there is no
// such session. Its errors are ErrInvalid and ErrUnavailable.
func (s *Service) Logout(ctx context.Context, r RefreshRequest) error {
	if err := invalid(r.Validate()); err != nil {
		return err
	}
	given, ok := auth.ParseOpaqueToken(r.RefreshToken)
	if !ok {
		return nil
	}
	return concurrently(
		func() error { return s.Store.DeleteSession(ctx, given.SessionID()) },
		func() error {
			older, err := s.Store.Session(ctx, given.ID)
			if err == nil && given.Matches(older.RefreshHash) {
				return s.Store.DeleteSession(ctx, older.ID)
			}
			if errors.Is(err, ErrNotFound) {
				err = nil
			}
			return err
		},
	)
}

// Introspect returns the organization that the caller may act for, and the caller's role in
// it, or a nil error and false if the token has expired or was revoked, or the email must be
// verified first. Its error is ErrUnavailable.
func (s *Service) Introspect(ctx context.Context, caller auth.Caller) (o Organization, role Role, active bool, err error) {
	o, a, err := s.authorize(ctx, caller)
	if errors.Is(err, ErrUnauthenticated) || errors.Is(err, errUnverified) {
		return Organization{}, "", false, nil
	}
	return o, o.Role(a.ID), err == nil, err
}

// Me returns the caller and its organization. Its errors are
// ErrUnauthenticated and ErrUnavailable.
func (s *Service) Me(ctx context.Context, caller auth.Caller) (Admin, Organization, error) {
	o, admin, err := s.identify(ctx, caller)
	return admin, o, err
}
