// Command act does what the query of a request asks for. It prints any other
// event.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-lambda-go/lambdacontext"
)

func main() { lambda.Start(act) }

func act(ctx context.Context, event json.RawMessage) (any, error) {
	var request events.APIGatewayV2HTTPRequest
	if err := json.Unmarshal(event, &request); err != nil {
		return nil, err
	}
	if request.Version != "2.0" {
		fmt.Printf(`{"event":%s}`+"\n", event)
		return nil, nil
	}
	query := request.QueryStringParameters
	switch query["do"] {
	case "error":
		return nil, errors.New("refused")
	case "panic":
		panic("panicked")
	case "exit":
		fmt.Fprintln(os.Stderr, "last words")
		os.Exit(3)
	case "large":
		return strings.Repeat("x", 7<<20), nil
	case "hang":
		select {}
	case "env":
		return os.Environ(), nil
	case "context":
		lc, _ := lambdacontext.FromContext(ctx)
		deadline, _ := ctx.Deadline()
		return []string{lc.AwsRequestID, lc.InvokedFunctionArn, time.Until(deadline).Round(time.Second).String()}, nil
	case "meet": // waits until n of these run, with a file in dir for each
		if err := os.WriteFile(filepath.Join(query["dir"], strconv.Itoa(os.Getpid())), nil, 0o600); err != nil {
			return nil, err
		}
		for {
			if met, _ := os.ReadDir(query["dir"]); strconv.Itoa(len(met)) == query["n"] {
				break
			}
			time.Sleep(2 * time.Millisecond)
		}
	case "hold": // opens a connection, which closes when the process ends
		if _, err := net.Dial("tcp", query["addr"]); err != nil {
			return nil, err
		}
	}
	return os.Getpid(), nil
}
