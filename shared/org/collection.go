package org

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// temporaryPrefix begins the name under which a collection is created. No other
// operation uses that name. The collection is then renamed, and a rename fails
// if a collection of the new name exists. So no organization ever begins with a
// collection that somebody else has made.
const temporaryPrefix = CollectionPrefix + "-new-" // no slug has a hyphen

// temporaryName returns the temporary name of the operation's collection, which
// holds the time at which the operation began and its id.
func temporaryName(op *Operation) string {
	return fmt.Sprintf("%s%d-%s", temporaryPrefix, op.StartedAt.Unix(), op.ID)
}

// parseTemporaryName returns the time in a temporary name. It returns false for
// any other name.
func parseTemporaryName(name string) (began time.Time, ok bool) {
	rest, ok := strings.CutPrefix(name, temporaryPrefix)
	if !ok {
		return time.Time{}, false
	}
	var seconds int64
	fmt.Sscanf(rest, "%d-", &seconds)
	return time.Unix(seconds, 0).UTC(), true
}

var errNameUnusable = refuse(Conflict, NameUnusable, "the name can't be used: the database has another collection of that name; choose another name")

// findCollection returns the collection of that name, or errOvertaken if there
// is none.
func (s *Service) findCollection(ctx context.Context, database, name string) (Collection, error) {
	found, err := s.Store.Collections(ctx, database, name)
	if err == nil && len(found) == 0 {
		err = errOvertaken
	}
	if err != nil {
		return Collection{}, err
	}
	return found[0], nil
}

// findOwn returns the organization's collection: the one that has the UUID on
// the record, whatever its name is. There may be none, because the database was
// restored from a backup, or because a version that stored no UUIDs made the
// record. Then it is the collection that has the name on the record or the new
// name in the journal, and its UUID is written to the record before anything
// else is done. The error is errNoCollection if none of these exists.
func (s *Service) findOwn(ctx context.Context, o Organization) (Organization, Collection, error) {
	all, err := s.Store.Collections(ctx, o.Database)
	if err != nil {
		return o, Collection{}, err
	}
	names := []string{o.Collection}
	if o.Operation != nil && o.Operation.Collection != "" {
		names = append(names, o.Operation.Collection)
	}
	var named []Collection
	for _, c := range all {
		if c.UUID != "" && c.UUID == o.CollectionUUID {
			return o, c, nil
		}
		if slices.Contains(names, c.Name) {
			named = append(named, c)
		}
	}
	c, err := s.chooseCollection(ctx, o, named)
	if err != nil || c.UUID == o.CollectionUUID {
		return o, c, err
	}
	next := o
	next.CollectionUUID = c.UUID
	o, err = s.rewrite(ctx, o, next)
	return o, c, err
}

// chooseCollection returns the collection that may be the organization's. No
// record has its UUID, and if there are two it is the one with documents.
func (s *Service) chooseCollection(ctx context.Context, o Organization, named []Collection) (chosen Collection, err error) {
	err = errNoCollection
	chosenEmpty := false
	for _, c := range named {
		if stray, err := s.isStray(ctx, o, c); err != nil {
			return chosen, err
		} else if !stray {
			continue
		}
		if strings.HasPrefix(c.Name, buriedPrefix) {
			return c, nil // nobody else knows that name
		}
		empty, emptyErr := s.Store.CollectionIsEmpty(ctx, o.Database, c.Name)
		switch {
		case emptyErr != nil:
			return chosen, emptyErr
		case chosen == Collection{} || chosenEmpty && !empty || chosenEmpty && c.Name == o.Collection:
			chosen, chosenEmpty, err = c, empty, nil
		case !empty:
			return chosen, fmt.Errorf("organization %s: either of the collections %q and %q may be its own", o.ID, chosen.Name, c.Name)
		}
	}
	return chosen, err
}

var errNoCollection = errors.New("the organization has no collection")

// refusedMove is the error of move if it is known that the collection was not
// renamed.
type refusedMove struct{ cause error }

func (r refusedMove) Error() string { return r.cause.Error() }

