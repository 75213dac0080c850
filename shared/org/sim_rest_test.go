package org_test

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"orgservice/shared/org"
)

// schedule runs the schedule from an empty database to the last check. It ends
// after the first stage that has problems.
func (s *sim) schedule() {
	budget := s.budget
	s.budget = 0
	for i := range s.rng.IntN(4) {
		if err := s.runAlone(s.createOp(simSlugs[i], simEmails[i])); err != nil {
			s.addProblem("liveness", "create: %v", err)
		}
	}
	for i, o := range inOrder(s.durable.organizations) {
		if s.rng.IntN(3) == 0 {
			s.addMate(o, fmt.Sprintf("mate%d@x.test", i))
		}
	}
	if s.rng.Float64() < s.upgraded {
		// Without UUIDs, a person must decide which of two collections is whose.
		active, begun := s.active(), false
		if begun = len(active) > 0 && s.rng.IntN(2) == 0; begun {
			s.crashSomewhere(s.randomUpdateOp(oneOf(s, active)))
		}
		s.downgradeTo(!begun && s.rng.IntN(2) == 0)
	}
	if s.rng.Float64() < s.restored {
		s.changeUUIDs()
	}
	s.budget = budget
	s.chaos()
	s.budget = 0
	for _, stage := range []func(){s.drainAndRepair, s.checkSuspended, s.checkInvariants, s.checkKeys, s.checkInvariants, s.checkRestorable, s.checkInvariants, s.checkLogins, s.checkUsable, s.checkInvariants} {
		stage()
		if len(s.problems) > 0 {
			return
		}
	}
}

// addMate adds a second admin to the organization.
func (s *sim) addMate(o org.Organization, email string) {
	o, now := copyOf(o), time.Now()
	a := org.Admin{ID: "mate of " + o.ID, OrganizationID: o.ID, Organizations: []string{o.ID}, Email: email, PasswordHash: "hash of mate", TokenVersion: 1, Revision: 1, CreatedAt: now, UpdatedAt: now}
	s.durable.admins[a.ID] = a
	s.durable.claims["email:"+email] = org.Claim{ID: "email:" + email, Owner: org.Owner{AdminID: a.ID}, ClaimedAt: now}
	o.Admins = append(o.Admins, org.Member{AdminID: a.ID, Role: org.RoleAdmin, Since: now})
	s.durable.organizations[o.ID] = o
	s.people[a.ID] = &personModel{adminID: a.ID, email: email, password: "mate", inserted: true}
	s.models[o.ID].mate = s.people[a.ID]
}

// crashSomewhere runs the operation alone until its process crashes before a random
// call, or until its end.
func (s *sim) crashSomewhere(op *operation) {
	op.process = &process{}
	s.start(op)
	for n := s.rng.IntN(20); !op.ended; n-- {
		s.settle()
		s.step++
		if n <= 0 {
			s.kill(op)
			s.settle()
			return
		}
		s.resolve(s.pending[s.rng.IntN(len(s.pending))])
	}
}

// drainAndRepair delivers the late commands, or loses them, and runs Reconcile
// until there is nothing to repair.
func (s *sim) drainAndRepair() {
	s.oldPrimary = nil
	for len(s.inFlight) > 0 {
		i := s.rng.IntN(len(s.inFlight))
		l := s.inFlight[i]
		if s.rng.IntN(3) == 0 {
			s.sleep(2 * org.StaleAfter)
			s.runAlone(s.reconcileOp(true))
		}
		if s.rng.IntN(8) == 0 {
			s.tracef("%v %v is never executed", l.op, l.call)
			s.inFlight = slices.Delete(s.inFlight, i, i+1)
			continue
		}
		if wait := time.Until(l.due); wait > 0 {
			s.sleep(wait)
		}
		s.deliver(i)
	}
	for range 6 {
		s.sleep(2*org.StaleAfter + 2*maxClockError)
		op := s.reconcileOp(true)
		if err := s.runAlone(op); err != nil {
			s.addProblem("reconcile fails", "%v", err)
			return
		}
		if !s.decide() && strings.HasPrefix(op.args, "0 ") && !s.durable.anyClaimRests() {
			s.checkMigrated()
			return
		}
	}
	s.addProblem("reconcile does not end", "the last of 6 runs still repaired something")
}

