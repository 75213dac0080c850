package wire_test

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"orgservice/local/mongodbtest"
	"orgservice/shared/mongodb"
	"orgservice/shared/org"
	"orgservice/shared/wire"
)

// TestReopened changes the user of the database while a function runs: the commands of open
// connections are refused, as when a user is deleted, and new connections are, too.
func TestReopened(t *testing.T) {
	for name, refusals := range map[string]refusals{
		"MongoDB": {connection: bson.D{{Key: "code", Value: 18}, {Key: "errmsg", Value: "Authentication failed."}},
			command: bson.D{{Key: "code", Value: 13}, {Key: "errmsg", Value: "command find requires authentication"}}},
		"Atlas": {connection: bson.D{{Key: "code", Value: 8000}, {Key: "errmsg", Value: "bad auth : Authentication failed."}},
			command: bson.D{{Key: "code", Value: 8000}, {Key: "errmsg", Value: "user is not allowed to do action [find] on [x.organizations]"}}},
	} {
		t.Run(name, func(t *testing.T) { testReopened(t, refusals) })
	}
}

func testReopened(t *testing.T, refusals refusals) {
	defer wire.SetReopenAfter(0)()
	db := mongodbtest.NewEmbedded(t)
	gate := newGate(t, strings.TrimSuffix(strings.TrimPrefix(db.URL, "mongodb://"), "/"))
	gate.refusals = refusals
	use := func(user string) {
		t.Setenv("MONGO_URL", "mongodb://"+user+":x@"+gate.addr+"/?authMechanism=PLAIN&authSource=$external")
	}
	t.Setenv("MASTER_DB", db.Name)

	gate.let("one")
	use("one")
	opened := 0
	handler, err := wire.Handler(func(s *org.Service) http.Handler {
		opened++
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if _, err := s.Store.Organization(r.Context(), s.Store.NewID()); !errors.Is(err, org.ErrNotFound) {
				http.Error(w, err.Error(), 500)
			}
		})
	})(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := func(status, wantOpened int) {
		t.Helper()
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), "GET", "/", nil))
		if w.Code != status || opened != wantOpened {
			t.Fatalf("%d %s, opened %d times; want %d, %d times", w.Code, w.Body, opened, status, wantOpened)
		}
	}
	want(200, 1)
	want(200, 1)

	// The commands of the open connections are refused.
	gate.let("two")
	use("two")
	want(500, 1)
	want(200, 2)
	want(200, 2)

	// New connections are refused.
	gate.let("three")
	gate.cut()
	want(500, 2)
	want(500, 3) // the settings are still those of two
	use("three")
	want(200, 4)

	// The settings can't be read.
	gate.let("four")
	want(500, 4)
	t.Setenv("MONGO_URL", "")
	want(500, 4)
	use("four")
	want(200, 5)

	// Not again at once.
	defer wire.SetReopenAfter(1 << 62)()
	gate.let("five")
	use("five")
	want(500, 5)
	want(500, 5)
}

// TestReconnected ends the connections to the database before requests. What is answered keeps the store; after a
// request that was not, it is another one, without another look at the settings.
func TestReconnected(t *testing.T) {
	db := mongodbtest.NewEmbedded(t)
	gate := newGate(t, strings.TrimSuffix(strings.TrimPrefix(db.URL, "mongodb://"), "/"))
	t.Setenv("MONGO_URL", "mongodb://"+gate.addr)
	t.Setenv("MASTER_DB", db.Name)
	opened := 0
	var used []org.Store
	handler, err := wire.Handler(func(s *org.Service) http.Handler {
		opened++
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			used = append(used, s.Store)
			if _, err := s.Store.Organization(r.Context(), s.Store.NewID()); errors.Is(err, org.ErrUnavailable) {
				w.WriteHeader(503)
			}
		})
	})(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []int{200, 200, 200, 503, 200} {
		gate.down.Store(want == 503)
		gate.cut()
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), "GET", "/", nil))
		if w.Code != want || opened != 1 {
			t.Fatalf("request %d: %d, opened %d times; want %d, once", i, w.Code, opened, want)
		}
	}
	if used[0] != used[1] || used[1] != used[2] || used[2] != used[3] || used[3] == used[4] {
		t.Errorf("stores %p; want one, and another in the end", used)
	}
}

// TestNoClusterMonitor asks for the connections as a user who may not know.
func TestNoClusterMonitor(t *testing.T) {
	db := mongodbtest.NewEmbedded(t)
	gate := newGate(t, strings.TrimSuffix(strings.TrimPrefix(db.URL, "mongodb://"), "/"))
	gate.refusals.command = bson.D{{Key: "code", Value: 13}, {Key: "errmsg", Value: "not authorized on admin to execute command { serverStatus: 1 }"}}
	gate.reserved = "serverStatus"
	gate.let("one")
	store, err := mongodb.Open("mongodb://one:x@"+gate.addr+"/?authMechanism=PLAIN&authSource=$external", db.Name)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close(t.Context())
	if open, limit, err := store.Connections(t.Context()); open != 0 || limit != 0 || err != nil {
		t.Errorf("%d of %d, %v; want 0 of 0", open, limit, err)
	}
	if store.Refused() {
		t.Error("the user counts as refused")
	}
}

