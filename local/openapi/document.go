package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/google/jsonschema-go/jsonschema"

	"orgservice/shared/api"
)

// The parts of OpenAPI 3.1 that the document has. Their fields are in the order
// in which people read them.
type (
	document struct {
		OpenAPI    string     `json:"openapi"`
		Info       info       `json:"info"`
		Servers    []server   `json:"servers"`
		Tags       []tag      `json:"tags"`
		Paths      paths      `json:"paths"`
		Components components `json:"components"`
	}
	info struct {
		Title       string  `json:"title"`
		Version     string  `json:"version"`
		Description string  `json:"description"`
		License     license `json:"license"`
	}
	license struct {
		Name       string `json:"name"`
		Identifier string `json:"identifier"`
	}
	server struct {
		URL         string `json:"url"`
		Description string `json:"description"`
	}
	tag struct {
		Name        string `json:"name"`
		Description string `json:"description"`
	}
	operation struct {
		OperationID string                `json:"operationId"`
		Tags        []string              `json:"tags"`
		Summary     string                `json:"summary"`
		Description string                `json:"description,omitempty"`
		Security    []map[string][]string `json:"security"`
		Parameters  []parameter           `json:"parameters,omitempty"`
		RequestBody *requestBody          `json:"requestBody,omitempty"`
		Responses   map[string]response   `json:"responses"` // by status
	}
	parameter struct {
		Name        string             `json:"name"`
		In          string             `json:"in"`
		Required    bool               `json:"required"`
		Description string             `json:"description"`
		Schema      *jsonschema.Schema `json:"schema"`
		Example     string             `json:"example,omitempty"`
	}
	requestBody struct {
		Required bool               `json:"required"`
		Content  map[string]content `json:"content"` // by media type
	}
	response struct {
		Ref         string             `json:"$ref,omitempty"` // instead of all others
		Description string             `json:"description,omitempty"`
		Headers     map[string]header  `json:"headers,omitempty"`
		Content     map[string]content `json:"content,omitempty"` // by media type
	}
	header struct {
		Ref         string             `json:"$ref,omitempty"` // instead of all others
		Description string             `json:"description,omitempty"`
		Required    bool               `json:"required,omitempty"`
		Schema      *jsonschema.Schema `json:"schema,omitempty"`
	}
	content struct {
		Schema   *jsonschema.Schema `json:"schema"`
		Example  json.RawMessage    `json:"example,omitempty"`
		Examples map[string]example `json:"examples,omitempty"`
	}
	example struct {
		Value json.RawMessage `json:"value"`
	}
	components struct {
		SecuritySchemes map[string]securityScheme     `json:"securitySchemes"`
		Headers         map[string]header             `json:"headers"`
		Responses       map[string]response           `json:"responses"`
		Schemas         map[string]*jsonschema.Schema `json:"schemas"`
	}
	securityScheme struct {
		Type         string `json:"type"`
		Scheme       string `json:"scheme"`
		BearerFormat string `json:"bearerFormat,omitempty"`
		Description  string `json:"description"`
	}
)

const (
	jsonType    = "application/json"
	formType    = "application/x-www-form-urlencoded"
	problemType = "application/problem+json"
)

