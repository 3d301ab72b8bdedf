"""Addresses of our own, and the settings that the figures stand for: those of `make run`, on the disk that
the data directory is on."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

import apsw

from sidecar.demo.children import REPO
from sidecar.wiring.node import DISTRIBUTION
from tests.rig.addresses import own_network
from tests.rig.node import Node

DIALLED = "0044123456789"
STRIP_DIGITS = 2
NODE = "bench"
NETWORK = own_network()
SETTINGS = {"SIDECAR_NODE__NAME": NODE, "SERVER_BILLING_GATEWAY_ROUTE_PREFIX": str(STRIP_DIGITS)}


def host(number: int) -> str:
    """A loopback address of this run alone: 1 is the node."""
    return f"{NETWORK}.{number}"


def node(folder: Path, profile: str) -> Node:
    return Node(folder, profile, network=NETWORK, settings=SETTINGS)


def loopback_profile(sip: str, callee: tuple[str, int]) -> str:
    """The loopback profile, with other addresses in it and nothing else changed."""
    profile = (REPO / "sip_profiles" / "loopback.toml").read_text()
    for before, after in (
        ('listen_udp = ["127.0.0.1:5080"]', f'listen_udp = ["{sip}:0"]'),
        ('listen_tcp = ["127.0.0.1:5080"]', f'listen_tcp = ["{sip}:0"]'),
        ('host = "127.0.0.1"\nport = 5090', f'host = "{callee[0]}"\nport = {callee[1]}'),
    ):
        assert before in profile, f"the loopback profile has changed: no {before!r}"
        profile = profile.replace(before, after)
    return profile


def surroundings(folder: Path) -> dict[str, str]:
    """What the figures were taken with; asked before anything runs."""
    load_1, load_5, _ = os.getloadavg()
    return {
        "commit": _commit(),
        "profile": "loopback (make run), one UDP listener, embedded broker, listener at QoS 1",
        "disk": _disk(folder),
        "journal": f"WAL, synchronous=FULL: an fsync per commit; SQLite {apsw.sqlite_lib_version()}",
        "versions": f"sidecar {version(DISTRIBUTION)}, Python {platform.python_version()}, "
        f"{_first_line('mosquitto', '-h')}, {_first_line('sipp', '-v')}",
        "machine": f"{os.cpu_count()} cores, {_cpu_model()}, Linux {platform.release()}",
        "load before": f"{load_1:.1f} in the last minute, {load_5:.1f} in five"
        + (": NOT QUIET, others compute beside us" if load_1 > QUIET_LOAD_MAX else ""),
    }


QUIET_LOAD_MAX = 0.7


def _commit() -> str:
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty"], cwd=REPO, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.strip()


def _disk(folder: Path) -> str:
    """The file system of the data directory: a tmpfs would make every figure of the journal a lie."""
    real, best = folder.resolve(), ("", "", "")
    for line in Path("/proc/self/mounts").read_text().splitlines():
        device, mounted, kind, *_ = line.split()
        if real.is_relative_to(mounted) and len(mounted) >= len(best[1]):
            best = (device, mounted, kind)
    device, mounted, kind = best
    warning = ": NOT A DISK" if kind in ("tmpfs", "ramfs") else ""
    return f"{kind} on {device} ({mounted}){warning}"


def _first_line(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = [line.strip() for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    return " ".join(lines[0].split()[:3]).rstrip(".") if lines else f"{command[0]}: unknown"


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
