"""A fork behind the gateway: each user agent there is a dialog of its own, on leg B and for the caller."""

from __future__ import annotations

from typing import Any

import pytest

from sidecar.core.commands import RelayAnswer, RelayFailure
from sidecar.core.events import (
    AnswerDropped,
    AnswerHeld,
    ByeReceived,
    Forked,
    InviteReceived,
    LegTerminated,
    RouteFailed,
    TargetRefreshed,
)
from sidecar.core.terms import LegName
from tests.b2bua.rig import ANSWER, OFFER, Dialog, Rig
from tests.b2bua.scripted_ua import Message, ScriptedUA, parameter

OTHER = ANSWER.replace(b"192.0.2.2", b"192.0.2.9")
RELIABLE = ("Require: 100rel", "RSeq: 5")


class Forking:
    """A call whose INVITE is at the gateway, and its user agents there."""

    def __init__(self, rig: Rig, sent: Message, invite: InviteReceived, at_b: Message) -> None:
        self.rig, self.sent, self.invite, self.at_b = rig, sent, invite, at_b

    @classmethod
    async def begun(cls, rig: Rig, *headers: str, **route: Any) -> Forking:
        sent = rig.invite("Supported: 100rel", *headers)
        await rig.caller.expect(100)
        invite = await rig.event(InviteReceived)
        rig.send(rig.route(invite, **route))
        return cls(rig, sent, invite, await rig.gateway.expect("INVITE"))

    async def early(self, code: int, tag: str, *headers: str, body: bytes = b"") -> tuple[Message, Dialog]:
        """A provisional of that user agent, as the caller hears it, and the dialog that it makes there."""
        self.rig.gateway.reply(self.at_b, code, *headers, tag=tag, body=body)
        heard = await self.rig.caller.expect(code)
        return heard, Dialog.of_caller(self.sent, heard)

    async def answered(self, tag: str, body: bytes = OTHER) -> tuple[AnswerHeld, Message, Dialog]:
        self.rig.gateway.reply(self.at_b, 200, tag=tag, body=body)
        held = await self.rig.until(AnswerHeld)
        self.rig.send(RelayAnswer(bridge_id=held.bridge_id))
        ok = await self.rig.caller.expect(200, "INVITE")
        assert to_tag(await self.rig.gateway.expect("ACK")) == tag
        a = Dialog.of_caller(self.sent, ok)
        self.rig.in_dialog(self.rig.caller, "ACK", a, cseq=1)
        return held, ok, a

    def there(self, tag: str) -> Dialog:
        return Dialog.of_callee(self.at_b, tag)


def to_tag(message: Message) -> str:
    return parameter(message["To"], "tag")


def from_tag(message: Message) -> str:
    return parameter(message["From"], "tag")


def sender(agent: ScriptedUA) -> str:
    return f"sip:{agent.host}:{agent.port}"


async def test_a_tone_server_and_the_phone_are_two_dialogs_to_the_caller() -> None:
    async with Rig() as rig:
        call = await Forking.begun(rig)
        assert "Request-Disposition" not in call.at_b
        tone, _ = await call.early(183, "tone", body=ANSWER)
        held, ok, a = await call.answered("phone")
        assert (tone.body, ok.body) == (ANSWER, OTHER)
        assert to_tag(tone) != to_tag(ok)
        assert (held.leg.remote_tag, held.caller and held.caller.local_tag) == ("phone", to_tag(ok))
        rig.in_dialog(rig.caller, "INFO", a, cseq=2)
        info = await rig.gateway.expect("INFO")
        assert to_tag(info) == "phone"
        rig.gateway.reply(info, 200)
        await rig.caller.expect(200, "INFO")
        rig.in_dialog(rig.gateway, "BYE", call.there("phone"), cseq=1)
        await rig.gateway.expect(200, "BYE")
        bye = await rig.caller.expect("BYE")
        assert from_tag(bye) == to_tag(ok)
        rig.caller.reply(bye, 200)
        await rig.idle()


