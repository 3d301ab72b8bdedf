#!/bin/sh
# uninstall.sh: takes away what install.sh put there, with the same PREFIX and DESTDIR. The settings in /etc/sidecar, the
# state in /var/lib/sidecar and the user stay: they are not ours to throw away.
set -eu
prefix=${PREFIX:-/usr/local} dest=${DESTDIR:-}
share=$dest$prefix/share
if [ -z "$dest" ] && [ -d /run/systemd/system ]; then systemctl disable --now sidecar || true; fi
rm -rf "$dest$prefix/lib/sidecar" "$share/doc/sidecar"
rm -f "$dest$prefix/bin/sidecar" "$share/man/man1/sidecar.1.gz" "$share/bash-completion/completions/sidecar" \
    "$share/zsh/vendor-completions/_sidecar" "$share/zsh/site-functions/_sidecar" \
    "$share/fish/vendor_completions.d/sidecar.fish"
for units in /lib/systemd/system /usr/local/lib/systemd/system /etc/systemd/system; do
    # Another prefix may have its own.
    if grep -qs "^ExecStart=$prefix/bin/sidecar " "$dest$units/sidecar.service"; then rm -f "$dest$units/sidecar.service"; fi
done
if [ -z "$dest" ] && [ -d /run/systemd/system ]; then systemctl daemon-reload; fi
echo "taken away; /etc/sidecar, /var/lib/sidecar and the user sidecar stay"
