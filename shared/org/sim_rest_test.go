package org_test

import (
	"maps"
	"slices"
	"strings"
	"time"

	"orgservice/shared/org"
)

// schedule runs everything from an empty database to the last check, which
// ends at the first stage with problems.
func (s *sim) schedule() {
	budget := s.budget
	s.budget = 0
	for i := range s.rng.IntN(4) {
		if err := s.quietly(s.creation(simSlugs[i], simEmails[i])); err != nil {
			s.complain("liveness", "create: %v", err)
		}
	}
	if s.rng.Float64() < s.upgraded {
		s.forgetUUIDs()
	}
	if s.rng.Float64() < s.restored {
		s.changeUUIDs()
	}
	s.budget = budget
	s.chaos()
	s.budget = 0
	for _, stage := range []func(){s.comeToRest, s.checkSuspended, s.checkRest, s.checkLogins, s.useEverything, s.checkRest} {
		stage()
		if len(s.problems) > 0 {
			return
		}
	}
}

// comeToRest lets what is on its way arrive, or not, and repairs until there
// is nothing to repair.
func (s *sim) comeToRest() {
	s.old = nil
	for len(s.onTheWay) > 0 {
		i := s.rng.IntN(len(s.onTheWay))
		l := s.onTheWay[i]
		if s.rng.IntN(3) == 0 {
			s.sleep(2 * org.StaleAfter)
			s.quietly(s.reconcile(true))
		}
		if s.rng.IntN(8) == 0 {
			s.tracef("%v %v is LOST for good", l.op, l.call)
			s.onTheWay = slices.Delete(s.onTheWay, i, i+1)
			continue
		}
		if wait := time.Until(l.due); wait > 0 {
			s.sleep(wait)
		}
		s.deliver(i)
	}
	for range 6 {
		s.sleep(2*org.StaleAfter + 2*maxClockError)
		op := s.reconcile(true)
		if err := s.quietly(op); err != nil {
			s.complain("reconcile fails", "%v", err)
			return
		}
		if strings.HasPrefix(op.what, "0 ") && !s.durable.anyRests() {
			return
		}
	}
	s.complain("reconcile without end", "the last run still repaired something")
}

// checkSuspended checks that what an operator has suspended still is, and
// ends that.
func (s *sim) checkSuspended() {
	for _, o := range inOrder(s.durable.organizations) {
		if s.models[o.ID].suspended {
			if o.Status != org.Suspended {
				s.complain("suspension undone", "%s was suspended by hand and is %s", o.ID, o.Status)
				continue
			}
			s.setStatus(o.ID)
		}
	}
}

// checkRest checks what must hold of a database at rest.
func (s *sim) checkRest() {
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
			s.complain("suspension undone", "%s is suspended, which was ended by hand", o.ID)
			continue
		}
		if o.Status != org.Active || o.Operation != nil {
			s.complain("unfinished", "%s", short(o))
			continue
		}
		if o.Name != m.name || o.Collection != org.CollectionPrefix+m.slug {
			s.complain("torn", "%s; want %s", short(o), m.name)
		}
		if other := keys[slugOf(o)]; other != "" {
			s.complain("shared name", "%s and %s are both %s", other, o.ID, slugOf(o))
		}
		if other := emails[m.email]; other != "" {
			s.complain("shared email", "%s and %s both have %s", other, o.ID, m.email)
		}
		keys[slugOf(o)], emails[m.email] = o.ID, o.ID
		s.checkAdmin(o, m)
		for _, id := range []string{o.Collection, "email:" + m.email} {
			if c, ok := s.durable.claims[id]; !ok || c.OrganizationID != o.ID {
				s.complain("claim missing", "%s has not %s", o.ID, id)
			}
			if !slices.Contains(o.Claims, id) || len(o.Claims) != 2 {
				s.complain("claim missing", "%s records %v", o.ID, o.Claims)
			}
		}
		s.checkCollection(o, m)
	}
	for _, m := range inOrder(s.models) {
		_, exists := s.durable.organizations[m.id]
		if !exists && m.active && !m.condemned {
			s.complain("gone", "%s", m.id)
		}
	}
	for _, c := range inOrder(s.durable.claims) {
		if !claims[c.ID] {
			s.complain("claim of nobody", "%s", claimText(c))
		}
	}
	for _, a := range inOrder(s.durable.admins) {
		if !admins[a.ID] {
			s.complain("admin of nobody", "%s of %s", a.ID, a.OrganizationID)
		}
	}
	for _, session := range inOrder(s.durable.sessions) {
		// Those of the service's own making may be made while the
		// organization goes, and expire.
		if _, exists := s.durable.organizations[session.OrganizationID]; !exists && strings.HasPrefix(session.ID, "s") && len(session.ID) < 6 {
			s.complain("session of nobody", "%s of %s", session.ID, session.OrganizationID)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(s.durable.collections)) {
		c := s.durable.collections[name]
		// Where the server does not compare UUIDs it is left to a person.
		if _, used := keys[strings.TrimPrefix(name, org.CollectionPrefix)]; !used && len(c.docs) == 0 && s.durable.checks {
			s.complain("collection of nobody", "%s", name)
		}
	}
}