async def test_the_journal_is_told_of_each_dialog_and_of_the_one_that_answered() -> None:
    async with Rig() as rig:
        call = await Forking.begun(rig)
        first, _ = await call.early(180, "one")
        rig.gateway.reply(call.at_b, 183, f"Record-Route: <{sender(rig.gateway)};lr>", tag="two", body=ANSWER)
        second = await rig.caller.expect(183)
        one, two = (await rig.until(Forked)).branches
        assert [(b.leg.remote_tag, b.caller.local_tag, b.sip_code) for b in (one, two)] == [
            ("one", to_tag(first), 180),
            ("two", to_tag(second), 183),
        ]
        assert one.caller.local_tag == call.invite.leg.local_tag
        assert (one.leg.route_set, two.leg.route_set) == ((), (f"<{sender(rig.gateway)};lr>",))
        assert one.leg.sip_call_id == two.leg.sip_call_id == call.at_b["Call-ID"]
        assert {b.caller.sip_call_id for b in (one, two)} == {call.sent["Call-ID"]}
        held, ok, _ = await call.answered("one")
        assert (held.leg.remote_tag, held.caller, to_tag(ok)) == ("one", None, to_tag(first))


async def test_a_dialog_alone_is_told_of_by_its_answer() -> None:
    async with Rig() as rig:
        call = await Forking.begun(rig)
        await call.early(180, "one")
        held, _, _ = await call.answered("one")
        assert held.caller is None
        assert not any(isinstance(event, Forked) for event in rig.events)


async def test_each_dialog_has_its_own_reliable_responses() -> None:
    async with Rig() as rig:
        call = await Forking.begun(rig)
        dialogs = {}
        for tag, body in (("one", ANSWER), ("two", OTHER)):
            heard, dialogs[tag] = await call.early(183, tag, *RELIABLE, body=body)
            assert (heard.body, heard["RSeq"], heard["Require"]) == (body, "5", "100rel")
        for tag in ("two", "one"):  # with one CSeq and one RSeq: they count apart
            rig.in_dialog(rig.caller, "PRACK", dialogs[tag], "RAck: 5 1 INVITE", cseq=2)
            prack = await rig.gateway.expect("PRACK")
            assert (to_tag(prack), prack["RAck"]) == (tag, f"5 {call.at_b.cseq} INVITE")
            rig.gateway.reply(prack, 200)
            assert to_tag(await rig.caller.expect(200, "PRACK")) == parameter(dialogs[tag].remote, "tag")
        await call.answered("two")


async def test_a_reliable_response_that_the_caller_leaves_alone_is_acknowledged_for_it() -> None:
    """Of another dialog than its first: without a PRACK that user agent may send no 2xx (RFC 3262 §3)."""
    async with Rig() as rig:
        call = await Forking.begun(rig)
        await call.early(180, "one")
        for _ in range(3):
            rig.gateway.reply(call.at_b, 183, *RELIABLE, tag="two", body=OTHER)
            await rig.settled(rig.gateway)
        rig.gateway.reply(call.at_b, 183, *RELIABLE, tag="two", body=OTHER)
        prack = await rig.gateway.expect("PRACK")
        assert (to_tag(prack), prack["RAck"]) == ("two", f"5 {call.at_b.cseq} INVITE")
        rig.gateway.reply(prack, 200)
        assert (await rig.caller.expect(183))["RSeq"] == "5"
        await call.answered("two")


async def test_each_dialog_has_its_own_numbers_and_targets() -> None:
    async with Rig() as rig:
        call = await Forking.begun(rig)
        _, one = await call.early(183, "one", body=ANSWER)
        _, two = await call.early(183, "two", body=OTHER)
        moved = await rig.agent(3)
        rig.in_dialog(rig.gateway, "UPDATE", call.there("one"), moved.contact(), cseq=900, body=ANSWER)
        update = await rig.caller.expect("UPDATE")
        assert f"tag={from_tag(update)}" in one.remote
        rig.caller.reply(update, 200, rig.caller.contact(), body=OFFER)
        await rig.gateway.expect(200, "UPDATE")
        refreshed = (await rig.until(Forked), await rig.until(Forked))[-1].branches
        assert [b.leg.remote_target for b in refreshed] == [sender(moved), sender(rig.gateway)]
        rig.in_dialog(
            rig.gateway, "INFO", call.there("two"), cseq=1
        )  # RFC 3261 §12.2.2: the first of its dialog
        info = await rig.caller.expect("INFO")
        assert f"tag={from_tag(info)}" in two.remote
        rig.caller.reply(info, 200)
        await rig.gateway.expect(200, "INFO")
        rig.in_dialog(rig.caller, "UPDATE", one, rig.caller.contact(), cseq=2)
        moved.reply(await moved.expect("UPDATE"), 200)
        await rig.caller.expect(200, "UPDATE")
        await call.answered("two")
        assert not any(isinstance(event, TargetRefreshed) for event in rig.events)


