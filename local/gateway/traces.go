package gateway

import (
	"bytes"
	"cmp"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"
)

// tracesPath is where the gateway shows the last requests, unless the API has such a route.
const tracesPath = "/traces"

// maxTraces is how many requests are kept.
const maxTraces = 50

// span is an invocation for a request.
type span struct {
	function string
	id       string // of X-Ray: what the function sends has it as its parent
	asked    time.Time
	began    time.Time // when a process got the event
	ended    time.Time
}

// segment is what a function sends to the daemon of X-Ray.
type segment struct {
	ParentID string    `json:"parent_id"`
	Name     string    `json:"name"`
	Start    float64   `json:"start_time"` // seconds since 1970
	End      float64   `json:"end_time"`
	Fault    bool      `json:"fault"`
	Segments []segment `json:"subsegments"`
}

// traces stands for the daemon of X-Ray, and keeps the last requests.
type traces struct {
	conn net.PacketConn

	mu       sync.Mutex
	requests []traced  // the oldest first
	segments []segment // of functions, the oldest first
}

type traced struct {
	access access
	spans  []span
}

func newTraces() (*traces, error) {
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	t := &traces{conn: conn}
	go t.receive()
	return t, nil
}

func (t *traces) address() string { return t.conn.LocalAddr().String() }

func (t *traces) close() { t.conn.Close() }

// receive keeps what functions send, until close.
func (t *traces) receive() {
	message := make([]byte, 64<<10)
	for {
		n, _, err := t.conn.ReadFrom(message)
		if err != nil {
			return
		}
		_, document, _ := bytes.Cut(message[:n], []byte("\n")) // behind the format and its version
		var s segment
		if json.Unmarshal(document, &s) != nil {
			continue
		}
		slices.SortStableFunc(s.Segments, func(a, b segment) int { return cmp.Compare(a.Start, b.Start) })
		t.mu.Lock()
		t.segments = keep(t.segments, s)
		t.mu.Unlock()
	}
}

// add keeps a request.
func (t *traces) add(a access, spans []span) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.requests = keep(t.requests, traced{a, spans})
}

// keep appends an element, and drops the oldest if there are too many.
func keep[T any](all []T, next T) []T {
	if len(all) == maxTraces {
		all = slices.Delete(all, 0, 1)
	}
	return append(all, next)
}

// ServeHTTP answers with the last requests as text, the newest first.
func (t *traces) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	t.mu.Lock()
	requests, segments := slices.Clone(t.requests), slices.Clone(t.segments)
	t.mu.Unlock()
	fmt.Fprintf(w, "the last %d requests: when each part began and how long it took, in ms\n", len(requests))
	for _, r := range slices.Backward(requests) {
		r.write(w, segments)
	}
}

// write writes a request as a waterfall, with the segments that are its own.
func (r traced) write(w io.Writer, segments []segment) {
	fmt.Fprintf(w, "\n%s\n", r.access.line(LogText))
	line := func(depth int, name string, start, end time.Time) {
		from, took := start.Sub(r.access.Time), end.Sub(start)
		name = strings.Repeat("  ", depth) + name
		fmt.Fprintf(w, "%8.1f %8.1f  %s%s |%s\n", millis(from), millis(took), name, strings.Repeat(" ", max(0, 32-utf8.RuneCountInString(name))), bar(millis(from), millis(took), r.access.Millis))
	}
	for _, s := range r.spans {
		if s.began.Sub(s.asked) > time.Millisecond {
			line(0, "start of "+s.function, s.asked, s.began)
		}
		line(0, s.function, s.began, s.ended)
		for _, g := range segments {
			if g.ParentID != s.id {
				continue
			}
			for _, part := range g.Segments {
				name := printable(part.Name)
				if part.Fault {
					name += " failed"
				}
				line(1, name, unix(part.Start), unix(part.End))
			}
		}
	}
}

func millis(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

func unix(seconds float64) time.Time { return time.UnixMicro(int64(seconds * 1e6)) }

// bar returns a bar from and of a length in a request of so many ms.
func bar(from, took, all float64) string {
	const width = 50
	if all <= 0 {
		return ""
	}
	column := func(ms float64) int { return min(max(int(ms/all*width), 0), width) }
	start := min(column(from), width-1)
	return strings.Repeat(" ", start) + strings.Repeat("█", max(1, column(from+took)-start))
}

// newSegmentID returns a new id of a segment of X-Ray.
func newSegmentID() string {
	var b [8]byte
	rand.Read(b[:])
	return fmt.Sprintf("%x", b)
}
