package api

import (
	"net/http"

	"orgservice/shared/org"
)

// Organizations handles GET /admin/organizations.
func Organizations(s *org.Service) http.Handler {
	return handler(&organizationsRoute, func(r request[nothing]) (memberships, error) {
		limit, after, err := pageOf(r.query)
		if err != nil {
			return memberships{}, err
		}
		all, more, err := s.Memberships(r.http.Context(), r.caller, after, limit)
		page := memberships{Organizations: []membership{}}
		for _, m := range all {
			page.Organizations = append(page.Organizations, membership{
				ID: m.ID, Name: m.Name, Collection: m.Collection, Role: m.Role, Since: Time(m.Since),
			})
			if more {
				page.Next = m.ID
			}
		}
		return page, err
	})
}

// AddOrganization handles POST /admin/organizations.
func AddOrganization(s *org.Service) http.Handler {
	return repeatable(&addOrganizationRoute, s, func(r request[org.CreateOrganizationRequest]) (createdOrganization, error) {
		r.content.ClientAddress = clientAddress(r.http)
		o, err := s.CreateOrganization(r.http.Context(), r.caller, r.content)
		return newCreated(o), err
	}, func(_ request[org.CreateOrganizationRequest], _ org.Outcome, o org.Organization) (createdOrganization, error) {
		return newCreated(o), nil
	})
}

// Switch handles POST /admin/switch.
func Switch(s *org.Service) http.Handler {
	return handler(&switchRoute, func(r request[org.SwitchRequest]) (tokens, error) {
		tokens, err := s.Switch(r.http.Context(), r.caller, r.content)
		return newTokens(tokens), err
	})
}
