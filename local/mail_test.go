package main

import (
	"encoding/json"
	"net/http"
	"net/smtp"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// newMailProject is newProject with a function that shows the variables of mail.
func newMailProject(t *testing.T) {
	t.Helper()
	newProject(t)
	write(t, "template.yaml", strings.Replace(templateYAML, "JWT_SECRET: x }", "MAIL_FROM: a@cloud.example, APP_URL: https://cloud.example, SMTP_URL: '' }", 1))
	write(t, "functions/show/main.go", strings.Replace(function, `"MONGO_URL", "MASTER_DB", "JWT_SECRET", "PORT"`, `"MAIL_FROM", "APP_URL", "SMTP_URL"`, 1))
}

type mailSettings struct {
	From string `json:"MAIL_FROM"`
	App  string `json:"APP_URL"`
	SMTP string `json:"SMTP_URL"`
}

// mailSettingsOf returns what the function of newMailProject sees.
func mailSettingsOf(t *testing.T, base string) (s mailSettings) {
	t.Helper()
	response, err := http.Get(base + "/show")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if err := json.NewDecoder(response.Body).Decode(&s); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestMailbox(t *testing.T) {
	newMailProject(t)
	out := &syncBuffer{}
	base, _ := startWith(t, out, make(chan error, 1), []string{"PORT=0"})
	got := mailSettingsOf(t, base)
	address, ok := strings.CutPrefix(got.SMTP, "smtp://127.0.0.1:")
	if want := (mailSettings{"Organizations <no-reply@localhost>", base, got.SMTP}); got != want || !ok {
		t.Fatalf("the function sees %+v, want %+v", got, want)
	}
	if want := "\nmail: kept in " + filepath.Join("local", ".data", "mail") + ", and sent to nobody (SMTP_URL)\n"; !strings.Contains(out.String(), want) {
		t.Errorf("%q is missing in\n%s", want, out)
	}
	content := "Subject: Reset your password\r\n\r\n" + base + "/reset-password?ticket=x\r\n"
	if err := smtp.SendMail("127.0.0.1:"+address, nil, "no-reply@localhost", []string{"a@example.com"}, []byte(content)); err != nil {
		t.Fatal(err)
	}
	want := "\nmail to a@example.com: Reset your password: " + base + "/reset-password?ticket=x\n"
	if !strings.Contains(out.String(), want) { // it is printed before the mail is accepted
		t.Fatalf("%q is missing in\n%s", want, out)
	}
	files, err := filepath.Glob(filepath.Join("local", ".data", "mail", "*.eml"))
	if err != nil || len(files) != 1 {
		t.Fatalf("files: %q, %v", files, err)
	}
	if kept, err := os.ReadFile(files[0]); string(kept) != content {
		t.Errorf("kept: %q, %v", kept, err)
	}
	// A command next to it has a mailbox of its own.
	shown, err := call(t, "{}", []string{"PORT=3000"}, "invoke", "show", "-")
	if err != nil || !strings.Contains(shown, `"APP_URL": "http://127.0.0.1:3000"`) || !strings.Contains(shown, `"SMTP_URL": "smtp://127.0.0.1:`) {
		t.Errorf("invoke: %s, %v", shown, err)
	}
}

// What is set stays.
func TestOtherMailServer(t *testing.T) {
	newMailProject(t)
	write(t, ".env", "SMTP_URL=smtps://user:hush@smtp.example.com\nMAIL_FROM=me@example.com\n")
	environ := []string{"APP_URL=https://app.example.com"}
	shown, err := call(t, "{}", environ, "invoke", "show", "-")
	var got mailSettings
	if err != nil || json.Unmarshal([]byte(shown), &got) != nil {
		t.Fatalf("%s, %v", shown, err)
	}
	if want := (mailSettings{"me@example.com", "https://app.example.com", "smtps://user:hush@smtp.example.com"}); got != want {
		t.Errorf("the function sees %+v, want %+v", got, want)
	}
	out := &syncBuffer{}
	startWith(t, out, make(chan error, 1), append(environ, "PORT=0"))
	if text := out.String(); !strings.Contains(text, "\nmail: sent by the server of SMTP_URL\n") || strings.Contains(text, "hush") {
		t.Errorf("it says:\n%s", text)
	}
	if _, err := os.Stat(filepath.Join("local", ".data", "mail")); err == nil {
		t.Error("there is a mailbox")
	}
}
