"""The queues between the native thread and Python's, under ThreadSanitizer."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
NATIVE = HERE.parents[1] / "sidecar" / "b2bua" / "native"
# Another sanitizer that is preloaded for the tests themselves would be in this one's way.
ALONE = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}


def build(program: Path, *flags: str) -> None:
    sources = (
        HERE / "queues_race.cpp",
        NATIVE / "event_queue.cpp",
        NATIVE / "command_box.cpp",
        NATIVE / "messagepack.cpp",
    )
    usual = ("-std=c++20", "-O1", "-g", "-fsanitize=thread", f"-I{NATIVE}")
    subprocess.run(["g++", *usual, *flags, *sources, "-o", program], check=True, timeout=100, env=ALONE)


@pytest.mark.timeout(240)
def test_events_and_commands_cross_between_threads_without_a_race(tmp_path: Path) -> None:
    program = tmp_path / "race"
    build(program)
    run = subprocess.run([program], check=False, capture_output=True, text=True, timeout=100, env=ALONE)
    assert (run.returncode, run.stdout, run.stderr) == (0, "100000 events, 100000 commands\n", "")


@pytest.mark.timeout(240)
def test_the_sanitizer_sees_a_race_where_there_is_one(tmp_path: Path) -> None:
    program = tmp_path / "race"
    build(program, "-include", str(HERE / "no_lock.hpp"))
    # At the first race: what is lost without locks may be what the program waits for.
    halting = ALONE | {"TSAN_OPTIONS": "halt_on_error=1"}
    run = subprocess.run([program], check=False, capture_output=True, text=True, timeout=100, env=halting)
    assert run.returncode != 0
    assert "data race" in run.stderr
