package org_test

import (
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"orgservice/shared/org"
)

func TestReset(t *testing.T) {
	t.Parallel()
	f, post, owner, ahead := withMail(t)
	if err := f.Forgot(t.Context(), org.ForgotRequest{Email: " OWNER@acme.test"}); err != nil {
		t.Fatal(err)
	}
	m := post.last(t, 1)
	if m.Kind != org.ResetMail || m.To != "owner@acme.test" || m.Organization != "" || m.ValidFor.Round(time.Minute) != time.Hour {
		t.Errorf("mail %+v", m)
	}
	if err := f.Forgot(t.Context(), org.ForgotRequest{Email: "owner@acme.test"}); err != nil {
		t.Fatal(err)
	}
	second := post.last(t, 2)
	wantFields(t, f.Reset(t.Context(), org.ResetRequest{}), "ticket", "password")
	wantFields(t, f.Reset(t.Context(), org.ResetRequest{Ticket: m.Ticket, Password: "password"}), "password")
	f.wantTokenValid(t, owner, "Acme Ltd")
	_, err := f.Accept(t.Context(), org.AcceptRequest{Ticket: m.Ticket, Password: adminPassword})
	wantReason(t, "accept", err, org.TicketInvalid)
	for range 30 { // somebody guesses
		f.Login(t.Context(), org.LoginRequest{Email: "owner@acme.test", Password: "wrong"})
	}
	const address = "192.0.2.1"
	if err := f.Reset(t.Context(), org.ResetRequest{Ticket: m.Ticket, Password: "Better@123", ClientAddress: address}); err != nil {
		t.Fatal(err)
	}
	f.wantTokenInvalid(t, owner)
	if _, err := f.Login(t.Context(), org.LoginRequest{Email: "owner@acme.test", Password: "Better@123", ClientAddress: address}); err != nil {
		t.Errorf("after the reset: %v", err)
	}
	for _, used := range []org.Mail{m, second} {
		wantReason(t, "after a reset", f.Reset(t.Context(), org.ResetRequest{Ticket: used.Ticket, Password: "Other@1234"}), org.TicketInvalid)
	}

	if err := f.Forgot(t.Context(), org.ForgotRequest{Email: "owner@acme.test"}); err != nil {
		t.Fatal(err)
	}
	ahead(time.Hour)
	wantReason(t, "an hour later", f.Reset(t.Context(), org.ResetRequest{Ticket: post.last(t, 3).Ticket, Password: "Other@1234"}), org.TicketInvalid)
	f.wantNoFindings(t)
}

// TestForgotTells checks that neither the answer nor its time tells whether there is
// such an admin, even if mailing takes long, or fails.
func TestForgotTells(t *testing.T) {
	for _, mailing := range []time.Duration{0, 500 * time.Millisecond, time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			s, err := newSim(1, "calm", true)
			if err != nil {
				t.Fatal(err)
			}
			s.mustRun(t, s.createOp("acme", "a@x.test"))
			var took []time.Duration
			for _, email := range []string{"a@x.test", "nobody@x.test"} {
				start := time.Now()
				err := s.runAlone(s.forgotOp(email, mailing))
				if took = append(took, time.Since(start)); err != nil {
					t.Errorf("%s: %v", email, err)
				}
			}
			if took[0] != took[1] || took[0] > 5*time.Second {
				t.Errorf("mailing takes %v: the answers took %v", mailing, took)
			}
			if sent := len(s.mails); sent != 1 && mailing < time.Hour {
				t.Errorf("%d mails were sent", sent)
			}
		})
	}
}

// TestForgotUnstored checks that it is no error if the ticket can't be stored: there is one only
// for an email with an account, so an error would tell that there is an account.
func TestForgotUnstored(t *testing.T) {
	runScript(t, true, func(s *sim) {
		s.mustRun(t, s.createOp("acme", "a@x.test"))
		failed := false
		err := s.runHooked(s.forgotOp("a@x.test", 0), 0, func(c *call) bool {
			if c.method != "InsertTicket" {
				return false
			}
			failed = true
			return s.fail(c, unsent)
		})
		if err != nil || !failed || len(s.mails) > 0 {
			t.Errorf("%v, failed: %v, %d mails; want no error and no mail", err, failed, len(s.mails))
		}
	})
}

func TestForgotErr(t *testing.T) {
	t.Parallel()
	f, post, _, ahead := withMail(t)
	wantFields(t, f.Forgot(t.Context(), org.ForgotRequest{Email: " "}), "email")
	for _, email := range []string{"owner@acme.test", "nobody@acme.test"} {
		var errs []error
		results := make(chan error)
		for range 7 {
			go func() { results <- f.Forgot(t.Context(), org.ForgotRequest{Email: email}) }()
		}
		for range 7 {
			errs = append(errs, <-results)
		}
		refused := slices.DeleteFunc(errs, func(err error) bool { return err == nil })
		if len(refused) != 2 {
			t.Errorf("%s: %d of 7 are refused", email, len(refused))
		}
		for _, err := range refused {
			wantReason(t, email, err, org.TooManyMails)
		}
	}
	post.last(t, 5)
	ahead(70 * time.Minute)
	errs := make(chan error)
	for n := range 40 { // from one address to many
		go func() {
			errs <- f.Forgot(t.Context(), org.ForgotRequest{Email: string(rune('a'+n)) + "@acme.test", ClientAddress: "2001:db8::" + string(rune('1'+n%9))})
		}()
	}
	refused := 0
	for range 40 {
		if err := <-errs; errors.Is(err, org.ErrThrottled) {
			refused++
		} else if err != nil {
			t.Error(err)
		}
	}
	if refused != 10 {
		t.Errorf("%d of 40 are refused", refused)
	}
	// Who is refused does not keep the owner from asking.
	for range 6 {
		err := f.Forgot(t.Context(), org.ForgotRequest{Email: "owner@acme.test", ClientAddress: "2001:db8::7"})
		wantReason(t, "one more from there", err, org.TooManyMails)
	}
	if err := f.Forgot(t.Context(), org.ForgotRequest{Email: "owner@acme.test", ClientAddress: "192.0.2.1"}); err != nil {
		t.Error(err)
	}
}
