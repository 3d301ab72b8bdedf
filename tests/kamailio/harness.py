"""A real Kamailio with our sample configuration, on loopback, without privileges.

    with kamailio(folder, places) as proxy:
        ...  # send it SIP at proxy.places.proxy

Kamailio binds what it is told, and nothing else; it keeps its files in `folder`.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

SAMPLES = Path(__file__).parents[2] / "sip_profiles"
CONFIGURATION = SAMPLES / "kamailio.cfg"
SIDECARS = SAMPLES / "kamailio-sidecars.list"
PROFILE = SAMPLES / "beside-kamailio.toml"
START_ATTEMPTS_MAX = 150
COMMAND_S = 30
STOP_S = 10

Address = tuple[str, int]


class Places(msgspec.Struct, frozen=True, kw_only=True):
    """Who is where, and the timers. Customers are known by their address alone."""

    proxy: Address
    sidecars: tuple[Address, ...]  # the preferred one first; all at one port
    carrier: Address
    acme_host: str
    bluebird_host: str = "127.99.99.99"
    sharing: str = "0"
    probe_s: int = 3_600  # not in this test
    sidecar_ms: int = 5_000  # a busy machine is no dead node
    carrier_ms: int = 5_000
    carrier_ring_ms: int = 110_000
    ring_s: int = 120
    call_s: int = 43_200


class Proxy(msgspec.Struct, frozen=True, kw_only=True):
    places: Places
    folder: Path
    pid: int

    def command(self, *words: str) -> str:
        """What `kamcmd` answers."""
        socket_name = f"unix:{self.folder / 'kamailio_ctl'}"
        done = subprocess.run(
            [executable("kamcmd"), "-s", socket_name, *words],
            capture_output=True,
            text=True,
            check=True,
            timeout=COMMAND_S,
        )
        return done.stdout


def arguments(places: Places, sidecars: Path) -> list[str]:
    """The definitions that replace the addresses and the timers of the sample."""
    carrier = f"sip:{places.carrier[0]}:{places.carrier[1]}"
    given = {
        "KAMAILIO_HOST": places.proxy[0],
        "KAMAILIO_PORT": str(places.proxy[1]),
        "SIDECARS_LIST": f'"{sidecars}"',
        "CARRIER_URI": f'"{carrier}"',
        "ACME_HOST": f'"{places.acme_host}"',
        "BLUEBIRD_HOST": f'"{places.bluebird_host}"',
        "SHARING": f'"{places.sharing}"',
        "PROBE_S": str(places.probe_s),
        "SIDECAR_MS": str(places.sidecar_ms),
        "CARRIER_MS": str(places.carrier_ms),
        "CARRIER_RING_MS": str(places.carrier_ring_ms),
        "RING_S": str(places.ring_s),
        "CALL_S": str(places.call_s),
    }
    return [word for name, text in given.items() for word in ("-A", f"{name}={text}")]


def sidecars_list(places: Places) -> str:
    """The sample with our addresses; of its two lines the second again for each further one."""
    lines = SIDECARS.read_text().splitlines(keepends=True)
    first, second = (
        next(line for line in lines if sample in line) for sample in ("192.0.2.10:5080", "192.0.2.11:5080")
    )
    ours = [
        (first if number == 0 else second).replace(
            f"192.0.2.1{min(number, 1)}:5080", ":".join(map(str, place))
        )
        for number, place in enumerate(places.sidecars)
    ]
    return "".join([line for line in lines if line not in (first, second)] + ours)


def profile(places: Places, number: int = 0, behind: str = "") -> str:
    """The profile as it is shipped, with our addresses: that of the node `number`. `behind` is the host of
    another Kamailio, with the same port, that leads to the carrier."""
    text = PROFILE.read_text()
    hosts = ", ".join(f'"{host}"' for host, _ in places.sidecars)
    text = text.replace('addresses = ["192.0.2.10", "192.0.2.11"]', f"addresses = [{hosts}]")
    text = text.replace("port = 5080", f"port = {places.sidecars[number][1]}")
    if behind:
        text = text.replace('addresses = ["192.0.2.10"]', f'addresses = ["192.0.2.10", "{behind}"]')
        text = text.replace('host = "192.0.2.10"', f'host = "{behind}"')
    text = text.replace("192.0.2.10:5080", ":".join(map(str, places.sidecars[number])))
    text = text.replace("192.0.2.10", places.proxy[0])
    return re.sub(r"(?m)^port = 5060$", f"port = {places.proxy[1]}", text)


def executable(name: str = "kamailio") -> str:
    """Debian keeps it in /usr/sbin, which is not on a user's PATH."""
    found = shutil.which(name, path="/usr/sbin:/usr/bin:/usr/local/sbin")
    if found is None:
        raise FileNotFoundError(f"{name} is missing: apt-get install -y kamailio")
    return found


@contextmanager
def kamailio(folder: Path, places: Places) -> Iterator[Proxy]:
    log = folder / "kamailio.log"
    files = ["-w", str(folder), "-Y", str(folder), "-P", str(folder / "kamailio.pid")]
    sidecars = folder / SIDECARS.name
    sidecars.write_text(sidecars_list(places))
    command = [executable(), "-DD", "-E", *files, *arguments(places, sidecars), "-f", str(CONFIGURATION)]
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, cwd=folder, start_new_session=True)
    try:
        _wait_until_it_answers(process, places.proxy, log)
        yield Proxy(places=places, folder=folder, pid=process.pid)
    finally:
        process.terminate()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # its own session: it and its children
            process.wait()


def _wait_until_it_answers(process: subprocess.Popen[bytes], proxy: Address, log: Path) -> None:
    """OPTIONS until it is answered: each attempt waits for an answer, none waits for a time."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind((proxy[0], 0))
        probe.settimeout(0.2)
        host, port = probe.getsockname()
        for attempt in range(START_ATTEMPTS_MAX):
            probe.sendto(
                f"OPTIONS sip:{proxy[0]}:{proxy[1]} SIP/2.0\r\n"
                f"Via: SIP/2.0/UDP {host}:{port};rport;branch=z9hG4bK-ready-{attempt}\r\n"
                f"Max-Forwards: 70\r\nFrom: <sip:ready@{host}>;tag=ready\r\nTo: <sip:{proxy[0]}>\r\n"
                f"Call-ID: ready-{attempt}\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n".encode(),
                proxy,
            )
            try:
                probe.recv(65_536)
            except (TimeoutError, ConnectionRefusedError):
                if process.poll() is not None:
                    break
            else:
                return
    raise RuntimeError(f"Kamailio does not answer: {log.read_text(errors='replace')[-2_000:]}")
