package org_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"orgservice/shared/org"
)

// TestSimStore sends the same random commands to the simulated database and to
// a real one, and compares the answers. The simulation proves nothing if they
// differ.
func TestSimStore(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, f *fixture) {
		seed := rand.Uint64()
		t.Logf("seed %d", seed)
		p := &storePair{rng: rand.New(rand.NewPCG(seed, 0)), store: f.Store, database: f.db.Name, simulated: newState(), uuids: map[string]string{}}
		for range 40 {
			p.ids = append(p.ids, f.Store.NewID())
		}
		for i := range 600 {
			name, simulated, actual := p.command(t.Context())
			if diff := cmp.Diff(simulated, actual, cmpopts.EquateEmpty()); diff != "" {
				t.Fatalf("seed %d, command %d, %s (-simulated +actual):\n%s", seed, i, name, diff)
			}
		}
	})
}

// storePair is a real store and a simulated one.
type storePair struct {
	rng       *rand.Rand
	store     org.Store
	database  string
	simulated *state
	ids       []string
	uuids     map[string]string // the simulated UUID of each real one
}

// answer is the result of a command. Of the errors ErrNotFound and ErrConflict
// it holds only the kind.
type answer struct {
	Value any
	Error string
}

func answerOf(value any, err error) answer {
	for _, kind := range []error{org.ErrNotFound, org.ErrConflict} {
		if errors.Is(err, kind) {
			return answer{nil, kind.(*org.Error).Error() + fmt.Sprint(kind.(*org.Error).Kind)}
		}
	}
	if err != nil {
		return answer{nil, err.Error()}
	}
	return answer{Value: value}
}

// errorOnly is the answer of a command that has no result.
func errorOnly(err error) answer { return answerOf(nil, err) }

// pickOf returns a random one of the values.
func pickOf[T any](p *storePair, values ...T) T { return values[p.rng.IntN(len(values))] }

func (p *storePair) time() time.Time { return time.Unix(1e9+p.rng.Int64N(5), 0).UTC() }

func (p *storePair) owner() org.Owner {
	id := pickOf(p, p.ids[:2]...)
	return pickOf(p, org.Owner{OrganizationID: id}, org.Owner{AdminID: id})
}

func (p *storePair) claim() org.Claim {
	c := org.Claim{ID: pickOf(p, "org_a", "org_b", "email:a", "email:b"), Owner: p.owner(),
		Revision: p.rng.Int64N(3), ClaimedAt: p.time()}
	if p.rng.IntN(3) == 0 {
		c.RestingSince = p.time()
	}
	return c
}

func (p *storePair) organization() org.Organization {
	o := org.Organization{
		ID: pickOf(p, p.ids[:3]...), Name: "Acme", Collection: pickOf(p, "org_a", "org_ab", "org_b"), CollectionUUID: pickOf(p, "", "00ff"), Database: p.database,
		Status: pickOf(p, org.Provisioning, org.Active, org.Suspended, org.Deleting, org.Deleted), Revision: p.rng.Int64N(3),
		Admins: []org.Member{{AdminID: p.ids[0], Role: pickOf(p, org.RoleOwner, org.RoleMember), Since: p.time()}}, Claims: []string{pickOf(p, "org_a", "org_b"), "email:a"},
		CreatedAt: p.time(), UpdatedAt: p.time(),
	}
	for i := range p.rng.IntN(3) {
		o.Invitations = append(o.Invitations, org.Invitation{
			ID: fmt.Sprint("i", i), Email: "c", Role: org.RoleAdmin, InvitedBy: p.ids[0], CreatedAt: p.time(), ExpiresAt: p.time(),
		})
	}
	for range p.rng.IntN(3) {
		o.History = append(o.History, org.Act{ID: p.ids[6], Key: pickOf(p, "", "k"), Kind: org.ActSuspend, By: "o", Reason: "r", At: p.time()})
	}
	if p.rng.IntN(3) == 0 {
		o.Deletion = &org.Deletion{At: p.time(), By: p.ids[0], Ends: p.time(), Collection: pickOf(p, "org_a", "org_ab")}
	}
	if p.rng.IntN(2) == 0 {
		o.Operation = &org.Operation{ID: p.ids[5], Key: pickOf(p, "", "k"), Kind: org.Updating, StartedAt: p.time(), TouchedAt: p.time(), Name: "Bolt",
			Collection: "org_b", Claims: []string{"org_b"}, AdminID: p.ids[0], Email: "b", PasswordHash: "h", TokenVersion: 2, Undone: p.rng.IntN(2) == 0}
		if p.rng.IntN(2) == 0 {
			o.Operation.Act = org.Act{ID: p.ids[7], Kind: org.ActRestore, By: "o", Reason: "r", At: p.time()}
		}
	} else {
		o.Committed, o.CommittedKey = p.ids[6], pickOf(p, "", "k")
	}
	return o
}

