package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"orgservice/local/gateway"
)

// function is the source of a function that answers with some variables of its
// environment, or with an error if the event is "fail".
const function = `package main

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
	"strings"
)

func main() {
	api := "http://" + os.Getenv("AWS_LAMBDA_RUNTIME_API") + "/2018-06-01/runtime/invocation/"
	for {
		event, err := http.Get(api + "next")
		if err != nil {
			os.Exit(1)
		}
		id := event.Header.Get("Lambda-Runtime-Aws-Request-Id")
		if body, _ := io.ReadAll(event.Body); string(body) == "\"fail\"" {
			http.Post(api+id+"/error", "", strings.NewReader("{\"errorType\":\"Bad\",\"errorMessage\":\"no\"}"))
			continue
		}
		env := map[string]string{}
		for _, name := range []string{"MONGO_URL", "MASTER_DB", "JWT_SECRET", "PORT"} {
			env[name] = os.Getenv(name)
		}
		answer, _ := json.Marshal(env)
		http.Post(api+id+"/response", "", strings.NewReader(string(answer)))
	}
}
`

const templateYAML = `Parameters:
  MasterDb: { Type: String, Default: from_template }
  MongoUrl: { Type: String }
Globals:
  Function: { Runtime: provided.al2023 }
Resources:
  Api: { Type: AWS::Serverless::HttpApi }
  ShowFunction:
    Type: AWS::Serverless::Function
    Properties:
      CodeUri: functions/show
      Environment:
        Variables: { MONGO_URL: !Ref MongoUrl, MASTER_DB: !Ref MasterDb, JWT_SECRET: x }
      Events: { Get: { Type: HttpApi, Properties: { ApiId: !Ref Api, Method: GET, Path: /show } } }
`

// newProject changes to a new folder, which holds a project with one function.
func newProject(t *testing.T) {
	t.Helper()
	t.Chdir(t.TempDir())
	write(t, "go.mod", "module shown\n\ngo 1.26\n")
	write(t, "template.yaml", templateYAML)
	write(t, "functions/show/main.go", function)
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// call runs the program until it ends and returns what it wrote to stdout.
func call(t *testing.T, stdin string, environ []string, args ...string) (stdout string, err error) {
	t.Helper()
	var out bytes.Buffer
	err = run(t.Context(), args, environ, strings.NewReader(stdin), &out, io.Discard)
	return out.String(), err
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(b)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// The project has no function reconcile.
var ready = regexp.MustCompile(`(?m)^(?:the database was not reconciled: there is no function reconcile: there are show|the database \S+ can't be reached: .*; going on, the service answers 503 until it can\n(?:building .*\n)*)\n*` +
	`listening on (http://127\.0\.0\.1:\d+) \(pid \d+\)\n\n  GET  /show  anybody\n\n` +
	`metrics: (?:http://\S+)/metrics, and where the time of each request goes: (?:http://\S+)/traces\n` +
	`database: (.+)\nmail: .+\noperator: Authorization: Bearer \S+\nlog level: WARN \(LOG_LEVEL\)\n` +
	`curl (http://\S+)/org/create -H 'content-type: application/json' -d '\{"organization_name":"Akshay Pvt Ltd","email":"admin@example\.com","password":"Admin@123"\}'$`)

// start runs the program until the test ends. It returns the URL of the gateway
// and what it says of the database.
func start(t *testing.T, environ []string, args ...string) (base, database string) {
	t.Helper()
	return startWith(t, &syncBuffer{}, make(chan error, 1), environ, args...)
}

// startWith is start with the output and the error at the end.
func startWith(t *testing.T, out *syncBuffer, ended chan error, environ []string, args ...string) (base, database string) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	go func() { ended <- run(ctx, args, environ, strings.NewReader(""), out, out) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Errorf("after a signal: %v", err)
		}
	})
	for deadline := time.Now().Add(5 * time.Minute); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if m := ready.FindStringSubmatch(out.String()); m != nil && m[1] == m[3] {
			return m[1], m[2]
		}
		select {
		case err := <-ended:
			ended <- nil
			t.Fatalf("ended: %v", err)
		default:
		}
	}
	t.Fatalf("not ready:\n%s", out)
	return "", ""
}

