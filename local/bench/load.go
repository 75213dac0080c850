package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// tenant is an organization under load.
type tenant struct {
	mu    sync.Mutex // one change at a time
	name  string     // the last one that was answered
	email string
	token string
}

// load is a gateway with tenants.
type load struct {
	base string
	http *http.Client

	mu      sync.Mutex
	tenants []*tenant
	created int
}

const loadPassword = "correct horse"

// loadTests puts the local gateway under load.
func (b *bench) loadTests(ctx context.Context) error {
	l, stop, err := b.startGateway(ctx, 100_000)
	if err != nil {
		return err
	}
	defer func() { stop() }()
	for range 20 {
		status, login, err := l.create(ctx)
		if err != nil || status != http.StatusCreated {
			return fmt.Errorf("create: %d, %w", status, err)
		}
		login()
	}
	b.heading("Load")
	b.say("Clients of the local gateway, with its database and the functions on the same machine, for %s each: half of the requests are get, a fifth `me`, "+
		"a tenth each updates of the display name, logins and the key set, a twentieth creations (bcrypt at cost 10). No route is limited.", b.span)
	b.row("clients", "requests a second", "request", "p50, ms", "p90, ms", "p99, ms", "max, ms", "answers")
	b.row("--:", "--:", "---", "--:", "--:", "--:", "--:", "---")
	var rate float64
	for _, clients := range []int{1, 8, 64} {
		l.closed(ctx, clients, b.span/4) // warm
		t := l.closed(ctx, clients, b.span)
		rate = max(rate, t.rate())
		t.rows(b, fmt.Sprint(clients))
	}
	b.say("A request that no route has (the gateway alone), and the key set (a function without a database), one after the other:")
	b.row("request", "p50, ms", "p99, ms")
	b.row("---", "--:", "--:")
	for _, path := range []string{"/nothing", "/.well-known/jwks.json"} {
		h := newHistogram()
		for range 500 {
			began := time.Now()
			if _, _, err := l.do(ctx, "GET", path, "", nil); err != nil {
				return err
			}
			h.RecordValue(time.Since(began).Microseconds())
		}
		b.row(path, ms3(h.ValueAtPercentile(50)), ms3(h.ValueAtPercentile(99)))
	}
	b.say("At four times the highest of these rates, %.0f requests a second, whether they are answered or not:", 4*rate)
	if err := b.overload(ctx, l, 4*rate); err != nil {
		return err
	}
	stop()
	limit := max(1, int(rate/20))
	limited, stop, err := b.startGateway(ctx, limit)
	if err != nil {
		return err
	}
	defer stop()
	limited.tenants, limited.created = l.tenants, l.created
	b.say("The same with each route limited to %d requests a second (`ThrottleRate` and `OpenThrottleRate`), which the machine can do:", limit)
	return b.overload(ctx, limited, 4*rate)
}

// overload sends requests at a rate that is too high, and looks whether all that was
// answered is there in the end.
func (b *bench) overload(ctx context.Context, l *load, rate float64) error {
	t := newTally()
	var wg sync.WaitGroup
	tick := time.NewTicker(time.Duration(float64(time.Second) / rate))
	defer tick.Stop()
	end := time.Now().Add(b.span)
	for time.Now().Before(end) {
		<-tick.C
		wg.Go(func() { l.one(ctx, t) })
	}
	wg.Wait()
	ended := time.Now()
	var recovered time.Duration
	for {
		status, _, took, err := l.get(ctx, l.any().name)
		if err == nil && status == http.StatusOK && took < 100*time.Millisecond {
			recovered = time.Since(ended)
			break
		}
		if time.Since(ended) > time.Minute {
			return fmt.Errorf("it has not recovered after a minute: %d, %v", status, err)
		}
	}
	b.row("sent", "request", "p50, ms", "p90, ms", "p99, ms", "max, ms", "answers")
	b.row("--:", "---", "--:", "--:", "--:", "--:", "---")
	t.rows(b, "")
	lost := 0
	l.mu.Lock()
	tenants := slices.Clone(l.tenants)
	l.mu.Unlock()
	for _, o := range tenants {
		status, body, _, err := l.get(ctx, o.name)
		if err != nil || status != http.StatusOK || !bytes.Contains(body, []byte(`"`+o.name+`"`)) {
			lost++
		}
	}
	b.say("A get took less than 100 ms again %.1f s after the last answer. Of %d organizations that were answered, %d are missing or have another name than the last one that was answered.",
		recovered.Seconds(), len(tenants), lost)
	return nil
}

