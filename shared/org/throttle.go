package org

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"net/netip"
	"time"
)

// Attempts to prove a password are counted for the account and for the
// client's address, whether the account exists or not, before the password is
// compared: so 100 at once are 100 in the count. A success takes its own
// attempt back, and clears the account's.
//
// The count begins anew every quarter of an hour. In it so many attempts are
// free; each further one is admitted a longer while after the one before, up to
// two minutes. One that comes too early is refused and taken back out of the
// count, so that hammering does not lengthen the wait. At these figures an
// account takes about a hundred guesses an hour, the figure of OWASP ASVS 4.0,
// 2.2.1. So many correct logins at once as are free all succeed.
const (
	attemptWindow       = 15 * time.Minute
	accountFreeAttempts = 10
	addressFreeAttempts = 50
	maxAttemptWait      = 2 * time.Minute
)

// Attempts is a count of attempts.
type Attempts struct {
	Count int64
	Since time.Time // of the first
}

// attempt is one that was admitted.
type attempt struct{ account, address string } // keys; address may be empty

// admit counts an attempt on the account from the address, or returns
// ErrThrottled.
func (s *Service) admit(ctx context.Context, email, address string) (attempt, error) {
	a := attempt{account: s.attemptKey("account", email)}
	if ip, err := netip.ParseAddr(address); err == nil {
		bits := ip.BitLen()
		if ip.Is6() && !ip.Is4In6() {
			bits = 64 // what one customer has
		}
		prefix, _ := ip.WithZone("").Prefix(bits)
		a.address = s.attemptKey("address", prefix.String())
	}
	var accountWait, addressWait time.Duration
	err := atOnce(
		func() (err error) { accountWait, err = s.count(ctx, a.account, accountFreeAttempts); return err },
		func() (err error) { addressWait, err = s.count(ctx, a.address, addressFreeAttempts); return err },
	)
	if err != nil {
		return a, err
	}
	if wait := max(accountWait, addressWait); wait > 0 {
		s.takeBack(ctx, a.account)
		s.takeBack(ctx, a.address)
		return a, &Error{Kind: Throttled, Message: "too many failed attempts: try again later", RetryAfter: min(wait, maxAttemptWait)}
	}
	return a, nil
}

// attemptKey returns the key of a count that begins anew with every window. It
// does not tell whose it is.
func (s *Service) attemptKey(kind, of string) string {
	sum := sha256.Sum256([]byte(kind + " " + of))
	window := s.now().Truncate(attemptWindow).UTC().Format("20060102T1504")
	return kind + ":" + hex.EncodeToString(sum[:16]) + ":" + window
}

// count counts one attempt and returns how long it is too early.
func (s *Service) count(ctx context.Context, key string, free int64) (time.Duration, error) {
	if key == "" {
		return 0, nil
	}
	now := s.now()
	attempts, err := s.Store.CountAttempt(ctx, key, now, now.Add(2*attemptWindow))
	if err != nil || attempts.Count <= free {
		return 0, err
	}
	return attempts.Since.Add(offset(attempts.Count - free)).Sub(now), nil
}

// offset returns how long after the first attempt of a window the n-th that is
// not free is admitted.
func offset(n int64) time.Duration {
	var sum time.Duration
	wait := time.Second
	for range n {
		sum += wait
		wait = min(2*wait, maxAttemptWait)
		if sum > attemptWindow {
			break // the window ends before
		}
	}
	return sum
}

// succeeded forgets what was counted against the account.
func (s *Service) succeeded(ctx context.Context, a attempt) {
	atOnce(
		func() error {
			if err := s.Store.ForgetAttempts(ctx, a.account); err != nil {
				s.log().WarnContext(ctx, "attempts not forgotten", "error", err)
			}
			return nil
		},
		func() error { s.takeBack(ctx, a.address); return nil },
	)
}

// takeBack takes one attempt out of a count. If that fails somebody waits a
// little longer.
func (s *Service) takeBack(ctx context.Context, key string) {
	if key == "" {
		return
	}
	if err := s.Store.TakeBackAttempt(ctx, key); err != nil {
		s.log().WarnContext(ctx, "attempt not taken back", "error", err)
	}
}
