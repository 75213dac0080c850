package org

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"
)

// Deletion is on the record of an organization that is deleted but can be restored. Its
// collection has a name of its own until then, and nobody has a claim on what the organization
// was called, nor on the email of a member who is in no other organization: such an admin is
// asleep.
type Deletion struct {
	At         time.Time
	By         string    // the id of the admin
	Ends       time.Time // when Reconcile may delete it for good
	Collection string    // the name of the collection before
}

// Receipt is what is kept of an organization that was deleted for good after its grace.
type Receipt struct {
	ID        string // of the organization
	CreatedAt time.Time
	DeletedAt time.Time
	DeletedBy string // the id of the admin
	PurgedAt  time.Time
	PurgedBy  string // the operator; empty: the grace was over
	Members   int
	Documents int64 // about how many
}

// unknownGrace is the grace of a deletion of which functions of an older version, which ran beside
// those of this one and took it over, have left only the status.
const unknownGrace = 30 * 24 * time.Hour

// deletion returns the deletion of a deleted organization.
func (o *Organization) deletion() Deletion {
	if o.Deletion != nil {
		return *o.Deletion
	}
	name, _ := ParseName(o.Name)
	return Deletion{At: o.UpdatedAt, Ends: o.UpdatedAt.Add(unknownGrace), Collection: name.Collection()}
}

// buriedPrefix begins the name of the collection of a deleted organization. No slug has a
// hyphen.
const buriedPrefix = CollectionPrefix + "-deleted-"

// buriedName returns the name that the operation gives the collection. No other one uses it.
func buriedName(op *Operation) string { return buriedPrefix + op.ID }

// bury carries out a deletion that can be taken back, from any point at which it may have
// stopped. Every command of it is harmless when the organization is restored before it arrives.
func (s *Service) bury(ctx context.Context, o Organization) (Organization, error) {
	moved := o
	err := concurrently(
		func() (err error) { moved, err = s.move(ctx, o); return err },
		func() error { return s.Store.DeleteSessionsSince(ctx, o.ID, o.lastAct()) },
		func() error { return s.endMembers(ctx, o) },
	)
	if err != nil {
		return o, err
	}
	o = moved
	var tickets []string
	for _, i := range o.Invitations {
		tickets = append(tickets, i.ID)
	}
	next := o
	next.Status, next.Collection, next.Claims, next.Invitations = Deleted, o.Operation.Collection, o.Operation.Claims, nil
	next.Deletion = new(o.deletion())
	if o, err = s.commit(ctx, o, next); err == nil {
		s.releaseLater(ctx, o)
		s.deleteTickets(ctx, tickets)
	}
	return o, err
}

// endMembers puts those members of a deleted organization to sleep who are in no other one. Its
// error is errOvertaken if the organization is being restored, or is.
func (s *Service) endMembers(ctx context.Context, o Organization) error {
	admins, err := s.Store.AdminsByID(ctx, o.adminIDs())
	if err != nil {
		return err
	}
	// A restoration that begins after this writes each of the admins that were read.
	current, err := s.Store.Organization(ctx, o.ID)
	if errors.Is(err, ErrNotFound) || err == nil && (current.lives() || current.Operation != nil && current.Operation.Kind == Restoring) {
		err = errOvertaken
	}
	if err != nil {
		return err
	}
	var ends []func() error
	for _, a := range admins {
		ends = append(ends, func() error {
			if len(without(a.Organizations, []string{o.ID})) == 0 {
				// Who joins another organization changes the record before that lists the admin.
				if err := s.putToSleep(ctx, a); !errors.Is(err, errBusy) {
					return err
				}
			}
			return s.endUnlessNeeded(ctx, a.ID)
		})
	}
	return someAtOnce(ends)
}

// RestoreRequest is the body of a restoration.
type RestoreRequest struct {
	Reason           string  `json:"reason"`
	OrganizationName *string `json:"organization_name"` // nil: the one that it had
}

// Validate returns what is wrong, field by field.
func (r RestoreRequest) Validate() []FieldError {
	_, fields := r.parse()
	return fields
}

func (r RestoreRequest) parse() (name Name, fields []FieldError) {
	if r.OrganizationName != nil {
		return RenameRequest{r.Reason, *r.OrganizationName}.parse()
	}
	return name, ActRequest{r.Reason}.Validate()
}

var (
	errNotDeleted = refuse(NotFound, OrganizationNotFound, "no organization of that id is deleted and can be restored")
	errNoOwner    = refuse(Conflict, EmailTaken, "no owner of the organization can come back: somebody else has the email by now")
)

