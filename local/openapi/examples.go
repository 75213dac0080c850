package main

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"strconv"

	"github.com/google/jsonschema-go/jsonschema"

	"orgservice/shared/api"
)

// recorded has the examples of a route. TestExamples in local/e2e has recorded
// them from the running service.
type recorded struct {
	Request  json.RawMessage            `json:"request"`
	Response json.RawMessage            `json:"response"`
	Problems map[string]json.RawMessage `json:"problems"` // by reason
	Gateway  map[string]json.RawMessage `json:"gateway"`  // its own answers, by status
}

//go:embed examples.json
var examplesJSON []byte

// examples has the examples of each route, by its function.
var examples = mustParse(examplesJSON)

func mustParse(data []byte) (examples map[string]recorded) {
	if err := json.Unmarshal(data, &examples); err != nil {
		panic(err)
	}
	return examples
}

// requestID is the request_id of the examples.
const requestID = "8476a536-e9f4-11e8-9739-2dfe598c3fcd"

// problemExamples returns an example of each problem, and more if it was recorded
// with other words on another route of the failure. A problem that was recorded on
// none has the words of the table of problems.
func problemExamples(f *failure) map[string]example {
	found := map[string]example{}
	for _, p := range f.problems {
		for _, r := range f.routes {
			if body := examples[r.Function].Problems[p.Reason]; body != nil && !has(found, body) {
				name := p.Reason
				if _, taken := found[name]; taken {
					name += "-" + r.Function
				}
				found[name] = example{body}
			}
		}
		if _, ok := found[p.Reason]; !ok {
			found[p.Reason] = example{elsewhere(p)}
		}
	}
	return found
}

// elsewhere returns the example of a problem on any route.
func elsewhere(p api.Problem) json.RawMessage {
	for _, r := range api.Routes() {
		if body := examples[r.Function].Problems[p.Reason]; body != nil {
			return body
		}
	}
	return p.Example(requestID)
}

func has(found map[string]example, body json.RawMessage) bool {
	for _, e := range found {
		if bytes.Equal(e.Value, body) {
			return true
		}
	}
	return false
}

// withExample returns the schema of the gateway's answers with one that was
// recorded. Not every status of theirs was.
func withExample(s *jsonschema.Schema) *jsonschema.Schema {
	s = s.CloneSchemas()
	for _, r := range api.Routes() {
		if body := examples[r.Function].Gateway["401"]; body != nil {
			s.Examples = []any{body}
		}
	}
	return s
}

// gatewayExample returns an example of an answer of the gateway, or nil if none of
// that status was recorded.
func gatewayExample(f *failure) json.RawMessage {
	for _, r := range f.routes {
		if body := examples[r.Function].Gateway[strconv.Itoa(f.status)]; body != nil {
			return body
		}
	}
	return nil
}
