"""Accounts: their balances and terms, what was booked, and a balance that is moved by who may."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from sidecar.adapters.store.books import NOTHING_CHARGED, Charged, Held
from sidecar.web.command import Commands
from sidecar.web.making import MADE, Makings, being_made
from sidecar.web.node import Node
from sidecar.web.page import Page, back, visitor_of
from sidecar.wire.control import CommandError, ErrorCode

PER_PAGE = 50
MOVEMENTS = 50
NAME_LENGTH_MAX = 64
CHARGED_MAX = 1_000
# How a balance is moved: the method, and what more it is told.
BOOKINGS: Mapping[str, tuple[str, Mapping[str, object]]] = {
    "top-up": ("account.topup", {}),
    "adjustment": ("account.adjust", {}),
    "credit note": ("account.adjust", {"credit_note": True}),
}
_ODD = re.compile(r"[^A-Za-z0-9_-]+")
FIELDS = ("kind", "amount", "currency", "reference", "text")


class AccountPages:
    def __init__(self, node: Node, commands: Commands) -> None:
        self._node = node
        self._commands = commands
        self._statements = Makings[bytes]()
        self._charged = Makings[Charged](CHARGED_MAX)

    def list(self, page: Page, request: Request) -> Response:
        after = request.query_params.get("after", "")[:NAME_LENGTH_MAX]
        with self._node.connected() as client:
            asked = {"after": after} if after else {}
            found = client.call("account.list", {**asked, "limit": PER_PAGE + 1})["accounts"]
            accounts = [
                client.call("account.show", {"name": one["name"], "movements": 0}) for one in found[:PER_PAGE]
            ]
        return page.show(
            request,
            "accounts.html",
            accounts=accounts,
            after=after,
            onward=accounts[-1]["name"] if len(found) > PER_PAGE else None,
        )

    def show(self, page: Page, request: Request) -> Response:
        name = request.query_params.get("name", "").strip()[:NAME_LENGTH_MAX]
        return self._show(page, request, name, dict.fromkeys(FIELDS, ""), "")

    def book(self, page: Page, request: Request) -> Response:
        """A reference is booked once, so a form that is sent twice moves the balance once."""
        visitor = visitor_of(request)
        assert visitor.user is not None
        name = visitor.form.get("name", "")[:NAME_LENGTH_MAX]
        given = {field: visitor.form.get(field, "").strip() for field in FIELDS}
        method, more = BOOKINGS.get(given["kind"], ("", {}))
        try:
            if not method:
                raise CommandError(ErrorCode.INVALID_PARAMS, "Say how the balance is moved.")
            if not given["text"]:
                raise CommandError(ErrorCode.INVALID_PARAMS, "A reason is needed: it is in the audit trail.")
            done = self._node.ask(
                method,
                **more,
                name=name,
                amount=given["amount"],
                currency=given["currency"] or None,
                reference=given["reference"],
                text=given["text"],
                operator=visitor.user.name,
            )
        except CommandError as error:
            if error.code is ErrorCode.NOT_FOUND:
                raise
            return self._show(page, request, name, given, error.text)
        balance = done["balance"]
        text = f"The {given['kind']} is booked: the balance is {balance['amount']} {balance['currency']}."
        return back(request, f"/accounts/one?{urlencode({'name': name})}", text)

    def statement(self, page: Page, request: Request) -> Response:
        """A month, this one if none is named, or from a day up to another; as CSV to keep (`format=csv`).
        Made anew where something was booked since."""
        query = request.query_params
        name = query.get("name", "").strip()[:NAME_LENGTH_MAX]
        wanted = {one: query.get(one, "").strip()[:40] for one in ("month", "from", "to")}
        with self._node.journal() as journal:
            terms, booked = journal.account_terms(name), journal.booked(name)
        if terms is None:
            raise CommandError(ErrorCode.NOT_FOUND, f"There is no account {name}.")
        if not wanted["from"]:
            wanted["month"] = wanted["month"] or f"{datetime.now(ZoneInfo(terms.zone)):%Y-%m}"
            words = [f"--month={wanted['month']}"]
        else:
            wanted["month"] = ""
            words = [f"--{one}={wanted[one]}" for one in ("from", "to") if wanted[one]]
        said, fault = None, ""
        form = "csv" if query.get("format") == "csv" else "json"
        made = self._statements.ask(
            (name, form, *words),
            lambda: self._commands.text("account", "statement", *words, f"--format={form}", of=(name,)),
            stamp=booked,
            token=query.get(MADE, ""),
        )
        if not made.is_done:
            return being_made(page, request, made, f"Statement of {name}")
        try:
            text = made.result()
            if form == "csv":
                file = (
                    f"statement-{_ODD.sub('_', name)}-{_ODD.sub('_', wanted['month'] or wanted['from'])}.csv"
                )
                headers = {"content-disposition": f'attachment; filename="{file}"'}
                return Response(text, media_type="text/csv; charset=utf-8", headers=headers)
            said = msgspec.json.decode(text)
        except CommandError as error:
            fault = error.text
        return page.show(
            request,
            "statement.html",
            409 if fault else 200,
            name=name,
            zone=terms.zone,
            wanted=wanted,
            said=said,
            fault=fault,
            query=urlencode({"name": name, **{key: value for key, value in wanted.items() if value}}),
        )

    def _show(
        self, page: Page, request: Request, name: str, given: Mapping[str, str], fault: str
    ) -> Response:
        before = request.query_params.get("before", "")
        part = {"before_entry": int(before)} if before.isascii() and before.isdecimal() else {}
        with self._node.connected() as client:
            account = client.call("account.show", {"name": name, "movements": 0})
            asked = {"name": name, "limit": MOVEMENTS + 1, **part}
            movements = client.call("account.ledger", asked)["movements"]
        held, spent = self._standing(name)
        return page.show(
            request,
            "account.html",
            409 if fault else 200,
            account=account,
            held=held,
            spent=spent,
            movements=movements[:MOVEMENTS],
            onward=movements[MOVEMENTS - 1]["entry"] if len(movements) > MOVEMENTS else None,
            is_first=not part,
            given=given,
            fault=fault,
            bookings=tuple(BOOKINGS),
            query=urlencode({"name": name}),
        )

    def _standing(self, name: str) -> tuple[Sequence[Held], Sequence[tuple[str, Decimal | None, Decimal]]]:
        """What live calls hold, and of each limit what is spent, theirs too, as a grant reckons it; None: it
        is being reckoned."""
        with self._node.journal() as journal:
            terms = journal.account_terms(name)
            held = journal.held(name)
            if terms is None:
                return held, ()
            here = sum((one.amount for one in held if one.currency == terms.currency), Decimal(0))
            named = [
                title
                for title, one in (("day", terms.day_limit), ("month", terms.month_limit))
                if one is not None
            ]
            limits = zip(named, terms.spending_limits(time.time_ns()), strict=True)
            booked = journal.booked(name)
        spent = []
        for title, (limit, since_ns) in limits:
            found = self._charged_since(name, terms.currency, since_ns, booked)
            spent.append((title, None if found is None else found + here, limit))
        return held, spent

    def _charged_since(self, name: str, currency: str, since_ns: int, booked: object) -> Decimal | None:
        """Of a year's ledger it takes a while, beside the page: None until then. Later, what was booked since
        is added."""
        key = (name, currency, str(since_ns))
        last = self._charged.last(key)
        known = last.result() if last is not None else NOTHING_CHARGED

        def reckon() -> Charged:
            with self._node.journal() as journal:
                return journal.charged_since(name, currency, since_ns, known)

        made = self._charged.ask(key, reckon, stamp=booked)
        return made.result().amount if made.is_done else None
