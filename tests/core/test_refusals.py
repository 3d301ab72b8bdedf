from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

from msgspec.structs import replace

from sidecar.core import refusals
from sidecar.core.cdr import Cdr
from sidecar.core.events import LegIdentity
from sidecar.core.hangup import SERVER, hangup
from sidecar.core.records import cdr_of
from sidecar.core.refusals import RefusalWindow
from sidecar.core.terms import Detail, Disposition, Evidence
from tests.adapters.store_calls import POLICY, admitted
from tests.adapters.store_calls import ended as ended_call

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def refusal(
    number: int, after_s: float = 0.0, *, source: str = "192.0.2.1", detail: Detail = Detail.NUMBER_BLOCKED
) -> Cdr:
    call = replace(ended_call(admitted(1)), hangup=hangup(SERVER, detail, Evidence.MESSAGE, refused=True))
    cdr = cdr_of(call, POLICY)
    leg = replace(cdr.leg_a, sip_call_id=f"c{number}", remote_address=f"{source}:{5000 + number % 1000}")
    return replace(cdr, call_id=UUID(int=number), leg_a=leg, ended_at=NOON + timedelta(seconds=after_s))


ALL = 100_000  # records that all sources together may get


def noted(window: RefusalWindow, *cdrs: Cdr) -> list[Cdr]:
    return [one for cdr in cdrs if (one := window.note(cdr, "branch", 1)) is not None]


def test_a_second_has_ten_records_of_one_source_and_the_next_second_ten_more() -> None:
    window = RefusalWindow(10, ALL)
    assert len(noted(window, *(refusal(n, 0.01 * n) for n in range(30)))) == 10
    assert len(noted(window, *(refusal(100 + n, 1.0) for n in range(30)))) == 10


def test_sources_do_not_share_their_ten() -> None:
    window = RefusalWindow(10, ALL)
    noted(window, *(refusal(n) for n in range(30)))
    assert len(noted(window, *(refusal(n, source="192.0.2.2") for n in range(30)))) == 10


def test_the_same_refusal_again_is_no_refusal() -> None:
    window = RefusalWindow(1, ALL)
    assert len(noted(window, *[refusal(1)] * 50)) == 1
    assert window.due(NOON, all_of_them=True) == []
    assert window.note(refusal(1, 1.0), "another branch", 1) is not None
    assert window.note(refusal(1, 2.0), "branch", 2) is not None


def test_the_rest_of_a_minute_is_one_record_by_source_and_reason() -> None:
    window = RefusalWindow(10, ALL)
    noted(window, *(refusal(n, 0.001 * n) for n in range(40)))
    noted(window, *(refusal(n, 0.1 + 0.001 * n, detail=Detail.NO_RATE) for n in range(100, 120)))
    noted(window, *(refusal(n, 30 + 0.001 * n) for n in range(200, 240)))
    assert window.due(NOON + timedelta(seconds=59)) == []
    blocked, unrated = window.due(NOON + timedelta(seconds=61))
    assert (blocked.detail, blocked.refused_count) == (Detail.NUMBER_BLOCKED, 30 + 30)
    assert (unrated.detail, unrated.refused_count) == (Detail.NO_RATE, 20)
    assert blocked.disposition is Disposition.REFUSED_AGGREGATE
    assert blocked.first_refused_at == NOON + timedelta(milliseconds=10)
    assert blocked.last_refused_at == blocked.ended_at == NOON + timedelta(seconds=30, milliseconds=239)
    assert window.due(NOON + timedelta(seconds=200)) == []


def test_a_minute_that_follows_has_a_record_of_its_own() -> None:
    window = RefusalWindow(1, ALL)
    noted(window, *(refusal(n) for n in range(5)))
    first = window.due(NOON + timedelta(seconds=60))
    noted(window, *(refusal(n, 61) for n in range(10, 13)))
    second = window.due(NOON + timedelta(seconds=121.5))
    assert [one.refused_count for one in (*first, *second)] == [4, 2]
    assert len({one.call_id for one in (*first, *second)}) == 2


def test_past_their_maximum_strangers_share_one_row() -> None:
    window = RefusalWindow(1, ALL)
    sources = refusals.SOURCES_MAX
    told = noted(window, *(refusal(n, source=f"s{n}") for n in range(sources + 50)))
    assert len(told) == sources + 1
    (rest,) = window.due(NOON, all_of_them=True)
    assert rest.refused_count == 49


def leg_of(cdr: Cdr) -> LegIdentity:
    leg = admitted(1).invite.leg
    at = replace(leg, sip_call_id=cdr.leg_a.sip_call_id, remote_tag=cdr.leg_a.remote_tag, remote_cseq=1)
    return replace(at, remote_address=cdr.leg_a.remote_address, branch="branch")


def test_what_is_above_the_limit_is_counted_without_a_record_of_it() -> None:
    window = RefusalWindow(10, ALL)
    every = [refusal(n, 0.01 * n) for n in range(30)]
    made = []
    for cdr in every:
        if not window.counted(cdr.detail, leg_of(cdr), cdr.ended_at):
            made.append(cdr)
            window.note(cdr, "branch", 1)
    assert made == every[:11]  # ten are told, and one stands for the rest
    for again in (every[3], every[20]):
        assert window.counted(again.detail, leg_of(again), again.ended_at), "and is not counted again"
    other = refusal(50, 0.4, detail=Detail.NO_RATE)
    later = refusal(51, 1.0)
    elsewhere = refusal(52, 0.4, source="192.0.2.2")
    for cdr in (other, later, elsewhere):
        assert not window.counted(cdr.detail, leg_of(cdr), cdr.ended_at)
    (rest,) = window.due(NOON, all_of_them=True)
    assert (rest.refused_count, rest.last_refused_at) == (20, every[29].ended_at)


