"""Topic names: `sidecar/v1/<tenant>/<node>/cdr/<account>/<origin>` and `sidecar/v1/<tenant>/<node>/status`.

Each part is percent-escaped (RFC 3986 unreserved characters stay), so `+`, `#`, `/`, `$` and control
characters never appear raw and no name can widen a subscription or forge a level. No phone number is ever a
part.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple
from urllib.parse import quote, unquote

from sidecar.core.terms import HangupOrigin

ROOT = "sidecar/v1"
ANY = "+"


class CdrTopic(NamedTuple):
    tenant: str
    node: str
    account: str
    origin: HangupOrigin


@lru_cache(maxsize=10_000)
def cdr_topic(tenant: str, node: str, account: str, origin: HangupOrigin) -> str:
    return f"{ROOT}/{escape(tenant)}/{escape(node)}/cdr/{escape(account)}/{origin.value}"


def status_topic(tenant: str, node: str) -> str:
    return f"{ROOT}/{escape(tenant)}/{escape(node)}/status"


def cdr_filter(
    tenant: str | None = None,
    node: str | None = None,
    account: str | None = None,
    origin: HangupOrigin | None = None,
) -> str:
    """A subscription to CDRs; None stands for any."""
    tenant_part, node_part, account_part = (ANY if p is None else escape(p) for p in (tenant, node, account))
    return f"{ROOT}/{tenant_part}/{node_part}/cdr/{account_part}/{ANY if origin is None else origin.value}"


def parse_cdr_topic(topic: str) -> CdrTopic | None:
    """Whose record came on this topic; None where it is not a CDR topic."""
    parts = topic.split("/")
    if (
        len(parts) != 7
        or "/".join(parts[:2]) != ROOT
        or parts[4] != "cdr"
        or parts[6] not in set(HangupOrigin)
    ):
        return None
    return CdrTopic(unescape(parts[2]), unescape(parts[3]), unescape(parts[5]), HangupOrigin(parts[6]))


def escape(part: str) -> str:
    """One topic level. Never raises: a lone surrogate becomes its `\\udcXX` text."""
    return quote(part, safe="", errors="backslashreplace")


def unescape(level: str) -> str:
    return unquote(level, errors="backslashreplace")
