#!/bin/bash
# Installs the foreign peers of the system tests, given as Debian package names, where they are missing and we may.
set -eu

missing=()
for package in "$@"; do
    dpkg-query -W -f='${db:Status-Abbrev}' "$package" 2>/dev/null | grep -q '^ii' || missing+=("$package")
done
[ ${#missing[@]} -eq 0 ] && exit 0

command -v apt-get >/dev/null || {
    echo "peers missing and no apt-get here: ${missing[*]}; their tests will be skipped" >&2
    exit 0
}
if [ "$(id -u)" -eq 0 ]; then
    as_root=()
elif sudo -n true 2>/dev/null; then
    as_root=(sudo -n)
else
    echo "peers missing and no right to install them: ${missing[*]}; their tests will be skipped" >&2
    exit 0
fi

echo "installing peers of the tests: ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
apt() { "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o Dpkg::Use-Pty=0 "$@"; }
# Package lists may be older than the mirror, or not there at all in a container.
if ! apt install --no-install-recommends "${missing[@]}" >/dev/null 2>&1; then
    apt update >/dev/null || true
    apt install --no-install-recommends "${missing[@]}" >/dev/null || {
        echo "peers could not be installed: ${missing[*]}; their tests will be skipped" >&2
    }
fi
