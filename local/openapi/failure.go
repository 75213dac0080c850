package main

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/google/jsonschema-go/jsonschema"

	"orgservice/shared/api"
)

// failure is an error response: all problems of one status, and whether the
// gateway has an answer of that status, too.
type failure struct {
	status   int
	problems []api.Problem
	gateway  bool

	name   string      // in the components; "" until it is known
	routes []api.Route // those that have it
}

// failuresOf returns the error responses of a route.
func failuresOf(r api.Route) []*failure {
	byStatus := map[int]*failure{}
	with := func(status int) *failure {
		if byStatus[status] == nil {
			byStatus[status] = &failure{status: status}
		}
		return byStatus[status]
	}
	for _, p := range r.Problems {
		f := with(p.Status)
		f.problems = append(f.problems, p)
	}
	for status := range gatewayMeanings {
		byPath, byToken, bySize := status == 400 || status == 404, status == 401 || status == 403, status == 413
		refused := r.Admin || r.Operator && status == 403
		if (!byPath || strings.Contains(r.Path, "{")) && (!byToken || refused) && (!bySize || r.Request != nil) {
			with(status).gateway = true
		}
	}
	var failures []*failure
	for _, status := range slices.Sorted(maps.Keys(byStatus)) {
		failures = append(failures, byStatus[status])
	}
	return failures
}

// id is the same for failures that are described by the same response.
func (f *failure) id() string {
	id := fmt.Sprint(f.status, f.gateway)
	for _, p := range f.problems {
		id += " " + p.Reason
	}
	return id
}

// failuresByID returns the different error responses of all routes, by id. The
// first of a status has the name of the status, and another one also that of the
// first route that has it.
func failuresByID() map[string]*failure {
	failures, named := map[string]*failure{}, map[string]bool{}
	for _, r := range api.Routes() {
		for _, f := range failuresOf(r) {
			known := failures[f.id()]
			if known == nil {
				known = f
				f.name = strings.ReplaceAll(http.StatusText(f.status), " ", "")
				if named[f.name] {
					f.name += "Of" + capitalized(r.Function)
				}
				failures[f.id()], named[f.name] = f, true
			}
			known.routes = append(known.routes, r)
		}
	}
	return failures
}

// failureResponse returns an error response: a reference if several routes have it.
func (d *document) failureResponse(f *failure) response {
	if len(f.routes) == 1 {
		return d.describeFailure(f)
	}
	if _, ok := d.Components.Responses[f.name]; !ok {
		d.Components.Responses[f.name] = d.describeFailure(f)
	}
	return response{Ref: "#/components/responses/" + f.name}
}

func (d *document) describeFailure(f *failure) response {
	described := response{Headers: d.headersOf(f.status, f.gateway), Content: map[string]content{}}
	var lines []string
	var schemas []*jsonschema.Schema
	for _, p := range f.problems {
		lines = append(lines, fmt.Sprintf("`%s`: %s", p.Reason, p.Meaning))
		schemas = append(schemas, reference(problemName(p)))
	}
	switch len(schemas) {
	case 0:
		described.Headers = nil // the gateway's answer has none
	case 1:
		described.Content[problemType] = content{Schema: schemas[0], Examples: problemExamples(f)}
	default:
		described.Content[problemType] = content{Schema: &jsonschema.Schema{OneOf: schemas}, Examples: problemExamples(f)}
	}
	if f.gateway {
		lines = append(lines, "The gateway: "+gatewayMeanings[f.status])
		described.Content[jsonType] = content{Schema: reference("GatewayError"), Example: gatewayExample(f)}
	}
	described.Description = strings.Join(lines, "\n\n")
	return described
}

// gatewayMeanings says when the gateway has an answer of its own.
var gatewayMeanings = map[int]string{
	400: "the path can't be decoded.",
	401: "the request has no access token.",
	403: "the access token is not valid.",
	404: "the decoded path is that of no route.",
	413: "the body is larger than the gateway allows.",
	429: "there are too many requests.",
	500: "the function failed.",
	503: "the function is not available.",
}

// headersOf returns the headers of responses that have the status. They are
// required unless the gateway has responses of that status, too.
func (d *document) headersOf(status int, gateway bool) map[string]header {
	headers := map[string]header{
		"X-Request-Id": {Description: "The request's own, if it is 8 to 64 letters, digits, `.`, `_`, `-`.", Required: !gateway, Schema: &jsonschema.Schema{Type: "string"}},
	}
	switch status {
	case http.StatusCreated:
		headers["Location"] = header{Description: "Where the organization can be found.", Required: true, Schema: &jsonschema.Schema{Type: "string", Format: "uri-reference"}}
	case http.StatusUnauthorized:
		headers["WWW-Authenticate"] = header{Description: "The scheme of the token.", Required: !gateway, Schema: &jsonschema.Schema{Type: "string"}}
	case http.StatusConflict, http.StatusTooManyRequests, http.StatusServiceUnavailable:
		headers["Retry-After"] = header{Description: "How many seconds to wait before the next attempt.", Schema: &jsonschema.Schema{Type: "integer", Minimum: jsonschema.Ptr(1.0)}}
	}
	for name, h := range headers {
		component := name
		if gateway && name != "Retry-After" { // which is never required
			component += "-Not-By-Gateway"
		}
		headers[name] = d.header(component, h)
	}
	return headers
}

// header makes a header a component, and returns a reference to it.
func (d *document) header(component string, h header) header {
	d.Components.Headers[component] = h
	return header{Ref: "#/components/headers/" + component}
}
