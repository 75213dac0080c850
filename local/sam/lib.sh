# What start.sh and test.sh share. They source it after setup.sh has run.
# shellcheck shell=bash

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
home=${SAM_HOME:-$root/local/.sam}
home=$(cd "$home" && pwd)
cd "$root" || exit

export PATH="$home/venv/bin:$PATH" SAM_CLI_TELEMETRY=0 __SAM_CLI_APP_DIR="$home/app"
unset PYTHONDONTWRITEBYTECODE # or SAM CLI compiles itself anew for two seconds each time
export AWS_DEFAULT_REGION="${AWS_DEFAULT_REGION:-us-east-1}" # some commands want one, none asks it

case $(uname -m) in
  aarch64 | arm64) arch=arm64 goarch=arm64 ;;
  *) arch=x86_64 goarch=amd64 ;;
esac

# build TEMPLATE FOLDER [OPTION]... builds the functions of a template for this machine.
# The default folder is left to what is deployed, which may be of another architecture.
build() {
  CGO_ENABLED=0 GOFLAGS='-tags=lambda.norpc -ldflags=-s -buildvcs=false' sam build --config-file "$root/samconfig.toml" \
    --template "$1" --build-dir "$2" --parameter-overrides "Architecture=$arch" "${@:3}"
}

# database_image NAME makes an image of the embedded database.
database_image() {
  local dir
  dir=$(mktemp -d)
  mkdir -m 1777 "$dir/tmp"
  CGO_ENABLED=0 GOOS=linux GOARCH=$goarch go build -buildvcs=false -ldflags=-s -o "$dir/db" ./local/embedded/serve
  tar -C "$dir" -c db tmp | docker import -c 'ENTRYPOINT ["/db", "-addr", "0.0.0.0:27017"]' - "$1"
  rm -r "$dir"
}

# database IMAGE NETWORK [OPTION]... runs it as "mongo" on a network, prints the container's id
# and returns when it listens.
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

# answers URL tells whether there is an HTTP server, whatever it says.
answers() { curl -s -o /dev/null --max-time 5 "$1"; }

# end PID ends a SAM command: it is deaf to SIGINT when it runs in the background.
end() {
  kill -TERM "$1" 2>/dev/null || return 0
  until_ 20 gone "$1" || kill -KILL "$1" 2>/dev/null || true
}
gone() { ! kill -0 "$1" 2>/dev/null; }

# remove_network NAME removes a network and the containers on it.
remove_network() {
  docker network inspect "$1" >/dev/null 2>&1 || return 0
  # shellcheck disable=SC2046 # ids have no spaces
  docker rm -f $(docker ps -aq --filter "network=$1") >/dev/null 2>&1 || true
  docker network rm "$1" >/dev/null
}
