package auth

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"

	"github.com/golang-jwt/jwt/v5"
)

// Every access token has these values (RFC 9068), and every verifier requires all but the
// client, which tokens of older versions don't have. There is one client: whoever has logged in
// here.
const (
	Issuer    = "organization-management-service"
	Audience  = "organization-management-service"
	ClientID  = "organization-management-service"
	tokenType = "at+jwt"
)

// MinSecretBytes is the minimum length of a secret: the size of the hash (RFC
// 7518, section 3.2).
const MinSecretBytes = sha256.Size

// maxTokenBytes is the maximum length of a token. Ours are much shorter.
const maxTokenBytes = 4096

// ErrToken is wrapped by every error of [Verifier.Verify], as is a [Refusal].
var ErrToken = errors.New("invalid access token")

// Refusal says in a few words why a token is refused, for a log and not for the
// client. It quotes nothing of the token, which anybody can make up.
type Refusal string

func (r Refusal) Error() string { return string(r) }

// ErrUnknownKey is the refusal of a token that names a key that the verifier does
// not have.
const ErrUnknownKey Refusal = "unknown key"

// refusals are the refusals by the library. The first that applies counts.
var refusals = []struct {
	err     error
	refusal Refusal
}{
	{jwt.ErrTokenMalformed, "the token is malformed"},
	{jwt.ErrTokenSignatureInvalid, "the signature or the algorithm is wrong"},
	{jwt.ErrTokenUnverifiable, "there is no such algorithm"},
	{jwt.ErrTokenInvalidIssuer, "the issuer is wrong"},
	{jwt.ErrTokenInvalidAudience, "the audience is wrong"},
	{jwt.ErrTokenNotValidYet, "the token is not valid yet"},
	{jwt.ErrTokenExpired, "the token has expired"},
}

// refusalOf returns the reason in an error of the library or of what it has called.
func refusalOf(err error) Refusal {
	if own, ok := errors.AsType[Refusal](err); ok {
		return own
	}
	for _, r := range refusals {
		if errors.Is(err, r.err) {
			return r.refusal
		}
	}
	return "a claim is missing"
}

type claims struct {
	jwt.RegisteredClaims
	OrganizationID string   `json:"org"`
	ClientID       string   `json:"client_id"`      // RFC 8693, section 4.3
	Roles          []string `json:"roles"`          // RFC 9068, section 2.2.3.1
	EmailVerified  bool     `json:"email_verified"` // OpenID Connect Core 1.0, section 5.1
	TokenVersion   *int64   `json:"ver"`
	SessionID      string   `json:"sid"`
}

// Signer signs access tokens.
type Signer struct {
	// Audiences are those of other services that take the tokens, besides Audience.
	Audiences []string

	method jwt.SigningMethod
	keyID  string
	key    any

	pseudonyms []byte // the key of pseudonyms
}

// NewSigner returns a signer that signs with the secret (HS256). The secret must
// have at least MinSecretBytes.
func NewSigner(secret []byte) (*Signer, error) {
	if err := checkSecret(secret); err != nil {
		return nil, err
	}
	return &Signer{method: jwt.SigningMethodHS256, keyID: secretKeyID(secret), key: secret, pseudonyms: derive(secret, "pseudonyms")}, nil
}

// NewPrivateKeySigner returns a signer that signs with the private key in data,
// which is PEM. The key must be Ed25519 (EdDSA) or P-256 (ES256).
func NewPrivateKeySigner(data []byte) (*Signer, error) {
	private, err := parsePrivateKey(data)
	if err != nil {
		return nil, err
	}
	public, err := newPublicKey(private.Public())
	if err != nil {
		return nil, err
	}
	encoded, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return nil, err
	}
	return &Signer{method: public.method, keyID: public.jwk.KeyID, key: private, pseudonyms: derive(encoded, "pseudonyms")}, nil
}

// Pseudonym returns a text that stands for s in a log: always the same one, as long as the
// signer has the same key, without which nobody can find s by trying.
func (s *Signer) Pseudonym(text string) string {
	return hex.EncodeToString(derive(s.pseudonyms, text)[:8])
}

