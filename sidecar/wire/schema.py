"""The JSON Schema of the CDR, generated from its one definition; `python -m sidecar.wire.schema` writes it
anew.

It describes the JSON form. In MessagePack the same fields hold the same values, but for times, which are the
timestamp extension there and RFC 3339 text in JSON. Unknown fields are allowed: a later writer may add some.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec

from sidecar.core.cdr import Cdr
from sidecar.core.terms import HangupOrigin, ServerReason
from sidecar.wire.cdr_codec import CONTENT_VERSION
from sidecar.wire.reference import STRUCTS, fields

SCHEMA_FILE = Path(__file__).with_name(f"cdr-v{CONTENT_VERSION}.schema.json")
DIALECT = "https://json-schema.org/draft/2020-12/schema"
_AMOUNT = r"^-?[0-9]+(\.[0-9]+)?$"


def cdr_schema() -> dict[str, Any]:
    """The schema as a value: msgspec's, plus the rules that types alone do not say."""
    schema = msgspec.json.schema(Cdr)
    _name_formats(schema)
    for struct in STRUCTS.values():
        properties = schema["$defs"][struct.__name__]["properties"]
        for field in fields(struct):
            properties[field.name]["description"] = field.meaning
    cdr = schema["$defs"]["Cdr"]
    cdr["properties"]["version"] = {"const": CONTENT_VERSION, "description": "1."}
    cdr["required"] = sorted({"version", *cdr["required"]})
    cdr["allOf"] = [_server_reason_rule(), _suppressed_rule()]
    head = {"$schema": DIALECT, "title": f"CDR, version {CONTENT_VERSION}"}
    return head | schema


def text() -> str:
    return json.dumps(cdr_schema(), indent=2, sort_keys=True) + "\n"


def unwrap(node: dict[str, Any]) -> None:
    """Its description, however the docstring is wrapped, and whether Python indents it."""
    if isinstance(text := node.get("description"), str):
        node["description"] = " ".join(text.split())


def _name_formats(node: Any) -> None:
    """What msgspec leaves out: a pattern for amounts (its "decimal" is no format of JSON Schema), and
    date-time, which it writes for times that are bound to be aware; ours are so by construction, and are
    named `..._at`."""
    if isinstance(node, list):
        for child in node:
            _name_formats(child)
    elif isinstance(node, dict):
        if node.get("format") == "decimal":
            node["pattern"] = _AMOUNT
        unwrap(node)
        for name, child in node.items():
            if name.endswith("_at") and isinstance(child, dict):
                for text_type in child.get("anyOf", [child]):
                    if text_type.get("type") == "string":
                        text_type["format"] = "date-time"
            _name_formats(child)


def _server_reason_rule() -> dict[str, Any]:
    """server_reason is present if and only if the origin is server."""
    reasons = sorted(reason.value for reason in ServerReason)
    return {
        "if": {"properties": {"hangup_origin": {"const": HangupOrigin.SERVER.value}}},
        "then": {"properties": {"server_reason": {"enum": reasons}}, "required": ["server_reason"]},
        "else": {"properties": {"server_reason": {"type": "null"}}},
    }


def _suppressed_rule() -> dict[str, Any]:
    """A record is either recorded or names what suppressed it."""
    return {
        "if": {"properties": {"recorded": {"const": False}}, "required": ["recorded"]},
        "then": {"properties": {"suppressed_by": {"type": "string"}}, "required": ["suppressed_by"]},
        "else": {"properties": {"suppressed_by": {"type": "null"}}},
    }


if __name__ == "__main__":
    SCHEMA_FILE.write_text(text())
