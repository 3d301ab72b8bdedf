"""Many more calls offered than the node carries: what is too much is refused before any work, and what is
taken comes to its end."""

from __future__ import annotations

from collections import Counter

from sidecar.adapters.sockets.child import end
from sidecar.demo.children import free_ports
from tests.bench.load import HERE, callee, delays, sipp
from tests.bench.product import spread
from tests.chaos.outcome import Chance, Outcome
from tests.faults.node import Node
from tests.faults.phone import Phone, Plan
from tests.rig.listener import check_sequences, listening

RATE = 4000
SECONDS = 10
FAILED_SHARE_MAX = 0.01
SETUP_P99_MS_MAX = 1_000
REFUSED = ("refused node_full", "refused_aggregate node_full")
GOOD = ("answered bye",)


async def offered(node: Node, rate: int, calls: int, setup_ms: list[float]) -> Counter[str]:
    """Records by disposition and detail, counters of the bridge by their names; `after`: calls that work
    once it is over; `open`: entries that are left. `setup_ms` gets that of each call that was answered."""
    callee_at = (f"{node.network}.3", node.gateway_port)
    folders = [node.folder / name for name in ("callee", "caller")]
    for folder in folders:
        folder.mkdir()
    counts = Counter[str]()
    async with (
        node.up() as child,
        listening(*child.broker) as listener,
        await Phone.listen(f"{node.network}.2") as caller,
    ):
        async with callee(folders[0], callee_at):
            caller_at = (f"{node.network}.2", free_ports(f"{node.network}.2", 1)[0])
            load = ("-r", str(rate), "-m", str(calls), "-l", str(calls), "-d", "500", "-s", "1000")
            timeout = ("-timeout", str(calls // rate + 40), "-trace_rtt", "-rtt_freq", "10")
            place = ":".join(map(str, child.sip))
            calling = await sipp(folders[1], HERE / "caller.uac.xml", caller_at, place, *load, *timeout)
            try:
                await calling.wait()
            finally:
                await end(calling)
            await node.empty(60)
            for name in ("invites", "refused_overload", "refused_node_full", "exceptions"):
                counts[name] = int(await node.metric("sidecar_bridge_total", f'"{name}"'))
            caller.peer = child.sip
            again = await caller.place("19999", Plan(caller_bye_s=0.05))
            counts["after"] = int(again.final == 200)
        admitted = counts["invites"] + 1
        await listener.until(
            lambda: (
                sum(one["disposition"] not in ("refused", "refused_aggregate") for one in listener.records)
                >= admitted
            ),
            60,
        )
    setup_ms += delays(folders[1])["setup"]
    counts["open"] = node.open_entries()
    check_sequences(listener.records)
    node.check_books()
    first = [one for one in listener.records if one["revision"] == 0]
    return counts + Counter(f"{one['disposition']} {one['detail']}" for one in first)


async def overload(given: Chance) -> Outcome:
    """4000 calls/s for ten seconds, or for as many as there are rounds, if these are fewer."""
    node = Node(given.folder, timers="admission_wait_ms_max = 500\nmax_duration_s = 20")
    calls = RATE * min(SECONDS, given.rounds)
    setup_ms: list[float] = []
    counts = await offered(node, RATE, calls, setup_ms)
    setup = spread(setup_ms)
    admitted = counts["invites"] + 1
    failed = admitted - sum(counts[name] for name in GOOD)
    wrong = [name for name in counts if name.endswith((" journal", " internal_error"))]
    broken = [
        text
        for text, is_broken in (
            ("calls that were admitted failed", failed > admitted * FAILED_SHARE_MAX),
            (f"ends that are nobody's fault but ours: {wrong}", bool(wrong)),
            ("setup takes too long", setup.p99 > SETUP_P99_MS_MAX),
            ("exceptions", bool(counts["exceptions"])),
            ("no call afterwards", not counts["after"]),
            ("entries left open", bool(counts["open"])),
        )
        if is_broken
    ]
    return Outcome(
        fault=f"{RATE} calls/s offered",
        rounds=1,
        missing=0,
        duplicate=0,
        figures={
            "offered": str(calls),
            "admitted": str(admitted),
            "refused": str(counts["refused_overload"] + counts["refused_node_full"]),
            "setup p50": f"{setup.p50:.0f} ms",
            "p99": f"{setup.p99:.0f} ms",
            "failed after admission": f"{failed} ({failed / admitted:.2%})",
        },
        broken=broken,
    )