// Restore takes the deletion of the organization of that id back: it has its id, members,
// documents and indexes again, and its name or, if one is given, another one. All logins from
// before have ended. A member whose email somebody else has by now is no member any more; if
// no owner is left, nothing is restored. It returns the organization, also if it
// was restored by the same request before. Its errors are ErrInvalid, ErrNotFound if no
// organization of that id is deleted, or its grace is over, ErrConflict if the name or the owners' emails are taken, or
// another change of the organization is under way, and ErrUnavailable.
func (s *Service) Restore(ctx context.Context, operator, id string, r RestoreRequest) (Organization, error) {
	name, fields := r.parse()
	if err := invalid(fields); err != nil {
		return Organization{}, err
	}
	o, err := s.finishedByID(ctx, id)
	op, late := s.newOperation(ctx, Restoring)
	now := op.StartedAt
	op.Act = newAct(op.ID, ActRestore, operator, r.Reason, now)
	switch {
	case errors.Is(err, ErrNotFound):
		err = errNotDeleted
	case err != nil || late != nil:
		err = cmp.Or(err, late)
	case o.Status == Active && o.repeats(op.Act) && (r.OrganizationName == nil || o.Name == name.Display):
		// A primary that has lost its majority may have been asked.
		return s.write(ctx, o, o)
	case o.Status != Deleted || !now.Before(o.deletion().Ends):
		err = errNotDeleted
	case o.Operation != nil:
		err = errBusy
	}
	if err != nil {
		return Organization{}, err
	}
	op.Name, op.Collection = o.Name, o.deletion().Collection
	if r.OrganizationName != nil {
		op.Name, op.Collection = name.Display, name.Collection()
	}
	op.Claims = []string{op.Collection}
	next := o
	next.Operation = &op
	restored := o
	if err = s.claim(ctx, o.newClaims(op.Claims, now)); err == nil {
		restored, err = s.write(ctx, o, next)
	}
	if err == nil {
		restored, err = s.restore(ctx, restored)
		err = unlessUndone(err)
	}
	if err != nil {
		restored, err = s.afterFailure(ctx, o, op, err)
	}
	if err == nil {
		s.logAct(ctx, op.Act, id, false)
	}
	return restored, err
}

// restore carries out a Restoring operation, from any point at which it may have stopped. The
// collection comes last: if the members or the collection can't come back, all goes to sleep
// again.
func (s *Service) restore(ctx context.Context, o Organization) (Organization, error) {
	op, act := o.Operation, o.Operation.Act
	if act.ID == "" { // an older version has taken it over
		act = newAct(op.ID, ActRestore, "unknown", "unknown", op.StartedAt)
	}
	awake, err := s.wakeMembers(ctx, o)
	if err == nil {
		o, err = s.move(ctx, o)
	}
	if r := (refusedMove{}); errors.As(err, &r) {
		return s.sleepAgain(ctx, o, r.cause)
	}
	if err != nil {
		return o, err
	}
	next := o
	next.Status, next.Name, next.Collection, next.Claims, next.Deletion = Active, op.Name, op.Collection, op.Claims, nil
	next.History, next.UpdatedAt, next.Admins = o.historyWith(act), op.StartedAt, awake
	before := o.adminIDs()
	if o, err = s.commit(ctx, o, next); err != nil {
		return o, err
	}
	s.releaseLater(ctx, o)
	for _, id := range without(before, o.adminIDs()) {
		if err := s.leaveOrEnd(ctx, id, o.ID); err != nil {
			s.log().WarnContext(ctx, "the record of who could not come back is left to reconcile", "admin_id", id, "organization_id", o.ID, "error", err)
		}
	}
	return o, nil
}

// wakeMembers wakes the members of a deleted organization whose emails nobody else has, and
// returns those. Its error is a refusedMove if there is no owner among them.
func (s *Service) wakeMembers(ctx context.Context, o Organization) (members []Member, err error) {
	awake := make([]bool, len(o.Admins))
	var wakes []func() error
	for i, m := range o.Admins {
		wakes = append(wakes, func() (err error) { awake[i], err = s.wake(ctx, m.AdminID); return err })
	}
	if err := someAtOnce(wakes); err != nil {
		return nil, err
	}
	for i, m := range o.Admins {
		if awake[i] {
			members = append(members, m)
		}
	}
	if !slices.ContainsFunc(members, func(m Member) bool { return m.Role == RoleOwner }) {
		return nil, refusedMove{errNoOwner}
	}
	return members, nil
}

