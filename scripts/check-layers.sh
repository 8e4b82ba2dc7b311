#!/usr/bin/env bash
# Checks the layers of the house (CONTRIBUTING.md): a package that may be named in a few crates only is named nowhere else,
# the decisions below know no edge, and the daemons on the call path link nothing heavy. Needs cargo and the network no more
# than a build does.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo=${CARGO:-cargo}
failed=0

complain() {
	echo "check-layers: $1" >&2
	failed=1
}

# What crate $1 names itself, one name a line.
direct() {
	"$cargo" tree --locked --offline --quiet -p "$1" -e normal --depth 1 --prefix none --format '{p}' | tail -n +2 | cut -d' ' -f1 | sort -u
}

# Everything that ends up in crate $1.
linked() {
	"$cargo" tree --locked --offline --quiet -p "$1" -e normal --prefix none --format '{p}' | tail -n +2 | cut -d' ' -f1 | sort -u
}

# PACKAGE: the crates that may name it. cmd stands for every program.
doors='
tokio: sps-net sps-ipc sps-daemon cmd
hickory-resolver: sps-net
ipc-channel: sps-ipc
nix: sps-daemon sps-net sps-mmsg sps-ipc
clap: sps-cli sps-daemon cmd
memmap2: sps-mapped
rusqlite: sps-store
libc: sps-mmsg sps-mapped
toml: sps-conf
tabled: sps-cli
rustls: sps-tls
tokio-rustls: sps-tls
rustls-webpki: sps-tls
rustls-pki-types: sps-tls
'

programs=$(for folder in cmd/*/; do basename "$folder"; done)
rooms=$(for folder in lib/*/; do echo "sps-$(basename "$folder")"; done)
for crate in $rooms $programs; do
	names=$(direct "$crate")
	while IFS=': ' read -r package allowed; do
		[ -n "$package" ] || continue
		grep -qx "$package" <<<"$names" || continue
		who=" $allowed "
		case $who in *" $crate "*) continue ;; esac
		case $who in *" cmd "*) grep -qx "$crate" <<<"$programs" && continue ;; esac
		complain "$crate names $package, which belongs to:$who"
	done <<<"$doors"
	for program in $programs; do
		if grep -qx "$program" <<<"$names"; then complain "$crate imports the program $program"; fi
	done
done

# The decisions: no edge, no runtime, no system below them.
for crate in sps-wire sps-sip sps-route; do
	[ -d "lib/${crate#sps-}" ] || continue
	for package in $(linked "$crate"); do
		case $package in
		tokio | nix | libc | socket2 | mio | rustix | getrandom | tracing-subscriber | clap | toml | \
			sps-net | sps-ipc | sps-conf | sps-registry | sps-store | sps-mapped | sps-mmsg | sps-daemon | sps-cli)
			complain "$crate depends on $package"
			;;
		esac
	done
done

# The call path.
for crate in sps-proxy sps-registrar; do
	for package in $(linked "$crate"); do
		case $package in
		redis | mysql* | sqlx* | axum* | ratatui* | rhai* | openssl* | native-tls | aws-lc*)
			complain "$crate links $package"
			;;
		esac
	done
done

[ "$failed" -eq 0 ] && echo "check-layers: all in its layer"
exit "$failed"
