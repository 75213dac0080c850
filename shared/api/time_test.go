package api_test

import (
	"encoding/json"
	"testing"
	"time"

	"orgservice/shared/api"
)

func TestTime(t *testing.T) {
	for _, tt := range []struct {
		nanoseconds int
		want        string
	}{
		{0, `"2026-11-25T00:28:58.000Z"`},
		{30e6, `"2026-11-25T00:28:58.030Z"`},
		{999e6 + 999999, `"2026-11-25T00:28:58.999Z"`},
	} {
		at := time.Date(2026, 11, 25, 5, 58, 58, tt.nanoseconds, time.FixedZone("IST", 5*60*60+30*60))
		if got, err := json.Marshal(api.Time(at)); err != nil || string(got) != tt.want {
			t.Errorf("%s, %v; want %s", got, err, tt.want)
		}
	}
}
