package api_test

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"go.mongodb.org/mongo-driver/v2/bson"

	"orgservice/local/mongodbtest"
	"orgservice/shared/api"
	"orgservice/shared/auth"
	"orgservice/shared/org"
)

// forgetful is a store in which the answer to a request is not put on its key, as if the
// process had crashed before.
type forgetful struct{ org.Store }

func (s forgetful) FinishKey(ctx context.Context, id, change string, outcome org.Outcome) error {
	if len(outcome.Answer) > 0 {
		return &org.Error{Kind: org.Unavailable}
	}
	return s.Store.FinishKey(ctx, id, change, outcome)
}

// repeatable is a request that is repeated.
type repeatable struct {
	handler func(*org.Service) http.Handler
	request events.APIGatewayV2HTTPRequest
	other   events.APIGatewayV2HTTPRequest // another one for the same key
}

// repeatables prepares a database for a request to each route that can be repeated, and
// returns the requests by the function.
func repeatables(t *testing.T, s *org.Service) map[string]repeatable {
	owner := mustCreate(t, s, "Acme", "a@example.com")
	member := func(email string) string {
		inbox := &inbox{}
		inviting := *s
		inviting.Mailer = inbox
		if _, err := inviting.Invite(t.Context(), owner, org.InviteRequest{Email: email, Role: "member"}); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Accept(t.Context(), org.AcceptRequest{Ticket: inbox.mails[0].Ticket, Password: adminPassword}); err != nil {
			t.Fatal(err)
		}
		members, _, err := s.Members(t.Context(), owner, "", 100)
		if err != nil {
			t.Fatal(err)
		}
		return members[len(members)-1].AdminID
	}
	promoted, removed := member("b@example.com"), member("c@example.com")
	invited, err := s.Invite(t.Context(), owner, org.InviteRequest{Email: "d@example.com", Role: "member"})
	if err != nil {
		t.Fatal(err)
	}
	deleting := mustCreate(t, s, "Dune", "e@example.com")
	acted := mustCreate(t, s, "Echo", "f@example.com").OrganizationID
	suspended := mustCreate(t, s, "Fox", "g@example.com").OrganizationID
	if _, err := s.Suspend(t.Context(), "olivia", suspended, org.ActRequest{Reason: "unpaid"}); err != nil {
		t.Fatal(err)
	}
	buried := func(name, email string) string {
		c, burying := mustCreate(t, s, name, email), *s
		burying.DeleteGrace = time.Hour
		if _, err := burying.Delete(t.Context(), c, org.DeleteRequest{}); err != nil {
			t.Fatal(err)
		}
		return c.OrganizationID
	}
	renamed := mustCreate(t, s, "Golf", "h@example.com").OrganizationID
	restored, purged := buried("Hotel", "i@example.com"), buried("India", "j@example.com")
	act := func(id, act, body string) events.APIGatewayV2HTTPRequest {
		r := asOperator("arn:aws:iam::123456789012:user/olivia", withBody(request("POST", "/operator/organizations/"+id+"/"+act, ""), body))
		r.RouteKey = "POST /operator/organizations/{id}/" + act
		return r
	}
	asOwner := func(method, path, body string) events.APIGatewayV2HTTPRequest {
		return as(owner, withBody(request(method, path, ""), body))
	}
	const reason, otherReason = `{"reason":"x"}`, `{"reason":"y"}`
	return map[string]repeatable{
		"create": {api.Create, createRequest(registration("Kilo", "k@example.com")), createRequest(registration("Lima", "k@example.com"))},
		"update": {api.Update, asOwner("PUT", "/org/update", `{"organization_name":"Acme 2"}`), asOwner("PUT", "/org/update", `{"organization_name":"Acme 3"}`)},
		"delete": {api.Delete, as(deleting, request("DELETE", "/org/delete", "")), as(deleting, request("DELETE", "/org/delete", "organization_name=Dune"))},
		"addorganization": {api.AddOrganization, asOwner("POST", "/admin/organizations", `{"organization_name":"Mike"}`),
			asOwner("POST", "/admin/organizations", `{"organization_name":"November"}`)},
		"changerole":   {api.ChangeRole, asOwner("PUT", "/org/members/"+promoted, `{"role":"admin"}`), asOwner("PUT", "/org/members/"+promoted, `{"role":"owner"}`)},
		"removemember": {api.RemoveMember, as(owner, request("DELETE", "/org/members/"+removed, "")), as(owner, request("DELETE", "/org/members/"+promoted, ""))},
		"invite": {api.Invite, asOwner("POST", "/org/invitations", `{"email":"l@example.com","role":"member"}`),
			asOwner("POST", "/org/invitations", `{"email":"m@example.com","role":"member"}`)},
		"withdraw":           {api.Withdraw, as(owner, request("DELETE", "/org/invitations/"+invited.ID, "")), as(owner, request("DELETE", "/org/invitations/"+promoted, ""))},
		"suspend":            {api.Suspend, act(acted, "suspend", reason), act(acted, "suspend", otherReason)},
		"reactivate":         {api.Reactivate, act(suspended, "reactivate", reason), act(suspended, "reactivate", otherReason)},
		"renameorganization": {api.RenameOrganization, act(renamed, "rename", `{"reason":"x","organization_name":"Golf 2"}`), act(renamed, "rename", `{"reason":"x","organization_name":"Golf 3"}`)},
		"restore":            {api.Restore, act(restored, "restore", reason), act(restored, "restore", otherReason)},
		"purge":              {api.Purge, act(purged, "purge", reason), act(purged, "purge", otherReason)},
	}
}

