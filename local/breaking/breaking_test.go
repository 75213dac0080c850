// Package breaking checks that a change of the API breaks no client of the released
// API, or raises the major version. It is a module of its own, so that the project
// does not depend on all that oasdiff depends on.
package breaking

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/oasdiff/oasdiff/checker"
	"github.com/oasdiff/oasdiff/diff"
	"github.com/oasdiff/oasdiff/load"
	"golang.org/x/mod/semver"
)

// TestReleased compares the OpenAPI document with that of the last release.
func TestReleased(t *testing.T) {
	released, current := read(t, "../openapi/released.json"), read(t, "../../shared/api/openapi.json")
	if err := check(released, current); err != nil {
		t.Error(err)
	}
}

// check returns an error if the current document breaks clients of the released
// one and its major version is not higher.
func check(released, current *openapi3.T) error {
	before, now := "v"+released.Info.Version, "v"+current.Info.Version
	if !semver.IsValid(now) || semver.Compare(now, before) < 0 {
		return fmt.Errorf("info.version is %s, after %s", current.Info.Version, released.Info.Version)
	}
	changes, err := breakingChanges(released, current)
	if err != nil || len(changes) == 0 || semver.Compare(semver.Major(now), semver.Major(before)) > 0 {
		return err
	}
	return fmt.Errorf("clients of %s break, so that info.version %s must get a higher major version:\n%s",
		released.Info.Version, current.Info.Version, strings.Join(changes, "\n"))
}

// breakingChanges returns what breaks clients or may do so, in sentences. It leaves
// the new types of problems out of current.
func breakingChanges(released, current *openapi3.T) ([]string, error) {
	for path, item := range released.Paths.Map() {
		for method, operation := range item.Operations() {
			if now := current.Paths.Value(path); now != nil && now.GetOperation(method) != nil {
				dropNewProblems(operation.Responses, now.GetOperation(method).Responses)
			}
		}
	}
	d, sources, err := diff.GetWithOperationsSourcesMap(diff.NewConfig(), &load.SpecInfo{Spec: released}, &load.SpecInfo{Spec: current})
	if err != nil {
		return nil, err
	}
	var changes []string
	for _, c := range checker.CheckBackwardCompatibility(checker.NewConfig(checker.GetAllChecks()), d, sources) {
		changes = append(changes, strings.TrimSpace(fmt.Sprintf("%s %s %s", c.GetOperation(), c.GetPath(), c.GetUncolorizedText(checker.NewDefaultLocalizer()))))
	}
	return changes, nil
}

// dropNewProblems leaves out of each answer of current the types of problems that it
// has got since. A client takes a type that it does not know by its status.
func dropNewProblems(released, current *openapi3.Responses) {
	const problem = "application/problem+json"
	for status, before := range released.Map() {
		now := current.Value(status)
		if now == nil || before.Value.Content[problem] == nil || now.Value.Content[problem] == nil {
			continue
		}
		old, media := before.Value.Content[problem].Schema, now.Value.Content[problem]
		if old.Ref == "" && media.Schema.Ref == "" {
			media.Schema.Value.OneOf = slices.DeleteFunc(slices.Clone(media.Schema.Value.OneOf), func(s *openapi3.SchemaRef) bool {
				return !slices.ContainsFunc(old.Value.OneOf, func(o *openapi3.SchemaRef) bool { return o.Ref == s.Ref })
			})
		} else if i := slices.IndexFunc(media.Schema.Value.OneOf, func(s *openapi3.SchemaRef) bool { return s.Ref == old.Ref }); i >= 0 {
			media.Schema = media.Schema.Value.OneOf[i]
		}
	}
}

