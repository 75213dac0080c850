package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"orgservice/shared/mongodb"
	"orgservice/shared/org"
)

// tiers holds the limits of Atlas for a cluster of each tier. An M0 and a Flex cluster have no more than so many
// collections, and no advice about indexes.
// https://www.mongodb.com/docs/atlas/reference/atlas-limits/
var tiers = map[string]limits{
	"M0": {500, 500}, "FLEX": {500, 500}, "M10": {5_000, 1_500}, "M20": {10_000, 3_000}, "M30": {10_000, 3_000}, "M40": {100_000, 6_000},
}

type limits struct {
	namespaces  int // collections and indexes together that are advised as the most
	connections int // to each server
}

// doctor checks the database and changes nothing. It prints each problem as a
// line of JSON, and returns an error if there is one.
func doctor(ctx context.Context, p *project, args []string) error {
	if len(args) > 0 {
		return fmt.Errorf("unexpected argument %q", args[0])
	}
	signUps, err := p.config().SignUps()
	if err != nil {
		return err
	}
	tier, known := tiers[strings.ToUpper(p.tier)]
	if p.tier != "" && !known {
		return fmt.Errorf("unknown tier %q: there are %s", p.tier, strings.Join(slices.Sorted(maps.Keys(tiers)), ", "))
	}
	store, database, release, err := p.store(ctx)
	if err != nil {
		return err
	}
	defer release()
	s := &org.Service{Store: store, Database: database}
	if _, err := s.Migrations(ctx); err != nil {
		return err
	}
	findings, err := s.Inspect(ctx)
	if err != nil {
		return err
	}
	collections, indexes, err := store.CountNamespaces(ctx)
	if err != nil {
		return err
	}
	organizations, err := store.Organizations(ctx)
	if err != nil {
		return err
	}
	open, accepted, err := store.Connections(ctx)
	if err != nil {
		return err
	}
	problems := len(findings)
	encoder := json.NewEncoder(p.stdout)
	for _, f := range findings {
		if err := encoder.Encode(f); err != nil {
			return err
		}
	}
	fmt.Fprintln(p.stdout, statuses(organizations))
	if most := signUps.MostOrganizations; most > 0 {
		fmt.Fprintf(p.stdout, "%d organizations, and MAX_ORGANIZATIONS lets in %d\n", len(organizations), most)
		if len(organizations)*10 >= most*9 {
			problems++
		}
	}
	if known && collections+indexes > tier.namespaces {
		problems++
	}
	fmt.Fprintf(p.stdout, "%d collections and %d indexes; Atlas advises at most", collections, indexes)
	for _, name := range slices.SortedFunc(maps.Keys(tiers), func(a, b string) int {
		return (tiers[a].namespaces-tiers[b].namespaces)*10 + strings.Compare(a, b)
	}) {
		fmt.Fprintf(p.stdout, " %s %d", name, tiers[name].namespaces)
	}
	fmt.Fprintln(p.stdout, " of both together")
	if open > 0 {
		fmt.Fprintf(p.stdout, "%d connections of %d that the server accepts, with those of this command", open, accepted)
		if known {
			fmt.Fprintf(p.stdout, "; %s has %d", strings.ToUpper(p.tier), tier.connections)
			accepted = min(accepted, tier.connections)
		}
		fmt.Fprintf(p.stdout, "; a process of a function has %d at most\n", mongodb.MaxConnections)
		if open*5 > accepted*4 {
			problems++
		}
	} else {
		fmt.Fprintln(p.stdout, "the server does not say how many connections it has: with MongoDB that takes the role clusterMonitor")
	}
	if problems > 0 {
		return fmt.Errorf("%d problems", problems)
	}
	fmt.Fprintln(p.stdout, "no problems")
	return nil
}

// statuses says how many organizations have each status, and when the next one that was deleted
// can't be restored any more.
func statuses(organizations []org.Organization) string {
	count := map[org.Status]int{}
	var next time.Time
	for _, o := range organizations {
		count[o.Status]++
		if d := o.Deletion; o.Status == org.Deleted && d != nil && (next.IsZero() || d.Ends.Before(next)) {
			next = d.Ends
		}
	}
	parts := []string{fmt.Sprintf("organizations: %d active", count[org.Active])}
	for _, status := range []org.Status{org.Suspended, org.Provisioning, org.Deleting, org.Deleted} {
		if count[status] > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", count[status], status))
		}
	}
	text := strings.Join(parts, ", ")
	if !next.IsZero() {
		text += ", the first of which can be restored until " + next.Format(time.RFC3339)
	}
	return text
}
