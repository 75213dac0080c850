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

// crash makes one command to the database fail, and all later ones of the same
// process. For the database that is the same as a crash of the process.
//
// Either the command is not sent, or it is executed and its answer is lost. In
// the second case only commands that changed something are counted. If a
// command changed nothing, it makes no difference whether it was sent.
type crash struct {
	at        int          // the number of the command, from 1
	lost      bool         // the command is executed and its answer is lost
	only      string       // if set, only commands of this name are counted
	glitch    bool         // no crash: only this command and its connection fail
	meanwhile func()       // if set, it is called when the command fails
	late      bool         // the command arrives when deliver is called
	deliver   func() error // set when a late command has failed

	mu    sync.Mutex
	count int
	dead  bool
}

// crashing returns a service that crashes at c.
func (w *world) crashing(c *crash) *org.Service {
	w.t.Helper()
	return w.service(c.client())
}

// errCrashed is the error of a command that got no answer. To the driver it
// means that the caller gave up, so it does not mark the server as unknown.
// The next command succeeds or fails at once, without a time limit.
var errCrashed = fmt.Errorf("crashed: %w", context.Canceled)

// client returns the options of a client that crashes at c.
func (c *crash) client() *options.ClientOptions {
	client := options.Client().SetDialer(c)
	if !c.glitch {
		// Otherwise the driver would retry until the time limit.
		client.SetRetryReads(false).SetRetryWrites(false)
	}
	return client
}

// happened reports whether the command has failed.
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
	own    bool   // the last command was one of driverCommands
	answer []byte // the rest of an answer that was read already
}

// Write sends b, which is one complete message, or fails.
func (c *crashingConn) Write(b []byte) (int, error) {
	x := c.crash
	x.mu.Lock()
	defer x.mu.Unlock()
	name := commandName(b)
	c.own = driverCommands[name]
	if c.broken || x.dead && !x.glitch && !c.own {
		return 0, errCrashed
	}
	if x.dead || !isCounted(name) || x.only != "" && x.only != name || x.lost && readCommands[name] {
		return c.Conn.Write(b)
	}
	if x.lost {
		answer, err := c.roundTrip(b)
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
			_, err := c.roundTrip(message)
			return err
		}
	}
	return 0, errCrashed
}

