"""What people ask of a node, on the real store and the real table of calls."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from datetime import timedelta
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any, get_type_hints
from uuid import UUID

import msgspec
import pytest
from msgspec.structs import replace

from sidecar.adapters.deck_files import read_deck
from sidecar.core.account_rules import AccountFrom, AccountRule, AccountRules
from sidecar.core.account_terms import AccountKind
from sidecar.core.audit import Change, Operator
from sidecar.core.commands import Reject, Release
from sidecar.core.margin import ExchangeRate, ExchangeTable
from sidecar.core.records import utc
from sidecar.core.rerate import rerate
from sidecar.core.screening import NumberLists, Screening
from sidecar.core.tariff import Deck, Rate, per_minute_steps
from sidecar.core.terms import ChargeSide, Detail, Disposition, HangupOrigin, ServerReason
from sidecar.ports import UnavailableError
from sidecar.runtime import block_commands
from sidecar.runtime.admin import Admin
from sidecar.runtime.block_commands import blocks_of
from sidecar.runtime.releasing import release_live, release_where
from sidecar.runtime.reload import Reading
from sidecar.wire.cdr_codec import decode_json
from sidecar.wire.control import CommandError, ErrorCode, Nothing
from sidecar.wire.control_accounts import (
    AccountAddressParams,
    AccountCreateParams,
    AccountShown,
    AccountShowParams,
    AccountTopupParams,
)
from sidecar.wire.control_calls import CallListParams, CallReleaseParams
from sidecar.wire.control_decks import DeckReloadParams
from sidecar.wire.control_node import (
    AuditListParams,
    NodeAcceptParams,
    NodeDrained,
    NodeDrainParams,
    NodeReloaded,
    NodeReloadParams,
)
from sidecar.wire.control_policy import PolicyBlockParams, PolicyUnblockParams
from sidecar.wire.control_records import (
    CdrSearchParams,
    CdrShowParams,
    CdrTailParams,
    DeadLetterDropParams,
    DeadLetterListParams,
    DeadLetterRetryParams,
    DeadLetterShowParams,
    RerateApplyParams,
    Restated,
)
from sidecar.wire.methods import METHODS
from tests.adapters.sqlite_faulty_disk import FULL, Disk, faulty_disk
from tests.rig.node import until
from tests.runtime.node_help import WALL_NS, Node, a_node, each_turn

NOBODY = UUID(int=7)
ANN = Operator("ann", 1000)


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    async with a_node(tmp_path) as node:
        yield node


def balances(shown: AccountShown) -> list[tuple[str, str]]:
    return [(one.amount, one.currency) for one in shown.balances]


# --- calls --------------------------------------------------------------------------------------------------


async def test_live_calls_are_listed_the_oldest_first_with_their_talk_time(node: Node) -> None:
    first = await node.up("0044123")
    node.clock.pass_ms(1_500)
    second = await node.up("0044456")
    node.clock.pass_ms(250)
    found = await node.admin.call.list(CallListParams(), ANN)
    assert found.total == 2
    assert [(call.call_id, call.callee, call.talk_s) for call in found.calls] == [
        (first, "0044123", 1.75),
        (second, "0044456", 0.25),
    ]
    assert {(call.phase, call.account, call.gateway) for call in found.calls} == {
        ("talking", "demo", "next_hop")
    }


async def test_a_list_is_bounded_and_says_how_many_there_are(node: Node) -> None:
    for number in range(3):
        await node.up(f"004412{number}")
    found = await node.admin.call.list(CallListParams(limit=2), ANN)
    assert (found.total, len(found.calls)) == (3, 2)
    assert (await node.admin.call.list(CallListParams(account="nobody"), ANN)).total == 0
    rest = await node.admin.call.list(CallListParams(after=found.calls[-1].call_id, limit=2), ANN)
    assert rest.total == found.total - 2
    assert not {one.call_id for one in rest.calls} & {one.call_id for one in found.calls}
    with_conditions = CallListParams(after=found.calls[0].call_id, account="demo", limit=1)
    assert (await node.admin.call.list(with_conditions, ANN)).calls == found.calls[1:]


async def test_a_released_call_ends_as_admin_operator_with_his_name_and_reason(node: Node) -> None:
    call_id = await node.up()
    node.clock.pass_ms(3_000)
    await node.admin.call.release(CallReleaseParams(call_id=call_id, operator="ann", text="fraud"), ANN)
    assert [one for one in node.bridge.sent if isinstance(one, Release)] == [
        Release(bridge_id=1, sip_code=480, q850_cause=31, text="operator")
    ]
    await node.closed(1)
    [record] = (await node.admin.records.queries.show(CdrShowParams(call_id=call_id), ANN)).records
    cdr = decode_json(bytes(record))
    assert (cdr.hangup_origin, cdr.server_reason, cdr.detail) == (
        HangupOrigin.SERVER,
        ServerReason.ADMIN,
        Detail.OPERATOR,
    )
    assert (cdr.operator, cdr.operator_text) == ("ann", "fraud")


async def test_a_call_that_is_not_up_cannot_be_released(node: Node) -> None:
    call_id = await node.whole()
    for gone in (call_id, NOBODY):
        with pytest.raises(CommandError, match="not up") as refused:
            await node.admin.call.release(CallReleaseParams(call_id=gone, operator="ann"), ANN)
        assert refused.value.code is ErrorCode.NOT_FOUND


async def test_all_calls_of_an_account_are_ended_with_one_entry_in_the_audit_table(node: Node) -> None:
    mine = {await node.up(f"00441{number}") for number in range(3)}
    await node.admin.accounts.topup(AccountTopupParams(name="prepaid", amount="5", reference="1"), ANN)
    other = await node.up(account="prepaid")
    wanted = CallReleaseParams(account="demo", callee="4419*", operator="ann", text="x")
    none = await node.admin.call.release(wanted, ANN)
    assert (none.released, none.count) == (False, 0)
    wanted = CallReleaseParams(account="demo", operator="ann", text="hacked")
    listed = await node.admin.call.list(CallListParams(account="demo", callee="00441*"), ANN)
    assert {call.call_id for call in listed.calls} == mine
    assert (await node.admin.call.release(wanted, ANN)).count == listed.total == 3
    assert [call.call_id for call in node.calls.live()] == [other]
    for number in (1, 2, 3):
        await node.closed(number)
    for call_id in mine:
        [record] = (await node.admin.records.queries.show(CdrShowParams(call_id=call_id), ANN)).records
        cdr = decode_json(bytes(record))
        assert (cdr.detail, cdr.operator, cdr.operator_text) == (Detail.OPERATOR, "ann", "hacked")
    noted = (await node.admin.audit_list(AuditListParams(subject="account=demo"), ANN)).entries
    assert [(note.action, note.text, bytes(note.before)) for note in noted] == [
        ("call.release", "hacked", b'{"calls":3}')
    ]


@pytest.mark.parametrize("given", [{}, {"call_id": NOBODY, "account": "demo"}])
async def test_what_is_released_is_one_call_or_those_of_a_condition(
    node: Node, given: dict[str, Any]
) -> None:
    with pytest.raises(CommandError, match="either") as refused:
        await node.admin.call.release(CallReleaseParams(operator="ann", **given), ANN)
    assert refused.value.code is ErrorCode.INVALID_PARAMS


def blocking(number: str) -> PolicyBlockParams:
    return PolicyBlockParams(number=number, operator="ann", text="fraud wave")


async def test_a_number_that_is_blocked_ends_its_calls_and_stays_blocked(node: Node) -> None:
    hit, other = await node.up("00449001"), await node.up("0049301")
    blocked = await node.admin.blocks.block(blocking("+0044900*"), ANN)
    assert (blocked.number, blocked.ended) == ("0044900*", 1)
    assert [call.call_id for call in node.calls.live()] == [other]
    await node.closed(1)
    [record] = (await node.admin.records.queries.show(CdrShowParams(call_id=hit), ANN)).records
    cdr = decode_json(bytes(record))
    assert (cdr.detail, cdr.rule, cdr.disposition) == (
        Detail.NUMBER_BLOCKED,
        "block 0044900*",
        Disposition.ANSWERED,
    )
    node.calls.on_bridge_events([node.invite(9, "00449002", "demo")])
    refused = [one for one in node.bridge.sent if isinstance(one, Reject)]
    assert [(one.sip_code, one.text) for one in refused] == [(403, "number_blocked")]
    assert await blocks_of(node.store.audit) == {"0044900*"}, "what a start finds"
    wanted = PolicyUnblockParams(number="0044900*", operator="ann", text="over")
    await node.admin.blocks.unblock(wanted, ANN)
    assert await blocks_of(node.store.audit) == node.calls.policy.blocks == frozenset()
    await node.admin.blocks.block(blocking("0044900*"), ANN)
    assert (await node.admin.blocks.list(Nothing(), ANN)).blocks == ("0044900*",)
    assert await blocks_of(node.store.audit) == {"0044900*"}


def _has_blocks(node: Node, blocks: set[str]) -> bool:
    return node.calls.policy.blocks == blocks


async def test_what_another_node_has_blocked_and_unblocked_is_so_here(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(block_commands, "FOLLOW_S", 0.005)
    await node.up("00449001")
    other = await node.up("0049301")
    await node.admin.blocks.block(blocking("0044111"), ANN)
    async with asyncio.TaskGroup() as tasks:
        following = tasks.create_task(node.admin.blocks.follow(), name="blocks")
        for action, patterns, blocked in (
            ("policy.block", ("0044900*", "0033*"), {"0044111", "0044900*", "0033*"}),
            ("policy.unblock", ("0044111", "0033*"), {"0044900*"}),
            ("policy.block", ("0033*",), {"0044900*", "0033*"}),
        ):
            for pattern in patterns:
                change = Change(operator=ANN, action=action, subject=pattern, text="told elsewhere")
                await node.store.audit.write(change)
            await until(partial(_has_blocks, node, blocked))
        await until(lambda: [call.call_id for call in node.calls.live()] == [other])
        following.cancel()
    await node.closed(1)


async def test_what_cannot_be_blocked_or_unblocked_is_refused(node: Node) -> None:
    node.calls.policies.change(lambda policy: replace(policy, emergency_numbers=frozenset({"112"})))
    with pytest.raises(CommandError, match="emergency"):
        await node.admin.blocks.block(blocking("112"), ANN)
    with pytest.raises(CommandError, match="not blocked by command"):
        await node.admin.blocks.unblock(PolicyUnblockParams(number="1", operator="a", text="b"), ANN)
    assert node.calls.policy.blocks == frozenset()


async def test_rules_that_are_read_again_end_the_calls_that_they_forbid(node: Node) -> None:
    await node.up("00449001")
    kept = await node.up("0049301")
    policy = node.calls.policy
    screenings = {"demo": Screening(numbers=NumberLists(blocked=frozenset({"0044*"})))}
    node.settings = Reading(policy=replace(policy, screenings=screenings))
    reloaded = await node.admin.node_reload(NodeReloadParams(operator="ann"), ANN)
    assert reloaded.calls_ended == 1
    assert [call.call_id for call in node.calls.live()] == [kept]
    [noted] = (await node.admin.audit_list(AuditListParams(action="node.reload"), ANN)).entries
    after = msgspec.json.decode(bytes(noted.after))
    assert after["changed"] == ["~ accounts.demo.numbers: {} -> {blocked [0044*]}"]


async def test_drain_refuses_new_calls_and_lets_live_ones_go_on(node: Node) -> None:
    await node.up()
    drained = await node.admin.node_drain(NodeDrainParams(operator="ann"), ANN)
    assert (drained.live, drained.released) == (1, 0)
    assert node.bridge.accepting == "drain"
    assert len(node.calls.live()) == 1
    status = await node.admin.node_status(Nothing(), ANN)
    assert (status.state, status.calls) == ("drain", 1)


async def test_drain_with_release_ends_the_live_calls_as_drain(node: Node) -> None:
    call_id = await node.up()
    drained = await node.admin.node_drain(NodeDrainParams(operator="ann", release=True, text="upgrade"), ANN)
    assert (drained.live, drained.released) == (1, 1)
    await node.closed(1)
    [record] = (await node.admin.records.queries.show(CdrShowParams(call_id=call_id), ANN)).records
    cdr = decode_json(bytes(record))
    assert (cdr.detail, cdr.operator, cdr.operator_text) == (Detail.DRAIN, "ann", "upgrade")


async def test_a_drain_is_undone_and_the_next_call_is_taken(node: Node) -> None:
    await node.admin.node_drain(NodeDrainParams(operator="ann"), ANN)
    accepts = await node.admin.node_accept(NodeAcceptParams(operator="bob", text="back"), ANN)
    assert (accepts.state, node.bridge.accepting, node.calls.load.is_draining) == ("accepting", "", False)
    await node.up()
    noted = (await node.admin.audit_list(AuditListParams(), ANN)).entries[-1]
    assert (noted.action, noted.text) == ("node.accept", "back")
    assert decoded(noted.before) == {"state": "drain", "calls": 0}


async def test_no_drain_is_undone_at_the_end_of_the_node(node: Node) -> None:
    node.calls.drain(stopping=True)
    with pytest.raises(CommandError) as refused:
        await node.admin.node_accept(NodeAcceptParams(operator="bob"), ANN)
    assert refused.value.code is ErrorCode.REFUSED
    node.calls.accept()  # which was noted just before
    assert (node.calls.state, node.calls.load.is_draining) == ("drain", True)


async def test_a_drain_releases_a_hundred_calls_in_a_turn_of_the_loop(node: Node) -> None:
    node.calls.on_bridge_events([node.invite(number, "0044123", "demo") for number in range(1, 202)])
    await node.until(lambda: len(node.calls.live()) == 201)
    asked = NodeDrainParams(operator="ann", release=True)
    async with asyncio.TaskGroup() as asking:
        drained = asking.create_task(node.admin.node_drain(asked, ANN), name="drain")
        seen = await each_turn(lambda: len(node.calls.live()), drained)
    assert seen == [201, 101, 1, 0]
    assert drained.result() == NodeDrained(draining=True, live=201, released=201)


async def test_calls_that_a_rule_ends_are_ended_at_a_pace_and_all_others_go_on(node: Node) -> None:
    numbers = [f"0044{kind}" for kind in ("900", "123") for _ in range(301)]
    invites = [node.invite(number, callee, "demo") for number, callee in enumerate(numbers, 1)]
    node.calls.on_bridge_events(invites)
    await node.until(lambda: len(node.calls.live()) == 602)
    async with asyncio.TaskGroup() as tasks:
        released = tasks.create_task(
            release_where(
                node.calls, lambda call: call.invite.request_user == "0044900", Detail.RULE, "premium numbers"
            ),
            name="release",
        )
        seen = await each_turn(lambda: len(node.calls.live()), released)
    assert seen == [602, 502, 402, 302, 301]
    assert released.result() == 301
    assert {call.invite.request_user for call in node.calls.live()} == {"0044123"}
    ended = [call.hangup for call in node.calls._calls.values() if call.hangup is not None]
    assert {(cause.detail, cause.rule, cause.operator) for cause in ended} == {
        (Detail.RULE, "premium numbers", None)
    }


async def test_a_reload_is_whole_and_has_a_number(node: Node) -> None:
    before = node.calls.policy
    await node.admin.accounts.create(AccountCreateParams(name="made"), ANN)
    rate = ExchangeRate(base="USD", quote="EUR", rate=Decimal("0.9"), valid_from=utc(0))
    demo = replace(before.accounts["demo"], margin_floor=Decimal("0.2"), calls_max=1)
    accounts = {**before.accounts, "demo": demo}
    read = replace(before, exchange=ExchangeTable([rate]), accounts=accounts, calls_max=1)
    plain = {"node.calls_max": "1"}
    node.settings = Reading(policy=read, plain=plain, warnings=["a warning"])
    asked = NodeReloadParams(operator="ann")
    dry = await node.admin.node_reload(NodeReloadParams(operator="ann", dry_run=True), ANN)
    found = await node.admin.node_reload(asked, ANN)
    assert dry == replace(found, settings_revision=None)
    assert found == NodeReloaded(
        settings_revision=2,
        differences=(
            "+ node.calls_max = 1",
            "~ accounts.demo.calls_max: none -> 1",
            "~ accounts.demo.margin_floor: none -> 0.2",
            "~ billing.exchange_rates: 0 rates -> 1 rates",
        ),
        differences_count=4,
        warnings=("a warning",),
    )
    policy = node.calls.policy
    assert (policy.calls_max, policy.accounts["demo"], policy.exchange) == (1, demo, read.exchange)
    assert (policy.settings_revision, "made" in policy.accounts) == (2, True)
    again = await node.admin.node_reload(asked, ANN)
    assert (again.settings_revision, again.differences) == (None, ())
    node.settings = ["a.toml, line 3: wrong"]
    with pytest.raises(CommandError, match="line 3") as refused:
        await node.admin.node_reload(asked, ANN)
    assert refused.value.code is ErrorCode.WRONG_SETTINGS
    assert node.calls.policy is policy


async def test_a_reload_takes_over_tls_files_or_leaves_all_as_it_was(node: Node) -> None:
    read = replace(node.calls.policy, margin_floor=Decimal("0.10"))
    node.settings = Reading(policy=read, plain={"billing.margin_floor": "0.10"})
    asked = NodeReloadParams(operator="ann")
    node.beside.renewed = ["/etc/key.pem: is not the key"]
    with pytest.raises(CommandError, match="is not the key") as refused:
        await node.admin.node_reload(asked, ANN)
    assert refused.value.code is ErrorCode.WRONG_SETTINGS
    assert node.calls.policy.margin_floor is None
    node.beside.renewed = True
    found = await node.admin.node_reload(asked, ANN)
    assert found.certificates_renewed
    assert node.calls.policy.margin_floor == Decimal("0.10")


# --- accounts -----------------------------------------------------------------------------------------------


async def test_an_account_is_made_topped_up_and_used_by_the_next_call(node: Node) -> None:
    made = await node.admin.accounts.create(AccountCreateParams(name="acme", kind=AccountKind.PREPAID), ANN)
    assert (made.currency, made.kind, balances(made)) == ("EUR", "prepaid", [("0", "EUR")])
    assert node.calls.policy.accounts["acme"].prepaid
    booked = await node.admin.accounts.topup(
        AccountTopupParams(name="acme", amount="12.50", reference="invoice 7"), ANN
    )
    assert (booked.balance.amount, booked.balance.currency) == ("12.50", "EUR")


async def test_making_an_account_again_does_nothing_unless_the_terms_differ(node: Node) -> None:
    await node.admin.accounts.create(AccountCreateParams(name="acme"), ANN)
    await node.admin.accounts.create(AccountCreateParams(name="acme", currency="EUR"), ANN)
    for other in (
        AccountCreateParams(name="acme", kind=AccountKind.PREPAID),
        AccountCreateParams(name="acme", currency="USD"),
        AccountCreateParams(name="demo", kind=AccountKind.PREPAID),
    ):
        with pytest.raises(CommandError, match="other terms") as refused:
            await node.admin.accounts.create(other, ANN)
        assert refused.value.code is ErrorCode.REFUSED


async def test_the_same_reference_is_booked_once(node: Node) -> None:
    for _ in range(3):
        booked = await node.admin.accounts.topup(
            AccountTopupParams(name="prepaid", amount="5", reference="invoice 7"), ANN
        )
        assert booked.balance.amount == "5"


async def test_a_prepaid_call_moves_the_balance_by_what_it_cost(node: Node) -> None:
    await node.admin.accounts.topup(AccountTopupParams(name="prepaid", amount="0.04", reference="1"), ANN)
    await node.up(account="prepaid")
    shown = await node.admin.accounts.show(AccountShowParams(name="prepaid"), ANN)
    assert balances(shown) == [("0.000000", "EUR")]
    assert shown.live_calls == 1
    await release_live(node.calls, "ann", "")
    await node.closed(1)
    await node.whole(account="prepaid", talk_ms=2_400)
    shown = await node.admin.accounts.show(AccountShowParams(name="prepaid"), ANN)
    assert balances(shown) == [("0.010000", "EUR")]
    assert [(m.kind, m.amount) for m in shown.movements][:3] == [
        ("charge", "-0.030000"),
        ("release", "0.040000"),
        ("reserve", "-0.040000"),
    ]
    assert (
        await node.admin.accounts.show(AccountShowParams(name="prepaid", movements=0), ANN)
    ).movements == ()


@pytest.mark.parametrize(
    ("wanted", "code"),
    [
        (AccountTopupParams(name="nobody", amount="5", reference="1"), ErrorCode.NOT_FOUND),
        (AccountTopupParams(name="prepaid", amount="0.00", reference="1"), ErrorCode.INVALID_PARAMS),
        (
            AccountTopupParams(name="prepaid", amount="5", currency="USD", reference="1"),
            ErrorCode.REFUSED,
        ),
    ],
)
async def test_a_top_up_that_cannot_be_booked_says_why(
    node: Node, wanted: AccountTopupParams, code: ErrorCode
) -> None:
    with pytest.raises(CommandError) as refused:
        await node.admin.accounts.topup(wanted, ANN)
    assert refused.value.code is code


async def test_an_account_that_nobody_made_is_not_shown(node: Node) -> None:
    with pytest.raises(CommandError, match="account create nobody") as refused:
        await node.admin.accounts.show(AccountShowParams(name="nobody"), ANN)
    assert refused.value.code is ErrorCode.NOT_FOUND


async def test_an_account_is_given_addresses_and_they_are_taken_away_again(node: Node) -> None:
    wanted = AccountCreateParams(name="acme", addresses=("192.0.2.0/24", "2001:DB8::/32"))
    assert (await node.admin.accounts.create(wanted, ANN)).addresses == ("192.0.2.0/24", "2001:db8::/32")
    one = AccountAddressParams(name="demo", block="::ffff:192.0.2.7")
    for _ in range(2):  # the second time it has it
        assert (await node.admin.accounts.address(one, ANN)).addresses == ("192.0.2.7/32",)
    table = node.calls.policy.account_addresses
    assert [table.account_of(f"192.0.2.{host}:5060") for host in (6, 7)] == ["acme", "demo"]
    taken = await node.admin.accounts.address(replace(one, remove=True), ANN)
    assert taken.addresses == ()
    assert node.calls.policy.account_addresses.account_of("192.0.2.7:5060") == "acme"
    assert await node.store.accounts.addresses() == (("192.0.2.0/24", "acme"), ("2001:db8::/32", "acme"))
    entries = (await node.admin.audit_list(AuditListParams(), ANN)).entries
    assert [(one.action, one.subject, decoded(one.before), decoded(one.after)) for one in entries] == [
        ("account.create", "acme", None, {"currency": "EUR", "kind": "postpaid"}),
        ("account.address", "acme", None, {"block": "192.0.2.0/24"}),
        ("account.address", "acme", None, {"block": "2001:db8::/32"}),
        ("account.address", "demo", None, {"block": "192.0.2.7/32"}),
        ("account.address", "demo", {"block": "192.0.2.7/32"}, None),
    ]


async def test_addresses_that_cannot_be_given_or_taken_say_why_and_change_nothing(node: Node) -> None:
    given = AccountAddressParams(name="demo", block="192.0.2.0/24")
    await node.admin.accounts.address(given, ANN)
    policy = node.calls.policy
    for wanted, code, said in (
        (replace(given, block="192.0.2.7/24"), ErrorCode.INVALID_PARAMS, "bits set behind its mask"),
        (replace(given, block="here"), ErrorCode.INVALID_PARAMS, "no address block"),
        (replace(given, name="prepaid"), ErrorCode.REFUSED, "is an address block of account demo"),
        (replace(given, name="nobody"), ErrorCode.NOT_FOUND, "there is no account nobody"),
        (
            replace(given, name="prepaid", remove=True),
            ErrorCode.REFUSED,
            "is an address block of account demo",
        ),
        (
            replace(given, block="192.0.2.9", remove=True),
            ErrorCode.REFUSED,
            "no address block that account demo",
        ),
    ):
        with pytest.raises(CommandError, match=said) as refused:
            await node.admin.accounts.address(wanted, ANN)
        assert refused.value.code is code
    create = AccountCreateParams(name="acme", addresses=("198.51.100.0/24", "192.0.2.0/24"))
    with pytest.raises(CommandError, match="is an address block of account demo"):
        await node.admin.accounts.create(create, ANN)
    assert node.calls.policy is policy
    assert "acme" not in [stored.name for stored in await node.store.accounts.stored()]
    assert await node.store.accounts.addresses() == (("192.0.2.0/24", "demo"),)


async def test_two_accounts_that_ask_for_one_block_at_once_do_not_both_get_it(node: Node) -> None:
    wanted = [AccountAddressParams(name=name, block="192.0.2.0/24") for name in ("demo", "prepaid")]
    answers = await asyncio.gather(
        *(node.admin.accounts.address(one, ANN) for one in wanted), return_exceptions=True
    )
    assert [type(answer) for answer in answers] == [AccountShown, CommandError]
    assert node.calls.policy.account_addresses.at("192.0.2.0/24") == "demo"
    assert await node.store.accounts.addresses() == (("192.0.2.0/24", "demo"),)


async def test_a_call_from_an_address_is_of_the_account_that_was_given_it(node: Node) -> None:
    rules = AccountRules([AccountRule(account_from=AccountFrom.ADDRESS), *node.calls.policy.account_rules])
    node.calls.policies.change(lambda policy: replace(policy, account_rules=rules))
    before = await node.up()
    create = AccountCreateParams(name="acme", addresses=("127.0.0.0/8",))
    await node.admin.accounts.create(create, ANN)
    after = await node.up()
    accounts = [call.account.name for call_id in (before, after) if (call := node.calls.find(call_id))]
    assert accounts == ["demo", "acme"]
    assert (await node.admin.accounts.show(AccountShowParams(name="acme"), ANN)).live_calls == 1


# --- decks --------------------------------------------------------------------------------------------------


async def test_a_deck_taken_over_rates_the_next_call_and_not_the_one_that_is_up(
    node: Node, tmp_path: Path
) -> None:
    dearer = tmp_path / "dearer.csv"
    dearer.write_text(
        "prefix,destination,currency,connect_fee,price_per_minute,initial_s,increment_s\n00,All,EUR,0,6,1,1\n"
    )
    before = await node.up("0044123")
    node.decks["demo"] = read_deck(dearer)
    taken = await node.admin.decks.reload(DeckReloadParams(name="demo"), ANN)
    assert (taken.revision, taken.rates) == (node.decks["demo"].revision, 1)
    after = await node.whole("0044123", talk_ms=1_000)
    await release_live(node.calls, "ann", "")
    await node.closed(1)
    totals = {}
    for call_id in (before, after):
        [record] = (await node.admin.records.queries.show(CdrShowParams(call_id=call_id), ANN)).records
        totals[call_id] = str(decode_json(bytes(record)).charges[0].total)
    assert totals == {before: "0.010000", after: "0.100000"}


async def test_a_deck_that_cannot_be_taken_over_changes_nothing(node: Node) -> None:
    policy = node.calls.policy
    with pytest.raises(CommandError, match="no deck is in force as retail") as refused:
        await node.admin.decks.reload(DeckReloadParams(name="retail"), ANN)
    assert refused.value.code is ErrorCode.REFUSED
    assert node.calls.policy is policy


# --- records ------------------------------------------------------------------------------------------------


async def test_a_call_without_a_record_is_said_to_be_up_or_unknown(node: Node) -> None:
    call_id = await node.up()
    with pytest.raises(CommandError, match="still up"):
        await node.admin.records.queries.show(CdrShowParams(call_id=call_id), ANN)
    with pytest.raises(CommandError, match="cdr search"):
        await node.admin.records.queries.show(CdrShowParams(call_id=NOBODY), ANN)


async def test_a_tail_begins_with_the_last_records_and_goes_on_where_it_was(node: Node) -> None:
    assert (await node.admin.records.queries.tail(CdrTailParams(), ANN)).next_seq == 0
    calls = [await node.whole(f"004412{number}") for number in range(4)]
    tail = await node.admin.records.queries.tail(CdrTailParams(limit=2), ANN)
    assert ids(tail.records) == calls[2:]
    assert tail.next_seq == 4
    again = await node.admin.records.queries.tail(CdrTailParams(after_seq=tail.next_seq), ANN)
    assert (again.records, again.next_seq) == ((), 4)
    calls.append(await node.whole())
    assert ids((await node.admin.records.queries.tail(CdrTailParams(after_seq=4), ANN)).records) == calls[4:]


async def test_a_search_finds_by_every_condition_and_goes_on_with_its_cursor(node: Node) -> None:
    await node.admin.accounts.topup(AccountTopupParams(name="prepaid", amount="5", reference="1"), ANN)
    first = await node.whole("0044123", account="prepaid")
    node.clock.pass_ms(60_000)
    released = await node.up("0049456")
    await node.admin.call.release(CallReleaseParams(call_id=released, operator="ann"), ANN)
    await node.closed(2)
    minute = utc(WALL_NS) + timedelta(seconds=60)

    async def found(admin: Admin, **wanted: object) -> list[UUID]:
        params = msgspec.convert(wanted, CdrSearchParams)
        return ids((await admin.records.queries.search(params, ANN)).records)

    assert await found(node.admin) == [released, first]
    for condition in (
        {"origin": "caller"},
        {"detail": "bye"},
        {"account": "prepaid"},
        {"number": "0044123"},
        {"number": "0044*"},
        {"ended_to": minute},
    ):
        assert await found(node.admin, **condition) == [first], condition
    for condition in ({"origin": "server"}, {"reason": "admin"}, {"number": "0049*"}, {"ended_from": minute}):
        assert await found(node.admin, **condition) == [released], condition
    assert await found(node.admin, number="+4930123456", gateway="next_hop") == [released, first]
    assert await found(node.admin, suppressed=True) == []
    page = await node.admin.records.queries.search(CdrSearchParams(limit=1), ANN)
    assert ids(page.records) == [released]
    page = await node.admin.records.queries.search(CdrSearchParams(limit=1, cursor=page.cursor), ANN)
    assert (ids(page.records), page.cursor) == ([first], None)


def ids(records: tuple[msgspec.Raw, ...]) -> list[UUID]:
    return [decode_json(bytes(record)).call_id for record in records]


async def test_every_method_is_named_as_its_command(node: Node) -> None:
    assert set(node.admin.methods()) == {
        "node.list",
        "node.forget",
        "node.ask",
        "call.list",
        "call.release",
        "node.accept",
        "node.drain",
        "node.reload",
        "node.restart",
        "node.reopen_logs",
        "node.gateways",
        "node.settings",
        "node.status",
        "account.create",
        "account.set",
        "account.enable",
        "account.disable",
        "account.address",
        "account.show",
        "account.list",
        "account.topup",
        "account.adjust",
        "account.import",
        "account.import_part",
        "account.ledger",
        "deck.reload",
        "deck.check",
        "deck.activate",
        "deck.rollback",
        "deck.cancel",
        "cdr.show",
        "cdr.tail",
        "cdr.search",
        "cdr.replay",
        "policy.lift",
        "policy.block",
        "policy.unblock",
        "policy.blocks",
        "policy.show",
        "audit.list",
        "rerate.apply",
        "journal.book",
        "journal.release",
        "retention.archive",
        "retention.erase",
        "dead-letter.list",
        "dead-letter.show",
        "dead-letter.retry",
        "dead-letter.drop",
        "cost",
        "subscriber.list",
        "route.try",
        "user.add",
        "user.set",
        "user.list",
        "user.note",
        "token.add",
        "token.list",
        "token.revoke",
        *(
            f"{word}.{verb}"
            for word in ("peer", "gateway", "route", "account-rule")
            for verb in ("add", "set", "show", "list", "remove")
        ),
    }


async def test_who_does_a_method_takes_and_answers_what_is_declared_of_it(node: Node) -> None:
    methods = node.admin.methods()
    assert set(methods) == set(METHODS)
    for name, method in methods.items():
        handle = method.handle.func if isinstance(method.handle, partial) else method.handle
        *_, taken, _, answered = get_type_hints(handle).values()
        assert (name, taken, answered) == (name, METHODS[name].params, METHODS[name].result)


# --- audit --------------------------------------------------------------------------------------------------


async def test_what_people_do_to_accounts_is_listed_with_who_did_it(node: Node) -> None:
    bob = Operator("bob", 0)
    await node.admin.accounts.create(AccountCreateParams(name="acme", kind=AccountKind.PREPAID), ANN)
    await node.admin.accounts.create(AccountCreateParams(name="acme", kind=AccountKind.PREPAID), bob)
    topup = AccountTopupParams(name="acme", amount="5", reference="1")
    await node.admin.accounts.topup(topup, bob)
    await node.admin.accounts.topup(topup, ANN)
    made, paid = (await node.admin.audit_list(AuditListParams(), ANN)).entries
    assert (made.entry, made.operator, made.uid, made.action, made.subject) == (
        1,
        "ann",
        1000,
        "account.create",
        "acme",
    )
    assert [bytes(made.before), bytes(made.after)] == [b"null", b'{"currency":"EUR","kind":"prepaid"}']
    assert (paid.operator, paid.uid, paid.action, paid.subject) == ("bob", 0, "account.topup", "acme")
    assert bytes(paid.before) == b'{"balance":"0","currency":"EUR"}'
    assert bytes(paid.after) == b'{"balance":"5","currency":"EUR","reference":"1"}'
    assert made.at <= paid.at

    async def found(**wanted: Any) -> list[int]:
        listed = await node.admin.audit_list(AuditListParams(**wanted), ANN)
        return [entry.entry for entry in listed.entries]

    assert await found(limit=1) == [2]
    assert await found(after_entry=0, limit=1) == [1]
    assert await found(before_entry=2, limit=1) == [1]
    for wanted in ({"by": "bob"}, {"uid": 0}, {"action": "account.topup"}):
        assert await found(**wanted) == [2]
    assert await found(subject="acme") == [1, 2]


# --- dead letters -------------------------------------------------------------------------------------------


async def test_dead_letters_are_shown_tried_again_and_dropped(node: Node) -> None:
    calls = [await node.whole(f"+44123{number}") for number in range(3)]
    await node.store.outbox.acknowledge([], [(1, 0x87), (2, 0x95), (3, 0x87)])
    listed = (await node.admin.dead_letters.list(DeadLetterListParams(), ANN)).letters
    assert [(one.seq, one.reason_code, one.call_id, one.account) for one in listed] == [
        (1, 0x87, calls[0], "demo"),
        (2, 0x95, calls[1], "demo"),
        (3, 0x87, calls[2], "demo"),
    ]
    after = await node.admin.dead_letters.list(DeadLetterListParams(after_seq=1, limit=1), ANN)
    assert after.letters == listed[1:2]
    shown = await node.admin.dead_letters.show(DeadLetterShowParams(seq=2), ANN)
    assert (shown.letter, decode_json(bytes(shown.record)).call_id) == (listed[1], calls[1])
    with pytest.raises(CommandError, match="7 is no dead letter"):
        await node.admin.dead_letters.show(DeadLetterShowParams(seq=7), ANN)

    retried = await node.admin.dead_letters.retry(DeadLetterRetryParams(operator="ann", seqs=(2, 7)), ANN)
    assert (retried.count, node.read_again) == (1, 1)
    assert [row.seq for row in await node.store.outbox.pending(0, 9)] == [2]
    drop = DeadLetterDropParams(operator="ann", text="too large", seqs=(2, 3))
    assert (await node.admin.dead_letters.drop(drop, ANN)).count == 1, "2 waits to be sent again"
    assert (await node.admin.records.queries.show(CdrShowParams(call_id=calls[2]), ANN)).records, (
        "the record stays"
    )
    assert (await node.admin.dead_letters.retry(DeadLetterRetryParams(operator="ann"), ANN)).count == 1
    assert [row.seq for row in await node.store.outbox.pending(0, 9)] == [1, 2]
    assert (await node.admin.dead_letters.list(DeadLetterListParams(), ANN)).letters == ()


# --- rating again -------------------------------------------------------------------------------------------


async def dearer(node: Node, call_id: UUID, **changes: Any) -> RerateApplyParams:
    """A request to double the price of a call, and to change its line so."""
    cdr = (await node.store.records.show(str(call_id)))[-1]
    rate = Rate(prefix="", currency="EUR", steps=per_minute_steps(Decimal("1.2"), 1, 1))
    found = rerate(cdr, Deck("dear", [rate]), None)
    assert found is not None
    one = Restated(call_id=call_id, revision=cdr.revision, charge=replace(found.after, **changes))
    return RerateApplyParams(operator="ann", text="wrong deck", calls=(one,))


async def test_a_call_is_restated_once_and_its_account_gets_the_difference(node: Node) -> None:
    request = await dearer(node, await node.whole())
    for outcome in ("revised", "changed"):
        assert [*(await node.admin.records.rerate(request, ANN)).outcomes] == [outcome]
        shown = await node.admin.accounts.show(AccountShowParams(name="demo"), ANN)
        assert balances(shown) == [("-0.060000", "EUR")]
    assert await node.store.ledger_check() == []


@pytest.mark.parametrize(
    "changes",
    [
        {"net": Decimal(1)},
        {"total": Decimal("0.01")},
        {"billable_ms": 60_000, "hold_s": 60},
        {"party": "prepaid"},
        {"side": ChargeSide.BUY},
        {"billed_number": "49123"},
    ],
)
async def test_a_charge_that_does_not_come_out_of_its_record_is_refused(
    node: Node, changes: dict[str, Any]
) -> None:
    request = await dearer(node, await node.whole(), **changes)
    with pytest.raises(CommandError) as refused:
        await node.admin.records.rerate(request, ANN)
    assert refused.value.code is ErrorCode.INVALID_PARAMS
    assert len(await node.store.records.show(str(request.calls[0].call_id))) == 1


async def test_a_call_whose_legs_are_still_closing_is_not_restated(node: Node) -> None:
    call_id = await node.whole()
    request = await dearer(node, call_id)
    up = await node.up()
    held = replace(request, calls=(replace(request.calls[0], call_id=up),))
    assert [*(await node.admin.records.rerate(held, ANN)).outcomes] == ["busy"]
    unknown = replace(request, calls=(replace(request.calls[0], call_id=NOBODY),))
    assert [*(await node.admin.records.rerate(unknown, ANN)).outcomes] == ["changed"]


# --- while the journal cannot be written --------------------------------------------------------------------


@pytest.fixture
async def failing(tmp_path: Path) -> AsyncIterator[tuple[Node, Disk]]:
    with faulty_disk() as disk:
        async with a_node(tmp_path, vfs="faulty") as node:
            yield node, disk


async def test_what_cannot_be_noted_is_not_changed_and_a_release_is_noted_later(
    failing: tuple[Node, Disk], tmp_path: Path
) -> None:
    node, disk = failing
    seen: list[bool] = []
    node.store.on_failing(seen.append)
    call_id = await node.up()
    policy = node.calls.policy
    node.decks["other"] = Deck("other-1", [])
    node.settings = Reading(policy=policy, plain={"billing.margin_floor": "0.5"})
    disk.break_down(FULL)
    for refused in (
        node.admin.accounts.create(AccountCreateParams(name="acme"), ANN),
        node.admin.accounts.topup(AccountTopupParams(name="demo", amount="5", reference="1"), ANN),
        node.admin.decks.reload(DeckReloadParams(name="other"), ANN),
        node.admin.node_reload(NodeReloadParams(operator="ann"), ANN),
        node.admin.node_drain(NodeDrainParams(operator="ann"), ANN),
        node.admin.dead_letters.retry(DeadLetterRetryParams(operator="ann"), ANN),
    ):
        with pytest.raises(UnavailableError):
            await refused
    assert node.calls.policy is policy
    assert node.bridge.accepting == ""
    await node.admin.call.release(CallReleaseParams(call_id=call_id, operator="ann", text="fraud"), ANN)
    assert node.calls.live() == []
    disk.repair()
    await node.written()
    while len(seen) < 2:  # the answer may come before the news that the disk is well
        await node.written()
    assert seen == [True, False]
    await node.closed(1)
    [entry] = await node.store.audit.list()
    assert (entry.change.action, entry.change.subject, entry.change.text) == (
        "call.release",
        str(call_id),
        "fraud",
    )


async def test_each_change_is_noted_with_what_was_before_it(node: Node) -> None:
    call_id = await node.whole()
    await node.up()
    await node.store.outbox.acknowledge([], [(1, 0x87)])
    revision = node.calls.policy.decks["demo"].revision
    node.decks["demo"] = Deck("demo-2", [])
    read = replace(node.calls.policy, margin_floor=Decimal("0.5"))
    node.settings = Reading(policy=read, plain={"billing.margin_floor": "0.5"})
    bob = Operator("bob", 7)
    for _ in range(2):  # the second time nothing is changed, so nothing is noted, but for the drain
        await node.admin.decks.reload(DeckReloadParams(name="demo"), bob)
        await node.admin.node_reload(NodeReloadParams(operator="bob"), bob)
        await node.admin.dead_letters.retry(DeadLetterRetryParams(operator="bob"), bob)
    await node.admin.records.rerate(await dearer(node, call_id), bob)
    await node.admin.node_drain(NodeDrainParams(operator="bob", release=True, text="upgrade"), bob)
    entries = (await node.admin.audit_list(AuditListParams(), ANN)).entries
    assert {(entry.operator, entry.uid) for entry in entries} == {("bob", 7)}
    assert [
        (entry.action, entry.subject, entry.text, *map(decoded, (entry.before, entry.after)))
        for entry in entries
    ] == [
        (
            "deck.reload",
            "demo",
            "",
            {"revision": revision, "rates": 1},
            {"revision": "demo-2", "rates": 0},
        ),
        (
            "node.reload",
            "box",
            "",
            {"settings_revision": None},
            {"settings_revision": 2, "changed": ["+ billing.margin_floor = 0.5"]},
        ),
        ("dead-letter.retry", "all", "", None, {"count": 1}),
        (
            "rerate.apply",
            str(call_id),
            "wrong deck",
            {"revision": 0, "side": "sell", "party": "demo", "total": "0.030000"},
            {"revision": 1, "side": "sell", "party": "demo", "total": "0.060000"},
        ),
        (
            "node.drain",
            "box",
            "upgrade",
            {"state": "accepting", "calls": 1},
            {"state": "drain", "release": True},
        ),
    ]


def decoded(raw: msgspec.Raw) -> object:
    return msgspec.json.decode(bytes(raw))


async def test_a_deck_read_first_does_not_come_into_force_last(node: Node) -> None:
    """Two commands at once, the file changed in between: what was read last stays."""
    old, new = Deck("old", []), Deck("new", [])
    begun, go_on = threading.Event(), threading.Event()

    def slow(name: str) -> Deck:
        begun.set()
        go_on.wait()
        return old

    node.read_deck = slow
    wanted = DeckReloadParams(name="demo")
    async with asyncio.TaskGroup() as asking:
        asking.create_task(node.admin.decks.reload(wanted, ANN), name="first")
        await asyncio.to_thread(begun.wait)
        node.read_deck = lambda _: new
        asking.create_task(node.admin.decks.reload(wanted, ANN), name="second")
        await node.written()
        go_on.set()
    assert node.calls.policy.decks["demo"] is new


async def test_a_command_that_nobody_waits_for_any_more_is_whole(node: Node) -> None:
    create = AccountCreateParams(name="acme")
    give = AccountAddressParams(name="demo", block="192.0.2.0/24")
    async with asyncio.TaskGroup() as asking:
        for command in (
            node.admin.accounts.create(create, ANN),
            node.admin.accounts.address(give, ANN),
            node.admin.node_drain(NodeDrainParams(operator="ann"), ANN),
        ):
            asked = asking.create_task(command, name="asked")
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            asked.cancel()
    await node.written()
    await node.written()
    assert node.calls.state == "drain"
    assert node.calls.policy.account_addresses.at("192.0.2.0/24") == "demo"
    assert "acme" in [stored.name for stored in await node.store.accounts.stored()]
    assert "acme" in node.calls.policy.accounts
