package main

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"orgservice/local/gateway"
	"orgservice/shared/api"
	"orgservice/shared/auth"
	"orgservice/shared/config"
	"orgservice/shared/mongodb"
	"orgservice/shared/org"
)

// export is what a shell needs before a name.
var export = regexp.MustCompile(`^\s*export\s+`)

// comment is a comment after an unquoted value. A # inside a word is part of it.
var comment = regexp.MustCompile(`\s#.*`)

// readEnv returns the variables of a .env file: lines of KEY=VALUE or of export
// KEY=VALUE, where the value may be in quotes, and comments that start with #. It
// takes a value as it is written, without $NAME or escapes, and on one line. A
// file that does not exist has no variables. Errors name the line and never show
// the value. The warnings are about names that are no settings.
func readEnv(path string) (env map[string]string, warnings []string, err error) {
	env = map[string]string{}
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return env, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	text := strings.TrimPrefix(string(data), "\ufeff") // a byte order mark
	number := 0
	for line := range strings.Lines(text) {
		number++
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		name, right, ok := strings.Cut(line, "=")
		name, value := strings.TrimSpace(export.ReplaceAllString(name, "")), strings.TrimSpace(right)
		if !ok || name == "" || strings.ContainsAny(name, " \t\"'") {
			return nil, nil, fmt.Errorf("%s:%d: expected KEY=VALUE", path, number)
		}
		if value != "" && (value[0] == '"' || value[0] == '\'') {
			quoted, rest, closed := strings.Cut(value[1:], value[:1])
			if rest = strings.TrimSpace(rest); !closed || rest != "" && rest[0] != '#' {
				return nil, nil, fmt.Errorf("%s:%d: the quoted value of %s does not end with the line", path, number, name)
			}
			value = quoted
		} else {
			value = strings.TrimSpace(comment.ReplaceAllString(right, ""))
		}
		env[name] = value
		if !isSetting(name) {
			warnings = append(warnings, fmt.Sprintf("%s:%d: %s", path, number, unknownSetting(name)))
		}
	}
	return env, warnings, nil
}

// names are those of all settings: the variables of the functions, and what only
// this program reads.
var names = []string{
	"MONGO_URL", "MASTER_DB", "JWT_SECRET", "JWT_SECRET_PREVIOUS", "JWT_PRIVATE_KEY", "JWT_PUBLIC_KEYS",
	"JWT_AUDIENCE", "INTROSPECTION_SECRET", "JWT_EXPIRES_IN", "REFRESH_EXPIRES_IN", "REFRESH_IDLE_EXPIRES_IN", "BCRYPT_COST", "PASSWORD_MIN_LENGTH", "BREACHED_PASSWORDS_URL", "EMAIL_VERIFICATION", "EDGE_SECRET_SHA256",
	"SIGNUP", "SIGNUPS_PER_HOUR", "MAX_ORGANIZATIONS", "DELETE_GRACE", "MAIL_FROM", "APP_URL", "SMTP_URL", "PORT", "CORS_ORIGINS", "LOG_LEVEL", "DEBUG", "NO_COLOR",
}

// isSetting reports whether a variable of .env has an effect, so far as it is
// known here: functions get some of AWS's, too.
func isSetting(name string) bool {
	return slices.Contains(names, name) || strings.HasPrefix(name, "AWS_") ||
		slices.Contains([]string{"PATH", "HOME", "TMPDIR", "TERM"}, name)
}

func unknownSetting(name string) string {
	if closest := gateway.Closest(name, names); closest != "" {
		return fmt.Sprintf("%s is not a setting: did you mean %s?", name, closest)
	}
	return name + " is not a setting"
}

// port returns the setting PORT, which may be no number.
func (p *project) port() string { return cmp.Or(p.env["PORT"], "3000") }

// levels are the log levels of functions.
var levels = []string{"DEBUG", "INFO", "WARN", "ERROR"}

