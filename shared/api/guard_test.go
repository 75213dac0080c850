package api

import (
	"errors"
	"fmt"
	"go/ast"
	"go/constant"
	"go/parser"
	"go/token"
	"go/types"
	"maps"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"orgservice/shared/org"
)

// kindsOf returns the constants of type Kind in the source of package org.
func kindsOf(t *testing.T) map[org.Kind]string {
	t.Helper()
	paths, err := filepath.Glob("../org/*.go")
	if err != nil {
		t.Fatal(err)
	}
	files := token.NewFileSet()
	var parsed []*ast.File
	for _, path := range paths {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(files, path, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		parsed = append(parsed, f)
	}
	// The imports are missing. The errors that this causes don't matter: the
	// constants have their values.
	check := types.Config{IgnoreFuncBodies: true, Error: func(error) {}}
	checked, _ := check.Check("org", files, parsed, nil)
	kinds := map[org.Kind]string{}
	for _, name := range checked.Scope().Names() {
		c, ok := checked.Scope().Lookup(name).(*types.Const)
		if !ok || c.Type().String() != "org.Kind" {
			continue
		}
		value, exact := constant.Int64Val(c.Val())
		if !exact {
			t.Fatalf("org.%s = %v", name, c.Val())
		}
		kinds[org.Kind(value)] = name
	}
	return kinds
}

// TestEveryKindHasAStatus fails for a new kind of error in package org that
// statuses lacks.
func TestEveryKindHasAStatus(t *testing.T) {
	kinds := kindsOf(t)
	if kinds[org.Invalid] != "Invalid" || kinds[org.Unavailable] != "Unavailable" {
		t.Fatalf("the kinds of package org: %v", kinds)
	}
	for kind, name := range kinds {
		p := newProblem(fmt.Errorf("wrapped: %w", &org.Error{Kind: kind, Message: "refused"}), "id")
		if statuses[kind] == 0 || p.Status != statuses[kind] || p.Title == "" || p.Detail != "refused" {
			t.Errorf("org.%s: status %d and the problem %+v", name, statuses[kind], p)
		}
	}
	if diff := cmp.Diff(slices.Sorted(maps.Keys(kinds)), slices.Sorted(maps.Keys(statuses))); diff != "" {
		t.Errorf("kinds (-org +statuses):\n%s", diff)
	}
	for _, err := range []error{errors.New("x"), &org.Error{Message: "x"}, &org.Error{Kind: -1, Message: "x"}} {
		if p := newProblem(err, "id"); p.Status != 500 || p.Detail != "internal error" {
			t.Errorf("%#v: %+v", err, p)
		}
	}
}

// counted is a request with a field that decode has no error message for.
type counted struct {
	Name  string `json:"name"`
	Count int    `json:"count"`
}

func (counted) Validate() []org.FieldError { return nil }

func TestHandlerRefusesFields(t *testing.T) {
	refusal := func(f func()) (message string) {
		defer func() { message, _ = recover().(string) }()
		f()
		return ""
	}
	got := refusal(func() { handler(endpoint{}, func(request[counted]) (any, error) { return nil, nil }) })
	want := "api: field Count of api.counted is of type int: decode has an error message for string and *string only"
	if got != want {
		t.Errorf("handler panics with %q, want %q", got, want)
	}

	type text string
	for _, tt := range []struct {
		name    string
		request any
		want    string // in the message; "" if the type is fine
	}{
		{"OK", struct {
			A string  `json:"a"`
			B *string `json:"b"`
			C int     `json:"-"`
		}{}, ""},
		{"OK empty", nothing{}, ""},
		{"not a struct", &counted{}, "not a struct"},
		{"bool", struct {
			A bool `json:"a"`
		}{}, "field A"},
		{"list", struct {
			A []string `json:"a"`
		}{}, "field A"},
		{"pointer to a number", struct {
			A *int `json:"a"`
		}{}, "field A"},
		{"struct", struct {
			A struct{} `json:"a"`
		}{}, "field A"},
		{"another type of string", struct {
			A text `json:"a"`
		}{}, "field A"},
		{"no tag", struct{ A string }{}, "field A"},
		{"option", struct {
			A string `json:"a,omitempty"`
		}{}, "field A"},
		{"embedded", struct{ counted }{}, "field counted"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := refusal(func() { checkFields(reflect.TypeOf(tt.request)) })
			if (got == "") != (tt.want == "") || !strings.Contains(got, tt.want) {
				t.Errorf("panics with %q, want %q", got, tt.want)
			}
		})
	}
}
