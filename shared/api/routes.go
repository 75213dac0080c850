package api

import (
	"encoding/json"
	"net/http"
	"reflect"
	"slices"

	"orgservice/shared/org"
)

// pageParameters are those of a list.
var pageParameters = []Parameter{
	{Name: "after", Meaning: "Return what follows this one in the order of ids: `next` of the page before."},
	{Name: "limit", Meaning: "How many to return at most: 1 to 100, by default 50."},
}

var organizationID = Parameter{Name: "id", Required: true, InPath: true, Meaning: "The id of the organization."}

// The table of routes. Each handler is made from its row, and so is the OpenAPI
// document. A handler whose types are not those of its row does not compile. A
// row is a variable of its own, so that a function links no other row.
var (
	createRoute = route[org.CreateRequest, createdOrganization]{
		function: "create", method: "POST", path: "/org/create", status: http.StatusCreated,
		repeatable: true, creates: true,
		summary:   "Sign up an organization with its first admin",
		noContent: "Where an email must be proved first, a link was mailed there, to `POST /invitations/accept`, which creates the organization and takes the password.",
		reasons: []org.Reason{
			org.SignUpClosed, org.TooManyOrganizations, org.TooManySignUps, org.TooManyAttempts, org.TooManyMails, org.MailUnavailable,
			org.NameTaken, org.EmailTaken, org.NameUnusable, org.OrganizationBusy, org.DatabaseUnavailable, org.ChangePending,
		},
	}
	getRoute = route[nothing, organization]{
		function: "get", method: "GET", path: "/org/get", status: http.StatusOK,
		parameters: []Parameter{{Name: "organization_name", Required: true, Meaning: "The name, or another one with the same slug."}},
		summary:    "Find an organization by its name",
		reasons:    []org.Reason{org.InvalidFields, org.OrganizationNotFound, org.DatabaseUnavailable, org.ChangePending},
	}
	updateRoute = route[org.UpdateRequest, organization]{
		function: "update", method: "PUT", path: "/org/update", caller: admin, status: http.StatusOK,
		repeatable: true, conditional: true,
		action:  org.ActionRename,
		summary: "Rename the organization, or change the admin's email or password",
		reasons: []org.Reason{
			org.WrongCurrentPassword, org.TooManyAttempts, org.NameTaken, org.EmailTaken, org.NameUnusable,
			org.OrganizationBusy, org.DatabaseUnavailable, org.ChangePending,
		},
	}
	deleteRoute = route[nothing, deletedOrganization]{
		function: "delete", method: "DELETE", path: "/org/delete", caller: unverified, status: http.StatusOK,
		repeatable: true, conditional: true,
		parameters: []Parameter{{Name: "organization_name", Meaning: "A confirmation: it must name the organization of the access token."}},
		action:     org.ActionDelete,
		summary:    "Delete the organization with all that belongs to it",
		reasons: []org.Reason{
			org.InvalidFields, org.WrongConfirmation, org.OrganizationBusy, org.DatabaseUnavailable, org.ChangePending,
		},
	}
	loginRoute = route[org.LoginRequest, tokens]{
		function: "login", method: "POST", path: "/admin/login", status: http.StatusOK,
		summary: "Log in",
		reasons: []org.Reason{org.WrongCredentials, org.TooManyAttempts, org.DatabaseUnavailable, org.ChangePending},
	}
	refreshRoute = route[org.RefreshRequest, tokens]{
		function: "refresh", method: "POST", path: "/admin/refresh", status: http.StatusOK,
		summary: "Exchange a refresh token, which is good for one use, for new tokens",
		reasons: []org.Reason{org.RefreshTokenInvalid, org.DatabaseUnavailable},
	}
	logoutRoute = route[org.RefreshRequest, nothing]{
		function: "logout", method: "POST", path: "/admin/logout", status: http.StatusNoContent,
		summary: "End a login: none of its tokens is valid any more",
		reasons: []org.Reason{org.DatabaseUnavailable},
	}
	meRoute = route[nothing, me]{
		function: "me", method: "GET", path: "/admin/me", caller: unverified, status: http.StatusOK,
		summary: "Return the admin and the organization of the access token",
		reasons: []org.Reason{org.DatabaseUnavailable, org.ChangePending},
	}
	introspectRoute = route[introspectRequest, introspection]{
		function: "introspect", method: "POST", path: "/admin/introspect", caller: service, form: true, status: http.StatusOK,
		summary: "Tell another service whether an access token is good, at this moment (RFC 7662)",
		reasons: []org.Reason{clientRefused, org.DatabaseUnavailable, org.ChangePending},
	}
	membersRoute = route[nothing, members]{
		function: "members", method: "GET", path: "/org/members", caller: admin, status: http.StatusOK,
		parameters: pageParameters,
		summary:    "List the members of the organization, page by page",
		reasons:    []org.Reason{org.InvalidFields, org.DatabaseUnavailable, org.ChangePending},
	}
	organizationsRoute = route[nothing, memberships]{
		function: "organizations", method: "GET", path: "/admin/organizations", caller: admin, status: http.StatusOK,
		parameters: pageParameters,
		summary:    "List the organizations of the admin, page by page",
		reasons:    []org.Reason{org.InvalidFields, org.DatabaseUnavailable, org.ChangePending},
	}
	addOrganizationRoute = route[org.CreateOrganizationRequest, createdOrganization]{
		function: "addorganization", method: "POST", path: "/admin/organizations", caller: admin, status: http.StatusCreated,
		repeatable: true, creates: true,
		summary: "Create one more organization, of which the admin is the owner",
		reasons: []org.Reason{
			org.SignUpClosed, org.TooManyOrganizations, org.TooManySignUps,
			org.NameTaken, org.NameUnusable, org.OrganizationBusy, org.DatabaseUnavailable, org.ChangePending,
		},
	}
	switchRoute = route[org.SwitchRequest, tokens]{
		function: "switch", method: "POST", path: "/admin/switch", caller: admin, status: http.StatusOK,
		summary: "Return tokens for another organization of the admin",
		reasons: []org.Reason{org.OrganizationNotFound, org.DatabaseUnavailable, org.ChangePending},
	}
	sessionsRoute = route[nothing, sessions]{
		function: "sessions", method: "GET", path: "/admin/sessions", caller: unverified, status: http.StatusOK,
		parameters: pageParameters,
		summary:    "List the admin's logins, page by page",
		reasons:    []org.Reason{org.InvalidFields, org.DatabaseUnavailable, org.ChangePending},
	}
	endSessionRoute = route[nothing, nothing]{
		function: "endsession", method: "DELETE", path: "/admin/sessions/{id}", caller: unverified, status: http.StatusNoContent,
		parameters: []Parameter{{Name: "id", Required: true, InPath: true, Meaning: "The id of the login."}},
		summary:    "End a login of the admin: none of its tokens is valid any more",
		reasons:    []org.Reason{org.DatabaseUnavailable, org.ChangePending},
	}
	endSessionsRoute = route[nothing, nothing]{
		function: "endsessions", method: "DELETE", path: "/admin/sessions", caller: unverified, status: http.StatusNoContent,
		summary: "End all logins of the admin but the one of the access token",
		reasons: []org.Reason{org.DatabaseUnavailable, org.ChangePending},
	}
	changeRoleRoute = route[org.RoleRequest, listedMember]{
		function: "changerole", method: "PUT", path: "/org/members/{admin_id}", caller: admin, status: http.StatusOK,
		repeatable: true,
		parameters: []Parameter{{Name: "admin_id", Required: true, InPath: true, Meaning: "The id of the member."}},
		action:     org.ActionChangeRole,
		summary:    "Give a member another role",
		reasons:    []org.Reason{org.MemberNotFound, org.LastOwner, org.OrganizationBusy, org.DatabaseUnavailable, org.ChangePending},
	}
	removeMemberRoute = route[nothing, nothing]{
		function: "removemember", method: "DELETE", path: "/org/members/{admin_id}", caller: admin, status: http.StatusNoContent,
		repeatable: true,
		parameters: []Parameter{{Name: "admin_id", Required: true, InPath: true, Meaning: "The id of the member, or of the admin who leaves."}},
		action:     org.ActionRemove,
		summary:    "Remove a member, or leave the organization",
		reasons:    []org.Reason{org.MemberNotFound, org.LastOwner, org.OrganizationBusy, org.DatabaseUnavailable, org.ChangePending},
	}
	inviteRoute = route[org.InviteRequest, invitation]{
		function: "invite", method: "POST", path: "/org/invitations", caller: admin, status: http.StatusCreated,
		repeatable: true,
		action:     org.ActionInvite,
		summary:    "Invite somebody to the organization by mail",
		reasons: []org.Reason{
			org.InvitationNotFound, org.AlreadyMember, org.TooManyMembers, org.TooManyMails, org.MailUnavailable, org.OrganizationBusy, org.DatabaseUnavailable, org.ChangePending,
		},
	}
	invitationsRoute = route[nothing, invitations]{
		function: "invitations", method: "GET", path: "/org/invitations", caller: admin, status: http.StatusOK,
		parameters: pageParameters,
		summary:    "List the open invitations of the organization, page by page",
		reasons:    []org.Reason{org.InvalidFields, org.DatabaseUnavailable, org.ChangePending},
	}
	withdrawRoute = route[nothing, nothing]{
		function: "withdraw", method: "DELETE", path: "/org/invitations/{id}", caller: admin, status: http.StatusNoContent,
		repeatable: true,
		parameters: []Parameter{{Name: "id", Required: true, InPath: true, Meaning: "The id of the invitation."}},
		action:     org.ActionInvite,
		summary:    "Withdraw an invitation",
		reasons:    []org.Reason{org.InvitationNotFound, org.OrganizationBusy, org.DatabaseUnavailable, org.ChangePending},
	}
	acceptRoute = route[org.AcceptRequest, tokens]{
		function: "accept", method: "POST", path: "/invitations/accept", status: http.StatusOK,
		summary: "Accept an invitation or finish a sign-up, with the password of the admin with its email or the first one of a new admin",
		reasons: []org.Reason{
			org.SignUpClosed, org.TooManyOrganizations, org.NameTaken, org.NameUnusable,
			org.TicketInvalid, org.WrongCredentials, org.EmailTaken, org.TooManyAttempts, org.OrganizationBusy, org.DatabaseUnavailable, org.ChangePending,
		},
	}
	forgotRoute = route[org.ForgotRequest, nothing]{
		function: "forgot", method: "POST", path: "/admin/forgot", status: http.StatusNoContent,
		summary: "Mail a ticket for a new password, if there is an admin with the email",
		reasons: []org.Reason{org.TooManyMails, org.MailUnavailable, org.DatabaseUnavailable},
	}
	resetRoute = route[org.ResetRequest, nothing]{
		function: "reset", method: "POST", path: "/admin/reset", status: http.StatusNoContent,
		summary: "Set a new password, which ends all logins of the admin",
		reasons: []org.Reason{org.TicketInvalid, org.OrganizationBusy, org.DatabaseUnavailable, org.ChangePending},
	}
	verifyRoute = route[org.VerifyRequest, nothing]{
		function: "verify", method: "POST", path: "/admin/verify", status: http.StatusNoContent,
		summary: "Confirm the email of an admin",
		reasons: []org.Reason{org.TicketInvalid, org.OrganizationBusy, org.DatabaseUnavailable},
	}
	resendRoute = route[nothing, nothing]{
		function: "resend", method: "POST", path: "/admin/verify/resend", caller: unverified, status: http.StatusNoContent,
		summary: "Mail the admin another ticket to confirm the email",
		reasons: []org.Reason{org.AlreadyVerified, org.TooManyMails, org.MailUnavailable, org.DatabaseUnavailable, org.ChangePending},
	}
	listOrganizationsRoute = route[nothing, operatedOrganizations]{
		function: "listorganizations", method: "GET", path: "/operator/organizations", caller: operator, status: http.StatusOK,
		parameters: append(slices.Clip(pageParameters),
			Parameter{Name: "prefix", Meaning: "Return only those whose names, or rather slugs, begin like this, of which the first 55 bytes count."},
			Parameter{Name: "status", Meaning: "Return only those that are `provisioning`, `active`, `suspended`, `deleting` or `deleted`."}),
		summary: "List all organizations, page by page",
		reasons: []org.Reason{org.InvalidFields, org.DatabaseUnavailable},
	}
	inviteOwnerRoute = route[org.OwnerRequest, nothing]{
		function: "inviteowner", method: "POST", path: "/operator/organizations", caller: operator, status: http.StatusNoContent,
		summary: "Mail somebody a link to create an organization, also where nobody may sign up",
		reasons: []org.Reason{org.NameTaken, org.TooManyMails, org.MailUnavailable, org.DatabaseUnavailable},
	}
	showOrganizationRoute = route[nothing, operatedOrganization]{
		function: "showorganization", method: "GET", path: "/operator/organizations/{id}", caller: operator, status: http.StatusOK,
		parameters: []Parameter{organizationID},
		summary:    "Return an organization with its members and what operators did to it",
		reasons:    []org.Reason{org.OrganizationNotFound, org.DatabaseUnavailable},
	}
	suspendRoute = route[org.ActRequest, operatedOrganization]{
		function: "suspend", method: "POST", path: "/operator/organizations/{id}/suspend", caller: operator, status: http.StatusOK,
		repeatable: true,
		parameters: []Parameter{organizationID},
		summary:    "Suspend an organization: no token and no login works for it, until it is reactivated",
		reasons:    []org.Reason{org.OrganizationNotFound, org.OrganizationBusy, org.DatabaseUnavailable, org.ChangePending},
	}
	reactivateRoute = route[org.ActRequest, operatedOrganization]{
		function: "reactivate", method: "POST", path: "/operator/organizations/{id}/reactivate", caller: operator, status: http.StatusOK,
		repeatable: true,
		parameters: []Parameter{organizationID},
		summary:    "End the suspension of an organization, whose members must log in again",
		reasons:    []org.Reason{org.OrganizationNotFound, org.OrganizationBusy, org.DatabaseUnavailable, org.ChangePending},
	}
	renameOrganizationRoute = route[org.RenameRequest, operatedOrganization]{
		function: "renameorganization", method: "POST", path: "/operator/organizations/{id}/rename", caller: operator, status: http.StatusOK,
		repeatable: true,
		parameters: []Parameter{organizationID},
		summary:    "Rename an organization, which ends no login",
		reasons: []org.Reason{
			org.OrganizationNotFound, org.NameTaken, org.NameUnusable, org.OrganizationBusy, org.DatabaseUnavailable, org.ChangePending,
		},
	}
	restoreRoute = route[org.RestoreRequest, operatedOrganization]{
		function: "restore", method: "POST", path: "/operator/organizations/{id}/restore", caller: operator, status: http.StatusOK,
		repeatable: true,
		parameters: []Parameter{organizationID},
		summary:    "Take a deletion back, until its grace is over: the members log in again",
		reasons: []org.Reason{
			org.OrganizationNotFound, org.NameTaken, org.NameUnusable, org.EmailTaken, org.OrganizationBusy, org.DatabaseUnavailable, org.ChangePending,
		},
	}
	purgeRoute = route[org.ActRequest, operatedOrganization]{
		function: "purge", method: "POST", path: "/operator/organizations/{id}/purge", caller: operator, status: http.StatusOK,
		repeatable: true,
		parameters: []Parameter{organizationID},
		summary:    "Delete a deleted organization for good, before its grace is over, which leaves a receipt",
		reasons:    []org.Reason{org.OrganizationNotFound, org.OrganizationBusy, org.DatabaseUnavailable, org.ChangePending},
	}
	jwksRoute = route[nothing, cacheable]{
		function: "jwks", method: "GET", path: "/.well-known/jwks.json", status: http.StatusOK,
		summary: "Return the public keys that verify access tokens",
	}
	healthRoute = route[nothing, health]{
		function: "health", method: "GET", path: "/health", status: http.StatusOK,
		parameters: []Parameter{{Name: "deep", Meaning: "Whether to ask the database, too."}},
		summary:    "Tell whether the service is alive",
		reasons:    []org.Reason{org.InvalidFields, org.DatabaseUnavailable},
	}
)