func TestServe(t *testing.T) {
	newProject(t)
	write(t, ".env", "# settings\nMASTER_DB=\"from_dotenv\"\nPORT=1\n")
	var first string
	t.Run("First", func(t *testing.T) {
		base, shown := start(t, []string{"PORT=0", "MONGO_URL="})
		response, err := http.Get(base + "/show")
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		body, _ := io.ReadAll(response.Body)
		kept, err := os.ReadFile("local/.data/jwt_secret")
		if err != nil {
			t.Fatal(err)
		}
		first = string(kept)
		if b, err := base64.StdEncoding.DecodeString(first); err != nil || len(b) != 48 {
			t.Errorf("secret %q: %v", first, err)
		}
		if info, _ := os.Stat("local/.data/jwt_secret"); info.Mode() != 0o600 {
			t.Errorf("secret has mode %v", info.Mode())
		}
		content, err := os.ReadFile("local/.data/lock")
		if err != nil {
			t.Fatal(err)
		}
		var lock map[string]any
		if err := json.Unmarshal(content, &lock); err != nil || lock["pid"] != float64(os.Getpid()) || lock["url"] != base {
			t.Errorf("the lock holds %s, %v", content, err)
		}
		database, _ := lock["database"].(string)
		if want := database + ", embedded: its data is in " + filepath.Join("local", ".data"); shown != want {
			t.Errorf("shown is the database %s, want %s", shown, want)
		}
		if c, err := net.Dial("tcp", strings.Trim(strings.TrimPrefix(database, "mongodb:"), "/")); err != nil {
			t.Errorf("database %s: %v", database, err)
		} else {
			c.Close()
		}
		want := fmt.Sprintf(`{"JWT_SECRET":%q,"MASTER_DB":"from_dotenv","MONGO_URL":%q,"PORT":""}`, first, database)
		if string(body) != want {
			t.Errorf("the function sees %s, want %s", body, want)
		}

		want = fmt.Sprintf("already running on the data in %s: pid %d, %s", filepath.Join("local", ".data"), os.Getpid(), base)
		if _, err := call(t, "", []string{"PORT=0"}); err == nil || err.Error() != want {
			t.Errorf("a second one: %v, want %s", err, want)
		}
		// invoke uses the database that runs.
		got, err := call(t, "{}", nil, "invoke", "show", "-")
		if err != nil || !strings.Contains(got, fmt.Sprintf("\n  \"MONGO_URL\": %q,\n", database)) {
			t.Errorf("invoke next to it: %s, %v", got, err)
		}
		// The lock of an older version has only the URL.
		if err := os.WriteFile("local/.data/lock", []byte(database), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err = call(t, "{}", nil, "invoke", "show", "-"); err != nil || !strings.Contains(got, fmt.Sprintf("\n  \"MONGO_URL\": %q,\n", database)) {
			t.Errorf("invoke next to an older one: %s, %v", got, err)
		}
		if _, err := call(t, "", []string{"PORT=0"}); err == nil || !strings.HasSuffix(err.Error(), ": another program") {
			t.Errorf("a second one next to an older one: %v", err)
		}
	})
	t.Run("Second", func(t *testing.T) {
		start(t, []string{"PORT=0", "MASTER_DB=from_environment"})
		if kept, err := os.ReadFile("local/.data/jwt_secret"); err != nil || string(kept) != first {
			t.Errorf("the secret changed from %s to %s, %v", first, kept, err)
		}
	})
	t.Run("OtherDatabase", func(t *testing.T) {
		_, shown := start(t, []string{"PORT=0", "MONGO_URL=mongodb://user:hush@db.example", "JWT_SECRET=given-and-long-enough-to-be-a-secret"}, "-data", "elsewhere")
		if shown != "mongodb://db.example" {
			t.Errorf("shown is the database %s", shown)
		}
		if _, err := os.Stat("elsewhere/jwt_secret"); err == nil {
			t.Error("a secret was made although one is set")
		}
		_, err := call(t, "{}", nil, "invoke", "-data", "elsewhere", "show", "-")
		if err == nil || !strings.HasSuffix(err.Error(), " uses the data in elsewhere and runs no embedded database: set MONGO_URL") {
			t.Errorf("invoke next to it: %v", err)
		}
	})
}

// TestDeletedData deletes the data folder, or parts of it, under a running program.
func TestDeletedData(t *testing.T) {
	newProject(t)
	for _, test := range []struct{ environ, path, want string }{
		{"MONGO_URL=", "local/.data", "local/.data/lock was deleted or replaced while the service was running, and the organizations with it; start again to begin anew"},
		{"MONGO_URL=", "local/.data/db", "local/.data/db was deleted or replaced while the service was running, and the organizations with it; start again to begin anew"},
		{"MONGO_URL=mongodb://127.0.0.1:1", "local/.data", "local/.data/lock was deleted or replaced while the service was running; start again to begin anew"},
	} {
		t.Run(test.environ+" "+test.path, func(t *testing.T) {
			ended := make(chan error, 1)
			startWith(t, &syncBuffer{}, ended, []string{"PORT=0", test.environ})
			if err := os.RemoveAll(test.path); err != nil {
				t.Fatal(err)
			}
			var err error
			select {
			case err = <-ended:
				ended <- nil // for the clean-up
			case <-time.After(time.Minute):
				t.Fatal("it goes on")
			}
			// While all is being deleted, either may be missed first.
			got := strings.Replace(fmt.Sprint(err), "local/.data/db", test.path+map[bool]string{true: "/lock"}[test.path == "local/.data"], 1)
			if got != "stopped: "+test.want {
				t.Errorf("got %v, want %s", err, test.want)
			}
		})
	}
}

// TestWatchClosesDatabase checks that nothing can be written any more as soon as the
// data is known to be deleted.
func TestWatchClosesDatabase(t *testing.T) {
	p := &project{data: t.TempDir(), env: map[string]string{}}
	lock, err := p.lock()
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	db, err := p.database(lock)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := os.Remove(p.lockFile()); err != nil {
		t.Fatal(err)
	}
	if err := p.watch(t.Context(), lock, db); err == nil {
		t.Fatal("no error")
	}
	if c, err := net.Dial("tcp", db.Addr()); err == nil {
		c.Close()
		t.Error("the database is still open")
	}
}

// TestLockOfKilled takes the lock that a killed program has left to a process that
// it was just starting. The lock of a program that lives is not waited for.
func TestLockOfKilled(t *testing.T) {
	killed := exec.Command("true")
	if err := killed.Run(); err != nil {
		t.Fatal(err)
	}
	for pid, want := range map[int]bool{killed.Process.Pid: true, os.Getpid(): false} {
		p := &project{data: t.TempDir()}
		left, err := p.lock()
		if err != nil {
			t.Fatal(err)
		}
		if err := (owner{PID: pid}).write(left); err != nil {
			t.Fatal(err)
		}
		time.AfterFunc(10*time.Millisecond, func() {
			if want {
				left.Close()
			}
		})
		lock, err := p.lock()
		if err != nil || (lock != nil) != want {
			t.Errorf("lock = %v, %v; want one: %v", lock, err, want)
		}
		if lock != nil {
			lock.Close()
		}
		left.Close()
	}
}

func TestChangedSettings(t *testing.T) {
	newProject(t)
	out := &syncBuffer{}
	startWith(t, out, make(chan error, 1), []string{"PORT=0"})
	write(t, ".env", "MASTER_DB=other\n")
	for deadline := time.Now().Add(time.Minute); !strings.Contains(out.String(), "\n.env has changed: "); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("nothing is said:\n%s", out)
		}
	}
}

