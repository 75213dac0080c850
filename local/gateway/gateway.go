// Package gateway runs the functions of a SAM template on this machine and
// serves them as API Gateway (HTTP API, payload format 2.0), Lambda and
// EventBridge would. All it knows about them comes from the template, so a
// route can't work here and be missing in the cloud.
//
// Each instance of a function is the process of the same binary that the
// deployment builds, behind a Lambda Runtime API.
package gateway

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Config is what New needs to know. Only Root is required.
type Config struct {
	// Root is the folder of the Go module.
	Root string
	// Template is the path of the SAM template; Root/template.yaml if empty.
	Template string
	// Addr is the address to serve HTTP on; a free port of 127.0.0.1 if empty.
	Addr string
	// Env has values for environment variables; a function sees those that
	// the template declares for it.
	Env map[string]string
	// Parameters has values for parameters of the template.
	Parameters map[string]string
	// Output gets the access log, the functions' logs and the gateway's own
	// messages, a line each; they are discarded if it is nil.
	Output io.Writer
	// Watch makes Serve rebuild functions and read the template again when
	// their files change.
	Watch bool
	// LogLevel is AWS_LAMBDA_LOG_LEVEL of the functions; WARN if empty.
	LogLevel string
	// MaxInstances is how many processes of one function may run at once; 20
	// if zero. More requests wait.
	MaxInstances int
	// BuildDir is a folder that is kept to build faster the next time, used by
	// one gateway at a time; a temporary one if empty.
	BuildDir string

	region             string
	integrationTimeout time.Duration // API Gateway's patience with a function
	minute             time.Duration // of schedules
}

// Process is a running process of a function.
type Process struct {
	Function string // logical id
	PID      int
	Busy     bool // with an event
}

// Gateway is a running gateway. Close ends it.
type Gateway struct {
	config   Config
	out      *output
	temp     string // folder of what Close removes
	bin      string
	seen     map[string]fileState // what was built
	lambda   *lambda
	listener net.Listener
	server   *http.Server
	current  atomic.Pointer[site]

	background    sync.WaitGroup
	stop          context.CancelFunc // ends what runs in the background
	ctx           context.Context    // ends with stop
	stopSchedules context.CancelFunc

	mu     sync.Mutex
	closed bool
}

// New reads the template, builds the functions and listens; Serve answers.
func New(ctx context.Context, config Config) (*Gateway, error) {
	config.Template = cmp.Or(config.Template, filepath.Join(config.Root, "template.yaml"))
	config.Addr = cmp.Or(config.Addr, "127.0.0.1:0")
	config.LogLevel = cmp.Or(config.LogLevel, "WARN")
	config.MaxInstances = cmp.Or(config.MaxInstances, 20)
	config.region = cmp.Or(os.Getenv("AWS_REGION"), "us-east-1")
	config.integrationTimeout = cmp.Or(config.integrationTimeout, 30*time.Second)
	config.minute = cmp.Or(config.minute, time.Minute)
	if config.Output == nil {
		config.Output = io.Discard
	}
	var err error
	if config.Root, err = filepath.Abs(config.Root); err != nil {
		return nil, err
	}
	g := &Gateway{config: config, out: &output{w: config.Output}}
	g.ctx, g.stop = context.WithCancel(context.Background())
	if err := g.open(ctx); err != nil {
		g.Close()
		return nil, err
	}
	return g, nil
}

func (g *Gateway) open(ctx context.Context) (err error) {
	t, err := g.readTemplate()
	if err != nil {
		return err
	}
	// Before the build, which takes a while: a port that is taken is said at once.
	if g.listener, err = net.Listen("tcp", g.config.Addr); err != nil {
		return err
	}
	g.out.printf("building the functions …")
	if g.temp, err = os.MkdirTemp("", "gateway"); err != nil {
		return err
	}
	g.bin = filepath.Join(g.temp, "bin")
	g.config.BuildDir = cmp.Or(g.config.BuildDir, filepath.Join(g.temp, "build"))
	for _, dir := range []string{g.bin, g.config.BuildDir} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
	}
	g.seen = sources(g.config.Root, g.config.Template)
	changed, err := build(ctx, g.config.Root, t, g.config.BuildDir, g.bin)
	if err != nil {
		return err
	}
	if g.lambda, err = newLambda(&g.config, g.bin, g.out); err != nil {
		return err
	}
	g.install(t, changed)
	g.server = &http.Server{
		Handler:           http.HandlerFunc(g.handle),
		ReadHeaderTimeout: 10 * time.Second,
		ErrorLog:          log.New(g.out.lines("gateway"), "", 0),
	}
	return nil
}

