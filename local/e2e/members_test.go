package e2e

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestMembers lists the members of an organization, which has one.
func TestMembers(t *testing.T) {
	t.Parallel()
	c := newClient(t)
	o := newTenant(c)
	me := c.me(o.token).want(t, 200)
	owner := object{"admin_id": me.text("admin_id"), "email": o.Email, "role": "owner"}
	for _, query := range []string{"", "?limit=1", "?limit=100", "?after=000000000000000000000000", "?limit=50&after=0123456789abcdef01234567"} {
		a := c.members(o.token, query).want(t, 200)
		list, _ := a.object()["members"].([]any)
		if len(list) != 1 || a.object()["next"] != nil {
			t.Fatalf("%s: %v", query, a)
		}
		got := list[0].(object)
		since, err := time.Parse(time.RFC3339, got["since"].(string))
		if delete(got, "since"); err != nil || time.Since(since).Abs() > time.Hour {
			t.Errorf("%s: since %v, %v", query, since, err)
		}
		if diff := cmp.Diff(owner, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", query, diff)
		}
	}
	if a := c.members(o.token, "?after="+me.text("admin_id")).want(t, 200); !cmp.Equal(a.object()["members"], []any{}) {
		t.Errorf("after the last one: %v", a)
	}
	for query, field := range map[string]string{
		"?limit=": "limit", "?limit=0": "limit", "?limit=101": "limit", "?limit=-1": "limit", "?limit=1.0": "limit", "?limit=+1": "limit",
		"?limit=01": "limit", "?limit=99999999999999999999": "limit", "?after=": "after", "?after=x": "after",
		"?after=0123456789ABCDEF01234567": "after", "?after=0123456789abcdef0123456g": "after", "?page=2": "page",
	} {
		c.members(o.token, query).wantFields(t, field)
	}
	if me.text("role") != "owner" {
		t.Errorf("%v; want the role owner", me)
	}
}
