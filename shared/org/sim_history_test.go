package org_test

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"orgservice/shared/org"
)

// history is what an observer of everything knows about a schedule.
type history struct {
	models        map[string]*tenantModel // by the organization's id
	people        map[string]*personModel // by the admin's id
	mails         []org.Mail              // that were sent, but for confirmations
	confirmations []org.Mail              // that were sent, to verify an email
	mailErr       error                   // why none can be sent; nil: it can
	mailTries     int                     // how many of mails were to be sent
	documentCount int                     // how many were written
	executing     *call                   // the call that is being executed on the durable state
	problems      []problem
	keys          []*simKey
}

func newHistory() history {
	return history{models: map[string]*tenantModel{}, people: map[string]*personModel{}}
}

// problem is the violation of an invariant.
type problem struct{ kind, text string }

// tenantModel is what an organization must be after the operations that its
// record says are committed.
type tenantModel struct {
	id              string
	*personModel    // its owner
	name, slug      string
	wasActive       bool // it was active at some time
	deleting        bool // a deletion was committed
	buried          bool // it can be restored
	restorableUntil time.Time
	purged          bool               // it was deleted for good after that
	suspended       bool               // by the operator
	left            map[org.Status]int // the steps until which it had the statuses, if it has another one
	toldSuspended   int                // the step at which the operator was told that it is suspended; 0: it may be active again
	mate            *personModel       // a second admin; nil: there is none
	uuid            int                // the UUID of its collection
	documents       []int              // the documents in it that must not be lost
	collectionNames []string           // the names that its collection had, or was to have
}

// personModel is what an admin must be.
type personModel struct {
	adminID, email, password string
	before                   []string // the emails that it had before
	inserted                 bool     // into the database: there was no sign-up
	revokedBelow             int64    // tokens of lower versions are revoked, and a client knows it
}

// addProblem adds a problem to the history and to the trace.
func (s *sim) addProblem(kind, format string, args ...any) {
	p := problem{kind, fmt.Sprintf(format, args...)}
	s.tracef("!! %s: %s", p.kind, p.text)
	s.problems = append(s.problems, p)
}

// recordWritten is called after every durable write of an organization's
// record.
func (s *sim) recordWritten(before, after org.Organization) {
	m := s.models[after.ID]
	if m == nil {
		m = &tenantModel{id: after.ID, personModel: &personModel{}}
		s.models[after.ID] = m
	}
	if after.Revision == 0 {
		if m.wasActive && !m.deleting {
			s.addProblem("organization lost", "the record of %s is deleted, but no deletion was committed", m.id)
		}
		return
	}
	if after.Operation != nil && after.Operation.Collection != "" {
		m.addName(after.Operation.Collection)
	}
	m.addName(after.Collection)
	if id := begun(before, after); id != "" {
		op := s.operation(id)
		// Who accepts may be somebody new, if the admin has changed the email meanwhile.
		other := op.kind == "Accept" && after.Admins[len(after.Admins)-1].AdminID != op.admin
		if p := s.people[op.admin]; p != nil && !other && op.organization == m.id && op.callerVersion < p.revokedBelow {
			s.addProblem("revoked token", "op%d changes %s with a token of version %d after %d was answered", op.n, m.id, op.callerVersion, p.revokedBelow)
		}
	}
	if before.Committed != after.Committed && before.Status == org.Deleting {
		s.burialCommitted(m, before, after)
	} else if before.Committed != after.Committed && before.Status == org.Deleted {
		s.restorationCommitted(m, before, after)
	} else if before.Committed != after.Committed {
		s.operationCommitted(m, before, after)
	} else if before.Revision > 0 && (!reflect.DeepEqual(before.Admins, after.Admins) || len(after.Invitations) > len(before.Invitations)) {
		s.addProblem("wrong members", "%s has %v and %v without a commit", m.id, after.Admins, after.Invitations)
	}
	s.actWritten(m, before, after)
	if after.Status == org.Deleting && before.Status == org.Deleted {
		s.purgeCommitted(m, after)
	} else if after.Status == org.Deleting && before.Status != org.Deleting {
		s.deletionCommitted(m, after)
	}
}

