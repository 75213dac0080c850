package e2e

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
)

// TestDemo runs the demo to its end, and then breaks each of its requests in each
// way. It must leave nothing behind. It has a gateway and a database of its own: a
// login reads all sessions of an embedded database, and the other tests leave many.
func TestDemo(t *testing.T) {
	t.Parallel()
	p := newEmptyLocal(t)
	steps := 0
	t.Run("OK", func(t *testing.T) {
		code, out, errs := runLocal(t, p.data, nil, "demo", p.url)
		if code != 0 || errs != "" {
			t.Fatalf("exit %d\n%s%s", code, out, errs)
		}
		steps = strings.Count(out, "\ncurl ")
		wantGone(t, p, out)
		for _, problem := range []string{"name-taken", "invalid-fields", "organization-not-found", "token-revoked", "invalid-refresh-token"} {
			if !strings.Contains(out, `"type":"/problems/`+problem+`"`) {
				t.Errorf("no answer is %s", problem)
			}
		}
	})
	if steps < 15 {
		t.Fatalf("%d steps", steps)
	}
	t.Run("no service", func(t *testing.T) {
		gone := httptest.NewServer(http.NotFoundHandler())
		gone.Close()
		code, _, errs := runLocal(t, p.data, nil, "demo", gone.URL)
		if code != 1 || !strings.HasPrefix(errs, "no answer from "+gone.URL) || !strings.HasSuffix(errs, "make run starts it\n") || strings.Count(errs, "\n") != 1 {
			t.Errorf("exit %d: %s", code, errs)
		}
	})
	t.Run("another service", func(t *testing.T) {
		other := httptest.NewServer(http.NotFoundHandler())
		defer other.Close()
		code, _, errs := runLocal(t, p.data, nil, "demo", other.URL)
		want := "step 1: POST /org/create was answered with 404 and not with 201: is " + other.URL + " the service? make run starts it\n"
		if code != 1 || errs != want {
			t.Errorf("exit %d: %s", code, errs)
		}
	})
	t.Run("redirect", func(t *testing.T) {
		other := httptest.NewServer(http.RedirectHandler(p.url+"/org/create", http.StatusTemporaryRedirect))
		defer other.Close()
		code, out, errs := runLocal(t, p.data, nil, "demo", other.URL)
		if code != 1 || !strings.HasPrefix(errs, "step 1: POST /org/create was answered with 307 and not with 201") {
			t.Errorf("exit %d: %s", code, errs)
		}
		wantGone(t, p, out)
	})
	t.Run("answers that control the terminal", func(t *testing.T) {
		other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusNotFound)
			io.WriteString(w, "{}\x1b[2J\u009b31m\u202e\r\n2. A step that was never done")
		}))
		defer other.Close()
		_, out, _ := runLocal(t, p.data, nil, "demo", other.URL)
		if !strings.Contains(out, "\n404 {}�[2J�31m� 2. A step") {
			t.Errorf("%q", out)
		}
	})
	for status, want := range map[int]string{503: "the login was answered with 503", 401: "its passwords are refused"} {
		t.Run(fmt.Sprint(status, " for good"), func(t *testing.T) {
			t.Parallel()
			code, out, errs := runBroken(t, p, func(step int) bool { return step > 5 }, func(_ *os.Process, w http.ResponseWriter, _ func(http.ResponseWriter)) {
				w.WriteHeader(status)
			})
			left := "the organization of demo-" + demoWord.FindStringSubmatch(out)[1] + "@example.com is perhaps still there: " + want + "\n"
			if code != 1 || !strings.HasSuffix(errs, left) {
				t.Errorf("exit %d: %s", code, errs)
			}
		})
	}
	for name, test := range map[string]struct {
		breaks func(demo *os.Process, w http.ResponseWriter, forward func(http.ResponseWriter))
		want   string // in the message
	}{
		"not done": {func(_ *os.Process, w http.ResponseWriter, _ func(http.ResponseWriter)) {
			w.WriteHeader(http.StatusServiceUnavailable)
		}, "was answered with 503"},
		"done, and not answered": {func(_ *os.Process, w http.ResponseWriter, forward func(http.ResponseWriter)) {
			forward(httptest.NewRecorder())
			w.Header().Set("Content-Length", "100") // without the rest of an answer, a client does not send the request again
			w.WriteHeader(http.StatusOK)
			http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		}, "no answer from "},
		"interrupted": {func(demo *os.Process, w http.ResponseWriter, forward func(http.ResponseWriter)) {
			demo.Signal(os.Interrupt)
			forward(w)
		}, "interrupted\n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for step := 1; step <= steps; step++ {
				if name == "interrupted" && step == steps {
					continue // it ends anyway
				}
				t.Run(fmt.Sprint(step), func(t *testing.T) {
					code, out, errs := runBroken(t, p, func(n int) bool { return n == step }, test.breaks)
					if code != 1 || !strings.Contains(errs, test.want) || strings.Contains(errs, "perhaps still there") {
						t.Errorf("exit %d\n%s%s", code, out, errs)
					}
					wantGone(t, p, out)
				})
			}
		})
	}
}

// runBroken runs the demo with the gateway p and breaks the requests whose numbers are hit.
func runBroken(t *testing.T, p *process, hit func(int) bool, breaks func(*os.Process, http.ResponseWriter, func(http.ResponseWriter))) (code int, out, errs string) {
	t.Helper()
	target, err := url.Parse(p.url)
	if err != nil {
		t.Fatal(err)
	}
	service := httputil.NewSingleHostReverseProxy(target)
	var requests atomic.Int32
	var demo *os.Process
	started := make(chan struct{})
	broken := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		<-started
		if !hit(int(requests.Add(1))) {
			service.ServeHTTP(w, r)
			return
		}
		breaks(demo, w, func(w http.ResponseWriter) { service.ServeHTTP(w, r) })
	}))
	defer broken.Close()
	var stdout, stderr bytes.Buffer
	cmd := current.newCommand(p.data, nil, "demo", broken.URL)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	demo = cmd.Process
	close(started)
	cmd.Wait()
	return cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()
}

var (
	demoWord  = regexp.MustCompile(`"Demo ([a-z2-7]+) Ltd"`)
	longToken = regexp.MustCompile(`[A-Za-z0-9_-]{40,}`)
)

// wantGone fails the test if the demo's organization exists, or if the output of
// the demo holds a token.
func wantGone(t *testing.T, p *process, out string) {
	t.Helper()
	m := demoWord.FindStringSubmatch(out)
	if m == nil {
		t.Fatalf("no name of an organization in\n%s", out)
	}
	c := newLocalClient(t, p)
	for _, name := range []string{"Demo " + m[1] + " Ltd", "Demo " + m[1] + " Group"} {
		c.get(name).want(t, 404)
	}
	if token := longToken.FindString(out); token != "" {
		t.Errorf("a token is printed: %.8s…", token)
	}
}
