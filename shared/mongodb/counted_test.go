package mongodb_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"orgservice/local/mongodbtest"
	"orgservice/shared/metrics"
	"orgservice/shared/org"
)

// TestCounted checks that commands are counted, and those that fail.
func TestCounted(t *testing.T) {
	db := mongodbtest.NewEmbedded(t)
	store := db.Open(t)
	t.Setenv("METRICS_NAMESPACE", "service")
	file, err := os.Create(filepath.Join(t.TempDir(), "stdout"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	stdout := os.Stdout
	os.Stdout = file
	defer func() { os.Stdout = stdout }()

	metrics.Begin()
	if err := store.CreateCollection(t.Context(), db.Name, "org_acme"); err != nil {
		t.Fatal(err)
	}
	another := org.Collection{Name: "org_acme", UUID: "0123456789abcdef0123456789abcdef"}
	if err := store.RenameCollection(t.Context(), db.Name, another, "org_bolt"); !errors.Is(err, org.ErrNotFound) {
		t.Fatal(err)
	}
	metrics.Write(nil)
	line, err := os.ReadFile(file.Name())
	if err != nil || !strings.Contains(string(line), `"DatabaseCommands":2`) || !strings.Contains(string(line), `"DatabaseFailures":1`) {
		t.Errorf("%s, %v; want 2 commands, of which 1 failed", line, err)
	}
}
