package org

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"
)

// IdempotencyKey is a key by which a client repeats a request that changes an organization,
// because it does not know what became of it. The key has the id of the change, or of each that
// was tried, before one begins. So a record says whether the change is committed, even if the
// process crashed then.
type IdempotencyKey struct {
	ID          string
	Fingerprint string // of the request
	Tries       []Try  // the latest last
	ClaimedAt   time.Time
	ExpiresAt   time.Time

	// SetsPassword is whether the request sets a password, or nil if an older version has made
	// the key.
	SetsPassword *bool

	// What the request came to. It has no time unless a change is committed.
	Outcome Outcome
}

// Try is an attempt to carry out the request of an idempotency key.
type Try struct {
	Change         string // the id of the operation, or of the operator's act
	OrganizationID string // that it changes or creates
	AdminID        string // who makes it, or is created; empty: an operator
}

// Outcome is what a request with an idempotency key came to.
type Outcome struct {
	OrganizationID string    // empty: that of the latest try
	Name           string    // of the organization then; may be empty
	CreatedAt      time.Time // of the organization; may be zero
	At             time.Time // of the change, or the answer
	Answer         []byte    // empty: the process crashed before it was known
}

const (
	keyTTL = 24 * time.Hour
	// maxTries is how many tries that have crashed a key has at most. Each takes a minute.
	maxTries = 100
)

// RepeatableRequest is a request with an idempotency key.
type RepeatableRequest struct {
	Key            string    // with all that says whose it is
	Fingerprint    string    // of all that is in the request but passwords
	OrganizationID string    // that it changes; empty: a new one
	AdminID        string    // who makes it; empty: an operator, or a new admin if the organization is new, too
	CallerOf       string    // the organization of the access token; empty: there is none
	Until          time.Time // when that token expires
	Password       string    // that the admin has after it; empty: it sets none
	ClientAddress  string    // may be empty
}

var (
	errKeyReused = &Error{Kind: Invalid, Reason: KeyReused, Message: "a header is not valid",
		Fields: []FieldError{{"Idempotency-Key", "was used with another request: use a new one for each"}}}
	errOtherPassword = &Error{Kind: Invalid, Reason: KeyReused, Message: "a header is not valid",
		Fields: []FieldError{{"Idempotency-Key", "was used with another password, or that was changed since"}}}
	errKeyInUse = &Error{Kind: Conflict, Reason: KeyInUse, RetryAfter: 5 * time.Second,
		Message: "the first request with this Idempotency-Key is under way or, after a crash, will be finished or undone within a minute"}
)

// Once carries out the request, which do does, unless it was carried out before with the same
// idempotency key, in the last 24 hours. Then it returns the outcome, and otherwise nil and the
// error of do. The context that do gets must be that of the request: its change has the id that
// is on the key. If do returns an error other than ErrUnavailable, nothing was changed, and the
// key can be used again. The errors of Once are those of do, ErrInvalid if the key was
// used with another request, ErrConflict if that one is under way, ErrUnauthenticated if the caller's
// organization is suspended or the token has expired, ErrThrottled after too many guesses at the password that it sets, and ErrUnavailable.
func (s *Service) Once(ctx context.Context, r RepeatableRequest, do func(context.Context) (answer []byte, err error)) (*Outcome, Organization, error) {
	k, mine, err := s.claimKey(ctx, r)
	if err != nil {
		return nil, Organization{}, err
	}
	if !mine {
		return s.repeat(ctx, r, k)
	}
	before := k
	before.Tries, before.ClaimedAt = k.Tries[:len(k.Tries)-1], time.Time{}
	done, err := s.finishTries(ctx, r, before)
	if err != nil {
		s.keep(ctx, k, before)
		return nil, Organization{}, err
	}
	if !done.Outcome.At.IsZero() {
		s.keep(ctx, k, done)
		return s.repeat(ctx, r, done)
	}
	try, begun := k.Tries[len(k.Tries)-1], false
	answer, err := do(context.WithValue(ctx, tryInContext{}, keyedTry{try, k.ID, k.ClaimedAt, &begun}))
	refusal, refused := errors.AsType[*Error](err)
	switch {
	case err == nil:
		outcome := Outcome{OrganizationID: try.OrganizationID, At: s.now(), Answer: answer}
		if err := s.Store.FinishKey(ctx, k.ID, try.Change, outcome); err != nil {
			s.log().WarnContext(ctx, "the answer to a request is not on its key", "error", err)
		}
	case begun && (!refused || refusal.Kind == Unavailable): // it is not known what will become of it
		next := k
		next.Tries, next.ClaimedAt = []Try{try}, time.Time{}
		s.keep(ctx, k, next)
	default:
		if err := s.Store.DeleteKey(ctx, k); err != nil {
			s.log().WarnContext(ctx, "the key of a refused request is left", "error", err)
		}
	}
	return nil, Organization{}, err
}

