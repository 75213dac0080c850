package e2e

import "testing"

func TestRefresh(t *testing.T) {
	t.Parallel()
	c := newClient(t)
	r := newRegistration()
	id := c.create(r).want(t, 201).text("id")
	first := c.login(r.Email, r.Password).want(t, 200)

	t.Run("OK", func(t *testing.T) {
		me := c.me(first.text("access_token")).want(t, 200)
		if me.text("organization_id") != id || me.text("organization_name") != r.Name || me.text("email") != r.Email {
			t.Error(me)
		}
	})
	t.Run("401 when used again, and the session ends", func(t *testing.T) {
		second := c.refresh(first.text("refresh_token")).want(t, 200)
		c.me(second.text("access_token")).want(t, 200)
		c.refresh(first.text("refresh_token")).want(t, 401)
		c.refresh(second.text("refresh_token")).want(t, 401)
		// The answer of the authorizer may be in the cache, so the handler refuses.
		c.me(second.text("access_token")).want(t, 401)
	})
	t.Run("401 after logout", func(t *testing.T) {
		session := c.login(r.Email, r.Password).want(t, 200)
		c.me(session.text("access_token")).want(t, 200)
		for range 2 {
			c.logout(session.text("refresh_token")).want(t, 204)
		}
		c.refresh(session.text("refresh_token")).want(t, 401)
		c.update(session.text("access_token"), object{"organization_name": r.Name + " Ltd"}).want(t, 401)
		c.delete(session.text("access_token")).want(t, 401)
	})
	t.Run("422", func(t *testing.T) {
		c.call("POST", "/admin/refresh", object{}).wantFields(t, "refresh_token")
		c.call("POST", "/admin/logout", object{"refresh_token": 1}).wantFields(t, "refresh_token")
	})
	t.Run("401 without a token", func(t *testing.T) {
		c.call("GET", "/admin/me", nil).wantRefusal(t, c.gateway.unauthorized)
	})
}

func TestKeySet(t *testing.T) {
	t.Parallel()
	set := newClient(t).call("GET", "/.well-known/jwks.json", nil).want(t, 200)
	if _, ok := set.object()["keys"].([]any); !ok || len(set.object()) != 1 {
		t.Error(set)
	}
}
