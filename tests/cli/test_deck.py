from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from sidecar.cli.deck import app

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
    said = node.json("activate", second[:8], "sell")
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


def test_a_difference_is_shown_and_is_exit_code_1(node: Node) -> None:
    first = node.json("import", node.file("a.csv", FIRST))["revision"]
    second = node.json("import", node.file("b.csv", SECOND))["revision"]
    changes = node.json("diff", first, second, exit_code=1)["changes"]
    assert [(one["change"], (one["after"] or one["before"])["prefix"]) for one in changes] == [
        ("new", "33"),
        ("changed", "44"),
        ("gone", "4930"),
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
        (("--map", "prefix=Nummer"), "no column 'Nummer'"),
    ],
)
def test_a_bad_mapping_is_exit_code_2(node: Node, words: tuple[str, ...], text: str) -> None:
    result = node.run("import", node.file("a.csv", FIRST), *words)
    assert result.exit_code == 2
    assert text in result.stderr
