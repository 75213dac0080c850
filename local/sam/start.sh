#!/usr/bin/env bash
# Runs the service under SAM CLI at http://127.0.0.1:3000 (PORT), each function in a container, until
# Ctrl-C. The database is the MongoDB of local/compose.yaml, which keeps its data. If that can't start, it
# is the embedded database, which loses its data at the end.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
"$here/setup.sh"
# shellcheck source=local/sam/lib.sh
source "$here/lib.sh"

port=${PORT:-3000}
image=organization-management-db
network=organization-management # of compose.yaml and samconfig.toml
compose=(docker compose -f "$root/local/compose.yaml")
pid=
stop() {
  trap '' INT TERM
  if [ -n "$pid" ]; then end "$pid"; fi
  # shellcheck disable=SC2046 # ids have no spaces
  docker rm -f $(docker ps -aq --filter "network=$network" --filter label=sam.cli.container.type=lambda) >/dev/null 2>&1 || true
  if [ "${embedded:-}" ]; then
    remove_network "$network"
    docker image rm -f "$image" >/dev/null 2>&1 || true
  else
    "${compose[@]}" down 2>/dev/null || true
  fi
}
trap stop EXIT
trap 'exit 0' INT TERM

go build -o /dev/null ./functions/... # shows compiler errors, which SAM CLI hides
build template.yaml "$home/build"

if ! "${compose[@]}" up -d --wait; then
  echo "start: MongoDB can't start: using the embedded database, which loses its data at the end" >&2
  embedded=1
  remove_network "$network"
  docker network create "$network" >/dev/null
  database_image "$image" >/dev/null
  database "$image" "$network" >/dev/null
fi

sam local start-api --config-file "$root/samconfig.toml" --template "$home/build/template.yaml" \
  --parameter-overrides "CorsOrigins=*" --docker-network "$network" --port "$port" &
pid=$!
wait "$pid"
