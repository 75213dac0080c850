package gateway

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	maxPayload  = 6_291_556        // bytes of an event or a response, as in Lambda
	initTimeout = 10 * time.Second // within which a process must ask for its first event, as in Lambda
	gracePeriod = time.Second      // between SIGTERM and SIGKILL
)

var (
	errTooLarge = errors.New("the event is over Lambda's limit of 6 MB")
	errClosed   = errors.New("the gateway is closed")
)

// lambda stands for the Lambda service: it runs functions as processes, which
// ask it for events over the Runtime API.
type lambda struct {
	config   *Config
	bin      string // folder of the binaries
	out      *output
	listener net.Listener
	server   *http.Server
	traces   *traces

	mu        sync.Mutex
	closed    bool
	fleets    map[string]*fleet   // by the function's logical id
	processes map[string]*process // by token
	exits     sync.WaitGroup      // waits for the processes
}

// fleet holds the processes of one function. lambda.mu guards its fields.
type fleet struct {
	function   *function
	generation int           // of the processes that still get events
	building   bool          // events wait until the binary is built
	used       time.Time     // when it last got an event of a request
	queue      []*invocation // without a process so far
	idle       []*process    // the one used last is at the end
	all        []*process    // running, of this generation and older ones
}

// process is one running process of a function. lambda.mu guards the fields
// below cmd.
type process struct {
	fleet      *fleet
	function   *function // as it was when the process started
	generation int
	token      string // is in the URL of the Runtime API that the process gets
	stderr     *lines
	cmd        *exec.Cmd

	ready   bool             // it has asked for an event
	used    bool             // it has got one
	current *invocation      // the one it works on
	events  chan *invocation // hands an event to the waiting request of an idle process
	killed  string           // why the gateway has killed it; "" if it has not
}

// invocation is one call of a function.
type invocation struct {
	id    string
	trace string
	event []byte
	cold  bool         // it is the first one of its process
	done  chan outcome // gets the one outcome; has room for it
	span  span
}

// outcome is the result of an invocation.
type outcome struct {
	response []byte
	err      error
	pid      int  // of the process that ran it; 0 if none has
	cold     bool // it was the first event of the process
	span     span
}

// functionError is the error that a function has returned.
type functionError struct {
	Type    string `json:"errorType"`
	Message string `json:"errorMessage"`
}

func (e *functionError) Error() string {
	return cmp.Or(e.Type, "error") + ": " + e.Message
}

// newLambda starts the Runtime API. The folder bin holds the binaries.
func newLambda(config *Config, bin string, out *output) (*lambda, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	traces, err := newTraces()
	if err != nil {
		listener.Close()
		return nil, err
	}
	l := &lambda{
		config:    config,
		bin:       bin,
		out:       out,
		listener:  listener,
		traces:    traces,
		fleets:    map[string]*fleet{},
		processes: map[string]*process{},
	}
	mux := http.NewServeMux()
	const invocation = "/{token}/2018-06-01/runtime/invocation/"
	mux.HandleFunc("GET "+invocation+"next", l.withProcess(l.next))
	mux.HandleFunc("POST "+invocation+"{id}/response", l.withProcess(l.response))
	mux.HandleFunc("POST "+invocation+"{id}/error", l.withProcess(l.failure))
	mux.HandleFunc("POST /{token}/2018-06-01/runtime/init/error", l.withProcess(l.initFailure))
	const extension = "/{token}/2020-01-01/extension/"
	mux.HandleFunc("POST "+extension+"register", l.withProcess(l.register))
	mux.HandleFunc("GET "+extension+"event/next", l.withProcess(l.noEvent))
	l.server = &http.Server{Handler: mux}
	go l.server.Serve(listener)
	return l, nil
}

