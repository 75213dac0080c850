package main

import (
	"context"
	"crypto/tls"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// What a process does in a start, in the order in which the table has it.
const (
	fetches   = "fetches a secret"
	registers = "registers for SIGTERM"
	asks      = "asks for an event"
	connects  = "connects to the database"
	encrypted = "has a TLS connection"
	greeted   = "has its first answer"
	finished  = "has its last answer"
	answers   = "answers"
)

const systemRoots = "/etc/ssl/certs/ca-certificates.crt" // on Debian

// parts says what a start consists of: when a process does what.
func (b *bench) parts(ctx context.Context) error {
	o, err := b.newObserver()
	if err != nil {
		return err
	}
	defer o.close()
	columns := []string{fetches, registers, asks, connects, encrypted, greeted, finished, answers}
	b.heading("What a start consists of")
	b.say("Milliseconds from exec until a process first does this, with the database and Secrets Manager on the same machine: medians of %d starts, the rows in turn. "+
		"With TLS, the certificates of both are verified, with those of this system's authorities. All but the first create are refused, since the name is taken.", b.n)
	b.row(append([]string{"function"}, columns...)...)
	b.row(append([]string{"---"}, slices.Repeat([]string{"--:"}, len(columns))...)...)
	type start struct {
		circumstances
		times map[string][]float64 // by column
	}
	var starts []start
	for _, name := range []string{"get", "login", "create"} {
		for _, c := range []circumstances{{name: name}, {name: name, tls: true}, {name: name, tls: true, references: true}, {name: name, tls: true, references: true, folders: true}} {
			starts = append(starts, start{c, map[string][]float64{}})
		}
	}
	for range b.n {
		for _, s := range starts {
			did, err := o.start(ctx, s.circumstances)
			if err != nil {
				return err
			}
			for column, t := range did {
				s.times[column] = append(s.times[column], ms(t))
			}
		}
	}
	for _, s := range starts {
		cells := []string{s.name}
		if s.tls {
			cells[0] += ", TLS"
		}
		if s.references {
			cells[0] += ", secrets by reference"
		}
		if s.folders {
			cells[0] += ", without SSL_CERT_DIR"
		}
		for _, column := range columns {
			cell := ""
			if times := s.times[column]; times != nil {
				cell = fmt.Sprintf("%.1f", median(times))
			}
			cells = append(cells, cell)
		}
		b.row(cells...)
	}
	return nil
}

// circumstances are those of a start.
type circumstances struct {
	name       string // of the function
	tls        bool   // of the database
	references bool   // its secrets are references
	folders    bool   // the folders of the system's certificates are read, too, as without SSL_CERT_DIR
}

// observer is what a function has around it, and notes what it does.
type observer struct {
	*bench
	secrets  *httptest.Server // as Secrets Manager, over TLS
	roots    string           // path of the certificates that the functions trust
	database net.Listener     // passes everything on to the database

	mu      sync.Mutex
	secured bool                 // connections to the database have TLS
	did     map[string]time.Time // when something was done first, but for finished
}

func (b *bench) newObserver() (o *observer, err error) {
	roots, err := os.ReadFile(systemRoots)
	if err != nil && !errors.Is(err, fs.ErrNotExist) { // other systems have another file, and then it is left out
		return nil, err
	}
	o = &observer{bench: b, roots: filepath.Join(b.bin, "roots.pem")}
	if o.database, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		return nil, err
	}
	o.secrets = httptest.NewTLSServer(o) // its certificate is for 127.0.0.1
	own := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: o.secrets.Certificate().Raw})
	go o.accept()
	return o, os.WriteFile(o.roots, append(roots, own...), 0o600)
}

func (o *observer) close() {
	o.secrets.Close()
	o.database.Close()
}

// ServeHTTP answers as Secrets Manager does.
func (o *observer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	o.note(fetches)
	o.secretsManager(o.url(true))(w, r)
}

// url returns the connection string of the database behind the observer.
func (o *observer) url(tls bool) string {
	u, _ := url.Parse(o.bench.database) // it has been used
	u.Host = o.database.Addr().String()
	query := u.Query()
	query.Set("directConnection", "true")
	query.Set("tls", strconv.FormatBool(tls))
	u.RawQuery = query.Encode()
	return u.String()
}

// note notes that something is done now, for the first time.
func (o *observer) note(what string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.did[what].IsZero() {
		o.did[what] = time.Now()
	}
}

// accept passes the connections on to the database.
func (o *observer) accept() {
	for {
		client, err := o.database.Accept()
		if err != nil {
			return // it is closed
		}
		o.note(connects)
		o.mu.Lock()
		secured := o.secured
		o.mu.Unlock()
		go func() {
			defer client.Close()
			if secured {
				server := tls.Server(client, o.secrets.TLS)
				if server.Handshake() != nil {
					return // the process was ended
				}
				o.note(encrypted)
				client = server
			}
			u, _ := url.Parse(o.bench.database)
			database, err := net.Dial("tcp", u.Host)
			if err != nil {
				return // the client will say so
			}
			defer database.Close()
			go func() {
				io.Copy(database, client)
				database.Close()
			}()
			io.Copy(io.MultiWriter(answer{o}, client), database)
		}()
	}
}

// answer notes the answers of the database that are written to it.
type answer struct{ *observer }

func (a answer) Write(data []byte) (int, error) {
	a.note(greeted)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.did[finished] = time.Now()
	return len(data), nil
}

// start starts a function for one event, and returns when it did what, from exec on.
func (o *observer) start(ctx context.Context, c circumstances) (map[string]time.Duration, error) {
	event, err := os.ReadFile(filepath.Join(o.root, "events", c.name+".json"))
	if err != nil {
		return nil, err
	}
	env := append(o.env(o.masterDB), "SSL_CERT_FILE="+o.roots, "MONGO_URL="+o.url(c.tls))
	if c.references {
		env = append(env, references(o.secrets.URL)...)
	}
	if c.folders {
		env = append(env, "SSL_CERT_DIR=")
	}
	o.mu.Lock()
	o.did, o.secured = map[string]time.Time{}, c.tls
	o.mu.Unlock()
	f, err := startFunction(ctx, filepath.Join(o.bin, c.name), env)
	if err != nil {
		return nil, err
	}
	defer f.stop()
	said, _, err := f.invoke(event)
	if err != nil {
		return nil, err
	}
	if strings.Contains(string(said), `"statusCode":5`) {
		return nil, fmt.Errorf("%s answers %s", c.name, said)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	maps.Copy(o.did, map[string]time.Time{registers: f.registered, asks: f.first, answers: f.answered})
	took := map[string]time.Duration{}
	for what, t := range o.did {
		took[what] = t.Sub(f.began)
	}
	return took, nil
}
