#!/bin/sh
# install.sh: what `make install` does, and what the package is made of. From the clone, once set-up is done.
#   PREFIX=/usr/local   below it: lib/sidecar (a venv of its own), bin, share
#   DESTDIR=/somewhere  puts all of it below there, and leaves users and services alone
# Settings that are there already stay as they are.
set -eu
cd "$(dirname "$0")/../.."
prefix=${PREFIX:-/usr/local} dest=${DESTDIR:-}
python=${PYTHON:-/usr/bin/python3}
venv=$PWD/.venv
build=$PWD/.build/package
lib=$prefix/lib/sidecar
export PIP_DISABLE_PIP_VERSION_CHECK=1
export SOURCE_DATE_EPOCH="${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || stat -c %Y pyproject.toml)}"
umask 022

fail() { echo "install: $1" >&2; exit 1; }
case $prefix in /*) ;; *) fail "PREFIX=$prefix is no absolute path" ;; esac
[ -x "$venv/bin/sidecar" ] || fail "there is no $venv: make setup"
command -v patchelf >/dev/null || fail "patchelf is missing: sidecar/setup/apt.sh package"
{ [ -n "$dest" ] || [ "$(id -u)" = 0 ]; } || fail "as root, or with DESTDIR="

# The wheel, and a venv that holds it and what it needs to run.
# CMake would take DESTDIR for its own.
pj=$(cat "$venv/.made-pjsua2")
rm -rf "$build/wheel"
mkdir -p "$build/wheel"
env -u DESTDIR PKG_CONFIG_PATH="$pj/lib/pkgconfig" "$venv/bin/python" -m pip wheel --quiet --no-index --no-deps --no-build-isolation \
    --config-settings build-dir=".build/$(basename "$pj")/{wheel_tag}" --wheel-dir "$build/wheel" .
"$venv/bin/python" sidecar/setup/runtime.py >"$build/runtime.lock"

root=$dest$lib
rm -rf "$root"
mkdir -p "$root"
"$python" -m venv --without-pip "$root"
pip() { "$venv/bin/python" -m pip --python "$root/bin/python3" install --quiet --no-compile --no-deps "$@"; }
pip --require-hashes --only-binary :all: -r "$build/runtime.lock"
pip --no-index "$build"/wheel/sip_billing_sidecar-*.whl "$pj"/wheel/pjsua2-*.whl

# pjproject's libraries go along, and are found from where the modules are.
mkdir "$root/pj"
cp "$pj"/lib/libpj*.so.2 "$root/pj/"
site=$(echo "$root"/lib/python3.*/site-packages)
patchelf --set-rpath '$ORIGIN/../../../pj' "$site"/_pjsua2.*.so
patchelf --set-rpath '$ORIGIN/../../../../../pj' "$site"/sidecar/b2bua/_bridge.*.so

# No tests of others, nor the demo, which is of a clone; no paths of this machine.
rm -rf "$site/sidecar/demo"
find "$site" -type d \( -name tests -o -name test \) -prune -exec rm -rf {} +
find "$site" -name direct_url.json -delete
find "$root/bin" -mindepth 1 ! -name 'python*' -delete
sed -i '/^command = /d' "$root/pyvenv.cfg"
cat >"$root/bin/sidecar" <<EOF
#!$lib/bin/python3 -I
import sys

from sidecar.cli import main

sys.argv[0] = "sidecar"
main()
EOF
chmod 755 "$root/bin/sidecar"
# Their times differ from machine to machine, their hashes do not.
"$python" -m compileall -q -f --invalidation-mode unchecked-hash -s "$dest" -p / "$site"

# Beside the code.
files=$build/files
rm -rf "$files"
"$venv/bin/python" sidecar/setup/files.py "$files"
for shell in bash zsh fish; do
    env _SIDECAR_COMPLETE="source_$shell" "$venv/bin/sidecar" >"$files/$shell"
done
case $prefix in
    /usr) units=/lib/systemd/system zsh=vendor-completions ;;
    /usr/local) units=/usr/local/lib/systemd/system zsh=site-functions ;;
    *) units=/etc/systemd/system zsh=site-functions ;;
esac
share=$dest$prefix/share
gzip -9n "$files/sidecar.1"
install -D -m 644 "$files/sidecar.1.gz" "$share/man/man1/sidecar.1.gz"
install -D -m 644 "$files/bash" "$share/bash-completion/completions/sidecar"
install -D -m 644 "$files/zsh" "$share/zsh/$zsh/_sidecar"
install -D -m 644 "$files/fish" "$share/fish/vendor_completions.d/sidecar.fish"
install -D -m 644 sip_profiles/kamailio.cfg sip_profiles/kamailio-sidecars.list -t "$share/doc/sidecar/examples"
sed "s#@BIN@#$prefix/bin#" sidecar/setup/sidecar.service >"$files/sidecar.service"
install -D -m 644 "$files/sidecar.service" "$dest$units/sidecar.service"
mkdir -p "$dest$prefix/bin"
ln -sf ../lib/sidecar/bin/sidecar "$dest$prefix/bin/sidecar"
if [ ! -e "$dest/etc/sidecar/sidecar.toml" ]; then
    install -D -m 640 "$files/sidecar.toml" "$dest/etc/sidecar/sidecar.toml"
fi
[ -z "$dest" ] || exit 0

sh sidecar/setup/debian/postinst configure
if [ -d /run/systemd/system ]; then systemctl daemon-reload; fi
echo "installed: $prefix/bin/sidecar. Next: /etc/sidecar/sidecar.toml, sidecar check, systemctl enable --now sidecar"
