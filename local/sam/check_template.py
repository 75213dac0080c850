"""Checks the CloudFormation resources that AWS SAM makes of template.yaml, with the translator that AWS
itself runs, and the keys of samconfig.toml, because SAM CLI ignores unknown keys without a warning.

usage: check_template.py TEMPLATE SAMCONFIG
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib

import click
import samcli.commands.build
import samcli.commands.deploy
import samcli.commands.local.local
import samcli.commands.validate.validate
from samtranslator.parser.parser import Parser
from samtranslator.translator.translator import Translator
from samtranslator.yaml_helper import yaml_parse

OPEN, TOKEN, IAM = "NONE", "Token", "AWS_IAM"

ROUTES = {
    "POST /org/create": (OPEN, "CreateFunction"),
    "GET /org/get": (OPEN, "GetFunction"),
    "PUT /org/update": (TOKEN, "UpdateFunction"),
    "DELETE /org/delete": (TOKEN, "DeleteFunction"),
    "POST /admin/login": (OPEN, "LoginFunction"),
    "POST /admin/refresh": (OPEN, "RefreshFunction"),
    "POST /admin/logout": (OPEN, "LogoutFunction"),
    "GET /admin/me": (TOKEN, "MeFunction"),
    "POST /admin/introspect": (OPEN, "IntrospectFunction"),
    "GET /org/members": (TOKEN, "MembersFunction"),
    "PUT /org/members/{admin_id}": (TOKEN, "ChangeRoleFunction"),
    "DELETE /org/members/{admin_id}": (TOKEN, "RemoveMemberFunction"),
    "POST /org/invitations": (TOKEN, "InviteFunction"),
    "GET /org/invitations": (TOKEN, "InvitationsFunction"),
    "DELETE /org/invitations/{id}": (TOKEN, "WithdrawFunction"),
    "POST /invitations/accept": (OPEN, "AcceptFunction"),
    "POST /admin/forgot": (OPEN, "ForgotFunction"),
    "POST /admin/reset": (OPEN, "ResetFunction"),
    "POST /admin/verify": (OPEN, "VerifyFunction"),
    "POST /admin/verify/resend": (TOKEN, "ResendFunction"),
    "GET /admin/organizations": (TOKEN, "OrganizationsFunction"),
    "POST /admin/organizations": (TOKEN, "AddOrganizationFunction"),
    "POST /admin/switch": (TOKEN, "SwitchFunction"),
    "GET /admin/sessions": (TOKEN, "SessionsFunction"),
    "DELETE /admin/sessions/{id}": (TOKEN, "EndSessionFunction"),
    "DELETE /admin/sessions": (TOKEN, "EndSessionsFunction"),
    "GET /operator/organizations": (IAM, "ListOrganizationsFunction"),
    "POST /operator/organizations": (IAM, "InviteOwnerFunction"),
    "GET /operator/organizations/{id}": (IAM, "ShowOrganizationFunction"),
    "POST /operator/organizations/{id}/suspend": (IAM, "SuspendFunction"),
    "POST /operator/organizations/{id}/reactivate": (IAM, "ReactivateFunction"),
    "POST /operator/organizations/{id}/rename": (IAM, "RenameOrganizationFunction"),
    "POST /operator/organizations/{id}/restore": (IAM, "RestoreFunction"),
    "POST /operator/organizations/{id}/purge": (IAM, "PurgeFunction"),
    "GET /.well-known/jwks.json": (OPEN, "JwksFunction"),
    "GET /health": (OPEN, "HealthFunction"),
    "GET /": (OPEN, "DocsFunction"),
    "GET /docs": (OPEN, "DocsFunction"),
    "GET /redoc": (OPEN, "DocsFunction"),
    "GET /openapi.json": (OPEN, "DocsFunction"),
    "GET /openapi.yaml": (OPEN, "DocsFunction"),
    "GET /problems/{reason}": (OPEN, "DocsFunction"),
    "GET /assets/{file}": (OPEN, "DocsFunction"),
    "GET /verify-email": (OPEN, "DocsFunction"),
    "GET /reset-password": (OPEN, "DocsFunction"),
    "GET /accept-invitation": (OPEN, "DocsFunction"),
    "GET /finish-sign-up": (OPEN, "DocsFunction"),
}
HASHING = {"CreateFunction", "UpdateFunction", "LoginFunction", "AcceptFunction", "ResetFunction"}  # they run bcrypt
MAILING = {"CreateFunction", "UpdateFunction", "InviteFunction", "ForgotFunction", "ResendFunction", "InviteOwnerFunction", "ReconcileFunction"}  # they send mail
THROTTLED = {  # have lower limits than the others
    "POST /org/create", "POST /admin/login", "POST /invitations/accept", "POST /admin/forgot", "POST /admin/reset", "POST /admin/verify",
    "GET /health",
}  # fmt: skip
SIGNING_KEY = "the key that signs"
READ_URL = "a database user who may only read, if there is one"
SECRETS = {  # secrets that each function may read
    "CreateFunction": {"MongoUrlSecret"},
    "GetFunction": {READ_URL},
    "UpdateFunction": {"MongoUrlSecret"},
    "DeleteFunction": {"MongoUrlSecret"},
    "LoginFunction": {"MongoUrlSecret", SIGNING_KEY},
    "RefreshFunction": {"MongoUrlSecret", SIGNING_KEY},
    "LogoutFunction": {"MongoUrlSecret"},
    "MeFunction": {"MongoUrlSecret"},
    "IntrospectFunction": {"MongoUrlSecret", "JwtSecret"},
    "MembersFunction": {"MongoUrlSecret"},
    "ChangeRoleFunction": {"MongoUrlSecret"},
    "RemoveMemberFunction": {"MongoUrlSecret"},
    "InviteFunction": {"MongoUrlSecret"},
    "InvitationsFunction": {"MongoUrlSecret"},
    "WithdrawFunction": {"MongoUrlSecret"},
    "AcceptFunction": {"MongoUrlSecret", SIGNING_KEY},
    "ForgotFunction": {"MongoUrlSecret"},
    "ResetFunction": {"MongoUrlSecret"},
    "VerifyFunction": {"MongoUrlSecret"},
    "ResendFunction": {"MongoUrlSecret"},
    "SessionsFunction": {"MongoUrlSecret"},
    "EndSessionFunction": {"MongoUrlSecret"},
    "EndSessionsFunction": {"MongoUrlSecret"},
    "OrganizationsFunction": {"MongoUrlSecret"},
    "AddOrganizationFunction": {"MongoUrlSecret"},
    "SwitchFunction": {"MongoUrlSecret", SIGNING_KEY},
    "JwksFunction": set(),
    "ListOrganizationsFunction": {READ_URL},
    "InviteOwnerFunction": {"MongoUrlSecret"},
    "ShowOrganizationFunction": {READ_URL},
    "SuspendFunction": {"MongoUrlSecret"},
    "ReactivateFunction": {"MongoUrlSecret"},
    "RenameOrganizationFunction": {"MongoUrlSecret"},
    "RestoreFunction": {"MongoUrlSecret"},
    "PurgeFunction": {"MongoUrlSecret"},
    "HealthFunction": {READ_URL},
    "DocsFunction": set(),
    "AuthorizerFunction": {"JwtSecret"},
    "ReconcileFunction": {"MongoUrlSecret"},
}
URLS = {"MongoUrl", "MongoReadUrl"}  # parameters that are secrets
ARN = "arn:aws:secretsmanager:eu-west-3:123456789012:secret:key-AbCdEf"
TOPIC_ARN = "arn:aws:sns:eu-west-3:123456789012:alarms"
KEY_ARN = "arn:aws:kms:eu-west-3:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"
STACKS = {  # parameters, and the secret with the key that signs
    "with its own secret": ({}, "JwtSecret"),
    "with a private key": ({"JwtPrivateKeySecret": ARN}, "JwtPrivateKeySecret"),
    "with a database user who may only read": ({"MongoReadUrl": "mongodb+srv://db.example"}, "JwtSecret"),
    "with SMTP": ({"SmtpUrlSecret": ARN}, "JwtSecret"),
    "with introspection": ({"IntrospectionSecret": ARN}, "JwtSecret"),
    "with a key of the customer": ({"IntrospectionSecret": ARN, "SmtpUrlSecret": ARN, "JwtPrivateKeySecret": ARN, "SecretsKey": KEY_ARN}, "JwtPrivateKeySecret"),
    "with alarms": ({"AlarmTopic": TOPIC_ARN}, "JwtSecret"),
    "with alarms for a tier": ({"AlarmTopic": TOPIC_ARN, "DatabaseTier": "M10"}, "JwtSecret"),
    "without its own secret": ({"JwtPrivateKeySecret": ARN, "JwtAcceptSecret": "false"}, "JwtPrivateKeySecret"),
}
STACKS |= {f"{stack}, gradually": STACKS[stack] for stack in ("with its own secret", "with alarms")}
GRADUAL = {stack for stack in STACKS if stack.endswith(", gradually")}
SECRET_VARIABLES = {"MONGO_URL", "JWT_SECRET", "JWT_SECRET_PREVIOUS", "JWT_PRIVATE_KEY", "INTROSPECTION_SECRET", "SMTP_URL"}
SCHEDULES = {"rate(1 minute)": None, "rate(1 hour)": '{"full":true}'}
INTEGRATION_TIMEOUT = 30  # seconds, the limit of HTTP APIs
STALE_AFTER = 60  # seconds, org.StaleAfter: a function must end before its operation is stale
ONE_CPU = 1769  # MB with which a function has one CPU
TYPES = {  # types of resources that the stack may have
    "AWS::ApiGatewayV2::Api", "AWS::ApiGatewayV2::Stage", "AWS::CloudWatch::Alarm", "AWS::CloudWatch::Dashboard", "AWS::Events::Rule", "AWS::IAM::ManagedPolicy", "AWS::IAM::Role",
    "AWS::Lambda::EventInvokeConfig", "AWS::Lambda::Function",
    "AWS::Lambda::Permission", "AWS::Logs::LogGroup", "AWS::SecretsManager::Secret",
}  # fmt: skip
BASIC_ROLE = "arn:aws:iam::aws:policy/service-role/AWSLambdaBasicExecutionRole"

failures = {}  # a set that keeps its order


def check(ok, message):
    if not ok:
        failures[message] = True


def equal(got, want, what):
    check(got == want, f"{what} is {got!r}, not {want!r}")


def translate(source, parameters):
    """Returns the resources that CloudFormation makes, by type and logical ID."""
    template = yaml_parse(source)
    for resource in template["Resources"].values():
        if resource["Type"] == "AWS::Serverless::Function":
            # As after "sam package".
            resource["Properties"]["CodeUri"] = "s3://bucket/key"
    out = Translator({"AWSLambdaBasicExecutionRole": BASIC_ROLE}, Parser()).translate(template, parameters)
    values = {name: parameter.get("Default") for name, parameter in template["Parameters"].items()} | parameters
    defined = template.get("Conditions", {})
    conditions = {name: holds(condition, values, defined) for name, condition in defined.items()}
    resources = {}
    for name, resource in out["Resources"].items():
        if conditions.get(resource.get("Condition"), True):
            resources.setdefault(resource["Type"], {})[name] = choose(resource, conditions)
    return resources


def holds(condition, parameters, defined):
    match condition:
        case {"Ref": name}:
            return parameters[name]
        case {"Condition": name}:
            return holds(defined[name], parameters, defined)
        case {"Fn::Equals": [a, b]}:
            return holds(a, parameters, defined) == holds(b, parameters, defined)
        case {"Fn::Not": [a]}:
            return not holds(a, parameters, defined)
        case {"Fn::And": parts}:
            return all(holds(part, parameters, defined) for part in parts)
        case str():
            return condition
    raise ValueError(f"unknown condition: {condition}")


def choose(value, conditions):
    """Returns the value with every Fn::If replaced by the branch that applies."""
    match value:
        case {"Fn::If": [name, a, b]}:
            return choose(a if conditions[name] else b, conditions)
        case dict():
            return {key: choose(v, conditions) for key, v in value.items()}
        case list():
            chosen = [choose(v, conditions) for v in value]
            return [v for v in chosen if v != {"Ref": "AWS::NoValue"}]
    return value


def ref(value):
    """Returns the logical ID in a Ref, a GetAtt of an ARN, a Sub of only these, or a version of a secret."""
    match value:
        case {"Ref": name}:
            return name
        case {"Fn::GetAtt": [name, "Arn"]}:
            return name
        case {"Fn::GetAtt": str(attribute)} if attribute.endswith(".Arn"):
            return attribute.removesuffix(".Arn")
        case {"Fn::Sub": "${JwtSecret}::AWSPREVIOUS:"}:
            return "JwtSecret"
        case {"Fn::Sub": [str(text), {**names}]} if len(names) == 1 and text == "${%s}" % next(iter(names)):
            return ref(next(iter(names.values())))
    return None


def check_routes(api):
    # API Gateway warns of what SAM writes for an open route, a scheme that is not declared. The
    # checks below are what the flag would be for.
    check(not api["Properties"].get("FailOnWarnings"), "FailOnWarnings would let a deployment fail")
    body = api["Properties"]["Body"]
    got = {}
    for path, item in body["paths"].items():
        for method, operation in item.items():
            key = f"{method.upper()} {path}"
            schemes = [name for requirement in operation.get("security", []) for name in requirement]
            integration = operation["x-amazon-apigateway-integration"]
            function = integration["uri"]["Fn::Sub"].split("${")[-1].split(".Arn}")[0]
            got[key] = (" or ".join(schemes) or "nothing", function)
            equal(integration["payloadFormatVersion"], "2.0", f"payload format of {key}")
    for key in sorted(ROUTES.keys() | got.keys()):
        equal(got.get(key), ROUTES.get(key), f"route {key}")

    schemes = body["components"]["securitySchemes"]
    equal(set(schemes), {TOKEN, IAM}, "authorizers")
    equal(schemes.get(IAM, {}).get("x-amazon-apigateway-authtype"), "awsSigv4", "the type of the authorizer of operators")
    authorizer = schemes.get(TOKEN, {}).get("x-amazon-apigateway-authorizer", {})
    equal(authorizer.get("type"), "request", "type of the authorizer")
    equal(authorizer.get("authorizerPayloadFormatVersion"), "2.0", "payload format of the authorizer")
    equal(authorizer.get("enableSimpleResponses"), True, "simple responses of the authorizer")
    equal(authorizer.get("identitySource"), ["$request.header.Authorization"], "identity source")
    check(0 < authorizer.get("authorizerResultTtlInSeconds", 0) <= 300, "the answer of the authorizer is cached too long, or not at all")
    names = authorizer.get("authorizerUri", {}).get("Fn::Sub", ["", {}])[1]
    equal([ref(value) for value in names.values()], ["AuthorizerFunction"], "function of the authorizer")

    # That browsers of others' pages can't call the API is the default.
    cors = body["x-amazon-apigateway-cors"]
    equal(cors.get("allowOrigins"), ["https://a.example", "https://b.example"], "allowed origins")
    equal(cors.get("allowCredentials", False), False, "AllowCredentials of CORS")


def check_stage(stage):
    properties = stage["Properties"]
    equal(properties["StageName"], "$default", "stage")
    defaults = properties.get("DefaultRouteSettings", {})
    for name in ("ThrottlingRateLimit", "ThrottlingBurstLimit"):
        check(name in defaults, f"routes have no {name}")
    settings = properties.get("RouteSettings", {})
    equal(set(settings), THROTTLED, "routes with settings of their own")
    for key, own in settings.items():
        for name in ("ThrottlingRateLimit", "ThrottlingBurstLimit"):
            check(name in own and own[name] != defaults.get(name), f"{key} has no {name} of its own")
    logs = properties.get("AccessLogSettings", {})
    equal(ref(logs.get("DestinationArn")), "AccessLogs", "destination of the access log")
    for variable in ("requestId", "routeKey", "status", "identity.sourceIp", "integrationErrorMessage", "authorizer.error", "authorizer.reason"):
        check(f'"$context.{variable}"' in logs.get("Format", ""), f"the access log lacks {variable}")
    check("userAgent" not in logs.get("Format", ""), "the access log has the user agent, which clients write and the gateway does not escape")


def may_read(function, key, resolved):
    chosen = {SIGNING_KEY: key, READ_URL: "MongoReadUrlSecret" if resolved["MongoReadUrl"] else "MongoUrlSecret"}
    secrets = {chosen.get(secret, secret) for secret in SECRETS.get(function, ())}
    if function in ("AuthorizerFunction", "IntrospectFunction") and resolved["JwtAcceptSecret"] == "false":
        secrets.remove("JwtSecret")
    if function == "IntrospectFunction" and resolved["IntrospectionSecret"]:
        secrets.add("IntrospectionSecret")
    return secrets | ({"SmtpUrlSecret"} if function in MAILING and resolved["SmtpUrlSecret"] else set())


def check_functions(functions, secrets, parameters, resolved, key):
    equal(set(functions), set(SECRETS), "functions")
    for name, function in functions.items():
        p = function["Properties"]
        equal(p["Runtime"], "provided.al2023", f"runtime of {name}")
        equal(p["Handler"], "bootstrap", f"handler of {name}")
        equal(p.get("Architectures"), ["arm64"], f"architecture of {name}")
        limit = STALE_AFTER if name == "ReconcileFunction" else INTEGRATION_TIMEOUT
        check(p["Timeout"] < limit, f"{name} may run for {p['Timeout']} s, which is not less than {limit} s")
        memory = p["MemorySize"]
        check(memory == ONE_CPU if name in HASHING else 128 <= memory < ONE_CPU, f"{name} has {memory} MB")
        # local TestTiers checks how much, and that it is that of the functions with a database.
        reserves = p.get("ReservedConcurrentExecutions", {"Ref": "AWS::NoValue"}) != {"Ref": "AWS::NoValue"}
        equal(reserves, resolved["DatabaseTier"] != "none" and name not in ("AuthorizerFunction", "JwksFunction", "DocsFunction"), f"whether {name} reserves concurrency")
        logging = p.get("LoggingConfig", {})
        equal(ref(logging.get("LogGroup")), "FunctionLogs", f"log group of {name}")
        equal(logging.get("LogFormat"), "JSON", f"log format of {name}")

        held = set()
        for variable, value in p.get("Environment", {}).get("Variables", {}).items():
            name_of = ref(value)
            check(not parameters.get(name_of, {}).get("NoEcho"), f"{variable} of {name} is a secret in plain text")
            if variable in SECRET_VARIABLES and value != "" and resolved.get(name_of) != "":
                known = name_of in secrets or name_of in ("JwtPrivateKeySecret", "IntrospectionSecret", "SmtpUrlSecret")
                check(known, f"{variable} of {name} is a secret in plain text")
                held.add(name_of)
            else:
                check(name_of not in secrets, f"{variable} of {name} is a secret, which it must not be")
        check(held <= may_read(name, key, resolved), f"{name} may not read {held - may_read(name, key, resolved)}, which is in its environment")
        check(held or name in ("JwksFunction", "DocsFunction", "AuthorizerFunction"), f"{name} has no secret in its environment")
        equal(ref(p["Role"]), f"{name}Role", f"role of {name}")


def check_roles(roles, key, resolved):
    equal(set(roles), {f"{name}Role" for name in SECRETS}, "roles")
    for name, role in roles.items():
        p = role["Properties"]
        mails = name.removesuffix("Role") in MAILING
        policies = [BASIC_ROLE, {"Ref": "MailPolicy"}] if mails else [BASIC_ROLE]
        given = {"JwtPrivateKeySecret", "IntrospectionSecret", "SmtpUrlSecret"}  # secrets of the customer
        if resolved["SecretsKey"] and may_read(name.removesuffix("Role"), key, resolved) & given:
            policies.append({"Ref": "DecryptPolicy"})
        equal(p.get("ManagedPolicyArns"), policies, f"managed policies of {name}")
        allowed = {"SmtpUrlSecret"} if mails and resolved["SmtpUrlSecret"] else set()
        for policy in p.get("Policies", []):
            for statement in policy["PolicyDocument"]["Statement"]:
                equal(statement["Effect"], "Allow", f"effect of a statement of {name}")
                equal(statement["Action"], ["secretsmanager:GetSecretValue"], f"action of a statement of {name}")
                allowed.add(ref(statement["Resource"]) or repr(statement["Resource"]))
        equal(allowed, may_read(name.removesuffix("Role"), key, resolved), f"what {name} may read")
        for statement in p["AssumeRolePolicyDocument"]["Statement"]:
            equal(statement["Principal"], {"Service": ["lambda.amazonaws.com"]}, f"who may assume {name}")


def check_managed_policies(policies, resolved):
    equal(set(policies), {"MailPolicy"} | ({"DecryptPolicy"} if resolved["SecretsKey"] else set()), "managed policies")
    mail, *others = policies["MailPolicy"]["Properties"]["PolicyDocument"]["Statement"]
    equal((mail["Effect"], mail["Action"]), ("Allow", ["ses:SendEmail", "ses:SendRawEmail"]), "what MailPolicy allows")
    check(mail["Resource"]["Fn::Sub"].endswith(":identity/${MailIdentity}"), "MailPolicy allows to send as anybody")
    read = {"Effect": "Allow", "Action": ["secretsmanager:GetSecretValue"], "Resource": {"Ref": "SmtpUrlSecret"}}
    equal(others, [read] if resolved["SmtpUrlSecret"] else [], "what else MailPolicy allows")
    if resolved["SecretsKey"]:
        (decrypt,) = policies["DecryptPolicy"]["Properties"]["PolicyDocument"]["Statement"]
        equal((decrypt["Effect"], decrypt["Action"], decrypt["Resource"]), ("Allow", ["kms:Decrypt"], {"Ref": "SecretsKey"}), "what DecryptPolicy allows")
        equal(list(decrypt["Condition"]), ["StringEquals"], "conditions of DecryptPolicy")
        check("kms:ViaService" in decrypt["Condition"]["StringEquals"], "DecryptPolicy allows to decrypt anything")


def check_permissions(permissions, rules):
    """Checks who may call the functions: the gateway, for its routes and authorizer, and the schedules."""
    got = {}
    for name, permission in permissions.items():
        p = permission["Properties"]
        equal(p["Action"], "lambda:InvokeFunction", f"action of {name}")
        source = p.get("SourceArn", {})
        match source:
            case {"Fn::Sub": [str(arn), {**names}]}:
                equal(ref(names.get("__ApiId__")), "Api", f"API of {name}")
                source = arn.split("${__ApiId__}")[-1]
            case _:
                source = ref(source)
        got[(p["Principal"], source)] = ref(p["FunctionName"]) or p["FunctionName"]
    want = {("apigateway.amazonaws.com", "/authorizers/*"): "AuthorizerFunction"}
    for key, (_, function) in ROUTES.items():
        path = re.sub(r"\{\w+\}", "*", key.replace(" ", ""))
        want["apigateway.amazonaws.com", "/${__Stage__}/" + path] = function
    for name in rules:
        want["events.amazonaws.com", name] = "ReconcileFunction"
    for key in sorted(want.keys() | got.keys(), key=str):
        equal(got.get(key), want.get(key), f"what {key} may call")

    schedules = {}
    for name, rule in rules.items():
        p = rule["Properties"]
        check("ScheduleExpression" in p and p.get("State", "ENABLED") == "ENABLED", f"{name} is not enabled")
        for target in p["Targets"]:
            equal(ref(target["Arn"]), "ReconcileFunction", f"target of {name}")
            schedules[p.get("ScheduleExpression")] = target.get("Input")
    equal(schedules, SCHEDULES, "schedules")


def check_rest(resources, template, resolved):
    check(resources.keys() <= TYPES, f"unexpected types of resources: {sorted(resources.keys() - TYPES)}")
    for name, group in resources["AWS::Logs::LogGroup"].items():
        check(ref(group["Properties"].get("RetentionInDays")) == "LogRetentionDays", f"{name} has no retention")
        equal((group["DeletionPolicy"], group["UpdateReplacePolicy"]), ("RetainExceptOnCreate", "Retain"), f"what becomes of {name}")
    for name, config in resources["AWS::Lambda::EventInvokeConfig"].items():
        p = config["Properties"]
        equal((ref(p["FunctionName"]), p["MaximumRetryAttempts"]), ("ReconcileFunction", 0), f"retries of {name}")
    secrets = resources["AWS::SecretsManager::Secret"]
    urls = ["MongoUrl", "MongoReadUrl"] if resolved["MongoReadUrl"] else ["MongoUrl"]
    equal(set(secrets), {f"{url}Secret" for url in urls} | {"JwtSecret"}, "secrets")
    for url in urls:
        equal(ref(secrets[f"{url}Secret"]["Properties"].get("SecretString")), url, f"value of {url}Secret")
    generated = secrets["JwtSecret"]["Properties"].get("GenerateSecretString", {})
    check(generated.get("PasswordLength", 0) >= 32, "JwtSecret has fewer than 32 random characters")
    for name, parameter in template["Parameters"].items():
        equal(bool(parameter.get("NoEcho")), name in URLS, f"NoEcho of {name}")
    check("Default" not in template["Parameters"]["MongoUrl"], "MongoUrl has a default")
    for name, secret in (("JwtPrivateKeySecret", "-----BEGIN PRIVATE KEY-----"), ("IntrospectionSecret", "Aslz8sQbqB9nQvNc0F4lqXkq0mF2c3VvM1w"), ("SmtpUrlSecret", "smtp://user:password@example.com")):
        pattern = template["Parameters"][name].get("AllowedPattern", ".*")
        check(re.fullmatch(pattern, ARN) and re.fullmatch(pattern, ""), f"{name} does not accept an ARN or an empty value")
        check(not re.fullmatch(pattern, secret), f"{name} accepts the secret itself")
    for name, output in template["Outputs"].items():
        check(ref(output["Value"]) not in URLS, f"the output {name} shows a secret")


def check_seeing(resources, resolved):
    """Checks that there are alarms if somebody gets them, and that the dashboard is JSON."""
    alarms = resources.get("AWS::CloudWatch::Alarm", {})
    equal(bool(alarms), bool(resolved["AlarmTopic"]), "whether there are alarms")
    for name, alarm in alarms.items():
        p = alarm["Properties"]
        equal((p["AlarmActions"], p["OKActions"]), ([{"Ref": "AlarmTopic"}], [{"Ref": "AlarmTopic"}]), f"who gets {name}")
    for dashboard in resources["AWS::CloudWatch::Dashboard"].values():
        body = re.sub(r"\$\{[\w:]+\}", "x", dashboard["Properties"]["DashboardBody"]["Fn::Sub"])
        for widget in json.loads(body)["widgets"]:
            check(widget["properties"]["metrics"], "the dashboard has an empty widget")


def check_gradual(template_path, parameters, stack):
    """Checks what gradual.sh makes of the template: every route and schedule goes to an alias, which CodeDeploy moves
    until an alarm goes off. Returns the resources as they would be without aliases."""
    with tempfile.TemporaryDirectory() as folder:
        path = shutil.copy(template_path, folder)
        subprocess.run([os.path.join(os.path.dirname(__file__), "gradual.sh"), path, "Canary10Percent5Minutes"], check=True)
        with open(path) as file:
            resources = translate(file.read(), parameters)
    functions, aliases = resources["AWS::Lambda::Function"], resources.pop("AWS::Lambda::Alias")
    versions, groups = resources.pop("AWS::Lambda::Version"), resources.pop("AWS::CodeDeploy::DeploymentGroup")
    equal(len(resources.pop("AWS::CodeDeploy::Application")), 1, f"{stack}: CodeDeploy's applications")
    resources["AWS::IAM::Role"].pop("CodeDeployServiceRole")
    names = {}
    for alias, properties in ((name, resource["Properties"]) for name, resource in aliases.items()):
        function = names[alias] = ref(properties["FunctionName"])
        version, attribute = properties["FunctionVersion"]["Fn::GetAtt"]
        equal((ref(versions[version]["Properties"]["FunctionName"]), attribute), (function, "Version"), f"{stack}: version of {alias}")
        equal(versions[version]["DeletionPolicy"], "Delete", f"{stack}: what becomes of the version of {function}")
        update = aliases[alias]["UpdatePolicy"]["CodeDeployLambdaAliasUpdate"]
        group = groups[ref(update["DeploymentGroupName"])]["Properties"]
        watched = [ref(alarm["Name"]) for alarm in group["AlarmConfiguration"].get("Alarms", [])]
        equal(watched, ["FaultsAlarm", "LatencyAlarm"] if parameters.get("AlarmTopic") else [], f"{stack}: alarms for {function}")
        equal(group["DeploymentConfigName"]["Fn::Sub"][1], {"ConfigName": "Canary10Percent5Minutes"}, f"{stack}: steps of {function}")
    equal(set(names.values()), set(functions), f"{stack}: functions with an alias")
    text = json.dumps(resources)
    for alias, function in names.items():
        # The gateway asks the authorizer itself, which is replaced at once.
        check(f"${{{alias}}}" in text or f'"Ref": "{alias}"' in text or function == "AuthorizerFunction", f"{stack}: nothing calls the alias of {function}")
        check(f"${{{function}.Arn}}" not in text or function == "AuthorizerFunction", f"{stack}: something calls {function} past its alias")
        text = text.replace(f"${{{alias}}}", f"${{{function}.Arn}}").replace(f'"Ref": "{alias}"', f'"Ref": "{function}"')
    for function in functions.values():
        tags = {tag["Key"] for tag in function["Properties"]["Tags"]}
        check("deployment" in tags, f"{stack}: a function without the tag of the deployment")
    return json.loads(text)


def check_samconfig(path):
    with open(path, "rb") as file:
        config = tomllib.load(file)
    equal(config.pop("version"), 0.1, "version of samconfig.toml")
    commands = {"global": set()}
    for module in (samcli.commands.build, samcli.commands.validate.validate, samcli.commands.local.local, samcli.commands.deploy):
        name, command = module.__name__.split(".")[-1], module.cli
        found = {name: command}
        if isinstance(command, click.Group):
            context = click.Context(command)
            # "local start-api" is written as local_start_api.
            subcommands = {sub: command.get_command(context, sub) for sub in command.list_commands(context)}
            found = {f"{name}_{sub}".replace("-", "_"): subcommand for sub, subcommand in subcommands.items()}
        for name, command in found.items():
            commands[name] = {parameter.name for parameter in command.params}
            commands["global"] |= commands[name]
    for environment in config.values():
        for name, section in environment.items():
            check(name in commands, f"samconfig.toml: there is no command {name}")
            for key in section["parameters"]:
                check(key in commands.get(name, ()), f"samconfig.toml: {name} has no parameter {key}")


def check_parameters(parameters):
    """The stack can't be made with a database that is reached without TLS, and by default no page may call the API."""
    patterns = {name: re.compile(parameters[name]["AllowedPattern"]) for name in URLS}
    for url, good in {
        "mongodb+srv://user:password@cluster.example.mongodb.net/?retryWrites=true": True,
        "mongodb://user:password@db.example:27017/?tls=true&replicaSet=rs0": True,
        "mongodb://db.example/?replicaSet=rs0&SSL=TRUE": True,
        "mongodb+srv://cluster.example.mongodb.net/?tls=false": False,
        "mongodb+srv://cluster.example.mongodb.net/?retryWrites=true&SSL=False": False,
        "mongodb+srv://cluster.example.mongodb.net/?tlsInsecure=true": False,
        "mongodb://db.example/?tls=true&tlsAllowInvalidCertificates=true": False,
        "mongodb://db.example/": False,
        "mongodb://tls=true@db.example/": False,
        "db.example": False,
    }.items():
        for name, pattern in patterns.items():
            equal(bool(pattern.fullmatch(url)), good, f"whether {name} may be {url}")
    for name, pattern in patterns.items():
        equal(bool(pattern.fullmatch("")), name == "MongoReadUrl", f"whether {name} may be empty")
    # SECURITY.md compares them with what one account or address may try.
    equal([parameters[name]["Default"] for name in ("OpenThrottleRate", "OpenThrottleBurst")], [100, 200], "limits of open routes")
    equal(parameters["CorsOrigins"]["Default"], "https://cors.invalid", "origins by default")