func newDocument() (*document, error) {
	d := &document{
		OpenAPI: "3.1.0",
		Info: info{
			Title:   "Organization Management Service",
			Version: api.Version,
			Description: "The multi-tenant backend that a SaaS starts with. An organization signs up and gets a collection of its own and an admin.\n\n" +
				"A body is one JSON object of at most 64 KiB, with only the fields of its schema, each at most once. The same holds for the parameters of a query. A form may have others, which are ignored. Times are RFC 3339 in UTC, with milliseconds.\n\n" +
				"An error is a problem document (RFC 9457): its `type` is for programs. The gateway in front of the service has error bodies of its own, of the schema GatewayError: " +
				"401 without a token, 403 if it is refused or the caller is no operator, 404 on a route that does not exist, 413, 429, 500 and 503. They have none of the headers of the service.",
			License: license{"MIT", "MIT"},
		},
		Servers: []server{{"/", "The service that this document is from."}},
		Tags:    tags,
		Paths:   paths{items: map[string]map[string]operation{}},
		Components: components{
			SecuritySchemes: map[string]securityScheme{
				"token":    {"http", "bearer", "JWT", "The `access_token` of a login or a refresh."},
				"service":  {"http", "bearer", "", "A secret of `INTROSPECTION_SECRET`, for your other services. It can also be the password of HTTP Basic, with any name."},
				"operator": {"http", "bearer", "", "In AWS the request is signed (Signature Version 4, service execute-api) by who may invoke the route by IAM. The service of `make run` takes the operator's token that it prints instead."},
			},
			Headers:   map[string]header{},
			Responses: map[string]response{},
			Schemas: map[string]*jsonschema.Schema{
				"GatewayError": withExample(gatewayError),
				"KeySet":       keySet,
			},
		},
	}
	failures := failuresByID()
	for _, r := range api.Routes() {
		o, err := d.operation(r, failures)
		if err != nil {
			return nil, fmt.Errorf("%s %s: %w", r.Method, r.Path, err)
		}
		d.Paths.add(r, o)
	}
	return d, nil
}

// tags groups the operations. tagOf has the groups by the beginning of the path; all
// others are of the service.
var (
	tags = []tag{
		{"organizations", "The organization of an access token, and signing up."},
		{"admins", "Logins and their tokens."},
		{"operator", "All organizations, for who runs the service."},
		{"service", "The keys that verify access tokens, and the state of the service."},
		{"pages", "This document, and what shows it."},
	}
	tagOf = map[string]string{"org": "organizations", "admin": "admins", "operator": "operator"}
)

func (d *document) operation(r api.Route, failures map[string]*failure) (operation, error) {
	group := cmp.Or(tagOf[strings.Split(r.Path, "/")[1]], "service")
	if r.Page {
		group = "pages"
	}
	o := operation{
		OperationID: operationID(r),
		Tags:        []string{group},
		Summary:     r.Summary,
		Security:    []map[string][]string{},
		Responses:   map[string]response{},
	}
	if r.Action != "" {
		o.Description = fmt.Sprintf("To %s, the caller must be its %s.", r.Action, r.Action.Roles())
	}
	if r.Admin {
		o.Security = append(o.Security, map[string][]string{"token": {}})
	}
	if r.Operator {
		o.Security = append(o.Security, map[string][]string{"operator": {}})
	}
	if r.Service {
		o.Security = append(o.Security, map[string][]string{"service": {}})
	}
	for _, p := range r.Parameters {
		f := fieldFor("", p.Name)
		documented := parameter{p.Name, "query", p.Required, p.Meaning, f.apply(&jsonschema.Schema{Type: "string"}), ""}
		if p.InPath {
			documented.In = "path"
		}
		if p.InHeader {
			documented.In = "header"
		}
		if p.Required { // Swagger UI would send the example of an optional one, too
			documented.Example = f.example
		}
		o.Parameters = append(o.Parameters, documented)
	}
	example := examples[r.Function]
	if r.Request != nil {
		schema, err := d.addSchema(r.Request)
		if err != nil {
			return o, err
		}
		mediaType := formType
		if !r.Form {
			mediaType, schema.AdditionalProperties = jsonType, refusesAll()
		}
		o.RequestBody = &requestBody{true, map[string]content{mediaType: {Schema: reference(nameOf(r.Request)), Example: example.Request}}}
	}
	success := response{Description: http.StatusText(r.Status), Headers: d.headersOf(r.Status, false)}
	switch {
	case r.Response != nil:
		if _, err := d.addSchema(r.Response); err != nil {
			return o, err
		}
		success.Content = map[string]content{jsonType: {Schema: reference(nameOf(r.Response)), Example: example.Response}}
	case r.Page:
		d.describePage(&o, r, &success)
	case r.MediaType == jsonType:
		success.Content = map[string]content{jsonType: {Schema: reference("KeySet"), Example: example.Response}}
	}
	if r.ETag {
		success.Headers["ETag"] = header{Description: "The revision of the organization, for `If-Match`. A repetition of a request has none, nor has a change of nothing but the email or the password.", Schema: &jsonschema.Schema{Type: "string"}}
	}
	o.Responses[strconv.Itoa(r.Status)] = success
	if r.NoContent != "" {
		o.Responses["204"] = response{Description: r.NoContent, Headers: d.headersOf(http.StatusNoContent, false)}
	}
	for _, p := range r.Problems {
		if err := d.addProblem(p); err != nil {
			return o, err
		}
	}
	for _, f := range failuresOf(r) {
		o.Responses[strconv.Itoa(f.status)] = d.failureResponse(failures[f.id()])
	}
	return o, nil
}

