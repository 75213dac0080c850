package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/go-cmp/cmp"
)

// endpoints returns the endpoints that take a body, with the authorization that
// they need.
func endpoints(token string) []struct{ method, path, authorization string } {
	return []struct{ method, path, authorization string }{
		{"POST", "/org/create", ""},
		{"POST", "/admin/login", ""},
		{"PUT", "/org/update", "Bearer " + token},
	}
}

func TestBadRequest(t *testing.T) {
	t.Parallel()
	c := newClient(t)
	o := newTenant(c)
	for _, e := range endpoints(o.token) {
		t.Run(strings.TrimPrefix(e.path, "/"), func(t *testing.T) {
			for name, body := range map[string]string{
				"Empty":        "",
				"Space":        " \n",
				"Text":         "organization_name=Acme",
				"Cut":          `{"email": "a@example.com"`,
				"TrailingText": `{"email": "a@example.com"} x`,
				"TwoObjects":   `{"email": "a@example.com"}{}`,
				"Null":         "null",
				"Number":       "17",
				"String":       `"email"`,
				"Array":        `[{"email": "a@example.com"}]`,
				"UnknownField": `{"email": "a@example.com", "role": "root"}`,
				"OtherCase":    `{"Email": "a@example.com"}`,
				"DoubledField": `{"email": "a@example.com", "email": "b@example.com"}`,
				"EscapedTwice": `{"email": "a@example.com", "\u0065mail": "b@example.com"}`,
				"Deep":         strings.Repeat("[", 20000),
			} {
				t.Run(name, func(t *testing.T) {
					c := newClient(t)
					c.call(e.method, e.path, body, "Authorization", e.authorization).want(t, 400)
				})
			}
			t.Run("NotUTF8", func(t *testing.T) {
				c := newClient(t)
				a := c.call(e.method, e.path, "{\"email\": \"\xff\xfe@example.com\"}", "Authorization", e.authorization)
				if c.gateway.notUTF8 != (refusal{}) {
					a.wantRefusal(t, c.gateway.notUTF8)
				} else {
					a.want(t, 400)
				}
			})
		})
	}
	o.wantIntact(c)
}

func TestBodySize(t *testing.T) {
	t.Parallel()
	c := newClient(t)
	o := newTenant(c)
	// White space fills the body to the limit, or to one byte more.
	pad := func(body string, size int) string { return body + strings.Repeat(" ", size-len(body)) }
	r := newRegistration()
	body := fmt.Sprintf(`{"organization_name":%q,"email":%q,"password":%q}`, r.Name, r.Email, r.Password)
	c.call("POST", "/org/create", pad(body, 64<<10+1)).want(t, 413)
	c.get(r.Name).want(t, 404)
	c.call("POST", "/org/create", pad(body, 64<<10)).want(t, 201)
	for _, e := range endpoints(o.token) {
		c.call(e.method, e.path, pad("{}", 64<<10+1), "Authorization", e.authorization).want(t, 413)
		c.call(e.method, e.path, `{"email": "`+strings.Repeat("a", 200<<10)+`"}`, "Authorization", e.authorization).want(t, 413)
	}
}

func TestContentType(t *testing.T) {
	t.Parallel()
	c := newClient(t)
	o := newTenant(c)
	for _, e := range endpoints(o.token) {
		for _, contentType := range []string{
			"", // none
			"application/x-www-form-urlencoded",
			"text/plain",
			"application/json; charset=iso-8859-1",
			"application/jsonp",
			"application/json, text/plain",
			"json",
		} {
			body := `{"email": "a@example.com"}`
			if strings.HasSuffix(contentType, "urlencoded") {
				body = "organization_name=Acme&email=a%40example.com&password=secret-123"
			}
			a := c.call(e.method, e.path, body, "Content-Type", contentType, "Authorization", e.authorization)
			if a.status != 415 {
				t.Errorf("Content-Type %q: %v; want 415", contentType, a)
			}
		}
	}
	for _, contentType := range []string{
		"application/json", "application/json;charset=UTF-8", "Application/JSON", "application/vnd.example+json",
	} {
		if a := c.call("POST", "/org/create", newRegistration(), "Content-Type", contentType); a.status != 201 {
			t.Errorf("Content-Type %q: %v; want 201", contentType, a)
		}
	}
}

