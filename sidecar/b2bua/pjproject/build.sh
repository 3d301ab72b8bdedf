#!/bin/sh
# build.sh: makes sure that pjproject and its Python wheel are built, and prints the prefix they are in.
#
#   PJPROJECT_TARBALL=FILE   build this source (2.17 or newer), whatever its hash, and not one of sources.sha256
#   PJPROJECT_UNTRIED=1      build what Debian has now (and has signed), where none of sources.sha256 can be had
#   PJPROJECT_SNAPSHOT=URL   where all files that Debian ever had are, by SHA-1 (default: snapshot.debian.org)
#   PJ_SANITIZE=1            a build for tests: address and undefined-behaviour sanitizers, and a heap block for each
#                            allocation (an overrun of up to 7 bytes still hides in its padding)
#   PYTHON=FILE              the interpreter the wheel is for; it has setuptools and wheel (default: python3)
#
# A prefix cannot be moved (the wheel's RUNPATH names it), so it is built in place, under a lock, outside any clone:
#   ~/.cache/sidecar/pjproject/<version>-<python ABI>[-sanitize]-<hash of recipe.sh, config_site.h and the source>/
# The file BUILD is written into it last: where it is, the build is complete.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
python=${PYTHON:-python3}
age_days=180    # of a build, from which on it is told
floor=2.17      # 2.15.1 and 2.16 have published memory-safety holes in parsing, multipart, answer() and the resolver
home=${HOME:-$(getent passwd "$(id -u)" | cut -d: -f6)}
cache=${XDG_CACHE_HOME:-$home/.cache}/sidecar/pjproject
snapshot=${PJPROJECT_SNAPSHOT:-https://snapshot.debian.org/file}
variant=${PJ_SANITIZE:+-sanitize}

step() { echo "== $*" >&2; }
fail() { echo "pjproject: $1" >&2; shift; for line; do echo "  $line" >&2; done; exit 1; }
known() { grep -q "^$(sha256sum <"$1" | cut -c1-64) " "$here/sources.sha256"; }
from_snapshot() {   # Python, because a bare Debian has neither curl nor wget
    "$python" -c 'import shutil, sys, urllib.request
shutil.copyfileobj(urllib.request.urlopen(sys.argv[1], timeout=60), sys.stdout.buffer)' \
        "$snapshot/$(awk '/^[0-9a-f]/ { print $2; exit }' "$here/sources.sha256")"
}
at_least_floor() { [ "$(printf '%s\n' "$floor" "$1" | sort -V | head -1)" = "$floor" ]; }

version_of() {      # of a source tarball, from the file version.mak at its top
    tar -xOf "$1" --wildcards --no-wildcards-match-slash '*/version.mak' 2>/dev/null | awk '
        /PJ_VERSION_MAJOR *:=/ { major = $NF }
        /PJ_VERSION_MINOR *:=/ { minor = $NF }
        /PJ_VERSION_REV *:= *[0-9]/ { rev = "." $NF }
        END { if (major == "") exit 1; print major "." minor rev }'
}

case $cache in *[[:space:]]*) fail "the cache folder has a space in its name: $cache" "Set XDG_CACHE_HOME to one without." ;; esac
mkdir -p "$cache/source" || fail "the cache folder $cache cannot be made." "Set XDG_CACHE_HOME to one that can."
exec 9>"$cache/lock"
flock -n 9 || { step "Waiting for another build of pjproject to end"; flock 9; }

