"""Steps in, outcomes and records out, on each engine: a real file, and a real PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import cast

import pytest
from msgspec.structs import replace

from sidecar.adapters.clock import SystemClock
from sidecar.adapters.store.bodies import crc_of
from sidecar.adapters.store.store import StoreError
from sidecar.core.call import Call, Stamp
from sidecar.core.commands import EntryKind, Publish, Settle, StoreCommand
from sidecar.core.events import Admitted
from sidecar.core.hangup import hangup
from sidecar.core.records import cdr_of
from sidecar.core.terms import Detail, Evidence, HangupOrigin, Money
from tests.adapters.sqlite_stores import AnyWatched
from tests.adapters.store_calls import (
    NO_SERVER_RECORDS,
    POLICY,
    admission,
    admitted,
    answered,
    call_id,
    ended,
    ending,
    entry,
    extension,
    first_slice,
    terms_of,
    whole_call,
)
from tests.adapters.stores import Stores


def euros(amount: str) -> Money:
    return Money(Decimal(amount), "EUR")


async def with_balance(watched: AnyWatched, amount: str, account: str = "acme") -> None:
    await watched.store.accounts.create(terms_of(account))
    await watched.store.accounts.top_up(account, euros(amount), "first")


async def test_a_call_is_admitted_answered_and_published(stores: Stores) -> None:
    async with stores.opened() as watched:
        watched.submit(*whole_call(1))
        assert await watched.kinds() == ["Admitted", "AnswerRecorded"]
        (cdr,) = await watched.store.records.show(str(call_id(1)))
        assert (cdr.seq, cdr.account_prev_seq, cdr.store_epoch) == (1, None, watched.store.epoch)
        assert replace(cdr, seq=None, store_epoch="") == cdr_of(ended(answered(admitted(1))), POLICY)
        assert await watched.store.accounts.balance("acme") == (euros("-0.07259000"),)
        await watched.proved()


async def test_a_prepaid_call_reserves_what_the_balance_affords_and_gets_the_rest_back(
    stores: Stores,
) -> None:
    async with stores.opened() as watched:
        await with_balance(watched, "1")
        watched.submit(admission(admitted(1, prepaid=True)))
        await watched.written()
        event = cast("Admitted", watched.outcome(call_id(1)))
        assert (event.granted_s, event.reserved) == (840, euros("0.99960000"))
        assert await watched.store.accounts.balance("acme") == (euros("0.00040000"),)
        await watched.proved()
        watched.submit(*whole_call(1, prepaid=True)[1:])
        await watched.written()
        assert await watched.store.accounts.balance("acme") == (euros("0.92741000"),)
        await watched.proved()


async def test_the_journal_entry_of_a_prepaid_call_holds_its_grant(stores: Stores) -> None:
    async with stores.opened() as watched:
        await with_balance(watched, "1")
        watched.submit(admission(admitted(1, prepaid=True)))
    async with stores.opened(boot_id="next") as watched:
        ((call, _),) = watched.store.found_open()
        assert call == replace(admitted(1, prepaid=True), granted_s=840, reserved=euros("0.99960000"))


async def test_the_entry_of_a_call_that_was_extended_holds_its_last_grant(stores: Stores) -> None:
    """Also one that was written after it, by somebody who had not heard of it yet."""
    call = replace(admitted(1, prepaid=True), granted_s=60, reserved=euros("0.071400"))
    async with stores.opened() as watched:
        await with_balance(watched, "1")
        watched.submit(first_slice(call, 60), extension(call, 120), extension(call, 180))
        await watched.written()
        told = [(type(one).__name__, getattr(one, "granted_s", None)) for one in watched.events]
        assert told == [("Admitted", 60), ("GrantExtended", 120), ("GrantExtended", 180)]
        assert await watched.store.accounts.balance("acme") == (euros("0.78580000"),)
        await watched.proved()
    for boot_id, last in (("second", EntryKind.ESTABLISHED), ("third", EntryKind.ENDING)):
        async with stores.opened(boot_id=boot_id) as watched:
            ((found, _),) = watched.store.found_open()
            assert (found.granted_s, found.reserved) == (180, euros("0.21420000"))
            watched.submit(entry(last, call))
            await watched.written()
            await watched.proved()
    async with stores.opened(boot_id="last") as watched:
        watched.submit(ending(ended(answered(call))))
        await watched.written()
        assert await watched.store.accounts.balance("acme") == (euros("0.92860000"),)
        watched.submit(extension(call, 240))
        assert await watched.kinds() == ["StepFailed"]
        await watched.proved()


async def test_a_balance_that_pays_no_second_refuses_and_nothing_is_written(stores: Stores) -> None:
    async with stores.opened() as watched:
        await with_balance(watched, "0.0001")
        watched.submit(admission(admitted(1, prepaid=True)))
        assert await watched.kinds() == ["CreditRefused"]
        assert len(await watched.store.accounts.ledger("acme")) == 1
    async with stores.opened(boot_id="next") as watched:
        assert watched.store.found_open() == []


async def test_calls_of_one_commit_never_reserve_more_than_the_balance(stores: Stores) -> None:
    async with stores.opened() as watched:
        await with_balance(watched, "10")
        watched.submit(*(admission(admitted(n, prepaid=True)) for n in range(1, 41)))
        kinds = await watched.kinds()
        assert kinds.count("CreditRefused") == 37  # three get 4.284 EUR for an hour, or what is left
        (left,) = await watched.store.accounts.balance("acme")
        assert left.amount >= 0
        await watched.proved()


async def test_any_step_repeated_three_times_moves_the_balance_once(stores: Stores) -> None:
    async with stores.opened() as watched:
        await with_balance(watched, "5")
        for step in whole_call(1, prepaid=True):
            watched.submit(step, step, step)
        await watched.written()
        for step in whole_call(1, prepaid=True):
            watched.submit(step)
        await watched.written()
        movements = [entry.kind for entry in await watched.store.accounts.ledger("acme")]
        assert movements == ["charge", "release", "reserve", "top_up"]
        assert await watched.store.accounts.balance("acme") == (euros("4.92741000"),)
        assert (await watched.store.outbox.outbox_state()).head_seq == 1
        await watched.proved()


async def test_an_admission_repeated_while_the_call_is_up_reports_the_same_grant(stores: Stores) -> None:
    async with stores.opened() as watched:
        await with_balance(watched, "1")
        step = admission(admitted(1, prepaid=True))
        watched.submit(step)
        await watched.written()
        watched.submit(step)
        await watched.written()
        first, second = (cast("Admitted", event) for event in watched.events)
        assert (first.granted_s, first.reserved) == (second.granted_s, second.reserved)
        await watched.proved()


async def test_an_admission_of_a_call_that_has_its_record_fails(stores: Stores) -> None:
    async with stores.opened() as watched:
        watched.submit(*whole_call(1), admission(admitted(1)))
        assert await watched.kinds() == ["Admitted", "AnswerRecorded", "StepFailed"]
    async with stores.opened(boot_id="next") as watched:
        assert watched.store.found_open() == []


async def test_an_answer_of_a_call_that_was_never_admitted_is_not_let_go(stores: Stores) -> None:
    async with stores.opened() as watched:
        watched.submit(entry(EntryKind.ANSWERED, answered(admitted(1))))
        assert await watched.kinds() == ["StepFailed"]


async def test_a_suppressed_call_keeps_its_record_in_the_journal_and_takes_no_number(stores: Stores) -> None:
    call = answered(admitted(1))
    released = ended(call, origin=HangupOrigin.SERVER, detail=Detail.OPERATOR)
    async with stores.opened() as watched:
        watched.submit(admission(admitted(1)), ending(released, NO_SERVER_RECORDS), *whole_call(2))
        await watched.written()
        (kept,) = await watched.store.records.show(str(call_id(1)))
        assert not kept.recorded
        assert kept.seq is None
        assert kept.charges[0].total == Decimal("0.07259")
        (other,) = await watched.store.records.show(str(call_id(2)))
        assert other.seq == 1
        await watched.proved()
    assert stores.asked("SELECT count(*) FROM open_calls") == [(0,)]


async def test_a_call_ends_once_whatever_the_second_record_says(stores: Stores) -> None:
    call = answered(admitted(1))
    async with stores.opened() as watched:
        watched.submit(admission(admitted(1)), ending(ended(call, 61_000)), ending(ended(call, 122_000)))
        watched.submit(
            ending(ended(call, origin=HangupOrigin.SERVER, detail=Detail.DRAIN), NO_SERVER_RECORDS)
        )
        await watched.written()
        (cdr,) = await watched.store.records.show(str(call_id(1)))
        assert cdr.talk_ms == 61_000
        await watched.proved()


async def test_a_revision_restates_the_call_and_posts_the_difference(stores: Stores) -> None:
    call = answered(admitted(1))
    revised = replace(ended(call, 30_000), revision=1)
    async with stores.opened() as watched:
        watched.submit(admission(admitted(1)), ending(ended(call)), ending(revised), ending(ended(call)))
        watched.submit(ending(revised))
        await watched.written()
        first, second = await watched.store.records.show(str(call_id(1)))
        assert (first.seq, second.seq, second.account_prev_seq) == (1, 2, 1)
        assert (second.revision, second.supersedes) == (1, 0)
        back, charge = await watched.store.accounts.ledger("acme")
        assert (back.amount, back.revision) == (euros("0.03689000"), 1)
        assert (charge.amount, charge.revision) == (euros("-0.07259000"), 0)
        await watched.proved()


async def test_a_revision_may_move_the_charge_to_another_account_and_currency(stores: Stores) -> None:
    cdr = cdr_of(ended(answered(admitted(1))), POLICY)
    line = replace(cdr.charges[0], currency="USD", total=Decimal("0.08"))
    revised = replace(cdr, revision=1, supersedes=0, account="other", charges=(line,))
    async with stores.opened() as watched:
        settle = Settle(call_id=cdr.call_id, account="other", total=Money(Decimal("0.08"), "USD"))
        watched.submit(admission(admitted(1)), ending(ended(answered(admitted(1)))))
        watched.submit((settle, Publish(cdr=revised)))
        await watched.written()
        assert await watched.store.accounts.balance("acme") == (euros("0.00000000"),)
        assert await watched.store.accounts.balance("other") == (Money(Decimal("-0.08"), "USD"),)
        await watched.proved()


async def test_a_void_revision_gives_everything_back(stores: Stores) -> None:
    cdr = cdr_of(ended(answered(admitted(1))), POLICY)
    void = replace(cdr, revision=1, supersedes=0, void=True)
    async with stores.opened() as watched:
        watched.submit(admission(admitted(1)), ending(ended(answered(admitted(1)))))
        watched.submit((Settle(call_id=cdr.call_id, account="acme", total=None), Publish(cdr=void)))
        await watched.written()
        assert await watched.store.accounts.balance("acme") == (euros("0.00000000"),)
        await watched.proved()


async def test_a_refused_call_has_its_record_without_ever_being_open(stores: Stores) -> None:
    refused = replace(
        admitted(1),
        ended=admitted(1).attempts[0].started,
        attempts=(),
        hangup=hangup(HangupOrigin.SERVER, Detail.NO_CREDIT, Evidence.MESSAGE, refused=True),
    )
    async with stores.opened() as watched:
        watched.submit((Publish(cdr=cdr_of(refused, POLICY)),), (Publish(cdr=cdr_of(refused, POLICY)),))
        await watched.written()
        (cdr,) = await watched.store.records.show(str(call_id(1)))
        assert cdr.seq == 1
        await watched.proved()


async def test_a_record_without_a_settlement_does_not_keep_the_reservation(stores: Stores) -> None:
    async with stores.opened() as watched:
        await with_balance(watched, "1")
        watched.submit(admission(admitted(1, prepaid=True)))
        missed = ended(admitted(1, prepaid=True), detail=Detail.CANCEL)
        watched.submit((Publish(cdr=cdr_of(missed, POLICY)),))
        await watched.written()
        assert await watched.store.accounts.balance("acme") == (euros("1.00000000"),)
        await watched.proved()


async def test_a_settlement_of_a_call_that_stays_open_returns_its_reservation_once(stores: Stores) -> None:
    async with stores.opened() as watched:
        await with_balance(watched, "1")
        watched.submit(admission(admitted(1, prepaid=True)))
        nothing: tuple[StoreCommand, ...] = (Settle(call_id=call_id(1), account="acme", total=None),)
        await watched.written()
        watched.submit(nothing, nothing)
        await watched.written()
        await watched.proved()
    async with stores.opened(boot_id="next") as watched:
        watched.submit(nothing)
        await watched.written()
        assert await watched.store.accounts.balance("acme") == (euros("1.00000000"),)
        await watched.proved()


async def test_numbers_are_gapless_over_boots_and_name_the_last_of_their_account(stores: Stores) -> None:
    async with stores.opened() as watched:
        watched.submit(*whole_call(1, "a"), *whole_call(2, "b"), *whole_call(3, "a"))
    async with stores.opened(boot_id="next") as watched:
        watched.submit(*whole_call(4, "b"), *whole_call(5, "c"))
        await watched.written()
        records = await watched.store.records.tail(0)
        found = [(cdr.seq, cdr.account, cdr.account_prev_seq) for cdr in records]
        assert found == [(1, "a", None), (2, "b", None), (3, "a", 1), (4, "b", 2), (5, "c", None)]
        assert len({cdr.store_epoch for cdr in records}) == 1


async def test_calls_found_open_come_with_their_latest_entry_and_their_own_boots_last_heartbeat(
    stores: Stores,
) -> None:
    async with stores.opened() as watched:
        watched.submit(admission(admitted(1)), entry(EntryKind.ANSWERED, answered(admitted(1))))
        watched.submit(*whole_call(2))
    ((wall_ns, mono_ns),) = stores.asked("SELECT heartbeat_wall_ns, heartbeat_mono_ns FROM boots")
    async with stores.opened(boot_id="second") as watched:
        watched.submit(admission(replace(admitted(3), boot_id="second")))
    async with stores.opened(boot_id="third") as watched:
        (first, seen), (second, _) = watched.store.found_open()
        assert first == answered(admitted(1))
        assert (seen.call_id, seen.wall_ns, seen.mono_ns) == (call_id(1), wall_ns, mono_ns)
        assert second.call_id == call_id(3)
        watched.submit(ending(ended(first, 1_000)), ending(ended(second, 1_000)))
    async with stores.opened(boot_id="fourth") as watched:
        assert watched.store.found_open() == []
        await watched.proved()


async def test_a_call_that_came_after_the_last_heartbeat_is_known_to_have_lived_till_its_own_entry(
    stores: Stores,
) -> None:
    call = answered(admitted(1))
    async with stores.opened() as watched:
        watched.submit(admission(admitted(1)), entry(EntryKind.ANSWERED, call))
    stores.asked("UPDATE boots SET heartbeat_mono_ns = 1, heartbeat_wall_ns = 1")
    async with stores.opened(boot_id="next") as watched:
        ((_, seen),) = watched.store.found_open()
        assert call.answered is not None
        assert (seen.mono_ns, seen.wall_ns) == (call.answered.mono_ns, call.answered.wall_ns)


def with_attempt(call: Call, stamp: Stamp) -> Call:
    return replace(call, attempts=(replace(call.attempts[0], started=stamp),))


PROVES: dict[str, Callable[[Call, Stamp], Call]] = {
    "attempt": with_attempt,
    "ringing": lambda call, stamp: replace(call, ringing=stamp),
    "b_answered": lambda call, stamp: replace(call, b_answered=stamp),
    "answered": lambda call, stamp: replace(call, answered=stamp),
    "a_life": lambda call, stamp: replace(call, a_life=stamp),
    "b_life": lambda call, stamp: replace(call, b_life=stamp),
    "refreshed": lambda call, stamp: replace(call, refreshed=stamp),
    "ended": lambda call, stamp: replace(call, ended=stamp),
}


@pytest.mark.parametrize("proves", PROVES.values(), ids=PROVES.keys())
async def test_a_call_found_open_lived_till_the_last_moment_of_its_entry(
    stores: Stores, proves: Callable[[Call, Stamp], Call]
) -> None:
    call = answered(admitted(1))
    last = Stamp(call.invite.mono_ns + 9_000_000_000, call.invite.wall_ns + 9_000_000_000)
    async with stores.opened() as watched:
        watched.submit(admission(admitted(1)), entry(EntryKind.ESTABLISHED, proves(call, last)))
    stores.asked("UPDATE boots SET heartbeat_mono_ns = 1, heartbeat_wall_ns = 1")
    async with stores.opened(boot_id="next") as watched:
        ((_, seen),) = watched.store.found_open()
        assert (seen.mono_ns, seen.wall_ns) == (last.mono_ns, last.wall_ns)


async def test_which_moment_is_the_last_is_told_by_the_clock_that_nobody_sets(stores: Stores) -> None:
    call = answered(admitted(1))
    assert call.answered is not None
    async with stores.opened() as watched:
        watched.submit(admission(admitted(1)), entry(EntryKind.ANSWERED, call))
    later = (call.answered.mono_ns + 1, 1)
    stores.asked("UPDATE boots SET heartbeat_mono_ns = ?, heartbeat_wall_ns = ?", *later)
    async with stores.opened(boot_id="next") as watched:
        ((_, seen),) = watched.store.found_open()
        assert (seen.mono_ns, seen.wall_ns) == later


async def test_a_heartbeat_is_written_by_itself(stores: Stores) -> None:
    async with stores.opened() as watched:
        clock = watched.store._clock
        began_ns = clock.wall_ns()
        watched.store.heartbeat(clock.mono_ns(), clock.wall_ns())
        await watched.written()
        ((wall_ns,),) = stores.asked("SELECT heartbeat_wall_ns FROM boots")
        assert cast("int", wall_ns) >= began_ns - 100_000_000


async def test_a_step_that_cannot_be_worked_out_is_dropped_alone(stores: Stores) -> None:
    broken = replace(admitted(2), bridge_id="not a number")
    async with stores.opened() as watched:
        watched.submit(*whole_call(1), admission(broken), *whole_call(3))
        await watched.until(lambda: watched.defects == [call_id(2)])
        assert (await watched.kinds()).count("StepFailed") == 1
        assert [cdr.call_id for cdr in await watched.store.records.tail(0)] == [call_id(1), call_id(3)]
        assert not watched.store.failing
        await watched.proved()


async def test_a_full_queue_refuses_admissions_and_takes_ends(stores: Stores) -> None:
    async with stores.opened(queue_steps_max=0) as watched:
        watched.submit(admission(admitted(1)), ending(ended(admitted(2), detail=Detail.CANCEL)))
        assert await watched.kinds() == ["StepFailed"]
        assert len(await watched.store.records.tail(0)) == 1


@pytest.mark.parametrize("statement", ["UPDATE ledger SET amount = '1'", "DELETE FROM ledger"])
async def test_the_ledger_cannot_be_changed(stores: Stores, statement: str) -> None:
    async with stores.opened() as watched:
        watched.submit(*whole_call(1))
    with pytest.raises(Exception, match="never changed"):
        stores.asked(statement)


async def test_a_store_that_is_closed_twice_is_closed_once(stores: Stores) -> None:
    async with stores.opened() as watched:
        watched.submit(*whole_call(1))
        await watched.store.close()
    async with stores.opened(boot_id="next") as watched:
        assert len(await watched.store.records.tail(0)) == 1


async def test_calls_of_different_commits_do_not_take_one_anothers_place(stores: Stores) -> None:
    async with stores.opened() as watched:
        for number in (1, 2, 3):
            watched.submit(admission(admitted(number)))
            await watched.written()
        watched.submit(ending(ended(answered(admitted(2)))))
        await watched.written()
        watched.submit(admission(admitted(4)))
    async with stores.opened(boot_id="next") as watched:
        assert [call.call_id for call, _ in watched.store.found_open()] == [call_id(n) for n in (1, 3, 4)]


@pytest.mark.parametrize("same_boot", [True, False])
async def test_what_a_call_was_charged_while_it_was_up_counts_at_its_end(
    stores: Stores, same_boot: bool
) -> None:
    async with stores.opened() as watched:
        watched.submit(
            admission(admitted(1)), (Settle(call_id=call_id(1), account="acme", total=euros("1")),)
        )
        await watched.written()
        if same_boot:
            watched.submit(ending(ended(answered(admitted(1)))))
            await watched.written()
    async with stores.opened(boot_id="next") as watched:
        watched.submit(ending(ended(answered(admitted(1)))))
        await watched.written()
        assert await watched.store.accounts.balance("acme") == (euros("-0.07259000"),)
        await watched.proved()


async def test_what_a_call_was_charged_before_it_was_admitted_counts_at_its_end(stores: Stores) -> None:
    async with stores.opened() as watched:
        watched.submit(
            (Settle(call_id=call_id(1), account="acme", total=euros("1")),), admission(admitted(2))
        )
        await watched.written()
        watched.submit(admission(admitted(1)))
        await watched.written()
        watched.submit(ending(ended(answered(admitted(1)))))
        await watched.written()
        assert await watched.store.accounts.balance("acme") == (euros("-0.07259000"),)
        await watched.proved()


async def test_a_call_whose_record_was_kept_back_long_ago_is_not_admitted_again(stores: Stores) -> None:
    drained = ended(answered(admitted(1)), origin=HangupOrigin.SERVER, detail=Detail.DRAIN)
    async with stores.opened() as watched:
        watched.submit(admission(admitted(1)), ending(drained, NO_SERVER_RECORDS))
        await watched.written()
        watched.submit(admission(admitted(1)))
        assert await watched.kinds() == ["Admitted", "StepFailed"]
    async with stores.opened(boot_id="next") as watched:
        watched.submit(admission(admitted(1)), ending(ended(answered(admitted(1)))))
        assert await watched.kinds() == ["StepFailed"]
        assert len(await watched.store.records.show(str(call_id(1)))) == 1


async def test_an_admission_repeated_in_a_later_commit_keeps_its_reservation(stores: Stores) -> None:
    async with stores.opened() as watched:
        await with_balance(watched, "5")
        watched.submit(admission(admitted(1, prepaid=True)))
        await watched.written()
        watched.submit(admission(admitted(1, prepaid=True)))
        await watched.written()
        await watched.proved()
    async with stores.opened(boot_id="next") as watched:
        watched.submit(admission(admitted(1, prepaid=True)))
        await watched.written()
        event = cast("Admitted", watched.outcome(call_id(1)))
        assert (event.granted_s, event.reserved) == (3_600, euros("4.28400000"))
        await watched.proved()


async def test_the_last_number_of_an_account_is_known_within_a_commit_and_after_it(stores: Stores) -> None:
    async with stores.opened() as watched:
        watched.submit(*whole_call(1, "a"))
        await watched.written()
        watched.submit(*whole_call(2, "a"), *whole_call(3, "a"))
        await watched.written()
        watched.submit(*whole_call(4, "a"))
        await watched.written()
        records = await watched.store.records.tail(0)
        assert [cdr.account_prev_seq for cdr in records] == [None, 1, 2, 3]


async def test_a_commit_says_that_the_node_lived_where_the_last_word_is_old(stores: Stores) -> None:
    async with stores.opened() as watched:
        await watched.written()
        stores.asked("UPDATE boots SET heartbeat_mono_ns = 1, heartbeat_wall_ns = 1")
        watched.store._writer._known.heartbeat_mono_ns = 1
        watched.submit(admission(admitted(1)))
        await watched.written()
        ((wall_ns, mono_ns),) = stores.asked("SELECT heartbeat_wall_ns, heartbeat_mono_ns FROM boots")
        assert cast("int", wall_ns) > 1
        assert cast("int", mono_ns) > 1


async def test_what_an_earlier_boot_reserved_is_no_charge(stores: Stores) -> None:
    async with stores.opened() as watched:
        await with_balance(watched, "5")
        watched.submit(admission(admitted(1, prepaid=True)))
    async with stores.opened(boot_id="next") as watched:
        ((call, _),) = watched.store.found_open()
        watched.submit(ending(ended(answered(call))))
        await watched.written()
        kinds = [entry.kind for entry in await watched.store.accounts.ledger("acme")]
        assert kinds == ["charge", "release", "reserve", "top_up"]
        assert await watched.store.accounts.balance("acme") == (euros("4.92741000"),)
        await watched.proved()


async def test_of_two_open_calls_only_the_settled_one_gets_its_reservation_back(stores: Stores) -> None:
    async with stores.opened() as watched:
        await with_balance(watched, "9")
        watched.submit(*(admission(admitted(number, prepaid=True)) for number in (1, 2, 3)))
        await watched.written()
        watched.submit((Settle(call_id=call_id(2), account="acme", total=None),))
        await watched.written()
        await watched.proved()
    held = stores.asked("SELECT call_id, reserved IS NULL FROM open_calls ORDER BY slot")
    assert held == [(call_id(number).bytes, number == 2) for number in (1, 2, 3)]


async def test_a_revision_that_an_earlier_boot_recorded_is_not_recorded_again(stores: Stores) -> None:
    call = answered(admitted(1))
    revised = replace(ended(call, 30_000), revision=1)
    async with stores.opened() as watched:
        watched.submit(admission(admitted(1)), ending(ended(call)), ending(revised))
    async with stores.opened(boot_id="next") as watched:
        watched.submit(ending(revised), ending(ended(call)))
        await watched.written()
        assert [cdr.revision for cdr in await watched.store.records.show(str(call_id(1)))] == [0, 1]
        assert watched.defects == []
        await watched.proved()


async def test_the_last_number_of_an_account_is_not_that_of_its_neighbours(stores: Stores) -> None:
    async with stores.opened() as watched:
        watched.submit(*whole_call(1, "b"), *whole_call(2, "a"), *whole_call(3, "c"))
    async with stores.opened(boot_id="next") as watched:
        watched.submit(*whole_call(4, "b"))
        await watched.written()
        assert (await watched.store.records.tail(3))[0].account_prev_seq == 1


async def test_the_last_numbers_of_so_many_accounts_are_kept_in_memory(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sidecar.adapters.store.batch.ACCOUNTS_KNOWN_MAX", 3)
    async with stores.opened() as watched:
        for number in range(1, 13):
            watched.submit(*whole_call(number, f"a{number % 6}"))
            await watched.written()
            assert len(watched.store._writer._known.account_seqs) <= 4
        found = [cdr.account_prev_seq for cdr in await watched.store.records.tail(6)]
        assert found == [1, 2, 3, 4, 5, 6]


async def test_a_boot_that_never_committed_lived_when_it_began(stores: Stores) -> None:
    clock = SystemClock()
    before_ns = clock.wall_ns(), clock.mono_ns()
    async with stores.opened():
        after_ns = clock.wall_ns(), clock.mono_ns()
        [(started_ns, wall_ns, mono_ns)] = stores.asked(
            "SELECT started_wall_ns, heartbeat_wall_ns, heartbeat_mono_ns FROM boots"
        )
    assert before_ns[0] <= cast("int", wall_ns) <= after_ns[0]
    assert before_ns[1] <= cast("int", mono_ns) <= after_ns[1]
    assert started_ns == wall_ns


async def test_a_charge_in_another_currency_leaves_the_balance_of_the_first(stores: Stores) -> None:
    dollars = Money(Decimal(1), "USD")
    async with stores.opened() as watched:
        watched.submit((Settle(call_id=call_id(1), account="acme", total=dollars),))
    async with stores.opened(boot_id="next") as watched:
        watched.submit(*whole_call(2))
        await watched.written()
        assert await watched.store.accounts.balance("acme") == (
            euros("-0.07259000"),
            Money(Decimal(-1), "USD"),
        )


async def test_a_record_whose_number_has_a_byte_that_a_table_refuses_is_written(stores: Stores) -> None:
    async with stores.opened() as watched:
        cdr = cdr_of(ended(answered(admitted(1))), POLICY)
        odd = replace(cdr, caller=replace(cdr.caller, received="+49\x0030"))
        watched.submit((Publish(cdr=odd),))
        await watched.written()
        assert watched.defects == []
        (found,) = await watched.store.records.show(str(call_id(1)))
        assert found.caller.received == "+49\x0030"
        said = await watched.store.ledger_check()
        assert not [text for text in said if "found by" in text]


async def test_the_check_finds_a_balance_and_a_charge_that_do_not_add_up(stores: Stores) -> None:
    async with stores.opened() as watched:
        watched.submit(*whole_call(1), admission(admitted(2)))
        await watched.written()
        stores.forced("UPDATE balances SET amount = '0'")
        stores.forced("UPDATE open_calls SET account = 'acme', currency = 'EUR', reserved = '1'")
        stores.forced(f"UPDATE {stores.bodies} SET body = ?", b"\x80")
        found = await watched.store.ledger_check()
        # Of a database it proves the chain too, which an SQLite journal is under at its start.
        of_chain = () if stores.place[0] == "sqlite" else ("record 1 was changed", "its checksum is not that")
        parts = (*of_chain, "balance 0", "holds 1", "says 0", "revision 0: damaged on disk")
        assert len(found) == len(parts)
        assert all(part in fault for part, fault in zip(parts, found, strict=True))


async def test_an_open_call_that_cannot_be_read_stops_the_start_by_name(stores: Stores) -> None:
    async with stores.opened() as watched:
        watched.submit(whole_call(1)[0])
    stores.forced("UPDATE open_calls SET body = ?, crc = ?", b"\x02later", crc_of(b"\x02later"))
    said = f"open call {call_id(1)}: .*a journal entry of version 2; this program knows 1"
    with pytest.raises(StoreError, match=said):
        async with stores.opened(boot_id="next"):
            pass
