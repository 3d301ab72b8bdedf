"""`python -m tests.fuzz [--seconds 10] [--seed N]`: messages at the real bridge until the time is over or it
breaks. `python -m tests.fuzz --replay FILE [--minimise]`: the messages of a finding again.

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
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tests.fuzz.recording import Recording, Sent, smallest
from tests.fuzz.target import Fuzzer, UnresponsiveError

_CLONE_NEWNET: Final = 0x40000000
_SIOCSIFFLAGS: Final = 0x8914
_IFF_UP: Final = 1
_LOST: Final = 3  # what a sanitizer's report, a signal and Python's own errors do not end with
_REPLAY_S_MAX: Final = 120.0


def main() -> int:
    words = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    words.add_argument("--seconds", type=float, default=10.0)
    words.add_argument(
        "--seed",
        type=int,
        default=secrets.randbelow(2**31),
        help="printed; the order of mutations comes from it, ports and tags do not: see --replay",
    )
    words.add_argument(
        "--keep", type=Path, help="keep the messages of the last round here, whatever came of it"
    )
    words.add_argument(
        "--replay", type=Path, help="the messages of this file, at a new bridge and a new dialog"
    )
    words.add_argument("--minimise", action="store_true", help="with --replay: leave out what is not needed")
    words.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    given = words.parse_args()
    if given.child is not None:
        return child(given.seed, given.seconds, given.child, given.replay)
    if given.replay is not None:
        return replay(given.replay, minimise=given.minimise)

    handle, name = tempfile.mkstemp(prefix="sidecar-fuzz-", suffix=".messages")
    os.close(handle)
    kept = given.keep or Path(name)
    print(f"seed {given.seed}", flush=True)
    code = run_child(kept, "--seconds", str(given.seconds), "--seed", str(given.seed))
    if code == 0 or given.keep is not None:
        Path(name).unlink()
    if code == 0:
        return 0
    print(f"FOUND (exit {code}), seed {given.seed}; again: python -m tests.fuzz --replay {kept}", flush=True)
    return 1


def replay(path: Path, *, minimise: bool) -> int:
    recording = Recording.read(path)
    with tempfile.TemporaryDirectory(prefix="sidecar-fuzz-") as folder:
        scratch = Path(folder)
        code = run_child(scratch / "sent", "--replay", str(path))
        print(f"FOUND (exit {code})" if code else "nothing was found", flush=True)
        if code == 0 or not minimise:
            return min(abs(code), 1)

        def found_again(sent: Sequence[Sent]) -> bool:
            fewer = scratch / "fewer"
            Recording(recording.seed, recording.words, tuple(sent)).write(fewer)
            return run_child(scratch / "sent", "--replay", str(fewer), quiet=True) == code

        least = smallest(recording.sent, found_again)
    small = path.with_suffix(".least")
    Recording(recording.seed, recording.words, tuple(least)).write(small)
    print(f"{len(least)} of {len(recording.sent)} messages are needed: {small}", flush=True)
    return 1


def run_child(kept: Path, *how: str, quiet: bool = False) -> int:
    """Its exit code. A process of its own: what is looked for ends it."""
    command = [sys.executable, "-m", "tests.fuzz", "--child", str(kept), *how]
    output = subprocess.DEVNULL if quiet else None
    limit = _REPLAY_S_MAX if "--replay" in how else None
    return subprocess.run(command, check=False, stdout=output, stderr=output, timeout=limit).returncode


def child(seed: int, seconds: float, kept: Path, replayed: Path | None) -> int:
    inside = "" if only_loopback() else "; no network of its own: a mutated address may be sent to"
    recording = Recording.read(replayed) if replayed is not None else None
    fuzzer = Fuzzer(seed if recording is None else recording.seed, kept)
    try:
        asyncio.run(fuzzer.run(seconds) if recording is None else fuzzer.replay(recording))
    except UnresponsiveError as unresponsive:
        print(f"lost after {fuzzer.tally.messages} messages: {unresponsive}", flush=True)
        return _LOST
    tally = fuzzer.tally
    print(
        f"{tally.messages} messages in {tally.seconds:.0f} s ({tally.messages / tally.seconds:.0f}/s),"
        f" {tally.calls} calls, {tally.relayed} requests passed on,"
        f" {tally.odd} calls with odd fields and {tally.damaged} with damaged ones that ended with their BYE,"
        f" {tally.second_tries} second tries,"
        f" {tally.probes} probes that worked{inside}",
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
