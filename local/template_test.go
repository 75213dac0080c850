package main_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io/fs"
	"maps"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"orgservice/local/gateway"
	"orgservice/shared/api"
	"orgservice/shared/auth"
	"orgservice/shared/config"
	"orgservice/shared/mail"
	"orgservice/shared/org"
	"orgservice/shared/wire"
)

// samTemplate is the part of template.yaml that these tests read.
type samTemplate struct {
	Globals struct {
		Function struct {
			Environment samEnvironment `yaml:"Environment"`
		} `yaml:"Function"`
	} `yaml:"Globals"`
	Resources map[string]struct {
		Type       string `yaml:"Type"`
		Properties struct {
			CodeURI     string         `yaml:"CodeUri"`
			Environment samEnvironment `yaml:"Environment"`
			Events      map[string]struct {
				Type       string `yaml:"Type"`
				Properties struct {
					Method string `yaml:"Method"`
					Path   string `yaml:"Path"`
					Auth   struct {
						Authorizer string `yaml:"Authorizer"`
					} `yaml:"Auth"`
				} `yaml:"Properties"`
			} `yaml:"Events"`
		} `yaml:"Properties"`
	} `yaml:"Resources"`
}

type samEnvironment struct {
	Variables map[string]yaml.Node `yaml:"Variables"`
}

// functionOf is a function of the template.
type functionOf struct {
	name      string            // of its folder in functions
	variables []string          // of its environment; those of all functions only if it has the database
	routes    map[string]string // the authorizer of each; empty: the default
}

func readFunctions(t *testing.T) map[string]functionOf {
	t.Helper()
	var template samTemplate
	if err := yaml.Unmarshal(readFile(t, "template.yaml"), &template); err != nil {
		t.Fatal(err)
	}
	functions := map[string]functionOf{}
	for _, resource := range template.Resources {
		if resource.Type != "AWS::Serverless::Function" {
			continue
		}
		f := functionOf{
			name:      filepath.Base(resource.Properties.CodeURI),
			variables: slices.Sorted(maps.Keys(resource.Properties.Environment.Variables)),
			routes:    map[string]string{},
		}
		if slices.Contains(f.variables, "MONGO_URL") {
			f.variables = slices.AppendSeq(f.variables, maps.Keys(template.Globals.Function.Environment.Variables))
			slices.Sort(f.variables)
		}
		for _, event := range resource.Properties.Events {
			if event.Type == "HttpApi" {
				f.routes[event.Properties.Method+" "+event.Properties.Path] = event.Properties.Auth.Authorizer
			}
		}
		functions[f.name] = f
	}
	return functions
}

func readFile(t *testing.T, path ...string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(append([]string{".."}, path...)...))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// readEvent reads a sample event. The event may have no field that T has not.
func readEvent[T any](t *testing.T, name string) T {
	t.Helper()
	var event T
	decoder := json.NewDecoder(bytes.NewReader(readFile(t, "events", name+".json")))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&event); err != nil {
		t.Fatalf("%s.json: %v", name, err)
	}
	return event
}

// TestFolders checks that every function is in the template and has a sample
// event.
func TestFolders(t *testing.T) {
	names := func(pattern, suffix string) []string {
		paths, err := filepath.Glob(filepath.Join("..", pattern))
		if err != nil {
			t.Fatal(err)
		}
		for i, path := range paths {
			paths[i] = strings.TrimSuffix(filepath.Base(path), suffix)
		}
		return paths
	}
	deployed := slices.Sorted(maps.Keys(readFunctions(t)))
	if diff := cmp.Diff(names("functions/*", ""), deployed); diff != "" {
		t.Errorf("functions in the template (-folders +template):\n%s", diff)
	}
	if diff := cmp.Diff(deployed, names("events/*.json", ".json")); diff != "" {
		t.Errorf("sample events (-functions +events):\n%s", diff)
	}
}

// TestRoutes checks that the template has the routes of package api, each with its
// function and authorizer.
func TestRoutes(t *testing.T) {
	type row struct {
		Function, Authorizer string
	}
	want, deployed := map[string]row{}, map[string]row{}
	for _, r := range api.Routes() {
		authorizer := "NONE"
		if r.Admin {
			authorizer = "" // the default
		} else if r.Operator {
			authorizer = "AWS_IAM"
		}
		want[r.Method+" "+r.Path] = row{r.Function, authorizer}
	}
	for name, f := range readFunctions(t) {
		for route, authorizer := range f.routes {
			deployed[route] = row{name, authorizer}
		}
	}
	if diff := cmp.Diff(want, deployed); diff != "" {
		t.Errorf("routes (-api +template):\n%s", diff)
	}
}

