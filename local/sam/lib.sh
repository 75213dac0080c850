# Functions of start.sh and test.sh, which source this file after setup.sh.
# shellcheck shell=bash

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
home=${SAM_HOME:-$root/local/.sam}
home=$(cd "$home" && pwd)
cd "$root" || exit

export PATH="$home/venv/bin:$PATH" SAM_CLI_TELEMETRY=0 __SAM_CLI_APP_DIR="$home/app"
unset PYTHONDONTWRITEBYTECODE # or Python compiles SAM CLI each time, for two seconds
export AWS_DEFAULT_REGION="${AWS_DEFAULT_REGION:-us-east-1}" # some commands need a region, but none uses it

case $(uname -m) in
  aarch64 | arm64) arch=arm64 goarch=arm64 ;;
  *) arch=x86_64 goarch=amd64 ;;
esac

# build TEMPLATE FOLDER [OPTION]... builds the functions of a template for this machine.
# It does not use the default folder, which is for the deployment and maybe another architecture.
build() {
  sed "s/^\( *Architectures:\) \[arm64\]$/\1 [$arch]/" "$1" >"$home/template.yaml"
  CGO_ENABLED=0 GOFLAGS='-tags=lambda.norpc -ldflags=-s -buildvcs=false' sam build --config-file "$root/samconfig.toml" \
    --template "$home/template.yaml" --base-dir "$(dirname "$1")" --build-dir "$2" "${@:3}"
}

# database_image NAME makes a Docker image of the embedded database.
database_image() {
  local dir
  dir=$(mktemp -d)
  mkdir -m 1777 "$dir/tmp"
  CGO_ENABLED=0 GOOS=linux GOARCH=$goarch go build -buildvcs=false -ldflags=-s -o "$dir/db" ./local/embedded/serve
  tar -C "$dir" -c db tmp | docker import -c 'ENTRYPOINT ["/db", "-addr", "0.0.0.0:27017"]' - "$1"
  rm -r "$dir"
}

# database IMAGE NETWORK [OPTION]... starts the image with the host name "mongo" on a network,
# waits until the database listens, and prints the ID of the container.
database() {
  local id
  id=$(docker run -d -i --rm --network "$2" --network-alias mongo "${@:3}" "$1")
  echo "$id"
  until_ 30 database_listens "$id"
}
database_listens() { docker logs "$1" 2>&1 | grep -q '^mongodb:'; }

# until_ SECONDS COMMAND... waits until the command succeeds.
until_() {
  local deadline=$((SECONDS + $1))
  until "${@:2}"; do
    [ "$SECONDS" -lt "$deadline" ] || { echo "not within $1 s: ${*:2}" >&2; return 1; }
    sleep 0.1
  done
}

# answers URL succeeds if an HTTP server answers, with any status.
answers() { curl -s -o /dev/null --max-time 5 "$1"; }

# end PID ends a SAM command. In the background, it ignores SIGINT.
end() {
  kill -TERM "$1" 2>/dev/null || return 0
  until_ 20 gone "$1" || kill -KILL "$1" 2>/dev/null || true
}
gone() { ! kill -0 "$1" 2>/dev/null; }

# remove_network NAME removes a Docker network and its containers.
remove_network() {
  docker network inspect "$1" >/dev/null 2>&1 || return 0
  # shellcheck disable=SC2046 # ids have no spaces
  docker rm -f $(docker ps -aq --filter "network=$1") >/dev/null 2>&1 || true
  docker network rm "$1" >/dev/null
}
