from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.persistent_map import PersistentMap

KEYS = st.text("abc", max_size=3)
CHANGES = st.lists(st.tuples(KEYS, st.none() | st.integers()))  # None takes the key out


@given(st.dictionaries(KEYS, st.integers()), CHANGES)
def test_it_is_a_dict_that_is_copied_at_each_change(
    start: dict[str, int], changes: list[tuple[str, int | None]]
) -> None:
    versions = [(PersistentMap(start), dict(start))]
    for key, value in changes:
        found, expected = versions[-1]
        if value is not None:
            versions.append((found.plus(key, value), {**expected, key: value}))
        elif key in expected:
            versions.append((found.minus(key), {k: v for k, v in expected.items() if k != key}))
        else:
            with pytest.raises(KeyError):
                found.minus(key)
    for found, expected in versions:  # the earlier ones are as they were
        assert found == expected
        assert len(found) == len(expected)
        assert sorted(found) == sorted(expected)
        for key in ("a", "abc", ""):
            assert (found.get(key), key in found) == (expected.get(key), key in expected)
            assert found.get(key, 7) == expected.get(key, 7)


def test_a_key_that_is_not_there_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        PersistentMap({"a": 1})["b"]


def test_a_changed_copy_shares_all_parts_but_one() -> None:
    """What one entry more costs does not grow with the entries."""
    large = PersistentMap({str(number): number for number in range(10_000)})
    more = large.plus("one", 1)
    assert sum(a is not b for a, b in zip(large._parts, more._parts, strict=True)) == 1
    assert max(map(len, more._parts)) < 50
