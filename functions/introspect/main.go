// Command introspect is the Lambda function behind POST /admin/introspect.
package main

import (
	"context"
	"net/http"
	"os"

	"orgservice/shared/api"
	"orgservice/shared/auth"
	"orgservice/shared/config"
	"orgservice/shared/org"
	"orgservice/shared/wire"
)

func main() { api.Serve(wire.Reopened(open)) }

func open(ctx context.Context) (*org.Service, http.Handler, error) {
	env := config.Env(os.Getenv)
	s, err := wire.Open(ctx, env)
	if err != nil {
		return nil, nil, err
	}
	secrets, err := auth.NewSecrets(ctx, env.IntrospectionSecrets)
	if err != nil {
		return nil, nil, err
	}
	keys, err := auth.NewKeys(ctx, env.Verifier)
	if err != nil {
		return nil, nil, err
	}
	return s, api.Introspect(s, secrets.Has, keys.Verify), nil
}
