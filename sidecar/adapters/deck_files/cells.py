"""Cells as carriers and spreadsheets write them: prices, increments, dates, times, names. ValueError says
what is wrong with one, without its words: whoever reads the file knows them and where they stand.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time, timedelta
from decimal import ROUND_HALF_UP, Decimal
from functools import lru_cache
from typing import NamedTuple
from unicodedata import category
from zoneinfo import ZoneInfo

from sidecar.core.amounts import AMOUNT_MAX, SECONDS_MAX
from sidecar.core.windows import DAYS

Cell = str | float | bool | date  # a date cell is a datetime, or a date without time

DATE_ORDERS = ("DD/MM/YYYY", "MM/DD/YYYY")
DIGITS_OF_A_NUMBER_MAX = 15  # that a spreadsheet keeps
SIGNS = {"€": "EUR", "£": "GBP", "₹": "INR", "₽": "RUB", "₺": "TRY", "₴": "UAH", "₪": "ILS", "₩": "KRW"}
DOLLARS = frozenset({"USD", "CAD", "AUD", "NZD", "SGD", "HKD", "TWD", "MXN", "BRL", "ARS", "CLP", "COP"})
HUNDREDTHS = frozenset({"p", "c", "ct", "cts", "cent", "cents", "¢", "pence"})
NOTHING = frozenset({"", "-", "–", "—"})
TRUE = frozenset({"yes", "y", "true", "t", "1", "x", "on", "blocked"})
FALSE = frozenset({"no", "n", "false", "f", "0", "off"})

_SPACES = " \t\r\n\u00a0\u2007\u2009\u202f"
_PRICE = re.compile(
    rf"(?P<before>[A-Za-z]{{0,4}}[$€£¥₹₽₺₴₪₩¢]?)[{_SPACES}]*(?P<sign>[-+\u2212]?)[{_SPACES}]*"
    rf"(?P<before2>[$€£¥₹₽₺₴₪₩]?)[{_SPACES}]*(?P<number>[0-9.,'’{_SPACES}]*[0-9][.]?(?:[eE][+-]?[0-9]{{1,3}})?)"
    rf"[{_SPACES}]*(?P<after>[A-Za-z]{{0,5}}[$€£¥₹₽₺₴₪₩¢]?)(?:[{_SPACES}]*(?:/|per)[{_SPACES}]*(?P<per>[A-Za-z]+)\.?)?"
)
_CODE = re.compile(r"(?<![A-Za-z])([A-Z]{3})(?![A-Za-z])")
_MONTHS = {
    name: number
    for number, names in enumerate(
        (
            "jan january", "feb february", "mar march", "apr april", "may", "jun june", "jul july",
            "aug august", "sep sept september", "oct october", "nov november", "dec december",
        ),
        1,
    )
    for name in names.split()
}  # fmt: skip
_TIME = (
    r"(?:[T ]+(?P<h>[0-9]{1,2}):(?P<mi>[0-9]{2})(?::(?P<s>[0-9]{2})(?:[.,][0-9]{1,9})?)?"
    r"\s*(?P<ap>[AaPp][Mm])?)?"
)
_ZONE = r"\s*(?P<z>Z|UTC|GMT|[+-][0-9]{2}:?[0-9]{2})?"
_YMD = re.compile(r"(?P<y>[0-9]{4})[-/.](?P<m>[0-9]{1,2})[-/.](?P<d>[0-9]{1,2})" + _TIME + _ZONE)
_COMPACT = re.compile(r"(?P<y>(?:19|20)[0-9]{2})(?P<m>[0-9]{2})(?P<d>[0-9]{2})" + _TIME + _ZONE)
_NAMED = re.compile(
    r"(?P<d>[0-9]{1,2})(?:st|nd|rd|th)?[-/. ]+(?P<n>[A-Za-z]{3,9})[-/.,' ]+(?P<y>[0-9]{4}|[0-9]{2})"
    + _TIME
    + _ZONE
)
_NAMED_US = re.compile(
    r"(?P<n>[A-Za-z]{3,9})[-/. ]+(?P<d>[0-9]{1,2})(?:st|nd|rd|th)?[-,/ ]+(?P<y>[0-9]{4}|[0-9]{2})"
    + _TIME
    + _ZONE
)
_TWO_WAYS = re.compile(
    r"(?P<a>[0-9]{1,2})(?P<sep>[-/.])(?P<b>[0-9]{1,2})(?P=sep)(?P<y>[0-9]{4}|[0-9]{2})" + _TIME + _ZONE
)
_SERIAL = re.compile(r"[2-7][0-9]{4}(\.[0-9]+)?")  # 1954 to 2119
_SERIAL_BEGIN = datetime(1899, 12, 30)  # noqa: DTZ001 - a spreadsheet's day 0, in no zone
_INCREMENT = re.compile(r"([0-9]{1,6})\s*(?:s|sec|secs|second|seconds)?")
_CLOCK = re.compile(r"(?P<h>[0-9]{1,2}):?(?P<m>[0-9]{2})(?::(?P<s>[0-9]{2}))?\s*(?P<ap>[AaPp][Mm])?")
_DAY_NAMES = {
    name: number
    for number, names in enumerate(
        ("mo mon monday", "tu tue tues tuesday", "we wed wednesday", "th thu thur thurs thursday",
         "fr fri friday", "sa sat saturday", "su sun sunday")
    )
    for name in names.split()
}  # fmt: skip
_EVERY_DAY = frozenset(
    {"", "*", "all", "all days", "daily", "every day", "everyday", "any", "0-6", "1-7", "mo-su"}
)
_GROUPS = {
    "weekdays": "Mo-Fr",
    "weekday": "Mo-Fr",
    "working days": "Mo-Fr",
    "weekend": "Sa-Su",
    "weekends": "Sa-Su",
}


class Price(NamedTuple):
    amount: Decimal
    currency: str  # that the cell names; empty: none
    hundredths: bool  # in pence or cents, as the cell says
    per_s: int  # as the cell says; 0: it does not


def shown(cell: Cell) -> str:
    """A cell as it would stand in CSV."""
    if isinstance(cell, str):
        return cell
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    if isinstance(cell, float):
        return number_text(cell)
    if isinstance(cell, datetime):
        return cell.isoformat(" ")
    return cell.isoformat()


def number_text(number: float) -> str:
    """All the digits that the number has: 12 for 12.0, 0.30000000000000004 as it is."""
    if number == int(number):
        return str(int(number))
    return f"{Decimal(repr(number)):f}"


def clean_name(text: str) -> str:
    """Any letters; without control characters, soft hyphens and line breaks."""
    if text.isprintable() and "  " not in text and "\u00a0" not in text:
        return text.strip()
    text = " ".join(text.replace("\u00ad", "").split())
    return "".join(char for char in text if char.isprintable() or category(char) == "Zs")


def header_name(cell: Cell) -> str:
    """A header's words for comparing: without case, line breaks and repeated blanks."""
    return clean_name(shown(cell)).casefold()


