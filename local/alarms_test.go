package main_test

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"orgservice/shared/metrics"
)

// dashboardMetrics finds the metrics of the stack in the body of a dashboard.
var dashboardMetrics = regexp.MustCompile(`\["(?:\$\{AWS::StackName\}|\.)", "(\w+)"|MetricName=\\"(\w+)\\"`)

// TestAlarms checks that every alarm of the template is about a metric that there is, and
// that docs/operations.md says what to do.
func TestAlarms(t *testing.T) {
	var template struct {
		Resources map[string]struct {
			Type       string `yaml:"Type"`
			Properties struct {
				Namespace  string `yaml:"Namespace"`
				MetricName string `yaml:"MetricName"`
				Body       string `yaml:"DashboardBody"`
			} `yaml:"Properties"`
		} `yaml:"Resources"`
	}
	if err := yaml.Unmarshal(readFile(t, "template.yaml"), &template); err != nil {
		t.Fatal(err)
	}
	isMetric := func(name string) bool {
		return slices.ContainsFunc(metrics.Definitions[:], func(d metrics.Definition) bool { return d.Name == name })
	}
	// https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-metrics.html
	// https://docs.aws.amazon.com/lambda/latest/dg/monitoring-metrics-types.html
	of := map[string][]string{"AWS/ApiGateway": {"5xx", "Latency"}, "AWS/Lambda": {"Errors"}}
	operations := string(readFile(t, "docs", "operations.md"))
	alarms := 0
	for name, resource := range template.Resources {
		p := resource.Properties
		switch resource.Type {
		case "AWS::CloudWatch::Alarm":
			alarms++
			if p.Namespace == "AWS::StackName" && !isMetric(p.MetricName) || p.Namespace != "AWS::StackName" && !slices.Contains(of[p.Namespace], p.MetricName) {
				t.Errorf("%s is about %s in %s, which there is not", name, p.MetricName, p.Namespace)
			}
			if !strings.Contains(operations, "\n### "+name+"\n\n") {
				t.Errorf("docs/operations.md lacks %s", name)
			}
		case "AWS::CloudWatch::Dashboard":
			for _, metric := range dashboardMetrics.FindAllStringSubmatch(p.Body, -1) {
				if name := metric[1] + metric[2]; !isMetric(name) {
					t.Errorf("the dashboard has %s, which there is not", name)
				}
			}
		}
	}
	if n := strings.Count(operations, "\n### "); alarms == 0 || n != alarms {
		t.Errorf("docs/operations.md describes %d alarms of %d", n, alarms)
	}
}
