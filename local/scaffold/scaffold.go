// Package scaffold lays out a new function in the source tree.
package scaffold

import (
	"bytes"
	"context"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"text/template"
)

//go:embed templates
var embedded embed.FS

var templates = template.Must(template.ParseFS(embedded, "templates/*"))

// An insertion is text that goes into a file of the tree before an anchor, which
// the file has once. Without an anchor it goes to the end.
type insertion struct{ path, anchor, text string }

// New lays out a function of that name, which answers GET /name, in the module in
// the folder root. It returns what is left to do for a person. If anything of that
// name exists, or the sources are not as it expects, or would not compile, it
// changes nothing and returns an error.
func New(ctx context.Context, root, name string) (left string, err error) {
	if !regexp.MustCompile(`^[a-z][a-z0-9]{0,39}$`).MatchString(name) || token.IsKeyword(name) || name == "vendor" || name == "testdata" {
		return "", fmt.Errorf("%q is no name of a function: it must be a word of at most 40 lower-case letters and digits, and no word of Go", name)
	}
	title := strings.ToUpper(name[:1]) + name[1:]
	render := func(file string) string {
		var b bytes.Buffer
		if err := templates.ExecuteTemplate(&b, file+".tmpl", struct{ Name, Title string }{name, title}); err != nil {
			panic(err) // a fault of the template
		}
		return b.String()
	}
	for _, path := range []string{"functions/" + name, "shared/api/" + name + ".go", "events/" + name + ".json"} {
		if _, err := os.Stat(filepath.Join(root, path)); !errors.Is(err, fs.ErrNotExist) {
			return "", fmt.Errorf("%s exists", path)
		}
	}
	files, err := insert(root, []insertion{
		{"shared/api/routes.go", "\n)\n\n// pageRoutes returns", "\n" + strings.TrimSuffix(render("row.go"), "\n")},
		{"shared/api/routes.go", "\n\t}\n\tfor _, r := range pageRoutes()", "\n\t\t" + name + "Route.describe(),"},
		{"api.http", "", render("request.http")},
		{"template.yaml", "  AuthorizerFunction:\n", render("resource.yaml")},
	})
	if err != nil {
		return "", err
	}
	for _, line := range []string{"Path: /" + name, title + "Function:"} {
		if bytes.Contains(files[2].old, []byte(" "+line+"\n")) {
			return "", fmt.Errorf("template.yaml has %q", line)
		}
	}
	// The template is the last: make run reads it again when it changes.
	files = append([]file{
		{path: "shared/api/" + name + ".go", content: []byte(render("handler.go"))},
		{path: "functions/" + name + "/main.go", content: []byte(render("main.go"))},
		{path: "events/" + name + ".json", content: []byte(render("event.json"))},
	}, files...)
	if err := compile(ctx, root, files, "./functions/"+name); err != nil {
		return "", err
	}
	return render("left.txt"), write(root, files)
}

// file is a file of the tree with its content to be.
type file struct {
	path    string // under the root
	content []byte
	old     []byte // nil if the file is new
}

// insert returns the files after the insertions.
func insert(root string, insertions []insertion) (files []file, err error) {
	for _, in := range insertions {
		if n := len(files); n == 0 || files[n-1].path != in.path {
			data, err := os.ReadFile(filepath.Join(root, in.path))
			if err != nil {
				return nil, err
			}
			files = append(files, file{in.path, data, data})
		}
		f := &files[len(files)-1]
		i := len(f.content)
		if in.anchor != "" {
			i = bytes.Index(f.content, []byte(in.anchor))
			if bytes.Count(f.content, []byte(in.anchor)) != 1 {
				return nil, fmt.Errorf("%s is not as expected: it must have %q once", in.path, in.anchor)
			}
		}
		f.content = bytes.Join([][]byte{f.content[:i], []byte(in.text), f.content[i:]}, nil)
	}
	return files, nil
}

// compile compiles a package as if the files were there.
func compile(ctx context.Context, root string, files []file, pkg string) error {
	temp, err := os.MkdirTemp("", "scaffold")
	if err != nil {
		return err
	}
	defer os.RemoveAll(temp)
	if root, err = filepath.Abs(root); err != nil {
		return err
	}
	var overlay struct{ Replace map[string]string }
	overlay.Replace = map[string]string{}
	for i, f := range files {
		path := filepath.Join(temp, fmt.Sprint(i)+filepath.Ext(f.path))
		if err := os.WriteFile(path, f.content, 0o600); err != nil {
			return err
		}
		overlay.Replace[filepath.Join(root, f.path)] = path
	}
	data, err := json.Marshal(overlay)
	if err != nil {
		return err
	}
	list := filepath.Join(temp, "overlay.json")
	if err := os.WriteFile(list, data, 0o600); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "go", "build", "-overlay", list, "-o", os.DevNull, pkg)
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("it would not compile: %w\n%s", err, out)
	}
	return nil
}

// write writes the files, all or none.
func write(root string, files []file) error {
	for i, f := range files {
		path := filepath.Join(root, f.path)
		err := os.MkdirAll(filepath.Dir(path), 0o755)
		if err == nil {
			err = os.WriteFile(path, f.content, 0o644)
		}
		if err != nil {
			for _, f := range files[:i+1] {
				undo(filepath.Join(root, f.path), f.old)
			}
			return err
		}
	}
	return nil
}

// undo makes a file what it was.
func undo(path string, old []byte) {
	if old != nil {
		os.WriteFile(path, old, 0o644)
		return
	}
	os.Remove(path)
	syscall.Rmdir(filepath.Dir(path)) // fails if something else is in it
}