// keep replaces the key. A failure is only logged: who repeats the request finds out, but
// perhaps waits a minute.
func (s *Service) keep(ctx context.Context, seen, next IdempotencyKey) {
	if _, err := s.Store.ReplaceKey(ctx, seen, next); err != nil {
		s.log().WarnContext(ctx, "the outcome of a request is not on its key", "error", err)
	}
}

// claimKey makes the key, or takes it over if the latest try has ended without an outcome. It
// reports whether the key is the caller's: otherwise the key has an outcome.
func (s *Service) claimKey(ctx context.Context, r RepeatableRequest) (k IdempotencyKey, mine bool, err error) {
	now := s.now()
	setsPassword := r.Password != ""
	fresh := IdempotencyKey{
		ID: r.Key, Fingerprint: r.Fingerprint, Tries: []Try{s.newTry(r)}, ClaimedAt: now, ExpiresAt: now.Add(keyTTL), SetsPassword: &setsPassword,
	}
	for range claimAttempts {
		made, err := s.Store.InsertKey(ctx, fresh)
		if err != nil || made {
			return fresh, made, err
		}
		seen, err := s.Store.Key(ctx, r.Key)
		if errors.Is(err, ErrNotFound) { // the request was refused meanwhile
			continue
		}
		next := seen
		switch {
		case err != nil:
			return seen, false, err
		case !now.Before(seen.ExpiresAt):
			next = fresh
		case !seen.isOf(r):
			return seen, false, errKeyReused
		case !seen.Outcome.At.IsZero():
			return seen, false, nil
		case !s.stale(seen.ClaimedAt), len(seen.Tries) >= maxTries:
			return seen, false, errKeyInUse
		default:
			next.Tries, next.ClaimedAt, next.ExpiresAt = append(slices.Clone(seen.Tries), s.newTry(r)), now, fresh.ExpiresAt
		}
		made, err = s.Store.ReplaceKey(ctx, seen, next)
		if err != nil || made {
			return next, made, err
		}
	}
	return k, false, errKeyInUse
}

func (s *Service) newTry(r RepeatableRequest) Try {
	t := Try{s.Store.NewID(), r.OrganizationID, r.AdminID}
	if t.OrganizationID == "" {
		t.OrganizationID = s.Store.NewID()
		if t.AdminID == "" {
			t.AdminID = s.Store.NewID()
		}
	}
	return t
}

// isOf reports whether it is the key of that request.
func (k *IdempotencyKey) isOf(r RepeatableRequest) bool {
	return k.Fingerprint == r.Fingerprint && (k.SetsPassword == nil || *k.SetsPassword == (r.Password != ""))
}

// finishTries returns the key of the request with the outcome of the one of its tries that is
// committed, if there is one. It finishes what is stale, and makes sure that no try is committed
// later. Its errors are ErrConflict as long as one is under way, ErrInvalid if the key is another
// request's by now, and ErrUnavailable.
//
// What a try reads of a record, it reads before the end of its lease, which newOperation
// checks. The key was taken over after that. So the write of the record here comes after the
// reading, and the write of the try fails. A creation that has no record by now ends at its lease.
func (s *Service) finishTries(ctx context.Context, r RepeatableRequest, k IdempotencyKey) (IdempotencyKey, error) {
	for _, t := range k.Tries {
		outcome, err := s.outcomeOfTry(ctx, t)
		if errors.Is(err, errBusy) {
			err = errKeyInUse
		}
		if err != nil {
			return k, err
		}
		if outcome != nil {
			k.Outcome = *outcome
			return k, nil
		}
	}
	if len(k.Tries) == 0 {
		return k, nil
	}
	// Whoever has overwritten or deleted what a record said of a try has told the key before.
	current, err := s.Store.Key(ctx, k.ID)
	if errors.Is(err, ErrNotFound) { // it was taken over, and the request was refused
		err = errKeyInUse
	}
	if err == nil && !current.isOf(r) { // the same, and it was used with another one
		err = errKeyReused
	}
	return current, err
}

