// Package gateway runs the functions of a SAM template on this machine and
// serves them as API Gateway (HTTP API, payload format 2.0), Lambda and
// EventBridge do. It knows only what the template says, so a route that works
// here is also there in the cloud.
//
// Each instance of a function is a process. It runs the binary that is built
// with the flags of the deployment, and gets its events from a Lambda Runtime
// API.
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

// Config holds the settings of New. Only Root is required.
type Config struct {
	// Root is the folder of the Go module.
	Root string
	// Template is the path of the SAM template; Root/template.yaml if empty.
	Template string
	// Addr is the TCP address to serve HTTP on; a free port of 127.0.0.1 if empty.
	Addr string
	// Listener serves HTTP in place of Addr, if it is not nil. Close closes it.
	Listener net.Listener
	// Env has values of environment variables. They replace the values in the
	// template; a function gets only the variables that the template declares
	// for it.
	Env map[string]string
	// Parameters has values of parameters of the template.
	Parameters map[string]string
	// Origins are the origins of pages that may call the API, in place of those of the
	// template, which are for the cloud; nil: those of the template.
	Origins []string
	// OperatorToken is what opens the routes of AWS IAM here, as a bearer token; nothing
	// does if it is empty.
	OperatorToken string
	// Output gets the access log, the logs of the functions and the messages of
	// the gateway, in whole lines; they are discarded if it is nil.
	Output io.Writer
	// Log is the form of the access log.
	Log LogStyle
	// Watch makes Serve rebuild functions and read the template again when
	// their files change.
	Watch bool
	// LogLevel is AWS_LAMBDA_LOG_LEVEL of the functions; WARN if empty.
	LogLevel string
	// MaxInstances is the most processes of one function at a time; 20 if
	// zero. Requests wait for a process if there are that many.
	MaxInstances int
	// Only names the functions to build, as Invoke takes them; all if it is
	// empty. The others can't be invoked.
	Only []string
	// Debug is for a debugger that is attached to the processes: functions are
	// built with symbols and without optimization, have no time limits and run
	// as one process each.
	Debug bool
	// BuildDir is a folder for binaries; a temporary one if empty. Kept between
	// runs it makes the next build faster. Only one gateway may use it at a time.
	BuildDir string

	region             string
	integrationTimeout time.Duration // the longest that API Gateway waits for a function
	minute             time.Duration // the length of a minute in schedules; tests make it shorter
}

// noLimit is the time limit of what has none.
const noLimit = 24 * time.Hour

// Process is a running process of a function.
type Process struct {
	Function string // logical id
	PID      int
	Busy     bool // works on an event
}

// Gateway is a running gateway. The caller must call Close at the end.
type Gateway struct {
	config   Config
	out      *output
	temp     string // folder that Close removes
	builder  *builder
	seen     map[string]fileState // state of the files at the last build
	lambda   *lambda
	listener net.Listener
	server   *http.Server
	current  atomic.Pointer[stage]

	background    sync.WaitGroup
	stop          context.CancelFunc // ends ctx
	ctx           context.Context    // of what runs in the background
	stopSchedules context.CancelFunc

	mu     sync.Mutex
	closed bool
}

// New reads the template, listens and builds the functions. ctx limits only the
// build. Requests wait until Serve is called.
func New(ctx context.Context, config Config) (*Gateway, error) {
	config.Template = cmp.Or(config.Template, filepath.Join(config.Root, "template.yaml"))
	config.Addr = cmp.Or(config.Addr, "127.0.0.1:0")
	config.LogLevel = cmp.Or(config.LogLevel, "WARN")
	config.MaxInstances = cmp.Or(config.MaxInstances, 20)
	config.region = cmp.Or(os.Getenv("AWS_REGION"), "us-east-1")
	config.integrationTimeout = cmp.Or(config.integrationTimeout, 30*time.Second)
	config.minute = cmp.Or(config.minute, time.Minute)
	if config.Debug {
		config.integrationTimeout, config.MaxInstances = noLimit, 1
	}
	if config.Output == nil {
		config.Output = io.Discard
	}
	var err error
	if config.Root, err = filepath.Abs(config.Root); err != nil {
		return nil, err
	}
	g := &Gateway{config: config, out: &output{w: config.Output}, listener: config.Listener}
	g.ctx, g.stop = context.WithCancel(context.Background())
	if err := g.open(ctx); err != nil {
		g.Close()
		return nil, err
	}
	return g, nil
}

