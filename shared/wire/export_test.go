package wire

import "time"

// SetReopenAfter sets how long a service is used at least, until the returned function is called.
func SetReopenAfter(d time.Duration) (restore func()) {
	old := reopenAfter
	reopenAfter = d
	return func() { reopenAfter = old }
}
