"""`sidecar account ...`: who pays. Every movement is an entry of the ledger."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any
from uuid import uuid4

import msgspec
import typer

from sidecar.cli.account_import import bring
from sidecar.cli.daemon import ConfigOption, JsonOption, OperatorOption, ReasonOption, SocketOption, ask
from sidecar.cli.journal import moment_of
from sidecar.cli.output import (
    Exit,
    fail,
    moment,
    print_done,
    print_fields,
    print_json,
    print_table,
)
from sidecar.core.account_terms import AMOUNTS, AccountKind

app = typer.Typer(help="Accounts and their balances.", no_args_is_help=True)

NULL = msgspec.Raw(b"null")  # a parameter that is None would not be sent

NameArgument = Annotated[str, typer.Argument(help="The account's name.")]
CreditLimitOption = Annotated[
    str | None, typer.Option(help="How far the balance may go below 0: overdraft, or postpaid limit.")
]
ValidFromOption = Annotated[str | None, typer.Option(help="No calls before: 2026-03-01, 2026-03-01T08:00Z.")]
ValidToOption = Annotated[str | None, typer.Option(help="No calls from then on.")]
ZoneOption = Annotated[str | None, typer.Option(help="The time zone of its days and months.")]
DayLimitOption = Annotated[str | None, typer.Option(help="What its calls may cost in a day of its zone.")]
MonthLimitOption = Annotated[str | None, typer.Option(help="What its calls may cost in a month.")]
LowBalanceOption = Annotated[str | None, typer.Option(help="An alarm once less than this is left to it.")]


@app.command("create")
def create(
    name: NameArgument,
    currency: Annotated[
        str | None, typer.Option(help="Code of ISO 4217.", show_default="the settings' currency")
    ] = None,
    kind: Annotated[
        AccountKind,
        typer.Option(help="prepaid: as far as the balance goes; postpaid: as far as the limit goes; free."),
    ] = AccountKind.POSTPAID,
    prepaid: Annotated[bool, typer.Option("--prepaid", help="The same as --kind prepaid.")] = False,
    credit_limit: CreditLimitOption = None,
    valid_from: ValidFromOption = None,
    valid_to: ValidToOption = None,
    zone: ZoneOption = None,
    day_limit: DayLimitOption = None,
    month_limit: MonthLimitOption = None,
    low_balance: LowBalanceOption = None,
    addresses: Annotated[
        list[str] | None,
        typer.Option(
            "--address", help="A block that its calls come from, such as 192.0.2.0/24; it may be repeated."
        ),
    ] = None,
    operator: OperatorOption = "",
    as_json: JsonOption = False,
    socket: SocketOption = None,
    config: ConfigOption = None,
) -> None:
    """Make an account. Nothing happens where it exists on the same terms."""
    if currency is not None:
        _check_currency(currency, as_json)
    given = _given(
        as_json,
        config,
        credit_limit=credit_limit,
        valid_from=valid_from,
        valid_to=valid_to,
        zone=zone,
        day_limit=day_limit,
        month_limit=month_limit,
        low_balance=low_balance,
    )
    made = ask(
        socket,
        config,
        as_json,
        "account.create",
        name=name,
        currency=currency,
        kind=AccountKind.PREPAID if prepaid else kind,
        addresses=addresses or [],
        operator=operator,
        **given,
    )
    _show(made, as_json)


@app.command("set")
def set_terms(
    name: NameArgument,
    kind: Annotated[AccountKind | None, typer.Option(help="prepaid, postpaid or free.")] = None,
    credit_limit: CreditLimitOption = None,
    valid_from: ValidFromOption = None,
    valid_to: ValidToOption = None,
    zone: ZoneOption = None,
    day_limit: DayLimitOption = None,
    month_limit: MonthLimitOption = None,
    low_balance: LowBalanceOption = None,
    text: ReasonOption = "",
    operator: OperatorOption = "",
    as_json: JsonOption = False,
    socket: SocketOption = None,
    config: ConfigOption = None,
) -> None:
    """Change an account's terms for calls that begin from now on; "" takes one away. The currency stays.

    An account of the settings file is changed there.
    """
    given = _given(
        as_json,
        config,
        credit_limit=credit_limit,
        valid_from=valid_from,
        valid_to=valid_to,
        zone=zone,
        day_limit=day_limit,
        month_limit=month_limit,
        low_balance=low_balance,
    )
    if kind is not None:
        given["kind"] = kind
    changed = ask(
        socket,
        config,
        as_json,
        "account.set",
        name=name,
        text=text,
        operator=operator,
        **given,
    )
    _show(changed, as_json)


@app.command("enable")
def enable(
    name: NameArgument,
    text: ReasonOption = "",
    operator: OperatorOption = "",
    as_json: JsonOption = False,
    socket: SocketOption = None,
    config: ConfigOption = None,
) -> None:
    """Let an account have calls again that was disabled by command."""
    _switch("account.enable", name, text, operator, as_json, socket, config)


@app.command("disable")
def disable(
    name: NameArgument,
    text: ReasonOption = "",
    operator: OperatorOption = "",
    as_json: JsonOption = False,
    socket: SocketOption = None,
    config: ConfigOption = None,
) -> None:
    """Refuse an account's calls (403), and end those that are up, until it is enabled again: also an account
    of the settings file."""
    _switch("account.disable", name, text, operator, as_json, socket, config)


def _switch(
    method: str,
    name: str,
    text: str,
    operator: str,
    as_json: bool,
    socket: Path | None,
    config: Path | None,
) -> None:
    shown = ask(socket, config, as_json, method, name=name, text=text, operator=operator)
    _show(shown, as_json)


@app.command("list")
def list_accounts(
    after: Annotated[str, typer.Option(help="Begin behind this name.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Accounts at most.")] = 100,
    as_json: JsonOption = False,
    socket: SocketOption = None,
    config: ConfigOption = None,
) -> None:
    """List accounts with their terms, by name."""
    found = ask(socket, config, as_json, "account.list", after=after, limit=limit)
    if as_json:
        print_json(found)
        return
    print_table(
        ("account", "currency", "kind", "credit limit>", "enabled", "from", "calls>"),
        [
            (
                one["name"],
                one["currency"],
                one["kind"],
                one["credit_limit"] or "",
                "yes" if one["enabled"] else "no",
                "settings" if one["in_settings"] else "command",
                one["live_calls"],
            )
            for one in found["accounts"]
        ],
    )


@app.command("address")
def address(
    name: NameArgument,
    block: Annotated[str, typer.Argument(help="Such as 192.0.2.0/24, 2001:db8::/32, or one address.")],
    remove: Annotated[bool, typer.Option("--remove", help="Take it away again.")] = False,
    operator: OperatorOption = "",
    as_json: JsonOption = False,
    socket: SocketOption = None,
    config: ConfigOption = None,
) -> None:
    """Calls from these addresses are the account's, by the rule with account_from = "address"."""
    shown = ask(
        socket,
        config,
        as_json,
        "account.address",
        name=name,
        block=block,
        remove=remove,
        operator=operator,
    )
    _show(shown, as_json)


