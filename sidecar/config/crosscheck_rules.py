"""Which rules contradict each other."""

from __future__ import annotations

from collections.abc import Iterable

from sidecar.config.layers import Effective
from sidecar.config.problems import Findings, Where, quoted
from sidecar.config.tables import Tables
from sidecar.core.screening import pattern_of


def check(effective: Effective, tables: Tables, findings: Findings) -> None:
    sip = effective.settings.sip
    _blocked_and_allowed(
        *effective.at("sip.allowed_numbers"), sip.blocked_numbers, sip.allowed_numbers, findings
    )
    for entry in (*tables.peers.values(), *tables.groups.values(), *tables.accounts.values()):
        given = {"blocked_numbers", "allowed_numbers"} & entry.given  # else it is its group's, and said there
        if given:
            where, key = entry.at(max(given))
            _blocked_and_allowed(
                where, key, entry["blocked_numbers"] or (), entry["allowed_numbers"] or (), findings
            )


def _blocked_and_allowed(
    where: Where, key: str, blocked: Iterable[str], allowed: Iterable[str], findings: Findings
) -> None:
    for pattern in sorted({*map(pattern_of, blocked)} & {*map(pattern_of, allowed)}):
        findings.error(where, key, f"{quoted(pattern)} is both blocked and allowed here")
