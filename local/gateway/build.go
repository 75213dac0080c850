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
)

// The flags with which functions are built, here and for the deployment.
const (
	BuildTags = "lambda.norpc"
	LDFlags   = "-s"
)

// builder compiles functions into the folder staging, and copies to the folder
// bin the binaries that differ from those there.
type builder struct {
	root         string // of the Go module
	staging, bin string
	debug        bool // with symbols and without optimization
}

// flags returns the arguments of go build, without the packages.
func (b *builder) flags() []string {
	flags := []string{"build", "-v", "-buildvcs=false", "-tags", BuildTags, "-o", b.staging}
	if b.debug {
		return append(flags, "-gcflags", "./...=-N -l")
	}
	return append(flags, "-trimpath", "-ldflags", LDFlags)
}

// build builds the functions and returns the names of the binaries that have
// changed. progress counts how far it is.
func (b *builder) build(ctx context.Context, functions []*function, progress *progress) (changed []string, err error) {
	packages := map[string]string{} // folder under root, by name of the binary
	for _, f := range functions {
		dir, err := filepath.Rel(b.root, f.dir)
		if err != nil {
			return nil, err
		}
		packages[f.binary()] = filepath.ToSlash(dir)
	}
	args := b.flags()
	for _, dir := range packages {
		args = append(args, "./"+dir)
	}
	// With the binaries of the last time in staging, go build links only what
	// has changed.
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = b.root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS="+runtime.GOOS, "GOARCH="+runtime.GOARCH)
	messages := &buildMessages{progress: progress}
	cmd.Stdout, cmd.Stderr = messages, messages
	if err := cmd.Run(); err != nil {
		if message := messages.String(); message != "" {
			err = errors.New(message)
		}
		return nil, fmt.Errorf("building the functions: %w", err)
	}
	for _, name := range slices.Sorted(maps.Keys(packages)) {
		isNew, err := b.install(name)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("building the functions: %s is no main package", packages[name])
		}
		if err != nil {
			return nil, err
		}
		if isNew {
			changed = append(changed, name)
		}
	}
	return changed, nil
}

// install copies the binary from staging to bin, if it differs from the one there.
func (b *builder) install(name string) (isNew bool, err error) {
	built, err := os.ReadFile(filepath.Join(b.staging, name))
	if err != nil {
		return false, err
	}
	inUse := filepath.Join(b.bin, name)
	if old, err := os.ReadFile(inUse); err == nil && bytes.Equal(old, built) {
		return false, nil
	}
	// A running binary can't be written to, but it can be replaced by a rename.
	if err := os.WriteFile(inUse+".new", built, 0o755); err != nil {
		return false, err
	}
	return true, os.Rename(inUse+".new", inUse)
}

// buildMessages is what go build writes with -v: the name of each package that it
// compiles, which it counts, and messages.
type buildMessages struct {
	progress *progress
	part     []byte // the start of a line
	messages strings.Builder
}

func (m *buildMessages) Write(b []byte) (int, error) {
	m.part = append(m.part, b...)
	for {
		line, rest, ok := bytes.Cut(m.part, []byte("\n"))
		if !ok {
			return len(b), nil
		}
		switch text := string(line); {
		case !strings.ContainsAny(text, " \t:"): // an import path
			m.progress.packages.Add(1)
		case strings.HasPrefix(text, "go: downloading "):
			m.progress.downloads.Add(1)
		default:
			m.messages.WriteString(text + "\n")
		}
		m.part = rest
	}
}

// String returns the messages.
func (m *buildMessages) String() string {
	return strings.TrimSpace(m.messages.String() + string(m.part))
}
