"""Golden records: what each scenario leaves behind, one file per scenario in tests/golden.

python -m tests.scenarios.golden            writes all of them anew; read the difference before you commit it
python -m tests.scenarios.golden NAME       prints the records of one file in full

A file says only what is special about its call: `base` names the record in tests/golden/base.json from which
it differs least, and each further record of the call differs from the one before. base.json is kept by hand:
there a record may build on another, "=hold_s" stands for what the record has as `hold_s`, and a new field of
the CDR is added once.

Two things are shorter than in the record: times are ms after the INVITE, as in the ladder, and charges are
named by their side. Ids that follow the rule are left out: `call_id` as the world makes it, `message_id` as
the CDR does. In a list of parts (attempts, steps) each differs from the part of the base at its place, or
from the last one that the base has.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec

from sidecar.core.cdr import message_id
from sidecar.core.terms import ChargeSide
from tests.scenarios import world
from tests.scenarios.scenario import Scenario
from tests.scenarios.table import SCENARIOS

GOLDEN = Path(__file__).parent.parent / "golden"
BASE = GOLDEN / "base.json"
START = datetime.fromtimestamp(world.START_WALL_NS // 1_000_000_000, UTC)
BY_RULE = "by rule"
REFERENCE = "="

Tree = dict[str, Any]


def left_behind(scenario: Scenario) -> Tree:
    """The records in the order in which they were handed over, and what the ledger was told with each."""
    ladder = scenario.play()
    left = {"settled": ladder.settled, "records": [*ladder.refusals, *ladder.records]}
    return dict(msgspec.json.decode(msgspec.json.encode(left)))


def golden_text(scenario: Scenario) -> str:
    """The content of the scenario's golden file."""
    left = left_behind(scenario)
    settled = [total and f"{total['amount']} {total['currency']}" for total in left["settled"]]
    records = [_shortened(record) for record in left["records"]]
    texts = [_text(_least(records[0]))]
    texts += [_text(_differing(before, record)) for before, record in pairwise(records)]
    return f'{{\n  "settled": {_line(settled)},\n  "records": [\n' + ",\n".join(texts) + "\n  ]\n}\n"


def expand(text: str) -> Tree:
    """All that the call left behind, from the content of its golden file: `left_behind` of its scenario."""
    golden = json.loads(text)
    first, *further = golden["records"]
    records = [_resolved(_merged(_bases()[first.pop("base")], first))]
    for differences in further:
        records.append(_merged(records[-1], differences))
    settled = [
        total and dict(zip(("amount", "currency"), total.split(), strict=True)) for total in golden["settled"]
    ]
    return {"settled": settled, "records": [_in_full(record) for record in records]}


# --- a record and what differs ------------------------------------------------------------------------------


def _bases() -> dict[str, Tree]:
    """The records of base.json, whole, with their references."""
    bases: dict[str, Tree] = {}
    for name, record in json.loads(BASE.read_text()).items():
        bases[name] = _merged(bases[record.pop("base")], record) if "base" in record else record
    return bases


def _least(record: Tree) -> Tree:
    """The record as the differences from the base that leaves the fewest."""
    differences = [
        {"base": name, **_differing(_resolved(base, record), record)} for name, base in _bases().items()
    ]
    return min(differences, key=lambda one: len(_line(one)))


def _differing(base: Mapping[str, Any], value: Mapping[str, Any]) -> Tree:
    missing = base.keys() - value.keys()
    if missing:
        raise ValueError(f"base.json has what no record has: {', '.join(missing)}")
    return {
        name: _difference(base.get(name), part)
        for name, part in value.items()
        if name not in base or base[name] != part
    }


def _difference(base: Any, value: Any) -> Any:
    if isinstance(base, dict) and isinstance(value, dict):
        return _differing(base, value)
    if _are_parts(base) and _are_parts(value):
        return [_differing(_template(base, place), part) for place, part in enumerate(value)]
    return value


def _merged(base: Any, difference: Any) -> Any:
    if isinstance(base, dict) and isinstance(difference, dict):
        return base | {name: _merged(base.get(name), part) for name, part in difference.items()}
    if _are_parts(base) and _are_parts(difference):
        return [_merged(_template(base, place), part) for place, part in enumerate(difference)]
    return difference


