package org_test

import (
	"math/rand/v2"
	"slices"
	"time"

	"orgservice/shared/org"
)

// fate is what happens to a call.
type fate int

const (
	executed    fate = iota
	unsent           // not executed; after a while the caller gets ErrUnavailable
	denied           // not executed; the caller gets errDenied
	lost             // executed, but after a while the caller gets ErrUnavailable
	late             // executed later; after a while the caller gets ErrUnavailable
	duplicated       // executed now and once more later
	partial          // lost, and a command on several documents changes only the first
	crashBefore      // the process crashes before it sends the command
	crashAfter       // the process crashes after the command is executed
	crashLate        // the process crashes, and the command is executed later
	sleepBefore      // the process sleeps before it sends the command
	sleepAfter       // the process sleeps after the command is executed, before it gets the answer
)

// fateNames are the names of the fates in a trace.
var fateNames = [...]string{"executed", "UNSENT", "DENIED", "LOST", "LATE", "DUPLICATED", "PARTIAL",
	"CRASH BEFORE", "CRASH AFTER", "CRASH, LATE", "SLEEP BEFORE", "SLEEP AFTER"}

// possibleFor reports whether the call can have the fate.
func (f fate) possibleFor(c *call) bool {
	switch f {
	case lost, partial, late, crashLate:
		return c.kind == write || c.kind == catalogChange
	case duplicated:
		return c.kind == catalogChange
	}
	return c.kind != operationEnd || f == crashBefore || f == sleepBefore
}

// profile says what can go wrong in a schedule.
type profile struct {
	name   string
	fates  []fate           // a likelier fate is in it more than once
	only   func(*call) bool // if set, the calls that can have one of the fates
	rates  []float64        // a schedule uses one of these rates of calls that have one of the fates
	budget int              // the largest number of such calls

	stray            float64 // the rate, per step, of stray writes
	operator         float64 // the rate of suspensions by the operator
	failover         float64 // the rate of primaries that lose their majority
	clockSkew        bool    // the clocks of the processes differ
	idempotentCreate float64 // the chance that the creation of an existing collection succeeds
	renamesOnly      bool    // all updates are renames, between few names
	changesAll       bool    // all updates change name, email and password
	membersOnly      bool    // most operations have to do with members
	oneEmail         bool    // all updates and creations want the same email
	emptyOnly        bool    // stray writes only create empty collections
	upgraded         float64 // the chance that the previous version, which stored no UUIDs, made the first organizations
	restored         float64 // the chance that the collections have other UUIDs than recorded, as after a restore
	idleRate         float64 // the rate of waiting while a process could continue
	processes        int     // the largest number of processes
}

// maxClockError is the largest difference between the clock of a process and
// the right time.
const maxClockError = 10 * time.Second

// onlyMethods returns a function that reports whether a call is of one of the
// methods.
func onlyMethods(methods ...string) func(*call) bool {
	return func(c *call) bool { return slices.Contains(methods, c.method) }
}

func onlyCatalogChanges(c *call) bool { return c.kind == catalogChange }
func onlyWrites(c *call) bool         { return c.kind == write }

