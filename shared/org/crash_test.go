package org_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"orgservice/local/mongodbtest"
	"orgservice/shared/org"
)

// crash makes a process die at one of its commands to the database, as far as
// the database can tell: that command and all later ones fail.
//
// Either the command is not sent, or it is carried out and its answer is lost.
// In the second case only commands that changed something are counted: losing
// the answer of any other one is, for the database and for the process, the
// same as not sending it.
type crash struct {
	at        int    // the number of the command, from 1
	lost      bool   // the answer is lost
	only      string // if set, commands of another name are not counted
	glitch    bool   // it is no crash: only the one connection fails, after
	meanwhile func() // is called
	late      bool   // it arrives when deliver is called, long after it failed
	deliver   func() error

	mu    sync.Mutex
	count int
	dead  bool
}

// crashing returns a service that crashes so.
func (w *world) crashing(c *crash) *org.Service {
	w.t.Helper()
	return w.service(c.client())
}

// errCrashed ends a command without an answer. The driver takes it for one
// that was given up, so it does not doubt the server: the next command fails,
// or doesn't, at once, and no time limit has a part in it.
var errCrashed = fmt.Errorf("crashed: %w", context.Canceled)

// client returns the options of a client that crashes so.
func (c *crash) client() *options.ClientOptions {
	client := options.Client().SetDialer(c)
	if !c.glitch {
		// Else the driver would try until the time is up.
		client.SetRetryReads(false).SetRetryWrites(false)
	}
	return client
}

func (c *crash) happened() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.dead
}

func (c *crash) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, network, address)
	return &crashingConn{Conn: conn, crash: c}, err
}

type crashingConn struct {
	net.Conn
	crash  *crash
	broken bool
	own    bool   // what was sent last is the driver's own
	answer []byte // that is here already, or what is left of it
}

// Write gets one whole message from the driver.
func (c *crashingConn) Write(b []byte) (int, error) {
	x := c.crash
	x.mu.Lock()
	defer x.mu.Unlock()
	name := commandName(b)
	c.own = driversOwn[name]
	if c.broken || x.dead && !x.glitch && !c.own {
		return 0, errCrashed
	}
	if x.dead || !counted(name) || x.only != "" && x.only != name || x.lost && reads[name] {
		return c.Conn.Write(b)
	}
	if x.lost {
		answer, err := c.carryOut(b)
		if err != nil {
			return 0, err
		}
		if !changed(answer) {
			c.answer = answer
			return len(b), nil
		}
		if x.count++; x.count < x.at {
			c.answer = answer
			return len(b), nil
		}
	} else if x.count++; x.count < x.at {
		return c.Conn.Write(b)
	}
	x.dead, c.broken = true, true
	if x.meanwhile != nil {
		defer x.meanwhile()
	}
	if x.lost {
		return len(b), nil
	}
	if x.late {
		message := slices.Clone(b)
		x.deliver = func() error {
			defer c.Conn.Close()
			_, err := c.carryOut(message)
			return err
		}
	}
	return 0, errCrashed
}

// carryOut sends the message and waits for the answer, which tells that the
// command was carried out.
func (c *crashingConn) carryOut(b []byte) (answer []byte, err error) {
	if err := c.Conn.SetDeadline(time.Now().Add(mongodbtest.Patience)); err != nil {
		return nil, err
	}
	if _, err := c.Conn.Write(b); err != nil {
		return nil, err
	}
	var length [4]byte
	if _, err := io.ReadFull(c.Conn, length[:]); err != nil {
		return nil, err
	}
	answer = make([]byte, binary.LittleEndian.Uint32(length[:]))
	copy(answer, length[:])
	_, err = io.ReadFull(c.Conn, answer[4:])
	return answer, err
}

func (c *crashingConn) Close() error {
	if c.broken && c.crash.late {
		return nil // what was sent is still on the way
	}
	return c.Conn.Close()
}

func (c *crashingConn) Read(b []byte) (int, error) {
	if c.broken || !c.own && !c.crash.glitch && c.crash.happened() {
		return 0, errCrashed
	}
	if len(c.answer) > 0 {
		n := copy(b, c.answer)
		c.answer = c.answer[n:]
		return n, nil
	}
	return c.Conn.Read(b)
}

// driversOwn are the commands that nobody but the driver sends.
var driversOwn = map[string]bool{
	"": true, "hello": true, "isMaster": true, "ismaster": true, "ping": true, "endSessions": true,
}

