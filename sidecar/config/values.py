"""The kinds of value a setting can have: how each is read from TOML, strictly, and from text.

Text is a word of the environment or the command line. A kind raises BadValueError with what was expected.
`true` is not 1, `1.0` is not 1, and amounts are strings of digits: a price as a float is wrong already.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable
from datetime import datetime
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Generic, Protocol, TypeVar, runtime_checkable

from sidecar.config.problems import nearest, quoted
from sidecar.core import header_names
from sidecar.core.policy import Share
from sidecar.core.tariff import check_currency, parse_amount
from sidecar.core.windows import Window, check_zone, parse_window

T_co = TypeVar("T_co", covariant=True)
E = TypeVar("E", bound=Enum)

TEXT_MAX = 1_000
LIST_MAX = 10_000
WEIGHT_MAX = 1_000

_WHOLE = re.compile(r"-?[0-9]{1,18}")
_TRUTH = {"true": True, "1": True, "false": False, "0": False}


class BadValueError(Exception):
    """The value is not of its kind; the text says what was expected."""

    def __init__(self, text: str, suggestion: str | None = None) -> None:
        super().__init__(text)
        self.suggestion = suggestion


@runtime_checkable
class Kind(Protocol[T_co]):
    @property
    def name(self) -> str:
        """The type, for the reference."""

    @property
    def bound(self) -> str:
        """The bound, for the reference."""

    def read(self, raw: object) -> T_co:
        """From a value of a TOML document."""

    def read_text(self, text: str) -> T_co:
        """From a word of the environment or the command line."""


class Flag:
    name = "boolean"
    bound = "true, false"

    def read(self, raw: object) -> bool:
        if isinstance(raw, bool):
            return raw
        raise BadValueError(f"expected true or false, not {quoted(raw)}")

    def read_text(self, text: str) -> bool:
        try:
            return _TRUTH[text.strip().lower()]
        except KeyError:
            raise BadValueError(f"expected true, false, 1 or 0, not {quoted(text)}") from None


class ZeroOrOne(Flag):
    """A VOS3000 flag."""

    name = "0 or 1"
    bound = "0, 1"

    def read(self, raw: object) -> bool:
        if isinstance(raw, int) and raw in (0, 1):
            return bool(raw)
        raise BadValueError(f"expected 0 or 1, not {quoted(raw)}")


class Whole:
    name = "integer"

    def __init__(self, least: int, most: int) -> None:
        self._least, self._most = least, most
        self.bound = f"{least}–{most}"

    def read(self, raw: object) -> int:
        if isinstance(raw, bool) or not isinstance(raw, int):
            raise BadValueError(f"expected a whole number, not {quoted(raw)}")
        if not self._least <= raw <= self._most:
            raise BadValueError(f"{raw} is not within {self._least}-{self._most}")
        return raw

    def read_text(self, text: str) -> int:
        if not _WHOLE.fullmatch(text.strip()):
            raise BadValueError(f"expected a whole number, not {quoted(text)}")
        return self.read(int(text))


class Amount:
    """A decimal written as a string; `greater_than_zero` for a unit."""

    name = "decimal string"

    def __init__(self, most: str = "999999999", greater_than_zero: bool = False) -> None:
        self._most = Decimal(most)
        self._greater_than_zero = greater_than_zero
        self.bound = f"{'above 0, at most ' if greater_than_zero else '0–'}{most}"

    def read(self, raw: object) -> Decimal:
        if not isinstance(raw, str):
            raise BadValueError(f'expected a decimal in quotes, such as "0.19", not {quoted(raw)}')
        return self.read_text(raw)

    def read_text(self, text: str) -> Decimal:
        try:
            amount = parse_amount(text)
        except ValueError as error:
            raise BadValueError(str(error)) from None
        if amount > self._most or (self._greater_than_zero and not amount):
            raise BadValueError(f"{text} is not within the bound: {self.bound}")
        return amount


class Quantity(Amount):
    """A count, written as a whole number, or an amount as a string."""

    name = "integer or decimal string"

    def read(self, raw: object) -> Decimal:
        if isinstance(raw, int) and not isinstance(raw, bool):
            return self.read_text(str(raw))
        return super().read(raw)


class Text:
    name = "string"

    def __init__(self, pattern: str, expected: str, folded: bool = False) -> None:
        self._pattern = re.compile(pattern)
        self._expected = self.bound = expected
        self._folded = folded

    def read(self, raw: object) -> str:
        if not isinstance(raw, str):
            raise BadValueError(f"expected a string, not {quoted(raw)}")
        text = raw.lower() if self._folded else raw
        if len(raw) > TEXT_MAX or not self._pattern.fullmatch(text):
            raise BadValueError(f"expected {self._expected}, not {quoted(raw)}")
        return text

    def read_text(self, text: str) -> str:
        return self.read(text)


class Checked:
    """A string that a function of the core accepts; its ValueError is the message."""

    name = "string"

    def __init__(self, check: Callable[[str], None], bound: str) -> None:
        self._check = check
        self.bound = bound

    def read(self, raw: object) -> str:
        if not isinstance(raw, str):
            raise BadValueError(f"expected a string, not {quoted(raw)}")
        return self.read_text(raw)

    def read_text(self, text: str) -> str:
        try:
            self._check(text)
        except ValueError as error:
            raise BadValueError(str(error)) from None
        return text


class Moment:
    """An instant: a date and time with its offset from UTC."""

    name = "date and time"
    bound = "with an offset, such as `2026-03-01T00:00:00Z`"

    def read(self, raw: object) -> datetime:
        if isinstance(raw, datetime):
            raw = raw.isoformat()
        if not isinstance(raw, str):
            raise BadValueError(f"expected a date and time, not {quoted(raw)}")
        return self.read_text(raw)

    def read_text(self, text: str) -> datetime:
        try:
            at = datetime.fromisoformat(text)
        except ValueError:
            raise BadValueError(f"expected a date and time, not {quoted(text)}") from None
        if at.tzinfo is None:
            raise BadValueError(f"{quoted(text)} has no offset from UTC", f"{text}Z")
        return at


class Choice(Generic[E]):
    name = "string"

    def __init__(self, words: type[E], leave_out: tuple[E, ...] = ()) -> None:
        self._words = {str(word.value): word for word in words if word not in leave_out}
        self.bound = ", ".join(self._words)

    def read(self, raw: object) -> E:
        if not isinstance(raw, str):
            raise BadValueError(f"expected one of {self.bound}, not {quoted(raw)}")
        return self.read_text(raw)

    def read_text(self, text: str) -> E:
        if text not in self._words:
            raise BadValueError(
                f"expected one of {self.bound}, not {quoted(text)}", nearest(text, self._words)
            )
        return self._words[text]


class FilePath:
    """A path as it was written; whoever knows the file it was written in makes it absolute."""

    name = "path"
    bound = "–"

    def read(self, raw: object) -> Path:
        if not isinstance(raw, str):
            raise BadValueError(f"expected a path, not {quoted(raw)}")
        return self.read_text(raw)

    def read_text(self, text: str) -> Path:
        if not text or "\0" in text or len(text) > TEXT_MAX:
            raise BadValueError(f"expected a path, not {quoted(text)}")
        return Path(text)


class HostPort:
    """`address:port` or `[address]:port`, literally: a name may mean another machine tomorrow."""

    name = "address:port"

    def __init__(self, port_least: int = 0) -> None:
        self._port_least = port_least
        self.bound = f"literal address; port {port_least}–65535" + ("" if port_least else ", 0: any free one")

    def read(self, raw: object) -> tuple[str, int]:
        if not isinstance(raw, str):
            raise BadValueError(f'expected "address:port", not {quoted(raw)}')
        return self.read_text(raw)

    def read_text(self, text: str) -> tuple[str, int]:
        host, colon, port = text.strip().rpartition(":")
        if not colon:
            raise BadValueError(f"expected address:port, not {quoted(text)}")
        if host.startswith("[") and host.endswith("]"):
            host = host[1:-1]
        elif ":" in host:
            raise BadValueError(f"an IPv6 address stands in brackets, [::1]:5080, not {quoted(text)}")
        if not re.fullmatch(r"[0-9]{1,5}", port) or not self._port_least <= int(port) <= 65535:
            raise BadValueError(f"port {quoted(port)} is not within {self._port_least}-65535")
        return literal_address(host), int(port)


class ListenPlace(HostPort):
    """That, or the path of a unix socket."""

    name = "address:port or path"

    def __init__(self) -> None:
        super().__init__()
        self.bound += "; or an absolute path"

    def read(self, raw: object) -> tuple[str, int] | Path:  # type: ignore[override]
        if not isinstance(raw, str):
            raise BadValueError(f'expected "address:port" or "/a/path", not {quoted(raw)}')
        return self.read_text(raw)

    def read_text(self, text: str) -> tuple[str, int] | Path:  # type: ignore[override]
        return FilePath().read_text(text) if text.startswith("/") else super().read_text(text)


class HostName:
    """A name that DNS is asked for (RFC 1123 §2.1), or a literal address."""

    name = "address or name"
    bound = "literal IPv4 or IPv6 address, or a DNS name"
    _label = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")

    def read(self, raw: object) -> str:
        if not isinstance(raw, str):
            raise BadValueError(f"expected an address or a DNS name, not {quoted(raw)}")
        return self.read_text(raw)

    def read_text(self, text: str) -> str:
        name = text.lower().removesuffix(".")
        labels = name.split(".")
        # The last label of a name is no number: 192.0.2.256 is an address that is wrong.
        if ":" in text or labels[-1].isdecimal() or not name:
            return literal_address(text)
        if len(name) > 253 or not all(map(self._label.fullmatch, labels)):
            raise BadValueError(f"{quoted(text)} is no address and no DNS name")
        return name


class Network:
    """A CIDR block without host bits, or a single address; read into its canonical notation."""

    name = "CIDR"
    bound = "IPv4 or IPv6 block or address"

    def read(self, raw: object) -> str:
        if not isinstance(raw, str):
            raise BadValueError(f"expected a CIDR block or an address, not {quoted(raw)}")
        return self.read_text(raw)

    def read_text(self, text: str) -> str:
        try:
            return str(ipaddress.ip_network(text))
        except ValueError:
            pass
        try:
            without_host_bits = str(ipaddress.ip_network(text, strict=False))
        except ValueError:
            raise BadValueError(
                f"{quoted(text)} is not a CIDR block or a literal address (who may call is not DNS's to say)"
            ) from None
        raise BadValueError(f"{quoted(text)} has bits set behind its mask", without_host_bits)


class ListOf(Generic[T_co]):
    """An array in TOML; words with commas between them elsewhere, the empty word being the empty list."""

    def __init__(self, item: Kind[T_co], separators: str = ",") -> None:
        self.item = item
        self._separators = re.compile(f"[{separators}]")
        self.name = f"list of {item.name}"
        self.bound = item.bound

    def read(self, raw: object) -> tuple[T_co, ...]:
        if not isinstance(raw, list):
            raise BadValueError(f"expected a list, [...], not {quoted(raw)}")
        return self._distinct([self.item.read(item) for item in raw])

    def read_text(self, text: str) -> tuple[T_co, ...]:
        return self._distinct([self.item.read_text(word) for word in self.words(text)])

    def words(self, text: str) -> list[str]:
        return [word.strip() for word in self._separators.split(text)] if text.strip() else []

    def _distinct(self, items: list[T_co]) -> tuple[T_co, ...]:
        if len(items) > LIST_MAX:
            raise BadValueError(f"{len(items)} entries: at most {LIST_MAX}")
        seen: set[T_co] = set()
        for item in items:
            if item in seen:
                raise BadValueError(f"{quoted(item)} is given twice")
            seen.add(item)
        return tuple(items)


class GatewayOrGroup:
    """What a route lists: a gateway, or a group of them with weights, over which calls are spread."""

    name = "name or group"
    bound = f'`"NAME"`, or a group, `["NAME=WEIGHT", ...]`; weights 1–{WEIGHT_MAX}, 1 where none is given'

    def read(self, raw: object) -> str | tuple[Share, ...]:
        if not isinstance(raw, list):
            return self.read_text(raw) if isinstance(raw, str) else NAME.read(raw)
        if not raw:
            raise BadValueError("an empty group")
        return tuple(map(self._share, raw))

    def read_text(self, text: str) -> str:
        if "=" in text:
            raise BadValueError(
                f"{quoted(text)}: a weight stands in a group, a list within the list", f"[[{text}]]"
            )
        return NAME.read_text(text)

    def _share(self, raw: object) -> Share:
        if not isinstance(raw, str):
            raise BadValueError(f'expected "NAME" or "NAME=WEIGHT" in a group, not {quoted(raw)}')
        name, equals, weight = raw.partition("=")
        return Share(gateway=NAME.read_text(name), weight=_WEIGHT.read_text(weight) if equals else 1)


class FinalCode:
    """A final response that is a failure, or a class of them; read as `503` or `5xx`. Neither may be one that
    is dealt with otherwise, and a class leaves those out."""

    name = "code"
    bound = "`404`, or a class such as `5xx`; 300–699 but 401, 407, 422, 487"

    def read(self, raw: object) -> str:
        if isinstance(raw, bool) or not isinstance(raw, int | str):
            raise BadValueError(f'expected a code such as 503, or a class such as "5xx", not {quoted(raw)}')
        return self.read_text(str(raw))

    def read_text(self, text: str) -> str:
        code = text.lower()
        if not re.fullmatch(r"[3-6](xx|[0-9]{2})", code, re.ASCII):
            raise BadValueError(f"expected a code of 300-699, or a class such as 5xx, not {quoted(text)}")
        if code in _CHALLENGES:
            raise BadValueError(f"{code} goes to the caller, who tries again, or is answered by us")
        if code == _CANCELLED:
            raise BadValueError(f"{code} is what a gateway says to our own CANCEL")
        return code


def final_codes(words: Iterable[str]) -> frozenset[int]:
    """The codes that words of `FinalCode` stand for."""
    codes: set[int] = set()
    for word in words:
        codes |= {code for code in range(300, 700) if word in (str(code), f"{code // 100}xx")}
    return frozenset(codes - {int(code) for code in (*_CHALLENGES, _CANCELLED)})


class WindowText:
    """Times of the week: `core.windows` says how they are written."""

    name = "string"
    bound = "`Mo-Fr 08:00-18:00 Europe/Berlin`"

    def read(self, raw: object) -> Window:
        if not isinstance(raw, str):
            raise BadValueError(f"expected times such as {self.bound}, not {quoted(raw)}")
        return self.read_text(raw)

    def read_text(self, text: str) -> Window:
        try:
            return parse_window(text)
        except ValueError as error:
            raise BadValueError(str(error)) from None


class NumberList(ListOf[str]):
    """A VOS3000 list of numbers: a string, or an array."""

    def read(self, raw: object) -> tuple[str, ...]:
        return self.read_text(raw) if isinstance(raw, str) else super().read(raw)


class HeaderName:
    """A header that may be withheld, in lower case."""

    name = "string"
    bound = "a SIP header that is not written by us alone"

    def read(self, raw: object) -> str:
        name = HEADER.read(raw)
        if text := header_names.refused(name, to_add=False):
            raise BadValueError(text)
        return name

    def read_text(self, text: str) -> str:
        return self.read(text)


class HeaderLine:
    """`Name: value`, as it will stand in a message: no byte of it may end the line."""

    name = "string"
    bound = "`Name: value`, the value of 1–500 printable characters"
    _value = re.compile(r"[^\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]{1,500}")

    def read(self, raw: object) -> tuple[str, str]:
        if not isinstance(raw, str):
            raise BadValueError(f'expected "Name: value", not {quoted(raw)}')
        return self.read_text(raw)

    def read_text(self, text: str) -> tuple[str, str]:
        name, colon, value = (part.strip(" ") for part in text.partition(":"))
        if not colon or not self._value.fullmatch(value):
            raise BadValueError(f"expected Name: value on one line, not {quoted(text)}")
        HEADER.read(name)
        if refusal := header_names.refused(name, to_add=True):
            raise BadValueError(refusal)
        return name, value


def literal_address(text: str) -> str:
    """The canonical notation of an address that a packet can be sent to."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        raise BadValueError(
            f"{quoted(text)} is not a literal IPv4 or IPv6 address (names are not looked up here)"
        ) from None
    if isinstance(address, ipaddress.IPv6Address) and address.scope_id:
        raise BadValueError(f"{quoted(text)}: an address with a zone is not supported")
    if address.is_unspecified or address.is_multicast:
        raise BadValueError(f"{quoted(text)}: name the one address that others reach this machine at")
    return str(address)


