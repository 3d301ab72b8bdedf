"""Commands that read or write an SQLite journal themselves say so where the books are in PostgreSQL."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from psycopg.conninfo import make_conninfo
from typer.testing import CliRunner

from sidecar.adapters.sqlite.kept_sums import KeptSums
from sidecar.adapters.store.keys import KEY_FILE_NAME
from sidecar.cli import app
from sidecar.core.sums import By, Part
from sidecar.ports import Told
from tests.adapters.sqlite_stores import AnyWatched
from tests.adapters.sqlite_stores import opened as sqlite_opened
from tests.adapters.store_calls import admission, admitted, whole_call
from tests.adapters.stores import PostgresqlStores
from tests.adapters.test_kept_sums import of_file
from tests.adapters.test_store import with_balance
from tests.adapters.test_store_revisions import again, newest
from tests.cli.test_commands import sidecar
from tests.rig.addresses import own_network
from tests.rig.node import until
from tests.rig.postgres import Postgres

ONLY = "is for an SQLite journal only: the books of this node are in PostgreSQL (store.engine)"


@pytest.fixture
def config(tmp_path: Path) -> tuple[str, str]:
    (tmp_path / "dsn").write_text("host=127.0.0.1 port=1 dbname=books\n")
    (tmp_path / "dsn").chmod(0o600)
    settings = tmp_path / "sidecar.toml"
    folder = f"[node]\ndata_dir = '{tmp_path / 'data'}'\n"
    settings.write_text(f"{folder}[store]\nengine = 'postgresql'\ndsn_file = '{tmp_path / 'dsn'}'\n")
    return "--config", str(settings)


@pytest.mark.parametrize(
    "words",
    [
        "backup out",
        "restore out",
    ],
)
def test_a_command_that_needs_an_sqlite_journal_says_so(words: str, config: tuple[str, str]) -> None:
    done = CliRunner().invoke(app, [*words.split(), *config])
    assert (done.exit_code, ONLY in done.stderr) == (2, True), done.output


def test_a_number_is_erased_in_a_database_by_a_node_that_runs(config: tuple[str, str]) -> None:
    done = CliRunner().invoke(app, ["retention", "erase", "4915112345678", *config])
    said = "a number in a database is erased by a node that runs, in the records of all: start this one,"
    assert (done.exit_code, said in done.stderr) == (3, True), done.output


def test_it_says_so_in_json_too(config: tuple[str, str]) -> None:
    done = CliRunner().invoke(app, ["backup", "out", "--json", *config])
    assert json.loads(done.stderr)["error"] == {"exit": 2, "message": f"this command {ONLY}"}


@pytest.mark.parametrize(
    ("words", "exit_code"),
    [
        ("run", 3),  # another start may find it
        ("check", 2),
        ("cdr show 0", 3),
        ("cdr tail", 3),
        ("cdr summary", 3),
        ("route 4915112345678 --from local", 2),
    ],
)
def test_a_database_that_cannot_be_reached_is_named(
    words: str, exit_code: int, config: tuple[str, str]
) -> None:
    done = CliRunner().invoke(app, [*words.split(), *config])
    said = "PostgreSQL host=127.0.0.1 port=1 dbname=books: cannot be read"
    assert (done.exit_code, said in done.output) == (exit_code, True), done.output


def test_who_prepares_a_database_needs_to_reach_it(config: tuple[str, str]) -> None:
    done = CliRunner().invoke(app, ["store", "prepare", *config])
    assert (done.exit_code, "PostgreSQL host=127.0.0.1 port=1 dbname=books: " in done.stderr) == (1, True)


async def test_a_node_with_a_journal_of_its_own_does_not_begin_in_a_database(
    config: tuple[str, str], tmp_path: Path, postgresql: Postgres
) -> None:
    """Balances and open calls would be in no books. Nor does a database know what `--new` is to pass over."""
    (tmp_path / "dsn").write_text(postgresql.new_database("cli"))
    listen = "--set", f"metrics.listen={own_network()}.1:0", "--set", f"sip.listen_udp={own_network()}.1:0"
    new = await sidecar("run", "--new", *listen, *config)
    assert (new.exit_code, "--new is for an SQLite journal only" in new.err) == (2, True), new
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "journal.db").touch()
    done = await sidecar("run", *listen, *config)
    said = f"{tmp_path / 'data' / 'journal.db'}: this node kept its books here"
    assert (done.exit_code, said in done.err) == (2, True), done
    done = await sidecar("check", "--json", *listen, *config)
    assert (done.exit_code, len(done.json["errors"])) == (2, 1)
    assert done.json["errors"][0].startswith(f"{config[1]}:4: store.engine: {said}")


async def test_a_check_names_living_nodes_that_would_not_be_answered(
    config: tuple[str, str], tmp_path: Path, postgresql: Postgres
) -> None:
    stores = PostgresqlStores(postgresql.new_database("peers"), "books")
    (tmp_path / "dsn").write_text(stores.conninfo)
    (tmp_path / "data").mkdir()
    profile = tmp_path / "profile.toml"
    profile.write_text(
        "[sip]\nlisten_udp = ['127.0.0.1:0']\n[peers.nodes]\naddresses = ['192.0.2.2/32']\n"
        "[gateways.gw]\nhost = '127.0.0.1'\nport = 5090\n"
    )

    async def warned() -> list[str]:
        done = await sidecar("check", "--json", "--set", f"sip.profile={profile}", *config)
        assert done.exit_code == 0, done
        return [one for one in done.json["warnings"] if ": peers: " in one]

    async with stores.opened(node="n2") as known, stores.opened(node="n3", boot_id="third") as unknown:
        assert await warned() == []  # neither hears SIP yet
        for watched, last in ((known, 2), (unknown, 3)):
            assert watched.store.nodes is not None
            await watched.store.nodes.serve((f"udp:192.0.2.{last}:5060", f"tcp:192.0.2.{last}:5060"), 60.0)
        first, second = await warned()
        said = "node n3 hears SIP at udp:192.0.2.3:5060, which is in no group"
        assert first.startswith(f"{profile}: peers: {said}")
        assert "tcp:192.0.2.3:5060" in second
        stores.asked("UPDATE epochs SET leased_until = clock_timestamp() WHERE node = 'n3'")
        assert await warned() == []


async def test_a_check_names_living_nodes_whose_settings_have_an_account_with_other_terms(
    config: tuple[str, str], tmp_path: Path, postgresql: Postgres
) -> None:
    stores = PostgresqlStores(postgresql.new_database("terms"), "books")
    (tmp_path / "dsn").write_text(stores.conninfo)

    async def warned() -> list[str]:
        done = await sidecar("check", "--json", *config)
        assert done.exit_code == 0, done
        return [one.partition("accounts.")[2] for one in done.json["warnings"] if "accounts." in one]

    terms = {"acme": {"credit_limit": "5", "zone": None}}
    said = (
        "acme: the settings of node n2 have it with other terms than the books (credit_limit 5, zone not set)"
        ": those of the node that started or changed them last hold"
    )
    async with stores.opened(node="n2") as other, asyncio.TaskGroup() as tasks:

        async def tell() -> None:
            """As a node does: what is older than some seconds is not heard."""
            while True:
                told = Told(state="accepting", calls=0, calls_max=1, version="1", terms=terms)
                await other.store.neighbours.exchange(told)
                await asyncio.sleep(0.5)

        telling = tasks.create_task(tell(), name="tells")
        await until(lambda: stores.asked("SELECT count(*) FROM node_states") == [(1,)])
        assert await warned() == [said]
        telling.cancel()


RULE = "[[fraud_rules]]\nname = 'fast'\nscope = 'account'\nmeasure = 'calls'\nthreshold = 5\nwindow_s = 60\n"
DECK = "prefix,destination,currency,connect_fee,price_per_minute,initial_s,increment_s\n44,UK,EUR,0,60,1,1\n"
THEIRS = "21/09/2026 13:33:20,+4930123456,0:30,1.0,USD\n"


async def filled(watched: AnyWatched) -> None:
    for account in ("acme", "other"):
        await with_balance(watched, "5", account)
    for number in range(1, 13):
        watched.submit(*whole_call(number, "acme" if number % 3 else "other", prepaid=True))
    watched.submit(admission(admitted(90, prepaid=True)))
    await watched.written()
    [done] = await watched.store.revisions.revise([again(await newest(watched), "0.5")])
    assert done
    await watched.written()


@pytest.fixture(scope="module")
def both(
    tmp_path_factory: pytest.TempPathFactory, postgresql: Postgres
) -> tuple[tuple[str, str], tuple[str, str]]:
    """The same calls in the books of either engine: the words that name the settings of each."""
    folder = tmp_path_factory.mktemp("both")
    (folder / "deck.csv").write_text(DECK)
    (folder / "rules.toml").write_text(RULE)
    (folder / "ours.csv").write_text("Start Time,Called Number,Duration,Cost,Currency\n" + THEIRS)
    (folder / "dsn").touch(mode=0o600)
    stores = PostgresqlStores(postgresql.conninfo, "both", folder / "data" / KEY_FILE_NAME)
    (folder / "dsn").write_text(stores.conninfo)
    of_node = f"[node]\nname = 'n1'\ndata_dir = '{folder / 'data'}'\n"
    (folder / "sqlite.toml").write_text(of_node)
    store = f"[store]\nengine = 'postgresql'\ndsn_file = '{folder / 'dsn'}'\n"
    (folder / "postgresql.toml").write_text(of_node + store)

    async def fill() -> None:
        async with sqlite_opened(folder / "data") as watched:
            await filled(watched)
        async with stores.opened() as other:
            await filled(other)

    asyncio.run(fill())
    return ("--config", str(folder / "sqlite.toml")), ("--config", str(folder / "postgresql.toml"))


@pytest.mark.parametrize(
    ("words", "exit_code"),
    [
        ("cdr summary --by account", 0),
        ("journal check", 0),
        ("journal open", 0),
        ("doctor --since 2020-01-01", 0),
        ("policy try fast --since 2020-01-01 --rules {}/rules.toml", 1),
        ("rerate --deck {}/deck.csv --since 2020-01-01", 1),
        ("account statement acme --from 2020-01-01 --to 2100-01-01 --format json", 0),
        ("cdr reconcile {}/ours.csv --since 2020-01-01", 1),
        ("cdr search --limit 100", 0),
    ],
)
def test_a_command_says_the_same_of_either_engine(
    words: str, exit_code: int, both: tuple[tuple[str, str], tuple[str, str]]
) -> None:
    folder = Path(both[0][1]).parent
    asked = words.format(folder).split()
    if "--format" not in asked:
        asked.append("--json")
    of_sqlite, of_postgresql = (CliRunner().invoke(app, [*asked, *config]) for config in both)
    assert of_sqlite.exit_code == of_postgresql.exit_code == exit_code, of_postgresql.output
    assert without_times(of_postgresql.stdout) == without_times(of_sqlite.stdout)


@pytest.mark.parametrize(
    "words",
    [
        "cdr tail",
        "cdr search --limit 100",
        "cdr search --suppressed",
        "cdr suppressed",
        "cdr summary --by account",
        "journal check",
        "journal open",
        "doctor --since 2020-01-01",
        "account statement acme --from 2020-01-01 --to 2100-01-01 --format json",
        "cdr reconcile {}/ours.csv --since 2020-01-01",
        "rerate --deck {}/deck.csv --since 2020-01-01",
    ],
)
def test_a_command_says_the_same_at_each_node_of_a_database(
    words: str, both: tuple[tuple[str, str], tuple[str, str]]
) -> None:
    """Though another one wrote all of it, and this one has never begun."""
    folder = Path(both[1][1]).parent
    asked = words.format(folder).split()
    asked += [] if "--format" in asked else ["--json"]
    first, other = (
        CliRunner().invoke(app, [*asked, *both[1]], env={"SIDECAR_NODE__NAME": node}) for node in ("n1", "n9")
    )
    assert (first.exit_code, first.stdout) == (other.exit_code, other.stdout), other.output
    assert first.stdout


def without_times(said: str) -> Any:
    """Nor with what is new for each store: its epoch, and ids that are made of it."""
    own = ("at", "store_epoch", "message_id", "revised_at")

    def kept(one: Any) -> Any:
        if isinstance(one, dict):
            return {name: kept(value) for name, value in one.items() if name not in own}
        return [*map(kept, one)] if isinstance(one, list) else one

    return kept(json.loads(said))


async def test_old_records_of_all_nodes_are_archived_by_who_owns_the_tables(
    tmp_path: Path, postgresql: Postgres
) -> None:
    stores = PostgresqlStores(postgresql.conninfo, "archived", tmp_path / "key")
    async with stores.opened() as one, stores.opened(node="n2", boot_id="second") as other:
        await filled(one)
        other.submit(*whole_call(101))
        for watched, head in ((one, 13), (other, 1)):
            await watched.written()
            await watched.store.outbox.acknowledge(range(1, head + 1), [])
        for name, dsn in (
            ("node", make_conninfo(stores.conninfo, user="archived")),
            ("owner", stores.conninfo),
        ):
            (tmp_path / name).touch(mode=0o600)
            (tmp_path / name).write_text(dsn)
        stores.asked("CREATE ROLE archived LOGIN")
        stores.asked("GRANT USAGE ON SCHEMA archived TO archived")
        stores.asked("GRANT SELECT ON ALL TABLES IN SCHEMA archived TO archived")
        config = tmp_path / "sidecar.toml"
        store = f"[store]\nengine = 'postgresql'\ndsn_file = '{tmp_path / 'node'}'\n"
        files = f"data_dir = '{tmp_path / 'data'}'\njournal_key_file = '{tmp_path / 'key'}'\n"
        config.write_text(f"[node]\nname = 'n1'\n{files}{store}[web]\nlisten = '127.0.0.1:0'\n")
        (tmp_path / "data").mkdir()
        words = ("retention", "archive", "--months", "1", "--out", str(tmp_path / "out"), "--text", "monthly")
        given = (*words, "--config", str(config), "--json")
        refused = await sidecar(*given)
        assert (refused.exit_code, "give --dsn-file" in refused.err) == (1, True), refused
        done = await sidecar(*given, "--dsn-file", str(tmp_path / "owner"))
        assert done.exit_code == 0, done
        found = done.json["archive"]
        assert (found["records"], found["previous"], found["movements"]) == (14, "", 0)
        for part in ("published", "kept-back"):
            assert (await sidecar("cdr", "verify", str(tmp_path / "out" / part))).exit_code == 0
        assert stores.asked("SELECT count(*) FROM cdrs") == [(0,)]
        assert stores.asked("SELECT text FROM audit WHERE action = 'retention.archive'") == [("monthly",)]
        with stores.books() as books:  # the page that does not run has both nodes'
            sums = KeptSums(books, tmp_path / "data", "UTC")
            found = of_file(sums, 10)[By.ALL, "", Part.PUBLISHED]
            assert (found.calls, sums.behind()) == (13, 0)
        await one.proved()
        again = await sidecar(*given, "--dsn-file", str(tmp_path / "owner"))
        assert (again.exit_code, again.json["archive"]) == (0, None), again


def test_an_export_of_a_database_has_the_calls_that_one_of_a_journal_has(
    both: tuple[tuple[str, str], tuple[str, str]], tmp_path: Path
) -> None:
    made = []
    for name, config in zip(("sqlite", "postgresql"), both, strict=True):
        done = CliRunner().invoke(app, ["cdr", "export", "--out", str(tmp_path / name), "--json", *config])
        assert done.exit_code == 0, done.output
        assert CliRunner().invoke(app, ["cdr", "verify", str(tmp_path / name)]).exit_code == 0
        made.append(json.loads(done.stdout))
    of_journal, of_database = made
    assert of_database["control_totals"] == of_journal["control_totals"]
    assert of_database["control_totals"]["all"]["records"] == 12
    head = of_database["journal"]
    told = f"{head['commit']}:{head['commit_hash']}"
    for words in ((), ("--head", told), ("--head", f"n1={told}")):
        found = CliRunner().invoke(app, ["journal", "verify", "--json", *words, *both[1]])
        assert (found.exit_code, json.loads(found.stdout)["wrong"]) == (0, []), found.output
        (node,) = json.loads(found.stdout)["nodes"]
        assert (node["node"], f"{node['commit']}:{node['hash']}") == ("n1", told)
    said = CliRunner().invoke(app, ["journal", "verify", *both[1]])
    assert f"up to {told}: as it was written" in said.stdout


def test_what_was_changed_in_a_database_is_named(
    both: tuple[tuple[str, str], tuple[str, str]], tmp_path: Path
) -> None:
    """The key file of a node has those of the others too; where one is missing it is named."""
    head = f"{10**6}:{'0' * 32}"
    for words, said in (
        (("--head", head), "node n1: cut: its last commit is "),
        (("--head", f"n2={head}"), "node n2: has never begun here"),
    ):
        done = CliRunner().invoke(app, ["journal", "verify", *words, *both[1]])
        assert (done.exit_code, said in done.stdout) == (1, True), done.output
    wrong = CliRunner().invoke(app, ["journal", "verify", "--head", "n1=7", *both[1]])
    assert (wrong.exit_code, "not NUMBER:HASH or NODE=NUMBER:HASH" in wrong.stderr) == (2, True)
    other = ("--config", str(tmp_path / "other.toml"))
    text = (
        Path(both[1][1])
        .read_text()
        .replace("[node]\n", f"[node]\njournal_key_file = '{tmp_path / 'key'}'\n", 1)
    )
    (tmp_path / "other.toml").write_text(text)
    made = CliRunner().invoke(app, ["journal", "new-key", *other])
    assert (made.exit_code, f"in {tmp_path / 'key'}, in force" in made.stdout) == (0, True), made.output
    done = CliRunner().invoke(app, ["journal", "verify", *other])
    assert (done.exit_code, "is not at hand" in done.stdout) == (1, True), done.output


def test_a_search_of_a_database_goes_on_where_it_ended(
    both: tuple[tuple[str, str], tuple[str, str]],
) -> None:
    found, cursor = list[str](), list[str]()
    while not found or cursor:
        asked = ["cdr", "search", "--limit", "5", "--json", *cursor, *both[1]]
        said = json.loads(CliRunner().invoke(app, asked).stdout)
        found += [record["message_id"] for record in said["records"]]
        cursor = ["--cursor", said["cursor"]] if said["cursor"] else []
    assert len(found) == len(set(found)) == 13


def test_a_comparison_needs_a_sink_that_can_be_read(
    both: tuple[tuple[str, str], tuple[str, str]], tmp_path: Path
) -> None:
    (tmp_path / "sink").write_text("{}\n")
    (tmp_path / "none").write_text("no JSON\n")
    for words, config, said in (
        ((), both[1], "name a subscriber's sink"),
        (("--json-lines", str(tmp_path / "sink")), both[0], "`sidecar restore` shows it"),
        (("--json-lines", str(tmp_path / "none")), both[1], f"{tmp_path / 'none'}: "),
        (("--sqlite", str(tmp_path / "absent")), both[1], f"{tmp_path / 'absent'}: "),
    ):
        done = CliRunner().invoke(app, ["store", "compare", *words, *config])
        assert (done.exit_code, said in done.stderr) == (2, True), done.output


async def test_what_a_database_has_is_not_published_later(
    both: tuple[tuple[str, str], tuple[str, str]], tmp_path: Path
) -> None:
    """An SQLite sink; of a node that is not there nothing is said."""
    exported = CliRunner().invoke(
        app, ["cdr", "export", "--format", "jsonl", "--out", str(tmp_path / "out"), *both[1]]
    )
    assert exported.exit_code == 0, exported.output
    (file,) = (tmp_path / "out").glob("*.jsonl")
    records = [json.loads(line) for line in file.read_text().splitlines()]
    (later, twice, other) = (
        records[0] | {"seq": 999, "message_id": "a"},
        records[0] | {"seq": 999, "message_id": "a"},
        records[0] | {"seq": 999, "message_id": "b", "node": "n9"},
    )
    elsewhere = records[0] | {"seq": 1, "message_id": "c", "store_epoch": "another"}
    for name, some, found in (("same", records, []), ("more", [later, twice, other, elsewhere], ["a", "c"])):
        lines = "".join(f"{json.dumps(one)}\n" for one in some)
        (tmp_path / name).write_text(lines + '{"cut off')
        words = ["store", "compare", "--json-lines", str(tmp_path / name), *both[1]]
        done = CliRunner().invoke(app, [*words, "--json"])
        assert done.exit_code == (1 if found else 0), done.output
        assert [one["message_id"] for one in json.loads(done.stdout)["published_later"]] == found
        shown = CliRunner().invoke(app, words)
        assert f"{len(found)} records were published, and are not in the database" in shown.stdout
