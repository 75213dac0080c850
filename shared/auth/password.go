package auth

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/crypto/bcrypt"
)

// MaxPasswordBytes is the maximum length of a password. bcrypt reads no more
// bytes: a longer password would match all that begin with the same 72.
const MaxPasswordBytes = 72

// Passwords hashes and compares passwords with bcrypt.
type Passwords struct {
	// Cost is the cost of bcrypt: one more doubles the time that a hash takes.
	Cost int

	// Compare replaces [bcrypt.CompareHashAndPassword] in tests that count its
	// calls. nil means that function.
	Compare func(hash, password []byte) error
}

// Hash returns the hash of the password. It is an error if the password is
// longer than MaxPasswordBytes.
func (p Passwords) Hash(password string) (string, error) {
	hash, err := bcrypt.GenerateFromPassword([]byte(password), p.Cost)
	if err != nil {
		return "", fmt.Errorf("hash password: %w", err)
	}
	return string(hash), nil
}

// Verify reports whether hash is the hash of password. An empty hash stands for
// an account that does not exist: the result is false, and takes as long as for
// any other hash. The same holds for a password that is longer than MaxPasswordBytes, and
// for one that bcrypt takes for a shorter one. It is an error if the hash is malformed.
func (p Passwords) Verify(hash, password string) (bool, error) {
	known := hash != "" && len(password) <= MaxPasswordBytes && !repeats(password)
	if !known {
		hash = p.dummyHash()
		password = ""
	}
	compare := p.Compare
	if compare == nil {
		compare = bcrypt.CompareHashAndPassword
	}
	err := compare([]byte(hash), []byte(password))
	if errors.Is(err, bcrypt.ErrMismatchedHashAndPassword) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("compare password: %w", err)
	}
	return known, nil
}

// repeats reports whether bcrypt takes the password for a shorter one. It appends a NUL and
// repeats the result as often as it needs, so that ab and ab, NUL, ab are the same.
func repeats(password string) bool {
	s := password + "\x00"
	return strings.Index((s + s)[1:], s) < len(s)-1
}

// Outdated reports whether hash has another cost than p.Cost.
func (p Passwords) Outdated(hash string) bool {
	cost, err := bcrypt.Cost([]byte(hash))
	return err == nil && cost != p.Cost
}

// dummyHash returns a well-formed hash with p.Cost. Nobody knows a password for
// it: its salt and checksum are arbitrary.
func (p Passwords) dummyHash() string {
	return fmt.Sprintf("$2a$%02d$%s", p.Cost, "TnkTMDHIdC3VD71sKT4oQeYVDzMTsQx4FGQ3UYZJ5tyWkqfpN1Y3m")
}