// decide does what a person does whom Reconcile has told that both names of an update have
// documents, and that no collection has the UUID on the record, because the database was
// restored: it removes the stray collection. It reports whether there was one.
func (s *sim) decide() (decided bool) {
	for _, o := range inOrder(s.durable.organizations) {
		if o.Status != org.Active && o.Status != org.Suspended || o.Operation == nil || o.Operation.Kind != org.Updating || o.Operation.Collection == o.Collection || s.durable.hasUUID(o.CollectionUUID) {
			continue
		}
		names := []string{o.Collection, o.Operation.Collection}
		if slices.ContainsFunc(names, func(name string) bool { return len(s.durable.collections[name].docs) == 0 }) {
			continue
		}
		for _, name := range names {
			if s.durable.collections[name].uuid != s.models[o.ID].uuid {
				s.tracef("   a person removes the stray %s of %s", name, o.ID)
				delete(s.durable.collections, name)
				decided = true
			}
		}
	}
	return decided
}

// checkSuspended checks that the organizations that the operator has suspended
// are still suspended, and activates them. Then what they have to mail is mailed.
func (s *sim) checkSuspended() {
	activated := false
	for _, o := range inOrder(s.durable.organizations) {
		if s.models[o.ID].suspended {
			if o.Status != org.Suspended {
				s.addProblem("suspension lost", "%s was suspended by the operator and is %s", o.ID, o.Status)
				continue
			}
			s.toggleSuspension(o.ID)
			activated = true
		}
	}
	if activated {
		s.runAlone(s.reconcileOp(false))
	}
}

