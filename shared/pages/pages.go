// Package pages has the pages of the service: its documentation with Swagger UI
// and with ReDoc, the OpenAPI document, what each type of problem means, and where links
// in mails lead to if there is no web application for that. All of it is in the binary,
// and no page loads anything from elsewhere.
package pages

import (
	"bytes"
	"embed"
	"path"
	"strings"
	"sync"

	swaggerui "github.com/swaggest/swgui/v5/static"
	"go.yaml.in/yaml/v3"

	"orgservice/shared/api"
)

var (
	//go:embed assets
	assets embed.FS

	// ReDoc is here only if make redoc has fetched it, which needs npm.
	//
	//go:embed all:redoc
	redoc embed.FS
)

const html = "text/html; charset=utf-8"

// Find returns the page at a path, and whether there is one.
func Find(path string) (api.Page, bool) {
	switch path {
	case "/":
		return api.Page{Location: "/docs"}, true
	case "/docs":
		return api.Page{Type: html, Content: asset("docs.html")}, true
	case "/redoc":
		if _, ok := file("redoc.standalone.js"); !ok {
			return api.Page{Type: html, Content: asset("noredoc.html")}, true
		}
		return api.Page{Type: html, Content: asset("redoc.html"), Styles: true}, true
	case "/verify-email", "/reset-password", "/accept-invitation", "/finish-sign-up":
		return api.Page{Type: html, Content: asset("ticket.html")}, true
	case "/openapi.json":
		return api.Page{Type: "application/json", Content: api.Document()}, true
	case "/openapi.yaml":
		return api.Page{Type: "application/yaml", Content: inYAML()}, true
	}
	if name, ok := strings.CutPrefix(path, "/assets/"); ok {
		return file(name)
	}
	if reason, ok := strings.CutPrefix(path, "/problems/"); ok {
		return problem(reason)
	}
	return api.Page{}, false
}

// asset returns a file that is in the repository.
func asset(name string) []byte {
	content, err := assets.ReadFile("assets/" + name)
	if err != nil {
		panic(err)
	}
	return content
}

// types has the media types of files. Those of package mime depend on the machine.
var types = map[string]string{
	".css": "text/css; charset=utf-8",
	".js":  "text/javascript; charset=utf-8",
	".svg": "image/svg+xml",
}

// file returns a file that a page loads: one of our own, of Swagger UI or of
// ReDoc. A name that types has no type for, such as one that ends in .html, is none.
func file(name string) (api.Page, bool) {
	p := api.Page{Type: types[path.Ext(name)]}
	if p.Type == "" {
		return p, false
	}
	for _, source := range []struct {
		files   embed.FS
		path    string
		gzipped bool
	}{
		{assets, "assets/" + name, false},
		{swaggerui.FS, name + ".gz", true},
		{redoc, "redoc/" + name + ".gz", true},
	} {
		if content, err := source.files.ReadFile(source.path); err == nil {
			p.Content, p.Gzipped = content, source.gzipped
			return p, true
		}
	}
	return p, false
}

// inYAML returns the OpenAPI document in YAML. It makes it once.
var inYAML = sync.OnceValue(func() []byte { return toYAML(api.Document()) })

// toYAML returns a JSON document in YAML, with the fields in the same order.
func toYAML(json []byte) []byte {
	var node yaml.Node
	if err := yaml.Unmarshal(json, &node); err != nil {
		panic(err) // JSON is YAML
	}
	toBlocks(&node)
	var b bytes.Buffer
	encoder := yaml.NewEncoder(&b)
	encoder.SetIndent(2)
	if err := encoder.Encode(&node); err != nil {
		panic(err)
	}
	return b.Bytes()
}

// toBlocks removes the braces and the quotes of JSON where YAML needs none.
func toBlocks(n *yaml.Node) {
	n.Style = 0
	for _, child := range n.Content {
		toBlocks(child)
	}
}
