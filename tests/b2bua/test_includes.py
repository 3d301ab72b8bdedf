"""The headers of the native module include one way: each only those of the rooms below its own."""

from __future__ import annotations

import re
from pathlib import Path

NATIVE = Path(__file__).resolve().parents[2] / "sidecar" / "b2bua" / "native"
ROOMS = [
    "bridge",
    "call",
    "relay",
    "leg",
    "translation",
    "liveness",
    "gateway_request",
    "broken_streams",
    "dialog",
    "validity",
    "message",
    "transaction",
    "deadline",
    "stack",
    "digest",
    "tls_names",
    "connections",
    "peer_table",
    "source_limit",
    "address",
    "text",
    "event_queue",
    "messagepack",
    "command_queue",
    "command_box",
    "event",
    "command",
    "terms",
    "declared",
    "counters",
]


def included(header: str) -> list[str]:
    text = (NATIVE / f"{header}.hpp").read_text(encoding="utf-8")
    return re.findall(r'^#include "(\w+)\.hpp"', text, re.MULTILINE)


def test_each_header_has_its_place() -> None:
    assert sorted(ROOMS) == sorted(path.stem for path in NATIVE.glob("*.hpp"))


def test_no_header_includes_one_above_it() -> None:
    place = {room: at for at, room in enumerate(ROOMS)}
    upward = [(room, other) for room in ROOMS for other in included(room) if place[other] <= place[room]]
    assert upward == []
