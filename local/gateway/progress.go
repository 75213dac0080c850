package gateway

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"
)

// progress tells how far a build is, while it takes long.
type progress struct {
	out     *output
	staging string
	names   []string // of the binaries
	start   time.Time
	stop    func() // ends the messages

	packages  atomic.Int32 // that are being or were compiled
	downloads atomic.Int32 // of modules
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

// String says how far the build is.
func (p *progress) String() string {
	message := "building the functions"
	if n := p.downloads.Load(); n > 0 {
		message += fmt.Sprintf(", %d modules downloaded", n)
	}
	if n := p.packages.Load(); n > 0 {
		message += fmt.Sprintf(", %d packages compiled", n)
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
