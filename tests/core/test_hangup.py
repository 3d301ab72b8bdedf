from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.hangup import (
    CALLEE,
    CALLER,
    SERVER,
    TABLE,
    BillableUntil,
    Hangup,
    disposition,
    hangup,
    q850_of_reasons,
    q850_of_sip,
    ring_timeout_cause,
)
from sidecar.core.terms import Detail, Disposition, Evidence, HangupOrigin, ServerReason

# The table as it was decided, written down a second time on purpose.
DECIDED = """
caller -        bye                 200 16  end
callee -        bye                 200 16  end
caller -        cancel              487 16  never
callee -        rejected            0   0   never
server timeout  ring_timeout        408 19  never
server timeout  max_duration        408 16  end
server timeout  no_ack              408 102 a_life
server timeout  dead_peer           408 102 last_life
server timeout  session_timer       408 102 last_refresh
server credit   grant_used_up       402 16  grant
server credit   no_credit           402 21  never
server policy   source_not_allowed  403 21  end
server policy   number_blocked      403 21  end
server policy   destination_blocked 403 21  end
server policy   account_disabled    403 21  end
server policy   account_disabled    403 21  end
server policy   no_rate             403 21  end
server policy   rule                403 21  end
server admin    operator            480 31  end
server admin    drain               480 31  end
server resource node_full           503 42  never
server resource peer_limit          480 34  never
server resource account_limit       480 34  never
server resource gateway_limit       500 34  never
server resource no_route            500 3   never
server resource gateway_unreachable 500 38  never
server resource ledger_unreachable  503 42  end
server fault    transport_lost      500 38  last_life
server fault    journal             500 41  last_life
server fault    internal_error      500 41  last_life
server fault    crash_recovered     500 41  recovered
"""


def test_the_table_is_the_one_that_was_decided() -> None:
    decided = {}
    for line in DECIDED.strip().splitlines():
        origin, reason, detail, sip_code, q850_cause, until = line.split()
        decided[HangupOrigin(origin), Detail(detail)] = (
            None if reason == "-" else ServerReason(reason),
            int(sip_code),
            int(q850_cause),
            BillableUntil(until),
        )
    assert {
        key: (row.reason, row.sip_code, row.q850_cause, row.until) for key, row in TABLE.items()
    } == decided


def test_every_detail_has_its_row_under_its_own_origin() -> None:
    assert {detail for _, detail in TABLE} == set(Detail)
    assert all(row.origin is origin for (origin, _), row in TABLE.items())


def test_the_reason_is_present_if_and_only_if_the_server_ended_the_call() -> None:
    assert all((row.origin is SERVER) == (row.reason is not None) for row in TABLE.values())


def test_an_unknown_cause_cannot_be_built() -> None:
    with pytest.raises(ValueError, match="no such cause"):
        Hangup(origin=CALLER, detail=Detail.OPERATOR, sip_code=480, q850_cause=31, evidence=Evidence.MESSAGE)
    with pytest.raises(KeyError):
        hangup(CALLEE, Detail.MAX_DURATION, Evidence.TIMER)


def test_received_codes_beat_the_table() -> None:
    cause = hangup(CALLER, Detail.BYE, Evidence.MESSAGE, q850_cause=31)
    assert (cause.sip_code, cause.q850_cause) == (200, 31)
    told = hangup(CALLEE, Detail.BYE, Evidence.MESSAGE, sip_code=480)
    assert (told.sip_code, told.q850_cause) == (480, 16)


@pytest.mark.parametrize(
    ("heard_code", "cause"), [(180, 19), (183, 18), (181, 18), (182, 18), (199, 18), (100, 18), (0, 102)]
)
def test_only_180_says_that_the_callee_was_alerted(heard_code: int, cause: int) -> None:
    assert ring_timeout_cause(heard_code) == cause


# RFC 3398 §8.2.6.1, row by row, and later codes by our choice.
RFC_3398 = """
433 24   580 47   607 21   608 21
400 41   401 21   402 21   403 21   404 1    405 63   406 79   407 21   408 102  410 22
413 127  414 127  415 79   416 127  420 127  421 127  423 127  480 18   481 41   482 25
483 25   484 28   485 1    486 17   487 16   488 31   500 41   501 79   502 38   503 41   504 102
505 127  513 127  600 17   603 21   604 1    606 31
"""


