package config_test

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"orgservice/shared/config"
)

const (
	testKeyID        = "AKIDEXAMPLE"
	testKey          = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
	testSessionToken = "session-token-of-the-function"

	testARN = "arn:aws:secretsmanager:eu-west-3:123456789012:secret:orgservice/mongo-AbCdEf"
)

// secretsManager is as much of AWS Secrets Manager as a function needs. It
// records the requests it got.
type secretsManager struct {
	vars map[string]string // of the environment that points at it

	mu       sync.Mutex
	requests []secretsRequest
}

type secretsRequest struct {
	header http.Header
	body   map[string]any
}

// newSecretsManager serves answer. Its environment has the address, credentials
// and vars.
func newSecretsManager(t *testing.T, vars map[string]string, answer http.HandlerFunc) *secretsManager {
	t.Helper()
	m := &secretsManager{vars: maps.Clone(vars)}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		request := secretsRequest{header: r.Header}
		if err := json.Unmarshal(body, &request.body); err != nil {
			t.Errorf("body %q: %v", body, err)
		}
		m.mu.Lock()
		m.requests = append(m.requests, request)
		m.mu.Unlock()
		answer(w, r)
	}))
	t.Cleanup(server.Close)
	m.vars["AWS_ENDPOINT_URL_SECRETS_MANAGER"] = server.URL
	m.vars["AWS_ACCESS_KEY_ID"] = testKeyID
	m.vars["AWS_SECRET_ACCESS_KEY"] = testKey
	m.vars["AWS_SESSION_TOKEN"] = testSessionToken
	return m
}

func (m *secretsManager) env() config.Env { return environment(m.vars) }

// wantOne returns the request, of which there must be one.
func (m *secretsManager) wantOne(t *testing.T) secretsRequest {
	t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.requests) != 1 {
		t.Fatalf("%d requests, want 1", len(m.requests))
	}
	return m.requests[0]
}

func secretString(s string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/x-amz-json-1.1")
		json.NewEncoder(w).Encode(map[string]any{"ARN": testARN, "Name": "orgservice/mongo", "SecretString": s})
	}
}

func refusal(status int, kind string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/x-amz-json-1.1")
		w.WriteHeader(status)
		fmt.Fprintf(w, `{"__type":%q,"message":"as the service words it"}`, kind)
	}
}

func TestSecret(t *testing.T) {
	object := `{"url":"` + testURL + `","port":27017,"none":null,"":"` + otherSecret + `"}`
	for _, tt := range []struct {
		name, suffix, secret string
		want                 map[string]any
	}{
		{"OK", "", testURL,
			map[string]any{"SecretId": testARN}},
		{"OK key", ":url", object,
			map[string]any{"SecretId": testARN}},
		{"OK stage", "::AWSPREVIOUS", testURL,
			map[string]any{"SecretId": testARN, "VersionStage": "AWSPREVIOUS"}},
		{"OK version", ":::9d4cb84b-ad69-40c0-a0ab-cead36b967e8", testURL,
			map[string]any{"SecretId": testARN, "VersionId": "9d4cb84b-ad69-40c0-a0ab-cead36b967e8"}},
		{"OK key and stage and version", ":url:AWSCURRENT:v1", object,
			map[string]any{"SecretId": testARN, "VersionStage": "AWSCURRENT", "VersionId": "v1"}},
		{"OK all empty", ":::", testURL,
			map[string]any{"SecretId": testARN}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := newSecretsManager(t, map[string]string{"MONGO_URL": testARN + tt.suffix}, secretString(tt.secret))
			got, err := m.env().Database(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if got.URL != testURL {
				t.Errorf("URL = %q, want %q", got.URL, testURL)
			}
			r := m.wantOne(t)
			if diff := cmp.Diff(tt.want, r.body); diff != "" {
				t.Errorf("request (-want +got):\n%s", diff)
			}
			if got := r.header.Get("X-Amz-Target"); got != "secretsmanager.GetSecretValue" {
				t.Errorf("X-Amz-Target = %q", got)
			}
			if got := r.header.Get("X-Amz-Security-Token"); got != testSessionToken {
				t.Errorf("X-Amz-Security-Token = %q", got)
			}
			authorization := r.header.Get("Authorization")
			for _, part := range []string{
				"AWS4-HMAC-SHA256 Credential=" + testKeyID + "/", "/eu-west-3/secretsmanager/aws4_request",
				"SignedHeaders=", "Signature=",
			} {
				if !strings.Contains(authorization, part) {
					t.Errorf("Authorization = %q, lacks %q", authorization, part)
				}
			}
		})
	}
}

