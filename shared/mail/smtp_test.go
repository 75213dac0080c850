package mail_test

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"

	"orgservice/shared/config"
	"orgservice/shared/mail"
	"orgservice/shared/org"
)

// smtpServer is a server that wants a user and a password.
type smtpServer struct {
	port      int
	mechanism string
	refuse    map[string]error // by the command
	mails     chan []byte
}

func (s *smtpServer) NewSession(c *smtp.Conn) (smtp.Session, error) {
	return &smtpSession{server: s}, nil
}

type smtpSession struct {
	server *smtpServer
	known  bool
}

func (c *smtpSession) AuthMechanisms() []string { return []string{c.server.mechanism} }

func (c *smtpSession) Auth(string) (sasl.Server, error) {
	check := func(user, password string) error {
		if user != testUser || password != testPassword {
			return smtp.ErrAuthFailed
		}
		c.known = true
		return nil
	}
	if c.server.mechanism == sasl.Login {
		return &loginServer{check: check}, nil
	}
	return sasl.NewPlainServer(func(_, user, password string) error { return check(user, password) }), nil
}

// loginServer is the mechanism LOGIN, of which go-sasl has only the client.
type loginServer struct {
	check   func(user, password string) error
	answers []string
}

func (l *loginServer) Next(answer []byte) (challenge []byte, done bool, err error) {
	if answer != nil {
		l.answers = append(l.answers, string(answer))
	}
	if len(l.answers) == 2 {
		return nil, true, l.check(l.answers[0], l.answers[1])
	}
	return [][]byte{[]byte("Username:"), []byte("Password:")}[len(l.answers)], false, nil
}

func (c *smtpSession) Mail(string, *smtp.MailOptions) error {
	if !c.known {
		return smtp.ErrAuthRequired
	}
	return c.server.refuse["MAIL"]
}

func (c *smtpSession) Rcpt(string, *smtp.RcptOptions) error { return c.server.refuse["RCPT"] }

func (c *smtpSession) Data(r io.Reader) error {
	content, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	if err := c.server.refuse["DATA"]; err != nil {
		return err
	}
	c.server.mails <- content
	return nil
}

func (c *smtpSession) Reset()        {}
func (c *smtpSession) Logout() error { return nil }

// newSMTPServer serves on 127.0.0.1. With a certificate it offers STARTTLS, or begins
// with TLS.
func newSMTPServer(t *testing.T, certificate *tls.Certificate, fromStart bool) *smtpServer {
	t.Helper()
	listener := listen(t)
	s := &smtpServer{port: portOf(listener), mechanism: sasl.Plain, refuse: map[string]error{}, mails: make(chan []byte, 10)}
	server := smtp.NewServer(s)
	server.AllowInsecureAuth = certificate == nil
	server.ErrorLog = log.New(io.Discard, "", 0)
	if certificate != nil {
		server.TLSConfig = &tls.Config{Certificates: []tls.Certificate{*certificate}}
	}
	if fromStart {
		listener = tls.NewListener(listener, server.TLSConfig)
	}
	go server.Serve(listener)
	t.Cleanup(func() { server.Close() })
	return s
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	return listener
}

func portOf(l net.Listener) int { return l.Addr().(*net.TCPAddr).Port }

// newCertificate returns a certificate of 127.0.0.1 and the pool that has it.
func newCertificate(t *testing.T) (*tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(certificate)
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, roots
}

// newMailer returns a mailer that sends to the port as the user.
func newMailer(t *testing.T, port int, security config.Security, password string) *mail.Mailer {
	t.Helper()
	s := settings(t, map[string]string{"SMTP_URL": fmt.Sprintf("smtp://%s:%s@127.0.0.1:%d", testUser, password, port)})
	s.SMTP.Security = security // a host of another name would be asked for it
	return mail.New(s)
}

// wantErr fails the test unless the error is want, which holds no secret.
func wantErr(t *testing.T, err error, want string) {
	t.Helper()
	if err == nil || err.Error() != `mail of kind "invitation": `+want {
		t.Errorf("Send: %v, want %s", err, want)
	}
}

