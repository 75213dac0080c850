package org_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"orgservice/shared/org"
)

// history is what somebody who sees everything knows of a schedule.
type history struct {
	models    map[string]*tenantModel // by the organization's id
	documents int                     // how many were written
	executing *call                   // what runs on the durable state
	problems  []problem
}

func newHistory() history { return history{models: map[string]*tenantModel{}} }

// problem is an invariant that does not hold.
type problem struct{ kind, text string }

// tenantModel is what an organization must be, by the operations that its record
// says were committed.
type tenantModel struct {
	id                          string
	name, slug, email, password string
	active                      bool // it was at some time
	condemned                   bool // a deletion was committed
	gone                        bool
	suspended                   bool     // an operator said so last
	home                        int      // the UUID of its collection
	written                     []int    // documents in there that must not be lost
	names                       []string // that its collection had, or was to have
}

func (s *sim) complain(kind, format string, args ...any) {
	p := problem{kind, fmt.Sprintf(format, args...)}
	s.tracef("!! %s: %s", p.kind, p.text)
	s.problems = append(s.problems, p)
}

// recordWritten sees every write of an organization's record that lasts.
func (s *sim) recordWritten(before, after org.Organization) {
	m := s.models[after.ID]
	if m == nil {
		m = &tenantModel{id: after.ID}
		s.models[after.ID] = m
	}
	if after.Revision == 0 {
		m.gone = true
		if m.active && !m.condemned {
			s.complain("gone", "the record of %s is deleted, but nobody deleted the organization", m.id)
		}
		return
	}
	if after.Operation != nil && after.Operation.Collection != "" {
		m.called(after.Operation.Collection)
	}
	m.called(after.Collection)
	if before.Committed != after.Committed {
		s.committed(m, after)
	}
	if before.Status == org.Suspended && after.Status != before.Status && after.Status != org.Deleting {
		s.complain("suspension undone", "%s was suspended by hand and is %s", m.id, after.Status)
	}
	if after.Status == org.Deleting && before.Status != org.Deleting {
		s.condemned(m, after)
	}
}

func (m *tenantModel) called(name string) {
	if !slices.Contains(m.names, name) {
		m.names = append(m.names, name)
	}
}

func (s *sim) operation(id string) *operation {
	if n := operationOf(id); n > 0 && n <= len(s.ops) {
		return s.ops[n-1]
	}
	return &operation{kind: "unknown"}
}

// takesEffect checks the moment at which an operation is made for good against
// the answer that its client may have.
func (s *sim) takesEffect(op *operation, id string) {
	if !op.answered || op.err == nil {
		return
	}
	if !errors.Is(op.err, org.ErrUnavailable) {
		s.complain("refused but done", "op%d of %s was answered %q and is committed", op.n, id, op.err)
		return
	}
	// If it had but one fault, and looked at the database after it, it could
	// have made sure.
	if s.executing != nil && s.executing.op == op && time.Since(op.at) > 10*org.StaleAfter && op.faults == 1 && op.clean > 1 && !op.deceived {
		s.complain("late effect", "op%d of %s was answered %q and is committed %v later", op.n, id, op.err, time.Since(op.at))
	}
}

// committed brings the model to what the record's last operation makes of it,
// and compares.
func (s *sim) committed(m *tenantModel, after org.Organization) {
	op := s.operation(after.Committed)
	if op.committed {
		s.complain("done twice", "op%d of %s is committed again", op.n, m.id)
	}
	op.committed = true
	s.takesEffect(op, m.id)
	switch {
	case op.registration != nil:
		m.active = true
		m.name, m.email, m.password = op.registration.OrganizationName, op.registration.Email, op.registration.Password
		m.slug = slugIn(m.name)
		c, exists := s.durable.collections[after.Collection]
		if exists {
			m.home = c.uuid
		}
		for _, d := range c.docs {
			if d.tenant != m.id && d.at < op.claimed {
				s.complain("foreign documents", "%s became active with document %d of %s", m.id, d.id, d.tenant)
				break
			}
		}
	case op.change != nil && op.organization == m.id:
		if name := op.change.OrganizationName; name != nil {
			m.name, m.slug = *name, slugIn(*name)
		}
		if email := op.change.Email; email != nil {
			m.email = *email
		}
		if password := op.change.Password; password != nil {
			m.password = *password
		}
	default:
		s.complain("torn", "op%d %s is committed on %s", op.n, op.kind, m.id)
	}
	if after.Name != m.name || after.Collection != org.CollectionPrefix+m.slug {
		s.complain("torn", "%s is %s after op%d; want %s", m.id, short(after), op.n, m.name)
	}
}

func slugOf(o org.Organization) string { return strings.TrimPrefix(o.Collection, org.CollectionPrefix) }

func slugIn(name string) string {
	n, err := org.ParseName(name)
	if err != nil {
		panic(err)
	}
	return n.Slug
}

// condemned checks that who ends an organization was asked to.
func (s *sim) condemned(m *tenantModel, after org.Organization) {
	if !m.active {
		return // a creation is undone
	}
	op := s.operation(after.Operation.ID)
	m.condemned = true
	if op.kind != "Delete" || op.organization != m.id || after.Operation.Kind != org.Removing {
		s.complain("gone", "%s is deleted by op%d %s", m.id, op.n, op.kind)
		return
	}
	op.committed = true
	s.takesEffect(op, m.id)
}

// called sees every call that is executed for good.
func (s *sim) called(c *call, err error) {
	if c.method == "RenameCollection" && c.op.registration != nil && err == nil {
		c.op.claimed = s.step
	}
}

// allowed are the refusals that each operation may be answered with.
var allowed = map[string][]error{
	"Create":    {org.ErrConflict},
	"Update":    {org.ErrUnauthenticated, org.ErrForbidden, org.ErrThrottled, org.ErrConflict},
	"Delete":    {org.ErrUnauthenticated, org.ErrConflict},
	"Login":     {org.ErrUnauthenticated, org.ErrThrottled},
	"Get":       {org.ErrNotFound},
	"Reconcile": {},
}

// finish takes an operation's answer.
func (s *sim) finish(c *call) {
	op := c.op
	op.answered, op.ended, op.at, op.process.op = true, true, time.Now(), nil
	s.tracef("%v ANSWERS %v", op, op.err)
	s.answer(c, reply{})
	if op.fault != nil {
		s.complain("panic", "op%d: %v", op.n, op.fault)
		return
	}
	m := s.models[op.organization]
	changes := op.kind == "Create" || op.kind == "Update" || op.kind == "Delete"
	switch {
	case errors.Is(op.err, org.ErrUnavailable):
	case op.err != nil:
		if !errors.Is(op.err, errDenied) && !slices.ContainsFunc(allowed[op.kind], func(kind error) bool { return errors.Is(op.err, kind) }) {
			s.complain("unknown answer", "op%d %s: %v", op.n, op.kind, op.err)
		}
		if op.committed {
			s.complain("refused but done", "op%d is committed and answered %q", op.n, op.err)
		}
	case op.kind == "Delete" && m.condemned: // by whomever
	case changes && !op.committed:
		s.complain("answered but not done", "op%d %s", op.n, op.kind)
	}
}
