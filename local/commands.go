package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"syscall"

	"orgservice/local/embedded"
	"orgservice/local/gateway"
)

// serve serves the service over HTTP until ctx ends.
func serve(ctx context.Context, p *project, args []string) error {
	if len(args) > 0 {
		return fmt.Errorf("unexpected argument %q", args[0])
	}
	port := p.port()
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || strconv.FormatUint(n, 10) != port {
		return fmt.Errorf("PORT is %q: it must be a port number", port)
	}
	lock, err := p.lock()
	if err != nil {
		return err
	}
	if lock == nil {
		o, err := p.owner()
		if err != nil {
			return err
		}
		return fmt.Errorf("already running on the data in %s: %v", p.data, o)
	}
	defer lock.Close()
	// This comes before the rest, because links in mails have the port.
	listener, err := net.Listen("tcp", net.JoinHostPort(p.host, port))
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("port %s is in use: set PORT to another one", port)
	case err != nil:
		return err
	}
	defer listener.Close()
	var db *embedded.Server
	if p.env["MONGO_URL"] == "" {
		if db, err = p.database(lock); err != nil {
			return err
		}
		defer db.Close()
	}
	if err := p.settings(ctx); err != nil {
		return err
	}
	box, err := p.mail(ctx, listener.Addr().(*net.TCPAddr).Port, p.stdout)
	if err != nil {
		return err
	}
	if box != nil {
		defer box.Close()
	}
	reachable := p.reach(ctx)
	if reachable {
		if err := p.checkMigrations(ctx); err != nil {
			return err
		}
	}
	settings := p.gateway(p.stdout)
	settings.Log = logStyle(p.stdout, p.env)
	if settings.OperatorToken, err = p.random("operator_token"); err != nil {
		return err
	}
	settings.Listener = listener
	settings.Watch = true
	settings.BuildDir = p.buildDir()
	g, err := gateway.New(ctx, settings)
	if ctx.Err() != nil {
		if err == nil {
			g.Close()
		}
		return nil
	}
	if err != nil {
		return err
	}
	defer g.Close()
	if reachable { // this makes the indexes
		if _, err := g.Invoke(ctx, "reconcile", []byte(`{"full":true}`)); err != nil {
			fmt.Fprintf(p.stderr, "the database was not reconciled: %v\n", err)
		}
	}
	o := owner{PID: os.Getpid(), URL: g.URL()}
	if db != nil {
		o.Database = db.URL()
	}
	if err := o.write(lock); err != nil {
		return err
	}
	ended := make(chan error, 2)
	go func() { ended <- g.Serve() }()
	p.welcome(g, settings.OperatorToken, db != nil, box != nil)
	watching, stop := context.WithCancel(ctx)
	defer stop()
	go func() {
		if err := p.watch(watching, lock, db); err != nil {
			ended <- err
		}
	}()
	select {
	case <-ctx.Done():
		return nil
	case err := <-ended:
		return err
	}
}

// invoke sends an event to a function and prints the response. Its arguments
// are the function and the file of the event, or - for standard input.
func invoke(ctx context.Context, p *project, args []string) error {
	if len(args) != 2 || args[0] == "" {
		return errors.New("usage: make invoke FN=create EVENT=events/create.json")
	}
	response, err := p.call(ctx, args[0], func() ([]byte, error) { return p.event(args[1]) })
	if err != nil {
		return err
	}
	var out bytes.Buffer
	if err := json.Indent(&out, response, "", "  "); err != nil {
		return fmt.Errorf("the response is not JSON: %q", response)
	}
	_, err = fmt.Fprintln(p.stdout, out.String())
	return err
}

// reconcile runs the function reconcile over the whole database and prints its
// report.
func reconcile(ctx context.Context, p *project, args []string) error {
	if len(args) > 0 {
		return fmt.Errorf("unexpected argument %q", args[0])
	}
	report, err := p.call(ctx, "reconcile", func() ([]byte, error) { return []byte(`{"full":true}`), p.ask(ctx) })
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(p.stdout, "%s\n", report)
	return err
}

// event reads an event from a file, or from standard input if the path is -.
func (p *project) event(path string) (event []byte, err error) {
	if path == "-" {
		event, err = io.ReadAll(p.stdin)
	} else {
		event, err = os.ReadFile(path)
	}
	if err != nil {
		return nil, fmt.Errorf("the event: %w", err)
	}
	if !json.Valid(event) {
		return nil, fmt.Errorf("the event %s is not JSON", path)
	}
	return event, nil
}

// call sends the event that read returns to a function and returns the response.
// It reads the event last, since the file may have the name of a function that
// there is not.
func (p *project) call(ctx context.Context, function string, read func() ([]byte, error)) ([]byte, error) {
	settings := p.gateway(p.stderr)
	settings.Only = []string{function}
	lock, release, err := p.open(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	port, _ := strconv.Atoi(p.port())
	box, err := p.mail(ctx, port, p.stderr)
	if err != nil {
		return nil, err
	}
	if box != nil {
		defer box.Close()
	}
	if lock != nil {
		settings.BuildDir = p.buildDir()
	}
	g, err := gateway.New(ctx, settings)
	if err != nil {
		return nil, err
	}
	defer g.Close()
	event, err := read()
	if err != nil {
		return nil, err
	}
	return g.Invoke(ctx, function, event)
}

// gateway returns the settings of a gateway that all commands share. The
// gateway writes its logs to output.
func (p *project) gateway(output io.Writer) gateway.Config {
	return gateway.Config{
		Root:       p.root,
		Env:        p.env,
		Parameters: p.parameters,
		Origins:    p.origins(),
		Output:     output,
		LogLevel:   p.level,
		Debug:      p.debug(),
	}
}
