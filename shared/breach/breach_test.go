package breach_test

import (
	"crypto/sha1"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"orgservice/shared/breach"
)

// TestContains asks a corpus over HTTP.
func TestContains(t *testing.T) {
	digits := func(password string) string {
		sum := sha1.Sum([]byte(password))
		return strings.ToUpper(hex.EncodeToString(sum[:]))
	}
	answers := map[string]string{} // by path
	known := func(password, count string) {
		d := digits(password)
		answers["/range/"+d[:5]] += fmt.Sprintf("%s:9\r\n%s:%s\r\n%s:0\r\n", strings.Repeat("0", 35), d[5:], count, strings.Repeat("F", 35))
	}
	known("correct horse", "3")
	known("battery staple", "0")
	known("p\u00e4ssw\u00f6rter", "1")
	var asked []string
	corpus := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.URL.String())
		if r.Header.Get("Add-Padding") != "true" {
			t.Error("no padding is asked for")
		}
		switch r.URL.Path {
		case "/moved/" + digits("correct horse")[:5]:
			http.Redirect(w, r, strings.Replace(r.URL.Path, "moved", "range", 1), http.StatusFound)
		case "/slow/" + digits("correct horse")[:5]:
			<-r.Context().Done()
		default:
			fmt.Fprint(w, answers[r.URL.Path])
		}
	}))
	defer corpus.Close()
	for password, want := range map[string]bool{
		"correct horse": true, "battery staple": false, "unknown": false, "p\u00e4ssw\u00f6rter": true, "pa\u0308sswo\u0308rter": true,
	} {
		asked = nil
		got, err := breach.Corpus{URL: corpus.URL + "/range/"}.Contains(t.Context(), password)
		if got != want || err != nil {
			t.Errorf("%q: %v, %v", password, got, err)
		}
		if len(asked) != 1 || len(asked[0]) != len("/range/")+5 {
			t.Errorf("%q: asked %q", password, asked)
		}
	}
	for _, url := range []string{corpus.URL + "/moved/", corpus.URL + "/slow/", "http://127.0.0.1:1/", corpus.URL + "/%zz/"} {
		got, err := breach.Corpus{URL: url}.Contains(t.Context(), "correct horse")
		if got || err == nil || strings.Contains(err.Error(), digits("correct horse")[:5]) {
			t.Errorf("%s: %v, %v", url, got, err)
		}
	}
}

// silent is a transport to a server that never answers.
type silent struct{}

func (silent) RoundTrip(r *http.Request) (*http.Response, error) {
	<-r.Context().Done()
	return nil, r.Context().Err()
}

// TestTimeLimit asks a corpus that never answers, in the time of a synctest bubble, and
// checks that it waits for a second.
func TestTimeLimit(t *testing.T) {
	before := http.DefaultTransport
	defer func() { http.DefaultTransport = before }()
	http.DefaultTransport = silent{}
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		_, err := breach.Corpus{URL: "https://corpus.test/range/"}.Contains(t.Context(), "correct horse")
		if took := time.Since(start); err == nil || took != time.Second {
			t.Errorf("%v after %v; want an error after a second", err, took)
		}
	})
}
