"""Live calls in which a damaged copy goes before the 2xx, the ACK or the BYE: none outlives its good BYE.

What such a copy does is not foreseen: it may be dropped, refused, heard as what it was, or be another's.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from typing import Final

from tests.b2bua.rig import ANSWER, Dialog
from tests.b2bua.scripted_ua import Message, ScriptedUA
from tests.fuzz.mutate import damaged_field
from tests.fuzz.rig import PROBE_USER, FuzzRig

ENDS_S_MAX: Final = 30.0  # beside whatever else the machine has to do
REPEAT_S: Final = 1.0
_KINDS: Final = ("2xx", "ACK", "BYE")


class CarelessUA(ScriptedUA):
    """It sends a damaged copy first of what is of the kinds `damages`, and answers whatever it is asked."""

    rng: random.Random
    damages: frozenset[str] = frozenset()
    said: list[bytes]

    def send(self, data: bytes, to: tuple[str, int] | None = None) -> None:
        is_answer = data.startswith(b"SIP/2.0 200 ") and b" INVITE\r\n" in data
        if ("2xx" if is_answer else data[:3].decode()) in self.damages:
            damaged = damaged_field(self.rng, data)
            self.said.append(damaged)
            super().send(damaged, to)
        super().send(data, to)

    async def until_asked(self, method: str) -> Message:
        while (message := await self.receive()).is_response or message.method != method:
            self._be_polite(message)
        return message

    async def until_final(self) -> Message:
        """Of its INVITE."""
        while (message := await self.receive()).code < 200 or message.method != "INVITE":
            self._be_polite(message)
        return message

    async def be_polite(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                self._be_polite(await self.receive())

    def _be_polite(self, message: Message) -> None:
        with contextlib.suppress(AssertionError, ValueError, IndexError):  # what a mutation made of it
            if not message.is_response and message.method != "ACK":
                self.reply(message, 200)


async def outlived_its_bye(rig: FuzzRig, rng: random.Random, number: int) -> str:
    """Empty where the call was over after its BYE, else what went before it."""
    caller, callee = [await CarelessUA.udp(f"{rig.network}.{last}") for last in (2, 4)]
    usual, rig.callee = rig.callee, callee
    damages = frozenset(rng.sample(_KINDS, rng.choice((1, 1, 2, 3))))
    said: list[bytes] = []
    for agent in (caller, callee):
        agent.peer, agent.rng, agent.damages, agent.said = rig.address(), rng, damages, said
    try:
        async with asyncio.timeout(ENDS_S_MAX):
            await _until_it_ends(rig, caller, callee, number)
    except TimeoutError:
        return f"a call outlived its BYE: {said}; {rig.hook.stats()}"
    finally:
        rig.callee = usual
        caller.close()
        callee.close()
    return ""


async def _until_it_ends(rig: FuzzRig, caller: CarelessUA, callee: CarelessUA, number: int) -> None:
    others = frozenset(rig.probe_calls)
    sent = rig.invite(number=f"{PROBE_USER}{number}", tag=f"damaged{number}", agent=caller)
    at_b = await callee.until_asked("INVITE")
    tag = f"b{number}"
    callee.reply(at_b, 200, tag=tag, body=ANSWER)
    async with asyncio.TaskGroup() as tasks:
        polite = tasks.create_task(callee.be_polite(), name="callee")
        final = await caller.until_final()
        if final.code >= 300:  # a damaged 2xx may be no answer
            rig.ack_failure(sent, final, caller)
        else:
            a, b = Dialog.of_caller(sent, final), Dialog.of_callee(at_b, tag)
            rig.in_dialog(caller, "ACK", a, cseq=1)
            # A damaged 2xx may have been the answer, in a dialog that the callee knows nothing of.
            of_callee = "2xx" not in callee.damages and callee.rng.random() < 0.5
            agent, dialog = (callee, b) if of_callee else (caller, a)
            ours = rig.probe_calls - others
            cseq = 2
            while ours & rig.probe_calls:
                rig.in_dialog(agent, "BYE", dialog, cseq=cseq)
                cseq += 1
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(REPEAT_S):
                        while ours & rig.probe_calls:  # noqa: ASYNC110
                            await asyncio.sleep(0.005)
        # Until Python 3.12 wait_for loses a cancellation that meets a message.
        while not polite.done():
            polite.cancel()
            await asyncio.sleep(0)
