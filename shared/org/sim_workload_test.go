package org_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"orgservice/shared/auth"
	"orgservice/shared/org"
)

// The slugs and emails that clients use.
var (
	simSlugs  = []string{"acme", "bolt", "core", "dune"}
	simEmails = []string{"a@x.test", "b@x.test", "c@x.test", "d@x.test"}
)

// spelling returns a name that has the slug, with another spelling for each
// number.
func spelling(slug string, n int) string {
	b := []byte(slug)
	for i := range b {
		if n>>i&1 == 1 {
			b[i] -= 'a' - 'A'
		}
	}
	return string(b) + strings.Repeat("!", n>>len(b))
}

// plainPasswords replaces bcrypt, which would take a thousand times as long as
// everything else.
type plainPasswords struct{}

func (plainPasswords) Hash(password string) (string, error) { return "hash of " + password, nil }

func (plainPasswords) Verify(hash, password string) (bool, error) {
	return hash == "hash of "+password, nil
}

func (plainPasswords) Outdated(string) bool { return false }

// simSigner signs the access tokens of all simulations.
var simSigner = func() *auth.Signer {
	signer, err := auth.NewSigner([]byte(strings.Repeat("s", auth.MinSecretBytes)))
	if err != nil {
		panic(err)
	}
	return signer
}()

// operation is one request of a client to a process.
type operation struct {
	n       int
	process *process
	kind    string
	args    string // its arguments, for the trace
	run     func(context.Context, *org.Service) error

	organization  string             // the id of the one that it acts on
	name          string             // that a restoration gives it; empty: the one before
	admin         string             // the id of the admin for whom it acts
	createRequest *org.CreateRequest // of a creation
	updateRequest *org.UpdateRequest // of an update
	memberRequest *memberRequest     // of a change of members
	ticketOf      string             // where the mail with the ticket that it has went to
	key           *simKey            // nil: it has no idempotency key
	fingerprint   string             // that it has with the key
	setsPassword  bool               // its repetition is held against the password
	again         *operation         // it, without the key
	outcome       *string            // that it has instead of being carried out

	dead       bool // its process has crashed
	ended      bool
	answered   bool
	err        error // the answer
	answeredAt time.Time
	panicked   any // the value of a panic

	faults         int       // how many of its calls had another fate than executed
	cleanCalls     int       // how many calls were executed since the last fault
	usedOldPrimary bool      // it has read from, or written to, an old primary
	committed      bool      // the record says that it is committed
	adminChanged   bool      // the record of the admin says that it is changed
	callerVersion  int64     // of the token
	newVersion     int64     // of the admin's tokens after it, if it has changed the admin
	namedAt        int       // the step at which a creation gave its collection the name
	committedAt    int       // the step at which it was committed
	beganAt        int       // the step at which it began
	readAt         int       // the step at which it has read the record of an organization last
	readTime       time.Time // when that was
	beganTime      time.Time
}

func (op *operation) String() string { return fmt.Sprintf("p%d op%d %s", op.process.n, op.n, op.kind) }

// start starts the operation in a goroutine.
func (s *sim) start(op *operation) {
	op.n = len(s.ops) + 1
	s.ops = append(s.ops, op)
	op.process.op, op.beganAt, op.beganTime = op, s.step, time.Now()
	s.tracef("%v %s", op, op.args)
	h := &handle{sim: s, op: op}
	service := &org.Service{
		Store: h, Database: "db", Mailer: mailbox{h}, Passwords: plainPasswords{},
		Tokens: simSigner, TokenTTL: time.Hour, SessionTTL: time.Hour,
		DeleteGrace: s.grace,
		Now:         func() time.Time { return time.Now().Add(op.process.clock) },
		Log:         s.logger(),
	}
	go func() {
		defer func() {
			if p := recover(); p != nil {
				op.panicked = p
				do(context.Background(), h, "panic", operationEnd, "", noCommand)
			}
		}()
		op.err = op.run(context.Background(), service)
		do(context.Background(), h, "answer", operationEnd, "", noCommand)
	}()
}

// noCommand is the run of a call of kind operationEnd.
func noCommand(*state) (any, error) { return nil, nil }