// install sets the functions that can be invoked. A process gets no more events
// and ends if its function is no longer there, has other settings than before,
// or has a binary in changed.
func (l *lambda) install(functions []*function, changed []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	installed := map[string]bool{}
	for _, f := range functions {
		installed[f.id] = true
		fl := l.fleets[f.id]
		if fl == nil {
			l.fleets[f.id] = &fleet{function: f}
			continue
		}
		if slices.Contains(changed, f.binary()) || !reflect.DeepEqual(f, fl.function) {
			fl.retire()
		}
		fl.function = f
	}
	for id, fl := range l.fleets {
		if !installed[id] {
			fl.retire()
		}
	}
}

// hold makes the events of the functions wait for release.
func (l *lambda) hold(functions []*function) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, f := range functions {
		l.fleets[f.id].building = true
	}
}

// release lets the functions have their events, with new processes if their
// binaries are in changed.
func (l *lambda) release(functions []*function, changed []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, f := range functions {
		fl := l.fleets[f.id]
		if slices.Contains(changed, f.binary()) {
			fl.retire()
		}
		fl.building = false
		l.dispatch(fl)
	}
}

// mostWanted returns the function that has waiting events, or otherwise the one
// that was used last.
func (l *lambda) mostWanted(functions []*function) *function {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.MaxFunc(functions, func(a, b *function) int {
		x, y := l.fleets[a.id], l.fleets[b.id]
		return cmp.Or(cmp.Compare(min(len(x.queue), 1), min(len(y.queue), 1)), x.used.Compare(y.used))
	})
}

// use notes that a request uses the function. A schedule does not: nobody waits
// for it.
func (l *lambda) use(f *function) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fleets[f.id].used = time.Now()
}

// invoke sends an event to a function and waits for the outcome or for the end of
// ctx. The error in the outcome is a *functionError if the function has returned
// an error.
func (l *lambda) invoke(ctx context.Context, f *function, trace string, event []byte) outcome {
	if len(event) > maxPayload {
		return outcome{err: errTooLarge}
	}
	inv := &invocation{
		id: newUUID(), event: event, done: make(chan outcome, 1),
		span: span{function: f.binary(), id: newSegmentID(), asked: time.Now()},
	}
	inv.trace = trace + ";Parent=" + inv.span.id + ";Sampled=1"
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return outcome{err: errClosed}
	}
	fl := l.fleets[f.id]
	fl.queue = append(fl.queue, inv)
	l.dispatch(fl)
	l.mu.Unlock()

	select {
	case o := <-inv.done:
		return o
	case <-ctx.Done():
		l.mu.Lock()
		defer l.mu.Unlock()
		fl.queue = slices.DeleteFunc(fl.queue, func(i *invocation) bool { return i == inv })
		return outcome{err: ctx.Err()}
	}
}

// dispatch hands queued invocations to idle processes. For each of the others it
// starts a process, unless one is starting already.
func (l *lambda) dispatch(fl *fleet) {
	for l.closed && len(fl.queue) > 0 {
		fl.fail(outcome{err: errClosed})
	}
	if fl.building {
		return
	}
	for len(fl.queue) > 0 && len(fl.idle) > 0 {
		last := len(fl.idle) - 1
		l.assign(fl.idle[last], fl.queue[0])
		fl.idle, fl.queue = fl.idle[:last], fl.queue[1:]
	}
	starting := 0
	for _, p := range fl.all {
		if p.current == nil && p.generation == fl.generation {
			starting++
		}
	}
	for ; starting < len(fl.queue) && len(fl.all) < l.config.MaxInstances; starting++ {
		if err := l.start(fl); err != nil {
			fl.fail(outcome{err: fmt.Errorf("%s did not start: %w", fl.function.id, err)})
			starting--
		}
	}
}

// assign hands inv to the process p, and kills p at the timeout of the function.
func (l *lambda) assign(p *process, inv *invocation) {
	inv.cold, p.used, p.current = !p.used, true, inv
	inv.span.began = time.Now()
	p.events <- inv
	timeout := l.limit(p.function.timeout)
	time.AfterFunc(timeout, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if p.current == inv {
			p.kill(fmt.Sprintf("timed out after %v", timeout))
		}
	})
}

