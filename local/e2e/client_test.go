package e2e

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

// client calls the service and checks in each answer what must hold in all. On
// Linux it has an IP address of its own, because the service counts failed
// logins by address. Its methods may be called concurrently.
type client struct {
	t       testing.TB
	base    string
	gateway *dialect
	http    *http.Client
	seen    func(r *http.Request, body []byte, a answer) // called with every answer, if it is not nil

	operatorToken string // of the gateway, if the suite has started it
}

// ownAddresses tells whether each client has an IP address of its own. On Linux,
// every address in 127.0.0.0/8 is local.
const ownAddresses = runtime.GOOS == "linux"

// newClient returns a client of the service under test.
func newClient(t testing.TB) *client { return newClientOf(t, baseURL, gateway) }

// newLocalClient returns a client of the gateway p.
func newLocalClient(t testing.TB, p *process) *client {
	c := newClientOf(t, p.url, dialects["local"])
	token, err := os.ReadFile(filepath.Join(p.data, "operator_token"))
	if err != nil {
		t.Fatal(err)
	}
	c.operatorToken = string(token)
	return c
}

func newClientOf(t testing.TB, base string, gateway *dialect) *client {
	t.Helper()
	u, err := url.Parse(base)
	if err != nil {
		t.Fatal(err)
	}
	dialer := &net.Dialer{}
	if ip := net.ParseIP(u.Hostname()).To4(); ownAddresses && ip != nil && ip.IsLoopback() {
		dialer.LocalAddr = &net.TCPAddr{IP: net.IPv4(127, byte(mathrand.IntN(256)), byte(mathrand.IntN(256)), byte(2+mathrand.IntN(250)))}
	}
	transport := &http.Transport{DialContext: dialer.DialContext, MaxIdleConnsPerHost: 50}
	t.Cleanup(transport.CloseIdleConnections)
	return &client{t: t, base: base, gateway: gateway, http: &http.Client{Timeout: patience, Transport: transport}}
}

// answer is the answer to a request. Without one, the status is 0 and err is the
// reason.
type answer struct {
	request string // method and target, for messages
	status  int
	header  http.Header
	body    []byte
	err     error
}

func (c *client) create(r registration) answer { return c.call("POST", "/org/create", r) }

func (c *client) login(email, password string) answer {
	return c.call("POST", "/admin/login", object{"email": email, "password": password})
}

func (c *client) get(name string) answer {
	return c.call("GET", "/org/get?"+url.Values{"organization_name": {name}}.Encode(), nil)
}

func (c *client) update(token string, change object) answer {
	return c.call("PUT", "/org/update", change, "Authorization", "Bearer "+token)
}

// delete deletes the organization. The confirmation is the name in the query.
func (c *client) delete(token string, confirmation ...string) answer {
	query := ""
	if len(confirmation) > 0 {
		query = "?" + url.Values{"organization_name": confirmation}.Encode()
	}
	return c.call("DELETE", "/org/delete"+query, nil, "Authorization", "Bearer "+token)
}

func (c *client) refresh(token string) answer {
	return c.call("POST", "/admin/refresh", object{"refresh_token": token})
}

func (c *client) logout(token string) answer {
	return c.call("POST", "/admin/logout", object{"refresh_token": token})
}

// introspect asks about an access token, as another service that has the secret.
func (c *client) introspect(secret, token string) answer {
	return c.call("POST", "/admin/introspect", "token="+url.QueryEscape(token), "Authorization", "Bearer "+secret, "Content-Type", "application/x-www-form-urlencoded")
}

func (c *client) me(token string) answer {
	return c.call("GET", "/admin/me", nil, "Authorization", "Bearer "+token)
}

func (c *client) organizations(token, query string) answer {
	return c.call("GET", "/admin/organizations"+query, nil, "Authorization", "Bearer "+token)
}

func (c *client) sessions(token, query string) answer {
	return c.call("GET", "/admin/sessions"+query, nil, "Authorization", "Bearer "+token)
}

