"""What an INVITE costs until its decision, with few and with many accounts, rules and routes; what one
account more costs; what many cost at the start.

    python -m tests.bench_decision [MANY]

INVITEs are decoded from what the native side hands over and decided; each is of an account and a route at
random, found by any kind of rule (peer, header, certificate, called prefix, name in a header, address block).
The sizes take turns in one process, and what counts is this thread's CPU time: the medians, and the median of
the ratios within each round, move by 2 % from run to run on a busy machine, where wall time moved by 100 %.

A start is that of `sidecar run` as far as accounts go, with MANY in the store or in the settings file (then
the first time, which makes them known to the store, and again), in a process of its own: CPU seconds of all
its threads, and what it keeps more than with one account.
"""

from __future__ import annotations

import asyncio
import gc
import random
import resource
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple, cast

import msgspec
from msgspec.structs import replace

from sidecar.adapters.clock import SystemClock
from sidecar.adapters.sqlite import SqliteStore
from sidecar.b2bua.boundary import events_of
from sidecar.config import load
from sidecar.core.account_rules import AccountFrom, AccountRule, AccountRules
from sidecar.core.account_terms import AccountKind, AccountTerms
from sidecar.core.addresses import AddressTable
from sidecar.core.admit import open_call
from sidecar.core.events import InviteReceived
from sidecar.core.persistent_map import PersistentMap
from sidecar.core.policy import Account, Given, Load, Peer, Policy, RouteRule, Routes
from sidecar.wiring.accounts import with_stored_accounts
from sidecar.wiring.files import inputs
from tests.policies import declared_policy
from tests.scenarios import world

SIZES = (1, 1_000, 100_000)
KINDS = 4  # of rules that name an account
BATCH = 300
ROUNDS = 200
CALL_ID = world.call_id()
FLAT_MAX = 1.2
HOLD_MS_MAX = 20
START_S_MAX = 2
START_MB_MAX = 60


def policy_of(size: int) -> Policy:
    """`size` accounts, each with an address block and a rule by a peer, a header's value, a certificate or a
    called prefix; and as many routes. (One account alone has all four rules.)"""
    return declared_policy(
        peers={
            "carrier": replace(world.PEERS["carrier"], asserts_identity=True),
            "vendor": world.PEERS["vendor"],
            **{f"peer{number}": Peer(name=f"peer{number}", addresses=()) for number in range(0, size, KINDS)},
        },
        gateways=world.gateways(),
        routes=Routes(
            [RouteRule(prefix="", gateways=("alpha",))]
            + [RouteRule(prefix=f"49{number:05}", gateways=("alpha", "beta")) for number in range(size)]
        ),
        accounts=PersistentMap(
            {name: Account(name=name, currency="EUR") for name in map(account_name, range(size))}
        ),
        account_rules=AccountRules(
            [
                *(rule_of(number, account_name(min(number, size - 1))) for number in range(max(size, KINDS))),
                AccountRule(account_from=AccountFrom.HEADER, header="x-account"),
                AccountRule(account_from=AccountFrom.ADDRESS),
            ]
        ),
        account_addresses=AddressTable((address_of(number), account_name(number)) for number in range(size)),
        decks={
            "sell": world.deck("sell-1", world.PRICE_PER_MINUTE),
            "buy": world.deck("buy-1", world.PRICE_PER_MINUTE),
        },
        default_deck="sell",
    )


def rule_of(number: int, account: str) -> AccountRule:
    match number % KINDS:
        case 0:
            return AccountRule(account=account, peer=f"peer{number}")
        case 1:
            return AccountRule(account=account, header="x-customer", header_value=f"c{number}")
        case 2:
            return AccountRule(account=account, tls_name=f"sbc{number}.example")
        case _:
            return AccountRule(account=account, called_prefix=f"9{number:06}")


def account_name(number: int) -> str:
    return f"customer{number}"


def address_of(number: int) -> str:
    return f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"


def invites(size: int, chance: random.Random) -> tuple[bytes, list[str]]:
    """A batch as the native side hands it over, of accounts and routes at random; and whose calls they are.
    Each sixth is found in the same way: by each kind of rule, by a header that names it, by its address."""
    made, accounts = [], []
    for place in range(BATCH):
        kind, number = chance.randrange(KINDS + 2), chance.randrange(size)
        if kind < KINDS:
            number += kind - number % KINDS
            number -= 0 if number < max(size, KINDS) else KINDS
        user = f"9{number:06}" if kind == 3 else f"49{chance.randrange(size):05}"
        user += str(chance.randrange(10**7))
        headers = {1: (("x-customer", f"c{number}"),), 4: (("x-account", account_name(number)),)}
        invite = world.invite(
            0, bridge_id=place, number=user, peer=f"peer{number}" if kind == 0 else "carrier"
        )
        address = f"{address_of(number)}:5060" if kind == 5 else "192.0.2.1:5060"
        invite = replace(
            invite,
            headers=headers.get(kind, ()),
            tls_name=f"sbc{number}.example" if kind == 2 else "",
            leg=replace(invite.leg, remote_address=address),
        )
        made.append(["InviteReceived", invite])
        accounts.append(account_name(min(number, size - 1)))
    return msgspec.msgpack.encode(made), accounts


class Times(NamedTuple):
    """Microseconds of this thread's own CPU time per INVITE, of one batch."""

    cold: float  # entries that nobody has asked for since long: they are fetched from memory
    warm: float  # the same ones once more, as those of customers who call all the time


