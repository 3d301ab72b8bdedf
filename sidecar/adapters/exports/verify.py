"""`verify`: an export as whoever receives it checks it. The files against their digests, and what they hold,
read anew and summed anew, against the manifest."""

from __future__ import annotations

import csv
import hashlib
import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec

from sidecar.adapters.exports import parquet
from sidecar.adapters.exports.columns import COLUMNS, row_of
from sidecar.adapters.exports.export import (
    MANIFEST,
    MANIFEST_VERSION,
    SUMS,
    EpochRange,
    ExportError,
    Format,
    Manifest,
)
from sidecar.adapters.exports.files import FileEntry
from sidecar.core.amounts import EXACT
from sidecar.core.terms import ChargeSide, Disposition, HangupOrigin, RatingStatus
from sidecar.core.totals import Amounts, ControlTotals, Totals
from sidecar.wire.cdr_codec import decode_json
from sidecar.wire.csv_text import restored

FINDINGS_MAX = 100
MANIFEST_BYTES_MAX = 2**26
CELL_CHARS_MAX = 2**24

_SUM = re.compile(r"([0-9a-f]{64})  (\S+)")
_NEEDED = (
    "store_epoch",
    "seq",
    "hangup_origin",
    "disposition",
    "refused_count",
    "talk_ms",
    "billable_ms",
    "hold_s",
    "billed_s",
    "sell_rating_status",
    *(f"{side}_{name}" for side in ChargeSide for name in ("currency", "net", "tax", "total")),
)
_UNREADABLE = (ValueError, KeyError, TypeError, ArithmeticError, csv.Error, parquet.ParquetError)

_LARGEST, _LEAST = Decimal("1E+30"), Decimal("1E-50")

Row = Mapping[str, Any]


class Verification(msgspec.Struct, frozen=True, kw_only=True):
    """`records` were read from `files`; no findings: the export is what its manifest says."""

    files: int
    records: int
    findings: tuple[str, ...]


def verify(place: Path) -> Verification:
    """`place` is the folder of an export, or its manifest. ExportError where there is none to check."""
    path = place / MANIFEST if place.is_dir() else place
    body, manifest = _manifest(path)
    folder = path.parent
    findings = list(_digests(folder, manifest, hashlib.sha256(body).hexdigest()))
    totals, epochs = ControlTotals(), dict[str, EpochRange]()
    for entry in manifest.files:
        findings += _file(folder, entry, manifest, totals, epochs)
    findings += _differences("control total", manifest.control_totals, totals)
    told = {one.store_epoch: one for one in manifest.epochs}
    findings += _differences("epoch", told, epochs)
    if len(findings) > FINDINGS_MAX:
        findings[FINDINGS_MAX:] = [f"and {len(findings) - FINDINGS_MAX} more"]
    return Verification(files=len(manifest.files), records=totals.all.records, findings=tuple(findings))


