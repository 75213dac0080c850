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
// a real one and compares every answer, and at last what is in them: the
// simulation shows nothing of a database that does something else.
func TestSimStore(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		seed := rand.Uint64()
		t.Logf("seed %d", seed)
		p := &storePair{rng: rand.New(rand.NewPCG(seed, 0)), real: f.Store, database: f.db.Name, fake: newState(), uuids: map[string]string{}}
		for range 40 {
			p.ids = append(p.ids, f.Store.NewID())
		}
		for i := range 600 {
			name, fake, real := p.command(t.Context())
			if diff := cmp.Diff(fake, real, cmpopts.EquateEmpty()); diff != "" {
				t.Fatalf("seed %d, command %d, %s (-simulated +real):\n%s", seed, i, name, diff)
			}
		}
	})
}

type storePair struct {
	rng      *rand.Rand
	real     org.Store
	database string
	fake     *state
	ids      []string
	uuids    map[string]string // of the simulated collections, by the real ones'
}

// answer is what a command returns, and the kind of its error.
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

func pickOf[T any](p *storePair, of ...T) T { return of[p.rng.IntN(len(of))] }

func (p *storePair) time() time.Time { return time.Unix(1e9+p.rng.Int64N(5), 0).UTC() }

func (p *storePair) claim() org.Claim {
	c := org.Claim{ID: pickOf(p, "org_a", "org_b", "email:a", "email:b"), OrganizationID: pickOf(p, p.ids[:2]...),
		Revision: p.rng.Int64N(3), ClaimedAt: p.time()}
	if p.rng.IntN(3) == 0 {
		c.RestingSince = p.time()
	}
	return c
}

func (p *storePair) organization() org.Organization {
	o := org.Organization{
		ID: pickOf(p, p.ids[:3]...), Name: "Acme", Collection: "org_a", CollectionUUID: pickOf(p, "", "00ff"), Database: p.database,
		Status: pickOf(p, org.Provisioning, org.Active, org.Suspended, org.Deleting), Revision: p.rng.Int64N(3),
		Admins: []org.Member{{AdminID: p.ids[0], TokenVersion: 1}}, Claims: []string{pickOf(p, "org_a", "org_b"), "email:a"},
		CreatedAt: p.time(), UpdatedAt: p.time(),
	}
	if p.rng.IntN(2) == 0 {
		o.Operation = &org.Operation{ID: p.ids[5], Kind: org.Updating, StartedAt: p.time(), TouchedAt: p.time(), Name: "Bolt",
			Collection: "org_b", Claims: []string{"org_b"}, AdminID: p.ids[0], Email: "b", PasswordHash: "h", TokenVersion: 2}
	} else {
		o.Committed = p.ids[6]
	}
	return o
}

func (p *storePair) admin() org.Admin {
	return org.Admin{ID: pickOf(p, p.ids[:2]...), OrganizationID: pickOf(p, p.ids[:2]...), Email: pickOf(p, "", "a", "b"),
		PasswordHash: pickOf(p, "", "h", "i"), TokenVersion: p.rng.Int64N(3), Revision: p.rng.Int64N(4), CreatedAt: p.time(), UpdatedAt: p.time()}
}

// collections returns the collections that there are, with the simulated
// UUIDs, which are put down.
func (p *storePair) collections(ctx context.Context, names ...string) (fake, real []org.Collection, err error) {
	fake, _ = p.fake.list(names)
	real, err = p.real.Collections(ctx, p.database, names...)
	slices.SortFunc(real, func(a, b org.Collection) int { return strings.Compare(a.Name, b.Name) })
	for i := range real {
		uuid := real[i].UUID
		if _, known := p.uuids[uuid]; !known && i < len(fake) {
			p.uuids[uuid] = fake[i].UUID
		}
		real[i].UUID = p.uuids[uuid]
	}
	return fake, real, err
}

// collection returns one of that name and some collection's UUID, for either.
func (p *storePair) collection(ctx context.Context, name string) (fake, real org.Collection) {
	p.collections(ctx)
	fake.Name, real.Name = name, name
	all, err := p.real.Collections(ctx, p.database)
	if err == nil && len(all) > 0 && p.rng.IntN(4) > 0 {
		real.UUID = all[p.rng.IntN(len(all))].UUID
		fake.UUID = p.uuids[real.UUID]
	}
	return fake, real
}

