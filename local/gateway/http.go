package gateway

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/aws/aws-lambda-go/events"
	"golang.org/x/time/rate"
)

// Limits of HTTP APIs, and the throttling of an account that sets none.
const (
	maxHeader    = 10240 // bytes of request line and headers
	maxBody      = 10 << 20
	accountRate  = 10_000
	accountBurst = 5_000
)

// site is a template as it is being served, with what is remembered between
// requests.
type site struct {
	*template
	buckets  map[*route]*rate.Limiter
	verdicts map[*authorizer]*verdicts
}

func newSite(t *template) *site {
	s := &site{template: t, buckets: map[*route]*rate.Limiter{}, verdicts: map[*authorizer]*verdicts{}}
	for _, rt := range t.routes {
		limit, burst := rate.Limit(accountRate), accountBurst
		if rt.throttle.rate != nil {
			limit = rate.Limit(*rt.throttle.rate)
		}
		if rt.throttle.burst != nil {
			burst = *rt.throttle.burst
		}
		s.buckets[rt] = rate.NewLimiter(limit, burst)
	}
	for _, a := range t.authorizers {
		s.verdicts[a] = &verdicts{known: map[string]verdict{}}
	}
	return s
}

// verdicts is what an authorizer said about identities.
type verdicts struct {
	mu    sync.Mutex
	known map[string]verdict
}

type verdict struct {
	allow   bool
	context map[string]any
	until   time.Time
}

func (v *verdicts) get(identity string) (verdict, bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	known, ok := v.known[identity]
	return known, ok && time.Now().Before(known.until)
}

func (v *verdicts) put(identity string, new verdict) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.known) >= 1000 {
		maps.DeleteFunc(v.known, func(_ string, old verdict) bool { return time.Now().After(old.until) })
	}
	v.known[identity] = new
}

// answer is what a client gets, and what the access log says of it.
type answer struct {
	status   int
	header   http.Header
	body     []byte
	function string // that answered, with its pid
}

// refuse returns an answer of the gateway itself.
func refuse(status int, message string) *answer {
	return &answer{
		status: status,
		header: http.Header{"Content-Type": {"application/json"}},
		body:   fmt.Appendf(nil, `{"message":%q}`, message),
	}
}

func internalError() *answer {
	return refuse(http.StatusInternalServerError, "Internal Server Error")
}

func (g *Gateway) handle(w http.ResponseWriter, r *http.Request) {
	start, id, s := time.Now(), newRequestID(), g.current.Load()
	a := g.answer(w, r, s, start, id)
	if s.cors != nil {
		maps.DeleteFunc(a.header, func(name string, _ []string) bool {
			return strings.HasPrefix(name, "Access-Control-")
		})
		s.cors.set(a.header, r)
	}
	maps.Copy(w.Header(), a.header)
	w.Header().Set("Apigw-Requestid", id)
	w.WriteHeader(a.status)
	w.Write(a.body)
	// No query, no headers: they may hold what is nobody else's business.
	g.out.printf("%s %s %s %d %s %s %s", start.Format("15:04:05.000"), r.Method, r.URL.EscapedPath(), a.status,
		time.Since(start).Round(10*time.Microsecond), cmp.Or(a.function, "-"), id)
}

