"""`sidecar export-settings`: all that is in force as one profile."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from sidecar.cli.daemon import ConfigOption
from sidecar.cli.output import Exit, fail, write_text


def export_settings(
    to: Annotated[
        Path | None, typer.Option("--to", help="Write it there.", show_default="the terminal")
    ] = None,
    config: ConfigOption = None,
) -> None:
    """Write all settings in force, those of the files and those made by command, as one profile, which loads
    to the same. Passwords stay in their files, which it names; what a profile cannot say stands in its head.
    The daemon need not run."""
    from sidecar.config import ConfigError
    from sidecar.config.export import profile_text
    from sidecar.wiring.files import inputs

    try:
        text = profile_text(inputs({}, os.environ, config))
    except ConfigError as error:
        fail(Exit.USAGE, str(error))
    if to is None:
        typer.echo(text, nl=False)
    else:
        write_text(to, text)
