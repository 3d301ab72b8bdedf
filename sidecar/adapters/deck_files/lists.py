"""A price list to a deck, by a template or by a guess: the one way in for every command that takes a file.

A guess asks every shipped template whether the file has its columns. The one that knows most of them reads
the file; where two know equally many, nobody guesses: AmbiguousListError has the readings.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Protocol, TypeVar, cast

import msgspec

from sidecar.adapters.deck_files.cells import header_currency
from sidecar.adapters.deck_files.files import FileRefusedError, Source, open_source
from sidecar.adapters.deck_files.reading import Reading, refuse_bad_bytes
from sidecar.adapters.deck_files.row import DATES, TERM_NAMES, RereadError
from sidecar.adapters.deck_files.tables import (
    DELIMITERS,
    BadRowError,
    Grid,
    Header,
    Misfit,
    Row,
    find_header,
    head_grid,
    is_like,
    table_rows,
    text_grid,
    text_head,
    workbook_grids,
)
from sidecar.adapters.deck_files.template import (
    SINGLE,
    Kind,
    Template,
    TemplateError,
    find_template,
    shipped_templates,
    template_of,
)
from sidecar.adapters.deck_files.translate import Ended, Translation
from sidecar.core.tariff import Deck

REREADS_MAX = 4
GUESS_LAST = frozenset({"any", "records"})
OWN = "own"


class ListRead(msgspec.Struct, frozen=True, kw_only=True):
    """A list as it was read. `template`: by which, and `guessed` whether nobody had said so. `took`: ours to
    the file's own column, with its sheet where there are several. `notes`: what was assumed. `first`: row and
    cells of the first rows, as they were read. `ended`: prefixes that the list says to end.
    """

    deck: Deck
    template: str
    guessed: bool
    took: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]
    counts: dict[str, int]
    first: tuple[tuple[int, dict[str, str]], ...]
    ended: tuple[Ended, ...] = ()


class AmbiguousListError(Exception):
    """Two readings are possible; the text has them."""


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """How a command's options say that a file is read: a template by name or path, and what of it is
    otherwise. Nothing given: guess. `options` are keys of a template."""

    template: str | Template | None = None
    options: Mapping[str, Any] = {}

    @property
    def is_guess(self) -> bool:
        return self.template is None and not self.options.get("columns")

    def templates(self, kind: Kind = "deck") -> dict[str, Template]:
        """Those that may be meant, by name. TemplateError says what is wrong with one."""
        if self.is_guess:
            return {
                name: self._changed(name, one)
                for name, one in shipped_templates().items()
                if one.kind == kind
            }
        if self.template is None:
            return {"the options": self._changed("the options", Template(kind=kind))}
        if isinstance(self.template, Template):
            return {"the template": self._changed("the template", self.template)}
        name, template = find_template(self.template)
        if template.kind != kind:
            raise TemplateError(f"{name}: is a template of {template.kind}, not of {kind}")
        return {name: self._changed(name, template)}

    def _changed(self, name: str, template: Template) -> Template:
        if not self.options and template.columns:
            return template
        options = dict(self.options)
        values: dict[str, str] = dict(options.pop("values", {}))
        document = {
            key: value for key, value in msgspec.structs.asdict(template).items() if value is not None
        } | options
        document |= {key: _scalar(key, values.pop(key)) for key in list(values) if key in SINGLE}
        is_own = template.kind == "deck" and not template.columns and not options.get("columns")
        own = shipped_templates()[OWN] if is_own else template
        columns = {**own.columns, **dict(options.get("columns", {}))}
        document["columns"] = {key: one for key, one in columns.items() if key not in values}
        document["optional"] = [key for key in own.optional if key in document["columns"]]
        document["values"] = {**template.values, **values}
        document["values"] = {k: v for k, v in document["values"].items() if k not in document["columns"]}
        try:
            return template_of(document)
        except (ValueError, msgspec.ValidationError) as error:
            raise TemplateError(str(error)) from None


def _scalar(key: str, text: str) -> object:
    kind = SINGLE[key]
    if kind is bool and text in ("true", "false"):
        return text == "true"
    if kind is int and text.isdigit():
        return int(text)
    return text


def read_list(path: Path, choice: Choice, name_of: Callable[[str], str] | None = None) -> ListRead:
    """DeckRefusedError lists what is wrong with the file, AmbiguousListError the readings that are possible,
    TemplateError what is wrong with the template. `name_of` gives the destination of a prefix whose row names
    none.
    """

    def begin(template: Template, reading: Reading, orders: dict[str, str]) -> Translation:
        reading.begin(TERM_NAMES)
        return Translation(template, reading, orders)

    attempt, work = settle(path, choice.templates(), choice.is_guess, begin, name_of)
    deck = attempt.reading.deck()
    for field, order in work.settled.items():
        attempt.notes[f"{attempt.took.get(field, field)} is {order}, as one of its dates shows"] = None
    if not len(deck) and not work.ended:
        attempt.reading.refuse(None, None, "has no rates")
        attempt.reading.check()
    return ListRead(
        deck=deck,
        template=attempt.used,
        guessed=choice.is_guess,
        took=tuple(attempt.took.items()),
        notes=tuple(attempt.notes),
        counts={"rates": len(deck), **work.counts},
        first=tuple(work.first),
        ended=tuple(work.ended),
    )


class Work(Protocol):
    """What is made of the rows of one file."""

    counts: Counter[str]

    def take(self, header: Header, rows: Iterator[Row], currency: str) -> None: ...
    def finish(self) -> None: ...


_W = TypeVar("_W", bound=Work)
Begin = Callable[[Template, Reading, dict[str, str]], _W]


def settle(
    path: Path,
    templates: dict[str, Template],
    guess: bool,
    begin: Begin[_W],
    name_of: Callable[[str], str] | None = None,
) -> tuple[Attempt, _W]:
    """The attempt that went through: a date or a byte far down may say that what is above was misread."""
    orders, encoding = dict[str, str](), ""
    for _ in range(REREADS_MAX):
        reading = Reading(str(path), name_of)
        attempt = Attempt(reading, templates, guess, orders, encoding)
        try:
            work = attempt.read(path, begin)
        except RereadError as error:
            orders = error.orders
            continue
        except UnicodeDecodeError as error:
            if not encoding and attempt.fallback:
                encoding = attempt.fallback
                continue
            refuse_bad_bytes(path, reading)
            if not reading.is_refused:  # it is packed, or in another encoding
                reading.refuse(None, None, f"is not {error.encoding}: byte {error.object[error.start]:#x}")
        except OSError as error:
            reading.refuse(None, None, f"cannot be read: {error.strerror or error}")
        except FileRefusedError as error:
            reading.refuse(None, None, str(error))
        except BadRowError as error:
            reading.refuse(error.row, None, str(error))
        else:
            return attempt, work
        reading.check()
    raise AssertionError("a file that settles nothing however often it is read")


class _Fit(NamedTuple):
    """A template that knows a table."""

    name: str
    template: Template
    grid: Grid
    header: Header
    delimiter: str = ""


class Attempt:
    """One way through the file. `fallback` is the encoding to try where it is not UTF-8 after all; `used` the
    template, `took` what was taken for what, `notes` what was assumed."""

    def __init__(
        self,
        reading: Reading,
        templates: dict[str, Template],
        guess: bool,
        orders: dict[str, str],
        encoding: str,
    ) -> None:
        self.reading = reading
        self.fallback = next((one.encoding for one in templates.values() if one.encoding), "")
        self.used = ""
        self.took: dict[str, str] = {}
        self.notes: dict[str, None] = {}
        self._templates = templates
        self._guess = guess
        self._orders = orders
        self._encoding = encoding

    def read(self, path: Path, begin: Begin[_W]) -> _W:
        with open_source(path) as source:
            fits = (
                self._workbook_fits(source)
                if source.workbook
                else self._text_fits(cast("BinaryIO", source.text))
            )
            self.used, template = fits[0].name, fits[0].template
            work = begin(template, self.reading, self._orders)
            if source.workbook:
                for fit in fits:
                    self._table(work, fit)
        if not source.workbook:
            with open_source(path) as source:  # from its beginning again, also where it is packed
                stream = cast("BinaryIO", source.text)
                grid = text_grid(stream, self._encoding, fits[0].delimiter, template.quote)
                self._table(work, fits[0]._replace(grid=grid))
        work.finish()
        self.reading.check()
        return work

    def _table(self, work: Work, fit: _Fit) -> None:
        template, header = fit.template, fit.header
        if fit.grid.sheet:
            self.reading.begin_sheet(fit.grid.sheet)
            self.notes[f"sheet {fit.grid.sheet!r}"] = None
        for field, place in header.columns.items():
            self.took.setdefault(field, header.names[place] if header.row else f"column {place + 1}")
        for field, text in template.values.items():
            self.took.setdefault(field, f"{text!r} for all rows")
        currency = self._currency(fit)
        if any(field in header.columns for field in DATES):
            self.notes[f"times without a zone are in {template.zone}"] = None
        used = set(header.columns.values())
        unused = [
            name for place, name in enumerate(header.names) if header.row and name and place not in used
        ]
        if template.all_columns:
            for place, name in enumerate(header.names):
                if place not in used and header.row:
                    what = f"{name!r} is no column" if name else f"column {place + 1} has no name"
                    self.reading.refuse(header.row, None, f"{what}; there are {', '.join(template.columns)}")
        elif unused:
            self.notes[f"columns that are not used: {', '.join(unused)}"] = None
        work.take(header, table_rows(fit.grid, header, template, work.counts), currency)

    def _currency(self, fit: _Fit) -> str:
        """That of the sheet, else of the header of the price, which the template may not contradict."""
        template, header = fit.template, fit.header
        said = template.values.get("currency", "").strip().upper()
        found = next((one for name, one in template.currencies.items() if is_like(fit.grid.sheet, name)), "")
        if "price_per_minute" in header.columns and not found:
            theirs = header.names[header.columns["price_per_minute"]]
            found = header_currency(theirs)
            if found and said and found != said:
                reason = f"names {found}, and the template says {said}: --set currency={found} says which"
                self.reading.refuse(header.row, None, f"{theirs!r} {reason}")
            if found and not said and "currency" not in header.columns:
                self.took["currency"] = f"{found}, as {theirs!r} says"
        return said or found

    def _workbook_fits(self, source: Source) -> list[_Fit]:
        """One for each sheet that is to be read."""
        patterns = {one.sheets for one in self._templates.values()}
        wanted = patterns.pop() if len(patterns) == 1 else ()
        fits: list[_Fit] = []
        seen: list[Grid] = []
        for grid in workbook_grids(source, wanted):
            seen.append(grid)
            here = [
                _Fit(name, template, grid, header)
                for name, template in self._templates.items()
                if isinstance(header := find_header(grid, template), Header)
            ]
            if here:
                fits.append(self._best(here))
            elif wanted and "*" not in wanted:
                self._lacking([grid])
        if not fits:
            self._lacking(seen)
        if not wanted and len(fits) > 1:
            names = " and ".join(repr(fit.grid.sheet) for fit in fits)
            raise AmbiguousListError(
                f"the sheets {names} have a table: --sheet NAME says which, --sheet '*' all"
            )
        return fits

    def _text_fits(self, stream: BinaryIO) -> list[_Fit]:
        head = text_head(stream, self.fallback)
        self._encoding = self._encoding or head.encoding
        if self._encoding not in ("utf-8", "utf-8-sig"):
            self.notes[f"read as {self._encoding}"] = None
        fits: list[_Fit] = []
        seen: list[Grid] = []
        for name, template in self._templates.items():
            fixed = template.delimiter or head.delimiter
            for delimiter in (fixed,) if fixed else DELIMITERS:
                grid = head_grid(head, delimiter, template.quote)
                seen.append(grid)
                header = find_header(grid, template)
                if isinstance(header, Header):
                    fits.append(_Fit(name, template, grid, header, delimiter))
        if not fits:
            self._lacking(seen)
        best = self._best(fits)
        if best.delimiter != ",":
            self.notes[f"columns are separated by {best.delimiter!r}"] = None
        return [best]

    def _best(self, fits: list[_Fit]) -> _Fit:
        """The one that knows most columns; of those that know equally many, not the one for any list."""
        most = max(len(fit.header.columns) for fit in fits)
        found = [fit for fit in fits if len(fit.header.columns) == most]
        if len({fit.name for fit in found}) > 1:
            found = [fit for fit in found if fit.name not in GUESS_LAST]
        if len(found) > 1:
            readings = "\n".join(f"  --template {fit.name}: {_columns(fit.header)}" for fit in found)
            raise AmbiguousListError(f"can be read in {len(found)} ways; say which:\n{readings}")
        return found[0]

    def _lacking(self, grids: list[Grid]) -> None:
        """Refuses the file: no template knows it. One error, which lists the columns that there are."""
        last = next((one for one in self._templates if one in GUESS_LAST), None)
        template = self._templates[last or next(iter(self._templates))]
        misfits = [(grid, one) for grid in grids if isinstance(one := find_header(grid, template), Misfit)]
        if not misfits:
            raise FileRefusedError("is empty")
        grid, misfit = min(misfits, key=lambda one: (len(one[1].missing), -len(one[1].names)))
        if grid.sheet:
            self.reading.begin_sheet(grid.sheet)
        there = ", ".join(map(repr, misfit.names)) or "none"
        if self._guess and misfit.double and not misfit.missing:
            ways = "; ".join(
                f"{name} could be {' or '.join(map(repr, two))}" for name, two in misfit.double.items()
            )
            raise AmbiguousListError(
                f"can be read in several ways: {ways}. --map {next(iter(misfit.double))}=... says which"
            )
        lacks = [
            f"has no column for {name}" + (f" ({' or '.join(map(repr, theirs))})" if not self._guess else "")
            for name, theirs in misfit.missing.items()
        ]
        lacks += [
            f"has several columns for {name}: {' and '.join(map(repr, two))}"
            for name, two in misfit.double.items()
        ]
        known = "no template knows it: " if self._guess else ""
        self.reading.refuse(misfit.row, None, f"{known}{'; '.join(lacks)}; the columns are {there}")
        self.reading.check()


def _columns(header: Header) -> str:
    return ", ".join(f"{ours} = {header.names[place]!r}" for ours, place in header.columns.items())
