#!/bin/bash
# Ends a test run: totals of the runner's own lines, then every skip. Fails on a failed test, on a skip that the third file
# does not explain, and on a run that ran nothing.
#
# usage: summary.sh TEST-LOG SKIPS EXPLANATIONS
set -eu
log=$1 skips=$2 explained=$3

echo
echo "== summary"
grep -E '^test .* \.\.\. FAILED$' "$log" || true
totals=$(awk '/^test result:/ { passed += $4; failed += $6; ignored += $8; programs++ }
    END { printf "%d %d %d %d", programs, passed, failed, ignored }' "$log")
read -r programs passed failed ignored <<<"$totals"
echo "$programs test programs: $passed passed, $failed failed, $ignored ignored"

status=0
[ "$passed" -gt 0 ] || { echo "nothing ran"; status=1; }
[ "$failed" -eq 0 ] || status=1

# An ignored test is a skip like any other, explained under its own name.
awk '/^test .* \.\.\. ignored/ { name = $2; reason = $0; sub(/^.*\.\.\. ignored,? ?/, "", reason)
    print "SPS-SKIP " name ": " name ": ignored, " (reason == "" ? "no reason given" : reason) }' "$log" >>"$skips"

sort -u -o "$skips" "$skips"
echo
echo "== skipped: $(wc -l <"$skips")"
while IFS= read -r line; do
    rest=${line#SPS-SKIP }
    test=${rest%%: *}
    reason=${rest#*: }
    peer=${reason%%: *}
    if grep -qFx "## $peer" "$explained"; then
        echo "$test: $reason"
    else
        echo "$test: $reason    <- not explained in $explained"
        status=1
    fi
done <"$skips"
exit $status
