"""Looking whether the journal is as it was written: the last of it at the start, all of it slowly while calls
run.

A thousand entries take some milliseconds, once a second, in a thread of its own: a day of 20 calls a second
is gone over in two hours.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import apsw

from sidecar.adapters.sqlite.chain_check import tail, verify, verify_part, wrong_state
from sidecar.adapters.sqlite.check import quick_check
from sidecar.adapters.sqlite.reader import Reader
from sidecar.adapters.store.bodies import DamagedError
from sidecar.adapters.store.chain import NOT_AT_HAND, by_id
from sidecar.adapters.store.keys import read_keys
from sidecar.core.chain import ChainKey

COMMITS_AT_START_MAX = 2_000
ENTRIES_PER_LOOK_MAX = 1_000


def checked_at_start(connection: apsw.Connection, key_file: Path) -> list[str]:
    """The last commits, what changes, and the numbers. DamagedError where they are not as they were written;
    returns why that cannot be told. A journal without a chain, or without its key file, says nothing."""
    if not key_file.exists() or not connection.execute("SELECT EXISTS (SELECT 1 FROM commits)").get:
        return []
    after = tail(connection, COMMITS_AT_START_MAX)
    wrong = verify(connection, by_id(read_keys(key_file)), after).wrong + quick_check(connection)
    if any(NOT_AT_HAND in text for text in wrong):
        return wrong
    if wrong:
        text = f"{connection.filename}: not as it was written: {wrong[0]}"
        connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)  # it stays as it is
        connection.close(force=True)
        raise DamagedError(text)
    return []


class Rounds:
    """From the first commit to the last, then what changes, then again."""

    def __init__(self, reader: Reader, keys: Sequence[ChainKey]) -> None:
        self._reader = reader
        self._keys = by_id(keys)
        self._after = 0

    async def go_on(self) -> list[str]:
        """What the next part has that is not as it was written."""
        try:
            return await asyncio.to_thread(self._reader.ask_now, self._look)
        except (apsw.CantOpenError, apsw.BusyError):
            return []  # it was moved away, which the next heartbeat says, or is being opened anew
        except apsw.Error as error:
            return [f"cannot be read ({error})"]

    def close(self) -> None:
        self._reader.close()

    def _look(self, connection: apsw.Connection) -> list[str]:
        with connection:  # a part of it is seen as it was at one moment
            verdict = verify_part(connection, self._keys, self._after, ENTRIES_PER_LOOK_MAX)
            found = verdict.wrong + verdict.unsound
            self._after = verdict.reached
            if verdict.is_whole:
                self._after = 0
                found = found + wrong_state(connection, self._keys) + quick_check(connection)
        return found