// roundTrip sends the message and returns the answer. After that the command
// has been executed.
func (c *crashingConn) roundTrip(b []byte) (answer []byte, err error) {
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
		return nil // deliver needs the connection
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

// driverCommands are the commands that only the driver itself sends. A message
// of another kind than OP_MSG has an empty name.
var driverCommands = map[string]bool{
	"": true, "hello": true, "isMaster": true, "ismaster": true, "ping": true, "endSessions": true,
}

// isCounted reports whether a command belongs to an operation. The driver's own
// commands don't, and those that make indexes don't.
func isCounted(name string) bool { return !driverCommands[name] && name != "createIndexes" }

var readCommands = map[string]bool{"find": true, "getMore": true, "listCollections": true, "listIndexes": true}

// messageDocument returns the document in a message of kind OP_MSG, or nil if
// the message is of another kind.
func messageDocument(b []byte) bson.Raw {
	const opMsg, start = 2013, 16 + 4 + 1
	if len(b) < start+5 || binary.LittleEndian.Uint32(b) != uint32(len(b)) {
		panic("not one complete message")
	}
	if binary.LittleEndian.Uint32(b[12:]) != opMsg {
		return nil
	}
	return bson.Raw(b[start:])
}

// commandName returns the name of the command in a message, which is the key of
// the first element of its document.
func commandName(b []byte) string {
	d := messageDocument(b)
	if d == nil {
		return ""
	}
	return d.Index(0).Key()
}

// changed reports whether a command has changed something, according to its
// answer. The command must not be one of readCommands.
func changed(answer []byte) bool {
	d := messageDocument(answer)
	ok, _ := d.Lookup("ok").AsInt64OK()
	n, counts := d.Lookup("n").AsInt64OK()
	return ok == 1 && (!counts || n > 0)
}

// crashCase is an operation that a crash interrupts. Afterwards others must be
// able to use each of the two names that the organization does not have.
type crashCase struct {
	name                  string
	nameBefore, nameAfter string // of the organization
	run                   func(w *world, s *org.Service, o org.Organization) error
	logins                []org.LoginRequest // before or after the operation
}

const (
	subject, subjectEmail = "Acme", "admin@acme.test"
	renamed, newEmail     = "Bolt", "admin@bolt.test"
	newPassword           = "battery staple"
)

// update returns the run of a crashCase that sends the request.
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
		{"create another", subject, renamed, func(w *world, s *org.Service, o org.Organization) error {
			_, err := s.CreateOrganization(context.Background(), w.callerOf(o), org.CreateOrganizationRequest{OrganizationName: renamed})
			return err
		}, []org.LoginRequest{old}},
		{"rename", subject, renamed, update(org.UpdateRequest{OrganizationName: new(renamed)}), []org.LoginRequest{old}},
		{"display name", subject, "ACME", update(org.UpdateRequest{OrganizationName: new("ACME")}), []org.LoginRequest{old}},
		{"password", subject, subject, update(org.UpdateRequest{Password: new(newPassword), CurrentPassword: new(password)}),
			[]org.LoginRequest{old, {Email: subjectEmail, Password: newPassword}}},
		{"everything", subject, renamed,
			update(org.UpdateRequest{OrganizationName: new(renamed), Email: new(newEmail), Password: new(newPassword), CurrentPassword: new(password)}),
			[]org.LoginRequest{old, {Email: newEmail, Password: newPassword}}},
		{"accept", subject, subject, func(w *world, s *org.Service, o org.Organization) error {
			_, err := s.Accept(context.Background(), org.AcceptRequest{Ticket: w.invite(o, newEmail).Ticket, Password: newPassword})
			return err
		}, []org.LoginRequest{old, {Email: newEmail, Password: newPassword}}},
		{"delete, to be restored", subject, "", func(w *world, s *org.Service, o org.Organization) error {
			s.DeleteGrace = time.Hour
			_, err := s.Delete(context.Background(), w.callerOf(o), org.DeleteRequest{})
			return err
		}, []org.LoginRequest{old}},
		{"delete", subject, "", func(w *world, s *org.Service, o org.Organization) error {
			_, err := s.Delete(context.Background(), w.callerOf(o), org.DeleteRequest{})
			return err
		}, []org.LoginRequest{old}},
	}
}

// invite invites somebody to the organization, by a process of its own, and returns the
// mail.
func (w *world) invite(o org.Organization, email string) org.Mail {
	w.t.Helper()
	s, post := w.service(), &letters{}
	s.Mailer = post
	if _, err := s.Invite(context.Background(), w.callerOf(o), org.InviteRequest{Email: email, Role: "member"}); err != nil {
		w.t.Fatal(err)
	}
	return post.sent[0]
}

// clientState returns what clients see of the organization under both names.
func (c crashCase) clientState(w *world, s *org.Service) string {
	state := ""
	for _, name := range []string{c.nameBefore, c.nameAfter} {
		if name != "" {
			state += w.clientState(s, name, c.logins...) + "; "
		}
	}
	return state
}

// setUp returns a world with another organization and, unless the case is a
// creation, the one that the case is about. The service is of a process that lives on.
func (c crashCase) setUp(t *testing.T, db mongodbtest.Database) (*world, *org.Service, org.Organization) {
	w := plainWorld(t, db.Fresh(t))
	w.unindexed = true
	s := w.service()
	w.create(s, "Bystander", "admin@bystander.test")
	if c.nameBefore == "" {
		return w, s, org.Organization{}
	}
	return w, s, w.create(s, c.nameBefore, subjectEmail)
}

// After a crash the first n changes of an operation are made and the others are
// not. For the database it makes no difference whether the process died before
// it sent change n+1 or before it got the answer to change n, and reads make
// none. So a test that loses the answer of each change in turn leaves every
// possible state except the one without any change. The answer to the client
// can still differ, so TestCrash covers both ways. Tests without a client need
// only one.

