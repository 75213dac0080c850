package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestOperatorSigns checks what the command sends to a service that is not that of make run.
// Only AWS can check the signature.
func TestOperatorSigns(t *testing.T) {
	var seen *http.Request
	var body string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		content, _ := io.ReadAll(r.Body)
		seen, body = r, string(content)
		io.WriteString(w, `{"id":"6b062bca0f6f0e6d4f1c2a31"}`)
	}))
	defer server.Close()
	newProject(t)
	env := []string{"AWS_ACCESS_KEY_ID=AKIAIOSFODNN7EXAMPLE", "AWS_SECRET_ACCESS_KEY=a secret key", "AWS_SESSION_TOKEN=session", "AWS_REGION=eu-west-3"}
	suspend := func(env []string) (string, error) {
		return call(t, "", env, "-url", server.URL, "operator", "suspend", "6b062bca0f6f0e6d4f1c2a31", "not", "paid")
	}
	if out, err := suspend(env); err != nil || !strings.Contains(out, "6b062bca0f6f0e6d4f1c2a31") {
		t.Fatalf("%s, %v", out, err)
	}
	signature := regexp.MustCompile(`^AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/\d{8}/eu-west-3/execute-api/aws4_request, SignedHeaders=\S*host;x-amz-date;x-amz-security-token, Signature=[0-9a-f]{64}$`)
	if got := seen.Header.Get("Authorization"); !signature.MatchString(got) || seen.Header.Get("X-Amz-Security-Token") != "session" {
		t.Errorf("%v", seen.Header)
	}
	if seen.Method+seen.URL.Path != "POST/operator/organizations/6b062bca0f6f0e6d4f1c2a31/suspend" || body != `{"reason":"not paid"}` {
		t.Errorf("%s %s %s", seen.Method, seen.URL, body)
	}
	for _, missing := range [][]string{env[1:], append(env[:1:1], env[2:]...), env[:3]} {
		if out, err := suspend(missing); err == nil || !strings.Contains(err.Error(), "AWS_ACCESS_KEY_ID") {
			t.Errorf("%q: %s, %v", missing, out, err)
		}
	}
	// make operator hands the text on as it is.
	id := "6b062bca0f6f0e6d4f1c2a31"
	for text, want := range map[string]string{
		`suspend ` + id + ` O'Neill & Sons;  $HOME`:            `suspend {"reason":"O'Neill \u0026 Sons; $HOME"}`,
		`purge ` + id + ` ticket 4711: asked for`:              `purge {"reason":"ticket 4711: asked for"}`,
		`restore ` + id + ` ticket 4711: asked for`:            `restore {"reason":"ticket 4711: asked for"}`,
		`restore-as ` + id + ` "The Return: Part 2" asked for`: `restore {"organization_name":"The Return: Part 2","reason":"asked for"}`,
		`rename ` + id + ` Bolt asked for`:                     `rename {"organization_name":"Bolt","reason":"asked for"}`,
	} {
		if out, err := call(t, "", append([]string{"DO=" + text}, env...), "-url", server.URL, "operator"); err != nil {
			t.Errorf("%s: %s, %v", text, out, err)
		}
		if got := filepath.Base(seen.URL.Path) + " " + body; got != want {
			t.Errorf("%s: %s; want %s", text, got, want)
		}
	}
	for _, text := range []string{"rename " + id + " Bolt", "purge " + id, "restore-as " + id + ` "Bolt 2"`, "fly"} {
		if _, err := call(t, "", append([]string{"DO=" + text}, env...), "-url", server.URL, "operator"); err == nil || !strings.HasPrefix(err.Error(), "usage: ") {
			t.Errorf("%s: %v", text, err)
		}
	}
	for host, want := range map[string]string{
		"a1b2c3d4e5.execute-api.eu-west-3.amazonaws.com": "eu-west-3", "a1b2c3d4e5.execute-api.cn-north-1.amazonaws.com.cn": "cn-north-1", "api.example.com": "",
	} {
		m := regionOf.FindStringSubmatch(host)
		if got := strings.Join(m, " "); (want == "") != (m == nil) || m != nil && m[1] != want {
			t.Errorf("%s: %q", host, got)
		}
	}
}
