package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/mattn/go-isatty"

	"orgservice/local/gateway"
	"orgservice/shared/api"
)

// welcome prints what runs and where. The address comes first, so that programs
// find it.
func (p *project) welcome(g *gateway.Gateway, operatorToken string, embedded, mailbox bool) {
	var b strings.Builder
	fmt.Fprintf(&b, "listening on %s (pid %d)\n\n", g.URL(), os.Getpid())
	table := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	var docs string
	for _, r := range g.Routes() {
		caller := "anybody"
		if r.Authorizer != "" {
			caller = "with a token"
		} else if r.IAM {
			caller = "the operator"
		} else if slices.ContainsFunc(api.Routes(), func(row api.Route) bool { return row.Service && row.Method == r.Method && row.Path == r.Path }) {
			caller = "with INTROSPECTION_SECRET"
		}
		fmt.Fprintf(table, "  %s\t%s\t%s\n", r.Method, r.Path, caller)
		if r.Method == "GET" && r.Path == "/docs" {
			docs = g.URL() + r.Path
		}
	}
	table.Flush()
	kind := ""
	if embedded {
		kind = ", embedded: its data is in " + p.data
	}
	b.WriteByte('\n')
	if docs != "" {
		fmt.Fprintf(&b, "docs: %s\n", docs)
	}
	fmt.Fprintf(&b, "metrics: %[1]s/metrics, and where the time of each request goes: %[1]s/traces\n", g.URL())
	fmt.Fprintf(&b, "database: %s%s\n", withoutSecrets(p.env["MONGO_URL"]), kind)
	mail := "sent by the server of SMTP_URL"
	if mailbox {
		mail = "kept in " + p.mailFolder() + ", and sent to nobody (SMTP_URL)"
	}
	fmt.Fprintf(&b, "mail: %s\n", mail)
	fmt.Fprintf(&b, "operator: Authorization: Bearer %s\n", operatorToken)
	fmt.Fprintf(&b, "log level: %s (LOG_LEVEL)\n", p.level)
	if p.debug() {
		b.WriteString(debugHint())
	}
	fmt.Fprintf(&b, "curl %s/org/create -H 'content-type: application/json' "+
		`-d '{"organization_name":"Akshay Pvt Ltd","email":"admin@example.com","password":"Admin@123"}'`+"\n", g.URL())
	io.WriteString(p.stdout, b.String())
}

// withoutSecrets returns the hosts and the path of a connection string that
// mongodb.Open accepts. It leaves out the user and the options, which may hold
// secrets.
func withoutSecrets(connectionString string) string {
	scheme, rest, ok := strings.Cut(connectionString, "://")
	if !ok {
		return "of the secret in MONGO_URL"
	}
	rest, query, _ := strings.Cut(rest, "?")
	if strings.Contains(query, "@") { // the user's name or password may hold the question mark
		return scheme + "://…"
	}
	return scheme + "://" + rest[strings.LastIndexByte(rest, '@')+1:]
}

// reach reports whether the database can be reached. If not, it prints why.
func (p *project) reach(ctx context.Context) bool {
	err := p.ask(ctx)
	if err == nil || ctx.Err() != nil {
		return true
	}
	fmt.Fprintf(p.stderr, "%v; going on, the service answers 503 until it can\n", err)
	return false
}

// ask returns the error of connect, and leaves nothing open.
func (p *project) ask(ctx context.Context) error {
	store, _, err := p.connect(ctx)
	if err != nil {
		return err
	}
	return store.Close(ctx)
}

// lastError returns the reason in an error of the driver about a server that it
// can't select. The rest of it is about the topology.
func lastError(message string) string {
	if _, after, ok := strings.Cut(message, "Last error: "); ok {
		message, _, _ = strings.Cut(after, " }")
	}
	return strings.ReplaceAll(message, "\n", " ")
}

// logStyle returns the form of the access log: for people on a terminal, in colour
// unless they don't want it (https://no-color.org), and otherwise for programs.
func logStyle(stdout io.Writer, env map[string]string) gateway.LogStyle {
	f, ok := stdout.(*os.File)
	return styleOf(ok && isatty.IsTerminal(f.Fd()), env)
}

func styleOf(terminal bool, env map[string]string) gateway.LogStyle {
	switch {
	case !terminal:
		return gateway.LogJSON
	case env["NO_COLOR"] != "" || env["TERM"] == "dumb":
		return gateway.LogText
	}
	return gateway.LogColor
}

// debug reports whether the functions are built for a debugger. Other programs
// have a variable DEBUG, too, with other values.
func (p *project) debug() bool { return p.env["DEBUG"] == "1" }

// buildDir returns the folder in which the binaries are kept for the next build.
func (p *project) buildDir() string {
	if p.debug() {
		return filepath.Join(p.data, "build-debug")
	}
	return filepath.Join(p.data, "build")
}

func debugHint() string {
	hint := "debug: functions have no time limits; send a request, then: dlv attach PID, the number in its line, as in create[PID]\n"
	if _, err := exec.LookPath("dlv"); err != nil {
		hint += "debug: to install dlv: go install github.com/go-delve/delve/cmd/dlv@latest\n"
	}
	return hint
}
