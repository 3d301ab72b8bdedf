"""Of which calls the messages are captured."""

from __future__ import annotations

from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.capture import CaptureRule
from sidecar.core.identity import call_id_of


def ids(count: int) -> list[UUID]:
    return [call_id_of("_", "node", "boot", number, 1_790_000_000_000) for number in range(count)]


def test_a_share_of_the_calls_is_captured_and_the_larger_share_holds_the_smaller() -> None:
    tenth, half = CaptureRule(share_percent=10), CaptureRule(share_percent=50)
    taken = [call_id for call_id in ids(20_000) if tenth.takes(call_id, "a")]
    assert 1_800 < len(taken) < 2_200
    assert all(half.takes(call_id, "b") for call_id in taken)


@given(st.uuids(), st.sampled_from(["a", "b", "_"]))
def test_all_are_captured_where_nothing_else_is_said_and_else_those_of_the_accounts(
    call_id: UUID, account: str
) -> None:
    assert CaptureRule(share_percent=100).takes(call_id, account)
    assert CaptureRule(share_percent=100, accounts=frozenset({"a"})).takes(call_id, account) is (
        account == "a"
    )
