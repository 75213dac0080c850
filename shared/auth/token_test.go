package auth_test

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/go-cmp/cmp"

	"orgservice/shared/auth"
)

var (
	testSecret  = []byte("0123456789abcdef0123456789abcdef")
	otherSecret = []byte("fedcba9876543210fedcba9876543210")
)

func newCaller() auth.Caller {
	return auth.Caller{
		AdminID:        "65f0c0ffee65f0c0ffee0001",
		OrganizationID: "65f0c0ffee65f0c0ffee0002",
		Role:           "admin",
		TokenVersion:   3,
		SessionID:      "session-of-the-login",
		ExpiresAt:      time.Now().Add(time.Hour).Truncate(time.Second),
	}
}

func newSigner(t testing.TB, secret []byte) *auth.Signer {
	t.Helper()
	s, err := auth.NewSigner(secret)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func newVerifier(t testing.TB, secrets ...[]byte) *auth.Verifier {
	t.Helper()
	v, err := auth.NewVerifier(secrets...)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func mustSign(t testing.TB, s *auth.Signer, c auth.Caller) string {
	t.Helper()
	token, err := s.Sign(c, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func wantErrToken(t *testing.T, v *auth.Verifier, token string) {
	t.Helper()
	c, err := v.Verify(token)
	if !errors.Is(err, auth.ErrToken) {
		t.Errorf("Verify = %+v, %v; want ErrToken", c, err)
	}
	if c != (auth.Caller{}) {
		t.Errorf("Verify = %+v beside an error", c)
	}
}

func TestToken(t *testing.T) {
	want := newCaller()
	want.EmailVerified, want.Audience = true, auth.Audience
	token := mustSign(t, newSigner(t, testSecret), want)
	got, err := newVerifier(t, testSecret).Verify(token)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("caller (-want +got):\n%s", diff)
	}
}

// Anybody who has a token can read what is in it.
func TestTokenHoldsNothingElse(t *testing.T) {
	now := time.Now()
	c := newCaller()
	c.EmailVerified = true
	token, err := newSigner(t, testSecret).Sign(c, now)
	if err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(token, ".")
	var header, payload map[string]any
	decodePart(t, parts[0], &header)
	decodePart(t, parts[1], &payload)
	// The first 8 bytes of the HMAC of "key id". A change of the id would log
	// everybody out, and another function of the secret might reveal it.
	if kid := header["kid"]; kid != "39ed5252b09bd183" {
		t.Errorf("kid = %q", kid)
	}
	if id, _ := payload["jti"].(string); len(id) < 16 {
		t.Errorf("jti = %q, want something unguessable", id)
	}
	delete(header, "kid")
	delete(payload, "jti")
	if diff := cmp.Diff(map[string]any{"alg": "HS256", "typ": "at+jwt"}, header); diff != "" {
		t.Errorf("header (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[string]any{
		"iss":   auth.Issuer,
		"aud":   []any{auth.Audience},
		"sub":   c.AdminID,
		"org":   c.OrganizationID,
		"roles": []any{"admin"},
		"ver":   3.0,
		"sid":   c.SessionID,

		"client_id":      "organization-management-service",
		"email_verified": true,

		"iat": float64(now.Unix()),
		"nbf": float64(now.Unix()),
		"exp": float64(c.ExpiresAt.Unix()),
	}, payload); diff != "" {
		t.Errorf("payload (-want +got):\n%s", diff)
	}
}

func decodePart(t testing.TB, part string, v any) {
	t.Helper()
	decoded, err := base64.RawURLEncoding.DecodeString(part)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(decoded, v); err != nil {
		t.Fatal(err)
	}
}

func TestTokensOfOneCallerDiffer(t *testing.T) {
	s, c, now := newSigner(t, testSecret), newCaller(), time.Now()
	a, err1 := s.Sign(c, now)
	b, err2 := s.Sign(c, now)
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	if a == b {
		t.Error("two logins gave the same token")
	}
}

func TestRotation(t *testing.T) {
	c := newCaller()
	before := mustSign(t, newSigner(t, otherSecret), c)
	after := mustSign(t, newSigner(t, testSecret), c)
	c.Audience = auth.Audience

	t.Run("OK while both are in force", func(t *testing.T) {
		v := newVerifier(t, testSecret, otherSecret)
		for _, token := range []string{before, after} {
			if got, err := v.Verify(token); err != nil || !cmp.Equal(c, got) {
				t.Errorf("Verify = %+v, %v; want %+v", got, err, c)
			}
		}
	})
	t.Run("ErrToken when the old one is gone", func(t *testing.T) {
		v := newVerifier(t, testSecret)
		if _, err := v.Verify(after); err != nil {
			t.Error(err)
		}
		wantErrToken(t, v, before)
	})
}

// forgery is a token like the signer's, of which a test changes one part.
type forgery struct {
	method jwt.SigningMethod
	header map[string]any
	claims jwt.MapClaims
	key    any
}

// newForgery returns a forgery with the key id of testSecret.
func newForgery(t testing.TB) *forgery {
	t.Helper()
	c := newCaller()
	var header map[string]any
	decodePart(t, strings.Split(mustSign(t, newSigner(t, testSecret), c), ".")[0], &header)
	return &forgery{
		method: jwt.SigningMethodHS256,
		header: map[string]any{"typ": header["typ"], "kid": header["kid"]},
		claims: jwt.MapClaims{
			"iss":   auth.Issuer,
			"aud":   auth.Audience,
			"sub":   c.AdminID,
			"org":   c.OrganizationID,
			"roles": []string{c.Role},
			"ver":   c.TokenVersion,
			"sid":   c.SessionID,
			"iat":   time.Now().Unix(),
			"nbf":   time.Now().Unix(),
			"exp":   c.ExpiresAt.Unix(),
			"jti":   rand.Text(),
		},
		key: testSecret,
	}
}

func (f *forgery) sign(t testing.TB) string {
	t.Helper()
	token := jwt.NewWithClaims(f.method, f.claims)
	for name, value := range f.header {
		token.Header[name] = value
		if value == nil {
			delete(token.Header, name)
		}
	}
	signed, err := token.SignedString(f.key)
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

func TestVerifyErrForged(t *testing.T) {
	v := newVerifier(t, testSecret)

	// Every token below differs from this one in one part.
	t.Run("OK", func(t *testing.T) {
		if _, err := v.Verify(newForgery(t).sign(t)); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("OK of an older version, without a role", func(t *testing.T) {
		f := newForgery(t)
		delete(f.claims, "roles")
		if c, err := v.Verify(f.sign(t)); err != nil || c.Role != "" {
			t.Fatal(c, err)
		}
	})

	rsaKey := newRSA()
	p256, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	_, edKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	otherID := strings.Split(mustSign(t, newSigner(t, otherSecret), newCaller()), ".")[0]
	var other map[string]any
	decodePart(t, otherID, &other)
	now := time.Now()

	set := func(name string, value any) func(*forgery) {
		return func(f *forgery) { f.claims[name] = value }
	}
	unset := func(name string) func(*forgery) {
		return func(f *forgery) { delete(f.claims, name) }
	}
	header := func(name string, value any) func(*forgery) {
		return func(f *forgery) { f.header[name] = value }
	}
	signedBy := func(method jwt.SigningMethod, key any) func(*forgery) {
		return func(f *forgery) { f.method, f.key = method, key }
	}
	for _, tt := range []struct {
		name    string
		spoil   func(*forgery)
		refusal auth.Refusal
	}{
		{"alg none", signedBy(jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType), "the signature or the algorithm is wrong"},
		{"alg None in another case", header("alg", "None"), "there is no such algorithm"},
		{"alg missing", header("alg", nil), "there is no such algorithm"},
		{"alg in lower case", header("alg", "hs256"), "there is no such algorithm"},
		{"alg no text", header("alg", 256), "there is no such algorithm"},
		{"HS384", signedBy(jwt.SigningMethodHS384, testSecret), "the signature or the algorithm is wrong"},
		{"HS512", signedBy(jwt.SigningMethodHS512, testSecret), "the signature or the algorithm is wrong"},
		{"RS256", signedBy(jwt.SigningMethodRS256, rsaKey), "the signature or the algorithm is wrong"},
		{"PS256", signedBy(jwt.SigningMethodPS256, rsaKey), "the signature or the algorithm is wrong"},
		{"ES256", signedBy(jwt.SigningMethodES256, p256), "not the algorithm of the key"},
		{"EdDSA", signedBy(jwt.SigningMethodEdDSA, edKey), "not the algorithm of the key"},
		{"says RS256 over an HMAC", header("alg", "RS256"), "the signature or the algorithm is wrong"},
		{"says HS512 over HS256", header("alg", "HS512"), "the signature or the algorithm is wrong"},
		{"signed with another secret", signedBy(jwt.SigningMethodHS256, otherSecret), "the signature or the algorithm is wrong"},
		{"signed with no secret", signedBy(jwt.SigningMethodHS256, []byte{}), "the signature or the algorithm is wrong"},
		{"signed with the key id", func(f *forgery) { f.key = []byte(f.header["kid"].(string)) }, "the signature or the algorithm is wrong"},
		{"kid of another secret", header("kid", other["kid"]), "unknown key"},
		{"kid unknown", header("kid", "0000000000000000"), "unknown key"},
		{"kid missing", header("kid", nil), "unknown key"},
		{"kid empty", header("kid", ""), "unknown key"},
		{"kid no text", header("kid", 1), "unknown key"},
		{"kid a path", header("kid", "../../dev/null"), "unknown key"},
		{"typ missing", header("typ", nil), "not an access token"},
		{"typ of an ID token", header("typ", "JWT"), "not an access token"},
		{"typ in upper case", header("typ", "AT+JWT"), "not an access token"},
		{"typ a whole media type", header("typ", "application/at+jwt"), "not an access token"},
		{"typ no text", header("typ", []string{"at+jwt"}), "not an access token"},
		{"iss missing", unset("iss"), "a claim is missing"},
		{"iss empty", set("iss", ""), "a claim is missing"},
		{"iss another", set("iss", auth.Issuer+".example.com"), "the issuer is wrong"},
		{"aud missing", unset("aud"), "a claim is missing"},
		{"aud empty", set("aud", ""), "a claim is missing"},
		{"aud an empty list", set("aud", []string{}), "a claim is missing"},
		{"aud another", set("aud", []string{"billing"}), "the audience is wrong"},
		{"jku", header("jku", "https://example.com/keys"), "unexpected header parameter"},
		{"jwk", header("jwk", map[string]any{"kty": "oct", "k": "eA"}), "unexpected header parameter"},
		{"x5u", header("x5u", "https://example.com/certificate"), "unexpected header parameter"},
		{"x5c", header("x5c", []string{"eA"}), "unexpected header parameter"},
		{"x5t", header("x5t", "eA"), "unexpected header parameter"},
		{"x5t#S256", header("x5t#S256", "eA"), "unexpected header parameter"},
		{"crit", header("crit", []string{"exp"}), "unexpected header parameter"},
		{"crit empty", header("crit", []string{}), "unexpected header parameter"},
		{"b64", header("b64", false), "unexpected header parameter"},
		{"cty", header("cty", "JWT"), "unexpected header parameter"},
		{"enc", header("enc", "A128GCM"), "unexpected header parameter"},
		{"zip", header("zip", "DEF"), "unexpected header parameter"},
		{"a header parameter of no name", header("", ""), "unexpected header parameter"},
		{"a header parameter that nobody knows", header("x", ""), "unexpected header parameter"},
		{"exp missing", unset("exp"), "a claim is missing"},
		{"exp null", set("exp", nil), "a claim is missing"},
		{"exp now", set("exp", now.Unix()), "the token has expired"},
		{"exp past", set("exp", now.Add(-time.Second).Unix()), "the token has expired"},
		{"exp zero", set("exp", 0), "the token has expired"},
		{"exp negative", set("exp", -1), "the token has expired"},
		{"exp text", set("exp", "tomorrow"), "the token is malformed"},
		{"nbf in the future", set("nbf", now.Add(time.Minute).Unix()), "the token is not valid yet"},
		{"nbf text", set("nbf", "yesterday"), "the token is malformed"},
		{"nbf missing", unset("nbf"), "a claim is missing"},
		{"nbf null", set("nbf", nil), "a claim is missing"},
		{"jti missing", unset("jti"), "a claim is missing"},
		{"jti null", set("jti", nil), "a claim is missing"},
		{"jti empty", set("jti", ""), "a claim is missing"},
		{"jti no text", set("jti", 7), "the token is malformed"},
		{"sub missing", unset("sub"), "a claim is missing"},
		{"sub empty", set("sub", ""), "a claim is missing"},
		{"sub no text", set("sub", 7), "the token is malformed"},
		{"org missing", unset("org"), "a claim is missing"},
		{"org empty", set("org", ""), "a claim is missing"},
		{"org an operator", set("org", map[string]any{"$ne": ""}), "the token is malformed"},
		{"roles text", set("roles", "owner"), "the token is malformed"},
		{"sid missing", unset("sid"), "a claim is missing"},
		{"sid empty", set("sid", ""), "a claim is missing"},
		{"ver missing", unset("ver"), "a claim is missing"},
		{"ver null", set("ver", nil), "a claim is missing"},
		{"ver text", set("ver", "3"), "the token is malformed"},
		{"ver a fraction", set("ver", 3.5), "the token is malformed"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newForgery(t)
			tt.spoil(f)
			token := f.sign(t)
			wantErrToken(t, v, token)
			_, err := v.Verify(token)
			if refusal, _ := errors.AsType[auth.Refusal](err); refusal != tt.refusal {
				t.Errorf("refused because %q, want %q", refusal, tt.refusal)
			}
		})
	}
}

// signParts returns a token with exactly this header and payload, signed with
// testSecret.
func signParts(t testing.TB, header, payload string) string {
	t.Helper()
	encode := base64.RawURLEncoding.EncodeToString
	signed := encode([]byte(header)) + "." + encode([]byte(payload))
	signature, err := jwt.SigningMethodHS256.Sign(signed, testSecret)
	if err != nil {
		t.Fatal(err)
	}
	return signed + "." + encode(signature)
}

// newParts returns the header and the payload of a valid token, as JSON.
func newParts(t testing.TB) (header, payload string) {
	t.Helper()
	parts := strings.Split(newForgery(t).sign(t), ".")
	var raw [2]json.RawMessage
	decodePart(t, parts[0], &raw[0])
	decodePart(t, parts[1], &raw[1])
	return string(raw[0]), string(raw[1])
}

func TestVerifyErrDoubled(t *testing.T) {
	v := newVerifier(t, testSecret)
	header, payload := newParts(t)
	t.Run("OK", func(t *testing.T) {
		for _, p := range []string{payload, strings.Replace(payload, "{", `{"x":{"sub":1},"y":["sub","sub"],`, 1)} {
			if _, err := v.Verify(signParts(t, header, p)); err != nil {
				t.Error(err)
			}
		}
	})
	// double adds a copy of the member as the first one, with the name as.
	double := func(t *testing.T, object, name, as string) string {
		var members map[string]json.RawMessage
		if err := json.Unmarshal([]byte(object), &members); err != nil || members[name] == nil {
			t.Fatalf("%s in %s: %v", name, object, err)
		}
		return strings.Replace(object, "{", `{"`+as+`":`+string(members[name])+",", 1)
	}
	for _, name := range []string{"alg", "typ", "kid"} {
		t.Run(name, func(t *testing.T) { wantErrToken(t, v, signParts(t, double(t, header, name, name), payload)) })
	}
	for _, name := range []string{"iss", "aud", "sub", "exp", "nbf", "iat", "jti", "org", "roles", "ver", "sid"} {
		for _, as := range []string{name, `\u00` + hex.EncodeToString([]byte(name[:1])) + name[1:]} {
			t.Run(name+" "+as, func(t *testing.T) {
				wantErrToken(t, v, signParts(t, header, double(t, payload, name, as)))
			})
		}
	}
	// json.Unmarshal would take these for sub, sid and org.
	for _, name := range []string{"Sub", "SUB", "ſub", "ſid", "oRg"} {
		t.Run(name, func(t *testing.T) {
			as := strings.Replace(payload, `"`+strings.ToLower(strings.Replace(name, "ſ", "s", 1))+`"`, `"`+name+`"`, 1)
			if as == payload {
				t.Fatal("no such claim")
			}
			wantErrToken(t, v, signParts(t, header, as))
			wantErrToken(t, v, signParts(t, header, strings.Replace(payload, "{", `{"`+name+`":"x",`, 1)))
		})
	}
	t.Run("a claim that nobody knows", func(t *testing.T) {
		wantErrToken(t, v, signParts(t, header, strings.Replace(payload, "{", `{"x":1,"x":1,`, 1)))
	})
}

func TestVerifyErrLong(t *testing.T) {
	header, payload := newParts(t)
	// padded returns a token of n bytes. The length of base64 is never one more
	// than a multiple of four, so the header grows as well.
	padded := func(n int) string {
		for i := range 12 {
			h := "{" + strings.Repeat(" ", i%3) + header[1:]
			room := (n - len(signParts(t, h, payload))) * 3 / 4
			pad := strings.Repeat("x", room-len(`"pad":"",`)+1-i/3)
			token := signParts(t, h, strings.Replace(payload, "{", `{"pad":"`+pad+`",`, 1))
			if len(token) == n {
				return token
			}
		}
		t.Fatalf("no token has %d bytes", n)
		return ""
	}
	v := newVerifier(t, testSecret)
	if _, err := v.Verify(padded(4096)); err != nil {
		t.Errorf("4096 bytes: %v", err)
	}
	for _, n := range []int{4097, 5000} {
		long := padded(n)
		wantErrToken(t, v, long)
		if _, err := v.Verify(long); err == nil || !strings.Contains(err.Error(), "too long") {
			t.Errorf("%d bytes: %v; want an error that says it is too long", n, err)
		}
	}
}

func TestVerifyErrNoObject(t *testing.T) {
	v := newVerifier(t, testSecret)
	header, payload := newParts(t)
	for _, object := range []string{
		"", "null", "7", `"sub"`, "[]", "[1]", "[" + payload + "]", "{", "{1:2}", `{"sub"`, `{"sub":`, `{"sub":}`, `{"sub":"a",}`,
		`{"sub" "a"}`, "{}", "\xff",
	} {
		t.Run(object, func(t *testing.T) {
			wantErrToken(t, v, signParts(t, object, payload))
			wantErrToken(t, v, signParts(t, header, object))
		})
	}
	for _, rest := range []string{"{}", "x", ",", "}", "\x00"} {
		t.Run("followed by "+rest, func(t *testing.T) {
			wantErrToken(t, v, signParts(t, header+rest, payload))
			wantErrToken(t, v, signParts(t, header, payload+rest))
		})
	}
}

func TestVerifyErrTampered(t *testing.T) {
	v := newVerifier(t, testSecret)
	token := mustSign(t, newSigner(t, testSecret), newCaller())
	parts := strings.Split(token, ".")
	another := strings.Split(mustSign(t, newSigner(t, testSecret), newCaller()), ".")
	reencode := func(part, old, replacement string) string {
		decoded, err := base64.RawURLEncoding.DecodeString(part)
		if err != nil {
			t.Fatal(err)
		}
		changed := strings.Replace(string(decoded), old, replacement, 1)
		if changed == string(decoded) {
			t.Fatalf("%q is not in %s", old, decoded)
		}
		return base64.RawURLEncoding.EncodeToString([]byte(changed))
	}
	const digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	// 32 bytes are 43 digits, and two bits of the last digit are unused.
	last := strings.IndexByte(digits, parts[2][42])
	equivalent := parts[2][:42] + string(digits[last^1])

	for _, tt := range []struct{ name, token string }{
		{"empty", ""},
		{"a dot", "."},
		{"two dots", ".."},
		{"no text", "\x00\xff"},
		{"payload of another organization", parts[0] + "." + reencode(parts[1], "ffee0002", "ffee0009") + "." + parts[2]},
		{"payload with white space", parts[0] + "." + reencode(parts[1], `"org":`, `"org": `) + "." + parts[2]},
		{"signature of another token", parts[0] + "." + parts[1] + "." + another[2]},
		{"signature with one bit changed", parts[0] + "." + parts[1] + "." + string(digits[strings.IndexByte(digits, parts[2][0])^1]) + parts[2][1:]},
		{"signature spelled otherwise", parts[0] + "." + parts[1] + "." + equivalent},
		{"signature cut off", token[:len(token)-1]},
		{"signature padded", token + "="},
		{"no signature", parts[0] + "." + parts[1] + "."},
		{"two parts", parts[0] + "." + parts[1]},
		{"four parts", token + ".x"},
		{"alg none over a signature", reencode(parts[0], "HS256", "none") + "." + parts[1] + "." + parts[2]},
		{"alg none without a signature", reencode(parts[0], "HS256", "none") + "." + parts[1] + "."},
		{"letter after it", token + "x"},
		{"line end after it", token + "\n"},
		{"space before it", " " + token},
		{"scheme before it", "Bearer " + token},
		{"twice", token + token},
		{"a megabyte", strings.Repeat("a", 1<<20)},
		{"a megabyte of dots", strings.Repeat(".", 1<<20)},
		{"a megabyte of payload", parts[0] + "." + strings.Repeat("a", 1<<20) + "." + parts[2]},
	} {
		t.Run(tt.name, func(t *testing.T) { wantErrToken(t, v, tt.token) })
	}
}

func TestVerifyErrExpired(t *testing.T) {
	s, v := newSigner(t, testSecret), newVerifier(t, testSecret)
	c := newCaller()
	c.ExpiresAt = time.Now().Add(-time.Second)
	wantErrToken(t, v, mustSign(t, s, c))
	c.ExpiresAt = time.Time{}
	wantErrToken(t, v, mustSign(t, s, c))
}

func TestErrSecret(t *testing.T) {
	for _, tt := range []struct{ name, secret string }{
		{"missing", ""},
		{"one byte", "x"},
		{"31 bytes", string(testSecret[:31])},
		{"31 bytes in 32 digits less one", strings.Repeat("é", 15) + "x"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err1 := auth.NewSigner([]byte(tt.secret))
			_, err2 := auth.NewVerifier([]byte(tt.secret))
			_, err3 := auth.NewVerifier(testSecret, []byte(tt.secret))
			for i, err := range []error{err1, err2, err3} {
				if err == nil {
					t.Errorf("%d: no error", i)
				} else if len(tt.secret) > 1 && strings.Contains(err.Error(), tt.secret) {
					t.Errorf("%d: error %q holds the secret", i, err)
				}
			}
		})
	}
	t.Run("none at all", func(t *testing.T) {
		wantErrToken(t, newVerifier(t), mustSign(t, newSigner(t, testSecret), newCaller()))
		wantErrToken(t, newVerifier(t), newForgery(t).sign(t))
	})
}

func FuzzVerify(f *testing.F) {
	// Every process of the fuzzer must have the same signed token.
	fixed := newForgery(f)
	fixed.claims["iat"], fixed.claims["nbf"], fixed.claims["exp"] = 1700000000, 1700000000, 4102444800
	fixed.claims["jti"] = "FUZZFUZZFUZZFUZZFUZZFUZZFU"
	signed := fixed.sign(f)
	v := newVerifier(f, testSecret)
	parts := strings.Split(signed, ".")
	encode := base64.RawURLEncoding.EncodeToString
	for _, seed := range []string{
		signed,
		"",
		"..",
		"Bearer " + signed,
		signed + "\n",
		encode([]byte(`{"alg":"none","typ":"at+jwt"}`)) + "." + parts[1] + ".",
		encode([]byte(`{"alg":"HS256","typ":"at+jwt","kid":null}`)) + "." + parts[1] + "." + parts[2],
		encode([]byte(`{"alg":"HS256","alg":"none"}`)) + "." + parts[1] + "." + parts[2],
		parts[0] + "." + encode([]byte(`{"exp":1e400}`)) + "." + parts[2],
		parts[0] + "." + encode([]byte(`[`)) + "." + parts[2],
		parts[0] + "." + encode([]byte(`null`)) + "." + parts[2],
		encode([]byte(`null`)) + "." + encode([]byte(`null`)) + ".",
		"\xff.\x00.=",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, token string) {
		c, err := v.Verify(token)
		switch {
		case err == nil && token != signed:
			t.Errorf("Verify = %+v for a token that nobody signed", c)
		case err != nil && token == signed:
			t.Error(err)
		case err != nil && !errors.Is(err, auth.ErrToken):
			t.Errorf("error %v is not ErrToken", err)
		}
	})
}

// TestPseudonym checks that a pseudonym depends on the key and on nothing else.
func TestPseudonym(t *testing.T) {
	signers := []*auth.Signer{}
	for _, letter := range []string{"a", "b"} {
		s, err := auth.NewSigner([]byte(strings.Repeat(letter, auth.MinSecretBytes)))
		if err != nil {
			t.Fatal(err)
		}
		signers = append(signers, s)
	}
	for range 2 {
		private, _ := keyPair(t, newEd25519(t))
		s, err := auth.NewPrivateKeySigner(private)
		if err != nil {
			t.Fatal(err)
		}
		signers = append(signers, s)
	}
	seen := map[string]bool{}
	for _, s := range signers {
		for _, text := range []string{"ann@example.com", "bob@example.com"} {
			p := s.Pseudonym(text)
			if p != s.Pseudonym(text) || seen[p] || len(p) != 16 {
				t.Errorf("%s is %q", text, p)
			}
			seen[p] = true
		}
	}
	// The first 8 bytes of the HMAC by a key that is an HMAC, too: that of "pseudonyms" by the
	// secret, or by the private key in PKCS #8. A key made of what is public might reveal the text.
	private, _ := keyPair(t, ed25519.NewKeyFromSeed(testSecret))
	fixed, err := auth.NewPrivateKeySigner(private)
	if err != nil {
		t.Fatal(err)
	}
	for want, s := range map[string]*auth.Signer{"de311b0ddfa16a99": newSigner(t, testSecret), "119a9f48907c2629": fixed} {
		if got := s.Pseudonym("ann@example.com"); got != want {
			t.Errorf("got %q; want %q", got, want)
		}
	}
}

// TestAudiences checks that a token may be for other services, too.
func TestAudiences(t *testing.T) {
	secret := []byte(strings.Repeat("k", auth.MinSecretBytes))
	s, err := auth.NewSigner(secret)
	if err != nil {
		t.Fatal(err)
	}
	s.Audiences = []string{"https://billing.example.com", "reports"}
	token, err := s.Sign(someCaller(), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	var payload struct{ Aud []string }
	decodePart(t, strings.Split(token, ".")[1], &payload)
	if diff := cmp.Diff([]string{auth.Audience, "https://billing.example.com", "reports"}, payload.Aud); diff != "" {
		t.Errorf("aud (-want +got):\n%s", diff)
	}
	v, err := auth.NewVerifier(secret)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := v.Verify(token); err != nil {
		t.Error(err)
	}
}
