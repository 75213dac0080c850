package org

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"orgservice/shared/metrics"
)

// Report is what a run of Reconcile did.
type Report struct {
	Finished       []Finding `json:"finished"`        // operations that were completed
	Undone         []Finding `json:"undone"`          // operations that were undone
	Repaired       []Finding `json:"repaired"`        // collections whose UUID on the record, or whose name, was put right
	Removed        []Finding `json:"removed"`         // claims, admins, memberships and empty collections that had no organization
	NeedsAttention []Finding `json:"needs_attention"` // what a person must look at
	Purged         []Finding `json:"purged"`          // organizations that were deleted for good, because their grace was over

	Migrated []Migration `json:"migrated,omitempty"` // the migrations that were finished
}

// CheckClock returns an error if the clock of this process and the database's
// differ by more than MaxSkew. With such a clock Reconcile would take over
// operations that are under way.
func (s *Service) CheckClock(ctx context.Context) error {
	before := s.now()
	database, err := s.Store.Clock(ctx)
	if err != nil {
		return err
	}
	// The database has read its clock between the two readings of this one.
	if ahead := before.Sub(database); ahead > MaxSkew {
		return fmt.Errorf("the clock of this machine is %v ahead of the database's: set it first", ahead.Round(time.Second))
	}
	if behind := database.Sub(s.now()); behind > MaxSkew {
		return fmt.Errorf("the clock of this machine is %v behind the database's: set it first", behind.Round(time.Second))
	}
	return nil
}

// Reconcile finishes operations that are stale, repairs what crashes have left for
// longer than StaleAfter, makes missing indexes, mails what was not mailed, and migrates
// the database, an hour after it first could. Only a full run, which reads the whole
// database, does the second and the last. It may run at any time, and several times
// concurrently. The error is what kept it from working; what it found is in the report.
// It does nothing to the database of a newer version.
func (s *Service) Reconcile(ctx context.Context, full bool) (Report, error) {
	report := Report{Finished: []Finding{}, Undone: []Finding{}, Repaired: []Finding{}, Removed: []Finding{}, NeedsAttention: []Finding{}, Purged: []Finding{}}
	known, err := s.Migrations(ctx)
	if err != nil {
		return report, err
	}
	// A failure for one organization does not keep it from the others.
	errs := []error{s.finishAll(ctx, &report)}
	if full {
		errs = append(errs, s.repairAll(ctx, &report), s.purgeExpired(ctx, &report))
	}
	failed, err := s.Store.EnsureIndexes(ctx)
	for name, err := range failed {
		report.NeedsAttention = append(report.NeedsAttention, Finding{Kind: MissingIndex, Subject: name, Error: err.Error()})
	}
	errs = append(errs, err, s.mailLeft(ctx))
	if full { // last, since it may take all the time that is left
		report.Migrated, err = s.migrateLater(ctx, known)
		errs = append(errs, err)
	}
	return report, errors.Join(errs...)
}

// finishAll finishes or undoes the operations that are stale.
func (s *Service) finishAll(ctx context.Context, report *Report) error {
	unfinished, err := s.Store.UnfinishedOrganizations(ctx, s.now().Add(-StaleAfter))
	if err != nil {
		return err
	}
	var oldest time.Duration
	for _, o := range unfinished {
		oldest = max(oldest, s.now().Sub(o.Operation.StartedAt))
	}
	metrics.Add(metrics.Unfinished, float64(len(unfinished)))
	metrics.Add(metrics.OldestUnfinished, oldest.Seconds())
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
		case errors.Is(err, errBusy), errors.Is(err, errOvertaken): // another process finishes it
			continue
		case errors.Is(err, ErrUnavailable):
			errs = append(errs, err)
			continue
		case errors.As(err, new(undoneError)):
			list = &report.Undone
		case err != nil:
			list = &report.NeedsAttention
			finding.Error = err.Error()
		}
		*list = append(*list, finding)
	}
	return errors.Join(errs...)
}

// repairAll repairs inconsistencies. It inspects the database twice, because an
// inconsistency that is found only once belongs to an operation under way.
func (s *Service) repairAll(ctx context.Context, report *Report) error {
	// MongoDB deletes them by itself, other servers may not.
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
			continue // it is under way, or reported elsewhere
		}
		list, err := s.repair(ctx, f, report)
		switch {
		case errors.Is(err, errBusy), errors.Is(err, errOvertaken), errors.Is(err, ErrNotFound): // another process has changed it
		case err != nil:
			errs = append(errs, err)
		case list != nil:
			*list = append(*list, f)
		}
	}
	return errors.Join(errs...)
}

// repair repairs one inconsistency. It returns the list of the report to which
// the finding belongs, or nil if nothing was done for now.
func (s *Service) repair(ctx context.Context, f Finding, report *Report) (*[]Finding, error) {
	switch f.Kind {
	case UnusedClaim:
		if !s.stale(f.claim.ClaimedAt) {
			return nil, nil
		}
		err := s.releaseUnused(ctx, f.claim)
		if f.claim.RestingSince.IsZero() && f.claim.AdminID == "" && !s.Store.ChecksCollections() {
			return nil, err // the claim must rest first
		}
		return &report.Removed, err
	case OrphanAdmin:
		if !s.stale(f.admin.UpdatedAt) {
			return nil, nil
		}
		return &report.Removed, s.removeOrphan(ctx, f.admin)
	case StrayMembership:
		if !s.stale(f.admin.UpdatedAt) {
			return nil, nil
		}
		return &report.Removed, s.leave(ctx, f.admin, f.OrganizationID)
	case UnknownCollection:
		_, _, err := s.findOwn(ctx, f.org)
		if errors.Is(err, errNoCollection) {
			return &report.NeedsAttention, nil // the collection is another organization's
		}
		return &report.Repaired, err
	case MisnamedCollection:
		err := s.Store.RenameCollection(ctx, f.org.Database, f.collection, f.org.Collection)
		if errors.Is(err, ErrConflict) {
			// The tenant's application has written under the name, and may do
			// so just now. So the collection is not dropped, even if it is empty.
			if err = s.setAside(ctx, f.org, f.org.Collection); err == nil {
				err = s.Store.RenameCollection(ctx, f.org.Database, f.collection, f.org.Collection)
			}
		}
		if errors.Is(err, ErrConflict) {
			return &report.NeedsAttention, nil
		}
		return &report.Repaired, err
	case OrphanCollection:
		began, temporary := parseTemporaryName(f.collection.Name)
		switch {
		case temporary && !s.stale(began):
			return nil, nil // its organization may have no record yet
		case !temporary && !s.Store.ChecksCollections():
			return &report.NeedsAttention, nil // a late command could drop an organization's collection
		}
		dropped, err := s.dropEmpty(ctx, f.database, f.collection)
		if dropped {
			return &report.Removed, err
		}
		return &report.NeedsAttention, err
	}
	return &report.NeedsAttention, nil
}
