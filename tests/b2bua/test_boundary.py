"""The border between the bridge and the core: one declaration, whatever bytes a peer sends."""

from __future__ import annotations

import subprocess
import sys

import msgspec
import pytest

from sidecar.b2bua import _bridge
from sidecar.b2bua.boundary import Declarations, events_of, mismatches
from sidecar.core.commands import RelayFailure
from sidecar.core.events import (
    AckReceived,
    ByeReceived,
    CancelReceived,
    InviteReceived,
    LegTerminated,
    ProvisionalReceived,
    RequestEnded,
    RouteFailed,
)
from sidecar.core.terms import LegName, RouteFailure
from tests.b2bua.rig import Rig
from tests.b2bua.scripted_ua import sip

GROUPS: dict[str, Declarations] = {
    "EVENTS": _bridge.EVENTS,
    "VALUES": _bridge.VALUES,
    "COMMANDS": _bridge.COMMANDS,
}
BYE = ByeReceived(mono_ns=1, wall_ns=2, bridge_id=7, leg_name=LegName.B, reasons=("SIP;cause=200",))
ACK = AckReceived(mono_ns=3, wall_ns=4, bridge_id=8)


def with_fields(group: str, name: str, fields: object) -> dict[str, Declarations]:
    return {**GROUPS, group: {**GROUPS[group], name: fields}}  # type: ignore[dict-item]


def test_both_sides_declare_the_same() -> None:
    assert mismatches(GROUPS, _bridge.WORDS) == []


@pytest.mark.parametrize("group", GROUPS)
def test_a_field_that_one_side_does_not_have_is_a_mismatch(group: str) -> None:
    for name, fields in GROUPS[group].items():
        said = mismatches(with_fields(group, name, (*fields, ("surplus", "int"))), _bridge.WORDS)
        assert [line.partition(":")[0] for line in said] == [name]
        assert "surplus: int" in said[0]
        if fields:
            assert len(mismatches(with_fields(group, name, fields[:-1]), _bridge.WORDS)) == 1


@pytest.mark.parametrize("group", GROUPS)
def test_order_type_and_name_of_each_field_count(group: str) -> None:
    for name, fields in GROUPS[group].items():
        for at, (field, kind) in enumerate(fields):
            for other in ((field, kind + " | None"), (field + "_", kind)):
                changed = [*fields[:at], other, *fields[at + 1 :]]
                assert len(mismatches(with_fields(group, name, changed), _bridge.WORDS)) == 1
        if len(fields) > 1:
            assert len(mismatches(with_fields(group, name, [*fields[1:], fields[0]]), _bridge.WORDS)) == 1


def test_a_struct_that_one_side_does_not_have_is_a_mismatch() -> None:
    (line,) = mismatches(with_fields("EVENTS", "CallRang", ()), _bridge.WORDS)
    assert line == "CallRang: core has none, native ()"
    fewer = {**GROUPS, "EVENTS": {k: v for k, v in _bridge.EVENTS.items() if k != "Life"}}
    assert mismatches(fewer, _bridge.WORDS) == ["Life: core (leg_name: LegName), native has none"]


@pytest.mark.parametrize("name", _bridge.WORDS)
def test_the_words_of_a_closed_set_and_their_order_count(name: str) -> None:
    words = _bridge.WORDS[name]
    for changed in (words[::-1], words[:-1], (*words, "surplus")):
        (line,) = mismatches(GROUPS, {**_bridge.WORDS, name: changed})
        assert line.startswith(f"{name}: ")


def test_a_mismatch_is_refused_at_import_with_both_sides_in_the_message() -> None:
    code = (
        "from sidecar.b2bua import _bridge\n"
        "_bridge.EVENTS = {**_bridge.EVENTS, 'Life': (('leg_name', 'LegName'), ('weight', 'int'))}\n"
        "import sidecar.b2bua.hook\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], check=False, capture_output=True, text=True, timeout=60
    )
    assert run.returncode == 1
    assert "the native module and the core differ; run `make setup`" in run.stderr
    assert "Life: core (leg_name: LegName), native (leg_name: LegName, weight: int)" in run.stderr


def packed(*events: object) -> bytes:
    return msgspec.msgpack.encode(events)


