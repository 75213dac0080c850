package auth_test

import (
	"crypto/sha256"
	"encoding/base64"
	"strings"
	"testing"

	"golang.org/x/crypto/bcrypt"

	"orgservice/shared/auth"
)

// testCost is the lowest cost of bcrypt.
const testCost = bcrypt.MinCost

// comparisons records the calls of Compare.
type comparisons struct{ hashes, passwords []string }

func (c *comparisons) compare(hash, password []byte) error {
	c.hashes = append(c.hashes, string(hash))
	c.passwords = append(c.passwords, string(password))
	return bcrypt.CompareHashAndPassword(hash, password)
}

func mustHash(t testing.TB, p auth.Passwords, password string) string {
	t.Helper()
	hash, err := p.Hash(password)
	if err != nil {
		t.Fatal(err)
	}
	return hash
}

func TestPasswordsVerify(t *testing.T) {
	p := auth.Passwords{Cost: testCost}
	longest := strings.Repeat("x", 72) // that bcrypt reads
	multibyte := strings.Repeat("é", 36)
	long := strings.Repeat("correct horse ", 9)
	digest := sha256.Sum256([]byte(long))
	for _, tt := range []struct {
		name, hash, password string
		want                 bool
	}{
		{"OK", mustHash(t, p, "Admin@123"), "Admin@123", true},
		{"OK 72 bytes", mustHash(t, p, longest), longest, true},
		{"OK 72 bytes of 36 characters", mustHash(t, p, multibyte), multibyte, true},
		{"OK with a NUL in it", mustHash(t, p, "Admin\x00@123"), "Admin\x00@123", true},
		{"another password", mustHash(t, p, "Admin@123"), "Admin@124", false},
		{"another case", mustHash(t, p, "Admin@123"), "admin@123", false},
		{"another after a NUL", mustHash(t, p, "Admin\x00@123"), "Admin\x00@124", false},
		{"repeated after a NUL", mustHash(t, p, "ab"), "ab\x00ab\x00ab", false},
		{"NULs for nothing", mustHash(t, p, ""), "\x00\x00", false},
		{"nothing", mustHash(t, p, "Admin@123"), "", false},
		{"OK 126 bytes", mustHash(t, p, long), long, true},
		{"126 bytes of which the last is another", mustHash(t, p, long), long[:125] + "x", false},
		{"the beginning of 126 bytes", mustHash(t, p, long), long[:72], false},
		{"126 bytes and a NUL", mustHash(t, p, long), long + "\x00", false},
		{"a hash of the password", mustHash(t, p, long), base64.StdEncoding.EncodeToString(digest[:]), false},
		{"no account and 126 bytes", "", long, false},
		{"73 bytes that begin with the password", mustHash(t, p, longest), longest + "y", false},
		{"many bytes that begin with the password", mustHash(t, p, longest), strings.Repeat(longest, 1000), false},
		{"no account", "", "Admin@123", false},
		{"no account and no password", "", "", false},
		{"no account and 73 bytes", "", longest + "y", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var c comparisons
			p := auth.Passwords{Cost: testCost, Compare: c.compare}
			got, err := p.Verify(tt.hash, tt.password)
			if got != tt.want || err != nil {
				t.Errorf("Verify = %v, %v; want %v", got, err, tt.want)
			}
			c.wantOne(t, testCost)
			if n := len(c.passwords[0]); n > 72 {
				t.Errorf("compared a password of %d bytes", n)
			}
		})
	}
}

// wantOne fails the test unless there was one comparison, with that cost.
func (c *comparisons) wantOne(t *testing.T, cost int) {
	t.Helper()
	if len(c.hashes) != 1 {
		t.Fatalf("%d comparisons, want 1", len(c.hashes))
	}
	if got, err := bcrypt.Cost([]byte(c.hashes[0])); got != cost || err != nil {
		t.Errorf("compared at cost %d, %v; want %d", got, err, cost)
	}
}

func TestPasswordsVerifyOfNobodyCostsAsMuch(t *testing.T) {
	for _, cost := range []int{4, 5, 10, 12} {
		var c comparisons
		p := auth.Passwords{Cost: cost, Compare: func(hash, password []byte) error {
			c.hashes = append(c.hashes, string(hash))
			return bcrypt.ErrMismatchedHashAndPassword
		}}
		if ok, err := p.Verify("", "Admin@123"); ok || err != nil {
			t.Errorf("cost %d: Verify = %v, %v; want false", cost, ok, err)
		}
		c.wantOne(t, cost)
	}
}