// profiles holds all profiles. The first one has all faults at the same time.
// Each of the others has few kinds of faults, so that a problem is found sooner
// and its trace is easier to read.
var profiles = []profile{
	{name: "all", fates: []fate{unsent, denied, lost, lost, late, late, duplicated, partial, crashBefore, crashAfter, crashLate, sleepBefore, sleepAfter},
		rates: []float64{0, 0.02, 0.1}, budget: 5, stray: 0.01, operator: 0.004, failover: 0.004,
		clockSkew: true, idempotentCreate: 0.5, upgraded: 0.2, restored: 0.1, idleRate: 0.03, processes: 5},
	{name: "calm", idleRate: 0.01, processes: 5},
	{name: "faults", fates: []fate{unsent, denied, lost, partial, crashBefore, crashAfter}, rates: []float64{0.03, 0.1}, budget: 4,
		clockSkew: true, idleRate: 0.03, processes: 4},
	{name: "anew", stray: 0.05, idempotentCreate: 1, processes: 3},
	{name: "stray", stray: 0.05, idleRate: 0.02, processes: 3},
	{name: "upgraded", fates: []fate{unsent, lost, crashBefore, crashAfter, sleepAfter}, rates: []float64{0, 0.05}, budget: 3,
		stray: 0.02, upgraded: 1, idleRate: 0.02, processes: 3},
	{name: "restored", fates: []fate{unsent, lost, crashBefore, crashAfter, sleepAfter}, rates: []float64{0, 0.05}, budget: 3,
		stray: 0.02, restored: 1, idleRate: 0.02, processes: 3},
	{name: "failover", failover: 0.03, idleRate: 0.01, processes: 4},
	{name: "operator", operator: 0.05, processes: 3},
	{name: "sleep", fates: []fate{sleepBefore, sleepAfter, sleepAfter}, rates: []float64{0.03, 0.1}, budget: 4, idleRate: 0.02, processes: 4},
	{name: "journal", fates: []fate{sleepBefore}, only: onlyMethods("ReplaceOrganization", "ReplaceClaim"), rates: []float64{0.3}, budget: 3,
		renamesOnly: true, idleRate: 0.1, processes: 4},
	{name: "wake", fates: []fate{sleepAfter}, only: onlyMethods("DropCollection", "CollectionIsEmpty", "Collections", "RenameCollection"),
		rates: []float64{0.3}, budget: 3, stray: 0.05, renamesOnly: true, idleRate: 0.05, processes: 4},
	{name: "roll back", fates: []fate{late, crashLate}, only: onlyMethods("InsertAdmin", "ReplaceAdmin", "RenameCollection"), rates: []float64{0.8}, budget: 3,
		changesAll: true, stray: 0.05, idleRate: 0.01, processes: 5},
	{name: "wake to drop", fates: []fate{sleepAfter}, only: onlyMethods("DropCollection", "CollectionIsEmpty"),
		rates: []float64{0.7}, budget: 3, emptyOnly: true, stray: 0.1, renamesOnly: true, idleRate: 0.05, processes: 5},
	{name: "wake to rename", fates: []fate{sleepAfter}, only: onlyMethods("DropCollection"), rates: []float64{0.8}, budget: 2,
		emptyOnly: true, stray: 0.2, renamesOnly: true, idleRate: 0.04, processes: 5},
	{name: "late names", fates: []fate{late, duplicated, crashLate}, only: onlyCatalogChanges, rates: []float64{0.3, 0.6}, budget: 3, idleRate: 0.02, processes: 3},
	{name: "late writes", fates: []fate{late, late, crashLate, unsent}, only: onlyWrites, rates: []float64{0.05, 0.1}, budget: 3, idleRate: 0.02, processes: 4},
	{name: "late records", fates: []fate{late}, only: onlyMethods("InsertOrganization", "ReplaceOrganization"), rates: []float64{0.3}, budget: 2, idleRate: 0.02, processes: 4},
	{name: "late admins", fates: []fate{late, unsent}, only: onlyMethods("InsertAdmin", "ReplaceAdmin"), rates: []float64{0.8}, budget: 4,
		stray: 0.05, idleRate: 0.02, processes: 4},
	{name: "wake to change", fates: []fate{sleepBefore, sleepBefore, crashBefore}, only: onlyMethods("Admin", "ReplaceAdmin"), rates: []float64{0.2, 0.5}, budget: 4,
		changesAll: true, upgraded: 0.3, idleRate: 0.08, processes: 5},
	{name: "contended", fates: []fate{sleepBefore}, only: onlyMethods("ReplaceAdmin"), rates: []float64{0.5, 0.8}, budget: 3,
		changesAll: true, oneEmail: true, idleRate: 0.1, processes: 5},
	{name: "old journals", fates: []fate{sleepBefore, sleepAfter, late, crashBefore, crashAfter, lost},
		only:  onlyMethods("Admin", "Organization", "ReplaceAdmin", "ReplaceClaim", "InsertClaims", "ReplaceOrganization", "ReleaseClaims"),
		rates: []float64{0.1, 0.3}, budget: 4, upgraded: 1, idleRate: 0.05, processes: 4},
	{name: "members", membersOnly: true, idleRate: 0.03, processes: 5},
	{name: "members and faults", fates: []fate{unsent, denied, lost, late, partial, crashBefore, crashAfter, crashLate, sleepBefore, sleepAfter},
		membersOnly: true, rates: []float64{0.02, 0.1}, budget: 4, upgraded: 0.2, idleRate: 0.03, processes: 4},
	{name: "late members", fates: []fate{late, lost, sleepBefore, sleepBefore, crashAfter},
		only:        onlyMethods("ReplaceOrganization", "ReplaceAdmin", "InsertAdmin", "FenceOrganizations", "DeleteAdmin", "Organization", "Admin"),
		membersOnly: true, rates: []float64{0.1, 0.3}, budget: 4, idleRate: 0.05, processes: 5},
	{name: "fences", fates: []fate{late, lost, unsent, crashBefore, sleepBefore}, only: onlyMethods("FenceOrganizations", "ReplaceAdmin", "ReplaceOrganization"),
		rates: []float64{0.3}, budget: 4, upgraded: 0.2, idleRate: 0.03, processes: 4},
}

