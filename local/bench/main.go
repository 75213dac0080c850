// Command bench measures the service and writes what it found as Markdown:
//
//	go run ./local/bench [-n 51] [-span 10s] [-sections cold,parts,inits,warm,growth,load,cost] [-functions REGEXP]
//
// Every ratio is of two things that were measured in turn, in one run, because times
// differ from run to run. It builds the functions as deployment does.
package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"orgservice/local/gateway"
	"orgservice/local/mongodbtest"
)

// bench is one run.
type bench struct {
	root      string            // of the module
	bin       string            // folder of the built functions
	variables map[string]string // of the functions

	given    string // connection string of a server that is given
	database string // connection string
	masterDB string // the names of all begin so

	measured []measured // by the section warm

	n    int           // rounds
	most int           // organizations
	span time.Duration // of each load
	only *regexp.Regexp
	out  io.Writer
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	b := &bench{root: ".", out: os.Stdout}
	flag.IntVar(&b.n, "n", 51, "how often each thing is measured")
	sections := flag.String("sections", "cold,parts,inits,warm,growth,load,cost", "what to measure, in this order")
	flag.IntVar(&b.most, "most", 1000, "the most organizations; the embedded database is too slow for more")
	flag.DurationVar(&b.span, "span", 10*time.Second, "how long each load lasts")
	flag.StringVar(&b.given, "database", "", "the connection `string` of another server than the embedded one")
	functions := flag.String("functions", ".", "measure only the functions whose names match the regexp `pattern`")
	flag.Parse()
	if err := b.run(ctx, *sections, *functions); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func (b *bench) run(ctx context.Context, sections, functions string) (err error) {
	if b.only, err = regexp.Compile(functions); err != nil {
		return err
	}
	all := map[string]func(context.Context) error{
		"cold": b.coldStarts, "parts": b.parts, "inits": b.inits, "warm": b.warmCalls, "growth": b.growth, "load": b.loadTests, "cost": b.costs,
	}
	var run []func(context.Context) error
	for name := range strings.SplitSeq(sections, ",") {
		if all[name] == nil {
			return fmt.Errorf("there is no section %q", name)
		}
		run = append(run, all[name])
	}
	if b.bin, err = os.MkdirTemp("", "bench"); err != nil {
		return err
	}
	defer os.RemoveAll(b.bin)
	if err := b.build(ctx, "./functions/...", "./local/bench/hello", "./local/bench/bare"); err != nil {
		return err
	}
	if b.database = b.given; b.database == "" {
		if b.database, err = mongodbtest.Embedded(); err != nil {
			return err
		}
	}
	b.masterDB = "bench_" + strings.ToLower(rand.Text()[:8])
	defer func() { err = errors.Join(err, b.dropDatabases()) }()
	if err := b.readEnvironment(); err != nil {
		return err
	}
	b.say("# Measured on %s\n\n%s, %s, %d processors. Go %s.", time.Now().Format(time.DateOnly), runtime.GOOS+"/"+runtime.GOARCH, processor(), runtime.NumCPU(), strings.TrimPrefix(runtime.Version(), "go"))
	for _, section := range run {
		if err := section(ctx); err != nil {
			return err
		}
	}
	return nil
}

// build builds commands as deployment does.
func (b *bench) build(ctx context.Context, packages ...string) error {
	cmd := exec.CommandContext(ctx, "go", append([]string{"build", "-trimpath", "-buildvcs=false", "-tags", gateway.BuildTags, "-ldflags", gateway.LDFlags,
		"-o", b.bin + string(filepath.Separator)}, packages...)...)
	cmd.Dir, cmd.Stderr = b.root, os.Stderr
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	return cmd.Run()
}

// functions returns the names of the functions to measure.
func (b *bench) functions() (names []string, err error) {
	folders, err := filepath.Glob(filepath.Join(b.root, "functions", "*"))
	for _, folder := range folders {
		if name := filepath.Base(folder); b.only.MatchString(name) {
			names = append(names, name)
		}
	}
	return names, err
}

// readEnvironment reads the variables that SAM CLI gives to the functions.
func (b *bench) readEnvironment() error {
	path := filepath.Join(b.root, "local", "env.json")
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var file struct{ Parameters map[string]string }
	if err := json.Unmarshal(data, &file); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	b.variables = file.Parameters
	return nil
}

// env returns the environment of a function that uses the master database.
func (b *bench) env(masterDB string) (env []string) {
	for name, value := range b.variables {
		env = append(env, name+"="+value)
	}
	return append(env, "MONGO_URL="+b.database, "MASTER_DB="+masterDB, "METRICS_NAMESPACE=bench", "SSL_CERT_DIR=/nonexistent",
		"AWS_LAMBDA_FUNCTION_NAME=bench", "AWS_LAMBDA_FUNCTION_MEMORY_SIZE=512", "AWS_LAMBDA_LOG_FORMAT=JSON", "AWS_LAMBDA_LOG_LEVEL=WARN", "AWS_REGION=eu-central-1")
}

// dropDatabases drops all master databases of this run.
func (b *bench) dropDatabases() error {
	ctx := context.Background() // also if the run was ended
	client, err := mongo.Connect(options.Client().ApplyURI(b.database))
	if err != nil {
		return err
	}
	defer client.Disconnect(ctx)
	names, err := client.ListDatabaseNames(ctx, bson.D{})
	for _, name := range names {
		if strings.HasPrefix(name, b.masterDB) {
			err = errors.Join(err, client.Database(name).Drop(ctx))
		}
	}
	return err
}
