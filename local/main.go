// Command local runs the service on this machine: package gateway serves the
// functions of template.yaml, on an embedded database or on that of MONGO_URL.
//
//	go run ./local [flags]
//	go run ./local [flags] invoke FUNCTION EVENT.json
//	go run ./local [flags] reconcile
//	go run ./local [flags] migrate [status]
//	go run ./local [flags] doctor
//	go run ./local [flags] orgs [MOST]
//	go run ./local [flags] new NAME
//	go run ./local [flags] demo [URL]
//	go run ./local [flags] operator [list | deleted | show | suspend | reactivate | rename | restore | restore-as | purge | invite …]
//
// It runs in the folder of template.yaml and keeps its data in local/.data.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends the program at once
	if err := run(ctx, os.Args[1:], os.Environ(), os.Stdin, os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// commands holds the commands by name; without a name it is serve. A command
// gets the arguments that follow its name.
var commands = map[string]func(context.Context, *project, []string) error{
	"":          serve,
	"invoke":    invoke,
	"reconcile": reconcile,
	"migrate":   migrate,
	"doctor":    doctor,
	"orgs":      orgs,
	"demo":      demo,
	"new":       newFunction,
	"operator":  operator,
}

// project is the service in the current folder, with the settings of one run.
type project struct {
	root       string
	data       string // folder of the database, the signing key and the build
	host       string
	parameters map[string]string // of the template
	env        map[string]string // variables of .env and of the process, which win
	level      string            // the log level of the functions
	stdin      io.Reader
	stdout     io.Writer
	stderr     io.Writer
	tier       string // Atlas tier of the cluster, for doctor
	url        string // of the service, for operator; empty: that of make run
}

// run runs one command with the arguments and the environment of the process.
func run(ctx context.Context, args, environ []string, stdin io.Reader, stdout, stderr io.Writer) error {
	p := &project{parameters: map[string]string{}, stdin: stdin, stdout: stdout, stderr: stderr}
	flags := flag.NewFlagSet("local", flag.ContinueOnError)
	flags.StringVar(&p.host, "host", "127.0.0.1", "address to listen on")
	flags.StringVar(&p.data, "data", filepath.Join("local", ".data"), "folder of the database and the signing key")
	flags.Func("parameter", "value of a template parameter, as `Name=Value`; may be repeated", func(s string) error {
		name, value, ok := strings.Cut(s, "=")
		if !ok {
			return errors.New("expected Name=Value")
		}
		p.parameters[name] = value
		return nil
	})
	flags.StringVar(&p.tier, "tier", "", "Atlas `tier` of the cluster, such as M10, whose limit doctor checks")
	flags.StringVar(&p.url, "url", "", "`URL` of the service, for operator, if it is not that of make run")
	flags.SetOutput(io.Discard)
	// Flags may come before and after the command.
	err := flags.Parse(args)
	name := flags.Arg(0)
	if err == nil && name != "" {
		err = flags.Parse(flags.Args()[1:])
	}
	if errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(stdout, "usage: go run ./local [flags] [invoke FUNCTION EVENT.json | reconcile | migrate [status] | doctor | orgs [MOST] | demo [URL] | new NAME | operator …]")
		flags.SetOutput(stdout)
		flags.PrintDefaults()
		return nil
	}
	if err != nil {
		return err
	}
	command := commands[name]
	if command == nil {
		return fmt.Errorf("unknown command %q: there are %s", name, strings.Join(slices.Sorted(maps.Keys(commands))[1:], ", "))
	}
	if p.root, err = os.Getwd(); err != nil {
		return err
	}
	for _, file := range []string{"template.yaml", "go.mod"} {
		if _, err := os.Stat(file); err != nil {
			return fmt.Errorf("no %s in %s: run this in the folder that has it", file, p.root)
		}
	}
	var warnings []string
	if p.env, warnings, err = readEnv(".env"); err != nil {
		return err
	}
	for _, w := range warnings {
		fmt.Fprintln(stderr, w)
	}
	for _, variable := range environ {
		name, value, _ := strings.Cut(variable, "=")
		p.env[name] = value
	}
	if p.level, err = p.logLevel(); err != nil {
		return err
	}
	if err := os.MkdirAll(p.data, 0o700); err != nil {
		return err
	}
	return command(ctx, p, flags.Args())
}
