package main

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestFunctionStartErr starts one function of each kind without its settings. What keeps
// it from starting must pass the level of the log, which in AWS nothing does that is not
// JSON with a level.
func TestFunctionStartErr(t *testing.T) {
	bin := t.TempDir()
	build := exec.Command("go", "build", "-o", bin+string(filepath.Separator), "./functions/get", "./functions/authorizer", "./functions/reconcile")
	build.Dir, build.Stderr = "..", os.Stderr
	if err := build.Run(); err != nil {
		t.Fatal(err)
	}
	for name, variable := range map[string]string{"get": "MONGO_URL", "authorizer": "JWT_SECRET", "reconcile": "MONGO_URL"} {
		cmd := exec.Command(filepath.Join(bin, name))
		cmd.Env = []string{"AWS_LAMBDA_FUNCTION_NAME=" + name, "AWS_LAMBDA_LOG_FORMAT=JSON", "AWS_LAMBDA_LOG_LEVEL=ERROR", "AWS_LAMBDA_RUNTIME_API=127.0.0.1:1"}
		out, err := cmd.CombinedOutput()
		exit, ended := errors.AsType[*exec.ExitError](err)
		if !ended || exit.ExitCode() != 1 {
			t.Errorf("%s ends with %v; want the exit code 1", name, err)
		}
		var line struct{ Level, Error string }
		if err := json.Unmarshal(out, &line); err != nil || line.Level != "ERROR" || !strings.HasPrefix(line.Error, variable+": ") {
			t.Errorf("%s logs %q; want one line of level ERROR about %s", name, out, variable)
		}
	}
}
