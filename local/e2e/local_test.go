package e2e

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"orgservice/local/embedded"
	"orgservice/shared/auth"
	"orgservice/shared/mongodb"
	"orgservice/shared/org"
)

// TestLocal holds the tests that need the gateway of the suite, or gateways of
// their own. With ORGSERVICE_URL set it is left out.
func TestLocal(t *testing.T) {
	t.Parallel()
	t.Run("Example", func(t *testing.T) {
		// The name of the README, which no other test uses.
		session(t, newClient(t), registration{"Akshay Pvt Ltd", "admin@example.com", secrets.add("Admin@123")}, "org_akshay_pvt_ltd")
	})
	for name, test := range map[string]func(*testing.T){
		"SignedTokens":    testSignedTokens,
		"CachedVerdict":   testCachedVerdict,
		"DatabaseAway":    testDatabaseAway,
		"DatabaseStalled": testDatabaseStalled,
		"Restart":         testRestart,
		"Settings":        testSettings,
		"Events":          testEvents,
		"Throttling":      testThrottling,
		"FailedLogins":    testFailedLogins,
		"Flood":           testFlood,
		"Edge":            testEdge,
		"AccessLog":       testAccessLog,
		"Unreachable":     testUnreachable,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t)
		})
	}
}

// testSignedTokens sends tokens that are signed with the secret of the service
// and have one wrong field each.
func testSignedTokens(t *testing.T) {
	c := newClient(t)
	o, other := newTenant(c), newTenant(c)
	genuine := parse(t, o.token)
	others := parse(t, other.token).Claims.(jwt.MapClaims)
	use := func(method jwt.SigningMethod, header map[string]any, claims jwt.MapClaims) answer {
		token := sign(t, method, []byte(signingSecret), header, claims)
		return c.update(token, object{"organization_name": o.Name})
	}
	changed := func(m map[string]any, name string, value any) map[string]any {
		m = maps.Clone(m)
		m[name] = value
		if value == nil {
			delete(m, name)
		}
		return m
	}
	claims := map[string]any(genuine.Claims.(jwt.MapClaims))
	use(jwt.SigningMethodHS256, genuine.Header, claims).want(t, 200) // nothing is wrong here

	hour := time.Now().Add(time.Hour).Unix()
	for name, test := range map[string]struct {
		claim string
		value any
	}{
		"Expired":        {"exp", hour - 2*3600},
		"ExpiresNever":   {"exp", nil},
		"NotYet":         {"nbf", hour},
		"OtherIssuer":    {"iss", "somebody"},
		"NoIssuer":       {"iss", nil},
		"OtherAudience":  {"aud", []string{"somebody"}},
		"NoAudience":     {"aud", nil},
		"NoSubject":      {"sub", nil},
		"NoOrganization": {"org", nil},
		"NoVersion":      {"ver", nil},
	} {
		t.Run(name, func(t *testing.T) {
			use(jwt.SigningMethodHS256, genuine.Header, changed(claims, test.claim, test.value)).wantRefusal(t, c.gateway.forbidden)
		})
	}
	for name, header := range map[string]map[string]any{
		"OtherType": changed(genuine.Header, "typ", "JWT"),
		"NoType":    changed(genuine.Header, "typ", ""),
		"OtherKey":  changed(genuine.Header, "kid", "0123456789abcdef"),
		"NoKey":     changed(genuine.Header, "kid", nil),
		"KeyPath":   changed(genuine.Header, "kid", "../../../../dev/null"),
		"KeyNumber": changed(genuine.Header, "kid", 1),
	} {
		t.Run(name, func(t *testing.T) {
			use(jwt.SigningMethodHS256, header, claims).wantRefusal(t, c.gateway.forbidden)
		})
	}
	for _, method := range []jwt.SigningMethod{jwt.SigningMethodHS384, jwt.SigningMethodHS512} {
		t.Run(method.Alg(), func(t *testing.T) {
			use(method, genuine.Header, claims).wantRefusal(t, c.gateway.forbidden)
		})
	}
	// The authorizer accepts these, and the database does not.
	for name, test := range map[string]struct {
		claim string
		value any
	}{
		"OtherVersion":        {"ver", 7},
		"OtherOrganization":   {"org", others["org"]},
		"UnknownOrganization": {"org", "0123456789abcdef01234567"},
		"StrangeOrganization": {"org", "everybody"},
		"OtherAdmin":          {"sub", others["sub"]},
		"StrangeAdmin":        {"sub", "root"},
	} {
		t.Run(name, func(t *testing.T) {
			use(jwt.SigningMethodHS256, genuine.Header, changed(claims, test.claim, test.value)).want(t, 401)
		})
	}
	o.wantIntact(c)
	other.wantIntact(c)
}

