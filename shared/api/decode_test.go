package api_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-lambda-go/events"
	"github.com/google/go-cmp/cmp"

	"orgservice/shared/api"
	"orgservice/shared/org"
)

func TestBody(t *testing.T) {
	s, _ := newService(t)
	// A body below that is accepted creates this organization.
	good := func() string { return registration("Acme", "admin@example.com") }
	with := func(member string) string { return strings.TrimSuffix(good(), "}") + "," + member + "}" }
	pad := func(n int) string { return good() + strings.Repeat(" ", n-len(good())) }

	for _, tt := range []struct {
		name, body string
		status     int
	}{
		{"empty", "", 400},
		{"white space", " \r\n\t", 400},
		{"null", "null", 400},
		{"text", `"x"`, 400},
		{"number", "1", 400},
		{"list", "[" + good() + "]", 400},
		{"no JSON", "organization_name=Acme", 400},
		{"cut off", strings.TrimSuffix(good(), "}"), 400},
		{"cut off in a string", `{"email":"a`, 400},
		{"cut off after a name", `{"email"`, 400},
		{"closed by a bracket", strings.TrimSuffix(good(), "}") + "]", 400},
		{"single quotes", `{'email':'a'}`, 400},
		{"a comment", good() + "// x", 400},
		{"a comma at the end", strings.TrimSuffix(good(), "}") + ",}", 400},
		{"a comma at the start", `{,"email":"a"}`, 400},
		{"no comma", `{"email":"a" "password":"b"}`, 400},
		{"no colon", `{"email" "a"}`, 400},
		{"no name", `{:"a"}`, 400},
		{"a number for a name", `{1:"a"}`, 400},
		{"garbage after it", good() + "x", 400},
		{"a bracket after it", good() + "}", 400},
		{"two objects", good() + good(), 400},
		{"two objects on two lines", good() + "\n{}", 400},
		{"NUL after it", good() + "\x00", 400},
		{"byte order mark", "\ufeff" + good(), 400},
		{"malformed text", strings.Replace(good(), "Acme", "Ac\xffme", 1), 400},
		{"UTF-16", "{\x00}\x00", 400},
		{"a raw line end in a string", strings.Replace(good(), "Acme", "Ac\nme", 1), 400},
		{"a raw NUL in a string", strings.Replace(good(), "Acme", "Ac\x00me", 1), 400},
		{"unknown field", with(`"role":"owner"`), 400},
		{"unknown field with an operator", with(`"$where":"1"`), 400},
		{"unknown field without a name", with(`"":""`), 400},
		{"field of an update", with(`"current_password":"x"`), 400},
		{"field in another case", strings.Replace(good(), `"email"`, `"Email"`, 1), 400},
		{"doubled in another case", with(`"EMAIL":"evil@example.com"`), 400},
		{"doubled field", with(`"email":"evil@example.com"`), 400},
		{"doubled field of one value", with(`"email":"admin@example.com"`), 400},
		{"doubled by an escape", with(`"e\u006dail":"evil@example.com"`), 400},
		{"prototype", with(`"__proto__":{}`), 400},
		{"64 KiB and a byte", pad(64<<10 + 1), 413},
		{"a megabyte", pad(1 << 20), 413},
		{"null field", strings.Replace(good(), `"Acme"`, `null`, 1), 422},
		{"number", strings.Replace(good(), `"Acme"`, `1`, 1), 422},
		{"large number", strings.Replace(good(), `"Acme"`, `1e999`, 1), 422},
		{"boolean", strings.Replace(good(), `"Acme"`, `true`, 1), 422},
		{"list of texts", strings.Replace(good(), `"Acme"`, `["Acme"]`, 1), 422},
		{"object", strings.Replace(good(), `"Acme"`, `{"Acme":1}`, 1), 422},
		{"deep", strings.Replace(good(), `"Acme"`, strings.Repeat("[", 9000)+strings.Repeat("]", 9000), 1), 422},
		{"deeper", strings.Replace(good(), `"Acme"`, strings.Repeat("[", 20000)+strings.Repeat("]", 20000), 1), 400},
		{"deep and open", `{"email":` + strings.Repeat("[", 60000), 400},
		{"deep objects", strings.Repeat(`{"email":`, 7000), 400},
		{"escaped NUL", strings.Replace(good(), "Acme", `Ac\u0000me`, 1), 422},
		{"half a surrogate", strings.Replace(good(), "Acme", `Ac\ud800me`, 1), 422},
		{"64 KiB", pad(64 << 10), 201},
		{"white space around", "\r\n\t " + strings.Replace(good(), "Acme", "Acme 2", 1) + " \n", 409},
	} {
		t.Run(tt.name, func(t *testing.T) {
			// Base64 preserves every byte.
			r := createRequest(base64.StdEncoding.EncodeToString([]byte(tt.body)))
			r.IsBase64Encoded = true
			wantStatus(t, call(t, api.Create(s), r), tt.status)
		})
	}
}

