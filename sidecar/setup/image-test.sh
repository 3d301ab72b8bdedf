#!/bin/sh
# image-test.sh: the image run by podman with a root that is read-only, in a network of its own: healthy, not root, a call
# through it, its record, its end. As root.
set -eu
cd "$(dirname "$0")/../.."
if [ "${1:-}" != inside ]; then exec unshare --net "$0" inside; fi
ip link set lo up
out=$PWD/.build/package
export STORAGE_DRIVER=vfs
work=$(mktemp -d)
name=sidecar-trial-$$
trap 'podman rm --force --time 5 "$name" >/dev/null 2>&1 || true; podman rmi --force localhost/sidecar:latest >/dev/null; rm -rf "$work"' EXIT
trap 'exit 1' INT TERM
within() { # a minute
    for _ in $(seq 300); do ! "$@" || return 0; sleep 0.2; done
    echo "not within a minute: $*" >&2
    podman logs "$name" 2>&1 | tail -5 >&2
    exit 1
}
inside() { podman --runtime runc exec "$name" "$@"; }

podman load --quiet --input "$out/sidecar-image.tar" >/dev/null
printf '[sip]\nprofile = "demo"\n' >"$work/sidecar.toml"
chmod 644 "$work/sidecar.toml"
podman --runtime runc run --detach --quiet --name "$name" --network host --read-only --tmpfs /tmp --cap-drop all --ulimit nofile=4096:4096 --ulimit nproc=1000:1000 --health-interval disable \
    --security-opt no-new-privileges --volume "$work/sidecar.toml:/etc/sidecar/sidecar.toml:ro" localhost/sidecar:latest >/dev/null
healthy() { podman healthcheck run "$name" >/dev/null 2>&1; }
within healthy
[ "$(inside id -un)" = sidecar ] || { echo "it runs as $(inside id -un)" >&2; exit 1; }
! inside touch /usr/written 2>/dev/null || { echo "its root can be written" >&2; exit 1; }

sipp -sf sipp_scenarios/caller-bye-in-call.uas.xml -i 127.0.0.1 -p 5090 -m 1 -nostdin -timeout 40 -timeout_error >"$work/uas" 2>&1 &
callee=$!
within grep -q ':13E2 ' /proc/net/udp
sipp 127.0.0.1:5080 -sf sipp_scenarios/caller-bye-in-call.uac.xml -s 4930123456 -d 1000 -key account demo -i 127.0.0.1 -p 5070 \
    -m 1 -nostdin -timeout 40 -timeout_error >"$work/uac" 2>&1 || { tail -5 "$work/uac" >&2; exit 1; }
wait "$callee"
recorded() { inside sidecar cdr search --origin caller --json | grep -q '"call_id"'; }
within recorded
podman --runtime runc stop --time 30 "$name" >/dev/null
status=$(podman inspect --format '{{.State.ExitCode}}' "$name")
[ "$status" = 0 ] || { echo "it ended with $status" >&2; exit 1; }
echo "image-test: passed" >&2
