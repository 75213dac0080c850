package mongodb

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"orgservice/shared/org"
)

// TestConvert holds every sort of error of the driver against what the service
// makes of it. Whatever leaves open what the server did is ErrUnavailable.
func TestConvert(t *testing.T) {
	command := func(code int32, labels ...string) error {
		return mongo.CommandError{Code: code, Name: fmt.Sprint("Code", code), Labels: labels}
	}
	write := func(code int, labels ...string) error {
		return mongo.WriteException{WriteErrors: mongo.WriteErrors{{Code: code}}, Labels: labels}
	}
	internal := error(nil) // a fault of the service or its set-up
	for _, test := range []struct {
		name string
		err  error
		want error
	}{
		{"no documents", mongo.ErrNoDocuments, org.ErrNotFound},
		{"duplicate key of an insert", write(11000), org.ErrConflict},
		{"duplicate key of a command", command(11000), org.ErrConflict},
		{"NamespaceNotFound", command(26), org.ErrNotFound},
		{"CollectionUUIDMismatch", command(361), org.ErrNotFound},
		{"NamespaceExists", command(48), org.ErrConflict},
		{"Unauthorized", command(13), internal},
		{"BadValue", command(2), internal},
		{"DocumentValidationFailure", write(121), internal},
		{"IndexKeySpecsConflict", command(86), internal},
		{"an id that is none", bson.ErrInvalidHex, internal},

		{"Unauthorized, but may be sent again", command(13, "RetryableWriteError"), org.ErrUnavailable},
		{"NamespaceExists, but may be sent again", command(48, "RetryableWriteError"), org.ErrUnavailable},
		{"NamespaceNotFound of a transaction", command(26, "TransientTransactionError"), org.ErrUnavailable},
		{"NamespaceNotFound, and the network failed", command(26, "NetworkError"), org.ErrUnavailable},
		{"no code: no server said it", command(0), org.ErrUnavailable},
		{"a code that nobody knows", command(987654), org.ErrUnavailable},
		{"write concern", mongo.WriteException{WriteConcernError: &mongo.WriteConcernError{Code: 64}}, org.ErrUnavailable},
		{"connection", mongo.ErrClientDisconnected, org.ErrUnavailable},
		{"deadline", context.DeadlineExceeded, org.ErrUnavailable},
		{"canceled", context.Canceled, org.ErrUnavailable},
		{"InterruptedAtShutdown", command(11600), org.ErrUnavailable},
		{"Interrupted", command(11601), org.ErrUnavailable},
		{"InterruptedDueToReplStateChange", command(11602), org.ErrUnavailable},
		{"NotWritablePrimary", command(10107), org.ErrUnavailable},
		{"NotPrimaryNoSecondaryOk", command(13435), org.ErrUnavailable},
		{"FailedToSatisfyReadPreference", command(133), org.ErrUnavailable},
		{"ReadConcernMajorityNotAvailableYet", command(134), org.ErrUnavailable},
		{"NetworkInterfaceExceededTimeLimit", command(202), org.ErrUnavailable},
		{"TemporarilyUnavailable", command(365), org.ErrUnavailable},
		{"BackgroundOperationInProgressForDatabase", command(12586), org.ErrUnavailable},
		{"BackgroundOperationInProgressForNamespace", command(12587), org.ErrUnavailable},
		{"IngressRequestRateLimitExceeded", command(462), org.ErrUnavailable},
		{"MaxTimeMSExpired", command(50), org.ErrUnavailable},
		{"WriteConflict", command(112), org.ErrUnavailable},
		{"Interrupted, of a write", write(11601), org.ErrUnavailable},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := convert("do it", test.err)
			var e *org.Error
			switch {
			case !strings.HasSuffix(got.Error(), "do it: "+test.err.Error()):
				t.Errorf("%v does not tell of %v", got, test.err)
			case test.want == internal && errors.As(got, &e):
				t.Errorf("%#v; want none of package org", got)
			case test.want != internal && !errors.Is(got, test.want):
				t.Errorf("%#v; want %v", got, test.want)
			}
		})
	}
	if err := convert("do it", nil); err != nil {
		t.Errorf("of no error: %v", err)
	}
}
