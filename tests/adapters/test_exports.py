"""Exports, read back by other programs: the csv module, json, duckdb and sha256sum. Sums are made again with
fractions, from what those programs read."""

from __future__ import annotations

import csv
import json
import subprocess
import tracemalloc
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any
from uuid import uuid4

import duckdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from sidecar.adapters.exports import COLUMNS, ExportError, Format, Manifest, export, row_of, verify
from sidecar.core.cdr import Cdr
from sidecar.core.terms import ChargeSide
from sidecar.wire.cdr_codec import decode_json
from sidecar.wire.csv_text import restored
from tests.core.doctor_traffic import calls, deck, e164, in_front, policy
from tests.wire.cdrs import cdrs

AT = datetime(2026, 11, 21, 12, tzinfo=UTC)
TEXTS = {column.name for column in COLUMNS if column.kind in ("text", "json")}


def traffic(count: int = 300) -> list[Cdr]:
    """Sold in euros, bought in dollars."""
    world = policy(strip=2, buy=deck("buy", "USD"), gateways={"carrier": 2})
    made = calls(in_front("00", e164(count)), world)
    return [replace(cdr, store_epoch="epoch", seq=seq) for seq, cdr in enumerate(made, 1)]


def exported(records: list[Cdr], folder: Path, wanted: Format, **more: Any) -> Manifest:
    return export(iter(records), folder, wanted, filters={}, product="sidecar test", generated_at=AT, **more)


def manifest_of(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "manifest.json").read_bytes())
    return found


def csv_rows(folder: Path) -> Iterator[dict[str, str]]:
    for entry in manifest_of(folder)["files"]:
        with (folder / entry["name"]).open(newline="", encoding="utf-8") as file:
            yield from csv.DictReader(file)


