package api

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"orgservice/shared/org"
)

// The request headers that make a change safe to repeat.
const (
	idempotencyKey = "Idempotency-Key"
	ifMatch        = "If-Match"
)

// repeatable returns the handler of a route whose request a client may repeat with an
// idempotency key: f is called once for each, and again returns the body of the response if an
// outcome without an answer and the organization, as it is now, are all that is known of what f did.
func repeatable[T validator, R any](e *route[T, R], s *org.Service, f func(request[T]) (R, error), again func(request[T], org.Outcome, org.Organization) (R, error)) http.Handler {
	if !e.repeatable {
		panic("api: " + e.path + " is not repeatable by the table of routes")
	}
	return handler(e, func(r request[T]) (body R, err error) {
		key, err := idempotencyKeyOf(r.http)
		if err != nil {
			return body, err
		}
		// What is refused at once needs no key.
		if key == "" || len(r.content.Validate()) > 0 {
			return f(r)
		}
		change := newRepeatable(r, key, e.creates)
		if !e.creates && !isID(change.OrganizationID) {
			return f(r)
		}
		outcome, o, err := s.Once(r.http.Context(), change, func(ctx context.Context) ([]byte, error) {
			r := r
			r.http = r.http.WithContext(ctx)
			var err error
			if body, err = f(r); err != nil {
				return nil, err
			}
			return encode(storedAnswer{encode(body), revisionIn(&body)}), nil
		})
		switch {
		case err != nil || outcome == nil:
			return body, err
		case len(outcome.Answer) > 0:
			var stored storedAnswer
			if err = json.Unmarshal(outcome.Answer, &stored); err == nil {
				err = json.Unmarshal(stored.Body, &body)
			}
			if revision := revisionIn(&body); revision != nil {
				*revision = *stored.Revision
			}
			return body, err
		}
		return again(r, *outcome, o)
	})
}

// storedAnswer is the answer to a request with an idempotency key.
type storedAnswer struct {
	Body     json.RawMessage
	Revision *int64 `json:",omitempty"` // that the ETag is made of
}

// revisionIn returns the revision of the body, or nil if it has none.
func revisionIn(body any) *int64 {
	if o, ok := body.(*organization); ok {
		return &o.revision
	}
	return nil
}

// idempotencyKeyOf returns the header Idempotency-Key, or nothing if there is none. It is taken
// as it is, with quotes or without.
func idempotencyKeyOf(r *http.Request) (string, error) {
	values := r.Header.Values(idempotencyKey)
	if len(values) == 0 {
		return "", nil
	}
	key := strings.Join(values, ",")
	isVisible := func(c rune) bool { return c >= ' ' && c <= '~' }
	if key == "" || len(key) > 255 || strings.IndexFunc(key, func(c rune) bool { return !isVisible(c) }) >= 0 {
		return "", invalidParameter(idempotencyKey, "must have 1 to 255 visible ASCII characters")
	}
	return key, nil
}

// newRepeatable returns the request with the key. It changes the organization of the caller or,
// if that is an operator, of the path, or creates one.
func newRepeatable[T validator](r request[T], key string, creates bool) org.RepeatableRequest {
	change := org.RepeatableRequest{AdminID: r.caller.AdminID, CallerOf: r.caller.OrganizationID, Until: r.caller.ExpiresAt, ClientAddress: clientAddress(r.http)}
	whose := "admin " + r.caller.AdminID
	switch {
	case creates:
	case r.by != "":
		change.OrganizationID, whose = operatedID(r.http), "operator"
	default:
		change.OrganizationID = r.caller.OrganizationID
	}
	fields := map[string]any{}
	if err := json.Unmarshal(encode(r.content), &fields); err != nil {
		panic(err) // a bug: it is an object
	}
	if password, ok := fields["password"].(string); ok {
		change.Password = password
	}
	delete(fields, "password")
	delete(fields, "current_password")
	change.Key = digest(whose, key)
	change.Fingerprint = digest(r.http.Method, r.http.URL.Path, r.http.URL.Query(), r.http.Header.Values(ifMatch), change.OrganizationID, fields)
	return change
}

// digest returns a hash of the values.
func digest(values ...any) string {
	sum := sha256.Sum256(encode(values))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// encode returns the value in JSON.
func encode(value any) []byte {
	encoded, err := json.Marshal(value)
	if err != nil {
		panic(err) // the type of the value can't be JSON: a bug
	}
	return encoded
}

// etag returns the entity tag of an organization of that revision (RFC 9110, section 8.8.3).
func etag(revision int64) string { return fmt.Sprintf("%q", strconv.FormatInt(revision, 10)) }

// revisionsOf returns the revisions that the header If-Match names (RFC 9110, section 13.1.1), or
// nil if there is none, or it names every one.
func revisionsOf(r *http.Request) ([]int64, error) {
	given := strings.Join(r.Header.Values(ifMatch), ",")
	if len(r.Header.Values(ifMatch)) == 0 || strings.TrimSpace(given) == "*" {
		return nil, nil
	}
	tags := regexp.MustCompile(entityTag).FindAllStringSubmatch(given, -1)
	if !regexp.MustCompile(listOfTags).MatchString(given) || len(tags) == 0 {
		return nil, invalidParameter(ifMatch, "must be entity tags, each in quotes, or *")
	}
	revisions := []int64{}
	for _, tag := range tags {
		revision, err := strconv.ParseInt(tag[1], 10, 64)
		if err == nil && etag(revision) == tag[0] { // a weak one never matches
			revisions = append(revisions, revision)
		}
	}
	return revisions, nil
}

// The patterns are compiled when a request has the header, and not when a function starts.
const (
	entityTag = `(?:W/)?"([^"]*)"`
	// An element of a list may be empty (RFC 9110, section 5.6.1.2).
	listOfTags = `^[ \t,]*(` + entityTag + `[ \t]*(,[ \t,]*|$))*$`
)

// doneAgain is the body of what has none.
func doneAgain(request[nothing], org.Outcome, org.Organization) (nothing, error) {
	return nothing{}, nil
}

// memberOf returns the member of that id as the organization has it now.
func memberOf(ctx context.Context, s *org.Service, o org.Organization, id string) (listedMember, error) {
	i := slices.IndexFunc(o.Admins, func(m org.Member) bool { return m.AdminID == id })
	if i < 0 {
		return listedMember{}, &org.Error{Kind: org.NotFound, Reason: org.MemberNotFound, Message: "the organization has no member of that id any more"}
	}
	members, err := s.WithEmails(ctx, o.Admins[i:i+1])
	if err != nil {
		return listedMember{}, err
	}
	return newListedMember(members[0]), nil
}