// TestReadmeRoutes checks that the README has the routes of package api, each with
// the names of its parameters and of the fields of its bodies.
func TestReadmeRoutes(t *testing.T) {
	type row struct {
		Auth                     string
		Query, Request, Response []string
		Status                   string
	}
	want, written := map[string]row{}, map[string]row{}
	for _, r := range api.Routes() {
		auth := ""
		switch {
		case r.Admin:
			auth = "Bearer"
		case r.Service:
			auth = "a secret"
		case r.Operator:
			auth = "operator"
		}
		w := row{auth, nil, fieldsOf(r.Request), fieldsOf(r.Response), strconv.Itoa(r.Status)}
		for _, p := range r.Parameters {
			if !p.InPath && !p.InHeader {
				w.Query = append(w.Query, p.Name)
			}
		}
		want[r.Method+" "+r.Path] = w
	}
	cell := regexp.MustCompile(`(?m)^\| ` + "`([A-Z]+ /\\S*)`" + ` \|(.*)\|(.*)\|(.*)\|$`)
	parameter, field, as := regexp.MustCompile("`\\?([a-z_]+)=`"), regexp.MustCompile("`([a-z_]+)`"), regexp.MustCompile("^ `\\d+` as ([a-z]+) $")
	responses := map[string][]string{} // by the end of the path
	for _, m := range cell.FindAllStringSubmatch(string(readFile(t, "README.md")), -1) {
		response := submatches(field, m[4])
		if same := as.FindStringSubmatch(m[4]); same != nil {
			response = responses[same[1]]
		}
		responses[m[1][strings.LastIndex(m[1], "/")+1:]] = response
		written[m[1]] = row{
			strings.TrimSpace(m[2]), submatches(parameter, m[3]), submatches(field, m[3]), response,
			regexp.MustCompile(`\d{3}`).FindString(m[4]),
		}
	}
	if diff := cmp.Diff(want, written); diff != "" {
		t.Errorf("routes (-api +README):\n%s", diff)
	}
}

// TestHTTPFile checks that api.http has the routes of package api, but for pages,
// and in each request a token if it needs one, and no parameter or field that is not
// known.
func TestHTTPFile(t *testing.T) {
	routes := map[string]api.Route{}
	for _, r := range api.Routes() {
		if !r.Page {
			routes[r.Method+" "+r.Path] = r
		}
	}
	written := map[string]bool{}
	line := regexp.MustCompile(`(?m)^([A-Z]+) \{\{url\}\}([^?\s]+)\??(.*)$`)
	field, token := regexp.MustCompile(`"([a-z_]+)": "`), "\nAuthorization: Bearer {{token}}\n"
	operatorToken := "\nAuthorization: Bearer {{operator_token}}\n"
	formField := regexp.MustCompile(`(?m)^([a-z_]+)=`)
	requests := strings.Split(string(readFile(t, "api.http")), "\n###")
	for _, request := range requests[1:] { // the variables are before the first
		m := line.FindStringSubmatch(request)
		if m == nil {
			t.Errorf("no request in %q", request)
			continue
		}
		r := routes[m[1]+" "+m[2]]
		written[m[1]+" "+m[2]] = true
		if got := strings.Contains(request, token); got != r.Admin {
			t.Errorf("%s has a token: %v", m[0], got)
		}
		if got := strings.Contains(request, operatorToken); got != r.Operator {
			t.Errorf("%s has an operator's token: %v", m[0], got)
		}
		query, err := url.ParseQuery(m[3])
		if err != nil {
			t.Errorf("%s: %v", m[0], err)
		}
		for name := range query {
			if !slices.ContainsFunc(r.Parameters, func(p api.Parameter) bool { return p.Name == name }) {
				t.Errorf("%s has the parameter %s", m[0], name)
			}
		}
		fields := submatches(field, request)
		if r.Form {
			fields = submatches(formField, request)
		}
		for _, name := range fields {
			if !slices.Contains(fieldsOf(r.Request), name) {
				t.Errorf("%s has the field %s", m[0], name)
			}
		}
		if (r.Request != nil) != (len(fields) > 0) {
			t.Errorf("%s has the fields %q", m[0], fields)
		}
	}
	if diff := cmp.Diff(slices.Sorted(maps.Keys(routes)), slices.Sorted(maps.Keys(written))); diff != "" {
		t.Errorf("routes (-api +api.http):\n%s", diff)
	}
}

