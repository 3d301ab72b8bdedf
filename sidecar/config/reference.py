"""README's configuration reference, made of the tables: `python -m sidecar.config.reference`.

The README holds it between the two marks; a test compares them.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from decimal import Decimal
from enum import Enum
from itertools import groupby

from sidecar.config import entries, vos3000
from sidecar.config.declare import Setting
from sidecar.config.entries import Table
from sidecar.config.settings import DECLARED

BEGIN = "<!-- configuration reference: made by `python -m sidecar.config.reference` -->"
END = "<!-- end of the configuration reference -->"


def markdown() -> str:
    """The reference, with its marks."""
    parts = [BEGIN, *_sections(), *_q850(), *_entry_tables(), *_vos3000(), END]
    return "\n".join(parts) + "\n"


def _sections() -> Iterable[str]:
    for section, keys in groupby(DECLARED.values(), key=lambda key: key.path[0]):
        yield f"\n#### [{section}]\n"
        yield from _rows(
            ("key", "type", "default", "bound", "meaning"),
            (
                (
                    f"`{'.'.join(key.path[1:])}`" + (" ·" if key.in_profile else ""),
                    key.kind.name,
                    _with_unit(key.default_text or _literal(key.default), key),
                    key.kind.bound,
                    _meaning(key),
                )
                for key in keys
            ),
        )
    yield "\n· may also stand in a profile, which settings file, environment and command line override."


def _q850() -> Iterable[str]:
    yield "\n#### [q850]\n"
    yield "`SIP code = Q.850 cause`, for instance `486 = 17`: overrides RFC 3398's mapping, code by code."
    yield "Codes 300–699, causes 1–127; also in a profile."


def _entry_tables() -> Iterable[str]:
    tables = list(entries.PROFILE_TABLES.values())
    tables.insert(tables.index(entries.Peers) + 1, entries.ProxyHangups)
    for table in tables:
        yield f"\n#### {table.heading}\n"
        yield f"{' '.join((table.__doc__ or '').split())} {_place(table)}"
        if table.fields():
            yield ""
            yield from _rows(
                ("field", "type", "default", "bound", "meaning"),
                (
                    (
                        f"`{field.name}`",
                        field.kind.name,
                        "required"
                        if field.required
                        else _with_unit(field.default_text or _literal(field.default), field),
                        field.kind.bound,
                        _meaning(field),
                    )
                    for field in table.fields().values()
                ),
            )


def _place(table: type[Table]) -> str:
    return (
        "In the settings file or in a profile."
        if table in entries.SETTINGS_TABLES.values()
        else "In a profile."
    )


def _vos3000() -> Iterable[str]:
    yield "\n#### [vos3000]\n"
    yield "VOS3000's names, here or as plain environment variables.\n"
    yield from _rows(
        ("name", "bound", "our key", "meaning"),
        ((f"`{one.name}`", one.kind.bound, f"`{'.'.join(one.path)}`", one.meaning) for one in vos3000.NAMES),
    )


def _meaning(item: Setting) -> str:
    return f"{item.meaning} Accepted; not yet in force: {item.not_yet}." if item.not_yet else item.meaning


def _rows(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterable[str]:
    yield f"| {' | '.join(titles)} |"
    yield f"|{'---|' * len(titles)}"
    for row in rows:
        cells = [cell.replace("|", "\\|") for cell in row]
        yield f"| {' | '.join(cells)} |"


def _with_unit(text: str, item: Setting) -> str:
    return f"{text} {item.unit}" if item.unit and text[:1].isdigit() else text


def _literal(value: object) -> str:
    match value:
        case None | "" | ():
            return "–"
        case bool():
            return "true" if value else "false"
        case Enum():
            return f"`{value.value}`"
        case Decimal():
            return f'`"{value}"`'
        case (str() as host, int() as port):
            return f"`{host}:{port}`"
        case str():
            return f"`{value}`"
        case _:
            return str(value)


if __name__ == "__main__":
    sys.stdout.write(markdown())
