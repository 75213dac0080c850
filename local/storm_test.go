package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"

	"orgservice/local/embedded"
	"orgservice/local/gateway"
	"orgservice/local/mongodbtest"
	"orgservice/shared/auth"
	"orgservice/shared/mongodb"
	"orgservice/shared/org"
)

// storms start many processes of a function at once, on a database that accepts so many connections.
var storms = map[string]struct{ processes, connections int }{
	// As with DatabaseTier: the processes can't have more.
	"within the budget": {processes: 8, connections: 8*mongodb.MaxConnections + ownConnections},
	// As without it. What watches the server takes all connections.
	"beyond it": {processes: 40, connections: 12},
}

const ownConnections = mongodb.MaxConnections + 1 // of the test itself; two of them watch the server

// TestStorm sends many logins at once, each to a process that starts. Too many for the
// database are refused with an answer that says when to try again, and it goes on.
func TestStorm(t *testing.T) {
	for name, storm := range storms {
		t.Run(name, func(t *testing.T) { testStorm(t, storm.processes, storm.connections, name == "within the budget") })
	}
}

func testStorm(t *testing.T, processes, connections int, enough bool) {
	server, err := embedded.Start(t.TempDir(), "127.0.0.1:0", embedded.Volatile, embedded.AtMost(connections))
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	store, err := mongodb.Open(server.URL(), "storm")
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close(context.Background())
	service := &org.Service{Store: store, Database: "storm", Passwords: auth.Passwords{Cost: 4}, Log: slog.New(slog.DiscardHandler)}
	const password = "correct horse"
	address := func(i int) string { return fmt.Sprintf("admin%d@storm.test", i) }
	for i := range processes {
		if _, err := service.Create(t.Context(), org.CreateRequest{OrganizationName: fmt.Sprint("Storm ", i), Email: address(i), Password: password}); err != nil {
			t.Fatal(err)
		}
	}
	g := newStormGateway(t, server.URL(), processes, io.Discard)
	// wave sends one request to each process and counts the statuses.
	wave := func() map[string]int {
		statuses := make([]string, processes)
		var requests sync.WaitGroup
		for i := range processes {
			requests.Go(func() { statuses[i] = login(g, address(i), password) })
		}
		requests.Wait()
		count := map[string]int{}
		for _, status := range statuses {
			count[status]++
		}
		_, accepted, rejected := server.Connections()
		t.Logf("%d processes, %d connections: %v; %d handshakes, %d refused", processes, connections, count, accepted, rejected)
		return count
	}
	count := wave()
	_, _, rejected := server.Connections()
	if enough && (count["200"] != processes || rejected > 0) {
		t.Errorf("answers %v, %d connections refused; want none", count, rejected)
	}
	if !enough && (count["503"] == 0 || count["200"]+count["503"] != processes || rejected == 0) {
		t.Errorf("answers %v, %d connections refused; want 503 to some, and nothing but 200 and 503", count, rejected)
	}
	// The processes that got no answer do not keep connections from the others.
	for n := 0; count["200"] == 0; n++ {
		if n == 10 {
			t.Fatal("nobody gets in")
		}
		count = wave()
	}
	if _, err := service.Ping(t.Context()); err != nil {
		t.Error(err)
	}
}

// login returns the status of the answer to a login, and all of the answer if it is neither 200 nor
// a 503 that says when to try again.
func login(g *gateway.Gateway, email, password string) string {
	body := fmt.Sprintf(`{"email":%q,"password":%q}`, email, password)
	response, err := http.Post(g.URL()+"/admin/login", "application/json", strings.NewReader(body))
	if err != nil {
		return err.Error()
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		return err.Error()
	}
	retry := response.Header.Get("Retry-After")
	if response.StatusCode == 200 || response.StatusCode == 503 && retry != "" && bytes.Contains(answer, []byte("/problems/database-unavailable")) {
		return fmt.Sprint(response.StatusCode)
	}
	return fmt.Sprintf("%s %q %s", response.Status, retry, answer)
}

// newStormGateway starts a gateway with the function of logins.
func newStormGateway(t *testing.T, database string, processes int, output io.Writer) *gateway.Gateway {
	t.Helper()
	g, err := gateway.New(t.Context(), gateway.Config{
		Root: "..", Only: []string{"login"}, MaxInstances: processes, LogLevel: "ERROR", Output: output,
		Env: map[string]string{
			"MONGO_URL": database, "MASTER_DB": "storm", "BCRYPT_COST": "4", "JWT_SECRET": strings.Repeat("x", 32),
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.Close)
	go g.Serve()
	return g
}

// TestTerminated checks that a process that gets SIGTERM says goodbye to the database.
func TestTerminated(t *testing.T) {
	db := mongodbtest.NewEmbedded(t)
	front := newFront(t, strings.TrimSuffix(strings.TrimPrefix(db.URL, "mongodb://"), "/"))
	var output bytes.Buffer
	g := newStormGateway(t, "mongodb://"+front.addr+"/", 1, &output)
	if status := login(g, "nobody@storm.test", "correct horse"); !strings.HasPrefix(status, "401 ") {
		t.Fatal(status)
	}
	if front.saw("endSessions") {
		t.Fatal("the sessions have ended before the process")
	}
	g.Close()
	front.conns.Wait()
	if !front.saw("endSessions") {
		t.Error("the process has ended without ending its sessions")
	}
	if bytes.Contains(output.Bytes(), []byte("WARNING")) { // it asks Lambda for the signal
		t.Errorf("%s", &output)
	}
}

// front stands before a database and keeps what clients send.
type front struct {
	addr  string
	conns sync.WaitGroup // of clients that have not ended

	mu   sync.Mutex
	sent []byte
}

func newFront(t *testing.T, database string) *front {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	f := &front{addr: l.Addr().String()}
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			f.conns.Go(func() {
				defer client.Close()
				server, err := net.Dial("tcp", database)
				if err != nil {
					return
				}
				defer server.Close()
				go io.Copy(client, server)
				io.Copy(io.MultiWriter(f, server), client)
			})
		}
	}()
	return f
}

func (f *front) Write(b []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.sent = append(f.sent, b...)
	return len(b), nil
}

func (f *front) saw(command string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return bytes.Contains(f.sent, []byte(command))
}
