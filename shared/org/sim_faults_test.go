package org_test

import (
	"math/rand/v2"
	"slices"
	"time"

	"orgservice/shared/org"
)

// fate is what becomes of a call.
type fate int

const (
	executed    fate = iota
	unsent           // the caller hears after a while that the database is unavailable
	denied           // the database refuses it, for a reason that has nothing to do with organizations
	lost             // executed, but the caller hears that the database is unavailable
	late             // the caller hears the same, and it is executed some time later
	doubled          // executed now, and once more later
	half             // of a command on several documents only the first is done; the caller hears the same
	crashBefore      // the process dies before it sends the command
	crashAfter       // and after it
	crashLate        // the process dies, and the command is executed some time later
	sleepBefore      // the process is suspended just when it sends
	sleepAfter       // it is suspended before it sees the answer
)

var fateNames = [...]string{"executed", "UNSENT", "DENIED", "LOST", "LATE", "DOUBLED", "HALF",
	"CRASH BEFORE", "CRASH AFTER", "CRASH, LATE", "SLEEP BEFORE", "SLEEP AFTER"}

// possible reports whether the fate can be that of the call.
func (f fate) possible(c *call) bool {
	switch f {
	case lost, half, late, crashLate:
		return c.kind == write || c.kind == names
	case doubled:
		return c.kind == names
	}
	return c.kind != done || f == crashBefore || f == sleepBefore
}

// profile is what can go wrong in a schedule.
type profile struct {
	name   string
	fates  []fate // those that are likelier more than once
	only   func(*call) bool
	rates  []float64 // of calls that have a fate other than to be executed
	budget int       // how many may have at most

	stray     float64 // the rate, per step, of stray writes
	operator  float64 // of suspensions by hand
	failover  float64 // of primaries that lose their majority
	clocks    bool    // differ
	anew      float64 // the chance that to create an existing collection succeeds
	renames   bool    // all changes are renames, between few names
	thorough  bool    // all changes change everything
	empties   bool    // stray writes make empty collections alone
	upgraded  float64 // the chance that the version before, which kept no UUIDs, made the first organizations
	restored  float64 // the chance that their collections have other UUIDs than recorded, as in a restored backup
	patience  float64 // the rate of waiting while something could be done
	processes int     // at most
}

// maxClockError is how far a process's clock is ahead or behind at most.
const maxClockError = 10 * time.Second

// of returns what holds of calls of these methods alone.
func of(methods ...string) func(*call) bool {
	return func(c *call) bool { return slices.Contains(methods, c.method) }
}

func onlyNames(c *call) bool  { return c.kind == names }
func onlyWrites(c *call) bool { return c.kind == write }

// The first profile is everything at once. The others have one sort of trouble
// each, which is found sooner so and read more easily.
var profiles = []profile{
	{name: "all", fates: []fate{unsent, denied, lost, lost, late, late, doubled, half, crashBefore, crashAfter, crashLate, sleepBefore, sleepAfter},
		rates: []float64{0, 0.02, 0.1}, budget: 5, stray: 0.01, operator: 0.004, failover: 0.004,
		clocks: true, anew: 0.5, upgraded: 0.2, restored: 0.1, patience: 0.03, processes: 5},
	{name: "calm", patience: 0.01, processes: 5},
	{name: "faults", fates: []fate{unsent, denied, lost, half, crashBefore, crashAfter}, rates: []float64{0.03, 0.1}, budget: 4,
		clocks: true, patience: 0.03, processes: 4},
	{name: "anew", stray: 0.05, anew: 1, processes: 3},
	{name: "stray", stray: 0.05, patience: 0.02, processes: 3},
	{name: "upgraded", fates: []fate{unsent, lost, crashBefore, crashAfter, sleepAfter}, rates: []float64{0, 0.05}, budget: 3,
		stray: 0.02, upgraded: 1, patience: 0.02, processes: 3},
	{name: "restored", fates: []fate{unsent, lost, crashBefore, crashAfter, sleepAfter}, rates: []float64{0, 0.05}, budget: 3,
		stray: 0.02, restored: 1, patience: 0.02, processes: 3},
	{name: "failover", failover: 0.03, patience: 0.01, processes: 4},
	{name: "operator", operator: 0.05, processes: 3},
	{name: "sleep", fates: []fate{sleepBefore, sleepAfter, sleepAfter}, rates: []float64{0.03, 0.1}, budget: 4, patience: 0.02, processes: 4},
	{name: "journal", fates: []fate{sleepBefore}, only: of("ReplaceOrganization", "ReplaceClaim"), rates: []float64{0.3}, budget: 3,
		renames: true, patience: 0.1, processes: 4},
	{name: "wake", fates: []fate{sleepAfter}, only: of("DropCollection", "CollectionIsEmpty", "Collections", "RenameCollection"),
		rates: []float64{0.3}, budget: 3, stray: 0.05, renames: true, patience: 0.05, processes: 4},
	{name: "roll back", fates: []fate{late, crashLate}, only: of("InsertAdmin", "UpdateAdmin", "RenameCollection"), rates: []float64{0.8}, budget: 3,
		thorough: true, stray: 0.05, patience: 0.01, processes: 5},
	{name: "wake to drop", fates: []fate{sleepAfter}, only: of("DropCollection", "CollectionIsEmpty"),
		rates: []float64{0.7}, budget: 3, empties: true, stray: 0.1, renames: true, patience: 0.05, processes: 5},
	{name: "wake to rename", fates: []fate{sleepAfter}, only: of("DropCollection"), rates: []float64{0.8}, budget: 2,
		empties: true, stray: 0.2, renames: true, patience: 0.04, processes: 5},
	{name: "late names", fates: []fate{late, doubled, crashLate}, only: onlyNames, rates: []float64{0.3, 0.6}, budget: 3, patience: 0.02, processes: 3},
	{name: "late writes", fates: []fate{late, late, crashLate, unsent}, only: onlyWrites, rates: []float64{0.05, 0.1}, budget: 3, patience: 0.02, processes: 4},
	{name: "late records", fates: []fate{late}, only: of("InsertOrganization", "ReplaceOrganization"), rates: []float64{0.3}, budget: 2, patience: 0.02, processes: 4},
	{name: "late admins", fates: []fate{late, unsent}, only: of("InsertAdmin", "UpdateAdmin"), rates: []float64{0.8}, budget: 4,
		stray: 0.05, patience: 0.02, processes: 4},
}

