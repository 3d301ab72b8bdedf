"""Records on their way to whoever bills: what waits for the broker, what it would not take, and what is sent
again; of this node, or of another one on its database."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response

from sidecar.web.node import Node
from sidecar.web.page import Page, back, moment_in, visitor_of
from sidecar.wire.control import CommandError, ErrorCode

PER_PAGE = 50
PLACE = "/delivery"
_NOT_SENT = {
    "waiting": "wait for the broker",
    "dead_letters": "are dead letters",
    "absent": "are not in the journal",
}
SILENT_INTERVALS = 3  # of its own: then its last report is old


class DeliveryPages:
    def __init__(self, node: Node) -> None:
        self._node = node

    def list(self, page: Page, request: Request) -> Response:
        asked = request.query_params.get("after", "")
        after = int(asked) if asked.isascii() and asked.isdecimal() and len(asked) < 19 else 0
        name, nodes, subscribers = self._node.other(request.query_params.get("node", "")), [], []
        status = self._node.ask_of(name, "node.status")
        asked_for = {"after_seq": after, "limit": PER_PAGE + 1}
        found = self._node.ask_of(name, "dead-letter.list", **asked_for)["letters"]
        if self._node.books.is_shared:
            nodes = self._node.ask("node.list")["nodes"]
        if not name:
            subscribers = self._node.ask("subscriber.list")["subscribers"]
        letters = found[:PER_PAGE]
        return page.show(
            request,
            "delivery.html",
            status=status,
            node=name,
            nodes=nodes,
            zone=self._node.zone,
            subscribers=[_reported(one, status["store_epoch"]) for one in subscribers],
            again={name: _digits(request.query_params.get(name, "")) for name in ("from_seq", "to_seq")},
            letters=letters,
            after=after,
            onward=letters[-1]["seq"] if len(found) > PER_PAGE else None,
            place=lambda **other: _place(name, **other),
        )

    def _named(self, request: Request) -> str:
        return self._node.other(visitor_of(request).form.get("node", ""))

    def retry(self, _: Page, request: Request) -> Response:
        """One of them, or all where none is named."""
        seq = _number(request, "seq", may_lack=True)
        seqs, node = None if seq is None else [seq], self._named(request)
        done = self._node.ask_of(node, "dead-letter.retry", operator=_who(request), seqs=seqs)
        return back(request, _place(node), f"{done['count']} wait for the broker again.")

    def drop(self, _: Page, request: Request) -> Response:
        text = visitor_of(request).form.get("text", "").strip()
        if not text:
            raise CommandError(ErrorCode.INVALID_PARAMS, "A reason is needed: it is in the audit trail.")
        asked, node = [_number(request, "seq")], self._named(request)
        done = self._node.ask_of(node, "dead-letter.drop", operator=_who(request), seqs=asked, text=text)
        return back(request, _place(node), f"{done['count']} dropped: subscribers will see the gap.")

    def replay(self, _: Page, request: Request) -> Response:
        since = visitor_of(request).form.get("since", "").strip()[:40]
        try:
            begin = moment_in(since, self._node.zone).isoformat() if since else None
        except ValueError as error:
            raise CommandError(ErrorCode.INVALID_PARAMS, str(error)) from None
        from_seq = _number(request, "from_seq", may_lack=begin is not None)
        to_seq = _number(request, "to_seq", may_lack=True)
        node = self._named(request)
        done = self._node.ask_of(
            node, "cdr.replay", operator=_who(request), from_seq=from_seq, to_seq=to_seq, since=begin
        )
        others = "".join(
            f", {sum(last - first + 1 for first, last in done[name])} {said}"
            for name, said in _NOT_SENT.items()
            if done[name]
        )
        text = f"{done['sent']} records were sent again, up to {done['to_seq']}{others}"
        if done["next_seq"] is None:
            return back(request, _place(node), f"{text}.")
        onward = _place(node, from_seq=done["next_seq"], to_seq=to_seq)
        return back(request, f"{onward}#again", f"{text}; there are more.")


def _place(node: str, **asked: object) -> str:
    said = {name: value for name, value in {"node": node, **asked}.items() if value}
    return f"{PLACE}?{urlencode(said)}" if said else PLACE


def _reported(one: Mapping[str, Any], epoch: str) -> Mapping[str, Any]:
    """With what is to be seen at once: whether it is silent, and how much it lacks."""
    report = one["report"]
    heard_at = datetime.fromisoformat(one["heard_at"])
    silent_s = (datetime.now(UTC) - heard_at).total_seconds()
    now = next((held for held in report["epochs"] if held["epoch"] == epoch), None)
    return {
        **one,
        "is_silent": silent_s > SILENT_INTERVALS * report["interval_s"],
        "now": now,
        "missing": sum(held["missing"] for held in report["epochs"]),
    }


def _digits(text: str) -> str:
    return text if text.isascii() and text.isdecimal() and len(text) < 19 else ""


def _who(request: Request) -> str:
    user = visitor_of(request).user
    assert user is not None
    return user.name


def _number(request: Request, name: str, *, may_lack: bool = False) -> int | None:
    text = visitor_of(request).form.get(name, "").strip()
    if not text and may_lack:
        return None
    if not (text.isascii() and text.isdecimal() and len(text) < 19):
        raise CommandError(ErrorCode.INVALID_PARAMS, "The number of a record is needed.")
    return int(text)