async def test_what_the_caller_moves_before_the_answer_is_told_with_it() -> None:
    async with Rig() as rig:
        call = await Forking.begun(rig)
        _, one = await call.early(183, "one", *RELIABLE, body=ANSWER)
        moved = await rig.agent(2)
        rig.in_dialog(rig.caller, "UPDATE", one, moved.contact(), cseq=2)
        rig.gateway.reply(await rig.gateway.expect("UPDATE"), 200, rig.gateway.contact())
        await rig.caller.expect(200, "UPDATE")
        held, _, _ = await call.answered("one")
        assert held.caller is not None
        assert held.caller.remote_target == sender(moved)


async def test_a_request_that_is_open_in_the_dialog_that_is_answered_gets_its_response() -> None:
    async with Rig() as rig:
        call = await Forking.begun(rig)
        opened = {}
        for tag in ("one", "two"):
            _, dialog = await call.early(183, tag, body=ANSWER)
            rig.in_dialog(rig.caller, "INFO", dialog, cseq=2)
            opened[tag] = (await rig.gateway.expect("INFO"), dialog)
        _, _, a = await call.answered("two")
        for tag, (info, dialog) in opened.items():
            rig.gateway.reply(info, 200, f"X-Of: {tag}")
            answer = await rig.caller.expect(200, "INFO")
            assert (answer["To"], answer["X-Of"]) == (dialog.remote, tag)
        rig.in_dialog(rig.caller, "INFO", a, cseq=3)
        after = await rig.gateway.expect("INFO")
        assert (to_tag(after), after.cseq) == ("two", opened["two"][0].cseq + 1)


async def test_dialogs_that_were_not_answered_are_over() -> None:
    async with Rig() as rig:
        call = await Forking.begun(rig)
        _, one = await call.early(183, "one", body=ANSWER)
        await call.early(183, "two", body=OTHER)
        await call.answered("two")
        rig.in_dialog(rig.caller, "INFO", one, cseq=2)
        await rig.caller.expect(481)
        rig.in_dialog(rig.caller, "BYE", one, cseq=3)
        await rig.caller.expect(200, "BYE")
        for method in ("INFO", "BYE"):
            rig.in_dialog(rig.gateway, method, call.there("one"), cseq=1)
            await rig.gateway.expect(481)
        await rig.settled(rig.gateway)
        assert rig.hook.stats()["live_calls"] == 1


@pytest.mark.parametrize("relayed", [True, False], ids=["after-it", "while-it-is-held"])
@pytest.mark.parametrize("rang", [True, False], ids=["of-one-that-rang", "of-a-new-one"])
async def test_the_first_answer_wins_and_another_is_hung_up_on(relayed: bool, rang: bool) -> None:
    async with Rig() as rig:
        call = await Forking.begun(rig)
        tags = {"two"}
        cseq = call.at_b.cseq
        if rang:
            _, other = await call.early(183, "other", *RELIABLE, body=OTHER)
            tags.add("other")
            rig.in_dialog(rig.caller, "PRACK", other, "RAck: 5 1 INVITE", cseq=2)
            prack = await rig.gateway.expect("PRACK")
            rig.gateway.reply(prack, 200)
            await rig.caller.expect(200, "PRACK")
            cseq = prack.cseq
        rig.gateway.reply(call.at_b, 200, tag="two", body=ANSWER)
        held = await rig.until(AnswerHeld)
        if relayed:
            rig.send(RelayAnswer(bridge_id=held.bridge_id))
            await rig.caller.expect(200, "INVITE")
            await rig.gateway.expect("ACK")
        rig.gateway.reply(call.at_b, 200, tag="other", body=OTHER)
        ack, bye = await rig.gateway.expect("ACK"), await rig.gateway.expect("BYE")
        assert (to_tag(ack), ack.cseq, to_tag(bye)) == ("other", call.at_b.cseq, "other")
        assert bye.cseq > cseq
        rig.gateway.reply(bye, 200)
        assert (await rig.until(AnswerDropped)).leg.remote_tag == "other"
        rig.gateway.reply(call.at_b, 200, tag="other", body=OTHER)  # it has not heard our ACK
        await rig.gateway.expect("ACK")
        assert rig.caller.quiet
        assert rig.hook.stats()["live_calls"] == 1