// TestSilentDatabase sends a command that the database never answers. The store gives up, although
// the context has no deadline.
func TestSilentDatabase(t *testing.T) {
	db := mongodbtest.NewEmbedded(t)
	gate := newGate(t, strings.TrimSuffix(strings.TrimPrefix(db.URL, "mongodb://"), "/"))
	gate.unanswered = "find"
	store, err := mongodb.Open("mongodb://"+gate.addr, db.Name)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close(t.Context())
	ctx, cancel := context.WithCancel(t.Context())
	defer time.AfterFunc(mongodbtest.Patience, cancel).Stop()
	if _, err := store.Organization(ctx, store.NewID()); !errors.Is(err, org.ErrUnavailable) || ctx.Err() != nil {
		t.Errorf("%v; want ErrUnavailable, before the test gives up", err)
	}
}

// refusals are how a server refuses a user.
type refusals struct{ connection, command bson.D }

// gate stands before a database that knows no users, and lets in one of them.
type gate struct {
	addr       string
	database   string
	user       atomic.Value // string
	conns      chan net.Conn
	refusals   refusals
	reserved   string // command that the user may not send
	unanswered string // command that has no answer
	down       atomic.Bool
}

func newGate(t *testing.T, database string) *gate {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	g := &gate{addr: l.Addr().String(), database: database, conns: make(chan net.Conn, 1000)}
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			if g.down.Load() {
				client.Close()
				continue
			}
			g.conns <- client
			go g.serve(client)
		}
	}()
	return g
}

func (g *gate) let(user string) { g.user.Store(user) }

// cut closes all connections.
func (g *gate) cut() {
	for len(g.conns) > 0 {
		(<-g.conns).Close()
	}
}

// serve hands requests on to the database, but answers those that authenticate the user, and
// refuses what is not the handshake from any other.
func (g *gate) serve(client net.Conn) {
	defer client.Close()
	server, err := (&net.Dialer{}).DialContext(context.Background(), "tcp", g.database)
	if err != nil {
		return
	}
	defer server.Close()
	var user string
	for {
		request, err := readMessage(client)
		if err != nil {
			return
		}
		var reply []byte
		switch name, payload := command(request); {
		case g.unanswered != "" && name == g.unanswered:
			continue
		case name == "saslStart":
			_, rest, _ := strings.Cut(payload, "\x00")
			user, _, _ = strings.Cut(rest, "\x00")
			if user == g.user.Load() {
				reply = message(request, bson.D{{Key: "ok", Value: 1}, {Key: "conversationId", Value: 1}, {Key: "done", Value: true}, {Key: "payload", Value: []byte{}}})
			} else {
				reply = message(request, append(bson.D{{Key: "ok", Value: 0}}, g.refusals.connection...))
			}
		case user != "" && user != g.user.Load(), g.reserved != "" && name == g.reserved:
			reply = message(request, append(bson.D{{Key: "ok", Value: 0}}, g.refusals.command...))
		default:
			if _, err := server.Write(request); err != nil {
				return
			}
			if reply, err = readMessage(server); err != nil {
				return
			}
		}
		if _, err := client.Write(reply); err != nil {
			return
		}
	}
}

const opMsg = 2013

func readMessage(r io.Reader) ([]byte, error) {
	header := make([]byte, 16)
	if _, err := io.ReadFull(r, header); err != nil {
		return nil, err
	}
	m := append(header, make([]byte, binary.LittleEndian.Uint32(header)-16)...)
	_, err := io.ReadFull(r, m[16:])
	return m, err
}

// command returns the name of the command in a message, or "" in an old handshake, and what a
// command that authenticates has as its payload.
func command(m []byte) (name, payload string) {
	if binary.LittleEndian.Uint32(m[12:]) != opMsg {
		return "", ""
	}
	doc := bson.Raw(m[21:])
	elements, err := doc.Elements()
	if err != nil || len(elements) == 0 {
		return "", ""
	}
	_, data, _ := doc.Lookup("payload").BinaryOK()
	return elements[0].Key(), string(data)
}

// message returns the reply to a request.
func message(request []byte, doc bson.D) []byte {
	body, err := bson.Marshal(doc)
	if err != nil {
		panic(err)
	}
	m := binary.LittleEndian.AppendUint32(nil, uint32(21+len(body)))
	m = append(m, request[4:8]...)
	m = append(m, request[4:8]...)
	m = binary.LittleEndian.AppendUint32(m, opMsg)
	return append(append(m, 0, 0, 0, 0, 0), body...)
}
