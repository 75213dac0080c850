package org

import (
	"cmp"
	"context"
	"encoding/json"
	"maps"
	"slices"
	"time"
)

// FindingKind says what is inconsistent.
type FindingKind string

// The kinds of findings.
const (
	UnfinishedOperation FindingKind = "unfinished operation"
	UnusedClaim         FindingKind = "unused claim"
	OrphanAdmin         FindingKind = "admin without organization"
	StrayMembership     FindingKind = "admin of an organization that does not list it"
	MissingClaim        FindingKind = "organization without claim"
	MissingAdmin        FindingKind = "organization without admin"
	MissingCollection   FindingKind = "organization without collection"
	UnknownCollection   FindingKind = "collection with another UUID than recorded"
	MisnamedCollection  FindingKind = "collection with another name than recorded"
	OrphanCollection    FindingKind = "collection without organization"
	MissingIndex        FindingKind = "missing index"
	ExpiredDeletion     FindingKind = "deletion whose grace is over"
)

// Finding is one inconsistency in the database.
type Finding struct {
	Kind           FindingKind `json:"kind"`
	OrganizationID string      `json:"organization_id,omitempty"`
	Subject        string      `json:"subject"`         // the claim, admin, collection, index or kind of operation; of a claim to an email not the email
	Since          time.Time   `json:"since,omitzero"`  // when it was last touched
	Age            string      `json:"age,omitempty"`   // how long ago that is
	Error          string      `json:"error,omitempty"` // why it could not be repaired

	org        Organization
	claim      Claim
	admin      Admin
	database   string
	collection Collection
}

// String returns what the finding says in JSON, without the records that it holds: they have
// emails and the hashes of passwords.
func (f Finding) String() string {
	text, err := json.Marshal(f)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// GoString returns the same, for the verb %#v.
func (f Finding) GoString() string { return f.String() }

// same reports whether two inspections have found the same inconsistency,
// unchanged.
func (f Finding) same(g Finding) bool {
	return f.Kind == g.Kind && f.OrganizationID == g.OrganizationID && f.Subject == g.Subject &&
		f.org.Revision == g.org.Revision && f.collection == g.collection && f.claim == g.claim && f.admin.Revision == g.admin.Revision
}

// unfinished returns the finding of an operation that is not finished.
func (s *Service) unfinished(o Organization) Finding {
	return s.withAge(Finding{
		Kind: UnfinishedOperation, OrganizationID: o.ID, Subject: string(o.Operation.Kind), org: o,
	}, o.Operation.TouchedAt)
}

// withAge returns the finding with the time at which its subject was last
// touched.
func (s *Service) withAge(f Finding, t time.Time) Finding {
	f.Since, f.Age = t, s.now().Sub(t).Round(time.Second).String()
	return f
}

// Inspect compares all records, claims, admins, collections and indexes and
// returns the inconsistencies. It changes nothing. While others change the
// database, it may report what is only under way.
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

// inspect is Inspect without the indexes. It reads records before collections,
// because an organization's record is made before its collection gets its name.
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
	people := map[string]*Admin{}
	for i := range admins {
		people[admins[i].ID] = &admins[i]
	}
	findings = append(findings, s.inspectClaims(claims, byID, people)...)
	findings = append(findings, s.inspectAdmins(people, byID)...)
	return append(findings, inspectCollections(organizations, collections)...), nil
}

func (s *Service) inspectClaims(claims []Claim, organizations map[string]*Organization, admins map[string]*Admin) (findings []Finding) {
	owner := map[string]Owner{}
	for _, c := range claims {
		owner[c.ID] = c.Owner
		since := c.ClaimedAt
		if !c.RestingSince.IsZero() {
			if since = c.RestingSince; !s.stale(since) {
				continue // as intended
			}
		}
		used := false
		if a := admins[c.AdminID]; a != nil {
			used = a.uses(c.ID)
		} else if o := organizations[c.OrganizationID]; o != nil {
			used = o.uses(c.ID)
		}
		if !used {
			findings = append(findings, s.withAge(Finding{
				Kind: UnusedClaim, OrganizationID: c.OrganizationID, Subject: claimSubject(c), claim: c,
			}, since))
		}
	}
	for _, o := range organizations {
		if o.Operation != nil {
			continue // the rest may be under way
		}
		for _, id := range o.Claims {
			// An older version may have left emails on the record that are the admins'.
			if owner[id].OrganizationID != o.ID && !isEmailClaim(id) {
				findings = append(findings, Finding{Kind: MissingClaim, OrganizationID: o.ID, Subject: claimSubject(Claim{ID: id})})
			}
		}
		for _, m := range o.Admins {
			a := admins[m.AdminID]
			if a == nil || a.Asleep && !o.lives() {
				continue // reported elsewhere, or as intended
			}
			c := Claim{ID: emailClaim(a.Email), Owner: a.owner()}
			if owner[c.ID] != c.Owner && !(owner[c.ID].OrganizationID == o.ID && o.uses(c.ID)) {
				findings = append(findings, Finding{Kind: MissingClaim, OrganizationID: o.ID, Subject: claimSubject(c)})
			}
		}
	}
	return findings
}

func (s *Service) inspectAdmins(admins map[string]*Admin, organizations map[string]*Organization) (findings []Finding) {
	for _, id := range slices.Sorted(maps.Keys(admins)) {
		a := admins[id]
		listed := false
		var strays []Finding
		for _, organizationID := range a.Organizations {
			if o := organizations[organizationID]; o != nil && o.member(a.ID) != nil {
				listed = listed || a.Asleep || o.lives() || o.Operation != nil
				continue
			}
			strays = append(strays, s.withAge(Finding{
				Kind: StrayMembership, OrganizationID: organizationID, Subject: a.ID, admin: *a,
			}, a.UpdatedAt))
		}
		if !listed {
			strays = []Finding{s.withAge(Finding{
				Kind: OrphanAdmin, OrganizationID: a.OrganizationID, Subject: a.ID, admin: *a,
			}, a.UpdatedAt)}
		}
		findings = append(findings, strays...)
	}
	for _, o := range organizations {
		for _, m := range o.Admins {
			if a := admins[m.AdminID]; o.Operation == nil && (a == nil || !slices.Contains(a.Organizations, o.ID)) {
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
			continue // any difference may be under way
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

// claimSubject returns the name of a claim for a report, which must not hold
// email addresses.
func claimSubject(c Claim) string {
	switch {
	case c.AdminID != "":
		return "email of " + c.AdminID
	case isEmailClaim(c.ID):
		return "email"
	}
	return c.ID
}
