package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// growth compares a database with many organizations to one with ten, event by event in
// turn, and then a function after many events with itself.
func (b *bench) growth(ctx context.Context) error {
	small, err := b.newWorld(ctx, b.masterDB+"_small")
	if err != nil {
		return err
	}
	if err := small.fill(ctx, 0, 10); err != nil {
		return err
	}
	big, err := b.newWorld(ctx, b.masterDB+"_big")
	if err != nil {
		return err
	}
	functions := []string{"get", "me", "login", "create", "update", "listorganizations"}
	var sizes []string
	curves := make([][]float64, len(functions)) // ratios
	b.heading("Growth")
	b.say("Milliseconds with so many organizations, and the ratio to ten of them, in turn, %d times: median (quartiles). Only their records are there, without their collections.", b.n)
	b.row(append([]string{"organizations"}, functions...)...)
	b.row(append([]string{"--:"}, strings.Split(strings.Repeat("--: ", len(functions)-1)+"--:", " ")...)...)
	done := 0
	for n := 10; n <= b.most; n *= 10 {
		if err := big.fill(ctx, done, n); err != nil {
			return err
		}
		done = n
		for _, w := range []*world{small, big} { // a person has only so many sessions
			if err := b.logIn(ctx, w.master.Name(), w); err != nil {
				return err
			}
		}
		cells := []string{fmt.Sprint(n)}
		sizes = append(sizes, cells[0])
		for i, function := range functions {
			times, ratios, err := b.compareWorlds(ctx, function, big, small)
			if err != nil {
				return fmt.Errorf("%s with %d organizations: %w", function, n, err)
			}
			cells = append(cells, fmt.Sprintf("%.1f, %s", median(times), spread(ratios)))
			curves[i] = append(curves[i], median(ratios))
			for _, w := range []*world{small, big} {
				if err := w.forgetNew(ctx); err != nil {
					return err
				}
			}
		}
		b.row(cells...)
	}
	b.plot("Time against that with ten organizations: "+strings.Join(functions, ", "), "organizations", sizes, "line", curves...)
	if err := b.renames(ctx); err != nil {
		return err
	}
	return b.memory(ctx, small)
}

// renames compares organizations with many documents to one with ten.
func (b *bench) renames(ctx context.Context) error {
	small, err := b.newWorld(ctx, b.masterDB+"_few")
	if err != nil {
		return err
	}
	big, err := b.newWorld(ctx, b.masterDB+"_many")
	if err != nil {
		return err
	}
	b.say("A rename of an organization with so many documents, and the ratio to one with ten, in turn:")
	b.row("documents", "ms", "ratio")
	b.row("--:", "--:", "--:")
	done := map[*world]int{}
	fill := func(w *world, n int) error {
		var o struct {
			Collection string `bson:"collection_name"`
		}
		id, err := bson.ObjectIDFromHex(w.caller["organization_id"].(string))
		if err != nil {
			return err
		}
		if err := w.master.Collection("organizations").FindOne(ctx, bson.D{{Key: "_id", Value: id}}).Decode(&o); err != nil {
			return err
		}
		for done[w] < n {
			var docs []any
			for ; done[w] < n && len(docs) < 1000; done[w]++ {
				docs = append(docs, bson.D{{Key: "text", Value: strings.Repeat("x", 100)}})
			}
			if _, err := w.master.Collection(o.Collection).InsertMany(ctx, docs); err != nil {
				return err
			}
		}
		return nil
	}
	if err := fill(small, 10); err != nil {
		return err
	}
	for n := 10; n <= 10*b.most; n *= 10 {
		if err := fill(big, n); err != nil {
			return err
		}
		for _, w := range []*world{small, big} {
			if err := b.logIn(ctx, w.master.Name(), w); err != nil {
				return err
			}
		}
		times, ratios, err := b.compareWorlds(ctx, "rename", big, small)
		if err != nil {
			return err
		}
		b.row(fmt.Sprint(n), fmt.Sprintf("%.1f", median(times)), spread(ratios))
	}
	return nil
}