func TestUnauthorized(t *testing.T) {
	t.Parallel()
	c := newClient(t)
	c.call("PUT", "/org/update", object{"organization_name": "Acme"}).wantRefusal(t, c.gateway.unauthorized)
	c.call("DELETE", "/org/delete", nil).wantRefusal(t, c.gateway.unauthorized)
	c.call("GET", "/org/members", nil).wantRefusal(t, c.gateway.unauthorized)

	// Each of these revokes the token.
	for name, revoke := range map[string]func(tenant) answer{
		"Email": func(o tenant) answer {
			return c.update(o.token, object{"email": "new-" + o.Email, "current_password": o.Password})
		},
		"Password": func(o tenant) answer {
			return c.update(o.token, object{"password": newPassword(), "current_password": o.Password})
		},
		"Deletion": func(o tenant) answer { return c.delete(o.token) },
	} {
		t.Run(name, func(t *testing.T) {
			o := newTenant(c)
			second := mustLogin(c, o.Email, o.Password)
			revoke(o).want(t, 200)
			for _, token := range []string{o.token, second} {
				c.update(token, object{"organization_name": "Acme"}).want(t, 401)
				c.delete(token).want(t, 401)
				c.members(token, "").want(t, 401)
			}
		})
	}
}

func TestLoginRefused(t *testing.T) {
	t.Parallel()
	c := newClient(t)
	o := newTenant(c)
	login := func(email, password string) answer {
		return c.call("POST", "/admin/login", object{"email": email, "password": password},
			"X-Request-Id", "refused-"+unique()).want(t, 401)
	}
	wrong := login(o.Email, newPassword())
	for name, a := range map[string]answer{
		"unknown email": login(unique()+"@example.com", o.Password),
		"no email":      login("nobody", o.Password),
		"short":         login(o.Email, "x"),
		"prefix":        login(o.Email, o.Password[:len(o.Password)-1]),
		"longer":        login(o.Email, o.Password+"x"),
		"other case":    login(o.Email, strings.ToUpper(o.Password)),
	} {
		same := strings.ReplaceAll(string(a.body), a.header.Get("X-Request-Id"), wrong.header.Get("X-Request-Id"))
		if same != string(wrong.body) {
			t.Errorf("%s is answered by %s, a wrong password by %s", name, a.body, wrong.body)
		}
		if diff := cmp.Diff(visible(wrong), visible(a)); diff != "" {
			t.Errorf("%s has other headers than a wrong password:\n%s", name, diff)
		}
	}
	mustLogin(c, strings.ToUpper(o.Email), o.Password)
	mustLogin(c, " "+o.Email+"\u3000", o.Password)
}

// visible returns the headers without those that differ between any requests.
func visible(a answer) http.Header {
	h := a.header.Clone()
	for _, name := range []string{"Date", "X-Request-Id", "Apigw-Requestid"} {
		h.Del(name)
	}
	return h
}

func TestForbidden(t *testing.T) {
	t.Parallel()
	c := newClient(t)
	o, other := newTenant(c), newTenant(c)
	t.Run("Confirmation", func(t *testing.T) {
		for _, name := range []string{other.Name, "Nobody " + unique()} {
			c.delete(o.token, name).want(t, 403)
		}
		c.delete(o.token, "").wantFields(t, "organization_name")
		c.delete(o.token, o.Name, o.Name).wantFields(t, "organization_name")
	})
	t.Run("CurrentPassword", func(t *testing.T) {
		for _, change := range []object{
			{"password": newPassword()},
			{"email": "new-" + o.Email},
			{"password": newPassword(), "email": "new-" + o.Email, "organization_name": "New " + o.Name},
		} {
			for _, password := range []string{other.Password, "x"} {
				change["current_password"] = password
				c.update(o.token, change).want(t, 403)
			}
		}
	})
	o.wantIntact(c)
	other.wantIntact(c)
	c.delete(o.token, strings.ToUpper(o.Name)).want(t, 200)
}

