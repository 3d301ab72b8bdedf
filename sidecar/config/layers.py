"""From many sources to one value per key.

    command line  >  environment  >  settings file  >  profile  >  default

Within one layer a key may have several names (VOS3000's, or a flag and its `all`): they must agree. Every
value is checked, also one that a higher layer overrides: no error waits for the day on which it counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sidecar.config import entries, settings, vos3000
from sidecar.config.declare import Setting
from sidecar.config.problems import Findings, Where, nearest, quoted
from sidecar.config.settings import DECLARED, SECTION_NAMES, Settings
from sidecar.config.source import Document
from sidecar.config.values import BadValueError, FilePath, Kind, Whole

Q850 = "q850"
_SIP_FINAL = range(300, 700)
_CAUSE = Whole(1, 127)
_ENVIRONMENT = "SIDECAR_"
_ALL = "all"


class Given:
    """A value as some source gave it."""

    def __init__(self, value: Any, where: Where, name: str, said: object) -> None:
        self.value = value
        self.where = where
        self.name = name
        self.said = said


class Layer:
    """One source's values. Keys are `Setting.path`, or `("q850", "486")`."""

    def __init__(self, findings: Findings) -> None:
        self._findings = findings
        self.given: dict[tuple[str, ...], Given] = {}

    def give(
        self, path: tuple[str, ...], value: object, where: Where, name: str, said: object = None
    ) -> bool:
        """`said`: the value as it stands there, where that is another. False: another name of the setting
        disagrees."""
        said = value if said is None else said
        before = self.given.get(path)
        if before is not None and before.value != value:
            self._findings.error(
                where,
                name,
                f"says {quoted(said)}, but {before.name} ({before.where}) says {quoted(before.said)}: "
                f"they are two names of one setting",
            )
            return False
        self.given.setdefault(path, Given(value, where, name, said))
        return True


class Effective:
    """The value in force of every setting, and who gave it. Settings are named `section.name`."""

    def __init__(self, layers: list[Layer]) -> None:
        self._given: dict[tuple[str, ...], Given] = {}
        for layer in layers:
            for path, given in layer.given.items():
                self._given.setdefault(path, given)
        self.settings: Settings = settings.in_force(self._value)

    def _value(self, setting: Setting) -> Any:
        given = self._given.get(setting.path)
        return setting.default if given is None else given.value

    def value(self, dotted: str) -> Any:
        return self._value(DECLARED[tuple(dotted.split("."))])

    def is_given(self, dotted: str) -> bool:
        return DECLARED[tuple(dotted.split("."))].path in self._given

    def given_at(self) -> dict[str, str]:
        """Where each setting was given, by its name; those that have their default are not in it."""
        return {".".join(path): str(given.where) for path, given in self._given.items() if path[0] != Q850}

    def at(self, dotted: str) -> tuple[Where, str]:
        """For a problem: where the setting was given, and its name as it was written there."""
        given = self._given.get(DECLARED[tuple(dotted.split("."))].path)
        return (Where("default"), dotted) if given is None else (given.where, given.name)

    def q850(self) -> dict[int, int]:
        return {int(path[1]): given.value for path, given in self._given.items() if path[0] == Q850}


# --- files --------------------------------------------------------------------------------------------------


def file_layer(document: Document, findings: Findings, *, is_profile: bool = False) -> Layer:
    """The plain settings of a file; its tables of entries (accounts, gateways) are not looked at here."""
    layer = Layer(findings)
    tables = entries.PROFILE_TABLES if is_profile else entries.SETTINGS_TABLES
    known = (
        [*SECTION_NAMES, Q850, *tables] if is_profile else [*SECTION_NAMES, Q850, vos3000.SECTION, *tables]
    )
    for section, content in document.data.items():
        if section in tables:
            continue
        where = document.where((section,))
        if section not in known:
            elsewhere = "a profile" if section in entries.PROFILE_TABLES else "the settings file"
            if section in entries.PROFILE_TABLES or section == vos3000.SECTION:
                findings.error(where, section, f"belongs in {elsewhere}, not here")
            else:
                findings.error(where, section, "there is no such section", nearest(section, known))
        elif not isinstance(content, dict):
            findings.error(where, section, f"is a section: [{section}], not {quoted(content)}")
        elif section == Q850:
            _read_q850(layer, document, content, findings)
        elif section == vos3000.SECTION:
            _read_vos3000(layer, document, content, findings)
        else:
            _read_section(layer, document, (section,), content, findings, is_profile)
    return layer


def _read_section(
    layer: Layer,
    document: Document,
    section: tuple[str, ...],
    content: Mapping[str, object],
    findings: Findings,
    is_profile: bool,
) -> None:
    for name, raw in content.items():
        path = (*section, name)
        written = ".".join(path)
        where = document.where(path)
        if isinstance(raw, dict) and _has_children(path):
            _read_section(layer, document, path, raw, findings, is_profile)
            continue
        key = DECLARED.get(section) if name == _ALL and len(section) > 1 else DECLARED.get(path)
        if key is None:
            findings.error(where, written, "there is no such key", _suggest(path))
        elif is_profile and not key.in_profile:
            findings.error(where, written, "belongs in the settings file, not in a profile")
        else:
            _give(layer, key.path, key.kind, raw, where, written, findings, folder=document.folder)


