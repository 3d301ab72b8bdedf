"""`sidecar doctor` on a journal that the product's own store has written."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from sidecar.core.cdr import Cdr
from sidecar.core.commands import Publish, Suppress
from tests.adapters.sqlite_stores import opened
from tests.cli.test_commands import Done, sidecar
from tests.core.doctor_traffic import calls, deck, e164, in_front, policy

SINCE = ("--since", "2026-11-01T00:00:00Z")
DECK = "prefix,destination,currency,connect_fee,price_per_minute,initial_s,increment_s\n" + "".join(
    f"{digit},zone {digit},EUR,0,0.6,60,60\n" for digit in range(1, 10)
)
SETTINGS = """
[node]
data_dir = "{data_dir}"
[billing]
deck = "zones"
[decks]
zones = "zones.csv"
"""


async def journal(folder: Path, records: Sequence[Cdr]) -> Path:
    """Settings whose data directory holds the records."""
    async with opened(folder / "data") as watched:
        for cdr in records:
            watched.submit((Publish(cdr=cdr) if cdr.recorded else Suppress(cdr=cdr),))
        await watched.written()
    (folder / "zones.csv").write_text(DECK)
    settings = folder / "sidecar.toml"
    settings.write_text(SETTINGS.format(data_dir=folder / "data"))
    return settings


async def doctor(settings: Path, *words: str) -> Done:
    return await sidecar("doctor", *words, "--config", str(settings))


async def test_a_finding_has_its_evidence_the_fix_and_what_it_changes(tmp_path: Path) -> None:
    settings = await journal(tmp_path, calls(in_front("00", e164(40)), policy()))
    done = await doctor(settings, *SINCE)
    assert done.exit_code == 1, done.err
    first, *rest = done.out.splitlines()
    assert first.startswith("not stripped: sell side, peer proxy: 40 of 40 calls (100%) to 40 numbers")
    assert "    fix: set billing.strip_digits to 2 (SERVER_BILLING_GATEWAY_ROUTE_PREFIX)" in rest
    assert any("40 have a rate (now 0)" in line and "EUR instead of nothing" in line for line in rest)
    assert rest[-1].startswith("1 findings in 40 charges, of 40 calls")


async def test_findings_are_told_to_programs_too(tmp_path: Path) -> None:
    records = calls(in_front("00", e164(40)), policy())
    settings = await journal(tmp_path, records)
    done = await doctor(settings, *SINCE, "--json")
    assert done.exit_code == 1
    [finding] = done.json["findings"]
    assert (finding["symptom"], finding["should_strip"], finding["share"]) == ("not_stripped", 2, 1.0)
    assert {one["call_id"] for one in finding["examples"]} <= {str(cdr.call_id) for cdr in records}
    after: Any = finding["effect"]["after"]
    assert list(after) == ["EUR"]
    assert isinstance(after["EUR"], str)


async def test_a_healthy_journal_is_passed_over_in_silence(tmp_path: Path) -> None:
    settings = await journal(tmp_path, calls(in_front("00", e164(200)), policy(strip=2)))
    done = await doctor(settings, *SINCE)
    assert (done.exit_code, done.err) == (0, "")
    assert done.out.startswith("0 findings in 200 charges")


async def test_only_the_calls_that_are_asked_for_are_examined(tmp_path: Path) -> None:
    world = policy(peers={"a": 2, "b": 0}, gateways={"g1": 0, "g2": 0}, accounts={"acme": None, "bell": None})
    right = calls(in_front("00", e164(30)), world, peer="a", gateway="g1")
    wrong = calls(in_front("00", e164(30, 1)), world, peer="b", gateway="g2", account="bell")
    settings = await journal(tmp_path, right + wrong)
    answers = await asyncio.gather(
        doctor(settings, *SINCE),
        doctor(settings, *SINCE, "--gateway", "g1"),
        doctor(settings, *SINCE, "--account", "acme"),
        doctor(settings, *SINCE, "--until", "2026-11-01T00:00:00Z"),
        doctor(settings),
    )
    assert [done.exit_code for done in answers] == [1, 0, 0, 0, 0]
    assert answers[1].out.startswith("0 findings in 30 charges")


async def test_bad_input_and_no_journal_have_their_exit_codes(tmp_path: Path) -> None:
    settings = await journal(tmp_path, [])
    assert (await doctor(settings, "--since", "yesterday")).exit_code == 2
    assert (await doctor(settings, "--since", "2026-11-01T00:00:00")).exit_code == 0
    assert (await doctor(settings)).exit_code == 0
    (tmp_path / "data" / "journal.db").unlink()
    done = await doctor(settings)
    assert done.exit_code == 3
    assert "there is no journal" in done.err
    (tmp_path / "zones.csv").write_text("nonsense\n")
    assert (await doctor(settings)).exit_code == 2


@pytest.mark.parametrize("words", [("doctor", "--help")])
async def test_it_is_a_command(words: tuple[str, ...]) -> None:
    assert (await sidecar(*words)).exit_code == 0


async def test_a_single_call_without_a_price_is_found(tmp_path: Path) -> None:
    world = policy(sell=deck(prices={"44": "0.02", "49": "0.02", "1": "0.01"}))
    records = calls([*e164(60, 3, ("GB", "DE", "US")), *e164(3, 5, ("ZA",))], world)
    lost = [one for one in records if any(line.rating_status == "no_rate" for line in one.charges)]
    assert lost
    settings = await journal(tmp_path, records)
    done = await doctor(settings, *SINCE, "--json")
    assert done.exit_code == 1
    [finding] = [one for one in done.json["findings"] if one["symptom"] == "carried_unrated"]
    assert finding["calls"] == len(lost)
    assert {one["call_id"] for one in finding["examples"]} <= {str(one.call_id) for one in lost}
