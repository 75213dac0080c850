package org

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"
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

// Count is what was counted of one kind, by the number of the part of a window since 1970.
type Count map[int64]int64

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
	for n, part := int64(0), l.part(now)+1; part >= l.part(now)-windowParts; part-- {
		if n += c[part]; n > l.most {
			left := time.Unix(0, (part+windowParts+1)*int64(l.window/windowParts)) // this part, and the count
			return left.Sub(now)
		}
	}
	return 0
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
	s.takeBack(ctx, e)
	return tooEarly(reason, what, wait)
}

// count counts the event, and notes it if that succeeds.
func (s *Service) count(ctx context.Context, e Event, counted *Event) (Count, error) {
	c, err := s.Store.CountEvent(ctx, e)
	if err == nil {
		*counted = e
	}
	return c, err
}

// addressPrefix returns the network of one customer in which the IP address is, or an
// empty text if it is none.
func addressPrefix(address string) string {
	ip, err := netip.ParseAddr(address)
	if err != nil {
		return ""
	}
	ip = ip.Unmap() // IPv4, as IPv6 may write it
	bits := ip.BitLen()
	if ip.Is6() {
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

// takeBackTime is the time limit for taking events back, also after that of the request.
const takeBackTime = time.Second

// takeBack takes events out of their counts, but for those without a key. A failure is only
// logged: somebody has to wait a little longer.
func (s *Service) takeBack(ctx context.Context, events ...Event) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), takeBackTime)
	defer cancel()
	events = slices.DeleteFunc(events, func(e Event) bool { return e.Key == "" })
	if len(events) == 0 {
		return
	}
	if err := s.Store.TakeBackEvents(ctx, events); err != nil {
		s.log().WarnContext(ctx, "events not taken back", "error", err)
	}
}
