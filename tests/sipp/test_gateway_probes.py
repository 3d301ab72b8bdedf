"""Gateways that the node probes by OPTIONS, and those that it registers with."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from sidecar.demo.children import Sipp, free_ports
from sidecar.demo.subscriber import Record
from tests.b2bua.scripted_ua import ScriptedUA
from tests.b2bua.test_digest import PASSWORD, QOP, USER, assert_answers, challenge
from tests.rig.node import PERIOD_S
from tests.sipp.rig import Rig

TO_SILENT = "0244123456789"  # silent, then second


async def _until(rig: Rig, gateway: str, **wanted: Any) -> dict[str, Any]:
    """The gateway as `sidecar node gateways` shows it, once it is so."""

    while True:
        shown = (await rig.control("node.gateways"))["gateways"]
        found = next(one for one in shown if one["gateway"] == gateway)
        if wanted.items() <= found.items():
            return dict(found)
        await asyncio.sleep(10 * PERIOD_S)


@asynccontextmanager
async def _answers_probes(rig: Rig, gateway: str) -> AsyncIterator[None]:
    [control] = free_ports("127.0.0.1", 1)
    port = rig.gateways[gateway]
    more = ("-m", "1000")
    name = "gateway-probes-answered.uas"
    sipp = await Sipp.start(name, rig.folder, rig.host, port, control, *more, patience_s=150)
    try:
        await sipp.listening(rig.host, port)
        await _until(rig, gateway, state="up")
        yield
    finally:
        await sipp.stop()


def _gateways(cdr: Record) -> list[str]:
    return [attempt["gateway"] for attempt in cdr["attempts"]]


@pytest.mark.timeout(180)
async def test_a_gateway_that_stops_answering_probes_is_passed_over_and_comes_back(tmp_path: Path) -> None:
    """No caller waits: the gateway is not even tried."""
    rig = Rig(tmp_path, {"gateways.silent": "probe_interval_s = 1"}, max_duration_s=30)
    async with rig.up():
        async with _answers_probes(rig, "silent"):
            cdr = await rig.place("caller-bye-in-call", dialled=TO_SILENT)
            assert _gateways(cdr) == ["silent"]
        lost = await _until(rig, "silent", state="down")
        assert lost["probes_failed"] >= 2
        cdr = await rig.place("caller-bye-in-call", "caller-bye-in-call", gateway="second", dialled=TO_SILENT)
        assert (_gateways(cdr), cdr["disposition"]) == (["second"], "answered")
        async with _answers_probes(rig, "silent"):
            cdr = await rig.place("caller-bye-in-call", dialled=TO_SILENT)
            assert _gateways(cdr) == ["silent"]
    log = await asyncio.to_thread(rig.log.read_text)
    assert log.count("gateway_down") == 1
    assert log.count("gateway_up") == 2


@pytest.mark.timeout(120)
async def test_a_node_registers_and_takes_it_back_when_it_stops(tmp_path: Path) -> None:
    more = f"username = '{USER}'\npassword_file = 'password'\nregister = true\nregister_expires_s = 600"
    rig = Rig(tmp_path, {"gateways.small": more}, max_duration_s=30)
    (tmp_path / "password").write_text(f"{PASSWORD}\n")
    registrar = await ScriptedUA.udp(rig.host, rig.gateways["small"])
    async with asyncio.TaskGroup() as tasks:
        async with rig.up():
            first = await registrar.expect("REGISTER")
            assert (first.uri, first["Expires"]) == (f"sip:{rig.host}:{registrar.port}", "600")
            assert first["To"] == f"<sip:{USER}@{rig.host}>"
            registrar.reply(first, 401, challenge("n1", QOP), tag="x")
            second = await registrar.expect("REGISTER")
            assert_answers(second, "n1")
            registrar.reply(second, 423, "Min-Expires: 1200", tag="x")
            third = await registrar.expect("REGISTER")
            assert (third["Expires"], third["Call-ID"]) == ("1200", first["Call-ID"])
            assert third.cseq > second.cseq
            registrar.reply(third, 200, f"Contact: {third['Contact']};expires=900", tag="x")
            shown = await _until(rig, "small", registration="registered", state="up")
            assert shown["register_answer"] == "200"
            leaving = tasks.create_task(_unregister(registrar), name="registrar")
        assert await leaving == first["Call-ID"]
    registrar.close()
    log = await asyncio.to_thread(rig.log.read_text)
    states = [json.loads(line)["state"] for line in log.splitlines() if "gateway_registration" in line]
    assert states == ["registered", "ended"]
    assert PASSWORD not in log


async def _unregister(registrar: ScriptedUA) -> str:
    last = await registrar.expect("REGISTER")
    assert last["Expires"] == "0"
    registrar.reply(last, 200, tag="x")
    return last["Call-ID"]