// testCachedVerdict sends tokens that have become invalid while the gateway has
// the answer of the authorizer in its cache. So the handlers must refuse them.
func testCachedVerdict(t *testing.T) {
	c := newClient(t)
	o := newTenant(c)
	change := object{"organization_name": o.Name}
	genuine := parse(t, o.token)
	for lifetime := 2 * time.Second; ; lifetime *= 2 {
		expiry := time.Now().Add(lifetime).Truncate(time.Second)
		claims := maps.Clone(genuine.Claims.(jwt.MapClaims))
		claims["exp"] = expiry.Unix()
		used := sign(t, jwt.SigningMethodHS256, []byte(signingSecret), genuine.Header, claims)
		claims["jti"] = "another"
		unused := sign(t, jwt.SigningMethodHS256, []byte(signingSecret), genuine.Header, claims)
		if a := c.update(used, change); a.status != 200 && lifetime < patience {
			continue // the token had expired before: try a longer lifetime
		} else {
			a.want(t, 200)
		}
		<-time.After(time.Until(expiry))
		c.update(unused, change).wantRefusal(t, c.gateway.forbidden)
		c.update(used, change).want(t, 401)
		c.delete(used).want(t, 401)
		break
	}

	c.update(o.token, change).want(t, 200)
	password := newPassword()
	c.update(o.token, object{"password": password, "current_password": o.Password}).want(t, 200)
	c.update(o.token, change).want(t, 401)
	c.delete(o.token).want(t, 401)
	o.Password = password
	o.wantIntact(c)
}

// outage is a gateway whose database goes away and comes back, with tenants for
// each kind of call.
type outage struct {
	p                        *process
	c                        *client
	renamed, deleted, logged tenant
	created                  registration
}

// newOutage starts a gateway on the database at databaseURL. That is an embedded
// one even if MONGO_URL is set, because the suite can't stop a server that others
// use.
func newOutage(t *testing.T, databaseURL string) outage {
	t.Helper()
	p := newLocal(t, "", []string{"MONGO_URL=" + databaseURL})
	c := newLocalClient(t, p)
	o := outage{p, c, newTenant(c), newTenant(c), newTenant(c), newRegistration()}
	for _, kept := range []tenant{o.renamed, o.deleted, o.logged} {
		c.update(kept.token, object{"organization_name": kept.Name}).want(t, 200)
		kept.wantIntact(c)
	}
	return o
}

// calls returns one call of each endpoint, with the status of its success.
func (o outage) calls() map[int][]func() answer {
	return map[int][]func() answer{
		200: {
			func() answer { return o.c.get(o.logged.Name) },
			func() answer { return o.c.login(o.logged.Email, o.logged.Password) },
			func() answer {
				return o.c.update(o.renamed.token, object{"organization_name": "New " + o.renamed.Name})
			},
			func() answer { return o.c.delete(o.deleted.token) },
		},
		201: {func() answer { return o.c.create(o.created) }},
	}
}

