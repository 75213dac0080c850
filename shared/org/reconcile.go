package org

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// FindingKind is a sort of thing that a sound database at rest has not.
type FindingKind string

// The kinds of findings. Reconcile repairs the first three, and drops the
// collections of nobody that are empty.
const (
	UnfinishedOperation FindingKind = "unfinished operation"
	UnusedClaim         FindingKind = "unused claim"
	OrphanAdmin         FindingKind = "admin without organization"
	MissingClaim        FindingKind = "organization without claim"
	MissingAdmin        FindingKind = "organization without admin"
	MissingCollection   FindingKind = "organization without collection"
	OrphanCollection    FindingKind = "collection without organization"
	MissingIndex        FindingKind = "missing index"
)

// Finding is one thing that is wrong in the database.
type Finding struct {
	Kind           FindingKind `json:"kind"`
	OrganizationID string      `json:"organization_id,omitempty"`
	Subject        string      `json:"subject"`         // the claim, admin, collection, index or kind of operation; of a claim to an email, its kind alone
	Since          time.Time   `json:"since,omitzero"`  // when it was last touched
	Age            string      `json:"age,omitempty"`   // how long ago that is
	Error          string      `json:"error,omitempty"` // why it could not be repaired

	claim Claim
	admin Admin
	org   Organization
}

// Report is what a run of Reconcile did.
type Report struct {
	Finished []Finding `json:"finished"` // operations that were carried to their end
	Undone   []Finding `json:"undone"`   // creations that never committed
	Removed  []Finding `json:"removed"`  // claims, admins and empty collections that had no organization
	Odd      []Finding `json:"odd"`      // what needs a person's eyes
}

// Reconcile makes missing indexes and repairs whatever has been left for
// longer than StaleAfter. A full run reads the whole database for it; another
// one reads unfinished operations alone. It may run at any time, several times
// at once. The error tells of what kept it from working, not of what it found.
func (s *Service) Reconcile(ctx context.Context, full bool) (Report, error) {
	report := Report{Finished: []Finding{}, Undone: []Finding{}, Removed: []Finding{}, Odd: []Finding{}}
	if err := s.Store.EnsureIndexes(ctx); err != nil {
		return report, fmt.Errorf("make indexes: %w", err)
	}
	unfinished, err := s.Store.UnfinishedOrganizations(ctx, s.now().Add(-StaleAfter))
	if err != nil {
		return report, err
	}
	for _, o := range unfinished {
		finding := s.unfinished(o)
		list := &report.Finished
		if o.Operation.Kind == Creating {
			list = &report.Undone
		}
		err := s.repair(ctx, o)
		switch {
		case errors.Is(err, errBusy): // somebody else repairs it
			continue
		case errors.Is(err, ErrUnavailable):
			return report, err
		case errors.Is(err, ErrConflict): // it could not go forward and was rolled back
			list = &report.Undone
		case err != nil:
			list = &report.Odd
			finding.Error = err.Error()
		}
		*list = append(*list, finding)
	}
	if !full {
		return report, nil
	}
	// MongoDB does so by itself.
	if err := s.Store.DeleteExpired(ctx, s.now()); err != nil {
		return report, err
	}
	findings, err := s.Inspect(ctx)
	for _, f := range findings {
		var err error
		switch {
		case f.Kind == UnusedClaim && s.stale(f.Since):
			err = s.releaseUnused(ctx, f.claim)
		case f.Kind == OrphanAdmin && s.stale(f.Since):
			err = s.deleteOrphan(ctx, f.admin)
		case f.Kind == OrphanCollection:
			var dropped bool
			if dropped, err = s.dropStray(ctx, f.Subject); err == nil && !dropped {
				report.Odd = append(report.Odd, f)
				continue
			}
		case f.Kind == UnfinishedOperation, f.Kind == UnusedClaim, f.Kind == OrphanAdmin:
			continue // under way, or reported above
		default:
			report.Odd = append(report.Odd, f)
			continue
		}
		if errors.Is(err, errBusy) {
			continue
		}
		if err != nil {
			return report, err
		}
		report.Removed = append(report.Removed, f)
	}
	if err != nil || len(report.Odd) == 0 {
		return report, err
	}
	// What is found only once was under way.
	again, err := s.Inspect(ctx)
	report.Odd = slices.DeleteFunc(report.Odd, func(f Finding) bool {
		return f.Error == "" && !slices.ContainsFunc(again, func(g Finding) bool {
			return g.Kind == f.Kind && g.OrganizationID == f.OrganizationID && g.Subject == f.Subject
		})
	})
	return report, err
}

// deleteOrphan deletes an admin if its organization does not know it.
func (s *Service) deleteOrphan(ctx context.Context, a Admin) error {
	o, err := s.Store.Organization(ctx, a.OrganizationID)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return err
	}
	if err == nil && o.member(a.ID) != nil {
		return nil
	}
	return s.Store.DeleteAdmin(ctx, a.ID)
}

