package gateway

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestConcurrency(t *testing.T) {
	g, _ := newGateway(t, Config{})
	// Each waits until all of them run.
	path := "/act?do=meet&n=5&dir=" + url.QueryEscape(t.TempDir())
	pids := map[string]bool{}
	for _, r := range together(t, g, 5, path) {
		pids[r.body] = true
	}
	if len(pids) != 5 {
		t.Errorf("5 requests at once were answered by %d processes", len(pids))
	}
	for range 5 {
		if r := send(t, g, "GET", "/act", ""); !pids[r.body] {
			t.Errorf("one request at a time: %v, want one of the processes %v", r, pids)
		}
	}
}

func TestReuse(t *testing.T) {
	g, _ := newGateway(t, Config{})
	first := send(t, g, "GET", "/act", "")
	for range 20 {
		if r := send(t, g, "GET", "/act", ""); r.body != first.body {
			t.Fatalf("got %v after %v: requests one after the other need one process", r, first)
		}
	}
}

func TestMaxInstances(t *testing.T) {
	g, _ := newGateway(t, Config{MaxInstances: 2})
	pids := map[string]bool{}
	for _, r := range together(t, g, 12, "/act") {
		if r.status != 200 {
			t.Errorf("got %v", r)
		}
		pids[r.body] = true
	}
	if len(pids) > 2 {
		t.Errorf("%d processes, want 2", len(pids))
	}
	// When a process ends, another one takes its place.
	for _, r := range together(t, g, 5, "/act?do=exit") {
		if r.status != 500 {
			t.Errorf("got %v", r)
		}
	}
}

