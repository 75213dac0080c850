package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"orgservice/shared/org"
)

// migrate runs the migrations of the database that are not finished, as reconcile does.
// With the argument status it lists all migrations and changes nothing.
func migrate(ctx context.Context, p *project, args []string) error {
	status := len(args) == 1 && args[0] == "status"
	if len(args) > 0 && !status {
		return errors.New("usage: go run ./local migrate [status]")
	}
	store, database, release, err := p.store(ctx)
	if err != nil {
		return err
	}
	defer release()
	s := &org.Service{Store: store, Database: database}
	if status {
		all, err := s.Migrations(ctx)
		if err != nil {
			return err
		}
		rows := [][]string{{"NUMBER", "NAME", "FINISHED"}}
		for _, m := range all {
			finished := "no"
			if !m.FinishedAt.IsZero() {
				finished = m.FinishedAt.UTC().Format(time.RFC3339)
			}
			rows = append(rows, []string{strconv.Itoa(m.Number), m.Name, finished})
		}
		printTable(p.stdout, rows)
		return nil
	}
	if err := s.CheckClock(ctx); err != nil {
		return err
	}
	finished, err := s.Migrate(ctx)
	for _, m := range finished {
		fmt.Fprintf(p.stdout, "finished migration %d: %s\n", m.Number, m.Name)
	}
	if err == nil && len(finished) == 0 {
		fmt.Fprintln(p.stdout, "nothing to do: all migrations are finished")
	}
	return err
}

// checkMigrations returns an error if the database is of another version of the service.
func (p *project) checkMigrations(ctx context.Context) error {
	store, database, err := p.connect(ctx)
	if err != nil {
		return nil // the service answers 503 until it can be reached
	}
	defer store.Close(ctx)
	if _, err = (&org.Service{Store: store, Database: database}).Migrations(ctx); errors.Is(err, org.ErrUnavailable) {
		return nil
	}
	return err
}
