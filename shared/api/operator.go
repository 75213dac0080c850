package api

import (
	"context"
	"net/http"
	"path"

	"orgservice/shared/org"
)

// The response bodies of the operator's endpoints.
type (
	operatedOrganization struct {
		ID         string         `json:"id"`
		Name       string         `json:"organization_name"`
		Collection string         `json:"collection_name"`
		Database   string         `json:"database_name"`
		Status     org.Status     `json:"status"`
		CreatedAt  Time           `json:"created_at"`
		UpdatedAt  Time           `json:"updated_at"`
		Count      int            `json:"member_count"`
		Operation  *operation     `json:"operation,omitempty"`
		Members    []listedMember `json:"members,omitempty"`
		History    []act          `json:"history,omitempty"`
	}
	operatedOrganizations struct {
		Organizations []operatedOrganization `json:"organizations"`
		Next          string                 `json:"next,omitempty"`
	}
	operation struct {
		Kind      org.OperationKind `json:"kind"`
		StartedAt Time              `json:"started_at"`
		Name      string            `json:"organization_name,omitempty"`
	}
	act struct {
		Kind   org.ActKind `json:"act"`
		By     string      `json:"by"`
		Reason string      `json:"reason"`
		At     Time        `json:"at"`
	}
)

// ListOrganizations handles GET /operator/organizations.
func ListOrganizations(s *org.Service) http.Handler {
	return handler(&listOrganizationsRoute, func(r request[nothing]) (operatedOrganizations, error) {
		limit, after, err := pageOf(r.query)
		if err != nil {
			return operatedOrganizations{}, err
		}
		after = after[:min(len(after), 24)] // no id is longer, and the order is that of texts
		var f org.OrganizationFilter
		if prefix := r.query["prefix"]; prefix != nil {
			f.NamePrefix = *prefix
		}
		if status := r.query["status"]; status != nil {
			f.Status = org.Status(*status)
		}
		all, more, err := s.List(r.http.Context(), f, after, limit)
		page := operatedOrganizations{Organizations: []operatedOrganization{}}
		for _, o := range all {
			page.Organizations = append(page.Organizations, newOperated(o))
			if more {
				page.Next = o.ID
			}
		}
		return page, err
	})
}

// InviteOwner handles POST /operator/organizations.
func InviteOwner(s *org.Service) http.Handler {
	return handler(&inviteOwnerRoute, func(r request[org.OwnerRequest]) (nothing, error) {
		return nothing{}, s.InviteOwner(r.http.Context(), r.by, r.content)
	})
}

// ShowOrganization handles GET /operator/organizations/{id}.
func ShowOrganization(s *org.Service) http.Handler {
	return handler(&showOrganizationRoute, func(r request[nothing]) (operatedOrganization, error) {
		return show(s, r.http, path.Base(r.http.URL.Path))
	})
}

// Suspend handles POST /operator/organizations/{id}/suspend.
func Suspend(s *org.Service) http.Handler {
	return handler(&suspendRoute, acting(s, s.Suspend))
}

// Reactivate handles POST /operator/organizations/{id}/reactivate.
func Reactivate(s *org.Service) http.Handler {
	return handler(&reactivateRoute, acting(s, s.Reactivate))
}

// acting returns what handles an operator's act.
func acting(s *org.Service, do func(ctx context.Context, operator, id string, r org.ActRequest) (org.Organization, error)) func(request[org.ActRequest]) (operatedOrganization, error) {
	return func(r request[org.ActRequest]) (operatedOrganization, error) {
		o, err := do(r.http.Context(), r.by, path.Base(path.Dir(r.http.URL.Path)), r.content)
		if err != nil {
			return operatedOrganization{}, err
		}
		return show(s, r.http, o.ID)
	}
}

func show(s *org.Service, r *http.Request, id string) (operatedOrganization, error) {
	o, members, err := s.Show(r.Context(), id)
	shown := newOperated(o)
	for _, m := range members {
		shown.Members = append(shown.Members, newListedMember(m))
	}
	for _, a := range o.History {
		shown.History = append(shown.History, act{Kind: a.Kind, By: a.By, Reason: a.Reason, At: Time(a.At)})
	}
	return shown, err
}

func newOperated(o org.Organization) operatedOrganization {
	shown := operatedOrganization{
		ID: o.ID, Name: o.Name, Collection: o.Collection, Database: o.Database, Status: o.Status,
		CreatedAt: Time(o.CreatedAt), UpdatedAt: Time(o.UpdatedAt), Count: len(o.Admins),
	}
	if op := o.Operation; op != nil {
		shown.Operation = &operation{Kind: op.Kind, StartedAt: Time(op.StartedAt), Name: op.Name}
	}
	return shown
}
