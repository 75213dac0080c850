// Command authorizer is the Lambda authorizer of the HTTP API: it verifies the
// bearer token of a request. Its response has the simple format, with the caller
// in the context.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-lambda-go/lambdacontext"

	"orgservice/shared/auth"
	"orgservice/shared/config"
)

func main() {
	slog.SetDefault(slog.New(lambdacontext.NewLogHandler()))
	a := &authorizer{env: os.Getenv}
	if err := a.load(context.Background(), false); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	lambda.Start(a.authorize)
}

// reloadInterval is the minimum time between two loads of all keys. A token with
// an unknown key id causes a load, and anybody can make up such tokens.
const reloadInterval = time.Minute

// authorizer handles one event at a time, as every Lambda function does, so it
// needs no lock.
type authorizer struct {
	env      config.Env
	verifier *auth.Verifier
	all      bool      // the last load was of all keys
	loaded   time.Time // when the last load began
	failed   error     // of the last load; nil if it succeeded
}

// load loads the keys. Unless all is true, it leaves out a previous secret that
// must be fetched. If it fails, the authorizer keeps the keys that it has.
func (a *authorizer) load(ctx context.Context, all bool) error {
	a.all, a.loaded = all, time.Now() // even if it fails
	verifier, err := a.env.Verifier(ctx, all)
	if err == nil {
		a.verifier = verifier
	}
	a.failed = err
	return err
}

func (a *authorizer) authorize(ctx context.Context, r events.APIGatewayV2CustomAuthorizerV2Request) (events.APIGatewayV2CustomAuthorizerSimpleResponse, error) {
	token, ok := bearerToken(r)
	if !ok {
		return refuse(ctx, r, "not a bearer token"), nil
	}
	caller, err := a.verifier.Verify(token)
	if errors.Is(err, auth.ErrUnknownKey) {
		if !a.all || time.Since(a.loaded) >= reloadInterval {
			// The key may have been rotated since this process started.
			if err := a.load(ctx, true); err != nil {
				slog.ErrorContext(ctx, "can't load the keys", "error", err.Error())
			}
			caller, err = a.verifier.Verify(token)
		}
		if a.failed != nil && errors.Is(err, auth.ErrUnknownKey) {
			// The token may be valid. The gateway caches a refusal, but not
			// an error.
			return events.APIGatewayV2CustomAuthorizerSimpleResponse{}, a.failed
		}
	}
	if err != nil {
		refusal, _ := errors.AsType[auth.Refusal](err)
		return refuse(ctx, r, string(refusal)), nil
	}
	return events.APIGatewayV2CustomAuthorizerSimpleResponse{IsAuthorized: true, Context: caller.Context()}, nil
}

// refuse returns the refusal of a token. No client sees the reason: the gateway
// writes it to its access log. It quotes nothing of the token.
func refuse(ctx context.Context, r events.APIGatewayV2CustomAuthorizerV2Request, reason string) events.APIGatewayV2CustomAuthorizerSimpleResponse {
	slog.InfoContext(ctx, "token refused", "gateway_request_id", r.RequestContext.RequestID, "source_ip", r.RequestContext.HTTP.SourceIP, "reason", reason)
	return events.APIGatewayV2CustomAuthorizerSimpleResponse{Context: map[string]any{"reason": reason}}
}

// bearerToken returns the token of the Authorization header, which is the only
// identity source. Some local tools send no identity source: then bearerToken
// looks for the header, in any case.
func bearerToken(r events.APIGatewayV2CustomAuthorizerV2Request) (string, bool) {
	var value string
	if len(r.IdentitySource) == 1 {
		value = r.IdentitySource[0]
	} else {
		for name, v := range r.Headers {
			if strings.EqualFold(name, "authorization") {
				value = v
			}
		}
	}
	scheme, token, ok := strings.Cut(value, " ")
	return strings.TrimSpace(token), ok && strings.EqualFold(scheme, "bearer")
}
