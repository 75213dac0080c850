package main_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestSecurity checks that each row of SECURITY.md names what shows it: tests that are in
// the folder named before them, or files.
func TestSecurity(t *testing.T) {
	declared := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz|Benchmark)\w+)\(`)
	word := regexp.MustCompile("`([^`]+)`|\\b((?:Test|Fuzz|Benchmark)[A-Z]\\w*)(…?)|\\b(\\w+\\.py)\\b")
	tests := map[string][]string{} // by folder
	testsIn := func(folder string) []string {
		if tests[folder] == nil {
			paths, err := filepath.Glob(filepath.Join("..", folder, "*_test.go"))
			if err != nil {
				t.Fatal(err)
			}
			for _, path := range paths {
				tests[folder] = append(tests[folder], submatches(declared, string(readFile(t, strings.TrimPrefix(path, "../"))))...)
			}
		}
		return tests[folder]
	}
	rows := 0
	for line := range strings.Lines(string(readFile(t, "SECURITY.md"))) {
		cells := strings.Split(strings.TrimSuffix(strings.TrimSpace(line), "|"), "|")
		if cells[0] != "" || len(cells) < 3 || strings.Contains(line, "|---|") || strings.HasPrefix(line, "| requirement |") || strings.HasPrefix(line, "| case |") {
			continue
		}
		rows++
		folder, shown := "", 0
		exists := func(path string) bool {
			_, err := os.Stat(filepath.Join("..", path))
			return err == nil
		}
		for _, m := range word.FindAllStringSubmatch(cells[len(cells)-1], -1) {
			switch {
			case m[1] != "":
				if folder = m[1]; !exists(folder) {
					t.Errorf("there is no %s: %s", folder, line)
				}
				if filepath.Ext(folder) != "" {
					shown++
				}
			case m[4] != "":
				if shown++; !exists(filepath.Join(folder, m[4])) {
					t.Errorf("%s has no %s: %s", folder, m[4], line)
				}
			default:
				shown++
				found := false
				for _, name := range testsIn(folder) {
					found = found || name == m[2] || m[3] != "" && strings.HasPrefix(name, m[2])
				}
				if !found {
					t.Errorf("%s has no %s: %s", folder, m[2], line)
				}
			}
		}
		if shown == 0 {
			t.Errorf("nothing shows %s", line)
		}
	}
	if rows < 50 {
		t.Errorf("%d rows", rows)
	}
}
