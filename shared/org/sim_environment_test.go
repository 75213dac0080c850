package org_test

import (
	"maps"
	"slices"
	"time"

	"orgservice/shared/org"
)

// environment lets something happen that no process does, by the seed's
// choice, and reports whether it did.
func (s *sim) environment() bool {
	if s.old != nil {
		switch r := s.rng.Float64(); {
		case r < 0.03:
			s.endFailover()
			return true
		case r < 0.2: // a process finds the new primary
			s.processes[s.rng.IntN(len(s.processes))].behind = false
		}
	}
	if len(s.onTheWay) > 0 && s.rng.Float64() < 0.3 && s.arrive() {
		return true
	}
	r := s.rng.Float64()
	happens := func(rate float64) bool {
		r -= rate
		return r < 0 && r >= -rate
	}
	switch {
	case happens(0.06):
		s.tenantWrites()
	case happens(s.stray):
		s.strayWrite()
	case happens(s.operator):
		s.operate()
	case s.old == nil && happens(s.failover):
		s.loseMajority()
	case happens(s.patience):
		s.sleep(s.pick(s.waitsNow()))
	default:
		return false
	}
	return true
}

// arrive executes one of the commands that are on their way and due.
func (s *sim) arrive() bool {
	var due []int
	for i, l := range s.onTheWay {
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

func (s *sim) deliver(i int) {
	l := s.onTheWay[i]
	s.onTheWay = slices.Delete(s.onTheWay, i, i+1)
	r := s.execute(l.call, false)
	s.tracef("%v %v ARRIVES %s", l.op, l.call, r.text())
}

func (s *sim) loseMajority() {
	s.old = &oldPrimary{
		local: s.durable.clone(), base: s.durable.clone(),
		until: time.Now().Add(5*time.Second + time.Duration(s.rng.Int64N(int64(15*time.Second)))),
	}
	for _, p := range s.processes {
		p.behind = s.rng.IntN(3) > 0
		if p.behind {
			s.tracef("FAILOVER: p%d is still connected to the old primary", p.n)
		}
	}
}

func (s *sim) endFailover() {
	s.old = nil
	for _, p := range s.processes {
		p.behind = false
	}
	s.tracef("FAILOVER ends: what the old primary wrote alone is undone")
}

// tenantWrites lets the application of an active organization write into the
// collection that the record names.
func (s *sim) tenantWrites() {
	active := s.active()
	if len(active) == 0 {
		return
	}
	o := active[s.rng.IntN(len(active))]
	s.writeDocument(s.models[o.ID], o.Collection)
}

// strayWrite lets the application of an organization, which may be gone, write
// where the organization was once or may be soon; or a command arrive that was
// to make a collection long ago.
func (s *sim) strayWrite() {
	if s.empties || s.rng.IntN(3) == 0 {
		name := org.CollectionPrefix + oneOf(s, s.slugs())
		if _, exists := s.durable.collections[name]; !exists {
			s.durable.make(name)
			s.tracef("   an empty %s is made by a command of long ago", name)
		}
		return
	}
	ids := slices.Sorted(maps.Keys(s.models))
	if len(ids) == 0 {
		return
	}
	m := s.models[ids[s.rng.IntN(len(ids))]]
	name := org.CollectionPrefix + oneOf(s, s.slugs())
	if len(m.names) > 0 && s.rng.IntN(2) == 0 {
		name = m.names[s.rng.IntN(len(m.names))]
	}
	s.writeDocument(m, name)
}

// writeDocument writes one, and keeps in mind that it must not be lost if it
// went into the collection that is the organization's.
func (s *sim) writeDocument(m *tenantModel, name string) {
	s.documents++
	uuid := s.durable.insert(name, tenantDocument{id: s.documents, tenant: m.id, at: s.step})
	o, alive := s.durable.organizations[m.id]
	if alive && m.home != uuid && o.Operation == nil && o.Collection == name && !s.durable.has(m.home) {
		m.home = uuid // it was made anew
	}
	if m.home == uuid {
		m.written = append(m.written, s.documents)
		s.tracef("   %s writes document %d into its %s", m.id, s.documents, name)
	} else {
		s.tracef("   %s writes document %d into %s: STRAY", m.id, s.documents, name)
	}
}

func (c *catalog) has(uuid int) bool {
	for _, there := range c.collections {
		if there.uuid == uuid {
			return true
		}
	}
	return false
}

// operate lets a person suspend an organization in the database, or end that.
func (s *sim) operate() {
	var ids []string
	for id, o := range s.durable.organizations {
		if o.Status == org.Active || o.Status == org.Suspended {
			ids = append(ids, id)
		}
	}
	if len(ids) == 0 {
		return
	}
	slices.Sort(ids)
	s.setStatus(ids[s.rng.IntN(len(ids))])
}

func (s *sim) setStatus(id string) {
	o := s.durable.organizations[id]
	if o.Status == org.Active {
		o.Status = org.Suspended
	} else {
		o.Status = org.Active
	}
	s.models[id].suspended = o.Status == org.Suspended
	s.durable.organizations[id] = o
	s.tracef("   OPERATOR sets %s %s", id, o.Status)
}

// forgetUUIDs makes the records what the version before wrote: it kept no
// UUIDs of collections and no revisions of admins.
func (s *sim) forgetUUIDs() {
	for id, o := range s.durable.organizations {
		o.CollectionUUID = ""
		s.durable.organizations[id] = o
	}
	for id, a := range s.durable.admins {
		a.Revision = 0
		s.durable.admins[id] = a
	}
	s.tracef("   UPGRADE: the records tell no UUIDs")
}

// changeUUIDs makes the collections what they are in a database that was
// restored from a backup.
func (s *sim) changeUUIDs() {
	for _, o := range inOrder(s.durable.organizations) {
		c := s.durable.collections[o.Collection]
		*s.durable.uuids++
		c.uuid = *s.durable.uuids
		s.durable.collections[o.Collection] = c
		s.models[o.ID].home = c.uuid
	}
	s.tracef("   RESTORE: every collection has another UUID")
}

// active returns the organizations that clients can act on, in the order of
// their ids.
func (s *sim) active() (active []org.Organization) {
	for _, o := range inOrder(s.durable.organizations) {
		if o.Status == org.Active {
			active = append(active, o)
		}
	}
	return active
}
