package org_test

import (
	"context"
	"errors"
	"flag"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"orgservice/local/mongodbtest"
	"orgservice/shared/auth"
	"orgservice/shared/org"
)

// tenant is an organization in the model.
type tenant struct {
	id, email, password string
	caller              auth.Caller
	suspended           bool
	slug                string // before its deletion
}

// model holds the organizations that must exist, by slug.
type model map[string]tenant

func (m model) emailTaken(email string) bool {
	for _, t := range m {
		if t.email == email {
			return true
		}
	}
	return false
}

// TestModel runs operations, crashes and repairs in random order and compares
// the service with the model after each.
func TestModel(t *testing.T) {
	t.Parallel()
	if f := flag.Lookup("rapid.checks"); f.Value.String() == f.DefValue {
		f.Value.Set("40") // of about 30 steps each; -rapid.checks for more
	}
	db := mongodbtest.New(t)
	slugs := []string{"acme", "bolt", "core"}
	spellings := map[string][]string{"acme": {"Acme", "ACME", " acme. "}, "bolt": {"Bolt", "ｂｏｌｔ"}, "core": {"Core", "-core-"}}
	emails := []string{"a@x.test", "b@x.test", "c@x.test"}
	passwords := []string{password, newPassword}
	ctx := context.Background()

	rapid.Check(t, func(rt *rapid.T) {
		w := worldIn(t, db.Fresh(t))
		s := w.service()
		m := model{}
		var deleted []tenant // and not restored

		slug := func(rt *rapid.T) string { return rapid.SampledFrom(slugs).Draw(rt, "slug") }
		spelled := func(rt *rapid.T, slug string) string { return rapid.SampledFrom(spellings[slug]).Draw(rt, "spelling") }
		wantResult := func(rt *rapid.T, what string, err error, ok bool) {
			if ok && err != nil || !ok && !errors.Is(err, org.ErrConflict) {
				rt.Fatalf("%s: %v; want success: %v", what, err, ok)
			}
		}
		// runWithCrash runs f with a service that may crash, and repairs the
		// database after a crash. It reports whether the crash interrupted f.
		runWithCrash := func(rt *rapid.T, f func(s *org.Service) error) (err error, interrupted bool) {
			at := rapid.IntRange(0, 12).Draw(rt, "crash at")
			if at == 0 {
				return f(s), false
			}
			c := &crash{at: at, lost: rapid.Bool().Draw(rt, "answer lost")}
			err = f(w.crashing(c))
			if !c.happened() {
				return err, false
			}
			w.makeStale()
			if rapid.Bool().Draw(rt, "crash in repair") {
				r := &crash{at: rapid.IntRange(1, 6).Draw(rt, "repair crash at"), lost: true}
				w.crashing(r).Reconcile(ctx, true)
				w.makeStale()
			}
			if _, err := s.Reconcile(ctx, true); err != nil {
				rt.Fatal(err)
			}
			return err, errors.Is(err, org.ErrUnavailable)
		}
		serviceHas := func(slug, id string) bool {
			o, err := s.Get(ctx, slug)
			if err != nil && !errors.Is(err, org.ErrNotFound) {
				rt.Fatal(err)
			}
			return err == nil && (id == "" || o.ID == id)
		}
		// addCreated adds an organization that was created to the model.
		addCreated := func(slug, email, password string) {
			o, err := s.Get(ctx, slug)
			if err != nil {
				rt.Fatal(err)
			}
			m[slug] = tenant{id: o.ID, email: email, password: password, caller: w.callerOf(o)}
			w.seed(o)
		}
		canLogIn := func(email, password string) bool {
			w.startWindow() // so that no attempt is throttled
			_, err := s.Login(ctx, org.LoginRequest{Email: email, Password: password})
			if err != nil && !errors.Is(err, org.ErrUnauthenticated) {
				rt.Fatal(err)
			}
			return err == nil
		}
		// onlyIf ends an action that does not fit the state, for which rapid draws another one.
		onlyIf := func(rt *rapid.T, fits bool) {
			if !fits {
				rt.Skip()
			}
		}
		pickOrganization := func(rt *rapid.T, suspendedToo bool) (string, tenant) {
			slug := slug(rt)
			tenant, ok := m[slug]
			onlyIf(rt, ok && (suspendedToo || !tenant.suspended))
			tenant.caller.ExpiresAt = w.clock().Add(time.Hour)
			return slug, tenant
		}
		pickTenant := func(rt *rapid.T) (string, tenant) { return pickOrganization(rt, false) }

		rt.Repeat(map[string]func(*rapid.T){
			"create": func(rt *rapid.T) {
				slug, email := slug(rt), rapid.SampledFrom(emails).Draw(rt, "email")
				_, taken := m[slug]
				possible := !taken && !m.emailTaken(email)
				name := spelled(rt, slug)
				err, interrupted := runWithCrash(rt, func(s *org.Service) error {
					_, err := s.Create(ctx, org.CreateRequest{OrganizationName: name, Email: email, Password: password})
					return err
				})
				if !interrupted {
					wantResult(rt, "create", err, possible)
				}
				if possible && (err == nil || interrupted && serviceHas(slug, "")) {
					addCreated(slug, email, password)
				}
			},
			"rename": func(rt *rapid.T) {
				from, tenant := pickTenant(rt)
				to := slug(rt)
				_, taken := m[to]
				name := spelled(rt, to)
				err, interrupted := runWithCrash(rt, func(s *org.Service) error {
					_, err := s.Update(ctx, tenant.caller, org.UpdateRequest{OrganizationName: &name})
					return err
				})
				if !interrupted {
					wantResult(rt, "rename", err, !taken || to == from)
				}
				if err == nil || interrupted && serviceHas(to, tenant.id) {
					delete(m, from)
					m[to] = tenant
				}
			},
			"change credentials": func(rt *rapid.T) {
				slug, tenant := pickTenant(rt)
				email, next := rapid.SampledFrom(emails).Draw(rt, "email"), rapid.SampledFrom(passwords).Draw(rt, "password")
				possible := email == tenant.email || !m.emailTaken(email)
				err, interrupted := runWithCrash(rt, func(s *org.Service) error {
					w.startWindow()
					_, err := s.Update(ctx, tenant.caller, org.UpdateRequest{Email: &email, Password: &next, CurrentPassword: &tenant.password})
					return err
				})
				if !interrupted {
					wantResult(rt, "change credentials", err, possible)
				}
				o, e := s.Get(ctx, slug)
				if e != nil {
					rt.Fatal(e)
				}
				if changed := w.tokenVersion(o.Admins[0].AdminID) > tenant.caller.TokenVersion; err == nil || changed {
					if err != nil && !interrupted {
						rt.Fatalf("answer %v, but the token is revoked", err)
					}
					tenant.email, tenant.password, tenant.caller = email, next, w.callerOf(o)
					m[slug] = tenant
				}
			},
			"delete": func(rt *rapid.T) {
				slug, tenant := pickTenant(rt)
				grace := rapid.Bool().Draw(rt, "to be restored")
				err, interrupted := runWithCrash(rt, func(s *org.Service) error {
					if grace {
						s.DeleteGrace = 365 * 24 * time.Hour
					}
					_, err := s.Delete(ctx, tenant.caller, org.DeleteRequest{})
					s.DeleteGrace = 0
					return err
				})
				if err == nil || interrupted && !serviceHas(slug, tenant.id) {
					delete(m, slug)
					if tenant.slug = slug; grace {
						deleted = append(deleted, tenant)
					}
				} else if !interrupted {
					rt.Fatal(err)
				}
			},
			"restore": func(rt *rapid.T) {
				onlyIf(rt, len(deleted) > 0)
				i := rapid.IntRange(0, len(deleted)-1).Draw(rt, "deleted")
				tenant := deleted[i]
				_, taken := m[tenant.slug]
				err, interrupted := runWithCrash(rt, func(s *org.Service) error {
					_, err := s.Restore(ctx, "operator", tenant.id, org.RestoreRequest{Reason: "a reason"})
					return err
				})
				if !interrupted {
					wantResult(rt, "restore", err, !taken && !m.emailTaken(tenant.email))
				}
				if err == nil || interrupted && serviceHas(tenant.slug, tenant.id) {
					deleted = slices.Delete(deleted, i, i+1)
					o, _, e := s.Show(ctx, tenant.id)
					if e != nil {
						rt.Fatal(e)
					}
					w.seedSession(o)
					m[tenant.slug] = tenant
				}
			},
			"purge": func(rt *rapid.T) {
				onlyIf(rt, len(deleted) > 0)
				tenant := deleted[0]
				err, interrupted := runWithCrash(rt, func(s *org.Service) error {
					return s.Purge(ctx, "operator", tenant.id, org.ActRequest{Reason: "a reason"})
				})
				if err != nil && !interrupted {
					rt.Fatal(err)
				}
				_, _, e := s.Show(ctx, tenant.id)
				if gone := errors.Is(e, org.ErrNotFound); gone {
					deleted = deleted[1:]
				} else if err == nil || e != nil {
					rt.Fatalf("it is purged, and shown with %v", e)
				}
			},
			"suspend, or reactivate": func(rt *rapid.T) {
				slug, tenant := pickOrganization(rt, true)
				act, r := (*org.Service).Suspend, org.ActRequest{Reason: "a reason"}
				if tenant.suspended {
					act = (*org.Service).Reactivate
				}
				err, interrupted := runWithCrash(rt, func(s *org.Service) error {
					_, err := act(s, ctx, "operator", tenant.id, r)
					return err
				})
				if err != nil && !interrupted {
					rt.Fatal(err)
				}
				o, _, e := s.Show(ctx, tenant.id)
				if e != nil {
					rt.Fatal(e)
				}
				if suspended := o.Status == org.Suspended; suspended != tenant.suspended {
					tenant.suspended = suspended
					if !suspended { // whoever was logged in is no more
						w.seedSession(o)
					}
				} else if err == nil {
					rt.Fatalf("%s is %s", slug, o.Status)
				}
				m[slug] = tenant
			},
			"": func(rt *rapid.T) {
				for _, slug := range slugs {
					tenant, exists := m[slug]
					if exists = exists && !tenant.suspended; serviceHas(slug, tenant.id) != exists {
						rt.Fatalf("%q exists: %v; want %v", slug, !exists, exists)
					}
					if tenant.id != "" && canLogIn(tenant.email, tenant.password) != exists {
						rt.Fatalf("the admin of %q can log in: %v; want %v", slug, !exists, exists)
					}
				}
				for _, p := range w.problems() {
					rt.Error(p)
				}
			},
		})
	})
}
