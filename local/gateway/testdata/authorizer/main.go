// Command authorizer is a Lambda authorizer. The identity tells it how to answer.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-lambda-go/lambda"
)

func main() { lambda.Start(authorize) }

func authorize(_ context.Context, event json.RawMessage) (any, error) {
	var request events.APIGatewayV2CustomAuthorizerV2Request
	if err := json.Unmarshal(event, &request); err != nil {
		return nil, err
	}
	identity := request.IdentitySource[0]
	fmt.Println("asked about", identity)
	switch {
	case strings.HasPrefix(identity, "allow"):
		return map[string]any{"isAuthorized": true, "context": map[string]any{"event": string(event), "n": 12345678901234567}}, nil
	case identity == "fail":
		return nil, errors.New("can't tell")
	case identity == "junk":
		return map[string]any{"authorized": true}, nil
	}
	refusal := map[string]any{"isAuthorized": false}
	if identity == "deny with a reason" {
		refusal["context"] = map[string]any{"reason": "too late"}
	}
	return refusal, nil
}
