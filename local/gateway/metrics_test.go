package gateway

import (
	"strings"
	"testing"
)

// TestMetricsOfLines checks which lines of a function are metrics, and that no name can write
// other lines of the text format.
func TestMetricsOfLines(t *testing.T) {
	var m metrics
	for line, want := range map[string]bool{
		`{"_aws":{"CloudWatchMetrics":[{"Dimensions":[[],["Route"]],"Metrics":[{"Name":"Latency","Unit":"Milliseconds"}]}]},"Latency":2.5,"Route":"GET /a\"b"}`:         true,
		`{"_aws":{"CloudWatchMetrics":[{"Dimensions":[[],["Route"]],"Metrics":[{"Name":"Latency","Unit":"Milliseconds"}]}]},"Latency":1.5,"Route":"GET /a\"b"}`:         true,
		`{"_aws":{"CloudWatchMetrics":[{"Dimensions":[[]],"Metrics":[{"Name":"Evil 1\nup 1\n#","Unit":"Count"},{"Name":"Faults","Unit":"Count"}]}]},"Faults":1,"up":1}`: true,
		`{"level":"INFO","message":"request","user_agent":"\"CloudWatchMetrics\""}`:                                                                                     false,
		`{"message":"CloudWatchMetrics"}`: false,
		`{"CloudWatchMetrics":[]}`:        false,
		`"CloudWatchMetrics"`:             false,
	} {
		if got := m.take([]byte(line)); got != want {
			t.Errorf("%s: %v", line, got)
		}
	}
	var b strings.Builder
	m.writePrometheus(&b)
	const want = "# TYPE orgservice_faults summary\norgservice_faults_sum 1\norgservice_faults_count 1\n" +
		"# TYPE orgservice_latency_milliseconds summary\n" +
		"orgservice_latency_milliseconds_sum{route=\"GET /a\\\"b\"} 4\norgservice_latency_milliseconds_count{route=\"GET /a\\\"b\"} 2\n"
	if b.String() != want {
		t.Errorf("%s\nwant\n%s", b.String(), want)
	}
}
