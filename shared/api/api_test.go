package api_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-lambda-go/lambdacontext"
	"github.com/google/go-cmp/cmp"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"golang.org/x/crypto/bcrypt"

	"orgservice/local/mongodbtest"
	"orgservice/shared/api"
	"orgservice/shared/auth"
	"orgservice/shared/mongodb"
	"orgservice/shared/org"
)

const (
	adminPassword = "Admin@123"
	lambdaID      = "8476a536-e9f4-11e8-9739-2dfe598c3fcd"
)

func TestMain(m *testing.M) {
	// A time that is not converted to UTC is noticed.
	time.Local = time.FixedZone("IST", 5*60*60+30*60)
	slog.SetDefault(slog.New(slog.DiscardHandler))
	os.Exit(m.Run())
}

// captureLog returns what is logged until the test ends.
func captureLog(t *testing.T) *logBuffer {
	t.Helper()
	before := slog.Default()
	t.Cleanup(func() { slog.SetDefault(before) })
	b := &logBuffer{}
	slog.SetDefault(slog.New(api.RequestLog(slog.NewJSONHandler(b, &slog.HandlerOptions{Level: slog.LevelDebug}))))
	return b
}

type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// lines returns the log lines of requests.
func (l *logBuffer) lines(t *testing.T) (lines []map[string]any) {
	t.Helper()
	for line := range strings.Lines(l.String()) {
		var v map[string]any
		if err := json.Unmarshal([]byte(line), &v); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		if v["msg"] == "request" {
			lines = append(lines, v)
		}
	}
	return lines
}

func newService(t testing.TB) (*org.Service, mongodbtest.Database) {
	t.Helper()
	db := mongodbtest.New(t)
	return serviceOn(t, db.Open(t), db.Name), db
}

var tokenSecret = []byte(strings.Repeat("k", auth.MinSecretBytes))

func serviceOn(t testing.TB, store org.Store, database string) *org.Service {
	t.Helper()
	signer, err := auth.NewSigner(tokenSecret)
	if err != nil {
		t.Fatal(err)
	}
	return &org.Service{
		Store:      store,
		Database:   database,
		Passwords:  auth.Passwords{Cost: bcrypt.MinCost},
		Tokens:     signer,
		TokenTTL:   time.Hour,
		SessionTTL: 24 * time.Hour,
	}
}

func request(method, path, query string) events.APIGatewayV2HTTPRequest {
	return events.APIGatewayV2HTTPRequest{
		Version:        "2.0",
		RouteKey:       method + " " + path,
		RawPath:        path,
		RawQueryString: query,
		Headers:        map[string]string{"content-type": "application/json"},
		RequestContext: events.APIGatewayV2HTTPRequestContext{
			DomainName: "abc123.execute-api.eu-west-3.amazonaws.com",
			HTTP:       events.APIGatewayV2HTTPRequestContextHTTPDescription{Method: method, Path: path, SourceIP: "192.0.2.1"},
		},
	}
}

func withBody(r events.APIGatewayV2HTTPRequest, body string) events.APIGatewayV2HTTPRequest {
	r.Body = body
	return r
}

func withHeader(r events.APIGatewayV2HTTPRequest, name, value string) events.APIGatewayV2HTTPRequest {
	r.Headers = maps.Clone(r.Headers)
	r.Headers[name] = value
	return r
}

// as returns the request as the gateway hands it on after the authorizer has
// accepted the caller's token.
func as(c auth.Caller, r events.APIGatewayV2HTTPRequest) events.APIGatewayV2HTTPRequest {
	r.RequestContext.Authorizer = &events.APIGatewayV2HTTPRequestContextAuthorizerDescription{Lambda: c.Context()}
	return r
}

func createRequest(body string) events.APIGatewayV2HTTPRequest {
	return withBody(request("POST", "/org/create", ""), body)
}

func loginRequest(body string) events.APIGatewayV2HTTPRequest {
	return withBody(request("POST", "/admin/login", ""), body)
}

func updateRequest(body string) events.APIGatewayV2HTTPRequest {
	return withBody(request("PUT", "/org/update", ""), body)
}

func registration(name, email string) string {
	return fmt.Sprintf(`{"organization_name":%q,"email":%q,"password":%q}`, name, email, adminPassword)
}