@app.command("show")
def show(
    name: NameArgument,
    movements: Annotated[
        int, typer.Option(min=0, max=1000, help="Entries of the ledger, the latest first.")
    ] = 10,
    as_json: JsonOption = False,
    socket: SocketOption = None,
    config: ConfigOption = None,
) -> None:
    """Show an account's terms, its balance (free of reservations, and of what nodes hold in advance), and its
    latest movements."""
    _show(ask(socket, config, as_json, "account.show", name=name, movements=movements), as_json)


CurrencyOption = Annotated[str | None, typer.Option(help="Code of ISO 4217.", show_default="the account's")]


@app.command("topup")
def topup(
    name: NameArgument,
    amount: Annotated[str, typer.Argument(help="A plain amount, such as 25 or 25.50.")],
    currency: CurrencyOption = None,
    reference: Annotated[
        str | None,
        typer.Option(help="The payment's own number. The same one is booked once.", show_default="a new one"),
    ] = None,
    text: ReasonOption = "",
    operator: OperatorOption = "",
    as_json: JsonOption = False,
    socket: SocketOption = None,
    config: ConfigOption = None,
) -> None:
    """Add to an account's balance."""
    booking = {"amount": _amount(amount, as_json), "reference": reference or str(uuid4()), "text": text}
    _book("account.topup", name, currency, booking, operator, as_json, socket, config)


