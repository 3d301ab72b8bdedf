"""Times of day and of the week, in a named time zone, at which a price of its own holds.

A window is a rule about the clock on the wall: whether an instant lies in it is asked of the local time, so a
daylight-saving change needs no rule. An hour that the clock skips is in no window; an hour that it shows
twice is in the window twice. The zone's rules come from the tz database of the machine (or the package
tzdata), read once per zone.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import msgspec

DAYS = ("Mo", "Tu", "We", "Th", "Fr", "Sa", "Su")
EVERY_DAY = 0b1111111
DAY_MINUTES = 24 * 60
EXAMPLES = {
    "Mo-Fr 08:00-18:00 Europe/Berlin": "on working days from 08:00 up to 18:00",
    "Mo,We-Fr 20:00-24:00 Europe/Berlin": "on Monday and from Wednesday to Friday, the last four hours",
    "Mo 22:00-06:00 Europe/Berlin": "from Monday 22:00 until Tuesday 06:00",
    "Sa-Su America/New_York": "all of Saturday and Sunday",
    "00:00-06:00 UTC": "every day up to 06:00",
}

_TIMES = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])-(?:([01][0-9]|2[0-3]):([0-5][0-9])|(24:00))")
_ZONE = re.compile(r"[A-Za-z][A-Za-z0-9_+/-]{0,63}")
_MINUTE = timedelta(minutes=1)


class Window(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """On the days of `days` (bit 0 is Monday), from `start_minute` of the local day up to `end_minute`.

    Half-open. An end not after the start lies on the next day: 22:00-06:00 on Mo lasts until Tuesday.
    """

    days: int
    start_minute: int
    end_minute: int
    zone: str

    def __post_init__(self) -> None:
        if not 1 <= self.days <= EVERY_DAY:
            raise ValueError(f"days {self.days} is not within 1-{EVERY_DAY}")
        if not 0 <= self.start_minute < DAY_MINUTES or not 0 <= self.end_minute <= DAY_MINUTES:
            raise ValueError("a window begins at 00:00-23:59 and ends at 00:00-24:00")
        if self.start_minute == self.end_minute:
            raise ValueError("a window that ends when it begins: write 00:00-24:00 for whole days")
        _zone(self.zone)

    def holds_at(self, at: datetime) -> bool:
        """Whether the local time at `at` (aware) is in the window."""
        local = at.astimezone(_zone(self.zone))
        minute, day = local.hour * 60 + local.minute, local.weekday()
        today = self.days >> day & 1
        if self.start_minute < self.end_minute:
            return bool(today) and self.start_minute <= minute < self.end_minute
        yesterday = self.days >> (day - 1) % 7 & 1
        return (bool(today) and minute >= self.start_minute) or (bool(yesterday) and minute < self.end_minute)

    def next_change(self, after: datetime) -> datetime:
        """An instant later than `after` before which `holds_at` does not change; at most a day away.

        That is the next time that the clock shows 00:00, the start or the end, or the next time that it is
        put forward or back.
        """
        zone = _zone(self.zone)
        midnight = after.astimezone(zone).replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=None)
        found = min(
            instant
            for day in range(3)
            for minute in (0, self.start_minute, self.end_minute)
            for fold in (0, 1)
            if (instant := _instant(midnight + timedelta(days=day) + minute * _MINUTE, zone, fold)) > after
        )
        return _clock_change(after, found, zone) or found


def parse_window(text: str) -> Window:
    """`Mo-Fr 08:00-18:00 Europe/Berlin`; days (`Mo,We-Fr`) or times may be left out, not both."""
    *words, zone = text.split(" ")
    times = words.pop() if words and ":" in words[-1] else "00:00-24:00"
    days = words.pop() if words else "Mo-Su"
    if words or (days == "Mo-Su" and " " not in text):
        raise ValueError(f"window {text!r} is not like Mo-Fr 08:00-18:00 Europe/Berlin")
    found = _TIMES.fullmatch(times)
    if not found:
        raise ValueError(f"window {text!r}: {times!r} is not like 08:00-18:00")
    start, end = (int(found[1]), int(found[2])), (int(found[3] or 24), int(found[4] or 0))
    return Window(
        days=_parse_days(text, days),
        start_minute=start[0] * 60 + start[1],
        end_minute=end[0] * 60 + end[1],
        zone=zone,
    )


def format_window(window: Window) -> str:
    """The text that `parse_window` reads back to an equal window."""
    runs: list[str] = []
    day = 0
    while day < 7:
        last = day
        while last < 7 and window.days >> last & 1:
            last += 1
        if last > day:
            runs.append(DAYS[day] if last == day + 1 else f"{DAYS[day]}-{DAYS[last - 1]}")
        day = last + 1
    return f"{','.join(runs)} {_clock(window.start_minute)}-{_clock(window.end_minute)} {window.zone}"


def _parse_days(text: str, days: str) -> int:
    bits = 0
    for part in days.split(","):
        first, dash, last = part.partition("-")
        if first not in DAYS or (dash and last not in DAYS):
            raise ValueError(f"window {text!r}: {part!r} is not a day or range of {' '.join(DAYS)}")
        day, end = DAYS.index(first), DAYS.index(last or first)
        bits |= 1 << day
        while day != end:
            day = (day + 1) % 7
            bits |= 1 << day
    return bits


def _clock(minute: int) -> str:
    return f"{minute // 60:02d}:{minute % 60:02d}"


def day_start(at: datetime, zone: str) -> datetime:
    """When the day of `at` (aware) begins in a zone: midnight, or what its clocks show first on that day."""
    return _midnight(at.astimezone(_zone(zone)))


def month_start(at: datetime, zone: str) -> datetime:
    return _midnight(at.astimezone(_zone(zone)).replace(day=1))


def _midnight(local: datetime) -> datetime:
    return local.replace(hour=0, minute=0, second=0, microsecond=0, fold=0).astimezone(UTC)


def check_zone(name: str) -> None:
    """ValueError where it is not the name of a time zone."""
    _zone(name)


def instant_of(local: datetime, zone: str) -> datetime:
    """A time on the wall of a zone, in UTC. ValueError where the zone is none, or has that time twice or
    never because the clock is changed then."""
    first, second = (_instant(local, _zone(zone), fold) for fold in (0, 1))
    if first != second:
        raise ValueError(f"{local.isoformat()}: in {zone} the clock is changed then: give an offset from UTC")
    return first


def _zone(name: str) -> ZoneInfo:
    try:
        if not _ZONE.fullmatch(name):
            raise ValueError
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):  # ZoneInfoNotFoundError is a KeyError; a directory an OSError
        raise ValueError(f"{name!r} is not a time zone such as Europe/Berlin") from None


def _instant(local: datetime, zone: ZoneInfo, fold: int) -> datetime:
    return local.replace(tzinfo=zone, fold=fold).astimezone(UTC)


def _clock_change(after: datetime, before: datetime, zone: ZoneInfo) -> datetime | None:
    """The first whole second in (after, before] from which another offset from UTC holds."""
    start = after.astimezone(UTC)
    offset = start.astimezone(zone).utcoffset()
    if before.astimezone(zone).utcoffset() == offset:
        return None
    low, high = int(start.timestamp()), int(before.timestamp())
    while low + 1 < high:
        middle = (low + high) // 2
        if datetime.fromtimestamp(middle, zone).utcoffset() == offset:
            low = middle
        else:
            high = middle
    return datetime.fromtimestamp(high, UTC)
