package e2e

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/golang-jwt/jwt/v5"
)

// TestOtherTenant tries to reach another tenant with a valid token.
func TestOtherTenant(t *testing.T) {
	t.Parallel()
	c := newClient(t)
	o, victim := newTenant(c), newTenant(c)
	c.delete(o.token, victim.Name).want(t, 403)
	c.update(o.token, object{"organization_name": victim.Name}).want(t, 409)
	c.update(o.token, object{"organization_name": strings.ToUpper(victim.Name)}).want(t, 409)
	c.update(o.token, object{"email": victim.Email, "current_password": o.Password}).want(t, 409)
	for _, field := range []string{"id", "_id", "organization_id", "collection_name", "admin_id", "$set"} {
		c.update(o.token, object{"organization_name": "New " + o.Name, field: victim.id}).want(t, 400)
	}
	for _, name := range []string{"id", "organization_id", "name"} {
		c.call("PUT", "/org/update?"+name+"="+victim.id, object{"organization_name": o.Name}, "Authorization", "Bearer "+o.token).
			wantFields(t, name)
	}
	if a := c.delete(o.token).want(t, 200); a.text("id") != o.id {
		t.Errorf("%v; want %s", a, o.id)
	}
	victim.wantIntact(c)
}

// TestOtherMeant sends deletes with a valid token that name another organization
// in a body or a parameter that delete does not take. They must not delete.
func TestOtherMeant(t *testing.T) {
	t.Parallel()
	c := newClient(t)
	o, other := newTenant(c), newTenant(c)
	remove := func(query string, body any) answer {
		return c.call("DELETE", "/org/delete"+query, body, "Authorization", "Bearer "+o.token)
	}
	for _, name := range []string{"name", "organizationName", "Organization_Name", "organization_name[]", "id"} {
		remove("?"+url.Values{name: {other.Name}}.Encode(), nil).wantFields(t, name)
		remove("?"+url.Values{name: {other.Name}, "organization_name": {o.Name}}.Encode(), nil).wantFields(t, name)
	}
	remove("?"+url.Values{"name": {other.Name}, "id": {other.id}, "organization_name": {o.Name, other.Name}}.Encode(), nil).
		wantFields(t, "name", "id", "organization_name")
	for _, body := range []any{object{"organization_name": other.Name}, object{"name": other.Name}, object{}, other.Name, " "} {
		remove("", body).want(t, 400)
		remove("?"+url.Values{"organization_name": {o.Name}}.Encode(), body).want(t, 400)
	}
	for _, found := range []tenant{o, other} {
		found.wantIntact(c)
	}
	// Other endpoints that take no body or no such parameter.
	for _, path := range []string{"/org/get?organization_name=" + url.QueryEscape(o.Name), "/admin/me", "/.well-known/jwks.json"} {
		c.call("GET", path, object{}, "Authorization", "Bearer "+o.token).want(t, 400)
	}
	c.call("GET", "/org/get?"+url.Values{"organization_name": {o.Name}, "name": {other.Name}}.Encode(), nil).wantFields(t, "name")
}

// TestFreedName registers a name that another organization had before.
func TestFreedName(t *testing.T) {
	t.Parallel()
	c := newClient(t)
	t.Run("Deleted", func(t *testing.T) {
		before := newTenant(c)
		c.delete(before.token).want(t, 200)
		// The new organization has all of the old one except the token.
		a := c.create(before.registration).want(t, 201)
		after := tenant{before.registration, a.text("id"), mustLogin(c, before.Email, before.Password)}
		if after.id == before.id {
			t.Errorf("%v: the id of the organization that was there before", a)
		}
		c.update(before.token, object{"organization_name": "Mine " + unique()}).want(t, 401)
		c.delete(before.token, before.Name).want(t, 401)
		c.delete(before.token).want(t, 401)
		after.wantIntact(c)
		c.delete(after.token).want(t, 200)
	})
	t.Run("RenamedAway", func(t *testing.T) {
		o := newTenant(c)
		c.update(o.token, object{"organization_name": "New " + o.Name}).want(t, 200)
		r := newRegistration()
		r.Name = o.Name
		after := tenant{r, c.create(r).want(t, 201).text("id"), mustLogin(c, r.Email, r.Password)}
		c.update(o.token, object{"organization_name": o.Name}).want(t, 409)
		c.delete(o.token, o.Name).want(t, 403)
		if a := c.delete(o.token, "New "+o.Name).want(t, 200); a.text("id") != o.id {
			t.Errorf("%v; want %s", a, o.id)
		}
		after.wantIntact(c)
	})
}