async def test_a_bye_of_a_branch_that_did_not_answer_ends_nothing() -> None:
    async with Rig() as rig:
        call = await Forking.begun(rig)
        await call.early(183, "one", body=ANSWER)
        rig.in_dialog(rig.gateway, "BYE", call.there("one"), cseq=1)
        await rig.gateway.expect(481)
        rig.gateway.reply(call.at_b, 200, tag="two", body=OTHER)
        held = await rig.until(AnswerHeld)
        rig.in_dialog(rig.gateway, "BYE", call.there("one"), cseq=2)
        await rig.gateway.expect(481)
        rig.send(RelayAnswer(bridge_id=held.bridge_id))
        await rig.caller.expect(200)
        assert not any(isinstance(event, ByeReceived) for event in rig.events)


async def test_a_caller_may_leave_one_dialog_and_ring_on_in_the_others() -> None:
    async with Rig() as rig:
        call = await Forking.begun(rig)
        dialogs = [(tag, (await call.early(180, tag))[1]) for tag in ("one", "two", "three")]
        for tag, dialog in dialogs[:2]:  # RFC 3261 §15
            rig.in_dialog(rig.caller, "BYE", dialog, cseq=2)
            await rig.caller.expect(200, "BYE")
            bye = await rig.gateway.expect("BYE")
            assert to_tag(bye) == tag
            rig.gateway.reply(bye, 200)
        rig.in_dialog(rig.caller, "BYE", dialogs[2][1], cseq=2)  # the last
        await rig.caller.expect(200, "BYE")
        assert (await rig.until(ByeReceived)).leg_name is LegName.A
        await rig.caller.expect(487)
        rig.gateway.reply(await rig.gateway.expect("CANCEL"), 200)
        rig.gateway.reply(call.at_b, 487, tag="three")
        await rig.gateway.expect("ACK")
        await rig.idle()


async def test_a_caller_that_has_left_all_dialogs_but_the_held_one_ends_the_call() -> None:
    async with Rig() as rig:
        call = await Forking.begun(rig)
        _, one = await call.early(180, "one")
        _, two = await call.early(180, "two")
        rig.gateway.reply(call.at_b, 200, tag="two", body=ANSWER)
        await rig.until(AnswerHeld)
        rig.in_dialog(rig.caller, "BYE", one, cseq=2)
        await rig.caller.expect(200, "BYE")
        assert to_tag(await rig.gateway.expect("BYE")) == "one"
        rig.in_dialog(rig.caller, "BYE", two, cseq=2)
        await rig.caller.expect(200, "BYE")
        await rig.caller.expect(487)
        assert to_tag(await rig.gateway.expect("ACK")) == "two"
        assert to_tag(await rig.gateway.expect("BYE")) == "two"


async def test_a_cancel_ends_all_dialogs() -> None:
    async with Rig() as rig:
        call = await Forking.begun(rig)
        _, one = await call.early(180, "one")
        await call.early(183, "two", body=ANSWER)
        rig.cancel(call.sent)
        await rig.caller.expect(200, "CANCEL")
        await rig.caller.expect(487)
        rig.gateway.reply(await rig.gateway.expect("CANCEL"), 200)
        rig.in_dialog(rig.caller, "BYE", one, cseq=2)  # it crossed
        await rig.caller.expect(200, "BYE")
        rig.gateway.reply(call.at_b, 200, tag="two", body=ANSWER)  # so did this
        assert to_tag(await rig.gateway.expect("ACK")) == "two"
        bye = await rig.gateway.expect("BYE")
        assert to_tag(bye) == "two"
        rig.gateway.reply(bye, 200)
        await rig.until(LegTerminated)
        await rig.idle()


@pytest.mark.parametrize("first", [True, False], ids=["before", "after"])
async def test_no_tag_is_a_tag_of_its_own(first: bool) -> None:
    async with Rig() as rig:
        call = await Forking.begun(rig)
        order = [("", ANSWER), ("one", b"")] if first else [("one", b""), ("", ANSWER)]
        heard = {tag: (await call.early(183, tag, body=body))[0] for tag, body in order}
        assert heard[""].body == ANSWER
        assert to_tag(heard[""]) != to_tag(heard["one"])
        again, _ = await call.early(181, "")
        assert to_tag(again) == to_tag(heard[""])
        _, ok, _ = await call.answered("one")
        assert to_tag(ok) == to_tag(heard["one"])


