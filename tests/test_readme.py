"""README and the reference say what the code does: what is made is current, what is written by hand names
commands, options and files that exist."""

from __future__ import annotations

import re
import subprocess
import sys

import msgspec
import pytest

from sidecar.cli import reference_pages
from sidecar.cli.reference import ABOUT, Topic
from sidecar.core.windows import EXAMPLES, format_window, parse_window
from sidecar.wire.reference import STRUCTS, Field, fields
from tests import readme

TEXT = readme.README.read_text()
BY_HAND = {
    path.relative_to(readme.REPO): path.read_text()
    for path in (
        readme.README,
        readme.REPO / "sip_profiles/README.md",
        *(reference_pages.FOLDER / f"{topic}.md" for topic in Topic if topic not in reference_pages.PAGES),
    )
}
COMMANDS = {tuple(one.name.split()[1:]): one for one in reference_pages.commands()}


def test_it_is_short_enough_to_be_read_to_its_end() -> None:
    assert len(TEXT.encode()) <= 15_000


@pytest.mark.parametrize("topic", reference_pages.PAGES)
def test_a_page_of_the_reference_is_current(topic: Topic) -> None:
    kept = (reference_pages.FOLDER / f"{topic}.md").read_text()
    assert kept == reference_pages.text(topic), "python -m tests.readme writes it anew"


def test_the_table_of_scenarios_is_current() -> None:
    scenarios = (readme.SCENARIOS / "README.md").read_text()
    assert readme.updated_scenarios(scenarios) == scenarios, "python -m tests.readme writes it anew"


@pytest.mark.parametrize("topic", Topic)
def test_readme_links_to_every_page_and_the_command_prints_it(topic: Topic) -> None:
    assert f"(sidecar/reference/{topic}.md)" in TEXT
    assert topic in ABOUT
    assert reference_pages.text(topic).startswith("# ")
    assert msgspec.json.encode(reference_pages.values(topic))


def test_there_is_no_page_that_is_no_topic() -> None:
    assert {path.stem for path in reference_pages.FOLDER.glob("*.md")} == {topic.value for topic in Topic}


@pytest.mark.parametrize("topic", reference_pages.PAGES)
def test_every_row_has_as_many_cells_as_its_titles(topic: Topic) -> None:
    width = 0
    for line in reference_pages.text(topic).splitlines():
        cells = len(re.findall(r"(?<!\\)\|", line)) if line.startswith("|") else 0
        assert not (cells and width) or cells == width, line
        width = cells


@pytest.mark.parametrize(
    "field",
    [
        pytest.param(field, id=f"{name} {field.name}")
        for name, struct in STRUCTS.items()
        for field in fields(struct)
    ],
)
def test_a_field_of_the_record_has_a_meaning_that_names_each_of_its_words(field: Field) -> None:
    assert field.meaning.endswith(".")
    if field.name != "detail":  # the page of hangups has them
        assert [word for word in field.words if f"`{word}`" not in field.meaning] == []


def test_every_detail_is_on_the_page_of_hangups() -> None:
    [details] = {field.words for field in fields(STRUCTS["CDR"]) if field.name == "detail"}
    assert [word for word in details if f"| `{word}` |" not in reference_pages.text(Topic.HANGUPS)] == []


@pytest.mark.parametrize("command", COMMANDS.values(), ids=lambda command: command.name)
def test_every_option_of_a_command_says_what_it_is(command: reference_pages.Command) -> None:
    assert command.help
    assert [names for names, said in command.options if not said] == []


@pytest.mark.parametrize("path", BY_HAND, ids=str)
def test_a_text_names_commands_and_options_that_exist(path: object) -> None:
    named = 0
    for words in readme.commands_in(next(text for one, text in BY_HAND.items() if one is path)):
        name = next((tuple(words[:n]) for n in (2, 1) if tuple(words[:n]) in COMMANDS), None)
        assert name is not None or words[0].startswith("-") or words == ["reference", "TOPIC"], words
        if name is not None:
            known = " ".join(names for names, _ in COMMANDS[name].options)
            options = [word for word in words if word.startswith("--")]
            assert [option for option in options if f"`{option}`" not in known] == [], words
            named += 1
    assert named or "sip_profiles" in str(path)


@pytest.mark.parametrize("path", BY_HAND, ids=str)
def test_a_text_names_no_file_that_is_not_there(path: object) -> None:
    text = next(text for one, text in BY_HAND.items() if one is path)
    named = set(re.findall(r"`((?:sidecar|sip_profiles|sipp_scenarios|tests)/[\w./-]*)`", text))
    assert [one for one in named if not (readme.REPO / one).exists()] == []
    linked = re.findall(r"\]\(([^)#:]+)\)", text)
    folder = readme.REPO / str(path)
    assert [one for one in linked if not (folder.parent / one).exists()] == []


def test_every_window_that_is_shown_is_one() -> None:
    assert all(format_window(parse_window(text)).endswith(text.split()[-1]) for text in EXAMPLES)


def test_the_command_prints_a_page_and_the_list() -> None:
    def said(*words: str) -> str:
        line = [sys.executable, "-m", "sidecar.cli", "reference", *words]
        return subprocess.run(line, capture_output=True, text=True, check=True).stdout

    assert said("windows") == reference_pages.text(Topic.WINDOWS)
    assert said().splitlines()[0] == f"record       {ABOUT[Topic.RECORD]}"
    assert msgspec.json.decode(said("--json")) == ABOUT
    assert msgspec.json.decode(said("windows", "--json")) == EXAMPLES
