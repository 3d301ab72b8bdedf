"""The reload beside calls, on a node with its real store; the test plays the SIP side."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from sidecar.config import load
from sidecar.core.account_terms import AccountKind
from sidecar.core.audit import Operator
from sidecar.core.call import Call
from sidecar.core.commands import Snapshot
from sidecar.core.events import SnapshotTaken
from sidecar.core.policy import Account, Policy
from sidecar.core.stored import StoredEntry
from sidecar.runtime.releasing import release_live
from sidecar.runtime.reload import BadSettingsError, Reading
from sidecar.wiring.files import inputs
from sidecar.wiring.reload import Reader
from tests.runtime.node_help import Node, a_node

PROFILES = Path(__file__).parents[2] / "sip_profiles"
ANN = Operator("ann", 0)


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    async with a_node(tmp_path) as node:
        yield node


def reads(node: Node, policy: Policy, text: str = "1") -> None:
    """What the settings say now."""
    node.settings = Reading(policy=policy, plain={"node.calls_max": text})


def invites(node: Node, number: int, peer: str = "local") -> None:
    node.calls.on_bridge_events([replace(node.invite(number, "004412345678", "demo"), peer=peer)])


def snapshot(node: Node) -> SnapshotTaken:
    return SnapshotTaken(
        bridge_ids=frozenset(call.bridge_id for call in node.calls.live()),
        mono_ns=node.clock.mono_ns(),
        wall_ns=node.clock.wall_ns(),
    )


def calls(node: Node) -> dict[int, Call]:
    return {call.bridge_id: call for call in node.calls.live()}


async def until_told(node: Node) -> None:
    """Until the SIP side was asked to say when it is in force."""
    while not any(isinstance(one, Snapshot) for one in node.bridge.sent):  # noqa: ASYNC110
        await asyncio.sleep(0)


async def test_a_call_is_of_the_settings_that_the_sip_side_let_it_in_by(node: Node) -> None:
    node.beside.has_news = True
    policy = node.reloading.in_force.policy
    reads(node, replace(policy, peers={**policy.peers, "new": replace(policy.peers["local"], name="new")}))
    async with asyncio.TaskGroup() as tasks:
        asked = tasks.create_task(node.reloading.reload(ANN), name="reload")
        await until_told(node)
        invites(node, 1)
        assert calls(node)[1].settings_revision is None
        node.calls.on_bridge_events([snapshot(node)])
        invites(node, 2)
    assert asked.result().revision == calls(node)[2].settings_revision == 2
    assert node.beside.told[0].startswith("put in force")
    assert node.beside.told[1].startswith("took over")


async def test_a_call_of_a_new_peer_is_of_the_new_settings_before_the_sip_side_has_said_so(
    node: Node,
) -> None:
    node.beside.has_news = True
    policy = node.reloading.in_force.policy
    reads(node, replace(policy, peers={**policy.peers, "new": replace(policy.peers["local"], name="new")}))
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(node.reloading.reload(ANN), name="reload")
        await until_told(node)
        invites(node, 1, peer="new")
    assert calls(node)[1].settings_revision == 2


async def test_calls_that_are_up_keep_what_they_began_with_until_they_are_over(node: Node) -> None:
    policy = node.reloading.in_force.policy
    await node.up()
    [gateway] = {call.attempts[-1].gateway for call in node.calls.live()}
    other = replace(policy.gateways[gateway], name="other")
    routes = type(policy.routes)(replace(rule, gateways=("other",)) for rule in policy.routes)
    reads(node, replace(policy, gateways={"other": other}, routes=routes))
    await node.reloading.reload(ANN)
    policies = node.calls.policies
    assert policies.of(next(iter(node.calls._calls))).policy.gateways.keys() == policy.gateways.keys()
    assert len(policies.earlier) == 1
    await node.up()
    assert calls(node)[2].attempts[-1].gateway == "other"
    policies.change(lambda now: now.with_account(Account(name="late", currency="EUR")))
    assert all("late" in one.given.policy.accounts for one in (*policies.earlier, policies.now))
    await release_live(node.calls, "ann", "")
    await node.closed(1)
    for call in [*node.calls._calls.values()]:
        node.calls._forget(call)
    assert len(policies.earlier) == 0


async def test_accounts_that_may_have_no_call_any_more_have_none(node: Node) -> None:
    policy = node.reloading.in_force.policy
    await node.up()
    closed = replace(policy.accounts["demo"], enabled=False)
    reads(node, replace(policy, accounts=policy.accounts.plus("demo", closed)))
    done = await node.reloading.reload(ANN)
    assert (done.account_terms, done.calls_ended, node.calls.live()) == (1, 1, [])
    [stored] = await node.store.accounts.stored("demo")
    assert not stored.enabled
    noted = [(one.change.action, one.change.subject) for one in await node.store.audit.list()]
    assert noted == [("account.set", "demo"), ("node.reload", "box")]


async def test_what_a_command_changes_while_it_is_read_is_in_force_too(node: Node) -> None:
    policy = node.reloading.in_force.policy
    reads(node, policy)
    found = node.settings
    late = Account(name="late", currency="EUR", kind=AccountKind.PREPAID)
    loop = asyncio.get_running_loop()

    def slow() -> Reading | list[str]:
        asyncio.run_coroutine_threadsafe(change(), loop).result()
        return found

    async def change() -> None:
        node.calls.policies.change(lambda now: now.with_account(late))

    await node.reloading.reload(ANN, read=slow)
    assert node.calls.policy.accounts["late"] == late
    assert node.calls.policy.settings_revision == 2


async def test_one_comes_after_the_other_and_is_whole_whoever_waits_for_it(node: Node) -> None:
    node.beside.has_news = True
    policy = node.reloading.in_force.policy
    reads(node, policy)
    first = asyncio.get_running_loop().create_task(node.reloading.reload(ANN), name="first")
    await until_told(node)
    first.cancel()
    second = asyncio.get_running_loop().create_task(node.reloading.reload(ANN), name="second")
    await asyncio.gather(first, return_exceptions=True)
    assert node.calls.policy.settings_revision is None
    assert not second.done()
    node.calls.on_bridge_events([snapshot(node)])
    assert (await second).revision is None, "there was nothing left to change"
    assert node.calls.policy.settings_revision == 2


async def test_what_is_wrong_leaves_all_as_it_was(node: Node) -> None:
    before, in_force = node.calls.policy, node.reloading.in_force
    policy = in_force.policy
    dollars = replace(policy.accounts["demo"], currency="USD")
    node.settings = Reading(policy=replace(policy, accounts=policy.accounts.plus("demo", dollars)))
    with pytest.raises(BadSettingsError, match="is kept in EUR, and cannot change to USD"):
        await node.reloading.reload(ANN)
    reads(node, policy)
    node.settings = Reading(
        policy=policy, plain={"node.name": "other"}, at_start=frozenset({"node.name", "node.tenant"})
    )
    done = await node.reloading.reload(ANN)
    assert (done.needs_restart, done.revision) == (["node.name"], None)
    assert (node.calls.policy, node.reloading.in_force) == (before, in_force)
    assert await node.store.audit.list() == ()


async def test_passwords_are_compared_and_never_shown(node: Node) -> None:
    policy = node.reloading.in_force.policy
    done = []
    for word in ("secret", "geheim"):
        node.settings = Reading(policy=policy, passwords={"gateways.west.password_file": word})
        done.append(await node.reloading.reload(ANN))
        assert word not in repr((done, node.settings))
    [one] = done[-1].differences
    assert str(one) == "~ gateways.west.password_file: one password -> another one"


def test_a_file_that_changes_while_it_is_read_is_read_again(tmp_path: Path) -> None:
    file = tmp_path / "profile.toml"
    whole = (PROFILES / "demo.toml").read_text()
    file.write_text(whole[: whole.index("[accounts.prepaid]")] + "# half of it\n")
    rest = ["", whole]

    def written_meanwhile(_: object) -> tuple[StoredEntry, ...]:
        if rest and (text := rest.pop(0)):
            file.write_text(text)
        return ()

    given = inputs({"sip.profile": str(file), "node.data_dir": str(tmp_path)}, {}, None)
    given = replace(given, system_file=tmp_path / "none.toml", read_stored=written_meanwhile)
    file.write_text(whole[: whole.index("[[account_rules]]")])
    loaded = load(given)
    found = Reader(given, loaded).read()
    assert isinstance(found, Reading)
    assert len(list(found.policy.account_rules)) > len(list(loaded.policy.account_rules))
    file.write_text("[sip\n")
    assert Reader(given, loaded).read() == [
        f"{file}:1: not TOML: Expected ']' at the end of a table declaration, column 5"
    ]


def test_a_file_that_never_stands_still_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "profile.toml"
    file.write_text((PROFILES / "demo.toml").read_text())

    def written_again(_: object) -> tuple[StoredEntry, ...]:
        file.write_text(file.read_text() + "#\n")
        return ()

    given = inputs({"sip.profile": str(file), "node.data_dir": str(tmp_path)}, {}, None)
    given = replace(given, system_file=tmp_path / "none.toml", read_stored=written_again)
    assert Reader(given, load(given)).read() == [f"{file}: is being written"]
