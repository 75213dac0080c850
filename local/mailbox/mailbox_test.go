package mailbox_test

import (
	"fmt"
	"io"
	"net"
	"net/smtp"
	"net/textproto"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"orgservice/local/mailbox"
)

// start starts a mailbox on the folder and returns its address and what arrives.
func start(t *testing.T, dir string) (address string, arrived <-chan mailbox.Mail) {
	t.Helper()
	mails := make(chan mailbox.Mail, 100)
	box, err := mailbox.Start(dir, func(m mailbox.Mail) { mails <- m })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(box.Close)
	address, ok := strings.CutPrefix(box.URL(), "smtp://")
	if host, _, err := net.SplitHostPort(address); !ok || err != nil || host != "127.0.0.1" {
		t.Fatalf("URL = %s", box.URL())
	}
	return address, mails
}

func send(address, content string, to ...string) error {
	return smtp.SendMail(address, nil, "from@example.com", to, []byte(content))
}

func files(t *testing.T, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func TestArrival(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data", "mail")
	address, arrived := start(t, dir)
	const multipart = "Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\nContent-Type: multipart/alternative; boundary=b\r\n\r\n" +
		"--b\r\nContent-Type: text/html\r\n\r\n<a href=\"https://html.example\">\r\n" +
		"--b\r\nContent-Type: text/plain; charset=UTF-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\nsee <https://app.example/=\r\nx?a=3Db>\r\n--b--\r\n"
	for _, tt := range []struct {
		name, content string
		to            []string
		want          mailbox.Mail
		line          string
	}{
		{"plain", "Subject: Hello\r\n\r\nsee http://app.example/x?y\r\nor http://b.example\r\n", []string{"a@example.com"},
			mailbox.Mail{Subject: "Hello", Link: "http://app.example/x?y"}, "mail to a@example.com: Hello: http://app.example/x?y"},
		{"quoted-printable", "Subject: Hello\r\nContent-Transfer-Encoding: Quoted-Printable\r\n\r\nhttp://app.example/?x=3Dy\r\n", []string{"a@example.com"},
			mailbox.Mail{Subject: "Hello", Link: "http://app.example/?x=y"}, "mail to a@example.com: Hello: http://app.example/?x=y"},
		{"multipart", multipart, []string{"a@example.com", "größe@example.com"},
			mailbox.Mail{Subject: "Grüße", Link: "https://app.example/x?a=b"}, "mail to a@example.com, größe@example.com: Grüße: https://app.example/x?a=b"},
		{"no link", "Subject: Hello\r\n\r\nhello\r\n", []string{"a@example.com"},
			mailbox.Mail{Subject: "Hello"}, "mail to a@example.com: Hello"},
		{"no mail", "hello\r\n", []string{"a@example.com"}, mailbox.Mail{}, "mail to a@example.com: "},
		{"no part", "Content-Type: multipart/mixed; boundary=b\r\n\r\n--x\r\n", []string{"a@example.com"}, mailbox.Mail{}, "mail to a@example.com: "},
		{"control characters", "Subject: =?utf-8?q?a=1B[2J=0Ab=E2=80=AE?=\r\n\r\nhttp://a.example/\x1b[2J\r\n", []string{"a@example.com"},
			mailbox.Mail{Subject: "a�[2J�b�", Link: "http://a.example/�[2J"}, "mail to a@example.com: a�[2J�b�: http://a.example/�[2J"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if err := sendUTF8(address, tt.content, tt.to...); err != nil {
				t.Fatal(err)
			}
			got := <-arrived
			tt.want.To = tt.to
			if diff := cmp.Diff(tt.want, got, cmpopts.IgnoreFields(mailbox.Mail{}, "Path")); diff != "" {
				t.Errorf("mail (-want +got):\n%s", diff)
			}
			if got.String() != tt.line {
				t.Errorf("line %q, want %q", got, tt.line)
			}
			kept, err := os.ReadFile(got.Path)
			if err != nil || string(kept) != tt.content {
				t.Errorf("the file has %q, %v", kept, err)
			}
			if info, err := os.Stat(got.Path); err != nil || info.Mode() != 0o600 || filepath.Dir(got.Path) != dir {
				t.Errorf("the file %s: %v, %v", got.Path, info.Mode(), err)
			}
		})
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the folder: %v, %v", info.Mode(), err)
	}
}

