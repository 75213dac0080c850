// Package org is the domain: organizations, their admins, their names, and
// the lifecycle in which no crash, race or rename loses, leaks or strands a
// tenant. It knows neither the database's driver nor HTTP nor AWS.
//
// # The lifecycle
//
// An organization is a record, the admins who log in to it, a collection, and
// a claim on each name that must be unique: its collection's and its admins'
// email addresses. A change touches several of them. The database promises
// that one command on one document is atomic, and nothing more is used:
// renaming and dropping a collection can't be part of a transaction.
//
// What must hold when nothing is under way: an active organization has exactly
// one collection, its admins and the claims on both; none of these is without
// an organization; no document of a tenant is lost, doubled or in another
// collection; a success that was answered stays. An error other than
// ErrUnavailable says that nothing was changed. ErrUnavailable leaves open
// whether the change is made, but it is made wholly or not at all.
//
// Three rules bring this about.
//
// The journal comes first. An operation claims the names that it wants, writes
// down on the organization's record what it will do, does it, and commits with
// one more write of the record. A claim is a document whose id is the name, so
// inserting it decides a race. While a journal stands on the record no other
// operation begins, and anybody can finish this one.
//
// The revision decides. Every write of a record is conditional on the revision
// that was read, and counts it up. Whoever takes an operation over begins with
// such a write, so that whoever had it before can't commit. Claims and admins
// carry the revision at which they were written: a claim is released only
// below the revision of a record that does not use it, and an admin is changed
// only from a lower revision to a higher one.
//
// A collection is known by its UUID, which it keeps when it is renamed. The
// server compares it in each command to rename or drop a collection, so that
// the command can't touch another one of the same name, whenever it arrives. A
// new collection is made under a name that only its operation has and then
// renamed: a rename fails where a collection stands, so nobody begins with
// what others have written.
//
// # The operations
//
// Each step may be done again without harm. C marks the commit.
//
//	create                             a crash after it leaves           and then
//	1 claim name and email             claims that nobody uses           they are released
//	2 record; unnamed collection       a creation without a commit       it is undone
//	3 admin                            the same                          it is undone
//	4 name the collection              the same                          it is undone
//	5 record active               C    nothing to do
//
//	update
//	1 claim new name and email         claims that nobody uses           they are released
//	2 record: journal                  an organization of the old name   3 to 6 are done
//	3 rename the collection            the same, its collection moved    4 to 6 are done
//	4 admin's email and password       the same                          5 and 6 are done
//	5 record changed              C    claims on what it was called      they are released
//	6 release the old claims           nothing to do
//
//	delete
//	1 record: deleting            C    an organization nobody can reach  2 to 4 are done
//	2 collection, admins, sessions     the same                          2 to 4 are done
//	3 release the claims               the same                          4 is done
//	4 delete the record                nothing to do
//
// Undoing a creation is deleting it, except that a collection with documents
// stays: nobody can have written them for an organization that never became
// active. Once its journal is written an update can be refused only at its
// third step, when it is known that the collection has not moved, such as when
// one with documents stands under the new name. Then it is undone.
//
// An operation of which a command fails does at once what others would do
// later: it reads the record, and if its journal is there takes the operation
// over and finishes it. If it is not, a write of the record keeps it from
// arriving late.
//
// # Commands that come late, twice, or from a process that slept
//
//	command                   what makes it harmless
//	insert claims             the record does not use them: they are released once stale
//	replace, delete a claim   only the claim that was seen
//	release claims            only below a revision whose record did not use them
//	insert organization       without a commit nobody sees it: it is undone
//	replace organization      only the revision and status that were seen
//	delete organization       only the revision that was seen
//	insert admin              no record has it as a member: Reconcile removes it
//	update admin              only from a lower revision
//	delete admins, sessions   only of an organization that is being deleted for good
//	create collection         a name that only its operation has: it is dropped once stale
//	drop collection           only the collection of the UUID
//	rename collection         only the collection of the UUID, so it can but put an
//	                          organization's own under a name that it wanted before.
//	                          Updates and deletions find it there, others are refused
//	                          that name, and Reconcile puts it back; if the tenant's
//	                          application has made the old name again, a person must
//
// MongoDB compares UUIDs from version 6.0 on. For older servers the store
// compares before it sends the command, and names that are given up rest for
// StaleAfter before another organization may have them: no such command must
// arrive later than that, nor a process sleep between the two.
//
// # Time
//
// Others leave an operation alone until StaleAfter by their clocks. It gives
// its collection a name only in the first half of that by its own, counted from
// when it began or was taken over, so two clocks may differ by twice MaxSkew.
// CheckClock holds a clock against the database's wherever Reconcile is run; a
// request that meets a stale operation trusts its own. What is taken over too
// early fails, and is finished by whoever has it.
//
// # Repair
//
// A full run of Reconcile compares everything in the database with everything
// else, twice, records before collections. What it finds both times and nobody
// works on it repairs, if that can't hurt anybody, and reports otherwise.
//
// An organization whose UUID nothing in the database has, because it was
// restored from a backup or written by a version that kept none, has the
// collection of its name, or of the one in its journal, as long as it has the
// claim on it and no other organization knows the collection. The UUID is
// written down before anything is done. If both are there and have documents,
// a person must choose.
package org
