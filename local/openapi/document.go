package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
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
		OpenAPI    string                          `json:"openapi"`
		Info       info                            `json:"info"`
		Servers    []server                        `json:"servers"`
		Paths      map[string]map[string]operation `json:"paths"` // by path and method
		Components components                      `json:"components"`
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
	operation struct {
		OperationID string                `json:"operationId"`
		Summary     string                `json:"summary"`
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
		Description string             `json:"description"`
		Headers     map[string]header  `json:"headers,omitempty"`
		Content     map[string]content `json:"content,omitempty"` // by media type
	}
	header struct {
		Description string             `json:"description"`
		Required    bool               `json:"required,omitempty"`
		Schema      *jsonschema.Schema `json:"schema"`
	}
	content struct {
		Schema  *jsonschema.Schema `json:"schema"`
		Example json.RawMessage    `json:"example,omitempty"`
	}
	components struct {
		SecuritySchemes map[string]securityScheme     `json:"securitySchemes"`
		Schemas         map[string]*jsonschema.Schema `json:"schemas"`
	}
	securityScheme struct {
		Type         string `json:"type"`
		Scheme       string `json:"scheme"`
		BearerFormat string `json:"bearerFormat"`
		Description  string `json:"description"`
	}
)

const (
	jsonType    = "application/json"
	problemType = "application/problem+json"
)

func newDocument() (*document, error) {
	d := &document{
		OpenAPI: "3.1.0",
		Info: info{
			Title:   "Organization Management Service",
			Version: api.Version,
			Description: "The multi-tenant backend that a SaaS starts with. An organization signs up and gets a collection of its own and an admin.\n\n" +
				"A body is one JSON object of at most 64 KiB, with only the fields of its schema, each at most once. The same holds for the parameters of a query. Times are RFC 3339 in UTC, with milliseconds.\n\n" +
				"An error is a problem document (RFC 9457): its `type` is for programs. The gateway in front of the service has error bodies of its own, of the schema GatewayError: " +
				"401 without a token, 403 if it is refused, 404 on a route that does not exist, 413, 429, 500 and 503. They have none of the headers of the service.",
			License: license{"MIT", "MIT"},
		},
		Servers: []server{{"/", "The service that this document is from."}},
		Paths:   map[string]map[string]operation{},
		Components: components{
			SecuritySchemes: map[string]securityScheme{
				"token": {"http", "bearer", "JWT", "The `access_token` of a login or a refresh."},
			},
			Schemas: map[string]*jsonschema.Schema{
				"GatewayError": gatewayError,
				"KeySet":       keySet,
			},
		},
	}
	for _, r := range api.Routes() {
		o, err := d.operation(r)
		if err != nil {
			return nil, fmt.Errorf("%s %s: %w", r.Method, r.Path, err)
		}
		if d.Paths[r.Path] == nil {
			d.Paths[r.Path] = map[string]operation{}
		}
		d.Paths[r.Path][strings.ToLower(r.Method)] = o
	}
	return d, nil
}