func (s *sim) checkAdmin(o org.Organization, m *tenantModel) {
	a, ok := s.durable.admins[o.Admins[0].AdminID]
	switch {
	case !ok || a.OrganizationID != o.ID:
		s.complain("admin missing", "%s", o.ID)
	case a.TokenVersion != o.Admins[0].TokenVersion:
		s.complain("token versions", "%s has %d on its record, and its admin %d", o.ID, o.Admins[0].TokenVersion, a.TokenVersion)
	case a.Email != m.email || a.PasswordHash != "hash of "+m.password:
		s.complain("torn", "the admin of %s has %s and %s; want %s and %s", o.ID, a.Email, a.PasswordHash, m.email, m.password)
	}
}

func (s *sim) checkCollection(o org.Organization, m *tenantModel) {
	c, ok := s.durable.collections[o.Collection]
	if !ok {
		s.complain("collection missing", "%s of %s: %v", o.Collection, o.ID, s.durable.catalog.String())
		return
	}
	there := map[int]int{}
	for _, d := range c.docs {
		there[d.id]++
		if c.uuid != m.home && d.tenant != o.ID {
			s.complain("foreign documents", "%s has %s, which is not what it had, with document %d of %s", o.ID, o.Collection, d.id, d.tenant)
			break
		}
	}
	for _, id := range m.written {
		if there[id] == 0 {
			s.complain("documents lost", "%s has not its document %d in %s #%d: %v", o.ID, id, o.Collection, c.uuid, s.durable.catalog.String())
			break
		}
	}
}

// checkLogins checks that every admin can log in with the password that its
// operations explain.
func (s *sim) checkLogins() {
	s.sleep(30 * time.Minute) // failed attempts are forgotten
	for _, o := range inOrder(s.durable.organizations) {
		m := s.models[o.ID]
		if err := s.quietly(s.login(org.LoginRequest{Email: m.email, Password: m.password})); err != nil {
			s.complain("login", "%s: %v", o.ID, err)
		}
	}
}

// useEverything checks that what nobody has can be had, and that everything
// can be renamed and deleted.
func (s *sim) useEverything() {
	var slugs, emails []string
	taken := map[string]bool{}
	for _, o := range s.durable.organizations {
		taken[slugOf(o)], taken[s.models[o.ID].email] = true, true
	}
	for _, slug := range simSlugs {
		// Documents that somebody wrote under a free name are nobody's to drop,
		// nor is anything where the server does not compare UUIDs.
		c, exists := s.durable.collections[org.CollectionPrefix+slug]
		if !taken[slug] && len(c.docs) == 0 && (!exists || s.durable.checks) {
			slugs = append(slugs, slug)
		}
	}
	for _, email := range simEmails {
		if !taken[email] {
			emails = append(emails, email)
		}
	}
	// One list may be longer.
	for i := range max(len(slugs), len(emails)) {
		slug, email := "spare"+string(rune('a'+i)), "spare"+string(rune('a'+i))+"@x.test"
		if i < len(slugs) {
			slug = slugs[i]
		}
		if i < len(emails) {
			email = emails[i]
		}
		if err := s.quietly(s.creation(slug, email)); err != nil {
			s.complain("liveness", "%s and %s are nobody's, but: %v", slug, email, err)
		}
	}
	for i, o := range inOrder(s.durable.organizations) {
		name := "Zulu" + string(rune('a'+i))
		if err := s.quietly(s.changing(o, org.UpdateRequest{OrganizationName: &name})); err != nil {
			s.complain("liveness", "%s can't be renamed: %v", o.ID, err)
		}
		if err := s.quietly(s.deletion(s.durable.organizations[o.ID])); err != nil {
			s.complain("liveness", "%s can't be deleted: %v", o.ID, err)
		}
	}
	if !s.durable.checks { // the names rest
		s.sleep(2 * org.StaleAfter)
		s.quietly(s.reconcile(true))
	}
	if len(s.problems) == 0 && len(s.durable.organizations)+len(s.durable.claims)+len(s.durable.admins) > 0 {
		s.complain("liveness", "something is left of what was deleted")
	}
}
