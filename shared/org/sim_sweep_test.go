package org_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"orgservice/shared/auth"
	"orgservice/shared/org"
)

// sweep is one operation on one database. TestSweep fails its calls.
type sweep struct {
	comparesUUIDs bool
	state         sweepState
	op            sweepOperation
	base          *sim                // with the database before the operation
	age           time.Duration       // how long it took to make it
	repaired      map[string]sweepRun // what a repair has made of a database
}

func (w sweep) String() string {
	return fmt.Sprintf("%s, %s, comparesUUIDs=%v", w.state.name, w.op.name, w.comparesUUIDs)
}

// sweepRun is what a run of the operation did.
type sweepRun struct {
	calls      []*call
	err        error  // the answer
	report     string // of a Reconcile
	now, final string // the database when the operation has ended, and after the repair
	ended      string // now without sessions and attempts
	clean      bool   // there was nothing to repair
	problems   []problem
	trace      string
}

// begin makes the database, and remembers how long that took.
func (w *sweep) begin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		s := &sim{profile: profile{name: "sweep"}, rng: rand.New(rand.NewPCG(1, 2)), durable: newState(), history: newHistory()}
		s.durable.onWrite, s.durable.onAdminWrite = s.recordWritten, s.adminWritten
		s.durable.comparesUUIDs = w.comparesUUIDs
		w.state.set(t, s)
		w.base, w.age = s, time.Since(began)
	})
}

// copy returns a copy of the simulation between two operations, without its
// trace.
func (s *sim) copy() *sim {
	c := &sim{profile: s.profile, rng: rand.New(rand.NewPCG(1, 2)), step: s.step, durable: s.durable.clone(), grace: s.grace, history: newHistory()}
	c.documentCount, c.mails, c.confirmations = s.documentCount, slices.Clone(s.mails), slices.Clone(s.confirmations)
	people := map[*personModel]*personModel{}
	for id, m := range s.models {
		model := *m
		model.documents, model.collectionNames = slices.Clone(m.documents), slices.Clone(m.collectionNames)
		if people[m.personModel] == nil {
			people[m.personModel] = new(*m.personModel)
		}
		model.personModel = people[m.personModel]
		if m.mate != nil {
			people[m.mate] = new(*m.mate)
			model.mate = people[m.mate]
		}
		c.models[id] = &model
	}
	for id, p := range s.people {
		if people[p] == nil { // without an organization
			people[p] = new(*p)
		}
		c.people[id] = people[p]
	}
	for _, op := range s.ops {
		ended := *op
		c.ops = append(c.ops, &ended)
	}
	for _, k := range s.keys {
		key := *k
		key.ops = nil
		for _, op := range k.ops {
			c.ops[op.n-1].key = &key
			key.ops = append(key.ops, c.ops[op.n-1])
		}
		c.keys = append(c.keys, &key)
	}
	c.durable.uuidCount = new(*s.durable.uuidCount)
	c.durable.onWrite, c.durable.onAdminWrite = c.recordWritten, c.adminWritten
	return c
}

// run runs the operation on a copy of the database, unless it is nil, and repairs
// the database. The call of each number in faults, from 1, has that fate.
func (w sweep) run(t *testing.T, faults map[int]fate, traced bool) (r sweepRun) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(w.age) // of the simulated clock, which begins anew in each bubble
		s := w.base.copy()
		if traced {
			s.trace = &strings.Builder{}
		}
		if op := w.op.new(s); op != nil {
			r.err = s.runHooked(op, 0, func(c *call) bool {
				if c.kind == operationEnd {
					return false
				}
				r.calls = append(r.calls, c)
				return s.fail(c, faults[len(r.calls)])
			})
			r.report = op.args
		}
		r.now = s.summary(true)
		s.tracef("THE OPERATION HAS ENDED: %s", r.now)
		r.ended = s.summary(false)
		key := s.exact()
		if done, ok := w.repaired[key]; ok && !traced {
			r.final, r.clean, r.problems = done.final, done.clean, append(s.problems, done.problems...)
			return
		}
		problems := len(s.problems)
		for _, stage := range []func(){s.drainAndRepair, s.checkSuspended, s.checkInvariants} {
			stage()
		}
		s.problems = slices.DeleteFunc(s.problems, func(p problem) bool { return strings.Contains(w.state.problems, p.kind) })
		r.final, r.problems = s.summary(false), s.problems
		r.clean = r.ended == r.final
		w.repaired[key] = sweepRun{final: r.final, clean: r.clean, problems: s.problems[problems:]}
		if traced {
			r.trace = s.trace.String()
		}
	})
	return r
}

// exact returns everything on which a repair depends.
func (s *sim) exact() string {
	var b strings.Builder
	for _, o := range inOrder(s.durable.organizations) {
		fmt.Fprintln(&b, organizationText(o), o.Revision, o.CollectionUUID, o.Claims, o.Admins, o.Committed)
	}
	for _, id := range s.durable.ticketOrder {
		if t, ok := s.durable.tickets[id]; ok {
			fmt.Fprintln(&b, t.Kind, t.AdminID, t.Email, t.OrganizationID, t.Mailed, len(t.Hashes), t.CreatedAt)
		}
	}
	fmt.Fprintln(&b, len(s.mails), len(s.confirmations), inOrder(s.durable.admins), inOrder(s.durable.claims), s.durable.catalog.String(), len(s.durable.sessions))
	return b.String()
}

// fail gives the call its fate at once. It reports whether that is a failure.
func (s *sim) fail(c *call, f fate) bool {
	r := reply{err: errDenied}
	switch f {
	case executed:
		return false
	case lost:
		s.take(c)
		s.execute(c, false)
		r = unreachable(c)
	case unsent:
		s.take(c)
		r = unreachable(c)
	case sleepBefore:
		s.traceCall(c, f, "")
		s.meanwhile(func() {
			s.sleep(3 * org.StaleAfter)
			s.runHooked(s.reconcileOp(true), 0, nil)
		})
		return false
	default:
		s.take(c)
	}
	s.traceCall(c, f, "")
	s.answer(c, r)
	return true
}