func (p *storePair) admin() org.Admin {
	return org.Admin{ID: pickOf(p, p.ids[:2]...), OrganizationID: pickOf(p, p.ids[:2]...), Organizations: slices.Clone(p.ids[p.rng.IntN(2) : 1+p.rng.IntN(3)]), Email: pickOf(p, "", "a", "b"),
		PasswordHash: pickOf(p, "", "h", "i"), TokenVersion: p.rng.Int64N(3), Revision: p.rng.Int64N(3), Committed: pickOf(p, "", p.ids[6]), CommittedKey: pickOf(p, "", "k"), Journaled: pickOf(p, map[string]string(nil), map[string]string{p.ids[0]: p.ids[7]}), CreatedAt: p.time(), UpdatedAt: p.time(), Asleep: p.rng.IntN(2) == 0}
}

func (p *storePair) ticket() org.Ticket {
	t := org.Ticket{ID: pickOf(p, "a", "b", "c"), Kind: org.ResetMail, AdminID: p.ids[0], TokenVersion: 1 + p.rng.Int64N(2), Email: "c",
		Hashes: []string{"h", "i", "j"}[:1+p.rng.IntN(3)], Mailed: p.rng.IntN(2) == 0, ByOperator: p.rng.IntN(2) == 0, CreatedAt: p.time(), ExpiresAt: p.time().AddDate(100, 0, 0)}
	if p.rng.IntN(2) == 0 {
		t.Kind, t.OrganizationID, t.AdminID, t.TokenVersion = org.InvitationMail, pickOf(p, p.ids[:2]...), "", 0
	}
	return t
}

func (p *storePair) key() org.IdempotencyKey {
	k := org.IdempotencyKey{ID: pickOf(p, "a", "b"), Fingerprint: pickOf(p, "f", "g"), ClaimedAt: pickOf(p, time.Time{}, p.time()), ExpiresAt: p.time().AddDate(100, 0, 0), SetsPassword: pickOf(p, nil, new(true), new(false))}
	for range 1 + p.rng.IntN(2) {
		k.Tries = append(k.Tries, org.Try{Change: pickOf(p, p.ids[:3]...), OrganizationID: p.ids[4], AdminID: pickOf(p, "", p.ids[5])})
	}
	if p.rng.IntN(3) == 0 {
		k.Outcome = p.outcome()
	}
	return k
}

func (p *storePair) outcome() org.Outcome {
	return org.Outcome{OrganizationID: pickOf(p, "", p.ids[4]), Name: pickOf(p, "", "Acme"), CreatedAt: pickOf(p, time.Time{}, p.time()), At: p.time(), Answer: pickOf(p, nil, []byte("{}"))}
}

