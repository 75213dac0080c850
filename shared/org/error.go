package org

import (
	"fmt"
	"strings"
	"time"
)

// Kind classifies an [Error]. Each kind has one HTTP status.
type Kind int

// The kinds of errors. An error that has none is a fault of the service.
const (
	Invalid         Kind = iota + 1 // a value is missing or out of its bounds
	Unauthenticated                 // credentials or a token are not valid, or no longer
	Forbidden                       // the caller may not do this
	NotFound                        // it does not exist
	Conflict                        // it is taken, or another change of it is under way
	Outdated                        // it is not as the caller has seen it
	Throttled                       // too many attempts
	Unavailable                     // the database can't be reached in time
)

// Reason says what exactly is wrong, for programs. Every error that the service
// itself refuses something with has one, and each belongs to one [Kind]. Its text
// never changes.
type Reason string

// The reasons of errors.
const (
	InvalidFields        Reason = "invalid-fields"         // of a request
	WrongCredentials     Reason = "wrong-credentials"      // of a login
	TokenRevoked         Reason = "token-revoked"          // or expired
	RefreshTokenInvalid  Reason = "invalid-refresh-token"  // expired, used or revoked
	WrongCurrentPassword Reason = "wrong-current-password" // of an update
	WrongConfirmation    Reason = "wrong-confirmation"     // of a delete
	RoleForbids          Reason = "role-forbids"           // what the caller wants to do
	OrganizationNotFound Reason = "organization-not-found"
	NameTaken            Reason = "name-taken"
	EmailTaken           Reason = "email-taken"
	EmailUnverified      Reason = "email-unverified"
	SignUpClosed         Reason = "signup-closed"
	TooManyOrganizations Reason = "too-many-organizations" // there may be no more
	TooManySignUps       Reason = "too-many-signups"       // of one client or admin
	AlreadyVerified      Reason = "already-verified"
	NameUnusable         Reason = "name-unusable"     // a stray collection has it
	OrganizationBusy     Reason = "organization-busy" // another change is under way
	OrganizationChanged  Reason = "organization-changed"
	KeyReused            Reason = "key-reused" // for another request
	KeyInUse             Reason = "key-in-use" // by the first request
	MemberNotFound       Reason = "member-not-found"
	InvitationNotFound   Reason = "invitation-not-found"
	AlreadyMember        Reason = "already-member"
	LastOwner            Reason = "last-owner" // an organization has one at least
	TooManyMembers       Reason = "too-many-members"
	TicketInvalid        Reason = "invalid-ticket" // expired, used or withdrawn
	TooManyAttempts      Reason = "too-many-attempts"
	TooManyMails         Reason = "too-many-mails"
	MailUnavailable      Reason = "mail-unavailable" // it is not set up
	DatabaseUnavailable  Reason = "database-unavailable"
	ChangePending        Reason = "change-pending" // it will be finished or undone
)

// Error is an error that a client may see.
type Error struct {
	Kind       Kind
	Reason     Reason        // empty: it is not known, or the kind says all
	Message    string        // for people; holds nothing secret
	Hint       string        // more for people, about what they have sent: not for a log
	Fields     []FieldError  // of kind Invalid: every field that is wrong
	RetryAfter time.Duration // how long to wait before the next attempt; 0: not known
	Err        error         // the cause, only for the log; may be nil
}

// FieldError says what is wrong with one field of a request.
type FieldError struct {
	Field   string `json:"field"`
	Message string `json:"message"`
}

// Detail returns the message with the hint, and what is wrong with each field. It has nothing
// of the cause.
func (e *Error) Detail() string {
	if e.Hint != "" {
		return e.text() + ": " + e.Hint
	}
	return e.text()
}

func (e *Error) text() string {
	var b strings.Builder
	b.WriteString(e.Message)
	separator := ": "
	for _, f := range e.Fields {
		b.WriteString(separator + f.Field + " " + f.Message)
		separator = "; "
	}
	return b.String()
}

func (e *Error) Error() string {
	if e.Err != nil {
		return fmt.Sprintf("%s: %v", e.text(), e.Err)
	}
	return e.text()
}

func (e *Error) Unwrap() error { return e.Err }

// Is makes [errors.Is] compare kinds, so that errors.Is(err, org.ErrConflict)
// holds for every conflict.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Message == "" && t.Kind == e.Kind
}

// One error of each kind, for [errors.Is].
var (
	ErrInvalid         error = &Error{Kind: Invalid}
	ErrUnauthenticated error = &Error{Kind: Unauthenticated}
	ErrForbidden       error = &Error{Kind: Forbidden}
	ErrNotFound        error = &Error{Kind: NotFound}
	ErrConflict        error = &Error{Kind: Conflict}
	ErrOutdated        error = &Error{Kind: Outdated}
	ErrThrottled       error = &Error{Kind: Throttled}
	ErrUnavailable     error = &Error{Kind: Unavailable}
)

func refuse(kind Kind, reason Reason, message string) *Error {
	return &Error{Kind: kind, Reason: reason, Message: message}
}

// withSlug returns the refusal with the hint how names are compared, to a person whose name has
// the slug.
func (e *Error) withSlug(slug string) *Error {
	e.Hint = "names are compared by their letters and digits, and the slug of this one is " + slug
	return e
}

func invalid(fields []FieldError) error {
	if len(fields) == 0 {
		return nil
	}
	return &Error{Kind: Invalid, Reason: InvalidFields, Message: "some fields are missing or not valid", Fields: fields}
}
