//go:build sam

package sam

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/aws/aws-lambda-go/events"
	"github.com/google/go-cmp/cmp"

	"orgservice/shared/org"
)

// TestInvoke runs every function with "sam local invoke". It uses the sample events
// to create, use and delete the example organization. It needs
// ORGSERVICE_SAM_BUILD, the folder of the built template, and
// ORGSERVICE_SAM_NETWORK, a Docker network with an empty database.
func TestInvoke(t *testing.T) {
	i := invoker{
		build:   need(t, "ORGSERVICE_SAM_BUILD"),
		network: need(t, "ORGSERVICE_SAM_NETWORK"),
	}

	report := invoke[org.Report](t, i, "Reconcile", sample(t, "reconcile"))
	if diff := cmp.Diff(org.Report{Finished: []org.Finding{}, Undone: []org.Finding{}, Repaired: []org.Finding{}, Removed: []org.Finding{}, NeedsAttention: []org.Finding{}, Purged: []org.Finding{}}, report); diff != "" {
		t.Errorf("reconcile of an empty database (-want +got):\n%s", diff)
	}

	var created struct {
		ID         string `json:"id"`
		Name       string `json:"organization_name"`
		Collection string `json:"collection_name"`
	}
	i.call(t, "Create", sample(t, "create"), 201, &created)
	if created.ID == "" || created.Name != "Akshay Pvt Ltd" || created.Collection != "org_akshay_pvt_ltd" {
		t.Errorf("created %+v", created)
	}
	i.call(t, "Create", sample(t, "create"), 409, nil)

	got := created
	got.Name = ""
	i.call(t, "Get", sample(t, "get"), 200, &got)
	if got != created {
		t.Errorf("got %+v after creating %+v", got, created)
	}

	type tokens struct {
		Access    string `json:"access_token"`
		ExpiresIn int    `json:"expires_in"`
		Refresh   string `json:"refresh_token"`
	}
	var login tokens
	i.call(t, "Login", sample(t, "login"), 200, &login)
	if login.Access == "" || login.ExpiresIn != 3600 || login.Refresh == "" {
		t.Errorf("tokens of %d and %d bytes, the first for %d seconds", len(login.Access), len(login.Refresh), login.ExpiresIn)
	}
	refresh := sample(t, "refresh")
	i.call(t, "Refresh", refresh, 401, nil)
	refresh["body"] = fmt.Sprintf(`{"refresh_token":%q}`, login.Refresh)
	i.call(t, "Refresh", refresh, 200, &login)

	introspect := sample(t, "introspect")
	i.call(t, "Introspect", introspect, 401, nil)
	at(t, introspect, "headers")["authorization"] = "Bearer for-development-only-everybody-knows-it" // local/env.json
	introspect["body"] = base64.StdEncoding.EncodeToString([]byte("token=" + login.Access))
	var introspection struct {
		Active bool   `json:"active"`
		Org    string `json:"org"`
	}
	i.call(t, "Introspect", introspect, 200, &introspection)
	if !introspection.Active || introspection.Org != created.ID {
		t.Errorf("the new token: %+v", introspection)
	}

	// The token of the sample is valid, but its admin does not exist.
	decision := invoke[verdict](t, i, "Authorizer", sample(t, "authorizer"))
	callerContext := at(t, sample(t, "update"), "requestContext", "authorizer", "lambda")
	if diff := cmp.Diff(verdict{IsAuthorized: true, Context: callerContext}, decision); diff != "" {
		t.Errorf("verdict on the sample's token (-want +got):\n%s", diff)
	}
	i.call(t, "Update", sample(t, "update"), 401, nil)

	authorizer := sample(t, "authorizer")
	authorizer["identitySource"] = []any{"Bearer " + login.Access + "x"}
	if decision = invoke[verdict](t, i, "Authorizer", authorizer); decision.IsAuthorized || len(decision.Context) != 1 || decision.Context["reason"] == nil {
		t.Errorf("verdict on a forged token: %+v", decision)
	}
	authorizer["identitySource"] = []any{"Bearer " + login.Access}
	decision = invoke[verdict](t, i, "Authorizer", authorizer)
	if !decision.IsAuthorized || decision.Context["organization_id"] != created.ID {
		t.Fatalf("verdict on a token of %s: %+v", created.ID, decision)
	}
	// as returns a sample event with the caller of the new token.
	as := func(name string) map[string]any {
		event := sample(t, name)
		at(t, event, "requestContext", "authorizer")["lambda"] = decision.Context
		return event
	}

	var me struct {
		Email          string `json:"email"`
		OrganizationID string `json:"organization_id"`
	}
	i.call(t, "Me", as("me"), 200, &me)
	if me.Email != "admin@example.com" || me.OrganizationID != created.ID {
		t.Errorf("the token of %s is that of %+v", created.ID, me)
	}
	var listed struct {
		Members []struct {
			Email string `json:"email"`
			Role  string `json:"role"`
		} `json:"members"`
	}
	i.call(t, "Members", as("members"), 200, &listed)
	if len(listed.Members) != 1 || listed.Members[0].Email != me.Email || listed.Members[0].Role != "owner" {
		t.Errorf("members %+v", listed)
	}
	// No mail server is there, so nobody gets the mail.
	var invited struct {
		ID    string `json:"id"`
		Email string `json:"email"`
		Role  string `json:"role"`
	}
	i.call(t, "Invite", as("invite"), 201, &invited)
	var open struct {
		Invitations []struct {
			ID string `json:"id"`
		} `json:"invitations"`
	}
	i.call(t, "Invitations", as("invitations"), 200, &open)
	if len(open.Invitations) != 1 || open.Invitations[0].ID != invited.ID || invited.Email != "colleague@example.com" || invited.Role != "member" {
		t.Errorf("invited %+v, and listed %+v", invited, open)
	}
	// The samples name nobody who is there.
	for name, function := range map[string]string{"changerole": "ChangeRole", "removemember": "RemoveMember", "withdraw": "Withdraw"} {
		i.call(t, function, as(name), 404, nil)
	}
	i.call(t, "Accept", sample(t, "accept"), 401, nil)
	i.call(t, "Reset", sample(t, "reset"), 401, nil)
	i.call(t, "Forgot", sample(t, "forgot"), 204, nil)
	i.call(t, "Verify", sample(t, "verify"), 401, nil)
	i.call(t, "Resend", as("resend"), 204, nil)
	i.call(t, "EndSession", as("endsession"), 204, nil)
	i.call(t, "EndSessions", as("endsessions"), 204, nil)
	var logins struct {
		Sessions []struct {
			Current bool `json:"current"`
		} `json:"sessions"`
	}
	i.call(t, "Sessions", as("sessions"), 200, &logins)
	if len(logins.Sessions) != 1 || !logins.Sessions[0].Current {
		t.Errorf("logins %+v; want the current one", logins)
	}

	var added struct {
		ID string `json:"id"`
	}
	i.call(t, "AddOrganization", as("addorganization"), 201, &added)
	var all struct {
		Organizations []struct {
			ID   string `json:"id"`
			Role string `json:"role"`
		} `json:"organizations"`
	}
	i.call(t, "Organizations", as("organizations"), 200, &all)
	roles := map[string]string{}
	for _, o := range all.Organizations {
		roles[o.ID] = o.Role
	}
	if len(roles) != 2 || roles[created.ID] != "owner" || roles[added.ID] != "owner" {
		t.Errorf("organizations %+v; want %s and %s", all, created.ID, added.ID)
	}
	var switched struct {
		AccessToken string `json:"access_token"`
	}
	i.call(t, "Switch", as("switch"), 200, &switched)
	if switched.AccessToken == "" {
		t.Error("no token of the other organization")
	}
	updated := created
	i.call(t, "Update", as("update"), 200, &updated)
	if updated.ID != created.ID || updated.Name != "Akshay Industries Pvt Ltd" || updated.Collection != "org_akshay_industries_pvt_ltd" {
		t.Errorf("updated %+v to %+v", created, updated)
	}
	i.call(t, "Get", sample(t, "get"), 404, nil)

	var organizations struct {
		Organizations []struct {
			ID     string `json:"id"`
			Status string `json:"status"`
		} `json:"organizations"`
	}
	i.call(t, "ListOrganizations", sample(t, "listorganizations"), 200, &organizations)
	if len(organizations.Organizations) != 2 || organizations.Organizations[0].ID != created.ID || organizations.Organizations[0].Status != "active" {
		t.Errorf("organizations of an operator: %+v", organizations)
	}
	i.call(t, "InviteOwner", sample(t, "inviteowner"), 204, nil)
	i.call(t, "ShowOrganization", sample(t, "showorganization"), 404, nil) // nor do these
	i.call(t, "Suspend", sample(t, "suspend"), 404, nil)
	i.call(t, "Reactivate", sample(t, "reactivate"), 404, nil)
	i.call(t, "RenameOrganization", sample(t, "renameorganization"), 404, nil)
	i.call(t, "Restore", sample(t, "restore"), 404, nil)
	i.call(t, "Purge", sample(t, "purge"), 404, nil)
	nobody := sample(t, "listorganizations")
	delete(at(t, nobody, "requestContext"), "authorizer")
	i.call(t, "ListOrganizations", nobody, 403, nil)

	var deleted struct {
		ID string `json:"id"`
	}
	i.call(t, "Delete", as("delete"), 200, &deleted)
	if deleted.ID != created.ID {
		t.Errorf("deleted %s, want %s", deleted.ID, created.ID)
	}
	logout := sample(t, "logout")
	logout["body"] = fmt.Sprintf(`{"refresh_token":%q}`, login.Refresh)
	i.call(t, "Logout", logout, 204, nil)

	var set struct {
		Keys []any `json:"keys"`
	}
	i.call(t, "Jwks", sample(t, "jwks"), 200, &set)
	if len(set.Keys) > 0 {
		t.Errorf("keys without any in env.json: %v", set.Keys)
	}
	i.call(t, "Health", sample(t, "health"), 200, nil)
	i.call(t, "Docs", sample(t, "docs"), 200, nil)
	report = invoke[org.Report](t, i, "Reconcile", map[string]any{"full": true})
	if len(report.NeedsAttention) > 0 {
		t.Errorf("reconcile afterwards: %+v", report.NeedsAttention)
	}
}

