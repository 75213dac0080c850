package main

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"time"
)

// warm compares a function with the calls of the driver that it can't do without, event
// by event in turn.
type warm struct {
	function, bare string // names of the binaries
	bareEvent      any
	event          []byte // of the function
}

// measured is what an event takes.
type measured struct {
	function  string
	wall, cpu time.Duration
}

// warmCalls measures functions that run.
func (b *bench) warmCalls(ctx context.Context) error {
	w, err := b.newWorld(ctx, b.masterDB)
	if err != nil {
		return err
	}
	comparisons, err := w.comparisons()
	if err != nil {
		return err
	}
	b.heading("Warm")
	b.say("One event after the other, to a function that runs, and in turn to one that only does the calls of the driver "+
		"(and the comparison of the password) that the endpoint needs, %d times (login: a tenth of that): median (quartiles). The authorizer is compared with the smallest function. "+
		"Processor time is that of the function, for one event, besides what Lambda's Runtime API costs it, which the other one has, too.", b.warmRounds())
	b.row("function", "ms", "bare, ms", "ratio", "processor, ms", "bare, ms")
	b.row("---", "--:", "--:", "--:", "--:", "--:")
	for _, c := range comparisons {
		if !b.only.MatchString(c.function) {
			continue
		}
		if err := b.compareWarm(ctx, c); err != nil {
			return fmt.Errorf("%s: %w", c.function, err)
		}
	}
	return nil
}

func (b *bench) warmRounds() int { return 20 * b.n }

func (b *bench) compareWarm(ctx context.Context, c warm) error {
	bareEvent, err := json.Marshal(c.bareEvent)
	if err != nil {
		return err
	}
	rounds := b.warmRounds()
	if c.function == "login" {
		rounds = 2 * b.n // each takes a tenth of a second
	}
	events := [2][]byte{c.event, bareEvent}
	var functions [2]*function
	for i, name := range []string{c.function, c.bare} {
		f, err := startFunction(ctx, filepath.Join(b.bin, name), b.env(b.masterDB))
		if err != nil {
			return err
		}
		defer f.stop()
		functions[i] = f
		for range 20 {
			if answer, _, err := f.invoke(events[i]); err != nil {
				return err
			} else if i == 0 && !strings.Contains(string(answer), `"statusCode":200`) && !strings.Contains(string(answer), `"isAuthorized":true`) {
				return fmt.Errorf("it answers %s", answer)
			}
		}
	}
	var times [2][]float64
	var ratios []float64
	var cpu [2]time.Duration
	for i, f := range functions {
		if cpu[i], err = f.cpu(); err != nil {
			return err
		}
	}
	for range rounds {
		var took [2]time.Duration
		for i, f := range functions {
			if _, took[i], err = f.invoke(events[i]); err != nil {
				return err
			}
			times[i] = append(times[i], ms(took[i]))
		}
		ratios = append(ratios, float64(took[0])/float64(took[1]))
	}
	for i, f := range functions {
		now, err := f.cpu()
		if err != nil {
			return err
		}
		cpu[i] = (now - cpu[i]) / time.Duration(rounds)
	}
	b.measured = append(b.measured, measured{c.function, time.Duration(median(times[0]) * float64(time.Millisecond)), cpu[0]})
	b.row(c.function, fmt.Sprintf("%.3f", median(times[0])), fmt.Sprintf("%.3f", median(times[1])), spread(ratios),
		fmt.Sprintf("%.3f", ms(cpu[0])), fmt.Sprintf("%.3f", ms(cpu[1])))
	return nil
}

// comparisons returns what to compare.
func (w *world) comparisons() (all []warm, err error) {
	type call = map[string]any
	byID := func(collection, id string) call {
		return call{"Collection": collection, "Field": "_id", "ID": w.caller[id]}
	}
	ofName := call{"Collection": "organizations", "Field": "claims", "Text": "org_warm"}
	session := call{"Collection": "sessions", "Field": "_id", "Text": w.caller["session_id"]}
	write := func(id string) call { return call{"Collection": "bench", "Field": "_id", "Text": id, "Write": true} }
	all = []warm{
		{"authorizer", "hello", struct{}{}, nil},
		{"get", "bare", map[string]any{"Waves": [][]call{{ofName}}}, nil},
		{"me", "bare", map[string]any{"Waves": [][]call{{byID("organizations", "organization_id"), byID("admins", "admin_id"), session}}}, nil},
		{"login", "bare", map[string]any{"Password": w.password, "Hash": w.hash, "Waves": [][]call{
			{write("a"), write("b"), write("c"), byID("admins", "admin_id"), ofName}, {ofName}, {write("a"), write("b"), write("c"), write("d")},
		}}, nil},
	}
	for i := range all {
		if all[i].event, err = json.Marshal(w.events[all[i].function]); err != nil {
			return nil, err
		}
	}
	return all, nil
}