// wantUnavailable calls all endpoints at once. It fails the test unless the service
// answers each with 503 before the gateway's own timeout.
func (o outage) wantUnavailable(t *testing.T) {
	t.Helper()
	var running sync.WaitGroup
	for _, calls := range o.calls() {
		for _, call := range calls {
			running.Go(func() {
				start := time.Now()
				a := call()
				took := time.Since(start).Round(time.Millisecond)
				if _, gateways := a.refusal(); a.status != 503 || gateways {
					t.Errorf("after %v: %v; want 503 of the service", took, a)
				} else {
					t.Logf("%s: 503 after %v", a.request, took)
				}
			})
		}
	}
	running.Wait()
}

// wantBack waits until the gateway has found the database again.
func (o outage) wantBack(t *testing.T) {
	t.Helper()
	for deadline := time.Now().Add(patience); o.c.get(o.logged.Name).status != 200; {
		if time.Now().After(deadline) {
			t.Fatal("the database is back, but the service is not")
		}
	}
	o.logged.wantIntact(o.c)
}

func testDatabaseAway(t *testing.T) {
	dir := t.TempDir()
	database, err := embedded.Start(dir, "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { database.Close() })
	o := newOutage(t, database.URL())
	database.Close()
	o.wantUnavailable(t)
	o.wantUnavailable(t) // again, now that the driver knows
	if database, err = embedded.Start(dir, database.Addr()); err != nil {
		t.Fatal(err)
	}
	o.wantBack(t)
	// No call was done in part, so each can be done now.
	for status, calls := range o.calls() {
		for _, call := range calls {
			call().want(t, status)
		}
	}
	o.p.mustStop(t)
	reconcile(t, database.URL(), masterDB(o.p.data))
}

// testDatabaseStalled keeps the connections to the database open, but passes on
// nothing.
func testDatabaseStalled(t *testing.T) {
	database, err := embedded.Start(t.TempDir(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(database.Close)
	between := newRelay(t, database.Addr())
	o := newOutage(t, "mongodb://"+between.listener.Addr().String()+"/?directConnection=true")
	between.stall.Lock()
	o.wantUnavailable(t)
	between.stall.Unlock()
	o.wantBack(t)
	// Changes that were interrupted may be finished later. New ones work at once.
	again := newTenant(o.c)
	again.wantIntact(o.c)
	o.c.delete(again.token).want(t, 200)
	o.p.mustStop(t)
	reconcile(t, database.URL(), masterDB(o.p.data))
}

// relay is a TCP proxy, which can stall.
type relay struct {
	listener net.Listener
	stall    sync.RWMutex // held for writing while it stalls
}

func newRelay(t *testing.T, address string) *relay {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	r := &relay{listener: listener}
	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", address)
			if err != nil {
				client.Close()
				continue
			}
			go r.pass(client, server)
			go r.pass(server, client)
		}
	}()
	return r
}

// pass copies what comes from one connection to the other.
func (r *relay) pass(to, from net.Conn) {
	defer to.Close()
	defer from.Close()
	buffer := make([]byte, 64<<10)
	for {
		n, err := from.Read(buffer)
		r.stall.RLock()
		_, failed := to.Write(buffer[:n])
		r.stall.RUnlock()
		if err != nil || failed != nil {
			return
		}
	}
}

// reconcile repairs the database at a time when every interrupted operation is
// stale. It fails the test if there is a problem afterwards. It returns the
// service that has done the repair.
func reconcile(t *testing.T, databaseURL, database string) *org.Service {
	t.Helper()
	store, err := mongodb.Open(databaseURL, database,
		options.Client().SetServerSelectionTimeout(patience).SetConnectTimeout(patience).SetTimeout(patience))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close(context.Background()) })
	signer, err := auth.NewSigner([]byte(signingSecret))
	if err != nil {
		t.Fatal(err)
	}
	s := &org.Service{
		Store:     store,
		Database:  database,
		Passwords: auth.Passwords{Cost: 4},
		Tokens:    signer,
		TokenTTL:  time.Hour,
		// An hour more, so that the failed logins no longer count.
		Now: func() time.Time { return time.Now().Add(2*org.StaleAfter + time.Hour) },
		Log: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})),
	}
	report, err := s.Reconcile(t.Context(), true)
	if err != nil || len(report.NeedsAttention) > 0 {
		t.Errorf("reconcile: %v; odd is %+v", err, report.NeedsAttention)
	}
	t.Logf("reconcile has finished %d, undone %d and removed %d", len(report.Finished), len(report.Undone), len(report.Removed))
	if findings, err := s.Inspect(t.Context()); err != nil || len(findings) > 0 {
		t.Errorf("after reconcile there is still %+v, %v", findings, err)
	}
	return s
}