func TestContentType(t *testing.T) {
	s, _ := newService(t)
	for i, tt := range []struct {
		name, value string
		ok          bool
	}{
		{"OK", "application/json", true},
		{"OK charset", "application/json; charset=utf-8", true},
		{"OK charset in another case", "Application/JSON;Charset=UTF-8", true},
		{"OK charset in quotes", `application/json; charset="utf-8"`, true},
		{"OK other parameter", "application/json; profile=x", true},
		{"OK suffix", "application/merge-patch+json", true},
		{"empty", "", false},
		{"Latin-1", "application/json; charset=iso-8859-1", false},
		{"UTF-16", "application/json; charset=utf-16", false},
		{"charset twice", "application/json; charset=utf-8; charset=utf-16", false},
		{"form", "application/x-www-form-urlencoded", false},
		{"multipart", "multipart/form-data; boundary=x", false},
		{"text", "text/plain", false},
		{"text that looks like it", "text/json", false},
		{"another suffix", "application/json+xml", false},
		{"another name", "application/jsonp", false},
		{"suffix of another type", "image/svg+json", false},
		{"two", "application/json, text/plain", false},
		{"malformed", "application/json; charset", false},
		{"anything", "*/*", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			want := 415
			if tt.ok {
				want = 201
			}
			body := registration(fmt.Sprint("Acme ", i), fmt.Sprintf("admin%d@example.com", i))
			wantStatus(t, call(t, api.Create(s), withHeader(createRequest(body), "content-type", tt.value)), want)
		})
	}
	t.Run("none", func(t *testing.T) {
		r := createRequest(registration("Acme", "admin@example.com"))
		r.Headers = nil
		wantStatus(t, call(t, api.Create(s), r), 415)
	})
}

// The response names every wrong field at once.
func TestFieldErrors(t *testing.T) {
	s, _ := newService(t)
	caller := mustCreate(t, s, "Acme", "admin@example.com")
	for _, tt := range []struct {
		name    string
		handler http.Handler
		request events.APIGatewayV2HTTPRequest
		want    []org.FieldError
	}{
		{"create", api.Create(s), createRequest(`{"organization_name":5,"email":"x","password":"short"}`), []org.FieldError{
			{Field: "organization_name", Message: "must be a string"},
			{Field: "email", Message: "must be an email address such as admin@example.com"},
			{Field: "password", Message: "must have at least 8 characters"},
		}},
		{"create of nulls", api.Create(s), createRequest(`{"organization_name":null,"email":null}`), []org.FieldError{
			{Field: "organization_name", Message: "must be a string"},
			{Field: "email", Message: "must be a string"},
			{Field: "password", Message: "is required"},
		}},
		{"login", api.Login(s), loginRequest(`{"email":[]}`), []org.FieldError{
			{Field: "email", Message: "must be a string"},
			{Field: "password", Message: "is required"},
		}},
		{"update", api.Update(s), as(caller, updateRequest(`{"email":5}`)), []org.FieldError{
			{Field: "email", Message: "must be a string"},
			{Field: "current_password", Message: "is required to change email or password"},
		}},
		{"a long current password", api.Update(s), as(caller, updateRequest(`{"organization_name":"Acme","current_password":"`+strings.Repeat("é", 129)+`"}`)), []org.FieldError{
			{Field: "current_password", Message: "must have at most 128 characters"},
		}},
		{"update of nothing", api.Update(s), as(caller, updateRequest(`{}`)), []org.FieldError{
			{Field: "organization_name", Message: "is required if nothing else changes: give at least one of organization_name, email, password"},
		}},
		{"update of nulls", api.Update(s), as(caller, updateRequest(`{"email":null}`)), []org.FieldError{
			{Field: "email", Message: "must be a string"},
			{Field: "current_password", Message: "is required to change email or password"},
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := call(t, tt.handler, tt.request)
			wantStatus(t, r, 422)
			if diff := cmp.Diff(tt.want, problemOf(t, r).Errors); diff != "" {
				t.Errorf("errors (-want +got):\n%s", diff)
			}
		})
	}
}

