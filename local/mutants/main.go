// Command mutants is a mutation tester for one package. It changes the code in
// many small ways, one at a time, and prints the changes that no test notices:
//
//	go run ./local/mutants [-run REGEXP] [-only REGEXP] [-part K/N] [-timeout 30s] FOLDER [TEST FLAGS]
//
// A mutant is the package with one change: a condition is always or never true,
// a bound or a number is off by one, or a call, an assignment, an option or an
// error is left out. The tests that -run names (by default all tests of the
// package) kill a mutant if they fail. Of these only those run that run the code
// which is changed: first those that are fast or have killed other mutants of the file,
// and the others on what those did not kill. With -part 2/8, only the second of eight parts of the mutants is made,
// which are about as many each. The flags after the folder are for the tests, such
// as -rapid.seed=1.
//
// The file survivors.txt in the folder lists the mutants that may survive. The
// lines after each, indented, give the reason. Other survivors are printed as new,
// and entries that did not survive as gone. The exit status is 0 even if mutants
// survive. It is 1 if the tests fail without a mutant, or can't run.
//
// The program reads the working tree only once. It compiles a copy of the module,
// with the mutants as an overlay, and runs the tests in a copy of the folder beside
// the copied one.
package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"go/parser"
	"go/token"
	"hash/crc32"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	r := runner{out: os.Stdout}
	flag.StringVar(&r.run, "run", ".", "regexp of the `tests` to run, as for go test")
	flag.DurationVar(&r.timeout, "timeout", 30*time.Second, "time limit of the tests on a mutant, besides three times what they take without one")
	flag.Func("only", "make only the mutants whose names, as in survivors.txt, match the regexp `pattern`", func(pattern string) (err error) {
		r.only, err = regexp.Compile(pattern)
		return err
	})
	flag.Func("part", "make only the `K/N`: the K-th of N parts of the mutants", func(part string) error {
		if _, err := fmt.Sscanf(part+"\n", "%d/%d\n", &r.part, &r.parts); err != nil || r.part < 1 || r.part > r.parts {
			return errors.New("must be like 1/8")
		}
		return nil
	})
	flag.IntVar(&r.workers, "workers", max(1, runtime.NumCPU()/2), "number of mutants at once")
	flag.Parse()
	if flag.NArg() == 0 {
		flag.Usage()
		os.Exit(2)
	}
	r.folder, r.flags = filepath.Clean(flag.Arg(0)), flag.Args()[1:]
	if err := r.all(ctx); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// verdict is the result of the tests on a mutant.
type verdict int

const (
	killed verdict = iota
	survived
	neverRun // no test runs the code
	timedOut
	invalid  // does not compile
	verdicts // number of verdicts
)

type runner struct {
	run     string         // regexp of the tests to run
	only    *regexp.Regexp // of the names of the mutants to make; nil for all
	part    int            // of the parts, which mutants to make; from 1 on
	parts   int            // 0: all mutants
	timeout time.Duration  // of tests on a mutant, besides three times what they take without one
	workers int            // mutants at once
	folder  string         // of the package
	flags   []string       // of the tests
	out     io.Writer
	temp    string // folder of all that this program writes
	dir     string // of the package in the copy of the module

	tests []test

	mu    sync.Mutex
	kills map[killer]int
}

// killer is a test that has killed mutants of a file.
type killer struct{ file, test string }

// test is a test of the package, and what it runs.
type test struct {
	name string
	time time.Duration // without a mutant
	profile
}

