package api

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"strings"

	"github.com/awslabs/aws-lambda-go-api-proxy/core"

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
		Deletion   *deletion      `json:"deletion,omitempty"`
		Receipt    *receipt       `json:"receipt,omitempty"`
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
	deletion struct {
		At      Time   `json:"at"`
		By      string `json:"admin_id"`
		Ends    Time   `json:"restorable_until"`
		OldName string `json:"former_collection_name"`
	}
	receipt struct {
		DeletedAt Time   `json:"deleted_at"`
		DeletedBy string `json:"admin_id"`
		PurgedAt  Time   `json:"purged_at"`
		PurgedBy  string `json:"purged_by,omitempty"`
		Documents int64  `json:"document_count"`
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
		f := org.OrganizationFilter{NamePrefix: r.query["prefix"], Status: (*org.Status)(r.query["status"])}
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
		id := operatedID(r.http)
		o, members, err := s.Show(r.http.Context(), id)
		if errors.Is(err, org.ErrNotFound) {
			receipt, err := s.Receipt(r.http.Context(), id)
			return newPurged(receipt), err
		}
		return newShown(o, members), err
	})
}

// Suspend handles POST /operator/organizations/{id}/suspend.
func Suspend(s *org.Service) http.Handler {
	return acting(&suspendRoute, s, s.Suspend)
}

// Reactivate handles POST /operator/organizations/{id}/reactivate.
func Reactivate(s *org.Service) http.Handler {
	return acting(&reactivateRoute, s, s.Reactivate)
}

// RenameOrganization handles POST /operator/organizations/{id}/rename.
func RenameOrganization(s *org.Service) http.Handler {
	return acting(&renameOrganizationRoute, s, s.Rename)
}

// Restore handles POST /operator/organizations/{id}/restore.
func Restore(s *org.Service) http.Handler {
	return acting(&restoreRoute, s, s.Restore)
}

// Purge handles POST /operator/organizations/{id}/purge.
func Purge(s *org.Service) http.Handler {
	receipt := func(r request[org.ActRequest], _ org.Outcome, _ org.Organization) (operatedOrganization, error) {
		receipt, err := s.Receipt(r.http.Context(), operatedID(r.http))
		return newPurged(receipt), err
	}
	return repeatable(&purgeRoute, s, func(r request[org.ActRequest]) (operatedOrganization, error) {
		if err := s.Purge(r.http.Context(), r.by, operatedID(r.http), r.content); err != nil {
			return operatedOrganization{}, err
		}
		return receipt(r, org.Outcome{}, org.Organization{})
	}, receipt)
}

// acting returns the handler of an operator's act.
func acting[T validator](e *route[T, operatedOrganization], s *org.Service, do func(ctx context.Context, operator, id string, r T) (org.Organization, error)) http.Handler {
	shown := func(r request[T], _ org.Outcome, o org.Organization) (operatedOrganization, error) {
		members, err := s.WithEmails(r.http.Context(), o.Admins)
		return newShown(o, members), err
	}
	return repeatable(e, s, func(r request[T]) (operatedOrganization, error) {
		o, err := do(r.http.Context(), r.by, operatedID(r.http), r.content)
		if err != nil {
			return operatedOrganization{}, err
		}
		return shown(r, org.Outcome{}, o)
	}, shown)
}

// operatedID returns the id in the path of an operator's route. It is empty if the path is not
// what API Gateway has matched, and AWS IAM has compared: the adapter decodes it once more.
func operatedID(r *http.Request) string {
	event, _ := core.GetAPIGatewayV2ContextFromContext(r.Context())
	_, id, _ := strings.Cut(r.URL.Path, "/operator/organizations/")
	if !strings.HasSuffix(event.HTTP.Path, "/"+id) {
		return ""
	}
	id, _, _ = strings.Cut(id, "/")
	return id
}

// isID reports whether the text has the form of an id.
func isID(text string) bool { return len(text) == 24 && strings.Trim(text, "0123456789abcdef") == "" }

func newShown(o org.Organization, members []org.ListedMember) operatedOrganization {
	shown := newOperated(o)
	for _, m := range members {
		shown.Members = append(shown.Members, newListedMember(m))
	}
	for _, a := range o.History {
		shown.History = append(shown.History, act{Kind: a.Kind, By: a.By, Reason: a.Reason, At: Time(a.At)})
	}
	return shown
}

func newOperated(o org.Organization) operatedOrganization {
	shown := operatedOrganization{
		ID: o.ID, Name: o.Name, Collection: o.Collection, Database: o.Database, Status: cmp.Or(o.Status, purged),
		CreatedAt: Time(o.CreatedAt), UpdatedAt: Time(o.UpdatedAt), Count: len(o.Admins),
	}
	if d := o.Deletion; d != nil {
		shown.Deletion = &deletion{At: Time(d.At), By: d.By, Ends: Time(d.Ends), OldName: d.Collection}
	}
	if op := o.Operation; op != nil {
		shown.Operation = &operation{Kind: op.Kind, StartedAt: Time(op.StartedAt), Name: op.Name}
	}
	return shown
}

// newPurged returns what is known of an organization that was deleted for good.
func newPurged(r org.Receipt) operatedOrganization {
	return operatedOrganization{
		ID: r.ID, Status: purged, CreatedAt: Time(r.CreatedAt), UpdatedAt: Time(r.PurgedAt), Count: r.Members,
		Receipt: &receipt{DeletedAt: Time(r.DeletedAt), DeletedBy: r.DeletedBy, PurgedAt: Time(r.PurgedAt), PurgedBy: r.PurgedBy, Documents: r.Documents},
	}
}

// purged is the status of an organization of which there is only a receipt.
const purged org.Status = "purged"
