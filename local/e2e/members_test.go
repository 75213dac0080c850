package e2e

import (
	"crypto/sha1"
	"fmt"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"orgservice/shared/api"
)

func (c *client) changeRole(token, adminID, role string) answer {
	return c.call("PUT", "/org/members/"+adminID, object{"role": role}, "Authorization", "Bearer "+token)
}

func (c *client) removeMember(token, adminID string) answer {
	return c.call("DELETE", "/org/members/"+adminID, nil, "Authorization", "Bearer "+token)
}

func (c *client) invite(token, email, role string) answer {
	return c.call("POST", "/org/invitations", object{"email": email, "role": role}, "Authorization", "Bearer "+token)
}

func (c *client) invitations(token, query string) answer {
	return c.call("GET", "/org/invitations"+query, nil, "Authorization", "Bearer "+token)
}

func (c *client) withdraw(token, id string) answer {
	return c.call("DELETE", "/org/invitations/"+id, nil, "Authorization", "Bearer "+token)
}

func (c *client) accept(ticket, password string) answer {
	return c.call("POST", "/invitations/accept", object{"ticket": ticket, "password": password})
}

func (c *client) forgot(email string) answer {
	return c.call("POST", "/admin/forgot", object{"email": email})
}

func (c *client) reset(ticket, password string) answer {
	return c.call("POST", "/admin/reset", object{"ticket": ticket, "password": password})
}

func (c *client) verify(ticket string) answer {
	return c.call("POST", "/admin/verify", object{"ticket": ticket})
}

func (c *client) resend(token string) answer {
	return c.call("POST", "/admin/verify/resend", nil, "Authorization", "Bearer "+token)
}

// ticket waits for the n-th mail to the address whose link leads to the path, and returns
// the ticket in the link.
func (p *process) ticket(t *testing.T, email, path string, n int) string {
	t.Helper()
	link := regexp.MustCompile(`mail to ` + regexp.QuoteMeta(email) + `: .*: ` + regexp.QuoteMeta(p.url+path) + `\?ticket=(\S+)`)
	for deadline := time.After(patience); ; {
		text, changed := p.out.read()
		if found := link.FindAllStringSubmatch(text, -1); len(found) == n {
			return found[n-1][1]
		}
		select {
		case <-changed:
		case <-p.ended:
			t.Fatal("the gateway has ended")
		case <-deadline:
			t.Fatalf("no mail %d to %s for %s", n, email, path)
		}
	}
}

