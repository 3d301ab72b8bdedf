#!/bin/sh
# image.sh: makes .build/package/sidecar-image.tar of the package and Debian's own (podman load, docker load): not root, nothing
# written but /var/lib/sidecar and /tmp, a healthcheck. As root.
set -eu
cd "$(dirname "$0")/../.."
out=$PWD/.build/package
package=$(ls "$out"/sidecar_*.deb)
version=$(dpkg-deb -f "$package" Version)
export STORAGE_DRIVER=vfs
root=$(mktemp -d)
container=
trap 'rm -rf --one-file-system "$root" "$root.tar"; [ -z "$container" ] || buildah rm "$container" >/dev/null' EXIT
trap 'exit 1' INT TERM

echo "== The image's Debian, with $(basename "$package")" >&2
# As Debian's own slim images: no manuals, no translations; copyrights stay.
sidecar/setup/root.sh "$root" "" --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/info/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' --dpkgopt='path-include=/usr/share/locale/locale.alias' \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-include=/usr/share/doc/*/copyright' \
    --dpkgopt='path-include=/usr/share/doc/sidecar/*' >&2
cp "$package" "$root/sidecar.deb"
in_root() { env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive chroot "$root" "$@"; }
{ in_root apt-get -qq update && in_root apt-get -qq -y --no-install-recommends install /sidecar.deb mosquitto; } >"$out/apt.log" 2>&1 || {
    tail -25 "$out/apt.log" >&2
    exit 1
}
in_root update-ca-certificates --fresh >/dev/null
in_root apt-get clean
rm "$root/sidecar.deb" "$root/usr/sbin/policy-rc.d"
sidecar/setup/root.sh --clean "$root"

echo "== The image" >&2
container=$(buildah from --format docker scratch)
# An archive keeps its owners; a folder would become root's.
tar -C "$root" --numeric-owner -cf "$root.tar" .
buildah add --quiet "$container" "$root.tar" / >/dev/null
buildah config --user sidecar --workingdir /var/lib/sidecar --volume /var/lib/sidecar --stop-signal TERM \
    --entrypoint '["/usr/bin/sidecar"]' --cmd run --env LANG=C.UTF-8 \
    --healthcheck "CMD /usr/lib/sidecar/bin/python3 -I -c \"import urllib.request as web; web.urlopen('http://127.0.0.1:9494/healthz', timeout=5)\"" \
    --healthcheck-interval 30s --healthcheck-timeout 10s --healthcheck-start-period 60s \
    --label org.opencontainers.image.title=sidecar --label "org.opencontainers.image.version=$version" \
    --label org.opencontainers.image.licenses=GPL-3.0-or-later "$container"
rm -f "$out/sidecar-image.tar"
# Docker's form: OCI's has no healthcheck.
buildah commit --quiet --format docker --rm "$container" "docker-archive:$out/sidecar-image.tar:localhost/sidecar:latest" >/dev/null
container=
ls "$out/sidecar-image.tar"
