package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"orgservice/local/embedded"
	"orgservice/shared/mongodb"
)

// lockFile returns the path of the lock file. The program that uses the data
// folder locks it, and writes an owner into it.
func (p *project) lockFile() string { return filepath.Join(p.data, "lock") }

// owner is the program that holds the lock.
type owner struct {
	PID      int    `json:"pid"`
	URL      string `json:"url,omitempty"`      // of the gateway, as soon as it listens
	Database string `json:"database,omitempty"` // URL of the embedded database; "" if there is none
}

// write writes the owner into the lock file.
func (o owner) write(lock *os.File) error {
	content, err := json.Marshal(o)
	if err != nil {
		return err
	}
	if _, err := lock.WriteAt(content, 0); err != nil {
		return err
	}
	return lock.Truncate(int64(len(content)))
}

// owner reads who holds the lock. Older versions have written only the URL of
// the database.
func (p *project) owner() (o owner, err error) {
	content, err := os.ReadFile(p.lockFile())
	if err != nil || len(content) == 0 {
		return o, err
	}
	if content[0] != '{' {
		return owner{Database: string(content)}, nil
	}
	if err := json.Unmarshal(content, &o); err != nil {
		return o, fmt.Errorf("%s: %w", p.lockFile(), err)
	}
	return o, nil
}

func (o owner) String() string {
	var known []string
	if o.PID != 0 {
		known = append(known, fmt.Sprintf("pid %d", o.PID))
	}
	if o.URL != "" {
		known = append(known, o.URL)
	}
	if known == nil {
		return "another program"
	}
	return strings.Join(known, ", ")
}

// gone reports whether the program has ended.
func (o owner) gone() bool {
	return o.PID != 0 && errors.Is(syscall.Kill(o.PID, 0), syscall.ESRCH)
}

// inheritance is how long lock waits for a lock whose owner is gone.
const inheritance = 5 * time.Second

// lock locks the lock file and returns it, or nil if another program holds the
// lock. Closing the file releases the lock.
//
// A process that is being started holds the locks of the one that starts it until
// its own program is loaded. So if the owner was killed just then, its lock is held
// for a moment, and lock waits.
func (p *project) lock() (*os.File, error) {
	f, err := os.OpenFile(p.lockFile(), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	for deadline := time.Now().Add(inheritance); ; time.Sleep(time.Millisecond) {
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if !errors.Is(err, syscall.EWOULDBLOCK) || time.Now().After(deadline) {
			break
		}
		if o, err := p.owner(); err != nil || !o.gone() {
			break
		}
	}
	if err == nil {
		err = f.Truncate(0)
	}
	if err == nil {
		err = owner{PID: os.Getpid()}.write(f)
	}
	if err != nil {
		f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, nil
		}
		return nil, fmt.Errorf("lock %s: %w", p.lockFile(), err)
	}
	return f, nil
}

// database starts the embedded database. It sets MONGO_URL to the URL of the
// database and writes that to the lock file, for other programs to find.
func (p *project) database(lock *os.File) (*embedded.Server, error) {
	db, err := embedded.Start(filepath.Join(p.data, "db"), "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	if err := (owner{PID: os.Getpid(), Database: db.URL()}).write(lock); err != nil {
		db.Close()
		return nil, err
	}
	p.env["MONGO_URL"] = db.URL()
	return db, nil
}

// open finds the database for one command and checks the settings. Without
// MONGO_URL it is the embedded database: open starts it, or uses that of the
// program that holds the lock. The lock is nil if another program holds it.
// The caller calls release at the end.
func (p *project) open(ctx context.Context) (lock *os.File, release func(), err error) {
	if lock, err = p.lock(); err != nil {
		return nil, nil, err
	}
	var db *embedded.Server
	closeAll := func() {
		if db != nil {
			db.Close()
		}
		if lock != nil {
			lock.Close()
		}
	}
	defer func() {
		if err != nil {
			closeAll()
		}
	}()
	switch {
	case p.env["MONGO_URL"] != "":
	case lock != nil:
		if db, err = p.database(lock); err != nil {
			return nil, nil, err
		}
	default:
		o, err := p.owner()
		if err != nil {
			return nil, nil, err
		}
		if o.Database == "" {
			return nil, nil, fmt.Errorf("%v uses the data in %s and runs no embedded database: set MONGO_URL", o, p.data)
		}
		p.env["MONGO_URL"] = o.Database
	}
	return lock, closeAll, p.settings(ctx)
}

// store opens the store in the database that open finds, and returns the name of
// the database, too. The caller calls release at the end.
func (p *project) store(ctx context.Context) (store *mongodb.Store, database string, release func(), err error) {
	_, closeData, err := p.open(ctx)
	if err != nil {
		return nil, "", nil, err
	}
	store, database, err = p.connect(ctx)
	if err != nil {
		closeData()
		return nil, "", nil, err
	}
	return store, database, func() {
		store.Close(ctx)
		closeData()
	}, nil
}

// connect opens the store in the database of the settings, and returns the name of
// the database, too. The error is one line; it says so if the database can't be
// reached.
func (p *project) connect(ctx context.Context) (store *mongodb.Store, database string, err error) {
	settings, err := p.config().Database(ctx)
	if err != nil {
		return nil, "", err
	}
	if store, err = mongodb.Open(settings.URL, settings.Name); err != nil {
		return nil, "", err
	}
	if _, err := store.Clock(ctx); err != nil {
		store.Close(ctx)
		return nil, "", fmt.Errorf("the database %s can't be reached: %s", withoutSecrets(settings.URL), lastError(err.Error()))
	}
	return store, settings.Name, nil
}
