#!/bin/sh
# package-test.sh: the package in a Debian of its own, with its own systemd: it is installed, started as a service, carries a
# call whose record is received, reloads, is upgraded with its state, moves to a PostgreSQL that is away for a while, and is
# purged. As root; takes minutes.
#   KEEP=1   leaves the Debian there, for a look
set -eu
cd "$(dirname "$0")/../.."
out=$PWD/.build/package
package=$(ls "$out"/sidecar_*.deb)
root=$(mktemp -d)
trap '[ -n "${KEEP:-}" ] || rm -rf --one-file-system "$root"' EXIT
trap 'exit 1' INT TERM

echo "== A bare Debian in $root" >&2
sidecar/setup/root.sh "$root" systemd,systemd-sysv >&2
cp "$package" "$root/sidecar.deb"
in_root() { env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive chroot "$root" "$@"; }

echo "== The package, as apt installs it" >&2
in_root apt-get -qq update
in_root apt-get -qq -y --no-install-recommends install /sidecar.deb sip-tester mosquitto postgresql >"$out/apt.log" 2>&1 || {
    tail -25 "$out/apt.log" >&2
    exit 1
}
# Every Python package that it brings is in its bill of materials.
for package in $(in_root sh -c 'ls -d /usr/lib/sidecar/lib/python3*/site-packages/*.dist-info'); do
    name=$(sed -n 's/^Name: //p' "$root$package/METADATA" | tr 'A-Z_.' 'a-z--')
    grep -q "\"python:$name\"" "$out"/sidecar_*.cdx.json || [ "$name" = sip-billing-sidecar ] || {
        echo "package-test: $name is not in the bill of materials" >&2
        exit 1
    }
done
for tool in gcc cc swig cmake pytest; do
    ! in_root sh -c "command -v $tool" || { echo "the package brought $tool" >&2; exit 1; }
done
rm "$root/usr/sbin/policy-rc.d"

cp sidecar/setup/package-trial.sh sipp_scenarios/caller-bye-in-call.ua?.xml "$root/"
cat >"$root/etc/systemd/system/trial.service" <<EOF
[Unit]
After=multi-user.target
SuccessAction=poweroff
FailureAction=poweroff
[Service]
Type=oneshot
ExecStart=/bin/sh /package-trial.sh
StandardOutput=append:/trial.log
StandardError=inherit
ExecStopPost=/bin/sh -c 'echo "\$SERVICE_RESULT" >/trial.result'
[Install]
WantedBy=default.target
EOF
in_root systemctl -q enable trial.service
for service in mosquitto postgresql; do in_root systemctl -q disable $service.service 2>/dev/null || true; done

echo "== Its systemd" >&2
timeout 600 systemd-nspawn -q -D "$root" --register=no --keep-unit --private-network -b >"$out/boot.log" 2>&1 </dev/null || true
cat "$root/trial.log" >&2 || tail -40 "$out/boot.log" >&2
[ "$(cat "$root/trial.result")" = success ] || { echo "package-test: failed; the console is in $out/boot.log" >&2; exit 1; }
