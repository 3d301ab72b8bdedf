from __future__ import annotations

import hashlib
import json
import os
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from sidecar.cli import app as whole_app
from sidecar.cli.deck import app
from sidecar.core.deck_history import Activation
from sidecar.wiring.decks import Decks

HEAD = "prefix,destination,currency,connect_fee,price_per_minute,initial_s,increment_s"
FIRST = f"{HEAD}\n44,,GBP,0,0.10,60,60\n4930,Berlin,EUR,0,0.02,1,1\n"
SECOND = f"{HEAD}\n44,,GBP,0,0.12,60,60\n33,,EUR,0,0.05,1,1\n"


class Node:
    """A data directory without a daemon."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.data.mkdir()

    def file(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.write_text(text)
        return path

    def run(self, *words: object) -> Result:
        return CliRunner().invoke(app, [*map(str, words), "--socket", str(self.data / "control.sock")])

    def json(self, *words: object, exit_code: int = 0) -> Any:
        result = self.run(*words, "--json")
        assert result.exit_code == exit_code, result.output
        return json.loads(result.stdout)


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


def test_an_imported_deck_is_a_file_that_its_revision_checks(node: Node) -> None:
    said = node.json("import", node.file("a.csv", FIRST))
    assert (said["rates"], said["currencies"]) == (2, ["EUR", "GBP"])
    stored = node.data / "decks" / f"{said['revision']}.csv"
    assert hashlib.sha256(stored.read_bytes()).hexdigest() == said["revision"]
    assert "44,United Kingdom,GBP" in stored.read_text()
    # No daemon could note it: the next start does.
    [(revision, source, by)] = Decks(node.data / "decks").unnoted()
    assert (revision, source, by.uid) == (said["revision"], "a.csv", os.getuid())


def test_a_dry_run_checks_and_keeps_nothing(node: Node) -> None:
    assert node.run("import", node.file("a.csv", FIRST), "--dry-run").exit_code == 0
    bad = node.run("import", node.file("b.csv", FIRST.replace("0.02", "NaN")), "--dry-run")
    assert bad.exit_code == 2
    assert "row 3, column price_per_minute" in bad.stderr
    assert list(node.data.iterdir()) == []


def test_a_refused_deck_is_not_kept(node: Node) -> None:
    assert node.run("import", node.file("b.csv", FIRST.replace("44", "4x"))).exit_code == 2
    assert node.json("list") == []


def test_activation_rollback_and_list(node: Node) -> None:
    first = node.json("import", node.file("a.csv", FIRST), "--activate", "sell")["revision"]
    second = node.json("import", node.file("b.csv", SECOND))["revision"]
    refused = node.json("activate", second[:8], "sell", exit_code=1)
    assert (refused["done"], refused["impact"]["unrated"]["examples"]) == (False, ["4930"])
    assert refused["impact"]["prefixes"] == {"closed": 1, "new": 1, "raised": 1}
    said = node.json("activate", second[:8], "sell", "--yes")
    assert said["revision"] == second
    assert "when it starts" in said["daemon"]
    assert {one["revision"]: one["names"] for one in node.json("list")} == {first: [], second: ["sell"]}
    assert node.json("rollback", "sell")["revision"] == first
    assert "sell" in node.run("list").stdout
    assert node.run("rollback", "buy").exit_code == 1
    assert node.run("activate", "ffffff", "sell").exit_code == 1


def test_a_deck_is_shown_whole_or_for_a_number(node: Node) -> None:
    node.run("import", node.file("a.csv", FIRST), "--activate", "sell")
    assert [rate["prefix"] for rate in node.json("show", "sell")["rates"]] == ["44", "4930"]
    (rate,) = node.json("show", "sell", "--number", "493012345")["rates"]
    assert (rate["destination"], rate["steps"]) == ("Berlin", "0:0.02/60/1")
    assert node.run("show", "sell", "--number", "33").exit_code == 1
    assert node.run("show", "sell", "--number", "+33").exit_code == 2
    assert "4930" in node.run("show", "sell").stdout


def test_a_deck_that_asks_who_calls_is_shown_for_a_caller(node: Node) -> None:
    rows = "44,UK,EUR,0,0.1,1,1,33\n44,UK,EUR,0,0.3,1,1,surcharge\n"
    head = "prefix,destination,currency,connect_fee,price_per_minute,initial_s,increment_s,caller_prefix\n"
    node.run("import", node.file("a.csv", head + rows), "--activate", "sell")
    for caller, found in (("33612", "33"), (None, "surcharge")):
        (rate,) = node.json("show", "sell", "--number", "4420", *(["--caller", caller] if caller else []))[
            "rates"
        ]
        assert rate["caller_prefix"] == found
    assert node.run("show", "sell", "--number", "4420", "--caller", "49").exit_code == 1
    assert node.run("show", "sell", "--number", "4420", "--caller", "+49").exit_code == 2


def test_a_difference_is_shown_and_is_exit_code_1(node: Node) -> None:
    first = node.json("import", node.file("a.csv", FIRST))["revision"]
    second = node.json("import", node.file("b.csv", SECOND))["revision"]
    changes = node.json("diff", first, second, exit_code=1)["changes"]
    assert [(one["change"], (one["after"] or one["before"])["prefix"]) for one in changes] == [
        ("new", "33"),
        ("raised", "44"),
        ("closed", "4930"),
    ]
    shown = node.run("diff", first, second, "--limit", 1)
    assert shown.exit_code == 1
    assert "and 2 more changes" in shown.stdout
    assert node.json("diff", first, first)["changes"] == []


def test_a_stored_deck_that_was_changed_is_noticed(node: Node) -> None:
    revision = node.json("import", node.file("a.csv", FIRST))["revision"]
    stored = node.data / "decks" / f"{revision}.csv"
    stored.write_text(stored.read_text().replace("0.02", "0.01"))
    result = node.run("show", revision)
    assert result.exit_code == 1
    assert "was changed" in result.stderr


def test_a_carrier_s_own_columns_are_mapped_and_the_mapping_is_kept(node: Node) -> None:
    file = node.file("carrier.csv", "Code;Country;Rate\n49;Germany;0,02\n")
    words = ["import", file, "--map", "prefix=Code", "--map", "destination=Country", "--delimiter", ";"]
    words += ["--map", "price_per_minute=Rate", "--set", "currency=EUR", "--set", "connect_fee=0"]
    words += ["--set", "initial_s=60", "--set", "increment_s=1", "--decimal-comma"]
    template = node.folder / "carrier.toml"
    said = node.json(*words, "--save-template", template)
    assert node.json("import", file, "--template", template)["revision"] == said["revision"]
    dollars = node.json("import", file, "--template", template, "--set", "currency=USD", "--dry-run")
    assert dollars["currencies"] == ["USD"]


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("--map", "prefix"), "--map prefix: not NAME=VALUE"),
        (("--map", "code=Code"), "'code' is not a column"),
        (("--template", "none.toml"), "cannot be read"),
        (("--delimiter", ";;"), "not one character"),
        (("--map", "prefix=Nummer"), "no column for prefix ('Nummer')"),
    ],
)
def test_a_bad_mapping_is_exit_code_2(node: Node, words: tuple[str, ...], text: str) -> None:
    result = node.run("import", node.file("a.csv", FIRST), *words)
    assert result.exit_code == 2
    assert text in result.stderr


LIST = "Our list\n\nDestination,Dial Code,Rate (EUR/min),Increment\nUK,44,0.02,60/60\nall prices net,,,\n"


def test_a_list_is_guessed_and_it_is_said_what_was_taken_for_what(node: Node) -> None:
    file = node.file("list.csv", LIST)
    shown = node.run("import", file, "--dry-run")
    assert shown.exit_code == 0, shown.output
    assert "template   carrier-az, guessed" in shown.stdout
    assert "prefix = Dial Code" in shown.stdout
    assert "row 4      prefix 44, destination UK, price_per_minute 0.02" in shown.stdout
    said = node.json("import", file, "--dry-run")
    assert said["columns"]["currency"] == "EUR, as 'Rate (EUR/min)' says"
    assert said["counts"] == {"rates": 1, "rows": 1}
    assert (said["first"][0]["row"], said["first"][0]["initial_s"]) == (4, "60")
    assert node.json("import", file, "--template", "carrier-az")["revision"] == said["revision"]


def test_two_possible_readings_are_exit_code_2(node: Node) -> None:
    text = "Prefix,Rate,New Rate,Increment,Currency,Effective Date\n44,1,2,60/60,EUR,01/02/2026\n"
    asked = node.run("import", node.file("list.csv", text))
    assert (asked.exit_code, "price_per_minute could be 'Rate' or 'New Rate'" in asked.stderr) == (2, True)
    file = node.file("list.csv", text.replace("New Rate", "Note"))
    asked = node.run("import", file)
    assert (asked.exit_code, "--set dates=DD/MM/YYYY or --set dates=MM/DD/YYYY" in asked.stderr) == (2, True)
    assert node.json("import", file, "--set", "dates=DD/MM/YYYY")["rates"] == 1


def test_templates_are_listed_and_shown_to_copy(node: Node) -> None:
    listed = CliRunner().invoke(app, ["templates", "--json"])
    names = [one["name"] for one in json.loads(listed.stdout)]
    assert {"own", "any", "carrier-az", "records"} <= set(names)
    mine = node.file("mine.toml", CliRunner().invoke(app, ["templates", "carrier-az"]).stdout)
    assert node.json("import", node.file("list.csv", LIST), "--template", mine)["rates"] == 1
    assert CliRunner().invoke(app, ["templates", "none"]).exit_code == 2


def test_a_template_is_not_saved_through_a_link(node: Node) -> None:
    link = node.folder / "link.toml"
    link.symlink_to(node.folder / "elsewhere.toml")
    result = node.run("import", node.file("list.csv", LIST), "--dry-run", "--save-template", link)
    assert (result.exit_code, (node.folder / "elsewhere.toml").exists()) == (2, False)


EUR = f"{HEAD}\n44,Exampleland,EUR,0,0.60,1,1\n33,Otherland,EUR,0,0.70,1,1\n"
DATED = f"{HEAD},effective_from"
SETTINGS = """
[node]
data_dir = "{data}"
[sip]
profile = "{profile}"
account_required = true
listen_udp = ["127.0.0.1:5998"]
"""
PROFILE = """
[decks]
sell = "sell.csv"
buy = "buy.csv"
[billing]
deck = "sell"
[accounts.acme]
[[account_rules]]
account = "acme"
peer = "local"
[peers.local]
addresses = ["127.0.0.1"]
[gateways.carrier]
host = "127.0.0.1"
port = 5999
deck = "buy"
[[routes]]
prefix = ""
gateways = ["carrier"]
"""


class Configured(Node):
    """Of settings with an account in EUR, a gateway, and a deck for each; without a daemon."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.file("sell.csv", EUR)
        self.file("buy.csv", EUR.replace("0.60", "0.50").replace("0.70", "0.65"))
        profile = self.file("profile.toml", PROFILE)
        self.settings = self.file("sidecar.toml", SETTINGS.format(data=self.data, profile=profile))

    def run(self, *words: object) -> Result:
        return CliRunner().invoke(app, [*map(str, words), "--config", str(self.settings)])


