from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.windows import EVERY_DAY, EXAMPLES, Window, format_window, parse_window

BERLIN = ZoneInfo("Europe/Berlin")


def local(text: str, fold: int = 0) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=BERLIN, fold=fold)


@pytest.mark.parametrize(
    ("text", "at", "holds"),
    [
        ("Mo-Fr 08:00-18:00 Europe/Berlin", "2026-03-02 08:00", True),  # a Monday
        ("Mo-Fr 08:00-18:00 Europe/Berlin", "2026-03-02 07:59:59.999999", False),
        ("Mo-Fr 08:00-18:00 Europe/Berlin", "2026-03-02 18:00", False),
        ("Mo-Fr 08:00-18:00 Europe/Berlin", "2026-03-01 12:00", False),
        ("Mo 22:00-06:00 Europe/Berlin", "2026-03-02 23:00", True),
        ("Mo 22:00-06:00 Europe/Berlin", "2026-03-03 05:59", True),
        ("Mo 22:00-06:00 Europe/Berlin", "2026-03-03 06:00", False),
        ("Mo 22:00-06:00 Europe/Berlin", "2026-03-02 05:59", False),
        ("Mo 08:15-18:45 Europe/Berlin", "2026-03-02 08:14:59", False),
        ("Mo 08:15-18:45 Europe/Berlin", "2026-03-02 08:15", True),
        ("Mo 08:15-18:45 Europe/Berlin", "2026-03-02 18:44:59", True),
        ("Mo 08:15-18:45 Europe/Berlin", "2026-03-02 18:45", False),
        ("Mo 22:30-06:15 Europe/Berlin", "2026-03-02 22:29:59", False),
        ("Mo 22:30-06:15 Europe/Berlin", "2026-03-02 22:30", True),
        ("Mo 22:30-06:15 Europe/Berlin", "2026-03-03 06:14:59", True),
        ("Mo 22:30-06:15 Europe/Berlin", "2026-03-03 06:15", False),
        ("Sa-Su Europe/Berlin", "2026-03-01 23:59", True),
        ("Sa-Mo Europe/Berlin", "2026-03-02 12:00", True),
        ("Sa-Mo Europe/Berlin", "2026-03-03 12:00", False),
        ("20:00-24:00 Europe/Berlin", "2026-03-03 23:59", True),
        ("Tu,Th-Fr 10:00-11:00 Europe/Berlin", "2026-03-05 10:30", True),
        ("Tu,Th-Fr 10:00-11:00 Europe/Berlin", "2026-03-04 10:30", False),
        ("Mo-Su 08:00-18:00 UTC", "2026-03-02 08:59", False),
        ("Mo-Su 08:00-18:00 UTC", "2026-07-02 10:00", True),
        # 2026-03-29: the clock goes from 02:00 to 03:00; 2026-10-25: from 03:00 back to 02:00.
        ("02:00-03:00 Europe/Berlin", "2026-03-29 03:00", False),
        ("02:30-03:30 Europe/Berlin", "2026-03-29 03:00", True),
    ],
)
def test_a_window_is_about_the_clock_on_the_wall(text: str, at: str, holds: bool) -> None:
    assert parse_window(text).holds_at(local(at).astimezone(UTC)) is holds


def test_an_hour_shown_twice_is_in_the_window_twice() -> None:
    window = parse_window("02:00-03:00 Europe/Berlin")
    assert all(window.holds_at(local("2026-10-25 02:30", fold)) for fold in (0, 1))


windows = st.builds(
    lambda days, start, length, zone: Window(
        days=days, start_minute=start, end_minute=(start + length) % 1440, zone=zone
    ),
    st.integers(1, EVERY_DAY),
    st.integers(0, 1439),
    st.integers(1, 1439),
    st.sampled_from(["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata", "UTC"]),
)
# Both changes of 2026 in each of the zones lie in these months.
instants = st.datetimes(datetime(2026, 3, 1), datetime(2026, 11, 10), timezones=st.just(UTC))  # noqa: DTZ001


@given(windows)
def test_a_window_is_read_back_as_it_was_written(window: Window) -> None:
    assert parse_window(format_window(window)) == window


@given(windows, instants)
def test_nothing_changes_before_the_next_change(window: Window, at: datetime) -> None:
    change = window.next_change(at)
    assert at < change <= at + timedelta(hours=25)
    held = window.holds_at(at)
    step = (change - at) / 50
    assert all(window.holds_at(at + number * step) == held for number in range(50))
    assert window.holds_at(change - timedelta(microseconds=1)) == held


