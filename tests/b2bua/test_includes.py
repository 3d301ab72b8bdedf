"""`make check` finds a native file that includes one from above it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.b2bua.includes import NATIVE, faults


@pytest.mark.parametrize(
    ("name", "text", "fault"),
    [
        ("leg.cpp", '#include "bridge.hpp"\n', "leg.cpp includes bridge.hpp, which is not below it"),
        ("leg.hpp", '#include "call.hpp"\n', "leg.hpp includes call.hpp, which is not below it"),
        ("leg.hpp", '#include "leg.hpp"\n', "leg.hpp includes leg.hpp, which is not below it"),
        ("shed.cpp", "", "shed: has no place in ROOMS"),
    ],
)
def test_an_include_from_above_is_found(tmp_path: Path, name: str, text: str, fault: str) -> None:
    native = shutil.copytree(NATIVE, tmp_path / "native")
    with (native / name).open("a", encoding="utf-8") as file:
        file.write(text)
    assert fault in set(faults(native)) - set(faults())


def test_an_exception_that_nothing_needs_is_found(tmp_path: Path) -> None:
    native = shutil.copytree(NATIVE, tmp_path / "native")
    (native / "leg.cpp").write_text('#include "leg.hpp"\n')
    assert "leg.cpp may include call.hpp and does not" in faults(native)
