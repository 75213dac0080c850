package gateway

import (
	"bytes"
	"strings"
	"testing"
	"time"
)

func TestAccessLine(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 678_900_000, time.UTC)
	for _, test := range []struct {
		style LogStyle
		e     access
		want  string
	}{
		{LogJSON, access{Time: at, Method: "GET", Path: "/a", Status: 200, Millis: 1.25, Function: "get", PID: 7, Start: "cold", RequestID: "id"},
			`{"time":"2026-01-02T03:04:05.6789Z","method":"GET","path":"/a","status":200,"duration_ms":1.25,"function":"get","pid":7,"start":"cold","request_id":"id"}`},
		{LogJSON, access{Time: at, Method: "GET", Path: "/a", Status: 404, RequestID: "id", Reason: "none\n\u009b2Jsuch"},
			`{"time":"2026-01-02T03:04:05.6789Z","method":"GET","path":"/a","status":404,"duration_ms":0,"request_id":"id","reason":"none\n\u009b2Jsuch"}`},
		{LogText, access{Time: at, Method: "GET", Path: "/a", Status: 200, Millis: 1.25, Function: "get", PID: 7, Start: "cold", RequestID: "id"},
			"03:04:05.678 GET /a 200 1.2ms get[7] cold id"},
		{LogText, access{Time: at, Method: "GET", Path: "/a", Status: 404, RequestID: "own", GatewayID: "id", Reason: "none\n\x1b[2Jsuch"},
			"03:04:05.678 GET /a 404 0.0ms - own (id): none  [2Jsuch"},
		{LogColor, access{Time: at, Method: "GET", Path: "/a", Status: 204, RequestID: "id"}, "03:04:05.678 GET /a \x1b[32m204\x1b[0m 0.0ms - id"},
		{LogColor, access{Time: at, Method: "GET", Path: "/a", Status: 499, RequestID: "id"}, "03:04:05.678 GET /a \x1b[33m499\x1b[0m 0.0ms - id"},
		{LogColor, access{Time: at, Method: "GET", Path: "/a", Status: 500, RequestID: "id"}, "03:04:05.678 GET /a \x1b[31m500\x1b[0m 0.0ms - id"},
		{LogText, access{Time: at, Method: "GET", Path: "/a", Status: 500, RequestID: "id", Reason: strings.Repeat("x", 600)},
			"03:04:05.678 GET /a 500 0.0ms - id: " + strings.Repeat("x", 500) + " …"},
	} {
		if got := test.e.line(test.style); got != test.want {
			t.Errorf("got  %q\nwant %q", got, test.want)
		}
	}
}

func TestFunctionLogControlsNoTerminal(t *testing.T) {
	var b bytes.Buffer
	l := (&output{w: &b}).lines("docs")
	l.Write([]byte("{\"path\":\"/é\u009b31m\u202e\x7f\"}\n{\t}\nplain\n"))
	if want := `{"path":"/é\u009b31m\u202e\u007f"}` + "\n{\t}\ndocs: plain\n"; b.String() != want {
		t.Errorf("got  %q\nwant %q", b.String(), want)
	}
}

func TestNoRoute(t *testing.T) {
	s := &stage{template: &template{}}
	for _, key := range []string{"POST /org/create", "GET /org/get", "PUT /org/{id}/name", "GET /org/{id}/name"} {
		method, path, _ := strings.Cut(key, " ")
		s.routes = append(s.routes, &route{key: key, method: method, segments: strings.Split(path, "/")[1:]})
	}
	for request, want := range map[string]string{
		"GET /org/create":   "POST only",
		"POST /org/1/name":  "GET, PUT only",
		"POST /org/creat":   "no such route: did you mean POST /org/create?",
		"GET /ORG/CREATE/":  "no such route: did you mean POST /org/create?",
		"PUT /org/{id}name": "no such route: did you mean PUT /org/{id}/name?",
		"GET /org/{id}name": "no such route: did you mean GET /org/{id}/name?",
		"GET /":             "no such route",
		"GET /favicon.ico":  "no such route",
	} {
		method, path, _ := strings.Cut(request, " ")
		if got := s.noRoute(method, path); got != want {
			t.Errorf("%s: %q, want %q", request, got, want)
		}
	}
}

func TestClosest(t *testing.T) {
	words := []string{"MONGO_URL", "MASTER_DB", "PORT", "me"}
	for word, want := range map[string]string{
		"MONGO_ULR": "MONGO_URL", "mongo_url": "MONGO_URL", "MONGODB_URL": "MONGO_URL", "PROT": "PORT",
		"DATABASE": "", "": "", "xy": "", "x": "",
	} {
		if got := Closest(word, words); got != want {
			t.Errorf("%q: %q, want %q", word, got, want)
		}
	}
}
