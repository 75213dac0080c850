package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"orgservice/local/gateway"
)

// dependencies returns the packages that a package links, itself included.
func dependencies(t *testing.T, pkg string) []string {
	t.Helper()
	cmd := exec.Command("go", "list", "-deps", "-tags", gateway.BuildTags, pkg)
	cmd.Dir = ".."
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list -deps %s: %v", pkg, err)
	}
	return strings.Fields(string(out))
}

// TestImports keeps imports running one way: functions → api, wire → mongodb,
// config → org → auth, and what is for a laptop, or for one function alone, out
// of the others.
func TestImports(t *testing.T) {
	const (
		driver   = "go.mongodb.org/mongo-driver/"
		ferretdb = "github.com/FerretDB/"
		adapter  = "github.com/awslabs/aws-lambda-go-api-proxy/"
		lambda   = "github.com/aws/aws-lambda-go/"
		sdk      = "github.com/aws/aws-sdk-go-v2/"
		sdkHeavy = sdk + "config"
	)
	rules := map[string][]string{
		"./shared/auth":          {"orgservice/", driver, adapter, lambda, sdk},
		"./shared/org":           {"orgservice/shared/api", "orgservice/shared/mongodb", "orgservice/shared/config", "orgservice/local", driver, adapter, lambda, sdk, "net/http"},
		"./shared/mongodb":       {"orgservice/shared/api", "orgservice/shared/config", "orgservice/local", adapter, lambda, sdk},
		"./shared/config":        {"orgservice/shared/api", "orgservice/shared/mongodb", "orgservice/shared/org", "orgservice/local", driver, adapter, lambda, sdkHeavy},
		"./shared/api":           {"orgservice/shared/mongodb", "orgservice/shared/config", "orgservice/local", driver, sdk},
		"./shared/wire":          {"orgservice/shared/api", "orgservice/local", adapter, lambda, sdkHeavy},
		"./functions/authorizer": {"orgservice/shared/api", "orgservice/shared/org", driver, adapter},
		"./functions/jwks":       {"orgservice/shared/mongodb", driver},
		"./functions/reconcile":  {"orgservice/shared/api", adapter},
	}
	functions, err := filepath.Glob("../functions/*")
	if err != nil || len(functions) == 0 {
		t.Fatalf("functions: %v, %v", functions, err)
	}
	for _, folder := range functions {
		pkg := "./functions/" + filepath.Base(folder)
		rules[pkg] = append(rules[pkg], "orgservice/local", ferretdb, "modernc.org/", sdkHeavy, "testing")
	}
	for pkg, forbidden := range rules {
		t.Run(pkg, func(t *testing.T) {
			deps := dependencies(t, pkg)
			for _, dep := range deps {
				if strings.HasSuffix(pkg, dep[strings.Index(dep, "/")+1:]) && strings.HasPrefix(dep, "orgservice/") {
					continue // itself
				}
				if i := slices.IndexFunc(forbidden, func(f string) bool { return strings.HasPrefix(dep, f) }); i >= 0 {
					t.Errorf("it links %s", dep)
				}
			}
		})
	}
}

// TestBuildFlags compares how the local gateway and the deployment build.
func TestBuildFlags(t *testing.T) {
	makefile, err := os.ReadFile("../Makefile")
	if err != nil {
		t.Fatal(err)
	}
	want := "CGO_ENABLED=0 GOFLAGS='-tags=" + gateway.BuildTags + " -ldflags=" + gateway.LDFlags + " "
	if !strings.Contains(string(makefile), "BUILD_ENV = "+want) {
		t.Errorf("the Makefile's BUILD_ENV does not begin with %s", want)
	}
}