func (c *client) endSession(token, id string) answer {
	return c.call("DELETE", "/admin/sessions/"+id, nil, "Authorization", "Bearer "+token)
}

func (c *client) endSessions(token string) answer {
	return c.call("DELETE", "/admin/sessions", nil, "Authorization", "Bearer "+token)
}

func (c *client) addOrganization(token, name string) answer {
	return c.call("POST", "/admin/organizations", object{"organization_name": name}, "Authorization", "Bearer "+token)
}

func (c *client) switchTo(token, name string) answer {
	return c.call("POST", "/admin/switch", object{"organization_name": name}, "Authorization", "Bearer "+token)
}

func (c *client) members(token, query string) answer {
	return c.call("GET", "/org/members"+query, nil, "Authorization", "Bearer "+token)
}

// operate calls a route of the operator. target begins behind /operator/organizations.
func (c *client) operate(method, target string, body any) answer {
	return c.call(method, "/operator/organizations"+target, body, "Authorization", "Bearer "+c.operatorToken)
}

// object is a JSON object.
type object = map[string]any

// call sends a request. The body is text if it is a string, none if it is nil,
// and otherwise JSON. The headers are pairs of name and value; an empty value
// removes a header.
func (c *client) call(method, target string, body any, headers ...string) answer {
	c.t.Helper()
	a := answer{request: method + " " + target}
	var content []byte
	switch body := body.(type) {
	case nil:
	case string:
		content = []byte(body)
	default:
		encoded, err := json.Marshal(body)
		if err != nil {
			panic(err)
		}
		content = encoded
	}
	r, err := http.NewRequest(method, c.base+target, bytes.NewReader(content))
	if err != nil {
		panic(err)
	}
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Del(headers[i])
		if headers[i+1] != "" {
			r.Header.Set(headers[i], headers[i+1])
		}
	}
	if token := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "); len(token) > 40 {
		secrets.add(token)
	}
	response, err := c.http.Do(r)
	if err != nil {
		a.err = err
		return a
	}
	defer response.Body.Close()
	if a.body, a.err = io.ReadAll(response.Body); a.err != nil {
		return a
	}
	a.status, a.header = response.StatusCode, response.Header
	if tokens := a.tokens(); a.status == http.StatusOK && len(tokens) > 0 {
		for _, token := range tokens {
			secrets.add(token)
		}
	} else if found := secrets.find(string(a.body)); found != nil && !a.isPage() { // a page has examples
		c.t.Errorf("%v: the answer holds the secrets %q", a, found)
	}
	if method != http.MethodOptions {
		c.check(a, r.Header.Get("X-Request-Id"))
		c.checkDocumented(r, content, a)
	}
	if c.seen != nil {
		c.seen(r, content, a)
	}
	return a
}

var (
	echoedID = regexp.MustCompile(`^[A-Za-z0-9._-]{8,64}$`)
	internal = regexp.MustCompile(`(?i)\b(mongo|bson|ferret|sqlite|E11000|goroutine|panic)|\.go:|\$2[aby]\$`)
)

