"""Every row of the table of causes, played against the core: the record, the commands, the money."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal
from pathlib import Path

import pytest

from sidecar.core.cdr import Cdr
from sidecar.core.commands import EntryKind
from sidecar.core.hangup import RING_ALERTED, RING_NOT_ALERTED, RING_SILENT, TABLE
from sidecar.core.records import sell_total
from sidecar.core.terms import ChargeSide, Detail
from tests.scenarios.golden import GOLDEN, expand, golden_files, golden_text, left_behind
from tests.scenarios.scenario import Scenario, summary
from tests.scenarios.table import BY_NAME, SCENARIOS

SIPP_SCENARIOS = Path(__file__).parent.parent.parent / "sipp_scenarios"
SIPP_ALONE = {
    "caller-bye-forked": "the dialogs of a fork are the bridge's; the core keeps their names for a crash",
    "caller-bye-private": "which headers a gateway gets is the bridge's: here it is caller-bye-in-call",
    "caller-refer-in-call": "the bridge passes a REFER, the core does not hear of it",
    "caller-refer-refused": "the bridge refuses a REFER, the core does not hear of it",
    "gateway-challenge": "the bridge answers the challenge, the core does not hear of it",
    "gateway-not-found": "the part of the first gateway in callee-rejected-after-failover-by-code",
    "gateway-probes-answered": "the part of a gateway that is up; probes are no calls",
    "gateway-slow": "the part of the first gateway in callee-rejected-after-failover-by-time",
    "gateway-unavailable": "the part of the first gateway in callee-rejected-busy-after-failover",
    "proxy-bye-in-call": "why it hangs up is Kamailio's: proxy-bye-max-duration, or its operator",
    "server-dead-dialog-in-call": "the callee says 481: here it is server-dead-callee-in-call",
    "server-refused-by-policy": "the caller of server-no-rate, server-account-required, server-margin-floor",
}

each_scenario = pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)


@each_scenario
def test_the_record_says_who_ended_the_call_and_why(scenario: Scenario) -> None:
    ladder = scenario.play()
    assert summary(ladder.record) == scenario.cdr
    found = {field: getattr(ladder.record, field) for field in scenario.also}
    assert found == scenario.also


@each_scenario
def test_the_records_are_the_golden_ones(scenario: Scenario) -> None:
    """`python -m tests.scenarios.golden` writes them anew; the difference is for a person to read."""
    text = (GOLDEN / f"{scenario.name}.json").read_text()
    assert text == golden_text(scenario)
    assert expand(text) == left_behind(scenario)


def test_there_is_no_golden_file_without_its_scenario() -> None:
    assert {path.stem for path in golden_files()} == set(BY_NAME)


@each_scenario
def test_the_bridge_is_told_what_the_ladder_needs(scenario: Scenario) -> None:
    assert ", ".join(scenario.play().wire) == scenario.wire


@each_scenario
def test_the_account_pays_what_the_ladder_says(scenario: Scenario) -> None:
    ladder = scenario.play()
    total = sell_total(ladder.record)
    assert (total.amount if total else Decimal(0)) == Decimal(scenario.sold.replace("-", "0"))
    if scenario.sold == "-":
        assert not ladder.record.recorded
    if scenario.refused:
        assert not ladder.settled
    elif total is not None or ladder.call is None or ladder.call.account.prepaid:
        assert ladder.settled[-1] == total


@each_scenario
def test_there_is_one_record_and_nothing_is_left_behind(scenario: Scenario) -> None:
    ladder = scenario.play()
    assert ladder.is_over
    revisions = 0 if scenario.refused else scenario.revisions
    assert [record.revision for record in ladder.records] == list(range(revisions))
    assert len(ladder.refusals) == scenario.refused
    assert not ladder.books.open
    assert ladder.books.faults() == []


def test_every_row_of_the_table_has_a_scenario_with_its_codes() -> None:
    played = {(cdr.hangup_origin, cdr.detail, cdr.sip_code, cdr.q850_cause) for cdr in _records()}
    for (origin, detail), row in TABLE.items():
        if detail is Detail.REJECTED:  # its codes are the received ones
            assert any(one[:2] == (origin, detail) for one in played)
        else:
            assert (origin, detail, row.sip_code, row.q850_cause) in played, f"{origin}/{detail}"
    for cause in (RING_ALERTED, RING_NOT_ALERTED, RING_SILENT):
        assert any(one[1] is Detail.RING_TIMEOUT and one[3] == cause for one in played)


def test_every_sipp_scenario_is_a_scenario_here_or_says_why_not() -> None:
    played = {path.name.split(".")[0] for path in SIPP_SCENARIOS.glob("*.xml")}
    assert played - set(BY_NAME) == set(SIPP_ALONE)


def test_a_name_says_who_ended_the_call() -> None:
    """`<who>-<what>[-<phase>]`; a glare is two at once."""
    for scenario in SCENARIOS:
        who = scenario.name.split("-")[0]
        origin = scenario.play().record.hangup_origin
        assert who == "glare" or origin == {"proxy": "server"}.get(who, who), scenario.name


def test_names_are_unique() -> None:
    assert not [name for name, count in Counter(one.name for one in SCENARIOS).items() if count > 1]


def test_a_held_answer_that_never_reaches_the_caller_is_bought_and_not_sold() -> None:
    # The stalled journal held B's 2xx for two seconds, until the BYE on B.
    sell, buy = BY_NAME["server-journal-stalled-while-held"].play().record.charges
    assert (sell.side, buy.side) == (ChargeSide.SELL, ChargeSide.BUY)
    assert (sell.total, buy.total) == (Decimal(0), Decimal("0.001"))


def test_a_suppressed_call_says_what_it_would_have_cost() -> None:
    ladder = BY_NAME["server-max-duration-suppressed"].play()
    assert not ladder.record.recorded
    assert ladder.record.charges[0].total == Decimal("14.4")
    assert ladder.settled == []


def test_the_journal_hears_of_each_step_in_order() -> None:
    assert BY_NAME["caller-bye-in-call"].play().entries == [
        EntryKind.ADMITTED,
        EntryKind.ANSWERED,
        EntryKind.ESTABLISHED,
        EntryKind.ENDING,
    ]


def _records() -> list[Cdr]:
    return [one.play().record for one in SCENARIOS]