// TestCrash interrupts every operation at every one of its commands, in both
// ways. Then it reconciles, lets clients use the names and emails that are
// free, and checks the database. After that it does the same for every state,
// but the clients come before the repair.
func TestCrash(t *testing.T) {
	t.Parallel()
	forEachCrash(t, "clientFirst=false", bothWays, func(t *testing.T, sc *scenario, n int, lost bool) (ended bool) {
		return sc.interrupt(t, &crash{at: n, lost: lost}, nil, false)
	})
	forEachCrash(t, "clientFirst=true", answerLost, func(t *testing.T, sc *scenario, n int, lost bool) (ended bool) {
		return sc.interrupt(t, &crash{at: n, lost: lost}, nil, true)
	})
}

// TestCrashInRepair interrupts the repair of every state that a crash leaves,
// after each change that the repair makes. A repair that changed nothing leaves
// the state that TestCrash repairs.
func TestCrashInRepair(t *testing.T) {
	t.Parallel()
	var repairs atomic.Int64
	forEachCrash(t, "repair", answerLost, func(t *testing.T, sc *scenario, n int, lost bool) (ended bool) {
		for at := 1; at <= maxCommands; at++ {
			repair := &crash{at: at, lost: true}
			t.Run(fmt.Sprintf("repair at=%d", at), func(t *testing.T) {
				ended = sc.interrupt(t, &crash{at: n, lost: lost}, repair, false)
			})
			if ended || !repair.happened() {
				break
			}
			repairs.Add(1)
		}
		return ended
	})
	if repairs.Load() == 0 {
		t.Error("no repair was interrupted")
	}
}

// TestGlitch fails one command of every operation, once, in both ways, with and
// without another change of the organization at that moment. The operation must
// clean up after itself.
func TestGlitch(t *testing.T) {
	t.Parallel()
	var glitches, left atomic.Int64
	for _, meanwhile := range []bool{false, true} {
		forEachCrash(t, fmt.Sprintf("meanwhile=%v", meanwhile), bothWays, func(t *testing.T, sc *scenario, n int, lost bool) (ended bool) {
			w, s, o := sc.setUp(t, sc.db)
			c := &crash{at: n, lost: lost, glitch: true}
			if meanwhile && o.ID != "" {
				c.meanwhile = func() {
					s.Update(context.Background(), w.callerOf(o), org.UpdateRequest{Password: new("third password"), CurrentPassword: new(password)})
				}
			}
			err := sc.run(w, w.crashing(c), o)
			if !c.happened() {
				return true
			}
			sc.crashes++
			state := withoutIDs(sc.clientState(w, s), o)
			if err == nil && !meanwhile && state != sc.stateAfter || err != nil && !errors.Is(err, org.ErrUnavailable) && !meanwhile {
				t.Errorf("answer %v, state %q", err, state)
			}
			glitches.Add(1)
			if errors.Is(err, org.ErrUnavailable) && len(w.problems()) > 0 {
				left.Add(1)
				w.makeStale()
				reconcile(t, s)
			}
			w.check()
			return false
		})
	}
	t.Logf("%d of %d operations were left to Reconcile", left.Load(), glitches.Load())
	if left.Load() > glitches.Load()/4 {
		t.Errorf("%d of %d operations were left to Reconcile; want at most a quarter of them", left.Load(), glitches.Load())
	}
}

// TestLate fails one command of every operation and lets it arrive after the
// operation has failed and cleaned up.
func TestLate(t *testing.T) {
	t.Parallel()
	forEachCrash(t, "late", notSent, func(t *testing.T, sc *scenario, n int, _ bool) (ended bool) {
		w, s, o := sc.setUp(t, sc.db)
		c := &crash{at: n, glitch: true, late: true}
		err := sc.run(w, w.crashing(c), o)
		if !c.happened() {
			return true
		}
		sc.crashes++
		if err := c.deliver(); err != nil {
			t.Fatal(err)
		}
		w.makeStale()
		reconcile(t, s)
		state := withoutIDs(sc.clientState(w, s), o)
		if state != sc.stateBefore && state != sc.stateAfter || err == nil && state != sc.stateAfter {
			t.Errorf("answer %v, state %q", err, state)
		}
		w.check()
		return false
	})
}

