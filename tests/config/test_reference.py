"""The reference of the settings says all there is."""

from __future__ import annotations

import re
import tomllib

from sidecar.config import entries, reference, vos3000
from sidecar.config.settings import DECLARED
from tests.config.support import Start

TABLES: list[type[entries.Table]] = [*entries.PROFILE_TABLES.values(), entries.ProxyHangups]


def test_every_key_field_and_name_is_in_the_reference() -> None:
    text = reference.markdown()
    for setting in DECLARED.values():
        assert f"| `{'.'.join(setting.path[1:])}`" in text
        assert setting.meaning in text
    for table in TABLES:
        assert f"## {table.heading}\n" in text
        assert all(f"| `{name}` |" in text for name in table.fields())
    assert all(f"| `{name}` |" in text for name in vos3000.BY_NAME)


def test_a_program_reads_the_same() -> None:
    found = reference.values()
    assert [row["key"] for row in found["timers"]][:2] == ["timers.ring_timeout_s", "timers.max_duration_s"]
    assert found["timers"][0] == {
        "key": "timers.ring_timeout_s",
        "type": "integer",
        "unit": "s",
        "required": False,
        "default": "120 s",
        "bound": "1–3600",
        "in_profile": True,
        "at_start": False,
        "meaning": "No answer by then: 408.",
    }
    assert [row["required"] for row in found["[[routes]]"]] == [True, True]
    assert sum(map(len, found.values())) == len(DECLARED) + sum(len(table.fields()) for table in TABLES)


def test_the_settings_file_to_begin_with_names_every_setting_and_says_nothing(start: Start) -> None:
    text = reference.settings_file()
    assert tomllib.loads(text) == {}
    named = re.findall(r"(?m)^#(\[?[\w.]+)\]? ?(=|$)", text)
    assert [name for name, sign in named if sign] == [
        ".".join(setting.path[1:]) for setting in DECLARED.values()
    ]
    # What is written out is the default: without the # it says nothing new either.
    taken = "".join(f"{line}\n" for line in re.findall(r"(?m)^#(\[[\w.]+\]|[\w.]+ = [^ ].*)$", text))
    assert len(taken.splitlines()) > len(DECLARED) / 2
    assert start.load(taken).settings == start.load().settings
