package api_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"

	"orgservice/shared/api"
	"orgservice/shared/org"
)

// asOperator returns the request as the gateway hands it on after AWS IAM has let the
// operator pass.
func asOperator(arn string, r events.APIGatewayV2HTTPRequest) events.APIGatewayV2HTTPRequest {
	r.RequestContext.Authorizer = &events.APIGatewayV2HTTPRequestContextAuthorizerDescription{
		IAM: &events.APIGatewayV2HTTPRequestContextAuthorizerIAMDescription{UserARN: arn},
	}
	return r
}

// TestOperatorRequired calls the operator's routes with and without an operator whom the
// gateway knows.
func TestOperatorRequired(t *testing.T) {
	s, _ := newService(t)
	s.Mailer = noMail{}
	caller := mustCreate(t, s, "Acme", "a@example.com")
	route := "/operator/organizations/{id}"
	path := "/operator/organizations/" + caller.OrganizationID
	s.DeleteGrace = time.Hour
	deleted := mustCreate(t, s, "Dune", "d@example.com")
	if _, err := s.Delete(t.Context(), deleted, org.DeleteRequest{}); err != nil {
		t.Fatal(err)
	}
	restored := "/operator/organizations/" + deleted.OrganizationID
	again := func() {
		caller, _ := mustLogin(t, s, "d@example.com")
		if _, err := s.Delete(t.Context(), caller, org.DeleteRequest{}); err != nil {
			t.Fatal(err)
		}
	}
	for _, test := range []struct {
		handler func(*org.Service) http.Handler
		request events.APIGatewayV2HTTPRequest
		route   string
		before  func()
	}{
		{api.ListOrganizations, request("GET", "/operator/organizations", ""), "GET /operator/organizations", nil},
		{api.InviteOwner, withBody(request("POST", "/operator/organizations", ""), `{"organization_name":"Bolt","email":"b@example.com"}`), "POST /operator/organizations", nil},
		{api.ShowOrganization, request("GET", path, ""), "GET " + route, nil},
		{api.Suspend, withBody(request("POST", path+"/suspend", ""), `{"reason":"unpaid"}`), "POST " + route + "/suspend", nil},
		{api.Reactivate, withBody(request("POST", path+"/reactivate", ""), `{"reason":"paid"}`), "POST " + route + "/reactivate", nil},
		{api.RenameOrganization, withBody(request("POST", path+"/rename", ""), `{"reason":"x","organization_name":"Echo"}`), "POST " + route + "/rename", nil},
		{api.Restore, withBody(request("POST", restored+"/restore", ""), `{"reason":"x"}`), "POST " + route + "/restore", nil},
		{api.Purge, withBody(request("POST", restored+"/purge", ""), `{"reason":"x"}`), "POST " + route + "/purge", again},
		{api.ShowOrganization, request("GET", restored, ""), "GET " + route, nil},
	} {
		if test.before != nil {
			test.before()
		}
		h, r := test.handler(s), test.request
		r.RouteKey = test.route
		for name, refused := range map[string]events.APIGatewayV2HTTPRequest{
			"nobody": r, "an admin": as(caller, r), "without a name": asOperator("", r),
			"a header": withHeader(withHeader(r, "authorization", "AWS4-HMAC-SHA256 Credential=x"), "x-amzn-iam-userarn", "arn:aws:iam::123456789012:user/olivia"),
		} {
			response := call(t, h, refused)
			if problemOf(t, response).Type != "/problems/operator-required" || response.StatusCode != 403 {
				t.Errorf("%s, %s: %d %s", test.route, name, response.StatusCode, response.Body)
			}
		}
		response, err := api.Lambda(h)(t.Context(), asOperator("arn:aws:iam::123456789012:user/olivia", r))
		if err != nil || response.StatusCode/100 != 2 {
			t.Errorf("%s: %d %s, %v", test.route, response.StatusCode, response.Body, err)
		}
	}
	if _, _, err := s.Me(t.Context(), caller); err == nil {
		t.Error("the organization was not suspended")
	}
}