// pageRoutes returns the rows of the pages, which one function serves. It is no
// variable, so that no other function links it.
func pageRoutes() []route[nothing, Page] {
	return []route[nothing, Page]{
		page("/", http.StatusFound, "Go to the documentation", ""),
		page("/docs", http.StatusOK, "Read the documentation, and try the service, with Swagger UI", "text/html"),
		page("/redoc", http.StatusOK, "Read the documentation with ReDoc", "text/html"),
		page("/openapi.json", http.StatusOK, "Return the OpenAPI document in JSON", jsonType),
		page("/openapi.yaml", http.StatusOK, "Return the OpenAPI document in YAML", "application/yaml"),
		page("/problems/{reason}", http.StatusOK, "Read what a type of problem means", "text/html",
			Parameter{Name: "reason", Required: true, InPath: true, Meaning: "The end of the type."}),
		page("/assets/{file}", http.StatusOK, "Return a file that the pages need", "",
			Parameter{Name: "file", Required: true, InPath: true, Meaning: "The name of the file."}),
		page("/verify-email", http.StatusOK, "Confirm an email by a link in a mail", "text/html", ticketOfLink),
		page("/reset-password", http.StatusOK, "Choose a new password by a link in a mail", "text/html", ticketOfLink),
		page("/accept-invitation", http.StatusOK, "Accept an invitation by a link in a mail", "text/html", ticketOfLink),
		page("/finish-sign-up", http.StatusOK, "Finish a sign-up by a link in a mail", "text/html", ticketOfLink),
	}
}

