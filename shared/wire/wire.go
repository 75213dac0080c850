// Package wire makes the service of a function. The function's main lists what
// it needs besides the database, and no other setting is read: the list is all
// that the function may know.
package wire

import (
	"cmp"
	"context"
	"log/slog"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"orgservice/shared/auth"
	"orgservice/shared/breach"
	"orgservice/shared/config"
	"orgservice/shared/metrics"
	"orgservice/shared/mongodb"
	"orgservice/shared/org"
	"orgservice/shared/trace"
)

// Need is something that a function needs besides the database. It reads its
// variables and sets the fields of the service that depend on them. The needs of a function
// are met concurrently, because secrets may have to be fetched.
type Need func(context.Context, config.Env, *org.Service) error

// Passwords is the [Need] to hash and compare passwords. It reads BCRYPT_COST.
func Passwords(_ context.Context, env config.Env, s *org.Service) error {
	cost, err := env.BcryptCost()
	s.Passwords = auth.Passwords{Cost: cost, Took: func(d time.Duration) {
		metrics.Time(metrics.HashTime, d)
		trace.Add("bcrypt", d, false)
	}}
	return err
}

// Tokens is the [Need] to sign access tokens. It reads JWT_PRIVATE_KEY or
// JWT_SECRET, JWT_AUDIENCE, JWT_EXPIRES_IN, REFRESH_EXPIRES_IN and REFRESH_IDLE_EXPIRES_IN.
func Tokens(ctx context.Context, env config.Env, s *org.Service) error {
	tokens, err := env.Tokens(ctx)
	s.Tokens, s.TokenTTL, s.SessionTTL, s.SessionIdle = tokens.Signer, tokens.TTL, tokens.SessionTTL, tokens.Idle
	return err
}

// Idle is the [Need] to know which sessions are alive, by functions that have no need of
// Tokens. It reads REFRESH_IDLE_EXPIRES_IN.
func Idle(_ context.Context, env config.Env, s *org.Service) error {
	var err error
	s.SessionIdle, err = env.SessionIdle()
	return err
}

// Mails is the [Need] to know whether mails are sent, by functions that send none. It
// reads MAIL_FROM.
func Mails(_ context.Context, env config.Env, s *org.Service) error {
	s.MailsSent = env("MAIL_FROM") != ""
	return nil
}

// PasswordRules is the [Need] to set passwords. It reads PASSWORD_MIN_LENGTH and
// BREACHED_PASSWORDS_URL.
func PasswordRules(_ context.Context, env config.Env, s *org.Service) error {
	rules, err := env.PasswordRules(org.MinPasswordRunes)
	s.PasswordRules.MinRunes = rules.MinLength
	if rules.Breaches != "" {
		s.PasswordRules.Breached = breach.Corpus{URL: rules.Breaches}.Contains
	}
	return err
}

// SignUps is the [Need] to create organizations. It reads SIGNUP, SIGNUPS_PER_HOUR and
// MAX_ORGANIZATIONS.
func SignUps(_ context.Context, env config.Env, s *org.Service) error {
	read, err := env.SignUps()
	s.SignUps = org.SignUps{Closed: read.Closed, Verified: read.Verified, PerHour: int64(read.PerHour), MostOrganizations: int64(read.MostOrganizations)}
	return err
}

// DeleteGrace is the [Need] to delete organizations. It reads DELETE_GRACE.
func DeleteGrace(_ context.Context, env config.Env, s *org.Service) error {
	var err error
	s.DeleteGrace, err = env.DeleteGrace()
	return err
}

// Open returns the service on the database of MONGO_URL and MASTER_DB, which keeps to
// EMAIL_VERIFICATION, with what the function needs. It does not wait for the database.
// Its errors begin with the name of the variable that is missing or wrong.
func Open(ctx context.Context, env config.Env, needs ...Need) (*org.Service, error) {
	verifiedOnly, err := env.EmailVerification()
	if err != nil {
		return nil, err
	}
	s := &org.Service{VerifiedOnly: verifiedOnly}
	needs = append([]Need{database}, needs...)
	errs := make([]error, len(needs))
	var wg sync.WaitGroup
	for i, need := range needs {
		wg.Go(func() { errs[i] = need(ctx, env, s) })
	}
	wg.Wait()
	if err := cmp.Or(errs...); err != nil {
		if store, ok := s.Store.(*mongodb.Store); ok {
			store.Close(ctx)
		}
		return nil, err
	}
	return s, nil
}