@pytest.fixture
def configured(tmp_path: Path) -> Configured:
    return Configured(tmp_path)


def test_a_deck_in_another_currency_is_refused_before_it_is_in_force(configured: Configured) -> None:
    file = configured.file("a1.csv", EUR.replace("EUR", "USD"))
    refused = configured.run("import", file, "--activate", "sell", "--yes")
    assert refused.exit_code == 1
    assert "account acme: kept in EUR, but the deck has rates in USD" in refused.stderr
    assert configured.run("history", "sell").exit_code == 1


@pytest.mark.parametrize(
    ("name", "rows", "reason"),
    [
        (
            "sell",
            f"{DATED}\n44,Exampleland,EUR,0,0.90,60,60,2099-01-01T00:00:00Z\n",
            "no rate of the deck holds",
        ),
        ("sell", f"{HEAD}\n33,Otherland,EUR,0,0.70,1,1\n", "1 prefixes would have no rate any more: 44"),
        ("sell", EUR.replace("0.60", "0"), "1 prefixes would cost nothing: 44"),
        ("sell", EUR.replace("0.60", "0.49"), "below the cheapest price that is paid for them: 44"),
        ("buy", EUR.replace("0.70", "0.71"), "below the cheapest price that is paid for them: 33"),
    ],
)
def test_what_would_give_calls_away_needs_a_word(
    configured: Configured, name: str, rows: str, reason: str
) -> None:
    file = configured.file("new.csv", rows)
    refused = configured.json("import", file, "--activate", name, exit_code=1)
    assert any(reason in text for text in refused["needs_yes"]), refused["needs_yes"]
    assert configured.json("pending") == []
    assert configured.run("history", name).exit_code == 1
    done = configured.json("activate", refused["revision"], name, "--yes")
    assert done["done"]