// TestCheck checks what passes with which version.
func TestCheck(t *testing.T) {
	tests := map[string]struct {
		change   func(edit)
		breaking bool
	}{
		"nothing":       {func(edit) {}, false},
		"a description": {func(e edit) { e.at("components schemas Organization properties id")["description"] = "Another." }, false},
		"a new field of a response": {func(e edit) {
			e.at("components schemas Organization properties")["plan"] = map[string]any{"type": "string"}
		}, false},
		"a new optional field": {func(e edit) {
			e.at("components schemas CreateRequest properties")["plan"] = map[string]any{"type": "string"}
		}, false},
		"a new type of a problem": {func(e edit) {
			e.at("components responses NotFound content application/problem+json")["schema"] = map[string]any{"oneOf": []any{
				map[string]any{"$ref": "#/components/schemas/OrganizationNotFoundProblem"},
				map[string]any{"$ref": "#/components/schemas/PageNotFoundProblem"},
			}}
		}, false},
		"another type of a problem instead": {func(e edit) {
			e.at("components responses NotFound content application/problem+json")["schema"] = map[string]any{
				"$ref": "#/components/schemas/NameTakenProblem",
			}
		}, true},
		"a new type of a problem beside others": {func(e edit) {
			one := e.at("components responses Conflict content application/problem+json schema")
			one["oneOf"] = append(one["oneOf"].([]any), map[string]any{"$ref": "#/components/schemas/PageNotFoundProblem"})
		}, false},
		"a new route": {func(e edit) {
			e.at("paths")["/new"] = e.at("paths")["/admin/me"]
			delete(e.at("paths /new get"), "operationId")
		}, false},
		"a removed route":                {func(e edit) { delete(e.at("paths"), "/admin/me") }, true},
		"a removed field of a response":  {func(e edit) { e.remove("Organization", "created_at") }, true},
		"a removed field of a request":   {func(e edit) { e.remove("UpdateRequest", "email") }, true},
		"an optional field":              {func(e edit) { e.at("components schemas Organization")["required"] = []any{"id"} }, true},
		"a required field":               {func(e edit) { e.at("components schemas UpdateRequest")["required"] = []any{"email"} }, true},
		"another type":                   {func(e edit) { e.at("components schemas Tokens properties expires_in")["type"] = "string" }, true},
		"a longer password":              {func(e edit) { e.at("components schemas CreateRequest properties password")["minLength"] = 12 }, true},
		"a required parameter":           {func(e edit) { e.at("paths /org/delete delete parameters 0")["required"] = true }, true},
		"a token that was not necessary": {func(e edit) { e.at("paths /org/get get")["security"] = []any{map[string]any{"token": []any{}}} }, true},
		"another type of a problem":      {func(e edit) { e.at("components schemas NameTakenProblem properties type")["const"] = "/problems/x" }, true},
		"another status of a success":    {func(e edit) { r := e.at("paths /org/create post responses"); r["200"] = r["201"]; delete(r, "201") }, true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			for version, passes := range map[string]bool{"1.0.0": !test.breaking, "1.1.0": !test.breaking, "2.0.0": true} {
				e := edit{t, document(t)}
				test.change(e)
				e.at("info")["version"] = version
				if err := check(parse(t, document(t)), parse(t, e.document)); (err == nil) != passes {
					t.Errorf("as version %s: %v", version, err)
				}
			}
		})
	}
}

// TestVersion checks that a version must be one, and must not go back.
func TestVersion(t *testing.T) {
	for version, passes := range map[string]bool{"1.0.0": true, "1.0.1": true, "0.9.0": false, "1.0.0-rc.1": false, "1.1.0.0": false, "two": false} {
		e := edit{t, document(t)}
		e.at("info")["version"] = version
		if err := check(parse(t, document(t)), parse(t, e.document)); (err == nil) != passes {
			t.Errorf("version %s: %v", version, err)
		}
	}
}

// edit is a document that a test changes.
type edit struct {
	t        *testing.T
	document map[string]any
}

// at returns the object at a path, whose steps are names and indexes.
func (e edit) at(path string) map[string]any {
	e.t.Helper()
	var v any = e.document
	for step := range strings.FieldsSeq(path) {
		switch parent := v.(type) {
		case map[string]any:
			v = parent[step]
		case []any:
			v = parent[step[0]-'0']
		}
	}
	object, ok := v.(map[string]any)
	if !ok {
		e.t.Fatalf("there is no %s", path)
	}
	return object
}

// remove removes a field from a schema.
func (e edit) remove(schema, field string) {
	e.t.Helper()
	s := e.at("components schemas " + schema)
	delete(e.at("components schemas "+schema+" properties"), field)
	required, _ := s["required"].([]any)
	kept := []any{}
	for _, name := range required {
		if name != field {
			kept = append(kept, name)
		}
	}
	s["required"] = kept
}

// document returns the document of today as version 1.0.0.
func document(t *testing.T) map[string]any {
	t.Helper()
	data, err := os.ReadFile("../../shared/api/openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	var v map[string]any
	if err := json.Unmarshal(data, &v); err != nil {
		t.Fatal(err)
	}
	edit{t, v}.at("info")["version"] = "1.0.0"
	return v
}

func parse(t *testing.T, v map[string]any) *openapi3.T {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	d, err := openapi3.NewLoader().LoadFromData(data)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func read(t *testing.T, path string) *openapi3.T {
	t.Helper()
	d, err := openapi3.NewLoader().LoadFromFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return d
}
