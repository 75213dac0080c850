package gateway

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"golang.org/x/time/rate"
)

// Limits of HTTP APIs, and the throttling that an AWS account has by default.
const (
	maxHeader    = 10240    // bytes of the request line and the headers
	maxBody      = 10 << 20 // bytes
	accountRate  = 10_000   // requests a second
	accountBurst = 5_000    // requests at once
)

// stage is the template that is served, with the state that lasts longer than a
// request: throttling and the answers of the authorizers.
type stage struct {
	*template
	buckets map[*route]*rate.Limiter
	caches  map[*authorizer]*authorizerCache
}

func newStage(t *template) *stage {
	s := &stage{template: t, buckets: map[*route]*rate.Limiter{}, caches: map[*authorizer]*authorizerCache{}}
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
		s.caches[a] = &authorizerCache{answers: map[string]authorization{}}
	}
	return s
}

// authorizerCache holds the answers of one authorizer, by identity.
type authorizerCache struct {
	mu      sync.Mutex
	answers map[string]authorization
}

// authorization is the answer of an authorizer. If it refuses a caller, it may give
// the reason in the context, which API Gateway can write to its access log, too.
type authorization struct {
	allow   bool
	context map[string]any
	expires time.Time
}

// get returns the answer about an identity, and whether there is one that has
// not expired.
func (c *authorizerCache) get(identity string) (authorization, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	a, ok := c.answers[identity]
	return a, ok && time.Now().Before(a.expires)
}

// put adds an answer. If there are many, it removes those that have expired.
func (c *authorizerCache) put(identity string, a authorization) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.answers) >= 1000 {
		maps.DeleteFunc(c.answers, func(_ string, old authorization) bool { return time.Now().After(old.expires) })
	}
	c.answers[identity] = a
}

// answer is the response to a client, with more for the access log.
type answer struct {
	status   int
	header   http.Header
	body     []byte
	function *function // the one that answered, if pid is not 0
	pid      int       // of its process
	cold     bool      // it was the first event of the process
	reason   string    // why the gateway itself answers with an error
	spans    []span    // the invocations for it
}

// refuse returns an error answer of the gateway itself. Only the access log has
// the reason.
func refuse(status int, message, reason string) *answer {
	return &answer{
		status: status,
		header: http.Header{"Content-Type": {"application/json"}},
		body:   fmt.Appendf(nil, `{"message":%q}`, message),
		reason: reason,
	}
}

func internalError(reason string) *answer {
	return refuse(http.StatusInternalServerError, "Internal Server Error", reason)
}

// handle serves one request and writes its line of the access log.
func (g *Gateway) handle(w http.ResponseWriter, r *http.Request) {
	start, id, s := time.Now(), newRequestID(), g.current.Load()
	if own := g.ownPage(r.URL.Path); own != nil && r.Method == http.MethodGet {
		if route, _ := s.match(r.Method, r.URL.Path); route == nil {
			own.ServeHTTP(w, r)
			return
		}
	}
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
	access := newAccess(r, a, start, id)
	g.out.printf("%s", access.line(g.config.Log))
	g.lambda.traces.add(access, a.spans)
}

// ownPage returns what the gateway itself answers a path with, or nil.
func (g *Gateway) ownPage(path string) http.Handler {
	switch path {
	case metricsPath:
		return &g.out.metrics
	case tracesPath:
		return g.lambda.traces
	}
	return nil
}

