package e2e

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

// TestOrganizations is the story of an admin who has three organizations.
func TestOrganizations(t *testing.T) {
	t.Parallel()
	c := newClient(t)
	o := newTenant(c)
	names := []string{o.Name}
	for i := range 2 {
		name := fmt.Sprint(o.Name, " ", i)
		a := c.addOrganization(o.token, name).want(t, 201)
		if location := a.header.Get("Location"); a.text("organization_name") != name || c.call("GET", location, nil).want(t, 200).text("id") != a.text("id") {
			t.Errorf("%v at %s", a, location)
		}
		names = append(names, name)
	}
	c.addOrganization(o.token, o.Name).want(t, 409)
	c.addOrganization(o.token, "").wantFields(t, "organization_name")

	// The list has all of them, in whatever pages it is read.
	var listed []string
	for after, pages := "", 0; ; pages++ {
		a := c.organizations(o.token, "?limit=2"+after).want(t, 200)
		for _, item := range a.object()["organizations"].([]any) {
			m := item.(object)
			listed = append(listed, m["organization_name"].(string))
			since, err := time.Parse(time.RFC3339, m["since"].(string))
			if m["role"] != "owner" || len(m) != 5 || err != nil || time.Since(since).Abs() > time.Hour {
				t.Errorf("%v, %v", m, err)
			}
		}
		if a.text("next") == "" {
			break
		}
		if after = "&after=" + a.text("next"); pages > 2 {
			t.Fatal("the list does not end")
		}
	}
	slices.Sort(listed)
	if slices.Sort(names); !slices.Equal(listed, names) {
		t.Errorf("listed %q; want %q", listed, names)
	}

	organizationOf := func(token string) string { return c.me(token).want(t, 200).text("organization_name") }
	login := func(name ...string) answer {
		body := object{"email": o.Email, "password": o.Password}
		if len(name) > 0 {
			body["organization_name"] = name[0]
		}
		return c.call("POST", "/admin/login", body)
	}
	other := newTenant(c)
	for _, name := range names {
		token := c.switchTo(o.token, name).want(t, 200).text("access_token")
		if got := organizationOf(token); got != name {
			t.Errorf("switched to %q; want %q", got, name)
		}
		if got := organizationOf(login().want(t, 200).text("access_token")); got != name {
			t.Errorf("logged in to %q; want the one that was used last, %q", got, name)
		}
		for _, wanted := range names {
			if got := organizationOf(login(wanted).want(t, 200).text("access_token")); got != wanted {
				t.Errorf("logged in to %q; want %q", got, wanted)
			}
		}
		c.switchTo(other.token, name).want(t, 404)
	}
	foreign, none := c.switchTo(o.token, other.Name).want(t, 404), c.switchTo(o.token, other.Name+"x").want(t, 404)
	if a, b := foreign.text("detail"), none.text("detail"); a == "" || a+"x" != b {
		t.Errorf("%q tells that there is another organization, of which there is none: %q", a, b)
	}
	login(other.Name).want(t, 401)
	login("nobody has this name").want(t, 401)
	login("***").wantFields(t, "organization_name")
	if got := organizationOf(o.token); got != o.Name {
		t.Errorf("the first session is of %q; want %q", got, o.Name)
	}

	// A new password is the person's, and ends the sessions in all of them.
	second := c.switchTo(o.token, names[1]).want(t, 200).text("access_token")
	third := c.switchTo(o.token, names[2]).want(t, 200).text("access_token")
	c.update(second, object{"password": "Another@123", "current_password": o.Password}).want(t, 200)
	for _, token := range []string{o.token, second, third} {
		c.me(token).want(t, 401)
	}
	login().want(t, 401)
	o.Password = "Another@123"

	// The person stays until the last one is deleted.
	for i, name := range names {
		token := login(name).want(t, 200).text("access_token")
		c.delete(token, name).want(t, 200)
		c.me(token).want(t, 401)
		login(name).want(t, 401)
		if i < len(names)-1 {
			login().want(t, 200)
			c.create(registration{o.Name + " again", o.Email, o.Password}).want(t, 409)
		}
	}
	login().want(t, 401)
	c.create(registration{o.Name, o.Email, o.Password}).want(t, 201)
}
