package org_test

import (
	"context"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"orgservice/local/mongodbtest"
	"orgservice/shared/auth"
	"orgservice/shared/org"
)

// TestRoundTrips counts how often an operation waits for the database. The
// commands of one group must be sent concurrently: none is sent to the database
// before all of them have come, so that a command which waits for another one
// blocks.
func TestRoundTrips(t *testing.T) {
	t.Parallel()
	w, _, _ := setUp(t)
	g := &groups{}
	s := w.service(options.Client().SetDialer(g).SetMinPoolSize(5))
	post := &letters{}
	s.Mailer = post
	var caller auth.Caller
	ctx := context.Background()
	renameOnce := func(name string) error {
		r := org.RepeatableRequest{Key: "a key", OrganizationID: caller.OrganizationID, AdminID: caller.AdminID, CallerOf: caller.OrganizationID, Until: caller.ExpiresAt}
		_, _, err := s.Once(ctx, r, func(ctx context.Context) ([]byte, error) {
			_, err := s.Update(ctx, caller, org.UpdateRequest{OrganizationName: &name})
			return []byte("done"), err
		})
		return err
	}
	for _, test := range []struct {
		name  string
		sizes []int
		do    func() error
	}{
		// The second and third wait are for the mail, while the password is hashed. The last one is after the mail.
		{"create", []int{1, 2, 1, 2, 2, 1, 1, 1}, func() error {
			_, err := s.Create(ctx, org.CreateRequest{OrganizationName: "Bolt", Email: "admin@bolt.test", Password: password})
			return err
		}},
		{"create, counted", []int{2, 1, 2, 1, 1, 2, 2, 1, 1, 1}, func() error {
			s.SignUps = org.SignUps{PerHour: 1, MostOrganizations: 10}
			defer func() { s.SignUps = org.SignUps{} }()
			_, err := s.Create(ctx, org.CreateRequest{OrganizationName: "Counted", Email: "admin@counted.test", Password: password, ClientAddress: "192.0.2.1"})
			return err
		}},
		{"get", []int{1}, func() error { _, err := s.Get(ctx, "bolt"); return err }},
		{"login", []int{5, 1, 4}, func() error {
			tokens, err := s.Login(ctx, org.LoginRequest{Email: "admin@bolt.test", Password: password, ClientAddress: "192.0.2.1"})
			if err == nil {
				caller = callerIn(t, tokens)
			}
			return err
		}},
		{"me", []int{3}, func() error { _, _, err := s.Me(ctx, caller); return err }},
		{"members", []int{3, 1}, func() error { _, _, err := s.Members(ctx, caller, "", 50); return err }},
		{"invite", []int{3, 3, 1, 1, 1, 1, 1}, func() error {
			_, err := s.Invite(ctx, caller, org.InviteRequest{Email: "ann@bolt.test", Role: "member"})
			return err
		}},
		{"accept", []int{1, 3, 1, 1, 1, 1, 2, 1, 3}, func() error {
			_, err := s.Accept(ctx, org.AcceptRequest{Ticket: post.sent[0].Ticket, Password: password})
			return err
		}},
		{"rename", []int{3, 3, 1, 1, 1, 1}, func() error {
			_, err := s.Update(ctx, caller, org.UpdateRequest{OrganizationName: new("Core")})
			return err
		}},
		{"rename of the display name", []int{3, 1, 1}, func() error {
			_, err := s.Update(ctx, caller, org.UpdateRequest{OrganizationName: new("CORE")})
			return err
		}},
		{"rename with a key", []int{1, 3, 3, 1, 1, 1, 1, 1}, func() error { return renameOnce("Fern") }},
		{"the same again", []int{1, 1, 1}, func() error { return renameOnce("Fern") }},
		{"rename of the display name, after one with a key", []int{3, 1, 1, 1}, func() error {
			_, err := s.Update(ctx, caller, org.UpdateRequest{OrganizationName: new("FERN")})
			return err
		}},
		{"rename with a new password", []int{3, 2, 4, 1, 1, 1, 1, 1}, func() error {
			_, err := s.Update(ctx, caller, org.UpdateRequest{
				OrganizationName: new("Dyne"), Password: new(newPassword), CurrentPassword: new(password),
			})
			if err == nil {
				caller.TokenVersion++
			}
			return err
		}},
		{"new email and password", []int{3, 2, 2, 2, 1, 1, 1, 2, 1}, func() error {
			_, err := s.Update(ctx, caller, org.UpdateRequest{Email: new("new@bolt.test"), Password: new(password), CurrentPassword: new(newPassword)})
			if err == nil {
				caller.TokenVersion++
			}
			return err
		}},
		{"delete", []int{3, 1, 1, 4, 3, 3}, func() error { _, err := s.Delete(ctx, caller, org.DeleteRequest{}); return err }},
	} {
		t.Run(test.name, func(t *testing.T) {
			g.expect(test.sizes)
			if err := test.do(); err != nil {
				t.Error(err)
			}
			if left, more := g.result(); len(left) > 0 || len(more) > 0 {
				t.Errorf("missing groups: %v; additional commands: %v", left, more)
			}
		})
	}
}

// groups holds back the commands of a group until all of them have come.
type groups struct {
	mu      sync.Mutex
	active  bool
	sizes   []int         // of this group and of the next ones
	waiting int           // how many commands of this group have come
	full    chan struct{} // closed when the group is complete
	beyond  []string      // the commands after the last group
}

// expect begins to hold back commands in groups of these sizes.
func (g *groups) expect(sizes []int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.active, g.sizes, g.waiting, g.full, g.beyond = true, slices.Clone(sizes), 0, make(chan struct{}), nil
}

// result ends that. It returns the sizes of the groups that have not come, and
// the commands after the last group.
func (g *groups) result() (left []int, beyond []string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.active = false
	return g.sizes, g.beyond
}

// arrive waits until all commands of the group have come.
func (g *groups) arrive(command string) {
	g.mu.Lock()
	if !g.active || !isCounted(command) {
		g.mu.Unlock()
		return
	}
	if len(g.sizes) == 0 {
		g.beyond = append(g.beyond, command)
		g.mu.Unlock()
		return
	}
	g.waiting++
	full := g.full
	if g.waiting == g.sizes[0] {
		close(full)
		g.sizes, g.waiting, g.full = g.sizes[1:], 0, make(chan struct{})
	}
	g.mu.Unlock()
	select {
	case <-full:
	case <-time.After(mongodbtest.Patience / 5): // below the time limit of a command
		g.mu.Lock()
		defer g.mu.Unlock()
		g.active = false // the group is incomplete
	}
}

func (g *groups) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, network, address)
	return &groupedConn{conn, g}, err
}

type groupedConn struct {
	net.Conn
	groups *groups
}

func (c *groupedConn) Write(b []byte) (int, error) {
	c.groups.arrive(commandName(b))
	return c.Conn.Write(b)
}
