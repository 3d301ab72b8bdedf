"""A node with phones on both sides of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from sidecar.demo.children import free_ports
from tests.faults.phone import Phone, Script
from tests.rig import node
from tests.rig.node import with_lines

# Numbers: 1... goes to the gateway, 2... to a second one that has its own record flag, 3... nowhere.
PROFILE = """
[sip]
listen_udp = ["{host}:{port}"]

[timers]

[peers.callers]
addresses = ["{network}.2/32"]
asserts_identity = true
[peers.gateways]
addresses = ["{network}.3/32"]
[peers.others]
addresses = ["{network}.4/32"]

[gateways.main]
host = "{network}.3"
port = {main}
no_response_failover_s = 10
[gateways.second]
host = "{network}.3"
port = {main}
no_response_failover_s = 10

[[routes]]
prefix = "1"
gateways = ["main"]
[[routes]]
prefix = "2"
gateways = ["second"]

[decks]
sell = "{deck}"

[billing]
deck = "sell"

[[account_rules]]
account = "prepaid"
header = "x-account"
header_value = "prepaid"
[[account_rules]]
account = "other"
header = "x-account"
header_value = "other"
[[account_rules]]
account_from = "header"
header = "x-account"
[[account_rules]]
account = "demo"
called_prefix = "1"
[[account_rules]]
account = "demo"
called_prefix = "2"

[accounts.demo]
currency = "EUR"
[accounts.prepaid]
currency = "EUR"
prepaid = true
[accounts.other]
currency = "EUR"
prepaid = true
"""
# A cent a second, by the second.
DECK = (
    "prefix,destination,currency,connect_fee,price_per_minute,initial_s,increment_s,steps\n"
    "1,One,EUR,0,0.60,1,1,\n"
    "2,Two,EUR,0,0.60,1,1,\n"
)


TABLES = {
    "callers": "peers.callers",
    "second": "gateways.second",
    "prepaid": "accounts.prepaid",
    "other": "accounts.other",
}


class Node(node.Node):
    """127.x.y.2 are the callers, .3 the callees, .4 a listed stranger, .9 one that is not. `more` are lines
    of the profile by table: timers="ring_timeout_s = 2"."""

    def __init__(self, folder: Path, *, dsn: str = "", **more: str) -> None:
        super().__init__(folder, settings={"SIDECAR_LOG__LEVEL": "debug"}, dsn=dsn)
        self.port = free_ports(self.host, 1)[0]  # the same after a restart: peers know it from their dialogs
        self.gateway_port = free_ports(f"{self.network}.3", 1)[0]
        if "admission_wait_ms_max" not in more.get("timers", ""):  # a burst of a test is no overload
            more["timers"] = "admission_wait_ms_max = 30000\n" + more.get("timers", "")
        self._lines = {TABLES.get(name, name): lines for name, lines in more.items()}

    def profile_text(self) -> str:
        deck = self.folder / "deck.csv"
        deck.write_text(DECK)
        text = PROFILE.format(
            network=self.network, host=self.host, port=self.port, main=self.gateway_port, deck=deck
        )
        return with_lines(text, self._lines)


@asynccontextmanager
async def phones(at: Node, script: Script | None = None) -> AsyncIterator[tuple[Phone, Phone]]:
    """A caller and a callee; the node must be up before the caller dials."""
    async with AsyncExitStack() as stack:
        caller = await stack.enter_async_context(await Phone.listen(f"{at.network}.2"))
        callee = await stack.enter_async_context(
            await Phone.listen(f"{at.network}.3", at.gateway_port, script)
        )
        yield caller, callee
