package org

import (
	"context"
	"fmt"
	"time"
)

// Attempts to prove a password are counted for the account and for the client's address,
// whether the account exists or not, before the password is compared: 100 concurrent
// attempts count as 100. One that is refused, that succeeds (but for currentLimit) or that is
// answered with ErrUnavailable is taken back.
//
// So an account can be guessed at eighty times an hour; OWASP ASVS 4.0, 2.2.1 has a
// hundred as the limit. Where mails are sent, a hundred failures in a row within a month
// (NIST SP 800-63B-4, 3.2.2) lock it until there is a new password. Only attempts whose
// password is compared count as failures, so that nobody can fill the database with
// counts for free.
//
// Others' failures don't keep a person out who has logged in from this network before: such
// a network has attempts of its own to the account. It is known for one version of the
// tokens: whoever had the password before a change, or another account with the email,
// has none.
var (
	accountLimit = limit{"account", 20, 15 * time.Minute}
	knownLimit   = limit{"known network", 10, 15 * time.Minute}
	addressLimit = limit{"address", 50, 15 * time.Minute}
	failureLimit = limit{"failures", 99, 30 * 24 * time.Hour} // one more locks
)

const knownLasts = 90 * 24 * time.Hour

// currentLimit is how often whoever has a token may try to prove the current password to change
// something, which costs up to two hashes. It is beside that of the logins.
var currentLimit = limit{"current password", 20, 15 * time.Minute}

// errLocked refuses an attempt after too many failures.
var errLocked = refuse(Throttled, TooManyAttempts, "too many failed attempts: set a new password by POST /admin/forgot")

// throttled is the refusal of an attempt that comes too early by that time.
func throttled(wait time.Duration) *Error {
	return tooEarly(TooManyAttempts, "too many failed attempts", wait)
}

// attempt is an attempt to prove a password. The key of an event that is not counted is
// empty.
type attempt struct {
	window    Event // counted for the account or the known network
	address   Event // counted for the client's address
	proof     Event // counted for the current password, also if it succeeds
	refusal   error // nil if it does not come too early
	byAddress bool  // it is refused for the address
	locked    bool  // there were too many failures

	failures Event    // to be counted if the password is wrong
	inARow   []string // keys of the failures that a success ends
}

// counted returns the events that are taken back if there is no answer.
func (a *attempt) counted() []Event { return []Event{a.window, a.address, a.proof} }

// spend counts an attempt, and returns by how long it is too early.
func (s *Service) spend(ctx context.Context, l limit, of string, counted *Event) (time.Duration, error) {
	c, err := s.count(ctx, s.event(l, of), counted)
	return l.wait(c, s.now()), err
}

// readFailures notes whether there were too many failures of those that the attempt may
// add to. Where no mail is sent, none are counted.
func (s *Service) readFailures(ctx context.Context, a *attempt) error {
	if !s.sendsMail() {
		return nil
	}
	c, err := s.Store.Count(ctx, a.failures.Key)
	if len(c) > 0 {
		a.inARow = append(a.inARow, a.failures.Key)
	}
	a.locked = failureLimit.wait(c, s.now()) > 0
	return err
}

// failures returns a failure of an attempt that is counted under that limit.
func (s *Service) failures(l limit, of string) Event { return s.event(failureLimit, l.kind+" "+of) }

// sendsMail reports whether there is a way back into an account that is locked.
func (s *Service) sendsMail() bool { return s.MailsSent || s.Mailer != nil }

// countAttempt counts an attempt to log in to the account from the network, which may be
// empty. Whether it is refused, admit says. Its error is ErrUnavailable.
func (s *Service) countAttempt(ctx context.Context, email, network string) (attempt, error) {
	a := attempt{failures: s.failures(accountLimit, email)}
	var wait, addressWait time.Duration
	err := concurrently(
		func() (err error) { wait, err = s.spend(ctx, accountLimit, email, &a.window); return err },
		func() (err error) {
			if network != "" {
				addressWait, err = s.spend(ctx, addressLimit, network, &a.address)
			}
			return err
		},
		func() error { return s.readFailures(ctx, &a) },
	)
	if err != nil {
		s.takeBack(ctx, a.counted()...)
		return attempt{}, err
	}
	if wait, a.byAddress = max(wait, addressWait), addressWait > 0; wait > 0 {
		a.refusal = throttled(wait)
	}
	return a, nil
}

// admit refuses an attempt that comes too early or to a locked account, unless the network
// is known to the admin, who has no id if there is none. Its errors are ErrThrottled and
// ErrUnavailable.
func (s *Service) admit(ctx context.Context, a *attempt, admin Admin, network string) error {
	if a.refusal == nil && !a.locked {
		return nil
	}
	err := s.admitKnown(ctx, a, admin, network)
	if err != nil {
		s.takeBack(ctx, a.counted()...)
		*a = attempt{}
	}
	return err
}