// compareWorlds gives events to a function in both worlds, in turn. It returns the
// milliseconds in the big one, and the ratios to the small one. A rename is an update with
// another name.
func (b *bench) compareWorlds(ctx context.Context, name string, big, small *world) (times, ratios []float64, err error) {
	binary := name
	if name == "rename" {
		binary = "update"
	}
	worlds := []*world{big, small}
	var running []*function
	for _, w := range worlds {
		f, err := startFunction(ctx, filepath.Join(b.bin, binary), b.env(w.master.Name()))
		if err != nil {
			return nil, nil, err
		}
		defer f.stop()
		running = append(running, f)
	}
	for round := range b.n {
		var took [2]time.Duration
		for i, w := range worlds {
			w.number++
			switch name {
			case "create":
				w.setBody("create", map[string]string{"organization_name": fmt.Sprint("New ", w.number), "email": fmt.Sprintf("new%d@new.test", w.number), "password": w.password})
			case "update":
				w.setBody("update", map[string]string{"organization_name": []string{"Warm", "WARM"}[round%2]})
			case "rename":
				w.setBody("update", map[string]string{"organization_name": fmt.Sprint("Renamed ", w.number)})
			}
			event, err := json.Marshal(w.events[binary])
			if err != nil {
				return nil, nil, err
			}
			var answer []byte
			if answer, took[i], err = running[i].invoke(event); err != nil {
				return nil, nil, err
			}
			if !strings.Contains(string(answer), `"statusCode":20`) {
				return nil, nil, fmt.Errorf("it answers %s", answer)
			}
		}
		times, ratios = append(times, ms(took[0])), append(ratios, float64(took[0])/float64(took[1]))
	}
	return times, ratios, nil
}

// forgetNew deletes what creations have left.
func (w *world) forgetNew(ctx context.Context) error {
	for collection, field := range map[string]string{"organizations": "collection_name", "admins": "email", "claims": "_id"} {
		begins := bson.D{{Key: "$regex", Value: "^(org_new|new|email:new)"}}
		if _, err := w.master.Collection(collection).DeleteMany(ctx, bson.D{{Key: field, Value: begins}}); err != nil {
			return err
		}
	}
	collections, err := w.master.ListCollectionNames(ctx, bson.D{})
	for _, name := range collections {
		if strings.HasPrefix(name, "org_new") {
			err = errors.Join(err, w.master.Collection(name).Drop(ctx))
		}
	}
	return err
}

// fill adds copies of the records of the organization, up to n of them, and
// writes its own anew as the last ones, which a scan finds last.
func (w *world) fill(ctx context.Context, from, n int) error {
	id, admin := w.caller["organization_id"].(string), w.caller["admin_id"].(string)
	one := map[string]bson.D{ // what belongs to the one organization
		"organizations": {{Key: "claims", Value: "org_warm"}},
		"admins":        {{Key: "email", Value: "admin@warm.test"}},
		"claims":        {{Key: "_id", Value: bson.D{{Key: "$in", Value: bson.A{"org_warm", "email:admin@warm.test"}}}}},
	}
	for collection, filter := range one {
		cursor, err := w.master.Collection(collection).Find(ctx, filter)
		if err != nil {
			return err
		}
		var templates []string
		var own []any
		for cursor.Next(ctx) {
			text, err := bson.MarshalExtJSON(cursor.Current, true, false)
			if err != nil {
				return err
			}
			templates, own = append(templates, string(text)), append(own, slices.Clone(cursor.Current))
		}
		if err := cursor.Err(); err != nil || len(templates) == 0 {
			return fmt.Errorf("%s has %d records to copy: %w", collection, len(templates), err)
		}
		if _, err := w.master.Collection(collection).DeleteMany(ctx, filter); err != nil {
			return err
		}
		const batch = 1000
		var docs []any
		for i := from; i < n; i++ {
			replace := strings.NewReplacer(id, bson.NewObjectID().Hex(), admin, bson.NewObjectID().Hex(),
				"Warm", fmt.Sprint("Copy ", i), "WARM", fmt.Sprint("Copy ", i), "org_warm", fmt.Sprint("org_copy", i), "@warm.test", fmt.Sprint("@copy", i, ".test"), `"warm"`, fmt.Sprintf(`"copy%d"`, i))
			for _, template := range templates {
				var doc bson.D
				if err := bson.UnmarshalExtJSON([]byte(replace.Replace(template)), true, &doc); err != nil {
					return err
				}
				docs = append(docs, doc)
			}
			if len(docs) >= batch || i == n-1 {
				if _, err := w.master.Collection(collection).InsertMany(ctx, docs); err != nil {
					return err
				}
				docs = nil
			}
		}
		if _, err := w.master.Collection(collection).InsertMany(ctx, own); err != nil {
			return err
		}
	}
	return nil
}

// memory tells what a function holds after many events.
func (b *bench) memory(ctx context.Context, w *world) error {
	b.say("Memory of one process of get after so many events:")
	b.row("events", "resident, MiB")
	b.row("--:", "--:")
	f, err := startFunction(ctx, filepath.Join(b.bin, "get"), b.env(w.master.Name()))
	if err != nil {
		return err
	}
	defer f.stop()
	event, err := json.Marshal(w.events["get"])
	if err != nil {
		return err
	}
	done := 0
	for n := 1; n <= min(10*b.most, 100_000); n *= 10 {
		for ; done < n; done++ {
			if _, _, err := f.invoke(event); err != nil {
				return err
			}
		}
		resident, err := f.memory("VmRSS")
		if err != nil {
			return err
		}
		b.row(fmt.Sprint(n), fmt.Sprintf("%.1f", resident))
	}
	return nil
}
