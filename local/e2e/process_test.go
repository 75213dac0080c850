package e2e

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

// command is the built command local, and root the folder to run it in.
var command, root string

// signingSecret is JWT_SECRET of the gateways that the suite starts.
var signingSecret = secrets.add(rand.Text() + rand.Text())

// buildLocal builds command local into the folder dir.
func buildLocal(dir string) error {
	out, err := exec.Command("go", "env", "GOMOD").Output()
	if err != nil {
		return fmt.Errorf("go env GOMOD: %w", err)
	}
	root = filepath.Dir(strings.TrimSpace(string(out)))
	command = filepath.Join(dir, "local")
	args := []string{"build", "-o", command}
	if raceEnabled {
		args = append(args, "-race")
	}
	build := exec.Command("go", append(args, "./local")...)
	build.Dir = root
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("go build ./local: %w\n%s", err, out)
	}
	return nil
}

// serverURL is MONGO_URL: the server that has the databases of the gateways,
// unless each has an embedded one.
var serverURL = os.Getenv("MONGO_URL")

// masterDBs are the databases on that server, by the folder of the data.
var masterDBs = struct {
	mu    sync.Mutex
	names map[string]string
}{names: map[string]string{}}

// masterDB returns the database of the gateway on the data: that of everybody,
// but on a server, which others have, too, one of its own.
func masterDB(data string) string {
	if serverURL == "" {
		return "organization_master"
	}
	masterDBs.mu.Lock()
	defer masterDBs.mu.Unlock()
	if masterDBs.names[data] == "" {
		masterDBs.names[data] = "e2e_" + unique()
	}
	return masterDBs.names[data]
}

// dropMasterDBs leaves the server as it was.
func dropMasterDBs() error {
	if serverURL == "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	c, err := mongo.Connect(options.Client().ApplyURI(serverURL))
	if err != nil {
		return errors.New("MONGO_URL can't be read") // err may quote it
	}
	defer c.Disconnect(ctx)
	var errs []error
	for _, name := range masterDBs.names {
		errs = append(errs, c.Database(name).Drop(ctx))
	}
	return errors.Join(errs...)
}

// newCommand returns command local on the data, with variables over those that
// make a run the same everywhere.
func newCommand(data string, env []string, args ...string) *exec.Cmd {
	wide := []string{"-data", data}
	for _, name := range []string{"ThrottleRate", "ThrottleBurst", "OpenThrottleRate", "OpenThrottleBurst"} {
		wide = append(wide, "-parameter", name+"=10000")
	}
	cmd := exec.Command(command, append(wide, args...)...)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "PORT=0", "MONGO_URL="+serverURL, "MASTER_DB=", "JWT_SECRET="+signingSecret, "JWT_SECRET_PREVIOUS=",
		"JWT_EXPIRES_IN=", "BCRYPT_COST=4", "AWS_LAMBDA_LOG_LEVEL=DEBUG")
	if serverURL != "" {
		cmd.Env = append(cmd.Env, "MASTER_DB="+masterDB(data))
	}
	cmd.Env = append(cmd.Env, env...)
	cmd.WaitDelay = 5 * time.Second
	return cmd
}

// process is a running gateway.
type process struct {
	url   string
	data  string
	cmd   *exec.Cmd
	out   *output
	ended chan struct{} // closed when the process has ended
	err   error         // of the ended process
}

var readyMessage = regexp.MustCompile(`(?m)^listening on (http://\S+), the data is `)

// patience is how long to wait for what must come: a gateway that compiles
// everything for the first time, while other tests do, takes minutes.
const patience = 10 * time.Minute

// startLocal starts a gateway and returns when it listens.
func startLocal(data string, env []string, args ...string) (*process, error) {
	p := &process{data: data, cmd: newCommand(data, env, args...), out: &output{changed: make(chan struct{})}, ended: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = p.out, p.out
	secrets.addLog(p.out)
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.ended)
	}()
	deadline := time.After(patience)
	for {
		text, changed := p.out.read()
		if m := readyMessage.FindStringSubmatch(text); m != nil {
			p.url = m[1]
			return p, nil
		}
		select {
		case <-changed:
		case <-p.ended:
			return nil, fmt.Errorf("local ended: %v\n%s", p.err, p.out)
		case <-deadline:
			p.kill()
			return nil, fmt.Errorf("local does not listen:\n%s", p.out)
		}
	}
}

// stop ends the gateway as Ctrl-C does.
func (p *process) stop() error {
	p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.ended:
	case <-time.After(patience):
		p.kill()
		return errors.New("local does not end after SIGTERM")
	}
	if p.err != nil {
		return fmt.Errorf("local after SIGTERM: %w\n%s", p.err, p.out)
	}
	return nil
}

func (p *process) mustStop(t testing.TB) {
	t.Helper()
	if err := p.stop(); err != nil {
		t.Fatal(err)
	}
}

// kill ends the gateway as a crash does.
func (p *process) kill() {
	p.cmd.Process.Kill()
	<-p.ended
}

// newLocal starts a gateway for the test, on new data if data is empty.
func newLocal(t *testing.T, data string, env []string, args ...string) *process {
	t.Helper()
	if data == "" {
		data = newData(t)
	}
	p, err := startLocal(data, env, args...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		select {
		case <-p.ended:
		default:
			p.mustStop(t)
		}
	})
	return p
}

// newData returns a folder without data, but with the functions as they are
// built: linking them takes longer than most tests.
func newData(t *testing.T) string {
	t.Helper()
	data := filepath.Join(t.TempDir(), "data")
	if err := os.CopyFS(filepath.Join(data, "build"), os.DirFS(filepath.Join(own.data, "build"))); err != nil {
		t.Fatal(err)
	}
	return data
}

// runLocal runs command local to its end.
func runLocal(t *testing.T, data string, env []string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var out, errs bytes.Buffer
	cmd := newCommand(data, env, args...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer context.AfterFunc(ctx, func() { cmd.Process.Kill() })()
	cmd.Wait()
	if ctx.Err() != nil {
		t.Fatalf("local %q does not end:\n%s%s", args, &out, &errs)
	}
	return cmd.ProcessState.ExitCode(), out.String(), errs.String()
}

// output is what a process has printed.
type output struct {
	mu      sync.Mutex
	b       bytes.Buffer
	changed chan struct{} // closed with the next write
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	close(o.changed)
	o.changed = make(chan struct{})
	return o.b.Write(b)
}

func (o *output) read() (text string, changed <-chan struct{}) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String(), o.changed
}

func (o *output) String() string {
	text, _ := o.read()
	return text
}
