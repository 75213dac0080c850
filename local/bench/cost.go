package main

import (
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"time"

	"golang.org/x/crypto/bcrypt"
)

//go:embed prices.json
var pricesJSON []byte

// prices are in dollars.
type prices struct {
	Date                   string
	Region                 string
	LambdaGBSecond         float64 `json:"lambda_gb_second"` // on arm64
	LambdaMillionRequests  float64 `json:"lambda_million_requests"`
	HTTPAPIMillionRequests float64 `json:"http_api_million_requests"`
	SecretMonth            float64 `json:"secret_month"`
	MetricMonth            float64 `json:"metric_month"` // an account has ten for nothing
	AlarmMonth             float64 `json:"alarm_month"`  // an account has ten for nothing
}

const (
	fullCPU = 1769 // MB of memory with which Lambda gives one processor (https://docs.aws.amazon.com/lambda/latest/dg/configuration-memory.html)
	usualMB = 512  // of a function
)

// billed returns the time of an event on a function of that memory: what it waits, and
// the processor time, which a smaller part of a processor makes longer.
func billed(wall, cpu time.Duration, mb float64) time.Duration {
	wait := max(0, wall-cpu)
	return wait + time.Duration(float64(cpu)/min(1, mb/fullCPU))
}

// perMillion returns the dollars for a million events.
func (p prices) perMillion(took time.Duration, mb float64) float64 {
	return p.LambdaMillionRequests + 1e6*took.Seconds()*mb/1024*p.LambdaGBSecond
}

// costs tells what the times of the section warm cost in AWS.
func (b *bench) costs(context.Context) error {
	var p prices
	if err := json.Unmarshal(pricesJSON, &p); err != nil {
		return err
	}
	b.heading("Cost")
	b.say("Dollars for a million requests at the prices of %s (%s, arm64; local/bench/prices.json), if AWS is as fast as this machine: "+
		"the function, with the processor time that its memory allows, and the HTTP API. An access token is checked by the authorizer, which the gateway asks once for all requests of one token in its cache's time.", p.Date, p.Region)
	b.row("function", "MB", "billed, ms", "function", "with the HTTP API")
	b.row("---", "--:", "--:", "--:", "--:")
	for _, m := range b.measured {
		mb := float64(usualMB)
		switch m.function {
		case "login":
			mb = fullCPU
		case "authorizer":
			mb = 256
		}
		took := billed(m.wall, m.cpu, mb)
		cost := p.perMillion(took, mb)
		api := p.HTTPAPIMillionRequests
		if m.function == "authorizer" {
			api = 0
		}
		b.row(m.function, fmt.Sprintf("%.0f", mb), fmt.Sprintf("%.1f", ms(took)), fmt.Sprintf("%.2f", cost), fmt.Sprintf("%.2f", cost+api))
	}
	b.say("A login with a password hash of that cost: milliseconds, and dollars for a million, by memory.")
	sizes := []float64{512, 1024, fullCPU, 3008}
	header, line := []string{"cost"}, []string{"--:"}
	for _, mb := range sizes {
		header, line = append(header, fmt.Sprintf("%.0f MB", mb)), append(line, "--:")
	}
	b.row(header...)
	b.row(line...)
	const wait = 10 * time.Millisecond // for the database
	for cost := 10; cost <= 12; cost++ {
		began := time.Now()
		if _, err := bcrypt.GenerateFromPassword([]byte("correct horse"), cost); err != nil {
			return err
		}
		took := time.Since(began)
		cells := []string{fmt.Sprint(cost)}
		for _, mb := range sizes {
			t := billed(wait+took, took, mb)
			cells = append(cells, fmt.Sprintf("%.0f ms, $%.2f", ms(t), p.perMillion(t, mb)))
		}
		b.row(cells...)
	}
	b.say("A stack that nobody uses costs its secrets, $%.2f a month each, the six or seven metrics that reconcile writes each minute or hour, $%.2f each (ten of an account are free), its alarms, if it has any, $%.2f each (ten are free), and the database. reconcile itself is within Lambda's free tier.", p.SecretMonth, p.MetricMonth, p.AlarmMonth)
	return nil
}
