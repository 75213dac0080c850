package awsapi_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"

	"orgservice/shared/awsapi"
)

// serve returns a client of a service that answers so, and the number of its requests.
func serve(t *testing.T, answer http.HandlerFunc) (awsapi.Client, *atomic.Int64) {
	t.Helper()
	var n atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n.Add(1)
		answer(w, r)
	}))
	t.Cleanup(server.Close)
	return awsapi.Client{Service: "secretsmanager", Region: "eu-west-3", Endpoint: server.URL + "/", Credentials: credentials}, &n
}

func credentials() (aws.Credentials, error) {
	return aws.Credentials{AccessKeyID: "AKIDEXAMPLE", SecretAccessKey: "the key", SessionToken: "the session"}, nil
}

// post sends a request and returns the field of the answer.
func post(ctx context.Context, c awsapi.Client) (string, error) {
	var answer struct{ Field string }
	err := c.Post(ctx, "/path", http.Header{"X-Amz-Target": {"a.b"}}, []byte(`{"a":1}`), &answer)
	return answer.Field, err
}

func TestPost(t *testing.T) {
	c, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if r.Method != "POST" || r.URL.Path != "/path" || string(body) != `{"a":1}` || r.Header.Get("X-Amz-Target") != "a.b" {
			t.Errorf("%s %s %q %v", r.Method, r.URL.Path, body, r.Header)
		}
		authorization := r.Header.Get("Authorization")
		if !strings.Contains(authorization, "/eu-west-3/secretsmanager/aws4_request") || !strings.Contains(authorization, "x-amz-target") ||
			r.Header.Get("X-Amz-Security-Token") != "the session" {
			t.Errorf("it is signed %q", authorization)
		}
		io.WriteString(w, `{"Field":"value","more":1}`)
	})
	if got, err := post(t.Context(), c); got != "value" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
}

func TestPostAgain(t *testing.T) {
	for name, tt := range map[string]struct {
		status int
		body   string
		wants  int64 // requests
	}{
		"busy":        {503, "", 3},
		"too many":    {429, "", 3},
		"throttled":   {400, `{"__type":"com.amazon#ThrottlingException"}`, 3},
		"refused":     {400, `{"__type":"AccessDeniedException"}`, 1},
		"elsewhere":   {307, "", 1},
		"not JSON":    {200, "<html>", 1},
		"too long":    {200, `{"Field":"` + strings.Repeat("x", 1<<20) + `"}`, 1},
		"interrupted": {0, "", 3},
	} {
		t.Run(name, func(t *testing.T) {
			c, n := serve(t, func(w http.ResponseWriter, r *http.Request) {
				if tt.status == 0 {
					panic(http.ErrAbortHandler)
				}
				w.Header().Set("Location", "/elsewhere")
				w.WriteHeader(tt.status)
				io.WriteString(w, tt.body)
			})
			if _, err := post(t.Context(), c); err == nil || n.Load() != tt.wants {
				t.Errorf("%v after %d requests; want %d", err, n.Load(), tt.wants)
			}
		})
	}
	t.Run("until it succeeds", func(t *testing.T) {
		var c awsapi.Client
		var n *atomic.Int64
		c, n = serve(t, func(w http.ResponseWriter, r *http.Request) {
			if body, _ := io.ReadAll(r.Body); string(body) != `{"a":1}` {
				t.Errorf("body %q", body)
			}
			if n.Load() < 3 {
				w.WriteHeader(500)
				return
			}
			io.WriteString(w, `{"Field":"value"}`)
		})
		if got, err := post(t.Context(), c); got != "value" || err != nil {
			t.Errorf("%q, %v", got, err)
		}
	})
	t.Run("until the caller gives up", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		c, n := serve(t, func(w http.ResponseWriter, r *http.Request) {
			cancel()
			w.WriteHeader(500)
		})
		if _, err := post(ctx, c); err == nil || n.Load() != 1 {
			t.Errorf("%v after %d requests", err, n.Load())
		}
	})
}

func TestError(t *testing.T) {
	for _, tt := range []struct{ header, body, code, message string }{
		{"", `{"__type":"ResourceNotFoundException","Message":"words"}`, "ResourceNotFoundException", "words"},
		{"", `{"__type":"com.amazonaws.secretsmanager#DecryptionFailure","message":"words"}`, "DecryptionFailure", "words"},
		{"", `{"code":"MessageRejected"}`, "MessageRejected", ""},
		{"MessageRejected:http://internal.amazon.com/coral/", `{"__type":"Other","message":"words"}`, "MessageRejected", "words"},
		{"", "<html>", "UnknownError", ""},
		{"", `{"__type":"a\nforged line"}`, "UnknownError", ""},
		{"", `{"__type":"` + strings.Repeat("x", 101) + `"}`, "UnknownError", ""},
	} {
		c, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
			if tt.header != "" {
				w.Header().Set("X-Amzn-ErrorType", tt.header)
			}
			w.WriteHeader(400)
			io.WriteString(w, tt.body)
		})
		_, err := post(t.Context(), c)
		e, ok := errors.AsType[*awsapi.Error](err)
		if !ok || e.Status != 400 || e.Code != tt.code || e.Message != tt.message {
			t.Errorf("%q %s: %+v; want %s", tt.header, tt.body, err, tt.code)
		} else if want := tt.code + " (status 400)"; err.Error() != want {
			t.Errorf("%q; want %q", err, want)
		}
	}
}

func TestPostErr(t *testing.T) {
	c, n := serve(t, func(w http.ResponseWriter, r *http.Request) {})
	none := errors.New("none")
	c.Credentials = func() (aws.Credentials, error) { return aws.Credentials{}, none }
	if _, err := post(t.Context(), c); !errors.Is(err, none) {
		t.Errorf("without credentials: %v", err)
	}
	c.Credentials, c.Region = credentials, "eu-west-3.evil.test/"
	if _, err := post(t.Context(), c); err == nil {
		t.Error("without a region: no error")
	}
	if n.Load() != 0 {
		t.Errorf("%d requests", n.Load())
	}
}

func TestEndpoint(t *testing.T) {
	for _, tt := range []struct{ host, region, want string }{
		{"", "eu-west-3", "https://secretsmanager.eu-west-3.amazonaws.com"},
		{"email", "us-gov-west-1", "https://email.us-gov-west-1.amazonaws.com"},
		{"", "cn-north-1", "https://secretsmanager.cn-north-1.amazonaws.com.cn"},
		{"", "eusc-de-east-1", "https://secretsmanager.eusc-de-east-1.amazonaws.eu"},
		{"", "us-iso-east-1", "https://secretsmanager.us-iso-east-1.c2s.ic.gov"},
		{"", "us-isob-east-1", "https://secretsmanager.us-isob-east-1.sc2s.sgov.gov"},
		{"", "eu-isoe-west-1", "https://secretsmanager.eu-isoe-west-1.cloud.adc-e.uk"},
		{"", "us-isof-south-1", "https://secretsmanager.us-isof-south-1.csp.hci.ic.gov"},
		{"", "", ""},
		{"", "eu west", ""},
	} {
		got, err := awsapi.Endpoint(awsapi.Client{Service: "secretsmanager", Host: tt.host, Region: tt.region})
		if got != tt.want || (err == nil) != (tt.want != "") {
			t.Errorf("%s: %q, %v; want %q", tt.region, got, err, tt.want)
		}
	}
}
