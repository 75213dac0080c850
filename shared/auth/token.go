package auth

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
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

// maxTokenBytes is more than any token of ours has.
const maxTokenBytes = 4096

// ErrToken is what every error of [Verifier.Verify] wraps; what else it says
// is for a log and not for the client.
var ErrToken = errors.New("invalid access token")

// ErrUnknownKey is wrapped, too, when the token was signed with a key that the
// verifier does not have, or says so.
var ErrUnknownKey = errors.New("unknown key")

type claims struct {
	jwt.RegisteredClaims
	OrganizationID string `json:"org"`
	TokenVersion   *int64 `json:"ver"`
	SessionID      string `json:"sid"`
}

// Signer signs access tokens.
type Signer struct {
	method jwt.SigningMethod
	keyID  string
	key    any
}

// NewSigner returns a signer with a secret of at least MinSecretBytes (HS256).
func NewSigner(secret []byte) (*Signer, error) {
	if err := checkSecret(secret); err != nil {
		return nil, err
	}
	return &Signer{method: jwt.SigningMethodHS256, keyID: secretKeyID(secret), key: secret}, nil
}

// NewPrivateKeySigner returns a signer with a private key in PEM: Ed25519
// (EdDSA) or on the curve P-256 (ES256).
func NewPrivateKeySigner(pem []byte) (*Signer, error) {
	private, err := parsePrivateKey(pem)
	if err != nil {
		return nil, err
	}
	public, err := newPublicKey(private.Public())
	if err != nil {
		return nil, err
	}
	return &Signer{method: public.method, keyID: public.jwk.KeyID, key: private}, nil
}

// Sign returns a token for the caller, good from now until the caller's
// ExpiresAt.
func (s *Signer) Sign(c Caller, now time.Time) (string, error) {
	token := jwt.NewWithClaims(s.method, claims{
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
		TokenVersion:   &c.TokenVersion,
		SessionID:      c.SessionID,
	})
	token.Header["typ"] = tokenType
	token.Header["kid"] = s.keyID
	signed, err := token.SignedString(s.key)
	if err != nil {
		return "", fmt.Errorf("sign access token: %w", err)
	}
	return signed, nil
}

// Verifier verifies access tokens.
type Verifier struct {
	keys   map[string]verifyingKey // by key id
	parser *jwt.Parser
}

// verifyingKey is a key with the one algorithm that it is for.
type verifyingKey struct {
	method jwt.SigningMethod
	key    any
}

// NewVerifier returns a verifier of the tokens that were signed with any of
// the secrets, each of at least MinSecretBytes.
func NewVerifier(secrets ...[]byte) (*Verifier, error) {
	v := &Verifier{
		keys: map[string]verifyingKey{},
		parser: jwt.NewParser(
			jwt.WithValidMethods([]string{"HS256", "EdDSA", "ES256"}),
			jwt.WithIssuer(Issuer),
			jwt.WithAudience(Audience),
			jwt.WithExpirationRequired(),
			jwt.WithStrictDecoding(),
		),
	}
	for _, secret := range secrets {
		if err := checkSecret(secret); err != nil {
			return nil, err
		}
		v.keys[secretKeyID(secret)] = verifyingKey{jwt.SigningMethodHS256, secret}
	}
	return v, nil
}

// AddPublicKeys lets the verifier accept what was signed with the private keys
// of the public ones in pem, too.
func (v *Verifier) AddPublicKeys(pem []byte) error {
	keys, err := parsePublicKeys(pem)
	for _, k := range keys {
		v.keys[k.jwk.KeyID] = verifyingKey{k.method, k.key}
	}
	return err
}

// Verify returns the caller that the token was signed for. Its errors wrap
// ErrToken.
func (v *Verifier) Verify(token string) (Caller, error) {
	var c claims
	err := checkForm(token)
	if err == nil {
		_, err = v.parser.ParseWithClaims(token, &c, v.keyOf)
	}
	if err == nil && (c.Subject == "" || c.OrganizationID == "" || c.SessionID == "" || c.ID == "" ||
		c.TokenVersion == nil || c.NotBefore == nil) {
		err = errors.New("a claim is missing")
	}
	if err != nil {
		return Caller{}, fmt.Errorf("%w: %w", ErrToken, err)
	}
	return Caller{
		AdminID:        c.Subject,
		OrganizationID: c.OrganizationID,
		TokenVersion:   *c.TokenVersion,
		SessionID:      c.SessionID,
		ExpiresAt:      c.ExpiresAt.Time,
	}, nil
}

// keyOf returns the key that the header names, which must be one of ours; what
// a header says of keys otherwise, as in jku or jwk, is refused (RFC 8725,
// sections 3.1, 3.5 and 3.10).
func (v *Verifier) keyOf(t *jwt.Token) (any, error) {
	for name := range t.Header {
		if name != "alg" && name != "typ" && name != "kid" {
			return nil, fmt.Errorf("header parameter %.20q", name)
		}
	}
	if t.Header["typ"] != tokenType {
		return nil, errors.New("not an access token")
	}
	id, _ := t.Header["kid"].(string)
	key, ok := v.keys[id]
	if !ok {
		return nil, ErrUnknownKey
	}
	if t.Method.Alg() != key.method.Alg() {
		return nil, errors.New("not the algorithm of the key")
	}
	return key.key, nil
}

// checkForm refuses a token whose header or payload has a name twice: of two
// parsers one may take the first and one the last (RFC 8725, section 2.4).
func checkForm(token string) error {
	if len(token) > maxTokenBytes {
		return errors.New("too long")
	}
	// The decoder passes over line ends.
	if strings.ContainsAny(token, "\r\n") {
		return errors.New("not base64url")
	}
	segments := strings.Split(token, ".")
	if len(segments) != 3 {
		return errors.New("not three segments")
	}
	for _, segment := range segments[:2] {
		object, err := base64.RawURLEncoding.Strict().DecodeString(segment)
		if err != nil {
			return err
		}
		if err := checkObject(object); err != nil {
			return err
		}
	}
	return nil
}

func checkObject(object []byte) error {
	d := json.NewDecoder(bytes.NewReader(object))
	if start, err := d.Token(); err != nil || start != json.Delim('{') {
		return errors.New("not a JSON object")
	}
	seen := map[string]bool{}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return err
		}
		// The standard library's decoder does not tell the cases apart.
		key := strings.ToLower(name.(string))
		if seen[key] {
			return fmt.Errorf("%.20q is there twice", key)
		}
		seen[key] = true
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return err
		}
	}
	return nil
}

func checkSecret(secret []byte) error {
	if len(secret) < MinSecretBytes {
		return fmt.Errorf("must have at least %d bytes, has %d", MinSecretBytes, len(secret))
	}
	return nil
}

// secretKeyID names a secret without telling anything of it.
func secretKeyID(secret []byte) string {
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte("key id"))
	return hex.EncodeToString(mac.Sum(nil)[:8])
}