// check fails the test unless the answer is a refusal of the gateway, or has what
// every answer of the service must have. requestID is the request's X-Request-Id.
func (c *client) check(a answer, requestID string) {
	c.t.Helper()
	if message, ok := a.refusal(); ok {
		g := c.gateway
		for _, r := range []refusal{g.unauthorized, g.forbidden, g.noRoute, g.notUTF8, g.failed, g.throttled} {
			if r == (refusal{a.status, message}) {
				return
			}
		}
		c.t.Errorf("%v: not a refusal of this gateway", a)
		return
	}
	contentType := "application/json; charset=utf-8"
	if a.status >= 400 {
		contentType = "application/problem+json"
	}
	if a.status == http.StatusNoContent {
		contentType = a.header.Get("Content-Type") // any, as there is no body
	}
	caching := "no-store"
	if a.isPage() {
		caching, contentType = "no-cache", a.header.Get("Content-Type")
	}
	if strings.HasSuffix(a.request, "/.well-known/jwks.json") && a.status < 400 {
		caching = "public, max-age=300"
	}
	for name, want := range map[string]string{
		"Content-Type":              contentType,
		"Cache-Control":             caching,
		"X-Content-Type-Options":    "nosniff",
		"Strict-Transport-Security": "max-age=63072000; includeSubDomains",
	} {
		if got := a.header.Get(name); got != want {
			c.t.Errorf("%v: %s is %q, want %q", a, name, got, want)
		}
	}
	id := a.header.Get("X-Request-Id")
	if id == "" || echoedID.MatchString(requestID) && id != requestID {
		c.t.Errorf("%v: X-Request-Id is %q, and the request's was %q", a, id, requestID)
	}
	if a.status < 400 {
		return
	}
	p := a.object()
	detail, _ := p["detail"].(string)
	problemType, _ := p["type"].(string)
	if status := problemTypes()[strings.TrimPrefix(problemType, "/problems/")]; status != a.status {
		c.t.Errorf("%v: the README lists the type %q with status %d", a, problemType, status)
	}
	want := object{
		"type": problemType, "title": http.StatusText(a.status), "status": float64(a.status),
		"detail": detail, "request_id": id,
	}
	if fieldErrors, ok := p["errors"]; ok && (a.status == 422 || a.status == 400) {
		want["errors"] = fieldErrors
	}
	if diff := cmp.Diff(want, p); diff != "" {
		c.t.Errorf("%v: the problem (-want +got):\n%s", a, diff)
	}
	if detail == "" || internal.Match(a.body) {
		c.t.Errorf("%v: the detail is missing or shows what is inside", a)
	}
	scheme := "Bearer"
	if problemType == "/problems/client-refused" {
		scheme = `Bearer, Basic realm="introspection"`
	}
	if got := a.header.Get("WWW-Authenticate"); (a.status == 401) != (got == scheme) {
		c.t.Errorf("%v: WWW-Authenticate is %q", a, got)
	}
	if got := a.header.Get("Retry-After"); (a.status == 429 || a.status == 503 || problemType == "/problems/key-in-use") != retryAfter.MatchString(got) {
		c.t.Errorf("%v: Retry-After is %q", a, got)
	}
}

// problemTypes returns the types of problems that the README lists, with their
// statuses.
var problemTypes = sync.OnceValue(func() map[string]int {
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		panic(err)
	}
	types := map[string]int{}
	for _, row := range regexp.MustCompile(`(?m)^\| (\d{3}) \|(.*)\|$`).FindAllStringSubmatch(string(readme), -1) {
		for _, code := range regexp.MustCompile("`([a-z]+(?:-[a-z]+)+)`: ").FindAllStringSubmatch(row[2], -1) {
			types[code[1]], _ = strconv.Atoi(row[1])
		}
	}
	return types
})

var retryAfter = regexp.MustCompile(`^[1-9]\d*$`)

func (a answer) String() string {
	if a.status == 0 {
		return fmt.Sprintf("%s: %v", a.request, a.err)
	}
	body := a.body
	if a.tokens() != nil {
		body = []byte("(a token)")
	}
	return fmt.Sprintf("%.200s: %d %.1000s", a.request, a.status, body)
}

// object returns the body as a JSON object, or nil if it is not one.
func (a answer) object() (o object) {
	json.Unmarshal(a.body, &o)
	return o
}

// text returns the field of that name, or "" if it is not a string.
func (a answer) text(name string) string {
	s, _ := a.object()[name].(string)
	return s
}

// tokens returns the tokens in the answer to a login.
func (a answer) tokens() (tokens []string) {
	for name, value := range a.object() {
		if token, ok := value.(string); ok && strings.HasSuffix(name, "_token") {
			tokens = append(tokens, token)
		}
	}
	return tokens
}

// isPage reports whether the answer is a page, for which other rules hold.
func (a answer) isPage() bool { return a.header.Get("Content-Security-Policy") != "" }

