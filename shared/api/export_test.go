package api

import "strings"

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
