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

// sim runs one schedule. It consists of a database, processes that use it, and
// a scheduler that chooses the next call and its fate. Everything depends only
// on the seed.
type sim struct {
	profile
	rng  *rand.Rand
	step int

	durable    *state        // the state of the majority of the nodes
	grace      time.Duration // how long a deleted organization can be restored
	oldPrimary *oldPrimary   // nil, or a node that has lost the majority and is still used

	processes []*process
	ops       []*operation
	budget    int     // how many more faults there may be
	rate      float64 // the rate of faults among the calls

	mu      sync.Mutex
	pending []*call // the calls that wait for the scheduler
	slept   time.Duration
	trace   *strings.Builder

	held     []heldReply // replies that the caller has not got yet
	inFlight []lateCall

	history
}

// lateCall is a command that the database has not got yet.
type lateCall struct {
	*call
	due time.Time
}

// heldReply is a reply that the caller gets when it is due and the process is
// awake.
type heldReply struct {
	*call
	reply reply
	due   time.Time
}

// process runs operations one after the other.
type process struct {
	n            int
	clock        time.Duration // how far its clock is ahead
	wakesAt      time.Time     // when it wakes
	onOldPrimary bool          // it is connected to the old primary
	remaining    int           // how many operations it will begin
	op           *operation    // the operation that it runs, or nil
}

func (p *process) asleep() bool { return p.wakesAt.After(time.Now()) }

// oldPrimary is a node that has lost the majority and does not know it. Its
// writes are never acknowledged, and they are rolled back when it finds out.
type oldPrimary struct {
	local    *state // what a local read sees
	majority *state // what a majority read sees
	endsAt   time.Time
}

// majorityReads means that the service reads with read concern majority.
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
	s.durable.onWrite, s.durable.onAdminWrite = s.recordWritten, s.adminWritten
	s.durable.idempotentCreate = rng.Float64() < p.idempotentCreate
	s.durable.comparesUUIDs = rng.IntN(4) > 0
	s.grace = []time.Duration{0, 5 * time.Minute, 30 * 24 * time.Hour}[rng.IntN(3)]
	for i := range 2 + rng.IntN(p.processes-1) {
		process := &process{n: i + 1, remaining: 1 + rng.IntN(4)}
		if p.clockSkew {
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
		if a.Key == slog.TimeKey || a.Key == "session_id" || a.Key == "ticket_id" {
			return slog.Attr{}
		}
		return a
	}}))
}

// submit adds a call to the pending ones. It returns false if the process is
// dead.
func (s *sim) submit(c *call) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.op.dead {
		return false
	}
	s.pending = append(s.pending, c)
	return true
}

// settle waits until all goroutines wait for the scheduler. Then it sorts the
// pending calls, so that their order does not depend on a race.
func (s *sim) settle() {
	synctest.Wait()
	if len(s.pending) > 1 {
		slices.SortStableFunc(s.pending, func(a, b *call) int {
			return cmp.Or(cmp.Compare(a.op.n, b.op.n), cmp.Compare(a.method, b.method), cmp.Compare(a.args, b.args))
		})
	}
}

// take removes a call from the pending ones.
func (s *sim) take(c *call) {
	s.pending = slices.DeleteFunc(s.pending, func(p *call) bool { return p == c })
}

