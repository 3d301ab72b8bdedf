"""`make demo-web`: a node whose journal has a day of made calls, and its page for operators, until Ctrl-C."""

from __future__ import annotations

import asyncio
import secrets
import shutil
import sys
import tempfile
import time
from pathlib import Path

from sidecar.config import load
from sidecar.demo import children, traffic
from sidecar.demo.children import DemoError
from sidecar.wiring.files import inputs

CALLS = 20_000
USER = "demo"


def settings_of(folder: Path, host: str) -> dict[str, str]:
    profile = folder / "day.toml"
    profile.write_text(traffic.profile())
    return {
        "SIDECAR_NODE__NAME": "demo",
        "SIDECAR_NODE__DATA_DIR": str(folder / "data"),
        "SIDECAR_SIP__PROFILE": str(profile),
        "SIDECAR_SIP__LISTEN_UDP": f"{host}:0",
        "SIDECAR_METRICS__LISTEN": f"{host}:0",
        "SIDECAR_WEB__LISTEN": "127.0.0.1:0",
    }


async def run(folder: Path, calls: int = CALLS) -> None:
    """Until it is cancelled."""
    settings = settings_of(folder, children.own_address())
    began_s = time.monotonic()
    policy = load(inputs({}, settings, None)).policy
    await traffic.write(folder / "data", policy, calls, time.time_ns())
    print(f"{calls:,} calls of a day are in the journal ({time.monotonic() - began_s:.0f} s)")
    password_file = folder / "password"
    password_file.touch(mode=0o600)
    password_file.write_text(f"{secrets.token_urlsafe(9)}\n")
    async with children.daemon(folder / "daemon.log", settings) as node:
        words = ("--role", "admin", "--password-file", str(password_file))
        await node.command("user", "add", USER, *words)
        print(f"the page:  {node.page}")
        print(f"sign in:   {USER}, {password_file.read_text().strip()}")
        print("Ctrl-C ends it, and takes all of it away", flush=True)
        status = await node.ended()
        raise DemoError(f"the sidecar ended with status {status}: its log is {folder}/daemon.log")


def main() -> int:
    folder = Path(tempfile.mkdtemp(prefix="sidecar-demo-web-"))
    status = 0
    try:
        asyncio.run(run(folder, int(sys.argv[1]) if len(sys.argv) > 1 else CALLS))
    except* DemoError as group:
        print("\n".join(f"demo: {error}" for error in children.leaves(group)), file=sys.stderr)
        status = 1
    except* KeyboardInterrupt:
        print("demo: ended")
    if not status:
        shutil.rmtree(folder)
    return status


if __name__ == "__main__":
    sys.exit(main())
