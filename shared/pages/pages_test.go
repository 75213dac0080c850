package pages_test

import (
	"bytes"
	"mime"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"orgservice/shared/api"
	"orgservice/shared/pages"
)

// TestProblems checks that every type of problem has a page, which says what it
// means and has links to pages that exist.
func TestProblems(t *testing.T) {
	link := regexp.MustCompile(`(?:href|src)="([^"]*)"`)
	found := map[string]bool{}
	for _, r := range api.Routes() {
		for _, problem := range r.Problems {
			page, ok := pages.Find(problem.Type)
			if !ok || !bytes.Contains(page.Content, []byte(r.Method+" "+r.Path)) {
				t.Errorf("the page of %s, which %s %s may answer: %v\n%s", problem.Type, r.Method, r.Path, ok, page.Content)
			}
			links := link.FindAllSubmatch(page.Content, -1)
			if len(links) < 20 {
				t.Errorf("%s has %d links", problem.Type, len(links))
			}
			for _, m := range links {
				target := string(m[1])
				if found[target] {
					continue
				}
				if _, found[target] = pages.Find(target); !found[target] {
					t.Errorf("%s has a link to %s", problem.Type, target)
				}
			}
		}
	}
}

// TestRoutes checks that every route of a page has one.
func TestRoutes(t *testing.T) {
	value := strings.NewReplacer("{reason}", "name-taken", "{file}", "swagger-ui-bundle.js")
	for _, r := range api.Routes() {
		if !r.Page {
			continue
		}
		page, ok := pages.Find(value.Replace(r.Path))
		if !ok {
			t.Errorf("there is no page at %s", r.Path)
			continue
		}
		w := httptest.NewRecorder()
		page.ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
		if w.Code != r.Status {
			t.Errorf("%s answers %d, not %d", r.Path, w.Code, r.Status)
		}
		if r.MediaType != "" && !strings.HasPrefix(w.Header().Get("Content-Type"), r.MediaType) {
			t.Errorf("%s is of type %s, not %s", r.Path, w.Header().Get("Content-Type"), r.MediaType)
		}
		if policy := w.Header().Get("Content-Security-Policy"); strings.Contains(policy, "script-src 'self' ") || !strings.Contains(policy, "default-src 'none'; script-src 'self';") {
			t.Errorf("%s has the policy %q", r.Path, policy)
		}
	}
	if _, ok := pages.Find("/assets/../pages.go"); ok {
		t.Error("a source file is a page")
	}
}

// TestTypes checks that a file is served with the same type on every machine.
func TestTypes(t *testing.T) {
	want := "text/javascript; charset=utf-8"
	if err := mime.AddExtensionType(".js", "application/javascript"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { mime.AddExtensionType(".js", want) })
	for _, name := range []string{"docs.js", "swagger-ui-bundle.js"} {
		if page, ok := pages.Find("/assets/" + name); !ok || page.Type != want {
			t.Errorf("%s: %v, %s, want %s", name, ok, page.Type, want)
		}
	}
}
