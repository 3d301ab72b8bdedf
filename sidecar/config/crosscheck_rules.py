"""Which rules contradict each other."""

from __future__ import annotations

from collections.abc import Iterable

from sidecar.config import emergency_numbers
from sidecar.config.layers import Effective
from sidecar.config.problems import Findings, Where, quoted
from sidecar.config.tables import Tables
from sidecar.core.screening import pattern_of


def check(effective: Effective, tables: Tables, findings: Findings) -> None:
    _emergency_numbers(effective, tables, findings)
    sip = effective.settings.sip
    if sip.refused_cdr_all_per_s is not None and sip.refused_cdr_all_per_s < sip.refused_cdr_per_s:
        text = f"is less than sip.refused_cdr_per_s, the {sip.refused_cdr_per_s} of one source"
        findings.error(*effective.at("sip.refused_cdr_all_per_s"), text)
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


def _emergency_numbers(effective: Effective, tables: Tables, findings: Findings) -> None:
    sip = effective.settings.sip
    for country in sip.countries:
        if emergency_numbers.numbers_of(country) is None:
            text = f"no emergency number is known of {quoted(country)}: give sip.emergency_numbers"
            findings.error(*effective.at("sip.countries"), text)
    numbers = emergency_numbers.in_force(sip)
    blocked = {"sip.blocked_numbers": (effective.at("sip.blocked_numbers"), sip.blocked_numbers)}
    for entry in (*tables.peers.values(), *tables.groups.values(), *tables.accounts.values()):
        if "blocked_numbers" in entry.given:
            blocked[entry.written] = entry.at("blocked_numbers"), entry["blocked_numbers"] or ()
    for at, patterns in blocked.values():
        for number in sorted(numbers & {*map(pattern_of, patterns)}):
            findings.error(*at, f"{quoted(number)} is an emergency number: its calls are never refused")
    prefixes = [route["prefix"] for route in tables.routes if route["prefix"] is not None]
    nowhere = [n for n in sorted(numbers) if prefixes and not any(map(n.startswith, prefixes))]
    if nowhere:
        text = f"no route carries {', '.join(nowhere[:5])}: such calls are refused (no_route)"
        given = "emergency_numbers" if effective.is_given("sip.emergency_numbers") else "countries"
        findings.warn(*effective.at(f"sip.{given}"), text)


def _blocked_and_allowed(
    where: Where, key: str, blocked: Iterable[str], allowed: Iterable[str], findings: Findings
) -> None:
    for pattern in sorted({*map(pattern_of, blocked)} & {*map(pattern_of, allowed)}):
        findings.error(where, key, f"{quoted(pattern)} is both blocked and allowed here")
