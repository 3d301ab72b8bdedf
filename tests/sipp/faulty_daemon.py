"""`sidecar`, with one bug put in: an ACK from a caller of account `demo` makes the decision raise."""

from __future__ import annotations

from typing import Any

from sidecar.cli import main
from sidecar.core import decide
from sidecar.core.call import Phase
from sidecar.core.events import AckReceived


def _raise(*_: Any) -> Any:
    raise ZeroDivisionError("put in by a test")


decide.TABLE = {
    phase: {**rows, AckReceived: _raise} if phase is Phase.TALKING else rows
    for phase, rows in decide.TABLE.items()
}

if __name__ == "__main__":
    main()
