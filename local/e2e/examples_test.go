package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"orgservice/local/embedded"
	"orgservice/shared/api"
)

var updateExamples = flag.Bool("update", false, "TestExamples writes the examples of the OpenAPI document anew")

const examplesPath = "../openapi/examples.json"

// unprovoked has the problems that the story does not meet, by their reasons or by
// function and reason, and why.
var unprovoked = map[string]string{
	"token-required":                    "the gateway itself answers a request without a token",
	"change-pending":                    "a change must stand still until its lease ends",
	"key-in-use":                        "the first request must be under way, or have crashed a moment ago",
	"key-reused":                        "it is the same everywhere, and met once",
	"create too-many-attempts":          "it must be repeated with many passwords",
	"invite invitation-not-found":       "the service must crash before its answer, and the invitation end before it is repeated",
	"create organization-busy":          "another sign-up must give up the same name again and again",
	"addorganization organization-busy": "as for create",
	"mail-unavailable":                  "the service of the story has a mailbox",
	"invite too-many-members":           "there must be a thousand",
	"accept email-taken":                "somebody must sign up with the email at the same time",
	"create too-many-mails":             "a sign-up there mails only what it does not depend on",
	"accept name-taken":                 "a sign-up there need not be finished by mail",
	"accept name-unusable":              "as for name-taken",
	"suspend organization-busy":         "it must change again and again at the same time",
	"reactivate organization-busy":      "as for suspend",
	"purge organization-busy":           "it must be restored at the same time",
	"restore name-unusable":             "as for update",
	"operator-required":                 "the gateway itself answers a request without an operator",
	"reset organization-busy":           "the admin must change at the same time",
	"verify organization-busy":          "the admin must change again and again at the same time",
	"signup-closed":                     "everybody may sign up there",
	"too-many-organizations":            "any number may sign up there",
	"too-many-signups":                  "as many from one address",
	"email-unverified":                  "the service of the story does not require it",
	"internal-error":                    "a fault that is made here for login, and has the same words everywhere",
}