def _are_parts(value: object) -> bool:
    return isinstance(value, list) and len(value) > 0 and all(isinstance(part, dict) for part in value)


def _template(base: Sequence[Tree], place: int) -> Tree:
    return base[min(place, len(base) - 1)]


def _resolved(value: Any, record: Tree | None = None) -> Any:
    """`value` with its references replaced by what `record`, or else `value` itself, has there."""
    record = value if record is None else record
    match value:
        case dict():
            return {name: _resolved(part, record) for name, part in value.items()}
        case list():
            return [_resolved(part, record) for part in value]
        case str() if value.startswith(REFERENCE):
            found: Any = record
            for name in value.removeprefix(REFERENCE).split("."):
                found = found.get(name) if found else None
            return _resolved(found, record)
        case _:
            return value


# --- shorter, and in full -----------------------------------------------------------------------------------


def _shortened(record: Tree) -> Tree:
    ids = {name: BY_RULE if record[name] == rule else record[name] for name, rule in _ids(record).items()}
    charges = dict.fromkeys(ChargeSide) | {charge["side"]: charge for charge in record["charges"]}
    return dict(_with_times(record | ids | {"charges": charges}, _to_ms))


def _in_full(record: Tree) -> Tree:
    ids = {name: rule if record[name] == BY_RULE else record[name] for name, rule in _ids(record).items()}
    charges = [charge for charge in record["charges"].values() if charge is not None]
    return dict(_with_times(record | ids | {"charges": charges}, _from_ms))


def _ids(record: Tree) -> dict[str, str]:
    """The ids that the record has by rule."""
    call_id: UUID = world.call_id()
    return {"call_id": str(call_id), "message_id": str(message_id(call_id, record["revision"]))}


def _with_times(value: Any, convert: Any) -> Any:
    match value:
        case dict():
            return {
                name: convert(part)
                if name.endswith("_at") and part is not None
                else _with_times(part, convert)
                for name, part in value.items()
            }
        case list():
            return [_with_times(part, convert) for part in value]
        case _:
            return value


def _to_ms(time: str) -> int:
    ms, rest = divmod(datetime.fromisoformat(time) - START, timedelta(milliseconds=1))
    if rest:
        raise ValueError(f"{time}: a scenario knows whole milliseconds")
    return ms


def _from_ms(after_ms: int) -> Any:
    return msgspec.to_builtins(START + timedelta(milliseconds=after_ms))


# --- text ---------------------------------------------------------------------------------------------------


def _text(differences: Tree) -> str:
    return _lines("{", [f'"{name}": {_block(value)}' for name, value in differences.items()], "}", indent=4)


def _block(value: Any) -> str:
    """One line, unless it has parts: then each of them has a line."""
    if _are_parts(value):
        return _lines("[", [_line(part) for part in value], "]", indent=6).lstrip()
    if isinstance(value, dict) and any(isinstance(part, dict) for part in value.values()):
        return _lines(
            "{", [f'"{name}": {_line(part)}' for name, part in value.items()], "}", indent=6
        ).lstrip()
    return _line(value)


def _line(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _lines(opening: str, lines: Sequence[str], closing: str, indent: int) -> str:
    outer, inner = " " * indent, " " * (indent + 2)
    return f"{outer}{opening}\n" + ",\n".join(inner + line for line in lines) + f"\n{outer}{closing}"


# --- files --------------------------------------------------------------------------------------------------


def golden_files() -> Iterator[Path]:
    return (path for path in GOLDEN.glob("*.json") if path != BASE)


def write_all() -> None:
    texts = {f"{scenario.name}.json": golden_text(scenario) for scenario in SCENARIOS}
    for path in golden_files():
        path.unlink()
    for name, text in texts.items():
        (GOLDEN / name).write_text(text)


def in_full(name: str) -> str:
    """The golden file of this name with nothing left out."""
    left = expand((GOLDEN / f"{name}.json").read_text())
    return msgspec.json.format(msgspec.json.encode(left), indent=2).decode() + "\n"


if __name__ == "__main__":
    if sys.argv[1:]:
        sys.stdout.writelines(in_full(name) for name in sys.argv[1:])
    else:
        write_all()
