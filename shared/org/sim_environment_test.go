package org_test

import (
	"maps"
	"slices"
	"strings"
	"time"

	"orgservice/shared/org"
)

// environment does something random that no process of the service does, or
// nothing. It reports whether it did something.
func (s *sim) environment() bool {
	if s.oldPrimary != nil {
		switch r := s.rng.Float64(); {
		case r < 0.03:
			s.endFailover()
			return true
		case r < 0.2: // a process finds the new primary
			s.processes[s.rng.IntN(len(s.processes))].onOldPrimary = false
		}
	}
	if len(s.inFlight) > 0 && s.rng.Float64() < 0.3 && s.deliverDue() {
		return true
	}
	r := s.rng.Float64()
	chance := func(rate float64) bool {
		r -= rate
		return r < 0 && r >= -rate
	}
	switch {
	case chance(0.06):
		s.tenantWrites()
	case chance(s.stray):
		s.strayWrite()
	case chance(s.operator):
		s.operatorActs()
	case s.oldPrimary == nil && chance(s.failover):
		s.loseMajority()
	case chance(s.idleRate):
		s.sleep(s.pick(s.idleTimesNow()))
	default:
		return false
	}
	return true
}

// deliverDue executes a random late command that is due. It reports whether
// there was one.
func (s *sim) deliverDue() bool {
	var due []int
	for i, l := range s.inFlight {
		if !l.due.After(time.Now()) {
			due = append(due, i)
		}
	}
	if len(due) == 0 {
		return false
	}
	s.deliver(due[s.rng.IntN(len(due))])
	return true
}

// deliver executes a late command.
func (s *sim) deliver(i int) {
	l := s.inFlight[i]
	s.inFlight = slices.Delete(s.inFlight, i, i+1)
	r := s.execute(l.call, false)
	s.tracef("%v %v ARRIVES %s", l.op, l.call, r.text())
}

// loseMajority makes the primary lose its majority. Some processes stay
// connected to it.
func (s *sim) loseMajority() {
	s.oldPrimary = &oldPrimary{
		local: s.durable.clone(), majority: s.durable.clone(),
		endsAt: time.Now().Add(5*time.Second + time.Duration(s.rng.Int64N(int64(15*time.Second)))),
	}
	for _, p := range s.processes {
		p.onOldPrimary = s.rng.IntN(3) > 0
		if p.onOldPrimary {
			s.tracef("FAILOVER: p%d is still connected to the old primary", p.n)
		}
	}
}

// endFailover rolls back the writes of the old primary.
func (s *sim) endFailover() {
	s.oldPrimary = nil
	for _, p := range s.processes {
		p.onOldPrimary = false
	}
	s.tracef("FAILOVER ends: the writes of the old primary are rolled back")
}

// tenantWrites lets the application of an active organization write to the
// collection that is on the record.
func (s *sim) tenantWrites() {
	active := s.active()
	if len(active) == 0 {
		return
	}
	o := active[s.rng.IntN(len(active))]
	s.writeDocument(s.models[o.ID], o.Collection)
}

// strayWrite either executes a very old command that creates an empty
// collection, or lets an application write to a collection that its
// organization had before or may get. The organization may have been deleted.
func (s *sim) strayWrite() {
	if s.emptyOnly || s.rng.IntN(3) == 0 {
		name := org.CollectionPrefix + oneOf(s, s.slugs())
		if _, exists := s.durable.collections[name]; !exists {
			s.durable.make(name)
			s.tracef("   an old command creates an empty %s", name)
		}
		return
	}
	ids := slices.Sorted(maps.Keys(s.models))
	if len(ids) == 0 {
		return
	}
	m := s.models[ids[s.rng.IntN(len(ids))]]
	name := org.CollectionPrefix + oneOf(s, s.slugs())
	if len(m.collectionNames) > 0 && s.rng.IntN(2) == 0 {
		name = m.collectionNames[s.rng.IntN(len(m.collectionNames))]
	}
	if strings.HasPrefix(name, "org_-deleted-") {
		return // no application knows that name
	}
	s.writeDocument(m, name)
}

