"""The AsyncAPI document is current, and says what the code does."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgpack
import msgspec
import pytest

from sidecar.core.alarms import (
    AlarmKind,
    BooksSalvaged,
    FraudRuleFired,
    LowBalance,
    NodeInDoubt,
    NodeTakenOver,
)
from sidecar.core.terms import HangupOrigin
from sidecar.wire import replay, topics
from sidecar.wire.asyncapi import ASYNCAPI_FILE, asyncapi, text
from sidecar.wire.event import Event, encode
from sidecar.wire.report import EpochReport, Report
from sidecar.wire.schema import SCHEMA_FILE
from sidecar.wire.status import Status, Will

DOCUMENT: dict[str, Any] = json.loads(ASYNCAPI_FILE.read_text())
MADE = {
    "cdr": topics.cdr_topic("t", "n", "a", HangupOrigin.CALLER),
    "status": topics.status_topic("t", "n"),
    "event": topics.event_topic("t", "n", AlarmKind.LOW_BALANCE),
    "replay": topics.replay_topic("t", "n", "u"),
    "replayed": topics.replayed_topic("t", "n", "u", "c"),
    "report": topics.report_topic("t", "n", "u", "c"),
}
WORDS = {
    "tenant": "t",
    "node": "n",
    "account": "a",
    "origin": "caller",
    "kind": "low_balance",
    "user": "u",
    "client": "c",
}
NOW = datetime(2026, 11, 27, 3, 0, tzinfo=UTC)
LOW_BALANCE = LowBalance(
    raised_at=NOW, account="acme", currency="EUR", available=Decimal("0E-6"), threshold=Decimal(5)
)
FRAUD_RULE = FraudRuleFired(
    raised_at=NOW,
    rule="night",
    mode="refuse",
    scope="account",
    key="acme",
    measure="destinations",
    threshold=Decimal(20),
    measured=Decimal(21),
    window_s=3600,
    account="acme",
    call_id=UUID(int=2),
)
EPOCH_REPORT = EpochReport(epoch="e", held_seq=3, head_seq=4, missing=2, ranges=((1, 1), (4, 4)))
STRUCTS: dict[str, msgspec.Struct] = {
    "Status": Status(epoch="e", head_seq=4, published=3, commit=2, commit_hash="h"),
    "Will": Will(epoch="e"),
    "Event": Event(message_id=UUID(int=1), tenant="t", node="n", boot_id="b", alarm=LOW_BALANCE),
    "LowBalance": LOW_BALANCE,
    "FraudRuleFired": FRAUD_RULE,
    "NodeTakenOver": NodeTakenOver(raised_at=NOW, dead="n1", epoch="e", calls=3, silent_ms=4100),
    "BooksSalvaged": BooksSalvaged(
        raised_at=NOW, books_of="n1", cause="open call", rows=1, accounts=1, aside="/var/lib/sidecar/x"
    ),
    "NodeInDoubt": NodeInDoubt(raised_at=NOW, dead="n1", heard_at=("udp:192.0.2.1:5060",)),
    "ReplayRequest": replay.ReplayRequest(epoch="e", from_seq=1),
    "EpochReport": EPOCH_REPORT,
    "Report": Report(at=NOW, interval_s=30, epochs=(EPOCH_REPORT,)),
    "ReplayEnd": replay.ReplayEnd(
        epoch="e", from_seq=1, to_seq=2, waiting=((1, 1),), dead=(), absent=((2, 2),)
    ),
}


def refs(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        for key, value in node.items():
            if key == "$ref":
                yield value
            else:
                yield from refs(value)
    elif isinstance(node, list):
        for value in node:
            yield from refs(value)


def test_it_is_current() -> None:
    assert ASYNCAPI_FILE.read_text() == text(), "python -m sidecar.wire.asyncapi writes it anew"
    assert asyncapi() == DOCUMENT


def test_what_it_refers_to_is_there() -> None:
    found = set(refs(DOCUMENT))
    assert SCHEMA_FILE.name in found
    for ref in found - {SCHEMA_FILE.name}:
        at: Any = DOCUMENT
        for part in ref.removeprefix("#/").split("/"):
            at = at[part]
    assert SCHEMA_FILE.parent == ASYNCAPI_FILE.parent


@pytest.mark.parametrize("name", DOCUMENT["channels"])
def test_a_channel_is_the_topic_that_the_code_makes(name: str) -> None:
    channel = DOCUMENT["channels"][name]
    assert channel["address"].format(**WORDS) == MADE[name]
    assert set(channel["parameters"]) == set(re.findall(r"{(\w+)}", channel["address"]))


@pytest.mark.parametrize(("name", "value"), STRUCTS.items())
def test_a_message_has_the_fields_that_are_sent_each_with_its_meaning(
    name: str, value: msgspec.Struct
) -> None:
    schema = DOCUMENT["components"]["schemas"][name]
    assert set(msgspec.to_builtins(value)) == set(schema["properties"])
    assert all(one["description"] for one in schema["properties"].values())


def test_every_message_is_in_a_channel_and_each_operation_names_one_of_its_channel() -> None:
    in_channels = {ref for one in DOCUMENT["channels"].values() for ref in refs(one["messages"])}
    assert in_channels == {f"#/components/messages/{name}" for name in DOCUMENT["components"]["messages"]}
    for operation in DOCUMENT["operations"].values():
        channel = operation["channel"]["$ref"]
        assert all(message["$ref"].startswith(f"{channel}/messages/") for message in operation["messages"])


def test_an_event_is_one_map_with_the_kind_of_its_topic_and_plain_amounts() -> None:
    event = Event(message_id=UUID(int=1), tenant="t", node="n", boot_id="b", alarm=LOW_BALANCE)
    assert msgpack.unpackb(encode(event), timestamp=3) == {
        "version": 1,
        "message_id": str(UUID(int=1)),
        "tenant": "t",
        "node": "n",
        "boot_id": "b",
        "alarm": {
            "kind": "low_balance",
            "raised_at": NOW,
            "account": "acme",
            "currency": "EUR",
            "available": "0.000000",
            "threshold": "5",
        },
    }
    schema = DOCUMENT["components"]["schemas"]["Event"]["properties"]["alarm"]
    assert set(schema["discriminator"]["mapping"]) == {kind.value for kind in AlarmKind}
