package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/google/go-cmp/cmp"

	"orgservice/shared/api"
	"orgservice/shared/auth"
	"orgservice/shared/org"
)

// TestDrift checks that the document is what the table of routes and the types
// make today.
func TestDrift(t *testing.T) {
	want, err := generate()
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(filepath.Join("../..", path))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(want, got) {
		t.Errorf("make openapi would change %s (-made +committed):\n%s", path, cmp.Diff(string(want), string(got)))
	}
	for range 10 {
		if again, err := generate(); err != nil || !bytes.Equal(want, again) {
			t.Fatalf("the same sources make another document: %v\n%s", err, cmp.Diff(string(want), string(again)))
		}
	}
}

// TestValid checks the document with a library that has not made it, and the
// examples with their schemas.
func TestValid(t *testing.T) {
	if err := load(t).Validate(t.Context(), openapi3.EnableExamplesValidation()); err != nil {
		t.Error(err)
	}
}

// TestExamples checks that every request, every answer and every problem in the
// document has an example, and every operation a group.
func TestExamples(t *testing.T) {
	d := load(t)
	for _, r := range api.Routes() {
		o := d.Paths.Value(r.Path).GetOperation(r.Method)
		if len(o.Tags) != 1 || d.Tags.Get(o.Tags[0]) == nil {
			t.Errorf("%s has the tags %v", r.Function, o.Tags)
		}
		mediaType := jsonType
		if r.Form {
			mediaType = formType
		}
		if r.Request != nil && (o.RequestBody.Value.Content[mediaType] == nil || o.RequestBody.Value.Content[mediaType].Example == nil) {
			t.Errorf("%s has no example of a request", r.Function)
		}
		if c := o.Responses.Status(r.Status).Value.Content[jsonType]; c != nil && c.Example == nil && !r.Page {
			t.Errorf("%s has no example of its success", r.Function)
		}
		for _, p := range r.Problems {
			found := false
			for _, e := range o.Responses.Status(p.Status).Value.Content[problemType].Examples {
				body, _ := e.Value.Value.(map[string]any)
				found = found || body["type"] == p.Type
			}
			if !found {
				t.Errorf("%s has no example of %s", r.Function, p.Reason)
			}
		}
	}
}

// load returns the document as the other library reads it.
func load(t *testing.T) *openapi3.T {
	t.Helper()
	data, err := generate()
	if err != nil {
		t.Fatal(err)
	}
	d, err := openapi3.NewLoader().LoadFromData(data)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// TestSchemasOfRequests checks that the service refuses every body that its schema
// refuses, for all combinations of values at the bounds.
func TestSchemasOfRequests(t *testing.T) {
	d, err := newDocument()
	if err != nil {
		t.Fatal(err)
	}
	values := []any{
		nil, "", "a", "owner", "é234567", "é2345678", "Acme", "admin@example.com", strings.Repeat("pass", 32), strings.Repeat("pass", 32) + "p",
		strings.Repeat("n", 100), strings.Repeat("é", 101), emailOf(254), emailOf(255), " " + emailOf(254) + " ",
		"a" + strings.Repeat(" ", 200) + "b",
	}
	for _, r := range api.Routes() {
		if r.Request == nil {
			continue
		}
		t.Run(r.Function, func(t *testing.T) {
			schema, err := d.Components.Schemas[nameOf(r.Request)].Resolve(nil)
			if err != nil {
				t.Fatal(err)
			}
			names := d.Components.Schemas[nameOf(r.Request)].PropertyOrder
			accepted, refused := 0, 0
			var check func(body map[string]any, names []string)
			check = func(body map[string]any, names []string) {
				if len(names) > 0 {
					for _, v := range values {
						if delete(body, names[0]); v != nil {
							body[names[0]] = v
						}
						check(body, names[1:])
					}
					return
				}
				wrong := validate(t, r.Request, body)
				bySchema := schema.Validate(body)
				switch {
				case len(wrong) == 0 && bySchema != nil:
					t.Fatalf("%v is accepted, but by the schema: %v", body, bySchema)
				case bySchema != nil:
					refused++
				case len(wrong) == 0:
					accepted++
				}
			}
			check(map[string]any{}, names)
			if accepted == 0 || refused == 0 {
				t.Errorf("%d accepted by both, %d refused by both", accepted, refused)
			}
		})
	}
}

// TestSchemaOfUpdate checks that the schema says which fields need which, and how
// long the current password must be then.
func TestSchemaOfUpdate(t *testing.T) {
	d, err := newDocument()
	if err != nil {
		t.Fatal(err)
	}
	schema, err := d.Components.Schemas["UpdateRequest"].Resolve(nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, current := range []string{"", "x", strings.Repeat("pass", 32), strings.Repeat("pass", 32) + "p"} {
		fields := []struct{ name, value string }{
			{"organization_name", "Acme"}, {"email", "admin@example.com"}, {"password", "Another@123"}, {"current_password", current},
		}
		for subset := range 1 << len(fields) {
			body := map[string]any{}
			for i, f := range fields {
				if subset&(1<<i) != 0 {
					body[f.name] = f.value
				}
			}
			wrong := validate(t, reflect.TypeFor[org.UpdateRequest](), body)
			if err := schema.Validate(body); (err == nil) != (len(wrong) == 0) {
				t.Errorf("%v: %v by the service and %v by the schema", body, wrong, err)
			}
		}
	}
}

// TestKeySet checks that the schema of the key set has every field that the service
// publishes.
func TestKeySet(t *testing.T) {
	ed, _, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	p256, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	var keys []byte
	for _, key := range []any{ed, p256.Public()} {
		der, err := x509.MarshalPKIXPublicKey(key)
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})...)
	}
	closed := keySet.CloneSchemas()
	closed.AdditionalProperties = refusesAll()
	closed.Properties["keys"].Items.AdditionalProperties = refusesAll()
	schema, err := closed.Resolve(nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, data := range [][]byte{nil, keys} {
		set, err := auth.JWKS(data)
		if err != nil {
			t.Fatal(err)
		}
		var v any
		if err := json.Unmarshal(set, &v); err != nil {
			t.Fatal(err)
		}
		if err := schema.Validate(v); err != nil {
			t.Errorf("%s: %v", set, err)
		}
	}
}

// validate returns what the service finds wrong with a body.
func validate(t *testing.T, request reflect.Type, body map[string]any) []org.FieldError {
	t.Helper()
	data, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	v := reflect.New(request)
	if err := json.Unmarshal(data, v.Interface()); err != nil {
		t.Fatal(err)
	}
	return v.Interface().(interface{ Validate() []org.FieldError }).Validate()
}

func emailOf(length int) string {
	const domain = "@example.com"
	return strings.Repeat("e", length-len(domain)) + domain
}
