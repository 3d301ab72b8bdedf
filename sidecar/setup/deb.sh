#!/bin/sh
# deb.sh: makes .build/package/sidecar_VERSION_ARCH.deb, for the Debian and the Python of this machine.
set -eu
cd "$(dirname "$0")/../.."
out=$PWD/.build/package
work=$out/deb
version=$(sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
. /etc/os-release
export SOURCE_DATE_EPOCH="$(git log -1 --format=%ct 2>/dev/null || stat -c %Y pyproject.toml)"
# Commits are counted, so that a later one is an upgrade.
git=$(git log -1 --format="+$(git rev-list --count HEAD).g%h" 2>/dev/null || true)
version=$version$git~deb${VERSION_ID:-0}
rm -rf "$work"
mkdir -p "$work"
cp -r sidecar/setup/debian "$work/debian"
cat >"$work/debian/changelog" <<EOF
sidecar ($version) unstable; urgency=medium

  * What is new is in CHANGELOG.md.

 -- The sidecar's operators <root@localhost>  $(date -uR -d "@$SOURCE_DATE_EPOCH")
EOF
cp CHANGELOG.md "$work/"
echo CHANGELOG.md >"$work/debian/docs"
rm -f "$out"/sidecar_*
(cd "$work" && CLONE=$OLDPWD dpkg-buildpackage --build=binary --no-sign >"$out/deb.log" 2>&1) || {
    tail -25 "$out/deb.log" >&2
    echo "deb: dpkg-buildpackage failed; the whole is in $out/deb.log" >&2
    exit 1
}
rm -f "$out"/../sidecar_*.buildinfo "$out"/sidecar_*.changes "$out"/sidecar_*.buildinfo
ls "$out"/sidecar_*.deb
