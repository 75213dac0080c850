// Package awsapi calls an AWS service: one signed request, one answer. The SDK's client
// of a service would do the same, but what it links and initializes makes a quarter of
// the cold start of a small function. The signature is the SDK's.
package awsapi

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

// Client calls one service.
type Client struct {
	Service string // the name that requests are signed for, such as "secretsmanager"
	Host    string // the first part of the service's host name, if it is not Service
	Region  string // such as "eu-west-3"

	// Endpoint is the URL of the service. If it is empty, it is that of the region.
	Endpoint string

	// Credentials returns those to sign with.
	Credentials func() (aws.Credentials, error)
}

// Error is the refusal of a service.
type Error struct {
	Status  int    // of HTTP
	Code    string // such as "ResourceNotFoundException"; "UnknownError" if none is said
	Message string // the words of the service, which may quote the request
}

// Error returns the code and the status, without the words of the service.
func (e *Error) Error() string { return fmt.Sprintf("%s (status %d)", e.Code, e.Status) }

const (
	attempts  = 3
	firstWait = 100 * time.Millisecond // between two attempts, at most; doubled each time
	maxAnswer = 1 << 20                // bytes
)

// client takes no redirects, because nobody else may get what is signed.
var client = &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}

// Post sends the body, which is JSON, to the path with the header, and reads the answer
// into answer. It tries again, up to three times in all, if the service can't be reached
// or says that it is not able to answer now. An error of the service is an [*Error].
func (c Client) Post(ctx context.Context, path string, header http.Header, body []byte, answer any) error {
	endpoint, err := c.endpoint()
	if err != nil {
		return err
	}
	for attempt := 1; ; attempt++ {
		err, again := c.try(ctx, endpoint+path, header, body, answer)
		if err == nil || !again || attempt == attempts || ctx.Err() != nil {
			return err
		}
		select {
		case <-time.After(rand.N(firstWait << (attempt - 1))):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// try makes one attempt. It reports whether another one may do better.
func (c Client) try(ctx context.Context, url string, header http.Header, body []byte, answer any) (err error, again bool) {
	credentials, err := c.Credentials()
	if err != nil {
		return err, false
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return err, false
	}
	for name, values := range header {
		r.Header[name] = values
	}
	sum := sha256.Sum256(body)
	if err := v4.NewSigner().SignHTTP(ctx, credentials, r, hex.EncodeToString(sum[:]), c.Service, c.Region, time.Now()); err != nil {
		return err, false
	}
	response, err := client.Do(r)
	if err != nil {
		return err, true
	}
	defer response.Body.Close()
	data, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err != nil {
		return err, true
	}
	if response.StatusCode != http.StatusOK {
		refusal := newError(response, data)
		return refusal, refusal.Status == http.StatusTooManyRequests || refusal.Status >= 500 || throttling[refusal.Code]
	}
	if json.Unmarshal(data, answer) != nil { // its error may quote the answer
		return errors.New("the answer is not the JSON that is expected"), false
	}
	return nil, false
}

// throttling are codes of refusals with status 400 that mean: later
// (https://docs.aws.amazon.com/general/latest/gr/api-retries.html).
var throttling = map[string]bool{"ThrottlingException": true, "Throttling": true, "RequestLimitExceeded": true, "TooManyRequestsException": true, "RequestTimeout": true}

// newError reads a refusal. The code is in a header or in the body, perhaps after a
// namespace and before a URL
// (https://smithy.io/2.0/aws/protocols/aws-json-1_1-protocol.html#operation-error-serialization).
func newError(response *http.Response, data []byte) *Error {
	var body struct {
		Type    string `json:"__type"`
		Code    string `json:"code"`
		Message string `json:"message"` // or "Message"
	}
	json.Unmarshal(data, &body)
	e := &Error{Status: response.StatusCode, Code: "UnknownError", Message: body.Message}
	for _, code := range []string{response.Header.Get("X-Amzn-ErrorType"), body.Code, body.Type} {
		code, _, _ = strings.Cut(code[strings.IndexByte(code, '#')+1:], ":")
		if len(code) > 0 && len(code) <= 100 && isPlain(code) {
			e.Code = code
			break
		}
	}
	return e
}

// isPlain reports whether s has only letters, digits and hyphens, so that it can be a part
// of a host name or of a log line. (A regexp would take longer to compile at the start
// of a function than all calls take.)
func isPlain(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool {
		return r != '-' && (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z')
	})
}

// domains are those of the partitions other than aws, by the begin of a region's name
// (https://docs.aws.amazon.com/whitepapers/latest/aws-fault-isolation-boundaries/partitions.html).
var domains = []struct{ region, domain string }{
	{"cn-", "amazonaws.com.cn"}, {"eusc-", "amazonaws.eu"},
	{"us-iso-", "c2s.ic.gov"}, {"us-isob-", "sc2s.sgov.gov"}, {"eu-isoe-", "cloud.adc-e.uk"}, {"us-isof-", "csp.hci.ic.gov"},
}

func (c Client) endpoint() (string, error) {
	if c.Region == "" || !isPlain(c.Region) {
		return "", errors.New("has no region, or one that can't be")
	}
	if c.Endpoint != "" {
		return strings.TrimSuffix(c.Endpoint, "/"), nil
	}
	host, domain := c.Host, "amazonaws.com"
	if host == "" {
		host = c.Service
	}
	for _, d := range domains {
		if strings.HasPrefix(c.Region, d.region) {
			domain = d.domain
		}
	}
	return "https://" + host + "." + c.Region + "." + domain, nil
}
