"""`sidecar account import`: accounts, terms and opening balances of another system."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from decimal import Decimal
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from sidecar.cli.daemon import ConfigOption, Daemon, JsonOption, OperatorOption, SocketOption
from sidecar.cli.output import Exit, fail, print_json
from sidecar.core.account_import import COLUMNS, REQUIRED, ROWS_MAX, differences, read_rows, totals_of

BYTES_MAX = 16_000_000
ERRORS_SHOWN = 20


def bring(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="CSV in UTF-8, its columns in the first row.")],
    count: Annotated[int | None, typer.Option(min=1, help="Control total: so many accounts.")] = None,
    total: Annotated[
        list[str] | None,
        typer.Option(
            metavar="EUR=AMOUNT",
            help="Control total: the sum of the opening balances of a currency; once for each.",
        ),
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="Read and compare, and make nothing.")] = False,
    text: Annotated[str, typer.Option(help="Why, for the audit table and the movements.")] = "",
    operator: OperatorOption = "",
    as_json: JsonOption = False,
    socket: SocketOption = None,
    config: ConfigOption = None,
) -> None:
    """Make the accounts of another system, with their terms and opening balances: all of them, or none.

    Columns: `name`, `currency`, `kind` (prepaid, postpaid, free), and if wanted `balance` (may be negative),
    `reference`, `credit_limit`, `valid_from`, `valid_to`, `zone`, `day_limit`, `month_limit`, `low_balance`.
    Every error is listed with row and column. Repeated, it changes nothing; an account that exists on other
    terms, or a reference that was booked with another amount, refuses the whole file.
    """
    rows, errors = read_rows(_rows(file, as_json))
    if not errors and not rows:
        errors = ["no accounts"]
    if not errors:
        errors = differences(totals_of(rows), count, _sums(total or (), as_json))
    if errors:
        more = [f"and {len(errors) - ERRORS_SHOWN} more"] if len(errors) > ERRORS_SHOWN else []
        said = "\n".join(f"{file}: {error}" for error in (*errors[:ERRORS_SHOWN], *more))
        fail(Exit.USAGE, said, as_json=as_json)
    sums = {currency: f"{amount:f}" for currency, amount in totals_of(rows).sums.items()}
    if check:
        done: Any = {"count": len(rows), "opened": 0, "booked": 0, "sums": sums}
    else:
        from sidecar.wire.control_accounts import IMPORTED_PART_MAX

        import_id = sha256(msgspec.json.encode(rows)).hexdigest()[:16]
        with Daemon(socket, config, as_json) as daemon:
            for begin in range(0, len(rows), IMPORTED_PART_MAX):
                part = rows[begin : begin + IMPORTED_PART_MAX]
                daemon.ask("account.import_part", import_id=import_id, rows=part)
            done = daemon.ask(
                "account.import",
                import_id=import_id,
                count=len(rows),
                text=text,
                operator=operator,
            )
    if as_json:
        print_json(done)
        return
    in_all = ", ".join(f"{amount} {currency}" for currency, amount in sorted(done["sums"].items())) or "0"
    typer.echo(
        f"{done['count']} accounts ({in_all} in all): {done['opened']} made,"
        f" {done['booked']} opening balances booked"
    )


def _rows(file: Path, as_json: bool) -> Sequence[Mapping[str, str]]:
    try:
        body = file.read_bytes()
        if len(body) > BYTES_MAX:
            fail(Exit.USAGE, f"{file}: more than {BYTES_MAX} bytes", as_json=as_json)
        reader = csv.reader(io.StringIO(body.decode("utf-8-sig"), newline=""), strict=True)
        header, *rows = [*reader] or [[]]
        while rows and not rows[-1]:
            rows.pop()
    except OSError as error:
        fail(Exit.USAGE, f"{file}: {error.strerror}", as_json=as_json)
    except (UnicodeDecodeError, csv.Error) as error:
        fail(Exit.USAGE, f"{file}: no CSV in UTF-8 ({error})", as_json=as_json)
    wrong = [f"row 1: there is no column {name!r}" for name in REQUIRED if name not in header]
    wrong += [f"row 1, {name}: not a column of an import" for name in header if name not in COLUMNS]
    wrong += [f"row 1, {name}: is there twice" for name in sorted({n for n in header if header.count(n) > 1})]
    wrong += [
        f"row {number}: {len(row)} cells, the header has {len(header)}"
        for number, row in enumerate(rows, start=2)
        if len(row) != len(header)
    ][:ERRORS_SHOWN]
    if len(rows) > ROWS_MAX:
        wrong.append(f"{len(rows)} accounts: at most {ROWS_MAX}")
    if wrong:
        fail(Exit.USAGE, "\n".join(f"{file}: {text}" for text in wrong), as_json=as_json)
    return [dict(zip(header, row, strict=True)) for row in rows]


def _sums(words: Sequence[str], as_json: bool) -> dict[str, Decimal]:
    from sidecar.core.amounts import check_currency, parse_amount

    sums: dict[str, Decimal] = {}
    for word in words:
        currency, _, amount = word.partition("=")
        try:
            check_currency(currency)
            if currency in sums:
                raise ValueError(f"{currency} is given twice")
            figure = parse_amount(amount.removeprefix("-"))
        except ValueError as error:
            fail(Exit.USAGE, f"--total {word}: {error}", as_json=as_json)
        sums[currency] = -figure if amount.startswith("-") else figure
    return sums
