"""Signing in by a password. An unknown user, a wrong password and one who is disabled get the same answer
after the same work; who fails too often waits (throttle). Each is noted; where the node does not answer,
nobody gets in, because it could not be."""

from __future__ import annotations

import time
from functools import partial
from http import HTTPStatus

import structlog
from anyio import CapacityLimiter
from anyio.to_thread import run_sync
from argon2 import PasswordHasher
from argon2.exceptions import Argon2Error, InvalidHashError
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from sidecar.core.users import User
from sidecar.web.node import Node
from sidecar.web.page import Page, back, visitor_of
from sidecar.web.refusals import Refusals
from sidecar.web.sessions import Sessions
from sidecar.web.throttle import Throttle
from sidecar.wire.control_users import Deed

AT_ONCE_MAX = 2  # each takes 64 MiB and a core for a while
PASSWORD_LENGTH_MIN = 10  # as on the command line
PASSWORD_LENGTH_MAX = 1_000

_hasher = PasswordHasher()
log = structlog.get_logger("sidecar.web")


class Passwords:
    def __init__(self, node: Node, sessions: Sessions) -> None:
        self._node = node
        self._sessions = sessions
        self._throttle = Throttle()
        self._limiter = CapacityLimiter(AT_ONCE_MAX)
        self._of_nobody = _hasher.hash("of nobody")
        self._refusals = Refusals(node, Deed.SIGN_IN_REFUSED, "page_sign_in_refused")

    async def sign_in(self, page: Page, request: Request) -> Response:
        visitor = visitor_of(request)
        wanted = own_path(request.query_params.get("next", "/"))
        if visitor.user is not None:
            return RedirectResponse(wanted, HTTPStatus.SEE_OTHER)
        if not page.has_passwords or request.method != "POST":
            return page.show(request, "sign_in.html", error="", name="", next=wanted)
        name, password = visitor.form.get("name", "")[:64], visitor.form.get("password", "")
        wanted = own_path(visitor.form.get("next", "/"))
        now_s = time.monotonic()
        if self._throttle.is_held(visitor.address, name, now_s):
            await self._refusals.note(name, visitor.address, "too many failures")
            error = "Too many failures: try again in a few minutes."
            return page.show(request, "sign_in.html", 429, error=error, name=name, next=wanted)
        # Counted before it is looked at: those that come at once must not all pass.
        self._throttle.failed(visitor.address, name, now_s)
        user = await run_sync(self._of_password, name, password, limiter=self._limiter)
        if user is None:
            await self._refusals.note(name, visitor.address, "wrong")
            error = "The name or the password is wrong."
            return page.show(request, "sign_in.html", 403, error=error, name=name, next=wanted)
        await run_sync(self._node.note, Deed.SIGN_IN, name, visitor.address or "unix")
        self._throttle.signed_in(visitor.address, name)
        if visitor.token:
            self._sessions.end(visitor.token)
        visitor.token, visitor.session = self._sessions.begin(name, now_s, user.password_hash or "")
        answer = RedirectResponse(wanted, HTTPStatus.SEE_OTHER)
        page.set_cookie(visitor, answer)
        return answer

    async def change(self, page: Page, request: Request) -> Response:
        """One's own, by who knows the old one; all other sessions of the user end."""
        visitor = visitor_of(request)
        user, session, form = visitor.user, visitor.session, visitor.form
        assert user is not None
        assert session is not None
        if not page.has_passwords or request.method != "POST":
            return page.show(request, "password.html", error="")
        now_s, new = time.monotonic(), form.get("new", "")
        error = ""
        if not PASSWORD_LENGTH_MIN <= len(new) <= PASSWORD_LENGTH_MAX:
            error = f"A password has {PASSWORD_LENGTH_MIN} characters or more."
        elif new != form.get("again", ""):
            error = "The new password is not the same both times."
        elif self._throttle.is_held(visitor.address, user.name, now_s):
            error = "Too many failures: try again in a few minutes."
        if error:
            return page.show(request, "password.html", 409, error=error)
        self._throttle.failed(visitor.address, user.name, now_s)
        known = await run_sync(self._of_password, user.name, form.get("old", ""), limiter=self._limiter)
        if known is None:
            await self._refusals.note(user.name, visitor.address, "wrong, to change it")
            return page.show(request, "password.html", 409, error="The old password is wrong.")
        self._throttle.signed_in(visitor.address, user.name)
        hashed = await run_sync(_hasher.hash, new, limiter=self._limiter)
        ask = partial(self._node.ask, name=user.name, password_hash=hashed, operator=user.name)
        await run_sync(ask, "user.set")
        self._sessions.end_all_of(user.name)
        visitor.token, visitor.session = self._sessions.begin(user.name, now_s, hashed)
        answer = back(request, "/", "Your password is another one now.")
        page.set_cookie(visitor, answer)
        return answer

    def _of_password(self, name: str, password: str) -> User | None:
        """Who has this name and this password, and may use the page."""
        user = self._node.user(name) if name else None
        known = user.password_hash if user is not None and user.enabled and user.token is None else None
        try:
            _hasher.verify(known or self._of_nobody, password[:PASSWORD_LENGTH_MAX])
        except (Argon2Error, InvalidHashError):
            return None
        return user if known is not None else None


def own_path(path: str) -> str:
    """Of this page, or its beginning: no sign-in leads elsewhere."""
    is_own = path.startswith("/") and not path.startswith(("//", "/\\")) and path.isprintable()
    return path if is_own and "\\" not in path else "/"
