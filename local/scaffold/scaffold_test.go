package scaffold

import (
	"bytes"
	"io"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"orgservice/local/gateway"
)

// TestNew lays out a function in a copy of the module while the gateway runs there,
// and then does what is left to do.
func TestNew(t *testing.T) {
	root := copyModule(t)
	restore := emptyFunctions(t, root)
	g, err := gateway.New(t.Context(), gateway.Config{Root: root, Watch: true, Env: map[string]string{
		"MONGO_URL": "mongodb://127.0.0.1:1", "JWT_SECRET": strings.Repeat("x", 32), "JWT_SECRET_PREVIOUS": "",
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	go g.Serve()
	if status, body := get(t, g.URL()+"/ping"); status != 404 {
		t.Fatalf("before: %d %s", status, body)
	}
	left, err := New(t.Context(), root, "ping")
	if err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(5 * time.Minute); ; time.Sleep(50 * time.Millisecond) {
		status, body := get(t, g.URL()+"/ping")
		if status == 200 && body == `{"ok":true}` {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("after: %d %s", status, body)
		}
	}
	event, err := os.ReadFile(filepath.Join(root, "events", "ping.json"))
	if err != nil {
		t.Fatal(err)
	}
	if response, err := g.Invoke(t.Context(), "ping", event); err != nil || !bytes.Contains(response, []byte(`"statusCode":200`)) {
		t.Errorf("the sample event: %s, %v", response, err)
	}
	restore()

	run := func(command ...string) (string, error) {
		cmd := exec.CommandContext(t.Context(), command[0], command[1:]...)
		cmd.Dir = root
		// With -trimpath, what is compiled in one folder can be used in another.
		cmd.Env = append(os.Environ(), "GOFLAGS=-trimpath -ldflags=-w -vet=off")
		if strings.HasSuffix(command[0], ".test") {
			cmd.Dir = filepath.Join(root, "local")
		}
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	mustRun := func(command ...string) {
		t.Helper()
		if out, err := run(command...); err != nil {
			t.Errorf("%s: %v\n%s", strings.Join(command, " "), err, out)
		}
	}
	mustRun("go", "vet", "./functions/ping", "./shared/api")
	if out, err := run("gofmt", "-l", "functions/ping", "shared/api"); err != nil || out != "" {
		t.Errorf("gofmt would change %s, %v", out, err)
	}
	local := filepath.Join(t.TempDir(), "local.test")
	mustRun("go", "test", "-c", "-o", local, "./local")
	tests := []string{local, "-test.run", "^(TestFolders|TestRoutes|TestReadmeRoutes|TestHTTPFile|TestVariables|TestEvents|TestAuthorizerEvent)$"}
	drift := []string{"go", "test", "./local/openapi", "-run", "^(TestDrift|TestValid)$"}
	if out, err := run(tests...); err == nil || strings.Count(out, "--- FAIL") != 1 || !strings.Contains(out, "--- FAIL: TestReadmeRoutes") || !strings.Contains(out, `"GET /ping"`) {
		t.Errorf("the tests before the rest is done: %v\n%s", err, out)
	}
	if out, err := run(drift...); err == nil || !strings.Contains(out, "GET /ping: ") {
		t.Errorf("the tests of the document before the rest is done: %v\n%s", err, out)
	}

	for start, place := range map[string]struct{ path, after string }{
		"| `GET":            {"README.md", "the public keys that verify access tokens |\n"},
		"\t\"PingResponse.": {"local/openapi/schema.go", "var fields = map[string]field{\n"},
		"    \"GET":         {"local/sam/check_template.py", "ROUTES = {\n"},
		"    \"PingFunc":    {"local/sam/check_template.py", "SECRETS = {  # secrets that each function may read\n"},
	} {
		_, rest, found := strings.Cut(left, "\n"+start)
		line, _, _ := strings.Cut(start+rest, "\n")
		path := filepath.Join(root, place.path)
		old, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if !found || bytes.Count(old, []byte(place.after)) != 1 {
			t.Fatalf("%q is not said, or has no place in %s", start, place.path)
		}
		if err := os.WriteFile(path, bytes.Replace(old, []byte(place.after), []byte(place.after+line+"\n"), 1), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	mustRun("go", "run", "./local/openapi")
	mustRun(tests...)
	mustRun(drift...)
}

func get(t *testing.T, url string) (status int, body string) {
	t.Helper()
	response, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(data)
}

// TestNewRefuses checks that a refusal changes nothing.
func TestNewRefuses(t *testing.T) {
	root := copyModule(t)
	replace := func(path, old, with string) func(*testing.T) {
		return func(t *testing.T) {
			data, err := os.ReadFile(filepath.Join(root, path))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { os.WriteFile(filepath.Join(root, path), data, 0o600) })
			if err := os.WriteFile(filepath.Join(root, path), bytes.ReplaceAll(data, []byte(old), []byte(with)), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, test := range map[string]struct {
		function string
		before   func(*testing.T)
		want     string // in the error
	}{
		"empty":             {"", nil, `"" is no name`},
		"upper case":        {"Ping", nil, "is no name"},
		"a path":            {"../ping", nil, "is no name"},
		"a word of Go":      {"range", nil, "is no name"},
		"no package of Go":  {"vendor", nil, "is no name"},
		"too long":          {strings.Repeat("a", 41), nil, "is no name"},
		"function exists":   {"authorizer", nil, "functions/authorizer exists"},
		"file exists":       {"decode", nil, "shared/api/decode.go exists"},
		"identifier exists": {"route", nil, "Route redeclared"},
		"route exists":      {"ping", replace("template.yaml", "Path: /org/get", "Path: /ping"), `template.yaml has "Path: /ping"`},
		"resource exists":   {"ping", replace("template.yaml", "GetFunction:", "PingFunction:"), `template.yaml has "PingFunction:"`},
		"no place":          {"ping", replace("template.yaml", "AuthorizerFunction:", "Authorizer:"), "template.yaml is not as expected"},
		"two places":        {"ping", replace("template.yaml", "  AuthorizerFunction:\n", "  AuthorizerFunction:\n  AuthorizerFunction:\n"), "template.yaml is not as expected"},
		"does not compile":  {"ping", replace("shared/api/routes.go", "package api", "package apis"), "would not compile"},
	} {
		t.Run(name, func(t *testing.T) {
			if test.before != nil {
				test.before(t)
			}
			before := snapshot(t, root)
			if _, err := New(t.Context(), root, test.function); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%v; want %s", err, test.want)
			}
			if diff := cmp.Diff(before, snapshot(t, root)); diff != "" {
				t.Errorf("files (-before +after):\n%s", diff)
			}
		})
	}
}

// TestWriteUndoes checks that a failure halfway leaves the files as they were.
func TestWriteUndoes(t *testing.T) {
	root := t.TempDir()
	if err := os.WriteFile(filepath.Join(root, "old"), []byte("before"), 0o600); err != nil {
		t.Fatal(err)
	}
	before := snapshot(t, root)
	err := write(root, []file{
		{path: "new/file", content: []byte("x")},
		{path: "old", content: []byte("after"), old: []byte("before")},
		{path: "old/file", content: []byte("x")}, // old is no folder
	})
	if err == nil {
		t.Error("no error")
	}
	if diff := cmp.Diff(before, snapshot(t, root)); diff != "" {
		t.Errorf("files (-before +after):\n%s", diff)
	}
}

// copyModule copies the module into a temporary folder, without what is not part of
// it.
func copyModule(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	for path, content := range snapshot(t, "../..") {
		if strings.HasSuffix(path, "/") {
			continue
		}
		path = filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// emptyFunctions makes all functions programs that do nothing, which are linked in
// no time, and returns a function that restores them.
func emptyFunctions(t *testing.T, root string) (restore func()) {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(root, "functions", "*", "main.go"))
	if err != nil || len(paths) == 0 {
		t.Fatal(paths, err)
	}
	write := func(path string, content []byte) {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	genuine := map[string][]byte{}
	for _, path := range paths {
		if genuine[path], err = os.ReadFile(path); err != nil {
			t.Fatal(err)
		}
		write(path, []byte("package main\n\nfunc main() {}\n"))
	}
	return func() {
		for path, content := range genuine {
			write(path, content)
		}
	}
}

// snapshot returns the files under the root with their content, and the folders,
// with a slash at the end. It leaves out what starts with a dot, such as the data
// of make run, but for .gitignore: without ReDoc it is all that package pages embeds
// of its folder.
func snapshot(t *testing.T, root string) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := fs.WalkDir(os.DirFS(root), ".", func(path string, entry fs.DirEntry, err error) error {
		switch name := entry.Name(); {
		case err != nil:
			return err
		case strings.HasPrefix(name, ".") && name != ".gitignore" && path != ".":
			if entry.IsDir() {
				return fs.SkipDir
			}
		case entry.IsDir():
			files[path+"/"] = ""
		case entry.Type().IsRegular():
			data, err := os.ReadFile(filepath.Join(root, path))
			files[path] = string(data)
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}
