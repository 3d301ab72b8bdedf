"""The URIs of leg B: numbers with their parameters, and the parameters of the URIs received."""

from __future__ import annotations

from typing import Any

import pytest

from sidecar.core.events import InviteReceived
from tests.b2bua.rig import Rig
from tests.b2bua.scripted_ua import Message


async def invited(rig: Rig, uri: str, caller: str = "<sip:1000@127.0.0.1>") -> InviteReceived:
    """The call of an INVITE with this Request-URI and From, which the agent as such would not send."""
    other = rig.invite()
    await rig.caller.expect(100)
    await rig.event(InviteReceived)
    rig.caller.send(
        other.raw.replace(other.uri.encode(), uri.encode(), 1)
        .replace(other["From"].encode(), f"{caller};tag=from-u".encode())
        .replace(other["Call-ID"].encode(), b"uris")
        .replace(other.branch.encode(), b"z9hG4bK-uris")
    )
    await rig.caller.expect(100)
    return await rig.event(InviteReceived)


@pytest.mark.parametrize(
    ("tel", "user"),
    [
        ("+44-20;npdi;rn=+442000000;cic=+16789", "+44-20;npdi;rn=+442000000;cic=+16789"),
        ("20(7946);phone-context=+44", "20(7946);phone-context=+44"),
        ("7042;phone-context=a.example;isub=1411;ext=3", "7042;phone-context=a.example;isub=1411;ext=3"),
        (
            "+4420;tgrp=TG-1;trunk-context=[2001:db8::1]",
            "+4420;tgrp=TG-1;trunk-context=%5B2001%3Adb8%3A%3A1%5D",
        ),
    ],
)
async def test_a_tel_uri_keeps_its_parameters_in_the_user_part(tel: str, user: str) -> None:
    async with Rig() as rig:
        invite = await invited(rig, f"tel:{tel}", f'"A" <tel:{tel}>')
        assert (invite.request_uri, invite.request_user) == (f"tel:{tel}", user)
        rig.send(rig.route(invite, from_parameters=";user=phone"))
        at_b = await rig.gateway.expect("INVITE")
        sent = f"sip:{user}@{rig.gateway.host}:{rig.gateway.port}"
        assert at_b.uri.lower() == sent.lower()  # pjsip writes escapes in small letters
        assert at_b["From"].lower().startswith(f'"a" <sip:{invite.from_user.lower()}@')
        number, _, parameters = invite.from_user.partition(";")
        assert number == user.partition(";")[0]
        assert set(parameters.split(";")) == set(user.split(";")[1:])  # pjsip prints them in its own order


async def at_gateway(rig: Rig, **parameters: Any) -> Message:
    rig.invite()
    await rig.caller.expect(100)
    rig.send(rig.route(await rig.event(InviteReceived), **parameters))
    return await rig.gateway.expect("INVITE")


async def test_the_parameters_of_each_uri_are_those_that_the_core_says() -> None:
    async with Rig() as rig:
        at_b = await at_gateway(
            rig,
            uri_parameters=";user=phone;tgrp=a;trunk-context=+1",
            to_parameters=";context=b",
            from_parameters=";isup-oli=24;cpc=payphone;user=ip",
        )
        host, port = rig.gateway.host, rig.gateway.port
        assert at_b.uri == f"sip:4930123@{host}:{port};user=phone;tgrp=a;trunk-context=+1"
        assert at_b["To"] == f"<sip:4930123@{host};context=b>"
        assert ";user=ip;isup-oli=24;cpc=payphone>;tag=" in at_b["From"]


async def test_parameters_that_pjsip_cannot_read_cost_no_call() -> None:
    async with Rig() as rig:
        at_b = await at_gateway(rig, uri_parameters=";a=\x01;b", to_parameters=";@", from_parameters=";<")
        here = f"sip:4930123@{rig.gateway.host}"
        assert (at_b.uri, at_b["To"]) == (f"{here}:{rig.gateway.port}", f"<{here}>")


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ((), "no-fork"),
        (("Request-Disposition: fork, parallel",), "no-fork"),
        (("Request-Disposition: no-fork",), "no-fork"),
        (("Request-Disposition: Queue,FORK , no-cancel,,",), "no-fork, Queue, no-cancel"),
        (("d: recurse", "Request-Disposition: sequential", "D: proxy,"), "no-fork, recurse, proxy"),
        (("Request-Disposition:",), "no-fork"),
    ],
)
async def test_a_gateway_asked_not_to_fork_gets_one_disposition(
    headers: tuple[str, ...], expected: str
) -> None:
    async with Rig() as rig:
        rig.invite(*headers)
        rig.send(rig.route(await rig.event(InviteReceived), single_branch=True))
        at_b = await rig.gateway.expect("INVITE")
        assert at_b.all("Request-Disposition") == [expected]
        assert not at_b.all("d")
