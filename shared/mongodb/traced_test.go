package mongodb_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"net"
	"slices"
	"testing"

	"orgservice/local/mongodbtest"
	"orgservice/shared/org"
	"orgservice/shared/trace"
)

// TestTraced checks which names commands have in a trace: those of the service's own collections, and
// none that a client has made up.
func TestTraced(t *testing.T) {
	daemon, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer daemon.Close()
	t.Setenv("AWS_XRAY_DAEMON_ADDRESS", daemon.LocalAddr().String())
	t.Setenv("_X_AMZN_TRACE_ID", "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1")
	db := mongodbtest.NewEmbedded(t)
	store := db.Open(t)
	trace.Begin()
	if err := store.CreateCollection(t.Context(), db.Name, "org_acme"); err != nil {
		t.Fatal(err)
	}
	if err := store.RenameCollection(t.Context(), db.Name, org.Collection{Name: "org_acme"}, "org_bolt"); err != nil {
		t.Fatal(err)
	}
	another := org.Collection{Name: "org_bolt", UUID: "0123456789abcdef0123456789abcdef"}
	if err := store.RenameCollection(t.Context(), db.Name, another, "org_core"); !errors.Is(err, org.ErrNotFound) {
		t.Fatal(err)
	}
	if _, err := store.Organization(t.Context(), store.NewID()); !errors.Is(err, org.ErrNotFound) {
		t.Fatal(err)
	}
	trace.End("test", "x")
	message := make([]byte, 64<<10)
	n, _, err := daemon.ReadFrom(message)
	if err != nil {
		t.Fatal(err)
	}
	_, document, _ := bytes.Cut(message[:n], []byte("\n"))
	var sent struct {
		Subsegments []struct {
			Name  string
			Fault bool
		}
	}
	if err := json.Unmarshal(document, &sent); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, s := range sent.Subsegments {
		name := s.Name
		if s.Fault {
			name += " failed"
		}
		got = append(got, name)
	}
	if want := []string{"create org_", "listCollections", "renameCollection org_", "renameCollection org_ failed", "find organizations"}; !slices.Equal(got, want) {
		t.Errorf("%q; want %q", got, want)
	}
	if bytes.Contains(document, []byte("acme")) || bytes.Contains(document, []byte("bolt")) {
		t.Errorf("%s", document)
	}
}
