#!/bin/sh
# Renews requirements.lock from requirements.in. For developers: nothing else calls it.
# Universal, so that one lock serves every CPython from 3.11 on. Only PyPI is asked, whatever this machine's
# configuration says, because the hashes must be those that everybody gets.
set -eu
cd "$(dirname "$0")"
command -v uv >/dev/null || { echo "lock.sh needs uv: pip install uv" >&2; exit 1; }
exec env -u UV_DEFAULT_INDEX -u UV_INDEX_URL -u UV_INDEX -u UV_EXTRA_INDEX_URL -u UV_FIND_LINKS \
    uv pip compile requirements.in --output-file requirements.lock --universal --python-version 3.11 \
    --generate-hashes --no-emit-index-url --no-emit-find-links --no-config \
    --custom-compile-command sidecar/setup/lock.sh --quiet "$@"
