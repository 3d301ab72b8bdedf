"""What the browser loads: our style and script, and two libraries, which set-up takes from npm by the hashes
in `node/package-lock.json`. Without those the page can be read, and has no charts."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
from typing import NamedTuple

_HERE = Path(__file__).parent
_SCRIPT, _STYLE, _IMAGE = "text/javascript", "text/css", "image/svg+xml"
_FILES = {
    "page.css": ("static/page.css", _STYLE),
    "page.js": ("static/page.js", _SCRIPT),
    "icon.svg": ("static/icon.svg", _IMAGE),
    "htmx.js": ("static/npm/htmx.min.js", _SCRIPT),
    "uplot.js": ("static/npm/uPlot.iife.min.js", _SCRIPT),
    "uplot.css": ("static/npm/uPlot.min.css", _STYLE),
}


class Asset(NamedTuple):
    content: bytes
    media_type: str
    etag: str


@cache
def assets() -> dict[str, Asset]:
    """Those that are there, read once: no request opens a file."""
    found = {}
    for name, (path, media_type) in _FILES.items():
        file = _HERE / path
        if file.exists():
            content = file.read_bytes()
            found[name] = Asset(content, media_type, hashlib.sha256(content).hexdigest()[:16])
    return found