async def test_a_ringing_without_tag_is_of_whoever_names_itself_next() -> None:
    async with Rig() as rig:
        call = await Forking.begun(rig)
        ringing, _ = await call.early(180, "")
        _, ok, _ = await call.answered("one")
        assert to_tag(ringing) == to_tag(ok)


async def test_another_gateway_is_another_user_agent() -> None:
    async with Rig() as rig:
        call = await Forking.begun(rig)
        first, one = await call.early(180, "one")
        rig.gateway.reply(call.at_b, 503, tag="one")
        await rig.gateway.expect("ACK")
        await rig.until(RouteFailed)
        second = await rig.agent(4)
        rig.send(rig.route(call.invite, attempt=2, host=second.host, port=second.port))
        at_c = await second.expect("INVITE")
        second.reply(at_c, 183, tag="one", body=ANSWER)  # by chance the same
        heard = await rig.caller.expect(183)
        assert to_tag(heard) != to_tag(first)
        rig.in_dialog(rig.caller, "INFO", one, cseq=2)
        await rig.caller.expect(481)
        second.reply(at_c, 200, tag="one", body=ANSWER)
        held = await rig.until(AnswerHeld)
        rig.send(RelayAnswer(bridge_id=held.bridge_id))
        ok = await rig.caller.expect(200)
        assert to_tag(ok) == to_tag(heard)
        a = Dialog.of_caller(call.sent, ok)
        rig.in_dialog(rig.caller, "ACK", a, cseq=1)
        await second.expect("ACK")
        rig.in_dialog(rig.caller, "BYE", a, cseq=2)
        await rig.caller.expect(200, "BYE")
        second.reply(await second.expect("BYE"), 200)
        await rig.idle()


async def test_more_dialogs_than_anybody_has_are_heard_without_media() -> None:
    async with Rig() as rig:
        call = await Forking.begun(rig)
        tags = {to_tag((await call.early(183, f"t{n}", body=ANSWER))[0]) for n in range(9)}
        assert len(tags) == 9
        more, _ = await call.early(183, "t9", *RELIABLE, body=ANSWER)
        assert (more.body, "RSeq" in more) == (b"", False)
        held, ok, _ = await call.answered("t9")  # whoever answers is heard
        assert (held.leg.remote_tag, ok.body) == ("t9", OTHER)
        assert to_tag(ok) not in tags


async def test_a_failure_ends_all_dialogs() -> None:
    async with Rig() as rig:
        call = await Forking.begun(rig)
        await call.early(180, "one")
        _, two = await call.early(183, "two", body=ANSWER)
        rig.gateway.reply(call.at_b, 486, tag="two")
        await rig.gateway.expect("ACK")
        failed = await rig.until(RouteFailed)
        assert failed.early_media_relayed
        rig.in_dialog(rig.caller, "INFO", two, cseq=2)
        await rig.caller.expect(481)
        rig.send(RelayFailure(bridge_id=call.invite.bridge_id))
        rig.ack_failure(call.sent, await rig.caller.expect(486))
        await rig.idle()


@pytest.mark.parametrize("single", [True, False])
async def test_what_the_caller_says_of_forking_passes_unless_there_is_to_be_one_dialog(single: bool) -> None:
    async with Rig() as rig:
        call = await Forking.begun(rig, "Request-Disposition: parallel", single_branch=single)
        assert call.at_b.all("Request-Disposition") == ["no-fork" if single else "parallel"]


async def test_a_stranger_does_not_speak_in_an_early_dialog() -> None:
    async with Rig() as rig:
        call = await Forking.begun(rig)
        await call.early(180, "one")
        _, two = await call.early(183, "two", body=ANSWER)
        stranger = await rig.agent(9)
        for method in ("BYE", "INFO"):
            rig.in_dialog(stranger, method, two, cseq=2)
        await rig.counted("dropped_foreign", 2)
        assert stranger.quiet
        assert rig.gateway.quiet


