package e2e

import (
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"orgservice/local/mongodbtest"
)

// dialect holds what differs between gateways for a client.
type dialect struct {
	unauthorized refusal // no Authorization header
	forbidden    refusal // the authorizer refuses the token
	noRoute      refusal
	notUTF8      refusal // a body that is not UTF-8, if the gateway refuses it
	failed       refusal // the function has not answered
	throttled    refusal // too many requests on a route

	preflight      int    // status of the answer to OPTIONS
	exposedHeaders string // Access-Control-Expose-Headers
	corsOnRefusals bool   // refusals of the gateway have CORS headers

	decodesTwice bool // an encoded question mark ends the path
	uniqueIDs    bool // every request has an ID of its own
	atOnce       int  // number of requests in tests of concurrency
}

// refusal is an error answer of the gateway itself.
type refusal struct {
	status  int
	message string
}

var dialects = map[string]*dialect{
	"local": {
		unauthorized:   refusal{401, "Unauthorized"},
		forbidden:      refusal{403, "Forbidden"},
		noRoute:        refusal{404, "Not Found"},
		failed:         refusal{500, "Internal Server Error"},
		throttled:      refusal{429, "Too Many Requests"},
		preflight:      204,
		exposedHeaders: "ETag,Location,X-Request-Id,Retry-After,WWW-Authenticate",
		corsOnRefusals: true,
		decodesTwice:   true,
		uniqueIDs:      true,
		atOnce:         20,
	},
	"sam": { // runs one invocation of a function at a time, and does not cache authorizers
		unauthorized: refusal{401, "Unauthorized"},
		forbidden:    refusal{403, "User is not authorized to access this resource"},
		noRoute:      refusal{403, "Missing Authentication Token"},
		notUTF8:      refusal{502, "Internal server error"},
		failed:       refusal{502, "Internal server error"},
		preflight:    200,
		atOnce:       5,
	},
}

// The service under test.
var (
	baseURL string
	gateway *dialect
	own     *process // the gateway, if the suite has started it; nil otherwise
)

// ownTests need a gateway that the suite has started.
var ownTests = []string{"TestDemo", "TestLocal", "TestKill", "TestExamples", "TestMembers", "TestForgot", "TestVerify", "TestSignUps", "TestVerifiedSignUp", "TestPasswordRules", "TestOperator", "TestSuspension", "TestUnreachableMail", "TestIntrospection", "TestMetrics"}

func TestMain(m *testing.M) {
	flag.Parse()
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		code = max(code, 1)
	}
	os.Exit(code)
}

// run runs the tests with the gateway that the environment asks for.
func run(m *testing.M) (code int, err error) {
	name := os.Getenv("ORGSERVICE_GATEWAY")
	if name == "" {
		name = "local"
	}
	if gateway = dialects[name]; gateway == nil {
		return 2, fmt.Errorf("ORGSERVICE_GATEWAY is %q: it must be one of %v", name, slices.Sorted(maps.Keys(dialects)))
	}
	if baseURL = strings.TrimSuffix(os.Getenv("ORGSERVICE_URL"), "/"); baseURL != "" {
		if err := leave(ownTests); err != nil {
			return 2, err
		}
		return m.Run(), nil
	}
	if name != "local" {
		return 2, errors.New("ORGSERVICE_GATEWAY is set without ORGSERVICE_URL")
	}
	temp, err := os.MkdirTemp("", "e2e")
	if err != nil {
		return 1, err
	}
	defer os.RemoveAll(temp)
	if current, err = buildCurrent(temp); err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, dropMasterDBs()) }()
	var env []string
	if strings.Contains(serverURL, "@") {
		secrets.add(serverURL)
	}
	if serverURL == "" {
		// The database is a process of its own. Inside the gateway it would run
		// under the race detector, several times slower, and the functions
		// would time out.
		database, err := mongodbtest.Embedded()
		if err != nil {
			return 1, err
		}
		env = []string{"MONGO_URL=" + database}
	}
	data := filepath.Join(temp, "data")
	if err := keepBuild(data); err != nil {
		return 1, err
	}
	if own, err = startLocal(data, env); err != nil {
		return 1, err
	}
	baseURL = own.url
	if revision := os.Getenv("ORGSERVICE_BESIDE"); revision != "" {
		return runBeside(m, temp, revision, env)
	}
	code = m.Run()
	return code, errors.Join(own.stop(), secrets.searchLogs())
}

// leave makes m.Run skip the tests.
func leave(tests []string) error {
	skip := flag.Lookup("test.skip")
	pattern := "^(" + strings.Join(tests, "|") + ")$"
	if given := skip.Value.String(); given != "" {
		pattern = given + "|" + pattern
	}
	return skip.Value.Set(pattern)
}

// secrets holds the passwords and tokens that the suite has used.
var secrets = registry{values: map[string]bool{}}

// registry holds secrets, and the output of processes.
type registry struct {
	mu     sync.Mutex
	values map[string]bool
	logs   []*output
}

// add adds s and returns it. It must be long, so that no text holds it by chance.
func (r *registry) add(s string) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.values[s] = true
	return s
}

func (r *registry) addLog(o *output) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.logs = append(r.logs, o)
}

// find returns the secrets that are in text.
func (r *registry) find(text string) (found []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for s := range r.values {
		if strings.Contains(text, s) {
			found = append(found, s)
		}
	}
	return found
}

// searchLogs returns an error with the first lines of the output that hold a
// secret. It skips the example and the operator's token that command local prints.
func (r *registry) searchLogs() error {
	var errs []error
	for _, o := range r.logs {
		for line := range strings.Lines(o.String()) {
			if found := r.find(line); found != nil && !strings.HasPrefix(line, "curl ") && !strings.HasPrefix(line, "operator: ") && len(errs) < 5 {
				for _, secret := range found { // MONGO_URL is secret to the suite, too
					line = strings.ReplaceAll(line, secret, "(a secret)")
				}
				errs = append(errs, fmt.Errorf("the log has the line %s", strings.TrimSpace(line)))
			}
		}
	}
	return errors.Join(errs...)
}
