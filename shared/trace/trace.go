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
	fields := map[string]string{}
	for field := range strings.SplitSeq(os.Getenv("_X_AMZN_TRACE_ID"), ";") {
		key, value, _ := strings.Cut(field, "=")
		fields[key] = value
	}
	// It may have come from a client.
	if fields["Sampled"] == "1" && isRoot(fields["Root"]) && isHex(fields["Parent"], 16) {
		event.root, event.parent = fields["Root"], fields["Parent"]
	}
}

// isRoot reports whether s is a trace id, such as 1-5759e988-bd862e3fe1be46a994272793.
func isRoot(s string) bool {
	return len(s) == 35 && s[:2] == "1-" && isHex(s[2:10], 8) && s[10] == '-' && isHex(s[11:], 24)
}

func isHex(s string, digits int) bool {
	return len(s) == digits && strings.Trim(s, "0123456789abcdef") == ""
}

// ID returns the trace's id, or "" if the event is not sampled.
func ID() string {
	mu.Lock()
	defer mu.Unlock()
	return event.root
}

// maxParts is how many parts of an event are kept: a message has 64 KiB at most.
const maxParts = 400

// Add adds a part that has just ended. It does nothing if the event is not sampled.
func Add(name string, took time.Duration, failed bool) {
	mu.Lock()
	defer mu.Unlock()
	if event.root == "" || len(event.parts) == maxParts {
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
	ended := event
	event = current{}
	address := os.Getenv("AWS_XRAY_DAEMON_ADDRESS")
	if ended.root == "" || address == "" {
		return
	}
	document, err := json.Marshal(segment{
		TraceID: ended.root, ID: newID(), ParentID: ended.parent, Type: "subsegment",
		Name:  braces.Replace(name),
		Start: seconds(ended.began), End: seconds(time.Now()),
		Annotations: map[string]string{"gateway_request_id": gatewayID},
		Segments:    ended.parts,
	})
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
