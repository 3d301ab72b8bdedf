"""Reloads, one after the other, under load: a gateway and a peer come and go, and all calls go to another
gateway each time. No call fails; each record has the gateway of the settings that it names."""

from __future__ import annotations

import asyncio
from collections import Counter

from tests.bench.load import Load, call, callee
from tests.chaos.outcome import Chance, Outcome
from tests.faults.node import Node
from tests.faults.phone import Phone, Plan
from tests.rig.listener import check_sequences, listening

CALLS_PER_S = 500
HOLD_MS = 1000
PATIENCE_S = 120.0
OTHER = """
[peers.other-{number}]
addresses = ["{network}.6/32"]
[gateways.other-{number}]
host = "{network}.3"
port = {port}
"""


async def reload(given: Chance, rate: int = CALLS_PER_S) -> Outcome:
    """`calls` come between two reloads; at each reload one more, by the peer that is new."""
    node = Node(given.folder)
    gateway_of, broken = dict[int, str](), list[str]()
    load = Load(rate=rate, calls=given.rounds * given.calls, hold_ms=HOLD_MS)
    at = f"{node.network}.2"
    (node.folder / "callee").mkdir()
    async with (
        node.up() as child,
        listening(*child.broker) as listener,
        callee(node.folder / "callee", (f"{node.network}.3", node.gateway_port)),
        await Phone.listen(f"{node.network}.6") as other,
        asyncio.TaskGroup() as tasks,
    ):
        other.peer = child.sip
        good = node.profile.read_text()
        gateway_of[(await node.status())["settings_revision"]] = "main"
        calling = tasks.create_task(call(node.folder / "caller", at, child.sip, load, "1000"), name="calls")
        for number in range(given.rounds):
            next_round = tasks.create_task(asyncio.sleep(given.calls / rate), name="round")
            name = f"other-{number}"
            more = OTHER.format(number=number, network=node.network, port=node.gateway_port)
            node.profile.write_text(good.replace('gateways = ["main"]', f'gateways = ["{name}"]') + more)
            done = await node.control("node.reload", operator="chaos")
            gateway_of[done["settings_revision"]] = name
            other.dial(f"1{number:05}", Plan(caller_bye_s=1.0))
            await next_round
        outcome = await calling
        await other.all_ended(PATIENCE_S)
        await node.empty()
        last_seq = (await node.status())["outbox_head_seq"]
        await listener.until(lambda: any(one["seq"] == last_seq for one in listener.records), PATIENCE_S)
    made = load.calls + given.rounds
    check_sequences(listener.records)
    node.check_books()
    said = Counter(f"{one['detail']} {one['sip_code']}" for one in listener.records)
    if said != {"bye 200": made} or outcome.failed:
        broken.append(f"{outcome.failed} failed for their callers; {dict(said)}")
    mixed = [one for one in listener.records if gateway_of[one["settings_revision"]] != one["gateway"]]
    if mixed:
        broken.append(f"{len(mixed)} calls of a mix, the first: {mixed[0]['call_id']}")
    heard = len({one["call_id"] for one in listener.records})
    return Outcome(
        fault=f"reload under {rate} calls/s",
        rounds=given.rounds,
        missing=made - heard,
        duplicate=len(listener.records) - heard,
        figures={
            "calls": str(made),
            "sent again": str(outcome.repeats),
            "revisions": str(len(gateway_of)),
            "late": f"{outcome.late_s:.1f} s",
        },
        broken=broken,
    )
