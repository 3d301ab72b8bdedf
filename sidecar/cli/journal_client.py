"""In the place of a ControlClient where no daemon runs: its questions, answered by the same code from what a
start would find."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec

from sidecar.adapters.store.bodies import DamagedError
from sidecar.config import Settings
from sidecar.core.audit import Operator
from sidecar.ports import UnavailableError
from sidecar.runtime.record_queries import RecordQueries
from sidecar.wire.control import CommandError, ErrorCode, Method
from sidecar.wiring.journal import at_rest


class AtRest:
    """`methods` are those that are answered."""

    def __init__(self) -> None:
        self._open = ExitStack()
        self.methods: Mapping[str, Method] = {}

    def __enter__(self) -> AtRest:
        """Raises StoreError, and what else `_begin` does."""
        self.methods = self._begin(self._open)
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def _begin(self, stack: ExitStack) -> Mapping[str, Method]:
        raise NotImplementedError

    def call(self, method: str, params: dict[str, Any]) -> Any:
        """Raises CommandError."""
        known = self.methods[method]
        try:
            asked = msgspec.convert(msgspec.to_builtins(params), known.params)
            answer = asyncio.run(_answer(known, asked))
        except msgspec.ValidationError as error:
            raise CommandError(ErrorCode.INVALID_PARAMS, str(error)) from error
        except (DamagedError, UnavailableError) as error:
            raise CommandError(ErrorCode.REFUSED, str(error)) from error
        return msgspec.json.decode(msgspec.json.encode(answer))


class JournalClient(AtRest):
    """Records."""

    def __init__(self, settings: Settings, node: str) -> None:
        super().__init__()
        self._settings = settings
        self._node = node

    def _begin(self, stack: ExitStack) -> Mapping[str, Method]:
        books = stack.enter_context(at_rest(self._settings, self._node))
        return RecordQueries(books.records, lambda _: None).methods()


class TrialClient(AtRest):
    """Calls that are not made, by the settings and what commands have left in the journal and the decks."""

    def __init__(self, config: Path | None) -> None:
        super().__init__()
        self._config = config

    def _begin(self, stack: ExitStack) -> Mapping[str, Method]:
        import os

        from sidecar.adapters.clock import SystemClock
        from sidecar.runtime.trial_commands import TrialCommands
        from sidecar.wiring.accounts import given_at_rest
        from sidecar.wiring.files import inputs

        given = asyncio.run(given_at_rest(inputs({}, os.environ, self._config)))
        return TrialCommands(lambda: given, SystemClock()).methods()


async def _answer(method: Method, asked: object) -> object:
    return await method.handle(asked, Operator(name=""))
