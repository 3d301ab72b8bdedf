#!/bin/sh
# build.sh: makes sure that pjproject and its Python wheel are built, and prints the prefix they are in.
#
#   PJPROJECT_TARBALL=FILE   build this source (2.17 or newer) and not Debian's
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
floor=2.17      # 2.15.1 and 2.16 have published memory-safety holes in parsing, multipart, answer() and the resolver
home=${HOME:-$(getent passwd "$(id -u)" | cut -d: -f6)}
cache=${XDG_CACHE_HOME:-$home/.cache}/sidecar/pjproject
variant=${PJ_SANITIZE:+-sanitize}

step() { echo "== $*" >&2; }
fail() { echo "pjproject: $1" >&2; shift; for line; do echo "  $line" >&2; done; exit 1; }
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
    mv "$fetched" "$tarball"
fi
[ -r "$tarball" ] || fail "PJPROJECT_TARBALL=$tarball cannot be read."
source_hash=$(sha256sum <"$tarball" | cut -c1-64)

# Is it built already?
abi=$("$python" -c 'import sysconfig; print(sysconfig.get_config_var("SOABI"))') || fail "$python does not run."
key=$( (cat "$here/recipe.sh" "$here/config_site.h"; echo "$source_hash") | sha256sum | cut -c1-12)
for built in "$cache"/*-"$abi$variant-$key"/BUILD; do
    if [ -e "$built" ]; then dirname "$built"; exit 0; fi
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

# CMake reads this variable and hands it to the native module, which prints it at start-up.
sed -i "1i sidecar_build=$version-$key" "$prefix/lib/pkgconfig/libpjproject.pc"
cat >"$prefix/BUILD.new" <<EOF
version=$version
build=$version-$key
abi=$abi
sanitize=${PJ_SANITIZE:-0}
config_sha256=$(sha256sum <"$here/config_site.h" | cut -c1-64)
tarball_sha256=$source_hash
EOF
mv "$prefix/BUILD.new" "$prefix/BUILD"
rm -rf "$prefix.src" "$log"
echo "$prefix"
