// Command jwks is the Lambda function behind GET /.well-known/jwks.json.
package main

import (
	"context"
	"net/http"
	"os"

	"orgservice/shared/api"
	"orgservice/shared/config"
)

func main() { api.Serve(open) }

func open(ctx context.Context) (http.Handler, error) {
	env := config.Env(os.Getenv)
	set, err := env.KeySet(ctx)
	if err != nil {
		return nil, err
	}
	return api.JWKS(set), nil
}
