package org_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"sync"
	"testing"

	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"orgservice/local/mongodbtest"
	"orgservice/shared/org"
)

var raceRounds = flag.Int("race.rounds", 3, "how often to run each race")

// raceProcesses is how many services, each with its own connections, take part
// in a race.
const raceProcesses = 8

// race runs the functions concurrently and returns their errors in order.
func race(functions ...func() error) []error {
	errs := make([]error, len(functions))
	var ready, done sync.WaitGroup
	start := make(chan struct{})
	for i, f := range functions {
		ready.Add(1)
		done.Go(func() {
			ready.Done()
			<-start
			errs[i] = f()
		})
	}
	ready.Wait()
	close(start)
	done.Wait()
	return errs
}

// runRounds runs a race several times, each time in a new world, and checks the
// world afterwards, without a repair.
func runRounds(t *testing.T, run func(t *testing.T, w *world, services []*org.Service)) {
	t.Parallel()
	db := mongodbtest.New(t)
	for round := range *raceRounds {
		t.Run(fmt.Sprint("round=", round), func(t *testing.T) {
			w := worldIn(t, db.Fresh(t))
			var services []*org.Service
			for range raceProcesses {
				services = append(services, w.service())
			}
			w.create(services[0], "Bystander", "admin@bystander.test")
			run(t, w, services)
			w.check()
		})
	}
}

// wantOneWinner fails the test unless exactly one racer succeeded and all
// others got ErrConflict or one of the errors in also.
func wantOneWinner(t *testing.T, errs []error, also ...error) {
	t.Helper()
	if winners := wantConflicts(t, errs, also...); winners != 1 {
		t.Errorf("%d winners; want 1", winners)
	}
}

// wantConflicts fails the test if an error is neither ErrConflict nor one of
// the errors in also. It returns how many racers succeeded.
func wantConflicts(t *testing.T, errs []error, also ...error) (winners int) {
	t.Helper()
	for i, err := range errs {
		allowed := err == nil || errors.Is(err, org.ErrConflict) && !errors.Is(err, org.ErrUnavailable)
		for _, target := range also {
			allowed = allowed || errors.Is(err, target)
		}
		if !allowed {
			t.Errorf("racer %d: %v", i, err)
		}
		if err == nil {
			winners++
		}
	}
	return winners
}

// racers is how many creations take part in a race.
const racers = 50

// creates returns functions that create organizations, for race.
func creates(services []*org.Service, name, email func(i int) string) []func() error {
	var functions []func() error
	for i := range racers {
		functions = append(functions, func() error {
			_, err := services[i%len(services)].Create(context.Background(), org.CreateRequest{
				OrganizationName: name(i), Email: email(i), Password: password,
			})
			return err
		})
	}
	return functions
}

func always(s string) func(int) string { return func(int) string { return s } }
func numbered(format string) func(int) string {
	return func(i int) string { return fmt.Sprintf(format, i) }
}

func TestRaceCreatesOfOneName(t *testing.T) {
	runRounds(t, func(t *testing.T, w *world, services []*org.Service) {
		wantOneWinner(t, race(creates(services, always("Acme Inc"), numbered("admin%d@acme.test"))...))
	})
}

func TestRaceCreatesOfOneSlug(t *testing.T) {
	spellings := []string{"Acme Inc", "ACME INC", "acme-inc", "Acme, Inc.", "Ａｃｍｅ Inc", "acme_inc"}
	runRounds(t, func(t *testing.T, w *world, services []*org.Service) {
		wantOneWinner(t, race(creates(services,
			func(i int) string { return spellings[i%len(spellings)] }, numbered("admin%d@acme.test"))...))
	})
}

func TestRaceCreatesOfOneEmail(t *testing.T) {
	runRounds(t, func(t *testing.T, w *world, services []*org.Service) {
		wantOneWinner(t, race(creates(services, numbered("Acme %d"), always("admin@acme.test"))...))
	})
}

// rename returns a function that renames the organization.
func rename(w *world, s *org.Service, o org.Organization, name string) func() error {
	return change(w, s, o, org.UpdateRequest{OrganizationName: &name})
}

// change returns a function that updates the organization.
func change(w *world, s *org.Service, o org.Organization, c org.UpdateRequest) func() error {
	return func() error {
		_, err := s.Update(context.Background(), w.callerOf(o), c)
		return err
	}
}