@given(windows, instants)
def test_every_change_is_found(window: Window, at: datetime) -> None:
    # The oracle asks each minute of two days.
    changes = set()
    now = at
    while now < at + timedelta(days=2):
        changes.add(now := window.next_change(now))
    minute = at.replace(second=0, microsecond=0)
    for _ in range(2 * 1440 - 1):
        if window.holds_at(minute) != window.holds_at(minute + timedelta(minutes=1)) and minute >= at:
            assert minute + timedelta(minutes=1) in changes
        minute += timedelta(minutes=1)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Europe/Berlin",
        "Mo-Fr",
        "Mo-Fr 08:00-18:00",
        "Mo-Fr 08:00-18:00 Europe/Atlantis",
        "Mo-Fr 08:00-18:00 ../../etc/passwd",
        "Mo-Fr 08:00-18:00 Europe",
        "Mo-Xx 08:00-18:00 Europe/Berlin",
        "mo-fr 08:00-18:00 Europe/Berlin",
        "Mo- 08:00-18:00 Europe/Berlin",
        "Mo-Fr 8:00-18:00 Europe/Berlin",
        "Mo-Fr 08:00-18:60 Europe/Berlin",
        "Mo-Fr 08:00-25:00 Europe/Berlin",
        "Mo-Fr 08:00-24:30 Europe/Berlin",
        "Mo-Fr 08:00-08:00 Europe/Berlin",
        "Mo-Fr 24:00-08:00 Europe/Berlin",
        "Mo-Fr 08:00-18:00 Europe/Berlin extra",
        "Mo-Fr  08:00-18:00 Europe/Berlin",
        "Mo Tu 08:00-18:00 Europe/Berlin",
    ],
)
def test_what_is_no_window_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"window|zone|begins"):
        parse_window(text)


def test_an_illegal_window_cannot_be_built() -> None:
    for days, start, end in ((0, 0, 60), (128, 0, 60), (1, -1, 60), (1, 1440, 60), (1, 0, 1441), (1, 5, 5)):
        with pytest.raises(ValueError, match=r"days|window"):
            Window(days=days, start_minute=start, end_minute=end, zone="UTC")


@pytest.mark.parametrize(
    ("text", "days", "start", "end", "zone", "written"),
    [
        ("Mo-Fr 08:00-18:00 Europe/Berlin", 0b0011111, 480, 1080, "Europe/Berlin", ""),
        ("Mo,We-Fr 20:00-24:00 Europe/Berlin", 0b0011101, 1200, 1440, "Europe/Berlin", ""),
        ("Mo 22:30-06:15 Europe/Berlin", 0b0000001, 1350, 375, "Europe/Berlin", ""),
        ("Su 23:59-00:00 UTC", 0b1000000, 1439, 0, "UTC", ""),
        (
            "Sa-Su America/New_York",
            0b1100000,
            0,
            1440,
            "America/New_York",
            "Sa-Su 00:00-24:00 America/New_York",
        ),
        ("00:00-06:00 UTC", 0b1111111, 0, 360, "UTC", "Mo-Su 00:00-06:00 UTC"),
        ("Sa-Mo 00:01-00:02 UTC", 0b1100001, 1, 2, "UTC", "Mo,Sa-Su 00:01-00:02 UTC"),
        ("Tu-Tu 00:00-24:00 UTC", 0b0000010, 0, 1440, "UTC", "Tu 00:00-24:00 UTC"),
        ("Su,Mo,Mo 00:00-24:00 UTC", 0b1000001, 0, 1440, "UTC", "Mo,Su 00:00-24:00 UTC"),
    ],
)
def test_the_text_of_a_window_says_its_days_minutes_and_zone(
    text: str, days: int, start: int, end: int, zone: str, written: str
) -> None:
    window = Window(days=days, start_minute=start, end_minute=end, zone=zone)
    assert parse_window(text) == window
    assert format_window(window) == (written or text)


@pytest.mark.parametrize("text", EXAMPLES)
def test_the_examples_are_windows(text: str) -> None:
    parse_window(text)


