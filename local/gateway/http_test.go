package gateway

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// TestHTTP sends single requests, all to one gateway.
func TestHTTP(t *testing.T) {
	g, logs := newGateway(t, Config{})

	t.Run("Event", func(t *testing.T) {
		before := time.Now().Add(-time.Millisecond)
		r := send(t, g, "POST", "/echo?a=1&b=x+y%26&a=2&empty=&bare", `{"name":"λ"}`,
			"Content-Type: application/json", "User-Agent: test", "X-Many: first", "X-Many: second",
			"Cookie: one=1; two=2", "Cookie: three=3", "X-Forwarded-For: 192.0.2.1", "Host: ignored")
		if r.status != 200 || r.header.Get("Content-Type") != "application/json" {
			t.Fatalf("got %v", r)
		}
		got := fields(t, r.body)
		requestContext := got["requestContext"].(map[string]any)
		address := strings.TrimPrefix(g.URL(), "http://")
		want := map[string]any{
			"version":        "2.0",
			"routeKey":       "POST /echo",
			"rawPath":        "/echo",
			"rawQueryString": "a=1&b=x+y%26&a=2&empty=&bare",
			"cookies":        []any{"one=1", "two=2", "three=3"},
			"headers": map[string]any{
				"accept-encoding":   "gzip",
				"content-length":    "13",
				"content-type":      "application/json",
				"host":              address,
				"user-agent":        "test",
				"x-amzn-trace-id":   got["headers"].(map[string]any)["x-amzn-trace-id"],
				"x-forwarded-for":   "192.0.2.1, 127.0.0.1",
				"x-forwarded-port":  strings.Split(address, ":")[1],
				"x-forwarded-proto": "http",
				"x-many":            "first,second",
			},
			"queryStringParameters": map[string]any{"a": "1,2", "b": "x y&", "empty": "", "bare": ""},
			"requestContext": map[string]any{
				"accountId":      "123456789012",
				"apiId":          "Api",
				"authentication": requestContext["authentication"],
				"domainName":     "127.0.0.1",
				"domainPrefix":   "127",
				"http": map[string]any{
					"method": "POST", "path": "/echo", "protocol": "HTTP/1.1", "sourceIp": "127.0.0.1", "userAgent": "test",
				},
				"requestId": r.header.Get("Apigw-Requestid"),
				"routeKey":  "POST /echo",
				"stage":     "$default",
				"time":      requestContext["time"],
				"timeEpoch": requestContext["timeEpoch"],
			},
			"body":            `{"name":"λ"}`,
			"isBase64Encoded": false,
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("event (-want +got):\n%s", diff)
		}
		at, err := time.Parse("02/Jan/2006:15:04:05 -0700", requestContext["time"].(string))
		if err != nil || !strings.HasSuffix(requestContext["time"].(string), " +0000") || time.Since(at) > time.Minute {
			t.Errorf("time %v: %v", requestContext["time"], err)
		}
		if ms := time.UnixMilli(int64(requestContext["timeEpoch"].(float64))); ms.Before(before) || ms.After(time.Now()) {
			t.Errorf("timeEpoch %v", ms)
		}
		if id := requestContext["requestId"].(string); len(id) != 16 {
			t.Errorf("requestId %q", id)
		}
		if trace := got["headers"].(map[string]any)["x-amzn-trace-id"].(string); !regexp.MustCompile(`^Root=1-[0-9a-f]{8}-[0-9a-f]{24}$`).MatchString(trace) {
			t.Errorf("trace %q", trace)
		}
	})

	t.Run("Body", func(t *testing.T) {
		for _, test := range []struct {
			contentType, body, want string
			base64                  bool
		}{
			{"text/plain", "hi", "hi", false},
			{"text/csv; charset=utf-8", "hi", "hi", false},
			{"APPLICATION/JSON", "{}", "{}", false},
			{"application/json; charset", "{}", "{}", false},
			{"application/problem+json", "{}", "{}", false},
			{"application/xml", "<a/>", "<a/>", false},
			{"application/javascript", "1", "1", false},
			{"application/json", "\xff", "/w==", true},
			{"application/x-www-form-urlencoded", "a=b", "YT1i", true},
			{"application/octet-stream", "hi", "aGk=", true},
			{"image/svg+xml", "<a/>", "PGEvPg==", true},
			{"nonsense;;", "hi", "aGk=", true},
		} {
			got := fields(t, send(t, g, "POST", "/echo", test.body, "Content-Type: "+test.contentType).body)
			if got["body"] != test.want || got["isBase64Encoded"] != test.base64 {
				t.Errorf("%s: body %v, base64 %v", test.contentType, got["body"], got["isBase64Encoded"])
			}
		}
		if got := fields(t, send(t, g, "POST", "/echo", "").body); got["body"] != nil || got["isBase64Encoded"] != false {
			t.Errorf("no body: %v", got)
		}
	})

	t.Run("Path", func(t *testing.T) {
		type seen struct {
			Key        any
			Path       any
			Parameters any
		}
		for path, want := range map[string]seen{
			"/items/fixed":               {"GET /items/fixed", "/items/fixed", nil},
			"/items/space%20value":       {"GET /items/{id}", "/items/space value", map[string]any{"id": "space value"}},
			"/items/%CE%BB":              {"GET /items/{id}", "/items/λ", map[string]any{"id": "λ"}},
			"/items/a+b":                 {"GET /items/{id}", "/items/a+b", map[string]any{"id": "a+b"}},
			"/items/hash%23value":        {"GET /items/{id}", "/items/hash#value", map[string]any{"id": "hash#value"}},
			"/items/question%3Fvalue":    {"GET /items/{id}", "/items/question", map[string]any{"id": "question"}},
			"/items/question%253Fvalue":  {"GET /items/{id}", "/items/question?value", map[string]any{"id": "question?value"}},
			"/items/percent%2525":        {"GET /items/{id}", "/items/percent%", map[string]any{"id": "percent%"}},
			"/rest/slash%2Fvalue":        {"ANY /rest/{proxy+}", "/rest/slash/value", map[string]any{"proxy": "slash/value"}},
			"/rest/a/b/c?x=%2F%C3%A4%25": {"ANY /rest/{proxy+}", "/rest/a/b/c", map[string]any{"proxy": "a/b/c"}},
		} {
			r := send(t, g, "GET", path, "")
			if r.status != 200 {
				t.Errorf("%s: %v", path, r)
				continue
			}
			e := fields(t, r.body)
			if diff := cmp.Diff(want, seen{e["routeKey"], e["rawPath"], e["pathParameters"]}); diff != "" {
				t.Errorf("%s (-want +got):\n%s", path, diff)
			}
		}
	})

	t.Run("Refusals", func(t *testing.T) {
		for name, test := range map[string]struct {
			method, path, body string
			headers            []string
			want               string
		}{
			"unknown path":        {"GET", "/nowhere", "", nil, `404 {"message":"Not Found"}`},
			"unknown method":      {"PUT", "/echo", "", nil, `404 {"message":"Not Found"}`},
			"HEAD":                {"HEAD", "/throttled", "", nil, `404 `},
			"trailing slash":      {"POST", "/echo/", "", nil, `404 {"message":"Not Found"}`},
			"empty parameter":     {"GET", "/items/", "", nil, `404 {"message":"Not Found"}`},
			"too deep":            {"GET", "/items/1/2", "", nil, `404 {"message":"Not Found"}`},
			"stray percent":       {"GET", "/items/percent%25done", "", nil, `400 {"message":"Bad Request"}`},
			"no identity":         {"GET", "/secret", "", nil, `401 {"message":"Unauthorized"}`},
			"empty identity":      {"GET", "/secret", "", []string{"Authorization: "}, `401 {"message":"Unauthorized"}`},
			"denied":              {"GET", "/secret", "", []string{"Authorization: deny"}, `403 {"message":"Forbidden"}`},
			"authorizer fails":    {"GET", "/secret", "", []string{"Authorization: fail"}, `500 {"message":"Internal Server Error"}`},
			"authorizer's junk":   {"GET", "/secret", "", []string{"Authorization: junk"}, `500 {"message":"Internal Server Error"}`},
			"handler fails":       {"GET", "/act?do=error", "", nil, `500 {"message":"Internal Server Error"}`},
			"handler panics":      {"GET", "/act?do=panic", "", nil, `500 {"message":"Internal Server Error"}`},
			"handler exits":       {"GET", "/act?do=exit", "", nil, `500 {"message":"Internal Server Error"}`},
			"large response":      {"GET", "/act?do=large", "", nil, `500 {"message":"Internal Server Error"}`},
			"handler times out":   {"GET", "/hurried?do=hang", "", nil, `500 {"message":"Internal Server Error"}`},
			"handler won't start": {"GET", "/broken", "", nil, `500 {"message":"Internal Server Error"}`},
			"body of 10 MB":       {"POST", "/echo", strings.Repeat("x", 10<<20+1), nil, `413 {"message":"Request Entity Too Large"}`},
			"event of 6 MB":       {"POST", "/echo", strings.Repeat("x", 6<<20), nil, `413 {"message":"Request Entity Too Large"}`},
			"header of 10 KB":     {"POST", "/echo", "", []string{"X-Big: " + strings.Repeat("x", 10240)}, `431 {"message":"Request Header Fields Too Large"}`},
		} {
			t.Run(name, func(t *testing.T) {
				r := send(t, g, test.method, test.path, test.body, test.headers...)
				if r.String() != test.want {
					t.Errorf("got %v, want %s", r, test.want)
				}
				if r.header.Get("Content-Type") != "application/json" || len(r.header.Get("Apigw-Requestid")) != 16 {
					t.Errorf("header %v", r.header)
				}
			})
		}
		for _, want := range []string{
			"ActFunction ended: exit status 3: last words\n",
			"HurriedFunction timed out after 1s\n",
			"BrokenFunction ended: exit status 1: DATABASE is not set\n",
			"BrokenFunction: DATABASE is not set\n",
		} {
			eventually(t, "the line "+want, func() bool { return strings.Contains(logs.String(), want) })
		}
		if r := send(t, g, "POST", "/echo", "", "X-Big: "+strings.Repeat("x", 9900)); r.status != 200 {
			t.Errorf("a header below 10 KB: %v", r)
		}
	})

	t.Run("Response", func(t *testing.T) {
		for name, test := range map[string]struct {
			response string
			want     string
			header   http.Header
		}{
			"full": {`{"statusCode":201,"headers":{"content-type":"text/html","X-Number":7,"x-bool":true,"Content-Length":"99"},"cookies":["a=1; Secure","b=2"],"body":"<p>"}`,
				"201 <p>", http.Header{"Content-Type": {"text/html"}, "X-Number": {"7"}, "X-Bool": {"true"}, "Set-Cookie": {"a=1; Secure", "b=2"}, "Content-Length": {"3"}}},
			"status only":     {`{"statusCode":204}`, "204 ", http.Header{"Content-Type": {"text/plain;charset=UTF-8"}}},
			"status string":   {`{"statusCode":"404","body":"x"}`, "404 x", http.Header{"Content-Type": {"text/plain;charset=UTF-8"}, "Content-Length": {"1"}}},
			"base64":          {`{"statusCode":200,"body":"/w==","isBase64Encoded":true}`, "200 \xff", http.Header{"Content-Type": {"text/plain;charset=UTF-8"}, "Content-Length": {"1"}}},
			"own CORS":        {`{"statusCode":200,"headers":{"Access-Control-Allow-Origin":"*"}}`, "200 ", http.Header{"Content-Type": {"text/plain;charset=UTF-8"}, "Content-Length": {"0"}}},
			"inferred object": {`{"a":1}`, `200 {"a":1}`, http.Header{"Content-Type": {"application/json"}, "Content-Length": {"7"}}},
			"inferred string": {`"hi"`, `200 "hi"`, http.Header{"Content-Type": {"application/json"}, "Content-Length": {"4"}}},
			"not JSON":        {`{`, `500 {"message":"Internal Server Error"}`, nil},
			"bad status":      {`{"statusCode":99}`, `500 {"message":"Internal Server Error"}`, nil},
			"status word":     {`{"statusCode":"ok"}`, `500 {"message":"Internal Server Error"}`, nil},
			"body object":     {`{"statusCode":200,"body":{}}`, `500 {"message":"Internal Server Error"}`, nil},
			"bad base64":      {`{"statusCode":200,"body":"?","isBase64Encoded":true}`, `500 {"message":"Internal Server Error"}`, nil},
			"bad header":      {`{"statusCode":200,"headers":{"a":["b"]}}`, `500 {"message":"Internal Server Error"}`, nil},
		} {
			r := send(t, g, "POST", "/reply", test.response, "Content-Type: text/plain")
			if r.String() != test.want {
				t.Errorf("%s: got %v, want %s", name, r, test.want)
			}
			r.header.Del("Date")
			r.header.Del("Apigw-Requestid")
			if test.header != nil {
				if diff := cmp.Diff(test.header, r.header); diff != "" {
					t.Errorf("%s: header (-want +got):\n%s", name, diff)
				}
			}
		}
	})

	t.Run("Authorizer", func(t *testing.T) {
		r := send(t, g, "GET", "/secret?q=1", "", "Authorization: allow me", "Cookie: c=1")
		lambda := fields(t, r.body)["requestContext"].(map[string]any)["authorizer"].(map[string]any)["lambda"].(map[string]any)
		if !strings.Contains(r.body, `"n":12345678901234567`) {
			t.Errorf("the context's number changed: %s", r.body)
		}
		event := fields(t, lambda["event"].(string))
		want := map[string]any{
			"version":               "2.0",
			"type":                  "REQUEST",
			"routeArn":              "arn:aws:execute-api:us-east-1:123456789012:Api/$default/GET/secret",
			"identitySource":        []any{"allow me"},
			"routeKey":              "GET /secret",
			"rawPath":               "/secret",
			"rawQueryString":        "q=1",
			"cookies":               []any{"c=1"},
			"queryStringParameters": map[string]any{"q": "1"},
			"pathParameters":        nil,
			"stageVariables":        nil,
		}
		ignore := cmpopts.IgnoreMapEntries(func(key string, _ any) bool { return key == "headers" || key == "requestContext" })
		if diff := cmp.Diff(want, event, ignore); diff != "" {
			t.Errorf("authorizer's event (-want +got):\n%s", diff)
		}
		if h := event["headers"].(map[string]any); h["authorization"] != "allow me" {
			t.Errorf("headers %v", h)
		}
	})

	t.Run("AuthorizerCache", func(t *testing.T) {
		asked := func(identity string) int { return strings.Count(logs.String(), "asked about "+identity+"\n") }
		for _, test := range []struct {
			identity string
			paths    []string
			status   int
			asked    int
		}{
			{"allow cached", []string{"/secret", "/secret", "/secret/too"}, 200, 1},
			{"deny cached", []string{"/secret", "/secret/too"}, 403, 1},
			{"allow uncached", []string{"/uncached", "/uncached"}, 200, 2},
			{"allow both", []string{"/secret", "/uncached"}, 200, 2},
		} {
			for _, path := range test.paths {
				if r := send(t, g, "GET", path, "", "Authorization: "+test.identity); r.status != test.status {
					t.Errorf("%s, %s: %v", path, test.identity, r)
				}
			}
			// The log may come after the response.
			eventually(t, test.identity+" was asked about", func() bool { return asked(test.identity) >= test.asked })
			if n := asked(test.identity); n != test.asked {
				t.Errorf("asked %d times about %s, want %d", n, test.identity, test.asked)
			}
		}
	})

	t.Run("CORS", func(t *testing.T) {
		actual := http.Header{"Access-Control-Allow-Origin": {"https://b.example"}, "Access-Control-Expose-Headers": {"X-Request-Id"}}
		preflight := actual.Clone()
		preflight["Access-Control-Allow-Methods"] = []string{"GET,POST"}
		preflight["Access-Control-Allow-Headers"] = []string{"Authorization,Content-Type"}
		preflight["Access-Control-Max-Age"] = []string{"600"}
		own := `{"statusCode":200,"headers":{"access-control-allow-origin":"https://evil.example","access-control-allow-credentials":"true"}}`
		for name, test := range map[string]struct {
			method, path, origin string
			status               int
			want                 http.Header
		}{
			"preflight":               {"OPTIONS", "/echo", "https://b.example", 204, preflight},
			"preflight of ANY":        {"OPTIONS", "/rest/x", "https://b.example", 204, preflight},
			"preflight of a stranger": {"OPTIONS", "/echo", "https://evil.example", 204, http.Header{}},
			"no origin":               {"OPTIONS", "/echo", "", 204, http.Header{}},
			"response":                {"POST", "/reply", "https://b.example", 200, actual},
			"response to a stranger":  {"POST", "/reply", "https://evil.example", 200, http.Header{}},
			"401":                     {"GET", "/secret", "https://b.example", 401, actual},
			"404":                     {"GET", "/nowhere", "https://b.example", 404, actual},
		} {
			r := send(t, g, test.method, test.path, own, "Origin: "+test.origin, "Content-Type: text/plain", "Access-Control-Request-Method: POST")
			got := http.Header{}
			for key, values := range r.header {
				if strings.HasPrefix(key, "Access-Control-") {
					got[key] = values
				}
			}
			if r.status != test.status {
				t.Errorf("%s: %v", name, r)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("%s (-want +got):\n%s", name, diff)
			}
		}
	})

	t.Run("Throttling", func(t *testing.T) {
		var got []string
		for range 3 {
			got = append(got, strconv.Itoa(send(t, g, "GET", "/throttled", "").status))
		}
		last := send(t, g, "GET", "/throttled", "")
		if strings.Join(got, " ") != "200 200 429" || last.String() != `429 {"message":"Too Many Requests"}` {
			t.Errorf("got %v, then %v", got, last)
		}
	})

	t.Run("AccessLog", func(t *testing.T) {
		// logged returns the only line of the log that has the id.
		logged := func(id string) (e access) {
			t.Helper()
			eventually(t, "a line of "+id, func() bool { return strings.Contains(logs.String(), id) })
			n := 0
			for line := range strings.Lines(logs.String()) {
				if strings.Contains(line, id) {
					n++
					if err := json.Unmarshal([]byte(line), &e); err != nil {
						t.Errorf("%s: %v", line, err)
					}
				}
			}
			if n != 1 {
				t.Errorf("%d lines of %s", n, id)
			}
			return e
		}
		problem := func(kind, field string) string {
			return fmt.Sprintf(`{"statusCode":422,"headers":{"content-type":"application/problem+json","x-request-id":%q},"body":%q}`, "own-id-of-"+kind,
				`{"type":"/problems/`+kind+`","detail":"wrong: `+field+` is refused","errors":[{"field":"`+field+`","message":"is refused"}]}`)
		}
		for name, test := range map[string]struct {
			method, path, body, authorization string
			want                              access
		}{
			"OK":                 {"GET", "/items/a%0Ab?token=hush", "", "", access{Path: "/items/a%0Ab", Status: 200, Function: "echo", Start: "warm"}},
			"problem":            {"POST", "/reply", problem("invalid-fields", "email"), "", access{Path: "/reply", Status: 422, Function: "echo", Start: "warm", RequestID: "own-id-of-invalid-fields", Reason: "wrong: email is refused"}},
			"unknown parameters": {"POST", "/reply", problem("invalid-parameters", "hush"), "", access{Path: "/reply", Status: 422, Function: "echo", Start: "warm", RequestID: "own-id-of-invalid-parameters", Reason: "wrong"}},
			"unknown fields":     {"POST", "/reply", problem("malformed-request", "hush"), "", access{Path: "/reply", Status: 422, Function: "echo", Start: "warm", RequestID: "own-id-of-malformed-request", Reason: "wrong"}},
			"no problem":         {"POST", "/reply", `{"statusCode":404,"body":"hush"}`, "", access{Path: "/reply", Status: 404, Function: "echo", Start: "warm"}},
			"bad response":       {"POST", "/reply", `{"statusCode":99}`, "", access{Path: "/reply", Status: 500, Function: "echo", Start: "warm", Reason: "the response has the statusCode 99"}},
			"fails":              {"GET", "/act?do=error", "", "", access{Path: "/act", Status: 500, Function: "act", Start: "warm", Reason: "errorString: refused"}},
			"exits":              {"GET", "/act?do=exit", "", "", access{Path: "/act", Status: 500, Function: "act", Reason: "ActFunction ended: exit status 3: last words"}},
			"misspelled":         {"POST", "/ecko", "", "", access{Path: "/ecko", Status: 404, Reason: "no such route: did you mean POST /echo?"}},
			"unknown":            {"GET", "/nowhere", "", "", access{Path: "/nowhere", Status: 404, Reason: "no such route"}},
			"other method":       {"PUT", "/echo", "", "", access{Path: "/echo", Status: 404, Reason: "POST only"}},
			"throttled":          {"GET", "/throttled", "", "", access{Path: "/throttled", Status: 429, Reason: "the route is limited to 0.001 requests a second"}},
			"no token":           {"GET", "/secret", "", "", access{Path: "/secret", Status: 401, Reason: "there is no header authorization"}},
			"refused":            {"GET", "/secret", "", "deny hush", access{Path: "/secret", Status: 403, Reason: "the authorizer refused"}},
			"refused, and why":   {"GET", "/secret", "", "deny with a reason", access{Path: "/secret", Status: 403, Reason: "too late"}},
			"refused again":      {"GET", "/secret/too", "", "deny with a reason", access{Path: "/secret/too", Status: 403, Reason: "too late"}},
			"authorizer fails":   {"GET", "/secret", "", "fail", access{Path: "/secret", Status: 500, Reason: "the authorizer failed: errorString: can't tell"}},
		} {
			t.Run(name, func(t *testing.T) {
				if test.want.Start == "warm" {
					send(t, g, "GET", "/act", "")
					send(t, g, "POST", "/echo", "")
				}
				r := send(t, g, test.method, test.path, test.body, "Content-Type: text/plain", "Authorization: "+test.authorization, "X-Secret: hush")
				got := logged(r.header.Get("Apigw-Requestid"))
				// What the gateway refuses itself may take less than half of the unit, which is 10 µs.
				if got.Millis < 0 || got.Millis == 0 && got.PID != 0 || time.Since(got.Time) > time.Minute || (got.PID != 0) != (got.Function != "") {
					t.Errorf("got %+v", got)
				}
				want := test.want
				if want.Method, want.GatewayID = test.method, r.header.Get("Apigw-Requestid"); want.RequestID == "" {
					want.RequestID, want.GatewayID = want.GatewayID, ""
				}
				ignored := []string{"Time", "Millis", "PID"}
				if want.Start == "" {
					ignored = append(ignored, "Start")
				}
				if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(access{}, ignored...)); diff != "" {
					t.Errorf("(-want +got):\n%s", diff)
				}
			})
		}
		if strings.Contains(strings.ReplaceAll(logs.String(), "asked about deny hush", ""), "hush") {
			t.Error("a query, a header or a body is in the log")
		}
	})
}

