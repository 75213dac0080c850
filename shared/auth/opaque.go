package auth

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
)

const (
	opaqueIDBytes     = 16
	opaqueSecretBytes = 32
	sessionIDBytes    = 20
	opaqueTextBytes   = (opaqueIDBytes + opaqueSecretBytes) / 3 * 4 // in base64
)

// OpaqueToken is a secret with the id of what it is for: the refresh token of a
// session, or a ticket that was mailed. Its owner has it as opaque text; the database
// has only its hash.
type OpaqueToken struct {
	ID     string
	secret [opaqueSecretBytes]byte
}

// NewOpaqueID returns a random id.
func NewOpaqueID() string {
	id := make([]byte, opaqueIDBytes)
	rand.Read(id)
	return hex.EncodeToString(id)
}

// NewOpaqueToken returns a random token of that id, which is the result of
// [NewOpaqueID].
func NewOpaqueToken(id string) OpaqueToken {
	t := OpaqueToken{ID: id}
	rand.Read(t.secret[:])
	return t
}

// ParseOpaqueToken parses the result of [OpaqueToken.Text]. It returns false
// if text is malformed.
func ParseOpaqueToken(text string) (OpaqueToken, bool) {
	// The decoder ignores line breaks, so both lengths are checked.
	if len(text) != opaqueTextBytes {
		return OpaqueToken{}, false
	}
	b, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil || len(b) != opaqueIDBytes+opaqueSecretBytes {
		return OpaqueToken{}, false
	}
	t := OpaqueToken{ID: hex.EncodeToString(b[:opaqueIDBytes])}
	copy(t.secret[:], b[opaqueIDBytes:])
	return t, true
}

// SessionID returns the id of the session whose refresh token this is. It does not reveal
// the token's own id, because every access token has it, and whoever gets one must not be
// able to make up a refresh token of the session, not even a wrong one, which would end
// it. It is longer than a token's own id, so that neither can be taken for the other.
func (t OpaqueToken) SessionID() string {
	sum := sha256.Sum256([]byte("session " + t.ID))
	return hex.EncodeToString(sum[:sessionIDBytes])
}

// Text returns the token as the client has it.
func (t OpaqueToken) Text() string {
	id, _ := hex.DecodeString(t.ID)
	return base64.RawURLEncoding.EncodeToString(append(id, t.secret[:]...))
}

// Hash returns the hash that the database has. The secret is random, so a fast
// hash is enough.
func (t OpaqueToken) Hash() string {
	sum := sha256.Sum256(t.secret[:])
	return hex.EncodeToString(sum[:])
}

// Matches reports whether hash is the hash of the token, in constant time.
func (t OpaqueToken) Matches(hash string) bool {
	return subtle.ConstantTimeCompare([]byte(t.Hash()), []byte(hash)) == 1
}