async def test_who_is_named_in_one_dialog_speaks_in_that_one_alone() -> None:
    async with Rig() as rig:
        call = await Forking.begun(rig)
        _, one = await call.early(183, "one", body=ANSWER)
        phone = await rig.agent(8)  # in no peer group
        named = rig.gateway.response(call.at_b, 183, phone.contact(), tag="two")
        rig.gateway.send(named, call.at_b.source)
        two = Dialog.of_caller(call.sent, await rig.caller.expect(183))
        rig.in_dialog(phone, "INFO", call.there("one"), cseq=1)
        await rig.counted("dropped_foreign", 1)
        rig.in_dialog(phone, "INFO", call.there("two"), cseq=1)
        info = await rig.caller.expect("INFO")
        assert f"tag={from_tag(info)}" in two.remote
        assert f"tag={from_tag(info)}" not in one.remote
        rig.caller.reply(info, 200)
        await phone.expect(200, "INFO")


async def test_a_request_that_is_open_when_its_attempt_fails_has_no_dialog() -> None:
    async with Rig(answer_hold_ms_max=30_000) as rig:  # before anything is decided
        call = await Forking.begun(rig)
        _, one = await call.early(180, "one")
        rig.in_dialog(rig.caller, "UPDATE", one, rig.caller.contact(), cseq=2)
        await rig.gateway.expect("UPDATE")
        rig.gateway.reply(call.at_b, 503, tag="one")
        await rig.until(RouteFailed)
        await rig.caller.expect(481, "UPDATE")


async def test_a_request_that_is_open_when_its_dialog_is_answered_stays_in_it() -> None:
    async with Rig() as rig:
        call = await Forking.begun(rig)
        await call.early(180, "one")
        _, two = await call.early(180, "two")
        moved = await rig.agent(2)
        rig.in_dialog(rig.caller, "UPDATE", two, moved.contact(), cseq=2)
        update = await rig.gateway.expect("UPDATE")
        await call.answered("two")
        rig.gateway.reply(update, 200, rig.gateway.contact())
        await rig.caller.expect(200, "UPDATE")
        rig.in_dialog(rig.gateway, "BYE", call.there("two"), cseq=1)
        await moved.expect("BYE")


async def test_an_answer_that_crosses_the_cancel_is_hung_up_on_with_the_numbers_of_its_dialog() -> None:
    async with Rig() as rig:
        call = await Forking.begun(rig)
        await call.early(180, "one")
        _, two = await call.early(180, "two")
        used = []
        for cseq in range(2, 6):
            rig.in_dialog(rig.caller, "INFO", two, cseq=cseq)
            info = await rig.gateway.expect("INFO")
            rig.gateway.reply(info, 200)
            await rig.caller.expect(200, "INFO")
            used.append(info.cseq)
        rig.cancel(call.sent)
        await rig.gateway.expect("CANCEL")
        rig.gateway.reply(call.at_b, 200, tag="two", body=ANSWER)
        assert to_tag(await rig.gateway.expect("ACK")) == "two"
        bye = await rig.gateway.expect("BYE")
        assert to_tag(bye) == "two"
        assert bye.cseq > max(used)


async def test_a_callee_that_knows_no_tags_has_a_dialog_and_ends_it() -> None:
    """RFC 3261 §12.1.2: its tag is null, in its requests and in ours to it."""
    async with Rig() as rig:
        call = await Forking.begun(rig)
        await call.early(180, "")
        _, _, a = await call.answered("")
        b = Dialog.of_callee(call.at_b, "")
        b.local = call.at_b["To"]
        for method in ("INFO", "UPDATE"):
            rig.in_dialog(rig.gateway, method, b, rig.gateway.contact(), cseq=len(method))
            passed = await rig.caller.expect(method)
            rig.caller.reply(passed, 200, rig.caller.contact())
            assert "tag" not in (await rig.gateway.expect(200, method))["From"]
        rig.in_dialog(rig.caller, "INFO", a, cseq=2)
        info = await rig.gateway.expect("INFO")
        assert "tag" not in info["To"]
        rig.gateway.reply(info, 200)
        await rig.caller.expect(200, "INFO")
        rig.in_dialog(rig.gateway, "BYE", b, cseq=20)
        assert (await rig.until(ByeReceived)).leg_name is LegName.B
        await rig.gateway.expect(200, "BYE")
        rig.caller.reply(await rig.caller.expect("BYE"), 200)
        await rig.idle()


async def test_without_its_tag_nobody_speaks_in_the_dialog_of_one_that_has_one() -> None:
    async with Rig() as rig:
        _, _, b = await rig.answered_call()
        b.local = b.local.partition(";tag=")[0]
        rig.in_dialog(rig.gateway, "BYE", b, cseq=1)
        await rig.counted("dropped_foreign", 1)
        assert rig.caller.quiet