// limit returns the time limit, or noLimit for a debugger.
func (l *lambda) limit(limit time.Duration) time.Duration {
	if l.config.Debug {
		return noLimit
	}
	return limit
}

// start starts a process of the function.
func (l *lambda) start(fl *fleet) error {
	p := &process{
		fleet:      fl,
		function:   fl.function,
		generation: fl.generation,
		token:      rand.Text(),
		stderr:     l.out.lines(fl.function.id),
		events:     make(chan *invocation, 1),
	}
	p.cmd = exec.Command(filepath.Join(l.bin, p.function.binary()))
	p.cmd.Env = l.environment(p)
	p.cmd.Dir = l.bin
	p.cmd.Stdout = l.out.lines(p.function.id)
	p.cmd.Stderr = p.stderr
	p.cmd.WaitDelay = gracePeriod
	// Ctrl-C in a terminal signals the whole process group. In a group of its
	// own, a function can finish its event.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := p.cmd.Start(); err != nil {
		return err
	}
	fl.all = append(fl.all, p)
	l.processes[p.token] = p
	l.exits.Go(func() { l.wait(p) })
	time.AfterFunc(l.limit(initTimeout), func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if !p.ready {
			p.kill(fmt.Sprintf("asked for no event within %v", initTimeout))
		}
	})
	return nil
}

// environment returns the environment of the process: the variables of the
// template, those of Lambda, and of this process, or of Config.Env, what a
// function needs on this machine.
func (l *lambda) environment(p *process) []string {
	var env []string
	add := func(name, value string) { env = append(env, name+"="+value) } // the last one counts
	for _, variable := range os.Environ() {
		if name, value, _ := strings.Cut(variable, "="); isInherited(name) {
			add(name, value)
		}
	}
	for name, value := range l.config.Env {
		if isInherited(name) {
			add(name, value)
		}
	}
	for name, value := range p.function.env {
		add(name, value)
	}
	return append(env,
		"AWS_LAMBDA_FUNCTION_MEMORY_SIZE="+strconv.Itoa(p.function.memory),
		"AWS_LAMBDA_FUNCTION_NAME="+p.function.id,
		"AWS_LAMBDA_FUNCTION_VERSION=$LATEST",
		"AWS_LAMBDA_LOG_FORMAT=JSON",
		"AWS_LAMBDA_LOG_LEVEL="+l.config.LogLevel,
		"AWS_LAMBDA_RUNTIME_API="+l.listener.Addr().String()+"/"+p.token,
		"AWS_REGION="+l.config.region,
		"AWS_XRAY_DAEMON_ADDRESS="+l.traces.address(),
		"LAMBDA_TASK_ROOT="+l.bin,
		"TZ=:UTC",
		"_HANDLER="+p.function.handler,
	)
}

// isInherited reports whether a function gets the variable although the template
// does not have it.
func isInherited(name string) bool {
	switch name {
	case "PATH", "HOME", "TMPDIR", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN":
		return true
	}
	return strings.HasPrefix(name, "AWS_ENDPOINT_URL")
}

// wait waits for the end of a process and fails the invocation that it leaves.
func (l *lambda) wait(p *process) {
	err := p.cmd.Wait()
	p.cmd.Stdout.(*lines).flush()
	p.stderr.flush()
	l.mu.Lock()
	defer l.mu.Unlock()
	fl := p.fleet
	delete(l.processes, p.token)
	fl.all = slices.DeleteFunc(fl.all, func(o *process) bool { return o == p })
	fl.idle = slices.DeleteFunc(fl.idle, func(o *process) bool { return o == p })

	reason := cmp.Or(p.killed, "ended: "+p.cmd.ProcessState.String())
	if err != nil && p.killed == "" && p.stderr.last != "" {
		reason += ": " + p.stderr.last
	}
	o := outcome{err: fmt.Errorf("%s %s", p.function.id, reason), pid: p.cmd.Process.Pid}
	switch retired := p.generation < fl.generation; {
	case p.current != nil:
		p.finish(o)
		l.out.printf("%v", o.err)
	case !p.ready && !retired:
		fl.fail(o)
		l.out.printf("%v", o.err)
	}
	l.dispatch(fl)
}

