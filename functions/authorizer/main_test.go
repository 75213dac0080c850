package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"

	"orgservice/shared/auth"
	"orgservice/shared/config"
)

const secretARN = "arn:aws:secretsmanager:eu-west-3:123456789012:secret:jwt-AbCdEf"

// secrets stands in for Secrets Manager. It has two versions of one secret.
type secrets struct {
	vars              map[string]string // of the environment that points at it
	current, previous atomic.Value      // string
	asked             atomic.Int64
}

func newSecrets(t *testing.T, current string) *secrets {
	s := &secrets{}
	s.current.Store(current)
	s.previous.Store("")
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.asked.Add(1)
		var in struct{ SecretId, VersionStage string }
		if err := json.NewDecoder(r.Body).Decode(&in); err != nil || in.SecretId != secretARN {
			t.Errorf("asked for %+v, %v", in, err)
		}
		value := s.current.Load().(string)
		if in.VersionStage == "AWSPREVIOUS" {
			value = s.previous.Load().(string)
		}
		w.Header().Set("Content-Type", "application/x-amz-json-1.1")
		if value == "" {
			w.WriteHeader(http.StatusBadRequest)
			w.Write([]byte(`{"__type":"ResourceNotFoundException"}`))
			return
		}
		json.NewEncoder(w).Encode(map[string]string{"SecretString": value})
	}))
	t.Cleanup(server.Close)
	s.vars = map[string]string{
		"AWS_ENDPOINT_URL_SECRETS_MANAGER": server.URL,
		"AWS_ACCESS_KEY_ID":                "id",
		"AWS_SECRET_ACCESS_KEY":            "key",
		"JWT_SECRET":                       secretARN,
		"JWT_SECRET_PREVIOUS":              secretARN + "::AWSPREVIOUS:",
	}
	return s
}

func secretOf(letter string) string { return strings.Repeat(letter, auth.MinSecretBytes) }

