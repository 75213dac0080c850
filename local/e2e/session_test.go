package e2e

import (
	"encoding/base64"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/go-cmp/cmp"
)

func TestSession(t *testing.T) {
	t.Parallel()
	word := unique()
	session(t, newClient(t), registration{"Akshay Pvt Ltd " + word, "admin-" + word + "@example.com", newPassword()},
		"org_akshay_pvt_ltd_"+word)
}

// session creates, uses and deletes one organization.
func session(t *testing.T, c *client, r registration, collection string) {
	var created struct {
		ID         string `json:"id"`
		Name       string `json:"organization_name"`
		Collection string `json:"collection_name"`
	}
	answer := c.create(r).want(t, 201)
	answer.strictly(t, &created)
	if found := c.call("GET", answer.header.Get("Location"), nil).want(t, 200); found.text("id") != created.ID {
		t.Errorf("at the Location %s is %v", answer.header.Get("Location"), found)
	}
	if created.ID == "" || created.Name != r.Name || created.Collection != collection {
		t.Fatalf("created %+v", created)
	}

	login := c.login(r.Email, r.Password).want(t, 200)
	token := login.text("access_token")
	if seconds, _ := login.object()["expires_in"].(float64); token == "" || login.text("token_type") != "bearer" || seconds < 1 {
		t.Fatalf("logged in: type %q, expires in %v s, a token of %d bytes", login.text("token_type"), seconds, len(token))
	}

	got := c.get(r.Name).want(t, 200).organization(t)
	want := organization{created.ID, r.Name, collection, got.CreatedAt, got.CreatedAt}
	if diff := cmp.Diff(want, got); diff != "" || got.CreatedAt.IsZero() {
		t.Errorf("get (-want +got):\n%s", diff)
	}

	renamed := c.update(token, object{"organization_name": r.Name + " India"}).want(t, 200).organization(t)
	want = organization{created.ID, r.Name + " India", collection + "_india", got.CreatedAt, renamed.UpdatedAt}
	if diff := cmp.Diff(want, renamed); diff != "" || renamed.UpdatedAt.Before(got.UpdatedAt) {
		t.Errorf("update (-want +got):\n%s", diff)
	}
	c.get(r.Name).want(t, 404)
	if diff := cmp.Diff(renamed, c.get(r.Name+" India").want(t, 200).organization(t)); diff != "" {
		t.Errorf("get after the update (-want +got):\n%s", diff)
	}

	password := newPassword()
	change := object{"password": password, "current_password": r.Password}
	c.update(token, change).want(t, 200)
	c.update(token, object{"organization_name": r.Name}).want(t, 401)
	c.delete(token).want(t, 401)
	c.login(r.Email, r.Password).want(t, 401)
	token = mustLogin(c, r.Email, password)

	a := c.delete(token, r.Name+" India").want(t, 200)
	if a.text("id") != created.ID || a.text("organization_name") != r.Name+" India" || len(a.object()) != 3 {
		t.Errorf("%v", a)
	}
	wantUTC(t, a, "deleted_at")
	c.get(r.Name+" India").want(t, 404)
	c.delete(token).want(t, 401)
	c.login(r.Email, password).want(t, 401)
}

// TestUpdate changes every field, all at once and one by one.
func TestUpdate(t *testing.T) {
	t.Parallel()
	c := newClient(t)
	o := newTenant(c)
	word, password := unique(), newPassword()
	a := c.update(o.token, object{
		"organization_name": "All " + word, "email": word + "@example.com", "password": password, "current_password": o.Password,
	}).want(t, 200)
	if a.text("id") != o.id || a.text("collection_name") != "org_all_"+word {
		t.Errorf("%v", a)
	}
	c.update(o.token, object{"organization_name": o.Name}).want(t, 401)
	c.login(o.Email, password).want(t, 401)
	c.login(word+"@example.com", o.Password).want(t, 401)
	token := mustLogin(c, word+"@example.com", password)

	// The old email and name are free again, also for this organization.
	c.update(token, object{"email": o.Email, "current_password": password}).want(t, 200)
	c.update(token, object{"organization_name": o.Name}).want(t, 401)
	token = mustLogin(c, o.Email, password)
	c.update(token, object{"organization_name": o.Name}).want(t, 200)
	c.create(registration{"All " + word, word + "@example.com", newPassword()}).want(t, 201)

	// A name with the same slug changes only the display name.
	a = c.update(token, object{"organization_name": "  TENANT   " + o.Name[len("Tenant "):] + "! "}).want(t, 200)
	if want := "TENANT " + o.Name[len("Tenant "):] + "!"; a.text("organization_name") != want ||
		a.text("collection_name") != "org_tenant_"+o.Name[len("Tenant "):] {
		t.Errorf("%v; want the name %s", a, want)
	}
	c.get(o.Name).want(t, 200)
}

