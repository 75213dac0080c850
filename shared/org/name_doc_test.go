package org_test

import (
	"os"
	"regexp"
	"testing"

	"orgservice/shared/org"
)

// TestNamesPage checks the examples of docs/names.md.
func TestNamesPage(t *testing.T) {
	page, err := os.ReadFile("../../docs/names.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := regexp.MustCompile("(?m)^\\| `(.*)` \\| `(.*)` \\|$").FindAllStringSubmatch(string(page), -1)
	if len(rows) < 10 {
		t.Fatalf("the page has %d examples; want at least 10", len(rows))
	}
	for _, row := range rows {
		if name, err := org.ParseName(row[1]); err != nil || name.Collection() != row[2] {
			t.Errorf("%q: %q, %v; the page says %q", row[1], name.Collection(), err, row[2])
		}
	}
}
