package org

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Migration is a step that carries the records of older versions of the service
// forward. Functions of this version understand them before, after and meanwhile, so
// it may run at any time, several times and concurrently, and stop anywhere. Those of
// older versions need not understand what it writes.
type Migration struct {
	Number     int       `json:"number"`
	Name       string    `json:"name"`
	SeenAt     time.Time `json:"seen_at"`     // when this version first met the database without it; zero: not yet
	FinishedAt time.Time `json:"finished_at"` // zero: not finished
}

// migrations holds the migrations by number, from 1: the name, and a function that
// changes the records that are still old and reports whether none is left. They are
// only added to, since databases have their numbers.
var migrations = []struct {
	name string
	run  func(*Service, context.Context) (done bool, err error)
}{
	{"admins have the claims on their emails", (*Service).giveClaims},
}

// ErrUnfinished is the error of Migrate if records are left, because they were just
// being changed or time was short. The next run has them.
var ErrUnfinished = errors.New("some records are left because they were being changed, or time was short: run it again in a minute")

// migrationDelay is how long after SeenAt Reconcile begins a migration. By then no
// function of an older version runs, and nobody goes back to it: to those that have
// their copy of the tokens' version on the organization's record, all tokens would be
// revoked.
const migrationDelay = 50 * time.Minute

// migrationReserve is the time that Migrate leaves of a time limit.
const migrationReserve = 5 * time.Second

// Migrations returns all migrations that this version knows. It returns an error if
// a newer version has worked with the database.
func (s *Service) Migrations(ctx context.Context) ([]Migration, error) {
	finished, err := s.Store.Migrations(ctx)
	if err != nil {
		return nil, err
	}
	var all []Migration
	for i, m := range migrations {
		all = append(all, Migration{Number: i + 1, Name: m.name})
	}
	for _, f := range finished {
		if f.Number < 1 || f.Number > len(all) {
			return nil, fmt.Errorf("the database is of another version of the service: it has migration %d (%s), and this version knows 1 to %d", f.Number, f.Name, len(all))
		}
		all[f.Number-1].SeenAt, all[f.Number-1].FinishedAt = f.SeenAt, f.FinishedAt
	}
	return all, nil
}

// Migrate runs the migrations that are not finished, one after the other, and returns
// those that it has finished. Its errors are ErrUnfinished, ErrUnavailable, and that of
// Migrations.
func (s *Service) Migrate(ctx context.Context) (finished []Migration, err error) {
	all, err := s.Migrations(ctx)
	if err != nil {
		return nil, err
	}
	return s.migrate(ctx, slices.DeleteFunc(all, func(m Migration) bool { return !m.FinishedAt.IsZero() }))
}

// migrateLater is Migrate for Reconcile: it leaves migrations that it has not known for
// migrationDelay, and repeats finished ones, because a function of an older version may
// have written a record at the same time, or somebody restored one.
func (s *Service) migrateLater(ctx context.Context, all []Migration) (finished []Migration, err error) {
	for i, m := range all {
		if m.SeenAt.IsZero() {
			m.SeenAt = s.now()
			if err := s.Store.InsertMigration(ctx, m); err != nil {
				return nil, err
			}
		}
		if s.now().Sub(m.SeenAt) < migrationDelay {
			all = all[:i] // the later ones may rely on it
			break
		}
	}
	finished, err = s.migrate(ctx, all)
	if errors.Is(err, ErrUnfinished) {
		err = nil // the next run has the rest
	}
	return finished, err
}

func (s *Service) migrate(ctx context.Context, all []Migration) (finished []Migration, err error) {
	for _, m := range all {
		done, err := migrations[m.Number-1].run(s, ctx)
		if err == nil && !done {
			err = ErrUnfinished
		}
		if err != nil {
			return finished, err
		}
		if !m.FinishedAt.IsZero() {
			continue
		}
		m.FinishedAt = s.now()
		m.SeenAt = cmp.Or(m.SeenAt, m.FinishedAt)
		if err := s.Store.FinishMigration(ctx, m); err != nil {
			return finished, err
		}
		finished = append(finished, m)
	}
	return finished, nil
}

// giveClaims gives the claims on emails, which older versions have given to
// organizations, to the admins. It also writes roles to the organizations, and the
// revision and the list of organizations to the admins, which older versions lack.
func (s *Service) giveClaims(ctx context.Context) (done bool, err error) {
	organizations, err := s.Store.Organizations(ctx)
	if err != nil {
		return false, err
	}
	admins, err := s.Store.Admins(ctx)
	if err != nil {
		return false, err
	}
	done = true
	var steps []func() error
	busy := map[string]bool{} // admins whom an operation may be changing
	for _, o := range organizations {
		for _, id := range o.adminIDs() {
			busy[id] = busy[id] || o.Operation != nil
		}
		if slices.ContainsFunc(o.Claims, isEmailClaim) {
			steps = append(steps, func() error { return s.giveClaimsOf(ctx, o) })
		}
	}
	for _, a := range admins {
		switch {
		case a.Outdated && busy[a.ID]:
			done = false
		case a.Outdated:
			steps = append(steps, func() error { _, err := s.writeAdmin(ctx, a, a); return err })
		}
	}
	// One that can't be written does not keep the others from it.
	var errs []error
	for _, step := range steps {
		if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) < migrationReserve {
			return false, errors.Join(errs...)
		}
		if err := step(); err != nil {
			done = false
			if !errors.Is(err, errBusy) {
				errs = append(errs, err)
			}
		}
	}
	return done, errors.Join(errs...)
}

// giveClaimsOf gives the claims on emails of the organization to its admins. Its error
// is errBusy if the organization is being changed.
func (s *Service) giveClaimsOf(ctx context.Context, o Organization) error {
	if o.Operation != nil {
		return errBusy
	}
	admins, err := s.Store.AdminsByID(ctx, o.adminIDs())
	if err != nil {
		return err
	}
	for _, a := range admins {
		if o, err = s.adopt(ctx, o, a); err != nil {
			return err
		}
	}
	rest := slices.DeleteFunc(slices.Clone(o.Claims), func(id string) bool { return !isEmailClaim(id) })
	if len(rest) == 0 {
		return nil
	}
	// Nobody has these emails. Who wants one, or Reconcile, releases its claim.
	next := o
	next.Claims = without(o.Claims, rest)
	_, err = s.write(ctx, o, next)
	return err
}