// actWritten checks that only an operator's act suspends an organization, or ends a
// suspension.
func (s *sim) actWritten(m *tenantModel, before, after org.Organization) {
	acts := after.History
	n := len(before.History)
	kinds := map[org.ActKind]string{org.ActRestore: "Restore", org.ActRename: "Rename"}
	if len(acts) == n+1 && kinds[acts[n].Kind] != "" {
		if op := s.operation(acts[n].ID); op.kind != kinds[acts[n].Kind] || op.organization != m.id {
			s.addProblem("wrong act", "op%d %s on %s is an act of the kind %s", op.n, op.kind, m.id, acts[n].Kind)
		}
		acts = acts[:n]
	} else if len(acts) == n+1 {
		a, op := acts[n], s.operation(acts[n].ID)
		acts = acts[:n]
		toward := map[string]org.Status{"Suspend": org.Suspended, "Reactivate": org.Active}[op.kind]
		if op.committed || op.organization != m.id || after.Status != toward || before.Status == toward && toward == org.Active || (a.Kind == org.ActSuspend) != (toward == org.Suspended) {
			s.addProblem("wrong act", "op%d %s makes %s %s, which was %s", op.n, op.kind, m.id, after.Status, before.Status)
		}
		// Its write fails if the record has changed since it was read.
		if m.toldSuspended > op.beganAt && op.readAt > m.toldSuspended && after.Status == org.Active && op.readTime.Sub(op.beganTime) > org.StaleAfter+2*maxClockError {
			s.addProblem("late act", "op%d ends the suspension of %s, of which the operator was told after it began", op.n, m.id)
		}
		op.committed = true
		s.checkCommitTime(op, m.id)
		m.statusIs(after.Status, s.step)
	} else if (before.Status == org.Suspended || after.Status == org.Suspended) && before.Status != after.Status {
		s.addProblem("suspension lost", "%s was %s and is %s", m.id, before.Status, after.Status)
	}
	if !slices.Equal(acts, before.History) {
		s.addProblem("history lost", "%s has %v after %v", m.id, after.History, before.History)
	}
	if before.Status != after.Status {
		m.leaves(before.Status, s.step)
	}
}

// statusIs is called when an operator has changed the status.
func (m *tenantModel) statusIs(status org.Status, step int) {
	if m.suspended = status == org.Suspended; m.suspended {
		m.leaves(org.Active, step)
		return
	}
	m.toldSuspended = 0
	m.leaves(org.Suspended, step)
}

func (m *tenantModel) leaves(status org.Status, step int) {
	if m.left == nil {
		m.left = map[org.Status]int{}
	}
	m.left[status] = step
}

// checkAct is called when an operator is told that an act was done, by this operation or
// before: the organization had the status at some time since the operation began.
func (s *sim) checkAct(op *operation, m *tenantModel, status org.Status) {
	now := s.durable.organizations[m.id].Status
	if left, ok := m.left[status]; now != status && (!ok || left < op.beganAt) {
		s.addProblem("success without commit", "op%d %s, and %s is %s", op.n, op.kind, m.id, now)
	}
	if status == org.Suspended && now == status && m.toldSuspended == 0 {
		m.toldSuspended = s.step
	}
}

// begun returns the id of the operation that begins with the write, or an empty one
// if none does.
func begun(before, after org.Organization) string {
	switch {
	case before.Operation != nil:
		return ""
	case after.Operation != nil:
		return after.Operation.ID
	case after.Committed != before.Committed:
		return after.Committed
	}
	return ""
}

// addName records a name that the collection has or is to get.
func (m *tenantModel) addName(name string) {
	if !slices.Contains(m.collectionNames, name) {
		m.collectionNames = append(m.collectionNames, name)
	}
}

// operation returns the operation that made the id.
func (s *sim) operation(id string) *operation {
	if n := operationOf(id); n > 0 && n <= len(s.ops) {
		return s.ops[n-1]
	}
	return &operation{kind: "unknown"}
}