func (s *Service) outcomeOfTry(ctx context.Context, t Try) (*Outcome, error) {
	outcome := Outcome{OrganizationID: t.OrganizationID, At: s.now()} // of a change of the admin alone
	o, err := s.finishedByID(ctx, t.OrganizationID)
	switch {
	case errors.Is(err, ErrNotFound):
		if err := s.releaseAllOf(ctx, Owner{OrganizationID: t.OrganizationID}); err != nil {
			return nil, err
		}
	case err != nil:
		return nil, err
	case o.committed(t.Change):
		return new(o.outcome()), nil
	case o.Operation != nil:
		return nil, errBusy
	default:
		if _, err := s.write(ctx, o, o); err != nil {
			return nil, err
		}
	}
	changed, err := s.stopTry(ctx, t)
	if err != nil || !changed {
		return nil, err
	}
	return &outcome, nil
}

// stopTry reports whether the try has changed the email or the password of its admin, and
// nothing else. If not, it makes sure that no late command of it does.
func (s *Service) stopTry(ctx context.Context, t Try) (changed bool, err error) {
	if t.AdminID == "" {
		return false, nil
	}
	a, err := s.Store.Admin(ctx, t.AdminID)
	switch {
	case errors.Is(err, ErrNotFound):
		return false, s.releaseAllOf(ctx, Owner{AdminID: t.AdminID})
	case err != nil || a.Committed == t.Change:
		return err == nil, err
	}
	return false, s.releaseUnusedOf(ctx, a, a.Revision)
}

// repeat returns the outcome of a key, and the organization, as it is now or, if it is gone, with
// what the outcome says of it.
func (s *Service) repeat(ctx context.Context, r RepeatableRequest, k IdempotencyKey) (*Outcome, Organization, error) {
	if r.CallerOf != "" {
		if !s.now().Before(r.Until) { // the authorizer's answer may be an older one
			return nil, Organization{}, errRevoked
		}
		o, err := s.Store.Organization(ctx, r.CallerOf)
		if err == nil && o.Status == Suspended { // nothing of it works
			err = errRevoked
		}
		if err != nil && !errors.Is(err, ErrNotFound) {
			return nil, Organization{}, err
		}
	}
	if r.Password != "" {
		if err := s.checkRepeatedPassword(ctx, r, k); err != nil {
			return nil, Organization{}, err
		}
	}
	outcome := k.Outcome
	if len(outcome.Answer) > 0 {
		return &outcome, Organization{}, nil
	}
	// What comes after the commit may be missing, and is part of the answer.
	if r.AdminID != "" {
		a, err := s.Store.Admin(ctx, r.AdminID)
		if err == nil {
			err = s.Store.FenceOrganizations(ctx, a.Organizations)
		}
		if err != nil && !errors.Is(err, ErrNotFound) {
			return nil, Organization{}, err
		}
	}
	id := cmp.Or(outcome.OrganizationID, k.Tries[len(k.Tries)-1].OrganizationID)
	o, err := s.finishedByID(ctx, id)
	switch {
	case errors.Is(err, ErrNotFound):
		name, _ := ParseName(outcome.Name)
		o, err = Organization{ID: id, Name: outcome.Name, Collection: name.Collection(), CreatedAt: outcome.CreatedAt, UpdatedAt: outcome.At}, nil
	case err == nil && o.Operation != nil && o.Operation.Key == k.ID: // what is left of it
		err = errKeyInUse
	case err == nil && o.Status == Suspended:
		err = s.endSuspended(ctx, o)
	case err == nil && o.Deletion != nil && r.AdminID != "": // a name that only operators know
		o.Collection = o.Deletion.Collection
	}
	return &outcome, o, err
}

