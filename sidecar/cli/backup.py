"""`sidecar backup` and `sidecar restore`: a copy of what the node is, while it runs, and the way back."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sidecar.cli.daemon import ConfigOption, JsonOption, operator_name, sqlite_settings
from sidecar.cli.output import Exit, fail, print_fields, print_json
from sidecar.cli.sinks import JsonLinesSinks, SinkError, SqliteSinks, not_known, records_of, show

if TYPE_CHECKING:
    from sidecar.adapters.sqlite.backup import Manifest, Restored
    from sidecar.config import Settings
    from sidecar.ports import Seen


def backup(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A new or empty folder.")],
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Copy the journal, the decks and the settings while the daemon runs, and prove the copy: its pages, its
    chain, its sums. Keys, passwords and certificates are not in it; keys are named by their ids."""
    from sidecar.adapters.sqlite.backup import BackupError, take
    from sidecar.adapters.store.keys import key_file_of, read_keys
    from sidecar.adapters.store.store import StoreError
    from sidecar.cli.version import product_version

    sqlite_settings(config, as_json=as_json)
    settings, tenant, node, files = _settings_files(config, as_json=as_json)
    try:
        manifest = take(
            settings.node.data_dir,
            folder,
            tenant=tenant,
            node=node,
            keys=read_keys(key_file_of(settings.node)),
            settings=files,
            product=f"sidecar {product_version()}",
            taken_at=datetime.now(UTC),
        )
    except StoreError as error:
        fail(Exit.UNREACHABLE, str(error), as_json=as_json)
    except BackupError as error:
        fail(Exit.NO, str(error), as_json=as_json)
    if as_json:
        print_json(manifest)
        return
    size = sum(entry.bytes for entry in manifest.files)
    typer.echo(
        f"{manifest.records} records up to number {manifest.head_seq}, {manifest.open_calls} open calls,"
        f" {len(manifest.files)} files, {size} bytes: read back, and as it was written"
    )
    typer.echo(f"to restore it, the keys of the journal are needed too: {', '.join(manifest.key_ids)}")


