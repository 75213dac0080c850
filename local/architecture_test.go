package main

import (
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"orgservice/local/gateway"
)

// dependencies returns the packages that pkg links, with pkg itself.
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

// TestImports checks that imports go one way: functions → api, wire, mail → mongodb,
// config → org → auth, metrics, trace, and mail, config → awsapi. Package mail stands beside wire, so that only functions that
// send mail link what that needs. No function and no package of shared may link a
// package of local; only their tests import local/mongodbtest.
func TestImports(t *testing.T) {
	const (
		driver   = "go.mongodb.org/mongo-driver/"
		ferretdb = "github.com/FerretDB/"
		adapter  = "github.com/awslabs/aws-lambda-go-api-proxy/"
		lambda   = "github.com/aws/aws-lambda-go/"
		sdk      = "github.com/aws/aws-sdk-go-v2/"
		mailer   = "orgservice/shared/mail"
		smtp     = "github.com/wneessen/go-mail"
	)
	rules := map[string][]string{
		"./shared/auth":          {"orgservice/", driver, adapter, lambda, sdk},
		"./shared/breach":        {"orgservice/", driver, adapter, lambda, sdk},
		"./shared/org":           {"orgservice/shared/api", "orgservice/shared/mongodb", "orgservice/shared/config", driver, adapter, lambda, sdk, "net/http"},
		"./shared/mongodb":       {"orgservice/shared/api", "orgservice/shared/config", adapter, lambda, sdk},
		"./shared/awsapi":        {"orgservice/", driver, adapter, lambda},
		"./shared/metrics":       {"orgservice/", driver, adapter, lambda, sdk, "net/"},
		"./shared/trace":         {"orgservice/", driver, adapter, lambda, sdk, "net/http"},
		"./shared/config":        {"orgservice/shared/api", "orgservice/shared/mongodb", "orgservice/shared/org", driver, adapter, lambda, mailer, smtp},
		"./shared/mail":          {"orgservice/shared/api", "orgservice/shared/mongodb", "orgservice/shared/wire", driver, adapter, lambda},
		"./shared/api":           {"orgservice/shared/mongodb", "orgservice/shared/config", driver, sdk},
		"./shared/wire":          {"orgservice/shared/api", adapter, lambda, mailer, smtp},
		"./functions/authorizer": {"orgservice/shared/api", "orgservice/shared/org", driver, adapter},
		"./functions/jwks":       {"orgservice/shared/mongodb", driver},
		"./functions/reconcile":  {"orgservice/shared/api", adapter},
	}
	for _, parent := range []string{"functions", "shared"} {
		folders, err := filepath.Glob(filepath.Join("..", parent, "*"))
		if err != nil || len(folders) == 0 {
			t.Fatalf("folders in %s: %v, %v", parent, folders, err)
		}
		for _, folder := range folders {
			pkg := "./" + parent + "/" + filepath.Base(folder)
			rules[pkg] = append(rules[pkg], "orgservice/local", ferretdb, "modernc.org/", sdk+"service/", sdk+"config", "testing", "github.com/google/jsonschema-go/", "github.com/getkin/")
		}
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
