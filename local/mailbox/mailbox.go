// Package mailbox is an SMTP server for development. It takes every mail, for any
// address, and sends none: it keeps them as files.
package mailbox

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/emersion/go-smtp"
)

// The limits of a mailbox.
const (
	MaxMails = 1000 // the oldest are deleted
	MaxBytes = 1 << 20
)

// Server is a running mailbox. The caller must call Close at the end.
type Server struct {
	dir      string
	arrived  func(Mail)
	listener net.Listener
	smtp     *smtp.Server

	mu     sync.Mutex // of what follows, and the folder
	number int        // of the last mail
	closed bool
}

// Start serves SMTP on a free port of 127.0.0.1 and keeps the mails in dir, which it
// makes when the first one arrives. It calls arrived with each mail, one at a time, as
// soon as its file is complete.
func Start(dir string, arrived func(Mail)) (*Server, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &Server{dir: dir, arrived: arrived, listener: listener}
	s.smtp = smtp.NewServer(smtp.BackendFunc(func(*smtp.Conn) (smtp.Session, error) {
		return &session{server: s}, nil
	}))
	s.smtp.Domain = "localhost"
	s.smtp.MaxMessageBytes = MaxBytes
	s.smtp.MaxRecipients = 100
	s.smtp.ReadTimeout = time.Minute
	s.smtp.WriteTimeout = time.Minute
	s.smtp.EnableSMTPUTF8 = true
	s.smtp.ErrorLog = log.New(io.Discard, "", 0) // of connections that break off
	go s.smtp.Serve(listener)
	return s, nil
}

// URL returns the value of SMTP_URL for this server.
func (s *Server) URL() string { return "smtp://" + s.listener.Addr().String() }

// Close ends the server. Afterwards no mail arrives.
func (s *Server) Close() {
	s.listener.Close() // in case the server does not serve yet
	s.smtp.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
}

// session is one client. It is for one mail after the other.
type session struct {
	server *Server
	to     []string
}

func (c *session) Reset()        { c.to = nil }
func (c *session) Logout() error { return nil }

func (c *session) Mail(string, *smtp.MailOptions) error { return nil }

func (c *session) Rcpt(to string, _ *smtp.RcptOptions) error {
	c.to = append(c.to, to)
	return nil
}

func (c *session) Data(r io.Reader) error {
	content, err := io.ReadAll(r)
	if err != nil {
		return err // it is too long, or the client is gone
	}
	m := read(content)
	m.To = c.to
	return c.server.keep(m, content)
}

// keep writes the mail into a file of its own, which only its owner may read: it holds
// a secret.
func (s *Server) keep(m Mail, content []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return net.ErrClosed
	}
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return err
	}
	for {
		s.number++
		name := fmt.Sprintf("%s-%06d.eml", time.Now().UTC().Format("20060102T150405.000Z"), s.number)
		m.Path = filepath.Join(s.dir, name)
		f, err := os.OpenFile(m.Path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if errors.Is(err, fs.ErrExist) {
			continue // of another mailbox on this folder
		}
		if err != nil {
			return err
		}
		_, err = f.Write(content)
		if err := errors.Join(err, f.Close()); err != nil {
			os.Remove(m.Path)
			return err
		}
		break
	}
	if err := s.prune(); err != nil {
		return err
	}
	s.arrived(m)
	return nil
}

// prune deletes the oldest mails if there are too many.
func (s *Server) prune() error {
	entries, err := os.ReadDir(s.dir) // sorted by name, and so by time
	if err != nil {
		return err
	}
	mails := slices.DeleteFunc(entries, func(e fs.DirEntry) bool { return !strings.HasSuffix(e.Name(), ".eml") })
	for _, e := range mails[:max(0, len(mails)-MaxMails)] {
		if err := os.Remove(filepath.Join(s.dir, e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}
