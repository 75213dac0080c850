package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/aws/aws-lambda-go/events"
)

// startSchedules starts the schedules of t, until ctx ends, and stops the old
// ones.
func (g *Gateway) startSchedules(ctx context.Context, t *template) {
	if g.stopSchedules != nil {
		g.stopSchedules()
	}
	ctx, g.stopSchedules = context.WithCancel(ctx)
	for _, s := range t.schedules {
		g.background.Go(func() { g.runSchedule(ctx, s) })
	}
}

// runSchedule invokes the function of s again and again, until ctx ends. It does
// not start an invocation before the last one has ended.
func (g *Gateway) runSchedule(ctx context.Context, s schedule) {
	every := time.Duration(s.count) * s.unit / time.Minute * g.config.minute
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			event := []byte(s.input)
			if s.input == "" {
				event = scheduledEvent(s, g.config.region, now)
			}
			// A running invocation may finish when the schedule stops.
			o := g.lambda.invoke(context.WithoutCancel(ctx), s.function, newTrace(), event)
			if _, ok := errors.AsType[*functionError](o.err); ok {
				g.out.printf("schedule %s: %v", s.name, o.err)
			}
		}
	}
}

// scheduledEvent returns the event that EventBridge sends at the time now. That
// of a rule (Schedule) and that of EventBridge Scheduler (ScheduleV2) differ.
func scheduledEvent(s schedule, region string, now time.Time) []byte {
	e := events.EventBridgeEvent{
		Version:    "0",
		ID:         newUUID(),
		DetailType: "Scheduled Event",
		Source:     "aws.events",
		AccountID:  account,
		Time:       now.UTC().Truncate(time.Second),
		Region:     region,
		Resources:  []string{"arn:" + partition + ":events:" + region + ":" + account + ":rule/" + s.name},
		Detail:     json.RawMessage("{}"),
	}
	if s.v2 {
		e.Source = "aws.scheduler"
		e.Resources = []string{"arn:" + partition + ":scheduler:" + region + ":" + account + ":schedule/default/" + s.name}
		e.Detail = json.RawMessage(`"{}"`)
	}
	b, err := json.Marshal(e)
	if err != nil {
		panic(err) // can't happen: strings and a time
	}
	return b
}
