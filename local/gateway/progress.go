package gateway

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// progress tells how far a build is, while it takes long.
type progress struct {
	out     *output
	staging string
	names   []string // of the binaries
	start   time.Time
	stop    func() // ends the messages

	mu        sync.Mutex
	packages  int
	downloads int
}

// progressFirst is how long a build may take without a message, and progressEvery
// the time between two messages.
const (
	progressFirst = 2 * time.Second
	progressEvery = 5 * time.Second
)

// newProgress starts the messages about a build. The caller must call stop.
func newProgress(out *output, staging string, functions []*function) *progress {
	p := &progress{out: out, staging: staging, start: time.Now()}
	for _, f := range functions {
		p.names = append(p.names, f.binary())
	}
	end, ended := make(chan struct{}), make(chan struct{})
	p.stop = func() { close(end); <-ended }
	go func() {
		defer close(ended)
		for wait := progressFirst; ; wait = progressEvery {
			select {
			case <-end:
				return
			case <-time.After(wait):
				p.out.printf("%s", p)
			}
		}
	}()
	return p
}

// compiled counts a package that is being compiled.
func (p *progress) compiled(string) { p.count(func() { p.packages++ }) }

// downloading counts a module that is being downloaded.
func (p *progress) downloading() { p.count(func() { p.downloads++ }) }

func (p *progress) count(add func()) {
	if p != nil {
		p.mu.Lock()
		defer p.mu.Unlock()
		add()
	}
}

// String says how far the build is.
func (p *progress) String() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	message := "building the functions"
	if p.downloads > 0 {
		message += fmt.Sprintf(", %d modules downloaded", p.downloads)
	}
	if p.packages > 0 {
		message += fmt.Sprintf(", %d packages compiled", p.packages)
	}
	var ready []string
	for _, name := range p.names {
		if info, err := os.Stat(filepath.Join(p.staging, name)); err == nil && info.ModTime().After(p.start) {
			ready = append(ready, name)
		}
	}
	if ready != nil {
		message += ", ready: " + strings.Join(ready, ", ")
	}
	return message + fmt.Sprintf(" (%d s)", int(time.Since(p.start).Seconds()))
}
