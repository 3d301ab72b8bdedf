"""The API for programs: a token's role says what it may ask; it answers as the control socket does, refuses
in bounds, and what was done stands under the token's name."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from sidecar.core.rights import MAY, Right
from sidecar.core.users import Role
from sidecar.web.openapi import OPENAPI_FILE, openapi, text
from sidecar.wire.methods import METHODS
from tests.web.rig import HASH, PageRig, Visit


class Said(NamedTuple):
    status: int
    content_type: str
    json: Any
    headers: Mapping[str, str]


class Program:
    """Who has a token, and sends what it likes."""

    def __init__(self, place: str, token: str = "") -> None:
        self.host, self.port = urlsplit(place).hostname or "", urlsplit(place).port
        self.token = token

    def send(self, verb: str, path: str, body: bytes | None = None, **headers: str) -> Said:
        connection = http.client.HTTPConnection(self.host, self.port, timeout=30)
        try:
            token = {"authorization": f"Bearer {self.token}"} if self.token else {}
            connection.request(verb, path, body, {"content-type": "application/json", **token, **headers})
            answer = connection.getresponse()
            said = {name.lower(): value for name, value in answer.getheaders()}
            return Said(answer.status, said["content-type"], json.loads(answer.read()), said)
        finally:
            connection.close()

    def call(self, method: str, **params: object) -> Said:
        return self.send("POST", f"/api/{method}", json.dumps(params).encode())


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[PageRig]:
    async with PageRig.of(tmp_path, {"ada": Role.ADMIN}) as rig:
        yield rig


async def program(rig: PageRig, role: Role) -> Program:
    made = await rig.daemon.command(
        *("token", "add", f"{role.value}'s", "--role", role.value, "--operator", "ann", "--json")
    )
    assert made["token"].startswith(f"{role.value}%27s.")
    return Program(rig.place_of_page, made["token"])


async def test_each_role_may_use_the_methods_that_it_has_the_right_for_and_no_other(rig: PageRig) -> None:
    for role in Role:
        asking = await program(rig, role)
        for name, declared in METHODS.items():
            # A parameter that nobody has: whoever may ask is told so, and nothing is done.
            said = await asyncio.to_thread(asking.call, name, nobody_has_this=1)
            if declared.right is None:
                assert said.status == 404, name
            elif declared.right in MAY[role]:
                assert (said.status, said.json.get("code")) == (400, -32602), (role, name, said)
            else:
                assert (said.status, "code" in said.json) == (403, False), (role, name, said)


async def test_it_answers_as_the_control_socket_does_and_notes_each_look_at_whole_numbers(
    rig: PageRig,
) -> None:
    admin = await program(rig, Role.ADMIN)
    made = await asyncio.to_thread(admin.call, "account.create", name="acme", kind="prepaid", currency="EUR")
    assert made.status == 200, made
    booked = {"name": "acme", "amount": "12.50", "reference": "r1"}
    done = await asyncio.to_thread(lambda: admin.call("account.topup", **booked))
    assert done.json["balance"] == {"currency": "EUR", "amount": "12.50"}
    for method, params in (
        ("account.show", {"name": "acme"}),
        ("account.list", {}),
        ("node.gateways", {}),
        ("cdr.search", {"limit": 3}),
        ("call.list", {}),
        ("token.list", {}),
    ):
        said = await asyncio.to_thread(lambda: admin.call(method, **params))  # noqa: B023
        assert (said.status, said.content_type) == (200, "application/json")
        assert said.json == await rig.control(method, **params)
    [entry] = await rig.audited("account.topup")
    assert (entry["operator"], entry["subject"]) == ("admin's", "acme")
    looks = [one["subject"] for one in await rig.audited("page.look")]
    assert looks == ["/api/cdr.search", "/api/call.list"]
    for _ in range(3):
        assert (await asyncio.to_thread(admin.call, "call.list")).status == 200
    assert len(await rig.audited("page.look")) == len(looks)
    claimed = await asyncio.to_thread(lambda: admin.call("node.drain", operator="somebody else"))
    assert (claimed.status, claimed.json["detail"]) == (400, "the operator is the name of the token")
    assert (await rig.control("node.status"))["state"] == "accepting"


async def test_what_is_wrong_is_a_problem_and_says_what_to_do(rig: PageRig) -> None:
    admin = await program(rig, Role.ADMIN)

    def asked() -> list[tuple[Said, int, int | None]]:
        return [
            (admin.call("account.show", name="nobody"), 404, -32001),
            (admin.call("no.such.method"), 404, -32601),
            (admin.call("../sign-in"), 404, -32601),
            (admin.call("account.show"), 400, -32602),
            (admin.send("POST", "/api/node.status", b"{"), 400, -32700),
            (admin.send("POST", "/api/node.status", b"[]"), 400, -32602),
            (admin.send("POST", "/api/node.status", b"[" * 60_000), 400, -32700),
            (admin.send("GET", "/api/node.status"), 405, None),
            (admin.send("DELETE", "/api/node.status"), 405, None),
            (admin.send("POST", "/api/node.status", b"a=b", **{"content-type": "text/plain"}), 415, None),
            (admin.send("POST", "/api/node.status", b" " * 70_000), 413, None),
            (admin.call("user.add", name="admin's", role="viewer"), 409, -32002),
        ]

    for said, status, code in await asyncio.to_thread(asked):
        assert (said.status, said.json.get("code"), said.content_type) == (
            status,
            code,
            "application/problem+json",
        )
        assert said.json["status"] == status
        assert said.json["type"] == "about:blank"
        assert said.json["detail"]
        assert said.headers["cache-control"] == "no-store"


async def test_half_a_request_is_not_carried_out(rig: PageRig) -> None:
    operator = await program(rig, Role.OPERATOR)

    def cut_off() -> bytes:
        with socket.create_connection((operator.host, operator.port), timeout=30) as connection:
            head = f"POST /api/node.drain HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {operator.token}\r\n"
            connection.sendall(f"{head}content-length: 20\r\n\r\n".encode())
            connection.shutdown(socket.SHUT_WR)
            return connection.recv(1_000)

    await asyncio.to_thread(cut_off)
    assert (await asyncio.to_thread(operator.call, "node.status")).json["state"] == "accepting"


async def test_a_token_that_is_none_is_refused_noted_and_after_some_not_looked_at(rig: PageRig) -> None:
    viewer = await program(rig, Role.VIEWER)
    await rig.control("user.add", name="vera", role="viewer", password_hash=HASH, operator="test")
    late = {"role": "viewer", "operator": "test", "digest": "0" * 64}
    await rig.control("token.add", name="old", expires_at=datetime.now(UTC) - timedelta(days=1), **late)
    secret = viewer.token.rpartition(".")[2]

    def refused() -> list[Said]:
        place = rig.place_of_page
        cookie = Visit(place)
        cookie.sign_in("ada")
        assert Program(place).send("POST", "/api/node.status", b"{}", cookie=cookie.cookie).status == 401
        return [
            Program(place, token).call("node.status")
            for token in (
                "",
                secret,
                f"vera.{secret}",
                f"old.{secret}",
                "viewer%27s.x",
                "viewer%27s.",
                "%00.x",
            )
        ]

    for said in await asyncio.to_thread(refused):
        assert said.status == 401
        assert said.headers["www-authenticate"].startswith("Bearer")
    noted = [(one["operator"], one["text"]) for one in await rig.audited("api.refused")]
    assert ("viewer's", "wrong") in noted
    assert all(secret not in line for line in rig.log.read_text().splitlines())
    assert (await asyncio.to_thread(viewer.call, "node.status")).status == 200
    await rig.daemon.command("token", "revoke", "viewer's", "--reason", "leaked", "--operator", "ann")
    assert (await asyncio.to_thread(viewer.call, "node.status")).json["detail"] == "The token is revoked."
    assert Visit(rig.place_of_page).sign_in("viewer's", secret).status == 403

    def guess() -> list[int]:
        guessing = Program(rig.place_of_page, "viewer%27s.guess")
        return [guessing.call("node.status").status for _ in range(20)]

    statuses = await asyncio.to_thread(guess)
    assert statuses == sorted(statuses)
    assert set(statuses) == {401, 429}


async def test_a_token_is_shown_once_and_its_name_is_one_of_its_own(rig: PageRig) -> None:
    reader = await program(rig, Role.FINANCE)
    [shown] = await rig.daemon.command("token", "list")
    assert (shown["name"], shown["role"], shown["revoked"]) == ("finance's", "finance", False)
    secret = reader.token.rpartition(".")[2]
    for file in rig.data.glob("journal.db*"):
        assert secret.encode() not in file.read_bytes()
    assert [one["name"] for one in (await rig.control("user.list"))["users"]] == ["ada"]


def test_the_document_is_what_is_declared_and_is_an_openapi_document() -> None:
    assert OPENAPI_FILE.read_text() == text(), "python -m sidecar.web.openapi writes it anew"
    OpenAPIV31SpecValidator(openapi()).validate()
    operation = openapi()["paths"]["/call.release"]["post"]
    assert operation["description"] == "Roles: operator, admin."
    assert "operator" not in openapi()["components"]["schemas"]["CallReleaseParams"]["properties"]
    assert {name.removeprefix("/") for name in openapi()["paths"]} == {
        name for name, one in METHODS.items() if one.right is not None
    }


async def test_the_document_is_served_to_whoever_asks(rig: PageRig) -> None:
    said = await asyncio.to_thread(Program(rig.place_of_page).send, "GET", "/api/openapi.json")
    assert (said.status, said.json) == (200, openapi())


def test_every_right_is_somebodys_and_reading_takes_no_right_to_change() -> None:
    assert frozenset().union(*MAY.values()) == frozenset(Right)
    for name, declared in METHODS.items():
        if name.endswith((".list", ".show", ".status")):
            assert declared.right not in (
                Right.BOOK,
                Right.RELEASE,
                Right.RATE,
                Right.DELIVER,
                Right.OPERATE,
            ), name
