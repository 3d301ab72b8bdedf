"""The AsyncAPI document of everything on the broker: channels by `topics`, messages by their structs;
`python -m sidecar.wire.asyncapi` writes it anew.

AsyncAPI is written from the side of the node: it sends records, the status, alarms and replays, and receives
requests and reports.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_type_hints

import msgspec

from sidecar.core.alarms import (
    AlarmKind,
    BooksSalvaged,
    FraudRuleFired,
    LowBalance,
    NodeInDoubt,
    NodeTakenOver,
)
from sidecar.core.terms import HangupOrigin
from sidecar.wire import replay
from sidecar.wire.cdr_codec import CONTENT_TYPE, CONTENT_VERSION
from sidecar.wire.event import Event
from sidecar.wire.reference import meaning
from sidecar.wire.report import EpochReport, Report
from sidecar.wire.schema import SCHEMA_FILE
from sidecar.wire.status import Status, Will
from sidecar.wire.topics import ROOT

ASYNCAPI_FILE = Path(__file__).with_name(f"asyncapi-v{CONTENT_VERSION}.json")
_NODE = f"{ROOT}/{{tenant}}/{{node}}"
_PART = "Percent-escaped (RFC 3986): `+`, `#` and `/` never appear in it."
_CORRELATION = {
    "description": "Of the request.",
    "location": "$message.header#/correlationData",
}


def asyncapi() -> dict[str, Any]:
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "SIP billing sidecar",
            "version": f"{CONTENT_VERSION}.0.0",
            "description": _ABOUT,
            "license": {"name": "GPL-3.0-or-later"},
        },
        "defaultContentType": CONTENT_TYPE,
        "channels": {
            "cdr": _channel(
                f"{_NODE}/cdr/{{account}}/{{origin}}",
                "cdr",
                "Each record of each call, in the order of `seq`.",
            ),
            "status": _channel(f"{_NODE}/status", "status", "Retained, renewed at an interval.", "will"),
            "event": _channel(
                f"{_NODE}/event/{{kind}}",
                "event",
                "Alarms: not numbered, and not sent again; the audit table of the node keeps them.",
            ),
            "replay": _channel(f"{_NODE}/replay/{{user}}", "replayRequest", "Asking for records again."),
            "report": _channel(
                f"{_NODE}/report/{{user}}/{{client}}",
                "report",
                "What a subscriber tells of itself: retained, so that a node that starts has it too. An "
                "empty message takes it back.",
            ),
            "replayed": _channel(
                f"{_NODE}/replayed/{{user}}/{{client}}",
                "replayedCdr",
                "The answer, where the request's Response Topic says: this, or the one above it.",
                "replayEnd",
            ),
        },
        "operations": {
            "publishCdr": _operation("send", "cdr", "cdr", qos=1),
            "publishStatus": _operation("send", "status", "status", qos=0, retain=True),
            "publishWill": _operation("send", "status", "will", qos=1, retain=True),
            "publishEvent": _operation("send", "event", "event", qos=1),
            "takeReport": _operation("receive", "report", "report", qos=1, retain=True),
            "answerReplay": _operation("receive", "replay", "replayRequest", qos=1)
            | {
                "reply": {
                    "address": {
                        "location": "$message.header#/responseTopic",
                        "description": "At or below `replayed/<user>`; others are refused.",
                    },
                    "channel": {"$ref": "#/channels/replayed"},
                    "messages": [
                        {"$ref": "#/channels/replayed/messages/replayedCdr"},
                        {"$ref": "#/channels/replayed/messages/replayEnd"},
                    ],
                }
            },
        },
        "components": {
            "messages": _messages(),
            "schemas": _schemas(Status, Will, *_EVENTS, *_REPLAY, EpochReport, Report),
        },
    }


def text() -> str:
    return json.dumps(asyncapi(), indent=2) + "\n"


_EVENTS = (Event, LowBalance, FraudRuleFired, NodeTakenOver, NodeInDoubt, BooksSalvaged)
_REPLAY = (replay.ReplayRequest, replay.ReplayEnd)
_ABOUT = (
    "What a node publishes over MQTT 5, and what may be asked of it. A subscriber keeps its session (Clean "
    "Start off, a Session Expiry Interval, QoS 1), keeps by `call_id` the highest `revision`, and watches "
    "`seq`, which has no gaps within a node's `store_epoch`. Content is MessagePack: the schema of a record "
    "is that of its JSON form, with times as the timestamp extension (type -1)."
)
_PARAMETERS: dict[str, dict[str, Any]] = {
    "tenant": {"description": f"Whose node it is. {_PART}"},
    "node": {"description": f"The node. {_PART}"},
    "account": {"description": f"Whose call it was; `_` where nobody claimed it. {_PART}"},
    "origin": {"description": "Who ended the call.", "enum": [origin.value for origin in HangupOrigin]},
    "kind": {"description": "What is told.", "enum": [kind.value for kind in AlarmKind]},
    "user": {"description": "The broker's user that asks: nobody else may write there."},
    "client": {"description": f"Of the user's own choice. {_PART}"},
}


def _channel(address: str, message: str, about: str, *more: str) -> dict[str, Any]:
    names = [part.strip("{}") for part in address.split("/") if part.startswith("{")]
    return {
        "address": address,
        "description": about,
        "parameters": {name: _PARAMETERS[name] for name in names},
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in (message, *more)},
    }


def _operation(action: str, channel: str, message: str, *, qos: int, retain: bool = False) -> dict[str, Any]:
    return {
        "action": action,
        "channel": {"$ref": f"#/channels/{channel}"},
        "messages": [{"$ref": f"#/channels/{channel}/messages/{message}"}],
        "bindings": {"mqtt": {"qos": qos, "retain": retain, "bindingVersion": "0.2.0"}},
    }


def _messages() -> dict[str, Any]:
    record = {
        "schemaFormat": "application/schema+json;version=draft-07",
        "schema": {"$ref": SCHEMA_FILE.name},
    }
    identity = {
        "message_id": "As in the record: the same when it is sent again.",
        "version": "The record's.",
        "node": "The node.",
    }
    again = identity | {replay.REPLAYED: "`1`: it was asked for."}
    return {
        "cdr": _message("One revision of one call's record.", record, identity),
        "replayedCdr": _message("A record again.", record, again) | {"correlationId": _CORRELATION},
        "status": _message("What a subscriber finds his last gap by.", _ref(Status), {"node": "The node."}),
        "will": _message("The node is gone.", _ref(Will), {"node": "The node."}),
        "event": _message("An alarm.", _ref(Event), identity | {"version": "The event's."}),
        "replayRequest": _message(
            "Which numbers to send again.", _ref(replay.ReplayRequest), {}, responseTopic="Where to answer."
        )
        | {"correlationId": _CORRELATION},
        "report": _message("How far a subscriber has come, and what it lacks.", _ref(Report), {}),
        "replayEnd": _message(
            "Behind the last record that was asked for.", _ref(replay.ReplayEnd), {replay.REPLAY_END: "`1`."}
        )
        | {"correlationId": _CORRELATION},
    }


def _message(about: str, payload: dict[str, Any], user: dict[str, str], **more: str) -> dict[str, Any]:
    """`user`: user properties of MQTT 5, `more`: its other ones."""
    headers = {name: {"type": "string", "description": said} for name, said in (user | more).items()}
    return {
        "summary": about,
        "contentType": CONTENT_TYPE,
        "headers": {"type": "object", "description": "Properties of MQTT 5.", "properties": headers},
        "payload": payload,
    }


def _ref(struct: type[msgspec.Struct]) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{struct.__name__}"}


def _schemas(*structs: type[msgspec.Struct]) -> dict[str, Any]:
    _, schemas = msgspec.json.schema_components(structs, ref_template="#/components/schemas/{name}")
    for struct in structs:
        hints = get_type_hints(struct, include_extras=True)
        for name, schema in schemas[struct.__name__]["properties"].items():
            is_tag = name == struct.__struct_config__.tag_field
            schema["description"] = "As in the topic." if is_tag else meaning(hints[name])
    return schemas


if __name__ == "__main__":
    ASYNCAPI_FILE.write_text(text())
