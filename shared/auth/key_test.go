package auth_test

import (
	"bytes"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"orgservice/shared/auth"
)

// keyPair returns a private and a public key in PEM.
func keyPair(t *testing.T, key crypto.Signer) (private, public []byte) {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	private = pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	if der, err = x509.MarshalPKIXPublicKey(key.Public()); err != nil {
		t.Fatal(err)
	}
	return private, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

func newEd25519(t *testing.T) crypto.Signer {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// newRSA always returns the same key, because it takes long to make one.
var newRSA = sync.OnceValue(func() *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return key
})

func newECDSA(t *testing.T, curve elliptic.Curve) crypto.Signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func someCaller() auth.Caller {
	return auth.Caller{AdminID: "a", OrganizationID: "o", TokenVersion: 2, SessionID: "s",
		ExpiresAt: time.Now().Add(time.Hour).Truncate(time.Second)}
}

func TestAsymmetric(t *testing.T) {
	for name, key := range map[string]crypto.Signer{"EdDSA": newEd25519(t), "ES256": newECDSA(t, elliptic.P256())} {
		t.Run(name, func(t *testing.T) {
			private, public := keyPair(t, key)
			signer, err := auth.NewPrivateKeySigner(private)
			if err != nil {
				t.Fatal(err)
			}
			token, err := signer.Sign(someCaller(), time.Now())
			if err != nil {
				t.Fatal(err)
			}

			t.Run("OK", func(t *testing.T) {
				v, _ := auth.NewVerifier()
				if err := v.AddPublicKeys(public); err != nil {
					t.Fatal(err)
				}
				if c, err := v.Verify(token); err != nil || c.AdminID != "a" || c.SessionID != "s" {
					t.Errorf("Verify = %v, %v", c, err)
				}
			})
			t.Run("OK with another key and a secret at once", func(t *testing.T) {
				otherPrivate, other := keyPair(t, newEd25519(t))
				otherSigner, err := auth.NewPrivateKeySigner(otherPrivate)
				if err != nil {
					t.Fatal(err)
				}
				otherToken := mustSign(t, otherSigner, someCaller())
				secret := []byte(strings.Repeat("x", auth.MinSecretBytes))
				v, err := auth.NewVerifier(secret)
				if err != nil {
					t.Fatal(err)
				}
				if err := v.AddPublicKeys(append(other, public...)); err != nil {
					t.Fatal(err)
				}
				if _, err := v.Verify(token); err != nil {
					t.Error(err)
				}
				if _, err := v.Verify(otherToken); err != nil {
					t.Error(err)
				}
				old, err := auth.NewSigner(secret)
				if err != nil {
					t.Fatal(err)
				}
				oldToken, err := old.Sign(someCaller(), time.Now())
				if err != nil {
					t.Fatal(err)
				}
				if _, err := v.Verify(oldToken); err != nil {
					t.Error(err)
				}
			})
			t.Run("ErrUnknownKey", func(t *testing.T) {
				_, other := keyPair(t, newEd25519(t))
				v, _ := auth.NewVerifier()
				if err := v.AddPublicKeys(other); err != nil {
					t.Fatal(err)
				}
				if _, err := v.Verify(token); !errors.Is(err, auth.ErrUnknownKey) || !errors.Is(err, auth.ErrToken) {
					t.Error(err)
				}
			})
			t.Run("ErrToken when the public key is taken for a secret", func(t *testing.T) {
				v, _ := auth.NewVerifier()
				if err := v.AddPublicKeys(public); err != nil {
					t.Fatal(err)
				}
				parsed, _, err := jwt.NewParser().ParseUnverified(token, jwt.MapClaims{})
				if err != nil {
					t.Fatal(err)
				}
				forged := jwt.NewWithClaims(jwt.SigningMethodHS256, parsed.Claims)
				forged.Header["typ"], forged.Header["kid"] = parsed.Header["typ"], parsed.Header["kid"]
				s, err := forged.SignedString(public)
				if err != nil {
					t.Fatal(err)
				}
				// The library would refuse the type of the key, too, but only by luck.
				if c, err := v.Verify(s); !errors.Is(err, auth.ErrToken) || !strings.Contains(err.Error(), "not the algorithm of the key") {
					t.Errorf("Verify = %v, %v", c, err)
				}
			})
			t.Run("JWKS", func(t *testing.T) {
				data, err := auth.JWKS(public)
				if err != nil {
					t.Fatal(err)
				}
				var set struct{ Keys []map[string]string }
				if err := json.Unmarshal(data, &set); err != nil || len(set.Keys) != 1 {
					t.Fatalf("%s, %v", data, err)
				}
				parsed, _, err := jwt.NewParser().ParseUnverified(token, jwt.MapClaims{})
				if err != nil {
					t.Fatal(err)
				}
				if set.Keys[0]["kid"] != parsed.Header["kid"] || set.Keys[0]["alg"] != name || set.Keys[0]["d"] != "" {
					t.Errorf("%s does not fit the token's header %v", data, parsed.Header)
				}
				wantJWK(t, set.Keys[0], key.Public())
			})
		})
	}
}

// wantJWK fails the test unless the JWK is the key and its id is the thumbprint:
// the hash of the required members in the order of their names (RFC 7638).
func wantJWK(t *testing.T, jwk map[string]string, want crypto.PublicKey) {
	t.Helper()
	members := map[string]string{"kty": jwk["kty"], "crv": jwk["crv"], "x": jwk["x"]}
	x, err1 := base64.RawURLEncoding.DecodeString(jwk["x"])
	y, err2 := base64.RawURLEncoding.DecodeString(jwk["y"])
	if err1 != nil || err2 != nil {
		t.Fatal(jwk, err1, err2)
	}
	switch want := want.(type) {
	case ed25519.PublicKey:
		if jwk["kty"] != "OKP" || jwk["crv"] != "Ed25519" || !want.Equal(ed25519.PublicKey(x)) || len(y) > 0 {
			t.Errorf("%v is not %x", jwk, want)
		}
	case *ecdsa.PublicKey:
		members["y"] = jwk["y"]
		got, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), slices.Concat([]byte{4}, x, y))
		if jwk["kty"] != "EC" || jwk["crv"] != "P-256" || err != nil || !want.Equal(got) {
			t.Errorf("%v is not %v: %v", jwk, want, err)
		}
	}
	canonical, err := json.Marshal(members)
	if err != nil {
		t.Fatal(err)
	}
	if sum := sha256.Sum256(canonical); jwk["kid"] != base64.RawURLEncoding.EncodeToString(sum[:]) {
		t.Errorf("kid = %s is not the thumbprint of %s", jwk["kid"], canonical)
	}
}

