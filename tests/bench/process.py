"""What the kernel knows of a process: proc(5)."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

_TICK_S = 1 / os.sysconf("SC_CLK_TCK")


def cpu_s(pid: int) -> float:
    """User and system time of all its threads, also of those that have ended."""
    fields = _stat(Path(f"/proc/{pid}/stat"))
    return (int(fields[11]) + int(fields[12])) * _TICK_S


def cpu_by_thread_s(pid: int) -> dict[str, float]:
    """By the name of the thread, in nanoseconds' exactness; threads of one name are added up."""
    found: dict[str, float] = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        with suppress(OSError):  # the thread has ended meanwhile
            name = (task / "comm").read_text().strip()
            spent_s = int((task / "schedstat").read_text().split()[0]) / 1e9
            found[name] = found.get(name, 0.0) + spent_s
    return found


def wakeups(pid: int) -> int:
    """How often a thread of it has gone to sleep by itself; those that have ended are not counted."""
    found = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        with suppress(OSError):
            found += _field(task / "status", "voluntary_ctxt_switches")
    return found


def stolen_s() -> float:
    """CPU time that the machine's host gave to others, since the start."""
    return int(Path("/proc/stat").read_text().split("\n", 1)[0].split()[8]) * _TICK_S


def rss_bytes(pid: int) -> int:
    return _field(Path(f"/proc/{pid}/status"), "VmRSS") * 1024


def open_files(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))  # noqa: PTH208  # only how many


def children(pid: int) -> list[int]:
    """All of them, and theirs."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in map(int, (task / "children").read_text().split()):
            found += [child, *children(child)]
    return found


def child_named(pid: int, name: str) -> int:
    """The child process of this name."""
    for child in children(pid):
        if Path(f"/proc/{child}/comm").read_text().strip() == name:
            return child
    raise LookupError(f"process {pid} has no child {name}")


def _stat(path: Path) -> list[str]:
    """From `state` on: the name before it may hold anything, blanks too."""
    return path.read_text().rpartition(")")[2].split()


def _field(path: Path, name: str) -> int:
    lines = path.read_text().splitlines()
    return int(next(line for line in lines if line.startswith(f"{name}:")).split()[1])
