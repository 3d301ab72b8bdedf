"""Numbers: what `sidecar doctor` finds in the recorded calls and in the decks, with the calls that prove it
and what mends it. Examined when somebody asks, once for all who do."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from sidecar.core.rights import Right
from sidecar.web.command import Commands
from sidecar.web.making import MADE, Making, Makings, being_made
from sidecar.web.node import Node
from sidecar.web.page import NotAllowedError, Page, may, moment_in, wants_whole
from sidecar.wire.control import CommandError, ErrorCode

FIELDS = {"since": 40, "until": 40, "account": 64, "gateway": 64}
_TIMES = ("since", "until")
_OF_RATES = ("unrated_destination", "unrated_calls", "carried_unrated", "implausible_rate")

_RELOAD = "sidecar node reload --dry-run"
_BARE = re.compile(r"[A-Za-z0-9_-]+")


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    said: Any
    at: datetime


class NumberPages:
    def __init__(self, node: Node, commands: Commands) -> None:
        self._node = node
        self._commands = commands
        self._verdicts = Makings[Verdict]()  # one on a day hardly changes while it is kept

    def show(self, page: Page, request: Request) -> Response:
        """Without a question what was found last by the one that asks nothing."""
        query = request.query_params
        wanted = {name: query.get(name, "").strip()[:most] for name, most in FIELDS.items()}
        if query.get("whole") == "1" and not may(request, Right.NUMBERS):
            raise NotAllowedError("Your role may not see whole numbers.")
        fault, kept = "", self._verdicts.last(tuple("" for _ in FIELDS))
        verdict = kept.result() if kept is not None else None
        if query.get("examine"):
            try:
                made = self._examined(wanted, query.get(MADE, ""), anew=query["examine"] == "anew")
                if not made.is_done:
                    return being_made(page, request, made, "Numbers")
                verdict = made.result()
            except (CommandError, ValueError) as error:
                fault, verdict = getattr(error, "text", str(error)), None
        whole = wants_whole(page, request)
        decks = {one.revision[:12]: one.names for one in self._node.decks().decks(datetime.now(UTC))}
        found = verdict.said["findings"] if verdict else []
        return page.show(
            request,
            "numbers.html",
            409 if fault else 200,
            wanted=wanted,
            verdict=verdict,
            findings=[
                (one, [(fix, _command(one, fix, decks)) for fix in one["fixes"]], _rerating(one, decks))
                for one in found
            ],
            fault=fault,
            zone=self._node.zone,
            whole=whole,
        )

    def _examined(self, wanted: Mapping[str, str], token: str, *, anew: bool) -> Making[Verdict]:
        words = [
            f"--{name}={moment_in(value, self._node.zone).isoformat() if name in _TIMES else value}"
            for name, value in wanted.items()
            if value
        ]

        def examine() -> Verdict:
            said = self._commands.run("doctor", *words)
            if "findings" not in said:
                raise CommandError(ErrorCode.REFUSED, "The doctor said nothing.")
            return Verdict(said=said, at=datetime.now(UTC))

        return self._verdicts.ask(tuple(wanted.values()), examine, token=token, anew=anew)


def _command(finding: Mapping[str, Any], fix: Mapping[str, str], decks: Mapping[str, Any]) -> Sequence[str]:
    """What to type, or to write into the settings, in lines; none where only people can mend it."""
    setting, value = fix["setting"], fix["value"]
    if setting == "[[strip_rules]]":
        return ("# in the settings file", setting, *value.split(", "), "", _RELOAD)
    if setting:
        table, _, rest = setting.partition(".")
        name, _, key = rest.rpartition(".")
        said = f"[{table}.{name if _BARE.fullmatch(name) else _quoted(name)}]" if name else f"[{table}]"
        line = f"{key} = {value if value.isdigit() and key != 'add' else _quoted(value)}"
        return ("# in the settings file", said, line, "", _RELOAD)
    if finding["symptom"] in _OF_RATES and (name := _deck_of(finding, decks)):
        return (f"sidecar deck import LIST.csv --merge {name} --activate {name} --text WHY",)
    return ()


def _quoted(text: str) -> str:
    return msgspec.json.encode(text).decode()  # a string of JSON is one of TOML


def _rerating(finding: Mapping[str, Any], decks: Mapping[str, Any]) -> str:
    """What charges the calls of a finding once their rates are there."""
    if finding["symptom"] not in _OF_RATES[:3]:
        return ""
    name = _deck_of(finding, decks) or "NAME"
    return f"sidecar rerate --deck {name} --side {finding['side']} --since {finding['first_at'][:19]}Z"


def _deck_of(finding: Mapping[str, Any], decks: Mapping[str, Any]) -> str:
    """The name that the deck of a finding has now; its subject is `sell deck 0123456789ab`."""
    names = decks.get(str(finding["subject"]).rpartition(" ")[2], ())
    return str(names[0]) if names else ""
