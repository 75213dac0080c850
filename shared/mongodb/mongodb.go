// Package mongodb is the service's client for MongoDB: it opens the database
// and keeps organizations, admins and claims in it. It is the only package
// that knows the driver, and turns the driver's errors into those of package
// org.
package mongodb

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/event"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/readconcern"
	"go.mongodb.org/mongo-driver/v2/mongo/readpref"
	"go.mongodb.org/mongo-driver/v2/mongo/writeconcern"

	"orgservice/shared/org"
)

// The limits within which the database has to answer, so that a client hears
// of an outage before it, or the gateway, gives up. The driver's own are made
// for servers that wait out an election: 30 seconds.
const (
	selectionTimeout = 3 * time.Second
	connectTimeout   = 3 * time.Second
	operationTimeout = 3 * time.Second
	maxPoolSize      = 4 // a function serves one request at a time
	maxIdleTime      = time.Minute
	retryAfter       = 5 * time.Second
)

// Store is an [org.Store] in a MongoDB database. Its methods may be called
// concurrently.
type Store struct {
	client        *mongo.Client
	wireVersion   *atomic.Int32 // of the server; 0: not known yet
	organizations *mongo.Collection
	admins        *mongo.Collection
	claims        *mongo.Collection
	sessions      *mongo.Collection
	attempts      *mongo.Collection
}

var _ org.Store = (*Store)(nil)

// Open returns the store in the database of that name behind the connection
// string. It connects when it is first used: the error tells of a connection
// string that can't be read, which the service has from MONGO_URL, not of a
// server that can't be reached. Further options, if any, are those of a test.
func Open(url, database string, more ...*options.ClientOptions) (*Store, error) {
	wireVersion := new(atomic.Int32)
	client, err := mongo.Connect(append([]*options.ClientOptions{options.Client().
		ApplyURI(url).
		SetAppName("organization-management-service").
		// Every decision is made on what was just read, and what was answered
		// stays, whatever the connection string says.
		SetReadPreference(readpref.Primary()).
		SetReadConcern(readconcern.Majority()).
		SetWriteConcern(writeconcern.Majority()).
		SetServerMonitor(&event.ServerMonitor{
			ServerDescriptionChanged: func(e *event.ServerDescriptionChangedEvent) {
				if version := e.NewDescription.MaxWireVersion; version > 0 {
					wireVersion.Store(version)
				}
			},
		}).
		SetServerSelectionTimeout(selectionTimeout).
		SetConnectTimeout(connectTimeout).
		SetTimeout(operationTimeout).
		SetMaxPoolSize(maxPoolSize).
		SetMaxConnIdleTime(maxIdleTime)}, more...)...)
	if err != nil {
		return nil, fmt.Errorf("MONGO_URL: %s", withoutSecrets(err.Error(), url))
	}
	db := client.Database(database)
	return &Store{
		client:        client,
		wireVersion:   wireVersion,
		organizations: db.Collection("organizations"),
		admins:        db.Collection("admins"),
		claims:        db.Collection("claims"),
		sessions:      db.Collection("sessions"),
		attempts:      db.Collection("attempts"),
	}, nil
}

// withoutSecrets returns the message without the user and password, if it
// quotes them from the connection string.
func withoutSecrets(message, url string) string {
	_, rest, _ := strings.Cut(url, "://")
	if i := strings.LastIndexByte(rest, '@'); i > 0 {
		message = strings.ReplaceAll(message, rest[:i], "…")
		if _, password, ok := strings.Cut(rest[:i], ":"); ok && password != "" {
			message = strings.ReplaceAll(message, password, "…")
		}
	}
	return message
}

// Close ends the store's connections.
func (s *Store) Close(ctx context.Context) error { return s.client.Disconnect(ctx) }

// Codes of server errors.
// https://github.com/mongodb/mongo/blob/master/src/mongo/base/error_codes.yml
const (
	namespaceNotFound      = 26
	namespaceExists        = 48
	notImplemented         = 238
	collectionUUIDMismatch = 361
)

// refusals are the codes of a server that understood a command and will never
// carry it out: malformed, not allowed, not possible here. Any other error
// leaves open what the server did or may do in a moment.
var refusals = []int{
	2,   // BadValue
	9,   // FailedToParse
	13,  // Unauthorized
	14,  // TypeMismatch
	18,  // AuthenticationFailed
	20,  // IllegalOperation
	59,  // CommandNotFound
	67,  // CannotCreateIndex
	72,  // InvalidOptions
	73,  // InvalidNamespace
	85,  // IndexOptionsConflict
	86,  // IndexKeySpecsConflict
	115, // CommandNotSupported
	121, // DocumentValidationFailure
	166, // CommandNotSupportedOnView
	197, // InvalidIndexSpecificationOption
	notImplemented,
	8000,  // AtlasError
	10334, // BSONObjectTooLarge
	40415, // an unknown field
}

// convert turns an error of the driver into one of package org, or wraps it
// with what was being done.
func convert(doing string, err error) error {
	if err == nil {
		return nil
	}
	err = fmt.Errorf("%s: %w", doing, err)
	if errors.Is(err, mongo.ErrNoDocuments) {
		return &org.Error{Kind: org.NotFound, Message: "not found", Err: err}
	}
	if isDuplicateKey(err) {
		return &org.Error{Kind: org.Conflict, Message: "the organization name or the email is taken", Err: err}
	}
	var server mongo.ServerError
	if errors.As(err, &server) && !isTransient(server) {
		switch {
		case server.HasErrorCode(namespaceNotFound), server.HasErrorCode(collectionUUIDMismatch):
			return &org.Error{Kind: org.NotFound, Message: "there is no such collection", Err: err}
		case server.HasErrorCode(namespaceExists):
			return &org.Error{Kind: org.Conflict, Message: "there is such a collection", Err: err}
		case slices.ContainsFunc(refusals, server.HasErrorCode):
			return err // a fault of the service, or of how it is set up
		}
	}
	if errors.Is(err, bson.ErrInvalidHex) || errors.As(err, new(mongo.MarshalError)) {
		return err
	}
	return unavailable(err)
}

// isTransient reports whether the driver or the server says that the command
// may be sent again, or that its answer did not come.
func isTransient(err mongo.ServerError) bool {
	return err.HasErrorLabel("RetryableWriteError") || err.HasErrorLabel("TransientTransactionError") ||
		mongo.IsTimeout(err) || mongo.IsNetworkError(err)
}

func unavailable(err error) error {
	return &org.Error{
		Kind:       org.Unavailable,
		Message:    "the database can't be reached in time: nothing was changed, or the change will be finished or undone by itself",
		RetryAfter: retryAfter,
		Err:        err,
	}
}

// isDuplicateKey reports whether a unique index refused a write. The embedded
// database says so of an update by an internal error with SQLite's words.
func isDuplicateKey(err error) bool {
	return mongo.IsDuplicateKeyError(err) || strings.Contains(err.Error(), "UNIQUE constraint failed")
}

func isNotImplemented(err error) bool {
	var server mongo.ServerError
	return errors.As(err, &server) && server.HasErrorCode(notImplemented)
}

// objectIDs turns ids into the form in which they are kept.
func objectIDs(ids ...string) ([]bson.ObjectID, error) {
	var out []bson.ObjectID
	for _, id := range ids {
		oid, err := bson.ObjectIDFromHex(id)
		if err != nil {
			return nil, fmt.Errorf("id %q: %w", id, err)
		}
		out = append(out, oid)
	}
	return out, nil
}
