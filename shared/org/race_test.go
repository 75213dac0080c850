package org_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"testing"

	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"orgservice/local/mongodbtest"
	"orgservice/shared/org"
)

const raceRounds = 10

// raceProcesses is how many services, each with connections of its own, share
// the work of a race.
const raceProcesses = 8

// race runs the round's functions at once and returns their errors in order.
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

// rounds runs the race in new worlds, and checks each afterwards: as it is,
// without anybody's repair.
func rounds(t *testing.T, run func(t *testing.T, w *world, services []*org.Service)) {
	t.Parallel()
	db := mongodbtest.New(t)
	for round := range raceRounds {
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

// wantOneWinner fails the test unless exactly one succeeded and all others
// were told of a conflict, or one of the also allowed errors.
func wantOneWinner(t *testing.T, errs []error, also ...error) {
	t.Helper()
	if winners := wantConflicts(t, errs, also...); winners != 1 {
		t.Errorf("%d winners", winners)
	}
}

// wantConflicts fails the test if an error is none of a conflict, and returns
// how many succeeded.
func wantConflicts(t *testing.T, errs []error, also ...error) (winners int) {
	t.Helper()
	for i, err := range errs {
		allowed := err == nil || errors.Is(err, org.ErrConflict)
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

const racers = 50

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
	rounds(t, func(t *testing.T, w *world, services []*org.Service) {
		wantOneWinner(t, race(creates(services, always("Acme Inc"), numbered("admin%d@acme.test"))...))
	})
}

func TestRaceCreatesOfOneSlug(t *testing.T) {
	spellings := []string{"Acme Inc", "ACME INC", "acme-inc", "Acme, Inc.", "Ａｃｍｅ Inc", "acme_inc"}
	rounds(t, func(t *testing.T, w *world, services []*org.Service) {
		wantOneWinner(t, race(creates(services,
			func(i int) string { return spellings[i%len(spellings)] }, numbered("admin%d@acme.test"))...))
	})
}

func TestRaceCreatesOfOneEmail(t *testing.T) {
	rounds(t, func(t *testing.T, w *world, services []*org.Service) {
		wantOneWinner(t, race(creates(services, numbered("Acme %d"), always("admin@acme.test"))...))
	})
}

func rename(w *world, s *org.Service, o org.Organization, name string) func() error {
	return change(w, s, o, org.UpdateRequest{OrganizationName: &name})
}

func change(w *world, s *org.Service, o org.Organization, c org.UpdateRequest) func() error {
	return func() error {
		_, err := s.Update(context.Background(), w.callerOf(o), c)
		return err
	}
}

func remove(w *world, s *org.Service, o org.Organization) func() error {
	return func() error {
		_, err := s.Delete(context.Background(), w.callerOf(o), nil)
		return err
	}
}

func TestRaceRenamesOfOneOrganization(t *testing.T) {
	rounds(t, func(t *testing.T, w *world, services []*org.Service) {
		o := w.create(services[0], "Acme", "admin@acme.test")
		var functions []func() error
		for i := range 16 {
			functions = append(functions, rename(w, services[i%len(services)], o, fmt.Sprint("Bolt ", i)))
		}
		// One after the other they may all succeed.
		if winners := wantConflicts(t, race(functions...)); winners == 0 {
			t.Error("no winner")
		}
	})
}

func TestRaceRenamesToOneName(t *testing.T) {
	rounds(t, func(t *testing.T, w *world, services []*org.Service) {
		var functions []func() error
		for i, s := range services {
			functions = append(functions, rename(w, s, w.create(s, fmt.Sprint("Acme ", i), fmt.Sprintf("admin%d@acme.test", i)), "Bolt"))
		}
		wantOneWinner(t, race(functions...))
	})
}

// TestRaceSwap renames A to B while B is renamed to A: both names are taken.
func TestRaceSwap(t *testing.T) {
	rounds(t, func(t *testing.T, w *world, services []*org.Service) {
		a := w.create(services[0], "Acme", "admin@acme.test")
		b := w.create(services[1], "Bolt", "admin@bolt.test")
		if winners := wantConflicts(t, race(rename(w, services[0], a, "Bolt"), rename(w, services[1], b, "Acme"))); winners != 0 {
			t.Errorf("%d winners", winners)
		}
	})
}

// TestRaceChain renames A to B while B is renamed to C and C deleted: each may
// succeed or be told of a conflict.
func TestRaceChain(t *testing.T) {
	rounds(t, func(t *testing.T, w *world, services []*org.Service) {
		a := w.create(services[0], "Acme", "admin@acme.test")
		b := w.create(services[1], "Bolt", "admin@bolt.test")
		c := w.create(services[2], "Core", "admin@core.test")
		wantConflicts(t, race(
			rename(w, services[0], a, "Bolt"), rename(w, services[1], b, "Core"), remove(w, services[2], c)))
	})
}

func TestRaceRenameAgainstDelete(t *testing.T) {
	rounds(t, func(t *testing.T, w *world, services []*org.Service) {
		o := w.create(services[0], "Acme", "admin@acme.test")
		errs := race(rename(w, services[0], o, "Bolt"), remove(w, services[1], o),
			rename(w, services[2], o, "Core"), remove(w, services[3], o))
		if winners := wantConflicts(t, errs, org.ErrUnauthenticated); winners == 0 {
			t.Error("no winner")
		}
	})
}

// TestRaceBackAndForth renames there and back at once: the claim on the name
// that one releases is the one that the other takes.
func TestRaceBackAndForth(t *testing.T) {
	rounds(t, func(t *testing.T, w *world, services []*org.Service) {
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
	rounds(t, func(t *testing.T, w *world, services []*org.Service) {
		o := w.create(services[0], "Acme", "admin@acme.test")
		var functions []func() error
		for i := range 6 { // more guesses at once are throttled
			functions = append(functions, change(w, services[i], o, org.UpdateRequest{
				Email: ptr(fmt.Sprintf("admin%d@acme.test", i)), Password: ptr(newPassword), CurrentPassword: ptr(password),
			}))
		}
		// The winner's change ends the token of all others.
		wantOneWinner(t, race(functions...), org.ErrUnauthenticated, org.ErrForbidden)
	})
}

func TestRaceDeleteAgainstLogin(t *testing.T) {
	rounds(t, func(t *testing.T, w *world, services []*org.Service) {
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
			t.Errorf("login to a deleted organization: %v", err)
		}
	})
}

// TestRaceRepair leaves an operation in every state there is and lets repairs, clients that
// want what it holds and the organization's own admin come at once.
func TestRaceRepair(t *testing.T) {
	for _, c := range crashCases() {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			db := mongodbtest.New(t)
			for at := 1; at <= maxCommands; at++ {
				halfway := &crash{at: at, lost: true}
				t.Run(fmt.Sprint("at=", at), func(t *testing.T) {
					w, o := c.stage(t, db)
					c.run(w, w.crashing(halfway), o)
					w.wait()
					var functions []func() error
					for i := range raceProcesses {
						s := w.service()
						functions = append(functions,
							func() error { _, err := s.Reconcile(context.Background(), true); return err },
							func() error { _, err := s.Get(context.Background(), renamed); return err },
							func() error {
								_, err := s.Create(context.Background(), org.CreateRequest{
									OrganizationName: renamed, Email: fmt.Sprintf("somebody%d@else.test", i), Password: password})
								return err
							},
						)
						if c.before != "" {
							functions = append(functions, rename(w, s, o, fmt.Sprint("Core ", i)), remove(w, s, o))
						}
					}
					wantConflicts(t, race(functions...), org.ErrNotFound, org.ErrUnauthenticated)
					w.wait()
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

// TestRaceSleeper puts an operation to sleep after each of its commands for
// longer than StaleAfter. Meanwhile others repair it and use the names that
// are free then. Whatever it does when it wakes hurts nobody.
func TestRaceSleeper(t *testing.T) {
	for _, c := range crashCases() {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			db := mongodbtest.New(t)
			for at := 1; at <= maxCommands; at++ {
				slept := false
				t.Run(fmt.Sprint("at=", at), func(t *testing.T) {
					w, o := c.stage(t, db)
					nap := &sleep{at: at, asleep: make(chan struct{}), wake: make(chan struct{})}
					sleeper, others := w.service(nap.client()), w.service()
					finished := make(chan error, 1)
					go func() { finished <- c.run(w, sleeper, o) }()
					select {
					case err := <-finished:
						if err != nil {
							t.Errorf("without a sleep: %v", err)
						}
						return
					case <-nap.asleep:
					}
					slept = true
					w.wait()
					reconcile(t, others)
					for i, name := range []string{subject, renamed} {
						if _, err := others.Get(context.Background(), name); errors.Is(err, org.ErrNotFound) {
							w.create(others, name, fmt.Sprintf("somebody%d@else.test", i))
						}
					}
					close(nap.wake)
					<-finished
					w.wait()
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

// sleep makes a process sleep after a command that was carried out.
type sleep struct {
	at           int
	only         string // if set, commands of another name are not counted
	asleep, wake chan struct{}

	mu    sync.Mutex
	count int
}

func (s *sleep) client() *options.ClientOptions { return options.Client().SetDialer(s) }

func (s *sleep) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, network, address)
	return &sleepingConn{Conn: conn, sleep: s}, err
}

type sleepingConn struct {
	net.Conn
	sleep *sleep
	next  bool // the answer that comes next is the one to sleep after
}

func (c *sleepingConn) Write(b []byte) (int, error) {
	if name := commandName(b); counted(name) && (c.sleep.only == "" || c.sleep.only == name) {
		c.sleep.mu.Lock()
		c.sleep.count++
		c.next = c.sleep.count == c.sleep.at
		c.sleep.mu.Unlock()
	}
	return c.Conn.Write(b)
}

func (c *sleepingConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if c.next {
		c.next = false
		close(c.sleep.asleep)
		<-c.sleep.wake
	}
	return n, err
}