func TestWithoutSecrets(t *testing.T) {
	for url, want := range map[string]string{
		"mongodb://127.0.0.1:1/":                                   "mongodb://127.0.0.1:1/",
		"mongodb://user:hush@a:1,b:2/db?replicaSet=x&y=hush":       "mongodb://a:1,b:2/db",
		"mongodb+srv://user:hush@cluster.example":                  "mongodb+srv://cluster.example",
		"mongodb://user:hu?sh@host/":                               "mongodb://…",
		"mongodb://user:hu@sh@host/":                               "mongodb://host/",
		"mongodb://host/?authMechanismProperties=TOKEN:hush@sh":    "mongodb://…",
		"arn:aws:secretsmanager:eu-west-3:123456789012:secret:a-b": "of the secret in MONGO_URL",
	} {
		if got := withoutSecrets(url); got != want {
			t.Errorf("%s: %s, want %s", url, got, want)
		}
	}
}

func TestStyle(t *testing.T) {
	for _, test := range []struct {
		terminal bool
		env      map[string]string
		want     gateway.LogStyle
	}{
		{false, nil, gateway.LogJSON},
		{true, nil, gateway.LogColor},
		{true, map[string]string{"NO_COLOR": "1"}, gateway.LogText},
		{true, map[string]string{"NO_COLOR": "", "TERM": "xterm"}, gateway.LogColor},
		{true, map[string]string{"TERM": "dumb"}, gateway.LogText},
	} {
		if got := styleOf(test.terminal, test.env); got != test.want {
			t.Errorf("%v %v: %v", test.terminal, test.env, got)
		}
	}
	_, pipe, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer pipe.Close()
	if logStyle(pipe, nil) != gateway.LogJSON {
		t.Error("a pipe is taken for a terminal")
	}
}