// runAlone runs an operation to its end while nothing else happens. If the
// budget is 0, nothing goes wrong.
func (s *sim) runAlone(op *operation) error {
	op.process = &process{}
	s.start(op)
	for !op.ended {
		s.settle()
		s.step++
		if len(s.pending) == 0 { // it waits for the time
			s.sleep(10 * time.Millisecond)
			continue
		}
		s.resolve(s.pending[s.rng.IntN(len(s.pending))])
	}
	return op.err
}

// begin starts a random operation on the process.
func (s *sim) begin(p *process) {
	var op *operation
	if len(s.keys) > 0 && s.rng.IntN(4) == 0 {
		op = s.repeatOp(oneOf(s, s.keys))
	} else if op = s.chooseOperation(); s.rng.IntN(3) == 0 {
		op = s.withKey(op, nil)
	}
	op.process = p
	s.start(op)
}

// oneOf returns a random one of the values.
func oneOf[T any](s *sim, values []T) T { return values[s.rng.IntN(len(values))] }

// slugs returns the slugs that clients use with this profile.
func (s *sim) slugs() []string {
	if s.renamesOnly {
		return simSlugs[:3]
	}
	return simSlugs
}

// emails returns the emails that clients want with this profile.
func (s *sim) emails() []string {
	if s.oneEmail {
		return simEmails[3:]
	}
	return simEmails
}

// chooseOperation returns a random operation.
func (s *sim) chooseOperation() *operation {
	active := s.active()
	if deleted := s.deleted(); len(deleted) > 0 && s.rng.IntN(4) == 0 {
		if s.rng.IntN(4) == 0 {
			return s.purgeOp(oneOf(s, deleted))
		}
		return s.restoreOp(oneOf(s, deleted), oneOf(s, append(s.slugs(), "", "")))
	}
	if s.operator > 0 && s.rng.IntN(12) == 0 {
		if ids := s.begun(); len(ids) > 0 {
			return s.renameByOperatorOp(oneOf(s, ids), oneOf(s, s.slugs()))
		}
	}
	if s.operator > 0 && s.rng.IntN(8) == 0 {
		if ids := s.begun(); len(ids) > 0 {
			return s.actOp(oneOf(s, ids), s.rng.IntN(2) == 0)
		}
	}
	if s.operator > 0 && s.rng.IntN(4) == 0 { // clients go on while they are suspended
		active = active[:0]
		for _, id := range s.begun() {
			active = append(active, s.durable.organizations[id])
		}
	}
	r := s.rng.IntN(100)
	if s.membersOnly && len(active) > 0 && r >= 15 {
		if r < 80 {
			return s.chooseMembersOp(oneOf(s, active))
		}
		r = 50 + (r-80)*5/4 // a deletion, or one more organization
		if r < 60 {
			return s.randomUpdateOp(oneOf(s, active))
		}
	}
	switch {
	case r < 25 || len(active) == 0 && r < 70:
		slug, email := oneOf(s, s.slugs()), oneOf(s, s.emails())
		if s.rng.IntN(5) == 0 {
			return s.finishSignUpOp(slug, email)
		}
		return s.createOp(slug, email)
	case r < 50 && len(active) > 0:
		return s.randomUpdateOp(oneOf(s, active))
	case r < 62 && len(active) > 0:
		return s.chooseMembersOp(oneOf(s, active))
	case r < 70 && len(active) > 0:
		return s.deleteOp(oneOf(s, active))
	case r < 75 && len(active) > 0:
		return s.createAnotherOp(oneOf(s, active), oneOf(s, s.slugs()))
	case r < 77 && len(active) > 0:
		return s.switchOp(oneOf(s, active), oneOf(s, active).Name)
	case r < 80:
		c := org.LoginRequest{Email: oneOf(s, simEmails), Password: "nobody's password"}
		for _, o := range active {
			if m := s.models[o.ID]; m.email == c.Email {
				c.Password = m.password
				if s.rng.IntN(2) == 0 {
					c.OrganizationName = &m.name
				}
			}
		}
		return s.loginOp(c)
	case r < 85:
		return s.getOp(oneOf(s, simSlugs))
	}
	return s.reconcileOp(s.rng.IntN(3) > 0)
}