@pytest.mark.parametrize("wanted", Format)
def test_a_second_program_verifies_digests_and_counts(tmp_path: Path, wanted: Format) -> None:
    exported(traffic(), tmp_path / "out", wanted, rows_per_file=120)
    done = subprocess.run(
        ["sha256sum", "--check", "--strict", "SHA256SUMS"],
        check=False,
        cwd=tmp_path / "out",
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 4
    manifest = manifest_of(tmp_path / "out")
    assert [entry["records"] for entry in manifest["files"]] == [120, 120, 60]
    assert all((tmp_path / "out" / one["name"]).stat().st_size == one["bytes"] for one in manifest["files"])
    assert (manifest["format"], manifest["cdr_version"], manifest["generated_at"]) == (
        wanted.value,
        1,
        "2026-11-21T12:00:00Z",
    )
    assert manifest["epochs"] == [{"store_epoch": "epoch", "records": 300, "first_seq": 1, "last_seq": 300}]


def test_csv_adds_up_to_the_control_totals(tmp_path: Path) -> None:
    exported(traffic(), tmp_path / "out", Format.CSV, rows_per_file=120)
    rows = list(csv_rows(tmp_path / "out"))
    totals = manifest_of(tmp_path / "out")["control_totals"]
    sums: dict[tuple[str, str, str], Fraction] = defaultdict(Fraction)
    for row in rows:
        for side in ("sell", "buy"):
            for amount in ("net", "tax", "total"):
                sums[side, row[f"{side}_currency"], amount] += Fraction(row[f"{side}_{amount}"] or 0)
    assert totals["all"]["records"] == len(rows) == 300
    assert totals["all"]["talk_ms"] == sum(int(row["talk_ms"]) for row in rows)
    assert totals["all"]["billed_s"] == sum(int(row["billed_s"]) for row in rows)
    for side, currency in (("sell", "EUR"), ("buy", "USD")):
        told = totals["all"][side]
        assert list(told) == [currency]
        assert {name: Fraction(text) for name, text in told[currency].items()} == {
            name: sums[side, currency, name] for name in ("net", "tax", "total")
        }
    for origin, part in totals["by_origin"].items():
        of_origin = [row for row in rows if row["hangup_origin"] == origin]
        assert part["records"] == len(of_origin)
        sold = sum((Fraction(row["sell_total"] or 0) for row in of_origin), Fraction())
        assert Fraction(part["sell"].get("EUR", {"total": 0})["total"]) == sold


def test_json_lines_are_the_records_themselves(tmp_path: Path) -> None:
    records = traffic()
    exported(records, tmp_path / "out", Format.JSONL)
    lines = (tmp_path / "out" / "cdrs-00001.jsonl").read_bytes().splitlines()
    assert [decode_json(line) for line in lines] == records
    assert manifest_of(tmp_path / "out")["columns"] == []


def test_parquet_has_types_and_adds_up_in_duckdb(tmp_path: Path) -> None:
    records = traffic()
    exported(records, tmp_path / "out", Format.PARQUET, rows_per_file=120)
    with duckdb.connect() as connection:
        connection.execute(f"CREATE VIEW cdrs AS SELECT * FROM '{tmp_path}/out/*.parquet'")
        kinds = dict(connection.execute("SELECT column_name, column_type FROM (DESCRIBE cdrs)").fetchall())
        told = connection.execute(
            "SELECT count(*), sum(talk_ms), sum(sell_total), sum(buy_total), min(epoch_us(ended_at)),"
            " count(DISTINCT call_id) FROM cdrs WHERE sell_currency = 'EUR' AND buy_currency = 'USD'"
        ).fetchone()
    assert (kinds["sell_total"], kinds["talk_ms"], kinds["glare"]) == ("DECIMAL(38,21)", "BIGINT", "BOOLEAN")
    assert kinds["ended_at"] == "TIMESTAMP WITH TIME ZONE"
    assert told is not None
    count, talk_ms, sold, bought, first_us, distinct = told
    assert (count, distinct, talk_ms) == (300, 300, sum(cdr.talk_ms for cdr in records))
    for told_sum, side in ((sold, ChargeSide.SELL), (bought, ChargeSide.BUY)):
        lines = [line for cdr in records for line in cdr.charges if line.side is side]
        assert Fraction(told_sum) == sum(Fraction(line.total or 0) for line in lines)
    assert first_us == min(int(cdr.ended_at.timestamp() * 1_000_000) for cdr in records)


@pytest.mark.parametrize("wanted", Format)
def test_the_same_records_give_the_same_bytes(tmp_path: Path, wanted: Format) -> None:
    records = traffic(50)
    for name in ("one", "two"):
        exported(records, tmp_path / name, wanted)
    names = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert names == sorted(["SHA256SUMS", f"cdrs-00001.{wanted}", "manifest.json"])
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
        assert (tmp_path / "one" / name).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("wanted", Format)
def test_no_records_are_a_file_without_rows(tmp_path: Path, wanted: Format) -> None:
    exported([], tmp_path / "out", wanted)
    [entry] = manifest_of(tmp_path / "out")["files"]
    assert entry["records"] == 0
    if wanted is Format.CSV:
        assert list(csv_rows(tmp_path / "out")) == []


@pytest.mark.parametrize("wanted", Format)
def test_an_export_that_fails_has_no_manifest_and_leaves_no_parts(tmp_path: Path, wanted: Format) -> None:
    def broken() -> Iterator[Cdr]:
        yield from traffic(5)
        raise RuntimeError("damaged")

    with pytest.raises(RuntimeError, match="damaged"):
        export(broken(), tmp_path, wanted, filters={}, product="", generated_at=AT)
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_written_over_an_export(tmp_path: Path) -> None:
    exported(traffic(5), tmp_path, Format.CSV)
    before = (tmp_path / "manifest.json").read_bytes()
    with pytest.raises(ExportError, match="holds an export already"):
        exported(traffic(6), tmp_path, Format.JSONL)
    assert (tmp_path / "manifest.json").read_bytes() == before


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ExportError, match="file"):
        exported(traffic(1), tmp_path / "file" / "out", Format.CSV)