// move renames the organization's collection to the name in the journal, unless
// it has that name already. It tries again if others rename it at the same time.
func (s *Service) move(ctx context.Context, o Organization) (Organization, error) {
	to, c := o.Operation.Collection, o.collection()
	for range recoverAttempts {
		if err := s.checkLease(o.Operation); err != nil {
			return o, err
		}
		err := s.Store.RenameCollection(ctx, o.Database, c, to)
		if err == nil || errors.Is(err, ErrUnavailable) {
			return o, err
		}
		var lost error
		if o, c, lost = s.findOwn(ctx, o); errors.Is(lost, errNoCollection) {
			s.log().ErrorContext(ctx, "collection is missing: a new one is made", "organization_id", o.ID, "collection", o.Collection)
			o, c, lost = s.recreateCollection(ctx, o)
		}
		if lost != nil || c.Name == to {
			return o, lost
		}
		if errors.Is(err, ErrConflict) {
			err = s.clearName(ctx, o, to)
		}
		if errors.Is(err, ErrUnavailable) {
			return o, err
		}
		if err != nil && !errors.Is(err, ErrNotFound) {
			return o, refusedMove{err}
		}
		if c.Name != o.Collection {
			// A late command has renamed it, or this operation is over and
			// others have followed it. This write fails in the second case.
			if o, err = s.rewrite(ctx, o, o); err != nil {
				return o, err
			}
		}
	}
	return o, errOvertaken
}

// moveBack gives the organization's collection the name on the record again, after
// move has renamed it.
func (s *Service) moveBack(ctx context.Context, o Organization) (Organization, error) {
	for range recoverAttempts {
		if err := s.checkLease(o.Operation); err != nil {
			return o, err
		}
		found, c, err := s.findOwn(ctx, o)
		if errors.Is(err, errNoCollection) {
			found, c, err = s.recreateCollection(ctx, found)
		}
		if o = found; err != nil || c.Name == o.Collection {
			return o, err
		}
		err = s.Store.RenameCollection(ctx, o.Database, c, o.Collection)
		if errors.Is(err, ErrConflict) {
			// The tenant's application has written under the name meanwhile.
			if err = s.setAside(ctx, o, o.Collection); err == errNameUnusable && !s.Store.ChecksCollections() {
				s.log().ErrorContext(ctx, "collection has the wrong name", "organization_id", o.ID, "collection", o.Collection, "its_name", c.Name)
				return o, nil // updates and deletions find it; Reconcile reports it
			}
		}
		if err != nil && !errors.Is(err, ErrNotFound) {
			return o, err
		}
	}
	return o, errOvertaken
}

// recreateCollection makes a new collection for an organization that has none,
// under the temporary name of its operation.
func (s *Service) recreateCollection(ctx context.Context, o Organization) (Organization, Collection, error) {
	name := temporaryName(o.Operation)
	if err := s.Store.CreateCollection(ctx, o.Database, name); err != nil {
		return o, Collection{}, err
	}
	c, err := s.findCollection(ctx, o.Database, name)
	if err != nil {
		return o, c, err
	}
	next := o
	next.CollectionUUID = c.UUID
	o, err = s.rewrite(ctx, o, next)
	return o, c, err
}

// clearName drops the collection that has the name which the organization's is
// to get. It returns ErrConflict if that collection holds documents or is
// another organization's, or if the server does not compare UUIDs.
func (s *Service) clearName(ctx context.Context, o Organization, name string) error {
	found, err := s.Store.Collections(ctx, o.Database, name)
	if err != nil || len(found) == 0 || found[0] == (Collection{name, o.CollectionUUID}) {
		return err
	}
	dropped, err := s.isStray(ctx, o, found[0])
	if !s.Store.ChecksCollections() {
		dropped = false // a late command could drop the organization's collection
	}
	if err == nil && dropped {
		if dropped, err = s.dropEmpty(ctx, o.Database, found[0]); errors.Is(err, ErrNotFound) {
			return nil
		}
	}
	if err == nil && !dropped {
		err = errNameUnusable
	}
	return err
}

// asidePrefix begins the name of a stray collection that was set aside. No slug
// has a hyphen.
const asidePrefix = CollectionPrefix + "-stray-"