// summary returns what is in the database, without what differs from run to
// run. Sessions and attempts are in it only if it is of this moment.
func (s *sim) summary(now bool) string {
	var lines []string
	addf := func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }
	for _, o := range s.durable.organizations {
		// An email that an older version has left on the record may be moved at any time.
		claims := slices.DeleteFunc(slices.Clone(o.Claims), func(id string) bool { return strings.HasPrefix(id, "email:") })
		var members []string
		for _, m := range o.Admins {
			members = append(members, fmt.Sprint(s.durable.admins[m.AdminID].Email, " as ", m.Role))
		}
		for _, i := range o.Invitations {
			members = append(members, fmt.Sprint(i.Email, " invited as ", i.Role))
		}
		collection := o.Collection
		if o.Status == org.Deleted {
			collection = fmt.Sprint("its own, and was ", o.Deletion.Collection)
		}
		addf("organization %s %s in %s, unfinished %v, with %v of %v", o.Name, o.Status, collection, o.Operation != nil, withoutNumbers(claims), members)
	}
	for _, a := range s.durable.admins {
		addf("admin %s %s %s %d, asleep %v", a.Email, a.VerifiedEmail, a.PasswordHash, a.TokenVersion, a.Asleep)
	}
	for _, c := range s.durable.claims {
		addf("claim %s, rests %v", withoutNumber(c.ID), !c.RestingSince.IsZero())
	}
	for name, c := range s.durable.collections {
		addf("collection %s with %d", withoutNumber(name), len(c.docs))
	}
	if now {
		for _, session := range s.durable.sessions {
			addf("session of %s", session.OrganizationID)
		}
		for key, a := range s.durable.counts {
			addf("%d attempts of %s", total(a), key)
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "; ")
}

// withoutNumber returns the name of a collection without the id of an operation.
func withoutNumber(name string) string { return strings.TrimRight(name, "0123456789.-") }

func withoutNumbers(names []string) (without []string) {
	for _, name := range names {
		without = append(without, withoutNumber(name))
	}
	return without
}

// sweepState is a database.
type sweepState struct {
	name     string
	stale    bool                  // an operation is unfinished, and others may take it over
	report   string                // of a full Reconcile
	without  string                // the same on a server that compares no UUIDs; not checked if it is empty
	answers  map[string]org.Reason // by the name of the operation, if it is not as on active organizations
	problems string                // the kinds of those that it has until a person repairs them
	only     string                // the name of the one operation that is swept, if it is not empty
	set      func(t *testing.T, s *sim)
}

// crashed returns the set of a state in which the process of an operation on
// two active organizations has crashed a while ago, after a call of the method,
// or before it if the name of the method ends with "?".
func crashed(method string, crashing func(s *sim) *operation) func(*testing.T, *sim) {
	return func(t *testing.T, s *sim) {
		justCrashed(method, crashing)(t, s)
		s.sleep(2 * org.StaleAfter)
	}
}

// justCrashed is crashed a moment ago.
func justCrashed(method string, crashing func(s *sim) *operation) func(*testing.T, *sim) {
	method, before := strings.CutSuffix(method, "?")
	return func(t *testing.T, s *sim) {
		setActive(t, s)
		op := crashing(s)
		s.runHooked(op, 0, func(c *call) bool {
			// The methods of the server that compares no UUIDs.
			if name := strings.Replace(c.method, "Rest", "Release", 1); name != method {
				return false
			}
			s.take(c)
			if !before {
				s.execute(c, false)
			}
			s.kill(op)
			s.answer(c, reply{crashed: true})
			return true
		})
		if !op.dead {
			t.Fatalf("%s never calls %s", op.kind, method)
		}
	}
}

// setActive makes two active organizations. Operations act on acme.
func setActive(t *testing.T, s *sim) {
	s.mustCreate(t, "acme", "a@x.test")
	s.mustCreate(t, "bolt", "b@x.test")
}

// changedActive returns the set of a state that is not as the service leaves it.
func changedActive(change func(s *sim)) func(*testing.T, *sim) { return then(setActive, change) }

// then returns a set that changes the database after the other one, some time
// before the operation.
func then(set func(*testing.T, *sim), change func(s *sim)) func(*testing.T, *sim) {
	return func(t *testing.T, s *sim) {
		set(t, s)
		change(s)
		s.sleep(2 * org.StaleAfter)
	}
}

// fill writes a document that belongs to no organization into each collection.
func (s *sim) fill(names ...string) {
	for _, name := range names {
		s.durable.insert(name, tenantDocument{})
	}
}

// acme returns the record of acme, also when it is core, or the zero value.
func (s *sim) acme() org.Organization {
	for _, o := range inOrder(s.durable.organizations) {
		if o.Collection != "org_bolt" {
			return o
		}
	}
	return org.Organization{}
}

func (s *sim) changeAcme(slug, email, password string) *operation {
	o := s.acme()
	if o.ID == "" {
		return nil
	}
	r := org.UpdateRequest{}
	if slug != "" {
		r.OrganizationName = &slug
	}
	if email != "" {
		r.Email = &email
	}
	if password != "" {
		r.Password = &password
	}
	if email != "" || password != "" {
		current := s.knownPassword()
		r.CurrentPassword = &current
	}
	return s.updateOp(o, r)
}

func (s *sim) createCore() *operation { return s.createOp("core", "c@x.test") }

// addCore is the creation of core by the admin of acme.
func (s *sim) addCore() *operation {
	if o := s.acme(); o.ID != "" {
		return s.createAnotherOp(o, "core")
	}
	return nil
}

func (s *sim) changeAll() *operation { return s.changeAcme("core", "c@x.test", "password new") }

func (s *sim) deleteAcme() *operation {
	if o := s.acme(); o.ID != "" {
		return s.deleteOp(o)
	}
	return nil
}

// buryAcme deletes acme so that it can be restored.
func (s *sim) buryAcme() *operation {
	s.grace = 24 * time.Hour
	return s.deleteAcme()
}

// restoreAcme restores acme, which it has deleted before.
func (s *sim) restoreAcme() *operation {
	s.meanwhile(func() {
		s.runHooked(s.buryAcme(), 0, nil)
		s.sleep(2 * org.StaleAfter) // some names rest
	})
	return s.restoreOp(s.acme().ID, "")
}

