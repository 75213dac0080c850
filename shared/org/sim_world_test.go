package org_test

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing/synctest"
	"time"

	"orgservice/shared/org"
)

// sim is one schedule: a database, processes that work on it, and a scheduler
// that decides, by a seed, which of their calls happens next and what becomes
// of it. Nothing in it depends on anything but the seed.
type sim struct {
	profile
	rng  *rand.Rand
	step int

	durable *state      // what the majority of the database's nodes has
	old     *oldPrimary // nil, or a node that is still asked though it lost the majority

	processes []*process
	ops       []*operation
	budget    int     // of fates other than to be executed
	rate      float64 // of them

	mu      sync.Mutex
	pending []*call // at the gate
	trace   *strings.Builder

	held     []held // replies that the caller does not have yet
	onTheWay []lateCall

	history
}

// lateCall is a command that is still on its way.
type lateCall struct {
	*call
	due time.Time
}

type held struct {
	*call
	reply reply
	due   time.Time
}

// process runs one operation after the other.
type process struct {
	n      int
	clock  time.Duration // how far it is ahead
	until  time.Time     // when it wakes
	behind bool          // it is connected to the old primary
	left   int           // how many operations it will begin
	op     *operation    // the one it runs
}

func (p *process) asleep() bool { return p.until.After(time.Now()) }

// oldPrimary is a node that has lost the majority and has not noticed: what is
// written there is never acknowledged, and gone when the node finds out.
type oldPrimary struct {
	local *state // what a local read sees
	base  *state // what a majority read sees
	until time.Time
}

// majorityReads says that the service reads with that read concern.
const majorityReads = true

func newSim(seed uint64, profileName string, traced bool) (*sim, error) {
	rng := rand.New(rand.NewPCG(seed, 0x0123456789abcdef))
	p, ok := profileOf(profileName, rng)
	if !ok {
		return nil, fmt.Errorf("no profile %q", profileName)
	}
	s := &sim{profile: p, rng: rng, durable: newState(), history: newHistory()}
	s.budget = p.budget
	if len(p.rates) > 0 {
		s.rate = p.rates[rng.IntN(len(p.rates))]
	}
	if traced {
		s.trace = &strings.Builder{}
	}
	s.durable.wrote = s.recordWritten
	s.durable.createAnew = rng.Float64() < p.anew
	s.durable.checks = rng.IntN(4) > 0
	for i := range 2 + rng.IntN(p.processes-1) {
		process := &process{n: i + 1, left: 1 + rng.IntN(4)}
		if p.clocks {
			process.clock = time.Duration(rng.Int64N(int64(2*maxClockError))) - maxClockError
		}
		s.processes = append(s.processes, process)
	}
	return s, nil
}

// tracef adds a line to the trace.
func (s *sim) tracef(format string, args ...any) {
	if s.trace == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	since := time.Since(time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC))
	fmt.Fprintf(s.trace, "%4d %10.3fs  %s\n", s.step, since.Seconds(), fmt.Sprintf(format, args...))
}

// Write adds a line of the service's log to the trace.
func (s *sim) Write(b []byte) (int, error) {
	s.tracef("      log: %s", strings.TrimSpace(string(b)))
	return len(b), nil
}

func (s *sim) logger() *slog.Logger {
	if s.trace == nil {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(s, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey || a.Key == "session_id" {
			return slog.Attr{}
		}
		return a
	}}))
}

// submit puts a call at the gate; it reports false if the process is dead.
func (s *sim) submit(c *call) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.op.dead {
		return false
	}
	s.pending = append(s.pending, c)
	return true
}

// settled waits until everybody waits for the scheduler, and puts what is at
// the gate into an order that no race decides.
func (s *sim) settled() {
	synctest.Wait()
	if len(s.pending) > 1 {
		slices.SortStableFunc(s.pending, func(a, b *call) int {
			return cmp.Or(cmp.Compare(a.op.n, b.op.n), cmp.Compare(a.method, b.method), cmp.Compare(a.args, b.args))
		})
	}
}

func (s *sim) take(c *call) {
	s.pending = slices.DeleteFunc(s.pending, func(p *call) bool { return p == c })
}

// chaos lets the processes run until all their operations are over.
func (s *sim) chaos() {
	for {
		s.settled()
		s.step++
		if s.environment() {
			continue
		}
		ready := s.ready()
		if len(ready) == 0 {
			if !s.passTime() {
				return
			}
			continue
		}
		ready[s.rng.IntN(len(ready))]()
	}
}

// ready returns what can go on now. One who went on last is there twice:
// long runs of one process are as interesting as dense ones.
func (s *sim) ready() (ready []func()) {
	for _, c := range s.pending {
		if !c.op.process.asleep() {
			ready = append(ready, func() { s.happen(c) })
		}
	}
	for i, h := range s.held {
		if !h.due.After(time.Now()) && !h.op.process.asleep() {
			ready = append(ready, func() {
				s.held = slices.Delete(s.held, i, i+1)
				s.answer(h.call, h.reply)
			})
		}
	}
	for _, p := range s.processes {
		if p.op == nil && p.left > 0 && !p.asleep() {
			ready = append(ready, func() { p.left--; s.begin(p) })
		}
	}
	return ready
}

// passTime lets time pass until somebody can go on, or reports that nobody is
// left.
func (s *sim) passTime() bool {
	var next time.Time
	consider := func(t time.Time) {
		if next.IsZero() || t.Before(next) {
			next = t
		}
	}
	for _, c := range s.pending {
		consider(c.op.process.until)
	}
	for _, h := range s.held {
		if h.op.process.asleep() {
			consider(h.op.process.until)
		} else {
			consider(h.due)
		}
	}
	for _, p := range s.processes {
		if p.op == nil && p.left > 0 {
			consider(p.until)
		}
	}
	if next.IsZero() {
		return false
	}
	for _, l := range s.onTheWay {
		if l.due.After(time.Now()) {
			consider(l.due)
		}
	}
	s.sleep(max(time.Until(next), time.Millisecond))
	return true
}

