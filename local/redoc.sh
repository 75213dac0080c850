#!/usr/bin/env bash
# Fetches ReDoc from npm for the page /redoc.
set -euo pipefail
cd "$(dirname "$0")/.."
version=2.5.2
sha512=sTJfItvRkcDTojB6wdLN4M+Ua6mlZwElV21Tf8Mn7IbQF/1Os6GvgQpZyLWPGZZHbhy7GC1Or1hTMHfz1vKh5A==

temp=$(mktemp -d)
trap 'rm -rf "$temp"' EXIT
# make run waits for this, also without a network.
npm pack "redoc@$version" --loglevel=error --fetch-retries=1 --fetch-retry-mintimeout=1000 --fetch-timeout=30000 \
  --pack-destination "$temp" >/dev/null
archive=$temp/redoc-$version.tgz
found=$(node -p 'require("crypto").createHash("sha512").update(require("fs").readFileSync(process.argv[1])).digest("base64")' "$archive")
[ "$found" = "$sha512" ] || { echo "redoc $version has the hash $found, not $sha512" >&2; exit 1; }
# The page shows its logo from another host, which the page may not ask.
tar -xzOf "$archive" package/bundles/redoc.standalone.js |
  sed 's|https://cdn.redoc.ly/redoc/logo-mini.svg|/assets/icon.svg|' | gzip -9n >"$temp/bundle"
mv "$temp/bundle" shared/pages/redoc/redoc.standalone.js.gz