// answer returns the answer to a request, without CORS headers. start is the time
// of the request and id its request ID.
func (g *Gateway) answer(w http.ResponseWriter, r *http.Request, s *stage, start time.Time, id string) *answer {
	if headerSize(r) > maxHeader {
		return refuse(http.StatusRequestHeaderFieldsTooLarge, "Request Header Fields Too Large",
			fmt.Sprintf("the request line and the headers have more than %d bytes", maxHeader))
	}
	path, ok := decodePath(r.URL.Path)
	if !ok {
		return refuse(http.StatusBadRequest, "Bad Request", "the path is malformed")
	}
	rt, parameters := s.match(r.Method, path)
	if s.cors != nil && r.Method == http.MethodOptions && (rt == nil || rt.method == "ANY") {
		return &answer{status: http.StatusNoContent, header: http.Header{}}
	}
	if rt == nil {
		return refuse(http.StatusNotFound, "Not Found", s.noRoute(r.Method, path))
	}
	if !s.buckets[rt].Allow() {
		return refuse(http.StatusTooManyRequests, "Too Many Requests", fmt.Sprintf("the route is limited to %v requests a second", s.buckets[rt].Limit()))
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if _, tooLarge := errors.AsType[*http.MaxBytesError](err); tooLarge {
		// Without this, a client that still sends gets no answer but a broken
		// connection.
		io.Copy(io.Discard, io.LimitReader(r.Body, 2*maxBody))
		return refuse(http.StatusRequestEntityTooLarge, "Request Entity Too Large", "the body is larger than 10 MB")
	}
	if err != nil {
		return refuse(http.StatusBadRequest, "Bad Request", "the body broke off")
	}

	// As in the cloud, the function goes on if the client closes the connection.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), g.config.integrationTimeout)
	defer cancel()
	event := newEvent(r, s, rt, path, start, id, body)
	event.PathParameters = parameters
	var spans []span
	if rt.authorizer != nil {
		callerContext, refusal, span := g.authorize(ctx, s, rt, event)
		if span != nil {
			spans = append(spans, *span)
		}
		if refusal != nil {
			refusal.spans = spans
			return refusal
		}
		event.RequestContext.Authorizer = &events.APIGatewayV2HTTPRequestContextAuthorizerDescription{Lambda: callerContext}
	}
	if rt.iam {
		if !g.isOperator(event.Headers["authorization"]) {
			return refuse(http.StatusForbidden, "Forbidden", "the route is an operator's, whom AWS IAM knows, and here the token that is printed at the start")
		}
		event.RequestContext.Authorizer = &events.APIGatewayV2HTTPRequestContextAuthorizerDescription{
			IAM: &events.APIGatewayV2HTTPRequestContextAuthorizerIAMDescription{
				AccessKey: "AKIALOCAL", AccountID: account, CallerID: "AIDALOCAL", UserID: "AIDALOCAL",
				UserARN: fmt.Sprintf("arn:%s:iam::%s:user/local", partition, account),
			},
		}
	}
	g.lambda.use(rt.function)
	o := g.lambda.invoke(ctx, rt.function, event.Headers["x-amzn-trace-id"], mustMarshal(event))
	var a *answer
	switch {
	case errors.Is(o.err, context.DeadlineExceeded):
		a = refuse(http.StatusServiceUnavailable, "Service Unavailable", fmt.Sprintf("no answer within %v", g.config.integrationTimeout))
	case errors.Is(o.err, errTooLarge):
		a = refuse(http.StatusRequestEntityTooLarge, "Request Entity Too Large", o.err.Error())
	case o.err != nil:
		a = internalError(o.err.Error())
	default:
		if a, err = readResponse(o.response); err != nil {
			a = internalError(err.Error())
		}
	}
	a.function, a.pid, a.cold = rt.function, o.pid, o.cold
	if o.pid != 0 {
		spans = append(spans, o.span)
	}
	a.spans = spans
	return a
}

// isOperator reports whether the header has the operator's token.
func (g *Gateway) isOperator(header string) bool {
	scheme, token, _ := strings.Cut(header, " ")
	return g.config.OperatorToken != "" && strings.EqualFold(scheme, "bearer") &&
		subtle.ConstantTimeCompare([]byte(token), []byte(g.config.OperatorToken)) == 1
}

// authorize asks the authorizer of the route. It returns the context that the
// authorizer gives the caller, or the error answer if the caller may not pass, and the
// invocation, unless the answer was known.
func (g *Gateway) authorize(ctx context.Context, s *stage, rt *route, event *events.APIGatewayV2HTTPRequest) (caller map[string]any, refusal *answer, asked *span) {
	authorizer := rt.authorizer
	var identity []string
	for _, name := range authorizer.headers {
		if event.Headers[name] == "" {
			return nil, refuse(http.StatusUnauthorized, "Unauthorized", "there is no header "+name), nil
		}
		identity = append(identity, event.Headers[name])
	}
	key := strings.Join(identity, "\x00") // no header holds this byte
	a, known := s.caches[authorizer].get(key)
	if !known {
		g.lambda.use(authorizer.function)
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
		if o.pid != 0 {
			asked = &o.span
		}
		if o.err != nil {
			return nil, internalError("the authorizer failed: " + o.err.Error()), asked
		}
		var response struct {
			IsAuthorized *bool          `json:"isAuthorized"`
			Context      map[string]any `json:"context"`
		}
		decoder := json.NewDecoder(strings.NewReader(string(o.response)))
		decoder.UseNumber()
		if err := decoder.Decode(&response); err != nil || response.IsAuthorized == nil {
			return nil, internalError(authorizer.function.id + `: the response is not {"isAuthorized": true or false, "context": {...}}`), asked
		}
		a = authorization{*response.IsAuthorized, response.Context, time.Now().Add(authorizer.ttl)}
		if authorizer.ttl > 0 {
			s.caches[authorizer].put(key, a)
		}
	}
	if !a.allow {
		reason, _ := a.context["reason"].(string)
		return nil, refuse(http.StatusForbidden, "Forbidden", cmp.Or(reason, "the authorizer refused")), asked
	}
	return a.context, nil, asked
}

// match returns the most specific route for a request and the values of its path
// parameters. best is nil if there is no route.
func (s *stage) match(method, path string) (best *route, parameters map[string]string) {
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

// match returns the values of the route's path parameters, or nil if the path
// does not match. The route with the lowest rank is the most specific: literals
// come before {name}, and {name} before {name+}.
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

// decodePath decodes a path that net/http has decoded once, as HTTP APIs do: a
// question mark ends it, and the rest is decoded once more. The cases are from
// https://github.com/hotsock/voker, vokerhttp/testdata/ingress-paths.json.
func decodePath(path string) (string, bool) {
	path, _, _ = strings.Cut(path, "?")
	path, err := url.PathUnescape(path)
	return path, err == nil
}

// headerSize returns the size in bytes of the request line and the headers.
func headerSize(r *http.Request) int {
	n := len(r.Method) + len(r.RequestURI) + len(r.Proto) + len("Host: ") + len(r.Host)
	for name, values := range r.Header {
		for _, v := range values {
			n += len(name) + len(": ") + len(v)
		}
	}
	return n
}

// set adds the CORS headers to h if the origin of the request r is allowed.
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

// mustMarshal returns v as JSON.
func mustMarshal(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // can't happen: strings, maps of strings, and decoded JSON
	}
	return b
}

// newRequestID returns a request ID that looks like those of API Gateway.
func newRequestID() string {
	var b [11]byte
	rand.Read(b[:])
	return base64.URLEncoding.EncodeToString(b[:])
}