def test_a_clock_that_steps_back_opens_no_flood() -> None:
    window = RefusalWindow(10, ALL)
    noted(window, *(refusal(n, 100) for n in range(20)))
    assert len(noted(window, *(refusal(100 + n, 0.001 * n) for n in range(20)))) == 10


def test_each_address_is_a_source_whatever_its_port_and_family() -> None:
    window = RefusalWindow(1, ALL)
    for source in ("192.0.2.1", "[2001:db8::1]", "[2001:db8::2]"):
        assert len(noted(window, *(refusal(n, source=source) for n in range(3)))) == 1
    assert [one.refused_count for one in window.due(NOON, all_of_them=True)] == [2, 2, 2]


def test_an_invite_is_another_by_its_sender_call_id_or_tag() -> None:
    window = RefusalWindow(10, ALL)
    first = refusal(1)
    others = [
        replace(first, leg_a=replace(first.leg_a, **change))
        for change in ({"remote_address": "192.0.2.9:5001"}, {"sip_call_id": "c2"}, {"remote_tag": "x"})
    ]
    assert len(noted(window, first, *others)) == 4
    assert noted(window, first, *others) == []


def test_of_the_invites_that_were_noted_the_oldest_is_forgotten_first() -> None:
    window = RefusalWindow(1, ALL)
    kept = refusals.SEEN_MAX
    every = [refusal(n) for n in range(kept + 1)]
    assert len(noted(window, *every[:kept])) == 1
    assert noted(window, replace(every[0], ended_at=NOON + timedelta(seconds=1))) == [], "still known"
    noted(window, every[kept])
    second = NOON + timedelta(seconds=2)
    assert noted(window, replace(every[1], ended_at=second)) == [], "still known"
    assert len(noted(window, replace(every[0], ended_at=second))) == 1, "forgotten"


def test_a_known_source_keeps_its_own_row_and_an_idle_one_gives_it_up_after_a_minute() -> None:
    window = RefusalWindow(1, ALL)
    sources = [refusal(n, source=f"s{n}") for n in range(refusals.SOURCES_MAX)]
    assert len(noted(window, *sources)) == len(sources)
    strangers = [refusal(n, 59, source=f"t{n}") for n in range(3)]
    assert len(noted(window, *strangers)) == 1
    again = [refusal(n, 59, source=f"s{n - 100}") for n in range(100, 103)]
    assert len(noted(window, *again)) == 3
    window.due(NOON + timedelta(seconds=59.9))
    assert len(noted(window, *(refusal(n, 59.9, source=f"u{n}") for n in range(3)))) == 0
    window.due(NOON + timedelta(seconds=60))
    assert len(noted(window, *(refusal(n, 60, source=f"v{n}") for n in range(3)))) == 3


def test_aggregates_are_given_as_they_grow_under_the_id_that_their_record_will_have() -> None:
    window = RefusalWindow(1, ALL)
    noted(window, *(refusal(n) for n in range(3)), *(refusal(n, source="s2") for n in range(3)))
    first, second = window.changed(1) + window.changed(9)
    assert (first.refused_count, second.refused_count) == (2, 2)
    assert window.changed(9) == []
    assert window.counted(Detail.NUMBER_BLOCKED, leg_of(refusal(7)), NOON)
    [again] = window.changed(9)
    assert (again.refused_count, again.call_id) == (3, first.call_id)
    noted(window, refusal(20, 0.5))
    assert {one.call_id for one in window.due(NOON, all_of_them=True)} == {first.call_id, second.call_id}
    assert window.changed(9) == []


# --- of all sources together --------------------------------------------------------------------------------


def test_a_thousand_made_up_sources_get_no_more_than_all_together_may() -> None:
    window = RefusalWindow(10, 50)
    made: list[Cdr] = []
    flood = [refusal(n, 0.0001 * n, source=f"10.0.{n % 1_000 // 250}.{n % 250}") for n in range(7_000)]
    for cdr in flood:
        if not window.counted(cdr.detail, leg_of(cdr), cdr.ended_at):
            made += noted(window, cdr)
    assert len(made) == 50
    rest = window.due(NOON, all_of_them=True)
    assert len(rest) <= refusals.HELD_MAX
    assert sum(cdr.refused_count or 0 for cdr in rest) == 7_000 - 50
    assert noted(window, refusal(9_000, 1.0)) != [], "the next second has its own"


def test_sources_beyond_the_table_share_one_record_that_names_none_of_them() -> None:
    window = RefusalWindow(1, 1)
    many = refusals.HELD_MAX + 5
    noted(window, *(refusal(n, source=f"s{n}") for n in range(many + 1)))
    rest = window.due(NOON, all_of_them=True)
    assert len(rest) == refusals.HELD_MAX + 1
    assert [cdr.refused_count for cdr in rest if cdr.leg_a.remote_address == refusals.OTHER_SOURCES] == [5]
