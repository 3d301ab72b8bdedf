"""`python -m tests.bench_reload`: a reload of 100,000 accounts, one of them changed, and how long the event
loop was held meanwhile: by the clock, and by its own thread alone. Run alone: it measures this machine."""

from __future__ import annotations

import asyncio
import gc
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from msgspec.structs import replace

from sidecar.adapters.clock import SystemClock
from sidecar.adapters.metrics import Metrics
from sidecar.adapters.sqlite import SqliteStore
from sidecar.config import load
from sidecar.core.audit import Operator
from sidecar.runtime.calls import Calls
from sidecar.runtime.reload import Reloading
from sidecar.wiring.accounts import with_stored_accounts
from sidecar.wiring.files import inputs
from sidecar.wiring.reload import Reader, reading_of
from tests.runtime.node_help import Bridge

ACCOUNTS = 100_000
ROUNDS = 3
PROFILE = """
[sip]
listen_udp = ["127.0.0.1:5080"]
[peers.local]
addresses = ["127.0.0.0/8"]
[gateways.main]
host = "127.0.0.1"
port = 5090
"""


def profile(changed: int) -> str:
    accounts = (
        f'[accounts.a{number}]\ncurrency = "EUR"\ncalls_max = {changed if number == 7 else 9}\n'
        for number in range(ACCOUNTS)
    )
    return PROFILE + "".join(accounts)


async def lag(until: asyncio.Event) -> tuple[float, float]:
    worst_s = own_s = 0.0
    while not until.is_set():
        before_s, own_before_s = time.perf_counter(), time.thread_time()
        await asyncio.sleep(0.001)
        worst_s = max(worst_s, time.perf_counter() - before_s - 0.001)
        own_s = max(own_s, time.thread_time() - own_before_s)
    return worst_s, own_s


async def measure(folder: Path) -> None:
    file = folder / "profile.toml"
    file.write_text(profile(1))
    given = inputs({"sip.profile": str(file), "node.data_dir": str(folder)}, {}, None)
    given = replace(given, system_file=folder / "none.toml")
    loaded = load(given)
    clock, metrics = SystemClock(), Metrics()
    store = SqliteStore.open(folder, node="box", boot_id="boot", clock=clock)
    policy = await with_stored_accounts(loaded.policy, store)
    calls = Calls(
        policy=policy, control=Bridge(), store=store, clock=clock, meter=metrics, on_fault=lambda *_: None
    )
    reloading = Reloading(calls, store.stored, Reader(given, loaded).read, reading_of(loaded))
    gc.collect()
    gc.freeze()
    for changed in range(2, 2 + ROUNDS):
        file.write_text(profile(changed))
        await asyncio.sleep(0.2)  # as an operator leaves a file alone before the command
        done = asyncio.Event()
        watching = asyncio.get_running_loop().create_task(lag(done), name="lag")
        began_s, cpu_began_s = time.perf_counter(), time.process_time()
        found = await reloading.reload(Operator("bench"))
        took_s, cpu_s = time.perf_counter() - began_s, time.process_time() - cpu_began_s
        done.set()
        said = "; ".join(map(str, found.differences))
        waited_s, own_s = await watching
        print(
            f"{said}: {took_s:.2f} s ({cpu_s:.2f} s of CPU); the loop was held {waited_s * 1e3:.1f} ms"
            f" at most, {own_s * 1e3:.1f} ms by its own thread"
        )
    await store.close()


if __name__ == "__main__":
    with TemporaryDirectory() as folder:
        asyncio.run(measure(Path(folder)))
