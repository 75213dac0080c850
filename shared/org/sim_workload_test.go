package org_test

import (
	"context"
	"fmt"
	"strings"
	"time"

	"orgservice/shared/auth"
	"orgservice/shared/org"
)

// The names and addresses that the clients choose from.
var (
	simSlugs  = []string{"acme", "bolt", "core", "dune"}
	simEmails = []string{"a@x.test", "b@x.test", "c@x.test", "d@x.test"}
)

// spelled returns a spelling of the slug that tells the number.
func spelled(slug string, n int) string {
	b := []byte(slug)
	for i := range b {
		if n>>i&1 == 1 {
			b[i] -= 'a' - 'A'
		}
	}
	return string(b) + strings.Repeat("!", n>>len(b))
}

// plainPasswords stand in for bcrypt, which takes a thousand times as long as
// everything else.
type plainPasswords struct{}

func (plainPasswords) Hash(password string) (string, error) { return "hash of " + password, nil }

func (plainPasswords) Verify(hash, password string) (bool, error) {
	return hash == "hash of "+password, nil
}

func (plainPasswords) Outdated(string) bool { return false }

var simSigner = func() *auth.Signer {
	signer, err := auth.NewSigner([]byte(strings.Repeat("s", auth.MinSecretBytes)))
	if err != nil {
		panic(err)
	}
	return signer
}()

// operation is what one client asks one process for.
type operation struct {
	n       int
	process *process
	kind    string
	what    string // with what
	run     func(context.Context, *org.Service) error

	organization string             // that it acts on
	registration *org.CreateRequest // of a creation
	change       *org.UpdateRequest // of an update

	dead     bool // it is no longer run: the process died
	ended    bool
	answered bool
	err      error // the answer
	at       time.Time
	fault    any // a panic

	faults    int  // how many of its calls were not just executed
	clean     int  // how many were since then
	deceived  bool // it has read from, or written to, an old primary
	committed bool // the record says so
	claimed   int  // the step at which a creation gave its collection the name
}

func (op *operation) String() string { return fmt.Sprintf("p%d op%d %s", op.process.n, op.n, op.kind) }

// start runs the operation in a goroutine until its first call.
func (s *sim) start(op *operation) {
	op.n = len(s.ops) + 1
	s.ops = append(s.ops, op)
	op.process.op = op
	s.tracef("%v %s", op, op.what)
	h := &handle{sim: s, op: op}
	service := &org.Service{
		Store: h, Database: "db", Passwords: plainPasswords{},
		Tokens: simSigner, TokenTTL: time.Hour, SessionTTL: time.Hour,
		Now: func() time.Time { return time.Now().Add(op.process.clock) },
		Log: s.logger(),
	}
	go func() {
		defer func() {
			if p := recover(); p != nil {
				op.fault = p
				do(context.Background(), h, "panic", done, "", nothing)
			}
		}()
		op.err = op.run(context.Background(), service)
		do(context.Background(), h, "answer", done, "", nothing)
	}()
}

func nothing(*state) (any, error) { return nil, nil }

// quietly runs an operation while nothing goes wrong and nothing else happens.
func (s *sim) quietly(op *operation) error {
	op.process = &process{}
	s.start(op)
	for !op.ended {
		s.settled()
		s.step++
		s.happen(s.pending[s.rng.IntN(len(s.pending))])
	}
	return op.err
}

// begin lets the process begin an operation of the seed's choice.
func (s *sim) begin(p *process) {
	op := s.chooseCollection()
	op.process = p
	s.start(op)
}

func oneOf[T any](s *sim, of []T) T { return of[s.rng.IntN(len(of))] }

// slugs returns those that are used.
func (s *sim) slugs() []string {
	if s.renames {
		return simSlugs[:3]
	}
	return simSlugs
}

func (s *sim) chooseCollection() *operation {
	active := s.active()
	r := s.rng.IntN(100)
	switch {
	case r < 25 || len(active) == 0 && r < 70:
		return s.creation(oneOf(s, s.slugs()), oneOf(s, simEmails))
	case r < 60 && len(active) > 0:
		return s.update(oneOf(s, active))
	case r < 75 && len(active) > 0:
		return s.deletion(oneOf(s, active))
	case r < 80:
		c := org.LoginRequest{Email: oneOf(s, simEmails), Password: "nobody's password"}
		for _, o := range active {
			if m := s.models[o.ID]; m.email == c.Email {
				c.Password = m.password
			}
		}
		return s.login(c)
	case r < 85:
		return s.get(oneOf(s, simSlugs))
	}
	return s.reconcile(s.rng.IntN(3) > 0)
}

