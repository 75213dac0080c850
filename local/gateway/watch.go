package gateway

import (
	"context"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// fileState tells one version of a file from another.
type fileState struct {
	size     int64
	modified time.Time
}

// sources returns the state, by path, of the files that make the functions: the
// template, the Go and module files under root, and what they may embed of the
// folders functions and shared. It leaves out the folder local, which
// is this program, and folders whose names start with a dot.
func sources(root, template string) map[string]fileState {
	files := map[string]fileState{}
	add := func(path string) {
		if info, err := os.Stat(path); err == nil {
			files[path] = fileState{info.Size(), info.ModTime()}
		}
	}
	mayBeEmbedded := func(path string) bool {
		relative, err := filepath.Rel(root, path)
		folder, _, _ := strings.Cut(filepath.ToSlash(relative), "/")
		name := filepath.Base(path)
		isOfEditor := strings.HasPrefix(name, ".") || strings.HasSuffix(name, "~") || filepath.Ext(name) == ""
		return err == nil && (folder == "functions" || folder == "shared") && !isOfEditor
	}
	// A file that can't be read, for instance because it is being replaced, is
	// found the next time.
	filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil { // then there may be no entry
			return nil
		}
		switch name := entry.Name(); {
		case entry.IsDir() && path != root && (strings.HasPrefix(name, ".") || path == filepath.Join(root, "local")):
			return fs.SkipDir
		case entry.IsDir():
		case filepath.Ext(name) == ".go" || name == "go.mod" || name == "go.sum" || mayBeEmbedded(path):
			add(path)
		}
		return nil
	})
	add(template)
	return files
}

// difference returns a file that is not the same in both, relative to root.
func difference(root string, a, b map[string]fileState) string {
	all := maps.Clone(a)
	maps.Copy(all, b)
	for _, path := range slices.Sorted(maps.Keys(all)) {
		if a[path] != b[path] {
			if name, err := filepath.Rel(root, path); err == nil {
				return name
			}
			return path
		}
	}
	return ""
}

// watch reloads what has changed, until ctx ends. It reads the state of the
// files ten times a second, which takes under a millisecond each time.
func (g *Gateway) watch(ctx context.Context) {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now := sources(g.config.Root, g.config.Template)
		if maps.Equal(g.seen, now) {
			continue
		}
		what := difference(g.config.Root, g.seen, now)
		reread := g.seen[g.config.Template] != now[g.config.Template]
		g.seen = now
		if reread {
			g.reread(ctx)
		} else {
			g.rebuild(ctx, what)
		}
	}
}

// reread reads the template again, builds all functions and serves them in place
// of the old ones. If there is an error, it logs the error and the old ones stay.
func (g *Gateway) reread(ctx context.Context) {
	t, err := g.readTemplate()
	if err != nil {
		g.out.printf("%v; the routes stay as they were", err)
		return
	}
	changed, err := g.builder.build(ctx, t.functions, &progress{})
	if ctx.Err() != nil {
		return
	}
	if err != nil {
		g.out.printf("%v\nthe functions stay as they were", err)
		return
	}
	g.install(t, changed)
	g.startSchedules(ctx, t)
	g.out.printf("reloaded %s", filepath.Base(g.config.Template))
}

// rebuild builds the functions anew, because the file what has changed. It builds
// one at a time, first those that have events to work on, then those that were
// used last, since nobody waits for the others. Until its function is built, an
// event waits. If there is an error, rebuild logs it, and the functions that are
// not built yet stay as they were.
func (g *Gateway) rebuild(ctx context.Context, what string) {
	start := time.Now()
	g.out.printf("%s changed: rebuilding", what)
	left := slices.Clone(g.current.Load().functions)
	g.lambda.hold(left)
	defer func() { g.lambda.release(left, nil) }()
	var rebuilt []string
	for len(left) > 0 {
		now := sources(g.config.Root, g.config.Template)
		if now[g.config.Template] != g.seen[g.config.Template] {
			return // watch reads it and builds all
		}
		if !maps.Equal(g.seen, now) { // again: begin anew
			g.seen, left = now, slices.Clone(g.current.Load().functions)
			g.lambda.hold(left)
		}
		name := g.lambda.mostWanted(left).binary()
		isBuilt := func(f *function) bool { return f.binary() == name }
		same := slices.DeleteFunc(slices.Clone(left), func(f *function) bool { return !isBuilt(f) })
		changed, err := g.builder.build(ctx, same, &progress{})
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			g.out.printf("%v\n%s as they were", err, stay(left, rebuilt))
			return
		}
		g.lambda.release(same, changed)
		left = slices.DeleteFunc(left, isBuilt)
		if len(changed) > 0 && !slices.Contains(rebuilt, name) {
			rebuilt = append(rebuilt, name)
			if len(rebuilt) == 1 && len(left) > 0 {
				g.out.printf("rebuilt %s in %.1f s, going on with the others", name, time.Since(start).Seconds())
			}
		}
	}
	if len(rebuilt) == 0 {
		g.out.printf("rebuilt nothing: the change makes no difference to the functions")
		return
	}
	g.out.printf("rebuilt %s in %.1f s", strings.Join(rebuilt, ", "), time.Since(start).Seconds())
}

// stay says which functions are not rebuilt.
func stay(left []*function, rebuilt []string) string {
	if len(rebuilt) == 0 {
		return "the functions stay"
	}
	var names []string
	for _, f := range left {
		names = append(names, f.binary())
	}
	slices.Sort(names)
	return fmt.Sprintf("%s are rebuilt; %s stay", strings.Join(rebuilt, ", "), strings.Join(slices.Compact(names), ", "))
}
