package api

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"testing"

	"github.com/aws/aws-lambda-go/events"
)

const edgeSecret = "a secret of the edge, which is long"

func hashOf(secret string) string {
	hash := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(hash[:])
}

func TestNewEdge(t *testing.T) {
	for value, want := range map[string]int{
		"": 0, " ": 0, hashOf("a"): 1, hashOf("a") + " \n" + hashOf("b") + "\n": 2,
		"x": -1, hashOf("a")[1:]: -1, hashOf("a") + "00": -1, hashOf("a") + ",": -1, hashOf("a") + " " + edgeSecret: -1,
	} {
		e, err := newEdge(value)
		if (err == nil) != (want >= 0) || err == nil && len(e) != want || (CheckEdge(value) == nil) != (err == nil) {
			t.Errorf("%q: %d hashes, %v; want %d", value, len(e), err, want)
		}
	}
}

func TestEdge(t *testing.T) {
	var got *events.APIGatewayV2HTTPRequest
	f := func(_ context.Context, event events.APIGatewayV2HTTPRequest) (events.APIGatewayV2HTTPResponse, error) {
		got = &event
		return events.APIGatewayV2HTTPResponse{StatusCode: 200}, nil
	}
	send := func(e edge, headers map[string]string) (status int, source string) {
		t.Helper()
		got = nil
		event := events.APIGatewayV2HTTPRequest{Headers: headers}
		event.RequestContext.HTTP.SourceIP = "192.0.2.1"
		response, err := e.guard(f)(t.Context(), event)
		if err != nil || (got != nil) != (response.StatusCode == 200) {
			t.Fatalf("%+v, %v, and the function got %v", response, err, got)
		}
		if got != nil {
			source = got.RequestContext.HTTP.SourceIP
		}
		return response.StatusCode, source
	}
	behind, err := newEdge(hashOf("an older one") + " " + hashOf(edgeSecret))
	if err != nil {
		t.Fatal(err)
	}

	for list, want := range map[string]string{
		"203.0.113.9, 192.0.2.1":               "203.0.113.9",
		"6.6.6.6, 203.0.113.9, 192.0.2.1":      "203.0.113.9", // the client has written one
		"192.0.2.1,203.0.113.9,192.0.2.1":      "203.0.113.9",
		"6.6.6.6,192.0.2.1,192.0.2.1":          "192.0.2.1",
		"2001:db8::9, 192.0.2.1":               "2001:db8::9",
		"2001:0DB8:0:0:0:0:0:9, 192.0.2.1":     "2001:db8::9",
		"::ffff:203.0.113.9, 192.0.2.1":        "203.0.113.9",
		"203.0.113.9, ::ffff:192.0.2.1":        "203.0.113.9",
		"203.0.113.9":                          "192.0.2.1", // the gateway has added nothing
		"6.6.6.6, 203.0.113.9":                 "192.0.2.1",
		"192.0.2.1":                            "192.0.2.1",
		"":                                     "192.0.2.1",
		"x, 192.0.2.1":                         "192.0.2.1",
		"203.0.113.9, , 192.0.2.1":             "192.0.2.1",
		"203.0.113.9:443, 192.0.2.1":           "192.0.2.1",
		"203.0.113.9, fe80::1%eth0, 192.0.2.1": "fe80::1%eth0",
	} {
		headers := map[string]string{"x-edge-secret": edgeSecret, "x-forwarded-for": list}
		if status, source := send(behind, headers); status != 200 || source != want {
			t.Errorf("%q: %d from %s; want %s", list, status, source, want)
		}
		if _, there := got.Headers["x-edge-secret"]; there || headers["x-edge-secret"] == "" {
			t.Errorf("the function gets the secret, or the event has changed: %v, %v", got.Headers, headers)
		}
	}
	for name, headers := range map[string]map[string]string{
		"none": nil, "empty": {"x-edge-secret": ""}, "wrong": {"x-edge-secret": edgeSecret + "x"}, "two": {"x-edge-secret": edgeSecret + "," + edgeSecret},
		"the hash": {"x-edge-secret": hashOf(edgeSecret)}, "another header": {"x-edge": edgeSecret, "x-forwarded-for": "203.0.113.9"},
	} {
		if status, _ := send(behind, headers); status != 403 {
			t.Errorf("%s: %d", name, status)
		}
	}
	if status, _ := send(behind, map[string]string{"X-Edge-Secret": "an older one"}); status != 200 {
		t.Errorf("an older secret: %d", status)
	}
	// Operators need not come through it.
	event := events.APIGatewayV2HTTPRequest{Headers: map[string]string{"x-forwarded-for": "203.0.113.9, 192.0.2.1"}}
	event.RequestContext.HTTP.SourceIP = "192.0.2.1"
	event.RequestContext.Authorizer = &events.APIGatewayV2HTTPRequestContextAuthorizerDescription{
		IAM: &events.APIGatewayV2HTTPRequestContextAuthorizerIAMDescription{UserARN: "arn:aws:iam::123456789012:user/olivia"},
	}
	if response, err := behind.guard(f)(t.Context(), event); err != nil || response.StatusCode != 200 {
		t.Errorf("an operator: %+v, %v", response, err)
	} else if source := got.RequestContext.HTTP.SourceIP; source != "192.0.2.1" { // anybody can write the header
		t.Errorf("an operator from %s; want 192.0.2.1", source)
	}
	event.RequestContext.Authorizer = &events.APIGatewayV2HTTPRequestContextAuthorizerDescription{
		Lambda: map[string]any{"admin_id": "x"}, IAM: &events.APIGatewayV2HTTPRequestContextAuthorizerIAMDescription{},
	}
	if response, err := behind.guard(f)(t.Context(), event); err != nil || response.StatusCode != 403 {
		t.Errorf("an admin: %+v, %v", response, err)
	}
	// Without an edge nobody is believed.
	if status, source := send(nil, map[string]string{"x-edge-secret": edgeSecret, "x-forwarded-for": "203.0.113.9, 192.0.2.1"}); status != 200 || source != "192.0.2.1" {
		t.Errorf("without an edge: %d from %s", status, source)
	}
}
