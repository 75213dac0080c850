package auth

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"time"
)

// secretsAge is after how long secrets are loaded again, so that one that was taken away is
// not good for longer.
const secretsAge = 5 * time.Minute

// Secrets are those with which another program proves who it is. They may be rotated: they
// are loaded again when one is unknown, at most once a minute, and when they are five minutes
// old. Like Keys they are for one request at a time.
type Secrets struct {
	load   func(context.Context) ([]string, error)
	hashes [][sha256.Size]byte
	loaded time.Time // when the last load began
	failed error     // of the last load; nil if it succeeded
}

// NewSecrets loads the secrets and returns them, or the error of load.
func NewSecrets(ctx context.Context, load func(context.Context) ([]string, error)) (*Secrets, error) {
	s := &Secrets{load: load}
	s.reload(ctx)
	if s.failed != nil {
		return nil, s.failed
	}
	return s, nil
}

// reload loads the secrets. If it fails, the ones from before stay.
func (s *Secrets) reload(ctx context.Context) {
	s.loaded = time.Now()
	var secrets []string
	if secrets, s.failed = s.load(ctx); s.failed != nil {
		return
	}
	s.hashes = nil
	for _, secret := range secrets {
		s.hashes = append(s.hashes, sha256.Sum256([]byte(secret)))
	}
}

// Has reports whether any of the texts is one of the secrets. Its error is that of load if
// that has failed and a text may be one all the same.
func (s *Secrets) Has(ctx context.Context, texts ...string) (bool, error) {
	if time.Since(s.loaded) >= secretsAge {
		s.reload(ctx)
	}
	found := s.knows(texts)
	if !found && time.Since(s.loaded) >= reloadInterval {
		s.reload(ctx)
		found = s.knows(texts)
	}
	if !found && s.failed != nil {
		return false, s.failed
	}
	return found, nil
}

// knows compares in constant time, but for the number of texts.
func (s *Secrets) knows(texts []string) bool {
	found := 0
	for _, text := range texts {
		hash := sha256.Sum256([]byte(text))
		for i := range s.hashes {
			found |= subtle.ConstantTimeCompare(hash[:], s.hashes[i][:])
		}
	}
	return found == 1
}
