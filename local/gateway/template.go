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

// What CloudFormation's pseudo parameters stand for on this machine.
const (
	account   = "123456789012"
	partition = "aws"
	urlSuffix = "amazonaws.com"
	stackName = "local"
)

// template is what the gateway reads of a SAM template.
type template struct {
	api         string // logical id of the HTTP API; "" if the template has none
	functions   []*function
	routes      []*route
	authorizers map[string]*authorizer
	cors        *cors
	schedules   []schedule
}

type function struct {
	id      string // logical id
	dir     string // absolute path of its main package
	handler string
	timeout time.Duration
	memory  int // MB
	env     map[string]string
}

func (f *function) binary() string { return filepath.Base(f.dir) }

type route struct {
	key        string // "POST /org/create"
	method     string // or ANY
	segments   []string
	function   *function
	authorizer *authorizer // nil on an open route
	throttle   throttle
}

// throttle is a token bucket; nil numbers are no limit.
type throttle struct {
	rate  *float64
	burst *int
}

type authorizer struct {
	function *function
	headers  []string // that identify the caller, in lower case
	ttl      time.Duration
}

type cors struct {
	origins, methods, headers, expose []string
	maxAge                            int
	credentials                       bool
}

type schedule struct {
	name     string
	function *function
	count    int           // rate(count unit)
	unit     time.Duration // a minute or a multiple
	input    string        // replaces the event if not empty
	v2       bool          // of EventBridge Scheduler, not of an EventBridge rule
}

// lookup finds a function by its logical id (CreateFunction), that without
// "Function" (Create), or the name of its folder (create).
func (t *template) lookup(name string) (*function, error) {
	var ids []string
	for _, f := range t.functions {
		if name == f.id || name+"Function" == f.id || name == f.binary() {
			return f, nil
		}
		ids = append(ids, f.id)
	}
	return nil, fmt.Errorf("no function %q in the template; it has %s", name, strings.Join(ids, ", "))
}

// readTemplate reads the template at path. Parameters win over the defaults of
// the template's parameters, env over the values of variables that functions
// declare. What is not understood in a place that matters here is an error,
// since guessing would make the gateway differ from what is deployed.
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
			refusal, ok := e.(refusal)
			if !ok {
				panic(e)
			}
			t, err = nil, refusal
		}
	}()
	if len(doc.Content) == 0 {
		return nil, fmt.Errorf("%s: empty template", r.file())
	}
	return r.template(doc.Content[0], parameters), nil
}

var yamlError = regexp.MustCompile(`(?s)^yaml: line (\d+): (.*)$`)

// reader reads one template. Its methods panic with a refusal, which
// readTemplate turns into an error, at the first thing they don't understand.
type reader struct {
	path, region string
	env          map[string]string
	parameters   map[string]*yaml.Node // values; nil without one
	conditions   map[string]*yaml.Node
	resources    map[string]*yaml.Node
}

type refusal struct{ error }

func (r *reader) file() string { return filepath.Base(r.path) }

