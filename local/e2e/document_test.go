package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"sync"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/gorillamux"
)

// documented returns the routes of the OpenAPI document. Its objects are closed here: a client
// must ignore a field that it does not know, but the service has none today.
var documented = sync.OnceValue(func() routers.Router {
	d, err := openapi3.NewLoader().LoadFromFile("../../shared/api/openapi.json")
	if err != nil {
		panic(err)
	}
	for _, schema := range d.Components.Schemas {
		closeObjects(schema.Value)
	}
	router, err := gorillamux.NewRouter(d)
	if err != nil {
		panic(err)
	}
	return router
})

func closeObjects(s *openapi3.Schema) {
	if s.Properties == nil {
		return
	}
	no := false
	s.AdditionalProperties.Has = &no
	for _, p := range s.Properties {
		if p.Value.Items != nil {
			closeObjects(p.Value.Items.Value)
		}
	}
}

// checkDocumented fails the test unless the OpenAPI document has the answer, and
// the request, too, if the service has not refused it.
func (c *client) checkDocumented(r *http.Request, body []byte, a answer) {
	c.t.Helper()
	route, parameters, err := documented().FindRoute(r)
	if err != nil {
		if a.status < 400 {
			c.t.Errorf("%v: the route in the OpenAPI document: %v", a, err)
		}
		return
	}
	if _, refused := a.refusal(); refused && c.gateway != dialects["local"] {
		return // not the gateway that the document describes
	}
	sent := r.Clone(context.Background())
	sent.Body = io.NopCloser(bytes.NewReader(body))
	if mediaType, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err == nil && strings.HasSuffix(mediaType, "+json") {
		sent.Header.Set("Content-Type", "application/json") // means the same to the service
	}
	options := &openapi3filter.Options{AuthenticationFunc: hasToken, IncludeResponseStatus: true, MultiError: true}
	options.ExcludeResponseBody = a.isPage()                                                        // not JSON
	options.WithCustomSchemaErrorFunc(func(err *openapi3.SchemaError) string { return err.Reason }) // without the values, which may be secret
	in := &openapi3filter.RequestValidationInput{
		Request: sent, Route: route, PathParams: parameters, Options: options,
	}
	if a.status < 400 {
		if err := errors.Join(openapi3filter.ValidateRequest(context.Background(), in), checkQuery(in)); err != nil {
			c.t.Errorf("%v: the request is not as the OpenAPI document says: %v", a, err)
		}
	}
	err = openapi3filter.ValidateResponse(context.Background(), &openapi3filter.ResponseValidationInput{
		RequestValidationInput: in, Status: a.status, Header: a.header, Body: io.NopCloser(bytes.NewReader(a.body)), Options: in.Options,
	})
	if err != nil {
		c.t.Errorf("%v: the answer is not as the OpenAPI document says: %v", a, err)
	}
}

// checkQuery returns an error if a parameter is not in the document or is given
// twice, to which the library does not object.
func checkQuery(in *openapi3filter.RequestValidationInput) error {
	query, err := url.ParseQuery(in.Request.URL.RawQuery)
	for name, values := range query {
		if len(values) != 1 || in.Route.Operation.Parameters.GetByInAndName("query", name) == nil {
			err = fmt.Errorf("the parameter %s is unknown, or there %d times", name, len(values))
		}
	}
	return err
}

func hasToken(_ context.Context, in *openapi3filter.AuthenticationInput) error {
	scheme, _, ok := strings.Cut(in.RequestValidationInput.Request.Header.Get("Authorization"), " ")
	if basic := in.SecuritySchemeName == "service" && strings.EqualFold(scheme, "basic"); !ok || !basic && !strings.EqualFold(scheme, "bearer") {
		return errors.New("there is no bearer token")
	}
	return nil
}
