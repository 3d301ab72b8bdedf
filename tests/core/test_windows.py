from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.windows import EVERY_DAY, Window, format_window, parse_window

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