// fieldsOf returns the names of the fields in JSON, sorted.
func fieldsOf(t reflect.Type) (names []string) {
	if t == nil {
		return nil
	}
	for i := range t.NumField() {
		if name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ","); name != "-" && t.Field(i).IsExported() {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// submatches returns the texts that the pattern's group matches, once each, sorted.
func submatches(pattern *regexp.Regexp, s string) (found []string) {
	for _, m := range pattern.FindAllStringSubmatch(s, -1) {
		found = append(found, m[1])
	}
	slices.Sort(found)
	return slices.Compact(found)
}

// readers are what a function calls, or hands to package wire, to read
// variables.
var readers = map[string]func(context.Context, config.Env) error{
	"wire.Handler":   readDatabase,
	"wire.Open":      readDatabase,
	"wire.Reopened":  readNothing,
	"wire.Close":     readNothing,
	"wire.Passwords": readNeed(wire.Passwords),
	"wire.Tokens":    readNeed(wire.Tokens),
	"wire.SignUps":   readNeed(wire.SignUps),

	"wire.DeleteGrace":   readNeed(wire.DeleteGrace),
	"wire.Idle":          readNeed(wire.Idle),
	"wire.PasswordRules": readNeed(wire.PasswordRules),
	"wire.Mails":         readNeed(wire.Mails),
	"mail.Need":          readNeed(mail.Need),
	"env.Verifier": func(ctx context.Context, env config.Env) error {
		_, err := env.Verifier(ctx, true)
		return err
	},
	"env.IntrospectionSecrets": func(ctx context.Context, env config.Env) error {
		_, err := env.IntrospectionSecrets(ctx)
		return err
	},
	"env.KeySet": func(ctx context.Context, env config.Env) error {
		_, err := env.KeySet(ctx)
		return err
	},
}

func readNothing(context.Context, config.Env) error { return nil }

func readDatabase(ctx context.Context, env config.Env) error {
	_, err1 := env.Database(ctx)
	_, err2 := env.EmailVerification()
	return errors.Join(err1, err2)
}

func readNeed(need wire.Need) func(context.Context, config.Env) error {
	return func(ctx context.Context, env config.Env) error { return need(ctx, env, &org.Service{}) }
}

// TestVariables checks that the template gives a function the variables that it
// reads and no others, all of them metricsVariable, which package metrics reads,
// edgeVariable, which package api reads, and certificatesVariable, which Go reads. SAM CLI passes on a variable of env.json only if the
// template has it.
func TestVariables(t *testing.T) {
	reader := regexp.MustCompile(`\b(wire|env|mail)\.\w+`)
	env := readEnvJSON(t)
	const edgeVariable, metricsVariable = "EDGE_SECRET_SHA256", "METRICS_NAMESPACE"
	given := map[string]bool{edgeVariable: true}
	for name, f := range readFunctions(t) {
		variables := map[string]bool{}
		if slices.Contains(f.variables, "MONGO_URL") {
			variables[edgeVariable], variables[metricsVariable], variables[certificatesVariable] = true, true, true
		}
		for _, used := range reader.FindAllString(string(readFile(t, "functions", name, "main.go")), -1) {
			read := readers[used]
			if read == nil {
				t.Errorf("function %s uses %s, of which this test knows nothing", name, used)
				continue
			}
			err := read(t.Context(), func(variable string) string {
				variables[variable] = true
				return env[variable]
			})
			if err != nil {
				t.Errorf("%s of function %s: %v", used, name, err)
			}
		}
		if diff := cmp.Diff(slices.Sorted(maps.Keys(variables)), f.variables); diff != "" {
			t.Errorf("variables of %s (-read +given):\n%s", name, diff)
		}
		for _, v := range f.variables {
			given[v] = true
		}
	}
	delete(given, certificatesVariable) // it is the same everywhere
	if diff := cmp.Diff(slices.Sorted(maps.Keys(given)), slices.Sorted(maps.Keys(env))); diff != "" {
		t.Errorf("variables in env.json (-given +env.json):\n%s", diff)
	}
	if s := env["JWT_SECRET"]; len(s) < auth.MinSecretBytes || !strings.Contains(s, "development only") {
		t.Errorf("JWT_SECRET in env.json is %q", s)
	}
}

const certificatesVariable = "SSL_CERT_DIR"

// TestCertificates checks that, with the variable of the template, Go finds the certificates
// of the system in their file, and reads no folder.
func TestCertificates(t *testing.T) {
	var template samTemplate
	if err := yaml.Unmarshal(readFile(t, "template.yaml"), &template); err != nil {
		t.Fatal(err)
	}
	folder := template.Globals.Function.Environment.Variables[certificatesVariable].Value
	if folder == "" {
		t.Fatalf("the template has no %s", certificatesVariable)
	}
	if os.Getenv(certificatesVariable) != folder { // Go reads it once in a process
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestCertificates$", "-test.count=1")
		cmd.Env = append(os.Environ(), certificatesVariable+"="+folder)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	if _, err := os.Stat(folder); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s may exist: %v", folder, err)
	}
	if roots, err := x509.SystemCertPool(); err != nil || roots.Equal(x509.NewCertPool()) {
		t.Errorf("no certificates of the system: %v", err)
	}
}

func readEnvJSON(t *testing.T) map[string]string {
	t.Helper()
	var env struct{ Parameters map[string]string }
	if err := json.Unmarshal(readFile(t, "local", "env.json"), &env); err != nil {
		t.Fatal(err)
	}
	return env.Parameters
}

func TestEvents(t *testing.T) {
	for name, f := range readFunctions(t) {
		if len(f.routes) == 0 {
			continue
		}
		t.Run(name, func(t *testing.T) {
			event := readEvent[events.APIGatewayV2HTTPRequest](t, name)
			checkRequest(t, event)
			needed, known := f.routes[event.RouteKey]
			path := event.RouteKey
			for name, value := range event.PathParameters {
				path = strings.ReplaceAll(path, "{"+name+"}", value)
			}
			if !known || event.RequestContext.HTTP.Method+" "+event.RawPath != path {
				t.Errorf("the event is that of %s and %s %s; the function has %v",
					event.RouteKey, event.RequestContext.HTTP.Method, event.RawPath, f.routes)
			}
			authorizer := event.RequestContext.Authorizer
			if needed == "AWS_IAM" {
				if authorizer == nil || authorizer.IAM == nil || authorizer.IAM.UserARN == "" || !strings.HasPrefix(event.Headers["authorization"], "AWS4-HMAC-SHA256 ") {
					t.Errorf("the operator is %+v, of %q", authorizer, event.Headers["authorization"])
				}
				return
			}
			if needed == "NONE" {
				own := slices.ContainsFunc(api.Routes(), func(r api.Route) bool { return r.Function == name && r.Service })
				if authorizer != nil || (event.Headers["authorization"] != "") != own {
					t.Error("an open route has no caller")
				}
				return
			}
			if authorizer == nil {
				t.Fatal("there is no caller")
			}
			caller, ok := auth.CallerFromContext(authorizer.Lambda)
			if !ok || !caller.ExpiresAt.After(time.Now().AddDate(10, 0, 0)) {
				t.Errorf("the caller is %+v", caller)
			}
			if diff := cmp.Diff(caller.Context(), authorizer.Lambda); diff != "" {
				t.Errorf("context (-written +event):\n%s", diff)
			}
		})
	}
}

// checkRequest checks that what an event says in two places is the same.
func checkRequest(t *testing.T, e events.APIGatewayV2HTTPRequest) {
	t.Helper()
	c := e.RequestContext
	if e.Version != "2.0" || c.Stage != "$default" || c.RouteKey != e.RouteKey || c.HTTP.Path != e.RawPath {
		t.Errorf("version %s, stage %s, route %s and %s, path %s and %s", e.Version, c.Stage, e.RouteKey, c.RouteKey, e.RawPath, c.HTTP.Path)
	}
	at, err := time.Parse("02/Jan/2006:15:04:05 -0700", c.Time)
	if err != nil || time.UnixMilli(c.TimeEpoch).Truncate(time.Second).Compare(at) != 0 {
		t.Errorf("time %s and %d: %v", c.Time, c.TimeEpoch, err)
	}
	body, form := []byte(e.Body), e.Headers["content-type"] == "application/x-www-form-urlencoded"
	if form { // the gateway encodes what is neither text nor JSON
		body, err = base64.StdEncoding.DecodeString(e.Body)
	}
	if err != nil || e.IsBase64Encoded != form || e.Headers["content-length"] != strconv.Itoa(len(body)) || len(body) > 0 && json.Valid(body) == form {
		t.Errorf("the body %q of %s bytes, in base64: %v, %v", e.Body, e.Headers["content-length"], e.IsBase64Encoded, err)
	}
	if e.Headers["host"] != c.DomainName || !strings.HasPrefix(c.DomainName, c.DomainPrefix+".") || c.DomainPrefix != c.APIID ||
		e.Headers["user-agent"] != c.HTTP.UserAgent || e.Headers["x-forwarded-for"] != c.HTTP.SourceIP {
		t.Errorf("headers %v of %+v", e.Headers, c)
	}
	for name := range e.Headers {
		if name != strings.ToLower(name) || name == "cookie" {
			t.Errorf("header %s", name)
		}
	}
	if (e.RawQueryString == "") != (len(e.QueryStringParameters) == 0) || len(e.Cookies) == 0 {
		t.Errorf("query %q and %v, cookies %v", e.RawQueryString, e.QueryStringParameters, e.Cookies)
	}
}

// TestAuthorizerEvent checks that the token in the events is signed with the
// secret of env.json and names the caller of the other events.
func TestAuthorizerEvent(t *testing.T) {
	event := readEvent[events.APIGatewayV2CustomAuthorizerV2Request](t, "authorizer")
	update := readEvent[events.APIGatewayV2HTTPRequest](t, "update")
	call := update.RequestContext
	call.Authorizer = nil
	want := events.APIGatewayV2CustomAuthorizerV2Request{
		Version:        "2.0",
		Type:           "REQUEST",
		RouteArn:       "arn:aws:execute-api:us-east-1:" + call.AccountID + ":" + call.APIID + "/$default/PUT/org/update",
		IdentitySource: []string{update.Headers["authorization"]},
		RouteKey:       update.RouteKey,
		RawPath:        update.RawPath,
		Cookies:        update.Cookies,
		Headers:        update.Headers,
		RequestContext: call,
	}
	if diff := cmp.Diff(want, event); diff != "" {
		t.Errorf("event (-of update.json +authorizer.json):\n%s", diff)
	}
	verifier, err := auth.NewVerifier([]byte(readEnvJSON(t)["JWT_SECRET"]))
	if err != nil {
		t.Fatal(err)
	}
	headers := map[string]string{"authorizer": event.Headers["authorization"]}
	for name, f := range readFunctions(t) {
		if slices.Contains(slices.Collect(maps.Values(f.routes)), "") {
			headers[name] = readEvent[events.APIGatewayV2HTTPRequest](t, name).Headers["authorization"]
		}
	}
	for name, header := range headers {
		caller, err := verifier.Verify(strings.TrimPrefix(header, "Bearer "))
		if err != nil {
			t.Errorf("%s.json: %v", name, err)
		} else if diff := cmp.Diff(caller.Context(), update.RequestContext.Authorizer.Lambda); diff != "" {
			t.Errorf("%s.json: caller (-token +context):\n%s", name, diff)
		}
	}
}

func TestScheduledEvent(t *testing.T) {
	event := readEvent[events.EventBridgeEvent](t, "reconcile")
	if event.Source != "aws.events" || event.DetailType != "Scheduled Event" || string(event.Detail) != "{}" || len(event.Resources) != 1 {
		t.Errorf("event %+v", event)
	}
}

// TestBuildFlags checks that the deployment and SAM CLI build the functions with
// the flags of the gateway.
func TestBuildFlags(t *testing.T) {
	flags := "CGO_ENABLED=0 GOFLAGS='-tags=" + gateway.BuildTags + " -ldflags=" + gateway.LDFlags + " -buildvcs=false'"
	for _, path := range [][]string{{"Makefile"}, {"local", "sam", "lib.sh"}} {
		if !bytes.Contains(readFile(t, path...), []byte(flags)) {
			t.Errorf("%s does not have %s", filepath.Join(path...), flags)
		}
	}
}
