package e2e

import (
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"orgservice/local/embedded"
	"orgservice/shared/api"
)

// TestSuspension calls every route for an organization of every status but active: with no
// token, with one that the authorizer has accepted before, and with one that it has not seen.
func TestSuspension(t *testing.T) {
	t.Parallel()
	database, err := embedded.Start(t.TempDir(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer database.Close()
	p := newLocal(t, "", []string{"MONGO_URL=" + database.URL(), "DELETE_GRACE=1"})
	inside, err := mongo.Connect(options.Client().ApplyURI(database.URL()))
	if err != nil {
		t.Fatal(err)
	}
	defer inside.Disconnect(t.Context())
	master := inside.Database(masterDB(p.data))
	c := newLocalClient(t, p)

	set := func(o tenant, status string) {
		t.Helper()
		id, err := bson.ObjectIDFromHex(o.id)
		if err != nil {
			t.Fatal(err)
		}
		r, err := master.Collection("organizations").UpdateOne(t.Context(), bson.D{{Key: "_id", Value: id}}, bson.D{{Key: "$set", Value: bson.D{{Key: "status", Value: status}}}})
		if err != nil || r.MatchedCount != 1 {
			t.Fatalf("%v, %v", r, err)
		}
	}
	for status, bring := range map[string]func(tenant){
		"suspended":    func(o tenant) { c.operate("POST", "/"+o.id+"/suspend", object{"reason": "unpaid"}).want(t, 200) },
		"provisioning": func(o tenant) { set(o, "provisioning") },
		"deleting":     func(o tenant) { set(o, "deleting") },
		"deleted":      func(o tenant) { c.delete(o.token).want(t, 200) },
		"purged": func(o tenant) {
			c.delete(o.token).want(t, 200)
			c.operate("POST", "/"+o.id+"/purge", object{"reason": "asked for"}).want(t, 200)
		},
	} {
		o := newTenant(c) // its token is cached by the next call
		c.me(o.token).want(t, 200)
		login := c.login(o.Email, o.Password).want(t, 200) // and this one is not
		guest := "guest-" + o.Email
		c.invite(o.token, guest, "member").want(t, 201)
		ticket := p.ticket(t, guest, "/accept-invitation", 1)
		bring(o)

		for _, row := range api.Routes() {
			event := sampleEvent(t, row)
			call := func(headers ...string) answer {
				var body any
				if event.Body != "" {
					body = event.Body
				}
				return c.call(row.Method, event.RawPath+"?"+event.RawQueryString, body, headers...)
			}
			switch {
			case row.Admin:
				call().wantRefusal(t, c.gateway.unauthorized)
				for _, token := range []string{o.token, login.text("access_token")} {
					if a := call("Authorization", "Bearer "+token); a.text("type") != "/problems/token-revoked" {
						t.Errorf("%s: %v; want token-revoked", status, a)
					}
				}
			case row.Operator:
				call().wantRefusal(t, c.gateway.forbidden)
				call("Authorization", "Bearer "+o.token).wantRefusal(t, c.gateway.forbidden)
			case row.Page:
			default:
				open, known := openOf[row.Function]
				if !known {
					t.Errorf("it is not said here what %s does for an organization that is not active", row.Function)
				} else if open != nil {
					open(t, c, status, o, login.text("refresh_token"), ticket)
				}
			}
		}

		shown := c.operate("GET", "/"+o.id, nil)
		if shown.want(t, 200).text("status") != status {
			t.Errorf("%s: %v", status, shown)
		}
		wantGone := func() {
			t.Helper()
			c.me(o.token).want(t, 401)
			c.me(login.text("access_token")).want(t, 401)
			c.refresh(login.text("refresh_token")).want(t, 401)
		}
		switch status {
		case "purged":
			c.operate("POST", "/"+o.id+"/restore", object{"reason": "a mistake"}).want(t, 404)
			c.create(registration{o.Name, o.Email, o.Password}).want(t, 201)
			continue
		case "deleted":
			c.operate("POST", "/"+o.id+"/suspend", object{"reason": "unpaid"}).want(t, 404)
			c.operate("POST", "/"+o.id+"/restore", object{"reason": "a mistake"}).want(t, 200)
			wantGone()
			wantProblem(t, c.accept(ticket, "Guest@12345"), "invalid-ticket")
			o.wantIntact(c)
			continue
		}
		wantProblem(t, c.create(registration{o.Name, "other-" + o.Email, o.Password}), "name-taken")
		if status != "suspended" {
			c.operate("POST", "/"+o.id+"/suspend", object{"reason": "unpaid"}).want(t, 404)
			c.operate("POST", "/"+o.id+"/reactivate", object{"reason": "paid"}).want(t, 404)
			continue
		}
		c.operate("POST", "/"+o.id+"/reactivate", object{"reason": "paid"}).want(t, 200)
		wantGone()
		c.accept(ticket, "Guest@12345").want(t, 200)
		o.wantIntact(c)
	}
}

// openOf says what the open routes answer for an organization that is not active. nil: the
// route has nothing to do with an organization, or only with the person.
var openOf = map[string]func(t *testing.T, c *client, status string, o tenant, refresh, ticket string){
	"create": nil, "logout": nil, "forgot": nil, "reset": nil, "verify": nil, "jwks": nil, "health": nil, "docs": nil,
	"get": func(t *testing.T, c *client, status string, o tenant, refresh, ticket string) {
		wantProblem(t, c.get(o.Name), "organization-not-found")
	},
	"login": func(t *testing.T, c *client, status string, o tenant, refresh, ticket string) {
		wantProblem(t, c.login(o.Email, o.Password), "wrong-credentials")
		wantProblem(t, c.call("POST", "/admin/login", object{"email": o.Email, "password": o.Password, "organization_name": o.Name}), "wrong-credentials")
	},
	"refresh": func(t *testing.T, c *client, status string, o tenant, refresh, ticket string) {
		wantProblem(t, c.refresh(refresh), "invalid-refresh-token")
	},
	"introspect": func(t *testing.T, c *client, status string, o tenant, refresh, ticket string) {
		if a := c.introspect(introspectionSecret, o.token).want(t, 200); a.object()["active"] != false {
			t.Errorf("%s: %v", status, a)
		}
	},
	"accept": func(t *testing.T, c *client, status string, o tenant, refresh, ticket string) {
		wantProblem(t, c.accept(ticket, "Guest@12345"), "invalid-ticket")
	},
}

// sampleEvent returns the sample event of the route.
func sampleEvent(t *testing.T, row api.Route) (event struct{ RawPath, RawQueryString, Body string }) {
	t.Helper()
	data, err := os.ReadFile("../../events/" + row.Function + ".json")
	if err == nil {
		err = json.Unmarshal(data, &event)
	}
	if err != nil {
		t.Fatal(err)
	}
	return event
}

// TestOperator lists, suspends and reactivates as an operator.
func TestOperator(t *testing.T) {
	t.Parallel()
	p := newEmptyLocal(t)
	c := newLocalClient(t, p)
	word := strings.ToLower(unique())
	var ids []string
	for _, name := range []string{"Alpha", "Beta", "Gamma"} {
		r := newRegistration()
		r.Name = word + " " + name
		ids = append(ids, c.create(r).want(t, 201).text("id"))
	}
	other := newTenant(c)

	list := func(query string) (found []string, next string) {
		t.Helper()
		a := c.operate("GET", query, nil).want(t, 200)
		for _, o := range a.object()["organizations"].([]any) {
			found = append(found, o.(object)["id"].(string))
		}
		return found, a.text("next")
	}
	want := func(query string, want ...string) {
		t.Helper()
		if found, _ := list(query); !slices.Equal(found, want) {
			t.Errorf("%s: %q; want %q", query, found, want)
		}
	}
	want("", append(slices.Clone(ids), other.id)...)
	want("?prefix="+strings.ToUpper(word), ids...)
	want("?prefix="+word+"+b", ids[1])
	want("?prefix=" + word + "_d")
	want("?status=suspended")

	// A page that was begun goes on where it was, whatever happens meanwhile.
	first, next := list("?limit=2")
	if !slices.Equal(first, ids[:2]) || next == "" {
		t.Errorf("%q, %q", first, next)
	}
	c.operate("POST", "/"+ids[0]+"/suspend", object{"reason": "unpaid"}).want(t, 200)
	c.update(other.token, object{"organization_name": "A " + word}).want(t, 200)
	want("?limit=2&after="+next, ids[2], other.id)
	want("?status=suspended", ids[0])
	want("?status=active&prefix="+word, ids[1:]...)
	want("?prefix="+word+"&after="+ids[1]+"00000000", ids[2]) // in the order of texts
	c.operate("GET", "?after=x", nil).wantFields(t, "after")
	c.operate("GET", "?prefix=***&status=x", nil).wantFields(t, "prefix", "status")

	// What is repeated changes nothing.
	again := c.operate("POST", "/"+ids[0]+"/suspend", object{"reason": "unpaid"}).want(t, 200)
	c.operate("POST", "/"+ids[0]+"/reactivate", object{"reason": "  paid\n"}).want(t, 200)
	shown := c.operate("GET", "/"+ids[0], nil).want(t, 200)
	var history []string
	for _, a := range shown.object()["history"].([]any) {
		a := a.(object)
		history = append(history, a["act"].(string)+": "+a["reason"].(string))
		if by := a["by"]; by != "arn:aws:iam::123456789012:user/local" {
			t.Errorf("by %q", by)
		}
	}
	if again.text("status") != "suspended" || shown.text("status") != "active" || !slices.Equal(history, []string{"suspend: unpaid", "reactivate: paid"}) {
		t.Errorf("%v\n%v", again, shown)
	}
	for _, reason := range []string{"", " \n", "\u200b", "a\x00b", "a\nb", "a\u0085b", strings.Repeat("x", 501)} {
		c.operate("POST", "/"+ids[0]+"/suspend", object{"reason": reason}).wantFields(t, "reason")
	}
	for _, id := range []string{strings.Repeat("0", 24), "x", "x%252f" + ids[0], strings.ToUpper(ids[0]), ids[0] + "%253f", ids[0] + "%252f"} {
		if a := c.operate("GET", "/"+id, nil); a.status != 404 {
			t.Errorf("%v; want 404", a)
		}
		if a := c.operate("POST", "/"+id+"/suspend", object{"reason": "x"}); a.status != 404 && a.status != 422 {
			t.Errorf("%v; want 404 or 422", a)
		}
	}
	for _, query := range []string{"?status=", "?prefix="} {
		c.operate("GET", query, nil).want(t, 422)
	}
	long := newRegistration()
	long.Name = word + " " + strings.Repeat("long ", 12)
	id := c.create(long).want(t, 201).text("id")
	for _, prefix := range []string{word + "+long", word + strings.Repeat("+long", 10), word + strings.Repeat("+long", 12)} {
		want("?prefix="+prefix, id)
	}
	for _, token := range []string{"", "x", c.operatorToken + "x", other.token} {
		c.call("GET", "/operator/organizations", nil, "Authorization", "Bearer "+token).wantRefusal(t, c.gateway.forbidden)
	}

	// From a terminal.
	command := func(args ...string) (code int, out, errs string) {
		return runLocal(t, p.data, nil, append([]string{"operator"}, args...)...)
	}
	if code, out, errs := command(); code != 0 || !strings.Contains(out, "NAME ") || !strings.Contains(out, ids[2]) || !strings.Contains(out, word+" Gamma") {
		t.Errorf("%d\n%s%s", code, out, errs)
	}
	if code, out, errs := command("list", word+" a"); code != 0 || strings.Count(out, "\n") != 2 || !strings.Contains(out, ids[0]) {
		t.Errorf("%d\n%s%s", code, out, errs)
	}
	if code, out, errs := command("suspend", ids[1], "has", "not", "paid"); code != 0 || !strings.Contains(out, "status   ") || !strings.Contains(out, ": has not paid\n") {
		t.Errorf("%d\n%s%s", code, out, errs)
	}
	want("?status=suspended", ids[1])
	if code, _, errs := command("show", "x"); code != 1 || errs != "404 Not Found: there is no organization of that id\n" {
		t.Errorf("%d: %s", code, errs)
	}
	if code, _, errs := command("suspend", ids[1]); code != 1 || !strings.HasPrefix(errs, "usage: ") {
		t.Errorf("%d: %s", code, errs)
	}
	// Where there is no grace, nothing can be restored.
	gone := newTenant(c)
	if a := c.delete(gone.token).want(t, 200); a.object()["restorable_until"] != nil {
		t.Errorf("%v", a)
	}
	if code, _, errs := command("restore", gone.id, "a", "mistake"); code != 1 || errs != "404 Not Found: no organization of that id is deleted and can be restored\n" {
		t.Errorf("%d: %s", code, errs)
	}
	if code, out, errs := command("rename", ids[2], word+" Delta", "asked", "for"); code != 0 || !strings.Contains(out, word+" Delta\n") || !strings.Contains(out, " rename by arn:aws:iam::123456789012:user/local: asked for\n") {
		t.Errorf("%d\n%s%s", code, out, errs)
	}
	invited := newRegistration()
	if code, out, errs := command("invite", invited.Email, invited.Name); code != 0 || out != "a link to set up "+invited.Name+" is mailed to "+invited.Email+"\n" {
		t.Errorf("%d: %s%s", code, out, errs)
	}
	p.ticket(t, invited.Email, "/finish-sign-up", 1)
	// Without make run's token, the request is signed, which only AWS can check.
	if code, _, errs := command("-url", p.url, "list"); code != 1 || !strings.Contains(errs, "AWS_ACCESS_KEY_ID") {
		t.Errorf("%d: %s", code, errs)
	}

	if log := p.out.String(); !strings.Contains(log, `"by":"arn:aws:iam::123456789012:user/local"`) || strings.Contains(log, other.token) {
		t.Errorf("log:\n%s", log)
	}
}