// TestForgedTokens sends tokens that an attacker without the secret can make.
func TestForgedTokens(t *testing.T) {
	t.Parallel()
	c := newClient(t)
	o, victim := newTenant(c), newTenant(c)
	genuine := strings.Split(o.token, ".")
	victims := strings.Split(victim.token, ".")
	forge := func(method jwt.SigningMethod, key any) string {
		parsed := parse(t, victim.token)
		return sign(t, method, key, parsed.Header, parsed.Claims.(jwt.MapClaims))
	}
	for name, authorization := range map[string]string{
		"OtherSecret":    "Bearer " + forge(jwt.SigningMethodHS256, []byte(strings.Repeat("s", 64))),
		"EmptySecret":    "Bearer " + forge(jwt.SigningMethodHS256, []byte{}),
		"None":           "Bearer " + forge(jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType),
		"OtherPayload":   "Bearer " + genuine[0] + "." + victims[1] + "." + genuine[2],
		"NoSignature":    "Bearer " + victims[0] + "." + victims[1] + ".",
		"TwoParts":       "Bearer " + victims[0] + "." + victims[1],
		"CutSignature":   "Bearer " + victim.token[:len(victim.token)-1],
		"LongSignature":  "Bearer " + victim.token + "AAAA",
		"Text":           "Bearer let-me-in-for-i-am-the-admin",
		"NoToken":        "Bearer",
		"NoScheme":       victim.token,
		"OtherScheme":    "Basic " + victim.token,
		"TwoTokens":      "Bearer " + victim.token + " " + victim.token,
		"TokensByComma":  "Bearer " + o.token + ", Bearer " + victim.token,
		"PercentEncoded": "Bearer " + strings.ReplaceAll(victim.token, ".", "%2e"),
	} {
		t.Run(name, func(t *testing.T) {
			c := newClient(t)
			c.call("PUT", "/org/update", object{"organization_name": "Mine " + unique()}, "Authorization", authorization).
				wantRefusal(t, c.gateway.forbidden)
			c.call("DELETE", "/org/delete", nil, "Authorization", authorization).wantRefusal(t, c.gateway.forbidden)
		})
	}
	o.wantIntact(c)
	victim.wantIntact(c)
	c.call("PUT", "/org/update", object{"organization_name": o.Name}, "Authorization", "bearer "+o.token).want(t, 200)
}

// parse returns a token without verifying it.
func parse(t testing.TB, token string) *jwt.Token {
	t.Helper()
	parsed, _, err := jwt.NewParser().ParseUnverified(token, jwt.MapClaims{})
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}

