// Command openapi writes the OpenAPI document of the service, which it makes from
// the table of routes in package api and the Go types there.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
)

// path is where the document is, seen from the root of the repository.
const path = "shared/api/openapi.json"

func main() {
	data, err := generate()
	if err == nil {
		err = os.WriteFile(path, data, 0o644)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "openapi:", err)
		os.Exit(1)
	}
}

// generate returns the document in JSON, always the same.
func generate() ([]byte, error) {
	d, err := newDocument()
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	err = encoder.Encode(d)
	return b.Bytes(), err
}
