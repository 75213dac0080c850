package api

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	_ "embed"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Version is the version of the API. A change that breaks a client raises its
// first number (https://semver.org).
const Version = "1.0.0"

//go:embed openapi.json
var document []byte

// Document returns the OpenAPI document in JSON. The caller must not change it.
func Document() []byte { return document }

// Page is a response that is the same for every client: a document, or a
// redirection to one.
type Page struct {
	Type     string // media type of the content, with its charset
	Content  []byte
	Gzipped  bool   // the content is compressed
	Styles   bool   // the page makes style elements
	Location string // path to redirect to instead
}

// policy returns the Content-Security-Policy of the page: all that it uses is of
// the service. The icons of Swagger UI are in data URLs.
func (p Page) policy() string {
	styles := "'self'"
	if p.Styles {
		styles += " 'unsafe-inline'"
	}
	return "default-src 'none'; script-src 'self'; style-src " + styles + "; img-src 'self' data:; connect-src 'self'; " +
		"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
}

// ServeHTTP answers a GET request with the page. Caches may store it, but must
// ask whether it is still the same.
func (p Page) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	header := w.Header()
	header.Set("Cache-Control", "no-cache")
	header.Set("Content-Security-Policy", p.policy())
	header.Set("Referrer-Policy", "no-referrer")
	if p.Location != "" {
		header.Set("Location", p.Location)
		w.WriteHeader(http.StatusFound)
		return
	}
	r = r.Clone(r.Context())
	for _, name := range []string{"Range", "If-Match"} { // a page is sent whole, or not again
		r.Header.Del(name)
	}
	for _, name := range []string{"Accept-Encoding", "If-None-Match"} {
		r.Header.Set(name, strings.Join(r.Header.Values(name), ",")) // the adapter splits lists
	}
	content := p.Content
	header.Set("Vary", "Accept-Encoding")
	header.Set("ETag", fmt.Sprintf(`W/"%x"`, sha256.Sum256(content))) // weak: the same for both encodings
	if acceptsGzip(r) {
		header.Set("Content-Encoding", "gzip")
		if !p.Gzipped {
			content = compress(content)
		}
	} else if p.Gzipped {
		content = decompress(content)
	}
	header.Set("Content-Type", p.Type)
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(content))
}

// acceptsGzip reports whether the client understands gzip (RFC 9110, section
// 12.5.3).
func acceptsGzip(r *http.Request) bool {
	for coding := range strings.SplitSeq(r.Header.Get("Accept-Encoding"), ",") {
		name, parameter, _ := strings.Cut(coding, ";")
		if strings.EqualFold(strings.TrimSpace(name), "gzip") {
			_, weight, weighted := strings.Cut(parameter, "=")
			q, err := strconv.ParseFloat(strings.TrimSpace(weight), 64)
			return !weighted || err == nil && q > 0
		}
	}
	return false
}

func compress(content []byte) []byte {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	z.Write(content) // into memory: it can't fail
	z.Close()
	return b.Bytes()
}

// decompress panics if the content is not compressed, which is a bug.
func decompress(content []byte) []byte {
	z, err := gzip.NewReader(bytes.NewReader(content))
	if err != nil {
		panic(err)
	}
	plain, err := io.ReadAll(z)
	if err != nil {
		panic(err)
	}
	return plain
}