// refusal returns the message of an answer that has the form of a refusal, and
// whether it has.
func (a answer) refusal() (string, bool) {
	o := a.object()
	message, ok := o["message"].(string)
	return message, ok && len(o) == 1
}

// want fails the test unless the answer has the status and comes from the service
// and not from the gateway. It returns the answer.
func (a answer) want(t testing.TB, status int) answer {
	t.Helper()
	if _, refused := a.refusal(); a.status != status || refused {
		t.Fatalf("%v; want %d", a, status)
	}
	return a
}

// wantRefusal fails the test unless the answer is this refusal of the gateway.
func (a answer) wantRefusal(t testing.TB, r refusal) {
	t.Helper()
	if message, _ := a.refusal(); r != (refusal{a.status, message}) {
		t.Fatalf("%v; want the gateway's %v", a, r)
	}
}

// wantFields fails the test unless the answer is 422 with one error for each of
// these fields and no other.
func (a answer) wantFields(t testing.TB, fields ...string) {
	t.Helper()
	a.want(t, 422)
	var problem struct {
		Errors []struct{ Field, Message string }
	}
	json.Unmarshal(a.body, &problem)
	got := map[string]int{}
	for _, e := range problem.Errors {
		got[e.Field]++
		if e.Message == "" {
			t.Errorf("%v: nothing is said about %s", a, e.Field)
		}
	}
	want := map[string]int{}
	for _, f := range fields {
		want[f] = 1
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%v: the fields (-want +got):\n%s", a, diff)
	}
}

// registration is the body of create.
type registration struct {
	Name     string `json:"organization_name"`
	Email    string `json:"email"`
	Password string `json:"password"`
}

// unique returns a new random word in lower case.
func unique() string { return strings.ToLower(rand.Text()[:14]) }

func newPassword() string { return secrets.add("Pw-" + rand.Text()) }

func newRegistration() registration {
	word := unique()
	return registration{Name: "Tenant " + word, Email: word + "@example.com", Password: newPassword()}
}

// tenant is an organization whose admin is logged in.
type tenant struct {
	registration
	id    string
	token string
}

// newTenant signs up an organization and logs in.
func newTenant(c *client) tenant {
	c.t.Helper()
	r := newRegistration()
	return tenant{r, c.create(r).want(c.t, 201).text("id"), mustLogin(c, r.Email, r.Password)}
}

func mustLogin(c *client, email, password string) string {
	c.t.Helper()
	return c.login(email, password).want(c.t, 200).text("access_token")
}

// wantIntact fails the test unless the tenant is as it was when it signed up.
func (o tenant) wantIntact(c *client) {
	c.t.Helper()
	if got := c.get(o.Name).want(c.t, 200); got.text("id") != o.id || got.text("organization_name") != o.Name {
		c.t.Errorf("%v; want %s %s", got, o.id, o.Name)
	}
	mustLogin(c, o.Email, o.Password)
}

// organization is the answer of get and update. It has no other fields.
type organization struct {
	ID         string    `json:"id"`
	Name       string    `json:"organization_name"`
	Collection string    `json:"collection_name"`
	CreatedAt  time.Time `json:"created_at"`
	UpdatedAt  time.Time `json:"updated_at"`
}

// organization returns the body. It fails the test if the body has other fields,
// or a time that is not in UTC.
func (a answer) organization(t testing.TB) (o organization) {
	t.Helper()
	a.strictly(t, &o)
	wantUTC(t, a, "created_at", "updated_at")
	return o
}

// strictly decodes the body into v. It fails the test if v lacks a field.
func (a answer) strictly(t testing.TB, v any) {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(a.body))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil || !utf8.Valid(a.body) {
		t.Fatalf("%v: %v", a, err)
	}
}

func wantUTC(t testing.TB, a answer, names ...string) {
	t.Helper()
	for _, name := range names {
		if s := a.text(name); !strings.HasSuffix(s, "Z") {
			t.Errorf("%v: %s is %q, which is not in UTC", a, name, s)
		}
	}
}
