"""`python -m tests.fuzz [--seconds 10] [--seed N]`: messages at the real bridge until the time is over or it
breaks.

`PJ_SANITIZE=1 make fuzz` runs it where a byte read past its end is a report, and a report the end. Exit code
0: nothing was found; 1: something was, and the messages since the last call that worked are in the file that
is named.
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import fcntl
import os
import secrets
import socket
import struct
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from tests.fuzz.target import Fuzzer, Lost

_CLONE_NEWNET: Final = 0x40000000
_SIOCSIFFLAGS: Final = 0x8914
_IFF_UP: Final = 1


def main() -> int:
    words = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    words.add_argument("--seconds", type=float, default=10.0)
    words.add_argument(
        "--seed", type=int, default=secrets.randbelow(2**31), help="printed; the same one, the same mutations"
    )
    words.add_argument("--last", type=Path, help="where to keep the last messages (used by the parent)")
    given = words.parse_args()
    if given.last is not None:
        return target(given.seed, given.seconds, given.last)

    handle, name = tempfile.mkstemp(prefix="sidecar-fuzz-", suffix=".messages")
    os.close(handle)
    print(f"seed {given.seed}", flush=True)
    again = ["--seconds", str(given.seconds), "--seed", str(given.seed), "--last", name]
    code = subprocess.run([sys.executable, "-m", "tests.fuzz", *again], check=False).returncode
    if code == 0:
        Path(name).unlink()
        return 0
    print(f"FOUND (exit {code}), seed {given.seed}; the last messages: {name}", flush=True)
    return 1


def target(seed: int, seconds: float, last: Path) -> int:
    inside = "" if only_loopback() else "; no network of its own: a mutated address may be sent to"
    fuzzer = Fuzzer(seed, last)
    try:
        asyncio.run(fuzzer.run(seconds))
    except Lost as lost:
        print(f"lost: {lost}", flush=True)
        return 1
    tally = fuzzer.tally
    print(
        f"{tally.messages} messages in {tally.seconds:.0f} s ({tally.messages / tally.seconds:.0f}/s),"
        f" {tally.calls} calls, {tally.probes} probes that worked{inside}",
        flush=True,
    )
    return 0


def only_loopback() -> bool:
    """A network namespace with nothing but lo, where the system allows one: mutations hit addresses too."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNET) != 0:
        return False
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", _IFF_UP))
    return True


if __name__ == "__main__":
    sys.exit(main())
