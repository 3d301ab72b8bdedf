"""Names of leg B's dialog, derived from the call's secret token: Python and the bridge must come to the same
ones, because the journal holds them before the INVITE leaves, and a CANCEL or BYE after a crash is built from
them."""

from __future__ import annotations

from functools import lru_cache
from hashlib import sha1
from urllib.parse import quote
from uuid import NAMESPACE_URL, UUID

_VERSION_5 = 5 << 76 | 1 << 63
_NAME_BITS = 2**128 - 1 ^ (0xF << 76 | 0b11 << 62)

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


def name_id(namespace: UUID, name: str) -> UUID:
    """RFC 9562 §5.5, as `uuid.uuid5` has it, at half the cost: each call needs two."""
    digest = sha1(namespace.int.to_bytes(16) + name.encode(), usedforsecurity=False).digest()
    return UUID(int=int.from_bytes(digest[:16]) & _NAME_BITS | _VERSION_5)


def call_id_of(tenant: str, node: str, boot_id: str, bridge_id: int) -> UUID:
    """The id of a call, made once: the same for everybody who knows the node, the boot and the bridge's
    counter."""
    return name_id(_namespace(tenant, node), f"{boot_id}/{bridge_id}")


@lru_cache(maxsize=16)
def _namespace(tenant: str, node: str) -> UUID:
    return name_id(NAMESPACE_URL, f"sidecar:{quote(tenant, safe='')}/{quote(node, safe='')}")
