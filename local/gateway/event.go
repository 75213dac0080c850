package gateway

import (
	"cmp"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/aws/aws-lambda-go/events"
)

// newEvent returns the event of payload format 2.0 for a request, without path
// parameters and authorizer. path is the decoded path.
func newEvent(r *http.Request, s *stage, rt *route, path string, start time.Time, id string, body []byte) *events.APIGatewayV2HTTPRequest {
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

// isText tells whether a body of this type is sent to functions as text and not
// in base64.
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

// queryParameters returns the parameters of a query, or nil if there are none. If
// a name has several values, they are joined with commas.
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

// unescape decodes a part of a query. It returns s itself if s is malformed.
func unescape(s string) string {
	if decoded, err := url.QueryUnescape(s); err == nil {
		return decoded
	}
	return s
}

// readResponse returns the answer that a function's response stands for. If the
// response has no statusCode, it is the body, with status 200.
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
	json.Unmarshal(response, &keys) // keys stays empty if it is not an object
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
		json.Unmarshal(raw, &value) // it is valid, since the whole response is
		switch value := value.(type) {
		case string:
			a.header.Set(name, value)
		case float64, bool:
			a.header.Set(name, string(raw))
		default:
			return nil, fmt.Errorf("the header %s of the response is not a string", name)
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
			return nil, fmt.Errorf("the body of the response is not base64: %w", err)
		}
	}
	return a, nil
}

// newTrace returns a new X-Ray trace ID, as it is in a header.
func newTrace() string {
	var b [12]byte
	rand.Read(b[:])
	return fmt.Sprintf("Root=1-%08x-%x", time.Now().Unix(), b)
}
