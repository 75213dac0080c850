// Package embedded is the database of a laptop: FerretDB on SQLite inside
// the calling process, reached by the same driver over the same wire protocol
// as MongoDB.
//
// FerretDB's SQLite backend loses concurrent updates: of 50 parallel
// increments, all acknowledged, a handful survive. MongoDB promises that one
// command on one document is atomic, and the service builds on nothing more
// than that promise. So every client is served through a front that lets one
// command at a time through to FerretDB; what is true of a single document on
// MongoDB is then true here. The front also gives create, drop and
// renameCollection the meaning that they have in MongoDB 7 and newer, or in
// 4.4 (Legacy).
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

// Server is a running database. Close ends it.
type Server struct {
	listener net.Listener
	socket   string // FerretDB's own listener, in a folder of its own
	legacy   bool
	pragmas  []string // of SQLite
	command  sync.Mutex

	stop    context.CancelFunc // stops FerretDB
	stopped chan struct{}      // closed when FerretDB has stopped
	serving sync.WaitGroup     // the front's goroutines

	mu     sync.Mutex
	conns  map[net.Conn]struct{}
	closed bool
}

// Option is a choice for Start.
type Option func(*Server)

// Legacy makes the server like MongoDB 4.4, the oldest that the driver talks
// to, where it says so of itself, creates a collection, or is told a
// collectionUUID. That is refused; the real one does so in renameCollection,
// but in drop ignores it.
func Legacy(s *Server) { s.legacy = true }

// Volatile makes the server never wait for the disk: what it keeps survives
// the end of the process, but not that of the machine. New databases are made
// ten times as fast.
func Volatile(s *Server) { s.pragmas = []string{"synchronous(off)"} }

// starting keeps two from starting at once: ferretdb.New writes a variable of
// its package.
var starting sync.Mutex

// Start opens the database kept in the folder dir, which it makes if need be,
// and serves it on addr, a TCP address such as "127.0.0.1:0".
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
	// The path of a Unix socket may have no more than about 100 bytes, so it
	// can't be in dir.
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
		db.Run(ctx) // always nil
	}()
	db.MongoDBURI() // waits until FerretDB listens
	s.serving.Go(s.accept)
	return s, nil
}

// sqliteURL returns where SQLite keeps its files, and how: what was committed
// survives the end of the process at once, and that of the machine a moment
// later. To wait for the disk with every command would make a busy disk look
// like a database that is away.
func sqliteURL(dir string, pragmas []string) string {
	return (&url.URL{
		Scheme:   "file",
		OmitHost: true,
		Path:     filepath.ToSlash(dir) + "/",
		RawQuery: url.Values{"_pragma": pragmas}.Encode(),
	}).String()
}

// Addr returns the address that the server listens on.
func (s *Server) Addr() string { return s.listener.Addr().String() }

// URL returns the connection string of the server.
func (s *Server) URL() string { return "mongodb://" + s.Addr() + "/" }

// Close ends all connections, then the database.
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

func (s *Server) accept() {
	for {
		client, err := s.listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue // the one connection failed, not the listener
		}
		s.serving.Go(func() { s.serve(client) })
	}
}

// track registers a connection for Close; it reports false, and closes the
// connection, when the server is closed already.
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

func (s *Server) untrack(c net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
	c.Close()
}

func (s *Server) serve(client net.Conn) {
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

// do returns the reply to a request, nil if it wants none. No other request
// is under way meanwhile.
func (s *Server) do(database net.Conn, request []byte) ([]byte, error) {
	s.command.Lock()
	defer s.command.Unlock()
	reply, err := s.answer(database, request)
	if !wantsReply(request) {
		reply = nil
	}
	return reply, err
}