// writeDocument writes a document. If it is in the organization's own
// collection, the model records that it must not be lost.
func (s *sim) writeDocument(m *tenantModel, name string) {
	s.documentCount++
	uuid := s.durable.insert(name, tenantDocument{id: s.documentCount, tenant: m.id, at: s.step})
	o, alive := s.durable.organizations[m.id]
	if alive && m.uuid != uuid && o.Operation == nil && o.Collection == name && !s.durable.hasUUID(uuidText(m.uuid)) {
		m.uuid = uuid // the write has created the collection again
	}
	if m.uuid == uuid {
		m.documents = append(m.documents, s.documentCount)
		s.tracef("   %s writes document %d into its %s", m.id, s.documentCount, name)
	} else {
		s.tracef("   %s writes document %d into %s: STRAY", m.id, s.documentCount, name)
	}
}

// hasUUID reports whether there is a collection with the UUID, as a record has it.
func (c *catalog) hasUUID(uuid string) bool {
	for _, stored := range c.collections {
		if uuidText(stored.uuid) == uuid {
			return true
		}
	}
	return false
}

// operatorActs lets an operator suspend a random organization, or end its suspension, in
// the database.
func (s *sim) operatorActs() {
	if ids := s.begun(); len(ids) > 0 {
		s.toggleSuspension(oneOf(s, ids))
	}
}

// begun returns the ids of the organizations that are active or suspended.
func (s *sim) begun() (ids []string) {
	for _, o := range inOrder(s.durable.organizations) {
		if o.Status == org.Active || o.Status == org.Suspended {
			ids = append(ids, o.ID)
		}
	}
	return ids
}

// deleted returns the ids of the organizations that can be restored.
func (s *sim) deleted() (ids []string) {
	for _, o := range inOrder(s.durable.organizations) {
		if o.Status == org.Deleted {
			ids = append(ids, o.ID)
		}
	}
	return ids
}

// toggleSuspension suspends an active organization and activates a suspended
// one.
func (s *sim) toggleSuspension(id string) {
	o := s.durable.organizations[id]
	if o.Status == org.Active {
		o.Status = org.Suspended
	} else {
		o.Status = org.Active
	}
	s.models[id].statusIs(o.Status, s.step)
	s.durable.organizations[id] = o
	s.tracef("   OPERATOR sets %s %s", id, o.Status)
}

// downgrade makes the records those that older versions have written: without UUIDs,
// and with the claims to emails at the organizations.
func (s *sim) downgrade() { s.downgradeTo(true) }

// downgradeTo makes the records those of the previous version, which stored UUIDs, or
// of an earlier one, which did not.
func (s *sim) downgradeTo(withoutUUIDs bool) {
	for _, o := range inOrder(s.durable.organizations) {
		o = copyOf(o)
		if withoutUUIDs {
			o.CollectionUUID = ""
		}
		give := func(email string) string {
			id := "email:" + email
			if c, ok := s.durable.claims[id]; ok {
				c.Owner, c.Revision = org.Owner{OrganizationID: o.ID}, o.Revision-1
				s.durable.claims[id] = c
			}
			return id
		}
		for _, m := range o.Admins {
			a, exists := s.durable.admins[m.AdminID]
			if !exists {
				continue
			}
			a.Committed, a.Journaled, a.Outdated = "", nil, true
			if withoutUUIDs || a.TokenVersion == 1 {
				a.Revision = 0
			}
			s.durable.admins[a.ID] = a
			id := give(a.Email)
			o.Claims = append(o.Claims, id)
			if op := o.Operation; op != nil && op.Kind == org.Updating {
				if op.Email != "" && op.AdminID == a.ID {
					id = give(op.Email)
				}
				op.Claims = append(op.Claims, id)
			}
		}
		s.durable.organizations[o.ID] = o
	}
	s.durable.migrations = map[int]org.Migration{1: {Number: 1, SeenAt: time.Now().Add(-time.Hour)}}
	s.tracef("   UPGRADE: the records are those of an older version")
}

// changeUUIDs gives every collection another UUID, as a restore from a backup
// does.
func (s *sim) changeUUIDs() {
	for _, o := range inOrder(s.durable.organizations) {
		m := s.models[o.ID]
		for _, name := range slices.Sorted(maps.Keys(s.durable.collections)) {
			if c := s.durable.collections[name]; c.uuid == m.uuid {
				*s.durable.uuidCount++
				c.uuid = *s.durable.uuidCount
				s.durable.collections[name], m.uuid = c, c.uuid
				break
			}
		}
	}
	s.tracef("   RESTORE: every collection has another UUID")
}

// active returns the active organizations in the order of their ids.
func (s *sim) active() (active []org.Organization) {
	for _, o := range inOrder(s.durable.organizations) {
		if o.Status == org.Active {
			active = append(active, o)
		}
	}
	return active
}
