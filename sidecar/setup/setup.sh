#!/bin/sh
# setup.sh [tests|web|package]: makes this clone ready to run, from nothing; with `tests` also for the tests, with `web` also
# what the page loads in the browser, with `package` also to be installed. `make` calls it before every target; what is in place
# is left alone, so it costs a fraction of a second then. Each step leaves a stamp with a hash of what it was made from.
set -eu
cd "$(dirname "$0")/../.."
for=${1:-}
python=${PYTHON:-/usr/bin/python3}      # Debian's: the first python3 on PATH may be anybody's
venv=$PWD/.venv${PJ_SANITIZE:+-sanitize}
export PIP_DISABLE_PIP_VERSION_CHECK=1

step() { echo "== $*" >&2; }
fail() { echo "set-up: $1" >&2; shift; for line; do echo "  $line" >&2; done; exit 1; }
hash() { sha256sum | cut -c1-16; }
made_from() { [ "$(cat "$venv/.made-$1" 2>/dev/null)" = "$2" ]; }

mkdir -p .build
exec 8>.build/setup.lock
flock -n 8 || { step "Waiting for another set-up in this clone"; flock 8; }

# A daemon that apt starts must not inherit the lock.
sidecar/setup/apt.sh "$for" 8>&- || fail "the Debian packages could not be installed (see above)."

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    fail "$python is not Python 3.11 or newer." "Name one: make PYTHON=/path/to/python3 ..."

# The paths count too: a virtual environment does not survive being moved with its clone.
lock=$( (cat sidecar/setup/requirements.lock; echo "$python $venv"; "$python" -VV) | hash)
if ! made_from lock "$lock"; then
    step "Python packages into ${venv##*/}, from sidecar/setup/requirements.lock (20 s)"
    "$python" -m venv --clear "$venv" || fail "$python -m venv failed." "Debian: apt-get install python3-venv"
    "$venv/bin/python" -m pip install --quiet --require-hashes --only-binary :all: -r sidecar/setup/requirements.lock ||
        fail "pip could not install the locked packages (see above)." \
            "No network or a proxy: see pip's own settings (pip config). A hash that differs: somebody altered the file;" \
            "do not go on. No wheel for this Python: use one of 3.11 to 3.14 (make PYTHON=...)."
    echo "$lock" >"$venv/.made-lock"
fi

prefix=$(PYTHON=$venv/bin/python sidecar/b2bua/pjproject/build.sh) || fail "no pjproject (see above)."
if ! made_from pjsua2 "$prefix"; then
    step "pjsua2 into ${venv##*/}, from $prefix"
    "$venv/bin/python" -m pip install --quiet --no-index --no-deps --force-reinstall "$prefix"/wheel/pjsua2-*.whl ||
        fail "the pjsua2 wheel could not be installed." "Remove $prefix and run the same command again."
    echo "$prefix" >"$venv/.made-pjsua2"
fi

# The names of the modules count too: the editable install knows those that it was made with.
native=$( (
    echo "$prefix"
    find pyproject.toml sidecar/b2bua/native -type f | sort | xargs sha256sum
    find sidecar -name '*.py' | sort
) | hash)
if ! made_from native "$native"; then
    step "The native module, sidecar/b2bua/native (20 s the first time)"
    # CMake remembers where it found pjproject: another pjproject has a build folder of its own.
    build=.build/$(basename "$prefix")/{wheel_tag}
    PKG_CONFIG_PATH=$prefix/lib/pkgconfig "$venv/bin/python" -m pip install --quiet --no-index --no-deps \
        --no-build-isolation --config-settings build-dir="$build" \
        ${PJ_SANITIZE:+--config-settings cmake.define.SIDECAR_SANITIZE=ON} --editable . ||
        fail "the native module did not build; the compiler's message is above." \
            "If it is about a header or a library of pj: remove .build and run the same command again."
    echo "$native" >"$venv/.made-native"
fi

if [ -n "$for" ]; then
    page=$(hash <sidecar/web/node/package-lock.json)
    npm=sidecar/web/static/npm
    if ! made_from page "$page" || [ ! -d $npm ]; then
        step "What the page loads in the browser into $npm, from sidecar/web/node/package-lock.json (2 s)"
        npm ci --prefix sidecar/web/node --ignore-scripts --no-audit --no-fund --loglevel=error >&2 ||
            fail "npm could not install the locked packages (see above)."
        rm -rf $npm && mkdir $npm
        cp sidecar/web/node/node_modules/htmx.org/dist/htmx.min.js $npm
        cp sidecar/web/node/node_modules/uplot/dist/uPlot.iife.min.js sidecar/web/node/node_modules/uplot/dist/uPlot.min.css $npm
        echo "$page" >"$venv/.made-page"
    fi
fi
if [ "$for" = tests ]; then
    node=$(hash <sidecar/subscriber/node/package-lock.json)
    if ! made_from node "$node" || [ ! -d sidecar/subscriber/node/node_modules ]; then
        step "Node packages into sidecar/subscriber/node/node_modules, from its package-lock.json (5 s)"
        npm ci --prefix sidecar/subscriber/node --ignore-scripts --no-audit --no-fund --loglevel=error >&2 ||
            fail "npm could not install the locked packages (see above)."
        echo "$node" >"$venv/.made-node"
    fi
fi
