package config

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager/types"
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
	input := &secretsmanager.GetSecretValueInput{SecretId: aws.String(strings.Join(parts[:7], ":"))}
	parts = append(parts[7:], "", "", "")
	key := parts[0]
	if parts[1] != "" {
		input.VersionStage = aws.String(parts[1])
	}
	if parts[2] != "" {
		input.VersionId = aws.String(parts[2])
	}
	ctx, cancel := context.WithTimeout(ctx, secretTimeout)
	defer cancel()
	out, err := env.secretsClient(strings.Split(reference, ":")[3]).GetSecretValue(ctx, input)
	if _, ok := errors.AsType[*types.ResourceNotFoundException](err); ok {
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

func (env Env) secretsClient(region string) *secretsmanager.Client {
	return secretsmanager.New(secretsmanager.Options{
		Region:       region,
		Credentials:  env.credentials(),
		BaseEndpoint: env.endpoint("AWS_ENDPOINT_URL_SECRETS_MANAGER"),
	})
}

// credentials returns those that Lambda puts into the environment of a function. The
// SDK's package config would also look for them in a dozen other places, which adds
// 3 ms to every cold start.
func (env Env) credentials() aws.CredentialsProvider {
	return aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
		c := aws.Credentials{
			AccessKeyID:     env("AWS_ACCESS_KEY_ID"),
			SecretAccessKey: env("AWS_SECRET_ACCESS_KEY"),
			SessionToken:    env("AWS_SESSION_TOKEN"),
		}
		if !c.HasKeys() {
			return c, errors.New("AWS_ACCESS_KEY_ID or AWS_SECRET_ACCESS_KEY is not set")
		}
		return c, nil
	})
}

// endpoint returns the URL of an AWS service from its own variable or the general
// one, or nil if neither is set.
func (env Env) endpoint(own string) *string {
	for _, name := range []string{own, "AWS_ENDPOINT_URL"} {
		if url := env(name); url != "" {
			return aws.String(url)
		}
	}
	return nil
}