// setAside gives another name to the collection that has the name which the
// organization's is to get. Reconcile drops it later if it is empty; otherwise a
// person can look at its documents. setAside returns ErrConflict if that collection is another organization's, or if the
// server does not compare UUIDs.
func (s *Service) setAside(ctx context.Context, o Organization, name string) error {
	found, err := s.Store.Collections(ctx, o.Database, name)
	if err != nil || len(found) == 0 {
		return err
	}
	stray, err := s.isStray(ctx, o, found[0])
	if err != nil {
		return err
	}
	if !stray || !s.Store.ChecksCollections() {
		return errNameUnusable
	}
	aside := asidePrefix + found[0].UUID
	s.log().WarnContext(ctx, "stray collection set aside", "organization_id", o.ID, "collection", name, "now", aside)
	return s.Store.RenameCollection(ctx, o.Database, found[0], aside)
}

// isStray reports whether a collection belongs to no organization and has a name
// that this one has claimed.
func (s *Service) isStray(ctx context.Context, o Organization, c Collection) (bool, error) {
	claim, err := s.Store.Claim(ctx, c.Name)
	if errors.Is(err, ErrNotFound) {
		return false, nil
	}
	if err != nil || claim.OrganizationID != o.ID {
		return false, err
	}
	// If a record has its UUID, a late command has given it this name.
	// Reconcile gives it its own name back.
	all, err := s.Store.Organizations(ctx)
	return !slices.ContainsFunc(all, func(o Organization) bool { return c.UUID != "" && o.CollectionUUID == c.UUID }), err
}

// dropEmpty drops a collection if it has no documents. It reports whether it had
// none. Its error is ErrNotFound if somebody has dropped or renamed it.
func (s *Service) dropEmpty(ctx context.Context, database string, c Collection) (empty bool, err error) {
	empty, err = s.Store.CollectionIsEmpty(ctx, database, c.Name)
	if err != nil || !empty {
		return false, err
	}
	return true, s.Store.DropCollection(ctx, database, c)
}

// dropCollection drops the collection of an organization that is being deleted.
// If the organization never became active, documents in the collection can't be
// its own, so they stay.
func (s *Service) dropCollection(ctx context.Context, o Organization) (Organization, error) {
	if o.Operation.Kind == Creating {
		return o, s.dropUnused(ctx, o)
	}
	c := o.collection()
	for range recoverAttempts {
		if err := s.checkLease(o.Operation); err != nil && !s.Store.ChecksCollections() {
			return o, err // on this server the command must not come late
		}
		err := error(ErrNotFound)
		if c.UUID != "" {
			err = s.Store.DropCollection(ctx, o.Database, c)
		}
		if !errors.Is(err, ErrNotFound) {
			return o, err
		}
		// It has another name, or has just got one, or is gone.
		if o, c, err = s.findOwn(ctx, o); errors.Is(err, errNoCollection) {
			return o, nil
		}
		if err != nil {
			return o, err
		}
		if c.UUID == "" { // the server reports none
			return o, s.Store.DropCollection(ctx, o.Database, c)
		}
	}
	return o, errOvertaken
}

// dropUnused drops the collection of a creation that is being undone. The
// process that began the creation may rename it at the same time.
func (s *Service) dropUnused(ctx context.Context, o Organization) error {
	for range recoverAttempts {
		found, err := s.Store.Collections(ctx, o.Database, temporaryName(o.Operation), o.Collection)
		if err != nil || len(found) == 0 {
			return err
		}
		i := slices.IndexFunc(found, func(c Collection) bool { return c.Name != o.Collection })
		if i < 0 {
			return s.dropUncommitted(ctx, o, found[0])
		}
		if err := s.Store.DropCollection(ctx, o.Database, found[i]); !errors.Is(err, ErrNotFound) {
			return err
		}
	}
	return errOvertaken
}

// dropUncommitted drops the collection that has the name of an organization that
// never became active, if the organization has claimed the name.
func (s *Service) dropUncommitted(ctx context.Context, o Organization, c Collection) error {
	stray, err := s.isStray(ctx, o, c)
	if err != nil || !stray {
		return err
	}
	dropped, err := s.dropEmpty(ctx, o.Database, c)
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	if err == nil && !dropped {
		s.log().ErrorContext(ctx, "collection was not dropped: it holds documents of no organization",
			"organization_id", o.ID, "collection", c.Name)
	}
	return err
}