// all tests all mutants and prints the survivors.
func (r *runner) all(ctx context.Context) (err error) {
	began := time.Now()
	r.kills = map[killer]int{}
	accepted, err := readSurvivors(filepath.Join(r.folder, "survivors.txt"))
	if err != nil {
		return err
	}
	if r.temp, err = os.MkdirTemp("", "mutants"); err != nil {
		return err
	}
	defer os.RemoveAll(r.temp)
	if err := r.copyModule(ctx); err != nil {
		return err
	}
	mutants, sources, err := r.mutants(ctx)
	if err != nil {
		return err
	}
	if err := r.baseline(ctx); err != nil {
		return err
	}
	if err := r.compileAll(ctx, sources, mutants); err != nil {
		return err
	}
	fmt.Fprintf(r.out, "%s: %d mutants\n", r.folder, len(mutants))

	// An error of one worker ends all.
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var (
		wg    sync.WaitGroup
		mu    sync.Mutex // guards count, accepted and the output
		count [verdicts]int
		next  = make(chan mutant)
	)
	for range max(1, r.workers) {
		wg.Go(func() {
			for m := range next {
				v, err := r.try(ctx, m, m.source(sources[m.file].text))
				if err != nil {
					cancel(fmt.Errorf("%s: %w", m.name, err))
					continue
				}
				mu.Lock()
				count[v]++
				if v == survived || v == neverRun {
					r.report(m, v, accepted[m.name])
					delete(accepted, m.name)
				}
				mu.Unlock()
			}
		})
	}
	for _, m := range mutants {
		if ctx.Err() == nil {
			next <- m
		}
	}
	close(next)
	wg.Wait()
	for _, name := range slices.Sorted(maps.Keys(accepted)) {
		if ctx.Err() == nil && r.makes(name) {
			fmt.Fprintf(r.out, "%-8s %s\n", "gone", name)
		}
	}
	fmt.Fprintf(r.out, "%s: %d killed, %d survived, %d never run, %d timed out, %d did not compile; %s\n", r.folder,
		count[killed], count[survived], count[neverRun], count[timedOut], count[invalid], time.Since(began).Round(time.Second))
	return context.Cause(ctx) // of what was tried until then
}

// copyModule copies the module of the folder, without hidden folders.
func (r *runner) copyModule(ctx context.Context) error {
	cmd := exec.CommandContext(ctx, "go", "list", "-f", "{{.Module.Dir}}\n{{.Dir}}", ".")
	cmd.Dir, cmd.Stderr = r.folder, os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("go list %s: %w", r.folder, err)
	}
	root, folder, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	relative, err := filepath.Rel(root, folder)
	if err != nil {
		return err
	}
	module := filepath.Join(r.temp, "module")
	r.dir = filepath.Join(module, relative)
	return filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		relative, _ := filepath.Rel(root, path)
		target := filepath.Join(module, relative)
		switch {
		case err != nil:
			return err
		case d.IsDir() && path != root && strings.HasPrefix(d.Name(), "."):
			return fs.SkipDir
		case d.IsDir():
			return os.Mkdir(target, 0o700)
		case !d.Type().IsRegular():
			return nil
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(target, data, 0o600)
	})
}

// report prints a mutant that has survived.
func (r *runner) report(m mutant, v verdict, accepted bool) {
	state, note := "new", ""
	if accepted {
		state = "accepted"
	}
	if v == neverRun {
		note = " (no test runs this)"
	}
	_, what, _ := strings.Cut(m.name, " ")
	fmt.Fprintf(r.out, "%-8s %s:%d %s%s\n", state, filepath.Join(r.folder, m.file), m.line, what, note)
}

// readSurvivors returns the names in survivors.txt, or none if there is no such
// file. A name without a reason is an error.
func readSurvivors(path string) (map[string]bool, error) {
	data, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	names, last := map[string]bool{}, ""
	for line := range strings.Lines(string(data) + "end\n") {
		switch text := strings.TrimSpace(line); {
		case text == "" || strings.HasPrefix(line, "#"):
		case text != strings.TrimRight(line, "\r\n"): // indented: a reason
			last = ""
		case last != "":
			return nil, fmt.Errorf("%s: no reason is given for %s", path, last)
		default:
			names[text], last = true, text
		}
	}
	delete(names, "end")
	return names, nil
}

// mutants returns the mutants of the package, and its files by name.
func (r *runner) mutants(ctx context.Context) (all []mutant, sources map[string]*source, err error) {
	cmd := exec.CommandContext(ctx, "go", "list", "-json=GoFiles", ".")
	cmd.Dir, cmd.Stderr = r.dir, os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, nil, fmt.Errorf("go list %s: %w", r.folder, err)
	}
	var pkg struct{ GoFiles []string }
	if err := json.Unmarshal(out, &pkg); err != nil {
		return nil, nil, err
	}
	sources = map[string]*source{}
	for _, name := range pkg.GoFiles {
		src, err := os.ReadFile(filepath.Join(r.dir, name))
		if err != nil {
			return nil, nil, err
		}
		fset := token.NewFileSet()
		f, err := parser.ParseFile(fset, name, src, 0)
		if err != nil {
			return nil, nil, err
		}
		sources[name] = &source{name, src, fset, f}
		all = append(all, mutate(fset, f, name, src)...)
	}
	return slices.DeleteFunc(all, func(m mutant) bool { return !r.makes(m.name) }), sources, nil
}

