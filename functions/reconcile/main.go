// Command reconcile is the scheduled Lambda function that finishes or undoes
// what a crash has interrupted, mails what was not mailed, creates missing indexes,
// carries the records of older versions forward and reports what a person should look at.
package main

import (
	"context"
	"log/slog"
	"os"
	"time"

	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-lambda-go/lambdacontext"

	"orgservice/shared/mail"
	"orgservice/shared/metrics"
	"orgservice/shared/mongodb"
	"orgservice/shared/org"
	"orgservice/shared/wire"
)

func main() {
	slog.SetDefault(slog.New(lambdacontext.NewLogHandler()))
	service, err := wire.Open(context.Background(), os.Getenv, mail.Need)
	if err != nil {
		slog.Error("the function can't start", "error", err.Error())
		os.Exit(1)
	}
	store := service.Store.(*mongodb.Store)
	handler := func(ctx context.Context, in input) (org.Report, error) {
		report, err := reconciler{service, store}.reconcile(ctx, in)
		if err != nil && store.Refused() {
			os.Exit(1) // the password was changed, and the next process reads the secret again
		}
		return report, err
	}
	lambda.StartWithOptions(handler, lambda.WithEnableSIGTERM(func() {
		wire.Close(store)
		os.Exit(0)
	}))
}

type reconciler struct {
	service *org.Service
	store   *mongodb.Store // of the service
}

// input is the event that the schedules in the template send. Any other event,
// such as the default one of EventBridge, means a quick run.
type input struct {
	Full bool `json:"full"` // read the whole database
}

func (r reconciler) reconcile(ctx context.Context, in input) (org.Report, error) {
	metrics.Begin()
	defer metrics.Write(nil)
	if err := r.service.CheckClock(ctx); err != nil {
		return org.Report{}, err
	}
	report, err := r.service.Reconcile(ctx, in.Full)
	measure(report)
	if err != nil {
		slog.ErrorContext(ctx, "reconcile", "full", in.Full, "report", report, "error", err.Error())
		return report, err
	}
	level := slog.LevelInfo
	if len(report.NeedsAttention) > 0 {
		level = slog.LevelError
	}
	slog.Log(ctx, level, "reconcile", "full", in.Full, "report", report)
	r.measureDatabase(ctx, in.Full)
	return report, nil
}

// measure counts what a run has done. What it has not done is no metric, which would cost.
func measure(r org.Report) {
	for m, findings := range map[metrics.Metric][]org.Finding{
		metrics.Finished: r.Finished, metrics.Undone: r.Undone, metrics.Repaired: r.Repaired,
		metrics.Removed: r.Removed, metrics.Purged: r.Purged, metrics.NeedsAttention: r.NeedsAttention,
	} {
		if len(findings) > 0 {
			metrics.Add(m, float64(len(findings)))
		}
	}
}

// measureDatabase measures what a database bears only so much of, if it says so soon.
func (r reconciler) measureDatabase(ctx context.Context, full bool) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	if open, _, err := r.store.Connections(ctx); err == nil && open > 0 {
		metrics.Add(metrics.Connections, float64(open))
	}
	if full {
		if n, err := r.store.CountCollections(ctx); err == nil {
			metrics.Add(metrics.Collections, float64(n))
		}
	}
}