// Even if the comparison succeeds, an account that does not exist has no
// password.
func TestPasswordsVerifyOfNobodyIsNeverTrue(t *testing.T) {
	p := auth.Passwords{Cost: testCost, Compare: func(hash, password []byte) error { return nil }}
	for name, args := range map[string][2]string{
		"no account": {"", "Admin@123"},
	} {
		t.Run(name, func(t *testing.T) {
			if ok, err := p.Verify(args[0], args[1]); ok || err != nil {
				t.Errorf("Verify = %v, %v; want false", ok, err)
			}
		})
	}
}

func TestPasswordsVerifyErrHash(t *testing.T) {
	p := auth.Passwords{Cost: testCost}
	hash := mustHash(t, p, "Admin@123")
	for name, hash := range map[string]string{
		"plain text":        "Admin@123",
		"cut off":           hash[:30],
		"cost out of range": "$2a$99" + hash[6:],
		"other algorithm":   "$argon2id" + hash,
	} {
		t.Run(name, func(t *testing.T) {
			ok, err := p.Verify(hash, "Admin@123")
			if ok || err == nil {
				t.Errorf("Verify = %v, %v; want an error", ok, err)
			}
		})
	}
}

func TestPasswordsHash(t *testing.T) {
	p := auth.Passwords{Cost: testCost}

	t.Run("OK", func(t *testing.T) {
		a, b := mustHash(t, p, "Admin@123"), mustHash(t, p, "Admin@123")
		if a == b {
			t.Error("two hashes of one password are the same")
		}
		if strings.Contains(a, "Admin") {
			t.Errorf("hash %q holds the password", a)
		}
		if cost, err := bcrypt.Cost([]byte(a)); cost != testCost || err != nil {
			t.Errorf("cost = %d, %v; want %d", cost, err, testCost)
		}
	})
}

func TestPasswordsOutdated(t *testing.T) {
	hash := mustHash(t, auth.Passwords{Cost: 5}, "Admin@123")
	for _, tt := range []struct {
		name string
		cost int
		hash string
		want bool
	}{
		{"same cost", 5, hash, false},
		{"cost was raised", 6, hash, true},
		{"cost was lowered", 4, hash, true},
		{"no hash", 5, "", false},
		{"unreadable", 5, "plain", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := (auth.Passwords{Cost: tt.cost}).Outdated(tt.hash); got != tt.want {
				t.Errorf("Outdated = %v, want %v", got, tt.want)
			}
		})
	}
}

// Both benchmarks must take the same time.
func BenchmarkVerify(b *testing.B) {
	p := auth.Passwords{Cost: 10}
	for _, bm := range []struct{ name, hash string }{
		{"known", mustHash(b, p, "Admin@123")},
		{"unknown", ""},
	} {
		b.Run(bm.name, func(b *testing.B) {
			for b.Loop() {
				if ok, err := p.Verify(bm.hash, "wrong password"); ok || err != nil {
					b.Fatal(ok, err)
				}
			}
		})
	}
}

// TestPasswordForms checks that a password is the same in each of Unicode's forms, and that a
// hash of another form than NFC, which older versions made, stays good.
func TestPasswordForms(t *testing.T) {
	const composed, decomposed = "p\u00e4ssw\u00f6rter", "pa\u0308sswo\u0308rter"
	p := auth.Passwords{Cost: testCost}
	older, err := bcrypt.GenerateFromPassword([]byte(decomposed), testCost)
	if err != nil {
		t.Fatal(err)
	}
	long := strings.Repeat(decomposed, 5)
	for _, tt := range []struct {
		name, hash, password string
		want                 bool
		comparisons          int
	}{
		{"composed", mustHash(t, p, composed), composed, true, 1},
		{"composed, given decomposed", mustHash(t, p, composed), decomposed, true, 1},
		{"decomposed, given composed", mustHash(t, p, decomposed), composed, true, 1},
		{"more than 72 bytes", mustHash(t, p, long), strings.Repeat(composed, 5), true, 1},
		{"an older hash", string(older), decomposed, true, 2},
		{"an older hash, given composed", string(older), composed, false, 1},
		{"another one", mustHash(t, p, composed), decomposed + "x", false, 2},
		{"compatible", mustHash(t, p, "of\ufb01ce hours"), "office hours", false, 1},
		{"no account", "", decomposed, false, 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var c comparisons
			got, err := auth.Passwords{Cost: testCost, Compare: c.compare}.Verify(tt.hash, tt.password)
			if got != tt.want || err != nil || len(c.hashes) != tt.comparisons {
				t.Errorf("Verify = %v, %v after %d comparisons; want %v after %d", got, err, len(c.hashes), tt.want, tt.comparisons)
			}
		})
	}
}