def test_an_amount_that_parquet_would_round_is_refused(tmp_path: Path) -> None:
    [cdr] = traffic(1)
    charge = replace(cdr.charges[0], tax=Decimal(1).scaleb(-22))
    with pytest.raises(ExportError, match="more than 21 decimals"):
        exported([replace(cdr, charges=(charge,))], tmp_path / "out", Format.PARQUET)
    assert list((tmp_path / "out").iterdir()) == []
    exported([replace(cdr, charges=(charge,))], tmp_path / "csv", Format.CSV)
    assert next(csv_rows(tmp_path / "csv"))["sell_tax"] == "0.0000000000000000000001"


def test_without_duckdb_it_is_said_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sidecar.adapters.exports.parquet.is_available", lambda: False)
    with pytest.raises(ExportError, match=r"pip install 'sip-billing-sidecar\[parquet\]'"):
        exported([], tmp_path / "out", Format.PARQUET)
    assert not (tmp_path / "out").exists()


def test_every_field_of_the_record_has_a_column() -> None:
    names = [column.name for column in COLUMNS]
    assert len(set(names)) == len(names)
    assert {"call_id", "caller_billed", "leg_b_remote_tag", "attempts", "sell_steps", "buy_total"} <= set(
        names
    )


@settings(
    max_examples=8,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(st.lists(cdrs(), max_size=4))
def test_any_record_comes_back_from_every_format(tmp_path: Path, records: list[Cdr]) -> None:
    folder = tmp_path / str(uuid4())
    for wanted in Format:
        exported(records, folder / wanted, wanted)
    lines = (folder / "jsonl" / "cdrs-00001.jsonl").read_bytes().splitlines()
    assert [decode_json(line) for line in lines] == records
    expected = [dict(zip((c.name for c in COLUMNS), row_of(cdr), strict=True)) for cdr in records]
    for row, values in zip(csv_rows(folder / "csv"), expected, strict=True):
        assert {name: restored(row[name]) for name in TEXTS} == {name: values[name] or "" for name in TEXTS}
    with duckdb.connect() as connection:
        names = ", ".join(sorted(TEXTS))
        found = connection.execute(f"SELECT {names}, sell_total FROM '{folder}/parquet/*.parquet'").fetchall()
    for (*texts, total), values in zip(found, expected, strict=True):
        assert dict(zip(sorted(TEXTS), texts, strict=True)) == {name: values[name] for name in sorted(TEXTS)}
        wanted_total = values["sell_total"]
        assert total == (None if wanted_total is None else Decimal(str(wanted_total)))


@pytest.mark.parametrize("wanted", [Format.CSV, Format.JSONL])
def test_memory_does_not_grow_with_the_records(tmp_path: Path, wanted: Format) -> None:
    [cdr] = traffic(1)

    def peak(count: int) -> int:
        tracemalloc.start()
        records = (replace(cdr, seq=seq) for seq in range(count))
        export(
            records, tmp_path / f"{count}", wanted, filters={}, product="", generated_at=AT, rows_per_file=500
        )
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    peak(100)  # what is made once
    assert peak(6_000) < peak(1_000) + 500_000


def test_no_text_in_csv_is_a_formula_and_numbers_stay(tmp_path: Path) -> None:
    (cdr,) = traffic(1)
    party = replace(cdr.caller, received="+4930123456")
    cdr = replace(cdr, account='=HYPERLINK("http://x")', revised_text="-1+1", rule="@x", caller=party)
    exported([cdr], tmp_path / "out", Format.CSV)
    (row,) = csv_rows(tmp_path / "out")
    assert (row["account"], row["revised_text"], row["rule"]) == ('\'=HYPERLINK("http://x")', "'-1+1", "'@x")
    assert row["caller_received"] == "+4930123456"
    assert verify(tmp_path / "out").findings == ()


def test_nothing_is_written_through_a_link(tmp_path: Path) -> None:
    folder, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    folder.mkdir()
    (folder / "cdrs-00001.csv.part").symlink_to(elsewhere)
    with pytest.raises((ExportError, OSError)):
        exported(traffic(1), folder, Format.CSV)
    (folder / "cdrs-00001.csv.part").unlink(missing_ok=True)
    (folder / "manifest.json.part").symlink_to(elsewhere)
    with pytest.raises((ExportError, OSError)):
        exported(traffic(1), folder, Format.CSV)
    assert not elsewhere.exists()
