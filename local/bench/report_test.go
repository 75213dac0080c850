package main

import (
	"strings"
	"testing"
	"time"
)

func TestQuantile(t *testing.T) {
	values := []float64{4, 1, 3, 2}
	for q, want := range map[float64]float64{0: 1, 0.25: 1.75, 0.5: 2.5, 1: 4} {
		if got := quantile(values, q); got != want {
			t.Errorf("quantile(%v) = %v; want %v", q, got, want)
		}
	}
	if got, want := spread(values), "2.50 (1.75–3.25)"; got != want {
		t.Errorf("spread = %q; want %q", got, want)
	}
	if got := median([]float64{7}); got != 7 {
		t.Errorf("the median of one value is %v", got)
	}
}

func TestBilled(t *testing.T) {
	const wall, cpu = 30 * time.Millisecond, 20 * time.Millisecond
	for mb, want := range map[float64]time.Duration{fullCPU: wall, 2 * fullCPU: wall, fullCPU / 2.0: 50 * time.Millisecond} {
		if got := billed(wall, cpu, mb); got != want {
			t.Errorf("with %v MB: %v; want %v", mb, got, want)
		}
	}
	if got := billed(cpu, wall, fullCPU); got != wall { // processor time of two threads
		t.Errorf("without waits: %v", got)
	}
}

// A million events of a second with a GB, and of none.
func TestPerMillion(t *testing.T) {
	p := prices{LambdaGBSecond: 0.00001, LambdaMillionRequests: 0.2}
	if got := p.perMillion(time.Second, 1024); got != 10.2 {
		t.Errorf("%v", got)
	}
	if got := p.perMillion(0, 1024); got != 0.2 {
		t.Errorf("%v", got)
	}
}

func TestUnknownSection(t *testing.T) {
	b := &bench{root: "../.."}
	if err := b.run(t.Context(), "cold,heat", "."); err == nil || !strings.Contains(err.Error(), `"heat"`) {
		t.Errorf("%v", err)
	}
}
