// Package metrics counts and times what a function does while it handles an event, and writes
// that as one line from which CloudWatch makes metrics.
//
// The counts are those of the process, since Lambda gives a process one event at a time.
package metrics

import (
	"encoding/json"
	"io"
	"os"
	"sync"
	"time"
)

// Metric is a number that is counted or timed.
type Metric int

const (
	Latency Metric = iota
	ColdStart
	Problems
	Faults
	Throttled
	TokensRefused
	TurnedAway
	DatabaseCommands
	DatabaseTime
	DatabaseFailures
	HashTime
	Finished
	Undone
	Repaired
	Removed
	Purged
	NeedsAttention
	Unfinished
	OldestUnfinished
	Connections
	Collections
)

// Units of CloudWatch.
const (
	count        = "Count"
	milliseconds = "Milliseconds"
	seconds      = "Seconds"
)

// Definition is what a metric is.
type Definition struct {
	Name      string // in CloudWatch
	Unit      string
	Dimension string // by which there is one each, besides that of the service; "" is none
	Meaning   string
}

// Definitions has all metrics. Each with a dimension costs as much as one for every value that
// occurs in an hour, so there are few.
var Definitions = [...]Definition{
	Latency:          {"Latency", milliseconds, "Route", "time that a request took in its function; there are as many samples as requests"},
	ColdStart:        {"ColdStart", milliseconds, "", "time from the start of a process to its first event; as many samples as cold starts"},
	Problems:         {"Problems", count, "Reason", "answers that are a problem document, by the end of its type"},
	Faults:           {"Faults", count, "", "answers from 500 on: the service or the database is at fault"},
	Throttled:        {"Throttled", count, "", "answers 429 of the functions"},
	TokensRefused:    {"TokensRefused", count, "", "access tokens that the authorizer refused"},
	TurnedAway:       {"TurnedAway", count, "", "events that no handler got: requests that can't be read, or have not come through the edge"},
	DatabaseCommands: {"DatabaseCommands", count, "", "commands to the database, in an event that sent any"},
	DatabaseTime:     {"DatabaseTime", milliseconds, "", "how long these commands took in all; some run at once"},
	DatabaseFailures: {"DatabaseFailures", count, "", "of these commands, those that failed; the driver sends most of them once more"},
	HashTime:         {"HashTime", milliseconds, "", "time for bcrypt, in an event that had any"},
	Finished:         {"Finished", count, "", "interrupted operations that reconcile completed"},
	Undone:           {"Undone", count, "", "interrupted operations that reconcile undid"},
	Repaired:         {"Repaired", count, "", "collections whose name or id reconcile put right"},
	Removed:          {"Removed", count, "", "claims, admins, memberships and empty collections without an organization that reconcile removed"},
	Purged:           {"Purged", count, "", "deleted organizations whose grace was over"},
	NeedsAttention:   {"NeedsAttention", count, "", "findings of reconcile that a person must look at"},
	Unfinished:       {"Unfinished", count, "", "interrupted operations that reconcile found"},
	OldestUnfinished: {"OldestUnfinished", seconds, "", "age of the oldest of them; 0 if there is none"},
	Connections:      {"Connections", count, "", "connections of all clients to the database's primary, each minute, if the database's user may know (role clusterMonitor)"},
	Collections:      {"Collections", count, "", "collections of the database, each hour"},
}

var (
	started = time.Now()

	mu     sync.Mutex
	values [len(Definitions)]float64
	seen   [len(Definitions)]bool
	start  time.Duration // from started to the first event
	first  = true        // start is not written yet
)

// Begin forgets what was counted before an event. Until a line is written, the time to the
// first event is counted again.
func Begin() {
	mu.Lock()
	defer mu.Unlock()
	seen = [len(Definitions)]bool{}
	values = [len(Definitions)]float64{}
	if start == 0 {
		start = time.Since(started)
	}
	if first {
		values[ColdStart], seen[ColdStart] = float64(start)/float64(time.Millisecond), true
	}
}

// Add adds to a metric in its unit.
func Add(m Metric, value float64) {
	mu.Lock()
	defer mu.Unlock()
	values[m] += value
	seen[m] = true
}

// Time adds a time to a metric in milliseconds.
func Time(m Metric, d time.Duration) { Add(m, float64(d)/float64(time.Millisecond)) }

// directive says which members of a line are metrics.
type directive struct {
	Namespace  string
	Dimensions [][]string
	Metrics    []metric
}

type metric struct{ Name, Unit string }

// Write writes what was counted since [Begin] to standard output, if METRICS_NAMESPACE is set.
// The values are those of the dimensions that the metrics have. CloudWatch's embedded metric
// format is in
// https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html
func Write(dimensions map[string]string) {
	if namespace := os.Getenv("METRICS_NAMESPACE"); namespace != "" {
		write(os.Stdout, namespace, os.Getenv("AWS_LAMBDA_LOG_LEVEL"), dimensions)
	}
}

func write(w io.Writer, namespace, level string, dimensions map[string]string) {
	mu.Lock()
	defer mu.Unlock()
	now := time.Now()
	line := map[string]any{
		// Lambda drops lines below the level that is set for the function.
		"level": level, "timestamp": now.UTC().Format(time.RFC3339Nano), "message": "metrics",
	}
	byDimension := map[string]*directive{}
	var directives []*directive
	for m, d := range Definitions {
		if !seen[m] {
			continue
		}
		line[d.Name] = values[m]
		if d.Dimension != "" {
			line[d.Dimension] = dimensions[d.Dimension]
		}
		at := byDimension[d.Dimension]
		if at == nil {
			at = &directive{Namespace: namespace, Dimensions: [][]string{{}}}
			if d.Dimension != "" {
				at.Dimensions = append(at.Dimensions, []string{d.Dimension})
			}
			byDimension[d.Dimension] = at
			directives = append(directives, at)
		}
		at.Metrics = append(at.Metrics, metric{d.Name, d.Unit})
	}
	if len(directives) == 0 {
		return
	}
	line["_aws"] = map[string]any{"Timestamp": now.UnixMilli(), "CloudWatchMetrics": directives}
	text, err := json.Marshal(line)
	if err == nil {
		w.Write(append(text, '\n'))
		first = false
	}
}
