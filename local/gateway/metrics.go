package gateway

import (
	"bytes"
	"encoding/json"
	"fmt"
	"html"
	"io"
	"maps"
	"math"
	"net/http"
	"slices"
	"strings"
	"sync"
	"unicode"
)

// metricsPath is where the gateway answers with the metrics, unless the API has such a route.
const metricsPath = "/metrics"

// series is a metric with the value of its dimension, if it has one.
type series struct{ name, unit, dimension, value string }

type samples struct {
	count    int
	sum, max float64
}

// metrics sums up what the functions write in CloudWatch's embedded metric format.
type metrics struct {
	mu  sync.Mutex
	all map[series]samples
}

// take counts the metrics of a line of a function's log, and reports whether the line is for
// CloudWatch.
func (m *metrics) take(line []byte) bool {
	if !bytes.Contains(line, []byte(`"CloudWatchMetrics"`)) {
		return false
	}
	var meta struct {
		AWS *struct {
			CloudWatchMetrics []struct {
				Dimensions [][]string
				Metrics    []struct{ Name, Unit string }
			}
		} `json:"_aws"`
	}
	var members map[string]any
	if json.Unmarshal(line, &meta) != nil || meta.AWS == nil || json.Unmarshal(line, &members) != nil {
		return false
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, d := range meta.AWS.CloudWatchMetrics {
		for _, metric := range d.Metrics {
			if strings.ContainsFunc(metric.Name, func(r rune) bool { return !unicode.IsLetter(r) }) {
				continue
			}
			value, _ := members[metric.Name].(float64)
			for _, dimensions := range d.Dimensions {
				s := series{name: metric.Name, unit: metric.Unit}
				for _, name := range dimensions { // there is no more than one
					s.dimension = name
					s.value, _ = members[name].(string)
				}
				sum := m.all[s]
				sum.count++
				sum.sum += value
				sum.max = math.Max(sum.max, value)
				if m.all == nil {
					m.all = map[series]samples{}
				}
				m.all[s] = sum
			}
		}
	}
	return true
}

// sorted returns the series in order of their names, those of all before those of a dimension.
func (m *metrics) sorted() (order []series, all map[series]samples) {
	m.mu.Lock()
	defer m.mu.Unlock()
	all = maps.Clone(m.all)
	order = slices.SortedFunc(maps.Keys(all), func(a, b series) int {
		return strings.Compare(a.name+"\x00"+a.dimension+"\x00"+a.value, b.name+"\x00"+b.dimension+"\x00"+b.value)
	})
	return order, all
}

// ServeHTTP answers a browser with a page, and anything else in the text format of Prometheus.
func (m *metrics) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if strings.Contains(r.Header.Get("Accept"), "text/html") {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		m.writePage(w)
		return
	}
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	m.writePrometheus(w)
}

// writePrometheus writes each metric as a summary without quantiles: by its dimension, or as
// one if it has none, so that a query that adds them up counts nothing twice.
// https://prometheus.io/docs/instrumenting/exposition_formats/
func (m *metrics) writePrometheus(w io.Writer) {
	order, all := m.sorted()
	for i, s := range order {
		next := i + 1
		if s.dimension == "" && next < len(order) && order[next].name == s.name {
			continue // the sum of the next ones
		}
		name := "orgservice_" + snake(s.name)
		if s.unit != "Count" {
			name += "_" + strings.ToLower(s.unit)
		}
		if i == 0 || order[i-1].name != s.name || order[i-1].dimension == "" {
			fmt.Fprintf(w, "# TYPE %s summary\n", name)
		}
		label := ""
		if s.dimension != "" {
			label = fmt.Sprintf("{%s=%q}", snake(s.dimension), s.value)
		}
		fmt.Fprintf(w, "%s_sum%s %v\n%s_count%s %d\n", name, label, all[s].sum, name, label, all[s].count)
	}
}

// snake returns LikeThis as like_this.
func snake(name string) string {
	var b strings.Builder
	for i, r := range name {
		if unicode.IsUpper(r) && i > 0 {
			b.WriteByte('_')
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}

func (m *metrics) writePage(w io.Writer) {
	order, all := m.sorted()
	io.WriteString(w, `<!doctype html><html lang="en"><meta charset="utf-8"><meta http-equiv="refresh" content="5"><title>Metrics</title>
<style>body{font:16px system-ui;margin:2em}td,th{padding:.2em 1em;text-align:right}td:first-child,td:nth-child(2),th:first-child,th:nth-child(2){text-align:left}tr:nth-child(even){background:#f4f4f4}</style>
<h1>Metrics</h1><p>Since the start, as the functions write them for CloudWatch.<table><tr><th>metric<th>of<th>samples<th>average<th>greatest<th>sum<th>unit`)
	for _, s := range order {
		v := all[s]
		fmt.Fprintf(w, "\n<tr><td>%s<td>%s<td>%d<td>%.1f<td>%.1f<td>%.1f<td>%s",
			html.EscapeString(s.name), html.EscapeString(s.value), v.count, v.sum/float64(v.count), v.max, v.sum, html.EscapeString(s.unit))
	}
	io.WriteString(w, "\n</table></html>\n")
}
