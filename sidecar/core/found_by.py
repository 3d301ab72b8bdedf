"""By which names on the wire a record is found: Call-IDs, tags, and the halves of its Session-ID (RFC 7989).

A record has up to a dozen of them, by chance and long, and an index with a line for each would cost more than
the record. Each is kept as three bytes, all of a record side by side, where a search passes over many of them
quickly. Names may share their bytes, one record in a million by chance: what is found is compared with the
record itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from zlib import crc32

from sidecar.core.cdr import Cdr

_SESSION = re.compile(r"[0-9a-f]{32}")
_NIL = "0" * 32  # RFC 7989 §5: the other half is not known yet


def call_ids(cdr: Cdr) -> Iterator[str]:
    yield cdr.leg_a.sip_call_id
    if cdr.leg_b is not None:
        yield cdr.leg_b.sip_call_id


def tags(cdr: Cdr) -> Iterator[str]:
    """From and To of both legs, and of the branches of a fork."""
    for leg in filter(None, (cdr.leg_a, cdr.leg_b)):
        yield leg.local_tag
        yield leg.remote_tag
    for attempt in cdr.attempts:
        for branch in attempt.branches:
            yield branch.remote_tag
            if branch.caller_tag is not None:
                yield branch.caller_tag


def sessions(text: str | None) -> list[str]:
    """The halves of a Session-ID, as a header has it or one alone; RFC 7989 §4.1: compared in lower case.
    Older forms of it have dashes."""
    return [half for half in _SESSION.findall((text or "").lower().replace("-", "")) if half != _NIL]


def key_of(name: str) -> bytes:
    return (crc32(name.encode()) & 0xFFFFFF).to_bytes(3)


def keys_of(cdr: Cdr) -> bytes:
    names = dict.fromkeys([*call_ids(cdr), *tags(cdr), *sessions(cdr.session_id)])
    return b"".join(key_of(name) for name in names if name)