// purgeAcme deletes acme for good, which it has deleted before.
func (s *sim) purgeAcme() *operation {
	s.meanwhile(func() { s.runHooked(s.buryAcme(), 0, nil) })
	return s.purgeOp(s.acme().ID)
}

// What the operations answer, if that is not as on active organizations.
var (
	onCore  = []string{"create", "create another", "rename", "everything"}
	changes = []string{"rename", "new spelling", "new password", "new email", "everything", "delete", "delete, to be restored"}
	anew    = answers("", "create of a name that is taken") // the name is free
	withNew = answers("", "login with the new email")
	taken   = answers(org.NameTaken, "create")
	another = answers(org.NameTaken, "create another")
	revoked = answers(org.TokenRevoked, append(changes, "me", "create another")...)
	unknown = join(answers(org.OrganizationNotFound, "get"), answers(org.WrongCredentials, "login"))

	noSuchID = answers(org.OrganizationNotFound, "suspend", "reactivate", "rename by an operator")
	// After a restoration that others have finished.
	isRestored = join(hidden, answers("", "login"), answers(org.OrganizationNotFound, "suspend", "reactivate"))
	isBuried   = join(isGone, noSuchID, answers("", "restore", "purge"))

	isEmpty       = join(anew, unknown)
	hidden        = join(revoked, unknown)
	isGone        = join(anew, hidden)
	isCore        = join(isGone, taken)
	isCoreAlready = join(isEmpty, taken, another, withNew)
	toBeCore      = join(isCore, answers("", "get")) // which finishes nothing
	isBusy        = join(answers(org.OrganizationBusy, append(changes, "rename by an operator")...), taken, another)
	hasNew        = join(withNew, answers(org.WrongCredentials, "login"), answers(org.EmailTaken, "create"))
	hasCore       = answers(org.NameUnusable, "create", "create another")
	coreTaken     = join(answers(org.NameTaken, onCore...), answers(org.EmailTaken, "new email"))
	coreUnusable  = answers(org.NameUnusable, onCore...)
)

func answers(reason org.Reason, operations ...string) map[string]org.Reason {
	m := map[string]org.Reason{}
	for _, op := range operations {
		m[op] = reason
	}
	return m
}

func join(all ...map[string]org.Reason) map[string]org.Reason {
	m := map[string]org.Reason{}
	for _, more := range all {
		maps.Copy(m, more)
	}
	return m
}