def restore(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A backup.")],
    json_lines: JsonLinesSinks = None,
    sqlite: SqliteSinks = None,
    text: Annotated[str, typer.Option("--text", help="Why, for the audit table.")] = "",
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Put a backup in the place of the journal, under a new epoch; the daemon must not run. What was there
    before is kept beside it. With the sink of a subscriber: shows what was published after the backup, and is
    not in it. Settings are not put back: they are in DIR/settings."""
    import asyncio
    import time

    from sidecar.adapters.sqlite import StoreError
    from sidecar.adapters.sqlite.backup import BackupError, manifest_of
    from sidecar.adapters.sqlite.backup import restore as put_back
    from sidecar.adapters.store.keys import key_file_of, read_keys
    from sidecar.wiring.broker import seen_by_broker

    settings = sqlite_settings(config, as_json=as_json)
    data_dir, key_file = settings.node.data_dir, key_file_of(settings.node)
    try:
        manifest = manifest_of(folder)
        seen = asyncio.run(seen_by_broker(settings, manifest.tenant, manifest.node))
        later = _published_later(manifest, json_lines or (), sqlite or ())
        if not key_file.exists():
            fail(
                Exit.USAGE,
                f"{key_file}: put the keys of the journal there first; the backup was written under"
                f" {', '.join(manifest.key_ids)}",
                as_json=as_json,
            )
        keys = read_keys(key_file)
        heads = [one["seq"] for one in later if one["store_epoch"] == manifest.store_epoch]
        if seen is not None and seen.epoch == manifest.store_epoch and seen.head_seq is not None:
            heads.append(seen.head_seq)
        done = put_back(folder, data_dir, keys[-1], keys, heads, time.time_ns())
        asyncio.run(_note(settings, manifest, done, folder, len(later), text))
    except (BackupError, StoreError) as error:
        fail(Exit.NO, str(error), as_json=as_json)
    said = {
        "epoch": done.epoch,
        "goes_on_above": done.head_seq,
        "open_calls": done.open_calls,
        "taken_at": manifest.taken_at.isoformat(),
        "before": None if done.aside is None else str(done.aside),
        "decks": [path.name for path in done.files],
        "broker": _seen_said(seen, manifest),
    }
    if as_json:
        print_json({**said, "published_later": later})
        return
    print_fields((name.replace("_", " "), value) for name, value in said.items() if value != [])
    if json_lines is None and sqlite is None:
        typer.echo("what was published after the backup is not shown: name a subscriber's sink")
        return
    typer.echo(f"{len(later)} records were published after the backup, and are not in the journal")
    show(later)


# --- what a backup holds beside the journal -----------------------------------------------------------------


def _settings_files(
    config: Path | None, *, as_json: bool
) -> tuple[Settings, str, str, dict[str, Path | bytes]]:
    """The settings, whose node it is, and the files that they are made of. What the environment sets is
    written down: it is in no file."""
    from msgspec.structs import replace

    from sidecar.config import ConfigError, load, places
    from sidecar.wiring.files import inputs

    read: list[Path] = []
    origin = inputs({}, os.environ, config)
    read_deck, read_exchange = origin.read_deck, origin.read_exchange

    def noting_deck(path: Path) -> Any:
        read.append(path)
        return read_deck(path)

    def noting_exchange(path: Path) -> Any:
        read.append(path)
        return read_exchange(path)

    try:
        loaded = load(replace(origin, read_deck=noting_deck, read_exchange=noting_exchange))
    except ConfigError as error:
        fail(Exit.USAGE, str(error), as_json=as_json)
    own = config or (places.SYSTEM_SETTINGS if places.SYSTEM_SETTINGS.exists() else None)
    paths = [*filter(None, (own, Path(loaded.settings.profile_path))), *read]
    files: dict[str, Path | bytes] = {}
    for path in dict.fromkeys(paths):
        name, number = path.name, 1
        while name in files:
            number += 1
            name = f"{number}-{path.name}"
        files[name] = path
    given = {name: value for name, value in sorted(os.environ.items()) if name.startswith("SIDECAR_")}
    places_of = {name: str(path.absolute()) for name, path in files.items() if isinstance(path, Path)}
    files["environment.json"] = json.dumps({"environment": given, "files": places_of}, indent=2).encode()
    return loaded.settings, loaded.policy.tenant, loaded.policy.node, files


# --- what was published after it ----------------------------------------------------------------------------


def _published_later(
    manifest: Manifest, json_lines: Sequence[Path], sqlite: Sequence[Path]
) -> list[dict[str, Any]]:
    """Records of this node in the sinks of subscribers that the backup cannot have, each once."""
    from sidecar.adapters.sqlite.backup import BackupError

    heads: dict[str, int | None] = dict.fromkeys(manifest.epochs)
    heads[manifest.store_epoch] = manifest.head_seq
    known = {(manifest.tenant, manifest.node): heads}
    try:
        return list(not_known(records_of(json_lines, sqlite), known))
    except SinkError as error:
        raise BackupError(str(error)) from error


def _seen_said(seen: Seen | None, manifest: Manifest) -> str:
    """What the broker's retained status tells of the time after the backup."""
    if seen is None:
        return "has no status of this node, is not reached, or is the node's own"
    if seen.epoch != manifest.store_epoch and seen.epoch in manifest.epochs:
        return f"has the status of epoch {seen.epoch}, which ended before the backup"
    if seen.epoch != manifest.store_epoch:
        return f"was published to in epoch {seen.epoch}, of which the backup has nothing"
    if seen.head_seq is None:
        return "was published to in the epoch of the backup; up to which number it does not tell any more"
    if seen.head_seq <= manifest.head_seq:
        return f"was told of nothing after the backup: {seen.head_seq} is the last number"
    return f"was told of the numbers {manifest.head_seq + 1} to {seen.head_seq}, which are not in the backup"


async def _note(
    settings: Settings, manifest: Manifest, done: Restored, folder: Path, later: int, text: str
) -> None:
    import secrets

    from sidecar.adapters.clock import SystemClock
    from sidecar.adapters.sqlite import SqliteStore
    from sidecar.adapters.store.keys import key_file_of
    from sidecar.core.audit import Change, Operator, told

    store = SqliteStore.open(
        settings.node.data_dir,
        node=manifest.node,
        boot_id=secrets.token_hex(8),
        clock=SystemClock(),
        key_file=key_file_of(settings.node),
    )
    try:
        await store.audit.write(
            Change(
                operator=Operator(operator_name(), os.getuid()),
                action="journal.restore",
                subject=str(folder),
                before=told({"epoch": manifest.store_epoch, "head_seq": manifest.head_seq}),
                after=told({"epoch": done.epoch, "head_seq": done.head_seq, "published_later": later}),
                text=text,
            )
        )
    finally:
        await store.close()
