"""The one spelling of a deck: what its revision is the digest of, and what is stored."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Iterator
from functools import lru_cache

from sidecar.adapters.deck_files.columns import COLUMNS, PRICES_KEPT_MAX, TERMS
from sidecar.core.amounts import amount_of_e12
from sidecar.core.steps import format_steps, per_minute
from sidecar.core.tariff import OWN_PRICES, Deck, Rate


def revision_of(deck: Deck) -> str:
    """The SHA-256 of the deck's canonical file, in hexadecimal."""
    digest = hashlib.sha256()
    for chunk in canonical_chunks(deck):
        digest.update(chunk)
    return digest.hexdigest()


def with_revision(deck: Deck) -> Deck:
    """A deck that was just made, under its revision."""
    deck.revision = revision_of(deck)
    return deck


def canonical_chunks(deck: Deck) -> Iterator[bytes]:
    """The deck as CSV in one spelling: rows sorted, amounts without trailing zeros, times in UTC, prices
    per minute where that says it all and as steps elsewhere. A column of TERMS is there only where a row
    says something in it, so that a deck without keeps the revision that it always had.

    `deck.revision` is the SHA-256 of these bytes, and reading them gives an equal deck.
    """
    destinations = [_cells(text) for text in deck.destinations]
    terms = [_canonical_terms(kind) for kind in deck.kinds]
    more = [_own_terms(kind) for kind in deck.kinds]
    used = [name for name in TERMS if any(cells[name] for cells in more)]
    mores = [_cells("", *(cells[name] for name in used)) if used else "" for cells in more]
    yield (",".join([name for name in COLUMNS if name not in TERMS or name in used]) + "\n").encode()
    lines: list[str] = []
    for prefix, destination, kind, price_e9 in deck.rows():
        before, after = terms[kind]
        price = "" if price_e9 == OWN_PRICES else _price_text(price_e9)
        default = "" if prefix else "yes"
        lines.append(
            f"{prefix},{destinations[destination]},{before},{price},{after},{default}{mores[kind]}\n"
        )
        if len(lines) == 10_000:
            yield "".join(lines).encode()
            lines.clear()
    yield "".join(lines).encode()


def _cells(*cells: str) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(cells)
    return text.getvalue()


@lru_cache(maxsize=PRICES_KEPT_MAX)
def _price_text(price_e9: int) -> str:
    return f"{amount_of_e12(price_e9 * 1000):f}"


def _canonical_terms(kind: Rate) -> tuple[str, str]:
    """The cells between destination and price, and those between price and default."""
    found = None if kind.blocked else per_minute(kind.steps)
    plain = found is not None and found[0] == 0
    after = _cells(
        str(found[1]) if found and plain else "",
        str(found[2]) if found and plain else "",
        "" if plain else format_steps(kind.steps),
        "" if kind.effective_from is None else kind.effective_from.isoformat(),
        "" if kind.effective_to is None else kind.effective_to.isoformat(),
        "" if kind.max_duration_s is None else str(kind.max_duration_s),
    )
    return f"{kind.currency},{kind.connect_fee:f}", after


def _own_terms(kind: Rate) -> dict[str, str]:
    return {
        "grace_s": str(kind.grace_s) if kind.grace_s else "",
        "included_s": "" if kind.included_s is None else str(kind.included_s),
        "minimum_charge": "" if kind.minimum_charge is None else f"{kind.minimum_charge:f}",
        "blocked": "yes" if kind.blocked else "",
        "caller_prefix": kind.caller_prefix,
    }