def test_a_check_of_the_settings_sees_the_decks_in_force(configured: Configured) -> None:
    configured.json("import", configured.file("new.csv", EUR.replace("0.60", "0.90")), "--activate", "sell")
    checked = CliRunner().invoke(whole_app, ["check", "--config", str(configured.settings)])
    assert checked.exit_code == 0, checked.output
    configured.settings.write_text(f'{configured.settings.read_text()}\n[billing]\ncurrency = "USD"\n')
    configured.file("sell.csv", EUR.replace("EUR", "USD"))
    configured.file("buy.csv", EUR.replace("EUR", "USD"))
    checked = CliRunner().invoke(whole_app, ["check", "--config", str(configured.settings)])
    assert checked.exit_code == 2
    assert "account acme: kept in USD, but the deck has rates in EUR" in checked.output


def test_what_changes_is_told_before_it_is_done(configured: Configured) -> None:
    file = configured.file("new.csv", EUR.replace("0.60", "0.90").replace("33,", "32,").replace("44", "441"))
    told = configured.json("import", file, "--activate", "sell", exit_code=1)
    assert told["impact"]["prefixes"] == {"closed": 2, "new": 2}
    dear = configured.file("dear.csv", EUR.replace("0.60", "0.90"))
    revision = configured.json("import", dear)["revision"]
    dry = configured.json("activate", revision, "sell", "--dry-run")
    assert [(one["prefix"], one["percent"]) for one in dry["impact"]["largest"]] == [("44", "50.0")]
    assert not dry["done"]
    shown = configured.run("activate", revision, "sell")
    assert "prefixes: 1 raised; used by 1 accounts (acme)" in shown.stdout
    assert "+50.0 %" in shown.stdout


