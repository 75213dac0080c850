package org_test

import (
	"flag"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
)

var (
	simSeed    = flag.Uint64("sim.seed", 0, "run only the schedule of this seed, and print it")
	simStart   = flag.Uint64("sim.start", 1, "the first seed")
	simN       = flag.Uint64("sim.n", 5000, "how many schedules to run")
	simProfile = flag.String("sim.profile", "any", "what can go wrong: the name of a profile, or any")
	simFirst   = flag.Bool("sim.first", false, "stop at the first problem")
	simOnly    = flag.String("sim.only", "", "ignore problems of other kinds")
)

// runSim runs the schedule of the seed. The result holds the problems.
func runSim(t *testing.T, seed uint64, profile string, traced bool) (s *sim) {
	synctest.Test(t, func(t *testing.T) {
		var err error
		if s, err = newSim(seed, profile, traced); err != nil {
			t.Fatal(err)
		}
		s.schedule()
	})
	if *simOnly != "" {
		s.problems = slices.DeleteFunc(s.problems, func(p problem) bool { return p.kind != *simOnly })
	}
	return s
}

// TestSim runs the service with a database, clocks and processes that fail in
// every way that the documentation of the package mentions.
func TestSim(t *testing.T) {
	if *simSeed != 0 {
		s := runSim(t, *simSeed, *simProfile, true)
		t.Logf("seed %d, profile %s\n%s", *simSeed, s.name, s.trace)
		for _, p := range s.problems {
			t.Errorf("%s: %s", p.kind, p.text)
		}
		return
	}
	all := &findings{kinds: map[string]*foundKind{}}
	t.Run("schedules", func(t *testing.T) {
		var next atomic.Uint64
		for i := range runtime.GOMAXPROCS(0) {
			t.Run(fmt.Sprint(i), func(t *testing.T) {
				t.Parallel()
				for {
					n := next.Add(1) - 1
					if n >= *simN || *simFirst && t.Failed() {
						return
					}
					seed := *simStart + n
					s := runSim(t, seed, *simProfile, false)
					all.add(seed, s)
					if *simFirst && len(s.problems) > 0 {
						t.Fail()
					}
				}
			})
		}
	})
	all.report(t)
}

// findings counts the schedules that have problems, by kind.
type findings struct {
	mu    sync.Mutex
	kinds map[string]*foundKind
}

// foundKind is how often a kind of problem was found, and the first one.
type foundKind struct {
	count int
	seed  uint64 // the lowest
	problem
	profile string
}

// add adds the problems of a schedule.
func (f *findings) add(seed uint64, s *sim) {
	f.mu.Lock()
	defer f.mu.Unlock()
	kinds := map[string]bool{}
	for _, p := range s.problems {
		if kinds[p.kind] {
			continue
		}
		kinds[p.kind] = true
		if f.kinds[p.kind] == nil {
			f.kinds[p.kind] = &foundKind{}
		}
		k := f.kinds[p.kind]
		k.count++
		if k.seed == 0 || seed < k.seed {
			k.seed, k.problem, k.profile = seed, p, s.name
		}
	}
}

// report fails the test for every kind of problem and prints the first schedule
// that has one.
func (f *findings) report(t *testing.T) {
	var first *foundKind
	for _, k := range inOrder(f.kinds) {
		t.Errorf("%s: in %d of %d schedules; first -sim.seed=%d (%s): %s", k.kind, k.count, *simN, k.seed, k.profile, k.text)
		if first == nil || k.seed < first.seed {
			first = k
		}
	}
	if first != nil {
		s := runSim(t, first.seed, *simProfile, true)
		t.Logf("seed %d, profile %s\n%s", first.seed, s.name, s.trace)
	}
}

// TestSimRepeats checks that a seed always gives the same trace.
func TestSimRepeats(t *testing.T) {
	t.Parallel()
	for seed := uint64(1); seed <= 200; seed++ {
		a, b := runSim(t, seed, "any", true), runSim(t, seed, "any", true)
		if a.trace.String() != b.trace.String() {
			t.Fatalf("seed %d has two different traces:\n%s\nand\n%s", seed, a.trace, b.trace)
		}
	}
}
