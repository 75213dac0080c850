// Package api is the service over HTTP: one handler for each endpoint, which
// reads a request strictly, calls the service and writes the answer or a
// problem document (RFC 9457).
package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"reflect"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"orgservice/shared/auth"
	"orgservice/shared/org"
	"orgservice/shared/trace"
)

// Create handles POST /org/create.
func Create(s *org.Service) http.Handler {
	return repeatable(&createRoute, s, func(r request[org.CreateRequest]) (createdOrganization, error) {
		r.content.ClientAddress = clientAddress(r.http)
		o, err := s.Create(r.http.Context(), r.content)
		return newCreated(o), err
	}, func(_ request[org.CreateRequest], _ org.Outcome, o org.Organization) (createdOrganization, error) {
		return newCreated(o), nil
	})
}

func newCreated(o org.Organization) createdOrganization {
	return createdOrganization{ID: o.ID, Name: o.Name, Collection: o.Collection}
}

// Get handles GET /org/get.
func Get(s *org.Service) http.Handler {
	return handler(&getRoute, func(r request[nothing]) (organization, error) {
		name := r.query["organization_name"]
		if name == nil {
			name = new(string) // an empty name is not valid
		}
		o, err := s.Get(r.http.Context(), *name)
		return newOrganization(o), err
	})
}

// Update handles PUT /org/update.
func Update(s *org.Service) http.Handler {
	return repeatable(&updateRoute, s, func(r request[org.UpdateRequest]) (_ organization, err error) {
		r.content.ClientAddress = clientAddress(r.http)
		if r.content.Revisions, err = revisionsOf(r.http); err != nil {
			return organization{}, err
		}
		o, err := s.Update(r.http.Context(), r.caller, r.content)
		return newOrganization(o), err
	}, func(_ request[org.UpdateRequest], _ org.Outcome, o org.Organization) (organization, error) {
		return newOrganization(o), nil
	})
}

// Delete handles DELETE /org/delete.
func Delete(s *org.Service) http.Handler {
	return repeatable(&deleteRoute, s, func(r request[nothing]) (deletedOrganization, error) {
		revisions, err := revisionsOf(r.http)
		if err != nil {
			return deletedOrganization{}, err
		}
		o, err := s.Delete(r.http.Context(), r.caller, org.DeleteRequest{Confirmation: r.query["organization_name"], Revisions: revisions})
		return newDeleted(o), err
	}, func(_ request[nothing], outcome org.Outcome, o org.Organization) (deletedOrganization, error) {
		o.UpdatedAt = outcome.At // it may be restored, and changed
		return newDeleted(o), nil
	})
}

func newDeleted(o org.Organization) deletedOrganization {
	deleted := deletedOrganization{ID: o.ID, Name: o.Name, DeletedAt: Time(o.UpdatedAt)}
	if o.Deletion != nil {
		deleted.Restorable = new(Time(o.Deletion.Ends))
	}
	return deleted
}

// Login handles POST /admin/login.
func Login(s *org.Service) http.Handler {
	return handler(&loginRoute, func(r request[org.LoginRequest]) (tokens, error) {
		r.content.ClientAddress, r.content.UserAgent = clientAddress(r.http), userAgent(r.http)
		tokens, err := s.Login(r.http.Context(), r.content)
		return newTokens(tokens), err
	})
}

// Refresh handles POST /admin/refresh.
func Refresh(s *org.Service) http.Handler {
	return handler(&refreshRoute, func(r request[org.RefreshRequest]) (tokens, error) {
		tokens, err := s.Refresh(r.http.Context(), r.content)
		return newTokens(tokens), err
	})
}

// Logout handles POST /admin/logout.
func Logout(s *org.Service) http.Handler {
	return handler(&logoutRoute, func(r request[org.RefreshRequest]) (nothing, error) {
		return nothing{}, s.Logout(r.http.Context(), r.content)
	})
}

// Me handles GET /admin/me.
func Me(s *org.Service) http.Handler {
	return handler(&meRoute, func(r request[nothing]) (me, error) {
		admin, o, err := s.Me(r.http.Context(), r.caller)
		return me{
			AdminID: admin.ID, Email: admin.Email, EmailVerified: admin.Verified(), OrganizationID: o.ID, OrganizationName: o.Name,
			Collection: o.Collection, Role: o.Role(admin.ID), ExpiresAt: Time(r.caller.ExpiresAt),
		}, err
	})
}

