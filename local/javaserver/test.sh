#!/usr/bin/env bash
# Builds and starts mongo-java-server and runs tests on it: first those of
# ./shared, then those of the whole service. The arguments are for go test.
set -euo pipefail
cd "$(dirname "$0")"
# Offline first; online if Maven lacks a file.
mvn -q -B -o -Dstyle.color=never package >/dev/null 2>&1 || mvn -q -B -Dstyle.color=never package
# The server ends with this script, because its standard input is closed then.
coproc server { exec java -jar ../.data/javaserver/javaserver.jar; }
read -r url <&"${server[0]}"
cd ../..
export MONGO_URL=$url
go test -count=1 "$@" ./shared/...
go test -count=1 "$@" ./shared/org -run '^TestRace' -race.rounds 10 # this server runs commands at once
go test -count=1 "$@" ./local/e2e
