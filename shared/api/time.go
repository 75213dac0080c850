package api

import (
	"encoding/json"
	"time"
)

// Time is a time in a response body: RFC 3339 in UTC, always with three digits of
// milliseconds, so that such times sort as text.
type Time time.Time

// UnmarshalJSON reads what MarshalJSON returns.
func (t *Time) UnmarshalJSON(data []byte) error { return json.Unmarshal(data, (*time.Time)(t)) }

// MarshalJSON returns the time as a string in JSON.
func (t Time) MarshalJSON() ([]byte, error) {
	return json.Marshal(time.Time(t).UTC().Format("2006-01-02T15:04:05.000Z"))
}
