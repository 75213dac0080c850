package org

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// A new collection is made under a temporary name, which no other operation
// has, and then renamed to its own. A rename fails where a collection stands,
// so that an organization never begins with one that somebody else has made.
const temporaryPrefix = CollectionPrefix + "-new-" // no slug has a hyphen

// temporaryName tells when the operation began, and which it is.
func temporaryName(op *Operation) string {
	return fmt.Sprintf("%s%d-%s", temporaryPrefix, op.StartedAt.Unix(), op.ID)
}

// parseTemporaryName returns when the operation began that made the
// collection, or false if it has a name of its own.
func parseTemporaryName(name string) (began time.Time, ok bool) {
	rest, ok := strings.CutPrefix(name, temporaryPrefix)
	if !ok {
		return time.Time{}, false
	}
	var seconds int64
	fmt.Sscanf(rest, "%d-", &seconds)
	return time.Unix(seconds, 0).UTC(), true
}

var errNameUnusable = refuse(Conflict, "the name can't be used: there is a collection of that name")

// find returns the collection of that name, or errOvertaken when there is none.
func (s *Service) find(ctx context.Context, database, name string) (Collection, error) {
	found, err := s.Store.Collections(ctx, database, name)
	if err == nil && len(found) == 0 {
		err = errOvertaken
	}
	if err != nil {
		return Collection{}, err
	}
	return found[0], nil
}

