#!/bin/sh
# recipe.sh TARBALL PREFIX PYTHON [sanitize]: builds pjproject and its Python wheel; called by build.sh, which knows
# when. A change here, or in config_site.h, makes a new build.
set -eux
here=$(cd "$(dirname "$0")" && pwd)
tarball=$1 prefix=$2 python=$3 sanitize=${4:+-fsanitize=address,undefined}
src=$prefix.src

if [ -n "$sanitize" ]; then
    cflags="-O1 -fPIC -g -DNDEBUG -fno-omit-frame-pointer $sanitize"
else
    cflags="-O2 -fPIC -g -DNDEBUG"
fi
# A signalling-only build: what is not there has no holes.
without="video sound resample speex-aec speex-codec gsm-codec ilbc-codec g7221-codec g722-codec l16-codec libsrtp libyuv
    libwebrtc sdl ffmpeg v4l2 openh264 vpx opus opencore-amr silk bcg729 lyra upnp"

rm -rf "$prefix" "$src"
mkdir -p "$src"
tar -xf "$tarball" -C "$src" --strip-components=1
cd "$src"
touch pjmedia/src/pjmedia-audiodev/bdimad_dev.c     # not in Debian's tarball, but the makefile names it
cp "$here/config_site.h" pjlib/include/pj/config_site.h
# An overrun inside a pool stays hidden. In the header, because whatever includes it must agree.
if [ -n "$sanitize" ]; then echo '#define PJ_POOL_DEBUG 1' >>pjlib/include/pj/config_site.h; fi

# The libraries find one another beside themselves, because RUNPATH is not inherited from library to library. So many
# $ because configure, two makes and a shell each take their share.
CFLAGS="$cflags" LDFLAGS="$sanitize "'-Wl,-rpath,\$$$$ORIGIN' ./configure --prefix="$prefix" \
    --enable-shared --enable-epoll $(printf -- '--disable-%s ' $without)
make -j"$(nproc)" lib
make install

# From here on the $$ would come out as a shell's pid. The generated wrapper goes without sanitizers: four minutes less.
sed -i -e 's#-Wl,-rpath,[^ ]*ORIGIN##' -e 's#-fsanitize=[^ ]*##g' build.mak build/os-auto.mak
cd pjsip-apps/src/swig/python
make pjsua2_wrap.cpp
# SWIG up to 4.3 makes its own types without a module. Python 3.13 warns of that, and where warnings are errors
# (`python -W error`, pytest) the type is NULL, which SWIG does not look at: a crash at import or at exit.
sed -i -E 's/^    "(swigvarlink|SwigPyObject|SwigPyPacked)",$/    "_pjsua2.\1",/' pjsua2_wrap.cpp
PJDIR="$src" CFLAGS="-O1 -g0" LDFLAGS="-Wl,-rpath,$prefix/lib" \
    "$python" -m pip wheel . --no-build-isolation --no-deps --no-index --wheel-dir "$prefix/wheel"