def test_a_mistyped_name_is_refused_unless_it_is_new(configured: Configured) -> None:
    file = configured.file("new.csv", EUR)
    refused = configured.run("import", file, "--activate", "sel")
    assert refused.exit_code == 1
    assert "did you mean 'sell'" in refused.stderr
    assert configured.json("import", file, "--activate", "sel", "--new")["done"]


def test_a_partial_list_is_put_into_the_deck_in_force(configured: Configured) -> None:
    rows = f"{DATED}\n44,Exampleland,EUR,0,0.90,1,1,2099-01-01T00:00:00Z\n39,Thirdland,EUR,0,0.80,1,1,\n"
    said = configured.json(
        "import", configured.file("part.csv", rows), "--merge", "sell", "--activate", "sell"
    )
    assert said["done"]
    rates = configured.json("show", "sell")["rates"]
    assert [(one["prefix"], one["steps"].split("/")[0]) for one in rates] == [
        ("33", "0:0.7"),
        ("39", "0:0.8"),
        ("44", "0:0.6"),
        ("44", "0:0.9"),
    ]
    assert rates[2]["effective_to"] == rates[3]["effective_from"] == "2099-01-01T00:00:00Z"
    whole = configured.file("whole.csv", f"{HEAD}\n44,Exampleland,EUR,0,0.95,1,1\n")
    words = ("--replace", "sell", "--date", "2098-01-01T00:00:00Z")
    revision = configured.json("import", whole, *words)["revision"]
    told = configured.json("diff", "sell", revision, exit_code=1)
    assert [(one["prefix"], one["change"], one["since"]) for one in told["changes"]] == [
        ("33", "closed", "2098-01-01T00:00:00Z"),
        ("39", "closed", "2098-01-01T00:00:00Z"),
        ("44", "raised", "2098-01-01T00:00:00Z"),
        ("44", "raised", "2099-01-01T00:00:00Z"),
    ]