// TestThumbprint is the example of RFC 8037, appendix A.3.
func TestThumbprint(t *testing.T) {
	const public = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=\n-----END PUBLIC KEY-----\n"
	data, err := auth.JWKS([]byte(public))
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",` +
		`"kid":"kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k","alg":"EdDSA","use":"sig"}]}`
	if string(data) != want {
		t.Errorf("got  %s\nwant %s", data, want)
	}
}

// TestPrivateKeySEC1 is the form that openssl writes by default.
func TestPrivateKeySEC1(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := auth.NewPrivateKeySigner(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}))
	if err != nil {
		t.Fatal(err)
	}
	v := newVerifier(t)
	_, public := keyPair(t, key)
	if err := v.AddPublicKeys(public); err != nil {
		t.Fatal(err)
	}
	if _, err := v.Verify(mustSign(t, signer, someCaller())); err != nil {
		t.Error(err)
	}
}

func TestJWKSOfNoKeys(t *testing.T) {
	if data, err := auth.JWKS(nil); err != nil || string(data) != `{"keys":[]}` {
		t.Errorf("JWKS = %s, %v", data, err)
	}
}

func TestErrKey(t *testing.T) {
	rsaPrivate, rsaPublic := keyPair(t, newRSA())
	p384Private, p384Public := keyPair(t, newECDSA(t, elliptic.P384()))
	private, public := keyPair(t, newEd25519(t))
	// A key that can't sign.
	x25519, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(x25519)
	if err != nil {
		t.Fatal(err)
	}
	cut := append([]byte{}, private...)
	cut = append(cut[:40], cut[48:]...)
	for name, key := range map[string][]byte{
		"empty": nil, "text": []byte("secret"), "RSA": rsaPrivate, "P-384": p384Private, "public": public, "cut": cut,
		"X25519": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}),
	} {
		t.Run("private "+name, func(t *testing.T) {
			if _, err := auth.NewPrivateKeySigner(key); err == nil || strings.Contains(err.Error(), string(key)) && len(key) > 0 {
				t.Errorf("error %v", err)
			}
		})
	}
	for name, key := range map[string][]byte{
		"empty": nil, "one byte": []byte("x"), "text": []byte("secret"), "RSA": rsaPublic, "P-384": p384Public, "private": private,
		"of another type": bytes.ReplaceAll(public, []byte("PUBLIC KEY"), []byte("PRIVATE KEY")),
		"unreadable":      pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: []byte("secret")}),
		"good and text":   append(bytes.Clone(public), pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY"})...),
	} {
		t.Run("public "+name, func(t *testing.T) {
			v, _ := auth.NewVerifier()
			if err := v.AddPublicKeys(key); err == nil {
				t.Error("no error")
			}
			if data, err := auth.JWKS(key); len(key) > 0 && err == nil {
				t.Errorf("JWKS = %s", data)
			}
		})
	}
}

