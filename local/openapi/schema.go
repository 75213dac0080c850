package main

import (
	"fmt"
	"maps"
	"reflect"
	"slices"

	"github.com/google/jsonschema-go/jsonschema"

	"orgservice/shared/api"
)

// addSchema adds the schema of a type to the components, once.
func (d *document) addSchema(t reflect.Type) (*jsonschema.Schema, error) {
	name := nameOf(t)
	if schema := d.Components.Schemas[name]; schema != nil {
		return schema, nil
	}
	schema, err := schemaOf(t, name)
	if err == nil {
		d.Components.Schemas[name] = schema
	}
	return schema, err
}

// nameOf returns the name of a type's schema.
func nameOf(t reflect.Type) string { return capitalized(t.Name()) }

// schemaOf returns the schema of a struct in JSON. It differs from what the
// library makes in three ways. A pointer is an optional field, and null is no
// value of it. An object may have more fields than today. Each field has a
// description.
func schemaOf(t reflect.Type, name string) (*jsonschema.Schema, error) {
	schema, err := jsonschema.ForType(t, &jsonschema.ForOptions{TypeSchemas: map[reflect.Type]*jsonschema.Schema{
		reflect.TypeFor[api.Time](): {Type: "string", Format: "date-time", Pattern: `\.\d{3}Z$`},
	}})
	if err != nil {
		return nil, err
	}
	for i := range t.NumField() {
		if f := t.Field(i); f.Type.Kind() == reflect.Pointer {
			schema.Required = slices.DeleteFunc(schema.Required, func(s string) bool { return s == f.Tag.Get("json") })
		}
	}
	if err := describe(schema, name); err != nil {
		return nil, err
	}
	if constraint := constraints[name]; constraint != nil {
		constraint(schema)
	}
	return schema, nil
}