def test_a_deck_to_come_is_listed_shown_and_taken_back(configured: Configured) -> None:
    later = ("--at", "2099-01-01T00:00:00Z", "--text", "January's list", "--operator", "ann")
    file = configured.file("new.csv", EUR.replace("0.60", "0.90"))
    revision = configured.json("import", file, "--activate", "sell", *later)["revision"]
    (one,) = configured.json("pending")
    assert (one["name"], one["revision"], one["operator"]) == ("sell", revision, "ann")
    now, then = configured.json("show", "sell", "--number", "4412")["holds"]
    assert (now["rate"]["steps"], then["rate"]["steps"]) == ("0:0.6/60/1", "0:0.9/60/1")
    assert then["since"] == "2099-01-01T00:00:00Z"
    (rate,) = configured.json("show", "sell", "--number", "4412", "--at", "2099-01-02T00:00:00Z")["rates"]
    assert rate["steps"] == "0:0.9/60/1"
    assert configured.json("cancel", "sell")["taken_back"] == [revision]
    assert configured.json("pending") == []
    (past,) = configured.json("history", "sell")
    assert (past["text"], past["state"][:20]) == ("January's list", "not in force: taken ")
    assert configured.run("activate", revision, "sell", "--at", "2020-01-01T00:00:00Z").exit_code == 2


def test_the_first_deck_goes_back_to_that_of_the_settings(configured: Configured) -> None:
    file = configured.file("new.csv", EUR.replace("0.60", "0.90"))
    dear = configured.json("import", file, "--activate", "sell")["revision"]
    back = configured.json("rollback", "sell")["revision"]
    assert back != dear
    assert configured.json("show", back)["rates"][1]["steps"] == "0:0.6/60/1"
    assert [one["state"] for one in configured.json("history", "sell")] == ["past", "in force"]


