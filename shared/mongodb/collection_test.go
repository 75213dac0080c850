package mongodb

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.mongodb.org/mongo-driver/v2/mongo"
)

// TestIsPlain tests isPlain on what MongoDB's documentation says it lists. The
// embedded database has neither views nor time series.
func TestIsPlain(t *testing.T) {
	specs := []mongo.CollectionSpecification{
		{Name: "organizations", Type: "collection"},
		{Name: "org_acme", Type: "collection"},
		{Name: "org_view", Type: "view", ReadOnly: true},
		{Name: "metrics", Type: "timeseries"},
		{Name: "system.views", Type: "collection"},
		{Name: "system.buckets.metrics", Type: "collection"},
		{Name: "systems", Type: "collection"},
	}
	var got []string
	for _, spec := range specs {
		if isPlain(spec) {
			got = append(got, spec.Name)
		}
	}
	if diff := cmp.Diff([]string{"organizations", "org_acme", "systems"}, got); diff != "" {
		t.Errorf("plain collections (-want +got):\n%s", diff)
	}
}
