"""What schemathesis can't know: how to get an access token, and what no schema can say."""

import os

import hypothesis
import requests
import schemathesis

URL = os.environ["ORGSERVICE_URL"]
PASSWORD = "Admin@123"  # as in schemathesis.toml


def new_admin(number):
    """Signs up an organization and returns the access token of its admin."""
    email = f"admin{number}@example.com"
    post("/org/create", organization_name=f"Organization {number}", email=email, password=PASSWORD)
    return post("/admin/login", email=email, password=PASSWORD)["access_token"]


def post(path, **body):
    response = requests.post(URL + path, json=body, timeout=30)
    response.raise_for_status()
    return response.json()


# All logins at the start: later the service refuses them, because there were too many wrong ones
# from this address.
tokens = [new_admin(number) for number in range(100)]


@schemathesis.auth()
class Token:
    """Another token at the start and after each 401: schemathesis has deleted the organization, or
    changed the password. There may be none left at the end of a run, which then sends the last one."""

    def get(self, case, context):
        return tokens.pop() if len(tokens) > 1 else tokens[0]

    def set(self, case, token, context):
        if case.path == "/admin/introspect":
            token = os.environ["INTROSPECTION_SECRET"]
        if case.path.startswith("/operator/"):
            token = os.environ["OPERATOR_TOKEN"]
        case.headers["Authorization"] = f"Bearer {token}"


# schemathesis tells Hypothesis how successful a request was, and Hypothesis then looks for more, which
# takes minutes of its time and can't be found: a request is successful or not.
hypothesis.target = lambda observation, label="": observation

# These must be valid in ways that no schema can say: in their Unicode characters, normalized, and
# not among the most common passwords. Of an If-Match schemathesis takes the quotes off.
BEYOND_SCHEMAS = {"organization_name", "email", "password", "prefix", "reason", "If-Match"}


@schemathesis.check
def refused_beyond_schemas(context, response, case):
    """A request that its schema allows is refused for no other field."""
    if case.meta.generation.mode.is_positive and response.status_code == 422 and response.json()["type"] != "/problems/key-reused":
        fields = {e["field"] for e in response.json()["errors"]}
        assert fields <= BEYOND_SCHEMAS, f"refused for {fields - BEYOND_SCHEMAS}, but allowed by the schema"