// sendUTF8 sends as a client does that knows SMTPUTF8 and has the same connection for
// more than one mail.
func sendUTF8(address, content string, to ...string) error {
	conn, err := textproto.Dial("tcp", address)
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, _, err := conn.ReadResponse(220); err != nil {
		return err
	}
	command := func(code int, format string, args ...any) {
		if err == nil {
			if _, err = conn.Cmd(format, args...); err == nil {
				_, _, err = conn.ReadResponse(code)
			}
		}
	}
	command(250, "EHLO localhost")
	command(250, "MAIL FROM:<other@example.com>")
	command(250, "RCPT TO:<other@example.com>")
	command(250, "RSET")
	command(250, "MAIL FROM:<from@example.com> SMTPUTF8")
	for _, a := range to {
		command(250, "RCPT TO:<%s>", a)
	}
	command(354, "DATA")
	if err != nil {
		return err
	}
	w := conn.DotWriter()
	io.WriteString(w, content)
	if err := w.Close(); err != nil {
		return err
	}
	_, _, err = conn.ReadResponse(250)
	return err
}

func TestManyMails(t *testing.T) {
	dir := t.TempDir()
	// The files of others stay.
	for _, name := range []string{"0.txt", "00000000T000000.000Z-000001.eml"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for i := range mailbox.MaxMails - 1 {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("20000101T000000.000Z-%06d.eml", i)), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	before := files(t, dir)
	address, arrived := start(t, dir)
	for range 2 {
		if err := send(address, "Subject: x\r\n\r\n", "a@example.com"); err != nil {
			t.Fatal(err)
		}
	}
	want := slices.DeleteFunc(before, func(name string) bool {
		return name == "00000000T000000.000Z-000001.eml" || name == "20000101T000000.000Z-000000.eml"
	})
	want = append(want, filepath.Base((<-arrived).Path), filepath.Base((<-arrived).Path))
	if diff := cmp.Diff(want, files(t, dir)); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	if n := len(want) - 1; n != mailbox.MaxMails {
		t.Errorf("%d mails", n)
	}
}

func TestLongMail(t *testing.T) {
	dir := t.TempDir()
	address, arrived := start(t, dir)
	mail := func(n int) string { return strings.Repeat(strings.Repeat("x", 998)+"\r\n", n/1000) }
	if err := send(address, mail(mailbox.MaxBytes), "a@example.com"); err != nil {
		t.Error(err)
	}
	<-arrived
	if err := send(address, mail(mailbox.MaxBytes+1000), "a@example.com"); err == nil || !strings.HasPrefix(err.Error(), "552 ") {
		t.Errorf("a mail that is too long: %v", err)
	}
	if got := files(t, dir); len(got) != 1 {
		t.Errorf("files: %q", got)
	}
}

// A client that goes amid a mail has sent none.
func TestHalfMail(t *testing.T) {
	dir := t.TempDir()
	address, arrived := start(t, dir)
	client, err := smtp.Dial(address)
	if err != nil {
		t.Fatal(err)
	}
	if err := client.Mail("from@example.com"); err != nil {
		t.Fatal(err)
	}
	if err := client.Rcpt("a@example.com"); err != nil {
		t.Fatal(err)
	}
	w, err := client.Data()
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(w, "Subject: half\r\n")
	client.Text.W.Flush()
	client.Close()
	// The next one arrives, and alone.
	if err := send(address, "Subject: whole\r\n\r\n", "a@example.com"); err != nil {
		t.Fatal(err)
	}
	if m := <-arrived; m.Subject != "whole" {
		t.Errorf("arrived: %v", m)
	}
	if got := files(t, dir); len(got) != 1 {
		t.Errorf("files: %q", got)
	}
}

func TestTwoMailboxes(t *testing.T) {
	dir := t.TempDir()
	one, arrivedOne := start(t, dir)
	two, arrivedTwo := start(t, dir)
	paths := map[string]bool{}
	for range 10 {
		errs := make(chan error)
		for _, address := range []string{one, two} {
			go func() { errs <- send(address, "Subject: x\r\n\r\n", "a@example.com") }()
		}
		for range 2 {
			if err := <-errs; err != nil {
				t.Fatal(err)
			}
		}
		paths[(<-arrivedOne).Path], paths[(<-arrivedTwo).Path] = true, true
	}
	if got := files(t, dir); len(paths) != 20 || len(got) != 20 {
		t.Errorf("%d paths, files %q", len(paths), got)
	}
}

func TestFolderThatCannotBe(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(dir, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	address, arrived := start(t, dir)
	if err := send(address, "Subject: x\r\n\r\n", "a@example.com"); err == nil || !strings.HasPrefix(err.Error(), "554 ") {
		t.Errorf("send: %v", err)
	}
	if len(arrived) != 0 {
		t.Error("it arrived")
	}
}

func TestClose(t *testing.T) {
	box, err := mailbox.Start(t.TempDir(), func(mailbox.Mail) { t.Error("a mail arrived") })
	if err != nil {
		t.Fatal(err)
	}
	address := strings.TrimPrefix(box.URL(), "smtp://")
	client, err := smtp.Dial(address)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	box.Close()
	if err := client.Hello("localhost"); err == nil {
		t.Error("the connection is still open")
	}
	if err := send(address, "Subject: x\r\n\r\n", "a@example.com"); err == nil {
		t.Error("a mail was taken")
	}
}
