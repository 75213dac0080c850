package api

import (
	"errors"
	"fmt"
	"net/http"
	"time"

	"orgservice/shared/org"
)

// problem is the response body of every failure (RFC 9457).
type problem struct {
	Type      string           `json:"type"`
	Title     string           `json:"title"`
	Status    int              `json:"status"`
	Detail    string           `json:"detail"`
	RequestID string           `json:"request_id"`
	Errors    []org.FieldError `json:"errors,omitempty"`

	retryAfter time.Duration
}

// problemType is a kind of problem that programs can tell from others. Its type
// is problemPath and the reason, and never changes.
type problemType struct {
	reason  org.Reason
	status  int
	meaning string // a sentence for people
}

// problemPath is the path before the reason in the type of a problem.
const problemPath = "/problems/"

// The reasons that package org does not know.
const (
	malformedRequest     org.Reason = "malformed-request"
	bodyTooLarge         org.Reason = "body-too-large"
	unsupportedMediaType org.Reason = "unsupported-media-type"
	invalidParameters    org.Reason = "invalid-parameters"
	tokenRequired        org.Reason = "token-required"
	internalError        org.Reason = "internal-error"
	pageNotFound         org.Reason = "page-not-found"
	clientRefused        org.Reason = "client-refused"
	operatorRequired     org.Reason = "operator-required"
)

// problemTypes has every type of problem of the service.
var problemTypes = []problemType{
	{malformedRequest, 400, "The body is not one JSON object or form, has an unknown or duplicate field (\"errors\" lists each), or is not allowed, or the query can't be read."},
	{org.WrongCredentials, 401, "The email or the password is wrong."},
	{tokenRequired, 401, "The request has no access token."},
	{clientRefused, 401, "The request has none of the secrets of `INTROSPECTION_SECRET`."},
	{org.TokenRevoked, 401, "The access token was revoked, or has expired since the authorizer accepted it."},
	{org.RefreshTokenInvalid, 401, "The refresh token has expired, was revoked, or was used before, which ends its session."},
	{org.TicketInvalid, 401, "The ticket of an invitation, for a new password or to confirm an email has expired, was used or was withdrawn."},
	{org.WrongCurrentPassword, 403, "The current password is wrong."},
	{org.EmailUnverified, 403, "The caller must first confirm the email, with the link that was mailed."},
	{org.SignUpClosed, 403, "New organizations can't sign up here: who is invited can join one."},
	{org.TooManyOrganizations, 403, "There are as many organizations as there may be here."},
	{org.RoleForbids, 403, "The role of the caller in the organization does not permit this."},
	{org.WrongConfirmation, 403, "The confirmation of a delete names another organization."},
	{operatorRequired, 403, "The request does not come from an operator, whom API Gateway knows by AWS IAM."},
	{org.OrganizationNotFound, 404, "There is no organization of that name or id."},
	{org.MemberNotFound, 404, "The organization has no member of that id."},
	{org.InvitationNotFound, 404, "The organization has no open invitation of that id."},
	{pageNotFound, 404, "There is no page at that path."},
	{org.NameTaken, 409, "Another organization has the name, or one with the same slug, or has given it up a moment ago."},
	{org.EmailTaken, 409, "Another admin has the email, or has given it up a moment ago."},
	{org.NameUnusable, 409, "A collection of that name exists and holds documents."},
	{org.AlreadyVerified, 409, "The email is confirmed already."},
	{org.AlreadyMember, 409, "The organization has a member with that email."},
	{org.LastOwner, 409, "The organization would have no owner."},
	{org.TooManyMembers, 409, "The organization has as many members and open invitations as it can."},
	{org.OrganizationBusy, 409, "Another change of the organization, or of the admin, is under way."},
	{org.KeyInUse, 409, "The first request with this `Idempotency-Key` is under way or, after a crash, will be finished or undone within a minute."},
	{org.OrganizationChanged, 412, "The organization has changed since: `If-Match` has none of its `ETag`s."},
	{bodyTooLarge, 413, "The body is larger than 64 KiB."},
	{unsupportedMediaType, 415, "The body is not sent as JSON, or not as a form where that is expected."},
	{org.InvalidFields, 422, "Fields of the body, parameters or headers are missing or not valid."},
	{org.KeyReused, 422, "The `Idempotency-Key` was used with another request, or the password that it sets was changed since."},
	{invalidParameters, 422, "Parameters of the query are unknown or duplicate."},
	{org.TooManyAttempts, 429, "There were too many failed logins, too many changes that need the current password, or too many repetitions of a request with a wrong password."},
	{org.TooManySignUps, 429, "One client, or one admin, has created too many organizations."},
	{org.TooManyMails, 429, "Too many mails were asked for, to one address or by one client, admin or organization."},
	{internalError, 500, "The service has a fault, or is set up wrongly."},
	{org.MailUnavailable, 503, "The service is not set up to send mail."},
	{org.DatabaseUnavailable, 503, "The database can't be reached in time: nothing was changed, or the change will be finished or undone by itself."},
	{org.ChangePending, 503, "The change took too long: it will be finished or undone by itself."},
}

// statuses has the HTTP status of each kind of error.
var statuses = map[org.Kind]int{
	org.Invalid:         http.StatusUnprocessableEntity,
	org.Unauthenticated: http.StatusUnauthorized,
	org.Forbidden:       http.StatusForbidden,
	org.NotFound:        http.StatusNotFound,
	org.Conflict:        http.StatusConflict,
	org.Outdated:        http.StatusPreconditionFailed,
	org.Throttled:       http.StatusTooManyRequests,
	org.Unavailable:     http.StatusServiceUnavailable,
}

// requestError is the refusal of a request that can't be read.
type requestError struct {
	status int
	err    *org.Error
}

func (e *requestError) Error() string { return e.err.Error() }

func refuse(status int, reason org.Reason, detail string) *requestError {
	return &requestError{status, &org.Error{Reason: reason, Message: detail}}
}

func badRequest(format string, args ...any) *requestError {
	return refuse(http.StatusBadRequest, malformedRequest, fmt.Sprintf(format, args...))
}

// newProblem returns the problem document for an error. If the error is neither
// a requestError nor an org.Error, the document says nothing about it.
func newProblem(err error, requestID string) problem {
	var refused *requestError
	var e *org.Error
	switch {
	case errors.As(err, &refused):
	case errors.As(err, &e) && statuses[e.Kind] != 0:
		refused = &requestError{statuses[e.Kind], e}
	default:
		refused = refuse(http.StatusInternalServerError, internalError, "internal error")
	}
	e = refused.err
	p := problem{
		Type: "about:blank", Title: http.StatusText(refused.status), Status: refused.status, Detail: e.Detail(),
		RequestID: requestID, Errors: e.Fields, retryAfter: e.RetryAfter,
	}
	if e.Reason != "" {
		p.Type = problemPath + string(e.Reason)
	}
	return p
}

// setHeader sets the headers that the status of the problem needs.
func (p problem) setHeader(h http.Header) {
	if p.Status == http.StatusUnauthorized {
		h.Set("WWW-Authenticate", "Bearer")
	}
	if p.Type == problemPath+string(clientRefused) {
		h.Set("WWW-Authenticate", `Bearer, Basic realm="introspection"`)
	}
	if p.retryAfter > 0 {
		seconds := int64((p.retryAfter + time.Second - 1) / time.Second)
		h.Set("Retry-After", fmt.Sprint(seconds))
	}
}
