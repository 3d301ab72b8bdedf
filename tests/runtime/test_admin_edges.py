"""Commands to a running node, field by field: what is shown is what is, and each condition is its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import pytest
import pytest_asyncio
from msgspec.structs import replace

from sidecar.core.audit import Operator
from sidecar.core.events import ByeReceived, RouteFailed
from sidecar.core.gateway_health import Health
from sidecar.core.policy import RouteRule, Routes
from sidecar.core.records import utc
from sidecar.core.registration import RegistrationState
from sidecar.core.rerate import rerate
from sidecar.core.tariff import Deck, Rate, per_minute_steps
from sidecar.core.terms import LegName, RouteFailure
from sidecar.ports import GatewayStatus
from sidecar.runtime import releasing
from sidecar.runtime.admin import Admin
from sidecar.wire.cdr_codec import decode_json
from sidecar.wire.control import CommandError, ErrorCode, Nothing
from sidecar.wire.control_accounts import AccountCreateParams, AccountShowParams, AccountTopupParams
from sidecar.wire.control_calls import CallListParams
from sidecar.wire.control_decks import DeckReloadParams
from sidecar.wire.control_node import AuditListParams, GatewayShown, NodeDrainParams, NodeReloadParams
from sidecar.wire.control_records import (
    CdrSearchParams,
    CdrShowParams,
    CdrTailParams,
    DeadLetterDropParams,
    DeadLetterListParams,
    DeadLetterShowParams,
    RerateApplyParams,
    Restated,
)
from tests.adapters.store_calls import terms_of
from tests.runtime.node_help import WALL_NS, Node, a_node

ANN = Operator("ann", 1000)
NOBODY = UUID(int=7)


@pytest_asyncio.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    async with a_node(tmp_path) as up:
        yield up


async def topped_up(node: Node, name: str = "prepaid", amount: str = "5") -> None:
    await node.admin.accounts.topup(AccountTopupParams(name=name, amount=amount, reference="first"), ANN)


# --- calls and gateways -------------------------------------------------------------------------------------


async def test_a_live_call_is_shown_as_it_is(node: Node) -> None:
    await topped_up(node, amount="0.04")
    node.calls.on_bridge_events([node.invite(90, "004490", "demo")])
    node.clock.pass_ms(500)
    await node.up("0044123", account="prepaid")
    node.clock.pass_ms(1_250)
    asked, talking = (await node.admin.call.list(CallListParams(), ANN)).calls
    [held] = (await node.admin.call.list(CallListParams(account="prepaid"), ANN)).calls
    assert held == talking
    assert (asked.talk_s, asked.answered_at, asked.invited_at) == (0, None, utc(WALL_NS))
    assert (asked.caller, asked.callee, asked.peer) == ("+4930123456", "004490", "local")
    assert (talking.talk_s, talking.account, talking.gateway) == (1.25, "prepaid", "next_hop")
    assert talking.invited_at == talking.answered_at == utc(WALL_NS + 500_000_000)
    call = node.calls.find(talking.call_id)
    assert call is not None
    assert talking.granted_s == call.granted_s is not None


async def test_a_call_is_shown_at_the_gateway_that_it_is_at_now_and_since_its_answer(node: Node) -> None:
    policy = node.calls.policy
    gateways = {**policy.gateways, "second": replace(policy.gateways["next_hop"], name="second")}
    routes = Routes([RouteRule(prefix="", gateways=("next_hop", "second"))])
    node.calls.policies.change(lambda before: replace(before, gateways=gateways, routes=routes))
    node.calls.on_bridge_events([node.invite(1, "0044123", "demo")])
    await node.until(lambda: bool(node.bridge.sent))
    stamps: dict[str, Any] = {"mono_ns": node.clock.mono_ns(), "wall_ns": node.clock.wall_ns()}
    failed = RouteFailed(bridge_id=1, attempt=1, cause=RouteFailure.FINAL_RESPONSE, sip_code=503, **stamps)
    node.calls.on_bridge_events([failed])
    [shown] = (await node.admin.call.list(CallListParams(), ANN)).calls
    assert (shown.gateway, shown.answered_at, shown.talk_s) == ("second", None, 0)


GATEWAY = GatewayStatus(
    gateway="next_hop",
    health=Health.DOWN,
    since_wall_ns=WALL_NS,
    is_probed=True,
    answer="503",
    probe_ms=1.23456,
    probes=9,
    probes_failed=4,
    registration=RegistrationState.REGISTERED,
    registered_until_wall_ns=WALL_NS + 7_000_000_000,
    register_answer="200",
)


async def test_a_gateway_is_shown_with_what_its_watch_says(node: Node) -> None:
    gateway = replace(node.calls.policy.gateways["next_hop"], calls_max=30)
    far = replace(gateway, name="far", host="2001:db8::1", port=5070, calls_max=None)
    gateways = {"next_hop": gateway, "far": far}
    node.calls.policies.change(lambda before: replace(before, gateways=gateways))
    node.gateways = [GATEWAY]
    await node.up()
    watched, unwatched = (await node.admin.node_gateways(Nothing(), ANN)).gateways
    assert watched == GatewayShown(
        gateway="next_hop",
        address="127.0.0.1:5090",
        transport="udp",
        state="down",
        since=utc(WALL_NS),
        calls=1,
        calls_max=30,
        probed=True,
        probe_answer="503",
        probe_ms=1.235,
        probes=9,
        probes_failed=4,
        registration="registered",
        register_answer="200",
        registered_until=utc(WALL_NS + 7_000_000_000),
    )
    assert unwatched == GatewayShown(
        gateway="far",
        address="[2001:db8::1]:5070",
        transport="udp",
        state="unknown",
        since=None,
        calls=0,
        calls_max=None,
        probed=False,
        probe_answer="",
        probe_ms=None,
        probes=0,
        probes_failed=0,
        registration=None,
        register_answer="",
        registered_until=None,
    )


@pytest.mark.parametrize("release", [True, False])
async def test_a_drain_is_noted_with_whether_it_released(node: Node, release: bool) -> None:
    await node.admin.node_drain(NodeDrainParams(operator="ann"), ANN)
    await node.admin.node_drain(NodeDrainParams(operator="ann", release=release), ANN)
    notes = (await node.admin.audit_list(AuditListParams(), ANN)).entries
    befores = [msgspec.json.decode(bytes(note.before))["state"] for note in notes]
    afters = [msgspec.json.decode(bytes(note.after))["release"] for note in notes]
    assert (befores, afters) == (["accepting", "drain"], [False, release])


async def test_a_drain_that_nobody_waits_for_any_more_releases_all(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(releasing, "CALLS_PER_TURN", 1)
    monkeypatch.setattr(releasing, "RELEASED_PER_S", 10**9)
    for _ in range(4):
        await node.up()
    asked = NodeDrainParams(operator="ann", release=True)
    async with asyncio.TaskGroup() as asking:
        drain = asking.create_task(node.admin.node_drain(asked, ANN), name="drain")
        while len(node.calls.live()) == 4:  # noqa: ASYNC110
            await asyncio.sleep(0)
        drain.cancel()
    for _ in range(10):
        await asyncio.sleep(0)
    assert node.calls.live() == []


# --- settings and decks -------------------------------------------------------------------------------------


async def test_what_is_wrong_is_told_up_to_ten_times(node: Node) -> None:
    errors = [f"line {number}: wrong" for number in range(1, 13)]
    node.settings = errors
    node.read_deck = lambda _: errors
    for refused_by in (
        node.admin.node_reload(NodeReloadParams(operator="ann"), ANN),
        node.admin.decks.reload(DeckReloadParams(name="demo"), ANN),
    ):
        with pytest.raises(CommandError) as refused:
            await refused_by
        assert str(refused.value).split("; ") == errors[:10]


async def test_a_node_without_decks_of_its_own_says_so(node: Node) -> None:
    store = node.store
    plain = Admin(
        calls=node.calls,
        accounts=store.accounts,
        audit=store.audit,
        suspense=store.suspense,
        retention=store.retention,
        records=store.records,
        revisions=store.revisions,
        clock=node.clock,
        status=lambda: node.admin.node_status(Nothing(), ANN),
        dead_letters=store.outbox,
        read_again=lambda: None,
        gateways=list,
        reloading=node.reloading,
    )
    with pytest.raises(CommandError, match="only when it starts") as refused:
        await plain.decks.reload(DeckReloadParams(name="demo"), ANN)
    assert refused.value.code is ErrorCode.REFUSED


async def test_a_deck_is_taken_over_where_none_was_and_noted_where_it_is_another(node: Node) -> None:
    rate = Rate(prefix="", currency="EUR", steps=per_minute_steps(Decimal(1), 1, 1))
    asked = DeckReloadParams(name="new")
    for deck in (Deck("first", []), Deck("first", [rate]), Deck("second", [rate])):
        node.decks["new"] = deck
        taken = await node.admin.decks.reload(asked, ANN)
        assert (taken.revision, taken.rates) == (deck.revision, len(deck))
    notes = (await node.admin.audit_list(AuditListParams(), ANN)).entries
    assert [(bytes(note.before), bytes(note.after)) for note in notes] == [
        (b"null", b'{"rates":0,"revision":"first"}'),
        (b'{"rates":0,"revision":"first"}', b'{"rates":1,"revision":"second"}'),
    ]


# --- accounts -----------------------------------------------------------------------------------------------


async def test_an_account_that_only_the_store_knows_keeps_its_terms(node: Node) -> None:
    for name, currency, prepaid in (("other", "CHF", False), ("stored", "USD", True)):
        await node.store.accounts.create(terms_of(name, currency, prepaid))
    shown = await node.admin.accounts.show(AccountShowParams(name="stored"), ANN)
    assert (shown.name, shown.currency, shown.kind) == ("stored", "USD", "prepaid")
    await topped_up(node, "stored")
    shown = await node.admin.accounts.show(AccountShowParams(name="stored"), ANN)
    assert [(one.amount, one.currency) for one in shown.balances] == [("5", "USD")]


async def test_an_account_is_made_in_the_currency_that_was_asked_for(node: Node) -> None:
    made = await node.admin.accounts.create(AccountCreateParams(name="acme", currency="USD"), ANN)
    assert made.currency == node.calls.policy.accounts["acme"].currency == "USD"


async def test_movements_are_shown_with_what_was_moved_and_what_was_left(node: Node) -> None:
    await topped_up(node)
    node.clock.pass_ms(1_000)
    more = AccountTopupParams(name="prepaid", amount="2.5", reference="second")
    await node.admin.accounts.topup(more, ANN)
    call_id = await node.whole(account="prepaid")
    shown = await node.admin.accounts.show(AccountShowParams(name="prepaid", movements=5), ANN)
    charge, *_, second, first = shown.movements
    assert [(one.kind, one.amount, one.balance, one.currency, one.reference) for one in (first, second)] == [
        ("top_up", "5", "5", "EUR", "first"),
        ("top_up", "2.5", "7.5", "EUR", "second"),
    ]
    assert (second.booked_at - first.booked_at).total_seconds() == 1
    assert (first.booked_at, first.call_id) == (utc(WALL_NS), None)
    assert (charge.call_id, charge.reference, charge.balance) == (str(call_id), None, "7.470000")
    [last] = (await node.admin.accounts.show(AccountShowParams(name="prepaid", movements=1), ANN)).movements
    assert last == charge


# --- dead letters and audit ---------------------------------------------------------------------------------


async def test_a_dead_letter_is_shown_with_what_the_broker_said_and_its_size(node: Node) -> None:
    await node.whole()
    [row] = await node.store.outbox.pending(0, 9)
    node.clock.pass_ms(9_000)
    now = utc(node.clock.wall_ns())
    await node.store.outbox.acknowledge([], [(1, 0x95)])
    [letter] = (await node.admin.dead_letters.list(DeadLetterListParams(), ANN)).letters
    assert (letter.died_at, letter.reason_code, letter.bytes) == (now, 0x95, len(row.payload))
    assert letter.reason == (await node.store.outbox.dead_letters())[0].reason_name != ""
    for missing in (DeadLetterShowParams(seq=2), DeadLetterShowParams(seq=1_000)):
        with pytest.raises(CommandError) as refused:
            await node.admin.dead_letters.show(missing, ANN)
        assert refused.value.code is ErrorCode.NOT_FOUND


async def test_a_letter_that_is_not_dead_is_not_shown_for_the_next(node: Node) -> None:
    for _ in range(2):
        await node.whole()
    await node.store.outbox.acknowledge([], [(2, 0x95)])
    with pytest.raises(CommandError, match="1 is no dead letter"):
        await node.admin.dead_letters.show(DeadLetterShowParams(seq=1), ANN)


async def test_dead_letters_that_are_dropped_are_noted_with_their_numbers_and_why(node: Node) -> None:
    for _ in range(3):
        await node.whole()
    await node.store.outbox.acknowledge([], [(seq, 0x95) for seq in (1, 2, 3)])
    drop = DeadLetterDropParams(operator="ann", text="too large", seqs=(1, 3))
    assert (await node.admin.dead_letters.drop(drop, ANN)).count == 2
    assert node.read_again == 0
    [note] = (await node.admin.audit_list(AuditListParams(), ANN)).entries
    assert (note.action, note.subject, note.text) == ("dead-letter.drop", "1 3", "too large")
    assert note.at == utc(node.clock.wall_ns())


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({"by": "ann"}, ["acme"]),
        ({"by": "nobody"}, []),
        ({"uid": 7}, ["other"]),
        ({"uid": 8}, []),
        ({"action": "account.create"}, ["acme", "other"]),
        ({"action": "node.drain"}, []),
        ({"subject": "other"}, ["other"]),
        ({"by": "bob", "subject": "acme"}, []),
        ({"after_entry": 1}, ["other"]),
    ],
)
async def test_changes_are_found_by_each_condition(
    node: Node, wanted: dict[str, Any], found: list[str]
) -> None:
    await node.admin.accounts.create(AccountCreateParams(name="acme"), ANN)
    await node.admin.accounts.create(AccountCreateParams(name="other"), Operator("bob", 7))
    listed = await node.admin.audit_list(AuditListParams(**wanted), ANN)
    assert [entry.subject for entry in listed.entries] == found


# --- rating again -------------------------------------------------------------------------------------------


async def priced(node: Node, call_id: UUID, per_minute: str) -> Restated:
    cdr = (await node.store.records.show(str(call_id)))[-1]
    rate = Rate(prefix="", currency="EUR", steps=per_minute_steps(Decimal(per_minute), 1, 1))
    found = rerate(cdr, Deck(f"at {per_minute}", [rate]), None)
    assert found is not None
    return Restated(call_id=call_id, revision=cdr.revision, charge=found.after)


async def restated(node: Node, *calls: Restated) -> list[str]:
    asked = RerateApplyParams(operator="ann", text="wrong deck", calls=calls)
    return [outcome.value for outcome in (await node.admin.records.rerate(asked, ANN)).outcomes]


async def test_each_of_several_calls_gets_its_own_outcome(node: Node) -> None:
    whole = [await node.whole() for _ in range(2)]
    first, second = [await priced(node, call_id, "1.2") for call_id in whole]
    up = await node.up()
    assert await restated(node, first) == ["revised"]
    again = await restated(node, first, replace(first, call_id=up), replace(second, revision=1), second)
    assert again == ["changed", "busy", "changed", "revised"]


async def test_a_second_revision_begins_with_the_first(node: Node) -> None:
    call_id = await node.whole()
    assert await restated(node, await priced(node, call_id, "1.2")) == ["revised"]
    assert await restated(node, await priced(node, call_id, "2.4")) == ["revised"]
    records = [
        decode_json(bytes(one))
        for one in (await node.admin.records.queries.show(CdrShowParams(call_id=call_id), ANN)).records
    ]
    assert [cdr.revision for cdr in records] == [0, 1, 2]
    assert [(cdr.revised_by, cdr.revised_text) for cdr in records[1:]] == [("ann", "wrong deck")] * 2
    notes = (await node.admin.audit_list(AuditListParams(), ANN)).entries
    told = [
        (msgspec.json.decode(bytes(note.before)), msgspec.json.decode(bytes(note.after))) for note in notes
    ]
    assert [(before["revision"], after["revision"]) for before, after in told] == [(0, 1), (1, 2)]
    assert [(before["total"], after["total"]) for before, after in told] == [
        ("0.030000", "0.060000"),
        ("0.060000", "0.120000"),
    ]
    shown = await node.admin.accounts.show(AccountShowParams(name="demo"), ANN)
    assert [one.amount for one in shown.balances] == ["-0.120000"]


# --- records ------------------------------------------------------------------------------------------------


async def test_a_call_that_is_ending_is_not_said_to_be_up(node: Node) -> None:
    call_id = await node.up()
    node.calls.on_bridge_events(
        [
            ByeReceived(
                bridge_id=1,
                leg_name=LegName.A,
                mono_ns=node.clock.mono_ns(),
                wall_ns=node.clock.wall_ns(),
            )
        ]
    )
    with pytest.raises(CommandError, match="cdr search") as refused:
        await node.admin.records.queries.show(CdrShowParams(call_id=call_id), ANN)
    assert refused.value.code is ErrorCode.NOT_FOUND


async def test_a_tail_longer_than_what_there_is_begins_at_the_first(node: Node) -> None:
    calls = [await node.whole() for _ in range(3)]
    tail = await node.admin.records.queries.tail(CdrTailParams(limit=50), ANN)
    assert [decode_json(bytes(one)).call_id for one in tail.records] == calls
    assert tail.next_seq == 3


@pytest.mark.parametrize("bound", ["charge_min", "charge_max"])
async def test_an_amount_without_a_currency_is_no_condition(node: Node, bound: str) -> None:
    with pytest.raises(CommandError, match="need a currency") as refused:
        await node.admin.records.queries.search(CdrSearchParams(**{bound: "1"}), ANN)  # type: ignore[arg-type]
    assert refused.value.code is ErrorCode.INVALID_PARAMS


@pytest.mark.parametrize(
    ("wanted", "talked_ms"),
    [
        ({"currency": "EUR"}, [4_800, 2_400]),
        ({"currency": "USD"}, []),
        ({"currency": "EUR", "charge_min": "0.04"}, [4_800]),
        ({"currency": "EUR", "charge_max": "0.04"}, [2_400]),
        ({"currency": "EUR", "charge_min": "0.03", "charge_max": "0.05"}, [4_800, 2_400]),
        ({"currency": "EUR", "charge_min": "0.031", "charge_max": "0.049"}, []),
    ],
)
async def test_calls_are_found_by_what_they_cost(
    node: Node, wanted: dict[str, str], talked_ms: list[int]
) -> None:
    for talk_ms in (2_400, 4_800):
        await node.whole(talk_ms=talk_ms)
    found = await node.admin.records.queries.search(msgspec.convert(wanted, CdrSearchParams), ANN)
    assert [decode_json(bytes(one)).talk_ms for one in found.records] == talked_ms
