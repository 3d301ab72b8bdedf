"""Transfers: refused unless a setting says otherwise, and then in the names of the leg they go to."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import quote

import pytest

from sidecar.core.commands import RelayAnswer
from sidecar.core.events import AckReceived, AnswerHeld, InviteReceived
from tests.b2bua.rig import ANSWER, Dialog, Rig
from tests.b2bua.scripted_ua import ScriptedUA, parameter

TARGET = "Refer-To: <sip:4930999@192.0.2.7>"


def rig(**settings: Any) -> Rig:
    return Rig(refer="pass", **settings)


def tag(value: str) -> str:
    return parameter(value, "tag")


def replaces(dialog: Dialog) -> str:
    """As whoever has this dialog names it to the other end (RFC 3891 §6.1)."""
    return f"{dialog.call_id};to-tag={tag(dialog.remote)};from-tag={tag(dialog.local)}"


def sides(rig: Rig, a: Dialog, b: Dialog, who: str) -> tuple[ScriptedUA, Dialog, ScriptedUA, Dialog]:
    here, there = (rig.caller, a), (rig.gateway, b)
    return (*here, *there) if who == "caller" else (*there, *here)


async def second_call(rig: Rig) -> tuple[Dialog, Dialog]:
    """Another call of the caller, to the same gateway."""
    sent = rig.invite(number="4930555", tag="from-a2")
    await rig.caller.expect(100)
    invite = await rig.until(InviteReceived)
    rig.send(rig.route(invite))
    at_b = await rig.gateway.expect("INVITE")
    rig.gateway.reply(at_b, 200, tag="to-c", body=ANSWER)
    await rig.until(AnswerHeld)
    rig.send(RelayAnswer(bridge_id=invite.bridge_id))
    a = Dialog.of_caller(sent, await rig.caller.expect(200))
    rig.in_dialog(rig.caller, "ACK", a, cseq=1)
    await rig.gateway.expect("ACK")
    await rig.until(AckReceived)
    return a, Dialog.of_callee(at_b, "to-c")


# --- REFER --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("who", ["caller", "callee"])
async def test_a_refer_passes_and_its_notifications_name_it_to_its_sender(who: str) -> None:
    async with rig() as up:
        _, a, b = await up.answered_call()
        near, dialog, far, other = sides(up, a, b, who)
        for number in (31, 47):
            up.in_dialog(
                near, "REFER", dialog, TARGET, near.contact(), "Referred-By: <sip:x@192.0.2.1>", cseq=number
            )
            passed = await far.expect("REFER")
            assert passed["Refer-To"] == TARGET.partition(": ")[2]
            assert passed["Referred-By"] == "<sip:x@192.0.2.1>"
            assert up.host in passed["Contact"]
            far.reply(passed, 202)
            await near.expect(202)
            for name in ("o", "Event"):
                up.in_dialog(
                    far, "NOTIFY", other, f"{name}: refer;id={passed.cseq}", cseq=number * 2 + len(name)
                )
                told = await near.expect("NOTIFY")
                assert told["Event"] == f"refer;id={number}"
                near.reply(told, 200)
                await far.expect(200)
            up.in_dialog(
                near, "SUBSCRIBE", dialog, f"Event: refer;id={number}", "Expires: 0", cseq=number + 1
            )
            asked = await far.expect("SUBSCRIBE")
            assert asked["Event"] == f"refer;id={passed.cseq}"
            far.reply(asked, 200)
            await near.expect(200)


async def test_of_more_referrals_than_are_kept_the_oldest_is_forgotten() -> None:
    async with rig() as up:
        _, a, b = await up.answered_call()
        passed = []
        for number in range(17):
            up.in_dialog(up.caller, "REFER", a, TARGET, up.caller.contact(), cseq=10 + number)
            passed.append(await up.gateway.expect("REFER"))
            up.gateway.reply(passed[-1], 202)
            await up.caller.expect(202)
        for cseq, number in enumerate((1, 15, 16, 0), start=1):
            up.in_dialog(up.gateway, "NOTIFY", b, f"Event: refer;id={passed[number].cseq}", cseq=cseq)
            if number == 0:
                await up.gateway.expect(481)
                break
            told = await up.caller.expect("NOTIFY")
            assert told["Event"] == f"refer;id={10 + number}"
            up.caller.reply(told, 200)
            await up.gateway.expect(200)


async def test_a_notification_without_an_id_or_of_something_else_passes_as_it_is() -> None:
    async with rig() as up:
        _, _, b = await up.answered_call()
        for number, event in enumerate(("refer", "dialog;id=5", "presence"), start=1):
            up.in_dialog(up.gateway, "NOTIFY", b, f"Event: {event}", cseq=number)
            told = await up.caller.expect("NOTIFY")
            assert told.all("Event") == [event]
            up.caller.reply(told, 200)
            await up.gateway.expect(200)


@pytest.mark.parametrize("event", ["refer;id=5", "refer ; ID = 5", "refer;id=x", "refer;id=99999999999"])
async def test_a_notification_of_no_refer_of_ours_has_no_subscription(event: str) -> None:
    async with rig() as up:
        _, _, b = await up.answered_call()
        up.in_dialog(up.gateway, "NOTIFY", b, f"Event: {event}", cseq=1)
        await up.gateway.expect(481)
        assert up.caller.quiet


async def test_an_attended_transfer_names_the_dialog_of_the_party_it_reaches() -> None:
    async with rig() as up:
        _, a, _ = await up.answered_call()
        second, c = await second_call(up)
        assert second.target.startswith("sip:4930555@")  # whom a transfer to this address is to reach
        named = quote(replaces(second) + ";early-only", safe="")
        target = f'"C? <c>" <{second.target}?X-A=1&%52eplaces={named}&Require=replaces>;x=y'
        up.in_dialog(up.caller, "REFER", a, f"r: {target}", up.caller.contact(), cseq=5)
        passed = await up.gateway.expect("REFER")
        [given] = passed.all("Refer-To")
        found = re.fullmatch(rf'"C\? <c>" <{second.target}\?X-A=1&Replaces=(.+)&Require=replaces>;x=y', given)
        assert found is not None, given
        # As C has it: C is the one addressed.
        theirs = f"{c.call_id};to-tag={tag(c.local)};from-tag={tag(c.remote)};early-only"
        assert found[1] == quote(theirs, safe="-_.!~*")
        assert second.call_id not in str(passed.headers)
        assert "from-a2" not in str(passed.headers)


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        (("Refer-To: <sip:1@192.0.2.7?Replaces=none%3Bto-tag%3D1%3Bfrom-tag%3D2>",), 481),
        (("Refer-To: <sip:1@192.0.2.7?join=none%3Bto-tag%3D1%3Bfrom-tag%3D2>",), 481),
        (("Refer-To: <sip:1@192.0.2.7?Replaces=%>",), 481),
        (("Refer-To: <sip:1@192.0.2.7>, <sip:2@192.0.2.7?Replaces=a>",), 481),
        (('Refer-To: "never closed',), 481),
        (("Refer-To: <sip:1@192.0.2.7",), 481),
        ((TARGET, "Target-Dialog: none;local-tag=1;remote-tag=2"), 481),
        ((TARGET, "Replaces: none;to-tag=1;from-tag=2"), 400),
        ((TARGET, "Join: none;to-tag=1;from-tag=2"), 400),
        ((TARGET, "r: <sip:2@192.0.2.7>"), 400),
        ((), 400),
    ],
)
async def test_a_refer_that_names_what_nobody_knows_goes_no_further(
    headers: tuple[str, ...], code: int
) -> None:
    async with rig() as up:
        _, a, _ = await up.answered_call()
        up.in_dialog(up.caller, "REFER", a, *headers, up.caller.contact(), cseq=5)
        await up.caller.expect(code)
        assert up.gateway.quiet
        assert up.hook.stats()["refused_replaces"] == 1


async def test_a_target_dialog_is_named_as_the_other_side_knows_it() -> None:
    async with rig() as up:
        _, a, b = await up.answered_call()
        ours = f"{a.call_id};local-tag={tag(a.local)};remote-tag={tag(a.remote)}"
        up.in_dialog(up.caller, "REFER", a, TARGET, f"Target-Dialog: {ours}", cseq=5)
        passed = await up.gateway.expect("REFER")
        assert passed["Target-Dialog"] == f"{b.call_id};remote-tag={tag(b.local)};local-tag={tag(b.remote)}"


@pytest.mark.parametrize("method", ["REFER", "NOTIFY"])
async def test_without_the_setting_nothing_of_it_passes(method: str) -> None:
    async with Rig() as up:
        _, a, _ = await up.answered_call()
        assert a.target == f"sip:{up.address()[0]}:{up.address()[1]}"
        up.in_dialog(up.caller, method, a, TARGET, "Event: refer;id=4", cseq=5)
        await up.caller.expect(603 if method == "REFER" else 481)
        assert up.gateway.quiet


# --- INVITE with Replaces or Join ---------------------------------------------------------------------------


async def claiming(up: Rig, *headers: str, number: str = "4930555") -> InviteReceived:
    """The gateway's INVITE, which the bridge takes."""
    up.gateway.peer = up.address()
    up.invite(*headers, number=number, tag="from-b", agent=up.gateway)
    await up.gateway.expect(100)
    return await up.until(InviteReceived)