// checkCommitTime is called when an operation is committed. If the client has
// its answer already, that must be ErrUnavailable.
func (s *sim) checkCommitTime(op *operation, id string) {
	if op.committedAt == 0 {
		op.committedAt = s.step
	}
	s.keyCommitted(op)
	if !op.answered || op.err == nil {
		return
	}
	if !errors.Is(op.err, org.ErrUnavailable) {
		s.addProblem("refused but committed", "op%d of %s was answered %q and is committed", op.n, id, op.err)
		return
	}
	// An operation that had only one fault, and more calls after it, could have
	// made sure that no commit comes later.
	if s.executing != nil && s.executing.op == op && time.Since(op.answeredAt) > 10*org.StaleAfter && op.faults == 1 && op.cleanCalls > 1 && !op.usedOldPrimary {
		s.addProblem("late commit", "op%d of %s was answered %q and is committed %v later", op.n, id, op.err, time.Since(op.answeredAt))
	}
}

// operationCommitted changes the model as the committed operation does, and
// compares the record with it.
func (s *sim) operationCommitted(m *tenantModel, before, after org.Organization) {
	op := s.operation(after.Committed)
	if op.committed {
		s.addProblem("committed twice", "op%d of %s is committed again", op.n, m.id)
	}
	op.committed = true
	s.checkCommitTime(op, m.id)
	switch {
	case op.createRequest != nil:
		m.wasActive = true
		m.name, m.slug = op.createRequest.OrganizationName, slugOfName(op.createRequest.OrganizationName)
		id := after.Admins[0].AdminID
		if s.people[id] == nil {
			s.people[id] = &personModel{adminID: id, email: op.createRequest.Email, password: op.createRequest.Password}
		}
		m.personModel = s.people[id]
		c, exists := s.durable.collections[after.Collection]
		if exists {
			m.uuid = c.uuid
		}
		for _, d := range c.docs {
			if d.tenant != m.id && d.at < op.namedAt {
				s.addProblem("foreign documents", "%s became active with document %d of %s", m.id, d.id, d.tenant)
				break
			}
		}
	case op.updateRequest != nil && op.organization == m.id:
		if name := op.updateRequest.OrganizationName; name != nil {
			m.name, m.slug = *name, slugOfName(*name)
		}
		// An email changes nothing if it was the admin's when the operation read it.
		if op.updateRequest.Password != nil && !op.adminChanged {
			s.addProblem("wrong state", "op%d is committed on %s without its change of the admin", op.n, m.id)
		}
	case op.memberRequest != nil && op.organization == m.id:
	default:
		s.addProblem("wrong state", "op%d %s is committed on %s", op.n, op.kind, m.id)
	}
	s.membersCommitted(op, before, after)
	if after.Name != m.name || after.Collection != org.CollectionPrefix+m.slug {
		s.addProblem("wrong state", "%s is %s after op%d; want %s", m.id, organizationText(after), op.n, m.name)
	}
}

// changesAdmin reports whether the operation is an update of an email or a password.
func (op *operation) changesAdmin() bool {
	return op.updateRequest != nil && op.updateRequest.CurrentPassword != nil
}

// mayChangeNothing reports whether the operation is an update to an email that the admin
// may have had when it was read.
func (s *sim) mayChangeNothing(op *operation) bool {
	c, p := op.updateRequest, s.people[op.admin]
	return c.OrganizationName == nil && c.Password == nil && (*c.Email == p.email || slices.Contains(p.before, *c.Email))
}

