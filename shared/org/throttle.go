package org

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"
)

// limit is how many events of one kind there may be in any window of time. They are
// counted in parts of the window, and a part that is older than the window counts to its
// end. So there are never more, and who has made them all at once waits for up to a
// sixth of the window more.
type limit struct {
	kind   string
	most   int64
	window time.Duration
}

// windowParts is the number of parts of a window.
const windowParts = 6

// Count is what was counted of one kind.
type Count struct {
	Parts map[int64]int64 // by the number of the part of a window since 1970
	Total int64
}

// Event is an event that is counted.
type Event struct {
	Key     string // of the count; it does not reveal what is counted
	Part    int64  // of the window
	Oldest  int64  // the parts before it are not needed any more
	Expires time.Time
}

// event returns the event of that kind at this moment.
func (s *Service) event(l limit, of string) Event {
	sum := sha256.Sum256([]byte(l.kind + " " + of))
	now := s.now()
	part := l.part(now)
	return Event{Key: l.kind + ":" + hex.EncodeToString(sum[:16]), Part: part, Oldest: part - windowParts, Expires: now.Add(2 * l.window)}
}

// part returns the number of the part of a window in which the time is.
func (l limit) part(t time.Time) int64 { return t.UnixNano() / int64(l.window/windowParts) }

// wait returns by how long the last event of the count is too early; 0 if it is not.
func (l limit) wait(c Count, now time.Time) time.Duration {
	// The clock of another process may be ahead, so a part that begins later counts.
	part := l.part(now) + 1
	for n := int64(0); part >= l.part(now)-windowParts; part-- {
		if n += c.Parts[part]; n > l.most {
			left := time.Unix(0, (part+windowParts+1)*int64(l.window/windowParts)) // this part, and the count
			return left.Sub(now)
		}
	}
	return 0
}

// Attempts to prove a password are counted for the account and for the client's
// address, whether the account exists or not, before the password is compared: 100
// concurrent attempts count as 100. One that is refused, and one that is answered with
// ErrUnavailable, is taken back. A success takes its own attempt out of the address's
// count and clears the account's.
//
// So an account can be guessed at eighty times an hour; OWASP ASVS 4.0, 2.2.1 has a
// hundred as the limit. After a hundred failures in a row (NIST SP 800-63B-4, 3.2.2) it
// takes a new password, by mail, where mails are sent.
//
// Others' failures don't keep a person out who has logged in from this address before:
// such an address has attempts of its own to the account.
var (
	accountLimit = limit{"account", 20, 15 * time.Minute}
	knownLimit   = limit{"known", 10, 15 * time.Minute}
	addressLimit = limit{"address", 50, 15 * time.Minute}
)

const (
	maxFailures  = 100
	failuresLast = 365 * 24 * time.Hour
	knownLasts   = 90 * 24 * time.Hour
)

// Whoever has a token may try this often to prove the current password, and may prove it
// this often to change something, which costs up to two hashes.
var (
	currentLimit = limit{"current password", 20, 15 * time.Minute}
	changeLimit  = limit{"change", 20, 15 * time.Minute}
)

// attempt is an attempt that was counted. The key of an event that was not counted is
// empty.
type attempt struct{ account, address, known, change Event }

// countAttempt counts an attempt to log in to the account from the address. Its errors
// are ErrThrottled, if the attempt comes too early, and ErrUnavailable.
func (s *Service) countAttempt(ctx context.Context, email, address string) (attempt, error) {
	return s.countGuess(ctx, accountLimit, email, addressPrefix(address))
}

// countGuess counts a guess of the password of that account from the network, which may
// be empty.
func (s *Service) countGuess(ctx context.Context, account limit, of, network string) (a attempt, err error) {
	var wait, addressWait time.Duration
	var failures int64
	err = concurrently(
		func() error {
			e := s.event(account, of)
			if s.Mailer != nil {
				e.Expires = s.now().Add(failuresLast)
			}
			c, err := s.count(ctx, e, &a.account)
			wait, failures = account.wait(c, s.now()), c.Total
			return err
		},
		func() error {
			if network == "" {
				return nil
			}
			c, err := s.count(ctx, s.event(addressLimit, network), &a.address)
			addressWait = addressLimit.wait(c, s.now())
			return err
		},
	)
	locked := s.Mailer != nil && failures > maxFailures
	if err == nil && (wait > 0 || locked) && network != "" {
		var known bool
		if wait, known, err = s.countKnown(ctx, of, network, wait, &a); known {
			locked = false
		}
	}
	switch {
	case err != nil:
	case addressWait > 0:
		err = throttled(max(wait, addressWait))
	case locked:
		err = errLocked
	case wait > 0:
		err = throttled(wait)
	}
	if err != nil {
		s.takeBack(ctx, a)
		return attempt{}, err
	}
	return a, nil
}

