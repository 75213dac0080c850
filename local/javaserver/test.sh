#!/usr/bin/env bash
# Builds and starts mongo-java-server, and runs on it the tests of ./shared and,
# when nothing else runs, those of the whole service. Arguments are go test's.
set -euo pipefail
cd "$(dirname "$0")"
# Offline, unless Maven still lacks something.
mvn -q -B -o -Dstyle.color=never package >/dev/null 2>&1 || mvn -q -B -Dstyle.color=never package
# It ends with this script, whose end closes its standard input.
coproc server { exec java -jar ../.data/javaserver/javaserver.jar; }
read -r url <&"${server[0]}"
cd ../..
export MONGO_URL=$url
go test -count=1 "$@" ./shared/...
go test -count=1 "$@" ./local/e2e
