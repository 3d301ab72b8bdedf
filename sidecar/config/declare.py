"""What one declared setting is: a field of a msgspec struct, read here once.

    ring_timeout_s: Annotated[int, Meta(ge=1, le=3_600), "No answer by then: 408."] = 120

Name, type, bound, meaning and default stand there; the unit is the end of the name. Beside the type may be a
`Kind` too, which reads it (values), and the notes below. Parsing, error texts, the reference and the bridge's
settings are made of it.
"""

from __future__ import annotations

import types
from collections.abc import Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, NamedTuple, Union, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta

from sidecar.config import values
from sidecar.config.values import Choice, Kind, Whole

_UNITS = {"_per_s": "1/s", "_s": "s", "_ms": "ms", "_ms_max": "ms", "_min": "min", "_digits": "digits"}


class Shown(NamedTuple):
    """The default in words, where it depends on something else."""

    text: str


class Means(NamedTuple):
    """It is another name of a setting beside it, whose value is so many times this one's."""

    setting: str
    times: int


class FileOnly(NamedTuple):
    """Not in a profile, though its neighbours may be."""


class AtStart(NamedTuple):
    """No reload changes it."""


class Setting(msgspec.Struct, frozen=True, kw_only=True):
    """One plain setting, or one field of a table's entries (whose `path` is its name alone)."""

    path: tuple[str, ...]
    kind: Kind[Any]
    meaning: str
    default: Any
    required: bool
    default_text: str
    means: Means | None
    in_profile: bool
    at_start: bool = False  # in force from a start on alone

    @property
    def name(self) -> str:
        return self.path[-1]

    @property
    def dotted(self) -> str:
        return ".".join(self.path)

    @property
    def environment(self) -> str:
        return "SIDECAR_" + "__".join(self.path).upper()

    @property
    def unit(self) -> str:
        return next((unit for end, unit in _UNITS.items() if self.name.endswith(end)), "")


def settings_of(
    struct: type[msgspec.Struct],
    section: tuple[str, ...] = (),
    *,
    in_profile: bool = True,
    at_start: bool = False,
    made_into: Sequence[type[msgspec.Struct]] = (),
) -> Mapping[str, Setting]:
    """The declared fields of a struct, by name, in order. One without a default has that of the core's struct
    which it is `made_into`: what the core must know itself is not written here again."""
    hints = get_type_hints(struct, include_extras=True)
    defaults = {
        field.name: field.default
        for declaring in (*made_into, struct)
        for field in msgspec.structs.fields(declaring)
        if field.default is not msgspec.NODEFAULT
    }
    return {
        name: _setting((*section, name), hints[name], defaults, in_profile=in_profile, at_start=at_start)
        for name in struct.__struct_fields__
    }


def _setting(
    path: tuple[str, ...], hint: Any, defaults: Mapping[str, Any], *, in_profile: bool, at_start: bool
) -> Setting:
    notes = tuple(_notes(hint))
    return Setting(
        path=path,
        kind=_kind(hint, notes),
        meaning=next(note for note in notes if type(note) is str),
        default=defaults.get(path[-1]),
        required=path[-1] not in defaults,
        default_text=next((note.text for note in notes if isinstance(note, Shown)), ""),
        means=next((note for note in notes if isinstance(note, Means)), None),
        in_profile=in_profile and not any(isinstance(note, FileOnly) for note in notes),
        at_start=at_start or any(isinstance(note, AtStart) for note in notes),
    )


def _notes(hint: Any) -> tuple[Any, ...]:
    """What is beside the type, also beside the one that may be None."""
    if get_origin(hint) is Annotated:
        return (*hint.__metadata__, *_notes(get_args(hint)[0]))
    if get_origin(hint) in (Union, types.UnionType):
        return tuple(note for one in get_args(hint) for note in _notes(one))
    return ()


def _kind(hint: Any, notes: Sequence[Any]) -> Kind[Any]:
    for note in notes:
        if isinstance(note, Kind):
            return note
    base = _base(hint)
    if base is bool:
        return values.FLAG
    if base is Path:
        return values.PATH
    if base is int:
        [bound] = [note for note in notes if isinstance(note, Meta)]
        return Whole(bound.ge, bound.le)  # type: ignore[arg-type]  # of an int they are ints
    if isinstance(base, type) and issubclass(base, Enum):
        return Choice(base)
    raise TypeError(f"no kind of value for {hint}")


def _base(hint: Any) -> Any:
    if get_origin(hint) is Annotated:
        return _base(get_args(hint)[0])
    if get_origin(hint) in (Union, types.UnionType):
        return next(_base(one) for one in get_args(hint) if one is not type(None))
    return hint
