// Package trace tells AWS X-Ray what a function does while it handles an event: which commands it
// sends to the database, and how long each takes. It needs no agent and no SDK: one message over UDP to
// the daemon that Lambda runs beside the function, and nothing at all for events that are not sampled.
//
// The parts are those of the process, since Lambda gives a process one event at a time.
package trace

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"net"
	"os"
	"strings"
	"sync"
	"time"
)

var (
	mu    sync.Mutex
	event current

	daemon net.Conn // nil before the first message
)

// current is the event that is being handled.
type current struct {
	root, parent string // "" if it is not sampled
	began        time.Time
	parts        []segment
}

// segment is a subsegment of X-Ray.
// https://docs.aws.amazon.com/xray/latest/devguide/xray-api-segmentdocuments.html
type segment struct {
	TraceID     string            `json:"trace_id,omitempty"`
	ID          string            `json:"id"`
	ParentID    string            `json:"parent_id,omitempty"`
	Type        string            `json:"type,omitempty"`
	Name        string            `json:"name"`
	Start       float64           `json:"start_time"` // seconds since 1970
	End         float64           `json:"end_time"`
	Fault       bool              `json:"fault,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
	Segments    []segment         `json:"subsegments,omitempty"`
}

// Begin begins an event. Whether it is sampled, Lambda says in _X_AMZN_TRACE_ID.
func Begin() {
	mu.Lock()
	defer mu.Unlock()
	event = current{began: time.Now()}
	header := os.Getenv("_X_AMZN_TRACE_ID")
	if !strings.Contains(header, "Sampled=1") {
		return
	}
	for field := range strings.SplitSeq(header, ";") {
		switch key, value, _ := strings.Cut(field, "="); key {
		case "Root":
			event.root = value
		case "Parent":
			event.parent = value
		}
	}
}

// ID returns the trace's id, or "" if the event is not sampled.
func ID() string {
	mu.Lock()
	defer mu.Unlock()
	return event.root
}

// Add adds a part that has just ended. It does nothing if the event is not sampled.
func Add(name string, took time.Duration, failed bool) {
	mu.Lock()
	defer mu.Unlock()
	if event.root == "" {
		return
	}
	end := time.Now()
	event.parts = append(event.parts, segment{ID: newID(), Name: name, Start: seconds(end.Add(-took)), End: seconds(end), Fault: failed})
}

// End sends the parts as those of the event, with a name and the gateway's id of the request, by which a
// trace is found from a line of a log. It does nothing if the event is not sampled.
func End(name, gatewayID string) {
	mu.Lock()
	defer mu.Unlock()
	address := os.Getenv("AWS_XRAY_DAEMON_ADDRESS")
	if event.root == "" || address == "" {
		return
	}
	document, err := json.Marshal(segment{
		TraceID: event.root, ID: newID(), ParentID: event.parent, Type: "subsegment",
		Name:  braces.Replace(name),
		Start: seconds(event.began), End: seconds(time.Now()),
		Annotations: map[string]string{"gateway_request_id": gatewayID},
		Segments:    event.parts,
	})
	event.root = ""
	if err != nil {
		return
	}
	if daemon == nil {
		if daemon, err = net.Dial("udp", address); err != nil {
			daemon = nil
			return
		}
	}
	// If the message is lost, so is the trace, and nothing else.
	daemon.Write(append([]byte("{\"format\":\"json\",\"version\":1}\n"), document...))
}

// braces replaces what may not be in the name of a segment, {id} by :id.
var braces = strings.NewReplacer("{", ":", "}", "")

func seconds(t time.Time) float64 { return float64(t.UnixMicro()) / 1e6 }

func newID() string {
	var b [8]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}
