"""A setting is declared once, and what is declared is read by something."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from sidecar.b2bua.settings import BridgeSettings
from sidecar.config import entries
from sidecar.config.declare import Setting
from sidecar.config.settings import DECLARED
from sidecar.core.policy import Gateway, Policy, Timers

PRODUCT = Path(__file__).resolve().parents[2] / "sidecar"
TABLES: list[type[entries.Table]] = [*entries.PROFILE_TABLES.values(), entries.ProxyHangups]


def defaults(struct: type[msgspec.Struct]) -> dict[str, object]:
    """The defaults that say something: None and what is empty say that there is none."""
    found = {field.name: field.default for field in msgspec.structs.fields(struct)}
    return {name: value for name, value in found.items() if value or value == 0}


def test_no_setting_has_two_names_of_one_spelling() -> None:
    assert len({setting.environment for setting in DECLARED.values()}) == len(DECLARED)


@pytest.mark.parametrize("struct", [BridgeSettings, Policy, Timers, Gateway])
def test_who_takes_a_setting_has_no_default_of_its_own_for_it(struct: type[msgspec.Struct]) -> None:
    stems = {re.sub(r"_(s|ms)$", "", setting.name) for setting in DECLARED.values() if setting.default}
    own = {name for name, value in defaults(struct).items() if value is not msgspec.NODEFAULT}
    assert {name for name in own if re.sub(r"_(s|ms)$", "", name) in stems - {"name", "port"}} == set()


def test_the_native_module_takes_every_value_from_python() -> None:
    text = (PRODUCT / "b2bua/native/settings.hpp").read_text()
    [body] = re.findall(r"^struct Settings \{\n(.*?)^\};", text, re.MULTILINE | re.DOTALL)
    assert "{}" in body
    assert re.findall(r"= *[^;]+;", re.sub(r"//.*", "", body)) == []


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.__name__)
def test_a_field_that_the_core_has_a_default_for_has_none_of_its_own(table: type[entries.Table]) -> None:
    own = {f.name for f in msgspec.structs.fields(table) if f.default is not msgspec.NODEFAULT}
    theirs = {
        field.name
        for struct in table.made_into
        for field in msgspec.structs.fields(struct)
        if field.default not in (None, msgspec.NODEFAULT)
    }
    assert own & theirs == set()


def reads() -> Iterator[tuple[str, str]]:
    """(whose, attribute) of every attribute that the product reads, and ("", key) of every key."""
    declaring = {"reference.py", "vos3000.py", "declare.py", "entries.py"}
    for path in PRODUCT.rglob("*.py"):
        if path.parent.name == "config" and (path.name in declaring or path.name.startswith("crosscheck")):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Attribute(value=ast.Name(id=whose) | ast.Attribute(attr=whose), attr=name):
                    yield whose, name
                case (
                    ast.Subscript(slice=ast.Constant(value=str(key)))
                    | ast.Call(
                        func=ast.Attribute(attr="pop" | "path"), args=[ast.Constant(value=str(key)), *_]
                    )
                ):
                    yield "", key


READS = frozenset(reads())


@pytest.mark.parametrize("setting", DECLARED.values(), ids=lambda setting: setting.dotted)
def test_every_setting_is_read_or_says_that_it_is_not_in_force(setting: Setting) -> None:
    section = setting.path[-2]
    if section == "record_server_hang_up" or setting.name in BridgeSettings.__struct_fields__:
        return  # taken as they are: asdict
    if setting.means is not None:
        assert setting.means.setting in [known.name for known in DECLARED.values()]
        return  # another name, which layers reads
    assert any((whose, setting.name) in READS for whose in (section, "plain", "self"))


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.__name__)
def test_every_field_of_a_table_is_read_or_says_that_it_is_not_in_force(table: type[entries.Table]) -> None:
    handed_on = {name for struct in table.made_into for name in struct.__struct_fields__}
    unread = {
        name for name, field in table.fields().items() if ("", name) not in READS and name not in handed_on
    }
    assert unread == set()
