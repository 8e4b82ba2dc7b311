#!/usr/bin/env bash
# Gives an office its numbers: a route for each desk, a gateway for everything else, registrations for devices that cannot
# register themselves. Uses spsctl(1) and spsroute(1) alone, on the instance that SPS_ROOT names (or the installed one).
# Running it again changes nothing. See sps-office(7).
#
# usage: office.sh [--plan FILE] [--gateway HOST[:PORT]] [--domain DOMAIN]
#
#   --plan FILE       what to set up, - for standard input; without it, the plan below
#   --gateway HOST    what %GATEWAY% in the plan stands for; default 192.0.2.1
#   --domain DOMAIN   what %DOMAIN% in the plan stands for; default localhost
set -euo pipefail

default_plan() {
	cat <<'EOF'
# KIND, what is called, where it leads.

# Ten desks, each with a phone or an adapter at an address of its own.
number  +4930555010  192.0.2.110
number  +4930555011  192.0.2.111
number  +4930555012  192.0.2.112
number  +4930555013  192.0.2.113
number  +4930555014  192.0.2.114
number  +4930555015  192.0.2.115
number  +4930555016  192.0.2.116
number  +4930555017  192.0.2.117
number  +4930555018  192.0.2.118
number  +4930555019  192.0.2.119

# Every other number goes out by the gateway.
gateway  +*  %GATEWAY%

# A door and a fax machine have names, and cannot register themselves.
static  sip:door@%DOMAIN%  sip:door@192.0.2.120:5060
static  sip:fax@%DOMAIN%   sip:fax@192.0.2.121:5060
EOF
}

usage() {
	sed -n '/^# usage:/,/^set/{/^set/d;s/^# \{0,1\}//p}' "$0"
}

# fail CODE TEXT: codes after sysexits(3).
fail() {
	echo "office.sh: $2" >&2
	exit "$1"
}

read_plan() {
	case $plan in
	'') default_plan ;;
	-) cat ;;
	*) cat -- "$plan" ;;
	esac
}

# check_line NUMBER KIND FIRST SECOND REST: the whole plan is looked at before the first command is given.
check_line() {
	case $2 in
	'' | '#'*) return ;;
	number | gateway | static) ;;
	*) fail 65 "line $1 of the plan: \"$2\" is neither number, gateway nor static" ;;
	esac
	if [ -z "$3" ] || [ -z "$4" ] || [ -n "$5" ]; then
		fail 65 "line $1 of the plan: expected two words behind \"$2\""
	fi
}

# apply_line KIND FIRST SECOND
apply_line() {
	case $1 in
	# On stdout it gives the number of the route, which is not needed here.
	number | gateway) spsroute add "$2" "$3" >/dev/null ;;
	static) spsctl registration add "$2" "$3" --permanent ;;
	esac
}

plan='' gateway=192.0.2.1 domain=localhost
while [ $# -gt 0 ]; do
	case $1 in
	-h | --help)
		usage
		exit
		;;
	--plan | --gateway | --domain)
		[ $# -ge 2 ] || fail 64 "$1 wants a value"
		declare "${1#--}=$2"
		shift 2
		;;
	*)
		usage >&2
		exit 64
		;;
	esac
done

for tool in spsctl spsroute; do
	command -v "$tool" >/dev/null || fail 69 "$tool is not in PATH"
done

text=$(read_plan) || fail 66 "the plan cannot be read"
text=${text//%GATEWAY%/$gateway}
text=${text//%DOMAIN%/$domain}

number=0
while read -r kind first second rest; do
	number=$((number + 1))
	check_line "$number" "$kind" "$first" "$second" "$rest"
done <<<"$text"

# What may be refused comes first: a static registration outside our domains leaves no half of an office behind.
for turn in static number gateway; do
	while read -r kind first second rest; do
		if [ "$kind" = "$turn" ]; then
			apply_line "$kind" "$first" "$second" </dev/null
		fi
	done <<<"$text"
done

spsroute list
spsctl registration list