// checkRepeatedPassword returns errKeyReused if the password is not the one that the admin has
// now. It is not in the fingerprint: a fast hash of it would be there. Who repeats a request may
// have lost the account since, so it is an attempt like one to log in; but it is no login, so it ends
// no failures. Where nobody can log in, because the account is gone or suspended, nothing tells whether
// the password is right.
func (s *Service) checkRepeatedPassword(ctx context.Context, r RepeatableRequest, k IdempotencyKey) error {
	i := slices.IndexFunc(k.Tries, func(t Try) bool { return t.OrganizationID == k.Outcome.OrganizationID })
	adminID := r.AdminID
	if i >= 0 {
		adminID = cmp.Or(adminID, k.Tries[i].AdminID)
	}
	var a Admin
	var signedUp []Organization
	err := concurrently(
		func() (err error) { a, err = s.Store.Admin(ctx, adminID); return err },
		func() (err error) {
			if r.CallerOf == "" {
				signedUp, err = s.Store.OrganizationsByID(ctx, []string{k.Outcome.OrganizationID})
			}
			return err
		},
	)
	isSuspended := func(o Organization) bool { return o.Status == Suspended }
	if errors.Is(err, ErrNotFound) || err == nil && (a.Asleep || slices.ContainsFunc(signedUp, isSuspended)) {
		return nil
	}
	if err != nil {
		return err
	}
	attempt, ok, err := s.provePassword(ctx, a, r.Password, r.ClientAddress)
	if err != nil {
		return err
	}
	s.takeBack(ctx, attempt.counted()...)
	if !ok {
		return errOtherPassword
	}
	return nil
}

// keyedTry is what the context of a request with an idempotency key holds, since the methods of
// the service differ in nothing else with a key.
type keyedTry struct {
	Try
	key       string
	claimedAt time.Time
	begun     *bool // whether there is an operation
}

type tryInContext struct{}

// tryOf returns the try of the request, or a zero one if it has no idempotency key.
func tryOf(ctx context.Context) keyedTry {
	t, _ := ctx.Value(tryInContext{}).(keyedTry)
	return t
}

// newOperation returns a new operation, whose id is on the key if the request has one. What it
// depends on must have been read before. Its error is errOvertaken if the key may have been taken
// over by now.
func (s *Service) newOperation(ctx context.Context, kind OperationKind) (Operation, error) {
	now := s.now()
	t := tryOf(ctx)
	if t.key == "" {
		return Operation{ID: s.Store.NewID(), Kind: kind, StartedAt: now, TouchedAt: now}, nil
	}
	*t.begun = true
	op := Operation{ID: t.Change, Key: t.key, Kind: kind, StartedAt: now, TouchedAt: t.claimedAt}
	return op, s.checkLease(&op)
}

// tellKey keeps on the key that a change of the organization is committed, before the record that
// says so is changed again, or deleted.
func (s *Service) tellKey(ctx context.Context, key, change string, outcome Outcome) error {
	if key == "" {
		return nil
	}
	return s.Store.FinishKey(ctx, key, change, outcome)
}

// tellChanged is tellKey for what the admin's record says is committed.
func (s *Service) tellChanged(ctx context.Context, a Admin) error {
	return s.tellKey(ctx, a.CommittedKey, a.Committed, Outcome{At: a.UpdatedAt})
}

// tellCommitted is tellKey for what the organization's record says is committed, and next will not
// say any more.
func (s *Service) tellCommitted(ctx context.Context, o, next Organization) error {
	err := s.tellKey(ctx, o.CommittedKey, o.Committed, o.outcome())
	if err == nil {
		err = s.tellActs(ctx, o, next)
	}
	return err
}

// tellActs is tellKey for the operators' acts that next has no more.
func (s *Service) tellActs(ctx context.Context, o, next Organization) error {
	var tells []func() error
	for _, a := range o.History {
		isLeft := slices.ContainsFunc(next.History, func(b Act) bool { return a.ID == b.ID })
		if a.Key != "" && !isLeft && s.now().Sub(a.At) < keyTTL+2*MaxSkew {
			tells = append(tells, func() error { return s.tellKey(ctx, a.Key, a.ID, o.outcome()) })
		}
	}
	return someAtOnce(tells)
}

// outcome returns what is kept of a change of the organization that is committed.
func (o *Organization) outcome() Outcome {
	return Outcome{OrganizationID: o.ID, Name: o.Name, CreatedAt: o.CreatedAt, At: o.UpdatedAt}
}