// profileOf returns the profile of that name, or one by the seed's choice for
// "any".
func profileOf(name string, rng *rand.Rand) (profile, bool) {
	if name == "any" {
		if rng.IntN(3) == 0 {
			return profiles[0], true
		}
		return profiles[rng.IntN(len(profiles))], true
	}
	for _, p := range profiles {
		if p.name == name {
			return p, true
		}
	}
	return profile{}, false
}

// fateOf chooses what becomes of a call.
func (s *sim) fateOf(c *call) fate {
	if c.ctx.Err() != nil {
		// The driver does not send what comes too late, but a process may
		// have been suspended just then.
		if c.delayed && (c.kind == write || c.kind == names) && s.rng.IntN(2) == 0 {
			return lost
		}
		if c.kind != done {
			return unsent
		}
	}
	if s.budget == 0 || len(s.fates) == 0 || s.only != nil && !s.only(c) || s.rng.Float64() >= s.rate {
		return executed
	}
	f := s.fates[s.rng.IntN(len(s.fates))]
	if !f.possible(c) || f == sleepBefore && c.delayed {
		return executed
	}
	s.budget--
	return f
}

// naps are how long a process is suspended: within the time in which it may
// work on an operation, after that, and after others may have taken over.
var naps = []time.Duration{20 * time.Second, org.StaleAfter/2 + time.Second, org.StaleAfter + 20*time.Second, 2*org.StaleAfter + 25*time.Second, time.Hour}

// delays are how late a late command is.
var delays = []time.Duration{0, time.Second, 5 * time.Second, org.StaleAfter / 2, org.StaleAfter + 10*time.Second, 3 * org.StaleAfter, 3 * time.Hour}

// promptly are the delays and naps that a command on the catalog can have
// where the server does not compare UUIDs: there the service assumes that none
// arrives later.
var promptly = []time.Duration{0, time.Second, 5 * time.Second, org.StaleAfter / 3}

func (s *sim) delaysOf(c *call) []time.Duration {
	if c.kind == names && !s.durable.checks {
		return promptly
	}
	return delays
}

func (s *sim) napsAfter(c *call) []time.Duration {
	if c.method == "compare" {
		return promptly[1:]
	}
	return naps
}

// waitsNow are what may pass while nobody does anything: no more than a
// command on the catalog may wait for.
func (s *sim) waitsNow() []time.Duration {
	if !s.durable.checks && slices.ContainsFunc(s.pending, func(c *call) bool { return c.kind == names }) {
		return promptly[1:]
	}
	return waits
}

func (s *sim) napsBefore(c *call) []time.Duration {
	if c.kind == names && !s.durable.checks {
		return promptly[1:]
	}
	return naps
}

// waits are what passes while nobody does anything.
var waits = []time.Duration{10 * time.Millisecond, time.Second, time.Second, 5 * time.Second, org.StaleAfter/2 + time.Second, org.StaleAfter + 15*time.Second, 2*org.StaleAfter + 25*time.Second}

func (s *sim) pick(of []time.Duration) time.Duration { return of[s.rng.IntN(len(of))] }