@app.command("adjust", context_settings={"ignore_unknown_options": True})
def adjust(
    name: NameArgument,
    amount: Annotated[str, typer.Argument(help="Added to the balance: 2.50, or -2.50 to take away.")],
    text: Annotated[str, typer.Option(help="Why; on the movement and in the audit table.")],
    credit_note: Annotated[
        bool, typer.Option("--credit-note", help="Book it as a credit note: what was charged is given back.")
    ] = False,
    currency: CurrencyOption = None,
    reference: Annotated[
        str | None,
        typer.Option(help="Its own number. The same one is booked once.", show_default="a new one"),
    ] = None,
    operator: OperatorOption = "",
    as_json: JsonOption = False,
    socket: SocketOption = None,
    config: ConfigOption = None,
) -> None:
    """Move an account's balance up or down, for a reason."""
    sign = "-" if amount.startswith("-") else ""
    booking = {
        "amount": sign + _amount(amount.removeprefix("-"), as_json),
        "reference": reference or str(uuid4()),
        "text": text,
        "credit_note": credit_note,
    }
    _book("account.adjust", name, currency, booking, operator, as_json, socket, config)


@app.command("ledger")
def ledger(
    name: NameArgument,
    before: Annotated[int | None, typer.Option(min=1, help="Entries before this one.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Entries at most.")] = 100,
    as_json: JsonOption = False,
    socket: SocketOption = None,
    config: ConfigOption = None,
) -> None:
    """List the movements of an account, the latest first."""
    found = ask(socket, config, as_json, "account.ledger", name=name, before_entry=before, limit=limit)
    if as_json:
        print_json(found)
    else:
        _print_movements(found["movements"])


@app.command("statement")
def statement(
    name: NameArgument,
    month: Annotated[str | None, typer.Option(metavar="YYYY-MM", help="In the account's time zone.")] = None,
    begin: Annotated[
        str | None,
        typer.Option("--from", metavar="TIME", help="Instead of a month: 2026-11-01, in the account's zone."),
    ] = None,
    end: Annotated[
        str | None, typer.Option("--to", metavar="TIME", help="Up to then.", show_default="now")
    ] = None,
    wanted: Annotated[str, typer.Option("--format", metavar="FORMAT", help="csv, json")] = "csv",
    config: ConfigOption = None,
) -> None:
    """Say what a month, or another period, came to for an account: opening, movements, charged calls by
    destination, closing.

    Read from the journal; the daemon need not run. What was booked in the period counts: a call that is
    charged anew later is in the period of that, with the difference. The columns of CSV: `part` (opening,
    movement, calls, closing), `at`, `kind`, `reference`, `text`, `operator`, `destination`, `calls`,
    `billed_s`, `net`, `tax`, `amount` (added to the balance), `currency`.
    """
    from sidecar.cli.journal import books
    from sidecar.cli.statement import STATEMENT_FORMATS
    from sidecar.core.statement import month_of
    from sidecar.core.statement import statement as of_month

    if wanted not in STATEMENT_FORMATS:
        fail(Exit.USAGE, f"--format is one of {', '.join(STATEMENT_FORMATS)}, not {wanted!r}")
    as_json = wanted == "json"
    if (month is None) == (begin is None) or (month is not None and end is not None):
        fail(Exit.USAGE, "give --month, or --from and --to", as_json=as_json)
    with books(config, as_json=as_json) as journal:
        terms = journal.account_terms(name)
        if terms is None:
            fail(Exit.NO, f"there is no account {name}", as_json=as_json)
        if month is not None:
            try:
                period = month_of(month, terms.zone)
            except ValueError as error:
                fail(Exit.USAGE, f"--month: {error}", as_json=as_json)
        else:
            period = _period(begin, end, terms.zone, config, as_json)
        archived = journal.archived_until()
        if archived is not None and period[0] < archived:
            text = f"the movements before {archived:%Y-%m-%d %H:%M}Z are archived (sidecar retention)"
            fail(Exit.NO, f"{month or begin}: {text}", as_json=as_json)
        lines = journal.account_lines(name, terms.currency)
        found = of_month(name, terms.currency, terms.zone, period, lines, journal.revision)
    STATEMENT_FORMATS[wanted](found)


