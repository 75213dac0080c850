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

// RefreshToken keeps a session going. A client has it as opaque text; the
// database has the hash of it alone.
type RefreshToken struct {
	SessionID string
	secret    [refreshSecretBytes]byte
}

// NewSessionID returns the id of a new session.
func NewSessionID() string {
	id := make([]byte, sessionIDBytes)
	rand.Read(id)
	return hex.EncodeToString(id)
}

// NewRefreshToken returns a new token of the session.
func NewRefreshToken(sessionID string) RefreshToken {
	t := RefreshToken{SessionID: sessionID}
	rand.Read(t.secret[:])
	return t
}

// ParseRefreshToken returns the token that text stands for, or false.
func ParseRefreshToken(text string) (RefreshToken, bool) {
	// The decoder passes over line ends, so both lengths count.
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

// Text returns the token for the client.
func (t RefreshToken) Text() string {
	id, _ := hex.DecodeString(t.SessionID)
	return base64.RawURLEncoding.EncodeToString(append(id, t.secret[:]...))
}

// Hash returns what the database keeps. The secret is random, so a fast hash
// is enough.
func (t RefreshToken) Hash() string {
	sum := sha256.Sum256(t.secret[:])
	return hex.EncodeToString(sum[:])
}

// Matches reports whether hash is the token's.
func (t RefreshToken) Matches(hash string) bool {
	return subtle.ConstantTimeCompare([]byte(t.Hash()), []byte(hash)) == 1
}
