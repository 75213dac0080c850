package org_test

import (
	"maps"
	"slices"
	"strings"
	"time"

	"orgservice/shared/org"
)

// state is the state of one node of the simulated database. Its methods are the
// commands that the store of package mongodb sends. Each is atomic.
type state struct {
	organizations map[string]org.Organization
	admins        map[string]org.Admin
	claims        map[string]org.Claim
	sessions      map[string]org.Session
	tickets       map[string]org.Ticket
	ticketOrder   []string // the ids of tickets, as they were inserted
	counts        map[string]org.Count
	known         map[string]time.Time
	migrations    map[int]org.Migration
	receipts      map[string]org.Receipt
	keys          map[string]org.IdempotencyKey
	catalog

	// stopAfterFirst makes a command that changes several documents stop after
	// the first.
	stopAfterFirst bool
	// onWrite is called after every write and deletion of an organization's
	// record. It is nil for a node whose writes are not durable.
	onWrite func(before, after org.Organization)
	// onAdminWrite is the same for the record of an admin.
	onAdminWrite func(before, after org.Admin)
}

func newState() *state {
	return &state{
		organizations: map[string]org.Organization{}, admins: map[string]org.Admin{}, claims: map[string]org.Claim{},
		migrations: map[int]org.Migration{}, receipts: map[string]org.Receipt{}, keys: map[string]org.IdempotencyKey{}, sessions: map[string]org.Session{}, tickets: map[string]org.Ticket{}, counts: map[string]org.Count{}, known: map[string]time.Time{}, catalog: newCatalog(),
	}
}

// clone returns a copy that shares nothing that is changed in place.
func (s *state) clone() *state {
	c := *s
	c.organizations, c.admins, c.claims = maps.Clone(s.organizations), maps.Clone(s.admins), maps.Clone(s.claims)
	c.sessions, c.counts, c.known, c.tickets = maps.Clone(s.sessions), maps.Clone(s.counts), maps.Clone(s.known), maps.Clone(s.tickets)
	c.ticketOrder, c.migrations, c.receipts = slices.Clone(s.ticketOrder), maps.Clone(s.migrations), maps.Clone(s.receipts)
	c.keys = maps.Clone(s.keys)
	c.catalog, c.onWrite, c.onAdminWrite = s.catalog.clone(), nil, nil
	return &c
}

// copyOf returns a copy of an organization that shares nothing with it.
func copyOf(o org.Organization) org.Organization {
	o.Admins, o.Claims, o.Invitations, o.History = slices.Clone(o.Admins), slices.Clone(o.Claims), slices.Clone(o.Invitations), slices.Clone(o.History)
	if o.Deletion != nil {
		o.Deletion = new(*o.Deletion)
	}
	if o.Operation != nil {
		op := *o.Operation
		op.Claims = slices.Clone(op.Claims)
		o.Operation = &op
	}
	return o
}

func notFound(what string) error { return &org.Error{Kind: org.NotFound, Message: what + " not found"} }
func conflict(what string) error { return &org.Error{Kind: org.Conflict, Message: what + " exists"} }

// inOrder returns the values in the order of their keys.
func inOrder[T any](m map[string]T) []T {
	values := make([]T, 0, len(m))
	for _, k := range slices.Sorted(maps.Keys(m)) {
		values = append(values, m[k])
	}
	return values
}

func (s *state) insertClaims(claims []org.Claim) (taken string, err error) {
	for i, c := range claims {
		if s.stopAfterFirst && i == 1 {
			break
		}
		if _, exists := s.claims[c.ID]; exists {
			return c.ID, nil
		}
		s.claims[c.ID] = c
	}
	return "", nil
}

func (s *state) claim(id string) (org.Claim, error) {
	c, ok := s.claims[id]
	if !ok {
		return c, notFound("claim")
	}
	return c, nil
}

// sameClaim reports whether the stored claim is the one that was seen.
func (s *state) sameClaim(seen org.Claim) bool {
	c, ok := s.claims[seen.ID]
	return ok && c.Owner == seen.Owner && c.Revision == seen.Revision && c.RestingSince.Equal(seen.RestingSince)
}

