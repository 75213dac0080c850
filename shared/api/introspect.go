package api

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"

	"orgservice/shared/auth"
	"orgservice/shared/org"
)

// introspectRequest is the body of an introspection. The hint is not needed, because only
// access tokens are known here.
type introspectRequest struct {
	Token string  `json:"token"`
	Hint  *string `json:"token_type_hint"`
}

// Validate returns what is wrong, field by field.
func (r introspectRequest) Validate() []org.FieldError {
	if r.Token == "" {
		return []org.FieldError{{Field: "token", Message: "is required"}}
	}
	return nil
}

// introspection is the response body of an introspection (RFC 7662, section 2.2). If the
// token is not active, it has nothing else. Its other members are the claims of the token,
// but for the role, which is the one of now.
type introspection struct {
	Active         bool     `json:"active"`
	TokenType      string   `json:"token_type,omitempty"`
	Issuer         string   `json:"iss,omitempty"`
	Audience       []string `json:"aud,omitempty"`
	Subject        string   `json:"sub,omitempty"`
	ClientID       string   `json:"client_id,omitempty"`
	ExpiresAt      int64    `json:"exp,omitempty"` // seconds since 1970
	OrganizationID string   `json:"org,omitempty"`
	SessionID      string   `json:"sid,omitempty"`
	Roles          []string `json:"roles,omitempty"`
}

var errClientRefused = refuse(http.StatusUnauthorized, clientRefused,
	"the request must have a secret of INTROSPECTION_SECRET, as the bearer token or the password of HTTP Basic")

// Introspect handles POST /admin/introspect. isClient reports whether one of the texts is a
// secret that lets other services ask. verify returns the caller of an access token, or an
// error that wraps auth.ErrToken.
func Introspect(
	s *org.Service, isClient func(ctx context.Context, texts ...string) (bool, error), verify func(ctx context.Context, token string) (auth.Caller, error),
) http.Handler {
	return handler(&introspectRoute, func(r request[introspectRequest]) (introspection, error) {
		ctx := r.http.Context()
		if wrong := r.content.Validate(); wrong != nil {
			return introspection{}, invalidFields(wrong)
		}
		caller, err := verify(ctx, r.content.Token)
		if errors.Is(err, auth.ErrToken) {
			return introspection{}, nil
		}
		if err != nil {
			return introspection{}, err
		}
		o, role, active, err := s.Introspect(ctx, caller)
		if err != nil || !active {
			return introspection{}, err
		}
		return introspection{
			Active: true, TokenType: "Bearer", Issuer: auth.Issuer, Audience: strings.Fields(caller.Audience), Subject: caller.AdminID, ClientID: auth.ClientID,
			ExpiresAt: caller.ExpiresAt.Unix(), OrganizationID: o.ID, SessionID: caller.SessionID, Roles: []string{string(role)},
		}, nil
	}, func(r *http.Request) error {
		if ok, err := isClient(r.Context(), given(r)...); err != nil || !ok {
			return cmp.Or(err, error(errClientRefused))
		}
		return nil
	})
}

// given returns what may be the secret that the request has: the bearer token or the password
// of HTTP Basic, which some clients encode as in a form (RFC 6749, section 2.3.1).
func given(r *http.Request) []string {
	if _, password, ok := r.BasicAuth(); ok {
		if decoded, err := url.QueryUnescape(password); err == nil {
			return []string{password, decoded}
		}
		return []string{password}
	}
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "bearer") {
		return nil
	}
	return []string{strings.TrimSpace(token)}
}