@pytest.mark.parametrize("header", ["Replaces", "Join"])
@pytest.mark.parametrize("names", ["as we are addressed", "as C is addressed"])
async def test_a_claim_on_a_dialog_of_ours_is_a_call_of_its_own(header: str, names: str) -> None:
    async with rig() as up:
        await up.answered_call()
        second, c = await second_call(up)
        theirs = f"{c.call_id};to-tag={tag(c.local)};from-tag={tag(c.remote)}"
        said = replaces(second) if names == "as we are addressed" else theirs
        invite = await claiming(up, f"{header}: {said}", "Require: replaces")
        assert (invite.request_user, invite.claimed_peer, invite.peer) == ("4930555", "gateways", "gateways")
        up.send(up.route(invite))
        at_c = await up.gateway.expect("INVITE")
        assert at_c[header] == theirs
        assert at_c["Require"] == "replaces"
        assert up.hook.stats()["live_calls"] == 3


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        (("Replaces: none;to-tag=1;from-tag=2",), 481),
        (("Join: none;to-tag=1;from-tag=2",), 481),
        (("Replaces: {ours}", "Join: {ours}"), 400),
        (("Replaces: {ours}", "Replaces: {ours}"), 400),
        (("Replaces: {half}",), 481),
    ],
)
async def test_a_claim_on_anything_else_is_no_call(headers: tuple[str, ...], code: int) -> None:
    async with rig() as up:
        _, a, _ = await up.answered_call()
        said = {"ours": replaces(a), "half": f"{a.call_id};to-tag={tag(a.remote)};from-tag=guess"}
        up.gateway.peer = up.address()
        up.invite(*(header.format(**said) for header in headers), agent=up.gateway)
        await up.gateway.expect(code)
        assert up.hook.stats()["live_calls"] == 1


