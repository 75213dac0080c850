// Command login is the Lambda function behind POST /admin/login.
package main

import (
	"context"
	"net/http"

	"orgservice/shared/api"
	"orgservice/shared/auth"
	"orgservice/shared/config"
	"orgservice/shared/mongodb"
	"orgservice/shared/org"
)

func main() { api.Serve(open) }

func open(ctx context.Context) (http.Handler, error) {
	database, err := config.LoadDatabase(ctx)
	if err != nil {
		return nil, err
	}
	cost, err := config.LoadBcryptCost()
	if err != nil {
		return nil, err
	}
	tokens, err := config.LoadTokens(ctx)
	if err != nil {
		return nil, err
	}
	store, err := mongodb.Open(database.URL, database.Name)
	if err != nil {
		return nil, err
	}
	return api.Login(&org.Service{
		Store:      store,
		Database:   database.Name,
		Passwords:  auth.Passwords{Cost: cost},
		Tokens:     tokens.Signer,
		TokenTTL:   tokens.TTL,
		SessionTTL: tokens.SessionTTL,
	}), nil
}
