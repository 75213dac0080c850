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

	"orgservice/local/mongodbtest"
)

// program is the built command local of one version of the service.
type program struct {
	command string // path
	root    string // folder of the version's source, in which it runs
}

// current is the version under test.
var current program

// signingSecret is JWT_SECRET of the gateways that the suite starts.
var signingSecret = secrets.add(rand.Text() + rand.Text())

// introspectionSecret is INTROSPECTION_SECRET of these gateways.
var introspectionSecret = secrets.add(rand.Text() + rand.Text())

// buildCurrent builds command local of the version under test into the folder dir.
func buildCurrent(dir string) (program, error) {
	out, err := exec.Command("go", "env", "GOMOD").Output()
	if err != nil {
		return program{}, fmt.Errorf("go env GOMOD: %w", err)
	}
	return buildLocal(filepath.Dir(strings.TrimSpace(string(out))), dir)
}

// buildLocal builds command local of the version in the folder root into the folder dir.
func buildLocal(root, dir string) (program, error) {
	p := program{command: filepath.Join(dir, "local"), root: root}
	args := []string{"build", "-o", p.command}
	if raceEnabled {
		args = append(args, "-race")
	}
	build := exec.Command("go", append(args, "./local")...)
	build.Dir = root
	if out, err := build.CombinedOutput(); err != nil {
		return program{}, fmt.Errorf("go build ./local: %w\n%s", err, out)
	}
	return p, nil
}

// serverURL is MONGO_URL, the server of the gateways' databases. If it is empty,
// the databases are embedded.
var serverURL = os.Getenv("MONGO_URL")

// masterDBs holds the names of the databases on that server, by data folder.
var masterDBs = struct {
	mu    sync.Mutex
	names map[string]string
}{names: map[string]string{}}

// masterDB returns MASTER_DB for the gateway on a data folder. On the server of
// MONGO_URL, which others may use, each data folder has a name of its own.
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

// dropMasterDBs drops all databases in masterDBs.
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

// newCommand returns command local for a data folder. It sets all variables that
// matter, so that it runs the same on every machine; those in env replace them.
func (p program) newCommand(data string, env []string, args ...string) *exec.Cmd {
	wide := []string{"-data", data}
	for _, name := range []string{"ThrottleRate", "ThrottleBurst", "OpenThrottleRate", "OpenThrottleBurst"} {
		wide = append(wide, "-parameter", name+"=10000")
	}
	cmd := exec.Command(p.command, append(wide, args...)...)
	cmd.Dir = p.root
	cmd.Env = append(os.Environ(), "PORT=0", "MONGO_URL="+serverURL, "MASTER_DB=", "JWT_SECRET="+signingSecret, "JWT_SECRET_PREVIOUS=", "INTROSPECTION_SECRET="+introspectionSecret,
		"JWT_EXPIRES_IN=", "SMTP_URL=", "MAIL_FROM=", "APP_URL=", "BCRYPT_COST=4", "LOG_LEVEL=DEBUG")
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

var readyMessage = regexp.MustCompile(`(?m)^listening on (http://\S+) \(pid \d+\)$`)

// patience is how long a test waits for something that must happen. Compiling for
// the first time, while other tests compile too, takes minutes.
const patience = 10 * time.Minute

// startLocal starts a gateway of the current version and returns when it listens.
func startLocal(data string, env []string, args ...string) (*process, error) {
	return current.start(data, env, args...)
}

func (v program) start(data string, env []string, args ...string) (*process, error) {
	p := &process{data: data, cmd: v.newCommand(data, env, args...), out: &output{changed: make(chan struct{})}, ended: make(chan struct{})}
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

// stop ends the gateway with SIGTERM and waits for its end.
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

// kill ends the gateway with SIGKILL and waits for its end.
func (p *process) kill() {
	p.cmd.Process.Kill()
	<-p.ended
}

// newLocal starts a gateway, which ends with the test. If data is empty, it has a
// new data folder.
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

// newEmptyLocal starts a gateway on an empty database, which is a process of its
// own like that of the suite.
func newEmptyLocal(t *testing.T) *process {
	t.Helper()
	var env []string
	if serverURL == "" {
		database, err := mongodbtest.Embedded()
		if err != nil {
			t.Fatal(err)
		}
		env = []string{"MONGO_URL=" + database, "MASTER_DB=e2e_" + unique()}
	}
	return newLocal(t, "", env)
}

// newData returns a new data folder. It holds no data, but the built functions,
// because linking them takes longer than most tests.
func newData(t *testing.T) string {
	t.Helper()
	data := filepath.Join(t.TempDir(), "data")
	if err := keepBuild(data); err != nil {
		t.Fatal(err)
	}
	return data
}

// keepBuild makes the folder of the built functions in data one that all gateways of
// the suite share and that stays, so that only what has changed is linked.
func keepBuild(data string) error {
	kept := filepath.Join(current.root, "local", ".data", "e2e")
	return errors.Join(os.MkdirAll(kept, 0o700), os.MkdirAll(data, 0o700), os.Symlink(kept, filepath.Join(data, "build")))
}

// runLocal runs command local until it ends.
func runLocal(t *testing.T, data string, env []string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var out, errs bytes.Buffer
	cmd := current.newCommand(data, env, args...)
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

// output is the output of a process.
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

// read returns the output so far, and a channel that is closed when there is more.
func (o *output) read() (text string, changed <-chan struct{}) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String(), o.changed
}

func (o *output) String() string {
	text, _ := o.read()
	return text
}
