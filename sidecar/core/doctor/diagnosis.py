"""`diagnose`: the findings on all senders and decks, the most calls first."""

from __future__ import annotations

from collections.abc import Iterable
from uuid import UUID

from sidecar.core.doctor.destinations import (
    implausible_numbers,
    implausible_rates,
    unrated_calls,
    unrated_destinations,
)
from sidecar.core.doctor.effects import Book
from sidecar.core.doctor.observe import Observed
from sidecar.core.doctor.strips import contradictions, senders, strip_findings
from sidecar.core.doctor.vocabulary import Finding, NumberingPlan
from sidecar.core.terms import ChargeSide

NO_BOOK: Book = lambda _: None  # noqa: E731


def diagnose(observed: Iterable[Observed], plan: NumberingPlan, book: Book = NO_BOOK) -> list[Finding]:
    """`book` gives the deck in force for a charge; without it no finding says what its fix would change.

    What is wrong with the strip comes first; numbers that it explains are not told again as unrated or
    impossible.
    """
    every = tuple(observed)
    findings: list[Finding] = []
    explained: set[tuple[UUID, ChargeSide]] = set()
    for sender in senders(every):
        found, calls = strip_findings(sender, plan, book)
        if not found:
            found, more = contradictions(sender, plan, book)
            calls += more
        explained.update((one.call_id, one.side) for one in calls)
        findings += found
        findings += implausible_numbers(sender, explained, plan)
    places = unrated_destinations(every, explained, plan)
    findings += places
    findings += unrated_calls(every, explained, places, plan)
    findings += implausible_rates(every, explained, plan)
    return sorted(findings, key=lambda one: (-one.calls, one.symptom, one.subject, one.digits))
