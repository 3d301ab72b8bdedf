"""URNs as Request-URIs (RFC 5031): services rather than numbers, `urn:service:sos` before all others.

A call to an emergency service is refused or ended for nothing that is ours to say: not for credit, a rate, a
rule, time, a limit or capacity. It costs its caller nothing, and its record says what it was.
"""

from __future__ import annotations

EMERGENCY = "urn:service:sos"


def urn_of(request_uri: str) -> str:
    """In lower case, as RFC 5031 §3 compares services; empty where it is none."""
    urn = request_uri.lower()
    return urn if urn.startswith("urn:") else ""


def is_emergency(request_uri: str) -> bool:
    return within(urn_of(request_uri), EMERGENCY)


def within(urn: str, service: str) -> bool:
    """Whether it is that service or one of its own: `urn:service:sos.fire` is within `urn:service:sos`."""
    return urn == service or urn.startswith(f"{service}.")