func (s *sim) createOp(slug, email string) *operation {
	n := len(s.ops) + 1
	r := org.CreateRequest{OrganizationName: spelling(slug, n), Email: email, Password: fmt.Sprint("password ", n)}
	return &operation{kind: "Create", args: fmt.Sprint(r), createRequest: &r, run: func(ctx context.Context, service *org.Service) error {
		_, err := service.Create(ctx, r)
		return err
	}}
}

// createAnotherOp returns the creation of one more organization by the admin of o.
func (s *sim) createAnotherOp(o org.Organization, slug string) *operation {
	caller := s.caller(o)
	name := spelling(slug, len(s.ops)+1)
	return &operation{kind: "Create another", args: fmt.Sprint(o.ID, " ", name), createRequest: &org.CreateRequest{OrganizationName: name}, admin: caller.AdminID,
		callerVersion: caller.TokenVersion, run: func(ctx context.Context, service *org.Service) error {
			_, err := service.CreateOrganization(ctx, caller, org.CreateOrganizationRequest{OrganizationName: name})
			return err
		}}
}

// finishSignUpOp finishes the sign-up of an organization by the mail to the email, which a new
// admin has or the one who has it.
func (s *sim) finishSignUpOp(slug, email string) *operation {
	secret := auth.NewOpaqueToken(auth.NewOpaqueID())
	r := org.CreateRequest{OrganizationName: spelling(slug, len(s.ops)+1), Email: email, Password: fmt.Sprint("password ", len(s.ops)+1)}
	s.durable.insertTicket(org.Ticket{
		ID: secret.ID, Kind: org.SignUpMail, Email: email, OrganizationName: r.OrganizationName,
		Hashes: []string{secret.Hash()}, Mailed: true, CreatedAt: time.Now(), ExpiresAt: time.Now().Add(24 * time.Hour),
	})
	op := &operation{kind: "Finish sign-up", createRequest: &r, ticketOf: email}
	for _, a := range s.durable.findAdmins(func(a org.Admin) bool { return a.Email == email && !a.Asleep }) {
		r.Password = strings.TrimPrefix(a.PasswordHash, "hash of ")
		op.admin, op.callerVersion = a.ID, a.TokenVersion
	}
	op.args = fmt.Sprint(r)
	op.run = func(ctx context.Context, service *org.Service) error {
		_, err := service.Accept(ctx, org.AcceptRequest{Ticket: secret.Text(), Password: r.Password})
		return err
	}
	return op
}

func (s *sim) switchOp(o org.Organization, name string) *operation {
	caller := s.caller(o)
	return &operation{kind: "Switch", args: fmt.Sprint(o.ID, " to ", name), run: func(ctx context.Context, service *org.Service) error {
		_, err := service.Switch(ctx, caller, org.SwitchRequest{OrganizationName: name})
		return err
	}}
}

// firstOwner returns the id of the first owner, for whom clients act. Others may be before that
// one after a restoration.
func firstOwner(o org.Organization) string {
	i := max(0, slices.IndexFunc(o.Admins, func(m org.Member) bool { return m.Role == org.RoleOwner }))
	return o.Admins[i].AdminID
}

// caller returns the caller of a new token of the organization's admin, and
// stores its session.
func (s *sim) caller(o org.Organization) auth.Caller { return s.callerOf(o, firstOwner(o)) }

func lastAct(o org.Organization) string {
	for _, a := range slices.Backward(o.History) {
		if a.Kind != org.ActRename { // which ends no login
			return a.ID
		}
	}
	return ""
}

func (s *sim) callerOf(o org.Organization, adminID string) auth.Caller {
	a := s.durable.admins[adminID]
	session := org.Session{
		ID: fmt.Sprint("s", len(s.ops)+1), AdminID: a.ID, OrganizationID: o.ID, TokenVersion: a.TokenVersion, LastAct: lastAct(o),
		ExpiresAt: time.Now().AddDate(1, 0, 0),
	}
	s.durable.sessions[session.ID] = session
	if s.oldPrimary != nil {
		s.oldPrimary.local.sessions[session.ID], s.oldPrimary.majority.sessions[session.ID] = session, session
	}
	return auth.Caller{AdminID: a.ID, OrganizationID: o.ID, TokenVersion: a.TokenVersion, SessionID: session.ID, ExpiresAt: session.ExpiresAt}
}

