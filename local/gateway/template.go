package gateway

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// template is the part of a SAM template that the gateway uses.
type template struct {
	api         string // logical ID of the HTTP API; "" if there is none
	functions   []*function
	routes      []*route
	authorizers map[string]*authorizer
	cors        *cors
	schedules   []schedule
}

// function is an AWS::Serverless::Function.
type function struct {
	id      string // logical ID
	dir     string // absolute path of its main package
	handler string
	timeout time.Duration
	memory  int // MB
	env     map[string]string
}

// binary returns the file name of the function's binary.
func (f *function) binary() string { return filepath.Base(f.dir) }

// route is an HttpApi event of a function.
type route struct {
	key        string   // "POST /org/create"
	method     string   // ANY for all methods
	segments   []string // of the path, such as "org" and "{id}"
	function   *function
	authorizer *authorizer // nil if the route is open, or an operator's
	iam        bool        // only who may by AWS IAM
	throttle   throttle
}

// throttle is a token bucket. A nil field has the default of the account.
type throttle struct {
	rate  *float64 // requests a second
	burst *int     // requests at once
}

// authorizer is a Lambda authorizer of the API.
type authorizer struct {
	function *function
	headers  []string      // the identity source, in lower case
	ttl      time.Duration // how long an answer is cached
}

// cors is the CorsConfiguration of the API.
type cors struct {
	origins, methods, headers, expose []string
	maxAge                            int // seconds
	credentials                       bool
}

// schedule is a Schedule or ScheduleV2 event of a function.
type schedule struct {
	name     string
	function *function
	count    int           // of rate(count unit)
	unit     time.Duration // a minute, an hour or a day
	input    string        // the event; "" for the event of EventBridge
	v2       bool          // EventBridge Scheduler, and not a rule
}

// lookup finds a function by its logical ID (CreateFunction), by that without
// "Function" (Create) or by its folder (create).
func (t *template) lookup(name string) (*function, error) {
	var names []string
	for _, f := range t.functions {
		if name == f.id || name+"Function" == f.id || name == f.binary() {
			return f, nil
		}
		names = append(names, f.binary())
	}
	slices.Sort(names)
	names = slices.Compact(names)
	list := strings.Join(names, ", ")
	if closest := Closest(name, names); closest != "" {
		return nil, fmt.Errorf("there is no function %s: did you mean %s? There are %s", name, closest, list)
	}
	return nil, fmt.Errorf("there is no function %s: there are %s", name, list)
}

// only finds the functions of these names, or all if there are none.
func (t *template) only(names []string) (functions []*function, err error) {
	if len(names) == 0 {
		return t.functions, nil
	}
	for _, name := range names {
		f, err := t.lookup(name)
		if err != nil {
			return nil, err
		}
		functions = append(functions, f)
	}
	return functions, nil
}

