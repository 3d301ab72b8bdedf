"""The routes of the page, each with the right that it needs (rights). A handler is asked in a thread: it may
ask the node and the journal, which block."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from http import HTTPStatus
from secrets import compare_digest
from typing import Any
from urllib.parse import quote

import apsw
import structlog
from anyio import CapacityLimiter
from anyio.to_thread import run_sync
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from sidecar.adapters.sqlite.kept_sums import ROWS_PER_STEP, KeptSums
from sidecar.adapters.store.bodies import DamagedError
from sidecar.config.settings import Web
from sidecar.core.rights import MAY, Right
from sidecar.ports import DeckError
from sidecar.web.accounts import AccountPages
from sidecar.web.api import Api
from sidecar.web.assets import assets
from sidecar.web.audit import AuditPages
from sidecar.web.body import BodyError, read_body
from sidecar.web.calls import CallPages
from sidecar.web.command import COMMANDS_MAX, Commands
from sidecar.web.delivery import DeliveryPages
from sidecar.web.guard import COOKIE, SECURE_COOKIE, Guard, Visitor
from sidecar.web.node import CONNECTIONS_MAX, DaemonUnreachableError, Node, StoreError
from sidecar.web.now import Now
from sidecar.web.numbers import NumberPages
from sidecar.web.operate import OperatePages
from sidecar.web.page import AsyncHandler, Handler, NotAllowedError, Page, visitor_of
from sidecar.web.passwords import Passwords
from sidecar.web.rates import RatePages
from sidecar.web.records import RecordPages
from sidecar.web.revenue import RevenuePages
from sidecar.web.uploads import UPLOAD_BYTES_MAX, UploadError, Uploads, form_of
from sidecar.wire.control import CommandError, ErrorCode
from sidecar.wire.control_users import Deed

HANDLERS_MAX = CONNECTIONS_MAX + 2

log = structlog.get_logger("sidecar.web")


UPLOADS_MAX = 2  # read at once, each in memory
UPLOAD_S_MAX = 60.0
FORGET_S = 60.0
SUM_INTERVAL_S = 2.0


def page_of(web: Web, node: Node, commands: Commands) -> Guard:
    page = Page(web, node)
    sums = KeptSums(node.books, node.data_dir, node.zone)
    now = Now(node, sums, partial(page.fragment, "figures.html"))
    calls = CallPages(node)
    records = RecordPages(node)
    accounts = AccountPages(node, commands)
    revenue = RevenuePages(node, sums)
    delivery = DeliveryPages(node)
    uploads = Uploads(node.data_dir)
    rates = RatePages(node, commands, uploads)
    operate = OperatePages(node, commands)
    limiter = CapacityLimiter(HANDLERS_MAX)
    slow = CapacityLimiter(COMMANDS_MAX + 1)  # who waits for a command keeps nobody else waiting
    passwords = Passwords(node, page.sessions)

    uploading = CapacityLimiter(UPLOADS_MAX)

    def checked(
        right: Right, handler: AsyncHandler, *, has_file: bool = False
    ) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            visitor = visitor_of(request)
            if visitor.user is None or visitor.session is None:
                return _to_sign_in(request)
            if right not in MAY[visitor.user.role]:
                raise NotAllowedError(f"Your role, {visitor.user.role.value}, may not do this.")
            if has_file:
                async with uploading:
                    await _read_upload(request, visitor)
            sent = visitor.form.get("csrf", "").encode()
            if request.method == "POST" and not compare_digest(sent, visitor.session.csrf.encode()):
                raise NotAllowedError("This form is of another session: open the page again.")
            return await handler(page, request)

        return answer

    def needing(
        right: Right, handler: Handler, *, has_file: bool = False, among: CapacityLimiter = limiter
    ) -> Callable[[Request], Awaitable[Response]]:
        async def in_thread(page: Page, request: Request) -> Response:
            return await run_sync(handler, page, request, limiter=among)

        return checked(right, in_thread, has_file=has_file)

    async def sign_in(request: Request) -> Response:
        return await passwords.sign_in(page, request)

    async def stream(request: Request) -> Response:
        return await now.stream(request)

    routes = [
        Route("/assets/{name}", _asset),
        Route("/sign-in", sign_in, methods=["GET", "POST"]),
        Route("/password", checked(Right.SEE, passwords.change), methods=["GET", "POST"]),
        Route("/sign-out", needing(Right.SEE, _sign_out), methods=["POST"]),
        Route("/", needing(Right.SEE, now.show)),
        Route("/now/series", needing(Right.SEE, lambda _, request: now.series(request))),
        Route("/now/stream", _streaming(Right.SEE, stream)),
        Route("/records", needing(Right.SEE, records.list)),
        Route("/records/{call_id:uuid}", needing(Right.SEE, records.show)),
        Route("/revenue", needing(Right.MONEY, revenue.show)),
        Route("/accounts", needing(Right.MONEY, accounts.list)),
        Route("/accounts/one", needing(Right.MONEY, accounts.show)),
        Route("/accounts/one", needing(Right.BOOK, accounts.book), methods=["POST"]),
        Route("/accounts/statement", needing(Right.MONEY, accounts.statement, among=slow)),
        Route("/rates", needing(Right.MONEY, rates.list)),
        Route("/rates/name", needing(Right.MONEY, rates.name, among=slow)),
        Route("/rates/route", needing(Right.MONEY, rates.route)),
        Route("/rates/deck", needing(Right.MONEY, rates.deck, among=slow)),
        Route("/rates/lists", needing(Right.RATE, rates.upload, has_file=True, among=slow), methods=["POST"]),
        Route("/rates/lists/{token}", needing(Right.RATE, rates.preview)),
        Route("/rates/lists/{token}", needing(Right.RATE, rates.read_again, among=slow), methods=["POST"]),
        Route("/rates/lists/{token}/keep", needing(Right.RATE, rates.keep, among=slow), methods=["POST"]),
        Route("/rates/lists/{token}/drop", needing(Right.RATE, rates.drop), methods=["POST"]),
        Route("/rates/activate", needing(Right.RATE, rates.activate, among=slow), methods=["POST"]),
        Route("/rates/rollback", needing(Right.RATE, rates.rollback), methods=["POST"]),
        Route("/rates/cancel", needing(Right.RATE, rates.cancel), methods=["POST"]),
        Route("/numbers", needing(Right.MONEY, NumberPages(node, commands).show, among=slow)),
        Route("/delivery", needing(Right.SEE, delivery.list)),
        Route("/delivery/retry", needing(Right.DELIVER, delivery.retry), methods=["POST"]),
        Route("/delivery/drop", needing(Right.DELIVER, delivery.drop), methods=["POST"]),
        Route("/delivery/replay", needing(Right.DELIVER, delivery.replay), methods=["POST"]),
        Route("/node", needing(Right.SEE, operate.show)),
        Route("/node/look", needing(Right.OPERATE, operate.look), methods=["POST"]),
        Route("/node/reload", needing(Right.OPERATE, operate.reload), methods=["POST"]),
        Route("/node/drain", needing(Right.OPERATE, operate.drain), methods=["POST"]),
        Route("/node/accept", needing(Right.OPERATE, operate.accept), methods=["POST"]),
        Route("/node/verify", needing(Right.OPERATE, operate.verify, among=slow), methods=["POST"]),
        Route("/audit", needing(Right.AUDIT, AuditPages(node).list)),
        Route("/calls", needing(Right.SEE, calls.list)),
        Route("/calls/{call_id:uuid}/release", needing(Right.RELEASE, calls.ask)),
        Route("/calls/{call_id:uuid}/release", needing(Right.RELEASE, calls.release), methods=["POST"]),
    ]

    @asynccontextmanager
    async def lifespan(_: Starlette) -> Any:
        async with now.looking(), asyncio.TaskGroup() as tasks:
            forgetting = tasks.create_task(_forget_old(uploads), name="uploads")
            summing = tasks.create_task(_sum_on(sums), name="sums")
            try:
                yield
            finally:
                forgetting.cancel()
                summing.cancel()
                uploads.close()
                node.books.close()

    app = Starlette(
        routes=routes,
        exception_handlers={
            HTTPException: partial(_not_there, page),
            NotAllowedError: partial(_not_allowed, page),
            CommandError: partial(_refused, page),
            UploadError: partial(_no_upload, page),
            DeckError: partial(_unreadable, page),
            DaemonUnreachableError: partial(_unreachable, page),
            StoreError: partial(_unreadable, page),
            DamagedError: partial(_unreadable, page),
            apsw.Error: partial(_unreadable, page),
            Exception: partial(_defect, page),
        },
        lifespan=lifespan,
    )
    return Guard(app, Api(node), web, node, page.sessions)


def _streaming(right: Right, handler: Callable[[Request], Any]) -> Callable[[Request], Any]:
    async def answer(request: Request) -> Response:
        user = visitor_of(request).user
        if user is None or right not in MAY[user.role]:
            return Response(status_code=HTTPStatus.NO_CONTENT)  # EventSource does not ask again
        return Response() if request.method == "HEAD" else await handler(request)

    return answer


async def _read_upload(request: Request, visitor: Visitor) -> None:
    """A form with a file. UploadError says what is wrong with it."""
    try:
        body = await read_body(request.headers, request.receive, UPLOAD_BYTES_MAX, UPLOAD_S_MAX)
    except BodyError as error:
        limit = f"{UPLOAD_BYTES_MAX // 2**20} MB: `sidecar deck import` reads larger ones."
        raise UploadError(f"{error} A file may have {limit}") from None
    visitor.form, visitor.files = form_of(request.headers.get("content-type", ""), body)


async def _forget_old(uploads: Uploads) -> None:
    while True:
        await asyncio.sleep(FORGET_S)
        await run_sync(uploads.forget_old)


async def _sum_on(sums: KeptSums) -> None:
    """While there is much to read, half of the time is left to those who look."""
    while True:
        began_s, read = time.monotonic(), 0
        try:
            read = await run_sync(sums.advance)
        except (apsw.Error, StoreError, OSError) as error:
            log.warning("page_sums_failed", error=str(error))
        except Exception:
            log.exception("page_sums_failed")  # a defect of ours
        behind = read >= ROWS_PER_STEP
        await asyncio.sleep(time.monotonic() - began_s if behind else SUM_INTERVAL_S)


def _sign_out(page: Page, request: Request) -> Response:
    visitor = visitor_of(request)
    assert visitor.user is not None
    page.sessions.end(visitor.token)
    try:
        page.node.note(Deed.SIGN_OUT, visitor.user.name, visitor.address)
    except (DaemonUnreachableError, CommandError) as error:
        log.warning("page_not_noted", deed="sign_out", error=str(error))
    answer = RedirectResponse("/sign-in", HTTPStatus.SEE_OTHER)
    answer.delete_cookie(
        SECURE_COOKIE if visitor.is_https else COOKIE, secure=visitor.is_https, httponly=True, samesite="lax"
    )
    return answer


async def _asset(request: Request) -> Response:
    found = assets().get(request.path_params["name"])
    if found is None:
        raise HTTPException(HTTPStatus.NOT_FOUND)
    return Response(
        found.content,
        media_type=found.media_type,
        headers={"cache-control": "public, max-age=31536000, immutable"},
    )


def _to_sign_in(request: Request) -> Response:
    path = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    place = "/sign-in" if request.method == "POST" else f"/sign-in?next={quote(path, safe='')}"
    if request.headers.get("hx-request"):
        return Response(status_code=HTTPStatus.UNAUTHORIZED, headers={"hx-redirect": "/sign-in"})
    return RedirectResponse(place, HTTPStatus.SEE_OTHER)


# --- what went wrong ----------------------------------------------------------------------------------------


def _wrong(page: Page, request: Request, status: int, title: str, text: str) -> Response:
    return page.show(request, "wrong.html", status, title=title, said=text)


async def _not_there(page: Page, request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 404
    return _wrong(page, request, status, HTTPStatus(status).phrase, "There is no such page.")


async def _not_allowed(page: Page, request: Request, error: Exception) -> Response:
    user = visitor_of(request).user
    log.warning("page_not_allowed", user=user.name if user else "", path=request.url.path)
    return _wrong(page, request, 403, "Not allowed", str(error))


async def _no_upload(page: Page, request: Request, error: Exception) -> Response:
    return _wrong(page, request, 413, "Refused", str(error))


async def _refused(page: Page, request: Request, error: Exception) -> Response:
    assert isinstance(error, CommandError)
    status = 404 if error.code is ErrorCode.NOT_FOUND else 409
    title = "Not found" if status == 404 else "Refused"
    return _wrong(page, request, status, title, error.text)


async def _defect(page: Page, request: Request, _: Exception) -> Response:
    return _wrong(page, request, 500, "A defect of ours", "The log of the node has more.")


async def _unreadable(page: Page, request: Request, error: Exception) -> Response:
    log.error("page_without_journal", error=str(error))
    return _wrong(page, request, 503, "The journal cannot be read", str(error))


async def _unreachable(page: Page, request: Request, error: Exception) -> Response:
    log.warning("page_without_node", error=str(error), at_s=time.time())
    return _wrong(page, request, 503, "The node does not answer", str(error))
