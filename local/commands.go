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
	"path/filepath"
	"strconv"
	"syscall"

	"orgservice/local/gateway"
)

// serve serves the service over HTTP until ctx ends.
func serve(ctx context.Context, p *project, args []string) error {
	if len(args) > 0 {
		return fmt.Errorf("unexpected argument %q", args[0])
	}
	port := p.env["PORT"]
	if port == "" {
		port = "3000"
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || strconv.FormatUint(n, 10) != port {
		return fmt.Errorf("PORT is %q: it must be a port number", port)
	}
	lock, err := p.lock()
	if err != nil {
		return err
	}
	if lock == nil {
		return fmt.Errorf("already running on the data in %s", p.data)
	}
	defer lock.Close()
	where := "in the database of MONGO_URL"
	if p.env["MONGO_URL"] == "" {
		db, err := p.database(lock)
		if err != nil {
			return err
		}
		defer db.Close()
		where = "in " + p.data
	}
	if err := p.settings(ctx); err != nil {
		return err
	}
	settings := p.gateway(p.stdout)
	settings.Addr = net.JoinHostPort(p.host, port)
	settings.Watch = true
	settings.BuildDir = filepath.Join(p.data, "build")
	g, err := gateway.New(ctx, settings)
	switch {
	case ctx.Err() != nil:
		if err == nil {
			g.Close()
		}
		return nil
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("port %s is in use: set PORT to another one", port)
	case err != nil:
		return err
	}
	defer g.Close()
	// This makes the indexes, and reports a database that can't be reached.
	if _, err := g.Invoke(ctx, "reconcile", []byte(`{"full":true}`)); err != nil {
		fmt.Fprintf(p.stderr, "the database was not reconciled: %v\n", err)
	}
	served := make(chan error, 1)
	go func() { served <- g.Serve() }()
	fmt.Fprintf(p.stdout, "listening on %s, the data is %s\n", g.URL(), where)
	fmt.Fprintf(p.stdout, "curl %s/org/create -H 'content-type: application/json' "+
		`-d '{"organization_name":"Akshay Pvt Ltd","email":"admin@example.com","password":"Admin@123"}'`+"\n", g.URL())
	select {
	case <-ctx.Done():
		return nil
	case err := <-served:
		return err
	}
}

// invoke sends an event to a function and prints the response. Its arguments
// are the function and the file of the event, or - for standard input.
func invoke(ctx context.Context, p *project, args []string) error {
	if len(args) != 2 {
		return errors.New("usage: go run ./local invoke FUNCTION EVENT.json")
	}
	var event []byte
	var err error
	if args[1] == "-" {
		event, err = io.ReadAll(p.stdin)
	} else {
		event, err = os.ReadFile(args[1])
	}
	if err != nil {
		return fmt.Errorf("the event: %w", err)
	}
	if !json.Valid(event) {
		return fmt.Errorf("the event %s is not JSON", args[1])
	}
	response, err := p.call(ctx, args[0], event)
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
	report, err := p.call(ctx, "reconcile", []byte(`{"full":true}`))
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(p.stdout, "%s\n", report)
	return err
}

// call sends one event to a function and returns the response.
func (p *project) call(ctx context.Context, function string, event []byte) ([]byte, error) {
	settings := p.gateway(p.stderr)
	lock, release, err := p.open(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	if lock != nil {
		settings.BuildDir = filepath.Join(p.data, "build")
	}
	g, err := gateway.New(ctx, settings)
	if err != nil {
		return nil, err
	}
	defer g.Close()
	return g.Invoke(ctx, function, event)
}

// gateway returns the settings of a gateway that all commands share. The
// gateway writes its logs to output.
func (p *project) gateway(output io.Writer) gateway.Config {
	return gateway.Config{
		Root:       p.root,
		Env:        p.env,
		Parameters: p.parameters,
		Output:     output,
		LogLevel:   p.env["AWS_LAMBDA_LOG_LEVEL"],
	}
}