def _has_children(path: tuple[str, ...]) -> bool:
    return any(known[: len(path)] == path and len(known) > len(path) for known in DECLARED)


def _suggest(path: tuple[str, ...]) -> str | None:
    """The nearest key: of the same section if there is one like it, else the same name in another section."""
    section = path[:-1]
    near = nearest(path[-1], [known[-1] for known in DECLARED if known[:-1] == section])
    if near is not None:
        return ".".join((*section, near))
    return nearest(".".join(path), [key.dotted for key in DECLARED.values()]) or next(
        (key.dotted for key in DECLARED.values() if key.name == path[-1]), None
    )


def _read_vos3000(
    layer: Layer, document: Document, content: Mapping[str, object], findings: Findings
) -> None:
    for name, raw in content.items():
        where = document.where((vos3000.SECTION, name))
        known = vos3000.BY_NAME.get(name)
        if known is None:
            findings.error(
                where,
                name,
                "is not a VOS3000 parameter that this product knows",
                nearest(name, vos3000.BY_NAME),
            )
        else:
            _give(layer, known.path, known.kind, raw, where, name, findings)


def _read_q850(layer: Layer, document: Document, content: Mapping[str, object], findings: Findings) -> None:
    for code, raw in content.items():
        where, written = document.where((Q850, code)), f"{Q850}.{code}"
        if _is_final_code(code):
            _give(layer, (Q850, code), _CAUSE, raw, where, written, findings)
        else:
            findings.error(where, written, "expected a SIP code, 300-699, as the key")


def _is_final_code(code: str) -> bool:
    return len(code) == 3 and code.isascii() and code.isdigit() and int(code) in _SIP_FINAL


def _give(
    layer: Layer,
    path: tuple[str, ...],
    kind: Kind[Any],
    raw: object,
    where: Where,
    name: str,
    findings: Findings,
    *,
    folder: Path | None = None,
    is_text: bool = False,
) -> None:
    try:
        value = kind.read_text(str(raw)) if is_text else kind.read(raw)
    except BadValueError as error:
        findings.error(where, name, str(error), error.suggestion)
        return
    if isinstance(kind, FilePath) and folder is not None and path != ("node", "data_dir"):
        value = folder / value
    agrees = layer.give(path, value, where, name)
    means = DECLARED[path].means if path in DECLARED else None
    if agrees and means is not None:
        layer.give((*path[:-1], means.setting), value * means.times, where, name, f"{value} x {means.times}")


# --- environment and command line ---------------------------------------------------------------------------


def environment_layer(environ: Mapping[str, str], findings: Findings) -> Layer:
    """`SIDECAR_<SECTION>__<NAME>` and VOS3000's names. A variable that has our form and no key is an error;
    one that has VOS3000's stem may be somebody else's: a warning."""
    layer = Layer(findings)
    where = Where("environment")
    known = {key.environment: key for key in DECLARED.values()}
    for name, text in environ.items():
        if name.startswith(_ENVIRONMENT):
            _read_variable(layer, name, text, known, findings)
        elif name in vos3000.BY_NAME:
            vos_name = vos3000.BY_NAME[name]
            _give(layer, vos_name.path, vos_name.kind, text, where, name, findings, is_text=True)
        elif name.startswith(vos3000.STEM):
            findings.warn(where, name, "is not used", nearest(name, vos3000.BY_NAME))
    return layer


def _read_variable(
    layer: Layer, name: str, text: str, known: Mapping[str, Setting], findings: Findings
) -> None:
    where = Where("environment")
    rest = name.removeprefix(_ENVIRONMENT)
    key = known.get(name)
    if key is None and name.endswith("__ALL"):
        flag = known.get(name.removesuffix("__ALL"))
        key = flag if flag is not None and _has_children(flag.path) else None
    code = rest.removeprefix("Q850__")
    if key is not None:
        _give(layer, key.path, key.kind, text, where, name, findings, is_text=True)
    elif code != rest and _is_final_code(code):
        _give(layer, (Q850, code), _CAUSE, text, where, name, findings, is_text=True)
    elif "__" in rest:
        findings.error(where, name, "there is no such setting", nearest(name, known))
    else:
        near = {one.replace("__", "_"): one for one in known}.get(name)
        if near is not None:
            findings.error(where, name, "is not a setting: two underscores follow the section", near)


def command_line_layer(given: Mapping[str, object], findings: Findings) -> Layer:
    """`section.name` to a word, or to a value that the command line has already typed."""
    layer = Layer(findings)
    where = Where("command line")
    for name, raw in given.items():
        path = tuple(name.split("."))
        key = DECLARED.get(path)
        if key is not None:
            is_text = isinstance(raw, str)
            _give(layer, key.path, key.kind, raw, where, name, findings, is_text=is_text)
        elif path[0] == Q850 and len(path) == 2 and _is_final_code(path[1]):
            _give(layer, path, _CAUSE, raw, where, name, findings, is_text=isinstance(raw, str))
        else:
            findings.error(where, name, "there is no such key", _suggest(path))
    return layer
