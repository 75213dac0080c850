package mail_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"orgservice/shared/mail"
)

// newSES serves answer as Amazon SES and returns the variables of a function there.
func newSES(t *testing.T, answer http.HandlerFunc) map[string]string {
	t.Helper()
	server := httptest.NewServer(answer)
	t.Cleanup(server.Close)
	return map[string]string{
		"AWS_REGION": "eu-west-3", "AWS_ENDPOINT_URL_SESV2": server.URL, "AWS_ENDPOINT_URL": "http://127.0.0.1:1",
		"AWS_ACCESS_KEY_ID": testUser, "AWS_SECRET_ACCESS_KEY": testPassword, "AWS_SESSION_TOKEN": "session-token",
	}
}

func refusal(status int, kind, text string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("X-Amzn-ErrorType", kind)
		w.WriteHeader(status)
		json.NewEncoder(w).Encode(map[string]string{"message": text})
	}
}

func TestSES(t *testing.T) {
	type request struct {
		Destination      struct{ ToAddresses []string }
		Content          struct{ Raw struct{ Data []byte } }
		FromEmailAddress string
	}
	requests := make(chan request, 10)
	general := newSES(t, func(w http.ResponseWriter, r *http.Request) {
		var got request
		d := json.NewDecoder(r.Body)
		d.DisallowUnknownFields()
		if err := d.Decode(&got); err != nil {
			t.Error(err)
		}
		if r.Method != "POST" || r.URL.Path != "/v2/email/outbound-emails" {
			t.Errorf("%s %s", r.Method, r.URL.Path)
		}
		if got := r.Header.Get("Authorization"); !strings.HasPrefix(got, "AWS4-HMAC-SHA256 Credential="+testUser+"/") ||
			!strings.Contains(got, "/eu-west-3/ses/aws4_request") {
			t.Errorf("Authorization = %q", got)
		}
		if got := r.Header.Get("X-Amz-Security-Token"); got != "session-token" {
			t.Errorf("X-Amz-Security-Token = %q", got)
		}
		requests <- got
		w.Header().Set("Content-Type", "application/json")
		io.WriteString(w, `{"MessageId":"x"}`)
	})
	special := maps.Clone(general)
	general["AWS_ENDPOINT_URL"] = general["AWS_ENDPOINT_URL_SESV2"]
	delete(general, "AWS_ENDPOINT_URL_SESV2")
	bySMTP, _ := sent(t, nil, testMail)
	for name, vars := range map[string]map[string]string{"special endpoint": special, "general endpoint": general} {
		t.Run(name, func(t *testing.T) {
			if err := mail.New(settings(t, vars)).Send(t.Context(), testMail); err != nil {
				t.Fatal(err)
			}
			got := <-requests
			if diff := cmp.Diff([]string{"new@example.com"}, got.Destination.ToAddresses); diff != "" {
				t.Errorf("recipients (-want +got):\n%s", diff)
			}
			// The header From counts.
			if got.FromEmailAddress != "" {
				t.Errorf("FromEmailAddress = %q", got.FromEmailAddress)
			}
			if diff := cmp.Diff(bySMTP, parse(t, got.Content.Raw.Data), cmp.AllowUnexported(message{})); diff != "" {
				t.Errorf("message (-by SMTP +by SES):\n%s", diff)
			}
		})
	}
}

func TestSESErr(t *testing.T) {
	const unverified = "Email address is not verified. The following identities failed the check in region EU-WEST-3: no-reply@example.org"
	for _, tt := range []struct {
		name   string
		answer http.HandlerFunc
		want   string
	}{
		{"not verified", refusal(400, "MessageRejected", unverified), "SES refuses it: an email address is not verified, the sender's or, in the sandbox, the recipient's"},
		{"rejected", refusal(400, "MessageRejected", "It holds "+testTicket), "SES refuses it: MessageRejected (status 400)"},
		{"denied", refusal(403, "AccessDeniedException", "session-token"), "SES refuses it: AccessDeniedException (status 403)"},
		{"signature", refusal(403, "SignatureDoesNotMatch", "The canonical string should have been\nsession-token"), "SES refuses it: SignatureDoesNotMatch (status 403)"},
		{"another server", func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(502) }, "SES refuses it: UnknownError (status 502)"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			wantErr(t, mail.New(settings(t, newSES(t, tt.answer))).Send(t.Context(), testMail), tt.want)
		})
	}
	t.Run("echo", func(t *testing.T) {
		for _, status := range []int{200, 400} {
			vars := newSES(t, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", "application/json")
				w.WriteHeader(status)
				fmt.Fprintf(w, "%s %v", testTicket, r.Header)
			})
			err := mail.New(settings(t, vars)).Send(t.Context(), testMail)
			for _, secret := range []string{testTicket, testPassword, "session-token"} {
				if err == nil || strings.Contains(err.Error(), secret) {
					t.Errorf("Send: %v", err)
				}
			}
		}
	})
	t.Run("no credentials", func(t *testing.T) {
		vars := newSES(t, func(http.ResponseWriter, *http.Request) { t.Error("a request without credentials") })
		delete(vars, "AWS_ACCESS_KEY_ID")
		err := mail.New(settings(t, vars)).Send(t.Context(), testMail)
		if err == nil || !strings.Contains(err.Error(), "AWS_ACCESS_KEY_ID or AWS_SECRET_ACCESS_KEY is not set") {
			t.Errorf("Send: %v", err)
		}
	})
}

// A glitch of the service is not the end.
func TestSESAgain(t *testing.T) {
	var n atomic.Int32
	vars := newSES(t, func(w http.ResponseWriter, r *http.Request) {
		if n.Add(1) == 1 {
			refusal(500, "InternalFailure", "")(w, r)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		io.WriteString(w, `{"MessageId":"x"}`)
	})
	if err := mail.New(settings(t, vars)).Send(t.Context(), testMail); err != nil || n.Load() != 2 {
		t.Errorf("%d requests, %v", n.Load(), err)
	}
}

func TestSESHangs(t *testing.T) {
	t.Parallel()
	vars := newSES(t, func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body) // only then the server notices that the client goes
		<-r.Context().Done()
	})
	for _, limit := range []time.Duration{50 * time.Millisecond, time.Hour} {
		t.Run(limit.String(), func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			defer cancel()
			if err := mail.New(settings(t, vars)).Send(ctx, testMail); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("Send: %v", err)
			}
		})
	}
}
