package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/google/go-cmp/cmp"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"orgservice/local/embedded"
	"orgservice/shared/api"
	"orgservice/shared/org"
)

const (
	killWorkers    = 8
	killOperations = 30 // of each worker
)

// TestKill changes many organizations at once while it kills functions during
// their work, and once the gateway with its database. At the end, every change
// that a client saw succeed must be there. A change without an answer must be
// done completely or not at all. The test needs its own gateway, so it is left
// out with ORGSERVICE_URL.
func TestKill(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	a := &arena{t: t, ctx: ctx, data: newData(t)}
	a.start()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)

	killing, stopKilling := context.WithCancel(t.Context())
	var killer, working sync.WaitGroup
	defer func() {
		cancel()
		working.Wait()
		stopKilling()
		killer.Wait()
	}()
	killer.Go(func() { a.killFunctions(killing, rand.New(rand.NewPCG(seed, 0))) })
	workers := make([]*worker, killWorkers)
	for i := range workers {
		workers[i] = &worker{arena: a, random: rand.New(rand.NewPCG(seed, uint64(i+1))), counts: map[string]int{}}
		working.Go(func() { workers[i].work(ctx) })
	}
	a.waitForHalf(ctx)
	a.crash()
	working.Wait()
	stopKilling()
	killer.Wait()
	a.process.mustStop(t)
	if t.Failed() {
		return
	}

	uri := serverURL
	if uri == "" { // the embedded database has ended with the gateway
		database, err := embedded.Start(filepath.Join(a.data, "db"), "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(database.Close)
		uri = database.URL()
	}
	service := reconcile(t, uri, masterDB(a.data))
	database := connect(t, uri, masterDB(a.data), patience)
	found := readFinal(t, service, database)
	before := slog.Default()
	slog.SetDefault(slog.New(slog.DiscardHandler)) // of a function that runs here
	defer slog.SetDefault(before)
	for _, w := range workers {
		for _, o := range w.all {
			if o.fate == perhaps && o.key != "" {
				found.createAgain(t, o)
			}
		}
	}
	found = readFinal(t, service, database)
	counts := map[string]int{}
	for _, w := range workers {
		for _, o := range w.all {
			found.check(t, o)
			counts["organization "+o.fate]++
			if o.again {
				counts["created again"]++
			}
		}
		for outcome, n := range w.counts {
			counts[outcome] += n
		}
	}
	t.Logf("%d functions killed; %v", a.killed, counts)
	if a.killed == 0 || counts["organization alive"] == 0 || counts["organization deleted"] == 0 {
		t.Error("too little has happened for the test to show anything")
	}
}

// arena holds the gateway, which is killed and started again.
type arena struct {
	t    *testing.T
	ctx  context.Context // ends when the test has failed
	data string

	operations atomic.Int64 // started so far
	killed     int          // functions killed; only the killer writes it

	mu       sync.Mutex
	up       chan struct{} // closed while the gateway is up
	process  *process
	database *mongo.Database
}

// connect returns a database, with a time limit for each command.
func connect(t *testing.T, uri, database string, timeout time.Duration) *mongo.Database {
	t.Helper()
	c, err := mongo.Connect(options.Client().ApplyURI(uri).SetTimeout(timeout))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel() // do not wait for a server that is gone
		c.Disconnect(ctx)
	})
	return c.Database(database)
}

// start starts the gateway and connects to its database.
func (a *arena) start() {
	a.t.Helper()
	p := newLocal(a.t, a.data, []string{"DELETE_GRACE=1"})
	uri := serverURL
	if uri == "" {
		lock, err := os.ReadFile(filepath.Join(a.data, "lock"))
		if err != nil {
			a.t.Fatal(err)
		}
		var owner struct{ Database string }
		if err := json.Unmarshal(lock, &owner); err != nil {
			a.t.Fatal(err)
		}
		uri = owner.Database
	}
	database := connect(a.t, uri, masterDB(a.data), 10*time.Second)
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.up == nil {
		a.up = make(chan struct{})
	}
	a.process, a.database = p, database
	close(a.up)
}