// remove returns a function that deletes the organization.
func remove(w *world, s *org.Service, o org.Organization) func() error {
	return func() error {
		_, err := s.Delete(context.Background(), w.callerOf(o), org.DeleteRequest{})
		return err
	}
}

func TestRaceRenamesOfOneOrganization(t *testing.T) {
	runRounds(t, func(t *testing.T, w *world, services []*org.Service) {
		o := w.create(services[0], "Acme", "admin@acme.test")
		var functions []func() error
		for i := range 16 {
			functions = append(functions, rename(w, services[i%len(services)], o, fmt.Sprint("Bolt ", i)))
		}
		// All may succeed, if each begins after the end of the one before.
		if winners := wantConflicts(t, race(functions...)); winners == 0 {
			t.Error("no winner")
		}
	})
}

func TestRaceRenamesToOneName(t *testing.T) {
	runRounds(t, func(t *testing.T, w *world, services []*org.Service) {
		var functions []func() error
		for i, s := range services {
			functions = append(functions, rename(w, s, w.create(s, fmt.Sprint("Acme ", i), fmt.Sprintf("admin%d@acme.test", i)), "Bolt"))
		}
		wantOneWinner(t, race(functions...))
	})
}

// TestRaceSwap renames A to B while B is renamed to A. Both names are taken.
func TestRaceSwap(t *testing.T) {
	runRounds(t, func(t *testing.T, w *world, services []*org.Service) {
		a := w.create(services[0], "Acme", "admin@acme.test")
		b := w.create(services[1], "Bolt", "admin@bolt.test")
		if winners := wantConflicts(t, race(rename(w, services[0], a, "Bolt"), rename(w, services[1], b, "Acme"))); winners != 0 {
			t.Errorf("%d winners; want none", winners)
		}
	})
}

// TestRaceChain renames A to B while B is renamed to C and C is deleted. Each
// may succeed or get ErrConflict.
func TestRaceChain(t *testing.T) {
	runRounds(t, func(t *testing.T, w *world, services []*org.Service) {
		a := w.create(services[0], "Acme", "admin@acme.test")
		b := w.create(services[1], "Bolt", "admin@bolt.test")
		c := w.create(services[2], "Core", "admin@core.test")
		wantConflicts(t, race(
			rename(w, services[0], a, "Bolt"), rename(w, services[1], b, "Core"), remove(w, services[2], c)))
	})
}

func TestRaceRenameAgainstDelete(t *testing.T) {
	runRounds(t, func(t *testing.T, w *world, services []*org.Service) {
		o := w.create(services[0], "Acme", "admin@acme.test")
		errs := race(rename(w, services[0], o, "Bolt"), remove(w, services[1], o),
			rename(w, services[2], o, "Core"), remove(w, services[3], o))
		if winners := wantConflicts(t, errs, org.ErrUnauthenticated); winners == 0 {
			t.Error("no winner")
		}
	})
}

// TestRaceBackAndForth renames one organization back and forth in many
// processes. Some claim the name that others release at the same time.
func TestRaceBackAndForth(t *testing.T) {
	runRounds(t, func(t *testing.T, w *world, services []*org.Service) {
		o := w.create(services[0], "Acme", "admin@acme.test")
		var functions []func() error
		for i := range 16 {
			functions = append(functions, func() error {
				var err error
				for _, name := range []string{"Bolt", "Acme", "Bolt", "Acme"} {
					if e := rename(w, services[i%len(services)], o, name)(); e != nil {
						err = e
					}
				}
				return err
			})
		}
		wantConflicts(t, race(functions...))
	})
}

func TestRaceCredentials(t *testing.T) {
	runRounds(t, func(t *testing.T, w *world, services []*org.Service) {
		o := w.create(services[0], "Acme", "admin@acme.test")
		var functions []func() error
		for i := range 6 { // few enough that none is throttled
			functions = append(functions, change(w, services[i], o, org.UpdateRequest{
				Email: new(fmt.Sprintf("admin%d@acme.test", i)), Password: new(newPassword), CurrentPassword: new(password),
			}))
		}
		// The winner's change revokes the token of all others.
		wantOneWinner(t, race(functions...), org.ErrUnauthenticated, org.ErrForbidden)
	})
}

