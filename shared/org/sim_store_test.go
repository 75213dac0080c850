package org_test

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
	"time"

	"orgservice/shared/org"
)

// callKind is the kind of a call. The fates that a call can have depend on it.
type callKind int

const (
	read          callKind = iota
	listing                // a read of a node's local state, whatever the read concern
	write                  // of documents; the driver retries it with the same number, so it is executed once
	catalogChange          // of the catalog; it may be executed twice
	operationEnd           // no command: the operation has ended
)

// call is a command that waits for the scheduler.
type call struct {
	op      *operation
	method  string
	args    string
	kind    callKind
	ctx     context.Context
	run     func(*state) (any, error)
	reply   chan reply
	delayed bool // the process slept before it sent the command
}

func (c *call) String() string { return c.method + "(" + c.args + ")" }

type reply struct {
	value   any
	err     error
	crashed bool
}

// handle is the org.Store of one operation. Every call waits until the
// scheduler chooses it and its fate.
type handle struct {
	sim *sim
	op  *operation
	ids int
}

var _ org.Store = (*handle)(nil)

// do submits a command and waits for the reply. If the process crashes, do does
// not return.
func do[T any](ctx context.Context, h *handle, method string, kind callKind, args string, run func(*state) (T, error)) (T, error) {
	c := &call{op: h.op, method: method, args: args, kind: kind, ctx: ctx, reply: make(chan reply, 1)}
	c.run = func(s *state) (any, error) { return run(s) }
	if !h.sim.submit(c) {
		runtime.Goexit()
	}
	r := <-c.reply
	if r.crashed {
		runtime.Goexit()
	}
	value, _ := r.value.(T)
	return value, r.err
}

func (h *handle) write(ctx context.Context, method, args string, run func(*state) error) error {
	_, err := do(ctx, h, method, write, args, func(s *state) (any, error) { return nil, run(s) })
	return err
}

func (h *handle) changeCatalog(ctx context.Context, method, args string, run func(*state) error) error {
	_, err := do(ctx, h, method, catalogChange, args, func(s *state) (any, error) { return nil, run(s) })
	return err
}

// NewID returns an id that holds the number of the operation.
func (h *handle) NewID() string {
	h.ids++
	return fmt.Sprintf("%d.%d", h.op.n, h.ids)
}

// operationOf returns the number of the operation that made the id.
func operationOf(id string) (n int) {
	fmt.Sscanf(id, "%d.", &n)
	return n
}

func (h *handle) InsertClaims(ctx context.Context, claims []org.Claim) (string, error) {
	claims = slices.Clone(claims)
	args := make([]string, len(claims))
	for i, c := range claims {
		args[i] = claimText(c)
	}
	return do(ctx, h, "InsertClaims", write, strings.Join(args, ", "), func(s *state) (string, error) { return s.insertClaims(claims) })
}

func claimText(c org.Claim) string {
	text := fmt.Sprintf("%s of %s at %d", c.ID, cmp.Or(c.AdminID, c.OrganizationID), c.Revision)
	if !c.RestingSince.IsZero() {
		text += " resting"
	}
	return text
}

func (h *handle) Claim(ctx context.Context, id string) (org.Claim, error) {
	return do(ctx, h, "Claim", read, id, func(s *state) (org.Claim, error) { return s.claim(id) })
}

func (h *handle) Claims(ctx context.Context) ([]org.Claim, error) {
	return do(ctx, h, "Claims", read, "", func(s *state) ([]org.Claim, error) { return inOrder(s.claims), nil })
}

func (h *handle) ReplaceClaim(ctx context.Context, seen, next org.Claim) (bool, error) {
	return do(ctx, h, "ReplaceClaim", write, claimText(seen)+" by "+claimText(next),
		func(s *state) (bool, error) { return s.replaceClaim(seen, next) })
}

func (h *handle) DeleteClaim(ctx context.Context, seen org.Claim) error {
	return h.write(ctx, "DeleteClaim", claimText(seen), func(s *state) error { return s.deleteClaim(seen) })
}