def test_what_cannot_be_read_is_told_and_costs_no_other_event() -> None:
    broken_bye = ["ByeReceived", 5, 6, 9, "c", [], []]
    not_utf8 = msgspec.Raw(
        msgspec.msgpack.encode(["ByeReceived", 5, 6, 10, "a", ["????"], []]).replace(
            b"????", b"\xff\xfe\xfd\xfc"
        )
    )
    unknown = ["CallRang", 5, 6, 11]
    of_node = ["RequestEnded", 5, 6, 12, "no_such_cause", 0, 0, None, None, None]
    invite = ["InviteReceived", {"mono_ns": 5, "wall_ns": 6, "bridge_id": 13}]
    events, unreadable = events_of(packed(BYE, broken_bye, not_utf8, unknown, of_node, invite, 5, ACK))
    assert events == [BYE, ACK]
    assert unreadable == [9, 10, None, None, 13, None]


def test_absent_seconds_are_none() -> None:
    ended = RequestEnded(mono_ns=1, wall_ns=2, request_id=3, cause=RouteFailure.NO_RESPONSE)
    assert events_of(packed(ended)) == ([ended], [])


# Characters of one to four bytes, and what is none: Python's own decoder says what is to become of each.
BYTES = [
    bytes.fromhex(digits)
    for digits in [
        "41",
        "c3a9",
        "e282ac",
        "f09f939e",
        "f48fbfbf",
        "ed9fbf",
        "ee8080",
        "80",
        "bf",
        "c0af",
        "c1bf",
        "c2",
        "c241",
        "e080af",
        "e09fbf",
        "e0a0",
        "eda080",
        "edbfbf",
        "e282",
        "e28241",
        "f08080af",
        "f08fbfbf",
        "f09080",
        "f4908080",
        "f5808080",
        "fe",
        "ff",
        "e228a1",
        "f09f93",
        "61ff62c3a963e282",
    ]
]


@pytest.mark.parametrize("first", range(0, len(BYTES), 15))
async def test_bytes_that_are_no_utf_8_arrive_with_backslashes(first: int) -> None:
    raw = [b"<" + value + b">" for value in BYTES[first : first + 15]]
    async with Rig(wanted_headers=("x-bytes",)) as rig:
        _, a, _ = await rig.answered_call()
        bye = sip(
            f"BYE {a.target} SIP/2.0",
            rig.caller.via_line("z9hG4bK-bytes"),
            f"From: {a.local}",
            f"To: {a.remote}",
            f"Call-ID: {a.call_id}",
            "CSeq: 2 BYE",
            *["X-Bytes: ?"] * len(raw),
        )
        for value in raw:
            bye = bye.replace(b"?", value, 1)
        rig.caller.send(bye)
        event = await rig.event(ByeReceived)
        said = [value for _, value in event.headers]
        assert said == [value.decode("utf-8", "backslashreplace") for value in raw]


async def test_a_text_that_is_cut_within_a_character_is_still_text() -> None:
    async with Rig(wanted_headers=("x-long",)) as rig:
        rig.invite("X-Long: " + "a" * 511 + "\u00e9")
        await rig.caller.expect(100)
        assert (await rig.event(InviteReceived)).headers == (("x-long", "a" * 511 + "\\xc3"),)


async def test_what_nobody_waits_for_comes_with_the_next_that_somebody_does() -> None:
    async with Rig(patience_ms=3_600_000) as rig:
        sent, invite, at_b = await rig.routed_call()
        rig.gateway.reply(at_b, 180, tag="to-b")
        await rig.caller.expect(180)
        await rig.settled(rig.caller)
        assert rig.events == [invite]
        rig.gateway.reply(at_b, 486, tag="to-b")
        assert isinstance(await rig.event(ProvisionalReceived), ProvisionalReceived)
        assert (await rig.event(RouteFailed)).sip_code == 486
        rig.send(RelayFailure(bridge_id=invite.bridge_id))
        rig.ack_failure(sent, await rig.caller.expect(486))


async def test_what_nobody_waits_for_comes_by_itself_in_the_end() -> None:
    async with Rig(patience_ms=20) as rig:
        invite = rig.invite()
        await rig.event(InviteReceived)
        rig.cancel(invite)
        assert isinstance(await rig.event(CancelReceived), CancelReceived)
        assert isinstance(await rig.event(LegTerminated), LegTerminated)
