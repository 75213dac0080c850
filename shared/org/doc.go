// Package org is the domain: organizations, their admins, their names, and
// the lifecycle in which no crash, race or rename loses, leaks or strands a
// tenant. It depends neither on the database's driver nor on HTTP nor on AWS.
//
// # The lifecycle
//
// An organization consists of a record, which lists its members, a collection,
// and a claim on the name of the collection, which must be unique. An admin is a
// person who logs in, and consists of a record, which lists the organizations that
// list the admin, and a claim on the email address. One change touches several of
// them. The lifecycle relies on the atomicity of one command on one document and on
// nothing more, because MongoDB can't rename or drop a collection in a transaction.
//
// These invariants hold whenever no operation is under way. An active
// organization has exactly one collection, its admins, and the claims on both.
// No collection, admin or claim is without an organization. No document of a
// tenant is lost, duplicated or in another collection. A change that was
// answered with success is never lost. An error other than ErrUnavailable means
// that nothing was changed. After ErrUnavailable the change may or may not be
// made, but never in part.
//
// Three rules keep the invariants.
//
// The journal comes first. An operation claims the names that it needs, writes
// what it will do to the organization's record, does it, and commits with one
// more write of the record. A claim is a document whose id is the name, so that
// its insertion decides a race. As long as there is a journal on the record, no
// other operation begins and any process can finish this one.
//
// The revision decides. Every write of a record, an organization's or an admin's,
// is conditional on the revision that was read, and increments it. To take an
// operation over is such a write, so that the process that worked on it before
// can't commit. A claim holds the revision of its owner's record when it was made,
// and is released only below the revision of a record that does not use it.
//
// A collection is identified by its UUID, which it keeps when it is renamed. The
// server compares the UUID in every command that renames or drops a collection,
// so that the command can't change another collection of the same name, no
// matter when it arrives. A new collection is made under a name that only its
// operation uses, and then renamed. A rename fails if a collection of the new
// name exists, so that no organization begins with documents of somebody else.
//
// # The operations
//
// Every step can be repeated without harm. C marks the commit.
//
//	create                             a crash after it leaves           and then
//	1 claim name and email             claims that nobody uses           they are released
//	2 record; unnamed collection       a creation without a commit       it is undone
//	3 admin, or the organization on
//	  the admin's record               the same                          it is undone
//	4 name the collection              the same                          it is undone
//	5 record active               C    an email that nothing was mailed
//	                                   to                                it is mailed
//
//	update
//	1 claim new name and email         claims that nobody uses           they are released
//	2 record: journal                  an organization of the old name   3 to 6 are done
//	3 rename the collection            the same, its collection moved    4 to 6 are done
//	4 admin's email and password       the same                          5 and 6 are done
//	5 record changed              C    claims on what it was called      they are released
//	6 release the old claims, fence
//	  the admin's other organizations  nothing to do
//
//	email or password alone
//	1 claim new email                  claims that nobody uses           they are released
//	2 admin's record changed      C    a claim on the old email; nothing
//	                                   was mailed to the new one         it is released; mailed
//	3 fence the organizations,
//	  release the old claim            nothing to do
//
//	verification of an email
//	1 admin's record changed      C    a ticket for nothing              it expires
//
//	delete
//	1 record: deleting            C    an organization nobody can reach  2 to 4 are done
//	2 collection, sessions, admins
//	  who have no other organization   the same                          2 to 4 are done
//	3 release the claim; the others
//	  leave it                         the same                          3 and 4 are done
//	4 delete the record, release
//	  claims of admins who are gone    such a claim                      it is released
//
//	delete, to be restored
//	1 claim a name of its own          a claim that nobody uses          it is released
//	2 record: deleting, journal   C    an organization nobody can reach  3 and 4 are done
//	3 rename the collection; admins
//	  whom no other one lists sleep    the same                          3 and 4 are done
//	4 record: deleted                  claims on what it was called      they are released
//
//	restore
//	1 claim the name                   a claim that nobody uses          it is released
//	2 record: journal                  a deleted organization            3 to 5 are done
//	3 claim the emails, wake admins    the same, and admins awake        3 to 5 are done
//	4 rename the collection            the same, its collection moved    5 is done
//	5 record: active              C    a claim on the name of 1 above    it is released
//
//	delete for good, by an operator or once the grace is over
//	1 record: deleting            C    a deleted organization that
//	                                   nobody can restore                2 and 3 are done
//	2 receipt                          the same                          3 is done
//	3 2 to 4 of delete
//
//	invitation, its end, or a role
//	1 the ticket of an invitation      a ticket for nothing              it is deleted
//	2 record changed              C    an invitation that is not mailed  it is mailed
//
//	acceptance
//	1 claim the email of a new admin   a claim that nobody uses          it is released
//	2 admin, or the organization on
//	  the admin's record               what no organization lists        it is removed
//	3 record: a member more, the
//	  invitation no more          C    a ticket for nothing              it expires
//
//	removal, or leaving
//	1 record: the member no more  C    the admin's record still has the
//	                                   organization                      it is taken off
//	2 sessions; the admin's record,
//	  or the admin                     nothing to do
//
//	suspension by an operator, or its end
//	1 record: status, history     C    sessions of no use                they expire
//	2 of a suspension: sessions        nothing to do
//
// A creation is undone in the same way as an organization is deleted, except that
// a collection with documents stays, because they can't belong to an organization
// that never became active. After its journal is written, an update can fail at
// two steps, and is then undone. At the third, if the collection was certainly not
// renamed, for example because a collection with documents has the new name. At the
// fourth, if another request has changed the admin meanwhile, or has got the email
// because the operation was stale. Then the journal says so, and the collection gets
// its name back.
//
// The admin's list comes first and ends last: it has an organization before that
// lists the admin, and until it no longer does. What only the admin's list has gives
// no right. So an admin is deleted only if the list is empty but for the organization
// that is being deleted, or that was fenced and does not list the admin. Who takes an
// organization from the list reads the admin, fences the organization, and then reads
// that. An acceptance reads the organization and then changes the admin. So either the
// one that takes it off finds that the admin has changed, or the acceptance that the
// organization has.
//
// Roles and invitations stand on the organization's record, so that a change of them is
// one write, whoever tries another one at the same time. What makes a ticket valid is
// elsewhere, too: an invitation the record of the organization, a new password the
// version of the admin's tokens, the verification of an email the email on the admin's
// record. A ticket to verify an email is inserted before the sign-up or the change that
// gives it to the admin, and mailed after that. If an acceptance fails after its second
// step, the email stays verified, because the mail has arrived. So such a ticket is used once
// because what it changes is changed once, and one that is left has no right. The ticket of a
// sign-up reserves nothing: it is the right to create an organization of that name, by who
// gets the mails to the email and sets or proves the password, and what makes it happen once
// is the claim on the name. It is deleted after that. If that fails, or somebody uses it
// twice at once, it can create the organization again when the first one has another name
// or is gone, within its day, and a retry after a crash may find the name taken by itself
// until that is undone. The sessions that somebody had as a
// member are deleted when the person is removed, and before the person becomes one
// again, since the removal may have crashed.
//
// Where a deleted organization can be restored for a while, a deletion is a rename of its
// collection, to a name that nobody else knows, after which the organization lives no more. Its
// record keeps the members, and theirs keep it, so that all comes back with the same ids. A member
// whom no other organization lists, that lives, is asleep: without the claim on the email, which
// somebody else may have then, and found by nobody who looks for that. Who puts an admin to sleep
// does what removes one whom no organization lists. A restoration claims the name and the emails
// again, and renames the collection back. Who can't be woken is no member of it any more, and it is
// undone if no owner can. So an organization that lives lists nobody who is asleep. Here an id does
// come again, so every command of both is harmless to what is restored later: sessions, for
// example, are deleted by the latest act at their login, and a restoration is a later act.
//
// An operator's act is one write of the record that keeps a journal, so that a change under
// way goes on. A session has the id of the act that was the latest one at the login: so none
// from before a suspension is good after it, whenever it was inserted. What is done before is
// written once more, and nothing that was read after a lease or another operator's act, because the operator
// may have been told the opposite meanwhile.
//
// The version of an admin's tokens is on its record, and that of the members on the
// organization's. A request reads both at once, so that the admin may be older. A
// request that changes the organization reads the admin once more. If its version
// changes after that, the fence at the end of that change makes the write fail. So
// when a new password is answered, no request with an old token begins a change any
// more, whether it sleeps or not. What it has written a journal for is carried out. If
// the process crashes before the fence, nothing was answered, and there is none.
//
// If a command of an operation fails, the operation itself does at once what
// others would do later. It reads the record. If its journal is there, it takes
// the operation over and finishes it. If not, it writes the record once, so that
// the journal can't arrive late.
//
// # Requests that are repeated
//
// A request with an idempotency key inserts the key, with the id of its operation, before it
// reads anything that it changes. The write that commits the operation puts its id and that of the
// key on the record, as an operator's act does, and who overwrites or deletes them writes to the key, before that, what the request came
// to. So the record or the key says whether an operation of the key is committed. Who finds
// a key without an outcome, whose process is stale or has given up, first takes the key over. Then it
// finishes what is stale, writes the records that the operation depends on unless they say that it is committed, and
// reads the key last. An operation that
// is not committed by then never will be: what it reads after the key was stale is of no use
// to it (newOperation), and what it has read before has changed. Then a new operation is tried, whose id the
// key has, too. A creation has no record to write: it ends at its lease. What comes after a commit, such as a
// fence, comes before the answer to a repetition, too. An admin who is deleted takes along
// what the record says of a change of nothing else, which nobody can ask for again.
//
// # Commands that come late, twice, or from a process that slept
//
//	command                   what makes it harmless
//	insert claims             the record does not use them: they are released once stale
//	replace, delete a claim   only the claim that was seen
//	release claims            only below a revision whose record did not use them
//	insert organization       clients don't see it before a commit: it is undone
//	replace organization      only the revision and status that were seen
//	delete organization       only the revision that was seen
//	fence organization        an operation under way is taken over, and goes on
//	insert admin              no record lists the admin: Reconcile removes it
//	replace admin             only the revision that was seen
//	delete admins             only those who have no organization but one that is being
//	                          deleted for good
//	delete sessions           only of such an organization, or of logins before an act of an
//	                          operator, as suspensions and restorations are
//	leave organization        only such an organization, whose id never comes again
//	insert key                it has the id of an operation that is never committed
//	replace, delete key       only the key that was seen, unless it has an outcome
//	finish key                a commit is for ever; only the key that has that operation
//	insert receipt            only if there is none of the organization
//	insert, replace ticket    what it is for decides whether it is valid
//	delete ticket             it was used, or is for nothing
//	use organization          a login may be for another organization of the admin
//	create collection         the name is its operation's own: it is dropped once stale
//	drop collection           only the collection of the UUID
//	rename collection         only the collection of the UUID: at worst an organization's
//	                          own collection gets a name that the organization wanted
//	                          before. Updates and deletions find it there, others can't
//	                          use that name, and Reconcile renames it back. What the
//	                          tenant's application has written under its name by then is
//	                          set aside for a person
//
// MongoDB compares UUIDs from version 6.0 on. For older servers the store
// compares them before it sends the command, and names that are given up rest
// for StaleAfter before another organization may have them. There the lifecycle
// relies on two things: no such command arrives later than that, and no process
// sleeps between the comparison and the command. And if an update is undone at its
// fourth step, and the tenant's application has written under the old name just
// before, then the collection keeps the new name until a person looks at both.
//
// # Time
//
// Other processes take an operation over only StaleAfter after it was last
// touched, by their clocks. The operation renames its collection only in the
// first half of that time, by its own clock. So two clocks may differ by twice
// MaxSkew. Where Reconcile runs, CheckClock compares the clock with the
// database's. A request that finds a stale operation trusts its own clock. If
// an operation is taken over too early, the process that began it fails, and the
// other one finishes it.
//
// # Older versions
//
// Older versions gave the claims to emails to the organizations, listed them on
// their records, and kept a copy of the version of an admin's tokens there. A change
// of such an email first gives the claim to the admin (adopt). Journals of older
// versions are carried out with the claims that they have. Migrate does the same for
// everybody else, with the same conditional writes, and leaves an organization whose
// operation is under way to its next run; so a crash leaves nothing but less to do.
// Older functions know nothing of verified emails, and what they write forgets that one
// is. They tell no key: if one of them writes a record after a crash, the request of the key may be
// done again. Version 1.0.0 takes all tokens for revoked where it has done so, and UpdateAdmin of
// that version doesn't look whether it matched an admin. So Reconcile begins when no
// function of that version runs any more, and repeats what is finished.
//
// # Repair
//
// A full run of Reconcile inspects the whole database twice, records before
// collections. An inconsistency that it finds both times, and that no operation
// is working on, it repairs if the repair can't harm anybody. Others it reports.
//
// It may be that no collection has the UUID on a record, because the database was
// restored from a backup, or because a version that stored no UUIDs wrote the
// record. Then the organization's collection is the one that has its name or the
// name in its journal, provided that the organization has the claim on that name
// and no record has that collection's UUID. The UUID is written to the record
// before anything else is done. If both collections exist and have documents, a
// person must decide.
package org
