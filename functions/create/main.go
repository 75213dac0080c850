// Command create is the Lambda function behind POST /org/create.
package main

import (
	"context"
	"net/http"
	"os"

	"orgservice/shared/api"
	"orgservice/shared/auth"
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
	cost, err := env.BcryptCost()
	if err != nil {
		return nil, err
	}
	store, err := mongodb.Open(database.URL, database.Name)
	if err != nil {
		return nil, err
	}
	return api.Create(&org.Service{
		Store:     store,
		Database:  database.Name,
		Passwords: auth.Passwords{Cost: cost},
	}), nil
}
