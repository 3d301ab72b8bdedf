"""What a caller's Identity header says of itself (RFC 8224, RFC 8588). Nobody has verified it: it is kept for
the record, and decides nothing."""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode
from collections.abc import Iterable

import msgspec

_ORIGID = re.compile(r"[!-~]{1,128}")


class Attestation(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    attest: str | None = None  # A, B or C
    origid: str | None = None


class _Claims(msgspec.Struct):
    attest: msgspec.Raw = msgspec.Raw()
    origid: msgspec.Raw = msgspec.Raw()


def attestation(payloads: Iterable[str]) -> Attestation:
    """Of the first PASSporT that attests; payloads are base64url. Never raises."""
    for payload in payloads:
        try:
            claims = msgspec.json.decode(urlsafe_b64decode(payload + "=" * (-len(payload) % 4)), type=_Claims)
        except (ValueError, RecursionError):  # no base64, no JSON, or no end of it
            continue
        attest = _text(claims.attest)
        if attest in ("A", "B", "C"):
            origid = _text(claims.origid)
            return Attestation(attest=attest, origid=origid if _ORIGID.fullmatch(origid) else None)
    return Attestation()


def _text(raw: msgspec.Raw) -> str:
    """Empty where it is no string."""
    try:
        return msgspec.json.decode(raw, type=str)
    except (ValueError, RecursionError):
        return ""
