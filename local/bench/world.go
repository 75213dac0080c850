package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

// world is a master database with an organization, Warm, whose admin has logged in.
type world struct {
	master   *mongo.Database
	password string
	hash     string                    // of the password
	caller   map[string]any            // what the authorizer says about the admin
	events   map[string]map[string]any // those that functions answer with success
	number   int                       // of the last new name
}

func (b *bench) newWorld(ctx context.Context, masterDB string) (*world, error) {
	const name, email = "Warm", "admin@warm.test"
	w := &world{password: "correct horse", events: map[string]map[string]any{}}
	event := func(function string) (event map[string]any, err error) {
		data, err := os.ReadFile(filepath.Join(b.root, "events", function+".json"))
		if err != nil {
			return nil, err
		}
		return event, json.Unmarshal(data, &event)
	}
	for _, function := range []string{"create", "login", "authorizer", "get", "me", "update", "listorganizations"} {
		var err error
		if w.events[function], err = event(function); err != nil {
			return nil, err
		}
	}
	w.setBody("create", map[string]string{"organization_name": name, "email": email, "password": w.password})
	w.setBody("login", map[string]string{"email": email, "password": w.password})
	if _, err := b.once(ctx, masterDB, "create", w.events["create"]); err != nil {
		return nil, err
	}
	if err := b.logIn(ctx, masterDB, w); err != nil {
		return nil, err
	}
	w.events["get"]["queryStringParameters"], w.events["get"]["rawQueryString"] = map[string]string{"organization_name": name}, "organization_name="+name

	client, err := mongo.Connect(options.Client().ApplyURI(b.database))
	if err != nil {
		return nil, err
	}
	w.master = client.Database(masterDB)
	var admin struct {
		Hash string `bson:"password_hash"`
	}
	err = w.master.Collection("admins").FindOne(ctx, bson.D{{Key: "email", Value: email}}).Decode(&admin)
	w.hash = admin.Hash
	return w, err
}

// logIn begins a session of the admin, which the events have from then on.
func (b *bench) logIn(ctx context.Context, masterDB string, w *world) error {
	answer, err := b.once(ctx, masterDB, "login", w.events["login"])
	if err != nil {
		return err
	}
	var tokens struct {
		Token string `json:"access_token"`
	}
	body, _ := answer["body"].(string)
	if err := json.Unmarshal([]byte(body), &tokens); err != nil {
		return err
	}
	w.events["authorizer"]["identitySource"] = []string{"Bearer " + tokens.Token}
	verdict, err := b.once(ctx, masterDB, "authorizer", w.events["authorizer"])
	if err != nil {
		return err
	}
	w.caller, _ = verdict["context"].(map[string]any)
	for _, function := range []string{"me", "update"} {
		w.events[function]["requestContext"].(map[string]any)["authorizer"] = map[string]any{"lambda": w.caller}
	}
	return nil
}

func (w *world) setBody(function string, body map[string]string) {
	data, _ := json.Marshal(body) // never fails
	w.events[function]["body"], w.events[function]["isBase64Encoded"] = string(data), false
}

// once starts a function for one event. An answer that is not a success is an error.
func (b *bench) once(ctx context.Context, masterDB, function string, event map[string]any) (answer map[string]any, err error) {
	f, err := startFunction(ctx, filepath.Join(b.bin, function), b.env(masterDB))
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