def header_currency(text: str) -> str:
    """The currency that the header of a price column names; empty: none."""
    found = {SIGNS[char] for char in text if char in SIGNS}
    found |= {code for code in _CODE.findall(text) if code in _CURRENCIES}
    return found.pop() if len(found) == 1 else ""


# ISO 4217 codes that a header may hold: three capitals alone could be any word, as in `Rate PER MIN`.
_CURRENCIES = frozenset(
    [
        "AED",
        "ARS",
        "AUD",
        "BDT",
        "BGN",
        "BHD",
        "BRL",
        "CAD",
        "CHF",
        "CLP",
        "CNY",
        "COP",
        "CZK",
        "DKK",
        "EGP",
        "EUR",
        "GBP",
        "GEL",
        "GHS",
        "HKD",
        "HUF",
        "IDR",
        "ILS",
        "INR",
        "ISK",
        "JPY",
        "KES",
        "KRW",
        "KWD",
        "KZT",
        "LKR",
        "MAD",
        "MXN",
        "MYR",
        "NGN",
        "NOK",
        "NZD",
        "OMR",
        "PEN",
        "PHP",
        "PKR",
        "PLN",
        "QAR",
        "RON",
        "RSD",
        "RUB",
        "SAR",
        "SEK",
        "SGD",
        "THB",
        "TND",
        "TRY",
        "TWD",
        "UAH",
        "UGX",
        "USD",
        "UYU",
        "UZS",
        "VND",
        "XAF",
        "XDR",
        "XOF",
        "ZAR",
    ]
)


