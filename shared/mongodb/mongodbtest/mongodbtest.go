// Package mongodbtest gives tests a real database: that of the server which
// MONGO_URL names, or the embedded one.
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

// Database is an empty database for one test.
type Database struct {
	URL    string // of the server
	Name   string
	Client *mongo.Client // for what a store does not do
}

// pool is embedded databases of a kind. Each is a process of its own: without
// the race detector, which would make the database several times slower and is
// not meant for it. They are taken in turn, so that tests that run at once
// don't wait for each other, and they end with this process, whatever ends
// that.
type pool struct {
	flags []string // of the process
	most  int

	mu      sync.Mutex
	servers []server
	next    int
}

var (
	modern = pool{most: runtime.GOMAXPROCS(0)} // more would but wait for a processor
	legacy = pool{most: 1, flags: []string{"-legacy"}}
)

// url returns the connection string of one.
func (p *pool) url() (string, error) {
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
	return p.servers[p.next%len(p.servers)].url, nil
}

// Embedded returns the connection string of an embedded database, which ends
// with this process.
func Embedded() (string, error) { return modern.url() }

type server struct {
	url   string
	stdin io.Closer // nobody writes to it; it is closed when nobody refers to it
}

func start(flags []string) (server, error) {
	cmd := exec.Command("go", append([]string{"run", "orgservice/local/embedded/serve"}, flags...)...)
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
	url, err := bufio.NewReader(out).ReadString('\n')
	return server{strings.TrimSpace(url), in}, err
}

// New returns a database that goes away with the test.
func New(t testing.TB) Database {
	t.Helper()
	if url := os.Getenv("MONGO_URL"); url != "" {
		return connect(t, url, nil)
	}
	return NewEmbedded(t)
}

// NewEmbedded is New, but the database is always embedded.
func NewEmbedded(t testing.TB) Database {
	t.Helper()
	url, err := modern.url()
	return connect(t, url, err)
}

// NewLegacy is New, but the database is always embedded and is like that of
// MongoDB 4.4.
func NewLegacy(t testing.TB) Database {
	t.Helper()
	url, err := legacy.url()
	return connect(t, url, err)
}

func connect(t testing.TB, url string, err error) Database {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	client, err := mongo.Connect(options.Client().ApplyURI(url))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Disconnect(context.Background()) })
	return Database{URL: url, Client: client}.Fresh(t)
}

// Fresh returns another database on the same server.
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

// Patience is how long a test waits for what must come: on a machine that is
// busy with something else, for longer than anybody would in earnest.
const Patience = 5 * time.Minute

// Open returns a store in the database. Its time limits are a test's, not the
// service's: no test is to fail because the machine is slow. Options, if any,
// are for its client, and come last.
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
