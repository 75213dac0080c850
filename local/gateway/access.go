package gateway

import (
	"encoding/json"
	"fmt"
	"net/http"
	"path"
	"slices"
	"strings"
	"time"
	"unicode"
)

// LogStyle is the form of the access log.
type LogStyle int

// The styles of the access log.
const (
	LogJSON  LogStyle = iota // one JSON object for each request
	LogText                  // one line for each request, for people
	LogColor                 // the same, on a terminal that has colours
)

// access is what the access log says about a request. It leaves out the query and
// the headers: they may hold secrets.
type access struct {
	Time     time.Time `json:"time"`
	Method   string    `json:"method"`
	Path     string    `json:"path"`
	Status   int       `json:"status"`
	Millis   float64   `json:"duration_ms"`
	Function string    `json:"function,omitempty"` // the one that answered
	PID      int       `json:"pid,omitempty"`      // of its process
	Start    string    `json:"start,omitempty"`    // "cold": it was the first event of the process; or "warm"
	// RequestID is the X-Request-Id of the answer. The gateway's own answers have
	// none: there it is Apigw-Requestid, which GatewayID is if the two differ.
	RequestID string `json:"request_id"`
	GatewayID string `json:"gateway_request_id,omitempty"`
	Reason    string `json:"reason,omitempty"` // why the status is 400 or higher
}

// newAccess describes the request r, which got the answer a. id is the request ID
// of the gateway.
func newAccess(r *http.Request, a *answer, start time.Time, id string) access {
	e := access{
		Time: start, Method: r.Method, Path: r.URL.EscapedPath(), Status: a.status,
		Millis:    float64(time.Since(start).Round(10*time.Microsecond)) / float64(time.Millisecond),
		RequestID: id, Reason: a.reason,
	}
	if own := a.header.Get("X-Request-Id"); own != "" && own != id {
		e.RequestID, e.GatewayID = own, id
	}
	if a.pid != 0 {
		e.Function, e.PID, e.Start = a.function.binary(), a.pid, "warm"
		if a.cold {
			e.Start = "cold"
		}
	}
	if e.Reason == "" && a.status >= 400 {
		e.Reason = problemReason(a)
	}
	return e
}

// line returns the line of the log, without its end.
func (e access) line(style LogStyle) string {
	if style == LogJSON {
		return escaped(mustMarshal(e))
	}
	function := "-"
	if e.Function != "" {
		function = fmt.Sprintf("%s[%d] %s", e.Function, e.PID, e.Start)
	}
	ids := e.RequestID
	if e.GatewayID != "" {
		ids += " (" + e.GatewayID + ")"
	}
	status := fmt.Sprint(e.Status)
	if style == LogColor {
		status = color(e.Status) + status + "\x1b[0m"
	}
	line := fmt.Sprintf("%s %s %s %s %.1fms %s %s", e.Time.Format("15:04:05.000"), e.Method, e.Path, status, e.Millis, function, printable(ids))
	if e.Reason != "" {
		line += ": " + printable(e.Reason)
	}
	return line
}

// color returns the escape sequence of the colour for a status.
func color(status int) string {
	switch {
	case status >= 500:
		return "\x1b[31m" // red
	case status >= 400:
		return "\x1b[33m" // yellow
	}
	return "\x1b[32m" // green
}

// maxReason is the most characters of a reason that the log shows.
const maxReason = 500

// printable returns s on one line, without what could control a terminal.
func printable(s string) string {
	s = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, s)
	if runes := []rune(s); len(runes) > maxReason {
		s = string(runes[:maxReason]) + " …"
	}
	return s
}

// escaped returns a line of JSON in which the characters that control a terminal or
// the direction of writing are escaped. Encoders escape only those of ASCII.
func escaped(line []byte) string {
	var b strings.Builder
	for _, r := range string(line) {
		if r != '\t' && unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) {
			fmt.Fprintf(&b, `\u%04x`, r)
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}

// problemReason returns the detail of a problem document (RFC 9457), or "" if the
// answer is none. It leaves out the fields and parameters of the problems that name
// unknown ones: such a name may be a secret in the wrong place.
func problemReason(a *answer) string {
	if !strings.HasPrefix(a.header.Get("Content-Type"), "application/problem+json") {
		return ""
	}
	var problem struct {
		Type, Detail string
		Errors       []struct{}
	}
	if json.Unmarshal(a.body, &problem) != nil {
		return ""
	}
	switch path.Base(problem.Type) {
	case "invalid-parameters", "malformed-request":
		if len(problem.Errors) > 0 {
			problem.Detail, _, _ = strings.Cut(problem.Detail, ": ")
		}
	}
	return problem.Detail
}

// noRoute says why there is no route for a request.
func (s *stage) noRoute(method, path string) string {
	var methods, paths []string
	segments := strings.Split(path, "/")[1:]
	for _, rt := range s.routes {
		if values, _ := rt.match(segments); values != nil {
			methods = append(methods, rt.method)
		}
		paths = append(paths, rt.path())
	}
	if methods != nil {
		slices.Sort(methods)
		return strings.Join(slices.Compact(methods), ", ") + " only"
	}
	closest := Closest(path, paths)
	if closest == "" {
		return "no such route"
	}
	var found *route
	for _, rt := range s.routes {
		if rt.path() == closest && (found == nil || rt.method == method) {
			found = rt
		}
	}
	return "no such route: did you mean " + found.key + "?"
}

func (rt *route) path() string { return "/" + strings.Join(rt.segments, "/") }
