// Package mongodbtest gives tests a real database: on the server that MONGO_URL
// names, or an embedded one.
//
// It starts the embedded database with "go run" of serverPackage, which is not an
// import. So go test may use cached results after a change of package embedded;
// -count=1 prevents that.
package mongodbtest

import (
	"bufio"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"orgservice/shared/mongodb"
)

const serverPackage = "orgservice/local/embedded/serve"

// Database is an empty database for one test.
type Database struct {
	URL    string // of the server
	Name   string
	Client *mongo.Client // for what the store can't do
}

// pool holds embedded databases of one kind. Each is a process of its own,
// without the race detector, which makes the database several times slower.
// Tests take them in turn, so that tests in parallel don't wait for each other.
// The databases end when this process ends, however it ends.
type pool struct {
	flags []string // of serverPackage
	most  int

	mu      sync.Mutex
	servers []server
	next    int
}

var (
	modern = pool{most: runtime.GOMAXPROCS(0)} // more would only wait for a CPU
	legacy = pool{most: 1, flags: []string{"-legacy"}}
)

// uri returns the connection string of the next database.
func (p *pool) uri() (string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.servers) < p.most {
		s, err := start(p.flags)
		if err != nil {
			return "", fmt.Errorf("embedded database: %w", err)
		}
		p.servers = append(p.servers, s)
	}
	p.next++
	return p.servers[p.next%len(p.servers)].uri, nil
}

// Embedded returns the connection string of an embedded database, which ends
// when this process ends.
func Embedded() (string, error) { return modern.uri() }

type server struct {
	uri   string
	stdin io.Closer // open as long as this process lives; the server ends when it closes
}

// start starts a server and returns when it listens.
func start(flags []string) (server, error) {
	cmd := exec.Command("go", append([]string{"run", serverPackage}, flags...)...)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return server{}, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return server{}, err
	}
	if err := cmd.Start(); err != nil {
		return server{}, err
	}
	uri, err := bufio.NewReader(out).ReadString('\n')
	return server{strings.TrimSpace(uri), in}, err
}

// New returns an empty database, which is dropped when the test ends. It is on
// the server of MONGO_URL if that is set, and embedded otherwise.
func New(t testing.TB) Database {
	t.Helper()
	if uri := os.Getenv("MONGO_URL"); uri != "" {
		return connect(t, uri, nil)
	}
	return NewEmbedded(t)
}

// NewEmbedded is like New, but the database is always embedded.
func NewEmbedded(t testing.TB) Database {
	t.Helper()
	uri, err := modern.uri()
	return connect(t, uri, err)
}

// NewLegacy is like NewEmbedded, but the database behaves as MongoDB 4.4.
func NewLegacy(t testing.TB) Database {
	t.Helper()
	uri, err := legacy.uri()
	return connect(t, uri, err)
}

func connect(t testing.TB, uri string, err error) Database {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	client, err := mongo.Connect(options.Client().ApplyURI(uri))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Disconnect(context.Background()) })
	return Database{URL: uri, Client: client}.Fresh(t)
}

// Fresh returns another empty database on the same server.
func (db Database) Fresh(t testing.TB) Database {
	t.Helper()
	db.Name = "test_" + strings.ToLower(rand.Text()[:12])
	t.Cleanup(func() {
		if err := db.Client.Database(db.Name).Drop(context.Background()); err != nil {
			t.Errorf("drop database: %v", err)
		}
	})
	return db
}

// Patience is how long a test waits for an event that must happen. It is long,
// because the machine may be busy.
const Patience = 5 * time.Minute

// Open returns a store in the database, which is closed when the test ends. Its
// timeouts are Patience and not those of the service, so that no test fails on
// a slow machine. The options, if any, are applied last.
func (db Database) Open(t testing.TB, more ...*options.ClientOptions) *mongodb.Store {
	t.Helper()
	patient := options.Client().SetServerSelectionTimeout(Patience).SetConnectTimeout(Patience).SetTimeout(Patience)
	store, err := mongodb.Open(db.URL, db.Name, append([]*options.ClientOptions{patient}, more...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close(context.Background()) })
	return store
}