func (d *document) operation(r api.Route) (operation, error) {
	o := operation{
		OperationID: operationID(r),
		Summary:     r.Summary,
		Security:    []map[string][]string{},
		Responses:   map[string]response{},
	}
	if r.Admin {
		o.Security = append(o.Security, map[string][]string{"token": {}})
	}
	for _, p := range r.Parameters {
		f := fieldFor("", p.Name)
		in := "query"
		if p.InPath {
			in = "path"
		}
		example := f.example
		if !p.Required {
			example = "" // Swagger UI would send it
		}
		o.Parameters = append(o.Parameters, parameter{p.Name, in, p.Required, p.Meaning, f.apply(&jsonschema.Schema{Type: "string"}), example})
	}
	example := examples[r.Function]
	if r.Request != nil {
		schema, err := d.addSchema(r.Request)
		if err != nil {
			return o, err
		}
		schema.AdditionalProperties = refusesAll()
		if example.request == "" {
			return o, fmt.Errorf("there is no example of the request")
		}
		o.RequestBody = &requestBody{true, map[string]content{jsonType: {reference(nameOf(r.Request)), json.RawMessage(example.request)}}}
	}
	success := response{Description: http.StatusText(r.Status), Headers: headersOf(r.Status, false)}
	switch {
	case r.Response != nil:
		if _, err := d.addSchema(r.Response); err != nil {
			return o, err
		}
		success.Content = map[string]content{jsonType: {reference(nameOf(r.Response)), json.RawMessage(example.response)}}
	case r.Page:
		return o, d.addPage(o, r, success)
	case r.MediaType == jsonType:
		success.Content = map[string]content{jsonType: {reference("KeySet"), json.RawMessage(example.response)}}
	}
	if (success.Content == nil) != (example.response == "") {
		return o, fmt.Errorf("its example of a response is %q", example.response)
	}
	o.Responses[strconv.Itoa(r.Status)] = success
	return o, d.addErrors(o, r)
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

// addPage adds the responses of a page.
func (d *document) addPage(o operation, r api.Route, success response) error {
	header := func(description string) header {
		return header{description, true, &jsonschema.Schema{Type: "string"}}
	}
	success.Headers["Content-Security-Policy"] = header("What the page may load.")
	if r.Status == http.StatusFound {
		success.Headers["Location"] = header("Where the documentation is.")
	} else {
		success.Content = map[string]content{cmp.Or(r.MediaType, "*/*"): {Schema: &jsonschema.Schema{}}}
		success.Headers["ETag"] = header("The version of the content.")
		same := response{Description: "The client has this version: `If-None-Match` names it.", Headers: maps.Clone(success.Headers)}
		o.Responses["304"] = same
	}
	o.Responses[strconv.Itoa(r.Status)] = success
	return d.addErrors(o, r)
}

// addErrors adds the error responses of the service and of the gateway.
func (d *document) addErrors(o operation, r api.Route) error {
	gateway := []int{429, 500, 503}
	if r.Admin {
		gateway = append(gateway, 401, 403)
	}
	if r.Request != nil {
		gateway = append(gateway, 413)
	}
	problems := map[int][]api.Problem{}
	for _, p := range r.Problems {
		problems[p.Status] = append(problems[p.Status], p)
		if err := d.addProblem(p); err != nil {
			return err
		}
	}
	for _, status := range gateway {
		problems[status] = append(problems[status], nil...) // perhaps an entry without problems
	}
	for status, ps := range problems {
		byGateway := slices.Contains(gateway, status)
		e := response{Headers: headersOf(status, byGateway), Content: map[string]content{}}
		var lines []string
		var schemas []*jsonschema.Schema
		for _, p := range ps {
			lines = append(lines, fmt.Sprintf("`%s`: %s", p.Reason, p.Meaning))
			schemas = append(schemas, reference(problemName(p)))
		}
		if len(schemas) == 1 {
			e.Content[problemType] = content{Schema: schemas[0]}
		} else if len(schemas) > 1 {
			e.Content[problemType] = content{Schema: &jsonschema.Schema{OneOf: schemas}}
		} else {
			e.Headers = nil
		}
		if byGateway {
			lines = append(lines, "The gateway: "+gatewayMeanings[status])
			e.Content[jsonType] = content{Schema: reference("GatewayError")}
		}
		e.Description = strings.Join(lines, "\n\n")
		o.Responses[strconv.Itoa(status)] = e
	}
	return nil
}

// gatewayMeanings says when the gateway has an answer of its own.
var gatewayMeanings = map[int]string{
	401: "the request has no access token.",
	403: "the access token is not valid.",
	413: "the body is larger than the gateway allows.",
	429: "there are too many requests.",
	500: "the function failed.",
	503: "the function is not available.",
}

// headersOf returns the headers of responses that have the status. They are
// required unless the gateway has responses of that status, too.
func headersOf(status int, byGateway bool) map[string]header {
	headers := map[string]header{
		"X-Request-Id": {"The request's own, if it is 8 to 64 letters, digits, `.`, `_`, `-`.", !byGateway, &jsonschema.Schema{Type: "string"}},
	}
	switch status {
	case http.StatusCreated:
		headers["Location"] = header{"Where the organization can be found.", true, &jsonschema.Schema{Type: "string", Format: "uri-reference"}}
	case http.StatusUnauthorized:
		headers["WWW-Authenticate"] = header{"The scheme of access tokens.", !byGateway, &jsonschema.Schema{Type: "string"}}
	case http.StatusConflict, http.StatusTooManyRequests, http.StatusServiceUnavailable:
		headers["Retry-After"] = header{"How many seconds to wait before the next attempt.", false,
			&jsonschema.Schema{Type: "integer", Minimum: jsonschema.Ptr(1.0)}}
	}
	return headers
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