type verdict = events.APIGatewayV2CustomAuthorizerSimpleResponse

// need returns an environment variable, which test.sh sets.
func need(t *testing.T, name string) string {
	t.Helper()
	value := os.Getenv(name)
	if value == "" {
		t.Fatalf("%s is not set: run local/sam/test.sh", name)
	}
	return value
}

// sample returns a sample event.
func sample(t *testing.T, name string) map[string]any {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("..", "..", "events", name+".json"))
	if err != nil {
		t.Fatal(err)
	}
	var event map[string]any
	if err := json.Unmarshal(data, &event); err != nil {
		t.Fatalf("%s.json: %v", name, err)
	}
	return event
}

// at returns the object at a path of an event.
func at(t *testing.T, event map[string]any, path ...string) map[string]any {
	t.Helper()
	for _, key := range path {
		next, ok := event[key].(map[string]any)
		if !ok {
			t.Fatalf("the event has no object %s", key)
		}
		event = next
	}
	return event
}

// invoker runs functions with "sam local invoke".
type invoker struct{ build, network string }

// run runs a function and returns its response. It fails the test if the function
// returns an error.
func (i invoker) run(t *testing.T, function string, event any) []byte {
	t.Helper()
	input, err := json.Marshal(event)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "sam", "local", "invoke", function+"Function",
		"--config-file", samConfig(t), "--env-vars", filepath.Join("..", "env.json"),
		"--template", filepath.Join(i.build, "template.yaml"), "--docker-network", i.network, "--event", "-")
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(input), &stdout, &stderr
	err = cmd.Run()
	// SAM CLI exits with 0 even if the function fails.
	var failure struct {
		Message *string `json:"errorMessage"`
	}
	if err == nil {
		err = json.Unmarshal(stdout.Bytes(), &failure)
	}
	if err == nil && failure.Message != nil {
		err = fmt.Errorf("the function failed: %s", *failure.Message)
	}
	if err != nil {
		t.Fatalf("sam local invoke %sFunction: %v\n%s\n%s", function, err, stdout.String(), stderr.String())
	}
	return stdout.Bytes()
}