// If a field is unknown or given twice, the response is 400, and names every other
// wrong field, too.
func TestStrayFields(t *testing.T) {
	s, _ := newService(t)
	caller := mustCreate(t, s, "Acme", "admin@example.com")
	const unknown, twice = "is not a field of this request", "must be given once"
	for _, tt := range []struct {
		name    string
		handler http.Handler
		request events.APIGatewayV2HTTPRequest
		want    []org.FieldError
	}{
		{"only unknown", api.Create(s), createRequest(`{"role":1,"organization_name":"Bolt","email":"b@example.com","password":"Admin@123","":null,"role":2}`), []org.FieldError{
			{Field: "role", Message: unknown}, {Field: "", Message: unknown},
		}},
		{"only twice", api.Login(s), loginRequest(`{"email":"b@example.com","password":"Admin@123","e\u006dail":"c@example.com","email":1}`), []org.FieldError{
			{Field: "email", Message: twice},
		}},
		{"all kinds", api.Create(s), createRequest(`{"role":1,"organization_name":5,"password":"x","password":"Admin@123"}`), []org.FieldError{
			{Field: "role", Message: unknown}, {Field: "organization_name", Message: "must be a string"},
			{Field: "password", Message: twice}, {Field: "email", Message: "is required"},
		}},
		{"other styles", api.Update(s), as(caller, updateRequest(`{"organizationName":"Bolt","ORGANIZATION-NAME":"Bolt","Email":"b@example.com"}`)), []org.FieldError{
			{Field: "organizationName", Message: unknown + ": did you mean organization_name?"},
			{Field: "ORGANIZATION-NAME", Message: unknown + ": did you mean organization_name?"},
			{Field: "Email", Message: unknown + ": did you mean email?"},
			{Field: "organization_name", Message: "is required if nothing else changes: give at least one of organization_name, email, password"},
		}},
		{"typing errors", api.Login(s), loginRequest(`{"emial":"b@example.com","passwd":"x","mails":"","token":""}`), []org.FieldError{
			{Field: "emial", Message: unknown + ": did you mean email?"},
			{Field: "passwd", Message: unknown + ": did you mean password?"},
			{Field: "mails", Message: unknown + ": did you mean email?"},
			{Field: "token", Message: unknown},
			{Field: "email", Message: "is required"}, {Field: "password", Message: "is required"},
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := call(t, tt.handler, tt.request)
			wantStatus(t, r, 400)
			p := problemOf(t, r)
			if diff := cmp.Diff(tt.want, p.Errors); diff != "" {
				t.Errorf("errors (-want +got):\n%s", diff)
			}
			for _, e := range tt.want {
				if !strings.Contains(p.Detail, e.Field+" "+e.Message) {
					t.Errorf("the detail %q lacks that %s %s", p.Detail, e.Field, e.Message)
				}
			}
		})
	}
	t.Run("many", func(t *testing.T) {
		var body strings.Builder
		for i := range 1000 {
			fmt.Fprintf(&body, `"x%d":1,`, i)
		}
		r := call(t, api.Login(s), loginRequest("{"+body.String()+`"email":""}`))
		wantStatus(t, r, 400)
		if p := problemOf(t, r); len(p.Errors) != 20+2 || !strings.HasPrefix(p.Detail, "1000 fields ") {
			t.Errorf("%d errors and the detail %s", len(p.Errors), p.Detail)
		}
	})
}

