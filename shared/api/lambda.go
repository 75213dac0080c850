package api

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"strings"
	"unicode"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-lambda-go/lambdacontext"
	"github.com/awslabs/aws-lambda-go-api-proxy/core"
	"github.com/awslabs/aws-lambda-go-api-proxy/httpadapter"

	"orgservice/shared/auth"
	"orgservice/shared/metrics"
	"orgservice/shared/org"
	"orgservice/shared/trace"
)

// Serve is the main of a Lambda function: it serves the handler that open
// returns until the process ends. A handler that is an [io.Closer] is closed then. If open
// fails, because a setting is missing or wrong, Serve logs the error and exits with status 1.
// It reads EDGE_SECRET_SHA256 itself, which all functions with a route have.
func Serve(open func(context.Context) (http.Handler, error)) {
	slog.SetDefault(slog.New(requestLog{lambdacontext.NewLogHandler()}))
	edge, err := newEdge(os.Getenv("EDGE_SECRET_SHA256"))
	var handler http.Handler
	if err == nil {
		handler, err = open(context.Background())
	}
	if err != nil {
		slog.Error("the function can't start", "error", err.Error())
		os.Exit(1)
	}
	var options []lambda.Option
	if closer, ok := handler.(io.Closer); ok {
		options = append(options, lambda.WithEnableSIGTERM(func() {
			closer.Close()
			os.Exit(0)
		}))
	}
	lambda.StartWithOptions(edge.guard(Lambda(handler)), options...)
}

// Lambda turns the handler into a Lambda function for an HTTP API with payload
// format 2.0. Only this file uses the adapter.
func Lambda(h http.Handler) lambdaFunction {
	adapter := httpadapter.NewV2(h)
	return func(ctx context.Context, event events.APIGatewayV2HTTPRequest) (events.APIGatewayV2HTTPResponse, error) {
		metrics.Begin()
		trace.Begin()
		event.RawPath = escapedPath(event)
		if !readable(event) {
			return unreadable(ctx, event), nil
		}
		id := orLambdaID(ctx, event.RequestContext.RequestID) // for lines before the handler has its own
		response, err := adapter.ProxyWithContext(withRequestIDs(ctx, requestIDs{answered: id, gateway: id}), event)
		if err != nil {
			return unreadable(ctx, event), nil
		}
		return response, nil
	}
}

// escapedPath returns the path of the event as a URL has it. API Gateway has decoded it,
// but the adapter takes it as it is: "?" would begin a query, and "%" or a control
// character would make the request unreadable.
func escapedPath(event events.APIGatewayV2HTTPRequest) string {
	path := url.URL{Path: cmp.Or(event.RawPath, event.RequestContext.HTTP.Path)}
	return path.EscapedPath()
}

// readable reports whether the event is an HTTP request. The adapter would
// notice as well, but it prints what it can't read, line breaks included, and
// its error does not say what is wrong.
func readable(event events.APIGatewayV2HTTPRequest) bool {
	target := "https://" + event.RequestContext.DomainName + event.RawPath + "?" + event.RawQueryString
	if _, err := http.NewRequest(event.RequestContext.HTTP.Method, target, nil); err != nil {
		return false
	}
	if !event.IsBase64Encoded {
		return true
	}
	_, err := base64.StdEncoding.DecodeString(event.Body)
	return err == nil
}

// unreadable returns the response to an event that is not an HTTP request. It logs
// the request as logRequest does, but not its path.
func unreadable(ctx context.Context, event events.APIGatewayV2HTTPRequest) events.APIGatewayV2HTTPResponse {
	const reason = "the request can't be read"
	body, _ := json.Marshal(newProblem(badRequest(reason), orLambdaID(ctx, event.RequestContext.RequestID)))
	return turnAway(ctx, event, http.StatusBadRequest, "application/problem+json", string(body), reason)
}

// turnAway returns the response to an event that gets to no handler, and logs and counts the request.
func turnAway(ctx context.Context, event events.APIGatewayV2HTTPRequest, status int, contentType, body, reason string) events.APIGatewayV2HTTPResponse {
	id := orLambdaID(ctx, event.RequestContext.RequestID)
	slog.InfoContext(withRequestIDs(ctx, requestIDs{answered: id, gateway: id}), "request",
		"status", status, "source_ip", event.RequestContext.HTTP.SourceIP, "error", reason)
	metrics.Begin()
	metrics.Add(metrics.TurnedAway, 1)
	metrics.Write(nil)
	headers := commonHeaders(id)
	headers["Content-Type"] = contentType
	return events.APIGatewayV2HTTPResponse{StatusCode: status, Headers: headers, Body: body}
}

// gatewayID returns the request id of the gateway.
func gatewayID(r *http.Request) string {
	event, _ := core.GetAPIGatewayV2ContextFromContext(r.Context())
	return orLambdaID(r.Context(), event.RequestID)
}

// orLambdaID returns the id, or the request id of Lambda if it is empty.
func orLambdaID(ctx context.Context, id string) string {
	if id != "" {
		return id
	}
	if lc, ok := lambdacontext.FromContext(ctx); ok {
		return lc.AwsRequestID
	}
	return "unknown"
}

// callerOf returns the caller that the authorizer found in the token. It is in
// the authorizer's part of the event, which no client can write.
func callerOf(r *http.Request) (auth.Caller, error) {
	missing := &org.Error{Kind: org.Unauthenticated, Reason: tokenRequired, Message: "an access token is required: log in first"}
	event, ok := core.GetAPIGatewayV2ContextFromContext(r.Context())
	if !ok || event.Authorizer == nil {
		return auth.Caller{}, missing
	}
	caller, ok := auth.CallerFromContext(event.Authorizer.Lambda)
	if !ok {
		return auth.Caller{}, missing
	}
	return caller, nil
}

// operatorOf returns the operator whom API Gateway knows by AWS IAM, as an ARN. It is in a part
// of the event that no client can write.
func operatorOf(r *http.Request) (string, error) {
	event, _ := core.GetAPIGatewayV2ContextFromContext(r.Context())
	if !isOperators(event) {
		return "", refuse(http.StatusForbidden, operatorRequired, "only an operator may do this")
	}
	return event.Authorizer.IAM.UserARN, nil
}

// isOperators reports whether API Gateway has let the request pass by AWS IAM.
func isOperators(event events.APIGatewayV2HTTPRequestContext) bool {
	return event.Authorizer != nil && event.Authorizer.IAM != nil && event.Authorizer.IAM.UserARN != ""
}

// clientAddress returns the IP address of the client as the gateway saw it, or the edge if
// there is one. Headers that name one, such as X-Forwarded-For, can be written by anybody.
func clientAddress(r *http.Request) string {
	event, _ := core.GetAPIGatewayV2ContextFromContext(r.Context())
	return event.HTTP.SourceIP
}

// userAgent returns the header User-Agent, at most 200 bytes of it, without what is not
// text.
func userAgent(r *http.Request) string {
	text := strings.ToValidUTF8(r.UserAgent(), "")
	if len(text) > 200 {
		text = strings.ToValidUTF8(text[:200], "")
	}
	return strings.Map(func(c rune) rune {
		if !unicode.IsPrint(c) {
			return -1
		}
		return c
	}, text)
}
