"""Reading the journal of a node without asking the node: for commands that count, hand over or examine many
records."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sidecar.cli.daemon import data_dir
from sidecar.cli.output import Exit, fail

if TYPE_CHECKING:
    from sidecar.adapters.sqlite.snapshot import Snapshot

SinceOption = Annotated[
    str | None, typer.Option(metavar="TIME", help="Calls that ended then or later: 2026-11-01T00:00Z.")
]
UntilOption = Annotated[str | None, typer.Option(metavar="TIME", help="Calls that ended before.")]
AccountOption = Annotated[str | None, typer.Option(help="Calls of this account alone.")]
GatewayOption = Annotated[str | None, typer.Option(help="Calls whose last attempt went there alone.")]


def moment_of(option: str, text: str | None, *, as_json: bool = False) -> datetime | None:
    """A time with its offset; ends the command where it is none."""
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        fail(Exit.USAGE, f"{option} {text}: not a time like 2026-11-01T00:00Z", as_json=as_json)
    if moment.utcoffset() is None:
        fail(Exit.USAGE, f"{option} {text}: has no offset from UTC, such as Z or +01:00", as_json=as_json)
    return moment


@contextmanager
def snapshot(config: Path | None, *, as_json: bool = False) -> Iterator[Snapshot]:
    """The records of the node of these settings, as they stand now; it need not run. Exit code 3 where there
    is no journal, 1 where a record in it is damaged."""
    from sidecar.adapters.sqlite.file import StoreError
    from sidecar.adapters.sqlite.rows import DamagedError
    from sidecar.adapters.sqlite.snapshot import Snapshot

    try:
        with Snapshot(data_dir(config, as_json=as_json)) as opened:
            yield opened
    except StoreError as error:
        fail(Exit.UNREACHABLE, str(error), as_json=as_json)
    except DamagedError as error:
        fail(Exit.NO, str(error), as_json=as_json)
