package config_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"orgservice/shared/auth"
	"orgservice/shared/config"
)

const (
	testSecret  = "an-access-token-secret-of-40-bytes-long!"
	otherSecret = "the-secret-before-it-was-rotated-40-long"
	testURL     = "mongodb+srv://svc:hunter2hunter2@cluster0.example.mongodb.net"
)

// environment returns an environment that has only vars.
func environment(vars map[string]string) config.Env {
	return func(name string) string { return vars[name] }
}

// wantErr fails the test unless err begins with the variable's name, is one
// line and holds none of the secrets.
func wantErr(t *testing.T, err error, variable string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want one of %s", variable)
	}
	message := err.Error()
	if !strings.HasPrefix(message, variable+": ") {
		t.Errorf("error %q does not begin with %s", message, variable)
	}
	if strings.Contains(message, "\n") {
		t.Errorf("error %q has more than one line", message)
	}
	for _, secret := range []string{testSecret, otherSecret, testURL, "hunter2", testSecret[:8], testKey, testSessionToken} {
		if strings.Contains(message, secret) {
			t.Errorf("error %q holds %q", message, secret)
		}
	}
}

func TestDatabase(t *testing.T) {
	t.Run("OK", func(t *testing.T) {
		env := environment(map[string]string{"MONGO_URL": testURL, "MASTER_DB": "tenants-1"})
		got, err := env.Database(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(config.Database{URL: testURL, Name: "tenants-1"}, got); diff != "" {
			t.Errorf("database (-want +got):\n%s", diff)
		}
	})
	t.Run("OK by default", func(t *testing.T) {
		env := environment(map[string]string{"MONGO_URL": testURL + "\n"})
		got, err := env.Database(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(config.Database{URL: testURL, Name: "organization_master"}, got); diff != "" {
			t.Errorf("database (-want +got):\n%s", diff)
		}
	})
	t.Run("ErrMissing", func(t *testing.T) {
		env := environment(map[string]string{"MASTER_DB": "tenants"})
		_, err := env.Database(t.Context())
		wantErr(t, err, "MONGO_URL")
	})
}

// https://www.mongodb.com/docs/manual/reference/limits/#naming-restrictions
func TestDatabaseName(t *testing.T) {
	for _, tt := range []struct {
		name, value string
		ok          bool
	}{
		{"one letter", "x", true},
		{"63 bytes", strings.Repeat("x", 63), true},
		{"other letters", "größe", true},
		{"64 bytes", strings.Repeat("x", 64), false},
		{"63 characters of two bytes", strings.Repeat("é", 63), false},
		{"slash", "a/b", false},
		{"backslash", `a\b`, false},
		{"dot", "a.b", false},
		{"space", "a b", false},
		{"quote", `a"b`, false},
		{"dollar", "$external", false},
		{"star", "a*b", false},
		{"less", "a<b", false},
		{"greater", "a>b", false},
		{"colon", "a:b", false},
		{"bar", "a|b", false},
		{"question mark", "a?b", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			env := environment(map[string]string{"MONGO_URL": testURL, "MASTER_DB": tt.value})
			got, err := env.Database(t.Context())
			if !tt.ok {
				wantErr(t, err, "MASTER_DB")
			} else if err != nil || got.Name != tt.value {
				t.Errorf("Database = %q, %v; want %q", got.Name, err, tt.value)
			}
		})
	}
}

func TestTokens(t *testing.T) {
	for _, tt := range []struct {
		name, expiresIn string
		want            time.Duration
	}{
		{"OK", "900", 15 * time.Minute},
		{"OK by default", "", time.Hour},
		{"OK shortest", "1", time.Second},
		{"OK longest", "31536000", 365 * 24 * time.Hour},
	} {
		t.Run(tt.name, func(t *testing.T) {
			env := environment(map[string]string{"JWT_SECRET": testSecret, "JWT_EXPIRES_IN": tt.expiresIn})
			tokens, err := env.Tokens(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if tokens.TTL != tt.want {
				t.Errorf("tokens last %v, want %v", tokens.TTL, tt.want)
			}
			verifier, err := auth.NewVerifier([]byte(testSecret))
			if err != nil {
				t.Fatal(err)
			}
			wantVerified(t, verifier, tokens.Signer)
		})
	}
	for _, tt := range []struct {
		name              string
		secret, expiresIn string
		variable          string
	}{
		{"ErrMissing", "", "900", "JWT_SECRET"},
		{"ErrShort", testSecret[:31], "900", "JWT_SECRET"},
		{"ErrZero", testSecret, "0", "JWT_EXPIRES_IN"},
		{"ErrNegative", testSecret, "-1", "JWT_EXPIRES_IN"},
		{"ErrTooLong", testSecret, "31536001", "JWT_EXPIRES_IN"},
		{"ErrTooLarge", testSecret, "99999999999999999999", "JWT_EXPIRES_IN"},
		{"ErrUnit", testSecret, "1h", "JWT_EXPIRES_IN"},
		{"ErrFraction", testSecret, "1.5", "JWT_EXPIRES_IN"},
		{"ErrSpace", testSecret, " 900", "JWT_EXPIRES_IN"},
		{"ErrHexadecimal", testSecret, "0x10", "JWT_EXPIRES_IN"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			env := environment(map[string]string{"JWT_SECRET": tt.secret, "JWT_EXPIRES_IN": tt.expiresIn})
			_, err := env.Tokens(t.Context())
			wantErr(t, err, tt.variable)
		})
	}
}

// wantVerified fails the test unless the verifier accepts what the signer
// signs.
func wantVerified(t *testing.T, v *auth.Verifier, s *auth.Signer) {
	t.Helper()
	if _, err := v.Verify(sign(t, s)); err != nil {
		t.Error(err)
	}
}

func sign(t *testing.T, s *auth.Signer) string {
	t.Helper()
	now := time.Now()
	token, err := s.Sign(auth.Caller{AdminID: "a", OrganizationID: "o", TokenVersion: 1, SessionID: "s", ExpiresAt: now.Add(time.Hour)}, now)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func newSigner(t *testing.T, secret string) *auth.Signer {
	t.Helper()
	s, err := auth.NewSigner([]byte(secret))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestVerifier(t *testing.T) {
	t.Run("OK", func(t *testing.T) {
		env := environment(map[string]string{"JWT_SECRET": testSecret})
		v, err := env.Verifier(t.Context(), true)
		if err != nil {
			t.Fatal(err)
		}
		wantVerified(t, v, newSigner(t, testSecret))
		if _, err := v.Verify(sign(t, newSigner(t, otherSecret))); err == nil {
			t.Error("accepts what was signed with another secret")
		}
	})
	t.Run("OK after a rotation", func(t *testing.T) {
		env := environment(map[string]string{"JWT_SECRET": testSecret, "JWT_SECRET_PREVIOUS": otherSecret})
		v, err := env.Verifier(t.Context(), true)
		if err != nil {
			t.Fatal(err)
		}
		wantVerified(t, v, newSigner(t, testSecret))
		wantVerified(t, v, newSigner(t, otherSecret))

		tokens, err := env.Tokens(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		previous, err := auth.NewVerifier([]byte(otherSecret))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := previous.Verify(sign(t, tokens.Signer)); err == nil {
			t.Error("the previous secret still signs")
		}
	})
	for _, tt := range []struct{ name, secret, previous, variable string }{
		{"ErrMissing", "", otherSecret, "JWT_SECRET"},
		{"ErrShort", testSecret[:31], otherSecret, "JWT_SECRET"},
		{"ErrPreviousShort", testSecret, otherSecret[:31], "JWT_SECRET_PREVIOUS"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			env := environment(map[string]string{"JWT_SECRET": tt.secret, "JWT_SECRET_PREVIOUS": tt.previous})
			_, err := env.Verifier(t.Context(), true)
			wantErr(t, err, tt.variable)
		})
	}
}

func TestEmailVerification(t *testing.T) {
	for value, want := range map[string]bool{"": false, "optional": false, "required": true} {
		got, err := environment(map[string]string{"EMAIL_VERIFICATION": value}).EmailVerification()
		if got != want || err != nil {
			t.Errorf("EmailVerification of %q = %v, %v", value, got, err)
		}
	}
	for _, value := range []string{"true", "Required", " required", "no"} {
		_, err := environment(map[string]string{"EMAIL_VERIFICATION": value}).EmailVerification()
		wantErr(t, err, "EMAIL_VERIFICATION")
	}
}

func TestDeleteGrace(t *testing.T) {
	for value, want := range map[string]time.Duration{"": 0, "0": 0, "168": 7 * 24 * time.Hour, "8784": 366 * 24 * time.Hour} {
		if got, err := environment(map[string]string{"DELETE_GRACE": value}).DeleteGrace(); got != want || err != nil {
			t.Errorf("%q: %v, %v; want %v", value, got, err, want)
		}
	}
	for _, value := range []string{"-1", "7d", "8785"} {
		_, err := environment(map[string]string{"DELETE_GRACE": value}).DeleteGrace()
		wantErr(t, err, "DELETE_GRACE")
	}
}

func TestSignUps(t *testing.T) {
	got, err := environment(map[string]string{}).SignUps()
	if got != (config.SignUps{}) || err != nil {
		t.Errorf("without settings: %+v, %v", got, err)
	}
	got, err = environment(map[string]string{"SIGNUP": "open", "SIGNUPS_PER_HOUR": "20", "MAX_ORGANIZATIONS": "500"}).SignUps()
	if got != (config.SignUps{PerHour: 20, MostOrganizations: 500}) || err != nil {
		t.Errorf("%+v, %v", got, err)
	}
	for name, value := range map[string]string{"SIGNUP": "Closed", "SIGNUPS_PER_HOUR": "1.5", "MAX_ORGANIZATIONS": "-1"} {
		_, err := environment(map[string]string{name: value}).SignUps()
		wantErr(t, err, name)
	}
}

func TestAudiences(t *testing.T) {
	read := func(value string) ([]string, error) {
		tokens, err := environment(map[string]string{"JWT_SECRET": testSecret, "JWT_AUDIENCE": value}).Tokens(t.Context())
		if err != nil {
			return nil, err
		}
		return tokens.Signer.Audiences, nil
	}
	for value, want := range map[string][]string{
		"": {}, "  ": {}, "https://billing.example.com": {"https://billing.example.com"}, " a  b\t": {"a", "b"},
	} {
		if got, err := read(value); err != nil || !slices.Equal(got, want) {
			t.Errorf("%q: %q, %v", value, got, err)
		}
	}
	for _, value := range []string{"a a", "ä", "a&b", "<a>", `"a"`, auth.Audience, strings.Repeat("a", 201), "a b c d e f g h i j k"} {
		_, err := read(value)
		wantErr(t, err, "JWT_AUDIENCE")
	}
}

func TestPasswordRules(t *testing.T) {
	for _, tt := range []struct {
		length, corpus string
		want           config.PasswordRules
	}{
		{"", "", config.PasswordRules{MinLength: 8}},
		{"8", "https://api.pwnedpasswords.com/range/", config.PasswordRules{MinLength: 8, Breaches: "https://api.pwnedpasswords.com/range/"}},
		{"64", "http://127.0.0.1:1/", config.PasswordRules{MinLength: 64, Breaches: "http://127.0.0.1:1/"}},
	} {
		got, err := environment(map[string]string{"PASSWORD_MIN_LENGTH": tt.length, "BREACHED_PASSWORDS_URL": tt.corpus}).PasswordRules(8)
		if got != tt.want || err != nil {
			t.Errorf("%+v, %v; want %+v", got, err, tt.want)
		}
	}
	for name, values := range map[string][]string{
		"PASSWORD_MIN_LENGTH":    {"7", "65", "0", "many"},
		"BREACHED_PASSWORDS_URL": {"http://example.com/", "https://example.com", "https://example.com/?range=/", "example.com/", "ftp://example.com/", "https:///"},
	} {
		for _, value := range values {
			_, err := environment(map[string]string{name: value}).PasswordRules(8)
			wantErr(t, err, name)
		}
	}
}

func TestBcryptCost(t *testing.T) {
	for _, tt := range []struct {
		value string
		want  int // 0 means an error
	}{
		{"", 12},
		{"4", 4},
		{"10", 10},
		{"15", 15},
		{"3", 0},
		{"16", 0},
		{"0", 0},
		{"-12", 0},
		{"12.0", 0},
		{"12 ", 0},
		{"twelve", 0},
	} {
		t.Run("value "+tt.value, func(t *testing.T) {
			env := environment(map[string]string{"BCRYPT_COST": tt.value})
			got, err := env.BcryptCost()
			if tt.want == 0 {
				wantErr(t, err, "BCRYPT_COST")
			} else if got != tt.want || err != nil {
				t.Errorf("BcryptCost = %d, %v; want %d", got, err, tt.want)
			}
		})
	}
}

func TestIntrospectionSecrets(t *testing.T) {
	long := strings.Repeat("s", auth.MinSecretBytes)
	for value, want := range map[string][]string{
		"": nil, " \n": nil, long: {long}, long + "\n": {long}, " " + long + " x" + long + "\t" + long[1:] + "é": {long, "x" + long, long[1:] + "é"},
	} {
		env := environment(map[string]string{"INTROSPECTION_SECRET": value})
		if got, err := env.IntrospectionSecrets(t.Context()); err != nil || !slices.Equal(got, want) {
			t.Errorf("%q: %q, %v; want %q", value, got, err, want)
		}
	}
	for _, value := range []string{"x", long[1:], long + " x", `{"secret":"` + long + `"}`} {
		env := environment(map[string]string{"INTROSPECTION_SECRET": value})
		_, err := env.IntrospectionSecrets(t.Context())
		wantErr(t, err, "INTROSPECTION_SECRET")
	}
}