func (s *state) replaceClaim(seen, next org.Claim) (bool, error) {
	if !s.sameClaim(seen) {
		return false, nil
	}
	s.claims[next.ID] = next
	return true, nil
}

func (s *state) deleteClaim(seen org.Claim) error {
	if s.sameClaim(seen) {
		delete(s.claims, seen.ID)
	}
	return nil
}

func (s *state) releaseClaims(owner org.Owner, below int64, keep []string) error {
	return s.eachClaim(owner, below, keep, func(c org.Claim) {
		if c.RestingSince.IsZero() {
			delete(s.claims, c.ID)
		}
	})
}

func (s *state) restClaims(organizationID string, below int64, keep []string, since time.Time) error {
	return s.eachClaim(org.Owner{OrganizationID: organizationID}, below, keep, func(c org.Claim) {
		if c.RestingSince.IsZero() {
			c.RestingSince = since
			s.claims[c.ID] = c
		}
	})
}

// anyClaimRests reports whether a claim rests. Then a later Reconcile must
// delete it.
func (s *state) anyClaimRests() bool {
	for _, c := range s.claims {
		if !c.RestingSince.IsZero() {
			return true
		}
	}
	return false
}

// claimsOf returns the ids of the claims of the organization and of its admins.
func (s *state) claimsOf(o org.Organization) (ids []string) {
	for _, c := range inOrder(s.claims) {
		if c.OrganizationID == o.ID || slices.ContainsFunc(o.Admins, func(m org.Member) bool { return m.AdminID == c.AdminID }) {
			ids = append(ids, c.ID)
		}
	}
	return ids
}

// eachClaim calls change for the claims that the owner made below the revision,
// except those in keep.
func (s *state) eachClaim(owner org.Owner, below int64, keep []string, change func(org.Claim)) error {
	for _, c := range inOrder(s.claims) {
		if c.Owner == owner && c.Revision < below && !slices.Contains(keep, c.ID) {
			change(c)
			if s.stopAfterFirst {
				break
			}
		}
	}
	return nil
}

func (s *state) write(o org.Organization) {
	before := s.organizations[o.ID]
	s.organizations[o.ID] = copyOf(o)
	if s.onWrite != nil {
		s.onWrite(before, o)
	}
}

func (s *state) insertOrganization(o org.Organization) error {
	if _, exists := s.organizations[o.ID]; exists {
		return conflict("organization")
	}
	s.write(o)
	return nil
}

// findOrganization returns the first organization that matches.
func (s *state) findOrganization(match func(org.Organization) bool) (org.Organization, error) {
	for _, o := range inOrder(s.organizations) {
		if match(o) {
			return copyOf(o), nil
		}
	}
	return org.Organization{}, notFound("organization")
}

func (s *state) findOrganizations(match func(org.Organization) bool) (all []org.Organization, err error) {
	for _, o := range inOrder(s.organizations) {
		if match(o) {
			all = append(all, copyOf(o))
		}
	}
	return all, nil
}

func (s *state) organizationsAfter(after, prefix string, status org.Status, limit int) []org.Organization {
	all, _ := s.findOrganizations(func(o org.Organization) bool {
		named := strings.HasPrefix(o.Collection, prefix) || o.Deletion != nil && strings.HasPrefix(o.Deletion.Collection, prefix)
		return o.ID > after && named && (status == "" || o.Status == status)
	})
	return all[:min(len(all), limit)]
}

func (s *state) replaceOrganization(seen, next org.Organization) (bool, error) {
	if stored, ok := s.organizations[next.ID]; !ok || stored.Revision != seen.Revision || stored.Status != seen.Status {
		return false, nil
	}
	next.Revision = seen.Revision + 1
	s.write(next)
	return true, nil
}

func (s *state) fenceOrganizations(ids []string) error {
	for _, id := range slices.Sorted(slices.Values(ids)) {
		if o, ok := s.organizations[id]; ok && o.Status != org.Deleting {
			o.Revision++
			s.write(o)
			if s.stopAfterFirst {
				break
			}
		}
	}
	return nil
}

