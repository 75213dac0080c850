package auth

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
)

const (
	sessionIDBytes     = 16
	refreshSecretBytes = 32
	refreshTextBytes   = (sessionIDBytes + refreshSecretBytes) / 3 * 4 // in base64
)

// RefreshToken is exchanged for new tokens of a session. The client has it as
// opaque text; the database has only its hash.
type RefreshToken struct {
	SessionID string
	secret    [refreshSecretBytes]byte
}

// NewSessionID returns a random id for a new session.
func NewSessionID() string {
	id := make([]byte, sessionIDBytes)
	rand.Read(id)
	return hex.EncodeToString(id)
}

// NewRefreshToken returns a random token for the session. sessionID is the
// result of [NewSessionID].
func NewRefreshToken(sessionID string) RefreshToken {
	t := RefreshToken{SessionID: sessionID}
	rand.Read(t.secret[:])
	return t
}

// ParseRefreshToken parses the result of [RefreshToken.Text]. It returns false
// if text is malformed.
func ParseRefreshToken(text string) (RefreshToken, bool) {
	// The decoder ignores line breaks, so both lengths are checked.
	if len(text) != refreshTextBytes {
		return RefreshToken{}, false
	}
	b, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil || len(b) != sessionIDBytes+refreshSecretBytes {
		return RefreshToken{}, false
	}
	t := RefreshToken{SessionID: hex.EncodeToString(b[:sessionIDBytes])}
	copy(t.secret[:], b[sessionIDBytes:])
	return t, true
}

// Text returns the token as the client has it.
func (t RefreshToken) Text() string {
	id, _ := hex.DecodeString(t.SessionID)
	return base64.RawURLEncoding.EncodeToString(append(id, t.secret[:]...))
}

// Hash returns the hash that the database has. The secret is random, so a fast
// hash is enough.
func (t RefreshToken) Hash() string {
	sum := sha256.Sum256(t.secret[:])
	return hex.EncodeToString(sum[:])
}

// Matches reports whether hash is the hash of the token, in constant time.
func (t RefreshToken) Matches(hash string) bool {
	return subtle.ConstantTimeCompare([]byte(t.Hash()), []byte(hash)) == 1
}
