"""Rates: which deck is in force when, what a number costs and why, price lists that are looked at first, and
decks that are put in force, or taken back. What takes long is asked of the command line (command)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from sidecar.adapters.deck_files import shipped_templates
from sidecar.core.deck_history import SETTINGS, Activation, before, in_force, pending
from sidecar.web.command import Commands
from sidecar.web.making import MADE, Makings, being_made
from sidecar.web.node import Node
from sidecar.web.page import Page, back, visitor_of
from sidecar.web.show import moment
from sidecar.web.uploads import Upload, UploadError, Uploads
from sidecar.wire.control import CommandError, ErrorCode

PLACE = "/rates"
DECKS_SHOWN = 50
HISTORY_SHOWN = 100
CHANGES_SHOWN = 200
PEERS_SHOWN = 1_000
# How a list is read, as `deck import` has it; those that repeat are words with spaces between.
OPTIONS = {"template": 64, "columns": 500, "values": 500, "name": 64, "how": 8, "date": 40}
HOW = {"whole": "the whole deck", "merge": "changes to it", "replace": "a whole list: what it lacks ends"}
ROUTE = {"number": 64, "peer": 64, "account": 64, "caller": 64, "seconds": 12}
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_REVISION = re.compile(r"[0-9a-f]{64}")
_PAIR = re.compile(r"[A-Za-z0-9_]{1,40}=[^\x00-\x1f]{1,80}")


class Named(msgspec.Struct, frozen=True, kw_only=True):
    """What is, and is to be, in force under a name."""

    name: str
    revision: str
    rates: int | None
    source: str
    since: datetime | None  # None: of the settings
    operator: str
    coming: tuple[Activation, ...]


class RatePages:
    def __init__(self, node: Node, commands: Commands, uploads: Uploads) -> None:
        self._node = node
        self._commands = commands
        self._uploads = uploads
        self._weighings = Makings[tuple[Any, Any]]()
        self._templates: Mapping[str, str] = {}

    # --- looking --------------------------------------------------------------------------------------------

    def list(self, page: Page, request: Request) -> Response:
        store, now = self._node.decks(), datetime.now(UTC)
        decks = store.decks(now)
        peers = self._node.ask("peer.list")["entries"]
        return page.show(
            request,
            "rates.html",
            names=self._named(now),
            decks=decks[: -DECKS_SHOWN - 1 : -1],
            more=max(0, len(decks) - DECKS_SHOWN),
            peers=[one["name"] for one in peers[:PEERS_SHOWN]],
            templates=self._known_templates(),
            how=HOW,
            zone=self._node.zone,
        )

    def name(self, page: Page, request: Request) -> Response:
        """One name over time; with a number what holds for it from when on."""
        name, now = _name(request.query_params.get("name", "")), datetime.now(UTC)
        one = next((one for one in self._named(now) if one.name == name), None)
        if one is None:
            raise CommandError(ErrorCode.NOT_FOUND, f"There is no deck {name}.")
        history = self._node.decks().history(name)
        wanted = {key: request.query_params.get(key, "").strip()[:64] for key in ("number", "at")}
        prices, fault = None, ""
        if wanted["number"]:
            try:
                prices = self._commands.run(
                    "deck", "show", f"--number={wanted['number']}", *_option("at", wanted["at"]), of=(name,)
                )
            except CommandError as error:
                fault = error.text
        return page.show(
            request,
            "rates_name.html",
            409 if fault else 200,
            one=one,
            facts=self._node.ask("deck.check", name=name),
            history=[(had, _state(had, history, now)) for had in history[: -HISTORY_SHOWN - 1 : -1]],
            earlier=_before(history, now, self._node.decks().of_settings().get(name, "")),
            wanted=wanted,
            prices=prices,
            fault=fault,
            zone=self._node.zone,
        )

    def route(self, page: Page, request: Request) -> Response:
        """A number through the whole way, as `route try` and `cost` have it."""
        wanted = {key: request.query_params.get(key, "").strip()[:most] for key, most in ROUTE.items()}
        given = {"seconds": wanted["seconds"] or "60", "caller": wanted["caller"] or None}
        trial, line, fault = None, None, ""
        try:
            if not wanted["number"]:
                raise CommandError(ErrorCode.INVALID_PARAMS, "Which number?")
            number = wanted["number"]
            if wanted["account"]:
                peer = wanted["peer"] or None
                line = self._node.ask("cost", number=number, account=wanted["account"], peer=peer, **given)
            elif wanted["peer"]:
                trial = self._node.ask("route.try", number=number, peer=wanted["peer"], **given)
            else:
                raise CommandError(ErrorCode.INVALID_PARAMS, "Say from which peer it comes, or whose it is.")
        except CommandError as error:
            fault = error.text
        sell = line if trial is None else trial["sell"]
        names = {one.revision: one.name for one in self._named(datetime.now(UTC)) if one.revision}
        peers = self._node.ask("peer.list")["entries"]
        return page.show(
            request,
            "rates_route.html",
            409 if fault else 200,
            wanted=wanted,
            trial=trial,
            sell=sell,
            fault=fault,
            names=names,
            peers=[one["name"] for one in peers[:PEERS_SHOWN]],
        )

    def deck(self, page: Page, request: Request) -> Response:
        """A stored deck; under a name, what putting it in force would change."""
        asked = request.query_params
        revision, at = _revision(asked.get("revision", "")), asked.get("at", "").strip()[:40]
        name = _name(asked["name"]) if asked.get("name") else ""
        return self._show_deck(page, request, revision, name, at, {"text": ""}, "")

    def _show_deck(
        self,
        page: Page,
        request: Request,
        revision: str,
        name: str,
        at: str,
        given: Mapping[str, str],
        fault: str,
    ) -> Response:
        now = datetime.now(UTC)
        deck = next((one for one in self._node.decks().decks(now) if one.revision == revision), None)
        if deck is None:
            raise CommandError(ErrorCode.NOT_FOUND, f"There is no deck {revision[:12]}.")
        names = self._named(now)
        held = next((one for one in names if one.name == name), None)
        weighed, changes = None, None
        if name:
            made = self._weighings.ask(
                (revision, name, at),
                lambda: self._weighed(revision, name, at, held.revision if held is not None else ""),
                stamp=held and held.revision,
                token=request.query_params.get(MADE, ""),
            )
            if not made.is_done and request.method == "GET":
                return being_made(page, request, made, f"What deck {revision[:12]} would change as {name}")
            try:
                if made.is_done:
                    weighed, changes = made.result()
                else:
                    fault = f"{fault} It is being weighed: open the page again."
            except CommandError as error:
                fault = fault or error.text
        return page.show(
            request,
            "rates_deck.html",
            409 if fault else 200,
            deck=deck,
            name=name,
            at=at,
            names=names,
            held=held,
            weighed=weighed,
            changes=changes,
            given=given,
            fault=fault,
            zone=self._node.zone,
        )

    def _weighed(self, revision: str, name: str, at: str, held: str) -> tuple[Any, Any]:
        """What it would change under a name, and how it differs from what is in force there."""
        weighed = self._commands.run("deck", "activate", "--dry-run", *_option("at", at), of=(revision, name))
        if not held:
            return weighed, None
        return weighed, self._commands.run("deck", "diff", f"--limit={CHANGES_SHOWN}", of=(held, revision))

    # --- price lists ----------------------------------------------------------------------------------------

    def upload(self, page: Page, request: Request) -> Response:
        visitor = visitor_of(request)
        sent = visitor.files.get("file")
        if sent is None or not sent.content:
            raise UploadError("There is no file in the form, or it is empty.")
        options = _options(visitor.form)
        upload = self._uploads.put(_who(request), sent)
        self._read(upload, options)
        return back(request, f"{PLACE}/lists/{upload.token}", "")

    def read_again(self, page: Page, request: Request) -> Response:
        upload = self._upload(request)
        self._read(upload, _options(visitor_of(request).form))
        return back(request, f"{PLACE}/lists/{upload.token}", "")

    def preview(self, page: Page, request: Request) -> Response:
        upload = self._upload(request)
        rows = upload.said["first"] if upload.said else []
        columns = list(dict.fromkeys(name for row in rows for name in row if name != "row"))
        return page.show(
            request,
            "rates_list.html",
            409 if upload.fault else 200,
            upload=upload,
            rows=rows,
            columns=columns,
            names=[one.name for one in self._named(datetime.now(UTC))],
            templates=self._known_templates(),
            how=HOW,
            zone=self._node.zone,
        )

    def keep(self, page: Page, request: Request) -> Response:
        """It is a deck then, and in force nowhere yet."""
        upload = self._upload(request)
        if upload.fault:
            raise CommandError(ErrorCode.REFUSED, upload.fault)
        name, file = upload.options.get("name", ""), upload.path.name
        who = f"--operator={_who(request)}"
        words = (*self._words(upload), who, *_option("text", name and f"for {name}"))
        kept = self._commands.run("deck", "import", *words, of=(str(upload.path),))
        self._uploads.drop(upload)
        place = urlencode({"revision": kept["revision"], **({"name": name} if name else {})})
        return back(request, f"{PLACE}/deck?{place}", f"{file} is deck {kept['revision'][:12]} now.")

    def drop(self, page: Page, request: Request) -> Response:
        upload = self._upload(request)
        self._uploads.drop(upload)
        return back(request, PLACE, f"{upload.path.name} is forgotten.")

    def _read(self, upload: Upload, options: Mapping[str, str]) -> None:
        upload.options, upload.said, upload.fault = options, None, ""
        try:
            words = self._words(upload)
            upload.said = self._commands.run("deck", "import", "--dry-run", *words, of=(str(upload.path),))
        except CommandError as error:
            upload.fault = error.text.replace(f"{upload.path.parent}/", "")

    def _words(self, upload: Upload) -> tuple[str, ...]:
        """Raises CommandError."""
        said = upload.options
        template, how, name = said.get("template", ""), said.get("how", ""), said.get("name", "")
        if template and template not in self._known_templates():
            raise CommandError(ErrorCode.INVALID_PARAMS, f"There is no template {template}.")
        merged: tuple[str, ...] = ()
        if how in ("merge", "replace"):
            if not name:
                raise CommandError(ErrorCode.INVALID_PARAMS, "Say into which deck it goes.")
            merged = (f"--{how}={_name(name)}", *_option("date", said.get("date", "")))
        pairs = [
            f"--{option}={pair}"
            for option, key in (("map", "columns"), ("set", "values"))
            for pair in _pairs(said.get(key, ""))
        ]
        return (*_option("template", template), *merged, *pairs)

    def _upload(self, request: Request) -> Upload:
        found = self._uploads.find(str(request.path_params["token"]), _who(request))
        if found is None:
            raise CommandError(ErrorCode.NOT_FOUND, "This list is not here any more: send it again.")
        return found

    # --- in force -------------------------------------------------------------------------------------------

    def activate(self, page: Page, request: Request) -> Response:
        """Weighed again, and done by the command: without a yes nothing that it has doubts about."""
        form = visitor_of(request).form
        revision, name = _revision(form.get("revision", "")), _name(form.get("name", ""))
        given = {key: form.get(key, "").strip()[:200] for key in ("at", "text", "yes")}
        held = next((one for one in self._named(datetime.now(UTC)) if one.name == name), None)
        fault, done = "", None
        try:
            if not given["text"]:
                raise CommandError(ErrorCode.INVALID_PARAMS, "A reason is needed: it is in the audit trail.")
            if (held.revision if held else "") != form.get("instead_of", ""):
                raise CommandError(ErrorCode.REFUSED, "Another deck was put in force meanwhile: look again.")
            done = self._commands.run(
                "deck",
                "activate",
                f"--operator={_who(request)}",
                f"--text={given['text']}",
                *_option("at", given["at"]),
                *(("--yes",) if given["yes"] else ()),
                of=(
                    revision,
                    name,
                ),
            )
            if not done["done"]:
                fault = "Nothing was put in force: look at what it changes, and say yes to it."
        except CommandError as error:
            fault = error.text
        if fault or done is None:
            return self._show_deck(page, request, revision, name, given["at"], given, fault)
        since = f"comes into force as {name} at {moment(done['in_force_since'])} UTC"
        place = f"{PLACE}/name?{urlencode({'name': name})}"
        return back(
            request,
            place,
            f"Deck {revision[:12]} {since if given['at'] else f'is in force as {name} now'}.",
        )

    def rollback(self, _: Page, request: Request) -> Response:
        name, text = _name(visitor_of(request).form.get("name", "")), _reason(request)
        instead_of = visitor_of(request).form.get("instead_of", "")[:64]
        done = self._node.ask(
            "deck.rollback", name=name, operator=_who(request), text=text, instead_of=instead_of
        )
        place = f"{PLACE}/name?{urlencode({'name': name})}"
        return back(request, place, f"Deck {done['revision'][:12]} is in force as {name} again.")

    def cancel(self, _: Page, request: Request) -> Response:
        form, text = visitor_of(request).form, _reason(request)
        name, revision = _name(form.get("name", "")), _revision(form.get("revision", ""))
        self._node.ask("deck.cancel", name=name, operator=_who(request), revision=revision, text=text)
        place = f"{PLACE}/name?{urlencode({'name': name})}"
        return back(request, place, f"Deck {revision[:12]} does not come into force as {name}.")

    def _named(self, now: datetime) -> Sequence[Named]:
        store = self._node.decks()
        settings, histories = store.of_settings(), store.histories()
        decks = {one.revision: one for one in store.decks(now)}
        found = []
        for name in sorted({*settings, *histories}):
            history = histories.get(name, [])
            held = in_force(history, now)
            is_commanded = held is not None and held.revision != SETTINGS
            revision = held.revision if held is not None and is_commanded else settings.get(name, "")
            deck = decks.get(revision)
            found.append(
                Named(
                    name=name,
                    revision=revision,
                    rates=deck.rates if deck else None,
                    source=deck.source if deck else "",
                    since=held.at if held is not None else None,
                    operator=held.operator if held is not None else "",
                    coming=tuple(pending(history, now)),
                )
            )
        return found

    def _known_templates(self) -> Mapping[str, str]:
        """Their titles by name: of those that come with the product, which do not change while it runs."""
        if not self._templates:
            self._templates = {
                name: one.title for name, one in shipped_templates().items() if one.kind == "deck"
            }
        return self._templates


def _state(one: Activation, history: Sequence[Activation], now: datetime) -> str:
    if one.refused:
        return f"not in force: {one.refused}"
    if one is in_force(history, now):
        return "in force"
    return "to come" if one.at > now else "past"


def _before(history: Sequence[Activation], now: datetime, settings: str) -> str:
    """The revision that a rollback puts in force; empty: there is none."""
    if in_force(history, now) is None:
        return ""
    earlier = before(history, now)
    return settings if earlier is None or earlier.revision == SETTINGS else earlier.revision


def _options(form: Mapping[str, str]) -> dict[str, str]:
    given = {name: form.get(name, "").strip()[:most] for name, most in OPTIONS.items()}
    if given["name"]:
        _name(given["name"])
    return given


def _option(name: str, value: str) -> tuple[str, ...]:
    return (f"--{name}={value}",) if value else ()


def _pairs(text: str) -> Sequence[str]:
    pairs = [one.strip() for one in text.split(";") if one.strip()]
    for one in pairs:
        if not _PAIR.fullmatch(one):
            raise CommandError(ErrorCode.INVALID_PARAMS, f"{one[:50]}: not NAME=VALUE")
    return pairs


def _name(text: str) -> str:
    if not _NAME.fullmatch(text):
        raise CommandError(ErrorCode.INVALID_PARAMS, "That is no name of a deck.")
    return text


def _revision(text: str) -> str:
    if not _REVISION.fullmatch(text):
        raise CommandError(ErrorCode.INVALID_PARAMS, "That is no revision of a deck.")
    return text


def _reason(request: Request) -> str:
    text = visitor_of(request).form.get("text", "").strip()[:200]
    if not text:
        raise CommandError(ErrorCode.INVALID_PARAMS, "A reason is needed: it is in the audit trail.")
    return text


def _who(request: Request) -> str:
    user = visitor_of(request).user
    assert user is not None
    return user.name