// counted tells the commands of an operation from the driver's own, and from
// those that make the indexes.
func counted(name string) bool { return !driversOwn[name] && name != "createIndexes" }

var reads = map[string]bool{"find": true, "getMore": true, "listCollections": true, "listIndexes": true}

// document returns the document in a message of kind OP_MSG, nil if the message
// is of another kind.
func document(b []byte) bson.Raw {
	const opMsg, start = 2013, 16 + 4 + 1
	if len(b) < start+5 || binary.LittleEndian.Uint32(b) != uint32(len(b)) {
		panic("not a whole message")
	}
	if binary.LittleEndian.Uint32(b[12:]) != opMsg {
		return nil
	}
	return bson.Raw(b[start:])
}

// commandName returns the name of the command in a message: the key of the
// first element of its document.
func commandName(b []byte) string {
	d := document(b)
	if d == nil {
		return ""
	}
	return d.Index(0).Key()
}

// changed reports whether a command that is no read has changed anything, as
// far as its answer tells.
func changed(answer []byte) bool {
	d := document(answer)
	ok, _ := d.Lookup("ok").AsInt64OK()
	n, counts := d.Lookup("n").AsInt64OK()
	return ok == 1 && (!counts || n > 0)
}

// crashCase is an operation that is interrupted. Its two names are those of
// the organization before and after; both must be usable by others if it has
// not got them.
type crashCase struct {
	name          string
	before, after string // names of the organization
	run           func(w *world, s *org.Service, o org.Organization) error
	logins        []org.LoginRequest
}

const (
	subject, subjectEmail = "Acme", "admin@acme.test"
	renamed, newEmail     = "Bolt", "admin@bolt.test"
	newPassword           = "battery staple"
)

func ptr(s string) *string { return &s }

func update(c org.UpdateRequest) func(w *world, s *org.Service, o org.Organization) error {
	return func(w *world, s *org.Service, o org.Organization) error {
		_, err := s.Update(context.Background(), w.callerOf(o), c)
		return err
	}
}

func crashCases() []crashCase {
	old := org.LoginRequest{Email: subjectEmail, Password: password}
	return []crashCase{
		{"create", "", renamed, func(w *world, s *org.Service, _ org.Organization) error {
			_, err := s.Create(context.Background(), org.CreateRequest{OrganizationName: renamed, Email: newEmail, Password: newPassword})
			return err
		}, []org.LoginRequest{{Email: newEmail, Password: newPassword}}},
		{"rename", subject, renamed, update(org.UpdateRequest{OrganizationName: ptr(renamed)}), []org.LoginRequest{old}},
		{"display name", subject, "ACME", update(org.UpdateRequest{OrganizationName: ptr("ACME")}), []org.LoginRequest{old}},
		{"password", subject, subject, update(org.UpdateRequest{Password: ptr(newPassword), CurrentPassword: ptr(password)}),
			[]org.LoginRequest{old, {Email: subjectEmail, Password: newPassword}}},
		{"everything", subject, renamed,
			update(org.UpdateRequest{OrganizationName: ptr(renamed), Email: ptr(newEmail), Password: ptr(newPassword), CurrentPassword: ptr(password)}),
			[]org.LoginRequest{old, {Email: newEmail, Password: newPassword}}},
		{"delete", subject, "", func(w *world, s *org.Service, o org.Organization) error {
			_, err := s.Delete(context.Background(), w.callerOf(o), nil)
			return err
		}, []org.LoginRequest{old}},
	}
}

// look tells the state of the organization under whichever name it has.
func (c crashCase) look(w *world, s *org.Service) string {
	state := ""
	for _, name := range []string{c.before, c.after} {
		if name != "" {
			state += w.look(s, name, c.logins...) + "; "
		}
	}
	return state
}

// stage returns a world with a bystander and, unless the case is a creation,
// the organization that the case is about, whose ids are left out of states
// since they differ from one world to the next.
func (c crashCase) stage(t *testing.T, db mongodbtest.Database) (*world, org.Organization) {
	w := worldIn(t, db.Fresh(t))
	s := w.service()
	w.create(s, "Bystander", "admin@bystander.test")
	if c.before == "" {
		return w, org.Organization{}
	}
	return w, w.create(s, c.before, subjectEmail)
}

// A crash leaves the database with the first changes of the operation made, and
// the others not: with n of them, whether the process died before the next one
// was sent or before the answer to the last one came, and whatever it read in
// between. So to lose the answers of all changes, one after the other, leaves
// every state that there is, but the one in which nothing was done. What differs
// is what the client is told, if it is the process that dies later: TestCrash
// looks at both ways, and where a client does not come into it, one is enough.

