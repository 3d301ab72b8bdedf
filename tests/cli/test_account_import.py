"""`sidecar account import`, over the control socket of a node with the real store."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sidecar.core.audit import Change, Operator
from tests.adapters.sqlite_stores import asked, opened
from tests.adapters.store_calls import terms_of
from tests.cli.test_commands import Done, Served, served_node, sidecar

DEMO = Path(__file__).parents[2] / "sip_profiles" / "demo.toml"
HEADER = "name,currency,kind,balance,reference,credit_limit,zone,day_limit\n"
FILE = (
    HEADER
    + "acme,EUR,prepaid,12.50,,,Europe/Berlin,5\n"
    + "bell,EUR,postpaid,-3.25,old 7,100,,\n"
    + "gratis,USD,free,,,,,\n"
)
TOTALS = ("--count", "3", "--total", "EUR=9.25", "--total", "USD=0")


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    async with served_node(tmp_path) as node:
        yield node


async def bring(served: Served, text: str, *words: str) -> Done:
    file = served.socket.parent.parent / "accounts.csv"
    file.write_text(text)
    return await sidecar("account", "import", str(file), *words, "--socket", str(served.socket))


def stored(served: Served) -> list[tuple[object, ...]]:
    ours = "account IN ('acme', 'bell', 'gratis')"
    return asked(
        served.socket.parent,
        f"SELECT account, kind, amount, reference, text FROM ledger WHERE {ours} ORDER BY entry",
    )


async def test_accounts_and_balances_come_whole_once_and_are_used(served: Served) -> None:
    checked = await bring(served, FILE, *TOTALS, "--check")
    assert checked.exit_code == 0, checked.err
    assert not stored(served)
    for made, booked in ((3, 2), (0, 0)):
        done = await bring(served, FILE, *TOTALS, "--operator", "ann", "--text", "from the old switch")
        assert done.exit_code == 0, done.err
        assert done.out == (
            f"3 accounts (9.25 EUR, 0 USD in all): {made} made, {booked} opening balances booked\n"
        )
    assert stored(served) == [
        ("acme", "adjust", "12.50", "opening balance", "from the old switch"),
        ("bell", "adjust", "-3.25", "old 7", "from the old switch"),
    ]
    acme = served.node.calls.policy.accounts["acme"]
    assert (acme.zone, str(acme.day_limit), acme.prepaid) == ("Europe/Berlin", "5", True)
    rows = asked(served.socket.parent, "SELECT operator, subject FROM audit WHERE action = 'account.import'")
    assert [row[0] for row in rows] == ["ann"]


@pytest.mark.parametrize(
    ("text", "words", "said"),
    [
        (FILE, ("--count", "4"), "3 accounts, 4 were to come"),
        (FILE, ("--total", "EUR=9.26", "--total", "USD=0"), "9.25 EUR in all, 9.26 were to come"),
        (FILE, ("--total", "USD=0"), "9.25 EUR in all, 0 were to come"),
        (FILE, ("--total", "EUR=NaN"), "not an amount"),
        (FILE, ("--total", "XXX=1"), "not a code of ISO 4217"),
        ("name,currency\nacme,EUR\n", (), "row 1: there is no column 'kind'"),
        (HEADER.strip() + ",colour\n", (), "row 1, colour: not a column"),
        (HEADER, (), "no accounts"),
        (HEADER + "acme,EUR,prepaid\n", (), "row 2: 3 cells, the header has 8"),
        (FILE + "\nzed,EUR,prepaid,1,,,,\n", (), "row 5: 0 cells"),
        (FILE + "acme,EUR,free,,,,,\n", (), "row 5, name: acme is in row 2 too"),
        (HEADER + "acme,EUR,prepaid,1e3,,,,\n", (), "row 2, balance: '1e3' is not an amount"),
        (HEADER + "acme,EUR,prepaid,NaN,,,,\n", (), "row 2, balance: 'NaN' is not an amount"),
        (HEADER + "acme,EUR,prepaid,,,-1,,\n", (), "row 2, credit_limit: '-1' is not an amount"),
        (HEADER + "acme,EUR,prepaid,,,,Mars/Base,\n", (), "row 2: 'Mars/Base' is not a time zone"),
        (HEADER + "acme,EUR,rich,,,,,\n", (), "row 2, kind: 'rich' is not one of"),
        (HEADER + ",EUR,free,,,,,\n", (), "row 2, name: is empty"),
        (HEADER + "acme,ZZZ,free,,,,,\n", (), "row 2: currency 'ZZZ'"),
        (HEADER + "acme,EUR,free,,,9,,\n", (), "row 2: a free account has no limit"),
    ],
)
async def test_one_mistake_refuses_the_file_and_is_named(
    tmp_path: Path, text: str, words: tuple[str, ...], said: str
) -> None:
    (tmp_path / "accounts.csv").write_text(text)
    # Nobody listens there: what is wrong is found before anybody is asked.
    words = (*words, "--socket", str(tmp_path / "none.sock"))
    done = await sidecar("account", "import", str(tmp_path / "accounts.csv"), *words)
    assert done.exit_code == 2
    assert said in done.err


async def test_what_is_there_otherwise_refuses_all_of_it(served: Served) -> None:
    await served.says("account", "create", "bell", "--kind", "postpaid")
    done = await bring(served, FILE)
    assert done.exit_code == 1
    assert "account bell: exists with other terms (credit_limit None)" in done.err
    assert not stored(served)
    assert "acme" not in served.node.calls.policy.accounts
    await served.says("account", "set", "bell", "--credit-limit", "100")
    await served.says("account", "adjust", "bell", "1", "--reference", "old 7", "--text", "by hand")
    done = await bring(served, FILE)
    assert done.exit_code == 1
    assert "account bell: reference 'old 7' is booked already, as adjust 1" in done.err
    assert [row[0] for row in stored(served)] == ["bell"]


async def test_check_says_that_the_settings_hold_where_the_journal_has_an_account_too(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    async with opened(data_dir) as watched:
        for name, currency in (("same", "EUR"), ("other", "EUR"), ("foreign", "USD")):
            await watched.store.accounts.create(terms_of(name, currency))
        note = Change(operator=Operator("ann", 1000), action="account.disable", subject="same")
        await watched.store.accounts.change_terms("same", {"disabled_by_command": True}, note)
    profile = tmp_path / "profile.toml"
    accounts = "".join(
        f'[accounts.{name}]\ncurrency = "EUR"\nkind = "{kind}"\n'
        for name, kind in (("same", "prepaid"), ("other", "postpaid"), ("new", "free"))
    )
    profile.write_text(DEMO.read_text() + accounts)
    words = ("check", "--set", f"sip.profile={profile}", "--set", f"node.data_dir={data_dir}")
    done = await sidecar(*words)
    assert done.exit_code == 0, done.out
    assert "accounts.same: is disabled by command" in done.out
    assert "accounts.other: the journal has it with other terms (kind prepaid): the settings hold" in done.out
    assert "accounts.new" not in done.out
    profile.write_text(DEMO.read_text() + '[accounts.foreign]\ncurrency = "EUR"\n')
    done = await sidecar(*words)
    assert done.exit_code == 2
    assert "accounts.foreign: is kept in USD in the journal, and cannot change to EUR" in done.out
