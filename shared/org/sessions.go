package org

import (
	"cmp"
	"context"
	"errors"
	"slices"

	"orgservice/shared/auth"
)

// maxSessions is how many sessions a person may have at once.
const maxSessions = 50

// isAlive reports whether the session can still be refreshed.
func (s *Service) isAlive(session Session) bool {
	now := s.now()
	used := session.UsedAt
	if used.IsZero() {
		used = session.CreatedAt
	}
	return now.Before(session.ExpiresAt) && (s.SessionIdle == 0 || now.Before(used.Add(s.SessionIdle)))
}

// checkLogin returns ErrNotFound if the login that the session comes from by a switch has ended.
func (s *Service) checkLogin(ctx context.Context, session Session) error {
	if session.LoginID == "" {
		return nil
	}
	_, err := s.Store.Session(ctx, session.LoginID)
	return err
}

// endOldest ends the oldest of the others so that, with the new session, a person has
// no more than maxSessions, but for those that begin at the same time. It ends also those whose
// login has ended, and never the login that the new one comes from. A failure is only logged:
// the next login ends them.
func (s *Service) endOldest(ctx context.Context, begun Session, others []Session) {
	exists := map[string]bool{"": true} // by the id of the login
	for _, o := range others {
		exists[o.ID] = true
	}
	most := maxSessions - 1
	var ids []string
	others = slices.DeleteFunc(slices.Clone(others), func(o Session) bool {
		switch {
		case o.ID == begun.ID:
			return true
		case o.ID == begun.LoginID:
			most--
			return true
		case !exists[o.LoginID] && len(others) < MostSessionsOf: // or it may only not be among them
			ids = append(ids, o.ID)
			return true
		}
		return false
	})
	slices.SortFunc(others, func(a, b Session) int {
		return cmp.Or(a.CreatedAt.Compare(b.CreatedAt), cmp.Compare(a.ID, b.ID))
	})
	for _, o := range others[:max(0, len(others)-most)] {
		ids = append(ids, o.ID)
	}
	if len(ids) == 0 {
		return
	}
	if err := s.Store.EndSessions(ctx, ids); err != nil {
		s.log().WarnContext(ctx, "sessions too many are left", "admin_id", begun.AdminID, "error", err)
	}
}

// ListedSession is a session as its admin sees it.
type ListedSession struct {
	Session
	OrganizationName string
	Current          bool // the caller's own
}

// Sessions returns the caller's sessions that are alive and whose ids are greater than
// after, in the order of their ids and at most limit of them, and whether there are more.
// Its errors are ErrUnauthenticated and ErrUnavailable.
func (s *Service) Sessions(ctx context.Context, caller auth.Caller, after string, limit int) (sessions []ListedSession, more bool, err error) {
	_, admin, err := s.identify(ctx, caller)
	if err != nil {
		return nil, false, err
	}
	var all []Session
	var organizations []Organization
	err = concurrently(
		func() (err error) { all, err = s.Store.SessionsOf(ctx, admin.ID); return err },
		func() (err error) {
			organizations, err = s.Store.OrganizationsByID(ctx, admin.Organizations)
			return err
		},
	)
	if err != nil {
		return nil, false, err
	}
	slices.SortFunc(all, func(a, b Session) int { return cmp.Compare(a.ID, b.ID) })
	alive := map[string]bool{"": true} // by the id of the login
	for _, session := range all {
		alive[session.ID] = true
	}
	for _, session := range all {
		i := slices.IndexFunc(organizations, func(o Organization) bool { return o.ID == session.OrganizationID })
		if session.ID <= after || i < 0 || !organizations[i].mayUse(session, admin) || !s.isAlive(session) || !alive[session.LoginID] {
			continue
		}
		if len(sessions) == limit {
			return sessions, true, nil
		}
		sessions = append(sessions, ListedSession{session, organizations[i].Name, session.ID == caller.SessionID})
	}
	return sessions, false, nil
}

// EndSession ends a session of the caller, and with a login all that come from it by a switch:
// none of their tokens is valid afterwards. It is
// no error if the caller has no such session. Its errors are ErrUnauthenticated and
// ErrUnavailable.
func (s *Service) EndSession(ctx context.Context, caller auth.Caller, id string) error {
	var session Session
	err := concurrently(
		func() error { _, _, err := s.identify(ctx, caller); return err },
		func() (err error) { session, err = s.Store.Session(ctx, id); return err },
	)
	switch {
	case errors.Is(err, ErrNotFound), err == nil && session.AdminID != caller.AdminID:
		return nil
	case err != nil:
		return err
	}
	return s.Store.DeleteSession(ctx, id)
}

// EndOtherSessions ends all sessions of the caller but the caller's own and the login that it
// comes from by a switch. Its errors are ErrUnauthenticated and ErrUnavailable.
func (s *Service) EndOtherSessions(ctx context.Context, caller auth.Caller) error {
	var own Session
	err := concurrently(
		func() error { _, _, err := s.identify(ctx, caller); return err },
		func() (err error) { own, err = s.Store.Session(ctx, caller.SessionID); return err },
	)
	if errors.Is(err, ErrNotFound) {
		err = errRevoked
	}
	if err != nil {
		return err
	}
	return s.Store.DeleteOtherSessions(ctx, caller.AdminID, caller.SessionID, own.LoginID)
}
