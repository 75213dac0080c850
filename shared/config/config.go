// Package config reads the functions' settings from an environment. Each
// function reads only the settings that it needs, so that it never holds a
// secret without a reason.
//
// MONGO_URL, JWT_SECRET, JWT_SECRET_PREVIOUS, JWT_PRIVATE_KEY, JWT_PUBLIC_KEYS,
// INTROSPECTION_SECRET and SMTP_URL may hold a reference instead of the value: the ARN of a secret in AWS
// Secrets Manager, from where the value is then fetched. As in Amazon ECS, the key
// of a JSON object, a version stage and a version id may follow the ARN, and each
// may be empty:
// arn:aws:secretsmanager:…:secret:name:json-key:version-stage:version-id.
//
// Every error begins with the name of the variable and holds no secret.
package config

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/crypto/bcrypt"

	"orgservice/shared/auth"
)

// Env is an environment: it returns the value of a variable, or "" if the
// variable is not set. In a Lambda function it is os.Getenv.
type Env func(name string) string

// Database says where the organizations are stored.
type Database struct {
	URL  string // MONGO_URL
	Name string // MASTER_DB
}

const defaultDatabase = "organization_master"

// notInDatabaseNames are the characters that MongoDB does not allow on every platform.
// https://www.mongodb.com/docs/manual/reference/limits/#naming-restrictions
const notInDatabaseNames = "/\\. \"$*<>:|?\x00"

const maxDatabaseBytes = 63

// Database reads MONGO_URL, which may have white space around it, as from a file, and MASTER_DB.
func (env Env) Database(ctx context.Context) (Database, error) {
	mongoURL, err := env.required(ctx, "MONGO_URL")
	if err != nil {
		return Database{}, err
	}
	name := env("MASTER_DB")
	if name == "" {
		name = defaultDatabase
	}
	if strings.ContainsAny(name, notInDatabaseNames) || len(name) > maxDatabaseBytes {
		return Database{}, fmt.Errorf("MASTER_DB: %q is not a valid database name", name)
	}
	return Database{URL: strings.TrimSpace(mongoURL), Name: name}, nil
}

const (
	defaultTokenTTL   = time.Hour
	defaultSessionTTL = 14 * 24 * time.Hour
	maxTTL            = 365 * 24 * time.Hour
)

// Tokens says how access tokens are signed and how long they and logins last.
type Tokens struct {
	Signer     *auth.Signer
	TTL        time.Duration // JWT_EXPIRES_IN: of an access token
	SessionTTL time.Duration // REFRESH_EXPIRES_IN: of a login, however often it is refreshed
	Idle       time.Duration // REFRESH_IDLE_EXPIRES_IN: of a login that is not refreshed; 0: as SessionTTL
}

// Tokens reads JWT_PRIVATE_KEY, which is PEM, or JWT_SECRET if the former is not
// set, JWT_AUDIENCE, and JWT_EXPIRES_IN, REFRESH_EXPIRES_IN and REFRESH_IDLE_EXPIRES_IN, in
// seconds.
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
	if t.Signer.Audiences, err = parseAudiences(env("JWT_AUDIENCE")); err != nil {
		return t, fmt.Errorf("JWT_AUDIENCE: %w", err)
	}
	if t.TTL, err = env.duration("JWT_EXPIRES_IN", defaultTokenTTL); err != nil {
		return t, err
	}
	if t.SessionTTL, err = env.duration("REFRESH_EXPIRES_IN", defaultSessionTTL); err != nil {
		return t, err
	}
	t.Idle, err = env.SessionIdle()
	return t, err
}

// SessionIdle reads REFRESH_IDLE_EXPIRES_IN, in seconds: how long a login lasts that is not
// refreshed; 0 is no shorter time.
func (env Env) SessionIdle() (time.Duration, error) {
	seconds, err := env.integer("REFRESH_IDLE_EXPIRES_IN", 0, 0, int(maxTTL.Seconds()))
	return time.Duration(seconds) * time.Second, err
}

const maxAudiences = 10

// parseAudiences returns the audiences in a text that has white space between them.
func parseAudiences(s string) ([]string, error) {
	audiences := strings.Fields(s)
	for i, a := range audiences {
		if len(audiences) > maxAudiences || len(a) > 200 || a == auth.Audience || slices.Contains(audiences[:i], a) || strings.ContainsFunc(a, func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune(`"\<>&`, r) }) {
			return nil, fmt.Errorf(`must be at most %d different texts in ASCII with spaces between them, of at most 200 characters each, without any of "\<>&, and without %s`, maxAudiences, auth.Audience)
		}
	}
	return audiences, nil
}

// Verifier reads JWT_PUBLIC_KEYS, JWT_SECRET and JWT_SECRET_PREVIOUS and returns
// a verifier with those that are set. One of the first two must be set. Unless
// all is true, the previous secret is left out if it is a reference: to fetch it
// takes time, and only old tokens need it.
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