def check_edge(path):
    """CloudFront sends the secret, over TLS, to the service alone, and bounds each address."""
    with open(path) as file:
        edge = yaml_parse(file.read())
    check(edge["Parameters"]["EdgeSecret"].get("NoEcho"), "EdgeSecret is shown")
    resources = edge["Resources"]
    distribution = resources["Distribution"]["Properties"]["DistributionConfig"]
    (origin,) = distribution["Origins"]
    equal(origin["CustomOriginConfig"]["OriginProtocolPolicy"], "https-only", "protocol to the service")
    equal(origin["OriginCustomHeaders"], [{"HeaderName": "X-Edge-Secret", "HeaderValue": {"Ref": "EdgeSecret"}}], "headers to the service")
    equal(distribution["DefaultCacheBehavior"]["ViewerProtocolPolicy"], "https-only", "protocol of clients")
    equal(ref(distribution["WebACLId"]), "WebAcl", "the ACL of CloudFront")
    kept = {error["ErrorCode"]: error["ErrorCachingMinTTL"] for error in distribution["CustomErrorResponses"]}
    equal(kept, dict.fromkeys((400, 403, 404, 405, 414, 416, 500, 501, 502, 503, 504), 0), "how long CloudFront keeps each error")
    (rule,) = resources["WebAcl"]["Properties"]["Rules"]
    statement = rule["Statement"]["RateBasedStatement"]
    equal((statement["AggregateKeyType"], ref(statement["Limit"])), ("IP", "RequestsPerAddress"), "what the ACL bounds")
    check("Block" in rule["Action"], "the ACL blocks nothing")


