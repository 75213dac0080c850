// Package mongodb is the service's client for MongoDB. It implements the store
// of package org, and turns the driver's errors into those of org. No other
// package uses the driver.
package mongodb

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/event"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/readconcern"
	"go.mongodb.org/mongo-driver/v2/mongo/readpref"
	"go.mongodb.org/mongo-driver/v2/mongo/writeconcern"
	"go.mongodb.org/mongo-driver/v2/x/mongo/driver"

	"orgservice/shared/metrics"
	"orgservice/shared/org"
	"orgservice/shared/trace"
)

// The database must answer within these limits, so that a client gets an answer
// about an outage before it, or the gateway, gives up. The driver's defaults, 30
// seconds, are meant for servers that wait for an election.
const (
	selectionTimeout = 3 * time.Second
	connectTimeout   = 3 * time.Second
	operationTimeout = 3 * time.Second
	maxPoolSize      = 5 // a function serves one request at a time, and a login sends five commands at once
	maxIdleTime      = time.Minute
	retryAfter       = 5 * time.Second
)

// Store is an [org.Store] in a MongoDB database. Its methods may be called
// concurrently.
type Store struct {
	client        *mongo.Client
	parsed        *options.ClientOptions   // of the connection string, with the servers that it stands for
	more          []*options.ClientOptions // of Open
	wireVersion   *atomic.Int32            // of the server; 0 before the first connection
	refused       *atomic.Bool             // the server has refused the user or a command of it
	disconnected  *atomic.Bool             // the server has ended or refused a connection
	organizations *mongo.Collection
	admins        *mongo.Collection
	claims        *mongo.Collection
	sessions      *mongo.Collection
	tickets       *mongo.Collection
	attempts      *mongo.Collection
	migrations    *mongo.Collection
	receipts      *mongo.Collection
	keys          *mongo.Collection
}

var _ org.Store = (*Store)(nil)

// Open returns the store in the database of that name on the server of the
// connection string, which the service has from MONGO_URL. The error says what
// is wrong with the connection string, without its user and password. The store
// connects when it is first used. Tests may pass further options.
func Open(connectionString, database string, more ...*options.ClientOptions) (*Store, error) {
	s, err := open(options.Client().ApplyURI(connectionString), database, more)
	if err != nil {
		return nil, fmt.Errorf("MONGO_URL: %s", withoutSecrets(err.Error(), connectionString))
	}
	return s, nil
}

// Reopened returns a store of the same database with connections of its own. Nothing is looked up
// for that, neither a secret nor a name.
func (s *Store) Reopened() (*Store, error) { return open(s.parsed, s.claims.Database().Name(), s.more) }

func open(parsed *options.ClientOptions, database string, more []*options.ClientOptions) (*Store, error) {
	wireVersion, refused, disconnected, names := new(atomic.Int32), new(atomic.Bool), new(atomic.Bool), new(names)
	client, err := mongo.Connect(append([]*options.ClientOptions{parsed, options.Client().
		SetAppName("organization-management-service").
		// The connection string can't change these: decisions need the latest
		// durable data, and answered changes must be durable.
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
		SetPoolMonitor(&event.PoolMonitor{Event: func(e *event.PoolEvent) {
			notice(refused, e.Error)
			if e.Type == event.ConnectionPoolCleared || e.Type == event.ConnectionCheckOutFailed {
				disconnected.Store(true)
			}
		}}).
		SetMonitor(&event.CommandMonitor{
			Started: names.started,
			Succeeded: func(_ context.Context, e *event.CommandSucceededEvent) {
				measure(names.ended(e.RequestID, e.CommandName), e.Duration, false)
			},
			Failed: func(_ context.Context, e *event.CommandFailedEvent) {
				measure(names.ended(e.RequestID, e.CommandName), e.Duration, true)
				if e.CommandName != serverStatus { // not every user may do this
					notice(refused, e.Failure)
				}
			},
		}).
		SetServerSelectionTimeout(selectionTimeout).
		SetConnectTimeout(connectTimeout).
		SetTimeout(operationTimeout).
		SetMaxPoolSize(maxPoolSize).
		SetMaxConnIdleTime(maxIdleTime)}, more...)...)
	if err != nil {
		return nil, err
	}
	db := client.Database(database)
	return &Store{
		client:        client,
		parsed:        parsed,
		more:          more,
		wireVersion:   wireVersion,
		refused:       refused,
		disconnected:  disconnected,
		organizations: db.Collection("organizations"),
		admins:        db.Collection("admins"),
		claims:        db.Collection("claims"),
		sessions:      db.Collection("sessions"),
		tickets:       db.Collection("tickets"),
		attempts:      db.Collection("attempts"),
		migrations:    db.Collection("migrations"),
		receipts:      db.Collection("receipts"),
		keys:          db.Collection("idempotency_keys"),
	}, nil
}

