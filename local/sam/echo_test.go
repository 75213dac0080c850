//go:build sam

// Package sam compares AWS SAM CLI with the local gateway, and runs the functions
// with SAM CLI. The script test.sh starts what the tests need and runs them.
package sam

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"orgservice/local/gateway"
)

// TestEcho sends the same requests to the local gateway and to SAM CLI, with the
// same functions. It compares the events that the functions get, and the answers.
// The known differences are in differences; in each, the local gateway does what
// the documentation of API Gateway says. The test needs ORGSERVICE_ECHO_URL, the
// URL of "sam local start-api" with testdata/echo.
func TestEcho(t *testing.T) {
	samURL := strings.TrimSuffix(need(t, "ORGSERVICE_ECHO_URL"), "/")
	g, err := gateway.New(t.Context(), gateway.Config{
		Root:     filepath.Join("..", ".."),
		Template: filepath.Join("testdata", "echo", "template.yaml"),
	})
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- g.Serve() }()
	t.Cleanup(func() {
		g.Close()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})

	seen := map[*difference]bool{}
	for _, test := range requests {
		t.Run(test.name, func(t *testing.T) {
			local, sam := test.send(t, g.URL()), test.send(t, samURL)
			if test.local != local.String() || test.sam != sam.String() {
				t.Errorf("answered\n%s on the local gateway, want\n%s;\n%s under SAM CLI, want\n%s", local, test.local, sam, test.sam)
			}
			for _, path := range slices.Sorted(maps.Keys(merged(local.parts, sam.parts))) {
				if strings.HasPrefix(path, "event") && (local.parts["event"] == nil || sam.parts["event"] == nil) {
					continue // one of them has refused the request
				}
				known := explain(path, local.parts[path], sam.parts[path])
				if known == nil {
					t.Errorf("%s is %s on the local gateway, %s under SAM CLI", path, show(local.parts[path]), show(sam.parts[path]))
				}
				seen[known] = true
			}
		})
	}
	for i, d := range differences {
		if !seen[&differences[i]] {
			t.Errorf("SAM CLI and the local gateway no longer differ: %s", d.what)
		}
	}
}

// request is a request to both gateways, and the answers that they must give: the
// status and, if the gateway itself answers, the message.
type request struct {
	name       string
	method     string
	path       string
	headers    []string // "Name: value"
	body       string
	local, sam string
}

var requests = []request{
	{"JSON", "POST", "/echo", []string{"Content-Type: application/json"}, `{"name":"Größe \"x\""}`, "200", "200"},
	{"no body", "POST", "/echo", nil, "", "200", "200"},
	{"query", "POST", "/echo?a=1&b=x%20y+z&a=2&c=&d&%C3%A9=%C3%BC", nil, "", "200", "200"},
	{"cookies", "POST", "/echo", []string{"Cookie: x=1; y=2"}, "", "200", "200"},
	{"repeated header", "POST", "/echo", []string{"X-Custom-name: a", "X-Custom-name: b, c"}, "", "200", "200"},
	{"forwarded", "POST", "/echo", []string{"X-Forwarded-For: 192.0.2.1", "X-Forwarded-Proto: https"}, "", "200", "200"},
	{"form", "POST", "/echo", []string{"Content-Type: application/x-www-form-urlencoded"}, "a=1&b=2", "200", "200"},
	{"text", "POST", "/echo", []string{"Content-Type: text/plain; charset=utf-8"}, "text", "200", "200"},
	{"problem", "POST", "/echo", []string{"Content-Type: application/problem+json"}, "{}", "200", "200"},
	{"not UTF-8", "POST", "/echo", []string{"Content-Type: application/json"}, "\"\xff\"", "200", "502 Internal server error"},
	{"path parameter", "GET", "/items/a%20b", nil, "", "200", "200"},
	{"slash in a parameter", "GET", "/items/a%2Fb", nil, "", "404 Not Found", "403 Missing Authentication Token"},
	{"greedy parameter", "DELETE", "/rest/a/b", nil, "", "200", "200"},
	{"authorized", "PUT", "/secret?a=1", []string{"Authorization: allow me", "Content-Type: application/json"}, "{}", "200", "200"},
	{"authorized without body", "PUT", "/secret", []string{"Authorization: allow me", "Cookie: x=1"}, "", "200", "200"},
	{"no identity", "PUT", "/secret", nil, "", "401 Unauthorized", "401 Unauthorized"},
	{"refused", "PUT", "/secret", []string{"Authorization: nobody"}, "", "403 Forbidden", "403 User is not authorized to access this resource"},
	{"authorizer fails", "PUT", "/secret", []string{"Authorization: fail"}, "", "500 Internal Server Error", "502 Internal server error"},
	{"authorizer says junk", "PUT", "/secret", []string{"Authorization: junk"}, "", "500 Internal Server Error", "502 Internal server error"},
	{"no route", "GET", "/none", nil, "", "404 Not Found", "403 Missing Authentication Token"},
	{"no route for the method", "GET", "/echo", nil, "", "404 Not Found", "403 Missing Authentication Token"},
	{"function fails", "GET", "/act?do=error", nil, "", "500 Internal Server Error", "500 Internal server error"},
	{"function panics", "GET", "/act?do=panic", nil, "", "500 Internal Server Error", "500 Internal server error"},
	{"preflight", "OPTIONS", "/echo", []string{"Origin: https://b.example", "Access-Control-Request-Method: POST"}, "", "204", "200"},
	{"preflight of a stranger", "OPTIONS", "/echo", []string{"Origin: https://c.example", "Access-Control-Request-Method: POST"}, "", "204", "200"},
	{"from a page", "POST", "/echo", []string{"Origin: https://a.example"}, "", "200", "200"},
	{"from a stranger's page", "POST", "/echo", []string{"Origin: https://c.example"}, "", "200", "200"},
	{"refused to a page", "PUT", "/secret", []string{"Origin: https://a.example"}, "", "401 Unauthorized", "401 Unauthorized"},
}

