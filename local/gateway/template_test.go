package gateway

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// base is a correct template. TestBrokenTemplates breaks it.
const base = `Parameters:
  Rate: { Type: Number, Default: 5 }
  NoDefault: { Type: String }
Globals:
  Function: { Runtime: provided.al2023, Timeout: 7 }
Resources:
  Api:
    Type: AWS::Serverless::HttpApi
    Properties:
      Auth:
        Authorizers:
          Token:
            FunctionArn: !GetAtt AFunction.Arn
            AuthorizerPayloadFormatVersion: "2.0"
            EnableSimpleResponses: true
            EnableFunctionDefaultPermissions: true
            Identity: { Headers: [Authorization], ReauthorizeEvery: 60 }
      RouteSettings:
        "GET /a": { ThrottlingRateLimit: !Ref Rate }
  AFunction:
    Type: AWS::Serverless::Function
    Properties:
      CodeUri: functions/a
      Events:
        Get:
          Type: HttpApi
          Properties:
            ApiId: !Ref Api
            Method: GET
            Path: /a
            Auth: { Authorizer: Token }
        Tick:
          Type: ScheduleV2
          Properties: { ScheduleExpression: rate(5 minutes) }
`

// readTestTemplate reads a template with this content, in a folder that has the
// folders of its functions.
func readTestTemplate(t *testing.T, content string, parameters, env map[string]string) (*template, error) {
	t.Helper()
	root := t.TempDir()
	for _, dir := range []string{"functions/a", "functions/b", "other/a"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(root, "template.yaml")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return readTemplate(path, "us-east-1", parameters, env)
}

func TestTemplate(t *testing.T) {
	got, err := readTestTemplate(t, base, map[string]string{"Rate": "2.5"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	f := &function{id: "AFunction", dir: got.functions[0].dir, handler: "bootstrap", timeout: 7 * time.Second, memory: 128, env: map[string]string{}}
	a := &authorizer{function: f, headers: []string{"authorization"}, ttl: time.Minute}
	want := &template{
		api:         "Api",
		functions:   []*function{f},
		routes:      []*route{{key: "GET /a", method: "GET", segments: []string{"a"}, function: f, authorizer: a, throttle: throttle{rate: new(2.5)}}},
		authorizers: map[string]*authorizer{"Token": a},
		schedules:   []schedule{{name: "AFunctionTick", function: f, count: 5, unit: time.Minute, v2: true}},
	}
	unexported := cmp.AllowUnexported(template{}, function{}, route{}, throttle{}, authorizer{}, schedule{})
	if diff := cmp.Diff(want, got, unexported); diff != "" {
		t.Errorf("template (-want +got):\n%s", diff)
	}
	if name := filepath.Base(filepath.Dir(f.dir)) + "/" + f.binary(); name != "functions/a" {
		t.Errorf("folder %s", f.dir)
	}
}

func TestConditions(t *testing.T) {
	content := strings.Replace(base, "Globals:", `Conditions:
  Five: !Equals [!Ref Rate, "5"]
  NotFive: !Not [!Equals [!Ref Rate, "5"]]
Globals:`, 1)
	content = strings.Replace(content, "CodeUri: functions/a", `CodeUri: !If [Five, functions/a, functions/b]
      Environment: { Variables: { SHORT: !If [NotFive, "no", !Ref Rate], LONG: { "Fn::If": [NotFive, !Sub "not ${Rate}", "five"] } } }`, 1)
	for rate, want := range map[string]map[string]string{
		"5": {"SHORT": "5", "LONG": "five", "folder": "a"},
		"6": {"SHORT": "no", "LONG": "not 6", "folder": "b"},
	} {
		got, err := readTestTemplate(t, content, map[string]string{"Rate": rate}, nil)
		if err != nil {
			t.Fatal(err)
		}
		f := got.functions[0]
		f.env["folder"] = f.binary()
		if diff := cmp.Diff(want, f.env); diff != "" {
			t.Errorf("rate %s (-want +got):\n%s", rate, diff)
		}
	}
	for condition, want := range map[string]string{
		"Four":   "template.yaml:26: there is no condition Four",
		"Either": "template.yaml:8: Or is not understood in a condition here",
	} {
		broken := strings.Replace(content, "[Five, functions/a", "["+condition+", functions/a", 1)
		broken = strings.Replace(broken, "  NotFive:", "  Either: !Or [!Condition Five, !Condition Five]\n  NotFive:", 1)
		if _, err := readTestTemplate(t, broken, nil, nil); err == nil || !strings.HasPrefix(err.Error(), want[:14]) || !strings.HasSuffix(err.Error(), want[17:]) {
			t.Errorf("%v; want %s", err, want)
		}
	}
}

func TestBrokenTemplates(t *testing.T) {
	for name, test := range map[string]struct{ old, new, want string }{
		"empty":                    {base, "", "template.yaml: empty template"},
		"not YAML":                 {"  Api:\n", "\tApi:\n", "template.yaml:7: found character that cannot start any token"},
		"no resources":             {"Resources:", "Conditions:", "template.yaml:1: no Resources"},
		"twice":                    {"  AFunction:", "  Api:", "template.yaml:20: Api stands here twice"},
		"unknown intrinsic":        {"/a\n            Auth", "!Join ['/', ['', a]]\n            Auth", "template.yaml:30: Join is not understood here"},
		"unknown long intrinsic":   {"CodeUri: functions/a", "CodeUri: { 'Fn::Select': [0, [a]] }", "template.yaml:23: Select is not understood here"},
		"unknown reference":        {"!Ref Rate", "!Ref Nothing", "template.yaml:19: Nothing is neither a parameter nor a resource"},
		"unknown attribute":        {"!GetAtt AFunction.Arn", "!GetAtt BFunction.Arn", "template.yaml:13: there is no resource BFunction"},
		"parameter without value":  {"!Ref Rate", "!Ref NoDefault", "template.yaml:19: the parameter NoDefault has no default and was given no value"},
		"list for a value":         {"Method: GET", "Method: [GET]", "template.yaml:29: expected a single value"},
		"value for a mapping":      {"Properties: { ScheduleExpression: rate(5 minutes) }", "Properties: now", "template.yaml:34: expected a mapping"},
		"value for a list":         {"Headers: [Authorization]", "Headers: Authorization", "template.yaml:17: expected a list"},
		"no number":                {"Timeout: 7", "Timeout: soon", `template.yaml:5: expected a whole number from 1 to 900, not "soon"`},
		"no boolean":               {"EnableSimpleResponses: true", "EnableSimpleResponses: perhaps", `template.yaml:15: expected true or false, not "perhaps"`},
		"no type":                  {"    Type: AWS::Serverless::Function\n", "", "template.yaml:21: Type is missing"},
		"no function":              {"Type: AWS::Serverless::Function", "Type: AWS::S3::Bucket", "template.yaml:7: no function"},
		"other runtime":            {"provided.al2023", "python3.13", `template.yaml:5: AFunction has the runtime "python3.13": only provided.al2023 is served here`},
		"no code":                  {"CodeUri", "# CodeUri", "template.yaml:21: AFunction has no CodeUri"},
		"no such folder":           {"functions/a", "functions/none", "template.yaml:23: AFunction has the CodeUri functions/none, which is no folder"},
		"condition":                {"    Properties:\n      CodeUri", "    Condition: Maybe\n    Properties:\n      CodeUri", "template.yaml:22: Condition is not understood here"},
		"unknown event":            {"Type: ScheduleV2", "Type: SQS", "template.yaml:33: an event of type SQS is not served here"},
		"cron":                     {"rate(5 minutes)", `"cron(0 3 * * ? *)"`, `template.yaml:34: schedule "cron(0 3 * * ? *)": only rate(...) is served here, such as rate(5 minutes)`},
		"wrong plural":             {"rate(5 minutes)", "rate(5 minute)", `template.yaml:34: schedule "rate(5 minute)": only rate(...) is served here, such as rate(5 minutes)`},
		"route without API":        {"            ApiId: !Ref Api\n", "", "template.yaml:28: ApiId is missing"},
		"other API":                {"ApiId: !Ref Api", "ApiId: other", "template.yaml:28: other is no HTTP API of this template"},
		"relative path":            {"Path: /a", "Path: a", `template.yaml:30: the path "a" does not start with /`},
		"payload 1.0":              {"Method: GET", "Method: GET\n            PayloadFormatVersion: '1.0'", "template.yaml:30: payload format 1.0: only 2.0 is served here"},
		"unknown route property":   {"Method: GET", "Methods: GET", "template.yaml:29: Methods is not understood here"},
		"undefined authorizer":     {"Authorizer: Token", "Authorizer: Tokens", "template.yaml:31: the authorizer Tokens is not defined"},
		"undefined default":        {"      Auth:\n        Authorizers", "      Auth:\n        DefaultAuthorizer: Nobody\n        Authorizers", ""},
		"authorizer's function":    {"!GetAtt AFunction.Arn", "AFunction", "template.yaml:13: authorizer Token: AFunction is no function of this template"},
		"unquoted version":         {`"2.0"`, "2.0", `template.yaml:14: authorizer Token needs AuthorizerPayloadFormatVersion: "2.0"`},
		"no simple responses":      {"EnableSimpleResponses: true", "EnableSimpleResponses: false", "template.yaml:15: authorizer Token needs EnableSimpleResponses: true"},
		"no permissions":           {"            EnableFunctionDefaultPermissions: true\n", "", "template.yaml:13: authorizer Token needs EnableFunctionDefaultPermissions: true"},
		"identity without a TTL":   {", ReauthorizeEvery: 60", "", "template.yaml:17: ReauthorizeEvery is missing"},
		"TTL too long":             {"ReauthorizeEvery: 60", "ReauthorizeEvery: 3601", `template.yaml:17: expected a whole number from 0 to 3600, not "3601"`},
		"JWT authorizer":           {"EnableSimpleResponses: true", "JwtConfiguration: {}", "template.yaml:15: JwtConfiguration is not understood here"},
		"settings of no route":     {`"GET /a": {`, `"GET /b": {`, `template.yaml:19: settings of the route "GET /b", which no function has`},
		"no rate":                  {"!Ref Rate", "fast", `template.yaml:19: ThrottlingRateLimit "fast" is no rate`},
		"CORS as a word":           {"      RouteSettings:", "      CorsConfiguration: true\n      RouteSettings:", "template.yaml:18: expected a mapping"},
		"definition of the routes": {"      RouteSettings:", "      DefinitionUri: api.yaml\n      RouteSettings:", "template.yaml:18: DefinitionUri is not understood here"},
		"second API":               {"  AFunction:\n", "  Other: { Type: 'AWS::Serverless::HttpApi' }\n  AFunction:\n", "template.yaml:20: Other is a second HTTP API: one is served here"},
		"duplicate route": {"        Tick:\n", "        Again: { Type: HttpApi, Properties: { ApiId: !Ref Api, Method: get, Path: /a } }\n        Tick:\n",
			"template.yaml:32: AFunction and AFunction both have the route GET /a"},
		"one binary, two folders": {"  AFunction:\n", "  Other: { Type: 'AWS::Serverless::Function', Properties: { CodeUri: other/a } }\n  AFunction:\n",
			"template.yaml:22: Other and AFunction are built from folders of the same name"},
	} {
		t.Run(name, func(t *testing.T) {
			if strings.Count(base, test.old) == 0 {
				t.Fatalf("the template has no %q", test.old)
			}
			_, err := readTestTemplate(t, strings.Replace(base, test.old, test.new, 1), nil, nil)
			got := ""
			if err != nil {
				got = err.Error()
			}
			if got != test.want {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
		})
	}
	_, err := readTestTemplate(t, base, map[string]string{"Speed": "1"}, nil)
	if want := `template.yaml has no parameter "Speed" (it was to be "1")`; err == nil || err.Error() != want {
		t.Errorf("unknown parameter: %v, want %s", err, want)
	}
}

// TestUnsetParameter checks that a variable in env needs no value in the template.
func TestUnsetParameter(t *testing.T) {
	content := strings.Replace(base, "CodeUri: functions/a", "CodeUri: functions/a\n      Environment: { Variables: { SECRET: !Ref NoDefault } }", 1)
	got, err := readTestTemplate(t, content, nil, map[string]string{"SECRET": "local", "OTHER": "x"})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]string{"SECRET": "local"}, got.functions[0].env); diff != "" {
		t.Errorf("environment (-want +got):\n%s", diff)
	}
	if _, err := readTestTemplate(t, content, nil, nil); err == nil || !strings.Contains(err.Error(), "template.yaml:24: the parameter NoDefault has no default") {
		t.Errorf("without a value: %v", err)
	}
}
