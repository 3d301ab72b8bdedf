"""What an INVITE costs until its decision, with few and with many accounts, rules and routes; what one
account more costs; what many cost at the start.

    python -m tests.bench_decision [MANY]

Each INVITE is of another account, by another kind of rule (peer, header, certificate, called prefix, name in
a header, address block), to another route. The node starts with MANY accounts in its store in a process of
its own, so that its memory is its own.
"""

from __future__ import annotations

import asyncio
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from msgspec.structs import replace

from sidecar.adapters.clock import SystemClock
from sidecar.adapters.sqlite import SqliteStore
from sidecar.core.account_rules import AccountFrom, AccountRule, AccountRules
from sidecar.core.addresses import AddressTable
from sidecar.core.admit import open_call
from sidecar.core.events import InviteReceived
from sidecar.core.persistent_map import PersistentMap
from sidecar.core.policy import Account, Given, Load, Peer, Policy, RouteRule, Routes
from sidecar.ports import StoredAccount
from sidecar.wiring import with_stored_accounts
from tests.policies import declared_policy
from tests.scenarios import world

SIZES = (1, 1_000, 100_000)
INVITES = 2_000
ROUNDS = 15
TARGETS = {"flat": 1.2, "longest_hold_ms": 20.0, "start_s": 2.0, "start_mb": 60.0}


def policy_of(size: int) -> Policy:
    """As many accounts, routes, blocks and rules of each kind as `size`."""
    rules = [
        rule
        for number in range(size)
        for rule in (
            AccountRule(account=f"p{number}", peer=f"peer{number}"),
            AccountRule(account=f"h{number}", header="x-customer", header_value=str(number)),
            AccountRule(account=f"t{number}", tls_name=f"sbc{number}.example"),
            AccountRule(account=f"c{number}", called_prefix=f"9{number:06}"),
        )
    ]
    rules += [
        AccountRule(account_from=AccountFrom.HEADER, header="x-account"),
        AccountRule(account_from=AccountFrom.ADDRESS),
    ]
    names = [f"{kind}{number}" for kind in "phtcnb" for number in range(size)]
    peers = {f"peer{number}": Peer(name=f"peer{number}", addresses=()) for number in range(size)}
    return declared_policy(
        peers={**world.PEERS, "carrier": replace(world.PEERS["carrier"], asserts_identity=True), **peers},
        gateways=world.gateways(),
        routes=Routes(
            [RouteRule(prefix="", gateways=("alpha",))]
            + [RouteRule(prefix=f"49{number:05}", gateways=("alpha", "beta")) for number in range(size)]
        ),
        accounts=PersistentMap({name: Account(name=name, currency="EUR") for name in names}),
        account_rules=AccountRules(rules),
        account_addresses=AddressTable((address_of(number), f"b{number}") for number in range(size)),
        decks={
            "sell": world.deck("sell-1", world.PRICE_PER_MINUTE),
            "buy": world.deck("buy-1", world.PRICE_PER_MINUTE),
        },
        default_deck="sell",
    )


def address_of(number: int) -> str:
    return f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"


def invites(size: int) -> list[InviteReceived]:
    chance = random.Random(1)
    made = []
    for place in range(INVITES):
        number, kind = chance.randrange(size), place % 6
        user = f"9{number:06}" if kind == 3 else f"49{chance.randrange(size):05}{place}"
        invite = world.invite(
            0, bridge_id=place, number=user, peer=f"peer{number}" if kind == 0 else "carrier"
        )
        headers = {1: (("x-customer", str(number)),), 4: (("x-account", f"n{number}"),)}.get(kind, ())
        address = f"{address_of(number)}:5060" if kind == 5 else "192.0.2.1:5060"
        made.append(
            replace(
                invite,
                headers=headers,
                tls_name=f"sbc{number}.example" if kind == 2 else "",
                leg=replace(invite.leg, remote_address=address),
            )
        )
    return made


def decision_us(sizes: Sequence[int]) -> dict[int, float]:
    """By size, the best of several rounds, in turn: what the machine does besides is not of interest."""
    call_id = world.call_id()
    asked = {size: (Given(policy_of(size), Load()), invites(size)) for size in sizes}
    best = dict.fromkeys(sizes, float("inf"))
    for given, calls in asked.values():
        accounts = {open_call(call_id, invite, given)[0].account.name[0] for invite in calls}
        assert accounts == set("phtcnb")
    for _ in range(ROUNDS):
        for size, (given, calls) in asked.items():
            begun = time.perf_counter()
            for invite in calls:
                open_call(call_id, invite, given)
            best[size] = min(best[size], (time.perf_counter() - begun) / INVITES * 1e6)
    return best


def longest_hold_ms(size: int) -> float:
    """The longest of a hundred changes of one account, and of one address block and route more."""
    policy, holds = policy_of(size), []
    for number in range(100):
        begun = time.perf_counter()
        policy = policy.with_account(Account(name=f"more{number}", currency="EUR"))
        policy = policy.with_address(f"172.16.0.{number}", f"more{number}")
        policy = replace(
            policy, routes=policy.routes.plus(RouteRule(prefix=f"77{number}", gateways=("alpha",)))
        )
        holds.append((time.perf_counter() - begun) * 1e3)
    return max(holds)


async def fill(data_dir: Path, many: int) -> None:
    store = SqliteStore.open(data_dir, node="n1", boot_id="b1", clock=SystemClock())
    names = [StoredAccount(name=f"customer{number}", currency="EUR", prepaid=True) for number in range(many)]
    await store.accounts.create_all(names)
    await store.close()


def resident_mb() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20


async def start(data_dir: Path) -> dict[str, float]:
    """What `wiring.serve` does with stored accounts."""
    store = SqliteStore.open(data_dir, node="n1", boot_id="b2", clock=SystemClock())
    before, begun = resident_mb(), time.perf_counter()
    policy = await with_stored_accounts(declared_policy(), store)
    took_s = time.perf_counter() - begun
    more = resident_mb() - before
    count = len(policy.accounts)
    await store.close()
    return {"accounts": count, "start_s": took_s, "start_mb": more}


def main(many: int) -> None:
    by_size = decision_us((*SIZES[:-1], many))
    for size, us in by_size.items():
        print(f"INVITE to decision, {size:>7,} accounts, rules and routes: {us:6.1f} us")
    with tempfile.TemporaryDirectory() as name:
        asyncio.run(fill(Path(name), many))
        words = [sys.executable, "-m", "tests.bench_decision", "start", name]
        started = json.loads(subprocess.run(words, check=True, capture_output=True, text=True).stdout)
    found = {
        "flat": by_size[many] / by_size[1],
        "longest_hold_ms": longest_hold_ms(many),
        "start_s": started["start_s"],
        "start_mb": started["start_mb"],
    }
    for name, value in found.items():
        print(f"{name}: {value:.3g} (target: at most {TARGETS[name]:g})")


if __name__ == "__main__":
    if sys.argv[1:2] == ["start"]:
        print(json.dumps(asyncio.run(start(Path(sys.argv[2])))))
    else:
        main(int(sys.argv[1]) if sys.argv[1:] else SIZES[-1])