// fail ends the oldest queued invocation with the outcome o.
func (fl *fleet) fail(o outcome) {
	if len(fl.queue) > 0 {
		fl.queue[0].done <- o
		fl.queue = fl.queue[1:]
	}
}

// retire ends the idle processes. The others get no more events.
func (fl *fleet) retire() {
	fl.generation++
	for _, p := range fl.idle {
		p.terminate()
	}
	fl.idle = nil
}

// finish ends the invocation that the process works on.
func (p *process) finish(o outcome) {
	o.pid, o.cold, o.span = p.cmd.Process.Pid, p.current.cold, p.current.span
	o.span.ended = time.Now()
	p.current.done <- o
	p.current = nil
}

// terminate sends SIGTERM, and SIGKILL after gracePeriod.
func (p *process) terminate() {
	p.cmd.Process.Signal(syscall.SIGTERM)
	time.AfterFunc(gracePeriod, func() { p.cmd.Process.Kill() })
}

// kill sends SIGKILL.
func (p *process) kill(why string) {
	p.killed = why
	p.cmd.Process.Kill()
}

// retireIdle ends the idle processes.
func (l *lambda) retireIdle() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, fl := range l.fleets {
		fl.retire()
	}
}

// close ends all processes. Those that work on an event have until the end of
// ctx.
func (l *lambda) close(ctx context.Context) {
	l.mu.Lock()
	l.closed = true
	for _, fl := range l.fleets {
		l.dispatch(fl)
	}
	l.mu.Unlock()
	l.terminate(func(p *process) bool { return p.current == nil })
	ended := make(chan struct{})
	go func() {
		l.exits.Wait()
		close(ended)
	}()
	select {
	case <-ended:
	case <-ctx.Done():
		l.terminate(func(*process) bool { return true })
		<-ended
	}
	l.server.Close()
	l.traces.close()
}

// terminate ends the processes for which which returns true.
func (l *lambda) terminate(which func(*process) bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, p := range l.processes {
		if which(p) {
			p.terminate()
		}
	}
}

// withProcess calls h with the process that has sent the request, which the token
// in the URL names.
func (l *lambda) withProcess(h func(http.ResponseWriter, *http.Request, *process)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		l.mu.Lock()
		p := l.processes[r.PathValue("token")]
		l.mu.Unlock()
		if p == nil {
			http.Error(w, "unknown process", http.StatusForbidden)
			return
		}
		h(w, r, p)
	}
}

