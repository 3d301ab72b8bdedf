"""Topic names: below `sidecar/v1/<tenant>/<node>/` are `cdr/<account>/<origin>`, `status`, `event/<kind>`,
and for who asks for records again `replay/<user>` (requests) and `replayed/<user>` with all below it
(answers).

Each part is percent-escaped (RFC 3986 unreserved characters stay), so `+`, `#`, `/`, `$` and control
characters never appear raw and no name can widen a subscription or forge a level. No phone number is ever a
part.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple
from urllib.parse import quote, unquote

from sidecar.core.alarms import AlarmKind
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


def status_filter(tenant: str | None = None, node: str | None = None) -> str:
    return f"{ROOT}/{_level(tenant)}/{_level(node)}/status"


def event_topic(tenant: str, node: str, kind: AlarmKind) -> str:
    return f"{ROOT}/{escape(tenant)}/{escape(node)}/event/{kind.value}"


def replay_topic(tenant: str, node: str, user: str) -> str:
    return f"{ROOT}/{escape(tenant)}/{escape(node)}/replay/{escape(user)}"


def replayed_topic(tenant: str | None, node: str | None, user: str, client: str = "") -> str:
    """Where this client of a user is answered; a filter where a part is None."""
    topic = f"{ROOT}/{_level(tenant)}/{_level(node)}/replayed/{escape(user)}"
    return f"{topic}/{escape(client)}" if client else topic


def broker_acl(tenant: str, node: str) -> tuple[str, ...]:
    """Lines of Mosquitto's acl_file for the broker of one node, without the node itself. Whoever has no name
    reads records, the status and events; a user may also ask for a replay, and reads the answer, which nobody
    else does."""
    read = [f"{ROOT}/+/+/cdr/#", f"{ROOT}/+/+/status", f"{ROOT}/+/+/event/#"]
    own = f"{ROOT}/{escape(tenant)}/{escape(node)}"
    return (
        *(f"topic read {topic}" for topic in read),
        *(f"pattern read {topic}" for topic in read),
        f"pattern write {own}/replay/%u",
        f"pattern read {own}/replayed/%u/#",
    )


def node_of(topic: str) -> tuple[str, str] | None:
    """(tenant, node) of any topic of ours; None where it is none."""
    parts = topic.split("/")
    if len(parts) < 5 or "/".join(parts[:2]) != ROOT:
        return None
    return unescape(parts[2]), unescape(parts[3])


def cdr_filter(
    tenant: str | None = None,
    node: str | None = None,
    account: str | None = None,
    origin: HangupOrigin | None = None,
) -> str:
    """A subscription to CDRs; None stands for any."""
    origin_part = ANY if origin is None else origin.value
    return f"{ROOT}/{_level(tenant)}/{_level(node)}/cdr/{_level(account)}/{origin_part}"


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


def _level(part: str | None) -> str:
    return ANY if part is None else escape(part)


def escape(part: str) -> str:
    """One topic level. Never raises: a lone surrogate becomes its `\\udcXX` text."""
    return quote(part, safe="", errors="backslashreplace")


def unescape(level: str) -> str:
    return unquote(level, errors="backslashreplace")
