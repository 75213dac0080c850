package auth

import (
	"context"
	"errors"
	"time"
)

// reloadInterval is the minimum time between two loads of all keys. A token with an
// unknown key id causes a load, and anybody can make up such tokens.
const reloadInterval = time.Minute

// Keys verifies access tokens with keys that may be rotated: when a token names an
// unknown key, they are loaded again, at most once a minute. It is for one request at a
// time, as every Lambda function has, and not for concurrent use.
type Keys struct {
	load     func(ctx context.Context, all bool) (*Verifier, error)
	verifier *Verifier
	all      bool      // the last load was of all keys
	loaded   time.Time // when the last load began
	failed   error     // of the last load; nil if it succeeded
}

// NewKeys loads the keys and returns them, or the error of load. A load that is not of all
// keys may leave out what takes time and only old tokens need.
func NewKeys(ctx context.Context, load func(ctx context.Context, all bool) (*Verifier, error)) (*Keys, error) {
	k := &Keys{load: load}
	if err := k.reload(ctx, false); err != nil {
		return nil, err
	}
	return k, nil
}

// reload loads the keys. If it fails, the ones from before stay.
func (k *Keys) reload(ctx context.Context, all bool) error {
	k.all, k.loaded = all, time.Now() // even if it fails
	verifier, err := k.load(ctx, all)
	if err == nil {
		k.verifier = verifier
	}
	k.failed = err
	return err
}

// Verify returns the caller that the token was signed for. Its errors wrap ErrToken, but
// for the error of load if that has failed and the token may be valid.
func (k *Keys) Verify(ctx context.Context, token string) (Caller, error) {
	caller, err := k.verifier.Verify(token)
	if !errors.Is(err, ErrUnknownKey) {
		return caller, err
	}
	if !k.all || time.Since(k.loaded) >= reloadInterval {
		// The key may have been rotated since the last load.
		if k.reload(ctx, true) == nil {
			return k.verifier.Verify(token)
		}
	}
	if k.failed != nil {
		return Caller{}, k.failed
	}
	return caller, err
}
