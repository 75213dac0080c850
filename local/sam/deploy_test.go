//go:build sam

package sam

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// TestDeploy runs "make deploy" and "make undeploy" of a stage with a small template, with an AWS on this
// machine in which deployments fail. It needs the Python environment of SAM CLI in PATH.
func TestDeploy(t *testing.T) {
	const (
		// The stack's name, the region, MongoUrl, LogLevel, and then six questions of SAM CLI.
		first = "\neu-west-3\nmongodb+srv://one\nDEBUG\n\n\n\n\n\n\n"
		again = "\n\nmongodb+srv://two\n\n\n\n\n\n\n\n" // with the answers before as defaults
		yes   = "y\n"
		no    = "n\n"
		kept  = "Your answers are kept"
	)
	d := newDeployment(t)

	d.make("deploy", "", "Aborted", "")
	d.next("ROLLBACK_COMPLETE").make("deploy", first+yes, kept, "")
	d.next("").make("deploy", again+no, "", "REVIEW_IN_PROGRESS")
	d.next("CREATE_FAILED").make("deploy", again+yes, kept, "")
	d.next("").make("deploy", again+yes, "", "CREATE_COMPLETE")

	d.make("deploy", "", "GRADUAL is Canary10Percent5Minutes", "CREATE_COMPLETE", "GRADUAL=Soon")

	d.replace(`\"DEBUG\"`, `\"WARN\" Architecture=\"arm64\"`) // a parameter of an older version
	d.next("UPDATE_ROLLBACK_COMPLETE").make("deploy", yes, kept, "UPDATE_ROLLBACK_COMPLETE")
	d.replace(`\"WARN\"`, `\"ERROR\"`)
	d.next("").make("deploy", yes, "", "UPDATE_COMPLETE")

	d.make("undeploy", no, "", "UPDATE_COMPLETE")
	d.make("undeploy", yes, "", "")
	d.make("undeploy", yes, "", "") // nothing is left to do

	// What SAM CLI leaves if it is interrupted.
	d.replace(`on_failure = "DELETE"`, `on_failure = "ROLLBACK"`)
	d.next("ROLLBACK_COMPLETE").make("deploy", again+yes, kept, "ROLLBACK_COMPLETE")
	d.next("").make("deploy", again+yes, "make undeploy deletes", "ROLLBACK_COMPLETE")
	d.make("undeploy", yes, "", "")
	d.make("deploy", again+yes, "", "CREATE_COMPLETE")

	// On another machine the stack keeps its parameters, and nobody has to answer.
	d.forget()
	d.replaceIn("template.yaml", "Type: AWS::SNS::Topic", "Type: AWS::SNS::Topic\n    Metadata: { Version: 2 }")
	d.make("deploy", "", "", "UPDATE_COMPLETE", "CONFIRM=no")
	if status, level := d.stack(); level != "ERROR" {
		t.Errorf("the stack is %s with the level %q", status, level)
	}

	d.forget()
	d.make("undeploy", yes, "", "")

	// Another name of the stack: the second time nothing is asked.
	d.make("deploy", "other"+first+yes, "", "")
	d.make("deploy", yes, "", "")

	for _, stage := range []string{"deploy", "a b", "a/b", "a&b", "prod "} {
		d.make("undeploy", yes, "STAGE is letters", "", "STAGE="+stage)
	}
}

// deployment is a folder with the project's Makefile and samconfig.toml, and an AWS.
type deployment struct {
	t   *testing.T
	dir string
	url string // of AWS
}