// inbox keeps mails.
type inbox struct{ mails []org.Mail }

func (i *inbox) Send(_ context.Context, m org.Mail) error {
	i.mails = append(i.mails, m)
	return nil
}

// TestRepeat repeats a request to each route that takes an idempotency key: after an answer, and
// after a crash before the answer was known. It changes nothing more, and is answered as the first
// one. Every route that changes an organization takes a key, except that a ticket is one.
func TestRepeat(t *testing.T) {
	for _, crash := range []bool{false, true} {
		s, db := newService(t)
		s.Mailer = noMail{}
		requests := repeatables(t, s)
		for _, route := range api.Routes() {
			takesKey := slices.ContainsFunc(route.Parameters, func(p api.Parameter) bool { return p.InHeader && p.Name == "Idempotency-Key" })
			changes := route.Method != "GET" && (strings.HasPrefix(route.Path, "/org/") || strings.HasPrefix(route.Path, "/operator/") || route.Path == "/admin/organizations")
			test, ok := requests[route.Function]
			if takesKey != changes && route.Function != "inviteowner" || ok != takesKey {
				t.Errorf("%s takes a key: %v", route.Function, takesKey)
			}
			if !ok {
				continue
			}
			name := route.Function
			test.request.RouteKey = route.Method + " " + route.Path
			test.other.RouteKey = test.request.RouteKey
			first, later := *s, *s
			if crash {
				name += " after a crash"
				first.Store = forgetful{s.Store}
				later.Now = func() time.Time { return time.Now().Add(org.StaleAfter + time.Second) }
			}
			t.Run(name, func(t *testing.T) {
				answer := callPlain(t, test.handler(&first), withKey(test.request, "a key"))
				if answer.StatusCode != route.Status {
					t.Fatalf("%d %s", answer.StatusCode, answer.Body)
				}
				if p := problemOf(t, callPlain(t, test.handler(s), withKey(test.other, "a key"))); p.Type != "/problems/key-reused" {
					t.Errorf("another request: %+v", p)
				}
				before := records(t, s)
				if crash && name != "delete after a crash" && name != "purge after a crash" {
					if p := problemOf(t, callPlain(t, test.handler(s), withKey(test.request, "a key"))); p.Type != "/problems/key-in-use" {
						t.Errorf("at once: %+v", p)
					}
				}
				again := callPlain(t, test.handler(&later), withKey(test.request, "a key"))
				if again.StatusCode != answer.StatusCode || again.Body != answer.Body || headerOf(again, "Location") != headerOf(answer, "Location") || !crash && headerOf(again, "ETag") != headerOf(answer, "ETag") {
					t.Errorf("repeated: %d %s, want %d %s", again.StatusCode, again.Body, answer.StatusCode, answer.Body)
				}
				if after := records(t, s); after != before {
					t.Errorf("the records are\n%s\nafter the repetition, and were\n%s", after, before)
				}
			})
			// The next route has the same key.
			forgetKeys(t, db)
		}
	}
}

