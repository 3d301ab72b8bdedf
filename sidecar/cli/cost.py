"""`sidecar cost`: what a call would cost an account now, or by a deck file."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sidecar.cli.daemon import ConfigOption, Daemon, SocketOption
from sidecar.cli.journal import moment_of
from sidecar.cli.lists import MapOption, SetOption, TemplateOption, choice_of, read_file
from sidecar.cli.output import Exit, fail, print_fields, print_json, printable
from sidecar.core.terms import CallerBasis, ChargeSide, RateBy, RatingStatus, Rounding

if TYPE_CHECKING:
    from sidecar.core.cdr import ChargeRecord

TALK = re.compile(r"[0-9]{1,8}(\.[0-9]{1,9})?")
STRIP_MAX = 32
DECIMALS_MAX = 9
CallerOption = Annotated[
    str | None,
    typer.Option("--caller", metavar="DIGITS", help="Who calls, E.164, for a deck that asks; or surcharge."),
]


def cost(
    number: Annotated[str, typer.Argument(help="As dialled: digits, +49..., or any user part of a SIP URI.")],
    seconds: Annotated[str, typer.Option("--seconds", metavar="S", help="Talk time, such as 75 or 21.050.")],
    account: Annotated[
        str | None, typer.Option("--account", help="By what is in force for it, strip and deck and all.")
    ] = None,
    peer: Annotated[
        str | None, typer.Option("--peer", help="Of --account: from this peer, whose digits are stripped.")
    ] = None,
    deck: Annotated[
        Path | None,
        typer.Option("--deck", metavar="FILE", help="By a rate deck instead, as `deck import` reads it."),
    ] = None,
    template: TemplateOption = None,
    columns: MapOption = None,
    values: SetOption = None,
    strip: Annotated[
        int | None,
        typer.Option("--strip", metavar="N", min=0, max=STRIP_MAX, help="Of --deck: digits to strip."),
    ] = None,
    rate_by: Annotated[
        RateBy | None,
        typer.Option("--rate-by", help="Of --deck: what is rated of a number with npdi and rn (RFC 4694)."),
    ] = None,
    caller: CallerOption = None,
    rounding: Annotated[
        Rounding | None,
        typer.Option("--rounding", help="Of --deck: how the charge is rounded.", show_default="half_up"),
    ] = None,
    decimals: Annotated[
        int | None,
        typer.Option("--decimals", metavar="D", min=0, max=DECIMALS_MAX, help="Of --deck.", show_default="6"),
    ] = None,
    at: Annotated[
        str | None, typer.Option("--at", metavar="TIME", help="2026-11-01T08:00Z, or of node.time_zone.")
    ] = None,
    explained: Annotated[
        bool, typer.Option("--explain", help="Show how the charge comes about, from the digits on.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")] = False,
    socket: SocketOption = None,
    config: ConfigOption = None,
) -> None:
    """What a call to NUMBER of so many seconds costs: an account, by what is in force now, or by a deck file.
    The daemon need not run: then the settings, the journal and the decks are read. Exit code 1: no rate."""
    import msgspec

    from sidecar.core.call import pricing_of
    from sidecar.core.callers import RatedCaller
    from sidecar.core.cdr import ChargeRecord
    from sidecar.core.explain import explain
    from sidecar.core.explain_call import terms_of
    from sidecar.core.numbers import StripPlan, billed_number
    from sidecar.core.rating import RatingTerms, amount_text
    from sidecar.core.records import charge_line
    from sidecar.core.tariff import SURCHARGE

    talk_ms = _talk_ms(seconds, as_json=as_json)
    if (account is None) == (deck is None):
        fail(Exit.USAGE, "give --account or --deck", as_json=as_json)
    when = moment_of("--at", at, config, as_json=as_json)
    if deck is not None:
        if peer is not None:
            fail(Exit.USAGE, "--peer is of --account", as_json=as_json)
        plan = StripPlan(global_strip=strip or 0, rate_by=rate_by or RateBy.DIALLED)
        terms = RatingTerms(
            rounding=rounding or Rounding.HALF_UP, decimals=6 if decimals is None else decimals
        )
        choice = choice_of(template, columns, values, as_json=as_json)
        looked_up = caller_looked_up(caller, as_json=as_json)
        rates = read_file(deck, choice, as_json=as_json).deck
        known = RatedCaller(number=None if looked_up == SURCHARGE else looked_up, basis=CallerBasis.TRUSTED)
        at_time = when or datetime.now(UTC)
        pricing = pricing_of(billed_number(number, plan), terms, rates, at_time, known)
        line = charge_line(ChargeSide.SELL, "", pricing, talk_ms, at_time)
    else:
        of_deck = {
            "--template": template,
            "--map": columns,
            "--set": values,
            "--strip": strip,
            "--rate-by": rate_by,
            "--rounding": rounding,
            "--decimals": decimals,
        }
        if others := [name for name, value in of_deck.items() if value is not None]:
            fail(Exit.USAGE, f"{', '.join(others)}: of --deck; an account has its own", as_json=as_json)
        asked = {"number": number, "account": account, "seconds": seconds, "peer": peer, "caller": caller}
        with Daemon(socket, config, as_json, else_try=True) as daemon:
            line = msgspec.convert(daemon.ask("cost", **asked, at=when), ChargeRecord)
    if line.candidates and line.prefix is None:
        fail(Exit.NO, f"blocked: the deck lets no call to {line.candidates[0]} through", as_json=as_json)
    if line.prefix is None and line.rating_status is not RatingStatus.FREE:
        fail(Exit.NO, _no_rate(number, line), as_json=as_json)
    answer = {
        "dialled": number,
        "billed_number": line.billed_number,
        "prefix": line.prefix,
        "billed_s": line.billed_s,
        "charge": amount_text(line.total or Decimal(0)),
        "currency": line.currency,
        "steps": line.rate,
    }
    if account is not None:
        answer |= {"account": account, "strip": line.strip_rule, "deck_revision": line.deck_revision}
        answer["rating_status"] = line.rating_status
    if as_json:
        print_json(answer)
    elif explained:
        print_fields(explain(number, line, hold_s=line.hold_s, terms=terms_of(line)).lines)
    else:
        for name, value in answer.items():
            typer.echo(printable(f"{name:<14} {value}"))


def caller_looked_up(caller: str | None, *, as_json: bool) -> str:
    """What a deck is asked by; ends the command where it is no number."""
    from sidecar.core.tariff import SURCHARGE, check_caller_prefix

    try:
        check_caller_prefix(caller or SURCHARGE)
    except ValueError as error:
        fail(Exit.USAGE, f"--caller: {error}", as_json=as_json)
    return caller or SURCHARGE


def _talk_ms(seconds: str, *, as_json: bool) -> int:
    # A fraction of a millisecond is dropped, as the daemon drops it from a measured talk time.
    from sidecar.core.rating import HOLD_S_MAX

    if not TALK.fullmatch(seconds):
        fail(Exit.USAGE, f"--seconds: {seconds!r} is not a talk time such as 75 or 21.050", as_json=as_json)
    if Decimal(seconds) > HOLD_S_MAX - 1:
        fail(Exit.USAGE, f"--seconds: {seconds} is more than {HOLD_S_MAX - 1}", as_json=as_json)
    return int(Decimal(seconds) * 1000)


def _no_rate(number: str, line: ChargeRecord) -> str:
    if line.billed_number is None:
        return f"no rate: with {line.stripped or 0} digits stripped, {number!r} leaves no number to rate"
    return f"no rate: no prefix in the deck begins {line.billed_number} at that time"