// makes reports whether the mutant of that name is among those to make. Which part has it depends
// on nothing but its name.
func (r *runner) makes(name string) bool {
	if r.only != nil && !r.only.MatchString(name) {
		return false
	}
	return r.parts == 0 || int(crc32.ChecksumIEEE([]byte(name))%uint32(r.parts)) == r.part-1
}

// baseline runs each test alone on the package without a mutant, with coverage.
func (r *runner) baseline(ctx context.Context) error {
	testBinary, profile := filepath.Join(r.temp, "base.test"), filepath.Join(r.temp, "profile")
	if out, err := r.compile(ctx, testBinary, "-cover"); err != nil {
		return fmt.Errorf("%s does not compile: %w\n%s", r.folder, err, out)
	}
	_, list, err := r.test(ctx, testBinary, 0, group{}, "-test.list="+r.run)
	if err != nil {
		return err
	}
	for name := range strings.Lines(string(list)) {
		name = strings.TrimSpace(name)
		if !testNames.MatchString(name) {
			continue // a benchmark, or a message
		}
		v, out, err := r.test(ctx, testBinary, 0, group{tests: "^" + name + "$"}, "-test.v", "-test.coverprofile="+profile)
		if err != nil {
			return err
		} else if v != survived {
			return fmt.Errorf("%s: %s fails\n%s", r.folder, name, out)
		}
		data, err := os.ReadFile(profile)
		if err != nil {
			return err
		}
		t := test{name: name, profile: parseProfile(data)}
		if passed := testTime.FindSubmatch(out); passed != nil {
			t.time, _ = time.ParseDuration(string(passed[1]))
		}
		r.tests = append(r.tests, t)
	}
	if len(r.tests) == 0 {
		return fmt.Errorf("%s: no test is named %q\n%s", r.folder, r.run, list)
	}
	return nil
}

var (
	testNames = regexp.MustCompile(`^(Test|Fuzz|Example)\w*$`)
	failed    = regexp.MustCompile(`(?m)^--- FAIL: (\w+)`)
	testTime  = regexp.MustCompile(`(?m)^--- PASS: \w+ \((.+)\)$`)
)

// profile holds, for each file, the blocks of code and how often tests ran them.
type profile map[string][]block

// block is the code from one position of a file to another.
type block struct{ line1, column1, line2, column2, statements, count int }

// parseProfile reads the format of go test -coverprofile.
func parseProfile(data []byte) profile {
	p := profile{}
	for line := range strings.Lines(string(data)) {
		file, rest, _ := strings.Cut(line, ":")
		var b block
		if _, err := fmt.Sscanf(rest, "%d.%d,%d.%d %d %d", &b.line1, &b.column1, &b.line2, &b.column2, &b.statements, &b.count); err == nil {
			name := file[strings.LastIndexByte(file, '/')+1:]
			p[name] = append(p[name], b)
		}
	}
	return p
}

// covers reports whether the tests run the code of the mutant. Code outside all
// blocks, such as constants, has no coverage and counts as run.
func (p profile) covers(m mutant) bool {
	inside := false
	for _, b := range p[m.file] {
		l, c := m.pos.Line, m.pos.Column
		if (l > b.line1 || l == b.line1 && c >= b.column1) && (l < b.line2 || l == b.line2 && c < b.column2) {
			if b.count > 0 {
				return true
			}
			inside = true
		}
	}
	return !inside
}

// compile compiles the tests and returns the output of the compiler.
func (r *runner) compile(ctx context.Context, testBinary string, flags ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, "go", slices.Concat([]string{"test", "-c", "-vet=off", "-ldflags=-s", "-o", testBinary}, flags, []string{"."})...)
	cmd.Dir = r.dir
	return cmd.CombinedOutput()
}

// overlay writes the files to the folder and returns the flag of the compiler that
// puts them in the place of those of the package.
func (r *runner) overlay(folder string, files map[string][]byte) (flag string, err error) {
	replace := map[string]string{}
	for name, text := range files {
		path := filepath.Join(folder, name)
		replace[filepath.Join(r.dir, name)] = path
		if err := os.WriteFile(path, text, 0o600); err != nil {
			return "", err
		}
	}
	data, err := json.Marshal(map[string]any{"Replace": replace})
	path := filepath.Join(folder, "overlay.json")
	return "-overlay=" + path, errors.Join(err, os.WriteFile(path, data, 0o600))
}