func tokenOf(t *testing.T, secret string) string {
	t.Helper()
	signer, err := auth.NewSigner([]byte(secret))
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	token, err := signer.Sign(auth.Caller{AdminID: "a", OrganizationID: "o", SessionID: "s", ExpiresAt: now.Add(time.Hour)}, now)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func authorized(t *testing.T, a *authorizer, header string) bool {
	t.Helper()
	answer, err := a.authorize(t.Context(), events.APIGatewayV2CustomAuthorizerV2Request{IdentitySource: []string{header}})
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := auth.CallerFromContext(answer.Context); ok != answer.IsAuthorized {
		t.Errorf("authorized: %v, with the context %v", answer.IsAuthorized, answer.Context)
	}
	return answer.IsAuthorized
}

func newAuthorizer(t *testing.T, s *secrets) *authorizer {
	t.Helper()
	keys, err := auth.NewKeys(t.Context(), config.Env(func(name string) string { return s.vars[name] }).Verifier)
	if err != nil {
		t.Fatal(err)
	}
	return &authorizer{keys: keys}
}

func TestRotation(t *testing.T) {
	s := newSecrets(t, secretOf("1"))
	a := newAuthorizer(t, s)
	old := "Bearer " + tokenOf(t, secretOf("1"))
	if !authorized(t, a, old) || s.asked.Load() != 1 {
		t.Fatalf("before the rotation, with %d look-ups", s.asked.Load())
	}

	s.previous.Store(secretOf("1"))
	s.current.Store(secretOf("2"))
	if !authorized(t, a, "Bearer "+tokenOf(t, secretOf("2"))) {
		t.Error("a token of the new secret is refused")
	}
	if !authorized(t, a, old) {
		t.Error("a token of the old secret is refused")
	}
	if !authorized(t, newAuthorizer(t, s), old) {
		t.Error("a token of the old secret is refused by a new process")
	}
}

// TestUnknownKeys shows that tokens with made-up key ids don't make the
// authorizer load its keys again and again.
func TestUnknownKeys(t *testing.T) {
	s := newSecrets(t, secretOf("1"))
	a := newAuthorizer(t, s)
	stranger := "Bearer " + tokenOf(t, secretOf("9"))
	for range 100 {
		if authorized(t, a, stranger) {
			t.Fatal("a stranger's token is authorized")
		}
	}
	if n := s.asked.Load(); n > 3 { // one at the start, then both versions once
		t.Errorf("%d look-ups", n)
	}
}

// TestReasons shows what a refusal says to the gateway and to the log.
func TestReasons(t *testing.T) {
	s := newSecrets(t, secretOf("1"))
	a := newAuthorizer(t, s)
	token := tokenOf(t, secretOf("1"))
	signer, err := auth.NewSigner([]byte(secretOf("1")))
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now().Add(-time.Hour)
	expired, err := signer.Sign(auth.Caller{AdminID: "a", OrganizationID: "o", SessionID: "s", ExpiresAt: now.Add(time.Minute)}, now)
	if err != nil {
		t.Fatal(err)
	}
	forged := func(header, claims string) string {
		return "Bearer " + base64.RawURLEncoding.EncodeToString([]byte(header)) + "." + base64.RawURLEncoding.EncodeToString([]byte(claims)) + ".AAAA"
	}
	const genuine, hush = `{"alg":"HS256","typ":"at+jwt","kid":"x"}`, `\",\"status\":\"200`
	for header, want := range map[string]string{
		forged(genuine, `{"exp":"`+hush+`"}`):                       "the token is malformed",
		forged(genuine, `{"ver":12345678901234567890}`):             "the token is malformed",
		forged(genuine, `{"a" "`+hush+`"}`):                         "not a JSON object",
		forged(genuine, `{"`+hush+`":1,"`+hush+`":2}`):              "a name is there twice",
		forged(`{"alg":"HS256","typ":"at+jwt","`+hush+`":1}`, `{}`): "unexpected header parameter",
		forged(`{"alg":"`+hush+`","typ":"at+jwt"}`, `{}`):           "there is no such algorithm",
		token:               "not a bearer token",
		"Bearer hush":       "not three segments",
		"Bearer " + expired: "the token has expired",
		"Bearer " + token[:len(token)-43] + strings.Repeat("A", 43): "the signature or the algorithm is wrong",
		"Bearer " + tokenOf(t, secretOf("9")):                       "unknown key",
	} {
		var logged bytes.Buffer
		before := slog.Default()
		slog.SetDefault(slog.New(slog.NewJSONHandler(&logged, nil)))
		answer, err := a.authorize(t.Context(), events.APIGatewayV2CustomAuthorizerV2Request{
			IdentitySource: []string{header},
			RequestContext: events.APIGatewayV2HTTPRequestContext{
				RequestID: "the-id", HTTP: events.APIGatewayV2HTTPRequestContextHTTPDescription{SourceIP: "192.0.2.1"},
			},
		})
		slog.SetDefault(before)
		if err != nil || answer.IsAuthorized || len(answer.Context) != 1 || answer.Context["reason"] != want {
			t.Errorf("%.20q…: %v, %v; want the reason %q", header, answer, err, want)
		}
		lines := strings.Split(strings.TrimSpace(logged.String()), "\n")
		var line struct{ Gateway_Request_ID, Source_IP, Reason string }
		if err := json.Unmarshal([]byte(lines[len(lines)-1]), &line); err != nil || line.Gateway_Request_ID != "the-id" || line.Source_IP != "192.0.2.1" || line.Reason != want {
			t.Errorf("%.20q…: logged %s", header, &logged)
		}
	}
}

func TestBearerToken(t *testing.T) {
	token := tokenOf(t, secretOf("1"))
	a := newAuthorizer(t, newSecrets(t, secretOf("1")))
	for header, want := range map[string]bool{
		"Bearer " + token: true, "bearer " + token: true, "BEARER  " + token + " ": true,
		token: false, "": false, "Bearer": false, "Bearer ": false, "Basic " + token: false,
		"Bearer " + token + "," + token: false, "Bearer " + token + " x": false,
	} {
		if got := authorized(t, a, header); got != want {
			t.Errorf("%.20q…: %v", header, got)
		}
	}
	for _, name := range []string{"authorization", "Authorization", "AUTHORIZATION"} {
		answer, err := a.authorize(t.Context(), events.APIGatewayV2CustomAuthorizerV2Request{
			Headers: map[string]string{name: "Bearer " + token},
		})
		if err != nil || !answer.IsAuthorized {
			t.Errorf("header %s: %v, %v", name, answer, err)
		}
	}
}

// TestKeysAway shows that a token that may be valid is not refused when the keys can't be
// loaded, and that made-up ones don't fill the log.
func TestKeysAway(t *testing.T) {
	s := newSecrets(t, secretOf("1"))
	a := newAuthorizer(t, s)
	s.current.Store("")
	var logged bytes.Buffer
	before := slog.Default()
	slog.SetDefault(slog.New(slog.NewJSONHandler(&logged, nil)))
	defer slog.SetDefault(before)
	for range 10 {
		answer, err := a.authorize(t.Context(), events.APIGatewayV2CustomAuthorizerV2Request{IdentitySource: []string{"Bearer " + tokenOf(t, secretOf("2"))}})
		if err == nil || answer.IsAuthorized {
			t.Fatalf("%v, %v", answer, err)
		}
	}
	if n := strings.Count(logged.String(), "can't load the keys"); n != 1 {
		t.Errorf("logged %d times:\n%s", n, &logged)
	}
	if !authorized(t, a, "Bearer "+tokenOf(t, secretOf("1"))) {
		t.Error("the key from before is gone")
	}
}