// TestCrash interrupts every operation at every one of its commands, both
// ways, lets others come and checks that nothing is left of it. Then it does so
// in every state, with clients coming before the repair.
func TestCrash(t *testing.T) {
	forEachCrash(t, "clientFirst=false", bothWays, func(t *testing.T, p *play, n int, lost bool) (ended bool) {
		return p.crash(t, &crash{at: n, lost: lost}, nil, false)
	})
	forEachCrash(t, "clientFirst=true", answerLost, func(t *testing.T, p *play, n int, lost bool) (ended bool) {
		return p.crash(t, &crash{at: n, lost: lost}, nil, true)
	})
}

// TestCrashInRepair interrupts, in every state that a crash leaves, the repair
// in every state of its own. That it dies before it changes anything is left
// out: TestCrash repairs what is there then.
func TestCrashInRepair(t *testing.T) {
	forEachCrash(t, "repair", answerLost, func(t *testing.T, p *play, n int, lost bool) (ended bool) {
		for at := 1; at <= maxCommands; at++ {
			repair := &crash{at: at, lost: true}
			t.Run(fmt.Sprintf("repair at=%d", at), func(t *testing.T) {
				ended = p.crash(t, &crash{at: n, lost: lost}, repair, false)
			})
			if ended || !repair.happened() {
				break
			}
		}
		return ended
	})
}

// TestGlitch fails one command of every operation, once, both ways, without
// and with another change of the organization right after it. The operation
// itself cleans up.
func TestGlitch(t *testing.T) {
	var glitches, left atomic.Int64
	for _, meanwhile := range []bool{false, true} {
		forEachCrash(t, fmt.Sprintf("meanwhile=%v", meanwhile), bothWays, func(t *testing.T, p *play, n int, lost bool) (ended bool) {
			w, o := p.stage(t, p.db)
			c := &crash{at: n, lost: lost, glitch: true}
			if meanwhile && o.ID != "" {
				other := w.service()
				c.meanwhile = func() {
					other.Update(context.Background(), w.callerOf(o), org.UpdateRequest{Password: ptr("third password"), CurrentPassword: ptr(password)})
				}
			}
			err := p.run(w, w.crashing(c), o)
			if !c.happened() {
				return true
			}
			p.crashes++
			state := anonymous(p.look(w, w.service()), o)
			if err == nil && !meanwhile && state != p.after || err != nil && !errors.Is(err, org.ErrUnavailable) && !meanwhile {
				t.Errorf("%v was answered, and it is %q", err, state)
			}
			glitches.Add(1)
			if errors.Is(err, org.ErrUnavailable) && len(w.problems()) > 0 {
				left.Add(1)
				w.wait()
				reconcile(t, w.service())
			}
			w.check()
			return false
		})
	}
	t.Logf("%d of %d were left to reconcile", left.Load(), glitches.Load())
	if left.Load() > glitches.Load()/4 {
		t.Errorf("%d of %d were left to reconcile", left.Load(), glitches.Load())
	}
}

// TestLate lets one command of every operation arrive after the operation has
// failed with it and cleaned up.
func TestLate(t *testing.T) {
	forEachCrash(t, "late", notSent, func(t *testing.T, p *play, n int, _ bool) (ended bool) {
		w, o := p.stage(t, p.db)
		c := &crash{at: n, glitch: true, late: true}
		err := p.run(w, w.crashing(c), o)
		if !c.happened() {
			return true
		}
		p.crashes++
		if err := c.deliver(); err != nil {
			t.Fatal(err)
		}
		w.wait()
		reconcile(t, w.service())
		state := anonymous(p.look(w, w.service()), o)
		if state != p.before && state != p.after || err == nil && state != p.after {
			t.Errorf("%v was answered, and it is %q", err, state)
		}
		w.check()
		return false
	})
}

