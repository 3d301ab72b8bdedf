"""The schema is current, and says of our own records that they are right and of wrong ones that they are not.

The validator below knows the keywords that the schema uses, and fails on any other, so none goes unchecked.
"""

from __future__ import annotations

import json
import re
from datetime import datetime
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings

from sidecar.core.cdr import Cdr
from sidecar.core.records import cdr_of
from sidecar.wire.cdr_codec import encode_json
from sidecar.wire.schema import SCHEMA_FILE, cdr_schema, text
from tests.adapters.store_calls import POLICY, admitted, answered, ended
from tests.wire.cdrs import cdrs

SCHEMA = cdr_schema()
NOTES = {"$schema", "$defs", "title", "description", "default"}
TYPES = {"string": str, "integer": int, "boolean": bool, "null": type(None), "object": dict, "array": list}
SPEAKS_OF: dict[str, type] = {
    "pattern": str,
    "format": str,
    "properties": dict,
    "required": dict,
    "items": list,
}
GOOD: dict[str, Any] = json.loads(encode_json(cdr_of(ended(answered(admitted())), POLICY)))


def faults(value: Any, schema: dict[str, Any], where: str = "cdr") -> list[str]:
    found: list[str] = []
    for keyword, wanted in schema.items():
        if not speaks_of(keyword, value):
            continue  # a keyword says nothing of other types
        match keyword:
            case "$ref":
                found += faults(value, SCHEMA["$defs"][wanted.removeprefix("#/$defs/")], where)
            case "type":
                right = isinstance(value, TYPES[wanted]) and not (
                    wanted == "integer" and isinstance(value, bool)
                )
                found += [] if right else [f"{where}: not {wanted}"]
            case "enum":
                found += [] if value in wanted else [f"{where}: {value!r} is not one of {wanted}"]
            case "const":
                found += [] if value == wanted else [f"{where}: {value!r} is not {wanted!r}"]
            case "anyOf":
                found += (
                    [] if any(not faults(value, s, where) for s in wanted) else [f"{where}: none of {wanted}"]
                )
            case "allOf":
                found += [fault for part in wanted for fault in faults(value, part, where)]
            case "properties":
                for name, part in wanted.items():
                    found += faults(value[name], part, f"{where}.{name}") if name in value else []
            case "required":
                found += [f"{where}: no {name}" for name in wanted if name not in value]
            case "items":
                found += [fault for item in value for fault in faults(item, wanted, f"{where}[]")]
            case "pattern":
                found += [] if re.search(wanted, value) else [f"{where}: {value!r} is not like {wanted}"]
            case "format":
                found += [] if is_format(value, wanted) else [f"{where}: {value!r} is no {wanted}"]
            case "if":
                branch = schema["else"] if faults(value, wanted, where) else schema["then"]
                found += faults(value, branch, where)
            case "then" | "else":
                pass  # read with its `if`
            case _:
                assert keyword in NOTES, f"the validator does not know {keyword}"
    return found


def speaks_of(keyword: str, value: Any) -> bool:
    return isinstance(value, SPEAKS_OF.get(keyword, object))


def is_format(value: str, name: str) -> bool:
    match name:
        case "uuid":
            return str(UUID(value)) == value
        case "date-time":
            return datetime.fromisoformat(value).tzinfo is not None
        case "decimal":
            return True  # the pattern says it
    raise AssertionError(f"the validator does not know the format {name}")


def test_the_shipped_schema_is_current() -> None:
    assert SCHEMA_FILE.read_text() == text(), "run: python -m sidecar.wire.schema"


@settings(max_examples=50)
@given(cdrs())
def test_every_record_that_can_be_encoded_is_valid(cdr: Cdr) -> None:
    assert faults(json.loads(encode_json(cdr)), SCHEMA) == []


def test_a_field_of_a_later_writer_is_allowed() -> None:
    assert faults(GOOD | {"colour": "blue"}, SCHEMA) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"hangup_origin": "nobody"}, "hangup_origin"),
        ({"hangup_origin": "server"}, "server_reason"),
        ({"server_reason": "credit"}, "server_reason"),
        ({"detail": "because"}, "detail"),
        ({"version": 2}, "version"),
        ({"recorded": False}, "suppressed_by"),
        ({"call_id": 7}, "call_id"),
        ({"ended_at": None}, "ended_at"),
        ({"talk_ms": "61000"}, "talk_ms"),
        ({"charges": [GOOD["charges"][0] | {"total": "1E-7"}]}, "total"),
        ({"charges": [GOOD["charges"][0] | {"rating_status": "cheap"}]}, "rating_status"),
    ],
)
def test_what_is_wrong_is_said(change: dict[str, Any], said: str) -> None:
    assert any(said in fault for fault in faults(GOOD | change, SCHEMA))


def test_a_record_without_its_end_is_not_valid() -> None:
    assert faults({name: value for name, value in GOOD.items() if name != "detail"}, SCHEMA)