// next answers a process with its next event, as soon as there is one.
func (l *lambda) next(w http.ResponseWriter, r *http.Request, p *process) {
	l.mu.Lock()
	p.ready = true
	fl := p.fleet
	if p.current != nil { // it has not answered it
		p.finish(outcome{err: fmt.Errorf("%s did not answer an event", p.function.id)})
	}
	if l.closed || p.generation < fl.generation {
		p.terminate()
	} else if !slices.Contains(fl.idle, p) {
		fl.idle = append(fl.idle, p)
		l.dispatch(fl)
	}
	l.mu.Unlock()

	var inv *invocation
	select {
	case inv = <-p.events:
	case <-r.Context().Done():
		l.mu.Lock()
		fl.idle = slices.DeleteFunc(fl.idle, func(o *process) bool { return o == p })
		l.mu.Unlock()
		select {
		case inv = <-p.events: // it came at the last moment
		default:
			return
		}
	}
	if r.Context().Err() != nil { // the process has ended; another one gets the event
		l.mu.Lock()
		defer l.mu.Unlock()
		if p.current == inv {
			p.current = nil
			fl.queue = slices.Insert(fl.queue, 0, inv)
			l.dispatch(fl)
		}
		return
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Lambda-Runtime-Aws-Request-Id", inv.id)
	h.Set("Lambda-Runtime-Deadline-Ms", strconv.FormatInt(time.Now().Add(l.limit(p.function.timeout)).UnixMilli(), 10))
	h.Set("Lambda-Runtime-Invoked-Function-Arn", functionARN(l.config.region, p.function.id))
	h.Set("Lambda-Runtime-Trace-Id", inv.trace)
	w.Write(inv.event)
}

// response takes the response of a function.
func (l *lambda) response(w http.ResponseWriter, r *http.Request, p *process) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxPayload))
	status := http.StatusAccepted
	switch _, tooLarge := errors.AsType[*http.MaxBytesError](err); {
	case tooLarge:
		status = http.StatusRequestEntityTooLarge
		err = fmt.Errorf("%s answered more than Lambda's limit of 6 MB", p.function.id)
	case err == nil && r.Trailer.Get("Lambda-Runtime-Function-Error-Type") != "":
		err = &functionError{Type: r.Trailer.Get("Lambda-Runtime-Function-Error-Type"), Message: "the response broke off"}
	}
	l.answer(w, r, p, outcome{response: body, err: err}, status)
}

// failure takes the error of a function.
func (l *lambda) failure(w http.ResponseWriter, r *http.Request, p *process) {
	l.answer(w, r, p, outcome{err: readError(r)}, http.StatusAccepted)
}

// answer ends the invocation that the request names.
func (l *lambda) answer(w http.ResponseWriter, r *http.Request, p *process, o outcome, status int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if p.current == nil || p.current.id != r.PathValue("id") {
		writeStatus(w, http.StatusBadRequest, `{"errorType":"InvalidRequestID","errorMessage":"no such invocation"}`)
		return
	}
	p.finish(o)
	writeStatus(w, status, `{"status":"OK"}`)
}

// initFailure ends a process that reports that it can't start. That fails the
// invocation that waits for it.
func (l *lambda) initFailure(w http.ResponseWriter, r *http.Request, p *process) {
	err := readError(r)
	l.mu.Lock()
	defer l.mu.Unlock()
	p.kill("failed to start: " + err.Error())
	writeStatus(w, http.StatusAccepted, `{"status":"OK"}`)
}

// register registers an extension within a function's own process. Lambda sends SIGTERM only to
// processes that have one; the gateway sends it to all.
// https://docs.aws.amazon.com/lambda/latest/dg/runtimes-extensions-api.html
func (l *lambda) register(w http.ResponseWriter, r *http.Request, p *process) {
	var request struct{ Events []string }
	if err := json.NewDecoder(io.LimitReader(r.Body, maxPayload)).Decode(&request); err != nil || len(request.Events) > 0 {
		writeStatus(w, http.StatusBadRequest, `{"errorType":"Extension.InvalidEventType","errorMessage":"the gateway has no events for extensions"}`)
		return
	}
	w.Header().Set("Lambda-Extension-Identifier", newUUID())
	writeStatus(w, http.StatusOK, string(mustMarshal(map[string]string{
		"functionName": p.function.id, "functionVersion": "$LATEST", "handler": p.function.handler,
	})))
}

// noEvent waits, as Lambda does for an extension that has registered for no events.
func (l *lambda) noEvent(_ http.ResponseWriter, r *http.Request, _ *process) { <-r.Context().Done() }

// readError returns the *functionError in the body of a request.
func readError(r *http.Request) error {
	e := &functionError{}
	if err := json.NewDecoder(io.LimitReader(r.Body, maxPayload)).Decode(e); err != nil {
		e.Message = "an error that is not a JSON object"
	}
	return e
}

func writeStatus(w http.ResponseWriter, status int, body string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	io.WriteString(w, body)
}

func newUUID() string {
	var b [16]byte
	rand.Read(b[:])
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