func TestSMTP(t *testing.T) {
	certificate, roots := newCertificate(t)
	for _, tt := range []struct {
		name        string
		certificate *tls.Certificate
		security    config.Security
		mechanism   string
	}{
		{"NoTLS", nil, config.NoTLS, sasl.Plain},
		{"NoTLS though it is offered", certificate, config.NoTLS, sasl.Plain},
		{"StartTLS", certificate, config.StartTLS, sasl.Plain},
		{"TLS", certificate, config.TLS, sasl.Plain},
		{"Login", certificate, config.TLS, sasl.Login},
	} {
		t.Run(tt.name, func(t *testing.T) {
			server := newSMTPServer(t, tt.certificate, tt.security == config.TLS)
			server.mechanism = tt.mechanism
			mailer := newMailer(t, server.port, tt.security, testPassword)
			mailer.Trust(roots)
			err := mailer.Send(t.Context(), testMail)
			if tt.name == "NoTLS though it is offered" {
				// The server wants TLS before the password.
				wantErr(t, err, "server does not support SMTP AUTH")
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			parse(t, <-server.mails)
		})
	}
}

func TestSMTPErr(t *testing.T) {
	certificate, roots := newCertificate(t)
	t.Run("STARTTLS is not offered", func(t *testing.T) {
		server := newSMTPServer(t, nil, false)
		err := newMailer(t, server.port, config.StartTLS, testPassword).Send(t.Context(), testMail)
		wantErr(t, err, `STARTTLS mode set to: "TLSMandatory", but target host does not support STARTTLS`)
	})
	for _, security := range []config.Security{config.StartTLS, config.TLS} {
		t.Run(fmt.Sprintf("unknown certificate %d", security), func(t *testing.T) {
			server := newSMTPServer(t, certificate, security == config.TLS)
			err := newMailer(t, server.port, security, testPassword).Send(t.Context(), testMail)
			if _, ok := errors.AsType[*tls.CertificateVerificationError](err); !ok {
				t.Errorf("Send: %v", err)
			}
		})
		t.Run(fmt.Sprintf("certificate of another host %d", security), func(t *testing.T) {
			server := newSMTPServer(t, certificate, security == config.TLS)
			s := settings(t, map[string]string{"SMTP_URL": fmt.Sprintf("smtp://localhost:%d", server.port)})
			s.SMTP.Security = security
			mailer := mail.New(s)
			mailer.Trust(roots)
			if _, ok := errors.AsType[x509.HostnameError](mailer.Send(t.Context(), testMail)); !ok {
				t.Error("no error of the host")
			}
		})
	}
	t.Run("wrong password", func(t *testing.T) {
		for _, mechanism := range []string{sasl.Plain, sasl.Login} {
			server := newSMTPServer(t, nil, false)
			server.mechanism = mechanism
			err := newMailer(t, server.port, config.NoTLS, "wrong").Send(t.Context(), testMail)
			wantErr(t, err, "connecting to the server: it answered 535")
		}
	})
	t.Run("no password", func(t *testing.T) {
		server := newSMTPServer(t, nil, false)
		s := settings(t, map[string]string{"SMTP_URL": fmt.Sprintf("smtp://127.0.0.1:%d", server.port)})
		wantErr(t, mail.New(s).Send(t.Context(), testMail), "sending SMTP MAIL FROM command: the server answered 502 5.7.0")
	})
	for command, want := range map[string]string{
		"MAIL": "sending SMTP MAIL FROM command: the server answered 550 5.1.1",
		"RCPT": "undeliverable: sending SMTP RCPT TO command: the server answered 550 5.1.1",
		"DATA": "closing SMTP DATA writer: the server answered 550 5.1.1",
	} {
		t.Run("refused at "+command, func(t *testing.T) {
			server := newSMTPServer(t, nil, false)
			server.refuse[command] = &smtp.SMTPError{Code: 550, EnhancedCode: smtp.EnhancedCode{5, 1, 1}, Message: "not " + testTicket}
			err := newMailer(t, server.port, config.NoTLS, testPassword).Send(t.Context(), testMail)
			wantErr(t, err, want)
			if errors.Is(err, org.ErrUndeliverable) != (command == "RCPT") {
				t.Errorf("%v is undeliverable: %v", err, errors.Is(err, org.ErrUndeliverable))
			}
		})
	}
	t.Run("no server", func(t *testing.T) {
		listener := listen(t)
		listener.Close()
		err := newMailer(t, portOf(listener), config.NoTLS, testPassword).Send(t.Context(), testMail)
		if err == nil || !strings.HasSuffix(err.Error(), "connect: connection refused") {
			t.Errorf("Send: %v", err)
		}
	})
}

// client is what a played server knows of its client.
type client struct {
	waits <-chan struct{} // it got all the lines that there are for it
	gone  <-chan struct{}
}

// nothing is a line that is not sent.
const nothing = "-"

// play serves one client: it sends the lines, the first at once and each other one
// after a line of the client, or after the end of a mail if it begins with a dot. %s in
// a line is what the client sent. Then it waits until the client is gone.
func play(t *testing.T, lines ...string) (port int, _ client) {
	t.Helper()
	listener := listen(t)
	waits, gone := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(gone)
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		from := bufio.NewScanner(conn)
		for i, line := range lines {
			line, mail := strings.CutPrefix(line, ".")
			if i > 0 && !from.Scan() {
				return
			}
			for mail && from.Text() != "." && from.Scan() {
			}
			if line != nothing {
				fmt.Fprintf(conn, "%s\r\n", strings.ReplaceAll(line, "%s", from.Text()))
			}
		}
		close(waits)
		for from.Scan() {
		}
	}()
	return portOf(listener), client{waits, gone}
}

