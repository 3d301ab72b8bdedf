#!/bin/sh
# fetch.sh DIR: puts Debian's copy of the unmodified pjproject source into DIR and prints its path.
#
# Debian ships it as a component (orig-Xpjproject) of the source package asterisk in sid. apt checks the signature.
# Everything apt needs lives in a scratch folder, so the machine's sources and lists stay as they are; its
# apt.conf.d (proxies, certificates) stays in force.
set -eu
dir=$1
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
scratch=$(mktemp -d "$dir/fetch.XXXXXX")
trap 'rm -rf "$scratch"' EXIT

# The mirrors the machine uses, from .sources and .list files alike: first those whose downloaded lists say Debian, then
# the rest, because the lists may have been deleted (container images do). A wrong one fails at its signature.
mirrors=$(
    { apt-get indextargets --format '$(ORIGIN) $(COMPONENT) $(REPO_URI)' | grep '^Debian ' || true
      apt-get indextargets --no-release-info --format '? $(COMPONENT) $(REPO_URI)'
    } 2>/dev/null | awk '$2 == "main" && $3 !~ /security/ && !seen[$3]++ { print $3 }')
[ -n "$mirrors" ] || { echo "no Debian mirror in the apt sources of this machine" >&2; exit 1; }

for mirror in $mirrors; do
    rm -rf "$scratch"/*
    mkdir -p "$scratch/parts" "$scratch/lists/partial" "$scratch/source"
    cat >"$scratch/parts/sid.sources" <<EOF
Types: deb-src
URIs: $mirror
Suites: sid
Components: main
Signed-By: $keyring
EOF
    # The sandbox user cannot read a folder under /root; without this apt only warns, at length.
    set -- -qq -o Dir::Etc::SourceList=/dev/null -o "Dir::Etc::SourceParts=$scratch/parts" \
        -o "Dir::State::Lists=$scratch/lists" -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache= \
        -o APT::Sandbox::User=root
    if apt-get "$@" update >&2 && (cd "$scratch/source" && apt-get "$@" source --download-only asterisk >&2); then
        for tarball in "$scratch"/source/*.orig-Xpjproject.tar.*; do
            [ -e "$tarball" ] || break
            mv "$tarball" "$dir/"
            echo "$dir/${tarball##*/}"
            exit 0
        done
        echo "the source package asterisk no longer carries pjproject" >&2
    fi
done
exit 1
