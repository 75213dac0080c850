package org

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"
	"unicode/utf8"

	"orgservice/shared/auth"
)

// Service is what clients can do with organizations.
type Service struct {
	Store     Store
	Database  string    // where the collections of new organizations go
	Passwords Passwords // of Create, Update and Login

	// Of Login and Refresh.
	Tokens     *auth.Signer
	TokenTTL   time.Duration // of an access token, in whole seconds
	SessionTTL time.Duration // from the login on, however often it is refreshed

	// RecoverTime is what an operation that failed may take to clean up after
	// itself; 0 means 2 seconds.
	RecoverTime time.Duration

	Now func() time.Time // nil means time.Now
	Log *slog.Logger     // nil means slog.Default()
}

// Passwords hashes and compares passwords, as [auth.Passwords] does.
type Passwords interface {
	Hash(password string) (string, error)
	// Verify reports whether hash is the hash of password. An empty hash is
	// nobody's, and takes as long to say so.
	Verify(hash, password string) (bool, error)
	// Outdated reports whether hash should be made anew.
	Outdated(hash string) bool
}

// now returns the time as the database keeps it: in UTC, to the millisecond.
// It has no monotonic part: a process that was suspended must see the time
// that passed meanwhile.
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

// Registration is what an organization signs up with.
type Registration struct {
	OrganizationName string `json:"organization_name"`
	Email            string `json:"email"`
	Password         string `json:"password"`
}

// Validate returns what is wrong, field by field.
func (r Registration) Validate() []FieldError {
	_, _, fields := r.parse()
	return fields
}

func (r Registration) parse() (Name, string, []FieldError) {
	var fields fieldErrors
	name, err := ParseName(r.OrganizationName)
	fields.add("organization_name", err)
	email, err := parseEmail(r.Email)
	fields.add("email", err)
	fields.add("password", checkPassword(r.Password))
	return name, email, fields
}

// Change is what an admin changes of its organization and itself; nil leaves
// a thing as it is.
type Change struct {
	OrganizationName *string `json:"organization_name"`
	Email            *string `json:"email"`
	Password         *string `json:"password"`
	CurrentPassword  *string `json:"current_password"` // goes with Email and Password
}

// Validate returns what is wrong, field by field.
func (c Change) Validate() []FieldError {
	_, _, fields := c.parse()
	return fields
}

func (c Change) parse() (name Name, email string, _ []FieldError) {
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
		fields.add("password", checkPassword(*c.Password))
	}
	switch {
	case c.Email == nil && c.Password == nil:
		if c.OrganizationName == nil {
			fields.add("organization_name", errors.New("or email or password is required"))
		}
	case c.CurrentPassword == nil:
		fields.add("current_password", errors.New("is required to change email or password"))
	default:
		fields.add("current_password", checkGivenPassword(*c.CurrentPassword))
	}
	return name, email, fields
}

// Credentials are what an admin logs in with.
type Credentials struct {
	Email    string `json:"email"`
	Password string `json:"password"`

	// ClientAddress is the IP address that the login comes from; empty if it
	// is not known.
	ClientAddress string `json:"-"`
}

// Validate returns what is wrong, field by field. What only a new address or
// password must fulfil is not asked here.
func (c Credentials) Validate() []FieldError {
	var fields fieldErrors
	if c.Email == "" {
		fields.add("email", errors.New("is required"))
	}
	fields.add("password", checkGivenPassword(c.Password))
	return fields
}

type fieldErrors []FieldError

func (f *fieldErrors) add(field string, err error) {
	if err != nil {
		*f = append(*f, FieldError{Field: field, Message: err.Error()})
	}
}

const minPasswordRunes = 8

func checkPassword(s string) error {
	switch {
	case s == "":
		return errors.New("is required")
	case utf8.RuneCountInString(s) < minPasswordRunes:
		return errors.New("must have at least 8 characters")
	case slices.Contains([]rune(s), utf8.RuneError):
		return errors.New("must not hold malformed text")
	case auth.IsCommon(s):
		return errors.New("is one of the most common passwords: choose another one")
	}
	return checkGivenPassword(s)
}

func checkGivenPassword(s string) error {
	switch {
	case s == "":
		return errors.New("is required")
	case len(s) > auth.MaxPasswordBytes:
		return errors.New("must have at most 72 bytes")
	}
	return nil
}

// Get returns the active organization that has the name, or another name with
// the same slug. Its errors are ErrInvalid, ErrNotFound and ErrUnavailable.
func (s *Service) Get(ctx context.Context, name string) (Organization, error) {
	n, err := ParseName(name)
	if err != nil {
		return Organization{}, invalid([]FieldError{{Field: "organization_name", Message: err.Error()}})
	}
	o, err := s.Store.OrganizationByClaim(ctx, n.Collection())
	if err == nil {
		o, err = s.settle(ctx, o)
	}
	// What settled may have another name now.
	if errors.Is(err, ErrNotFound) || err == nil && (o.Status != Active || o.Collection != n.Collection()) {
		return Organization{}, refuse(NotFound, "there is no organization of that name")
	}
	return o, err
}

var errRevoked = refuse(Unauthenticated, "the access token has expired or was revoked: log in again")

// authorize returns the organization that the caller may act for. The token
// was verified before, maybe a while ago: here the database is asked whether
// everything that it says still stands.
func (s *Service) authorize(ctx context.Context, c auth.Caller) (Organization, error) {
	if !s.now().Before(c.ExpiresAt) {
		return Organization{}, errRevoked
	}
	var o Organization
	var session Session
	err := atOnce(
		func() (err error) {
			if o, err = s.Store.Organization(ctx, c.OrganizationID); err == nil {
				o, err = s.settle(ctx, o)
			}
			return err
		},
		func() (err error) { session, err = s.Store.Session(ctx, c.SessionID); return err },
	)
	if errors.Is(err, ErrNotFound) {
		return Organization{}, errRevoked
	}
	if err != nil {
		return Organization{}, err
	}
	member := o.member(c.AdminID)
	if o.Status != Active || member == nil || member.TokenVersion != c.TokenVersion ||
		session.AdminID != c.AdminID || !s.now().Before(session.ExpiresAt) {
		return Organization{}, errRevoked
	}
	return o, nil
}

// atOnce runs the functions at once, waits for all and returns the error of
// the first in the list that failed. A panic in one is the caller's.
func atOnce(functions ...func() error) error {
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
