"""Topic names: below `sidecar/v1/<tenant>/<node>/` are `cdr/<account>/<origin>`, `status`, `event/<kind>`,
and for who asks for records again `replay/<user>` (requests), `replayed/<user>` with all below it (answers),
and `report/<user>/<client>`, by which he tells how far he has come.

Each part is percent-escaped (RFC 3986 unreserved characters stay), so `+`, `#`, `/`, `$` and control
characters never appear raw and no name can widen a subscription or forge a level. No phone number is ever a
part.
"""

from __future__ import annotations

from collections.abc import Sequence
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


def report_topic(tenant: str, node: str, user: str, client: str | None) -> str:
    """Where this client of a user tells of itself; a filter for None."""
    return f"{ROOT}/{escape(tenant)}/{escape(node)}/report/{escape(user)}/{_level(client)}"


def broker_acl(tenant: str, node: str, user: str, asking: Sequence[str]) -> tuple[str, ...]:
    """Lines of Mosquitto's acl_file for the broker of one node, which is `user` there. The others read
    records, the status and events; those that are `asking` may ask for a replay, and tell of themselves, in
    their own name, and each alone reads the answer."""
    own = f"{ROOT}/{escape(tenant)}/{escape(node)}"
    return (
        f"user {user}",
        f"topic write {ROOT}/+/+/cdr/#",  # rows that wait may be of a time when the node had another name
        f"topic write {ROOT}/{escape(tenant)}/+/status",  # of a node that was taken over, too
        f"topic write {own}/event/+",
        f"topic read {own}/replay/+",
        f"topic read {own}/report/+/+",
        f"topic write {own}/replayed/#",
        f"pattern read {ROOT}/+/+/cdr/#",
        f"pattern read {ROOT}/+/+/status",
        f"pattern read {ROOT}/+/+/event/#",
        *(
            line
            for name in asking
            for line in (
                f"user {name}",
                f"topic write {own}/replay/{escape(name)}",
                f"topic read {own}/replayed/{escape(name)}/#",
                f"topic write {own}/report/{escape(name)}/+",
            )
        ),
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