// call calls the function as Lambda does, and checks what every response has in
// common.
func call(t testing.TB, h http.Handler, r events.APIGatewayV2HTTPRequest) events.APIGatewayV2HTTPResponse {
	t.Helper()
	response := callUnchecked(t, h, r)
	checkDocumented(t, r.RouteKey, response)
	for name, want := range map[string]string{
		"Cache-Control":             "no-store",
		"X-Content-Type-Options":    "nosniff",
		"Strict-Transport-Security": "max-age=63072000; includeSubDomains",
	} {
		if got := headerOf(response, name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	return response
}

func callUnchecked(t testing.TB, h http.Handler, r events.APIGatewayV2HTTPRequest) events.APIGatewayV2HTTPResponse {
	t.Helper()
	ctx := lambdacontext.NewContext(t.Context(), &lambdacontext.LambdaContext{AwsRequestID: lambdaID})
	response, err := api.Lambda(h)(ctx, r)
	if err != nil {
		t.Fatalf("the function failed: %v", err)
	}
	checkAnswer(t, response)
	return response
}

// stdout returns what f prints.
func stdout(t *testing.T, f func()) string {
	t.Helper()
	file, err := os.Create(filepath.Join(t.TempDir(), "stdout"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	old := os.Stdout
	os.Stdout = file
	defer func() { os.Stdout = old }()
	f()
	printed, err := os.ReadFile(file.Name())
	if err != nil {
		t.Fatal(err)
	}
	return string(printed)
}

// checkDocumented checks that a row of the table, which a function or the
// beginning of a route names, has the status or the problem of the response.
func checkDocumented(t testing.TB, name string, response events.APIGatewayV2HTTPResponse) {
	t.Helper()
	rows := api.Routes()
	i := slices.IndexFunc(rows, func(r api.Route) bool { return name == r.Function || name == r.Method+" "+r.Path })
	if i < 0 {
		i = slices.IndexFunc(rows, func(r api.Route) bool { return strings.HasPrefix(name, r.Method+" "+r.Path) })
	}
	if i < 0 {
		t.Fatalf("there is no row of %s", name)
	}
	if response.StatusCode < 400 {
		if response.StatusCode != rows[i].Status {
			t.Errorf("%s answers %d, not %d", name, response.StatusCode, rows[i].Status)
		}
		return
	}
	problem := problemOf(t, response).Type
	if !slices.ContainsFunc(rows[i].Problems, func(p api.Problem) bool { return p.Type == problem && p.Status == response.StatusCode }) {
		t.Errorf("%s answers with the problem %s, which its row lacks", name, problem)
	}
}

func headerOf(r events.APIGatewayV2HTTPResponse, name string) string {
	h := http.Header{}
	for k, v := range r.Headers {
		h.Add(k, v)
	}
	return strings.Join(h.Values(name), "|")
}

func checkAnswer(t testing.TB, r events.APIGatewayV2HTTPResponse) {
	t.Helper()
	id := headerOf(r, "X-Request-Id")
	if id == "" {
		t.Error("no X-Request-Id")
	}
	if r.IsBase64Encoded || !json.Valid([]byte(r.Body)) {
		t.Fatalf("body %q is not JSON", r.Body)
	}
	for _, secret := range []string{adminPassword, "password_hash", "$2a$", "mongo", "goroutine"} {
		if strings.Contains(r.Body, secret) {
			t.Errorf("body %s holds %q", r.Body, secret)
		}
	}
	if got, want := headerOf(r, "WWW-Authenticate") != "", r.StatusCode == 401; got != want {
		t.Errorf("%d with WWW-Authenticate: %q", r.StatusCode, headerOf(r, "WWW-Authenticate"))
	}
	if got, want := headerOf(r, "Retry-After") != "", r.StatusCode == 503 || r.StatusCode == 429; got != want && r.StatusCode != 409 {
		t.Errorf("%d with Retry-After: %q", r.StatusCode, headerOf(r, "Retry-After"))
	}
	if r.StatusCode < 400 {
		if got := headerOf(r, "Content-Type"); got != "application/json; charset=utf-8" {
			t.Errorf("Content-Type: %q", got)
		}
		return
	}
	if got := headerOf(r, "Content-Type"); got != "application/problem+json" {
		t.Errorf("Content-Type: %q", got)
	}
	p := problemOf(t, r)
	if api.StatusOfProblem(p.Type) != r.StatusCode {
		t.Errorf("%d with the type %s, whose status is %d", r.StatusCode, p.Type, api.StatusOfProblem(p.Type))
	}
	if p.Title != http.StatusText(r.StatusCode) || p.Status != r.StatusCode || p.Detail == "" || p.RequestID != id {
		t.Errorf("%d with X-Request-Id %q and the problem %s", r.StatusCode, id, r.Body)
	}
	hasErrors := strings.Contains(r.Body, `"errors"`)
	if hasErrors != (len(p.Errors) > 0) || r.StatusCode != 400 && hasErrors != (r.StatusCode == 422) {
		t.Errorf("%d with the errors of %s", r.StatusCode, r.Body)
	}
}

type problem struct {
	Type      string           `json:"type"`
	Title     string           `json:"title"`
	Status    int              `json:"status"`
	Detail    string           `json:"detail"`
	RequestID string           `json:"request_id"`
	Errors    []org.FieldError `json:"errors"`
}

func problemOf(t testing.TB, r events.APIGatewayV2HTTPResponse) problem {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(r.Body))
	d.DisallowUnknownFields()
	var p problem
	if err := d.Decode(&p); err != nil {
		t.Fatalf("problem %s: %v", r.Body, err)
	}
	return p
}

func wantStatus(t testing.TB, r events.APIGatewayV2HTTPResponse, want int) {
	t.Helper()
	if r.StatusCode != want {
		t.Errorf("%d %s, want %d", r.StatusCode, r.Body, want)
	}
}

// wantBody compares the body. Fields in varying only have to match a pattern.
func wantBody(t *testing.T, r events.APIGatewayV2HTTPResponse, status int, want map[string]any, varying map[string]*regexp.Regexp) {
	t.Helper()
	wantStatus(t, r, status)
	var got map[string]any
	if err := json.Unmarshal([]byte(r.Body), &got); err != nil {
		t.Fatal(err)
	}
	for name, pattern := range varying {
		if s, ok := got[name].(string); !ok || !pattern.MatchString(s) {
			t.Errorf("%s = %v", name, got[name])
		}
		delete(got, name)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("body (-want +got):\n%s", diff)
	}
}

var (
	anID   = regexp.MustCompile(`^[0-9a-f]{24}$`)
	aTime  = regexp.MustCompile(`^20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$`)
	aToken = regexp.MustCompile(`^[\w-]+\.[\w-]+\.[\w-]{43}$`)
)

// mustCreate makes an organization and returns its admin's caller.
func mustCreate(t testing.TB, s *org.Service, name, email string) auth.Caller {
	t.Helper()
	wantStatus(t, call(t, api.Create(s), createRequest(registration(name, email))), 201)
	caller, _ := mustLogin(t, s, email)
	return caller
}

func mustLogin(t testing.TB, s *org.Service, email string) (auth.Caller, string) {
	t.Helper()
	r := call(t, api.Login(s), loginRequest(fmt.Sprintf(`{"email":%q,"password":%q}`, email, adminPassword)))
	var body struct {
		AccessToken string `json:"access_token"`
	}
	if err := json.Unmarshal([]byte(r.Body), &body); err != nil {
		t.Fatal(err)
	}
	wantStatus(t, r, 200)
	return mustVerify(t, body.AccessToken), body.AccessToken
}

func mustVerify(t testing.TB, token string) auth.Caller {
	t.Helper()
	verifier, err := auth.NewVerifier(tokenSecret)
	if err != nil {
		t.Fatal(err)
	}
	caller, err := verifier.Verify(token)
	if err != nil {
		t.Fatal(err)
	}
	return caller
}

func TestOK(t *testing.T) {
	s, _ := newService(t)
	ids, times := map[string]*regexp.Regexp{"id": anID}, map[string]*regexp.Regexp{"id": anID, "created_at": aTime, "updated_at": aTime}

	created := call(t, api.Create(s), createRequest(registration("Akshay Pvt Ltd", "admin@example.com")))
	wantBody(t, created, 201, map[string]any{"organization_name": "Akshay Pvt Ltd", "collection_name": "org_akshay_pvt_ltd"}, ids)
	if got, want := headerOf(created, "Location"), "/org/get?organization_name=Akshay+Pvt+Ltd"; got != want {
		t.Errorf("Location: %q, want %q", got, want)
	}

	wantBody(t, call(t, api.Get(s), request("GET", "/org/get", "organization_name=AKSHAY+pvt%20ltd")), 200,
		map[string]any{"organization_name": "Akshay Pvt Ltd", "collection_name": "org_akshay_pvt_ltd"}, times)

	wantBody(t, call(t, api.Login(s), loginRequest(`{"email":"Admin@Example.com","password":"`+adminPassword+`"}`)), 200,
		map[string]any{"token_type": "bearer", "expires_in": 3600.0}, map[string]*regexp.Regexp{"access_token": aToken, "refresh_token": regexp.MustCompile(`^[\w-]{40,}$`)})

	caller, _ := mustLogin(t, s, "admin@example.com")
	wantBody(t, call(t, api.Update(s), as(caller, updateRequest(`{"organization_name":"राम & Söhne"}`))), 200,
		map[string]any{"organization_name": "राम & Söhne", "collection_name": "org_राम_söhne"}, times)

	wantBody(t, call(t, api.Update(s), as(caller, updateRequest(`{"email":"new@example.com","current_password":"`+adminPassword+`"}`))), 200,
		map[string]any{"organization_name": "राम & Söhne", "collection_name": "org_राम_söhne"}, times)

	caller, _ = mustLogin(t, s, "new@example.com")
	wantBody(t, call(t, api.Delete(s), as(caller, request("DELETE", "/org/delete", "organization_name=%E0%A4%B0%E0%A4%BE%E0%A4%AE+s%C3%B6hne"))), 200,
		map[string]any{"organization_name": "राम & Söhne"}, map[string]*regexp.Regexp{"id": anID, "deleted_at": aTime})
	wantStatus(t, call(t, api.Get(s), request("GET", "/org/get", "organization_name=Akshay+Pvt+Ltd")), 404)
}

func TestOKWithoutConfirmation(t *testing.T) {
	s, _ := newService(t)
	caller := mustCreate(t, s, "Acme", "admin@example.com")
	before := time.Now().Truncate(time.Millisecond)
	r := call(t, api.Delete(s), as(caller, request("DELETE", "/org/delete", "")))
	wantBody(t, r, 200,
		map[string]any{"organization_name": "Acme"}, map[string]*regexp.Regexp{"id": anID, "deleted_at": aTime})
	var body struct {
		DeletedAt time.Time `json:"deleted_at"`
	}
	if err := json.Unmarshal([]byte(r.Body), &body); err != nil {
		t.Fatal(err)
	}
	if body.DeletedAt.Before(before) || body.DeletedAt.After(time.Now()) {
		t.Errorf("deleted at %v", body.DeletedAt)
	}
}

// A change must not stop halfway because the client hangs up or the function is
// about to be stopped.
func TestOKCanceled(t *testing.T) {
	s, _ := newService(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	response, err := api.Lambda(api.Create(s))(ctx, createRequest(registration("Acme", "admin@example.com")))
	if err != nil {
		t.Fatal(err)
	}
	wantStatus(t, response, 201)
	if got := headerOf(response, "X-Request-Id"); got != "unknown" {
		t.Errorf("X-Request-Id outside of Lambda: %q", got)
	}
}

func TestErr(t *testing.T) {
	s, db := newService(t)
	mustCreate(t, s, "Victim Co", "victim@example.com")
	caller := mustCreate(t, s, "Acme", "admin@example.com")
	stale := caller
	stale.TokenVersion++
	expired := caller
	expired.ExpiresAt = time.Now().Add(-time.Second)
	create, get, update, remove, login := api.Create(s), api.Get(s), api.Update(s), api.Delete(s), api.Login(s)

	for _, tt := range []struct {
		name    string
		handler http.Handler
		request events.APIGatewayV2HTTPRequest
		status  int
		fields  []string
	}{
		{"400 create", create, createRequest(`{`), 400, nil},
		{"400 update", update, as(caller, updateRequest(`[]`)), 400, nil},
		{"400 login", login, loginRequest(`"x"`), 400, nil},
		{"401 login with a wrong password", login, loginRequest(`{"email":"admin@example.com","password":"wrong password"}`), 401, nil},
		{"401 login with an unknown email", login, loginRequest(`{"email":"nobody@example.com","password":"` + adminPassword + `"}`), 401, nil},
		{"401 update without a token", update, updateRequest(`{"organization_name":"Mine"}`), 401, nil},
		{"401 update of the password without a token", update, updateRequest(`{"password":"Another@123","current_password":"` + adminPassword + `"}`), 401, nil},
		{"401 update with a revoked token", update, as(stale, updateRequest(`{"organization_name":"Mine"}`)), 401, nil},
		{"401 update with an expired token", update, as(expired, updateRequest(`{"organization_name":"Mine"}`)), 401, nil},
		{"401 before 400", update, updateRequest(`{`), 401, nil},
		{"401 delete without a token", remove, request("DELETE", "/org/delete", ""), 401, nil},
		{"401 delete with a revoked token", remove, as(stale, request("DELETE", "/org/delete", "")), 401, nil},
		{"403 update with a wrong current password", update, as(caller, updateRequest(`{"password":"Another@123","current_password":"wrong password"}`)), 403, nil},
		{"403 delete of another", remove, as(caller, request("DELETE", "/org/delete", "organization_name=Victim+Co")), 403, nil},
		{"403 delete of none", remove, as(caller, request("DELETE", "/org/delete", "organization_name=nobody")), 403, nil},
		{"404 get", get, request("GET", "/org/get", "organization_name=nobody"), 404, nil},
		{"409 create of a name", create, createRequest(registration("VICTIM-co", "new@example.com")), 409, nil},
		{"409 create of an email", create, createRequest(registration("New", "Victim@example.com")), 409, nil},
		{"409 update of a name", update, as(caller, updateRequest(`{"organization_name":"Victim Co"}`)), 409, nil},
		{"409 update of an email", update, as(caller, updateRequest(`{"email":"victim@example.com","current_password":"`+adminPassword+`"}`)), 409, nil},
		{"413 create", create, createRequest(strings.Repeat(" ", 64<<10+1)), 413, nil},
		{"413 update", update, as(caller, updateRequest(strings.Repeat(" ", 64<<10+1))), 413, nil},
		{"413 login", login, loginRequest(strings.Repeat(" ", 64<<10+1)), 413, nil},
		{"415 create", create, withHeader(createRequest(registration("New", "new@example.com")), "content-type", "text/plain"), 415, nil},
		{"415 update", update, withHeader(as(caller, updateRequest(`{}`)), "content-type", "text/plain"), 415, nil},
		{"415 login", login, withHeader(loginRequest(`{}`), "content-type", "text/plain"), 415, nil},
		{"422 create of nothing", create, createRequest(`{}`), 422, []string{"organization_name", "email", "password"}},
		{"422 create", create, createRequest(`{"organization_name":"-","email":"x","password":"short"}`), 422, []string{"organization_name", "email", "password"}},
		{"422 get of nothing", get, request("GET", "/org/get", ""), 422, []string{"organization_name"}},
		{"422 get of an empty name", get, request("GET", "/org/get", "organization_name="), 422, []string{"organization_name"}},
		{"422 get of two names", get, request("GET", "/org/get", "organization_name=a&organization_name=b"), 422, []string{"organization_name"}},
		{"422 get of a NUL", get, request("GET", "/org/get", "organization_name=a%00"), 422, []string{"organization_name"}},
		{"422 get of malformed text", get, request("GET", "/org/get", "organization_name=a%ff"), 422, []string{"organization_name"}},
		{"422 get of a long name", get, request("GET", "/org/get", "organization_name="+strings.Repeat("x", 101)), 422, []string{"organization_name"}},
		{"422 update of nothing", update, as(caller, updateRequest(`{}`)), 422, []string{"organization_name"}},
		{"422 update without the current password", update, as(caller, updateRequest(`{"email":"new@example.com"}`)), 422, []string{"current_password"}},
		{"422 delete of an empty name", remove, as(caller, request("DELETE", "/org/delete", "organization_name=")), 422, []string{"organization_name"}},
		{"422 delete of two names", remove, as(caller, request("DELETE", "/org/delete", "organization_name=Acme&organization_name=Acme")), 422, []string{"organization_name"}},
		{"422 login with nothing", login, loginRequest(`{}`), 422, []string{"email", "password"}},
		{"422 login with 129 characters", login, loginRequest(`{"email":"admin@example.com","password":"` + strings.Repeat("x", 129) + `"}`), 422, []string{"password"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			response := call(t, tt.handler, tt.request)
			wantStatus(t, response, tt.status)
			var fields []string
			for _, f := range problemOf(t, response).Errors {
				fields = append(fields, f.Field)
			}
			if diff := cmp.Diff(tt.fields, fields); diff != "" {
				t.Errorf("wrong fields (-want +got):\n%s", diff)
			}
		})
	}

	t.Run("409 another change is under way", func(t *testing.T) {
		now := time.Now()
		id, err := bson.ObjectIDFromHex(caller.OrganizationID)
		if err != nil {
			t.Fatal(err)
		}
		organizations := db.Client.Database(db.Name).Collection("organizations")
		_, err = organizations.UpdateByID(t.Context(), id, bson.D{{Key: "$set", Value: bson.D{{Key: "operation", Value: bson.D{
			{Key: "id", Value: bson.NewObjectID()}, {Key: "kind", Value: org.Updating},
			{Key: "started_at", Value: now}, {Key: "touched_at", Value: now},
		}}}}})
		if err != nil {
			t.Fatal(err)
		}
		wantStatus(t, call(t, update, as(caller, updateRequest(`{"organization_name":"New"}`))), 409)
		wantStatus(t, call(t, remove, as(caller, request("DELETE", "/org/delete", ""))), 409)
		if _, err := organizations.UpdateByID(t.Context(), id, bson.D{{Key: "$unset", Value: bson.D{{Key: "operation", Value: ""}}}}); err != nil {
			t.Fatal(err)
		}
	})

	// None of the requests changed anything.
	wantStatus(t, call(t, get, request("GET", "/org/get", "organization_name=Victim+Co")), 200)
	wantStatus(t, call(t, get, request("GET", "/org/get", "organization_name=New")), 404)
	wantBody(t, call(t, get, request("GET", "/org/get", "organization_name=Acme")), 200,
		map[string]any{"organization_name": "Acme", "collection_name": "org_acme"},
		map[string]*regexp.Regexp{"id": anID, "created_at": aTime, "updated_at": aTime})
	if again, _ := mustLogin(t, s, "admin@example.com"); again.TokenVersion != caller.TokenVersion {
		t.Errorf("token version %d, want %d", again.TokenVersion, caller.TokenVersion)
	}
}

// The response must not tell whether the email is known.
func TestErrLoginIsOneAnswer(t *testing.T) {
	s, _ := newService(t)
	mustCreate(t, s, "Acme", "admin@example.com")
	known := call(t, api.Login(s), loginRequest(`{"email":"admin@example.com","password":"wrong password"}`))
	unknown := call(t, api.Login(s), loginRequest(`{"email":"nobody@example.com","password":"wrong password"}`))
	if diff := cmp.Diff(known, unknown); diff != "" {
		t.Errorf("answers (-known +unknown):\n%s", diff)
	}
}

func TestErrInternal(t *testing.T) {
	s := serviceOn(t, nil, "none")
	logged := captureLog(t)
	caller := auth.Caller{AdminID: "a", OrganizationID: "o", TokenVersion: 1, SessionID: "s", ExpiresAt: time.Now().Add(time.Hour)}
	for name, tt := range map[string]struct {
		handler http.Handler
		request events.APIGatewayV2HTTPRequest
	}{
		"create": {api.Create(s), createRequest(registration("Acme", "admin@example.com"))},
		"get":    {api.Get(s), request("GET", "/org/get", "organization_name=Acme")},
		"update": {api.Update(s), as(caller, updateRequest(`{"organization_name":"Acme"}`))},
		"delete": {api.Delete(s), as(caller, request("DELETE", "/org/delete", ""))},
		"login":  {api.Login(s), loginRequest(`{"email":"a@example.com","password":"` + adminPassword + `"}`)},
	} {
		t.Run(name, func(t *testing.T) {
			response := call(t, tt.handler, tt.request)
			wantStatus(t, response, 500)
			want := problem{
				Type: "/problems/internal-error", Title: "Internal Server Error", Status: 500, Detail: "internal error", RequestID: lambdaID,
			}
			if diff := cmp.Diff(want, problemOf(t, response)); diff != "" {
				t.Errorf("problem (-want +got):\n%s", diff)
			}
		})
	}
	lines := logged.lines(t)
	if len(lines) != 5 {
		t.Fatalf("%d lines, want 5:\n%s", len(lines), logged)
	}
	for _, line := range lines {
		if text, _ := line["error"].(string); line["level"] != "ERROR" || !strings.Contains(text, "panic") || !strings.Contains(text, "goroutine") {
			t.Errorf("logged %v, want an error with the stack", line)
		}
	}
	if strings.Contains(logged.String(), adminPassword) {
		t.Error("the log holds the password")
	}
}

func TestErrUnavailable(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	listener.Close()
	mongoURL := "mongodb://svc:hunter2@" + listener.Addr().String()
	open := func(more ...*options.ClientOptions) *org.Service {
		store, err := mongodb.Open(mongoURL, "none", more...)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { store.Close(context.Background()) })
		return serviceOn(t, store, "none")
	}
	logged := captureLog(t)
	caller := auth.Caller{AdminID: bson.NewObjectID().Hex(), OrganizationID: bson.NewObjectID().Hex(), TokenVersion: 1, SessionID: "s", ExpiresAt: time.Now().Add(time.Hour)}
	s := open(options.Client().SetServerSelectionTimeout(50 * time.Millisecond))
	for name, tt := range map[string]struct {
		handler http.Handler
		request events.APIGatewayV2HTTPRequest
	}{
		"create":  {api.Create(s), createRequest(registration("Acme", "admin@example.com"))},
		"get":     {api.Get(s), request("GET", "/org/get", "organization_name=Acme")},
		"me":      {api.Me(s), as(caller, request("GET", "/admin/me", ""))},
		"update":  {api.Update(s), as(caller, updateRequest(`{"organization_name":"Acme"}`))},
		"delete":  {api.Delete(s), as(caller, request("DELETE", "/org/delete", ""))},
		"login":   {api.Login(s), loginRequest(`{"email":"a@example.com","password":"` + adminPassword + `"}`)},
		"refresh": {api.Refresh(s), withBody(request("POST", "/admin/refresh", ""), fmt.Sprintf(`{"refresh_token":%q}`, auth.NewOpaqueToken(auth.NewOpaqueID()).Text()))},
	} {
		t.Run(name, func(t *testing.T) {
			response := call(t, tt.handler, tt.request)
			wantStatus(t, response, 503)
			// Update and delete have changed nothing before they know the caller.
			want := "the database can't be reached in time: try again"
			if name == "create" {
				want = "the database can't be reached in time: nothing was changed, or the change will be finished or undone by itself"
			}
			if got := problemOf(t, response).Detail; got != want {
				t.Errorf("detail: %q, want %q", got, want)
			}
			if got := headerOf(response, "Retry-After"); got != "5" {
				t.Errorf("Retry-After: %q", got)
			}
			for _, secret := range []string{"hunter2", listener.Addr().String(), "server selection"} {
				if strings.Contains(response.Body, secret) {
					t.Errorf("body %s holds %q", response.Body, secret)
				}
			}
		})
	}
	t.Run("before the gateway gives up", func(t *testing.T) {
		start := time.Now()
		wantStatus(t, call(t, api.Create(open()), createRequest(registration("Acme", "admin@example.com"))), 503)
		if took := time.Since(start); took > 20*time.Second {
			t.Errorf("the answer took %v", took)
		}
	})
	for _, line := range logged.lines(t) {
		if line["level"] != "WARN" || line["status"] != 503.0 {
			t.Errorf("logged %v, want a warning", line)
		}
	}
	for _, secret := range []string{"hunter2", adminPassword} {
		if strings.Contains(logged.String(), secret) {
			t.Errorf("the log holds %q", secret)
		}
	}
}

// No secret that a client sends or gets may be logged.
func TestLogHoldsNothingSecret(t *testing.T) {
	s, _ := newService(t)
	logged := captureLog(t)
	caller := mustCreate(t, s, "Acme", "admin@example.com")
	_, token := mustLogin(t, s, "admin@example.com")
	const newPassword, wrongPassword = "Another@123", "wr0ng-passw0rd"
	for _, tt := range []struct {
		handler http.Handler
		request events.APIGatewayV2HTTPRequest
	}{
		{api.Create(s), createRequest(registration("Acme", "other@example.com"))},
		{api.Create(s), createRequest(registration("Acme", "other"))},
		{api.Create(s), createRequest(registration("Acme", "other@example.com") + "x")},
		{api.Create(s), createRequest(`{"password":"` + adminPassword + `","passwort":"` + wrongPassword + `"}`)},
		{api.Create(s), createRequest(`{"password":["` + adminPassword + `"]}`)},
		{api.Create(s), createRequest(`{"password":"` + adminPassword)},
		{api.Create(s), createRequest(`{"` + wrongPassword + `":""}`)},
		{api.Get(s), request("GET", "/org/get", "organization_name=Acme&"+wrongPassword+"=")},
		{api.Login(s), loginRequest(`{"email":"admin@example.com","password":"` + wrongPassword + `"}`)},
		{api.Login(s), withHeader(loginRequest(`{"email":"admin@example.com","password":"`+wrongPassword+`"}`), "authorization", "Bearer "+token)},
		{api.Update(s), as(caller, updateRequest(`{"password":"`+newPassword+`","current_password":"`+wrongPassword+`"}`))},
		{api.Update(s), as(caller, withHeader(updateRequest(`{"password":"`+newPassword+`","current_password":"`+adminPassword+`"}`), "authorization", "Bearer "+token))},
		{api.Delete(s), as(caller, withHeader(request("DELETE", "/org/delete", ""), "authorization", "Bearer "+token))},
	} {
		call(t, tt.handler, tt.request)
	}
	if n := len(logged.lines(t)); n != 16 {
		t.Errorf("%d lines of 16 requests", n)
	}
	for _, secret := range []string{adminPassword, newPassword, wrongPassword, token, token[strings.LastIndex(token, ".")+1:], "$2a$"} {
		if strings.Contains(logged.String(), secret) {
			t.Errorf("the log holds %q:\n%s", secret, logged)
		}
	}
}

func TestLog(t *testing.T) {
	s, _ := newService(t)
	for _, tt := range []struct {
		name    string
		request events.APIGatewayV2HTTPRequest
		want    map[string]any
	}{
		{"OK", createRequest(registration("Acme", "admin@example.com")),
			map[string]any{"level": "INFO", "msg": "request", "method": "POST", "path": "/org/create", "status": 201.0,
				"source_ip": "192.0.2.1", "user_agent": `curl/8 "x","admin_id":"y`}},
		{"ErrConflict", createRequest(registration("Acme", "admin@example.com")),
			map[string]any{"level": "INFO", "msg": "request", "method": "POST", "path": "/org/create", "status": 409.0,
				"source_ip": "192.0.2.1", "user_agent": `curl/8 "x","admin_id":"y`, "reason": "name-taken"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			logged := captureLog(t)
			call(t, api.Create(s), withHeader(tt.request, "user-agent", "curl/8 \"x\",\n\"admin_id\":\x1b\"y"))
			lines := logged.lines(t)
			if len(lines) != 1 {
				t.Fatalf("logged %s, want one line", logged)
			}
			got := lines[0]
			if ms, ok := got["duration_ms"].(float64); !ok || ms < 0 {
				t.Errorf("duration_ms = %v", got["duration_ms"])
			}
			if id, _ := got["request_id"].(string); id == "" {
				t.Error("no request_id")
			}
			if text, _ := got["error"].(string); (text != "") != (got["status"] != 201.0) {
				t.Errorf("error = %q", text)
			}
			for _, name := range []string{"time", "duration_ms", "error", "request_id", "gateway_request_id"} {
				delete(got, name)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("line (-want +got):\n%s", diff)
			}
		})
	}

	// Nothing that a client sends in a path or a query is logged, not even to say what is wrong.
	t.Run("the path and the query", func(t *testing.T) {
		logged := captureLog(t)
		call(t, api.EndSession(s), as(auth.Caller{AdminID: "a", OrganizationID: "o", SessionID: "s"}, request("DELETE", "/admin/sessions/Hush-Hush-1", "")))
		call(t, api.Get(s), request("GET", "/org/get", "organization_name=Hush-Hush-1"))
		if text := strings.ToLower(logged.String()); strings.Contains(text, "hush") || !strings.Contains(text, "/admin/sessions/{id}") {
			t.Errorf("logged %s", text)
		}
	})

	// Also if the service refuses the token, it was verified.
	t.Run("the caller", func(t *testing.T) {
		logged := captureLog(t)
		c := auth.Caller{AdminID: "a", OrganizationID: "o", SessionID: "s", ExpiresAt: time.Now().Add(time.Hour)}
		wantStatus(t, call(t, api.Me(s), as(c, request("GET", "/admin/me", ""))), 401)
		got := logged.lines(t)[0]
		for name, want := range map[string]string{"admin_id": "a", "organization_id": "o", "session_id": "s", "reason": "token-revoked"} {
			if got[name] != want {
				t.Errorf("%s is %v, want %q: %v", name, got[name], want, got)
			}
		}
	})

	t.Run("pages", func(t *testing.T) {
		h := api.Pages(func(path string) (api.Page, bool) {
			if path == "/" {
				return api.Page{Location: "/docs"}, true
			}
			return api.Page{Type: "text/html", Content: []byte("x")}, path == "/docs"
		})
		for _, tt := range []struct {
			path, version string
			want          int
		}{{"/", "", 302}, {"/docs", "", 200}, {"/docs", "*", 304}, {"/problems/x", "", 404}} {
			logged := captureLog(t)
			response, err := api.Lambda(h)(t.Context(), withHeader(request("GET", tt.path, ""), "if-none-match", tt.version))
			lines := logged.lines(t)
			if err != nil || response.StatusCode != tt.want || len(lines) != 1 || lines[0]["status"] != float64(tt.want) {
				t.Errorf("%s: %d, %v, logged %s; want %d", tt.path, response.StatusCode, err, logged, tt.want)
			}
		}
	})

	// Lambda's log handler adds only Lambda's own id.
	t.Run("the id that the client has", func(t *testing.T) {
		logged := captureLog(t)
		response := call(t, api.Create(s), withHeader(createRequest(`{}`), "x-request-id", "client-id-0001"))
		if id := problemOf(t, response).RequestID; !strings.Contains(logged.String(), id) {
			t.Errorf("the line of request %q does not hold its id: %s", id, logged)
		}
	})
}

// TestOneRequestID checks that the answer and every line that is logged have the
// client's id, or otherwise the gateway's, and that every line has the gateway's.
func TestOneRequestID(t *testing.T) {
	s, _ := newService(t)
	mustCreate(t, s, "Acme", "admin@example.com")
	for _, want := range []string{"id-of-the-gateway=", "client-id-0001"} {
		var login struct {
			RefreshToken string `json:"refresh_token"`
		}
		r := call(t, api.Login(s), loginRequest(fmt.Sprintf(`{"email":"admin@example.com","password":%q}`, adminPassword)))
		if err := json.Unmarshal([]byte(r.Body), &login); err != nil {
			t.Fatal(err)
		}
		refresh := withBody(request("POST", "/admin/refresh", ""), fmt.Sprintf(`{"refresh_token":%q}`, login.RefreshToken))
		refresh.RequestContext.RequestID = "id-of-the-gateway="
		if want == "client-id-0001" {
			refresh = withHeader(refresh, "x-request-id", want)
		}
		wantStatus(t, call(t, api.Refresh(s), refresh), 200)
		logged := captureLog(t)
		response := call(t, api.Refresh(s), refresh) // used again: the service logs that, too
		if got := headerOf(response, "X-Request-Id"); got != want || response.StatusCode != 401 {
			t.Errorf("%d with X-Request-Id %q, want %q", response.StatusCode, got, want)
		}
		all := strings.TrimSpace(logged.String())
		for _, id := range []string{fmt.Sprintf(`"request_id":%q`, want), `"gateway_request_id":"id-of-the-gateway="`} {
			if n := strings.Count(all, id); n != 2 || strings.Count(all, "\n") != 1 {
				t.Errorf("logged %s, want two lines with %s once each", all, id)
			}
		}
	}
	// What is no HTTP request is logged, too.
	logged := captureLog(t)
	r := request("GET", "/org/get", "")
	r.RawPath, r.RequestContext.RequestID = "/\x7f", "id-of-the-gateway="
	response := callUnchecked(t, api.Get(s), r)
	lines := logged.lines(t)
	if headerOf(response, "X-Request-Id") != "id-of-the-gateway=" || len(lines) != 1 || lines[0]["request_id"] != "id-of-the-gateway=" || lines[0]["gateway_request_id"] != "id-of-the-gateway=" {
		t.Errorf("%v, logged %v", response, lines)
	}
}

func TestRequestID(t *testing.T) {
	s, _ := newService(t)
	for _, tt := range []struct {
		name, header, id, want string
	}{
		{"none", "accept", "*/*", lambdaID},
		{"OK", "x-request-id", "client-id_0.9Z", "client-id_0.9Z"},
		{"OK in title case", "X-Request-Id", "client-id_0.9Z", "client-id_0.9Z"},
		{"OK 8", "x-request-id", "12345678", "12345678"},
		{"OK 64", "x-request-id", strings.Repeat("x", 64), strings.Repeat("x", 64)},
		{"empty", "x-request-id", "", lambdaID},
		{"7", "x-request-id", "1234567", lambdaID},
		{"65", "x-request-id", strings.Repeat("x", 65), lambdaID},
		{"white space", "x-request-id", "client id 1", lambdaID},
		{"line end", "x-request-id", "client-id-1\r\nSet-Cookie: a=b", lambdaID},
		{"line end after it", "x-request-id", "client-id-1\n", lambdaID},
		{"markup", "x-request-id", "<script>alert(1)</script>", lambdaID},
		{"quote", "x-request-id", `client-id-1","status":200,"x":"`, lambdaID},
		{"other letters", "x-request-id", "idéntität", lambdaID},
		{"malformed", "x-request-id", "client-id-\xff", lambdaID},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := call(t, api.Get(s), withHeader(request("GET", "/org/get", "organization_name=x"), tt.header, tt.id))
			if got := headerOf(r, "X-Request-Id"); got != tt.want {
				t.Errorf("X-Request-Id: %q, want %q", got, tt.want)
			}
		})
	}
}

func TestHostileHeadersAreNoCaller(t *testing.T) {
	s, _ := newService(t)
	victim := mustCreate(t, s, "Victim Co", "victim@example.com")
	_, token := mustLogin(t, s, "victim@example.com")
	eventContext, err := json.Marshal(as(victim, request("DELETE", "/org/delete", "")).RequestContext)
	if err != nil {
		t.Fatal(err)
	}
	flat, err := json.Marshal(victim.Context())
	if err != nil {
		t.Fatal(err)
	}
	headers := map[string]string{
		"X-GoLambdaProxy-ApiGw-Context":   string(eventContext),
		"X-GoLambdaProxy-ApiGw-StageVars": string(flat),
		"x-amzn-request-context":          string(eventContext),
		"x-amzn-lambda-context":           string(flat),
		"x-amzn-apigateway-authorizer":    string(flat),
		"x-amzn-oidc-identity":            victim.AdminID,
		"x-apigateway-event":              string(eventContext),
		"authorization":                   "Bearer " + token,
		"admin_id":                        victim.AdminID,
		"organization_id":                 victim.OrganizationID,
		"token_version":                   "1",
		"session_id":                      victim.SessionID,
		"expires_at":                      fmt.Sprint(victim.ExpiresAt.Unix()),
	}
	spoof := func(r events.APIGatewayV2HTTPRequest, headers map[string]string) events.APIGatewayV2HTTPRequest {
		r.Headers = maps.Clone(headers)
		r.Headers["content-type"] = "application/json"
		r.StageVariables = map[string]string{"admin_id": victim.AdminID, "organization_id": victim.OrganizationID}
		return r
	}
	for name, value := range headers {
		t.Run(name, func(t *testing.T) {
			one := map[string]string{name: value}
			wantStatus(t, call(t, api.Delete(s), spoof(request("DELETE", "/org/delete", ""), one)), 401)
			wantStatus(t, call(t, api.Update(s), spoof(updateRequest(`{"organization_name":"Mine"}`), one)), 401)
		})
	}
	t.Run("all of them", func(t *testing.T) {
		wantStatus(t, call(t, api.Delete(s), spoof(request("DELETE", "/org/delete", ""), headers)), 401)
	})
	// The adapter splits such headers at their commas; the handler must not
	// rely on it.
	t.Run("past the adapter", func(t *testing.T) {
		r := httptest.NewRequest("DELETE", "/org/delete", nil)
		for name, value := range headers {
			r.Header.Set(name, value)
		}
		w := httptest.NewRecorder()
		api.Delete(s).ServeHTTP(w, r)
		if w.Code != 401 {
			t.Errorf("%d %s, want 401", w.Code, w.Body)
		}
	})
	t.Run("another caller's", func(t *testing.T) {
		other := mustCreate(t, s, "Other", "other@example.com")
		r := call(t, api.Update(s), as(other, spoof(updateRequest(`{"organization_name":"Renamed"}`), headers)))
		wantStatus(t, r, 200)
		if !strings.Contains(r.Body, other.OrganizationID) {
			t.Errorf("renamed %s", r.Body)
		}
	})
	for name, authorizer := range map[string]*events.APIGatewayV2HTTPRequestContextAuthorizerDescription{
		"an authorizer without a context": {},
		"an authorizer of another kind": {JWT: &events.APIGatewayV2HTTPRequestContextAuthorizerJWTDescription{
			Claims: map[string]string{"sub": victim.AdminID, "org": victim.OrganizationID, "ver": "1"},
		}},
		"an authorizer that names nobody": {Lambda: map[string]any{"admin_id": "", "organization_id": victim.OrganizationID, "token_version": "1", "session_id": victim.SessionID, "expires_at": "9999999999"}},
	} {
		t.Run(name, func(t *testing.T) {
			r := request("DELETE", "/org/delete", "")
			r.RequestContext.Authorizer = authorizer
			wantStatus(t, call(t, api.Delete(s), r), 401)
		})
	}
	wantStatus(t, call(t, api.Get(s), request("GET", "/org/get", "organization_name=Victim+Co")), 200)
}

func TestHostileOperators(t *testing.T) {
	s, _ := newService(t)
	mustCreate(t, s, "Acme", "admin@example.com")
	for name, body := range map[string]string{
		"email not null":    `{"email":{"$ne":null},"password":"` + adminPassword + `"}`,
		"email greater":     `{"email":{"$gt":""},"password":"` + adminPassword + `"}`,
		"email pattern":     `{"email":{"$regex":".*"},"password":"` + adminPassword + `"}`,
		"password not null": `{"email":"admin@example.com","password":{"$ne":null}}`,
		"email a list":      `{"email":["admin@example.com"],"password":"` + adminPassword + `"}`,
	} {
		t.Run("422 "+name, func(t *testing.T) { wantStatus(t, call(t, api.Login(s), loginRequest(body)), 422) })
	}
	for _, query := range []string{"organization_name=.*", "organization_name=%5Eacme.*x", "organization_name[$ne]=x", "organization_name%5B%24regex%5D=.*"} {
		t.Run("get "+query, func(t *testing.T) {
			if r := call(t, api.Get(s), request("GET", "/org/get", query)); r.StatusCode != 404 && r.StatusCode != 422 {
				t.Errorf("%d %s, want 404 or 422", r.StatusCode, r.Body)
			}
		})
	}
}

// A confirmation that a client sends must not be ignored.
func TestHostileConfirmation(t *testing.T) {
	s, _ := newService(t)
	caller := mustCreate(t, s, "Acme", "admin@example.com")
	for _, query := range []string{
		"organization_name=100%",
		"organization_name=%zz",
		"organization_name=Neighbour;x",
		"organization_name=Acme;organization_name=Neighbour",
		"x;organization_name=Neighbour",
		"organization%5Fname=Neighbour",
		"organization_name",
		"organization_name=Acme&organization_name=Neighbour",
	} {
		t.Run(query, func(t *testing.T) {
			r := call(t, api.Delete(s), as(caller, request("DELETE", "/org/delete", query)))
			if !slices.Contains([]int{400, 403, 422}, r.StatusCode) {
				t.Errorf("%d %s, want a refusal", r.StatusCode, r.Body)
				caller = mustCreate(t, s, "Acme", "admin@example.com")
			}
		})
	}
}

// noMail sends no mail.
type noMail struct{}

func (noMail) Send(context.Context, org.Mail) error { return nil }

// TestHostileExtras sends every route parameters and bodies that it does not
// know, which it must not ignore. The service has no store, so that a request
// that gets as far as the store ends with 500.
func TestHostileExtras(t *testing.T) {
	s := serviceOn(t, nil, "none")
	s.Mailer = noMail{}
	caller := auth.Caller{AdminID: "a", OrganizationID: "o", TokenVersion: 1, SessionID: "s", ExpiresAt: time.Now().Add(time.Hour)}
	refresh := fmt.Sprintf(`{"refresh_token":%q}`, auth.NewOpaqueToken(auth.NewOpaqueID()).Text())
	ticket := fmt.Sprintf(`{"ticket":%q,"password":"Better@123"}`, auth.NewOpaqueToken(auth.NewOpaqueID()).Text())
	confirmation := fmt.Sprintf(`{"ticket":%q}`, auth.NewOpaqueToken(auth.NewOpaqueID()).Text())
	type route struct {
		handler  http.Handler
		private  bool
		operator bool
		body     string // "" if the route takes none
		form     bool   // the body is one, of a service with serviceSecret
		query    string // with every parameter that the route knows
		done     int    // the status if nothing is wrong
	}
	routes := map[string]route{
		"POST /org/create":                             {handler: api.Create(s), body: registration("Acme", "admin@example.com"), done: 500},
		"GET /org/get":                                 {handler: api.Get(s), query: "organization_name=Acme", done: 500},
		"PUT /org/update":                              {handler: api.Update(s), private: true, body: `{"organization_name":"Acme"}`, done: 500},
		"DELETE /org/delete":                           {handler: api.Delete(s), private: true, query: "organization_name=Acme", done: 500},
		"POST /admin/login":                            {handler: api.Login(s), body: `{"email":"admin@example.com","password":"` + adminPassword + `"}`, done: 500},
		"POST /admin/refresh":                          {handler: api.Refresh(s), body: refresh, done: 500},
		"POST /admin/logout":                           {handler: api.Logout(s), body: refresh, done: 500},
		"GET /admin/me":                                {handler: api.Me(s), private: true, done: 500},
		"POST /admin/introspect":                       {handler: introspect(s), form: true, body: "token=" + goodToken(t), done: 500},
		"GET /org/members":                             {handler: api.Members(s), private: true, query: "after=6b062bca0f6f0e6d4f1c2a30&limit=10", done: 500},
		"PUT /org/members/{admin_id}":                  {handler: api.ChangeRole(s), private: true, body: `{"role":"member"}`, done: 500},
		"DELETE /org/members/{admin_id}":               {handler: api.RemoveMember(s), private: true, done: 500},
		"POST /org/invitations":                        {handler: api.Invite(s), private: true, body: `{"email":"ann@example.com","role":"member"}`, done: 500},
		"GET /org/invitations":                         {handler: api.Invitations(s), private: true, query: "after=6b062bca0f6f0e6d4f1c2a30&limit=10", done: 500},
		"DELETE /org/invitations/{id}":                 {handler: api.Withdraw(s), private: true, done: 500},
		"POST /invitations/accept":                     {handler: api.Accept(s), body: ticket, done: 500},
		"POST /admin/forgot":                           {handler: api.Forgot(s), body: `{"email":"admin@example.com"}`, done: 500},
		"POST /admin/reset":                            {handler: api.Reset(s), body: ticket, done: 500},
		"POST /admin/verify":                           {handler: api.Verify(s), body: confirmation, done: 500},
		"POST /admin/verify/resend":                    {handler: api.Resend(s), private: true, done: 500},
		"GET /admin/organizations":                     {handler: api.Organizations(s), private: true, query: "after=6b062bca0f6f0e6d4f1c2a30&limit=10", done: 500},
		"POST /admin/organizations":                    {handler: api.AddOrganization(s), private: true, body: `{"organization_name":"Acme"}`, done: 500},
		"POST /admin/switch":                           {handler: api.Switch(s), private: true, body: `{"organization_name":"Acme"}`, done: 500},
		"GET /admin/sessions":                          {handler: api.Sessions(s), private: true, query: "after=6b062bca0f6f0e6d4f1c2a30&limit=10", done: 500},
		"DELETE /admin/sessions/{id}":                  {handler: api.EndSession(s), private: true, done: 500},
		"DELETE /admin/sessions":                       {handler: api.EndSessions(s), private: true, done: 500},
		"GET /operator/organizations":                  {handler: api.ListOrganizations(s), operator: true, query: "after=6b062bca0f6f0e6d4f1c2a30&limit=10&prefix=A&status=active", done: 500},
		"POST /operator/organizations":                 {handler: api.InviteOwner(s), operator: true, body: `{"organization_name":"Acme","email":"ann@example.com"}`, done: 500},
		"GET /operator/organizations/{id}":             {handler: api.ShowOrganization(s), operator: true, done: 500},
		"POST /operator/organizations/{id}/rename":     {handler: api.RenameOrganization(s), operator: true, body: `{"reason":"x","organization_name":"Bolt"}`, done: 500},
		"POST /operator/organizations/{id}/restore":    {handler: api.Restore(s), operator: true, body: `{"reason":"x"}`, done: 500},
		"POST /operator/organizations/{id}/purge":      {handler: api.Purge(s), operator: true, body: `{"reason":"x"}`, done: 500},
		"POST /operator/organizations/{id}/suspend":    {handler: api.Suspend(s), operator: true, body: `{"reason":"unpaid"}`, done: 500},
		"POST /operator/organizations/{id}/reactivate": {handler: api.Reactivate(s), operator: true, body: `{"reason":"paid"}`, done: 500},
		"GET /.well-known/jwks.json":                   {handler: api.JWKS([]byte("{}")), done: 200},
		"GET /health":                                  {handler: api.Health(s), query: "deep=true", done: 500},
	}
	for _, r := range api.Routes() {
		if r.Page {
			page := api.Pages(func(string) (api.Page, bool) {
				return api.Page{Type: "application/json; charset=utf-8", Content: []byte("{}")}, true
			})
			query := ""
			for _, p := range r.Parameters {
				if !p.InPath {
					query = p.Name + "=x"
				}
			}
			routes[r.Method+" "+r.Path] = route{handler: page, query: query, done: 200}
		}
	}
	template, err := os.ReadFile("../../template.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var deployed []string
	for _, m := range regexp.MustCompile(`Method: (\S+)\s+Path: (\S+)`).FindAllStringSubmatch(string(template), -1) {
		deployed = append(deployed, m[1]+" "+m[2])
	}
	slices.Sort(deployed)
	if diff := cmp.Diff(deployed, slices.Sorted(maps.Keys(routes))); diff != "" {
		t.Errorf("routes (-template +test):\n%s", diff)
	}

	const unknown, twice = "is not a parameter of this route", "must be given once"
	long := strings.Repeat("é", 1000)
	for name, r := range routes {
		send := func(t *testing.T, authorized bool, query, body string) events.APIGatewayV2HTTPResponse {
			t.Helper()
			method, path, _ := strings.Cut(name, " ")
			e := withBody(request(method, path, query), body)
			if authorized {
				e = as(caller, e)
			}
			if authorized && r.operator {
				e = asOperator("arn:aws:iam::123456789012:user/olivia", e)
			}
			if r.form {
				e = asService(e)
			}
			return callUnchecked(t, r.handler, e)
		}
		t.Run(name, func(t *testing.T) {
			wantStatus(t, send(t, true, r.query, r.body), r.done)
			wantStatus(t, send(t, true, "&"+r.query+"&", r.body), r.done)

			close := unknown // to a parameter that the route may have
			if strings.HasPrefix(r.query, "organization_name=") {
				close += ": did you mean organization_name?"
			}
			queries := map[string][]org.FieldError{
				"name=Other":                    {{Field: "name", Message: unknown}},
				"organizationName=Other":        {{Field: "organizationName", Message: close}},
				"Organization_Name=Other":       {{Field: "Organization_Name", Message: close}},
				"organization_name%5B%5D=Other": {{Field: "organization_name[]", Message: close}},
				"z&=x&%00=&a=1&a=2":             {{Field: "", Message: unknown}, {Field: "\x00", Message: unknown}, {Field: "a", Message: unknown}, {Field: "z", Message: unknown}},
				url.QueryEscape(long):           {{Field: long[:2*100], Message: unknown}},
			}
			if r.query != "" {
				var again []org.FieldError
				for parameter := range strings.SplitSeq(r.query, "&") {
					name, _, _ := strings.Cut(parameter, "=")
					again = append(again, org.FieldError{Field: name, Message: twice})
				}
				queries[r.query] = again
				queries["zz=&"+r.query] = append(slices.Clone(again), org.FieldError{Field: "zz", Message: unknown})
			}
			for query, want := range queries {
				t.Run(query, func(t *testing.T) {
					response := send(t, true, r.query+"&"+query, r.body)
					wantStatus(t, response, 422)
					if diff := cmp.Diff(want, problemOf(t, response).Errors); diff != "" {
						t.Errorf("errors (-want +got):\n%s", diff)
					}
					if r.private {
						wantStatus(t, send(t, false, query, r.body), 401)
					}
				})
			}
			for _, query := range []string{"%", "name=%zz", "a;b"} {
				wantStatus(t, send(t, true, r.query+"&"+query, r.body), 400)
			}
			if r.body != "" {
				return // TestBody has the wrong bodies
			}
			for _, body := range []string{`{"organization_name":"Other"}`, "{}", " ", "\n", "x", strings.Repeat("x", 64<<10+1)} {
				wantStatus(t, send(t, true, r.query, body), 400)
				if r.private {
					wantStatus(t, send(t, false, r.query, body), 401)
				}
			}
		})
	}
}

func TestHostileGateway(t *testing.T) {
	s, _ := newService(t)

	t.Run("comma in a header", func(t *testing.T) {
		r := createRequest(registration("Comma", "comma@example.com"))
		for name, value := range map[string]string{
			"user-agent": "Mozilla/5.0 (X11, Linux), like Gecko", "accept": "text/html, */*;q=0.8",
			"x-forwarded-for": "192.0.2.1, 198.51.100.7", "cookie": "a=b,c", "accept-language": "de,en", "x-list": ",,,",
		} {
			r = withHeader(r, name, value)
		}
		wantStatus(t, callUnchecked(t, api.Create(s), r), 201)
	})
	t.Run("percent and control characters in the path", func(t *testing.T) {
		for _, path := range []string{"/org/get%", "/org/%zz", "/%", "/org/100% sure", "/org/get\x00", "/org/get\n", "/org/?organization_name=%"} {
			wantStatus(t, callUnchecked(t, api.Get(s), request("GET", path, "organization_name=nobody")), 404)
		}
		for _, id := range []string{"%", "a%00b", "\x01", "a\nb", "?", "#", "\xff"} {
			wantStatus(t, callUnchecked(t, api.ShowOrganization(s), asOperator("arn:aws:iam::123456789012:user/olivia", request("GET", "/operator/organizations/"+id, ""))), 404)
		}
	})
	t.Run("other letters in the path", func(t *testing.T) {
		wantStatus(t, call(t, api.Get(s), request("GET", "/org/get/é", "organization_name=nobody")), 404)
	})
	t.Run("form in base64", func(t *testing.T) {
		r := withHeader(createRequest(base64.StdEncoding.EncodeToString([]byte("organization_name=Acme&email=a%40example.com&password="+adminPassword))),
			"content-type", "application/x-www-form-urlencoded")
		r.IsBase64Encoded = true
		wantStatus(t, call(t, api.Create(s), r), 415)
	})
	t.Run("JSON in base64", func(t *testing.T) {
		r := createRequest(base64.StdEncoding.EncodeToString([]byte(registration("Base", "base@example.com"))))
		r.IsBase64Encoded = true
		wantStatus(t, call(t, api.Create(s), r), 201)
	})
	t.Run("no base64", func(t *testing.T) {
		r := createRequest(registration("Acme", "admin@example.com"))
		r.IsBase64Encoded = true
		wantStatus(t, callUnchecked(t, api.Create(s), r), 400)
	})
	t.Run("malformed domain", func(t *testing.T) {
		for _, domain := range []string{"a%zz", "a:b:c", "[::1", "%41", "a b", "\x00"} {
			r := request("GET", "/org/get", "organization_name=x")
			r.RequestContext.DomainName = domain
			// The adapter would print the path, with its line breaks.
			if printed := stdout(t, func() { wantStatus(t, callUnchecked(t, api.Get(s), r), 400) }); printed != "" {
				t.Errorf("domain %q: printed %q", domain, printed)
			}
		}
	})
	t.Run("no method", func(t *testing.T) {
		wantStatus(t, callUnchecked(t, api.Get(s), request("G E T", "/org/get", "organization_name=x")), 400)
	})
	t.Run("an empty event", func(t *testing.T) {
		wantStatus(t, callUnchecked(t, api.Create(s), events.APIGatewayV2HTTPRequest{}), 415)
	})
	t.Run("headers of what can't be read", func(t *testing.T) {
		callUnchecked(t, api.Get(s), request("G E T", "/org/get", ""))
	})
}
