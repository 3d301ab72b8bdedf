"""Where log lines go, and what they look like."""

from sidecar.adapters.logs.journal import Journal, stderr_is_journal
from sidecar.adapters.logs.lines import LINE_BYTES_MAX, LineWriter, LogError, configure, ready, set_level

__all__ = [
    "LINE_BYTES_MAX",
    "Journal",
    "LineWriter",
    "LogError",
    "configure",
    "ready",
    "set_level",
    "stderr_is_journal",
]
