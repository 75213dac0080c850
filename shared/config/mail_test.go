package config_test

import (
	"maps"
	"net/mail"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"orgservice/shared/config"
)

// mailVars returns the variables of mail by SMTP, with changes.
func mailVars(changes map[string]string) map[string]string {
	vars := map[string]string{
		"MAIL_FROM": "no-reply@example.com",
		"APP_URL":   "https://app.example.com",
		"SMTP_URL":  "smtps://user:hunter2@smtp.example.com",
	}
	maps.Copy(vars, changes)
	return vars
}

func TestMail(t *testing.T) {
	t.Run("SMTP", func(t *testing.T) {
		for value, want := range map[string]config.SMTP{
			"smtps://user:hunter2@smtp.example.com":  {Host: "smtp.example.com", Port: 465, User: "user", Password: "hunter2", Security: config.TLS},
			"smtps://smtp.example.com:2465/":         {Host: "smtp.example.com", Port: 2465, Security: config.TLS},
			"smtp://user:hunter2@smtp.example.com":   {Host: "smtp.example.com", Port: 587, User: "user", Password: "hunter2", Security: config.StartTLS},
			"smtp://smtp.example.com:25":             {Host: "smtp.example.com", Port: 25, Security: config.StartTLS},
			"smtp://u%40example.com:h%2Fx%3A%40@a.b": {Host: "a.b", Port: 587, User: "u@example.com", Password: "h/x:@", Security: config.StartTLS},
			" smtp://10.0.0.2\n":                     {Host: "10.0.0.2", Port: 587, Security: config.StartTLS},
			"smtp://10.0.0.1":                        {Host: "10.0.0.1", Port: 587, Security: config.StartTLS},
			"smtp://127.0.0.1.example.com":           {Host: "127.0.0.1.example.com", Port: 587, Security: config.StartTLS},
			"smtp://user:hunter2@localhost:1025":     {Host: "localhost", Port: 1025, User: "user", Password: "hunter2", Security: config.NoTLS},
			"smtp://127.0.0.1:1025":                  {Host: "127.0.0.1", Port: 1025, Security: config.NoTLS},
			"smtp://[::1]:65535":                     {Host: "::1", Port: 65535, Security: config.NoTLS},
			"smtps://[::1]":                          {Host: "::1", Port: 465, Security: config.TLS},
		} {
			got, err := environment(mailVars(map[string]string{"SMTP_URL": value})).Mail(t.Context())
			if err != nil {
				t.Errorf("%s: %v", value, err)
				continue
			}
			if diff := cmp.Diff(&want, got.SMTP); diff != "" {
				t.Errorf("%s (-want +got):\n%s", value, diff)
			}
		}
	})
	t.Run("SMTP of a secret", func(t *testing.T) {
		m := newSecretsManager(t, mailVars(map[string]string{"SMTP_URL": testARN}), secretString("smtp://user:hunter2@smtp.example.com"))
		got, err := m.env().Mail(t.Context())
		if err != nil || got.SMTP == nil || got.SMTP.Password != "hunter2" {
			t.Errorf("Mail = %+v, %v", got, err)
		}
	})
	t.Run("SES", func(t *testing.T) {
		got, err := environment(mailVars(map[string]string{
			"SMTP_URL": "", "AWS_REGION": "eu-west-3", "AWS_ENDPOINT_URL": "http://general",
			"AWS_ACCESS_KEY_ID": testKeyID, "AWS_SECRET_ACCESS_KEY": testKey, "AWS_SESSION_TOKEN": testSessionToken,
		})).Mail(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if got.SMTP != nil || got.SES.Region != "eu-west-3" || got.SES.Endpoint != "http://general" {
			t.Errorf("SES = %+v, SMTP = %+v", got.SES, got.SMTP)
		}
		c, err := got.SES.Credentials()
		if err != nil || c.AccessKeyID != testKeyID || c.SecretAccessKey != testKey || c.SessionToken != testSessionToken {
			t.Errorf("credentials of %s, %v", c.AccessKeyID, err)
		}
	})
	t.Run("From", func(t *testing.T) {
		for value, want := range map[string]mail.Address{
			"no-reply@example.com":               {Address: "no-reply@example.com"},
			"Acme, Inc <no-reply@example.com>":   {},
			`"Acme, Inc" <a+b@mail.example>`:     {Name: "Acme, Inc", Address: "a+b@mail.example"},
			"Grüße <no-reply@example.com>":       {Name: "Grüße", Address: "no-reply@example.com"},
			"=?utf-8?q?Gr=C3=BC?= <a@localhost>": {Name: "Grü", Address: "a@localhost"},
		} {
			got, err := environment(mailVars(map[string]string{"MAIL_FROM": value})).Mail(t.Context())
			if want.Address == "" {
				wantErr(t, err, "MAIL_FROM")
			} else if diff := cmp.Diff(want, got.From); err != nil || diff != "" {
				t.Errorf("%s: %v (-want +got):\n%s", value, err, diff)
			}
		}
	})
	t.Run("AppURL", func(t *testing.T) {
		for _, value := range []string{
			"https://app.example.com", "https://app.example.com:8443/a/b/", "http://localhost:3000", "http://127.0.0.1", "http://127.9.9.9", "http://[::1]:3000/app", "https://10.0.0.1",
		} {
			got, err := environment(mailVars(map[string]string{"APP_URL": value})).Mail(t.Context())
			if err != nil || got.AppURL.String() != value {
				t.Errorf("%s: %v, %v", value, got.AppURL, err)
			}
		}
	})
}

func TestMailErr(t *testing.T) {
	for _, tt := range []struct{ name, variable, value, want string }{
		{"none", "MAIL_FROM", "", "is not set"},
		{"word", "MAIL_FROM", "no-reply", "is not an address"},
		{"two", "MAIL_FROM", "a@example.com, b@example.com", "is not an address"},
		{"header", "MAIL_FROM", "a@example.com\r\nBcc: b@example.com", "is not an address"},
		{"header in the name", "MAIL_FROM", "=?utf-8?q?a=0D=0ABcc:_b?= <a@example.com>", "is not an address"},
		{"letter", "MAIL_FROM", "größe@example.com", "is not an address"},
		{"domain", "MAIL_FROM", "no-reply@größe.example", "is not an address"},
		{"space", "MAIL_FROM", `"a b"@example.com`, "is not an address"},
		{"none", "APP_URL", "", "is not set"},
		{"word", "APP_URL", "app.example.com", "is not a URL"},
		{"relative", "APP_URL", "//app.example.com", "is not a URL"},
		{"path", "APP_URL", "https:///app", "is not a URL"},
		{"scheme", "APP_URL", "javascript://app.example.com", "is not a URL"},
		{"user", "APP_URL", "https://user:hunter2@app.example.com", "is not a URL"},
		{"query", "APP_URL", "https://app.example.com/?", "is not a URL"},
		{"fragment", "APP_URL", "https://app.example.com/#/", "is not a URL"},
		{"control", "APP_URL", "https://app.example.com/\r\n", "is not a URL"},
		{"not encrypted", "APP_URL", "http://app.example.com", "must begin with https://"},
		{"like this machine", "APP_URL", "http://localhost.example.com", "must begin with https://"},
		{"like loopback", "APP_URL", "http://127.0.0.1.example.com", "must begin with https://"},
		{"private", "APP_URL", "http://10.0.0.1", "must begin with https://"},
		{"scheme", "SMTP_URL", "https://user:hunter2@smtp.example.com", "is not like"},
		{"no scheme", "SMTP_URL", "user:hunter2@smtp.example.com:587", "is not like"},
		{"no host", "SMTP_URL", "smtp://user:hunter2@:587", "is not like"},
		{"path", "SMTP_URL", "smtp://user:hunter2@smtp.example.com/x", "is not like"},
		{"slash in the password", "SMTP_URL", "smtp://user:hunter2/x@smtp.example.com", "is not like"},
		{"hash in the password", "SMTP_URL", "smtp://user:hunter2#x@smtp.example.com", "is not like"},
		{"question mark in the password", "SMTP_URL", "smtp://user:hunter2?x@smtp.example.com", "is not like"},
		{"percent in the password", "SMTP_URL", "smtp://user:hunter2%zz@smtp.example.com", "is not like"},
		{"query", "SMTP_URL", "smtp://smtp.example.com?password=hunter2", "is not like"},
		{"line break", "SMTP_URL", "smtp://user:hunter2@smtp.example\n.com", "is not like"},
		{"no password", "SMTP_URL", "smtp://user@smtp.example.com", "must have both"},
		{"empty password", "SMTP_URL", "smtp://user:@smtp.example.com", "must have both"},
		{"no user", "SMTP_URL", "smtp://:hunter2@smtp.example.com", "must have both"},
		{"port 0", "SMTP_URL", "smtp://user:hunter2@smtp.example.com:0", "has a port that is not from 1 to 65535"},
		{"large port", "SMTP_URL", "smtp://user:hunter2@smtp.example.com:65536", "has a port that is not from 1 to 65535"},
		{"named port", "SMTP_URL", "smtp://user:hunter2@smtp.example.com:submission", "is not like"},
	} {
		t.Run(tt.variable+" "+tt.name, func(t *testing.T) {
			_, err := environment(mailVars(map[string]string{tt.variable: tt.value})).Mail(t.Context())
			wantErr(t, err, tt.variable)
			if err != nil && !strings.HasPrefix(err.Error(), tt.variable+": "+tt.want) {
				t.Errorf("error %q, want %s", err, tt.want)
			}
		})
	}
	t.Run("no region", func(t *testing.T) {
		_, err := environment(mailVars(map[string]string{"SMTP_URL": ""})).Mail(t.Context())
		wantErr(t, err, "AWS_REGION")
	})
	t.Run("no secret", func(t *testing.T) {
		m := newSecretsManager(t, mailVars(map[string]string{"SMTP_URL": testARN}), refusal(400, "AccessDeniedException"))
		_, err := m.env().Mail(t.Context())
		wantErr(t, err, "SMTP_URL")
	})
}