func database(ctx context.Context, env config.Env, s *org.Service) error {
	read, err := env.Database(ctx)
	if err != nil {
		return err
	}
	store, err := mongodb.Open(read.URL, read.Name)
	if err != nil {
		return err
	}
	s.Database, s.Store = read.Name, store
	return nil
}

// Handler returns what api.Serve takes: a function that opens the service with
// the environment of the process and returns the handler of the endpoint.
func Handler(endpoint func(*org.Service) http.Handler, needs ...Need) func(context.Context) (http.Handler, error) {
	return Reopened(func(ctx context.Context) (*org.Service, http.Handler, error) {
		s, err := Open(ctx, os.Getenv, needs...)
		if err != nil {
			return nil, nil, err
		}
		return s, endpoint(s), nil
	})
}

// Reopened returns what api.Serve takes, from a function that opens the service and returns it
// with the handler of the endpoint. Once the database has refused its user, because the
// password was changed, open is called again before the next request is served, and so the
// secrets are read again; but at most every ten seconds. After a request that was answered 503
// because of connections, those that are left are closed, and made again for the next one.
func Reopened(open func(context.Context) (*org.Service, http.Handler, error)) func(context.Context) (http.Handler, error) {
	return func(ctx context.Context) (http.Handler, error) {
		h := &handler{open: open}
		return h, h.reopen(ctx)
	}
}

var reopenAfter = 10 * time.Second

// handler serves the requests of a function, one after the other. It may be closed meanwhile.
type handler struct {
	open   func(context.Context) (*org.Service, http.Handler, error)
	opened time.Time
	closed bool // the store is closed until the next request

	service  *org.Service
	store    atomic.Pointer[mongodb.Store] // of the service
	endpoint http.Handler
}

// Close ends the connections to the database. Otherwise, when Lambda freezes the process for good, the
// server would keep them until they have been idle for too long.
func (h *handler) Close() error { return Close(h.store.Load()) }

// Close closes the store, in the time that Lambda gives a process between SIGTERM and SIGKILL,
// which is half a second.
func Close(store *mongodb.Store) error {
	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	return store.Close(ctx)
}

func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if store := h.store.Load(); store.Refused() && time.Since(h.opened) >= reopenAfter {
		if err := h.reopen(r.Context()); err != nil {
			slog.ErrorContext(r.Context(), "the database has refused the user, and the settings can't be read again", "error", err.Error())
		} else {
			slog.WarnContext(r.Context(), "the database has refused the user: the settings were read again")
			Close(store)
		}
	}
	if h.closed {
		h.reconnect(r.Context())
	}
	answer := &statusWriter{ResponseWriter: w}
	h.endpoint.ServeHTTP(answer, r)
	if store := h.store.Load(); answer.status == http.StatusServiceUnavailable && store.Disconnected() {
		// A server that has no more connections to give gets back those of this process, and the
		// one by which the driver watches it. Otherwise processes that can do nothing would keep them all.
		Close(store)
		h.closed = true
	}
}

// reopen reads the settings and opens the service with them.
func (h *handler) reopen(ctx context.Context) error {
	h.opened = time.Now()
	s, endpoint, err := h.open(ctx)
	if err == nil {
		h.service, h.endpoint, h.closed = s, endpoint, false
		h.store.Store(s.Store.(*mongodb.Store))
	}
	return err
}

// reconnect gives the service another store of the same settings.
func (h *handler) reconnect(ctx context.Context) {
	store, err := h.store.Load().Reopened()
	if err != nil {
		slog.ErrorContext(ctx, "the database can't be opened again", "error", err.Error())
		return
	}
	h.service.Store, h.closed = store, false
	h.store.Store(store)
}

type statusWriter struct {
	http.ResponseWriter
	status int
}

func (w *statusWriter) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}