// test runs compiled tests in a copy of the folder, because tests may write
// files. In the binary of all mutants the number chooses one. It returns the
// output of the tests.
func (r *runner) test(ctx context.Context, testBinary string, number int, g group, flags ...string) (verdict, []byte, error) {
	folder, err := os.MkdirTemp(filepath.Dir(r.dir), "run")
	if err != nil {
		return 0, nil, err
	}
	defer os.RemoveAll(folder)
	if err := os.CopyFS(folder, os.DirFS(r.dir)); err != nil {
		return 0, nil, err
	}
	limited := ctx
	if g.limit > 0 {
		var cancel context.CancelFunc
		limited, cancel = context.WithTimeout(ctx, g.limit)
		defer cancel()
	}
	cmd := exec.CommandContext(limited, testBinary, slices.Concat([]string{"-test.failfast", "-test.run=" + g.tests}, flags, r.flags)...)
	cmd.Dir, cmd.WaitDelay = folder, time.Second
	cmd.Env = append(os.Environ(), numberVariable+"="+strconv.Itoa(number))
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return 0, nil, ctx.Err()
	case limited.Err() != nil:
		return timedOut, out, nil
	case errors.As(err, &exit):
		return killed, out, nil
	}
	return survived, out, err
}

// group is some tests, which run together.
type group struct {
	tests string        // a regexp
	limit time.Duration // of their time; 0: none
}

// judges returns the tests that run the code of the mutant. Those come first that are
// fast, for how many mutants of the file they have killed. Each group takes some three
// times as long as all before it, so that it is worth a start of its own.
func (r *runner) judges(m mutant) (groups []group) {
	tests := slices.Clone(r.tests)
	r.mu.Lock()
	slices.SortStableFunc(tests, func(a, b test) int {
		return cmp.Compare(a.time*time.Duration(1+r.kills[killer{m.file, b.name}]), b.time*time.Duration(1+r.kills[killer{m.file, a.name}]))
	})
	r.mu.Unlock()
	var names []string
	var began, sum, end time.Duration = 0, 0, time.Second
	add := func() {
		if len(names) > 0 {
			groups = append(groups, group{"^(" + strings.Join(names, "|") + ")$", 3*(sum-began) + r.timeout})
		}
		names, began = nil, sum
	}
	for _, t := range tests {
		if !t.covers(m) {
			continue
		}
		if sum+t.time > end {
			add()
			end = 4 * (sum + t.time)
		}
		names = append(names, t.name)
		sum += t.time
	}
	add()
	return groups
}

// try compiles one mutant and runs the tests on it, until one kills it.
func (r *runner) try(ctx context.Context, m mutant, source []byte) (verdict, error) {
	groups := r.judges(m)
	if len(groups) == 0 {
		return neverRun, nil
	}
	if m.invalid {
		return invalid, nil
	}
	testBinary := filepath.Join(r.temp, "all.test")
	if m.number == 0 {
		folder, err := os.MkdirTemp(r.temp, "build")
		if err != nil {
			return 0, err
		}
		defer os.RemoveAll(folder)
		testBinary = filepath.Join(folder, "mutant.test")
		if compiles, err := r.compileOne(ctx, testBinary, m, source); err != nil {
			return 0, err
		} else if !compiles {
			return invalid, nil
		}
	}
	for _, g := range groups {
		v, out, err := r.test(ctx, testBinary, m.number, g)
		if err != nil || v != survived {
			r.mu.Lock()
			for _, name := range failed.FindAllSubmatch(out, -1) {
				r.kills[killer{m.file, string(name[1])}]++
			}
			r.mu.Unlock()
			return v, err
		}
	}
	return survived, nil
}

// compileOne compiles the tests with one mutant. It reports whether that compiles.
func (r *runner) compileOne(ctx context.Context, testBinary string, m mutant, source []byte) (bool, error) {
	overlay, err := r.overlay(filepath.Dir(testBinary), map[string][]byte{m.file: source})
	if err != nil {
		return false, err
	}
	out, err := r.compile(ctx, testBinary, overlay)
	switch {
	case ctx.Err() != nil:
		return false, ctx.Err()
	case err != nil && bytes.Contains(out, []byte(m.file+":")):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("go test -c: %w\n%s", err, out)
	}
	return true, nil
}
