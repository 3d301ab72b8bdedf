"""The OpenAPI document of the API (web/api), made of what wire/methods declares; `python -m
sidecar.web.openapi` writes it anew."""

from __future__ import annotations

import json
from http import HTTPStatus
from pathlib import Path
from typing import Any

import msgspec

from sidecar.core.rights import MAY
from sidecar.wire.control import ERROR_MEANINGS, ErrorCode
from sidecar.wire.methods import METHODS, Declared
from sidecar.wire.schema import unwrap

OPENAPI_FILE = Path(__file__).with_name("openapi-v1.json")
PROBLEM_TYPE = "application/problem+json"
OPERATOR = "operator"  # a parameter that the token says by itself
# RFC 9110. Those of JSON-RPC's envelope have no meaning here.
STATUS = {
    ErrorCode.PARSE_ERROR: HTTPStatus.BAD_REQUEST,
    ErrorCode.INVALID_REQUEST: HTTPStatus.BAD_REQUEST,
    ErrorCode.METHOD_NOT_FOUND: HTTPStatus.NOT_FOUND,
    ErrorCode.INVALID_PARAMS: HTTPStatus.BAD_REQUEST,
    ErrorCode.INTERNAL_ERROR: HTTPStatus.INTERNAL_SERVER_ERROR,
    ErrorCode.NOT_FOUND: HTTPStatus.NOT_FOUND,
    ErrorCode.REFUSED: HTTPStatus.CONFLICT,
    ErrorCode.BUSY: HTTPStatus.SERVICE_UNAVAILABLE,
    ErrorCode.TIMED_OUT: HTTPStatus.GATEWAY_TIMEOUT,
    ErrorCode.WRONG_SETTINGS: HTTPStatus.CONFLICT,
}
_REF = "#/components/schemas/{name}"
_ABOUT = (
    "What the control socket of a node does, over HTTPS: one POST for each method, its parameters as a JSON "
    "object, its result as the answer. `sidecar token add` makes a token; its role says which methods it may "
    "use, and its name is in the audit table. Errors are problems (RFC 9457)."
)


def openapi() -> dict[str, Any]:
    shown = {name: one for name, one in METHODS.items() if one.right is not None}
    structs = {one.params for one in shown.values()} | {one.result for one in shown.values()}
    ordered = sorted(structs, key=lambda one: one.__name__)
    references, schemas = msgspec.json.schema_components(ordered, ref_template=_REF)
    of = dict(zip(ordered, references, strict=True))
    for one in structs:
        _without_operator(schemas[one.__name__])
        for schema in schemas[one.__name__]["properties"].values():
            if schema.get("default") == "" and schema.get("minLength"):
                del schema["default"]  # what is not given is no name of length 0
    for schema in schemas.values():
        unwrap(schema)
    schemas["Problem"] = _problem()
    document = {
        "openapi": "3.1.0",
        "info": {
            "title": "SIP billing sidecar",
            "version": "1.0.0",
            "description": _ABOUT,
            "license": {"name": "GPL-3.0-or-later", "identifier": "GPL-3.0-or-later"},
        },
        "servers": [{"url": "/api"}],
        "security": [{"token": []}],
        "paths": {f"/{name}": {"post": _operation(name, one, of)} for name, one in sorted(shown.items())},
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "schemas": dict(sorted(schemas.items())),
        },
    }
    return dict(msgspec.json.decode(msgspec.json.encode(document)))  # JSON's own kinds, defaults too


def text() -> str:
    return json.dumps(openapi(), indent=1) + "\n"


def _operation(name: str, declared: Declared, of: dict[type[msgspec.Struct], Any]) -> dict[str, Any]:
    roles = [role.value for role, rights in MAY.items() if declared.right in rights]
    return {
        "operationId": name,
        "tags": [name.partition(".")[0]],
        "description": f"Roles: {', '.join(roles)}.",
        "requestBody": {"content": {"application/json": {"schema": of[declared.params]}}},
        "responses": {
            "200": {
                "description": "The result.",
                "content": {"application/json": {"schema": of[declared.result]}},
            },
            "default": {
                "description": "It was not done, or nobody knows whether it was (504).",
                "content": {PROBLEM_TYPE: {"schema": {"$ref": _REF.format(name="Problem")}}},
            },
        },
    }


def _without_operator(schema: dict[str, Any]) -> None:
    if OPERATOR in schema.get("properties", {}) and "additionalProperties" in schema:
        del schema["properties"][OPERATOR]
        schema["required"] = [name for name in schema.get("required", ()) if name != OPERATOR]


def _problem() -> dict[str, Any]:
    codes = "; ".join(f"{code.value}: {said}" for code, said in ERROR_MEANINGS.items())
    return {
        "type": "object",
        "description": "RFC 9457.",
        "required": ["type", "title", "status", "detail"],
        "properties": {
            "type": {"const": "about:blank"},
            "title": {"type": "string", "description": "Of the status."},
            "status": {"type": "integer"},
            "detail": {"type": "string", "description": "What is wrong, and what to do."},
            "code": {"enum": [code.value for code in ErrorCode], "description": codes},
        },
    }


if __name__ == "__main__":
    OPENAPI_FILE.write_text(text())
