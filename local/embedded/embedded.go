// Package embedded is a database for development: FerretDB on SQLite, inside the
// calling process. Clients use the driver and the wire protocol of MongoDB.
//
// FerretDB on SQLite loses concurrent updates: of 50 parallel increments, all
// acknowledged, only a few remain. MongoDB guarantees that one command on one
// document is atomic, and the service needs no other guarantee. So clients talk
// to a proxy, which sends one command at a time to FerretDB and thereby gives
// the same guarantee. The proxy also makes create, drop and renameCollection
// behave as in MongoDB 7 and newer, or as in MongoDB 4.4 (Legacy).
package embedded

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"sync"

	"github.com/FerretDB/FerretDB/ferretdb"
)

// Server is a running database. The caller must call Close at the end.
type Server struct {
	listener net.Listener
	socket   string // Unix socket of FerretDB, in a folder of its own
	legacy   bool
	pragmas  []string   // of SQLite
	most     int        // connections of clients at a time
	command  sync.Mutex // held during a command

	stop    context.CancelFunc // stops FerretDB
	stopped chan struct{}      // closed when FerretDB has stopped
	serving sync.WaitGroup     // goroutines of the proxy

	mu     sync.Mutex
	conns  map[net.Conn]struct{} // of clients and to FerretDB
	closed bool
	// Of clients.
	open, accepted, rejected int
}

// Option is an option of Start.
type Option func(*Server)

// Legacy makes the server behave as MongoDB 4.4, the oldest that the driver
// supports, in three things: the version that it reports, create of a collection
// that exists, and collectionUUID, which it refuses. MongoDB 4.4 itself refuses
// it in renameCollection and ignores it in drop.
func Legacy(s *Server) { s.legacy = true }

// Volatile makes the server never wait for the disk. The data survives a crash of
// the process, but not one of the machine. Creating a database is ten times as
// fast.
func Volatile(s *Server) { s.pragmas = []string{"synchronous(off)"} }

// AtMost limits the connections of clients at a time. As MongoDB does, the server closes further
// ones at once.
func AtMost(connections int) Option { return func(s *Server) { s.most = connections } }

// starting is held while a server starts, because ferretdb.New writes to a
// variable of its package.
var starting sync.Mutex

// Start opens the database in the folder dir and serves it on addr, a TCP address
// such as "127.0.0.1:0". It makes the folder if it does not exist. Only one
// server may use a folder at a time.
func Start(dir, addr string, options ...Option) (*Server, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("embedded database: %w", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("embedded database: %w", err)
	}
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("embedded database: %w", err)
	}
	// The path of a Unix socket can have only about 100 bytes. That of dir may be
	// longer, so the socket is in another folder.
	run, err := os.MkdirTemp("", "mongodb")
	if err != nil {
		listener.Close()
		return nil, fmt.Errorf("embedded database: %w", err)
	}
	s := &Server{
		listener: listener,
		socket:   filepath.Join(run, "s"),
		stopped:  make(chan struct{}),
		conns:    map[net.Conn]struct{}{},
		pragmas:  []string{"synchronous(normal)"},
		most:     65_536,
	}
	for _, option := range options {
		option(s)
	}
	starting.Lock()
	db, err := ferretdb.New(&ferretdb.Config{
		Listener:  ferretdb.ListenerConfig{Unix: s.socket},
		Handler:   "sqlite",
		SQLiteURL: sqliteURL(dir, s.pragmas),
		Logger:    slog.New(slog.DiscardHandler),
	})
	starting.Unlock()
	if err != nil {
		listener.Close()
		os.RemoveAll(run)
		return nil, fmt.Errorf("embedded database in %s: %w", dir, err)
	}
	ctx, stop := context.WithCancel(context.Background())
	s.stop = stop
	go func() {
		defer close(s.stopped)
		defer os.RemoveAll(run)
		db.Run(ctx) // always returns nil
	}()
	db.MongoDBURI() // waits until FerretDB listens
	s.serving.Go(s.accept)
	return s, nil
}

// sqliteURL returns the URL of the SQLite files in dir. With synchronous(normal),
// a commit survives a crash of the process at once, and one of the machine a
// moment later. With synchronous(full), each command would wait for the disk, and
// on a busy disk commands would time out.
func sqliteURL(dir string, pragmas []string) string {
	return (&url.URL{
		Scheme:   "file",
		OmitHost: true,
		Path:     filepath.ToSlash(dir) + "/",
		RawQuery: url.Values{"_pragma": pragmas}.Encode(),
	}).String()
}

// Addr returns the TCP address that the server listens on.
func (s *Server) Addr() string { return s.listener.Addr().String() }

// URL returns the connection string of the server.
func (s *Server) URL() string { return "mongodb://" + s.Addr() + "/" }

// Connections returns how many connections of clients there are, and how many were accepted and
// rejected since the start.
func (s *Server) Connections() (open, accepted, rejected int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.open, s.accepted, s.rejected
}

// Close closes all connections, then the database.
func (s *Server) Close() {
	s.mu.Lock()
	s.closed = true
	for c := range s.conns {
		c.Close()
	}
	s.mu.Unlock()
	s.listener.Close()
	s.serving.Wait()
	s.stop()
	<-s.stopped
}

// accept accepts connections until Close.
func (s *Server) accept() {
	for {
		client, err := s.listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue // only this connection has failed
		}
		s.serving.Go(func() { s.serve(client) })
	}
}

// track registers a connection, which Close closes. If the server is closed
// already, it closes the connection and returns false.
func (s *Server) track(c net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		c.Close()
		return false
	}
	s.conns[c] = struct{}{}
	return true
}

// untrack closes a connection and forgets it.
func (s *Server) untrack(c net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
	c.Close()
}

// enter counts the connection of a client, and reports whether it is let in.
func (s *Server) enter() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open >= s.most {
		s.rejected++
		return false
	}
	s.open++
	s.accepted++
	return true
}

func (s *Server) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open--
}

// serve answers the requests of one client until either side ends.
func (s *Server) serve(client net.Conn) {
	if !s.enter() {
		client.Close()
		return
	}
	defer s.leave()
	if !s.track(client) {
		return
	}
	defer s.untrack(client)
	database, err := net.Dial("unix", s.socket)
	if err != nil {
		return
	}
	if !s.track(database) {
		return
	}
	defer s.untrack(database)
	for {
		request, err := readMessage(client)
		if err != nil {
			return
		}
		reply, err := s.do(database, request)
		if err != nil {
			return
		}
		if _, err := client.Write(reply); err != nil {
			return
		}
	}
}

// do returns the reply to a request, or nil if the client expects none. It runs
// one request at a time.
func (s *Server) do(database net.Conn, request []byte) ([]byte, error) {
	s.command.Lock()
	defer s.command.Unlock()
	reply, err := s.answer(database, request)
	if !wantsReply(request) {
		reply = nil
	}
	return reply, err
}
