package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// function is a running function, and what stands for Lambda's Runtime API to it.
type function struct {
	began      time.Time
	registered time.Time // when it asked to be told of its end
	first      time.Time // when it first asked for an event
	answered   time.Time // when it began its last answer
	events     chan []byte
	asks       chan time.Time
	says       chan outcome
	server     *http.Server
	cmd        *exec.Cmd
	output     strings.Builder
	ended      chan struct{} // closed when the process has ended
}

// outcome is what a function says to an event.
type outcome struct {
	at   time.Time
	body []byte
	err  error
}

// startFunction starts a binary with the environment. The function ends with ctx.
func startFunction(ctx context.Context, binary string, env []string) (*function, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	f := &function{events: make(chan []byte, 1), asks: make(chan time.Time, 1), says: make(chan outcome, 1), ended: make(chan struct{})}
	f.server = &http.Server{Handler: f}
	go f.server.Serve(listener)
	f.cmd = exec.CommandContext(ctx, binary)
	f.cmd.Env = append(slices.Clone(env), "AWS_LAMBDA_RUNTIME_API="+listener.Addr().String())
	f.cmd.Stdout, f.cmd.Stderr = &f.output, &f.output
	f.began = time.Now()
	if err := f.cmd.Start(); err != nil {
		f.server.Close()
		return nil, err
	}
	go func() {
		f.cmd.Wait()
		close(f.ended)
	}()
	if f.first, err = receive(f, f.asks); err != nil {
		f.stop()
		return nil, err
	}
	return f, nil
}

func (f *function) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	now := time.Now()
	if strings.HasSuffix(r.URL.Path, "/invocation/next") {
		f.asks <- now
		select {
		case event := <-f.events:
			w.Header().Set("Lambda-Runtime-Aws-Request-Id", "8476a536-e9f4-11e8-9739-2dfe598c3fcd")
			w.Header().Set("Lambda-Runtime-Deadline-Ms", strconv.FormatInt(now.Add(time.Hour).UnixMilli(), 10))
			w.Write(event)
		case <-r.Context().Done():
		}
		return
	}
	if strings.HasSuffix(r.URL.Path, "/extension/register") { // for SIGTERM
		f.registered = now
		w.Header().Set("Lambda-Extension-Identifier", "3fbd7bd7-7a9d-4a0c-8f6e-6ac9c1c5d0a1")
		return
	}
	if strings.HasSuffix(r.URL.Path, "/extension/event/next") {
		<-r.Context().Done()
		return
	}
	o := outcome{at: now}
	o.body, o.err = io.ReadAll(r.Body)
	if !strings.HasSuffix(r.URL.Path, "/response") {
		o.err = fmt.Errorf("%s: %s", r.URL.Path, o.body)
	}
	w.WriteHeader(http.StatusAccepted)
	f.says <- o
}

// invoke gives the function an event and returns its answer. The time is from the moment
// when it gets the event to the moment when its answer begins.
func (f *function) invoke(event []byte) (answer []byte, took time.Duration, err error) {
	began := time.Now()
	f.events <- event
	o, err := receive(f, f.says)
	if err = errors.Join(err, o.err); err != nil {
		return nil, 0, fmt.Errorf("%s: %w", f.cmd.Path, err)
	}
	f.answered = o.at
	_, err = receive(f, f.asks) // ready for the next one
	return o.body, o.at.Sub(began), err
}

// receive waits for the function to do something.
func receive[T any](f *function, c chan T) (value T, err error) {
	select {
	case value = <-c:
		return value, nil
	case <-f.ended:
		output := f.output.String()
		return value, fmt.Errorf("%s ended: %v\n%s", f.cmd.Path, f.cmd.ProcessState, output[max(0, len(output)-1000):])
	case <-time.After(time.Minute):
		return value, fmt.Errorf("%s does not answer", f.cmd.Path)
	}
}

// cpu returns the processor time that the function has used, to 10 ms.
func (f *function) cpu() (time.Duration, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", f.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	var ticks int64 // of 10 ms, user and system (proc_pid_stat(5))
	for _, field := range fields[11:13] {
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return 0, err
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond, nil
}

// memory returns a value of /proc/PID/status, such as VmRSS, in MiB.
func (f *function) memory(name string) (float64, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", f.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(status), "\n"+name+":")
	var kib float64
	_, err = fmt.Sscan(rest, &kib)
	return kib / 1024, err
}

// stop ends the function and returns what it used.
func (f *function) stop() *syscall.Rusage {
	f.cmd.Process.Kill()
	<-f.ended
	f.server.Close()
	usage, _ := f.cmd.ProcessState.SysUsage().(*syscall.Rusage)
	return usage
}