func (h *handle) ReleaseClaims(ctx context.Context, owner org.Owner, below int64, keep []string) error {
	keep = slices.Clone(keep)
	return h.write(ctx, "ReleaseClaims", fmt.Sprint(cmp.Or(owner.AdminID, owner.OrganizationID), " below ", below, " but ", keep), func(s *state) error {
		return s.releaseClaims(owner, below, keep)
	})
}

func (h *handle) RestClaims(ctx context.Context, organizationID string, below int64, keep []string, since time.Time) error {
	keep = slices.Clone(keep)
	return h.write(ctx, "RestClaims", fmt.Sprint(organizationID, " below ", below, " but ", keep), func(s *state) error {
		return s.restClaims(organizationID, below, keep, since)
	})
}

func (h *handle) InsertOrganization(ctx context.Context, o org.Organization) error {
	o = copyOf(o)
	return h.write(ctx, "InsertOrganization", organizationText(o), func(s *state) error { return s.insertOrganization(o) })
}

// findOrganization submits a query.
func (h *handle) findOrganization(ctx context.Context, method, args string, match func(org.Organization) bool) (org.Organization, error) {
	return do(ctx, h, method, read, args, func(s *state) (org.Organization, error) { return s.findOrganization(match) })
}

func (h *handle) findOrganizations(ctx context.Context, method, args string, match func(org.Organization) bool) ([]org.Organization, error) {
	return do(ctx, h, method, read, args, func(s *state) ([]org.Organization, error) { return s.findOrganizations(match) })
}

func (h *handle) Organization(ctx context.Context, id string) (org.Organization, error) {
	return h.findOrganization(ctx, "Organization", id, func(o org.Organization) bool { return o.ID == id })
}

func (h *handle) OrganizationByClaim(ctx context.Context, claimID string) (org.Organization, error) {
	return h.findOrganization(ctx, "OrganizationByClaim", claimID, func(o org.Organization) bool {
		return o.Status == org.Active && slices.Contains(o.Claims, claimID)
	})
}

func (h *handle) OrganizationsByID(ctx context.Context, ids []string) ([]org.Organization, error) {
	ids = slices.Clone(ids)
	return h.findOrganizations(ctx, "OrganizationsByID", fmt.Sprint(ids), func(o org.Organization) bool { return slices.Contains(ids, o.ID) })
}

func (h *handle) Organizations(ctx context.Context) ([]org.Organization, error) {
	return h.findOrganizations(ctx, "Organizations", "", func(org.Organization) bool { return true })
}

func (h *handle) OrganizationsAfter(ctx context.Context, after, prefix string, status org.Status, limit int) ([]org.Organization, error) {
	return do(ctx, h, "OrganizationsAfter", read, fmt.Sprint(after, " ", prefix, " ", status), func(s *state) ([]org.Organization, error) {
		return s.organizationsAfter(after, prefix, status, limit), nil
	})
}

func (h *handle) CountOrganizations(ctx context.Context) (int64, error) {
	return do(ctx, h, "CountOrganizations", read, "", func(s *state) (int64, error) { return int64(len(s.organizations)), nil })
}

func (h *handle) UnfinishedOrganizations(ctx context.Context, before time.Time) ([]org.Organization, error) {
	return h.findOrganizations(ctx, "UnfinishedOrganizations", "", func(o org.Organization) bool {
		return o.Operation != nil && !o.Operation.TouchedAt.After(before)
	})
}

func (h *handle) ReplaceOrganization(ctx context.Context, seen, next org.Organization) (bool, error) {
	seen, next = copyOf(seen), copyOf(next)
	return do(ctx, h, "ReplaceOrganization", write, fmt.Sprintf("%s at %d", organizationText(next), seen.Revision),
		func(s *state) (bool, error) { return s.replaceOrganization(seen, next) })
}

func (h *handle) FenceOrganizations(ctx context.Context, ids []string) error {
	ids = slices.Clone(ids)
	return h.write(ctx, "FenceOrganizations", fmt.Sprint(ids), func(s *state) error { return s.fenceOrganizations(ids) })
}

func (h *handle) DeleteOrganization(ctx context.Context, id string, revision int64) error {
	return h.write(ctx, "DeleteOrganization", fmt.Sprint(id, " at ", revision), func(s *state) error { return s.deleteOrganization(id, revision) })
}