// A server may repeat what it was sent, also where no answer should be.
func TestSMTPEcho(t *testing.T) {
	const hello = "250-localhost\r\n250 AUTH PLAIN"
	credentials := base64.StdEncoding.EncodeToString([]byte("\x00" + testUser + "\x00" + testPassword))
	for _, tt := range []struct {
		name  string
		lines []string
		want  string
	}{
		{"refusal", []string{"220 localhost", hello, "535 5.7.8 no: %s"}, "connecting to the server: it answered 535"},
		{"garbage", []string{"220 localhost", hello, "no: %s"}, "connecting to the server: its answer is not SMTP"},
		{"challenge", []string{"220 localhost", hello, "334 %s"}, "SMTP AUTH failed: illegal base64 data at input byte 4"},
		{"later", []string{"220 localhost", hello, "235 welcome " + credentials, credentials}, "sending SMTP MAIL FROM command"},
		{"greeting", []string{"HTTP/1.1 400 Bad Request"}, "connecting to the server: its answer is not SMTP"},
		{"hello", []string{"220 localhost", "554-%s\r\n554 no", "554-%s\r\n554 no"}, "connecting to the server: it answered 554"},
		{"full", []string{"421 no more"}, "connecting to the server: it answered 421"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			port, _ := play(t, append(tt.lines, "250 bye", "250 bye")...)
			err := newMailer(t, port, config.NoTLS, testPassword).Send(t.Context(), testMail)
			wantErr(t, err, tt.want)
		})
	}
}

// A server may stop to answer anywhere.
func TestSMTPHangs(t *testing.T) {
	t.Parallel()
	all := []string{"220 localhost", "250-localhost\r\n250 AUTH PLAIN", "235 welcome", "250 from", "250 to", "354 go on"}
	for n := range len(all) + 1 {
		for _, security := range []config.Security{config.NoTLS, config.TLS} {
			if n > 0 && security == config.TLS {
				continue // it waits for the handshake
			}
			t.Run(fmt.Sprintf("after %d answers, security %d", n, security), func(t *testing.T) {
				port, client := play(t, all[:n]...)
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				go func() {
					<-client.waits
					cancel()
				}()
				err := newMailer(t, port, security, testPassword).Send(ctx, testMail)
				if !errors.Is(err, context.Canceled) {
					t.Errorf("Send: %v", err)
				}
				<-client.gone
			})
		}
	}
	t.Run("without a limit of the caller", func(t *testing.T) {
		port, client := play(t, all[0])
		err := newMailer(t, port, config.NoTLS, testPassword).Send(t.Context(), testMail)
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Send: %v", err)
		}
		<-client.gone
	})
}

// What comes after the server has taken the mail does not matter.
func TestSMTPTaken(t *testing.T) {
	for name, end := range map[string][]string{
		"refuses to go on": {"500 no", "500 no"},
		"garbage":          {"bye", "bye"},
		"hangs":            {nothing},
	} {
		t.Run(name, func(t *testing.T) {
			lines := append([]string{"220 localhost", "250 localhost", "250 from", "250 to", "354 go on", ".250 taken"}, end...)
			port, client := play(t, lines...)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			if name == "hangs" {
				go func() {
					<-client.waits
					cancel()
				}()
			}
			s := settings(t, map[string]string{"SMTP_URL": fmt.Sprintf("smtp://127.0.0.1:%d", port)})
			if err := mail.New(s).Send(ctx, testMail); err != nil {
				t.Error(err)
			}
			<-client.gone
		})
	}
}