# The source. A cached one is preferred to a newer one at Debian: what was green stays green until somebody commits.
tarball=${PJPROJECT_TARBALL:-}
if [ -z "$tarball" ]; then
    for candidate in $(ls "$cache/source" | grep '^pjproject-.*\.tar\.' | sort -rV); do
        version=${candidate#pjproject-}
        if at_least_floor "${version%.tar.*}"; then tarball=$cache/source/$candidate; break; fi
    done
fi
if [ -z "$tarball" ]; then
    step "The source of pjproject, from Debian (source package asterisk, suite sid; 5 s)"
    fetched=$("$here/fetch.sh" "$cache/source") || fail "no source could be fetched (the reason is above)." \
        "With a tarball of pjproject $floor or newer at hand (an official release, for one):" \
        "make PJPROJECT_TARBALL=/path/to/it ..."
    version=$(version_of "$fetched") || fail "$fetched holds no version.mak: not a pjproject source."
    tarball=$cache/source/pjproject-$version.tar.${fetched##*.}
    if known "$fetched"; then
        mv "$fetched" "$tarball"
    else
        step "Debian has another pjproject now ($version); the one that was tried, from $snapshot"
        new=$fetched
        tarball=$cache/source/$(awk '/^[0-9a-f]/ { print $3; exit }' "$here/sources.sha256")
        if from_snapshot >"$tarball.new" && known "$tarball.new"; then
            mv "$tarball.new" "$tarball"
            rm "$new"
        else
            rm -f "$tarball.new"
            tarball=$cache/source/pjproject-$version.tar.${new##*.}
            mv "$new" "$tarball"
        fi
    fi
fi
[ -r "$tarball" ] || fail "PJPROJECT_TARBALL=$tarball cannot be read."
source_hash=$(sha256sum <"$tarball" | cut -c1-64)
if [ -z "${PJPROJECT_TARBALL:-}" ] && ! known "$tarball"; then
    [ -n "${PJPROJECT_UNTRIED:-}" ] || fail "$tarball is not in sidecar/b2bua/pjproject/sources.sha256:" \
        "no source that was tried has this SHA-256: $source_hash." \
        "Debian's signature of it was good when it was fetched. To build it all the same: make PJPROJECT_UNTRIED=1 ..." \
        "Otherwise remove it, and run the same command again."
    step "$tarball was never tried with this product (PJPROJECT_UNTRIED)"
fi

# Is it built already?
abi=$("$python" -c 'import sysconfig; print(sysconfig.get_config_var("SOABI"))') || fail "$python does not run."
key=$( (cat "$here/recipe.sh" "$here/config_site.h"; echo "$source_hash") | sha256sum | cut -c1-12)
for built in "$cache"/*-"$abi$variant-$key"/BUILD; do
    [ -e "$built" ] || continue
    days=$((($(date +%s) - $(stat -c %Y "$built")) / 86400))
    [ "$days" -lt "$age_days" ] || step "pjproject was built $days days ago, by $(sed -n 's/^compiler=//p' "$built")." \
        "To build it anew: rm -r $(dirname "$built")"
    dirname "$built"
    exit 0
done

version=$(version_of "$tarball") || fail "$tarball holds no version.mak: not a pjproject source."
at_least_floor "$version" || fail "$tarball is pjproject $version; $floor or newer is needed," \
    "because older ones have published memory-safety holes. Give a newer one: make PJPROJECT_TARBALL=/path/to/it ..."
prefix=$cache/$version-$abi$variant-$key
log=$prefix.log
step "Building pjproject $version (two minutes, once for all clones; log: $log)"
"$here/recipe.sh" "$tarball" "$prefix" "$python" "$variant" >"$log" 2>&1 </dev/null || {
    tail -25 "$log" >&2
    rm -rf "$prefix" "$prefix.src"
    fail "the build failed; the end of its log is above, the whole is in $log." \
        "Compiler killed: too little memory. No space left: it needs 500 MB in $cache." \
        "Then run the same command again."
}

compiler=$(${CC:-gcc} --version | head -1)
# CMake reads these variables and hands them to the native module, which says them.
built="$(date -u +%Y-%m-%d) by $compiler"
sed -i -e "1i sidecar_build=$version-$key" -e "1i sidecar_built=$built" "$prefix/lib/pkgconfig/libpjproject.pc"
cat >"$prefix/BUILD.new" <<EOF
version=$version
build=$version-$key
abi=$abi
built_at=$(date -u +%Y-%m-%dT%H:%M:%SZ)
compiler=$compiler
sanitize=${PJ_SANITIZE:-0}
config_sha256=$(sha256sum <"$here/config_site.h" | cut -c1-64)
tarball_sha256=$source_hash
EOF
mv "$prefix/BUILD.new" "$prefix/BUILD"
rm -rf "$prefix.src" "$log"
echo "$prefix"
