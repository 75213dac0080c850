// Command reconcile is the scheduled Lambda function that finishes or undoes
// what a crash has interrupted, mails what was not mailed, creates missing indexes,
// carries the records of older versions forward and reports what a person should look at.
package main

import (
	"context"
	"log/slog"
	"os"

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
	lambda.Start(func(ctx context.Context, in input) (org.Report, error) {
		report, err := reconciler{service}.reconcile(ctx, in)
		if err != nil && service.Store.(*mongodb.Store).Refused() {
			os.Exit(1) // the password was changed, and the next process reads the secret again
		}
		return report, err
	})
}

type reconciler struct{ service *org.Service }

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
	return report, nil
}

// measure counts what a run has done.
func measure(r org.Report) {
	for m, findings := range map[metrics.Metric][]org.Finding{
		metrics.Finished: r.Finished, metrics.Undone: r.Undone, metrics.Repaired: r.Repaired,
		metrics.Removed: r.Removed, metrics.Purged: r.Purged, metrics.NeedsAttention: r.NeedsAttention,
	} {
		metrics.Add(m, float64(len(findings)))
	}
}