// profileOf returns the profile of that name, or a random one for "any".
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

// fateOf chooses the fate of a call.
func (s *sim) fateOf(c *call) fate {
	if c.ctx.Err() != nil {
		// The driver sends no command after its deadline, but the process may
		// have slept between that check and the command.
		if c.delayed && (c.kind == write || c.kind == catalogChange) && s.rng.IntN(2) == 0 {
			return lost
		}
		if c.kind != operationEnd {
			return unsent
		}
	}
	if s.budget == 0 || len(s.fates) == 0 || s.only != nil && !s.only(c) || s.rng.Float64() >= s.rate {
		return executed
	}
	f := s.fates[s.rng.IntN(len(s.fates))]
	if !f.possibleFor(c) || f == sleepBefore && c.delayed {
		return executed
	}
	s.budget--
	return f
}

// sleepTimes are how long a process sleeps: shorter than its lease, longer than
// that, and so long that others may have taken over its operation.
var sleepTimes = []time.Duration{20 * time.Second, org.StaleAfter/2 + time.Second, org.StaleAfter + 20*time.Second, 2*org.StaleAfter + 25*time.Second, time.Hour}

// delays are how much later a late command is executed.
var delays = []time.Duration{0, time.Second, 5 * time.Second, org.StaleAfter / 2, org.StaleAfter + 10*time.Second, 3 * org.StaleAfter, 3 * time.Hour}

// shortDelays are the delays and sleep times of a command on the catalog if the
// server does not compare UUIDs. The service relies on no such command being
// later.
var shortDelays = []time.Duration{0, time.Second, 5 * time.Second, org.StaleAfter / 3}

func (s *sim) delaysOf(c *call) []time.Duration {
	if c.kind == catalogChange && !s.durable.comparesUUIDs {
		return shortDelays
	}
	return delays
}

func (s *sim) sleepTimesAfter(c *call) []time.Duration {
	if c.method == "compare" {
		return shortDelays[1:]
	}
	return sleepTimes
}

// idleTimesNow are the times that may pass now while no process works. They are
// short if a command on the catalog is pending that must not be late.
func (s *sim) idleTimesNow() []time.Duration {
	if !s.durable.comparesUUIDs && slices.ContainsFunc(s.pending, func(c *call) bool { return c.kind == catalogChange }) {
		return shortDelays[1:]
	}
	return idleTimes
}

func (s *sim) sleepTimesBefore(c *call) []time.Duration {
	if c.kind == catalogChange && !s.durable.comparesUUIDs {
		return shortDelays[1:]
	}
	return sleepTimes
}

// idleTimes are the times that may pass while no process works.
var idleTimes = []time.Duration{10 * time.Millisecond, time.Second, time.Second, 5 * time.Second, org.StaleAfter/2 + time.Second, org.StaleAfter + 15*time.Second, 2*org.StaleAfter + 25*time.Second}

func (s *sim) pick(values []time.Duration) time.Duration { return values[s.rng.IntN(len(values))] }
