package main_test

import (
	"fmt"
	"strings"
	"testing"

	"orgservice/shared/metrics"
)

// TestMetricsTable checks that the table in docs/operations.md has all metrics, and no others.
func TestMetricsTable(t *testing.T) {
	var rows strings.Builder
	for _, d := range metrics.Definitions {
		by := ""
		if d.Dimension != "" {
			by = "`" + d.Dimension + "`"
		}
		fmt.Fprintf(&rows, "| `%s` | %s | %s | %s |\n", d.Name, d.Unit, by, d.Meaning)
	}
	const head = "| metric | unit | by | what it is |\n| --- | --- | --- | --- |\n"
	_, table, _ := strings.Cut(string(readFile(t, "docs", "operations.md")), head)
	table, _, _ = strings.Cut(table, "\n\n")
	if strings.TrimSpace(table) != strings.TrimSpace(rows.String()) {
		t.Errorf("the table is\n%s\nwant\n%s", table, rows.String())
	}
}
