"""The play: a sidecar, nine calls at once, and whether every CDR is what its call was."""

from __future__ import annotations

import asyncio
import shutil
import sys
import tempfile
import time
from pathlib import Path

from sidecar.demo import check, children
from sidecar.demo.calls import (
    CALLS,
    OPERATOR,
    OPERATOR_TEXT,
    PREPAID_ACCOUNT,
    STRIP_DIGITS,
    TOP_UP,
    DemoCall,
)
from sidecar.demo.children import Daemon, DemoError, Sipp
from sidecar.demo.subscriber import Record, Subscriber

TOTAL_S_MAX = 45.0
RECORDS_S_MAX = 10.0  # after the last call has ended
LOOK_AGAIN_S = 0.1
TALK_S = 1.0  # of the call that the operator ends


class Stage:
    """Where everything of one demo is."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.host = children.own_address()
        ports = children.free_ports(self.host, 2 * len(CALLS))
        self.callee_ports = dict(zip((call.scenario for call in CALLS), ports, strict=False))
        self.caller_ports = dict(zip((call.scenario for call in CALLS), ports[len(CALLS) :], strict=False))
        self._control_ports = children.free_ports("127.0.0.1", 2 * len(CALLS))

    def control_port(self) -> int:
        return self._control_ports.pop()

    def profile(self) -> Path:
        """The `demo` profile, with a gateway for every callee of ours."""
        text = (children.REPO / "sip_profiles" / "demo.toml").read_text()
        for call in CALLS:
            if call.has_callee:
                name = call.scenario
                text += f'\n[gateways.{name}]\nhost = "{self.host}"\nport = {self.callee_ports[name]}\n'
                text += f'\n[[routes]]\nprefix = "{call.dialled}"\ngateways = ["{name}"]\n'
        path = self.folder / "demo.toml"
        path.write_text(text)
        return path

    def settings(self) -> dict[str, str]:
        return {
            "SIDECAR_NODE__NAME": "demo",
            "SIDECAR_NODE__DATA_DIR": str(self.folder / "data"),
            "SIDECAR_SIP__PROFILE": str(self.profile()),
            "SIDECAR_SIP__LISTEN_UDP": f"{self.host}:0",
            "SIDECAR_SIP__LISTEN_TCP": "",
            "SIDECAR_METRICS__LISTEN": f"{self.host}:0",
            "SERVER_BILLING_GATEWAY_ROUTE_PREFIX": str(STRIP_DIGITS),
            # A build beside us may keep the disk busy for seconds; then a call is late here, not refused.
            "SIDECAR_TIMERS__ANSWER_HOLD_MS_MAX": "10000",
        }


async def play(stage: Stage) -> tuple[list[Record], int, list[str]]:
    """The CDRs, how many came twice, and what went wrong on the SIP side."""
    async with children.daemon(stage.folder / "daemon.log", stage.settings()) as node:
        print(f"SIP engine: {node.engine}; sidecar at {':'.join(map(str, node.sip))}")
        async with asyncio.TaskGroup() as tasks:
            subscriber = Subscriber(*node.broker)
            tasks.create_task(subscriber.run(), name="subscriber")
            await subscriber.subscribed.wait()
            booked = await node.command("account", "topup", PREPAID_ACCOUNT, TOP_UP)
            print(f"prepaid account: {booked['balance']['amount']} {booked['balance']['currency']}")
            print(f"{len(CALLS)} calls at once ...")
            complaints = await _calls(stage, node)
            try:
                async with asyncio.timeout(RECORDS_S_MAX):
                    await subscriber.until(len(CALLS))
            except TimeoutError:
                complaints.append(f"{len(subscriber.first)} CDRs after {RECORDS_S_MAX:g} s")
            # The broker ends with the daemon: only then is it sure that nothing comes twice.
            if status := await node.stop():
                complaints.append(f"the sidecar ended with status {status}")
    return list(subscriber.first.values()), subscriber.again, complaints


async def _calls(stage: Stage, node: Daemon) -> list[str]:
    """All calls at once; what SIPp has to complain about."""
    running: list[Sipp] = []
    try:
        for call in CALLS:
            if call.has_callee:
                port = stage.callee_ports[call.scenario]
                more = ("-d", str(call.pause_ms))
                name = f"{call.scenario}.uas"
                running.append(
                    await Sipp.start(name, stage.folder, stage.host, port, stage.control_port(), *more)
                )
                await running[-1].listening(stage.host, port)
        for call in CALLS:
            running.append(await _caller(stage, node, call))  # noqa: PERF401  # the started ones are stopped
        async with asyncio.TaskGroup() as tasks:
            operator = tasks.create_task(_operator(node), name="operator")
            complaints = [said for one in running if (said := await one.ended())]
            operator.cancel()  # where his call was never answered, he would look for it for ever
        return complaints
    finally:
        for one in running:
            await one.stop()


async def _caller(stage: Stage, node: Daemon, call: DemoCall) -> Sipp:
    return await Sipp.start(
        f"{call.scenario}.uac",
        stage.folder,
        stage.host,
        stage.caller_ports[call.scenario],
        stage.control_port(),
        *("-s", call.dialled, "-d", str(call.pause_ms), "-key", "account", call.account),
        *("-cid_str", f"{call.scenario}-%u-%p@%s"),
        remote=":".join(map(str, node.sip)),
    )


async def _operator(node: Daemon) -> None:
    """Ends his call with `sidecar call release` when it has been up for a second."""
    call = next(call for call in CALLS if call.operator)
    while True:
        live = await node.live_calls()
        found = next((one for one in live if one["callee"] == call.dialled and one["talk_s"] >= TALK_S), None)
        if found is not None:
            break
        await asyncio.sleep(LOOK_AGAIN_S)
    words = ("--operator", OPERATOR, "--text", OPERATOR_TEXT)
    await node.command("call", "release", found["call_id"], *words)


def report(cdrs: list[Record], again: int, complaints: list[str]) -> bool:
    """The table and the summary; whether all is right."""
    console = check.console()
    rows = []
    for call in CALLS:
        own = [cdr for cdr in cdrs if cdr["leg_a"]["sip_call_id"].startswith(f"{call.scenario}-")]
        wrong = [fault for cdr in own for fault in check.faults(call, cdr)]
        if len(own) > 1:
            wrong.append(f"{len(own)} CDRs for one call")
        rows.append((call, own[-1] if own else None, wrong))
    check.print_table(console, rows)
    for call, _, wrong in rows:
        complaints += [f"{call.title}: {fault}" for fault in wrong]
    complaints += [f"sequence numbers: {gap}" for gap in check.gaps(cdrs)]
    for complaint in complaints:
        console.print(f"wrong: {complaint}", markup=False)
    missing = sum(cdr is None for _, cdr, _ in rows)
    double = again + len(cdrs) - len({cdr["call_id"] for cdr in cdrs})
    console.print(
        f"{len(CALLS)} calls placed, {len(cdrs)} CDRs received, {missing} missing, {double} duplicate",
        markup=False,
    )
    return not (complaints or missing or double or len(cdrs) != len(CALLS))


async def run(folder: Path) -> bool:
    began_s = time.monotonic()
    async with asyncio.timeout(TOTAL_S_MAX):
        cdrs, again, complaints = await play(Stage(folder))
    right = report(cdrs, again, complaints)
    if right:
        print(f"every CDR is what its call was ({time.monotonic() - began_s:.0f} s)")
    return right


def main() -> int:
    folder = Path(tempfile.mkdtemp(prefix="sidecar-demo-"))
    right = False
    try:
        right = asyncio.run(run(folder))
    except* DemoError as group:
        print("\n".join(f"demo: {error}" for error in children.leaves(group)), file=sys.stderr)
    except* TimeoutError:
        print(f"demo: not done within {TOTAL_S_MAX:g} s", file=sys.stderr)
    except* KeyboardInterrupt:
        print("demo: interrupted", file=sys.stderr)
    if right:
        shutil.rmtree(folder)
        print("make demo-web: the page for operators, with a day of made calls")
    else:
        print(f"demo: logs and SIP messages are in {folder}", file=sys.stderr)
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main())