// adminWritten is called after every durable replacement of an admin's record.
func (s *sim) adminWritten(before, after org.Admin) {
	if len(after.Organizations) > len(before.Organizations) && s.executing != nil {
		if op, p := s.executing.op, s.people[after.ID]; op.kind == "Create another" && op.callerVersion < p.revokedBelow {
			s.addProblem("revoked token", "op%d creates an organization with a token of version %d after %d was answered", op.n, op.callerVersion, p.revokedBelow)
		}
	}
	if after.VerifiedEmail != before.VerifiedEmail && (s.executing == nil || s.executing.op.ticketOf != after.VerifiedEmail || after.Email != after.VerifiedEmail) {
		s.addProblem("not verified", "the admin %s has %s, and %s is verified", after.ID, after.Email, after.VerifiedEmail)
	}
	if after.Asleep && !before.Asleep && s.lists(after.ID) {
		s.addProblem("asleep", "the admin %s is put to sleep, but an organization lists it", after.ID)
	}
	before.VerifiedEmail, before.Asleep = after.VerifiedEmail, after.Asleep
	if before.Committed == after.Committed {
		after.Revision, after.Organizations, after.OrganizationID, after.UpdatedAt = before.Revision, before.Organizations, before.OrganizationID, before.UpdatedAt
		after.Outdated = before.Outdated
		if !reflect.DeepEqual(after, before) {
			s.addProblem("wrong state", "the admin %s is changed without a change: %+v", after.ID, after)
		}
		return
	}
	op := s.operation(after.Committed)
	m, p := s.models[op.organization], s.people[after.ID]
	if m == nil || p == nil || !op.changesAdmin() || op.organization != m.id || op.admin != after.ID {
		s.addProblem("wrong state", "op%d %s is committed on the admin %s", op.n, op.kind, after.ID)
		return
	}
	if op.adminChanged {
		s.addProblem("committed twice", "op%d of %s is committed again", op.n, m.id)
	}
	op.adminChanged, op.newVersion = true, after.TokenVersion
	if op.updateRequest.OrganizationName == nil {
		op.committed = true
	}
	s.checkCommitTime(op, m.id)
	if op.callerVersion < p.revokedBelow {
		s.addProblem("revoked token", "op%d changes an admin of %s with a token of version %d after %d was answered", op.n, m.id, op.callerVersion, p.revokedBelow)
	}
	if email := op.updateRequest.Email; email != nil {
		p.before = append(slices.Clip(p.before), p.email)
		p.email = *email
	}
	if password := op.updateRequest.Password; password != nil {
		p.password = *password
	}
	if after.Email != p.email || after.PasswordHash != "hash of "+p.password {
		s.addProblem("wrong state", "the admin of %s has %s and %s after op%d", m.id, after.Email, after.PasswordHash, op.n)
	}
}

func slugOf(o org.Organization) string { return strings.TrimPrefix(o.Collection, org.CollectionPrefix) }

func slugOfName(name string) string {
	n, err := org.ParseName(name)
	if err != nil {
		panic(err)
	}
	return n.Slug
}

// deletionCommitted checks that a client asked for the deletion of the
// organization.
func (s *sim) deletionCommitted(m *tenantModel, after org.Organization) {
	if !m.wasActive {
		return // a creation is undone
	}
	op := s.operation(after.Operation.ID)
	m.deleting = true
	if d := after.Deletion; d != nil {
		m.restorableUntil = d.Ends
	}
	if op.kind != "Delete" || op.organization != m.id || (after.Operation.Kind == org.Burying) != (s.grace > 0) {
		s.addProblem("organization lost", "%s is deleted by op%d %s", m.id, op.n, op.kind)
		return
	}
	op.committed = true
	s.checkCommitTime(op, m.id)
}

// commandExecuted is called after every command on the durable state.
func (s *sim) commandExecuted(c *call, err error) {
	if c.method == "Organization" {
		c.op.readAt, c.op.readTime = s.step, time.Now()
	}
	if c.method == "RenameCollection" && c.op.createRequest != nil && err == nil {
		c.op.namedAt = s.step
	}
}

// allowed are the errors other than ErrUnavailable and errDenied that each kind
// of operation may return.
var allowed = map[string][]error{
	"Create":         {org.ErrConflict, org.ErrThrottled},
	"Create another": {org.ErrUnauthenticated, org.ErrConflict},
	"Finish sign-up": {org.ErrUnauthenticated, org.ErrConflict, org.ErrThrottled},
	"Update":         {org.ErrUnauthenticated, org.ErrForbidden, org.ErrThrottled, org.ErrConflict},
	"Delete":         {org.ErrUnauthenticated, org.ErrConflict},
	"Login":          {org.ErrUnauthenticated, org.ErrThrottled},
	"Switch":         {org.ErrUnauthenticated, org.ErrNotFound},
	"Refresh":        {org.ErrUnauthenticated},
	"Me":             {org.ErrUnauthenticated},
	"Get":            {org.ErrNotFound},
	"Suspend":        {org.ErrNotFound, org.ErrConflict},
	"Reactivate":     {org.ErrNotFound, org.ErrConflict},
	"Restore":        {org.ErrNotFound, org.ErrConflict},
	"Purge":          {org.ErrNotFound, org.ErrConflict},
	"Rename":         {org.ErrNotFound, org.ErrConflict},
	"Reconcile":      {},
	"Withdraw":       {org.ErrUnauthenticated, org.ErrForbidden, org.ErrNotFound, org.ErrConflict},
	"Reset":          {org.ErrUnauthenticated, org.ErrConflict},
	"Forgot":         {org.ErrThrottled},
	"Verify":         {org.ErrUnauthenticated, org.ErrConflict},
	"Resend":         {org.ErrUnauthenticated, org.ErrConflict, org.ErrThrottled},
	"Invite":         {org.ErrUnauthenticated, org.ErrForbidden, org.ErrConflict, org.ErrThrottled},
	"Accept":         {org.ErrUnauthenticated, org.ErrConflict, org.ErrThrottled},
	"Remove":         {org.ErrUnauthenticated, org.ErrForbidden, org.ErrNotFound, org.ErrConflict},
	"ChangeRole":     {org.ErrUnauthenticated, org.ErrForbidden, org.ErrNotFound, org.ErrConflict},
}

