#!/usr/bin/env bash
# Runs an instance of SPS in the foreground, as make run does. The first time it writes a configuration for this machine alone.
#
# usage: run.sh PROGRAM-FOLDER ROOT DOMAIN PORT
set -euo pipefail

if [ $# -ne 4 ]; then
	sed -n '2,4s/^# \{0,1\}//p' "$0" >&2
	exit 64
fi
programs=$1 root=$2 domain=$3 port=$4

if [ ! -e "$root/etc/sps.toml" ]; then
	"$programs/spsctl" --root "$root" init --domain "$domain" \
		--listen "udp:127.0.0.1:$port" --listen "tcp:127.0.0.1:$port"
fi
cat >&2 <<EOF
SPS runs below $root until you press Ctrl-C. In another shell:
  export SPS_ROOT='$root' PATH='$programs':"\$PATH"
  spsctl status
  tail -f '$root/log/access_log'
EOF
exec "$programs/spsctl" --root "$root" start --foreground
