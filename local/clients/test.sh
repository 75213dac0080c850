#!/usr/bin/env bash
# Tests the OpenAPI document and the service with clients that others make: schemathesis makes
# requests from the document and checks the answers, and openapi-typescript makes types, with which a
# client is compiled that uses every route. The service is that of make run, on an empty database and
# a free port. The arguments are for schemathesis, such as --seed=1 to repeat a run.
set -euo pipefail
cd "$(dirname "$0")/../.."
clients=$PWD/local/clients
work=$PWD/local/.data/clients
mkdir -p "$work"

# installed FILE succeeds if the versions of the file are those that were installed last.
installed() { cmp -s "$1" "$work/$(basename "$1")"; }

if ! installed "$clients/schemathesis/requirements.txt"; then
  python3 -m venv --clear "$work/venv"
  "$work/venv/bin/pip" install -q --disable-pip-version-check --require-hashes -r "$clients/schemathesis/requirements.txt"
  cp "$clients/schemathesis/requirements.txt" "$work"
fi
if ! installed "$clients/typescript/package-lock.json" || ! [ -d "$clients/typescript/node_modules" ]; then
  npm --prefix "$clients/typescript" ci --silent --no-audit --no-fund
  cp "$clients/typescript/package-lock.json" "$work"
fi

# An empty variable is one that .env does not set. The gateway would throttle schemathesis.
go build -o "$work/local" ./local
data=$(mktemp -d)
: >"$work/service.log" # or the URL of the run before would be read
export INTROSPECTION_SECRET=a-secret-of-the-test-clients-for-introspection
MONGO_URL='' JWT_PRIVATE_KEY='' JWT_PUBLIC_KEYS='' SMTP_URL='' MAIL_FROM='' APP_URL='' BCRYPT_COST=4 PORT=0 "$work/local" -data "$data" \
  -parameter ThrottleRate=10000 -parameter ThrottleBurst=10000 \
  -parameter OpenThrottleRate=10000 -parameter OpenThrottleBurst=10000 >"$work/service.log" 2>&1 &
service=$!
trap 'kill "$service" 2>/dev/null || true; wait "$service" || true; rm -rf "$data"' EXIT
until url=$(sed -n 's/^listening on \([^ ]*\) .*/\1/p' "$work/service.log") && [ "$url" ]; do
  kill -0 "$service" || { cat "$work/service.log"; exit 1; }
  sleep 0.1
done
export ORGSERVICE_URL=$url
OPERATOR_TOKEN=$(cat "$data/operator_token")
export OPERATOR_TOKEN

# First, because after schemathesis the service refuses logins for a while.
npm --prefix "$clients/typescript" test --silent

before=$(wc -l <"$work/service.log")
(cd "$clients/schemathesis" && HYPOTHESIS_STORAGE_DIRECTORY=$work/hypothesis PYTHONDONTWRITEBYTECODE=1 \
  "$work/venv/bin/schemathesis" run ../../../shared/api/openapi.json --url "$url" "$@")
# Where every request is refused, schemathesis tests little.
tail -n "+$((before + 1))" "$work/service.log" >"$work/schemathesis.log"
for success in 'GET /org/get 200' 'PUT /org/update 200' 'DELETE /org/delete 200' 'GET /admin/me 200' 'POST /admin/logout 204' 'GET /operator/organizations 200'; do
  read -r method path status <<<"$success"
  grep -q "\"method\":\"$method\",\"path\":\"$path\",\"status\":$status," "$work/schemathesis.log" ||
    { echo "schemathesis never got the answer $success"; exit 1; }
done
