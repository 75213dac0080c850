package trace_test

import (
	"encoding/json"
	"net"
	"strings"
	"testing"
	"time"

	"orgservice/shared/trace"
)

// TestTrace sends traces to a daemon. Only those of sampled events may arrive.
func TestTrace(t *testing.T) {
	daemon, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer daemon.Close()
	t.Setenv("AWS_XRAY_DAEMON_ADDRESS", daemon.LocalAddr().String())
	for _, header := range []string{
		"",
		"Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=0",
		"Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=10",
		"Root=1-5759e988-bd862e3fe1be46a994272793;Sampled=1",
		"Root=mail@victim.example;Parent=53995c3f42cd8ad8;Sampled=1",
		"Root=1-5759e988-bd862e3fe1be46a9942727\"3;Parent=53995c3f42cd8ad8;Sampled=1",
		"Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1;Lineage=a87bd80c:0",
	} {
		t.Setenv("_X_AMZN_TRACE_ID", header)
		trace.Begin()
		if sampled := strings.HasSuffix(header, "Sampled=1;Lineage=a87bd80c:0"); (trace.ID() == "1-5759e988-bd862e3fe1be46a994272793") != sampled {
			t.Errorf("%s: the id is %q", header, trace.ID())
		}
		trace.Add("find admins", 20*time.Millisecond, false)
		trace.Add("insert claims", 10*time.Millisecond, true)
		trace.End("DELETE /admin/sessions/{id}", "wNVusPJfdFfMidA=")
		trace.End("again", "x")
	}
	message := make([]byte, 64<<10)
	n, _, err := daemon.ReadFrom(message)
	if err != nil {
		t.Fatal(err)
	}
	head, document, _ := strings.Cut(string(message[:n]), "\n")
	type segment struct {
		Trace_ID, ID, Parent_ID, Type, Name string
		Start_Time, End_Time                float64
		Fault                               bool
		Annotations                         map[string]string
		Subsegments                         []segment
	}
	var s segment
	if err := json.Unmarshal([]byte(document), &s); err != nil || head != `{"format":"json","version":1}` {
		t.Fatalf("%s, %v", message[:n], err)
	}
	now := float64(time.Now().UnixMilli()) / 1000
	if s.Trace_ID != "1-5759e988-bd862e3fe1be46a994272793" || s.Parent_ID != "53995c3f42cd8ad8" || len(s.ID) != 16 || s.Type != "subsegment" ||
		s.Name != "DELETE /admin/sessions/:id" || s.Annotations["gateway_request_id"] != "wNVusPJfdFfMidA=" || s.Start_Time > s.End_Time || s.End_Time > now+1 || s.End_Time < now-3600 {
		t.Errorf("%s", document)
	}
	if len(s.Subsegments) != 2 || s.Subsegments[0].Name != "find admins" || s.Subsegments[0].Fault || !s.Subsegments[1].Fault ||
		s.Subsegments[0].End_Time-s.Subsegments[0].Start_Time < 0.0199 || s.Subsegments[0].End_Time-s.Subsegments[0].Start_Time > 0.0201 {
		t.Errorf("%s", document)
	}
	// Nothing else has been sent: the next message is that of the next event.
	trace.Begin()
	trace.End("next", "y")
	if n, _, err = daemon.ReadFrom(message); err != nil || !strings.Contains(string(message[:n]), `"name":"next"`) || strings.Contains(string(message[:n]), "subsegments") {
		t.Errorf("%s, %v", message[:n], err)
	}
}
