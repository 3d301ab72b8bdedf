#!/bin/sh
# root.sh DIR PACKAGES [OPTIONS]: a bare Debian of this machine's release below DIR, with PACKAGES (a list with commas, or nothing) and
# apt as it is set up here, with whatever mirror and proxy that takes; OPTIONS are mmdebstrap's. `root.sh --clean DIR` takes away again
# what is of this machine.
set -eu
if [ "$1" = --clean ]; then
    cd "$2"
    rm -rf etc/apt/auth.conf.d/* etc/apt/apt.conf.d/* etc/apt/sources.list.d/* var/lib/apt/lists/* var/cache/apt/*.bin var/log/* tmp/*
    echo "deb http://deb.debian.org/debian $(. etc/os-release && echo "$VERSION_CODENAME") main" >etc/apt/sources.list
    : >etc/resolv.conf
    : >etc/hosts
    exit 0
fi
root=$1 packages=$2
shift 2
. /etc/os-release
# The hooks of that folder merge /usr as it is made, in place of the package usrmerge, which brings all of Perl.
mmdebstrap --quiet --variant=minbase ${packages:+--include="$packages"} "$@" \
    --setup-hook='[ ! -d /etc/apt/auth.conf.d ] || { mkdir -p "$1/etc/apt" && cp -r /etc/apt/auth.conf.d "$1/etc/apt/"; }' \
    --setup-hook='mkdir -p "$1/etc/apt/apt.conf.d" && apt-config dump | grep ^Acquire:: >"$1/etc/apt/apt.conf.d/90machine"' \
    --setup-hook='[ ! -e /etc/ssl/certs/ca-certificates.crt ] || { mkdir -p "$1/etc/ssl/certs" &&
        cp /etc/ssl/certs/ca-certificates.crt "$1/etc/ssl/certs/"; }' \
    --hook-dir=/usr/share/mmdebstrap/hooks/maybe-merged-usr \
    "$VERSION_CODENAME" "$root" $(ls /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources 2>/dev/null) \
    >"$root.log" 2>&1 || { tail -25 "$root.log" >&2; rm "$root.log"; exit 1; }
rm "$root.log"
cp /etc/resolv.conf /etc/hosts "$root/etc/"
printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
chmod 755 "$root/usr/sbin/policy-rc.d"