// countProof counts a proof of the current password by the admin, and the change that it is
// for: once it has succeeded, that has cost what it costs. Its errors are those of
// countAttempt.
func (s *Service) countProof(ctx context.Context, adminID string) (attempt, error) {
	var a, change attempt
	err := concurrently(
		func() (err error) { a, err = s.countGuess(ctx, currentLimit, adminID, ""); return err },
		func() error {
			c, err := s.count(ctx, s.event(changeLimit, adminID), &change.change)
			if wait := changeLimit.wait(c, s.now()); err == nil && wait > 0 {
				err = tooEarly(TooManyAttempts, "too many changes that need the current password", wait)
			}
			return err
		},
	)
	a.change = change.change
	if err != nil {
		s.takeBack(ctx, a)
		return attempt{}, err
	}
	return a, nil
}

// countWithin counts an event. Its errors are ErrThrottled, with that reason, if there
// are too many, and ErrUnavailable.
func (s *Service) countWithin(ctx context.Context, l limit, of string, reason Reason, what string) error {
	e := s.event(l, of)
	c, err := s.Store.CountEvent(ctx, e)
	if err != nil {
		return err
	}
	wait := l.wait(c, s.now())
	if wait == 0 {
		return nil
	}
	s.takeBack(ctx, attempt{account: e})
	return tooEarly(reason, what, wait)
}

// countKnown counts an attempt that comes too early for the account by that wait, or to
// an account with too many failures, from a network in which somebody has logged in to
// it. It returns how long the attempt must wait then.
func (s *Service) countKnown(ctx context.Context, email, network string, wait time.Duration, a *attempt) (time.Duration, bool, error) {
	e := s.knownEvent(email, network)
	c, err := s.Store.CountKnown(ctx, e)
	if errors.Is(err, ErrNotFound) {
		return wait, false, nil
	}
	if err != nil {
		return wait, false, err
	}
	a.known = e
	if c.Total > maxFailures {
		return wait, false, nil
	}
	return knownLimit.wait(c, s.now()), true, nil
}

// known returns the event by which a login to the account from the address is remembered,
// or nil if the address is not known.
func (s *Service) known(email, address string) *Event {
	network := addressPrefix(address)
	if network == "" {
		return nil
	}
	return new(s.knownEvent(email, network))
}

func (s *Service) knownEvent(email, network string) Event {
	e := s.event(knownLimit, email+" from "+network)
	e.Expires = s.now().Add(knownLasts)
	return e
}

// count counts the event, and notes it if that succeeds.
func (s *Service) count(ctx context.Context, e Event, counted *Event) (Count, error) {
	c, err := s.Store.CountEvent(ctx, e)
	if err == nil {
		*counted = e
	}
	return c, err
}

// errLocked refuses an attempt to an account with too many failures.
var errLocked = refuse(Throttled, TooManyAttempts, "too many failed attempts: set a new password by POST /admin/forgot")

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
	return s.countWithin(ctx, limit{kind, most, mailWindow}, of, TooManyMails, "too many mails were asked for")
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

// succeeded clears the account's count, takes the attempt out of the address's, and
// remembers the network if it is the login of an account. A failure is only logged:
// somebody has to wait a little longer.
func (s *Service) succeeded(ctx context.Context, a *attempt, remember *Event) {
	done := *a
	*a = attempt{}
	err := concurrently(
		func() error { return s.Store.ForgetEvents(ctx, done.account.Key) },
		func() error { return s.takeBackEvent(ctx, done.address) },
		func() error {
			if remember == nil {
				return nil
			}
			return s.Store.RememberKnown(ctx, *remember)
		},
	)
	if err != nil {
		s.log().WarnContext(ctx, "attempts not forgotten", "error", err)
	}
}

// takeBackTime is the time limit for taking an attempt back, also after that of the
// request.
const takeBackTime = time.Second

// takeBack takes an attempt out of the counts. A failure is only logged.
func (s *Service) takeBack(ctx context.Context, a attempt) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), takeBackTime)
	defer cancel()
	var err error
	for _, e := range []Event{a.account, a.address, a.known, a.change} {
		err = errors.Join(err, s.takeBackEvent(ctx, e))
	}
	if err != nil {
		s.log().WarnContext(ctx, "attempt not taken back", "error", err)
	}
}

func (s *Service) takeBackEvent(ctx context.Context, e Event) error {
	if e.Key == "" {
		return nil
	}
	return s.Store.TakeBackEvent(ctx, e)
}