func (g *Gateway) answer(w http.ResponseWriter, r *http.Request, s *site, start time.Time, id string) *answer {
	if headerSize(r) > maxHeader {
		return refuse(http.StatusRequestHeaderFieldsTooLarge, "Request Header Fields Too Large")
	}
	path, ok := decodePath(r.URL.Path)
	if !ok {
		return refuse(http.StatusBadRequest, "Bad Request")
	}
	rt, parameters := s.match(r.Method, path)
	if s.cors != nil && r.Method == http.MethodOptions && (rt == nil || rt.method == "ANY") {
		return &answer{status: http.StatusNoContent, header: http.Header{}}
	}
	if rt == nil {
		return refuse(http.StatusNotFound, "Not Found")
	}
	if !s.buckets[rt].Allow() {
		return refuse(http.StatusTooManyRequests, "Too Many Requests")
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if _, tooLarge := errors.AsType[*http.MaxBytesError](err); tooLarge {
		// A client that is still sending would see a broken connection instead.
		io.Copy(io.Discard, io.LimitReader(r.Body, 2*maxBody))
		return refuse(http.StatusRequestEntityTooLarge, "Request Entity Too Large")
	}
	if err != nil {
		return refuse(http.StatusBadRequest, "Bad Request")
	}

	// As in the cloud, a client that hangs up does not stop what it started.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), g.config.integrationTimeout)
	defer cancel()
	event := newEvent(r, s, rt, path, start, id, body)
	event.PathParameters = parameters
	if rt.authorizer != nil {
		context, refusal := g.authorize(ctx, s, rt, event)
		if refusal != nil {
			return refusal
		}
		event.RequestContext.Authorizer = &events.APIGatewayV2HTTPRequestContextAuthorizerDescription{Lambda: context}
	}
	o := g.lambda.invoke(ctx, rt.function, event.Headers["x-amzn-trace-id"], mustMarshal(event))
	function := ""
	if o.pid != 0 {
		function = fmt.Sprintf("%s[%d]", rt.function.id, o.pid)
	}
	var a *answer
	switch {
	case errors.Is(o.err, context.DeadlineExceeded):
		a = refuse(http.StatusServiceUnavailable, "Service Unavailable")
	case errors.Is(o.err, errTooLarge):
		a = refuse(http.StatusRequestEntityTooLarge, "Request Entity Too Large")
	case o.err != nil:
		a = internalError()
	default:
		if a, err = readResponse(o.response); err != nil {
			g.out.printf("%s: %v", rt.function.id, err)
			a = internalError()
		}
	}
	a.function = function
	return a
}

// authorize returns the context that the route's authorizer gives the caller,
// or the answer of a gateway whose authorizer gives none.
func (g *Gateway) authorize(ctx context.Context, s *site, rt *route, event *events.APIGatewayV2HTTPRequest) (map[string]any, *answer) {
	authorizer := rt.authorizer
	var identity []string
	for _, name := range authorizer.headers {
		if event.Headers[name] == "" {
			return nil, refuse(http.StatusUnauthorized, "Unauthorized")
		}
		identity = append(identity, event.Headers[name])
	}
	key := strings.Join(identity, "\x00") // which no header holds
	v, known := s.verdicts[authorizer].get(key)
	if !known {
		o := g.lambda.invoke(ctx, authorizer.function, event.Headers["x-amzn-trace-id"], mustMarshal(events.APIGatewayV2CustomAuthorizerV2Request{
			Version: "2.0",
			Type:    "REQUEST",
			RouteArn: fmt.Sprintf("arn:%s:execute-api:%s:%s:%s/%s/%s%s", partition, g.config.region, account,
				event.RequestContext.APIID, event.RequestContext.Stage, event.RequestContext.HTTP.Method, event.RawPath),
			IdentitySource:        identity,
			RouteKey:              event.RouteKey,
			RawPath:               event.RawPath,
			RawQueryString:        event.RawQueryString,
			Cookies:               event.Cookies,
			Headers:               event.Headers,
			QueryStringParameters: event.QueryStringParameters,
			RequestContext:        event.RequestContext,
			PathParameters:        event.PathParameters,
		}))
		if o.err != nil {
			return nil, internalError()
		}
		var response struct {
			IsAuthorized *bool          `json:"isAuthorized"`
			Context      map[string]any `json:"context"`
		}
		decoder := json.NewDecoder(strings.NewReader(string(o.response)))
		decoder.UseNumber()
		if err := decoder.Decode(&response); err != nil || response.IsAuthorized == nil {
			g.out.printf("%s: the response is not {\"isAuthorized\": true or false, \"context\": {...}}", authorizer.function.id)
			return nil, internalError()
		}
		v = verdict{*response.IsAuthorized, response.Context, time.Now().Add(authorizer.ttl)}
		if authorizer.ttl > 0 {
			s.verdicts[authorizer].put(key, v)
		}
	}
	if !v.allow {
		return nil, refuse(http.StatusForbidden, "Forbidden")
	}
	return v.context, nil
}

// match returns the most specific route of a request, if there is one, and
// the values of the parameters in its path.
func (s *site) match(method, path string) (best *route, parameters map[string]string) {
	segments := strings.Split(path, "/")[1:]
	bestRank := ""
	for _, rt := range s.routes {
		if rt.method != method && rt.method != "ANY" {
			continue
		}
		values, rank := rt.match(segments)
		if rt.method == "ANY" {
			rank += "~"
		}
		if values != nil && (best == nil || rank < bestRank) {
			best, parameters, bestRank = rt, values, rank
		}
	}
	if len(parameters) == 0 {
		parameters = nil
	}
	return best, parameters
}

// match returns the values of the route's parameters, nil if the path is not
// the route's. The rank orders by specificity: literals, {name}, {name+}.
func (rt *route) match(segments []string) (values map[string]string, rank string) {
	values = map[string]string{}
	for i, want := range rt.segments {
		name, isParameter := strings.CutPrefix(want, "{")
		name = strings.TrimSuffix(name, "}")
		greedy, isGreedy := strings.CutSuffix(name, "+")
		switch {
		case i >= len(segments):
			return nil, ""
		case isParameter && isGreedy:
			values[greedy] = strings.Join(segments[i:], "/")
			return values, rank + "c"
		case isParameter && segments[i] != "":
			values[name] = segments[i]
			rank += "b"
		case want == segments[i]:
			rank += "a"
		default:
			return nil, ""
		}
	}
	if len(segments) != len(rt.segments) {
		return nil, ""
	}
	return values, rank
}

// decodePath does to a path, decoded once, what HTTP APIs were seen to do
// (https://github.com/hotsock/voker, vokerhttp/testdata/ingress-paths.json):
// a question mark ends it, and it is decoded once more.
func decodePath(path string) (string, bool) {
	path, _, _ = strings.Cut(path, "?")
	path, err := url.PathUnescape(path)
	return path, err == nil
}

func headerSize(r *http.Request) int {
	n := len(r.Method) + len(r.RequestURI) + len(r.Proto) + len("Host: ") + len(r.Host)
	for name, values := range r.Header {
		for _, v := range values {
			n += len(name) + len(": ") + len(v)
		}
	}
	return n
}

func newEvent(r *http.Request, s *site, rt *route, path string, start time.Time, id string, body []byte) *events.APIGatewayV2HTTPRequest {
	sourceIP, _, _ := net.SplitHostPort(r.RemoteAddr)
	local, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	_, port, _ := net.SplitHostPort(local.String())
	domain := r.Host
	if host, _, err := net.SplitHostPort(domain); err == nil {
		domain = host
	}
	prefix, _, _ := strings.Cut(domain, ".")

	headers := map[string]string{}
	for name, values := range r.Header {
		headers[strings.ToLower(name)] = strings.Join(values, ",")
	}
	var cookies []string
	for _, line := range r.Header.Values("Cookie") {
		for cookie := range strings.SplitSeq(line, ";") {
			if cookie = strings.TrimSpace(cookie); cookie != "" {
				cookies = append(cookies, cookie)
			}
		}
	}
	for _, name := range []string{"cookie", "connection", "keep-alive", "te", "trailer", "upgrade"} {
		delete(headers, name)
	}
	headers["host"] = r.Host
	headers["content-length"] = strconv.Itoa(len(body))
	headers["x-forwarded-for"] = strings.TrimPrefix(headers["x-forwarded-for"]+", "+sourceIP, ", ")
	headers["x-forwarded-port"] = port
	headers["x-forwarded-proto"] = "http"
	headers["x-amzn-trace-id"] = cmp.Or(headers["x-amzn-trace-id"], newTrace())

	event := &events.APIGatewayV2HTTPRequest{
		Version:               "2.0",
		RouteKey:              rt.key,
		RawPath:               path,
		RawQueryString:        r.URL.RawQuery,
		Cookies:               cookies,
		Headers:               headers,
		QueryStringParameters: queryParameters(r.URL.RawQuery),
		RequestContext: events.APIGatewayV2HTTPRequestContext{
			RouteKey:     rt.key,
			AccountID:    account,
			Stage:        "$default",
			RequestID:    id,
			APIID:        s.api,
			DomainName:   domain,
			DomainPrefix: prefix,
			Time:         start.UTC().Format("02/Jan/2006:15:04:05 -0700"),
			TimeEpoch:    start.UnixMilli(),
			HTTP: events.APIGatewayV2HTTPRequestContextHTTPDescription{
				Method:    r.Method,
				Path:      path,
				Protocol:  r.Proto,
				SourceIP:  sourceIP,
				UserAgent: r.UserAgent(),
			},
		},
		Body: string(body),
	}
	if len(body) > 0 && !(isText(r.Header.Get("Content-Type")) && utf8.Valid(body)) {
		event.Body, event.IsBase64Encoded = base64.StdEncoding.EncodeToString(body), true
	}
	return event
}

func isText(contentType string) bool {
	kind, _, err := mime.ParseMediaType(contentType)
	if err != nil && !errors.Is(err, mime.ErrInvalidMediaParameter) {
		return false
	}
	if sub, ok := strings.CutPrefix(kind, "application/"); ok {
		return slices.Contains([]string{"json", "xml", "javascript"}, sub[strings.LastIndexByte(sub, '+')+1:])
	}
	return strings.HasPrefix(kind, "text/")
}

// queryParameters returns the parameters of a query, those that are there more
// than once joined; nil if there are none.
func queryParameters(query string) map[string]string {
	var parameters map[string]string
	for pair := range strings.SplitSeq(query, "&") {
		if pair == "" {
			continue
		}
		name, value, _ := strings.Cut(pair, "=")
		name, value = unescape(name), unescape(value)
		if old, ok := parameters[name]; ok {
			value = old + "," + value
		}
		if parameters == nil {
			parameters = map[string]string{}
		}
		parameters[name] = value
	}
	return parameters
}

func unescape(s string) string {
	if decoded, err := url.QueryUnescape(s); err == nil {
		return decoded
	}
	return s
}

// readResponse turns a function's response into an answer. A response without
// a statusCode is itself the body.
func readResponse(response []byte) (*answer, error) {
	if !json.Valid(response) {
		return nil, errors.New("the response is not JSON")
	}
	var full struct {
		StatusCode      json.Number                `json:"statusCode"`
		Headers         map[string]json.RawMessage `json:"headers"`
		Body            string                     `json:"body"`
		IsBase64Encoded bool                       `json:"isBase64Encoded"`
		Cookies         []string                   `json:"cookies"`
	}
	var keys map[string]json.RawMessage
	json.Unmarshal(response, &keys) // stays empty unless it is an object
	if keys["statusCode"] == nil {
		return &answer{status: http.StatusOK, header: http.Header{"Content-Type": {"application/json"}}, body: response}, nil
	}
	if err := json.Unmarshal(response, &full); err != nil {
		return nil, fmt.Errorf("the response is not of payload format 2.0: %w", err)
	}
	status, err := strconv.Atoi(full.StatusCode.String())
	if err != nil || status < 200 || status > 599 {
		return nil, fmt.Errorf("the response has the statusCode %s", full.StatusCode)
	}
	a := &answer{status: status, header: http.Header{"Content-Type": {"text/plain;charset=UTF-8"}}, body: []byte(full.Body)}
	for name, raw := range full.Headers {
		var value any
		json.Unmarshal(raw, &value) // valid, since the whole is
		switch value := value.(type) {
		case string:
			a.header.Set(name, value)
		case float64, bool:
			a.header.Set(name, string(raw))
		default:
			return nil, fmt.Errorf("the response's header %s is no string", name)
		}
	}
	for _, name := range []string{"Connection", "Content-Length", "Transfer-Encoding"} {
		a.header.Del(name)
	}
	for _, cookie := range full.Cookies {
		a.header.Add("Set-Cookie", cookie)
	}
	if full.IsBase64Encoded {
		if a.body, err = base64.StdEncoding.DecodeString(full.Body); err != nil {
			return nil, fmt.Errorf("the response's body is not base64: %w", err)
		}
	}
	return a, nil
}

// set adds the headers that tell a browser of an allowed origin what its page
// may do.
func (c *cors) set(h http.Header, r *http.Request) {
	origin := r.Header.Get("Origin")
	allowed := slices.ContainsFunc(c.origins, func(o string) bool {
		scheme, isPattern := strings.CutSuffix(o, "*") // "*", "http://*" or "https://*"
		return o == origin || isPattern && strings.HasPrefix(origin, scheme)
	})
	if origin == "" || !allowed {
		return
	}
	if slices.Contains(c.origins, "*") {
		origin = "*"
	}
	set := func(name, value string) {
		if value != "" {
			h.Set("Access-Control-"+name, value)
		}
	}
	set("Allow-Origin", origin)
	if c.credentials {
		set("Allow-Credentials", "true")
	}
	set("Expose-Headers", strings.Join(c.expose, ","))
	if r.Method == http.MethodOptions {
		set("Allow-Methods", strings.Join(c.methods, ","))
		set("Allow-Headers", strings.Join(c.headers, ","))
		if c.maxAge != 0 {
			set("Max-Age", strconv.Itoa(c.maxAge))
		}
	}
}

func mustMarshal(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // strings, maps of them, and JSON that was read before
	}
	return b
}

// newRequestID returns an id of the length and the look of API Gateway's.
func newRequestID() string {
	var b [11]byte
	rand.Read(b[:])
	return base64.URLEncoding.EncodeToString(b[:])
}

func newTrace() string {
	var b [12]byte
	rand.Read(b[:])
	return fmt.Sprintf("Root=1-%08x-%x", time.Now().Unix(), b)
}