// TestInjection sends values that a database may take for operators or patterns.
func TestInjection(t *testing.T) {
	t.Parallel()
	c := newClient(t)
	o := newTenant(c)
	for _, value := range []any{
		object{"$ne": nil}, object{"$gt": ""}, object{"$regex": ".*"}, object{"$where": "1"}, object{}, []any{}, []any{o.Email},
		[]any{object{"$ne": nil}}, true, 0, nil,
	} {
		for field, rest := range map[string]object{
			"email":    {"password": o.Password},
			"password": {"email": o.Email},
		} {
			rest[field] = value
			c.call("POST", "/admin/login", rest).wantFields(t, field)
		}
		for _, field := range []string{"organization_name", "email", "password"} {
			r := newRegistration()
			body := object{"organization_name": r.Name, "email": r.Email, "password": r.Password}
			body[field] = value
			c.call("POST", "/org/create", body).wantFields(t, field)
			change := object{"organization_name": o.Name, "current_password": o.Password}
			change[field] = value
			c.update(o.token, change).wantFields(t, field)
		}
		c.update(o.token, object{"email": "new-" + o.Email, "current_password": value}).wantFields(t, "current_password")
	}
	for _, text := range []string{`{"$ne": null}`, `{"$gt": ""}`, `{"$regex": ".*"}`, ".*a", "^Tenant", "' OR '1'='1", "$where: 1"} {
		if a := c.get(text + unique()); a.status != 404 {
			t.Errorf("%v; want 404", a)
		}
		if a := c.delete(o.token, text); a.status != 403 {
			t.Errorf("%v; want 403", a)
		}
		// In a name it has no special meaning.
		r := newRegistration()
		r.Name = text + " " + unique()
		created := c.create(r).want(t, 201)
		if a := c.get(r.Name).want(t, 200); a.text("id") != created.text("id") || a.text("organization_name") != r.Name {
			t.Errorf("%v; want %s", a, r.Name)
		}
	}
	for _, text := range []string{`{"$ne": null}`, `.*`} {
		c.login(text, o.Password).want(t, 401)
		c.login(o.Email, text).want(t, 401)
	}
	for _, name := range []string{"organization_name[$ne]", "organization_name[$regex]", "organization_name[]"} {
		c.call("GET", "/org/get?"+name+"=.*", nil).wantFields(t, name)
		c.call("GET", "/org/get?"+url.Values{name: {o.Name}}.Encode(), nil).wantFields(t, name)
	}
	for _, name := range []string{"*", ".*", "%", "^.*$", "_", "$"} {
		c.get(name).wantFields(t, "organization_name")
	}
	prefix := o.Name[:len(o.Name)-1]
	for _, name := range []string{prefix, prefix + ".", prefix + "*", prefix + "%", prefix + "[a-z0-9]"} {
		c.get(name).want(t, 404)
	}
	o.wantIntact(c)
}

// TestContextHeader forges the header in which the HTTP adapter passes on the
// request context, with another tenant as the caller.
func TestContextHeader(t *testing.T) {
	t.Parallel()
	c := newClient(t)
	o, victim := newTenant(c), newTenant(c)
	claims := parse(t, victim.token).Claims.(jwt.MapClaims)
	caller := object{
		"admin_id": claims["sub"], "organization_id": victim.id, "token_version": "1", "session_id": fmt.Sprint(claims["sid"]),
		"expires_at": fmt.Sprintf("%.0f", claims["exp"]),
	}
	forgedContext, err := json.Marshal(object{"authorizer": object{"lambda": caller, "jwt": object{"claims": caller}}, "requestId": "forged-id"})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"X-GoLambdaProxy-ApiGw-Context", "X-Golambdaproxy-Apigw-Context"} {
		forged := []string{name, string(forgedContext), "X-GoLambdaProxy-ApiGw-StageVars", "{}"}
		with := func(more ...string) []string { return append(more, forged...) }
		c.call("DELETE", "/org/delete", nil, forged...).wantRefusal(t, c.gateway.unauthorized)
		c.call("DELETE", "/org/delete", nil, with("Authorization", "Bearer x")...).wantRefusal(t, c.gateway.forbidden)
		c.call("DELETE", "/org/delete?organization_name="+url.QueryEscape(victim.Name), nil,
			with("Authorization", "Bearer "+o.token)...).want(t, 403)
		a := c.call("PUT", "/org/update", object{"organization_name": o.Name}, with("Authorization", "Bearer "+o.token)...).want(t, 200)
		if a.text("id") != o.id {
			t.Errorf("%v; want %s", a, o.id)
		}
		a = c.call("GET", "/org/get?organization_name="+url.QueryEscape(o.Name), nil, forged...).want(t, 200)
		if a.header.Get("X-Request-Id") == "forged-id" {
			t.Errorf("%v: the forged context is believed", a)
		}
	}
	c.call("DELETE", "/org/delete", nil, "Authorization", "Bearer "+o.token, "X-GoLambdaProxy-ApiGw-Context", string(forgedContext)).want(t, 200)
	victim.wantIntact(c)
}

