"""Settings that change while calls run: what is in force then, for whom, and what is refused."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from sidecar.demo.children import DemoError, free_ports
from tests.b2bua.scripted_ua import Message, ScriptedUA
from tests.b2bua.test_digest import PASSWORD, QOP, USER, assert_answers, challenge
from tests.faults.conftest import MakeNode
from tests.faults.node import Node, phones
from tests.faults.phone import Phone, Plan, Side
from tests.rig.broker import mosquitto
from tests.rig.collector import Homer
from tests.rig.listener import Listener, listening
from tests.rig.node import until

ENDS_ITSELF = Plan(caller_bye_s=0)
MORE = """
[peers.more]
addresses = ["{network}.6/32"]
[gateways.more]
host = "{network}.7"
port = {port}
[[routes]]
prefix = "15"
gateways = ["more"]
"""


@asynccontextmanager
async def running(node: Node) -> AsyncIterator[tuple[Phone, Phone, Listener]]:
    async with (
        mosquitto(node.folder) as broker,
        listening(broker.host, broker.port) as listener,
        node.up(**broker.settings()) as child,
        phones(node) as (caller, callee),
    ):
        caller.peer = callee.peer = child.sip
        yield caller, callee, listener


async def up(node: Node, caller: Phone, number: str) -> Side:
    side = caller.dial(number, Plan())
    await node.live(number, answered=True)
    return side


async def test_a_hang_up_signal_reloads_and_calls_go_on(make_node: MakeNode) -> None:
    node = make_node()
    async with node.up() as child, phones(node) as (caller, callee):
        caller.peer = callee.peer = child.sip
        side = await up(node, caller, "1000")
        good = node.profile.read_text()
        node.profile.write_text(good + "[[fraud_rules]]\n")
        os.kill(child.pid, signal.SIGHUP)
        await until(lambda: "reload_refused" in node.log.read_text())
        assert "fraud_rules[0].name" in node.log.read_text()
        node.profile.write_text(good.replace("[sip]", '[sip]\nblocked_numbers = ["2*"]'))
        os.kill(child.pid, signal.SIGHUP)
        await until(lambda: "settings_reloaded" in node.log.read_text())
        assert (await caller.place("2000", ENDS_ITSELF)).final == 403
        [noted] = await child.command("audit", "list", "--action", "node.reload")
        assert noted["operator"] == "signal"
        caller.hang_up(side)
        await side.ended.wait()
    node.check_books()


async def test_a_peer_a_gateway_and_a_route_come_and_go_while_calls_run(make_node: MakeNode) -> None:
    node = make_node()
    port = free_ports(f"{node.network}.7", 1)[0]
    async with (
        running(node) as (caller, _, listener),
        await Phone.listen(f"{node.network}.6") as other,
        await Phone.listen(f"{node.network}.7", port) as carrier,
    ):
        other.peer = carrier.peer = node.daemon.sip
        first = await up(node, caller, "1500")
        good = node.profile.read_text()
        node.profile.write_text(good + MORE.format(network=node.network, port=port))
        added = await node.daemon.command("node", "reload", "--operator", "ann")
        assert added["differences"][:2] == ["+ peers.more", "+ gateways.more"]
        second = await up(node, other, "1501")
        third = await up(node, other, "1000")
        node.profile.write_text(good)
        gone = await node.daemon.command("node", "reload")
        assert gone["settings_revision"] == added["settings_revision"] + 1
        for side, phone in ((first, caller), (second, other), (third, other)):
            assert not side.ended.is_set()
            phone.hang_up(side)  # a dialog of a peer that is gone is heard until it ends
            await side.ended.wait()
        fourth = await caller.place("1502", ENDS_ITSELF)
        assert fourth.final == 200
        records = await listener.of([one.call_id for one in (first, second, third, fourth)])
        began = added["settings_revision"]
        assert [
            (one["peer"], one["gateway"], one["detail"], one["settings_revision"]) for one in records
        ] == [
            ("callers", "main", "bye", began - 1),
            ("more", "more", "bye", began),
            ("more", "main", "bye", began),
            ("callers", "main", "bye", began + 1),
        ]
        [noted, *_] = await node.daemon.command("audit", "list", "--action", "node.reload")
        assert (noted["operator"], noted["after"]["settings_revision"]) == ("ann", began)
        assert noted["after"]["changed"] == added["differences"]
    node.check_books()


async def test_what_needs_a_restart_or_is_wrong_is_named_and_changes_nothing(make_node: MakeNode) -> None:
    node = make_node()
    async with running(node) as (caller, _, __):
        side = await up(node, caller, "1000")
        good = node.profile.read_text()
        less = good.replace('prefix = "2"', 'prefix = "3"')
        node.profile.write_text(less.replace(f"{node.host}:{node.port}", f"{node.host}:{node.port + 1}"))
        with pytest.raises(DemoError, match="status 1"):
            await node.daemon.command("node", "reload")
        node.profile.write_text(less.replace("port = ", "prot = "))
        with pytest.raises(DemoError, match=r"status 2: .*gateways\.main\.prot: there is no such key"):
            await node.daemon.command("node", "reload")
        assert (await caller.place("2000", ENDS_ITSELF)).final == 200
        node.profile.write_text(less)
        found = await node.daemon.command("check", "--against-running")
        assert found["settings_revision"] is None
        keys = [line.replace(":", "").split()[:2] for line in found["differences"]]
        assert keys == [["-", "routes.2"], ["+", "routes.3"], ["~", "account_rules[5]"]]
        assert (await caller.place("2000", ENDS_ITSELF)).final == 200
        again = await node.daemon.command("node", "reload")
        assert again["differences"] == found["differences"]
        assert (await caller.place("2000", ENDS_ITSELF)).final == 500
        caller.hang_up(side)
        await side.ended.wait()
    node.check_books()


async def test_what_commands_make_is_in_force_for_the_next_call(make_node: MakeNode) -> None:
    node = make_node()
    port = free_ports(f"{node.network}.7", 1)[0]
    async with (
        running(node) as (_, __, listener),
        await Phone.listen(f"{node.network}.6") as other,
        await Phone.listen(f"{node.network}.7", port) as carrier,
    ):
        other.peer = carrier.peer = node.daemon.sip

        async def command(*words: str) -> None:
            assert (await node.daemon.command(*words))["settings_revision"]

        await command("peer", "add", "more", "--set", f"addresses={node.network}.6")
        host = ("--set", f"host={node.network}.7", "--set", f"port={port}")
        await command("gateway", "add", "alt", *host)
        await command("route", "add", "15", "--set", "gateways=alt")
        side = await up(node, other, "1501")
        await command("route", "remove", "15")
        await command("gateway", "remove", "alt")
        await command("peer", "remove", "more")
        other.hang_up(side)
        await side.ended.wait()
        [record] = await listener.of([side.call_id])
        assert (record["peer"], record["gateway"], record["detail"]) == ("more", "alt", "bye")
    node.check_books()


async def test_a_registration_its_password_a_listener_and_a_collector_come_and_go_by_reload(
    make_node: MakeNode,
) -> None:
    node = make_node()
    registrar = await ScriptedUA.udp(f"{node.network}.7")
    password, collector = node.folder / "password", Homer()
    password.write_text("of yesterday")
    password.chmod(0o600)
    gateway = f"""
