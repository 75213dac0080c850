// Package org is the domain: organizations, their admins, their names, and
// the lifecycle in which no crash, race or rename loses, leaks or strands a
// tenant. It knows neither the database's driver nor HTTP nor AWS.
//
// # The lifecycle
//
// An organization is a record, the admins who log in to it, a collection, and
// a claim on each name that must be unique: its collection's and its admins'
// email addresses. A change touches several of them, the database promises
// that one command on one document is atomic, and nothing more is used:
// renaming and dropping a collection can't be part of a transaction.
//
// What must always hold, once everybody is at rest: an active organization
// has exactly one collection, its admins and the claims on both; nothing of
// these is without an organization; no document of a tenant is lost, doubled
// or elsewhere; a success that was answered stays. An error other than
// ErrUnavailable says that nothing was changed. ErrUnavailable leaves open
// whether the change is made, but it is made wholly or not at all.
//
// Three rules bring this about.
//
// Claim first. A claim is a document whose id is the name. Inserting it is
// what decides a race, so nothing is created or moved under a name before.
// Every claim says whose it is, of which operation, and which revision the
// organization had then.
//
// Write down what will be done before doing it. The operation stands on the
// organization's record as a journal: enough for anybody to finish or undo it.
// While it stands there no other change of the organization begins.
//
// Change the record only at the revision that was read. Every write of a
// record is conditional on its revision and counts it up. So one of two
// changes that begin at once finds another revision and is told of a conflict,
// and whoever takes an operation over has fenced the one before it out: that
// one's commit can't succeed any more.
//
// # The operations
//
// Each step may be done again without harm. C marks the commit, the one write
// after which the change is made.
//
//	create                     a crash right after it leaves        and then
//	1 claim name, email        claims that nobody uses              they are released
//	2 record, provisioning     a creation that never committed      it is undone
//	3 admin                    the same                             it is undone
//	4 collection               the same                             it is undone
//	5 record active        C   nothing to do
//
//	update                     a crash right after it leaves        and then
//	1 claim new name, email    claims that nobody uses              they are released
//	2 record: journal          an organization of the old name      3 to 6 are done
//	3 rename the collection    the same, its collection moved       4 to 6 are done
//	4 admin's email, password  the same                             5 and 6 are done
//	5 record changed       C   claims on what it was called         they are released
//	6 release the old claims   nothing to do
//
//	delete                     a crash right after it leaves        and then
//	1 record: deleting     C   an organization nobody can reach     2 to 5 are done
//	2 drop the collection      the same                             3 to 5 are done
//	3 admins and sessions      the same                             4 and 5 are done
//	4 release the claims       the same                             5 is done
//	5 delete the record        nothing to do
//
// Undoing a creation is deleting it, but for a collection that has documents:
// nobody can have written documents for an organization that never became
// active, so they are somebody else's and stay. For the same reason an empty
// collection that stands where a new one is to be is used, and one that is
// not empty makes the name unusable. An update whose new name turns out to be
// unusable so is rolled back: collection, record, claims, in this order.
//
// If a command fails, the operation itself looks at once, for a moment, how
// far it has come, and finishes or undoes what it can (Service.recover). This
// covers a command that was carried out and whose answer was lost: the record
// says which operation was committed last.
//
// # Repair
//
// Whatever rests untouched for StaleAfter is taken over by whoever comes
// next: a request that touches the organization, a creation or rename that
// wants one of its claims, or Reconcile on its schedule. Unfinished operations
// are found by the journal. Claims and admins that belong to nobody are found
// by reading everything, which a full run of Reconcile does. It also drops
// collections that are empty and nobody's: a command to make one may arrive
// after the creation that sent it was undone.
//
// A repairer can't hit a live operation: it acts only on what is older than
// StaleAfter, while an operation begins no step on a name after half of that
// (Service.lease), and the platform ends a function long before. It can't hit
// the winner of a race, since it acts by id: on the record at the revision
// that it read, on admins and claims of the organization's id, and on a
// collection only after it has seen that the claim on the name is the
// organization's own. Releasing an unused claim of an organization that
// exists counts up the organization's revision first, so that an operation
// which took the claim, and slept, can't write its journal any more.
//
// Two repairers at once: taking an operation over is a conditional write, so
// one of them fails and leaves. If the winner dies, the next one takes over
// after another StaleAfter, and does again what was done.
//
// A process that wakes after its operation was taken over finds its lease
// over before the next step on a name, and another revision at the next write
// of the record. What it may still do is harmless: an admin of an organization
// that is gone is removed later; an update of an admin applies only above the
// token version that is there. A claim that it releases must still carry its
// operation, or be older than the revision at which it began; one that was
// taken again meanwhile, even by its own organization, is neither.
//
// One assumption remains. The database can't make renameCollection or drop
// depend on a claim, so a process that is suspended between looking at the
// clock and sending such a command, for more than half of StaleAfter, and
// that then goes on, could act on a name that is somebody else's by then.
// Lambda ends a function at its time limit, which is below StaleAfter for all
// of them, and the local gateway does the same.
package org