// sleepAgain undoes a Restoring operation, for the cause.
func (s *Service) sleepAgain(ctx context.Context, o Organization, cause error) (Organization, error) {
	next := o
	next.Operation = nil
	o, err := s.rewrite(ctx, o, next)
	if err == nil {
		err = concurrently(
			func() error { return s.release(ctx, o) },
			func() error { return s.endMembers(ctx, o) },
		)
	}
	if err != nil {
		return o, err
	}
	return o, undoneError{cause}
}

// Purge deletes the organization of that id, which is deleted and could be restored, for good,
// and leaves a receipt. It is no error if that was done before. Its errors are ErrInvalid,
// ErrNotFound if no organization of that id is deleted, ErrConflict if it is being restored, and
// ErrUnavailable.
func (s *Service) Purge(ctx context.Context, operator, id string, r ActRequest) error {
	if err := invalid(r.Validate()); err != nil {
		return err
	}
	o, err := s.finishedByID(ctx, id)
	switch {
	case errors.Is(err, ErrNotFound):
		if _, err = s.Receipt(ctx, id); errors.Is(err, ErrNotFound) {
			err = errNotDeleted
		}
		return err
	case err != nil:
		return err
	case o.Status != Deleted && o.Deletion == nil:
		return errNotDeleted
	case o.Operation != nil:
		return errBusy
	}
	op, err := s.newOperation(ctx, Removing)
	if err != nil {
		return err
	}
	op.Act = newAct(op.ID, ActPurge, operator, r.Reason, op.StartedAt)
	if err = s.purge(ctx, o, op); err == nil {
		s.logAct(ctx, op.Act, id, false)
	}
	return err
}

// purge deletes an organization for good that is deleted and has no operation under way, by the
// operation.
func (s *Service) purge(ctx context.Context, o Organization, op Operation) error {
	next := o
	next.Status, next.Operation = Deleting, &op
	purged, err := s.write(ctx, o, next)
	if err == nil {
		err = unlessUndone(s.remove(ctx, purged))
	}
	if err != nil {
		_, err = s.afterFailure(ctx, o, op, err)
	}
	return err
}

// purgeExpired deletes the organizations for good whose grace is over.
func (s *Service) purgeExpired(ctx context.Context, report *Report) error {
	all, err := s.Store.Organizations(ctx)
	var errs []error
	for _, o := range all {
		if o.Status != Deleted || o.Operation != nil || s.now().Before(o.deletion().Ends) {
			continue
		}
		op, err := s.newOperation(ctx, Removing)
		if err == nil {
			err = s.purge(ctx, o, op)
		}
		switch {
		case errors.Is(err, ErrConflict): // it is being restored
		case err != nil:
			errs = append(errs, err)
		default:
			report.Purged = append(report.Purged, s.withAge(Finding{Kind: ExpiredDeletion, OrganizationID: o.ID, Subject: o.Collection}, o.deletion().At))
		}
	}
	return errors.Join(append(errs, err)...)
}

// leaveReceipt keeps a receipt of an organization that is being deleted for good after its
// grace, before anything of it is deleted.
func (s *Service) leaveReceipt(ctx context.Context, o Organization) error {
	if o.Deletion == nil {
		return nil
	}
	r := Receipt{
		ID: o.ID, CreatedAt: o.CreatedAt, DeletedAt: o.Deletion.At, DeletedBy: o.Deletion.By,
		PurgedAt: o.Operation.StartedAt, PurgedBy: o.Operation.Act.By, Members: len(o.Admins),
	}
	var err error
	if r.Documents, err = s.Store.CountDocuments(ctx, o.Database, o.Collection); err != nil {
		return err
	}
	return s.Store.InsertReceipt(ctx, r)
}

// historyWith returns the acts of operators with one more, and without the oldest one if there
// are too many. That of lastAct stays.
func (o *Organization) historyWith(a Act) []Act {
	history := append(slices.Clone(o.History), a)
	if len(history) <= maxHistory {
		return history
	}
	last := (&Organization{History: history}).lastAct()
	i := slices.IndexFunc(history, func(a Act) bool { return a.ID != last })
	return slices.Delete(history, i, i+1)
}

// Receipt returns the receipt of the organization of that id. Its errors are ErrNotFound and
// ErrUnavailable.
func (s *Service) Receipt(ctx context.Context, id string) (Receipt, error) {
	r, err := s.Store.Receipt(ctx, id)
	if errors.Is(err, ErrNotFound) || err == nil && r.ID != id {
		return Receipt{}, errUnknownID
	}
	return r, err
}
