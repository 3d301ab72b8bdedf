from __future__ import annotations

from itertools import product

import pytest

from sidecar.core.dialog import TABLE, Signal, after
from sidecar.core.terms import DialogState

# Rows: the state; columns: INVITE, provisional, answer, closed. A dot: nothing changes.
EXPECTED = """
trying      .       early  confirmed  terminated
proceeding  .       early  confirmed  terminated
early       .       .      confirmed  terminated
confirmed   .       .      .          terminated
terminated  trying  .      .          .
"""


@pytest.mark.parametrize(
    ("state", "signal", "expected"),
    [
        (DialogState(name), signal, DialogState(name if cell == "." else cell))
        for name, *cells in map(str.split, EXPECTED.strip().splitlines())
        for signal, cell in zip(Signal, cells, strict=True)
    ],
)
def test_each_signal_in_each_state(state: DialogState, signal: Signal, expected: DialogState) -> None:
    assert after(state, signal) is expected


def test_every_state_and_signal_was_looked_at() -> None:
    assert len(list(product(DialogState, Signal))) == len(EXPECTED.split()) - len(DialogState)


def test_only_a_new_attempt_leaves_the_last_state() -> None:
    assert [signal for state, signal in TABLE if state is DialogState.TERMINATED] == [Signal.INVITE]


def test_a_signal_that_comes_twice_changes_nothing_more() -> None:
    for state, signal in product(DialogState, Signal):
        once = after(state, signal)
        if signal is not Signal.INVITE:
            assert after(once, signal) is once
