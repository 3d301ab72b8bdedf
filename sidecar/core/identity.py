"""Names of leg B's dialog, derived from the call's secret token: Python and the bridge must come to the same
ones, because the journal holds them before the INVITE leaves, and a CANCEL or BYE after a crash is built from
them."""

from __future__ import annotations

from functools import lru_cache
from urllib.parse import quote
from uuid import NAMESPACE_URL, UUID, uuid5

BRANCH_COOKIE = "z9hG4bK"  # RFC 3261 §8.1.1.7


def leg_b_names(b_token: str, attempt: int) -> tuple[str, str, str]:
    """(Call-ID, From tag, Via branch) of an attempt. `b_token` is at least 32 hexadecimal digits of
    randomness: one half names the dialog, the other the sender, so that who learns the Call-ID cannot tell
    the tag."""
    half = len(b_token) // 2
    return (
        f"{b_token[:half]}-{attempt}",
        f"{b_token[half:]}-{attempt}",
        f"{BRANCH_COOKIE}{b_token[half:]}{attempt}",
    )


def call_id_of(tenant: str, node: str, boot_id: str, bridge_id: int) -> UUID:
    """The id of a call, made once: the same for everybody who knows the node, the boot and the bridge's
    counter."""
    return uuid5(_namespace(tenant, node), f"{boot_id}/{bridge_id}")


@lru_cache(maxsize=16)
def _namespace(tenant: str, node: str) -> UUID:
    return uuid5(NAMESPACE_URL, f"sidecar:{quote(tenant, safe='')}/{quote(node, safe='')}")