def parse_price(cell: Cell, decimal_comma: bool | None) -> Price:
    """A price in any usual form: `$0.0123`, `0,05 EUR`, `1.234,50`, `.05`, `5E-05`, `1.3p`."""
    if isinstance(cell, float):
        if cell < 0:
            raise ValueError("is negative")
        return Price(Decimal(repr(cell)), "", False, 0)
    if not isinstance(cell, str):
        raise ValueError("is no price")
    text = cell.strip(_SPACES)
    if text.startswith("(") and text.endswith(")") and _PRICE.fullmatch(text[1:-1]):
        raise ValueError("is negative")
    found = _PRICE.fullmatch(text)
    if not found:
        raise ValueError("is no price")
    amount = _number(found["number"], decimal_comma)
    if found["sign"] in ("-", "\u2212") and amount:
        raise ValueError("is negative")
    currencies, hundredths = set(), False
    for word in (found["before"], found["before2"], found["after"]):
        if not word:
            continue
        if word.casefold() in HUNDREDTHS:
            hundredths = True
        else:
            currencies.add(_currency(word))
    if len(currencies) > 1:
        raise ValueError(f"names the currencies {' and '.join(sorted(currencies))}")
    per = (found["per"] or "").casefold()
    per_s = {
        "": 0,
        "min": 60,
        "mins": 60,
        "minute": 60,
        "m": 60,
        "s": 1,
        "sec": 1,
        "second": 1,
        "call": 0,
    }.get(per)
    if per_s is None:
        raise ValueError(f"is per {found['per']}, which is no time")
    return Price(amount, currencies.pop() if currencies else "", hundredths, per_s)


def _currency(word: str) -> str:
    sign = word[-1]
    if sign == "$":
        country = word[:-1].upper()
        return {"": "$", "US": "USD", "C": "CAD", "CA": "CAD", "A": "AUD", "AU": "AUD", "NZ": "NZD"}.get(
            country, "?"
        )
    if sign in SIGNS and len(word) == 1:
        return SIGNS[sign]
    if len(word) == 3 and word.isascii() and word.isalpha():
        return word.upper()
    raise ValueError(f"has {word!r} where a currency could be")


def same_currency(named: str, known: str) -> bool:
    """Whether what a cell names, a code or `$`, is the currency that is known."""
    return named in ("", known) or (named == "$" and known in DOLLARS)


def _number(text: str, decimal_comma: bool | None) -> Decimal:
    text, parts = text.strip(_SPACES), re.split(rf"[{_SPACES}'’]", text.strip(_SPACES))
    if len(parts) > 1:
        if not re.fullmatch(r"[0-9]{1,3}", parts[0]) or not all(
            re.match(r"[0-9]{3}(?![0-9])", one) for one in parts[1:]
        ):
            raise ValueError("is no price")
        text = "".join(parts)
    mantissa, e, exponent = text.lower().partition("e")
    comma, point = mantissa.count(","), mantissa.count(".")
    if decimal_comma is None and comma and not point:
        if comma == 1 and _is_grouped(mantissa, ","):
            raise ValueError(
                "has a comma that could be either: --set decimal_comma=true or false says what it is"
            )
        decimal_comma = comma == 1
    if decimal_comma is None and comma and point:
        decimal_comma = mantissa.rfind(",") > mantissa.rfind(".")
    mark, thousands = (",", ".") if decimal_comma else (".", ",")
    whole, _, decimals = mantissa.partition(mark)
    if decimal_comma and not comma and point == 1 and not _is_grouped(whole, thousands):
        whole, _, decimals = mantissa.partition(thousands)  # 0.05 as a number cell of the same sheet shows it
        thousands = "\0"
    if mark in decimals or thousands in decimals:
        raise ValueError("is no price")
    if thousands in whole:
        if not _is_grouped(whole, thousands):
            raise ValueError(f"has {thousands!r} where thousands would not have it")
        whole = whole.replace(thousands, "")
    if not (whole or decimals) or not f"{whole}{decimals}".isdigit():
        raise ValueError("is no price")
    return Decimal(f"{whole or '0'}.{decimals or '0'}{e}{exponent}")


def _is_grouped(whole: str, mark: str) -> bool:
    first, *groups = whole.split(mark)
    return (
        bool(groups)
        and first.lstrip("0") != ""
        and 1 <= len(first) <= 3
        and all(len(one) == 3 for one in groups)
    )


def rounded(amount: Decimal, decimals: int) -> tuple[Decimal, bool]:
    """(amount, whether it was rounded). ValueError where nothing would be left, or it is too much."""
    if amount > AMOUNT_MAX:
        raise ValueError(f"is above {AMOUNT_MAX:f}")
    found = amount.quantize(Decimal((0, (1,), -decimals)), ROUND_HALF_UP)
    if amount and not found:
        raise ValueError(f"would be 0 with {decimals} decimals")
    return found, found != amount