// Refused reports whether the server has refused the user of the connection string, or a
// command because of who that is. The user may have another password by now, or be gone.
func (s *Store) Refused() bool { return s.refused.Load() }

// Disconnected reports whether a connection could not be made or kept since the store was opened.
func (s *Store) Disconnected() bool { return s.disconnected.Load() }

// notice sets refused if the error of a connection or a command is such a refusal. Atlas has
// one code for all that its proxy refuses, with a message such as "bad auth : Authentication
// failed." or "user is not allowed to do action [find] on [x.y]".
func notice(refused *atomic.Bool, err error) {
	e, ok := errors.AsType[driver.Error](err)
	if !ok {
		return
	}
	switch e.Code {
	case unauthorized, authenticationFailed:
		refused.Store(true)
	case atlasError:
		if strings.Contains(e.Message, "auth") || strings.Contains(e.Message, "not allowed") {
			refused.Store(true)
		}
	}
}

// measure counts a command that has ended.
func measure(name string, took time.Duration, failed bool) {
	metrics.Add(metrics.DatabaseCommands, 1)
	metrics.Time(metrics.DatabaseTime, took)
	if failed {
		metrics.Add(metrics.DatabaseFailures, 1)
	}
	trace.Add(name, took, failed)
}

// names holds the collections of commands that are under way, by the driver's number of the command.
// It is empty unless the event is traced.
type names struct{ collections sync.Map }

func (n *names) started(_ context.Context, e *event.CommandStartedEvent) {
	if trace.ID() == "" {
		return
	}
	if first, err := e.Command.IndexErr(0); err == nil {
		if collection, ok := first.Value().StringValueOK(); ok {
			n.collections.Store(e.RequestID, collection)
		}
	}
}

// ended returns the name that a command has in a trace. The collections of tenants have one name, because
// theirs are made of what clients send.
func (n *names) ended(id int64, command string) string {
	collection, ok := n.collections.LoadAndDelete(id)
	switch name, _ := collection.(string); {
	case !ok:
		return command
	case strings.Contains(name, org.CollectionPrefix): // renameCollection has the database, too
		return command + " " + org.CollectionPrefix
	default:
		return command + " " + name
	}
}

// withoutSecrets returns the message without the user and the password of the
// connection string, should it quote them. If the connection string has no "@",
// what looks like a host and its port may be a user and a password.
func withoutSecrets(message, connectionString string) string {
	_, rest, _ := strings.Cut(connectionString, "://")
	i := strings.LastIndexByte(rest, '@')
	if i < 0 {
		i = strings.IndexAny(rest+"/", "/?")
	}
	userInfo := rest[:i]
	_, password, _ := strings.Cut(userInfo, ":")
	decoded, _ := url.PathUnescape(password)
	for _, secret := range []string{userInfo, password, decoded} {
		if secret != "" {
			message = strings.ReplaceAll(message, secret, "…")
		}
	}
	return message
}

