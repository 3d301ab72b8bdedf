"""`sidecar cdr export`, `cdr summary` and `cdr search` by charge, on a journal that the store has written."""

from __future__ import annotations

import csv
import json
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from msgspec.structs import replace

from sidecar.cli.journal import moment_of
from sidecar.core.cdr import Cdr, message_id
from sidecar.core.terms import HangupOrigin, RevisionReason, ServerReason
from tests.adapters.sqlite_stores import opened
from tests.cli.test_commands import Served, served_node, sidecar
from tests.cli.test_doctor import journal
from tests.core.doctor_traffic import calls, deck, e164, policy

HOUR = timedelta(hours=1)
FLAG = "SERVER_BILLING_RECORD_SERVER_HANG_UP"


def traffic() -> list[Cdr]:
    """Two accounts in two currencies, and calls that the server ended and the flag kept free."""
    euros = policy(buy=deck("buy", "USD"))
    dollars = policy(sell=deck("usd", "USD"), accounts={"bell": None}, gateways={"other": 0})
    kept = [
        replace(
            cdr,
            hangup_origin=HangupOrigin.SERVER,
            server_reason=ServerReason.TIMEOUT,
            recorded=False,
            suppressed_by=FLAG,
        )
        for cdr in calls(e164(10, 2), euros, seed=2)
    ]
    return [*calls(e164(30), euros), *calls(e164(20, 1), dollars, account="bell", gateway="other"), *kept]


@pytest.fixture
async def config(tmp_path: Path) -> tuple[str, str]:
    return "--config", str(await journal(tmp_path, traffic()))