func TestRaceDeleteAgainstLogin(t *testing.T) {
	runRounds(t, func(t *testing.T, w *world, services []*org.Service) {
		o := w.create(services[0], "Acme", "admin@acme.test")
		login := func() error {
			_, err := services[1].Login(context.Background(), org.LoginRequest{Email: "admin@acme.test", Password: password})
			return err
		}
		errs := race(login, remove(w, services[0], o), login, login, login)
		wantConflicts(t, errs, org.ErrUnauthenticated)
		if errs[1] != nil {
			t.Errorf("delete: %v", errs[1])
		}
		if err := login(); !errors.Is(err, org.ErrUnauthenticated) {
			t.Errorf("login to a deleted organization: %v; want ErrUnauthenticated", err)
		}
	})
}

// TestRaceRepair leaves an operation in every possible state. Then repairs,
// clients that want its names, and the organization's own admin race.
func TestRaceRepair(t *testing.T) {
	for _, c := range crashCases() {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			db := mongodbtest.New(t)
			for at := 1; at <= maxCommands; at++ {
				halfway := &crash{at: at, lost: true}
				t.Run(fmt.Sprint("at=", at), func(t *testing.T) {
					w, _, o := c.setUp(t, db)
					c.run(w, w.crashing(halfway), o)
					w.makeStale()
					var functions []func() error
					for i := range raceProcesses {
						s := w.service()
						functions = append(functions,
							func() error { _, err := s.Reconcile(context.Background(), true); return err },
							func() error { _, err := s.Get(context.Background(), renamed); return err },
							func() error {
								_, err := s.Create(context.Background(), org.CreateRequest{
									OrganizationName: renamed, Email: fmt.Sprintf("other%d@other.test", i), Password: password})
								return err
							},
						)
						if c.nameBefore != "" {
							functions = append(functions, rename(w, s, o, fmt.Sprint("Core ", i)), remove(w, s, o))
						}
					}
					wantConflicts(t, race(functions...), org.ErrNotFound, org.ErrUnauthenticated)
					w.makeStale()
					reconcile(t, w.service())
					w.check()
				})
				if !halfway.happened() {
					break
				}
			}
		})
	}
}

// TestRaceSleeper lets an operation sleep, after each of its commands, for
// longer than StaleAfter. Meanwhile others repair it and use the names that are
// free then. When it wakes, it must harm nobody.
func TestRaceSleeper(t *testing.T) {
	for _, c := range crashCases() {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			db := mongodbtest.New(t)
			for at := 1; at <= maxCommands; at++ {
				slept := false
				t.Run(fmt.Sprint("at=", at), func(t *testing.T) {
					w, _, o := c.setUp(t, db)
					point := &sleepPoint{at: at, asleep: make(chan struct{}), wake: make(chan struct{})}
					sleeper, others := w.service(point.client()), w.service()
					finished := make(chan error, 1)
					go func() { finished <- c.run(w, sleeper, o) }()
					select {
					case err := <-finished:
						if err != nil {
							t.Errorf("without a sleep: %v", err)
						}
						return
					case <-point.asleep:
					}
					slept = true
					w.makeStale()
					reconcile(t, others)
					for i, name := range []string{subject, renamed} {
						if _, err := others.Get(context.Background(), name); errors.Is(err, org.ErrNotFound) {
							w.create(others, name, fmt.Sprintf("other%d@other.test", i))
						}
					}
					close(point.wake)
					<-finished
					w.makeStale()
					reconcile(t, others)
					w.check()
				})
				if !slept {
					break
				}
			}
		})
	}
}

// sleepPoint makes a process sleep after a command that was executed.
type sleepPoint struct {
	at     int           // the number of the command, from 1
	only   string        // if set, only commands of this name are counted
	asleep chan struct{} // closed when the process sleeps
	wake   chan struct{} // closed by the test to wake the process

	mu    sync.Mutex
	count int
}

func (s *sleepPoint) client() *options.ClientOptions { return options.Client().SetDialer(s) }

func (s *sleepPoint) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, network, address)
	return &sleepingConn{Conn: conn, point: s}, err
}

type sleepingConn struct {
	net.Conn
	point *sleepPoint
	next  bool // sleep after the next answer
}

func (c *sleepingConn) Write(b []byte) (int, error) {
	if name := commandName(b); isCounted(name) && (c.point.only == "" || c.point.only == name) {
		c.point.mu.Lock()
		c.point.count++
		c.next = c.point.count == c.point.at
		c.point.mu.Unlock()
	}
	return c.Conn.Write(b)
}

func (c *sleepingConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if c.next {
		c.next = false
		close(c.point.asleep)
		<-c.point.wake
	}
	return n, err
}
