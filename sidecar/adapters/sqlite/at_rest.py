"""The journal where no daemon has it open: read as it stands, by the code that the daemon reads it with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import apsw

from sidecar.adapters.sqlite.migrations import refuse_other
from sidecar.adapters.sqlite.reader import Reader
from sidecar.adapters.store.store import StoreError
from sidecar.ports import UnavailableError


@contextmanager
def reading(file: Path) -> Iterator[Reader]:
    """Nothing here can change the file, nor does a daemon that is started meanwhile notice it. StoreError:
    there is none, or it is of another version."""
    if not file.exists():
        raise StoreError(f"{file}: there is no journal")
    reader = Reader(file)

    def begin(journal: apsw.Connection) -> None:
        # Whoever closes a file last would write the WAL into it: that is the daemon's to do.
        journal.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        refuse_other(journal, file)

    try:
        reader.ask_now(begin)
        yield reader
    except (UnavailableError, apsw.Error) as error:
        raise StoreError(f"{file}: cannot be read ({error})") from error
    finally:
        reader.close()


async def read_alone(*_: Any, **__: Any) -> Any:
    """In the place of a writer."""
    raise AssertionError("nothing is written without a daemon")
