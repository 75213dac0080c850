// Command authorizer is the Lambda authorizer of the HTTP API: it verifies the
// bearer token of a request. Its response has the simple format, with the caller
// in the context.
package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"strings"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-lambda-go/lambdacontext"

	"orgservice/shared/auth"
	"orgservice/shared/config"
	"orgservice/shared/metrics"
)

func main() {
	slog.SetDefault(slog.New(lambdacontext.NewLogHandler()))
	env := config.Env(os.Getenv)
	keys, err := auth.NewKeys(context.Background(), env.Verifier)
	if err != nil {
		slog.Error("the function can't start", "error", err.Error())
		os.Exit(1)
	}
	lambda.Start((&authorizer{keys: keys}).authorize)
}

type authorizer struct {
	keys   *auth.Keys
	logged error // the last failure to load the keys
}

func (a *authorizer) authorize(ctx context.Context, r events.APIGatewayV2CustomAuthorizerV2Request) (events.APIGatewayV2CustomAuthorizerSimpleResponse, error) {
	metrics.Begin()
	defer metrics.Write(nil)
	token, ok := bearerToken(r)
	if !ok {
		return refuse(ctx, r, "not a bearer token"), nil
	}
	caller, err := a.keys.Verify(ctx, token)
	if refusal, ok := errors.AsType[auth.Refusal](err); ok {
		return refuse(ctx, r, string(refusal)), nil
	}
	if err != nil { // the gateway caches a refusal, but not an error
		if err != a.logged { // not of another load
			slog.ErrorContext(ctx, "can't load the keys", "gateway_request_id", r.RequestContext.RequestID, "error", err.Error())
			a.logged = err
		}
		return events.APIGatewayV2CustomAuthorizerSimpleResponse{}, err
	}
	return events.APIGatewayV2CustomAuthorizerSimpleResponse{IsAuthorized: true, Context: caller.Context()}, nil
}

// refuse returns the refusal of a token. No client sees the reason: the gateway
// writes it to its access log. It quotes nothing of the token.
func refuse(ctx context.Context, r events.APIGatewayV2CustomAuthorizerV2Request, reason string) events.APIGatewayV2CustomAuthorizerSimpleResponse {
	metrics.Add(metrics.TokensRefused, 1)
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
