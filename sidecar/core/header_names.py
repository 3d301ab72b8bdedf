"""Which headers a gateway's rules may name."""

from __future__ import annotations

from typing import Final

# The short names of the headers that a rule may name, by their long ones (IANA's registry of SIP parameters).
_COMPACT: Final = {
    "accept-contact": "a",
    "allow-events": "u",
    "identity": "y",
    "referred-by": "b",
    "reject-contact": "j",
    "subject": "s",
    "supported": "k",
}

# Ours: they name a dialog, a transaction, a hop, a session or its body, or answer a challenge.
_OURS_TEXT: Final = """
    authentication-info authorization call-id contact cseq event from join max-breadth max-forwards
    mime-version min-se path proxy-authenticate proxy-authentication-info proxy-authorization proxy-require
    rack record-route refer-sub refer-to replaces request-disposition require route rseq server
    service-route session-expires subscription-state target-dialog timestamp to user-agent via
    www-authenticate c d e f i l m o r t v x
"""
_OURS: Final = frozenset(_OURS_TEXT.split())
# What an endpoint can do is for the endpoint to say: it may be withheld, not invented.
_NOT_TO_BE_ADDED: Final = frozenset({"accept", "allow", "allow-events", "supported"})


def refused(name: str, *, to_add: bool) -> str:
    """Why a rule may not name this header; empty where it may. Case does not matter."""
    name = name.lower()
    if name in _OURS or name.startswith("content-"):
        return f"{name} is written by us alone"
    if name in _COMPACT.values():
        return f"{name} is a short name: give the long one"
    if to_add and name in _NOT_TO_BE_ADDED:
        return f"{name} is for the caller to say"
    return ""


def with_compact(name: str) -> tuple[str, ...]:
    """Every name that the header may come under."""
    return (name, _COMPACT[name]) if name in _COMPACT else (name,)
