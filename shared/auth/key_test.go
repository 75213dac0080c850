package auth_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"strings"
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
				_, other := keyPair(t, newEd25519(t))
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
				if c, err := v.Verify(s); !errors.Is(err, auth.ErrToken) {
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
			})
		})
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

func TestErrKey(t *testing.T) {
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	rsaPrivate, rsaPublic := keyPair(t, rsaKey)
	p384Private, p384Public := keyPair(t, newECDSA(t, elliptic.P384()))
	private, public := keyPair(t, newEd25519(t))
	cut := append([]byte{}, private...)
	cut = append(cut[:40], cut[48:]...)
	for name, key := range map[string][]byte{
		"empty": nil, "text": []byte("secret"), "RSA": rsaPrivate, "P-384": p384Private, "public": public, "cut": cut,
	} {
		t.Run("private "+name, func(t *testing.T) {
			if _, err := auth.NewPrivateKeySigner(key); err == nil || strings.Contains(err.Error(), string(key)) && len(key) > 0 {
				t.Errorf("error %v", err)
			}
		})
	}
	for name, key := range map[string][]byte{
		"empty": nil, "text": []byte("secret"), "RSA": rsaPublic, "P-384": p384Public, "private": private,
	} {
		t.Run("public "+name, func(t *testing.T) {
			v, _ := auth.NewVerifier()
			if err := v.AddPublicKeys(key); err == nil {
				t.Error("no error")
			}
		})
	}
}

func TestRefreshToken(t *testing.T) {
	token := auth.NewRefreshToken(auth.NewSessionID())
	parsed, ok := auth.ParseRefreshToken(token.Text())
	if !ok || parsed != token || !parsed.Matches(token.Hash()) {
		t.Errorf("ParseRefreshToken(%q) = %v, %v", token.Text(), parsed, ok)
	}
	if other := auth.NewRefreshToken(token.SessionID); other.Text() == token.Text() || other.Matches(token.Hash()) {
		t.Error("two tokens of a session are the same")
	}
	for _, text := range []string{"", "x", token.Text() + "=", token.Text()[1:], token.Text() + "A", " " + token.Text()} {
		if _, ok := auth.ParseRefreshToken(text); ok {
			t.Errorf("%q was taken for a token", text)
		}
	}
}

func TestIsCommon(t *testing.T) {
	for password, want := range map[string]bool{
		"password1": true, "PassWord1": true, "123456789": true, "zxcvbnm1": true,
		"Admin@123": false, "correct horse battery staple": false, "": false, "password1\n": false,
		"password1\npassword": false, "assword1": false,
	} {
		if got := auth.IsCommon(password); got != want {
			t.Errorf("IsCommon(%q) = %v", password, got)
		}
	}
}