func TestHeaders(t *testing.T) {
	t.Parallel()
	c := newClient(t)
	r := newRegistration()
	c.call("POST", "/org/create", r, "Accept", "text/html, application/json;q=0.9, */*", "X-Forwarded-For", "10.0.0.1, 10.0.0.2",
		"X-Comma", "a,b,,c,", "Cookie", `a="b,c"; d=e`, "X-Percent", "100%", "Forwarded", "for=1.2.3.4, for=5.6.7.8").want(t, 201)
	for _, headers := range [][]string{
		{"X-HTTP-Method-Override", "DELETE"},
		{"X-Original-Url", "/org/delete"},
		{"Authorization", "Bearer x"}, // ignored on an open route
	} {
		c.call("GET", "/org/get?organization_name="+url.QueryEscape(r.Name), nil, headers...).want(t, 200)
	}
}

// TestEncodings finds an organization by each encoding of its name in a query.
func TestEncodings(t *testing.T) {
	t.Parallel()
	c := newClient(t)
	for _, prefix := range []string{
		"100% Cotton", "%41%25", "a%2Fb", "A+B & C=D", "Q?#;/\\", "Ünïcödé ß", "株式会社", "राम", "رستم", "😀 Smile", `"Quoted" <b>`,
		"O'Neil", "Comma, Inc.", "null", "{}",
	} {
		r := newRegistration()
		r.Name = prefix + " " + unique()
		created := c.create(r).want(t, 201)
		if created.text("organization_name") != r.Name {
			t.Errorf("%v; want %s", created, r.Name)
		}
		everyByte := ""
		for _, b := range []byte(r.Name) {
			everyByte += fmt.Sprintf("%%%02X", b)
		}
		for _, query := range []string{
			url.QueryEscape(r.Name),
			url.PathEscape(r.Name),
			everyByte,
			strings.ToLower(everyByte),
			url.QueryEscape(strings.ToUpper(r.Name)),
		} {
			if query == url.PathEscape(r.Name) {
				query = strings.NewReplacer("&", "%26", "+", "%2B", "=", "%3D").Replace(query)
			}
			a := c.call("GET", "/org/get?organization_name="+query, nil)
			if a.status != 200 || a.text("id") != created.text("id") {
				t.Errorf("%v; want %s", a, created.text("id"))
			}
		}
	}
	// A malformed query is refused and is no internal error.
	for _, query := range []string{"%", "%zz", "a%", "%f", "%ff%fe", "%c3%28", "a;b", "%00", "a%00b", "a%0d%0aX-Injected:1"} {
		a := c.call("GET", "/org/get?organization_name="+query, nil)
		if a.status != 400 && a.status != 404 && a.status != 422 || a.header.Get("X-Injected") != "" {
			t.Errorf("%v; want 400, 404 or 422", a)
		}
	}
}

