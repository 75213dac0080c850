package mail

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"

	"orgservice/shared/config"
	"orgservice/shared/org"
)

// Trust makes the mailer trust the certificates of roots.
func (s *Mailer) Trust(roots *x509.CertPool) {
	s.out.(*smtpSender).tls = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
}

// Write returns the message of a mail, as it is sent.
func Write(settings config.Mail, m org.Mail) ([]byte, error) {
	message, err := New(settings).write(m)
	if err != nil {
		return nil, err
	}
	var raw bytes.Buffer
	_, err = message.WriteTo(&raw)
	return raw.Bytes(), err
}
