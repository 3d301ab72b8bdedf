"""Workbooks, read in a child process that may have so much memory and no more: a sheet of 5 kB with one cell
far out asks for gigabytes, and takes the process with it that reads it. What a formula last came to is its
value; none is reckoned.

    python -m sidecar.adapters.deck_files.workbook FILE        the names of its sheets
    python -m sidecar.adapters.deck_files.workbook FILE SHEET  and the rows of that one, in blocks

Both in msgpack, each block behind its length: a row is the row's number and its cells, a date cell a list of
one text. At the end the child says `end`, or why it cannot go on.
"""

from __future__ import annotations

import contextlib
import re
import resource
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any, BinaryIO, cast
from xml.sax.saxutils import unescape

import msgspec

from sidecar.adapters.deck_files.cells import Cell
from sidecar.adapters.deck_files.files import FileRefusedError

MEMORY_MAX = 2**30
CPU_S_MAX = 300
ROWS_AT_ONCE = 500
COLUMNS_MAX = 1000
CELLS_MAX = 30_000_000  # of a sheet, the empty ones up to its last row and column too

_REFUSED, _ROWS, _END = "refused", "rows", "end"
_DIMENSION = re.compile(rb'<dimension ref="(?:[A-Z]+[0-9]+:)?([A-Z]{1,3})([0-9]{1,7})"')


def sheet_names(path: Path) -> list[str]:
    """FileRefusedError where it is no workbook."""
    with _child(str(path)) as blocks:
        for kind, content in blocks:
            if kind == _ROWS:
                return [str(name) for name in content]
    raise FileRefusedError("is not a spreadsheet that can be read")


def sheet_rows(path: Path, sheet: str) -> Iterator[tuple[int, list[Cell]]]:
    """(number, cells) of each row that is not empty."""
    with _child(str(path), sheet) as blocks:
        for _, content in blocks:
            for number, cells in content:
                yield number, [_date(cell[0]) if isinstance(cell, list) else cell for cell in cells]


@contextlib.contextmanager
def _child(*arguments: str) -> Iterator[Iterator[tuple[str, Any]]]:
    command = [sys.executable, "-m", __name__, *arguments]
    child = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert child.stdout is not None
    try:
        yield _blocks(child, cast("BinaryIO", child.stdout), Path(arguments[0]))
    finally:
        child.stdout.close()
        child.kill()
        child.wait()


def _blocks(child: subprocess.Popen[bytes], pipe: BinaryIO, path: Path) -> Iterator[tuple[str, Any]]:
    decoder = msgspec.msgpack.Decoder()
    while len(head := pipe.read(4)) == 4:
        kind, content = decoder.decode(pipe.read(int.from_bytes(head, "big")))
        if kind == _REFUSED:
            raise FileRefusedError(str(content))
        if kind == _END:
            return
        yield kind, content
    child.wait()
    raise FileRefusedError(
        f"needs more than {MEMORY_MAX >> 20} MiB or {CPU_S_MAX} s to be read{_used_area(path)}:"
        " remove cells that stand alone, or save it as CSV UTF-8"
    )


def _used_area(path: Path) -> str:
    """How far the sheets say that they go; a hint for people, nothing else."""
    found: list[str] = []
    with (
        contextlib.suppress(zipfile.BadZipFile, OSError, KeyError, EOFError),
        zipfile.ZipFile(path) as archive,
    ):
        for name in archive.namelist():
            if re.fullmatch(r"xl/worksheets/[^/]+\.xml", name) and len(found) < 3:
                with archive.open(name) as part:
                    if said := _DIMENSION.search(part.read(4096)):
                        found.append(f"{said[1].decode()}{said[2].decode()}")
    return f" (its sheets go as far as {unescape(', '.join(found))})" if found else ""


def _date(text: str) -> datetime | date:
    return datetime.fromisoformat(text) if len(text) > 10 else date.fromisoformat(text)


def _main(path: str, sheet: str | None) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_MAX, MEMORY_MAX))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_S_MAX, CPU_S_MAX))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    import python_calamine as calamine  # noqa: PLC0415 - within the limits

    out, encoder = sys.stdout.buffer, msgspec.msgpack.Encoder()

    def tell(kind: str, content: object) -> None:
        block = encoder.encode((kind, content))
        out.write(len(block).to_bytes(4, "big") + block)

    try:
        with calamine.CalamineWorkbook.from_path(path) as book:
            if sheet is None:
                tell(_ROWS, book.sheet_names)
                return tell(_END, None)
            found = book.get_sheet_by_name(sheet)
            height, width = found.total_height, found.total_width
            if width > COLUMNS_MAX or height * width > CELLS_MAX:
                return tell(
                    _REFUSED,
                    f"has {height} rows and {width} columns up to its last cell: at most {COLUMNS_MAX}"
                    f" columns and {CELLS_MAX} cells are allowed; remove cells that stand alone",
                )
            first, left = found.start or (0, 0)
            rows: list[tuple[int, list[object]]] = []
            for number, cells in enumerate(found.iter_rows(), first + 1):
                if any(cell != "" for cell in cells):
                    rows.append((number, [""] * left + [_told(cell) for cell in cells]))
                if len(rows) == ROWS_AT_ONCE:
                    tell(_ROWS, rows)
                    rows = []
            tell(_ROWS, rows)
            return tell(_END, None)
    except calamine.PasswordError:
        return tell(_REFUSED, "is encrypted")
    except (calamine.CalamineError, calamine.ZipError, calamine.XmlError, OSError, ValueError) as error:
        return tell(_REFUSED, f"is not a spreadsheet that can be read: {error}")
    finally:
        out.flush()


def _told(cell: object) -> object:
    if isinstance(cell, (datetime, date)):
        return [cell.isoformat()]
    if isinstance(cell, timedelta):
        return [(datetime(1900, 1, 1) + cell).isoformat()]  # noqa: DTZ001 - a time of day, in no zone
    if isinstance(cell, (str, bool, float)):
        return cell
    if isinstance(cell, int):
        return float(cell)
    return str(cell)


if __name__ == "__main__":
    _main(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else None)
