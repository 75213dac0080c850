#!/usr/bin/env bash
# Makes a template deploy gradually: each function gets a version of its own with each deployment and an alias,
# which AWS CodeDeploy moves from one version to the next, and back if an alarm goes off.
#
# It is not part of the template, because a version keeps the environment that it was made with: without a tag that
# is new each time, a deployment that only changes parameters would change nothing.
#
# usage: gradual.sh TEMPLATE TYPE, such as Canary10Percent5Minutes
set -euo pipefail
case $2 in
  Canary10Percent5Minutes | Canary10Percent10Minutes | Canary10Percent15Minutes | Canary10Percent30Minutes) ;;
  Linear10PercentEvery1Minute | Linear10PercentEvery2Minutes | Linear10PercentEvery3Minutes | Linear10PercentEvery10Minutes | AllAtOnce) ;;
  *) echo "GRADUAL is Canary10Percent5Minutes (10, 15, 30), Linear10PercentEvery1Minute (2Minutes, 3, 10) or AllAtOnce" >&2 && exit 1 ;;
esac
! grep -q AutoPublishAlias "$1" || { echo "$1 deploys gradually already: build it again" >&2 && exit 1; }
temp=$(mktemp)
trap 'rm -f "$temp" "$temp.globals"' EXIT
cat >"$temp.globals" <<EOF
    AutoPublishAlias: live
    AutoPublishAliasAllProperties: true
    VersionDeletionPolicy: Delete
    Tags: { deployment: "$(date -u +%Y-%m-%dT%H:%M:%SZ)" }
    DeploymentPreference:
      Type: $2
      Alarms: !If [HasAlarms, [!Ref FaultsAlarm, !Ref LatencyAlarm], []]
EOF
sed -e '/^Globals:/,/^[A-Z]/{' -e "/^  Function:\$/r $temp.globals" -e '}' "$1" >"$temp"
grep -q '^    AutoPublishAlias: live$' "$temp" || { echo "$1 has no Globals of functions" >&2 && exit 1; }
cp "$temp" "$1"
