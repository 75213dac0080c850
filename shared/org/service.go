package org

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"

	"orgservice/shared/auth"
)

// Service is everything that clients, and the scheduled repair, can do with
// organizations. Its methods may be called concurrently.
type Service struct {
	Store     Store
	Database  string    // for the collections of new organizations
	Passwords Passwords // needed by Create, Update and Login
	Mailer    Mailer    // needed by what sends mail; nil: nothing is sent

	// VerifiedOnly says whether an admin whose email is not verified may do nothing but
	// verify it, and change the own email and password.
	VerifiedOnly bool

	// MailsSent says that mails are sent, also where there is no Mailer.
	MailsSent bool

	// DeleteGrace is how long a deleted organization can be restored; 0: it is deleted at once.
	// Needed by Delete.
	DeleteGrace time.Duration

	SignUps SignUps // needed by Create and CreateOrganization

	PasswordRules PasswordRules // needed by what sets a password

	// Needed by Login and Refresh.
	Tokens     *auth.Signer
	TokenTTL   time.Duration // lifetime of an access token, in whole seconds
	SessionTTL time.Duration // from the login on, however often it is refreshed

	// SessionIdle is how long a session lasts without a refresh; 0: as long as SessionTTL.
	SessionIdle time.Duration

	// RecoverTime is how long a failed operation may take to clean up after
	// itself; 0 means 2 seconds.
	RecoverTime time.Duration

	Now func() time.Time // nil means time.Now
	Log *slog.Logger     // nil means slog.Default()
}

// Passwords hashes and compares passwords, as [auth.Passwords] does.
type Passwords interface {
	Hash(password string) (string, error)
	// Verify reports whether hash is the hash of password. It never is if it
	// is empty, and to find that out takes as long as a comparison.
	Verify(hash, password string) (bool, error)
	// Outdated reports whether the password should be hashed again.
	Outdated(hash string) bool
}

// now returns the time as the database stores it, in UTC and milliseconds. It
// has no monotonic part, because that stands still while a process is
// suspended.
func (s *Service) now() time.Time {
	now := time.Now
	if s.Now != nil {
		now = s.Now
	}
	return now().UTC().Truncate(time.Millisecond)
}

func (s *Service) log() *slog.Logger {
	if s.Log != nil {
		return s.Log
	}
	return slog.Default()
}

// CreateRequest is the body of a sign-up.
type CreateRequest struct {
	OrganizationName string `json:"organization_name"`
	Email            string `json:"email"`
	Password         string `json:"password"`

	// ClientAddress is the IP address of the client; empty if it is not known.
	ClientAddress string `json:"-"`
}

// Validate returns what is wrong, field by field.
func (r CreateRequest) Validate() []FieldError {
	_, _, fields := r.parse()
	return fields
}

func (r CreateRequest) parse() (Name, string, []FieldError) {
	var fields fieldErrors
	name, err := parseNewName(r.OrganizationName)
	fields.add("organization_name", err)
	email, err := parseEmail(r.Email)
	fields.add("email", err)
	fields.add("password", checkPassword(r.Password, r.Email, r.OrganizationName, name.Slug))
	return name, email, fields
}

// UpdateRequest is what an admin changes of its organization and of itself. A
// nil field does not change.
type UpdateRequest struct {
	OrganizationName *string `json:"organization_name"`
	Email            *string `json:"email"`
	Password         *string `json:"password"`
	CurrentPassword  *string `json:"current_password"` // required with Email and Password

	Revisions []int64 `json:"-"` // one of which the organization must have; nil: any

	// ClientAddress is the IP address of the client; empty if it is not known.
	ClientAddress string `json:"-"`
}

// Validate returns what is wrong, field by field.
func (c UpdateRequest) Validate() []FieldError {
	_, _, fields := c.parse()
	return fields
}

func (c UpdateRequest) parse() (name Name, email string, _ []FieldError) {
	var fields fieldErrors
	var err error
	if c.OrganizationName != nil {
		name, err = ParseName(*c.OrganizationName)
		fields.add("organization_name", err)
	}
	if c.Email != nil {
		email, err = parseEmail(*c.Email)
		fields.add("email", err)
	}
	if c.Password != nil {
		fields.add("password", checkPassword(*c.Password, email, name.Display, name.Slug))
	}
	if c.OrganizationName == nil && c.Email == nil && c.Password == nil {
		fields.add("organization_name", errors.New("is required if nothing else changes: give at least one of organization_name, email, password"))
	}
	if c.CurrentPassword != nil {
		fields.add("current_password", checkGivenPassword(*c.CurrentPassword))
	} else if c.Email != nil || c.Password != nil {
		fields.add("current_password", errors.New("is required to change email or password"))
	}
	return name, email, fields
}