async def test_an_export_holds_the_calls_asked_for_and_adds_up(
    tmp_path: Path, config: tuple[str, str]
) -> None:
    out = tmp_path / "out"
    done = await sidecar("cdr", "export", "--out", str(out), "--account", "acme", *config)
    assert done.exit_code == 0, done.err
    assert done.out.startswith("30 records, ")
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["filters"] == {"account": "acme", "suppressed": False}
    with (out / "cdrs-00001.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["account"] for row in rows} == {"acme"}
    told = manifest["control_totals"]["all"]
    assert Fraction(told["sell"]["EUR"]["total"]) == sum(Fraction(row["sell_total"]) for row in rows)
    assert sorted(int(one["seq"]) for one in rows) == list(range(1, 31))
    assert [one["ended_at"] for one in rows] == sorted(one["ended_at"] for one in rows)
    [epoch] = manifest["epochs"]
    assert (epoch["records"], epoch["first_seq"], epoch["last_seq"]) == (30, 1, 30)
    again = await sidecar("cdr", "export", "--out", str(out), *config)
    assert (again.exit_code, again.out) == (2, "")
    assert "holds an export already" in again.err


async def test_an_export_is_by_start_or_end_of_calls_in_a_named_zone(
    tmp_path: Path, config: tuple[str, str]
) -> None:
    async def exported(name: str, *words: str) -> list[dict[str, str]]:
        done = await sidecar("cdr", "export", "--out", str(tmp_path / name), *words, *config)
        assert done.exit_code == 0, done.err
        with (tmp_path / name / "cdrs-00001.csv").open(newline="") as file:
            return list(csv.DictReader(file))

    every = sorted(await exported("all"), key=lambda row: row["invited_at"])
    middle = every[len(every) // 2]["invited_at"]
    local = datetime.fromisoformat(middle).astimezone(ZoneInfo("Asia/Tokyo")).replace(tzinfo=None)
    in_tokyo = ("--until", local.isoformat(), "--zone", "Asia/Tokyo")
    begun = await exported("begun", "--by", "start", *in_tokyo)
    ended = await exported("ended", *in_tokyo)
    assert {row["call_id"] for row in begun} == {
        row["call_id"] for row in every if row["invited_at"] < middle
    }
    assert {row["call_id"] for row in ended} == {row["call_id"] for row in every if row["ended_at"] < middle}
    assert len(ended) < len(begun)
    manifest = json.loads((tmp_path / "begun" / "manifest.json").read_text())
    assert (manifest["filters"]["by"], manifest["filters"]["zone"]) == ("start", "Asia/Tokyo")


async def test_what_was_revised_after_a_handover_is_found(tmp_path: Path) -> None:
    first, second, third = traffic()[:3]
    handed_over = first.ended_at + timedelta(days=3)
    early, late = (
        replace(
            one,
            revision=1,
            supersedes=0,
            revised_at=at,
            message_id=message_id(one.call_id, 1),
            revision_reason=RevisionReason.RERATE,
        )
        for one, at in ((second, handed_over - HOUR), (third, handed_over + HOUR))
    )
    config = await journal(tmp_path, [first, second, third])
    async with opened(tmp_path / "data") as watched:
        assert await watched.store.revisions.revise([early, late]) == [True, True]
    words = ("--revised-since", handed_over.isoformat(), "--config", str(config))
    done = await sidecar("cdr", "export", "--format", "jsonl", "--out", str(tmp_path / "out"), *words)
    assert done.exit_code == 0, done.err
    (line,) = (tmp_path / "out" / "cdrs-00001.jsonl").read_text().splitlines()
    assert json.loads(line)["call_id"] == str(third.call_id)


async def test_an_export_is_verified_by_its_manifest(tmp_path: Path, config: tuple[str, str]) -> None:
    out = tmp_path / "out"
    await sidecar("cdr", "export", "--out", str(out), *config)
    right = await sidecar("cdr", "verify", str(out))
    assert (right.exit_code, right.out) == (0, "50 records in 1 files: as its manifest says\n")
    with (out / "cdrs-00001.csv").open("a") as file:
        file.write("more\n")
    wrong = await sidecar("cdr", "verify", str(out / "manifest.json"), "--json")
    assert wrong.exit_code == 1
    assert any("SHA-256" in text for text in wrong.json["findings"])
    assert any("record 51 cannot be read" in text for text in wrong.json["findings"])
    none = await sidecar("cdr", "verify", str(tmp_path))
    assert (none.exit_code, none.out) == (2, "")


@pytest.mark.parametrize("wanted", ["jsonl", "parquet"])
async def test_other_formats_and_suppressed_records(
    tmp_path: Path, config: tuple[str, str], wanted: str
) -> None:
    out = tmp_path / "out"
    words = ("--format", wanted, "--out", str(out), "--suppressed", "--json")
    done = await sidecar("cdr", "export", *words, *config)
    assert done.exit_code == 0, done.err
    assert done.json == json.loads((out / "manifest.json").read_text())
    assert done.json["control_totals"]["by_origin"]["server"]["records"] == 10
    assert (out / f"cdrs-00001.{wanted}").exists()


async def test_the_summary_is_by_origin_and_reason_and_shows_the_gap(config: tuple[str, str]) -> None:
    done = await sidecar("cdr", "summary", *config)
    assert done.exit_code == 0, done.err
    header, *rows = done.out.splitlines()
    assert header.split()[:2] == ["origin", "reason"]
    caller, server = rows
    assert "EUR + " in caller
    assert "USD" in caller
    assert server.split()[:3] == ["server", "timeout", "0"]
    assert server.endswith(f"{FLAG}: 10")
    told = (await sidecar("cdr", "summary", "--by", "account", "--json", *config)).json
    by_group = {(row["group"], row["origin"]): row for row in told["rows"]}
    assert set(by_group) == {("acme", "caller"), ("acme", "server"), ("bell", "caller")}
    assert set(by_group["bell", "caller"]["charged"]["sell"]) == {"USD"}
    kept = [cdr for cdr in traffic() if not cdr.recorded]
    waived = by_group["acme", "server"]["waived"]["sell"]["EUR"]["total"]
    assert Fraction(waived) == sum(Fraction(cdr.charges[0].total or 0) for cdr in kept)


@pytest.mark.parametrize("by", ["gateway", "destination"])
async def test_the_summary_by_other_groups_has_the_same_sum(config: tuple[str, str], by: str) -> None:
    plain = (await sidecar("cdr", "summary", "--json", *config)).json["rows"]
    grouped = (await sidecar("cdr", "summary", "--by", by, "--json", *config)).json["rows"]
    assert len(grouped) > len(plain)
    for currency in ("EUR", "USD"):
        assert _sold(grouped, currency) == _sold(plain, currency) > 0


def _sold(rows: list[dict[str, dict[str, dict[str, dict[str, str]]]]], currency: str) -> Fraction:
    found = (row["charged"]["sell"].get(currency) for row in rows)
    return sum((Fraction(one["total"]) for one in found if one), Fraction())


@pytest.mark.parametrize(
    ("words", "exit_code"),
    [
        (("export", "--format", "xml", "--out", "x"), 2),
        (("export", "--since", "yesterday", "--out", "x"), 2),
        (("export",), 2),
        (("summary", "--by", "colour"), 2),
        (("summary", "--since", "2026-11-01", "--zone", "Europe/Nowhere"), 2),
        (("summary", "--since", "2026-10-25T02:30", "--zone", "Europe/Berlin"), 2),
        (("search", "--charge-min", "1"), 2),
    ],
)
async def test_bad_input_is_exit_code_2(tmp_path: Path, words: tuple[str, ...], exit_code: int) -> None:
    assert (await sidecar("cdr", *words, cwd=tmp_path)).exit_code == exit_code


@pytest.mark.parametrize("words", [("export", "--out", "x"), ("summary",)])
async def test_without_a_journal_it_is_exit_code_3(tmp_path: Path, words: tuple[str, ...]) -> None:
    done = await sidecar("cdr", *words, "--json", cwd=tmp_path)
    assert (done.exit_code, done.out) == (3, "")
    assert "there is no journal" in json.loads(done.err)["error"]["message"]
    assert not (tmp_path / "x").exists()


async def test_calls_are_found_by_what_they_cost(tmp_path: Path) -> None:
    async with served_node(tmp_path) as served:
        await served.node.whole(talk_ms=2_400)
        dear = await served.node.whole(talk_ms=60_000)
        assert await _found(served, "--charge-min", "0.1", "--currency", "EUR") == [str(dear)]
        assert len(await _found(served, "--charge-max", "10", "--currency", "EUR")) == 2
        nothing = await served.says("cdr", "search", "--charge-min", "0.1", "--currency", "USD")
        assert nothing.exit_code == 1


async def _found(served: Served, *words: str) -> list[str]:
    return [one["call_id"] for one in (await served.says("cdr", "search", *words, "--json")).json["records"]]


def in_its_zone(settings: Path, zone: str) -> None:
    settings.write_text(f'[node]\ntime_zone = "{zone}"\n' + settings.read_text().replace("[node]\n", ""))


async def test_a_plain_date_is_of_the_zone_of_the_settings(config: tuple[str, str]) -> None:
    settings = Path(config[1])
    in_its_zone(settings, "Pacific/Kiritimati")
    for text, zone, hour in (
        ("2026-11-02", None, 10),
        ("2026-11-02T14:00", None, 24),
        ("2026-11-02", "UTC", 24),
        ("2026-11-02T01:00+01:00", None, 24),
    ):
        midnight = datetime(2026, 11, 1, tzinfo=UTC)
        assert moment_of("--since", text, settings, zone=zone) == midnight + timedelta(hours=hour), text


async def test_a_record_is_found_without_a_daemon(tmp_path: Path, config: tuple[str, str]) -> None:
    """By number, Call-ID and date; dates are of the zone of the settings."""
    in_its_zone(Path(config[1]), "Pacific/Kiritimati")
    every = json.loads((await sidecar("cdr", "search", "--limit", "1000", "--json", *config)).out)["records"]
    assert len(every) == 50
    one = every[7]
    call_id = one["leg_a"]["sip_call_id"]
    named = json.loads((await sidecar("cdr", "search", "--sip-call-id", call_id, "--json", *config)).out)
    assert one in named["records"]
    assert all(found["leg_a"]["sip_call_id"] == call_id for found in named["records"])
    shown = json.loads((await sidecar("cdr", "show", one["call_id"], "--json", *config)).out)
    assert shown == [one]
    assert json.loads((await sidecar("cdr", "show", call_id, "--json", *config)).out)
    assert (await sidecar("cdr", "show", "nobody@nowhere", *config)).exit_code == 1
    last = (await sidecar("cdr", "tail", "-n", "3", "--json", *config)).out.splitlines()
    assert [json.loads(line)["seq"] for line in last] == [48, 49, 50]
    ended = datetime.fromisoformat(one["ended_at"])
    day = ended.astimezone(ZoneInfo("Pacific/Kiritimati")).date()
    dated = await sidecar(
        *("cdr", "search", "--from", str(day), "--to", str(day + timedelta(days=1)), "--json", *config)
    )
    assert one in json.loads(dated.out)["records"]
    wrong = await sidecar("cdr", "search", "--session-id", "xyz", *config)
    assert (wrong.exit_code, "32 hexadecimal" in wrong.err) == (2, True)
