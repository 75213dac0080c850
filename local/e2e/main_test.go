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

	"orgservice/shared/mongodb/mongodbtest"
)

// dialect is what a client sees of one gateway and not of another.
type dialect struct {
	unauthorized refusal // no Authorization header
	forbidden    refusal // the authorizer said no
	noRoute      refusal
	notUTF8      refusal // a body that is not text, if the gateway itself refuses it
	failed       refusal // the function did not answer
	throttled    refusal // too many requests on a route

	preflight      int    // status of the answer to OPTIONS
	exposedHeaders string // Access-Control-Expose-Headers
	corsOnRefusals bool   // CORS headers are on the gateway's own refusals, too

	uniqueIDs bool // no two requests have one id
	atOnce    int  // how many requests a race is made of
}

// refusal is an answer of the gateway itself.
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
		exposedHeaders: "X-Request-Id,Retry-After,WWW-Authenticate",
		corsOnRefusals: true,
		uniqueIDs:      true,
		atOnce:         20,
	},
	"sam": { // serves one call of a function at a time, and caches no verdicts
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
	own     *process // the gateway, if the suite has started it
)

// ownTests need a gateway that the suite has started.
var ownTests = []string{"TestLocal", "TestKill"}

func TestMain(m *testing.M) {
	flag.Parse()
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		code = max(code, 1)
	}
	os.Exit(code)
}

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
	if err := buildLocal(temp); err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, dropMasterDBs()) }()
	var env []string
	if serverURL != "" {
		secrets.add(serverURL)
	} else {
		// The database is another process than the gateway, which has the race
		// detector: with it the database would be several times slower, while
		// the functions, which are what is deployed, wait for it no longer than
		// ever.
		database, err := mongodbtest.Embedded()
		if err != nil {
			return 1, err
		}
		env = []string{"MONGO_URL=" + database}
	}
	if own, err = startLocal(filepath.Join(temp, "data"), env); err != nil {
		return 1, err
	}
	baseURL = own.url
	code = m.Run()
	return code, errors.Join(own.stop(), secrets.searchLogs())
}

// leave makes m.Run leave out the tests.
func leave(tests []string) error {
	skip := flag.Lookup("test.skip")
	pattern := "^(" + strings.Join(tests, "|") + ")$"
	if given := skip.Value.String(); given != "" {
		pattern = given + "|" + pattern
	}
	return skip.Value.Set(pattern)
}

// secrets are the passwords and tokens that the suite has used.
var secrets = registry{values: map[string]bool{}}

type registry struct {
	mu     sync.Mutex
	values map[string]bool
	logs   []*output
}

// add remembers s, which must be long enough not to be found by chance.
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

// searchLogs returns an error for the first lines with a secret in what the
// processes have printed, but for the example of use that command local shows.
func (r *registry) searchLogs() error {
	var errs []error
	for _, o := range r.logs {
		for line := range strings.Lines(o.String()) {
			if found := r.find(line); found != nil && !strings.HasPrefix(line, "curl ") && len(errs) < 5 {
				for _, secret := range found { // some are not the suite's to show
					line = strings.ReplaceAll(line, secret, "(a secret)")
				}
				errs = append(errs, fmt.Errorf("the log has the line %s", strings.TrimSpace(line)))
			}
		}
	}
	return errors.Join(errs...)
}
