package org

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Report is what a run of Reconcile did.
type Report struct {
	Finished []Finding `json:"finished"` // operations that were carried to their end
	Undone   []Finding `json:"undone"`   // operations that were undone
	Repaired []Finding `json:"repaired"` // collections that are known, and called, as their records say again
	Removed  []Finding `json:"removed"`  // claims, admins and empty collections that had no organization
	Odd      []Finding `json:"odd"`      // what needs a person's attention
}

// CheckClock returns an error if this process's clock and the database's are
// more than MaxSkew apart, so that it can't tell what has been left.
func (s *Service) CheckClock(ctx context.Context) error {
	before := s.now()
	database, err := s.Store.Clock(ctx)
	if err != nil {
		return err
	}
	// The answer was made at some time between the two.
	if ahead := before.Sub(database); ahead > MaxSkew {
		return fmt.Errorf("the clock of this machine is %v ahead of the database's: set it first", ahead.Round(time.Second))
	}
	if behind := database.Sub(s.now()); behind > MaxSkew {
		return fmt.Errorf("the clock of this machine is %v behind the database's: set it first", behind.Round(time.Second))
	}
	return nil
}

// Reconcile repairs whatever has been left for longer than StaleAfter, and
// makes missing indexes. A full run reads the whole database for it; another
// one reads unfinished operations alone. It may run at any time, several times
// at once. The error tells of what kept it from working, not of what it found.
func (s *Service) Reconcile(ctx context.Context, full bool) (Report, error) {
	report := Report{Finished: []Finding{}, Undone: []Finding{}, Repaired: []Finding{}, Removed: []Finding{}, Odd: []Finding{}}
	// What can't be done for one organization is done for the others.
	errs := []error{s.finishAll(ctx, &report)}
	if full {
		errs = append(errs, s.repairAll(ctx, &report))
	}
	failed, err := s.Store.EnsureIndexes(ctx)
	for name, err := range failed {
		report.Odd = append(report.Odd, Finding{Kind: MissingIndex, Subject: name, Error: err.Error()})
	}
	return report, errors.Join(append(errs, err)...)
}

// finishAll finishes or undoes the operations that were left.
func (s *Service) finishAll(ctx context.Context, report *Report) error {
	unfinished, err := s.Store.UnfinishedOrganizations(ctx, s.now().Add(-StaleAfter))
	if err != nil {
		return err
	}
	var errs []error
	for _, o := range unfinished {
		finding := s.unfinished(o)
		list := &report.Finished
		if o.Operation.Kind == Creating {
			list = &report.Undone
		}
		taken, err := s.takeOver(ctx, o)
		if err == nil {
			_, err = s.finish(ctx, taken)
		}
		switch {
		case errors.Is(err, errBusy), errors.Is(err, errOvertaken): // somebody else finishes it
			continue
		case errors.Is(err, ErrUnavailable):
			errs = append(errs, err)
			continue
		case errors.As(err, new(undone)):
			list = &report.Undone
		case err != nil:
			list = &report.Odd
			finding.Error = err.Error()
		}
		*list = append(*list, finding)
	}
	return errors.Join(errs...)
}

// repairAll repairs what does not fit together. It looks twice: what is found
// only once was under way.
func (s *Service) repairAll(ctx context.Context, report *Report) error {
	// MongoDB does so by itself.
	if err := s.Store.DeleteExpired(ctx, s.now()); err != nil {
		return err
	}
	first, err := s.inspect(ctx)
	if err != nil || len(first) == 0 {
		return err
	}
	second, err := s.inspect(ctx)
	if err != nil {
		return err
	}
	var errs []error
	for _, f := range second {
		if !slices.ContainsFunc(first, f.same) || f.Kind == UnfinishedOperation || f.Kind == MissingIndex {
			continue // under way, or reported elsewhere
		}
		list, err := s.repair(ctx, f, report)
		switch {
		case errors.Is(err, errBusy), errors.Is(err, errOvertaken), errors.Is(err, ErrNotFound): // somebody else changes it
		case err != nil:
			errs = append(errs, err)
		case list != nil:
			*list = append(*list, f)
		}
	}
	return errors.Join(errs...)
}

// repair repairs what was found and returns the list of the report that it
// belongs to, nil if it is left as it is for now.
func (s *Service) repair(ctx context.Context, f Finding, report *Report) (*[]Finding, error) {
	switch f.Kind {
	case UnusedClaim:
		if !s.stale(f.claim.ClaimedAt) {
			return nil, nil
		}
		err := s.releaseUnused(ctx, f.claim)
		if f.claim.RestingSince.IsZero() && !s.Store.ChecksCollections() {
			return nil, err // it rests first
		}
		return &report.Removed, err
	case OrphanAdmin:
		if !s.stale(f.admin.UpdatedAt) {
			return nil, nil
		}
		return &report.Removed, s.Store.DeleteAdmin(ctx, f.admin.ID)
	case UnknownCollection:
		_, _, err := s.locate(ctx, f.org)
		if errors.Is(err, errNoCollection) {
			return &report.Odd, nil // it is another organization's
		}
		return &report.Repaired, err
	case MisnamedCollection:
		err := s.Store.RenameCollection(ctx, f.org.Database, f.collection, f.org.Collection)
		if errors.Is(err, ErrConflict) {
			if err = s.clearName(ctx, f.org, f.org.Collection); err == nil {
				err = s.Store.RenameCollection(ctx, f.org.Database, f.collection, f.org.Collection)
			}
		}
		if errors.Is(err, ErrConflict) {
			return &report.Odd, nil // the tenant's application has written there
		}
		return &report.Repaired, err
	case OrphanCollection:
		began, temporary := parseTemporaryName(f.collection.Name)
		switch {
		case temporary && !s.stale(began):
			return nil, nil // its organization has no record yet
		case !temporary && !s.Store.ChecksCollections():
			return &report.Odd, nil // it could be somebody's by the time the command arrives
		}
		dropped, err := s.dropEmpty(ctx, f.database, f.collection)
		if dropped {
			return &report.Removed, err
		}
		return &report.Odd, err
	}
	return &report.Odd, nil
}
