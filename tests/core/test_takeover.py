from __future__ import annotations

import pytest
from msgspec.structs import replace

from sidecar.core.takeover import Answer, Node, Verdict, place_of, verdict

DEAD = Node(
    name="n1", epoch=1, boot=7, writer="n1", heard_at=("udp:192.0.2.1:5060",), is_over=True, has_work=True
)
A, V = Answer, Verdict


@pytest.mark.parametrize("before", Answer)
def test_a_node_that_answers_keeps_its_calls_whatever_its_lease_says(before: Answer) -> None:
    assert verdict(DEAD, "n2", before, A.ANSWERED) is V.LEAVE


def test_a_node_is_asked_once_its_lease_is_over_and_taken_over_when_it_is_silent_then() -> None:
    assert verdict(DEAD, "n2", A.ANSWERED, A.UNKNOWN) is V.ASK
    assert verdict(DEAD, "n2", A.ANSWERED, A.SILENT) is V.TAKE
    assert verdict(DEAD, "n2", A.UNKNOWN, A.SILENT) is V.TAKE


def test_the_silence_of_a_node_that_was_silent_while_it_lived_proves_nothing() -> None:
    assert verdict(DEAD, "n2", A.SILENT, A.SILENT) is V.DOUBT


def test_a_node_whose_lease_runs_is_asked_so_that_its_silence_says_something_later() -> None:
    alive = replace(DEAD, is_over=False)
    assert verdict(alive, "n2", A.UNKNOWN, A.UNKNOWN) is V.ASK
    assert verdict(alive, "n2", A.ANSWERED, A.SILENT) is V.LEAVE
    assert verdict(alive, "n2", A.SILENT, A.SILENT) is V.LEAVE


def test_a_node_that_has_left_nothing_is_left_alone() -> None:
    assert verdict(replace(DEAD, has_work=False), "n2", A.ANSWERED, A.SILENT) is V.LEAVE


def test_what_we_took_over_and_did_not_end_is_ours_without_a_question() -> None:
    assert verdict(replace(DEAD, writer="n2"), "n2", A.UNKNOWN, A.UNKNOWN) is V.TAKE
    assert verdict(replace(DEAD, writer="n2"), "n3", A.UNKNOWN, A.UNKNOWN) is V.ASK


@pytest.mark.parametrize(
    ("address", "place"),
    [
        ("udp:192.0.2.1:5060", ("udp", "192.0.2.1", 5060)),
        ("tls:[2001:db8::1]:5061", ("tls", "2001:db8::1", 5061)),
    ],
)
def test_addresses_are_read_as_nodes_tell_them(address: str, place: tuple[str, str, int]) -> None:
    assert place_of(address) == place
