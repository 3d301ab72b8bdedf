"""The API for programs: the methods of the control socket as `POST /api/<method>`, its parameters as a JSON
object, for who has a token (`sidecar token add`). The role of the token says which methods; the right that
each needs is declared beside it (wire/methods). What is done is done under the token's name, and looks at
whole numbers are noted first (looks). It knows no cookies: a browser that is signed in cannot be made to use
it.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from functools import partial
from hmac import compare_digest
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote

import apsw
import msgspec
import structlog
from anyio import CapacityLimiter
from anyio.to_thread import run_sync
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import Receive, Scope

from sidecar.adapters.control_client import ANSWER_S_MAX, ControlClient
from sidecar.core.rights import MAY, Right
from sidecar.core.users import User
from sidecar.web.body import BodyError, read_body
from sidecar.web.looks import Key, Looks
from sidecar.web.node import DaemonUnreachableError, Node, StoreError
from sidecar.web.openapi import OPENAPI_FILE, OPERATOR, PROBLEM_TYPE, STATUS
from sidecar.web.refusals import Refusals
from sidecar.web.throttle import Throttle
from sidecar.wire.control import REQUEST_BYTES_MAX, CommandError, ErrorCode
from sidecar.wire.control_users import Deed
from sidecar.wire.methods import METHODS, Declared

PREFIX = "/api/"
BODY_BYTES_MAX = REQUEST_BYTES_MAX - 1_024  # what the socket says around it, and the operator's name
AT_ONCE_MAX = 4  # of the connections that the page has to the node
WAIT_S_MAX = 10.0
BODY_S_MAX = 10.0
TOKEN_LENGTH_MAX = 512

log = structlog.get_logger("sidecar.web")


class _ProblemError(Exception):
    def __init__(
        self, status: int, detail: str, code: ErrorCode | None = None, headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.code = code
        self.headers = headers or {}


class Api:
    def __init__(self, node: Node) -> None:
        self._node = node
        self._throttle = Throttle()
        self._places = asyncio.Semaphore(AT_ONCE_MAX)
        self._looking_up = CapacityLimiter(AT_ONCE_MAX)  # apart: whoever has no token keeps nobody waiting
        self._looks = Looks()
        self._refusals = Refusals(node, Deed.API_REFUSED, "api_token_refused")

    async def answer(self, scope: Scope, receive: Receive, address: str) -> Response:
        name = scope["path"].removeprefix(PREFIX)
        try:
            return await self._answer(scope, receive, address, name)
        except _ProblemError as error:
            return _problem(error)
        except CommandError as error:
            return _problem(_ProblemError(STATUS[error.code], error.text, error.code))
        except DaemonUnreachableError as error:
            return _problem(_ProblemError(503, str(error)))
        except (StoreError, apsw.Error) as error:
            log.warning("page_without_journal", error=str(error))
            return _problem(_ProblemError(503, "The journal cannot be read now: try again."))
        except Exception:
            log.exception("api_failed", method=name[:64])
            return _problem(_ProblemError(500, "A defect of ours: the log of the node has more."))

    async def _answer(self, scope: Scope, receive: Receive, address: str, name: str) -> Response:
        headers = Headers(scope=scope)
        if name == "openapi.json":
            if scope["method"] not in ("GET", "HEAD"):
                raise _ProblemError(405, "It is read by GET.", headers={"allow": "GET, HEAD"})
            return Response(OPENAPI_FILE.read_bytes(), media_type="application/json")
        user = await self._user(headers, address)
        declared = METHODS.get(name)
        if declared is None or declared.right is None:
            text = "There is no such method: /api/openapi.json has those that there are."
            raise _ProblemError(404, text, ErrorCode.METHOD_NOT_FOUND)
        if scope["method"] != "POST":
            raise _ProblemError(405, "Every method is a POST.", headers={"allow": "POST"})
        if declared.right not in MAY[user.role]:
            log.warning("api_not_allowed", token=user.name, method=name)
            raise _ProblemError(403, f"The role of this token, {user.role.value}, may not do this.")
        params = await self._params(headers, receive, declared, user)
        try:
            async with asyncio.timeout(WAIT_S_MAX):
                await self._places.acquire()
        except TimeoutError:
            text = "Too many requests at once: ask again."
            raise _ProblemError(503, text, ErrorCode.BUSY, {"retry-after": "1"}) from None
        try:
            asked = partial(self._asked, name, declared, params, user, address)
            return Response(await run_sync(asked), media_type="application/json")
        finally:
            self._places.release()

    async def _user(self, headers: Headers, address: str) -> User:
        now_s = time.monotonic()
        if self._throttle.is_held(address, None, now_s):
            text = "Too many wrong tokens came from there: try again later."
            raise _ProblemError(429, text, headers={"retry-after": "300"})
        scheme, _, token = headers.get("authorization", "").partition(" ")
        name, _, secret = token.strip()[:TOKEN_LENGTH_MAX].rpartition(".")
        if scheme.lower() != "bearer" or not name:
            text = "Give a token: Authorization: Bearer ... (`sidecar token add` makes one)."
            raise _ProblemError(401, text, headers={"www-authenticate": "Bearer"})
        user = await run_sync(self._node.user, unquote(name)[:64], limiter=self._looking_up)
        kept = user.token if user is not None else None
        digest = hashlib.sha256(secret.encode()).hexdigest()
        is_right = compare_digest(digest, kept.digest if kept is not None else "")
        why = (
            "wrong"
            if user is None or kept is None or not is_right
            else "revoked"
            if not user.enabled
            else "expired"
            if kept.expires_at.timestamp() <= time.time()
            else ""
        )
        if user is None or why:
            self._throttle.failed(address, None, now_s)
            await self._refusals.note(unquote(name), address, why)
            headers_ = {"www-authenticate": 'Bearer error="invalid_token"'}  # RFC 6750, 3.1
            raise _ProblemError(401, f"The token is {why}.", headers=headers_)
        return user

    async def _params(
        self, headers: Headers, receive: Receive, declared: Declared, user: User
    ) -> dict[str, Any]:
        try:
            body = await read_body(headers, receive, BODY_BYTES_MAX, BODY_S_MAX)
        except BodyError as error:
            raise _ProblemError(error.status, str(error)) from None
        if body and headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            raise _ProblemError(415, "Parameters are application/json.")
        try:
            params = msgspec.json.decode(body or b"{}")
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise _ProblemError(400, f"not JSON: {error}", ErrorCode.PARSE_ERROR) from None
        if not isinstance(params, dict):
            raise CommandError(ErrorCode.INVALID_PARAMS, "parameters are given by name, as an object")
        if OPERATOR in declared.params.__struct_fields__:
            if OPERATOR in params:
                raise CommandError(ErrorCode.INVALID_PARAMS, "the operator is the name of the token")
            params[OPERATOR] = user.name
        return params

    def _asked(
        self, name: str, declared: Declared, params: dict[str, Any], user: User, address: str
    ) -> bytes:
        # The socket gives it up after that long, and says so.
        answer_s_max = max(ANSWER_S_MAX, (declared.within_s or 0.0) + 5.0)
        with self._node.connected(answer_s_max) as client:
            if declared.right is Right.NUMBERS:
                self._note_look(client, (user.name, name, address))
            result = client.call(name, params)
        return msgspec.json.encode(result)

    def _note_look(self, client: ControlClient, key: Key) -> None:
        """On disk when it returns, or the note before stands for this look too."""
        now_s = time.monotonic()
        others = self._looks.unnoted(key, now_s)
        if others is None:
            return
        token, method, address = key
        text = f"{address}, {others} more after the note before" if others else address
        noted = {"deed": Deed.LOOK, OPERATOR: token, "subject": f"{PREFIX}{method}", "text": text}
        client.call("user.note", noted)
        self._looks.noted(key, now_s)


def _problem(error: _ProblemError) -> Response:
    said = {
        "type": "about:blank",
        "title": HTTPStatus(error.status).phrase,
        "status": int(error.status),
        "detail": error.detail,
    }
    if error.code is not None:
        said["code"] = error.code.value
    return Response(
        msgspec.json.encode(said), int(error.status), media_type=PROBLEM_TYPE, headers=error.headers
    )