@pytest.mark.parametrize(
    ("window", "after", "change"),
    [
        # The start, the end and midnight, each a microsecond before and at it (Berlin is an hour ahead).
        ("Mo 08:00-18:00 Europe/Berlin", "2026-03-02T06:59:59.999999", "2026-03-02T07:00:00"),
        ("Mo 08:00-18:00 Europe/Berlin", "2026-03-02T07:00:00", "2026-03-02T17:00:00"),
        ("Mo 08:00-18:00 Europe/Berlin", "2026-03-02T17:00:00", "2026-03-02T23:00:00"),
        ("Mo 08:00-18:00 Europe/Berlin", "2026-03-02T22:59:59", "2026-03-02T23:00:00"),
        ("Mo 08:00-18:00 Europe/Berlin", "2026-03-02T23:00:00", "2026-03-03T07:00:00"),
        ("Mo 22:00-06:00 Europe/Berlin", "2026-03-02T21:30:00", "2026-03-02T23:00:00"),
        ("Mo 22:00-06:00 Europe/Berlin", "2026-03-02T23:30:00", "2026-03-03T05:00:00"),
        ("Mo 00:00-24:00 UTC", "2026-03-02T00:00:00", "2026-03-03T00:00:00"),
        # The clock goes forward at 01:00 UTC, and back at 01:00 UTC.
        ("10:00-11:00 Europe/Berlin", "2026-03-29T00:30:00", "2026-03-29T01:00:00"),
        ("10:00-11:00 Europe/Berlin", "2026-03-29T00:59:59.5", "2026-03-29T01:00:00"),
        ("10:00-11:00 Europe/Berlin", "2026-03-29T01:00:00", "2026-03-29T08:00:00"),
        ("10:00-11:00 Europe/Berlin", "2026-10-24T23:30:00", "2026-10-25T01:00:00"),
        ("10:00-11:00 Europe/Berlin", "2026-10-25T01:00:00", "2026-10-25T09:00:00"),
        ("02:30-05:00 Europe/Berlin", "2026-10-25T00:00:00", "2026-10-25T00:30:00"),
        ("02:30-05:00 Europe/Berlin", "2026-10-25T00:30:00", "2026-10-25T01:00:00"),
        ("02:30-05:00 Europe/Berlin", "2026-10-25T01:00:00", "2026-10-25T01:30:00"),
    ],
)
def test_the_next_change_is_the_next_time_of_the_window_midnight_or_change_of_the_clock(
    window: str, after: str, change: str
) -> None:
    found = parse_window(window).next_change(datetime.fromisoformat(after).replace(tzinfo=UTC))
    assert found == datetime.fromisoformat(change).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"days": 0}, r"^days 0 is not within 1-127$"),
        ({"days": 128}, r"^days 128 is not within 1-127$"),
        ({"start_minute": -1}, "^a window begins at"),
        ({"start_minute": 1440}, "^a window begins at"),
        ({"end_minute": -1}, "^a window begins at"),
        ({"end_minute": 1441}, "^a window begins at"),
        ({"start_minute": 60}, "^a window that ends when it begins"),
        ({"zone": ""}, "^'' is not a time zone"),
        ({"zone": "Europe"}, "^'Europe' is not a time zone"),
        ({"zone": "Mars/Olympus"}, "^'Mars/Olympus' is not a time zone"),
        ({"zone": "../UTC"}, r"^'\.\./UTC' is not a time zone"),
    ],
)
def test_a_window_out_of_bounds_is_refused_with_the_reason(changes: dict[str, Any], error: str) -> None:
    good: dict[str, Any] = {"days": 1, "start_minute": 0, "end_minute": 60, "zone": "UTC"}
    Window(**good)
    with pytest.raises(ValueError, match=error):
        Window(**(good | changes))


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("Mo-Fr", "is not like Mo-Fr 08:00-18:00 Europe/Berlin$"),
        ("Europe/Berlin", "is not like Mo-Fr 08:00-18:00 Europe/Berlin$"),
        ("Mo Tu 08:00-18:00 UTC", "is not like Mo-Fr 08:00-18:00 Europe/Berlin$"),
        ("Mo 8:00-18:00 UTC", "'8:00-18:00' is not like 08:00-18:00$"),
        ("Mo 24:00-08:00 UTC", "'24:00-08:00' is not like 08:00-18:00$"),
        ("Mo-Xx 08:00-18:00 UTC", "'Mo-Xx' is not a day or range of Mo Tu We Th Fr Sa Su$"),
        ("Mo,Xx 08:00-18:00 UTC", "'Xx' is not a day or range of Mo Tu We Th Fr Sa Su$"),
        ("Mo- 08:00-18:00 UTC", "'Mo-' is not a day or range of Mo Tu We Th Fr Sa Su$"),
    ],
)
def test_the_text_of_no_window_is_refused_with_the_reason(text: str, error: str) -> None:
    with pytest.raises(ValueError, match=f"^window '{text}'.*{error}"):
        parse_window(text)


@pytest.mark.parametrize(
    ("text", "at", "holds"),
    [
        # The night of Sunday lasts until Monday, and no other night begins or ends with it.
        ("Su 22:00-06:00 UTC", "2026-03-01T21:59:59.999999", False),
        ("Su 22:00-06:00 UTC", "2026-03-01T22:00:00", True),
        ("Su 22:00-06:00 UTC", "2026-03-02T05:59:59.999999", True),
        ("Su 22:00-06:00 UTC", "2026-03-02T06:00:00", False),
        ("Su 22:00-06:00 UTC", "2026-03-02T22:00:00", False),
        ("Su 22:00-06:00 UTC", "2026-03-01T05:59:00", False),
        ("Su 22:00-00:00 UTC", "2026-03-02T00:00:00", False),
        ("Su 00:00-24:00 UTC", "2026-03-01T00:00:00", True),
        ("Su 00:00-24:00 UTC", "2026-03-01T23:59:59", True),
        ("Su 00:00-24:00 UTC", "2026-02-28T23:59:59", False),
        ("Su 00:00-24:00 UTC", "2026-03-02T00:00:00", False),
    ],
)
def test_a_night_belongs_to_the_day_it_begins_on(text: str, at: str, holds: bool) -> None:
    assert parse_window(text).holds_at(datetime.fromisoformat(at).replace(tzinfo=UTC)) is holds