// TestLateWrite writes to the old name of a collection after it was renamed by
// a process that crashed then. The write creates a collection of the old name.
func TestLateWrite(t *testing.T) {
	t.Parallel()
	w, s, o := setUp(t)
	if err := rename(w, w.crashing(&crash{at: 1, lost: true, only: "renameCollection"}), o, "Bolt")(); !errors.Is(err, org.ErrUnavailable) {
		t.Fatal(err)
	}
	database := w.db.Client.Database(w.db.Name)
	if _, err := database.Collection(o.Collection).InsertOne(t.Context(), bson.D{{Key: "late", Value: true}}); err != nil {
		t.Fatal(err)
	}
	w.makeStale()
	report, err := s.Reconcile(t.Context(), true)
	if err != nil || len(report.NeedsAttention) != 1 || report.NeedsAttention[0].Kind != org.OrphanCollection {
		t.Errorf("Reconcile = %+v, %v; want the collection of the old name reported", report, err)
	}
	if got, err := s.Get(t.Context(), "Bolt"); err != nil || got.Collection != "org_bolt" {
		t.Errorf("Get = %+v, %v; want collection org_bolt", got, err)
	}
	if err := database.Collection(o.Collection).Drop(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.check()
}

// TestReadOnly has a database user in mind who may only read: what get, health and
// an operator who looks need is no more, also while a change of somebody else waits to be finished.
func TestReadOnly(t *testing.T) {
	t.Parallel()
	w, _, o := setUp(t)
	if err := rename(w, w.crashing(&crash{at: 1, lost: true, only: "renameCollection"}), o, "Bolt")(); !errors.Is(err, org.ErrUnavailable) {
		t.Fatal(err)
	}
	f := newFixtureIn(t, w.db)
	f.advance(2 * org.StaleAfter)
	if got, err := f.Get(t.Context(), o.Name); err != nil || got.ID != o.ID {
		t.Errorf("Get of the old name = %+v, %v", got, err)
	}
	for _, name := range []string{"Bolt", "Nobody"} {
		if got, err := f.Get(t.Context(), name); !errors.Is(err, org.ErrNotFound) {
			t.Errorf("Get of %s = %+v, %v", name, got, err)
		}
	}
	if _, err := f.Ping(t.Context()); err != nil {
		t.Error(err)
	}
	if all, _, err := f.List(t.Context(), org.OrganizationFilter{}, "", 10); err != nil || len(all) == 0 {
		t.Errorf("List = %+v, %v", all, err)
	}
	if _, err := f.Receipt(t.Context(), o.ID); !errors.Is(err, org.ErrNotFound) {
		t.Errorf("Receipt: %v", err)
	}
	if got, members, err := f.Show(t.Context(), o.ID); err != nil || got.ID != o.ID || len(members) != 1 {
		t.Errorf("Show = %+v, %v, %v", got, members, err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if want := []string{"find", "find", "find", "hello", "find", "find", "find", "find"}; !slices.Equal(f.commands, want) {
		t.Errorf("commands %q; want %q", f.commands, want)
	}
}

// maxCommands is more than the commands of any operation.
const maxCommands = 50

// The ways in which a command can fail: it is not sent, or its answer is lost.
// The values are those of crash.lost.
var (
	notSent    = []bool{false}
	answerLost = []bool{true}
	bothWays   = []bool{false, true}
)

// forEachCrash calls f for each case and way, with a crash at the first
// command, the second and so on, until f reports that the operation ended
// before.
func forEachCrash(t *testing.T, name string, ways []bool, f func(t *testing.T, sc *scenario, n int, lost bool) (ended bool)) {
	t.Run(name, func(t *testing.T) {
		for _, c := range crashCases() {
			if c.name == "accept" && name != "clientFirst=false" {
				continue // TestSweep has the rest, in a tenth of the time
			}
			t.Run(c.name, func(t *testing.T) {
				t.Parallel()
				sc := newScenario(t, c)
				for _, lost := range ways {
					for n := 1; n <= maxCommands; n++ {
						ended := false
						t.Run(fmt.Sprintf("at=%d lost=%v", n, lost), func(t *testing.T) {
							ended = f(t, sc, n, lost)
						})
						if ended && n == 1 {
							t.Error("no command was interrupted")
						}
						if ended {
							break
						}
						if n == maxCommands {
							t.Errorf("the operation sends more than %d commands", maxCommands)
						}
					}
				}
				t.Logf("%s: %d crashes", c.name, sc.crashes)
			})
		}
	})
}

// scenario is a case with what clients see before and after it. After a crash
// they must see one of the two.
type scenario struct {
	crashCase
	db                      mongodbtest.Database // each run has a fresh one on the same server
	stateBefore, stateAfter string
	crashes                 int
}

func newScenario(t *testing.T, c crashCase) *scenario {
	sc := &scenario{crashCase: c, db: mongodbtest.New(t)}
	w, s, o := c.setUp(t, sc.db)
	sc.stateBefore = withoutIDs(c.clientState(w, s), o)
	if err := c.run(w, s, o); err != nil {
		t.Fatalf("without a crash: %v", err)
	}
	sc.stateAfter = withoutIDs(c.clientState(w, s), o)
	w.check()
	return sc
}

// interrupt runs the case once, with a crash in the operation and, if repair is
// not nil, one in its first repair. It reports whether the operation ended
// before the crash.
func (sc *scenario) interrupt(t *testing.T, operation, repair *crash, clientFirst bool) (ended bool) {
	ctx := context.Background()
	w, s, o := sc.setUp(t, sc.db)
	err := sc.run(w, w.crashing(operation), o)
	if !operation.happened() {
		if err != nil {
			t.Fatalf("without a crash: %v", err)
		}
		return true
	}
	sc.crashes++
	if repair != nil {
		w.makeStale()
		w.crashing(repair).Reconcile(ctx, true)
	}
	w.makeStale()
	if !clientFirst {
		reconcile(t, s)
	}
	state := withoutIDs(sc.clientState(w, s), o)
	switch {
	case err == nil && state != sc.stateAfter:
		t.Errorf("answer success, state %q; want %q", state, sc.stateAfter)
	case err != nil && !errors.Is(err, org.ErrUnavailable) && state != sc.stateBefore:
		t.Errorf("answer %v, state %q; want %q", err, state, sc.stateBefore)
	case state != sc.stateBefore && state != sc.stateAfter:
		t.Errorf("state %q; want %q or %q", state, sc.stateBefore, sc.stateAfter)
	}
	// Others can use each name and email that the organization does not have.
	for i, name := range []string{sc.crashCase.nameBefore, sc.crashCase.nameAfter} {
		if name == "" {
			continue
		}
		if _, err := s.Get(ctx, name); errors.Is(err, org.ErrNotFound) {
			w.create(s, name, fmt.Sprintf("other%d@other.test", i))
		}
	}
	for i, email := range []string{subjectEmail, newEmail} {
		if !w.emailTaken(email) {
			w.create(s, fmt.Sprintf("Other %d", i), email)
		}
	}
	if clientFirst {
		w.makeStale()
		reconcile(t, s)
	}
	w.check()
	return false
}

// reconcile does one full run of Reconcile, which must succeed.
func reconcile(t *testing.T, s *org.Service) {
	t.Helper()
	report, err := s.Reconcile(context.Background(), true)
	if err != nil {
		t.Errorf("Reconcile: %v", err)
	}
	if len(report.NeedsAttention) > 0 {
		t.Errorf("Reconcile needs attention: %+v", report.NeedsAttention)
	}
}
