"""`sidecar deck activate`, `rollback`, `pending`, `cancel`, `history`: which deck is in force, and from
when on.

What a deck would change is told before it is put in force; where calls would become free, unrated or a loss
nothing is done without --yes. A daemon that runs does it itself; without one it is written down, and the
next start finds it.
"""

from __future__ import annotations

import os
import socket as network
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sidecar.cli.daemon import (
    ConfigOption,
    JsonOption,
    OperatorOption,
    SocketOption,
    is_sqlite,
    settings_of,
    socket_path,
)
from sidecar.cli.output import (
    Exit,
    fail,
    moment,
    print_json,
    print_said,
    print_table,
    printable,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sidecar.adapters.deck_store import DeckStore
    from sidecar.core.cdr import Cdr
    from sidecar.core.deck_check import DeckFacts
    from sidecar.core.deck_diff import RateChange
    from sidecar.core.deck_history import Activation, Import
    from sidecar.core.deck_impact import CallsImpact, PriceImpact
    from sidecar.core.policy import Policy
    from sidecar.core.tariff import Deck, Rate

DAYS = 7
TEXT_LENGTH_MAX = 200  # of a note in the audit trail
CALLS_MAX = 200_000  # of the last days that are rated again

DeckArgument = Annotated[
    str, typer.Argument(help="A name in force, or the beginning of a revision (6 digits at least).")
]
NameArgument = Annotated[str, typer.Argument(help="The name that settings use for the deck.")]
AtOption = Annotated[
    str | None,
    typer.Option(
        "--at", metavar="TIME", help="In force from then on: 2026-11-01, 2026-11-01T08:00Z; now if not given."
    ),
]
YesOption = Annotated[
    bool, typer.Option("--yes", help="Although calls would become free, unrated or a loss.")
]
NewOption = Annotated[bool, typer.Option("--new", help="Although nobody is rated by this name.")]
TextOption = Annotated[str, typer.Option(metavar="WHY", help="Why, for the audit trail.")]
DaysOption = Annotated[
    int, typer.Option("--days", min=0, max=366, help="Hold it against the calls of so many days.")
]


class Wanted:
    """One deck that is to be put in force, and by whom."""

    def __init__(
        self,
        name: str,
        *,
        at: datetime | None = None,
        yes: bool = False,
        new: bool = False,
        operator: str,
        text: str = "",
        days: int = DAYS,
        socket: Path | None,
        config: Path | None,
        as_json: bool,
    ) -> None:
        self.name, self.at, self.yes, self.new = name, at, yes, new
        self.operator, self.text, self.days = operator, text, days
        self.socket, self.config, self.as_json = socket, config, as_json
        self.place = socket_path(socket, config, as_json=as_json)
        self.store = stored_decks(socket, config, as_json)


def activate(
    deck: DeckArgument,
    name: NameArgument,
    at: AtOption = None,
    yes: YesOption = False,
    new: NewOption = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what it would change.")] = False,
    days: DaysOption = DAYS,
    operator: OperatorOption = "",
    text: TextOption = "",
    as_json: JsonOption = False,
    socket: SocketOption = None,
    config: ConfigOption = None,
) -> None:
    """Put a deck in force under a name, at once or at a time. Calls that are up keep the rates that they
    began with. Exit code 1, and nothing done, where it is refused or needs --yes."""
    wanted = Wanted(
        name,
        at=time_to_come(at, config, as_json),
        yes=yes,
        new=new,
        operator=operator,
        text=text,
        days=days,
        socket=socket,
        config=config,
        as_json=as_json,
    )
    put_in_force(read_stored(wanted.store, deck, as_json), wanted, dry_run=dry_run)


def put_in_force(
    deck: Deck, wanted: Wanted, said: Mapping[str, object] | None = None, *, dry_run: bool = False
) -> None:
    """Says what it changes, and does it. `said` is said before."""
    facts, impact, calls = weighed(deck, wanted)
    reasons = _reasons(facts, impact, calls)
    told = {**(said or {}), "name": wanted.name, "revision": deck.revision}
    shown = _impact_told(facts, impact, calls)
    is_done = not dry_run and (wanted.yes or not reasons)
    if not wanted.as_json:
        _print_impact(facts, impact, calls)
    if is_done:
        told |= _done(deck.revision, wanted, facts)
    if wanted.as_json:
        print_json({**told, "done": is_done, "impact": shown, "needs_yes": reasons})
    else:
        print_said(told, as_json=False)
        for reason in reasons:
            typer.echo(printable(f"{'taken on' if wanted.yes else 'needs --yes'}: {reason}"))
        if not is_done:
            typer.echo("nothing was put in force")
    if not is_done and (reasons or not dry_run):
        raise typer.Exit(Exit.NO.value)


def weighed(deck: Deck, wanted: Wanted) -> tuple[DeckFacts | None, PriceImpact, CallsImpact]:
    """What putting it in force would do. Ends the command where it would be refused."""
    from sidecar.adapters.deck_files.built import write_built
    from sidecar.core.deck_check import nobody_uses
    from sidecar.core.deck_history import SETTINGS, in_force
    from sidecar.core.deck_impact import Opposite, calls_impact, price_impact
    from sidecar.core.margin import ExchangeTable
    from sidecar.core.terms import ChargeSide

    now, store, name = datetime.now(UTC), wanted.store, wanted.name
    at = wanted.at or now
    try:
        write_built(store.built_path(deck.revision), deck)
    except OSError as error:
        fail(Exit.USAGE, f"{error.filename}: {error.strerror}", as_json=wanted.as_json)
    facts = _facts(deck, wanted)
    if facts is not None and facts.errors:
        fail(Exit.NO, "\n".join(facts.errors), as_json=wanted.as_json)
    if facts is not None and not facts.use.is_used and not wanted.new:
        fail(Exit.NO, nobody_uses(name, facts.names), as_json=wanted.as_json)
    history = store.history(name)
    then = in_force(history, at)
    revision = then.revision if then is not None else SETTINGS
    if revision == SETTINGS:
        revision = store.of_settings().get(name, "") if facts is None or facts.of_settings else facts.revision
        if facts is not None and facts.of_settings:
            revision = facts.revision
    side = (facts.side if facts is not None else None) or ChargeSide.SELL
    exchange = ExchangeTable(facts.exchange if facts is not None else ())
    opposite = None
    if facts is not None and facts.side is not None:
        opposite = Opposite(
            ChargeSide.BUY if side is ChargeSide.SELL else ChargeSide.SELL,
            tuple(_known(store, [other for _, other in facts.opposite])),
            tuple(_known(store, [other for _, other in facts.beside])),
            exchange,
        )
    impact = price_impact(next(_known(store, [revision]), None), deck, at, opposite)
    revisions = {one.revision for one in history} | {revision, store.of_settings().get(name, "")}
    calls = calls_impact(
        _recent(wanted, now),
        deck,
        at,
        lambda found: found in revisions and bool(found),
        side,
        exchange,
    )
    return facts, impact, calls


def rollback(
    name: NameArgument,
    operator: OperatorOption = "",
    text: TextOption = "",
    as_json: JsonOption = False,
    socket: SocketOption = None,
    config: ConfigOption = None,
) -> None:
    """Put in force what was in force under the name before; before the first deck there was that of the
    settings."""
    from sidecar.adapters.deck_store import DeckStoreError
    from sidecar.core.deck_history import SETTINGS, before

    wanted = Wanted(name, operator=operator, text=text, socket=socket, config=config, as_json=as_json)
    params = {"name": name, "operator": wanted.operator, "text": text, "origin": origin()}
    answer = _asked(wanted, "deck.rollback", params)
    if answer is not None:
        said = {"name": name, "revision": answer["revision"], "in_force_since": answer["at"]}
        print_said(said | {"daemon": "has taken it over"}, as_json)
        return
    now = datetime.now(UTC)
    store = wanted.store
    try:
        earlier = before(store.history(name), now)
        settings = store.of_settings().get(name, "")
        revision = settings if earlier is None or earlier.revision == SETTINGS else earlier.revision
        if revision:
            facts = _facts(read_stored(store, revision, as_json), wanted)
            if facts is not None and facts.errors:
                fail(Exit.NO, "\n".join(facts.errors), as_json=as_json)
        done = store.rollback(
            name, _activation(wanted, revision, "deck.rollback", now), now, settings_have_it=bool(settings)
        )
    except DeckStoreError as error:
        fail(Exit.NO, str(error), as_json=as_json)
    said = {"name": name, "revision": done.revision or settings, "in_force_since": done.at}
    print_said(said | {"daemon": "none answers: it takes the deck over when it starts"}, as_json)


def pending(
    name: Annotated[str | None, typer.Argument(help="Of this name alone.")] = None,
    as_json: JsonOption = False,
    socket: SocketOption = None,
    config: ConfigOption = None,
) -> None:
    """Show the decks that are to come into force, and when."""
    from sidecar.core.deck_history import pending as to_come

    now = datetime.now(UTC)
    histories = stored_decks(socket, config, as_json).histories()
    rows = sorted(
        ((one.at, of, one) for of, history in histories.items() for one in to_come(history, now)),
        key=lambda row: row[:2],
    )
    _print_activations([(of, one, "pending") for _, of, one in rows if name in (None, of)], as_json)


def cancel(
    name: NameArgument,
    deck: Annotated[str | None, typer.Argument(help="Of several the revision, or its beginning.")] = None,
    operator: OperatorOption = "",
    text: TextOption = "",
    as_json: JsonOption = False,
    socket: SocketOption = None,
    config: ConfigOption = None,
) -> None:
    """Take back what is to come into force under a name. What is in force stays."""
    from sidecar.adapters.deck_store import DeckStoreError

    wanted = Wanted(name, operator=operator, text=text, socket=socket, config=config, as_json=as_json)
    now = datetime.now(UTC)
    try:
        revision = None if deck is None else wanted.store.find(deck, now)
        params = {"name": name, "operator": wanted.operator, "text": text}
        answer = _asked(wanted, "deck.cancel", params | ({} if revision is None else {"revision": revision}))
        if answer is None:
            why = f"taken back by {wanted.operator}"
            gone = [one.revision for one in wanted.store.cancel(name, now, why, revision)]
        else:
            gone = answer["revisions"]
    except DeckStoreError as error:
        fail(Exit.NO, str(error), as_json=as_json)
    print_said({"name": name, "taken_back": gone}, as_json)


def history(
    name: NameArgument,
    as_json: JsonOption = False,
    socket: SocketOption = None,
    config: ConfigOption = None,
) -> None:
    """Show what was, is and will be in force under a name: who did it, when, from where, and why."""
    from sidecar.core.deck_history import in_force

    now = datetime.now(UTC)
    found = stored_decks(socket, config, as_json).history(name)
    present = in_force(found, now)
    rows = []
    for one in found:
        state = "past"
        if one.refused:
            state = f"not in force: {one.refused}"
        elif one is present:
            state = "in force"
        elif one.at > now:
            state = "pending"
        rows.append((name, one, state))
    if not rows:
        fail(Exit.NO, f"no command has put a deck in force under {name!r}", as_json=as_json)
    _print_activations(rows, as_json)


def origin() -> str:
    """From where a command comes: the address of an SSH client, else this machine."""
    client = os.environ.get("SSH_CONNECTION", "").split(" ")[0]
    return f"ssh {client}" if client else network.gethostname()


def time_to_come(text: str | None, config: Path | None, as_json: bool) -> datetime | None:
    from sidecar.cli.journal import moment_of

    at = moment_of("--at", text, config, as_json=as_json)
    if at is not None and at <= datetime.now(UTC):
        fail(Exit.USAGE, f"--at {text}: has passed; without it the deck is in force at once", as_json=as_json)
    return None if at is None else at.astimezone(UTC)


def keep(
    deck: Deck,
    source: str,
    operator: str,
    text: str,
    socket: Path | None,
    config: Path | None,
    as_json: bool,
    *,
    made_of: tuple[str, ...] = (),
) -> datetime:
    """Stores a deck, and says since when it is stored. The audit trail has it from the daemon that runs, else
    from the next start."""
    from sidecar.adapters.deck_files import canonical_chunks
    from sidecar.adapters.deck_store import DeckStoreError
    from sidecar.core.deck_history import Import

    by = Import(operator=operator, uid=os.getuid(), text=text)
    store, now = stored_decks(socket, config, as_json), datetime.now(UTC)
    try:
        kept = store.put(
            deck.revision,
            canonical_chunks(deck),
            rates=len(deck),
            source=source,
            at=now,
            made_of=made_of,
            by=by,
        )
        place = socket_path(socket, config, as_json=as_json)
        if kept.by == by and _is_noted(place, deck.revision, source, by):
            store.mark_noted(deck.revision)
    except DeckStoreError as error:
        fail(Exit.NO, str(error), as_json=as_json)
    except OSError as error:
        fail(Exit.USAGE, f"{error.filename}: {error.strerror}", as_json=as_json)
    return kept.imported_at


def _is_noted(place: Path, revision: str, source: str, by: Import) -> bool:
    from sidecar.adapters.control_client import ControlClient, DaemonUnreachableError
    from sidecar.wire.control import CommandError
    from sidecar.wire.control_users import Deed

    text = printable(f"{source}: {by.text}" if by.text else source)[:TEXT_LENGTH_MAX]
    noted = {"deed": Deed.IMPORT.value, "subject": revision, "operator": by.operator, "text": text}
    try:
        with ControlClient(place) as client:
            client.call("user.note", noted)
    except (DaemonUnreachableError, CommandError):
        return False
    return True


def stored_decks(socket: Path | None, config: Path | None, as_json: bool) -> DeckStore:
    from sidecar.adapters.deck_store import DeckStore

    return DeckStore(socket_path(socket, config, as_json=as_json).parent / "decks")


def read_named(store: DeckStore, text: str, socket: Path | None, config: Path | None, as_json: bool) -> Deck:
    """The same; a name may be one of the settings that no daemon has kept yet."""
    from sidecar.adapters.deck_store import DeckStoreError

    now = datetime.now(UTC)
    try:
        store.find(text, now)
    except DeckStoreError:
        if _settings_are_known(socket, config, as_json=as_json):
            _keep_aside(store, policy_in_force(config, as_json=as_json).decks, now)
    return read_stored(store, text, as_json)


def _settings_are_known(socket: Path | None, config: Path | None, *, as_json: bool) -> bool:
    """Whether the data directory is that of the settings."""
    if socket is None:
        return True
    return config is not None and (
        settings_of(config, as_json=as_json).node.data_dir.absolute() == socket.parent.absolute()
    )


def read_stored(store: DeckStore, text: str, as_json: bool) -> Deck:
    """The deck of a revision or name; ends the command where there is none, or it was changed."""
    from sidecar.adapters.deck_files import DeckRefusedError, read_deck
    from sidecar.adapters.deck_files.built import read_built
    from sidecar.adapters.deck_store import DeckStoreError

    try:
        revision = store.find(text, datetime.now(UTC))
        deck = read_built(store.built_path(revision)) or read_deck(store.path(revision))
    except (DeckStoreError, DeckRefusedError) as error:
        fail(Exit.NO, str(error), as_json=as_json)
    if deck.revision != revision:
        fail(Exit.NO, f"{store.path(revision)} was changed: it is deck {deck.revision} now", as_json=as_json)
    return deck


def policy_in_force(config: Path | None, *, as_json: bool = False) -> Policy:
    """The settings as a start would take them, with the decks that commands have put in force."""
    from msgspec.structs import replace

    from sidecar.adapters.deck_store import DeckStoreError
    from sidecar.config import ConfigError, load
    from sidecar.core.tariff import Deck
    from sidecar.wiring.decks import Decks
    from sidecar.wiring.files import inputs

    try:
        loaded = load(inputs({}, os.environ, config))
        decks = Decks(loaded.settings.node.data_dir / "decks")
        active: dict[str, Deck] = {}
        for name, one in decks.active(datetime.now(UTC)).items():
            found = decks.load(one.revision)
            if not isinstance(found, Deck):
                fail(Exit.USAGE, f"deck {name} cannot be read: {'; '.join(found)}", as_json=as_json)
            active[name] = found
    except (ConfigError, DeckStoreError) as error:
        fail(Exit.USAGE, str(error), as_json=as_json)
    return replace(loaded.policy, decks={**loaded.policy.decks, **active})


def _facts(deck: Deck, wanted: Wanted) -> DeckFacts | None:
    """Of the daemon that runs, else of the settings; None where it is not known whose data directory it
    is."""
    import msgspec

    from sidecar.core.deck_check import DeckFacts, deck_facts

    answer = _asked(wanted, "deck.check", {"name": wanted.name, "revision": deck.revision})
    if answer is not None:
        return msgspec.convert(answer, DeckFacts)
    if not _settings_are_known(wanted.socket, wanted.config, as_json=wanted.as_json):
        return None
    now = datetime.now(UTC)
    policy = policy_in_force(wanted.config, as_json=wanted.as_json)
    is_settings = wanted.name not in wanted.store.active(now)
    _keep_aside(wanted.store, policy.decks, now)
    return deck_facts(policy, wanted.name, deck, now, of_settings=is_settings)


def _keep_aside(store: DeckStore, decks: Mapping[str, Deck], now: datetime) -> None:
    """The decks of the settings, where no daemon has kept them yet: to compare with them, and to go back to
    them."""
    from sidecar.adapters.deck_files import canonical_chunks

    active = store.active(now)
    for name, deck in decks.items():
        if name not in active:
            source = f"settings: decks.{name}"
            store.put(deck.revision, canonical_chunks(deck), rates=len(deck), source=source, at=now)
            store.keep_settings({**store.of_settings(), name: deck.revision})


def _done(revision: str, wanted: Wanted, facts: DeckFacts | None) -> dict[str, object]:
    from sidecar.adapters.deck_store import DeckStoreError

    params: dict[str, object] = {
        "name": wanted.name,
        "revision": revision,
        "operator": wanted.operator,
        "text": wanted.text,
        "origin": origin(),
        "new": wanted.new,
    }
    if wanted.at is not None:
        params["at"] = wanted.at
    if facts is not None:
        params["instead_of"] = facts.revision
    answer = _asked(wanted, "deck.activate", params)
    if answer is not None:
        return {
            "in_force_since": answer["at"],
            "daemon": "has taken it over" if wanted.at is None else "will",
        }
    now = datetime.now(UTC)
    try:
        one = wanted.store.activate(wanted.name, _activation(wanted, revision, "deck.activate", now), now)
    except DeckStoreError as error:
        fail(Exit.NO, str(error), as_json=wanted.as_json)
    said: dict[str, object] = {
        "in_force_since": one.at,
        "daemon": "none answers: it takes the deck over when it starts",
    }
    if facts is None:
        said["not_checked"] = "the settings of this data directory are not known: --config names them"
    return said


def _activation(wanted: Wanted, revision: str, action: str, now: datetime) -> Activation:
    from sidecar.core.deck_history import Activation

    return Activation(
        revision=revision,
        at=wanted.at or now,
        given_at=now,
        action=action,
        operator=wanted.operator,
        uid=os.getuid(),
        origin=origin(),
        text=wanted.text,
        noted=False,
        came=False,
    )


def _asked(wanted: Wanted, method: str, params: Mapping[str, object]) -> Any:
    """None where no daemon answers; a refusal ends the command."""
    from sidecar.adapters.control_client import ControlClient, DaemonUnreachableError
    from sidecar.wire.control import CommandError, ErrorCode

    try:
        with ControlClient(wanted.place) as client:
            return client.call(method, dict(params))
    except DaemonUnreachableError:
        return None
    except CommandError as error:
        exit_code = Exit.USAGE if error.code is ErrorCode.INVALID_PARAMS else Exit.NO
        fail(exit_code, error.text, as_json=wanted.as_json)


def _known(store: DeckStore, revisions: list[str]) -> Iterator[Deck]:
    """Those of the revisions that are stored."""
    from sidecar.adapters.deck_files import DeckRefusedError, read_deck
    from sidecar.adapters.deck_files.built import read_built
    from sidecar.adapters.deck_store import DeckStoreError

    for revision in revisions:
        try:
            yield read_built(store.built_path(revision)) or read_deck(store.path(revision))
        except (DeckStoreError, DeckRefusedError):
            continue


def _recent(wanted: Wanted, now: datetime) -> Iterator[Cdr]:
    from sidecar.adapters.sqlite import StoreError
    from sidecar.adapters.sqlite.snapshot import Snapshot
    from sidecar.cli.journal import books
    from sidecar.ports import RecordFilter

    if not wanted.days:
        return
    asked = RecordFilter(since=now - timedelta(days=wanted.days))
    if (wanted.socket is None or wanted.config is not None) and not is_sqlite(wanted.config, wanted.as_json):
        with books(wanted.config, as_json=wanted.as_json) as database:
            yield from islice(database.records(asked), CALLS_MAX)
        return
    try:
        with Snapshot(wanted.place.parent) as journal:
            yield from islice(journal.records(asked), CALLS_MAX)
    except StoreError:
        return  # no journal yet: no calls


def _reasons(facts: DeckFacts | None, impact: PriceImpact, calls: CallsImpact) -> list[str]:
    reasons = list(facts.warnings) if facts is not None else []
    if impact.nothing_holds:
        reasons.append("no rate of the deck holds at that time: every call would be unrated")
    for found, what in (
        (impact.unrated, "prefixes would have no rate any more"),
        (impact.free, "prefixes would cost nothing"),
        (impact.losses, "prefixes would be sold below the cheapest price that is paid for them"),
    ):
        if found.count:
            reasons.append(f"{found.count} {what}: {', '.join(map(_prefix, found.examples))}")
    for count, what in (
        (calls.unrated, "have no rate"),
        (calls.free, "cost nothing"),
        (calls.losing, "be a loss"),
    ):
        if count:
            reasons.append(f"{count} of the {calls.calls} calls of the last days would {what}")
    return reasons


def _prefix(prefix: str) -> str:
    return prefix or "(default)"


def _impact_told(facts: DeckFacts | None, impact: PriceImpact, calls: CallsImpact) -> dict[str, object]:
    from sidecar.wire.plain import plain

    return {
        "used_by": None if facts is None else facts.used_by,
        "prefixes": impact.counts,
        "largest": [
            {**_change(one), "price_before": _steps(one.before), "price_after": _steps(one.after)}
            for one in impact.largest
        ],
        "unrated": plain(impact.unrated),
        "free": plain(impact.free),
        "losses": plain(impact.losses),
        "calls": plain(calls),
    }


def _print_impact(facts: DeckFacts | None, impact: PriceImpact, calls: CallsImpact) -> None:
    counts = ", ".join(f"{count} {word}" for word, count in impact.counts.items()) or "nothing changes"
    typer.echo(printable(f"prefixes: {counts}" + (f"; used by {facts.used_by}" if facts is not None else "")))
    if impact.largest:
        print_table(
            ("prefix", "destination", "from", "change>", "before", "after"),
            [
                (
                    *(one.prefix, one.after.destination if one.after is not None else ""),
                    *(None if one.since is None else moment(one.since.isoformat()), f"{one.percent:+} %"),
                    *(_steps(one.before), _steps(one.after)),
                )
                for one in impact.largest
            ],
        )
    if calls.calls:
        typer.echo(
            f"{calls.calls} calls of the last days: {_money(calls.before)} were charged, "
            f"{_money(calls.after)} would be"
        )
    if calls.blocked:
        typer.echo(f"{calls.blocked} of them would be refused: their prefix is blocked")
    if calls.unrated:
        places = ", ".join(f"{name or '?'}: {count}" for name, count in calls.destinations.items())
        typer.echo(
            printable(f"{calls.unrated} of them would have no rate ({places}): {_money(calls.lost)} are lost")
        )


def _money(totals: Mapping[str, object]) -> str:
    return " + ".join(f"{amount:f} {currency}" for currency, amount in sorted(totals.items())) or "nothing"


def _change(one: RateChange) -> dict[str, object]:
    return {"prefix": one.prefix, "change": one.word.value, "since": one.since, "percent": one.percent}


def _steps(rate: Rate | None) -> str | None:
    from sidecar.core.tariff import format_steps

    return None if rate is None else f"{format_steps(rate.steps)} {rate.currency}"


def _print_activations(rows: list[tuple[str, Activation, str]], as_json: bool) -> None:
    import msgspec

    if as_json:
        print_json(
            [{"name": name, "state": state, **msgspec.structs.asdict(one)} for name, one, state in rows]
        )
        return
    print_table(
        ("name", "revision", "from", "state", "operator", "given", "by uid>", "origin", "text"),
        [
            (
                *(name, one.revision[:12] or "(settings)", moment(one.at.isoformat()), state, one.operator),
                *(None if one.given_at is None else moment(one.given_at.isoformat()), one.uid),
                *(one.origin, one.text),
            )
            for name, one, state in rows
        ],
    )
