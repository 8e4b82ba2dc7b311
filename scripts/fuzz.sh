#!/usr/bin/env bash
# Fuzzes SPS: each target for so many seconds, two at a time. Fails when something is found and says where it lies.
#
# usage: fuzz.sh SECONDS [TARGET…]
#
# With a C++ compiler the targets are led by coverage: libFuzzer, and counters that the stable compiler puts in. There is no address
# sanitiser on stable, so debug assertions and overflow checks have to tell, and unsafe code is looked at in lib/mapped alone.
# Without a C++ compiler the corpus is mutated blindly. New cases go to TARGET_DIR/fuzz/corpus, findings to TARGET_DIR/fuzz/found.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:?usage: fuzz.sh SECONDS [TARGET…]}
shift
cargo=${CARGO:-cargo}
target_dir=$(realpath -m "${CARGO_TARGET_DIR:-target}")
work=$target_dir/fuzz
mkdir -p "$work/corpus" "$work/found" "$work/log"
host=$(rustc -vV | sed -n 's/^host: //p')

# Counters at every edge, without -Z: what cargo-fuzz sets, but for the sanitiser.
coverage="-C passes=sancov-module -C llvm-args=-sanitizer-coverage-level=4 -C llvm-args=-sanitizer-coverage-inline-8bit-counters \
-C llvm-args=-sanitizer-coverage-pc-table -C llvm-args=-sanitizer-coverage-trace-compares -C codegen-units=16"
if command -v "${CXX:-c++}" >/dev/null; then
	guided=1
	# --target keeps the flags from build scripts and procedural macros.
	RUSTFLAGS=$coverage "$cargo" build --quiet --locked --profile fuzz --target "$host" --target-dir "$work/build" \
		-p sps-fuzz --bin sps-fuzz-guided --features guided
	bin=$work/build/$host/fuzz
else
	guided=0
	echo "no C++ compiler: fuzzing without guidance" >&2
	"$cargo" build --quiet --locked --profile fuzz --target-dir "$work/build" -p sps-fuzz --bin sps-fuzz
	bin=$work/build/fuzz
fi
# tests/fuzz/tests/replay.rs keeps folders and targets the same.
[ $# -gt 0 ] || set -- $(ls tests/fuzz/corpus)

# Runs one target; its log goes to a file, its result to a line.
one() {
	local target=$1 log=$work/log/$1 status=0
	mkdir -p "$work/corpus/$target"
	if [ "$guided" = 1 ]; then
		SPS_FUZZ_TARGET=$target "$bin/sps-fuzz-guided" -max_total_time="$seconds" -max_len=4096 -timeout=10 -rss_limit_mb=2048 \
			-print_final_stats=1 -verbosity=1 -dict=tests/fuzz/sip.dict -artifact_prefix="$work/found/$target-" \
			"$work/corpus/$target" "tests/fuzz/corpus/$target" >"$log" 2>&1 || status=$?
		awk -v target="$target" '
			/INITED/ { for (i = 1; i < NF; i++) if ($i == "cov:") first = $(i + 1) }
			/ cov: / { for (i = 1; i < NF; i++) if ($i == "cov:") last = $(i + 1) }
			/stat::number_of_executed_units/ { runs = $2 }
			END { printf "%-14s %10d runs, coverage %d -> %d\n", target, runs, first, last }' "$log"
	else
		"$bin/sps-fuzz" "$target" "$seconds" "tests/fuzz/corpus/$target" "$work/found" >"$log" 2>&1 || status=$?
		tail -n 1 "$log"
	fi
	if [ "$status" != 0 ]; then
		echo "$target FAILED ($status); the end of $log:"
		tail -n 20 "$log"
	fi
	return "$status"
}

failed=0
running=0
for target in "$@"; do
	one "$target" &
	running=$((running + 1))
	if [ "$running" -ge "${FUZZ_JOBS:-2}" ]; then
		wait -n || failed=1
		running=$((running - 1))
	fi
done
while [ "$running" -gt 0 ]; do
	wait -n || failed=1
	running=$((running - 1))
done
if [ "$failed" != 0 ]; then
	echo "fuzzing found something: the cases lie in $work/found; each becomes a file in tests/fuzz/corpus and a fix" >&2
	exit 1
fi