func TestLogLevel(t *testing.T) {
	for _, test := range []struct{ own, lambda, want string }{
		{"", "", "WARN"}, {"debug", "ERROR", "DEBUG"}, {"", "TRACE", "TRACE"}, {"INFO", "", "INFO"},
	} {
		p := &project{env: map[string]string{"LOG_LEVEL": test.own, "AWS_LAMBDA_LOG_LEVEL": test.lambda}}
		if got, err := p.logLevel(); got != test.want || err != nil {
			t.Errorf("%+v: %q, %v", test, got, err)
		}
	}
}

// TestSettingNames checks that every variable of a function is a known setting, and
// that the README and .env.example have all settings.
func TestSettingNames(t *testing.T) {
	readFile := func(t *testing.T, name string) string {
		b, err := os.ReadFile(filepath.Join("..", name))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	declared := regexp.MustCompile(`(?m)^ {10}([A-Z_]+): `)
	for _, m := range declared.FindAllStringSubmatch(readFile(t, "template.yaml"), -1) {
		if !isSetting(m[1]) {
			t.Errorf("%s of the template is no setting", m[1])
		}
	}
	for _, name := range names {
		if !strings.Contains(readFile(t, "README.md"), "\n| `"+name+"` |") {
			t.Errorf("the README lacks %s", name)
		}
		if !strings.Contains(readFile(t, ".env.example"), "\n#"+name+"=") {
			t.Errorf(".env.example lacks %s", name)
		}
	}
}

func TestInvoke(t *testing.T) {
	newProject(t)
	write(t, "event.json", "{}")
	environ := []string{"MONGO_URL=mongodb://db.example", "JWT_SECRET=given-and-long-enough-to-be-a-secret"}
	got, err := call(t, "", environ, "-parameter", "MasterDb=from flag", "invoke", "ShowFunction", "event.json")
	want := `{
  "JWT_SECRET": "given-and-long-enough-to-be-a-secret",
  "MASTER_DB": "from flag",
  "MONGO_URL": "mongodb://db.example",
  "PORT": ""
}
`
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("invoke: %v (-want +got):\n%s", err, diff)
	}
	// Without a database, it starts its own.
	got, err = call(t, "{}", nil, "invoke", "show", "-")
	if err != nil || !strings.Contains(got, `"MONGO_URL": "mongodb://127.0.0.1:`) {
		t.Errorf("invoke without a database: %s, %v", got, err)
	}
	for _, test := range []struct {
		stdin string
		args  []string
		want  string
	}{
		{`"fail"`, []string{"invoke", "show", "-"}, "ShowFunction failed: Bad: no"},
		{`{`, []string{"invoke", "show", "-"}, "the event - is not JSON"},
		{``, []string{"invoke", "show", "none.json"}, "the event: open none.json: no such file or directory"},
		{`{}`, []string{"invoke", "none", "-"}, `there is no function none: there are show`},
		{``, []string{"invoke", "shaw", "events/shaw.json"}, `there is no function shaw: did you mean show? There are show`},
		{``, []string{"invoke"}, "usage: make invoke FN=create EVENT=events/create.json"},
	} {
		if _, err := call(t, test.stdin, environ, test.args...); err == nil || err.Error() != test.want {
			t.Errorf("%q: %v, want %s", test.args, err, test.want)
		}
	}
}