// LoginRequest is the body of a login.
type LoginRequest struct {
	Email            string  `json:"email"`
	Password         string  `json:"password"`
	OrganizationName *string `json:"organization_name"` // nil: the one that was used last

	// ClientAddress is the IP address of the client; empty if it is not known.
	ClientAddress string `json:"-"`
	UserAgent     string `json:"-"` // as the client calls itself
}

func (c LoginRequest) client() Client {
	return Client{Address: c.ClientAddress, UserAgent: c.UserAgent}
}

// Validate returns what is wrong, field by field. The rules for a new email or
// password do not apply to a login.
func (c LoginRequest) Validate() []FieldError {
	_, fields := c.parse()
	return fields
}

func (c LoginRequest) parse() (Name, []FieldError) {
	var fields fieldErrors
	var name Name
	if strings.TrimSpace(c.Email) == "" {
		fields.add("email", errors.New("is required"))
	}
	fields.add("password", checkGivenPassword(c.Password))
	if c.OrganizationName != nil {
		var err error
		name, err = ParseName(*c.OrganizationName)
		fields.add("organization_name", err)
	}
	return name, fields
}

type fieldErrors []FieldError

func (f *fieldErrors) add(field string, err error) {
	if err != nil {
		*f = append(*f, FieldError{Field: field, Message: err.Error()})
	}
}

// MinPasswordRunes is the least length of a new password that a rule can ask for.
const MinPasswordRunes = 8

const maxPasswordRunes = 128

// PasswordRules are the rules for new passwords, besides those that always hold.
type PasswordRules struct {
	MinRunes int // 0: MinPasswordRunes

	// Breached, if it is not nil, reports whether the password is known from a breach. A
	// password about which it fails is good.
	Breached func(ctx context.Context, password string) (bool, error)
}

// checkPassword checks a new password by what always holds. The context is what others know of its admin,
// such as the email and the name of the organization: it must not be one of these, in
// any case (NIST SP 800-63B-4, 3.1.1.2).
func checkPassword(s string, context ...string) error {
	s = norm.NFC.String(s)
	switch {
	case s == "":
		return errors.New("is required")
	case utf8.RuneCountInString(s) < MinPasswordRunes:
		return tooShort(MinPasswordRunes)
	case slices.Contains([]rune(s), utf8.RuneError):
		return errors.New("must not hold malformed text")
	case strings.ContainsRune(s, 0):
		return errors.New("must not hold the character NUL")
	case isRepeated(s):
		return errors.New("must not repeat one or two characters")
	case isContext(s, context):
		return errors.New("must not be the email or the name of the organization")
	case auth.IsCommon(s):
		return errors.New("is one of the most common passwords: choose another one")
	}
	return checkGivenPassword(s)
}

func tooShort(minRunes int) error { return fmt.Errorf("must have at least %d characters", minRunes) }

func checkGivenPassword(s string) error {
	switch {
	case s == "":
		return errors.New("is required")
	case min(utf8.RuneCountInString(s), utf8.RuneCountInString(norm.NFC.String(s))) > maxPasswordRunes:
		return errors.New("must have at most 128 characters")
	}
	return nil
}

// checkNewPassword returns ErrInvalid if the field password is wrong by checkPassword or the
// rules of the service.
func (s *Service) checkNewPassword(ctx context.Context, password string, context ...string) error {
	err := checkPassword(password, context...)
	if err == nil && utf8.RuneCountInString(norm.NFC.String(password)) < s.PasswordRules.MinRunes {
		err = tooShort(s.PasswordRules.MinRunes)
	}
	if err == nil && s.isBreached(ctx, password) {
		err = errors.New("is known from a breach of some service: choose another one")
	}
	var fields fieldErrors
	fields.add("password", err)
	return invalid(fields)
}

func (s *Service) isBreached(ctx context.Context, password string) bool {
	if s.PasswordRules.Breached == nil {
		return false
	}
	breached, err := s.PasswordRules.Breached(ctx, password)
	if err != nil {
		s.log().WarnContext(ctx, "a new password was not looked up", "error", err)
	}
	return breached && err == nil
}

// isRepeated reports whether the text has no more than two different characters.
func isRepeated(s string) bool {
	different := map[rune]bool{}
	for _, r := range s {
		different[r] = true
	}
	return len(different) <= 2
}

// isContext reports whether the password is one of the texts, or the part of an email
// before or behind the @, one or more times, whatever the case.
func isContext(password string, context []string) bool {
	for _, text := range context {
		local, domain, _ := strings.Cut(text, "@")
		for _, part := range []string{text, local, domain} {
			part = strings.ToLower(strings.TrimSpace(norm.NFC.String(part)))
			if part != "" && strings.ReplaceAll(strings.ToLower(password), part, "") == "" {
				return true
			}
		}
	}
	return false
}