def is_name(host: str) -> bool:
    """Whether what `HostName` has read is a name."""
    return ":" not in host and not host.rpartition(".")[2].isdecimal()


def is_uri_user(text: str) -> bool:
    try:
        return bool(URI_USER.read_text(text))
    except BadValueError:
        return False


_CHALLENGES = ("401", "407", "422")
_CANCELLED = "487"
_WEIGHT = Whole(1, WEIGHT_MAX)
FLAG = Flag()
VOS_FLAG = ZeroOrOne()
PATH = FilePath()
PORT = Whole(1, 65535)
HOST_NAME = HostName()
MOMENT = Moment()
ZONE = Checked(check_zone, "a time zone, such as `Europe/Berlin`")
CURRENCY = Checked(check_currency, "code of ISO 4217")
STRIP = Whole(0, 32)
SHARE = Amount("1")
NAME = Text(r"[A-Za-z0-9_.-]{1,64}", "1-64 letters, digits, '_', '.', '-'")
BROKER_USERS = ListOf(
    Text(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", "1-64 letters, digits, '_', '.', '-', the first no mark")
)
ACCOUNT_NAME = Text(r"[^\s\x00-\x1f\x7f]{1,64}", "1-64 characters without blanks")
# RFC 3261 §25.1: `user`, without escapes, and without what some peers take for the end of it.
URI_USER = Text(r"[A-Za-z0-9_.!~*'()&=+$,-]{1,64}", "the user of a SIP URI, 1-64 characters")
HEADER = Text(r"[a-z0-9!%*_+`'~.-]{1,64}", "the name of a SIP header", folded=True)
HEADER_NAMES = ListOf(HeaderName())
HEADER_LINES = ListOf(HeaderLine())
PREFIX = Text(r"\+?[0-9*#]{0,32}", "up to 32 of 0-9 * #, with or without a leading +")
ROUTE_PREFIX = Text(
    r"\+?[0-9*#]{0,32}|urn:[a-z0-9][a-z0-9-]{0,31}:[a-z0-9.:-]{1,64}",
    "up to 32 of 0-9 * #, with or without a leading +, or a URN in lower case",
)
BILLED_BEGINNINGS = ListOf(Text(r"[0-9]{1,32}", "how billed numbers begin, 1-32 digits"))
ACCOUNT_NAMES = ListOf(ACCOUNT_NAME)
QUANTITY = Quantity()
NUMBER_PATTERN = Text(r"\+?[0-9#]{1,32}\*?|\*", "a number, or the beginning of one and '*'")
NUMBERS = ListOf(NUMBER_PATTERN)
COUNTRIES = ListOf(Text(r"[A-Z]{2}", "a country code of ISO 3166, such as DE"))
EMERGENCY_NUMBERS = ListOf(Text(r"[0-9]{2,15}", "2-15 digits, as they are dialled"))
WINDOWS = ListOf(WindowText(), separators=";")
BILLED_PATTERN = Text(r"[0-9]{1,32}\*?|\*", "a billed number (digits), or the beginning of one and '*'")
BILLED_NUMBERS = ListOf(BILLED_PATTERN)
VOS_NUMBERS = NumberList(BILLED_PATTERN, separators=",;")
HOST_PORT = HostPort()
LISTEN_PLACE = ListenPlace()
HOST_PORTS = ListOf(HOST_PORT)
COLLECTOR = HostPort(port_least=1)
DNS_SERVERS = ListOf(HostPort(port_least=1))
NETWORKS = ListOf(Network())
FINAL_CODES = ListOf(FinalCode())
GATEWAYS = ListOf(GatewayOrGroup())
WORDS = ListOf(Text(r"[!-~]{1,255}", "1-255 printable characters without blanks"))