// crash kills the gateway with its embedded database, and starts it again.
func (a *arena) crash() {
	a.t.Helper()
	a.mu.Lock()
	a.up = make(chan struct{})
	a.mu.Unlock()
	a.process.kill()
	a.start()
}

// current waits until the gateway is up, or the test has failed, and returns the
// gateway and its database.
func (a *arena) current() (*process, *mongo.Database) {
	a.mu.Lock()
	up := a.up
	a.mu.Unlock()
	select {
	case <-up:
	case <-a.ctx.Done():
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.process, a.database
}

// waitForHalf waits until half of the operations have started.
func (a *arena) waitForHalf(ctx context.Context) {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for a.operations.Load() < killWorkers*killOperations/2 && ctx.Err() == nil {
		<-tick.C
	}
}

// killFunctions kills a random function every few operations, until ctx ends.
func (a *arena) killFunctions(ctx context.Context, random *rand.Rand) {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for next := int64(0); ; next += 1 + random.Int64N(4) {
		for a.operations.Load() < next || random.IntN(10) > 0 {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
		}
		a.mu.Lock()
		gateway := a.process.cmd.Process.Pid
		a.mu.Unlock()
		functions := children(gateway)
		if len(functions) == 0 {
			continue // the gateway starts again
		}
		pid := functions[random.IntN(len(functions))]
		// The handle p stays with its process. If the process ends and another
		// one gets its PID, Kill does not kill that one.
		p, err := os.FindProcess(pid)
		if err != nil {
			continue
		}
		if slices.Contains(children(gateway), pid) && p.Kill() == nil {
			a.killed++
		}
		p.Release()
	}
}

// children returns the PIDs of the functions under a gateway.
func children(gateway int) (pids []int) {
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range stats {
		stat, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		// pid (name) state parent …
		head, tail, ok := strings.Cut(string(stat), ") ")
		pid, name, _ := strings.Cut(head, " (")
		fields := strings.Fields(tail)
		if !ok || len(fields) < 2 || fields[0] == "Z" || fields[1] != strconv.Itoa(gateway) || name == "go" {
			continue
		}
		if n, err := strconv.Atoi(pid); err == nil {
			pids = append(pids, n)
		}
	}
	return pids
}

// States of an organization, as far as its worker knows.
const (
	alive    = "alive"
	deleted  = "deleted"
	perhaps  = "perhaps created"
	doubtful = "perhaps deleted" // or restored
)

// herded is an organization and what its worker knows about it. After a change
// without an answer, it may have one of several names or passwords.
type herded struct {
	registration
	id        string
	fate      string
	key       string   // of its creation; empty: it has none
	names     []string // that it may have
	passwords []string // that it may have
	current   string   // the password of the login that gave token
	token     string
	again     bool // it was created again, with the same key
	pending   bool // a change had no answer, and no later one succeeded
}

// worker creates and changes organizations of its own.
type worker struct {
	*arena
	random  *rand.Rand
	client  *client
	process *process // the gateway of client
	all     []*herded
	counts  map[string]int // of answers, by kind
}

// service waits until the gateway is up, and returns a client of it.
func (w *worker) service() *client {
	if p, _ := w.current(); w.process != p {
		w.process, w.client = p, newLocalClient(w.t, p)
	}
	return w.client
}

func (w *worker) work(ctx context.Context) {
	for range killOperations {
		if ctx.Err() != nil {
			return
		}
		w.operations.Add(1)
		var living, gone []*herded
		for _, o := range w.all {
			switch o.fate {
			case alive:
				living = append(living, o)
			case deleted:
				gone = append(gone, o)
			}
		}
		n := w.random.IntN(100)
		if len(gone) > 0 && n < 10 {
			w.restore(gone[w.random.IntN(len(gone))])
			continue
		}
		if len(living) == 0 || n < 30 {
			w.create()
			continue
		}
		o := living[w.random.IntN(len(living))]
		switch {
		case n < 65:
			w.rename(o)
		case n < 80:
			w.changePassword(o)
		case n < 87:
			w.suspend(o)
		default:
			w.delete(o)
		}
	}
}

// unknown tells whether the change may or may not have happened, according to the
// answer. It fails the test if no client should see the status.
func (w *worker) unknown(a answer) bool {
	switch a.status {
	case 0, 500, 503: // the client checks the body of a 500
		w.counts[fmt.Sprint("unknown ", a.status)]++
		if problem := a.text("detail"); a.status == 500 && problem != "" {
			w.t.Errorf("%v", a)
		}
		return true
	case 200, 201:
		w.counts["acknowledged"]++
	case 401, 403, 404, 409, 429:
		w.counts[fmt.Sprint("refused ", a.status)]++
	default:
		w.t.Errorf("%v", a)
	}
	return false
}

func (w *worker) create() {
	r := newRegistration()
	o := &herded{registration: r, fate: perhaps, names: []string{r.Name}, passwords: []string{r.Password}}
	w.all = append(w.all, o)
	var headers []string
	if w.random.IntN(4) > 0 {
		o.key = unique()
		headers = []string{"Idempotency-Key", o.key}
	}
	a := w.service().call("POST", "/org/create", r, headers...)
	if w.unknown(a) {
		return
	}
	if a.status != 201 {
		w.t.Errorf("%v; want 201", a)
		return
	}
	o.id, o.fate = a.text("id"), alive
	if want := collectionOf(r.Name); a.text("collection_name") != want {
		w.t.Errorf("%v; want %s", a, want)
	}
	w.insert(o)
}

func collectionOf(name string) string {
	return "org_" + strings.ReplaceAll(strings.ToLower(name), " ", "_")
}

func documentIDs(organizationID string) []string {
	return []string{organizationID + "/1", organizationID + "/2"}
}

// insert inserts two documents into the collection of a new organization. It
// tries again when the database is away.
func (w *worker) insert(o *herded) {
	for _, id := range documentIDs(o.id) {
		for deadline := time.Now().Add(patience); ; {
			_, database := w.current()
			_, err := database.Collection(collectionOf(o.Name)).InsertOne(context.Background(), bson.D{{Key: "_id", Value: id}})
			if err == nil || mongo.IsDuplicateKeyError(err) {
				break
			}
			if time.Now().After(deadline) {
				w.t.Errorf("insert %s: %v", id, err)
				return
			}
		}
	}
}

// login logs in if there is no token, and tells whether there is one now.
func (w *worker) login(o *herded) bool {
	if o.token != "" {
		return true
	}
	for _, password := range slices.Backward(o.passwords) {
		a := w.service().login(o.Email, password)
		if w.unknown(a) {
			return false
		}
		if a.status == 429 {
			return false // an attempt that was killed counts as a failed login
		}
		if a.status == 200 {
			o.token, o.current = a.text("access_token"), password
			return true
		}
	}
	if !o.pending {
		w.t.Errorf("%s: none of the passwords that it may have opens it", o.Name)
	}
	return false
}

// change calls the service to change the organization. acknowledged tells whether
// the change succeeded, and unknown whether it may or may not have happened.
func (w *worker) change(o *herded, call func(*client) answer) (a answer, acknowledged, unknown bool) {
	for range 2 {
		if !w.login(o) {
			return a, false, false
		}
		a = call(w.service())
		switch {
		case w.unknown(a):
			o.pending = true
			return a, false, true
		case a.status == 200:
			if a.text("id") != o.id {
				w.t.Errorf("%v; want %s", a, o.id)
			}
			return a, true, false
		case a.status == 429:
			return a, false, false
		case !o.pending:
			w.t.Errorf("%v, although all that was done before was acknowledged", a)
			return a, false, false
		case a.status != 401:
			return a, false, false
		}
		o.token = "" // it is from an old password
	}
	return a, false, false
}

func (w *worker) rename(o *herded) {
	name := "Renamed " + unique()
	a, acknowledged, unknown := w.change(o, func(c *client) answer {
		return c.update(o.token, object{"organization_name": name})
	})
	switch {
	case acknowledged:
		if a.text("organization_name") != name || a.text("collection_name") != collectionOf(name) {
			w.t.Errorf("%v; want %s", a, name)
		}
		// The token was valid, so the password that it is from is the current one.
		o.names, o.passwords, o.pending = []string{name}, []string{o.current}, false
	case unknown:
		o.names = append(o.names, name)
	}
}

func (w *worker) changePassword(o *herded) {
	password := newPassword()
	a, acknowledged, unknown := w.change(o, func(c *client) answer {
		return c.update(o.token, object{"password": password, "current_password": o.current})
	})
	switch {
	case acknowledged:
		if !slices.Contains(o.names, a.text("organization_name")) {
			w.t.Errorf("%v; want one of %q", a, o.names)
		}
		o.names, o.passwords, o.pending, o.token = []string{a.text("organization_name")}, []string{password}, false, ""
	case unknown:
		o.passwords = append(o.passwords, password)
	}
}

func (w *worker) delete(o *herded) {
	_, acknowledged, unknown := w.change(o, func(c *client) answer { return c.delete(o.token) })
	switch {
	case acknowledged:
		o.fate = deleted
	case unknown:
		o.fate = doubtful
	}
}

// restore takes the deletion back, as an operator.
func (w *worker) restore(o *herded) {
	a := w.service().operate("POST", "/"+o.id+"/restore", object{"reason": "a mistake"})
	switch {
	case w.unknown(a):
		o.fate = doubtful
	case a.status == 200:
		o.fate, o.token = alive, ""
		w.counts["restored"]++
	default:
		w.t.Errorf("restore %s: %v", o.Name, a)
	}
}

// suspend suspends the organization and reactivates it, as an operator who repeats each act until
// there is an answer. In between nobody who is logged in can do anything.
func (w *worker) suspend(o *herded) {
	act := func(kind string) bool {
		for w.ctx.Err() == nil {
			a := w.service().operate("POST", "/"+o.id+"/"+kind, object{"reason": "a test"})
			switch {
			case w.unknown(a), a.status == 409: // it is changed at the same time
			case a.status == 200:
				return true
			default:
				w.t.Errorf("%s %s: %v", kind, o.Name, a)
				return false
			}
		}
		return false
	}
	if !act("suspend") {
		return
	}
	if o.token != "" {
		if a := w.service().me(o.token); !w.unknown(a) && a.status != 401 {
			w.t.Errorf("%v, although %s is suspended", a, o.Name)
		}
	}
	if act("reactivate") {
		o.token = ""
		w.counts["suspended"]++
	}
}

// final is the database after the repair.
type final struct {
	service       *org.Service
	organizations map[string]org.Organization // by id
	byName        map[string]string           // ids
	documents     map[string][]string         // ids by collection
}

func readFinal(t *testing.T, service *org.Service, database *mongo.Database) final {
	t.Helper()
	organizations, err := service.Store.Organizations(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	f := final{service, map[string]org.Organization{}, map[string]string{}, map[string][]string{}}
	for _, o := range organizations {
		f.organizations[o.ID], f.byName[o.Name] = o, o.ID
	}
	collections, err := database.ListCollectionNames(t.Context(), bson.D{})
	if err != nil {
		t.Fatal(err)
	}
	owners := map[string]string{}
	for _, name := range collections {
		if !strings.HasPrefix(name, org.CollectionPrefix) {
			continue
		}
		cursor, err := database.Collection(name).Find(t.Context(), bson.D{})
		if err != nil {
			t.Fatal(err)
		}
		var docs []struct {
			ID string `bson:"_id"`
		}
		if err := cursor.All(t.Context(), &docs); err != nil {
			t.Fatal(err)
		}
		f.documents[name] = []string{}
		for _, d := range docs {
			if other, twice := owners[d.ID]; twice {
				t.Errorf("document %s is in %s and in %s", d.ID, other, name)
			}
			owners[d.ID] = name
			f.documents[name] = append(f.documents[name], d.ID)
		}
		slices.Sort(f.documents[name])
	}
	return f
}

// createAgain repeats the creation of an organization that had no answer: it is there afterwards,
// and if it was before, it is the same one.
func (f final) createAgain(t *testing.T, o *herded) {
	t.Helper()
	body, err := json.Marshal(o.registration)
	if err != nil {
		t.Fatal(err)
	}
	event := events.APIGatewayV2HTTPRequest{RawPath: "/org/create", Body: string(body), Headers: map[string]string{"content-type": "application/json", "idempotency-key": o.key}}
	event.RequestContext.HTTP.Method, event.RequestContext.HTTP.Path = "POST", event.RawPath
	response, err := api.Lambda(api.Create(f.service))(t.Context(), event)
	var created struct{ ID string }
	if err != nil || response.StatusCode != 201 || json.Unmarshal([]byte(response.Body), &created) != nil {
		t.Errorf("%s is created again: %d %s, %v", o.Name, response.StatusCode, response.Body, err)
	}
	if before, there := f.byName[o.Name]; there && created.ID != before {
		t.Errorf("%s is %s after it was created again, and was %s", o.Name, created.ID, before)
	}
	o.again = true
}

// check compares an organization with what its worker knows.
func (f final) check(t *testing.T, o *herded) {
	t.Helper()
	found, there := f.organizations[o.id]
	if o.fate == perhaps { // its ID is not known
		found, there = f.organizations[f.byName[o.Name]]
	}
	describe := fmt.Sprintf("organization %s %s (%s; names %q)", o.id, o.Name, o.fate, o.names)
	if !there {
		if o.fate == alive || o.again {
			t.Errorf("%s is gone", describe)
		}
		for _, name := range o.names {
			if documents, exists := f.documents[collectionOf(name)]; exists {
				t.Errorf("%s is gone, but for its collection with %q", describe, documents)
			}
			if _, err := f.service.Get(t.Context(), name); err == nil {
				t.Errorf("%s is gone, but is found as %s", describe, name)
			}
		}
		f.checkLogins(t, o, describe, 0)
		return
	}
	if found.Status == org.Deleted && (o.fate == deleted || o.fate == doubtful) {
		if diff := cmp.Diff(documentIDs(o.id), f.documents[found.Collection]); diff != "" {
			t.Errorf("%s: documents in %s (-want +got):\n%s", describe, found.Collection, diff)
		}
		for _, name := range o.names {
			if _, err := f.service.Get(t.Context(), name); err == nil {
				t.Errorf("%s is deleted, but is found as %s", describe, name)
			}
		}
		f.checkLogins(t, o, describe, 0)
		return
	}
	if o.fate == deleted {
		t.Errorf("%s is still there", describe)
	}
	if found.Status != org.Active || !slices.Contains(o.names, found.Name) || found.Collection != collectionOf(found.Name) {
		t.Errorf("%s is %+v", describe, found)
	}
	want := documentIDs(o.id)
	if o.fate == perhaps {
		want = []string{}
	}
	if diff := cmp.Diff(want, f.documents[found.Collection]); diff != "" {
		t.Errorf("%s: documents in %s (-want +got):\n%s", describe, found.Collection, diff)
	}
	for _, name := range o.names {
		got, err := f.service.Get(t.Context(), name)
		if (err == nil) != (name == found.Name) || err == nil && got.ID != found.ID {
			t.Errorf("%s: get %s finds %s, %v", describe, name, got.ID, err)
		}
	}
	f.checkLogins(t, o, describe, 1)
}

// checkLogins fails the test unless a login succeeds with as many of the passwords
// as want.
func (f final) checkLogins(t *testing.T, o *herded, describe string, want int) {
	t.Helper()
	opened := 0
	for _, password := range o.passwords {
		if _, err := f.service.Login(t.Context(), org.LoginRequest{Email: o.Email, Password: password}); err == nil {
			opened++
		}
	}
	if opened != want {
		t.Errorf("%s: %d of its %d possible passwords open it, want %d", describe, opened, len(o.passwords), want)
	}
}