// tally counts answers and times of requests.
type tally struct {
	began time.Time

	mu       sync.Mutex
	took     time.Duration
	times    map[string]*hdrhistogram.Histogram // µs
	statuses map[string]map[string]int
}

func newHistogram() *hdrhistogram.Histogram { return hdrhistogram.New(1, 60_000_000, 3) }

func newTally() *tally {
	return &tally{began: time.Now(), times: map[string]*hdrhistogram.Histogram{}, statuses: map[string]map[string]int{}}
}

func (t *tally) add(request, answer string, took time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.times[request] == nil {
		t.times[request], t.statuses[request] = newHistogram(), map[string]int{}
	}
	t.times[request].RecordValue(took.Microseconds())
	t.statuses[request][answer]++
	t.took = time.Since(t.began)
}

// rate returns the requests a second.
func (t *tally) rate() float64 {
	var n int64
	for _, h := range t.times {
		n += h.TotalCount()
	}
	return float64(n) / t.took.Seconds()
}

func (t *tally) rows(b *bench, first string) {
	for i, request := range slices.Sorted(maps.Keys(t.times)) {
		h := t.times[request]
		var answers []string
		for _, status := range slices.Sorted(maps.Keys(t.statuses[request])) {
			answers = append(answers, fmt.Sprintf("%s: %d", status, t.statuses[request][status]))
		}
		cells := []string{request, ms3(h.ValueAtPercentile(50)), ms3(h.ValueAtPercentile(90)), ms3(h.ValueAtPercentile(99)), ms3(h.Max()), strings.Join(answers, ", ")}
		switch {
		case first == "":
			cells = append([]string{fmt.Sprint(h.TotalCount())}, cells...)
		case i == 0:
			cells = append([]string{first, fmt.Sprintf("%.0f", t.rate())}, cells...)
		default:
			cells = append([]string{"", ""}, cells...)
		}
		b.row(cells...)
	}
}

func ms3(us int64) string { return fmt.Sprintf("%.1f", float64(us)/1000) }

// closed sends requests from so many clients, each the next one after its answer.
func (l *load) closed(ctx context.Context, clients int, span time.Duration) *tally {
	t := newTally()
	var wg sync.WaitGroup
	for range clients {
		wg.Go(func() {
			for time.Since(t.began) < span && ctx.Err() == nil {
				l.one(ctx, t)
			}
		})
	}
	wg.Wait()
	return t
}

// one sends one request of the mix.
func (l *load) one(ctx context.Context, t *tally) {
	o := l.any()
	var request string
	var send func() (int, error)
	then := func() {}
	plain := func(method, path, token string, body any) func() (int, error) {
		return func() (int, error) {
			status, _, err := l.do(ctx, method, path, token, body)
			return status, err
		}
	}
	switch n := rand.IntN(20); {
	case n < 10:
		o.mu.Lock()
		name := o.name
		o.mu.Unlock()
		request, send = "get", plain("GET", "/org/get?organization_name="+url.QueryEscape(name), "", nil)
	case n < 14:
		request, send = "me", plain("GET", "/admin/me", o.token, nil)
	case n < 16:
		request, send = "update", func() (int, error) { return l.rename(ctx, o) }
	case n < 17:
		request, send = "jwks", plain("GET", "/.well-known/jwks.json", "", nil)
	case n < 19:
		request, send = "login", plain("POST", "/admin/login", "", map[string]string{"email": o.email, "password": loadPassword})
	default:
		request, send = "create", func() (status int, err error) {
			status, then, err = l.create(ctx)
			return status, err
		}
	}
	began := time.Now()
	status, err := send()
	answer := fmt.Sprint(status)
	if err != nil {
		answer = "none"
	}
	t.add(request, answer, time.Since(began))
	then()
}

func (l *load) any() *tenant {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.tenants[rand.IntN(len(l.tenants))]
}

// rename changes the case of one letter, so that the name stays the same for others.
func (l *load) rename(ctx context.Context, o *tenant) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	letters := []byte(o.name)
	letters[rand.IntN(4)] ^= 'a' - 'A'
	name := string(letters)
	status, _, err := l.do(ctx, "PUT", "/org/update", o.token, map[string]string{"organization_name": name})
	if err == nil && status == http.StatusOK {
		o.name = name
	}
	return status, err
}

