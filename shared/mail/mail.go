// Package mail writes the mails of the service and sends them, by SMTP or by Amazon
// SES. It implements [org.Mailer].
//
// No error holds a ticket, the text of a mail or credentials. A server may repeat what
// it was sent, so errors have the codes of its answers and not the words.
package mail

import (
	"context"
	"errors"
	"fmt"
	"net/mail"
	"net/url"
	"time"

	gomail "github.com/wneessen/go-mail"

	"orgservice/shared/config"
	"orgservice/shared/org"
)

// sendTimeout is how long it may take to send a mail.
const sendTimeout = 5 * time.Second

// Mailer writes and sends mail.
type Mailer struct {
	from mail.Address
	app  *url.URL
	out  sender
}

// sender is a way out. Its errors hold no secret.
type sender interface {
	send(ctx context.Context, message *gomail.Msg) error
}

// New returns a mailer with the settings. It connects to nothing.
func New(settings config.Mail) *Mailer {
	s := &Mailer{from: settings.From, app: settings.AppURL}
	if settings.SMTP != nil {
		s.out = &smtpSender{server: *settings.SMTP, helo: domain(settings.From.Address)}
	} else {
		s.out = &sesSender{settings.SES}
	}
	return s
}

// Need is what a function that sends mail lists among its needs; its type is Need of
// package wire. It reads MAIL_FROM, without which nothing is sent and no email can be verified, APP_URL and SMTP_URL,
// and what Amazon SES needs if the latter is not set. It is not in package wire, because every function imports that
// and would grow by 0.5 MB.
func Need(ctx context.Context, env config.Env, s *org.Service) error {
	if env("MAIL_FROM") == "" {
		if s.VerifiedOnly {
			return errors.New("MAIL_FROM: is not set, without which EMAIL_VERIFICATION can't be required")
		}
		return nil
	}
	settings, err := env.Mail(ctx)
	if err != nil {
		return err
	}
	s.Mailer = New(settings)
	return nil
}

// Send writes the mail and sends it, until ctx ends and for at most five seconds. If it
// returns an error, the mail may have been sent even so.
func (s *Mailer) Send(ctx context.Context, m org.Mail) error {
	message, err := s.write(m)
	if err != nil {
		return fmt.Errorf("mail of kind %q: %w", m.Kind, err)
	}
	ctx, cancel := context.WithTimeout(ctx, sendTimeout)
	defer cancel()
	err = s.out.send(ctx, message)
	if err != nil && ctx.Err() != nil {
		err = ctx.Err() // whatever it led to
	}
	if err != nil {
		return fmt.Errorf("mail of kind %q: %w", m.Kind, err)
	}
	return nil
}
