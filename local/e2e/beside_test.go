package e2e

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
)

// runBeside runs the tests on own and on the version of a revision, which serve the requests in
// turn, on the database that env names. At the end both versions must find the database consistent.
func runBeside(m *testing.M, temp, revision string, env []string) (code int, err error) {
	defer func() { err = errors.Join(err, own.stop()) }()
	// The pages of two versions may differ.
	if err := leave(append(slices.Clone(ownTests), "TestPages", "TestDocument")); err != nil {
		return 2, err
	}
	before, err := buildRevision(filepath.Join(temp, "before"), revision)
	if err != nil {
		return 1, err
	}
	data := filepath.Join(temp, "data-before")
	// It has the database of the other's data folder.
	p, err := before.start(data, append(env, "MASTER_DB="+masterDB(own.data)))
	if err != nil {
		return 1, fmt.Errorf("revision %s: %w", revision, err)
	}
	defer func() { err = errors.Join(err, p.stop()) }()
	var requests atomic.Int64
	proxy := httptest.NewServer(inTurn(&requests, own.url, p.url))
	defer proxy.Close()
	baseURL = proxy.URL
	code = m.Run()
	if requests.Load() == 0 {
		return 1, errors.New("no test has sent a request")
	}
	fmt.Printf("%d requests to this version and to %s in turn\n", requests.Load(), revision)
	for _, v := range []program{current, before} {
		doctor := v.newCommand(own.data, append(env, "MASTER_DB="+masterDB(own.data)), "doctor")
		if out, err := doctor.CombinedOutput(); err != nil {
			return 1, fmt.Errorf("doctor of %s: %w\n%s", v.root, err, out)
		}
	}
	return code, secrets.searchLogs()
}

// buildRevision builds command local of a revision, whose source it writes into the folder dir.
func buildRevision(dir, revision string) (program, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return program{}, err
	}
	archive := exec.Command("git", "archive", "--format=tar", "-o", filepath.Join(dir, "source.tar"), revision)
	archive.Dir = current.root
	extract := exec.Command("tar", "-xf", "source.tar")
	extract.Dir = dir
	for _, cmd := range []*exec.Cmd{archive, extract} {
		if out, err := cmd.CombinedOutput(); err != nil {
			return program{}, fmt.Errorf("%v: %w\n%s", cmd.Args, err, out)
		}
	}
	return buildLocal(dir, filepath.Join(dir, "bin"))
}

// inTurn passes requests on to the servers in turn. They see the address of the client, of
// which there are many on the loopback interface.
func inTurn(requests *atomic.Int64, servers ...string) http.Handler {
	type clientAddress struct{}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			server, err := url.Parse(servers[requests.Add(1)%int64(len(servers))])
			if err != nil {
				panic(err)
			}
			r.SetURL(server)
			r.Out.Host = r.In.Host
			host, _, _ := net.SplitHostPort(r.In.RemoteAddr)
			r.Out = r.Out.WithContext(context.WithValue(r.Out.Context(), clientAddress{}, host))
		},
		Transport: &http.Transport{
			DisableKeepAlives: true, // a connection has one client
			DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
				dialer := net.Dialer{}
				if host, ok := ctx.Value(clientAddress{}).(string); ok && ownAddresses {
					dialer.LocalAddr = &net.TCPAddr{IP: net.ParseIP(host)}
				}
				return dialer.DialContext(ctx, network, address)
			},
		},
	}
	return proxy
}