// Sign returns a token for the caller, which is valid from now until
// c.ExpiresAt.
func (s *Signer) Sign(c Caller, now time.Time) (string, error) {
	token := jwt.NewWithClaims(s.method, claims{
		RegisteredClaims: jwt.RegisteredClaims{
			Issuer:    Issuer,
			Audience:  append(jwt.ClaimStrings{Audience}, s.Audiences...),
			Subject:   c.AdminID,
			IssuedAt:  jwt.NewNumericDate(now),
			NotBefore: jwt.NewNumericDate(now),
			ExpiresAt: jwt.NewNumericDate(c.ExpiresAt),
			ID:        rand.Text(),
		},
		OrganizationID: c.OrganizationID,
		ClientID:       ClientID,
		Roles:          []string{c.Role},
		EmailVerified:  c.EmailVerified,
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

// verifyingKey is a key and the only algorithm that it is used with.
type verifyingKey struct {
	method jwt.SigningMethod
	key    any
}

// NewVerifier returns a verifier that accepts tokens signed with any of the
// secrets. Each must have at least MinSecretBytes.
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

// AddPublicKeys makes the verifier accept tokens signed with the private keys of
// the public keys in data, too, which is PEM. If it fails, it adds none.
func (v *Verifier) AddPublicKeys(data []byte) error {
	keys, err := parsePublicKeys(data)
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
		err = Refusal("a claim is missing")
	}
	if err != nil {
		return Caller{}, fmt.Errorf("%w: %w", ErrToken, refusalOf(err))
	}
	return Caller{
		AdminID:        c.Subject,
		OrganizationID: c.OrganizationID,
		Role:           strings.Join(c.Roles, " "),
		EmailVerified:  c.EmailVerified,
		Audience:       strings.Join(c.Audience, " "),
		TokenVersion:   *c.TokenVersion,
		SessionID:      c.SessionID,
		ExpiresAt:      c.ExpiresAt.Time,
	}, nil
}

// keyOf returns the key that the header of the token names, which must be one of
// the verifier's. It refuses any other parameter of a header, such as jku and
// jwk (RFC 8725, sections 3.1, 3.5 and 3.10).
func (v *Verifier) keyOf(t *jwt.Token) (any, error) {
	for name := range t.Header {
		if name != "alg" && name != "typ" && name != "kid" {
			return nil, Refusal("unexpected header parameter")
		}
	}
	if t.Header["typ"] != tokenType {
		return nil, Refusal("not an access token")
	}
	id, _ := t.Header["kid"].(string)
	key, ok := v.keys[id]
	if !ok {
		return nil, ErrUnknownKey
	}
	if t.Method.Alg() != key.method.Alg() {
		return nil, Refusal("not the algorithm of the key")
	}
	return key.key, nil
}

// checkForm refuses a token that is too long, is malformed, or has a name twice in its
// header or payload, or one that is not in lower case in its payload: one parser may take
// the first and another one the last (RFC 8725, section 2.4).
func checkForm(token string) error {
	if len(token) > maxTokenBytes {
		return Refusal("too long")
	}
	// The decoder ignores line breaks.
	if strings.ContainsAny(token, "\r\n") {
		return Refusal("not base64url")
	}
	segments := strings.Split(token, ".")
	if len(segments) != 3 {
		return Refusal("not three segments")
	}
	for i, segment := range segments[:2] {
		object, err := base64.RawURLEncoding.Strict().DecodeString(segment)
		if err != nil {
			return Refusal("not base64url")
		}
		if err := checkObject(object, i == 1); err != nil {
			return err
		}
	}
	return nil
}

const errNotObject = Refusal("not a JSON object")

func checkObject(object []byte, payload bool) error {
	d := json.NewDecoder(bytes.NewReader(object))
	if start, err := d.Token(); err != nil || start != json.Delim('{') {
		return errNotObject
	}
	seen := map[string]bool{}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return errNotObject
		}
		// json.Unmarshal takes Sub and ſub for sub. The names of a header are compared in keyOf.
		if payload && strings.ContainsFunc(name.(string), func(r rune) bool { return r >= 'A' && r <= 'Z' || r > unicode.MaxASCII }) {
			return Refusal("unexpected name")
		}
		if seen[name.(string)] {
			return Refusal("a name is there twice")
		}
		seen[name.(string)] = true
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return errNotObject
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

// secretKeyID returns a key id for the secret that reveals nothing about it.
func secretKeyID(secret []byte) string {
	return hex.EncodeToString(derive(secret, "key id")[:8])
}

// derive returns the HMAC of the text.
func derive(key []byte, text string) []byte {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(text))
	return mac.Sum(nil)
}