// Ping asks the database for an answer and returns how long that took. Its error
// is ErrUnavailable.
func (s *Service) Ping(ctx context.Context) (time.Duration, error) {
	start := time.Now()
	_, err := s.Store.Clock(ctx)
	return time.Since(start), err
}

// Get returns the active organization that has the name, or another name with
// the same slug. It only reads the database: a change under way is seen once it is
// committed, and finished by others. Its errors are ErrInvalid, ErrNotFound and
// ErrUnavailable.
func (s *Service) Get(ctx context.Context, name string) (Organization, error) {
	n, err := ParseName(name)
	if err != nil {
		return Organization{}, invalid([]FieldError{{Field: "organization_name", Message: err.Error()}})
	}
	o, err := s.Store.OrganizationByClaim(ctx, n.Collection())
	// During a change it may have claims on two names.
	if errors.Is(err, ErrNotFound) || err == nil && (o.Status != Active || o.Collection != n.Collection()) {
		return Organization{}, refuse(NotFound, OrganizationNotFound, "there is no organization of that name").withSlug(n.Slug)
	}
	return o, err
}

var errRevoked = refuse(Unauthenticated, TokenRevoked, "the access token has expired or was revoked: log in again")

// authorize does what identify does. It also returns errUnverified if the caller's email
// must be verified first.
func (s *Service) authorize(ctx context.Context, c auth.Caller) (Organization, Admin, error) {
	o, a, err := s.identify(ctx, c)
	if err == nil {
		err = s.checkVerified(a)
	}
	return o, a, err
}

func (s *Service) checkVerified(a Admin) error {
	if s.VerifiedOnly && !a.Verified() {
		return errUnverified
	}
	return nil
}

// identify returns the organization that the caller may act for, and the caller's
// record, or errRevoked. The authorizer has verified the token, perhaps some time
// ago, so the database is asked whether its session, admin and organization still
// allow it.
func (s *Service) identify(ctx context.Context, c auth.Caller) (o Organization, a Admin, err error) {
	if !s.now().Before(c.ExpiresAt) {
		return o, a, errRevoked
	}
	var session Session
	err = concurrently(
		func() (err error) { o, err = s.Store.Organization(ctx, c.OrganizationID); return err },
		func() (err error) { a, err = s.Store.Admin(ctx, c.AdminID); return err },
		func() (err error) { session, err = s.Store.Session(ctx, c.SessionID); return err },
	)
	if err == nil {
		err = s.checkLogin(ctx, session)
	}
	if err == nil {
		o, a, err = s.settle(ctx, o, a)
	}
	if errors.Is(err, ErrNotFound) {
		err = errRevoked
	}
	if err == nil && (!o.mayAct(a, c.TokenVersion) || session.LastAct != o.lastAct() || session.AdminID != c.AdminID || !s.now().Before(session.ExpiresAt)) {
		err = errRevoked
	}
	if err != nil {
		return Organization{}, Admin{}, err
	}
	return o, a, nil
}

// confirm returns errRevoked if the caller's token is revoked. It reads the admin
// after authorize has read the organization. So if a change of the admin ends after
// this, it fences the organization after that was read, and no write that depends on
// what was read succeeds.
func (s *Service) confirm(ctx context.Context, c auth.Caller) error {
	a, err := s.Store.Admin(ctx, c.AdminID)
	if errors.Is(err, ErrNotFound) || err == nil && a.TokenVersion != c.TokenVersion {
		err = errRevoked
	}
	return err
}

// settle finishes the operation of o if it is stale, and returns the organization
// and its admin after that.
func (s *Service) settle(ctx context.Context, o Organization, a Admin) (Organization, Admin, error) {
	if o.Operation == nil || !s.stale(o.Operation.TouchedAt) {
		return o, a, nil
	}
	o, err := s.finishStale(ctx, o)
	if err == nil {
		a, err = s.Store.Admin(ctx, a.ID)
	}
	return o, a, err
}

// mostAtOnce is how many of a long list of functions run at the same time: more would wait for a
// connection, and that counts against the time limits of their commands.
const mostAtOnce = 5

// someAtOnce is concurrently for a long list. It does not begin with the rest after an error.
func someAtOnce(functions []func() error) error {
	for some := range slices.Chunk(functions, mostAtOnce) {
		if err := concurrently(some...); err != nil {
			return err
		}
	}
	return nil
}

// concurrently runs the functions at the same time and waits for all. It returns
// the error of the first one in the list that failed. A panic in one of them
// becomes a panic of the caller.
func concurrently(functions ...func() error) error {
	errs := make([]error, len(functions))
	panics := make([]any, len(functions))
	var wait sync.WaitGroup
	for i, f := range functions {
		wait.Go(func() {
			defer func() { panics[i] = recover() }()
			errs[i] = f()
		})
	}
	wait.Wait()
	for _, p := range panics {
		if p != nil {
			panic(p)
		}
	}
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
