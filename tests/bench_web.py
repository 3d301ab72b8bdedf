"""`make bench-web`: how long each page takes, with so many records in the journal (1,000,000 by default: ten
minutes to make, and a few GB below TMPDIR). Red where one takes longer than a page may."""

from __future__ import annotations

import asyncio
import shutil
import sys
import tempfile
import time
from pathlib import Path

from sidecar.config import load
from sidecar.demo import children, traffic
from sidecar.demo.web import settings_of
from sidecar.wiring.files import inputs
from tests.web.rig import Visit

RECORDS = 1_000_000
EACH = 5
PAGE_S_MAX = 0.5
PASSWORD = "correct horse battery"
# Searches that find much, little and nothing.
PAGES = (
    "/",
    "/calls",
    "/records",
    "/records?account=acme",
    "/records?origin=server",
    "/records?gateway=east&detail=bye",
    "/records?number=4930*",
    "/records?number=49891234567",
    "/records?sip_call_id=made-7@127.0.0.1",
    "/records?account=acme&charge_min=0.5&currency=EUR",
    "/revenue",
    "/accounts",
    "/accounts/one?name=acme",
    "/rates",
    "/delivery",
    "/node",
    "/audit",
)


async def run(folder: Path, records: int) -> bool:
    settings = settings_of(folder, children.own_address())
    policy = load(inputs({}, settings, None)).policy
    began_s = time.monotonic()
    await traffic.write(folder / "data", policy, records, time.time_ns())
    print(f"{records:,} calls in {time.monotonic() - began_s:.0f} s")
    password = folder / "password"
    password.write_text(PASSWORD)
    async with children.daemon(folder / "daemon.log", settings) as node:
        await node.command("user", "add", "ada", "--role", "admin", "--password-file", str(password))
        visit = Visit(node.page)
        await asyncio.to_thread(visit.sign_in, "ada", PASSWORD)
        return await asyncio.to_thread(_look, visit)


def _look(visit: Visit) -> bool:
    is_green = True
    print(f"{'page':<55} {'status':>6} {'least ms':>9} {'most ms':>9} {'kB':>6}")
    for page in PAGES:
        took: list[float] = []
        answer = visit.get(page)
        for _ in range(EACH):
            began_s = time.perf_counter()
            answer = visit.get(page)
            took.append(time.perf_counter() - began_s)
        is_late = max(took) > PAGE_S_MAX or answer.status != 200
        is_green = is_green and not is_late
        least, most = min(took) * 1_000, max(took) * 1_000
        size = len(answer.text.encode()) / 1_000
        line = f"{page:<55} {answer.status:>6} {least:>9.1f} {most:>9.1f} {size:>6.1f}"
        print(line + (" late" if is_late else ""), flush=True)
    return is_green


def main() -> int:
    folder = Path(tempfile.mkdtemp(prefix="sidecar-bench-web-"))
    try:
        return 0 if asyncio.run(run(folder, int(sys.argv[1]) if len(sys.argv) > 1 else RECORDS)) else 1
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    sys.exit(main())
