package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// coldStart is one start of a function.
type coldStart struct {
	next   time.Duration // from exec to the first request for an event
	answer time.Duration // from exec to the first answer
	faults int64         // page faults until then
	memory float64       // most resident memory, in MiB
}

// startCold starts the binary with the environment, gives it the event, and ends it
// after its answer. With evict, nothing of the binary is in the page cache before.
func startCold(ctx context.Context, binary string, env []string, event []byte, evict bool) (s coldStart, err error) {
	if evict {
		if err := evictFile(binary); err != nil {
			return s, err
		}
	}
	f, err := startFunction(ctx, binary, env)
	if err != nil {
		return s, err
	}
	_, _, err = f.invoke(event)
	if err == nil {
		s.next, s.answer = f.first.Sub(f.began), f.answered.Sub(f.began)
	}
	if err == nil {
		s.memory, err = f.memory("VmHWM")
	}
	usage := f.stop()
	s.faults = usage.Minflt + usage.Majflt
	return s, err
}

const secretARN = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:"

// secretsManager answers as Secrets Manager: the secret of a variable's name is its value,
// and the connection string is that of the database.
func (b *bench) secretsManager(database string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var request struct{ SecretId string }
		json.NewDecoder(r.Body).Decode(&request)
		value := b.variables[strings.TrimPrefix(request.SecretId, secretARN)]
		if strings.HasSuffix(request.SecretId, "MONGO_URL") {
			value = database
		}
		json.NewEncoder(w).Encode(map[string]string{"SecretString": value})
	}
}

// references returns the variables of a function whose secrets are references.
func references(url string) []string {
	return []string{"AWS_ENDPOINT_URL=" + url, "AWS_ACCESS_KEY_ID=bench", "AWS_SECRET_ACCESS_KEY=bench",
		"MONGO_URL=" + secretARN + "MONGO_URL", "JWT_SECRET=" + secretARN + "JWT_SECRET"}
}

// coldStarts compares the start of every function with that of the smallest one, in
// turn.
func (b *bench) coldStarts(ctx context.Context) error {
	functions, err := b.functions()
	if err != nil {
		return err
	}
	hello := filepath.Join(b.bin, "hello")
	b.heading("Cold start")
	b.say("From exec to the first request for an event (`next`), and to the first answer, with the database beside it. "+
		"The ratio is to the smallest function on aws-lambda-go, which starts in turn with it, %d times: median (quartiles). "+
		"Evicted: the binary is not in the page cache. Memory is the most that was resident, in MiB. The events are those of the folder events, whose organizations and admins are not in the database but for what create makes: most are refused.", b.n)
	b.row("function", "MiB", "next, ms", "ratio", "first answer, ms", "evicted, ms", "ratio", "page faults", "memory")
	b.row("---", "--:", "--:", "--:", "--:", "--:", "--:", "--:", "--:")
	secrets := httptest.NewServer(b.secretsManager(b.database))
	defer secrets.Close()
	var names []string
	var bars []float64
	type start struct {
		name      string
		variables []string // besides those that all have
	}
	starts := []start{{name: "hello"}}
	for _, name := range functions {
		starts = append(starts, start{name: name})
		if name == "authorizer" || name == "get" || name == "login" {
			starts = append(starts, start{name, references(secrets.URL)})
		}
	}
	for _, start := range starts {
		name := start.name
		binary, event := filepath.Join(b.bin, name), []byte("{}")
		if name != "hello" {
			if event, err = os.ReadFile(filepath.Join(b.root, "events", name+".json")); err != nil {
				return err
			}
		}
		var warm, cold, ratios, coldRatios, answers, faults, memory []float64
		for range b.n {
			for _, evict := range []bool{false, true} {
				base, err := startCold(ctx, hello, b.env(b.masterDB), []byte("{}"), evict)
				if err != nil {
					return err
				}
				s, err := startCold(ctx, binary, append(b.env(b.masterDB), start.variables...), event, evict)
				if err != nil {
					return err
				}
				if evict {
					cold, coldRatios = append(cold, ms(s.next)), append(coldRatios, float64(s.next)/float64(base.next))
					continue
				}
				warm, ratios = append(warm, ms(s.next)), append(ratios, float64(s.next)/float64(base.next))
				answers = append(answers, ms(s.answer))
				faults, memory = append(faults, float64(s.faults)), append(memory, s.memory)
			}
		}
		info, err := os.Stat(binary)
		if err != nil {
			return err
		}
		if start.variables != nil {
			name += ", secrets by reference"
		}
		names, bars = append(names, strconv.Quote(name)), append(bars, median(ratios))
		b.row(name, fmt.Sprintf("%.1f", float64(info.Size())/(1<<20)), fmt.Sprintf("%.2f", median(warm)), spread(ratios),
			fmt.Sprintf("%.1f", median(answers)), fmt.Sprintf("%.2f", median(cold)), spread(coldRatios),
			fmt.Sprintf("%.0f", median(faults)), fmt.Sprintf("%.1f", median(memory)))
	}
	b.plot("Time from exec to the first request for an event, against the smallest function", "function", names, "bar", bars)
	return nil
}

var initLine = regexp.MustCompile(`(?m)^init (\S+) @\S+ ms, (\S+) ms clock, (\d+) bytes, (\d+) allocs`)

// inits says which packages take the time before main, per function.
func (b *bench) inits(ctx context.Context) error {
	b.heading("Before main")
	b.say("What packages initialize before main begins, in ms (GODEBUG=inittrace=1), those of 0.1 ms or more.")
	b.row("function", "all packages", "the slowest")
	b.row("---", "--:", "---")
	for _, name := range []string{"hello", "authorizer", "get", "create"} {
		cmd := exec.CommandContext(ctx, filepath.Join(b.bin, name))
		cmd.Env = append(b.env(b.masterDB), "GODEBUG=inittrace=1", "AWS_LAMBDA_RUNTIME_API=127.0.0.1:1")
		out, _ := cmd.CombinedOutput() // there is no Runtime API, so it fails
		type pkg struct {
			name string
			time float64
		}
		var all float64
		var slow []pkg
		for _, m := range initLine.FindAllStringSubmatch(string(out), -1) {
			t, _ := strconv.ParseFloat(m[2], 64)
			all += t
			if t >= 0.1 {
				slow = append(slow, pkg{m[1], t})
			}
		}
		slices.SortFunc(slow, func(a, b pkg) int { return cmp.Compare(b.time, a.time) })
		var text []string
		for _, p := range slow {
			text = append(text, fmt.Sprintf("%s %.2f", p.name, p.time))
		}
		b.row(name, fmt.Sprintf("%.2f", all), strings.Join(text, ", "))
	}
	return nil
}
