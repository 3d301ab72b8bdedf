"""What a call is named by: its id, and the names of leg B's dialog.

Leg B's are derived from the call's secret token: Python and the bridge must come to the same ones, because
the journal holds them before the INVITE leaves, and a CANCEL or BYE after a crash is built from them.

A call id is a UUID of version 8 (RFC 9562 §5.8): ids grow in time, so what is stored by them is stored side
by side, and no two nodes make the same one.

    48 bits   when the INVITE came, in ms since the epoch (UTC)
     4 bits   version: 8
    12 bits   the lowest of the bridge's counter
     2 bits   variant: 0b10
    62 bits   a hash of tenant, node, boot and counter
"""

from __future__ import annotations

from functools import lru_cache
from hashlib import sha1
from urllib.parse import quote
from uuid import UUID

_VERSION_5 = 5 << 76 | 1 << 63
_VERSION_8 = 8 << 76 | 1 << 63
_NAME_BITS = 2**128 - 1 ^ (0xF << 76 | 0b11 << 62)

HASH_BITS = 2**62 - 1
_MS_BITS = 2**48 - 1
_COUNTER_BITS = 2**12 - 1

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
    """RFC 9562 §5.5, as `uuid.uuid5` has it, at half the cost: each record needs one."""
    digest = sha1(namespace.int.to_bytes(16) + name.encode(), usedforsecurity=False).digest()
    return UUID(int=int.from_bytes(digest[:16]) & _NAME_BITS | _VERSION_5)


def call_id_of(tenant: str, node: str, boot_id: str, bridge_id: int, invited_ms: int) -> UUID:
    """The id of a call, made once. `bridge_id` counts the calls of a boot; `invited_ms` is the wall clock's,
    and never less than that of the call before: who calls this sees to it."""
    digest = sha1(_node_bytes(tenant, node, boot_id) + b"%d" % bridge_id, usedforsecurity=False).digest()
    return UUID(
        int=(invited_ms & _MS_BITS) << 80
        | (bridge_id & _COUNTER_BITS) << 64
        | int.from_bytes(digest[:8]) & HASH_BITS
        | _VERSION_8
    )


@lru_cache(maxsize=16)
def _node_bytes(tenant: str, node: str, boot_id: str) -> bytes:
    return "".join(f"{quote(part, safe='')}/" for part in (tenant, node, boot_id)).encode()
