// Command local runs the service on this machine, as it is in the cloud but
// for the cloud: the database is embedded, unless MONGO_URL names another one,
// and the functions of template.yaml are served by package gateway.
//
//	go run ./local [flags]
//	go run ./local [flags] invoke FUNCTION EVENT.json
//	go run ./local [flags] reconcile
//	go run ./local [flags] doctor
//
// It works in the current folder and keeps what it must remember in
// local/.data.
package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"orgservice/local/embedded"
	"orgservice/local/gateway"
	"orgservice/shared/auth"
	"orgservice/shared/config"
	"orgservice/shared/mongodb"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second Ctrl-C does not wait
	if err := run(ctx, os.Args[1:], os.Environ(), os.Stdin, os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// commands are run with the arguments after their name.
var commands = map[string]func(context.Context, *project, []string) error{
	"":          serve,
	"invoke":    invoke,
	"reconcile": reconcile,
	"doctor":    doctor,
}

// project is the service in the current folder and how this call wants it.
type project struct {
	root       string
	data       string // folder of what is remembered
	host       string
	parameters map[string]string // of the template
	env        map[string]string // the environment over .env
	stdin      io.Reader
	stdout     io.Writer
	stderr     io.Writer
	tier       string // of the cluster, for doctor
}

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
	flags.StringVar(&p.tier, "tier", "", "Atlas `tier` of the cluster, such as M10, whose limits doctor asks about")
	flags.SetOutput(io.Discard)
	// Flags may stand on both sides of the command.
	err := flags.Parse(args)
	name := flags.Arg(0)
	if err == nil && name != "" {
		err = flags.Parse(flags.Args()[1:])
	}
	if errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(stdout, "usage: go run ./local [flags] [invoke FUNCTION EVENT.json | reconcile | doctor]")
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
	if p.env, err = readEnv(".env"); err != nil {
		return err
	}
	for _, variable := range environ {
		name, value, _ := strings.Cut(variable, "=")
		p.env[name] = value
	}
	if err := os.MkdirAll(p.data, 0o700); err != nil {
		return err
	}
	return command(ctx, p, flags.Args())
}

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
	// As a deployment does, and a database that is away is told of here.
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

// reconcile runs the function of that name over the whole database.
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

// call runs one event through a function, on the database of the program that
// is running, if there is one.
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

// open finds the database for one command: that of MONGO_URL, that of the
// program that is running on the data, or the embedded one, started for it.
// The lock is nil if that program has it.
func (p *project) open(ctx context.Context) (lock *os.File, release func(), err error) {
	if lock, err = p.lock(); err != nil {
		return nil, nil, err
	}
	var db *embedded.Server
	closeAll := func() {
		if db != nil {
			db.Close()
		}
		if lock != nil {
			lock.Close()
		}
	}
	defer func() {
		if err != nil {
			closeAll()
		}
	}()
	switch {
	case p.env["MONGO_URL"] != "":
	case lock != nil:
		if db, err = p.database(lock); err != nil {
			return nil, nil, err
		}
	default:
		url, err := os.ReadFile(p.lockFile())
		if err != nil {
			return nil, nil, err
		}
		if len(url) == 0 {
			return nil, nil, fmt.Errorf("what runs on the data in %s has no database yet, or not its own: set MONGO_URL", p.data)
		}
		p.env["MONGO_URL"] = string(url)
	}
	return lock, closeAll, p.settings(ctx)
}

