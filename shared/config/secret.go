package config

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"orgservice/shared/awsapi"
)

const secretTimeout = 4 * time.Second

// resolve returns the value of the variable, or of the secret that it refers to.
func (env Env) resolve(ctx context.Context, name string) (string, error) {
	value := env(name)
	if !isReference(value) {
		return value, nil
	}
	secret, err := env.fetchSecret(ctx, value)
	if err != nil {
		return "", fmt.Errorf("%s: secret %s: %w", name, value, err)
	}
	return secret, nil
}

func isReference(value string) bool { return strings.HasPrefix(value, "arn:") }

// errNoSecret means that Secrets Manager has no such secret or version.
var errNoSecret = errors.New("there is no such secret or version")

// fetchSecret returns the secret that a reference names.
func (env Env) fetchSecret(ctx context.Context, reference string) (string, error) {
	// arn:partition:service:region:account:secret:name[:json-key[:stage[:version]]]
	parts := strings.Split(reference, ":")
	if len(parts) < 7 || len(parts) > 10 || parts[2] != "secretsmanager" || parts[5] != "secret" {
		return "", errors.New("is not the ARN of a secret of Secrets Manager")
	}
	request := struct {
		SecretId     string
		VersionStage string `json:",omitempty"`
		VersionId    string `json:",omitempty"`
	}{SecretId: strings.Join(parts[:7], ":")}
	region := parts[3]
	parts = append(parts[7:], "", "", "")
	key := parts[0]
	request.VersionStage, request.VersionId = parts[1], parts[2]
	body, err := json.Marshal(request)
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, secretTimeout)
	defer cancel()
	var out struct{ SecretString *string }
	service := awsapi.Client{Service: "secretsmanager", Region: region, Endpoint: env.endpoint("AWS_ENDPOINT_URL_SECRETS_MANAGER"), Credentials: env.credentials}
	err = service.Post(ctx, "/", http.Header{
		"Content-Type": {"application/x-amz-json-1.1"},
		"X-Amz-Target": {"secretsmanager.GetSecretValue"},
	}, body, &out)
	if e, ok := errors.AsType[*awsapi.Error](err); ok && e.Code == "ResourceNotFoundException" {
		return "", errNoSecret
	}
	if err != nil {
		return "", err
	}
	if out.SecretString == nil {
		return "", errors.New("is binary")
	}
	if key == "" {
		return *out.SecretString, nil
	}
	var object map[string]any
	if json.Unmarshal([]byte(*out.SecretString), &object) != nil {
		return "", errors.New("is not a JSON object")
	}
	value, ok := object[key].(string)
	if !ok {
		return "", fmt.Errorf("has no string under the key %q", key)
	}
	return value, nil
}

// credentials returns those that Lambda puts into the environment of a function. The
// SDK's package config would also look for them in a dozen other places, which adds
// 3 ms to every cold start.
func (env Env) credentials() (aws.Credentials, error) {
	c := aws.Credentials{
		AccessKeyID:     env("AWS_ACCESS_KEY_ID"),
		SecretAccessKey: env("AWS_SECRET_ACCESS_KEY"),
		SessionToken:    env("AWS_SESSION_TOKEN"),
	}
	if !c.HasKeys() {
		return c, errors.New("AWS_ACCESS_KEY_ID or AWS_SECRET_ACCESS_KEY is not set")
	}
	return c, nil
}

// endpoint returns the URL of an AWS service from its own variable or the general
// one, or nothing if neither is set.
func (env Env) endpoint(own string) string { return cmp.Or(env(own), env("AWS_ENDPOINT_URL")) }