func (s *state) deleteOrganization(id string, revision int64) error {
	o, ok := s.organizations[id]
	if !ok || o.Revision != revision {
		return nil
	}
	delete(s.organizations, id)
	if s.onWrite != nil {
		s.onWrite(o, org.Organization{ID: id})
	}
	return nil
}

func (s *state) insertAdmin(a org.Admin) error {
	if _, exists := s.admins[a.ID]; exists {
		return conflict("admin")
	}
	s.admins[a.ID] = a
	return nil
}

func (s *state) findAdmins(match func(org.Admin) bool) (all []org.Admin) {
	for _, a := range inOrder(s.admins) {
		if match(a) {
			all = append(all, a)
		}
	}
	return all
}

func (s *state) findAdmin(match func(org.Admin) bool) (org.Admin, error) {
	if all := s.findAdmins(match); len(all) > 0 {
		return all[0], nil
	}
	return org.Admin{}, notFound("admin")
}

func (s *state) replaceAdmin(seen, next org.Admin) (bool, error) {
	stored, ok := s.admins[next.ID]
	if !ok || stored.Revision != seen.Revision {
		return false, nil
	}
	next.Revision, next.Outdated = seen.Revision+1, false
	s.admins[next.ID] = next
	if s.onAdminWrite != nil {
		s.onAdminWrite(stored, next)
	}
	return true, nil
}

func (s *state) rehashPassword(adminID, old, hash string) error {
	if a, ok := s.admins[adminID]; ok && a.PasswordHash == old {
		a.PasswordHash = hash
		s.admins[adminID] = a
	}
	return nil
}

func (s *state) deleteAdmin(id string, revision int64) error {
	if s.admins[id].Revision == revision {
		delete(s.admins, id)
	}
	return nil
}

func (s *state) deleteAdmins(ids []string, organizationID string) error {
	for _, id := range slices.Sorted(slices.Values(ids)) {
		a, ok := s.admins[id]
		if !ok || slices.ContainsFunc(a.Organizations, func(id string) bool { return id != organizationID }) {
			continue
		}
		delete(s.admins, id)
		if s.stopAfterFirst {
			break
		}
	}
	return nil
}

func (s *state) leaveOrganization(ids []string, organizationID string) error {
	for _, id := range slices.Sorted(slices.Values(ids)) {
		a, ok := s.admins[id]
		if !ok {
			continue
		}
		a.Revision++
		a.Organizations = slices.DeleteFunc(slices.Clone(a.Organizations), func(id string) bool { return id == organizationID })
		s.admins[id] = a
		if s.stopAfterFirst {
			break
		}
	}
	return nil
}

func (s *state) useOrganization(adminID, organizationID string) error {
	if a, ok := s.admins[adminID]; ok {
		a.OrganizationID = organizationID
		s.admins[adminID] = a
	}
	return nil
}

func (s *state) session(id string) (org.Session, error) {
	session, ok := s.sessions[id]
	if !ok {
		return session, notFound("session")
	}
	return session, nil
}

func (s *state) rotateSession(id, old, hash string, used time.Time) (bool, error) {
	session, ok := s.sessions[id]
	if !ok || session.RefreshHash != old {
		return false, nil
	}
	session.RefreshHash, session.UsedAt = hash, used
	s.sessions[id] = session
	return true, nil
}

func (s *state) deleteSessions(match func(org.Session) bool) error {
	maps.DeleteFunc(s.sessions, func(_ string, session org.Session) bool { return match(session) })
	return nil
}

func (s *state) deleteSessionsSince(organizationID, act string) error {
	return s.deleteSessions(func(session org.Session) bool {
		return session.OrganizationID == organizationID && session.LastAct == act
	})
}

func (s *state) deleteSessionsOf(adminID, organizationID string) error {
	return s.deleteSessions(func(session org.Session) bool {
		return session.OrganizationID == organizationID && session.AdminID == adminID
	})
}

func (s *state) ticket(id string) (org.Ticket, error) {
	t, ok := s.tickets[id]
	if !ok {
		return t, notFound("ticket")
	}
	return t, nil
}

