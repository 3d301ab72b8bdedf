"""The reference of the settings says all there is."""

from __future__ import annotations

from sidecar.config import entries, reference, vos3000
from sidecar.config.settings import DECLARED

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
        "meaning": "No answer by then: 408.",
    }
    assert [row["required"] for row in found["[[routes]]"]] == [True, True]
    assert sum(map(len, found.values())) == len(DECLARED) + sum(len(table.fields()) for table in TABLES)