// TestSessions is the story of a person who finds a login that is somebody else's.
func TestSessions(t *testing.T) {
	t.Parallel()
	c, thief := newClient(t), newClient(t)
	o, other := newTenant(c), newTenant(c)
	stolen := thief.call("POST", "/admin/login", object{"email": o.Email, "password": o.Password}, "User-Agent", "Thief/1.0 \u202e"+strings.Repeat("x", 300)).want(t, 200)
	third := mustLogin(c, o.Email, o.Password)

	type session struct {
		ID             string    `json:"id"`
		OrganizationID string    `json:"organization_id"`
		Name           string    `json:"organization_name"`
		CreatedAt      time.Time `json:"created_at"`
		UsedAt         time.Time `json:"used_at"`
		ExpiresAt      time.Time `json:"expires_at"`
		Address        string    `json:"address"`
		UserAgent      string    `json:"user_agent"`
		Current        bool      `json:"current"`
	}
	list := func(token string) (sessions []session, current string) {
		t.Helper()
		next := ""
		for {
			var page struct {
				Sessions []session `json:"sessions"`
				Next     string    `json:"next"`
			}
			query := "?limit=2"
			if next != "" {
				query += "&after=" + next
			}
			if err := json.Unmarshal(c.sessions(token, query).want(t, 200).body, &page); err != nil {
				t.Fatal(err)
			}
			sessions = append(sessions, page.Sessions...)
			if next = page.Next; next == "" {
				break
			}
		}
		for _, s := range sessions {
			if s.OrganizationID != o.id || s.Name != o.Name || s.CreatedAt.IsZero() || !s.UsedAt.Equal(s.CreatedAt) || !s.ExpiresAt.After(s.CreatedAt) || s.Address == "" {
				t.Errorf("session %+v", s)
			}
			if s.Current {
				current += s.ID
			}
		}
		return sessions, current
	}
	all, current := list(o.token)
	if len(all) != 3 || !slices.IsSortedFunc(all, func(a, b session) int { return strings.Compare(a.ID, b.ID) }) {
		t.Fatalf("sessions %+v", all)
	}
	if claims := parse(t, o.token).Claims.(jwt.MapClaims); current != claims["sid"] {
		t.Errorf("the current session is %q; the token has %v", current, claims["sid"])
	}
	i := slices.IndexFunc(all, func(s session) bool { return strings.HasPrefix(s.UserAgent, "Thief/1.0 ") })
	if i < 0 || len(all[i].UserAgent) > 200 || strings.ContainsRune(all[i].UserAgent, '\u202e') { // SAM CLI decodes it as Latin-1
		t.Fatalf("sessions %+v", all)
	}
	c.endSession(other.token, all[i].ID).want(t, 204)
	c.me(stolen.text("access_token")).want(t, 200) // only its own admin ends it
	c.endSessions(other.token).want(t, 204)
	c.me(o.token).want(t, 200)

	c.endSession(o.token, all[i].ID).want(t, 204)
	c.me(stolen.text("access_token")).want(t, 401)
	c.refresh(stolen.text("refresh_token")).want(t, 401)
	c.endSession(o.token, all[i].ID).want(t, 204)
	if left, _ := list(third); len(left) != 2 {
		t.Errorf("left %+v", left)
	}
	c.endSessions(third).want(t, 204)
	c.me(o.token).want(t, 401)
	last, current := list(third)
	if len(last) != 1 || last[0].ID != current {
		t.Errorf("left %+v", last)
	}
	c.endSession(third, current).want(t, 204) // a logout
	c.me(third).want(t, 401)
}

// TestIntrospection asks as another service about tokens, which are good until they are
// revoked.
func TestIntrospection(t *testing.T) {
	t.Parallel()
	c := newClient(t)
	r := newRegistration()
	c.create(r).want(t, 201)
	tokens := c.login(r.Email, r.Password).want(t, 200)
	token := tokens.text("access_token")
	adminID := c.me(token).want(t, 200).text("admin_id")
	wantActive := func(token string, want bool) answer {
		t.Helper()
		a := c.introspect(introspectionSecret, token).want(t, 200)
		if a.object()["active"] != want || (len(a.object()) > 1) != want {
			t.Errorf("%v; want active: %v", a, want)
		}
		return a
	}
	if a := wantActive(token, true); a.text("sub") != adminID {
		t.Errorf("%v of %s", a, adminID)
	}
	wantActive(tokens.text("refresh_token"), false)
	wantActive(token[:len(token)-8]+"AAAAAAAA", false)

	// A new password ends the token, and so does a logout.
	c.update(token, object{"password": r.Password + "2", "current_password": r.Password}).want(t, 200)
	wantActive(token, false)
	tokens = c.login(r.Email, r.Password+"2").want(t, 200)
	wantActive(tokens.text("access_token"), true)
	c.logout(tokens.text("refresh_token")).want(t, 204)
	wantActive(tokens.text("access_token"), false)

	// The secret is the password of HTTP Basic for many clients.
	basic := "Basic " + base64.StdEncoding.EncodeToString([]byte("billing:"+introspectionSecret))
	for authorization, want := range map[string]int{basic: 200, basic[:len(basic)-8]: 401, "Bearer " + token: 401} {
		a := c.call("POST", "/admin/introspect", "token=x", "Authorization", authorization, "Content-Type", "application/x-www-form-urlencoded")
		a.want(t, want)
	}
	c.call("POST", "/admin/introspect", "token=x&client_id=billing&client_secret=x", "Authorization", basic, "Content-Type", "application/x-www-form-urlencoded").want(t, 200)
	c.call("POST", "/admin/introspect", "token=x", "Content-Type", "application/x-www-form-urlencoded").want(t, 401)
}