var ticketOfLink = Parameter{Name: "ticket", Meaning: "The ticket, which the page sends when its button is pressed."}

func page(path string, status int, summary, mediaType string, parameters ...Parameter) route[nothing, Page] {
	r := route[nothing, Page]{
		function: "docs", method: "GET", path: path, status: status, summary: summary, mediaType: mediaType, parameters: parameters,
	}
	if len(parameters) > 0 && parameters[0].InPath {
		r.reasons = []org.Reason{pageNotFound}
	}
	return r
}

// Routes returns the rows of the table.
func Routes() []Route {
	rows := []Route{
		createRoute.describe(), getRoute.describe(), updateRoute.describe(), deleteRoute.describe(),
		loginRoute.describe(), refreshRoute.describe(), logoutRoute.describe(), meRoute.describe(), introspectRoute.describe(),
		membersRoute.describe(), changeRoleRoute.describe(), removeMemberRoute.describe(),
		inviteRoute.describe(), invitationsRoute.describe(), withdrawRoute.describe(), acceptRoute.describe(),
		organizationsRoute.describe(), addOrganizationRoute.describe(), switchRoute.describe(),
		sessionsRoute.describe(), endSessionRoute.describe(), endSessionsRoute.describe(),
		forgotRoute.describe(), resetRoute.describe(), verifyRoute.describe(), resendRoute.describe(),
		listOrganizationsRoute.describe(), inviteOwnerRoute.describe(), showOrganizationRoute.describe(), suspendRoute.describe(), reactivateRoute.describe(),
		renameOrganizationRoute.describe(), restoreRoute.describe(), purgeRoute.describe(), jwksRoute.describe(), healthRoute.describe(),
	}
	for _, r := range pageRoutes() {
		rows = append(rows, r.describe())
	}
	return rows
}