// TestMembers is the story of an organization with members, from the mails that they
// get to the deletion.
func TestMembers(t *testing.T) {
	t.Parallel()
	p := newLocal(t, "", nil)
	c := newLocalClient(t, p)
	o := newTenant(c)
	roles := func(token string) (all []string) {
		for _, item := range c.members(token, "").want(t, 200).object()["members"].([]any) {
			m := item.(object)
			name, _, _ := strings.Cut(m["email"].(string), "@")
			all = append(all, name+" "+m["role"].(string))
		}
		slices.Sort(all)
		return all
	}
	owner, _, _ := strings.Cut(o.Email, "@")

	// A new admin.
	invited := c.invite(o.token, "ann@example.com", "admin").want(t, 201)
	if got := invited.text("role") + invited.text("email"); got != "adminann@example.com" || invited.header.Get("Location") != "/org/invitations/"+invited.text("id") {
		t.Errorf("%v at %s", invited, invited.header.Get("Location"))
	}
	if listed := c.invitations(o.token, "?limit=1").want(t, 200).object()["invitations"].([]any); len(listed) != 1 || listed[0].(object)["id"] != invited.text("id") {
		t.Errorf("listed: %v", listed)
	}
	ticket := p.ticket(t, "ann@example.com", "/accept-invitation", 1)
	c.accept(ticket, "password").wantFields(t, "password")
	ann := c.accept(ticket, "Ann's own 1").want(t, 200).text("access_token")
	c.accept(ticket, "Ann's own 1").want(t, 401)
	c.accept("x", "Ann's own 1").want(t, 401)
	annID := c.me(ann).want(t, 200).text("admin_id")
	if got := roles(ann); !slices.Equal(got, slices.Sorted(slices.Values([]string{"ann admin", owner + " owner"}))) {
		t.Errorf("members %q", got)
	}

	// An admin of another organization, who is invited by the new one.
	bob := newTenant(c)
	c.invite(ann, bob.Email, "owner").want(t, 403)
	c.invite(ann, bob.Email, "member").want(t, 201)
	ticket = p.ticket(t, bob.Email, "/accept-invitation", 1)
	c.accept(ticket, "Not bob's 1").want(t, 401)
	token := c.accept(ticket, bob.Password).want(t, 200).text("access_token")
	c.update(token, object{"organization_name": o.Name + "!"}).want(t, 403)
	c.delete(ann).want(t, 403)
	c.update(ann, object{"organization_name": o.Name + "!"}).want(t, 200)

	// Roles change what a token may do at once.
	bobID := c.me(token).want(t, 200).text("admin_id")
	c.changeRole(ann, bobID, "owner").want(t, 403)
	if got := c.changeRole(o.token, bobID, "owner").want(t, 200); got.text("role") != "owner" || got.text("email") != bob.Email {
		t.Errorf("%v", got)
	}
	c.removeMember(ann, bobID).want(t, 403)
	c.changeRole(token, c.me(o.token).want(t, 200).text("admin_id"), "member").want(t, 200)
	c.delete(o.token).want(t, 403)
	c.changeRole(token, bobID, "member").want(t, 409)
	c.removeMember(token, bobID).want(t, 409)
	c.changeRole(token, bobID, "king").wantFields(t, "role")
	c.removeMember(token, "6b062bca0f6f0e6d4f1c2a30").want(t, 404)
	c.removeMember(token, "..").want(t, 404)

	// Removed, with the session and, since there is no other organization, the account.
	c.removeMember(token, annID).want(t, 204)
	c.me(ann).want(t, 401)
	c.login("ann@example.com", "Ann's own 1").want(t, 401)
	c.removeMember(o.token, c.me(o.token).want(t, 200).text("admin_id")).want(t, 204) // leaves
	c.me(o.token).want(t, 401)
	if got := roles(token); len(got) != 1 {
		t.Errorf("members %q", got)
	}

	// An invitation that is withdrawn, and those of an organization that is deleted.
	withdrawn := c.invite(token, "eve@example.com", "member").want(t, 201).text("id")
	c.withdraw(token, withdrawn).want(t, 204)
	c.withdraw(token, withdrawn).want(t, 404)
	c.accept(p.ticket(t, "eve@example.com", "/accept-invitation", 1), "Eve's own 1").want(t, 401)
	c.invite(token, "joe@example.com", "member").want(t, 201)
	ticket = p.ticket(t, "joe@example.com", "/accept-invitation", 1)
	c.delete(token).want(t, 200)
	c.accept(ticket, "Joe's own 1").want(t, 401)
	mustLogin(c, bob.Email, bob.Password)
	c.create(registration{"Ann Inc", "ann@example.com", "Ann's own 2"}).want(t, 201)
}

// TestForgot is the story of an admin who has forgotten the password.
func TestForgot(t *testing.T) {
	t.Parallel()
	p := newLocal(t, "", nil)
	c := newLocalClient(t, p)
	o := newTenant(c)
	known, unknown := c.forgot(o.Email).want(t, 204), c.forgot("nobody@example.com").want(t, 204)
	if len(known.body) > 0 || len(unknown.body) > 0 {
		t.Errorf("%q and %q", known.body, unknown.body)
	}
	ticket := p.ticket(t, o.Email, "/reset-password", 1)
	c.reset(ticket, "password").wantFields(t, "password")
	c.me(o.token).want(t, 200)
	c.reset(ticket, "Better@1234").want(t, 204)
	c.me(o.token).want(t, 401)
	c.reset(ticket, "Better@1235").want(t, 401)
	c.login(o.Email, o.Password).want(t, 401)
	mustLogin(c, o.Email, "Better@1234")
	var asked sync.WaitGroup
	for range 4 {
		for _, email := range []string{o.Email, "nobody@example.com"} {
			asked.Go(func() { c.forgot(email).want(t, 204) })
		}
	}
	asked.Wait()
	for _, email := range []string{o.Email, "nobody@example.com"} {
		a := c.forgot(email).want(t, 429)
		if a.header.Get("Retry-After") == "" {
			t.Errorf("%v without Retry-After", a)
		}
	}
	if text := p.out.String(); strings.Contains(text, "nobody@example.com") {
		t.Error("nobody has got a mail, or is in the log")
	}
}

