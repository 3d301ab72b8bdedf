"""README says what the code does: its tables are compared with the code, its commands with the command
line."""

from __future__ import annotations

import re

import pytest
import typer.main

from sidecar.cli import app
from tests import readme

TEXT = readme.README.read_text()


@pytest.mark.parametrize("name", readme.STRUCTS)
def test_every_field_of_the_record_is_explained_with_its_type(name: str) -> None:
    rows = readme.field_tables(TEXT)[name]
    assert [(row[0].strip("`"), row[1]) for row in rows] == readme.fields(readme.STRUCTS[name])
    assert all(row[2] for row in rows)


@pytest.mark.parametrize("name", readme.STRUCTS)
def test_every_word_that_a_field_may_hold_is_named(name: str) -> None:
    meanings = {row[0].strip("`"): row[2] for row in readme.field_tables(TEXT)[name]}
    for field, words in readme.words(readme.STRUCTS[name]).items():
        if field == "detail":  # the table of who ended the call has them
            continue
        assert [word for word in words if f"`{word}`" not in meanings[field]] == [], field


def test_the_tables_that_are_made_are_current() -> None:
    assert readme.updated(TEXT) == TEXT, "python -m tests.readme writes them anew"
    scenarios = (readme.SCENARIOS / "README.md").read_text()
    assert readme.updated_scenarios(scenarios) == scenarios, "python -m tests.readme writes them anew"


def test_every_command_is_listed_and_no_other() -> None:
    group = typer.main.get_command(app)
    commands = {
        f"{name} {sub}".strip()
        for name, command in group.commands.items()  # type: ignore[attr-defined]
        for sub in getattr(command, "commands", {"": None})
    }
    [listed] = [found[1:] for found in readme.tables(TEXT) if found[0][0] == "command"]
    named = [re.match(r"`sidecar ([a-z]+(?:-[a-z]+)?(?: [a-z]+)?)", row[0]) for row in listed]
    assert sorted(match[1] for match in named if match) == sorted(commands)


def test_it_names_no_file_that_is_not_there() -> None:
    named = set(re.findall(r"`((?:sidecar|sip_profiles|sipp_scenarios|tests)/[\w./-]*)`", TEXT))
    assert named
    assert [path for path in named if not (readme.REPO / path).exists()] == []
