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
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"orgservice/shared/org"
)

// constantsOf returns the names and values of the constants of a type in the
// source of package org.
func constantsOf(t *testing.T, typeName string) map[string]constant.Value {
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
	constants := map[string]constant.Value{}
	for _, name := range checked.Scope().Names() {
		if c, ok := checked.Scope().Lookup(name).(*types.Const); ok && c.Type().String() == "org."+typeName {
			constants[name] = c.Val()
		}
	}
	return constants
}

// TestEveryKindHasAStatus fails for a new kind of error in package org that
// statuses lacks.
func TestEveryKindHasAStatus(t *testing.T) {
	kinds := map[org.Kind]string{}
	for name, value := range constantsOf(t, "Kind") {
		kind, exact := constant.Int64Val(value)
		if !exact {
			t.Fatalf("org.%s = %v", name, value)
		}
		kinds[org.Kind(kind)] = name
	}
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

// TestEveryReasonHasAProblemType fails for a new reason in package org that
// problemTypes lacks, and for a type of problem that the README does not list
// with its status.
func TestEveryReasonHasAProblemType(t *testing.T) {
	byReason := map[org.Reason]problemType{}
	for _, p := range problemTypes {
		if _, duplicate := byReason[p.reason]; duplicate || p.meaning == "" || http.StatusText(p.status) == "" {
			t.Errorf("%+v is a duplicate, or not complete", p)
		}
		byReason[p.reason] = p
	}
	reasons := constantsOf(t, "Reason")
	if len(reasons) < 10 {
		t.Fatalf("the reasons of package org: %v", reasons)
	}
	for name, value := range reasons {
		if _, ok := byReason[org.Reason(constant.StringVal(value))]; !ok {
			t.Errorf("problemTypes lacks org.%s", name)
		}
	}
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	listed := map[org.Reason]int{}
	for _, row := range regexp.MustCompile(`(?m)^\| (\d{3}) \|(.*)\|$`).FindAllStringSubmatch(string(readme), -1) {
		for _, code := range regexp.MustCompile("`([a-z]+(?:-[a-z]+)+)`: ").FindAllStringSubmatch(row[2], -1) {
			listed[org.Reason(code[1])], _ = strconv.Atoi(row[1])
		}
	}
	want := map[org.Reason]int{}
	for reason, p := range byReason {
		want[reason] = p.status
	}
	if diff := cmp.Diff(want, listed); diff != "" {
		t.Errorf("types of problems (-problemTypes +README):\n%s", diff)
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
	got := refusal(func() {
		handler(&route[counted, nothing]{}, func(request[counted]) (nothing, error) { return nothing{}, nil })
	})
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
