"""The node as a whole: what it is, which settings are in force and where each comes from, a reload looked at
before it is done, new calls refused and taken again, and whether the journal is as it was written. And of the
other nodes on its database which live, what each carries, and new calls refused and taken there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response

from sidecar.core.rights import Right
from sidecar.web import show
from sidecar.web.command import Commands
from sidecar.web.node import Node
from sidecar.web.page import Page, back, may, visitor_of
from sidecar.wire.control import DEFAULT, CommandError, ErrorCode
from sidecar.wire.control_users import Deed

PLACE = "/node"
DIFFERENCES_SHOWN_MAX = 200


class OperatePages:
    def __init__(self, node: Node, commands: Commands) -> None:
        self._node = node
        self._commands = commands

    def show(self, page: Page, request: Request) -> Response:
        return self._shown(page, request)

    def look(self, page: Page, request: Request) -> Response:
        """What a reload would change; nothing is changed."""
        return self._shown(page, request, reload=self._would_change(request))

    def reload(self, page: Page, request: Request) -> Response:
        """What was looked at, or nothing: the files may have been written since."""
        would = self._would_change(request)
        if _digest(would) != visitor_of(request).form.get("seen", ""):
            text = "The files have changed since you looked: nothing was put in force."
            return self._shown(page, request, 409, reload=would, fault=text)
        done = self._node.ask("node.reload", operator=_who(request))
        if done["needs_restart"]:
            return self._shown(page, request, 409, reload=done)
        ended = f", {done['calls_ended']} calls were ended, which are forbidden now" * bool(
            done["calls_ended"]
        )
        number = done["settings_revision"]
        said = "No setting differs" if number is None else f"In force, as revision {number} of the settings"
        renewed = ", other TLS files are in force" if done["certificates_renewed"] else ""
        return back(request, PLACE, f"{said}{renewed}{ended}.")

    def drain(self, _: Page, request: Request) -> Response:
        name = self._node.other(visitor_of(request).form.get("name", ""))
        done = self._node.ask_of(name, "node.drain", operator=_who(request), text=_reason(request))
        return back(request, _place(name), f"New calls are refused; {done['live']} live calls go on.")

    def accept(self, _: Page, request: Request) -> Response:
        name = self._node.other(visitor_of(request).form.get("name", ""))
        done = self._node.ask_of(name, "node.accept", operator=_who(request), text=_reason(request))
        state = done["state"]
        taken = "New calls are taken." if state == "accepting" else f"New calls are still refused: {state}."
        return back(request, _place(name), taken)

    def verify(self, page: Page, request: Request) -> Response:
        """Noted with what came of it, also where that is nothing."""
        try:
            verdict = self._commands.run("journal", "verify")
        except CommandError as error:
            self._note_verified(request, show.text(error.text))
            raise
        wrong = len(verdict["wrong"])
        said = f"{wrong} findings" if wrong else "as it was written"
        chains = ", ".join(
            " ".join((*([one["node"]] if "node" in one else ()), str(one["commit"])))
            for one in _chains(verdict)
        )
        self._note_verified(request, f"up to commit {chains}: {said}")
        return self._shown(page, request, verdict=verdict)

    def _note_verified(self, request: Request, said: str) -> None:
        self._node.note(Deed.VERIFY, _who(request), "journal", said)

    def _would_change(self, request: Request) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self._node.ask("node.reload", operator=_who(request), dry_run=True)
        return found

    def _shown(
        self,
        page: Page,
        request: Request,
        code: int = 200,
        *,
        reload: Mapping[str, Any] | None = None,
        verdict: Mapping[str, Any] | None = None,
        fault: str = "",
    ) -> Response:
        every = request.query_params.get("all") == "1"
        name, nodes, settings = self._node.other(request.query_params.get("name", "")), [], []
        status = self._node.ask_of(name, "node.status")
        if self._node.books.is_shared:
            nodes = self._node.ask("node.list")["nodes"]
        elif name:
            raise CommandError(ErrorCode.NOT_FOUND, "This node keeps its books alone: there are no others.")
        if not name and may(request, Right.OPERATE):
            settings = self._node.ask("node.settings")["settings"]
        return page.show(
            request,
            "node.html",
            code,
            status=status,
            name=name,
            nodes=nodes,
            settings=[one for one in settings if every or one["source"] != DEFAULT],
            every=every,
            reload=reload,
            seen=_digest(reload) if reload is not None else "",
            shown_max=DIFFERENCES_SHOWN_MAX,
            verdict=verdict,
            chains=_chains(verdict) if verdict is not None else (),
            fault=fault,
        )


def _place(name: str) -> str:
    return f"{PLACE}?{urlencode({'name': name})}" if name else PLACE


def _chains(verdict: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """One; in a database that of each node."""
    found: Sequence[Mapping[str, Any]] = verdict.get("nodes", (verdict,))
    return found


def _digest(would: Mapping[str, Any]) -> str:
    told = (would["differences_count"], would["differences"], would["needs_restart"])
    return sha256(repr(told).encode()).hexdigest()


def _who(request: Request) -> str:
    user = visitor_of(request).user
    assert user is not None
    return user.name


def _reason(request: Request) -> str:
    text = visitor_of(request).form.get("text", "").strip()
    if not text:
        raise CommandError(ErrorCode.INVALID_PARAMS, "A reason is needed: it is in the audit trail.")
    return text
