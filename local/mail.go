package main

import (
	"context"
	"fmt"
	"io"
	"path/filepath"

	"orgservice/local/mailbox"
)

// mailFolder returns the folder of the mails that the mailbox keeps.
func (p *project) mailFolder() string { return filepath.Join(p.data, "mail") }

// mail starts a mailbox unless SMTP_URL is set, and sets the variables of mail that
// are not set. By default links lead to the port. The mailbox, which is nil if there is
// none, writes a line to out for each mail that arrives. The caller closes it.
func (p *project) mail(ctx context.Context, port int, out io.Writer) (*mailbox.Server, error) {
	if p.env["APP_URL"] == "" {
		p.env["APP_URL"] = fmt.Sprintf("http://127.0.0.1:%d", port)
	}
	var box *mailbox.Server
	if p.env["SMTP_URL"] == "" {
		var err error
		if box, err = mailbox.Start(p.mailFolder(), func(m mailbox.Mail) { fmt.Fprintln(out, m) }); err != nil {
			return nil, err
		}
		p.env["SMTP_URL"] = box.URL()
		if p.env["MAIL_FROM"] == "" { // another server takes only some senders
			p.env["MAIL_FROM"] = "Organizations <no-reply@localhost>"
		}
	}
	if _, err := p.config().Mail(ctx); err != nil {
		if box != nil {
			box.Close()
		}
		return nil, err
	}
	return box, nil
}
