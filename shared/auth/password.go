package auth

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/crypto/bcrypt"
	"golang.org/x/text/unicode/norm"
)

// bcryptBytes is how many bytes bcrypt reads: a longer password would match all that
// begin with the same 72.
const bcryptBytes = 72

// Passwords hashes and compares passwords with bcrypt, in Unicode's form NFC: one keyboard
// writes é as one character and another one as two. Of a password of more than 72
// bytes it hashes an HMAC, so that every byte counts. The key is public: it only makes
// the HMAC another value than any hash of the password that somebody may have from
// elsewhere, who could log in with it otherwise.
type Passwords struct {
	// Cost is the cost of bcrypt: one more doubles the time that a hash takes.
	Cost int

	// Compare replaces [bcrypt.CompareHashAndPassword] in tests that count its
	// calls. nil means that function.
	Compare func(hash, password []byte) error

	// Took is told how long each use of bcrypt took, if it is not nil. It may be called
	// concurrently.
	Took func(time.Duration)
}

func (p Passwords) took(start time.Time) {
	if p.Took != nil {
		p.Took(time.Since(start))
	}
}

// Hash returns the hash of the password.
func (p Passwords) Hash(password string) (string, error) {
	defer p.took(time.Now())
	hash, err := bcrypt.GenerateFromPassword([]byte(shorten(normalize(password))), p.Cost)
	if err != nil {
		return "", fmt.Errorf("hash password: %w", err)
	}
	return string(hash), nil
}

// normalize returns the form of a password that is hashed.
func normalize(password string) string { return norm.NFC.String(password) }

// Verify reports whether hash is the hash of password. It compares once, or twice if the
// password is not in NFC, since older versions hashed it as it was. An empty hash stands for
// an account that does not exist: the result is false, and takes as long as for
// any other hash. The same holds for a password that bcrypt takes for a shorter one. It
// is an error if the hash is malformed.
func (p Passwords) Verify(hash, password string) (bool, error) {
	normalized := normalize(password)
	ok, err := p.verify(hash, normalized)
	if err == nil && !ok && password != normalized {
		ok, err = p.verify(hash, password)
	}
	return ok, err
}

func (p Passwords) verify(hash, password string) (bool, error) {
	password = shorten(password)
	known := hash != "" && !repeats(password)
	if !known {
		hash = p.dummyHash()
		password = ""
	}
	defer p.took(time.Now())
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

// shorten returns the password, or its HMAC if bcrypt would cut it.
func shorten(password string) string {
	if len(password) <= bcryptBytes {
		return password
	}
	mac := hmac.New(sha256.New, []byte("orgservice: password of more than 72 bytes"))
	mac.Write([]byte(password))
	return base64.StdEncoding.EncodeToString(mac.Sum(nil))
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
