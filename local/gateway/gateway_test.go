package gateway

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// testLog is the output of a gateway.
type testLog struct {
	mu  sync.Mutex
	all bytes.Buffer
}

func (l *testLog) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all.Write(b)
}

func (l *testLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all.String()
}

// buildDir is the build folder of all tests. They run one after the other.
var buildDir string

func TestMain(m *testing.M) {
	if os.Getenv("GATEWAY_TEST_CHILD") != "" {
		serveChild()
		return
	}
	var err error
	if buildDir, err = os.MkdirTemp("", "gateway-test"); err != nil {
		panic(err)
	}
	code := m.Run()
	os.RemoveAll(buildDir)
	os.Exit(code)
}

// newGateway starts a gateway, which ends with the test. Without a Root in config
// it serves the functions in testdata.
func newGateway(t *testing.T, config Config) (*Gateway, *testLog) {
	t.Helper()
	if config.Root == "" {
		config.Root = "."
		config.Template = filepath.Join("testdata", "template.yaml")
		config.BuildDir = buildDir
	}
	if config.Env == nil {
		config.Env = map[string]string{"FROM_ENV": "from env", "UNDECLARED": "secret"}
	}
	logs := &testLog{}
	config.Output = logs
	g, err := New(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- g.Serve() }()
	t.Cleanup(func() {
		g.Close()
		if err := <-served; err != nil {
			t.Error(err)
		}
		if left := g.Processes(); len(left) > 0 {
			t.Errorf("Close left %v", left)
		}
		if t.Failed() {
			t.Logf("the gateway wrote:\n%s", logs)
		}
	})
	return g, logs
}

// patient is how long a test waits for something that must happen.
const patient = 5 * time.Minute

// eventually waits until the condition is true; what names it for the failure.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patient); !condition(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
	}
}

type reply struct {
	status int
	header http.Header
	body   string
}

func (r reply) String() string { return fmt.Sprintf("%d %s", r.status, r.body) }

// send sends a request with headers of the form "Name: value".
func send(t *testing.T, g *Gateway, method, path, body string, headers ...string) reply {
	t.Helper()
	r, err := try(t.Context(), g, method, path, body, headers...)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// try is like send, but returns the error.
func try(ctx context.Context, g *Gateway, method, path, body string, headers ...string) (reply, error) {
	request, err := http.NewRequestWithContext(ctx, method, g.URL()+path, strings.NewReader(body))
	if err != nil {
		return reply{}, err
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		request.Header.Add(name, value)
	}
	response, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		return reply{}, err
	}
	defer response.Body.Close()
	b, err := io.ReadAll(response.Body)
	return reply{response.StatusCode, response.Header, string(b)}, err
}
