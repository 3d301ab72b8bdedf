"""The border between the bridge and the core: events are decoded straight into the structs of core/events.

A batch is a MessagePack array of events. An event is an array: the name of its struct, `mono_ns`, `wall_ns`,
`bridge_id` where it is of a call, then its own fields in their order; InviteReceived alone is its name and a
map, as in the journal. Commands go the other way as they are: the bridge reads their attributes.

Neither side has a list of the other's: each field is declared in the struct here and in the struct there
(native/event.hpp, native/command.hpp), and the two are compared when this module is imported. The bridge
writes UTF-8 whatever bytes a peer has sent, so nothing a peer sends makes a decoder raise. Should an event be
unreadable all the same, it is left out and told, and the others of its batch are not touched.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from enum import IntEnum
from functools import reduce
from operator import or_
from typing import Any, Final

import msgspec

from sidecar.b2bua import _bridge
from sidecar.core import commands, events, terms

Declarations = Mapping[str, Sequence[tuple[str, str]]]  # name of a struct: (field, type), in order


class BoundaryError(Exception):
    """The native module and the core declare different things: `make setup` builds the module anew."""


class _Invite(msgspec.Struct, array_like=True, tag="InviteReceived", frozen=True, gc=False):
    event: events.InviteReceived


class _Id(msgspec.Struct):
    bridge_id: int


def _leaves(kind: type[Any]) -> Iterator[type[Any]]:
    if not (below := kind.__subclasses__()):
        yield kind
    for one in below:
        yield from _leaves(one)


_EVENTS: Final[list[Any]] = [kind for kind in _leaves(events.Event) if not issubclass(kind, events.CallEvent)]
_COMMANDS: Final[list[Any]] = [
    *_leaves(commands.WireCommand),
    commands.Snapshot,
    commands.AskGateway,
    commands.SetServers,
]
_VALUES: Final[list[Any]] = [
    events.LegIdentity,
    events.Contact,
    events.Silence,
    events.Branch,
    events.KeptLeg,
    events.KeptReferral,
    events.KeptState,
    commands.GivenUp,
]
_WORDS: Final[list[Any]] = [
    terms.LegName,
    terms.TransportName,
    terms.RouteFailure,
    terms.LivenessCheck,
    terms.SavedLegState,
    terms.DeadlineKind,
]
_IMPLIED: Final = {"mono_ns", "wall_ns", "bridge_id"}  # of every event, and told apart from its fields

_ANY: Final[Any] = reduce(or_, [_Invite if kind is events.InviteReceived else kind for kind in _EVENTS])
_batch: Final[msgspec.msgpack.Decoder[Any]] = msgspec.msgpack.Decoder(list[_ANY])
_event: Final[msgspec.msgpack.Decoder[Any]] = msgspec.msgpack.Decoder(_ANY)
_raw: Final = msgspec.msgpack.Decoder(list[msgspec.Raw])


def _type_name(kind: Any) -> str:
    name = kind.__name__ if isinstance(kind, type) and not hasattr(kind, "__args__") else str(kind)
    return re.sub(r"\b\w+(\.\w+)*\.(?=\w)", "", name)


def _fields(kind: type[Any], without: set[str]) -> list[tuple[str, str]]:
    fields = msgspec.structs.fields(kind)
    return [(one.encode_name, _type_name(one.type)) for one in fields if one.name not in without]


def mismatches(declared: Mapping[str, Declarations], words: Mapping[str, Sequence[str]]) -> list[str]:
    """What the native module declares otherwise than the core: a line for each struct and set of words."""
    ours = {
        "EVENTS": {
            kind.__name__: _fields(kind, set() if kind is events.InviteReceived else _IMPLIED)
            for kind in _EVENTS
        },
        "VALUES": {kind.__name__: _fields(kind, set()) for kind in _VALUES},
        "COMMANDS": {kind.__name__: _fields(kind, set()) for kind in _COMMANDS},
    }
    found = []
    for group, structs in ours.items():
        for name in sorted(structs.keys() | declared[group].keys()):
            core, native = structs.get(name), declared[group].get(name)
            if core is None or native is None or core != list(native):
                found.append(f"{name}: core {_listed(core)}, native {_listed(native)}")
    for kind in _WORDS:
        first = 1 if issubclass(kind, IntEnum) else None
        said = list(words.get(kind.__name__, ()))
        named = [one.name.lower() for one in kind]
        meant = [one.value for one in kind] == (
            said if first is None else list(range(first, first + len(said)))
        )
        if said != named or not meant:
            found.append(f"{kind.__name__}: core {', '.join(named)}, native {', '.join(said)}")
    return found


def _listed(fields: Sequence[tuple[str, str]] | None) -> str:
    return "has none" if fields is None else "(" + ", ".join(f"{name}: {kind}" for name, kind in fields) + ")"


def check() -> None:
    """Raises BoundaryError, naming what differs."""
    declared = {"EVENTS": _bridge.EVENTS, "VALUES": _bridge.VALUES, "COMMANDS": _bridge.COMMANDS}
    if found := mismatches(declared, _bridge.WORDS):
        raise BoundaryError(
            "the native module and the core differ; run `make setup`\n  " + "\n  ".join(found)
        )


check()


def events_of(batch: bytes) -> tuple[list[events.Event], list[int | None]]:
    """The events of a batch; and of those that are unreadable the bridge_id, None where it is of no call."""
    try:
        return [one.event if type(one) is _Invite else one for one in _batch.decode(batch)], []
    except (msgspec.DecodeError, UnicodeDecodeError):
        return _one_by_one(batch)


def _one_by_one(batch: bytes) -> tuple[list[events.Event], list[int | None]]:
    readable: list[events.Event] = []
    unreadable: list[int | None] = []
    for packed in _raw.decode(batch):
        try:
            one = _event.decode(packed)
        except (msgspec.DecodeError, UnicodeDecodeError):
            unreadable.append(_bridge_id(packed))
        else:
            readable.append(one.event if isinstance(one, _Invite) else one)
    return readable, unreadable


def _bridge_id(packed: msgspec.Raw) -> int | None:
    try:
        name, *fields = msgspec.msgpack.decode(packed, type=list[msgspec.Raw])
        kind = getattr(events, msgspec.msgpack.decode(name, type=str))
        if not issubclass(kind, events.BridgeEvent):
            return None
        if kind is events.InviteReceived:
            return msgspec.msgpack.decode(fields[0], type=_Id).bridge_id
        return msgspec.msgpack.decode(fields[2], type=int)
    except (msgspec.DecodeError, UnicodeDecodeError, AttributeError, IndexError, KeyError):
        return None