async def test_a_claim_on_a_call_that_has_ended_is_no_call() -> None:
    async with rig() as up:
        _, a, _ = await up.answered_call()
        up.in_dialog(up.caller, "BYE", a, cseq=2)
        await up.caller.expect(200)
        up.gateway.reply(await up.gateway.expect("BYE"), 200)
        await up.idle()
        up.gateway.peer = up.address()
        up.invite(f"Replaces: {replaces(a)}", agent=up.gateway)
        await up.gateway.expect(481)


async def test_without_the_setting_no_dialog_can_be_claimed() -> None:
    async with Rig() as up:
        _, a, _ = await up.answered_call()
        up.gateway.peer = up.address()
        up.invite(f"Replaces: {replaces(a)}", agent=up.gateway)
        await up.gateway.expect(481)


async def test_a_claim_is_not_said_again_to_a_peer_that_is_in_no_group() -> None:
    async with rig() as up:
        unlisted = await up.agent(9)
        sent = up.invite()
        await up.caller.expect(100)
        invite = await up.event(InviteReceived)
        up.send(up.route(invite, host=unlisted.host, port=unlisted.port))
        unlisted.reply(await unlisted.expect("INVITE"), 200, tag="to-b", body=ANSWER)
        await up.event(AnswerHeld)
        up.send(RelayAnswer(bridge_id=invite.bridge_id))
        a = Dialog.of_caller(sent, await up.caller.expect(200))
        up.in_dialog(up.caller, "ACK", a, cseq=1)
        await up.until(AckReceived)
        up.gateway.peer = up.address()
        up.invite(f"Replaces: {replaces(a)}", agent=up.gateway)
        await up.gateway.expect(481)