// readTemplate reads the template at path. The values in parameters replace the
// defaults of its parameters, and those in env replace the values of its
// variables. A property that the gateway does not know is an error: if it were
// ignored, the gateway would differ from the deployment.
func readTemplate(path, region string, parameters, env map[string]string) (t *template, err error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	r := &reader{
		path: path, region: region, env: env,
		parameters: map[string]*yaml.Node{}, conditions: map[string]*yaml.Node{}, resources: map[string]*yaml.Node{},
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(data, &doc); err != nil {
		if m := yamlError.FindStringSubmatch(err.Error()); m != nil {
			return nil, fmt.Errorf("%s:%s: %s", r.file(), m[1], m[2])
		}
		return nil, fmt.Errorf("%s: %w", r.file(), err)
	}
	defer func() {
		if e := recover(); e != nil {
			refused, ok := e.(refusal)
			if !ok {
				panic(e)
			}
			t, err = nil, refused
		}
	}()
	if len(doc.Content) == 0 {
		return nil, fmt.Errorf("%s: empty template", r.file())
	}
	return r.template(doc.Content[0], parameters), nil
}

var yamlError = regexp.MustCompile(`(?s)^yaml: line (\d+): (.*)$`)

// reader reads one template. At the first error its methods panic with a refusal,
// which readTemplate returns.
type reader struct {
	path, region string
	env          map[string]string
	parameters   map[string]*yaml.Node // values; nil for a parameter without one
	conditions   map[string]*yaml.Node
	resources    map[string]*yaml.Node
}

// refusal is an error in the template.
type refusal struct{ error }

func (r *reader) file() string { return filepath.Base(r.path) }

// refuse panics with a refusal at the line of a node.
func (r *reader) refuse(at *yaml.Node, format string, args ...any) {
	panic(refusal{fmt.Errorf("%s:%d: %s", r.file(), at.Line, fmt.Sprintf(format, args...))})
}

// template reads the whole template. The overrides are values of parameters.
func (r *reader) template(root *yaml.Node, overrides map[string]string) *template {
	sections := r.fields(root)
	parameters := r.fields(sections["Parameters"])
	for name, override := range overrides {
		if parameters[name] == nil {
			panic(refusal{fmt.Errorf("%s has no parameter %q (it was to be %q)", r.file(), name, override)})
		}
	}
	for name, declaration := range parameters {
		field := r.fields(declaration)
		value := field["Default"]
		if override, ok := overrides[name]; ok {
			value = text(declaration, override)
		}
		kind := r.string(r.need(declaration, "Type"))
		if value != nil && (kind == "CommaDelimitedList" || strings.HasPrefix(kind, "List<")) {
			value = commaList(value)
		}
		r.parameters[name] = value
	}
	r.conditions = r.fields(sections["Conditions"])
	if sections["Resources"] == nil {
		r.refuse(root, "no Resources")
	}
	r.resources = r.fields(sections["Resources"])
	globals := r.fields(r.fields(sections["Globals"])["Function"])

	t := &template{authorizers: map[string]*authorizer{}}
	var api *yaml.Node
	events := map[*function]*yaml.Node{}
	for _, id := range r.keys(sections["Resources"]) {
		resource := r.resources[id]
		switch r.string(r.need(resource, "Type")) {
		case "AWS::Serverless::HttpApi":
			if api != nil {
				r.refuse(resource, "%s is a second HTTP API: one is served here", id)
			}
			api, t.api = resource, id
		case "AWS::Serverless::Function":
			f, e := r.function(id, resource, globals)
			for _, other := range t.functions {
				if other.dir != f.dir && other.binary() == f.binary() {
					r.refuse(resource, "%s and %s are built from folders of the same name", other.id, f.id)
				}
			}
			t.functions = append(t.functions, f)
			events[f] = e
		}
	}
	if len(t.functions) == 0 {
		r.refuse(sections["Resources"], "no function")
	}
	var auth *yaml.Node
	var settings map[string]*yaml.Node
	if api != nil {
		settings, auth = r.api(t, api)
	}
	for _, f := range t.functions {
		for _, name := range r.keys(events[f]) {
			event := r.fields(events[f])[name]
			switch kind := r.string(r.need(event, "Type")); kind {
			case "HttpApi":
				r.route(t, f, r.need(event, "Properties"), auth, settings["DefaultRouteSettings"])
			case "Schedule", "ScheduleV2":
				r.schedule(t, f, name, kind == "ScheduleV2", r.need(event, "Properties"))
			default:
				r.refuse(event, "an event of type %s is not served here", kind)
			}
		}
	}
	routes := r.fields(settings["RouteSettings"])
	for _, key := range r.keys(settings["RouteSettings"]) {
		i := slices.IndexFunc(t.routes, func(rt *route) bool { return rt.key == key })
		if i < 0 {
			r.refuse(routes[key], "settings of the route %q, which no function has", key)
		}
		r.throttle(routes[key], &t.routes[i].throttle)
	}
	return t
}

// function reads a function, with the defaults in globals. It returns the node of
// its events, which can be read only after all functions.
func (r *reader) function(id string, resource *yaml.Node, globals map[string]*yaml.Node) (f *function, events *yaml.Node) {
	r.only(resource, "Type", "Properties", "Metadata", "DependsOn", "Connectors", "DeletionPolicy", "UpdateReplacePolicy")
	properties := r.fields(r.need(resource, "Properties"))
	get := func(name, fallback string) *yaml.Node {
		switch {
		case properties[name] != nil:
			return properties[name]
		case globals[name] != nil:
			return globals[name]
		}
		return text(resource, fallback)
	}
	f = &function{
		id:      id,
		handler: r.string(get("Handler", "bootstrap")),
		timeout: time.Duration(r.int(get("Timeout", "3"), 1, 900)) * time.Second,
		memory:  r.int(get("MemorySize", "128"), 128, 10240),
		env:     map[string]string{},
	}
	if node := get("Runtime", ""); !strings.HasPrefix(r.string(node), "provided") {
		r.refuse(node, "%s has the runtime %q: only provided.al2023 is served here", id, r.string(node))
	}
	code := get("CodeUri", "")
	if r.string(code) == "" {
		r.refuse(resource, "%s has no CodeUri", id)
	}
	dir, err := filepath.Abs(filepath.Join(filepath.Dir(r.path), filepath.FromSlash(r.string(code))))
	if info, statErr := os.Stat(dir); err != nil || statErr != nil || !info.IsDir() {
		r.refuse(code, "%s has the CodeUri %s, which is no folder", id, r.string(code))
	}
	f.dir = dir
	for _, environment := range []*yaml.Node{globals["Environment"], properties["Environment"]} {
		r.only(environment, "Variables")
		variables := r.fields(environment)["Variables"]
		for name, value := range r.fields(variables) {
			if override, ok := r.env[name]; ok {
				f.env[name] = override
			} else {
				f.env[name] = r.string(value)
			}
		}
	}
	return f, properties["Events"]
}

// api reads the HTTP API. It returns its properties and that named Auth.
func (r *reader) api(t *template, resource *yaml.Node) (settings map[string]*yaml.Node, auth *yaml.Node) {
	r.only(resource, "Type", "Properties", "Metadata", "DependsOn", "Connectors", "DeletionPolicy", "UpdateReplacePolicy")
	properties := r.fields(resource)["Properties"]
	r.only(properties, "Auth", "CorsConfiguration", "DefaultRouteSettings", "RouteSettings",
		"Name", "Description", "FailOnWarnings", "AccessLogSettings", "Tags", "PropagateTags", "Domain", "DisableExecuteApiEndpoint")
	settings = r.fields(properties)

	auth = settings["Auth"]
	r.only(auth, "DefaultAuthorizer", "Authorizers", "EnableIamAuthorizer")
	authorizers := r.fields(auth)["Authorizers"]
	for name, node := range r.fields(authorizers) {
		t.authorizers[name] = r.authorizer(t, name, node)
	}
	if c := settings["CorsConfiguration"]; c != nil {
		r.only(c, "AllowOrigins", "AllowMethods", "AllowHeaders", "ExposeHeaders", "MaxAge", "AllowCredentials")
		field := r.fields(c)
		t.cors = &cors{
			origins:     r.strings(field["AllowOrigins"]),
			methods:     r.strings(field["AllowMethods"]),
			headers:     r.strings(field["AllowHeaders"]),
			expose:      r.strings(field["ExposeHeaders"]),
			credentials: r.bool(field["AllowCredentials"]),
		}
		if field["MaxAge"] != nil {
			t.cors.maxAge = r.int(field["MaxAge"], -1, 86400)
		}
	}
	return settings, auth
}

// authorizer reads an authorizer of the API.
func (r *reader) authorizer(t *template, name string, node *yaml.Node) *authorizer {
	r.only(node, "FunctionArn", "AuthorizerPayloadFormatVersion", "EnableSimpleResponses",
		"EnableFunctionDefaultPermissions", "Identity")
	field := r.fields(node)
	a := &authorizer{}
	arn := r.string(r.need(node, "FunctionArn"))
	for _, f := range t.functions {
		if arn == functionARN(r.region, f.id) {
			a.function = f
		}
	}
	if a.function == nil {
		r.refuse(field["FunctionArn"], "authorizer %s: %s is no function of this template", name, arn)
	}
	// Without quotes, YAML reads it as the number 2.
	if v := field["AuthorizerPayloadFormatVersion"]; v == nil || v.Tag != "!!str" || r.string(v) != "2.0" {
		r.refuse(first(v, node), `authorizer %s needs AuthorizerPayloadFormatVersion: "2.0"`, name)
	}
	for _, key := range []string{"EnableSimpleResponses", "EnableFunctionDefaultPermissions"} {
		if !r.bool(field[key]) {
			r.refuse(first(field[key], node), "authorizer %s needs %s: true", name, key)
		}
	}
	if identity := field["Identity"]; identity != nil {
		r.only(identity, "Headers", "ReauthorizeEvery")
		for _, h := range r.strings(r.need(identity, "Headers")) {
			a.headers = append(a.headers, strings.ToLower(h))
		}
		a.ttl = time.Duration(r.int(r.need(identity, "ReauthorizeEvery"), 0, 3600)) * time.Second
	}
	return a
}

// route reads an HttpApi event of f. auth is the Auth of the API, and defaults are
// its DefaultRouteSettings.
func (r *reader) route(t *template, f *function, properties, auth, defaults *yaml.Node) {
	r.only(properties, "ApiId", "Method", "Path", "Auth", "PayloadFormatVersion")
	field := r.fields(properties)
	if id := r.string(r.need(properties, "ApiId")); id != t.api {
		r.refuse(field["ApiId"], "%s is no HTTP API of this template", id)
	}
	if v := field["PayloadFormatVersion"]; v != nil && r.string(v) != "2.0" {
		r.refuse(v, "payload format %s: only 2.0 is served here", r.string(v))
	}
	path := r.string(r.need(properties, "Path"))
	if !strings.HasPrefix(path, "/") {
		r.refuse(field["Path"], "the path %q does not start with /", path)
	}
	rt := &route{
		method:   strings.ToUpper(r.string(r.need(properties, "Method"))),
		segments: strings.Split(path, "/")[1:],
		function: f,
	}
	rt.key = rt.method + " " + path
	for _, other := range t.routes {
		if other.key == rt.key {
			r.refuse(properties, "%s and %s both have the route %s", other.function.id, f.id, rt.key)
		}
	}
	r.only(field["Auth"], "Authorizer")
	chosen := first(r.fields(field["Auth"])["Authorizer"], r.fields(auth)["DefaultAuthorizer"])
	switch {
	case chosen == nil || r.string(chosen) == "NONE":
	case r.string(chosen) == "AWS_IAM":
		if rt.iam = true; !r.bool(r.fields(auth)["EnableIamAuthorizer"]) {
			r.refuse(chosen, "AWS_IAM needs EnableIamAuthorizer: true")
		}
	default:
		if rt.authorizer = t.authorizers[r.string(chosen)]; rt.authorizer == nil {
			r.refuse(chosen, "the authorizer %s is not defined", r.string(chosen))
		}
	}
	r.throttle(defaults, &rt.throttle)
	t.routes = append(t.routes, rt)
}

// throttle reads route settings into to.
func (r *reader) throttle(node *yaml.Node, to *throttle) {
	r.only(node, "ThrottlingRateLimit", "ThrottlingBurstLimit", "DetailedMetricsEnabled")
	field := r.fields(node)
	if n := field["ThrottlingRateLimit"]; n != nil {
		perSecond, err := strconv.ParseFloat(r.string(n), 64)
		if err != nil || !(perSecond >= 0) {
			r.refuse(n, "ThrottlingRateLimit %q is no rate", r.string(n))
		}
		to.rate = &perSecond
	}
	if n := field["ThrottlingBurstLimit"]; n != nil {
		to.burst = new(r.int(n, 0, 1<<30))
	}
}

var rateExpression = regexp.MustCompile(`^rate\((\d+) (minute|hour|day)(s?)\)$`)

// schedule reads a schedule of f.
func (r *reader) schedule(t *template, f *function, name string, v2 bool, properties *yaml.Node) {
	field := r.fields(properties)
	if v := field["Enabled"]; v != nil && !r.bool(v) {
		return
	}
	if v := field["State"]; v != nil && r.string(v) == "DISABLED" {
		return
	}
	key := "Schedule"
	if v2 {
		key = "ScheduleExpression"
	}
	expression := r.string(r.need(properties, key))
	m := rateExpression.FindStringSubmatch(expression)
	if m == nil || (m[1] == "1") != (m[3] == "") {
		r.refuse(field[key], "schedule %q: only rate(...) is served here, such as rate(5 minutes)", expression)
	}
	s := schedule{name: f.id + name, function: f, count: r.int(text(field[key], m[1]), 1, 1<<20), v2: v2}
	s.unit = map[string]time.Duration{"minute": time.Minute, "hour": time.Hour, "day": 24 * time.Hour}[m[2]]
	if field["Input"] != nil {
		s.input = r.string(field["Input"])
	}
	t.schedules = append(t.schedules, s)
}