def _manifest(path: Path) -> tuple[bytes, Manifest]:
    try:
        if path.stat().st_size > MANIFEST_BYTES_MAX:
            raise ExportError(f"{path} has more than {MANIFEST_BYTES_MAX} bytes")
        body = path.read_bytes()
    except OSError as error:
        text = (
            "an export that did not end has none"
            if path.name == MANIFEST
            else "give a folder or its manifest"
        )
        raise ExportError(f"{path}: {error.strerror}: {text}") from error
    try:
        manifest = msgspec.json.decode(body, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ExportError(f"{path} is not a manifest: {error}") from error
    if manifest.manifest_version != MANIFEST_VERSION:
        raise ExportError(f"{path} has version {manifest.manifest_version}; this is for {MANIFEST_VERSION}")
    return body, manifest


def _digests(folder: Path, manifest: Manifest, own: str) -> Iterator[str]:
    """What SHA256SUMS says otherwise than the manifest, and files that neither knows."""
    known = {entry.name: entry.sha256 for entry in manifest.files} | {MANIFEST: own}
    if len(known) != len(manifest.files) + 1:
        yield f"{MANIFEST} names a file twice"
    try:
        lines = (folder / SUMS).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        yield f"{SUMS} cannot be read: {error}"
        lines = []
    else:
        said = {found[2]: found[1] for line in lines if (found := _SUM.fullmatch(line))}
        for name in sorted(known.keys() | said.keys()):
            told, right = said.get(name), known.get(name)
            if told != right:
                yield f"{name}: {SUMS} says {_text(told)}, the manifest {_text(right)}"
    for path in sorted(folder.glob("cdrs-*")):
        if path.name not in known:
            yield f"{path.name} is not in the manifest"


def _file(
    folder: Path, entry: FileEntry, manifest: Manifest, totals: ControlTotals, epochs: dict[str, EpochRange]
) -> Iterator[str]:
    if not re.fullmatch(rf"cdrs-[0-9]{{5,}}\.{manifest.format}", entry.name):
        yield f"{entry.name!r} is no name of a file of records: not read"
        return
    path, records = folder / entry.name, 0
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if (size := path.stat().st_size) != entry.bytes:
            yield f"{entry.name} has {size} bytes, the manifest says {entry.bytes}"
        if digest != entry.sha256:
            yield f"{entry.name} has SHA-256 {digest}, the manifest says {entry.sha256}"
        for row in _rows(path, manifest):
            _add(row, totals, epochs)
            records += 1
    except OSError as error:
        yield f"{entry.name}: {error.strerror}"
        return
    except _UNREADABLE as error:
        yield f"{entry.name}: record {records + 1} cannot be read: {error}"
    if records != entry.records:
        yield f"{entry.name} has {records} records, the manifest says {entry.records}"


def _rows(path: Path, manifest: Manifest) -> Iterator[Row]:
    if manifest.format is Format.PARQUET:
        yield from parquet.rows(path, _NEEDED)
    elif manifest.format is Format.JSONL:
        names = [column.name for column in COLUMNS]
        with path.open("rb") as lines:
            for line in lines:
                yield dict(zip(names, row_of(decode_json(line)), strict=True))
    else:
        with path.open(newline="", encoding="utf-8") as file:
            csv.field_size_limit(
                CELL_CHARS_MAX
            )  # of the process; its default is less than a list of attempts
            cells = csv.reader(file, strict=True)
            header = next(cells, [])
            if header != [column["name"] for column in manifest.columns]:
                raise ValueError("the columns are not those of the manifest")
            for row in cells:
                yield dict(zip(header, map(restored, row), strict=True))


def _add(row: Row, totals: ControlTotals, epochs: dict[str, EpochRange]) -> None:
    # All of the row is read before any of it is counted.
    one = Totals(
        records=1,
        calls=int(row["refused_count"] or 0) or 1,  # as Totals.add counts it
        answered=int(row["disposition"] == Disposition.ANSWERED),
        unrated=int(row["sell_rating_status"] == RatingStatus.NO_RATE),
        talk_ms=int(row["talk_ms"]),
        billable_ms=int(row["billable_ms"]),
        hold_s=int(row["hold_s"]),
        billed_s=int(row["billed_s"]),
        sell=_amounts(row, ChargeSide.SELL),
        buy=_amounts(row, ChargeSide.BUY),
    )
    origin, seq = HangupOrigin(row["hangup_origin"]), row["seq"]
    number = None if seq in (None, "") else int(seq)
    totals.all.merge(one)
    totals.by_origin[origin].merge(one)
    epoch = str(row["store_epoch"])
    epochs.setdefault(epoch, EpochRange(store_epoch=epoch)).add(number)


def _amounts(row: Row, side: ChargeSide) -> dict[str, Amounts]:
    currency, net, tax, total = (row[f"{side}_{name}"] for name in ("currency", "net", "tax", "total"))
    if not currency or total in (None, ""):
        return {}
    amounts = [Decimal(amount or 0) for amount in (net, tax, total)]
    if not all(map(_may_be_summed, amounts)):
        raise ValueError(f"{side} amounts {net}, {tax}, {total}")
    return {currency: Amounts(net=amounts[0], tax=amounts[1], total=amounts[2])}


def _may_be_summed(amount: Decimal) -> bool:
    """Whether EXACT adds up any number of such amounts; those of records have 10 digits, and 24 decimals."""
    return amount.is_finite() and amount.copy_abs() < _LARGEST and EXACT.quantize(amount, _LEAST) == amount


def _differences(what: str, told: object, found: object) -> Iterator[str]:
    """Amounts are compared as numbers: a column of Parquet has as many decimals everywhere."""
    said, summed = dict(_leaves(told)), dict(_leaves(found))
    for name in dict.fromkeys((*said, *summed)):
        one, other = said.get(name), summed.get(name)
        if one != other:
            yield f"{what} {name}: the manifest says {_text(one)}, the files {_text(other)}"


def _leaves(value: object, path: tuple[str, ...] = ()) -> Iterator[tuple[str, object]]:
    tree = msgspec.to_builtins(value, builtin_types=(Decimal,)) if not path else value
    if isinstance(tree, dict):
        for name, one in tree.items():
            yield from _leaves(one, (*path, str(name)))
    else:
        yield ".".join(path), tree


def _text(value: object) -> str:
    return "nothing" if value is None else f"{value:f}" if isinstance(value, Decimal) else str(value)
