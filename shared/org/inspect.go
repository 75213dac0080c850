package org

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strings"
	"time"
)

// FindingKind is a sort of inconsistency.
type FindingKind string

// The kinds of findings.
const (
	UnfinishedOperation FindingKind = "unfinished operation"
	UnusedClaim         FindingKind = "unused claim"
	OrphanAdmin         FindingKind = "admin without organization"
	MissingClaim        FindingKind = "organization without claim"
	MissingAdmin        FindingKind = "organization without admin"
	MissingCollection   FindingKind = "organization without collection"
	UnknownCollection   FindingKind = "collection with another UUID than recorded"
	MisnamedCollection  FindingKind = "collection with another name than recorded"
	OrphanCollection    FindingKind = "collection without organization"
	MissingIndex        FindingKind = "missing index"
)

// Finding is one inconsistency in the database.
type Finding struct {
	Kind           FindingKind `json:"kind"`
	OrganizationID string      `json:"organization_id,omitempty"`
	Subject        string      `json:"subject"`         // the claim, admin, collection, index or kind of operation; of a claim to an email, its kind alone
	Since          time.Time   `json:"since,omitzero"`  // when it was last touched
	Age            string      `json:"age,omitempty"`   // how long ago that is
	Error          string      `json:"error,omitempty"` // why it could not be repaired

	org        Organization
	claim      Claim
	admin      Admin
	database   string
	collection Collection
}

// same reports whether two looks at the database have found one thing.
func (f Finding) same(g Finding) bool {
	return f.Kind == g.Kind && f.OrganizationID == g.OrganizationID && f.Subject == g.Subject &&
		f.org.Revision == g.org.Revision && f.collection == g.collection && f.claim == g.claim
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
	findings, err := s.inspect(ctx)
	if err != nil {
		return nil, err
	}
	indexes, err := s.Store.MissingIndexes(ctx)
	for _, name := range indexes {
		findings = append(findings, Finding{Kind: MissingIndex, Subject: name})
	}
	return findings, err
}

// inspect does the same but for indexes. It reads records before collections:
// the record of an organization is made before its collection has a name.
func (s *Service) inspect(ctx context.Context) ([]Finding, error) {
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
	byID := map[string]*Organization{}
	collections := map[string][]Collection{s.Database: nil} // by database
	var findings []Finding
	for i := range organizations {
		o := &organizations[i]
		byID[o.ID] = o
		collections[o.Database] = nil
		if o.Operation != nil {
			findings = append(findings, s.unfinished(*o))
		}
	}
	for database := range collections {
		if collections[database], err = s.Store.Collections(ctx, database); err != nil {
			return nil, err
		}
	}
	findings = append(findings, s.inspectClaims(claims, byID)...)
	findings = append(findings, s.inspectAdmins(admins, byID)...)
	return append(findings, inspectCollections(organizations, collections)...), nil
}

func (s *Service) inspectClaims(claims []Claim, organizations map[string]*Organization) (findings []Finding) {
	owner := map[string]string{}
	for _, c := range claims {
		owner[c.ID] = c.OrganizationID
		since := c.ClaimedAt
		if !c.RestingSince.IsZero() {
			if since = c.RestingSince; !s.stale(since) {
				continue // as it should
			}
		}
		if o := organizations[c.OrganizationID]; o == nil || !o.uses(c.ID) {
			findings = append(findings, s.since(Finding{
				Kind: UnusedClaim, OrganizationID: c.OrganizationID, Subject: claimSubject(c.ID), claim: c,
			}, since))
		}
	}
	for _, o := range organizations {
		if o.Operation != nil {
			continue // what it lacks may be under way
		}
		for _, id := range o.Claims {
			if owner[id] != o.ID {
				findings = append(findings, Finding{Kind: MissingClaim, OrganizationID: o.ID, Subject: claimSubject(id)})
			}
		}
	}
	return findings
}

func (s *Service) inspectAdmins(admins []Admin, organizations map[string]*Organization) (findings []Finding) {
	employer := map[string]string{}
	for _, a := range admins {
		employer[a.ID] = a.OrganizationID
		if o := organizations[a.OrganizationID]; o == nil || o.member(a.ID) == nil {
			findings = append(findings, s.since(Finding{
				Kind: OrphanAdmin, OrganizationID: a.OrganizationID, Subject: a.ID, admin: a,
			}, a.UpdatedAt))
		}
	}
	for _, o := range organizations {
		for _, m := range o.Admins {
			if o.Operation == nil && employer[m.AdminID] != o.ID {
				findings = append(findings, Finding{Kind: MissingAdmin, OrganizationID: o.ID, Subject: m.AdminID})
			}
		}
	}
	return findings
}

func inspectCollections(organizations []Organization, collections map[string][]Collection) (findings []Finding) {
	owned := map[string]map[Collection]bool{}
	for database := range collections {
		owned[database] = map[Collection]bool{}
	}
	for _, o := range organizations {
		var byName, byUUID Collection
		for _, c := range collections[o.Database] {
			switch {
			case c.UUID != "" && c.UUID == o.CollectionUUID:
				byUUID = c
			case c.Name == o.Collection:
				byName = c
			case o.Operation != nil && (c.Name == temporaryName(o.Operation) || c.Name == o.Operation.Collection):
				owned[o.Database][c] = true
			}
		}
		finding := Finding{OrganizationID: o.ID, Subject: o.Collection, org: o, database: o.Database}
		switch mine := cmp.Or(byUUID, byName); {
		case o.Operation != nil:
			owned[o.Database][byName], owned[o.Database][byUUID] = true, true
			continue // what it lacks or has too much may be under way
		case mine == Collection{}:
			finding.Kind = MissingCollection
		case mine.Name != o.Collection:
			finding.Kind = MisnamedCollection
		case mine.UUID != o.CollectionUUID:
			finding.Kind = UnknownCollection
		}
		finding.collection = cmp.Or(byUUID, byName)
		owned[o.Database][finding.collection] = true
		if finding.Kind != "" {
			findings = append(findings, finding)
		}
	}
	for _, database := range slices.Sorted(maps.Keys(collections)) {
		for _, c := range collections[database] {
			if !owned[database][c] {
				findings = append(findings, Finding{
					Kind: OrphanCollection, Subject: database + "." + c.Name, database: database, collection: c,
				})
			}
		}
	}
	return findings
}

// claimSubject names a claim in a report, which is no place for addresses.
func claimSubject(id string) string {
	if strings.HasPrefix(id, emailClaimPrefix) {
		return "email"
	}
	return id
}