[gateways.reg]
host = "{node.network}.7"
port = {registrar.port}
username = "{USER}"
password_file = "{password}"
register = true
register_expires_s = 600
"""

    async def registered(nonce: str) -> Message:
        """The REGISTER that answers the challenge of one without credentials."""
        registrar.reply(await registrar.expect("REGISTER"), 401, challenge(nonce, QOP), tag="x")
        return await registrar.expect("REGISTER")

    settings = node.folder / "sidecar.toml"
    settings.write_text("")
    run = f"exec {sys.executable} -m sidecar.cli run --config {settings}"
    async with node.up(("/bin/sh", "-c", run)) as child, phones(node) as (caller, callee):
        caller.peer = callee.peer = child.sip
        good = node.profile.read_text()

        async def reloaded(text: str) -> list[str]:
            node.profile.write_text(text)
            done = await child.command("node", "reload")
            return list(done["differences"])

        async def is_there(state: str) -> bool:
            gateways = (await node.control("node.gateways"))["gateways"]
            return any(one["gateway"] == "reg" and one["registration"] == state for one in gateways)

        assert "+ gateways.reg" in await reloaded(good + gateway)
        registrar.reply(await registered("n1"), 403, tag="x")
        await until(lambda: is_there("failed"))
        password.write_text(PASSWORD)
        assert [line.split(":")[0] for line in await reloaded(good + gateway)] == [
            "~ gateways.reg.password_file"
        ]
        answer = await registered("n2")
        assert_answers(answer, "n2")
        registrar.reply(answer, 200, f"Contact: {answer['Contact']};expires=600", tag="x")
        await until(lambda: is_there("registered"))

        host, port = await collector.listen(f"{node.network}.8")
        at = f"{node.host}:{node.port}"
        (second,) = free_ports(node.host, 1)
        more = good.replace(f'["{at}"]', f'["{at}", "{node.host}:{second}"]')
        settings.write_text(f'[node]\ndrain_s = 60\n[hep]\ncollector = "{host}:{port}"\n')
        found = await reloaded(more)
        assert {line.split(":")[0] for line in found} >= {
            "- gateways.reg",
            "~ sip.listen_udp",
            "~ hep.collector",
            "~ node.drain_s",
        }
        last = await registrar.expect("REGISTER")
        assert last["Expires"] == "0"  # what we no longer have we take back
        registrar.reply(last, 200, tag="x")
        caller.peer = (node.host, second)
        assert (await caller.place("1000", ENDS_ITSELF)).final == 200
        await until(lambda: any(one.text.startswith(b"BYE") for one in collector.copies))
        assert len({one.correlation_id for one in collector.copies}) == 1  # both legs
        side = caller.dial("1001", Plan(caller_bye_s=2))
        await node.live("1001", answered=True)
        assert await child.stop() == 0
        assert (side.ended_by, side.bye_code) == ("me", 200)  # it was let go on
    registrar.close()
    collector.transport.close()
    node.check_books()
