"""`verify` on exports that are right, and on exports that somebody or something has changed."""

from __future__ import annotations

import json
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from sidecar.adapters.exports import ExportError, Format, verify
from sidecar.core.cdr import Cdr
from tests.adapters.test_exports import exported, traffic
from tests.wire.cdrs import cdrs

FILE = "cdrs-00001.csv"


@pytest.mark.parametrize("wanted", Format)
def test_an_export_is_what_its_manifest_says(tmp_path: Path, wanted: Format) -> None:
    exported(traffic(50), tmp_path / "out", wanted, rows_per_file=20)
    for place in (tmp_path / "out", tmp_path / "out" / "manifest.json"):
        found = verify(place)
        assert (found.files, found.records, found.findings) == (3, 50, ())


@settings(
    max_examples=8,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(st.lists(cdrs(), max_size=4))
def test_any_records_are_verified_in_every_format(tmp_path: Path, records: list[Cdr]) -> None:
    # One charge of each side, as every call has.
    once = [
        replace(cdr, charges=tuple({line.side: line for line in cdr.charges}.values())) for cdr in records
    ]
    folder = tmp_path / str(uuid4())
    for wanted in Format:
        exported(once, folder / wanted, wanted)
        assert verify(folder / wanted).findings == ()


def sealed_again(folder: Path) -> None:
    """As somebody would who changes a file and hides it: with the digests made to fit."""
    manifest = folder / "manifest.json"
    told = json.loads(manifest.read_bytes())
    for entry in told["files"]:
        body = (folder / entry["name"]).read_bytes()
        entry.update(sha256=sha256(body).hexdigest(), bytes=len(body))
    manifest.write_text(json.dumps(told))
    names = [entry["name"] for entry in told["files"]] + ["manifest.json"]
    lines = (f"{sha256((folder / name).read_bytes()).hexdigest()}  {name}\n" for name in names)
    (folder / "SHA256SUMS").write_text("".join(lines))


def changed(folder: Path, old: str, new: str) -> None:
    path = folder / FILE
    text = path.read_bytes().decode()
    assert old in text
    path.write_bytes(text.replace(old, new, 1).encode())


def without_first_record(folder: Path) -> None:
    path = folder / FILE
    header, _, *rows = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([header, *rows]))


def manifest_with(folder: Path, **told: Any) -> None:
    path = folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_bytes()) | told))


CHANGES: dict[str, tuple[Callable[[Path], object], list[str]]] = {
    "a digit of a file": (
        lambda folder: changed(folder, "acme", "acmf"),
        ["cdrs-00001.csv has SHA-256 "],
    ),
    "a file that is gone": (
        lambda folder: (folder / FILE).unlink(),
        ["cdrs-00001.csv: No such file", "control total all.records: the manifest says 9, the files 0"],
    ),
    "a file more": (
        lambda folder: (folder / "cdrs-00002.csv").write_text(""),
        ["cdrs-00002.csv is not in the manifest"],
    ),
    "no sums": (lambda folder: (folder / "SHA256SUMS").unlink(), ["SHA256SUMS cannot be read"]),
    "another manifest": (
        lambda folder: manifest_with(folder, product="else"),
        ["manifest.json: SHA256SUMS says "],
    ),
    "a path that leads out": (
        lambda folder: manifest_with(
            folder, files=[{"name": "../x.csv", "sha256": "", "bytes": 0, "records": 0}]
        ),
        ["'../x.csv' is no name of a file of records: not read"],
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_was_changed_is_named(tmp_path: Path, name: str) -> None:
    change, expected = CHANGES[name]
    exported(traffic(9), tmp_path, Format.CSV)
    change(tmp_path)
    found = verify(tmp_path).findings
    for text in expected:
        assert any(one.startswith(text) for one in found), found


def test_a_record_left_out_is_missed_though_the_digests_fit(tmp_path: Path) -> None:
    exported(traffic(9), tmp_path, Format.CSV)
    without_first_record(tmp_path)
    sealed_again(tmp_path)
    found = verify(tmp_path)
    assert found.records == 8
    for text in (
        "cdrs-00001.csv has 8 records, the manifest says 9",
        "control total all.records: the manifest says 9, the files 8",
        "control total all.sell.EUR.total: the manifest says ",
        "epoch epoch.first_seq: the manifest says 1, the files 2",
    ):
        assert any(one.startswith(text) for one in found.findings), found.findings


@pytest.mark.parametrize("amount", ["0.000001", "NaN", "1E+99", "1E-99", "x", ""])
def test_an_amount_that_was_changed_is_found_though_the_digests_fit(tmp_path: Path, amount: str) -> None:
    [first, *_] = records = traffic(9)
    total = next(line.total for line in first.charges if line.side == "sell")
    assert total
    exported(records, tmp_path, Format.CSV)
    changed(tmp_path, f"{total:f}", amount)  # the first of them is the net
    sealed_again(tmp_path)
    found = verify(tmp_path).findings
    assert any("all.sell.EUR.net" in one or "record 1 cannot be read" in one for one in found), found


@pytest.mark.parametrize("wanted", [Format.JSONL, Format.PARQUET])
def test_what_is_no_record_is_said_to_be_none(tmp_path: Path, wanted: Format) -> None:
    exported(traffic(9), tmp_path, wanted)
    (tmp_path / f"cdrs-00001.{wanted}").write_bytes(b"[]\n")
    sealed_again(tmp_path)
    assert any("record 1 cannot be read" in one for one in verify(tmp_path).findings)


@pytest.mark.parametrize("body", [None, b"", b"{}", b"\xff", b'{"manifest_version": 2}'])
def test_without_a_manifest_there_is_nothing_to_verify(tmp_path: Path, body: bytes | None) -> None:
    if body is not None:
        (tmp_path / "manifest.json").write_bytes(body)
    with pytest.raises(ExportError, match=r"manifest\.json"):
        verify(tmp_path)
    with pytest.raises(ExportError):
        verify(tmp_path / "nowhere")
