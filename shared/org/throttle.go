package org

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/netip"
	"strings"
	"time"
)

// Attempts to prove a password are counted for the account and for the
// client's address, whether the account exists or not. They are counted before
// the password is compared, so that 100 concurrent attempts count as 100. A
// success takes its own attempt out of the address's count and clears the
// account's.
//
// A count lasts a quarter of an hour. The first attempts in it are free. Each
// further one must wait longer than the one before, up to two minutes. An
// attempt that comes too early is refused and taken out of the count, so that
// it does not lengthen the wait. With these figures an account can be guessed
// at about a hundred times an hour, the limit of OWASP ASVS 4.0, 2.2.1, and as
// many concurrent correct logins as attempts are free all succeed.
const (
	attemptWindow       = 15 * time.Minute
	accountFreeAttempts = 10
	addressFreeAttempts = 50
	maxAttemptWait      = 2 * time.Minute
)

// Attempts is a count of attempts.
type Attempts struct {
	Count int64
	Since time.Time // when the first was counted
}

// attempt is an attempt that was counted.
type attempt struct{ account, address string } // keys; address may be empty

// countAttempt counts an attempt on the account from the address. Its errors
// are ErrThrottled, if the attempt comes too early, and ErrUnavailable.
func (s *Service) countAttempt(ctx context.Context, email, address string) (attempt, error) {
	a := attempt{account: s.attemptKey("account", email)}
	if prefix := addressPrefix(address); prefix != "" {
		a.address = s.attemptKey("address", prefix)
	}
	var accountWait, addressWait time.Duration
	err := concurrently(
		func() (err error) { accountWait, err = s.countKey(ctx, a.account, accountFreeAttempts); return err },
		func() (err error) { addressWait, err = s.countKey(ctx, a.address, addressFreeAttempts); return err },
	)
	if err != nil {
		return a, err
	}
	if wait := max(accountWait, addressWait); wait > 0 {
		s.takeBack(ctx, a.account)
		s.takeBack(ctx, a.address)
		return a, throttled(min(wait, maxAttemptWait))
	}
	return a, nil
}

// addressPrefix returns the network of one customer in which the IP address is, or an
// empty text if it is none.
func addressPrefix(address string) string {
	ip, err := netip.ParseAddr(address)
	if err != nil {
		return ""
	}
	bits := ip.BitLen()
	if ip.Is6() && !ip.Is4In6() {
		bits = 64 // providers give a customer a whole /64
	}
	prefix, _ := ip.WithZone("").Prefix(bits)
	return prefix.String()
}

// Mails of one kind are counted for the address that they go to, and for the client,
// the admin or the organization that asks for them.
const (
	mailWindow           = time.Hour
	mailsPerAddress      = 5
	mailsPerClient       = 30
	mailsPerAdmin        = 10
	mailsPerOrganization = 100
)

// countMailTo counts a mail of that kind to the email. Its subaddresses (RFC 5233), as
// in ann+work@example.com, are the same mailbox. Its errors are ErrThrottled and
// ErrUnavailable.
func (s *Service) countMailTo(ctx context.Context, kind MailKind, email string) error {
	return s.countMail(ctx, string(kind)+" to", mailbox(email), mailsPerAddress)
}

// mailbox returns the address without a subaddress.
func mailbox(email string) string {
	local, domain, _ := strings.Cut(email, "@")
	local, _, _ = strings.Cut(local, "+")
	return local + "@" + domain
}

// countVerification counts a mail to verify the email that the admin, which is empty for a
// new one, is about to get. Its errors are ErrThrottled and ErrUnavailable.
func (s *Service) countVerification(ctx context.Context, clientAddress, adminID, email string) error {
	err := s.countVerificationOf(ctx, clientAddress, adminID)
	if err == nil {
		err = s.countMailTo(ctx, VerificationMail, email)
	}
	return err
}

