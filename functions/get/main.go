// Command get is the Lambda function behind GET /org/get.
package main

import (
	"context"
	"net/http"
	"os"

	"orgservice/shared/api"
	"orgservice/shared/config"
	"orgservice/shared/mongodb"
	"orgservice/shared/org"
)

func main() { api.Serve(open) }

func open(ctx context.Context) (http.Handler, error) {
	env := config.Env(os.Getenv)
	database, err := env.Database(ctx)
	if err != nil {
		return nil, err
	}
	store, err := mongodb.Open(database.URL, database.Name)
	if err != nil {
		return nil, err
	}
	return api.Get(&org.Service{
		Store:    store,
		Database: database.Name,
	}), nil
}