// testRestart stops a gateway and starts it again on the same data. The gateway
// makes its own JWT_SECRET.
func testRestart(t *testing.T) {
	data, env := newData(t), []string{"JWT_SECRET="}
	p := newLocal(t, data, env)
	c := newLocalClient(t, p)
	o, deleted := newTenant(c), newTenant(c)
	c.delete(deleted.token).want(t, 200)
	if kept, err := os.ReadFile(filepath.Join(data, "jwt_secret")); err != nil || len(kept) < 32 {
		t.Errorf("the secret that was made has %d bytes, %v", len(kept), err)
	} else {
		secrets.add(strings.TrimSpace(string(kept)))
	}

	code, _, stderr := runLocal(t, data, env)
	wantOneLine(t, code, stderr, "already running")
	o.wantIntact(c)

	p.mustStop(t)
	if _, err := http.Get(p.url); err == nil {
		t.Error("the gateway answers after its end")
	}
	c = newLocalClient(t, newLocal(t, data, env))
	o.wantIntact(c)
	c.update(o.token, object{"organization_name": "New " + o.Name}).want(t, 200)
	c.get(deleted.Name).want(t, 404)
	c.delete(deleted.token).want(t, 401)
	c.create(deleted.registration).want(t, 201)
}

func wantOneLine(t *testing.T, code int, stderr, part string) {
	t.Helper()
	if code != 1 || strings.Count(stderr, "\n") != 1 || !strings.HasSuffix(stderr, "\n") || !strings.Contains(stderr, part) {
		t.Errorf("exit code %d, and on stderr:\n%s\nwant 1, and one line with %q", code, stderr, part)
	}
}

func testSettings(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	for _, test := range []struct{ setting, part string }{
		{"PORT=" + port, "port " + port},
		{"PORT=http", "PORT"},
		{"JWT_SECRET=0123456789012345678901234567890", "JWT_SECRET"}, // 31 bytes
		{"JWT_SECRET_PREVIOUS=short", "JWT_SECRET_PREVIOUS"},
		{"JWT_EXPIRES_IN=soon", "JWT_EXPIRES_IN"},
		{"JWT_EXPIRES_IN=0", "JWT_EXPIRES_IN"},
		{"EDGE_SECRET_SHA256=abc", "EDGE_SECRET_SHA256"},
		{"INTROSPECTION_SECRET=short", "INTROSPECTION_SECRET"},
		{"BCRYPT_COST=abc", "BCRYPT_COST"},
		{"BCRYPT_COST=31", "BCRYPT_COST"},
		{"DELETE_GRACE=7d", "DELETE_GRACE"},
		{"MASTER_DB=a/b", "MASTER_DB"},
		{"LOG_LEVEL=loud", "LOG_LEVEL"},
		{"MONGO_URL=nonsense", "MONGO_URL"},
		{"MONGO_URL=mongodb://admin:hush-hush@/nowhere:x", "MONGO_URL"},
	} {
		name, value, _ := strings.Cut(test.setting, "=")
		t.Run(name, func(t *testing.T) {
			data := filepath.Join(t.TempDir(), "data")
			code, _, stderr := runLocal(t, data, []string{test.setting})
			wantOneLine(t, code, stderr, test.part)
			if strings.Contains(stderr, "hush-hush") || strings.HasPrefix(name, "JWT_SECRET") && strings.Contains(stderr, value) {
				t.Errorf("the line holds a secret: %s", stderr)
			}
		})
	}
}