// dropStray drops a collection that nobody has a claim on, if it is empty, and
// reports whether it did. Such a one is left by a command that arrives long
// after the creation of its organization was undone.
func (s *Service) dropStray(ctx context.Context, subject string) (dropped bool, err error) {
	database, name, _ := strings.Cut(subject, ".")
	// With the claim nobody can begin to use the name meanwhile.
	c := Claim{ID: name, OrganizationID: s.Store.NewID(), OperationID: s.Store.NewID(), ClaimedAt: s.now()}
	taken, err := s.Store.InsertClaims(ctx, []Claim{c})
	if err != nil || taken != "" {
		return false, err
	}
	empty, err := s.Store.CollectionIsEmpty(ctx, database, name)
	if err == nil && empty {
		err = s.Store.DropCollection(ctx, database, name)
		dropped = err == nil
	}
	if releaseErr := s.Store.ReleaseClaim(ctx, c); err == nil {
		err = releaseErr
	}
	return dropped, err
}

func (s *Service) unfinished(o Organization) Finding {
	return s.since(Finding{
		Kind: UnfinishedOperation, OrganizationID: o.ID, Subject: string(o.Operation.Kind), org: o,
	}, o.Operation.TouchedAt)
}

func (s *Service) since(f Finding, t time.Time) Finding {
	f.Since, f.Age = t, s.now().Sub(t).Round(time.Second).String()
	return f
}

// Inspect compares everything in the database with everything else and
// returns what does not fit, changing nothing. While others change the
// database it may find what is merely under way.
func (s *Service) Inspect(ctx context.Context) ([]Finding, error) {
	claims, err := s.Store.Claims(ctx)
	if err != nil {
		return nil, err
	}
	admins, err := s.Store.Admins(ctx)
	if err != nil {
		return nil, err
	}
	organizations, err := s.Store.Organizations(ctx)
	if err != nil {
		return nil, err
	}
	var findings []Finding
	byID := map[string]*Organization{}
	databases := map[string]bool{s.Database: true}
	for i := range organizations {
		o := &organizations[i]
		byID[o.ID] = o
		databases[o.Database] = true
		if o.Operation != nil {
			findings = append(findings, s.unfinished(*o))
		}
	}
	owner := map[string]string{}
	for _, c := range claims {
		owner[c.ID] = c.OrganizationID
		if o := byID[c.OrganizationID]; o == nil || !o.uses(c.ID) {
			findings = append(findings, s.since(Finding{
				Kind: UnusedClaim, OrganizationID: c.OrganizationID, Subject: claimSubject(c.ID), claim: c,
			}, c.ClaimedAt))
		}
	}
	adminOf := map[string]string{}
	for _, a := range admins {
		adminOf[a.ID] = a.OrganizationID
		if o := byID[a.OrganizationID]; o == nil || o.member(a.ID) == nil {
			findings = append(findings, s.since(Finding{
				Kind: OrphanAdmin, OrganizationID: a.OrganizationID, Subject: a.ID, admin: a,
			}, a.UpdatedAt))
		}
	}
	collections := map[string]map[string]bool{}
	for database := range databases {
		names, err := s.Store.Collections(ctx, database)
		if err != nil {
			return nil, err
		}
		collections[database] = map[string]bool{}
		for _, name := range names {
			collections[database][name] = true
		}
	}
	expected := map[string]bool{}
	for _, o := range organizations {
		expected[o.Database+"."+o.Collection] = true
		if o.Operation != nil {
			expected[o.Database+"."+o.Operation.Collection] = true
			continue // what it lacks or has too much may be under way
		}
		if !collections[o.Database][o.Collection] {
			findings = append(findings, Finding{Kind: MissingCollection, OrganizationID: o.ID, Subject: o.Collection})
		}
		for _, id := range o.Claims {
			if owner[id] != o.ID {
				findings = append(findings, Finding{Kind: MissingClaim, OrganizationID: o.ID, Subject: claimSubject(id)})
			}
		}
		for _, m := range o.Admins {
			if adminOf[m.AdminID] != o.ID {
				findings = append(findings, Finding{Kind: MissingAdmin, OrganizationID: o.ID, Subject: m.AdminID})
			}
		}
	}
	for _, database := range slices.Sorted(maps.Keys(collections)) {
		for _, name := range slices.Sorted(maps.Keys(collections[database])) {
			if !expected[database+"."+name] {
				findings = append(findings, Finding{Kind: OrphanCollection, Subject: database + "." + name})
			}
		}
	}
	indexes, err := s.Store.MissingIndexes(ctx)
	for _, name := range indexes {
		findings = append(findings, Finding{Kind: MissingIndex, Subject: name})
	}
	return findings, err
}

// claimSubject names a claim in a report, which is no place for addresses.
func claimSubject(id string) string {
	if strings.HasPrefix(id, emailClaimPrefix) {
		return "email"
	}
	return id
}