// locate returns the organization's collection. The one that has the UUID on
// the record is it, whatever it is called. If there is none, because the
// database was restored from a backup, or because the version before did not
// write UUIDs down, it is the one that has the name on the record, or the one
// to which the journal says that it is to be renamed. Its UUID is written down
// before anything is done with it. It returns errNoCollection when there is
// none of these.
func (s *Service) locate(ctx context.Context, o Organization) (Organization, Collection, error) {
	all, err := s.Store.Collections(ctx, o.Database)
	if err != nil {
		return o, Collection{}, err
	}
	names := []string{o.Collection}
	if o.Operation != nil && o.Operation.Kind == Updating {
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
	c, err := s.choose(ctx, o, named)
	if err != nil || c.UUID == o.CollectionUUID {
		return o, c, err
	}
	next := o
	next.CollectionUUID = c.UUID
	o, err = s.rewrite(ctx, o, next)
	return o, c, err
}

// choose returns the one of the collections that may be the organization's: one
// that nobody knows, and has documents if there is another one.
func (s *Service) choose(ctx context.Context, o Organization, named []Collection) (chosen Collection, err error) {
	err = errNoCollection
	chosenEmpty := false
	for _, c := range named {
		if stray, err := s.isStray(ctx, o, c); err != nil {
			return chosen, err
		} else if !stray {
			continue
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

// refused is the error of move when the collection stays where it was, and why.
type refused struct{ cause error }

func (r refused) Error() string { return r.cause.Error() }

// move renames the organization's collection to the name in the journal,
// unless that is done. It tries again when others rename it meanwhile.
func (s *Service) move(ctx context.Context, o Organization) (Organization, error) {
	to, c := o.Operation.Collection, o.collection()
	for range recoverAttempts {
		if err := s.lease(o.Operation); err != nil {
			return o, err
		}
		err := s.Store.RenameCollection(ctx, o.Database, c, to)
		if err == nil || errors.Is(err, ErrUnavailable) {
			return o, err
		}
		var lost error
		if o, c, lost = s.locate(ctx, o); errors.Is(lost, errNoCollection) {
			s.log().ErrorContext(ctx, "collection was missing and is made anew", "organization_id", o.ID, "collection", o.Collection)
			o, c, lost = s.remake(ctx, o)
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
			return o, refused{err}
		}
		if c.Name != o.Collection {
			// It is where nobody should have put it, unless this operation is
			// over, and others have come after it.
			if o, err = s.rewrite(ctx, o, o); err != nil {
				return o, err
			}
		}
	}
	return o, errOvertaken
}

// remake makes a new collection for an organization that has none, under the
// temporary name of its operation.
func (s *Service) remake(ctx context.Context, o Organization) (Organization, Collection, error) {
	name := temporaryName(o.Operation)
	if err := s.Store.CreateCollection(ctx, o.Database, name); err != nil {
		return o, Collection{}, err
	}
	c, err := s.find(ctx, o.Database, name)
	if err != nil {
		return o, c, err
	}
	next := o
	next.CollectionUUID = c.UUID
	o, err = s.rewrite(ctx, o, next)
	return o, c, err
}

// clearName drops the collection that stands where the organization's is to
// be, or returns ErrConflict if it holds documents or is another
// organization's, or if the server does not compare UUIDs.
func (s *Service) clearName(ctx context.Context, o Organization, name string) error {
	found, err := s.Store.Collections(ctx, o.Database, name)
	if err != nil || len(found) == 0 || found[0] == (Collection{name, o.CollectionUUID}) {
		return err
	}
	dropped, err := s.isStray(ctx, o, found[0])
	if !s.Store.ChecksCollections() {
		dropped = false // the command could come after the organization's collection has the name
	}
	if err == nil && dropped {
		dropped, err = s.dropEmpty(ctx, o.Database, found[0])
	}
	if err == nil && !dropped {
		err = errNameUnusable
	}
	return err
}

// isStray reports whether a collection is nobody's, and has a name that the
// organization has claimed.
func (s *Service) isStray(ctx context.Context, o Organization, c Collection) (bool, error) {
	claim, err := s.Store.Claim(ctx, c.Name)
	if errors.Is(err, ErrNotFound) {
		return false, nil
	}
	if err != nil || claim.OrganizationID != o.ID {
		return false, err
	}
	// One that an organization knows was misnamed by a command that came late:
	// Reconcile puts it back where it belongs.
	all, err := s.Store.Organizations(ctx)
	return !slices.ContainsFunc(all, func(o Organization) bool { return c.UUID != "" && o.CollectionUUID == c.UUID }), err
}

// dropEmpty drops a collection if it has no documents, and reports whether it
// had none.
func (s *Service) dropEmpty(ctx context.Context, database string, c Collection) (empty bool, err error) {
	empty, err = s.Store.CollectionIsEmpty(ctx, database, c.Name)
	if err != nil || !empty {
		return false, err
	}
	err = s.Store.DropCollection(ctx, database, c)
	if errors.Is(err, ErrNotFound) {
		err = nil // it went away, or is another one by now
	}
	return true, err
}

// dropCollection drops the collection of an organization that is being
// deleted. If it never became active nobody can have put documents there for
// it: those that are there are not its own and stay.
func (s *Service) dropCollection(ctx context.Context, o Organization) (Organization, error) {
	if o.Operation.Kind == Creating {
		return o, s.dropUnused(ctx, o)
	}
	c := o.collection()
	for range recoverAttempts {
		if err := s.lease(o.Operation); err != nil && !s.Store.ChecksCollections() {
			return o, err // it would have to come in time
		}
		err := error(ErrNotFound)
		if c.UUID != "" {
			err = s.Store.DropCollection(ctx, o.Database, c)
		}
		if !errors.Is(err, ErrNotFound) {
			return o, err
		}
		// It is misnamed, or renamed just now, or gone.
		if o, c, err = s.locate(ctx, o); errors.Is(err, errNoCollection) {
			return o, nil
		}
		if err != nil {
			return o, err
		}
		if c.UUID == "" { // from a server that tells none
			return o, s.Store.DropCollection(ctx, o.Database, c)
		}
	}
	return o, errOvertaken
}

// dropUnused drops what a creation that is undone has made. The process that
// it has overtaken may rename the collection meanwhile.
func (s *Service) dropUnused(ctx context.Context, o Organization) error {
	for range recoverAttempts {
		found, err := s.Store.Collections(ctx, o.Database, temporaryName(o.Operation), o.Collection)
		if err != nil || len(found) == 0 {
			return err
		}
		i := slices.IndexFunc(found, func(c Collection) bool { return c.Name != o.Collection })
		if i < 0 {
			return s.dropNew(ctx, o, found[0])
		}
		if err := s.Store.DropCollection(ctx, o.Database, found[i]); !errors.Is(err, ErrNotFound) {
			return err
		}
	}
	return errOvertaken
}

// dropNew drops the collection that has the name of an organization that never
// became active, if the name is the organization's.
func (s *Service) dropNew(ctx context.Context, o Organization, c Collection) error {
	stray, err := s.isStray(ctx, o, c)
	if err != nil || !stray {
		return err
	}
	dropped, err := s.dropEmpty(ctx, o.Database, c)
	if err == nil && !dropped {
		s.log().ErrorContext(ctx, "collection holds documents of nobody and was left",
			"organization_id", o.ID, "collection", c.Name)
	}
	return err
}
