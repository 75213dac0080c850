package config

import (
	"context"
	"errors"
	"fmt"
	"net/mail"
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"orgservice/shared/awsapi"
)

// Mail says from whom mail is, where its links lead and how it is sent.
type Mail struct {
	From   mail.Address // MAIL_FROM
	AppURL *url.URL     // APP_URL
	SMTP   *SMTP        // SMTP_URL; nil if mail is sent by Amazon SES
	SES    awsapi.Client
}

// SMTP is a server that takes mail.
type SMTP struct {
	Host           string
	Port           int
	User, Password string // both are empty if the server asks for none
	Security       Security
}

// Security says how the connection to an SMTP server is encrypted.
type Security int

// The ways of encryption.
const (
	StartTLS Security = iota // by the command STARTTLS, without which nothing is sent
	TLS                      // from the first byte
	NoTLS                    // not at all: the server is on this machine
)

// Mail reads MAIL_FROM, APP_URL, SMTP_URL and, if the latter is not set, AWS_REGION.
func (env Env) Mail(ctx context.Context) (Mail, error) {
	from, err := parseFrom(env("MAIL_FROM"))
	if err != nil {
		return Mail{}, fmt.Errorf("MAIL_FROM: %w", err)
	}
	app, err := parseAppURL(env("APP_URL"))
	if err != nil {
		return Mail{}, fmt.Errorf("APP_URL: %w", err)
	}
	m := Mail{From: from, AppURL: app}
	smtpURL, err := env.resolve(ctx, "SMTP_URL")
	if err != nil {
		return Mail{}, err
	}
	if smtpURL = strings.TrimSpace(smtpURL); smtpURL != "" {
		if m.SMTP, err = parseSMTP(smtpURL); err != nil {
			return Mail{}, fmt.Errorf("SMTP_URL: %w", err)
		}
		return m, nil
	}
	m.SES = awsapi.Client{Service: "ses", Host: "email", Region: env("AWS_REGION"), Endpoint: env.endpoint("AWS_ENDPOINT_URL_SESV2"), Credentials: env.credentials}
	if m.SES.Region == "" {
		return Mail{}, fmt.Errorf("AWS_REGION: %w, and neither is SMTP_URL", errNotSet)
	}
	return m, nil
}

// parseFrom returns the address of the sender. It must be in ASCII, since only some
// servers take another one.
func parseFrom(s string) (mail.Address, error) {
	if s == "" {
		return mail.Address{}, errNotSet
	}
	a, err := mail.ParseAddress(s)
	if err != nil || strings.ContainsFunc(a.Address, func(r rune) bool { return r <= ' ' || r > '~' }) ||
		strings.ContainsFunc(a.Name, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return mail.Address{}, errors.New("is not an address such as no-reply@example.com or Example <no-reply@example.com>")
	}
	return *a, nil
}

func parseAppURL(s string) (*url.URL, error) {
	if s == "" {
		return nil, errNotSet
	}
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Hostname() == "" || u.User != nil || strings.ContainsAny(s, "?#") {
		return nil, errors.New("is not a URL such as https://app.example.com, without user, query and fragment")
	}
	if u.Scheme == "http" && !isLoopback(u.Hostname()) {
		return nil, errors.New("must begin with https://, unless its host is this machine")
	}
	return u, nil
}

// parseSMTP never wraps the error of url.Parse, which shows the URL.
func parseSMTP(s string) (*SMTP, error) {
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "smtp" && u.Scheme != "smtps" || u.Hostname() == "" || u.Path != "" && u.Path != "/" || strings.ContainsAny(s, "?#") {
		return nil, errors.New("is not like smtps://user:password@host:465 or smtp://user:password@host:587, " +
			"with other characters than letters and digits in user and password as %XX")
	}
	server := &SMTP{Host: u.Hostname(), Port: 587}
	switch {
	case u.Scheme == "smtps":
		server.Port, server.Security = 465, TLS
	case isLoopback(server.Host):
		server.Security = NoTLS
	}
	if port := u.Port(); port != "" {
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || n == 0 {
			return nil, errors.New("has a port that is not from 1 to 65535")
		}
		server.Port = int(n)
	}
	if u.User != nil {
		server.User = u.User.Username()
		server.Password, _ = u.User.Password()
		if server.User == "" || server.Password == "" {
			return nil, errors.New("must have both a user and a password, or neither")
		}
	}
	return server, nil
}

// isLoopback reports whether a host is this machine.
func isLoopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}