// TestLateWrite writes to the old name of a collection after it was moved, and
// the process that moved it has died: MongoDB makes a collection of that name.
func TestLateWrite(t *testing.T) {
	w, s, o := stage(t)
	if err := rename(w, w.crashing(&crash{at: 1, lost: true, only: "renameCollection"}), o, "Bolt")(); !errors.Is(err, org.ErrUnavailable) {
		t.Fatal(err)
	}
	database := w.db.Client.Database(w.db.Name)
	if _, err := database.Collection(o.Collection).InsertOne(t.Context(), bson.D{{Key: "late", Value: true}}); err != nil {
		t.Fatal(err)
	}
	w.wait()
	report, err := s.Reconcile(t.Context(), true)
	if err != nil || len(report.NeedsAttention) != 1 || report.NeedsAttention[0].Kind != org.OrphanCollection {
		t.Errorf("reconcile: %+v, %v; want the collection of the old name found odd", report, err)
	}
	if got, err := s.Get(t.Context(), "Bolt"); err != nil || got.Collection != "org_bolt" {
		t.Errorf("Get = %+v, %v", got, err)
	}
	if err := database.Collection(o.Collection).Drop(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.check()
}

// maxCommands is more than any operation needs.
const maxCommands = 50

// The ways in which a command can fail: whether its answer is lost.
var (
	notSent    = []bool{false}
	answerLost = []bool{true}
	bothWays   = []bool{false, true}
)

// forEachCrash calls f, for each case and way to crash, with a crash at the
// first command, the second and so on, until f reports that the operation came
// to its end before.
func forEachCrash(t *testing.T, name string, ways []bool, f func(t *testing.T, p *play, n int, lost bool) (ended bool)) {
	t.Run(name, func(t *testing.T) {
		for _, c := range crashCases() {
			t.Run(c.name, func(t *testing.T) {
				t.Parallel()
				p := newPlay(t, c)
				for _, lost := range ways {
					for n := 1; n <= maxCommands; n++ {
						ended := false
						t.Run(fmt.Sprintf("at=%d lost=%v", n, lost), func(t *testing.T) {
							ended = f(t, p, n, lost)
						})
						if ended {
							break
						}
					}
				}
				t.Logf("%s: %d crashes", c.name, p.crashes)
			})
		}
	})
}

// play is a case with the two states that a client may find the organization
// in, whatever happens.
type play struct {
	crashCase
	db            mongodbtest.Database // on a server of its own
	before, after string
	crashes       int
}

func newPlay(t *testing.T, c crashCase) *play {
	p := &play{crashCase: c, db: mongodbtest.New(t)}
	w, o := c.stage(t, p.db)
	s := w.service()
	p.before = anonymous(c.look(w, s), o)
	if err := c.run(w, s, o); err != nil {
		t.Fatalf("without a crash: %v", err)
	}
	p.after = anonymous(c.look(w, s), o)
	w.check()
	return p
}

// crash plays the case once, with a crash in the operation and maybe one in
// its first repair. It reports whether the operation came to its end before it
// could crash.
func (p *play) crash(t *testing.T, operation, repair *crash, clientFirst bool) (ended bool) {
	ctx := context.Background()
	w, o := p.stage(t, p.db)
	err := p.run(w, w.crashing(operation), o)
	if !operation.happened() {
		if err != nil {
			t.Fatalf("without a crash: %v", err)
		}
		return true
	}
	p.crashes++
	if repair != nil {
		w.wait()
		w.crashing(repair).Reconcile(ctx, true)
	}
	w.wait()
	s := w.service()
	if !clientFirst {
		reconcile(t, s)
	}
	state := anonymous(p.look(w, s), o)
	switch {
	case err == nil && state != p.after:
		t.Errorf("success was answered, but it is %q instead of %q", state, p.after)
	case err != nil && !errors.Is(err, org.ErrUnavailable) && state != p.before:
		t.Errorf("%v was answered, but it is %q instead of %q", err, state, p.before)
	case state != p.before && state != p.after:
		t.Errorf("it is %q: neither %q nor %q", state, p.before, p.after)
	}
	// Whichever name and email it has not, somebody else can have.
	for i, name := range []string{p.crashCase.before, p.crashCase.after} {
		if name == "" {
			continue
		}
		if _, err := s.Get(ctx, name); errors.Is(err, org.ErrNotFound) {
			w.create(s, name, fmt.Sprintf("somebody%d@else.test", i))
		}
	}
	for i, email := range []string{subjectEmail, newEmail} {
		if !w.emailTaken(email) {
			w.create(s, fmt.Sprintf("Somebody Else %d", i), email)
		}
	}
	if clientFirst {
		w.wait()
		reconcile(t, s)
	}
	w.check()
	return false
}

func reconcile(t *testing.T, s *org.Service) {
	t.Helper()
	report, err := s.Reconcile(context.Background(), true)
	if err != nil {
		t.Errorf("reconcile: %v", err)
	}
	if len(report.NeedsAttention) > 0 {
		t.Errorf("reconcile found odd: %+v", report.NeedsAttention)
	}
}
