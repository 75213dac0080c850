#!/usr/bin/env bash
# Runs the service under SAM CLI at http://127.0.0.1:3000 (PORT), each function in a container, until
# Ctrl-C. The database is the MongoDB of local/compose.yaml, which keeps its data. Where its image can't be
# pulled, it is the embedded database, which loses its data at the end.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
"$here/setup.sh"
# shellcheck source=local/sam/lib.sh
source "$here/lib.sh"

die() { echo "start: $*" >&2; exit 1; }
taken() { (: <>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

port=${PORT:-3000}
taken "$port" && die "port $port is taken: make sam-local PORT=3001"
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

if docker image inspect "$("${compose[@]}" config --images)" >/dev/null 2>&1 || "${compose[@]}" pull; then
  "${compose[@]}" up -d --wait || die "MongoDB can't start: see above"
else
  echo "start: the image of MongoDB can't be pulled: using the embedded database, which loses its data at the end" >&2
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