app.command("import")(bring)


def _period(
    begin: str | None, end: str | None, zone: str, config: Path | None, as_json: bool
) -> tuple[datetime, datetime]:
    since = moment_of("--from", begin, config, as_json=as_json, zone=zone)
    until = moment_of("--to", end, config, as_json=as_json, zone=zone) or datetime.now(UTC)
    if since is None or since >= until:
        fail(Exit.USAGE, "--from is not before --to", as_json=as_json)
    return since.astimezone(UTC), until.astimezone(UTC)


def _book(
    method: str,
    name: str,
    currency: str | None,
    booking: dict[str, Any],
    operator: str,
    as_json: bool,
    socket: Path | None,
    config: Path | None,
) -> None:
    if currency is not None:
        _check_currency(currency, as_json)
    booked = ask(
        socket,
        config,
        as_json,
        method,
        name=name,
        currency=currency,
        operator=operator,
        **booking,
    )
    balance = f"{booked['balance']['amount']} {booked['balance']['currency']}"
    print_done(booked, f"{name}: {balance} (reference {booked['reference']})", as_json)


def _amount(text: str, as_json: bool) -> str:
    from sidecar.core.tariff import parse_amount

    try:
        return f"{parse_amount(text):f}"
    except ValueError as error:
        fail(Exit.USAGE, str(error), as_json=as_json)


def _given(as_json: bool, config: Path | None, **options: str | None) -> dict[str, Any]:
    """The terms that were given, as the control socket takes them. Dates are of the zone of the command."""
    given: dict[str, Any] = {}
    for name, text in options.items():
        if text is None:
            continue
        if name in AMOUNTS:
            given[name] = _amount(text, as_json) if text else NULL
        elif name.startswith("valid_"):
            option = f"--{name.replace('_', '-')}"
            at = moment_of(option, text or None, config, as_json=as_json, zone=options.get("zone"))
            given[name] = NULL if at is None else at.isoformat()
        else:
            given[name] = text
    return given


def _check_currency(currency: str, as_json: bool) -> None:
    from sidecar.core.tariff import check_currency

    try:
        check_currency(currency)
    except ValueError as error:
        fail(Exit.USAGE, str(error), as_json=as_json)


def _show(account: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(account)
        return
    print_fields(
        (
            ("account", account["name"]),
            ("currency", account["currency"]),
            ("kind", account["kind"]),
            ("credit limit", account["credit_limit"]),
            ("enabled", account["enabled"]),
            ("valid from", moment(account["valid_from"]) if account["valid_from"] else None),
            ("valid to", moment(account["valid_to"]) if account["valid_to"] else None),
            ("zone", account["zone"]),
            ("day limit", account["day_limit"]),
            ("month limit", account["month_limit"]),
            ("low balance", account["low_balance"]),
            ("terms from", "the settings" if account["in_settings"] else "command"),
            *(("address", block) for block in account["addresses"]),
            ("live calls", account["live_calls"]),
            *((f"balance {one['currency']}", one["amount"]) for one in account["balances"]),
            *(
                (f"held by node {one['node']}", f"{one['amount']} {one['currency']}")
                for one in account["tranches"]
            ),
        )
    )
    if account["movements"]:
        typer.echo()
        _print_movements(account["movements"])


def _print_movements(movements: list[dict[str, Any]]) -> None:
    print_table(
        ("entry>", "booked", "kind", "amount>", "currency", "balance>", "call or reference", "by", "text"),
        [
            (
                m["entry"],
                moment(m["booked_at"]),
                m["kind"],
                m["amount"],
                m["currency"],
                m["balance"],
                m["call_id"] or m["reference"],
                m["operator"] or "",
                m["text"] or "",
            )
            for m in movements
        ],
    )
