"""The configuration reference says all there is, and can be read as Markdown."""

from __future__ import annotations

import re
import subprocess
import sys

from sidecar.config import entries, reference, vos3000
from sidecar.config.settings import DECLARED


def test_every_key_field_and_name_is_in_the_reference() -> None:
    text = reference.markdown()
    for key in DECLARED.values():
        assert f"| `{'.'.join(key.path[1:])}`" in text
        assert key.meaning in text
    tables: list[type[entries.Table]] = [*entries.PROFILE_TABLES.values(), entries.ProxyHangups]
    for table in tables:
        assert f"#### {table.heading}\n" in text
        assert all(f"| `{name}` |" in text for name in table.fields())
    assert all(f"| `{name}` |" in text for name in vos3000.BY_NAME)


def test_every_row_has_as_many_cells_as_its_titles() -> None:
    width = 0
    for line in reference.markdown().splitlines():
        cells = len(re.findall(r"(?<!\\)\|", line)) if line.startswith("|") else 0
        if cells and width:
            assert cells == width, line
        width = cells


def test_it_is_printed_between_its_marks() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "sidecar.config.reference"], capture_output=True, text=True, check=True
    )
    assert done.stdout == reference.markdown()
    assert done.stdout.startswith(reference.BEGIN)
    assert done.stdout.endswith(f"{reference.END}\n")