func TestRefusals(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	_, port, _ := net.SplitHostPort(taken.Addr().String())
	newProject(t)
	root, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	environ := func(more ...string) []string { return append([]string{"MONGO_URL=mongodb://db.example"}, more...) }
	for name, test := range map[string]struct {
		environ, args []string
		want          string
	}{
		"port taken":        {environ("PORT=" + port), nil, "port " + port + " is in use: set PORT to another one"},
		"port no number":    {environ("PORT=http"), nil, `PORT is "http": it must be a port number`},
		"port too high":     {environ("PORT=65536"), nil, `PORT is "65536": it must be a port number`},
		"port with a sign":  {environ("PORT=+80"), nil, `PORT is "+80": it must be a port number`},
		"unknown command":   {environ(), []string{"deploy"}, `unknown command "deploy": there are demo, doctor, invoke, migrate, new, operator, orgs, reconcile`},
		"demo of two":       {environ(), []string{"demo", "http://a", "http://b"}, "usage: go run ./local demo [URL]"},
		"demo of no URL":    {environ(), []string{"demo", "localhost:3000"}, "the URL of the service must be like https://host"},
		"demo with secret":  {environ(), []string{"demo", "http://user:hush@host"}, "the URL of the service must be like https://host"},
		"orgs of a word":    {environ(), []string{"orgs", "many"}, `"many" is no number of organizations`},
		"new without name":  {environ(), []string{"new"}, "usage: make new FN=name"},
		"new elsewhere":     {environ(), []string{"new", "health"}, "open " + root + "/shared/api/routes.go: no such file or directory"},
		"log level":         {environ("LOG_LEVEL=loud"), nil, `LOG_LEVEL is "loud": it must be DEBUG, INFO, WARN or ERROR`},
		"unknown flag":      {environ(), []string{"-fast"}, "flag provided but not defined: -fast"},
		"bad parameter":     {environ(), []string{"-parameter", "x"}, `invalid value "x" for flag -parameter: expected Name=Value`},
		"unknown parameter": {environ("PORT=0"), []string{"-parameter", "x=y"}, `template.yaml has no parameter "x" (it was to be "y")`},
		"mail from nobody":  {environ("PORT=0", "SMTP_URL=smtp://smtp.example.com"), nil, "MAIL_FROM: is not set"},
		"links to no URL":   {environ("PORT=0", "APP_URL=example.com"), nil, "APP_URL: is not a URL such as https://app.example.com, without user, query and fragment"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := call(t, "", test.environ, test.args...); err == nil || err.Error() != test.want {
				t.Errorf("got %v, want %s", err, test.want)
			}
		})
	}
	dir := t.TempDir()
	t.Chdir(dir)
	if _, err := call(t, "", nil); err == nil || err.Error() != "no template.yaml in "+dir+": run this in the folder that has it" {
		t.Errorf("in another folder: %v", err)
	}
}

func TestReadEnv(t *testing.T) {
	path := filepath.Join(t.TempDir(), ".env")
	write(t, path, "# comment\n\nA=1\n B = two words \nC=\"quoted # value\" # comment\nD='single \"'\nE=x#y # comment\nF=\nG=a=b\n")
	got, _, err := readEnv(path)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"A": "1", "B": "two words", "C": "quoted # value", "D": `single "`, "E": "x#y", "F": "", "G": "a=b"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for content, want := range map[string]string{
		"A=1\nB\n":    ":2: expected KEY=VALUE",
		"=1\n":        ":1: expected KEY=VALUE",
		"exportA 1\n": ":1: expected KEY=VALUE",
		"export =1\n": ":1: expected KEY=VALUE",
		"\nA=\"1\n":   ":2: the quoted value of A does not end with the line",
		"A='1'2\n":    ":1: the quoted value of A does not end with the line",
	} {
		write(t, path, content)
		if _, _, err := readEnv(path); err == nil || err.Error() != path+want {
			t.Errorf("%q: %v, want %s", content, err, want)
		}
	}
	// A byte order mark, and comments where there is no value, or after a tab.
	write(t, path, "\ufeffA= # what A is\r\nB=1\t# what B is\r\nC=#c\r\nD=a$HOME$B\r\n")
	got, _, err = readEnv(path)
	if diff := cmp.Diff(map[string]string{"A": "", "B": "1", "C": "#c", "D": "a$HOME$B"}, got); err != nil || diff != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	if env, _, err := readEnv(path + ".none"); err != nil || len(env) != 0 {
		t.Errorf("no file: %v, %v", env, err)
	}
	write(t, path, "export PORT=1\n export\tMONGO_ULR = x y \nexporter=z\nAWS_PROFILE=p\n")
	got, warnings, err := readEnv(path)
	if diff := cmp.Diff(map[string]string{"PORT": "1", "MONGO_ULR": "x y", "exporter": "z", "AWS_PROFILE": "p"}, got); err != nil || diff != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	wantWarnings := []string{path + ":2: MONGO_ULR is not a setting: did you mean MONGO_URL?", path + ":3: exporter is not a setting"}
	if diff := cmp.Diff(wantWarnings, warnings); diff != "" {
		t.Errorf("warnings (-want +got):\n%s", diff)
	}
}