// keyCommand sends a random command about idempotency keys to both stores.
func (p *storePair) keyCommand(ctx context.Context) (name string, simulated, actual answer) {
	k := p.key()
	seen, err := p.simulated.key(k.ID)
	if err != nil || p.rng.IntN(3) == 0 {
		seen = k
	}
	switch p.rng.IntN(5) {
	case 0:
		inserted, err := p.store.InsertKey(ctx, k)
		return fmt.Sprint("InsertKey ", k), answerOf(p.simulated.insertKey(k), nil), answerOf(inserted, err)
	case 1:
		return "Key " + k.ID, answerOf(p.simulated.key(k.ID)), answerOf(p.store.Key(ctx, k.ID))
	case 2:
		replaced, err := p.store.ReplaceKey(ctx, seen, k)
		return fmt.Sprint("ReplaceKey ", seen, k), answerOf(p.simulated.replaceKey(seen, k), nil), answerOf(replaced, err)
	case 3:
		change, outcome := pickOf(p, p.ids[:3]...), p.outcome()
		return fmt.Sprint("FinishKey ", k.ID, change, outcome), errorOnly(p.simulated.finishKey(k.ID, change, outcome)), errorOnly(p.store.FinishKey(ctx, k.ID, change, outcome))
	}
	return fmt.Sprint("DeleteKey ", seen), errorOnly(p.simulated.deleteKey(seen)), errorOnly(p.store.DeleteKey(ctx, seen))
}

// ticketCommand sends a random command about tickets, or about the sessions of an
// admin, to both stores.
func (p *storePair) ticketCommand(ctx context.Context) (name string, simulated, actual answer) {
	t := p.ticket()
	stored, err := p.simulated.ticket(t.ID)
	switch p.rng.IntN(7) {
	case 0:
		if err == nil {
			return "", answer{}, answer{}
		}
		return fmt.Sprint("InsertTicket ", t), answerOf(nil, p.simulated.insertTicket(t)), answerOf(nil, p.store.InsertTicket(ctx, t))
	case 1:
		return "Ticket " + t.ID, answerOf(stored, err), answerOf(p.store.Ticket(ctx, t.ID))
	case 2:
		if err != nil || p.rng.IntN(3) == 0 {
			stored = p.ticket()
		}
		t.ID = stored.ID
		return fmt.Sprint("ReplaceTicket ", stored, t), answerOf(p.simulated.replaceTicket(stored, t)), answerOf(p.store.ReplaceTicket(ctx, stored, t))
	case 3:
		tickets, err := p.store.UnmailedTickets(ctx, t.CreatedAt)
		byID := func(a, b org.Ticket) int { return strings.Compare(a.ID, b.ID) }
		slices.SortFunc(tickets, byID)
		return fmt.Sprint("UnmailedTickets ", t.CreatedAt), answer{Value: slices.SortedFunc(slices.Values(p.simulated.unmailedTickets(t.CreatedAt)), byID)}, answerOf(tickets, err)
	case 4:
		delete(p.simulated.tickets, t.ID)
		return "DeleteTicket " + t.ID, answer{}, answerOf(nil, p.store.DeleteTicket(ctx, t.ID))
	case 5:
		id := pickOf(p, p.ids[:2]...)
		p.simulated.deleteTickets(func(t org.Ticket) bool { return t.OrganizationID == id })
		return "DeleteTickets " + id, answer{}, answerOf(nil, p.store.DeleteTickets(ctx, id))
	}
	adminID, id := pickOf(p, p.ids[:2]...), pickOf(p, p.ids[:2]...)
	p.simulated.deleteSessionsOf(adminID, id)
	return fmt.Sprint("DeleteSessionsOf ", adminID, id), answer{}, answerOf(nil, p.store.DeleteSessionsOf(ctx, adminID, id))
}

