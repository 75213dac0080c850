package main

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"
)

func (b *bench) heading(text string) { fmt.Fprintf(b.out, "\n## %s\n", text) }

func (b *bench) say(format string, args ...any) { fmt.Fprintf(b.out, "\n"+format+"\n\n", args...) }

func (b *bench) row(cells ...string) {
	fmt.Fprintf(b.out, "| %s |\n", strings.Join(cells, " | "))
}

// plot draws values by mermaid, which GitHub shows as a picture. Each curve, of the kind
// bar (which lie) or line, has a value for each x.
func (b *bench) plot(title, xTitle string, xs []string, kind string, curves ...[]float64) {
	chart := map[string]string{"bar": "xychart-beta horizontal", "line": "xychart-beta"}[kind]
	fmt.Fprintf(b.out, "\n```mermaid\n%s\n    title %q\n    x-axis %q [%s]\n", chart, title, xTitle, strings.Join(xs, ", "))
	for _, curve := range curves {
		var ys []string
		for _, y := range curve {
			ys = append(ys, fmt.Sprintf("%.2f", y))
		}
		fmt.Fprintf(b.out, "    %s [%s]\n", kind, strings.Join(ys, ", "))
	}
	fmt.Fprint(b.out, "```\n")
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// quantile returns the value below which the part q of the values is.
func quantile(values []float64, q float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	at := q * float64(len(sorted)-1)
	i := int(at)
	if i+1 == len(sorted) {
		return sorted[i]
	}
	return sorted[i] + (at-float64(i))*(sorted[i+1]-sorted[i])
}

func median(values []float64) float64 { return quantile(values, 0.5) }

// spread returns the median and the quartiles.
func spread(values []float64) string {
	return fmt.Sprintf("%.2f (%.2f–%.2f)", median(values), quantile(values, 0.25), quantile(values, 0.75))
}

var modelName = regexp.MustCompile(`(?m)^model name\s*: (.*)$`)

// processor returns the name of the processor.
func processor() string {
	info, _ := os.ReadFile("/proc/cpuinfo")
	if m := modelName.FindSubmatch(info); m != nil {
		return string(m[1])
	}
	return "an unknown processor"
}