// countVerificationAgain counts one more mail to verify the email that the admin has.
// Other people's sign-ups with subaddresses of it can't use these up. Its errors are
// ErrThrottled and ErrUnavailable.
func (s *Service) countVerificationAgain(ctx context.Context, clientAddress, adminID, email string) error {
	if email != mailbox(email) {
		return s.countVerification(ctx, clientAddress, adminID, email)
	}
	err := s.countVerificationOf(ctx, clientAddress, adminID)
	if err == nil {
		err = s.countMail(ctx, string(VerificationMail)+" again to", email, mailsPerAddress)
	}
	return err
}

func (s *Service) countVerificationOf(ctx context.Context, clientAddress, adminID string) error {
	return concurrently(
		func() error {
			return s.countMailOf(ctx, VerificationMail, addressPrefix(clientAddress), mailsPerClient)
		},
		func() error { return s.countMailOf(ctx, VerificationMail, adminID, mailsPerAdmin) },
	)
}

// countMailOf counts a mail of that kind that somebody asks for, unless it is not known
// who. Only if that is no error the mail is counted for the address, or who is refused
// would keep others from mailing there.
func (s *Service) countMailOf(ctx context.Context, kind MailKind, asking string, most int64) error {
	if asking == "" {
		return nil
	}
	return s.countMail(ctx, string(kind)+" of", asking, most)
}

func (s *Service) countMail(ctx context.Context, kind, of string, most int64) error {
	now := s.now()
	attempts, err := s.Store.CountAttempt(ctx, windowKey(kind, of, now, mailWindow), now, now.Add(2*mailWindow))
	if err == nil && attempts.Count > most {
		err = tooEarly(TooManyMails, "too many mails were asked for", now.Truncate(mailWindow).Add(mailWindow).Sub(now))
	}
	return err
}

// throttled is the refusal of an attempt that comes too early by that time.
func throttled(wait time.Duration) *Error {
	return tooEarly(TooManyAttempts, "too many failed attempts", wait)
}

func tooEarly(reason Reason, what string, wait time.Duration) *Error {
	seconds := int64((wait + time.Second - 1) / time.Second)
	unit := "seconds"
	if seconds == 1 {
		unit = "second"
	}
	e := refuse(Throttled, reason, fmt.Sprintf("%s: try again in %d %s", what, seconds, unit))
	e.RetryAfter = time.Duration(seconds) * time.Second
	return e
}

// attemptKey returns the key of a count of attempts.
func (s *Service) attemptKey(kind, of string) string {
	return windowKey(kind, of, s.now(), attemptWindow)
}

// windowKey returns the key of a count, another one in every window. It does not
// reveal what is counted.
func windowKey(kind, of string, now time.Time, window time.Duration) string {
	sum := sha256.Sum256([]byte(kind + " " + of))
	return kind + ":" + hex.EncodeToString(sum[:16]) + ":" + now.Truncate(window).UTC().Format("20060102T1504")
}

// countKey counts one attempt and returns by how long it is too early; 0 if it
// is not.
func (s *Service) countKey(ctx context.Context, key string, free int64) (time.Duration, error) {
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

// offset returns how long after the first attempt of a window the n-th one that
// is not free may come.
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

// succeeded clears the account's count and takes the attempt out of the
// address's.
func (s *Service) succeeded(ctx context.Context, a attempt) {
	concurrently(
		func() error {
			if err := s.Store.ForgetAttempts(ctx, a.account); err != nil {
				s.log().WarnContext(ctx, "attempts not forgotten", "error", err)
			}
			return nil
		},
		func() error { s.takeBack(ctx, a.address); return nil },
	)
}

// takeBack takes one attempt out of a count. A failure is only logged: somebody
// has to wait a little longer.
func (s *Service) takeBack(ctx context.Context, key string) {
	if key == "" {
		return
	}
	if err := s.Store.TakeBackAttempt(ctx, key); err != nil {
		s.log().WarnContext(ctx, "attempt not taken back", "error", err)
	}
}