// together sends n requests at once and returns the replies.
func together(t *testing.T, g *Gateway, n int, path string) []reply {
	t.Helper()
	replies := make([]reply, n)
	var wg sync.WaitGroup
	for i := range replies {
		wg.Go(func() {
			var err error
			if replies[i], err = try(t.Context(), g, "GET", path, ""); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	return replies
}

func TestKilled(t *testing.T) {
	g, logs := newGateway(t, Config{})
	find := func(busy bool) (pid int) {
		eventually(t, "a process that is there", func() bool {
			i := slices.IndexFunc(g.Processes(), func(p Process) bool { return p.Function == "ActFunction" && p.Busy == busy })
			if i >= 0 {
				pid = g.Processes()[i].PID
			}
			return i >= 0
		})
		return pid
	}
	t.Run("Busy", func(t *testing.T) {
		got := make(chan reply, 1)
		go func() {
			r, _ := try(t.Context(), g, "GET", "/act?do=hang", "")
			got <- r
		}()
		syscall.Kill(find(true), syscall.SIGKILL)
		if r := <-got; r.String() != `500 {"message":"Internal Server Error"}` {
			t.Errorf("got %v", r)
		}
		eventually(t, "a line of the end", func() bool { return strings.Contains(logs.String(), "ActFunction ended: signal: killed\n") })
	})
	t.Run("Idle", func(t *testing.T) {
		before := send(t, g, "GET", "/act", "")
		pid := find(false)
		syscall.Kill(pid, syscall.SIGKILL)
		eventually(t, "the process is gone", func() bool {
			return !slices.ContainsFunc(g.Processes(), func(p Process) bool { return p.PID == pid })
		})
		if after := send(t, g, "GET", "/act", ""); after.status != 200 || after.body == before.body {
			t.Errorf("got %v after %v", after, before)
		}
	})
}

func TestEnvironment(t *testing.T) {
	t.Setenv("NOT_DECLARED", "1")
	t.Setenv("FROM_GLOBALS", "not taken from here")
	t.Setenv("AWS_ACCESS_KEY_ID", "key")
	t.Setenv("AWS_REGION", "eu-west-1")
	t.Setenv("AWS_ENDPOINT_URL_SECRETS_MANAGER", "http://localhost:1")
	t.Setenv("TMPDIR", os.TempDir())
	g, _ := newGateway(t, Config{Env: map[string]string{
		"FROM_ENV":              "from env",
		"UNDECLARED":            "secret",
		"AWS_SECRET_ACCESS_KEY": "from env",
	}})
	var env []string
	if err := json.Unmarshal([]byte(send(t, g, "GET", "/act?do=env", "").body), &env); err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, variable := range env {
		name, value, _ := strings.Cut(variable, "=")
		got[name] = value
	}
	for name, prefix := range map[string]string{
		"AWS_LAMBDA_RUNTIME_API":  "127.0.0.1:",
		"AWS_XRAY_DAEMON_ADDRESS": "127.0.0.1:",
		"LAMBDA_TASK_ROOT":        "/",
		"_X_AMZN_TRACE_ID":        "Root=1-", // the Lambda library of the function sets it
	} {
		if !strings.HasPrefix(got[name], prefix) {
			t.Errorf("%s=%s", name, got[name])
		}
		delete(got, name)
	}
	delete(got, "AWS_SESSION_TOKEN") // set on some machines
	want := map[string]string{
		"AWS_ACCESS_KEY_ID":                "key",
		"AWS_ENDPOINT_URL_SECRETS_MANAGER": "http://localhost:1",
		"AWS_LAMBDA_FUNCTION_MEMORY_SIZE":  "256",
		"AWS_LAMBDA_FUNCTION_NAME":         "ActFunction",
		"AWS_LAMBDA_FUNCTION_VERSION":      "$LATEST",
		"AWS_LAMBDA_LOG_FORMAT":            "JSON",
		"AWS_LAMBDA_LOG_LEVEL":             "WARN",
		"AWS_REGION":                       "eu-west-1",
		"AWS_SECRET_ACCESS_KEY":            "from env",
		"FROM_ENV":                         "from env",
		"FROM_GLOBALS":                     "hello",
		"HOME":                             os.Getenv("HOME"),
		"OVERRIDDEN":                       "function",
		"PATH":                             os.Getenv("PATH"),
		"SUBSTITUTED":                      "hello eu-west-1 ${Literal} arn:aws:lambda:eu-west-1:123456789012:function:EchoFunction",
		"TMPDIR":                           os.TempDir(),
		"TZ":                               ":UTC",
		"_HANDLER":                         "bootstrap",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("environment (-want +got):\n%s", diff)
	}

	var seen []string
	if err := json.Unmarshal([]byte(send(t, g, "GET", "/act?do=context", "").body), &seen); err != nil {
		t.Fatal(err)
	}
	if len(seen) != 3 || len(seen[0]) != 36 || seen[1] != functionARN("eu-west-1", "ActFunction") || seen[2] != "10s" {
		t.Errorf("lambda context %q", seen)
	}
}

func TestInvoke(t *testing.T) {
	g, _ := newGateway(t, Config{})
	for _, name := range []string{"EchoFunction", "Echo", "echo"} {
		if got, err := g.Invoke(t.Context(), name, []byte(`{"a":1}`)); err != nil || string(got) != `{"a":1}` {
			t.Errorf("Invoke(%s) = %s, %v", name, got, err)
		}
	}
	for _, test := range []struct{ name, event, want string }{
		{"none", `{}`, `there is no function none: there are act, authorizer, broken, echo`},
		{"act", `{"version":"2.0","queryStringParameters":{"do":"error"}}`, `ActFunction failed: errorString: refused`},
		{"act", `{"version":"2.0","queryStringParameters":{"do":"exit"}}`, `ActFunction ended: exit status 3: last words`},
		{"Hurried", `{"version":"2.0","queryStringParameters":{"do":"hang"}}`, `HurriedFunction timed out after 1s`},
	} {
		if _, err := g.Invoke(t.Context(), test.name, []byte(test.event)); err == nil || err.Error() != test.want {
			t.Errorf("Invoke(%s): %v, want %s", test.name, err, test.want)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := g.Invoke(ctx, "act", []byte(`{"version":"2.0","queryStringParameters":{"do":"hang"}}`)); err != context.DeadlineExceeded {
		t.Errorf("a call given up: %v", err)
	}
}

func TestSchedules(t *testing.T) {
	g, logs := newGateway(t, Config{minute: 30 * time.Millisecond})
	var seen []string
	eventually(t, "each schedule ran twice", func() bool {
		seen = nil
		for line := range strings.Lines(logs.String()) {
			if event, ok := strings.CutPrefix(line, `{"event":`); ok {
				seen = append(seen, strings.TrimSuffix(event, "}\n"))
			}
		}
		return strings.Count(logs.String(), "aws.events") >= 2 && strings.Count(logs.String(), "aws.scheduler") >= 2 &&
			strings.Count(logs.String(), "fixed") >= 2
	})
	got := map[string]map[string]any{}
	for _, event := range seen {
		e := fields(t, event)
		source, _ := e["source"].(string)
		got[source] = e
	}
	var want = map[string]map[string]any{
		"": {"id": "fixed"},
		"aws.events": {
			"version": "0", "id": got["aws.events"]["id"], "detail-type": "Scheduled Event", "source": "aws.events",
			"account": "123456789012", "time": got["aws.events"]["time"], "region": "us-east-1",
			"resources": []any{"arn:aws:events:us-east-1:123456789012:rule/ScheduledFunctionRule"}, "detail": map[string]any{},
		},
		"aws.scheduler": {
			"version": "0", "id": got["aws.scheduler"]["id"], "detail-type": "Scheduled Event", "source": "aws.scheduler",
			"account": "123456789012", "time": got["aws.scheduler"]["time"], "region": "us-east-1",
			"resources": []any{"arn:aws:scheduler:us-east-1:123456789012:schedule/default/ScheduledFunctionScheduler"}, "detail": "{}",
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
	for _, source := range []string{"aws.events", "aws.scheduler"} {
		if at, err := time.Parse(time.RFC3339, got[source]["time"].(string)); err != nil || time.Since(at) > time.Minute {
			t.Errorf("%s: time %v", source, got[source]["time"])
		}
	}
	if n := len(g.Processes()); n > 3 {
		t.Errorf("%d processes for 3 schedules: one ran twice at once", n)
	}
}

// TestClose closes the gateway while a request runs.
func TestClose(t *testing.T) {
	g, _ := newGateway(t, Config{})
	send(t, g, "GET", "/act", "") // this leaves an idle process
	dir := t.TempDir()
	got := make(chan reply, 1)
	go func() {
		r, _ := try(t.Context(), g, "GET", "/act?do=meet&n=2&dir="+url.QueryEscape(dir), "")
		got <- r
	}()
	eventually(t, "a busy process", func() bool {
		met, _ := os.ReadDir(dir)
		return len(met) == 1
	})
	closed := make(chan struct{})
	go func() {
		g.Close()
		close(closed)
	}()
	eventually(t, "no new connections", func() bool {
		c, err := net.Dial("tcp", strings.TrimPrefix(g.URL(), "http://"))
		if err == nil {
			c.Close()
		}
		return err != nil
	})
	if err := os.WriteFile(filepath.Join(dir, "other"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if r := <-got; r.status != 200 {
		t.Errorf("the request under way: %v", r)
	}
	<-closed
}

// TestGatewayKilled checks that the functions end when the gateway is killed.
func TestGatewayKilled(t *testing.T) {
	held, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), "GATEWAY_TEST_CHILD="+buildDir, "GATEWAY_TEST_HOLD="+held.Addr().String())
	child.Stderr = os.Stderr
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	defer child.Wait()
	defer child.Process.Kill()
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "idle\n" {
		t.Fatalf("the gateway said %q, %v", line, err)
	}
	connection, err := held.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer connection.Close()
	child.Process.Kill()
	connection.SetReadDeadline(time.Now().Add(patient))
	// The connection closes when the process of the function ends.
	if n, err := connection.Read(make([]byte, 1)); n != 0 || os.IsTimeout(err) {
		t.Errorf("the function goes on without the gateway: %v", err)
	}
}

// serveChild is the gateway that TestGatewayKilled kills.
func serveChild() {
	g, err := New(context.Background(), Config{
		Root:     ".",
		Template: filepath.Join("testdata", "template.yaml"),
		BuildDir: os.Getenv("GATEWAY_TEST_CHILD"),
		Env:      map[string]string{"FROM_ENV": ""},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	go g.Serve()
	event := fmt.Sprintf(`{"version":"2.0","queryStringParameters":{"do":"hold","addr":%q}}`, os.Getenv("GATEWAY_TEST_HOLD"))
	if _, err := g.Invoke(context.Background(), "act", []byte(event)); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("idle")
	select {}
}
