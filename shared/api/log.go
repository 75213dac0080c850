package api

import (
	"context"
	"log/slog"
	"net/http"
	"time"

	"orgservice/shared/metrics"
	"orgservice/shared/trace"
)

// requestIDs are what the log lines of a request have in common.
type requestIDs struct {
	answered string // X-Request-Id of the answer
	gateway  string // in the access log of the gateway
}

type requestIDsKey struct{}

// withRequestIDs returns a context whose log lines have the ids.
func withRequestIDs(ctx context.Context, ids requestIDs) context.Context {
	return context.WithValue(ctx, requestIDsKey{}, ids)
}

// requestLog adds the request's ids to what is logged while it is served. Lambda's own
// handler adds only Lambda's.
type requestLog struct{ slog.Handler }

func (l requestLog) Handle(ctx context.Context, r slog.Record) error {
	if ids, ok := ctx.Value(requestIDsKey{}).(requestIDs); ok {
		r.AddAttrs(slog.String("request_id", ids.answered), slog.String("gateway_request_id", ids.gateway))
		if id := trace.ID(); id != "" {
			r.AddAttrs(slog.String("trace_id", id))
		}
	}
	return l.Handler.Handle(ctx, r)
}

func (l requestLog) WithAttrs(attrs []slog.Attr) slog.Handler {
	return requestLog{l.Handler.WithAttrs(attrs)}
}

func (l requestLog) WithGroup(name string) slog.Handler {
	return requestLog{l.Handler.WithGroup(name)}
}

// logRequest writes one line about the request: who sent it from where, and why it was
// refused, with the reason at the end of the problem's type. Its level is ERROR if the service is at fault, WARN if the database can't be
// reached, otherwise INFO. The path is that of the route: nothing of the path, the query or
// the body that the client has sent is there, where secrets may be.
func logRequest(r *http.Request, path string, status int, duration time.Duration, reason string, err error) {
	level := slog.LevelInfo
	switch {
	case status == http.StatusServiceUnavailable:
		level = slog.LevelWarn
	case status >= 500:
		level = slog.LevelError
	}
	attrs := []any{
		"method", r.Method, "path", path, "status", status, "duration_ms", duration.Milliseconds(),
		"source_ip", clientAddress(r), "user_agent", userAgent(r),
	}
	// The authorizer has verified the token, whatever the service thinks of it now.
	if caller, err := callerOf(r); err == nil {
		attrs = append(attrs, "admin_id", caller.AdminID, "organization_id", caller.OrganizationID, "session_id", caller.SessionID)
	}
	if by, err := operatorOf(r); err == nil {
		attrs = append(attrs, "operator", by)
		if id := operatedID(r); isID(id) {
			attrs = append(attrs, "organization_id", id)
		}
	}
	if err != nil {
		attrs = append(attrs, "reason", reason, "error", withoutNames(err))
	}
	slog.Log(r.Context(), level, "request", attrs...)
}

// measure writes the metrics of a request.
func measure(e *row, status int, took time.Duration, reason string) {
	metrics.Time(metrics.Latency, took)
	if reason != "" {
		metrics.Add(metrics.Problems, 1)
	}
	if status >= 500 {
		metrics.Add(metrics.Faults, 1)
	}
	if status == http.StatusTooManyRequests {
		metrics.Add(metrics.Throttled, 1)
	}
	metrics.Write(map[string]string{"Route": e.method + " " + e.path, "Reason": reason})
}
