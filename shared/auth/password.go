package auth

import (
	"errors"
	"fmt"

	"golang.org/x/crypto/bcrypt"
)

// MaxPasswordBytes is the length of the longest password: bcrypt reads no
// more, and a longer one would match whatever begins with the same bytes.
const MaxPasswordBytes = 72

// Passwords hashes and compares passwords with bcrypt.
type Passwords struct {
	// Cost is the base-2 logarithm of the work that a hash takes.
	Cost int

	// Compare stands in for [bcrypt.CompareHashAndPassword] where a test
	// counts its calls; nil means that function.
	Compare func(hash, password []byte) error
}

// Hash returns the hash of a password of at most MaxPasswordBytes.
func (p Passwords) Hash(password string) (string, error) {
	hash, err := bcrypt.GenerateFromPassword([]byte(password), p.Cost)
	if err != nil {
		return "", fmt.Errorf("hash password: %w", err)
	}
	return string(hash), nil
}

// Verify reports whether hash is the hash of password. An empty hash, which
// stands for an account that does not exist, is no password's hash, and takes
// as long as any other to say so. A password too long to be anybody's is
// compared at the same price. The error tells of a hash that can't be read.
func (p Passwords) Verify(hash, password string) (bool, error) {
	known := hash != "" && len(password) <= MaxPasswordBytes
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

// Outdated reports whether hash was made at another cost than p's.
func (p Passwords) Outdated(hash string) bool {
	cost, err := bcrypt.Cost([]byte(hash))
	return err == nil && cost != p.Cost
}

// dummyHash returns a well-formed hash at p's cost that nobody knows a
// password for. Nothing needs to be computed for it: salt and sum are
// arbitrary digits of bcrypt's base 64.
func (p Passwords) dummyHash() string {
	return fmt.Sprintf("$2a$%02d$%s", p.Cost, "TnkTMDHIdC3VD71sKT4oQeYVDzMTsQx4FGQ3UYZJ5tyWkqfpN1Y3m")
}
