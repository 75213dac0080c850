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

// TestConvert checks what every kind of error of the driver becomes. If it is
// not known what the server did, it is ErrUnavailable.
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
		{"invalid id", bson.ErrInvalidHex, internal},

		{"Unauthorized, retryable", command(13, "RetryableWriteError"), org.ErrUnavailable},
		{"NamespaceExists, retryable", command(48, "RetryableWriteError"), org.ErrUnavailable},
		{"NamespaceNotFound of a transaction", command(26, "TransientTransactionError"), org.ErrUnavailable},
		{"NamespaceNotFound, and the network failed", command(26, "NetworkError"), org.ErrUnavailable},
		{"no code, not from a server", command(0), org.ErrUnavailable},
		{"unknown code", command(987654), org.ErrUnavailable},
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
			case !mongo.IsDuplicateKeyError(test.err) && !strings.HasSuffix(got.Error(), "do it: "+test.err.Error()):
				t.Errorf("%v does not contain %v", got, test.err)
			case test.want == internal && errors.As(got, &e):
				t.Errorf("%#v; want no error of package org", got)
			case test.want != internal && !errors.Is(got, test.want):
				t.Errorf("%#v; want %v", got, test.want)
			}
		})
	}
	if err := convert("do it", nil); err != nil {
		t.Errorf("convert(nil) = %v", err)
	}
}

// TestOpenErr opens invalid connection strings. The error must contain neither
// the user nor the password.
func TestOpenErr(t *testing.T) {
	for _, url := range []string{
		"mongodb://someuser:geheim",
		"mongodb://someuser:geheim/?x=1",
		"mongodb://someuser:geheim@",
		"mongodb://someuser:geheim@host:port",
		"mongodb://someuser:geheim@host:70000",
		"mongodb://someuser:geheim@host/?maxPoolSize=many",
		"mongodb://someuser:geheim@host/?authMechanism=NONE",
		"mongodb://someuser:geheim%ZZ@host",
		"mongodb://someuser:geheim/more@host",
		"mongodb://someuser:geheim:more@host",
		"mongodb://someuser:geheim@more@host",
		"mongodb://some/user:geheim@host",
		"mongodb+srv://someuser:geheim@host:27017",
		"mongodb+srv://someuser:geheim@one,two",
		"http://someuser:geheim@host",
		"someuser:geheim@host",
		"",
	} {
		t.Run(url, func(t *testing.T) {
			store, err := Open(url, "database")
			if err == nil {
				store.Close(t.Context())
				t.Fatal("no error")
			}
			if text := err.Error(); !strings.HasPrefix(text, "MONGO_URL: ") || strings.Contains(text, "someuser") || strings.Contains(text, "geheim") {
				t.Error(text)
			} else {
				t.Log(text)
			}
		})
	}
}

// TestWithoutSecrets removes the parts of a connection string from messages.
func TestWithoutSecrets(t *testing.T) {
	for url, message := range map[string]string{
		"mongodb://someuser:geheim@host":         "can't read someuser:geheim@host",
		"mongodb://someuser:geheim@more@host":    "can't read geheim@more",
		"mongodb+srv://someuser:geheim@host/x@y": "wrong password: geheim@host/x",
		"mongodb://someuser:ge%20heim@host":      "wrong password: ge heim",
		"mongodb://someuser:geheim":              "port geheim",
		"mongodb://someuser:geheim?tls=true":     "host someuser:geheim",
		"mongodb://host,host2:27017/?x=1":        "port 27017",
	} {
		got := withoutSecrets(message, url)
		for _, secret := range []string{"someuser", "geheim", "ge heim", "more", "27017"} {
			if strings.Contains(got, secret) {
				t.Errorf("%s: %s", url, got)
			}
		}
	}
	if got := withoutSecrets("host is not known", "mongodb://host"); got != "… is not known" {
		t.Error(got)
	}
	if got := withoutSecrets("must not be empty", ""); got != "must not be empty" {
		t.Error(got)
	}
}

// TestObjectID encodes documents with ids and decodes them. An invalid id must
// be an error.
func TestObjectID(t *testing.T) {
	id := bson.NewObjectID()
	data, err := bson.Marshal(newOrganizationDoc(org.Organization{ID: id.Hex()}))
	if err != nil {
		t.Fatal(err)
	}
	if got := bson.Raw(data).Lookup("_id").ObjectID(); got != id {
		t.Errorf("_id is %v; want %v", got, id)
	}
	if value, err := bson.Raw(data).LookupErr("committed_operation_id"); err == nil {
		t.Errorf("an empty id is stored: %v", value)
	}
	var doc organizationDoc
	if err := bson.Unmarshal(data, &doc); err != nil || doc.organization().ID != id.Hex() {
		t.Errorf("%v, %v", doc.organization(), err)
	}
	for _, bad := range []string{"x", id.Hex()[1:], id.Hex() + "00"} {
		if _, err := bson.Marshal(newClaimDoc(org.Claim{Owner: org.Owner{OrganizationID: bad}})); !errors.Is(err, bson.ErrInvalidHex) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	wrong, err := bson.Marshal(bson.D{{Key: "_id", Value: id.Hex()}})
	if err != nil {
		t.Fatal(err)
	}
	if err := bson.Unmarshal(wrong, &doc); err == nil {
		t.Error("a string is read as an id")
	}
}

// TestConvertHidesValue checks that an error of a unique index does not have the value, which
// may be an email and would be logged.
func TestConvertHidesValue(t *testing.T) {
	const text = `E11000 duplicate key error collection: master.admins index: email_1 dup key: { email: "ann@example.com" }`
	err := convert("insert admin", mongo.WriteException{WriteErrors: mongo.WriteErrors{{Code: 11000, Message: text}}})
	var e *org.Error
	if !errors.As(err, &e) || e.Reason != org.EmailTaken || strings.Contains(err.Error(), "ann@") || !strings.Contains(err.Error(), "insert admin") {
		t.Errorf("%v", err)
	}
}

// TestInTime waits for what takes longer than a context lasts, and for what does not.
func TestInTime(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	failed := errors.New("failed")
	if err := inTime(ctx, func() error { return failed }); err != failed {
		t.Errorf("%v; want %v", err, failed)
	}
	end := make(chan struct{})
	defer close(end)
	cancel()
	err := inTime(ctx, func() error {
		<-end
		return failed
	})
	if err != context.Canceled {
		t.Errorf("%v; want %v", err, context.Canceled)
	}
}