// TestExamples checks the examples of the OpenAPI document: they are what the
// service answers in one story, with fixed values for what differs in each run.
// The story meets every success and every problem of every route but those in
// unprovoked.
func TestExamples(t *testing.T) {
	t.Parallel()
	x := &examples{routes: map[string]*recordedRoute{}}
	x.tell(t)
	x.checkComplete(t)
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(x.routes); err != nil {
		t.Fatal(err)
	}
	if t.Failed() {
		return
	}
	if *updateExamples {
		if err := os.WriteFile(examplesPath, b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	committed, err := os.ReadFile(examplesPath)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(committed), b.String()); diff != "" {
		t.Errorf("make examples would change the examples (-committed +recorded):\n%s", diff)
	}
}

// recordedRoute has what was recorded of a route: the first success and its request,
// and the first answer with each problem.
type recordedRoute struct {
	Request  json.RawMessage            `json:"request,omitempty"`
	Response json.RawMessage            `json:"response,omitempty"`
	Problems map[string]json.RawMessage `json:"problems,omitempty"` // by reason
	Gateway  map[string]json.RawMessage `json:"gateway,omitempty"`  // its own answers, by status

	done bool // there was a success
}

type examples struct {
	mu     sync.Mutex
	routes map[string]*recordedRoute // by function
}

// record is the method seen of a client.
func (x *examples) record(r *http.Request, body []byte, a answer) {
	x.mu.Lock()
	defer x.mu.Unlock()
	route, _, err := documented().FindRoute(r)
	if err != nil {
		return
	}
	i := slices.IndexFunc(api.Routes(), func(row api.Route) bool { return row.Method == route.Method && row.Path == route.Path })
	function := api.Routes()[i].Function // the pages have one
	e := x.routes[function]
	if e == nil {
		e = &recordedRoute{Problems: map[string]json.RawMessage{}, Gateway: map[string]json.RawMessage{}}
		x.routes[function] = e
	}
	add := func(m map[string]json.RawMessage, name string) {
		if m[name] == nil {
			m[name] = fixed(a.body)
		}
	}
	if _, refused := a.refusal(); refused {
		add(e.Gateway, fmt.Sprint(a.status))
	} else if a.status >= 400 {
		add(e.Problems, strings.TrimPrefix(a.text("type"), "/problems/"))
	} else if a.isPage() {
		e.done = true
	} else if !e.done {
		if form, err := url.ParseQuery(string(body)); err == nil && r.Header.Get("Content-Type") == "application/x-www-form-urlencoded" {
			body, _ = json.Marshal(object{"token": form.Get("token")}) // text can't fail
		}
		e.Request, e.Response, e.done = fixed(body), fixed(a.body), true
	}
}

// changing has what differs in each run, with what the examples have instead.
var changing = []struct {
	pattern *regexp.Regexp
	example string
}{
	{regexp.MustCompile(`"(id|organization_id)":"[0-9a-f]{24}"`), `"$1":"6b062bca0f6f0e6d4f1c2a31"`},
	{regexp.MustCompile(`"admin_id":"[0-9a-f]{24}"`), `"admin_id":"6b062bca0f6f0e6d4f1c2a30"`},
	{regexp.MustCompile(`"since":"\d{4}-[\d:.T-]+Z"`), `"since":"2026-11-25T00:28:58.032Z"`},
	{regexp.MustCompile(`"created_at":"\d{4}-[\d:.T-]+Z"`), `"created_at":"2026-11-25T00:28:58.032Z"`},
	{regexp.MustCompile(`"updated_at":"\d{4}-[\d:.T-]+Z"`), `"updated_at":"2026-11-25T00:28:59.113Z"`},
	{regexp.MustCompile(`"used_at":"\d{4}-[\d:.T-]+Z"`), `"used_at":"2026-11-25T00:28:59.113Z"`},
	{regexp.MustCompile(`"address":"[\d.]+"`), `"address":"192.0.2.10"`},
	{regexp.MustCompile(`"restorable_until":"\d{4}-[\d:.T-]+Z"`), `"restorable_until":"2026-12-02T00:29:01.480Z"`},
	{regexp.MustCompile(`"purged_at":"\d{4}-[\d:.T-]+Z"`), `"purged_at":"2026-11-25T00:29:02.217Z"`},
	{regexp.MustCompile(`"deleted_at":"\d{4}-[\d:.T-]+Z"`), `"deleted_at":"2026-11-25T00:29:01.480Z"`},
	{regexp.MustCompile(`"expires_at":"\d{4}-[\d:.T-]+Z"`), `"expires_at":"2026-11-25T01:28:58.000Z"`},
	{regexp.MustCompile(`"token":"(eyJ[\w-]+)\.[\w-]+\.[\w-]+"`), `"token":"eyJhbGciOiJIUzI1NiIsInR5cCI6ImF0K2p3dCJ9.…"`},
	{regexp.MustCompile(`"sub":"[0-9a-f]{24}"`), `"sub":"6b062bca0f6f0e6d4f1c2a30"`},
	{regexp.MustCompile(`"org":"[0-9a-f]{24}"`), `"org":"6b062bca0f6f0e6d4f1c2a31"`},
	{regexp.MustCompile(`"sid":"[0-9a-f]{32,}"`), `"sid":"0b9f4c1d2e3a5b6c7d8e9f0a1b2c3d4e"`},
	{regexp.MustCompile(`"exp":\d+`), `"exp":1795653538`},
	{regexp.MustCompile(`"access_token":"(eyJ[\w-]+)\.[\w-]+\.[\w-]+"`), `"access_token":"eyJhbGciOiJIUzI1NiIsInR5cCI6ImF0K2p3dCJ9.…"`},
	{regexp.MustCompile(`"refresh_token":"[\w-]{40,}"`), `"refresh_token":"pQ0cW4mXnT7vB2kLr9sYdA…"`},
	{regexp.MustCompile(`"request_id":"[\w.=-]+"`), `"request_id":"8476a536-e9f4-11e8-9739-2dfe598c3fcd"`},
	{regexp.MustCompile(`"ticket":"[\w-]{64}"`), `"ticket":"C59MHS46W2x9jp8KGyw9TgABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f"`},
	{regexp.MustCompile(`"id":"[0-9a-f]{32,}"`), `"id":"0b9f4c1d2e3a5b6c7d8e9f0a1b2c3d4e"`},
	{regexp.MustCompile(`"invited_by":"[0-9a-f]{24}"`), `"invited_by":"6b062bca0f6f0e6d4f1c2a30"`},
	{regexp.MustCompile(`"at":"\d{4}-[\d:.T-]+Z"`), `"at":"2026-11-25T00:29:00.271Z"`},
	{regexp.MustCompile(`"database_name":"\w+"`), `"database_name":"organization_master"`},
	{regexp.MustCompile(`"age":\d+`), `"age":3600`},
	{regexp.MustCompile(`"latency_ms":[\d.]+`), `"latency_ms":0.412`},
	{regexp.MustCompile(`try again in \d+ seconds?"`), `try again in 42 seconds"`},
}

// fixed returns a body, or nil if there is none, with fixed values for what differs
// in each run.
func fixed(body []byte) json.RawMessage {
	if len(body) == 0 {
		return nil
	}
	for _, c := range changing {
		body = c.pattern.ReplaceAll(body, []byte(c.example))
	}
	return body
}

// checkComplete fails the test unless every success and every problem was recorded,
// or is in unprovoked.
func (x *examples) checkComplete(t *testing.T) {
	t.Helper()
	used := map[string]bool{}
	for _, row := range api.Routes() {
		e := x.routes[row.Function]
		if e == nil || !e.done {
			t.Errorf("no success of %s was recorded", row.Function)
			continue
		}
		for _, p := range row.Problems {
			why := unprovoked[p.Reason] + unprovoked[row.Function+" "+p.Reason]
			used[p.Reason], used[row.Function+" "+p.Reason] = true, true
			if _, ok := e.Problems[p.Reason]; !ok && why == "" {
				t.Errorf("%s was not recorded with the problem %s", row.Function, p.Reason)
			}
		}
	}
	for key := range unprovoked {
		if !used[key] {
			t.Errorf("%s is in unprovoked and on no route", key)
		}
	}
}

// tell is the story.
func (x *examples) tell(t *testing.T) {
	database, err := embedded.Start(t.TempDir(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	stop := sync.OnceFunc(database.Close)
	t.Cleanup(stop)
	p := newLocal(t, "", []string{"MONGO_URL=" + database.URL(), "JWT_PUBLIC_KEYS=" + publicKey, "DELETE_GRACE=168"})
	inside, err := mongo.Connect(options.Client().ApplyURI(database.URL()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { inside.Disconnect(t.Context()) })
	master := inside.Database(masterDB(p.data))
	set := func(collection string, where, change bson.D) {
		t.Helper()
		if r, err := master.Collection(collection).UpdateOne(t.Context(), where, change); err != nil || r.MatchedCount != 1 {
			t.Fatalf("%v, %v", r, err)
		}
	}
	c := newLocalClient(t, p)
	c.seen = x.record

	// Every success but that of delete, which is at the end.
	akshay := registration{"Akshay Pvt Ltd", "admin@example.com", "Admin@123"}
	c.create(akshay).want(t, 201)
	first := c.login(akshay.Email, akshay.Password).want(t, 200)
	c.me(first.text("access_token")).want(t, 200)
	second := c.refresh(first.text("refresh_token")).want(t, 200)
	c.introspect(introspectionSecret, second.text("access_token")).want(t, 200)
	c.logout(second.text("refresh_token")).want(t, 204)
	ended := second.text("access_token")
	organization := "/" + c.get(akshay.Name).text("id")
	c.operate("POST", organization+"/suspend", object{"reason": "unpaid since October"}).want(t, 200)
	c.operate("POST", organization+"/reactivate", object{"reason": "paid"}).want(t, 200)
	c.operate("POST", organization+"/rename", object{"reason": "the name is somebody's trademark", "organization_name": "Akshay Limited"}).want(t, 200)
	c.operate("POST", organization+"/rename", object{"reason": "it is not", "organization_name": akshay.Name}).want(t, 200)
	c.operate("GET", organization, nil).want(t, 200)
	token := mustLogin(c, akshay.Email, akshay.Password)
	c.update(token, object{"organization_name": "Akshay Ltd"}).want(t, 200)
	c.get("akshay ltd").want(t, 200)
	c.members(token, "").want(t, 200)
	c.organizations(token, "").want(t, 200)                            // of one, because the order of ids may be another one
	c.operate("GET", "?prefix=Akshay&status=active", nil).want(t, 200) // also of one
	owner := object{"organization_name": "Bellevue AG", "email": "owner@example.com"}
	c.operate("POST", "", owner).want(t, 204)
	c.addOrganization(token, "Akshay Labs").want(t, 201)
	c.switchTo(token, "Akshay Labs").want(t, 200)
	c.endSession(token, "x").want(t, 204)
	c.endSessions(token).want(t, 204)
	c.sessions(token, "").want(t, 200) // of one
	c.invite(token, "colleague@example.com", "member").want(t, 201)
	c.invitations(token, "").want(t, 200)
	ticket := p.ticket(t, "colleague@example.com", "/accept-invitation", 1)
	colleague := c.accept(ticket, "Colleague@123").want(t, 200).text("access_token")
	colleagueID := c.me(colleague).want(t, 200).text("admin_id")
	c.changeRole(token, colleagueID, "admin").want(t, 200)
	c.forgot("colleague@example.com").want(t, 204)
	c.reset(p.ticket(t, "colleague@example.com", "/reset-password", 1), "Better@1234").want(t, 204)
	verification := p.ticket(t, akshay.Email, "/verify-email", 1)
	c.resend(token).want(t, 204)
	c.verify(verification).want(t, 204)
	c.withdraw(token, c.invite(token, "friend@example.com", "member").want(t, 201).text("id")).want(t, 204)
	c.call("GET", "/.well-known/jwks.json", nil).want(t, 200)
	c.call("GET", "/health?deep=true", nil).want(t, 200)
	c.call("GET", "/docs", nil).want(t, 200)

	// Each key is used for two requests.
	renaming := func(key, name string, more ...string) answer {
		return c.call("PUT", "/org/update", object{"organization_name": name}, append(more, "Authorization", "Bearer "+token, "Idempotency-Key", key)...)
	}
	renaming("5f1c", "Akshay Limited").want(t, 200)
	wantProblem(t, renaming("5f1c", "Akshay Ltd"), "key-reused")
	etag := c.get("Akshay Limited").want(t, 200).header.Get("ETag")
	renaming("5f1d", "Akshay Ltd", "If-Match", etag).want(t, 200)
	wantProblem(t, renaming("5f1e", "Akshay Limited", "If-Match", etag), "organization-changed")
	wantProblem(t, c.call("DELETE", "/org/delete", nil, "Authorization", "Bearer "+token, "If-Match", etag), "organization-changed")
	for _, route := range [][]string{
		{"POST", "/org/create"}, {"DELETE", "/org/delete"}, {"POST", "/admin/organizations"},
		{"PUT", "/org/members/" + colleagueID}, {"DELETE", "/org/members/x"}, {"POST", "/org/invitations"}, {"DELETE", "/org/invitations/x"},
		{"POST", "/operator/organizations" + organization + "/suspend"}, {"POST", "/operator/organizations" + organization + "/reactivate"},
		{"POST", "/operator/organizations" + organization + "/rename"}, {"POST", "/operator/organizations" + organization + "/restore"}, {"POST", "/operator/organizations" + organization + "/purge"},
	} {
		authorization := "Bearer " + token
		if strings.HasPrefix(route[1], "/operator/") {
			authorization = "Bearer " + c.operatorToken
		}
		var body any
		if route[0] != "DELETE" {
			body = object{}
		}
		c.call(route[0], route[1], body, "Authorization", authorization, "Idempotency-Key", strings.Repeat("x", 256)).want(t, 422)
	}

	authorization, operator := []string{"Authorization", "Bearer " + token}, []string{"Authorization", "Bearer " + c.operatorToken}
	bad := registration{"-", "admin", "short"}
	for _, route := range []struct {
		method, path  string
		authorization []string
		unknown       any // a body
		wrong         any // a body whose fields are wrong
	}{
		{"POST", "/org/create", nil, object{"organizationName": "Akshay Pvt Ltd", "email": "admin@example.com", "password": "Admin@123"}, bad},
		{"POST", "/admin/login", nil, `{"email":"admin@example.com" "password":"Admin@123"}`, object{"email": "admin@example.com"}},
		{"POST", "/admin/refresh", nil, `{'refresh_token':''}`, object{}},
		{"POST", "/admin/logout", nil, `{"refresh_token":"","refresh_token":""}`, object{"refresh_token": 1}},
		{"PUT", "/org/update", authorization, `{"organization_name":"Akshay`, object{}},
		{"POST", "/admin/organizations", authorization, object{"name": "Akshay Labs"}, object{"organization_name": "***"}},
		{"POST", "/admin/switch", authorization, object{"name": "Akshay Labs"}, object{"organization_name": "***"}},
		{"PUT", "/org/members/" + colleagueID, authorization, object{"roles": "admin"}, object{"role": "boss"}},
		{"POST", "/org/invitations", authorization, object{"mail": "friend@example.com", "role": "member"}, object{"email": "friend", "role": "boss"}},
		{"POST", "/invitations/accept", nil, object{"token": ticket}, object{"ticket": ""}},
		{"POST", "/admin/forgot", nil, object{"mail": "admin@example.com"}, object{"email": ""}},
		{"POST", "/admin/reset", nil, object{"token": ticket}, object{"ticket": "", "password": "short"}},
		{"POST", "/admin/verify", nil, object{"token": ticket}, object{"ticket": ""}},
		{"POST", "/operator/organizations", operator, object{"name": "Bellevue AG", "email": "owner@example.com"}, object{"organization_name": "-", "email": "owner"}},
		{"POST", "/operator/organizations/x/suspend", operator, object{"why": "unpaid"}, object{"reason": " "}},
		{"POST", "/operator/organizations/x/reactivate", operator, object{"why": "paid"}, object{"reason": strings.Repeat("x", 501)}},
		{"POST", "/operator/organizations/x/rename", operator, object{"name": "Akshay Limited", "reason": "asked for"}, object{"reason": "asked for", "organization_name": "***"}},
		{"POST", "/operator/organizations/x/restore", operator, object{"why": "a mistake"}, object{"reason": ""}},
		{"POST", "/operator/organizations/x/purge", operator, object{"why": "asked for"}, object{"reason": ""}},
	} {
		send := func(query string, body any, headers ...string) answer {
			return c.call(route.method, route.path+query, body, append(headers, route.authorization...)...)
		}
		send("", route.unknown).want(t, 400)
		send("", strings.Repeat(" ", 64<<10+1)).want(t, 413)
		send("", "organization_name=Akshay", "Content-Type", "application/x-www-form-urlencoded").want(t, 415)
		send("", route.wrong).want(t, 422)
		send("?organizationName=Akshay", object{}).want(t, 422)
	}
	for _, route := range []struct {
		method, path  string
		authorization []string
	}{
		{"GET", "/org/get", nil}, {"DELETE", "/org/delete", authorization}, {"GET", "/admin/me", authorization}, {"GET", "/org/members", authorization}, {"GET", "/admin/organizations", authorization},
		{"GET", "/admin/sessions", authorization}, {"DELETE", "/admin/sessions", authorization}, {"DELETE", "/admin/sessions/x", authorization}, {"GET", "/.well-known/jwks.json", nil},
		{"DELETE", "/org/members/" + colleagueID, authorization}, {"GET", "/org/invitations", authorization}, {"DELETE", "/org/invitations/x", authorization},
		{"POST", "/admin/verify/resend", authorization}, {"GET", "/health", nil}, {"GET", "/docs", nil},
		{"GET", "/operator/organizations", operator}, {"GET", "/operator/organizations/x", operator},
	} {
		c.call(route.method, route.path, object{}, route.authorization...).want(t, 400)
		c.call(route.method, route.path+"?organizationName=Akshay", nil, route.authorization...).want(t, 422)
	}
	c.get("***").want(t, 422)
	c.delete(token, "").want(t, 422)
	const form, introspect = "application/x-www-form-urlencoded", "/admin/introspect"
	service := []string{"Authorization", "Bearer " + introspectionSecret}
	c.call("POST", introspect, "token=x&token=y", append(service, "Content-Type", form)...).want(t, 400)
	c.call("POST", introspect, strings.Repeat(" ", 64<<10+1), append(service, "Content-Type", form)...).want(t, 413)
	c.call("POST", introspect, object{"token": "x"}, service...).want(t, 415)
	c.call("POST", introspect, "", append(service, "Content-Type", form)...).want(t, 422)
	c.call("POST", introspect+"?token=x", "token=x", append(service, "Content-Type", form)...).want(t, 422)
	c.introspect("x", token).want(t, 401)
	c.members(token, "?limit=0").want(t, 422)
	c.organizations(token, "?limit=0").want(t, 422)
	c.sessions(token, "?limit=0").want(t, 422)
	c.invitations(token, "?limit=0").want(t, 422)
	c.operate("GET", "?status=x", nil).want(t, 422)
	c.operate("GET", "/x", nil).want(t, 404)
	c.operate("POST", "/x/suspend", object{"reason": "unpaid"}).want(t, 404)
	c.operate("POST", "/x/reactivate", object{"reason": "paid"}).want(t, 404)
	c.operate("POST", "/x/rename", object{"reason": "asked for", "organization_name": "Akshay Limited"}).want(t, 404)
	c.operate("POST", "/x/restore", object{"reason": "a mistake"}).want(t, 404)
	c.operate("POST", "/x/purge", object{"reason": "asked for"}).want(t, 404)
	for _, request := range [][2]string{{"GET", ""}, {"POST", ""}, {"GET", "/x"}, {"POST", "/x/suspend"}, {"POST", "/x/reactivate"}, {"POST", "/x/rename"}, {"POST", "/x/restore"}, {"POST", "/x/purge"}} {
		c.call(request[0], "/operator/organizations"+request[1], nil).wantRefusal(t, c.gateway.forbidden)
	}
	c.changeRole(token, "x", "admin").want(t, 404)
	c.removeMember(token, "x").want(t, 404)
	c.withdraw(token, "x").want(t, 404)
	c.accept(ticket, "Colleague@123").want(t, 401)
	c.reset(ticket, "Colleague@123").want(t, 401)
	c.verify(verification).want(t, 401)
	wantProblem(t, c.resend(token), "already-verified")
	c.switchTo(token, "Nobody").want(t, 404)
	c.call("GET", "/health?deep=yes", nil).want(t, 422)
	c.get("Nobody").want(t, 404)
	c.call("GET", "/problems/none", nil).want(t, 404)

	// Logins and tokens.
	c.login(akshay.Email, "Admin@124").want(t, 401)
	c.refresh(first.text("refresh_token")).want(t, 401)
	for _, request := range [][2]string{{"PUT", "/org/update"}, {"DELETE", "/org/delete"}, {"GET", "/admin/me"}, {"GET", "/org/members"}, {"GET", "/admin/organizations"}, {"POST", "/admin/organizations"}, {"POST", "/admin/switch"},
		{"GET", "/admin/sessions"}, {"DELETE", "/admin/sessions"}, {"DELETE", "/admin/sessions/x"},
		{"PUT", "/org/members/x"}, {"DELETE", "/org/members/x"}, {"POST", "/org/invitations"}, {"GET", "/org/invitations"}, {"DELETE", "/org/invitations/x"}, {"POST", "/admin/verify/resend"}} {
		var body any
		if request[0] != "GET" && request[0] != "DELETE" {
			body = object{"organization_name": "Akshay Ltd"}
		}
		switch request[1] {
		case "/org/members/x":
			body = object{"role": "member"}
		case "/org/invitations":
			body = object{"email": "friend@example.com", "role": "member"}
		case "/admin/verify/resend":
			body = nil
		}
		if request[0] == "GET" || request[0] == "DELETE" {
			body = nil
		}
		c.call(request[0], request[1], body, "Authorization", "Bearer "+ended).want(t, 401)
		c.call(request[0], request[1], body).wantRefusal(t, c.gateway.unauthorized)
		c.call(request[0], request[1], body, "Authorization", "Bearer x").wantRefusal(t, c.gateway.forbidden)
	}
	c.update(token, object{"password": "Better@123", "current_password": "Admin@124"}).want(t, 403)
	c.delete(token, "C++").want(t, 403)

	// Names and emails that are taken.
	c.create(registration{"C++", "bjarne@example.com", "Admin@123"}).want(t, 201)
	c.create(registration{"COBOL", "grace@example.com", "Admin@123"}).want(t, 201)
	c.create(registration{"C#", "anders@example.com", "Admin@123"}).want(t, 409)
	c.update(token, object{"organization_name": "C#"}).want(t, 409)
	wantProblem(t, c.create(registration{"D", "Bjarne@example.com", "Admin@123"}), "email-taken")
	wantProblem(t, c.update(token, object{"email": "Bjarne@example.com", "current_password": akshay.Password}), "email-taken")
	if _, err := master.Collection("org_stray").InsertOne(t.Context(), bson.D{{Key: "x", Value: 1}}); err != nil {
		t.Fatal(err)
	}
	wantProblem(t, c.create(registration{"Stray", "stray@example.com", "Admin@123"}), "name-unusable")
	wantProblem(t, c.update(token, object{"organization_name": "Stray"}), "name-unusable")
	wantProblem(t, c.addOrganization(token, "C#"), "name-taken")
	wantProblem(t, c.operate("POST", "", object{"organization_name": "C#", "email": "anders@example.com"}), "name-taken")
	wantProblem(t, c.addOrganization(token, "Stray"), "name-unusable")
	wantProblem(t, c.operate("POST", organization+"/rename", object{"reason": "asked for", "organization_name": "C#"}), "name-taken")
	wantProblem(t, c.operate("POST", organization+"/rename", object{"reason": "asked for", "organization_name": "Stray"}), "name-unusable")

	// A role that permits less.
	name, now := bson.D{{Key: "organization_name", Value: "Akshay Ltd"}}, time.Now()
	set("organizations", name, bson.D{{Key: "$set", Value: bson.D{{Key: "admins.0.role", Value: "member"}}}})
	wantProblem(t, c.update(token, object{"organization_name": "Akshay"}), "role-forbids")
	wantProblem(t, c.delete(token), "role-forbids")
	wantProblem(t, c.changeRole(token, colleagueID, "owner"), "role-forbids")
	wantProblem(t, c.removeMember(token, colleagueID), "role-forbids")
	wantProblem(t, c.invite(token, "friend@example.com", "member"), "role-forbids")
	set("organizations", name, bson.D{{Key: "$set", Value: bson.D{{Key: "admins.0.role", Value: "owner"}}}})

	// Members and invitations.
	adminID := c.me(token).want(t, 200).text("admin_id")
	wantProblem(t, c.changeRole(token, adminID, "member"), "last-owner")
	wantProblem(t, c.removeMember(token, adminID), "last-owner")
	wantProblem(t, c.invite(token, "colleague@example.com", "member"), "already-member")
	open := c.invite(token, "friend@example.com", "member").want(t, 201).text("id")
	friend := p.ticket(t, "friend@example.com", "/accept-invitation", 2)
	c.invite(token, "Bjarne@example.com", "member").want(t, 201)
	bjarne := p.ticket(t, "bjarne@example.com", "/accept-invitation", 1)
	wantProblem(t, c.accept(bjarne, "Admin@124"), "wrong-credentials")
	colleague = mustLogin(c, "colleague@example.com", "Better@1234")
	set("organizations", name, bson.D{{Key: "$set", Value: bson.D{{Key: "admins.1.role", Value: "member"}}}})
	wantProblem(t, c.withdraw(colleague, open), "role-forbids")

	// Another change that is under way.
	set("organizations", name, bson.D{{Key: "$set", Value: bson.D{{Key: "operation", Value: bson.D{
		{Key: "id", Value: bson.NewObjectID()}, {Key: "kind", Value: "update"}, {Key: "started_at", Value: now}, {Key: "touched_at", Value: now},
	}}}}})
	wantProblem(t, c.update(token, object{"organization_name": "Akshay"}), "organization-busy")
	wantProblem(t, c.delete(token), "organization-busy")
	wantProblem(t, c.operate("POST", organization+"/rename", object{"reason": "asked for", "organization_name": "Akshay"}), "organization-busy")
	wantProblem(t, c.operate("POST", organization+"/restore", object{"reason": "a mistake"}), "organization-not-found")
	wantProblem(t, c.changeRole(token, colleagueID, "member"), "organization-busy")
	wantProblem(t, c.removeMember(token, colleagueID), "organization-busy")
	wantProblem(t, c.invite(token, "other@example.com", "member"), "organization-busy")
	wantProblem(t, c.withdraw(token, open), "organization-busy")
	wantProblem(t, c.accept(friend, "Friend@123"), "organization-busy")
	set("organizations", name, bson.D{{Key: "$unset", Value: bson.D{{Key: "operation", Value: ""}}}})

	// A hash that is none, and too many attempts.
	set("admins", bson.D{{Key: "email", Value: "bjarne@example.com"}}, bson.D{{Key: "$set", Value: bson.D{{Key: "password_hash", Value: "x"}}}})
	c.login("bjarne@example.com", "Admin@123").want(t, 500)
	untilThrottled(t, func() answer { return c.login("nobody@example.com", "Admin@123") })
	untilThrottled(t, func() answer {
		return c.update(token, object{"password": "Better@123", "current_password": "Admin@124"})
	})

	untilThrottled(t, func() answer { return c.accept(bjarne, "Admin@124") })
	untilThrottled(t, func() answer { return c.forgot("nobody@example.com") })
	untilThrottled(t, func() answer { return c.operate("POST", "", owner) })
	unverified := mustLogin(c, "grace@example.com", "Admin@123")
	untilThrottled(t, func() answer { return c.resend(unverified) })
	untilThrottled(t, func() answer { return c.invite(token, "other@example.com", "member") })
	c.removeMember(token, colleagueID).want(t, 204)

	c.delete(token, "Akshay Ltd").want(t, 200)

	// A deletion that is taken back.
	restore := func(name string) answer {
		return c.operate("POST", organization+"/restore", object{"reason": "deleted by mistake", "organization_name": name})
	}
	wantProblem(t, restore("C#"), "name-taken")
	id, err := bson.ObjectIDFromHex(organization[1:])
	if err != nil {
		t.Fatal(err)
	}
	set("organizations", bson.D{{Key: "_id", Value: id}}, bson.D{{Key: "$set", Value: bson.D{{Key: "operation", Value: bson.D{
		{Key: "id", Value: bson.NewObjectID()}, {Key: "kind", Value: "restore"}, {Key: "started_at", Value: now}, {Key: "touched_at", Value: time.Now()},
	}}}}})
	wantProblem(t, restore("Akshay Pvt Ltd"), "organization-busy")
	set("organizations", bson.D{{Key: "_id", Value: id}}, bson.D{{Key: "$unset", Value: bson.D{{Key: "operation", Value: ""}}}})
	cobol := c.get("COBOL").text("id")
	c.delete(unverified).want(t, 200)
	c.create(registration{"COBOL Two", "grace@example.com", "Admin@123"}).want(t, 201)
	wantProblem(t, c.operate("POST", "/"+cobol+"/restore", object{"reason": "deleted by mistake"}), "email-taken")
	restore("Akshay Pvt Ltd").want(t, 200)
	again := c.call("POST", "/admin/login", object{"email": akshay.Email, "password": akshay.Password, "organization_name": akshay.Name}).want(t, 200)
	c.delete(again.text("access_token")).want(t, 200)
	c.operate("POST", organization+"/purge", object{"reason": "the owner asks for it"}).want(t, 200)

	stop()
	var running sync.WaitGroup
	for _, call := range []func() answer{
		func() answer { return c.create(registration{"E", "e@example.com", "Admin@123"}) },
		func() answer { return c.get(akshay.Name) },
		func() answer { return c.update(token, object{"organization_name": "Akshay"}) },
		func() answer { return c.delete(token) },
		func() answer { return c.login(akshay.Email, akshay.Password) },
		func() answer { return c.refresh(first.text("refresh_token")) },
		func() answer { return c.logout(first.text("refresh_token")) },
		func() answer { return c.me(token) },
		func() answer { return c.introspect(introspectionSecret, token) },
		func() answer { return c.members(token, "") },
		func() answer { return c.organizations(token, "") },
		func() answer { return c.addOrganization(token, "E") },
		func() answer { return c.switchTo(token, "E") },
		func() answer { return c.sessions(token, "") },
		func() answer { return c.endSession(token, "x") },
		func() answer { return c.endSessions(token) },
		func() answer { return c.changeRole(token, colleagueID, "member") },
		func() answer { return c.removeMember(token, colleagueID) },
		func() answer { return c.invite(token, "e@example.com", "member") },
		func() answer { return c.invitations(token, "") },
		func() answer { return c.withdraw(token, open) },
		func() answer { return c.accept(friend, "Friend@123") },
		func() answer { return c.forgot("e@example.com") },
		func() answer { return c.reset(friend, "Friend@123") },
		func() answer { return c.verify(verification) },
		func() answer { return c.resend(token) },
		func() answer { return c.operate("GET", "", nil) },
		func() answer { return c.operate("POST", "", owner) },
		func() answer { return c.operate("GET", organization, nil) },
		func() answer { return c.operate("POST", organization+"/suspend", object{"reason": "unpaid"}) },
		func() answer { return c.operate("POST", organization+"/reactivate", object{"reason": "paid"}) },
		func() answer {
			return c.operate("POST", organization+"/rename", object{"reason": "x", "organization_name": "E"})
		},
		func() answer { return c.operate("POST", organization+"/restore", object{"reason": "x"}) },
		func() answer { return c.operate("POST", organization+"/purge", object{"reason": "x"}) },
		func() answer { return c.call("GET", "/health?deep=true", nil) },
	} {
		running.Go(func() {
			if a := call(); a.text("type") != "/problems/database-unavailable" {
				t.Errorf("%v; want database-unavailable", a)
			}
		})
	}
	running.Wait()
}

// publicKey is that of RFC 8037, appendix A.2. The service publishes it.
const publicKey = "-----BEGIN PUBLIC KEY-----\\nMCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=\\n-----END PUBLIC KEY-----\\n"

func wantProblem(t *testing.T, a answer, reason string) {
	t.Helper()
	if a.text("type") != "/problems/"+reason {
		t.Errorf("%v; want %s", a, reason)
	}
}

// untilThrottled calls until the answer is 429.
func untilThrottled(t *testing.T, call func() answer) {
	t.Helper()
	for range 100 {
		if a := call(); a.status == http.StatusTooManyRequests {
			return
		}
	}
	t.Error("100 wrong passwords in a row, and none is answered by 429")
}
