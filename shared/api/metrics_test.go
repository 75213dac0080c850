package api_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/aws/aws-lambda-go/events"

	"orgservice/shared/api"
	"orgservice/shared/metrics"
)

// TestTurnedAway checks that an event that no handler gets is counted, and nothing of the event before.
func TestTurnedAway(t *testing.T) {
	t.Setenv("METRICS_NAMESPACE", "service")
	handler := api.Lambda(http.NotFoundHandler())
	counting := func(ctx context.Context, event events.APIGatewayV2HTTPRequest) (events.APIGatewayV2HTTPResponse, error) {
		response, err := handler(ctx, event)
		if response.StatusCode == 404 {
			metrics.Add(metrics.Latency, 1)
		}
		return response, err
	}
	const secret = "a secret of the edge, which is long"
	guarded := api.Guarded(fmt.Sprintf("%x", sha256.Sum256([]byte(secret))), counting)
	unreadable := request("GET", "/health", "")
	unreadable.RequestContext.HTTP.Method = "no method"
	for name, event := range map[string]events.APIGatewayV2HTTPRequest{
		"past the edge": request("GET", "/health", ""),
		"unreadable":    withHeader(unreadable, "x-edge-secret", secret),
	} {
		if response, err := guarded(t.Context(), withHeader(request("GET", "/health", ""), "x-edge-secret", secret)); err != nil || response.StatusCode != 404 {
			t.Fatalf("%+v, %v; want 404", response, err)
		}
		printed := stdout(t, func() {
			if response, err := guarded(t.Context(), event); err != nil || response.StatusCode/100 != 4 {
				t.Errorf("%+v, %v; want a refusal", response, err)
			}
		})
		if strings.Count(printed, "\n") != 1 || !strings.Contains(printed, `"TurnedAway":1`) || strings.Contains(printed, `"Latency"`) {
			t.Errorf("%s: it prints %s", name, printed)
		}
	}
}