// TestUnreachableMail runs a service whose mail server can't be reached.
func TestUnreachableMail(t *testing.T) {
	t.Parallel()
	p := newLocal(t, "", []string{"SMTP_URL=smtp://127.0.0.1:1", "MAIL_FROM=no-reply@example.com"})
	c := newLocalClient(t, p)
	o := newTenant(c)
	// The server can't be reached, and the service tries again later.
	c.invite(o.token, "ann@example.com", "member").want(t, 201)
	c.forgot(o.Email).want(t, 204)
}

// TestVerify is the story of an admin whose email must be verified: no route but those
// for that does anything before.
func TestVerify(t *testing.T) {
	t.Parallel()
	p := newLocal(t, "", []string{"EMAIL_VERIFICATION=required"})
	c := newLocalClient(t, p)
	o := newTenant(c)
	wrong := p.ticket(t, o.Email, "/verify-email", 1)

	// The address was mistyped.
	right := "right-" + o.Email
	c.update(o.token, object{"email": right, "current_password": o.Password}).want(t, 200)
	c.verify(wrong).want(t, 401)
	token := mustLogin(c, right, o.Password)
	c.resend(token).want(t, 204)
	ticket := p.ticket(t, right, "/verify-email", 2)

	unverified := func(what string) (refused int) {
		for _, row := range api.Routes() {
			if !row.Admin || row.Function == "delete" {
				continue
			}
			event := sampleEvent(t, row)
			var body any
			if event.Body != "" {
				body = event.Body
			}
			a := c.call(row.Method, event.RawPath+"?"+event.RawQueryString, body, "Authorization", "Bearer "+token)
			got := a.status == 403 && a.text("type") == "/problems/email-unverified"
			want := slices.ContainsFunc(row.Problems, func(p api.Problem) bool { return p.Reason == "email-unverified" })
			if got && !want || a.status >= 500 {
				t.Errorf("%s: %v", what, a)
			}
			if got {
				refused++
			} else if want && what == "before" {
				t.Errorf("%s: %v", what, a)
			}
		}
		return refused
	}
	if n := unverified("before"); n == 0 {
		t.Errorf("%d routes refuse", n)
	}
	if me := c.me(token).want(t, 200); me.object()["email_verified"] != false {
		t.Errorf("%v", me)
	}
	c.verify("x").want(t, 401)
	c.verify(ticket).want(t, 204)
	c.verify(ticket).want(t, 401)
	if me := c.me(token).want(t, 200); me.object()["email_verified"] != true {
		t.Errorf("%v", me)
	}
	wantProblem(t, c.resend(token), "already-verified")
	if n := unverified("after"); n > 0 {
		t.Errorf("%d routes refuse afterwards", n)
	}
	c.delete(newTenant(c).token).want(t, 200) // nobody must prove anything for that
	if text := p.out.String(); strings.Contains(strings.ReplaceAll(text, "ticket="+ticket, ""), ticket) {
		t.Error("the ticket is in the log")
	}
}

// TestPasswordRules runs a service with rules for passwords of its own.
func TestPasswordRules(t *testing.T) {
	t.Parallel()
	const breached = "a breached password"
	digits := strings.ToUpper(fmt.Sprintf("%x", sha1.Sum([]byte(breached))))
	corpus := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/range/"+digits[:5] {
			fmt.Fprintf(w, "%s:2\r\n", digits[5:])
		}
	}))
	defer corpus.Close()
	p := newLocal(t, "", []string{"PASSWORD_MIN_LENGTH=15", "BREACHED_PASSWORDS_URL=" + corpus.URL + "/range/"})
	c := newLocalClient(t, p)
	r := newRegistration()
	for password, want := range map[string]string{
		"fourteen chars": "must have at least 15 characters",
		breached:         "is known from a breach of some service: choose another one",
	} {
		r.Password = password
		a := c.create(r).want(t, 422)
		wantProblem(t, a, "invalid-fields")
		if !strings.HasSuffix(a.text("detail"), "password "+want) {
			t.Errorf("%v", a)
		}
	}
	r.Password = "an unknown password"
	c.create(r).want(t, 201)
	code, _, errs := runLocal(t, t.TempDir(), []string{"PASSWORD_MIN_LENGTH=3"})
	if code != 1 || errs != "PASSWORD_MIN_LENGTH: \"3\" is not a whole number from 8 to 64\n" {
		t.Errorf("exit %d: %s", code, errs)
	}
}