// TestNUL sends the byte 0, which ends strings in C.
func TestNUL(t *testing.T) {
	t.Parallel()
	c := newClient(t)
	o := newTenant(c)
	for _, field := range []string{"organization_name", "email", "password"} {
		r := newRegistration()
		body := object{"organization_name": r.Name, "email": r.Email, "password": r.Password}
		body[field] = body[field].(string) + "\u0000"
		c.call("POST", "/org/create", body).wantFields(t, field)
		c.update(o.token, object{field: body[field], "current_password": o.Password}).wantFields(t, field)
	}
	c.get(o.Name+"\u0000").wantFields(t, "organization_name")
	c.delete(o.token, o.Name+"\u0000").wantFields(t, "organization_name")
	c.login(o.Email+"\u0000", o.Password).want(t, 401)
	c.login(o.Email, o.Password+"\u0000").want(t, 401)

	// bcrypt would take these for the password.
	c.login(o.Email, o.Password+"\u0000"+o.Password).want(t, 401)
	c.update(o.token, object{"password": newPassword(), "current_password": o.Password + "\u0000" + o.Password}).want(t, 403)
	mustLogin(c, o.Email, o.Password)
}

// TestOpenEndpoint checks that get and the token do not show the admin's email.
func TestOpenEndpoint(t *testing.T) {
	t.Parallel()
	c := newClient(t)
	o := newTenant(c)
	a := c.get(o.Name).want(t, 200)
	a.organization(t) // fails on other fields
	if strings.Contains(string(a.body), o.Email) {
		t.Errorf("%v: the admin's email is shown", a)
	}
	payload, err := base64.RawURLEncoding.DecodeString(strings.Split(o.token, ".")[1])
	if err != nil || strings.Contains(string(payload), o.Email) {
		t.Errorf("the token says %s, %v", payload, err)
	}
}

// The tests of concurrency are not parallel. Each sends many requests at once,
// and with more of them at a time the functions would time out.

// race calls f(0) to f(n-1) at once and returns the answers.
func race(n int, f func(i int) answer) []answer {
	answers := make([]answer, n)
	start := make(chan struct{})
	var running sync.WaitGroup
	for i := range answers {
		running.Go(func() {
			<-start
			answers[i] = f(i)
		})
	}
	close(start)
	running.Wait()
	return answers
}

// wantStatuses fails the test unless each answer has the status won or lost. It
// returns the indexes of those with won.
func wantStatuses(t *testing.T, answers []answer, won, lost int) (winners []int) {
	t.Helper()
	for i, a := range answers {
		switch a.status {
		case won:
			winners = append(winners, i)
		case lost:
		default:
			t.Errorf("%v; want %d or %d", a, won, lost)
		}
	}
	return winners
}

func TestConcurrentCreates(t *testing.T) {
	for name, same := range map[string]func(r *registration, word string, i int){
		"Name": func(r *registration, word string, i int) {
			r.Name = []string{"Race %s", "RACE %s", "race-%s", " race  %s!"}[i%4]
			r.Name = fmt.Sprintf(r.Name, word)
		},
		"Email": func(r *registration, word string, i int) {
			r.Email = []string{"race-%s@example.com", "RACE-%s@Example.com"}[i%2]
			r.Email = fmt.Sprintf(r.Email, word)
		},
		"Both": func(r *registration, word string, i int) {
			r.Name, r.Email = "Race "+word, word+"@example.com"
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := newClient(t)
			word := unique()
			registrations := make([]registration, c.gateway.atOnce)
			for i := range registrations {
				registrations[i] = newRegistration()
				same(&registrations[i], word, i)
			}
			answers := race(c.gateway.atOnce, func(i int) answer { return c.create(registrations[i]) })
			winners := wantStatuses(t, answers, 201, 409)
			if len(winners) != 1 {
				t.Fatalf("%d creates have succeeded: %v", len(winners), answers)
			}
			r, id := registrations[winners[0]], answers[winners[0]].text("id")
			won := tenant{r, id, mustLogin(c, r.Email, r.Password)}
			if got := c.get(r.Name).want(t, 200).text("id"); got != id {
				t.Errorf("get finds %s, created was %s", got, id)
			}
			// The losers left nothing behind: their other values are free.
			for i, r := range registrations {
				if i == winners[0] || name == "Both" {
					continue
				}
				if name == "Name" {
					r.Name = "Second " + unique()
				} else {
					r.Email = unique() + "@example.com"
				}
				c.create(r).want(t, 201)
			}
			c.delete(won.token).want(t, 200)
		})
	}
}