var sweepStates = []sweepState{
	{name: "empty", answers: join(isEmpty, noSuchID), set: func(*testing.T, *sim) {}},
	{name: "active", set: setActive},
	{name: "claimed", set: crashed("InsertClaims", (*sim).createCore), report: "2 removed"},
	{name: "created", stale: true, set: crashed("InsertOrganization", (*sim).createCore), report: "1 undone"},
	{name: "created with an admin", stale: true, set: crashed("InsertAdmin", (*sim).createCore), report: "1 undone"},
	{name: "created and named", stale: true, set: crashed("RenameCollection", (*sim).createCore), report: "1 undone"},
	{name: "claimed for an update", set: crashed("InsertClaims", (*sim).changeAll), report: "2 removed"},
	{name: "begun", answers: toBeCore, stale: true, set: crashed("ReplaceOrganization", (*sim).changeAll), report: "1 finished"},
	{name: "moved", answers: toBeCore, stale: true, set: crashed("RenameCollection", (*sim).changeAll), report: "1 finished"},
	{name: "moved, with a new admin", answers: join(isCoreAlready, answers("", "get")), stale: true, set: crashed("ReplaceAdmin", (*sim).changeAll), report: "1 finished"},
	{name: "moved, and another change of the admin", stale: true, report: "1 undone",
		set: then(crashed("RenameCollection", (*sim).changeAll), func(s *sim) {
			a := s.durable.admins[s.acme().Admins[0].AdminID]
			a.TokenVersion, a.Revision, a.Committed = a.TokenVersion+1, a.Revision+1, "9.9"
			s.durable.admins[a.ID] = a
		})},
	{name: "with a second organization", set: changedActive(func(s *sim) { s.runHooked(s.createAnotherOp(s.acme(), "dune"), 0, nil) })},
	{name: "deleting, with a second organization", stale: true, report: "1 finished",
		answers: join(isGone, noSuchID, answers("", "login", "login with white space"), answers(org.EmailTaken)),
		set: then(crashed("ReplaceOrganization", func(s *sim) *operation {
			s.meanwhile(func() { s.runHooked(s.createAnotherOp(s.acme(), "dune"), 0, nil) })
			return s.deleteOp(s.acme())
		}), func(*sim) {})},
	{name: "begun for the display name", stale: true, report: "1 finished",
		set: crashed("ReplaceOrganization", func(s *sim) *operation { return s.changeAcme("ACME", "c@x.test", "") }), answers: join(revoked, answers(org.WrongCredentials, "login"))},
	{name: "committed", answers: isCoreAlready, set: crashed("ReleaseClaims?", (*sim).changeAll), report: "2 removed"},
	{name: "deleting", answers: join(isGone, noSuchID), stale: true, set: crashed("ReplaceOrganization", (*sim).deleteAcme), report: "1 finished"},
	{name: "dropped", answers: join(isGone, noSuchID), stale: true, set: crashed("DropCollection", (*sim).deleteAcme), report: "1 finished"},
	{name: "released", answers: join(isGone, noSuchID), stale: true, set: crashed("ReleaseClaims", (*sim).deleteAcme), report: "1 finished"},
	{name: "upgraded", set: changedActive((*sim).downgrade), report: "2 repaired"},
	{name: "restored", set: changedActive((*sim).changeUUIDs), report: "2 repaired"},
	{name: "missing", set: changedActive(func(s *sim) { delete(s.durable.collections, "org_acme") }), report: "1 need attention", problems: "collection missing"},
	{name: "misnamed", answers: hasCore, set: changedActive(func(s *sim) { s.durable.renameCollection(org.Collection{Name: "org_acme"}, "org_core") }), report: "1 repaired"},
	{name: "stray", without: "1 need attention", set: changedActive(func(s *sim) { s.durable.make("org_core") }), report: "1 removed"},
	{name: "occupied", answers: coreUnusable, set: changedActive(func(s *sim) { s.durable.insert("org_core", tenantDocument{}) }), report: "1 need attention"},
	{name: "orphan", set: changedActive(func(s *sim) {
		s.durable.admins["9.9"] = org.Admin{ID: "9.9", OrganizationID: "9.8", Organizations: []string{"9.8"}, Email: "a@x.test"}
	}), report: "1 removed"},
	{name: "claimed just now", answers: coreTaken, set: justCrashed("InsertClaims", (*sim).createCore)},
	{name: "created just now", answers: coreTaken, set: justCrashed("RenameCollection", (*sim).createCore)},
	{name: "moved just now", answers: isBusy, set: justCrashed("RenameCollection", (*sim).changeAll)},
	{name: "deleting just now", answers: join(hidden, noSuchID), set: justCrashed("ReplaceOrganization", (*sim).deleteAcme)},
	{name: "created and filled", answers: coreUnusable, stale: true, report: "1 undone, 1 need attention",
		set: then(crashed("RenameCollection", (*sim).createCore), func(s *sim) { s.fill("org_core") })},
	{name: "begun and occupied", answers: coreUnusable, stale: true, report: "1 undone, 1 need attention",
		set: then(crashed("ReplaceOrganization", (*sim).changeAll), func(s *sim) { s.fill("org_core") })},
	{name: "begun, with a stray", answers: toBeCore, stale: true, report: "1 finished",
		set: then(crashed("ReplaceOrganization", (*sim).changeAll), func(s *sim) { s.durable.make("org_core") })},
	{name: "begun, without a collection", answers: toBeCore, stale: true, report: "1 finished",
		set: then(crashed("ReplaceOrganization", (*sim).changeAll), func(s *sim) { delete(s.durable.collections, "org_acme") })},
	{name: "moved and upgraded, filled twice", answers: join(isBusy, answers(org.OrganizationBusy, "create another")), stale: true, report: "1 repaired, 1 need attention", problems: "unfinished, unused claim",
		set: then(crashed("RenameCollection", (*sim).changeAll), func(s *sim) { s.downgrade(); s.fill("org_acme", "org_core") })},
	{name: "begun and upgraded, with a stray", stale: true, answers: toBeCore, report: "1 finished, 1 repaired",
		set: then(crashed("ReplaceOrganization", (*sim).changeAll), func(s *sim) { s.downgrade(); s.fill("org_acme"); s.durable.make("org_core") })},
	{name: "with a new collection", answers: coreTaken, set: justCrashed("CreateCollection", (*sim).createCore)},
	{name: "deleting and upgraded", stale: true, answers: join(isGone, noSuchID), report: "1 finished, 1 repaired",
		set: then(crashed("ReplaceOrganization", (*sim).deleteAcme), (*sim).downgrade)},
	{name: "misnamed and written", only: "full reconcile", report: "1 repaired", without: "2 need attention", problems: "foreign documents",
		set: changedActive(func(s *sim) {
			s.durable.renameCollection(org.Collection{Name: "org_acme"}, "org_core")
			s.fill("org_acme")
		})},
	{name: "moved and upgraded, to an earlier name, filled twice", only: "full reconcile", stale: true, report: "1 repaired, 1 need attention", problems: "unfinished, unused claim",
		set: then(crashed("RenameCollection", func(s *sim) *operation { return s.changeAcme("abba", "", "") }), func(s *sim) { s.downgrade(); s.fill("org_acme", "org_abba") })},
	{name: "swapped", only: "full reconcile", report: "2 need attention", set: changedActive(func(s *sim) {
		c := s.durable.collections
		c["org_acme"], c["org_bolt"] = c["org_bolt"], c["org_acme"]
	})},
	{name: "aside", report: "1 removed, 1 need attention",
		set: changedActive(func(s *sim) { s.durable.make("org_-stray-1"); s.fill("org_-stray-2") })},
	{name: "temporary", report: "1 removed", set: changedActive(func(s *sim) {
		s.durable.make(fmt.Sprintf("org_-new-%d-9.9", time.Now().Unix()))
		s.durable.make(fmt.Sprintf("org_-new-%d-9.8", time.Now().Add(2*org.StaleAfter).Unix()))
	})},
	{name: "orphan just now", set: changedActive(func(s *sim) {
		s.durable.admins["9.9"] = org.Admin{ID: "9.9", OrganizationID: "9.8", Organizations: []string{"9.8"}, Email: "e@x.test", UpdatedAt: time.Now().Add(2 * org.StaleAfter)}
	})},
	{name: "invited", set: changedActive(func(s *sim) {
		s.runHooked(s.verifyOp(s.confirmations[1]), 0, nil)
		s.invited("g0@x.test")
		s.invited("b@x.test")
	})},
	{name: "with members", set: changedActive(func(s *sim) { s.member("g0@x.test"); s.member("b@x.test") })},
	{name: "forgotten", set: changedActive(func(s *sim) { s.runHooked(s.forgotOp("a@x.test", 0), 0, nil) })},
	{name: "deleted", answers: isBuried, set: changedActive(func(s *sim) { s.runHooked(s.buryAcme(), 0, nil) })},
	{name: "burying", answers: isBuried, stale: true, set: crashed("ReplaceOrganization", (*sim).buryAcme), report: "1 finished"},
	{name: "burying, moved", answers: isBuried, stale: true, set: crashed("RenameCollection", (*sim).buryAcme), report: "1 finished"},
	{name: "burying, asleep", answers: isBuried, stale: true, set: crashed("ReplaceAdmin", (*sim).buryAcme), report: "1 finished"},
	{name: "buried, and a claim is left", answers: isBuried, report: "1 removed", set: changedActive(func(s *sim) {
		s.runHooked(s.buryAcme(), 0, nil)
		s.durable.claims["org_acme"] = org.Claim{ID: "org_acme", Owner: org.Owner{OrganizationID: s.acme().ID}}
	})},
	{name: "purging", answers: join(isGone, noSuchID, answers("", "purge")), stale: true, set: crashed("ReplaceOrganization", (*sim).purgeAcme), report: "1 finished"},
	{name: "purging, dropped", answers: join(isGone, noSuchID, answers("", "purge")), stale: true, set: crashed("DropCollection", (*sim).purgeAcme), report: "1 finished"},
	{name: "claimed for a restoration", answers: isBuried, set: crashed("InsertClaims", (*sim).restoreAcme), report: "1 removed"},
	{name: "restoring", answers: join(isRestored, answers(org.WrongCredentials, "login")), stale: true, set: crashed("ReplaceOrganization", (*sim).restoreAcme), report: "1 finished"},
	{name: "restoring, awake", answers: isRestored, stale: true, set: crashed("ReplaceAdmin", (*sim).restoreAcme), report: "1 finished"},
	{name: "restoring, moved", answers: isRestored, stale: true, set: crashed("RenameCollection", (*sim).restoreAcme), report: "1 finished"},
	{name: "restoring, and the email is taken", answers: join(isBuried, answers(org.EmailTaken, "restore")), stale: true, report: "1 undone",
		set: then(crashed("ReplaceOrganization", (*sim).restoreAcme), func(s *sim) { s.runHooked(s.createOp("dune", "a@x.test"), 0, nil) })},
	{name: "changed, with a key", answers: hasNew, set: crashed("FinishKey?", withKey(func(s *sim) *operation { return s.changeAcme("acme", "c@x.test", "password new") }))},
	{name: "renamed, with a key", answers: join(anew, taken, another, answers(org.OrganizationNotFound, "get")), set: crashed("FinishKey?", withKey(func(s *sim) *operation { return s.changeAcme("core", "", "") }))},
	{name: "new email, with a key", answers: join(hasNew, answers(org.WrongCredentials, "login with the new email")), set: crashed("FinishKey?", withKey(func(s *sim) *operation { return s.changeAcme("", "c@x.test", "") }))},
	{name: "begun, with a key", answers: toBeCore, stale: true, set: crashed("ReplaceOrganization", withKey((*sim).changeAll)), report: "1 finished"},
	{name: "claimed, with a key", set: crashed("InsertClaims", withKey((*sim).createCore)), report: "2 removed"},
	{name: "created, with a key", stale: true, set: crashed("InsertAdmin", withKey((*sim).createCore)), report: "1 undone"},
	{name: "deleting, with a key", answers: join(isGone, noSuchID), stale: true, set: crashed("ReplaceOrganization", withKey((*sim).deleteAcme)), report: "1 finished"},
	{name: "suspended, with a key", answers: hidden, set: crashed("FinishKey?", withKey(func(s *sim) *operation { return s.actOp(s.acme().ID, false) }))},
	{name: "suspended", answers: hidden, set: changedActive(func(s *sim) { s.toggleSuspension(s.acme().ID) })},
}

