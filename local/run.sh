#!/bin/sh
# Compiles and runs the service on this machine. While it compiles, which takes
# minutes the first time, it says how far it is; otherwise nothing.
cd "$(dirname "$0")/.." || exit 1
mkdir -p local/.data && chmod 700 local/.data || exit 1
{ go build -v -o local/.data/local ./local 2>&1 || echo "go build failed"; } | {
	packages=0 failed=0
	while IFS= read -r line; do
		case $line in
		"go build failed") failed=1 ;;
		*[!a-zA-Z0-9._~/-]*) echo "$line" ;; # a message; other lines are packages
		*)
			packages=$((packages + 1))
			if [ $((packages % 50)) -eq 1 ]; then
				echo "compiling the local gateway and database: package $packages (the first time there are about 700)"
			fi
			;;
		esac
	done
	exit $failed
} && exec local/.data/local "$@"
