// Package auth authenticates callers: it hashes and compares passwords, and
// signs and verifies access tokens. It uses neither HTTP nor the database, so
// that the authorizer, which sees every request, stays small.
package auth

import (
	"strconv"
	"time"
)

// Caller is the admin that a verified access token was issued to. The token was
// valid when it was verified. Only the database knows whether the session, the
// admin and the organization still exist, the token version is still the admin's,
// and what the admin's role is now.
type Caller struct {
	AdminID        string
	OrganizationID string
	Role           string    // when the token was issued; empty in tokens of older versions
	EmailVerified  bool      // when the token was issued; not in the context of an authorizer
	Audience       string    // of the token, with spaces between them; not in the context of an authorizer
	TokenVersion   int64     // the admin's at the login
	SessionID      string    // of the login
	ExpiresAt      time.Time // in whole seconds
}

// Keys of the context in which the authorizer passes the caller on. All values
// are strings, because no gateway changes a string.
const (
	contextAdminID        = "admin_id"
	contextOrganizationID = "organization_id"
	contextRole           = "role"
	contextTokenVersion   = "token_version"
	contextSessionID      = "session_id"
	contextExpiresAt      = "expires_at" // Unix time in seconds
)

// Context returns the caller as the context of an authorizer's response.
func (c Caller) Context() map[string]any {
	values := map[string]any{
		contextAdminID:        c.AdminID,
		contextOrganizationID: c.OrganizationID,
		contextTokenVersion:   strconv.FormatInt(c.TokenVersion, 10),
		contextSessionID:      c.SessionID,
		contextExpiresAt:      strconv.FormatInt(c.ExpiresAt.Unix(), 10),
	}
	if c.Role != "" {
		values[contextRole] = c.Role
	}
	return values
}

// CallerFromContext returns the caller that [Caller.Context] wrote into values,
// or false if they hold none.
func CallerFromContext(values map[string]any) (Caller, bool) {
	text := func(key string) string {
		s, _ := values[key].(string)
		return s
	}
	version, err1 := strconv.ParseInt(text(contextTokenVersion), 10, 64)
	expiry, err2 := strconv.ParseInt(text(contextExpiresAt), 10, 64)
	c := Caller{
		AdminID:        text(contextAdminID),
		OrganizationID: text(contextOrganizationID),
		Role:           text(contextRole),
		TokenVersion:   version,
		SessionID:      text(contextSessionID),
		ExpiresAt:      time.Unix(expiry, 0),
	}
	return c, err1 == nil && err2 == nil && c.AdminID != "" && c.OrganizationID != "" && c.SessionID != ""
}
