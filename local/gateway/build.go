package gateway

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"
)

// The flags with which functions are built, here and for the deployment.
const (
	BuildTags = "lambda.norpc"
	LDFlags   = "-s"
)

// build compiles the functions of t into the folder staging. Then it copies to
// the folder bin the binaries that differ from those there, and returns their
// names. The folder root is that of the Go module.
func build(ctx context.Context, root string, t *template, staging, bin string) (changed []string, err error) {
	args := []string{"build", "-trimpath", "-buildvcs=false", "-tags", BuildTags, "-ldflags", LDFlags, "-o", staging}
	packages := map[string]string{} // folder under root, by name of the binary
	for _, f := range t.functions {
		dir, err := filepath.Rel(root, f.dir)
		if err != nil {
			return nil, err
		}
		packages[f.binary()] = filepath.ToSlash(dir)
	}
	for _, dir := range packages {
		args = append(args, "./"+dir)
	}
	// With the binaries of the last time in staging, go build links only what
	// has changed.
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS="+runtime.GOOS, "GOARCH="+runtime.GOARCH)
	if out, err := cmd.CombinedOutput(); err != nil {
		if message := strings.TrimSpace(string(out)); message != "" {
			err = errors.New(message)
		}
		return nil, fmt.Errorf("building the functions: %w", err)
	}
	for _, name := range slices.Sorted(maps.Keys(packages)) {
		built, err := os.ReadFile(filepath.Join(staging, name))
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("building the functions: %s is no main package", packages[name])
		}
		if err != nil {
			return nil, err
		}
		inUse := filepath.Join(bin, name)
		if old, err := os.ReadFile(inUse); err == nil && bytes.Equal(old, built) {
			continue
		}
		// A running binary can't be written to, but it can be replaced by a rename.
		if err := os.WriteFile(inUse+".new", built, 0o755); err != nil {
			return nil, err
		}
		if err := os.Rename(inUse+".new", inUse); err != nil {
			return nil, err
		}
		changed = append(changed, name)
	}
	return changed, nil
}

// fileState tells one version of a file from another.
type fileState struct {
	size     int64
	modified time.Time
}

// sources returns the state, by path, of the files that make the functions: the
// template, and the Go and module files under root. It leaves out the folder
// local, which is this program, and folders whose names start with a dot.
func sources(root, template string) map[string]fileState {
	files := map[string]fileState{}
	add := func(path string) {
		if info, err := os.Stat(path); err == nil {
			files[path] = fileState{info.Size(), info.ModTime()}
		}
	}
	// A file that can't be read, for instance because it is being replaced, is
	// found the next time.
	filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		switch name := entry.Name(); {
		case err != nil:
		case entry.IsDir() && path != root && (strings.HasPrefix(name, ".") || path == filepath.Join(root, "local")):
			return fs.SkipDir
		case !entry.IsDir() && (filepath.Ext(name) == ".go" || name == "go.mod" || name == "go.sum"):
			add(path)
		}
		return nil
	})
	add(template)
	return files
}

// watch reloads what has changed, until ctx ends. It reads the state of the
// files twice a second, which takes under a millisecond each time. It does not
// use github.com/fsnotify/fsnotify: that package watches single folders, so it
// misses files in a new folder that are written before the folder is added, and
// it gets no events from network file systems.
func (g *Gateway) watch(ctx context.Context) {
	tick := time.NewTicker(500 * time.Millisecond)
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
		reread := g.seen[g.config.Template] != now[g.config.Template]
		g.seen = now
		g.reload(ctx, reread)
	}
}

// reload rebuilds the functions and serves those that have changed in place of
// the old ones. With reread it reads the template again. If the template or the
// code has an error, it logs the error and the old ones stay.
func (g *Gateway) reload(ctx context.Context, reread bool) {
	t := g.current.Load().template
	if reread {
		read, err := g.readTemplate()
		if err != nil {
			g.out.printf("%v; the routes stay as they were", err)
			reread = false
		} else {
			t = read
		}
	}
	changed, err := build(ctx, g.config.Root, t, g.config.BuildDir, g.bin)
	if ctx.Err() != nil {
		return
	}
	if err != nil {
		g.out.printf("%v\nthe functions stay as they were", err)
		return
	}
	if reread || len(changed) > 0 {
		g.install(t, changed)
	}
	if reread {
		g.startSchedules(ctx, t)
		g.out.printf("reloaded %s", filepath.Base(g.config.Template))
	}
	if len(changed) > 0 {
		g.out.printf("rebuilt %s", strings.Join(changed, ", "))
	}
}