func (g *Gateway) readTemplate() (*template, error) {
	return readTemplate(g.config.Template, g.config.region, g.config.Parameters, g.config.Env)
}

// install makes t, and the binaries that changed, what is served.
func (g *Gateway) install(t *template, changed []string) {
	g.lambda.install(t.functions, changed)
	g.current.Store(newSite(t))
}

// URL returns the address of the API.
func (g *Gateway) URL() string {
	host, port, _ := net.SplitHostPort(g.listener.Addr().String())
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return "http://" + net.JoinHostPort(host, port)
}

// Serve answers requests and runs schedules until Close.
func (g *Gateway) Serve() error {
	g.mu.Lock()
	if !g.closed {
		g.startSchedules(g.ctx, g.current.Load().template)
		if g.config.Watch {
			g.background.Go(func() { g.watch(g.ctx) })
		}
	}
	g.mu.Unlock()
	if err := g.server.Serve(g.listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// patience is how long Close waits for what is under way.
const patience = 4 * time.Second

// Close stops serving. Requests and invocations under way have a few seconds
// to finish, then their processes are ended.
func (g *Gateway) Close() {
	g.mu.Lock()
	again := g.closed
	g.closed = true
	g.mu.Unlock()
	if again {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	g.stop()
	if g.server != nil {
		g.lambda.idle()
		if g.server.Shutdown(ctx) != nil {
			g.server.Close()
		}
	}
	if g.lambda != nil {
		g.lambda.close(ctx)
	}
	g.background.Wait()
	if g.listener != nil {
		g.listener.Close()
	}
	if g.temp != "" {
		os.RemoveAll(g.temp)
	}
}

// Invoke runs a function once, named by its logical id, that without
// "Function", or the name of its folder, and returns its response.
func (g *Gateway) Invoke(ctx context.Context, function string, event []byte) ([]byte, error) {
	f, err := g.current.Load().template.lookup(function)
	if err != nil {
		return nil, err
	}
	o := g.lambda.invoke(ctx, f, newTrace(), event)
	if _, ok := errors.AsType[*functionError](o.err); ok {
		return nil, fmt.Errorf("%s failed: %w", f.id, o.err)
	}
	return o.response, o.err
}

// Processes returns the running processes, those of a function next to each
// other.
func (g *Gateway) Processes() []Process {
	g.lambda.mu.Lock()
	defer g.lambda.mu.Unlock()
	var list []Process
	for _, p := range g.lambda.processes {
		list = append(list, Process{p.function.id, p.cmd.Process.Pid, p.current != nil})
	}
	slices.SortFunc(list, func(a, b Process) int {
		return cmp.Or(strings.Compare(a.Function, b.Function), cmp.Compare(a.PID, b.PID))
	})
	return list
}

// output writes whole lines from many goroutines.
type output struct {
	mu sync.Mutex
	w  io.Writer
}

func (o *output) printf(format string, args ...any) {
	o.mu.Lock()
	defer o.mu.Unlock()
	fmt.Fprintf(o.w, format+"\n", args...)
}

// lines returns a writer that passes on complete lines, prefixed unless they
// are JSON.
func (o *output) lines(prefix string) *lines { return &lines{out: o, prefix: prefix} }

// lines is for one goroutine.
type lines struct {
	out    *output
	prefix string
	part   []byte // of a line
	last   string
}

const maxLine = 64 << 10

func (l *lines) Write(b []byte) (int, error) {
	l.part = append(l.part, b...)
	for {
		line, rest, ok := bytes.Cut(l.part, []byte("\n"))
		if !ok {
			break
		}
		l.line(line)
		l.part = rest
	}
	if len(l.part) > maxLine {
		l.flush()
	}
	return len(b), nil
}

func (l *lines) flush() {
	if len(l.part) > 0 {
		l.line(l.part)
		l.part = nil
	}
}

func (l *lines) line(line []byte) {
	l.last = string(line)
	if bytes.HasPrefix(line, []byte("{")) {
		l.out.printf("%s", line)
	} else {
		l.out.printf("%s: %s", l.prefix, line)
	}
}