// withKey returns the operation with an idempotency key.
func withKey(op func(*sim) *operation) func(*sim) *operation {
	return func(s *sim) *operation { return s.withKey(op(s), nil) }
}

// sweepOperation is an operation. It is on acme if that exists.
type sweepOperation struct {
	name     string
	recovers bool       // it cleans up after itself
	simple   bool       // one state and one kind of server are enough
	reason   org.Reason // of the answer, if the organizations are active
	new      func(s *sim) *operation
}

var sweepOperations = []sweepOperation{
	{"repeat", true, false, "", func(s *sim) *operation {
		if len(s.keys) == 0 {
			return nil
		}
		return s.repeatOp(s.keys[0])
	}},
	{"create with a key", true, true, "", withKey((*sim).createCore)},
	{"everything, with a key", true, true, "", withKey((*sim).changeAll)},
	{"new email, with a key", true, true, "", withKey(func(s *sim) *operation { return s.changeAcme("", "c@x.test", "") })},
	{"delete with a key", true, true, "", withKey((*sim).deleteAcme)},
	{"create of a name that is taken, with a key", true, true, org.NameTaken, withKey(func(s *sim) *operation { return s.createOp("acme", "d@x.test") })},
	{"create", true, false, "", (*sim).createCore},
	{"create of a name that is taken", true, false, org.NameTaken, func(s *sim) *operation { return s.createOp("acme", "d@x.test") }},
	{"create of an email that is taken", true, true, org.EmailTaken, func(s *sim) *operation { return s.createOp("dune", "b@x.test") }},
	{"rename", true, false, "", func(s *sim) *operation { return s.changeAcme("core", "", "") }},
	{"rename to a name that is taken", true, true, org.NameTaken, func(s *sim) *operation { return s.changeAcme("bolt", "", "") }},
	{"new spelling", true, false, "", func(s *sim) *operation { return s.changeAcme("ACME", "", "") }},
	{"new password", true, false, "", func(s *sim) *operation { return s.changeAcme("", "", "password new") }},
	{"new email", true, false, "", func(s *sim) *operation { return s.changeAcme("", "c@x.test", "") }},
	{"new password, without the current one", true, true, org.WrongCurrentPassword, func(s *sim) *operation {
		password := "password new"
		return s.updateOp(s.acme(), org.UpdateRequest{Password: &password, CurrentPassword: &password})
	}},
	{"everything", true, false, "", (*sim).changeAll},
	{"delete", true, false, "", (*sim).deleteAcme},
	{"delete, to be restored", true, false, "", (*sim).buryAcme},
	{"restore", true, false, org.OrganizationNotFound, func(s *sim) *operation { return s.restoreOp(s.acme().ID, "") }},
	{"purge", true, false, org.OrganizationNotFound, func(s *sim) *operation { return s.purgeOp(s.acme().ID) }},
	{"rename by an operator", true, false, "", func(s *sim) *operation { return s.renameByOperatorOp(s.acme().ID, "echo") }},
	{"suspend", true, false, "", func(s *sim) *operation { return s.actOp(s.acme().ID, false) }},
	{"reactivate", true, true, "", func(s *sim) *operation { return s.actOp(s.acme().ID, true) }},
	{"login", false, false, "", func(s *sim) *operation { return s.login("a@x.test", s.knownPassword()) }},
	{"login with white space", false, true, "", func(s *sim) *operation { return s.login("\u00a0a@x.test ", s.knownPassword()) }},
	{"login with the new email", false, false, org.WrongCredentials, func(s *sim) *operation { return s.login("c@x.test", "password new") }},
	{"wrong login", false, true, org.WrongCredentials, func(s *sim) *operation { return s.login("a@x.test", "nobody's password") }},
	{"refresh", false, true, "", func(s *sim) *operation { return s.refresh(func(*org.Session) {}) }},
	{"second refresh", false, true, org.RefreshTokenInvalid, func(s *sim) *operation {
		return s.refresh(func(session *org.Session) { session.RefreshHash = "another" })
	}},
	{"refresh of a revoked session", false, true, org.RefreshTokenInvalid, func(s *sim) *operation { return s.refresh(func(session *org.Session) { session.TokenVersion-- }) }},
	{"refresh of an expired session", false, true, org.RefreshTokenInvalid, func(s *sim) *operation {
		return s.refresh(func(session *org.Session) { session.ExpiresAt = time.Now() })
	}},
	{"me", false, false, "", func(s *sim) *operation { return s.me(func(*org.Session) {}) }},
	{"me with another's session", false, true, org.TokenRevoked, func(s *sim) *operation {
		return s.me(func(session *org.Session) { session.AdminID = "another" })
	}},
	{"me with an expired session", false, true, org.TokenRevoked, func(s *sim) *operation {
		return s.me(func(session *org.Session) { session.ExpiresAt = time.Now() })
	}},
	{"members", false, true, "", func(s *sim) *operation {
		caller := s.caller(s.acme())
		return &operation{kind: "Members", run: func(ctx context.Context, service *org.Service) error {
			_, _, err := service.Members(ctx, caller, "", 10)
			return err
		}}
	}},
	{"create another", true, false, "", (*sim).addCore},
	{"finish a sign-up", true, true, "", func(s *sim) *operation { return s.finishSignUpOp("core", "d@x.test") }},
	{"finish a sign-up to a name that is taken", true, true, org.NameTaken, func(s *sim) *operation { return s.finishSignUpOp("bolt", "d@x.test") }},
	{"login to a name", false, true, "", func(s *sim) *operation {
		name := "acme"
		return s.loginOp(org.LoginRequest{Email: "a@x.test", Password: s.knownPassword(), OrganizationName: &name})
	}},
	{"login to another's name", false, true, org.WrongCredentials, func(s *sim) *operation {
		name := "bolt"
		return s.loginOp(org.LoginRequest{Email: "a@x.test", Password: s.knownPassword(), OrganizationName: &name})
	}},
	{"switch to another's name", false, true, org.OrganizationNotFound, func(s *sim) *operation { return s.switchOp(s.acme(), "bolt") }},
	{"switch", false, true, "", func(s *sim) *operation { return s.switchOp(s.acme(), "acme") }},
	{"memberships", false, true, "", func(s *sim) *operation {
		caller := s.caller(s.acme())
		return &operation{kind: "Memberships", run: func(ctx context.Context, service *org.Service) error {
			_, _, err := service.Memberships(ctx, caller, "", 10)
			return err
		}}
	}},
	{"invite", true, true, "", func(s *sim) *operation {
		return s.inviteOp(s.acme(), s.acme().Admins[0].AdminID, "g0@x.test", org.RoleMember)
	}},
	{"accept as a new admin", true, true, "", func(s *sim) *operation { return s.acceptOp(s.mails[0]) }},
	{"accept as an admin", true, true, "", func(s *sim) *operation { return s.acceptOp(s.mails[1]) }},
	{"withdraw", true, true, "", func(s *sim) *operation {
		return s.withdrawOp(s.acme(), s.acme().Admins[0].AdminID, s.acme().Invitations[0].ID)
	}},
	{"remove", true, true, "", func(s *sim) *operation {
		return s.removeOp(s.acme(), s.acme().Admins[0].AdminID, s.acme().Admins[1].AdminID)
	}},
	{"remove an admin of others", true, true, "", func(s *sim) *operation {
		return s.removeOp(s.acme(), s.acme().Admins[0].AdminID, s.acme().Admins[2].AdminID)
	}},
	{"leave", true, true, "", func(s *sim) *operation {
		id := s.acme().Admins[1].AdminID
		return s.removeOp(s.acme(), id, id)
	}},
	{"change of a role", true, true, "", func(s *sim) *operation {
		return s.changeRoleOp(s.acme(), s.acme().Admins[0].AdminID, s.acme().Admins[1].AdminID, org.RoleOwner)
	}},
	{"reset", true, true, "", func(s *sim) *operation { return s.resetOp(s.mails[0], "password new") }},
	{"forgot", false, true, "", func(s *sim) *operation { return s.forgotOp("a@x.test", 0) }},
	{"verify", false, true, "", func(s *sim) *operation { return s.verifyOp(s.confirmations[0]) }},
	{"resend", false, true, "", func(s *sim) *operation { return s.resendOp(s.acme(), s.acme().Admins[0].AdminID) }},
	{"get", false, false, "", func(s *sim) *operation { return s.getOp("acme") }},
	{"inspect", false, true, "", func(*sim) *operation {
		return &operation{kind: "Inspect", run: func(ctx context.Context, service *org.Service) error {
			_, err := service.Inspect(ctx)
			return err
		}}
	}},
	{"logout", false, true, "", func(s *sim) *operation {
		token := auth.NewOpaqueToken(auth.NewOpaqueID())
		return &operation{kind: "Logout", run: func(ctx context.Context, service *org.Service) error {
			return service.Logout(ctx, org.RefreshRequest{RefreshToken: token.Text()})
		}}
	}},
	{"ping", false, true, "", func(s *sim) *operation {
		return &operation{kind: "Ping", run: func(ctx context.Context, service *org.Service) error {
			_, err := service.Ping(ctx)
			return errors.Join(err, service.CheckClock(ctx))
		}}
	}},
	{"reconcile", false, false, "", func(s *sim) *operation { return s.reported(false) }},
	{"full reconcile", false, false, "", func(s *sim) *operation { return s.reported(true) }},
}

