from __future__ import annotations

from decimal import Decimal
from enum import StrEnum

import pytest

from sidecar.core.terms import (
    CONFIDENCE_OF,
    ChargeSide,
    Confidence,
    Detail,
    Disposition,
    Evidence,
    HangupOrigin,
    LegName,
    Money,
    RatingStatus,
    RevisionReason,
    ServerReason,
)

# The closed sets of the CDR, version 1: a word more changes the schema, a word less breaks readers.
CLOSED: dict[type[StrEnum], str] = {
    HangupOrigin: "caller callee server",
    ServerReason: "timeout credit admin policy resource fault",
    Disposition: "answered rejected cancelled no_answer refused refused_aggregate failed",
    RatingStatus: "rated free no_rate not_billable",
    Evidence: "message timer proved heartbeat",
    Confidence: "observed recovered inferred",
    ChargeSide: "sell buy",
    RevisionReason: "late_evidence rerate operator",
    Detail: "bye cancel rejected "
    "ring_timeout max_duration no_ack dead_peer session_timer grant_used_up no_credit "
    "source_not_allowed number_blocked destination_blocked account_disabled no_rate rule operator drain "
    "node_full peer_limit account_limit gateway_limit no_route gateway_unreachable ledger_unreachable "
    "transport_lost journal internal_error crash_recovered",
}


@pytest.mark.parametrize("closed_set", CLOSED, ids=lambda closed_set: closed_set.__name__)
def test_the_closed_sets_are_closed(closed_set: type[StrEnum]) -> None:
    assert [word.value for word in closed_set] == CLOSED[closed_set].split()


def test_confidence_follows_from_evidence() -> None:
    assert CONFIDENCE_OF == {
        Evidence.MESSAGE: Confidence.OBSERVED,
        Evidence.TIMER: Confidence.OBSERVED,
        Evidence.PROVED: Confidence.RECOVERED,
        Evidence.HEARTBEAT: Confidence.INFERRED,
    }


def test_the_other_leg() -> None:
    assert (LegName.A.other, LegName.B.other) == (LegName.B, LegName.A)


def test_money_of_one_currency_adds_up_exactly() -> None:
    assert Money(Decimal("0.1"), "EUR") + Money(Decimal("0.2"), "EUR") == Money(Decimal("0.3"), "EUR")


def test_money_of_two_currencies_is_never_added() -> None:
    with pytest.raises(ValueError, match="cannot add USD to EUR"):
        Money(Decimal(1), "EUR") + Money(Decimal(1), "USD")