func withKey(r events.APIGatewayV2HTTPRequest, key string) events.APIGatewayV2HTTPRequest {
	return withHeader(r, "idempotency-key", key)
}

// callPlain calls the function. The response may have no body.
func callPlain(t *testing.T, h http.Handler, r events.APIGatewayV2HTTPRequest) events.APIGatewayV2HTTPResponse {
	t.Helper()
	response, err := api.Lambda(h)(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	if response.StatusCode >= 400 {
		checkAnswer(t, response)
		checkDocumented(t, r.RouteKey, response)
	}
	return response
}

// records returns the revision, and what it is called, of each organization.
func records(t *testing.T, s *org.Service) string {
	t.Helper()
	all, err := s.Store.Organizations(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, o := range all {
		b.WriteString(o.ID + " " + o.Name + " " + string(o.Status) + " " + o.Committed + "\n")
	}
	return b.String()
}

func forgetKeys(t *testing.T, db mongodbtest.Database) {
	t.Helper()
	if err := db.Client.Database(db.Name).Collection("idempotency_keys").Drop(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// TestRepeatRefused uses a key again after a refusal, which has changed nothing.
func TestRepeatRefused(t *testing.T) {
	s, _ := newService(t)
	mustCreate(t, s, "Acme", "a@example.com")
	taken := withKey(createRequest(registration("ACME", "b@example.com")), "key-1")
	for range 2 {
		wantStatus(t, call(t, api.Create(s), taken), 409)
	}
	wantStatus(t, call(t, api.Create(s), withKey(createRequest(`{}`), "key-1")), 422)
	wantStatus(t, call(t, api.Create(s), withKey(createRequest(registration("Bolt", "b@example.com")), "key-1")), 201)
}

// TestKeyExpires uses a key for another request, which is possible a day later.
func TestKeyExpires(t *testing.T) {
	s, _ := newService(t)
	start := time.Now()
	for _, test := range []struct {
		name   string
		after  time.Duration
		status int
	}{
		{"Acme", 0, 201}, {"Bolt", 24*time.Hour - time.Second, 422}, {"Bolt", 24 * time.Hour, 201},
	} {
		s.Now = func() time.Time { return start.Add(test.after) }
		wantStatus(t, call(t, api.Create(s), withKey(createRequest(registration(test.name, test.name+"@example.com")), "1")), test.status)
	}
}

// TestRepeatPassword repeats a request with another password: the answer must not say that
// this one is set.
func TestRepeatPassword(t *testing.T) {
	s, db := newService(t)
	now := time.Now().Truncate(150 * time.Second) // guesses are counted in such parts of a quarter of an hour
	s.Now = func() time.Time { return now }
	first := withKey(createRequest(registration("Acme", "a@example.com")), "key-1")
	created := call(t, api.Create(s), first)
	mustLogin(t, s, "a@example.com") // from where the first request comes
	other := withKey(createRequest(strings.Replace(first.Body, adminPassword, "Other@12345", 1)), "key-1")
	other.RequestContext.HTTP.SourceIP = "192.0.2.77"
	if p := problemOf(t, call(t, api.Create(s), other)); p.Type != "/problems/key-reused" {
		t.Errorf("another password: %+v", p)
	}
	if again := call(t, api.Create(s), first); again.Body != created.Body {
		t.Errorf("the same password: %s, want %s", again.Body, created.Body)
	}
	for n := 2; n <= 22; n++ { // one was compared above
		want := "/problems/key-reused"
		if n > 20 {
			want = "/problems/too-many-attempts"
		}
		if p := problemOf(t, call(t, api.Create(s), other)); p.Type != want {
			t.Errorf("password %d: %+v; want %s", n, p, want)
		}
	}
	if again := call(t, api.Create(s), first); again.Body != created.Body {
		t.Errorf("from where the admin has logged in: %s, want %s", again.Body, created.Body)
	}
	now = now.Add(17 * time.Minute)
	if p := problemOf(t, call(t, api.Create(s), other)); p.Type != "/problems/too-many-attempts" {
		t.Errorf("within the quarter of an hour: %+v", p)
	}
	now = now.Add(time.Minute)
	if p := problemOf(t, call(t, api.Create(s), other)); p.Type != "/problems/key-reused" {
		t.Errorf("after it and a part of it: %+v", p)
	}
	s.Now = nil
	caller, _ := mustLogin(t, s, "a@example.com")
	change := withKey(as(caller, updateRequest(`{"password":"Changed@123","current_password":"`+adminPassword+`"}`)), "key-2")
	changed := call(t, api.Update(s), change)
	wantStatus(t, changed, 200)
	// The token is revoked by the change, which the client does not know.
	if again := call(t, api.Update(s), change); again.StatusCode != 200 || again.Body != changed.Body {
		t.Errorf("repeated: %d %s, want %s", again.StatusCode, again.Body, changed.Body)
	}
	// The current password is in no fingerprint, which would be a fast hash of it.
	forgotten := change
	forgotten.Body = strings.Replace(change.Body, adminPassword, "Forgotten@1", 1)
	if again := call(t, api.Update(s), forgotten); again.Body != changed.Body {
		t.Errorf("repeated with another current password: %d %s, want %s", again.StatusCode, again.Body, changed.Body)
	}
	change.Body = strings.Replace(change.Body, "Changed@123", "Changed@124", 1)
	if p := problemOf(t, call(t, api.Update(s), change)); p.Type != "/problems/key-reused" {
		t.Errorf("another new password: %+v", p)
	}
	cursor, err := db.Client.Database(db.Name).Collection("idempotency_keys").Find(t.Context(), bson.D{})
	if err != nil {
		t.Fatal(err)
	}
	var stored []bson.M
	if err := cursor.All(t.Context(), &stored); err != nil || len(stored) != 2 {
		t.Fatal(stored, err)
	}
	text, err := bson.MarshalExtJSON(bson.M{"keys": stored}, false, false)
	if err != nil || strings.Contains(string(text), "key-") || strings.Contains(string(text), adminPassword) || strings.Contains(string(text), "Changed@123") {
		t.Errorf("stored: %s, %v", text, err)
	}
}

// TestKeyOfAnother uses the keys of other people, which are keys of one's own. Only operators have
// theirs in common.
func TestKeyOfAnother(t *testing.T) {
	s, _ := newService(t)
	rename := func(c auth.Caller, name string) events.APIGatewayV2HTTPRequest {
		return withKey(as(c, updateRequest(`{"organization_name":"`+name+`"}`)), "1")
	}
	acme, bolt := mustCreate(t, s, "Acme", "a@example.com"), mustCreate(t, s, "Bolt", "b@example.com")
	wantStatus(t, call(t, api.Update(s), rename(acme, "Acme 2")), 200)
	wantStatus(t, call(t, api.Update(s), rename(bolt, "Bolt 2")), 200)

	// The request is another one in another organization of the same admin, or with If-Match.
	if _, err := s.CreateOrganization(t.Context(), acme, org.CreateOrganizationRequest{OrganizationName: "Mine"}); err != nil {
		t.Fatal(err)
	}
	tokens, err := s.Switch(t.Context(), acme, org.SwitchRequest{OrganizationName: "Mine"})
	if err != nil {
		t.Fatal(err)
	}
	for name, r := range map[string]events.APIGatewayV2HTTPRequest{
		"in another organization": rename(mustVerify(t, tokens.Access), "Acme 2"),
		"with If-Match":           withHeader(rename(acme, "Acme 2"), "if-match", `"1"`),
	} {
		if p := problemOf(t, call(t, api.Update(s), r)); p.Type != "/problems/key-reused" {
			t.Errorf("%s: %+v", name, p)
		}
	}

	act := asOperator("arn:aws:iam::123456789012:user/olivia", withBody(request("POST", "/operator/organizations/"+acme.OrganizationID+"/suspend", ""), `{"reason":"x"}`))
	act.RouteKey = "POST /operator/organizations/{id}/suspend"
	wantStatus(t, call(t, api.Suspend(s), withKey(act, "1")), 200)
	other := asOperator("arn:aws:iam::123456789012:user/oscar", withBody(act, `{"reason":"y"}`))
	if p := problemOf(t, call(t, api.Suspend(s), withKey(other, "1"))); p.Type != "/problems/key-reused" {
		t.Errorf("by another operator: %+v", p)
	}
	wantStatus(t, call(t, api.Create(s), withKey(createRequest(registration("Core", "c@example.com")), "1")), 201)
	act.RawPath, act.RequestContext.HTTP.Path = "/operator/organizations/x/suspend", "/operator/organizations/x/suspend"
	wantStatus(t, call(t, api.Suspend(s), withKey(act, "2")), 404)
}

// TestRepeatInvitation repeats an invitation after a crash and another invitation by the same
// admin.
func TestRepeatInvitation(t *testing.T) {
	s, _ := newService(t)
	s.Mailer = noMail{}
	owner := mustCreate(t, s, "Acme", "a@example.com")
	first, later := *s, *s
	first.Store = forgetful{s.Store}
	later.Now = func() time.Time { return time.Now().Add(org.StaleAfter + time.Second) }
	invite := func(email string) events.APIGatewayV2HTTPRequest {
		return withKey(as(owner, withBody(request("POST", "/org/invitations", ""), `{"email":"`+email+`","role":"member"}`)), email)
	}
	invited := callPlain(t, api.Invite(&first), invite(" B@example.com"))
	callPlain(t, api.Invite(&first), invite("c@example.com"))
	if again := callPlain(t, api.Invite(&later), invite(" B@example.com")); again.StatusCode != 201 || again.Body != invited.Body {
		t.Errorf("repeated: %d %s, want %s", again.StatusCode, again.Body, invited.Body)
	}
}

// TestRepeatOfDeleted repeats requests after a crash and the deletion of the organization.
func TestRepeatOfDeleted(t *testing.T) {
	s, _ := newService(t)
	owner := mustCreate(t, s, "Acme", "a@example.com")
	first, later := *s, *s
	first.Store = forgetful{s.Store}
	later.Now = func() time.Time { return time.Now().Add(org.StaleAfter + time.Second) }
	renaming := withKey(as(owner, updateRequest(`{"organization_name":"Bolt"}`)), "1")
	renamed := call(t, api.Update(&first), renaming)
	act := asOperator("arn:aws:iam::123456789012:user/olivia", withBody(request("POST", "/operator/organizations/"+owner.OrganizationID+"/reactivate", ""), `{"reason":"x"}`))
	act.RouteKey = "POST /operator/organizations/{id}/reactivate"
	if _, err := s.Suspend(t.Context(), "olivia", owner.OrganizationID, org.ActRequest{Reason: "x"}); err != nil {
		t.Fatal(err)
	}
	wantStatus(t, call(t, api.Reactivate(&first), withKey(act, "2")), 200)
	owner, _ = mustLogin(t, s, "a@example.com")
	wantStatus(t, call(t, api.Delete(s), as(owner, request("DELETE", "/org/delete", ""))), 200)
	before, _, _ := strings.Cut(renamed.Body, `"updated_at"`)
	if again := call(t, api.Update(&later), renaming); again.StatusCode != 200 || !strings.HasPrefix(again.Body, before) {
		t.Errorf("renamed again: %d %s, want %s", again.StatusCode, again.Body, renamed.Body)
	}
	var shown struct{ Status, ID string }
	again := call(t, api.Reactivate(&later), withKey(act, "2"))
	if json.Unmarshal([]byte(again.Body), &shown); again.StatusCode != 200 || shown.Status != "purged" || shown.ID != owner.OrganizationID {
		t.Errorf("reactivated again: %d %s", again.StatusCode, again.Body)
	}
}

// TestRepeatInVain repeats a request that can't begin, as often as it likes.
func TestRepeatInVain(t *testing.T) {
	s, db := newService(t)
	owner := mustCreate(t, s, "Acme", "a@example.com")
	invite := withKey(as(owner, withBody(request("POST", "/org/invitations", ""), `{"email":"b@example.com","role":"member"}`)), "1")
	invite.RouteKey = "POST /org/invitations"
	before := records(t, s)
	for range 110 {
		response, err := api.Lambda(api.Invite(s))(t.Context(), invite)
		if p := problemOf(t, response); err != nil || p.Type != "/problems/mail-unavailable" {
			t.Fatalf("%+v, %v", p, err)
		}
	}
	if n, err := db.Client.Database(db.Name).Collection("idempotency_keys").CountDocuments(t.Context(), bson.D{}); n != 0 || err != nil || records(t, s) != before {
		t.Errorf("%d keys are left, %v", n, err)
	}
	s.Mailer = noMail{}
	wantStatus(t, callPlain(t, api.Invite(s), invite), 201)
}

// TestRepeatWithPassword repeats a request that sets no password with one, and the other way round,
// which are other requests. So the key tells nobody whether a guess at the password is right.
func TestRepeatWithPassword(t *testing.T) {
	s, db := newService(t)
	caller := mustCreate(t, s, "Acme", "a@example.com")
	update := func(key, body string) (status int, problem string) {
		t.Helper()
		r := call(t, api.Update(s), withKey(as(caller, updateRequest(body)), key))
		if r.StatusCode == 200 {
			return 200, ""
		}
		return r.StatusCode, problemOf(t, r).Type
	}
	wantReused := func(key, body string) {
		t.Helper()
		if status, problem := update(key, body); problem != "/problems/key-reused" {
			t.Errorf("%s: %d %s; want key-reused", body, status, problem)
		}
	}
	const name = `"organization_name":"Acme"`
	withGuess := func(guess string) string { return `{` + name + `,"password":"` + guess + `","current_password":"?"}` }
	if status, problem := update("none", `{`+name+`}`); status != 200 {
		t.Fatal(status, problem)
	}
	for range 30 {
		wantReused("none", withGuess("A guess 123"))
	}
	wantReused("none", withGuess(adminPassword))
	set := `{` + name + `,"password":"Changed@123","current_password":"` + adminPassword + `"}`
	if status, problem := update("set", set); status != 200 {
		t.Fatal(status, problem)
	}
	wantReused("set", `{`+name+`}`)

	// A key of an older version doesn't say whether its request sets one.
	keys := db.Client.Database(db.Name).Collection("idempotency_keys")
	if _, err := keys.UpdateMany(t.Context(), bson.D{}, bson.D{{Key: "$unset", Value: bson.D{{Key: "sets_password", Value: ""}}}}); err != nil {
		t.Fatal(err)
	}
	if status, problem := update("set", set); status != 200 {
		t.Errorf("repeated across an update: %d %s", status, problem)
	}
	for range 20 {
		wantReused("none", withGuess("A guess 123"))
	}
	if status, problem := update("none", withGuess("Changed@123")); problem != "/problems/too-many-attempts" {
		t.Errorf("after 20 guesses: %d %s", status, problem)
	}
}

// TestRepeatWhileSuspended repeats requests of a tenant whom an operator has suspended since.
func TestRepeatWhileSuspended(t *testing.T) {
	s, _ := newService(t)
	owner := mustCreate(t, s, "Acme", "a@example.com")
	renaming := withKey(as(owner, updateRequest(`{"organization_name":"Bolt"}`)), "1")
	adding := withKey(as(owner, withBody(request("POST", "/admin/organizations", ""), `{"organization_name":"Core"}`)), "2")
	wantStatus(t, call(t, api.Update(s), renaming), 200)
	wantStatus(t, call(t, api.AddOrganization(s), adding), 201)
	if _, err := s.Suspend(t.Context(), "olivia", owner.OrganizationID, org.ActRequest{Reason: "unpaid"}); err != nil {
		t.Fatal(err)
	}
	for _, answer := range []events.APIGatewayV2HTTPResponse{call(t, api.Update(s), renaming), call(t, api.AddOrganization(s), adding)} {
		if p := problemOf(t, answer); p.Type != "/problems/token-revoked" {
			t.Errorf("%+v", p)
		}
	}
}

// TestRepeatAfterExpiry repeats a request with a token that has expired since. The authorizer may have
// answered before.
func TestRepeatAfterExpiry(t *testing.T) {
	s, _ := newService(t)
	owner := mustCreate(t, s, "Acme", "a@example.com")
	renaming := withKey(as(owner, updateRequest(`{"organization_name":"Bolt"}`)), "1")
	first := call(t, api.Update(s), renaming)
	wantStatus(t, first, 200)
	if again := call(t, api.Update(s), renaming); again.Body != first.Body {
		t.Errorf("%s; want %s", again.Body, first.Body)
	}
	s.Now = func() time.Time { return owner.ExpiresAt }
	if p := problemOf(t, call(t, api.Update(s), renaming)); p.Type != "/problems/token-revoked" {
		t.Errorf("%+v", p)
	}
}

func TestHostileKeys(t *testing.T) {
	s, _ := newService(t)
	for name, key := range map[string]string{"none": "", "long": strings.Repeat("x", 256), "a line": "a\nb", "not ASCII": "schlüssel", "NUL": "a\x00"} {
		p := problemOf(t, call(t, api.Create(s), withKey(createRequest(registration("Acme", "a@example.com")), key)))
		if p.Type != "/problems/invalid-fields" || p.Errors[0].Field != "Idempotency-Key" {
			t.Errorf("%s: %+v", name, p)
		}
	}
	quoted := withKey(createRequest(registration("Acme", "a@example.com")), `"`+strings.Repeat("~", 253)+`"`)
	for range 2 {
		wantStatus(t, call(t, api.Create(s), quoted), 201)
	}
}

// TestIfMatch changes an organization only if it is as it was seen.
func TestIfMatch(t *testing.T) {
	s, _ := newService(t)
	owner := mustCreate(t, s, "Acme", "a@example.com")
	get := func(name string) string {
		return headerOf(call(t, api.Get(s), request("GET", "/org/get", "organization_name="+name)), "ETag")
	}
	rename := func(name, match string) events.APIGatewayV2HTTPResponse {
		return call(t, api.Update(s), withHeader(as(owner, updateRequest(`{"organization_name":"`+name+`"}`)), "if-match", match))
	}
	seen := get("Acme")
	if len(seen) < 3 || seen[0] != '"' {
		t.Fatalf("ETag: %q", seen)
	}
	renamed := rename("Bolt", seen)
	wantStatus(t, renamed, 200)
	if got := headerOf(renamed, "ETag"); got != get("Bolt") || got == seen {
		t.Errorf("ETag after a rename: %q; get has %q", got, get("Bolt"))
	}
	for _, match := range []string{seen, "W/" + get("Bolt"), `"x"`, `"-1"`, `"0` + get("Bolt")[1:], `"", "1"`, `"a,b"`, ` , "1",, `} {
		response := rename("Core", match)
		if p := problemOf(t, response); p.Type != "/problems/organization-changed" {
			t.Errorf("If-Match: %s: %+v", match, p)
		}
	}
	for _, match := range []string{"", "x", "1", `"1`, `"1" "2"`, `*, "1"`, ",", `"1" x`} {
		if p := problemOf(t, rename("Core", match)); p.Type != "/problems/invalid-fields" || p.Errors[0].Field != "If-Match" {
			t.Errorf("If-Match: %s: %+v", match, p)
		}
	}
	wantStatus(t, rename("Core", `"x", `+get("Bolt")), 200)
	wantStatus(t, rename("Core", get("Core")+" ,"), 200)
	wantStatus(t, rename("Dune", "*"), 200)
	remove := func(match string) events.APIGatewayV2HTTPResponse {
		return call(t, api.Delete(s), withHeader(as(owner, request("DELETE", "/org/delete", "")), "if-match", match))
	}
	if p := problemOf(t, remove(seen)); p.Type != "/problems/organization-changed" {
		t.Errorf("delete: %+v", p)
	}
	if p := problemOf(t, remove("x")); p.Errors == nil || p.Errors[0].Field != "If-Match" {
		t.Errorf("delete: %+v", p)
	}
	// A change of the email changes the revision in no way that an answer could tell.
	changed := call(t, api.Update(s), withHeader(as(owner, updateRequest(`{"email":"b@example.com","current_password":"`+adminPassword+`"}`)), "if-match", get("Dune")))
	if got := headerOf(changed, "ETag"); changed.StatusCode != 200 || got != "" {
		t.Errorf("%d with the ETag %q", changed.StatusCode, got)
	}
	owner, _ = mustLogin(t, s, "b@example.com")
	wantStatus(t, remove(get("Dune")), 200)
}