// testEvents invokes the functions with the sample events, on one database.
func testEvents(t *testing.T) {
	data := newData(t)
	invoke := func(t *testing.T, function string) object {
		code, stdout, stderr := runLocal(t, data, nil, "invoke", function, "events/"+function+".json")
		if code != 0 {
			t.Fatalf("exit code %d:\n%s%s", code, stdout, stderr)
		}
		var response object
		if err := json.Unmarshal([]byte(stdout), &response); err != nil || response["errorMessage"] != nil {
			t.Fatalf("%v:\n%s", err, stdout)
		}
		return response
	}
	for _, test := range []struct {
		function string
		statuses []float64
	}{
		{"create", []float64{201}},
		{"login", []float64{200}},
		{"get", []float64{200}},
		// The admin that their tokens name may not exist.
		{"update", []float64{200, 401}},
		{"delete", []float64{200, 401}},
	} {
		t.Run(test.function, func(t *testing.T) {
			response := invoke(t, test.function)
			body, _ := response["body"].(string)
			var content object
			if err := json.Unmarshal([]byte(body), &content); err != nil {
				t.Errorf("body %q: %v", body, err)
			}
			for _, status := range test.statuses {
				if response["statusCode"] == status {
					return
				}
			}
			t.Errorf("%v; want one of %v", response, test.statuses)
		})
	}
	t.Run("authorizer", func(t *testing.T) {
		if response := invoke(t, "authorizer"); fmt.Sprintf("%T", response["isAuthorized"]) != "bool" {
			t.Errorf("%v", response)
		}
	})
	t.Run("reconcile", func(t *testing.T) {
		response := invoke(t, "reconcile")
		for _, list := range []string{"finished", "undone", "removed", "needs_attention"} {
			if found, ok := response[list].([]any); !ok || len(found) > 0 {
				t.Errorf("%v; want nothing to be %s", response, list)
			}
		}
	})
}

func testThrottling(t *testing.T) {
	c := newLocalClient(t, newLocal(t, "", nil, "-parameter", "OpenThrottleRate=0.01", "-parameter", "OpenThrottleBurst=2"))
	throttled := 0
	for range 20 {
		if a := c.call("POST", "/org/create", object{}); a.status == http.StatusTooManyRequests {
			a.wantRefusal(t, c.gateway.throttled)
			throttled++
		} else {
			a.want(t, 422)
		}
	}
	if throttled == 0 {
		t.Error("no request was throttled")
	}
	c.call("POST", "/admin/login", object{}).want(t, 422) // another route, which has a limit of its own
	for range 20 {
		c.call("GET", "/org/get", nil).want(t, 422)
	}
}

// testFailedLogins tries many passwords with one email, and one password with many
// emails, until the service throttles it. Other clients are not throttled.
func testFailedLogins(t *testing.T) {
	p := newLocal(t, "", nil)
	c := newLocalClient(t, p)
	guessed, other := newTenant(c), newTenant(c)
	for _, test := range []struct {
		name   string
		guess  func(*client) answer
		others bool // other clients have another IP address or email
	}{
		{"Account", func(c *client) answer { return c.login(guessed.Email, newPassword()) }, true},
		{"Address", func(c *client) answer { return c.login(unique()+"@example.com", other.Password) }, ownAddresses},
	} {
		t.Run(test.name, func(t *testing.T) {
			attacker := newLocalClient(t, p)
			for range 100 {
				a := test.guess(attacker)
				if a.status != http.StatusTooManyRequests {
					a.want(t, 401)
					continue
				}
				a.want(t, 429) // by the service, with Retry-After
				if test.others {
					mustLogin(c, other.Email, other.Password)
				}
				return
			}
			t.Error("100 wrong passwords in a row, and none is answered by 429")
		})
	}
}

