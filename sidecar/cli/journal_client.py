"""In the place of a ControlClient where no daemon runs: its questions, answered by the same code from what a
start would find."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import apsw
import msgspec

from sidecar.adapters.sqlite.at_rest import reading
from sidecar.adapters.sqlite.file import FILE_NAME
from sidecar.adapters.sqlite.reader import SqliteRecords
from sidecar.adapters.store.bodies import DamagedError
from sidecar.core.audit import Operator
from sidecar.ports import UnavailableError
from sidecar.runtime.record_queries import RecordQueries
from sidecar.wire.control import CommandError, ErrorCode, Method


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
        except (DamagedError, UnavailableError, apsw.Error) as error:
            raise CommandError(ErrorCode.REFUSED, str(error)) from error
        return msgspec.json.decode(msgspec.json.encode(answer))


class JournalClient(AtRest):
    """Records."""

    def __init__(self, data_dir: Path) -> None:
        super().__init__()
        self._file = data_dir / FILE_NAME

    def _begin(self, stack: ExitStack) -> Mapping[str, Method]:
        reader = stack.enter_context(reading(self._file))

        async def head_seq() -> int:
            return int(await reader.ask(lambda journal: journal.execute("SELECT head_seq FROM store").get))

        return RecordQueries(SqliteRecords(reader), head_seq, lambda _: None).methods()


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
