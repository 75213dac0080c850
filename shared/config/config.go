// Package config reads the functions' settings from an environment. Each
// function asks for what it needs and is given nothing else, so that a
// function without a reason to know a secret never holds it.
//
// MONGO_URL and the keys, whose names begin with JWT_, may hold a reference in
// the place of the value: the ARN of a secret of AWS Secrets Manager, which is
// fetched once. As in Amazon ECS the ARN may be followed by the key of a JSON
// object, a version stage and a version id, each of which may be empty:
// arn:aws:secretsmanager:…:secret:name:json-key:version-stage:version-id.
//
// Every error names the variable that is at fault, and holds no secret.
package config

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"golang.org/x/crypto/bcrypt"

	"orgservice/shared/auth"
)

// Env is an environment: it returns the value of a variable, or "" if the
// variable is not set. In a Lambda function it is os.Getenv.
type Env func(name string) string

// Database says where the organizations are kept.
type Database struct {
	URL  string // MONGO_URL
	Name string // MASTER_DB
}

const defaultDatabase = "organization_master"

// The names that MongoDB allows on every platform.
// https://www.mongodb.com/docs/manual/reference/limits/#naming-restrictions
var databaseName = regexp.MustCompile(`^[^/\\. "$*<>:|?\x00]+$`)

const maxDatabaseBytes = 63

// Database reads MONGO_URL and MASTER_DB.
func (env Env) Database(ctx context.Context) (Database, error) {
	url, err := env.required(ctx, "MONGO_URL")
	if err != nil {
		return Database{}, err
	}
	name := env("MASTER_DB")
	if name == "" {
		name = defaultDatabase
	}
	if !databaseName.MatchString(name) || len(name) > maxDatabaseBytes {
		return Database{}, fmt.Errorf("MASTER_DB: %q can't be the name of a database", name)
	}
	return Database{URL: url, Name: name}, nil
}

const (
	defaultTokenTTL   = time.Hour
	defaultSessionTTL = 14 * 24 * time.Hour
	maxTTL            = 365 * 24 * time.Hour
)

// Tokens says how a login signs access tokens and how long what it gives
// lasts.
type Tokens struct {
	Signer     *auth.Signer
	TTL        time.Duration // JWT_EXPIRES_IN: of an access token
	SessionTTL time.Duration // REFRESH_EXPIRES_IN: of a login with all that is refreshed from it
}

// Tokens reads JWT_PRIVATE_KEY, a key in PEM that signs access tokens, or if
// that is not set JWT_SECRET; and the times.
func (env Env) Tokens(ctx context.Context) (Tokens, error) {
	var t Tokens
	private, err := env.resolve(ctx, "JWT_PRIVATE_KEY")
	if err != nil {
		return t, err
	}
	if private != "" {
		if t.Signer, err = auth.NewPrivateKeySigner(unescapePEM(private)); err != nil {
			return t, fmt.Errorf("JWT_PRIVATE_KEY: %w", err)
		}
	} else {
		secret, err := env.required(ctx, "JWT_SECRET")
		if err != nil {
			return t, err
		}
		if t.Signer, err = auth.NewSigner([]byte(secret)); err != nil {
			return t, fmt.Errorf("JWT_SECRET: %w", err)
		}
	}
	if t.TTL, err = env.duration("JWT_EXPIRES_IN", defaultTokenTTL); err != nil {
		return t, err
	}
	t.SessionTTL, err = env.duration("REFRESH_EXPIRES_IN", defaultSessionTTL)
	return t, err
}

// Verifier reads JWT_PUBLIC_KEYS, JWT_SECRET and JWT_SECRET_PREVIOUS, of
// which at least one of the first two must be set. All that are set verify.
// What is not needed for a token of today it leaves out unless all is asked
// for: the previous secret is a second look-up where secrets are references.
func (env Env) Verifier(ctx context.Context, all bool) (*auth.Verifier, error) {
	public, err := env.resolve(ctx, "JWT_PUBLIC_KEYS")
	if err != nil {
		return nil, err
	}
	var secrets [][]byte
	for _, name := range []string{"JWT_SECRET", "JWT_SECRET_PREVIOUS"} {
		if name == "JWT_SECRET_PREVIOUS" && !all && isReference(env(name)) {
			continue
		}
		secret, err := env.resolve(ctx, name)
		if name == "JWT_SECRET_PREVIOUS" && errors.Is(err, errNoSecret) {
			continue // it was never rotated
		}
		if err != nil {
			return nil, err
		}
		if secret == "" {
			if name == "JWT_SECRET" && public == "" {
				return nil, fmt.Errorf("%s: %w", name, errNotSet)
			}
			continue
		}
		// One by one, so that the error names the right variable.
		if _, err := auth.NewVerifier([]byte(secret)); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		secrets = append(secrets, []byte(secret))
	}
	verifier, err := auth.NewVerifier(secrets...)
	if err == nil && public != "" {
		if err := verifier.AddPublicKeys(unescapePEM(public)); err != nil {
			return nil, fmt.Errorf("JWT_PUBLIC_KEYS: %w", err)
		}
	}
	return verifier, err
}

// KeySet reads JWT_PUBLIC_KEYS and returns it as a JSON Web Key Set, which
// is empty if the variable is.
func (env Env) KeySet(ctx context.Context) ([]byte, error) {
	public, err := env.resolve(ctx, "JWT_PUBLIC_KEYS")
	if err != nil {
		return nil, err
	}
	set, err := auth.JWKS(unescapePEM(public))
	if err != nil {
		return nil, fmt.Errorf("JWT_PUBLIC_KEYS: %w", err)
	}
	return set, nil
}

// unescapePEM returns a value in PEM, in which line ends may be written as \n
// so that it fits on one line.
func unescapePEM(value string) []byte { return []byte(strings.ReplaceAll(value, `\n`, "\n")) }

const defaultBcryptCost = 12

// BcryptCost reads BCRYPT_COST.
func (env Env) BcryptCost() (int, error) {
	// At 16 a login takes five seconds of a CPU.
	return env.integer("BCRYPT_COST", defaultBcryptCost, bcrypt.MinCost, 15)
}

var errNotSet = errors.New("is not set")

func (env Env) required(ctx context.Context, name string) (string, error) {
	value, err := env.resolve(ctx, name)
	if err == nil && value == "" {
		return "", fmt.Errorf("%s: %w", name, errNotSet)
	}
	return value, err
}

func (env Env) duration(name string, fallback time.Duration) (time.Duration, error) {
	seconds, err := env.integer(name, int(fallback.Seconds()), 1, int(maxTTL.Seconds()))
	return time.Duration(seconds) * time.Second, err
}

func (env Env) integer(name string, fallback, least, most int) (int, error) {
	s := env(name)
	if s == "" {
		return fallback, nil
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < least || n > most {
		return 0, fmt.Errorf("%s: %q is not a whole number from %d to %d", name, s, least, most)
	}
	return n, nil
}
