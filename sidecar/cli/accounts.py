"""`sidecar account ...`: who pays. Every movement is an entry of the ledger."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import uuid4

import typer

from sidecar.cli.daemon import ConfigOption, JsonOption, SocketOption, ask, operator_name
from sidecar.cli.output import Exit, fail, moment, print_fields, print_json, print_table, printable

app = typer.Typer(help="Accounts and their balances.", no_args_is_help=True)

NameArgument = Annotated[str, typer.Argument(help="The account's name.")]
OperatorOption = Annotated[
    str | None, typer.Option(help="Who does it, for the audit table.", show_default="the user")
]


@app.command("create")
def create(
    name: NameArgument,
    currency: Annotated[
        str | None, typer.Option(help="Code of ISO 4217.", show_default="the settings' currency")
    ] = None,
    prepaid: Annotated[
        bool, typer.Option("--prepaid", help="Calls only as far as the balance goes.")
    ] = False,
    addresses: Annotated[
        list[str] | None,
        typer.Option(
            "--address", help="A block that its calls come from, such as 192.0.2.0/24; it may be repeated."
        ),
    ] = None,
    operator: OperatorOption = None,
    as_json: JsonOption = False,
    socket: SocketOption = None,
    config: ConfigOption = None,
) -> None:
    """Make an account. Nothing happens where it exists on the same terms."""
    if currency is not None:
        _check_currency(currency, as_json)
    made = ask(
        socket,
        config,
        as_json,
        "account.create",
        name=name,
        currency=currency,
        prepaid=prepaid,
        addresses=addresses or [],
        operator=operator or operator_name(),
    )
    _show(made, as_json)


@app.command("address")
def address(
    name: NameArgument,
    block: Annotated[str, typer.Argument(help="Such as 192.0.2.0/24, 2001:db8::/32, or one address.")],
    remove: Annotated[bool, typer.Option("--remove", help="Take it away again.")] = False,
    operator: OperatorOption = None,
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
        operator=operator or operator_name(),
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
    """Show an account's terms, its balance (free of reservations) and its latest movements."""
    _show(ask(socket, config, as_json, "account.show", name=name, movements=movements), as_json)


@app.command("topup")
def topup(
    name: NameArgument,
    amount: Annotated[str, typer.Argument(help="A plain amount, such as 25 or 25.50.")],
    currency: Annotated[
        str | None, typer.Option(help="Code of ISO 4217.", show_default="the account's")
    ] = None,
    reference: Annotated[
        str | None,
        typer.Option(help="The payment's own number. The same one is booked once.", show_default="a new one"),
    ] = None,
    operator: OperatorOption = None,
    as_json: JsonOption = False,
    socket: SocketOption = None,
    config: ConfigOption = None,
) -> None:
    """Add to an account's balance."""
    from sidecar.core.tariff import parse_amount

    try:
        plain = f"{parse_amount(amount):f}"
    except ValueError as error:
        fail(Exit.USAGE, str(error), as_json=as_json)
    if currency is not None:
        _check_currency(currency, as_json)
    booked = ask(
        socket,
        config,
        as_json,
        "account.topup",
        name=name,
        amount=plain,
        currency=currency,
        reference=reference or str(uuid4()),
        operator=operator or operator_name(),
    )
    if as_json:
        print_json(booked)
        return
    balance = booked["balance"]
    typer.echo(
        f"{printable(name)}: {balance['amount']} {balance['currency']} (reference {booked['reference']})"
    )


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
            ("prepaid", account["prepaid"]),
            *(("address", block) for block in account["addresses"]),
            ("live calls", account["live_calls"]),
            *((f"balance {one['currency']}", one["amount"]) for one in account["balances"]),
        )
    )
    if account["movements"]:
        typer.echo()
        print_table(
            ("booked", "kind", "amount>", "currency", "balance>", "call or reference"),
            [
                (
                    moment(m["booked_at"]),
                    m["kind"],
                    m["amount"],
                    m["currency"],
                    m["balance"],
                    m["call_id"] or m["reference"],
                )
                for m in account["movements"]
            ],
        )