func (h *handle) InsertAdmin(ctx context.Context, a org.Admin) error {
	return h.write(ctx, "InsertAdmin", a.ID+" "+a.Email, func(s *state) error { return s.insertAdmin(a) })
}

func (h *handle) Admin(ctx context.Context, id string) (org.Admin, error) {
	return do(ctx, h, "Admin", read, id, func(s *state) (org.Admin, error) {
		return s.findAdmin(func(a org.Admin) bool { return a.ID == id })
	})
}

func (h *handle) AdminsByID(ctx context.Context, ids []string) ([]org.Admin, error) {
	ids = slices.Clone(ids)
	return do(ctx, h, "AdminsByID", read, fmt.Sprint(ids), func(s *state) ([]org.Admin, error) {
		return s.findAdmins(func(a org.Admin) bool { return slices.Contains(ids, a.ID) }), nil
	})
}

func (h *handle) AdminsByEmail(ctx context.Context, email string) ([]org.Admin, error) {
	return do(ctx, h, "AdminsByEmail", read, email, func(s *state) ([]org.Admin, error) {
		return s.findAdmins(func(a org.Admin) bool { return a.Email == email }), nil
	})
}

func (h *handle) Admins(ctx context.Context) ([]org.Admin, error) {
	return do(ctx, h, "Admins", read, "", func(s *state) ([]org.Admin, error) { return inOrder(s.admins), nil })
}

func (h *handle) ReplaceAdmin(ctx context.Context, seen, next org.Admin) (bool, error) {
	return do(ctx, h, "ReplaceAdmin", write, fmt.Sprint(next.ID, " ", next.Email, " ", next.PasswordHash, " version ", next.TokenVersion, " asleep ", next.Asleep, " at ", seen.Revision),
		func(s *state) (bool, error) { return s.replaceAdmin(seen, next) })
}

func (h *handle) RehashPassword(ctx context.Context, adminID, old, hash string) error {
	return h.write(ctx, "RehashPassword", adminID, func(s *state) error { return s.rehashPassword(adminID, old, hash) })
}

func (h *handle) DeleteAdmin(ctx context.Context, id string, revision int64) error {
	return h.write(ctx, "DeleteAdmin", fmt.Sprint(id, " at ", revision), func(s *state) error { return s.deleteAdmin(id, revision) })
}

func (h *handle) DeleteAdmins(ctx context.Context, ids []string, organizationID string) error {
	return h.write(ctx, "DeleteAdmins", fmt.Sprint(ids, " of ", organizationID), func(s *state) error { return s.deleteAdmins(ids, organizationID) })
}

func (h *handle) LeaveOrganization(ctx context.Context, ids []string, organizationID string) error {
	return h.write(ctx, "LeaveOrganization", fmt.Sprint(ids, " of ", organizationID), func(s *state) error { return s.leaveOrganization(ids, organizationID) })
}

func (h *handle) UseOrganization(ctx context.Context, adminID, organizationID string) error {
	return h.write(ctx, "UseOrganization", fmt.Sprint(adminID, " ", organizationID), func(s *state) error { return s.useOrganization(adminID, organizationID) })
}

// The service makes the ids of sessions with a random generator that has no
// seed, so the trace has none of them.

func (h *handle) InsertSession(ctx context.Context, session org.Session) error {
	return h.write(ctx, "InsertSession", session.OrganizationID, func(s *state) error { s.sessions[session.ID] = session; return nil })
}

func (h *handle) Session(ctx context.Context, id string) (org.Session, error) {
	return do(ctx, h, "Session", read, "", func(s *state) (org.Session, error) { return s.session(id) })
}

func (h *handle) SessionsOf(ctx context.Context, adminID string) ([]org.Session, error) {
	return do(ctx, h, "SessionsOf", read, adminID, func(s *state) (all []org.Session, err error) {
		for _, session := range s.sessions {
			if session.AdminID == adminID {
				all = append(all, session)
			}
		}
		return all, nil
	})
}

func (h *handle) RotateSession(ctx context.Context, id, old, hash string, used time.Time) (bool, error) {
	return do(ctx, h, "RotateSession", write, "", func(s *state) (bool, error) { return s.rotateSession(id, old, hash, used) })
}