// randomUpdateOp returns a random update of the organization.
func (s *sim) randomUpdateOp(o org.Organization) *operation {
	n := len(s.ops) + 1
	m := s.models[o.ID]
	var c org.UpdateRequest
	kind := s.rng.IntN(10)
	if s.renamesOnly {
		kind = 0
	} else if s.changesAll {
		kind = 9
	}
	rename, email, password := kind < 5 || kind == 9, kind == 5 || kind == 6 || kind == 9, kind == 7 || kind == 9
	if rename || kind == 8 {
		slug := slugOf(o)
		if rename {
			slug = oneOf(s, s.slugs())
		}
		name := spelling(slug, n)
		c.OrganizationName = &name
	}
	if email {
		email := oneOf(s, s.emails())
		c.Email = &email
	}
	if password {
		password := fmt.Sprint("password ", n)
		c.Password = &password
	}
	adminID, current := firstOwner(o), m.password
	if p := s.people[oneOf(s, o.Admins).AdminID]; p != nil && s.rng.IntN(5) < 4 {
		adminID, current = p.adminID, p.password
	}
	if email || password {
		c.CurrentPassword = &current
	}
	return s.updateAs(o, adminID, c)
}

func (s *sim) updateOp(o org.Organization, c org.UpdateRequest) *operation {
	return s.updateAs(o, firstOwner(o), c)
}

func (s *sim) updateAs(o org.Organization, adminID string, c org.UpdateRequest) *operation {
	caller := s.callerOf(o, adminID)
	return &operation{kind: "Update", admin: adminID, callerVersion: caller.TokenVersion, args: fmt.Sprint(o.ID, " ", adminID, " to ", textOf(c.OrganizationName), " ", textOf(c.Email), " ", textOf(c.Password)),
		organization: o.ID, updateRequest: &c, run: func(ctx context.Context, service *org.Service) error {
			_, err := service.Update(ctx, caller, c)
			return err
		}}
}

// textOf returns the text of an optional field for the trace.
func textOf(s *string) string {
	if s == nil {
		return "-"
	}
	return *s
}

func (s *sim) deleteOp(o org.Organization) *operation {
	caller := s.caller(o)
	return &operation{kind: "Delete", admin: caller.AdminID, callerVersion: caller.TokenVersion, args: o.ID, organization: o.ID, run: func(ctx context.Context, service *org.Service) error {
		_, err := service.Delete(ctx, caller, org.DeleteRequest{})
		return err
	}}
}

func (s *sim) loginOp(c org.LoginRequest) *operation {
	return &operation{kind: "Login", args: fmt.Sprint(c.Email, " ", c.Password, " ", textOf(c.OrganizationName)), run: func(ctx context.Context, service *org.Service) error {
		tokens, err := service.Login(ctx, c)
		if err == nil {
			_, err = service.Refresh(ctx, org.RefreshRequest{RefreshToken: tokens.Refresh})
		}
		return err
	}}
}

// actOp returns a suspension by an operator, or the end of one.
func (s *sim) actOp(id string, ends bool) *operation {
	op := &operation{kind: "Suspend", args: id, organization: id}
	act := (*org.Service).Suspend
	if ends {
		op.kind, act = "Reactivate", (*org.Service).Reactivate
	}
	op.run = func(ctx context.Context, service *org.Service) error {
		_, err := act(service, ctx, "operator", id, org.ActRequest{Reason: fmt.Sprint("reason ", op.n%2)})
		return err
	}
	return op
}

func (s *sim) getOp(name string) *operation {
	return &operation{kind: "Get", args: name, run: func(ctx context.Context, service *org.Service) error {
		_, err := service.Get(ctx, name)
		return err
	}}
}

func (s *sim) reconcileOp(full bool) *operation {
	op := &operation{kind: "Reconcile", args: fmt.Sprint("full ", full)}
	op.run = func(ctx context.Context, service *org.Service) error {
		report, err := service.Reconcile(ctx, full)
		op.args = fmt.Sprint(len(report.Finished)+len(report.Undone)+len(report.Removed), " repaired")
		return err
	}
	return op
}
