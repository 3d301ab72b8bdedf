"""Ladders that nobody wrote: peers, disk and people do anything at any time, and the books still close."""

from __future__ import annotations

from decimal import Decimal

from hypothesis import event as note
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sidecar.core.policy import Policy
from sidecar.core.records import is_charged
from sidecar.core.terms import Money, Redirection
from tests.scenarios.ladder import Ladder
from tests.scenarios.world import account, policy_of

OPENINGS = (
    (),
    ("A ACK",),
    ("B 180", "B 200"),
    ("B 180", "B 200", "A ACK"),
    ("B 180", "B 200", "A ACK"),
    ("B 407", "A INVITE again"),
    ("B 503", "B 180"),
    ("B 300 contact=4930999@10.0.2.1 contact=4930888@10.0.1.1", "B 180"),
)
ANYTHING = (
    "A ACK",
    "A BYE",
    "A CANCEL",
    "A life",
    "A lost",
    "A deaf",
    "A refreshed",
    "A slow 3000",
    "B 180",
    "B 183",
    "B 200",
    "B 302 contact=4930999@10.0.2.1",
    "B 486",
    "B 503",
    "B BYE",
    "B late",
    "B stale 1 486",
    "B life",
    "B lost",
    "B deaf",
    "disk fails",
    "disk stalls",
    "node crashes",
    "node loses",
    "node late 70",
    "operator releases",
    "timer dead_peer",
    "timer ring",
    "timer session_timer",
)
waits_ms = st.sampled_from([0, 0, 1, 2, 5, 100, 900, 1_100, 6_000, 40_000])
lines = st.builds(
    lambda opening, tail, waits: list(zip(waits, [*opening, *tail], strict=False)),
    st.sampled_from(OPENINGS),
    st.lists(st.sampled_from(ANYTHING), max_size=6),
    st.lists(waits_ms, min_size=10, max_size=10),
)
policies = st.sampled_from(
    [
        policy_of(routes=("alpha", "beta")),
        policy_of(routes=("alpha", "beta"), accounts=account(prepaid=True)),
        policy_of(redirect=Redirection.FOLLOW),
    ]
)


def ladder_text(moves: list[tuple[int, str]]) -> str:
    at_ms, text = 0, ["0 A INVITE"]
    for wait_ms, move in moves:
        at_ms += wait_ms
        text.append(f"{at_ms} {move}")
    return "\n".join(text)


@settings(max_examples=500, deadline=None)
@given(policies, lines, st.sampled_from(["0", "0.0005", "0.005", "100"]))
@example(policy_of(), [(0, "A CANCEL"), (0, "node crashes")], "0")
def test_every_call_ends_with_one_record_and_settled_books(
    policy: Policy, moves: list[tuple[int, str]], balance: str
) -> None:
    ladder = Ladder(policy, balance=Decimal(balance))
    ladder.strict = False
    ladder.play(ladder_text(moves))
    firsts = [record for record in ladder.records if record.revision == 0]
    # Nothing was on disk when the node crashed: nothing had left either, and the caller tries again.
    unwritten = ladder.crashed and not firsts and not ladder.refusals
    assert unwritten or len(firsts) + len(ladder.refusals) == 1
    if unwritten:
        assert "route" not in " ".join(ladder.wire)
        return
    assert not ladder.books.open
    assert ladder.books.faults() == []
    record = ladder.record
    note(f"{record.hangup_origin}/{record.detail}")
    assert ladder.is_over or ladder.crashed
    assert record.billable_ms <= record.talk_ms
    total = next((line.total for line in record.charges if line.side == "sell"), None)
    if is_charged(record.suppressed_by) and ladder.settled:
        posted = ladder.settled[-1] or Money(Decimal(0), "EUR")
        assert posted.amount == (total or 0)
        if ladder.reserved is not None:
            assert posted.currency == ladder.reserved.currency
            assert posted.amount <= ladder.reserved.amount