func (s *sim) sleep(d time.Duration) {
	time.Sleep(d)
	s.tracef("-- %v later", d)
	if s.old != nil && !s.old.until.After(time.Now()) {
		s.endFailover()
	}
}

// happen lets the call's fate come to pass.
func (s *sim) happen(c *call) {
	f := s.fateOf(c)
	p := c.op.process
	if f == executed {
		c.op.clean++
	} else {
		c.op.faults++
		c.op.clean = 0
	}
	switch f {
	case sleepBefore:
		nap := s.pick(s.napsBefore(c))
		p.until, c.delayed = time.Now().Add(nap), true
		s.note(c, f, fmt.Sprint("for ", nap))
		return // it is still at the gate
	case crashBefore:
		s.note(c, f, "")
		s.kill(c.op)
		return
	}
	s.take(c)
	if c.kind == done {
		s.finish(c)
		return
	}
	switch f {
	case executed:
		s.answerNow(c, f)
	case unsent:
		s.note(c, f, "")
		s.hold(c, unreachable(c))
	case denied:
		s.note(c, f, "")
		s.answer(c, reply{err: errDenied})
	case lost, half:
		r := s.execute(c, f == half)
		s.note(c, f, r.text())
		s.hold(c, unreachable(c))
	case late:
		s.note(c, f, s.delay(c))
		s.hold(c, unreachable(c))
	case doubled:
		after := s.delay(c)
		r := s.execute(c, false)
		s.note(c, f, r.text()+", again "+after)
		s.answer(c, r)
	case crashAfter:
		r := s.execute(c, false)
		s.note(c, f, r.text())
		s.kill(c.op)
		s.answer(c, reply{crashed: true})
	case crashLate:
		s.note(c, f, s.delay(c))
		s.kill(c.op)
		s.answer(c, reply{crashed: true})
	case sleepAfter:
		r := s.execute(c, false)
		nap := s.pick(s.napsAfter(c))
		p.until = time.Now().Add(nap)
		s.note(c, f, fmt.Sprint(r.text(), ", for ", nap))
		s.held = append(s.held, held{c, r, time.Now()})
	}
}

// answerNow executes the call and lets the caller go on, unless it is
// connected to the old primary, which acknowledges no write.
func (s *sim) answerNow(c *call, f fate) {
	if !c.op.process.behind || s.old == nil {
		r := s.execute(c, false)
		s.note(c, f, r.text())
		s.answer(c, r)
		return
	}
	node := s.old.local
	if majorityReads && c.kind == read {
		node = s.old.base
	}
	value, err := c.run(node)
	r := reply{value: value, err: err}
	s.tracef("%v %v on the OLD PRIMARY: %v", c.op, c, r.text())
	c.op.deceived = true
	if c.kind == write || c.kind == names {
		// Even one that changes nothing is acknowledged only when the majority
		// has what it saw.
		s.hold(c, unreachable(c))
		return
	}
	s.answer(c, r)
}

func (s *sim) execute(c *call, half bool) reply {
	s.durable.half = half
	c.at, s.executing = s.step, c
	value, err := c.run(s.durable)
	s.durable.half, s.executing = false, nil
	s.called(c, err)
	return reply{value: value, err: err}
}

var errDenied = errors.New("the database refuses the command")

func unreachable(c *call) reply {
	err := &org.Error{Kind: org.Unavailable, Message: "the database can't be reached", Err: c.ctx.Err()}
	return reply{err: err}
}

// hold makes the caller wait until it gives up.
func (s *sim) hold(c *call, r reply) {
	due := time.Now().Add(3 * time.Second)
	if deadline, ok := c.ctx.Deadline(); ok && deadline.Before(due) {
		due = deadline
	}
	s.held = append(s.held, held{c, r, due})
}

// delay lets the command arrive some time later.
func (s *sim) delay(c *call) string {
	d := s.pick(s.delaysOf(c))
	s.onTheWay = append(s.onTheWay, lateCall{c, time.Now().Add(d)})
	return fmt.Sprint("after ", d)
}

func (s *sim) answer(c *call, r reply) { c.reply <- r }

// kill ends the process's operation, of which nobody hears any more.
func (s *sim) kill(op *operation) {
	op.dead, op.process.op, op.ended = true, nil, true
	s.pending = slices.DeleteFunc(s.pending, func(c *call) bool {
		if c.op == op {
			s.answer(c, reply{crashed: true})
		}
		return c.op == op
	})
	s.held = slices.DeleteFunc(s.held, func(h held) bool {
		if h.op == op {
			s.answer(h.call, reply{crashed: true})
		}
		return h.op == op
	})
	s.tracef("%v is DEAD", op)
}

func (s *sim) note(c *call, f fate, result string) {
	if s.trace != nil {
		s.tracef("%v %v: %s %s", c.op, c, fateNames[f], result)
	}
}

func (r reply) text() string {
	if r.err != nil {
		return "= " + r.err.Error()
	}
	switch v := r.value.(type) {
	case nil:
		return ""
	case org.Organization:
		return "= " + short(v)
	case org.Claim:
		return "= " + claimText(v)
	case org.Admin:
		return fmt.Sprint("= ", v.Email, " ", v.PasswordHash, " version ", v.TokenVersion)
	case org.Session, []org.Organization, []org.Admin, []org.Claim, org.Attempts:
		return "= ..."
	}
	return fmt.Sprint("= ", r.value)
}
