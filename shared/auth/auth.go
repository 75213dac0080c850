// Package auth proves who calls: it hashes and compares passwords, and signs
// and verifies access tokens. It knows neither HTTP nor the database, so that
// the authorizer, which answers every request, links little else.
package auth

import (
	"strconv"
	"time"
)

// Caller is the admin that a verified access token speaks for. The token was
// genuine and in force when it was verified; whether its admin, organization
// and version still stand only the database knows.
type Caller struct {
	AdminID        string
	OrganizationID string
	TokenVersion   int64     // the admin's at the login
	SessionID      string    // of the login
	ExpiresAt      time.Time // to the second
}

// The keys of the context in which the authorizer hands the caller on. All
// values are text, which every gateway leaves as it is.
const (
	contextAdminID        = "admin_id"
	contextOrganizationID = "organization_id"
	contextTokenVersion   = "token_version"
	contextSessionID      = "session_id"
	contextExpiresAt      = "expires_at" // Unix time in seconds
)

// Context returns the caller as the context of an authorizer's answer.
func (c Caller) Context() map[string]any {
	return map[string]any{
		contextAdminID:        c.AdminID,
		contextOrganizationID: c.OrganizationID,
		contextTokenVersion:   strconv.FormatInt(c.TokenVersion, 10),
		contextSessionID:      c.SessionID,
		contextExpiresAt:      strconv.FormatInt(c.ExpiresAt.Unix(), 10),
	}
}

// CallerFromContext returns the caller that [Caller.Context] wrote, or false
// when the context holds none.
func CallerFromContext(context map[string]any) (Caller, bool) {
	text := func(key string) string {
		s, _ := context[key].(string)
		return s
	}
	version, err1 := strconv.ParseInt(text(contextTokenVersion), 10, 64)
	expiry, err2 := strconv.ParseInt(text(contextExpiresAt), 10, 64)
	c := Caller{
		AdminID:        text(contextAdminID),
		OrganizationID: text(contextOrganizationID),
		TokenVersion:   version,
		SessionID:      text(contextSessionID),
		ExpiresAt:      time.Unix(expiry, 0),
	}
	return c, err1 == nil && err2 == nil && c.AdminID != "" && c.OrganizationID != "" && c.SessionID != ""
}
