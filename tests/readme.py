"""What Markdown files must say, and `python -m tests.readme` to write those that are made."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from sidecar.cli import reference_pages

REPO = Path(__file__).resolve().parent.parent
README = REPO / "README.md"
SCENARIOS = REPO / "sipp_scenarios"


def scenario_table() -> list[str]:
    """Every SIPp scenario, by the comment in each of its files."""
    sides: dict[str, dict[str, str]] = {}
    for path in sorted(SCENARIOS.glob("*.xml")):
        name, side, _ = path.name.split(".")
        comment = re.search(r"<!-- (.+?) -->", path.read_text(), re.DOTALL)
        assert comment is not None, f"{path}: a comment says what it does"
        sides.setdefault(name, {})[side] = " ".join(comment[1].split())
    rows = (f"| `{name}` | {of.get('uac', '')} | {of.get('uas', '')} |" for name, of in sides.items())
    return ["| scenario | the caller | the gateway |", "|---|---|---|", *rows]


def commands_in(text: str) -> Iterator[list[str]]:
    """The words of every `sidecar ...` that stands in backticks or begins an indented line."""
    for quoted, indented in re.findall(r"`sidecar ([^`]+)`|^    (?:\$ )?sidecar (.+)$", text, re.MULTILINE):
        yield (quoted or indented).split(" #")[0].split()


def updated_scenarios(text: str) -> str:
    return text[: text.index("| scenario |")] + _lines(scenario_table())


def _lines(lines: Sequence[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


if __name__ == "__main__":
    for topic in reference_pages.PAGES:
        (reference_pages.FOLDER / f"{topic}.md").write_text(reference_pages.text(topic))
    scenarios = SCENARIOS / "README.md"
    scenarios.write_text(updated_scenarios(scenarios.read_text()))
