package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"orgservice/local/embedded"
)

// watch tells, until ctx ends, that .env has changed. It returns an error if the
// data folder is deleted or replaced: SQLite would go on writing to files that
// have no name any more. Before that it closes the database, which may be nil, so
// that no more change is answered with success.
func (p *project) watch(ctx context.Context, lock *os.File, db *embedded.Server) error {
	files := map[string]os.FileInfo{}
	info, err := lock.Stat()
	if err != nil {
		return err
	}
	files[p.lockFile()] = info
	if db != nil {
		path := filepath.Join(p.data, "db")
		if files[path], err = os.Stat(path); err != nil {
			return gone(path, db)
		}
	}
	settings, _ := os.ReadFile(".env")
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		for path, before := range files {
			if now, err := os.Stat(path); err != nil || !os.SameFile(before, now) {
				return gone(path, db)
			}
		}
		if now, _ := os.ReadFile(".env"); !bytes.Equal(now, settings) {
			settings = now
			fmt.Fprintln(p.stdout, ".env has changed: to use it, press Ctrl-C and start again")
		}
	}
}

// gone closes the database and returns the error that path is gone.
func gone(path string, db *embedded.Server) error {
	lost := ""
	if db != nil {
		db.Close()
		lost = ", and the organizations with it"
	}
	return fmt.Errorf("stopped: %s was deleted or replaced while the service was running%s; start again to begin anew", path, lost)
}
