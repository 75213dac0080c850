package e2e

import (
	"fmt"
	"slices"
	"sync"
	"testing"
)

// TestRepeatedRequests sends the same request with the same key many times, at once and later:
// it is done once, and all who are answered are told the same.
func TestRepeatedRequests(t *testing.T) {
	t.Parallel()
	c := newClient(t)
	r := newRegistration()
	key := []string{"Idempotency-Key", "create " + r.Name}
	id := sendAtOnce(t, func() answer { return newClient(t).call("POST", "/org/create", r, key...) }, 201)
	other := r
	other.Name += " 2"
	wantProblem(t, c.call("POST", "/org/create", other, key...), "key-reused")
	c.get(other.Name).want(t, 404)
	if got := c.get(r.Name).want(t, 200).text("id"); got != id {
		t.Errorf("the organization is %s, and the answers had %s", got, id)
	}
	token := mustLogin(c, r.Email, r.Password)
	renaming := func(name string) answer {
		return c.call("PUT", "/org/update", object{"organization_name": name}, "Authorization", "Bearer "+token, "Idempotency-Key", "to "+name)
	}
	first, second := "Bolt "+r.Name, "Core "+r.Name
	sendAtOnce(t, func() answer { return renaming(first) }, 200)
	renaming(second).want(t, 200)
	if again := renaming(first).want(t, 200); again.text("organization_name") != first {
		t.Errorf("repeated: %v", again)
	}
	etag := c.get(second).want(t, 200).header.Get("ETag") // it was not renamed back
	deleting := func(match string) answer {
		return c.call("DELETE", "/org/delete", nil, "Authorization", "Bearer "+token, "Idempotency-Key", "delete", "If-Match", match)
	}
	wantProblem(t, deleting(`"0"`), "organization-changed")
	deleted := deleting(etag).want(t, 200)
	// The token is of no use by now.
	c.me(token).want(t, 401)
	if again := deleting(etag).want(t, 200); string(again.body) != string(deleted.body) {
		t.Errorf("deleted again: %v; want %v", again, deleted)
	}
	if again := c.call("POST", "/org/create", r, key...).want(t, 201); again.text("id") != id {
		t.Errorf("created again: %v; want %s", again, id)
	}
	c.get(r.Name).want(t, 404)
}

// sendAtOnce sends a request ten times at once, and returns the id in the answers. Each has the
// status, or says that another one is under way.
func sendAtOnce(t *testing.T, send func() answer, status int) (id string) {
	t.Helper()
	answers := make([]answer, 10)
	var wait sync.WaitGroup
	for i := range answers {
		wait.Go(func() { answers[i] = send() })
	}
	wait.Wait()
	var ids []string
	for _, a := range answers {
		switch {
		case a.status == status:
			ids = append(ids, a.text("id"))
		case a.status != 409 || a.text("type") != "/problems/key-in-use" || a.header.Get("Retry-After") == "":
			t.Errorf("%v; want %d", a, status)
		}
	}
	if ids = slices.Compact(ids); len(ids) != 1 {
		t.Fatal(fmt.Sprint("the answers have the ids ", ids))
	}
	return ids[0]
}
