package mail

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/textproto"
	"strconv"

	gomail "github.com/wneessen/go-mail"

	"orgservice/shared/config"
	"orgservice/shared/org"
)

// smtpSender sends each mail on a connection of its own.
type smtpSender struct {
	server config.SMTP
	helo   string      // the domain by which the client calls itself
	tls    *tls.Config // nil, but in tests
}

func (s *smtpSender) send(ctx context.Context, message *gomail.Msg) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // this closes the connection
	security := s.tls.Clone()
	if security == nil {
		security = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	security.ServerName = s.server.Host
	options := []gomail.Option{
		gomail.WithTimeout(2 * sendTimeout), // ctx ends before
		gomail.WithHELO(s.helo),
		gomail.WithTLSConfig(security),
		gomail.WithTLSPolicy(gomail.NoTLS),
		gomail.WithoutNoop(),
		gomail.WithDialContextFunc(func(context.Context, string, string) (net.Conn, error) {
			return s.dial(ctx, security)
		}),
	}
	if s.server.Security == config.StartTLS {
		options = append(options, gomail.WithTLSPolicy(gomail.TLSMandatory))
	}
	if s.server.User != "" {
		options = append(options, gomail.WithUsername(s.server.User), gomail.WithPassword(s.server.Password),
			gomail.WithOpportunisticSMTPAuth(gomail.SMTPAuthPlain, gomail.SMTPAuthLogin))
	}
	client, err := gomail.NewClient(s.server.Host, options...)
	if err != nil {
		return err
	}
	connection, err := client.DialToSMTPClientWithContext(ctx)
	if err != nil {
		return smtpError(err)
	}
	if err := client.SendWithSMTPClient(connection, message); err != nil && !message.IsDelivered() {
		return smtpError(err)
	}
	client.CloseWithSMTPClient(connection) // whether it succeeds does not matter to the mail
	return nil
}

// dial connects to the server. The connection is closed as soon as ctx ends, because
// the client looks at ctx only while it dials.
func (s *smtpSender) dial(ctx context.Context, security *tls.Config) (net.Conn, error) {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "tcp", net.JoinHostPort(s.server.Host, strconv.Itoa(s.server.Port)))
	if err != nil {
		return nil, err
	}
	context.AfterFunc(ctx, func() { conn.Close() })
	if s.server.Security != config.TLS {
		return conn, nil
	}
	encrypted := tls.Client(conn, security)
	return encrypted, encrypted.HandshakeContext(ctx)
}

// smtpError returns an error without what the server said, but for the codes.
func smtpError(err error) error {
	if e, ok := errors.AsType[*gomail.SendError](err); ok {
		text := e.Reason.String()
		if e.ErrorCode() != 0 {
			text += ": the server answered " + strconv.Itoa(e.ErrorCode())
		}
		if e.EnhancedStatusCode() != "" {
			text += " " + e.EnhancedStatusCode()
		}
		if e.Reason == gomail.ErrSMTPRcptTo && e.ErrorCode() >= 500 {
			return fmt.Errorf("%w: %s", org.ErrUndeliverable, text)
		}
		return errors.New(text)
	}
	if e, ok := errors.AsType[*textproto.Error](err); ok {
		return fmt.Errorf("connecting to the server: it answered %d", e.Code)
	}
	if _, ok := errors.AsType[textproto.ProtocolError](err); ok {
		return errors.New("connecting to the server: its answer is not SMTP")
	}
	return err
}
