package org

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Migration is a step that carries the records of older versions of the service
// forward. Functions of this version understand them before, after and meanwhile, so
// it may run at any time, several times and concurrently, and stop anywhere.
type Migration struct {
	Number     int       `json:"number"`
	Name       string    `json:"name"`
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
		all[f.Number-1].FinishedAt = f.FinishedAt
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
	return s.migrate(ctx, all)
}

func (s *Service) migrate(ctx context.Context, all []Migration) (finished []Migration, err error) {
	for _, m := range all {
		if !m.FinishedAt.IsZero() {
			continue
		}
		done, err := migrations[m.Number-1].run(s, ctx)
		if err == nil && !done {
			err = ErrUnfinished
		}
		if err != nil {
			return finished, err
		}
		m.FinishedAt = s.now()
		if err := s.Store.InsertMigration(ctx, m); err != nil {
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
	var steps []func() error
	for _, o := range organizations {
		if slices.ContainsFunc(o.Claims, isEmailClaim) {
			steps = append(steps, func() error { return s.giveClaimsOf(ctx, o) })
		}
	}
	for _, a := range admins {
		if a.Outdated {
			steps = append(steps, func() error { _, err := s.writeAdmin(ctx, a, a); return err })
		}
	}
	done = true
	for _, step := range steps {
		if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) < migrationReserve {
			return false, nil
		}
		switch err := step(); {
		case errors.Is(err, errBusy):
			done = false
		case err != nil:
			return false, err
		}
	}
	return done, nil
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
