package wire_test

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.mongodb.org/mongo-driver/v2/bson"

	"orgservice/local/mongodbtest"
	"orgservice/shared/auth"
	"orgservice/shared/config"
	"orgservice/shared/mongodb"
	"orgservice/shared/org"
	"orgservice/shared/wire"
)

// settings returns all variables, each with a value that is right, but for
// JWT_PRIVATE_KEY, which would stand for JWT_SECRET.
func settings() map[string]string {
	return map[string]string{
		"MONGO_URL":          "mongodb://127.0.0.1:1",
		"MASTER_DB":          "tenants",
		"BCRYPT_COST":        "4",
		"EMAIL_VERIFICATION": "required",
		"JWT_PRIVATE_KEY":    "",
		"JWT_SECRET":         strings.Repeat("k", auth.MinSecretBytes),
		"JWT_AUDIENCE":       "https://billing.example.com",
		"JWT_EXPIRES_IN":     "900",
		"REFRESH_EXPIRES_IN": "7200",

		"REFRESH_IDLE_EXPIRES_IN": "3600",
		"SIGNUP":                  "closed",
		"SIGNUPS_PER_HOUR":        "7",
		"MAX_ORGANIZATIONS":       "99",
		"DELETE_GRACE":            "168",
		"PASSWORD_MIN_LENGTH":     "15",
		"BREACHED_PASSWORDS_URL":  "https://breaches.example/range/",
		"MAIL_FROM":               "no-reply@example.com",
	}
}

// open calls wire.Open and returns the variables that it read, too.
func open(t *testing.T, vars map[string]string, needs ...wire.Need) (*org.Service, []string, error) {
	t.Helper()
	var mu sync.Mutex
	read := map[string]bool{}
	s, err := wire.Open(t.Context(), func(name string) string {
		mu.Lock()
		defer mu.Unlock()
		read[name] = true
		return vars[name]
	}, needs...)
	if err == nil {
		t.Cleanup(func() {
			if err := s.Store.(*mongodb.Store).Close(context.Background()); err != nil {
				t.Error(err)
			}
		})
	}
	return s, slices.Sorted(maps.Keys(read)), err
}

func TestOpen(t *testing.T) {
	db := mongodbtest.New(t)
	vars := settings()
	vars["MONGO_URL"], vars["MASTER_DB"] = db.URL, db.Name
	s, _, err := open(t, vars, wire.Passwords, wire.Tokens)
	if err != nil {
		t.Fatal(err)
	}
	o, err := s.Create(t.Context(), org.CreateRequest{OrganizationName: "Acme", Email: "admin@example.com", Password: "Admin@123"})
	if err != nil {
		t.Fatal(err)
	}
	tokens, err := s.Login(t.Context(), org.LoginRequest{Email: "admin@example.com", Password: "Admin@123"})
	if err != nil {
		t.Fatal(err)
	}
	if tokens.ExpiresIn != 15*time.Minute || s.SessionTTL != 2*time.Hour || s.SessionIdle != time.Hour {
		t.Errorf("the access token lasts %v and the login %v", tokens.ExpiresIn, s.SessionTTL)
	}
	verifier, err := config.Env(func(name string) string { return vars[name] }).Verifier(t.Context(), true)
	if err != nil {
		t.Fatal(err)
	}
	if caller, err := verifier.Verify(tokens.Access); err != nil || caller.OrganizationID != o.ID {
		t.Errorf("the token is of %+v, %v", caller, err)
	}
	if o.Database != db.Name {
		t.Errorf("the organization is in the database %q, want %q", o.Database, db.Name)
	}
}

// TestOpenWritesNothing opens the service for a function that only reads, which must do as a user
// who may not write.
func TestOpenWritesNothing(t *testing.T) {
	db := mongodbtest.New(t)
	vars := settings()
	vars["MONGO_URL"], vars["MASTER_DB"] = db.URL, db.Name
	s, _, err := open(t, vars)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Get(t.Context(), "Acme"); !errors.Is(err, org.ErrNotFound) {
		t.Error(err)
	}
	if made, err := db.Client.Database(db.Name).ListCollectionNames(t.Context(), bson.D{}); err != nil || len(made) > 0 {
		t.Errorf("collections %v, %v; want none", made, err)
	}
}

