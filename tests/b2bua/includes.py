"""`python -m tests.b2bua.includes`, part of `make check`: the native files include one way, each only headers
of the rooms below its own."""

from __future__ import annotations

import re
import sys
from pathlib import Path

NATIVE = Path(__file__).resolve().parents[2] / "sidecar" / "b2bua" / "native"
ROOMS = re.findall(
    r"\w+",
    """
    module bridge
    certificate_check ended_dialogs call relay session_timer liveness translation leg gateway_request
    admission_gate refused_before connections broken_streams second_reading
    early_dialogs dialog remote_party digest validity passports
    saved_invite message body assertions transaction deadline
    defects context capture stall arrival tls_names settings gateway_servers tls_in_force peer_table
    source_limit address sent_by stand_in text event_queue messagepack command_queue command_box command event
    memory tls_credentials terms declared counters
""",
)
# The parts of a call, which owns and calls them, tell it in turn what came in, and ask what only it knows of
# both legs. Their headers do not need it.
UPWARD = {
    ("leg.cpp", "call"),
    ("liveness.cpp", "call"),
    ("relay.cpp", "call"),
    ("session_timer.cpp", "call"),
    ("translation.cpp", "call"),
}


def faults(native: Path = NATIVE) -> list[str]:
    place = {room: at for at, room in enumerate(ROOMS)}
    files = [path for path in sorted(native.iterdir()) if path.suffix in {".hpp", ".cpp"}]
    upward = set()
    for path in files:
        for other in re.findall(r'^#include "(\w+)\.hpp"', path.read_text(encoding="utf-8"), re.MULTILINE):
            own = other == path.stem and path.suffix == ".cpp"
            if not own and place.get(other, -1) <= place.get(path.stem, -1):
                upward.add((path.name, other))
    stems = {path.stem for path in files}
    return [
        *(f"{room}: a room without files" for room in sorted(set(ROOMS) - stems)),
        *(f"{stem}: has no place in ROOMS" for stem in sorted(stems - set(ROOMS))),
        *(f"{name} includes {other}.hpp, which is not below it" for name, other in sorted(upward - UPWARD)),
        *(f"{name} may include {other}.hpp and does not" for name, other in sorted(UPWARD - upward)),
    ]


if __name__ == "__main__":
    sys.exit("\n".join(faults()) or None)