// command sends a command to both.
func (p *storePair) command(ctx context.Context) (name string, fake, real answer) {
	id, name2 := pickOf(p, p.ids[:3]...), pickOf(p, "org_a", "org_b", "org_c")
	c, o, a := p.claim(), p.organization(), p.admin()
	only := func(err error) answer { return answerOf(nil, err) }
	all := func(match func(org.Organization) bool) answer { return answerOf(p.fake.findOrganizations(match)) }
	switch p.rng.IntN(22) {
	case 0:
		claims := []org.Claim{c}
		if d := p.claim(); d.ID != c.ID {
			claims = append(claims, d)
		}
		return fmt.Sprint("InsertClaims ", claims), answerOf(p.fake.insertClaims(claims)), answerOf(p.real.InsertClaims(ctx, claims))
	case 1:
		return "Claim " + c.ID, answerOf(p.fake.claim(c.ID)), answerOf(p.real.Claim(ctx, c.ID))
	case 2, 3:
		seen, err := p.fake.claim(c.ID)
		if err != nil || p.rng.IntN(4) == 0 {
			seen = p.claim()
		}
		next := p.claim()
		next.ID = seen.ID
		return fmt.Sprint("ReplaceClaim ", seen, next), answerOf(p.fake.replaceClaim(seen, next)), answerOf(p.real.ReplaceClaim(ctx, seen, next))
	case 4:
		seen, err := p.fake.claim(c.ID)
		if err != nil || p.rng.IntN(2) == 0 {
			seen = c
		}
		return fmt.Sprint("DeleteClaim ", seen), only(p.fake.deleteClaim(seen)), only(p.real.DeleteClaim(ctx, seen))
	case 5:
		return fmt.Sprint("ReleaseClaims ", id, c), only(p.fake.releaseClaims(id, c.Revision, []string{c.ID})), only(p.real.ReleaseClaims(ctx, id, c.Revision, []string{c.ID}))
	case 6:
		return fmt.Sprint("RestClaims ", id, c), only(p.fake.restClaims(id, c.Revision, []string{c.ID}, c.ClaimedAt)), only(p.real.RestClaims(ctx, id, c.Revision, []string{c.ID}, c.ClaimedAt))
	case 7:
		if _, err := p.fake.findOrganization(func(there org.Organization) bool { return there.ID == o.ID }); err == nil {
			return "", answer{}, answer{} // its error means nothing: no two operations use one id
		}
		return fmt.Sprint("InsertOrganization ", o), only(p.fake.insertOrganization(o)), only(p.real.InsertOrganization(ctx, o))
	case 8:
		byID := func(there org.Organization) bool { return there.ID == id }
		return "Organization " + id, answerOf(p.fake.findOrganization(byID)), answerOf(p.real.Organization(ctx, id))
	case 9:
		matching := all(func(there org.Organization) bool {
			return there.Status == org.Active && slices.Contains(there.Claims, c.ID)
		})
		real := answerOf(p.real.OrganizationByClaim(ctx, c.ID))
		found, _ := matching.Value.([]org.Organization)
		if len(found) == 0 {
			return "OrganizationByClaim " + c.ID, answerOf(nil, notFound("")), real
		}
		for _, o := range found { // any of them
			if cmp.Equal(answer{Value: o}, real, cmpopts.EquateEmpty()) {
				return "", answer{}, answer{}
			}
		}
		return "OrganizationByClaim " + c.ID, answer{Value: found[0]}, real
	case 10:
		organizations, err := p.real.UnfinishedOrganizations(ctx, o.CreatedAt)
		sortByID(organizations)
		return fmt.Sprint("UnfinishedOrganizations ", o.CreatedAt), all(func(there org.Organization) bool {
			return there.Operation != nil && !there.Operation.TouchedAt.After(o.CreatedAt)
		}), answerOf(organizations, err)
	case 11, 12:
		seen, err := p.fake.findOrganization(func(there org.Organization) bool { return there.ID == o.ID })
		if err != nil || p.rng.IntN(3) == 0 {
			seen.ID, seen.Status, seen.Revision = o.ID, pickOf(p, seen.Status, o.Status), pickOf(p, seen.Revision, o.Revision)
		}
		return fmt.Sprint("ReplaceOrganization ", seen, o), answerOf(p.fake.replaceOrganization(seen, o)), answerOf(p.real.ReplaceOrganization(ctx, seen, o))
	case 13:
		return fmt.Sprint("DeleteOrganization ", id, o.Revision), only(p.fake.deleteOrganization(id, o.Revision)), only(p.real.DeleteOrganization(ctx, id, o.Revision))
	case 14:
		if _, err := p.fake.findAdmin(func(there org.Admin) bool { return there.ID == a.ID }); err == nil {
			return "", answer{}, answer{}
		}
		return fmt.Sprint("InsertAdmin ", a), only(p.fake.insertAdmin(a)), only(p.real.InsertAdmin(ctx, a))
	case 15:
		match := func(there org.Admin) bool { return there.ID == a.ID && there.OrganizationID == a.OrganizationID }
		return fmt.Sprint("Admin ", a), answerOf(p.fake.findAdmin(match)), answerOf(p.real.Admin(ctx, a.OrganizationID, a.ID))
	case 16:
		admins, err := p.real.AdminsByEmail(ctx, a.Email)
		slices.SortFunc(admins, func(a, b org.Admin) int { return strings.Compare(a.ID, b.ID) })
		fake := p.fake.findAdmins(func(there org.Admin) bool { return there.Email == a.Email })
		return "AdminsByEmail " + a.Email, answer{Value: len(fake)}, answerOf(len(admins), err)
	case 17, 18:
		a.Revision++ // a record's is never 0
		return fmt.Sprint("UpdateAdmin ", a), only(p.fake.updateAdmin(a)), only(p.real.UpdateAdmin(ctx, a))
	case 19:
		return "CreateCollection " + name2, only(ignoreConflict(p.fake.createCollection(name2))), only(p.real.CreateCollection(ctx, p.database, name2))
	case 20:
		from, realFrom := p.collection(ctx, name2)
		to := pickOf(p, "org_a", "org_b", "org_c")
		if from.Name == to {
			return "", answer{}, answer{} // nobody does
		}
		return fmt.Sprint("RenameCollection ", realFrom, to), only(p.fake.renameCollection(from, to)), only(p.real.RenameCollection(ctx, p.database, realFrom, to))
	default:
		c, realC := p.collection(ctx, name2)
		if p.rng.IntN(2) == 0 {
			return fmt.Sprint("DropCollection ", realC), only(p.fake.dropCollection(c)), only(p.real.DropCollection(ctx, p.database, realC))
		}
		fake, real, err := p.collections(ctx, name2, "org_a")
		return "Collections " + name2, answerOf(fake, nil), answerOf(real, err)
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