// A function must not read a secret that it does not need.
func TestOpenReads(t *testing.T) {
	database := []string{"EMAIL_VERIFICATION", "MASTER_DB", "MONGO_URL"}
	passwords := []string{"BCRYPT_COST"}
	tokens := []string{"JWT_AUDIENCE", "JWT_EXPIRES_IN", "JWT_PRIVATE_KEY", "JWT_SECRET", "REFRESH_EXPIRES_IN", "REFRESH_IDLE_EXPIRES_IN"}
	for _, tt := range []struct {
		name  string
		needs []wire.Need
		want  []string
	}{
		{"nothing", nil, database},
		{"passwords", []wire.Need{wire.Passwords}, slices.Concat(database, passwords)},
		{"tokens", []wire.Need{wire.Tokens}, slices.Concat(database, tokens)},
		{"idle", []wire.Need{wire.Idle}, slices.Concat(database, []string{"REFRESH_IDLE_EXPIRES_IN"})},
		{"mails", []wire.Need{wire.Mails}, slices.Concat(database, []string{"MAIL_FROM"})},
		{"sign-ups", []wire.Need{wire.SignUps}, slices.Concat(database, []string{"MAX_ORGANIZATIONS", "SIGNUP", "SIGNUPS_PER_HOUR"})},
		{"grace", []wire.Need{wire.DeleteGrace}, slices.Concat(database, []string{"DELETE_GRACE"})},
		{"password rules", []wire.Need{wire.PasswordRules}, slices.Concat(database, []string{"BREACHED_PASSWORDS_URL", "PASSWORD_MIN_LENGTH"})},
		{"both", []wire.Need{wire.Passwords, wire.Tokens}, slices.Concat(database, passwords, tokens)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, read, err := open(t, settings(), tt.needs...)
			if err != nil {
				t.Fatal(err)
			}
			slices.Sort(tt.want)
			if diff := cmp.Diff(tt.want, read); diff != "" {
				t.Errorf("variables (-want +read):\n%s", diff)
			}
			if !s.VerifiedOnly {
				t.Error("emails need not be verified")
			}
			if s.MailsSent != slices.Contains(read, "MAIL_FROM") {
				t.Errorf("mails are sent: %v", s.MailsSent)
			}
			want := org.SignUps{}
			if slices.Contains(read, "SIGNUP") {
				want = org.SignUps{Closed: true, PerHour: 7, MostOrganizations: 99}
			}
			if s.SignUps != want {
				t.Errorf("sign-ups %+v; want %+v", s.SignUps, want)
			}
			if rules := slices.Contains(read, "PASSWORD_MIN_LENGTH"); rules != (s.PasswordRules.MinRunes == 15) || rules != (s.PasswordRules.Breached != nil) {
				t.Errorf("rules for passwords: %+v", s.PasswordRules)
			}
			if grace := slices.Contains(read, "DELETE_GRACE"); grace != (s.DeleteGrace == 168*time.Hour) {
				t.Errorf("grace: %v", s.DeleteGrace)
			}
			if got, want := s.Passwords != nil, slices.Contains(read, "BCRYPT_COST"); got != want {
				t.Errorf("has passwords: %v", got)
			}
			if got, want := s.Tokens != nil, slices.Contains(read, "JWT_SECRET"); got != want {
				t.Errorf("has tokens: %v", got)
			}
		})
	}
}