// answer is an answer. Its parts are the headers and the fields of the event that
// the function got, by path.
type answer struct {
	status  int
	message string // of the gateway
	parts   map[string]any
}

func (a answer) String() string { return strings.TrimSpace(fmt.Sprintln(a.status, a.message)) }

// send sends the request to a gateway.
func (r request) send(t *testing.T, base string) answer {
	t.Helper()
	q, err := http.NewRequestWithContext(t.Context(), r.method, base+r.path, strings.NewReader(r.body))
	if err != nil {
		t.Fatal(err)
	}
	q.Header.Set("Accept", "*/*")
	q.Header.Set("Accept-Encoding", "identity")
	q.Header.Set("User-Agent", "echo-test")
	for _, h := range r.headers {
		name, value, _ := strings.Cut(h, ": ")
		q.Header.Add(name, value)
	}
	client := http.Client{Timeout: time.Minute, Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Do(q)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	a := answer{status: response.StatusCode, parts: map[string]any{}}
	for name, values := range response.Header {
		switch name {
		case "Date", "Content-Length": // differ in any case
		default:
			a.parts["header "+name] = strings.Join(values, ",")
		}
	}
	switch content := decode(body).(type) {
	case map[string]any:
		if message, ok := content["message"].(string); ok {
			a.message = message
			break
		}
		flatten(a.parts, "event", content)
		for path, value := range a.parts { // the addresses differ in any case
			switch value {
			case q.URL.Host:
				a.parts[path] = "HOST:PORT"
			case q.URL.Port():
				a.parts[path] = "PORT"
			}
		}
	default:
		a.message = string(body)
	}
	return a
}

// decode returns the value of a JSON text, or the text itself if it is not JSON.
func decode(b []byte) any {
	var v any
	decoder := json.NewDecoder(strings.NewReader(string(b)))
	decoder.UseNumber()
	if decoder.Decode(&v) != nil {
		return string(b)
	}
	return v
}

// flatten adds the parts of v to all, under paths that start with path. It also
// adds the parts of an event inside a string.
func flatten(all map[string]any, path string, v any) {
	switch v := v.(type) {
	case map[string]any:
		all[path] = "{}"
		isHeaders := strings.HasSuffix(path, ".headers")
		if isHeaders {
			all[path+" in case"] = spelling(v)
		}
		for key, value := range v {
			if isHeaders {
				key = strings.ToLower(key)
			}
			flatten(all, path+"."+key, value)
		}
	case string:
		if strings.HasSuffix(path, ".lambda.event") {
			flatten(all, path, decode([]byte(v)))
			return
		}
		all[path] = v
	default:
		all[path] = v
	}
}

// spelling returns the case of the names of headers: lower, title or mixed.
func spelling(headers map[string]any) string {
	lower, title := true, true
	for name := range headers {
		lower = lower && name == strings.ToLower(name)
		title = title && name == http.CanonicalHeaderKey(name)
	}
	switch {
	case lower:
		return "lower"
	case title:
		return "title"
	}
	return "mixed"
}

// merged returns the entries of both maps.
func merged(a, b map[string]any) map[string]any {
	all := maps.Clone(a)
	maps.Copy(all, b)
	return all
}

// show returns a value for messages.
func show(v any) string {
	if v == nil {
		return "missing"
	}
	return fmt.Sprintf("%#v", v)
}

// difference is a known difference. The pattern matches the whole path of a part,
// in the event of the function or in that of the authorizer, and check tells
// whether the two values differ as they may.
type difference struct {
	what    string
	pattern string
	check   func(local, sam any) bool
}

func missing(v any) bool { return v == nil }
func isText(v any) bool  { _, ok := v.(string); return ok }
func matches(re string) kind {
	return func(v any) bool { s, ok := v.(string); return ok && regexp.MustCompile("^(?:"+re+")$").MatchString(s) }
}
func number(digits int) kind {
	return func(v any) bool { n, ok := v.(json.Number); return ok && len(n) == digits }
}
func is(want any) kind { return func(v any) bool { return reflect.DeepEqual(v, want) } }
func both(local, sam kind) func(any, any) bool {
	return func(l, s any) bool { return local(l) && sam(s) }
}

// kind tells whether a value is of some kind.
type kind = func(any) bool

var differences = []difference{
	{"names of headers are in Title-Case", `event\.headers in case`, both(is("lower"), is("title"))},
	{"headers of the connection are in the event", `event\.headers\.connection`, both(missing, is("close"))},
	{"cookies are among the headers, too", `event\.headers\.cookie`, both(missing, isText)},
	{"there is no trace id", `event\.headers\.x-amzn-trace-id`, both(matches("Root=1-[0-9a-f]{8}-[0-9a-f]{24}"), missing)},
	{"the client's address is not in x-forwarded-for", `event\.headers\.x-forwarded-for`, func(local, sam any) bool {
		return local == "127.0.0.1" && sam == nil || local == "192.0.2.1, 127.0.0.1" && sam == "192.0.2.1"
	}},
	{"without a body there is no content-length", `event\.headers\.content-length`, both(is("0"), missing)},
	{"without a body there is an empty one", `event\.body`, both(missing, is(""))},
	{"without cookies there is an empty list", `event\.cookies`, both(missing, is([]any{}))},
	{"without path parameters there is an empty object", `event\.pathParameters`, both(missing, is("{}"))},
	{"a body of another type than text is text", `event\.body`, both(is("YT0xJmI9Mg=="), is("a=1&b=2"))},
	{"a body of another type than text is text", `event\.isBase64Encoded`, both(is(true), is(false))},
	{"the API's id is made up", `event\.requestContext\.apiId`, both(is("Api"), is("1234567890"))},
	{"the domain is localhost", `event\.requestContext\.(domainName|domainPrefix)`, both(matches(`127|127\.0\.0\.1`), is("localhost"))},
	{"the user agent is made up", `event\.requestContext\.http\.userAgent`, both(is("echo-test"), is("Custom User Agent String"))},
	{"all requests have one id", `event\.requestContext\.requestId`, both(matches(`[\w-]+=`), matches(`[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}`))},
	{"all requests have one time", `event\.requestContext\.time`, both(isText, isText)},
	{"the time is in seconds", `event\.requestContext\.timeEpoch`, both(number(13), number(10))},
	{"there is no client certificate", `event\.requestContext\.authentication\b.*`, both(isText, missing)},
	{"the route of any method is that of the method", `event\.(requestContext\.)?routeKey`, both(is("ANY /rest/{proxy+}"), is("DELETE /rest/{proxy+}"))},
	{"the authorizer gets a body", `event\.requestContext\.authorizer\.lambda\.event\.body`, both(missing, isText)},
	{"the authorizer gets a body", `event\.requestContext\.authorizer\.lambda\.event\.isBase64Encoded`, both(missing, is(false))},
	{"the authorizer gets an ARN without a stage", `event\.routeArn`, both(
		is("arn:aws:execute-api:us-east-1:123456789012:Api/$default/PUT/secret"),
		is("arn:aws:execute-api:us-east-1:123456789012:1234567890/None/PUT/secret"))},

	{"requests have no id", `header Apigw-Requestid`, both(isText, missing)},
	{"the server is Flask's", `header Server`, both(missing, isText)},
	{"an empty answer has a type", `header Content-Type`, both(missing, is("text/html; charset=utf-8"))},
	{"OPTIONS is allowed where it is not configured", `header Access-Control-Allow-Methods`, both(is("GET,POST"), is("GET,OPTIONS,POST"))},
	{"no header is exposed to pages", `header Access-Control-Expose-Headers`, both(is("X-Request-Id"), missing)},
	{"every answer to a page has the headers of a preflight", `header Access-Control-(Allow-Methods|Allow-Headers|Max-Age)`, both(missing, isText)},
	{"refusals have no CORS headers", `header Access-Control-Allow-Origin`, both(is("https://a.example"), missing)},
}

// same is what explain returns for equal values.
var same = &difference{}

// explain returns the known difference that two values at a path have. It returns
// nil if there is none.
func explain(path string, local, sam any) *difference {
	if reflect.DeepEqual(local, sam) {
		return same
	}
	// The event of the authorizer is in the event of the function.
	inner := strings.Replace(path, "event.requestContext.authorizer.lambda.event", "event", 1)
	for i, d := range differences {
		re := regexp.MustCompile("^(?:" + d.pattern + ")$")
		if (re.MatchString(path) || re.MatchString(inner)) && d.check(local, sam) {
			return &differences[i]
		}
	}
	return nil
}
