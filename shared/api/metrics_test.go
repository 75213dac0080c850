package api_test

import (
	"net/http"
	"strings"
	"testing"

	"orgservice/shared/api"
)

// TestTurnedAway checks that an event that no handler gets is counted, as nothing else.
func TestTurnedAway(t *testing.T) {
	t.Setenv("METRICS_NAMESPACE", "service")
	handler := api.Lambda(http.NotFoundHandler())
	event := request("GET", "/health", "")
	event.RequestContext.HTTP.Method = "no method"
	for range 2 {
		printed := stdout(t, func() {
			if response, err := handler(t.Context(), event); err != nil || response.StatusCode != 400 {
				t.Errorf("%+v, %v; want 400", response, err)
			}
		})
		if strings.Count(printed, "\n") != 1 || !strings.Contains(printed, `"TurnedAway":1`) || strings.Contains(printed, `"Latency"`) {
			t.Errorf("it prints %s", printed)
		}
	}
}
