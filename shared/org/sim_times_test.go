package org_test

import (
	"errors"
	"testing"
	"time"

	"orgservice/shared/org"
)

// TestScriptTimes checks the times that the documentation and the messages name.
func TestScriptTimes(t *testing.T) {
	if org.StaleAfter != time.Minute || org.MaxSkew != 10*time.Second {
		t.Errorf("an operation is stale after %v, and clocks may differ by %v", org.StaleAfter, org.MaxSkew)
	}
	// Half a minute after it began, an operation may still rename its collection. Later
	// it must take itself over first, which is one more write.
	for delay, want := range map[time.Duration]int{30 * time.Second: 2, 30*time.Second + time.Millisecond: 3} {
		runScript(t, true, func(s *sim) {
			s.mustCreate(t, "acme", "a@x.test")
			writes := 0
			err := s.runHooked(s.changeAcme("core", "", ""), 0, func(c *call) bool {
				if c.method != "ReplaceOrganization" {
					return false
				}
				if writes++; writes > 1 {
					return false
				}
				s.take(c)
				r := s.execute(c, false)
				s.sleep(delay) // until the answer
				s.answer(c, r)
				return true
			})
			if err != nil || writes != want {
				t.Errorf("%v, %d writes of the record after %v; want %d", err, writes, delay, want)
			}
		})
	}
	// A request that fails cleans up for two seconds at most.
	for name, begin := range map[string]func(s *sim) *operation{
		"rename":    func(s *sim) *operation { return s.changeAcme("core", "", "") },
		"new email": func(s *sim) *operation { return s.changeAcme("", "c@x.test", "") },
	} {
		runScript(t, true, func(s *sim) {
			s.mustCreate(t, "acme", "a@x.test")
			var failed time.Time
			err := s.runHooked(begin(s), 0, func(c *call) bool {
				switch {
				case failed.IsZero() && (c.method == "ReplaceOrganization" || c.method == "ReplaceAdmin"):
					failed = time.Now()
					return s.deny(c)
				case failed.IsZero() || c.kind == operationEnd:
					return false
				}
				s.take(c)
				s.held = append(s.held, heldReply{c, unreachable(c), deadlineOf(c)})
				return true
			})
			if took := time.Since(failed); !errors.Is(err, org.ErrUnavailable) || took != 2*time.Second {
				t.Errorf("%s: %v after %v; want an end after 2 seconds", name, err, took)
			}
		})
	}
}

// deadlineOf returns that of the call, or one in an hour.
func deadlineOf(c *call) time.Time {
	if deadline, ok := c.ctx.Deadline(); ok {
		return deadline
	}
	return time.Now().Add(time.Hour)
}