// TestVerifiedSignUp runs a service where an email must be proved first.
func TestVerifiedSignUp(t *testing.T) {
	t.Parallel()
	p := newLocal(t, "", []string{"SIGNUP=verified"})
	c := newLocalClient(t, p)
	r := newRegistration()
	password := secrets.add("Her own " + unique())
	ask := func(number int) string {
		a := c.create(r).want(t, 204)
		if len(a.body) > 0 || a.header.Get("Location") != "" {
			t.Errorf("%v", a)
		}
		return p.ticket(t, r.Email, "/finish-sign-up", number)
	}
	ticket := ask(1)
	c.get(r.Name).want(t, 404)
	c.login(r.Email, r.Password).want(t, 401)
	page := c.call("GET", "/finish-sign-up?ticket="+ticket, nil)
	if page.status != 200 {
		t.Errorf("%v", page)
	}
	token := c.accept(ticket, password).want(t, 200).text("access_token")
	me := c.me(token).want(t, 200)
	if me.text("organization_name") != r.Name || me.text("role") != "owner" || me.object()["email_verified"] != true {
		t.Errorf("%v", me)
	}
	c.login(r.Email, r.Password).want(t, 401)
	c.accept(ticket, password).want(t, 401)
	wantProblem(t, c.create(r).want(t, 409), "name-taken")

	// With an account everything looks the same, and there is one more organization.
	r.Name = unique()
	ticket = ask(2)
	wantProblem(t, c.accept(ticket, r.Password).want(t, 401), "wrong-credentials")
	c.accept(ticket, password).want(t, 200)
	c.get(r.Name).want(t, 200)
	if strings.Contains(strings.ReplaceAll(p.out.String(), "ticket="+ticket, ""), ticket) {
		t.Error("the ticket is in the log")
	}
}

// TestSignUps runs services where not everybody may sign up.
func TestSignUps(t *testing.T) {
	t.Parallel()
	limited := newLocal(t, "", []string{"SIGNUPS_PER_HOUR=2"})
	first := newLocalClient(t, limited)
	owner := newTenant(first)
	newTenant(first)
	for _, refused := range []answer{first.create(newRegistration()), first.addOrganization(owner.token, newRegistration().Name)} {
		wantProblem(t, refused.want(t, 429), "too-many-signups")
		if seconds, err := strconv.Atoi(refused.header.Get("Retry-After")); err != nil || seconds < 1 || seconds > 70*60 {
			t.Errorf("Retry-After %q", refused.header.Get("Retry-After"))
		}
	}
	if ownAddresses {
		second := newLocalClient(t, limited)
		newTenant(second)
		second.addOrganization(owner.token, newRegistration().Name).want(t, 201)
	}

	full := newLocalClient(t, newLocal(t, "", []string{"MAX_ORGANIZATIONS=2"}))
	owner = newTenant(full)
	full.addOrganization(owner.token, newRegistration().Name).want(t, 201)
	wantProblem(t, full.create(newRegistration()).want(t, 403), "too-many-organizations")
	wantProblem(t, full.addOrganization(owner.token, newRegistration().Name).want(t, 403), "too-many-organizations")

	p := newLocal(t, "", []string{"SIGNUP=closed", "CORS_ORIGINS=https://app.example.com,https://other.example.com"})
	closed := newLocalClient(t, p)
	r := newRegistration()
	wantProblem(t, closed.create(r).want(t, 403), "signup-closed")
	closed.operate("POST", "", object{"organization_name": r.Name, "email": r.Email}).want(t, 204)
	token := closed.accept(p.ticket(t, r.Email, "/finish-sign-up", 1), r.Password).want(t, 200).text("access_token")
	if me := closed.me(token).want(t, 200); me.text("organization_name") != r.Name || me.text("role") != "owner" {
		t.Errorf("%v", me)
	}
	for origin, want := range map[string]string{
		"https://app.example.com": "https://app.example.com", "https://other.example.com": "https://other.example.com", "https://example.com": "",
	} {
		a := closed.call("GET", "/health", nil, "Origin", origin)
		if got := a.header.Get("Access-Control-Allow-Origin"); got != want {
			t.Errorf("%s is allowed as %q, want %q", origin, got, want)
		}
	}
	code, _, errs := runLocal(t, t.TempDir(), []string{"SIGNUP=shut"})
	if code != 1 || errs != "SIGNUP: \"shut\" is not open, verified or closed\n" {
		t.Errorf("exit %d: %s", code, errs)
	}
}
