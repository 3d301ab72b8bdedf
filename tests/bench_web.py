"""`make bench-web`: how long each page takes, with so many records in the journal (1,000,000 by default: ten
minutes to make, and a few GB below TMPDIR). Red where one takes longer than a page may. In a folder that is
named (FOLDER=) what was made stays, and is not made again. With ENGINE=postgresql the records are in a server
of its own. BESIDE= and UP=: see bench/pages."""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import psycopg

from sidecar.adapters.deck_store import DeckStore
from sidecar.adapters.postgresql import PostgresqlStore
from sidecar.adapters.postgresql.books import PostgresqlBooks
from sidecar.adapters.sqlite.books import SqliteBooks
from sidecar.adapters.sqlite.kept_sums import KeptSums
from sidecar.adapters.store.books import Books
from sidecar.adapters.store.keys import KEY_FILE_NAME
from sidecar.config import load
from sidecar.core.cdr import Cdr
from sidecar.core.policy import Policy
from sidecar.core.totals import destination_of
from sidecar.demo import children, traffic
from sidecar.demo.web import settings_of
from sidecar.ports import RecordFilter
from sidecar.wiring.files import inputs
from tests.bench import pages
from tests.rig.postgres import postgres
from tests.web.rig import Answer, Visit

RECORDS = 1_000_000
EACH = 5
PAGE_S_MAX = 0.5
PASSWORD = "correct horse battery"