# --- early dialogs of a fork --------------------------------------------------------------------------------


async def forked(up: Rig) -> tuple[dict[str, Dialog], dict[str, Dialog]]:
    """A call that rings at two user agents: as the caller has their dialogs, and as they do."""
    sent = up.invite(number="4930666", tag="from-a3")
    await up.caller.expect(100)
    invite = await up.until(InviteReceived)
    up.send(up.route(invite))
    at_b = await up.gateway.expect("INVITE")
    here, there = {}, {}
    for tag_of_b in ("one", "two"):
        up.gateway.reply(at_b, 180, tag=tag_of_b)
        here[tag_of_b] = Dialog.of_caller(sent, await up.caller.expect(180))
        there[tag_of_b] = Dialog.of_callee(at_b, tag_of_b)
    return here, there


@pytest.mark.parametrize("which", ["one", "two"])
@pytest.mark.parametrize("header", ["Replaces", "Join"])
@pytest.mark.parametrize("names", ["as we are addressed", "as C is addressed"])
async def test_a_claim_on_an_early_dialog_names_that_one(which: str, header: str, names: str) -> None:
    async with rig() as up:
        here, there = await forked(up)
        c = there[which]
        theirs = f"{c.call_id};to-tag={tag(c.local)};from-tag={tag(c.remote)}"
        said = replaces(here[which]) if names == "as we are addressed" else theirs
        invite = await claiming(up, f"{header}: {said};early-only")
        up.send(up.route(invite))
        assert (await up.gateway.expect("INVITE"))[header] == f"{theirs};early-only"


@pytest.mark.parametrize("which", ["one", "two"])
async def test_a_refer_names_an_early_dialog_as_its_callee_knows_it(which: str) -> None:
    async with rig() as up:
        _, a, _ = await up.answered_call()
        here, there = await forked(up)
        c, mine = there[which], here[which]
        named = quote(replaces(mine), safe="")
        target = f"Target-Dialog: {mine.call_id};local-tag={tag(mine.local)};remote-tag={tag(mine.remote)}"
        up.in_dialog(up.caller, "REFER", a, f"Refer-To: <sip:c@192.0.2.7?Replaces={named}>", target, cseq=5)
        passed = await up.gateway.expect("REFER")
        theirs = quote(f"{c.call_id};to-tag={tag(c.local)};from-tag={tag(c.remote)}", safe="")
        assert passed["Refer-To"].lower() == f"<sip:c@192.0.2.7?Replaces={theirs}>".lower()
        assert passed["Target-Dialog"] == f"{c.call_id};remote-tag={tag(c.local)};local-tag={tag(c.remote)}"


async def test_tags_of_two_early_dialogs_name_none() -> None:
    async with rig() as up:
        here, there = await forked(up)
        mixed = f"{here['one'].call_id};to-tag={tag(here['one'].remote)};from-tag={tag(there['two'].local)}"
        up.gateway.peer = up.address()
        up.invite(f"Replaces: {mixed}", agent=up.gateway)
        await up.gateway.expect(481)