def main(template_path, samconfig_path):
    os.environ.setdefault("AWS_DEFAULT_REGION", "us-east-1")  # the translator needs it
    with open(template_path) as file:
        source = file.read()
    template = yaml_parse(source)
    for stack, (parameters, key) in STACKS.items():
        # CloudFormation gives the translator list parameters as lists.
        parameters = {"MongoUrl": "mongodb://db.example", "CorsOrigins": ["https://a.example", "https://b.example"], **parameters}
        resolved = {name: parameter.get("Default") for name, parameter in template["Parameters"].items()} | parameters
        resources = check_gradual(template_path, parameters, stack) if stack in GRADUAL else translate(source, parameters)
        check_routes(resources["AWS::ApiGatewayV2::Api"]["Api"])
        check_stage(resources["AWS::ApiGatewayV2::Stage"]["ApiApiGatewayDefaultStage"])
        check_functions(
            resources["AWS::Lambda::Function"], resources["AWS::SecretsManager::Secret"], template["Parameters"], resolved, key
        )
        check_roles(resources["AWS::IAM::Role"], key, resolved)
        check_managed_policies(resources["AWS::IAM::ManagedPolicy"], resolved)
        check_permissions(resources["AWS::Lambda::Permission"], resources.get("AWS::Events::Rule", {}))
        check_rest(resources, template, resolved)
        check_seeing(resources, resolved)
    check_parameters(template["Parameters"])
    check_samconfig(samconfig_path)
    check_edge(os.path.join(os.path.dirname(template_path), "edge.yaml"))
    for failure in failures:
        print(failure, file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