// open does the work of New that Close has to undo.
func (g *Gateway) open(ctx context.Context) (err error) {
	t, err := g.readTemplate()
	if err != nil {
		return err
	}
	// This comes before the build, so that an error does not wait for it.
	if g.listener == nil {
		if g.listener, err = net.Listen("tcp", g.config.Addr); err != nil {
			return err
		}
	}
	functions, err := t.only(g.config.Only)
	if err != nil {
		return err
	}
	if g.temp, err = os.MkdirTemp("", "gateway"); err != nil {
		return err
	}
	g.builder = &builder{
		root: g.config.Root, bin: filepath.Join(g.temp, "bin"), debug: g.config.Debug,
		staging: cmp.Or(g.config.BuildDir, filepath.Join(g.temp, "build")),
	}
	for _, dir := range []string{g.builder.bin, g.builder.staging} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
	}
	g.seen = sources(g.config.Root, g.config.Template)
	progress := newProgress(g.out, g.builder.staging, functions)
	changed, err := g.builder.build(ctx, functions, progress)
	progress.stop()
	if err != nil {
		return err
	}
	if g.lambda, err = newLambda(&g.config, g.builder.bin, g.out); err != nil {
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
	t, err := readTemplate(g.config.Template, g.config.region, g.config.Parameters, g.config.Env)
	if err == nil && t.cors != nil && g.config.Origins != nil {
		t.cors.origins = g.config.Origins
	}
	return t, err
}

// install serves t from now on, with new processes for the changed binaries.
func (g *Gateway) install(t *template, changed []string) {
	g.lambda.install(t.functions, changed)
	g.current.Store(newStage(t))
}

// URL returns the base URL of the API, without a slash at the end.
func (g *Gateway) URL() string {
	host, port, _ := net.SplitHostPort(g.listener.Addr().String())
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return "http://" + net.JoinHostPort(host, port)
}

// Serve serves requests and runs schedules until Close. It returns nil then.
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

// shutdownTimeout is how long Close waits for running requests.
const shutdownTimeout = 4 * time.Second

// Close stops serving and ends all processes. Running requests and invocations
// have shutdownTimeout to finish. It may be called more than once.
func (g *Gateway) Close() {
	g.mu.Lock()
	again := g.closed
	g.closed = true
	g.mu.Unlock()
	if again {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), shutdownTimeout)
	defer cancel()
	g.stop()
	if g.server != nil {
		g.lambda.retireIdle()
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

// Route is a route of the API.
type Route struct {
	Method, Path string
	Authorizer   string // the function that decides who may call it; "" if there is none
	IAM          bool   // it is of AWS IAM
}

// Routes returns the routes, in the order of the template.
func (g *Gateway) Routes() (routes []Route) {
	for _, rt := range g.current.Load().routes {
		r := Route{Method: rt.method, Path: rt.path(), IAM: rt.iam}
		if rt.authorizer != nil {
			r.Authorizer = rt.authorizer.function.binary()
		}
		routes = append(routes, r)
	}
	return routes
}

// Invoke sends an event to a function and returns the response. The function is
// given by its logical id (CreateFunction), by that without "Function" (Create)
// or by its folder (create). It returns an error if the function fails.
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

// Processes returns the running processes, sorted by function and PID.
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
	metrics metrics // of the functions; their lines are not written

	mu sync.Mutex
	w  io.Writer
}

func (o *output) printf(format string, args ...any) {
	o.mu.Lock()
	defer o.mu.Unlock()
	fmt.Fprintf(o.w, format+"\n", args...)
}

// lines returns a writer that writes whole lines to o, with the prefix if a line
// is not JSON.
func (o *output) lines(prefix string) *lines { return &lines{out: o, prefix: prefix} }

// lines is the writer of output.lines. Only one goroutine may use it.
type lines struct {
	out    *output
	prefix string
	part   []byte // the start of a line
	last   string // the last whole line
}

// maxLine is the length in bytes at which a line is cut in two.
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

// flush writes a line that has no end yet.
func (l *lines) flush() {
	if len(l.part) > 0 {
		l.line(l.part)
		l.part = nil
	}
}

func (l *lines) line(line []byte) {
	if l.out.metrics.take(line) {
		return
	}
	l.last = string(line)
	if bytes.HasPrefix(line, []byte("{")) {
		l.out.printf("%s", escaped(line))
	} else {
		l.out.printf("%s: %s", l.prefix, line)
	}
}