// logLevel returns the log level of the functions. AWS_LAMBDA_LOG_LEVEL is
// Lambda's own name of LOG_LEVEL, and was the only one here.
func (p *project) logLevel() (string, error) {
	level := p.env["LOG_LEVEL"]
	if level == "" {
		return cmp.Or(p.env["AWS_LAMBDA_LOG_LEVEL"], "WARN"), nil
	}
	if !slices.Contains(levels, strings.ToUpper(level)) {
		return "", fmt.Errorf("LOG_LEVEL is %q: it must be DEBUG, INFO, WARN or ERROR", level)
	}
	return strings.ToUpper(level), nil
}

// origins returns the setting CORS_ORIGINS, unless a parameter of the template says what it
// stands for.
func (p *project) origins() []string {
	if p.parameters["CorsOrigins"] != "" {
		return nil
	}
	origins := strings.Split(cmp.Or(p.env["CORS_ORIGINS"], "*"), ",")
	for i := range origins {
		origins[i] = strings.TrimSpace(origins[i])
	}
	return origins
}

// config returns the settings as a function reads them.
func (p *project) config() config.Env {
	return func(name string) string { return p.env[name] }
}

// settings makes JWT_SECRET unless it is set. Its error names a setting with
// which the functions would not start.
func (p *project) settings(ctx context.Context) error {
	if err := p.secret(); err != nil {
		return err
	}
	for _, name := range []string{"JWT_SECRET_PREVIOUS", "JWT_PRIVATE_KEY", "JWT_PUBLIC_KEYS", "INTROSPECTION_SECRET", "SIGNUPS_PER_HOUR", "DELETE_GRACE"} {
		if _, set := p.env[name]; !set {
			p.env[name] = "" // instead of the value that the template has for the cloud
		}
	}
	env := p.config()
	database, err := env.Database(ctx)
	if err != nil {
		return err
	}
	store, err := mongodb.Open(database.URL, database.Name)
	if err != nil {
		return err
	}
	defer store.Close(ctx)
	tokens, err := env.Tokens(ctx)
	if err != nil {
		return err
	}
	verifier, err := env.Verifier(ctx, true)
	if err != nil {
		return err
	}
	token, err := tokens.Signer.Sign(auth.Caller{AdminID: "x", OrganizationID: "x", SessionID: "x", ExpiresAt: time.Now().Add(time.Hour)}, time.Now())
	if err != nil {
		return err
	}
	if _, err := verifier.Verify(token); err != nil {
		return errors.New("JWT_PUBLIC_KEYS: must hold the public key of JWT_PRIVATE_KEY")
	}
	if _, err = env.IntrospectionSecrets(ctx); err != nil {
		return err
	}
	if err = api.CheckEdge(env("EDGE_SECRET_SHA256")); err != nil {
		return err
	}
	if _, err = env.EmailVerification(); err != nil {
		return err
	}
	if _, err = env.PasswordRules(org.MinPasswordRunes); err != nil {
		return err
	}
	if _, err = env.SignUps(); err != nil {
		return err
	}
	if _, err = env.DeleteGrace(); err != nil {
		return err
	}
	_, err = env.BcryptCost()
	return err
}

// secret sets JWT_SECRET, unless it is set, to the secret in the data folder.
// The first time it makes one.
func (p *project) secret() error {
	if p.env["JWT_SECRET"] != "" {
		return nil
	}
	var err error
	p.env["JWT_SECRET"], err = p.random("jwt_secret")
	return err
}

// random returns the random text in a file of the data folder, which it makes if there is
// none.
func (p *project) random(file string) (string, error) {
	path := filepath.Join(p.data, file)
	kept, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		random := make([]byte, 48)
		rand.Read(random)
		kept = []byte(base64.StdEncoding.EncodeToString(random))
		err = os.WriteFile(path, kept, 0o600)
	}
	return string(bytes.TrimSpace(kept)), err
}