// insertTicket keeps the order, because the ids of tickets are random.
func (s *state) insertTicket(t org.Ticket) error {
	s.tickets[t.ID] = t
	s.ticketOrder = append(slices.DeleteFunc(s.ticketOrder, func(id string) bool { return id == t.ID }), t.ID)
	return nil
}

// unmailedTickets returns them in the order in which they were inserted.
func (s *state) unmailedTickets(before time.Time) (unmailed []org.Ticket) {
	for _, id := range s.ticketOrder {
		if t, ok := s.tickets[id]; ok && !t.Mailed && !t.CreatedAt.After(before) {
			unmailed = append(unmailed, t)
		}
	}
	return unmailed
}

func (s *state) replaceTicket(seen, next org.Ticket) (bool, error) {
	if t, ok := s.tickets[seen.ID]; !ok || !slices.Equal(t.Hashes, seen.Hashes) {
		return false, nil
	}
	s.tickets[next.ID] = next
	return true, nil
}

func (s *state) deleteTickets(match func(org.Ticket) bool) error {
	maps.DeleteFunc(s.tickets, func(_ string, t org.Ticket) bool { return match(t) })
	return nil
}

func (s *state) insertReceipt(r org.Receipt) error {
	if _, exists := s.receipts[r.ID]; !exists {
		s.receipts[r.ID] = r
	}
	return nil
}

func (s *state) receipt(id string) (org.Receipt, error) {
	r, ok := s.receipts[id]
	if !ok {
		return r, notFound("receipt")
	}
	return r, nil
}

func (s *state) insertKey(k org.IdempotencyKey) bool {
	if _, exists := s.keys[k.ID]; exists {
		return false
	}
	s.keys[k.ID] = k
	return true
}

func (s *state) key(id string) (org.IdempotencyKey, error) {
	k, ok := s.keys[id]
	if !ok {
		return k, notFound("key")
	}
	return k, nil
}

// sameKey reports whether the stored key is the one that was seen.
func (s *state) sameKey(seen org.IdempotencyKey) bool {
	k, ok := s.keys[seen.ID]
	latest := seen.Tries[len(seen.Tries)-1].Change
	return ok && k.ClaimedAt.Equal(seen.ClaimedAt) && k.ExpiresAt.Equal(seen.ExpiresAt) && len(k.Tries) == len(seen.Tries) &&
		slices.ContainsFunc(k.Tries, func(t org.Try) bool { return t.Change == latest }) && (k.Outcome.At.IsZero() || !seen.Outcome.At.IsZero())
}

func (s *state) replaceKey(seen, next org.IdempotencyKey) bool {
	if !s.sameKey(seen) {
		return false
	}
	s.keys[next.ID] = next
	return true
}

func (s *state) finishKey(id, change string, outcome org.Outcome) error {
	k := s.keys[id]
	if (k.Outcome.At.IsZero() || len(outcome.Answer) > 0 && len(k.Outcome.Answer) == 0) && slices.ContainsFunc(k.Tries, func(t org.Try) bool { return t.Change == change }) {
		k.Outcome = outcome
		s.keys[id] = k
	}
	return nil
}

func (s *state) deleteKey(seen org.IdempotencyKey) error {
	if s.sameKey(seen) {
		delete(s.keys, seen.ID)
	}
	return nil
}

// countEvent adds n to the count of the event. States share the counts, so it makes a
// new one.
func (s *state) countEvent(e org.Event, n int64) org.Count {
	c := org.Count{}
	for part, n := range s.counts[e.Key] {
		if part >= e.Oldest {
			c[part] = n
		}
	}
	c[e.Part] += n
	s.counts[e.Key] = c
	return c
}

func total(c org.Count) (n int64) {
	for _, in := range c {
		n += in
	}
	return n
}

// organizationText returns the text of a record for the trace.
func organizationText(o org.Organization) string {
	var b strings.Builder
	b.WriteString(o.ID + " " + string(o.Status) + " " + o.Name + " in " + o.Collection)
	if op := o.Operation; op != nil {
		b.WriteString(" +" + string(op.Kind) + " " + op.ID)
		if op.Collection != "" {
			b.WriteString(" to " + op.Name + " in " + op.Collection)
		}
	}
	return b.String()
}