// collections lists the collections of both stores. Those of the real one have
// the simulated UUIDs.
func (p *storePair) collections(ctx context.Context, names ...string) (simulated, actual []org.Collection, err error) {
	simulated, _ = p.simulated.list(names)
	actual, err = p.store.Collections(ctx, p.database, names...)
	slices.SortFunc(actual, func(a, b org.Collection) int { return strings.Compare(a.Name, b.Name) })
	for i := range actual {
		uuid := actual[i].UUID
		if _, known := p.uuids[uuid]; !known && i < len(simulated) {
			p.uuids[uuid] = simulated[i].UUID
		}
		actual[i].UUID = p.uuids[uuid]
	}
	return simulated, actual, err
}

// collection returns a collection of that name and of the UUID of a random one,
// for each store.
func (p *storePair) collection(ctx context.Context, name string) (simulated, actual org.Collection) {
	p.collections(ctx)
	simulated.Name, actual.Name = name, name
	all, err := p.store.Collections(ctx, p.database)
	if err == nil && len(all) > 0 && p.rng.IntN(4) > 0 {
		actual.UUID = all[p.rng.IntN(len(all))].UUID
		simulated.UUID = p.uuids[actual.UUID]
	}
	return simulated, actual
}

// command sends a random command to both stores and returns their answers.
func (p *storePair) command(ctx context.Context) (name string, simulated, actual answer) {
	id, collection := pickOf(p, p.ids[:3]...), pickOf(p, "org_a", "org_b", "org_c")
	c, o, a := p.claim(), p.organization(), p.admin()
	all := func(match func(org.Organization) bool) answer { return answerOf(p.simulated.findOrganizations(match)) }
	switch p.rng.IntN(42) {
	case 0:
		claims := []org.Claim{c}
		if d := p.claim(); d.ID != c.ID {
			claims = append(claims, d)
		}
		return fmt.Sprint("InsertClaims ", claims), answerOf(p.simulated.insertClaims(claims)), answerOf(p.store.InsertClaims(ctx, claims))
	case 1:
		return "Claim " + c.ID, answerOf(p.simulated.claim(c.ID)), answerOf(p.store.Claim(ctx, c.ID))
	case 2, 3:
		seen, err := p.simulated.claim(c.ID)
		if err != nil || p.rng.IntN(4) == 0 {
			seen = p.claim()
		}
		next := p.claim()
		next.ID = seen.ID
		return fmt.Sprint("ReplaceClaim ", seen, next), answerOf(p.simulated.replaceClaim(seen, next)), answerOf(p.store.ReplaceClaim(ctx, seen, next))
	case 4:
		seen, err := p.simulated.claim(c.ID)
		if err != nil || p.rng.IntN(2) == 0 {
			seen = c
		}
		return fmt.Sprint("DeleteClaim ", seen), errorOnly(p.simulated.deleteClaim(seen)), errorOnly(p.store.DeleteClaim(ctx, seen))
	case 5:
		owner := p.owner()
		return fmt.Sprint("ReleaseClaims ", owner, c), errorOnly(p.simulated.releaseClaims(owner, c.Revision, []string{c.ID})), errorOnly(p.store.ReleaseClaims(ctx, owner, c.Revision, []string{c.ID}))
	case 6:
		return fmt.Sprint("RestClaims ", id, c), errorOnly(p.simulated.restClaims(id, c.Revision, []string{c.ID}, c.ClaimedAt)), errorOnly(p.store.RestClaims(ctx, id, c.Revision, []string{c.ID}, c.ClaimedAt))
	case 7:
		if _, err := p.simulated.findOrganization(func(stored org.Organization) bool { return stored.ID == o.ID }); err == nil {
			return "", answer{}, answer{} // two operations never use the same id
		}
		return fmt.Sprint("InsertOrganization ", o), errorOnly(p.simulated.insertOrganization(o)), errorOnly(p.store.InsertOrganization(ctx, o))
	case 8:
		byID := func(stored org.Organization) bool { return stored.ID == id }
		return "Organization " + id, answerOf(p.simulated.findOrganization(byID)), answerOf(p.store.Organization(ctx, id))
	case 9:
		matching := all(func(stored org.Organization) bool {
			return stored.Status == org.Active && slices.Contains(stored.Claims, c.ID)
		})
		actual := answerOf(p.store.OrganizationByClaim(ctx, c.ID))
		found, _ := matching.Value.([]org.Organization)
		if len(found) == 0 {
			return "OrganizationByClaim " + c.ID, answerOf(nil, notFound("")), actual
		}
		for _, o := range found { // the store may return any of them
			if cmp.Equal(answer{Value: o}, actual, cmpopts.EquateEmpty()) {
				return "", answer{}, answer{}
			}
		}
		return "OrganizationByClaim " + c.ID, answer{Value: found[0]}, actual
	case 10:
		organizations, err := p.store.UnfinishedOrganizations(ctx, o.CreatedAt)
		sortByID(organizations)
		return fmt.Sprint("UnfinishedOrganizations ", o.CreatedAt), all(func(stored org.Organization) bool {
			return stored.Operation != nil && !stored.Operation.TouchedAt.After(o.CreatedAt)
		}), answerOf(organizations, err)
	case 11, 12:
		seen, err := p.simulated.findOrganization(func(stored org.Organization) bool { return stored.ID == o.ID })
		if err != nil || p.rng.IntN(3) == 0 {
			seen.ID, seen.Status, seen.Revision = o.ID, pickOf(p, seen.Status, o.Status), pickOf(p, seen.Revision, o.Revision)
		}
		return fmt.Sprint("ReplaceOrganization ", seen, o), answerOf(p.simulated.replaceOrganization(seen, o)), answerOf(p.store.ReplaceOrganization(ctx, seen, o))
	case 23:
		ids := p.ids[:1+p.rng.IntN(2)]
		return fmt.Sprint("FenceOrganizations ", ids), errorOnly(p.simulated.fenceOrganizations(ids)), errorOnly(p.store.FenceOrganizations(ctx, ids))
	case 24:
		return fmt.Sprint("DeleteAdmin ", a.ID, a.Revision), errorOnly(p.simulated.deleteAdmin(a.ID, a.Revision)), errorOnly(p.store.DeleteAdmin(ctx, a.ID, a.Revision))
	case 25:
		return fmt.Sprint("DeleteAdmins ", id), errorOnly(p.simulated.deleteAdmins(p.ids[:2], id)), errorOnly(p.store.DeleteAdmins(ctx, p.ids[:2], id))
	case 26:
		return fmt.Sprint("LeaveOrganization ", id), errorOnly(p.simulated.leaveOrganization([]string{a.ID}, id)), errorOnly(p.store.LeaveOrganization(ctx, []string{a.ID}, id))
	case 27:
		return fmt.Sprint("UseOrganization ", a.ID, id), errorOnly(p.simulated.useOrganization(a.ID, id)), errorOnly(p.store.UseOrganization(ctx, a.ID, id))
	case 28:
		organizations, err := p.store.OrganizationsByID(ctx, p.ids[:2])
		sortByID(organizations)
		return "OrganizationsByID", all(func(stored org.Organization) bool { return slices.Contains(p.ids[:2], stored.ID) }), answerOf(organizations, err)
	case 33:
		after, prefix, status := pickOf(p, "", p.ids[0], p.ids[1]), pickOf(p, "", "org_a", "org_ab"), pickOf(p, "", o.Status)
		return fmt.Sprint("OrganizationsAfter ", after, prefix, status), answerOf(p.simulated.organizationsAfter(after, prefix, status, 2), nil), answerOf(p.store.OrganizationsAfter(ctx, after, prefix, status, 2))
	case 34:
		r := org.Receipt{ID: id, CreatedAt: p.time(), DeletedAt: p.time(), DeletedBy: pickOf(p, "", p.ids[0]), PurgedAt: p.time(), PurgedBy: pickOf(p, "", "o"), Members: p.rng.IntN(3), Documents: p.rng.Int64N(3)}
		return fmt.Sprint("InsertReceipt ", r), errorOnly(p.simulated.insertReceipt(r)), errorOnly(p.store.InsertReceipt(ctx, r))
	case 35:
		return "Receipt " + id, answerOf(p.simulated.receipt(id)), answerOf(p.store.Receipt(ctx, id))
	case 29, 30, 31, 32:
		return p.ticketCommand(ctx)
	case 36, 37, 38, 39, 40, 41:
		return p.keyCommand(ctx)
	case 13:
		return fmt.Sprint("DeleteOrganization ", id, o.Revision), errorOnly(p.simulated.deleteOrganization(id, o.Revision)), errorOnly(p.store.DeleteOrganization(ctx, id, o.Revision))
	case 14:
		if _, err := p.simulated.findAdmin(func(stored org.Admin) bool { return stored.ID == a.ID }); err == nil {
			return "", answer{}, answer{}
		}
		return fmt.Sprint("InsertAdmin ", a), errorOnly(p.simulated.insertAdmin(a)), errorOnly(p.store.InsertAdmin(ctx, a))
	case 15:
		match := func(stored org.Admin) bool { return stored.ID == a.ID }
		return fmt.Sprint("Admin ", a), answerOf(p.simulated.findAdmin(match)), answerOf(p.store.Admin(ctx, a.ID))
	case 16:
		admins, err := p.store.AdminsByEmail(ctx, a.Email)
		slices.SortFunc(admins, func(a, b org.Admin) int { return strings.Compare(a.ID, b.ID) })
		simulated := p.simulated.findAdmins(func(stored org.Admin) bool { return stored.Email == a.Email })
		return "AdminsByEmail " + a.Email, answer{Value: len(simulated)}, answerOf(len(admins), err)
	case 17, 18:
		seen, err := p.simulated.findAdmin(func(stored org.Admin) bool { return stored.ID == a.ID })
		if err != nil || p.rng.IntN(3) == 0 {
			seen = a
		}
		return fmt.Sprint("ReplaceAdmin ", seen, a), answerOf(p.simulated.replaceAdmin(seen, a)), answerOf(p.store.ReplaceAdmin(ctx, seen, a))
	case 22:
		admins, err := p.store.AdminsByID(ctx, p.ids[:1])
		return "AdminsByID", answerOf(p.simulated.findAdmins(func(stored org.Admin) bool { return stored.ID == p.ids[0] }), nil), answerOf(admins, err)
	case 19:
		return "CreateCollection " + collection, errorOnly(ignoreConflict(p.simulated.createCollection(collection))), errorOnly(p.store.CreateCollection(ctx, p.database, collection))
	case 20:
		from, actualFrom := p.collection(ctx, collection)
		to := pickOf(p, "org_a", "org_b", "org_c")
		if from.Name == to {
			return "", answer{}, answer{} // the service never does this
		}
		return fmt.Sprint("RenameCollection ", actualFrom, to), errorOnly(p.simulated.renameCollection(from, to)), errorOnly(p.store.RenameCollection(ctx, p.database, actualFrom, to))
	default:
		c, actualC := p.collection(ctx, collection)
		if p.rng.IntN(2) == 0 {
			return fmt.Sprint("DropCollection ", actualC), errorOnly(p.simulated.dropCollection(c)), errorOnly(p.store.DropCollection(ctx, p.database, actualC))
		}
		simulated, actual, err := p.collections(ctx, collection, "org_a")
		return "Collections " + collection, answerOf(simulated, nil), answerOf(actual, err)
	}
}

func ignoreConflict(err error) error {
	if errors.Is(err, org.ErrConflict) {
		return nil
	}
	return err
}

func sortByID(organizations []org.Organization) {
	slices.SortFunc(organizations, func(a, b org.Organization) int { return strings.Compare(a.ID, b.ID) })
}
