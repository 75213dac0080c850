#!/usr/bin/env bash
# Installs what the service needs under AWS SAM CLI: SAM CLI with cfn-lint, moto for its tests, Docker and the Lambda
# base image. It does nothing where they are installed already.
# SAM_HOME: folder of SAM CLI and of the log of Docker (default: local/.sam).
set -euo pipefail

export PATH=$PATH:/usr/sbin:/sbin SAM_CLI_TELEMETRY=0
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
home=${SAM_HOME:-$here/../.sam}
mkdir -p "$home"
home=$(cd "$home" && pwd)

die() { echo "setup: $*" >&2; exit 1; }

# packages NAME... installs Debian packages, or asks the user to.
packages() {
  [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || die "please install $*"
  echo "setup: installing $*" >&2
  export DEBIAN_FRONTEND=noninteractive
  local apt=(apt-get -q -o DPkg::Lock::Timeout=120 -o Acquire::Retries=3)
  { "${apt[@]}" update && "${apt[@]}" install -y --no-install-recommends "$@"; } >"$home/apt.log" 2>&1 ||
    { tail -20 "$home/apt.log" >&2; die "installing $* failed"; }
}

# --- SAM CLI, cfn-lint and moto, in the versions of requirements.txt
if ! cmp -s "$here/requirements.txt" "$home/installed.txt" || ! "$home/venv/bin/python" -c '' 2>/dev/null; then
  python3 -c 'import ensurepip, venv' 2>/dev/null || packages python3 python3-venv
  python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || die "please install Python 3.11 or newer, as python3"
  echo "setup: installing SAM CLI" >&2
  python3 -m venv --clear "$home/venv"
  "$home/venv/bin/pip" install -q --disable-pip-version-check uv==0.13.9
  "$home/venv/bin/uv" pip install -q --system-certs --python "$home/venv/bin/python" -r "$here/requirements.txt" ||
    "$home/venv/bin/pip" install -q --disable-pip-version-check --no-deps --no-compile -r "$here/requirements.txt"
  cp "$here/requirements.txt" "$home/installed.txt"
fi

# --- Docker
if ! docker info >/dev/null 2>&1; then
  command -v dockerd >/dev/null || packages docker.io
  [ "$(id -u)" = 0 ] || die "please start Docker"
  if [ -d /run/systemd/system ]; then
    systemctl start docker
    daemon=1
  else
    echo "setup: starting dockerd" >&2
    # A daemon that was killed leaves these files, and the next one does not start while they are there.
    for file in /run/docker.pid /run/docker/containerd/containerd.pid; do
      if [ -e "$file" ] && ! [[ $(readlink "/proc/$(cat "$file")/exe") =~ /(dockerd|containerd)$ ]]; then rm "$file"; fi
    done
    setsid dockerd >"$home/dockerd.log" 2>&1 </dev/null &
    daemon=$!
    echo "$daemon" >"$home/dockerd.pid"
  fi
  for _ in $(seq 150); do
    docker info >/dev/null 2>&1 && break
    kill -0 "$daemon" 2>/dev/null || break
    sleep 0.2
  done
  docker info >/dev/null 2>&1 || { tail -20 "$home/dockerd.log" >&2 || true; die "Docker doesn't answer"; }
fi

# --- The base image, to which SAM CLI adds its Lambda runtime emulator. If the image of AWS can't be pulled,
# a small one replaces it: SAM CLI needs only a shell, mv and chmod, and a static Go binary only certificates.
case $(uname -m) in
  x86_64) arch=x86_64 ;;
  aarch64 | arm64) arch=arm64 ;;
  *) die "Lambda does not run on $(uname -m)" ;;
esac
image=public.ecr.aws/lambda/provided:al2023-$arch
command -v timeout >/dev/null || timeout() { "${@:2}"; } # macOS has none
if ! docker image inspect "$image" >/dev/null 2>&1 && ! timeout 300 docker pull -q "$image" >/dev/null 2>&1; then
  echo "setup: can't pull $image, making a replacement" >&2
  command -v busybox >/dev/null && ! ldd "$(command -v busybox)" >/dev/null 2>&1 || packages busybox-static
  [ -s /etc/ssl/certs/ca-certificates.crt ] || packages ca-certificates
  root=$(mktemp -d)
  trap 'rm -rf "$root"' EXIT
  mkdir -p "$root"/{bin,etc/ssl/certs,tmp,var/task,var/runtime,opt}
  chmod 755 "$root"
  chmod 1777 "$root/tmp"
  cp "$(command -v busybox)" "$root/bin/busybox"
  for tool in sh mv chmod; do ln -s busybox "$root/bin/$tool"; done
  cp -L /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
  tar -C "$root" --owner=0 --group=0 -c . | docker import -c 'ENV PATH=/bin' -m 'replacement of the Lambda base image' - "$image" >/dev/null
fi

"$home/venv/bin/sam" --version >/dev/null || die "SAM CLI doesn't run"
echo "setup: SAM CLI is $home/venv/bin/sam" >&2