// The request goes to the partition of the reference, such as aws-cn.
func TestSecretOfAnotherPartition(t *testing.T) {
	reference := "arn:aws-cn:secretsmanager:cn-north-1:123456789012:secret:x"
	m := newSecretsManager(t, map[string]string{"MONGO_URL": reference}, secretString(testURL))
	if _, err := m.env().Database(t.Context()); err != nil {
		t.Fatal(err)
	}
	r := m.wantOne(t)
	if r.body["SecretId"] != reference || !strings.Contains(r.header.Get("Authorization"), "/cn-north-1/") {
		t.Errorf("asked for %v with %q", r.body, r.header.Get("Authorization"))
	}
}

func TestSecretOfSpecialEndpoint(t *testing.T) {
	m := newSecretsManager(t, map[string]string{"MONGO_URL": testARN}, secretString(testURL))
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		t.Error("the general endpoint was asked though there is a special one")
	}))
	t.Cleanup(server.Close)
	m.vars["AWS_ENDPOINT_URL"] = server.URL
	if _, err := m.env().Database(t.Context()); err != nil {
		t.Fatal(err)
	}
	m.wantOne(t)
}

func TestSecretOfGeneralEndpoint(t *testing.T) {
	m := newSecretsManager(t, map[string]string{"MONGO_URL": testARN}, secretString(testURL))
	m.vars["AWS_ENDPOINT_URL"] = m.vars["AWS_ENDPOINT_URL_SECRETS_MANAGER"]
	delete(m.vars, "AWS_ENDPOINT_URL_SECRETS_MANAGER")
	if _, err := m.env().Database(t.Context()); err != nil {
		t.Fatal(err)
	}
	m.wantOne(t)
}

func TestSecretOfTokens(t *testing.T) {
	reference := func(name string) string {
		return "arn:aws:secretsmanager:eu-west-3:123456789012:secret:" + name
	}
	values := map[string]string{reference("now"): testSecret, reference("before"): otherSecret, reference("short"): testSecret[:31]}
	var m *secretsManager
	answer := func(w http.ResponseWriter, r *http.Request) {
		m.mu.Lock()
		id, _ := m.requests[len(m.requests)-1].body["SecretId"].(string)
		m.mu.Unlock()
		secretString(values[id])(w, r)
	}

	t.Run("OK", func(t *testing.T) {
		m = newSecretsManager(t, map[string]string{
			"JWT_SECRET": reference("now"), "JWT_SECRET_PREVIOUS": reference("before"),
		}, answer)
		tokens, err := m.env().Tokens(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		verifier, err := m.env().Verifier(t.Context(), true)
		if err != nil {
			t.Fatal(err)
		}
		wantVerified(t, verifier, tokens.Signer)
		wantVerified(t, verifier, newSigner(t, testSecret))
		wantVerified(t, verifier, newSigner(t, otherSecret))
	})
	t.Run("ErrShort", func(t *testing.T) {
		m = newSecretsManager(t, map[string]string{"JWT_SECRET": reference("short")}, answer)
		_, err := m.env().Tokens(t.Context())
		wantErr(t, err, "JWT_SECRET")
	})
	t.Run("ErrPreviousShort", func(t *testing.T) {
		m = newSecretsManager(t, map[string]string{
			"JWT_SECRET": reference("now"), "JWT_SECRET_PREVIOUS": reference("short"),
		}, answer)
		_, err := m.env().Verifier(t.Context(), true)
		wantErr(t, err, "JWT_SECRET_PREVIOUS")
	})
	t.Run("OK when there never was a previous one", func(t *testing.T) {
		m = newSecretsManager(t, map[string]string{
			"JWT_SECRET": testSecret, "JWT_SECRET_PREVIOUS": reference("gone"),
		}, refusal(http.StatusBadRequest, "ResourceNotFoundException"))
		verifier, err := m.env().Verifier(t.Context(), true)
		if err != nil {
			t.Fatal(err)
		}
		wantVerified(t, verifier, newSigner(t, testSecret))
	})
	t.Run("ErrPreviousDenied", func(t *testing.T) {
		m = newSecretsManager(t, map[string]string{
			"JWT_SECRET": testSecret, "JWT_SECRET_PREVIOUS": reference("denied"),
		}, refusal(http.StatusBadRequest, "AccessDeniedException"))
		_, err := m.env().Verifier(t.Context(), true)
		wantErr(t, err, "JWT_SECRET_PREVIOUS")
	})
}

func TestSecretErr(t *testing.T) {
	for _, tt := range []struct {
		name, suffix string
		answer       http.HandlerFunc
		want         string // in the error
	}{
		{"ErrNotFound", "", refusal(http.StatusBadRequest, "ResourceNotFoundException"), "no such secret"},
		{"ErrDenied", "", refusal(http.StatusBadRequest, "AccessDeniedException"), "AccessDeniedException"},
		{"ErrEmpty", "", secretString(""), "is not set"},
		{"ErrBinary", "", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/x-amz-json-1.1")
			fmt.Fprintf(w, `{"ARN":%q,"SecretBinary":"aHVudGVyMmh1bnRlcjI="}`, testARN)
		}, "binary"},
		{"ErrNotObject", ":url", secretString(testURL), "is not a JSON object"},
		{"ErrList", ":url", secretString(`["` + testURL + `"]`), "is not a JSON object"},
		{"ErrKey", ":uri", secretString(`{"url":"` + testURL + `"}`), `"uri"`},
		{"ErrKeyCase", ":URL", secretString(`{"url":"` + testURL + `"}`), `"URL"`},
		{"ErrKeyNumber", ":port", secretString(`{"url":"` + testURL + `","port":27017}`), `"port"`},
		{"ErrNoJSON", "", func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "<html>") }, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := newSecretsManager(t, map[string]string{"MONGO_URL": testARN + tt.suffix}, tt.answer)
			_, err := m.env().Database(t.Context())
			wantErr(t, err, "MONGO_URL")
			if !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %q does not say %q", err, tt.want)
			}
		})
	}
}