// settings sees to JWT_SECRET and refuses settings that the functions would
// refuse.
func (p *project) settings(ctx context.Context) error {
	if err := p.secret(); err != nil {
		return err
	}
	for _, name := range []string{"JWT_SECRET_PREVIOUS", "JWT_PRIVATE_KEY", "JWT_PUBLIC_KEYS"} {
		if _, set := p.env[name]; !set {
			p.env[name] = "" // what the template has is for the cloud
		}
	}
	env := p.config()
	database, err := env.Database(ctx)
	if err != nil {
		return err
	}
	store, err := mongodb.Open(database.URL, database.Name)
	if err != nil {
		return err
	}
	defer store.Close(ctx)
	tokens, err := env.Tokens(ctx)
	if err != nil {
		return err
	}
	verifier, err := env.Verifier(ctx, true)
	if err != nil {
		return err
	}
	token, err := tokens.Signer.Sign(auth.Caller{AdminID: "x", OrganizationID: "x", SessionID: "x", ExpiresAt: time.Now().Add(time.Hour)}, time.Now())
	if err != nil {
		return err
	}
	if _, err := verifier.Verify(token); err != nil {
		return errors.New("JWT_PUBLIC_KEYS: must hold the public key of JWT_PRIVATE_KEY")
	}
	_, err = env.BcryptCost()
	return err
}

// config returns the environment as a function reads it.
func (p *project) config() config.Env {
	return func(name string) string { return p.env[name] }
}

func (p *project) gateway(output io.Writer) gateway.Config {
	return gateway.Config{
		Root:       p.root,
		Env:        p.env,
		Parameters: p.parameters,
		Output:     output,
		LogLevel:   p.env["AWS_LAMBDA_LOG_LEVEL"],
	}
}

// lockFile is locked by the program that uses the data, and holds the address
// of its embedded database.
func (p *project) lockFile() string { return filepath.Join(p.data, "lock") }

// lock returns the locked file; nil if another program has it.
func (p *project) lock() (*os.File, error) {
	f, err := os.OpenFile(p.lockFile(), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if err == nil {
		err = f.Truncate(0)
	}
	if err != nil {
		f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, nil
		}
		return nil, fmt.Errorf("lock %s: %w", p.lockFile(), err)
	}
	return f, nil
}

// database starts the embedded database and tells its address to the
// functions and to the programs that find the file locked.
func (p *project) database(lock *os.File) (*embedded.Server, error) {
	db, err := embedded.Start(filepath.Join(p.data, "db"), "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	if _, err := lock.WriteAt([]byte(db.URL()), 0); err != nil {
		db.Close()
		return nil, err
	}
	p.env["MONGO_URL"] = db.URL()
	return db, nil
}

// secret sees to JWT_SECRET: unless it is set, it is the one of the last time.
func (p *project) secret() error {
	if p.env["JWT_SECRET"] != "" {
		return nil
	}
	path := filepath.Join(p.data, "jwt_secret")
	kept, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		random := make([]byte, 48)
		rand.Read(random)
		kept = []byte(base64.StdEncoding.EncodeToString(random))
		err = os.WriteFile(path, kept, 0o600)
	}
	p.env["JWT_SECRET"] = string(bytes.TrimSpace(kept))
	return err
}

// readEnv reads lines of KEY=VALUE, where the value may be in quotes, and
// comments after #. A file that is not there has none.
func readEnv(path string) (map[string]string, error) {
	env := map[string]string{}
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return env, nil
	}
	if err != nil {
		return nil, err
	}
	number := 0
	for line := range strings.Lines(string(data)) {
		number++
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		name, value, ok := strings.Cut(line, "=")
		name, value = strings.TrimSpace(name), strings.TrimSpace(value)
		if !ok || name == "" || strings.ContainsAny(name, " \t\"'") {
			return nil, fmt.Errorf("%s:%d: expected KEY=VALUE", path, number)
		}
		if value != "" && (value[0] == '"' || value[0] == '\'') {
			quoted, rest, closed := strings.Cut(value[1:], value[:1])
			if rest = strings.TrimSpace(rest); !closed || rest != "" && rest[0] != '#' {
				return nil, fmt.Errorf("%s:%d: the quoted value of %s does not end with the line", path, number, name)
			}
			value = quoted
		} else if i := strings.Index(value, " #"); i >= 0 {
			value = strings.TrimSpace(value[:i])
		}
		env[name] = value
	}
	return env, nil
}
