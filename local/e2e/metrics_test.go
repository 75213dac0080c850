package e2e

import (
	"fmt"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestMetrics checks that the numbers that CloudWatch would get are on a page of the gateway,
// and not in its log.
func TestMetrics(t *testing.T) {
	t.Parallel()
	p := newLocal(t, "", nil)
	c := newLocalClient(t, p)
	r := newRegistration()
	c.create(r).want(t, 201)
	for range 2 {
		c.login(r.Email, r.Password).want(t, 200)
	}
	c.login(r.Email, r.Password+"x").want(t, 401)
	c.call("GET", "/org/get?organization_name=nobody", nil).want(t, 404)
	c.me("no token").wantRefusal(t, c.gateway.forbidden)

	// The gateway reads what functions write while it answers.
	eventually(t, p.url+"/metrics", wrongMetrics)
	// So does it with what they tell X-Ray.
	eventually(t, p.url+"/traces", func(text string) []string {
		return append(missingParts(text, "POST /org/create", "start of create", "create", "  bcrypt", "  insert claims", "  create org_", "  insert organizations"),
			missingParts(text, "GET /admin/me", "start of authorizer", "authorizer")...)
	})

	page := get(t, p.url+"/metrics", "text/html,*/*;q=0.8")
	if !strings.Contains(page, "<td>Latency<td>POST /admin/login<td>3<td>") || !strings.Contains(page, "<td>Latency<td><td>5<td>") {
		t.Errorf("the page is %s", page)
	}
	if strings.Contains(p.out.String(), "CloudWatchMetrics") {
		t.Error("metrics are in the log")
	}
}

// eventually reads a page of the gateway until nothing is wrong with it.
func eventually(t *testing.T, url string, wrong func(text string) []string) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		text := get(t, url, "*/*")
		found := wrong(text)
		if len(found) == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s\nof\n%s", strings.Join(found, "\n"), text)
		}
	}
}

// missingParts returns which parts the traces of a request do not have.
func missingParts(traces, request string, parts ...string) []string {
	line := regexp.MustCompile(`^ +\d+\.\d +\d+\.\d  (.+?) +\| *█+\n$`)
	got := map[string]bool{}
	_, trace, _ := strings.Cut(traces, " "+request+" ")
	trace, _, _ = strings.Cut(trace, "\n\n")
	for text := range strings.Lines(trace + "\n") {
		if m := line.FindStringSubmatch(text); m != nil {
			got[m[1]] = true
		}
	}
	return slices.DeleteFunc(slices.Clone(parts), func(part string) bool { return got[part] })
}

// wrongMetrics returns what is not as expected.
func wrongMetrics(text string) (wrong []string) {
	got := map[string]float64{}
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		if match := prometheusLine.FindStringSubmatch(line); match != nil {
			value, err := strconv.ParseFloat(match[2], 64)
			if err != nil {
				wrong = append(wrong, line)
			}
			got[match[1]] = value
		} else if !prometheusType.MatchString(line) {
			wrong = append(wrong, "not in the text format: "+line)
		}
	}
	for name, want := range map[string]float64{
		`latency_milliseconds_count{route="POST /org/create"}`:  1,
		`latency_milliseconds_count{route="POST /admin/login"}`: 3,
		`latency_milliseconds_count{route="GET /org/get"}`:      1,
		`problems_sum{reason="wrong-credentials"}`:              1,
		`problems_sum{reason="organization-not-found"}`:         1,
		`tokens_refused_sum`:                                    1,
		`hash_time_milliseconds_count`:                          4, // events with bcrypt
	} {
		if got["orgservice_"+name] != want {
			wrong = append(wrong, fmt.Sprintf("%s is %v, want %v", name, got["orgservice_"+name], want))
		}
	}
	for _, name := range []string{
		`latency_milliseconds_sum{route="POST /org/create"}`, "cold_start_milliseconds_sum", "hash_time_milliseconds_sum",
		"database_commands_sum", "database_time_milliseconds_sum",
	} {
		if got["orgservice_"+name] <= 0 {
			wrong = append(wrong, name+" is not positive")
		}
	}
	if _, ok := got["orgservice_latency_milliseconds_sum"]; ok {
		wrong = append(wrong, "the requests of all routes are counted again")
	}
	return wrong
}

// https://prometheus.io/docs/instrumenting/exposition_formats/
var (
	prometheusLine = regexp.MustCompile(`^([a-z_]+(?:\{[a-z_]+="[^"\\]*"\})?) (\S+)$`)
	prometheusType = regexp.MustCompile(`^# TYPE [a-z_]+ summary$`)
)

func get(t *testing.T, url, accept string) string {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), "GET", url, nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Accept", accept)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != 200 {
		t.Fatalf("%s: %d, %v", url, response.StatusCode, err)
	}
	return string(body)
}