// simpleState has the state for the simple operations that are not on active.
var simpleState = map[string]string{
	"accept as a new admin": "invited", "accept as an admin": "invited", "withdraw": "invited",
	"remove": "with members", "remove an admin of others": "with members", "leave": "with members", "change of a role": "with members",
	"reset": "forgotten",
}

// knownPassword returns the password of acme.
func (s *sim) knownPassword() string {
	if m := s.models[s.acme().ID]; m != nil && m.password != "" {
		return m.password
	}
	return "nobody's password"
}

func (s *sim) login(email, password string) *operation {
	r := org.LoginRequest{Email: email, Password: password, ClientAddress: "192.0.2.1"}
	return &operation{kind: "Login", run: func(ctx context.Context, service *org.Service) error {
		_, err := service.Login(ctx, r)
		return err
	}}
}

// me returns a request with a session of acme that is changed before.
func (s *sim) me(change func(*org.Session)) *operation {
	if s.acme().ID == "" {
		return nil
	}
	caller := s.caller(s.acme())
	session := s.durable.sessions[caller.SessionID]
	change(&session)
	s.durable.sessions[session.ID] = session
	return &operation{kind: "Me", run: func(ctx context.Context, service *org.Service) error {
		_, _, err := service.Me(ctx, caller)
		return err
	}}
}

