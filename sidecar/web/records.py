"""Records: found, and one call with everything that is known of it. Read from the journal itself, in a
snapshot of its own, so the node does not notice, nor need it run (but for whole numbers: a look is noted)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from urllib.parse import urlencode
from uuid import UUID

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from sidecar.core.cdr import Cdr, ChargeRecord
from sidecar.core.explain_call import explain_call
from sidecar.core.found_by import sessions
from sidecar.core.records import is_charged
from sidecar.core.rights import Right
from sidecar.core.sums import Part
from sidecar.core.terms import ChargeSide, Detail, HangupOrigin, ServerReason
from sidecar.ports import CursorError, RecordFilter, RecordPage
from sidecar.web.ladder import ladder
from sidecar.web.node import Node
from sidecar.web.page import NotAllowedError, Page, may, moment_in, wants_whole
from sidecar.wire.control import CommandError, ErrorCode
from sidecar.wire.control_records import CdrSearchParams
from sidecar.wire.reference import CAUSES

PER_PAGE = 50
FIGURE_LENGTH_MAX = 1_000
# As they are asked for on the command line.
FIELDS = (
    *("account", "gateway", "origin", "reason", "detail", "ended_from", "ended_to", "number"),
    *("sip_call_id", "tag", "session_id", "suppressed"),
    *("charge_min", "charge_max", "currency"),
)
# And as figures of the page ask for the calls that they stand for: `none` names what those have not.
OF_FIGURES = ("destination", "none", "part", "only", "holds")
_OF_MONEY = ("charge_min", "charge_max", "currency")
_WORDS = {"origin": HangupOrigin, "reason": ServerReason, "detail": Detail}


class RecordPages:
    def __init__(self, node: Node) -> None:
        self._node = node

    def list(self, page: Page, request: Request) -> Response:
        asked = {name: request.query_params.get(name, "").strip() for name in FIELDS}
        asked |= {name: request.query_params.get(name, "")[:FIGURE_LENGTH_MAX] for name in OF_FIGURES}
        cursor = request.query_params.get("cursor") or None
        if asked["number"] and not may(request, Right.NUMBERS):
            raise NotAllowedError("Your role may not search by numbers.")
        if any(asked[name] for name in _OF_MONEY) and not may(request, Right.MONEY):
            raise NotAllowedError("Your role may not search by charges.")
        fault, found = "", RecordPage(records=(), cursor=None)
        whole = wants_whole(page, request)
        try:
            wanted = _filter(asked, cursor, self._node.zone)
        except ValueError as error:
            fault = str(error)
        else:
            try:
                with self._node.journal() as journal:
                    found = journal.search(wanted, PER_PAGE, cursor)
            except CursorError as error:
                fault = str(error)
        kept = asked | {"cursor": cursor or "", "whole": "1" if whole else ""}

        def place(**other: str | None) -> str:
            said = {
                **kept,
                **({"cursor": cursor} if cursor else {}),
                **({"whole": "1"} if whole else {}),
                **other,
            }
            return "/records?" + urlencode({name: value for name, value in said.items() if value})

        return page.show(
            request,
            "records.html",
            400 if fault else 200,
            fault=fault,
            rows=[(cdr, sold(cdr)) for cdr in found.records],
            wanted=asked,
            words=_WORDS,
            of_figures=[(name, asked[name]) for name in OF_FIGURES if asked[name]],
            zone=self._node.zone,
            is_first=cursor is None,
            onward=found.cursor,
            looked_back_to=found.cursor and _end_of(found.cursor),
            whole=whole,
            place=place,
        )

    def show(self, page: Page, request: Request) -> Response:
        call_id = request.path_params["call_id"]
        assert isinstance(call_id, UUID)
        with self._node.journal() as journal:
            revisions = journal.revisions(call_id)
            booked = journal.charges_of(call_id) if may(request, Right.MONEY) else []
        if not revisions:
            text = f"There is no record of call {call_id}: it may still be up."
            raise CommandError(ErrorCode.NOT_FOUND, text)
        asked = request.query_params.get("revision") or str(revisions[-1].revision)
        cdr = next((one for one in revisions if str(one.revision) == asked), None)
        if cdr is None:
            raise CommandError(ErrorCode.NOT_FOUND, f"Call {call_id} has no such revision.")
        return page.show(
            request,
            "record.html",
            cdr=cdr,
            cause=CAUSES.get(cdr.detail, "somebody hung up").replace("`", ""),
            rungs=ladder(cdr),
            revisions=revisions,
            is_last=cdr is revisions[-1],
            explained=explain_call(cdr),
            booked=booked,
            sums=_sums([(one.currency, one.amount) for one in booked]),
            charged=is_charged(cdr.suppressed_by),
            legs=[(name, leg) for name, leg in (("caller", cdr.leg_a), ("gateway", cdr.leg_b)) if leg],
            whole=wants_whole(page, request),
        )


def sold(cdr: Cdr) -> ChargeRecord | None:
    return next((line for line in cdr.charges if line.side is ChargeSide.SELL), None)


def _end_of(cursor: str) -> datetime:
    return datetime.fromtimestamp(int(cursor.partition(".")[0]) / 1_000_000, UTC)


def _filter(asked: Mapping[str, str], cursor: str | None, zone: str) -> RecordFilter:
    """Checked as on the control socket. ValueError says what is wrong."""
    given: dict[str, object] = {name: asked[name] for name in FIELDS if asked[name]}
    none, only = asked["none"], asked["only"]
    if none not in ("", "gateway", "destination") or only not in ("", "unrated", "overrun"):
        raise ValueError("There is no such figure.")
    try:
        part = Part(asked["part"]) if asked["part"] else None
    except ValueError:
        raise ValueError("There is no such figure.") from None
    for name in ("ended_from", "ended_to"):
        if text := given.get(name):
            given[name] = moment_in(str(text), zone).isoformat()
    given["suppressed"] = bool(given.get("suppressed"))
    try:
        params = msgspec.convert(given | ({"cursor": cursor} if cursor else {}), CdrSearchParams)
    except msgspec.ValidationError as error:
        raise ValueError(str(error)) from None
    if params.session_id is not None and not sessions(params.session_id):
        raise ValueError("The Session-ID has no 32 hexadecimal digits (RFC 7989).")
    return RecordFilter(
        account=params.account,
        origin=params.origin,
        reason=params.reason,
        detail=params.detail,
        gateway="" if none == "gateway" else params.gateway,
        number=params.number,
        since=params.ended_from,
        until=params.ended_to,
        suppressed=params.suppressed,
        sip_call_id=params.sip_call_id,
        tag=params.tag,
        session_id=params.session_id,
        holds=bool(asked["holds"]),
        destination="" if none == "destination" else asked["destination"] or None,
        part=part,
        unrated=only == "unrated",
        overrun=only == "overrun",
        currency=params.currency,
        charge_min=None if params.charge_min is None else Decimal(params.charge_min),
        charge_max=None if params.charge_max is None else Decimal(params.charge_max),
    )


def _sums(booked: list[tuple[str, Decimal]]) -> dict[str, Decimal]:
    sums: dict[str, Decimal] = {}
    for currency, amount in booked:
        sums[currency] = sums.get(currency, Decimal(0)) + amount
    return sums
