// Command echo answers with the event, or, on /reply, with the body in it.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-lambda-go/lambda"
)

func main() {
	lambda.Start(func(_ context.Context, event json.RawMessage) (io.Reader, error) {
		var request events.APIGatewayV2HTTPRequest
		if err := json.Unmarshal(event, &request); err != nil {
			return nil, err
		}
		if request.RawPath == "/reply" {
			event = json.RawMessage(request.Body)
		}
		return bytes.NewReader(event), nil
	})
}