// route is a row whose request body is a T and whose response body is an R.
type route[T validator, R any] row

// row is a row of the table, which describes an endpoint.
type row struct {
	function   string // the folder in functions
	method     string
	path       string
	caller     caller
	action     org.Action // that the role of the caller must permit; empty: every role may call it
	parameters []Parameter
	form       bool // the request body is a form, not JSON

	repeatable  bool // a client can repeat the request with an idempotency key
	creates     bool // it creates an organization
	conditional bool // a client can say which revision of the organization it changes

	status    int    // of a success
	mediaType string // of a response that is a page
	summary   string
	noContent string       // when the status is 204 instead, in a sentence; empty: never
	reasons   []org.Reason // of the service; read has others
}

// caller says who may call an endpoint.
type caller int

const (
	anybody    caller = iota
	admin             // with an access token
	unverified        // the same, also before the email is verified where it must be
	service           // with a secret of INTROSPECTION_SECRET
	operator          // who may invoke the route by AWS IAM
)

// Route describes an endpoint for programs that read the table, of which no
// function is one.
type Route struct {
	Function   string // its folder in functions
	Method     string
	Path       string
	Admin      bool       // the caller needs an access token
	Service    bool       // the caller needs a secret of INTROSPECTION_SECRET
	Operator   bool       // the caller must be allowed to by AWS IAM
	Action     org.Action // that the role of the caller must permit, perhaps only for a part of the request; empty: none
	Parameters []Parameter
	ETag       bool         // a success has the header
	Request    reflect.Type // of the body; nil if there is none
	Form       bool         // the request body is a form, not JSON
	Response   reflect.Type // of the body, which is JSON; nil if it has no Go type or there is none
	MediaType  string       // of the response body; empty if there is none, or any type
	Page       bool         // the response is a [Page]
	Status     int          // of a success
	Summary    string
	NoContent  string    // when the status is 204 instead, in a sentence; empty: never
	Problems   []Problem // every one that the service may answer with, in the order of the table of problems
}