// checkInvariants checks the invariants of a database while no operation is
// under way.
func (s *sim) checkInvariants() {
	claims, admins := map[string]bool{}, map[string]bool{}
	keys, emails := map[string]string{}, map[string]string{}
	for _, o := range inOrder(s.durable.organizations) {
		m := s.models[o.ID]
		for _, id := range o.Claims {
			claims[id] = true
		}
		for _, member := range o.Admins {
			admins[member.AdminID] = true
		}
		if o.Status == org.Suspended {
			s.addProblem("suspension not ended", "%s is suspended, but the operator has activated it", o.ID)
			continue
		}
		if o.Status == org.Deleted && o.Operation == nil {
			s.checkDeleted(o, m, claims)
			continue
		}
		if o.Status != org.Active || o.Operation != nil {
			s.addProblem("unfinished", "%s", organizationText(o))
			continue
		}
		if o.Name != m.name || o.Collection != org.CollectionPrefix+m.slug {
			s.addProblem("wrong state", "%s; want %s", organizationText(o), m.name)
		}
		if other := keys[slugOf(o)]; other != "" {
			s.addProblem("shared name", "%s and %s are both %s", other, o.ID, slugOf(o))
		}
		keys[slugOf(o)] = o.ID
		owner := firstOwner(o)
		if other := emails[m.email]; other != "" && other != owner {
			s.addProblem("shared email", "%s and %s both have %s", other, owner, m.email)
		}
		emails[m.email] = owner
		s.checkAdmin(o, m)
		// An older version may have given the email to the organization.
		email := "email:" + m.email
		name, byEmail := s.durable.claims[o.Collection], s.durable.claims[email]
		adopted := byEmail.AdminID == owner
		s.checkMate(o, m, emails)
		s.checkMembers(o, claims)
		s.checkMails(o)
		s.checkLinks(o)
		if name.OrganizationID != o.ID || !adopted && byEmail.OrganizationID != o.ID {
			s.addProblem("claim missing", "%s does not have %s and %s", o.ID, o.Collection, email)
		}
		left := slices.DeleteFunc(slices.Clone(o.Claims), func(id string) bool {
			return id == email || m.mate != nil && id == "email:"+m.mate.email
		})
		if m.mate != nil {
			claims["email:"+m.mate.email] = true
		}
		if !slices.Equal(left, []string{o.Collection}) || !adopted && !slices.Contains(o.Claims, email) {
			s.addProblem("claim missing", "%s records %v", o.ID, o.Claims)
		}
		claims[email] = true
		if !s.needsPerson(o, m) {
			s.checkCollection(o, m)
		}
	}
	s.checkConfirmations()
	for _, op := range s.ops {
		// All or nothing.
		o, exists := s.durable.organizations[op.organization]
		if exists && o.Operation == nil && op.adminChanged && !op.committed {
			s.addProblem("changed in part", "op%d has changed the admin of %s, but not its name", op.n, op.organization)
		}
	}
	for _, m := range inOrder(s.models) {
		_, exists := s.durable.organizations[m.id]
		if !exists && m.wasActive && !m.deleting {
			s.addProblem("organization lost", "%s", m.id)
		}
	}
	s.checkSleepers()
	for _, c := range inOrder(s.durable.claims) {
		if !claims[c.ID] {
			s.addProblem("unused claim", "%s", claimText(c))
		}
	}
	for _, a := range inOrder(s.durable.admins) {
		if !admins[a.ID] {
			s.addProblem("orphan admin", "%s of %s", a.ID, a.OrganizationID)
		}
		for _, id := range a.Organizations {
			if o, ok := s.durable.organizations[id]; !ok || !slices.ContainsFunc(o.Admins, func(m org.Member) bool { return m.AdminID == a.ID }) {
				s.addProblem("stray membership", "%s of %s", a.ID, id)
			}
		}
	}
	for _, session := range inOrder(s.durable.sessions) {
		// Sessions that the service made may be inserted during the deletion of
		// the organization. They expire.
		if _, exists := s.durable.organizations[session.OrganizationID]; !exists && strings.HasPrefix(session.ID, "s") && len(session.ID) < 6 {
			s.addProblem("orphan session", "%s of %s", session.ID, session.OrganizationID)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(s.durable.collections)) {
		c := s.durable.collections[name]
		// If the server does not compare UUIDs, Reconcile only reports it.
		_, used := keys[strings.TrimPrefix(name, org.CollectionPrefix)]
		_, buried := s.durable.claims[name]
		if !used && !(buried && strings.HasPrefix(name, "org_-deleted-")) && len(c.docs) == 0 && s.durable.comparesUUIDs {
			s.addProblem("orphan collection", "%s", name)
		}
	}
}

// checkAdmin compares the organization's admin with the record and the model.
func (s *sim) checkAdmin(o org.Organization, m *tenantModel) {
	a, ok := s.durable.admins[firstOwner(o)]
	switch {
	case !ok || !slices.Contains(a.Organizations, o.ID):
		s.addProblem("admin missing", "%s", o.ID)
	case a.Email != m.email || a.PasswordHash != "hash of "+m.password:
		s.addProblem("wrong state", "the admin of %s has %s and %s; want %s and %s", o.ID, a.Email, a.PasswordHash, m.email, m.password)
	}
}

// needsPerson reports whether the organization's collection has another name than
// recorded, and a stray with documents has that one. On a server that compares no
// UUIDs, Reconcile can only report it.
func (s *sim) needsPerson(o org.Organization, m *tenantModel) bool {
	stray := s.durable.collections[o.Collection]
	if s.durable.comparesUUIDs || stray.uuid == m.uuid || len(stray.docs) == 0 {
		return false
	}
	for name, c := range s.durable.collections {
		if c.uuid == m.uuid && slices.Contains(m.collectionNames, name) {
			return true
		}
	}
	return false
}

// checkMate compares the organization's second admin with the model.
func (s *sim) checkMate(o org.Organization, m *tenantModel, emails map[string]string) {
	if m.mate == nil {
		return
	}
	if other := emails[m.mate.email]; other != "" && other != m.mate.adminID {
		s.addProblem("shared email", "%s and %s both have %s", other, m.mate.adminID, m.mate.email)
	}
	emails[m.mate.email] = m.mate.adminID
	a, ok := s.durable.admins[m.mate.adminID]
	if !ok || a.Email != m.mate.email || a.PasswordHash != "hash of "+m.mate.password {
		s.addProblem("wrong state", "%s has %s and %s; want %s and %s", a.ID, a.Email, a.PasswordHash, m.mate.email, m.mate.password)
	}
	id := "email:" + m.mate.email
	if c := s.durable.claims[id]; c.AdminID != m.mate.adminID && (c.OrganizationID != o.ID || !slices.Contains(o.Claims, id)) {
		s.addProblem("claim missing", "%s has %s; the record has %v", claimText(c), m.mate.adminID, o.Claims)
	}
}

// checkCollection checks that the organization's collection has no foreign
// documents and has lost none of its own.
func (s *sim) checkCollection(o org.Organization, m *tenantModel) {
	c, ok := s.durable.collections[o.Collection]
	if !ok {
		s.addProblem("collection missing", "%s of %s: %v", o.Collection, o.ID, s.durable.catalog.String())
		return
	}
	stored := map[int]int{}
	for _, d := range c.docs {
		stored[d.id]++
		if c.uuid != m.uuid && d.tenant != o.ID {
			s.addProblem("foreign documents", "%s has %s, which is another collection than before, with document %d of %s", o.ID, o.Collection, d.id, d.tenant)
			break
		}
	}
	for _, id := range m.documents {
		if stored[id] == 0 {
			s.addProblem("documents lost", "%s has lost document %d in %s #%d: %v", o.ID, id, o.Collection, c.uuid, s.durable.catalog.String())
			break
		}
	}
}

// checkLogins checks that every admin can log in with the email and the
// password in the model.
func (s *sim) checkLogins() {
	s.sleep(30 * time.Minute) // so that no login is throttled
	for _, o := range inOrder(s.durable.organizations) {
		m := s.models[o.ID]
		for _, name := range []*string{nil, &o.Name} {
			if err := s.runAlone(s.loginOp(org.LoginRequest{Email: m.email, Password: m.password, OrganizationName: name})); err != nil {
				s.addProblem("login", "%s: %v", o.ID, err)
			}
		}
		s.checkMemberLogins(o)
	}
}

// checkUsable checks that free names and emails can be used, and that every
// organization can be renamed and deleted.
func (s *sim) checkUsable() {
	var slugs, emails []string
	taken := map[string]bool{}
	for _, o := range s.durable.organizations {
		taken[slugOf(o)] = true
	}
	for _, a := range s.durable.admins {
		taken[a.Email] = true
	}
	for _, slug := range simSlugs {
		// The service drops no stray collection that has documents, and none at
		// all if the server does not compare UUIDs.
		c, exists := s.durable.collections[org.CollectionPrefix+slug]
		if !taken[slug] && len(c.docs) == 0 && (!exists || s.durable.comparesUUIDs) {
			slugs = append(slugs, slug)
		}
	}
	for _, email := range simEmails {
		if !taken[email] {
			emails = append(emails, email)
		}
	}
	// The shorter list is filled up with spare values.
	for i := range max(len(slugs), len(emails)) {
		slug, email := "spare"+string(rune('a'+i)), "spare"+string(rune('a'+i))+"@x.test"
		if i < len(slugs) {
			slug = slugs[i]
		}
		if i < len(emails) {
			email = emails[i]
		}
		if err := s.runAlone(s.createOp(slug, email)); err != nil {
			s.addProblem("liveness", "%s and %s are free, but: %v", slug, email, err)
		}
	}
	for i, o := range inOrder(s.durable.organizations) {
		m := s.models[o.ID]
		if err := s.runAlone(s.createOp(slugOf(o), "new@x.test")); !errors.Is(err, org.ErrConflict) || !strings.HasPrefix(err.Error(), "the organization name is taken") || strings.Contains(err.Error(), "given up") {
			s.addProblem("wrong answer", "%s is taken, but: %v", slugOf(o), err)
		}
		if err := s.runAlone(s.createOp("new", m.email)); !errors.Is(err, org.ErrConflict) || !strings.HasPrefix(err.Error(), "the email is taken: ") {
			s.addProblem("wrong answer", "%s is taken, but: %v", m.email, err)
		}
		name, email, password, current := "Zulu"+string(rune('a'+i)), fmt.Sprintf("zulu%d@x.test", i), "password new", m.password
		if err := s.runAlone(s.updateOp(o, org.UpdateRequest{OrganizationName: &name})); err != nil {
			s.addProblem("liveness", "%s can't be renamed: %v", o.ID, err)
		}
		o = s.durable.organizations[o.ID]
		if err := s.runAlone(s.updateOp(o, org.UpdateRequest{Email: &email, Password: &password, CurrentPassword: &current})); err != nil {
			s.addProblem("liveness", "%s can't change email and password: %v", o.ID, err)
		}
		if err := s.runAlone(s.loginOp(org.LoginRequest{Email: email, Password: password})); err != nil {
			s.addProblem("login", "%s, with a new password: %v", o.ID, err)
		}
		if err := s.runAlone(s.getOp(name)); err != nil {
			s.addProblem("liveness", "%s is not found: %v", name, err)
		}
		if mate := m.mate; mate != nil {
			if err := s.runAlone(s.createOp("new", mate.email)); reasonOf(err) != org.EmailTaken {
				s.addProblem("wrong answer", "%s is taken, but: %v", mate.email, err)
			}
			email, password, current := fmt.Sprintf("yankee%d@x.test", i), "password newer", mate.password
			if err := s.runAlone(s.updateAs(s.durable.organizations[o.ID], mate.adminID, org.UpdateRequest{Email: &email, Password: &password, CurrentPassword: &current})); err != nil {
				s.addProblem("liveness", "%s can't change email and password: %v", mate.adminID, err)
			}
			if err := s.runAlone(s.loginOp(org.LoginRequest{Email: email, Password: password})); err != nil {
				s.addProblem("login", "%s, with a new password: %v", mate.adminID, err)
			}
		}
		if used := s.durable.claimsOf(s.durable.organizations[o.ID]); s.durable.comparesUUIDs && len(used) != 1+len(o.Admins) {
			s.addProblem("unused claim", "%s has %v", o.ID, used)
		}
		if err := s.runAlone(s.deleteOp(s.durable.organizations[o.ID])); err != nil {
			s.addProblem("liveness", "%s can't be deleted: %v", o.ID, err)
		}
	}
	s.sleep(s.grace + time.Minute)
	for range 2 { // the second one if the names rest
		s.sleep(2 * org.StaleAfter)
		s.runAlone(s.reconcileOp(true))
	}
	if len(s.problems) == 0 && len(s.durable.organizations)+len(s.durable.claims)+len(s.durable.admins) > 0 {
		s.addProblem("liveness", "records, claims or admins are left after all deletions")
	}
}

// checkMigrated checks that the repair has carried the records of older versions forward,
// unless it waits for an operation that a person must look at.
func (s *sim) checkMigrated() {
	for _, o := range s.durable.organizations {
		if o.Operation != nil {
			return
		}
	}
	if m := s.durable.migrations[1]; m.FinishedAt.IsZero() && time.Since(m.SeenAt) > time.Hour {
		s.addProblem("not migrated", "the migration is not finished: %+v", m)
	} else if m.FinishedAt.IsZero() {
		return
	}
	for _, o := range inOrder(s.durable.organizations) {
		if slices.ContainsFunc(o.Claims, func(id string) bool { return strings.HasPrefix(id, "email:") }) {
			s.addProblem("not migrated", "%s has the claims %v", o.ID, o.Claims)
		}
	}
	for _, a := range inOrder(s.durable.admins) {
		if a.Outdated {
			s.addProblem("not migrated", "admin %s is outdated", a.ID)
		}
	}
}