func TestServiceUnavailable(t *testing.T) {
	g, _ := newGateway(t, Config{integrationTimeout: 200 * time.Millisecond})
	if r := send(t, g, "GET", "/act?do=hang", ""); r.String() != `503 {"message":"Service Unavailable"}` {
		t.Errorf("got %v", r)
	}
	eventually(t, "one busy process, which goes on", func() bool {
		busy := 0
		for _, p := range g.Processes() {
			if p.Busy {
				busy++
			}
		}
		return busy == 1
	})
}

func TestCORSOrigins(t *testing.T) {
	for _, test := range []struct{ allowed, origin, want string }{
		{"*", "https://a.example", "*"},
		{"https://*", "https://a.example", "https://a.example"},
		{"https://*", "http://a.example", ""},
		{"https://a.example", "https://a.example", "https://a.example"},
		{"https://a.example", "https://a.example.evil", ""},
		{"https://a.example", "null", ""},
	} {
		h := http.Header{}
		c := &cors{origins: []string{test.allowed}}
		c.set(h, &http.Request{Method: "GET", Header: http.Header{"Origin": {test.origin}}, URL: &url.URL{}})
		if got := h.Get("Access-Control-Allow-Origin"); got != test.want {
			t.Errorf("%s of %s: %q, want %q", test.origin, test.allowed, got, test.want)
		}
	}
}

func fields(t *testing.T, object string) map[string]any {
	t.Helper()
	var m map[string]any
	if err := json.Unmarshal([]byte(object), &m); err != nil {
		t.Fatal(fmt.Errorf("%q: %w", object, err))
	}
	return m
}
