"""`sidecar`, whose event loop stands still at the next INVITE for as long as the file named by STALL is
there."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from sidecar.cli import main
from sidecar.core.admit import open_call
from sidecar.runtime import calls

_STALL = Path(os.environ["STALL"])


def _late(*arguments: Any) -> Any:
    while _STALL.exists():
        time.sleep(0.01)
    return open_call(*arguments)


vars(calls)["open_call"] = _late

if __name__ == "__main__":
    main()
