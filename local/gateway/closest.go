package gateway

import (
	"strings"

	"github.com/agnivade/levenshtein"
)

// Closest returns the one of words that a person who wrote word may have meant,
// or "" if none is similar.
func Closest(word string, words []string) (closest string) {
	best := max(2, len(word)/4) + 1
	for _, w := range words {
		if d := levenshtein.ComputeDistance(strings.ToLower(word), strings.ToLower(w)); d < best && d < len(w) {
			closest, best = w, d
		}
	}
	return closest
}
