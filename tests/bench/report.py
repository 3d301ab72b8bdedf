"""The figures as tables for people, as JSON for programs, as an SVG for a look."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from tests.bench.beside import Beside
from tests.bench.credit import Control, Extended
from tests.bench.journal import Grown
from tests.bench.product import Held, Step
from tests.bench.rivals import RivalStep

Row = Sequence[str]


class Target(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    wanted: str
    found: str
    reached: bool


class Single(msgspec.Struct, frozen=True, kw_only=True):
    """One of the single benchmarks: what it printed."""

    name: str
    lines: list[str]


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    settings: dict[str, str]
    steps: list[Step] = []
    held: list[Held] = []
    control: Control | None = None
    extended: Extended | None = None
    grown: list[Grown] = []  # with a new journal, and with a large one
    beside: list[Beside] = []
    rivals: list[RivalStep] = []
    singles: list[Single] = []


RATE_WANTED, SETUP_P99_MS_WANTED = 2500, 100.0
CPU_MS_WANTED = {100: 1.0, 1000: 0.35}
SETUP_P50_MS_WANTED = {100: 8.0}
DELAY_MS_WANTED = {500: 20.0, 1000: 20.0}
KB_WANTED = 40.0
SIPPY_TIMES_WANTED, SIPPY_AT_RATE, BESIDE_SIPPY_AT_RATE = 8.0, 100, 1000
START_S_WANTED = 2.0
PREPAID_TIMES_WANTED = 1.2
GROWN_TIMES_WANTED = 1.1  # the CPU per call of a large journal over that of a new one


def highest_rate(steps: Sequence[Step]) -> int:
    """The highest rate up to which every step was green."""
    highest = 0
    for step in steps:
        if not step.green:
            break
        highest = step.rate
    return highest


def targets(figures: Figures) -> list[Target]:
    found: list[Target] = []

    def add(name: str, wanted: str, value: str, reached: bool) -> None:
        found.append(Target(name=name, wanted=wanted, found=value, reached=reached))

    green = [step for step in figures.steps if step.green]
    if green:
        highest = highest_rate(figures.steps)
        add("calls/s with none failed", f">= {RATE_WANTED}", str(highest), highest >= RATE_WANTED)
    for step in green:
        for name, wanted, value in (
            ("daemon, CPU ms per call", CPU_MS_WANTED.get(step.rate), step.daemon_ms),
            ("setup, p50 ms", SETUP_P50_MS_WANTED.get(step.rate), step.setup.p50),
            ("setup, p99 ms", SETUP_P99_MS_WANTED if step.rate == RATE_WANTED else None, step.setup.p99),
            ("BYE to CDR, p99 ms", DELAY_MS_WANTED.get(step.rate), step.bye_to_cdr.p99),
        ):
            if wanted is not None:
                add(f"{name} at {step.rate}/s", f"<= {wanted:g}", f"{value:.2f}", value <= wanted)
    if figures.held:
        most = max(held.calls for held in figures.held)
        for held in figures.held:
            if held.calls == most:
                asked = "with OPTIONS" if held.options_interval_s else "without OPTIONS"
                reached = held.kb_per_call <= KB_WANTED and held.green
                name = f"kB per call, {most} up, {asked}"
                add(name, f"<= {KB_WANTED:.0f}", f"{held.kb_per_call:.1f}", reached)
    if (control := figures.control) is not None:
        name = f"times the CPU per call with prepaid control at {control.prepaid.rate}/s"
        reached = control.times <= PREPAID_TIMES_WANTED and control.prepaid.green
        add(name, f"<= {PREPAID_TIMES_WANTED}", f"{control.times:.2f}", reached)
    if (up := figures.extended) is not None:
        name = f"{up.calls} prepaid calls up, extensions every {up.slice_s} s"
        add(name, f"{up.due}, all end by BYE", f"{up.extensions}", up.green)
    sippy = {step.rate: step.cpu_ms for step in figures.rivals if step.name.startswith("Sippy")}
    ours = {step.rate: step.daemon_ms for step in green}
    if SIPPY_AT_RATE in sippy and BESIDE_SIPPY_AT_RATE in ours:
        times = sippy[SIPPY_AT_RATE] / ours[BESIDE_SIPPY_AT_RATE]
        name = f"times less CPU at {BESIDE_SIPPY_AT_RATE}/s than Sippy at {SIPPY_AT_RATE}/s"
        add(name, f">= {SIPPY_TIMES_WANTED:g}", f"{times:.1f}", times >= SIPPY_TIMES_WANTED)
    if figures.grown:
        new, large = figures.grown
        times = large.step.daemon_ms / new.step.daemon_ms
        name = f"times the CPU per call with {large.records:,} records"
        add(name, f"<= {GROWN_TIMES_WANTED}", f"{times:.2f}", times <= GROWN_TIMES_WANTED)
        add(
            "start with them, s",
            f"<= {START_S_WANTED}",
            f"{large.start_s:.1f}",
            large.start_s <= START_S_WANTED,
        )
    for one in figures.beside:
        reached = one.setup.p99 <= SETUP_P99_MS_WANTED and not one.failed
        name = f"setup, p99 ms, beside {one.name}"
        add(name, f"<= {SETUP_P99_MS_WANTED:g}", f"{one.setup.p99:.1f}", reached)
    return found


def text(figures: Figures) -> str:
    parts = ["\n".join(f"{name:12} {value}" for name, value in figures.settings.items())]
    if figures.steps:
        parts.append(_steps(figures.steps))
    if figures.held:
        parts.append(_held(figures.held))
    if figures.control is not None and figures.extended is not None:
        parts.append(_credit(figures.control, figures.extended))
    if figures.grown:
        parts.append(_grown(figures.grown))
    if figures.beside:
        parts.append(_beside(figures.beside))
    if figures.rivals:
        parts.append(_rivals(figures.rivals))
    parts += ["\n  ".join([f"{single.name} alone", *single.lines]) for single in figures.singles]
    if wanted := targets(figures):
        rows = [(one.name, one.wanted, one.found, "yes" if one.reached else "NO") for one in wanted]
        parts.append(_table("", ("wanted", "", "found", "reached"), rows))
    return "\n\n".join(parts)


def _steps(steps: Sequence[Step]) -> str:
    threads = sorted({name for step in steps for name in step.threads_ms})
    head = (
        "calls/s",
        "calls",
        "failed",
        "repeats",
        "CDRs",
        "daemon",
        *threads,
        "broker",
        "commits",
        "wake-ups",
    )
    head += ("setup 50", "99", "BYE-200 99", "BYE-CDR 50", "99", "most")
    rows = []
    for step in steps:
        cpu = [step.daemon_ms, *(step.threads_ms.get(name, 0.0) for name in threads), step.broker_ms]
        delays = (step.setup.p50, step.setup.p99, step.bye.p99)
        cdr = (step.bye_to_cdr.p50, step.bye_to_cdr.p99, step.bye_to_cdr.most)
        rows.append(
            (
                *map(str, (step.rate, step.calls, step.failed, step.repeats)),
                _records(step),
                *(f"{ms:.3f}" for ms in cpu),
                f"{step.commits:.2f}",
                f"{step.wakeups:.1f}",
                *(f"{ms:.0f}" for ms in delays),
                *(f"{ms:.1f}" for ms in cdr),
            )
        )
    title = "The product: CPU in ms, commits and wake-ups per call; delays in ms, 50th and 99th percentile"
    return _table(title, head, rows)


def _records(step: Step) -> str:
    wrongs = {"missing": step.missing, "twice": step.duplicate, "wrong": step.wrong}
    told = [f"{count} {name}" for name, count in wrongs.items() if count]
    if step.late_s >= 1:
        told.append(f"{step.late_s:.0f} s late")
    return ", ".join(told) or "right"


def _held(rows: Sequence[Held]) -> str:
    head = (
        "calls up",
        "OPTIONS",
        "failed",
        "RSS MB",
        "kB per call",
        "files",
        "beside them",
        "daemon",
        "BYE-CDR 99",
    )
    return _table(
        "Calls that are up, and what others cost beside them",
        head,
        [
            (
                str(held.calls),
                f"every {held.options_interval_s} s" if held.options_interval_s else "none",
                str(held.failed),
                f"{held.rss_mb:.0f}",
                f"{held.kb_per_call:.1f}",
                str(held.open_files),
                f"{held.beside.rate}/s, {_records(held.beside)}",
                f"{held.beside.daemon_ms:.3f}",
                f"{held.beside.bye_to_cdr.p99:.1f}",
            )
            for held in rows
        ],
    )


def _credit(control: Control, up: Extended) -> str:
    head = ("", "calls/s", "calls", "failed", "CDRs", "daemon", "commits", "setup 50", "99")
    rows = [
        (
            name,
            *map(str, (step.rate, step.calls, step.failed)),
            _records(step),
            f"{step.daemon_ms:.3f}",
            f"{step.commits:.2f}",
            f"{step.setup.p50:.0f}",
            f"{step.setup.p99:.0f}",
        )
        for name, step in (("without", control.without), ("prepaid", control.prepaid))
    ]
    ends = ", ".join(f"{count} {name}" for name, count in sorted(up.details.items()))
    held = (
        f"{up.calls} prepaid calls up, extended every {up.slice_s} s: {up.extensions} extensions in"
        f" {up.seconds} s ({up.due} due), {up.cpu_share:.0%} of a core, {up.commits_per_s} commits/s;"
        f" {up.failed} failed; ended by: {ends}"
    )
    return _table("Prepaid control, and without it", head, rows) + f"\n{held}"


def _grown(rows: Sequence[Grown]) -> str:
    head = (
        "records",
        "MB",
        "start s",
        "RSS MB",
        "calls/s",
        "failed",
        "CDRs",
        "daemon",
        "setup 99",
        "BYE-CDR 99",
    )
    return _table(
        "A large journal",
        head,
        [
            (
                f"{one.records:,}",
                f"{one.journal_mb:.0f}",
                f"{one.start_s:.1f}",
                f"{one.rss_mb:.0f}",
                str(one.step.rate),
                str(one.step.failed),
                _records(one.step),
                f"{one.step.daemon_ms:.3f}",
                f"{one.step.setup.p99:.0f}",
                f"{one.step.bye_to_cdr.p99:.1f}",
            )
            for one in rows
        ],
    )


def _beside(rows: Sequence[Beside]) -> str:
    head = ("", "took s", "calls", "failed", "setup 50", "99", "most")
    return _table(
        "Calls beside it",
        head,
        [
            (
                one.name,
                f"{one.took_s:.1f}",
                str(one.calls),
                str(one.failed),
                *(f"{delay:.0f}" for delay in (one.setup.p50, one.setup.p99, one.setup.most)),
            )
            for one in rows
        ],
    )


def _rivals(steps: Sequence[RivalStep]) -> str:
    rows = [
        (
            step.name,
            *map(str, (step.rate, step.calls, step.failed, step.repeats)),
            f"{step.cpu_ms:.3f}",
            f"{step.setup.p50:.0f}",
            f"{step.setup.p99:.0f}",
            f"{step.late_s:.0f} s" if step.late_s >= 1 else "",
        )
        for step in steps
    ]
    head = ("", "calls/s", "calls", "failed", "repeats", "CPU", "setup 50", "99", "late")
    return _table("The same calls through others", head, rows)


def _table(title: str, head: Row, rows: Sequence[Row]) -> str:
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    lines = [
        "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in (head, *rows)
    ]
    return "\n".join([title, *lines] if title else lines)


# --- the plot -----------------------------------------------------------------------------------------------

WIDTH, HEIGHT, MARGIN = 460, 300, 60
TICKS_MAX = 12
COLOURS = ("#1f6f8b", "#d1495b", "#edae49", "#66a182", "#8d6a9f")

Points = Sequence[tuple[float, float]]


def svg(figures: Figures) -> str:
    """CPU per call and delays over the rate of calls."""
    steps = [step for step in figures.steps if not step.failed]
    cpu: dict[str, Points] = {"daemon": [(step.rate, step.daemon_ms) for step in steps]}
    for name in sorted({name for step in steps for name in step.threads_ms}):
        cpu[name] = [(step.rate, step.threads_ms.get(name, 0.0)) for step in steps]
    delays: dict[str, Points] = {
        "BYE to CDR, p50": [(step.rate, step.bye_to_cdr.p50) for step in steps],
        "BYE to CDR, p99": [(step.rate, step.bye_to_cdr.p99) for step in steps],
        "setup, p99": [(step.rate, step.setup.p99) for step in steps],
    }
    return picture(panel("CPU, ms per call, by calls/s", cpu, 0), panel("delay, ms, by calls/s", delays, 1))


def picture(*panels: str) -> str:
    """The panels as one SVG, side by side."""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{len(panels) * WIDTH}" height="{HEIGHT}"'
        f' font-family="sans-serif" font-size="11">{"".join(panels)}</svg>\n'
    )


def panel(title: str, curves: Mapping[str, Points], column: int) -> str:
    """One diagram; a tick at each x that has a point, up to a dozen."""
    left = column * WIDTH
    points = [point for curve in curves.values() for point in curve] or [(1.0, 1.0)]
    x_most, y_most = max(x for x, _ in points), max(y for _, y in points) * 1.1 or 1.0

    def at(x: float, y: float) -> tuple[float, float]:
        across = left + MARGIN + x / x_most * (WIDTH - 2 * MARGIN)
        return round(across, 1), round(HEIGHT - MARGIN - y / y_most * (HEIGHT - 2 * MARGIN), 1)

    parts = [f'<text x="{left + MARGIN}" y="20">{title}</text>']
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        (x0, y0), (x1, _) = at(0, y_most * share), at(x_most, 0)
        parts.append(f'<path d="M{x0} {y0}H{x1}" stroke="#ccc"/>')
        parts.append(f'<text x="{x0 - 6}" y="{y0 + 4}" text-anchor="end">{y_most * share:.3g}</text>')
    ticks = sorted({x for x, _ in points})
    for x in ticks[:: len(ticks) // TICKS_MAX + 1]:
        across, down = at(x, 0)
        parts.append(f'<text x="{across}" y="{down + 16}" text-anchor="middle">{x:g}</text>')
    for number, (name, curve) in enumerate(curves.items()):
        colour = COLOURS[number % len(COLOURS)]
        path = " ".join(f"{x},{y}" for x, y in (at(*point) for point in curve))
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts.append(
            f'<text x="{left + MARGIN + 8}" y="{MARGIN + 14 * number}" fill="{colour}">{name}</text>'
        )
    return "".join(parts)


def write(figures: Figures, json_file: Path | None, plot_file: Path | None) -> None:
    if json_file is not None:
        whole = {"settings": figures.settings, "targets": targets(figures)} | msgspec.structs.asdict(figures)
        json_file.write_bytes(msgspec.json.format(msgspec.json.encode(whole)) + b"\n")
    if plot_file is not None:
        plot_file.write_text(svg(figures))
