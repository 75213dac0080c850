package metrics

import (
	"bytes"
	"encoding/json"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// line is a line in the embedded metric format.
type line struct {
	AWS struct {
		Timestamp         int64
		CloudWatchMetrics []directive
	} `json:"_aws"`
	members map[string]any
}

func written(t *testing.T, dimensions map[string]string) line {
	t.Helper()
	var out bytes.Buffer
	write(&out, "service", "WARN", dimensions)
	var l line
	if out.Len() == 0 {
		return l
	}
	if text, ok := bytes.CutSuffix(out.Bytes(), []byte("\n")); !ok || bytes.Contains(text, []byte("\n")) {
		t.Fatalf("not one line: %q", out.Bytes())
	}
	if err := json.Unmarshal(out.Bytes(), &l); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(out.Bytes(), &l.members); err != nil {
		t.Fatal(err)
	}
	return l
}

// TestWrite checks what is written by the specification: each metric and each dimension is a
// member of the root.
func TestWrite(t *testing.T) {
	Begin()
	if l := written(t, nil); l.members["ColdStart"] == nil {
		t.Errorf("the first event has no ColdStart: %v", l.members)
	}

	Begin()
	Add(Problems, 1)
	Add(DatabaseCommands, 1)
	Add(DatabaseCommands, 1)
	Time(DatabaseTime, 1500*time.Microsecond)
	Time(Latency, 20*time.Millisecond)
	Add(OldestUnfinished, 0)
	before := time.Now()
	l := written(t, map[string]string{"Route": "GET /org/get", "Reason": "organization-not-found"})
	want := []directive{
		{"service", [][]string{{}, {"Route"}}, []metric{{"Latency", "Milliseconds"}}},
		{"service", [][]string{{}, {"Reason"}}, []metric{{"Problems", "Count"}}},
		{"service", [][]string{{}}, []metric{{"DatabaseCommands", "Count"}, {"DatabaseTime", "Milliseconds"}, {"OldestUnfinished", "Seconds"}}},
	}
	if diff := cmp.Diff(want, l.AWS.CloudWatchMetrics); diff != "" {
		t.Errorf("directives (-want +got):\n%s", diff)
	}
	if at := time.UnixMilli(l.AWS.Timestamp); at.Before(before.Truncate(time.Millisecond)) || at.After(time.Now()) {
		t.Errorf("the time is %v", at)
	}
	delete(l.members, "_aws")
	if _, err := time.Parse(time.RFC3339, l.members["timestamp"].(string)); err != nil {
		t.Error(err)
	}
	delete(l.members, "timestamp")
	if diff := cmp.Diff(map[string]any{
		"level": "WARN", "message": "metrics", "Route": "GET /org/get", "Reason": "organization-not-found",
		"Latency": 20.0, "Problems": 1.0, "DatabaseCommands": 2.0, "DatabaseTime": 1.5, "OldestUnfinished": 0.0,
	}, l.members); diff != "" {
		t.Errorf("members (-want +got):\n%s", diff)
	}

	Begin()
	if l := written(t, nil); l.members != nil {
		t.Errorf("an event without metrics has %v", l.members)
	}
}

// TestDefinitions checks that CloudWatch knows the units, and that no name is that of
// another member.
func TestDefinitions(t *testing.T) {
	names := []string{"_aws", "level", "timestamp", "message"}
	for m, d := range Definitions {
		if d.Name == "" || d.Meaning == "" || !slices.Contains([]string{"Count", "Milliseconds", "Seconds"}, d.Unit) {
			t.Errorf("metric %d is %+v", m, d)
		}
		if slices.Contains(names, d.Name) {
			t.Errorf("there are two %s", d.Name)
		}
		names = append(names, d.Name)
	}
	for _, d := range Definitions {
		if d.Dimension != "" && slices.Contains(names, d.Dimension) {
			t.Errorf("the dimension %s has the name of another member", d.Dimension)
		}
	}
}
