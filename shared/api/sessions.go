package api

import (
	"net/http"
	"path"

	"orgservice/shared/org"
)

// Sessions handles GET /admin/sessions.
func Sessions(s *org.Service) http.Handler {
	return handler(&sessionsRoute, func(r request[nothing]) (sessions, error) {
		limit, after, err := pageOf(r.query)
		if err != nil {
			return sessions{}, err
		}
		all, more, err := s.Sessions(r.http.Context(), r.caller, after, limit)
		page := sessions{Sessions: []session{}}
		for _, listed := range all {
			page.Sessions = append(page.Sessions, newSession(listed))
			if more {
				page.Next = listed.ID
			}
		}
		return page, err
	})
}

// EndSession handles DELETE /admin/sessions/{id}.
func EndSession(s *org.Service) http.Handler {
	return handler(&endSessionRoute, func(r request[nothing]) (nothing, error) {
		return nothing{}, s.EndSession(r.http.Context(), r.caller, path.Base(r.http.URL.Path))
	})
}

// EndSessions handles DELETE /admin/sessions.
func EndSessions(s *org.Service) http.Handler {
	return handler(&endSessionsRoute, func(r request[nothing]) (nothing, error) {
		return nothing{}, s.EndOtherSessions(r.http.Context(), r.caller)
	})
}

func newSession(s org.ListedSession) session {
	listed := session{
		ID: s.ID, OrganizationID: s.OrganizationID, Name: s.OrganizationName, CreatedAt: Time(s.CreatedAt), UsedAt: Time(s.CreatedAt),
		ExpiresAt: Time(s.ExpiresAt), Address: s.Client.Address, UserAgent: s.Client.UserAgent, Current: s.Current,
	}
	if !s.UsedAt.IsZero() {
		listed.UsedAt = Time(s.UsedAt)
	}
	return listed
}