func TestSecretErrReference(t *testing.T) {
	for _, reference := range []string{
		"arn:",
		"arn:aws:secretsmanager",
		"arn:aws:secretsmanager:eu-west-3:123456789012:secret",
		"arn:aws:ssm:eu-west-3:123456789012:secret:x",
		"arn:aws:secretsmanager:eu-west-3:123456789012:parameter:x",
		"arn:aws:secretsmanager:eu-west-3:123456789012:secret:x:key:stage:version:more",
	} {
		t.Run(reference, func(t *testing.T) {
			m := newSecretsManager(t, map[string]string{"MONGO_URL": reference}, secretString(testURL))
			_, err := m.env().Database(t.Context())
			wantErr(t, err, "MONGO_URL")
			if n := len(m.requests); n != 0 {
				t.Errorf("%d requests for what is not a reference", n)
			}
		})
	}
}

func TestSecretErrRegion(t *testing.T) {
	env := environment(map[string]string{
		"MONGO_URL":             "arn:aws:secretsmanager::123456789012:secret:x",
		"AWS_ACCESS_KEY_ID":     testKeyID,
		"AWS_SECRET_ACCESS_KEY": testKey,
	})
	_, err := env.Database(t.Context())
	wantErr(t, err, "MONGO_URL")
}

func TestSecretErrCredentials(t *testing.T) {
	for _, name := range []string{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"} {
		t.Run(name, func(t *testing.T) {
			m := newSecretsManager(t, map[string]string{"MONGO_URL": testARN}, secretString(testURL))
			delete(m.vars, name)
			_, err := m.env().Database(t.Context())
			wantErr(t, err, "MONGO_URL")
			if !strings.Contains(err.Error(), name) {
				t.Errorf("error %q does not name %s", err, name)
			}
			if n := len(m.requests); n != 0 {
				t.Errorf("%d requests without credentials", n)
			}
		})
	}
}

// A start must fail before Lambda's limit for it, which is 10 seconds.
func TestSecretErrTimeout(t *testing.T) {
	done := make(chan struct{})
	m := newSecretsManager(t, map[string]string{"MONGO_URL": testARN}, func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-done:
		case <-r.Context().Done():
		}
	})
	t.Cleanup(func() { close(done) })
	start := time.Now()
	_, err := m.env().Database(t.Context())
	wantErr(t, err, "MONGO_URL")
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("gave up after %v", took)
	}
}