// TestNotJSON checks that the response says what is wrong and where, and quotes
// nothing but names of fields. The secret stands where it is easily quoted.
func TestNotJSON(t *testing.T) {
	s, _ := newService(t)
	const secret = "Zx9"
	for _, tt := range []struct{ body, want string }{
		{`{"email":"Zx9" "password":"Zx9"}`, "a comma or } is missing (line 1, column 16, after the value of email)"},
		{"{\n  \"email\": \"é\", \"password\": Zx9}", "a value is missing, or a text has no double quotes (line 2, column 29, in the value of password)"},
		{`{"email" "Zx9"}`, "a colon is missing after a name (line 1, column 10, in the value of email)"},
		{`{"Zx9" "Zx9"}`, "a colon is missing after a name (line 1, column 8)"},
		{`{"email":"a","Zx9":"b" "c":1}`, "a comma or } is missing (line 1, column 24)"},
		{`{'email':'Zx9'}`, `names and texts must be in double quotes ("), not in others (line 1, column 2)`},
		{`{"email":'Zx9'}`, `names and texts must be in double quotes ("), not in others (line 1, column 10, in the value of email)`},
		{`{“email”:“Zx9”}`, `names and texts must be in double quotes ("), not in others (line 1, column 2)`},
		{`{email:"Zx9"}`, "a name in double quotes is missing (line 1, column 2)"},
		{`{"email":"Zx9",}`, "the comma before } is too much (line 1, column 16, after the value of email)"},
		{`{"email":["Zx9",]}`, "the comma before ] is too much (line 1, column 17, in the value of email)"},
		{`{"email":["Zx9" 1]}`, "a comma or ] is missing (line 1, column 17, in the value of email)"},
		{`{"email":"Zx9" // Zx9` + "\n}", "there are no comments in JSON (line 1, column 16, after the value of email)"},
		{`{"email":"Z` + "\n" + `x9"}`, `a line end or another control character in a text must be escaped, such as \n (line 1, column 12, in the value of email)`},
		{`{"password":"Zx9\Zx9"}`, `\ in a text must be followed by one of "\/bfnrtu (line 1, column 18, in the value of password)`},
		{`{"password":"Zx9\'"}`, `\ in a text must be followed by one of "\/bfnrtu (line 1, column 18, in the value of password)`},
		{`{"password":"Zx9\uZx9"}`, `\u in a text must be followed by four hexadecimal digits (line 1, column 19, in the value of password)`},
		{`{"password":nZx9}`, "only true, false, null and numbers have no double quotes (line 1, column 14, in the value of password)"},
		{`{"password":-Zx9}`, "a number is not complete (line 1, column 14, in the value of password)"},
		{`{"password":"Zx9"}Zx9`, "something comes after the object (line 1, column 19, after the value of password)"},
		{`{"email":` + strings.Repeat("[", 10001) + "Zx9", "it is nested too deeply (line 1, column 10009, in the value of email)"},
		{`{`, "it ends too early: a name in double quotes is missing (line 1, column 2)"},
		{`{"email":"Zx9"`, "it ends too early: a comma or } is missing (line 1, column 15, after the value of email)"},
		{`{"email":"Zx9`, "it ends too early: a text has no closing quote (line 1, column 14, in the value of email)"},
		{`{"email":"Zx9\`, `\ in a text must be followed by one of "\/bfnrtu (line 1, column 14, in the value of email)`},
		{`{"email":"a",` + "\n\n" + `"Zx9`, "it ends too early: a text has no closing quote (line 3, column 5, after the value of email)"},
		{`{"email"`, "it ends too early: a colon is missing after a name (line 1, column 9, in the value of email)"},
		{`{"email":`, "it ends too early: a value is missing, or a text has no double quotes (line 1, column 10, in the value of email)"},
		{"\ufeff" + `{"email":"Zx9"}`, "it begins with a byte order mark"},
	} {
		t.Run(tt.body[:min(len(tt.body), 50)], func(t *testing.T) {
			logged := captureLog(t)
			r := call(t, api.Login(s), loginRequest(tt.body))
			wantStatus(t, r, 400)
			if got, want := problemOf(t, r).Detail, "the body is not JSON: "+tt.want; got != want {
				t.Errorf("detail %q, want %q", got, want)
			}
			if strings.Contains(r.Body+logged.String(), secret) {
				t.Errorf("a part of the body is in %s or in the log %s", r.Body, logged)
			}
		})
	}
}

// The response quotes an unknown field, but only the start of its name.
func TestUnknownFieldIsShort(t *testing.T) {
	s, _ := newService(t)
	r := call(t, api.Create(s), createRequest(`{"`+strings.Repeat("é<\\u0000", 1000)+`":1}`))
	wantStatus(t, r, 400)
	if n := len(r.Body); n > 2000 {
		t.Errorf("the answer has %d bytes", n)
	}
}

// TestManyUnknownParameters checks that a short query has no long answer.
func TestManyUnknownParameters(t *testing.T) {
	s, _ := newService(t)
	var query []string
	for i := range 1000 {
		query = append(query, fmt.Sprintf("p%d", i))
	}
	r := call(t, api.Get(s), request("GET", "/org/get", strings.Join(query, "&")))
	wantStatus(t, r, 422)
	if n := strings.Count(r.Body, `"field":`); n != 20 || !strings.Contains(r.Body, "1000 parameters are not known here") {
		t.Errorf("%d parameters in %.200s", n, r.Body)
	}
}

func FuzzDecode(f *testing.F) {
	s, _ := newService(f)
	create := api.Create(s)
	for _, seed := range []string{
		"", " ", "{}", "[]", "null", "{", "}", `{"`, `{"a"`, `{"a":`, `{"a":1`, `{"a":1,`, `{"a":1,}`, `{,}`, `{"a" 1}`, `{1:1}`, `{"a":1 "b":2}`,
		`{"email":"x"}`, `{"email":"x","email":"y"}`, `{"Email":"x"}`, `{"email":null}`, `{"email":1e999}`, `{"email":-0}`,
		`{"email":{"$ne":null}}`, `{"email":"\ud800"}`, `{"email":"\u0000"}`, `{"email":[[[[[[]]]]]]}`, `{}{}`, `{}x`, "{}\x00", "\ufeff{}",
		"{\"email\":\"\xff\"}", `{"e\u006dail":"x"}`, `{"organization_name":"Acme","email":"x","password":"Admin@123"}`,
		`{"organization_name":"\u202e","email":"a@b","password":"\u0000"}`, strings.Repeat("[", 20000), strings.Repeat(" ", 64<<10+1), "\x1f\x8b",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		r := createRequest(base64.StdEncoding.EncodeToString(body))
		r.IsBase64Encoded = true
		response := call(t, create, r)
		understood := slices.Contains([]int{201, 409, 422}, response.StatusCode)
		if !understood && response.StatusCode != 400 && response.StatusCode != 413 {
			t.Errorf("%d %s", response.StatusCode, response.Body)
		}
		if understood && !json.Valid(body) {
			t.Errorf("%d for what is not JSON", response.StatusCode)
		}
		if response.StatusCode == 413 != (len(body) > 64<<10) {
			t.Errorf("%d for %d bytes", response.StatusCode, len(body))
		}
	})
}