func (r *reader) refuse(at *yaml.Node, format string, args ...any) {
	panic(refusal{fmt.Errorf("%s:%d: %s", r.file(), at.Line, fmt.Sprintf(format, args...))})
}

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
	if runtime := get("Runtime", ""); !strings.HasPrefix(r.string(runtime), "provided") {
		r.refuse(runtime, "%s has the runtime %q: only provided.al2023 is served here", id, r.string(runtime))
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

func (r *reader) api(t *template, resource *yaml.Node) (settings map[string]*yaml.Node, auth *yaml.Node) {
	r.only(resource, "Type", "Properties", "Metadata", "DependsOn", "Connectors", "DeletionPolicy", "UpdateReplacePolicy")
	properties := r.fields(resource)["Properties"]
	r.only(properties, "Auth", "CorsConfiguration", "DefaultRouteSettings", "RouteSettings",
		"Name", "Description", "FailOnWarnings", "AccessLogSettings", "Tags", "PropagateTags", "Domain", "DisableExecuteApiEndpoint")
	settings = r.fields(properties)

	auth = settings["Auth"]
	r.only(auth, "DefaultAuthorizer", "Authorizers")
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
	// Unquoted, YAML makes it the number 2.
	if v := field["AuthorizerPayloadFormatVersion"]; v == nil || v.Tag != "!!str" || r.string(v) != "2.0" {
		r.refuse(first(v, node), `authorizer %s needs AuthorizerPayloadFormatVersion: "2.0"`, name)
	}
	for _, must := range []string{"EnableSimpleResponses", "EnableFunctionDefaultPermissions"} {
		if !r.bool(field[must]) {
			r.refuse(first(field[must], node), "authorizer %s needs %s: true", name, must)
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
	if chosen != nil && r.string(chosen) != "NONE" {
		if rt.authorizer = t.authorizers[r.string(chosen)]; rt.authorizer == nil {
			r.refuse(chosen, "the authorizer %s is not defined", r.string(chosen))
		}
	}
	r.throttle(defaults, &rt.throttle)
	t.routes = append(t.routes, rt)
}

func (r *reader) throttle(node *yaml.Node, to *throttle) {
	r.only(node, "ThrottlingRateLimit", "ThrottlingBurstLimit", "DetailedMetricsEnabled")
	field := r.fields(node)
	if n := field["ThrottlingRateLimit"]; n != nil {
		rate, err := strconv.ParseFloat(r.string(n), 64)
		if err != nil || !(rate >= 0) {
			r.refuse(n, "ThrottlingRateLimit %q is no rate", r.string(n))
		}
		to.rate = &rate
	}
	if n := field["ThrottlingBurstLimit"]; n != nil {
		to.burst = new(r.int(n, 0, 1<<30))
	}
}

var rateExpression = regexp.MustCompile(`^rate\((\d+) (minute|hour|day)(s?)\)$`)

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

// keys returns the keys of a mapping in their order; none of a nil node.
func (r *reader) keys(node *yaml.Node) []string {
	node = r.resolve(node)
	if node == nil {
		return nil
	}
	if node.Kind != yaml.MappingNode {
		r.refuse(node, "expected a mapping")
	}
	var keys []string
	for i := 0; i < len(node.Content); i += 2 {
		if slices.Contains(keys, node.Content[i].Value) {
			r.refuse(node.Content[i], "%s stands here twice", node.Content[i].Value)
		}
		keys = append(keys, node.Content[i].Value)
	}
	return keys
}

// fields returns the values of a mapping; none of a nil node.
func (r *reader) fields(node *yaml.Node) map[string]*yaml.Node {
	fields := map[string]*yaml.Node{}
	for i, key := range r.keys(node) {
		value := r.resolve(node).Content[2*i+1]
		if ref, _ := intrinsic(value); ref == "Ref" && reference(value).Value == "AWS::NoValue" {
			continue
		}
		fields[key] = value
	}
	return fields
}

func (r *reader) need(node *yaml.Node, key string) *yaml.Node {
	value := r.fields(node)[key]
	if value == nil {
		r.refuse(node, "%s is missing", key)
	}
	return value
}

func (r *reader) only(node *yaml.Node, keys ...string) {
	for i, key := range r.keys(node) {
		if !slices.Contains(keys, key) {
			r.refuse(r.resolve(node).Content[2*i], "%s is not understood here", key)
		}
	}
}

func (r *reader) string(node *yaml.Node) string {
	v := r.resolve(node)
	if v.Kind != yaml.ScalarNode {
		r.refuse(node, "expected a single value")
	}
	return v.Value
}

func (r *reader) strings(node *yaml.Node) []string {
	v := r.resolve(node)
	if v == nil {
		return nil
	}
	if v.Kind != yaml.SequenceNode {
		r.refuse(node, "expected a list")
	}
	var list []string
	for _, item := range v.Content {
		list = append(list, r.string(item))
	}
	return list
}

func (r *reader) int(node *yaml.Node, low, high int) int {
	n, err := strconv.Atoi(r.string(node))
	if err != nil || n < low || n > high {
		r.refuse(node, "expected a whole number from %d to %d, not %q", low, high, r.string(node))
	}
	return n
}

func (r *reader) bool(node *yaml.Node) bool {
	if node == nil {
		return false
	}
	b, err := strconv.ParseBool(r.string(node))
	if err != nil {
		r.refuse(node, "expected true or false, not %q", r.string(node))
	}
	return b
}

// resolve returns the node that an intrinsic function stands for, other nodes
// as they are.
func (r *reader) resolve(node *yaml.Node) *yaml.Node {
	if node == nil {
		return nil
	}
	if node.Kind == yaml.AliasNode {
		return r.resolve(node.Alias)
	}
	name, known := intrinsic(node)
	if name == "" {
		return node
	}
	argument := reference(node)
	switch {
	case !known:
		r.refuse(node, "%s is not understood here", name)
	case name == "Ref" && argument.Kind == yaml.ScalarNode:
		return r.ref(node, argument.Value)
	case name == "GetAtt" && argument.Kind == yaml.ScalarNode:
		id, attribute, _ := strings.Cut(argument.Value, ".")
		return r.attribute(node, id, attribute)
	case name == "GetAtt" && argument.Kind == yaml.SequenceNode && len(argument.Content) == 2:
		return r.attribute(node, r.string(argument.Content[0]), r.string(argument.Content[1]))
	case name == "Sub" && argument.Kind == yaml.ScalarNode:
		return r.substitute(node, argument.Value, nil)
	case name == "Sub" && argument.Kind == yaml.SequenceNode && len(argument.Content) == 2:
		return r.substitute(node, r.string(argument.Content[0]), r.fields(argument.Content[1]))
	case name == "If" && argument.Kind == yaml.SequenceNode && len(argument.Content) == 3:
		if r.condition(argument.Content[0], argument.Content[0].Value) {
			return r.resolve(argument.Content[1])
		}
		return r.resolve(argument.Content[2])
	}
	r.refuse(node, "%s has no argument of a kind it takes", name)
	return nil
}

// intrinsic returns the name of the intrinsic function that a node calls, in
// its short or its long form, and whether it is one of those known here.
func intrinsic(node *yaml.Node) (name string, known bool) {
	switch {
	case strings.HasPrefix(node.Tag, "!") && !strings.HasPrefix(node.Tag, "!!"):
		name = node.Tag[1:]
	case node.Kind == yaml.MappingNode && len(node.Content) == 2 &&
		(node.Content[0].Value == "Ref" || strings.HasPrefix(node.Content[0].Value, "Fn::")):
		name = strings.TrimPrefix(node.Content[0].Value, "Fn::")
	}
	return name, name == "Ref" || name == "Sub" || name == "GetAtt" || name == "If"
}

// condition evaluates a condition of the template, which is whether two values
// are equal, or are not.
func (r *reader) condition(at *yaml.Node, name string) bool {
	node := r.conditions[name]
	if node == nil {
		r.refuse(at, "there is no condition %s", name)
	}
	return r.holds(node)
}

func (r *reader) holds(node *yaml.Node) bool {
	function, _ := intrinsic(node)
	arguments := reference(node).Content
	switch {
	case function == "Equals" && len(arguments) == 2:
		return r.string(arguments[0]) == r.string(arguments[1])
	case function == "Not" && len(arguments) == 1:
		return !r.holds(arguments[0])
	}
	r.refuse(node, "%s is not understood in a condition here", function)
	return false
}

// reference returns the argument of the intrinsic function that node calls.
func reference(node *yaml.Node) *yaml.Node {
	if strings.HasPrefix(node.Tag, "!") && !strings.HasPrefix(node.Tag, "!!") {
		return node
	}
	return node.Content[1]
}

func (r *reader) ref(at *yaml.Node, name string) *yaml.Node {
	pseudo := map[string]string{
		"AWS::AccountId": account,
		"AWS::Partition": partition,
		"AWS::Region":    r.region,
		"AWS::StackId":   "arn:" + partition + ":cloudformation:" + r.region + ":" + account + ":stack/" + stackName + "/local",
		"AWS::StackName": stackName,
		"AWS::URLSuffix": urlSuffix,
	}
	if v, ok := pseudo[name]; ok {
		return text(at, v)
	}
	if v, ok := r.parameters[name]; ok {
		if v == nil {
			r.refuse(at, "the parameter %s has no default and was given no value", name)
		}
		return v
	}
	if r.resources[name] == nil {
		r.refuse(at, "%s is neither a parameter nor a resource", name)
	}
	return text(at, name)
}

func (r *reader) attribute(at *yaml.Node, id, attribute string) *yaml.Node {
	if r.resources[id] == nil {
		r.refuse(at, "there is no resource %s", id)
	}
	if attribute == "Arn" && r.string(r.need(r.resources[id], "Type")) == "AWS::Serverless::Function" {
		return text(at, functionARN(r.region, id))
	}
	return text(at, id+"."+attribute)
}

var subVariable = regexp.MustCompile(`\$\{(!?)([^}]+)\}`)

func (r *reader) substitute(at *yaml.Node, s string, own map[string]*yaml.Node) *yaml.Node {
	return text(at, subVariable.ReplaceAllStringFunc(s, func(match string) string {
		m := subVariable.FindStringSubmatch(match)
		if m[1] == "!" { // ${!Literal}
			return "${" + m[2] + "}"
		}
		if v := own[m[2]]; v != nil {
			return r.string(v)
		}
		if id, attribute, ok := strings.Cut(m[2], "."); ok {
			return r.attribute(at, id, attribute).Value
		}
		return r.string(r.ref(at, m[2]))
	}))
}

func functionARN(region, id string) string {
	return "arn:" + partition + ":lambda:" + region + ":" + account + ":function:" + id
}

// text returns a string node that is reported as standing where at does.
func text(at *yaml.Node, value string) *yaml.Node {
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: value, Line: at.Line}
}

func commaList(value *yaml.Node) *yaml.Node {
	list := &yaml.Node{Kind: yaml.SequenceNode, Tag: "!!seq", Line: value.Line}
	for item := range strings.SplitSeq(value.Value, ",") {
		list.Content = append(list.Content, text(value, strings.TrimSpace(item)))
	}
	return list
}

// first returns the first node that is there.
func first(nodes ...*yaml.Node) *yaml.Node {
	for _, n := range nodes {
		if n != nil {
			return n
		}
	}
	return nil
}
