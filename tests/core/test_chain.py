"""The chain: what a link and the sum depend on."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.chain import ORIGIN, ChainKey, Link, Row, added

KEY = ChainKey(bytes(range(32)))
ROWS: list[tuple[str, list[Row]]] = [("cdrs", [(1, "a", None)]), ("ledger", [(1, "b"), (2, "c")])]


def test_a_link_depends_on_its_number_the_one_before_its_key_and_every_row() -> None:
    link = KEY.link(1, ORIGIN, ROWS)
    others: list[bytes] = [
        KEY.link(2, ORIGIN, ROWS),
        KEY.link(1, link, ROWS),
        ChainKey(bytes(32)).link(1, ORIGIN, ROWS),
        KEY.link(1, ORIGIN, [("cdrs", [(1, "a", "")]), ROWS[1]]),
        KEY.link(1, ORIGIN, [ROWS[0], ("ledger", [(2, "c"), (1, "b")])]),
        KEY.link(1, ORIGIN, [ROWS[0], ("ledger", [(1, "b")])]),
        KEY.link(1, ORIGIN, [("cdrs", [*ROWS[0][1], (1, "b")]), ("ledger", [(2, "c")])]),
    ]
    assert len({link, *others}) == 1 + len(others)


def test_the_key_is_named_without_being_told() -> None:
    secret = bytes(range(32))
    assert KEY.id == ChainKey(secret).id != ChainKey(bytes(32)).id
    assert secret.hex()[:16] != KEY.id


def test_a_key_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="32 bytes, not 31"):
        ChainKey(bytes(31))


def test_the_personal_part_cannot_be_tried_without_its_salt() -> None:
    part = ("+4930123456", "004915112345678", None, b"body")
    assert KEY.personal(b"salt 1", part) != KEY.personal(b"salt 2", part)
    assert KEY.personal(b"salt 1", part) != KEY.personal(b"salt 1", (*part[:3], b"other"))


@given(st.lists(st.integers(min_value=0, max_value=2**128 - 1), max_size=8))
def test_the_sum_does_not_depend_on_the_order_and_what_is_taken_off_is_gone(
    digests: list[int],
) -> None:
    shuffled = sorted(digests, key=lambda one: (one * 2654435761) % 2**64)
    total = added(0, digests)
    assert total == added(0, shuffled)
    assert added(total, [-one for one in shuffled]) == 0
    assert 0 <= total < 2**128


def test_a_seal_depends_on_the_link_the_sum_and_the_marks() -> None:
    seals = {
        KEY.seal(Link(1, b"h"), 5, (3, 2)),
        KEY.seal(Link(2, b"h"), 5, (3, 2)),
        KEY.seal(Link(1, b"i"), 5, (3, 2)),
        KEY.seal(Link(1, b"h"), 6, (3, 2)),
        KEY.seal(Link(1, b"h"), 5, (3, 3)),
    }
    assert len(seals) == 5