// testEdge runs the service behind CloudFront, so to say: what comes past it is refused, and
// attempts are counted for the addresses that it has seen, not for its own.
func testEdge(t *testing.T) {
	secret := secrets.add(rand.Text() + rand.Text())
	hash := sha256.Sum256([]byte(secret))
	p := newLocal(t, "", []string{"EDGE_SECRET_SHA256=" + hex.EncodeToString(hash[:])})
	c := newLocalClient(t, p)
	through := func(viewer, method, path string, body any) answer {
		return c.call(method, path, body, "X-Edge-Secret", secret, "X-Forwarded-For", "198.51.100.1, "+viewer)
	}
	c.gateway = &dialect{forbidden: refusal{403, "Forbidden"}, unauthorized: c.gateway.unauthorized}
	r := newRegistration()
	through("203.0.113.1", "POST", "/org/create", r).want(t, 201)
	for _, headers := range [][]string{nil, {"X-Edge-Secret", "x"}, {"X-Edge-Secret", hex.EncodeToString(hash[:])}} {
		c.call("POST", "/admin/login", object{"email": r.Email, "password": r.Password}, headers...).wantRefusal(t, c.gateway.forbidden)
		c.call("GET", "/docs", nil, headers...).wantRefusal(t, c.gateway.forbidden)
	}
	through("203.0.113.1", "GET", "/docs", nil).want(t, 200)
	refused := false
	for i := range 60 {
		guess := object{"email": fmt.Sprintf("nobody%d@example.com", i), "password": "Guess@123"}
		refused = refused || through("203.0.113.2", "POST", "/admin/login", guess).status == 429
	}
	if !refused {
		t.Error("60 guesses of one address are not refused")
	}
	through("203.0.113.3", "POST", "/admin/login", object{"email": r.Email, "password": r.Password}).want(t, 200)
	through("203.0.113.2", "POST", "/admin/login", object{"email": "nobody@example.com", "password": "Guess@123"}).want(t, 429)
}

