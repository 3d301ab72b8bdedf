"""All that is in force of the settings as one profile: plain settings, tables of the files, and what commands
have made. Secrets stay in their files, which it names."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import date, datetime, time
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any

from sidecar.config.build import Inputs, Sources, sources
from sidecar.config.layers import Effective
from sidecar.config.problems import Findings
from sidecar.config.settings import DECLARED
from sidecar.config.stored import is_path
from sidecar.config.tables import Entry, Tables

_BARE = re.compile(r"[A-Za-z0-9_-]+")
_ALL = "all"

Data = dict[str, Any]


def profile_text(inputs: Inputs) -> str:
    """ConfigError where the settings are wrong."""
    read = sources(inputs, Findings())
    rest = "".join(f"# {line}\n" for line in toml(_plain(read.effective, in_profile=False)).splitlines())
    head = "# All settings in force, those of the files and those made by command.\n"
    if rest:
        head += f"# What a profile cannot say belongs in the settings file beside it:\n#\n{rest}"
    return f"{head}\n{toml(profile_data(read))}"


def profile_data(read: Sources) -> Data:
    data = _plain(read.effective, in_profile=True)
    if q850 := read.effective.q850():
        data["q850"] = {str(code): cause for code, cause in sorted(q850.items())}
    return data | {name: said for name, said in _tables(read.tables).items() if said}


def _tables(tables: Tables) -> Data:
    named = {
        "peers": tables.peers,
        "gateways": tables.gateways,
        "groups": tables.groups,
        "accounts": tables.accounts,
    }
    listed = {
        "routes": tables.routes,
        "account_rules": tables.account_rules,
        "strip_rules": tables.strip_rules,
        "fraud_rules": tables.fraud_rules,
    }
    return {
        "decks": {name: str(deck.path.absolute()) for name, deck in tables.decks.items()},
        **{table: {name: _said(entry) for name, entry in found.items()} for table, found in named.items()},
        **{table: [_said(entry) for entry in found] for table, found in listed.items()},
        "account_addresses": {block: found.account for block, found in tables.account_addresses.items()},
    }


def _said(entry: Entry) -> Data:
    """As its document says it; paths from anywhere."""
    fields = entry.table.fields()
    said = dict(entry.raw)
    for name, value in entry.raw.items():
        if name in fields and is_path(fields[name]):
            said[name] = str((entry.document.folder / value).absolute())
    return said


def _plain(effective: Effective, *, in_profile: bool) -> Data:
    """Those that any source gives. A name that means another one's value is left to that."""
    data: Data = {}
    for setting in DECLARED.values():
        if setting.in_profile is not in_profile or setting.means or not effective.is_given(setting.dotted):
            continue
        if setting.dotted == "sip.profile":
            continue
        *section, name = setting.path
        if any(path[:-1] == setting.path for path in DECLARED):
            section, name = [*section, name], _ALL
        within = data
        for part in section:
            within = within.setdefault(part, {})
        within[name] = _plain_value(effective.value(setting.dotted))
    return data


def _plain_value(value: object) -> object:
    match value:
        case Enum():
            return value.value
        case Decimal():
            return f"{value:f}"
        case Path():
            return str(value.absolute())
        case (str() as host, int() as port):
            return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        case tuple():
            return [_plain_value(one) for one in value]
        case _:
            return value


# --- TOML ---------------------------------------------------------------------------------------------------


def toml(data: Mapping[str, Any]) -> str:
    """What `tomllib` reads as `data`: tables, lists of them, strings, whole numbers, truth values, times."""
    return "\n".join(_table((), data)).strip("\n") + "\n" if data else ""


def _table(path: tuple[str, ...], data: Mapping[str, Any]) -> Iterator[str]:
    plain = {key: value for key, value in data.items() if not _is_table(value)}
    if path and (plain or len(plain) == len(data)):
        yield f"\n[{_dotted(path)}]"
    for key, value in plain.items():
        yield f"{_key(key)} = {_value(value)}"
    for key, value in data.items():
        if isinstance(value, Mapping):
            yield from _table((*path, key), value)
        elif _is_table(value):
            for one in value:
                yield f"\n[[{_dotted((*path, key))}]]"
                yield from _lines(one)


def _lines(entry: Mapping[str, Any]) -> Iterable[str]:
    return (f"{_key(key)} = {_value(value)}" for key, value in entry.items())


def _is_table(value: object) -> bool:
    if isinstance(value, list):
        return bool(value) and all(isinstance(one, Mapping) for one in value)
    return isinstance(value, Mapping)


def _dotted(path: Iterable[str]) -> str:
    return ".".join(map(_key, path))


def _key(name: str) -> str:
    return name if _BARE.fullmatch(name) else _string(name)


def _string(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _value(value: object) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return _string(value)
        case int() | float():
            return str(value)
        case datetime() | date() | time():
            return value.isoformat()
        case list():
            return f"[{', '.join(map(_value, value))}]"
        case Mapping():
            return f"{{{', '.join(f'{_key(key)} = {_value(one)}' for key, one in value.items())}}}"
        case _:
            raise TypeError(f"no TOML for {type(value)}")