// JWKS handles GET /.well-known/jwks.json: it returns the key set, which is
// JSON. Caches may keep it for 5 minutes.
func JWKS(set []byte) http.Handler {
	return handler(&jwksRoute, func(request[nothing]) (cacheable, error) {
		return cacheable(set), nil
	})
}

// Health handles GET /health. The age is that of the handler.
func Health(s *org.Service) http.Handler {
	start := time.Now()
	return handler(&healthRoute, func(r request[nothing]) (health, error) {
		h := health{Status: "ok", Version: Version, Age: int64(time.Since(start) / time.Second)}
		deep := false
		if value := r.query["deep"]; value != nil {
			deep = *value == "true"
			if !deep && *value != "false" {
				return h, invalidParameter("deep", "must be true or false")
			}
		}
		if !deep {
			return h, nil
		}
		latency, err := s.Ping(r.http.Context())
		h.Database = &databaseHealth{Status: "ok", Latency: float64(latency.Microseconds()) / 1000}
		return h, err
	})
}

// Pages handles all routes of the pages. find returns the page at a path, and
// whether there is one.
func Pages(find func(path string) (Page, bool)) http.Handler {
	handlers := map[string]http.Handler{} // by path
	for _, row := range pageRoutes() {
		handlers[row.path] = handler(&row, func(r request[nothing]) (Page, error) {
			p, ok := find(r.http.URL.Path)
			if !ok {
				return p, &org.Error{Kind: org.NotFound, Reason: pageNotFound, Message: "there is no such page"}
			}
			return p, nil
		})
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h, ok := handlers[r.URL.Path]
		if !ok { // a part of the path is a parameter; the query has none
			h = handlers["/"]
		}
		h.ServeHTTP(w, r)
	})
}

func invalidParameter(name, message string) error {
	return &org.Error{
		Kind: org.Invalid, Reason: org.InvalidFields, Message: "a parameter is not valid",
		Fields: []org.FieldError{{Field: name, Message: message}},
	}
}

// cacheable is a response body in JSON that is the same for every client.
type cacheable json.RawMessage

func (c cacheable) MarshalJSON() ([]byte, error) { return c, nil }

// The response bodies.
type (
	createdOrganization struct {
		ID         string `json:"id"`
		Name       string `json:"organization_name"`
		Collection string `json:"collection_name"`
	}
	organization struct {
		ID         string `json:"id"`
		Name       string `json:"organization_name"`
		Collection string `json:"collection_name"`
		CreatedAt  Time   `json:"created_at"`
		UpdatedAt  Time   `json:"updated_at"`
		revision   int64  // 0: not known
	}
	deletedOrganization struct {
		ID         string `json:"id"`
		Name       string `json:"organization_name"`
		DeletedAt  Time   `json:"deleted_at"`
		Restorable *Time  `json:"restorable_until,omitempty"`
	}
	tokens struct {
		AccessToken  string `json:"access_token"`
		TokenType    string `json:"token_type"`
		ExpiresIn    int64  `json:"expires_in"` // seconds
		RefreshToken string `json:"refresh_token"`
	}
	me struct {
		AdminID          string   `json:"admin_id"`
		Email            string   `json:"email"`
		EmailVerified    bool     `json:"email_verified"`
		OrganizationID   string   `json:"organization_id"`
		OrganizationName string   `json:"organization_name"`
		Collection       string   `json:"collection_name"`
		ExpiresAt        Time     `json:"expires_at"` // of the access token
		Role             org.Role `json:"role"`
	}
	listedMember struct {
		AdminID string   `json:"admin_id"`
		Email   string   `json:"email"`
		Role    org.Role `json:"role"`
		Since   Time     `json:"since"`
	}
	members struct {
		Members []listedMember `json:"members"`
		Next    string         `json:"next,omitempty"`
	}
	invitation struct {
		ID        string   `json:"id"`
		Email     string   `json:"email"`
		Role      org.Role `json:"role"`
		InvitedBy string   `json:"invited_by"`
		CreatedAt Time     `json:"created_at"`
		ExpiresAt Time     `json:"expires_at"`
	}
	invitations struct {
		Invitations []invitation `json:"invitations"`
		Next        string       `json:"next,omitempty"`
	}
	membership struct {
		ID         string   `json:"id"`
		Name       string   `json:"organization_name"`
		Collection string   `json:"collection_name"`
		Role       org.Role `json:"role"`
		Since      Time     `json:"since"`
	}
	memberships struct {
		Organizations []membership `json:"organizations"`
		Next          string       `json:"next,omitempty"`
	}
	session struct {
		ID             string `json:"id"`
		OrganizationID string `json:"organization_id"`
		Name           string `json:"organization_name"`
		CreatedAt      Time   `json:"created_at"`
		UsedAt         Time   `json:"used_at"`
		ExpiresAt      Time   `json:"expires_at"`
		Address        string `json:"address,omitempty"`
		UserAgent      string `json:"user_agent,omitempty"`
		Current        bool   `json:"current"`
	}
	sessions struct {
		Sessions []session `json:"sessions"`
		Next     string    `json:"next,omitempty"`
	}
	health struct {
		Status   string          `json:"status"`
		Version  string          `json:"version"`
		Age      int64           `json:"age"` // seconds
		Database *databaseHealth `json:"database,omitempty"`
	}
	databaseHealth struct {
		Status  string  `json:"status"`
		Latency float64 `json:"latency_ms"`
	}
)