// testFlood has a client that sends empty logins, empty sign-ups and guesses, as fast as
// the one that once shut everybody out, while others log in. The limits are those of the
// template.
func testFlood(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(current.root, "template.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var limits []string
	for _, m := range regexp.MustCompile(`(?m)^  (\w*Throttle(?:Rate|Burst)):\n    Type: Number\n    Default: (\d+)$`).FindAllSubmatch(text, -1) {
		limits = append(limits, "-parameter", string(m[1])+"="+string(m[2]))
	}
	if len(limits) != 8 {
		t.Fatalf("limits of the template: %q", limits)
	}
	p := newLocal(t, "", nil, limits...)
	home, elsewhere, attacker := newLocalClient(t, p), newLocalClient(t, p), newLocalClient(t, p)
	guessed, other := newTenant(home), newTenant(home)

	statuses := map[string]map[int]int{"login": {}, "create": {}, "guess": {}}
	refused, done := make(chan struct{}), make(chan struct{})
	refuse := sync.OnceFunc(func() { close(refused) })
	var flood sync.WaitGroup
	flood.Go(func() {
		ticker := time.NewTicker(time.Second / 15)
		defer ticker.Stop()
		for {
			select {
			case <-done:
				return
			case <-ticker.C:
			}
			statuses["login"][attacker.call("POST", "/admin/login", object{}).status]++
			statuses["create"][attacker.call("POST", "/org/create", object{}).status]++
			status := attacker.login(guessed.Email, newPassword()).status
			if statuses["guess"][status]++; status == 429 {
				refuse()
			}
		}
	})
	stop := sync.OnceFunc(func() { close(done); flood.Wait() })
	defer stop()
	for over := false; !over; {
		for range 10 {
			mustLogin(elsewhere, other.Email, other.Password)
		}
		newTenant(elsewhere)
		select {
		case <-refused:
			over = true
		default:
		}
	}
	if ownAddresses { // otherwise the flood comes from where the owner is
		elsewhere.login(guessed.Email, guessed.Password).want(t, 429)
		mustLogin(home, guessed.Email, guessed.Password)
	}
	stop()
	delete(statuses["guess"], 429)
	for what, want := range map[string]int{"login": 422, "create": 422, "guess": 401} {
		if n := statuses[what]; len(n) != 1 || n[want] == 0 {
			t.Errorf("the flood's %s was answered %v", what, n)
		}
	}
}

// testAccessLog checks that the log of requests has the reason of every refusal and
// the request ID of the answer.
func testAccessLog(t *testing.T) {
	p := newLocal(t, "", nil)
	c := newLocalClient(t, p)
	o := newTenant(c)
	genuine := parse(t, o.token)
	claims := maps.Clone(genuine.Claims.(jwt.MapClaims))
	claims["exp"] = time.Now().Add(-time.Hour).Unix()
	expired := sign(t, jwt.SigningMethodHS256, []byte(signingSecret), genuine.Header, claims)
	for _, test := range []struct {
		a      answer
		reason string
	}{
		{c.get(o.Name), ""},
		{c.call("GET", "/org/get?organization_name=x", nil, "X-Request-Id", "own-id-"+unique()), "there is no organization of that name"},
		{c.call("POST", "/org/create", object{"email": o.Email, "password": o.Password}), "some fields are missing or not valid: organization_name "},
		{c.call("POST", "/org/get", nil), "GET only"},
		{c.call("GET", "/org/gett", nil), "no such route: did you mean GET /org/get?"},
		{c.call("GET", "/admin/me", nil), "there is no header authorization"},
		{c.me(expired), "the token has expired"},
		{c.me(expired), "the token has expired"}, // from the gateway's cache
		{c.me("x"), "not three segments"},
	} {
		id := test.a.header.Get("X-Request-Id")
		if id == "" {
			id = test.a.header.Get("Apigw-Requestid")
		}
		line := p.accessLine(t, id)
		if line["status"] != float64(test.a.status) || !strings.HasPrefix(fmt.Sprint(line["reason"]), test.reason) || (line["reason"] == nil) != (test.reason == "") {
			t.Errorf("%v: logged %v, want the reason %q", test.a, line, test.reason)
		}
	}
}

// accessLine waits for the line of the access log that has the request ID.
func (p *process) accessLine(t *testing.T, id string) (line object) {
	t.Helper()
	for deadline := time.After(patience); ; {
		text, changed := p.out.read()
		for l := range strings.Lines(text) {
			if json.Unmarshal([]byte(l), &line) == nil && line["request_id"] == id && line["duration_ms"] != nil && line["gateway_request_id"] != id && line["message"] == nil {
				return line
			}
			line = nil
		}
		select {
		case <-changed:
		case <-deadline:
			t.Fatalf("no line of %s", id)
		}
	}
}

// testUnreachable starts a gateway whose database can't be reached.
func testUnreachable(t *testing.T) {
	p := newLocal(t, "", []string{"MONGO_URL=mongodb://admin:hush-hush@127.0.0.1:1/"})
	const reason = "the database mongodb://127.0.0.1:1/ can't be reached: dial tcp 127.0.0.1:1: connect: connection refused"
	if text := p.out.String(); strings.Count(text, reason+"; going on, the service answers 503 until it can\n") != 1 || strings.Contains(text, "hush-hush") || strings.Contains(text, "ReconcileFunction") {
		t.Errorf("the start says\n%s", text)
	}
	a := newLocalClient(t, p).get("x")
	if a.want(t, 503).text("detail") != "the database can't be reached in time: try again" {
		t.Errorf("%v", a)
	}
	for _, command := range []string{"orgs", "doctor", "reconcile"} {
		code, out, errs := runLocal(t, t.TempDir(), []string{"MONGO_URL=mongodb://admin:hush-hush@127.0.0.1:1/"}, command)
		if code != 1 || out != "" || !strings.HasSuffix(errs, reason+"\n") || strings.Count(errs, "connection refused") != 1 {
			t.Errorf("%s exits %d: %s%s", command, code, out, errs)
		}
	}
}