// describe completes an object's schema and the schemas in it.
func describe(s *jsonschema.Schema, name string) error {
	s.AdditionalProperties = nil
	for _, property := range slices.Sorted(maps.Keys(s.Properties)) {
		p := s.Properties[property]
		if i := slices.Index(p.Types, "null"); i >= 0 && len(p.Types) == 2 {
			p.Type, p.Types = p.Types[1-i], nil
		}
		f := fieldFor(name, property)
		if f.description == "" {
			return fmt.Errorf("there is no description of %s in %s", property, name)
		}
		f.apply(p)
		p.Description = f.description
		for _, inner := range []*jsonschema.Schema{p.Items, p} {
			if inner != nil && inner.Properties != nil {
				if err := describe(inner, name+"."+property); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// refusesAll returns the schema false.
func refusesAll() *jsonschema.Schema { return &jsonschema.Schema{Not: &jsonschema.Schema{}} }

// field is what a schema says about a field beyond its type.
type field struct {
	description string
	min, max    int // length; 0: no bound
	format      string
	pattern     string
	constant    any
	minimum     *float64
	enum        []any
	example     string // of a parameter
}

// apply adds the constraints to a schema.
func (f field) apply(s *jsonschema.Schema) *jsonschema.Schema {
	if f.min > 0 {
		s.MinLength = &f.min
	}
	if f.max > 0 {
		s.MaxLength = &f.max
	}
	if f.format != "" {
		s.Format = f.format
	}
	if f.constant != nil {
		s.Const = &f.constant
	}
	if f.pattern != "" {
		s.Pattern = f.pattern
	}
	s.Minimum, s.Enum = f.minimum, f.enum
	return s
}

// fieldFor returns what is known of the field in that schema, or else of that
// field in any schema.
func fieldFor(schema, name string) field {
	if f, ok := fields[schema+"."+name]; ok {
		return f
	}
	return fields[name]
}

// fields has every field, by its name or its schema and name. The service may
// refuse more than a schema does, but accepts nothing that a schema refuses: a
// name and an email are normalized before they are measured, so that they have no
// maximum here.
var fields = map[string]field{
	"id":                {description: "Identifies the organization for ever.", min: 1},
	"admin_id":          {description: "Identifies the admin for ever.", min: 1},
	"organization_id":   {description: "Identifies the organization for ever.", min: 1},
	"organization_name": {description: "1 to 100 characters in any script, once it is normalized.", min: 1, example: "Akshay Pvt Ltd"},
	"collection_name":   {description: "The collection of the organization's own data. Another one after a rename.", pattern: "^org_"},
	"created_at":        {description: "When the organization signed up."},
	"updated_at":        {description: "When the organization was last changed."},
	"deleted_at":        {description: "When the organization was deleted."},
	"email":             {description: "At most 254 bytes. White space around it is removed, and it is compared without case.", min: 1, format: "idn-email"},
	"password":          {description: "From 8 to 128 characters, of which three are different; not the email, a part of it or the name of the organization, and none of the most common passwords.", min: 8, max: 128},
	"current_password":  {description: "Required with `email` and with `password`. Compared whenever it is given.", min: 1, max: 128},
	"access_token":      {description: "Valid for `expires_in` seconds, at most. Send it as `Authorization: Bearer …`.", min: 1},
	"token_type":        {description: "The scheme of the access token.", constant: "bearer"},
	"expires_in":        {description: "Lifetime of the access token in seconds.", minimum: jsonschema.Ptr(0.0)},
	"refresh_token":     {description: "Good for one use: a second use ends the login.", min: 1},
	"expires_at":        {description: "When the access token expires."},
	"email_verified":    {description: "Whether mails to the email have arrived there, as a ticket in one has shown."},
	"role":              {description: "What the admin may do in the organization: `owner`, `admin` or `member`. There may be more roles one day.", min: 1},

	"Idempotency-Key":         {pattern: "^[!-~]([ -~]*[!-~])?$", min: 1, max: 255},
	"If-Match":                {pattern: "^(\\*|\"[0-9]+\")$"},
	"limit":                   {pattern: "^(100|[1-9][0-9]?)$", example: "10"},
	"after":                   {pattern: "^[0-9a-f]{24,}$", example: "6b062bca0f6f0e6d4f1c2a30"},
	"ticket":                  {example: "C59MHS46W2x9jp8KGyw9TgABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f"}, // of a page, which sends it
	"AcceptRequest.ticket":    ofMail,
	"ResetRequest.ticket":     ofMail,
	"VerifyRequest.ticket":    ofMail,
	"RoleRequest.role":        {description: "The new role.", enum: []any{"owner", "admin", "member"}},
	"InviteRequest.role":      {description: "The role as a member.", enum: []any{"owner", "admin", "member"}},
	"AcceptRequest.password":  {description: "Of the admin with the email of the invitation, or the first one of a new admin: then as for a sign-up.", min: 1, max: 128},
	"ForgotRequest.email":     {description: "White space around it is removed, and it is compared without case.", min: 1},
	"invited_by":              {description: "The id of the admin who has invited.", min: 1},
	"Invitation.id":           {description: "Identifies the invitation.", min: 1},
	"Invitation.created_at":   {description: "When it was made."},
	"Invitation.expires_at":   {description: "When it expires."},
	"Invitations.invitations": {description: "In the order of their ids."},

	"Invitations.invitations.id":         {description: "Identifies the invitation.", min: 1},
	"Invitations.invitations.created_at": {description: "When it was made."},
	"Invitations.invitations.expires_at": {description: "When it expires."},
	"Members.members":                    {description: "In the order of their ids."},
	"Memberships.organizations":          {description: "In the order of their ids. Those that are suspended are left out."},
	"since":                              {description: "When the admin became a member of the organization."},
	"next":                               {description: "The parameter `after` of the next page. It is missing on the last one.", min: 1},
	"deep":                               {enum: []any{"true", "false"}, example: "true"},
	"reason":                             {pattern: "^[a-z-]+$", example: "name-taken"},
	"file":                               {pattern: "^[a-z0-9.-]+$", example: "page.css"},
	"Sessions.sessions":                  {description: "The logins that are alive, at most 50, in the order of their ids."},
	"Sessions.sessions.id":               {description: "Identifies the login.", min: 1},
	"Sessions.sessions.organization_id":  {description: "The organization that it is for.", min: 1},
	"Sessions.sessions.created_at":       {description: "When the admin logged in."},
	"Sessions.sessions.used_at":          {description: "When it was last refreshed; at first as `created_at`."},
	"Sessions.sessions.expires_at":       {description: "When it ends, however often it is refreshed."},
	"Sessions.sessions.address":          {description: "The IP address of the login."},
	"Sessions.sessions.user_agent":       {description: "As the client called itself."},
	"Sessions.sessions.current":          {description: "Whether it is the login of the access token."},
	"Health.status":                      {description: "The service is alive.", constant: "ok"},
	"Health.version":                     {description: "The version of this document.", min: 1},
	"Health.age":                         {description: "For how many seconds the process has been alive.", minimum: jsonschema.Ptr(0.0)},
	"Health.database":                    {description: "Only if the query asks for it."},
	"Health.database.status":             {description: "The database has answered.", constant: "ok"},
	"Health.database.latency_ms":         {description: "How long the database took, in milliseconds.", minimum: jsonschema.Ptr(0.0)},

	"IntrospectRequest.token":           {description: "An access token.", min: 1},
	"IntrospectRequest.token_type_hint": {description: "Not needed: only access tokens are active here."},
	"Introspection.active":              {description: "Whether the token is good now: not expired or revoked, and of an admin who may act, which needs a confirmed email where that is required. If not, there is no other field."},
	"Introspection.token_type":          {description: "The scheme of the token.", constant: "Bearer"},
	"Introspection.iss":                 {description: "As in the token."},
	"Introspection.aud":                 {description: "As in the token. Refuse a token without your own, if you have one."},
	"Introspection.sub":                 {description: "The id of the admin.", min: 1},
	"Introspection.client_id":           {description: "As in the token."},
	"Introspection.exp":                 {description: "When the token expires, in seconds since 1970.", minimum: jsonschema.Ptr(0.0)},
	"Introspection.org":                 {description: "The id of the organization.", min: 1},
	"Introspection.sid":                 {description: "The id of the login.", min: 1},
	"Introspection.roles":               {description: "What the admin may do in the organization now, which the token may not know yet."},

	"ActRequest.reason":                   {description: "Why, for other operators: one line of up to 500 characters.", min: 1, max: 500},
	"OwnerRequest.email":                  {description: "Of who is to own the organization, and gets the mail. As for a sign-up.", min: 1, format: "idn-email"},
	"prefix":                              {min: 1, example: "Akshay"},
	"RenameRequest.reason":                {description: "As for suspend.", min: 1, max: 500},
	"RestoreRequest.reason":               {description: "As for suspend.", min: 1, max: 500},
	"RestoreRequest.organization_name":    {description: "The name that it gets. Without it, the one from before.", min: 1},
	"restorable_until":                    {description: "Until when an operator can restore it. Not there if it is deleted for good."},
	"status":                              {enum: []any{"provisioning", "active", "suspended", "deleting", "deleted"}, example: "active"},
	"database_name":                       {description: "The database that the collection is in.", min: 1},
	"member_count":                        {description: "How many members it has.", minimum: jsonschema.Ptr(0.0)},
	"OperatedOrganizations.organizations": {description: "In the order of their ids, in which they were created."},

	"LoginRequest.email":             {description: "White space around it is removed, and it is compared without case.", min: 1},
	"LoginRequest.organization_name": {description: "The organization that the tokens are for: one of the admin's. Without it, that of the last login or switch.", min: 1},
	"LoginRequest.password":          {description: "The rules for a new one do not apply.", min: 1, max: 128},

	"Problem.type":           {description: "The type of the problem, for programs.", format: "uri-reference"},
	"Problem.title":          {description: "The name of the status."},
	"Problem.status":         {description: "The status of the response."},
	"Problem.detail":         {description: "What is wrong, for people.", min: 1},
	"Problem.request_id":     {description: "As in the header X-Request-Id.", min: 1},
	"Problem.errors":         {description: "Every field or parameter that is wrong."},
	"Problem.errors.field":   {description: "The name of the field or parameter."},
	"Problem.errors.message": {description: "The end of a sentence that begins with the name.", min: 1},
}

// ofOrganization are the fields of an organization as an operator sees it, alone or in a
// list.
var ofOrganization = map[string]field{
	"status":                          {description: "`active`, `suspended` by an operator, `provisioning` while it is created, `deleting`, `deleted` if it can be restored, or `purged` if there is only a receipt. There may be more one day.", min: 1},
	"organization_name":               {description: "Empty if it is purged.", example: "Akshay Pvt Ltd"},
	"collection_name":                 {description: "Empty if it is purged.", pattern: "^(org_|$)"},
	"database_name":                   {description: "The database that the collection is in. Empty if it is purged."},
	"deletion":                        {description: "Of one that is deleted, or about to be, and can be restored."},
	"deletion.at":                     {description: "When it was."},
	"deletion.admin_id":               {description: "The owner who deleted it."},
	"deletion.restorable_until":       {description: "When it is deleted for good."},
	"deletion.former_collection_name": {description: "The collection's name before, without `org_` what a restoration needs free.", pattern: "^org_"},
	"receipt":                         {description: "Of one that was deleted for good after it could have been restored."},
	"receipt.deleted_at":              {description: "When an owner deleted it."},
	"receipt.admin_id":                {description: "That owner. There may be no such admin any more."},
	"receipt.purged_at":               {description: "When it was deleted for good."},
	"receipt.purged_by":               {description: "The operator. Without one, the time to restore it was over.", min: 1},
	"receipt.document_count":          {description: "About how many documents the collection had.", minimum: jsonschema.Ptr(0.0)},
	"updated_at":                      {description: "When it was last changed, but for its members; of a receipt, when it was purged."},
	"operation":                       {description: "The change under way."},
	"members":                         {description: "In no order; not in a list of organizations."},
	"history":                         {description: "What operators did to it, if anything, the latest last; at most 100. Not in a list of organizations."},
	"history.act":                     {description: "`suspend`, `reactivate`, `rename` or `restore`. There may be more one day.", min: 1},
	"history.by":                      {description: "Who it was: the ARN of a user or a role's session.", min: 1},
	"history.reason":                  {description: "What the operator gave."},
	"history.at":                      {description: "When it was."},
	"operation.kind":                  {description: "`create`, `update`, `delete`, `bury` (a deletion that can be taken back) or `restore`.", min: 1},
	"operation.started_at":            {description: "When it began."},
	"operation.organization_name":     {description: "The name after it."},
	"members.since":                   {description: "When the admin became a member."},
}

func init() {
	for name, f := range ofOrganization {
		fields["OperatedOrganization."+name], fields["OperatedOrganizations.organizations."+name] = f, f
	}
}

var ofMail = field{description: "From the link in a mail. Good for one use.", min: 1}

// constraints are on more than one field.
var constraints = map[string]func(*jsonschema.Schema){
	// At least one field besides current_password. An anyOf would say the same, but
	// generators of clients make a body of any type from it.
	"UpdateRequest": func(s *jsonschema.Schema) {
		s.MinProperties = jsonschema.Ptr(1)
		s.DependentSchemas = map[string]*jsonschema.Schema{"current_password": {MinProperties: jsonschema.Ptr(2)}}
		s.DependentRequired = map[string][]string{"email": {"current_password"}, "password": {"current_password"}}
	},
}

// The schemas of what is JSON without a Go type in package api.
var (
	gatewayError = &jsonschema.Schema{
		Type:        "object",
		Description: "An answer of the gateway itself.",
		Required:    []string{"message"},
		Properties:  map[string]*jsonschema.Schema{"message": {Type: "string"}},
	}
	keySet = &jsonschema.Schema{
		Type:        "object",
		Description: "A JSON Web Key Set (RFC 7517).",
		Required:    []string{"keys"},
		Properties: map[string]*jsonschema.Schema{"keys": {Type: "array", Items: &jsonschema.Schema{
			Type:          "object",
			Required:      []string{"kty", "crv", "x", "kid", "alg", "use"},
			PropertyOrder: []string{"kty", "crv", "x", "y", "kid", "alg", "use"},
			Properties: map[string]*jsonschema.Schema{
				"kty": {Type: "string"}, "crv": {Type: "string"}, "x": {Type: "string"}, "y": {Type: "string"},
				"kid": {Type: "string"}, "alg": {Type: "string"}, "use": {Type: "string"},
			},
		}}},
	}
)