// IntrospectionSecrets reads INTROSPECTION_SECRET and returns the secrets in it, which have
// white space between them: any of them lets another service ask about access tokens. Without
// the variable there are none.
func (env Env) IntrospectionSecrets(ctx context.Context) ([]string, error) {
	value, err := env.resolve(ctx, "INTROSPECTION_SECRET")
	if err != nil {
		return nil, err
	}
	secrets := strings.Fields(value)
	if strings.HasPrefix(strings.TrimSpace(value), "{") {
		return nil, errors.New("INTROSPECTION_SECRET: is a JSON object: the ARN can have the key of a value, after a colon")
	}
	for _, secret := range secrets {
		if len(secret) < auth.MinSecretBytes {
			return nil, fmt.Errorf("INTROSPECTION_SECRET: each secret must have at least %d bytes", auth.MinSecretBytes)
		}
	}
	return secrets, nil
}

// KeySet reads JWT_PUBLIC_KEYS and returns a JSON Web Key Set, which is empty if
// the variable is not set.
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

// unescapePEM turns every \n in a value into a line break, so that PEM may be
// written on one line.
func unescapePEM(value string) []byte { return []byte(strings.ReplaceAll(value, `\n`, "\n")) }

const defaultBcryptCost = 12

// BcryptCost reads BCRYPT_COST, from 4 to 15.
func (env Env) BcryptCost() (int, error) {
	// With a cost of 16, a login takes five seconds of CPU time.
	return env.integer("BCRYPT_COST", defaultBcryptCost, bcrypt.MinCost, 15)
}

// EmailVerification reads EMAIL_VERIFICATION: whether admins must verify their emails
// before they may do anything else.
func (env Env) EmailVerification() (required bool, err error) {
	switch s := env("EMAIL_VERIFICATION"); s {
	case "", "optional":
		return false, nil
	case "required":
		return true, nil
	default:
		return false, fmt.Errorf("EMAIL_VERIFICATION: %q is neither optional nor required", s)
	}
}

// SignUps says who may sign up an organization.
type SignUps struct {
	Closed            bool // SIGNUP: nobody may
	Verified          bool // SIGNUP: only whoever gets the mails to the email
	PerHour           int  // SIGNUPS_PER_HOUR: how many each client and each admin may; 0: any number
	MostOrganizations int  // MAX_ORGANIZATIONS: how many there may be; 0: any number
}

// SignUps reads SIGNUP, which is open, verified or closed, SIGNUPS_PER_HOUR and MAX_ORGANIZATIONS.
func (env Env) SignUps() (SignUps, error) {
	var s SignUps
	switch value := env("SIGNUP"); value {
	case "", "open":
	case "verified":
		s.Verified = true
	case "closed":
		s.Closed = true
	default:
		return s, fmt.Errorf("SIGNUP: %q is not open, verified or closed", value)
	}
	var err error
	if s.PerHour, err = env.integer("SIGNUPS_PER_HOUR", 0, 0, 1_000_000); err != nil {
		return s, err
	}
	s.MostOrganizations, err = env.integer("MAX_ORGANIZATIONS", 0, 0, 1_000_000_000)
	return s, err
}

// DeleteGrace reads DELETE_GRACE, in hours: how long a deleted organization can be restored. By
// default, and with 0, it is deleted at once.
func (env Env) DeleteGrace() (time.Duration, error) {
	hours, err := env.integer("DELETE_GRACE", 0, 0, 24*366)
	return time.Duration(hours) * time.Hour, err
}

// PasswordRules are the rules for new passwords, besides those that always hold.
type PasswordRules struct {
	MinLength int    // PASSWORD_MIN_LENGTH, in characters
	Breaches  string // BREACHED_PASSWORDS_URL: of a corpus, see package breach; empty: none
}

// maxMinLength is the length that every service should permit (NIST SP 800-63B-4, 3.1.1.2).
const maxMinLength = 64

// PasswordRules reads PASSWORD_MIN_LENGTH, from least to 64 and by default least, and
// BREACHED_PASSWORDS_URL, which must be https unless it is on this machine.
func (env Env) PasswordRules(least int) (PasswordRules, error) {
	var r PasswordRules
	var err error
	if r.MinLength, err = env.integer("PASSWORD_MIN_LENGTH", least, least, maxMinLength); err != nil {
		return r, err
	}
	r.Breaches = env("BREACHED_PASSWORDS_URL")
	if r.Breaches == "" {
		return r, nil
	}
	if _, err := parseAppURL(r.Breaches); err != nil || !strings.HasSuffix(r.Breaches, "/") {
		return r, fmt.Errorf("BREACHED_PASSWORDS_URL: %q is no https URL that ends with /, such as https://api.pwnedpasswords.com/range/", r.Breaches)
	}
	return r, nil
}

var errNotSet = errors.New("is not set")

// required does what resolve does, but it is an error if the value is empty.
func (env Env) required(ctx context.Context, name string) (string, error) {
	value, err := env.resolve(ctx, name)
	if err == nil && value == "" {
		return "", fmt.Errorf("%s: %w", name, errNotSet)
	}
	return value, err
}

// duration returns the value of a variable that is in seconds.
func (env Env) duration(name string, fallback time.Duration) (time.Duration, error) {
	seconds, err := env.integer(name, int(fallback.Seconds()), 1, int(maxTTL.Seconds()))
	return time.Duration(seconds) * time.Second, err
}

// integer returns the value of the variable, from least to most, or fallback if
// the variable is not set.
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