// sign returns a token with the header of another token, except its algorithm.
func sign(t testing.TB, method jwt.SigningMethod, key any, header map[string]any, claims jwt.MapClaims) string {
	t.Helper()
	token := jwt.NewWithClaims(method, claims)
	for name, value := range header {
		if name != "alg" {
			token.Header[name] = value
		}
	}
	signed, err := token.SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

func TestNotFound(t *testing.T) {
	t.Parallel()
	c := newClient(t)
	c.get("Nobody "+unique()).want(t, 404)
	for _, r := range []struct{ method, path string }{
		{"POST", "/"}, {"GET", "/org"}, {"GET", "/org/create"}, {"POST", "/org/get"}, {"GET", "/org/get/x"},
		{"GET", "/org/update"}, {"POST", "/org/delete"}, {"GET", "/admin/login"}, {"PUT", "/admin/login"}, {"GET", "/ORG/get"},
	} {
		c.call(r.method, r.path, nil).wantRefusal(t, c.gateway.noRoute)
	}
}

func TestConflict(t *testing.T) {
	t.Parallel()
	c := newClient(t)
	o, other := newTenant(c), newTenant(c)
	word := strings.TrimPrefix(o.Name, "Tenant ")
	for _, name := range []string{
		o.Name,
		strings.ToUpper(o.Name),
		"tenant_" + word,
		"  Tenant --- " + word + "!!",
		"Ｔｅｎａｎｔ " + word,            // full-width
		"Te\u200bnant\u00a0" + word, // with an invisible character
	} {
		r := newRegistration()
		r.Name = name
		c.create(r).want(t, 409)
		c.update(other.token, object{"organization_name": name}).want(t, 409)
		if got := c.get(name).want(t, 200); got.text("id") != o.id {
			t.Errorf("%v; want %s", got, o.id)
		}
	}
	for _, email := range []string{o.Email, strings.ToUpper(o.Email)} {
		r := newRegistration()
		r.Email = email
		c.create(r).want(t, 409)
		c.get(r.Name).want(t, 404)
		c.update(other.token, object{"email": email, "current_password": other.Password}).want(t, 409)
		// The update changes everything or nothing.
		c.update(other.token, object{
			"organization_name": r.Name, "password": newPassword(), "email": email, "current_password": other.Password,
		}).want(t, 409)
		c.get(r.Name).want(t, 404)
	}
	o.wantIntact(c)
	other.wantIntact(c)
	c.update(other.token, object{"organization_name": other.Name}).want(t, 200)

	// A refused create leaves nothing behind.
	r := newRegistration()
	r.Name = o.Name
	c.create(r).want(t, 409)
	c.login(r.Email, r.Password).want(t, 401)
	r.Name = "Tenant " + unique()
	c.create(r).want(t, 201)
}

func TestInvalid(t *testing.T) {
	t.Parallel()
	c := newClient(t)
	o := newTenant(c)
	t.Run("AllFieldsAtOnce", func(t *testing.T) {
		for _, body := range []object{
			{},
			{"organization_name": "", "email": "", "password": ""},
			{"organization_name": "-!-", "email": "admin", "password": "short"},
			{"organization_name": nil, "email": 1, "password": true},
			{"organization_name": 17, "email": "admin", "password": ""},
		} {
			c.call("POST", "/org/create", body).wantFields(t, "organization_name", "email", "password")
		}
		for _, body := range []object{{}, {"email": "", "password": ""}, {"email": object{}, "password": []string{}}} {
			c.call("POST", "/admin/login", body).wantFields(t, "email", "password")
		}
		c.update(o.token, object{"organization_name": "", "email": "x", "password": "x", "current_password": ""}).
			wantFields(t, "organization_name", "email", "password", "current_password")
		c.update(o.token, object{"organization_name": 1, "email": 1, "password": 1, "current_password": 1}).
			wantFields(t, "organization_name", "email", "password", "current_password")
	})
	t.Run("Update", func(t *testing.T) {
		c.update(o.token, object{}).want(t, 422)
		c.update(o.token, object{"current_password": o.Password}).want(t, 422)
		c.update(o.token, object{"password": newPassword()}).wantFields(t, "current_password")
		c.update(o.token, object{"email": "new-" + o.Email}).wantFields(t, "current_password")
		// A field of the wrong type still needs current_password.
		for _, field := range []string{"email", "password"} {
			c.update(o.token, object{field: 1, "current_password": o.Password}).wantFields(t, field)
		}
	})
	t.Run("Get", func(t *testing.T) {
		c.call("GET", "/org/get", nil).wantFields(t, "organization_name")
		c.get("").wantFields(t, "organization_name")
		c.get("...").wantFields(t, "organization_name")
		c.call("GET", "/org/get?organization_name=a&organization_name=b", nil).wantFields(t, "organization_name")
	})
	for field, values := range map[string][]string{
		"organization_name": {
			" \t ", "***", strings.Repeat("n", 101), "a\u0000b", "a\u001bb", "a\u202eb", "a\ufffdb",
		},
		"email": {
			"admin", "admin@", "@example.com", "a b@example.com", "Admin <admin@example.com>",
			"a@example.com,b@example.com", "a\u0000@example.com", "a@example.com\r\nBcc: b@example.com",
			strings.Repeat("e", 243) + "@example.com", // 255 bytes
		},
		"password": {"1234567", "Pw-1234", strings.Repeat("Pw-1", 32) + "2", strings.Repeat("üöä", 43), "zzzzzzzzzz", "zyzyzyzyzy"},
	} {
		t.Run(field, func(t *testing.T) {
			c := newClient(t)
			for _, value := range values {
				body := object{"organization_name": "Tenant " + unique(), "email": unique() + "@example.com", "password": newPassword()}
				body[field] = value
				c.call("POST", "/org/create", body).wantFields(t, field)
				c.update(o.token, object{field: value, "current_password": o.Password}).wantFields(t, field)
			}
		})
	}
	// Common passwords are refused.
	t.Run("CommonPassword", func(t *testing.T) {
		for _, password := range []string{"password", "12345678", "123456789", "qwertyuiop", "iloveyou", "password1"} {
			r := newRegistration()
			r.Password = password
			if a := c.create(r); a.status != 422 {
				t.Errorf("password %s: %v; want 422", password, a)
			}
		}
	})
	t.Run("Bounds", func(t *testing.T) {
		for _, r := range []registration{
			{Name: strings.Repeat("n", 86) + unique(), Email: unique() + "@example.com", Password: newPassword()},
			{Name: unique(), Email: strings.Repeat("e", 228) + unique() + "@example.com", Password: newPassword()},
			{Name: unique(), Email: unique() + "@example.com", Password: "Pw-12345"},
			{Name: unique(), Email: unique() + "@example.com", Password: secrets.add(unique() + strings.Repeat("ü", 114))},
		} {
			a := c.create(r).want(t, 201)
			if collection := a.text("collection_name"); len(collection) > len("org_")+64 {
				t.Errorf("%v: the collection's name has %d bytes", a, len(collection))
			}
			if got := c.get(r.Name).want(t, 200); got.text("id") != a.text("id") {
				t.Errorf("%v; want %s", got, a.text("id"))
			}
			mustLogin(c, r.Email, r.Password)
		}
	})
	o.wantIntact(c)
}

func TestRequestID(t *testing.T) {
	t.Parallel()
	c := newClient(t)
	for _, id := range []string{"12345678", "a.b-c_D9" + unique(), strings.Repeat("i", 64)} {
		for _, a := range []answer{
			c.call("GET", "/org/get", nil, "X-Request-Id", id),
			c.call("POST", "/org/create", newRegistration(), "X-Request-Id", id),
		} {
			if got := a.header.Get("X-Request-Id"); got != id {
				t.Errorf("X-Request-Id %q comes back as %q", id, got)
			}
		}
	}
	seen := map[string]bool{}
	for _, id := range []string{"", "", "short", strings.Repeat("i", 65), "<script>alert(1)</script>", "first-id,second-id", "not an id"} {
		a := c.call("GET", "/org/get", nil, "X-Request-Id", id)
		got := a.header.Get("X-Request-Id")
		if got == "" || id != "" && strings.Contains(got, id) {
			t.Errorf("X-Request-Id %q comes back as %q", id, got)
		}
		if seen[got] && c.gateway.uniqueIDs {
			t.Errorf("two requests have the id %q", got)
		}
		seen[got] = true
	}
}

func TestCORS(t *testing.T) {
	t.Parallel()
	c := newClient(t)
	const origin = "https://app.example.com"
	for _, path := range []string{"/org/create", "/org/update"} {
		a := c.call("OPTIONS", path, nil, "Origin", origin, "Access-Control-Request-Method", "PUT",
			"Access-Control-Request-Headers", "authorization,content-type")
		if a.status != c.gateway.preflight {
			t.Errorf("%v; want %d", a, c.gateway.preflight)
		}
		for name, want := range map[string]string{"Allow-Origin": "*", "Allow-Methods": "PUT", "Allow-Headers": "Authorization"} {
			if got := a.header.Get("Access-Control-" + name); !strings.Contains(strings.ToLower(got), strings.ToLower(want)) {
				t.Errorf("%v: Access-Control-%s is %q, which has no %s", a, name, got, want)
			}
		}
	}
	o := newTenant(c)
	for _, test := range []struct {
		a    answer
		cors bool
	}{
		{c.call("GET", "/org/get?organization_name="+unique(), nil, "Origin", origin), true},
		{c.call("DELETE", "/org/delete?organization_name="+unique(), nil, "Origin", origin, "Authorization", "Bearer "+o.token), true},
		{c.call("DELETE", "/org/delete", nil, "Origin", origin), c.gateway.corsOnRefusals},
		{c.call("DELETE", "/org/delete", nil, "Origin", origin, "Authorization", "Bearer x"), c.gateway.corsOnRefusals},
	} {
		want := ""
		if test.cors {
			want = "*"
		}
		if got := test.a.header.Get("Access-Control-Allow-Origin"); got != want {
			t.Errorf("%v: Access-Control-Allow-Origin is %q, want %q", test.a, got, want)
		}
		if got := test.a.header.Get("Access-Control-Expose-Headers"); test.cors && got != c.gateway.exposedHeaders {
			t.Errorf("%v: Access-Control-Expose-Headers is %q, want %q", test.a, got, c.gateway.exposedHeaders)
		}
	}
}