// operationID returns the name of a route's function or, since one function has
// them all, the path of a page in words.
func operationID(r api.Route) string {
	if !r.Page {
		return r.Function
	}
	words := strings.FieldsFunc(r.Path, func(r rune) bool { return !unicode.IsLetter(r) })
	return strings.Join(append([]string{"page"}, words...), "-")
}

// paths is an object with the operations by path and method, in the order in which
// they were added, in which Swagger UI and ReDoc show them.
type paths struct {
	order []string
	items map[string]map[string]operation
}

func (p *paths) add(r api.Route, o operation) {
	if p.items[r.Path] == nil {
		p.order = append(p.order, r.Path)
		p.items[r.Path] = map[string]operation{}
	}
	p.items[r.Path][strings.ToLower(r.Method)] = o
}

func (p paths) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	for i, path := range p.order {
		b.WriteString([]string{"{", ","}[min(i, 1)])
		encoder.Encode(path) // a buffer can't fail
		b.WriteByte(':')
		if err := encoder.Encode(p.items[path]); err != nil {
			return nil, err
		}
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// describePage completes the success of a page, and adds the answer to a client
// that has the page.
func (d *document) describePage(o *operation, r api.Route, success *response) {
	text := &jsonschema.Schema{Type: "string"}
	success.Headers["Content-Security-Policy"] = d.header("Content-Security-Policy", header{Description: "What the page may load.", Required: true, Schema: text})
	if r.Status == http.StatusFound {
		success.Headers["Location"] = header{Description: "Where the documentation is.", Required: true, Schema: text}
		return
	}
	success.Headers["ETag"] = d.header("ETag", header{Description: "The version of the content.", Required: true, Schema: text})
	o.Responses["304"] = response{Description: "The client has this version: `If-None-Match` names it.", Headers: success.Headers}
	success.Content = map[string]content{cmp.Or(r.MediaType, "*/*"): {Schema: &jsonschema.Schema{}}}
}

func reference(name string) *jsonschema.Schema {
	return &jsonschema.Schema{Ref: "#/components/schemas/" + name}
}

// addProblem adds the schema of a type of problem.
func (d *document) addProblem(p api.Problem) error {
	name := problemName(p)
	if d.Components.Schemas[name] != nil {
		return nil
	}
	schema, err := schemaOf(api.ProblemBody(), "Problem")
	if err != nil {
		return err
	}
	for field, value := range map[string]any{"type": p.Type, "title": http.StatusText(p.Status), "status": p.Status} {
		schema.Properties[field].Const = &value
	}
	schema.Description = p.Meaning
	schema.Properties["errors"].MinItems = jsonschema.Ptr(1)
	switch p.Status {
	case http.StatusUnprocessableEntity:
		schema.Required = append(schema.Required, "errors")
	case http.StatusBadRequest: // perhaps
	default:
		delete(schema.Properties, "errors")
		schema.PropertyOrder = slices.DeleteFunc(schema.PropertyOrder, func(s string) bool { return s == "errors" })
	}
	d.Components.Schemas[name] = schema
	return nil
}

// problemName returns the name of a problem's schema: NameTakenProblem for
// name-taken.
func problemName(p api.Problem) string {
	var b strings.Builder
	for word := range strings.SplitSeq(p.Reason, "-") {
		b.WriteString(capitalized(word))
	}
	return b.String() + "Problem"
}

// capitalized returns a word, which is not empty, with its first letter in upper
// case.
func capitalized(word string) string { return strings.ToUpper(word[:1]) + word[1:] }