// TestSecretsAtOnce checks that no secret waits for another: neither is answered before both
// are asked for.
func TestSecretsAtOnce(t *testing.T) {
	const arn = "arn:aws:secretsmanager:eu-west-3:123456789012:secret:"
	var asked sync.WaitGroup
	asked.Add(2)
	secrets := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var request struct{ SecretId string }
		if err := json.NewDecoder(r.Body).Decode(&request); err != nil {
			t.Error(err)
		}
		asked.Done()
		asked.Wait()
		json.NewEncoder(w).Encode(map[string]string{"SecretString": settings()[strings.TrimPrefix(request.SecretId, arn)]})
	}))
	defer secrets.Close()
	vars := settings()
	vars["MONGO_URL"], vars["JWT_SECRET"] = arn+"MONGO_URL", arn+"JWT_SECRET"
	vars["AWS_ENDPOINT_URL"], vars["AWS_ACCESS_KEY_ID"], vars["AWS_SECRET_ACCESS_KEY"] = secrets.URL, "id", "key"
	if _, _, err := open(t, vars, wire.Passwords, wire.Tokens); err != nil {
		t.Error(err)
	}
}

func TestOpenErr(t *testing.T) {
	for _, tt := range []struct {
		name  string
		wrong map[string]string
		want  string // the variable that the error names
	}{
		{"no URL", map[string]string{"MONGO_URL": ""}, "MONGO_URL"},
		{"URL", map[string]string{"MONGO_URL": "localhost"}, "MONGO_URL"},
		{"database", map[string]string{"MASTER_DB": "a.b"}, "MASTER_DB"},
		{"cost", map[string]string{"BCRYPT_COST": "99"}, "BCRYPT_COST"},
		{"verification", map[string]string{"EMAIL_VERIFICATION": "yes"}, "EMAIL_VERIFICATION"},
		{"sign-up", map[string]string{"SIGNUP": "no"}, "SIGNUP"},
		{"sign-ups", map[string]string{"SIGNUPS_PER_HOUR": "many"}, "SIGNUPS_PER_HOUR"},
		{"organizations", map[string]string{"MAX_ORGANIZATIONS": "-1"}, "MAX_ORGANIZATIONS"},
		{"length", map[string]string{"PASSWORD_MIN_LENGTH": "7"}, "PASSWORD_MIN_LENGTH"},
		{"corpus", map[string]string{"BREACHED_PASSWORDS_URL": "http://breaches.example/range/"}, "BREACHED_PASSWORDS_URL"},
		{"no secret", map[string]string{"JWT_SECRET": ""}, "JWT_SECRET"},
		{"secret", map[string]string{"JWT_SECRET": "short"}, "JWT_SECRET"},
		{"key", map[string]string{"JWT_PRIVATE_KEY": "x"}, "JWT_PRIVATE_KEY"},
		{"audience", map[string]string{"JWT_AUDIENCE": "a a"}, "JWT_AUDIENCE"},
		{"token TTL", map[string]string{"JWT_EXPIRES_IN": "1h"}, "JWT_EXPIRES_IN"},
		{"idle", map[string]string{"REFRESH_IDLE_EXPIRES_IN": "-1"}, "REFRESH_IDLE_EXPIRES_IN"},
		{"session TTL", map[string]string{"REFRESH_EXPIRES_IN": "0"}, "REFRESH_EXPIRES_IN"},
		{"database first", map[string]string{"MONGO_URL": "", "BCRYPT_COST": "99", "JWT_SECRET": ""}, "MONGO_URL"},
		{"in the order of the needs", map[string]string{"BCRYPT_COST": "99", "JWT_SECRET": ""}, "BCRYPT_COST"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			vars := settings()
			maps.Copy(vars, tt.wrong)
			s, _, err := open(t, vars, wire.Passwords, wire.Tokens, wire.SignUps, wire.PasswordRules)
			if err == nil || s != nil || !strings.HasPrefix(err.Error(), tt.want+": ") {
				t.Errorf("Open = %v, %v; want an error of %s", s, err, tt.want)
			}
		})
	}
	t.Run("not needed", func(t *testing.T) {
		vars := settings()
		vars["BCRYPT_COST"], vars["JWT_SECRET"] = "99", ""
		if _, _, err := open(t, vars); err != nil {
			t.Error(err)
		}
	})
}