// tellsAll reports whether the error tells a client all that it needs.
func tellsAll(e *org.Error) bool {
	hasFields := len(e.Fields) > 0 && !slices.ContainsFunc(e.Fields, func(f org.FieldError) bool { return f.Field == "" || f.Message == "" })
	return e.Kind != 0 && e.Reason != "" && e.Message != "" && hasFields == (e.Kind == org.Invalid) && (e.RetryAfter > 0 || e.Reason != org.KeyInUse)
}

// finish records and checks the answer of an operation.
func (s *sim) finish(c *call) {
	op := c.op
	op.answered, op.ended, op.answeredAt, op.process.op = true, true, time.Now(), nil
	s.tracef("%v ANSWERS %v", op, op.err)
	s.answer(c, reply{})
	if op.panicked != nil {
		s.addProblem("panic", "op%d: %v", op.n, op.panicked)
		return
	}
	s.checkRepeated(op)
	m := s.models[op.organization]
	changes := op.createRequest != nil || op.memberRequest != nil || op.kind == "Reset" || slices.Contains([]string{"Update", "Delete", "Restore", "Rename"}, op.kind)
	switch {
	case errors.Is(op.err, org.ErrUnavailable):
	case op.err != nil:
		if !errors.Is(op.err, errDenied) && reasonOf(op.err) != org.KeyInUse && reasonOf(op.err) != org.KeyReused && !slices.ContainsFunc(allowed[op.kind], func(kind error) bool { return errors.Is(op.err, kind) }) {
			s.addProblem("unexpected error", "op%d %s: %v", op.n, op.kind, op.err)
		}
		if e, ok := errors.AsType[*org.Error](op.err); ok && !tellsAll(e) {
			s.addProblem("refused without a reason", "op%d %s: %+v", op.n, op.kind, e)
		}
		if op.committed || op.adminChanged {
			s.addProblem("refused but committed", "op%d is committed and answered %q", op.n, op.err)
		}
	case op.kind == "Verify":
		if a, ok := s.durable.admins[op.admin]; ok && a.Email == op.ticketOf && !a.Verified() {
			s.addProblem("success without commit", "op%d has not verified %s", op.n, a.Email)
		}
	case op.outcome != nil: // it was done before
		if done := op.key.committedOp(); done != nil && done.adminChanged {
			p := s.people[done.admin]
			p.revokedBelow = max(p.revokedBelow, done.newVersion)
		}
	case op.kind == "Suspend":
		s.checkAct(op, m, org.Suspended)
	case op.kind == "Reactivate":
		s.checkAct(op, m, org.Active)
	case op.admin != "" && op.kind != "Reset" && op.kind != "Verify" && m != nil && m.toldSuspended > 0 && op.beganAt > m.toldSuspended:
		s.addProblem("works while suspended", "op%d %s began after the operator was told that %s is suspended", op.n, op.kind, m.id)
	case op.kind == "Purge" && !m.purged:
		s.addProblem("success without commit", "op%d %s", op.n, op.kind)
	case op.kind == "Delete" && m.deleting: // by this operation or by another one
	case op.updateRequest != nil && !op.committed && s.mayChangeNothing(op):
	case changes && !op.committed:
		s.addProblem("success without commit", "op%d %s", op.n, op.kind)
	case op.adminChanged:
		p := s.people[op.admin]
		p.revokedBelow = max(p.revokedBelow, op.newVersion)
	}
}