// refresh returns a refresh of a session of acme that is changed before.
func (s *sim) refresh(change func(*org.Session)) *operation {
	if s.acme().ID == "" {
		return nil
	}
	token := auth.NewOpaqueToken(auth.NewOpaqueID())
	session := s.durable.sessions[s.caller(s.acme()).SessionID]
	delete(s.durable.sessions, session.ID)
	session.ID, session.RefreshHash = token.SessionID(), token.Hash()
	change(&session)
	s.durable.sessions[session.ID] = session
	return &operation{kind: "Refresh", run: func(ctx context.Context, service *org.Service) error {
		_, err := service.Refresh(ctx, org.RefreshRequest{RefreshToken: token.Text()})
		return err
	}}
}

// reported returns a Reconcile. Its arguments are the report when it has ended.
func (s *sim) reported(full bool) *operation {
	op := &operation{kind: "Reconcile"}
	op.run = func(ctx context.Context, service *org.Service) error {
		r, err := service.Reconcile(ctx, full)
		var parts []string
		for i, list := range [][]org.Finding{r.Finished, r.Undone, r.Repaired, r.Removed, r.NeedsAttention} {
			if len(list) > 0 {
				parts = append(parts, fmt.Sprint(len(list), [...]string{" finished", " undone", " repaired", " removed", " need attention"}[i]))
			}
			for _, f := range list {
				if f.Kind == org.UnfinishedOperation && i == 4 && f.Error == "" {
					s.addProblem("report", "it does not say why %+v needs attention", f)
				}
				if f.Error == errDenied.Error() {
					err = errors.Join(err, errDenied)
				}
			}
		}
		op.args = strings.Join(parts, ", ")
		return err
	}
	return op
}

// mayFail reports whether the operation may hide that the call had the fate. It
// was answered as without a fault.
func (w sweep) mayFail(c *call, f fate, answer error) bool {
	if w.state.stale && f == denied {
		return true // of the old operation: it is logged
	}
	if answer == nil && simpleState[w.op.name] == "with members" && w.op.name != "change of a role" {
		return true // the record of who was removed is left to Reconcile
	}
	switch c.method {
	case "ForgetEvents", "TakeBackEvents", "Remember", "SessionsOf":
		return true // somebody waits a little longer
	case "ReleaseClaims", "RestClaims":
		return w.op.recovers && f == denied // of a change that is committed: it is logged
	case "FenceOrganizations":
		return f == denied // the change is committed, but old tokens may still be at work
	case "Admin", "Session":
		return errors.Is(answer, org.ErrUnauthenticated) || errors.Is(answer, org.ErrConflict) // refused without it
	case "Collections":
		return errors.Is(answer, org.ErrConflict) // the same
	case "ReplaceKey", "DeleteKey":
		return true // who repeats the request waits a little longer
	case "FinishKey":
		return strings.HasSuffix(c.args, " answered") // as above
	case "Send", "ReplaceTicket", "InsertTicket", "DeleteTicket", "DeleteSessionsOf", "DeleteSessionsSince":
		return true // what is left is mailed later, or has no right any more
	case "RenameCollection", "compare":
		return w.state.name == "misnamed" // it fails without the fault, too
	}
	return false
}

// TestSweep fails each call of each operation in turn, on every database: the
// call is not sent, is refused, is executed and its answer is lost, or is sent
// so late that others have taken the operation over. The
// operation must notice, and must answer what is true. After a repair, the
// operation has been carried out or not, but never in part. If it cleans up
// after itself, each later call fails, too.
func TestSweep(t *testing.T) {
	var failed atomic.Bool
	t.Run("all", func(t *testing.T) {
		for _, state := range sweepStates {
			t.Run(state.name, func(t *testing.T) {
				t.Parallel()
				for _, comparesUUIDs := range []bool{true, false} {
					w := sweep{comparesUUIDs: comparesUUIDs, state: state, repaired: map[string]sweepRun{}}
					w.begin(t)
					for _, op := range sweepOperations {
						if comparesUUIDs || op.recovers || op.name == "full reconcile" {
							w.op = op
							w.test(t)
						}
						if t.Failed() {
							failed.Store(true)
						}
						if t.Failed() || *simFirst && failed.Load() {
							return // one problem is enough to read
						}
					}
				}
			})
		}
	})
}

// test fails the calls of the operation.
func (w sweep) test(t *testing.T) {
	none := w
	none.op.new = func(*sim) *operation { return nil }
	idle := none.run(t, nil, false)
	if w.state.only != "" && w.state.only != w.op.name || w.op.simple && (w.state.name != cmp.Or(simpleState[w.op.name], "active") || !w.comparesUUIDs) {
		return
	}
	clean := w.run(t, nil, false)
	if !w.holds(t, nil, clean.problem(w, nil, clean, idle)) {
		return
	}
	for n, c := range clean.calls {
		for _, f := range []fate{unsent, denied, lost, sleepBefore} {
			if !f.possibleFor(c) || f == sleepBefore && (!w.op.recovers || !w.state.stale && w.state.name != "active") {
				continue
			}
			faults := map[int]fate{n + 1: f}
			first := w.run(t, faults, false)
			if !w.holds(t, faults, cmp.Or(first.problem(w, faults, clean, idle), first.unnoticed(w, n+1, f, clean, idle))) {
				return
			}
			if !w.op.recovers || w.state.name != "active" || f == unsent || f == sleepBefore {
				continue
			}
			for m := n + 2; m <= len(first.calls); m++ {
				faults := map[int]fate{n + 1: f, m: unsent}
				if !w.holds(t, faults, w.run(t, faults, false).problem(w, faults, clean, idle)) {
					return
				}
			}
		}
	}
}