func TestOpaqueToken(t *testing.T) {
	token := auth.NewOpaqueToken(auth.NewOpaqueID())
	parsed, ok := auth.ParseOpaqueToken(token.Text())
	if !ok || parsed != token || !parsed.Matches(token.Hash()) {
		t.Errorf("ParseOpaqueToken(%q) = %v, %v", token.Text(), parsed, ok)
	}
	if other := auth.NewOpaqueToken(token.ID); other.Text() == token.Text() || other.Matches(token.Hash()) {
		t.Error("two tokens of a session are the same")
	}
	raw := rawOpaqueToken(t, token)
	encode := base64.RawURLEncoding.EncodeToString
	for _, text := range []string{
		"", "x", token.Text() + "=", token.Text()[1:], token.Text() + "A", " " + token.Text(),
		token.Text() + "\n", token.Text()[:60] + "\r\n\r\n", "!" + token.Text()[1:],
		encode(raw[:47]), encode(raw[:16]), encode(append(raw, 0)), encode(append(raw, raw...)),
		hex.EncodeToString(raw),
	} {
		if _, ok := auth.ParseOpaqueToken(text); ok {
			t.Errorf("%q was taken for a token", text)
		}
	}

	sum := sha256.Sum256(raw[16:])
	hash := hex.EncodeToString(sum[:])
	if token.Hash() != hash {
		t.Errorf("Hash = %s, want the SHA-256 of the whole secret, %s", token.Hash(), hash)
	}
	for _, other := range []string{"", hash[:32], hash[:62], hash + "00", "0" + hash, strings.ToUpper(hash) + "x",
		hash[:63] + string(hash[63]^1), string(hash[0]^1) + hash[1:], encode(raw[16:]), token.Text()} {
		if token.Matches(other) {
			t.Errorf("the token matches %q", other)
		}
	}
}

// rawOpaqueToken returns the bytes of a token: 16 of the session, 32 of the
// secret.
func rawOpaqueToken(t *testing.T, token auth.OpaqueToken) []byte {
	t.Helper()
	raw, err := base64.RawURLEncoding.DecodeString(token.Text())
	if err != nil || len(raw) != 16+32 {
		t.Fatalf("%q has %d bytes, %v; want 48", token.Text(), len(raw), err)
	}
	return raw
}

// TestEntropy looks for bits that are always the same: all bits of a session
// id and 256 bits of a refresh token must be random.
func TestEntropy(t *testing.T) {
	session := auth.NewOpaqueID()
	for _, tt := range []struct {
		name string
		want int // bytes
		draw func() []byte
	}{
		{"session ids", 20, func() []byte {
			id, err := hex.DecodeString(auth.NewOpaqueToken(auth.NewOpaqueID()).SessionID())
			if err != nil {
				t.Fatal(err)
			}
			return id
		}},
		{"ids in refresh tokens", 16, func() []byte { return rawOpaqueToken(t, auth.NewOpaqueToken(auth.NewOpaqueID()))[:16] }},
		{"opaque tokens", 32, func() []byte { return rawOpaqueToken(t, auth.NewOpaqueToken(session))[16:] }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			const draws = 100 // random ones all have the same bit once in 2^99
			ones := make([]int, 8*tt.want)
			for range draws {
				b := tt.draw()
				if len(b) != tt.want {
					t.Fatalf("%d bytes, want %d", len(b), tt.want)
				}
				for i := range ones {
					ones[i] += int(b[i/8] >> (i % 8) & 1)
				}
			}
			for i, n := range ones {
				if n == 0 || n == draws {
					t.Errorf("bit %d of byte %d is always the same", i%8, i/8)
				}
			}
		})
	}
}

func TestIsCommon(t *testing.T) {
	for password, want := range map[string]bool{
		"password1": true, "PassWord1": true, "123456789": true, "zxcvbnm1": true,
		"Admin@123": false, "correct horse battery staple": false, "": false, "password1\n": false,
		"password1\npassword": false, "assword1": false,
		// The first and the last of the list, and two neighbours in it.
		"!qaz1qaz": true, "пїѕпїѕпїѕпїѕпїѕпїѕпїѕпїѕпїѕ": true, "!qaz1qaz\n!qaz2wsx": false,
	} {
		if got := auth.IsCommon(password); got != want {
			t.Errorf("IsCommon(%q) = %v", password, got)
		}
	}
	list, err := os.ReadFile("common_passwords.txt")
	if err != nil {
		t.Fatal(err)
	}
	common := strings.Split(strings.TrimSuffix(string(list), "\n"), "\n")
	for _, password := range common {
		if !auth.IsCommon(password) {
			t.Errorf("%q is in the list, but not common", password)
		}
		if longer := password + "\x00"; auth.IsCommon(longer) {
			t.Errorf("%q is common, but not in the list", longer)
		}
	}
}