def plain(amount: Decimal) -> str:
    text = f"{amount:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def parse_increments(cell: Cell) -> tuple[int, int]:
    """(initial_s, increment_s) of `60/60`, `30/6`, `1+1`, `60s`; of three, the first is a minimum."""
    if isinstance(cell, date) or (isinstance(cell, str) and _looks_like_a_date(cell)):
        raise ValueError("is a date, which a spreadsheet makes of 30/6: format the column as text")
    if isinstance(cell, bool):
        raise ValueError("is no increment")
    parts = re.split(r"\s*[-/+;:|,]\s*", shown(cell).strip(_SPACES).casefold())
    values = [_INCREMENT.fullmatch(part) for part in parts]
    if not 1 <= len(parts) <= 3 or not all(values):
        raise ValueError("is no increment such as 60/60, 30/6 or 1+1")
    numbers = [int(found[1]) for found in values if found]
    minimum_s, initial_s, increment_s = (0, numbers[0], numbers[-1]) if len(numbers) < 3 else numbers
    return with_minimum(minimum_s, initial_s, increment_s)


def with_minimum(minimum_s: int, initial_s: int, increment_s: int) -> tuple[int, int]:
    """(initial_s, increment_s) of a call that is billed for `minimum_s` at least."""
    for seconds in (initial_s, increment_s):
        if not 1 <= seconds <= SECONDS_MAX:
            raise ValueError(f"has an increment that is not within 1-{SECONDS_MAX} s")
    if minimum_s > initial_s:
        initial_s += -(-(minimum_s - initial_s) // increment_s) * increment_s
    return initial_s, increment_s


def parse_seconds(cell: Cell) -> int:
    """Whole seconds: `60`, `60s`, `60.0`."""
    text = shown(cell).strip(_SPACES).casefold()
    if isinstance(cell, bool | date) or not (found := _INCREMENT.fullmatch(re.sub(r"\.0+$", "", text))):
        raise ValueError("is no number of seconds")
    return int(found[1])


def parse_duration_ms(cell: Cell) -> int:
    """`75`, `75.4`, `1:15`, `00:01:15`, a time cell; in milliseconds."""
    if isinstance(cell, datetime):
        return int((cell - cell.replace(hour=0, minute=0, second=0, microsecond=0)).total_seconds() * 1000)
    if isinstance(cell, bool | date):
        raise ValueError("is no duration")
    text = shown(cell).strip(_SPACES).casefold().removesuffix("sec").removesuffix("s").strip(_SPACES)
    parts = text.split(":")
    if not 1 <= len(parts) <= 3 or not all(re.fullmatch(r"[0-9]{1,9}", part) for part in parts[:-1]):
        raise ValueError("is no duration")
    if not re.fullmatch(r"[0-9]{1,9}([.,][0-9]{1,9})?", parts[-1]):
        raise ValueError("is no duration")
    seconds = Decimal(parts[-1].replace(",", "."))
    for number, part in enumerate(reversed(parts[:-1]), 1):
        seconds += int(part) * 60**number
    return int(seconds * 1000)


class TwoWaysError(ValueError):
    """A date of which nothing says yet which number is the day."""


def date_order(text: str) -> str:
    """The one of DATE_ORDERS that a date such as 13/02/2026 proves; empty: none."""
    found = _TWO_WAYS.fullmatch(text.strip(_SPACES))
    if not found or found["sep"] == ".":
        return ""
    first, second = int(found["a"]), int(found["b"])
    return DATE_ORDERS[0] if first > 12 >= second else DATE_ORDERS[1] if second > 12 >= first else ""


def parse_date(cell: Cell, order: str, zone: str) -> datetime:
    """In UTC. A date without a time is its midnight, and a time without a zone is one of `zone`. `order` is
    one of DATE_ORDERS, or empty: then a date that could be read two ways raises TwoWaysError."""
    if isinstance(cell, datetime):
        return _in_zone(cell, zone)
    if isinstance(cell, bool):
        raise ValueError("is no date")
    if isinstance(cell, date):
        return _in_zone(datetime.combine(cell, time()), zone)
    text = shown(cell).strip(_SPACES)
    if _SERIAL.fullmatch(text):
        at = _SERIAL_BEGIN + timedelta(days=float(text))
        return _in_zone((at + timedelta(milliseconds=500)).replace(microsecond=0), zone)
    proved = date_order(text)
    if proved and order not in ("", proved):
        raise ValueError(f"is no date, as {order}")
    found = next((one for form in (_YMD, _COMPACT, _NAMED, _NAMED_US) if (one := form.fullmatch(text))), None)
    try:
        if found:
            parts = found.groupdict()
            name = parts.get("n")
            month = int(parts["m"]) if name is None else _MONTHS.get(name.casefold(), 0)
            return _at(found, int(parts["d"]), month, zone)
        found = _TWO_WAYS.fullmatch(text)
        if not found:
            raise ValueError("is no date")
        first, second = int(found["a"]), int(found["b"])
        if found["sep"] == ".":
            return _at(found, first, second, zone)
        order = proved or order or ("" if first != second else DATE_ORDERS[0])
        if not order:
            both = f"{first}.{second}. or {second}.{first}."
            raise TwoWaysError(
                f"could be {both}: --set dates={' or --set dates='.join(DATE_ORDERS)} says which"
            )
        day, month = (first, second) if order == DATE_ORDERS[0] else (second, first)
        return _at(found, day, month, zone)
    except TwoWaysError:
        raise
    except (ValueError, OverflowError):
        raise ValueError("is no date") from None


def _at(found: re.Match[str], day: int, month: int, zone: str) -> datetime:
    year = int(found["y"])
    if len(found["y"]) == 2:
        year += 2000 if year < 70 else 1900
    hour, half = int(found["h"] or 0), (found["ap"] or "").casefold()
    if half:
        if not 1 <= hour <= 12:
            raise ValueError
        hour = hour % 12 + (12 if half == "pm" else 0)
    at = datetime(year, month, day, hour, int(found["mi"] or 0), int(found["s"] or 0))  # noqa: DTZ001 - see below
    offset = found["z"]
    if offset is None:
        return _in_zone(at, zone)
    if offset in ("Z", "UTC", "GMT"):
        return at.replace(tzinfo=UTC)
    return datetime.fromisoformat(f"{at.isoformat()}{offset[:3]}:{offset[-2:]}").astimezone(UTC)


def _in_zone(at: datetime, zone: str) -> datetime:
    return at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=_zone_of(zone)).astimezone(UTC)