func FuzzLambda(f *testing.F) {
	s, _ := newService(f)
	caller := mustCreate(f, s, "Acme", "admin@example.com")
	caller.TokenVersion = 0 // revoked, so that no request changes anything
	handlers := map[string]http.Handler{
		"get": api.Get(s), "create": api.Create(s), "login": api.Login(s), "update": api.Update(s), "delete": api.Delete(s),
	}
	for _, seed := range []struct {
		method, path, query, name, value, body string
		encoded                                bool
	}{
		{"GET", "/org/get", "organization_name=Acme", "accept", "*/*", "", false},
		{"GET", "/org/get%", "organization_name=%", "x-request-id", "client-id-1", "", false},
		{"get", "", "organization_name=a&organization_name=b", "X-Request-Id", ",", "", false},
		{"POST", "//evil.example.com/", ";", "content-type", "application/json", `{"email":"x"}`, false},
		{"POST", "/org/create", "&&=", "content-type", "application/json; charset=\xff", "{}", false},
		{"PUT", "/org/update?x=y#z", "a=%00", "host", "evil.example.com", "e30=", true},
		{"DELETE", "/org/delete", "organization_name=%ff", "X-GoLambdaProxy-ApiGw-Context", "{", "=", true},
		{"", "", "", "", "", "", false},
		{"G E T", "/\x00", "\n", "\r\n", "\x00", "\xff", false},
		{"POST", "@evil", "?", "content-length", "-1", "{}", false},
		{"POST", ":80", "#", "transfer-encoding", "chunked", "{}", false},
		{"POST", "/../..", "organization_name=" + strings.Repeat("%E0%A4%95", 100), "cookie", "a=b", "{}", false},
	} {
		f.Add(seed.method, seed.path, seed.query, seed.name, seed.value, seed.body, seed.encoded)
	}
	f.Fuzz(func(t *testing.T, method, path, query, name, value, body string, encoded bool) {
		for endpoint, h := range handlers {
			r := as(caller, withHeader(withBody(request(method, path, query), body), name, value))
			r.IsBase64Encoded = encoded
			response := callUnchecked(t, h, r)
			checkDocumented(t, endpoint, response)
			if response.StatusCode >= 500 {
				t.Errorf("%s: %d %s", endpoint, response.StatusCode, response.Body)
			}
		}
	})
}