def test_a_deck_to_sell_is_made_of_those_that_are_paid_by_and_written_to_files(
    configured: Configured,
) -> None:
    words = ("--from", "buy", "--margin", "20", "--margin-min", "0.12", "--for", "33=none")
    said = configured.json(
        "derive", *words, "--decimals", 2, "--increments", "60/60", "--activate", "sell", "--yes"
    )
    shown = configured.json("show", "sell", "--number", "4412")
    assert [one["steps"] for one in shown["rates"]] == ["0:0.62/60/60"]
    assert (shown["made_from"]["deck"], shown["made_from"]["paid_per_min"]) == ("buy", "0.500000000")
    assert len(said["made_of"]) == 1
    for name in ("out.csv", "out.xlsx"):
        out = configured.folder / name
        assert configured.json("export", said["revision"], "--out", out)["rates"] == 1
        assert configured.json("import", out)["revision"] == said["revision"]
        assert configured.run("export", "sell", "--out", out).exit_code == 1, "nothing is written over a file"
    sources = configured.folder / "sources.csv"
    configured.json("export", "sell", "--out", sources, "--sources")
    assert sources.read_text().splitlines()[1].startswith("44,,,buy,")
    named = configured.file("named.csv", EUR.replace("Exampleland", "=1+1"))
    out = configured.folder / "mapped.csv"
    revision = configured.json("import", named)["revision"]
    columns = ("--map", "prefix=Code", "--map", "price_per_minute=Rate", "--map", "destination=Place")
    configured.json("export", revision, "--out", out, *columns, "--delimiter", ";", "--decimal-comma")
    assert out.read_text().splitlines() == ["Code;Rate;Place", "33;0,7;Otherland", "44;0,6;'=1+1"]


def test_a_file_is_compared_with_a_revision(configured: Configured) -> None:
    file = configured.file("next.csv", EUR.replace("0.60", "0.90").replace("33,", "32,"))
    counts = configured.json("diff", "sell", file, exit_code=1)["counts"]
    assert counts == {"closed": 1, "new": 1, "raised": 1}


@pytest.mark.parametrize(
    ("template", "currency", "increments"),
    [("pence-per-minute", "GBP", "1,1"), ("carrier-az", "EUR", "60,6"), ("own", "EUR", "30,6")],
)
@pytest.mark.parametrize("name", ["out.csv", "out.xlsx"])
def test_what_is_written_by_a_template_is_read_back_by_it(
    node: Node, template: str, currency: str, increments: str, name: str
) -> None:
    rows = (
        f"{HEAD}\n44,Exampleland,{currency},0,0.0134,{increments}\n447,Mobile,{currency},0,0.2,{increments}\n"
    )
    revision = node.json("import", node.file("a.csv", rows))["revision"]
    out = node.folder / name
    assert node.json("export", revision, "--out", out, "--template", template)["rates"] == 2
    assert node.json("import", out, "--template", template)["revision"] == revision


def test_what_a_template_cannot_say_is_refused(node: Node) -> None:
    rows = f"{DATED}\n44,x,USD,0,1,1,1,\n44,x,USD,0,2,1,1,2099-01-01T00:00:00Z\n"
    revision = node.json("import", node.file("a.csv", rows))["revision"]
    out = node.folder / "out.csv"
    refused = node.run("export", revision, "--out", out, "--template", "included-seconds")
    assert refused.exit_code == 1
    assert not out.exists()


def test_check_shows_the_decks_in_force_since_when_and_what_comes_next(node: Node) -> None:
    now = datetime.now(UTC)
    words = ("check", "--set", "sip.profile=demo", "--set", f"node.data_dir={node.data}")

    def demo() -> str:
        result = CliRunner().invoke(whole_app, [*words, "--json"])
        assert result.exit_code == 0, result.output
        return str(json.loads(result.stdout)["settings"]["decks"]["demo"])

    assert re.fullmatch(r"\d+ rates, revision [0-9a-f]{12}, of the settings", demo())
    first, second = (
        node.json("import", node.file("a.csv", f"{HEAD}\n44,,EUR,0,{price},60,60\n"))["revision"]
        for price in ("0.1", "0.2")
    )
    book = Decks(node.data / "decks")
    since, later = now - timedelta(hours=1), now + timedelta(days=30)
    book.activate("demo", Activation(revision=first, at=since, operator="ann"), since)
    assert demo() == f"1 rates, revision {first[:12]}, by command since {since.isoformat()} (ann)"
    book.activate("demo", Activation(revision=second, at=later, operator="bob"), now)
    assert demo().endswith(f"(ann); from {later.isoformat()} on {second[:12]}")