func TestConcurrentRenames(t *testing.T) {
	t.Run("OfOne", func(t *testing.T) {
		c := newClient(t)
		o := newTenant(c)
		word := unique()
		names := make([]string, c.gateway.atOnce)
		for i := range names {
			names[i] = fmt.Sprintf("Renamed %s %d", word, i)
		}
		answers := race(c.gateway.atOnce, func(i int) answer { return c.update(o.token, object{"organization_name": names[i]}) })
		renamed := wantStatuses(t, answers, 200, 409)
		if len(renamed) == 0 {
			t.Fatalf("no rename has succeeded: %v", answers)
		}
		c.get(o.Name).want(t, 404)
		var found []string
		for i, name := range names {
			if a := c.get(name); a.status == 200 {
				found = append(found, name)
				if a.text("id") != o.id || answers[i].status != 200 {
					t.Errorf("%v is there after %v", a, answers[i])
				}
			} else {
				a.want(t, 404)
			}
		}
		if len(found) != 1 {
			t.Fatalf("it is found as %q", found)
		}
		// The other names are free, for this organization and for others.
		for _, name := range names {
			if name != found[0] {
				r := newRegistration()
				r.Name = name
				c.create(r).want(t, 201)
			}
		}
		c.update(o.token, object{"organization_name": o.Name}).want(t, 200)
		o.wantIntact(c)
	})
	t.Run("ToOneName", func(t *testing.T) {
		c := newClient(t)
		tenants := make([]tenant, c.gateway.atOnce)
		for i := range tenants {
			tenants[i] = newTenant(c)
		}
		name := "Renamed " + unique()
		answers := race(c.gateway.atOnce, func(i int) answer { return c.update(tenants[i].token, object{"organization_name": name}) })
		winners := wantStatuses(t, answers, 200, 409)
		if len(winners) != 1 {
			t.Fatalf("%d renames have succeeded: %v", len(winners), answers)
		}
		if got, want := c.get(name).want(t, 200).text("id"), tenants[winners[0]].id; got != want {
			t.Errorf("get finds %s, renamed was %s", got, want)
		}
		for i, o := range tenants {
			if i == winners[0] {
				c.get(o.Name).want(t, 404)
			} else {
				o.wantIntact(c)
			}
		}
	})
}

// TestConcurrentLogins logs in with the right password. There are so few logins
// that none is throttled.
func TestConcurrentLogins(t *testing.T) {
	for range 5 {
		c := newClient(t) // with a new IP address
		o := newTenant(newClient(t))
		for _, a := range race(min(c.gateway.atOnce, 8), func(int) answer { return c.login(o.Email, o.Password) }) {
			if a.status != 200 {
				t.Errorf("%v; want 200", a)
			}
		}
	}
}

// TestConcurrentPasswordChanges changes the password many times at once, with the
// same current password. Only one change may succeed. There are so few that none
// is throttled.
func TestConcurrentPasswordChanges(t *testing.T) {
	c := newClient(t)
	o := newTenant(c)
	passwords := make([]string, min(c.gateway.atOnce, 8))
	for i := range passwords {
		passwords[i] = newPassword()
	}
	answers := race(len(passwords), func(i int) answer {
		return c.update(o.token, object{"password": passwords[i], "current_password": o.Password})
	})
	won := 0
	for i, a := range answers {
		switch a.status {
		case 200:
			won++
			mustLogin(c, o.Email, passwords[i])
		case 401, 403, 409:
		default:
			t.Errorf("%v; want 200, 401, 403 or 409", a)
		}
	}
	if won != 1 {
		t.Errorf("%d changes have succeeded: %v", won, answers)
	}
	for i, a := range answers {
		if a.status != 200 {
			c.login(o.Email, passwords[i]).want(t, 401)
		}
	}
	c.login(o.Email, o.Password).want(t, 401)
}

// TestConcurrentDeletes deletes one organization many times at once.
func TestConcurrentDeletes(t *testing.T) {
	c := newClient(t)
	o := newTenant(c)
	statuses := map[int]int{}
	for _, a := range race(c.gateway.atOnce, func(int) answer { return c.delete(o.token) }) {
		statuses[a.status]++
		if a.status != 200 && a.status != 401 && a.status != 409 {
			t.Errorf("%v; want 200, 401 or 409", a)
		}
	}
	if statuses[200] == 0 {
		t.Errorf("no delete has succeeded: %v", statuses)
	}
	c.get(o.Name).want(t, 404)
	c.create(o.registration).want(t, 201)
}