// provePassword counts an attempt of a client to prove the admin's password as one to log in,
// and reports whether it is the one. If so, its caller ends the attempt. A refusal is logged.
// Its errors are ErrThrottled and ErrUnavailable.
func (s *Service) provePassword(ctx context.Context, admin Admin, password, clientAddress string) (a attempt, ok bool, err error) {
	network := addressPrefix(clientAddress)
	a, err = s.countAttempt(ctx, admin.Email, network)
	if err == nil {
		err = s.admit(ctx, &a, admin, network)
	}
	if err == nil {
		ok, err = s.Passwords.Verify(admin.PasswordHash, password)
	}
	refusal := err
	if err == nil && !ok {
		err, refusal = s.failed(ctx, &a), errWrongCredentials
	}
	s.logRefusal(ctx, admin, admin.Email, clientAddress, refusal)
	return a, ok, err
}

func (s *Service) admitKnown(ctx context.Context, a *attempt, admin Admin, network string) error {
	refusal := a.refusal
	if a.locked {
		refusal = errLocked
	}
	if network == "" || a.byAddress {
		return refusal
	}
	known, err := s.Store.Known(ctx, s.known(admin, network).Key, s.now())
	if err != nil {
		return err
	}
	if !known {
		return refusal
	}
	if a.locked {
		a.failures = s.failures(knownLimit, knownOf(admin, network))
		if err := s.readFailures(ctx, a); err != nil {
			return err
		}
		if a.locked {
			return errLocked
		}
	}
	if a.refusal == nil {
		return nil
	}
	others := a.window
	a.window = Event{}
	s.takeBack(ctx, others)
	wait, err := s.spend(ctx, knownLimit, knownOf(admin, network), &a.window)
	if err == nil && wait > 0 {
		err = throttled(wait)
	}
	return err
}

// known returns the event by which the network is known to the admin.
func (s *Service) known(admin Admin, network string) Event {
	e := s.event(limit{kind: "known", window: time.Hour}, knownOf(admin, network))
	e.Expires = s.now().Add(knownLasts)
	return e
}

func knownOf(admin Admin, network string) string {
	return fmt.Sprint(admin.ID, " ", admin.TokenVersion, " ", network)
}

// remember makes the network known to the admin. A failure is only logged.
func (s *Service) remember(ctx context.Context, admin Admin, network string) {
	if network == "" {
		return
	}
	if err := s.Store.Remember(ctx, s.known(admin, network)); err != nil {
		s.log().WarnContext(ctx, "a network is not known", "admin_id", admin.ID, "error", err)
	}
}

// countProof counts a proof of the current password by the admin, also if it then succeeds: the
// change that it is for costs what it costs. Its errors are ErrThrottled and ErrUnavailable.
func (s *Service) countProof(ctx context.Context, admin Admin) (attempt, error) {
	a := attempt{failures: s.failures(currentLimit, admin.ID)}
	var wait time.Duration
	err := concurrently(
		func() (err error) { wait, err = s.spend(ctx, currentLimit, admin.ID, &a.proof); return err },
		func() error { return s.readFailures(ctx, &a) },
	)
	switch {
	case err != nil:
	case a.locked:
		err = errLocked
	case wait > 0:
		err = tooEarly(TooManyAttempts, "too many changes that need the current password", wait)
	}
	if err != nil {
		s.takeBack(ctx, a.counted()...)
		return attempt{}, err
	}
	if s.sendsMail() { // who proves the password ends the failures at the login, too
		a.inARow = append(a.inARow, s.failures(accountLimit, admin.Email).Key)
	}
	return a, nil
}

// failed counts the attempt as a failure. The attempt stays counted, also if that fails with
// ErrUnavailable.
func (s *Service) failed(ctx context.Context, a *attempt) error {
	failure := a.failures
	*a = attempt{}
	if !s.sendsMail() {
		return nil
	}
	_, err := s.Store.CountEvent(ctx, failure)
	return err
}

// succeeded takes the attempt back, but for currentLimit, and ends the failures in a row.
func (s *Service) succeeded(ctx context.Context, a *attempt) {
	done := *a
	*a = attempt{}
	concurrently(
		func() error { s.takeBack(ctx, done.window, done.address); return nil },
		func() error { s.forgetFailures(ctx, done.inARow...); return nil },
	)
}

// forgetFailures ends failures in a row. A failure to do so is only logged.
func (s *Service) forgetFailures(ctx context.Context, keys ...string) {
	for _, key := range keys {
		if err := s.Store.ForgetEvents(ctx, key); err != nil {
			s.log().WarnContext(ctx, "failures not forgotten", "error", err)
		}
	}
}

// unlock ends the failures of the account with the email, which is new. Where no mail is
// sent there are none.
func (s *Service) unlock(ctx context.Context, email string) {
	if s.sendsMail() {
		s.forgetFailures(ctx, s.failures(accountLimit, email).Key)
	}
}
