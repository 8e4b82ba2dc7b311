#!/usr/bin/env bash
# Formats every manual page and shows what the formatter complains about. Says so when there is no groff.
set -euo pipefail
cd "$(dirname "$0")/.."

if ! command -v groff >/dev/null; then
	echo "check-pages: skipped: groff is not installed" >&2
	exit 0
fi
failed=0
for page in man/*.[1-8]; do
	complaints=$(groff -man -Tutf8 -ww -z "$page" 2>&1)
	if [ -n "$complaints" ]; then
		printf '%s\n' "$complaints" >&2
		failed=1
	fi
done
exit "$failed"
