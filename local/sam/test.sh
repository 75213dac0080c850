#!/usr/bin/env bash
# Tests the deployment on this machine: the template, what SAM makes of it, the binaries, and the
# functions under SAM CLI. Everything runs on a Docker network of its own, which is removed at the end.
set -euo pipefail
export LC_ALL=C.UTF-8

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
temp=$(mktemp -d)
network=orgservice-test-$$
image=orgservice-test-db:$$
pids=$temp/pids # of what runs in the background
touch "$pids"

clean_up() {
  status=$?
  trap '' INT TERM
  set +e
  if [ "${root:-}" ]; then
    while read -r pid; do end "$pid"; done <"$pids"
    remove_network "$network"
    docker image rm -f "$image" >/dev/null 2>&1 || true
  fi
  rm -rf "$temp"
  exit "$status"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# step NAME COMMAND... runs a command and prints how long it took. It prints the output if it fails.
step() {
  local name=$1 start status=0
  shift
  start=$(date +%s%N)
  set +e # inside a condition, set -e would have no effect on the command
  (
    set -e
    "$@"
  ) >"$temp/log" 2>&1
  status=$?
  set -e
  printf '%-4s %6.1f s  %s\n' "$([ $status = 0 ] && echo ok || echo FAIL)" "$((($(date +%s%N) - start) / 1000000))e-3" "$name"
  if [ $status != 0 ]; then
    cat "$temp/log"
    exit 1
  fi
  grep '^  ' "$temp/log" || true # indented lines are results
}

# start_api NAME TEMPLATE [PARAMETER=VALUE]... serves a built template and writes its URL to $temp/NAME.url.
start_api() {
  local name=$1 template=$2 port pid
  # A free port that SAM CLI does not give to containers.
  port=$(python -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
  sam local start-api --config-file "$root/samconfig.toml" --template "$template" ${3:+--parameter-overrides "${*:3}"} \
    --docker-network "$network" --port "$port" >"$temp/$name.log" 2>&1 &
  pid=$!
  echo "$pid" >>"$pids"
  echo "http://127.0.0.1:$port" >"$temp/$name.url"
  until_ 60 answers "$(cat "$temp/$name.url")" || { cat "$temp/$name.log"; return 1; }
  kill -0 "$pid"
}

binaries() {
  local dir
  for dir in "$home"/test/*/; do
    [ "$(ls -A "$dir")" = bootstrap ] || { echo "$dir has $(ls -A "$dir")"; return 1; }
    python "$here/check_binary.py" "$dir/bootstrap" "$arch"
    printf '  %-20s %5.1f MiB\n' "$(basename "$dir")" "$(($(stat -c %s "$dir/bootstrap") * 10 / 1048576))e-1"
  done
}

start_database() {
  docker network create "$network"
  database_image "$image"
  database "$image" "$network"
}

invoke() {
  ORGSERVICE_SAM_BUILD=$home/test ORGSERVICE_SAM_NETWORK=$network \
    go test -tags sam -count=1 -timeout 5m -run '^TestInvoke$' ./local/sam
}

start_service() {
  # SAM CLI delays an answer by a second if many log lines come at once.
  start_api service "$home/test/template.yaml" LogLevel=WARN 'CorsOrigins=*'
  # The first request to each function starts its container. At once they would wait for each other.
  local url
  url=$(cat "$temp/service.url")
  for path in org/create admin/login admin/refresh admin/logout; do
    curl -sS -o /dev/null --max-time 60 -H 'content-type: application/json' -d '{}' "$url/$path"
  done
  for path in org/get .well-known/jwks.json admin/me health docs; do
    curl -sS -o /dev/null --max-time 60 -H 'authorization: Bearer none' "$url/$path"
  done
}

e2e() {
  ORGSERVICE_URL=$(cat "$temp/service.url") ORGSERVICE_GATEWAY=sam \
    JWT_SECRET=$(python -c 'import json; print(json.load(open("local/env.json"))["Parameters"]["JWT_SECRET"])') \
    go test -count=1 -timeout 8m ./local/e2e || { tail -100 "$temp/service.log"; return 1; }
}

echo_events() {
  build local/sam/testdata/echo/template.yaml "$home/test-echo"
  start_api echo "$home/test-echo/template.yaml"
  ORGSERVICE_ECHO_URL=$(cat "$temp/echo.url") go test -tags sam -count=1 -timeout 3m -run '^TestEcho$' ./local/sam
}

deployments() {
  cat "$temp/deployments.log"
  return "$1"
}

step "setup" "$here/setup.sh"
# shellcheck source=local/sam/lib.sh
source "$here/lib.sh"
step "sam validate" sam validate --lint --config-file samconfig.toml --template template.yaml
step "cfn-lint" cfn-lint --include-checks I -- template.yaml edge.yaml
step "deployed resources" python "$here/check_template.py" template.yaml samconfig.toml
# This one mostly waits, so the others go on meanwhile.
go test -tags sam -count=1 -timeout 20m -run '^TestDeploy$' ./local/sam >"$temp/deployments.log" 2>&1 &
deploying=$!
echo "$deploying" >>"$pids"
step "go build" env CGO_ENABLED=0 go build -tags lambda.norpc -ldflags=-s -buildvcs=false -o /dev/null ./functions/...
step "sam build" build template.yaml "$home/test"
step "binaries" binaries
step "database" start_database
step "sam local invoke" invoke
step "sam local start-api" start_service
step "end to end" e2e
step "events compared with the local gateway's" echo_events
status=0
wait "$deploying" || status=$?
step "deployments that fail" deployments "$status"
