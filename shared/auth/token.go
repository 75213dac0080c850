package auth

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// What every access token says of itself (RFC 9068), and every verifier asks.
const (
	Issuer    = "organization-management-service"
	Audience  = "organization-management-service"
	tokenType = "at+jwt"
)

// MinSecretBytes is the length of the shortest secret that signs: that of the
// hash (RFC 7518, section 3.2).
const MinSecretBytes = sha256.Size

// ErrToken is the one error of [Verifier.Verify]; what it wraps says why, for
// a log and not for the client.
var ErrToken = errors.New("invalid access token")

type claims struct {
	jwt.RegisteredClaims
	OrganizationID string `json:"org"`
	TokenVersion   int64  `json:"ver"`
}

// Signer signs access tokens.
type Signer struct {
	keyID  string
	secret []byte
}

// NewSigner returns a signer with a secret of at least MinSecretBytes.
func NewSigner(secret []byte) (*Signer, error) {
	if err := checkSecret(secret); err != nil {
		return nil, err
	}
	return &Signer{keyID: keyID(secret), secret: secret}, nil
}

// Sign returns a token for the caller, good from now until the caller's
// ExpiresAt.
func (s *Signer) Sign(c Caller, now time.Time) (string, error) {
	token := jwt.NewWithClaims(jwt.SigningMethodHS256, claims{
		RegisteredClaims: jwt.RegisteredClaims{
			Issuer:    Issuer,
			Audience:  jwt.ClaimStrings{Audience},
			Subject:   c.AdminID,
			IssuedAt:  jwt.NewNumericDate(now),
			NotBefore: jwt.NewNumericDate(now),
			ExpiresAt: jwt.NewNumericDate(c.ExpiresAt),
			ID:        rand.Text(),
		},
		OrganizationID: c.OrganizationID,
		TokenVersion:   c.TokenVersion,
	})
	token.Header["typ"] = tokenType
	token.Header["kid"] = s.keyID
	signed, err := token.SignedString(s.secret)
	if err != nil {
		return "", fmt.Errorf("sign access token: %w", err)
	}
	return signed, nil
}

// Verifier verifies access tokens.
type Verifier struct {
	keys   map[string][]byte // by key id
	parser *jwt.Parser
}

// NewVerifier returns a verifier of the tokens that were signed with any of
// the secrets, each of at least MinSecretBytes.
func NewVerifier(secrets ...[]byte) (*Verifier, error) {
	keys := map[string][]byte{}
	for _, secret := range secrets {
		if err := checkSecret(secret); err != nil {
			return nil, err
		}
		keys[keyID(secret)] = secret
	}
	if len(keys) == 0 {
		return nil, errors.New("no secret to verify with")
	}
	return &Verifier{
		keys: keys,
		parser: jwt.NewParser(
			jwt.WithValidMethods([]string{jwt.SigningMethodHS256.Alg()}),
			jwt.WithIssuer(Issuer),
			jwt.WithAudience(Audience),
			jwt.WithExpirationRequired(),
			jwt.WithStrictDecoding(),
		),
	}, nil
}

// Verify returns the caller that the token was signed for. Its errors wrap
// ErrToken.
func (v *Verifier) Verify(token string) (Caller, error) {
	var c claims
	_, err := v.parser.ParseWithClaims(token, &c, func(t *jwt.Token) (any, error) {
		if t.Header["typ"] != tokenType {
			return nil, errors.New("not an access token")
		}
		id, _ := t.Header["kid"].(string)
		secret, ok := v.keys[id]
		if !ok {
			return nil, errors.New("unknown key")
		}
		return secret, nil
	})
	if err != nil {
		return Caller{}, fmt.Errorf("%w: %w", ErrToken, err)
	}
	if c.Subject == "" || c.OrganizationID == "" {
		return Caller{}, fmt.Errorf("%w: names nobody", ErrToken)
	}
	return Caller{
		AdminID:        c.Subject,
		OrganizationID: c.OrganizationID,
		TokenVersion:   c.TokenVersion,
		ExpiresAt:      c.ExpiresAt.Time,
	}, nil
}

func checkSecret(secret []byte) error {
	if len(secret) < MinSecretBytes {
		return fmt.Errorf("must have at least %d bytes, has %d", MinSecretBytes, len(secret))
	}
	return nil
}

// keyID names a secret without telling anything of it.
func keyID(secret []byte) string {
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte("key id"))
	return hex.EncodeToString(mac.Sum(nil)[:8])
}
