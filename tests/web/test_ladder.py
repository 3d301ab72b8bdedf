from __future__ import annotations

import json

import pytest

from sidecar.web.ladder import Way, ladder
from sidecar.wire.cdr_codec import decode_json
from tests.scenarios.golden import GOLDEN, expand

SIGNS = {
    Way.TO_NODE: "A> ",
    Way.TO_CALLER: "<A ",
    Way.TO_GATEWAY: " B>",
    Way.FROM_GATEWAY: " <B",
    Way.TO_BOTH: "<A B>",
    Way.FORWARD: "A> B>",
    Way.BACKWARD: "<A <B",
}


@pytest.mark.parametrize(
    ("scenario", "rungs"),
    [
        (
            "caller-bye-in-call",
            [
                "A> INVITE",
                "B> INVITE alpha",
                "<A <B 180 rings",
                "<B 2xx answers",
                "<A 2xx, once it was on disk",
                "A> B> BYE",
            ],
        ),
        (
            "caller-cancel-while-ringing",
            ["A> INVITE", "B> INVITE alpha", "<A <B 180 rings", "A> B> CANCEL", "<A 487", "<B 487"],
        ),
        ("callee-rejected-busy", ["A> INVITE", "B> INVITE alpha", "<A <B 180 rings", "<B 486", "<A 486"]),
    ],
)
def test_a_call_is_a_ladder_in_the_order_of_time(scenario: str, rungs: list[str]) -> None:
    left = expand((GOLDEN / f"{scenario}.json").read_text())
    cdr = decode_json(json.dumps(left["records"][-1]).encode())
    found = ladder(cdr)
    assert [f"{SIGNS[one.way].strip()} {one.text}" for one in found] == rungs
    assert [one.at_ms for one in found] == sorted(one.at_ms for one in found)


@pytest.mark.parametrize("file", sorted(GOLDEN.glob("*.json")), ids=lambda file: file.stem)
def test_every_record_has_a_ladder_that_begins_with_its_invite_and_has_its_end(file: object) -> None:
    if getattr(file, "stem", "") == "base":
        return
    for record in expand(file.read_text())["records"]:  # type: ignore[attr-defined]
        found = ladder(decode_json(json.dumps(record).encode()))
        assert found[0].text == "INVITE"
        assert len(found) >= 2