// Parameter is a parameter of the query, of the path or of the header.
type Parameter struct {
	Name     string
	InPath   bool
	InHeader bool
	Required bool
	Meaning  string // a sentence for people
}

// Problem is a type of problem.
type Problem struct {
	Reason  string // the end of Type
	Type    string // a URI reference
	Status  int
	Meaning string // a sentence for people
}

// Example returns a body of the problem in JSON, whose detail is its meaning.
func (p Problem) Example(requestID string) json.RawMessage {
	body, err := json.Marshal(newProblem(refuse(p.Status, org.Reason(p.Reason), p.Meaning), requestID))
	if err != nil {
		panic(err) // a bug: every field is text or a number
	}
	return body
}

// ProblemBody is the body of every problem.
func ProblemBody() reflect.Type { return reflect.TypeFor[problem]() }

func (e *route[T, R]) describe() Route {
	return (*row)(e).describe(reflect.TypeFor[T](), reflect.TypeFor[R]())
}

func (e *row) describe(request, response reflect.Type) Route {
	r := Route{
		Function: e.function, Method: e.method, Path: e.path, Admin: e.caller == admin || e.caller == unverified, Service: e.caller == service, Operator: e.caller == operator,
		Action: e.action, Parameters: e.parameters, Form: e.form, Status: e.status, Summary: e.summary, NoContent: e.noContent,
	}
	// What read refuses, on every route.
	reasons := append(slices.Clone(e.reasons), malformedRequest, invalidParameters, internalError)
	if r.Admin {
		reasons = append(reasons, tokenRequired, org.TokenRevoked)
	}
	if r.Operator {
		reasons = append(reasons, operatorRequired)
	}
	if e.caller == admin {
		reasons = append(reasons, org.EmailUnverified)
	}
	if r.Action != "" {
		reasons = append(reasons, org.RoleForbids)
	}
	if e.repeatable {
		r.Parameters = append(slices.Clip(r.Parameters), Parameter{Name: idempotencyKey, InHeader: true,
			Meaning: "A key that no other request has, such as a random UUID. A request that is repeated with the key within 24 hours changes nothing more, and is answered as the first one."})
		reasons = append(reasons, org.InvalidFields, org.KeyReused, org.KeyInUse)
	}
	if e.conditional {
		r.Parameters = append(slices.Clip(r.Parameters), Parameter{Name: ifMatch, InHeader: true,
			Meaning: "The `ETag` of the organization as the client knows it: if it has changed since, the request is refused."})
		reasons = append(reasons, org.OrganizationChanged)
	}
	r.ETag = response == reflect.TypeFor[organization]()
	if request != reflect.TypeFor[nothing]() {
		r.Request = request
		reasons = append(reasons, bodyTooLarge, unsupportedMediaType, org.InvalidFields)
	}
	switch response {
	case reflect.TypeFor[nothing]():
	case reflect.TypeFor[cacheable]():
		r.MediaType = jsonType
	case reflect.TypeFor[Page]():
		r.Page, r.MediaType = true, e.mediaType
	default:
		r.Response, r.MediaType = response, jsonType
	}
	for _, p := range problemTypes {
		if slices.Contains(reasons, p.reason) {
			r.Problems = append(r.Problems, Problem{string(p.reason), problemPath + string(p.reason), p.status, p.meaning})
		}
	}
	return r
}