// chaos runs the processes until all their operations have ended.
func (s *sim) chaos() {
	for {
		s.settle()
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

// ready returns the steps that can be done now: a pending call, a reply that is
// due, or the next operation of a process.
func (s *sim) ready() (ready []func()) {
	for _, c := range s.pending {
		if !c.op.process.asleep() {
			ready = append(ready, func() { s.resolve(c) })
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
		if p.op == nil && p.remaining > 0 && !p.asleep() {
			ready = append(ready, func() { p.remaining--; s.begin(p) })
		}
	}
	return ready
}

// passTime sleeps until a process can continue. It returns false if none is
// left.
func (s *sim) passTime() bool {
	var next time.Time
	consider := func(t time.Time) {
		if next.IsZero() || t.Before(next) {
			next = t
		}
	}
	for _, c := range s.pending {
		consider(c.op.process.wakesAt)
	}
	for _, h := range s.held {
		if h.op.process.asleep() {
			consider(h.op.process.wakesAt)
		} else {
			consider(h.due)
		}
	}
	for _, p := range s.processes {
		if p.op == nil && p.remaining > 0 {
			consider(p.wakesAt)
		}
	}
	if next.IsZero() {
		return false
	}
	for _, l := range s.inFlight {
		if l.due.After(time.Now()) {
			consider(l.due)
		}
	}
	s.sleep(max(time.Until(next), time.Millisecond))
	return true
}

// sleep lets time pass.
func (s *sim) sleep(d time.Duration) {
	// An operation may wait for the time, and then submits a call: what was read of the
	// calls until now was read before that.
	s.mu.Lock()
	s.slept += d
	s.mu.Unlock()
	time.Sleep(d)
	s.tracef("-- %v later", d)
	if s.oldPrimary != nil && !s.oldPrimary.endsAt.After(time.Now()) {
		s.endFailover()
	}
}

// resolve chooses the fate of a call and carries it out.
func (s *sim) resolve(c *call) {
	f := s.fateOf(c)
	p := c.op.process
	if f == executed {
		c.op.cleanCalls++
	} else {
		c.op.faults++
		c.op.cleanCalls = 0
	}
	switch f {
	case sleepBefore:
		duration := s.pick(s.sleepTimesBefore(c))
		p.wakesAt, c.delayed = time.Now().Add(duration), true
		s.traceCall(c, f, fmt.Sprint("for ", duration))
		return // it is still pending
	case crashBefore:
		s.traceCall(c, f, "")
		s.kill(c.op)
		return
	}
	s.take(c)
	if c.kind == operationEnd {
		s.finish(c)
		return
	}
	switch f {
	case executed:
		s.answerNow(c, f)
	case unsent:
		s.traceCall(c, f, "")
		s.hold(c, unreachable(c))
	case denied:
		s.traceCall(c, f, "")
		s.answer(c, reply{err: errDenied})
	case lost, partial:
		r := s.execute(c, f == partial)
		s.traceCall(c, f, r.text())
		s.hold(c, unreachable(c))
	case late:
		s.traceCall(c, f, s.delay(c))
		s.hold(c, unreachable(c))
	case duplicated:
		after := s.delay(c)
		r := s.execute(c, false)
		s.traceCall(c, f, r.text()+", again "+after)
		s.answer(c, r)
	case crashAfter:
		r := s.execute(c, false)
		s.traceCall(c, f, r.text())
		s.kill(c.op)
		s.answer(c, reply{crashed: true})
	case crashLate:
		s.traceCall(c, f, s.delay(c))
		s.kill(c.op)
		s.answer(c, reply{crashed: true})
	case sleepAfter:
		r := s.execute(c, false)
		duration := s.pick(s.sleepTimesAfter(c))
		p.wakesAt = time.Now().Add(duration)
		s.traceCall(c, f, fmt.Sprint(r.text(), ", for ", duration))
		s.held = append(s.held, heldReply{c, r, time.Now()})
	}
}

// answerNow executes the call and answers it. If the process is connected to
// the old primary, a write gets no answer.
func (s *sim) answerNow(c *call, f fate) {
	if !c.op.process.onOldPrimary || s.oldPrimary == nil {
		r := s.execute(c, false)
		s.traceCall(c, f, r.text())
		s.answer(c, r)
		return
	}
	node := s.oldPrimary.local
	if majorityReads && c.kind == read {
		node = s.oldPrimary.majority
	}
	value, err := c.run(node)
	r := reply{value: value, err: err}
	s.tracef("%v %v on the OLD PRIMARY: %v", c.op, c, r.text())
	c.op.usedOldPrimary = true
	if c.kind == write || c.kind == catalogChange {
		// Even a write that changes nothing is acknowledged only by a majority.
		s.hold(c, unreachable(c))
		return
	}
	s.answer(c, r)
}

// execute executes the call on the durable state.
func (s *sim) execute(c *call, partial bool) reply {
	s.durable.stopAfterFirst = partial
	s.executing = c
	value, err := c.run(s.durable)
	s.durable.stopAfterFirst, s.executing = false, nil
	s.commandExecuted(c, err)
	return reply{value: value, err: err}
}

var errDenied = errors.New("the database refuses the command")

// unreachable returns the reply to a call that got no answer.
func unreachable(c *call) reply {
	err := &org.Error{Kind: org.Unavailable, Reason: org.DatabaseUnavailable, Message: "the database can't be reached", Err: c.ctx.Err()}
	return reply{err: err}
}

// hold gives the caller the reply after 3 seconds, or at its deadline if that
// is sooner.
func (s *sim) hold(c *call, r reply) {
	due := time.Now().Add(3 * time.Second)
	if deadline, ok := c.ctx.Deadline(); ok && deadline.Before(due) {
		due = deadline
	}
	s.held = append(s.held, heldReply{c, r, due})
}

// delay makes the command a late one, and returns its delay for the trace.
func (s *sim) delay(c *call) string {
	d := s.pick(s.delaysOf(c))
	s.inFlight = append(s.inFlight, lateCall{c, time.Now().Add(d)})
	return fmt.Sprint("after ", d)
}

// answer sends the reply to the caller.
func (s *sim) answer(c *call, r reply) { c.reply <- r }

// kill ends the operation without an answer, as a crash of its process does.
func (s *sim) kill(op *operation) {
	op.dead, op.process.op, op.ended = true, nil, true
	s.pending = slices.DeleteFunc(s.pending, func(c *call) bool {
		if c.op == op {
			s.answer(c, reply{crashed: true})
		}
		return c.op == op
	})
	s.held = slices.DeleteFunc(s.held, func(h heldReply) bool {
		if h.op == op {
			s.answer(h.call, reply{crashed: true})
		}
		return h.op == op
	})
	s.tracef("%v is DEAD", op)
}

// traceCall adds a call and its fate to the trace.
func (s *sim) traceCall(c *call, f fate, result string) {
	if s.trace != nil {
		s.tracef("%v %v: %s %s", c.op, c, fateNames[f], result)
	}
}

// text returns the text of a reply for the trace.
func (r reply) text() string {
	if r.err != nil {
		return "= " + r.err.Error()
	}
	switch v := r.value.(type) {
	case nil:
		return ""
	case org.Organization:
		return "= " + organizationText(v)
	case org.Claim:
		return "= " + claimText(v)
	case org.Admin:
		return fmt.Sprint("= ", v.Email, " ", v.PasswordHash, " version ", v.TokenVersion)
	case org.Session, []org.Session, org.Ticket, []org.Ticket, []org.Organization, []org.Admin, []org.Claim, org.Count, org.IdempotencyKey:
		return "= ..."
	}
	return fmt.Sprint("= ", r.value)
}
