"""The reference of the settings, made of their declarations: Markdown, values for JSON, and a settings file
to begin with."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from decimal import Decimal
from enum import Enum
from itertools import groupby
from typing import Any

from sidecar.config import entries, vos3000
from sidecar.config.declare import Setting
from sidecar.config.entries import Table
from sidecar.config.settings import DECLARED
from sidecar.wire.reference import table as markdown_table

_TITLES = ("type", "default", "bound", "meaning")
_HEAD = """\
# Settings

The settings file is TOML: `/etc/sidecar/sidecar.toml`, or `--config FILE`. The same keys are variables
(`SIDECAR_TIMERS__RING_TIMEOUT_S=60`) and words of the command line (`--set timers.ring_timeout_s=60`).
Command line before environment before file before profile before default. All is checked before anything
starts, and `sidecar check` shows every error with its file, line and key.
"""


def markdown() -> str:
    return "\n".join((_HEAD, *_sections(), *_q850(), *_entry_tables(), *_vos3000())) + "\n"


def values() -> dict[str, list[dict[str, Any]]]:
    """The same for a program: by section or table."""
    found: dict[str, list[dict[str, Any]]] = {}
    for setting in DECLARED.values():
        found.setdefault(setting.path[0], []).append(_value(setting))
    for table in _tables():
        found[table.heading] = [_value(field) for field in table.fields().values()]
    return found


_FILE = """\
# Settings of the SIP billing sidecar. All are commented out, with their defaults: sidecar reference settings.
# `sidecar check` says what is wrong here, and what is in force. Peers, gateways, routes, accounts and decks
# are in the profile that `sip.profile` names; `sidecar reference settings` has their tables too.
"""


def settings_file() -> str:
    """Every plain setting, commented out: as it is, it says nothing, so all defaults hold."""
    return "\n".join((_FILE, *_commented())) + "\n"


def _commented() -> Iterable[str]:
    for section, settings in groupby(DECLARED.values(), key=lambda setting: setting.path[0]):
        yield f"\n#[{section}]"
        for item in settings:
            bound = f" ({item.kind.bound})" if item.kind.bound not in ("", "–") else ""
            text = f"{item.meaning}{bound}".replace("`", "")
            yield "\n" + textwrap.fill(text, width=110, initial_indent="# ", subsequent_indent="# ")
            # One that depends on something else must not be pinned by taking the # away.
            depends = item.default_text.replace("`", "")
            yield f"#{'.'.join(item.path[1:])} = " + (f" # {depends}" if depends else _toml(item.default))


def _toml(value: object) -> str:
    """A default as TOML; no value where there is none, so that it is an error and not another setting."""
    match value:
        case None | "" | ():
            return " # none"
        case bool():
            return "true" if value else "false"
        case int():
            return str(value)
        case (str() as host, int() as port):
            return f'"{host}:{port}"'
        case tuple():
            return f"[{', '.join(map(_toml, value))}]"
        case Enum():
            return f'"{value.value}"'
        case _:
            return f'"{value}"'


def _value(item: Setting) -> dict[str, Any]:
    return {
        "key": item.dotted,
        "type": item.kind.name,
        "unit": item.unit,
        "required": item.required,
        "default": _default(item),
        "bound": item.kind.bound,
        "in_profile": item.in_profile,
        "at_start": item.at_start,
        "meaning": item.meaning,
    }


def _sections() -> Iterable[str]:
    for section, settings in groupby(DECLARED.values(), key=lambda setting: setting.path[0]):
        yield f"\n## [{section}]\n"
        yield from markdown_table(("key", *_TITLES), map(_row, settings))
    yield "\n· may also stand in a profile, which settings file, environment and command line override.\n"
    yield "† from a start on: where one of these differs `sidecar node reload` names it, and changes nothing."


def _row(item: Setting) -> tuple[str, ...]:
    name = ".".join(item.path[1:]) or item.name
    mark = (" ·" if item.in_profile else "") + (" †" if item.at_start else "") if len(item.path) > 1 else ""
    return (f"`{name}`{mark}", item.kind.name, _default(item), item.kind.bound, item.meaning)


def _default(item: Setting) -> str:
    text = "required" if item.required else item.default_text or _literal(item.default)
    return f"{text} {item.unit}" if item.unit and text[:1].isdigit() else text


def _q850() -> Iterable[str]:
    yield "\n## [q850]\n"
    yield "`SIP code = Q.850 cause`, for instance `486 = 17`: overrides RFC 3398's mapping, code by code."
    yield "Codes 300–699, causes 1–127; also in a profile."


def _tables() -> list[type[Table]]:
    tables = list(entries.PROFILE_TABLES.values())
    tables.insert(tables.index(entries.Peers) + 1, entries.ProxyHangups)
    return tables


def _entry_tables() -> Iterable[str]:
    for table in _tables():
        yield f"\n## {table.heading}\n"
        yield f"{' '.join((table.__doc__ or '').split())} {_place(table)}"
        if table.fields():
            yield ""
            yield from markdown_table(("field", *_TITLES), map(_row, table.fields().values()))


def _place(table: type[Table]) -> str:
    return (
        "In the settings file or in a profile."
        if table in entries.SETTINGS_TABLES.values()
        else "In a profile."
    )


def _vos3000() -> Iterable[str]:
    yield "\n## [vos3000]\n"
    yield "VOS3000's names, here or as plain environment variables.\n"
    yield from markdown_table(
        ("name", "bound", "our key", "meaning"),
        ((f"`{one.name}`", one.kind.bound, f"`{'.'.join(one.path)}`", one.meaning) for one in vos3000.NAMES),
    )


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
