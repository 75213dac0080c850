package api

import (
	"log/slog"
	"strings"
)

// Guarded returns the function behind an edge whose secret has the hash.
func Guarded(hash string, f lambdaFunction) lambdaFunction {
	e, err := newEdge(hash)
	if err != nil {
		panic(err)
	}
	return e.guard(f)
}

// RequestLog returns the log handler of Serve, which writes to h.
func RequestLog(h slog.Handler) slog.Handler { return requestLog{h} }

// StatusOfProblem returns the status that problemTypes has for the type of a
// problem; 0 if it does not have the type.
func StatusOfProblem(problemURI string) int {
	for _, p := range problemTypes {
		if reason, ok := strings.CutPrefix(problemURI, problemPath); ok && reason == string(p.reason) {
			return p.status
		}
	}
	return 0
}