// holds reports whether there is no problem. If there is one, it fails the test.
func (w sweep) holds(t *testing.T, faults map[int]fate, problem string) bool {
	if problem != "" {
		t.Errorf("%v, %v: %s\n%s", w, faults, problem, w.run(t, faults, true).trace)
	}
	return problem == ""
}

// reason returns that of the answer.
func (w sweep) reason() org.Reason {
	if reason, ok := w.state.answers[w.op.name]; ok {
		return reason
	}
	return w.op.reason
}

func (w sweep) report() string {
	if !w.comparesUUIDs {
		return w.state.without
	}
	return w.state.report
}

func reasonOf(err error) org.Reason {
	if e, ok := errors.AsType[*org.Error](err); ok {
		return e.Reason
	}
	return ""
}

// isWhole reports whether ErrUnavailable tells programs and people what it is.
func isWhole(err error) bool {
	var e *org.Error
	return errors.As(err, &e) && e.Message != "" &&
		(e.Reason == org.DatabaseUnavailable || e.Reason == org.ChangePending && e.RetryAfter == org.StaleAfter && strings.HasPrefix(e.Message, "the change took too long"))
}

// sameAnswer reports whether two answers are of the same kind and reason.
func sameAnswer(a, b error) bool {
	var x, y *org.Error
	if errors.As(a, &x) && errors.As(b, &y) {
		return x.Kind == y.Kind && x.Reason == y.Reason
	}
	return (a == nil) == (b == nil) && errors.Is(a, errDenied) == errors.Is(b, errDenied)
}

// problem returns what is wrong after the run, or nothing. The run clean had no
// fault, and in idle there was no operation.
func (r sweepRun) problem(w sweep, faults map[int]fate, clean, idle sweepRun) string {
	for _, p := range r.problems {
		return p.kind + ": " + p.text
	}
	happened := slices.Collect(maps.Values(faults))
	refused, slept := slices.Contains(happened, denied), slices.Contains(happened, sleepBefore)
	failed := errors.Is(r.err, org.ErrUnavailable) || errors.Is(r.err, errDenied) || slept && r.err != nil
	switch {
	case w.state.stale && refused:
		return "" // the old operation may be undone, or be in the way
	case slept && clean.err != nil:
		return "" // what was in the way may be gone
	case w.state.name == "missing" && refused, w.state.name == "stray" && !w.comparesUUIDs && (w.op.name == "create" || w.op.name == "create another"):
		return "" // more was repaired
	case !failed && !sameAnswer(r.err, clean.err):
		return fmt.Sprintf("answered %v; without a fault %v", r.err, clean.err)
	case r.final != clean.final && (r.final != idle.final || !failed):
		return fmt.Sprintf("answered %v, and after the repair there is\n%s; want\n%s or\n%s", r.err, r.final, clean.final, idle.final)
	case errors.Is(r.err, errDenied) && !errors.Is(r.err, org.ErrUnavailable) && w.op.recovers && r.final != idle.final:
		return fmt.Sprintf("answered %v, but changed to %s", r.err, r.final)
	case strings.Contains(r.ended, "unfinished true") && (strings.Contains(r.report, "finished") || strings.Contains(r.report, "undone")):
		return fmt.Sprintf("reported %q, but there is\n%s", r.report, r.ended)
	case w.state.name == "active" && w.comparesUUIDs && w.op.recovers && errors.Is(r.err, errDenied) && !errors.Is(r.err, org.ErrUnavailable) && r.ended != idle.ended:
		return fmt.Sprintf("answered %v, and left\n%s", r.err, r.ended)
	case errors.Is(r.err, org.ErrUnavailable) && !isWhole(r.err):
		return fmt.Sprintf("answered %#v", r.err)
	case errors.Is(r.err, org.ErrUnavailable) && !w.state.stale && r.final == clean.final && clean.final != idle.final && !strings.Contains(r.err.Error(), "will be finished or undone"):
		return fmt.Sprintf("answered %v, but done later", r.err)
	case len(faults) == 0 && w.comparesUUIDs && reasonOf(r.err) != w.reason():
		return fmt.Sprintf("answered %v; want the reason %q", r.err, w.reason())
	case len(faults) == 0 && w.op.name == "full reconcile" && r.report != w.report() && (w.comparesUUIDs || w.state.without != ""):
		return fmt.Sprintf("reported %q; want %q", r.report, w.report())
	}
	return ""
}

// unnoticed returns how the answer hides that call n, and no other one, had the
// fate f, or nothing.
func (r sweepRun) unnoticed(w sweep, n int, f fate, clean, idle sweepRun) string {
	if n > len(r.calls) {
		return fmt.Sprintf("call %d is never made; the calls are\n%s\nand without the fault\n%s", n, texts(r.calls), texts(clean.calls))
	}
	c := r.calls[n-1]
	own := w.state.name == "active" && w.comparesUUIDs && w.op.recovers && clean.err == nil && f != sleepBefore && !w.mayFail(c, f, nil)
	switch {
	case own && r.ended != clean.ended && r.ended != idle.ended:
		return fmt.Sprintf("answered %v, and left\n%s; want\n%s or\n%s", r.err, r.ended, clean.ended, idle.ended)
	case own && r.err != nil && r.ended == clean.ended && clean.ended != idle.ended && c.method != "InsertSession" && c.method != "UseOrganization": // a login is missing
		return fmt.Sprintf("answered %v, but did it", r.err)
	case f == sleepBefore || !sameAnswer(r.err, clean.err) || w.mayFail(c, f, r.err):
		return ""
	case !w.op.recovers && !w.state.stale, slices.Equal(texts(r.calls[n:]), texts(clean.calls[n:])):
		return fmt.Sprintf("call %d, %v, fails unnoticed", n, c)
	case clean.clean && r.now != clean.now:
		return fmt.Sprintf("answered %v, but there is\n%s; want\n%s", r.err, r.now, clean.now)
	}
	return ""
}

func texts(calls []*call) (texts []string) {
	for _, c := range calls {
		texts = append(texts, c.String())
	}
	return texts
}
