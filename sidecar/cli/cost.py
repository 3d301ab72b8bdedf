"""`sidecar cost`: what a call would cost, from a deck file, without a daemon."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sidecar.cli.lists import MapOption, SetOption, TemplateOption, choice_of, read_file
from sidecar.cli.output import Exit, fail, print_fields, print_json, printable
from sidecar.core.terms import ChargeSide, RateBy, Rounding

if TYPE_CHECKING:
    from sidecar.core.numbers import BilledNumber
    from sidecar.core.rating import Charge
    from sidecar.core.tariff import Rate

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
    deck: Annotated[
        Path, typer.Option("--deck", metavar="FILE", help="The rate deck, as `deck import` reads it.")
    ],
    template: TemplateOption = None,
    columns: MapOption = None,
    values: SetOption = None,
    strip: Annotated[
        int, typer.Option("--strip", metavar="N", min=0, max=STRIP_MAX, help="Leading digits to strip.")
    ] = 0,
    rate_by: Annotated[
        RateBy, typer.Option("--rate-by", help="What is rated of a number with npdi and rn (RFC 4694).")
    ] = RateBy.DIALLED,
    caller: CallerOption = None,
    rounding: Annotated[
        Rounding, typer.Option("--rounding", help="How the charge is rounded.")
    ] = Rounding.HALF_UP,
    decimals: Annotated[
        int, typer.Option("--decimals", metavar="D", min=0, max=DECIMALS_MAX, help="Of the charge.")
    ] = 6,
    at: Annotated[
        str | None, typer.Option("--at", metavar="TIME", help="ISO 8601 with offset; now if not given.")
    ] = None,
    explained: Annotated[
        bool, typer.Option("--explain", help="Show how the charge comes about, from the digits on.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")] = False,
) -> None:
    """What a call to NUMBER of so many seconds costs by a deck file. Exit code 1: no rate."""
    from sidecar.adapters.deck_files import parse_stamp
    from sidecar.core.numbers import StripPlan, billed_number
    from sidecar.core.rating import RatingTerms, amount_text, charge, hold_seconds
    from sidecar.core.tariff import format_steps

    talk_ms = _talk_ms(seconds, as_json=as_json)
    try:
        when = datetime.now(UTC) if at is None else parse_stamp(at)
    except ValueError as error:
        fail(Exit.USAGE, f"--at: {error}", as_json=as_json)
    caller = caller_looked_up(caller, as_json=as_json)
    rates = read_file(deck, choice_of(template, columns, values, as_json=as_json), as_json=as_json).deck

    dialled = billed_number(number, StripPlan(global_strip=strip, rate_by=rate_by))
    rate = None if dialled.billed is None else rates.match(dialled.billed, when, caller)
    if rate is None:
        fail(Exit.NO, _no_rate(number, dialled.billed, strip), as_json=as_json)
    if rate.blocked:
        fail(Exit.NO, f"blocked: the deck lets no call to {rate.prefix} through", as_json=as_json)
    terms = RatingTerms(rounding=rounding, decimals=decimals)
    result = charge(rate, hold_seconds(talk_ms, terms.hold_time_precision_ms), terms, when)
    answer = {
        "dialled": number,
        "billed_number": dialled.billed,
        "prefix": rate.prefix,
        "billed_s": result.billed_s,
        "charge": amount_text(result.total),
        "currency": result.currency,
        "steps": format_steps(rate.steps),
    }
    if as_json:
        print_json(answer)
        return
    if explained:
        candidates = [one.prefix for one in rates.candidates(dialled.billed or "", when, caller)]
        print_fields(_explanation(dialled, rates.revision, rate, result, candidates))
        return
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


def _explanation(
    number: BilledNumber, revision: str, rate: Rate, result: Charge, candidates: list[str]
) -> tuple[tuple[str, str], ...]:
    """What `sidecar cdr explain` shows of a recorded call, for one that was not made."""
    from sidecar.core.amounts import exact_text
    from sidecar.core.cdr import ChargeRecord, ChargeStep
    from sidecar.core.explain import explain

    record = ChargeRecord(
        side=ChargeSide.SELL,
        party="",
        rating_status=result.status,
        currency=result.currency,
        deck_revision=revision,
        strip_rule=number.rule,
        billed_number=number.billed,
        prefix=rate.prefix,
        destination=rate.destination,
        steps=tuple(
            ChargeStep(
                start_s=one.start_s,
                billed_s=one.seconds,
                increment_s=one.increment_s,
                price=one.price,
                per_s=one.per_s,
                amount=exact_text(one.amount),
            )
            for one in result.segments
        ),
        connect_fee=result.connect_fee,
        billed_s=result.billed_s,
        net=result.net,
        tax=result.tax,
        total=result.total,
        rounding=result.rounding,
        decimals=result.decimals,
        candidates=tuple(candidates),
        caller_class=rate.caller_prefix or None,
        grace_s=rate.grace_s or None,
        included_s=rate.included_s,
        rate_minimum_charge=rate.minimum_charge,
    )
    return explain(number.received, record, hold_s=result.hold_s).lines


def _talk_ms(seconds: str, *, as_json: bool) -> int:
    # A fraction of a millisecond is dropped, as the daemon drops it from a measured talk time.
    from sidecar.core.rating import HOLD_S_MAX

    if not TALK.fullmatch(seconds):
        fail(Exit.USAGE, f"--seconds: {seconds!r} is not a talk time such as 75 or 21.050", as_json=as_json)
    if Decimal(seconds) > HOLD_S_MAX - 1:
        fail(Exit.USAGE, f"--seconds: {seconds} is more than {HOLD_S_MAX - 1}", as_json=as_json)
    return int(Decimal(seconds) * 1000)


def _no_rate(number: str, billed: str | None, strip: int) -> str:
    if billed is None:
        return f"no rate: with {strip} digits stripped, {number!r} leaves no number to rate"
    return f"no rate: no prefix in the deck begins {billed} at that time"
