// Package config reads the functions' settings from the environment. Each
// function asks for what it needs and is given nothing else, so that a
// function without a reason to know a secret never holds it.
//
// MONGO_URL, JWT_SECRET and JWT_SECRET_PREVIOUS may hold a reference in the
// place of the value: the ARN of a secret of AWS Secrets Manager, which is
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
	"os"
	"regexp"
	"strconv"
	"time"

	"golang.org/x/crypto/bcrypt"

	"orgservice/shared/auth"
)

// Database says where the organizations are kept.
type Database struct {
	URL  string // MONGO_URL
	Name string // MASTER_DB
}

const defaultDatabase = "organization_master"

// The names that MongoDB allows on every platform.
// https://www.mongodb.com/docs/manual/reference/limits/#naming-restrictions
var databaseName = regexp.MustCompile(`^[^/\\. "$*<>:|?\x00]{1,63}$`)

// LoadDatabase reads MONGO_URL and MASTER_DB.
func LoadDatabase(ctx context.Context) (Database, error) {
	url, err := required(ctx, "MONGO_URL")
	if err != nil {
		return Database{}, err
	}
	name := os.Getenv("MASTER_DB")
	if name == "" {
		name = defaultDatabase
	}
	if !databaseName.MatchString(name) {
		return Database{}, fmt.Errorf("MASTER_DB: %q can't be the name of a database", name)
	}
	return Database{URL: url, Name: name}, nil
}

const (
	defaultTokenTTL = time.Hour
	maxTokenTTL     = 30 * 24 * time.Hour
)

// LoadSigner reads JWT_SECRET and JWT_EXPIRES_IN, which is how long a token
// lasts.
func LoadSigner(ctx context.Context) (*auth.Signer, time.Duration, error) {
	secret, err := required(ctx, "JWT_SECRET")
	if err != nil {
		return nil, 0, err
	}
	signer, err := auth.NewSigner([]byte(secret))
	if err != nil {
		return nil, 0, fmt.Errorf("JWT_SECRET: %w", err)
	}
	seconds, err := integer("JWT_EXPIRES_IN", int(defaultTokenTTL.Seconds()), 1, int(maxTokenTTL.Seconds()))
	return signer, time.Duration(seconds) * time.Second, err
}

// LoadVerifier reads JWT_SECRET and JWT_SECRET_PREVIOUS.
func LoadVerifier(ctx context.Context) (*auth.Verifier, error) {
	secret, err := required(ctx, "JWT_SECRET")
	if err != nil {
		return nil, err
	}
	// One by one, so that the error names the right variable.
	verifier, err := auth.NewVerifier([]byte(secret))
	if err != nil {
		return nil, fmt.Errorf("JWT_SECRET: %w", err)
	}
	previous, err := resolve(ctx, "JWT_SECRET_PREVIOUS")
	if err != nil || previous == "" {
		return verifier, err
	}
	verifier, err = auth.NewVerifier([]byte(secret), []byte(previous))
	if err != nil {
		return nil, fmt.Errorf("JWT_SECRET_PREVIOUS: %w", err)
	}
	return verifier, nil
}

const defaultBcryptCost = 12

// LoadBcryptCost reads BCRYPT_COST.
func LoadBcryptCost() (int, error) {
	// At 16 a login takes five seconds of a CPU.
	return integer("BCRYPT_COST", defaultBcryptCost, bcrypt.MinCost, 15)
}

func required(ctx context.Context, name string) (string, error) {
	value, err := resolve(ctx, name)
	if err == nil && value == "" {
		err = errors.New("is not set")
		return "", fmt.Errorf("%s: %w", name, err)
	}
	return value, err
}

func integer(name string, fallback, least, most int) (int, error) {
	s := os.Getenv(name)
	if s == "" {
		return fallback, nil
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < least || n > most {
		return 0, fmt.Errorf("%s: %q is not a whole number from %d to %d", name, s, least, most)
	}
	return n, nil
}
