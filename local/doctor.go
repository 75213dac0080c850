package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"orgservice/shared/org"
)

// namespaces is the number of collections and indexes together that Atlas
// advises as the most for a cluster of each tier.
// https://www.mongodb.com/docs/atlas/reference/atlas-limits/
var namespaces = map[string]int{
	"M0": 500, "FLEX": 500, "M10": 5_000, "M20": 10_000, "M30": 10_000, "M40": 100_000,
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
	advised, known := namespaces[strings.ToUpper(p.tier)]
	if p.tier != "" && !known {
		return fmt.Errorf("unknown tier %q: there are %s", p.tier, strings.Join(slices.Sorted(maps.Keys(namespaces)), ", "))
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
	if known && collections+indexes > advised {
		problems++
	}
	fmt.Fprintf(p.stdout, "%d collections and %d indexes; Atlas advises at most", collections, indexes)
	for _, tier := range slices.SortedFunc(maps.Keys(namespaces), func(a, b string) int {
		return (namespaces[a]-namespaces[b])*10 + strings.Compare(a, b)
	}) {
		fmt.Fprintf(p.stdout, " %s %d", tier, namespaces[tier])
	}
	fmt.Fprintln(p.stdout, " of both together")
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