@pytest.mark.parametrize(
    ("sip_code", "cause"), list(zip(*[iter(map(int, RFC_3398.split()))] * 2, strict=True))
)
def test_final_responses_are_mapped_as_rfc_3398_says(sip_code: int, cause: int) -> None:
    assert q850_of_sip(sip_code, {}) == cause
    assert q850_of_sip(sip_code, {sip_code: 99}) == 99


@pytest.mark.parametrize(("sip_code", "cause"), [(302, 23), (499, 41), (599, 41), (699, 17), (700, 127)])
def test_an_unknown_response_is_mapped_by_its_class(sip_code: int, cause: int) -> None:
    assert q850_of_sip(sip_code, {}) == cause


@pytest.mark.parametrize(
    ("fields", "cause"),
    [
        (["Q.850;cause=16"], 16),
        (['q.850 ; text="x" ; Cause = 31 '], 31),
        (['SIP;cause=200;text="elsewhere"', "Q.850;cause=26"], 26),
        (["SIP;cause=200, Q.850;cause=26"], 26),
        (['SIP;text="a, Q.850;cause=1"'], None),
        (['Q.850;text="a;cause=1";cause=2'], 2),
        (['Q.850;text="say \\"hi\\";cause=1";cause=2'], 2),
        (["Q.850;cause=1"], 1),
        (["Q.850;cause=127"], 127),
        (["Q.850;cause=16", "Q.850;cause=17"], 16),
        (["Q.850;cause=16, Q.850;cause=17"], 16),
        (["Q.850;cause=16;cause=17"], 16),
        (["Q.850;cause=0", "Q.850;cause=17"], 17),
        (["Q.850;cause=0"], None),
        (["Q.850;cause=128"], None),
        (["Q.850;cause=0016"], None),
        (["Q.850;cause=١٦"], None),
        (["Q.850;cause=1x"], None),
        (["Q.850"], None),
        (["Q.8501;cause=16"], None),
        (["SIP;cause=486"], None),
        (["", ";;", ",,,", '"'], None),
        ([], None),
    ],
)
def test_the_cause_of_reason_header_fields(fields: list[str], cause: int | None) -> None:
    assert q850_of_reasons(fields) == cause


@given(st.lists(st.text(alphabet='Q.850;cause=16,"\\ x', max_size=60)))
def test_no_reason_from_the_network_raises(fields: list[str]) -> None:
    cause = q850_of_reasons(fields)
    assert cause is None or 1 <= cause <= 127


def test_a_long_hostile_reason_is_read_at_once() -> None:
    assert q850_of_reasons(["Q.850" + ';"' * 20_000, "," * 40_000, '\\"' * 20_000]) is None


@pytest.mark.parametrize(
    ("origin", "detail", "expected"),
    [
        (CALLER, Detail.CANCEL, Disposition.CANCELLED),
        (CALLER, Detail.BYE, Disposition.CANCELLED),
        (CALLEE, Detail.REJECTED, Disposition.REJECTED),
        (CALLEE, Detail.BYE, Disposition.REJECTED),
        (SERVER, Detail.RING_TIMEOUT, Disposition.NO_ANSWER),
        (SERVER, Detail.GATEWAY_UNREACHABLE, Disposition.FAILED),
        (SERVER, Detail.LEDGER_UNREACHABLE, Disposition.FAILED),
        (SERVER, Detail.JOURNAL, Disposition.FAILED),
        (SERVER, Detail.OPERATOR, Disposition.FAILED),
    ],
)
def test_what_became_of_an_unanswered_call(origin: Any, detail: Detail, expected: Disposition) -> None:
    cause = hangup(origin, detail, Evidence.MESSAGE, sip_code=486)
    assert disposition(cause, answered=False) is expected
    assert disposition(cause, answered=True) is Disposition.ANSWERED


def test_a_refused_invite_is_refused_whatever_the_cause() -> None:
    for origin, detail in TABLE:
        cause = hangup(origin, detail, Evidence.MESSAGE, refused=True)
        assert disposition(cause, answered=False) is Disposition.REFUSED
