"""What people changed is in the audit table if, and only if, the change is in the file."""

from __future__ import annotations

import json
from collections import deque
from decimal import Decimal
from typing import Any

import apsw
import psycopg
import pytest
from msgspec.structs import replace

from sidecar.adapters.store.audit import ENTRIES_MAX
from sidecar.adapters.store.batch import BaseBatch
from sidecar.core.audit import Change, Operator, told
from sidecar.core.commands import Audit
from sidecar.core.terms import Money
from sidecar.ports import AccountError, AuditFilter
from tests.adapters.sqlite_stores import AnyWatched
from tests.adapters.store_calls import WALL_NS, admission, admitted, ended, ending, terms_of
from tests.adapters.stores import Stores

ANN = Operator("ann", 1000)


def change(subject: str = "acme", action: str = "account.create", by: Operator = ANN, **more: Any) -> Change:
    return Change(operator=by, action=action, subject=subject, **more)


async def changes(watched: AnyWatched) -> list[Change]:
    return [entry.change for entry in await watched.store.audit.list()]


async def test_an_account_that_is_made_is_noted_once(stores: Stores) -> None:
    async with stores.opened() as watched:
        accounts = watched.store.accounts
        made = change(after='{"currency":"EUR"}', text="new customer")
        await accounts.create(terms_of("acme"), made)
        await accounts.create(terms_of("acme"), made)
        with pytest.raises(AccountError):
            await accounts.create(terms_of("acme", "USD"), made)
        await accounts.create(terms_of("silent"))
        [entry] = await watched.store.audit.list()
        # What it was made with is noted by the store, whatever whoever asked had to say of it.
        assert (entry.entry, entry.change) == (1, replace(made, after='{"currency":"EUR","kind":"prepaid"}'))
        assert entry.at_wall_ns > WALL_NS - 10**18
    assert stores.asked("SELECT boot, boot_id FROM audit JOIN boots USING (boot)") == [(1, "6f1c2a")]


async def test_a_top_up_is_noted_once_with_the_balance_before_and_after_it(stores: Stores) -> None:
    async with stores.opened() as watched:
        accounts = watched.store.accounts
        await accounts.create(terms_of("acme"))
        by = change(action="account.topup")
        await accounts.top_up("acme", Money(Decimal("12.50"), "EUR"), "invoice 1", by)
        await accounts.top_up("acme", Money(Decimal("0.10"), "EUR"), "invoice 2", by)
        await accounts.top_up("acme", Money(Decimal("0.10"), "EUR"), "invoice 2", by)
        await accounts.top_up("acme", Money(Decimal(1), "EUR"), "invoice 3")
        for name, currency in (("nobody", "EUR"), ("acme", "USD")):
            with pytest.raises(AccountError):
                await accounts.top_up(name, Money(Decimal(1), currency), "invoice 4", by)
        first, second = await changes(watched)
        assert (first.operator, first.action, first.subject) == (ANN, "account.topup", "acme")
        assert [
            json.loads(text or "") for text in (first.before, first.after, second.before, second.after)
        ] == [
            {"balance": "0", "currency": "EUR"},
            {"balance": "12.50", "currency": "EUR", "reference": "invoice 1"},
            {"balance": "12.50", "currency": "EUR"},
            {"balance": "12.60", "currency": "EUR", "reference": "invoice 2"},
        ]


async def test_a_change_in_a_step_is_noted_with_it_and_dropped_with_it(stores: Stores) -> None:
    async with stores.opened() as watched:
        call = admitted(1)
        end = (*ending(ended(call)), Audit(change=change(str(call.call_id), "call.release")))
        watched.submit(admission(call), end, end)
        watched.submit((*admission(admitted(2, prepaid=True)), Audit(change=change("refused"))))
        await watched.written()
        assert [one.action for one in await changes(watched)] == ["call.release"]
        await watched.proved()


async def test_what_a_job_changed_and_its_entry_are_there_together_or_not_at_all(stores: Stores) -> None:
    def broken(batch: BaseBatch) -> None:
        batch.audit(change("broken"))
        raise ValueError("a defect")

    async with stores.opened() as watched:
        with pytest.raises(ValueError, match="a defect"):
            await watched.store._write(broken)
        await watched.store.audit.write(change("sound"))
        assert [one.subject for one in await changes(watched)] == ["sound"]


async def test_entries_are_listed_and_looked_for(stores: Stores) -> None:
    async with stores.opened() as watched:
        bob, root = Operator("bob", 1001), Operator("ann", 0)
        for number, by in enumerate((ANN, bob, root, ANN, bob), 1):
            await watched.store.audit.write(change(f"s{number % 2}", f"a{number % 3}", by, text=str(number)))

        async def found(after: int | None = None, limit: int = 100, **wanted: Any) -> str:
            entries = await watched.store.audit.list(after, limit, AuditFilter(**wanted))
            assert [str(one.entry) for one in entries] == [one.change.text for one in entries]
            return "".join(one.change.text for one in entries)

        assert await found() == "12345"
        assert await found(limit=2) == "45"
        assert await found(0, 2) == "12"
        assert await found(2) == "345"
        assert await found(5) == ""
        assert await found(operator="ann") == "134"
        assert await found(uid=0) == "3"
        assert await found(uid=1000, operator="ann") == "14"
        assert await found(action="a2") == "25"
        assert await found(subject="s0") == "24"
        assert await found(1, 1, subject="s1") == "3"
        assert await found(limit=0) == "5"


async def test_one_answer_holds_so_many_entries_at_the_most(stores: Stores) -> None:
    async with stores.opened() as watched:
        await watched.store._write(lambda batch: deque(map(batch.audit, [change()] * (ENTRIES_MAX + 1))))
        assert len(await watched.store.audit.list(0, 10**6)) == ENTRIES_MAX == 1_000


async def test_nobody_is_a_caller_too_and_odd_text_is_stored_escaped(stores: Stores) -> None:
    async with stores.opened() as watched:
        odd = change("\ud800", "a", Operator("\udfff"), before=told({"x": "1.50"}), text="\x00'\"")
        await watched.store.audit.write(odd)
        [found] = await changes(watched)
        text = found.text.replace("\\x00", "\x00")  # as PostgreSQL has it
        assert text == "\x00'\""
        assert replace(found, text="") == change("\\ud800", "a", Operator("\\udfff"), before='{"x":"1.50"}')


async def test_entries_are_never_changed(stores: Stores) -> None:
    async with stores.opened() as watched:
        await watched.store.audit.write(change())
    for sql in ("UPDATE audit SET text = 'x'", "DELETE FROM audit"):
        with pytest.raises((apsw.ConstraintError, psycopg.errors.RaiseException), match="never changed"):
            stores.asked(sql)
