package api_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/google/go-cmp/cmp"
	"go.mongodb.org/mongo-driver/v2/bson"

	"orgservice/shared/api"
	"orgservice/shared/auth"
	"orgservice/shared/org"
)

const serviceSecret = "a secret of another service: long"

// introspect returns the handler for a service that has serviceSecret.
func introspect(s *org.Service) http.Handler {
	verifier, err := auth.NewVerifier(tokenSecret)
	if err != nil {
		panic(err)
	}
	return api.Introspect(s, secretsOf("an older secret of that service", serviceSecret, "with/signs+that=need%encoding"), func(_ context.Context, token string) (auth.Caller, error) {
		return verifier.Verify(token)
	})
}

func secretsOf(secrets ...string) func(context.Context, ...string) (bool, error) {
	s, err := auth.NewSecrets(context.Background(), func(context.Context) ([]string, error) { return secrets, nil })
	if err != nil {
		panic(err)
	}
	return s.Has
}

// goodToken returns a token of nobody, which is well signed.
func goodToken(t *testing.T) string {
	t.Helper()
	signer, err := auth.NewSigner(tokenSecret)
	if err != nil {
		t.Fatal(err)
	}
	token, err := signer.Sign(auth.Caller{
		AdminID: bson.NewObjectID().Hex(), OrganizationID: bson.NewObjectID().Hex(), SessionID: "s", ExpiresAt: time.Now().Add(time.Hour),
	}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// asService returns the request as a service sends it that has the secret, with a form.
func asService(r events.APIGatewayV2HTTPRequest) events.APIGatewayV2HTTPRequest {
	r = withHeader(r, "authorization", "Bearer "+serviceSecret)
	return withHeader(r, "content-type", "application/x-www-form-urlencoded")
}

func introspectRequest(token string) events.APIGatewayV2HTTPRequest {
	return asService(withBody(request("POST", "/admin/introspect", ""), "token="+url.QueryEscape(token)))
}

func TestIntrospect(t *testing.T) {
	t.Parallel()
	s, _ := newService(t)
	h := introspect(s)
	caller := mustCreate(t, s, "Acme", "admin@example.com")
	_, token := mustLogin(t, s, "admin@example.com")
	ask := func(token string) map[string]any {
		t.Helper()
		response := call(t, h, introspectRequest(token))
		wantStatus(t, response, 200)
		var answer map[string]any
		if err := json.Unmarshal([]byte(response.Body), &answer); err != nil {
			t.Fatal(err)
		}
		return answer
	}
	got := ask(token)
	claims := mustVerify(t, token)
	want := map[string]any{
		"active": true, "token_type": "Bearer", "iss": auth.Issuer, "client_id": auth.ClientID, "roles": []any{"owner"}, "aud": []any{auth.Audience},
		"sub": caller.AdminID, "org": caller.OrganizationID, "sid": claims.SessionID, "exp": float64(claims.ExpiresAt.Unix()),
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("a good token (-want +got):\n%s", diff)
	}

	// The role is that of the record, whatever the token says, and the audience that of the
	// token.
	signer, err := auth.NewSigner(tokenSecret)
	if err != nil {
		t.Fatal(err)
	}
	signer.Audiences = []string{"https://billing.example.com"}
	older := claims
	older.Role = "member"
	oldToken, err := signer.Sign(older, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if got := ask(oldToken); !cmp.Equal(got["roles"], []any{"owner"}) || !cmp.Equal(got["aud"], []any{auth.Audience, "https://billing.example.com"}) {
		t.Errorf("a token with another role and one more audience: %v", got)
	}

	inactive := map[string]any{"active": false}
	other, err := auth.NewSigner([]byte(strings.Repeat("x", auth.MinSecretBytes)))
	if err != nil {
		t.Fatal(err)
	}
	forged, err := other.Sign(claims, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	for name, token := range map[string]string{
		"none": "x", "forged": forged, "of nobody": goodToken(t), "a refresh token": auth.NewOpaqueToken(auth.NewOpaqueID()).Text(), "long": strings.Repeat("x", 5000),
	} {
		if diff := cmp.Diff(inactive, ask(token)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}

	// What the service would refuse is not active: the email must be verified first, the
	// token has expired, the login has ended.
	s.VerifiedOnly = true
	if diff := cmp.Diff(inactive, ask(token)); diff != "" {
		t.Errorf("not verified (-want +got):\n%s", diff)
	}
	s.VerifiedOnly = false
	s.Now = func() time.Time { return claims.ExpiresAt }
	if diff := cmp.Diff(inactive, ask(token)); diff != "" {
		t.Errorf("expired (-want +got):\n%s", diff)
	}
	s.Now = nil
	if diff := cmp.Diff(want, ask(token)); diff != "" {
		t.Errorf("still good (-want +got):\n%s", diff)
	}
	if err := s.EndSession(t.Context(), claims, claims.SessionID); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(inactive, ask(token)); diff != "" {
		t.Errorf("ended (-want +got):\n%s", diff)
	}
}

// TestIntrospectErr sends what is refused, first of all without a secret.
func TestIntrospectErr(t *testing.T) {
	s := serviceOn(t, nil, "none")
	basic := func(user, password string) string {
		return "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
	}
	for authorization, want := range map[string]int{
		"": 401, "Bearer": 401, "Bearer ": 401, "Bearer x": 401, serviceSecret: 401, "Basic " + serviceSecret: 401, "Bearer " + serviceSecret + "x": 401,
		basic(serviceSecret, ""): 401, basic("", ""): 401, basic("billing", serviceSecret[1:]): 401, "Bearer " + goodToken(t): 401,
		"Bearer " + serviceSecret: 200, "bearer  " + serviceSecret + " ": 200, basic("billing", serviceSecret): 200, basic("", serviceSecret): 200,
		basic("billing", "an older secret of that service"): 200, basic("billing", "with/signs+that=need%encoding"): 200,
		basic("bil%6cing", url.QueryEscape("with/signs+that=need%encoding")): 200, "Bearer " + url.QueryEscape("with/signs+that=need%encoding"): 401,
	} {
		for body, wrong := range map[string]int{"token=x": want, "": 422, "x=1": 422, strings.Repeat("x", 64<<10+1): 413} {
			if want == 401 {
				wrong = 401
			}
			r := introspectRequest("")
			r.Body = body
			if response := call(t, introspect(s), withHeader(r, "authorization", authorization)); response.StatusCode != wrong {
				t.Errorf("%q, %.20q: %d %s; want %d", authorization, body, response.StatusCode, response.Body, wrong)
			}
		}
	}

	// The secret counts nowhere but in the header.
	secret := "client_secret=" + url.QueryEscape(serviceSecret)
	inQuery := withHeader(introspectRequest("x"), "authorization", "")
	inForm := withBody(inQuery, inQuery.Body+"&"+secret)
	inQuery.RawQueryString = secret
	for name, r := range map[string]events.APIGatewayV2HTTPRequest{"query": inQuery, "form": inForm} {
		if response := call(t, introspect(s), r); response.StatusCode != 401 {
			t.Errorf("the secret in the %s: %d %s; want 401", name, response.StatusCode, response.Body)
		}
	}

	r := introspectRequest("x")
	if response := call(t, api.Introspect(s, secretsOf(), nil), r); response.StatusCode != 401 {
		t.Errorf("without any secret: %d", response.StatusCode)
	}
	if response := call(t, api.Introspect(s, secretsOf(), nil), withHeader(r, "authorization", "Bearer ")); response.StatusCode != 401 {
		t.Errorf("without any secret: %d", response.StatusCode)
	}
	for body, want := range map[string]int{
		"token=": 422, "token_type_hint=access_token": 422, "token=x&token=y": 400, "token=x&client_id=billing&client_secret=y&resource=": 200, "token=%": 400, "token=x;y": 400,
		"token=%ff": 400, "%ff=x": 400, `{"token":"x"}`: 422, "token=x&token_type_hint=refresh_token": 200, "token=%00": 200,
	} {
		r.Body = body
		if response := call(t, introspect(s), r); response.StatusCode != want {
			t.Errorf("%q: %d %s; want %d", body, response.StatusCode, response.Body, want)
		}
	}
	r.Body = `{"token":"x"}`
	for contentType, want := range map[string]int{"application/json": 415, "": 415, "multipart/form-data": 415, "application/x-www-form-urlencoded; charset=latin1": 415} {
		if response := call(t, introspect(s), withHeader(r, "content-type", contentType)); response.StatusCode != want {
			t.Errorf("%q: %d %s; want %d", contentType, response.StatusCode, response.Body, want)
		}
	}
	r.Body = "token=x"
	away := api.Introspect(s, func(context.Context, ...string) (bool, error) { return false, errors.New("no secrets") }, nil)
	if response := call(t, away, r); response.StatusCode != 500 {
		t.Errorf("without secrets: %d %s", response.StatusCode, response.Body)
	}
	failing := api.Introspect(s, secretsOf(serviceSecret), func(context.Context, string) (auth.Caller, error) {
		return auth.Caller{}, errors.New("no keys")
	})
	if response := call(t, failing, r); response.StatusCode != 500 {
		t.Errorf("without keys: %d %s", response.StatusCode, response.Body)
	}
}