func newTokens(t org.Tokens) tokens {
	return tokens{
		AccessToken: t.Access, TokenType: "bearer", ExpiresIn: int64(t.ExpiresIn / time.Second), RefreshToken: t.Refresh,
	}
}

func newOrganization(o org.Organization) organization {
	return organization{
		ID: o.ID, Name: o.Name, Collection: o.Collection, CreatedAt: Time(o.CreatedAt), UpdatedAt: Time(o.UpdatedAt), revision: o.Revision,
	}
}

// request is an HTTP request to an endpoint. It has no query parameter and no
// field in its body that the endpoint does not know.
type request[T validator] struct {
	http    *http.Request      // embedded, its 40 methods would be compiled for each T
	caller  auth.Caller        // zero unless the endpoint is an admin's
	by      string             // the operator; empty unless the endpoint is an operator's
	query   map[string]*string // the parameters that are given
	content T                  // the body
}

// handler returns the handler of a route. f returns the response body or an
// error; before it, and before anything is read, each of the checks must return no error.
// handler panics if checkFields refuses T.
func handler[T validator, R any](e *route[T, R], f func(request[T]) (R, error), checks ...func(*http.Request) error) http.Handler {
	var names []string
	for _, p := range e.parameters {
		if !p.InPath && !p.InHeader {
			names = append(names, p.Name)
		}
	}
	checkFields(reflect.TypeFor[T]())
	return serve((*row)(e), func(r *http.Request) (any, error) {
		for _, check := range checks {
			if err := check(r); err != nil {
				return nil, err
			}
		}
		in, err := read[T](r, e.caller, names, e.form)
		if err != nil {
			return nil, err
		}
		return f(in)
	})
}

// serve returns the handler of the row, which answers with the body that f
// returns, or with its error as a problem document.
func serve(e *row, f func(*http.Request) (any, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		id := requestID(r)
		r = r.WithContext(withRequestIDs(r.Context(), requestIDs{answered: id, gateway: gatewayID(r)}))
		header := w.Header()
		for name, value := range commonHeaders(id) {
			header.Set(name, value)
		}
		body, err := recovered(r, f)
		status, reason := e.status, ""
		if err != nil {
			p := newProblem(err, id)
			p.setHeader(header)
			body, status, reason = p, p.Status, strings.TrimPrefix(p.Type, problemPath)
		}
		status = respond(w, r, status, body)
		took := time.Since(start)
		logRequest(r, e.path, status, took, reason, err)
		measure(e, status, took, reason)
		trace.End(e.method+" "+e.path, gatewayID(r))
	})
}

// respond writes a response body with the status, and returns the status. A page
// has its own.
func respond(w http.ResponseWriter, r *http.Request, status int, body any) int {
	header, contentType := w.Header(), jsonType+"; charset=utf-8"
	switch body := body.(type) {
	case nothing:
		w.WriteHeader(status)
		return status
	case http.Handler: // not Page, so that no other function links it
		page := &statusWriter{ResponseWriter: w}
		body.ServeHTTP(page, r)
		return page.status
	case problem:
		contentType = "application/problem+json"
	case cacheable:
		header.Set("Cache-Control", "public, max-age=300")
	case createdOrganization:
		if body.ID == "" { // a link was mailed
			w.WriteHeader(http.StatusNoContent)
			return http.StatusNoContent
		}
		header.Set("Location", "/org/get?organization_name="+url.QueryEscape(body.Name))
	case organization:
		if body.revision > 0 {
			header.Set("ETag", etag(body.revision))
		}
	case invitation:
		header.Set("Location", "/org/invitations/"+body.ID)
	}
	encoded := encode(body)
	header.Set("Content-Type", contentType)
	w.WriteHeader(status)
	w.Write(encoded) // into memory: it can't fail
	return status
}