func (h *handle) EndSessions(ctx context.Context, ids []string) error {
	return h.write(ctx, "EndSessions", "", func(s *state) error {
		return s.deleteSessions(func(session org.Session) bool { return slices.Contains(ids, session.ID) })
	})
}

func (h *handle) DeleteOtherSessions(ctx context.Context, adminID string, keep ...string) error {
	return h.write(ctx, "DeleteOtherSessions", adminID, func(s *state) error {
		return s.deleteSessions(func(session org.Session) bool {
			return session.AdminID == adminID && !slices.Contains(keep, session.ID)
		})
	})
}

func (h *handle) DeleteSession(ctx context.Context, id string) error {
	return h.write(ctx, "DeleteSession", "", func(s *state) error { delete(s.sessions, id); return nil })
}

func (h *handle) DeleteSessions(ctx context.Context, organizationID string) error {
	return h.write(ctx, "DeleteSessions", organizationID, func(s *state) error {
		return s.deleteSessions(func(session org.Session) bool { return session.OrganizationID == organizationID })
	})
}

func (h *handle) DeleteSessionsSince(ctx context.Context, organizationID, act string) error {
	return h.write(ctx, "DeleteSessionsSince", organizationID+" "+act, func(s *state) error { return s.deleteSessionsSince(organizationID, act) })
}

func (h *handle) DeleteSessionsOf(ctx context.Context, adminID, organizationID string) error {
	return h.write(ctx, "DeleteSessionsOf", adminID+" "+organizationID, func(s *state) error { return s.deleteSessionsOf(adminID, organizationID) })
}

// The ids of tickets are random, too.

func (h *handle) InsertTicket(ctx context.Context, t org.Ticket) error {
	return h.write(ctx, "InsertTicket", t.Email, func(s *state) error { return s.insertTicket(t) })
}

func (h *handle) Ticket(ctx context.Context, id string) (org.Ticket, error) {
	return do(ctx, h, "Ticket", read, "", func(s *state) (org.Ticket, error) { return s.ticket(id) })
}

func (h *handle) ReplaceTicket(ctx context.Context, seen, next org.Ticket) (bool, error) {
	args := next.Email
	if next.Mailed {
		args += " mailed"
	}
	return do(ctx, h, "ReplaceTicket", write, args, func(s *state) (bool, error) { return s.replaceTicket(seen, next) })
}

func (h *handle) UnmailedTickets(ctx context.Context, before time.Time) ([]org.Ticket, error) {
	return do(ctx, h, "UnmailedTickets", read, "", func(s *state) ([]org.Ticket, error) { return s.unmailedTickets(before), nil })
}

func (h *handle) DeleteTicket(ctx context.Context, id string) error {
	return h.write(ctx, "DeleteTicket", "", func(s *state) error { delete(s.tickets, id); return nil })
}

func (h *handle) DeleteTickets(ctx context.Context, organizationID string) error {
	return h.write(ctx, "DeleteTickets", organizationID, func(s *state) error {
		return s.deleteTickets(func(t org.Ticket) bool { return t.OrganizationID == organizationID })
	})
}

func (h *handle) DeleteExpired(ctx context.Context, now time.Time) error {
	return h.write(ctx, "DeleteExpired", "", func(s *state) error {
		s.deleteTickets(func(t org.Ticket) bool { return t.ExpiresAt.Before(now) })
		maps.DeleteFunc(s.keys, func(_ string, k org.IdempotencyKey) bool { return k.ExpiresAt.Before(now) })
		return s.deleteSessions(func(session org.Session) bool { return session.ExpiresAt.Before(now) })
	})
}

func (h *handle) CountEvent(ctx context.Context, e org.Event) (org.Count, error) {
	return do(ctx, h, "CountEvent", write, "", func(s *state) (org.Count, error) { return s.countEvent(e, 1), nil })
}

func (h *handle) Count(ctx context.Context, key string) (org.Count, error) {
	return do(ctx, h, "Count", read, "", func(s *state) (org.Count, error) { return maps.Clone(s.counts[key]), nil })
}

func (h *handle) Remember(ctx context.Context, e org.Event) error {
	return h.write(ctx, "Remember", "", func(s *state) error { s.known[e.Key] = e.Expires; return nil })
}

