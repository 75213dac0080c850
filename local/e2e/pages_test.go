package e2e

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"
)

// TestPages checks every page, and what the pages load: the type, the encodings,
// the version and that nothing is from another host.
func TestPages(t *testing.T) {
	c := newClient(t)
	// The client of net/http hides the encoding unless it is asked for.
	get := func(path, encoding string, headers ...string) answer {
		t.Helper()
		return c.call("GET", path, nil, append([]string{"Accept-Encoding", encoding}, headers...)...)
	}
	types := map[string]string{
		"/docs":                  "text/html; charset=utf-8",
		"/redoc":                 "text/html; charset=utf-8",
		"/problems/name-taken":   "text/html; charset=utf-8",
		"/verify-email?ticket=x": "text/html; charset=utf-8",
		"/reset-password":        "text/html; charset=utf-8",
		"/accept-invitation":     "text/html; charset=utf-8",
		"/finish-sign-up":        "text/html; charset=utf-8",
		"/openapi.json":          "application/json",
		"/openapi.yaml":          "application/yaml",
		"/assets/docs.js":        "text/javascript; charset=utf-8",
		"/assets/swagger-ui.css": "text/css; charset=utf-8",
		"/assets/icon.svg":       "image/svg+xml",
	}
	load := regexp.MustCompile(`(?:src|href)="([^"]*)"`)
	for path, contentType := range types {
		t.Run(path, func(t *testing.T) {
			plain := get(path, "identity").want(t, 200)
			if got := plain.header.Get("Content-Type"); got != contentType {
				t.Errorf("the type is %s, want %s", got, contentType)
			}
			// Only styles may be in the page itself, where Swagger UI and ReDoc make them.
			policy := strings.Replace(plain.header.Get("Content-Security-Policy"), "style-src 'self' 'unsafe-inline';", "style-src 'self';", 1)
			if want := "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"; policy != want {
				t.Errorf("the policy is %s, want %s", policy, want)
			}
			packed := get(path, "br, gzip").want(t, 200)
			if packed.header.Get("Content-Encoding") != "gzip" || !bytes.Equal(unpacked(t, packed.body), plain.body) {
				t.Errorf("in gzip it is another page: %v", packed.header)
			}
			if plain.header.Get("Content-Encoding") != "" || len(get(path, "gzip;q=0").want(t, 200).body) != len(plain.body) {
				t.Errorf("a client without gzip gets it: %v", plain.header)
			}
			version := plain.header.Get("ETag")
			if version == "" || version != packed.header.Get("ETag") || plain.header.Get("Vary") != "Accept-Encoding" {
				t.Errorf("versions %q and %q", version, packed.header.Get("ETag"))
			}
			if same := get(path, "gzip", "If-None-Match", `"x", `+version).want(t, 304); len(same.body) > 0 {
				t.Errorf("%v has a body", same)
			}
			get(path, "gzip", "If-None-Match", `"x"`, "Range", "bytes=0-1", "If-Match", `"y"`).want(t, 200)
			if contentType == types["/docs"] {
				for _, m := range load.FindAllSubmatch(plain.body, -1) {
					get(string(m[1]), "identity").want(t, 200) // a URL of another host is no route
				}
			}
		})
	}
}

func unpacked(t *testing.T, data []byte) []byte {
	t.Helper()
	z, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	plain, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return plain
}

// TestNoPage checks paths that have no page.
func TestNoPage(t *testing.T) {
	c := newClient(t)
	for _, path := range []string{
		"/assets/docs.html", "/assets/problem.html", "/assets/ticket.html", "/assets/swagger-ui.css.gz", "/assets/.gitignore", "/assets/pages.go",
		"/assets/%2e%2e", "/assets/%5c", "/assets/%2525", "/assets/%01", "/problems/x", "/problems/name-taken%20",
	} {
		c.call("GET", path, nil).want(t, 404)
	}
	for _, path := range []string{"/assets/%3F", "/problems/%3F"} {
		if a := c.call("GET", path, nil); c.gateway.decodesTwice {
			a.wantRefusal(t, c.gateway.noRoute)
		} else {
			a.want(t, 404)
		}
	}
	c.call("GET", "/docs?organization_name=Acme", nil).want(t, 422).wantFields(t, "organization_name")
}

// TestDocument checks that the service has the document of the repository, in
// both formats.
func TestDocument(t *testing.T) {
	c := newClient(t)
	inJSON := c.call("GET", "/openapi.json", nil).want(t, 200)
	file, err := os.ReadFile("../../shared/api/openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(file, inJSON.body) {
		t.Error("/openapi.json is not the file")
	}
	var fromJSON, fromYAML any
	if err := json.Unmarshal(inJSON.body, &fromJSON); err != nil {
		t.Fatal(err)
	}
	var decoded any
	if err := yaml.Unmarshal(c.call("GET", "/openapi.yaml", nil).want(t, 200).body, &decoded); err != nil {
		t.Fatal(err)
	}
	again, err := json.Marshal(decoded)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(again, &fromYAML); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(fromJSON, fromYAML); diff != "" {
		t.Errorf("the document (-JSON +YAML):\n%s", diff)
	}
	home, err := http.NewRequest("GET", c.base+"/", nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := c.http.Transport.RoundTrip(home) // follows no redirection
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if response.StatusCode != 302 || response.Header.Get("Location") != "/docs" {
		t.Errorf("/ answers %d to %q", response.StatusCode, response.Header.Get("Location"))
	}
}

// TestHealth checks what the service says about itself.
func TestHealth(t *testing.T) {
	c := newClient(t)
	var h struct {
		Status   string `json:"status"`
		Version  string `json:"version"`
		Age      int    `json:"age"`
		Database *struct {
			Status  string  `json:"status"`
			Latency float64 `json:"latency_ms"`
		} `json:"database"`
	}
	for _, query := range []string{"", "?deep=false"} {
		c.call("GET", "/health"+query, nil).want(t, 200).strictly(t, &h)
		if h.Status != "ok" || h.Version == "" || h.Database != nil {
			t.Errorf("%+v", h)
		}
	}
	c.call("GET", "/health?deep=true", nil).want(t, 200).strictly(t, &h)
	if h.Database == nil || h.Database.Status != "ok" || h.Database.Latency <= 0 {
		t.Errorf("%+v with the database %+v", h, h.Database)
	}
	for _, query := range []string{"deep=1", "deep=", "deep", "deep=TRUE"} {
		c.call("GET", "/health?"+query, nil).want(t, 422).wantFields(t, "deep")
	}
	c.call("GET", "/health?deep=true&deep=true", nil).want(t, 422)
}