def places_of(last: Cdr, some: Cdr, cursor: str, deck: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Searches that find much, little and nothing; `last` ended last, `some`, and `cursor`, in between."""
    day, hour = timedelta(days=1), timedelta(hours=1)
    assert some.leg_a is not None
    yield "/", {}
    for name in ("hour", "day", "week", "month", "year"):
        yield "/", {"range": name}
        yield "/now/series", {"range": name}
    yield "/calls", {}
    yield "/records", {}
    yield f"/records/{some.call_id}", {}
    for wanted in (
        {"account": "acme"},
        {"account": "nobody"},
        {"gateway": "east"},
        {"gateway": "nowhere"},
        {"origin": "caller"},
        {"origin": "server"},
        {"origin": "server", "reason": "admin"},
        {"reason": "credit"},
        {"detail": "bye", "gateway": "east"},
        {"detail": "max_duration"},
        {"number": "4930*"},
        {"number": "49891234567"},
        {"number": some.caller.received},
        {"number": some.callee.received},
        {"sip_call_id": some.leg_a.sip_call_id},
        {"sip_call_id": "nobody@127.0.0.1"},
        {"tag": some.leg_a.remote_tag},
        {"session_id": "0123456789abcdef" * 2},
        {"suppressed": "1"},
        {"currency": "EUR", "charge_min": "0.5"},
        {"currency": "EUR", "charge_min": "1000"},
        {"currency": "USD", "charge_min": "0"},
        {"account": "acme", "currency": "EUR", "charge_min": "1000"},
        {"account": "acme", "number": some.caller.received},
        {"ended_to": _local(some.ended_at)},
        {"ended_from": _local(some.ended_at - hour), "ended_to": _local(some.ended_at)},
        {"ended_from": "2020-01-01T00:00", "ended_to": "2020-02-01T00:00"},
        {"number": "49891234567", "ended_from": _local(some.ended_at - hour)},
        {"cursor": cursor},
        {"cursor": cursor, "account": "acme", "origin": "server"},
        # As the figures of Revenue ask.
        {"holds": "1", "destination": destination_of(some)},
        {"holds": "1", "destination": "Nowhere"},
        {"holds": "1", "none": "destination"},
        {"holds": "1", "none": "gateway"},
        {"holds": "1", "only": "unrated"},
        {"holds": "1", "only": "overrun"},
        {"holds": "1", "suppressed": "1", "part": "kept_free"},
        {"holds": "1", "suppressed": "1", "part": "kept_back"},
        {"holds": "1", "only": "unrated", "account": "acme", "ended_from": _local(some.ended_at - day)},
    ):
        yield "/records", wanted
    first = (last.ended_at - 40 * day).date()
    for way in ("day", "account", "destination", "gateway", "end"):
        yield "/revenue", {"by": way}
    yield "/revenue", {"by": "destination", "from": first, "before_from": first - 40 * day}
    yield "/revenue", {"by": "destination", "form": "csv"}
    yield "/accounts", {}
    yield "/accounts/one", {"name": "acme"}
    yield "/accounts/statement", {"name": "acme"}
    yield "/accounts/statement", {"name": "acme", "from": last.ended_at.date(), "format": "csv"}
    yield "/rates", {}
    yield "/rates/name", {"name": "retail"}
    yield "/rates/route", {"number": "4930123456", "peer": traffic.PEER}
    yield "/rates/deck", {"revision": deck}
    yield "/rates/deck", {"revision": deck, "name": "retail"}
    yield "/numbers", {}
    yield "/numbers", {"examine": "1"}
    yield "/delivery", {}
    yield "/node", {}
    yield "/node", {"all": "1"}
    yield "/audit", {}
    yield "/audit", {"action": "page.sign_in"}
    yield "/audit", {"by": "nobody"}


def _local(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%dT%H:%M}"


async def run(folder: Path, records: int, dsn: str = "") -> bool:
    """`dsn`: of a database; empty: the records are in a journal."""
    settings = settings_of(folder, children.own_address()) | _of_engine(folder, dsn)
    policy = load(inputs({}, settings, None)).policy
    await made(folder, policy, records, dsn)
    books: Books = PostgresqlBooks(dsn, policy.node) if dsn else SqliteBooks(folder / "data")
    with books.look() as look:
        [last] = look.search(RecordFilter(), 1).records
        found = look.search(RecordFilter(until=last.ended_at - timedelta(hours=12)), 1)
    [some], cursor = found.records, found.cursor
    assert cursor is not None
    password = folder / "password"
    password.write_text(PASSWORD)
    async with children.daemon(folder / "daemon.log", settings) as node:
        name = f"ada-{time.time_ns()}"  # one of before may be there
        await node.command("user", "add", name, "--role", "admin", "--password-file", str(password))
        sums, began_s = KeptSums(books, folder / "data", "UTC"), time.monotonic()
        while await asyncio.to_thread(sums.behind):  # noqa: ASYNC110 - another process counts
            await asyncio.sleep(1)
        print(f"summed after {time.monotonic() - began_s:.0f} s")
        deck = DeckStore(folder / "data" / "decks").of_settings()["retail"]
        visit = Visit(node.page)
        await asyncio.to_thread(visit.sign_in, name, PASSWORD)
        return await asyncio.to_thread(
            _look, visit, [_place(*one) for one in places_of(last, some, cursor, deck)]
        )


def _of_engine(folder: Path, dsn: str) -> dict[str, str]:
    if not dsn:
        return {}
    file = folder / "dsn"
    file.touch(mode=0o600)
    file.write_text(dsn)
    return {"SIDECAR_STORE__ENGINE": "postgresql", "SIDECAR_STORE__DSN_FILE": str(file)}


async def made(folder: Path, policy: Policy, records: int, dsn: str) -> None:
    whole = folder / "made"
    if whole.exists():
        assert int(whole.read_text()) == records, f"{folder} has {whole.read_text()} records: name another"
        return
    began_s = time.monotonic()
    if dsn:
        clock = traffic.MadeClock()
        clock.wall = time.time_ns() - traffic.DAY_S * 1_000_000_000
        key_file = folder / "data" / KEY_FILE_NAME
        key_file.parent.mkdir(mode=0o700)
        store = PostgresqlStore.open(
            dsn, node=policy.node, boot_id=policy.boot_id, clock=clock, key_file=key_file
        )
        await traffic.fill(store, clock, policy, records, time.time_ns())
        await store.close()
        with psycopg.connect(dsn, autocommit=True) as database:
            database.execute("VACUUM ANALYZE")  # as the server does by itself, sooner or later
    else:
        await traffic.write(folder / "data", policy, records, time.time_ns())
    whole.write_text(str(records))
    print(f"{records:,} calls in {time.monotonic() - began_s:.0f} s", flush=True)


def _place(path: str, query: dict[str, Any]) -> str:
    return f"{path}?{urlencode(query)}" if query else path


def _look(visit: Visit, places: list[str]) -> bool:
    is_green = True
    print(f"{'page':<70} {'status':>6} {'first ms':>9} {'least ms':>9} {'most ms':>9} {'kB':>6}")
    for place in places:
        tried = [_asked(visit, place) for _ in range(EACH)]
        took = [one_ms for one_ms, _ in tried]
        answer = tried[-1][1]
        made_s = _made_s(visit, place) if answer.status == 202 else None
        is_late = max(took) > PAGE_S_MAX * 1_000 or answer.status not in (200, 202)
        is_green = is_green and not is_late
        times = f"{took[0]:>9.1f} {min(took):>9.1f} {max(took):>9.1f}"
        size = len(answer.text.encode()) / 1_000
        made = "" if made_s is None else f" made in {made_s:.0f} s"
        print(f"{place:<70} {answer.status:>6} {times} {size:>6.1f}{' late' * is_late}{made}", flush=True)
    return is_green


def _made_s(visit: Visit, place: str) -> float:
    """Of what takes longer than a page may: until it is there."""
    began_s = time.monotonic()
    answer = visit.made(place)
    assert answer.status == 200, answer.text
    return time.monotonic() - began_s


def _asked(visit: Visit, place: str) -> tuple[float, Answer]:
    began_s = time.perf_counter()
    answer = visit.get(place)
    return (time.perf_counter() - began_s) * 1_000, answer


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=RECORDS)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--engine", choices=("sqlite", "postgresql"), default="sqlite")
    parser.add_argument("--beside", type=int, help="only this: calls per second, with and without open pages")
    parser.add_argument("--up", type=int, help="only this: the page of Calls with so many calls up")
    parser.add_argument("--seconds", type=float, default=4.0, help="of calls, beside which pages are open")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="sidecar-bench-web-") as made_up:
        folder: Path = (given.folder or Path(made_up)).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        if given.up:
            return 0 if asyncio.run(pages.calls_up(folder / "up", given.up)) else 1
        with postgres() if given.engine == "postgresql" else nullcontext() as server:
            dsn = server.new_database("page") if server is not None else ""
            if not given.beside:
                return 0 if asyncio.run(run(folder, given.records, dsn)) else 1
            more = _of_engine(folder, dsn)
            opened = asyncio.run(pages.opened(folder / "beside", given.beside, given.seconds, more))
            print(opened)
            return 0 if opened.is_green else 1


if __name__ == "__main__":
    sys.exit(main())
