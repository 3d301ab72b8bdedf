#!/bin/sh
# apt.sh [tests|web|package|package-test]: installs the Debian packages that are missing, with `tests` those too that only tests and
# benchmarks call, with `package` what `make install` and `make deb` call; does not call apt when none is.
set -eu
packages="
    build-essential pkg-config swig libssl-dev uuid-dev xz-utils ca-certificates debian-archive-keyring
    python3 python3-venv python3-dev
    mosquitto mosquitto-clients sip-tester openssl
"
if [ "${1:-}" = tests ]; then
    packages="$packages kamailio baresip-core postgresql strace libfaketime dnsmasq-base chromium prometheus systemd sngrep"
fi
if [ -n "${1:-}" ]; then
    # Node may come from elsewhere than Debian.
    command -v node >/dev/null || packages="$packages nodejs"
    command -v npm >/dev/null || packages="$packages npm"
fi
case ${1:-} in package*) packages="$packages debhelper patchelf" ;; esac
if [ "${1:-}" = package-test ]; then packages="$packages mmdebstrap systemd-container buildah podman runc iproute2"; fi
missing=
for package in $packages; do
    case $(dpkg-query -W -f '${Status}' "$package" 2>/dev/null) in
        "install ok installed") ;;
        *) missing="$missing $package" ;;
    esac
done
[ -n "$missing" ] || exit 0

if [ "$(id -u)" = 0 ]; then
    sudo=
elif command -v sudo >/dev/null; then
    sudo=sudo
else
    echo "Debian packages are missing, and this is neither root nor a user with sudo. As root, run:" >&2
    echo "  apt-get install -y --no-install-recommends$missing" >&2
    exit 1
fi
echo "== Debian packages:$missing (20 s)" >&2

# mosquitto, kamailio, postgresql and prometheus would start at once, on the ports of their defaults. Debian asks this file first; put one
# there for as long as it takes, unless the machine has its own.
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
    trap '$sudo rm -f $policy' EXIT
    trap 'exit 1' INT TERM
    printf '#!/bin/sh\nexit 101\n' | $sudo tee $policy >/dev/null
    $sudo chmod 755 $policy
fi
log=$(mktemp)
if ! { $sudo apt-get -qq update && $sudo env DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends \
    -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 install $missing; } >"$log" 2>&1; then
    tail -25 "$log" >&2
    echo "apt failed; the end of its output is above, the whole is in $log. No network, or a mirror that is down:" >&2
    echo "put that right and run the same command again. Broken packages: apt-get install -f." >&2
    exit 1
fi
rm -f "$log"

# Nor at the next boot: what we brought runs as a child of the daemon or of a test. Whoever had one before keeps it as it is.
for service in mosquitto kamailio postgresql prometheus; do
    case " $missing " in *" $service "*)
        $sudo deb-systemd-helper disable $service.service >/dev/null 2>&1 || true
        $sudo update-rc.d $service disable >/dev/null 2>&1 || true
    esac
done
