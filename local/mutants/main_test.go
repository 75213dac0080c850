package main

import (
	"bytes"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestMutate(t *testing.T) {
	for _, tt := range []struct {
		body string
		want []string // in turn the name of a mutant and its body
	}{
		{"if a && !b { f() }", []string{
			"`a && !b` never", "if (a && !b) && false { f() }",
			"`a && !b` always", "if ((a && !b) || true) { f() }",
			"`a` always", "if ((a) || true) && !b { f() }",
			"`!b` always", "if a && ((!b) || true) { f() }",
			"`f()` dropped", "if a && !b {  }",
		}},
		{"return x < 7", []string{
			"`x < 7` never", "return (x < 7) && false",
			"`x < 7` always", "return ((x < 7) || true)",
			"`x < 7` with <=", "return x <= 7",
			"7 is 8 in `x < 7`", "return x < 8",
			"7 is 6 in `x < 7`", "return x < 6",
		}},
		{"for a { }", []string{"`a` never", "for (a) && false { }"}},
		{"for range x { }", []string{"`range x` never entered", "for range x {break; }"}},
		{"x, y = g()", []string{"`x, y = g()` dropped", "_, _ = g()"}},
		{"return x, err", []string{"`return x, err` without the error", "_ = err; return x, nil"}},
		{"f(T{X: x, Y: y}, o())", []string{
			"`f(T{X: x, Y: y}, o())` dropped", "",
			"`X: x` left out", "f(T{Y: y}, o())",
			"`Y: y` left out", "f(T{X: x}, o())",
			"`o()` left out", "f(T{X: x, Y: y})",
		}},
		{"return false", []string{"`return false` with true", "return true"}},
		{`return errors.New("x" + y)`, []string{
			"`return errors.New(\"x\" + y)` without the error", `_ = errors.New("x" + y); return nil`,
			"`\"x\" + y` with -", `return errors.New("x" - y)`,
		}},
		{"f(); f()", []string{"`f()` dropped", "; f()", "`f()` dropped #2", "f(); "}},
	} {
		t.Run(tt.body, func(t *testing.T) {
			const before, after = "package p\n\nfunc h() {\n", "\n}\n"
			src := []byte(before + tt.body + after)
			fset := token.NewFileSet()
			f, err := parser.ParseFile(fset, "p.go", src, 0)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, m := range mutate(fset, f, "p.go", src) {
				if m.line != 4 {
					t.Errorf("%s is on line %d", m.name, m.line)
				}
				mutated := string(m.source(src))
				got = append(got, strings.TrimPrefix(m.name, "p.go h: "),
					strings.TrimSuffix(strings.TrimPrefix(mutated, before), after))
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestForms runs all tests, without a -run, on functions of every form.
func TestForms(t *testing.T) {
	folder := write(t, map[string]string{
		"p.go": `package p

type box[T any] struct{ items []T }

func (b *box[T]) has(n int) bool { return len(b.items) == n }

func sum(first int, _ string, more ...int) (total int) {
	for _, n := range append(more, first) {
		total += n
	}
	return
}

func last[T any](items ...T) T { return items[len(items)-1] }

func length(items []int) int {
	if len(items) == 0 {
		return 0
	}
	return 1 + length(items[1:])
}

var limit = 3
`,
		"p_test.go": `package p

import "testing"

func TestAll(t *testing.T) {
	b := box[int]{items: []int{1}}
	if !b.has(1) || b.has(2) || sum(1, "", 2, 3) != 6 || last("a", "b") != "b" || length([]int{4, 4}) != 2 || limit != 3 { t.Fatal() }
}
`,
	})
	var out bytes.Buffer
	r := runner{folder: folder, run: ".", timeout: 5 * time.Second, workers: 1, out: &out}
	if err := r.all(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := out.String(); !strings.Contains(got, "killed, 0 survived, 0 never run,") {
		t.Errorf("not all are killed:\n%s", got)
	}
}

// write writes the files of a module to a new folder and returns the folder.
func write(t *testing.T, files map[string]string) string {
	t.Helper()
	folder := t.TempDir()
	files["go.mod"] = "module example.com/p\n\ngo 1.26\n"
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return folder
}

const code = `package p

func adult(age int) bool {
	return age >= 18
}

func endless(n int) {
	for n > 0 {
		n--
	}
}

func unused() bool { return false }
`

func TestRun(t *testing.T) {
	folder := write(t, map[string]string{
		"p.go": code,
		"p_test.go": `package p

import ("os"; "testing")

func TestAdult(t *testing.T) {
	os.WriteFile("dirt", nil, 0o600)
	if adult(3) || !adult(18) { t.Fatal() }
	endless(1)
}

func TestChild(t *testing.T) {
	if adult(17) { t.Fatal() }
}

func TestRefuses(t *testing.T) { t.Fatal() }
`,
		"survivors.txt": `# What may survive.
p.go unused: ` + "`return false` with true" + `
    nobody calls it
p.go gone: ` + "`x` dropped" + `
    it was once
`,
	})
	var out bytes.Buffer
	r := runner{folder: folder, run: "^Test(Adult|Child)$", timeout: 5 * time.Second, workers: 2, out: &out}
	if err := r.all(t.Context()); err != nil {
		t.Fatal(err)
	}
	got := strings.ReplaceAll(out.String(), folder+"/", "")
	for _, want := range []string{
		"new      p.go:8 endless: `n > 0` never\n",
		"accepted p.go:13 unused: `return false` with true (no test runs this)\n",
		"gone     p.go gone: `x` dropped\n",
		" 1 never run, 1 timed out,",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not in\n%s", want, got)
		}
	}
	for _, noticed := range []string{
		"`age >= 18` with >", // by one test
		"18 is 17",           // by another
	} {
		if strings.Contains(got, noticed) {
			t.Errorf("%q, which a test notices, is not killed:\n%s", noticed, got)
		}
	}
	if left, _ := filepath.Glob(folder + "/*"); len(left) != 4 {
		t.Errorf("it leaves files behind: %v", left)
	}
	out.Reset()
	r.tests, r.only = nil, regexp.MustCompile("^p.go unused: ")
	if err := r.all(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := out.String(); !strings.Contains(got, ": 1 mutants\n") || !strings.Contains(got, "accepted ") || strings.Contains(got, "gone ") {
		t.Errorf("with only one mutant:\n%s", got)
	}
}

func TestJudges(t *testing.T) {
	m := mutant{file: "p.go", pos: token.Position{Line: 5, Column: 1}}
	runs := profile{"p.go": {{1, 1, 9, 1, 1, 1}}}
	never := profile{"p.go": {{1, 1, 9, 1, 1, 0}}}
	r := runner{timeout: time.Second, tests: []test{
		{"A", 0, runs}, {"B", 900 * time.Millisecond, runs}, {"C", time.Second, never}, {"D", time.Second, runs},
		{"E", 5 * time.Second, runs}, {"F", 20 * time.Second, runs}}}
	want := []group{{"^(A|B)$", 3700 * time.Millisecond}, {"^(D|E)$", 19 * time.Second}, {"^(F)$", 61 * time.Second}}
	if diff := cmp.Diff(want, r.judges(m), cmp.AllowUnexported(group{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	r.kills = map[killer]int{{"p.go", "F"}: 99, {"q.go", "E"}: 99}
	want = []group{{"^(A)$", time.Second}, {"^(F|B|D|E)$", 81700 * time.Millisecond}}
	if diff := cmp.Diff(want, r.judges(m), cmp.AllowUnexported(group{})); diff != "" {
		t.Errorf("after kills (-want +got):\n%s", diff)
	}
}

func TestParts(t *testing.T) {
	names := []string{"p.go a: 1 is 2", "p.go a: 1 is 0", "p.go b: `x` always", "p.go b: `x` never", "q.go c: `f()` dropped", "q.go c: `g()` dropped"}
	for _, name := range names {
		made := 0
		for part := 1; part <= 3; part++ {
			r := runner{part: part, parts: 3}
			if r.makes(name) {
				made++
			}
		}
		if made != 1 {
			t.Errorf("%d of three parts make %s", made, name)
		}
	}
	all := runner{only: regexp.MustCompile("^p.go ")}
	if !all.makes(names[0]) || all.makes(names[4]) {
		t.Error("without a part, it does not make what is named")
	}
}

func TestRunErr(t *testing.T) {
	for name, files := range map[string]map[string]string{
		"the tests fail":       {"p.go": code, "p_test.go": "package p\nimport \"testing\"\nfunc TestX(t *testing.T) { t.Fatal() }\n"},
		"no tests":             {"p.go": code, "p_test.go": "package p\n"},
		"does not compile":     {"p.go": "package p\nvar x int = \"\"\n", "p_test.go": "package p\n"},
		"a survivor no reason": {"p.go": code, "survivors.txt": "p.go a: b\np.go c: d\n    reason\n"},
		"the last no reason":   {"p.go": code, "survivors.txt": "p.go a: b\n"},
	} {
		t.Run(name, func(t *testing.T) {
			r := runner{folder: write(t, files), run: ".", timeout: time.Minute, workers: 1, out: &bytes.Buffer{}}
			if err := r.all(t.Context()); err == nil {
				t.Error("no error")
			}
		})
	}
}