func (h *handle) Known(ctx context.Context, key string, at time.Time) (bool, error) {
	return do(ctx, h, "Known", read, "", func(s *state) (bool, error) { return s.known[key].After(at), nil })
}

func (h *handle) TakeBackEvents(ctx context.Context, events []org.Event) error {
	return h.write(ctx, "TakeBackEvents", "", func(s *state) error {
		for _, e := range events {
			if s.counts[e.Key][e.Part] > 0 {
				s.countEvent(e, -1)
			}
		}
		return nil
	})
}

func (h *handle) ForgetEvents(ctx context.Context, key string) error {
	return h.write(ctx, "ForgetEvents", "", func(s *state) error { delete(s.counts, key); return nil })
}

func (h *handle) Migrations(ctx context.Context) ([]org.Migration, error) {
	return do(ctx, h, "Migrations", read, "", func(s *state) ([]org.Migration, error) {
		return slices.Collect(maps.Values(s.migrations)), nil
	})
}

func (h *handle) InsertMigration(ctx context.Context, m org.Migration) error {
	return h.write(ctx, "InsertMigration", fmt.Sprint(m.Number), func(s *state) error {
		if _, noted := s.migrations[m.Number]; !noted {
			s.migrations[m.Number] = m
		}
		return nil
	})
}

func (h *handle) FinishMigration(ctx context.Context, m org.Migration) error {
	return h.write(ctx, "FinishMigration", fmt.Sprint(m.Number), func(s *state) error { s.migrations[m.Number] = m; return nil })
}

func (h *handle) InsertReceipt(ctx context.Context, r org.Receipt) error {
	return h.write(ctx, "InsertReceipt", r.ID, func(s *state) error { return s.insertReceipt(r) })
}

func (h *handle) Receipt(ctx context.Context, organizationID string) (org.Receipt, error) {
	return do(ctx, h, "Receipt", read, organizationID, func(s *state) (org.Receipt, error) { return s.receipt(organizationID) })
}

func (h *handle) InsertKey(ctx context.Context, k org.IdempotencyKey) (bool, error) {
	return do(ctx, h, "InsertKey", write, keyText(k), func(s *state) (bool, error) { return s.insertKey(k), nil })
}

func (h *handle) Key(ctx context.Context, id string) (org.IdempotencyKey, error) {
	return do(ctx, h, "Key", read, id, func(s *state) (org.IdempotencyKey, error) { return s.key(id) })
}

func (h *handle) ReplaceKey(ctx context.Context, seen, next org.IdempotencyKey) (bool, error) {
	return do(ctx, h, "ReplaceKey", write, keyText(seen)+" by "+keyText(next), func(s *state) (bool, error) { return s.replaceKey(seen, next), nil })
}

func (h *handle) FinishKey(ctx context.Context, id, change string, outcome org.Outcome) error {
	args := fmt.Sprint(id, " ", change, " ", outcome.Name)
	if len(outcome.Answer) > 0 {
		args += " answered"
	}
	return h.write(ctx, "FinishKey", args, func(s *state) error { return s.finishKey(id, change, outcome) })
}

func (h *handle) DeleteKey(ctx context.Context, seen org.IdempotencyKey) error {
	return h.write(ctx, "DeleteKey", keyText(seen), func(s *state) error { return s.deleteKey(seen) })
}

func keyText(k org.IdempotencyKey) string {
	text := k.ID
	for _, t := range k.Tries {
		text += " " + t.Change
	}
	if !k.Outcome.At.IsZero() {
		text += " = " + string(k.Outcome.Answer)
	} else if k.ClaimedAt.IsZero() {
		text += " ended"
	}
	return text
}

func (h *handle) EnsureIndexes(ctx context.Context) (map[string]error, error) {
	return do(ctx, h, "EnsureIndexes", write, "", func(*state) (map[string]error, error) { return nil, nil })
}

func (h *handle) MissingIndexes(ctx context.Context) ([]string, error) {
	return do(ctx, h, "MissingIndexes", read, "", func(*state) ([]string, error) { return nil, nil })
}

// Clock returns the right time. Only the clocks of the processes are wrong.
func (h *handle) Clock(ctx context.Context) (time.Time, error) {
	return do(ctx, h, "Clock", read, "", func(*state) (time.Time, error) { return time.Now(), nil })
}
