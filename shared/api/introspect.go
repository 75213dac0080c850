package api

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"net/http"
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
	Subject        string   `json:"sub,omitempty"`
	ClientID       string   `json:"client_id,omitempty"`
	ExpiresAt      int64    `json:"exp,omitempty"` // seconds since 1970
	OrganizationID string   `json:"org,omitempty"`
	SessionID      string   `json:"sid,omitempty"`
	Roles          []string `json:"roles,omitempty"`
}

var errClientRefused = refuse(http.StatusUnauthorized, clientRefused,
	"the request must have a secret of INTROSPECTION_SECRET, as the bearer token or the password of HTTP Basic")

// Introspect handles POST /admin/introspect, for whoever has one of the secrets. verify
// returns the caller of an access token, or an error that wraps auth.ErrToken.
func Introspect(s *org.Service, secrets []string, verify func(ctx context.Context, token string) (auth.Caller, error)) http.Handler {
	return handler(&introspectRoute, func(r request[introspectRequest]) (introspection, error) {
		ctx := r.http.Context()
		if wrong := r.content.Validate(); wrong != nil {
			return introspection{}, &org.Error{Kind: org.Invalid, Reason: org.InvalidFields, Message: "some fields are missing or not valid", Fields: wrong}
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
			Active: true, TokenType: "Bearer", Issuer: auth.Issuer, Subject: caller.AdminID, ClientID: auth.ClientID,
			ExpiresAt: caller.ExpiresAt.Unix(), OrganizationID: o.ID, SessionID: caller.SessionID, Roles: []string{string(role)},
		}, nil
	}, func(r *http.Request) error {
		if !hasSecret(r, secrets) {
			return errClientRefused
		}
		return nil
	})
}

// hasSecret reports whether the request has one of the secrets, in constant time, as the
// bearer token or as the password of HTTP Basic.
func hasSecret(r *http.Request, secrets []string) bool {
	_, given, ok := r.BasicAuth()
	if !ok {
		scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
		if !strings.EqualFold(scheme, "bearer") {
			return false
		}
		given = strings.TrimSpace(token)
	}
	hash, found := sha256.Sum256([]byte(given)), 0
	for _, secret := range secrets {
		want := sha256.Sum256([]byte(secret))
		found |= subtle.ConstantTimeCompare(hash[:], want[:])
	}
	return found == 1
}
