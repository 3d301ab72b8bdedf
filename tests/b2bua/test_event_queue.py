"""The queue between the native thread and Python's, under ThreadSanitizer."""

from __future__ import annotations

import subprocess
from pathlib import Path

HERE = Path(__file__).resolve().parent
NATIVE = HERE.parents[1] / "sidecar" / "b2bua" / "native"


def test_two_threads_share_the_event_queue_without_a_race(tmp_path: Path) -> None:
    program = tmp_path / "race"
    sources = (HERE / "event_queue_race.cpp", NATIVE / "event_queue.cpp")
    flags = ("-std=c++20", "-O1", "-g", "-fsanitize=thread", f"-I{NATIVE}")
    subprocess.run(["g++", *flags, *sources, "-o", program], check=True, timeout=50)
    run = subprocess.run([program], check=False, capture_output=True, text=True, timeout=50)
    assert (run.returncode, run.stdout, run.stderr) == (0, "200000 events\n", "")