def decision_times(sizes: Sequence[int]) -> dict[int, list[Times]]:
    """By size, round by round: in each round every size has its turn, so that what else the machine does
    meets them all."""
    chance = random.Random(1)
    given = {size: Given(policy_of(size), Load()) for size in sizes}
    times: dict[int, list[Times]] = {size: [] for size in sizes}
    gc.collect()
    gc.freeze()  # as the product does
    for _ in range(ROUNDS):
        for size in sizes:
            batch, accounts = invites(size, chance)
            times[size].append(
                Times(pass_us(batch, given[size], accounts), pass_us(batch, given[size], accounts))
            )
    return times


def pass_us(batch: bytes, given: Given, accounts: list[str]) -> float:
    begun_ns = time.thread_time_ns()
    calls = [open_call(CALL_ID, cast(InviteReceived, event), given)[0] for event in events_of(batch)[0]]
    took_ns = time.thread_time_ns() - begun_ns
    assert [call.account.name for call in calls] == accounts
    return took_ns / 1e3 / len(calls)


def longest_hold_ms(size: int) -> float:
    """The longest of a hundred changes of one account, and of one address block more."""
    policy, holds = policy_of(size), []
    for number in range(100):
        begun_ns = time.thread_time_ns()
        policy = policy.with_account(Account(name=f"more{number}", currency="EUR"))
        policy = policy.with_address(f"172.16.0.{number}", f"more{number}")
        holds.append((time.thread_time_ns() - begun_ns) / 1e6)
    return max(holds)


def write_settings(folder: Path, accounts: int) -> None:
    """Accounts on a few different terms, as customers are; the profile has rules for two of them."""
    terms = ("prepaid = true", "calls_max = 30", 'prepaid = true\ntax_rate = "0.19"')
    lines = [
        "[sip]",
        'profile = "demo"',
        *(f"[accounts.customer{n}]\n{terms[n % 3]}" for n in range(accounts)),
    ]
    (folder / "sidecar.toml").write_text("\n".join(lines))


async def fill(folder: Path, accounts: int) -> None:
    store = SqliteStore.open(folder, node="n1", boot_id="b1", clock=SystemClock())
    names = [
        AccountTerms(name=f"made{number}", currency="EUR", kind=AccountKind.PREPAID)
        for number in range(accounts)
    ]
    await store.accounts.take_over([(name, None) for name in names])
    await store.close()


def resident_mb() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20


class Start(msgspec.Struct):
    cpu_s: float
    mb: float


async def start(folder: Path) -> Start:
    """What a start does with the accounts of its settings and of its store, and what it keeps of them."""
    before_mb, begun_s = resident_mb(), time.process_time()
    loaded = load(inputs({}, {}, folder / "sidecar.toml"))
    store = SqliteStore.open(folder, node="n1", boot_id="b2", clock=SystemClock())
    policy = await with_stored_accounts(loaded.policy, store)
    del loaded
    gc.collect()
    found = Start(time.process_time() - begun_s, resident_mb() - before_mb)
    assert len(policy.accounts) > 1
    await store.close()
    return found


def started(folder: Path) -> Start:
    """In a process of its own, so that its memory is its own."""
    words = [sys.executable, "-m", "tests.bench_decision", "start", str(folder)]
    return msgspec.json.decode(subprocess.run(words, check=True, capture_output=True).stdout, type=Start)


def starts(many: int) -> dict[str, Start]:
    """Beside a start with one account."""
    with tempfile.TemporaryDirectory() as name:
        folders = {kind: Path(name, kind) for kind in ("one", "made by command", "in the settings")}
        for kind, folder in folders.items():
            folder.mkdir()
            write_settings(folder, many if kind == "in the settings" else 1)
            asyncio.run(fill(folder, many if kind == "made by command" else 1))
        found = {kind: started(folder) for kind, folder in folders.items()}
        found["in the settings, again"] = started(folders["in the settings"])
        one = found.pop("one")
        text = (folders["in the settings"] / "sidecar.toml").read_text()
    begun_s = time.process_time()
    tomllib.loads(text)
    print(f"{many:,} accounts: tomllib alone would need {time.process_time() - begun_s:.2f} s")
    return {kind: Start(start.cpu_s, start.mb - one.mb) for kind, start in found.items()}


def main(many: int) -> None:
    times = decision_times((*SIZES[:-1], many))
    for size, rounds in times.items():
        cold, warm = (median(us) for us in zip(*rounds, strict=True))
        print(f"INVITE to decision, {size:>7,} of each: cold {cold:5.1f} us, warm {warm:5.1f} us")
    pairs = list(zip(times[1], times[many], strict=True))
    tell("growth, cold", median(large.cold / small.cold for small, large in pairs), FLAT_MAX)
    tell("growth, warm", median(large.warm / small.warm for small, large in pairs), FLAT_MAX)
    tell("longest hold, ms", longest_hold_ms(many), HOLD_MS_MAX)
    for kind, one in starts(many).items():
        tell(f"start, accounts {kind}, s", one.cpu_s, START_S_MAX)
        tell(f"start, accounts {kind}, MB", one.mb, START_MB_MAX)


def tell(what: str, value: float, most: float) -> None:
    print(f"{what}: {value:.3g} (target: at most {most:g})")


if __name__ == "__main__":
    if sys.argv[1:2] == ["start"]:
        print(msgspec.json.encode(asyncio.run(start(Path(sys.argv[2])))).decode())
    else:
        main(int(sys.argv[1]) if sys.argv[1:] else SIZES[-1])
