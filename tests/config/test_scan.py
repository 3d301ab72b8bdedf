"""The line of every key, against documents whose lines are known because this test wrote them."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from sidecar.config.scan import Path, key_lines

NASTY = '''\
# a comment with [brackets] and "quotes"
top = 1
"quoted key" = 2 # [not.a.table]
'literal.key' = 3
a.b."c.d" = """
[inside.a.string]
x = 1 \\""" still inside
"""

[table] # comment
text = \'\'\'
]] = [[
\'\'\'
list = [
  1, # one
  [2, 3],
  { x = 1, "y" = { z = "}" } },
  "#", ']',
]
when = 1979-05-27T07:32:00Z

[[many]]
name = "first"
[many.inner]
deep = 1
[[many.inner.list]]
k = 1
[[many.inner.list]]
k = 2

[[many]]
name = ""
[ many . inner ]
deep = 2
[a.b.later]
"escaped\\u0041" = """"quotes at the end"""""
last = true'''


def test_a_nasty_document_has_every_key_on_its_line() -> None:
    lines = key_lines(NASTY)
    expected: dict[Path, int] = {
        ("top",): 2,
        ("quoted key",): 3,
        ("literal.key",): 4,
        ("a", "b", "c.d"): 5,
        ("table",): 10,
        ("table", "text"): 11,
        ("table", "list"): 14,
        ("table", "list", 0): 15,
        ("table", "list", 1, 1): 16,
        ("table", "list", 2, "y", "z"): 17,
        ("table", "list", 4): 18,
        ("table", "when"): 20,
        ("many", 0): 22,
        ("many", 0, "name"): 23,
        ("many", 0, "inner", "deep"): 25,
        ("many", 0, "inner", "list", 0, "k"): 27,
        ("many", 0, "inner", "list", 1): 28,
        ("many", 0, "inner", "list", 1, "k"): 29,
        ("many", 1): 31,
        ("many", 1, "inner", "deep"): 34,
        ("a", "b", "later"): 35,
        ("a", "b", "later", "escapedA"): 36,
        ("a", "b", "later", "last"): 37,
    }
    assert {path: lines.get(path) for path in expected} == expected


def test_the_nasty_document_has_a_line_for_every_key_there_is() -> None:
    assert set(key_lines(NASTY)) == set(paths(tomllib.loads(NASTY)))


def test_windows_line_ends_count_once() -> None:
    assert key_lines("a = 1\r\nb = 2\r\n\r\n[c]\r\nd = 3\r\n") == {
        ("a",): 1,
        ("b",): 2,
        ("c",): 4,
        ("c", "d"): 5,
    }


def test_blanks_and_line_ends_may_be_left_out() -> None:
    text = 'a=[1,\n2]\nb={c=1}\n[ t ]#x = 1\nd="""\n]"""\n[[m]]#y = 1\n[t.u]\ne=1'
    assert key_lines(text) == {
        ("a",): 1,
        ("a", 0): 1,
        ("a", 1): 2,
        ("b",): 3,
        ("b", "c"): 3,
        ("t",): 4,
        ("t", "d"): 5,
        ("m",): 7,
        ("m", 0): 7,
        ("t", "u"): 8,
        ("t", "u", "e"): 9,
    }


def paths(value: object, at: Path = ()) -> Iterator[Path]:
    if at:
        yield at
    items: list[tuple[str | int, object]] = []
    if isinstance(value, dict):
        items = list(value.items())
    elif isinstance(value, list):
        items = list(enumerate(value))
    for key, inner in items:
        yield from paths(inner, (*at, key))


# --- any document -------------------------------------------------------------------------------------------


def quote(text: str) -> str:
    escaped = "".join(
        f"\\U{ord(char):08x}" if char in '\\"' or not char.isprintable() else char for char in text
    )
    return f'"{escaped}"'


KEYS = st.text(st.characters(exclude_categories=["Cs"]), min_size=0, max_size=6)
SCALARS = st.one_of(
    st.integers(-(2**63), 2**63 - 1).map(str),
    st.booleans().map(lambda flag: str(flag).lower()),
    st.sampled_from(["inf", "1e3", "1979-05-27 07:32:00", '"""x\n"y" ]\n"""', "'''\n[a]\n'''", '"#"', "''"]),
    st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=8).map(quote),
)
DOCUMENTS = st.dictionaries(
    KEYS,
    st.one_of(
        SCALARS,
        st.dictionaries(KEYS, SCALARS, max_size=3),
        st.lists(st.dictionaries(KEYS, SCALARS, max_size=3), min_size=1, max_size=3),
    ),
    max_size=6,
)


def write(document: Mapping[str, Any], blank: str) -> tuple[str, dict[Path, int]]:
    """The document as TOML, plain keys first, with the line each key was written on."""
    lines: list[str] = []
    found: dict[Path, int] = {}

    def add(path: Path, text: str) -> None:
        found.setdefault(path, len(lines) + 1)
        lines.extend(text.split("\n"))

    def statements(path: Path, table: Mapping[str, str]) -> None:
        for key, value in table.items():
            add((*path, key), f"{blank}{quote(key)}{blank} = {blank}{value}{blank}# [x]")
            lines.extend([blank] * len(blank))

    statements((), {key: value for key, value in document.items() if isinstance(value, str)})
    for key, value in document.items():
        if isinstance(value, dict):
            add((key,), f"[{blank}{quote(key)}{blank}]")
            statements((key,), value)
        elif isinstance(value, list):
            for index, table in enumerate(value):
                found.setdefault((key,), len(lines) + 1)
                add((key, index), f"[[{quote(key)}]]{blank}# x")
                statements((key, index), table)
    return "\n".join(lines), found


@given(DOCUMENTS, st.sampled_from(["", " ", "\t "]))
def test_every_key_of_any_document_is_on_the_line_it_was_written_on(
    document: Mapping[str, Any], blank: str
) -> None:
    text, written = write(document, blank)
    assert set(paths(tomllib.loads(text))) == set(written)
    assert key_lines(text) == written
