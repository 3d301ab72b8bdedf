#!/bin/sh
# build.sh: makes sure that pjproject and its Python wheel are built, and prints the prefix they are in.
#
#   PJPROJECT_TARBALL=FILE   build this source (2.17 or newer) and not Debian's
#   PJ_SANITIZE=1            a build for tests: address and undefined-behaviour sanitizers, a heap block per allocation
#   PYTHON=FILE              the interpreter the wheel is for; it has setuptools and wheel (default: python3)
#
# A prefix cannot be moved (the wheel's RUNPATH names it), so it is built in place, under a lock, outside any clone:
#   ~/.cache/sidecar/pjproject/<version>-<python ABI>[-sanitize]-<hash>/
# The hash covers this script, config_site.h and the source. The file BUILD is written last: with it, complete.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
python=${PYTHON:-python3}
floor=2.17      # 2.15.1 and 2.16 have published memory-safety holes in parsing, multipart, answer() and the resolver
cache=${XDG_CACHE_HOME:-$HOME/.cache}/sidecar/pjproject
variant=${PJ_SANITIZE:+-sanitize}

say() { echo "   $*" >&2; }
fail() { echo "pjproject: $1" >&2; shift; for line; do echo "  $line" >&2; done; exit 1; }
at_least_floor() { [ "$(printf '%s\n' "$floor" "$1" | sort -V | head -1)" = "$floor" ]; }

version_of() {      # of a source tarball, from the file version.mak at its top
    tar -xOf "$1" --wildcards --no-wildcards-match-slash '*/version.mak' 2>/dev/null | awk '
        /PJ_VERSION_MAJOR *:=/ { major = $NF } /PJ_VERSION_MINOR *:=/ { minor = $NF }
        /PJ_VERSION_REV *:=/ && NF > 3 { rev = "." $NF }
        END { if (major == "") exit 1; print major "." minor rev }'
}

mkdir -p "$cache/source"
exec 9>"$cache/lock"
flock -n 9 || { say "waiting for another build of pjproject to end"; flock 9; }

# 1. The source. A cached one is preferred to a newer one at Debian: what was green stays green until somebody commits.
tarball=${PJPROJECT_TARBALL:-}
if [ -z "$tarball" ]; then
    for candidate in $(ls "$cache/source" | grep '^pjproject-.*\.tar\.' | sort -rV); do
        version=${candidate#pjproject-}
        if at_least_floor "${version%.tar.*}"; then tarball=$cache/source/$candidate; break; fi
    done
fi
if [ -z "$tarball" ]; then
    say "fetching the pjproject source from Debian (source package asterisk, suite sid; 3 s)"
    fetched=$("$here/fetch.sh" "$cache/source") || fail "no source could be fetched (the reason is above)." \
        "With a tarball of pjproject $floor or newer at hand (its official release will do):" \
        "make PJPROJECT_TARBALL=/path/to/pjproject-$floor.tar.gz ..."
    version=$(version_of "$fetched") || fail "$fetched holds no version.mak: not a pjproject source"
    tarball=$cache/source/pjproject-$version.tar.${fetched##*.}
    mv "$fetched" "$tarball"
fi
[ -r "$tarball" ] || fail "PJPROJECT_TARBALL=$tarball cannot be read."
sha=$(sha256sum <"$tarball" | cut -c1-64)

# 2. Is it built already?
abi=$("$python" -c 'import sysconfig; print(sysconfig.get_config_var("SOABI"))') || fail "$python does not run."
config_hash=$(cat "$here/build.sh" "$here/config_site.h" | sha256sum | cut -c1-12)
key=$(echo "$config_hash $sha" | sha256sum | cut -c1-12)
for built in "$cache"/*-"$abi$variant-$key"/BUILD; do
    if [ -e "$built" ]; then dirname "$built"; exit 0; fi
done

# 3. Build it.
version=$(version_of "$tarball") || fail "$tarball holds no version.mak: not a pjproject source."
at_least_floor "$version" || fail "$tarball is pjproject $version; $floor or newer is needed," \
    "because older ones have published memory-safety holes. Give a newer one with PJPROJECT_TARBALL=/path/to/it."
prefix=$cache/$version-$abi$variant-$key
src=$prefix.src
log=$prefix.log
case $prefix in *[[:space:]]*) fail "the cache folder has a space in its name: $cache" "Set XDG_CACHE_HOME to one without.";; esac
say "building pjproject $version (about two minutes, once; log: $log)"

if [ -n "$variant" ]; then
    sanitize="-fsanitize=address,undefined"
    cflags="-O1 -fPIC -g -DNDEBUG -fno-omit-frame-pointer $sanitize"
else
    sanitize=
    cflags="-O2 -fPIC -g -DNDEBUG"
fi
without="video sound resample speex-aec speex-codec gsm-codec ilbc-codec g7221-codec g722-codec l16-codec libsrtp libyuv
    libwebrtc sdl ffmpeg v4l2 openh264 vpx opus opencore-amr silk bcg729 lyra upnp"

build() {
    rm -rf "$prefix" "$src"
    mkdir -p "$src"
    tar -xf "$tarball" -C "$src" --strip-components=1
    cd "$src"
    touch pjmedia/src/pjmedia-audiodev/bdimad_dev.c     # not in Debian's tarball, but its makefile names it
    cp "$here/config_site.h" pjlib/include/pj/config_site.h
    # A pool hides an overrun inside it. In the header, because everything that includes it must agree.
    if [ -n "$variant" ]; then echo '#define PJ_POOL_DEBUG 1' >>pjlib/include/pj/config_site.h; fi

    # The libraries find one another beside themselves: RUNPATH is not inherited. So many $ because configure, two
    # makes and a shell each take their share.
    CFLAGS="$cflags" LDFLAGS="$sanitize "'-Wl,-rpath,\$$$$ORIGIN' ./configure --prefix="$prefix" \
        --enable-shared --enable-epoll $(printf -- '--disable-%s ' $without)
    make -j"$(nproc)" lib
    make install

    # From here on the $ would come out as a shell's pid.
    sed -i 's#-Wl,-rpath,[^ ]*ORIGIN##' build.mak build/os-auto.mak
    cd pjsip-apps/src/swig/python
    make pjsua2_wrap.cpp
    PJDIR="$src" CFLAGS="-O1 -g0" LDFLAGS="$sanitize -Wl,-rpath,$prefix/lib" \
        "$python" -m pip wheel . --no-build-isolation --no-deps --no-index --wheel-dir "$prefix/wheel"

    # CMake reads this and hands it to the native module, which prints it at start-up.
    sed -i "1i sidecar_build=$version-$key" "$prefix/lib/pkgconfig/libpjproject.pc"
}

# Not `if build`: that would switch set -e off inside it.
set +e
(set -e; build) >"$log" 2>&1 </dev/null
status=$?
set -e
if [ $status -ne 0 ]; then
    tail -25 "$log" >&2
    fail "the build failed; the end of its log is above, the whole is in" "$log" \
        "Compiler killed: too little memory. Disk full: $cache needs 300 MB. Then run the same command again."
fi
cat >"$prefix/BUILD.new" <<EOF
version=$version
build=$version-$key
abi=$abi
sanitize=${PJ_SANITIZE:-0}
config_sha256=$(sha256sum <"$here/config_site.h" | cut -c1-64)
tarball_sha256=$sha
EOF
mv "$prefix/BUILD.new" "$prefix/BUILD"
rm -rf "$src" "$log"
echo "$prefix"