// statusWriter keeps the status of a response.
type statusWriter struct {
	http.ResponseWriter
	status int
}

func (w *statusWriter) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

const jsonType = "application/json"

// commonHeaders returns the headers that every response has.
func commonHeaders(requestID string) map[string]string {
	return map[string]string{
		"X-Request-Id":              requestID,
		"Cache-Control":             "no-store",
		"X-Content-Type-Options":    "nosniff",
		"Strict-Transport-Security": "max-age=63072000; includeSubDomains",
	}
}

// recovered calls f and turns a panic into an error. The context of f's request
// has no deadline and is never canceled: every database command has its own
// time limit, which is short enough to answer the client. The deadline of the
// Lambda function only stops a function that hangs.
func recovered(r *http.Request, f func(*http.Request) (any, error)) (body any, err error) {
	defer func() {
		if p := recover(); p != nil {
			body, err = nil, fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	return f(r.WithContext(context.WithoutCancel(r.Context())))
}

// withoutNames returns what the log says about an error: all, but not the fields and
// parameters where some are unknown, nor the hint. Such a name may be a secret in the wrong
// place.
func withoutNames(err error) string {
	var refused *requestError
	var e *org.Error
	if errors.As(err, &refused) {
		return refused.err.Message
	}
	if errors.As(err, &e) && e.Reason == invalidParameters {
		return e.Message
	}
	return err.Error()
}

// requestID returns the X-Request-Id of the client if it is well-formed,
// otherwise the request id of the gateway, which is in the gateway's access log.
func requestID(r *http.Request) string {
	if id := r.Header.Get("X-Request-Id"); isWellFormedID(id) {
		return id
	}
	return gatewayID(r)
}

// isWellFormedID reports whether the id is of 8 to 64 letters, digits, dots, hyphens and
// underscores.
func isWellFormedID(id string) bool {
	return len(id) >= 8 && len(id) <= 64 && !strings.ContainsFunc(id, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '.' && r != '-' && r != '_'
	})
}

// read parses a request of the caller with the parameters and, if it has a body, JSON or a
// form, or returns why it is refused.
func read[T validator](r *http.Request, c caller, parameters []string, form bool) (in request[T], err error) {
	in.http = r
	if c == admin || c == unverified {
		if in.caller, err = callerOf(r); err != nil {
			return in, err
		}
	}
	if c == operator {
		if in.by, err = operatorOf(r); err != nil {
			return in, err
		}
	}
	if in.query, err = readQuery(r, parameters); err != nil {
		return in, err
	}
	err = decode(r, any(&in.content).(validator), form) // a pointer has the methods of T
	return in, err
}

// readQuery returns the query parameters. Each must be known and given once.
// None is ignored: it might name the organization that a client wants to
// delete.
func readQuery(r *http.Request, known []string) (map[string]*string, error) {
	given, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, badRequest("the query can't be read")
	}
	query := map[string]*string{}
	var wrong []org.FieldError
	for _, name := range slices.Sorted(maps.Keys(given)) {
		query[name] = &given[name][0]
		if !slices.Contains(known, name) {
			wrong = append(wrong, org.FieldError{Field: start(name), Message: "is not a parameter of this route" + suggestion(start(name), known)})
		} else if len(given[name]) > 1 {
			wrong = append(wrong, org.FieldError{Field: name, Message: "must be given once"})
		}
	}
	if wrong != nil {
		message := "some parameters are not known here or are given twice"
		if n := len(wrong); n > maxStrays {
			message = fmt.Sprintf("%d parameters are not known here or are given twice, of which these are the first", n)
			wrong = wrong[:maxStrays]
		}
		return nil, &org.Error{Kind: org.Invalid, Reason: invalidParameters, Message: message, Fields: wrong}
	}
	return query, nil
}
