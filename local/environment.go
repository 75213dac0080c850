package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"orgservice/shared/auth"
	"orgservice/shared/config"
	"orgservice/shared/mongodb"
)

// comment is a comment after an unquoted value. A # inside a word is part of it.
var comment = regexp.MustCompile(`\s#.*`)

// readEnv returns the variables of a .env file: lines of KEY=VALUE, where the
// value may be in quotes, and comments that start with #. It takes a value as
// it is written, without $NAME or escapes, and on one line. A file that does
// not exist has no variables. Errors name the line and never show the value.
//
// It is not github.com/joho/godotenv: the errors of that package print the rest
// of the file, with its secrets, and it removes $WORD from a password.
func readEnv(path string) (map[string]string, error) {
	env := map[string]string{}
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return env, nil
	}
	if err != nil {
		return nil, err
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
		name, value := strings.TrimSpace(name), strings.TrimSpace(right)
		if !ok || name == "" || strings.ContainsAny(name, " \t\"'") {
			return nil, fmt.Errorf("%s:%d: expected KEY=VALUE", path, number)
		}
		if value != "" && (value[0] == '"' || value[0] == '\'') {
			quoted, rest, closed := strings.Cut(value[1:], value[:1])
			if rest = strings.TrimSpace(rest); !closed || rest != "" && rest[0] != '#' {
				return nil, fmt.Errorf("%s:%d: the quoted value of %s does not end with the line", path, number, name)
			}
			value = quoted
		} else {
			value = strings.TrimSpace(comment.ReplaceAllString(right, ""))
		}
		env[name] = value
	}
	return env, nil
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
	for _, name := range []string{"JWT_SECRET_PREVIOUS", "JWT_PRIVATE_KEY", "JWT_PUBLIC_KEYS"} {
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
	_, err = env.BcryptCost()
	return err
}

// secret sets JWT_SECRET, unless it is set, to the secret in the data folder.
// The first time it makes one.
func (p *project) secret() error {
	if p.env["JWT_SECRET"] != "" {
		return nil
	}
	path := filepath.Join(p.data, "jwt_secret")
	kept, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		random := make([]byte, 48)
		rand.Read(random)
		kept = []byte(base64.StdEncoding.EncodeToString(random))
		err = os.WriteFile(path, kept, 0o600)
	}
	p.env["JWT_SECRET"] = string(bytes.TrimSpace(kept))
	return err
}
