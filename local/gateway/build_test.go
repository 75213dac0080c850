package gateway

import (
	"debug/buildinfo"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// The functions of TestWatch use only the standard library, so they build fast
// and in any folder.
const watchedFunction = `package main

import (
	"fmt"
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
		answer := fmt.Sprintf("%q", fmt.Sprint("VERSION ", os.Getenv("SETTING"), " ", os.Getpid()))
		http.Post(api+event.Header.Get("Lambda-Runtime-Aws-Request-Id")+"/response", "", strings.NewReader(answer))
	}
}
`

const watchedTemplate = `Globals:
  Function: { Runtime: provided.al2023 }
Resources:
  Api: { Type: AWS::Serverless::HttpApi }
  AFunction:
    Type: AWS::Serverless::Function
    Properties:
      CodeUri: functions/a
      Environment: { Variables: { SETTING: first } }
      Events: { Get: { Type: HttpApi, Properties: { ApiId: !Ref Api, Method: GET, Path: /a } } }
  BFunction:
    Type: AWS::Serverless::Function
    Properties:
      CodeUri: functions/b
      Events: { Get: { Type: HttpApi, Properties: { ApiId: !Ref Api, Method: GET, Path: /b } } }
`

func TestWatch(t *testing.T) {
	root := t.TempDir()
	write := func(name, content string) {
		t.Helper()
		path := filepath.Join(root, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		// A rename, as editors do it, so that the gateway never reads half a file.
		if err := os.WriteFile(path+"~", []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+"~", path); err != nil {
			t.Fatal(err)
		}
	}
	version := func(v string) string { return strings.Replace(watchedFunction, "VERSION", v, 1) }
	write("go.mod", "module watched\n\ngo 1.26\n")
	write("functions/a/main.go", version("a1"))
	write("functions/b/main.go", version("b1"))
	write("template.yaml", watchedTemplate)
	g, logs := newGateway(t, Config{Root: root, Watch: true})
	get := func(path string) string { return send(t, g, "GET", path, "").body }
	logged := func(want string) {
		t.Helper()
		eventually(t, "the line "+want, func() bool { return strings.Contains(logs.String(), want) })
	}

	a1, b1 := get("/a"), get("/b")
	if !strings.HasPrefix(a1, `"a1 first `) || !strings.HasPrefix(b1, `"b1  `) {
		t.Fatalf("got %s and %s", a1, b1)
	}

	// As soon as the change is seen, requests wait for the new binary.
	write("functions/a/main.go", version("a2"))
	logged("functions/a/main.go changed: rebuilding\n")
	a2 := get("/a")
	if !strings.HasPrefix(a2, `"a2 first `) {
		t.Errorf("after a change: %s", a2)
	}
	logged("\nrebuilt a in ")
	if got := get("/b"); got != b1 {
		t.Errorf("what did not change was restarted: %s, was %s", got, b1)
	}

	write("functions/a/main.go", version("a3")+"}")
	logged("functions/a/main.go:21:1: syntax error: non-declaration statement outside function body\nthe functions stay as they were\n")
	if got := get("/a"); got != a2 {
		t.Errorf("after a change that does not build: %s, was %s", got, a2)
	}
	write("functions/a/main.go", version("a2")) // the same binary as before
	logged("\nrebuilt nothing: ")

	write("functions/a/page.html", "a2")
	logged("functions/a/page.html changed: rebuilding\n")

	// What is built before the error is new.
	get("/b")
	write("functions/a/main.go", version("a3")+"}")
	write("functions/b/main.go", version("b2"))
	logged("\nb are rebuilt; a stay as they were\n")
	b2 := get("/b")
	if got := get("/a"); got != a2 || !strings.HasPrefix(b2, `"b2  `) {
		t.Errorf("after a change of which a part does not build: %s and %s", got, b2)
	}
	b1 = b2
	write("functions/a/main.go", version("a2"))

	write("template.yaml", strings.Replace(watchedTemplate, "Path: /a", "Path: a", 1))
	logged("\ntemplate.yaml:10: the path \"a\" does not start with /; the routes stay as they were\n")
	if got := get("/a"); got != a2 {
		t.Errorf("after a template that is broken: %s, was %s", got, a2)
	}

	write("template.yaml", strings.NewReplacer("Path: /a", "Path: /new", "first", "second").Replace(watchedTemplate))
	logged("\nreloaded template.yaml\n")
	if got := get("/new"); !strings.HasPrefix(got, `"a2 second `) {
		t.Errorf("after a change of the settings: %s", got)
	}
	if r := send(t, g, "GET", "/a", ""); r.status != 404 {
		t.Errorf("the route that is gone: %v", r)
	}
	if got := get("/b"); got != b1 {
		t.Errorf("what did not change was restarted: %s, was %s", got, b1)
	}
}

// TestSourcesGone checks that watching goes on without the folder, which may be
// deleted, or be another one for a moment.
func TestSourcesGone(t *testing.T) {
	root := filepath.Join(t.TempDir(), "gone")
	if files := sources(root, filepath.Join(root, "template.yaml")); len(files) > 0 {
		t.Errorf("found %v", files)
	}
}

func TestMostWanted(t *testing.T) {
	now := time.Now()
	list := []*function{{id: "never"}, {id: "before"}, {id: "last"}, {id: "waited for"}}
	l := &lambda{fleets: map[string]*fleet{
		"never": {}, "before": {used: now.Add(-time.Minute)}, "last": {used: now}, "waited for": {queue: []*invocation{{}}},
	}}
	for _, want := range []string{"waited for", "last", "before", "never"} {
		got := l.mostWanted(list)
		if got.id != want {
			t.Errorf("got %s, want %s", got.id, want)
		}
		list = slices.DeleteFunc(list, func(f *function) bool { return f == got })
	}
}

func TestDebug(t *testing.T) {
	g, _ := newGateway(t, Config{Debug: true, Only: []string{"act"}, Root: ".", Template: filepath.Join("testdata", "template.yaml")})
	if r := send(t, g, "GET", "/act?do=context", ""); !strings.Contains(r.body, `"24h0m0s"`) {
		t.Errorf("the time limit: %v", r)
	}
	for _, r := range together(t, g, 5, "/act") {
		if r.status != 200 {
			t.Errorf("got %v", r)
		}
	}
	if n := len(g.Processes()); n != 1 {
		t.Errorf("%d processes, want 1", n)
	}
	info, err := buildinfo.ReadFile(filepath.Join(g.builder.bin, "act"))
	if err != nil {
		t.Fatal(err)
	}
	settings := map[string]string{}
	for _, s := range info.Settings {
		settings[s.Key] = s.Value
	}
	if settings["-ldflags"] != "" || settings["-trimpath"] != "" || !strings.Contains(settings["-gcflags"], "-N -l") {
		t.Errorf("built with %v", settings)
	}
	if _, err := os.Stat(filepath.Join(g.builder.bin, "echo")); err == nil {
		t.Error("another function is built, too")
	}
}

func TestBuildMessages(t *testing.T) {
	p := &progress{staging: t.TempDir(), names: []string{"a", "b"}, start: time.Now().Add(-90 * time.Second)}
	m := &buildMessages{progress: p}
	for _, part := range []string{"go: downloading example.com/x v1.0.0\nexample.com/x", "/y\nb\n# b\nb/main", ".go:1:1: wrong\n"} {
		if _, err := m.Write([]byte(part)); err != nil {
			t.Fatal(err)
		}
	}
	if got, want := m.String(), "# b\nb/main.go:1:1: wrong"; got != want {
		t.Errorf("messages %q, want %q", got, want)
	}
	if err := os.WriteFile(filepath.Join(p.staging, "b"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if got, want := p.String(), "building the functions, 1 modules downloaded, 2 packages compiled, ready: b (90 s)"; got != want {
		t.Errorf("progress %q, want %q", got, want)
	}
}

func TestBuildFails(t *testing.T) {
	for name, test := range map[string]struct{ code, want string }{
		"broken":          {"package main\n\nfunc main() { x }\n", "building the functions: # watched/functions/b\nfunctions/b/main.go:3:15: undefined: x"},
		"no main package": {"package b\n", "building the functions: functions/b is no main package"},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			for path, content := range map[string]string{
				"go.mod":              "module watched\n\ngo 1.26\n",
				"template.yaml":       watchedTemplate,
				"functions/a/main.go": watchedFunction,
				"functions/b/main.go": test.code,
			} {
				path = filepath.Join(root, filepath.FromSlash(path))
				if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := New(t.Context(), Config{Root: root}); err == nil || err.Error() != test.want {
				t.Errorf("got %v, want %s", err, test.want)
			}
		})
	}
}
