"""files.py DIR: writes what an installation has beside the code, made of what the code declares.

sidecar.1             the man page, of the commands as typer knows them
sidecar.toml          the settings file to begin with, all commented out
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable
from pathlib import Path

from sidecar.cli.output import EXIT_MEANINGS
from sidecar.cli.reference_pages import commands
from sidecar.config.reference import settings_file


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "sidecar.1").write_text(man_page(), encoding="utf-8")
    (folder / "sidecar.toml").write_text(settings_file(), encoding="utf-8")


def man_page() -> str:
    day = time.strftime("%Y-%m-%d", time.gmtime(int(os.environ.get("SOURCE_DATE_EPOCH", time.time()))))
    return "\n".join((f'.TH SIDECAR 1 "{day}" "sidecar" "User Commands"', *_parts())) + "\n"


def _parts() -> Iterable[str]:
    every = list(commands())
    yield ".SH NAME\nsidecar \\- SIP billing sidecar: who ended each call, why, and what it costs"
    yield ".SH SYNOPSIS\n.B sidecar\n.I COMMAND\n[\\fIOPTION\\fR]..."
    yield ".br\n.B sidecar run\n[\\fB\\-\\-config\\fR \\fIFILE\\fR]"
    yield ".SH COMMANDS"
    for one in every:
        yield f".TP\n\\fB{_roff(one.usage)}\\fR\n{_roff(one.help)}"
        for option, meaning in one.options:
            yield f".RS\n.TP\n\\fB{_roff(option.replace('`', ''))}\\fR\n{_roff(meaning)}\n.RE"
    yield ".SH EXIT STATUS"
    for code, said in EXIT_MEANINGS.items():
        yield f".TP\n.B {code.value}\n{_roff(said)}"
    yield ".SH FILES\n.TP\n.I /etc/sidecar/sidecar.toml"
    yield "The settings; \\fBsidecar reference settings\\fR has them all."
    yield ".TP\n.I /var/lib/sidecar\nThe journal, imported decks, the embedded broker, the control socket."
    yield ".SH SEE ALSO\n\\fBsidecar reference\\fR shows settings, records, metrics and operation."
    yield ".BR systemctl (1)"


def _roff(text: str) -> str:
    """No character of it is a request of roff's."""
    text = text.replace("\\", "\\e").replace("-", "\\-").replace("`", "")
    return "\\&" + text if text.startswith((".", "'")) else text


if __name__ == "__main__":
    main(Path(sys.argv[1]))
