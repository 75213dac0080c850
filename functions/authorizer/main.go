// Command authorizer is the Lambda function that the gateway asks whether a
// request's bearer token is good. It answers in the simple format, with the
// caller in its context.
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

// reloadInterval is how often, at most, the keys are looked up again because a
// token names one that is not known: tokens that name nonsense cost nothing
// else.
const reloadInterval = time.Minute

// authorizer serves one event at a time, as all functions do.
type authorizer struct {
	env      config.Env
	verifier *auth.Verifier
	all      bool // the verifier has all keys
	loaded   time.Time
	failed   error // of the last time that the keys were looked up
}

func (a *authorizer) load(ctx context.Context, all bool) error {
	a.all, a.loaded = all, time.Now() // though it may fail
	verifier, err := a.env.Verifier(ctx, all)
	if err == nil {
		a.verifier = verifier
	}
	a.failed = err
	return err
}

func (a *authorizer) authorize(ctx context.Context, r events.APIGatewayV2CustomAuthorizerV2Request) (events.APIGatewayV2CustomAuthorizerSimpleResponse, error) {
	var refused events.APIGatewayV2CustomAuthorizerSimpleResponse
	token, ok := bearerToken(r)
	if !ok {
		return refused, nil
	}
	caller, err := a.verifier.Verify(token)
	if errors.Is(err, auth.ErrUnknownKey) {
		if !a.all || time.Since(a.loaded) >= reloadInterval {
			// The key may have been rotated since this process began.
			if err := a.load(ctx, true); err != nil {
				slog.ErrorContext(ctx, "keys not loaded", "error", err.Error())
			}
			caller, err = a.verifier.Verify(token)
		}
		if a.failed != nil && errors.Is(err, auth.ErrUnknownKey) {
			// Nobody knows whether the token is good. The gateway keeps a
			// refusal for a while, and an error not.
			return refused, a.failed
		}
	}
	if err != nil {
		slog.InfoContext(ctx, "refused", "error", err.Error())
		return refused, nil
	}
	return events.APIGatewayV2CustomAuthorizerSimpleResponse{IsAuthorized: true, Context: caller.Context()}, nil
}

// bearerToken returns the token of the request's Authorization header, which
// is its one identity source. Where that is missing, as in some local tools,
// the header is looked for in whatever case it comes.
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
