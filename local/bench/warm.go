package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

// warm compares a function with the calls of the driver that it can't do without, event
// by event in turn.
type warm struct {
	function, bare string // names of the binaries
	event          []byte // of the function
	bareEvent      any
}

// warmCalls measures functions that run.
func (b *bench) warmCalls(ctx context.Context) error {
	comparisons, err := b.warmWorld(ctx)
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
		f, err := startFunction(ctx, filepath.Join(b.bin, name), b.env)
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
	b.row(c.function, fmt.Sprintf("%.3f", median(times[0])), fmt.Sprintf("%.3f", median(times[1])), spread(ratios),
		fmt.Sprintf("%.3f", ms(cpu[0])), fmt.Sprintf("%.3f", ms(cpu[1])))
	return nil
}

// warmWorld makes an organization, logs its admin in, and returns what to compare.
func (b *bench) warmWorld(ctx context.Context) ([]warm, error) {
	const name, email, password = "Warm", "admin@warm.test", "correct horse"
	once := func(function string, event map[string]any) (answer map[string]any, err error) {
		f, err := startFunction(ctx, filepath.Join(b.bin, function), b.env)
		if err != nil {
			return nil, err
		}
		defer f.stop()
		data, err := json.Marshal(event)
		if err != nil {
			return nil, err
		}
		got, _, err := f.invoke(data)
		if err != nil {
			return nil, err
		}
		if err := json.Unmarshal(got, &answer); err != nil {
			return nil, err
		}
		if status, ok := answer["statusCode"].(float64); ok && status >= 300 {
			return nil, fmt.Errorf("%s answers %s", function, got)
		}
		return answer, nil
	}
	withBody := func(function string, body map[string]string) (map[string]any, error) {
		event, err := b.event(function)
		if err != nil {
			return nil, err
		}
		data, err := json.Marshal(body)
		event["body"], event["isBase64Encoded"] = string(data), false
		return event, err
	}
	create, err := withBody("create", map[string]string{"organization_name": name, "email": email, "password": password})
	if err != nil {
		return nil, err
	}
	if _, err := once("create", create); err != nil {
		return nil, err
	}
	login, err := withBody("login", map[string]string{"email": email, "password": password})
	if err != nil {
		return nil, err
	}
	answer, err := once("login", login)
	if err != nil {
		return nil, err
	}
	var tokens struct {
		Token string `json:"access_token"`
	}
	if err := json.Unmarshal([]byte(answer["body"].(string)), &tokens); err != nil {
		return nil, err
	}
	authorizer, err := b.event("authorizer")
	if err != nil {
		return nil, err
	}
	authorizer["identitySource"] = []string{"Bearer " + tokens.Token}
	verdict, err := once("authorizer", authorizer)
	if err != nil {
		return nil, err
	}
	caller, _ := verdict["context"].(map[string]any)
	me, err := b.event("me")
	if err != nil {
		return nil, err
	}
	me["requestContext"].(map[string]any)["authorizer"] = map[string]any{"lambda": caller}
	get, err := b.event("get")
	if err != nil {
		return nil, err
	}
	get["queryStringParameters"], get["rawQueryString"] = map[string]string{"organization_name": name}, "organization_name="+name

	client, err := mongo.Connect(options.Client().ApplyURI(b.database))
	if err != nil {
		return nil, err
	}
	defer client.Disconnect(ctx)
	master := client.Database(b.masterDB)
	var admin struct {
		Hash string `bson:"password_hash"`
	}
	if err := master.Collection("admins").FindOne(ctx, bson.D{{Key: "email", Value: email}}).Decode(&admin); err != nil {
		return nil, err
	}
	type call = map[string]any
	byID := func(collection, id string) call {
		return call{"Collection": collection, "Field": "_id", "ID": caller[id]}
	}
	ofName := call{"Collection": "organizations", "Field": "claims", "Text": "org_warm"}
	session := call{"Collection": "sessions", "Field": "_id", "Text": caller["session_id"]}
	write := func(id string) call { return call{"Collection": "bench", "Field": "_id", "Text": id, "Write": true} }
	three := []call{byID("organizations", "organization_id"), byID("admins", "admin_id"), session}
	var all []warm
	for _, c := range []struct {
		function  string
		event     map[string]any
		bare      string
		bareEvent any
	}{
		{"authorizer", authorizer, "hello", struct{}{}},
		{"get", get, "bare", map[string]any{"Waves": [][]call{{ofName}}}},
		{"me", me, "bare", map[string]any{"Waves": [][]call{three}}},
		{"login", login, "bare", map[string]any{"Password": password, "Hash": admin.Hash, "Waves": [][]call{
			{write("a"), write("b"), write("c"), byID("admins", "admin_id"), ofName}, {ofName}, {write("a"), write("b"), write("c"), write("d")}}}},
	} {
		event, err := json.Marshal(c.event)
		if err != nil {
			return nil, err
		}
		all = append(all, warm{c.function, c.bare, event, c.bareEvent})
	}
	return all, nil
}

// event returns the sample event of a function.
func (b *bench) event(function string) (event map[string]any, err error) {
	data, err := os.ReadFile(filepath.Join(b.root, "events", function+".json"))
	if err != nil {
		return nil, err
	}
	return event, json.Unmarshal(data, &event)
}