// invoke runs a function and decodes its response.
func invoke[T any](t *testing.T, i invoker, function string, event any) T {
	t.Helper()
	var response T
	decoder := json.NewDecoder(bytes.NewReader(i.run(t, function, event)))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&response); err != nil {
		t.Fatalf("%s: %v", function, err)
	}
	return response
}

// call runs a function with an HTTP event. It fails the test unless the response
// has the status, and decodes the body into body, unless that is nil.
func (i invoker) call(t *testing.T, function string, event any, status int, body any) {
	t.Helper()
	response := invoke[events.APIGatewayV2HTTPResponse](t, i, function, event)
	if response.StatusCode != status {
		t.Fatalf("%s answered %d %s, want %d", function, response.StatusCode, response.Body, status)
	}
	if response.Headers["X-Request-Id"] == "" || response.IsBase64Encoded {
		t.Errorf("%s answered with the headers %v, in base64: %v", function, response.Headers, response.IsBase64Encoded)
	}
	if body != nil {
		if err := json.Unmarshal([]byte(response.Body), body); err != nil {
			t.Fatalf("%s answered %s: %v", function, response.Body, err)
		}
	}
}

// samConfig returns the absolute path of samconfig.toml.
func samConfig(t *testing.T) string {
	t.Helper()
	path, err := filepath.Abs(filepath.Join("..", "..", "samconfig.toml"))
	if err != nil {
		t.Fatal(err)
	}
	return path
}