// create creates an organization. With login it becomes one of the tenants.
func (l *load) create(ctx context.Context) (status int, login func(), err error) {
	l.mu.Lock()
	l.created++
	o := &tenant{name: fmt.Sprintf("Load %d", l.created), email: fmt.Sprintf("admin%d@load.test", l.created)}
	l.mu.Unlock()
	status, _, err = l.do(ctx, "POST", "/org/create", "", map[string]string{"organization_name": o.name, "email": o.email, "password": loadPassword})
	return status, func() {
		if err != nil || status != http.StatusCreated {
			return
		}
		_, body, _ := l.do(ctx, "POST", "/admin/login", "", map[string]string{"email": o.email, "password": loadPassword})
		var tokens struct {
			Token string `json:"access_token"`
		}
		json.Unmarshal(body, &tokens)
		o.token = tokens.Token
		l.mu.Lock()
		defer l.mu.Unlock()
		l.tenants = append(l.tenants, o)
	}, err
}

// get gets an organization, once its route lets it, but within a minute.
func (l *load) get(ctx context.Context, name string) (status int, body []byte, took time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for ; ; time.Sleep(50 * time.Millisecond) { // a refusal does not say how long to wait
		began := time.Now()
		status, body, err = l.do(ctx, "GET", "/org/get?organization_name="+url.QueryEscape(name), "", nil)
		if err != nil || status != http.StatusTooManyRequests {
			return status, body, time.Since(began), err
		}
	}
}

func (l *load) do(ctx context.Context, method, path, token string, body any) (status int, answer []byte, err error) {
	var content io.Reader
	if body != nil {
		data, err := json.Marshal(body)
		if err != nil {
			return 0, nil, err
		}
		content = bytes.NewReader(data)
	}
	r, err := http.NewRequestWithContext(ctx, method, l.base+path, content)
	if err != nil {
		return 0, nil, err
	}
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	response, err := l.http.Do(r)
	if err != nil {
		return 0, nil, err
	}
	defer response.Body.Close()
	answer, err = io.ReadAll(response.Body)
	return response.StatusCode, answer, err
}

var listening = regexp.MustCompile(`^listening on (http://\S+) `)

// startGateway starts the local gateway with a database of its own, which is the same the next
// time. Each route answers so many requests a second.
func (b *bench) startGateway(ctx context.Context, limit int) (l *load, stop func(), err error) {
	binary, data := filepath.Join(b.bin, "local"), filepath.Join(b.bin, "data")
	build := exec.CommandContext(ctx, "go", "build", "-o", binary, "./local")
	build.Dir, build.Stderr = b.root, os.Stderr
	root, err := filepath.Abs(b.root)
	kept := filepath.Join(root, "local", ".data", "bench")
	if err := errors.Join(err, build.Run(), os.MkdirAll(kept, 0o700), os.MkdirAll(data, 0o700)); err != nil {
		return nil, nil, err
	}
	if err := os.Symlink(kept, filepath.Join(data, "build")); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, nil, err
	}
	args := []string{"-data", data}
	for _, name := range []string{"ThrottleRate", "ThrottleBurst", "OpenThrottleRate", "OpenThrottleBurst"} {
		args = append(args, "-parameter", fmt.Sprint(name, "=", limit))
	}
	cmd := exec.Command(binary, args...)
	cmd.Dir, cmd.Stderr = b.root, io.Discard
	cmd.Env = append(os.Environ(), "PORT=0", "MONGO_URL="+b.given, "MASTER_DB="+b.masterDB+"_load", "BCRYPT_COST=10", "LOG_LEVEL=ERROR")
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, nil, err
	}
	stop = func() {
		cmd.Process.Signal(syscall.SIGTERM)
		cmd.Wait()
	}
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if m := listening.FindStringSubmatch(lines.Text()); m != nil {
			go io.Copy(io.Discard, out)
			transport := &http.Transport{MaxIdleConnsPerHost: 1000, DialContext: dialFromAnywhere}
			return &load{base: m[1], http: &http.Client{Transport: transport, Timeout: 40 * time.Second}}, stop, nil
		}
	}
	stop()
	return nil, nil, errors.New("the gateway does not listen")
}

// dialFromAnywhere connects from an address of its own each time, as many clients would,
// since the service counts by address. On Linux all of 127.0.0.0/8 is this machine.
func dialFromAnywhere(ctx context.Context, network, address string) (net.Conn, error) {
	local := &net.TCPAddr{IP: net.IPv4(127, byte(1+rand.IntN(250)), byte(rand.IntN(250)), byte(1+rand.IntN(250)))}
	return (&net.Dialer{LocalAddr: local}).DialContext(ctx, network, address)
}
