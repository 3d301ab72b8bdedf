from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.terms import HangupOrigin
from sidecar.wire.topics import (
    CdrTopic,
    cdr_filter,
    cdr_topic,
    escape,
    parse_cdr_topic,
    status_topic,
    unescape,
)

names = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


def test_a_topic_reads_as_documented() -> None:
    assert cdr_topic("_", "node1", "acme", HangupOrigin.CALLEE) == "sidecar/v1/_/node1/cdr/acme/callee"
    assert status_topic("_", "node1") == "sidecar/v1/_/node1/status"


@pytest.mark.parametrize(
    ("name", "level"),
    [
        ("a+b", "a%2Bb"),
        ("#", "%23"),
        ("x/y", "x%2Fy"),
        ("$SYS", "%24SYS"),
        ("50%", "50%25"),
        ("nul\0", "nul%00"),
        ("a b", "a%20b"),
        ("Zürich", "Z%C3%BCrich"),
        ("_.-~", "_.-~"),
    ],
)
def test_nothing_in_a_name_is_special_to_a_broker(name: str, level: str) -> None:
    assert escape(name) == level
    assert unescape(level) == name


@given(names, names, names, st.sampled_from(HangupOrigin))
def test_topics_are_read_back_and_hold_only_unreserved_characters(
    tenant: str, node: str, account: str, origin: HangupOrigin
) -> None:
    topic = cdr_topic(tenant, node, account, origin)
    assert parse_cdr_topic(topic) == CdrTopic(tenant, node, account, origin)
    level = r"[A-Za-z0-9_.~%-]*"
    assert re.fullmatch(f"sidecar/v1/{level}/{level}/cdr/{level}/(caller|callee|server)", topic)


def test_a_lone_surrogate_does_not_raise() -> None:
    assert escape("\ud800") == "%5Cud800"


@pytest.mark.parametrize(
    "topic",
    [
        "",
        "sidecar/v1/_/n/status",
        "sidecar/v2/_/n/cdr/a/caller",
        "sidecar/v1/_/n/cdr/a/nobody",
        "a/b/c/d/e/f/g",
    ],
)
def test_other_topics_are_not_taken_for_records(topic: str) -> None:
    assert parse_cdr_topic(topic) is None


def test_filters_name_what_is_wanted_and_leave_the_rest_open() -> None:
    assert cdr_filter() == "sidecar/v1/+/+/cdr/+/+"
    assert cdr_filter("_", "n1", "a+b", HangupOrigin.SERVER) == "sidecar/v1/_/n1/cdr/a%2Bb/server"
