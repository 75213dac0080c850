package api

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"fmt"
	"maps"
	"net/http"
	"net/netip"
	"strings"

	"github.com/aws/aws-lambda-go/events"
)

// edge is what stands in front of the gateway, such as CloudFront with AWS WAF. It has the
// SHA-256 hashes of the secrets that the edge may send; without any, there is no edge.
//
// A hash of a long random secret reveals nothing, so it needs no protection, and a function
// need not wait for a secret when it starts.
type edge [][sha256.Size]byte

// edgeSecretHeader is the header in which the edge sends its secret.
const edgeSecretHeader = "X-Edge-Secret"

// CheckEdge returns what is wrong with a value of EDGE_SECRET_SHA256, or nil.
func CheckEdge(value string) error {
	_, err := newEdge(value)
	return err
}

// newEdge parses EDGE_SECRET_SHA256: hashes in hexadecimal, with white space between them.
func newEdge(value string) (edge, error) {
	var e edge
	for text := range strings.FieldsSeq(value) {
		hash, err := hex.DecodeString(text)
		if err != nil || len(hash) != sha256.Size {
			return nil, fmt.Errorf("EDGE_SECRET_SHA256: must be SHA-256 hashes in hexadecimal, of %d digits each", 2*sha256.Size)
		}
		e = append(e, [sha256.Size]byte(hash))
	}
	return e, nil
}

// lambdaFunction is a Lambda function for an HTTP API with payload format 2.0.
type lambdaFunction func(context.Context, events.APIGatewayV2HTTPRequest) (events.APIGatewayV2HTTPResponse, error)

// guard returns the function behind the edge. It refuses what has not come through the edge,
// as the gateway would, and takes the address of the client from the edge. Operators need not
// come through the edge: AWS IAM compares the host that they have signed.
func (e edge) guard(f lambdaFunction) lambdaFunction {
	if len(e) == 0 {
		return f
	}
	return func(ctx context.Context, event events.APIGatewayV2HTTPRequest) (events.APIGatewayV2HTTPResponse, error) {
		if isOperators(event.RequestContext) {
			return f(ctx, event)
		}
		event.Headers = maps.Clone(event.Headers)
		secret := headerAway(event.Headers, edgeSecretHeader)
		if !e.knows(secret) {
			return turnAway(ctx, event, http.StatusForbidden, jsonType, `{"message":"Forbidden"}`, "the request has not come through the edge"), nil
		}
		event.RequestContext.HTTP.SourceIP = viewer(event)
		return f(ctx, event)
	}
}

// knows reports whether the edge has the secret, in constant time.
func (e edge) knows(secret string) bool {
	hash, found := sha256.Sum256([]byte(secret)), 0
	for i := range e {
		found |= subtle.ConstantTimeCompare(hash[:], e[i][:])
	}
	return found == 1
}

// headerAway removes a header, in any case, and returns its value.
func headerAway(headers map[string]string, name string) (value string) {
	for k, v := range headers {
		if strings.EqualFold(k, name) {
			value = v
			delete(headers, k)
		}
	}
	return value
}

// viewer returns the address of the client of the edge. The edge appends it to
// X-Forwarded-For, and after it the gateway that of the edge. What is before them, anybody can
// write. If the two are not there, viewer returns the address of the edge.
func viewer(event events.APIGatewayV2HTTPRequest) string {
	source := event.RequestContext.HTTP.SourceIP
	var addresses []netip.Addr // those that can't be read are zero
	for k, list := range event.Headers {
		if strings.EqualFold(k, "X-Forwarded-For") {
			for text := range strings.SplitSeq(list, ",") {
				address, _ := netip.ParseAddr(strings.TrimSpace(text))
				addresses = append(addresses, address.Unmap())
			}
		}
	}
	edge, err := netip.ParseAddr(source)
	n := len(addresses)
	if err != nil || n < 2 || addresses[n-1] != edge.Unmap() || !addresses[n-2].IsValid() {
		return source
	}
	return addresses[n-2].String()
}
