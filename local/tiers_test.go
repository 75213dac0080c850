package main

import (
	"os"
	"testing"

	"go.yaml.in/yaml/v3"

	"orgservice/shared/mongodb"
)

// TestTiers checks that the functions' connections are no more than the tier of the database
// accepts, whatever the functions do, and that the alarms come before that.
func TestTiers(t *testing.T) {
	type properties struct {
		Reserved    yaml.Node `yaml:"ReservedConcurrentExecutions"`
		Environment struct {
			Variables map[string]yaml.Node `yaml:"Variables"`
		} `yaml:"Environment"`
	}
	var template struct {
		Mappings struct {
			Tiers map[string]struct {
				Busy        int `yaml:"Busy"`
				Others      int `yaml:"Others"`
				Connections int `yaml:"Connections"`
				Collections int `yaml:"Collections"`
			} `yaml:"Tiers"`
		} `yaml:"Mappings"`
		Globals struct {
			Function properties `yaml:"Function"`
		} `yaml:"Globals"`
		Resources map[string]struct {
			Type       string     `yaml:"Type"`
			Properties properties `yaml:"Properties"`
		} `yaml:"Resources"`
	}
	file, err := os.ReadFile("../template.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(file, &template); err != nil {
		t.Fatal(err)
	}
	// class returns which number of the tier a function has: that of
	// !If [HasTier, !FindInMap [Tiers, !Ref DatabaseTier, CLASS], !Ref AWS::NoValue].
	class := func(reserved yaml.Node) string {
		if reserved.Tag != "!If" || len(reserved.Content) != 3 || reserved.Content[0].Value != "HasTier" || len(reserved.Content[1].Content) != 3 {
			return ""
		}
		return reserved.Content[1].Content[2].Value
	}
	count := map[string]int{}
	for name, resource := range template.Resources {
		if resource.Type != "AWS::Serverless::Function" {
			continue
		}
		reserved := resource.Properties.Reserved
		if reserved.IsZero() {
			reserved = template.Globals.Function.Reserved
		}
		_, connects := resource.Properties.Environment.Variables["MONGO_URL"]
		if none := reserved.Tag == "!Ref" && reserved.Value == "AWS::NoValue"; none == connects || connects && class(reserved) == "" {
			t.Errorf("%s reserves %s %s; it has a database: %v", name, reserved.Tag, reserved.Value, connects)
		}
		count[class(reserved)]++
	}
	const unreserved = 100 // Lambda leaves so much of the account's concurrency to other functions
	for name, tier := range template.Mappings.Tiers {
		limit, known := tiers[name]
		if name == "none" {
			continue
		}
		processes := count["Busy"]*tier.Busy + count["Others"]*tier.Others
		t.Logf("%s: %d processes have %d connections of %d at most", name, processes, processes*mongodb.MaxConnections, limit.connections)
		if connections := processes * mongodb.MaxConnections; !known || tier.Others == 0 || connections > limit.connections || connections < limit.connections*9/10 {
			t.Errorf("%s: %d processes have %d connections at most; the tier accepts %d", name, processes, connections, limit.connections)
		}
		if processes > 1000-unreserved {
			t.Errorf("%s: %d processes are more than an account has by default", name, processes)
		}
		if tier.Connections*5 != limit.connections*4 {
			t.Errorf("%s: the alarm comes at %d connections; want four fifths of %d", name, tier.Connections, limit.connections)
		}
		collections := limit.namespaces / 2 // each has an index
		if name == "M0" || name == "FLEX" {
			collections = limit.namespaces // no matter how many indexes they have
		}
		if tier.Collections*10 != collections*9 {
			t.Errorf("%s: the alarm comes at %d collections; want nine tenths of %d", name, tier.Collections, collections)
		}
	}
}
