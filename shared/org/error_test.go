package org_test

import (
	"errors"
	"testing"
	"time"

	"orgservice/shared/auth"
	"orgservice/shared/org"
)

func TestError(t *testing.T) {
	cause := errors.New("cause")
	e := &org.Error{Kind: org.Invalid, Message: "wrong", Fields: []org.FieldError{{Field: "a", Message: "is b"}, {Field: "c", Message: "is d"}}}
	if got, want := e.Error(), "wrong: a is b; c is d"; got != want {
		t.Errorf("%q; want %q", got, want)
	}
	e.Err = cause
	if got, want := e.Error(), "wrong: a is b; c is d: cause"; got != want {
		t.Errorf("%q; want %q", got, want)
	}
	for _, hint := range []string{"", "a hint"} {
		e.Hint = hint
		want := map[string]string{"": "wrong: a is b; c is d", "a hint": "wrong: a is b; c is d: a hint"}[hint]
		if got := e.Detail(); got != want {
			t.Errorf("%q; want %q", got, want)
		}
	}
	kinds := []error{org.ErrInvalid, org.ErrUnauthenticated, org.ErrForbidden, org.ErrNotFound, org.ErrConflict, org.ErrOutdated, org.ErrThrottled, org.ErrUnavailable}
	for _, kind := range kinds {
		if errors.Is(&org.Error{}, kind) {
			t.Errorf("an error without a kind is %+v", kind)
		}
		if got, want := errors.Is(e, kind), kind == org.ErrInvalid; got != want {
			t.Errorf("it is %+v: %v; want %v", kind, got, want)
		}
	}
	if errors.Is(e, &org.Error{Kind: org.Invalid, Message: "another"}) {
		t.Error("it is another error of its kind")
	}
	if !errors.Is(e, cause) {
		t.Error("it is not its cause")
	}
	_, err := (&org.Service{}).Create(t.Context(), org.CreateRequest{})
	if !errors.As(err, &e) || e.Reason != org.InvalidFields || e.Message == "" || len(e.Fields) != 3 {
		t.Errorf("%+v; want an error of the reason %s with a message and 3 fields", err, org.InvalidFields)
	}
}

// TestPanic lets a call of the store panic that a goroutine makes. The caller must
// get the panic: otherwise it ends the process with all other requests.
func TestPanic(t *testing.T) {
	var none struct{ org.Store }
	s := org.Service{Store: none}
	var panicked any
	func() {
		defer func() { panicked = recover() }()
		s.Me(t.Context(), auth.Caller{ExpiresAt: time.Now().Add(time.Hour)})
	}()
	if panicked == nil {
		t.Error("the panic is lost")
	}
}