@lru_cache(maxsize=64)
def _zone_of(name: str) -> ZoneInfo:
    return ZoneInfo(name)


def _looks_like_a_date(text: str) -> bool:
    text = text.strip(_SPACES)
    if any(form.fullmatch(text) for form in (_YMD, _NAMED, _NAMED_US)):
        return True
    if (found := _TWO_WAYS.fullmatch(text)) and len(found["y"]) == 4:
        return True
    words = re.findall(r"[A-Za-z]{3,9}", text)  # 30-Jun, Jun-30
    return any(word.casefold() in _MONTHS for word in words) and bool(re.search(r"[0-9]", text))


def parse_yes(cell: Cell) -> bool:
    word = shown(cell).strip(_SPACES).casefold()
    if word in TRUE:
        return True
    if word in FALSE or word in NOTHING:
        return False
    raise ValueError("is neither yes nor no")


def parse_days(cell: Cell) -> str:
    """Days as windows write them (`Mo-Fr`); empty: every day."""
    text = " ".join(shown(cell).split()).casefold()
    if text in _EVERY_DAY:
        return ""
    if text in _GROUPS:
        return _GROUPS[text]
    parts = []
    for part in re.split(r"\s*[,;/&]\s*|\s+and\s+", text):
        ends = re.split(r"\s*(?:-|–|\bto\b)\s*", part)
        if len(ends) > 2 or not all(end in _DAY_NAMES for end in ends):
            raise ValueError("is no day or range of days such as Mon-Fr")
        parts.append("-".join(DAYS[_DAY_NAMES[end]] for end in ends))
    return ",".join(parts)


def parse_clock(cell: Cell, end: bool) -> str:
    """A time of day as windows write it (`08:00`). At the end of a window 23:59 and 23:59:59 are 24:00, as
    17:59:59 is 18:00."""
    if isinstance(cell, datetime):
        text = f"{cell:%H:%M:%S}"
    elif isinstance(cell, float) and 0 <= cell <= 1:
        text = f"{int(cell * 1440 + 0.5) // 60:02d}:{int(cell * 1440 + 0.5) % 60:02d}"
    else:
        text = shown(cell).strip(_SPACES)
    found = _CLOCK.fullmatch(text)
    if not found:
        raise ValueError("is no time of day such as 08:00")
    hour, minute, second, half = (
        int(found["h"]),
        int(found["m"]),
        int(found["s"] or 0),
        (found["ap"] or "").casefold(),
    )
    if half:
        hour = hour % 12 + (12 if half == "pm" else 0)
    minutes = hour * 60 + minute
    if end and (second == 59 or (hour, minute) == (23, 59)):
        minutes, second = minutes + 1, 0
    if end and minutes == 0:
        minutes = 24 * 60
    if second or minute > 59 or minutes > 24 * 60 or (minutes == 24 * 60 and not end):
        raise ValueError("is no time of day such as 08:00, to the minute")
    return f"{minutes // 60:02d}:{minutes % 60:02d}"