// Close ends the store's connections, or returns the error of ctx if that ends before.
func (s *Store) Close(ctx context.Context) error {
	return inTime(ctx, func() error { return s.client.Disconnect(ctx) })
}

// inTime returns the error of f, or that of ctx if ctx ends before. When it disconnects, the driver
// waits for connections that are being made, whatever the context says.
func inTime(ctx context.Context, f func() error) error {
	done := make(chan error, 1)
	go func() { done <- f() }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Codes of server errors.
// https://github.com/mongodb/mongo/blob/master/src/mongo/base/error_codes.yml
const (
	unauthorized           = 13
	authenticationFailed   = 18
	namespaceNotFound      = 26
	namespaceExists        = 48
	notImplemented         = 238
	atlasError             = 8000
	collectionUUIDMismatch = 361
)

// refusals are the codes of errors after which it is certain that the server has
// not executed the command and will not: it is malformed, not allowed or not
// supported. After any other error the server may have executed it, or may still
// do so.
var refusals = []int{
	2,  // BadValue
	9,  // FailedToParse
	14, // TypeMismatch
	unauthorized,
	authenticationFailed,
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
	atlasError,
	10334, // BSONObjectTooLarge
	40415, // an unknown field
}

// convert turns an error of the driver into one of package org, if there is one
// for it. It adds what was being done.
func convert(doing string, err error) error {
	if err == nil {
		return nil
	}
	err = fmt.Errorf("%s: %w", doing, err)
	if errors.Is(err, mongo.ErrNoDocuments) {
		return &org.Error{Kind: org.NotFound, Message: "not found", Err: err}
	}
	if isDuplicateKey(err) {
		// One of the unique indexes that older versions of the service made. The text of the
		// server has the value, such as an email, which is not for the log.
		cause := fmt.Errorf("%s: a unique index refuses it", doing)
		if strings.Contains(err.Error(), "email") {
			return &org.Error{Kind: org.Conflict, Reason: org.EmailTaken, Message: "the email is taken", Err: cause}
		}
		return &org.Error{Kind: org.Conflict, Reason: org.NameTaken, Message: "the organization name is taken", Err: cause}
	}
	var server mongo.ServerError
	if errors.As(err, &server) && !isTransient(server) {
		switch {
		case server.HasErrorCode(namespaceNotFound), server.HasErrorCode(collectionUUIDMismatch):
			return &org.Error{Kind: org.NotFound, Message: "there is no such collection", Err: err}
		case server.HasErrorCode(namespaceExists):
			return &org.Error{Kind: org.Conflict, Message: "there is such a collection", Err: err}
		case slices.ContainsFunc(refusals, server.HasErrorCode):
			return err // a fault of the service or of its configuration
		}
	}
	if errors.Is(err, bson.ErrInvalidHex) || errors.As(err, new(mongo.MarshalError)) {
		return err
	}
	return unavailable(err)
}

// isTransient reports whether the driver or the server says that the command may
// be sent again, or that no answer was received.
func isTransient(err mongo.ServerError) bool {
	return err.HasErrorLabel("RetryableWriteError") || err.HasErrorLabel("TransientTransactionError") ||
		mongo.IsTimeout(err) || mongo.IsNetworkError(err)
}

func unavailable(err error) error {
	return &org.Error{
		Kind:       org.Unavailable,
		Reason:     org.DatabaseUnavailable,
		Message:    "the database can't be reached in time: try again",
		RetryAfter: retryAfter,
		Err:        err,
	}
}

// isDuplicateKey reports whether a unique index refused a write. For an update,
// the embedded database reports that as an internal error with SQLite's message.
func isDuplicateKey(err error) bool {
	return mongo.IsDuplicateKeyError(err) || strings.Contains(err.Error(), "UNIQUE constraint failed")
}

func isNotImplemented(err error) bool {
	var server mongo.ServerError
	return errors.As(err, &server) && server.HasErrorCode(notImplemented)
}