func newDeployment(t *testing.T) *deployment {
	t.Helper()
	d := &deployment{t: t, dir: t.TempDir()}
	for file, to := range map[string]string{
		"../../Makefile": "Makefile", "../../samconfig.toml": "samconfig.toml", "testdata/deploy/template.yaml": "template.yaml",
		"gradual.sh": "local/sam/gradual.sh",
	} {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(filepath.Dir(d.path(to)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(d.path(to), data, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	script, err := filepath.Abs("testdata/deploy/aws.py")
	if err != nil {
		t.Fatal(err)
	}
	aws := exec.Command("python", script)
	aws.Dir = d.dir
	aws.Stderr = t.Output()
	stdin, err := aws.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := aws.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := aws.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stdin.Close()
		aws.Wait()
	})
	url, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatalf("%s: %v", script, err)
	}
	d.url = strings.TrimSpace(url)
	return d
}

const answers = "samconfig.prod.toml" // of the guided deployment

func (d *deployment) path(file string) string { return filepath.Join(d.dir, file) }

// next sets the status of the stack after each change from now on; "" is that of success.
func (d *deployment) next(status string) *deployment {
	d.t.Helper()
	if err := os.WriteFile(d.path("end"), []byte(status), 0o600); err != nil {
		d.t.Fatal(err)
	}
	return d
}

// forget removes the file of the answers.
func (d *deployment) forget() {
	d.t.Helper()
	if err := os.Remove(d.path(answers)); err != nil {
		d.t.Fatal(err)
	}
}

// replace replaces something in the file of the answers.
func (d *deployment) replace(old, with string) {
	d.t.Helper()
	d.replaceIn(answers, old, with)
}

func (d *deployment) replaceIn(file, old, with string) {
	d.t.Helper()
	data, err := os.ReadFile(d.path(file))
	if err != nil {
		d.t.Fatal(err)
	}
	if !bytes.Contains(data, []byte(old)) {
		d.t.Fatalf("%s has no %s:\n%s", file, old, data)
	}
	if err := os.WriteFile(d.path(file), bytes.ReplaceAll(data, []byte(old), []byte(with)), 0o600); err != nil {
		d.t.Fatal(err)
	}
}

// make runs a target, without the build, with this standard input. It must fail and say wantFailure,
// or work if that is empty, and the stack must have the status then, or be gone if that is empty.
func (d *deployment) make(target, input, wantFailure, wantStatus string, variables ...string) {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(d.t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "make", append([]string{"-o", "build", target, "STAGE=prod"}, variables...)...)
	cmd.Dir = d.dir
	cmd.Env = append(os.Environ(), "AWS_ENDPOINT_URL="+d.url, "AWS_ACCESS_KEY_ID=test", "AWS_SECRET_ACCESS_KEY=test", "AWS_DEFAULT_REGION=eu-west-3", "SAM_CLI_POLL_DELAY=1")
	cmd.Stdin = strings.NewReader(input)
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	if (err != nil) != (wantFailure != "") || !bytes.Contains(out, []byte(wantFailure)) {
		d.t.Fatalf("make %s: %v, want a failure that says %q\n%s", target, err, wantFailure, out)
	}
	if status, _ := d.stack(); status != wantStatus {
		d.t.Fatalf("make %s: the stack is %q, want %q\n%s", target, status, wantStatus, out)
	}
	if saved, err := os.ReadFile(d.path(answers)); err == nil && bytes.Contains(saved, []byte("mongodb+srv")) {
		d.t.Fatalf("make %s: the connection string is in the file", target)
	}
}

var (
	stackStatus = regexp.MustCompile(`<StackName>organization-management-prod</StackName>(?s:.*?)<StackStatus>(\w+)</StackStatus>`)
	logLevel    = regexp.MustCompile(`<ParameterKey>LogLevel</ParameterKey>\s*<ParameterValue>(\w+)</ParameterValue>`)
)

// stack returns the status of the stack and its LogLevel, or "" if there is none.
func (d *deployment) stack() (status, level string) {
	d.t.Helper()
	request, err := http.NewRequestWithContext(d.t.Context(), "POST", d.url, strings.NewReader(url.Values{"Action": {"DescribeStacks"}}.Encode()))
	if err != nil {
		d.t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	request.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential=test/20260101/eu-west-3/cloudformation/aws4_request, SignedHeaders=host, Signature=0")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		d.t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != 200 {
		d.t.Fatalf("DescribeStacks: %d, %v\n%s", response.StatusCode, err, body)
	}
	if match := stackStatus.FindSubmatch(body); match != nil {
		status = string(match[1])
	}
	if match := logLevel.FindSubmatch(body); match != nil {
		level = string(match[1])
	}
	return status, level
}
