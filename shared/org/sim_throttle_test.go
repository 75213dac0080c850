package org_test

import (
	"errors"
	"testing"

	"orgservice/shared/org"
)

// TestScriptThrottleOfUntrimmed has an account whose address ends with white space, as
// older versions stored it. A login to it must not clear the failures of the account
// that has the address without it.
func TestScriptThrottleOfUntrimmed(t *testing.T) {
	runScript(t, true, func(s *sim) {
		s.mustCreate(t, "acme", "a@x.test")
		s.mustCreate(t, "bolt", "b@x.test")
		const untrimmed = "a@x.test\u00a0"
		for id, a := range s.durable.admins {
			if a.Email == "b@x.test" {
				a.Email = untrimmed
				s.durable.admins[id] = a
				delete(s.durable.claims, "email:b@x.test")
				s.durable.claims["email:"+untrimmed] = org.Claim{ID: "email:" + untrimmed, Owner: org.Owner{AdminID: id}}
			}
		}
		login := func(email, password string) error {
			return s.runHooked(s.loginOp(org.LoginRequest{Email: email, Password: password}), 0, nil)
		}
		for n := range 30 {
			err := login("a@x.test", "a guess")
			if errors.Is(err, org.ErrThrottled) {
				return
			}
			if n%5 == 4 {
				if err := login(untrimmed, "password 2"); err != nil {
					t.Fatal(err)
				}
			}
		}
		t.Error("30 guesses within a moment")
	})
}

// TestScriptThrottleTells guesses the password of an admin whose organization is
// suspended. The count of attempts must not tell that one of the guesses was right.
func TestScriptThrottleTells(t *testing.T) {
	runScript(t, true, func(s *sim) {
		s.mustCreate(t, "acme", "a@x.test")
		s.toggleSuspension(s.onlyOrganization(t).ID)
		var answers []error
		for n := range 12 {
			guess := "a guess"
			if n == 9 {
				guess = s.knownPassword()
			}
			answers = append(answers, s.runHooked(s.loginOp(org.LoginRequest{Email: "a@x.test", Password: guess}), 0, nil))
		}
		if !errors.Is(answers[9], org.ErrUnauthenticated) || !errors.Is(answers[10], org.ErrThrottled) {
			t.Errorf("the 10th guess, which is right, is answered %q, the 11th %q", answers[9], answers[10])
		}
	})
}
