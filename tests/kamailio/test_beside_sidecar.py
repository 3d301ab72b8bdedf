"""The profile `beside-kamailio` as a whole: a real daemon, a real Kamailio on both its sides, a real broker.

customer -> Kamailio -> sidecar -> Kamailio -> carrier
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import pytest
import pytest_asyncio

from sidecar.demo.children import daemon
from sidecar.demo.subscriber import Record, Subscriber
from tests.kamailio.harness import CONFIGURATION, Places, Proxy, free_udp_port, kamailio
from tests.kamailio.peer import CARRIER, CUSTOMER, HOST, SIDECAR, Peer, fields

pytestmark = pytest.mark.asyncio(loop_scope="module")

RECORD_S_MAX = 10


class Field(NamedTuple):
    proxy: Proxy
    customer: Peer
    carrier: Peer
    subscriber: Subscriber

    def call(self, number: str, sent: str) -> tuple[str, str]:
        """Up to the ACK: the INVITE as the carrier saw it, to the number `sent`, and the caller's 200."""
        self.customer.invite(number, self.proxy.places.proxy)
        invite = self.carrier.receive(f"INVITE sip:{sent}@")
        self.carrier.answer(invite, "200 OK", self.proxy.places.proxy)
        answer = self.customer.receive("SIP/2.0 200", f"call-{number}@")
        self.customer.request("ACK", 1, answer)
        self.carrier.receive(f"ACK sip:{CARRIER}", fields(invite, "Call-ID")[0])
        return invite, answer

    def carrier_answers_bye(self, invite: str) -> None:
        bye = self.carrier.receive("BYE ", fields(invite, "Call-ID")[0])
        self.carrier.answer(bye, "200 OK", self.proxy.places.proxy)

    async def record(self, number: str) -> Record:
        """The CDR of the call that the customer placed to `number`."""
        async with asyncio.timeout(RECORD_S_MAX):
            while True:
                for record in self.subscriber.first.values():
                    if record["leg_a"]["sip_call_id"] == f"call-{number}@{CUSTOMER}":
                        return record
                await self.subscriber.until(len(self.subscriber.first) + 1)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def field(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Field]:
    folder = tmp_path_factory.mktemp("beside")
    with ExitStack() as stack:
        customer, carrier = Peer(CUSTOMER), Peer(CARRIER)
        stack.callback(customer.close)
        stack.callback(carrier.close)
        places = Places(
            proxy=(HOST, free_udp_port(HOST)),
            sidecar=(SIDECAR, free_udp_port(SIDECAR)),
            carrier=(CARRIER, carrier.port),
            acme_host=CUSTOMER,
        )
        proxy = await asyncio.to_thread(stack.enter_context, kamailio(folder, places))
        settings = {
            "SIDECAR_NODE__DATA_DIR": str(folder / "data"),
            "SIDECAR_SIP__PROFILE": str(_profile(folder, places)),
            "SIDECAR_METRICS__LISTEN": f"{SIDECAR}:0",
        }
        async with daemon(folder / "daemon.log", settings) as node, asyncio.TaskGroup() as tasks:
            subscriber = Subscriber(*node.broker)
            listening = tasks.create_task(subscriber.run(), name="subscriber")
            await subscriber.subscribed.wait()
            yield Field(proxy, customer, carrier, subscriber)
            listening.cancel()


def _profile(folder: Path, places: Places) -> Path:
    """The profile as it is shipped, with our addresses."""
    text = CONFIGURATION.with_name("beside-kamailio.toml").read_text()
    text = text.replace("192.0.2.10:5080", f"{SIDECAR}:{places.sidecar[1]}").replace("192.0.2.10", HOST)
    text = re.sub(r"(?m)^port = 5060$", f"port = {places.proxy[1]}", text)
    path = folder / "beside.toml"
    path.write_text(text)
    return path


async def test_a_caller_who_hangs_up_is_recorded_on_the_account_that_kamailio_names(field: Field) -> None:
    invite, answer = await asyncio.to_thread(field.call, "00441234567", "00441234567")
    assert "X-Account" not in invite
    field.customer.request("BYE", 2, answer)
    await asyncio.to_thread(field.carrier_answers_bye, invite)
    record = await field.record("00441234567")
    assert (record["hangup_origin"], record["detail"], record["account"]) == ("caller", "bye", "acme")
    assert (record["peer"], record["gateway"]) == ("kamailio", "kamailio")
    assert (record["callee"]["received"], record["callee"]["billed"]) == ("00441234567", "441234567")
    assert [(charge["side"], charge["prefix"]) for charge in record["charges"]] == [
        ("sell", "44"),
        ("buy", "44"),
    ]


async def test_a_national_number_is_sold_and_bought_by_its_country_code(field: Field) -> None:
    invite, answer = await asyncio.to_thread(field.call, "01511234567", "00491511234567")
    field.customer.request("BYE", 2, answer)
    await asyncio.to_thread(field.carrier_answers_bye, invite)
    record = await field.record("01511234567")
    assert record["callee"]["billed"] == "491511234567"
    assert [charge["prefix"] for charge in record["charges"]] == ["4915", "4915"]


async def test_a_call_that_kamailios_operator_ends_is_the_servers(field: Field) -> None:
    invite, _ = await asyncio.to_thread(field.call, "00419999", "00419999")
    listed = await asyncio.to_thread(
        field.proxy.command, "dlg.dlg_list", f"call-00419999@{CUSTOMER}", "from-00419999"
    )
    entry, number = (re.search(rf"{name}: (\d+)", listed) for name in ("h_entry", "h_id"))
    assert entry is not None
    assert number is not None
    words = ("dlg.end_dlg", entry[1], number[1], "X-Proxy-Hangup: operator\r\n")
    await asyncio.to_thread(field.proxy.command, *words)
    await asyncio.to_thread(field.carrier_answers_bye, invite)
    record = await field.record("00419999")
    assert (record["hangup_origin"], record["server_reason"], record["detail"]) == (
        "server",
        "admin",
        "operator",
    )
    assert record["proxy"] is not None


async def test_a_caller_who_cancels_is_not_charged(field: Field) -> None:
    field.customer.invite("00447777", field.proxy.places.proxy)
    invite = await asyncio.to_thread(field.carrier.receive, "INVITE sip:00447777@")
    field.carrier.answer(invite, "180 Ringing", field.proxy.places.proxy)
    await asyncio.to_thread(field.customer.receive, "SIP/2.0 180")
    field.customer.cancel("00447777", field.proxy.places.proxy)
    await asyncio.to_thread(field.carrier.receive, "CANCEL ")
    record = await field.record("00447777")
    assert (record["hangup_origin"], record["detail"], record["talk_ms"]) == ("caller", "cancel", 0)
    assert all(charge["total"] in (None, "0", "0.000000") for charge in record["charges"])