func (s *sim) creation(slug, email string) *operation {
	n := len(s.ops) + 1
	r := org.CreateRequest{OrganizationName: spelled(slug, n), Email: email, Password: fmt.Sprint("password ", n)}
	return &operation{kind: "Create", what: fmt.Sprint(r), registration: &r, run: func(ctx context.Context, service *org.Service) error {
		_, err := service.Create(ctx, r)
		return err
	}}
}

// caller returns what a token of the organization's admin says, with a session
// of its own.
func (s *sim) caller(o org.Organization) auth.Caller {
	m := o.Admins[0]
	session := org.Session{
		ID: fmt.Sprint("s", len(s.ops)+1), AdminID: m.AdminID, OrganizationID: o.ID, TokenVersion: m.TokenVersion,
		ExpiresAt: time.Now().AddDate(1, 0, 0),
	}
	s.durable.sessions[session.ID] = session
	if s.old != nil {
		s.old.local.sessions[session.ID], s.old.base.sessions[session.ID] = session, session
	}
	return auth.Caller{AdminID: m.AdminID, OrganizationID: o.ID, TokenVersion: m.TokenVersion, SessionID: session.ID, ExpiresAt: session.ExpiresAt}
}

func (s *sim) update(o org.Organization) *operation {
	n := len(s.ops) + 1
	m := s.models[o.ID]
	var c org.UpdateRequest
	kind := s.rng.IntN(10)
	if s.renames {
		kind = 0
	} else if s.thorough {
		kind = 9
	}
	rename, email, password := kind < 5 || kind == 9, kind == 5 || kind == 6 || kind == 9, kind == 7 || kind == 9
	if rename || kind == 8 {
		slug := slugOf(o)
		if rename {
			slug = oneOf(s, s.slugs())
		}
		name := spelled(slug, n)
		c.OrganizationName = &name
	}
	if email {
		email := oneOf(s, simEmails)
		c.Email = &email
	}
	if password {
		password := fmt.Sprint("password ", n)
		c.Password = &password
	}
	if email || password {
		current := m.password
		c.CurrentPassword = &current
	}
	return s.changing(o, c)
}

func (s *sim) changing(o org.Organization, c org.UpdateRequest) *operation {
	caller := s.caller(o)
	return &operation{kind: "Update", what: fmt.Sprint(o.ID, " to ", text(c.OrganizationName), " ", text(c.Email), " ", text(c.Password)),
		organization: o.ID, change: &c, run: func(ctx context.Context, service *org.Service) error {
			_, err := service.Update(ctx, caller, c)
			return err
		}}
}

func text(s *string) string {
	if s == nil {
		return "-"
	}
	return *s
}

func (s *sim) deletion(o org.Organization) *operation {
	caller := s.caller(o)
	return &operation{kind: "Delete", what: o.ID, organization: o.ID, run: func(ctx context.Context, service *org.Service) error {
		_, err := service.Delete(ctx, caller, nil)
		return err
	}}
}

func (s *sim) login(c org.LoginRequest) *operation {
	return &operation{kind: "Login", what: fmt.Sprint(c), run: func(ctx context.Context, service *org.Service) error {
		tokens, err := service.Login(ctx, c)
		if err == nil {
			_, err = service.Refresh(ctx, org.RefreshRequest{RefreshToken: tokens.Refresh})
		}
		return err
	}}
}

func (s *sim) get(name string) *operation {
	return &operation{kind: "Get", what: name, run: func(ctx context.Context, service *org.Service) error {
		_, err := service.Get(ctx, name)
		return err
	}}
}

func (s *sim) reconcile(full bool) *operation {
	op := &operation{kind: "Reconcile", what: fmt.Sprint("full ", full)}
	op.run = func(ctx context.Context, service *org.Service) error {
		report, err := service.Reconcile(ctx, full)
		op.what = fmt.Sprint(len(report.Finished)+len(report.Undone)+len(report.Removed), " repaired")
		return err
	}
	return op
}
