"""`sidecar web`: the page for operators, as a process of its own."""

from __future__ import annotations

import grp
import socket
from typing import Annotated

import typer

from sidecar.cli.daemon import ConfigOption, settings_of
from sidecar.cli.output import Exit, fail
from sidecar.cli.start import SetOption, command_line


def web(
    config: ConfigOption = None,
    settings: SetOption = None,
    fd: Annotated[int | None, typer.Option(hidden=True, help="A socket that listens already.")] = None,
) -> None:
    """Serve the page for operators at web.listen, beside the daemon of these settings, which starts this by
    itself where that is set."""
    try:
        from sidecar.web.command import Commands
        from sidecar.web.server import WebError, run
    except ImportError as error:
        fail(Exit.USAGE, f"{error}: pip install 'sip-billing-sidecar[node,web]'")
    from sidecar.adapters.logs import configure
    from sidecar.adapters.sockets.listening import ListenError, listening
    from sidecar.adapters.store.store import StoreError
    from sidecar.config import node_name
    from sidecar.config.crosscheck import web_fault
    from sidecar.wiring.journal import books_of

    given = command_line(settings)
    found = settings_of(config, command_line=given)
    if found.web.listen is None:
        fail(Exit.USAGE, "web.listen: says where the page is to be, and is not set")
    if (wrong := web_fault(found.web)) is not None:
        fail(Exit.USAGE, ": ".join(wrong))
    writer = configure(found.log.level.value)
    try:
        group = grp.getgrnam(found.control.group).gr_gid if found.control.group else None
        if fd is None:
            listener = listening(found.web.listen, group, "web.listen")
        else:
            listener = socket.socket(fileno=fd)
        books = books_of(found, node_name(found, socket.gethostname()))
        run(found, books, listener, Commands(config, given))
    except (ListenError, StoreError, WebError) as error:
        fail(Exit.USAGE, str(error))
    finally:
        writer.close()
