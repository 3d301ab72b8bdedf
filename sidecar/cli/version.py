"""Which product, and which SIP engine, this is."""

from __future__ import annotations

from importlib import metadata

DISTRIBUTION = "sip-billing-sidecar"


def product_version() -> str:
    try:
        return metadata.version(DISTRIBUTION)
    except metadata.PackageNotFoundError:
        return "0 (not installed)"


def engine_version() -> str:
    """pjproject's version, the hash of its build, when and by what it was built, or why there is none."""
    try:
        from sidecar.b2bua import _bridge
    except ImportError as error:
        return f"missing ({error}); `make setup` builds it"
    return f"pjproject {_bridge.pj_version()}, build {_bridge.PJ_BUILD} of {_bridge.PJ_BUILT}"


def version_text() -> str:
    return f"sidecar {product_version()}\nengine: {engine_version()}"
